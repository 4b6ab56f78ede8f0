//! Formats whose files can't go on behind a checkpoint: a part is one run of a writer, from begin to end. Flink's bulk formats.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::ConnectorError;

/// Makes the writer of each part. Flink's BulkWriter.Factory.
pub trait BulkFormat: std::fmt::Debug + Send + Sync + 'static {
    /// Checks the rows that will come, when the graph is built.
    fn validate(&self, rows: &SchemaRef) -> Result<(), ConnectorError>;
    /// For one part.
    fn create(&self, rows: &SchemaRef) -> Result<Box<dyn BulkWriter>, ConnectorError>;
}

/// Turns rows into the bytes of one file. Called on the task's thread.
pub trait BulkWriter: Send {
    /// Takes rows; appends what bytes have become final.
    fn write(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ConnectorError>;
    /// Bytes that it holds back in memory, about.
    fn buffered(&self) -> usize;
    /// Appends the rest of the file.
    fn finish(self: Box<Self>, out: &mut Vec<u8>) -> Result<(), ConnectorError>;
}
