//! The coordinator among modelled tasks and a modelled store: everything under way is delivered in any order, delayed, lost;
//! tasks fail, finish, live on as zombies; the JobManager is killed.
//!
//! ```text
//!   source (2) --hash--> count (2)      a source's state is a list, inline; a count's is a chain of run files
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use thalweg_proto::control::v1::{
    AcknowledgeCheckpoint, DeclineCheckpoint, ExecutionAttempt, TriggerCheckpoint,
};
use thalweg_proto::state::v1::{
    CheckpointMetrics, CheckpointOptions, Distribution, KeyedRun, OperatorList, OperatorSubtaskState,
    SnapshotKind, SnapshotMetadata, StateFile, TaskOperatorSnapshot, TaskRestore, TaskSnapshot,
};
use thalweg_types::config::CheckpointRetention;
use thalweg_types::{Failure, FailureClass, KeyGroupRange};

use super::pending::all_files;
use super::tests::{FOLDER, config, execution, job_graph};
use super::*;
use crate::restore::{absolute_path, assign};

const STEPS: usize = 500;
/// Worlds of each test; more if the environment says so.
const SEEDS: u64 = 300;
/// How many worlds, and from which one on: `THALWEG_SIMULATION_SEEDS=100000 cargo test -p thalweg-checkpoint`.
const SEEDS_VARIABLE: &str = "THALWEG_SIMULATION_SEEDS";
const FIRST_SEED_VARIABLE: &str = "THALWEG_SIMULATION_FIRST_SEED";

/// The seeds of this run.
pub(super) fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse().unwrap());
    let first = number(FIRST_SEED_VARIABLE).unwrap_or(0);
    first..first + number(SEEDS_VARIABLE).unwrap_or(SEEDS)
}

/// Says which one it was when its world fails.
pub(super) struct Seed(pub(super) u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self(seed) = self;
            eprintln!("to see it again: {FIRST_SEED_VARIABLE}={seed} {SEEDS_VARIABLE}=1");
        }
    }
}

/// SplitMix64.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    pub(super) fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }
}

/// Task `t` of the four: 0, 1 are sources, 2, 3 count.
#[derive(Debug, Clone)]
struct Task {
    execution: ExecutionAttempt,
    place: usize,
    /// A source's position, a count's sum.
    value: i64,
    /// What of `value` is in the chain.
    stored: i64,
    chain: Vec<KeyedRun>,
    next_full: bool,
    last_barrier: u64,
    /// Barriers that came, by checkpoint: of which sources, with what options.
    barriers: BTreeMap<u64, (BTreeSet<usize>, CheckpointOptions)>,
    /// Sources that sent their end.
    ended_inputs: BTreeSet<usize>,
    finished: bool,
    terminating: bool,
}

/// On its way.
#[derive(Debug, Clone)]
enum Message {
    Event(Event),
    Trigger(ExecutionAttempt, TriggerCheckpoint),
    Barrier(usize, usize, u32, u64, CheckpointOptions),
    WriteMetadata(u64, String, Option<String>, Arc<SnapshotMetadata>),
    Delete(Action),
}

struct World {
    random: Random,
    coordinator: CheckpointCoordinator,
    setup: CoordinatorSetup,
    now_ms: u64,
    bag: Vec<Message>,
    /// Path -> what of a sum is in it.
    store: BTreeMap<String, i64>,
    tasks: Vec<Task>,
    zombies: Vec<Task>,
    /// What a task acknowledged: (checkpoint, task) -> value.
    acknowledged: BTreeMap<(u64, usize), i64>,
    ended_operations: BTreeMap<String, u32>,
    operations: u32,
    savepoints: BTreeSet<String>,
    fail_job: bool,
    killed: bool,
    completed: u64,
    restored: u64,
    /// What a world without faults would do: see the test of liveness.
    faults: bool,
}

