use thalweg_proto::control::v1::{CheckpointFailureReason, TriggerCheckpoint};
use thalweg_proto::graph::v1::{JobEdge, JobGraph, JobVertex, Partitioner, StreamEdge, StreamNode};
use thalweg_proto::state::v1::{
    CheckpointMetrics, Distribution, KeyedRun, OperatorList, OperatorSubtaskState, SnapshotKind,
    SnapshotMetadata, StateFile, TaskOperatorSnapshot,
};
use thalweg_types::config::{CheckpointRetention, Configuration};

use super::*;

pub(super) const FOLDER: &str = "s3://bucket/checkpoints/job";

pub(super) fn vertex_id(vertex: usize) -> String {
    format!("{:032x}", vertex + 1)
}

/// source --hash--> count
pub(super) fn job_graph(sources: u32, counts: u32) -> JobGraph {
    let vertex = |place: usize, name: &str, operator: &str, parallelism| JobVertex {
        id: vertex_id(place),
        name: name.to_owned(),
        parallelism,
        max_parallelism: 128,
        chain: vec![StreamNode {
            operator_id: vertex_id(place),
            name: name.to_owned(),
            uid: name.to_lowercase(),
            operator: operator.to_owned(),
            ..StreamNode::default()
        }],
        ..JobVertex::default()
    };
    JobGraph {
        job_id: "ab".repeat(16),
        job_name: "word count".to_owned(),
        fingerprint: "f".repeat(16),
        vertices: vec![
            vertex(0, "Source", "DataGenSource", sources),
            vertex(1, "Count", "KeyedReduce", counts),
        ],
        edges: vec![JobEdge {
            source_vertex: vertex_id(0),
            target_vertex: vertex_id(1),
            edge: Some(StreamEdge {
                id: 1,
                partitioner: Partitioner::Hash.into(),
                ..StreamEdge::default()
            }),
        }],
        ..JobGraph::default()
    }
}

pub(super) fn config() -> CheckpointConfig {
    let configuration = Configuration::from_map([
        ("execution.checkpointing.interval".to_owned(), "1 s".to_owned()),
        (
            "execution.checkpointing.dir".to_owned(),
            "s3://bucket/checkpoints".to_owned(),
        ),
        ("execution.checkpointing.timeout".to_owned(), "10 s".to_owned()),
    ]);
    CheckpointConfig::from_configuration(&configuration).unwrap()
}

pub(super) fn execution(vertex: usize, subtask: u32, attempt: u32) -> ExecutionAttempt {
    ExecutionAttempt {
        job_id: "ab".repeat(16),
        vertex_id: vertex_id(vertex),
        subtask,
        attempt,
    }
}

fn setup(config: CheckpointConfig) -> CoordinatorSetup {
    CoordinatorSetup {
        graph: job_graph(2, 1),
        config,
        folder: Some(FOLDER.to_owned()),
        folder_is_ours: true,
        recoverable: true,
        first_checkpoint_id: 1,
        restored: Vec::new(),
        earlier_files: Vec::new(),
        history_size: 10,
        delay_seed: None,
    }
}

/// All three tasks: two sources, one count.
fn all(attempt: u32) -> [ExecutionAttempt; 3] {
    [
        execution(0, 0, attempt),
        execution(0, 1, attempt),
        execution(1, 0, attempt),
    ]
}

fn start(coordinator: &mut CheckpointCoordinator, attempt: u32, now_ms: u64) {
    for task in all(attempt) {
        assert_eq!(coordinator.handle(Event::TaskRunning(task), now_ms), []);
    }
}

fn running(config: CheckpointConfig) -> CheckpointCoordinator {
    let mut coordinator = CheckpointCoordinator::new(setup(config));
    start(&mut coordinator, 0, 0);
    coordinator
}

fn run(path: &str) -> KeyedRun {
    KeyedRun {
        file: Some(StateFile {
            path: path.to_owned(),
            size: 7,
            ..StateFile::default()
        }),
        first_key_group: 0,
        last_key_group: 127,
        checkpoint_id: 1,
        rows: 1,
    }
}

fn state_of(execution: &ExecutionAttempt, runs: &[&str]) -> TaskSnapshot {
    TaskSnapshot {
        operators: vec![TaskOperatorSnapshot {
            operator_id: execution.vertex_id.clone(),
            state: Some(OperatorSubtaskState {
                runs: runs.iter().map(|path| run(path)).collect(),
                ..OperatorSubtaskState::default()
            }),
            tables: Vec::new(),
        }],
    }
}

fn acknowledge(execution: ExecutionAttempt, checkpoint_id: u64, runs: &[&str]) -> Event {
    Event::Acknowledge(AcknowledgeCheckpoint {
        snapshot: Some(state_of(&execution, runs)),
        execution: Some(execution),
        checkpoint_id,
        metrics: Some(CheckpointMetrics {
            full_bytes: 5,
            ..CheckpointMetrics::default()
        }),
    })
}

fn decline(execution: ExecutionAttempt, checkpoint_id: u64) -> Event {
    decline_because(CheckpointFailureReason::AsyncException, execution, checkpoint_id)
}

fn decline_because(
    reason: CheckpointFailureReason,
    execution: ExecutionAttempt,
    checkpoint_id: u64,
) -> Event {
    let failure = thalweg_proto::control::v1::Failure {
        message: "disk full".to_owned(),
        ..Default::default()
    };
    Event::Decline(DeclineCheckpoint {
        execution: Some(execution),
        checkpoint_id,
        failure: Some(failure),
        reason: reason.into(),
    })
}

