//! What all processes of a world share: time, chance, the queue of what is to happen, network and outside systems.
//!
//! ```text
//!   process --after(delay, input)--> queue by time --> World::step --> process.handle(input)
//!           --say(connection)------> network: delay, in order, held while partitioned, lost when cut
//!           --store(request)-------> object store: delay, failure, lost answer, late landing
//! ```
//!
//! Invariant: nothing reaches a process but by the queue, and nothing of an earlier incarnation of it; a paused process is
//! handed what came meanwhile when it wakes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use thalweg_jobmanager::simulation::Job;
use thalweg_proto::control::v1::{JobManagerCommand, TaskManagerMessage};
use thalweg_proto::state::v1::SnapshotMetadata;
use thalweg_types::JobId;

use crate::outside::{Broker, Files};
use crate::random::Random;
use crate::steps::{Coverage, Step};
use crate::store::{Answer, Operation, Store, StoreError};
use crate::task::TaskKey;
use crate::truth::Truth;

/// Hexadecimal digits at the end of a job's id that name its line.
pub(crate) const LINE_DIGITS: usize = 3;
/// Lines of the trace that are kept unless all are.
const TRACE_LINES: usize = 120;

/// Something that can be killed, paused, cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Process {
    /// By number.
    JobManager(usize),
    /// By number.
    TaskManager(usize),
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::JobManager(index) => write!(f, "jm{index}"),
            Self::TaskManager(index) => write!(f, "tm{index}"),
        }
    }
}

/// A deliberate mistake, to see that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// None: as it is.
    Sound,
    /// Tasks hear that a checkpoint is complete before the log has it.
    NotifyBeforeLog,
    /// The store lets a second writer create what is there.
    StoreOverwrites,
    /// Sinks commit at the barrier.
    CommitAtBarrier,
    /// Sinks forget at a restore what the checkpoint holds to be committed.
    ForgetCommittables,
    /// A job goes on from the checkpoint before the newest.
    RestoreOlder,
    /// A job's end, and that of an operation, is told before the log has it.
    TellBeforeLog,
    /// A writer that starts late puts away what later attempts have open.
    AbortLater,
}

/// What a process is told.
#[derive(Debug)]
pub(crate) enum Input {
    Start,
    Timer(Timer),
    Stored(u64, Result<Answer, StoreError>),
    /// To a JobManager.
    Said(u64, Box<TaskManagerMessage>),
    /// To a TaskManager.
    Commanded(u64, Box<JobManagerCommand>),
    /// The other side is gone.
    Closed(u64),
    /// Who leads?
    Asked(Process),
    /// The epoch that this JobManager leads with; 0 = it does not.
    Told(usize, u64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Timer {
    /// The control plane's.
    Control,
    /// Look whether the leader is there; whom to follow.
    Watch,
    /// A request to the store, again.
    Again(u64),
    /// A worker's process is up.
    WorkerUp(String, u64),
    /// A job's package is here.
    Package(JobId),
    /// A task that was deployed begins.
    Begin(TaskKey),
    /// A task goes on.
    Task(TaskKey),
}

/// What is to happen.
#[derive(Debug)]
pub(crate) enum Event {
    Input(Process, u64, Input),
    /// On a connection, to its JobManager or TaskManager.
    Arrive(u64, bool, Input),
    Apply(Operation),
    Heal(Process, Process),
    Wake(Process),
    Revive(Process),
    Fault,
    /// Somebody looks after the jobs.
    Operate,
}

/// A job that somebody wants to run.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) job: Job,
    /// The savepoint that it starts from, by its folder.
    pub(crate) start: Option<(String, SnapshotMetadata)>,
}

/// What jobs of one line have in common, though each starts from the savepoint of the one before: how outside systems know them.
pub(crate) fn line_of(job: &str) -> &str {
    job.get(job.len().saturating_sub(LINE_DIGITS)..).unwrap_or(job)
}

/// A process as the world sees it.
#[derive(Debug, Default)]
pub(crate) struct Host {
    pub(crate) incarnation: u64,
    pub(crate) alive: bool,
    pub(crate) paused: bool,
    /// What its clock is ahead of the world's.
    pub(crate) offset_ms: u64,
    pub(crate) waiting: VecDeque<Input>,
}

#[derive(Debug)]
struct Connection {
    task_manager: (usize, u64),
    job_manager: (usize, u64),
    /// To the TaskManager, to the JobManager: open at that end, when the last message is there, what is held up.
    ends: [End; 2],
}

#[derive(Debug)]
struct End {
    open: bool,
    last_ms: u64,
    held: VecDeque<Input>,
}

impl Connection {
    fn end(&self, to_job_manager: bool) -> Process {
        if to_job_manager {
            Process::JobManager(self.job_manager.0)
        } else {
            Process::TaskManager(self.task_manager.0)
        }
    }

