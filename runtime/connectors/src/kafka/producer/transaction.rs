//! Transactions of an exactly-once sink: their names, what a checkpoint holds of them, and what brokers say. Decisions only.
//!
//! ```text
//!   pool -> id -- InitProducerId --> identity -> open -- flush, barrier --> prepared (in the checkpoint)
//!    ^                                                                         |
//!    '------------- concluded <-- EndTxn(commit) <-- the checkpoint is complete'
//! ```
//!
//! Invariants: an identity (producer id and epoch) writes one transaction only, so whoever holds it can't mean another one. An id has its
//! attempt in its name: no other attempt writes under it, and an attempt aborts nothing of a later one, however late it wakes. An id that
//! a writer has used is taken again only when its commit is known, and under the identity that the writer knows of it: one that was taken
//! over since shows that the attempt was replaced. At a restore each transaction that an earlier attempt left open under one of the job's
//! prefixes is aborted by the one subtask that owns its name, but for those that the checkpoint prepared.
//! After an answer that leaves open what became of a prepared transaction the log itself decides, see [`super::outcome`].

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::ResponseError;

use super::record_batch::ProducerIdentity;
use crate::kafka::config::check_topic;
use crate::split_state::{decode, encode};
use crate::{AttemptOrder, Committable, ConnectorError, RestoredConnector};

const SINK: &str = "Kafka sink";
/// An offset that no broker has told.
const UNKNOWN_OFFSET: i64 = -1;

/// What is done at a restore with a transaction that the checkpoint holds to be committed and that the brokers have aborted, or can't
/// tell of any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExpiredTransaction {
    /// The job fails, naming the records that are lost, until it is restored from somewhere else. The default.
    #[default]
    FailJob,
    /// It is left out: a warning names the records that readers of committed records will never see, `failedCommittables` counts it, and
    /// the job goes on. What Flink does.
    Skip,
}

/// What the sink's builder says about transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TransactionSettings {
    pub(crate) prefix: String,
    /// After this long the brokers abort an open transaction.
    pub(crate) timeout_ms: i32,
    /// What to do with a prepared one that can't be committed any more.
    pub(crate) expired: ExpiredTransaction,
}

impl TransactionSettings {
    /// Of a sink that opens none: it may have to commit what it opened when it was exactly-once.
    pub(crate) const WITHOUT: Self = Self {
        prefix: String::new(),
        timeout_ms: 60_000,
        expired: ExpiredTransaction::FailJob,
    };
}

/// A prefix as brokers and the names made with it allow.
pub(crate) fn check_prefix(prefix: &str) -> Result<(), ConnectorError> {
    check_topic(prefix).map_err(|_| {
        ConnectorError::Refused(format!(
            "transactional id prefix {prefix:?}: 1 to 249 letters, digits, '.', '_' and '-' are needed"
        ))
    })
}

/// A transactional id behind its prefix: `-subtask-attempt-counter`, the attempt as three numbers with dots between them; the first
/// two are hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Name {
    subtask: u32,
    order: AttemptOrder,
    counter: u32,
}

impl Name {
    fn id(self, prefix: &str) -> String {
        let AttemptOrder {
            job_started_ms,
            leader_epoch,
            attempt,
        } = self.order;
        let Self { subtask, counter, .. } = self;
        format!("{prefix}-{subtask}-{job_started_ms:x}.{leader_epoch:x}.{attempt}-{counter}")
    }

    /// Of an id with this prefix. No id has two prefixes: behind one come exactly these parts.
    fn of(prefix: &str, id: &str) -> Option<Self> {
        let mut parts = id.strip_prefix(prefix)?.strip_prefix('-')?.split('-');
        let (subtask, order, counter) = (parts.next()?, parts.next()?, parts.next()?);
        let mut numbers = order.split('.');
        let name = Self {
            subtask: subtask.parse().ok()?,
            order: AttemptOrder {
                job_started_ms: u64::from_str_radix(numbers.next()?, 16).ok()?,
                leader_epoch: u64::from_str_radix(numbers.next()?, 16).ok()?,
                attempt: numbers.next()?.parse().ok()?,
            },
            counter: counter.parse().ok()?,
        };
        (name.id(prefix) == id).then_some(name)
    }
}

/// Offsets of one partition that a transaction has written, first and last.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Range {
    #[prost(int32, tag = "1")]
    pub(crate) partition: i32,
    #[prost(sint64, tag = "2")]
    pub(crate) first: i64,
    #[prost(sint64, tag = "3")]
    pub(crate) last: i64,
}

