//! Checkpoints and failures in every order that matters: events and a clock in, commands and work in storage out.

use thalweg_proto::control::v1::{AcknowledgeCheckpoint, NotifyCheckpoint, TriggerCheckpoint};
use thalweg_proto::graph::v1::Partitioner;
use thalweg_proto::state::v1::{
    Distribution, OperatorList, OperatorSubtaskState, StateFile, TaskOperatorSnapshot, TaskSnapshot,
};

use super::*;
use crate::job_master::{OperationKind, SnapshotRequest};
use crate::storage_work::StorageRequest;
use crate::testing::{stream_graph, submission_of};

const INTERVAL_MS: u64 = 1_000;
const CHECKPOINTED: [(&str, &str); 6] = [
    ("parallelism.default", "2"),
    ("execution.checkpointing.interval", "1 s"),
    ("execution.checkpointing.dir", "/checkpoints"),
    ("execution.checkpointing.savepoint-dir", "/savepoints"),
    ("restart-strategy.type", "fixed-delay"),
    ("restart-strategy.fixed-delay.delay", "1 s"),
];

/// The source, map and sink of each subtask are one task, and a region of its own.
async fn two_regions(cluster: &mut Cluster) -> (JobId, ConnectionId, Vec<ExecutionAttempt>) {
    let mut graph = stream_graph("counts");
    graph.edges[0].partitioner = Partitioner::Forward.into();
    graph.nodes[1].key_columns.clear();
    let job = JobId::from_u128(1);
    let submission = submission_of(graph, &cluster.packages, job, &CHECKPOINTED).await;
    let (answer, _) = oneshot::channel();
    let connection = cluster.register("tm", 2);
    let Begin::Proceed(ticket) = cluster.dispatcher.begin_submission("", answer) else {
        panic!("it is new");
    };
    cluster
        .dispatcher
        .submitted(ticket, Ok(Box::new(submission)), cluster.now_ms);
    cluster.settle();
    let tasks = executions(&cluster.start_workers(connection));
    assert_eq!(tasks.len(), 2, "two tasks in two regions");
    cluster.report(connection, &tasks, control::TaskState::Running);
    cluster.take_commands(connection);
    (job, connection, tasks)
}

fn list_of(operator_id: &str) -> TaskOperatorSnapshot {
    TaskOperatorSnapshot {
        operator_id: operator_id.to_owned(),
        state: Some(OperatorSubtaskState {
            lists: vec![OperatorList {
                name: "items".to_owned(),
                distribution: Distribution::Split.into(),
                file: Some(StateFile {
                    size: 1,
                    inline: vec![1],
                    ..StateFile::default()
                }),
                items: 1,
            }],
            ..OperatorSubtaskState::default()
        }),
        tables: Vec::new(),
    }
}

