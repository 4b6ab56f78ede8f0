//! The Kafka producer: Arrow columns to record batches, and these to brokers, without an allocation a record.
//!
//! ```text
//!   task thread                                  |  I/O: one task a writer
//!   rows -> partition -> accumulator (batches) --+-> sender (what is next) -> connection -> brokers
//!             (murmur2)      <-- room, errors ---+-- sender (what it means) <- connection <- answers
//! ```
//!
//! `partition`, `record_batch`, `compression`, `accumulator`, `sender`, `transaction`, `outcome`, `metadata`, `config` and `failure` are pure;
//! `handover` is the lock between both sides, `connection` the network, `coordinator` the questions about transactions, `driver`
//! the loop over all.
//!
//! With acks=all and idempotence (both the default) a batch that was acknowledged is in the log once, in its place; after a
//! failure of the job rows come again: at least once; in transactions they are seen once. docs/rfcs/0001-kafka-producer.md tells why it is not librdkafka's.

pub(crate) mod accumulator;
mod compression;
pub(crate) mod config;
mod connection;
mod coordinator;
pub(crate) mod driver;
pub(crate) mod failure;
pub(crate) mod handover;
mod metadata;
mod outcome;
pub(crate) mod partition;
pub(crate) mod record_batch;
mod sender;
pub(crate) mod transaction;
