//! Running a package's program to get the graph that its `main` builds.
//!
//! ```text
//!   program, or with a script the one that runs it --execute()--> one length-delimited ExtractionResult --Unix socket--> extract() --> ExtractedJob
//!      | stdout, stderr: bounded, into the log; the last lines explain an early end
//!      | own process group: killed whole when the result is there, or the time is up
//! ```
//!
//! Invariants: the program sees the declared environment and nothing of the JobManager's; whatever it does, extraction
//! ends within its time limit and leaves no process behind.

mod process;
mod session;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use prost::Message;
use thalweg_proto::WORKER_PROTOCOL_VERSION;
use thalweg_proto::control::v1::{ExtractionResult, extraction_result};
use thalweg_proto::graph::v1::StreamGraph;
use thalweg_proto::script::{OWN_PROGRAM, SCRIPT_VERB, ScriptSession};
use thalweg_types::{Classify, Failure, FailureClass};
use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};

use crate::failure::failure_from_proto;
use crate::package::{EntryKind, Package};
use process::{ProgramEnd, Running};
pub use session::script_session;

/// A graph larger than this is refused.
const MAX_RESULT_BYTES: usize = 64 << 20;
/// What a program may still do between its result and its end.
const GRACE: Duration = Duration::from_secs(5);
/// How often a program whose file is still open for writing is tried, and how long between.
const BUSY_ATTEMPTS: u32 = 50;
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// What a program's `main` asked for.
#[derive(Debug, Clone)]
pub struct ExtractedJob {
    /// The graph that it built; validated.
    pub stream_graph: StreamGraph,
    /// Of the graph: shape, uids and types.
    pub fingerprint: String,
    /// The arguments that the program was run with; its workers are run with the same.
    pub arguments: Vec<String>,
    /// The environment that it was run with, beside PATH.
    pub environment: BTreeMap<String, String>,
    /// `major.minor` of its thalweg-api.
    pub api_version: String,
}

/// How extraction is done.
#[derive(Debug, Clone)]
pub struct ExtractionOptions {
    /// `thalweg.extraction.timeout`.
    pub timeout: Duration,
    /// `thalweg.extraction.memory`, in bytes.
    pub memory_bytes: u64,
    /// For the socket; its path must be short (a socket's is at most 107 bytes).
    pub temp_directory: PathBuf,
    /// What runs scripts whose packages bring no program along.
    pub script_program: PathBuf,
}

impl ExtractionOptions {
    /// Such scripts are run by the program of this process.
    pub fn new(timeout: Duration, memory_bytes: u64, temp_directory: PathBuf) -> Self {
        Self {
            timeout,
            memory_bytes,
            temp_directory,
            script_program: OWN_PROGRAM.into(),
        }
    }
}

/// Why a program gave no graph.
#[derive(Debug, thiserror::Error)]
pub enum ExtractionError {
    /// The JobManager could not offer its socket.
    #[error("the extraction socket can't be made in {path}")]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The program could not be started.
    #[error("the program {program} can't be started; is it a static executable for this machine?")]
    Start {
        /// Which.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// `main` ended by itself.
    #[error("the program {program} ended ({end}) without calling execute(){last_words}")]
    NoExecute {
        /// Which.
        program: String,
        /// `exit code 3` or `signal 11`.
        end: String,
        /// `; its last line was: ...`, or empty.
        last_words: String,
        /// Its last lines on standard error.
        lines: Vec<String>,
    },
    /// `main` ran too long.
    #[error("the program {program} did not call execute() within {} s (thalweg.extraction.timeout) and was stopped{last_words}", timeout.as_secs_f64())]
    Timeout {
        /// Which.
        program: String,
        /// The limit.
        timeout: Duration,
        /// `; its last line was: ...`, or empty.
        last_words: String,
    },
    /// `main` reported an error of its own.
    #[error("{}", .0.message)]
    Program(Failure),
    /// Another version of the protocol.
    #[error("the program speaks extraction protocol {program} (thalweg-api {api_version}), this engine {engine} (thalweg-api {engine_api}): build it again with a matching thalweg-api", engine = WORKER_PROTOCOL_VERSION, engine_api = env!("CARGO_PKG_VERSION"))]
    Protocol {
        /// The program's.
        program: u32,
        /// Its api.
        api_version: String,
    },
    /// What it wrote can't be understood.
    #[error("the program {program} wrote a result that can't be read: {reason}")]
    Malformed {
        /// Which.
        program: String,
        /// Why.
        reason: String,
    },
    /// The graph can't be run.
    #[error("the job's graph can't be run: {0}")]
    Graph(#[from] thalweg_graph::GraphError),
}

impl Classify for ExtractionError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Socket { .. } => FailureClass::Retryable,
            Self::Program(failure) => failure.class,
            _ => FailureClass::Fatal,
        }
    }
}

