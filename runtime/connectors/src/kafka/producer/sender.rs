//! What is sent to which broker next, and what an answer means: decisions only, without network or clock.
//!
//! ```text
//!   accumulator --take, number--> in flight -- acknowledged --> gone
//!                                   |    ^
//!                          lost or refused for now: waits for its turn again, with the same number
//! ```
//!
//! Invariants: a partition's batches have consecutive numbers in the order of their rows and keep them; once one has to be
//! repeated the partition's batches go one at a time until it is acknowledged, so a repetition never overtakes; no more than
//! `max_in_flight` requests wait at a broker, and batches in a partition; each batch is acknowledged once or ends the writer.
//! With numbers the broker drops what it has already (it remembers a producer's last five batches in a partition).

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::accumulator::{Accumulator, Closed};
use super::compression::CompressionError;
use super::config::SendRules;
use super::record_batch::{Lengths, ProducerIdentity};
use super::transaction::is_not_open;

/// A broker's id.
pub(crate) type BrokerId = i32;

/// A batch of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) partition: usize,
    /// Tells a partition's batches apart.
    pub(crate) id: u64,
    pub(crate) bytes: Bytes,
}

/// What became of a batch.
#[derive(Debug)]
pub(crate) enum Completion {
    /// The broker has it: these bytes are free, the first row came then.
    Acknowledged {
        held: usize,
        created: Instant,
        records: i32,
    },
    /// It will be sent again; with whether another broker may be the leader.
    Again { stale_leader: bool },
    /// It can't be written.
    Failed(SendFailure),
    /// Nobody waits for it.
    Unknown,
}

/// Why a batch can't be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SendFailure {
    /// The broker finds it too large.
    TooLarge {
        partition: usize,
        records: i32,
        bytes: usize,
        last: Lengths,
    },
    /// Not acknowledged in time.
    TimedOut { partition: usize },
    /// Tried too often.
    RetriesExhausted { partition: usize, reason: String },
    /// The broker has forgotten this producer, or another took its place: what it has can't be known.
    IdentityLost { partition: usize, reason: ResponseError },
    /// The broker refuses it for good.
    Refused { partition: usize, reason: ResponseError },
}

#[derive(Debug)]
struct Sent {
    id: u64,
    bytes: Bytes,
    records: i32,
    last: Lengths,
    created: Instant,
    held: usize,
    attempts: u32,
    in_flight: bool,
}

#[derive(Debug, Default)]
struct Partition {
    leader: Option<BrokerId>,
    next_sequence: i32,
    unacknowledged: VecDeque<Sent>,
    retry_at: Option<Instant>,
    admission: Admission,
}

/// Whether the transaction may write to a partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Admission {
    /// The coordinator has not been told.
    Outside,
    /// It is being told.
    Asked,
    /// It may; always so without transactions.
    #[default]
    Member,
}

/// A partition's next move.
enum Turn {
    Repeat,
    New,
    Wait,
}

impl Partition {
    fn turn(&self, now: Instant, max_in_flight: usize) -> Turn {
        let repeating = |sent: &Sent| !sent.in_flight || sent.attempts > 1;
        match self.unacknowledged.front() {
            _ if self.admission != Admission::Member => Turn::Wait,
            _ if self.retry_at.is_some_and(|at| at > now) => Turn::Wait,
            Some(first) if !first.in_flight => Turn::Repeat,
            _ if self.unacknowledged.iter().any(repeating) => Turn::Wait,
            _ if self.unacknowledged.len() >= max_in_flight => Turn::Wait,
            _ => Turn::New,
        }
    }
}

/// Decides what goes out.
#[derive(Debug)]
pub(crate) struct Sender {
    rules: SendRules,
    identity: Option<ProducerIdentity>,
    partitions: Vec<Partition>,
    in_flight: HashMap<BrokerId, usize>,
    next_id: u64,
    /// The partition that is asked first, so that each has its turn when a request is full.
    first: usize,
    transactional: bool,
}

