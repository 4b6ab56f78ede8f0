//! The checkpoint protocol without I/O: when snapshots are taken, of whom, when they are complete, what of them is
//! deleted, and what each task starts with when one is restored.
//!
//! ```text
//!   tasks' states, acknowledgements --Event--> CheckpointCoordinator --Action--> triggers, notifications to tasks
//!   requests, the clock, storage's answers          |        |                   metadata, deletions to storage
//!                                              SharedFiles  CheckpointStats
//!   _metadata --metadata::decode--> SnapshotMetadata --restore::assign--> TaskRestore of every task
//! ```
//!
//! Everything here is a function of what it is given, the time included; the JobMaster is the shell around it.

pub mod config;
pub mod coordinator;
pub mod metadata;
pub mod restore;
pub mod shared_files;
pub mod stats;

pub use config::CheckpointConfig;
pub use coordinator::{
    Action, CheckpointCoordinator, CompletedCheckpoint, CoordinatorSetup, Event, JobEnd, POINTER_FILE,
    RestoredFrom, SnapshotRequest, SnapshotTarget, Takeover, leftovers,
};
pub use restore::{AdoptError, Assignment, RestoreError, RestoreSource, adopt_max_parallelism, assign};
pub use shared_files::SharedFiles;
pub use stats::{CheckpointCounts, CheckpointRecord, CheckpointStats, CheckpointStatus};