impl World {
    fn new(seed: u64, faults: bool) -> Self {
        let mut random = Random(seed);
        let retentions = [
            CheckpointRetention::None,
            CheckpointRetention::DeleteOnCancellation,
            CheckpointRetention::RetainOnCancellation,
        ];
        let config = CheckpointConfig {
            interval_ms: Some(10),
            max_concurrent: 1 + random.below(3) as u32,
            timeout_ms: if faults { 60 } else { 100_000 },
            tolerable_failures: random.below(4) as u32,
            num_retained: 1 + random.below(3) as u32,
            retention: retentions[random.below(3)],
            ..config()
        };
        let setup = CoordinatorSetup {
            graph: job_graph(2, 2),
            config,
            folder: Some(FOLDER.to_owned()),
            folder_is_ours: true,
            recoverable: true,
            first_checkpoint_id: 1,
            restored: Vec::new(),
            earlier_files: Vec::new(),
            history_size: 10,
            delay_seed: Some(7),
        };
        let mut world = Self {
            random,
            coordinator: CheckpointCoordinator::new(setup.clone()),
            setup,
            now_ms: 0,
            bag: Vec::new(),
            store: BTreeMap::new(),
            tasks: Vec::new(),
            zombies: Vec::new(),
            acknowledged: BTreeMap::new(),
            ended_operations: BTreeMap::new(),
            operations: 0,
            savepoints: BTreeSet::new(),
            fail_job: false,
            killed: false,
            completed: 0,
            restored: 0,
            faults,
        };
        world.deploy(0);
        world
    }

    fn deploy(&mut self, attempt: u32) {
        let assignment = self.coordinator.restore_point().map(|point| {
            let assignment = assign(point.source(), &self.setup.graph, false).unwrap();
            (point.id, assignment)
        });
        self.tasks.clear();
        for place in 0..4 {
            let execution = execution(place / 2, (place % 2) as u32, attempt);
            let mut task = Task {
                place,
                value: 0,
                stored: 0,
                chain: Vec::new(),
                next_full: true,
                last_barrier: 0,
                barriers: BTreeMap::new(),
                ended_inputs: BTreeSet::new(),
                finished: false,
                terminating: false,
                execution,
            };
            if let Some((id, assignment)) = &assignment {
                let key = (task.execution.vertex_id.clone(), task.execution.subtask);
                self.restore(&mut task, *id, &assignment.tasks[&key]);
            }
            self.tasks.push(task.clone());
            self.bag.push(Message::Event(Event::TaskRunning(task.execution)));
        }
        if assignment.is_some() {
            self.restored += 1;
            self.handle(Event::Restored);
        }
    }

    /// The restored state is what was acknowledged.
    fn restore(&mut self, task: &mut Task, id: u64, restore: &TaskRestore) {
        assert_eq!(restore.checkpoint_id, id);
        let operator = &restore.operators[0];
        if task.place < 2 {
            let list = operator.lists.first().and_then(|list| list.list.clone()).unwrap();
            task.value = i64::from_le_bytes(list.file.unwrap().inline.try_into().unwrap());
        } else {
            let runs: Vec<KeyedRun> = operator
                .keyed
                .iter()
                .flat_map(|subtask| subtask.runs.clone())
                .collect();
            task.value = runs.iter().map(|run| self.content(run)).sum();
            task.stored = task.value;
            if operator.own_runs {
                task.chain = runs;
                task.next_full = false;
            }
        }
        assert_eq!(
            Some(&task.value),
            self.acknowledged.get(&(id, task.place)),
            "checkpoint {id}, task {}",
            task.place
        );
    }

    fn content(&self, run: &KeyedRun) -> i64 {
        let path = &run.file.as_ref().unwrap().path;
        *self
            .store
            .get(&absolute_path(FOLDER, path))
            .unwrap_or_else(|| panic!("{path} is gone"))
    }

