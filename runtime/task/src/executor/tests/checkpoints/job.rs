//! A job in one process with its coordinator played by the test, its checkpoints in a folder.

use std::collections::HashMap;
use std::path::PathBuf;

use tempfile::TempDir;
use thalweg_proto::control::v1::CheckpointFailureReason;
use thalweg_proto::graph::v1::{JobVertex, Partitioner};
use thalweg_proto::state::v1::{
    CheckpointMetrics, CheckpointOptions, ListRestore, OperatorRestore, OperatorSubtaskState, SnapshotKind,
    StateFile, SubtaskRuns, TaskRestore,
};
use thalweg_state::SnapshotStore;
use thalweg_storage::FileSystems;
use thalweg_types::KeyGroupRange;
use thalweg_types::config::Configuration;

use super::*;
use crate::plan::execution_id;
use crate::program::NodeFactory;

pub(super) struct Job {
    pub(super) process: Process,
    pub(super) options: CheckpointOptions,
    pub(super) folder: TempDir,
    /// Where the checkpoints' folders are.
    root: PathBuf,
    vertices: Vec<JobVertex>,
    tasks: Vec<control::TaskDeployment>,
    /// Those that a checkpoint begins at.
    sources: Vec<control::ExecutionAttempt>,
    attempts: u32,
}

impl Job {
    /// One task.
    pub(super) fn single(nodes: Vec<(u32, NodeFactory)>, chain: &[u32]) -> Self {
        let vertex = vertex(chain, 1);
        let process = Process::start(program(nodes, &[]));
        Self::new(process, vec![vertex.clone()], vec![deployment(&vertex, 0)])
    }

    /// Source (node 1) ==by value==> operator (2) -> sink (3).
    pub(super) fn keyed(
        source: ScriptedSource,
        operator: NodeFactory,
        sink: &CollectSink,
        sources: u32,
        consumers: u32,
    ) -> Self {
        let program = program(vec![(1, source.node()), (2, operator), (3, sink.node())], &[1]);
        let (from, to) = (vertex(&[1], sources), vertex(&[2, 3], consumers));
        let process = Process::start(program);
        let mut producers: Vec<_> = (0..sources).map(|subtask| deployment(&from, subtask)).collect();
        let mut readers: Vec<_> = (0..consumers).map(|subtask| deployment(&to, subtask)).collect();
        let address = process.address.clone();
        connect(
            &edge(1, 1, 2, 0, Partitioner::Hash),
            (&from, &mut producers),
            (&to, &mut readers),
            |_| address.clone(),
        );
        let tasks = readers.into_iter().chain(producers).collect();
        Self::new(process, vec![from, to], tasks)
    }

    /// Source (node 1) ==> two operators (2, 3) ==> sink (4), one subtask each.
    pub(super) fn in_three_steps(
        source: ScriptedSource,
        operators: [NodeFactory; 2],
        sink: &CollectSink,
    ) -> Self {
        Self::in_three_steps_from(source, 1, operators, sink)
    }

    /// The same with several subtasks of the source.
    pub(super) fn in_three_steps_from(
        source: ScriptedSource,
        sources: u32,
        operators: [NodeFactory; 2],
        sink: &CollectSink,
    ) -> Self {
        let [first, second] = operators;
        let nodes = vec![(1, source.node()), (2, first), (3, second), (4, sink.node())];
        let process = Process::start(program(nodes, &[]));
        let vertices = [vertex(&[1], sources), vertex(&[2, 3], 1), vertex(&[4], 1)];
        let mut tasks = vertices.each_ref().map(|vertex| {
            let subtasks = 0..vertex.parallelism;
            subtasks
                .map(|subtask| deployment(vertex, subtask))
                .collect::<Vec<_>>()
        });
        let [from, middle, to] = &mut tasks;
        let address = process.address.clone();
        let partitioner = Partitioner::Rebalance;
        connect(
            &edge(1, 1, 2, 0, partitioner),
            (&vertices[0], from),
            (&vertices[1], middle),
            |_| address.clone(),
        );
        connect(
            &edge(2, 3, 4, 0, partitioner),
            (&vertices[1], middle),
            (&vertices[2], to),
            |_| address.clone(),
        );
        let tasks = tasks.into_iter().rev().flatten().collect();
        Self::new(process, vertices.to_vec(), tasks)
    }

    fn new(process: Process, vertices: Vec<JobVertex>, mut tasks: Vec<control::TaskDeployment>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for task in &mut tasks {
            let interval = ("execution.checkpointing.interval".to_owned(), "1 h".to_owned());
            task.configuration.extend([interval]);
        }
        Self {
            process,
            options: options_in(folder.path()),
            root: folder.path().to_owned(),
            folder,
            vertices,
            sources: sources(&tasks),
            tasks,
            attempts: 0,
        }
    }

