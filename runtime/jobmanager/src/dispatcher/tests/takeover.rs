//! A new leader and TaskManagers whose workers run on.

use std::fmt::Write as _;

use thalweg_proto::control::v1::{NotifyCheckpoint, ReleaseSlots, RunningTask, RunningWorker, StopWorker};
use thalweg_proto::state::v1::SnapshotMetadata;
use thalweg_types::config::ClaimMode;

use super::*;
use crate::job_master::Recovered;
use crate::snapshot::StoredSnapshot;

const JOB: u128 = 1;
/// The newest checkpoint in the log.
const NEWEST: u64 = 5;
const CHECKPOINTED: [(&str, &str); 5] = [
    ("parallelism.default", "2"),
    ("execution.checkpointing.interval", "1 s"),
    ("execution.checkpointing.dir", "/checkpoints"),
    ("restart-strategy.type", "fixed-delay"),
    ("restart-strategy.fixed-delay.delay", "1 s"),
];

/// What an earlier leader started: subtask `subtask` of both tasks, in slot 1.
fn worker(subtask: u32, attempt: u32, newest_seen: u64) -> RunningWorker {
    let tasks = (1..=2).map(|vertex: u32| TaskStateUpdate {
        execution: Some(ExecutionAttempt {
            job_id: JobId::from_u128(JOB).to_string(),
            vertex_id: format!("{vertex:032x}"),
            subtask,
            attempt,
        }),
        state: control::TaskState::Running.into(),
        ..TaskStateUpdate::default()
    });
    let running = RunningTask {
        slot: 1,
        checkpoint_id: NEWEST,
        deployed_ms: 1_000,
    };
    RunningWorker {
        job_id: JobId::from_u128(JOB).to_string(),
        data_address: format!("host-{subtask}:1"),
        slots: vec![1],
        tasks: tasks.collect(),
        worker_generation: 40,
        exchange_token: "token".to_owned(),
        running: vec![running; 2],
        newest_checkpoint_id: newest_seen,
        ..RunningWorker::default()
    }
}

impl Cluster {
    fn register_again(&mut self, id: &str, workers: Vec<RunningWorker>) -> ConnectionId {
        self.register_with(&RegisterTaskManager {
            task_manager_id: id.to_owned(),
            slots: 2,
            engine_version: env!("CARGO_PKG_VERSION").to_owned(),
            workers,
            ..Default::default()
        })
    }

    /// As the job log has it.
    async fn recover(&mut self) -> JobId {
        self.recover_with(|_| {}).await
    }

    async fn recover_with(&mut self, change: impl FnOnce(&mut Submission)) -> JobId {
        self.recover_as(Recovered::default(), change).await
    }

    async fn recover_as(&mut self, recovered: Recovered, change: impl FnOnce(&mut Submission)) -> JobId {
        let job = JobId::from_u128(JOB);
        let mut submission = submission(&self.packages, job, &CHECKPOINTED).await;
        let metadata = SnapshotMetadata {
            job_id: job.to_string(),
            checkpoint_id: NEWEST,
            ..SnapshotMetadata::default()
        };
        let snapshot = StoredSnapshot {
            folder: format!("file:///checkpoints/{job}/chk-{NEWEST}"),
            metadata,
        };
        submission.restored = Some(RestoredState {
            snapshot,
            claim_mode: ClaimMode::Claim,
            earlier: Vec::new(),
        });
        submission.earlier_checkpoint = Some(NEWEST);
        submission.recoverable = true;
        change(&mut submission);
        let job = self
            .dispatcher
            .recover_job(submission, recovered, self.now_ms)
            .unwrap();
        self.settle();
        job
    }

    fn recovery_done(&mut self) {
        self.dispatcher.recovery_done(self.now_ms);
        self.settle();
    }

    fn cancel(&mut self, job: JobId) {
        self.dispatcher.cancel(job, self.now_ms);
        self.settle();
    }
}

fn new_leader() -> Cluster {
    let mut cluster = cluster(&[("heartbeat.timeout", "2 h")]);
    cluster.dispatcher.recovery_begins();
    cluster
}

/// Commands about checkpoints in a few words, others by their name.
fn brief(commands: &[Command]) -> Vec<String> {
    let one = |command: &Command| {
        let mut text = String::new();
        match command {
            Command::NotifyCheckpoint(NotifyCheckpoint {
                checkpoint_id,
                completed,
                executions,
            }) => write!(
                text,
                "{} {checkpoint_id} at {}",
                if *completed { "completed" } else { "aborted" },
                executions.len()
            ),
            Command::TriggerCheckpoint(trigger) => write!(text, "trigger {}", trigger.checkpoint_id),
            Command::StopWorker(_) => write!(text, "stop"),
            Command::StartWorker(_) => write!(text, "start"),
            Command::Cancel(cancel) => write!(text, "cancel {}", cancel.executions.len()),
            Command::Registered(_) => write!(text, "registered"),
            other => write!(text, "{other:?}"),
        }
        .unwrap();
        text
    };
    commands.iter().map(one).collect()
}

