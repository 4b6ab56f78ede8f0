//! The coordinator among sources and two-phase sinks: whatever fails, every row is committed exactly once.
//!
//! ```text
//!   source (2) --rows, barriers, end--> sink (2) --prepared at a barrier, committed when it is complete--> outside
//!   one region by a hash exchange, or two by forward edges
//! ```
//!
//! Messages between a task and its coordinator keep their order, as channels do; everything else happens in any order: tasks read
//! their mail late, storage answers late, regions fail, tasks decline, sources end, the JobManager is killed and another one
//! starts from what lies in storage or goes on with what runs; tasks that are over still commit what they were told to. The model of a task follows
//! `thalweg-task`: alignment, the pause behind a savepoint that stops the job, the wait for a last checkpoint.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use thalweg_proto::control::v1::{
    AcknowledgeCheckpoint, CheckpointFailureReason, DeclineCheckpoint, ExecutionAttempt,
};
use thalweg_proto::graph::v1::Partitioner;
use thalweg_proto::state::v1::{
    CheckpointOptions, Distribution, OperatorList, OperatorSubtaskState, SnapshotMetadata, StateFile,
    TaskOperatorSnapshot, TaskRestore, TaskSnapshot,
};
use thalweg_types::{Failure, FailureClass};

use super::simulation::{Random, Seed, seeds};
use super::tests::{FOLDER, config, execution, job_graph};
use super::*;
use crate::restore::assign;

/// Rows of each source.
const ROWS: i64 = 40;
/// Steps in which things fail; then they don't any more.
const FAULTY_STEPS: usize = 600;
/// Steps after which a job that has not ended hangs.
const MOST_STEPS: usize = 100_000;

/// Source and number.
type Row = (usize, i64);

#[derive(Debug, Clone)]
enum Element {
    Row(Row),
    Barrier(u64, CheckpointOptions),
    End,
}

#[derive(Debug, Clone)]
enum Mail {
    Trigger(u64, CheckpointOptions),
    Ended(u64, bool),
}

#[derive(Debug, Clone, PartialEq)]
struct Prepared {
    id: i64,
    prepared_for: u64,
    rows: Vec<Row>,
}

#[derive(Debug, Default)]
struct Channel {
    queue: VecDeque<Element>,
    ended: bool,
}

/// 0 and 1 are sources, 2 and 3 sinks.
#[derive(Debug, Default)]
struct Task {
    execution: ExecutionAttempt,
    mail: VecDeque<Mail>,
    to_master: VecDeque<Event>,
    /// Barriers that come from the coordinator.
    triggers: VecDeque<(u64, CheckpointOptions)>,
    last: u64,
    stopping: Option<u64>,
    stopped: bool,
    finished: bool,
    /// A source's next row.
    position: i64,
    /// A source has sent its last watermark.
    drained: bool,
    /// A sink's, by source.
    channels: BTreeMap<usize, Channel>,
    aligning: Option<(u64, CheckpointOptions, BTreeSet<usize>)>,
    aborted: BTreeSet<u64>,
    rows: Vec<Row>,
    prepared: Vec<Prepared>,
    completed: u64,
    /// A sink has prepared its last rows.
    flushed: bool,
    /// With its end: what it left.
    left: TaskSnapshot,
    /// What its TaskManager saw: the newest snapshot, and the savepoint to stop with, with or without a drain.
    newest_seen: u64,
    stop_seen: Option<(u64, bool)>,
}

enum Work {
    Write(u64, String, Option<String>, Arc<SnapshotMetadata>),
    Wrote(u64, bool),
}

struct World {
    random: Random,
    coordinator: CheckpointCoordinator,
    setup: CoordinatorSetup,
    now_ms: u64,
    regions: Vec<Vec<usize>>,
    tasks: Vec<Task>,
    /// Tasks that are over and don't know it.
    zombies: Vec<Task>,
    /// What they still say.
    late: Vec<Event>,
    work: Vec<Work>,
    snapshots: BTreeMap<String, Arc<SnapshotMetadata>>,
    pointers: BTreeMap<String, String>,
    /// What was committed, by committable.
    outside: BTreeMap<i64, Vec<Row>>,
    committed: BTreeSet<Row>,
    next_committable: i64,
    operations: u32,
    /// The folder of the savepoint that stopped the job.
    stopped_with: Option<String>,
    fail_job: bool,
    faults: bool,
    counts: Counts,
}

