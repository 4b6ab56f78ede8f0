//! Failures, cancellation and the end of a job.

use super::*;

#[test]
fn a_failed_task_restarts_its_region_after_the_delay_and_when_all_its_tasks_have_ended() {
    let mut job = Harness::restarting();
    job.running().task(0, 1, TaskState::Failed);
    assert_eq!(job.status_changes(), [JobStatus::Restarting]);
    let timer = job.timer();
    assert!(job.actions.contains(&Action::SetTimer {
        timer,
        after_ms: 1_000
    }));
    let canceled = job
        .actions
        .iter()
        .filter(|action| matches!(action, Action::Cancel { .. }))
        .count();
    assert_eq!(canceled, 2);
    job.tell(Fact::TimerElapsed { timer });
    assert_eq!(job.actions, []);
    job.all_tasks(TaskState::Canceled);
    assert_eq!(job.status_changes(), [JobStatus::Running]);
    assert_eq!(job.deployed().len(), 4);
    assert!(
        job.graph
            .executions
            .iter()
            .flatten()
            .all(|execution| execution.attempt == 1)
    );
    assert_eq!(job.graph.restarts(), 1);
    let record = &job.graph.executions(0)[1].history[0];
    assert_eq!((record.attempt, record.state), (0, TaskState::Failed));
}

#[test]
fn a_failure_is_remembered_with_task_and_place_and_what_followed_from_it_beside_it() {
    let mut job = Harness::restarting();
    job.running()
        .task(0, 1, TaskState::Failed)
        .task(1, 0, TaskState::Failed);
    let entry = job.graph.last_failure().unwrap();
    assert_eq!(
        entry.task_name.as_deref(),
        Some("Source: lines -> Flat Map (2/2)")
    );
    assert_eq!(entry.task_manager, Some(tm("b")));
    assert_eq!(entry.concurrent.len(), 1);
    assert_eq!(job.graph.failure_history().len(), 1);
    assert_eq!(job.graph.executions(1)[0].state, TaskState::Canceled);
}

#[test]
fn the_failure_history_is_bounded() {
    let mut configuration = FIXED_DELAY.to_vec();
    configuration.extend([
        ("restart-strategy.fixed-delay.attempts", "9"),
        ("web.exception-history-size", "2"),
    ]);
    let mut job = Harness::new(&word_count(), &configuration);
    job.running();
    for _ in 0..4 {
        job.task(0, 0, TaskState::Failed);
        let timer = job.timer();
        job.tell(Fact::TimerElapsed { timer })
            .all_tasks(TaskState::Canceled);
    }
    assert_eq!((job.graph.failure_history().len(), job.graph.restarts()), (2, 4));
}

#[test]
fn when_the_strategy_gives_up_the_job_fails_and_says_why() {
    let mut job = Harness::new(&word_count(), &[("parallelism.default", "2")]);
    job.running().task(0, 0, TaskState::Failed);
    assert_eq!(job.status_changes(), [JobStatus::Failing]);
    assert_eq!(
        job.graph.fatal_failure().unwrap().message,
        "broken (no restart: restart-strategy is none)"
    );
    job.all_tasks(TaskState::Canceled);
    assert_eq!(job.status_changes(), [JobStatus::Failed]);
    assert_eq!(job.graph.slots_held(), 0);
}

#[test]
fn a_failure_that_is_not_retryable_asks_no_strategy() {
    for class in [FailureClass::Fatal, FailureClass::Bug] {
        let mut job = Harness::restarting();
        job.running();
        let failure = Failure::new(class, "can't");
        let execution = job.id(0, 0);
        job.tell(Fact::TaskState(TaskReport {
            execution,
            state: TaskState::Failed,
            failure: Some(failure.clone()),
        }));
        assert_eq!(
            (job.graph.status(), job.graph.fatal_failure()),
            (JobStatus::Failing, Some(&failure))
        );
        assert_eq!(job.graph.restarts(), 0);
    }
}

