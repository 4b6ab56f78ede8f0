//! The two phases of a commit, call by call: what a writer is asked for, and when.

use std::sync::{Arc, Mutex};
use std::task::Waker;

use super::*;
use crate::testkit::{rows, values};

/// What a writer was asked for, in words, and what it answers.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    calls: Vec<String>,
    commits_wait: bool,
}

impl Script {
    fn sink(&self, restored: &[&str]) -> SinkBody {
        let writer = ScriptedWriter {
            script: self.clone(),
            rows: Vec::new(),
        };
        let committables = restored.iter().map(|name| committable(name));
        let restored_from = if restored.is_empty() { 0 } else { 4 };
        SinkBody::new(
            "sink".to_owned(),
            Box::new(writer),
            committables.collect(),
            restored_from,
        )
    }

    fn took(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().calls)
    }

    fn note(&self, call: String) {
        self.0.lock().unwrap().calls.push(call);
    }

    fn hold_commits(&self, hold: bool) {
        self.0.lock().unwrap().commits_wait = hold;
    }
}

struct ScriptedWriter {
    script: Script,
    rows: Vec<i64>,
}

fn committable(name: &str) -> Committable {
    Committable {
        bytes: name.as_bytes().to_vec(),
    }
}

impl SinkWriter for ScriptedWriter {
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectorError>> {
        Poll::Ready(Ok(()))
    }

    fn write(&mut self, batch: &StreamBatch) -> Result<usize, ConnectorError> {
        self.rows.extend(values(batch));
        Ok(batch.num_rows())
    }

    fn poll_flush(&mut self, _: &mut Context<'_>, end: bool) -> Poll<Result<(), ConnectorError>> {
        self.script
            .note(format!("flush{}", if end { " end" } else { "" }));
        Poll::Ready(Ok(()))
    }

    fn prepare_commit(&mut self, checkpoint_id: u64) -> Result<Vec<Committable>, ConnectorError> {
        let rows = std::mem::take(&mut self.rows);
        self.script.note(format!("prepare {checkpoint_id}: {rows:?}"));
        Ok(rows.iter().map(|row| committable(&row.to_string())).collect())
    }

    fn snapshot(&mut self, checkpoint_id: u64) -> Result<Vec<Vec<u8>>, ConnectorError> {
        self.script.note(format!("snapshot {checkpoint_id}"));
        Ok(Vec::new())
    }

