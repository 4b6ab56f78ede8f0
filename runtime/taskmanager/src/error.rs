//! Why a TaskManager can't start or go on.

use thalweg_types::config::ConfigError;
use thalweg_types::{Classify, FailureClass};

/// Errors of the TaskManager process itself; those of a job travel as `Failure`.
#[derive(Debug, thiserror::Error)]
pub enum TaskManagerError {
    /// An option is malformed.
    #[error(transparent)]
    Configuration(#[from] ConfigError),
    /// The memory does not suffice for the slots.
    #[error(
        "taskmanager.memory.process.size is {process} bytes: {slots} slot(s) would get {slot} bytes each, {minimum} are the least; \
         raise it to {needed} bytes or lower taskmanager.numberOfTaskSlots"
    )]
    MemoryTooSmall {
        /// The process's memory.
        process: u64,
        /// Number of slots.
        slots: u32,
        /// What one would get.
        slot: u64,
        /// What one needs.
        minimum: u64,
        /// What the process needs.
        needed: u64,
    },
    /// A port can't be bound.
    #[error("{what} can't listen on {address}")]
    Bind {
        /// Which server.
        what: &'static str,
        /// Where.
        address: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The folder for packages can't be made.
    #[error("the folder {path} for job packages can't be made")]
    DataDirectory {
        /// Which folder.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A folder for copies of state files can't be made.
    #[error(
        "the folder {path} for local copies of state files can't be made (execution.checkpointing.local-backup.dirs, \
         process.taskmanager.working-dir)"
    )]
    LocalState {
        /// Which folder.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The JobManager's address can't be parsed.
    #[error(
        "jobmanager.rpc.address {address:?} is no host name or address, nor a list of them with commas between"
    )]
    JobManagerAddress {
        /// What was given.
        address: String,
    },
    /// The JobManager refuses this TaskManager for good.
    #[error("the JobManager at {address} refuses this TaskManager: {reason}")]
    Refused {
        /// Which JobManager.
        address: String,
        /// Why.
        reason: String,
    },
}

impl Classify for TaskManagerError {
    fn class(&self) -> FailureClass {
        FailureClass::Fatal
    }
}
