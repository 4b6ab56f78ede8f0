//! A new leader, and workers that come back.

use super::*;

fn reconciling() -> Harness {
    let (graph, actions) =
        ExecutionGraph::reconciling(job_of(&word_count(), &FIXED_DELAY), 9_000, 100).unwrap();
    Harness {
        graph,
        now_ms: 100,
        actions,
    }
}

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
    assert_eq!(job.graph.executions(1)[1].attempt, 3);
    assert_eq!(
        job.graph.held_slots(),
        BTreeMap::from([(tm("a"), vec![4]), (tm("b"), vec![2])])
    );
}

#[test]
fn tasks_that_nobody_reports_in_time_restart_their_region() {
    let mut job = reconciling();
    let first = strand(&job, 0, 1, TaskState::Running);
    job.tell(report("a", &[4], first))
        .tell(Fact::TimerElapsed { timer: TimerId(1) });
    assert_eq!(job.status_changes(), [JobStatus::Running, JobStatus::Restarting]);
    assert_eq!(job.graph.tasks_in(TaskState::Canceling), 2);
    assert!(
        job.actions
            .contains(&Action::DeclareSlots { required: 2, held: 1 })
    );
}

#[test]
fn a_worker_that_contradicts_what_another_reported_is_stopped() {
    let mut job = reconciling();
    let same = strand(&job, 0, 1, TaskState::Running);
    job.tell(report("a", &[4], same.clone()))
        .tell(report("b", &[2], same));
    assert_eq!(
        job.actions,
        [Action::StopWorker {
            task_manager: tm("b"),
            generation: u64::MAX
        }]
    );
}

#[test]
fn a_worker_that_comes_back_to_a_leader_that_gave_it_up_is_stopped() {
    let mut job = Harness::restarting();
    job.running();
    let tasks = strand(&job, 1, 0, TaskState::Running);
    job.tell(Fact::TaskManagerLost {
        task_manager: tm("b"),
        failure: retryable("gone"),
    })
    .tell(report("b", &[0], tasks));
    assert_eq!(
        job.actions,
        [Action::StopWorker {
            task_manager: tm("b"),
            generation: u64::MAX
        }]
    );
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
    assert_eq!(job.status_changes(), [JobStatus::Running, JobStatus::Restarting]);
    assert_eq!(job.graph.last_failure().unwrap().failure.message, "broker away");
}