impl ExtractionError {
    /// The failure as it is shown: with the program's last lines as its detail.
    pub fn to_failure(&self) -> Failure {
        match self {
            Self::Program(failure) => failure.clone(),
            Self::NoExecute { lines, .. } => Failure {
                class: self.class(),
                message: self.to_string(),
                detail: lines.join("\n"),
            },
            _ => Failure::from_error(self),
        }
    }
}

/// Runs the package's program with these arguments (the manifest's, if there are none) and takes its graph. A script's workers
/// get the `session` that it is planned in, by the environment.
///
/// # Errors
/// See [`ExtractionError`]; every one is final for this package and these arguments unless it is retryable.
pub async fn extract(
    package: &Package,
    arguments: &[String],
    session: &ScriptSession,
    options: &ExtractionOptions,
) -> Result<ExtractedJob, ExtractionError> {
    let arguments = if arguments.is_empty() {
        package.manifest.arguments.clone()
    } else {
        arguments.to_vec()
    };
    let entry = &package.manifest.entry;
    let mut environment = package.manifest.environment.clone();
    let (path, all_arguments) = match entry.kind {
        EntryKind::Sql => {
            environment.extend([session.to_variable()]);
            let before = [SCRIPT_VERB, &entry.path, "--"].map(str::to_owned);
            let all = before.into_iter().chain(arguments.clone());
            let program = package.program();
            (
                program.unwrap_or_else(|| options.script_program.clone()),
                all.collect(),
            )
        }
        EntryKind::Native | EntryKind::Other(_) => (package.entry(), arguments.clone()),
    };
    let program = Program {
        path,
        name: entry.executable().unwrap_or(&entry.path).clone(),
        folder: package.content(),
        arguments: all_arguments,
        environment: environment.clone(),
    };
    let result = program.run(options).await?;
    if result.protocol_version != WORKER_PROTOCOL_VERSION {
        let api_version = result.api_version;
        return Err(ExtractionError::Protocol {
            program: result.protocol_version,
            api_version,
        });
    }
    match result.result {
        Some(extraction_result::Result::StreamGraph(stream_graph)) => {
            thalweg_graph::validate(&stream_graph)?;
            let fingerprint = thalweg_graph::fingerprint(&stream_graph);
            let api_version = result.api_version;
            Ok(ExtractedJob {
                stream_graph,
                fingerprint,
                arguments,
                environment,
                api_version,
            })
        }
        Some(extraction_result::Result::Failure(failure)) => {
            Err(ExtractionError::Program(failure_from_proto(&failure)))
        }
        None => Err(program.malformed("it holds neither a graph nor a failure")),
    }
}

/// A program to be run once.
struct Program {
    path: PathBuf,
    name: String,
    folder: PathBuf,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
}

