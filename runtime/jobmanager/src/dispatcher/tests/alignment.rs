//! Watermark alignment: what tasks report, and what they are told.

use thalweg_proto::control::v1::{AlignWatermarks, ReportWatermark};
use thalweg_proto::graph::v1::{Partitioner, WatermarkAlignment};

use super::*;
use crate::testing::{stream_graph, submission_of};

const INTERVAL_MS: u64 = 100;
const DRIFT_MS: i64 = 30;

/// A source of two subtasks that are aligned with each other, and their tasks.
async fn aligned(cluster: &mut Cluster) -> (JobId, ConnectionId, Vec<ExecutionAttempt>) {
    let mut graph = stream_graph("aligned");
    graph.edges[0].partitioner = Partitioner::Forward.into();
    graph.nodes[1].key_columns.clear();
    graph.nodes[0].watermark_alignment = Some(WatermarkAlignment {
        group: "clicks".to_owned(),
        max_drift_ms: DRIFT_MS as u64,
        update_interval_ms: INTERVAL_MS,
    });
    let job = JobId::from_u128(1);
    let configuration = [
        ("parallelism.default", "2"),
        ("restart-strategy.type", "fixed-delay"),
        ("restart-strategy.fixed-delay.delay", "1 ms"),
    ];
    let submission = submission_of(graph, &cluster.packages, job, &configuration).await;
    let (answer, _) = oneshot::channel();
    let connection = cluster.register("tm", 2);
    let Begin::Proceed(ticket) = cluster.dispatcher.begin_submission("", answer) else {
        panic!("it is new");
    };
    let submitted = Ok(Box::new(submission));
    cluster.dispatcher.submitted(ticket, submitted, cluster.now_ms);
    cluster.settle();
    let tasks = executions(&cluster.start_workers(connection));
    cluster.report(connection, &tasks, control::TaskState::Running);
    cluster.take_commands(connection);
    (job, connection, tasks)
}

impl Cluster {
    fn report_watermark(
        &mut self,
        connection: ConnectionId,
        task: &ExecutionAttempt,
        watermark_ms: Option<i64>,
    ) {
        let report = ReportWatermark {
            execution: Some(task.clone()),
            watermark_ms,
        };
        self.say(connection, Message::ReportWatermark(report));
    }

    /// What is announced when the interval is over.
    fn announced(&mut self, connection: ConnectionId) -> AlignWatermarks {
        self.take_commands(connection);
        self.pass(INTERVAL_MS);
        let commands = self.take_commands(connection);
        let mut found = commands.iter().filter_map(|command| match command {
            Command::AlignWatermarks(align) => Some(align.clone()),
            _ => None,
        });
        let align = found
            .next()
            .unwrap_or_else(|| panic!("an announcement: {commands:?}"));
        assert_eq!(found.next(), None, "one an interval and TaskManager");
        align
    }
}

#[tokio::test]
async fn all_tasks_of_a_group_are_told_the_least_watermark_and_the_drift() {
    let mut cluster = cluster(&[]);
    let (_, connection, tasks) = aligned(&mut cluster).await;
    let first = cluster.announced(connection);
    assert_eq!((first.executions.len(), first.max_watermark_ms), (2, i64::MAX));
    cluster.report_watermark(connection, &tasks[0], Some(1_000));
    cluster.report_watermark(connection, &tasks[1], Some(400));
    assert_eq!(cluster.announced(connection).max_watermark_ms, 400 + DRIFT_MS);
    cluster.report_watermark(connection, &tasks[1], None);
    assert_eq!(cluster.announced(connection).max_watermark_ms, 1_000 + DRIFT_MS);
}

#[tokio::test]
async fn a_task_that_has_finished_or_restarts_holds_nobody_back() {
    let mut cluster = cluster(&[]);
    let (_, connection, tasks) = aligned(&mut cluster).await;
    cluster.report_watermark(connection, &tasks[0], Some(1_000));
    cluster.report_watermark(connection, &tasks[1], Some(400));
    cluster.report(connection, &tasks[1..], control::TaskState::Finished);
    let announced = cluster.announced(connection);
    assert_eq!(announced.executions, &tasks[..1]);
    assert_eq!(announced.max_watermark_ms, 1_000 + DRIFT_MS);
    cluster.report(connection, &tasks[..1], control::TaskState::Failed);
    cluster.pass(INTERVAL_MS);
    let again = executions(&deployed(cluster.take_commands(connection)));
    assert_eq!(again.len(), 1, "the failed region starts again");
    cluster.report_watermark(connection, &tasks[0], Some(500));
    cluster.report(connection, &again, control::TaskState::Running);
    let announced = cluster.announced(connection);
    assert_eq!(
        (announced.executions, announced.max_watermark_ms),
        (again, i64::MAX),
        "what the attempt before said, also what came late, is of no account"
    );
}
