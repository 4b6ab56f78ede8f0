//! Several tasks and the channels between them.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use thalweg_operators::OperatorError;
use thalweg_proto::graph::v1::{JobVertex, Partitioner};

use super::*;
use crate::plan::execution_id;
use crate::program::NodeFactory;
use crate::testkit::*;

/// Source (node 1, parallelism 2) ==edge 1==> map -> sink (nodes 2 and 3).
struct TwoVertices {
    program: JobProgram,
    sources: Vec<control::TaskDeployment>,
    sinks: Vec<control::TaskDeployment>,
    from: JobVertex,
    to: JobVertex,
    edge: thalweg_proto::graph::v1::StreamEdge,
}

fn two_vertices(
    source: ScriptedSource,
    sink: &CollectSink,
    partitioner: Partitioner,
    consumers: u32,
) -> TwoVertices {
    let program = program(vec![(1, source.node()), (2, map(|n| n)), (3, sink.node())], &[1]);
    let (from, to) = (vertex(&[1], 2), vertex(&[2, 3], consumers));
    TwoVertices {
        program,
        sources: (0..2).map(|subtask| deployment(&from, subtask)).collect(),
        sinks: (0..consumers).map(|subtask| deployment(&to, subtask)).collect(),
        from,
        to,
        edge: edge(1, 1, 2, 0, partitioner),
    }
}

impl TwoVertices {
    fn connect(&mut self, address: &str) {
        let address = address.to_owned();
        let producers = (&self.from, self.sources.as_mut_slice());
        connect(
            &self.edge,
            producers,
            (&self.to, self.sinks.as_mut_slice()),
            |_| address.clone(),
        );
    }
}

fn batches(count: i64) -> Vec<thalweg_types::StreamBatch> {
    (0..count)
        .map(|i| rows((0..50).map(|n| (i * 50 + n) % 97)))
        .collect()
}

/// Every row is there, and each value was seen by one subtask only.
fn assert_partitioned(sink: &CollectSink, sent: i64) {
    let mut expected: Vec<i64> = batches(sent).iter().flat_map(values).collect();
    expected.sort_unstable();
    assert_eq!(sink.sorted_values(), expected);
    let mut owners = HashMap::new();
    for (subtask, value) in sink.written() {
        assert_eq!(
            *owners.entry(value).or_insert(subtask),
            subtask,
            "value {value} is in two subtasks"
        );
    }
    assert!(owners.values().any(|&subtask| subtask == 0) && owners.values().any(|&subtask| subtask == 1));
}

#[test]
fn a_keyed_exchange_within_a_process_sends_each_key_to_one_subtask() {
    let sink = CollectSink::default();
    let source = ScriptedSource::new(batches(20), Then::End);
    let mut job = two_vertices(source, &sink, Partitioner::Hash, 2);
    let mut process = Process::start(job.program.clone());
    job.connect(&process.address);
    process.deploy(&job.sinks);
    process.deploy(&job.sources);
    let ends = process.await_ends(4);
    assert_eq!(end_states(&ends), [TaskState::Finished; 4]);
    assert_partitioned(&sink, 20);
    let total = |of: fn(&control::TaskMetrics) -> u64| {
        ends.iter()
            .filter_map(|report| report.metrics.as_ref())
            .map(of)
            .sum::<u64>()
    };
    assert_eq!(total(|task| task.records_out), 1000);
    assert_eq!(total(|task| task.records_in), 1000);
    assert!(total(|task| task.bytes_out) > 0);
    assert!(total(|task| task.batches_in) > 0);
}

#[test]
fn a_keyed_exchange_between_processes_gives_the_same() {
    let sink = CollectSink::default();
    let source = ScriptedSource::new(batches(20), Then::End);
    let mut job = two_vertices(source, &sink, Partitioner::Hash, 2);
    let io = io();
    let mut producer = Process::start_on(&io, job.program.clone());
    let mut consumer = Process::start_on(&io, job.program.clone());
    job.connect(&producer.address);
    consumer.deploy(&job.sinks);
    producer.deploy(&job.sources);
    assert_eq!(end_states(&producer.await_ends(2)), [TaskState::Finished; 2]);
    assert_eq!(end_states(&consumer.await_ends(2)), [TaskState::Finished; 2]);
    assert_partitioned(&sink, 20);
    assert_eq!(*sink.watermarks().last().unwrap(), i64::MAX);
}

#[test]
fn a_closed_sink_stops_the_sources_on_the_other_side_of_a_channel() {
    let sink = CollectSink::closed();
    let source = ScriptedSource::new(vec![rows(0..4096), rows(0..4096)], Then::Repeat);
    let taken = source.taken.clone();
    let mut job = two_vertices(source, &sink, Partitioner::Rebalance, 1);
    let mut process = Process::start(job.program.clone());
    job.connect(&process.address);
    process.deploy(&job.sinks);
    process.deploy(&job.sources);
    let blocked =
        |task: &control::TaskMetrics| task.records_in == 0 && task.backpressured_ms_per_second > 999.0;
    eventually("backpressure in both sources", || {
        process
            .executor
            .metrics()
            .iter()
            .filter(|task| blocked(task))
            .count()
            == 2
    });
    let before = taken.load(Ordering::SeqCst);
    assert!(before < 2_000_000, "{before} rows were taken");
    sink.open();
    eventually("more rows", || taken.load(Ordering::SeqCst) > before + 100_000);
    process.executor.cancel_all();
    let ends = process.await_ends(3);
    assert_eq!(end_states(&ends), [TaskState::Canceled; 3]);
}

