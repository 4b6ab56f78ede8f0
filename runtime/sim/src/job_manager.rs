//! A JobManager: election and recovery around the real control plane and its real logs.
//!
//! ```text
//!   standby --leader silent--> leader/<n> --> each job: its log taken over, newest metadata read --> Leader (real) decides
//!      ^                          | another was quicker                                                   |
//!      '--------------------------'                            metadata, then the log, then tasks are told
//!   exits <-- an append finds another's record, leader/ has a successor
//! ```
//!
//! What the shell of the real JobManager does is done here against the simulated store; decisions and logs are the real ones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use thalweg_jobmanager::simulation::{
    Answered, Ask, Asked, Found, Job, Leader, Logged, OperationEnd, Output, Store as Work, Wish,
};
use thalweg_proto::cluster::v1::JobStatus;
use thalweg_proto::control::v1::TaskManagerMessage;
use thalweg_proto::control::v1::task_manager_message::Message;
use thalweg_proto::state::v1::SnapshotMetadata;
use thalweg_types::{Failure, JobId};

use crate::shared::{Input, Process, Shared, Timer, Variant};
use crate::steps::Step;
use crate::store::{Answer, Content, Request, StoreError};
use crate::truth::HIGH_AVAILABILITY;

/// How often a standby looks for the leader.
const WATCH_MS: u64 = 1_000;
/// After how long without an answer it takes over.
const LEADER_TIMEOUT_MS: u64 = 3_000;
/// How often a leader looks for a successor: one in so many watches.
const LOOKS: u64 = 5;
const RETRY_MS: u64 = 200;
/// For a package to be fetched.
const PACKAGE_MS: u64 = 3_000;
/// How often writing metadata is tried.
const METADATA_TRIES: u32 = 2;

/// The folder of all savepoints.
pub(crate) const SAVEPOINTS: &str = "file:///simulated/savepoints";
/// States that a job ends in.
pub(crate) const ENDS: [&str; 3] = ["FINISHED", "CANCELED", "FAILED"];

/// What an answer of the store is for.
#[derive(Debug, Clone)]
enum Doing {
    /// Of a log.
    Ask(u64),
    ReadMetadata(JobId, String, bool),
    ListFolder(JobId),
    WriteMetadata(JobId, Writing),
    WritePointer(JobId, Writing),
    Delete,
}

#[derive(Debug, Clone)]
struct Writing {
    folder: String,
    pointer: Option<String>,
    metadata: Arc<SnapshotMetadata>,
    asked: Asked,
    tries: u32,
}

/// A job under this leader.
#[derive(Debug, Default)]
struct Led {
    logged: Logged,
    /// Oldest first; the newest is read last.
    to_read: Vec<String>,
    found: Found,
    state: String,
}

/// See the module.
pub(crate) struct JobManager {
    process: Process,
    index: usize,
    count: usize,
    leader: Option<Leader>,
    led: BTreeMap<JobId, Led>,
    /// Of the logs that are not here yet.
    recovering: BTreeSet<JobId>,
    connections: BTreeSet<u64>,
    timer_ms: Option<u64>,
    campaigning: bool,
    watches: u64,
    leader_seen_ms: u64,
    doing: BTreeMap<u64, (Doing, Request)>,
    /// What was asked again.
    repeated: BTreeSet<u64>,
    next_ticket: u64,
    /// It has found out that it is not the leader.
    pub(crate) exits: bool,
}

impl JobManager {
    pub(crate) fn new(
        index: usize,
        count: usize,
        instance: u64,
        configuration: &BTreeMap<String, String>,
        variant: Variant,
        now_ms: u64,
    ) -> Self {
        let mut leader = Leader::standby(&format!("{instance:016x}"), configuration, now_ms).ok();
        if let Some(leader) = leader.as_mut().filter(|_| variant == Variant::TellBeforeLog) {
            leader.tell_at_once();
        }
        Self {
            process: Process::JobManager(index),
            index,
            count,
            leader,
            led: BTreeMap::new(),
            recovering: BTreeSet::new(),
            connections: BTreeSet::new(),
            timer_ms: None,
            campaigning: false,
            watches: 0,
            leader_seen_ms: 0,
            doing: BTreeMap::new(),
            repeated: BTreeSet::new(),
            next_ticket: 0,
            exits: false,
        }
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.leader.as_ref().map_or(0, Leader::epoch)
    }

