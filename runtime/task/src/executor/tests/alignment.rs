//! Watermark alignment: a fast and a slow source, the test being the JobMaster between them.

use thalweg_graph::WatermarkGroups;
use thalweg_proto::graph::v1::{JobGraph, JobVertex, WatermarkAlignment};
use thalweg_proto::state::v1::CheckpointOptions;
use thalweg_types::ExecutionId;

use super::*;
use crate::plan::execution_id;
use crate::testkit::*;

const DRIFT_MS: i64 = 50;

fn alignment() -> Option<WatermarkAlignment> {
    Some(WatermarkAlignment {
        group: "g".to_owned(),
        max_drift_ms: DRIFT_MS as u64,
        update_interval_ms: 1,
    })
}

/// Source and sink, aligned at the source.
fn aligned(chain: &[u32]) -> JobVertex {
    let mut vertex = vertex(chain, 1);
    vertex.chain[0].watermark_alignment = alignment();
    vertex
}

/// A row a batch, each followed by a watermark `step` ms later.
fn source(batches: i64, step: i64) -> ScriptedSource {
    let batch = |n| with_watermarks(rows([n]), &[(1, n * step)]);
    ScriptedSource::new((1..=batches).map(batch).collect(), Then::End)
}

/// The JobMaster's part.
struct Master {
    process: Process,
    vertices: Vec<JobVertex>,
    groups: WatermarkGroups,
}

impl Master {
    fn start(program: JobProgram, vertices: Vec<JobVertex>) -> Self {
        let job = JobGraph {
            vertices: vertices.clone(),
            ..JobGraph::default()
        };
        Self {
            process: Process::start(program),
            vertices,
            groups: WatermarkGroups::of(&job),
        }
    }

    fn execution(&self, place: usize) -> ExecutionId {
        execution_id(&attempt(&self.vertices[place], 0)).unwrap()
    }

    /// Passes watermarks on until something holds.
    fn until(&mut self, holds: impl Fn(&Self) -> bool) {
        while !holds(self) {
            self.process.take_report();
            for report in std::mem::take(&mut self.process.watermarks) {
                let execution = execution_id(&report.execution.unwrap()).unwrap();
                let place = (0..self.vertices.len()).find(|place| self.execution(*place) == execution);
                self.groups.report(place.unwrap(), 0, 0, report.watermark_ms);
            }
            let ended: Vec<_> = self
                .process
                .ends()
                .into_iter()
                .map(|end| end.update.execution)
                .collect();
            let runs = |vertex: usize, _, _| !ended.contains(&Some(attempt(&self.vertices[vertex], 0)));
            for place in 0..self.vertices.len() {
                let limit = self.groups.max_watermark(place, runs);
                self.process.executor.align(&self.execution(place), limit);
            }
        }
    }
}

#[test]
fn a_fast_source_waits_for_the_slow_one_and_its_checkpoints_do_not() {
    let (fast, slow) = (source(100, 10), source(3, 100));
    let (fast_gate, gate) = (fast.gate.clone(), slow.gate.clone());
    fast_gate.limit(0);
    gate.limit(1);
    let (fast_sink, slow_sink) = (CollectSink::default(), CollectSink::default());
    let nodes = vec![
        (1, fast.node()),
        (2, fast_sink.node()),
        (3, slow.node()),
        (4, slow_sink.node()),
    ];
    let vertices = vec![aligned(&[1, 2]), aligned(&[3, 4])];
    let mut master = Master::start(program(nodes, &[]), vertices);
    let deployments: Vec<_> = master
        .vertices
        .iter()
        .map(|vertex| deployment(vertex, 0))
        .collect();
    master.process.deploy(&deployments[1..]);
    master.until(|master| master.groups.max_watermark(0, |_, _, _| true) == 100 + DRIFT_MS);
    assert_eq!(slow_sink.values().len(), 1);
    // What the JobMaster says at first, so that it is known before the first row.
    master.process.deploy(&deployments[..1]);
    let execution = master.execution(0);
    master.process.executor.align(&execution, 100 + DRIFT_MS);
    fast_gate.open();
    master.until(|_| fast_sink.values().len() >= 16);

    let trigger = control::TriggerCheckpoint {
        executions: vec![attempt(&master.vertices[0], 0)],
        checkpoint_id: 1,
        options: Some(CheckpointOptions {
            // Nothing is written there: all of it is inline.
            exclusive_folder: "file:///".to_owned(),
            shared_folder: "file:///".to_owned(),
            inline_limit_bytes: u64::MAX,
            ..CheckpointOptions::default()
        }),
        ..control::TriggerCheckpoint::default()
    };
    master.process.executor.trigger(&execution, &trigger).unwrap();
    master.until(|master| !master.process.acknowledged.is_empty());
    assert_eq!(
        fast_sink.values().len(),
        16,
        "the row that passed the limit was the last"
    );

    gate.limit(2);
    master.until(|_| fast_sink.values().len() >= 26);
    assert_eq!((fast_sink.values().len(), slow_sink.values().len()), (26, 2));

    gate.open();
    master.until(|master| master.process.ends().len() == 2);
    assert_eq!(fast_sink.values().len(), 100);
    assert_eq!(end_states(&master.process.ends()), [TaskState::Finished; 2]);
}

