//! Around the user's `main`: what the engine started this program for.
//!
//! ```text
//!   THALWEG_EXTRACT_SOCKET   main -> execute() -> graph or failure to the socket -> exit
//!   THALWEG_WORKER_GATEWAY   main -> execute() -> the job's worker process, until the TaskManager ends it
//!   neither                  main -> execute() -> how to run it, exit code 2
//! ```
//!
//! Standard output is the user's: the graph goes over the socket. The engine's own programs (SQL scripts) come in by the same door:
//! [`run_main`] around them, [`serve`] or [`refuse`] at their end. Invariant: at most one result is sent.

use std::any::Any;
use std::env;
use std::fmt::Display;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use prost::Message;
use thalweg_proto::WORKER_PROTOCOL_VERSION;
use thalweg_proto::control::v1 as proto;
use thalweg_proto::control::v1::extraction_result::Result as Outcome;
use thalweg_task::JobProgram;
use thalweg_task::worker::{self, WorkerSettings};
use thalweg_types::Failure;
use tracing_subscriber::EnvFilter;

use crate::alloc;
use crate::function::{note_panic_place, panic_message};
use crate::graph::ProgramError;

/// "major.minor": what packages are matched by.
const API_VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION_MAJOR"),
    ".",
    env!("CARGO_PKG_VERSION_MINOR")
);

const EXTRACT_SOCKET: &str = "THALWEG_EXTRACT_SOCKET";
const JOB_ID: &str = "THALWEG_JOB_ID";
const WORKER_MEMORY_BYTES: &str = "THALWEG_WORKER_MEMORY_BYTES";

/// Whether `#[thalweg_api::main]` is there.
static FRAMED: AtomicBool = AtomicBool::new(false);

/// What the program was started for.
enum Mode {
    Extraction(String),
    Worker,
    ByHand,
}

impl Mode {
    fn of_environment() -> Self {
        match env::var(EXTRACT_SOCKET) {
            Ok(path) => Self::Extraction(path),
            Err(_) if env::var_os(worker::GATEWAY).is_some() => Self::Worker,
            Err(_) => Self::ByHand,
        }
    }
}

/// What a `main` may return.
pub trait MainResult {
    /// The error's text, if it is one.
    fn error(self) -> Option<String>;
}

impl MainResult for () {
    fn error(self) -> Option<String> {
        None
    }
}

impl<E: Display> MainResult for Result<(), E> {
    fn error(self) -> Option<String> {
        // The alternate form of error types with a chain of causes (anyhow) is the whole chain in one line.
        self.err().map(|error| format!("{error:#}"))
    }
}

/// Runs the user's `main`; `#[thalweg_api::main]` calls this. Returns only if `main` did not reach `execute()`.
pub fn run_main<R: MainResult>(main: impl FnOnce() -> R) -> ExitCode {
    FRAMED.store(true, Ordering::Relaxed);
    install_panic_hook();
    if let Err(message) = arm_budget() {
        return report(&message, 1);
    }
    match catch_unwind(AssertUnwindSafe(main)) {
        Err(panic) => report(&format!("main panicked: {}", panic_message(panic.as_ref())), 101),
        Ok(result) => match result.error() {
            Some(error) => report(&format!("main returned an error: {error}"), 1),
            None => report(
                "main returned without calling execute(): the last line of main runs the job",
                1,
            ),
        },
    }
}

/// Does with a program what the process was started for: hands out its graph, or runs its tasks. Within [`run_main`] only.
pub fn serve(program: JobProgram) -> ! {
    run_program(Ok(program))
}

/// Whether the process is to tell its graph.
pub fn is_extraction() -> bool {
    matches!(Mode::of_environment(), Mode::Extraction(_))
}

/// There is no program: a message of one line, and what explains it in as many as it takes.
pub fn refuse(message: &str, detail: &str) -> ! {
    tell(&Mode::of_environment(), message, detail);
    std::process::exit(1)
}

