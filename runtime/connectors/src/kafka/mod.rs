//! Kafka source over librdkafka and sink with a producer of its own, with the builders, offsets, split assignment and names of Flink's connector.
//!
//! ```text
//!   brokers -> librdkafka -> fetcher (thread): columns, watermarks -> bounded queue -> reader (task)
//!   writer (task): record batches, bounded -> driver (I/O runtime) -> brokers;  acknowledgements -> writer
//! ```

mod client;
mod config;
mod duties;
mod fetcher;
mod native;
mod offsets;
mod producer;
mod reader;
mod rows;
mod sink;
mod source;
mod split;
mod state;
mod writer;

pub use offsets::{OffsetReset, OffsetsInitializer};
pub use producer::transaction::ExpiredTransaction;
pub use reader::KafkaSourceReader;
pub use rows::{BytesFormat, MetadataColumn, NO_TIMESTAMP, Tombstones};
pub use sink::{DeliveryGuarantee, KafkaSink, KafkaSinkBuilder};
pub use source::{KafkaSource, KafkaSourceBuilder};
pub use split::{EARLIEST_OFFSET, PartitionOffset, TopicPartition, split_owner};