#[test]
fn losing_a_task_manager_restarts_the_job_on_other_slots_as_one_failure() {
    let mut job = Harness::restarting();
    job.running().tell(Fact::TaskManagerLost {
        task_manager: tm("b"),
        failure: retryable("no heartbeat"),
    });
    assert_eq!(job.status_changes(), [JobStatus::Restarting]);
    assert!(
        job.actions
            .contains(&Action::DeclareSlots { required: 2, held: 1 })
    );
    assert_eq!(job.graph.failure_history().len(), 1);
    let timer = job.actions.iter().find_map(|action| match action {
        Action::SetTimer {
            timer,
            after_ms: 1_000,
        } => Some(*timer),
        _ => None,
    });
    job.tell(Fact::TimerElapsed {
        timer: timer.unwrap(),
    })
    .all_tasks(TaskState::Canceled);
    assert_eq!(job.graph.waiting_for().as_deref(), Some("1 of 2 slots"));
    job.grant("c", &[5]);
    assert!(
        matches!(&job.actions[..], [Action::StartWorker { task_manager, .. }] if *task_manager == tm("c"))
    );
    job.ready("c");
    assert_eq!(job.status_changes(), [JobStatus::Running]);
    let places: BTreeSet<_> = job.deployed().into_iter().map(|(at, _)| at).collect();
    assert_eq!(places, BTreeSet::from(["a".to_owned(), "c".to_owned()]));
}

#[test]
fn new_slots_beside_a_running_worker_replace_it_by_one_that_has_all_of_them() {
    let mut job = Harness::restarting();
    job.running();
    let before = job.generation("a");
    job.tell(Fact::TaskManagerLost {
        task_manager: tm("b"),
        failure: retryable("gone"),
    });
    job.grant("a", &[1]);
    let timer = TimerId(2);
    job.tell(Fact::TimerElapsed { timer })
        .all_tasks(TaskState::Canceled);
    assert!(
        matches!(&job.actions[..], [Action::StartWorker { slots, generation, .. }] if *slots == [0, 1] && *generation > before)
    );
}

#[test]
fn a_worker_that_ends_is_started_again_in_its_slots() {
    let mut job = Harness::restarting();
    job.running();
    let generation = job.generation("b");
    job.tell(Fact::WorkerFailed {
        task_manager: tm("b"),
        generation,
        failure: retryable("exit code 86"),
    });
    assert_eq!(job.status_changes(), [JobStatus::Restarting]);
    assert_eq!(started(&job), [("b".to_owned(), vec![0])]);
    let timer = job.timer();
    job.ready("b")
        .tell(Fact::TimerElapsed { timer })
        .all_tasks(TaskState::Canceled);
    assert_eq!(job.deployed().len(), 4);
    assert_eq!(job.graph.slots_held(), 2);
}

/// Where workers were to be started, and with which slots.
fn started(job: &Harness) -> Vec<(String, Vec<u32>)> {
    let starts = job.actions.iter().filter_map(|action| match action {
        Action::StartWorker {
            task_manager, slots, ..
        } => Some((task_manager.0.clone(), slots.clone())),
        _ => None,
    });
    starts.collect()
}

fn lose(job: &mut Harness, at: &str) -> TimerId {
    job.tell(Fact::TaskManagerLost {
        task_manager: tm(at),
        failure: retryable("its connection broke"),
    });
    TimerId(job.graph.last_timer - 1)
}

#[test]
fn while_a_restart_waits_for_its_delay_the_workers_that_it_will_need_start() {
    let mut job = Harness::restarting();
    job.running();
    let restart = lose(&mut job, "b");
    job.grant("c", &[3]);
    assert_eq!(started(&job), [("c".to_owned(), vec![3])]);
    job.ready("c").all_tasks(TaskState::Canceled);
    assert_eq!(started(&job), []);
    assert_eq!(job.deployed().len(), 0, "the delay is not over");
    job.tell(Fact::TimerElapsed { timer: restart });
    assert_eq!((started(&job), job.deployed().len()), (vec![], 4));
}

#[test]
fn a_worker_in_the_way_is_replaced_early_once_its_tasks_have_ended() {
    let mut job = Harness::restarting();
    job.running();
    let restart = lose(&mut job, "b");
    job.grant("a", &[1]);
    assert_eq!(started(&job), []);
    job.all_tasks(TaskState::Canceled);
    assert_eq!(started(&job), [("a".to_owned(), vec![0, 1])]);
    job.ready("a").tell(Fact::TimerElapsed { timer: restart });
    assert_eq!(job.deployed().len(), 4);
}

