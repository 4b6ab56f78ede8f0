//! The end of a chain that writes to a connector.
//!
//! ```text
//!   batch -> poll_ready -> write takes a part -> poll_ready -> write takes the rest -> next batch
//!   end   -> poll_flush(end of input) -> ended
//! ```

use std::task::{Context, Poll, ready};

use thalweg_connectors::{ConnectorError, Gauge, SinkWriter};
use thalweg_types::StreamBatch;

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
    records_sent: u64,
}

impl SinkBody {
    pub(crate) fn new(operator: String, writer: Box<dyn SinkWriter>) -> Self {
        Self {
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
        let committables = self
            .writer
            .prepare_commit()
            .map_err(|source| self.failed(source))?;
        if !committables.is_empty() {
            return Poll::Ready(Err(TaskError::CommitWithoutCheckpoint {
                operator: self.operator.clone(),
            }));
        }
        self.ending = false;
        Poll::Ready(Ok(SinkStep::Ended))
    }

    fn failed(&self, source: ConnectorError) -> TaskError {
        TaskError::Connector {
            operator: self.operator.clone(),
            source,
        }
    }
}
