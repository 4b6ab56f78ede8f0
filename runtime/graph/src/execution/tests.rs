use thalweg_proto::control::v1 as control;
use thalweg_proto::graph::v1::{Partitioner, StreamGraph};
use thalweg_types::FailureClass;

use super::*;
use crate::job_graph;
use crate::test_graphs::{GraphBuilder, word_count};

mod failover;
mod random_order;
mod reconciliation;

const JOB: JobId = JobId([7; 16]);

/// A job and the actions of the last fact.
struct Harness {
    graph: ExecutionGraph,
    now_ms: u64,
    actions: Vec<Action>,
}

fn tm(name: &str) -> TaskManagerId {
    TaskManagerId(name.to_owned())
}

fn retryable(message: &str) -> Failure {
    Failure::new(FailureClass::Retryable, message)
}

fn job_of(graph: &StreamGraph, configuration: &[(&str, &str)]) -> JobGraph {
    let entries = configuration
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    job_graph(graph, JOB, &Configuration::from_map(entries)).unwrap()
}

const FIXED_DELAY: [(&str, &str); 4] = [
    ("parallelism.default", "2"),
    ("restart-strategy.type", "fixed-delay"),
    ("restart-strategy.fixed-delay.attempts", "2"),
    ("restart-strategy.fixed-delay.delay", "1 s"),
];

impl Harness {
    fn new(graph: &StreamGraph, configuration: &[(&str, &str)]) -> Self {
        Self {
            graph: ExecutionGraph::new(job_of(graph, configuration), 100).unwrap(),
            now_ms: 100,
            actions: Vec::new(),
        }
    }

    /// A job that runs already, under an earlier leader.
    fn reconciling(graph: &StreamGraph, configuration: &[(&str, &str)], known: Reconciliation) -> Self {
        let (graph, actions) = ExecutionGraph::reconciling(job_of(graph, configuration), known, 100).unwrap();
        Self {
            graph,
            now_ms: 100,
            actions,
        }
    }

    /// Word count with parallelism 2 that restarts twice.
    fn restarting() -> Self {
        Self::new(&word_count(), &FIXED_DELAY)
    }

    fn tell(&mut self, fact: Fact) -> &mut Self {
        self.now_ms += 1;
        self.actions = self.graph.apply(fact, self.now_ms, 0.5);
        self
    }

    fn start(&mut self) -> &mut Self {
        self.tell(Fact::Start)
    }

    fn grant(&mut self, at: &str, slots: &[u32]) -> &mut Self {
        self.tell(Fact::SlotsGranted {
            slots: BTreeMap::from([(tm(at), slots.to_vec())]),
        })
    }

    fn generation(&self, at: &str) -> u64 {
        self.graph.workers[&tm(at)].generation
    }

    fn ready(&mut self, at: &str) -> &mut Self {
        let (generation, data_address) = (self.generation(at), format!("{at}:1"));
        self.tell(Fact::WorkerReady {
            task_manager: tm(at),
            generation,
            data_address,
        })
    }

    fn id(&self, vertex: usize, subtask: u32) -> ExecutionId {
        self.graph.id_of((vertex, subtask))
    }

    fn task(&mut self, vertex: usize, subtask: u32, state: TaskState) -> &mut Self {
        let execution = self.id(vertex, subtask);
        let failure = (state == TaskState::Failed).then(|| retryable("broken"));
        self.tell(Fact::TaskState(TaskReport {
            execution,
            state,
            failure,
        }))
    }

    /// Every task that a worker has says this; the actions are those of all.
    fn all_tasks(&mut self, state: TaskState) -> &mut Self {
        let at_workers = |subtask: &Subtask| self.graph.execution(*subtask).state.is_at_worker();
        let subtasks: Vec<Subtask> = self.graph.subtasks().into_iter().filter(at_workers).collect();
        let mut actions = Vec::new();
        for (vertex, subtask) in subtasks {
            actions.append(&mut self.task(vertex, subtask, state).actions);
        }
        self.actions = actions;
        self
    }

