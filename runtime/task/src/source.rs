//! The head of a chain that reads a connector.
//!
//! A bounded source's end is preceded by [`MAX_WATERMARK`], as in Flink, so that event-time operators finish; whatever
//! follows an idle stretch is preceded by the news that it is over. A barrier goes in behind all that the reader's last event
//! brought: there the reader's state is asked for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use thalweg_connectors::{ConnectorError, Gauge, SourceEvent, SourceReader};
use thalweg_types::{StreamBatch, WatermarkCut};

use crate::checkpoint::barrier::AlignedBarrier;
use crate::error::TaskError;
use crate::input::InputEvent;
use crate::panics::{self, Stage};
use crate::watermark_valve::MAX_WATERMARK;

/// A reader as a chain's input.
pub(crate) struct SourceInput {
    operator: Arc<str>,
    reader: Box<dyn SourceReader>,
    schema: SchemaRef,
    idle: bool,
    ended: bool,
    /// Watermark alignment: it is ahead of others, its reader is not asked.
    paused: bool,
    /// What the reader's last event still brings: three events at most.
    queued: VecDeque<InputEvent>,
    /// Barriers that wait for what is queued; the mailbox bounds them.
    barriers: VecDeque<AlignedBarrier>,
    last_barrier: u64,
}

impl SourceInput {
    pub(crate) fn new(operator: Arc<str>, reader: Box<dyn SourceReader>, schema: SchemaRef) -> Self {
        Self {
            operator,
            reader,
            schema,
            idle: false,
            ended: false,
            paused: false,
            queued: VecDeque::new(),
            barriers: VecDeque::new(),
            last_barrier: 0,
        }
    }

    /// Puts a barrier behind what the reader has given; with "drain" behind the last watermark.
    pub(crate) fn trigger(&mut self, barrier: AlignedBarrier) {
        if barrier.barrier.id > self.last_barrier {
            self.last_barrier = barrier.barrier.id;
            self.barriers.push_back(barrier);
        }
    }

    /// The next barrier, if nothing has to go before it.
    pub(crate) fn take_barrier(&mut self) -> Option<AlignedBarrier> {
        let next = self.barriers.front().filter(|_| self.queued.is_empty())?;
        if next.barrier.options.drain {
            return None;
        }
        self.barriers.pop_front()
    }

    /// Whether a barrier waits that room must not hold up.
    pub(crate) fn has_urgent(&self) -> bool {
        self.barriers.front().is_some_and(|next| {
            let options = &next.barrier.options;
            !options.drain && (options.unaligned || options.alignment_timeout_ms > 0)
        })
    }

    /// Whether something is there that does not need the reader.
    pub(crate) fn has_queued(&self) -> bool {
        !self.queued.is_empty() || !self.barriers.is_empty()
    }

    /// A checkpoint was given up: its barrier need not go in.
    pub(crate) fn abort(&mut self, checkpoint_id: u64) {
        self.barriers
            .retain(|barrier| barrier.barrier.id != checkpoint_id);
        self.queued.retain(|event| !event.is_of_checkpoint(checkpoint_id));
    }

    /// The reader's splits, when nothing is queued.
    pub(crate) fn snapshot(&mut self, checkpoint_id: u64) -> Result<Vec<Vec<u8>>, TaskError> {
        let states = self.reader.snapshot(checkpoint_id);
        states.map_err(|source| self.failed(source))
    }

    pub(crate) fn on_checkpoint_end(&mut self, checkpoint_id: u64, completed: bool) -> Result<(), TaskError> {
        let noted = self.reader.on_checkpoint_end(checkpoint_id, completed);
        noted.map_err(|source| self.failed(source))
    }

    pub(crate) fn awaits_checkpoint(&self) -> bool {
        self.reader.awaits_checkpoint()
    }

    pub(crate) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.reader.poll_close(cx)
    }

    fn failed(&self, source: ConnectorError) -> TaskError {
        TaskError::Connector {
            operator: self.operator.to_string(),
            source,
        }
    }

    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<InputEvent, TaskError>> {
        loop {
            if let Some(event) = self.queued.pop_front() {
                return Poll::Ready(Ok(event));
            }
            if let Some(barrier) = self.barriers.pop_front() {
                return Poll::Ready(Ok(self.put_in(barrier)));
            }
            if self.ended || self.paused {
                return Poll::Pending;
            }
            panics::enter(Stage::Running, &self.operator);
            let event = ready!(self.reader.poll_next(cx)).map_err(|source| self.failed(source))?;
            self.take(event);
        }
    }

    /// Watermark alignment: asks the reader no more, or again.
    pub(crate) fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Watermark alignment split by split; see [`SourceReader::align_splits`].
    pub(crate) fn align_splits(&mut self, max_watermark_ms: i64) -> bool {
        self.reader.align_splits(max_watermark_ms)
    }

    /// Where the rows of the reader's last event came from.
    pub(crate) fn position(&self) -> Option<String> {
        self.reader.position()
    }

    pub(crate) fn gauges(&self) -> Vec<Gauge> {
        self.reader.gauges()
    }

    fn put_in(&mut self, barrier: AlignedBarrier) -> InputEvent {
        let options = &barrier.barrier.options;
        if !(options.terminate && options.drain) || self.ended {
            return InputEvent::Barrier(barrier);
        }
        self.queued.push_back(InputEvent::Barrier(barrier));
        let batch = watermark_only(&self.schema, MAX_WATERMARK);
        InputEvent::Batch { input: 0, batch }
    }

    fn take(&mut self, event: SourceEvent) {
        let idle = matches!(event, SourceEvent::Idle);
        if idle != self.idle {
            self.idle = idle;
            self.queued.push_back(InputEvent::Idle(idle));
        }
        match event {
            SourceEvent::Idle => {}
            SourceEvent::Batch(batch) => self.queued.push_back(InputEvent::Batch { input: 0, batch }),
            SourceEvent::EndOfInput => {
                self.ended = true;
                let batch = watermark_only(&self.schema, MAX_WATERMARK);
                self.queued.push_back(InputEvent::Batch { input: 0, batch });
                self.queued.push_back(InputEvent::End { input: 0 });
            }
        }
    }
}

/// A batch that carries a watermark and no row.
pub(crate) fn watermark_only(schema: &SchemaRef, timestamp_ms: i64) -> StreamBatch {
    let mut batch = StreamBatch::new(RecordBatch::new_empty(schema.clone()));
    batch.watermarks.push(WatermarkCut { row: 0, timestamp_ms });
    batch
}
