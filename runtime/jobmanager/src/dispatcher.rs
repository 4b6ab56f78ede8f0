//! The Dispatcher: which jobs there are, and who is told what. Pure: events and the time in, effects out.
//!
//! ```text
//!   registrations, messages --> ResourceManager --granted slots--> JobMaster (one a job) --> commands to TaskManagers
//!   submissions ------------> jobs by id; finished ones stay up to a number and an age
//! ```
//!
//! Invariants: an operation id leads to one job, however often it is submitted; a job's slots return to the pool when it has
//! ended, and its package is let go; where there is a log, an end is told when that has it.

mod leading;
mod recovered;
mod recovery;
mod reports;
mod state;
mod submission;
mod task_managers;
mod timers;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use thalweg_proto::cluster::v1 as cluster;
use thalweg_proto::control::v1::{HeartbeatRequest, ReleaseJob, job_manager_command::Command};
use thalweg_proto::ha::v1::record::Content;
use thalweg_types::{Failure, FailureClass, JobId};
use tokio::sync::oneshot;

use crate::config::Settings;
use crate::failure::failure_to_proto;
use crate::high_availability::{attempts_record, operation_done, result_record};
use crate::job_master::{JobAction, JobMaster, JobTimer, News, SnapshotRequest};
use crate::package::Package;
use crate::resource_manager::{ConnectionId, ResourceManager};
pub(crate) use recovered::{KeptPackage, RecoveryRequest};
pub(crate) use state::RestoredState;
pub use submission::{JobRequest, RestoreRequest};
pub(crate) use submission::{
    Submission, Submitter, application_operation, job_id_of_operation, run_application,
};
use timers::Timers;

use crate::storage_work::{StorageOutcome, StorageWork};

/// Submissions under way at one time: each may hold a package and run a program.
const MAX_SUBMISSIONS: usize = 64;
/// Operation ids of jobs that were forgotten, so that a late repetition does not start the job again.
const REMEMBERED_OPERATIONS: usize = 10_000;

/// What the Dispatcher wants done.
#[derive(Debug)]
pub(crate) enum Effect {
    /// To a TaskManager.
    Send(ConnectionId, Box<Command>),
    /// No more to say on this connection.
    Close(ConnectionId),
    /// In storage, for a job, which is told how it ended.
    Storage(JobId, Box<StorageWork>),
    /// Into the job's high-availability log, before what follows in storage; then [`Dispatcher::logged`] tells the news.
    Log(JobId, Box<Content>, News),
    /// The job's log is not needed any more.
    Forget(JobId),
}

/// What a submission is to do.
#[derive(Debug)]
pub(crate) enum Begin {
    /// Extract the job and report under this number.
    Proceed(u64),
    /// It is known; the answer comes from elsewhere.
    Known,
}

#[derive(Debug)]
enum Timer {
    Heartbeat,
    Job(JobId, JobTimer),
}

struct InProgress {
    operation_id: String,
    answers: Vec<oneshot::Sender<Result<JobId, Failure>>>,
}

/// The control plane's state.
pub(crate) struct Dispatcher {
    epoch: u64,
    settings: Arc<Settings>,
    resources: ResourceManager,
    jobs: BTreeMap<JobId, JobMaster>,
    /// Ended ones, the oldest first.
    ended: VecDeque<JobId>,
    operations: HashMap<String, JobId>,
    operation_order: VecDeque<String>,
    in_progress: BTreeMap<u64, InProgress>,
    next_ticket: u64,
    application_failure: Option<Failure>,
    timers: Timers<Timer>,
    effects: Vec<Effect>,
    changed: bool,
    /// Jobs of the log may still be missing.
    recovering: bool,
    leading: Leading,
    /// Jobs of the log of which nothing can be shown but why.
    unreadable: BTreeMap<JobId, Failure>,
}

/// Whether this JobManager decides anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leading {
    /// Without high availability: from its start on.
    Alone,
    /// Another one does.
    Standby,
    /// It does, and what it decides is in the jobs' logs.
    Durably,
}

impl Dispatcher {
    pub(crate) fn new(epoch: u64, settings: Arc<Settings>, now_ms: u64) -> Self {
        let mut timers = Timers::default();
        timers.set(
            now_ms + settings.heartbeat_interval.as_millis() as u64,
            Timer::Heartbeat,
        );
        Self {
            epoch,
            resources: ResourceManager::new(settings.load_balance),
            settings,
            jobs: BTreeMap::new(),
            ended: VecDeque::new(),
            operations: HashMap::new(),
            operation_order: VecDeque::new(),
            in_progress: BTreeMap::new(),
            next_ticket: 0,
            application_failure: None,
            timers,
            effects: Vec::new(),
            changed: true,
            recovering: false,
            leading: Leading::Alone,
            unreadable: BTreeMap::new(),
        }
    }