    pub(crate) fn status(&self, job: JobId) -> Option<JobStatus> {
        self.leader.as_ref()?.status(job)
    }

    /// Whether nothing is asked of the store.
    pub(crate) fn is_idle(&self) -> bool {
        self.doing.is_empty()
    }

    /// The process is gone, with all that it was about to do.
    pub(crate) fn end(&mut self) {
        self.leader = None;
        self.led.clear();
        self.doing.clear();
    }

    pub(crate) fn cancel(&mut self, shared: &mut Shared, job: JobId) {
        self.with_leader(shared, |leader, now_ms| leader.cancel(job, now_ms));
        self.carry_out(shared);
    }

    /// Asks for a snapshot; nothing if it does not lead, or does not know the job.
    pub(crate) fn ask_for(
        &mut self,
        shared: &mut Shared,
        job: JobId,
        id: &str,
        wish: Wish,
    ) -> Option<Result<(), Failure>> {
        let now_ms = shared.clock(self.process);
        let leader = self.leader.as_mut()?;
        let asked = leader.ask_for(job, id, wish, SAVEPOINTS, now_ms);
        self.carry_out(shared);
        asked
    }

    /// How an operation is doing, as this leader tells it.
    pub(crate) fn operation(&self, job: JobId, id: &str) -> Option<Option<OperationEnd>> {
        self.leader.as_ref()?.operation(job, id)
    }

    /// Submits a job that came to be wanted, unless that was done. One that leads later finds that it has no log.
    pub(crate) fn submit(&mut self, shared: &mut Shared, job: JobId) {
        if self.epoch() > 0 && self.recovering.is_empty() && !self.led.contains_key(&job) {
            self.led.insert(job, Led::default());
            self.begin(shared, job);
            self.carry_out(shared);
        }
    }

    fn begin(&mut self, shared: &mut Shared, job: JobId) {
        let now_ms = shared.clock(self.process);
        let wanted = shared.wanted.iter().find(|wanted| wanted.job.id == job).cloned();
        let Some((leader, wanted)) = self.leader.as_mut().zip(wanted) else {
            return;
        };
        let found = Found {
            newest_is_foreign: wanted.start.is_some(),
            checkpoints: wanted.start.into_iter().collect(),
            ..Found::default()
        };
        if let Err(failure) = leader.submit(&wanted.job, found, now_ms) {
            shared.violated(format_args!("a job is refused: {failure}"));
        }
    }

    fn with_leader(&mut self, shared: &Shared, act: impl FnOnce(&mut Leader, u64)) {
        let now_ms = shared.clock(self.process);
        if let Some(leader) = &mut self.leader {
            act(leader, now_ms);
        }
    }

    pub(crate) fn handle(&mut self, shared: &mut Shared, input: Input) {
        let now_ms = shared.clock(self.process);
        match input {
            Input::Start => {
                if self.leader.is_none() {
                    shared.violated(format_args!("the configuration is refused"));
                }
                self.leader_seen_ms = now_ms;
                // Often those that start together look together.
                let delay = shared.random.below(2) * shared.random.below(WATCH_MS);
                shared.after(delay, self.process, Input::Timer(Timer::Watch));
            }
            Input::Timer(Timer::Watch) => self.watch(shared, now_ms),
            Input::Timer(Timer::Control) => {
                self.timer_ms = None;
                self.with_leader(shared, Leader::run_timers);
            }
            Input::Timer(Timer::Again(ticket)) => {
                if let Some((_, request)) = self.doing.get(&ticket) {
                    shared.store(self.process, ticket, request.clone());
                }
            }
            Input::Timer(Timer::Package(job)) => {
                shared.step(Step::PackageFetched, format_args!("{} {job}", self.process));
                if let Some((leader, job)) = self.leader.as_mut().zip(job_of(shared, job)) {
                    leader.package_is_here(&job, now_ms);
                }
            }
            Input::Timer(_) => {}
            Input::Stored(ticket, answer) => self.stored(shared, ticket, answer),
            Input::Asked(by) => {
                let told = Input::Told(self.index, self.epoch());
                shared.tell(self.process, by, told);
            }
            Input::Told(_, epoch) => {
                if epoch > 0 {
                    self.leader_seen_ms = now_ms;
                }
            }
            Input::Said(connection, message) => self.said(shared, connection, *message),
            Input::Closed(connection) => {
                if self.connections.remove(&connection) {
                    self.with_leader(shared, |leader, now_ms| leader.disconnected(connection, now_ms));
                }
            }
            Input::Commanded(..) => {}
        }
        self.carry_out(shared);
    }

