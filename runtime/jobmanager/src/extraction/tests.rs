//! What programs do instead of calling execute(), and what is said about it.
//!
//! The programs are scripts; where one has to answer, it sends bytes that the test encoded.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use thalweg_proto::control::v1 as control;

use super::*;
use crate::package::{PackageStore, PackageStoreConfig};
use crate::testing::{package_directory, stream_graph};

struct Fixture {
    folder: tempfile::TempDir,
    options: ExtractionOptions,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let options = ExtractionOptions::new(Duration::from_secs(60), 64 << 20, folder.path().to_owned());
    Fixture { folder, options }
}

impl Fixture {
    async fn package(&self, script: &str) -> Arc<Package> {
        let directory = self.folder.path().join("package");
        package_directory(&directory, script);
        self.imported(&directory).await
    }

    async fn imported(&self, package: &Path) -> Arc<Package> {
        let store = PackageStore::open(PackageStoreConfig {
            directory: self.folder.path().join("store"),
            max_package_bytes: 1 << 20,
            max_total_bytes: 1 << 30,
            configuration: Default::default(),
        });
        let imported = store.unwrap().import(&package.to_string_lossy(), "").await;
        imported.unwrap()
    }

    async fn extracted(
        &self,
        package: &Package,
        arguments: &[&str],
    ) -> Result<ExtractedJob, ExtractionError> {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        extract(package, &arguments, &ScriptSession::default(), &self.options).await
    }

    /// Runs a program that sends these bytes to the socket, between two pieces of script.
    async fn answering(
        &self,
        before: &str,
        bytes: &[u8],
        after: &str,
    ) -> Result<ExtractedJob, ExtractionError> {
        let answer = self.folder.path().join("answer");
        fs::write(&answer, bytes).unwrap();
        let script = format!("#!/bin/sh\n{before}\n{}\n{after}\n", send(&answer));
        self.extracted(&*self.package(&script).await, &[]).await
    }

    async fn failing(&self, script: &str) -> ExtractionError {
        let package = self.package(&format!("#!/bin/sh\n{script}\n")).await;
        self.extracted(&package, &[]).await.unwrap_err()
    }
}

fn send(answer: &Path) -> String {
    let code = "import os,socket,sys;s=socket.socket(socket.AF_UNIX);s.connect(os.environ['THALWEG_EXTRACT_SOCKET']);s.sendall(open(sys.argv[1],'rb').read());s.close()";
    format!("python3 -c \"{code}\" {}", answer.display())
}

fn graph_result() -> Vec<u8> {
    encoded(&ExtractionResult {
        protocol_version: WORKER_PROTOCOL_VERSION,
        api_version: "0.1".to_owned(),
        result: Some(extraction_result::Result::StreamGraph(stream_graph("counts"))),
    })
}

fn encoded(result: &ExtractionResult) -> Vec<u8> {
    result.encode_length_delimited_to_vec()
}

#[tokio::test]
async fn the_graph_of_a_program_is_taken_whatever_it_prints() {
    let noise = "echo to stdout; echo to stderr >&2; head -c 100000 /dev/zero; yes | head -n 3000";
    let job = fixture().answering(noise, &graph_result(), "").await.unwrap();
    assert_eq!(job.stream_graph.job_name, "counts");
    assert_eq!(
        job.fingerprint,
        thalweg_graph::fingerprint(&stream_graph("counts"))
    );
}

#[tokio::test]
async fn the_program_sees_its_arguments_and_the_declared_environment_only() {
    let fixture = fixture();
    let package = fixture
        .package("#!/bin/sh\necho \"$# $1 ${HOME-no home} ${CARGO_PKG_NAME-no cargo}\" >&2\nexit 3\n")
        .await;
    let error = fixture.extracted(&package, &["a b"]).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the program bin/job ended (exit code 3) without calling execute(); its last line was: 1 a b no home no cargo"
    );
}