    // ---- what the shell asks ----

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    pub(crate) fn next_timer_ms(&self) -> Option<u64> {
        self.timers.next_due()
    }

    pub(crate) fn resources(&self) -> &ResourceManager {
        &self.resources
    }

    pub(crate) fn jobs(&self) -> impl Iterator<Item = &JobMaster> {
        self.jobs.values()
    }

    pub(crate) fn job(&self, job: JobId) -> Option<&JobMaster> {
        self.jobs.get(&job)
    }

    pub(crate) fn application_failure(&self) -> Option<&Failure> {
        self.application_failure.as_ref()
    }

    /// All jobs as the operator sees them, in the order of their start.
    pub(crate) fn job_statuses(&self) -> Vec<cluster::JobStatus> {
        let mut statuses: Vec<_> = self.jobs.keys().filter_map(|job| self.job_status(*job)).collect();
        let unreadable = self.unreadable.iter().map(|(job, failure)| cluster::JobStatus {
            job_id: job.to_string(),
            name: job.to_string(),
            state: "FAILED".to_owned(),
            last_failure: Some(failure_to_proto(failure)),
            ..cluster::JobStatus::default()
        });
        statuses.extend(unreadable);
        statuses.sort_by_key(|status| status.start_time_ms);
        statuses
    }

    pub(crate) fn job_status(&self, job: JobId) -> Option<cluster::JobStatus> {
        let master = self.jobs.get(&job)?;
        let mut status = master.status_message();
        if let Some(waiting_for) = self.resources.pool.waiting_for(job, status.slots_held) {
            status.waiting_for = waiting_for;
        }
        Some(status)
    }

    // ---- jobs ----

    /// Whether the submission of this operation is to be done, is under way, or was done.
    pub(crate) fn begin_submission(
        &mut self,
        operation_id: &str,
        answer: oneshot::Sender<Result<JobId, Failure>>,
    ) -> Begin {
        if !operation_id.is_empty() {
            if let Some(job) = self.operations.get(operation_id) {
                answer.send(Ok(*job)).ok();
                return Begin::Known;
            }
            let mut under_way = self.in_progress.values_mut();
            if let Some(same) = under_way.find(|submission| submission.operation_id == operation_id) {
                same.answers.push(answer);
                return Begin::Known;
            }
        }
        if self.in_progress.len() >= MAX_SUBMISSIONS {
            let message = format!("{MAX_SUBMISSIONS} submissions are under way; submit again later");
            answer
                .send(Err(Failure::new(FailureClass::Retryable, message)))
                .ok();
            return Begin::Known;
        }
        self.next_ticket += 1;
        let submission = InProgress {
            operation_id: operation_id.to_owned(),
            answers: vec![answer],
        };
        self.in_progress.insert(self.next_ticket, submission);
        Begin::Proceed(self.next_ticket)
    }

    /// The outcome of a submission that was to be done.
    pub(crate) fn submitted(&mut self, ticket: u64, outcome: Result<Box<Submission>, Failure>, now_ms: u64) {
        let Some(in_progress) = self.in_progress.remove(&ticket) else {
            return;
        };
        let result = outcome.and_then(|submission| {
            let job = submission.job_id;
            let started = self.start_job(*submission, now_ms);
            if started.is_err() && self.is_durable() && !self.jobs.contains_key(&job) {
                self.effects.push(Effect::Forget(job));
            }
            started
        });
        if let Err(failure) = &result {
            tracing::warn!(
                operation_id = in_progress.operation_id,
                reason = failure.message,
                "submission failed"
            );
        }
        for answer in in_progress.answers {
            answer.send(result.clone()).ok();
        }
    }

    fn start_job(&mut self, submission: Submission, now_ms: u64) -> Result<JobId, Failure> {
        let job = submission.job_id;
        if self.jobs.contains_key(&job) {
            return Err(Failure::new(
                FailureClass::Fatal,
                format!("there is a job {job} already"),
            ));
        }
        let operation_id = submission.operation_id.clone();
        let (master, actions) = JobMaster::start(submission, &self.settings, self.epoch, now_ms)?;
        tracing::info!(%job, name = master.name(), slots = master.slots_required(), "job submitted");
        self.jobs.insert(job, master);
        self.remember(operation_id, job);
        self.changed = true;
        self.carry_out(job, actions, now_ms);
        self.grant(now_ms);
        Ok(job)
    }