impl Sender {
    /// Without idempotence it needs no identity.
    pub(crate) fn new(rules: SendRules) -> Self {
        Self {
            identity: (!rules.idempotent).then_some(ProducerIdentity::NONE),
            rules,
            partitions: Vec::new(),
            in_flight: HashMap::new(),
            next_id: 0,
            first: 0,
            transactional: false,
        }
    }

    /// Writes nothing outside of transactions, see [`Self::begin`].
    pub(crate) fn transactional(rules: SendRules) -> Self {
        Self {
            identity: None,
            transactional: true,
            ..Self::new(rules)
        }
    }

    /// Whether it has to ask for an identity; a transaction brings its own.
    pub(crate) fn needs_identity(&self) -> bool {
        self.identity.is_none() && !self.transactional
    }

    /// A transaction begins; all of the one before is acknowledged. Partitions are numbered anew and have to be added.
    pub(crate) fn begin(&mut self, identity: ProducerIdentity) {
        debug_assert!(
            self.partitions
                .iter()
                .all(|partition| partition.unacknowledged.is_empty())
        );
        self.identity = Some(identity);
        for partition in &mut self.partitions {
            partition.next_sequence = 0;
            partition.retry_at = None;
            partition.admission = Admission::Outside;
        }
    }

    /// The partitions to be added to the transaction now, once something is due for one of them; none while others are.
    pub(crate) fn wanted(&mut self, batches: &Accumulator, now: Instant, flushing: bool) -> Vec<usize> {
        let outside = |partition: &Partition| partition.admission == Admission::Outside;
        let due = self
            .partitions
            .iter()
            .enumerate()
            .any(|(index, partition)| outside(partition) && batches.is_due(index, now, flushing));
        if !due || self.is_adding() {
            return Vec::new();
        }
        let mut wanted = Vec::new();
        for (index, partition) in self.partitions.iter_mut().enumerate() {
            if outside(partition) && batches.due_at(index, now, flushing).is_some() {
                partition.admission = Admission::Asked;
                wanted.push(index);
            }
        }
        wanted
    }

    fn is_adding(&self) -> bool {
        self.partitions
            .iter()
            .any(|partition| partition.admission == Admission::Asked)
    }

    /// The coordinator knows of these.
    pub(crate) fn admit(&mut self, partitions: &[usize]) {
        for index in partitions {
            self.partitions[*index].admission = Admission::Member;
        }
    }

    pub(crate) fn identify(&mut self, identity: ProducerIdentity) {
        self.identity = Some(identity);
    }

    /// Who leads each partition; the list never gets shorter.
    pub(crate) fn lead(&mut self, leaders: &[Option<BrokerId>]) {
        if leaders.len() > self.partitions.len() {
            let admission = if self.transactional {
                Admission::Outside
            } else {
                Admission::Member
            };
            self.partitions.resize_with(leaders.len(), || Partition {
                admission,
                ..Partition::default()
            });
        }
        for (partition, leader) in self.partitions.iter_mut().zip(leaders) {
            partition.leader = *leader;
        }
    }

    /// The next request to this broker, if something is due there and it may take one more. Batches that aren't due go along.
    pub(crate) fn request(
        &mut self,
        broker: BrokerId,
        batches: &mut Accumulator,
        now: Instant,
        flushing: bool,
    ) -> Result<Option<Vec<Entry>>, CompressionError> {
        if !self.may_send(broker) || !self.is_due(broker, batches, now, flushing) {
            return Ok(None);
        }
        let mut room = self.rules.max_request_bytes;
        let mut entries = Vec::new();
        let (first, count) = (self.first, self.partitions.len());
        for partition in (0..count).map(|offset| (first + offset) % count) {
            if self.partitions[partition].leader != Some(broker) {
                continue;
            }
            // the first goes whatever its size: compression may have made it a little larger than a request
            let limit = if entries.is_empty() { usize::MAX } else { room };
            if let Some(entry) = self.entry(partition, batches, now, limit)? {
                room -= entry.bytes.len().min(room);
                entries.push(entry);
            }
        }
        self.first = (first + 1) % count;
        if entries.is_empty() {
            return Ok(None);
        }
        *self.in_flight.entry(broker).or_default() += 1;
        Ok(Some(entries))
    }

