//! Starting a JobManager and holding on to it.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use thalweg_proto::cluster::v1 as cluster;
use thalweg_types::config::options;
use thalweg_types::{Failure, JobId};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::{Application, JobManagerConfig, Settings};
use crate::control_plane::{self, Clock, Control, Event};
use crate::dispatcher::{Dispatcher, JobRequest, Submitter, application_operation, run_application};
use crate::error::{JobManagerError, ShuttingDown};
use crate::extraction::ExtractionOptions;
use crate::high_availability::{
    Candidate, Election, Fence, HighAvailability, HighAvailabilityError, KnownLeader, Role, RoleSender,
    recover_jobs,
};
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
    role: Role,
    fence: Option<Fence>,
    high_availability: Option<HighAvailability>,
    control: Control,
    submitter: Arc<Submitter>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    control_plane: JoinHandle<()>,
}

impl JobManager {
    /// Binds, starts to serve, and starts the application if there is one. Returns when all ports are bound. With high availability it
    /// is a standby then, until it is elected.
    ///
    /// # Errors
    /// A configuration that can't be used, a port that is taken, a data directory that can't be written, a high-availability
    /// folder that does not do what it has to.
    pub async fn start(config: JobManagerConfig) -> Result<JobManagerHandle, JobManagerError> {
        Self::start_with(config, None).await
    }

    /// The same, where `election` says who should lead; `None` = the high-availability log alone.
    ///
    /// # Errors
    /// As [`JobManager::start`].
    pub async fn start_with(
        config: JobManagerConfig,
        election: Option<Arc<dyn Election>>,
    ) -> Result<JobManagerHandle, JobManagerError> {
        for note in config.configuration.check()? {
            tracing::info!("{note}");
        }
        let settings = Arc::new(Settings::read(&config.configuration)?);
        let packages = open_store(&config, &settings)?;
        let (rpc_listener, rpc_address) = bind("rpc", config.rpc_bind).await?;
        let (rest_listener, rest_address) = bind("rest", config.rest_bind).await?;
        let (metrics_listener, metrics_address) = bind("metrics", config.metrics_bind).await?;

        let clock = Clock::start();
        let candidate = || candidate(&config, rpc_address, rest_address);
        let opened = HighAvailability::open(&config.configuration, candidate, clock).await?;
        let (high_availability, role_sender) = opened.unzip();
        let (dispatcher, role) = match &high_availability {
            Some(high_availability) => (
                Dispatcher::standby(settings.clone(), clock.now_ms()),
                high_availability.role().clone(),
            ),
            None => (
                Dispatcher::new(clock.start_ms(), settings.clone(), clock.now_ms()),
                Role::alone(clock.start_ms()),
            ),
        };
        let (control, control_plane) = control_plane::start(dispatcher, clock, high_availability.clone());
        let extraction = ExtractionOptions::new(
            settings.extraction_timeout,
            settings.extraction_memory,
            config.temp_directory.clone(),
        );
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
            role.clone(),
        );
        let mut tasks = vec![
            tokio::spawn(rpc::serve(
                rpc_listener,
                control.clone(),
                submitter.clone(),
                packages,
                role.clone(),
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
        let application = config.application;
        let fence = high_availability.as_ref().map(|ha| ha.fence().clone());
        let kept = high_availability.clone();
        let serving = match high_availability.zip(role_sender) {
            Some((high_availability, sender)) => {
                let (elected, campaign) = high_availability.campaign(election, sender.clone())?;
                tasks.push(campaign);
                let submitter = submitter.clone();
                tokio::spawn(until(stop.clone(), async move {
                    if let Ok(leader) = elected.await {
                        lead(leader, &high_availability, &sender, &submitter, application).await;
                    }
                }))
            }
            None => {
                let submitter = submitter.clone();
                tokio::spawn(until(stop.clone(), async move {
                    if let Some(application) = application {
                        run_application(submitter, application).await;
                    }
                }))
            }
        };
        tasks.push(serving);
        let epoch = role.epoch();
        tracing::info!(%rpc_address, %rest_address, %metrics_address, epoch, "JobManager started");
        Ok(JobManagerHandle {
            rpc_address,
            rest_address,
            metrics_address,
            role,
            fence,
            high_availability: kept,
            control,
            submitter,
            stop,
            tasks,
            control_plane,
        })
    }
}

async fn until(stopped: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        () = stopped.cancelled() => {}
    }
}

/// From the election on: first nobody is let in, then TaskManagers are, while the jobs of the log are recovered, then submissions.
async fn lead(
    leader: KnownLeader,
    high_availability: &HighAvailability,
    role: &RoleSender,
    submitter: &Arc<Submitter>,
    application: Option<Application>,
) {
    let epoch = leader.epoch;
    if submitter.control.send(Event::Lead { epoch }).await.is_err() {
        return;
    }
    role.lead(epoch, leader);
    tracing::info!(epoch, "this JobManager leads");
    let operation = application.as_ref().map(application_operation);
    recover_jobs(high_availability, submitter, operation.as_deref()).await;
    if let Some(application) = application {
        run_application(submitter.clone(), application).await;
    }
}

/// This JobManager as others reach it.
fn candidate(
    config: &JobManagerConfig,
    rpc_address: SocketAddr,
    rest_address: SocketAddr,
) -> Result<Candidate, HighAvailabilityError> {
    let host = match &config.advertised_host {
        Some(host) => host.clone(),
        None => {
            let configured = config
                .configuration
                .get(&options::RPC_ADDRESS)?
                .unwrap_or_default();
            if configured.is_empty() || configured.contains(',') {
                let found = format!("it is {configured:?}");
                return Err(HighAvailabilityError::Address { found });
            }
            configured
        }
    };
    let host = match host.parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => host,
    };
    Ok(Candidate {
        instance: hex::encode(rand::random::<[u8; 16]>()),
        rpc_address: format!("{host}:{}", rpc_address.port()),
        rest_address: format!("{host}:{}", rest_address.port()),
    })
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

    /// The leader's epoch: when it started, in Unix milliseconds; with high availability the number of its record in `leader/`, and 0
    /// as long as it does not lead.
    pub fn epoch(&self) -> u64 {
        self.role.epoch().unwrap_or(0)
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

    /// Waits until the control plane has ended by itself, and says why: this JobManager leads no longer and may do nothing more, or there is a
    /// bug. The process should end then, without [`JobManagerHandle::shutdown`].
    pub async fn ended(&mut self) -> String {
        let fence = self.fence.clone().unwrap_or_default();
        tokio::select! {
            biased;
            reason = fence.raised() => reason,
            _ = &mut self.control_plane => "the JobManager's control plane ended by itself".to_owned(),
        }
    }

    /// Whether its cluster was deleted: then nobody is to take its place.
    pub fn is_retired(&self) -> bool {
        self.high_availability
            .as_ref()
            .is_some_and(HighAvailability::is_retired)
    }

    /// Stops serving and waits until everything has stopped. TaskManagers lose their streams.
    pub async fn shutdown(mut self) {
        self.control.send(Event::Shutdown).await.ok();
        if !self.control_plane.is_finished() {
            (&mut self.control_plane).await.ok();
        }
        if let Some(high_availability) = &self.high_availability {
            high_availability.leave_nothing().await;
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