    fn incarnation(&self, to_job_manager: bool) -> u64 {
        if to_job_manager {
            self.job_manager.1
        } else {
            self.task_manager.1
        }
    }
}

/// See the module.
pub(crate) struct Shared {
    pub(crate) now_ms: u64,
    pub(crate) random: Random,
    pub(crate) variant: Variant,
    /// Whether anything may fail now.
    pub(crate) faulty: bool,
    pub(crate) store_fault_per_mille: u64,
    pub(crate) coverage: Coverage,
    pub(crate) violations: Vec<String>,
    pub(crate) store: Store,
    pub(crate) truth: Truth,
    pub(crate) broker: Broker,
    pub(crate) files: Files,
    pub(crate) hosts: BTreeMap<Process, Host>,
    /// In the order in which they were wanted.
    pub(crate) wanted: Vec<Wanted>,
    /// Whether sources come to an end.
    pub(crate) bounded: bool,
    /// Where tasks run: the TaskManager and its incarnation.
    pub(crate) places: BTreeMap<TaskKey, (usize, u64)>,
    pub(crate) events: u64,
    /// Attempts of tasks that were deployed.
    pub(crate) deployed: u64,
    queue: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    connections: BTreeMap<u64, Connection>,
    blocked: BTreeSet<(Process, Process)>,
    trace: VecDeque<String>,
    whole_trace: bool,
}

impl Shared {
    pub(crate) fn new(seed: u64, variant: Variant, whole_trace: bool) -> Self {
        let mut random = Random::new(seed);
        let store_fault_per_mille = [0, 5, 30, 100][random.place(4)];
        Self {
            now_ms: 0,
            random,
            variant,
            faulty: true,
            store_fault_per_mille,
            coverage: Coverage::default(),
            violations: Vec::new(),
            store: Store::default(),
            truth: Truth::default(),
            broker: Broker::default(),
            files: Files::default(),
            hosts: BTreeMap::new(),
            wanted: Vec::new(),
            bounded: false,
            places: BTreeMap::new(),
            events: 0,
            deployed: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            connections: BTreeMap::new(),
            blocked: BTreeSet::new(),
            trace: VecDeque::new(),
            whole_trace,
        }
    }

    // ---- what is seen ----

    pub(crate) fn step(&mut self, step: Step, by: impl std::fmt::Display) {
        self.coverage.note(step);
        self.say_so(format_args!("{by}: {}", step.name()));
    }

    pub(crate) fn say_so(&mut self, what: std::fmt::Arguments<'_>) {
        if !self.whole_trace && self.trace.len() == TRACE_LINES {
            self.trace.pop_front();
        }
        self.trace.push_back(format!("{:>7} ms  {what}", self.now_ms));
    }

    pub(crate) fn violated(&mut self, what: std::fmt::Arguments<'_>) {
        self.say_so(format_args!("VIOLATION: {what}"));
        self.violations.push(what.to_string());
    }

    pub(crate) fn trace(&self) -> impl Iterator<Item = &String> {
        self.trace.iter()
    }

    // ---- the queue ----

    pub(crate) fn at(&mut self, when_ms: u64, event: Event) {
        self.sequence += 1;
        self.queue
            .insert((when_ms.max(self.now_ms), self.sequence), event);
    }

    pub(crate) fn next(&mut self) -> Option<Event> {
        let ((when_ms, _), event) = self.queue.pop_first()?;
        self.now_ms = when_ms;
        self.events += 1;
        Some(event)
    }

    pub(crate) fn host(&mut self, process: Process) -> &mut Host {
        self.hosts.entry(process).or_default()
    }

    /// It stands still for a while, and does not know it.
    pub(crate) fn pause(&mut self, process: Process, for_ms: u64) {
        let host = self.host(process);
        if !host.alive || host.paused {
            return;
        }
        host.paused = true;
        self.say_so(format_args!("{process} is paused for {for_ms} ms"));
        self.at(self.now_ms + for_ms, Event::Wake(process));
    }

    /// Its own clock.
    pub(crate) fn clock(&self, process: Process) -> u64 {
        let offset = self.hosts.get(&process).map_or(0, |host| host.offset_ms);
        self.now_ms + offset
    }

    /// To a process as it is now; a later incarnation does not get it.
    pub(crate) fn after(&mut self, delay_ms: u64, process: Process, input: Input) {
        let incarnation = self.host(process).incarnation;
        self.at(self.now_ms + delay_ms, Event::Input(process, incarnation, input));
    }

    // ---- the network ----

    fn delay(&mut self) -> u64 {
        if self.faulty && self.random.per_mille(20) {
            self.random.between(100, 2000)
        } else {
            self.random.between(1, 12)
        }
    }

    pub(crate) fn reaches(&self, from: Process, to: Process) -> bool {
        !self.blocked.contains(&(from, to))
    }

    /// A message that nobody waits for: lost if it can't pass.
    pub(crate) fn tell(&mut self, from: Process, to: Process, input: Input) {
        if self.reaches(from, to) && self.host(to).alive {
            let delay = self.delay();
            self.after(delay, to, input);
        }
    }

