//! Checkpoints of whole tasks: barriers, snapshots in a real store, restores, commits.

mod ends;
mod failures;
mod job;
mod local;
mod unaligned;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};

use proptest::prelude::*;
use thalweg_types::StreamBatch;

use self::job::*;
use super::*;
use crate::program::NodeFactory;
use crate::testkit::*;

/// An operator that holds its task up at the first row until the test lets it go.
#[derive(Clone, Default)]
struct Held(Arc<(Mutex<HeldState>, Condvar)>);

#[derive(Default)]
struct HeldState {
    held: bool,
    released: bool,
}

impl Held {
    fn operator(&self) -> NodeFactory {
        let Self(shared) = self.clone();
        operator(move |_, batch| {
            let mut state = shared.0.lock().unwrap();
            state.held = true;
            while !state.released {
                state = shared.1.wait(state).unwrap();
            }
            Ok(vec![batch])
        })
    }

    fn await_task(&self) {
        eventually("the operator", || self.0.0.lock().unwrap().held);
    }

    fn release(&self) {
        self.0.0.lock().unwrap().released = true;
        self.0.1.notify_all();
    }
}

/// What a checkpoint should hold as counts: of the batches that came before each source's barrier.
fn counts_before(
    batches: &[StreamBatch],
    positions: &HashMap<u32, usize>,
    sources: usize,
) -> HashMap<i64, i64> {
    let mut counts = HashMap::new();
    for (index, batch) in batches.iter().enumerate() {
        if index / sources < positions[&((index % sources) as u32)] {
            values(batch)
                .into_iter()
                .for_each(|value| *counts.entry(value).or_default() += 1);
        }
    }
    counts
}

#[test]
fn a_checkpoint_of_one_task_holds_its_splits_and_its_counts_and_a_second_one_only_what_changed() {
    let source = ScriptedSource::new((0..4).map(|n| rows([n, 10 + n])).collect(), Then::Wait);
    let (gate, heard) = (source.gate.clone(), source.heard.clone());
    gate.limit(2);
    let sink = CollectSink::default();
    let nodes = vec![(1, source.node()), (2, counting()), (3, sink.node())];
    let mut job = Job::single(nodes, &[1, 2, 3]);
    job.deploy(None);
    eventually("two batches", || sink.values().len() == 4);
    job.checkpoint(1);
    assert_eq!(job.positions(1), HashMap::from([(0, 2)]));
    assert_eq!(
        job.counts(1, 2),
        HashMap::from([(0, 1), (10, 1), (1, 1), (11, 1)])
    );
    let runs = |job: &Job, id| {
        job.operator_states(id, 2)[0]
            .runs
            .iter()
            .map(|run| run.rows)
            .collect::<Vec<_>>()
    };
    assert_eq!(runs(&job, 1), [4]);
    gate.open();
    eventually("all batches", || sink.values().len() == 8);
    job.checkpoint(2);
    assert_eq!(runs(&job, 2), [4, 4]);
    assert_eq!(job.counts(2, 2).len(), 8);
    job.notify(2, true);
    eventually("the notification", || {
        heard.lock().unwrap().contains(&(0, 2, true))
    });
    assert!(
        job.metrics(2)
            .iter()
            .all(|metrics| metrics.checkpointed_bytes > 0 && metrics.full_bytes > 0)
    );
    job.cancel();
}

#[test]
fn a_restored_job_goes_on_where_its_checkpoint_was() {
    let batches: Vec<StreamBatch> = (0..40).map(|i| rows((0..50).map(|n| (i * 7 + n) % 23))).collect();
    let source = ScriptedSource::new(batches.clone(), Then::End);
    let gate = source.gate.clone();
    gate.limit(5);
    let sink = CollectSink::in_two_phases();
    let mut job = Job::keyed(source, counting(), &sink, 2, 2);
    job.deploy(None);
    eventually("five batches of each source", || sink.values().len() == 500);
    job.checkpoint(1);
    // What is behind the checkpoint is lost with the job, and comes again.
    gate.limit(8);
    eventually("three more", || sink.values().len() == 800);
    job.cancel();
    assert_eq!(sink.committed(), [] as [i64; 0]);

    let restore = job.restore(1);
    gate.open();
    job.deploy(Some(&restore));
    // The sinks' last rows wait for a checkpoint behind the end of the sources.
    job.finish_with_checkpoints(2);
    let mut expected: Vec<i64> = batches.iter().flat_map(values).collect();
    expected.sort_unstable();
    assert_eq!(sink.committed(), expected);
}

