//! The JobManager: Dispatcher, ResourceManager, one JobMaster a job, REST and metrics.
//!
//! ```text
//!   package uri --package--> Package --extraction--> StreamGraph --graph--> JobGraph
//!                                                                             |
//!   REST, cluster.v1 ---------> control_plane (one task, bounded mailbox) <---'
//!   TaskManagers: control.v1 -> |  Dispatcher: jobs by id        |
//!                               |  ResourceManager: slots        | --> commands to TaskManagers
//!                               |  JobMaster: ExecutionGraph     | --> status: WatchCluster, REST, metrics
//! ```
//!
//! [`JobManager::start`] serves both as a process of its own and inside `thalweg run`. Invariants:
//!
//! - every decision is made by pure code in one task ([`dispatcher`], [`job_master`], [`resource_manager`]) from events and a
//!   time that is handed in; what waits for a disk, a network or a program runs elsewhere and comes back as an event;
//! - every command carries the leader's epoch; a message of another epoch is refused;
//! - nothing that a package does can end this process: user code runs in a process of its own.

mod config;
mod control_plane;
mod dispatcher;
mod error;
pub mod extraction;
mod failure;
pub mod high_availability;
mod job_manager;
mod job_master;
mod metrics;
pub mod package;
mod resource_manager;
mod rest;
mod rpc;
#[doc(hidden)]
pub mod simulation;
pub mod snapshot;
mod storage_work;
#[cfg(test)]
mod testing;

pub use config::{Application, JobManagerConfig};
pub use dispatcher::{JobRequest, RestoreRequest};
pub use error::{JobManagerError, ShuttingDown};
pub use extraction::{ExtractedJob, ExtractionError, ExtractionOptions, extract, script_session};
pub use job_manager::{JobManager, JobManagerHandle};
