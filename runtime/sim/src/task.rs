//! A task: mail, barriers, state, and one of four trades.
//!
//! ```text
//!   source (splits) --hash--> operator (state: a chain of run files) --rebalance--> broker sink (transactions)
//!                                                                   \-rebalance--> file sink (pending files)
//! ```
//!
//! A task goes on by [`Task::step`], a few elements at a time; what it has to say goes to its TaskManager as [`Said`]. An operator
//! checks that it sees each row of its share once and in order.

mod checkpoints;
mod trade;

use std::collections::{BTreeSet, VecDeque};

use thalweg_proto::control::v1::{
    AcknowledgeCheckpoint, CheckpointFailureReason, DeclineCheckpoint, ExecutionAttempt, TaskDeployment,
    TaskState,
};
use thalweg_proto::state::v1::{
    CheckpointOptions, KeyedRun, OperatorSubtaskState, TaskRestore, TaskSnapshot,
};
use thalweg_types::KeyGroupRange;

use self::trade::{Order, Trade, commit, commit_file, trade};
use crate::outside::{BrokerError, Row};
use crate::shared::{Shared, Variant, line_of};
use crate::steps::Step;
use crate::store::{Content, Request};
use crate::world::ROWS;

/// Runs of a chain before it is written as one.
const LONGEST_CHAIN: usize = 4;
/// Elements taken in one step.
const ELEMENTS: usize = 24;

/// An attempt of a subtask.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TaskKey {
    pub(crate) job: String,
    pub(crate) vertex: String,
    pub(crate) subtask: u32,
    pub(crate) attempt: u32,
    /// Of the worker that it runs in.
    pub(crate) address: String,
}

impl TaskKey {
    pub(crate) fn of(execution: &ExecutionAttempt, address: &str) -> Self {
        Self {
            address: address.to_owned(),
            job: execution.job_id.clone(),
            vertex: execution.vertex_id.clone(),
            subtask: execution.subtask,
            attempt: execution.attempt,
        }
    }

    pub(crate) fn execution(&self) -> ExecutionAttempt {
        ExecutionAttempt {
            job_id: self.job.clone(),
            vertex_id: self.vertex.clone(),
            subtask: self.subtask,
            attempt: self.attempt,
        }
    }
}

impl std::fmt::Display for TaskKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let job = self.job.trim_start_matches('0');
        let vertex = self.vertex.trim_start_matches('0');
        write!(f, "job {job} task {vertex}.{}#{}", self.subtask, self.attempt)
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Element {
    Row(Row),
    Barrier(u64, CheckpointOptions),
    /// No more rows.
    End,
}

/// Into a task.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) producer: TaskKey,
    pub(crate) edge: u32,
    pub(crate) queue: VecDeque<Element>,
    /// Since when the producer was not to be found or reached.
    pub(crate) away_ms: Option<u64>,
    pub(crate) met: bool,
    /// Nothing more is to be fetched.
    pub(crate) complete: bool,
    ended: bool,
}

/// Out of a task, along one edge.
#[derive(Debug)]
pub(crate) struct Outlet {
    pub(crate) edge: u32,
    by_hash: bool,
    pub(crate) queues: Vec<VecDeque<Element>>,
}

#[derive(Debug, Clone)]
pub(crate) enum Mail {
    Trigger(u64, CheckpointOptions),
    Notify(u64, bool),
}

/// To the TaskManager.
#[derive(Debug)]
pub(crate) enum Said {
    State(TaskState, String),
    /// It has no more to do, and leaves this behind.
    Finished(TaskSnapshot),
    Acknowledge(AcknowledgeCheckpoint),
    Decline(DeclineCheckpoint),
    /// Of the store; answered by [`Task::stored`].
    Ask(Request),
}

