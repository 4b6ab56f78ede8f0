//! One worker process: its environment, its output, its end.
//!
//! The program is started in a process group of its own, with a declared environment and nothing else, so that it rebuilds the
//! graph that it built at extraction. Its output goes line by line into the log, or to the terminal; the last lines of its standard error explain
//! a sudden end.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use thalweg_types::{Failure, FailureClass};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use crate::config::WorkerOutput;
use crate::local_state::JobFolders;

/// The exit code of a worker whose allocator passed its budget.
pub(crate) const EXIT_OVER_BUDGET: i32 = 86;
const LAST_LINES: usize = 20;
const BUSY_ATTEMPTS: u32 = 50;
const BUSY_PAUSE: Duration = Duration::from_millis(20);
const MAX_LINE_BYTES: usize = 4096;

/// What a worker process is started with.
#[derive(Debug, Clone)]
pub(crate) struct WorkerLaunch {
    pub(crate) program: PathBuf,
    /// The unpacked package: where the program also ran at extraction.
    pub(crate) folder: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: HashMap<String, String>,
    pub(crate) job_id: String,
    pub(crate) token: String,
    pub(crate) exchange_token: String,
    pub(crate) gateway: SocketAddr,
    pub(crate) data_bind: IpAddr,
    pub(crate) data_host: String,
    pub(crate) memory_bytes: u64,
    pub(crate) slots: usize,
    /// For copies of state files.
    pub(crate) local_state: JobFolders,
    pub(crate) output: WorkerOutput,
}

impl WorkerLaunch {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .current_dir(&self.folder)
            .env_clear()
            .envs(std::env::var("PATH").map(|path| ("PATH", path)))
            .envs(&self.environment)
            .env("THALWEG_WORKER_GATEWAY", format!("http://{}", self.gateway))
            .env("THALWEG_WORKER_TOKEN", &self.token)
            .env("THALWEG_EXCHANGE_TOKEN", &self.exchange_token)
            .env("THALWEG_JOB_ID", &self.job_id)
            .env("THALWEG_WORKER_MEMORY_BYTES", self.memory_bytes.to_string())
            .env("THALWEG_WORKER_SLOTS", self.slots.to_string())
            .envs(
                std::env::join_paths(&self.local_state.folders)
                    .map(|folders| ("THALWEG_LOCAL_STATE", folders)),
            )
            .env(
                "THALWEG_LOCAL_STATE_BYTES",
                self.local_state.limit_bytes.to_string(),
            )
            .env("THALWEG_DATA_BIND", self.data_bind.to_string())
            .env("THALWEG_DATA_HOST", &self.data_host)
            .stdin(Stdio::null())
            .stdout(match self.output {
                WorkerOutput::Log => Stdio::piped(),
                WorkerOutput::Terminal => Stdio::inherit(),
            })
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command
    }

    /// Starts it. A program that was just unpacked is "busy" for as long as a process forked at the same moment still
    /// holds it open for writing: that passes.
    pub(crate) async fn start(&self) -> Result<RunningProcess, Failure> {
        let mut attempts = BUSY_ATTEMPTS;
        loop {
            match self.command().spawn() {
                Ok(child) => {
                    return Ok(RunningProcess {
                        child,
                        job_id: self.job_id.clone(),
                        output: self.output,
                    });
                }
                Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy && attempts > 0 => {
                    attempts -= 1;
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                Err(error) => {
                    let message = format!(
                        "the worker program {} can't be started: {error}",
                        self.program.display()
                    );
                    return Err(Failure::new(FailureClass::Fatal, message));
                }
            }
        }
    }
}

/// A started worker.
#[derive(Debug)]
pub(crate) struct RunningProcess {
    child: Child,
    job_id: String,
    output: WorkerOutput,
}

/// How a worker ended.
#[derive(Debug)]
pub(crate) struct WorkerEnd {
    pub(crate) status: Option<ExitStatus>,
    pub(crate) last_lines: Vec<String>,
}

impl RunningProcess {
    /// Its process id, which is its process group's too.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for its end, with its output going to the log.
    pub(crate) async fn wait(mut self) -> WorkerEnd {
        let (stdout, stderr) = (self.child.stdout.take(), self.child.stderr.take());
        let lines = Lines {
            job_id: &self.job_id,
            output: self.output,
        };
        let (status, _, last_lines) = tokio::join!(
            self.child.wait(),
            lines.follow(stdout, "stdout"),
            lines.follow(stderr, "stderr")
        );
        WorkerEnd {
            status: status.ok(),
            last_lines,
        }
    }
}

/// Kills a worker and whatever it started.
pub(crate) fn kill(pid: u32) {
    let Ok(pid) = i32::try_from(pid) else { return };
    if let Err(error) = killpg(Pid::from_raw(pid), Signal::SIGKILL) {
        tracing::debug!(pid, %error, "worker was gone already");
    }
}

/// Where a worker's lines go.
struct Lines<'a> {
    job_id: &'a str,
    output: WorkerOutput,
}

