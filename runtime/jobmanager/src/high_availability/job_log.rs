//! The leader's hand on the jobs' logs: a task a job does what is asked of its log in the order in which it was asked.
//!
//! ```text
//!   append(record) ----\                   write_new(n)  --done--> what waits for it goes on: a job starts, tasks are notified
//!   release(folder) ----> [one task a job] --somebody else wrote n--> Fence: nothing more is commanded, the process ends
//!   forget -------------/                   every 64 records: Base, and what is before it is deleted
//! ```
//!
//! Invariants: what is told to anybody is in the log before; nothing that the log counts on is deleted, and nothing at all by a
//! leader that has a successor; an append that fails in passing (storage is away, or full) is tried again until
//! `thalweg.high-availability.log-timeout`, then leadership is given up. A record counts once `leader/` has been seen without a
//! successor after it: what was deleted behind a base could be made again.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use thalweg_proto::ha::v1::record::Content;
use thalweg_proto::ha::v1::{CheckpointDiscarded, Submitted};
use thalweg_types::{Failure, FailureClass, JobId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::fence::Fence;
use super::history::JobHistory;
use super::log::{LogError, RecordLog, RecordStore, Writer};
use crate::control_plane::Clock;

/// Requests that wait for one log. More means that storage has not answered for long.
const QUEUE: usize = 1024;
/// Records between two bases.
const BASE_EVERY: usize = 64;
/// Folders of a job that were let go and that an append under way might still name.
const RELEASED: usize = 256;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Why a record is not in the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AppendError {
    /// This JobManager leads no longer.
    #[error("this JobManager leads no longer")]
    Fenced,
    /// The checkpoint was given up meanwhile.
    #[error("the checkpoint was given up while it was being recorded")]
    GivenUp,
    /// There is a log of this job.
    #[error("there is a job {0} already, in the high-availability log")]
    Exists(JobId),
    /// Nothing was tried: the log can't be looked at.
    #[error("the high-availability log can't be looked at: {0}")]
    Unknown(String),
}

impl From<AppendError> for Failure {
    fn from(error: AppendError) -> Self {
        let class = match error {
            AppendError::Exists(_) => FailureClass::Fatal,
            AppendError::Fenced | AppendError::GivenUp | AppendError::Unknown(_) => FailureClass::Retryable,
        };
        Self::new(class, error.to_string())
    }
}

enum Work {
    Append(Box<Content>, oneshot::Sender<Result<(), AppendError>>),
    Release(Vec<String>, oneshot::Sender<()>),
    Forget,
}

/// All logs that this leader writes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct JobLogs {
    store: Arc<dyn RecordStore>,
    fence: Fence,
    clock: Clock,
    retry_for: Duration,
    logs: Arc<Mutex<HashMap<JobId, mpsc::Sender<Work>>>>,
}

impl JobLogs {
    pub(crate) fn new(store: Arc<dyn RecordStore>, fence: Fence, clock: Clock, retry_for: Duration) -> Self {
        Self {
            store,
            fence,
            clock,
            retry_for,
            logs: Arc::default(),
        }
    }

    /// Begins a job's log; nothing of the job may happen before this.
    pub(crate) async fn begin(
        &self,
        writer: &Writer,
        job: JobId,
        submitted: Submitted,
    ) -> Result<(), AppendError> {
        let log = RecordLog::of_job(self.store.clone(), &job.to_string());
        let mut tail = Tail {
            leaders: RecordLog::of_leaders(self.store.clone()),
            log,
            writer: writer.clone(),
            fence: self.fence.clone(),
            clock: self.clock,
            retry_for: self.retry_for,
            next: 1,
            since_base: 1,
            history: JobHistory::new(submitted.clone()),
            released: VecDeque::new(),
            gone: BTreeSet::new(),
        };
        match tail.log.newest().await {
            Ok(0) => {}
            Ok(newest) => return Err(tail.exists(job, newest).await),
            Err(error) => return Err(AppendError::Unknown(error.to_string())),
        }
        tail.append(Content::Submitted(submitted)).await?;
        self.adopt(job, tail);
        Ok(())
    }

