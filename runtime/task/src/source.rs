//! The head of a chain that reads a connector.
//!
//! A bounded source's end is preceded by [`MAX_WATERMARK`], as in Flink, so that event-time operators finish; whatever
//! follows an idle stretch is preceded by the news that it is over.

use std::collections::VecDeque;
use std::task::{Context, Poll, ready};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use thalweg_connectors::{Gauge, SourceEvent, SourceReader};
use thalweg_types::{StreamBatch, WatermarkCut};

use crate::error::TaskError;
use crate::input::InputEvent;
use crate::watermark_valve::MAX_WATERMARK;

/// A reader as a chain's input.
pub(crate) struct SourceInput {
    operator: String,
    reader: Box<dyn SourceReader>,
    schema: SchemaRef,
    idle: bool,
    /// What the reader's last event still brings: three events at most.
    queued: VecDeque<InputEvent>,
}

impl SourceInput {
    pub(crate) fn new(operator: String, reader: Box<dyn SourceReader>, schema: SchemaRef) -> Self {
        Self {
            operator,
            reader,
            schema,
            idle: false,
            queued: VecDeque::new(),
        }
    }

    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<InputEvent, TaskError>> {
        loop {
            if let Some(event) = self.queued.pop_front() {
                return Poll::Ready(Ok(event));
            }
            let event = ready!(self.reader.poll_next(cx)).map_err(|source| TaskError::Connector {
                operator: self.operator.clone(),
                source,
            })?;
            self.take(event);
        }
    }

    pub(crate) fn gauges(&self) -> Vec<Gauge> {
        self.reader.gauges()
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
