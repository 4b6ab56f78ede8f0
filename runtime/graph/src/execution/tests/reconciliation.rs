//! A new leader, and workers that come back.

use super::*;

const NEWEST: u64 = 5;

fn reconciling() -> Harness {
    let known = Reconciliation {
        timeout_ms: 9_000,
        ..Reconciliation::default()
    };
    Harness::reconciling(&word_count(), &FIXED_DELAY, known)
}

/// Two regions, and a newest checkpoint that holds the end of the second one's source.
fn behind_a_checkpoint() -> Harness {
    let ended = job_of(&two_strands(), &FIXED_DELAY).vertices[0].id.parse();
    let known = Reconciliation {
        timeout_ms: 9_000,
        newest_checkpoint: NEWEST,
        finished: [(ended.unwrap(), 1)].into(),
        ..Reconciliation::default()
    };
    Harness::reconciling(&two_strands(), &FIXED_DELAY, known)
}

/// A report of tasks that acknowledged this checkpoint last.
fn report_behind(at: &str, slots: &[u32], tasks: Vec<TaskReport>, checkpoint: u64) -> Fact {
    let mut reported = report(at, slots, tasks);
    if let Fact::WorkerReported { worker, .. } = &mut reported {
        worker
            .tasks
            .iter_mut()
            .for_each(|task| task.checkpoint = checkpoint);
    }
    reported
}

fn attempts(job: &Harness) -> Vec<u32> {
    let executions = job.graph.executions.iter().flatten();
    executions.map(|execution| execution.attempt).collect()
}

fn stop(at: &str, generation: u64) -> Action {
    Action::StopWorker {
        task_manager: tm(at),
        generation,
    }
}

const TIME_OUT: Fact = Fact::TimerElapsed { timer: TimerId(1) };

#[test]
fn a_new_leader_takes_over_what_the_task_managers_report_without_restarting_it() {
    let mut job = reconciling();
    assert_eq!(
        job.actions,
        [Action::SetTimer {
            timer: TimerId(1),
            after_ms: 9_000
        }]
    );
    let (first, second) = (
        strand(&job, 0, 3, TaskState::Running),
        strand(&job, 1, 3, TaskState::Running),
    );
    job.tell(report("a", &[4], first));
    assert_eq!(job.graph.status(), JobStatus::Reconciling);
    assert_eq!(
        job.graph.waiting_for().as_deref(),
        Some("TaskManagers to report 2 of 4 tasks")
    );
    job.tell(report("b", &[2], second));
    assert_eq!(job.status_changes(), [JobStatus::Running]);
    assert_eq!(job.actions.len(), 1);
    assert_eq!(attempts(&job), [3; 4]);
    let began = |subtask: usize| {
        job.graph.executions(0)[subtask]
            .timestamps
            .of(TaskState::Deploying)
    };
    assert_eq!([began(0), began(1)], [Some(DEPLOYED_MS); 2]);
    assert_eq!(
        job.graph.held_slots(),
        BTreeMap::from([(tm("a"), vec![4]), (tm("b"), vec![2])])
    );
    assert!(job.tell(TIME_OUT).actions.is_empty());
}

#[test]
fn what_was_taken_over_goes_on_like_any_other_job() {
    let mut job = reconciling();
    for (at, subtask) in [("a", 0), ("b", 1)] {
        let tasks = strand(&job, subtask, 3, TaskState::Running);
        job.tell(report(at, &[0], tasks));
    }
    job.tell(Fact::WorkerFailed {
        task_manager: tm("b"),
        generation: 7,
        failure: retryable("killed"),
    });
    assert_eq!(job.status_changes(), [JobStatus::Restarting]);
    assert!(
        job.generation("b") > 7,
        "its worker is started while the delay runs"
    );
    let timer = job.timer();
    job.ready("b")
        .all_tasks(TaskState::Canceled)
        .tell(Fact::TimerElapsed { timer });
    assert_eq!((attempts(&job), job.deployed().len()), (vec![4; 4], 4));
    job.all_tasks(TaskState::Running).all_tasks(TaskState::Finished);
    assert_eq!(job.status_changes(), [JobStatus::Finished]);
}

