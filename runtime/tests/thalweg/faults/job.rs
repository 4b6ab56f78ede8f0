//! The job under test and the processes that run it: JobManagers and TaskManagers that are started again whenever they end, as
//! Kubernetes would.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::journal::Journal;
use super::processes::Process;
use crate::cluster::free_port;

const PARALLELISM: usize = 2;
/// With a slot each: one of them is spare, so that a job goes on elsewhere while a TaskManager only stands still.
const TASK_MANAGERS: usize = 3;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// What is the same for all processes.
pub(super) struct Setup {
    pub(super) package: PathBuf,
    /// Of the job's main.
    pub(super) arguments: Vec<String>,
    pub(super) settings: Vec<(&'static str, String)>,
    pub(super) logs: PathBuf,
    /// For temporary folders.
    pub(super) folder: PathBuf,
    /// Several: the one that leads is in the high-availability log, in this folder.
    pub(super) job_managers: usize,
    pub(super) leaders: PathBuf,
}

struct JobManager {
    process: Process,
    rpc_port: u16,
    rest_port: u16,
}

pub(super) struct Job {
    setup: Setup,
    http: reqwest::Client,
    job_managers: Vec<JobManager>,
    task_managers: Vec<Process>,
    rpc_addresses: Vec<String>,
    /// Names of TaskManagers are never used again.
    started: usize,
}

impl Job {
    pub(super) fn start(setup: Setup) -> anyhow::Result<Self> {
        let ports: Vec<(u16, u16)> = (0..setup.job_managers)
            .map(|_| (free_port(), free_port()))
            .collect();
        let mut job = Self {
            http: reqwest::Client::builder().timeout(REQUEST_TIMEOUT).build()?,
            job_managers: Vec::new(),
            task_managers: Vec::new(),
            rpc_addresses: Vec::new(),
            started: 0,
            setup,
        };
        job.rpc_addresses = ports
            .iter()
            .map(|(rpc_port, _)| format!("127.0.0.1:{rpc_port}"))
            .collect();
        for (index, (rpc_port, rest_port)) in ports.into_iter().enumerate() {
            let process = job.start_job_manager(index, rpc_port, rest_port)?;
            job.job_managers.push(JobManager {
                process,
                rpc_port,
                rest_port,
            });
        }
        for _ in 0..TASK_MANAGERS {
            let process = job.start_task_manager()?;
            job.task_managers.push(process);
        }
        Ok(job)
    }

    fn start_job_manager(&self, index: usize, rpc_port: u16, rest_port: u16) -> anyhow::Result<Process> {
        let mut command = self.command("jobmanager", &format!("jobmanager-{index}"))?;
        command
            .args(["-D", &format!("rest.port={rest_port}")])
            .args(["-D", "jobmanager.bind-host=127.0.0.1"])
            .args([
                "-D",
                &format!("jobmanager.rpc.port={rpc_port}"),
                "--host",
                "127.0.0.1",
            ])
            // The same operation is the same job, which goes on from its newest checkpoint.
            .args(["--application", "--operation-id", "faults", "--package"])
            .arg(&self.setup.package)
            .args(["--parallelism", &PARALLELISM.to_string(), "--"])
            .args(&self.setup.arguments);
        Process::start(&format!("jobmanager-{index}"), &mut command, &self.setup.logs)
    }

    fn start_task_manager(&mut self) -> anyhow::Result<Process> {
        let name = format!("taskmanager-{}", self.started);
        self.started += 1;
        let mut command = self.command("taskmanager", &name)?;
        command
            .args(["--resource-id", &name, "--host", "127.0.0.1"])
            .args(["-D", "taskmanager.numberOfTaskSlots=1"])
            .args(["-D", "taskmanager.memory.process.size=512m"])
            .args(["-D", "jobmanager.rpc.address=127.0.0.1"])
            .args([
                "-D",
                &format!("jobmanager.rpc.port={}", self.job_managers[0].rpc_port),
            ]);
        Process::start(&name, &mut command, &self.setup.logs)
    }

    fn command(&self, role: &str, name: &str) -> anyhow::Result<Command> {
        let temporary = self.setup.folder.join(name);
        std::fs::create_dir_all(&temporary)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_thalweg"));
        command.arg(role).env_remove("THALWEG_CONF_DIR");
        command.args(["-D", "metrics.reporter.prom.port=0"]);
        command.args(["-D", &format!("io.tmp.dirs={}", temporary.display())]);
        for (key, value) in &self.setup.settings {
            command.args(["-D", &format!("{key}={value}")]);
        }
        Ok(command)
    }