#[tokio::test]
async fn a_program_that_ends_early_is_told_by_its_exit_code_and_last_line() {
    let script = "echo \"thread 'main' panicked at src/main.rs:1:1:\" >&2; echo boom >&2; echo 'note: run with X' >&2; exit 101";
    let error = fixture().failing(script).await;
    assert!(
        error
            .to_string()
            .ends_with("(exit code 101) without calling execute(); its last line was: boom"),
        "{error}"
    );
    assert!(error.to_failure().detail.contains("panicked at src/main.rs:1:1"));
    assert_eq!(error.class(), FailureClass::Fatal);
    let silent = fixture().failing("exit 0").await;
    assert!(
        silent
            .to_string()
            .ends_with("ended (exit code 0) without calling execute()"),
        "{silent}"
    );
    let killed = fixture().failing("kill -9 $$").await;
    assert!(killed.to_string().contains("(signal 9)"), "{killed}");
}

#[tokio::test]
async fn a_program_that_runs_for_ever_is_stopped_with_what_it_started() {
    let mut fixture = fixture();
    fixture.options.timeout = Duration::from_millis(300);
    let pids = fixture.folder.path().join("pids");
    let script = format!(
        "sleep 1000 & echo $! > {0}; echo $$ >> {0}; echo waiting >&2; wait",
        pids.display()
    );
    let error = fixture.failing(&script).await;
    assert!(
        error
            .to_string()
            .contains("within 0.3 s (thalweg.extraction.timeout)"),
        "{error}"
    );
    for pid in fs::read_to_string(pids).unwrap_or_default().lines() {
        assert!(gone(pid).await, "process {pid} is left");
    }
}

/// Waits until a process is no more, or only waits to be reaped.
async fn gone(pid: &str) -> bool {
    for _ in 0..1000 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if stat.is_empty() || stat.contains(") Z ") {
            return true;
        }
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    false
}

#[tokio::test]
async fn a_program_that_goes_on_after_its_result_is_stopped() {
    let fixture = fixture();
    let pid = fixture.folder.path().join("pid");
    let after = format!("echo $$ > {}; exec sleep 1000", pid.display());
    let job = fixture.answering("", &graph_result(), &after).await;
    assert!(job.is_ok());
    assert!(gone(fs::read_to_string(pid).unwrap().trim()).await);
}

#[tokio::test]
async fn a_failure_that_the_program_reports_is_its_own_words() {
    let failure = control::Failure {
        class: control::FailureClass::Fatal.into(),
        message: "the topic \"in\" is missing".to_owned(),
        detail: "chain".to_owned(),
    };
    let result = ExtractionResult {
        protocol_version: WORKER_PROTOCOL_VERSION,
        api_version: "0.1".to_owned(),
        result: Some(extraction_result::Result::Failure(failure)),
    };
    let error = fixture().answering("", &encoded(&result), "").await.unwrap_err();
    assert_eq!(error.to_string(), "the topic \"in\" is missing");
    assert_eq!(error.to_failure().detail, "chain");
}

#[tokio::test]
async fn another_protocol_version_names_both_apis() {
    let result = ExtractionResult {
        protocol_version: 99,
        api_version: "9.9".to_owned(),
        result: None,
    };
    let error = fixture()
        .answering("", &encoded(&result), "")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("protocol 99 (thalweg-api 9.9)") && error.contains("this engine 1"),
        "{error}"
    );
}

#[tokio::test]
async fn two_results_are_one_too_many() {
    let twice = [graph_result(), graph_result()].concat();
    let error = fixture().answering("", &twice, "").await.unwrap_err().to_string();
    assert!(error.contains("was execute() called twice?"), "{error}");
}

#[tokio::test]
async fn bytes_that_are_no_result_are_refused() {
    let error = fixture().answering("", b"\x05hello", "").await.unwrap_err();
    assert!(matches!(error, ExtractionError::Malformed { .. }), "{error}");
    let mut truncated = graph_result();
    truncated.pop();
    let error = fixture().answering("", &truncated, "").await.unwrap_err();
    assert!(matches!(error, ExtractionError::Malformed { .. }), "{error}");
}

