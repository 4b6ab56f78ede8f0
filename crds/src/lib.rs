//! The custom resources of Thalweg: group `thalweg.dev`, version `v1alpha1`.
//!
//! ```text
//!   FlinkApplication   one job with a JobManager and TaskManagers of its own
//!   FlinkSession       a long-running JobManager and TaskManagers that many jobs share
//!   FlinkSessionJob    one job in a FlinkSession
//!   FlinkStateSnapshot one savepoint or checkpoint of a job
//!
//!   application, session, session_job, snapshot   the kinds: spec, printer columns, scale
//!   cluster, job                        the parts of a spec that kinds share
//!   configuration, memory               how values of a spec are read (flattening, sizes)
//!   status, job_snapshots               what the operator reports
//!   generate                            the CustomResourceDefinitions, as YAML
//! ```
//!
//! Field names are those of the official operator's FlinkDeployment wherever the meaning is the same. What CEL
//! can say is checked by the API server; the rest (pod templates, configuration) by the operator.
//! `crds/*.yaml` and the chart's copies are written by the `crdgen` binary and never edited.

// kube's attributes repeat: one `printcolumn(name, type_, ...)` a column.
#![allow(clippy::duplicated_attributes)]

pub mod application;
pub mod cluster;
pub mod configuration;
pub mod generate;
pub mod job;
pub mod job_snapshots;
pub mod memory;
mod schema;
pub mod session;
pub mod session_job;
pub mod snapshot;
pub mod status;

pub use application::{FlinkApplication, FlinkApplicationSpec};
pub use cluster::{ClusterFields, ImagePullPolicy, IngressSpec, ProcessSpec, Resource};
pub use job::{JobSpec, JobStateSpec, Package, SQL_MAX_LENGTH, UpgradeMode};
pub use job_snapshots::{PendingSnapshot, RequestedSnapshots, Savepoint, SavepointInfo};
pub use session::{FlinkSession, FlinkSessionSpec};
pub use session_job::{FlinkSessionJob, FlinkSessionJobSpec};
pub use snapshot::{
    CheckpointSpec, FlinkStateSnapshot, FlinkStateSnapshotSpec, JobKind, JobReference, SavepointFormatType,
    SavepointSpec, SnapshotState, SnapshotTriggerType, SnapshotType, StateSnapshotStatus,
};
pub use status::{
    CheckpointStatus, ClaimMode, ClusterStatus, JobManagerDeploymentStatus, JobManagerStatus, JobSlotStatus,
    JobState, JobStatus, LifecycleState, RecoveryStatus, SessionJobStatus, SlotStatus, TaskManagerStatus,
};

/// API group of every kind.
pub const GROUP: &str = "thalweg.dev";
/// API version of every kind.
pub const VERSION: &str = "v1alpha1";

/// Longest name of a FlinkApplication or FlinkSession, as in Flink's operator: `<name>-taskmanager-` and five
/// characters make 63, the longest label of a DNS name.
pub const NAME_MAX_LENGTH: usize = 45;
/// Largest parallelism, Flink's upper bound of max parallelism.
pub const PARALLELISM_MAX: i32 = 32_768;
/// Most TaskManagers of one cluster: pods of one list answer, far beyond what one JobManager is meant for.
pub const REPLICAS_MAX: i32 = 4096;