#[tokio::test]
async fn the_job_runs_on_and_its_checkpoints_go_on_above_all_that_its_tasks_heard_of() {
    for job_first in [true, false] {
        let mut cluster = new_leader();
        let mut job = JobId::from_u128(JOB);
        if job_first {
            job = cluster.recover().await;
            assert_eq!(cluster.state(job), "RECONCILING");
            assert_eq!(
                cluster.status(job).waiting_for,
                "TaskManagers to report 4 of 4 tasks"
            );
        }
        let a = cluster.register_again("a", vec![worker(0, 3, 7)]);
        let b = cluster.register_again("b", vec![worker(1, 3, 6)]);
        if !job_first {
            cluster.recover().await;
        }
        cluster.recovery_done();
        assert_eq!(
            (cluster.state(job).as_str(), cluster.status(job).tasks_running),
            ("RUNNING", 4)
        );
        for connection in [a, b] {
            let commands = cluster.take_commands(connection);
            assert_eq!(
                brief(&commands),
                [
                    "registered",
                    "completed 5 at 2",
                    "aborted 6 at 2",
                    "aborted 7 at 2"
                ]
            );
        }
        cluster.pass(1_000);
        assert_eq!(brief(&cluster.take_commands(a)), ["trigger 8"]);
        let tasks: Vec<_> = [worker(0, 3, 0), worker(1, 3, 0)]
            .into_iter()
            .flat_map(|worker| worker.tasks)
            .filter_map(|task| task.execution)
            .collect();
        cluster.report(a, &tasks, control::TaskState::Finished);
        assert_eq!(cluster.state(job), "FINISHED");
        assert_eq!(brief(&cluster.take_commands(b)).last().unwrap(), "stop");
        assert_eq!(cluster.dispatcher.resources().pool.free(), 4);
    }
}

#[tokio::test]
async fn slots_of_jobs_that_are_being_recovered_are_given_to_nobody_else() {
    let mut cluster = cluster(&[]);
    cluster.submit(2, &[("parallelism.default", "2")]).await;
    cluster.dispatcher.recovery_begins();
    let a = cluster.register_again("a", vec![worker(0, 0, 0)]);
    assert_eq!(brief(&cluster.take_commands(a)), ["registered"]);
    cluster.recover().await;
    assert!(cluster.take_commands(a).is_empty());
    cluster.register("b", 2);
    assert_eq!(cluster.state(JobId::from_u128(2)), "CREATED");
    assert_eq!(
        brief(&cluster.take_commands(a)),
        ["start"],
        "it takes the slot beside"
    );
}

#[tokio::test]
async fn workers_of_jobs_that_nobody_knows_are_stopped_and_their_slots_are_free() {
    let mut cluster = cluster(&[]);
    cluster.submit(2, &[("parallelism.default", "2")]).await;
    cluster.dispatcher.recovery_begins();
    let a = cluster.register_again("a", vec![worker(0, 0, 0)]);
    cluster.recovery_done();
    let commands = cluster.take_commands(a);
    assert_eq!(brief(&commands), ["registered", "stop", "start"]);
    let stop = StopWorker {
        job_id: JobId::from_u128(JOB).to_string(),
        worker_generation: u64::MAX,
    };
    assert!(commands.contains(&Command::StopWorker(stop)));
    let b = cluster.register_again("b", vec![worker(1, 0, 0)]);
    assert_eq!(brief(&cluster.take_commands(b)), ["registered", "stop"]);
    assert_eq!(
        cluster
            .dispatcher
            .resources()
            .pool
            .free_on(&TaskManagerId("b".to_owned())),
        2
    );
}