    /// Two TaskManagers with a slot each, all tasks running.
    fn running(&mut self) -> &mut Self {
        self.start()
            .grant("a", &[0])
            .grant("b", &[0])
            .ready("a")
            .ready("b")
            .all_tasks(TaskState::Running)
    }

    fn timer(&self) -> TimerId {
        self.actions
            .iter()
            .find_map(|action| match action {
                Action::SetTimer { timer, .. } => Some(*timer),
                _ => None,
            })
            .unwrap()
    }

    fn states(&self) -> Vec<TaskState> {
        self.graph
            .executions
            .iter()
            .flatten()
            .map(|execution| execution.state)
            .collect()
    }

    fn status_changes(&self) -> Vec<JobStatus> {
        self.actions
            .iter()
            .filter_map(|action| match action {
                Action::StatusChanged { to, .. } => Some(*to),
                _ => None,
            })
            .collect()
    }

    fn deployed(&self) -> Vec<(String, &control::TaskDeployment)> {
        let mut deployed = Vec::new();
        for action in &self.actions {
            if let Action::Deploy { task_manager, tasks } = action {
                deployed.extend(tasks.iter().map(|task| (task_manager.0.clone(), task)));
            }
        }
        deployed
    }
}

/// Two strands that nothing joins: two regions.
fn two_strands() -> StreamGraph {
    let mut builder = GraphBuilder::new();
    let source = builder.source("s");
    builder.sink("k", &[(source, 0, Partitioner::Rescale)]);
    builder.build()
}

/// When what a worker reports was deployed.
const DEPLOYED_MS: u64 = 3;

/// Of a worker with a task in each state, all in its first slot.
fn report(at: &str, slots: &[u32], tasks: Vec<TaskReport>) -> Fact {
    let in_slot = |report| ReportedTask {
        report,
        slot: slots[0],
        checkpoint: 0,
        deployed_ms: DEPLOYED_MS,
    };
    Fact::WorkerReported {
        task_manager: tm(at),
        worker: ReportedWorker {
            generation: 7,
            slots: slots.to_vec(),
            data_address: Some(format!("{at}:1")),
            tasks: tasks.into_iter().map(in_slot).collect(),
        },
    }
}

/// What is done about a worker of which nothing can be used.
fn sent_away(at: &str, slots: &[u32]) -> Vec<Action> {
    vec![
        Action::StopWorker {
            task_manager: tm(at),
            generation: u64::MAX,
        },
        Action::ReleaseSlots {
            task_manager: tm(at),
            slots: slots.to_vec(),
        },
    ]
}

/// What a worker that has subtask `subtask` of both vertices says.
fn strand(job: &Harness, subtask: u32, attempt: u32, state: TaskState) -> Vec<TaskReport> {
    let of = |vertex| TaskReport {
        execution: ExecutionId {
            attempt,
            ..job.id(vertex, subtask)
        },
        state,
        failure: None,
    };
    vec![of(0), of(1)]
}

#[test]
fn a_started_job_declares_its_slots_and_waits_for_them() {
    let mut job = Harness::restarting();
    assert_eq!(job.graph.status(), JobStatus::Created);
    job.start();
    assert_eq!(job.actions[0], Action::DeclareSlots { required: 2, held: 0 });
    assert_eq!(job.graph.waiting_for().as_deref(), Some("2 of 2 slots"));
    job.grant("a", &[3]);
    assert_eq!(job.actions, []);
    assert_eq!(job.graph.waiting_for().as_deref(), Some("1 of 2 slots"));
    assert_eq!(job.states(), [TaskState::Scheduled; 4]);
}

