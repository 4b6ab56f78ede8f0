//! How tasks end in jobs with checkpoints: at the end of their input, and by a savepoint.

use super::*;
use thalweg_proto::state::v1::SnapshotKind;

fn source_then_sink(source: ScriptedSource, sink: &CollectSink) -> Job {
    Job::single(vec![(1, source.node()), (2, sink.node())], &[1, 2])
}

#[test]
fn a_two_phase_sink_waits_for_the_checkpoint_that_holds_its_last_rows() {
    let sink = CollectSink::in_two_phases();
    let source = ScriptedSource::new(vec![rows(0..3)], Then::End);
    let mut job = source_then_sink(source, &sink);
    job.deploy(None);
    eventually("the end of the input", || sink.flushed() == 1);
    assert_eq!(sink.committed(), [] as [i64; 0]);
    job.checkpoint(4);
    job.notify(4, true);
    let ends = job.process.await_ends(1);
    assert_eq!(end_states(&ends), [TaskState::Finished]);
    assert_eq!(sink.committed(), [0, 1, 2]);
}

#[test]
fn the_last_rows_are_in_the_next_checkpoint_if_one_is_given_up() {
    let sink = CollectSink::in_two_phases();
    let mut job = source_then_sink(ScriptedSource::new(vec![rows(0..3)], Then::End), &sink);
    job.deploy(None);
    job.checkpoint(1);
    job.notify(1, false);
    job.checkpoint(2);
    job.notify(2, true);
    job.process.await_ends(1);
    assert_eq!(sink.committed(), [0, 1, 2]);
}

