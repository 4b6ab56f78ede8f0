//! Which part files are open, what happens to them when: the sink's decisions, without I/O or clock.
//!
//! ```text
//!   write(bucket, rows, now) --> a bucket's open part --roll--> closing --report--> closed --prepare--> committables
//!   barrier(now) ------------->  rolls what is due, the others are synced --report--> snapshot
//!          \---> actions: Begin | Adopt, Write*, Sync, Close for each part, carried out in this order
//! ```
//!
//! Invariants: a row is in one part; pieces handed over end with a row; behind a barrier, each part is in the committables or
//! in the snapshot with all its rows, as bytes that are durable (files), or as parts of an upload and a tail that the snapshot
//! holds itself (objects).
//!
//! A part of an upload that a snapshot holds is never written to again: restored, it is closed as it is, and its tail begins
//! another file. So nothing that a process cut off before still sends can spoil it.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

use arrow::array::RecordBatch;
use thalweg_storage::Staged;

use super::bulk::{BulkFormat, BulkWriter};
use super::rolling::RollingPolicy;
use super::state::{FileCommittable, PartFile, PartState};
use crate::ConnectorError;

/// A part's number in this writer.
pub(crate) type PartId = u64;

/// Bounds of one writer.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// A piece is handed over when it is this large, at the end of a row.
    pub(crate) piece_bytes: usize,
    /// Pieces must be that large but the last of a part, and what is less goes along with a snapshot: objects.
    pub(crate) keeps_tail: bool,
    /// A part takes no more rows, whatever the policy says.
    pub(crate) most_part_bytes: u64,
    /// Parts that are open; above it those that were written to least recently are closed.
    pub(crate) most_open: usize,
    /// Bytes of all parts that are not handed over; above it the largest are.
    pub(crate) most_buffered: usize,
}

/// What a writer's parts are like.
#[derive(Debug, Clone)]
pub(crate) struct PartSettings {
    /// The sink's folder, a URI.
    pub(crate) folder: Arc<str>,
    pub(crate) prefix: String,
    pub(crate) suffix: String,
    pub(crate) policy: RollingPolicy,
    /// None: lines.
    pub(crate) bulk: Option<Arc<dyn BulkFormat>>,
    pub(crate) limits: Limits,
}

/// What is to be done, in this order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Action {
    pub(crate) part: PartId,
    pub(crate) step: Step,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing of it is there yet.
    Begin(PartFile),
    /// Goes on behind so many bytes.
    Adopt(PartFile, Staged, u64),
    Write(Vec<u8>),
    /// All that was written has to be durable; reported.
    Sync,
    /// The same, and it takes no more; reported.
    Close,
}

/// What an action came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) part: PartId,
    pub(crate) staged: Staged,
    /// Answers [`Step::Close`], else [`Step::Sync`].
    pub(crate) closed: bool,
}

/// Bytes and rows of a part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) bytes: u64,
    pub(crate) rows: u64,
}

struct Open {
    id: PartId,
    file: PartFile,
    /// As last reported.
    staged: Option<Staged>,
    begun: bool,
    sent: Extent,
    /// What the last [`Step::Sync`] covers.
    asked: Extent,
    /// What `staged` holds.
    synced: Extent,
    buffer: Vec<u8>,
    buffered_rows: u64,
    /// Of a bulk format, until the part is closed.
    bulk: Option<Box<dyn BulkWriter>>,
    created_ms: i64,
    updated_ms: i64,
}

impl Open {
    fn bytes(&self) -> u64 {
        self.sent.bytes + self.buffered() as u64
    }

    fn buffered(&self) -> usize {
        self.buffer.len() + self.bulk.as_ref().map_or(0, |bulk| bulk.buffered())
    }
}