    /// Its checkpoints are in a folder of its own, as a JobManager would have it, and its configuration wants local copies.
    pub(super) fn want_local_copies(&mut self) {
        let execution = self.tasks[0].execution.as_ref().unwrap();
        self.root = self.folder.path().join(&execution.job_id);
        self.options = options_in(&self.root);
        let directory = format!("file://{}", self.folder.path().display());
        for task in &mut self.tasks {
            let entries = [
                ("execution.checkpointing.dir", directory.as_str()),
                ("execution.state-recovery.from-local", "true"),
            ];
            let entries = entries.map(|(key, value)| (key.to_owned(), value.to_owned()));
            task.configuration.extend(entries);
        }
    }

    /// The files of its checkpoints are no more.
    pub(super) fn lose_checkpoints(&self) {
        std::fs::remove_dir_all(&self.root).unwrap();
    }

    /// Sets an option of the job.
    pub(super) fn configure(&mut self, key: &str, value: &str) {
        let entry = (key.to_owned(), value.to_owned());
        for task in &mut self.tasks {
            task.configuration.extend([entry.clone()]);
        }
    }

    pub(super) fn sources(&self) -> Vec<control::ExecutionAttempt> {
        self.sources.clone()
    }

    /// Those that read channels.
    pub(super) fn consumers(&self) -> Vec<control::ExecutionAttempt> {
        let attempts = self.attempts();
        let consumers = attempts
            .into_iter()
            .filter(|attempt| !self.sources.contains(attempt));
        consumers.collect()
    }

    fn attempts(&self) -> Vec<control::ExecutionAttempt> {
        let tasks = self.tasks.iter();
        tasks.filter_map(|task| task.execution.clone()).collect()
    }

    /// Starts all tasks, as a new attempt, and waits until they run.
    pub(super) fn deploy(&mut self, restores: Option<&[TaskRestore]>) {
        self.start(restores);
        let count = self.tasks.len();
        let attempts = self.attempts();
        while self.count_of(&attempts, TaskState::Running) < count {
            self.process.take_report();
        }
    }

    /// Starts all tasks, as a new attempt.
    pub(super) fn start(&mut self, restores: Option<&[TaskRestore]>) {
        for task in &mut self.tasks {
            let channels = task.inputs.iter_mut().flat_map(|input| &mut input.channels);
            let producers = channels.filter_map(|channel| channel.producer.as_mut());
            producers
                .chain(task.execution.as_mut())
                .for_each(|execution| execution.attempt = self.attempts);
        }
        for (place, task) in self.tasks.iter_mut().enumerate() {
            task.restore = restores.map(|restores| restores[place].clone());
        }
        self.attempts += 1;
        self.sources = sources(&self.tasks);
        self.process.deploy(&self.tasks);
    }

    fn count_of(&self, attempts: &[control::ExecutionAttempt], state: TaskState) -> usize {
        let of = |report: &&TaskReport| {
            report.update.state() == state && attempts.contains(report.update.execution.as_ref().unwrap())
        };
        self.process.seen.iter().filter(of).count()
    }

    /// Cancels what runs and waits for it.
    pub(super) fn cancel(&mut self) {
        self.process.executor.cancel_all();
        let attempts = self.attempts();
        let ends = |job: &Self| {
            [TaskState::Canceled, TaskState::Finished, TaskState::Failed]
                .map(|state| job.count_of(&attempts, state))
                .iter()
                .sum::<usize>()
        };
        while ends(self) < attempts.len() {
            self.process.take_report();
        }
    }

    pub(super) fn trigger_at(&self, id: u64, executions: &[control::ExecutionAttempt]) {
        let mut options = self.options.clone();
        options.exclusive_folder = format!("{}/chk-{id}", options.exclusive_folder);
        let trigger = control::TriggerCheckpoint {
            executions: executions.to_vec(),
            checkpoint_id: id,
            timestamp_ms: 1,
            options: Some(options),
        };
        for execution in executions {
            // One that has just ended needs none.
            let _ = self
                .process
                .executor
                .trigger(&execution_id(execution).unwrap(), &trigger);
        }
    }

    /// Waits until so many tasks have acknowledged or declined.
    pub(super) fn await_answers(&mut self, id: u64, count: usize) {
        while self.acks(id).len() + self.declined(id).len() < count {
            self.process.take_report();
        }
    }

    /// A checkpoint of all tasks; it completes.
    pub(super) fn checkpoint(&mut self, id: u64) {
        self.trigger_at(id, &self.sources);
        self.await_answers(id, self.tasks.len());
        assert_eq!(self.declined(id), [] as [String; 0]);
    }