impl Lines<'_> {
    /// Follows a stream to its end and returns its last lines.
    async fn follow(&self, pipe: Option<impl AsyncRead + Unpin>, stream: &'static str) -> Vec<String> {
        let mut last = VecDeque::with_capacity(LAST_LINES);
        let Some(mut reader) = pipe.map(BufReader::new) else {
            return last.into();
        };
        let mut line = Vec::new();
        while let Ok(true) = read_line_bounded(&mut reader, &mut line).await {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            match self.output {
                WorkerOutput::Log => tracing::info!(target: "worker", job_id = self.job_id, stream, "{text}"),
                WorkerOutput::Terminal => eprintln!("{text}"),
            }
            if !text.is_empty() {
                if last.len() == LAST_LINES {
                    last.pop_front();
                }
                last.push_back(text);
            }
            line.clear();
        }
        last.into()
    }
}

/// Reads to the end of a line, keeping at most [`MAX_LINE_BYTES`] of it; false at the end of the stream.
async fn read_line_bounded(
    reader: &mut (impl tokio::io::AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
) -> std::io::Result<bool> {
    let mut any = false;
    loop {
        let available = reader.fill_buf().await?;
        if available.is_empty() {
            return Ok(any);
        }
        any = true;
        let end = available.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(available.len(), |position| position + 1);
        let room = MAX_LINE_BYTES.saturating_sub(line.len());
        line.extend_from_slice(&available[..length.min(room)]);
        reader.consume(length);
        if end.is_some() {
            return Ok(true);
        }
    }
}

/// Puts a worker's end into words.
pub(crate) fn describe_end(end: &WorkerEnd, budget: u64, killed_for: Option<&str>) -> Failure {
    use std::os::unix::process::ExitStatusExt;
    let last = end.last_lines.last().map(String::as_str).unwrap_or_default();
    let message = match (killed_for, end.status) {
        (Some(reason), _) => reason.to_owned(),
        (None, Some(status)) if status.code() == Some(EXIT_OVER_BUDGET) => {
            format!(
                "the worker process passed its memory budget of {budget} bytes and was stopped: {last}; \
                 raise taskmanager.memory.process.size or lower what the job keeps in memory"
            )
        }
        (None, Some(status)) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("the worker process ended with exit code {code}: {last}"),
            (_, Some(signal)) => format!("the worker process was killed by signal {signal}: {last}"),
            _ => format!("the worker process ended: {last}"),
        },
        (None, None) => "the worker process ended and its exit status could not be read".to_owned(),
    };
    Failure {
        class: FailureClass::Retryable,
        message,
        detail: end.last_lines.join("\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    fn launch(program: &str, arguments: &[&str]) -> WorkerLaunch {
        WorkerLaunch {
            program: program.into(),
            folder: std::env::temp_dir(),
            arguments: arguments.iter().map(|&text| text.to_owned()).collect(),
            environment: HashMap::from([("GREETING".to_owned(), "hello".to_owned())]),
            job_id: "j".to_owned(),
            token: "t".to_owned(),
            exchange_token: "e".to_owned(),
            gateway: ([127, 0, 0, 1], 1).into(),
            data_bind: [127, 0, 0, 1].into(),
            data_host: "127.0.0.1".to_owned(),
            memory_bytes: 7,
            slots: 1,
            local_state: JobFolders {
                folders: vec!["/disk1/j".into(), "/disk2/j".into()],
                limit_bytes: 5,
            },
            output: WorkerOutput::Log,
        }
    }

    #[tokio::test]
    async fn the_program_sees_the_declared_environment_and_its_last_words_are_kept() {
        let script = "echo \"$GREETING $THALWEG_WORKER_MEMORY_BYTES $THALWEG_LOCAL_STATE ${HOME:-no home}\" >&2; exit 3";
        let end = launch("/bin/sh", &["-c", script])
            .start()
            .await
            .unwrap()
            .wait()
            .await;
        assert_eq!(end.last_lines, ["hello 7 /disk1/j:/disk2/j no home"]);
        let failure = describe_end(&end, 7, None);
        assert_eq!(
            failure.message,
            "the worker process ended with exit code 3: hello 7 /disk1/j:/disk2/j no home"
        );
        assert_eq!(failure.class, FailureClass::Retryable);
    }

    #[tokio::test]
    async fn a_kill_reaches_what_the_program_started() {
        let process = launch("/bin/sh", &["-c", "sleep 1000 & echo started; wait"])
            .start()
            .await
            .unwrap();
        kill(process.pid().unwrap());
        let end = process.wait().await;
        assert_eq!(end.status.and_then(|status| status.signal()), Some(9));
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let failure = launch("/no/such/program", &[]).start().await.unwrap_err();
        assert!(failure.message.contains("/no/such/program"), "{failure}");
        assert_eq!(failure.class, FailureClass::Fatal);
    }

    #[test]
    fn passing_the_budget_names_the_option_to_raise() {
        let end = WorkerEnd {
            status: Some(ExitStatus::from_raw(EXIT_OVER_BUDGET << 8)),
            last_lines: vec![],
        };
        let failure = describe_end(&end, 64, None);
        assert!(failure.message.contains("budget of 64 bytes"), "{failure}");
        assert!(
            failure.message.contains("taskmanager.memory.process.size"),
            "{failure}"
        );
    }
}
