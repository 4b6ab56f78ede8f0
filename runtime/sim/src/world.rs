//! A world of its seed: processes, what happens to them, and what must hold all the while and at the end.
//!
//! ```text
//!   seed --> how many of what, which faults --> events by time --> check after each
//!   0 ........ faults ........ 30 s | all is mended, nothing fails any more | all rows committed, a new checkpoint | canceled | nothing left
//!       savepoints, stops: the next job of the line starts from there       | or finished, if its sources end
//! ```

mod faults;
mod lines;

use std::collections::BTreeMap;
use std::sync::Arc;

use thalweg_jobmanager::simulation::Job;
use thalweg_proto::graph::v1::{NodeKind, Partitioner, StreamEdge, StreamGraph, StreamNode};
use thalweg_types::JobId;

use self::lines::Line;
use crate::job_manager::{ENDS, JobManager, checkpoints_of};
use crate::shared::{Event, Input, Process, Shared, Timer, Variant, Wanted, line_of};
use crate::steps::{Coverage, Step};
use crate::task::TaskKey;
use crate::task_manager::TaskManager;

/// The folder of all jobs' checkpoints.
pub(crate) const CHECKPOINTS: &str = "file:///simulated/checkpoints";
/// Of each source.
pub(crate) const ROWS: u32 = 260;
/// So long everything may fail.
const FAULTS_MS: u64 = 30_000;
/// So long after that the job has for its end.
const SETTLE_MS: u64 = 120_000;
/// By when the last fault has shown.
const LAST_SHOCKS_MS: u64 = 15_000;
/// Behind which a channel to a task that is away fails.
const CHANNEL_MS: u64 = 6_000;
/// More than this is no progress but a loop.
const MOST_EVENTS: u64 = 2_000_000;

/// How a world ended.
#[derive(Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// What was done.
    pub coverage: Coverage,
    /// What must not be; empty is good.
    pub violations: Vec<String>,
    /// The last lines of what happened, or all.
    pub trace: Vec<String>,
    /// Events that were handled.
    pub events: u64,
    /// Simulated time.
    pub simulated_ms: u64,
}

/// See the module.
pub struct World {
    seed: u64,
    shared: Shared,
    lines: Vec<Line>,
    configuration: Arc<BTreeMap<String, String>>,
    job_managers: Vec<JobManager>,
    task_managers: Vec<TaskManager>,
    slots: u32,
    /// In a million, at each event.
    kill_ppm: u64,
    fault_every_ms: u64,
    faults: u64,
}

impl World {
    /// What the seed makes; `whole_trace` keeps every line.
    pub fn new(seed: u64, variant: Variant, whole_trace: bool) -> Self {
        let mut shared = Shared::new(seed, variant, whole_trace);
        let random = &mut shared.random;
        let lines: Vec<Line> = (1..=random.between(1, 2) as u128).map(Line::new).collect();
        let job_managers = random.between(1, 3) as usize;
        let task_managers = random.between(2, 3) as usize;
        // Enough when all are there; sometimes also when one is away.
        let needed = 2 * lines.len() as u64;
        let slots = (needed.div_ceil(task_managers as u64) + random.below(2)) as u32;
        let configuration = Arc::new(configuration(random.between(1, 2), random.between(1, 2)));
        let kill_ppm = [0, 100, 400, 1_500][random.place(4)];
        let fault_every_ms = [1_000, 3_000, 8_000][random.place(3)];
        shared.broker.timeout_ms = [15 * 60_000, 15 * 60_000, 20_000, 8_000][random.place(4)];
        shared.bounded = random.per_mille(400);
        for line in &lines {
            shared.wanted.push(Wanted {
                job: job(line.job()),
                start: None,
            });
        }
        let mut world = Self {
            seed,
            lines,
            configuration,
            job_managers: Vec::new(),
            task_managers: Vec::new(),
            slots,
            kill_ppm,
            fault_every_ms,
            faults: 0,
            shared,
        };
        for index in 0..job_managers {
            let job_manager = world.job_manager(index, job_managers);
            world.job_managers.push(job_manager);
        }
        for index in 0..task_managers {
            world
                .task_managers
                .push(TaskManager::new(index, slots, job_managers));
        }
        for process in world.processes() {
            world.revive(process);
        }
        let first = world.shared.random.between(200, 4_000);
        world.shared.at(first, Event::Fault);
        let first = world.shared.random.between(2_000, 8_000);
        world.shared.at(first, Event::Operate);
        let store = world.shared.store_fault_per_mille;
        let (bounded, timeout_ms) = (world.shared.bounded, world.shared.broker.timeout_ms);
        let jobs = world.lines.len();
        world.shared.say_so(format_args!(
            "seed {seed}: {jobs} jobs, bounded: {bounded}, transactions of {timeout_ms} ms, {job_managers} JobManagers, {task_managers} TaskManagers with {slots} slots, kills {kill_ppm} ppm, \
             faults every {fault_every_ms} ms, store {store} per mille, {variant:?}",
        ));
        world
    }

