//! Starts and stops a TaskManager.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use thalweg_proto::control::v1::RegisterTaskManager;
use thalweg_types::config::{HighAvailabilityKind, options};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::actor::{Actor, Event, Snapshot, Unheard, Workers};
use crate::connection::ConnectionLoop;
use crate::gateway::{self, ExpectedWorkers};
use crate::launcher::Launcher;
use crate::leader::JobManagers;
use crate::local_state::LocalState;
use crate::memory::{MemoryBudget, process_size};
use crate::metrics::Identity;
use crate::package_cache::PackageCache;
use crate::slots::SlotTable;
use crate::{TaskManagerConfig, TaskManagerError, http};

/// Events on their way to the actor.
const EVENT_QUEUE: usize = 1024;
const TICK: Duration = Duration::from_millis(200);
/// How long workers go on without a JobManager where a standby may take over.
const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(300);

/// The process that offers slots.
#[derive(Debug)]
pub struct TaskManager;

/// A running TaskManager.
#[derive(Debug)]
pub struct TaskManagerHandle {
    metrics_address: SocketAddr,
    events: mpsc::Sender<Event>,
    actor: JoinHandle<()>,
    helpers: Vec<JoinHandle<()>>,
}

impl TaskManager {
    /// Starts one; it registers in the background and waits for its JobManager as long as it takes.
    pub async fn start(config: TaskManagerConfig) -> Result<TaskManagerHandle, TaskManagerError> {
        let slots_total = config.configuration.get(&options::TASK_SLOTS)?;
        let process = process_size(configured_memory(&config)?);
        let memory = MemoryBudget::share_out(process, slots_total)?;
        let packages = package_cache(&config)?;
        let local_state = LocalState::new(
            &config.configuration,
            &config.id,
            slots_total,
            &config.data_directory,
        )?;
        let high_availability = config.configuration.get(&options::HA_TYPE)? != HighAvailabilityKind::None;
        let job_managers = JobManagers::parse(&config.job_manager, high_availability)?;
        let job_manager_timeout = job_manager_timeout(&config, job_managers.elect())?;

        let (events, inbox) = mpsc::channel(EVENT_QUEUE);
        let (publish, snapshot) = watch::channel(Snapshot {
            slots_total,
            slots_free: slots_total,
            ..Snapshot::default()
        });
        let expected = ExpectedWorkers::default();
        let (gateway, gateway_task) = gateway::serve(expected.clone(), events.clone())
            .await
            .map_err(|source| bind_error("the worker gateway", "127.0.0.1:0".to_owned(), source))?;
        let identity = Identity {
            host: config.host.clone(),
            id: config.id.0.clone(),
        };
        let (metrics_address, metrics_task) = http::serve(config.metrics_bind, identity, memory, snapshot)
            .await
            .map_err(|source| bind_error("metrics", config.metrics_bind.to_string(), source))?;

        let actor = Actor {
            host: config.host.clone(),
            memory,
            slots_total,
            slots: SlotTable::new(slots_total),
            launcher: Launcher {
                packages,
                local_state,
                expected,
                events: events.clone(),
                gateway,
                data_bind: config.data_bind,
                data_host: config.host.clone(),
                output: config.worker_output,
            },
            worker_start_timeout: config.configuration.get(&options::WORKER_START_TIMEOUT)?,
            job_manager_timeout,
            snapshot: publish,
            connection: None,
            disconnected_since: Instant::now(),
            epoch: 0,
            workers: Workers::default(),
            unheard: Unheard::default(),
        };
        let connection = ConnectionLoop {
            job_managers,
            registration: registration(&config, slots_total, memory),
            events: events.clone(),
            followed: 0,
        };
        tracing::info!(id = %config.id, slots = slots_total, slot_bytes = memory.slot, %metrics_address, "TaskManager starts");
        let helpers = vec![
            gateway_task,
            metrics_task,
            tokio::spawn(connection.run()),
            tokio::spawn(ticks(events.clone())),
        ];
        Ok(TaskManagerHandle {
            metrics_address,
            events,
            actor: tokio::spawn(actor.run(inbox)),
            helpers,
        })
    }
}

impl TaskManagerHandle {
    /// Where metrics are served.
    pub fn metrics_address(&self) -> SocketAddr {
        self.metrics_address
    }

    /// Ends all workers, then itself.
    pub async fn shutdown(self) {
        if self.events.send(Event::Shutdown).await.is_ok()
            && let Err(error) = self.actor.await
        {
            tracing::error!(%error, "the TaskManager's actor ended badly");
        }
        for helper in self.helpers {
            helper.abort();
        }
    }
}

fn job_manager_timeout(config: &TaskManagerConfig, elected: bool) -> Result<Duration, TaskManagerError> {
    let configured = config.configuration.get(&options::JOB_MANAGER_TIMEOUT)?;
    let usual = match elected {
        true => TAKEOVER_TIMEOUT,
        false => config.configuration.get(&options::HEARTBEAT_TIMEOUT)?,
    };
    Ok(configured.unwrap_or(usual))
}

fn configured_memory(config: &TaskManagerConfig) -> Result<Option<u64>, TaskManagerError> {
    let process = config.configuration.get(&options::TM_PROCESS_MEMORY)?;
    let flink = config.configuration.get(&options::TM_FLINK_MEMORY)?;
    Ok(process.or(flink).map(|size| size.0))
}

fn package_cache(config: &TaskManagerConfig) -> Result<PackageCache, TaskManagerError> {
    let root = config.data_directory.join("packages");
    let limit = config.configuration.get(&options::PACKAGE_CACHE_SIZE)?.0;
    PackageCache::new(root.clone(), limit).map_err(|source| TaskManagerError::DataDirectory {
        path: root.display().to_string(),
        source,
    })
}

fn registration(config: &TaskManagerConfig, slots: u32, memory: MemoryBudget) -> RegisterTaskManager {
    RegisterTaskManager {
        task_manager_id: config.id.0.clone(),
        host: config.host.clone(),
        slots,
        engine_version: env!("CARGO_PKG_VERSION").to_owned(),
        cpu_cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32),
        memory_bytes: memory.process,
        slot_memory_bytes: memory.slot,
        workers: Vec::new(),
    }
}

fn bind_error(what: &'static str, address: String, source: std::io::Error) -> TaskManagerError {
    TaskManagerError::Bind {
        what,
        address,
        source,
    }
}

async fn ticks(events: mpsc::Sender<Event>) {
    let mut interval = tokio::time::interval(TICK);
    loop {
        interval.tick().await;
        if events.send(Event::Tick).await.is_err() {
            return;
        }
    }
}