impl Cluster {
    fn trigger(&mut self, connection: ConnectionId) -> TriggerCheckpoint {
        let commands = self.take_commands(connection);
        let found = commands.iter().find_map(|command| match command {
            Command::TriggerCheckpoint(trigger) => Some(trigger.clone()),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("a checkpoint was triggered: {commands:?}"))
    }

    fn acknowledge(&mut self, connection: ConnectionId, checkpoint_id: u64, tasks: &[ExecutionAttempt]) {
        for task in tasks {
            let acknowledge = AcknowledgeCheckpoint {
                execution: Some(task.clone()),
                checkpoint_id,
                snapshot: Some(TaskSnapshot {
                    operators: vec![list_of(&format!("{:032x}", 1))],
                }),
                metrics: None,
            };
            self.say(connection, Message::AcknowledgeCheckpoint(acknowledge));
        }
    }

    /// What was to be written; its answer is the test's to give.
    fn metadata_to_write(&mut self) -> (JobId, u64) {
        let storage = std::mem::take(&mut self.storage);
        let found = storage.iter().find_map(|(job, work)| match &work.request {
            StorageRequest::WriteMetadata { checkpoint_id, .. } => Some((*job, *checkpoint_id)),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("metadata was to be written: {storage:?}"))
    }

    fn written(&mut self, (job, checkpoint_id): (JobId, u64), result: Result<u64, Failure>) {
        let outcome = StorageOutcome::MetadataWritten {
            checkpoint_id,
            result,
        };
        self.dispatcher.storage_done(job, outcome, self.now_ms);
        self.settle();
    }

    fn complete_one(&mut self, connection: ConnectionId, tasks: &[ExecutionAttempt]) -> u64 {
        self.pass(INTERVAL_MS);
        let id = self.trigger(connection).checkpoint_id;
        self.acknowledge(connection, id, tasks);
        let metadata = self.metadata_to_write();
        self.written(metadata, Ok(100));
        id
    }
}

fn notifications(commands: &[Command]) -> Vec<NotifyCheckpoint> {
    let notifications = commands.iter().filter_map(|command| match command {
        Command::NotifyCheckpoint(notify) => Some(notify.clone()),
        _ => None,
    });
    notifications.collect()
}

#[tokio::test]
async fn tasks_hear_of_a_checkpoint_when_its_metadata_is_written_and_not_before() {
    let mut cluster = cluster(&[]);
    let (job, connection, tasks) = two_regions(&mut cluster).await;
    cluster.pass(INTERVAL_MS);
    let trigger = cluster.trigger(connection);
    assert_eq!(trigger.executions, tasks, "both are sources");
    let options = trigger.options.unwrap();
    assert_eq!(
        options.exclusive_folder,
        format!("file:///checkpoints/{job}/chk-1")
    );
    assert_eq!(options.shared_folder, format!("file:///checkpoints/{job}/shared"));
    cluster.acknowledge(connection, 1, &tasks);
    assert!(notifications(&cluster.take_commands(connection)).is_empty());
    let metadata = cluster.metadata_to_write();
    cluster.written(metadata, Ok(100));
    let [notify] = &notifications(&cluster.take_commands(connection))[..] else {
        panic!("one message to one TaskManager");
    };
    assert_eq!((notify.completed, &notify.executions), (true, &tasks));
    assert_eq!(cluster.status(job).checkpoints.unwrap().latest_id, 1);
}

#[tokio::test]
async fn a_failed_region_alone_restarts_from_the_newest_checkpoint_and_the_pending_one_is_aborted() {
    let mut cluster = cluster(&[]);
    let (job, connection, tasks) = two_regions(&mut cluster).await;
    let completed = cluster.complete_one(connection, &tasks);
    cluster.pass(INTERVAL_MS);
    let pending = cluster.trigger(connection).checkpoint_id;
    cluster.acknowledge(connection, pending, &tasks[..1]);
    cluster.report(connection, &tasks[1..], control::TaskState::Failed);
    let commands = cluster.take_commands(connection);
    let [abort] = &notifications(&commands)[..] else {
        panic!("the other task hears that it is aborted: {commands:?}");
    };
    assert_eq!(
        (abort.completed, abort.checkpoint_id, &abort.executions[..]),
        (false, pending, &tasks[..1])
    );
    let folder = format!("file:///checkpoints/{job}/chk-{pending}");
    let deletes =
        |(_, work): &(JobId, StorageWork)| work.request == StorageRequest::DeleteFolder(folder.clone());
    assert!(cluster.storage.iter().any(deletes), "{:?}", cluster.storage);

    cluster.pass(1_000);
    let [deployment] = &deployed(cluster.take_commands(connection))[..] else {
        panic!("the failed task alone is deployed again");
    };
    let again = deployment.execution.clone().unwrap();
    assert_eq!((again.subtask, again.attempt), (1, 1));
    let restore = deployment.restore.as_ref().unwrap();
    assert_eq!(
        (restore.checkpoint_id, restore.operators[0].lists.len()),
        (completed, 1)
    );
    cluster.report(
        connection,
        std::slice::from_ref(&again),
        control::TaskState::Running,
    );
    let next = cluster.complete_one(connection, &[tasks[0].clone(), again]);
    assert!(next > pending);
    assert_eq!(cluster.status(job).checkpoints.unwrap().latest_id, next);
}

#[tokio::test]
async fn metadata_that_is_written_after_its_tasks_failed_makes_no_checkpoint() {
    let mut cluster = cluster(&[]);
    let (job, connection, tasks) = two_regions(&mut cluster).await;
    cluster.pass(INTERVAL_MS);
    let id = cluster.trigger(connection).checkpoint_id;
    cluster.acknowledge(connection, id, &tasks);
    let metadata = cluster.metadata_to_write();
    cluster.report(connection, &tasks[1..], control::TaskState::Failed);
    cluster.take_commands(connection);
    cluster.written(metadata, Ok(100));
    cluster.pass(1_000);
    let deployments = deployed(cluster.take_commands(connection));
    assert_eq!(deployments.len(), 1);
    assert_eq!(deployments[0].restore, None, "it begins anew");
    assert_eq!(cluster.status(job).checkpoints.unwrap().completed, 0);
}

#[tokio::test]
async fn metadata_that_can_not_be_written_fails_the_checkpoint_with_the_reason() {
    let mut cluster = cluster(&[]);
    let (job, connection, tasks) = two_regions(&mut cluster).await;
    cluster.pass(INTERVAL_MS);
    let id = cluster.trigger(connection).checkpoint_id;
    cluster.acknowledge(connection, id, &tasks);
    let metadata = cluster.metadata_to_write();
    let full = Failure::new(FailureClass::Retryable, "no space left");
    cluster.written(metadata, Err(full));
    let status = cluster.status(job);
    assert!(status.checkpoints.unwrap().last_failure.contains("no space left"));
    let failure = status.last_failure.unwrap();
    assert!(
        failure.message.contains("tolerable-failed-checkpoints"),
        "none is tolerated, the job restarts: {failure:?}"
    );
    assert_eq!(status.state, "RESTARTING");
}

#[tokio::test]
async fn what_a_finished_task_left_behind_is_in_later_checkpoints_and_comes_back() {
    let mut cluster = cluster(&[]);
    let (_, connection, tasks) = two_regions(&mut cluster).await;
    let finished = TaskStateUpdate {
        execution: Some(tasks[0].clone()),
        state: control::TaskState::Finished.into(),
        failure: None,
        metrics: None,
        final_snapshot: Some(TaskSnapshot {
            operators: vec![list_of(&format!("{:032x}", 1)), list_of(&format!("{:032x}", 3))],
        }),
    };
    cluster.say(connection, Message::TaskState(finished));
    cluster.pass(INTERVAL_MS);
    let trigger = cluster.trigger(connection);
    assert_eq!(trigger.executions, tasks[1..], "the finished one is not asked");
    cluster.acknowledge(connection, trigger.checkpoint_id, &tasks[1..]);
    let work = cluster.storage.iter().find_map(|(_, work)| match &work.request {
        StorageRequest::WriteMetadata { metadata, .. } => Some(metadata.clone()),
        _ => None,
    });
    let metadata = work.unwrap();
    let subtasks = |operator: u32| {
        let id = format!("{operator:032x}");
        let found = metadata.operators.iter().find(|state| state.operator_id == id);
        found.map_or(0, |state| state.subtasks.len())
    };
    assert_eq!((subtasks(1), subtasks(3)), (2, 1));
}

#[tokio::test]
async fn a_savepoint_while_the_job_waits_for_slots_begins_when_it_runs_or_is_given_up() {
    let mut cluster = cluster(&[]);
    let job = cluster.submit(7, &CHECKPOINTED).await;
    let request = |id: &str| SnapshotRequest {
        operation_id: id.to_owned(),
        kind: OperationKind::Savepoint,
        target: None,
        drain: false,
        full: true,
    };
    let begun = cluster
        .dispatcher
        .trigger_snapshot(job, request("early"), cluster.now_ms);
    assert_eq!(begun, Some(Ok("early".to_owned())));
    cluster.pass(600_000);
    let [savepoint] = &cluster.status(job).savepoints[..] else {
        panic!("it is told of");
    };
    let failure = savepoint.failure.as_ref().unwrap();
    assert!(
        failure.message.contains("not all tasks were running"),
        "{failure:?}"
    );
    assert_eq!(
        cluster
            .dispatcher
            .trigger_snapshot(JobId::from_u128(99), request("other"), cluster.now_ms),
        None
    );
}

#[tokio::test]
async fn that_a_savepoint_stopped_a_job_is_in_the_log_before_its_end_and_told_behind_it() {
    let mut cluster = durable_cluster();
    let (job, connection, tasks) = two_regions(&mut cluster).await;
    let request = SnapshotRequest {
        operation_id: "stop".to_owned(),
        kind: OperationKind::Stop,
        target: None,
        drain: false,
        full: true,
    };
    let begun = cluster.dispatcher.trigger_snapshot(job, request, cluster.now_ms);
    assert_eq!(begun, Some(Ok("stop".to_owned())));
    cluster.settle();
    let id = cluster.trigger(connection).checkpoint_id;
    cluster.acknowledge(connection, id, &tasks);
    let metadata = cluster.metadata_to_write();
    cluster.written(metadata, Ok(1));
    cluster.report(connection, &tasks, control::TaskState::Finished);
    let [(_, Content::OperationDone(done)), (_, Content::Result(_))] = &cluster.records[..] else {
        panic!("{:?}", cluster.records)
    };
    assert!(
        done.operation_id == "stop" && done.path.starts_with("file:///savepoints/"),
        "{done:?}"
    );
    let end = |cluster: &Cluster| {
        cluster
            .dispatcher
            .job(job)
            .unwrap()
            .operation("stop")
            .unwrap()
            .end
            .clone()
    };
    assert_eq!((cluster.state(job).as_str(), end(&cluster)), ("RUNNING", None));
    cluster.log();
    assert_eq!(cluster.state(job), "FINISHED");
    assert_eq!(end(&cluster).unwrap().1.unwrap().checkpoint_id, id);
}