    fn may_send(&self, broker: BrokerId) -> bool {
        let waiting = self.in_flight.get(&broker).copied().unwrap_or_default();
        self.identity.is_some() && waiting < self.rules.max_in_flight
    }

    fn is_due(&self, broker: BrokerId, batches: &Accumulator, now: Instant, flushing: bool) -> bool {
        self.partitions.iter().enumerate().any(|(index, partition)| {
            partition.leader == Some(broker)
                && match partition.turn(now, self.rules.max_in_flight) {
                    Turn::Repeat => true,
                    Turn::New => batches.is_due(index, now, flushing),
                    Turn::Wait => false,
                }
        })
    }

    fn entry(
        &mut self,
        index: usize,
        batches: &mut Accumulator,
        now: Instant,
        room: usize,
    ) -> Result<Option<Entry>, CompressionError> {
        let Some(identity) = self.identity else {
            return Ok(None);
        };
        let partition = &mut self.partitions[index];
        let sent = match partition.turn(now, self.rules.max_in_flight) {
            Turn::Wait => None,
            Turn::Repeat => partition
                .unacknowledged
                .front_mut()
                .filter(|sent| sent.bytes.len() <= room),
            Turn::New => match batches.take(index, room)? {
                None => None,
                Some(closed) => {
                    let sequence = match identity {
                        ProducerIdentity::NONE => -1,
                        _ => partition.next_sequence,
                    };
                    partition.next_sequence = sequence.wrapping_add(closed.batch.records()) & i32::MAX;
                    self.next_id += 1;
                    partition.unacknowledged.push_back(stamped(
                        closed,
                        self.next_id,
                        identity,
                        sequence,
                        self.transactional,
                    ));
                    partition.unacknowledged.back_mut()
                }
            },
        };
        Ok(sent.map(|sent| {
            sent.in_flight = true;
            sent.attempts += 1;
            Entry {
                partition: index,
                id: sent.id,
                bytes: sent.bytes.clone(),
            }
        }))
    }

    /// A request to this broker was answered, or lost with its connection.
    pub(crate) fn answered(&mut self, broker: BrokerId) {
        if let Some(waiting) = self.in_flight.get_mut(&broker) {
            *waiting = waiting.saturating_sub(1);
        }
    }

    /// What an answer for a batch means.
    pub(crate) fn complete(
        &mut self,
        index: usize,
        id: u64,
        answer: Result<(), ResponseError>,
        now: Instant,
    ) -> Completion {
        use ResponseError as Code;
        let partition = &mut self.partitions[index];
        let Some(place) = partition.unacknowledged.iter().position(|sent| sent.id == id) else {
            return Completion::Unknown;
        };
        match answer {
            Ok(()) | Err(Code::DuplicateSequenceNumber) => match partition.unacknowledged.remove(place) {
                Some(Sent {
                    held,
                    created,
                    records,
                    ..
                }) => Completion::Acknowledged {
                    held,
                    created,
                    records,
                },
                None => Completion::Unknown,
            },
            // one before it was not written; it waits until that one is
            Err(Code::OutOfOrderSequenceNumber) if place > 0 => {
                partition.unacknowledged[place].in_flight = false;
                Completion::Again { stale_leader: false }
            }
            Err(Code::MessageTooLarge | Code::RecordListTooLarge) => {
                let Sent {
                    records,
                    last,
                    ref bytes,
                    ..
                } = partition.unacknowledged[place];
                Completion::Failed(SendFailure::TooLarge {
                    partition: index,
                    records,
                    bytes: bytes.len(),
                    last,
                })
            }
            Err(reason) if reason == Code::OutOfOrderSequenceNumber || is_not_open(reason) => {
                Completion::Failed(SendFailure::IdentityLost {
                    partition: index,
                    reason,
                })
            }
            Err(reason) if reason.is_retriable() => self.again(index, place, &reason.to_string(), now),
            Err(reason) => Completion::Failed(SendFailure::Refused {
                partition: index,
                reason,
            }),
        }
    }