/// A transaction, open or prepared; a sink's committable is one, encoded.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Transaction {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(sint64, tag = "2")]
    pub(crate) producer_id: i64,
    #[prost(sint32, tag = "3")]
    pub(crate) epoch: i32,
    #[prost(string, tag = "4")]
    pub(crate) topic: String,
    #[prost(message, repeated, tag = "5")]
    pub(crate) ranges: Vec<Range>,
    /// Milliseconds since 1970.
    #[prost(sint64, tag = "6")]
    pub(crate) started_ms: i64,
}

impl Transaction {
    pub(crate) fn open(id: String, identity: ProducerIdentity, topic: &str, started_ms: i64) -> Self {
        Self {
            id,
            producer_id: identity.id,
            epoch: i32::from(identity.epoch),
            topic: topic.to_owned(),
            ranges: Vec::new(),
            started_ms,
        }
    }

    pub(crate) fn identity(&self) -> ProducerIdentity {
        ProducerIdentity {
            id: self.producer_id,
            epoch: self.epoch as i16,
        }
    }

    /// So many records are in the partition from this offset on; -1 if the broker doesn't know the offset any more.
    pub(crate) fn wrote(&mut self, partition: usize, base_offset: i64, records: i32) {
        let partition = partition as i32;
        let last = base_offset + i64::from(records) - 1;
        let known = self.ranges.iter_mut().find(|range| range.partition == partition);
        match known {
            Some(range) if base_offset > UNKNOWN_OFFSET => {
                let first = if range.first > UNKNOWN_OFFSET {
                    range.first.min(base_offset)
                } else {
                    base_offset
                };
                *range = Range {
                    partition,
                    first,
                    last: range.last.max(last),
                };
            }
            Some(_) => {}
            None => self.ranges.push(Range {
                partition,
                first: base_offset,
                last: if base_offset > UNKNOWN_OFFSET {
                    last
                } else {
                    base_offset
                },
            }),
        }
    }

    /// What it has written, in words: `topic "out" partition 0 offsets 5..=9, partition 2 offsets 0..=3`.
    pub(crate) fn data(&self) -> String {
        let ranges = self.ranges.iter().map(|range| match range.first {
            UNKNOWN_OFFSET => format!("partition {}", range.partition),
            first => format!("partition {} offsets {first}..={}", range.partition, range.last),
        });
        format!("topic {:?} {}", self.topic, ranges.collect::<Vec<_>>().join(", "))
    }

    pub(crate) fn committable(&self) -> Committable {
        Committable { bytes: encode(self) }
    }

    pub(crate) fn of(committables: &[Committable]) -> Result<Vec<Self>, ConnectorError> {
        let bytes = committables
            .iter()
            .map(|committable| committable.bytes.clone())
            .collect::<Vec<_>>();
        decode(SINK, &bytes)
    }
}

/// A writer's state: every subtask gets all of them.
#[derive(Clone, PartialEq, prost::Message)]
struct WriterState {
    #[prost(string, tag = "1")]
    prefix: String,
    /// Ids of what is prepared and not known to be committed.
    #[prost(string, repeated, tag = "2")]
    prepared: Vec<String>,
    #[prost(uint64, tag = "3")]
    job_started_ms: u64,
    #[prost(uint64, tag = "4")]
    leader_epoch: u64,
    #[prost(uint32, tag = "5")]
    attempt: u32,
}

impl WriterState {
    fn order(&self) -> AttemptOrder {
        AttemptOrder {
            job_started_ms: self.job_started_ms,
            leader_epoch: self.leader_epoch,
            attempt: self.attempt,
        }
    }
}

/// A writer's state in a checkpoint.
pub(crate) fn writer_state(prefix: &str, order: AttemptOrder, prepared: &[String]) -> Vec<Vec<u8>> {
    vec![encode(&WriterState {
        prefix: prefix.to_owned(),
        prepared: prepared.to_vec(),
        job_started_ms: order.job_started_ms,
        leader_epoch: order.leader_epoch,
        attempt: order.attempt,
    })]
}

/// The attempt as later ones will see it: it comes after all whose state it goes on from, also if the clock that its job started by is
/// behind theirs.
fn order_behind(attempt: AttemptOrder, restored: Option<AttemptOrder>) -> AttemptOrder {
    match restored {
        Some(before) if attempt <= before => AttemptOrder {
            job_started_ms: before.job_started_ms + 1,
            ..attempt
        },
        _ => attempt,
    }
}