    fn remember(&mut self, operation_id: String, job: JobId) {
        if operation_id.is_empty() {
            return;
        }
        if self.operation_order.len() == REMEMBERED_OPERATIONS
            && let Some(oldest) = self.operation_order.pop_front()
        {
            self.operations.remove(&oldest);
        }
        self.operation_order.push_back(operation_id.clone());
        self.operations.insert(operation_id, job);
    }

    pub(crate) fn set_application_failure(&mut self, failure: Option<Failure>) {
        self.application_failure = failure;
        self.changed = true;
    }

    /// Cancels a job; its state afterwards. One that has ended stays as it is.
    pub(crate) fn cancel(&mut self, job: JobId, now_ms: u64) -> Option<String> {
        self.jobs.get(&job)?;
        self.with_job(job, now_ms, JobMaster::cancel);
        self.grant(now_ms);
        self.jobs.get(&job).map(|master| master.state_name().to_owned())
    }

    /// Begins a snapshot of a job; nothing if there is no such job.
    pub(crate) fn trigger_snapshot(
        &mut self,
        job: JobId,
        request: SnapshotRequest,
        now_ms: u64,
    ) -> Option<Result<String, Failure>> {
        let (result, actions) = self.jobs.get_mut(&job)?.trigger_snapshot(request, now_ms);
        self.changed = true;
        self.carry_out(job, actions, now_ms);
        self.grant(now_ms);
        Some(result)
    }

    /// How something in storage that a job wanted done has ended.
    pub(crate) fn storage_done(&mut self, job: JobId, outcome: StorageOutcome, now_ms: u64) {
        self.with_job(job, now_ms, |master, now_ms| master.storage_done(outcome, now_ms));
        self.grant(now_ms);
    }

    /// The job's log has it: it may be told.
    pub(crate) fn logged(&mut self, job: JobId, news: &News) {
        if let Some(master) = self.jobs.get_mut(&job) {
            master.show(news);
            self.changed = true;
        }
    }

    /// The package of a job that was recovered without it is here, or can't be had.
    pub(crate) fn package_fetched(
        &mut self,
        job: JobId,
        outcome: Result<Arc<Package>, Failure>,
        now_ms: u64,
    ) {
        self.with_job(job, now_ms, |master, now_ms| match outcome {
            Ok(package) => master.package_is_here(package),
            Err(failure) => master.give_up(failure, now_ms),
        });
        self.grant(now_ms);
    }

    fn running_jobs(&self) -> Vec<JobId> {
        self.jobs
            .iter()
            .filter(|(_, master)| !master.is_ended())
            .map(|(job, _)| *job)
            .collect()
    }

    fn for_job(
        &mut self,
        job: &str,
        now_ms: u64,
        decide: impl FnOnce(&mut JobMaster, u64) -> Vec<JobAction>,
    ) {
        if let Ok(job) = job.parse() {
            self.with_job(job, now_ms, decide);
        }
    }

    fn with_job(
        &mut self,
        job: JobId,
        now_ms: u64,
        decide: impl FnOnce(&mut JobMaster, u64) -> Vec<JobAction>,
    ) {
        let Some(master) = self.jobs.get_mut(&job) else {
            return;
        };
        let actions = decide(master, now_ms);
        self.changed = true;
        self.carry_out(job, actions, now_ms);
    }

    fn carry_out(&mut self, job: JobId, actions: Vec<JobAction>, now_ms: u64) {
        // A job that ends behind its savepoint: the log must know of that when it has the end.
        let is_operation = |action: &JobAction| matches!(action, JobAction::OperationEnded(_));
        let (operations, others): (Vec<_>, Vec<_>) = actions.into_iter().partition(is_operation);
        for action in operations.into_iter().chain(others) {
            match action {
                JobAction::Send(task_manager, command) => {
                    if let Some(task_manager) = self.resources.registry.get(&task_manager) {
                        self.effects.push(Effect::Send(task_manager.connection, command));
                    }
                }
                JobAction::DeclareSlots(slots, preferred) => {
                    self.resources.pool.declare(job, slots, preferred);
                }
                JobAction::SetTimer(delay_ms, timer) => {
                    self.timers.set(now_ms + delay_ms, Timer::Job(job, timer));
                }
                JobAction::ReleaseSlots(slots) => self.resources.pool.release_slots(job, &slots),
                JobAction::Storage(work) => self.effects.push(Effect::Storage(job, work)),
                JobAction::OperationEnded(operation) => {
                    let news = News::Operation(operation.id.clone());
                    match operation_done(&operation).filter(|_| self.is_durable()) {
                        Some(record) => self.effects.push(Effect::Log(job, Box::new(record), news)),
                        None => self.logged(job, &news),
                    }
                }
                JobAction::AttemptsBegin(regions) => {
                    if self.is_durable() && !regions.is_empty() {
                        let record = Box::new(attempts_record(&regions));
                        self.effects.push(Effect::Log(job, record, News::Attempts));
                    }
                }
                JobAction::Ended => self.job_ended(job),
            }
        }
    }

