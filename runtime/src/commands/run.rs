//! `thalweg run`: JobManager, TaskManager and the job's worker in one process tree, until the job ends.

use std::io::IsTerminal;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use thalweg_jobmanager::{Application, JobManager, JobManagerConfig, JobManagerHandle};
use thalweg_proto::cluster::v1::JobStatus;
use thalweg_script::signals;
use thalweg_taskmanager::{TaskManager, TaskManagerConfig, TaskManagerHandle, WorkerOutput};
use thalweg_types::config::{Configuration, options};
use thalweg_types::{JobId, TaskManagerId};

use super::state::absolute;
use crate::cli::{PackageArguments, RunArguments};
use crate::temp_folder::TempFolder;

const ANY_LOOPBACK_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const POLL: Duration = Duration::from_millis(20);
/// The shell's code for "ended by SIGINT".
const INTERRUPTED: u8 = 130;

/// Runs the package; the job's end is the exit code.
pub(crate) async fn run(configuration: Configuration, arguments: RunArguments) -> anyhow::Result<ExitCode> {
    let configuration = starting_from(configuration, &arguments)?;
    let folder = TempFolder::new(&configuration)?;
    let is_script = arguments.package.is_script();
    let job_manager = start_job_manager(&configuration, folder.path(), arguments.package).await?;
    let job = first_job(&job_manager, is_script).await?;
    let task_manager =
        start_task_manager(&configuration, folder.path(), &job_manager, job.slots_required).await?;
    let outcome = until_the_end(&job_manager, &job).await;
    task_manager.shutdown().await;
    job_manager.shutdown().await;
    outcome
}

/// What the command line says of the state to start from goes over the configuration.
fn starting_from(
    mut configuration: Configuration,
    arguments: &RunArguments,
) -> anyhow::Result<Configuration> {
    let Some(path) = &arguments.from_savepoint else {
        return Ok(configuration);
    };
    configuration.set(options::STATE_RECOVERY_PATH.key, absolute(path)?);
    if arguments.allow_non_restored_state {
        configuration.set(options::STATE_RECOVERY_IGNORE_UNCLAIMED.key, "true");
    }
    if let Some(mode) = &arguments.claim_mode {
        configuration.set(options::STATE_RECOVERY_CLAIM_MODE.key, mode);
    }
    configuration.check()?;
    Ok(configuration)
}

async fn start_job_manager(
    configuration: &Configuration,
    folder: &Path,
    package: PackageArguments,
) -> anyhow::Result<JobManagerHandle> {
    let application = Application {
        package_uri: package.package,
        arguments: package.arguments,
        parallelism: package.parallelism.unwrap_or_default(),
        ..Application::default()
    };
    let config = JobManagerConfig {
        configuration: configuration.clone(),
        rpc_bind: ANY_LOOPBACK_PORT,
        rest_bind: ANY_LOOPBACK_PORT,
        metrics_bind: ANY_LOOPBACK_PORT,
        advertised_host: Some(Ipv4Addr::LOCALHOST.to_string()),
        data_directory: folder.join("jobmanager"),
        temp_directory: folder.to_owned(),
        host: Ipv4Addr::LOCALHOST.to_string(),
        application: Some(application),
        default_checkpoint_directory: Some(folder.join("checkpoints")),
    };
    Ok(JobManager::start(config).await?)
}

/// The application's job, as soon as it is extracted; its failure if it can't be. Of a script's failure the line is shown.
async fn first_job(job_manager: &JobManagerHandle, is_script: bool) -> anyhow::Result<JobStatus> {
    loop {
        let snapshot = job_manager.snapshot().await?;
        if let Some(failure) = snapshot.application_failure {
            if is_script && !failure.detail.is_empty() {
                eprintln!("{}", failure.detail);
            }
            bail!(failure.message);
        }
        if let Some(job) = snapshot.jobs.into_iter().find(|job| job.slots_required > 0) {
            return Ok(job);
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn start_task_manager(
    configuration: &Configuration,
    folder: &Path,
    job_manager: &JobManagerHandle,
    slots: u32,
) -> anyhow::Result<TaskManagerHandle> {
    let mut configuration = configuration.clone();
    configuration.set(options::TASK_SLOTS.key, slots.to_string());
    let host = Ipv4Addr::LOCALHOST.to_string();
    let config = TaskManagerConfig {
        configuration,
        id: TaskManagerId(format!("{host}-{}", std::process::id())),
        data_bind: Ipv4Addr::LOCALHOST.into(),
        host,
        job_manager: job_manager.rpc_address().to_string(),
        metrics_bind: ANY_LOOPBACK_PORT,
        data_directory: folder.join("taskmanager"),
        worker_output: WorkerOutput::Terminal,
    };
    Ok(TaskManager::start(config).await?)
}

async fn until_the_end(job_manager: &JobManagerHandle, job: &JobStatus) -> anyhow::Result<ExitCode> {
    let id: JobId = job.job_id.parse()?;
    let progress = Progress::new(job_manager.rest_address());
    let mut watch = job_manager.watch_job(id).await?.context("the job is gone")?;
    let mut interrupted = false;
    loop {
        let status = watch.borrow_and_update().clone();
        progress.show(&status);
        match status.state.as_str() {
            "FINISHED" => return Ok(ExitCode::SUCCESS),
            "CANCELED" if interrupted => return Ok(ExitCode::from(INTERRUPTED)),
            "CANCELED" => bail!("the job was canceled"),
            "FAILED" => bail!(
                status
                    .last_failure
                    .map_or("the job failed".to_owned(), |failure| failure.message)
            ),
            _ => {}
        }
        tokio::select! {
            changed = watch.changed() => changed.context("the job is gone")?,
            signal = signals::shutdown(), if !interrupted => {
                signal?;
                interrupted = true;
                job_manager.cancel(id).await?;
            }
        }
    }
}

/// Tells a person at a terminal what goes on; silent otherwise.
struct Progress {
    terminal: bool,
    rest: SocketAddr,
}

impl Progress {
    fn new(rest: SocketAddr) -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            rest,
        }
    }

    fn show(&self, status: &JobStatus) {
        if self.terminal {
            let JobStatus {
                name,
                state,
                tasks_running,
                tasks_total,
                ..
            } = status;
            eprintln!(
                "{name}: {state}, {tasks_running} of {tasks_total} tasks run; REST at http://{}",
                self.rest
            );
        }
    }
}