#[test]
fn rows_that_wait_to_be_coalesced_leave_by_the_buffer_timeout() {
    let sink = CollectSink::default();
    let source = ScriptedSource::new(vec![rows(0..1), rows(1..2)], Then::Wait);
    let mut job = two_vertices(source, &sink, Partitioner::Rebalance, 1);
    let mut process = Process::start(job.program.clone());
    job.connect(&process.address);
    process.deploy(&job.sinks);
    process.deploy(&job.sources);
    eventually("both rows", || sink.sorted_values() == [0, 1]);
    process.executor.cancel_all();
    process.await_ends(3);
}

/// A task whose operator fails at its first row, and one that reads what it sends. Both are deployed.
fn failing_producer() -> (Process, control::TaskDeployment, control::TaskDeployment) {
    let sink = CollectSink::default();
    let broken = operator(|_, _| {
        Err(OperatorError::User {
            operator: "f".to_owned(),
            message: "bad".to_owned(),
        })
    });
    let source = ScriptedSource::new(vec![rows(0..1)], Then::Wait);
    let program = program(vec![(1, source.node()), (2, broken), (3, sink.node())], &[]);
    let (from, to) = (vertex(&[1, 2], 1), vertex(&[3], 1));
    let mut sources = [deployment(&from, 0)];
    let mut sinks = [deployment(&to, 0)];
    let process = Process::start(program);
    let address = process.address.clone();
    connect(
        &edge(1, 2, 3, 0, Partitioner::Forward),
        (&from, &mut sources),
        (&to, &mut sinks),
        |_| address.clone(),
    );
    process.deploy(&sinks);
    process.deploy(&sources);
    let ([source], [sink]) = (sources, sinks);
    (process, source, sink)
}

#[test]
fn a_failed_producer_fails_its_consumers_in_a_way_that_can_be_retried() {
    let (mut process, _, _) = failing_producer();
    let ends = process.await_ends(2);
    assert_eq!(end_states(&ends), [TaskState::Failed; 2]);
    for end in &ends {
        assert_eq!(
            end.update.failure.as_ref().unwrap().class(),
            control::FailureClass::Retryable
        );
    }
}

#[test]
fn a_failed_producer_is_told_before_its_consumers_which_a_cancel_ends_without_a_failure() {
    let (mut process, source, sink) = failing_producer();
    let first = process.await_ends(1);
    assert_eq!(first[0].update.execution, source.execution);
    assert!(failure(&first).message.contains("bad"), "{:?}", failure(&first));
    let reader = execution_id(&sink.execution.unwrap()).unwrap();
    assert!(process.executor.cancel(&reader));
    let ends = process.await_ends(2);
    assert_eq!(end_states(&ends), [TaskState::Failed, TaskState::Canceled]);
}

/// Sources 1 and 2 ==edges 1 and 2==> node 3 -> sink 4, on the given logical inputs of node 3.
fn fan_in(inputs: [u32; 2], node: NodeFactory, sink: &CollectSink) {
    let left = ScriptedSource::new(vec![rows(0..3)], Then::End);
    let right = ScriptedSource::new(vec![rows(10..13)], Then::End);
    let program = program(
        vec![(1, left.node()), (2, right.node()), (3, node), (4, sink.node())],
        &[],
    );
    let (left, right, to) = (vertex(&[1], 1), vertex(&[2], 1), vertex(&[3, 4], 1));
    let mut lefts = [deployment(&left, 0)];
    let mut rights = [deployment(&right, 0)];
    let mut sinks = [deployment(&to, 0)];
    let mut process = Process::start(program);
    let address = process.address.clone();
    for (id, vertex, tasks) in [(1, &left, &mut lefts), (2, &right, &mut rights)] {
        let edge = edge(id, id, 3, inputs[id as usize - 1], Partitioner::Forward);
        connect(&edge, (vertex, tasks.as_mut_slice()), (&to, &mut sinks), |_| {
            address.clone()
        });
    }
    process.deploy(&sinks);
    process.deploy(&lefts);
    process.deploy(&rights);
    assert_eq!(end_states(&process.await_ends(3)), [TaskState::Finished; 3]);
}

#[test]
fn two_edges_on_one_input_are_a_union() {
    let sink = CollectSink::default();
    fan_in([0, 0], map(|n| n), &sink);
    assert_eq!(sink.sorted_values(), [0, 1, 2, 10, 11, 12]);
    assert_eq!(sink.watermarks(), [i64::MAX]);
}

#[test]
fn two_edges_on_two_inputs_are_told_apart() {
    let sink = CollectSink::default();
    let tagged = operator(|input, batch| {
        Ok(vec![rows(
            values(&batch).into_iter().map(|n| n + 100 * input as i64),
        )])
    });
    fan_in([0, 1], tagged, &sink);
    assert_eq!(sink.sorted_values(), [0, 1, 2, 110, 111, 112]);
}

#[test]
fn a_broadcast_reaches_every_subtask() {
    let sink = CollectSink::default();
    let source = ScriptedSource::new(vec![rows(0..2), rows(2..4)], Then::End);
    let mut job = two_vertices(source, &sink, Partitioner::Broadcast, 3);
    let mut process = Process::start(job.program.clone());
    job.connect(&process.address);
    process.deploy(&job.sources);
    process.deploy(&job.sinks);
    process.await_ends(5);
    let mut written = sink.written();
    written.sort_unstable();
    let expected: Vec<_> = (0..3)
        .flat_map(|subtask| (0..4).map(move |value| (subtask, value)))
        .collect();
    assert_eq!(written, expected);
}