fn triggers<'a>(actions: &'a [Action]) -> Vec<&'a TriggerCheckpoint> {
    let trigger = |action: &'a Action| match action {
        Action::Trigger(trigger) => Some(trigger),
        _ => None,
    };
    actions.iter().filter_map(trigger).collect()
}

/// All tasks acknowledge, the count with these runs, and the metadata is written.
fn complete(
    coordinator: &mut CheckpointCoordinator,
    id: u64,
    attempt: u32,
    runs: &[&str],
    now_ms: u64,
) -> Vec<Action> {
    let [first, second, count] = all(attempt);
    for source in [first, second] {
        assert_eq!(coordinator.handle(acknowledge(source, id, &[]), now_ms), []);
    }
    let actions = coordinator.handle(acknowledge(count, id, runs), now_ms);
    assert!(
        matches!(actions[..], [Action::WriteMetadata { .. }]),
        "{actions:?}"
    );
    coordinator.handle(written(id), now_ms)
}

fn written(checkpoint_id: u64) -> Event {
    Event::MetadataWritten {
        checkpoint_id,
        result: Ok(100),
    }
}

fn failure() -> Failure {
    Failure::new(FailureClass::Retryable, "worker lost")
}

fn stop(executions: impl IntoIterator<Item = ExecutionAttempt>) -> Event {
    Event::TasksStopped {
        executions: executions.into_iter().collect(),
        failure: failure(),
    }
}

fn request(operation_id: &str, target: SnapshotTarget) -> Event {
    Event::Trigger(SnapshotRequest {
        operation_id: operation_id.to_owned(),
        target,
    })
}

fn savepoint(stop: bool, drain: bool) -> SnapshotTarget {
    SnapshotTarget::Savepoint {
        directory: Some("s3://bucket/savepoints/".to_owned()),
        stop,
        drain,
        random: 0xfeed_0000_0000_0001,
    }
}

const SAVEPOINT: &str = "s3://bucket/savepoints/savepoint-ababab-000000000001";

fn notified(actions: &[Action]) -> Vec<(u64, bool)> {
    let notify = |action: &Action| match action {
        Action::Notify(notify) => Some((notify.checkpoint_id, notify.completed)),
        _ => None,
    };
    actions.iter().filter_map(notify).collect()
}

fn ended<'a>(actions: &'a [Action]) -> Vec<(&'a str, Result<&'a str, &'a str>)> {
    let ended = |action: &'a Action| match action {
        Action::OperationEnded {
            operation_id, result, ..
        } => {
            let result = result
                .as_ref()
                .map(String::as_str)
                .map_err(|failure| failure.message.as_str());
            Some((operation_id.as_str(), result))
        }
        _ => None,
    };
    actions.iter().filter_map(ended).collect()
}

#[test]
fn a_checkpoint_begins_an_interval_after_all_tasks_run_and_goes_to_the_sources() {
    let mut coordinator = running(config());
    assert_eq!(coordinator.next_deadline(), Some(1000));
    assert_eq!(coordinator.handle(Event::Tick, 999), []);
    let actions = coordinator.handle(Event::Tick, 1000);
    let [trigger] = triggers(&actions)[..] else {
        panic!("{actions:?}")
    };
    assert_eq!((trigger.checkpoint_id, trigger.timestamp_ms), (1, 1000));
    assert_eq!(trigger.executions, all(0)[..2]);
    let options = trigger.options.clone().unwrap();
    assert_eq!(options.kind(), SnapshotKind::Checkpoint);
    assert_eq!(options.exclusive_folder, format!("{FOLDER}/chk-1"));
    assert_eq!(options.shared_folder, format!("{FOLDER}/shared"));
    assert_eq!(options.inline_limit_bytes, 20 << 10);
}

#[test]
fn the_first_checkpoint_after_each_start_comes_at_a_random_time_between_the_pause_and_the_interval() {
    let config = CheckpointConfig {
        min_pause_ms: 200,
        ..config()
    };
    let mut delays = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let mut coordinator = CheckpointCoordinator::new(CoordinatorSetup {
            delay_seed: Some(seed),
            ..setup(config.clone())
        });
        start(&mut coordinator, 0, 5_000);
        let first = coordinator.next_deadline().unwrap() - 5_000;
        coordinator.handle(
            Event::TasksStopped {
                executions: all(0).to_vec(),
                failure: Failure::new(FailureClass::Retryable, "lost".to_owned()),
            },
            5_100,
        );
        start(&mut coordinator, 1, 9_000);
        let second = coordinator.next_deadline().unwrap() - 9_000;
        assert!((200..=1000).contains(&first) && (200..=1000).contains(&second));
        delays.extend([first, second]);
        let begun = coordinator.handle(Event::Tick, 9_000 + second);
        assert_eq!(triggers(&begun).len(), 1);
    }
    assert!(delays.len() > 200, "{} of 801 delays in 400 draws", delays.len());
}

#[test]
fn nothing_begins_while_a_task_does_not_run() {
    let mut coordinator = CheckpointCoordinator::new(setup(config()));
    for task in &all(0)[..2] {
        coordinator.handle(Event::TaskRunning(task.clone()), 0);
    }
    assert_eq!(coordinator.handle(Event::Tick, 60_000), []);
    assert_eq!(coordinator.next_deadline(), None);
}