#[test]
fn with_no_checkpoint_behind_the_end_the_last_rows_are_committed_at_the_end() {
    let sink = CollectSink::in_two_phases();
    let source = ScriptedSource::new((0..6).map(|n| rows([n])).collect(), Then::End);
    let mut job = Job::keyed(source, counting(), &sink, 2, 2);
    let key = "execution.checkpointing.checkpoints-after-tasks-finish.enabled";
    job.configure(key, "false");
    job.start(None);
    assert_eq!(end_states(&job.process.await_ends(4)), [TaskState::Finished; 4]);
    assert_eq!(sink.committed(), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn with_no_checkpoint_behind_the_end_what_one_under_way_holds_is_committed_once_with_the_rest() {
    for is_told in [true, false] {
        let sink = CollectSink::in_two_phases();
        let source = ScriptedSource::new(vec![rows([0]), rows([1])], Then::End);
        let gate = source.gate.clone();
        gate.limit(1);
        let mut job = source_then_sink(source, &sink);
        job.configure(
            "execution.checkpointing.checkpoints-after-tasks-finish.enabled",
            "false",
        );
        job.deploy(None);
        eventually("a row", || sink.values() == [0]);
        job.checkpoint(1);
        sink.hold_commits();
        if is_told {
            job.notify(1, true);
            eventually("its commit", || sink.commits_asked() > 0);
        }
        gate.open();
        eventually("the end of the input", || sink.flushed() == 1);
        eventually("a commit", || sink.commits_asked() > 0);
        assert_eq!(sink.committed(), [] as [i64; 0]);
        sink.open();
        assert_eq!(end_states(&job.process.await_ends(1)), [TaskState::Finished]);
        // Too late, as when the answer of another task took its time.
        job.notify(1, true);
        assert_eq!(sink.committed(), [0, 1]);
    }
}

#[test]
fn a_bounded_job_with_two_phase_sinks_ends_behind_a_last_checkpoint_with_everything_committed_once() {
    let sink = CollectSink::in_two_phases();
    let batches: Vec<_> = (0..10).map(|n| rows(n * 10..n * 10 + 10)).collect();
    let mut job = Job::keyed(ScriptedSource::new(batches, Then::End), counting(), &sink, 2, 3);
    job.start(None);
    job.process.await_ends(2);
    eventually("the end of the input", || sink.flushed() == 3);
    assert_eq!(sink.committed(), [] as [i64; 0]);
    job.finish_with_checkpoints(1);
    assert_eq!(sink.committed(), (0..100).collect::<Vec<_>>());
}

#[test]
fn a_source_that_has_offsets_to_commit_ends_behind_the_checkpoint_that_holds_its_end() {
    let mut source = ScriptedSource::new(vec![rows(0..3)], Then::End);
    source.commits_offsets = true;
    let heard = source.heard.clone();
    let sink = CollectSink::default();
    let mut job = source_then_sink(source, &sink);
    job.deploy(None);
    eventually("the end of the input", || sink.flushed() == 1);
    job.checkpoint(1);
    job.notify(1, false);
    job.checkpoint(2);
    job.notify(2, true);
    assert_eq!(end_states(&job.process.await_ends(1)), [TaskState::Finished]);
    assert_eq!(*heard.lock().unwrap(), [(0, 1, false), (0, 2, true)]);
}

#[test]
fn a_finished_source_says_where_it_is_though_checkpoints_are_taken_only_on_request() {
    let sink = CollectSink::default();
    let source = ScriptedSource::new(vec![rows(0..3)], Then::End);
    let mut process = Process::start(program(vec![(1, source.node()), (2, sink.node())], &[]));
    process.deploy(&[deployment(&vertex(&[1, 2], 1), 0)]);
    let ends = process.await_ends(1);
    let last = ends[0].update.final_snapshot.as_ref().unwrap();
    let state = last.operators[0].state.as_ref().unwrap();
    assert_eq!(state.lists[0].name, "SourceReaderState");
}

#[test]
fn a_finished_task_says_what_later_checkpoints_must_hold_of_it() {
    let sink = CollectSink::default();
    let source = ScriptedSource::new(vec![rows(0..3), rows(3..4)], Then::End);
    let nodes = vec![(1, source.node()), (2, counting()), (3, sink.node())];
    let mut job = Job::single(nodes, &[1, 2, 3]);
    job.start(None);
    let ends = job.process.await_ends(1);
    let last = ends[0].update.final_snapshot.as_ref().unwrap();
    assert_eq!(last.operators.len(), 1);
    let state = last.operators[0].state.as_ref().unwrap();
    assert_eq!(state.lists[0].name, "SourceReaderState");
    assert!(!state.lists[0].file.as_ref().unwrap().inline.is_empty());
    assert!(state.runs.is_empty());
}

#[test]
fn a_savepoint_that_stops_the_job_is_the_last_that_happens() {
    let sink = CollectSink::in_two_phases();
    let source = ScriptedSource::new((0..10).map(|n| rows([n])).collect(), Then::Wait);
    let gate = source.gate.clone();
    gate.limit(2);
    let mut job = Job::keyed(source, counting(), &sink, 2, 2);
    job.deploy(None);
    eventually("four rows", || sink.values().len() == 4);
    job.options.kind = SnapshotKind::Savepoint.into();
    job.options.terminate = true;
    job.checkpoint(1);
    gate.open();
    job.notify(1, true);
    assert_eq!(end_states(&job.process.await_ends(4)), [TaskState::Finished; 4]);
    assert_eq!(sink.committed(), [0, 1, 2, 3]);
    assert_eq!(sink.sorted_values(), [0, 1, 2, 3]);
    assert!(sink.watermarks().is_empty());
    assert_eq!(job.counts(1, 2).len(), 4);
}

#[test]
fn a_drain_sends_the_last_watermark_before_the_savepoint() {
    let sink = CollectSink::default();
    let mut job = Job::keyed(
        ScriptedSource::new(vec![rows([1])], Then::Wait),
        counting(),
        &sink,
        1,
        1,
    );
    job.deploy(None);
    eventually("the row", || sink.values() == [1]);
    job.options.terminate = true;
    job.options.drain = true;
    job.checkpoint(1);
    assert_eq!(sink.watermarks(), [i64::MAX]);
    job.notify(1, true);
    assert_eq!(end_states(&job.process.await_ends(2)), [TaskState::Finished; 2]);
}

#[test]
fn a_job_goes_on_if_the_savepoint_that_should_stop_it_is_given_up() {
    let sink = CollectSink::default();
    let source = ScriptedSource::new((0..4).map(|n| rows([n])).collect(), Then::Wait);
    let gate = source.gate.clone();
    gate.limit(1);
    let mut job = Job::keyed(source, counting(), &sink, 1, 1);
    job.deploy(None);
    job.options.terminate = true;
    job.checkpoint(1);
    gate.open();
    job.notify(1, false);
    eventually("the other rows", || sink.values().len() == 4);
    job.cancel();
}

#[test]
fn a_savepoint_that_should_stop_the_job_and_is_given_up_leaves_what_it_prepared_to_the_next_checkpoint() {
    let sink = CollectSink::in_two_phases();
    let source = ScriptedSource::new((0..8).map(|n| rows([n])).collect(), Then::Wait);
    let gate = source.gate.clone();
    gate.limit(2);
    let mut job = Job::keyed(source, counting(), &sink, 2, 2);
    job.deploy(None);
    eventually("four rows", || sink.values().len() == 4);
    job.options.terminate = true;
    job.checkpoint(1);
    gate.open();
    job.notify(1, false);
    eventually("the other rows", || sink.values().len() == 8);
    assert_eq!(sink.committed(), [] as [i64; 0]);
    // The next try succeeds.
    job.checkpoint(2);
    job.notify(2, true);
    assert_eq!(end_states(&job.process.await_ends(4)), [TaskState::Finished; 4]);
    assert_eq!(sink.committed(), (0..8).collect::<Vec<_>>());
}

#[test]
fn a_savepoint_commits_nothing_and_what_was_prepared_for_it_is_committed_with_the_next_checkpoint() {
    let sink = CollectSink::in_two_phases();
    let source = ScriptedSource::new((0..2).map(|n| rows([n])).collect(), Then::Wait);
    let gate = source.gate.clone();
    gate.limit(1);
    let mut job = source_then_sink(source, &sink);
    job.deploy(None);
    eventually("a row", || sink.values().len() == 1);
    job.options.kind = SnapshotKind::Savepoint.into();
    job.checkpoint(1);
    job.options.kind = SnapshotKind::Checkpoint.into();
    gate.open();
    eventually("two rows", || sink.values().len() == 2);
    job.checkpoint(2);
    assert_eq!(sink.committed(), [] as [i64; 0]);
    job.notify(2, true);
    eventually("the commit", || sink.committed() == [0, 1]);
    job.cancel();
}

#[test]
fn a_job_goes_on_if_that_savepoint_is_given_up_while_its_sink_still_flushes() {
    let sink = CollectSink::default();
    let source = ScriptedSource::new((0..4).map(|n| rows([n])).collect(), Then::Wait);
    let gate = source.gate.clone();
    gate.limit(1);
    let mut job = source_then_sink(source, &sink);
    job.deploy(None);
    eventually("the row", || sink.values() == [0]);
    sink.hold_flushes();
    job.options.terminate = true;
    job.trigger_at(1, &job.sources());
    eventually("the flush", || sink.holds_someone_up());
    job.notify(1, false);
    gate.open();
    sink.open();
    eventually("the other rows", || sink.values().len() == 4);
    job.options.terminate = false;
    job.checkpoint(2);
    assert!(job.metrics(1).is_empty());
    job.cancel();
}

#[test]
fn rows_are_written_while_a_commit_is_under_way_and_what_is_not_committed_stays_in_the_state() {
    let sink = CollectSink::in_two_phases();
    let source = ScriptedSource::new((0..4).map(|n| rows([n])).collect(), Then::Wait);
    let gate = source.gate.clone();
    gate.limit(2);
    let mut job = source_then_sink(source, &sink);
    job.deploy(None);
    eventually("two rows", || sink.values().len() == 2);
    job.checkpoint(1);
    sink.hold_commits();
    job.notify(1, true);
    eventually("the commit", || sink.commits_asked() > 0);
    gate.open();
    eventually("two more", || sink.values().len() == 4);
    job.checkpoint(2);
    let committables = |job: &Job, id| {
        let state = &job.operator_states(id, 2)[0];
        state
            .lists
            .iter()
            .find(|list| list.name == "Committables")
            .map(|list| list.items)
    };
    assert_eq!((committables(&job, 1), committables(&job, 2)), (Some(1), Some(2)));
    sink.open();
    eventually("the first commit", || sink.committed() == [0, 1]);
    job.checkpoint(3);
    assert_eq!(committables(&job, 3), Some(1));
    job.notify(3, true);
    eventually("the second commit", || sink.committed() == [0, 1, 2, 3]);
    job.cancel();
}

#[test]
fn what_a_checkpoint_holds_as_prepared_is_committed_before_the_restored_task_runs() {
    let sink = CollectSink::in_two_phases();
    let source = ScriptedSource::new(vec![rows([1]), rows([2])], Then::Wait);
    let gate = source.gate.clone();
    gate.limit(1);
    let mut job = source_then_sink(source, &sink);
    job.deploy(None);
    eventually("the row", || sink.values() == [1]);
    job.checkpoint(1);
    job.cancel();
    sink.hold_commits();
    gate.open();
    let restore = job.restore(1);
    job.start(Some(&restore));
    eventually("the commit", || sink.commits_asked() > 0);
    assert_eq!(sink.values(), [1]);
    // A task that hangs in there can be canceled.
    job.cancel();
    assert_eq!(sink.committed(), [] as [i64; 0]);
    sink.open();
    job.deploy(Some(&restore));
    eventually("the next row", || sink.values() == [1, 2]);
    assert_eq!(sink.committed(), [1]);
    job.cancel();
}