    /// Dials; nothing if the other is not there.
    pub(crate) fn connect(&mut self, task_manager: usize, job_manager: usize) -> Option<u64> {
        let (from, to) = (
            Process::TaskManager(task_manager),
            Process::JobManager(job_manager),
        );
        if !self.reaches(from, to) || !self.reaches(to, from) || !self.host(to).alive {
            return None;
        }
        self.sequence += 1;
        let id = self.sequence;
        let end = || End {
            open: true,
            last_ms: 0,
            held: VecDeque::new(),
        };
        let connection = Connection {
            task_manager: (task_manager, self.host(from).incarnation),
            job_manager: (job_manager, self.host(to).incarnation),
            ends: [end(), end()],
        };
        self.connections.insert(id, connection);
        Some(id)
    }

    pub(crate) fn send(&mut self, connection: u64, to_job_manager: bool, input: Input) {
        let delay = self.delay();
        let now_ms = self.now_ms;
        let Some(known) = self.connections.get_mut(&connection) else {
            return;
        };
        let end = &mut known.ends[usize::from(to_job_manager)];
        if end.open {
            end.last_ms = end.last_ms.max(now_ms + delay);
            let when_ms = end.last_ms;
            self.at(when_ms, Event::Arrive(connection, to_job_manager, input));
        }
    }

    /// What came over a connection, if it may be handed over now.
    pub(crate) fn arrive(
        &mut self,
        connection: u64,
        to_job_manager: bool,
        input: Input,
    ) -> Option<(Process, u64, Input)> {
        let known = self.connections.get(&connection)?;
        let (from, to) = (known.end(!to_job_manager), known.end(to_job_manager));
        let incarnation = known.incarnation(to_job_manager);
        let blocked = !self.reaches(from, to);
        let known = self.connections.get_mut(&connection)?;
        let end = &mut known.ends[usize::from(to_job_manager)];
        if !end.open {
            return None;
        }
        if blocked || !end.held.is_empty() {
            end.held.push_back(input);
            return None;
        }
        end.open = !matches!(input, Input::Closed(_));
        Some((to, incarnation, input))
    }

    /// One side hangs up: the other hears of it behind what was sent before.
    pub(crate) fn close(&mut self, connection: u64, by_job_manager: bool) {
        self.send(connection, !by_job_manager, Input::Closed(connection));
        if let Some(known) = self.connections.get_mut(&connection) {
            known.ends[usize::from(by_job_manager)].open = false;
        }
    }

    /// The network breaks it: what is on its way is lost or just makes it; each side hears of it in its own time.
    pub(crate) fn cut(&mut self, connection: u64) {
        for to_job_manager in [false, true] {
            let late = self.random.between(1, 3000);
            let lost = self.random.per_mille(500);
            let Some(known) = self.connections.get_mut(&connection) else {
                return;
            };
            let end = &mut known.ends[usize::from(to_job_manager)];
            if !end.open {
                continue;
            }
            if lost {
                end.open = false;
                end.held.clear();
                let (to, incarnation) = (known.end(to_job_manager), known.incarnation(to_job_manager));
                let closed = Event::Input(to, incarnation, Input::Closed(connection));
                self.at(self.now_ms + late, closed);
            } else {
                self.send(connection, to_job_manager, Input::Closed(connection));
            }
        }
    }

    pub(crate) fn open_connections(&self) -> Vec<u64> {
        let open = |connection: &&Connection| connection.ends.iter().any(|end| end.open);
        let ids = self.connections.iter();
        ids.filter(|(_, connection)| open(connection))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Of a process that ended: the others hear of it.
    pub(crate) fn hang_up(&mut self, process: Process) {
        for id in self.open_connections() {
            let known = &self.connections[&id];
            for to_job_manager in [false, true] {
                if known.end(to_job_manager) == process {
                    self.close(id, to_job_manager);
                    break;
                }
            }
        }
        self.connections
            .retain(|_, connection| connection.ends.iter().any(|end| end.open));
    }

    pub(crate) fn block(&mut self, from: Process, to: Process, for_ms: u64) {
        self.blocked.insert((from, to));
        self.at(self.now_ms + for_ms, Event::Heal(from, to));
    }

    pub(crate) fn heal(&mut self, from: Process, to: Process) {
        self.blocked.remove(&(from, to));
        for (id, connection) in &mut self.connections {
            for to_job_manager in [false, true] {
                if connection.end(!to_job_manager) != from || connection.end(to_job_manager) != to {
                    continue;
                }
                let end = &mut connection.ends[usize::from(to_job_manager)];
                for input in std::mem::take(&mut end.held) {
                    end.last_ms = end.last_ms.max(self.now_ms + 1);
                    self.sequence += 1;
                    let event = Event::Arrive(*id, to_job_manager, input);
                    self.queue.insert((end.last_ms, self.sequence), event);
                }
            }
        }
    }

    pub(crate) fn heal_all(&mut self) {
        for (from, to) in std::mem::take(&mut self.blocked) {
            self.heal(from, to);
        }
    }
}