    // ---- election ----

    fn watch(&mut self, shared: &mut Shared, now_ms: u64) {
        shared.after(WATCH_MS, self.process, Input::Timer(Timer::Watch));
        self.watches += 1;
        if self.epoch() > 0 {
            if self.watches.is_multiple_of(LOOKS) {
                self.with_leader(shared, |leader, _| leader.look());
            }
            return;
        }
        for other in (0..self.count).filter(|other| *other != self.index) {
            shared.tell(
                self.process,
                Process::JobManager(other),
                Input::Asked(self.process),
            );
        }
        if !self.campaigning && now_ms > self.leader_seen_ms + LEADER_TIMEOUT_MS {
            self.campaigning = true;
            self.with_leader(shared, |leader, _| leader.claim());
        }
    }

    fn claimed(&mut self, shared: &mut Shared, epoch: Option<u64>) {
        self.campaigning = false;
        self.leader_seen_ms = shared.clock(self.process);
        let Some(epoch) = epoch else {
            return shared.step(Step::ElectionLost, self.process);
        };
        shared.step(
            Step::LeadershipTaken,
            format_args!("{} epoch {epoch}", self.process),
        );
        let ids: Vec<JobId> = shared.wanted.iter().map(|wanted| wanted.job.id).collect();
        for job in ids {
            self.led.insert(job, Led::default());
            self.recovering.insert(job);
            self.with_leader(shared, |leader, _| leader.take_over(job));
        }
    }

    // ---- the store ----

    fn ask(&mut self, shared: &mut Shared, doing: Doing, request: Request) {
        self.next_ticket += 1;
        self.doing.insert(self.next_ticket, (doing, request.clone()));
        shared.store(self.process, self.next_ticket, request);
    }

    fn stored(&mut self, shared: &mut Shared, ticket: u64, answer: Result<Answer, StoreError>) {
        let Some((doing, request)) = self.doing.remove(&ticket) else {
            return;
        };
        let passes = matches!(answer, Err(StoreError::Unavailable | StoreError::TimedOut));
        match (doing, answer) {
            (Doing::WriteMetadata(job, writing), answer) => self.wrote(shared, job, writing, &answer),
            (Doing::WritePointer(job, writing), answer) => self.wrote_pointer(shared, job, &writing, &answer),
            (doing, Err(_)) if passes => {
                self.doing.insert(ticket, (doing, request));
                self.repeated.insert(ticket);
                shared.after(RETRY_MS, self.process, Input::Timer(Timer::Again(ticket)));
            }
            (Doing::Delete, _) => {}
            (Doing::Ask(ask), answer) => {
                if matches!(answer, Err(StoreError::Exists)) && self.repeated.remove(&ticket) {
                    shared.step(Step::LogReadBack, format_args!("{} {request}", self.process));
                }
                let answered = answered(&request, answer);
                self.with_leader(shared, |leader, now_ms| leader.answer(ask, answered, now_ms));
            }
            (Doing::ReadMetadata(job, folder, _), Ok(Answer::Content(Content::Metadata(metadata)))) => {
                if let Some(led) = self.led.get_mut(&job) {
                    led.found.checkpoints.push((folder, (*metadata).clone()));
                }
                self.read_next(shared, job);
            }
            (Doing::ReadMetadata(job, folder, newest), Err(StoreError::Missing)) => {
                if newest && shared.truth.counts_on(&job.to_string(), &folder) {
                    shared.violated(format_args!("{folder} is gone, the newest checkpoint of {job}"));
                }
                if newest {
                    // A later leader goes on from a later one.
                    return self.with_leader(shared, |leader, _| leader.look());
                }
                self.read_next(shared, job);
            }
            (Doing::ListFolder(job), Ok(Answer::List(files))) => self.recovered(shared, job, &files),
            (doing, answer) => shared.violated(format_args!("{doing:?} was answered by {answer:?}")),
        }
    }

