//! One edge that leaves the chain.
//!
//! ```text
//!   batch -> [KeySelector -> key columns -> key hash, once a batch] -> RecordWriter -> subpartitions
//! ```
//!
//! Invariant: a batch is written only after [`Output::poll_ready`] said ready, so a channel overdraws by one batch at most.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, UInt64Array};
use thalweg_exchange::{ChannelWriter, RecordWriter};
use thalweg_operators::KeySelector;
use thalweg_types::{StreamBatch, StreamElement, key_hash};

use crate::error::TaskError;

/// How soon rows that are due are tried again if their channel had no credit; that channel's credit wakes the task earlier.
const FLUSH_RETRY: Duration = Duration::from_millis(10);

/// A writer and, on a keyed edge, what finds the key.
pub(crate) struct Output {
    /// The name of the operator before it.
    operator: String,
    writer: RecordWriter,
    key: Option<Arc<dyn KeySelector>>,
    ended: bool,
}

impl Output {
    pub(crate) fn new(operator: String, writer: RecordWriter, key: Option<Arc<dyn KeySelector>>) -> Self {
        Self {
            operator,
            writer,
            key,
            ended: false,
        }
    }

    /// Whether the channels that the next batch may go to have credit.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TaskError>> {
        if self.ended {
            return Poll::Ready(Ok(()));
        }
        self.writer.poll_ready(cx).map_err(TaskError::from)
    }

    pub(crate) fn write(&mut self, batch: StreamBatch) -> Result<(), TaskError> {
        let batch = match &self.key {
            Some(key) => self.with_key_hashes(key.as_ref(), batch)?,
            // Hashes of an earlier key mean nothing behind this edge.
            None => StreamBatch {
                key_hashes: None,
                ..batch
            },
        };
        Ok(self.writer.write(batch)?)
    }

    /// Puts a control element on every channel, behind the rows before it.
    pub(crate) fn broadcast(&mut self, element: &StreamElement) -> Result<(), TaskError> {
        self.ended |= matches!(element, StreamElement::EndOfInput);
        Ok(self.writer.broadcast_element(element)?)
    }

    /// Sends rows that have waited for the buffer timeout; says when to come again.
    pub(crate) fn flush_due(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Result<Option<Instant>, TaskError> {
        if self.ended {
            return Ok(None);
        }
        Ok(match self.writer.poll_flush_due(cx, now)? {
            Poll::Ready(()) => self.writer.flush_deadline(),
            Poll::Pending => Some(now + FLUSH_RETRY),
        })
    }

    /// Bytes handed to the channels so far.
    pub(crate) fn bytes_out(&self) -> u64 {
        self.writer.channels().iter().map(ChannelWriter::bytes_out).sum()
    }

    fn with_key_hashes(&self, key: &dyn KeySelector, batch: StreamBatch) -> Result<StreamBatch, TaskError> {
        let (rows, indices) = key.select(batch.rows)?;
        let columns: Vec<ArrayRef> = indices.iter().map(|&index| rows.column(index).clone()).collect();
        let mut hashes = Vec::with_capacity(rows.num_rows());
        key_hash::hash_rows(&columns, &mut hashes).map_err(|source| TaskError::HashKey {
            operator: self.operator.clone(),
            source,
        })?;
        Ok(StreamBatch {
            rows,
            key_hashes: Some(UInt64Array::from(hashes)),
            ..batch
        })
    }
}