/// What happened, so that it is known to have been tested.
#[derive(Debug, Default)]
struct Counts {
    completed: u64,
    restarts: u64,
    kills: u64,
    takeovers: u64,
    stops: u64,
    failed_stops: u64,
    from_pointers: u64,
}

impl World {
    fn new(seed: u64, faults: bool) -> Self {
        let mut random = Random(seed);
        let mut graph = job_graph(2, 2);
        let forward = random.one_in(2);
        if forward {
            let edge = graph.edges[0].edge.as_mut().unwrap();
            edge.partitioner = Partitioner::Forward.into();
        }
        let config = CheckpointConfig {
            interval_ms: Some(10),
            max_concurrent: 1 + random.below(3) as u32,
            timeout_ms: if faults { 80 } else { 1_000_000 },
            tolerable_failures: random.below(4) as u32,
            num_retained: 1 + random.below(3) as u32,
            // Behind the end nothing is exactly once without a last checkpoint.
            after_tasks_finish: faults || !random.one_in(4),
            ..config()
        };
        let setup = CoordinatorSetup {
            graph,
            config,
            folder: Some(FOLDER.to_owned()),
            folder_is_ours: true,
            recoverable: true,
            first_checkpoint_id: 1,
            restored: Vec::new(),
            earlier_files: Vec::new(),
            history_size: 10,
            delay_seed: None,
        };
        let mut world = Self {
            random,
            coordinator: CheckpointCoordinator::new(setup.clone()),
            setup,
            now_ms: 0,
            regions: match forward {
                true => vec![vec![0, 2], vec![1, 3]],
                false => vec![vec![0, 1, 2, 3]],
            },
            tasks: (0..4).map(|_| Task::default()).collect(),
            zombies: Vec::new(),
            late: Vec::new(),
            work: Vec::new(),
            snapshots: BTreeMap::new(),
            pointers: BTreeMap::new(),
            outside: BTreeMap::new(),
            committed: BTreeSet::new(),
            next_committable: 0,
            operations: 0,
            stopped_with: None,
            fail_job: false,
            faults,
            counts: Counts::default(),
        };
        world.deploy(&[0, 1, 2, 3], 0);
        world
    }

    fn forward(&self) -> bool {
        self.regions.len() == 2
    }

    // ---- the JobMaster ----

    fn handle(&mut self, event: Event) {
        for action in self.coordinator.handle(event, self.now_ms) {
            match action {
                Action::Trigger(trigger) => {
                    let options = trigger.options.unwrap();
                    for execution in trigger.executions {
                        let mail = Mail::Trigger(trigger.checkpoint_id, options.clone());
                        self.send(&execution, mail);
                    }
                }
                Action::Notify(notify) => {
                    self.counts.completed += u64::from(notify.completed);
                    for execution in notify.executions {
                        self.send(&execution, Mail::Ended(notify.checkpoint_id, notify.completed));
                    }
                }
                Action::WriteMetadata {
                    checkpoint_id,
                    folder,
                    pointer,
                    metadata,
                } => self
                    .work
                    .push(Work::Write(checkpoint_id, folder, pointer, metadata)),
                Action::DeleteFiles(files) => {
                    for file in files {
                        self.pointers.remove(&file);
                    }
                }
                Action::DeleteFolder(folder) => {
                    let below = format!("{folder}/");
                    self.snapshots
                        .retain(|other, _| *other != folder && !other.starts_with(&below));
                    self.pointers.retain(|file, _| !file.starts_with(&below));
                }
                Action::Sweep { .. } => {}
                Action::FailJob(_) => self.fail_job = true,
                Action::OperationEnded {
                    operation_id, result, ..
                } => {
                    // After a takeover nobody knows who asked.
                    let stop = operation_id.starts_with("stop") || operation_id.is_empty();
                    self.counts.stops += u64::from(stop && result.is_ok());
                    self.counts.failed_stops += u64::from(stop && result.is_err());
                    if stop && let Ok(folder) = result {
                        self.stopped_with = Some(folder);
                    }
                }
            }
        }
    }

    fn send(&mut self, to: &ExecutionAttempt, mail: Mail) {
        let all = self.tasks.iter_mut().chain(&mut self.zombies);
        let mut found = all.filter(|task| task.execution == *to);
        if let Some(task) = found.next() {
            if let Mail::Trigger(id, options) = &mail {
                task.newest_seen = task.newest_seen.max(*id);
                if options.terminate {
                    task.stop_seen = Some((*id, options.drain));
                }
            }
            task.mail.push_back(mail);
        }
    }

