//! What a TaskManager is told when it starts.

use std::net::SocketAddr;
use std::path::PathBuf;

use thalweg_types::TaskManagerId;
use thalweg_types::config::Configuration;

/// The settings of one TaskManager.
#[derive(Debug, Clone)]
pub struct TaskManagerConfig {
    /// Flink's keys.
    pub configuration: Configuration,
    /// Its name: unique in the cluster, the pod's name on Kubernetes.
    pub id: TaskManagerId,
    /// The address at which other TaskManagers' workers reach its workers' data ports.
    pub host: String,
    /// Where its workers' data ports are bound.
    pub data_bind: std::net::IpAddr,
    /// `host:port` of the JobManager; several with commas between, or a name with several addresses, if they elect a leader.
    pub job_manager: String,
    /// Where metrics are served; port 0 = any free one.
    pub metrics_bind: SocketAddr,
    /// For unpacked packages; made if it is missing.
    pub data_directory: PathBuf,
    /// What becomes of what workers print.
    pub worker_output: WorkerOutput,
}

/// What becomes of what worker processes print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerOutput {
    /// Line by line into the log.
    Log,
    /// Standard output and error of this process: `thalweg run`.
    Terminal,
}
