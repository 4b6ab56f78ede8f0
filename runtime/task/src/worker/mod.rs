//! The worker process: a job's own program, started by a TaskManager to run that job's tasks.
//!
//! ```text
//!   TaskManager ==ConnectWorker (loopback gRPC)== gateway.rs --deploy, cancel--> TaskExecutor --> task threads
//!                  <-- hello, states, heartbeats --                                   |
//!   other workers ==============exchange=========================================== data port
//! ```
//!
//! A worker lives no longer than the TaskManager that started it: when the gateway's connection ends, [`run`] cancels
//! the tasks and returns at once, and the caller exits; if the parent process dies, the kernel kills the worker.

mod gateway;
mod settings;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use thalweg_exchange::ExchangeError;
use thalweg_types::{Classify, FailureClass};

pub use settings::{GATEWAY, SettingsError, WorkerSettings};

use crate::program::JobProgram;

/// Threads for I/O; the tasks have their own.
const IO_THREADS: usize = 2;

/// Why a worker ended other than by its TaskManager's wish.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The kernel would not promise to end this process with its parent.
    #[error("the worker can't be tied to the life of its TaskManager")]
    ParentGuard(#[source] nix::Error),
    /// The runtime for I/O did not start.
    #[error("the worker's I/O threads can't be started")]
    Runtime(#[source] std::io::Error),
    /// The TaskManager can't be reached.
    #[error("the worker gateway {gateway} can't be reached")]
    Connect {
        /// Its address.
        gateway: String,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
    /// The TaskManager does not want this worker.
    #[error("the worker gateway {gateway} refused this worker: {message}")]
    Refused {
        /// Its address.
        gateway: String,
        /// What it said.
        message: String,
    },
    /// The data port did not open.
    #[error("the worker's data port can't be opened: {0}")]
    Exchange(#[source] ExchangeError),
    /// The connection to the TaskManager ended.
    #[error("the connection to the worker gateway {gateway} ended: {message}")]
    GatewayLost {
        /// Its address.
        gateway: String,
        /// What was seen.
        message: String,
    },
}

impl Classify for WorkerError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Exchange(source) => source.class(),
            Self::ParentGuard(_)
            | Self::Runtime(_)
            | Self::Connect { .. }
            | Self::Refused { .. }
            | Self::GatewayLost { .. } => FailureClass::Retryable,
        }
    }
}

/// Serves a TaskManager until it says shutdown (`Ok`) or is lost. Task threads may still be running on return, in user code
/// that does not look up: the caller must exit the process at once, with 0 or 1.
pub fn run(program: JobProgram, settings: WorkerSettings) -> Result<(), WorkerError> {
    set_pdeathsig(Signal::SIGKILL).map_err(WorkerError::ParentGuard)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(IO_THREADS)
        .thread_name("thalweg-io")
        .enable_all()
        .build()
        .map_err(WorkerError::Runtime)?;
    let result = runtime.block_on(gateway::serve(program, settings));
    runtime.shutdown_background();
    result
}