#[test]
fn a_table_that_an_operator_has_no_more_is_in_none_of_its_later_checkpoints() {
    let dropped = Arc::new(AtomicBool::new(false));
    let (NodeFactory::Operator(with), NodeFactory::Operator(without)) = (counting(), map(|n| n)) else {
        panic!("both are operators")
    };
    let is_dropped = dropped.clone();
    let operator = NodeFactory::Operator(Arc::new(move |context| {
        let make = if is_dropped.load(Ordering::SeqCst) {
            &without
        } else {
            &with
        };
        make(context)
    }));
    let source = ScriptedSource::new((0..4).map(|n| rows([n])).collect(), Then::Wait);
    let sink = CollectSink::default();
    let mut job = Job::keyed(source, operator, &sink, 1, 1);
    job.deploy(None);
    eventually("all rows", || sink.values().len() == 4);
    job.checkpoint(1);
    assert_eq!(job.counts(1, 2).len(), 4);
    job.cancel();
    dropped.store(true, Ordering::SeqCst);
    let restore = job.restore(1);
    job.deploy(Some(&restore));
    job.checkpoint(2);
    let states = job.operator_states(2, 2);
    assert!(states.iter().all(|state| state.runs.is_empty()), "{states:?}");
    job.cancel();
}

#[test]
fn at_least_once_barriers_hold_no_channel_up() {
    let source = ScriptedSource::new((0..20).map(|n| rows([n])).collect(), Then::Wait);
    let sink = CollectSink::default();
    let mut job = Job::keyed(source, counting(), &sink, 3, 2);
    job.options.at_least_once = true;
    job.deploy(None);
    job.checkpoint(1);
    eventually("all rows", || sink.values().len() == 20);
    job.checkpoint(2);
    let all: HashMap<i64, i64> = (0..20).map(|n| (n, 1)).collect();
    assert_eq!(job.counts(2, 2), all);
    job.cancel();
}

#[test]
fn a_checkpoint_that_a_newer_one_overtakes_is_declined_by_who_waits_for_it() {
    let source = ScriptedSource::new((0..6).map(|n| rows([n])).collect(), Then::Wait);
    let sink = CollectSink::default();
    let mut job = Job::keyed(source, counting(), &sink, 2, 1);
    job.deploy(None);
    eventually("all rows", || sink.values().len() == 6);
    // The first checkpoint reaches one of the sources only, as when its coordinator dies between two messages.
    job.trigger_at(1, &job.sources()[..1]);
    job.await_answers(1, 1);
    job.checkpoint(2);
    let declined = job.declined(1);
    assert_eq!(declined.len(), 1);
    assert!(declined[0].contains("a newer one"), "{declined:?}");
    assert_eq!(job.reasons(1), [control::CheckpointFailureReason::Subsumed]);
    assert_eq!(job.counts(2, 2).len(), 6);
    job.cancel();
}

#[test]
fn an_aborted_checkpoint_lets_the_channels_go_that_waited_for_it() {
    let source = ScriptedSource::new((0..6).map(|n| rows([n])).collect(), Then::Wait);
    let gate = source.gate.clone();
    gate.limit(1);
    let sink = CollectSink::default();
    let mut job = Job::keyed(source, counting(), &sink, 2, 1);
    job.deploy(None);
    eventually("a row of each", || sink.values().len() == 2);
    job.trigger_at(1, &job.sources()[..1]);
    job.await_answers(1, 1);
    gate.open();
    // The other source's rows come, those of the blocked channel don't.
    eventually("the free channel", || sink.values().len() == 4);
    job.notify(1, false);
    eventually("the blocked channel", || sink.values().len() == 6);
    job.checkpoint(2);
    assert_eq!(job.counts(2, 2).len(), 6);
    job.cancel();
}

#[test]
fn a_checkpoint_that_was_given_up_before_its_barrier_came_holds_no_channel_up() {
    let source = ScriptedSource::new((0..6).map(|n| rows([n])).collect(), Then::Wait);
    let gate = source.gate.clone();
    gate.limit(1);
    let sink = CollectSink::default();
    let mut job = Job::keyed(source, counting(), &sink, 2, 1);
    job.deploy(None);
    eventually("a row of each", || sink.values().len() == 2);
    job.notify_at(1, false, &job.consumers());
    let sources = job.sources();
    job.trigger_at(1, &sources[..1]);
    job.await_answers(1, 1);
    gate.limit(2);
    eventually("rows of both channels", || sink.values().len() == 4);
    job.checkpoint(2);
    // One more barrier of the first comes behind those of the second, or never gets that far.
    job.trigger_at(1, &sources[1..]);
    gate.open();
    eventually("all rows", || sink.values().len() == 6);
    job.checkpoint(3);
    assert_eq!((job.counts(2, 2).len(), job.counts(3, 2).len()), (4, 6));
    assert!(job.operator_states(1, 2).is_empty());
    job.cancel();
}