/// A file that is being written for a checkpoint.
#[derive(Debug)]
struct Upload {
    id: u64,
    run: KeyedRun,
    request: Request,
    tries: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) key: TaskKey,
    pub(crate) slot: u32,
    pub(crate) state: TaskState,
    pub(crate) inputs: Vec<Channel>,
    pub(crate) outputs: Vec<Outlet>,
    pub(crate) mail: VecDeque<Mail>,
    /// The newest checkpoint that it restored from or acknowledged.
    pub(crate) checkpoint: u64,
    pub(crate) said: Vec<Said>,
    operator_id: String,
    range: KeyGroupRange,
    parallelism: u32,
    trade: Trade,
    last_barrier: u64,
    aligning: Option<(u64, CheckpointOptions, BTreeSet<usize>)>,
    aborted: BTreeSet<u64>,
    /// The snapshot that is its last if it is complete: it pauses behind it.
    stopping: Option<u64>,
    stopped: bool,
    /// All that came is prepared.
    flushed: bool,
    uploads: VecDeque<Upload>,
    /// Run files to be read, oldest first.
    to_read: VecDeque<String>,
    initialized: bool,
}

impl Task {
    pub(crate) fn new(deployment: &TaskDeployment, address: &str) -> Option<Self> {
        let execution = deployment.execution.as_ref()?;
        let vertex = deployment.vertex.as_ref()?;
        let node = vertex.chain.first()?;
        let inputs = deployment.inputs.iter().flat_map(|input| {
            let edge = input.edge.as_ref().map_or(0, |edge| edge.id);
            input.channels.iter().filter_map(move |channel| {
                Some(Channel {
                    producer: TaskKey::of(channel.producer.as_ref()?, &channel.data_address),
                    edge,
                    queue: VecDeque::new(),
                    away_ms: None,
                    met: false,
                    complete: false,
                    ended: false,
                })
            })
        });
        let outputs = deployment.outputs.iter().map(|output| Outlet {
            edge: output.edge.as_ref().map_or(0, |edge| edge.id),
            by_hash: output
                .edge
                .as_ref()
                .is_some_and(|edge| edge.partitioner() == thalweg_proto::graph::v1::Partitioner::Hash),
            queues: output.consumers.iter().map(|_| VecDeque::new()).collect(),
        });
        let restore = deployment
            .restore
            .clone()
            .filter(|restore| restore.checkpoint_id > 0);
        let operator = restore.as_ref().and_then(|restore| restore.operators.first());
        let mut to_read = VecDeque::new();
        let order = Order::of(deployment);
        let trade = trade(&node.operator, order, execution.subtask, operator, &mut to_read);
        Some(Self {
            key: TaskKey::of(execution, address),
            slot: deployment.slot,
            state: TaskState::Initializing,
            inputs: inputs.collect(),
            outputs: outputs.collect(),
            mail: VecDeque::new(),
            checkpoint: restore
                .as_ref()
                .map_or(0, |restore: &TaskRestore| restore.checkpoint_id),
            said: Vec::new(),
            operator_id: node.operator_id.clone(),
            range: KeyGroupRange::of_subtask(execution.subtask, vertex.parallelism, vertex.max_parallelism),
            parallelism: vertex.parallelism,
            trade,
            last_barrier: restore.as_ref().map_or(0, |restore| restore.checkpoint_id),
            aligning: None,
            aborted: BTreeSet::new(),
            stopping: None,
            stopped: false,
            flushed: false,
            uploads: VecDeque::new(),
            to_read,
            initialized: false,
        })
    }

    /// Whether it only waits for others to take what it has for them.
    pub(crate) fn has_finished(&self) -> bool {
        self.state == TaskState::Finished
    }

    /// Whether nobody needs it any more.
    pub(crate) fn is_dispensable(&self) -> bool {
        let is_empty = |outlet: &Outlet| outlet.queues.iter().all(VecDeque::is_empty);
        self.has_finished() && (self.stopped || self.outputs.iter().all(is_empty))
    }

    /// Whether it takes nothing from its inputs now.
    pub(crate) fn is_paused(&self) -> bool {
        self.stopping.is_some() || self.has_finished()
    }

    fn is_source(&self) -> bool {
        matches!(self.trade, Trade::Source(_))
    }

    fn fail(&mut self, shared: &mut Shared, why: String) {
        shared.step(Step::TaskFailed, format_args!("{} {why}", self.key));
        self.state = TaskState::Failed;
        self.said.push(Said::State(TaskState::Failed, why));
    }

    // ---- its begin ----

    /// Asks for the next run file, or begins to run.
    pub(crate) fn initialize(&mut self, shared: &mut Shared) {
        if let Some(path) = self.to_read.front() {
            return self.said.push(Said::Ask(Request::Get(path.clone())));
        }
        if !self.put_in_order(shared) {
            return;
        }
        if matches!(&self.trade, Trade::Broker { left, .. } if !left.is_empty()) {
            // Others may come meanwhile.
            return;
        }
        self.begin(shared);
    }