    fn deploy(&mut self, places: &[usize], attempt: u32) {
        let point = self.coordinator.restore_point();
        let assignment = point.map(|point| assign(point.source(), &self.setup.graph, false).unwrap());
        for &place in places {
            let execution = execution(place / 2, (place % 2) as u32, attempt);
            let mut task = Task {
                execution: execution.clone(),
                ..Task::default()
            };
            if place >= 2 {
                let sources = if self.forward() {
                    place - 2..place - 1
                } else {
                    0..2
                };
                task.channels = sources.map(|source| (source, Channel::default())).collect();
            }
            if let Some(assignment) = &assignment {
                let restore = &assignment.tasks[&(execution.vertex_id.clone(), execution.subtask)];
                task.last = restore.checkpoint_id;
                if place < 2 {
                    task.position = restored_position(restore, place);
                } else {
                    for prepared in restored_committables(restore) {
                        self.commit(&prepared);
                    }
                }
            }
            task.to_master.push_back(Event::TaskRunning(execution));
            self.tasks[place] = task;
        }
        if assignment.is_some() {
            self.handle(Event::Restored);
        }
    }

    fn fail(&mut self, mut places: Vec<usize>) {
        self.counts.restarts += 1;
        loop {
            let executions = places.iter().map(|place| self.tasks[*place].execution.clone());
            self.handle(Event::TasksStopped {
                executions: executions.collect(),
                failure: Failure::new(FailureClass::Retryable, "a task failed"),
            });
            if !std::mem::take(&mut self.fail_job) {
                break;
            }
            places = vec![0, 1, 2, 3];
        }
        let attempt = 1 + self
            .tasks
            .iter()
            .map(|task| task.execution.attempt)
            .max()
            .unwrap_or(0);
        for place in &places {
            self.bury(*place);
        }
        self.deploy(&places, attempt);
    }

    fn bury(&mut self, place: usize) {
        let mut task = std::mem::take(&mut self.tasks[place]);
        self.late.extend(std::mem::take(&mut task.to_master));
        self.zombies.push(task);
    }

    /// Another JobManager goes on with what lies in storage, as `dispatcher::recovery` finds it.
    fn kill_job_manager(&mut self) {
        self.counts.kills += 1;
        let attempt = 1 + self
            .tasks
            .iter()
            .map(|task| task.execution.attempt)
            .max()
            .unwrap_or(0);
        (0..4).for_each(|place| self.bury(place));
        self.late.clear();
        self.read_storage(self.coordinator.next_id);
        self.deploy(&[0, 1, 2, 3], attempt);
    }

    /// Another JobManager goes on with the tasks that run.
    fn change_job_manager(&mut self) {
        self.counts.takeovers += 1;
        self.read_storage(1);
        let mut takeover = Takeover::default();
        for task in &mut self.tasks {
            // What was on its way is lost, or comes late.
            if self.random.one_in(2) {
                task.to_master.clear();
            }
            takeover.newest_seen = takeover.newest_seen.max(task.newest_seen).max(task.last);
            if let Some((id, drains)) = task.stop_seen {
                takeover.stop_savepoint = takeover.stop_savepoint.max(id);
                takeover.drains = drains;
            }
            if task.finished {
                takeover
                    .finished
                    .push((task.execution.clone(), task.left.clone()));
            } else {
                takeover.running.push(task.execution.clone());
            }
        }
        self.handle(Event::TookOver(takeover));
    }