    fn job_manager(&mut self, index: usize, count: usize) -> JobManager {
        let instance = self.shared.random.next();
        let now_ms = self.shared.clock(Process::JobManager(index));
        JobManager::new(
            index,
            count,
            instance,
            &self.configuration,
            self.shared.variant,
            now_ms,
        )
    }

    fn processes(&self) -> Vec<Process> {
        let job_managers = (0..self.job_managers.len()).map(Process::JobManager);
        let task_managers = (0..self.task_managers.len()).map(Process::TaskManager);
        job_managers.chain(task_managers).collect()
    }

    // ---- processes ----

    fn revive(&mut self, process: Process) {
        let offset_ms = self.shared.random.below(3_600_000);
        let host = self.shared.host(process);
        if host.alive {
            return;
        }
        host.alive = true;
        host.paused = false;
        host.incarnation += 1;
        host.waiting.clear();
        host.offset_ms = match process {
            Process::JobManager(_) => 1_700_000_000_000 + offset_ms,
            Process::TaskManager(_) => 0,
        };
        match process {
            Process::JobManager(index) => {
                let count = self.job_managers.len().max(index + 1);
                let fresh = self.job_manager(index, count);
                if let Some(place) = self.job_managers.get_mut(index) {
                    *place = fresh;
                }
            }
            Process::TaskManager(index) => {
                if let Some(place) = self.task_managers.get_mut(index) {
                    let count = self.job_managers.len();
                    *place = TaskManager::new(index, self.slots, count);
                }
            }
        }
        self.shared.after(0, process, Input::Start);
    }

    fn kill(&mut self, process: Process) {
        let host = self.shared.host(process);
        if !host.alive {
            return;
        }
        host.alive = false;
        host.paused = false;
        host.waiting.clear();
        match process {
            Process::TaskManager(index) => self.task_managers[index].end(&mut self.shared),
            Process::JobManager(index) => self.job_managers[index].end(),
        }
        self.shared.hang_up(process);
        let delay = self.shared.random.between(50, 4_000);
        let when_ms = self.shared.now_ms + delay;
        self.shared.at(when_ms, Event::Revive(process));
    }

    fn wake(&mut self, process: Process) {
        let host = self.shared.host(process);
        if !std::mem::take(&mut host.paused) {
            return;
        }
        let waiting = std::mem::take(&mut host.waiting);
        self.shared.step(Step::Woken, process);
        for input in waiting {
            self.shared.after(0, process, input);
        }
    }

    fn hand_over(&mut self, process: Process, incarnation: u64, input: Input) {
        let host = self.shared.host(process);
        if !host.alive || host.incarnation != incarnation {
            return;
        }
        if host.paused {
            host.waiting.push_back(input);
            return;
        }
        match process {
            Process::JobManager(index) => {
                let job_manager = &mut self.job_managers[index];
                job_manager.handle(&mut self.shared, input);
                if job_manager.exits {
                    self.kill(process);
                }
            }
            Process::TaskManager(index) => {
                if let Input::Timer(Timer::Task(key)) = input {
                    return self.run_task(index, &key);
                }
                self.task_managers[index].handle(&mut self.shared, input);
            }
        }
    }

    // ---- the exchange ----

