//! What a packaged program does in each mode that the engine starts it in, without an engine: the programs are run as
//! processes, as the JobManager and the TaskManagers do.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::io::Read;
use std::os::unix::net::UnixListener;
use std::process::{Command, Output, Stdio};

use prost::Message;
use thalweg_proto::WORKER_PROTOCOL_VERSION;
use thalweg_proto::control::v1::ExtractionResult;
use thalweg_proto::control::v1::extraction_result::Result as Outcome;

fn program(mode: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_misbehaving"));
    command
        .arg(mode)
        .stdin(Stdio::null())
        .env_remove("RUST_BACKTRACE");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs the program to its end as extraction does; what it wrote to the socket, if anything.
fn extract(mode: &str) -> (Option<ExtractionResult>, Output) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("extract");
    let listener = UnixListener::bind(&path).unwrap();
    let mut command = program(mode);
    command
        .env("THALWEG_EXTRACT_SOCKET", &path)
        .env("THALWEG_WORKER_MEMORY_BYTES", (64 << 20).to_string());
    let output = command.output().unwrap();
    // A connection waits in the listener's queue with all that was written, also after the program's end.
    listener.set_nonblocking(true).unwrap();
    let result = listener.accept().ok().map(|(mut socket, _)| {
        socket.set_nonblocking(false).unwrap();
        let mut bytes = Vec::new();
        socket.read_to_end(&mut bytes).unwrap();
        ExtractionResult::decode_length_delimited(bytes.as_slice()).unwrap()
    });
    assert!(listener.accept().is_err(), "one result at most is sent");
    (result, output)
}

fn failure(mode: &str, code: i32) -> String {
    let (result, output) = extract(mode);
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
    match result.unwrap().result.unwrap() {
        Outcome::Failure(failure) => {
            assert_eq!(
                failure.message.lines().count(),
                1,
                "one line: {:?}",
                failure.message
            );
            assert!(
                text(&output.stderr).contains(&failure.message),
                "people see the same"
            );
            failure.message
        }
        Outcome::StreamGraph(_) => panic!("{mode} gave a graph"),
    }
}

#[test]
fn execute_hands_the_graph_out_and_ends() {
    let (result, output) = extract("well-behaved");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let result = result.unwrap();
    assert_eq!(
        (result.protocol_version, result.api_version.as_str()),
        (WORKER_PROTOCOL_VERSION, "0.1")
    );
    let Some(Outcome::StreamGraph(graph)) = result.result else {
        panic!("{result:?}")
    };
    let names: Vec<&str> = graph.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["Source: Data Generator", "Map", "Sink: Blackhole"]);
    assert_eq!(graph.job_name, "well-behaved");
}

#[test]
fn what_a_program_prints_mixes_with_nothing() {
    let (result, output) = extract("prints");
    assert!(matches!(result.unwrap().result, Some(Outcome::StreamGraph(_))));
    assert_eq!(text(&output.stdout).lines().count(), 1000);
}

#[test]
fn a_main_that_never_executes_says_so() {
    assert!(failure("never-executes", 1).starts_with("main returned without calling execute()"));
}

#[test]
fn a_panic_in_main_is_told_with_message_and_place() {
    let message = failure("panics", 101);
    assert!(
        message.starts_with("main panicked: main went wrong on purpose (at "),
        "{message}"
    );
    assert!(message.contains("main.rs:"), "{message}");
}

#[test]
fn an_error_that_main_returns_is_told() {
    assert_eq!(
        failure("returns-error", 1),
        "main returned an error: main returned this on purpose"
    );
}

#[test]
fn a_mistake_in_the_graph_is_told() {
    assert_eq!(
        failure("bad-graph", 1),
        "sum(): there is no column \"no-such-column\"; the columns are \"value\""
    );
}

#[test]
fn a_second_environment_is_refused() {
    assert_eq!(
        failure("two-environments", 1),
        "main made 2 StreamExecutionEnvironments: one package is one job, so make one"
    );
}

#[test]
fn a_program_that_exits_early_sends_nothing() {
    let (result, output) = extract("exits-early");
    assert_eq!(output.status.code(), Some(3));
    assert!(result.is_none());
}

#[test]
fn started_by_hand_a_program_says_how_to_run_it() {
    let output = program("well-behaved").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("`thalweg run PACKAGE`"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn a_worker_over_its_byte_budget_stops_with_a_message() {
    let job = "0123456789abcdef0123456789abcdef";
    let output = program("main-allocates")
        .env("THALWEG_WORKER_GATEWAY", "http://127.0.0.1:1")
        .env("THALWEG_JOB_ID", job)
        .env("THALWEG_WORKER_MEMORY_BYTES", (64 << 20).to_string())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(86));
    let message = text(&output.stderr);
    assert!(
        message.starts_with(&format!("worker of job {job}: ")),
        "{message}"
    );
    assert!(
        message.contains("budget 67108864: stopped; raise taskmanager.memory.process.size"),
        "{message}"
    );
}

#[test]
fn a_main_over_its_byte_budget_stops_with_a_message() {
    let (result, output) = extract("main-allocates");
    assert!(result.is_none());
    assert_eq!(output.status.code(), Some(86));
    let message = text(&output.stderr);
    assert!(message.starts_with("main: "), "{message}");
    assert!(
        message.contains("budget 67108864: stopped; raise thalweg.extraction.memory"),
        "{message}"
    );
}

#[test]
fn a_worker_without_its_settings_says_which_is_missing() {
    let output = program("well-behaved")
        .env("THALWEG_WORKER_GATEWAY", "http://127.0.0.1:1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("THALWEG_WORKER_TOKEN is not set"),
        "{}",
        text(&output.stderr)
    );
}