    fn read_storage(&mut self, first_checkpoint_id: u64) {
        for work in std::mem::take(&mut self.work) {
            if let Work::Write(_, folder, pointer, metadata) = work
                && self.random.one_in(2)
            {
                self.write(&folder, pointer, metadata);
            }
        }
        let from = |folder: &String, metadata: &Arc<SnapshotMetadata>, owned| RestoredFrom {
            base: if owned { FOLDER } else { folder }.to_owned(),
            folder: folder.clone(),
            metadata: metadata.clone(),
            owned,
        };
        let own = self
            .snapshots
            .iter()
            .filter(|(folder, _)| folder.starts_with(FOLDER));
        let mut restored: Vec<RestoredFrom> = own
            .map(|(folder, metadata)| from(folder, metadata, true))
            .collect();
        restored.sort_by_key(|restored| restored.metadata.checkpoint_id);
        let newest = restored
            .last()
            .map_or(0, |restored| restored.metadata.checkpoint_id);
        let number = |file: &&String| -> u64 {
            let file = file.strip_prefix(&format!("{FOLDER}/chk-")).unwrap();
            file.strip_suffix("/_savepoint").unwrap().parse().unwrap()
        };
        let pointer = self.pointers.keys().max_by_key(number);
        if let Some(pointer) = pointer.filter(|pointer| number(pointer) > newest) {
            let folder = &self.pointers[pointer];
            restored.push(from(folder, &self.snapshots[folder], false));
            self.counts.from_pointers += 1;
        }
        self.setup.restored = restored;
        self.setup.first_checkpoint_id = first_checkpoint_id;
        self.coordinator = CheckpointCoordinator::new(self.setup.clone());
        self.fail_job = false;
    }

    // ---- storage and the outside ----

    fn write(&mut self, folder: &str, pointer: Option<String>, metadata: Arc<SnapshotMetadata>) {
        self.snapshots.insert(folder.to_owned(), metadata);
        self.pointers
            .extend(pointer.map(|pointer| (pointer, folder.to_owned())));
    }

    fn do_work(&mut self, work: Work) {
        match work {
            Work::Write(id, folder, pointer, metadata) => {
                let succeeds = !self.faults || !self.random.one_in(10);
                if succeeds {
                    self.write(&folder, pointer, metadata);
                }
                self.work.push(Work::Wrote(id, succeeds));
            }
            Work::Wrote(checkpoint_id, succeeded) => {
                let failure = Failure::new(FailureClass::Retryable, "storage is away");
                let result = if succeeded { Ok(1) } else { Err(failure) };
                self.handle(Event::MetadataWritten {
                    checkpoint_id,
                    result,
                });
            }
        }
    }

    /// Committing the same again is harmless; the same row in another committable is not.
    fn commit(&mut self, prepared: &Prepared) {
        if let Some(rows) = self.outside.get(&prepared.id) {
            assert_eq!(*rows, prepared.rows);
            return;
        }
        for row in &prepared.rows {
            assert!(self.committed.insert(*row), "row {row:?} is committed twice");
        }
        self.outside.insert(prepared.id, prepared.rows.clone());
    }

    // ---- the tasks ----

    fn step_task(&mut self, place: usize) {
        let mut task = std::mem::take(&mut self.tasks[place]);
        if !task.finished {
            match self.random.below(3) {
                0 => self.read_mail(&mut task),
                _ if task.stopping.is_some() => {}
                _ if place < 2 => self.step_source(place, &mut task),
                _ => self.step_sink(&mut task),
            }
            self.finish(place, &mut task);
        }
        self.tasks[place] = task;
    }

    fn read_mail(&mut self, task: &mut Task) {
        let mail: Vec<Mail> = task.mail.drain(..).collect();
        let (mut completed, mut aborted) = (Vec::new(), Vec::new());
        for mail in mail {
            match mail {
                Mail::Trigger(id, options) => task.triggers.push_back((id, options)),
                Mail::Ended(id, true) => completed.push(id),
                Mail::Ended(id, false) => aborted.push(id),
            }
        }
        for id in completed {
            task.completed = task.completed.max(id);
            task.stopped |= task.stopping.is_some_and(|stop| stop <= id);
        }
        for id in aborted {
            task.triggers.retain(|(other, _)| *other != id);
            task.stopping.take_if(|stop| *stop == id);
            task.aligning.take_if(|(other, ..)| *other == id);
            if id > task.last {
                task.aborted.insert(id);
            }
        }
        self.commit_completed(task);
    }

    fn commit_completed(&mut self, task: &mut Task) {
        let completed = task.completed;
        for prepared in task
            .prepared
            .extract_if(.., |prepared| prepared.prepared_for <= completed)
        {
            self.commit(&prepared);
        }
    }

