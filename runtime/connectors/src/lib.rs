//! Sources and sinks.
//!
//! ```text
//!   broker/files --I/O on the shared runtime--> bounded queue --poll_next--> task thread
//!   task thread --write--> client's bounded buffer --I/O--> broker/files;  poll_ready = room, poll_flush = all is out
//! ```
//!
//! Readers and writers are polled by their task's thread; they wake it by the `Waker` of the given context and
//! never block it.

mod blackhole;
mod collection;
mod columns;
mod connector;
mod datagen;
mod file;
mod java_text;
pub mod kafka;
mod print;
mod queue;
mod ranges;
mod split_state;
pub mod table;
#[cfg(test)]
mod testing;
mod watermark;

pub use blackhole::BlackholeSink;
pub use collection::CollectionSource;
pub use connector::{
    AttemptOrder, Committable, ConnectorContext, ConnectorError, Gauge, RestoredConnector, Sink, SinkWriter,
    Source, SourceEvent, SourceReader, StateDistribution,
};
pub use datagen::{DatagenSource, GeneratorFunction};
#[cfg(feature = "parquet")]
pub use file::ParquetFormat;
pub use file::{
    BucketAssigner, BucketRow, BulkFormat, BulkWriter, DEFAULT_MAX_LINE_BYTES, FileSink, FileSinkBuilder,
    FileSource, OutputFileConfig, RollingPolicy,
};
pub use kafka::{KafkaSink, KafkaSource};
pub use print::{PrintFormat, PrintSink, PrintTarget};
pub use watermark::{WatermarkAlignment, WatermarkStrategy};
