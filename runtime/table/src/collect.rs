//! The sink of a query without INSERT: its rows go to whoever asked, in this process.
//!
//! ```text
//!   SELECT's operators --CollectWriter, one a subtask--> Collector: the console, a test
//! ```
//!
//! Such a job has no other process and no checkpoint: a plan with this sink is run by [`crate::LocalRun`] only.

use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::datatypes::SchemaRef;
use thalweg_connectors::{ConnectorContext, ConnectorError, Gauge, Sink, SinkWriter};
use thalweg_types::StreamBatch;

/// The connector that the planner gives a query's rows to.
pub const CONNECTOR: &str = "thalweg-collect";

/// Takes a query's rows as they come; from several subtasks at once.
pub trait Collector: Send + Sync {
    /// Takes a batch. An error fails the job.
    fn collect(&self, batch: &StreamBatch) -> Result<(), ConnectorError>;
}

/// Hands rows to a [`Collector`].
pub(crate) struct CollectSink(pub(crate) Arc<dyn Collector>);

struct CollectWriter {
    collector: Arc<dyn Collector>,
    rows: u64,
}

impl Sink for CollectSink {
    fn kind(&self) -> &'static str {
        "CollectSink"
    }

    fn validate(&self, _input: &SchemaRef) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn create_writer(&self, _context: ConnectorContext) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        Ok(Box::new(CollectWriter {
            collector: Arc::clone(&self.0),
            rows: 0,
        }))
    }
}

impl SinkWriter for CollectWriter {
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), ConnectorError>> {
        Poll::Ready(Ok(()))
    }

    fn write(&mut self, batch: &StreamBatch) -> Result<usize, ConnectorError> {
        self.collector.collect(batch)?;
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