/// The parts of one writer.
pub(crate) struct Parts {
    settings: PartSettings,
    /// Makes names unique: no other writer, before or after, has the same.
    uid: String,
    next: u64,
    /// By bucket.
    open: HashMap<String, Open>,
    closing: HashMap<PartId, (PartFile, Extent)>,
    closed: Vec<(PartId, FileCommittable)>,
    actions: Vec<Action>,
    /// Of a bulk writer: given instead of actions.
    failure: Option<ConnectorError>,
}

impl Parts {
    pub(crate) fn new(settings: PartSettings, uid: String) -> Self {
        Self {
            settings,
            uid,
            next: 0,
            open: HashMap::new(),
            closing: HashMap::new(),
            closed: Vec::new(),
            actions: Vec::new(),
            failure: None,
        }
    }

    /// Takes over what other writers had open.
    pub(crate) fn restore(&mut self, states: Vec<PartState>, now_ms: i64) {
        for state in states {
            let PartState {
                bucket,
                created_ms,
                part,
                tail,
                tail_rows,
            } = state;
            let created_ms = created_ms.min(now_ms);
            if let Some(part) = part {
                let id = self.next_id();
                let extent = Extent {
                    bytes: part.bytes,
                    rows: part.rows,
                };
                let adopt = Step::Adopt(part.file.clone(), part.staged.clone(), part.bytes);
                self.act(id, adopt);
                let goes_on = matches!(part.staged, Staged::File { .. })
                    && part.file.folder == *self.settings.folder
                    && self.settings.bulk.is_none()
                    && !self.open.contains_key(&bucket);
                if goes_on {
                    // Its bytes are in a file of its own from now on, which the next barrier has synced.
                    let open = Open {
                        id,
                        file: part.file,
                        staged: None,
                        begun: true,
                        sent: extent,
                        asked: Extent::default(),
                        synced: Extent::default(),
                        buffer: Vec::new(),
                        buffered_rows: 0,
                        bulk: None,
                        created_ms,
                        updated_ms: now_ms,
                    };
                    self.open.insert(bucket.clone(), open);
                } else {
                    self.act(id, Step::Close);
                    self.closing.insert(id, (part.file, extent));
                }
            }
            if !tail.is_empty() {
                let mut open = match self.open.remove(&bucket) {
                    Some(open) => open,
                    None => self.begin(&bucket, created_ms),
                };
                open.created_ms = open.created_ms.min(created_ms);
                open.updated_ms = now_ms;
                open.buffer.extend_from_slice(&tail);
                open.buffered_rows += tail_rows;
                if open.buffer.len() >= self.settings.limits.piece_bytes {
                    send(&mut self.actions, &mut open);
                }
                if self.settings.bulk.is_some() {
                    self.close(open);
                } else {
                    self.open.insert(bucket, open);
                }
            }
        }
    }