#[tokio::test]
async fn a_graph_that_can_not_run_is_refused() {
    let mut graph = stream_graph("broken");
    graph.edges[0].source = 99;
    let result = ExtractionResult {
        protocol_version: WORKER_PROTOCOL_VERSION,
        api_version: "0.1".to_owned(),
        result: Some(extraction_result::Result::StreamGraph(graph)),
    };
    let error = fixture().answering("", &encoded(&result), "").await.unwrap_err();
    assert!(matches!(error, ExtractionError::Graph(_)), "{error}");
}

#[tokio::test]
async fn a_program_that_can_not_be_started_is_named() {
    let fixture = fixture();
    let package = fixture.package("#!/no/such/interpreter\n").await;
    let error = fixture.extracted(&package, &[]).await.unwrap_err();
    assert!(matches!(error, ExtractionError::Start { .. }), "{error}");
    assert!(error.to_failure().message.contains("bin/job"), "{error}");
}

/// A folder with a script as `a.sql`, imported as it is.
async fn script_package(fixture: &Fixture, script: &str) -> Arc<Package> {
    let file = fixture.folder.path().join("a.sql");
    fs::write(&file, script).unwrap();
    fixture.imported(&file).await
}

#[tokio::test]
async fn a_script_is_run_by_the_engines_own_program_in_a_recorded_session() {
    let mut fixture = fixture();
    let (answer, seen) = (
        fixture.folder.path().join("answer"),
        fixture.folder.path().join("seen"),
    );
    fs::write(&answer, graph_result()).unwrap();
    let program = fixture.folder.path().join("engine");
    let code = format!(
        "#!/bin/sh\necho \"$*\" > {seen}\ncat \"$2\" >> {seen}\necho \"$THALWEG_SQL_SESSION\" >> {seen}\n{}\n",
        send(&answer),
        seen = seen.display()
    );
    crate::testing::executable(&program, &code);
    fixture.options.script_program = program;
    let package = script_package(&fixture, "INSERT INTO a SELECT 1").await;
    let session = ScriptSession {
        configuration: [("table.local-time-zone".to_owned(), "UTC".to_owned())].into(),
        statement_time_ms: 7,
    };
    let arguments = ["-D".to_owned(), "topic=bids".to_owned()];
    let extracted = extract(&package, &arguments, &session, &fixture.options)
        .await
        .unwrap();
    let seen = fs::read_to_string(seen).unwrap();
    let variable = r#"{"configuration":{"table.local-time-zone":"UTC"},"statementTimeMs":7}"#;
    assert_eq!(
        seen,
        format!("sql-job a.sql -- -D topic=bids\nINSERT INTO a SELECT 1{variable}\n")
    );
    assert_eq!(
        extracted.arguments, arguments,
        "the verb is whoever's who starts it"
    );
    assert_eq!(extracted.environment["THALWEG_SQL_SESSION"], variable);
}

#[tokio::test]
async fn a_script_whose_package_has_a_program_is_run_by_that() {
    let mut fixture = fixture();
    fixture.options.script_program = fixture.folder.path().join("never-started");
    let (answer, seen) = (
        fixture.folder.path().join("answer"),
        fixture.folder.path().join("seen"),
    );
    fs::write(&answer, graph_result()).unwrap();
    let directory = fixture.folder.path().join("package");
    let code = format!("#!/bin/sh\necho \"$*\" > {}\n{}\n", seen.display(), send(&answer));
    package_directory(&directory, &code);
    fs::write(directory.join("a.sql"), "INSERT INTO a SELECT f(1)").unwrap();
    let native = "kind: native, path: bin/job";
    let manifest = crate::testing::manifest().replace(native, "kind: sql, path: a.sql, program: bin/job");
    fs::write(directory.join("job.yaml"), manifest).unwrap();
    let package = fixture.imported(&directory).await;
    fixture.extracted(&package, &["-D", "topic=bids"]).await.unwrap();
    assert_eq!(
        fs::read_to_string(seen).unwrap(),
        "sql-job a.sql -- -D topic=bids\n"
    );
}