    pub(super) fn notify(&self, id: u64, completed: bool) {
        self.notify_at(id, completed, &self.attempts());
    }

    pub(super) fn notify_at(&self, id: u64, completed: bool, executions: &[control::ExecutionAttempt]) {
        for attempt in executions {
            self.process
                .executor
                .notify(&execution_id(attempt).unwrap(), id, completed);
        }
    }

    /// Completes checkpoints of the tasks that run until all have finished.
    pub(super) fn finish_with_checkpoints(&mut self, first: u64) {
        let attempts = self.attempts();
        let mut id = first;
        while self.count_of(&attempts, TaskState::Finished) < attempts.len() {
            // As the coordinator does: where no input is open any more, the tasks behind get the trigger.
            let finished = |attempt: &control::ExecutionAttempt, job: &Self| {
                job.count_of(std::slice::from_ref(attempt), TaskState::Finished) > 0
            };
            let running: Vec<_> = attempts
                .iter()
                .filter(|attempt| !finished(attempt, self))
                .cloned()
                .collect();
            let running_sources: Vec<_> = running
                .iter()
                .filter(|a| self.sources.contains(a))
                .cloned()
                .collect();
            let begin = if running_sources.is_empty() {
                &running
            } else {
                &running_sources
            };
            self.trigger_at(id, begin);
            let answered = |job: &Self, attempt: &control::ExecutionAttempt| {
                finished(attempt, job)
                    || job
                        .acks(id)
                        .iter()
                        .any(|ack| ack.execution.as_ref() == Some(attempt))
            };
            while !running.iter().all(|attempt| answered(self, attempt)) {
                self.process.take_report();
                if self.only_sources_ended(&running, &running_sources) {
                    break;
                }
            }
            let acked = running.iter().all(|attempt| answered(self, attempt));
            self.notify(id, acked);
            id += 1;
            if acked && begin.len() == running.len() {
                while self.count_of(&attempts, TaskState::Finished) < attempts.len() {
                    self.process.take_report();
                }
            }
        }
    }

    /// The sources that were to begin a checkpoint ended first: it will not come.
    fn only_sources_ended(
        &self,
        running: &[control::ExecutionAttempt],
        sources: &[control::ExecutionAttempt],
    ) -> bool {
        let finished = self.count_of(sources, TaskState::Finished);
        !sources.is_empty() && finished == sources.len() && running.len() > sources.len()
    }

    fn acks(&self, id: u64) -> Vec<&control::AcknowledgeCheckpoint> {
        let attempts = self.attempts();
        let acknowledged = self.process.acknowledged.iter();
        acknowledged
            .filter(|ack| ack.checkpoint_id == id && attempts.contains(ack.execution.as_ref().unwrap()))
            .collect()
    }

    pub(super) fn declined(&self, id: u64) -> Vec<String> {
        let of = self
            .process
            .declined
            .iter()
            .filter(|decline| decline.checkpoint_id == id);
        of.map(|decline| decline.failure.clone().unwrap().message)
            .collect()
    }

    /// Why tasks have no part of it.
    pub(super) fn reasons(&self, id: u64) -> Vec<CheckpointFailureReason> {
        let declined = self.process.declined.iter();
        let of = declined.filter(|decline| decline.checkpoint_id == id);
        of.map(control::DeclineCheckpoint::reason).collect()
    }

    pub(super) fn metrics(&self, id: u64) -> Vec<CheckpointMetrics> {
        self.acks(id).iter().filter_map(|ack| ack.metrics).collect()
    }

    /// The states that the subtasks of a node acknowledged, by subtask.
    pub(super) fn operator_states(&self, id: u64, node: u32) -> Vec<OperatorSubtaskState> {
        let operator_id = crate::testkit::node(node).operator_id;
        let snapshots = self.acks(id).into_iter().filter_map(|ack| ack.snapshot.as_ref());
        let mut states: Vec<_> = snapshots
            .flat_map(|snapshot| &snapshot.operators)
            .filter(|operator| operator.operator_id == operator_id)
            .filter_map(|operator| operator.state.clone())
            .collect();
        states.sort_by_key(|state| state.subtask);
        states
    }

    /// What each subtask is to be restored with.
    pub(super) fn restore(&self, id: u64) -> Vec<TaskRestore> {
        let restore = |task: &control::TaskDeployment| {
            let (vertex, execution) = (task.vertex.as_ref().unwrap(), task.execution.as_ref().unwrap());
            let operators = vertex
                .chain
                .iter()
                .map(|node| self.operator_restore(id, node.id, execution.subtask));
            TaskRestore {
                checkpoint_id: id,
                operators: operators.collect(),
            }
        };
        self.tasks.iter().map(restore).collect()
    }