    fn poll_commit(&mut self, _: &mut Context<'_>, all: &[Committable]) -> Poll<Result<(), ConnectorError>> {
        let names = all.iter().map(|one| String::from_utf8_lossy(&one.bytes));
        self.script
            .note(format!("commit {}", names.collect::<Vec<_>>().join(" ")));
        match self.script.0.lock().unwrap().commits_wait {
            true => Poll::Pending,
            false => Poll::Ready(Ok(())),
        }
    }
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn write(sink: &mut SinkBody, row: i64) {
    sink.push(rows([row]));
    assert!(sink.step(&mut cx()).is_ready());
}

fn end(sink: &mut SinkBody) {
    sink.end_input();
    assert!(matches!(sink.step(&mut cx()), Poll::Ready(Ok(SinkStep::Ended))));
}

fn commit(sink: &mut SinkBody) -> bool {
    match sink.poll_commit(&mut cx()) {
        Poll::Ready(result) => result.is_ok(),
        Poll::Pending => false,
    }
}

/// Flushes and takes the snapshot; how many committables it holds.
fn checkpoint(sink: &mut SinkBody, id: u64) -> usize {
    assert!(sink.poll_flush(&mut cx()).is_ready());
    let snapshot = sink.snapshot(id).unwrap();
    let prepared = snapshot
        .lists
        .iter()
        .find(|list| list.name == lists::COMMITTABLES);
    prepared.map_or(0, |list| list.items.num_rows())
}

#[test]
fn what_is_prepared_at_a_barrier_is_committed_when_its_checkpoint_is_complete_and_not_before() {
    let script = Script::default();
    let mut sink = script.sink(&[]);
    write(&mut sink, 1);
    assert_eq!(checkpoint(&mut sink, 7), 1);
    assert_eq!(script.took(), ["flush", "prepare 7: [1]", "snapshot 7"]);
    write(&mut sink, 2);
    assert!(commit(&mut sink) && script.took().is_empty());
    sink.checkpoint_completed(7);
    assert!(commit(&mut sink));
    assert_eq!(script.took(), ["commit 1"]);
    assert!(!sink.has_uncommitted());
}

#[test]
fn a_checkpoint_that_is_given_up_commits_nothing_and_the_next_one_holds_both() {
    let script = Script::default();
    let mut sink = script.sink(&[]);
    write(&mut sink, 1);
    checkpoint(&mut sink, 1);
    // Checkpoint 1 is given up: nobody tells the sink, no later one of its number completes.
    write(&mut sink, 2);
    assert_eq!(checkpoint(&mut sink, 2), 2);
    script.took();
    sink.checkpoint_completed(2);
    assert!(commit(&mut sink));
    assert_eq!(script.took(), ["commit 1 2"]);
}

#[test]
fn of_two_checkpoints_under_way_the_older_ones_completion_commits_its_own_part_alone() {
    let script = Script::default();
    let mut sink = script.sink(&[]);
    for id in [1, 2] {
        write(&mut sink, id);
        checkpoint(&mut sink, id as u64);
    }
    script.took();
    sink.checkpoint_completed(1);
    assert!(commit(&mut sink));
    assert_eq!(script.took(), ["commit 1"]);
    assert!(sink.has_uncommitted());
    sink.checkpoint_completed(2);
    assert!(commit(&mut sink));
    assert_eq!(script.took(), ["commit 2"]);
}

#[test]
fn restored_committables_are_committed_again_before_anything_else_and_are_gone_then() {
    let script = Script::default();
    let mut sink = script.sink(&["a", "b"]);
    script.hold_commits(true);
    assert!(!commit(&mut sink));
    script.hold_commits(false);
    assert!(commit(&mut sink));
    // Asked for again with the same, until it is done.
    assert_eq!(script.took(), ["commit a b", "commit a b"]);
    assert_eq!(checkpoint(&mut sink, 5), 0);
}

#[test]
fn what_comes_while_a_commit_is_under_way_waits_for_the_next_call_and_stays_in_the_state() {
    let script = Script::default();
    let mut sink = script.sink(&[]);
    write(&mut sink, 1);
    checkpoint(&mut sink, 1);
    sink.checkpoint_completed(1);
    script.hold_commits(true);
    assert!(!commit(&mut sink));
    write(&mut sink, 2);
    assert_eq!(
        checkpoint(&mut sink, 2),
        2,
        "the first is not known to be committed"
    );
    sink.checkpoint_completed(2);
    assert!(!commit(&mut sink));
    script.hold_commits(false);
    script.took();
    assert!(commit(&mut sink));
    assert_eq!(
        script.took(),
        ["commit 1", "commit 2"],
        "in order, each batch as it was asked for"
    );
}

#[test]
fn behind_the_end_the_rest_is_prepared_for_the_next_checkpoint_which_prepares_nothing_more() {
    let script = Script::default();
    let mut sink = script.sink(&[]);
    write(&mut sink, 1);
    checkpoint(&mut sink, 3);
    write(&mut sink, 2);
    script.took();
    end(&mut sink);
    assert_eq!(script.took(), ["flush end", "prepare 4: [2]"]);
    sink.checkpoint_completed(3);
    assert!(commit(&mut sink));
    assert_eq!(script.took(), ["commit 1"], "checkpoint 3 was before the end");
    assert_eq!(checkpoint(&mut sink, 6), 1);
    assert_eq!(script.took(), ["snapshot 6"]);
    sink.checkpoint_completed(6);
    assert!(commit(&mut sink) && !sink.has_uncommitted());
    assert_eq!(script.took(), ["commit 2"]);
}

#[test]
fn without_a_checkpoint_to_come_everything_is_committed_at_the_end() {
    let script = Script::default();
    let mut sink = script.sink(&[]);
    write(&mut sink, 1);
    checkpoint(&mut sink, 1);
    write(&mut sink, 2);
    end(&mut sink);
    script.took();
    sink.commit_all();
    assert!(commit(&mut sink) && !sink.has_uncommitted());
    assert_eq!(script.took(), ["commit 1 2"]);
}

#[test]
fn an_open_file_goes_to_one_restored_sink_and_goes_on_there() {
    use arrow::array::{RecordBatch, StringArray};
    use futures::future::poll_fn;
    use thalweg_connectors::{BucketAssigner, ConnectorContext, FileSink, RestoredConnector, Sink};
    use thalweg_state::{ListDistribution, RestoredList, RestoredState};
    use thalweg_storage::FileSystems;
    use thalweg_types::OperatorId;
    use thalweg_types::config::Configuration;

    let io = tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file_sink = FileSink::for_row_format(folder.path().to_str().unwrap())
        .with_bucket_assigner(BucketAssigner::base_path())
        .build()
        .unwrap();
    let sink = |restored: Option<RestoredConnector>| {
        let context = ConnectorContext {
            operator_name: "sink".into(),
            operator_id: OperatorId::from_u128(1),
            subtask: 0,
            parallelism: 1,
            attempt: thalweg_connectors::AttemptOrder::default(),
            io: io.handle().clone(),
            files: FileSystems::new(Configuration::default()),
            checkpointing: true,
            restored,
        };
        let writer = file_sink.create_writer(context).unwrap();
        SinkBody::new("sink".to_owned(), writer, Vec::new(), 0)
    };
    let write = |sink: &mut SinkBody, line: &str| {
        let column = Arc::new(StringArray::from(vec![line])) as _;
        sink.push(StreamBatch::new(
            RecordBatch::try_from_iter([("line", column)]).unwrap(),
        ));
        io.block_on(poll_fn(|cx| sink.step(cx))).unwrap();
    };
    let mut first = sink(None);
    write(&mut first, "a");
    io.block_on(poll_fn(|cx| first.poll_flush(cx))).unwrap();
    let mut lists = first.snapshot(1).unwrap().lists;
    // Behind the checkpoint: it will be read again.
    write(&mut first, "b");
    drop(first);
    assert_eq!(lists.len(), 1);
    let list = lists.remove(0);
    assert_eq!(
        (list.distribution, list.items.num_rows()),
        (ListDistribution::Split, 1)
    );
    let mut state = RestoredState {
        checkpoint_id: 1,
        lists: vec![RestoredList {
            name: list.name,
            distribution: list.distribution,
            items: vec![list.items],
        }],
        ..RestoredState::default()
    };
    let mut second = sink(Some(lists::restored_connector(&mut state)));
    write(&mut second, "b");
    second.end_input();
    io.block_on(poll_fn(|cx| second.step(cx))).unwrap();
    second.commit_all();
    io.block_on(poll_fn(|cx| second.poll_commit(cx))).unwrap();
    let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().collect();
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!(std::fs::read_to_string(files[0].path()).unwrap(), "a\nb\n");
}
