//! The task: what runs operators. Linked by TaskManagers and, through the api, by every native job's worker process.
//!
//! ```text
//!   JobProgram (graph + code)    TaskDeployment (one subtask)
//!              \                  /
//!               TaskExecutor: plan -> thread: read state -> assemble -> Task loop -> TaskEvent
//!                                                |
//!            SourceInput | GateInput -> Chain: Node -> Node -> SinkBody
//!                                                  \-> Output -> RecordWriter
//! ```
//!
//! Invariants: one thread a task, and nothing else touches its operators; a task holds two batches a node at most; it wakes
//! for events, never for a row.

mod alignment;
mod assemble;
mod chain;
mod checkpoint;
mod clock;
mod disk_state;
mod error;
mod executor;
mod input;
mod mailbox;
mod metrics;
mod output;
mod panics;
mod parker;
mod plan;
mod program;
mod sink;
mod source;
mod task;
#[cfg(test)]
mod testkit;
pub mod watermark_valve;
pub mod worker;

pub use checkpoint::local::LocalStateSettings;
pub use clock::Clock;
pub use error::TaskError;
pub use executor::{ExecutorSettings, TaskEvent, TaskExecutor, TaskReport};
pub use plan::execution_id;
pub use program::{JobProgram, NodeFactory, OperatorFactory};