    /// The connection was lost with a batch in flight: the broker may have it or not.
    pub(crate) fn lost(&mut self, index: usize, id: u64, reason: &str, now: Instant) -> Completion {
        match self.partitions[index]
            .unacknowledged
            .iter()
            .position(|sent| sent.id == id)
        {
            Some(place) => self.again(index, place, reason, now),
            None => Completion::Unknown,
        }
    }

    fn again(&mut self, index: usize, place: usize, reason: &str, now: Instant) -> Completion {
        let partition = &mut self.partitions[index];
        let sent = &mut partition.unacknowledged[place];
        if sent.attempts > self.rules.retries {
            return Completion::Failed(SendFailure::RetriesExhausted {
                partition: index,
                reason: reason.to_owned(),
            });
        }
        sent.in_flight = false;
        partition.retry_at = Some(now + self.rules.retry_backoff);
        Completion::Again { stale_leader: true }
    }

    /// The first batch that was not acknowledged in time.
    pub(crate) fn expired(&self, batches: &Accumulator, now: Instant) -> Option<SendFailure> {
        let (partition, created) = self.oldest(batches)?;
        (now >= created + self.rules.delivery_timeout).then_some(SendFailure::TimedOut { partition })
    }

    fn oldest(&self, batches: &Accumulator) -> Option<(usize, Instant)> {
        let sent = self.partitions.iter().enumerate();
        sent.filter_map(|(index, partition)| Some((index, partition.unacknowledged.front()?.created)))
            .chain(batches.oldest())
            .min_by_key(|(_, created)| *created)
    }

    /// When the first batch will have waited too long.
    pub(crate) fn deadline(&self, batches: &Accumulator) -> Option<Instant> {
        let (_, created) = self.oldest(batches)?;
        Some(created + self.rules.delivery_timeout)
    }

    /// When to look again, if nothing else happens before: a batch gets due at a broker that can be reached, may be
    /// repeated, or has waited too long.
    pub(crate) fn wake_at(
        &self,
        batches: &Accumulator,
        now: Instant,
        flushing: bool,
        reachable: impl Fn(BrokerId) -> bool,
    ) -> Option<Instant> {
        let adding = self.is_adding();
        let can_send = |partition: &Partition| {
            partition
                .leader
                .is_some_and(|id| reachable(id) && self.may_send(id))
        };
        let sends = self
            .partitions
            .iter()
            .enumerate()
            .filter_map(|(index, partition)| {
                if partition.admission == Admission::Outside && !adding {
                    return batches.due_at(index, now, flushing);
                }
                if !can_send(partition) {
                    return None;
                }
                match (partition.turn(now, self.rules.max_in_flight), partition.retry_at) {
                    (Turn::Wait, Some(at)) if at > now => Some(at),
                    (Turn::Wait, _) => None,
                    (Turn::Repeat, _) => Some(now),
                    (Turn::New, _) => batches.due_at(index, now, flushing),
                }
            });
        sends.chain(self.deadline(batches)).min()
    }
}

fn stamped(
    mut closed: Closed,
    id: u64,
    identity: ProducerIdentity,
    sequence: i32,
    transactional: bool,
) -> Sent {
    if transactional {
        closed.batch.mark_transactional();
    }
    Sent {
        id,
        records: closed.batch.records(),
        last: closed.batch.last(),
        created: closed.created,
        held: closed.held,
        bytes: closed.batch.stamp(identity, sequence),
        attempts: 0,
        in_flight: false,
    }
}

#[cfg(test)]
mod tests;