    fn handle(&mut self, event: Event) {
        let actions = self.coordinator.handle(event, self.now_ms);
        // Complete, and its user's, whether or not the job then stops as asked.
        self.savepoints.extend(
            self.coordinator
                .stopping
                .iter()
                .map(|(.., folder)| folder.clone()),
        );
        for action in actions {
            match action {
                Action::Trigger(trigger) => {
                    for execution in trigger.executions.clone() {
                        self.bag.push(Message::Trigger(execution, trigger.clone()));
                    }
                }
                Action::WriteMetadata {
                    checkpoint_id,
                    folder,
                    pointer,
                    metadata,
                } => {
                    let write = Message::WriteMetadata(checkpoint_id, folder, pointer, metadata);
                    self.bag.push(write);
                }
                Action::Notify(notify) => self.completed += u64::from(notify.completed),
                Action::FailJob(_) => self.fail_job = true,
                Action::OperationEnded {
                    operation_id, result, ..
                } => {
                    *self.ended_operations.entry(operation_id).or_default() += 1;
                    if let Ok(path) = result {
                        assert!(self.store.contains_key(&format!("{path}/_metadata")), "{path}");
                        if path.contains("savepoint-") {
                            self.savepoints.insert(path);
                        }
                    }
                }
                action => self.bag.push(Message::Delete(action)),
            }
        }
    }

    fn deliver(&mut self, message: Message) {
        match message {
            Message::Event(event) => self.handle(event),
            Message::Trigger(execution, trigger) => {
                if let Some(place) = self.tasks.iter().position(|task| task.execution == execution) {
                    self.barrier(place, None, trigger.checkpoint_id, &trigger.options.unwrap());
                }
            }
            Message::Barrier(from, to, attempt, id, options) => {
                if self.tasks[to].execution.attempt == attempt {
                    self.barrier(to, Some(from), id, &options);
                }
            }
            Message::WriteMetadata(checkpoint_id, folder, pointer, metadata) => {
                let fails = self.faults && self.random.one_in(10);
                let result = if fails {
                    Err(Failure::new(FailureClass::Retryable, "storage is away"))
                } else {
                    for file in all_files(&metadata, if metadata.savepoint { &folder } else { FOLDER }) {
                        let given_up = !self.coordinator.pending.contains_key(&checkpoint_id);
                        assert!(
                            given_up || self.store.contains_key(&file),
                            "{file} of {checkpoint_id} is gone"
                        );
                    }
                    self.store.insert(format!("{folder}/_metadata"), 0);
                    self.store.extend(pointer.map(|pointer| (pointer, 0)));
                    Ok(10)
                };
                self.bag.push(Message::Event(Event::MetadataWritten {
                    checkpoint_id,
                    result,
                }));
            }
            Message::Delete(Action::DeleteFiles(files)) => {
                for file in files {
                    self.store.remove(&file);
                }
            }
            Message::Delete(Action::DeleteFolder(folder)) => {
                self.store
                    .retain(|file, _| !file.starts_with(&format!("{folder}/")));
            }
            Message::Delete(Action::Sweep { folder, keep }) => {
                self.store
                    .retain(|file, _| !file.starts_with(&format!("{folder}/")) || keep.contains(file));
            }
            Message::Delete(other) => panic!("{other:?}"),
        }
    }

    /// A barrier reaches a task: from a source, or from the coordinator.
    fn barrier(&mut self, place: usize, from: Option<usize>, id: u64, options: &CheckpointOptions) {
        let task = &mut self.tasks[place];
        if id <= task.last_barrier || task.finished || task.terminating {
            return;
        }
        let (from_sources, _) = task
            .barriers
            .entry(id)
            .or_insert_with(|| (BTreeSet::new(), options.clone()));
        from_sources.extend(from);
        let all: BTreeSet<usize> = from_sources.union(&task.ended_inputs).copied().collect();
        if place >= 2 && from.is_some() && all.len() < 2 {
            return;
        }
        task.barriers.retain(|other, _| *other > id);
        task.last_barrier = id;
        task.terminating = options.terminate;
        self.snapshot(place, id, options);
        if place < 2 {
            let attempt = self.tasks[place].execution.attempt;
            for to in 2..4 {
                self.bag
                    .push(Message::Barrier(place, to, attempt, id, options.clone()));
            }
        }
    }