    /// Takes over a job's log: fences whoever wrote it, then reads it.
    pub(crate) async fn take_over(&self, writer: &Writer, job: JobId) -> Result<JobHistory, LogError> {
        let log = RecordLog::of_job(self.store.clone(), &job.to_string());
        let taken = || Content::LeadershipTaken(thalweg_proto::ha::v1::LeadershipTaken {});
        let newest = loop {
            let next = log.newest().await? + 1;
            // Whoever comes late must not fence its own successor.
            if next > 1
                && let Some(later) = Some(log.read(next - 1).await?).filter(|last| last.epoch > writer.epoch)
            {
                let (path, epoch, instance) = (log.uri_of(next - 1), later.epoch, later.instance);
                let error = LogError::Superseded {
                    path,
                    epoch,
                    instance,
                };
                self.fence.raise(error.to_string());
                return Err(error);
            }
            let nonce = rand::random();
            match log
                .append(writer, next, nonce, taken(), self.clock.now_ms())
                .await
            {
                Ok(()) => break next,
                // The leader before this one still appends.
                Err(LogError::Superseded { epoch, .. }) if epoch < writer.epoch => {}
                Err(error) => {
                    if let LogError::Superseded { .. } = &error {
                        self.fence.raise(error.to_string());
                    }
                    return Err(error);
                }
            }
        };
        let records = log.load(newest).await?;
        let since_base = records.len();
        let history = JobHistory::fold(records);
        let history = history.ok_or_else(|| LogError::NoBegin { path: log.uri_of(1) })?;
        let tail = Tail {
            leaders: RecordLog::of_leaders(self.store.clone()),
            log,
            writer: writer.clone(),
            fence: self.fence.clone(),
            clock: self.clock,
            retry_for: self.retry_for,
            next: newest + 1,
            since_base,
            history: history.clone(),
            released: VecDeque::new(),
            gone: BTreeSet::new(),
        };
        self.adopt(job, tail);
        Ok(history)
    }

    fn adopt(&self, job: JobId, tail: Tail) {
        let (work, requests) = mpsc::channel(QUEUE);
        tokio::spawn(tail.run(requests));
        self.lock().insert(job, work);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<JobId, mpsc::Sender<Work>>> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a record in its turn, at once; the answer comes when it is in the log, or won't be.
    pub(crate) fn append(&self, job: JobId, content: Content) -> oneshot::Receiver<Result<(), AppendError>> {
        let (done, answer) = oneshot::channel();
        self.ask(job, Work::Append(Box::new(content), done));
        answer
    }

    /// Asks that these folders may be deleted, at once; the answer comes when the log counts on none of them, or never.
    pub(crate) fn release(&self, job: JobId, folders: Vec<String>) -> oneshot::Receiver<()> {
        let (done, answer) = oneshot::channel();
        self.ask(job, Work::Release(folders, done));
        answer
    }

    /// Leaves a log as it is.
    pub(crate) fn leave(&self, job: JobId) {
        self.lock().remove(&job);
    }

    /// Leaves all logs as they are.
    pub(crate) fn leave_all(&self) {
        self.lock().clear();
    }

    /// Deletes a log.
    pub(crate) fn forget(&self, job: JobId) {
        self.ask(job, Work::Forget);
        self.lock().remove(&job);
    }

    /// A dropped request is answered by the end of its channel.
    fn ask(&self, job: JobId, work: Work) {
        let sent = self.lock().get(&job).map(|log| log.try_send(work));
        if let Some(Err(mpsc::error::TrySendError::Full(_))) = sent {
            self.fence.raise(format!(
                "leadership is given up: {QUEUE} records wait for the log of job {job} in {}",
                self.store.uri()
            ));
        }
    }
}

/// One job's log from its newest record on.
struct Tail {
    log: RecordLog,
    leaders: RecordLog,
    writer: Writer,
    fence: Fence,
    clock: Clock,
    retry_for: Duration,
    next: u64,
    since_base: usize,
    history: JobHistory,
    released: VecDeque<String>,
    /// Checkpoints of the history whose folders may be deleted by now.
    gone: BTreeSet<u64>,
}

impl Tail {
    async fn run(mut self, mut requests: mpsc::Receiver<Work>) {
        while let Some(work) = requests.recv().await {
            let done = match work {
                Work::Append(content, done) => {
                    let result = match self.names_released(&content) {
                        true => Err(AppendError::GivenUp),
                        false => self.append(*content).await,
                    };
                    let fenced = result == Err(AppendError::Fenced);
                    done.send(result).ok();
                    !fenced && self.compact().await
                }
                Work::Release(folders, done) => {
                    let released = self.release(folders).await;
                    if released {
                        done.send(()).ok();
                    }
                    released
                }
                Work::Forget => {
                    self.forget().await;
                    false
                }
            };
            if !done {
                return;
            }
        }
    }

    /// There is a log already. If no record of it is this leader's, another one began it after this one had looked for jobs to
    /// recover: the next leader finds it.
    async fn exists(&self, job: JobId, newest: u64) -> AppendError {
        match self.log.read(newest).await {
            Ok(last) if last.epoch != self.writer.epoch => {
                self.fence.raise(format!(
                    "leadership is given up: {} of epoch {} was not there when the jobs were recovered",
                    self.log.uri_of(newest),
                    last.epoch
                ));
                AppendError::Fenced
            }
            Ok(_) | Err(_) => AppendError::Exists(job),
        }
    }