    fn begin(&mut self, shared: &mut Shared) {
        let step = if self.checkpoint > 0 {
            Step::Restored
        } else {
            Step::DeployedEmpty
        };
        shared.step(
            step,
            format_args!("{} from checkpoint {}", self.key, self.checkpoint),
        );
        self.initialized = true;
        self.state = TaskState::Running;
        self.said.push(Said::State(TaskState::Running, String::new()));
    }

    /// Sinks: commit what the checkpoint holds, then put away what else there is.
    fn put_in_order(&mut self, shared: &mut Shared) -> bool {
        let key = self.key.clone();
        let job = line_of(&key.job).to_owned();
        let forget = shared.variant == Variant::ForgetCommittables;
        match &mut self.trade {
            Trade::Broker {
                restored, ids, left, ..
            } => {
                for transaction in std::mem::take(restored).into_iter().filter(|_| !forget) {
                    match commit(shared, &key, &transaction, Step::CommittedAtRestore) {
                        Ok(true) => ids.put_back(&transaction.id, transaction.epoch),
                        // Used again since: what is open under it by now is nobody's any more.
                        Ok(false) => {
                            let epoch = shared.broker.init(&transaction.id, None).unwrap_or_default();
                            ids.put_back(&transaction.id, epoch);
                        }
                        Err(why) => {
                            self.fail(shared, why);
                            return false;
                        }
                    }
                }
                let aborts_later = shared.variant == Variant::AbortLater;
                for id in shared.broker.open(&format!("{job}-{}-", key.subtask)) {
                    if aborts_later || ids.comes_after(&id) {
                        left.push(id);
                    } else {
                        shared.step(Step::LeftToLater, format_args!("{key} {id}"));
                    }
                }
            }
            Trade::Files { restored, .. } => {
                for file in std::mem::take(restored).into_iter().filter(|_| !forget) {
                    commit_file(shared, &key, &file);
                }
                // What others left pending stays: whose it is nobody can tell.
            }
            Trade::Source(_) | Trade::Operator { .. } => {}
        }
        true
    }

    /// The store's answer to what it asked for.
    pub(crate) fn stored(&mut self, shared: &mut Shared, answer: Result<Option<Content>, bool>) {
        if !self.initialized {
            return match answer {
                Ok(Some(Content::Run(changes))) => {
                    self.to_read.pop_front();
                    if let Trade::Operator { next, .. } = &mut self.trade {
                        next.extend(changes);
                    }
                    self.initialize(shared);
                }
                // Whether it is for ever or will pass.
                Err(true) => {
                    let path = self.to_read.front().cloned().unwrap_or_default();
                    self.fail(shared, format!("{path} that it is to restore is gone"));
                }
                _ => self.fail(shared, "its state can't be read".to_owned()),
            };
        }
        let Some(mut upload) = self.uploads.pop_front() else {
            return;
        };
        if answer.is_err() && upload.tries < 3 {
            upload.tries += 1;
            self.said.push(Said::Ask(upload.request.clone()));
            return self.uploads.push_front(upload);
        }
        if answer.is_ok() {
            shared.step(
                Step::SnapshotWritten,
                format_args!("{} checkpoint {}", self.key, upload.id),
            );
            self.acknowledge_runs(shared, upload);
        } else {
            if let Trade::Operator { full, .. } = &mut self.trade {
                *full = true;
            }
            self.decline(shared, upload.id, CheckpointFailureReason::AsyncException);
        }
        if let Some(next) = self.uploads.front() {
            self.said.push(Said::Ask(next.request.clone()));
        }
    }

    // ---- its life ----

    pub(crate) fn step(&mut self, shared: &mut Shared) {
        if self.state == TaskState::Initializing {
            return self.put_away(shared);
        }
        if self.state != TaskState::Running {
            return;
        }
        self.read_mail(shared);
        if self.stopping.is_some() || self.state != TaskState::Running {
            return self.finish(shared);
        }
        if self.is_source() {
            self.emit(shared);
        }
        for _ in 0..ELEMENTS {
            if self.state != TaskState::Running || self.stopping.is_some() || !self.take(shared) {
                break;
            }
        }
        self.flush_at_end(shared);
        let begins = self.is_source() || self.inputs.iter().all(|channel| channel.ended);
        if self.state == TaskState::Running && begins {
            self.begin_triggered(shared);
        }
        self.finish(shared);
    }