    fn snapshot(&mut self, place: usize, id: u64, options: &CheckpointOptions) {
        let mut task = self.tasks[place].clone();
        let execution = Some(task.execution.clone());
        if self.faults && self.random.one_in(25) {
            task.next_full = true;
            self.tasks[place] = task;
            let decline = DeclineCheckpoint {
                execution,
                checkpoint_id: id,
                failure: None,
                reason: 0,
            };
            self.bag.push(Message::Event(Event::Decline(decline)));
            return;
        }
        self.acknowledged.entry((id, place)).or_insert(task.value);
        let snapshot = match place {
            0 | 1 => position(place, task.value),
            _ => self.keyed(&mut task, id, options),
        };
        self.tasks[place] = task;
        if self.faults && self.random.one_in(25) {
            return; // lost
        }
        self.bag
            .push(Message::Event(Event::Acknowledge(AcknowledgeCheckpoint {
                execution,
                checkpoint_id: id,
                snapshot: Some(snapshot),
                metrics: Some(CheckpointMetrics::default()),
            })));
    }

    fn keyed(&mut self, task: &mut Task, id: u64, options: &CheckpointOptions) -> TaskSnapshot {
        let full = task.next_full || options.kind() != SnapshotKind::Checkpoint;
        let content = if full {
            task.value
        } else {
            task.value - task.stored
        };
        let savepoint = options.kind() == SnapshotKind::Savepoint;
        let path = self.write(&options.shared_folder, content);
        let path = match savepoint {
            true => path
                .strip_prefix(&format!("{}/", options.exclusive_folder))
                .unwrap()
                .to_owned(),
            false => path.strip_prefix(&format!("{FOLDER}/")).unwrap().to_owned(),
        };
        let run = run_of(task.place, path, id);
        let runs = if savepoint {
            task.next_full = true;
            vec![run]
        } else {
            if full {
                task.chain.clear();
            }
            task.chain.push(run);
            task.next_full = false;
            task.stored = task.value;
            task.chain.clone()
        };
        // Something of this snapshot alone.
        self.write(&options.exclusive_folder, 0);
        operator_snapshot(
            task.place,
            OperatorSubtaskState {
                subtask: task.execution.subtask,
                runs,
                ..OperatorSubtaskState::default()
            },
        )
    }

    fn write(&mut self, folder: &str, content: i64) -> String {
        let path = format!("{folder}/{:016x}", self.random.next());
        self.store.insert(path.clone(), content);
        path
    }

    /// The runs of a chain become one, in the background; a zombie's too.
    fn merge(&mut self, zombie: bool) {
        let count = if zombie {
            self.zombies.len()
        } else {
            self.tasks.len()
        };
        if count == 0 {
            return;
        }
        let place = self.random.below(count);
        let task = if zombie {
            &self.zombies[place]
        } else {
            &self.tasks[place]
        };
        if task.chain.len() < 2 {
            return;
        }
        let runs = task.chain.clone();
        let place_in_job = task.place;
        let known = runs.iter().all(|run| {
            self.store
                .contains_key(&absolute_path(FOLDER, &run.file.as_ref().unwrap().path))
        });
        assert!(known || zombie, "a run of a living task is gone");
        if !known {
            return;
        }
        let content = runs.iter().map(|run| self.content(run)).sum();
        let path = self.write(&format!("{FOLDER}/shared"), content);
        let merged = run_of(
            place_in_job,
            path.strip_prefix(&format!("{FOLDER}/")).unwrap().to_owned(),
            1,
        );
        let task = if zombie {
            &mut self.zombies[place]
        } else {
            &mut self.tasks[place]
        };
        task.chain = vec![merged];
    }