/// How a task ends whose reader can't pause its splits and that is ahead.
fn end_of_unaligned(allowed: &str) -> TaskReport {
    let source = ScriptedSource {
        aligns_splits: false,
        ..source(5, 10)
    };
    let gate = source.gate.clone();
    gate.limit(0);
    let sink = CollectSink::default();
    let mut process = Process::start(program(vec![(1, source.node()), (2, sink.node())], &[]));
    let vertex = aligned(&[1, 2]);
    let mut deployment = deployment(&vertex, 0);
    let key = "pipeline.watermark-alignment.allow-unaligned-source-splits";
    deployment
        .configuration
        .insert(key.to_owned(), allowed.to_owned());
    process.deploy(&[deployment]);
    let execution = execution_id(&attempt(&vertex, 0)).unwrap();
    process.executor.align(&execution, 15);
    gate.open();
    eventually("a row beyond the limit", || sink.values().len() == 2);
    process.executor.align(&execution, 40);
    process.executor.align(&execution, i64::MAX);
    process.await_ends(1).remove(0)
}

#[test]
fn a_reader_that_can_not_pause_its_splits_is_refused_unless_it_is_allowed() {
    assert_eq!(end_of_unaligned("true").update.state(), TaskState::Finished);
    let refused = end_of_unaligned("false").update;
    assert_eq!(refused.state(), TaskState::Failed);
    let failure = refused.failure.unwrap();
    assert_eq!(failure.class(), control::FailureClass::Fatal);
    assert!(
        failure.message.contains("allow-unaligned-source-splits: true"),
        "{}",
        failure.message
    );
}

fn refusal(deployment: &control::TaskDeployment) -> String {
    let sink = CollectSink::default();
    let nodes = vec![(1, source(1, 1).node()), (2, map(|n| n)), (3, sink.node())];
    let process = Process::start(program(nodes, &[]));
    process.executor.deploy(deployment).unwrap_err().to_string()
}

#[test]
fn alignment_without_its_source_or_twice_is_refused_with_the_operators_name() {
    let mut behind = vertex(&[2, 3], 1);
    behind.chain[0].watermark_alignment = alignment();
    let mut deployments = vec![deployment(&behind, 0)];
    let before = vertex(&[1], 1);
    let exchange = edge(1, 1, 2, 0, thalweg_proto::graph::v1::Partitioner::Rebalance);
    let mut producers = vec![deployment(&before, 0)];
    connect(
        &exchange,
        (&before, &mut producers),
        (&behind, &mut deployments),
        |_| String::new(),
    );
    let message = refusal(&deployments[0]);
    assert!(
        message.contains("\"node 2\", which runs in another task than its source"),
        "{message}"
    );

    let mut twice = vertex(&[1, 2, 3], 1);
    twice.chain[0].watermark_alignment = alignment();
    twice.chain[1].watermark_alignment = alignment();
    let message = refusal(&deployment(&twice, 0));
    assert!(
        message.contains("\"node 1\" and again at \"node 2\""),
        "{message}"
    );
}
