//! The end of a chain that writes to a connector.
//!
//! ```text
//!   batch -> poll_ready -> write takes a part -> poll_ready -> write takes the rest -> next batch
//!   end   -> poll_flush(end of input) -> prepare_commit -> ended
//!   barrier -> poll_flush -> prepare_commit -> snapshot (with all that is prepared)
//!   checkpoint complete -> poll_commit of what was prepared up to it
//! ```
//!
//! Invariants: what was prepared is in every snapshot until it is committed, and is committed in the order of preparation;
//! writes go on while a commit is under way.

use std::task::{Context, Poll, ready};

use thalweg_connectors::{Committable, ConnectorError, Gauge, SinkWriter};
use thalweg_state::OperatorSnapshot;
use thalweg_types::StreamBatch;

use crate::checkpoint::lists;
use crate::error::TaskError;

/// What became of one call of [`SinkBody::step`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SinkStep {
    /// Rows were taken: this many.
    Took(usize),
    /// The writer said it was ready and then took nothing: ask again a little later, it will wake nobody.
    Refused,
    /// Everything is flushed; nothing follows.
    Ended,
}

/// A writer and what it has not taken yet.
pub(crate) struct SinkBody {
    operator: String,
    writer: Box<dyn SinkWriter>,
    rest: Option<StreamBatch>,
    ending: bool,
    ended: bool,
    records_sent: u64,
    /// Prepared and not known to be committed, oldest first; `prepared_for[i]` is the checkpoint of `prepared[i]`.
    prepared: Vec<Committable>,
    prepared_for: Vec<u64>,
    /// The first so many are being committed.
    committing: usize,
    /// The newest checkpoint that is complete.
    completed: u64,
    /// The newest checkpoint seen.
    last_checkpoint: u64,
}

impl SinkBody {
    /// `restored`: what a checkpoint holds as prepared; it may be committed at once.
    pub(crate) fn new(
        operator: String,
        writer: Box<dyn SinkWriter>,
        restored: Vec<Committable>,
        restored_from: u64,
    ) -> Self {
        Self {
            prepared_for: vec![restored_from; restored.len()],
            prepared: restored,
            committing: 0,
            completed: restored_from,
            last_checkpoint: restored_from,
            ended: false,
            operator,
            writer,
            rest: None,
            ending: false,
            records_sent: 0,
        }
    }

    /// Takes a batch; called only when it has no work.
    pub(crate) fn push(&mut self, batch: StreamBatch) {
        debug_assert!(!self.has_work());
        self.rest = Some(batch);
    }

    pub(crate) fn end_input(&mut self) {
        self.ending = true;
    }

    pub(crate) fn has_work(&self) -> bool {
        self.rest.is_some() || self.ending
    }

    /// Hands the writer what is there; `Pending` while it has no room.
    pub(crate) fn step(&mut self, cx: &mut Context<'_>) -> Poll<Result<SinkStep, TaskError>> {
        match self.rest.take() {
            Some(batch) => self.write(cx, batch),
            None => self.finish(cx),
        }
    }

    /// What the writer shows, with Flink's count of what left through a sink.
    pub(crate) fn gauges(&self) -> Vec<Gauge> {
        const SENT: &str = "numRecordsSend";
        let mut gauges = self.writer.gauges();
        if gauges.iter().all(|(name, _)| *name != SENT) {
            gauges.push((SENT, self.records_sent as f64));
        }
        gauges
    }

    fn write(&mut self, cx: &mut Context<'_>, batch: StreamBatch) -> Poll<Result<SinkStep, TaskError>> {
        match self.writer.poll_ready(cx) {
            Poll::Ready(ready) => ready.map_err(|source| self.failed(source))?,
            Poll::Pending => {
                self.rest = Some(batch);
                return Poll::Pending;
            }
        }
        let rows = batch.num_rows();
        let taken = self
            .writer
            .write(&batch)
            .map_err(|source| self.failed(source))?
            .min(rows);
        self.records_sent += taken as u64;
        if taken < rows {
            self.rest = Some(batch.slice(taken, rows - taken));
        }
        let step = if taken == 0 && rows > 0 {
            SinkStep::Refused
        } else {
            SinkStep::Took(taken)
        };
        Poll::Ready(Ok(step))
    }