    fn finish_some(&mut self) {
        for place in 0..4 {
            let task = &self.tasks[place];
            let ready = if place < 2 {
                task.terminating || self.random.one_in(400)
            } else {
                (task.terminating || task.ended_inputs.len() == 2)
                    && self.tasks[..2].iter().all(|source| source.finished)
            };
            if task.finished || !ready || !self.random.one_in(3) {
                continue;
            }
            let task = &mut self.tasks[place];
            task.finished = true;
            let (execution, value) = (task.execution.clone(), task.value);
            if place < 2 {
                self.tasks[2].ended_inputs.insert(place);
                self.tasks[3].ended_inputs.insert(place);
            }
            // A count's state is all emitted when it has finished: nothing of it is left.
            let final_snapshot = match place {
                0 | 1 => position(place, value),
                _ => TaskSnapshot::default(),
            };
            self.bag.push(Message::Event(Event::TaskFinished {
                execution,
                final_snapshot,
            }));
        }
        // What a finished task contributes to later checkpoints.
        let next = self.coordinator.next_id;
        for place in 0..4 {
            if self.tasks[place].finished {
                let value = if place < 2 { self.tasks[place].value } else { 0 };
                for id in (next.saturating_sub(70)..next + 70).filter(|id| *id > 0) {
                    self.acknowledged.entry((id, place)).or_insert(value);
                }
            }
        }
    }

    fn restart(&mut self) {
        let executions: Vec<ExecutionAttempt> =
            self.tasks.iter().map(|task| task.execution.clone()).collect();
        let attempt = executions[0].attempt + 1;
        self.handle(Event::TasksStopped {
            executions,
            failure: Failure::new(FailureClass::Retryable, "a task failed"),
        });
        self.await_completion();
        self.fail_job = false;
        self.zombies = std::mem::take(&mut self.tasks);
        self.forget_finished();
        self.deploy(attempt);
    }

    /// Nothing is deployed before it is known from what.
    fn await_completion(&mut self) {
        while self.coordinator.is_completing() {
            let about_metadata = |message: &Message| {
                matches!(
                    message,
                    Message::WriteMetadata(..) | Message::Event(Event::MetadataWritten { .. })
                )
            };
            let place = self.bag.iter().position(about_metadata).unwrap();
            let message = self.bag.swap_remove(place);
            self.deliver(message);
        }
    }

    /// Checkpoints to come are acknowledged by the new attempts.
    fn forget_finished(&mut self) {
        let next = self.coordinator.next_id;
        self.acknowledged.retain(|(id, _), _| *id < next);
    }

    /// Another JobManager goes on with what the job's log says is retained; the tasks start anew.
    fn kill_job_manager(&mut self) {
        self.killed = true;
        let attempt = self.tasks[0].execution.attempt + 1;
        let restored = self.coordinator.completed.iter().map(|checkpoint| RestoredFrom {
            metadata: checkpoint.metadata.clone(),
            folder: checkpoint.folder.clone(),
            base: checkpoint.base.clone(),
            owned: true,
        });
        self.setup.restored = restored.collect();
        self.setup.first_checkpoint_id = self.coordinator.next_id;
        self.coordinator = CheckpointCoordinator::new(self.setup.clone());
        // What the old one had sent out is lost or done; storage's answers reach nobody.
        let bag = std::mem::take(&mut self.bag);
        let keep = |message: &Message| matches!(message, Message::Delete(_));
        self.bag = bag.into_iter().filter(keep).collect();
        self.zombies = std::mem::take(&mut self.tasks);
        self.forget_finished();
        for operation in 0..self.operations {
            self.ended_operations.insert(format!("operation-{operation}"), 1);
        }
        self.deploy(attempt);
    }