impl Program {
    async fn run(&self, options: &ExtractionOptions) -> Result<ExtractionResult, ExtractionError> {
        let socket_error = |source| ExtractionError::Socket {
            path: options.temp_directory.clone(),
            source,
        };
        let temp = tempfile::Builder::new()
            .prefix("thalweg-x-")
            .tempdir_in(&options.temp_directory)
            .map_err(socket_error)?;
        let socket = temp.path().join("s");
        let listener = UnixListener::bind(&socket).map_err(socket_error)?;
        let mut running = self.start(&socket, options.memory_bytes).await?;
        let outcome = tokio::time::timeout(options.timeout, self.result(listener, &mut running)).await;
        let bytes = match outcome {
            Ok(bytes) => bytes?,
            Err(_) => {
                let end = running.kill().await;
                return Err(ExtractionError::Timeout {
                    program: self.name.clone(),
                    timeout: options.timeout,
                    last_words: last_words(&end),
                });
            }
        };
        self.finish(running).await;
        self.decode(&bytes)
    }

    /// Another program that is being started may still hold the descriptor by which this one was unpacked: that passes.
    async fn start(&self, socket: &Path, memory_bytes: u64) -> Result<Running, ExtractionError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match Running::start(self, socket, memory_bytes) {
                Err(busy) if busy.kind() == ErrorKind::ExecutableFileBusy && attempts < BUSY_ATTEMPTS => {
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                started => {
                    return started.map_err(|source| ExtractionError::Start {
                        program: self.name.clone(),
                        source,
                    });
                }
            }
        }
    }

    /// The bytes that the program writes; an error if it ends without any.
    async fn result(
        &self,
        listener: UnixListener,
        running: &mut Running,
    ) -> Result<Vec<u8>, ExtractionError> {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted.ok().map(|(stream, _)| stream),
            () = running.ended() => None,
        };
        // The program may have written and ended before its connection was seen.
        let accepted = match accepted {
            Some(stream) => Some(stream),
            None => pending_connection(listener),
        };
        match accepted {
            Some(stream) => {
                let bytes = read_bounded(stream)
                    .await
                    .map_err(|error| self.malformed(&error.to_string()))?;
                if bytes.is_empty() {
                    Err(self.no_execute(running).await)
                } else {
                    Ok(bytes)
                }
            }
            None => Err(self.no_execute(running).await),
        }
    }

    async fn no_execute(&self, running: &mut Running) -> ExtractionError {
        running.ended().await;
        let end = running.kill().await;
        ExtractionError::NoExecute {
            program: self.name.clone(),
            end: end.status.clone(),
            last_words: last_words(&end),
            lines: end.last_lines,
        }
    }

    /// The result is there: the program has a moment to end by itself.
    async fn finish(&self, mut running: Running) {
        if tokio::time::timeout(GRACE, running.ended()).await.is_err() {
            tracing::warn!(
                program = self.name,
                "the program did not end after execute() and was stopped"
            );
        }
        running.kill().await;
    }

    fn decode(&self, bytes: &[u8]) -> Result<ExtractionResult, ExtractionError> {
        let mut rest = bytes;
        let result = ExtractionResult::decode_length_delimited(&mut rest)
            .map_err(|error| self.malformed(&error.to_string()))?;
        if !rest.is_empty() {
            return Err(self.malformed("something follows the result: was execute() called twice?"));
        }
        Ok(result)
    }

    fn malformed(&self, reason: &str) -> ExtractionError {
        ExtractionError::Malformed {
            program: self.name.clone(),
            reason: reason.to_owned(),
        }
    }
}

/// A connection that waits in the listener's queue, without waiting for one.
fn pending_connection(listener: UnixListener) -> Option<UnixStream> {
    let listener = listener.into_std().ok()?;
    let (stream, _) = listener.accept().ok()?;
    stream.set_nonblocking(true).ok()?;
    UnixStream::from_std(stream).ok()
}

async fn read_bounded(stream: UnixStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream
        .take(MAX_RESULT_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .await?;
    if bytes.len() > MAX_RESULT_BYTES {
        return Err(std::io::Error::other(format!(
            "it is larger than {MAX_RESULT_BYTES} bytes"
        )));
    }
    Ok(bytes)
}

fn last_words(end: &ProgramEnd) -> String {
    // A panic's own note says nothing about the cause.
    let line = end
        .last_lines
        .iter()
        .rev()
        .find(|line| !line.starts_with("note: run with"));
    line.map(|line| format!("; its last line was: {line}"))
        .unwrap_or_default()
}