    // ---- recovery ----

    fn taken_over(&mut self, shared: &mut Shared, job: JobId, logged: Option<Logged>) {
        shared.step(Step::JobTaken, format_args!("{} {job}", self.process));
        let Some(logged) = logged else {
            self.done_recovering(shared, job);
            return self.begin(shared, job);
        };
        if logged.ended {
            let now_ms = shared.clock(self.process);
            if let Some((leader, job)) = self.leader.as_mut().zip(job_of(shared, job))
                && let Err(failure) = leader.ended(&job, now_ms)
            {
                shared.violated(format_args!("a job that is over can't be shown: {failure}"));
            }
            return self.done_recovering(shared, job);
        }
        let Some(led) = self.led.get_mut(&job) else { return };
        led.to_read.clone_from(&logged.checkpoints);
        if shared.variant == Variant::RestoreOlder && led.to_read.len() > 1 {
            led.to_read.pop();
        }
        led.logged = logged;
        self.read_next(shared, job);
    }

    fn read_next(&mut self, shared: &mut Shared, job: JobId) {
        let Some(led) = self.led.get_mut(&job) else { return };
        if led.to_read.is_empty() {
            let folder = checkpoints_of(job);
            return self.ask(shared, Doing::ListFolder(job), Request::List(folder));
        }
        let folder = led.to_read.remove(0);
        let newest = led.to_read.is_empty();
        let path = format!("{folder}/_metadata");
        self.ask(
            shared,
            Doing::ReadMetadata(job, folder, newest),
            Request::Get(path),
        );
    }

    fn recovered(&mut self, shared: &mut Shared, job: JobId, files: &[(String, Content)]) {
        let now_ms = shared.clock(self.process);
        let known = job_of(shared, job);
        let (Some(led), Some(known)) = (self.led.get_mut(&job), known) else {
            return;
        };
        let mut found = std::mem::take(&mut led.found);
        let numbers = files.iter().filter_map(|(path, _)| checkpoint_of(path));
        found.newest_is_foreign = led.logged.newest_is_foreign;
        found.highest_checkpoint = numbers.max().unwrap_or(0).max(led.logged.highest_checkpoint);
        let cancel = led.logged.cancel;
        let newest = found
            .checkpoints
            .last()
            .map_or(0, |(_, metadata)| metadata.checkpoint_id);
        shared.step(
            Step::Recovered,
            format_args!("{} {job} from checkpoint {newest}", self.process),
        );
        if let Some(leader) = &mut self.leader
            && let Err(failure) = leader.recovered(&known, found, cancel, now_ms)
        {
            shared.violated(format_args!("{job} does not go on: {failure}"));
        }
        let fetched_ms = shared.random.below(PACKAGE_MS);
        shared.after(fetched_ms, self.process, Input::Timer(Timer::Package(job)));
        self.done_recovering(shared, job);
    }

    fn done_recovering(&mut self, shared: &mut Shared, job: JobId) {
        if self.recovering.remove(&job) && self.recovering.is_empty() {
            self.with_leader(shared, Leader::all_recovered);
        }
    }

    // ---- TaskManagers ----

    fn said(&mut self, shared: &mut Shared, connection: u64, message: TaskManagerMessage) {
        if self.epoch() == 0 {
            shared.step(Step::StaleMessage, self.process);
            return shared.close(connection, true);
        }
        if message.epoch != self.epoch() && message.epoch > 0 {
            shared.step(Step::StaleMessage, self.process);
        }
        if let Some(Message::Register(register)) = &message.message {
            self.connections.insert(connection);
            self.with_leader(shared, |leader, now_ms| {
                leader.connected(connection, register, message.epoch, now_ms);
            });
        } else {
            self.with_leader(shared, |leader, now_ms| {
                leader.message(connection, message, now_ms);
            });
        }
    }

