//! Starting a JobManager and holding on to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thalweg_proto::cluster::v1 as cluster;
use thalweg_types::{Failure, JobId};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::{JobManagerConfig, Settings};
use crate::control_plane::{self, Clock, Control, Event};
use crate::dispatcher::{Dispatcher, JobRequest, Submitter, run_application};
use crate::error::{JobManagerError, ShuttingDown};
use crate::extraction::ExtractionOptions;
use crate::package::{PackageStore, PackageStoreConfig};
use crate::rest::Rest;
use crate::{metrics, rest, rpc};

/// All packages together may be so many times as large as one.
const PACKAGES_IN_STORE: u64 = 16;
/// How long a server may take to end the requests under way.
const DRAIN: Duration = Duration::from_secs(5);

/// The JobManager.
#[derive(Debug)]
pub struct JobManager;

/// A running JobManager. Dropping it stops it; [`JobManagerHandle::shutdown`] waits until it has stopped.
pub struct JobManagerHandle {
    rpc_address: SocketAddr,
    rest_address: SocketAddr,
    metrics_address: SocketAddr,
    epoch: u64,
    control: Control,
    submitter: Arc<Submitter>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    control_plane: JoinHandle<()>,
}

impl JobManager {
    /// Binds, starts to serve, and starts the application if there is one. Returns when all ports are bound.
    ///
    /// # Errors
    /// A configuration that can't be used, a port that is taken, a data directory that can't be written.
    pub async fn start(config: JobManagerConfig) -> Result<JobManagerHandle, JobManagerError> {
        for note in config.configuration.check()? {
            tracing::info!("{note}");
        }
        let settings = Arc::new(Settings::read(&config.configuration)?);
        let packages = open_store(&config, &settings)?;
        let (rpc_listener, rpc_address) = bind("rpc", config.rpc_bind).await?;
        let (rest_listener, rest_address) = bind("rest", config.rest_bind).await?;
        let (metrics_listener, metrics_address) = bind("metrics", config.metrics_bind).await?;

        let clock = Clock::start();
        let epoch = clock.start_ms();
        let dispatcher = Dispatcher::new(epoch, settings.clone(), clock.now_ms());
        let (control, control_plane) = control_plane::start(dispatcher, clock);
        let extraction = ExtractionOptions {
            timeout: settings.extraction_timeout,
            memory_bytes: settings.extraction_memory,
            temp_directory: config.temp_directory.clone(),
        };
        let submitter = Arc::new(Submitter::new(
            control.clone(),
            packages.clone(),
            config.configuration.clone(),
            extraction,
            config.default_checkpoint_directory,
        ));

        let stop = CancellationToken::new();
        let uploads = config.data_directory.join("uploads");
        let rest = Rest::new(
            control.clone(),
            submitter.clone(),
            settings,
            config.configuration,
            uploads,
        );
        let mut tasks = vec![
            tokio::spawn(rpc::serve(
                rpc_listener,
                control.clone(),
                submitter.clone(),
                packages,
                stop.clone(),
            )),
            tokio::spawn(rest::serve(rest_listener, rest, stop.clone())),
            tokio::spawn(metrics::serve(
                metrics_listener,
                control.clone(),
                config.host,
                stop.clone(),
            )),
        ];
        if let Some(application) = config.application {
            let run = run_application(submitter.clone(), application);
            let stopped = stop.clone();
            tasks.push(tokio::spawn(async move {
                tokio::select! {
                    () = run => {}
                    () = stopped.cancelled() => {}
                }
            }));
        }
        tracing::info!(%rpc_address, %rest_address, %metrics_address, epoch, "JobManager started");
        Ok(JobManagerHandle {
            rpc_address,
            rest_address,
            metrics_address,
            epoch,
            control,
            submitter,
            stop,
            tasks,
            control_plane,
        })
    }
}

async fn bind(
    service: &'static str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), JobManagerError> {
    let failed = |source| JobManagerError::Bind {
        service,
        address,
        source,
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

fn open_store(config: &JobManagerConfig, settings: &Settings) -> Result<PackageStore, JobManagerError> {
    let store = PackageStore::open(PackageStoreConfig {
        directory: config.data_directory.join("packages"),
        max_package_bytes: settings.max_package_bytes,
        max_total_bytes: settings.max_package_bytes.saturating_mul(PACKAGES_IN_STORE),
        configuration: config.configuration.clone(),
    });
    store.map_err(|source| JobManagerError::DataDirectory {
        path: config.data_directory.clone(),
        source,
    })
}

impl JobManagerHandle {
    /// Where TaskManagers and the operator dial.
    pub fn rpc_address(&self) -> SocketAddr {
        self.rpc_address
    }

    /// Where REST is served.
    pub fn rest_address(&self) -> SocketAddr {
        self.rest_address
    }

    /// Where Prometheus scrapes.
    pub fn metrics_address(&self) -> SocketAddr {
        self.metrics_address
    }

    /// The leader's epoch: when it started, in Unix milliseconds.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Fetches, extracts and starts a job.
    ///
    /// # Errors
    /// Why there is no job: the package, its program, its graph, its configuration.
    pub async fn submit(&self, request: JobRequest) -> Result<JobId, Failure> {
        self.submitter.submit(request).await
    }

    /// A job's status as it changes; nothing if there is no such job. The sender goes away when the job is forgotten.
    pub async fn watch_job(
        &self,
        job: JobId,
    ) -> Result<Option<watch::Receiver<cluster::JobStatus>>, ShuttingDown> {
        let (answer, answered) = oneshot::channel();
        self.control.send(Event::WatchJob { job, answer }).await?;
        answered.await.map_err(|_| ShuttingDown)
    }

    /// Cancels a job; its state afterwards, or nothing if there is no such job.
    pub async fn cancel(&self, job: JobId) -> Result<Option<String>, ShuttingDown> {
        self.control.cancel(job).await
    }

    /// The whole cluster as the operator sees it.
    pub async fn snapshot(&self) -> Result<cluster::ClusterSnapshot, ShuttingDown> {
        self.control.read(|dispatcher, _| rpc::snapshot(dispatcher)).await
    }

    /// Waits until the control plane has ended, which it does by itself only through a bug: the process should end then.
    pub async fn ended(&mut self) {
        (&mut self.control_plane).await.ok();
    }

    /// Stops serving and waits until everything has stopped. TaskManagers lose their streams.
    pub async fn shutdown(mut self) {
        self.control.send(Event::Shutdown).await.ok();
        if !self.control_plane.is_finished() {
            (&mut self.control_plane).await.ok();
        }
        self.stop.cancel();
        for mut task in std::mem::take(&mut self.tasks) {
            if tokio::time::timeout(DRAIN, &mut task).await.is_err() {
                task.abort();
            }
        }
    }
}

impl Drop for JobManagerHandle {
    fn drop(&mut self) {
        self.stop.cancel();
        self.control_plane.abort();
    }
}

#[cfg(test)]
mod tests;
