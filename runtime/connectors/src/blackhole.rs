//! The blackhole sink: takes rows and forgets them; Flink's `DiscardingSink` and `blackhole` table.

use std::task::{Context, Poll};

use arrow::datatypes::SchemaRef;
use thalweg_types::StreamBatch;

use crate::{ConnectorContext, ConnectorError, Gauge, Sink, SinkWriter};

/// Takes rows and forgets them.
#[derive(Debug, Clone, Copy, Default)]
pub struct BlackholeSink;

struct BlackholeWriter {
    rows: u64,
}

impl Sink for BlackholeSink {
    fn kind(&self) -> &'static str {
        "BlackholeSink"
    }

    fn validate(&self, _input: &SchemaRef) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn create_writer(&self, _context: ConnectorContext) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        Ok(Box::new(BlackholeWriter { rows: 0 }))
    }
}

impl SinkWriter for BlackholeWriter {
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), ConnectorError>> {
        Poll::Ready(Ok(()))
    }

    fn write(&mut self, batch: &StreamBatch) -> Result<usize, ConnectorError> {
        self.rows += batch.num_rows() as u64;
        Ok(batch.num_rows())
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>, _end_of_input: bool) -> Poll<Result<(), ConnectorError>> {
        Poll::Ready(Ok(()))
    }

    fn gauges(&self) -> Vec<Gauge> {
        vec![("numRecordsSend", self.rows as f64)]
    }
}