#[test]
fn tasks_that_nobody_reports_in_time_restart_their_region_at_once_whatever_the_restart_strategy() {
    let none = [("parallelism.default", "2"), ("restart-strategy.type", "none")];
    for configuration in [&FIXED_DELAY[..], &none] {
        let known = Reconciliation {
            timeout_ms: 9_000,
            ..Reconciliation::default()
        };
        let mut job = Harness::reconciling(&word_count(), configuration, known);
        let first = strand(&job, 0, 6, TaskState::Running);
        job.tell(report("a", &[4], first)).tell(TIME_OUT);
        assert_eq!(job.status_changes(), [JobStatus::Restarting]);
        assert_eq!(job.graph.tasks_in(TaskState::Canceling), 2);
        assert!(
            job.actions
                .contains(&Action::DeclareSlots { required: 2, held: 1 })
        );
        job.all_tasks(TaskState::Canceled).grant("c", &[0]).ready("c");
        assert_eq!(job.status_changes(), [JobStatus::Running]);
        assert_eq!(attempts(&job), [7; 4], "newer than whatever was reported");
    }
}

#[test]
fn a_job_that_nobody_runs_is_started_like_a_new_one() {
    let mut job = reconciling();
    job.tell(TIME_OUT);
    assert_eq!(job.status_changes(), [JobStatus::Restarting]);
    job.grant("a", &[0, 1]).ready("a");
    assert_eq!(
        (job.graph.status(), attempts(&job)),
        (JobStatus::Running, vec![1; 4])
    );
}

#[test]
fn what_is_missing_is_given_up_before_the_time_out_if_the_leader_has_room_for_it() {
    let missing = |job: &Harness| {
        let missing = job.graph.missing();
        missing.map(|missing| (missing.slots, missing.is_part, missing.restarts_anyway))
    };
    let mut job = reconciling();
    assert_eq!(missing(&job), Some((2, false, false)));
    let first = strand(&job, 0, 6, TaskState::Running);
    job.tell(report("a", &[4], first));
    assert_eq!(missing(&job), Some((1, true, false)));
    job.tell(Fact::MissingGivenUp);
    assert_eq!(job.status_changes(), [JobStatus::Restarting]);
    assert_eq!((missing(&job), job.graph.restarts()), (None, 1));
    job.all_tasks(TaskState::Canceled).grant("a", &[5]).ready("a");
    assert_eq!(attempts(&job), [7; 4]);
}

#[test]
fn a_region_in_which_a_task_has_failed_starts_again_whoever_else_is_missing() {
    let failed = |job: &Harness, subtask: u32| strand(job, subtask, 6, TaskState::Failed);
    let restarts_anyway = |job: &Harness| job.graph.missing().map(|missing| missing.restarts_anyway);
    let mut one_region = reconciling();
    let tasks = failed(&one_region, 0);
    one_region.tell(report("a", &[4], tasks));
    assert_eq!(restarts_anyway(&one_region), Some(true));

    let two = |configuration: &[(&str, &str)]| {
        Harness::reconciling(&two_strands(), configuration, Reconciliation::default())
    };
    let mut regions = two(&FIXED_DELAY);
    let tasks = failed(&regions, 0);
    regions.tell(report("a", &[4], tasks));
    assert_eq!(restarts_anyway(&regions), Some(false), "the other one may run");
    let full = [
        &FIXED_DELAY[..],
        &[("jobmanager.execution.failover-strategy", "full")],
    ]
    .concat();
    let mut whole = two(&full);
    let tasks = failed(&whole, 0);
    whole.tell(report("a", &[4], tasks));
    assert_eq!(restarts_anyway(&whole), Some(true));
}

#[test]
fn attempts_that_others_were_begun_behind_do_not_go_on_whoever_reports_them() {
    let fresh = Harness::new(&two_strands(), &FIXED_DELAY);
    let begun = fresh.graph.regions_of([ExecutionId {
        attempt: 3,
        ..fresh.id(1, 0)
    }]);
    assert_eq!(
        begun.values().collect::<Vec<_>>(),
        [&3],
        "the region of the first strand"
    );
    let known = Reconciliation {
        begun,
        ..Reconciliation::default()
    };
    let mut job = Harness::reconciling(&two_strands(), &FIXED_DELAY, known);
    let (first, second) = (
        strand(&job, 0, 2, TaskState::Running),
        strand(&job, 1, 2, TaskState::Running),
    );
    job.tell(report("a", &[0], first));
    assert_eq!(job.actions, sent_away("a", &[0]));
    job.tell(report("b", &[0], second)).tell(TIME_OUT);
    job.grant("c", &[0]).ready("c");
    assert_eq!(attempts(&job), [4, 2, 4, 2]);
}

#[test]
fn what_is_started_in_the_place_of_a_worker_comes_after_it_by_whichever_clock() {
    let mut job = reconciling();
    let late = 1 << 50;
    let mut reported = report("a", &[0, 1], Vec::new());
    if let Fact::WorkerReported { worker, .. } = &mut reported {
        worker.generation = late;
    }
    job.tell(reported).tell(TIME_OUT);
    job.grant("a", &[0, 1]);
    assert_eq!(job.generation("a"), late + 1);
}