    /// The process of the JobManager that leads.
    pub(super) fn leader(&self) -> &Process {
        &self.job_managers[self.leading()].process
    }

    /// By the newest record of leadership. Without one, and without high availability, it is the first.
    fn leading(&self) -> usize {
        let records = std::fs::read_dir(&self.setup.leaders)
            .into_iter()
            .flatten()
            .flatten();
        let newest = records
            .map(|record| record.path())
            .filter(|path| path.is_file())
            .max();
        let record = newest
            .and_then(|newest| std::fs::read(newest).ok())
            .unwrap_or_default();
        let names = |address: &String| {
            record
                .windows(address.len())
                .any(|part| part == address.as_bytes())
        };
        self.rpc_addresses.iter().position(names).unwrap_or(0)
    }

    /// The TaskManager that this number chooses, of those that have workers as long as there are any.
    pub(super) fn task_manager(&self, number: usize) -> &Process {
        let working = |one: &&Process| !one.children().is_empty();
        let working: Vec<&Process> = self.task_managers.iter().filter(working).collect();
        match working.len() {
            0 => &self.task_managers[number % self.task_managers.len()],
            several => working[number % several],
        }
    }

    pub(super) fn workers(&self) -> Vec<i32> {
        self.task_managers.iter().flat_map(Process::children).collect()
    }

    /// Starts again what has ended.
    pub(super) fn keep_up(&mut self, journal: &Journal) -> anyhow::Result<()> {
        for index in 0..self.job_managers.len() {
            let (rpc_port, rest_port) = (
                self.job_managers[index].rpc_port,
                self.job_managers[index].rest_port,
            );
            if let Some(status) = self.job_managers[index].process.ended()? {
                journal.note(format!(
                    "{} ended by {status}, comes again",
                    self.job_managers[index].process.name()
                ));
                self.job_managers[index].process = self.start_job_manager(index, rpc_port, rest_port)?;
            }
        }
        for index in 0..self.task_managers.len() {
            if let Some(status) = self.task_managers[index].ended()? {
                let next = self.start_task_manager()?;
                let ended = self.task_managers[index].name();
                journal.note(format!("{ended} ended by {status}, {} comes", next.name()));
                self.task_managers[index] = next;
            }
        }
        Ok(())
    }

    /// The job's state as REST tells it; nothing while nobody answers. One that has failed for good is an error.
    pub(super) async fn state(&self) -> anyhow::Result<Option<String>> {
        let Some(jobs) = self.get("/jobs/overview").await else {
            return Ok(None);
        };
        let Some(state) = jobs["jobs"][0]["state"].as_str() else {
            return Ok(None);
        };
        if state == "FAILED" || state == "CANCELED" {
            let id = jobs["jobs"][0]["jid"].as_str().unwrap_or_default();
            let exceptions = self
                .get(&format!("/jobs/{id}/exceptions"))
                .await
                .unwrap_or_default();
            let reason = &exceptions["exceptionHistory"]["entries"][0]["stacktrace"];
            bail!("the job is {state}: {reason}");
        }
        Ok(Some(state.to_owned()))
    }

    /// Stops the job behind a savepoint.
    pub(super) async fn stop(&self, savepoints: &str) -> anyhow::Result<()> {
        let jobs = self
            .get("/jobs/overview")
            .await
            .context("no JobManager answers")?;
        let id = jobs["jobs"][0]["jid"]
            .as_str()
            .context("there is no job")?
            .to_owned();
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_thalweg"))
            .args(["stop", &id, "-p", savepoints, "--jobmanager", &self.rest()])
            .output()
            .await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the job can't be stopped: {said}");
        Ok(())
    }

    /// What the first JobManager answers that can: a standby asks the leader.
    async fn get(&self, path: &str) -> Option<Value> {
        for job_manager in &self.job_managers {
            let url = format!("http://127.0.0.1:{}{path}", job_manager.rest_port);
            let answered = self.http.get(url).send().await;
            if let Ok(answer) = answered.and_then(reqwest::Response::error_for_status) {
                return answer.json().await.ok();
            }
        }
        None
    }

    fn rest(&self) -> String {
        format!("http://127.0.0.1:{}", self.job_managers[self.leading()].rest_port)
    }
}