/// What `execute()` does with the job.
pub(crate) fn run_program(program: Result<JobProgram, ProgramError>) -> ! {
    let mode = Mode::of_environment();
    let program = match program {
        Ok(program) if FRAMED.load(Ordering::Relaxed) || matches!(mode, Mode::ByHand) => program,
        Ok(_) => fail(
            &mode,
            "main has no #[thalweg_api::main] attribute: without it the worker can't keep to its memory budget",
        ),
        Err(error) => fail(&mode, &error.to_string()),
    };
    match mode {
        Mode::Extraction(path) => {
            let code = match send(&path, Outcome::StreamGraph(program.stream_graph)) {
                Ok(()) => 0,
                Err(error) => {
                    complain(&format!("the graph can't be handed out over {path}: {error}"));
                    1
                }
            };
            std::process::exit(code)
        }
        Mode::Worker => std::process::exit(i32::from(!work(program))),
        Mode::ByHand => {
            complain(
                "this program is a Thalweg job and is run by the engine: `thalweg run PACKAGE`, \
                 where PACKAGE is the folder or archive with its job.yaml",
            );
            std::process::exit(2)
        }
    }
}

/// Serves the TaskManager; whether it ended this worker in order.
fn work(program: JobProgram) -> bool {
    log_to_stderr();
    let settings = match WorkerSettings::from_env() {
        Ok(settings) => WorkerSettings {
            api_version: API_VERSION.to_owned(),
            allocated_bytes: alloc::allocated_bytes,
            ..settings
        },
        Err(error) => {
            complain(&error.to_string());
            return false;
        }
    };
    match worker::run(program, settings) {
        Ok(()) => true,
        Err(error) => {
            complain(&Failure::from_error(&error).message);
            false
        }
    }
}

/// The engine's log lines go where the user's own do: the TaskManager passes a worker's standard error on. A subscriber of
/// the program's own stays.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(false);
    if subscriber.try_init().is_err() {
        tracing::debug!("the program has a tracing subscriber of its own");
    }
}

/// One line, to the engine if it listens, and the end.
fn fail(mode: &Mode, message: &str) -> ! {
    tell(mode, message, "");
    std::process::exit(1)
}

fn report(message: &str, code: u8) -> ExitCode {
    tell(&Mode::of_environment(), message, "");
    ExitCode::from(code)
}

fn tell(mode: &Mode, message: &str, detail: &str) {
    // One line, whatever the message holds.
    let line = message.lines().collect::<Vec<_>>().join(" ");
    complain(&line);
    if let Mode::Extraction(path) = mode {
        let failure = proto::Failure {
            class: proto::FailureClass::Fatal.into(),
            message: line,
            detail: detail.to_owned(),
        };
        if let Err(error) = send(path, Outcome::Failure(failure)) {
            complain(&format!("the failure can't be handed out over {path}: {error}"));
        }
    }
}

fn complain(line: &str) {
    // Nothing can be done about a closed standard error.
    let _ = writeln!(io::stderr(), "{line}");
}

fn send(path: &str, outcome: Outcome) -> io::Result<()> {
    let result = proto::ExtractionResult {
        protocol_version: WORKER_PROTOCOL_VERSION,
        api_version: API_VERSION.to_owned(),
        result: Some(outcome),
    };
    let mut socket = UnixStream::connect(path)?;
    socket.write_all(&result.encode_length_delimited_to_vec())
}

/// Notes where panics happen, behind whatever hook there is. A program built with `panic = "abort"` has no other chance to
/// tell of a panic in `main` than the hook.
fn install_panic_hook() {
    let previous = take_hook();
    set_hook(Box::new(move |info| {
        note_panic_place(info);
        previous(info);
        if cfg!(panic = "abort") {
            let payload: &(dyn Any + Send) = info.payload();
            tell(
                &Mode::of_environment(),
                &format!("the program panicked: {}", panic_message(payload)),
                "",
            );
        }
    }));
}

/// The byte budget holds before `main` allocates anything: in a worker, and at extraction in the JobManager's container.
fn arm_budget() -> Result<(), String> {
    let limited = match Mode::of_environment() {
        Mode::Worker => alloc::Limited {
            who: format!(
                "worker of job {}",
                env::var(JOB_ID).unwrap_or_else(|_| "?".to_owned())
            ),
            advice: "raise taskmanager.memory.process.size or lower the state",
        },
        Mode::Extraction(_) => alloc::Limited {
            who: "main".to_owned(),
            advice: "raise thalweg.extraction.memory or do less before execute()",
        },
        Mode::ByHand => return Ok(()),
    };
    let Ok(budget) = env::var(WORKER_MEMORY_BYTES) else {
        return Ok(());
    };
    let bytes = budget
        .parse()
        .map_err(|_| format!("{WORKER_MEMORY_BYTES}={budget:?} is not a number of bytes"))?;
    alloc::arm(limited, bytes);
    Ok(())
}