    // ---- what the leader wants ----

    fn carry_out(&mut self, shared: &mut Shared) {
        let now_ms = shared.clock(self.process);
        while let Some(leader) = &mut self.leader {
            let outputs = leader.take_outputs(now_ms);
            if outputs.is_empty() || self.exits {
                break;
            }
            for output in outputs {
                self.output(shared, output);
            }
        }
        self.note_states(shared);
        self.set_timer(shared);
    }

    fn output(&mut self, shared: &mut Shared, output: Output) {
        match output {
            Output::Send(connection, command) => {
                shared.send(connection, false, Input::Commanded(connection, command));
            }
            Output::Close(connection) => {
                self.connections.remove(&connection);
                shared.close(connection, true);
            }
            Output::Store(job, work) => self.work(shared, job, work),
            Output::Ask(ticket, ask) => self.ask(shared, Doing::Ask(ticket), request(ask)),
            Output::Claimed(epoch) => self.claimed(shared, epoch),
            Output::TakenOver(job, logged) => self.taken_over(shared, job, logged),
            Output::Begun(job) => shared.step(Step::Submitted, job),
            Output::Recorded(job, id, recorded) => {
                if recorded {
                    shared.step(
                        Step::LogAppended,
                        format_args!("{} {job} checkpoint {id}", self.process),
                    );
                }
                if shared.variant != Variant::NotifyBeforeLog {
                    self.with_leader(shared, |leader, now_ms| {
                        leader.checkpoint_ended(job, id, recorded, now_ms);
                    });
                }
            }
            Output::Unusable(job, why) => {
                shared.violated(format_args!("the log of {job} can't be used: {why}"));
            }
            Output::Superseded(_) => {
                if !std::mem::replace(&mut self.exits, true) {
                    shared.step(Step::Superseded, self.process);
                }
            }
        }
    }

    fn work(&mut self, shared: &mut Shared, job: JobId, work: Work) {
        match work {
            Work::WriteMetadata {
                folder,
                pointer,
                metadata,
                asked,
                ..
            } => {
                let tries = 1;
                let writing = Writing {
                    folder,
                    pointer,
                    metadata,
                    asked,
                    tries,
                };
                self.write(shared, job, writing);
            }
            Work::DeleteFiles(files) => self.ask(shared, Doing::Delete, Request::Delete(files)),
            Work::DeleteFolder(folder) => self.ask(shared, Doing::Delete, Request::DeleteFolder(folder)),
            Work::Sweep { folder, keep } => {
                self.ask(shared, Doing::Delete, Request::Sweep { folder, keep });
            }
        }
    }

    fn write(&mut self, shared: &mut Shared, job: JobId, writing: Writing) {
        let path = format!("{}/_metadata", writing.folder);
        let content = Content::Metadata(writing.metadata.clone());
        self.ask(
            shared,
            Doing::WriteMetadata(job, writing),
            Request::Put(path, content),
        );
    }

    fn wrote(
        &mut self,
        shared: &mut Shared,
        job: JobId,
        mut writing: Writing,
        answer: &Result<Answer, StoreError>,
    ) {
        let id = writing.metadata.checkpoint_id;
        if answer.is_err() && writing.tries < METADATA_TRIES {
            writing.tries += 1;
            return self.write(shared, job, writing);
        }
        if answer.is_err() {
            shared.step(Step::MetadataFailed, format_args!("{job} checkpoint {id}"));
            return self.with_leader(shared, |leader, now_ms| {
                leader.checkpoint_ended(job, id, false, now_ms);
            });
        }
        shared.step(
            Step::MetadataWritten,
            format_args!("{} {job} checkpoint {id}", self.process),
        );
        if shared.variant == Variant::NotifyBeforeLog {
            self.with_leader(shared, |leader, now_ms| {
                leader.checkpoint_ended(job, id, true, now_ms);
            });
        }
        match writing.pointer.clone() {
            Some(pointer) => {
                let content = Content::Pointer(writing.folder.clone());
                let doing = Doing::WritePointer(job, writing);
                self.ask(shared, doing, Request::Put(pointer, content));
            }
            None => self.stored_all(shared, job, &writing),
        }
    }