#[test]
fn an_early_start_that_fails_is_left_to_the_restart_unless_no_restart_can_help() {
    let early = || {
        let mut job = Harness::restarting();
        job.running();
        let restart = lose(&mut job, "b");
        job.grant("c", &[0]).all_tasks(TaskState::Canceled);
        (job, restart)
    };
    let failed = |job: &mut Harness, class| {
        let generation = job.generation("c");
        job.tell(Fact::WorkerFailed {
            task_manager: tm("c"),
            generation,
            failure: Failure::new(class, "it did not start"),
        });
    };
    let (mut job, restart) = early();
    failed(&mut job, FailureClass::Retryable);
    assert_eq!((started(&job), job.graph.restarts()), (vec![], 1));
    job.tell(Fact::TimerElapsed { timer: restart });
    assert_eq!(started(&job), [("c".to_owned(), vec![0])]);

    let (mut job, _) = early();
    failed(&mut job, FailureClass::Fatal);
    assert_eq!(job.graph.status(), JobStatus::Failed);
}

#[test]
fn each_part_of_the_job_returns_to_the_task_manager_that_it_was_on() {
    let mut job = Harness::restarting();
    job.running();
    let places = |job: &Harness| -> Vec<_> {
        let tasks = job.deployed().into_iter();
        let place = |(at, task): (String, &control::TaskDeployment)| {
            (task.execution.as_ref().map(|execution| execution.subtask), at)
        };
        let mut places: Vec<_> = tasks.map(place).collect();
        places.sort();
        places.dedup();
        places
    };
    let restart = lose(&mut job, "a");
    lose(&mut job, "b");
    let wanted: Vec<_> = job
        .graph
        .wanted_slots()
        .map(|(at, slot)| (at.0.clone(), slot))
        .collect();
    assert_eq!(wanted, [("a".to_owned(), 0), ("b".to_owned(), 0)]);
    job.tell(Fact::SlotsGranted {
        slots: BTreeMap::from([(tm("b"), vec![1]), (tm("c"), vec![0])]),
    });
    assert_eq!(job.graph.wanted_slots().count(), 0);
    job.ready("b")
        .ready("c")
        .tell(Fact::TimerElapsed { timer: restart });
    let expected = [(Some(0), "c".to_owned()), (Some(1), "b".to_owned())];
    assert_eq!(places(&job), expected);
}

#[test]
fn a_restart_strategy_counts_across_restarts() {
    let mut job = Harness::restarting();
    job.running();
    for _ in 0..2 {
        job.task(0, 0, TaskState::Failed);
        let timer = job.timer();
        job.tell(Fact::TimerElapsed { timer })
            .all_tasks(TaskState::Canceled)
            .all_tasks(TaskState::Running);
        assert_eq!(job.graph.status(), JobStatus::Running);
    }
    job.task(1, 1, TaskState::Failed);
    assert_eq!(
        job.graph.status(),
        JobStatus::Failing,
        "two restarts are all that there are"
    );
}

#[test]
fn a_worker_that_can_not_start_counts_as_a_failure_and_a_fatal_one_fails_the_job() {
    let mut job = Harness::restarting();
    job.start().grant("a", &[0, 1]);
    let generation = job.generation("a");
    job.tell(Fact::WorkerFailed {
        task_manager: tm("a"),
        generation,
        failure: retryable("port taken"),
    });
    assert_eq!(job.graph.status(), JobStatus::Restarting);
    let timer = job.timer();
    job.tell(Fact::TimerElapsed { timer });
    let generation = job.generation("a");
    let failure = Failure::new(FailureClass::Fatal, "the graph differs");
    job.tell(Fact::WorkerFailed {
        task_manager: tm("a"),
        generation,
        failure,
    });
    assert_eq!(job.status_changes(), [JobStatus::Failing, JobStatus::Failed]);
}