#[test]
fn it_completes_in_two_steps_metadata_first_and_then_the_tasks_are_notified() {
    let mut coordinator = running(config());
    coordinator.handle(Event::Tick, 1000);
    for source in &all(0)[..2] {
        coordinator.handle(acknowledge(source.clone(), 1, &[]), 1100);
    }
    let actions = coordinator.handle(acknowledge(execution(1, 0, 0), 1, &["shared/a"]), 1200);
    let [Action::WriteMetadata { folder, metadata, .. }] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(folder, &format!("{FOLDER}/chk-1"));
    assert_eq!((metadata.checkpoint_id, metadata.operators.len()), (1, 2));
    assert_eq!(metadata.operators[1].subtasks[0].runs, [run("shared/a")]);
    assert_eq!(coordinator.restore_point(), None);
    let actions = coordinator.handle(written(1), 1300);
    assert_eq!(notified(&actions), [(1, true)]);
    assert_eq!(coordinator.restore_point().map(|point| point.id), Some(1));
    let record = coordinator.stats().latest_completed().unwrap();
    assert_eq!(
        (
            record.state_bytes(),
            record.duration_ms(9999),
            record.acknowledged_subtasks()
        ),
        (115, 300, 3)
    );
}

#[test]
fn the_pause_counts_from_the_end_of_the_last_one() {
    let mut coordinator = running(CheckpointConfig {
        min_pause_ms: 800,
        ..config()
    });
    coordinator.handle(Event::Tick, 1000);
    complete(&mut coordinator, 1, 0, &[], 1500);
    assert_eq!(coordinator.next_deadline(), Some(2300));
    assert_eq!(coordinator.handle(Event::Tick, 2299), []);
    assert_eq!(triggers(&coordinator.handle(Event::Tick, 2300)).len(), 1);
}

#[test]
fn no_more_than_allowed_are_under_way_and_a_newer_one_that_completes_ends_the_older() {
    let mut coordinator = running(CheckpointConfig {
        max_concurrent: 2,
        ..config()
    });
    for now in [1000, 2000] {
        assert_eq!(triggers(&coordinator.handle(Event::Tick, now)).len(), 1);
    }
    assert_eq!(coordinator.handle(Event::Tick, 3000), []);
    let actions = complete(&mut coordinator, 2, 0, &[], 3100);
    assert_eq!(notified(&actions), [(2, true), (1, false)]);
    assert!(actions.contains(&Action::DeleteFolder(format!("{FOLDER}/chk-1"))));
    assert_eq!(triggers(&actions)[0].checkpoint_id, 3);
}

#[test]
fn what_a_subsumed_checkpoint_wrote_stays_as_long_as_the_newer_one_goes_on_with_it() {
    let mut coordinator = running(CheckpointConfig {
        max_concurrent: 2,
        ..config()
    });
    for now in [1000, 2000] {
        coordinator.handle(Event::Tick, now);
    }
    let [first, second, count] = all(0);
    coordinator.handle(acknowledge(count, 1, &["shared/a"]), 2100);
    coordinator.handle(acknowledge(first, 1, &[]), 2100);
    let actions = complete(&mut coordinator, 2, 0, &["shared/a", "shared/b"], 2200);
    assert_eq!(notified(&actions), [(2, true), (1, false)]);
    let deletes = |actions: &[Action], file: &str| {
        let file = format!("{FOLDER}/{file}");
        actions
            .iter()
            .any(|action| matches!(action, Action::DeleteFiles(files) if files.contains(&file)))
    };
    assert!(!deletes(&actions, "shared/a"));
    // The last answer to the older one brings what nobody goes on with; it does not complete behind the newer one.
    let actions = coordinator.handle(acknowledge(second, 1, &["shared/late"]), 2300);
    assert!(
        deletes(&actions, "shared/late") && !deletes(&actions, "shared/a"),
        "{actions:?}"
    );
    assert_eq!(coordinator.restore_point().map(|point| point.id), Some(2));
    assert_eq!(coordinator.stats().counts().failed, 1);
    coordinator.handle(Event::Tick, 3200);
    let actions = complete(&mut coordinator, 3, 0, &["shared/b"], 3300);
    assert!(deletes(&actions, "shared/a"), "{actions:?}");
}

#[test]
fn of_two_under_way_the_older_one_may_complete_first() {
    let mut coordinator = running(CheckpointConfig {
        max_concurrent: 2,
        ..config()
    });
    for now in [1000, 2000] {
        coordinator.handle(Event::Tick, now);
    }
    assert_eq!(
        notified(&complete(&mut coordinator, 1, 0, &["shared/a"], 2100)),
        [(1, true)]
    );
    let actions = complete(&mut coordinator, 2, 0, &["shared/a"], 2200);
    assert_eq!(notified(&actions), [(2, true)]);
    assert!(actions.contains(&Action::DeleteFolder(format!("{FOLDER}/chk-1"))));
}

#[test]
fn one_that_takes_too_long_is_given_up_and_names_who_did_not_answer() {
    let mut coordinator = running(CheckpointConfig {
        tolerable_failures: 1,
        ..config()
    });
    coordinator.handle(Event::Tick, 1000);
    coordinator.handle(acknowledge(execution(0, 0, 0), 1, &[]), 1100);
    assert_eq!(coordinator.next_deadline(), Some(11_000));
    let actions = coordinator.handle(Event::Tick, 11_000);
    assert_eq!(notified(&actions), [(1, false)]);
    let told = &coordinator.stats().latest_failed().unwrap().failure;
    assert!(
        told.contains("Source (2/2), Count (1/1)") && told.contains("checkpointing.timeout"),
        "{told}"
    );
    assert!(!actions.iter().any(|action| matches!(action, Action::FailJob(_))));
}