#[test]
fn only_the_region_of_what_is_missing_restarts() {
    let mut job = Harness::reconciling(&two_strands(), &FIXED_DELAY, Reconciliation::default());
    let first = strand(&job, 0, 2, TaskState::Running);
    job.tell(report("a", &[0], first)).tell(TIME_OUT);
    assert_eq!(job.graph.tasks_in(TaskState::Running), 2);
    job.grant("b", &[0]).ready("b");
    assert_eq!(attempts(&job), [2, 3, 2, 3]);
}

#[test]
fn when_all_of_the_jobs_slots_are_known_nothing_more_is_waited_for() {
    let mut job = reconciling();
    let first = strand(&job, 0, 1, TaskState::Running);
    job.tell(report("a", &[0], first))
        .tell(report("b", &[0], Vec::new()));
    assert_eq!(job.status_changes(), [JobStatus::Restarting]);
    assert_eq!(job.actions[..2], sent_away("b", &[0]), "it runs nothing");
}

#[test]
fn of_two_that_report_the_same_subtask_the_second_is_sent_away() {
    let mut job = reconciling();
    let same = strand(&job, 0, 1, TaskState::Running);
    job.tell(report("a", &[4], same.clone()))
        .tell(report("b", &[2], same));
    assert_eq!(job.actions, sent_away("b", &[2]));
}

#[test]
fn a_worker_with_a_task_that_the_job_does_not_have_is_sent_away() {
    let mut job = reconciling();
    let mut tasks = strand(&job, 0, 1, TaskState::Running);
    tasks[1].execution.subtask = 9;
    job.tell(report("a", &[4], tasks));
    assert_eq!(job.actions, sent_away("a", &[4]));
}

#[test]
fn a_worker_that_was_given_up_shows_by_newer_attempts_elsewhere_and_is_stopped_whoever_comes_first() {
    for outdated_first in [true, false] {
        let mut job = reconciling();
        let outdated = report("zombie", &[0], strand(&job, 1, 2, TaskState::Running));
        let current = report("a", &[0], strand(&job, 0, 3, TaskState::Running));
        let successor = report("b", &[0], strand(&job, 1, 3, TaskState::Running));
        if outdated_first {
            job.tell(outdated).tell(current);
            assert_eq!(job.actions[0], stop("zombie", 7));
        } else {
            job.tell(current).tell(outdated);
            assert_eq!(job.actions, sent_away("zombie", &[0]));
        }
        assert_eq!(job.graph.status(), JobStatus::Reconciling);
        job.tell(successor);
        assert_eq!(job.status_changes(), [JobStatus::Running]);
        assert_eq!(attempts(&job), [3; 4]);
    }
}

#[test]
fn a_worker_that_took_no_part_in_the_newest_checkpoint_was_given_up_before() {
    let mut job = behind_a_checkpoint();
    let tasks = strand(&job, 0, 0, TaskState::Running);
    job.tell(report_behind("zombie", &[0], tasks.clone(), NEWEST - 1));
    assert_eq!(job.actions, sent_away("zombie", &[0]));
    job.tell(report_behind("a", &[0], tasks, NEWEST));
    assert_eq!(job.graph.tasks_in(TaskState::Running), 2);
}

#[test]
fn an_end_that_the_newest_checkpoint_does_not_know_is_none() {
    let mut job = behind_a_checkpoint();
    let tasks = strand(&job, 1, 0, TaskState::Finished);
    job.tell(report_behind("b", &[0], tasks, NEWEST - 1));
    assert_eq!(
        job.graph.executions(0)[1].state,
        TaskState::Finished,
        "it is in the checkpoint"
    );
    assert_eq!(job.graph.executions(1)[1].state, TaskState::Reconciling);
}

#[test]
fn a_task_that_ended_meanwhile_is_not_started_again() {
    let mut job = Harness::reconciling(&two_strands(), &FIXED_DELAY, Reconciliation::default());
    let (first, second) = (
        strand(&job, 0, 0, TaskState::Running),
        strand(&job, 1, 0, TaskState::Finished),
    );
    job.tell(report("a", &[0], first)).tell(report("b", &[0], second));
    assert_eq!(job.status_changes(), [JobStatus::Running]);
    job.all_tasks(TaskState::Finished);
    assert_eq!(job.status_changes(), [JobStatus::Finished]);
}