    /// Adds rows, each as a line, to the bucket's part; finishes parts that are due before.
    pub(crate) fn write<'a>(&mut self, bucket: &str, mut rows: impl Iterator<Item = &'a [u8]>, now_ms: i64) {
        let policy = self.settings.policy;
        let limits = &self.settings.limits;
        let (piece_bytes, most) = (
            limits.piece_bytes,
            policy.max_part_size().min(limits.most_part_bytes),
        );
        let due = |part: &Open| policy.rolls_by_time(part.created_ms, part.updated_ms, now_ms);
        if self.open.get(bucket).is_some_and(due) {
            self.close_bucket(bucket);
        }
        let mut row = rows.next();
        while row.is_some() {
            if !self.open.contains_key(bucket) {
                let part = self.begin(bucket, now_ms);
                self.open.insert(bucket.to_owned(), part);
            }
            let Some(part) = self.open.get_mut(bucket) else {
                return;
            };
            while let Some(line) = row
                && part.bytes() <= most
            {
                part.buffer.extend_from_slice(line);
                part.buffer.push(b'\n');
                part.buffered_rows += 1;
                if part.buffer.len() >= piece_bytes {
                    send(&mut self.actions, part);
                }
                row = rows.next();
            }
            part.updated_ms = now_ms;
            if row.is_some() {
                self.close_bucket(bucket);
            }
        }
    }

    /// Adds rows to the bucket's part in the bulk format. The part that becomes too large by it takes no more.
    pub(crate) fn write_bulk(
        &mut self,
        bucket: &str,
        rows: &RecordBatch,
        now_ms: i64,
    ) -> Result<(), ConnectorError> {
        let policy = self.settings.policy;
        let due = |part: &Open| policy.rolls_by_time(part.created_ms, part.updated_ms, now_ms);
        if self.open.get(bucket).is_some_and(due) {
            self.close_bucket(bucket);
        }
        if !self.open.contains_key(bucket) {
            let bulk = self.settings.bulk.as_ref();
            let bulk = bulk.map(|bulk| bulk.create(rows.schema_ref())).transpose()?;
            let part = Open {
                bulk,
                ..self.begin(bucket, now_ms)
            };
            self.open.insert(bucket.to_owned(), part);
        }
        let Some(part) = self.open.get_mut(bucket) else {
            return Ok(());
        };
        if let Some(bulk) = &mut part.bulk {
            bulk.write(rows, &mut part.buffer)?;
        }
        part.buffered_rows += rows.num_rows() as u64;
        part.updated_ms = now_ms;
        if part.buffer.len() >= self.settings.limits.piece_bytes {
            send(&mut self.actions, part);
        }
        if part.bytes() > policy.max_part_size().min(self.settings.limits.most_part_bytes) {
            self.close_bucket(bucket);
        }
        Ok(())
    }

    /// Keeps to the limits of what is open and not handed over; behind each batch.
    pub(crate) fn bound(&mut self) {
        while self.open.len() > self.settings.limits.most_open {
            let oldest = self
                .open
                .iter()
                .min_by_key(|(_, part)| (part.updated_ms, part.id));
            let Some(bucket) = oldest.map(|(bucket, _)| bucket.clone()) else {
                return;
            };
            self.close_bucket(&bucket);
        }
        let mut buffered: usize = self.open.values().map(Open::buffered).sum();
        while buffered > self.settings.limits.most_buffered {
            let largest = self.open.iter().max_by_key(|(_, part)| part.buffered());
            let Some((bucket, bytes)) = largest.map(|(bucket, part)| (bucket.clone(), part.buffered()))
            else {
                return;
            };
            buffered -= bytes;
            if self.settings.limits.keeps_tail || self.settings.bulk.is_some() {
                self.close_bucket(&bucket);
            } else if let Some(part) = self.open.get_mut(&bucket) {
                send(&mut self.actions, part);
            }
        }
    }

    /// A barrier is here, or the end: what is due is closed, and of the rest all is made durable. May be called again until
    /// [`Self::is_flushed`].
    pub(crate) fn barrier(&mut self, now_ms: i64, end_of_input: bool) {
        let policy = self.settings.policy;
        let due = |_: &String, part: &mut Open| {
            end_of_input
                || part.bulk.is_some()
                || policy.rolls_at_checkpoint(part.bytes())
                || policy.rolls_by_time(part.created_ms, part.updated_ms, now_ms)
        };
        let due: Vec<(String, Open)> = self.open.extract_if(due).collect();
        for (_, part) in due {
            self.close(part);
        }
        for part in self.open.values_mut() {
            if !self.settings.limits.keeps_tail && !part.buffer.is_empty() {
                send(&mut self.actions, part);
            }
            if part.sent != part.asked {
                part.asked = part.sent;
                let (part, step) = (part.id, Step::Sync);
                self.actions.push(Action { part, step });
            }
        }
    }

    /// A part is durable: all of it behind [`Step::Close`], else as far as [`Step::Sync`] asked.
    pub(crate) fn report(&mut self, report: Report) {
        let Report { part, staged, closed } = report;
        if closed {
            let Some((file, extent)) = self.closing.remove(&part) else {
                return;
            };
            let committable = FileCommittable {
                file,
                staged,
                bytes: extent.bytes,
                rows: extent.rows,
            };
            self.closed.push((part, committable));
        } else if let Some(open) = self.open.values_mut().find(|open| open.id == part) {
            // One that was closed since has another report to come.
            open.staged = Some(staged);
            open.synced = open.asked;
        }
    }

    /// Whether all that a snapshot needs was reported.
    pub(crate) fn is_flushed(&self) -> bool {
        self.closing.is_empty() && self.open.values().all(|part| part.synced == part.sent)
    }

    /// What is closed since the last call.
    pub(crate) fn prepare(&mut self) -> Vec<(PartId, FileCommittable)> {
        mem::take(&mut self.closed)
    }

    /// What is open, flushed; with the ids of parts whose bytes at the other side it counts on.
    pub(crate) fn snapshot(&self) -> (Vec<PartState>, Vec<PartId>) {
        let state = |(bucket, open): (&String, &Open)| PartState {
            bucket: bucket.clone(),
            created_ms: open.created_ms,
            part: open.staged.clone().map(|staged| FileCommittable {
                file: open.file.clone(),
                staged,
                bytes: open.synced.bytes,
                rows: open.synced.rows,
            }),
            tail: open.buffer.clone(),
            tail_rows: open.buffered_rows,
        };
        let mut states: Vec<PartState> = self.open.iter().map(state).collect();
        states.sort_unstable_by(|left, right| left.bucket.cmp(&right.bucket));
        let counted = self.open.values().filter(|open| open.staged.is_some());
        (states, counted.map(|open| open.id).collect())
    }

    /// What is to be done since the last call.
    pub(crate) fn take_actions(&mut self) -> Result<Vec<Action>, ConnectorError> {
        match self.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(mem::take(&mut self.actions)),
        }
    }

    fn act(&mut self, part: PartId, step: Step) {
        self.actions.push(Action { part, step });
    }

    fn next_id(&mut self) -> PartId {
        self.next += 1;
        self.next - 1
    }

    fn begin(&mut self, bucket: &str, now_ms: i64) -> Open {
        let id = self.next_id();
        let PartSettings { prefix, suffix, .. } = &self.settings;
        let name = format!("{prefix}-{}-{id}{suffix}", self.uid);
        let path = match bucket {
            "" => name,
            bucket => format!("{bucket}/{name}"),
        };
        Open {
            id,
            file: PartFile {
                folder: self.settings.folder.to_string(),
                path,
            },
            staged: None,
            begun: false,
            sent: Extent::default(),
            asked: Extent::default(),
            synced: Extent::default(),
            buffer: Vec::new(),
            buffered_rows: 0,
            bulk: None,
            created_ms: now_ms,
            updated_ms: now_ms,
        }
    }

    fn close_bucket(&mut self, bucket: &str) {
        if let Some(part) = self.open.remove(bucket) {
            self.close(part);
        }
    }

    fn close(&mut self, mut part: Open) {
        if let Some(bulk) = part.bulk.take()
            && let Err(failure) = bulk.finish(&mut part.buffer)
        {
            self.failure.get_or_insert(failure);
            return;
        }
        if part.bytes() == 0 {
            return;
        }
        if !part.buffer.is_empty() {
            send(&mut self.actions, &mut part);
        }
        self.act(part.id, Step::Close);
        self.closing.insert(part.id, (part.file, part.sent));
    }
}

/// Hands over what a part has buffered.
fn send(actions: &mut Vec<Action>, part: &mut Open) {
    let mut act = |step| actions.push(Action { part: part.id, step });
    if !part.begun {
        part.begun = true;
        act(Step::Begin(part.file.clone()));
    }
    // The next piece will be as large.
    let next = Vec::with_capacity(part.buffer.len());
    let piece = mem::replace(&mut part.buffer, next);
    part.sent.bytes += piece.len() as u64;
    part.sent.rows += mem::take(&mut part.buffered_rows);
    act(Step::Write(piece));
}

#[cfg(test)]
mod tests;