#[test]
fn a_checkpoint_that_completes_before_an_older_one_needs_nothing_of_its_folder() {
    let source = ScriptedSource::new((0..4).map(|n| rows([n])).collect(), Then::Wait);
    let gate = source.gate.clone();
    gate.limit(2);
    let sink = CollectSink::default();
    let mut job = Job::keyed(source, counting(), &sink, 1, 2);
    job.deploy(None);
    eventually("two rows", || sink.values().len() == 2);
    job.checkpoint(1);
    gate.limit(3);
    eventually("three rows", || sink.values().len() == 3);
    job.checkpoint(2);
    job.notify(2, true);
    job.notify(1, false);
    std::fs::remove_dir_all(job.folder.path().join("chk-1")).unwrap();
    gate.limit(4);
    eventually("four rows", || sink.values().len() == 4);
    job.checkpoint(3);
    assert_eq!((job.counts(2, 2).len(), job.counts(3, 2).len()), (3, 4));
    job.cancel();
    let restore = job.restore(2);
    job.deploy(Some(&restore));
    eventually("the row behind it", || sink.sorted_values() == [0, 1, 2, 3, 3]);
    job.cancel();
}

#[test]
fn a_checkpoint_that_is_triggered_and_given_up_between_two_looks_of_the_task_does_not_begin() {
    let held = Held::default();
    let source = ScriptedSource::new((0..3).map(|n| rows([n])).collect(), Then::Wait);
    let gate = source.gate.clone();
    gate.limit(1);
    let sink = CollectSink::default();
    let nodes = vec![(1, source.node()), (2, held.operator()), (3, sink.node())];
    let mut job = Job::single(nodes, &[1, 2, 3]);
    job.deploy(None);
    held.await_task();
    // One that would stop the task for good.
    job.options.terminate = true;
    job.trigger_at(1, &job.sources());
    job.notify(1, false);
    job.options.terminate = false;
    job.trigger_at(2, &job.sources());
    gate.open();
    held.release();
    eventually("all rows", || sink.values().len() == 3);
    job.await_answers(2, 1);
    assert!(job.metrics(1).is_empty() && job.declined(1).is_empty());
    job.cancel();
}

#[test]
fn a_barrier_that_waits_behind_the_end_of_the_other_channel_goes_if_its_checkpoint_is_given_up() {
    let held = Held::default();
    let source = ScriptedSource::new(vec![rows([1]), rows([2])], Then::End);
    let gate = source.gate.clone();
    let sink = CollectSink::in_two_phases();
    let mut job = Job::keyed(source, held.operator(), &sink, 2, 1);
    gate.limit(1);
    job.deploy(None);
    held.await_task();
    // The consumer works on the first row; the barrier and both ends come meanwhile.
    job.options.terminate = true;
    job.trigger_at(1, &job.sources()[..1]);
    job.await_answers(1, 1);
    job.notify(1, false);
    job.options.terminate = false;
    gate.open();
    held.release();
    job.finish_with_checkpoints(2);
    assert_eq!(sink.committed(), [1, 2]);
}

#[test]
fn a_source_that_is_held_up_by_its_consumers_does_not_hold_its_checkpoints_up() {
    let source = ScriptedSource::new(vec![rows(0..4096), rows(0..4096)], Then::Repeat);
    let sink = CollectSink::closed();
    let mut job = Job::keyed(source, counting(), &sink, 2, 1);
    job.deploy(None);
    let blocked =
        |task: &control::TaskMetrics| task.records_in == 0 && task.backpressured_ms_per_second > 999.0;
    eventually("backpressure in both sources", || {
        let tasks = job.process.executor.metrics();
        tasks.iter().filter(|task| blocked(task)).count() == 2
    });
    job.trigger_at(1, &job.sources());
    job.await_answers(1, 2);
    assert_eq!(job.positions(1).len(), 2);
    sink.open();
    job.await_answers(1, 3);
    assert_eq!(job.declined(1), [] as [String; 0]);
    job.cancel();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// However sources, channels and checkpoints interleave: what a checkpoint holds is what came before its barriers.
    #[test]
    fn the_state_is_exactly_what_came_before_the_barriers(
        sizes in proptest::collection::vec(1..30_usize, 1..60),
        sources in 1..4_u32,
        counters in 1..4_u32,
        checkpoints in 1..6_u64,
        unaligned in any::<bool>(),
    ) {
        let mut next = 0_i64;
        let batches: Vec<StreamBatch> = sizes.iter().map(|&size| {
            next += 1;
            rows((0..size as i64).map(|n| (n * 31 + next) % 17))
        }).collect();
        let source = ScriptedSource::new(batches.clone(), Then::Wait);
        let sink = CollectSink::default();
        let mut job = Job::keyed(source, counting(), &sink, sources, counters);
        job.options.unaligned = unaligned;
        job.deploy(None);
        for id in 1..=checkpoints {
            job.checkpoint(id);
            let expected = counts_before(&batches, &job.positions(id), sources as usize);
            let mut found = job.counts(id, 2);
            job.overtaken(id, 2).into_iter().for_each(|(n, count)| *found.entry(n).or_default() += count);
            prop_assert_eq!(found, expected);
        }
        job.cancel();
    }
}
