//! Whatever happens in whatever order: no panic, no slot or worker leaks, what has ended stays ended.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const TASK_MANAGERS: [&str; 3] = ["a", "b", "c"];
const SLOTS: u32 = 3;

/// One thing to happen; numbers are taken modulo what there is.
#[derive(Debug, Clone)]
enum Happening {
    Grant(usize, u32),
    Lose(usize),
    TakeSlot(usize, u32),
    Ready(usize),
    WorkerFails(usize, bool),
    Task(usize, usize, bool),
    StaleTask(usize, usize),
    Garbage(usize, u64),
    Report(usize, u32, bool),
    MissingGivenUp,
    Timer(usize),
    Fail(bool),
    Start,
    Cancel,
}

/// What ends a job is rare, so that most runs see many restarts.
fn happening() -> impl Strategy<Value = Happening> {
    let n = 0..64usize;
    let rarely = || prop::bool::weighted(0.05);
    // reports of work are more common than of failures
    let state = prop_oneof![
        4 => Just(4usize),
        4 => Just(7usize),
        2 => 0..TaskState::ALL.len(),
    ];
    prop_oneof![
        40 => (n.clone(), 0..SLOTS).prop_map(|(at, slot)| Happening::Grant(at, slot)),
        6 => n.clone().prop_map(Happening::Lose),
        3 => (n.clone(), 0..SLOTS).prop_map(|(at, slot)| Happening::TakeSlot(at, slot)),
        40 => n.clone().prop_map(Happening::Ready),
        4 => (n.clone(), rarely()).prop_map(|(at, fatal)| Happening::WorkerFails(at, fatal)),
        80 => (n.clone(), state, rarely()).prop_map(|(t, s, fatal)| Happening::Task(t, s, fatal)),
        4 => (n.clone(), 0..TaskState::ALL.len()).prop_map(|(t, s)| Happening::StaleTask(t, s)),
        4 => (n.clone(), 0..5u64).prop_map(|(at, generation)| Happening::Garbage(at, generation)),
        8 => (n.clone(), 0..3u32, prop::bool::weighted(0.8)).prop_map(|(at, attempt, lives)| Happening::Report(at, attempt, lives)),
        30 => n.prop_map(Happening::Timer),
        2 => rarely().prop_map(Happening::Fail),
        4 => Just(Happening::Start),
        1 => Just(Happening::MissingGivenUp),
        1 => Just(Happening::Cancel),
    ]
}

/// What the ResourceManager and the TaskManagers know, by the graph's actions alone.
#[derive(Default)]
struct World {
    held: BTreeSet<(TaskManagerId, u32)>,
    workers: BTreeMap<TaskManagerId, u64>,
    timers: BTreeSet<TimerId>,
    /// Slots that were asked for and not granted yet.
    wanted: u32,
    ended: Option<JobStatus>,
    seen: Vec<ExecutionId>,
}

impl World {
    fn take(&mut self, actions: Vec<Action>) {
        for action in actions {
            assert!(
                self.ended.is_none()
                    || !matches!(action, Action::StatusChanged { .. } | Action::Deploy { .. })
            );
            match action {
                Action::ReleaseSlots { task_manager, slots } => {
                    for slot in slots {
                        assert!(
                            self.held.remove(&(task_manager.clone(), slot)),
                            "released a slot that it did not have"
                        );
                    }
                }
                Action::StartWorker {
                    task_manager,
                    generation,
                    slots,
                } => {
                    assert!(
                        slots
                            .iter()
                            .all(|slot| self.held.contains(&(task_manager.clone(), *slot)))
                    );
                    let before = self.workers.insert(task_manager, generation);
                    assert!(before.is_none_or(|before| before < generation));
                }
                Action::StopWorker { task_manager, .. } => {
                    self.workers.remove(&task_manager);
                }
                Action::Deploy { task_manager, tasks } => {
                    assert!(self.workers.contains_key(&task_manager));
                    for task in tasks {
                        assert!(self.held.contains(&(task_manager.clone(), task.slot)));
                        self.seen.push(execution_id(&task.execution.unwrap()).unwrap());
                    }
                }
                Action::SetTimer { timer, .. } => {
                    assert!(self.timers.insert(timer), "a timer's id was used twice");
                }
                Action::StatusChanged { to, .. } => self.ended = to.is_terminal().then_some(to),
                Action::DeclareSlots { required, held } => self.wanted = required - held,
                Action::Cancel { .. } => {}
            }
        }
    }
}