/// What a subtask has to put in order before it writes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Recovery {
    /// Prepared by any subtask: not to be aborted.
    prepared: BTreeSet<String>,
    /// Of these this subtask commits.
    pub(crate) own: BTreeSet<String>,
    prefixes: BTreeSet<String>,
    subtask: u32,
    parallelism: u32,
    pub(crate) order: AttemptOrder,
}

impl Recovery {
    pub(crate) fn new(
        prefix: &str,
        (subtask, parallelism): (u32, u32),
        attempt: AttemptOrder,
        restored: Option<&RestoredConnector>,
    ) -> Result<Self, ConnectorError> {
        let (states, committables) = match restored {
            Some(restored) => (
                decode::<WriterState>(SINK, &restored.states)?,
                Transaction::of(&restored.committables)?,
            ),
            None => Default::default(),
        };
        let own: BTreeSet<_> = committables.into_iter().map(|prepared| prepared.id).collect();
        let mut prefixes = BTreeSet::from([prefix.to_owned()]);
        let mut prepared = own.clone();
        let order = order_behind(attempt, states.iter().map(WriterState::order).max());
        for state in states {
            prefixes.insert(state.prefix);
            prepared.extend(state.prepared);
        }
        Ok(Self {
            prepared,
            own,
            prefixes,
            subtask,
            parallelism: parallelism.max(1),
            order,
        })
    }

    /// Whether this subtask has to abort the open transaction: also those of subtasks that there are no more, and none of a later attempt.
    pub(crate) fn aborts(&self, id: &str) -> bool {
        let owned = |name: Name| name.subtask % self.parallelism == self.subtask && name.order <= self.order;
        let named = |prefix: &String| Name::of(prefix, id).is_some_and(owned);
        !self.prepared.contains(id) && self.prefixes.iter().any(named)
    }
}

/// The ids of one attempt. As many are in use as transactions are open or prepared at once.
#[derive(Debug)]
pub(crate) struct Pool {
    prefix: String,
    subtask: u32,
    order: AttemptOrder,
    free: BTreeSet<u32>,
    /// Who wrote last under an id, where this writer knows it.
    known: BTreeMap<u32, ProducerIdentity>,
    next: u32,
}

impl Pool {
    pub(crate) fn new(prefix: &str, recovery: &Recovery) -> Self {
        Self {
            prefix: prefix.to_owned(),
            subtask: recovery.subtask,
            order: recovery.order,
            free: BTreeSet::new(),
            known: BTreeMap::new(),
            next: 0,
        }
    }

    /// An id, and who wrote last under it if this writer knows it.
    pub(crate) fn take(&mut self) -> (String, Option<ProducerIdentity>) {
        let counter = self.free.pop_first().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        });
        let name = Name {
            subtask: self.subtask,
            order: self.order,
            counter,
        };
        (name.id(&self.prefix), self.known.remove(&counter))
    }

    /// It is concluded, and this is who wrote last under it. Ids of other attempts, subtasks or prefixes are nothing to this one.
    pub(crate) fn put_back(&mut self, id: &str, identity: ProducerIdentity) {
        let own = |name: &Name| name.subtask == self.subtask && name.order == self.order;
        if let Some(name) = Name::of(&self.prefix, id).filter(own) {
            self.known.insert(name.counter, identity);
            self.free.insert(name.counter);
        }
    }
}

/// What a coordinator's answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Done,
    /// Ask again a little later.
    Again,
    /// Ask again, the coordinator is another one.
    Elsewhere,
    /// The transaction isn't open under this identity: it was concluded, or another producer took over, or time ran out.
    NotOpen(ResponseError),
    Refused(ResponseError),
}

/// What an error code (0 = none) of a coordinator means.
pub(crate) fn verdict(code: i16) -> Verdict {
    use ResponseError as Code;
    match ResponseError::try_from_code(code) {
        None => Verdict::Done,
        Some(Code::NotCoordinator | Code::CoordinatorNotAvailable) => Verdict::Elsewhere,
        Some(code) if is_not_open(code) => Verdict::NotOpen(code),
        Some(Code::ConcurrentTransactions | Code::CoordinatorLoadInProgress) => Verdict::Again,
        Some(code) if code.is_retriable() => Verdict::Again,
        Some(code) => Verdict::Refused(code),
    }
}

/// Whether the code says that a transaction isn't open under the identity that was given.
pub(crate) fn is_not_open(code: ResponseError) -> bool {
    use ResponseError as Code;
    matches!(
        code,
        Code::InvalidTxnState
            | Code::ProducerFenced
            | Code::InvalidProducerEpoch
            | Code::InvalidProducerIdMapping
            | Code::UnknownProducerId
            | Code::TransactionalIdNotFound
    )
}

#[cfg(test)]
mod tests;
