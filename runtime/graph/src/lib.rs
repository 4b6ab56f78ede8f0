//! What a job is and how it runs, as pure data and functions over `thalweg.graph.v1`.
//!
//! ```text
//!   StreamGraph --assign_operator_ids, validate--> StreamGraph --job_graph--> JobGraph --ExecutionGraph::new--> tasks
//!    (main)          uid -> operator id                      chaining                     slots, channels, failover
//!                    fingerprint, first_difference           slot sharing
//! ```
//!
//! Rules are Flink's (StreamingJobGraphGenerator, EdgeManagerBuildUtil, DefaultScheduler); nothing here does I/O.

mod alignment;
mod chaining;
mod channels;
pub mod execution;
mod fingerprint;
mod job_graph;
mod operator_id;
mod region;
mod slot_sharing;
mod validate;

use thalweg_types::config::ConfigError;
use thalweg_types::id::ParseIdError;
use thalweg_types::{Classify, FailureClass};

pub use alignment::{AlignedVertex, WatermarkGroups, watermark_alignment};
pub use chaining::{ChainBreak, ChainingRules, chain_break};
pub use channels::{channels_into, channels_out};
pub use execution::ExecutionGraph;
pub use fingerprint::{fingerprint, first_difference};
pub use job_graph::{effective_configuration, job_graph};
pub use operator_id::{assign_operator_ids, operator_id_of_uid};
pub use region::{Region, pipelined_regions};
pub use slot_sharing::{DEFAULT_SLOT_SHARING_GROUP, SharedSlot, required_slots, slot_assignment};
pub use validate::validate;

/// Version of the graphs that this code reads and writes.
pub const FORMAT_VERSION: u32 = 1;

/// Why a graph is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// Written by a newer engine.
    #[error(
        "the graph has format version {found}, this engine reads {FORMAT_VERSION}: build the package against this version"
    )]
    FormatVersion {
        /// What it says.
        found: u32,
    },
    /// Nothing to run.
    #[error("the job has no operators: add a source and a sink before execute()")]
    Empty,
    /// More than the engine bears.
    #[error("the job has {count} {what}, at most {most} are allowed")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// The limit.
        most: usize,
    },
    /// The lists don't fit together.
    #[error("malformed graph: {0}")]
    Malformed(String),
    /// Two operators with one uid: their state could not be told apart.
    #[error("operators {first:?} and {second:?} have the same uid {uid:?}: give each its own")]
    DuplicateUid {
        /// The uid.
        uid: String,
        /// The earlier one.
        first: String,
        /// The later one.
        second: String,
    },
    /// More subtasks than key groups.
    #[error("operator {operator:?} has parallelism {parallelism}, its max parallelism is {max_parallelism}")]
    AboveMaxParallelism {
        /// The operator's name.
        operator: String,
        /// What is wanted.
        parallelism: u32,
        /// What is allowed.
        max_parallelism: u32,
    },
    /// FORWARD needs as many subtasks on both sides.
    #[error(
        "forward from {from:?} (parallelism {from_parallelism}) to {to:?} (parallelism {to_parallelism}) needs equal \
         parallelisms: set them, or use rebalance() or rescale()"
    )]
    ForwardParallelism {
        /// The producer's name.
        from: String,
        /// Its parallelism.
        from_parallelism: u32,
        /// The consumer's name.
        to: String,
        /// Its parallelism.
        to_parallelism: u32,
    },
    /// A configuration value is no good.
    #[error(transparent)]
    Configuration(#[from] ConfigError),
    /// An id is none.
    #[error(transparent)]
    Id(#[from] ParseIdError),
}

impl Classify for GraphError {
    fn class(&self) -> FailureClass {
        FailureClass::Fatal
    }
}

#[cfg(test)]
mod test_graphs;