    fn step_source(&mut self, place: usize, task: &mut Task) {
        if let Some((id, options)) = task.triggers.pop_front() {
            if id <= task.last {
                return;
            }
            task.drained |= options.drain;
            for sink in 2..4 {
                let barrier = Element::Barrier(id, options.clone());
                self.emit(place, sink, barrier);
            }
            let snapshot = position_of(place, task.position);
            self.snapshot(task, id, &options, snapshot);
        } else if task.position < ROWS {
            assert!(!task.drained, "a row behind the last watermark");
            let sink = if self.forward() {
                place
            } else {
                (task.position % 2) as usize
            };
            self.emit(place, 2 + sink, Element::Row((place, task.position)));
            task.position += 1;
        }
    }

    fn emit(&mut self, from: usize, to: usize, element: Element) {
        if let Some(channel) = self.tasks[to].channels.get_mut(&from) {
            channel.queue.push_back(element);
        }
    }

    fn snapshot(&mut self, task: &mut Task, id: u64, options: &CheckpointOptions, snapshot: TaskSnapshot) {
        task.last = task.last.max(id);
        task.aborted.retain(|other| *other > id);
        if options.terminate {
            task.stopping = Some(id);
        }
        if self.faults && self.random.one_in(40) {
            decline(task, id, CheckpointFailureReason::AsyncException);
            return;
        }
        task.to_master
            .push_back(Event::Acknowledge(AcknowledgeCheckpoint {
                execution: Some(task.execution.clone()),
                checkpoint_id: id,
                snapshot: Some(snapshot),
                metrics: None,
            }));
    }

    fn step_sink(&mut self, task: &mut Task) {
        let blocked = |channel: &usize| {
            let aligning = task.aligning.as_ref();
            aligning.is_some_and(|(.., arrived)| arrived.contains(channel))
        };
        let open: Vec<usize> = task
            .channels
            .iter()
            .filter(|(from, channel)| !channel.queue.is_empty() && !blocked(from))
            .map(|(from, _)| *from)
            .collect();
        if open.is_empty() {
            return self.step_ended_sink(task);
        }
        let from = open[self.random.below(open.len())];
        let channel = task.channels.get_mut(&from).unwrap();
        match channel.queue.pop_front().unwrap() {
            Element::Row(row) => task.rows.push(row),
            Element::End => channel.ended = true,
            Element::Barrier(id, _) if id <= task.last => {}
            Element::Barrier(id, options) => arrive(task, from, id, options),
        }
        self.complete_alignment(task);
    }

    fn complete_alignment(&mut self, task: &mut Task) {
        let complete = task.aligning.take_if(|(.., arrived)| {
            let mut channels = task.channels.iter();
            channels.all(|(from, channel)| channel.ended || arrived.contains(from))
        });
        if let Some((id, options, _)) = complete {
            self.snapshot_sink(task, id, &options);
        }
    }

    fn snapshot_sink(&mut self, task: &mut Task, id: u64, options: &CheckpointOptions) {
        self.prepare(task, id);
        let snapshot = committables_of(&task.execution, &task.prepared);
        self.snapshot(task, id, options, snapshot);
    }

    fn prepare(&mut self, task: &mut Task, prepared_for: u64) {
        if !task.rows.is_empty() {
            self.next_committable += 1;
            task.prepared.push(Prepared {
                id: self.next_committable,
                prepared_for,
                rows: std::mem::take(&mut task.rows),
            });
        }
    }

    fn step_ended_sink(&mut self, task: &mut Task) {
        if !task.channels.values().all(|channel| channel.ended) {
            return;
        }
        if !std::mem::replace(&mut task.flushed, true) {
            self.prepare(task, task.last + 1);
            if !self.setup.config.after_tasks_finish {
                task.completed = u64::MAX;
                self.commit_completed(task);
            }
        } else if let Some((id, options)) = task.triggers.pop_front()
            && id > task.last
            && !task.aborted.contains(&id)
        {
            self.snapshot_sink(task, id, &options);
        }
    }

    fn finish(&mut self, place: usize, task: &mut Task) {
        let waits = task.stopping.is_some() || !task.triggers.is_empty();
        let at_end = match place {
            0 | 1 => task.position == ROWS,
            _ => task.flushed && task.prepared.is_empty(),
        };
        if !(task.stopped || at_end && !waits) || !self.random.one_in(3) {
            return;
        }
        task.finished = true;
        if place < 2 && !task.stopped {
            (2..4).for_each(|sink| self.emit(place, sink, Element::End));
        }
        let final_snapshot = match place {
            0 | 1 if !task.stopped => position_of(place, task.position),
            _ => TaskSnapshot::default(),
        };
        task.left.clone_from(&final_snapshot);
        task.to_master.push_back(Event::TaskFinished {
            execution: task.execution.clone(),
            final_snapshot,
        });
    }