    fn request(&mut self) {
        let operation_id = format!("operation-{}", self.operations);
        self.operations += 1;
        let target = match self.random.below(8) {
            0 | 1 => SnapshotTarget::Checkpoint {
                full: self.random.one_in(2),
            },
            2 if self.random.one_in(4) => savepoint(true, self.random.next()),
            _ => savepoint(false, self.random.next()),
        };
        let request = SnapshotRequest { operation_id, target };
        self.bag.push(Message::Event(Event::Trigger(request.clone())));
        if self.random.one_in(3) {
            self.bag.push(Message::Event(Event::Trigger(request)));
        }
    }

    fn step(&mut self) {
        self.now_ms += self.random.below(3) as u64;
        for task in &mut self.tasks {
            if !task.finished && !task.terminating {
                task.value += 1;
            }
        }
        match self.random.below(10) {
            0..=6 if !self.bag.is_empty() => {
                let place = self.random.below(self.bag.len());
                let message = self.bag.swap_remove(place);
                if self.faults
                    && matches!(&message, Message::Event(Event::Acknowledge(_)))
                    && self.random.one_in(20)
                {
                    self.bag.push(message.clone()); // delivered twice
                }
                self.deliver(message);
            }
            7 => self.handle(Event::Tick),
            8 => self.merge(false),
            9 => self.merge(self.faults),
            _ => {}
        }
        self.finish_some();
        if self.random.one_in(25) {
            self.request();
        }
        if self.fail_job || self.faults && self.random.one_in(120) {
            self.restart();
        }
        if self.faults && self.random.one_in(400) {
            self.kill_job_manager();
        }
        self.check();
    }

    fn check(&self) {
        for checkpoint in self.coordinator.retained() {
            assert!(
                self.store
                    .contains_key(&format!("{}/_metadata", checkpoint.folder)),
                "{}",
                checkpoint.folder
            );
            for file in all_files(&checkpoint.metadata, &checkpoint.base) {
                assert!(
                    self.store.contains_key(&file),
                    "{file} of checkpoint {} is gone",
                    checkpoint.id
                );
            }
        }
        for run in self.tasks.iter().flat_map(|task| &task.chain) {
            self.content(run);
        }
        assert!(
            self.ended_operations.values().all(|times| *times == 1),
            "{:?}",
            self.ended_operations
        );
        if let Some(deadline) = self.coordinator.next_deadline() {
            let due = self.coordinator.waiting.is_empty();
            assert!(deadline > self.now_ms || due || self.coordinator.now_ms < self.now_ms);
        }
    }

    fn done(&self) -> bool {
        self.tasks.iter().all(|task| task.finished) && !self.fail_job
    }

    /// The job ends, everything under way arrives, and nothing but what shall stay is left.
    fn end(&mut self) {
        let end = match (self.done(), self.random.below(2)) {
            (true, _) => JobEnd::Finished,
            (false, 0) => JobEnd::Canceled,
            _ => JobEnd::Failed,
        };
        if end == JobEnd::Finished {
            // The JobMaster has heard of all tasks then.
            let finished = |message: &Message| matches!(message, Message::Event(Event::TaskFinished { .. }));
            while let Some(place) = self.bag.iter().position(finished) {
                let message = self.bag.swap_remove(place);
                self.deliver(message);
            }
        }
        self.tasks.clear();
        self.zombies.clear();
        self.handle(Event::JobEnded(end));
        while !self.bag.is_empty() {
            let place = self.random.below(self.bag.len());
            let message = self.bag.swap_remove(place);
            if !matches!(message, Message::Trigger(..) | Message::Barrier(..)) {
                self.deliver(message);
            }
        }
        assert_eq!(self.coordinator.next_deadline(), None);
        for operation in 0..self.operations {
            let id = format!("operation-{operation}");
            assert_eq!(self.ended_operations.get(&id), Some(&1), "{id}");
        }
        let mut expected = BTreeSet::new();
        for checkpoint in self.coordinator.retained() {
            expected.extend(all_files(&checkpoint.metadata, &checkpoint.base));
            expected.insert(format!("{}/_metadata", checkpoint.folder));
        }
        expected.extend(self.coordinator.pointer.clone());
        let left: Vec<&String> = self
            .store
            .keys()
            .filter(|file| {
                !self
                    .savepoints
                    .iter()
                    .any(|savepoint| file.starts_with(savepoint.as_str()))
            })
            // A savepoint that a killed JobManager had begun is known to nobody.
            .filter(|file| !(self.killed && file.contains("savepoint-")))
            .collect();
        assert_eq!(left, expected.iter().collect::<Vec<_>>());
        let kept = self.setup.config.retention;
        let none = end == JobEnd::Finished || kept == CheckpointRetention::None;
        let pointers = usize::from(self.coordinator.pointer.is_some());
        assert!(!none || expected.len() == pointers);
    }
}