#[test]
fn more_failures_in_a_row_than_tolerated_fail_the_job_and_a_completed_one_forgives() {
    let mut coordinator = running(CheckpointConfig {
        tolerable_failures: 1,
        ..config()
    });
    let fails = |coordinator: &mut CheckpointCoordinator, id| {
        let now = id * 1000;
        assert_eq!(triggers(&coordinator.handle(Event::Tick, now)).len(), 1);
        let actions = coordinator.handle(decline(execution(1, 0, 0), id), now);
        let fail = actions
            .into_iter()
            .find(|action| matches!(action, Action::FailJob(_)));
        // A second answer to the same one counts nothing.
        assert_eq!(coordinator.handle(decline(execution(0, 0, 0), id), now), []);
        fail
    };
    assert_eq!(fails(&mut coordinator, 1), None);
    coordinator.handle(Event::Tick, 2000);
    complete(&mut coordinator, 2, 0, &[], 2000);
    assert_eq!(fails(&mut coordinator, 3), None);
    let Some(Action::FailJob(failure)) = fails(&mut coordinator, 4) else {
        panic!("too many")
    };
    assert!(
        failure.message.contains("disk full") && failure.message.contains("Count (1/1)"),
        "{failure}"
    );
    assert_eq!(failure.class, FailureClass::Retryable);
}

#[test]
fn only_what_a_restart_might_mend_counts_as_a_failure() {
    use CheckpointFailureReason::*;
    let fails = |reason| {
        let mut coordinator = running(config());
        coordinator.handle(Event::Tick, 1000);
        let actions = coordinator.handle(decline_because(reason, execution(1, 0, 0), 1), 1100);
        assert_eq!(notified(&actions), [(1, false)], "{reason:?}");
        assert_eq!(coordinator.stats().counts().failed, 1);
        actions.iter().any(|action| matches!(action, Action::FailJob(_)))
    };
    let reasons = [Unspecified, Declined, AsyncException];
    assert_eq!(reasons.map(fails), [true; 3]);
    let reasons = [TaskNotReady, Subsumed, TooManyRequests];
    assert_eq!(reasons.map(fails), [false; 3], "Flink counts none of them");
}

#[test]
fn metadata_that_can_not_be_written_is_a_failed_checkpoint() {
    let mut coordinator = running(config());
    coordinator.handle(Event::Tick, 1000);
    for task in all(0) {
        coordinator.handle(acknowledge(task, 1, &[]), 1000);
    }
    let failed = Event::MetadataWritten {
        checkpoint_id: 1,
        result: Err(failure()),
    };
    let actions = coordinator.handle(failed, 1100);
    assert!(actions.contains(&Action::DeleteFolder(format!("{FOLDER}/chk-1"))));
    assert!(actions.iter().any(|action| matches!(action, Action::FailJob(_))));
    assert_eq!(coordinator.restore_point(), None);
}

#[test]
fn a_failed_task_ends_those_under_way_without_counting_and_files_answered_late_go() {
    let mut coordinator = running(config());
    coordinator.handle(Event::Tick, 1000);
    let actions = coordinator.handle(stop([execution(1, 0, 0)]), 1100);
    assert_eq!(notified(&actions), [(1, false)]);
    assert!(!actions.iter().any(|action| matches!(action, Action::FailJob(_))));
    coordinator.handle(stop(all(0)), 1100);
    start(&mut coordinator, 1, 1200);
    let late = coordinator.handle(acknowledge(execution(1, 0, 0), 1, &["shared/late"]), 1300);
    assert_eq!(late, [Action::DeleteFolder(format!("{FOLDER}/chk-1"))]);
    coordinator.handle(Event::Tick, 2200);
    let actions = complete(&mut coordinator, 2, 1, &["shared/b"], 2300);
    assert!(
        actions.contains(&Action::DeleteFiles(vec![format!("{FOLDER}/shared/late")])),
        "{actions:?}"
    );
}

#[test]
fn an_attempt_that_is_over_can_not_acknowledge_for_the_one_that_runs() {
    let mut coordinator = running(config());
    coordinator.handle(stop(all(0)), 100);
    coordinator.handle(Event::TaskRunning(execution(0, 0, 0)), 100); // says so late
    start(&mut coordinator, 1, 200);
    coordinator.handle(Event::Tick, 1200);
    for task in all(0) {
        assert_eq!(coordinator.handle(acknowledge(task, 1, &["shared/x"]), 1300), []);
    }
    assert_eq!(coordinator.stats().counts().in_progress, 1);
}

#[test]
fn only_as_many_as_configured_are_retained_and_shared_files_outlive_their_checkpoint() {
    let mut coordinator = running(config());
    coordinator.handle(Event::Tick, 1000);
    complete(&mut coordinator, 1, 0, &["shared/base", "shared/old"], 1000);
    coordinator.handle(Event::Tick, 2000);
    let actions = complete(&mut coordinator, 2, 0, &["shared/base", "shared/new"], 2000);
    assert!(actions.contains(&Action::DeleteFolder(format!("{FOLDER}/chk-1"))));
    assert!(actions.contains(&Action::DeleteFiles(vec![format!("{FOLDER}/shared/old")])));
    assert_eq!(
        coordinator
            .retained()
            .map(|checkpoint| checkpoint.id)
            .collect::<Vec<_>>(),
        [2]
    );
}

#[test]
fn when_tasks_have_finished_the_barrier_goes_to_those_behind_them_and_their_splits_stay() {
    let mut coordinator = running(config());
    let list = OperatorList {
        name: "SourceReaderState".to_owned(),
        distribution: Distribution::Union.into(),
        items: 1,
        file: Some(StateFile {
            inline: vec![1],
            size: 1,
            ..StateFile::default()
        }),
    };
    for source in &all(0)[..2] {
        let mut last = state_of(source, &[]);
        last.operators[0].state.as_mut().unwrap().lists = vec![list.clone()];
        let finished = Event::TaskFinished {
            execution: source.clone(),
            final_snapshot: last,
        };
        coordinator.handle(finished, 500);
    }
    let actions = coordinator.handle(Event::Tick, 1000);
    assert_eq!(triggers(&actions)[0].executions, [execution(1, 0, 0)]);
    let actions = coordinator.handle(acknowledge(execution(1, 0, 0), 1, &[]), 1100);
    let [Action::WriteMetadata { metadata, .. }] = &actions[..] else {
        panic!("{actions:?}")
    };
    let source = &metadata.operators[0];
    assert!(source.finished && source.finished_subtasks == [0, 1]);
    assert_eq!(source.subtasks.iter().flat_map(|state| &state.lists).count(), 2);
}