    fn finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<SinkStep, TaskError>> {
        ready!(self.writer.poll_flush(cx, true)).map_err(|source| self.failed(source))?;
        // The next checkpoint will hold it; without checkpoints it is committed now.
        self.prepare(self.last_checkpoint + 1)?;
        self.ending = false;
        self.ended = true;
        Poll::Ready(Ok(SinkStep::Ended))
    }

    fn prepare(&mut self, checkpoint_id: u64) -> Result<(), TaskError> {
        let prepared = self
            .writer
            .prepare_commit(checkpoint_id)
            .map_err(|source| self.failed(source))?;
        self.prepared_for
            .resize(self.prepared_for.len() + prepared.len(), checkpoint_id);
        self.prepared.extend(prepared);
        Ok(())
    }

    /// Ready when all that was written is at the other side; before a snapshot.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TaskError>> {
        if self.ended {
            return Poll::Ready(Ok(()));
        }
        self.writer
            .poll_flush(cx, false)
            .map_err(|source| self.failed(source))
    }

    /// The writer's part of a checkpoint, once it is flushed.
    pub(crate) fn snapshot(&mut self, checkpoint_id: u64) -> Result<OperatorSnapshot, TaskError> {
        if !self.ended {
            self.prepare(checkpoint_id)?;
        }
        self.last_checkpoint = self.last_checkpoint.max(checkpoint_id);
        let states = self
            .writer
            .snapshot(checkpoint_id)
            .map_err(|source| self.failed(source))?;
        let mut lists = Vec::new();
        if !states.is_empty() {
            let distribution = self.writer.snapshot_distribution();
            let states = lists::states(lists::WRITER_STATE, &states, distribution);
            lists.push(states.map_err(|source| self.encode(source))?);
        }
        if !self.prepared.is_empty() {
            let prepared = lists::committables(&self.prepared_for, &self.prepared);
            lists.push(prepared.map_err(|source| self.encode(source))?);
        }
        Ok(OperatorSnapshot {
            tables: Vec::new(),
            lists,
        })
    }

    /// A checkpoint is complete: what was prepared up to it may be committed.
    pub(crate) fn checkpoint_completed(&mut self, checkpoint_id: u64) {
        self.completed = self.completed.max(checkpoint_id);
    }

    /// Nothing will complete a checkpoint any more: all that is prepared may be committed.
    pub(crate) fn commit_all(&mut self) {
        self.completed = u64::MAX;
    }

    /// Whether something is prepared and not committed.
    pub(crate) fn has_uncommitted(&self) -> bool {
        !self.prepared.is_empty()
    }

    /// Commits what may be; ready when all of it is.
    pub(crate) fn poll_commit(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TaskError>> {
        loop {
            if self.committing == 0 {
                self.committing = self.prepared_for.partition_point(|id| *id <= self.completed);
            }
            if self.committing == 0 {
                return Poll::Ready(Ok(()));
            }
            let commit = self.writer.poll_commit(cx, &self.prepared[..self.committing]);
            ready!(commit).map_err(|source| self.failed(source))?;
            self.prepared.drain(..self.committing);
            self.prepared_for.drain(..self.committing);
            self.committing = 0;
        }
    }

    fn encode(&self, source: arrow::error::ArrowError) -> TaskError {
        TaskError::EncodeState {
            operator: self.operator.clone(),
            source,
        }
    }

    fn failed(&self, source: ConnectorError) -> TaskError {
        TaskError::Connector {
            operator: self.operator.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests;