    // ---- the run ----

    fn request(&mut self) {
        let stop = self.random.one_in(2);
        let operation_id = format!("{}-{}", if stop { "stop" } else { "save" }, self.operations);
        self.operations += 1;
        let target = SnapshotTarget::Savepoint {
            directory: Some("s3://bucket/savepoints".to_owned()),
            stop,
            drain: stop && self.random.one_in(3),
            random: self.random.next(),
        };
        self.handle(Event::Trigger(SnapshotRequest { operation_id, target }));
    }

    fn step(&mut self) {
        self.now_ms += u64::from(self.random.one_in(8));
        match self.random.below(16) {
            0..=8 => {
                let place = self.random.below(4);
                self.step_task(place);
            }
            9..=11 => {
                let place = self.random.below(4);
                if let Some(event) = self.tasks[place].to_master.pop_front() {
                    self.handle(event);
                }
            }
            12 | 13 if !self.work.is_empty() => {
                let place = self.random.below(self.work.len());
                let work = self.work.swap_remove(place);
                self.do_work(work);
            }
            14 if !self.zombies.is_empty() => {
                let place = self.random.below(self.zombies.len());
                let mut zombie = self.zombies.swap_remove(place);
                self.read_mail(&mut zombie);
                self.zombies.push(zombie);
            }
            14 if !self.late.is_empty() => {
                let event = self.late.remove(0);
                self.handle(event);
            }
            _ => self.handle(Event::Tick),
        }
        if self.random.one_in(300) {
            self.request();
        }
        if std::mem::take(&mut self.fail_job) {
            self.fail(vec![0, 1, 2, 3]);
        }
        if self.done() {
            return; // the job has ended, whoever is killed now
        }
        if self.faults && self.random.one_in(150) {
            let region = self.random.below(self.regions.len());
            self.fail(self.regions[region].clone());
        }
        if self.faults && self.random.one_in(300) {
            self.kill_job_manager();
        }
        if self.faults && self.random.one_in(200) {
            self.change_job_manager();
            if std::mem::take(&mut self.fail_job) {
                self.fail(vec![0, 1, 2, 3]);
            }
        }
    }

    fn done(&self) -> bool {
        let ended = |task: &Task| task.finished && task.to_master.is_empty();
        self.tasks.iter().all(ended)
    }

    /// Runs to the job's end, behind which every row was committed that belongs to it.
    fn run(mut self) -> Counts {
        for step in 0.. {
            assert!(step < MOST_STEPS, "the job hangs: {:?}", self.tasks);
            self.faults &= step < FAULTY_STEPS;
            if self.done() {
                break;
            }
            self.step();
        }
        self.handle(Event::JobEnded(JobEnd::Finished));
        let ends = match &self.stopped_with {
            None => [ROWS, ROWS],
            Some(folder) => positions_in(&self.snapshots[folder]),
        };
        let expected = (0..2).flat_map(|source| (0..ends[source]).map(move |n| (source, n)));
        assert_eq!(
            self.committed,
            expected.collect(),
            "stopped with {:?}",
            self.stopped_with
        );
        self.counts
    }
}

fn decline(task: &mut Task, checkpoint_id: u64, reason: CheckpointFailureReason) {
    task.to_master.push_back(Event::Decline(DeclineCheckpoint {
        execution: Some(task.execution.clone()),
        checkpoint_id,
        failure: None,
        reason: reason.into(),
    }));
}

/// A barrier comes on a sink's channel that is not blocked: one checkpoint is aligned at a time.
fn arrive(task: &mut Task, from: usize, id: u64, options: CheckpointOptions) {
    match &mut task.aligning {
        Some((other, ..)) if *other > id => return,
        Some((other, _, arrived)) if *other == id => {
            arrived.insert(from);
            return;
        }
        _ => {}
    }
    if let Some((older, ..)) = task.aligning.take() {
        decline(task, older, CheckpointFailureReason::Subsumed);
    }
    if task.aborted.contains(&id) {
        task.last = id;
    } else {
        task.aligning = Some((id, options, BTreeSet::from([from])));
    }
}