#[test]
fn no_checkpoint_begins_behind_a_finished_task_if_so_configured() {
    let mut coordinator = running(CheckpointConfig {
        after_tasks_finish: false,
        ..config()
    });
    let finished = Event::TaskFinished {
        execution: execution(0, 0, 0),
        final_snapshot: TaskSnapshot::default(),
    };
    coordinator.handle(finished, 500);
    assert_eq!(coordinator.handle(Event::Tick, 5000), []);
    let actions = coordinator.handle(request("a", savepoint(false, false)), 5000);
    assert!(matches!(ended(&actions)[..], [("a", Err(reason))] if reason.contains("after-tasks-finish")));
}

#[test]
fn one_under_way_when_a_task_finishes_completes_if_that_had_answered_and_else_costs_nothing() {
    for has_answered in [true, false] {
        let mut coordinator = running(CheckpointConfig {
            after_tasks_finish: false,
            ..config()
        });
        coordinator.handle(Event::Tick, 1000);
        let [first, second, count] = all(0);
        if has_answered {
            coordinator.handle(acknowledge(first.clone(), 1, &[]), 1100);
        }
        let actions = coordinator.handle(finished(first), 1200);
        assert_eq!(actions.is_empty(), has_answered, "{actions:?}");
        coordinator.handle(acknowledge(second, 1, &[]), 1300);
        coordinator.handle(acknowledge(count, 1, &[]), 1300);
        let actions = coordinator.handle(written(1), 1400);
        let completed: &[(u64, bool)] = if has_answered { &[(1, true)] } else { &[] };
        assert_eq!(notified(&actions), completed);
        assert_eq!(coordinator.handle(Event::Tick, 60_000), []);
        assert_eq!(coordinator.stats().counts().failed, u64::from(!has_answered));
    }
}

#[test]
fn barriers_overtake_behind_finished_tasks_as_well() {
    let mut coordinator = running(CheckpointConfig {
        unaligned: true,
        ..config()
    });
    let [first, second, count] = all(0);
    coordinator.handle(finished(first), 500);
    let options = |actions: &[Action]| triggers(actions)[0].options.clone().unwrap();
    let actions = coordinator.handle(Event::Tick, 1000);
    assert!(options(&actions).unaligned);
    assert_eq!(triggers(&actions)[0].executions, std::slice::from_ref(&second));
    // No task is left that could send a barrier: those behind get it from here.
    let actions = coordinator.handle(finished(second), 1100);
    assert_eq!(notified(&actions), [(1, false)]);
    let actions = coordinator.handle(Event::Tick, 3000);
    assert!(options(&actions).unaligned);
    assert_eq!(triggers(&actions)[0].executions, [count]);
}

#[test]
fn a_savepoint_is_full_aligned_in_a_folder_of_its_own_and_commits_nothing() {
    let mut coordinator = running(CheckpointConfig {
        unaligned: true,
        ..config()
    });
    let actions = coordinator.handle(request("a", savepoint(false, false)), 100);
    let options = triggers(&actions)[0].options.clone().unwrap();
    assert_eq!(options.kind(), SnapshotKind::Savepoint);
    assert!(!options.unaligned && !options.terminate);
    assert_eq!(
        (options.exclusive_folder.as_str(), options.shared_folder.as_str()),
        (SAVEPOINT, SAVEPOINT)
    );
    let actions = complete(&mut coordinator, 1, 0, &["0123"], 200);
    assert_eq!(ended(&actions), [("a", Ok(SAVEPOINT))]);
    assert_eq!(notified(&actions), []);
    assert_eq!(
        coordinator.restore_point(),
        None,
        "failures go back to checkpoints"
    );
    // A savepoint is its user's: the job's end leaves it.
    let actions = coordinator.handle(Event::JobEnded(JobEnd::Canceled), 300);
    assert_eq!(actions, [Action::DeleteFolder(FOLDER.to_owned())]);
}

#[test]
fn a_request_that_comes_again_does_nothing() {
    let mut coordinator = running(config());
    assert_eq!(
        triggers(&coordinator.handle(request("a", savepoint(false, false)), 100)).len(),
        1
    );
    assert_eq!(coordinator.handle(request("a", savepoint(false, false)), 100), []);
    complete(&mut coordinator, 1, 0, &[], 200);
    assert_eq!(coordinator.handle(request("a", savepoint(false, false)), 300), []);
}

#[test]
fn a_request_waits_for_the_tasks_but_not_for_ever() {
    let mut coordinator = CheckpointCoordinator::new(setup(config()));
    assert_eq!(coordinator.handle(request("a", savepoint(false, false)), 0), []);
    assert_eq!(coordinator.next_deadline(), Some(10_000));
    let actions = coordinator.handle(Event::Tick, 10_000);
    assert!(
        matches!(ended(&actions)[..], [("a", Err(reason))] if reason.contains("not all tasks were running"))
    );
    coordinator.handle(request("b", savepoint(false, false)), 10_000);
    for task in &all(0)[..2] {
        coordinator.handle(Event::TaskRunning(task.clone()), 10_000);
    }
    assert_eq!(
        triggers(&coordinator.handle(Event::TaskRunning(execution(1, 0, 0)), 10_001)).len(),
        1
    );
}