#[test]
fn news_of_an_older_attempt_worker_or_timer_change_nothing() {
    let mut job = Harness::restarting();
    job.running();
    let (old_task, old_worker) = (job.id(0, 0), job.generation("a"));
    job.task(0, 0, TaskState::Failed);
    let timer = job.timer();
    let generation = job.generation("a");
    job.tell(Fact::TimerElapsed { timer })
        .all_tasks(TaskState::Canceled);
    let states = job.states();
    let report = |state| {
        Fact::TaskState(TaskReport {
            execution: old_task,
            state,
            failure: None,
        })
    };
    job.tell(report(TaskState::Failed));
    assert_eq!((job.actions.len(), job.states()), (0, states.clone()));
    job.tell(report(TaskState::Finished));
    job.tell(Fact::WorkerFailed {
        task_manager: tm("a"),
        generation: generation - 1,
        failure: retryable("old"),
    });
    job.tell(Fact::WorkerReady {
        task_manager: tm("a"),
        generation: old_worker - 1,
        data_address: "x:1".to_owned(),
    });
    job.tell(Fact::TimerElapsed { timer });
    assert_eq!((job.actions.len(), job.states()), (0, states));
}

#[test]
fn a_task_never_goes_back_to_an_earlier_state() {
    let mut job = Harness::restarting();
    job.running()
        .task(0, 0, TaskState::Initializing)
        .task(0, 0, TaskState::Deploying);
    assert_eq!(job.graph.executions(0)[0].state, TaskState::Running);
    job.task(0, 0, TaskState::Finished).task(0, 0, TaskState::Failed);
    assert_eq!(job.graph.executions(0)[0].state, TaskState::Finished);
    assert_eq!(job.graph.status(), JobStatus::Running);
}

#[test]
fn cancel_before_any_slot_came_is_done_at_once() {
    let mut job = Harness::restarting();
    job.start().grant("a", &[0]).tell(Fact::CancelRequested);
    assert_eq!(job.status_changes(), [JobStatus::Cancelling, JobStatus::Canceled]);
    assert!(job.actions.contains(&Action::ReleaseSlots {
        task_manager: tm("a"),
        slots: vec![0]
    }));
    assert_eq!(job.states(), [TaskState::Canceled; 4]);
}

#[test]
fn cancel_of_a_running_job_waits_for_its_tasks() {
    let mut job = Harness::restarting();
    job.running().tell(Fact::CancelRequested);
    assert_eq!(job.status_changes(), [JobStatus::Cancelling]);
    assert_eq!(job.graph.waiting_for().as_deref(), Some("4 of 4 tasks to end"));
    job.tell(Fact::CancelRequested);
    assert_eq!(job.actions, []);
    job.task(0, 0, TaskState::Finished)
        .task(0, 1, TaskState::Failed)
        .all_tasks(TaskState::Canceled);
    assert_eq!(job.status_changes(), [JobStatus::Canceled]);
}

#[test]
fn a_task_manager_lost_while_canceling_leaves_nothing_to_wait_for_there() {
    let mut job = Harness::restarting();
    job.running()
        .tell(Fact::CancelRequested)
        .task(0, 0, TaskState::Canceled)
        .task(1, 0, TaskState::Canceled);
    job.tell(Fact::TaskManagerLost {
        task_manager: tm("b"),
        failure: retryable("gone"),
    });
    assert_eq!(job.status_changes(), [JobStatus::Canceled]);
}

#[test]
fn cancel_of_a_failing_job_ends_canceled_as_in_flink() {
    let mut job = Harness::new(&word_count(), &[("parallelism.default", "2")]);
    job.running()
        .task(0, 0, TaskState::Failed)
        .tell(Fact::CancelRequested)
        .all_tasks(TaskState::Canceled);
    assert_eq!(job.graph.status(), JobStatus::Canceled);
}

#[test]
fn cancel_while_restarting_ends_the_wait() {
    let mut job = Harness::restarting();
    job.running().task(0, 0, TaskState::Failed);
    let timer = job.timer();
    job.all_tasks(TaskState::Canceled).tell(Fact::CancelRequested);
    assert_eq!(job.graph.status(), JobStatus::Canceled);
    job.tell(Fact::TimerElapsed { timer });
    assert_eq!(job.actions, []);
}