fn snapshot_of(execution: &ExecutionAttempt, name: &str, items: u64, inline: Vec<u8>) -> TaskSnapshot {
    let list = OperatorList {
        name: name.to_owned(),
        distribution: Distribution::Split.into(),
        items,
        file: Some(StateFile {
            size: inline.len() as u64,
            inline,
            ..StateFile::default()
        }),
    };
    TaskSnapshot {
        operators: vec![TaskOperatorSnapshot {
            operator_id: execution.vertex_id.clone(),
            state: Some(OperatorSubtaskState {
                subtask: execution.subtask,
                lists: vec![list],
                ..OperatorSubtaskState::default()
            }),
            tables: Vec::new(),
        }],
    }
}

fn position_of(place: usize, position: i64) -> TaskSnapshot {
    let execution = execution(0, place as u32, 0);
    snapshot_of(
        &execution,
        "SourceReaderState",
        1,
        position.to_le_bytes().to_vec(),
    )
}

/// Each as its id, what it was prepared for, how many rows, the rows.
fn committables_of(execution: &ExecutionAttempt, prepared: &[Prepared]) -> TaskSnapshot {
    if prepared.is_empty() {
        return TaskSnapshot::default();
    }
    let mut numbers = Vec::new();
    for one in prepared {
        numbers.extend([one.id, one.prepared_for.cast_signed(), one.rows.len() as i64]);
        let rows = one.rows.iter();
        numbers.extend(rows.flat_map(|(source, n)| [*source as i64, *n]));
    }
    let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    snapshot_of(execution, "Committables", prepared.len() as u64, bytes)
}

fn numbers_of(restore: &TaskRestore) -> Vec<i64> {
    let list = restore
        .operators
        .iter()
        .flat_map(|operator| &operator.lists)
        .next();
    let file = list.and_then(|list| list.list.as_ref()?.file.as_ref());
    let inline = file.map_or(&[][..], |file| &file.inline);
    let numbers = inline.as_chunks::<8>().0.iter();
    numbers.map(|number| i64::from_le_bytes(*number)).collect()
}

fn restored_position(restore: &TaskRestore, place: usize) -> i64 {
    let numbers = numbers_of(restore);
    assert_eq!(numbers.len(), 1, "source {place} is lost");
    numbers[0]
}

fn restored_committables(restore: &TaskRestore) -> Vec<Prepared> {
    let mut numbers = numbers_of(restore).into_iter();
    let mut restored = Vec::new();
    while let (Some(id), Some(prepared_for), Some(count)) = (numbers.next(), numbers.next(), numbers.next()) {
        let mut row = || (numbers.next().unwrap() as usize, numbers.next().unwrap());
        restored.push(Prepared {
            id,
            prepared_for: prepared_for.cast_unsigned(),
            rows: (0..count).map(|_| row()).collect(),
        });
    }
    restored
}

fn positions_in(metadata: &SnapshotMetadata) -> [i64; 2] {
    let mut positions = [0; 2];
    for state in &metadata.operators[0].subtasks {
        let inline = &state.lists[0].file.as_ref().unwrap().inline;
        positions[state.subtask as usize] = i64::from_le_bytes(inline.as_slice().try_into().unwrap());
    }
    positions
}

#[test]
fn whatever_fails_every_row_is_committed_exactly_once() {
    let mut all = Counts::default();
    for seed in seeds() {
        let _seed = Seed(seed);
        let counts = World::new(seed, true).run();
        all.completed += counts.completed;
        all.restarts += counts.restarts;
        all.kills += counts.kills;
        all.takeovers += counts.takeovers;
        all.stops += counts.stops;
        all.failed_stops += counts.failed_stops;
        all.from_pointers += counts.from_pointers;
    }
    let Counts {
        completed,
        restarts,
        kills,
        takeovers,
        stops,
        failed_stops,
        from_pointers,
    } = all;
    let happened = [
        completed,
        restarts,
        kills,
        takeovers,
        stops,
        failed_stops,
        from_pointers,
    ];
    assert!(happened.iter().all(|count| *count > 0), "{happened:?}");
}

#[test]
fn without_faults_jobs_end_and_no_stop_fails_but_for_the_jobs_end() {
    for seed in seeds() {
        let _seed = Seed(seed);
        let mut world = World::new(seed, false);
        world.setup.config.tolerable_failures = 0;
        let counts = world.run();
        assert_eq!((counts.restarts, counts.kills), (0, 0));
    }
}
