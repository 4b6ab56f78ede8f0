//! Brings a worker process up beside the actor: fetches the package, starts the program, waits for its end.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use rand::Rng;
use thalweg_proto::control::v1::StartWorker;
use thalweg_proto::control::v1::job_manager_client::JobManagerClient;
use thalweg_proto::script::{OWN_PROGRAM, SCRIPT_KIND, SCRIPT_VERB};
use thalweg_types::{Failure, FailureClass, JobId};
use tokio::sync::mpsc;
use tonic::transport::Channel;

use crate::actor::{Event, WorkerKey};
use crate::config::WorkerOutput;
use crate::gateway::ExpectedWorkers;
use crate::local_state::LocalState;
use crate::package_cache::{CachedPackage, PackageCache};
use crate::worker::WorkerLaunch;

/// What every launch needs.
#[derive(Clone)]
pub(crate) struct Launcher {
    pub(crate) packages: PackageCache,
    pub(crate) local_state: LocalState,
    pub(crate) expected: ExpectedWorkers,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) gateway: SocketAddr,
    pub(crate) data_bind: IpAddr,
    pub(crate) data_host: String,
    pub(crate) output: WorkerOutput,
}

impl Launcher {
    /// Starts the worker in the background; the actor hears of it by events. `workers`: all jobs that have one here, with
    /// the number of their slots.
    pub(crate) fn launch(
        &self,
        key: WorkerKey,
        start: &StartWorker,
        memory_bytes: u64,
        workers: Vec<(JobId, usize)>,
        mut client: JobManagerClient<Channel>,
    ) {
        let token = random_token();
        self.expected.expect(token.clone(), key);
        let this = self.clone();
        let start = start.clone();
        tokio::spawn(async move {
            let event = match this
                .packages
                .get(&mut client, &start.package_sha256, start.package_size)
                .await
            {
                Ok(package) => {
                    let local_state = this.local_state.clone();
                    // It must not keep the worker from starting.
                    let _ = tokio::task::spawn_blocking(move || local_state.make_room(&workers)).await;
                    this.run(key, &start, memory_bytes, token, &package).await
                }
                Err(error) => Err(Failure::from_error(&error)),
            };
            let event = event.unwrap_or_else(|failure| Event::WorkerLaunchFailed { worker: key, failure });
            this.tell(event).await;
        });
    }

    async fn run(
        &self,
        key: WorkerKey,
        start: &StartWorker,
        memory_bytes: u64,
        token: String,
        package: &CachedPackage,
    ) -> Result<Event, Failure> {
        let (program, arguments) = program_of(start, package.folder())?;
        let launch = WorkerLaunch {
            program,
            folder: package.folder().to_owned(),
            arguments,
            environment: start.environment.clone(),
            job_id: start.job_id.clone(),
            token,
            exchange_token: start.exchange_token.clone(),
            gateway: self.gateway,
            data_bind: self.data_bind,
            data_host: self.data_host.clone(),
            memory_bytes,
            slots: start.slots.len(),
            local_state: self.local_state.of_job(key.job, start.slots.len()),
            output: self.output,
        };
        let process = launch.start().await?;
        if let Some(pid) = process.pid() {
            self.tell(Event::WorkerStarted { worker: key, pid }).await;
        }
        Ok(Event::WorkerEnded {
            worker: key,
            end: process.wait().await,
        })
    }

    async fn tell(&self, event: Event) {
        if self.events.send(event).await.is_err() {
            tracing::debug!("the TaskManager stops");
        }
    }
}

/// What a worker runs, and its arguments: the package's own program, or with the package's script the one that it brings along for it,
/// else this process's.
fn program_of(start: &StartWorker, folder: &Path) -> Result<(PathBuf, Vec<String>), Failure> {
    let entry = entry_path(&start.entry_path)?;
    if start.entry_kind != SCRIPT_KIND {
        return Ok((folder.join(entry), start.arguments.clone()));
    }
    let before = [SCRIPT_VERB, &start.entry_path, "--"].map(str::to_owned);
    let arguments = before.into_iter().chain(start.arguments.iter().cloned());
    let program = match start.entry_program.as_str() {
        "" => OWN_PROGRAM.into(),
        program => folder.join(entry_path(program)?),
    };
    Ok((program, arguments.collect()))
}

/// The entry must stay inside the package.
fn entry_path(path: &str) -> Result<&Path, Failure> {
    let path = Path::new(path);
    let plain = path
        .components()
        .all(|part| matches!(part, std::path::Component::Normal(_)));
    if plain && path.components().next().is_some() {
        Ok(path)
    } else {
        Err(Failure::new(
            FailureClass::Fatal,
            format!("the package's entry path {} leaves the package", path.display()),
        ))
    }
}

fn random_token() -> String {
    let mut bytes = [0; 16];
    rand::rng().fill_bytes(&mut bytes);
    hex::encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_outside_the_package_is_refused() {
        for path in ["../bin/sh", "/bin/sh", ""] {
            assert_eq!(entry_path(path).unwrap_err().class, FailureClass::Fatal, "{path}");
        }
        assert!(entry_path("bin/word-count").is_ok());
    }

    #[test]
    fn a_script_is_run_by_this_program_and_a_program_by_itself() {
        let start = |kind: &str| StartWorker {
            entry_kind: kind.to_owned(),
            entry_path: "job.sql".to_owned(),
            arguments: vec!["-D".to_owned(), "a=b".to_owned()],
            ..StartWorker::default()
        };
        let folder = Path::new("/p");
        let (program, arguments) = program_of(&start("sql"), folder).unwrap();
        assert_eq!(program, Path::new("/proc/self/exe"));
        assert_eq!(arguments, ["sql-job", "job.sql", "--", "-D", "a=b"]);
        let with_program = |program: &str| StartWorker {
            entry_program: program.to_owned(),
            ..start("sql")
        };
        let (program, arguments) = program_of(&with_program("bin/functions"), folder).unwrap();
        assert_eq!(program, Path::new("/p/bin/functions"));
        assert_eq!(arguments, ["sql-job", "job.sql", "--", "-D", "a=b"]);
        assert!(program_of(&with_program("../functions"), folder).is_err());
        let (program, arguments) = program_of(&start("native"), folder).unwrap();
        assert_eq!(program, Path::new("/p/job.sql"));
        assert_eq!(arguments, ["-D", "a=b"]);
    }
}
