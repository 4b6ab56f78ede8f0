//! What every crate of the engine shares: ids, stream elements, failures, the key hash, key groups, configuration keys.
//!
//! Nothing here does I/O or knows a protocol.

pub mod config;
mod data_bytes;
pub mod element;
pub mod failure;
pub mod id;
pub mod key_group;
pub mod key_hash;
pub mod record;
pub mod window_hash;

pub use element::{StreamBatch, StreamElement, WatermarkCut};
pub use failure::{Classify, Failure, FailureClass};
pub use id::{ExecutionId, JobId, OperatorId, TaskManagerId, VertexId};
pub use key_group::KeyGroupRange;