#[test]
fn when_all_slots_are_held_a_worker_is_started_on_each_task_manager() {
    let mut job = Harness::restarting();
    job.start().grant("a", &[3]).grant("b", &[0]);
    let started: Vec<_> = job
        .actions
        .iter()
        .map(|action| match action {
            Action::StartWorker {
                task_manager, slots, ..
            } => (task_manager.0.as_str(), slots.clone()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(started, [("a", vec![3]), ("b", vec![0])]);
    job.ready("b");
    assert_eq!(job.actions, []);
    assert_eq!(
        job.graph.waiting_for().as_deref(),
        Some("1 of 2 workers to start")
    );
}

#[test]
fn when_all_workers_are_ready_tasks_are_deployed_and_the_job_runs() {
    let mut job = Harness::restarting();
    job.start()
        .grant("a", &[3])
        .grant("b", &[0])
        .ready("a")
        .ready("b");
    assert_eq!(job.status_changes(), [JobStatus::Running]);
    assert_eq!(job.states(), [TaskState::Deploying; 4]);
    let deployed = job.deployed();
    let places: Vec<_> = deployed
        .iter()
        .map(|(at, task)| {
            let execution = task.execution.as_ref().unwrap();
            (
                at.as_str(),
                task.slot,
                task.vertex.as_ref().unwrap().name.as_str(),
                execution.subtask,
                execution.attempt,
            )
        })
        .collect();
    assert_eq!(
        places,
        [
            ("a", 3, "Source: lines -> Flat Map", 0, 0),
            ("a", 3, "Sum -> Sink: out", 0, 0),
            ("b", 0, "Source: lines -> Flat Map", 1, 0),
            ("b", 0, "Sum -> Sink: out", 1, 0),
        ]
    );
    job.all_tasks(TaskState::Initializing)
        .all_tasks(TaskState::Running);
    assert_eq!(job.states(), [TaskState::Running; 4]);
    assert_eq!(job.graph.waiting_for(), None);
}

#[test]
fn a_deployment_tells_the_worker_when_it_was_deployed_as_the_leader_has_it() {
    let mut job = Harness::restarting();
    job.start().grant("a", &[0, 1]).ready("a");
    let began = job.graph.execution((0, 0)).timestamps.of(TaskState::Deploying);
    assert!(began.is_some());
    assert!(
        job.deployed()
            .iter()
            .all(|(_, task)| Some(task.deployed_ms) == began)
    );
}

#[test]
fn a_deployment_names_every_channel_with_its_producers_address() {
    let mut job = Harness::restarting();
    job.start()
        .grant("a", &[0])
        .grant("b", &[0])
        .ready("a")
        .ready("b");
    let deployed = job.deployed();
    let (_, sum) = &deployed[3];
    let channels: Vec<_> = sum.inputs[0]
        .channels
        .iter()
        .map(|channel| {
            (
                channel.producer.as_ref().unwrap().subtask,
                channel.subpartition,
                channel.data_address.as_str(),
            )
        })
        .collect();
    assert_eq!(channels, [(0, 1, "a:1"), (1, 1, "b:1")]);
    let (_, source) = &deployed[0];
    assert!(source.inputs.is_empty());
    assert_eq!(source.outputs[0].consumers, [0, 1]);
    assert_eq!(
        (
            source.outputs[0].consumer_parallelism,
            source.outputs[0].consumer_max_parallelism
        ),
        (2, 128)
    );
    assert_eq!(source.outputs[0].edge, sum.inputs[0].edge);
}

#[test]
fn slots_beyond_what_is_needed_are_released_at_once() {
    let mut job = Harness::restarting();
    job.start().grant("a", &[0, 1, 2]);
    assert_eq!(
        job.actions[0],
        Action::ReleaseSlots {
            task_manager: tm("a"),
            slots: vec![2]
        }
    );
    assert_eq!(job.graph.held_slots(), BTreeMap::from([(tm("a"), vec![0, 1])]));
}

#[test]
fn a_job_whose_tasks_all_finish_is_finished_and_gives_everything_back() {
    let mut job = Harness::restarting();
    job.running().all_tasks(TaskState::Finished);
    assert_eq!(job.status_changes(), [JobStatus::Finished]);
    assert!(matches!(job.actions[0], Action::StopWorker { .. }));
    assert!(job.actions.contains(&Action::ReleaseSlots {
        task_manager: tm("b"),
        slots: vec![0]
    }));
    assert!(matches!(
        job.actions.last(),
        Some(Action::StatusChanged {
            to: JobStatus::Finished,
            ..
        })
    ));
    assert_eq!(job.graph.slots_held(), 0);
}