    fn operator_restore(&self, id: u64, node: u32, subtask: u32) -> OperatorRestore {
        let states = self.operator_states(id, node);
        let own = states.iter().find(|state| state.subtask == subtask);
        let mut keyed = Vec::new();
        for state in own.into_iter().filter(|state| !state.runs.is_empty()) {
            let mut runs = state.runs.clone();
            runs.iter_mut()
                .filter_map(|run| run.file.as_mut())
                .for_each(|file| self.make_absolute(id, file));
            keyed.push(SubtaskRuns { runs });
        }
        let mut lists = Vec::new();
        for state in &states {
            for list in &state.lists {
                let everybody = list.distribution == 2;
                if !everybody && state.subtask != subtask {
                    continue;
                }
                let mut list = list.clone();
                list.file.iter_mut().for_each(|file| self.make_absolute(id, file));
                lists.push(ListRestore {
                    first: 0,
                    count: list.items,
                    list: Some(list),
                });
            }
        }
        let mut channels = own.map(|state| state.channels.clone()).unwrap_or_default();
        channels
            .iter_mut()
            .filter_map(|channel| channel.file.as_mut())
            .for_each(|file| self.make_absolute(id, file));
        OperatorRestore {
            operator_id: crate::testkit::node(node).operator_id,
            keyed,
            lists,
            channels,
            own_runs: true,
        }
    }

    /// A savepoint's files are relative to its own folder.
    fn make_absolute(&self, id: u64, file: &mut StateFile) {
        if !file.path.is_empty() && !file.path.contains("://") {
            let folder = match self.options.kind() {
                SnapshotKind::Savepoint => self.folder.path().join(format!("chk-{id}")),
                _ => self.root.clone(),
            };
            file.path = format!("file://{}/{}", folder.display(), file.path);
        }
    }

    /// How many batches each source had given.
    pub(super) fn positions(&self, id: u64) -> HashMap<u32, usize> {
        let restore = self.operator_restore(id, 1, 0);
        let mut state = self.read(id, &restore, KeyGroupRange::of_subtask(0, 1, 128));
        let connector = crate::checkpoint::lists::restored_connector(&mut state);
        connector
            .states
            .iter()
            .map(|state| source_position(state))
            .collect()
    }

    /// The counts of all subtasks of a counting node.
    pub(super) fn counts(&self, id: u64, node: u32) -> HashMap<i64, i64> {
        let mut counts = HashMap::new();
        let parallelism = self.vertices.last().unwrap().parallelism;
        for state in self.operator_states(id, node) {
            let restore = self.operator_restore(id, node, state.subtask);
            let range = KeyGroupRange::of_subtask(state.subtask, parallelism, 128);
            for (key, count) in read_counts(&mut self.read(id, &restore, range)) {
                assert_eq!(counts.insert(key, count), None, "{key} is in two subtasks");
            }
        }
        counts
    }

    /// The rows that barriers had overtaken, counted.
    pub(super) fn overtaken(&self, id: u64, node: u32) -> HashMap<i64, i64> {
        let store = SnapshotStore::new(FileSystems::new(Configuration::default()));
        let mut counts = HashMap::new();
        for state in self.operator_states(id, node) {
            for channel in self.operator_restore(id, node, state.subtask).channels {
                let file = channel.file.unwrap();
                for batch in self.process.io.block_on(store.read_batches(&file)).unwrap() {
                    let rows = values(&StreamBatch::new(batch));
                    rows.into_iter()
                        .for_each(|row| *counts.entry(row).or_default() += 1);
                }
            }
        }
        counts
    }

    fn read(&self, id: u64, restore: &OperatorRestore, range: KeyGroupRange) -> thalweg_state::RestoredState {
        let store = SnapshotStore::new(FileSystems::new(Configuration::default()));
        let read = store.read_restore(id, restore, range, 128);
        self.process.io.block_on(read).unwrap().0
    }
}

/// The sources among tasks.
fn sources(tasks: &[control::TaskDeployment]) -> Vec<control::ExecutionAttempt> {
    let sources = tasks.iter().filter(|task| task.inputs.is_empty());
    sources.filter_map(|task| task.execution.clone()).collect()
}

pub(super) fn options_in(folder: &std::path::Path) -> CheckpointOptions {
    let uri = format!("file://{}", folder.display());
    CheckpointOptions {
        kind: SnapshotKind::Checkpoint.into(),
        exclusive_folder: uri.clone(),
        shared_folder: format!("{uri}/shared"),
        ..CheckpointOptions::default()
    }
}