#[tokio::test]
async fn what_is_not_reported_and_there_is_room_for_is_started_again_beside_what_is() {
    let mut cluster = new_leader();
    let job = cluster.recover().await;
    cluster.recovery_done();
    let a = cluster.register_again("a", vec![worker(0, 3, 5)]);
    for _ in 0..9 {
        cluster.pass(500);
    }
    assert_eq!(cluster.state(job), "RECONCILING");
    assert_eq!(brief(&cluster.take_commands(a)), ["registered"]);
    cluster.pass(500);
    assert_eq!(cluster.state(job), "RESTARTING", "there is room for it");
    let commands = cluster.take_commands(a);
    assert!(brief(&commands).contains(&"cancel 2".to_owned()), "{commands:?}");
    let tasks: Vec<_> = worker(0, 3, 0)
        .tasks
        .into_iter()
        .filter_map(|task| task.execution)
        .collect();
    cluster.report(a, &tasks, control::TaskState::Canceled);
    let commands = cluster.take_commands(a);
    let [start] = start_commands(&commands)[..] else {
        panic!("the worker is given the other slot too: {commands:?}")
    };
    assert_eq!((start.exchange_token.as_str(), start.slots.len()), ("token", 2));
    assert!(start.worker_generation > 40);
    cluster.say(a, ready(start));
    let deployed = deployed(cluster.take_commands(a));
    let restored: Vec<_> = deployed
        .iter()
        .map(|task| {
            (
                task.execution.as_ref().unwrap().attempt,
                task.restore.as_ref().unwrap().checkpoint_id,
            )
        })
        .collect();
    assert_eq!(restored, [(4, NEWEST); 4]);

    let late = cluster.register_again("b", vec![worker(1, 3, 5)]);
    assert_eq!(brief(&cluster.take_commands(late)), ["registered", "stop"]);
}

#[tokio::test]
async fn a_task_manager_that_comes_back_to_the_leader_that_gave_it_up_is_freed_of_its_worker() {
    let mut cluster = cluster(&[]);
    let (job, before, _) = cluster.running(JOB, &FIXED).await;
    let commands = cluster.register_again("tm", vec![worker(0, 0, 0)]);
    let commands = cluster.take_commands(commands);
    assert_eq!(brief(&commands)[..2], ["registered", "stop"]);
    assert_eq!(cluster.closed, [before]);
    assert_eq!(cluster.state(job), "RESTARTING");
}

#[tokio::test]
async fn a_job_that_is_canceled_before_its_tasks_are_known_ends_and_frees_what_comes_later() {
    let mut cluster = new_leader();
    let job = cluster.recover().await;
    let a = cluster.register_again("a", vec![worker(0, 3, 5)]);
    cluster.cancel(job);
    assert_eq!(cluster.state(job), "CANCELLING");
    let b = cluster.register_again("b", vec![worker(1, 3, 5)]);
    assert_eq!(brief(&cluster.take_commands(b)), ["registered", "stop"]);
    let tasks: Vec<_> = worker(0, 3, 0)
        .tasks
        .into_iter()
        .filter_map(|task| task.execution)
        .collect();
    cluster.report(a, &tasks, control::TaskState::Canceled);
    assert_eq!(cluster.state(job), "CANCELED");
    let c = cluster.register_again("c", vec![worker(1, 3, 5)]);
    assert_eq!(brief(&cluster.take_commands(c)), ["registered", "stop"]);
    assert_eq!(cluster.dispatcher.resources().pool.free(), 6);
}

#[tokio::test]
async fn an_acknowledgement_of_what_the_earlier_leader_triggered_completes_nothing() {
    let mut cluster = new_leader();
    cluster.recover().await;
    let a = cluster.register_again("a", vec![worker(0, 3, 6)]);
    cluster.register_again("b", vec![worker(1, 3, 6)]);
    let before = cluster.storage.len();
    for worker in [worker(0, 3, 6), worker(1, 3, 6)] {
        for task in worker.tasks {
            let acknowledge = control::AcknowledgeCheckpoint {
                execution: task.execution,
                checkpoint_id: 6,
                ..control::AcknowledgeCheckpoint::default()
            };
            cluster.say(a, Message::AcknowledgeCheckpoint(acknowledge));
        }
    }
    let writes = cluster.storage[before..].iter().filter(|(_, work)| {
        matches!(
            work.request,
            crate::storage_work::StorageRequest::WriteMetadata { .. }
        )
    });
    assert_eq!(writes.count(), 0);
}

#[tokio::test]
async fn a_job_that_nobody_runs_starts_as_soon_as_there_is_room_for_it() {
    let mut cluster = new_leader();
    let job = cluster.recover().await;
    cluster.recovery_done();
    let first = cluster.register("a", 1);
    cluster.pass(3_000);
    assert_eq!(cluster.state(job), "RECONCILING");
    let second = cluster.register("b", 1);
    cluster.pass(500);
    for connection in [first, second] {
        assert_eq!(brief(&cluster.take_commands(connection)), ["registered", "start"]);
    }
}