    fn run_task(&mut self, index: usize, key: &TaskKey) {
        let Some(task) = self.task_managers[index].task(key) else {
            return;
        };
        if task.is_paused() {
            return self.task_managers[index].step_task(&mut self.shared, key);
        }
        let mut inputs = std::mem::take(&mut task.inputs);
        let mut broken = None;
        for channel in inputs.iter_mut().filter(|channel| !channel.complete) {
            let queue = self.fetch(index, key.subtask, &channel.producer, channel.edge);
            let now_ms = self.shared.now_ms;
            if let Some(elements) = queue {
                channel.complete = matches!(elements.last(), Some(crate::task::Element::End));
                channel.queue.extend(elements);
                channel.away_ms = None;
                channel.met = true;
                continue;
            }
            let since_ms = *channel.away_ms.get_or_insert(now_ms);
            let gone = channel.met && !self.shared.places.contains_key(&channel.producer);
            if gone || now_ms > since_ms + CHANNEL_MS {
                broken = Some(format!("the channel from {} broke", channel.producer));
            }
        }
        let task_manager = &mut self.task_managers[index];
        if let Some(task) = task_manager.task(key) {
            task.inputs = inputs;
        }
        match broken {
            Some(why) => task_manager.fail_task(&mut self.shared, key, &why),
            None => task_manager.step_task(&mut self.shared, key),
        }
    }

    /// What a producer has for a consumer; nothing if it can't be reached.
    fn fetch(
        &mut self,
        to: usize,
        consumer: u32,
        producer: &TaskKey,
        edge: u32,
    ) -> Option<Vec<crate::task::Element>> {
        let (from, incarnation) = *self.shared.places.get(producer)?;
        let there = Process::TaskManager(from);
        let here = Process::TaskManager(to);
        let host = self.shared.host(there);
        let there_now = host.alive && host.incarnation == incarnation && !host.paused;
        let reachable = from == to || self.shared.reaches(there, here) && self.shared.reaches(here, there);
        if !there_now || !reachable {
            return None;
        }
        let task = self.task_managers[from].task(producer)?;
        let outlet = task.outputs.iter_mut().find(|outlet| outlet.edge == edge)?;
        let queue = outlet.queues.get_mut(consumer as usize)?;
        let count = 1 + self.shared.random.place(queue.len() + 1);
        Some(queue.drain(..count.min(queue.len())).collect())
    }

    // ---- the run ----

    /// Handles one event.
    fn step(&mut self) -> bool {
        let Some(event) = self.shared.next() else {
            return false;
        };
        match event {
            Event::Input(process, incarnation, input) => {
                self.hand_over(process, incarnation, input);
                if self.shared.faulty && self.shared.random.below(1_000_000) < self.kill_ppm {
                    self.shared
                        .step(Step::Killed, format_args!("{process} at this step"));
                    self.kill(process);
                }
            }
            Event::Arrive(connection, to_job_manager, input) => {
                if let Some((process, incarnation, input)) =
                    self.shared.arrive(connection, to_job_manager, input)
                {
                    self.hand_over(process, incarnation, input);
                }
            }
            Event::Apply(operation) => self.shared.apply(operation),
            Event::Heal(from, to) => self.shared.heal(from, to),
            Event::Wake(process) => self.wake(process),
            Event::Revive(process) => self.revive(process),
            Event::Fault if self.shared.faulty => self.fault(),
            Event::Fault => {}
            Event::Operate => self.operate(),
        }
        self.shared.broker.expire(self.shared.now_ms);
        self.check();
        true
    }

    fn check(&mut self) {
        for wrong in self.shared.truth.take_wrong() {
            self.shared.violated(format_args!("{wrong}"));
        }
        let doubled = std::mem::take(&mut self.shared.broker.seen.doubled).into_iter();
        let doubled = doubled.chain(std::mem::take(&mut self.shared.files.seen.doubled));
        for (job, row) in doubled.collect::<Vec<_>>() {
            self.shared
                .violated(format_args!("row {row:?} of {job} is committed twice"));
        }
    }

    fn until(&mut self, until_ms: u64, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        while self.shared.violations.is_empty() && self.shared.now_ms < until_ms {
            if done(self) {
                return true;
            }
            if self.shared.events > MOST_EVENTS {
                self.shared
                    .violated(format_args!("{MOST_EVENTS} events and no end"));
            }
            if !self.step() {
                break;
            }
        }
        done(self)
    }