    /// Aborts the next of the transactions that were left open.
    fn put_away(&mut self, shared: &mut Shared) {
        let Trade::Broker { left, .. } = &mut self.trade else {
            return;
        };
        let Some(id) = left.pop() else { return };
        let is_last = left.is_empty();
        shared.step(Step::TransactionAborted, format_args!("{} {id}", self.key));
        shared.broker.init(&id, None).ok();
        if is_last {
            self.begin(shared);
        }
    }

    // ---- its end ----

    /// A sink that gets no more rows prepares what it has, for the next checkpoint.
    fn flush_at_end(&mut self, shared: &mut Shared) {
        let at_end = !self.is_source() && self.inputs.iter().all(|channel| channel.ended);
        if at_end && !std::mem::replace(&mut self.flushed, true) {
            self.prepare(shared, self.last_barrier + 1);
        }
    }

    /// If there is nothing left to do.
    fn finish(&mut self, shared: &mut Shared) {
        if self.state != TaskState::Running {
            return;
        }
        let waits = self.stopping.is_some() || !self.mail.is_empty() || !self.uploads.is_empty();
        let at_end = match &self.trade {
            Trade::Source(splits) => shared.bounded && splits.values().all(|next| *next == ROWS),
            Trade::Operator { .. } => self.flushed,
            Trade::Broker { prepared, .. } | Trade::Files { prepared, .. } => {
                self.flushed && prepared.is_empty()
            }
        };
        if !(self.stopped || at_end && !waits) {
            return;
        }
        let left = match (&self.trade, self.stopped) {
            (Trade::Source(_), false) => self.of_operator(OperatorSubtaskState {
                subtask: self.key.subtask,
                lists: self.trade.lists(),
                ..OperatorSubtaskState::default()
            }),
            _ => TaskSnapshot::default(),
        };
        if !self.stopped {
            if self.is_source() {
                shared.step(Step::SourceEnded, &self.key);
            }
            for queue in self.outputs.iter_mut().flat_map(|outlet| &mut outlet.queues) {
                queue.push_back(Element::End);
            }
        }
        self.state = TaskState::Finished;
        self.said.push(Said::Finished(left));
    }

    fn read_mail(&mut self, shared: &mut Shared) {
        let (triggers, notes): (VecDeque<_>, VecDeque<_>) = self
            .mail
            .drain(..)
            .partition(|mail| matches!(mail, Mail::Trigger(..)));
        self.mail = triggers;
        for note in notes {
            match note {
                Mail::Notify(id, true) => {
                    shared.step(Step::Notified, format_args!("{} checkpoint {id}", self.key));
                    if !shared.truth.has_completed(&self.key.job, id) {
                        shared.violated(format_args!(
                            "{} was told that checkpoint {id} is complete, which no log has",
                            self.key
                        ));
                    }
                    self.commit(shared, id);
                    if self.stopping.take_if(|stop| *stop <= id).is_some() {
                        self.stopped = true;
                    }
                }
                Mail::Notify(id, false) => {
                    self.stopping.take_if(|stop| *stop == id);
                    shared.step(Step::Aborted, format_args!("{} checkpoint {id}", self.key));
                    self.aligning.take_if(|(aligning, ..)| *aligning == id);
                    if id > self.last_barrier {
                        self.aborted.insert(id);
                    }
                    self.mail
                        .retain(|mail| !matches!(mail, Mail::Trigger(other, _) if *other == id));
                }
                Mail::Trigger(..) => {}
            }
        }
    }

    fn begin_triggered(&mut self, shared: &mut Shared) {
        while self.stopping.is_none()
            && let Some(Mail::Trigger(id, options)) = self.mail.pop_front()
        {
            if id <= self.last_barrier {
                continue;
            }
            let step = match self.is_source() {
                true => Step::Triggered,
                false => Step::TriggeredBehindEnd,
            };
            shared.step(step, format_args!("{} checkpoint {id}", self.key));
            self.snapshot(shared, id, &options);
        }
    }