#[tokio::test]
async fn what_happens_to_a_task_before_its_job_is_recovered_counts() {
    let mut cluster = new_leader();
    let a = cluster.register_again("a", vec![worker(0, 3, 5)]);
    cluster.register_again("b", vec![worker(1, 3, 5)]);
    let tasks: Vec<_> = worker(0, 3, 5)
        .tasks
        .into_iter()
        .filter_map(|task| task.execution)
        .collect();
    cluster.report(a, &tasks, control::TaskState::Failed);
    let job = cluster.recover().await;
    cluster.recovery_done();
    assert_eq!(cluster.state(job), "RESTARTING");
}

#[tokio::test]
async fn what_there_is_no_room_for_is_waited_for_until_the_time_is_over() {
    let mut cluster = new_leader();
    let other = cluster.submit(2, &[]).await;
    let job = cluster.recover().await;
    cluster.recovery_done();
    cluster.register_again("a", vec![worker(0, 3, 5)]);
    assert_eq!(cluster.status(other).slots_held, 1);
    for _ in 0..19 {
        cluster.pass(500);
    }
    assert_eq!(cluster.state(job), "RECONCILING");
    cluster.pass(500);
    assert_eq!(cluster.state(job), "RESTARTING");
}

#[tokio::test]
async fn what_is_missing_is_not_waited_for_if_a_task_beside_it_has_failed() {
    let mut cluster = new_leader();
    let job = cluster.recover().await;
    cluster.recovery_done();
    let mut reported = worker(0, 3, 5);
    reported.tasks[1].state = control::TaskState::Failed.into();
    cluster.register_again("a", vec![reported]);
    assert_eq!(cluster.state(job), "RECONCILING");
    cluster.pass(500);
    assert_eq!(cluster.state(job), "RECONCILING");
    cluster.pass(500);
    assert_eq!(cluster.state(job), "RESTARTING");
}

#[tokio::test]
async fn a_task_manager_is_told_of_slots_that_a_worker_has_and_does_not_need() {
    let mut cluster = new_leader();
    let job = cluster.recover().await;
    let mut wide = worker(0, 3, 5);
    wide.slots = vec![0, 1];
    cluster.register_again("b", vec![worker(1, 3, 5)]);
    let a = cluster.register_again("a", vec![wide]);
    assert_eq!(cluster.state(job), "RUNNING");
    let release = ReleaseSlots {
        job_id: job.to_string(),
        worker_generation: 40,
        slots: vec![0],
    };
    let commands = cluster.take_commands(a);
    assert!(commands.contains(&Command::ReleaseSlots(release)), "{commands:?}");
    let pool = &cluster.dispatcher.resources().pool;
    assert_eq!(pool.free_on(&TaskManagerId("a".to_owned())), 1);
}

#[tokio::test]
async fn a_worker_that_is_sent_away_has_no_say_in_how_others_are_started() {
    let mut cluster = new_leader();
    let job = cluster.recover().await;
    cluster.recovery_done();
    let a = cluster.register_again("a", vec![worker(0, 3, 5)]);
    // An earlier leader had begun to start it, and nobody has used it.
    let useless = RunningWorker {
        tasks: Vec::new(),
        running: Vec::new(),
        worker_generation: 50,
        exchange_token: "another".to_owned(),
        ..worker(1, 0, 0)
    };
    let b = cluster.register_again("b", vec![useless]);
    assert_eq!(brief(&cluster.take_commands(b))[..2], ["registered", "stop"]);
    assert_eq!(cluster.state(job), "RESTARTING");
    let tasks: Vec<_> = worker(0, 3, 0)
        .tasks
        .into_iter()
        .filter_map(|task| task.execution)
        .collect();
    cluster.report(a, &tasks, control::TaskState::Canceled);
    let commands = [cluster.take_commands(a), cluster.take_commands(b)].concat();
    let tokens = start_commands(&commands).into_iter();
    let tokens: Vec<_> = tokens.map(|start| start.exchange_token.as_str()).collect();
    assert!(
        !tokens.is_empty() && tokens.iter().all(|token| *token == "token"),
        "{tokens:?}"
    );
}