fn position(place: usize, value: i64) -> TaskSnapshot {
    let list = OperatorList {
        name: "SourceReaderState".to_owned(),
        distribution: Distribution::Split.into(),
        items: 1,
        file: Some(StateFile {
            inline: value.to_le_bytes().to_vec(),
            size: 8,
            ..StateFile::default()
        }),
    };
    operator_snapshot(
        place,
        OperatorSubtaskState {
            lists: vec![list],
            ..OperatorSubtaskState::default()
        },
    )
}

fn operator_snapshot(place: usize, state: OperatorSubtaskState) -> TaskSnapshot {
    TaskSnapshot {
        operators: vec![TaskOperatorSnapshot {
            operator_id: execution(place / 2, 0, 0).vertex_id,
            state: Some(state),
            tables: Vec::new(),
        }],
    }
}

fn run_of(place: usize, path: String, checkpoint_id: u64) -> KeyedRun {
    let range = KeyGroupRange::of_subtask((place % 2) as u32, 2, 128);
    KeyedRun {
        file: Some(StateFile {
            path,
            size: 1,
            ..StateFile::default()
        }),
        first_key_group: range.start,
        last_key_group: range.end,
        checkpoint_id,
        rows: 1,
    }
}

fn savepoint(stop: bool, random: u64) -> SnapshotTarget {
    SnapshotTarget::Savepoint {
        directory: Some("s3://bucket/savepoints".to_owned()),
        stop,
        drain: false,
        random,
    }
}

#[test]
fn whatever_fails_retained_state_stays_restores_are_exact_and_nothing_is_left_over() {
    let (mut completed, mut restored) = (0, 0);
    let seeds = seeds();
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let _seed = Seed(seed);
        let mut world = World::new(seed, true);
        for _ in 0..STEPS {
            if world.done() {
                break;
            }
            world.step();
        }
        world.end();
        completed += world.completed;
        restored += world.restored;
    }
    // That it was tested at all.
    assert!(
        count < SEEDS || completed > 3 * count && restored > count,
        "{completed} completed, {restored} restored"
    );
}

#[test]
fn without_faults_checkpoints_complete_and_every_operation_succeeds_or_is_refused() {
    let mut completed = 0;
    let mut seeds = seeds();
    seeds.end = seeds.start + (seeds.end - seeds.start).div_ceil(3);
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let _seed = Seed(seed);
        let mut world = World::new(seed, false);
        for _ in 0..STEPS {
            if world.done() {
                break;
            }
            world.step();
        }
        let failed = world.coordinator.stats().counts().failed;
        let harmless = world.coordinator.stats().latest_failed().is_none_or(|record| {
            record.failure.contains("finished before") || record.failure.contains("completed before it")
        });
        assert!(
            harmless,
            "{failed}: {:?}",
            world.coordinator.stats().latest_failed()
        );
        world.end();
        completed += world.completed;
    }
    assert!(count < SEEDS / 3 || completed > 3 * count, "{completed}");
}
