//! One task: what its chain does with rows, watermarks and the end of its input.

use proptest::prelude::*;
use thalweg_proto::graph::v1::Partitioner;

use super::*;
use crate::testkit::*;

#[test]
fn rows_pass_the_chain_in_order_and_the_task_reports_flinks_states() {
    let sink = CollectSink::default();
    let source = ScriptedSource::new(vec![rows(0..3), rows(3..5)], Then::End);
    let program = program(
        vec![(1, source.node()), (2, map(|n| n * 10)), (3, sink.node())],
        &[],
    );
    let vertex = vertex(&[1, 2, 3], 1);
    let mut process = Process::start(program);
    process.deploy(&[deployment(&vertex, 0)]);
    process.await_ends(1);
    assert_eq!(sink.values(), [0, 10, 20, 30, 40]);
    assert_eq!(sink.flushed(), 1);
    assert_eq!(
        process.states(&attempt(&vertex, 0)),
        [
            TaskState::Deploying,
            TaskState::Initializing,
            TaskState::Running,
            TaskState::Finished
        ]
    );
    assert!(process.executor.running().is_empty());
}

#[test]
fn the_last_report_brings_counters_that_agree_with_each_other() {
    let sink = CollectSink::taking(2);
    let source = ScriptedSource::new(vec![rows(0..7), rows(7..10)], Then::End);
    let program = program(vec![(1, source.node()), (2, map(|n| n)), (3, sink.node())], &[]);
    let mut process = Process::start(program);
    process.deploy(&[deployment(&vertex(&[1, 2, 3], 1), 0)]);
    let ends = process.await_ends(1);
    let metrics = ends[0].metrics.as_ref().unwrap();
    let counted: Vec<_> = metrics
        .operators
        .iter()
        .map(|operator| (operator.node, operator.records_in, operator.records_out))
        .collect();
    assert_eq!(counted, [(1, 0, 10), (2, 10, 10), (3, 10, 0)]);
    assert_eq!(metrics.operators[0].gauges["pendingRecords"], 0.0);
    assert_eq!(metrics.operators[2].gauges["numRecordsSend"], 10.0);
    assert_eq!(metrics.task_name, "node 1 -> node 2 -> node 3");
}

#[test]
fn a_sink_that_takes_a_part_of_a_batch_gets_the_rest() {
    let sink = CollectSink::taking(3);
    let batch = with_watermarks(rows(0..10), &[(4, 40), (10, 100)]);
    let program = program(
        vec![
            (1, ScriptedSource::new(vec![batch], Then::End).node()),
            (2, sink.node()),
        ],
        &[],
    );
    let mut process = Process::start(program);
    process.deploy(&[deployment(&vertex(&[1, 2], 1), 0)]);
    process.await_ends(1);
    assert_eq!(sink.values(), (0..10).collect::<Vec<_>>());
}

#[test]
fn watermarks_pass_simple_operators_and_the_end_of_a_bounded_source_is_the_last() {
    let sink = CollectSink::default();
    let batch = with_watermarks(rows(0..2), &[(1, 10), (2, 20)]);
    let program = program(
        vec![
            (1, ScriptedSource::new(vec![batch], Then::End).node()),
            (2, map(|n| n)),
            (3, sink.node()),
        ],
        &[],
    );
    let mut process = Process::start(program);
    process.deploy(&[deployment(&vertex(&[1, 2, 3], 1), 0)]);
    process.await_ends(1);
    assert_eq!(sink.watermarks(), [10, 20, i64::MAX]);
}

#[test]
fn what_an_operator_holds_comes_out_at_the_end_of_its_input() {
    let sink = CollectSink::default();
    let source = ScriptedSource::new(vec![rows(0..3), rows(3..6)], Then::End);
    let program = program(
        vec![(1, source.node()), (2, hold_to_the_end()), (3, sink.node())],
        &[],
    );
    let mut process = Process::start(program);
    process.deploy(&[deployment(&vertex(&[1, 2, 3], 1), 0)]);
    process.await_ends(1);
    assert_eq!(sink.values(), (0..6).collect::<Vec<_>>());
}

#[test]
fn every_branch_of_a_chain_gets_every_row() {
    let (plain, tenfold, filtered) = (
        CollectSink::default(),
        CollectSink::default(),
        CollectSink::taking(1),
    );
    let source = ScriptedSource::new(vec![rows(0..4), rows(4..6)], Then::End);
    let even = operator(|_, batch| Ok(vec![rows(values(&batch).into_iter().filter(|n| n % 2 == 0))]));
    let program = program(
        vec![
            (1, source.node()),
            (2, plain.node()),
            (3, map(|n| n * 10)),
            (4, tenfold.node()),
            (5, even),
            (6, filtered.node()),
        ],
        &[],
    );
    let mut branching = vertex(&[1, 2, 3, 4, 5, 6], 1);
    let links = [(1, 2), (1, 3), (3, 4), (3, 5), (5, 6)];
    branching.chained_edges = links
        .map(|(from, to)| edge(90, from, to, 0, Partitioner::Forward))
        .to_vec();
    let mut process = Process::start(program);
    process.deploy(&[deployment(&branching, 0)]);
    process.await_ends(1);
    assert_eq!(plain.values(), [0, 1, 2, 3, 4, 5]);
    assert_eq!(tenfold.values(), [0, 10, 20, 30, 40, 50]);
    assert_eq!(filtered.values(), tenfold.values());
}

#[test]
fn a_closed_sink_stops_the_source_after_a_batch() {
    let sink = CollectSink::closed();
    let source = ScriptedSource::new(vec![rows(0..100)], Then::Repeat);
    let taken = source.taken.clone();
    let program = program(vec![(1, source.node()), (2, map(|n| n)), (3, sink.node())], &[]);
    let vertex = vertex(&[1, 2, 3], 1);
    let mut process = Process::start(program);
    process.deploy(&[deployment(&vertex, 0)]);
    eventually("backpressure", || sink.holds_someone_up());
    process.executor.metrics();
    eventually("backpressured time", || {
        process.executor.metrics()[0].backpressured_ms_per_second > 0.0
    });
    assert_eq!(taken.load(std::sync::atomic::Ordering::SeqCst), 100);
    sink.open();
    eventually("more rows", || sink.written().len() > 1000);
    process.executor.cancel_all();
    assert_eq!(end_states(&process.await_ends(1)), [TaskState::Canceled]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The same rows in other batches, through a sink that takes other parts, give the same result.
    #[test]
    fn batch_cuts_change_nothing(
        cuts in proptest::collection::vec(0..20_i64, 0..12),
        at_most in 0..7_usize,
    ) {
        let mut next = 0;
        let batches = cuts.iter().map(|&length| {
            next += length;
            rows(next - length..next)
        });
        let source = ScriptedSource::new(batches.collect(), Then::End);
        let twice = operator(|_, batch| {
            let value = values(&batch);
            Ok(value.into_iter().map(|n| rows([n, -n])).collect())
        });
        let sink = CollectSink::taking(at_most);
        let program = program(vec![(1, source.node()), (2, twice), (3, hold_to_the_end()), (4, sink.node())], &[]);
        let mut process = Process::start(program);
        process.deploy(&[deployment(&vertex(&[1, 2, 3, 4], 1), 0)]);
        process.await_ends(1);
        prop_assert_eq!(sink.values(), (0..next).flat_map(|n| [n, -n]).collect::<Vec<_>>());
    }
}
