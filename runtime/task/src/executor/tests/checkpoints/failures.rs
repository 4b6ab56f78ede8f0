//! What goes wrong with checkpoints, and whom it hits: the checkpoint, or the task.

use thalweg_operators::{Operator, OperatorError, OutputLimit};
use thalweg_state::{OperatorSnapshot, RestoredState, SnapshotRequest};

use super::*;
use crate::plan::execution_id;
use crate::program::NodeFactory;

/// Panics where it is told to.
struct Panicking(&'static str);

impl Operator for Panicking {
    fn push(&mut self, _: usize, _: StreamBatch) -> Result<(), OperatorError> {
        Ok(())
    }

    fn poll_output(&mut self, _: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        Ok(None)
    }

    fn restore(&mut self, _: &mut RestoredState) -> Result<(), OperatorError> {
        assert!(self.0 != "restore", "no restore today");
        Ok(())
    }

    fn snapshot(&mut self, _: SnapshotRequest) -> Result<OperatorSnapshot, OperatorError> {
        assert!(self.0 != "snapshot", "no snapshot today");
        Ok(OperatorSnapshot::default())
    }
}

fn job_with(operator: NodeFactory, source: ScriptedSource) -> (Job, CollectSink) {
    let sink = CollectSink::default();
    let nodes = vec![(1, source.node()), (2, operator), (3, sink.node())];
    (Job::single(nodes, &[1, 2, 3]), sink)
}

fn panicking(place: &'static str) -> Job {
    let operator = NodeFactory::Operator(Arc::new(move |_| Ok(Box::new(Panicking(place)))));
    job_with(operator, ScriptedSource::new(vec![], Then::Wait)).0
}

#[test]
fn a_store_that_fails_costs_the_checkpoint_and_the_next_one_is_full() {
    let source = ScriptedSource::new((0..3).map(|n| rows([n])).collect(), Then::Wait);
    let gate = source.gate.clone();
    gate.limit(1);
    let (mut job, sink) = job_with(counting(), source);
    job.deploy(None);
    eventually("the first row", || sink.values().len() == 1);
    job.checkpoint(1);
    let good = job.options.clone();
    let file = job.folder.path().join("file");
    std::fs::write(&file, "in the way").unwrap();
    job.options = options_in(&file);
    gate.limit(2);
    eventually("the second row", || sink.values().len() == 2);
    job.trigger_at(2, &job.sources());
    job.await_answers(2, 1);
    let declined = job.declined(2);
    assert!(
        declined[0].contains("can't be written") && declined[0].contains("file"),
        "{declined:?}"
    );
    job.options = good;
    gate.open();
    eventually("the third row", || sink.values().len() == 3);
    job.checkpoint(3);
    let runs = &job.operator_states(3, 2)[0].runs;
    assert_eq!(runs.iter().map(|run| run.rows).collect::<Vec<_>>(), [3]);
    assert_eq!(job.counts(3, 2).len(), 3);
    job.cancel();
}

/// Set where the test runs with a small disk as its folder for checkpoints.
const SMALL_DISK: &str = "THALWEG_TEST_SMALL_DISK";

#[test]
fn a_disk_that_gets_full_in_the_middle_of_a_checkpoint_costs_the_checkpoint_and_the_job_goes_on() {
    if let Ok(disk) = std::env::var(SMALL_DISK) {
        return on_a_small_disk(std::path::Path::new(&disk));
    }
    let folder = tempfile::tempdir().unwrap();
    let mount = r#"mount -t tmpfs -o size=256k tmpfs "$0" && exec "$@""#;
    let name = std::thread::current().name().unwrap().to_owned();
    let output = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", mount])
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--test-threads", "1"])
        .env(SMALL_DISK, folder.path())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => return println!("SKIPPED: no mount namespaces here: {error}"),
    };
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if text.contains("unshare failed") || text.contains("mount:") {
        return println!("SKIPPED: no mount namespaces here: {text}");
    }
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// The disk has room for the first checkpoint, not for a second one with all that has changed, and for that when there is room again.
fn on_a_small_disk(disk: &std::path::Path) {
    let batches = [rows([1]), rows(0..100_000), rows([2])];
    let source = ScriptedSource::new(batches.to_vec(), Then::Wait);
    let gate = source.gate.clone();
    gate.limit(1);
    let (mut job, sink) = job_with(counting(), source);
    job.options = options_in(disk);
    job.deploy(None);
    eventually("the first row", || sink.values().len() == 1);
    job.checkpoint(1);
    gate.limit(2);
    eventually("many rows", || sink.values().len() == 100_001);
    job.trigger_at(2, &job.sources());
    job.await_answers(2, 1);
    let declined = job.declined(2);
    assert!(declined[0].contains("no space left"), "{declined:?}");
    assert!(declined[0].contains("shared"), "the file is named: {declined:?}");
    gate.open();
    eventually("what came after it", || sink.values().len() == 100_002);
    let remount = std::process::Command::new("mount")
        .args(["-o", "remount,size=64m"])
        .arg(disk)
        .status();
    assert!(remount.unwrap().success());
    job.checkpoint(3);
    let left = std::fs::read_dir(disk.join("shared")).unwrap().count();
    assert_eq!(left, 2, "nothing is left of the one that failed");
    job.cancel();
}

#[test]
fn a_panic_while_an_operator_gives_its_state_names_the_operator() {
    let mut job = panicking("snapshot");
    job.deploy(None);
    job.trigger_at(1, &job.sources());
    let failure = failure(&job.process.await_ends(1));
    assert_eq!(
        failure.message,
        "node 1 -> node 2 -> node 3 (1/1) panicked while node 2 gave its state for a checkpoint: no snapshot today"
    );
}

#[test]
fn a_panic_while_an_operator_is_restored_names_the_operator() {
    let mut job = panicking("restore");
    job.start(None);
    let failure = failure(&job.process.await_ends(1));
    assert_eq!(
        failure.message,
        "node 1 -> node 2 -> node 3 (1/1) panicked while node 2 was being restored: no restore today"
    );
}

#[test]
fn state_that_is_gone_fails_the_task_with_the_operator_and_the_checkpoint() {
    let (mut job, sink) = job_with(counting(), ScriptedSource::new(vec![rows([1])], Then::Wait));
    job.deploy(None);
    eventually("the row", || sink.values() == [1]);
    job.checkpoint(1);
    job.cancel();
    let restore = job.restore(1);
    std::fs::remove_dir_all(job.folder.path().join("shared")).unwrap();
    job.start(Some(&restore));
    let ends = job.process.await_ends(2);
    let failure = ends[1].update.failure.clone().unwrap();
    assert!(failure.message.contains("node 2"), "{}", failure.message);
    assert!(failure.message.contains("shared"), "{}", failure.message);
}

#[test]
fn a_trigger_for_a_task_that_has_ended_needs_no_answer() {
    let (mut job, _) = job_with(counting(), ScriptedSource::new(vec![], Then::Wait));
    let attempt = job.sources()[0].clone();
    let execution = execution_id(&attempt).unwrap();
    let trigger = control::TriggerCheckpoint::default();
    assert!(
        job.process.executor.trigger(&execution, &trigger).is_ok(),
        "it does not run here"
    );
    job.deploy(None);
    assert!(job.process.executor.trigger(&execution, &trigger).is_ok());
    job.cancel();
}

#[test]
fn a_task_is_canceled_while_its_sink_flushes_for_a_checkpoint() {
    let source = ScriptedSource::new(vec![rows([1])], Then::Wait);
    let sink = CollectSink::default();
    sink.hold_flushes();
    let mut job = Job::single(vec![(1, source.node()), (2, sink.node())], &[1, 2]);
    job.deploy(None);
    eventually("the row", || sink.values() == [1]);
    job.trigger_at(1, &job.sources());
    eventually("the flush", || sink.holds_someone_up());
    job.cancel();
    assert!(job.declined(1).is_empty());
}