    fn emit(&mut self, shared: &mut Shared) {
        let Trade::Source(splits) = &mut self.trade else {
            return;
        };
        let mut rows = Vec::new();
        for (source, next) in splits {
            for _ in 0..shared.random.below(3) {
                if *next < ROWS {
                    rows.push((*source, *next));
                    *next += 1;
                }
            }
        }
        for row in rows {
            self.send(shared, row);
        }
    }

    fn send(&mut self, shared: &mut Shared, row: Row) {
        for outlet in &mut self.outputs {
            let count = outlet.queues.len();
            let to = if outlet.by_hash {
                row.1 as usize % count
            } else {
                shared.random.place(count)
            };
            outlet.queues[to].push_back(Element::Row(row));
        }
    }

    /// One element of any channel that is not held up by a barrier.
    fn take(&mut self, shared: &mut Shared) -> bool {
        let blocked = |place: &usize| {
            let aligning = self.aligning.as_ref();
            aligning.is_some_and(|(.., arrived)| arrived.contains(place))
        };
        let ready: Vec<usize> = (0..self.inputs.len())
            .filter(|place| !self.inputs[*place].queue.is_empty() && !blocked(place))
            .collect();
        let Some(place) = ready.get(shared.random.place(ready.len())).copied() else {
            return false;
        };
        match self.inputs[place].queue.pop_front() {
            Some(Element::Row(row)) => self.process(shared, row),
            Some(Element::Barrier(id, options)) => self.barrier(shared, place, id, options),
            Some(Element::End) => {
                self.inputs[place].ended = true;
                self.complete_alignment(shared);
            }
            None => {}
        }
        true
    }

    fn process(&mut self, shared: &mut Shared, row: Row) {
        let now_ms = shared.now_ms;
        let subtask = self.key.subtask;
        match &mut self.trade {
            Trade::Operator { next, .. } => {
                let expected = next.entry(row.0).or_insert(subtask);
                if *expected != row.1 {
                    let expected = *expected;
                    shared.violated(format_args!(
                        "{} saw row {row:?} when row {expected} of that source is next",
                        self.key
                    ));
                }
                next.insert(row.0, row.1 + self.parallelism);
                self.send(shared, row);
            }
            Trade::Broker { ids, open, .. } => {
                let written = match open {
                    Some((id, epoch)) => shared.broker.write(id, *epoch, row, now_ms),
                    None => ids.open(shared, &self.key).and_then(|(id, epoch)| {
                        *open = Some((id.clone(), epoch));
                        shared.broker.write(&id, epoch, row, now_ms)
                    }),
                };
                if let Err(error) = written {
                    self.refused(shared, error);
                }
            }
            Trade::Files { rows, .. } => rows.push(row),
            Trade::Source(_) => {}
        }
    }

    fn refused(&mut self, shared: &mut Shared, error: BrokerError) {
        shared.step(Step::Fenced, format_args!("{} {error:?}", self.key));
        self.fail(shared, format!("the broker refuses it: {error:?}"));
    }

    fn barrier(&mut self, shared: &mut Shared, place: usize, id: u64, options: CheckpointOptions) {
        if id <= self.last_barrier {
            return;
        }
        shared.step(Step::BarrierArrived, format_args!("{} checkpoint {id}", self.key));
        match &mut self.aligning {
            Some((older, ..)) if *older > id => return,
            Some((same, _, arrived)) if *same == id => {
                arrived.insert(place);
            }
            _ => {
                if let Some((older, ..)) = self.aligning.take() {
                    self.decline(shared, older, CheckpointFailureReason::Subsumed);
                }
                if self.aborted.contains(&id) {
                    self.last_barrier = id;
                    return;
                }
                self.aligning = Some((id, options, BTreeSet::from([place])));
            }
        }
        self.complete_alignment(shared);
    }

    fn complete_alignment(&mut self, shared: &mut Shared) {
        let inputs = &self.inputs;
        let is_there =
            |arrived: &BTreeSet<usize>, place: usize| arrived.contains(&place) || inputs[place].ended;
        let all_there = |arrived: &BTreeSet<usize>| (0..inputs.len()).all(|place| is_there(arrived, place));
        if let Some((id, options, _)) = self.aligning.take_if(|(.., arrived)| all_there(arrived)) {
            shared.step(Step::Aligned, format_args!("{} checkpoint {id}", self.key));
            self.snapshot(shared, id, &options);
        }
    }
}