#[test]
fn a_worker_whose_process_is_gone_restarts_what_it_ran_without_a_wait() {
    let mut job = reconciling();
    let (first, second) = (
        strand(&job, 0, 0, TaskState::Running),
        strand(&job, 1, 0, TaskState::Running),
    );
    let mut gone = report("a", &[0], first);
    if let Fact::WorkerReported { worker, .. } = &mut gone {
        worker.data_address = None;
    }
    job.tell(gone);
    assert_eq!(job.actions, sent_away("a", &[0]));
    job.tell(report("b", &[0], second));
    assert_eq!(job.status_changes(), [JobStatus::Restarting]);
    assert_eq!(job.graph.tasks_in(TaskState::Canceling), 2);
    assert_eq!(job.graph.wanted_slots().collect::<Vec<_>>(), [(&tm("a"), 0)]);
}

#[test]
fn what_was_being_canceled_is_canceled_again() {
    let mut job = reconciling();
    let (first, second) = (
        strand(&job, 0, 0, TaskState::Canceling),
        strand(&job, 1, 0, TaskState::Running),
    );
    job.tell(report("a", &[0], first)).tell(report("b", &[0], second));
    assert_eq!(job.status_changes(), [JobStatus::Restarting]);
    let canceled = job.actions.iter().map(|action| match action {
        Action::Cancel { executions, .. } => executions.len(),
        _ => 0,
    });
    assert_eq!(canceled.sum::<usize>(), 4);
}

#[test]
fn a_task_that_failed_while_nobody_led_restarts_its_region_when_all_is_known() {
    let mut job = reconciling();
    let (mut first, second) = (
        strand(&job, 0, 0, TaskState::Running),
        strand(&job, 1, 0, TaskState::Running),
    );
    first[0].state = TaskState::Failed;
    first[0].failure = Some(retryable("broker away"));
    job.tell(report("a", &[0], first)).tell(report("b", &[0], second));
    assert_eq!(job.status_changes(), [JobStatus::Restarting]);
    assert_eq!(job.graph.last_failure().unwrap().failure.message, "broker away");
}

#[test]
fn a_task_that_fails_for_good_fails_the_job_also_when_others_are_missing() {
    let mut job = reconciling();
    let mut first = strand(&job, 0, 0, TaskState::Running);
    first[0].state = TaskState::Failed;
    first[0].failure = Some(Failure::new(FailureClass::Fatal, "bad record"));
    job.tell(report("a", &[0], first)).tell(TIME_OUT);
    assert_eq!(job.graph.status(), JobStatus::Failing);
}

#[test]
fn a_task_manager_that_is_lost_may_come_back_and_report_again() {
    let mut job = reconciling();
    let tasks = [0, 1].map(|subtask| strand(&job, subtask, 1, TaskState::Running));
    job.tell(report("a", &[0], tasks[0].clone()))
        .tell(Fact::TaskManagerLost {
            task_manager: tm("a"),
            failure: retryable("gone"),
        });
    assert_eq!(job.graph.tasks_in(TaskState::Reconciling), 4);
    for (at, tasks) in ["b", "a"].into_iter().zip(tasks.into_iter().rev()) {
        job.tell(report(at, &[0], tasks));
    }
    assert_eq!(job.status_changes(), [JobStatus::Running]);
}

#[test]
fn a_task_manager_that_comes_too_late_is_sent_away() {
    let mut job = reconciling();
    let late = strand(&job, 1, 1, TaskState::Running);
    job.tell(TIME_OUT).tell(report("b", &[2], late));
    assert_eq!(job.actions, sent_away("b", &[2]));
}

#[test]
fn a_worker_that_comes_back_to_a_leader_that_gave_it_up_is_sent_away() {
    let mut job = Harness::restarting();
    job.running();
    let tasks = strand(&job, 1, 0, TaskState::Running);
    job.tell(Fact::TaskManagerLost {
        task_manager: tm("b"),
        failure: retryable("gone"),
    })
    .tell(report("b", &[0], tasks));
    assert_eq!(job.actions, sent_away("b", &[0]));
}

#[test]
fn a_job_that_is_canceled_while_reports_come_in_ends_and_later_ones_are_sent_away() {
    let mut job = reconciling();
    let (first, second) = (
        strand(&job, 0, 0, TaskState::Running),
        strand(&job, 1, 0, TaskState::Running),
    );
    job.tell(report("a", &[0], first)).tell(Fact::CancelRequested);
    assert_eq!(job.graph.status(), JobStatus::Cancelling);
    job.tell(report("b", &[2], second.clone()));
    assert_eq!(job.actions, sent_away("b", &[2]));
    job.all_tasks(TaskState::Canceled);
    assert_eq!(job.status_changes(), [JobStatus::Canceled]);
    job.tell(report("c", &[1], second));
    assert_eq!(job.actions, sent_away("c", &[1]));
}