#[tokio::test]
async fn what_runs_needs_no_package_and_what_is_to_be_started_waits_for_it() {
    let mut cluster = new_leader();
    let mut package = None;
    let job = cluster
        .recover_with(|submission| {
            package = submission.package.take();
            submission.package_follows = true;
        })
        .await;
    cluster.recovery_done();
    let a = cluster.register_again("a", vec![worker(0, 3, 5)]);
    let b = cluster.register_again("b", vec![worker(1, 3, 5)]);
    assert_eq!(cluster.state(job), "RUNNING");
    cluster.dispatcher.disconnected(b, cluster.now_ms);
    cluster.settle();
    let tasks: Vec<_> = worker(0, 3, 0)
        .tasks
        .into_iter()
        .filter_map(|task| task.execution)
        .collect();
    cluster.report(a, &tasks, control::TaskState::Canceled);
    cluster.pass(1_000);
    assert!(start_commands(&cluster.take_commands(a)).is_empty());
    let package = package.unwrap();
    let sha256 = package.sha256.clone();
    cluster
        .dispatcher
        .package_fetched(job, Ok(package), cluster.now_ms);
    cluster.settle();
    let commands = cluster.take_commands(a);
    let [start] = start_commands(&commands)[..] else {
        panic!("{commands:?}")
    };
    assert_eq!((&start.package_sha256, start.slots.len()), (&sha256, 2));
    cluster.say(a, ready(start));
    assert_eq!(deployed(cluster.take_commands(a)).len(), 4);
}

#[tokio::test]
async fn a_job_whose_package_is_gone_is_shown_as_failed_and_nothing_of_it_is_deleted_or_logged() {
    let mut cluster = new_leader();
    let job = cluster
        .recover_with(|submission| {
            submission.package = None;
            submission.package_follows = true;
        })
        .await;
    cluster.recovery_done();
    let a = cluster.register_again("a", vec![worker(0, 3, 5)]);
    let b = cluster.register_again("b", vec![worker(1, 3, 5)]);
    let before = cluster.storage.len();
    for connection in [a, b] {
        cluster.take_commands(connection);
    }
    let gone = Failure::new(FailureClass::Fatal, "there is no package");
    cluster.dispatcher.package_fetched(job, Err(gone), cluster.now_ms);
    cluster.settle();
    let status = cluster.status(job);
    assert_eq!(
        (
            status.state.as_str(),
            status.last_failure.unwrap().message.as_str()
        ),
        ("FAILED", "there is no package")
    );
    for connection in [a, b] {
        assert_eq!(brief(&cluster.take_commands(connection)), ["stop"]);
    }
    assert_eq!(cluster.dispatcher.resources().pool.free(), 4);
    assert_eq!((cluster.storage.len(), cluster.records.len()), (before, 0));
}

#[tokio::test]
async fn tasks_that_would_end_behind_a_savepoint_that_is_told_not_to_have_stopped_the_job_start_again() {
    for stop_given_up in [None, Some(NEWEST)] {
        let mut cluster = new_leader();
        let recovered = Recovered {
            stop_given_up,
            ..Recovered::default()
        };
        let job = cluster.recover_as(recovered, |_| {}).await;
        cluster.recovery_done();
        let stopping = |subtask| RunningWorker {
            stop_savepoint_id: NEWEST,
            ..worker(subtask, 3, 5)
        };
        let a = cluster.register_again("a", vec![stopping(0)]);
        cluster.register_again("b", vec![stopping(1)]);
        let is_stopped = brief(&cluster.take_commands(a)).contains(&"stop".to_owned());
        assert_eq!(is_stopped, stop_given_up.is_some());
        assert_eq!(cluster.state(job) == "RUNNING", stop_given_up.is_none());
    }
}

#[tokio::test]
async fn attempts_are_in_the_log_before_they_are_deployed_and_once() {
    let mut cluster = new_leader();
    cluster.dispatcher.lead(EPOCH);
    cluster.recover().await;
    cluster.recovery_done();
    let a = cluster.register_again("a", vec![worker(0, 3, 5)]);
    let b = cluster.register_again("b", vec![worker(1, 3, 5)]);
    assert!(cluster.records.is_empty(), "what goes on is no new attempt");
    cluster.dispatcher.disconnected(b, cluster.now_ms);
    cluster.settle();
    let tasks: Vec<_> = worker(0, 3, 0)
        .tasks
        .into_iter()
        .filter_map(|task| task.execution)
        .collect();
    cluster.report(a, &tasks, control::TaskState::Canceled);
    cluster.pass(1_000);
    let commands = cluster.take_commands(a);
    let [start] = start_commands(&commands)[..] else {
        panic!("{commands:?}")
    };
    cluster.say(a, ready(start));
    assert_eq!(deployed(cluster.take_commands(a)).len(), 4);
    let [(_, Content::AttemptsBegun(begun))] = &cluster.records[..] else {
        panic!("{:?}", cluster.records)
    };
    let attempts: Vec<u32> = begun.regions.iter().map(|region| region.attempt).collect();
    assert_eq!(attempts, [4]);
}