fn happen(job: &mut Harness, world: &mut World, what: &Happening) {
    let at = |index: &usize| tm(TASK_MANAGERS[index % TASK_MANAGERS.len()]);
    let subtasks = job.graph.subtasks();
    let failure = |fatal: bool| {
        Failure::new(
            if fatal {
                FailureClass::Fatal
            } else {
                FailureClass::Retryable
            },
            "it broke",
        )
    };
    let fact = match what {
        Happening::Start => Fact::Start,
        Happening::Cancel => Fact::CancelRequested,
        Happening::Grant(index, slot) => {
            if !world.held.insert((at(index), *slot)) {
                return;
            }
            world.wanted = world.wanted.saturating_sub(1);
            Fact::SlotsGranted {
                slots: BTreeMap::from([(at(index), vec![*slot])]),
            }
        }
        Happening::Lose(index) => {
            world.held.retain(|(task_manager, _)| *task_manager != at(index));
            world.workers.remove(&at(index));
            Fact::TaskManagerLost {
                task_manager: at(index),
                failure: failure(false),
            }
        }
        Happening::TakeSlot(index, slot) => {
            world.held.remove(&(at(index), *slot));
            Fact::SlotsLost {
                task_manager: at(index),
                slots: vec![*slot],
                failure: failure(false),
            }
        }
        Happening::Ready(index) => {
            let Some(generation) = world.workers.get(&at(index)) else {
                return;
            };
            Fact::WorkerReady {
                task_manager: at(index),
                generation: *generation,
                data_address: "host:1".to_owned(),
            }
        }
        Happening::WorkerFails(index, fatal) => {
            let Some(generation) = world.workers.remove(&at(index)) else {
                return;
            };
            Fact::WorkerFailed {
                task_manager: at(index),
                generation,
                failure: failure(*fatal),
            }
        }
        Happening::Task(task, state, fatal) => {
            let (vertex, subtask) = subtasks[task % subtasks.len()];
            let execution = job.id(vertex, subtask);
            Fact::TaskState(TaskReport {
                execution,
                state: TaskState::ALL[*state],
                failure: Some(failure(*fatal)),
            })
        }
        Happening::StaleTask(task, state) => {
            let Some(execution) = world.seen.get(task % world.seen.len().max(1)) else {
                return;
            };
            Fact::TaskState(TaskReport {
                execution: *execution,
                state: TaskState::ALL[*state],
                failure: None,
            })
        }
        Happening::Garbage(index, generation) => Fact::WorkerFailed {
            task_manager: at(index),
            generation: *generation,
            failure: failure(true),
        },
        Happening::MissingGivenUp => Fact::MissingGivenUp,
        Happening::Report(index, attempt, lives) => {
            // a TaskManager reports when it registers: what it had before was given up
            let has_some = world
                .held
                .iter()
                .any(|(task_manager, _)| *task_manager == at(index));
            if world.workers.contains_key(&at(index)) || has_some {
                return;
            }
            world.held.extend([(at(index), 0), (at(index), 1)]);
            world.workers.insert(at(index), 7);
            let subtask = (*index as u32) % job.graph.job_graph().vertices[0].parallelism;
            let mut reported = report(
                &at(index).0,
                &[0, 1],
                strand(job, subtask, *attempt, TaskState::Running),
            );
            if let Fact::WorkerReported { worker, .. } = &mut reported {
                worker.data_address.take_if(|_| !lives);
            }
            reported
        }
        Happening::Timer(index) => {
            let Some(timer) = world
                .timers
                .iter()
                .nth(index % world.timers.len().max(1))
                .copied()
            else {
                return;
            };
            Fact::TimerElapsed { timer }
        }
        Happening::Fail(fatal) => Fact::JobFailed {
            failure: failure(*fatal),
        },
    };
    let ended = world.ended;
    job.tell(fact);
    for action in &job.actions {
        if let Action::StartWorker { task_manager, .. } = action {
            let left =
                |e: &&Execution| e.state.is_at_worker() && e.task_manager.as_ref() == Some(task_manager);
            assert!(
                !job.graph
                    .executions
                    .iter()
                    .flatten()
                    .any(|execution| left(&execution)),
                "a worker was replaced while it had tasks"
            );
        }
    }
    world.take(job.actions.clone());
    if let Some(status) = ended {
        assert_eq!(job.graph.status(), status, "a terminal state was left");
    }
}