#[test]
fn slots_that_do_not_come_in_time_are_a_failure_that_says_how_many_are_missing() {
    let mut job = Harness::new(
        &word_count(),
        &[("parallelism.default", "2"), ("slot.request.timeout", "3 s")],
    );
    job.start();
    let timer = job.timer();
    assert!(job.actions.contains(&Action::SetTimer {
        timer,
        after_ms: 3_000
    }));
    job.grant("a", &[0]).tell(Fact::TimerElapsed { timer });
    assert_eq!(job.graph.status(), JobStatus::Failed);
    let message = &job.graph.last_failure().unwrap().failure.message;
    assert!(
        message.starts_with("1 of 2 slots could not be had within 3000 ms"),
        "{message}"
    );
}

#[test]
fn slots_that_come_in_time_stop_the_clock() {
    let mut job = Harness::restarting();
    job.start();
    let timer = job.timer();
    job.grant("a", &[0, 1]).tell(Fact::TimerElapsed { timer });
    assert_eq!((job.actions.len(), job.graph.status()), (0, JobStatus::Created));
}

#[test]
fn slots_that_are_taken_away_cost_their_worker() {
    let mut job = Harness::restarting();
    job.running();
    let generation = job.generation("b");
    job.tell(Fact::SlotsLost {
        task_manager: tm("b"),
        slots: vec![0],
        failure: retryable("taken"),
    });
    assert_eq!(
        job.actions[0],
        Action::StopWorker {
            task_manager: tm("b"),
            generation
        }
    );
    assert_eq!(
        (job.graph.status(), job.graph.slots_held()),
        (JobStatus::Restarting, 1)
    );
}

#[test]
fn what_comes_after_the_end_is_sent_back() {
    let mut job = Harness::restarting();
    job.start().tell(Fact::CancelRequested).grant("a", &[0]);
    assert_eq!(
        job.actions,
        [Action::ReleaseSlots {
            task_manager: tm("a"),
            slots: vec![0]
        }]
    );
    job.tell(report("a", &[0], Vec::new()));
    assert_eq!(job.actions, sent_away("a", &[0]));
}

#[test]
fn a_leader_that_is_one_no_longer_touches_nothing() {
    let mut job = Harness::restarting();
    job.running().tell(Fact::LeadershipLost);
    assert_eq!(job.status_changes(), [JobStatus::Suspended]);
    assert_eq!(job.actions.len(), 1);
    job.tell(Fact::CancelRequested);
    assert_eq!(job.actions, []);
}

#[test]
fn a_failure_restarts_its_own_region_only() {
    let mut job = Harness::new(&two_strands(), &FIXED_DELAY);
    job.running().task(0, 0, TaskState::Failed);
    assert_eq!(job.graph.executions(0)[1].state, TaskState::Running);
    let timer = job.timer();
    job.task(1, 0, TaskState::Canceled)
        .tell(Fact::TimerElapsed { timer });
    assert_eq!(job.deployed().len(), 2);
    assert_eq!(job.status_changes(), [JobStatus::Running]);
    assert_eq!(
        (
            job.graph.executions(0)[0].attempt,
            job.graph.executions(0)[1].attempt
        ),
        (1, 0)
    );
}

#[test]
fn full_failover_restarts_every_region() {
    let mut configuration = FIXED_DELAY.to_vec();
    configuration.push(("jobmanager.execution.failover-strategy", "full"));
    let mut job = Harness::new(&two_strands(), &configuration);
    job.running().task(0, 0, TaskState::Failed);
    assert_eq!(job.graph.tasks_in(TaskState::Canceling), 3);
}

#[test]
fn a_region_that_came_to_its_end_needs_no_slot_any_more() {
    let mut job = Harness::new(&two_strands(), &FIXED_DELAY);
    job.running()
        .task(0, 1, TaskState::Finished)
        .task(1, 1, TaskState::Finished);
    job.tell(Fact::TaskManagerLost {
        task_manager: tm("b"),
        failure: retryable("gone"),
    });
    assert_eq!((job.actions.len(), job.graph.status()), (0, JobStatus::Running));
    job.all_tasks(TaskState::Finished);
    assert_eq!(job.graph.status(), JobStatus::Finished);
}