    /// Runs to its end.
    pub fn run(mut self) -> Outcome {
        self.until(FAULTS_MS, |_| false);
        if self.shared.violations.is_empty() {
            self.mend();
            self.settle();
        }
        if self.shared.violations.is_empty() {
            self.finish();
        }
        Outcome {
            seed: self.seed,
            coverage: self.shared.coverage.clone(),
            violations: self.shared.violations.clone(),
            trace: self.shared.trace().cloned().collect(),
            events: self.shared.events,
            simulated_ms: self.shared.now_ms,
        }
    }

    /// Without faults the jobs get on: all rows are committed, checkpoints are taken or the job finishes, nothing restarts any more.
    fn settle(&mut self) {
        let from_ms = self.shared.now_ms;
        let logged = self.logged();
        let settled = self.until(from_ms + SETTLE_MS, |world| {
            world.missing().is_none()
                && world.lines.iter().all(|line| line.is_settled(world, &logged))
                && world.shared.store.quiet_from_ms < world.shared.now_ms
        });
        if !settled && self.shared.violations.is_empty() {
            let missing = self.missing().unwrap_or_default();
            let lines: Vec<String> = self.lines.iter().map(|line| line.told(self)).collect();
            self.shared.violated(format_args!(
                "{SETTLE_MS} ms without faults are not enough: {lines:?}, logged checkpoints {logged:?} and then {:?}; {missing}",
                self.logged()
            ));
            return;
        }
        // What was broken before shows within the time-outs.
        self.until(from_ms + LAST_SHOCKS_MS, |_| false);
        let deployed = self.shared.deployed;
        let calm_ms = self.shared.now_ms + 8_000;
        self.until(calm_ms, |_| false);
        if self.shared.deployed > deployed {
            self.shared
                .violated(format_args!("tasks restart though nothing fails any more"));
        }
        let stops: u64 = self.lines.iter().map(|line| line.operations).sum();
        let most = (self.faults + stops + self.shared.coverage.of(Step::Killed)) * 40 + 400;
        let deployed = self.shared.deployed;
        if deployed > most {
            self.shared
                .violated(format_args!("{deployed} deployments for {} faults", self.faults));
        }
    }

    /// Canceled or finished, a job leaves nothing behind but the savepoint that it was stopped with.
    fn finish(&mut self) {
        let leader = self.leader();
        let current: Vec<JobId> = self.lines.iter().map(Line::job).collect();
        for job in current.clone() {
            if !self.has_ended(job) {
                self.job_managers[leader].cancel(&mut self.shared, job);
            }
        }
        let until_ms = self.shared.now_ms + 30_000;
        let ended = self.until(until_ms, |world| {
            current.iter().all(|job| world.has_ended(*job))
                && world.job_managers[leader].is_idle()
                && world.shared.places.is_empty()
        });
        if !ended {
            return self.shared.violated(format_args!("the jobs can't be ended"));
        }
        for job in current {
            match self.state(job).as_str() {
                "CANCELED" => self.shared.step(Step::Canceled, job),
                _ => self.shared.step(Step::Finished, job),
            }
        }
        let jobs: Vec<JobId> = self.shared.wanted.iter().map(|wanted| wanted.job.id).collect();
        let left: Vec<String> = jobs
            .into_iter()
            .flat_map(|job| self.shared.store.below(&checkpoints_of(job)))
            .filter(|path| !path.ends_with("/_savepoint") && !self.shared.store.stray.contains(path))
            .collect();
        if !left.is_empty() {
            self.shared
                .violated(format_args!("left over: {}", left.join(" ")));
        }
    }

    fn has_ended(&self, job: JobId) -> bool {
        ENDS.contains(&self.state(job).as_str())
    }

    /// The place of whoever leads, as far as the world sees it.
    fn leader(&self) -> usize {
        let places = 0..self.job_managers.len();
        places
            .max_by_key(|index| self.job_managers[*index].epoch())
            .unwrap_or_default()
    }

    fn state(&self, job: JobId) -> String {
        let leader = self
            .job_managers
            .iter()
            .max_by_key(|job_manager| job_manager.epoch());
        let status = leader.and_then(|leader| leader.status(job));
        status.map_or_else(|| "unknown".to_owned(), |status| status.state)
    }