    fn job_ended(&mut self, job: JobId) {
        self.resources.pool.release(job);
        self.release_copies(job);
        self.timers
            .retain(|timer| !matches!(timer, Timer::Job(owner, _) if *owner == job));
        let is_durable = self.is_durable();
        if let Some(master) = self.jobs.get_mut(&job) {
            tracing::info!(%job, name = master.name(), state = master.state_name(), "job ended");
            if is_durable && master.is_over() {
                let failure = master.last_failure().filter(|_| master.state_name() == "FAILED");
                let record = result_record(master.state_name(), failure, master.state_since_ms());
                master.hide_end();
                self.effects.push(Effect::Log(job, Box::new(record), News::End));
            }
        }
        self.ended.push_back(job);
        while self.ended.len() > self.settings.finished_jobs {
            self.forget_oldest();
        }
    }

    /// Tells all TaskManagers, since each may have run a part of it at some time.
    fn release_copies(&mut self, job: JobId) {
        if !self.jobs.get(&job).is_some_and(JobMaster::keeps_local_copies) {
            return;
        }
        for (_, task_manager) in self.resources.registry.iter() {
            let release = ReleaseJob {
                job_id: job.to_string(),
            };
            let release = Box::new(Command::ReleaseJob(release));
            self.effects.push(Effect::Send(task_manager.connection, release));
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.ended.pop_front() {
            self.jobs.remove(&oldest);
            self.changed = true;
            if self.is_durable() {
                self.effects.push(Effect::Forget(oldest));
            }
        }
    }

    fn is_durable(&self) -> bool {
        self.leading == Leading::Durably
    }

    /// Hands free slots to the jobs that wait for them.
    fn grant(&mut self, now_ms: u64) {
        for (job, slots) in self.resources.pool.grant() {
            self.with_job(job, now_ms, |master, now_ms| master.slots_granted(slots, now_ms));
        }
    }

    // ---- time ----

    pub(crate) fn run_timers(&mut self, now_ms: u64) {
        while let Some(timer) = self.timers.pop_due(now_ms) {
            match timer {
                Timer::Heartbeat => self.heartbeat(now_ms),
                Timer::Job(job, timer @ JobTimer::Alignment(_)) => {
                    // Nothing that anybody watches changes by it.
                    let master = self.jobs.get_mut(&job);
                    let actions = master.map_or_else(Vec::new, |master| master.timer(timer, now_ms));
                    self.carry_out(job, actions, now_ms);
                }
                Timer::Job(job, JobTimer::Missing) => self.look_for_missing(job, now_ms),
                Timer::Job(job, timer) => {
                    self.with_job(job, now_ms, |master, now_ms| master.timer(timer, now_ms));
                }
            }
            self.grant(now_ms);
        }
    }

    fn heartbeat(&mut self, now_ms: u64) {
        let timeout_ms = self.settings.heartbeat_timeout.as_millis() as u64;
        for id in self.resources.registry.silent(now_ms, timeout_ms) {
            if let Some(connection) = self.resources.registry.get(&id).map(|silent| silent.connection) {
                self.effects.push(Effect::Close(connection));
            }
            self.lose(
                &id,
                &format!("it was silent for more than {timeout_ms} ms (heartbeat.timeout)"),
                now_ms,
            );
        }
        for (_, task_manager) in self.resources.registry.iter() {
            let request = Box::new(Command::Heartbeat(HeartbeatRequest { sent_at_ms: now_ms }));
            self.effects.push(Effect::Send(task_manager.connection, request));
        }
        self.expire(now_ms);
        self.timers.set(
            now_ms + self.settings.heartbeat_interval.as_millis() as u64,
            Timer::Heartbeat,
        );
    }

    fn expire(&mut self, now_ms: u64) {
        let age_ms = self.settings.finished_expiration.as_millis() as u64;
        let expired = |dispatcher: &Self| {
            let oldest = dispatcher.ended.front().and_then(|job| dispatcher.jobs.get(job));
            oldest.is_some_and(|master| !master.is_application() && master.state_since_ms() + age_ms < now_ms)
        };
        while expired(self) {
            self.forget_oldest();
        }
    }
}

#[cfg(test)]
mod tests;
