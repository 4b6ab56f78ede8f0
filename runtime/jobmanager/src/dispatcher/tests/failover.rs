//! Where a job that lost TaskManagers goes, what is done while it waits, and what is left of it in the end.

use super::*;

const LOCAL: (&str, &str) = ("execution.state-recovery.from-local", "true");

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    FIXED.iter().chain(more).copied().collect()
}

/// Subtasks by the connection that got them.
fn subtasks(tasks: &[TaskDeployment]) -> Vec<u32> {
    let mut subtasks: Vec<u32> = executions(tasks).iter().map(|task| task.subtask).collect();
    subtasks.sort_unstable();
    subtasks.dedup();
    subtasks
}

impl Cluster {
    fn lose(&mut self, connection: ConnectionId) {
        self.dispatcher.disconnected(connection, self.now_ms);
        self.settle();
    }

    /// Workers that were asked for are ready, on all these; the tasks of each.
    fn tasks_on<const N: usize>(&mut self, connections: [ConnectionId; N]) -> [Vec<TaskDeployment>; N] {
        let mut tasks = connections.map(|connection| self.start_workers(connection));
        for (tasks, connection) in tasks.iter_mut().zip(connections) {
            tasks.extend(deployed(self.take_commands(connection)));
        }
        tasks
    }
}

#[tokio::test]
async fn subtasks_return_to_the_task_managers_that_ran_them_in_whatever_order_these_return() {
    let mut cluster = cluster(&[]);
    let (a, b) = (cluster.register("a", 1), cluster.register("b", 1));
    cluster.submit(1, &with(&[("parallelism.default", "2")])).await;
    let [on_a, on_b] = cluster.tasks_on([a, b]);
    assert_eq!((subtasks(&on_a), subtasks(&on_b)), (vec![0], vec![1]));
    cluster.lose(a);
    cluster.lose(b);
    let b = cluster.register("b", 1);
    let a = cluster.register("a", 1);
    cluster.pass(1_000);
    let [on_a, on_b] = cluster.tasks_on([a, b]);
    assert_eq!((subtasks(&on_a), subtasks(&on_b)), (vec![0], vec![1]));
}

#[tokio::test]
async fn a_spare_slot_is_taken_at_once_and_its_worker_is_ready_when_the_delay_is_over() {
    let mut cluster = cluster(&[]);
    let connections = ["a", "b", "spare"].map(|name| cluster.register(name, 1));
    let [a, b, spare] = connections;
    let job = cluster.submit(1, &with(&[("parallelism.default", "2")])).await;
    let [on_a, on_b] = cluster.tasks_on([a, b]);
    let tasks = executions(&[on_a, on_b].concat());
    for connection in [a, b] {
        cluster.report(connection, &tasks, control::TaskState::Running);
    }
    assert_eq!(cluster.state(job), "RUNNING");
    cluster.lose(b);
    assert!(
        cluster.start_workers(spare).is_empty(),
        "it is ready, and the delay is not over"
    );
    let survivors: Vec<_> = tasks.iter().filter(|task| task.subtask == 0).cloned().collect();
    cluster.report(a, &survivors, control::TaskState::Canceled);
    cluster.take_commands(a);
    cluster.pass(1_000);
    let [on_a, on_spare] = [a, spare].map(|connection| cluster.take_commands(connection));
    assert!(start_commands(&on_a).is_empty(), "the survivor's process goes on");
    assert_eq!(subtasks(&deployed(on_a)), [0]);
    assert_eq!(subtasks(&deployed(on_spare)), [1]);
}

#[tokio::test]
async fn when_a_job_ends_all_task_managers_are_told_if_they_may_have_copies_of_its_files() {
    for (configuration, told) in [(vec![LOCAL], true), (vec![], false)] {
        let mut cluster = cluster(&[]);
        let idle = cluster.register("idle", 1);
        let job = cluster.submit(1, &configuration).await;
        let connection = cluster.register("later", 1);
        let tasks = executions(&cluster.start_workers(idle));
        cluster.report(idle, &tasks, control::TaskState::Running);
        let is_release = |command: &Command| matches!(command, Command::ReleaseJob(_));
        assert!(!cluster.commands.values().flatten().any(is_release));
        cluster.report(idle, &tasks, control::TaskState::Finished);
        for connection in [idle, connection] {
            let commands = cluster.take_commands(connection);
            let released = commands.iter().any(
                |command| matches!(command, Command::ReleaseJob(release) if release.job_id == job.to_string()),
            );
            assert_eq!(released, told, "{commands:?}");
        }
    }
}

#[tokio::test]
async fn a_task_that_failed_comes_back_to_the_same_process() {
    let mut cluster = cluster(&[]);
    let (_, connection, tasks) = cluster.running(1, &FIXED).await;
    cluster.register("empty", 2);
    cluster.report(connection, &tasks[..1], control::TaskState::Failed);
    cluster.report(connection, &tasks[1..], control::TaskState::Canceled);
    cluster.pass(1_000);
    let commands = cluster.take_commands(connection);
    assert!(start_commands(&commands).is_empty(), "{commands:?}");
    assert_eq!(deployed(commands).len(), 2);
}