    /// The number of checkpoints that each job's log has.
    fn logged(&self) -> BTreeMap<JobId, usize> {
        let of = |job: JobId| self.shared.truth.of(&job.to_string());
        let jobs = self.shared.wanted.iter().map(|wanted| wanted.job.id);
        jobs.map(|job| (job, of(job).map_or(0, |log| log.completed.len())))
            .collect()
    }

    /// What is neither committed nor told to be left out, in words.
    fn missing(&self) -> Option<String> {
        let expected = 2 * ROWS as usize;
        for line in &self.lines {
            let id = line.job().to_string();
            let line = line_of(&id);
            let left_out = self.shared.broker.left_out.get(line);
            let left_out = left_out.map_or(0, std::collections::BTreeSet::len);
            for (sink, seen, left_out) in [
                ("broker", &self.shared.broker.seen, left_out),
                ("files", &self.shared.files.seen, 0),
            ] {
                let seen = seen.of(line).map_or(0, std::collections::BTreeSet::len) + left_out;
                if seen < expected {
                    return Some(format!(
                        "{seen} of {expected} rows of {id} are committed in {sink}"
                    ));
                }
            }
        }
        None
    }
}

fn configuration(max_concurrent: u64, retained: u64) -> BTreeMap<String, String> {
    let entries = [
        ("parallelism.default", "2".to_owned()),
        ("pipeline.max-parallelism", "16".to_owned()),
        ("heartbeat.interval", "1 s".to_owned()),
        ("heartbeat.timeout", "5 s".to_owned()),
        ("execution.checkpointing.interval", "1 s".to_owned()),
        ("execution.checkpointing.timeout", "6 s".to_owned()),
        ("execution.checkpointing.dir", CHECKPOINTS.to_owned()),
        ("execution.checkpointing.incremental", "true".to_owned()),
        (
            "execution.checkpointing.tolerable-failed-checkpoints",
            "3".to_owned(),
        ),
        (
            "execution.checkpointing.max-concurrent-checkpoints",
            max_concurrent.to_string(),
        ),
        // Clocks jump by hours, and results are looked at to the end.
        ("jobstore.expiration-time", "365 d".to_owned()),
        ("execution.checkpointing.num-retained", retained.to_string()),
        ("restart-strategy.type", "fixed-delay".to_owned()),
        ("restart-strategy.fixed-delay.attempts", "1000000".to_owned()),
        ("restart-strategy.fixed-delay.delay", "300 ms".to_owned()),
    ];
    entries
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

/// Two sources, a keyed operator, a sink to the broker and one to files.
fn job(id: JobId) -> Job {
    let node = |id: u32, kind: NodeKind, operator: &str| StreamNode {
        id,
        kind: kind.into(),
        operator: operator.to_owned(),
        name: operator.to_owned(),
        operator_id: format!("{id:032x}"),
        output_columns: match kind {
            NodeKind::Sink => Vec::new(),
            _ => vec!["number: BIGINT NOT NULL".to_owned()],
        },
        key_columns: match kind {
            NodeKind::Operator => vec!["number".to_owned()],
            _ => Vec::new(),
        },
        ..StreamNode::default()
    };
    let edge = |id: u32, source: u32, target: u32, partitioner: Partitioner| StreamEdge {
        id,
        source,
        target,
        partitioner: partitioner.into(),
        ..StreamEdge::default()
    };
    let graph = StreamGraph {
        format_version: 1,
        engine_version: env!("CARGO_PKG_VERSION").to_owned(),
        job_name: "numbers".to_owned(),
        nodes: vec![
            node(1, NodeKind::Source, "Numbers"),
            node(2, NodeKind::Operator, "KeyedReduce"),
            node(3, NodeKind::Sink, "BrokerSink"),
            node(4, NodeKind::Sink, "FileSink"),
        ],
        edges: vec![
            edge(1, 1, 2, Partitioner::Hash),
            edge(2, 2, 3, Partitioner::Rebalance),
            edge(3, 2, 4, Partitioner::Rebalance),
        ],
        ..StreamGraph::default()
    };
    Job { id, graph }
}