/// What the graph believes that it has is what the world gave it.
fn assert_agreement(job: &Harness, world: &World) {
    let held: BTreeSet<_> = job
        .graph
        .held_slots()
        .into_iter()
        .flat_map(|(task_manager, slots)| slots.into_iter().map(move |slot| (task_manager.clone(), slot)))
        .collect();
    assert_eq!(held, world.held, "slots");
    let workers: BTreeMap<_, _> = job
        .graph
        .workers
        .iter()
        .map(|(at, worker)| (at.clone(), worker.generation))
        .collect();
    assert_eq!(workers, world.workers, "workers");
    let asks_for_none = matches!(
        job.graph.status(),
        JobStatus::Cancelling | JobStatus::Failing | JobStatus::Reconciling
    );
    if !asks_for_none && !job.graph.status().is_terminal() {
        assert!(
            job.graph.missing_slots() <= world.wanted,
            "slots are missing that nobody was asked for"
        );
    }
    for execution in job
        .graph
        .executions
        .iter()
        .flatten()
        .filter(|execution| execution.state.is_at_worker())
    {
        assert!(
            workers.contains_key(execution.task_manager.as_ref().unwrap()),
            "a task without a worker"
        );
    }
}

fn jobs() -> impl Strategy<Value = Harness> {
    let kind = (any::<bool>(), any::<bool>(), any::<bool>(), 1..4u32);
    kind.prop_map(|(taken_over, strands, restarts, parallelism)| {
        let parallelism = parallelism.to_string();
        let strategy = if restarts { "exponential-delay" } else { "none" };
        let configuration = [
            ("parallelism.default", parallelism.as_str()),
            ("restart-strategy.type", strategy),
        ];
        let graph = if strands { two_strands() } else { word_count() };
        if taken_over {
            Harness::reconciling(&graph, &configuration, Reconciliation::default())
        } else {
            Harness::new(&graph, &configuration)
        }
    })
}

impl std::fmt::Debug for Harness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.graph.settings)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn facts_in_any_order_neither_panic_nor_leak_and_what_has_ended_stays_ended(
        mut job in jobs(),
        happenings in prop::collection::vec(happening(), 0..300),
    ) {
        let mut world = World::default();
        world.take(job.actions.clone());
        happen(&mut job, &mut world, &Happening::Start);
        for what in &happenings {
            happen(&mut job, &mut world, what);
            assert_agreement(&job, &world);
        }
        // a job that is canceled, and whose tasks then end, always comes to its end and keeps nothing
        happen(&mut job, &mut world, &Happening::Cancel);
        job.all_tasks(TaskState::Canceled);
        world.take(job.actions.clone());
        prop_assert!(job.graph.status().is_globally_terminal());
        job.graph.placement.iter().for_each(|slot| assert!(slot.is_none()));
        prop_assert!(job.graph.workers.is_empty() && job.graph.timers.is_empty());
    }

    #[test]
    fn a_job_that_is_given_all_that_it_asks_for_runs_however_often_it_failed_before(
        happenings in prop::collection::vec(happening(), 0..200),
    ) {
        let configuration = [("parallelism.default", "2"), ("restart-strategy.type", "exponential-delay")];
        let mut job = Harness::new(&word_count(), &configuration);
        let mut world = World::default();
        happen(&mut job, &mut world, &Happening::Start);
        for what in happenings.iter().filter(|what| !is_final(what)) {
            happen(&mut job, &mut world, what);
        }
        for round in 0..8usize {
            if job.graph.status().is_terminal() {
                break;
            }
            for (vertex, subtask) in job.graph.subtasks() {
                if job.graph.execution((vertex, subtask)).state == TaskState::Canceling {
                    job.task(vertex, subtask, TaskState::Canceled);
                    world.take(job.actions.clone());
                }
            }
            for timer in 0..world.timers.len() {
                let purpose = world.timers.iter().nth(timer).and_then(|timer| job.graph.timers.get(timer));
                if purpose == Some(&TimerPurpose::Restart) {
                    happen(&mut job, &mut world, &Happening::Timer(timer));
                }
            }
            for at in 0..TASK_MANAGERS.len() {
                for slot in 0..SLOTS {
                    happen(&mut job, &mut world, &Happening::Grant(at, slot));
                }
                happen(&mut job, &mut world, &Happening::Ready(at));
            }
            prop_assert!(round < 7 || matches!(job.graph.status(), JobStatus::Running | JobStatus::Finished), "{:?}", job.graph.waiting_for());
        }
    }
}

/// What a job does not come back from.
fn is_final(what: &Happening) -> bool {
    matches!(
        what,
        Happening::Cancel
            | Happening::Fail(true)
            | Happening::WorkerFails(_, true)
            | Happening::Task(_, _, true)
    )
}