    /// Until it is there, somebody else's is, or the time is up. Only [`AppendError::Fenced`] comes out of it, or
    /// [`AppendError::Exists`] at the begin of a log.
    async fn append(&mut self, content: Content) -> Result<(), AppendError> {
        let nonce = rand::random();
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            if self.fence.is_raised() {
                return Err(AppendError::Fenced);
            }
            let now_ms = self.clock.now_ms();
            let appended = self
                .log
                .append(&self.writer, self.next, nonce, content.clone(), now_ms);
            // A number may be free again because a successor took it, and deleted it behind a base of its own.
            let confirmed = match appended.await {
                Ok(()) => self.successor().await,
                Err(error) => Err(error),
            };
            let error = match confirmed {
                Ok(None) => {
                    self.next += 1;
                    self.since_base += 1;
                    self.history.apply(content);
                    return Ok(());
                }
                Ok(Some(epoch)) => {
                    self.superseded_by(epoch);
                    return Err(AppendError::Fenced);
                }
                Err(LogError::Storage(error)) => error,
                Err(error) => {
                    self.fence
                        .raise(format!("this JobManager leads no longer: {error}"));
                    return Err(AppendError::Fenced);
                }
            };
            // A full disk may be cleared, rights may be given.
            if begun.elapsed() >= self.retry_for {
                self.fence.raise(format!(
                    "leadership is given up: nothing could be appended to the job's log for {:?} \
                     (thalweg.high-availability.log-timeout): {error}",
                    self.retry_for
                ));
                return Err(AppendError::Fenced);
            }
            tracing::warn!(%error, "a record can't be appended to the job's log yet, trying again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Whether it is about a checkpoint whose folder is being deleted.
    fn names_released(&self, content: &Content) -> bool {
        let Content::CheckpointCompleted(completed) = content else {
            return false;
        };
        self.released.contains(&completed.folder)
    }

    /// Whether the folders may be deleted: after this the log counts on none of them, and this JobManager still leads.
    async fn release(&mut self, folders: Vec<String>) -> bool {
        for folder in folders {
            self.gone.extend(self.history.counts_on(&folder));
            if !self.has_ended() && !self.discard().await {
                return false;
            }
            if self.released.len() == RELEASED {
                self.released.pop_front();
            }
            self.released.push_back(folder);
        }
        self.still_leads().await
    }

    fn has_ended(&self) -> bool {
        self.history.result.is_some()
    }

    /// If what the log would go on from was given up, it and all that were before it say so, the oldest first: at no time is the newest
    /// one of the log one that is gone.
    async fn discard(&mut self) -> bool {
        let newest = |history: &JobHistory| history.newest().map(|(newest, _)| newest.checkpoint_id);
        if !newest(&self.history).is_some_and(|newest| self.gone.contains(&newest)) {
            return true;
        }
        let known = self.history.retained.iter().chain(&self.history.foreign);
        let mut known: Vec<u64> = known.map(|completed| completed.checkpoint_id).collect();
        known.sort_unstable();
        let left = known.iter().rposition(|id| !self.gone.contains(id));
        for checkpoint_id in known.split_off(left.map_or(0, |left| left + 1)) {
            let discarded = Content::CheckpointDiscarded(CheckpointDiscarded { checkpoint_id });
            if self.append(discarded).await.is_err() {
                return false;
            }
        }
        true
    }

    /// The newest leader's epoch, if that is another one.
    async fn successor(&self) -> Result<Option<u64>, LogError> {
        let newest = self.leaders.newest().await?;
        Ok((newest > self.writer.epoch).then_some(newest))
    }

    fn superseded_by(&self, epoch: u64) {
        let path = self.leaders.uri_of(epoch);
        self.fence
            .raise(format!("this JobManager leads no longer: {path} is there"));
    }

    async fn still_leads(&self) -> bool {
        let mut pause = FIRST_PAUSE;
        while !self.fence.is_raised() {
            match self.successor().await {
                Ok(None) => return true,
                Ok(Some(epoch)) => self.superseded_by(epoch),
                Err(error) => {
                    tracing::warn!(%error, "nothing is deleted before it is known who leads");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
        false
    }

    /// Whether the log can be gone on with.
    async fn compact(&mut self) -> bool {
        if self.since_base < BASE_EVERY {
            return true;
        }
        self.since_base = 0;
        self.history.forget(&self.gone);
        self.gone.clear();
        let base = self.next;
        if self.append(Content::Base(self.history.to_base())).await.is_err() {
            return false;
        }
        if let Err(error) = self.log.delete_before(base).await {
            tracing::warn!(%error, "old records stay");
        }
        true
    }

    /// The newest record goes last: what is left at any time says how the job ended.
    async fn forget(&mut self) {
        let base = self.next;
        if self.append(Content::Base(self.history.to_base())).await.is_err() || !self.still_leads().await {
            return;
        }
        for number in [base, base + 1] {
            if let Err(error) = self.log.delete_before(number).await {
                return tracing::warn!(%error, "the log of a job that is over stays");
            }
        }
    }
}

#[cfg(test)]
mod tests;