#[test]
fn bad_targets_are_refused_in_words() {
    let mut coordinator = running(config());
    let target = |directory: Option<&str>| SnapshotTarget::Savepoint {
        directory: directory.map(str::to_owned),
        stop: false,
        drain: false,
        random: 1,
    };
    let actions = coordinator.handle(request("a", target(None)), 0);
    assert!(matches!(ended(&actions)[..], [("a", Err(reason))] if reason.contains("savepoint-dir")));
    let inside = format!("{FOLDER}/savepoints");
    let actions = coordinator.handle(request("b", target(Some(&inside))), 0);
    assert!(matches!(ended(&actions)[..], [("b", Err(reason))] if reason.contains("deleted with the job")));
}

#[test]
fn a_full_checkpoint_on_request_refers_to_no_older_file() {
    let mut coordinator = running(config());
    let actions = coordinator.handle(request("a", SnapshotTarget::Checkpoint { full: true }), 100);
    assert_eq!(
        triggers(&actions)[0].options.clone().unwrap().kind(),
        SnapshotKind::FullCheckpoint
    );
    let actions = complete(&mut coordinator, 1, 0, &[], 200);
    assert_eq!(ended(&actions), [("a", Ok(format!("{FOLDER}/chk-1").as_str()))]);
}

#[test]
fn stop_with_savepoint_ends_when_all_tasks_have_and_no_checkpoint_begins_meanwhile() {
    let mut coordinator = running(config());
    let actions = coordinator.handle(request("stop", savepoint(true, true)), 100);
    let options = triggers(&actions)[0].options.clone().unwrap();
    assert!(options.terminate && options.drain);
    assert_eq!(coordinator.handle(Event::Tick, 5000), []);
    let actions = coordinator.handle(request("again", savepoint(true, false)), 5000);
    assert!(matches!(ended(&actions)[..], [("again", Err(reason))] if reason.contains("operation stop")));
    let actions = complete(&mut coordinator, 1, 0, &[], 5100);
    assert_eq!((notified(&actions), ended(&actions)), (vec![(1, true)], vec![]));
    assert_eq!(coordinator.handle(Event::Tick, 9000), []);
    assert_eq!(
        coordinator.restore_point().map(|point| point.folder.as_str()),
        Some(SAVEPOINT)
    );
    let mut last = Vec::new();
    for execution in all(0) {
        assert_eq!(ended(&last), []);
        let finished = Event::TaskFinished {
            execution,
            final_snapshot: TaskSnapshot::default(),
        };
        last = coordinator.handle(finished, 9000);
    }
    assert_eq!(ended(&last), [("stop", Ok(SAVEPOINT))]);
}

#[test]
fn a_stop_whose_savepoint_fails_lets_the_tasks_go_on_unless_event_time_has_come_to_its_end() {
    let fails = |drain, failure: fn() -> Event| {
        let mut coordinator = running(config());
        coordinator.handle(request("stop", savepoint(true, drain)), 100);
        let actions = coordinator.handle(failure(), 10_100);
        assert!(matches!(ended(&actions)[..], [("stop", Err(_))]));
        assert_eq!(notified(&actions), [(1, false)]);
        assert!(actions.contains(&Action::DeleteFolder(SAVEPOINT.to_owned())));
        actions.iter().any(|action| matches!(action, Action::FailJob(_)))
    };
    for failure in [|| decline(execution(1, 0, 0), 1), || Event::Tick] {
        assert_eq!([false, true].map(|drain| fails(drain, failure)), [false, true]);
    }
}

#[test]
fn a_region_that_fails_before_the_savepoint_to_stop_with_is_complete_restarts_alone() {
    let mut coordinator = running(config());
    coordinator.handle(request("stop", savepoint(true, false)), 100);
    let actions = coordinator.handle(stop([execution(1, 0, 0)]), 200);
    assert!(matches!(ended(&actions)[..], [("stop", Err(_))]));
    assert!(!actions.iter().any(|action| matches!(action, Action::FailJob(_))));
    coordinator.handle(Event::TaskRunning(execution(1, 0, 1)), 300);
    assert_eq!(triggers(&coordinator.handle(Event::Tick, 1300)).len(), 1);
}

fn finished(execution: ExecutionAttempt) -> Event {
    Event::TaskFinished {
        execution,
        final_snapshot: TaskSnapshot::default(),
    }
}

