//! The TaskManager: slots, worker processes, packages and their memory.
//!
//! ```text
//!   JobManager <--gRPC stream--> connection --\                       /--> package cache (bounded, by sha256)
//!                                              >-- actor (decisions) <
//!   worker process <--gRPC----> gateway ------/    slot table         \--> worker processes, watchdog
//!   Prometheus <--HTTP-- metrics (newest heartbeat of each worker)
//! ```
//!
//! A worker process runs one job's subtasks: user code never runs in the TaskManager's own process, so one
//! job's crash, leak or abort leaves the others alone. Invariants:
//!
//! - a slot belongs to at most one job; a job has at most one worker process here;
//! - a command of a lower epoch than one already seen is dropped;
//! - a leader that takes this TaskManager in knows all that runs here: the registration tells it, and what changed since follows;
//! - task states reach the JobManager in the order in which the worker reported them;
//! - a worker whose TaskManager is gone ends itself, a TaskManager that is without a JobManager for too long (the heartbeat
//!   time-out, longer where a standby may take over) stops its workers.

mod actor;
mod config;
mod connection;
mod error;
mod gateway;
mod http;
mod launcher;
mod leader;
mod local_state;
mod memory;
mod metrics;
mod package_cache;
mod slots;
mod task_manager;
mod worker;

pub use config::{TaskManagerConfig, WorkerOutput};
pub use error::TaskManagerError;
pub use memory::MemoryBudget;
pub use task_manager::{TaskManager, TaskManagerHandle};