    fn wrote_pointer(
        &mut self,
        shared: &mut Shared,
        job: JobId,
        writing: &Writing,
        answer: &Result<Answer, StoreError>,
    ) {
        if answer.is_ok() {
            return self.stored_all(shared, job, writing);
        }
        let id = writing.metadata.checkpoint_id;
        shared.step(Step::MetadataFailed, format_args!("{job} savepoint {id}"));
        self.with_leader(shared, |leader, now_ms| {
            leader.checkpoint_ended(job, id, false, now_ms);
        });
    }

    fn stored_all(&mut self, shared: &mut Shared, job: JobId, writing: &Writing) {
        let stops_job = writing.pointer.is_some();
        self.with_leader(shared, |leader, now_ms| {
            let Writing {
                folder,
                metadata,
                asked,
                ..
            } = writing;
            leader.metadata_stored(job, folder, stops_job, metadata, asked, now_ms);
        });
    }

    fn note_states(&mut self, shared: &mut Shared) {
        let Some(leader) = &self.leader else { return };
        for (job, led) in &mut self.led {
            let Some(status) = leader.status(*job) else {
                continue;
            };
            if status.state != led.state {
                if led.state == "RECONCILING" && status.state == "RUNNING" && status.tasks_running > 0 {
                    shared.step(Step::Reconciled, job);
                }
                if led.state == "RECONCILING" && status.state == "RESTARTING" && status.slots_held > 0 {
                    shared.step(Step::ReconciledInPart, job);
                }
                if ENDS.contains(&status.state.as_str()) {
                    shared.step(Step::ResultTold, format_args!("{job} {}", status.state));
                    if !shared.truth.has_result(&job.to_string()) {
                        shared.violated(format_args!(
                            "{job} is told to be {}, which no log has",
                            status.state
                        ));
                    }
                }
                shared.say_so(format_args!("{} {job} is {}", self.process, status.state));
                led.state = status.state;
            }
        }
    }

    fn set_timer(&mut self, shared: &mut Shared) {
        let now_ms = shared.clock(self.process);
        let due_ms = self.leader.as_ref().and_then(Leader::next_timer_ms);
        if let Some(due_ms) = due_ms
            && self.timer_ms.is_none_or(|set_ms| set_ms > due_ms)
        {
            self.timer_ms = Some(due_ms);
            shared.after(
                due_ms.saturating_sub(now_ms),
                self.process,
                Input::Timer(Timer::Control),
            );
        }
    }
}

fn job_of(shared: &Shared, job: JobId) -> Option<Job> {
    let wanted = shared.wanted.iter().find(|wanted| wanted.job.id == job);
    wanted.map(|wanted| wanted.job.clone())
}

fn request(ask: Ask) -> Request {
    let path = |path: String| format!("{HIGH_AVAILABILITY}/{path}");
    match ask {
        Ask::List(folder) => Request::List(path(folder)),
        Ask::Read(file) => Request::Get(path(file)),
        Ask::Create(file, content) => Request::PutNew(path(file), Content::Record(content)),
        Ask::Delete(files) => Request::Delete(files.into_iter().map(path).collect()),
    }
}

fn answered(request: &Request, answer: Result<Answer, StoreError>) -> Answered {
    match answer {
        Ok(Answer::Done) => Answered::Done,
        Ok(Answer::Content(Content::Record(content))) => Answered::Content(content),
        Ok(Answer::List(files)) => {
            let folder = match request {
                Request::List(folder) => format!("{folder}/"),
                _ => String::new(),
            };
            let files = files.into_iter();
            Answered::Files(files.map(|(path, _)| path.replacen(&folder, "", 1)).collect())
        }
        Err(StoreError::Exists) => Answered::Exists,
        Ok(Answer::Content(_)) | Err(_) => Answered::Missing,
    }
}

/// The folder that a job's checkpoints are in.
pub(crate) fn checkpoints_of(job: JobId) -> String {
    format!("{}/{job}", crate::world::CHECKPOINTS)
}

fn checkpoint_of(path: &str) -> Option<u64> {
    path.split('/')
        .find_map(|part| part.strip_prefix("chk-")?.parse().ok())
}