#[test]
fn a_stop_goes_on_if_tasks_come_to_their_end_without_its_barrier() {
    let mut coordinator = running(config());
    coordinator.handle(request("stop", savepoint(true, true)), 100);
    let [first, second, count] = all(0);
    assert_eq!(coordinator.handle(finished(first), 200), []);
    // The count's inputs have all ended: nobody else gives it the barrier.
    let actions = coordinator.handle(finished(second), 200);
    let [trigger] = triggers(&actions)[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(
        (trigger.checkpoint_id, &trigger.executions[..]),
        (1, &[count.clone()][..])
    );
    assert!(trigger.options.as_ref().unwrap().terminate);
    // It may be too late for that, too.
    let actions = coordinator.handle(finished(count), 300);
    let [Action::WriteMetadata { metadata, .. }] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert!(metadata.operators.iter().all(|operator| operator.finished));
    coordinator.handle(written(1), 400);
    let actions = coordinator.handle(Event::JobEnded(JobEnd::Finished), 500);
    assert_eq!(ended(&actions), [("stop", Ok(SAVEPOINT))]);
}

const POINTER: &str = "s3://bucket/checkpoints/job/chk-2/_savepoint";

fn stopped_behind_a_checkpoint() -> CheckpointCoordinator {
    let mut coordinator = running(config());
    coordinator.handle(Event::Tick, 1000);
    complete(&mut coordinator, 1, 0, &[], 1000);
    coordinator.handle(request("stop", savepoint(true, false)), 1100);
    for task in all(0) {
        let actions = coordinator.handle(acknowledge(task, 2, &[]), 1200);
        if let [Action::WriteMetadata { pointer, .. }] = &actions[..] {
            assert_eq!(pointer.as_deref(), Some(POINTER));
        }
    }
    coordinator
}

#[test]
fn a_file_in_the_jobs_folder_names_the_savepoint_that_stopped_it_and_stays_when_the_job_has_finished() {
    let mut coordinator = stopped_behind_a_checkpoint();
    coordinator.handle(written(2), 1300);
    for task in all(0) {
        coordinator.handle(finished(task), 1400);
    }
    let actions = coordinator.handle(Event::JobEnded(JobEnd::Finished), 1500);
    let keep = vec![POINTER.to_owned()];
    let folder = FOLDER.to_owned();
    assert!(actions.contains(&Action::Sweep { folder, keep }), "{actions:?}");
}

#[test]
fn the_file_goes_with_a_savepoint_that_is_given_up_and_when_a_newer_checkpoint_completes() {
    let deletes = |actions: &[Action]| actions.contains(&Action::DeleteFiles(vec![POINTER.to_owned()]));
    let mut coordinator = stopped_behind_a_checkpoint();
    assert!(deletes(&coordinator.handle(stop(all(0)), 1300)));
    // It was being written: it is there only now.
    assert!(deletes(&coordinator.handle(written(2), 1300)));

    let mut coordinator = stopped_behind_a_checkpoint();
    coordinator.handle(written(2), 1300);
    coordinator.handle(stop(all(0)), 1300);
    start(&mut coordinator, 1, 1400);
    coordinator.handle(Event::Tick, 2400);
    assert!(deletes(&complete(&mut coordinator, 3, 1, &[], 2500)));
}

#[test]
fn who_goes_on_with_a_stopped_job_starts_from_the_savepoint_and_older_checkpoints_go_in_their_turn() {
    let mut old = stopped_behind_a_checkpoint();
    old.handle(written(2), 1300);
    let of = |point: &CompletedCheckpoint| RestoredFrom {
        metadata: point.metadata.clone(),
        folder: point.folder.clone(),
        base: point.base.clone(),
        owned: point.owned,
    };
    let restored = old.retained().map(of).chain(old.restore_point().map(of));
    let mut coordinator = CheckpointCoordinator::new(CoordinatorSetup {
        restored: restored.collect(),
        ..setup(config())
    });
    assert_eq!(coordinator.restore_point().map(|point| point.id), Some(2));
    start(&mut coordinator, 0, 0);
    let actions = coordinator.handle(Event::Tick, 1000);
    assert_eq!(
        triggers(&actions)[0].options.clone().unwrap().kind(),
        SnapshotKind::FullCheckpoint
    );
    let actions = complete(&mut coordinator, 3, 0, &[], 1100);
    assert!(actions.contains(&Action::DeleteFiles(vec![POINTER.to_owned()])));
    assert!(actions.contains(&Action::DeleteFolder(format!("{FOLDER}/chk-1"))));
    assert!(!actions.contains(&Action::DeleteFolder(SAVEPOINT.to_owned())));
}

#[test]
fn a_task_that_fails_while_the_job_stops_ends_the_operation_and_the_job_goes_on_from_the_savepoint() {
    let mut coordinator = running(config());
    coordinator.handle(Event::Tick, 1000);
    complete(&mut coordinator, 1, 0, &[], 1000);
    coordinator.handle(request("stop", savepoint(true, false)), 1100);
    complete(&mut coordinator, 2, 0, &[], 1200);
    let actions = coordinator.handle(stop([execution(1, 0, 0)]), 1300);
    assert!(matches!(ended(&actions)[..], [("stop", Err(reason))] if reason.contains(SAVEPOINT)));
    assert!(actions.iter().any(|action| matches!(action, Action::FailJob(_))));
    assert_eq!(coordinator.restore_point().map(|point| point.id), Some(2));
    coordinator.handle(stop(all(0)), 1300);
    start(&mut coordinator, 1, 1400);
    let actions = coordinator.handle(Event::Tick, 2400);
    // The savepoint is not the job's: the next checkpoint stands for itself.
    assert_eq!(
        triggers(&actions)[0].options.clone().unwrap().kind(),
        SnapshotKind::FullCheckpoint
    );
    complete(&mut coordinator, 3, 1, &[], 2500);
    assert_eq!(coordinator.restore_point().map(|point| point.id), Some(3));
}

#[test]
fn a_savepoint_whose_barrier_a_finishing_task_missed_is_tried_again() {
    let mut coordinator = running(config());
    coordinator.handle(request("a", savepoint(false, false)), 100);
    let finished = Event::TaskFinished {
        execution: execution(0, 0, 0),
        final_snapshot: TaskSnapshot::default(),
    };
    let actions = coordinator.handle(finished, 200);
    assert_eq!((notified(&actions), ended(&actions)), (vec![(1, false)], vec![]));
    assert_eq!(
        (
            triggers(&actions)[0].checkpoint_id,
            &triggers(&actions)[0].executions[..]
        ),
        (2, &all(0)[1..2])
    );
}

fn restored(owned: bool) -> CheckpointCoordinator {
    let mut old = running(config());
    old.handle(Event::Tick, 1000);
    complete(&mut old, 1, 0, &["shared/a"], 1000);
    let point = old.restore_point().unwrap().clone();
    let mut setup = setup(config());
    setup.folder = Some("s3://bucket/checkpoints/next".to_owned());
    setup.restored = vec![RestoredFrom {
        metadata: point.metadata,
        folder: point.folder,
        base: point.base,
        owned,
    }];
    let mut coordinator = CheckpointCoordinator::new(setup);
    start(&mut coordinator, 0, 0);
    coordinator
}

#[test]
fn what_is_not_claimed_is_never_deleted_and_checkpoints_are_full_until_one_completed() {
    let mut coordinator = restored(false);
    assert!(!coordinator.restore_point().unwrap().source().own);
    let kind = |actions: &[Action]| triggers(actions)[0].options.clone().unwrap().kind();
    assert_eq!(
        kind(&coordinator.handle(Event::Tick, 1000)),
        SnapshotKind::FullCheckpoint
    );
    let actions = complete(&mut coordinator, 2, 0, &["shared/b"], 1000);
    assert!(
        !actions
            .iter()
            .any(|action| matches!(action, Action::DeleteFolder(_) | Action::DeleteFiles(_)))
    );
    assert_eq!(
        kind(&coordinator.handle(Event::Tick, 2000)),
        SnapshotKind::Checkpoint
    );
}

#[test]
fn what_is_claimed_is_gone_on_with_and_deleted_when_it_is_needed_no_more() {
    let mut coordinator = restored(true);
    let actions = coordinator.handle(Event::Tick, 1000);
    assert_eq!(
        triggers(&actions)[0].options.clone().unwrap().kind(),
        SnapshotKind::Checkpoint
    );
    let old = format!("{FOLDER}/shared/a");
    let actions = complete(&mut coordinator, 2, 0, &[&old, "shared/b"], 1000);
    assert!(actions.contains(&Action::DeleteFolder(format!("{FOLDER}/chk-1"))));
    assert!(
        !actions
            .iter()
            .any(|action| matches!(action, Action::DeleteFiles(_))),
        "it is still used"
    );
    coordinator.handle(Event::Tick, 2000);
    let actions = complete(&mut coordinator, 3, 0, &["shared/c"], 2000);
    let deleted = Action::DeleteFiles(vec![old, "s3://bucket/checkpoints/next/shared/b".to_owned()]);
    assert!(actions.contains(&deleted), "{actions:?}");
}

#[test]
fn what_stays_when_the_job_ends_is_as_configured() {
    let kept = |retention, end| {
        let mut coordinator = running(CheckpointConfig {
            retention,
            ..config()
        });
        coordinator.handle(Event::Tick, 1000);
        complete(&mut coordinator, 1, 0, &["shared/a"], 1000);
        let actions = coordinator.handle(Event::JobEnded(end), 1100);
        let kept = coordinator.retained().count() == 1;
        let all = Action::DeleteFolder(FOLDER.to_owned());
        assert_eq!(actions.contains(&all), !kept, "{retention:?} {end:?} {actions:?}");
        kept
    };
    use CheckpointRetention::{DeleteOnCancellation, None, RetainOnCancellation};
    let ends = [
        JobEnd::Finished,
        JobEnd::Canceled,
        JobEnd::Failed,
        JobEnd::Suspended,
    ];
    assert_eq!(ends.map(|end| kept(None, end)), [false, false, false, true]);
    assert_eq!(
        ends.map(|end| kept(DeleteOnCancellation, end)),
        [false, false, true, true]
    );
    assert_eq!(
        ends.map(|end| kept(RetainOnCancellation, end)),
        [false, true, true, true]
    );
}

#[test]
fn a_clock_that_goes_back_stops_nothing_for_good() {
    let mut coordinator = running(config());
    coordinator.handle(Event::Tick, 900);
    assert_eq!(coordinator.handle(Event::Tick, 10), []);
    assert_eq!(triggers(&coordinator.handle(Event::Tick, 1000)).len(), 1);
}

#[test]
fn what_an_earlier_jobmanager_left_is_deleted_behind_the_second_checkpoint_unless_a_task_goes_on_with_it() {
    let metadata = SnapshotMetadata {
        job_id: "ab".repeat(16),
        checkpoint_id: 5,
        ..SnapshotMetadata::default()
    };
    let restored = RestoredFrom {
        metadata: Arc::new(metadata),
        folder: format!("{FOLDER}/chk-5"),
        base: FOLDER.to_owned(),
        owned: true,
    };
    let files = ["chk-5/_metadata", "chk-6/x", "shared/chained", "shared/lost"];
    for ours in [true, false] {
        let mut coordinator = CheckpointCoordinator::new(CoordinatorSetup {
            restored: vec![restored.clone()],
            folder_is_ours: ours,
            earlier_files: files.map(str::to_owned).to_vec(),
            first_checkpoint_id: 7,
            ..setup(config())
        });
        start(&mut coordinator, 0, 0);
        let mut deleted: Vec<String> = Vec::new();
        for id in [7, 8] {
            assert!(
                deleted.is_empty(),
                "one may be of a task that has not said so yet"
            );
            coordinator.handle(Event::Tick, 1000 * id);
            for task in all(0) {
                coordinator.handle(acknowledge(task, id, &["shared/chained"]), 1000 * id + 100);
            }
            for action in coordinator.handle(written(id), 1000 * id + 200) {
                if let Action::DeleteFiles(files) = action {
                    deleted.extend(files);
                }
            }
        }
        let expected = ["chk-6/x", "shared/lost"].map(|file| format!("{FOLDER}/{file}"));
        assert_eq!(deleted, expected[..if ours { 2 } else { 0 }]);
    }
}
