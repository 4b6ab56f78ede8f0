//! The program as a process: its group, its output, its end.

use std::collections::VecDeque;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::Program;

const LAST_LINES: usize = 20;
const MAX_LINE_BYTES: usize = 4096;
/// Lines of output that go to the log; a program that prints without end must not fill it.
const MAX_LOGGED_LINES: usize = 1000;

/// How a program ended.
#[derive(Debug, Default)]
pub(super) struct ProgramEnd {
    /// `exit code 3`, `signal 9`.
    pub(super) status: String,
    /// Of its standard error, not empty ones.
    pub(super) last_lines: Vec<String>,
}

/// A started program; killed with its group when this is dropped.
pub(super) struct Running {
    child: Child,
    group: Option<Pid>,
    status: Option<String>,
    stdout: Option<JoinHandle<Vec<String>>>,
    stderr: Option<JoinHandle<Vec<String>>>,
}

impl Running {
    pub(super) fn start(program: &Program, socket: &Path, memory_bytes: u64) -> std::io::Result<Self> {
        let mut command = Command::new(&program.path);
        command
            .args(&program.arguments)
            .current_dir(&program.folder)
            .env_clear()
            .envs(std::env::var("PATH").map(|path| ("PATH", path)))
            .envs(&program.environment)
            .env("THALWEG_EXTRACT_SOCKET", socket)
            .env("THALWEG_WORKER_MEMORY_BYTES", memory_bytes.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        let group = child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .map(Pid::from_raw);
        let stdout = child
            .stdout
            .take()
            .map(|pipe| tokio::spawn(log_lines(pipe, "stdout")));
        let stderr = child
            .stderr
            .take()
            .map(|pipe| tokio::spawn(log_lines(pipe, "stderr")));
        Ok(Self {
            child,
            group,
            status: None,
            stdout,
            stderr,
        })
    }

    /// Waits until the program itself is gone; what it started may still run.
    pub(super) async fn ended(&mut self) {
        if self.status.is_none() {
            let status = self.child.wait().await;
            self.status = Some(status.map_or_else(|error| error.to_string(), describe));
        }
    }

    /// Kills whatever is left of its group and tells how it ended.
    pub(super) async fn kill(&mut self) -> ProgramEnd {
        self.kill_group();
        self.ended().await;
        if let Some(stdout) = self.stdout.take() {
            stdout.await.ok();
        }
        let last_lines = match self.stderr.take() {
            Some(stderr) => stderr.await.unwrap_or_default(),
            None => Vec::new(),
        };
        ProgramEnd {
            status: self.status.clone().unwrap_or_default(),
            last_lines,
        }
    }

    fn kill_group(&mut self) {
        // Once: after the group is gone its id may be given to others.
        if let Some(group) = self.group.take()
            && let Err(error) = killpg(group, Signal::SIGKILL)
        {
            tracing::trace!(%error, "the program's process group was gone already");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill_group();
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no exit status".to_owned(),
    }
}

/// Logs lines up to a limit and returns the last ones.
async fn log_lines(pipe: impl AsyncRead + Unpin, stream: &'static str) -> Vec<String> {
    let mut reader = BufReader::new(pipe);
    let mut last = VecDeque::with_capacity(LAST_LINES);
    let mut logged = 0;
    let mut line = Vec::new();
    while let Ok(true) = read_line_bounded(&mut reader, &mut line).await {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if logged < MAX_LOGGED_LINES {
            tracing::info!(target: "extraction", stream, "{text}");
        } else if logged == MAX_LOGGED_LINES {
            tracing::warn!(target: "extraction", stream, "the program prints more than {MAX_LOGGED_LINES} lines; the rest is not logged");
        }
        logged += 1;
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

/// Reads to the end of a line, keeping at most [`MAX_LINE_BYTES`] of it; false at the end of the stream.
async fn read_line_bounded(
    reader: &mut (impl AsyncBufRead + Unpin),
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
