//! What a JobManager is told when it starts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use thalweg_types::config::{ConfigError, Configuration, options};

use crate::resource_manager::LoadBalance;

/// The settings of one JobManager.
#[derive(Debug, Clone)]
pub struct JobManagerConfig {
    /// Flink's keys. It is checked at start: unknown keys and malformed values are errors.
    pub configuration: Configuration,
    /// Where the gRPC services are bound (6123); port 0 = any free one.
    pub rpc_bind: SocketAddr,
    /// Where REST is bound (8081).
    pub rest_bind: SocketAddr,
    /// Where Prometheus scrapes (9249).
    pub metrics_bind: SocketAddr,
    /// The host at which others reach this JobManager's ports; high availability needs it. `None` = `jobmanager.rpc.address`.
    pub advertised_host: Option<String>,
    /// For packages and uploads; made if it is missing, its `packages` folder is emptied.
    pub data_directory: PathBuf,
    /// For sockets and other short-lived files; a short path (`/tmp`).
    pub temp_directory: PathBuf,
    /// The `host` label of metrics: the pod's name or the machine's.
    pub host: String,
    /// The application to run at start; none in a session.
    pub application: Option<Application>,
    /// Where checkpoints go of a job that sets no `execution.checkpointing.dir`. Only where this process and the job's workers
    /// share a disk: else such a job is refused.
    pub default_checkpoint_directory: Option<PathBuf>,
}

/// A job that a JobManager runs at start.
#[derive(Debug, Clone, Default)]
pub struct Application {
    /// `local://`, `file://`, `s3://`, `https://` or a path.
    pub package_uri: String,
    /// Of the payload at the uri, in hex; may be empty except for `http(s)://`.
    pub package_sha256: String,
    /// Of its program; empty = as the package says.
    pub arguments: Vec<String>,
    /// 0 = as configured.
    pub parallelism: u32,
    /// Empty = as the program says.
    pub job_name: String,
    /// Of the operator that started it; empty = none.
    pub operation_id: String,
}

/// The values that the JobManager reads from its configuration, read once.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) heartbeat_interval: Duration,
    pub(crate) heartbeat_timeout: Duration,
    pub(crate) cancellation_timeout: Duration,
    pub(crate) worker_start_timeout: Duration,
    pub(crate) reconciliation_timeout: Duration,
    pub(crate) extraction_timeout: Duration,
    pub(crate) extraction_memory: u64,
    pub(crate) max_package_bytes: u64,
    pub(crate) max_rest_body_bytes: u64,
    pub(crate) web_submit: bool,
    pub(crate) web_cancel: bool,
    pub(crate) refresh_interval: Duration,
    pub(crate) finished_jobs: usize,
    pub(crate) finished_expiration: Duration,
    pub(crate) load_balance: LoadBalance,
}

impl Settings {
    pub(crate) fn read(configuration: &Configuration) -> Result<Self, ConfigError> {
        let load_balance = match configuration.get_raw("taskmanager.load-balance.mode") {
            Some(mode) if mode.eq_ignore_ascii_case("slots") || mode.eq_ignore_ascii_case("tasks") => {
                LoadBalance::Slots
            }
            _ => LoadBalance::None,
        };
        Ok(Self {
            heartbeat_interval: configuration.get(&options::HEARTBEAT_INTERVAL)?,
            heartbeat_timeout: configuration.get(&options::HEARTBEAT_TIMEOUT)?,
            cancellation_timeout: configuration.get(&options::TASK_CANCELLATION_TIMEOUT)?,
            worker_start_timeout: configuration.get(&options::WORKER_START_TIMEOUT)?,
            reconciliation_timeout: configuration.get(&options::RECONCILIATION_TIMEOUT)?,
            extraction_timeout: configuration.get(&options::EXTRACTION_TIMEOUT)?,
            extraction_memory: configuration.get(&options::EXTRACTION_MEMORY)?.0,
            max_package_bytes: configuration.get(&options::PACKAGE_MAX_SIZE)?.0,
            max_rest_body_bytes: configuration.get(&options::REST_MAX_CONTENT_LENGTH)?,
            web_submit: configuration.get(&options::WEB_SUBMIT_ENABLE)?,
            web_cancel: configuration.get(&options::WEB_CANCEL_ENABLE)?,
            refresh_interval: configuration.get(&options::WEB_REFRESH_INTERVAL)?,
            finished_jobs: configuration.get(&options::JOB_STORE_MAX_CAPACITY)? as usize,
            finished_expiration: configuration.get(&options::JOB_STORE_EXPIRATION)?,
            load_balance,
        })
    }
}
