//! The high-availability logs on storage that the simulation answers for.
//!
//! ```text
//!   take_over, append, release --task--> JobLogs, RecordLog (real) --Port--> Ask .. Answered --> the task goes on --> Finished
//! ```

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use thalweg_proto::ha::v1::{Leader, Record, record::Content};
use thalweg_storage::StorageError;
use thalweg_types::JobId;
use thalweg_types::config::Configuration;

use super::Store;
use crate::control_plane::Clock;
use crate::dispatcher::Submission;
use crate::high_availability::{
    AppendError, Fence, JobHistory, JobLogs, LogError, RecordLog, RecordStore, Writer, record, submitted_of,
};
use crate::job_master::News;

/// Turns of the runtime in which everything that can go on does.
const TURNS: usize = 8;
const FOR_EVER: Duration = Duration::from_secs(1 << 40);

/// A request to storage, by paths below the high-availability folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Files below a folder.
    List(String),
    /// A file.
    Read(String),
    /// A file, unless it is there.
    Create(String, Bytes),
    /// Files.
    Delete(Vec<String>),
}

/// Its answer. What passes is asked again by whoever answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answered {
    /// By paths relative to the folder.
    Files(Vec<String>),
    /// Of a file.
    Content(Bytes),
    /// It is done.
    Done,
    /// The file is there.
    Exists,
    /// It is not.
    Missing,
}

/// What a job's log says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Logged {
    /// Folders of the checkpoints that it counts on, oldest first.
    pub checkpoints: Vec<String>,
    /// Whether the last of them is none of its own.
    pub newest_is_foreign: bool,
    /// The highest number of a checkpoint.
    pub highest_checkpoint: u64,
    /// Somebody wants it canceled.
    pub cancel: bool,
    /// It is over.
    pub ended: bool,
}

impl Logged {
    pub(super) fn of(history: &JobHistory) -> Self {
        let newest = history.newest();
        let folders = history.earlier().chain(newest.map(|(newest, _)| newest));
        Self {
            checkpoints: folders.map(|completed| completed.folder.clone()).collect(),
            newest_is_foreign: newest.is_some_and(|(_, own)| !own),
            highest_checkpoint: history.highest_checkpoint_id,
            cancel: history.cancel_requested,
            ended: history.result.is_some(),
        }
    }
}

/// The record that lies at a path below the high-availability folder.
pub fn decode(path: &str, bytes: &[u8]) -> Option<Record> {
    let mut parts = path.rsplit('/');
    let number = parts.next()?.parse().ok()?;
    record::decode(bytes, parts.next()?, number).ok()
}

/// What came of it.
pub(super) enum Finished {
    Claimed(Option<u64>),
    TakenOver(JobId, Option<Box<JobHistory>>),
    Unusable(JobId, String),
    Begun(JobId, Box<Submission>),
    Recorded(JobId, u64, bool),
    Released(JobId, Store),
    Confirmed(JobId),
    Canceled(JobId),
    Logged(JobId, News),
}

#[derive(Default)]
struct Requests {
    next: u64,
    asks: Vec<(u64, Ask)>,
    answers: HashMap<u64, Answered>,
    waiting: HashMap<u64, Waker>,
}

#[derive(Default)]
struct Port(Mutex<Requests>);

impl Port {
    fn lock(&self) -> std::sync::MutexGuard<'_, Requests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, ask: Ask) -> Answered {
        let ticket = {
            let mut requests = self.lock();
            requests.next += 1;
            let ticket = requests.next;
            requests.asks.push((ticket, ask));
            ticket
        };
        std::future::poll_fn(|context| {
            let mut requests = self.lock();
            if let Some(answered) = requests.answers.remove(&ticket) {
                return Poll::Ready(answered);
            }
            requests.waiting.insert(ticket, context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

#[tonic::async_trait]
impl RecordStore for Port {
    fn uri(&self) -> String {
        "simulated://".to_owned()
    }

    async fn list(&self, folder: &str) -> Result<Vec<String>, StorageError> {
        match self.ask(Ask::List(folder.to_owned())).await {
            Answered::Files(files) => Ok(files),
            _ => Ok(Vec::new()),
        }
    }

    async fn read(&self, path: &str) -> Result<Bytes, StorageError> {
        match self.ask(Ask::Read(path.to_owned())).await {
            Answered::Content(content) => Ok(content),
            _ => Err(StorageError::NotFound { uri: path.to_owned() }),
        }
    }

    async fn write_new(&self, path: &str, content: Bytes) -> Result<(), StorageError> {
        match self.ask(Ask::Create(path.to_owned(), content)).await {
            Answered::Exists => Err(StorageError::AlreadyExists { uri: path.to_owned() }),
            _ => Ok(()),
        }
    }

    async fn delete(&self, paths: &[String]) -> Result<(), StorageError> {
        self.ask(Ask::Delete(paths.to_vec())).await;
        Ok(())
    }
}

/// One process's end of the logs.
pub(super) struct Durable {
    port: Arc<Port>,
    logs: JobLogs,
    fence: Fence,
    writer: Arc<Mutex<Writer>>,
    finished: Arc<Mutex<Vec<Finished>>>,
    /// Something may go on.
    stirred: Cell<bool>,
    /// Dropped last: its tasks use the rest.
    runtime: Option<tokio::runtime::Runtime>,
}

impl Durable {
    pub(super) fn new(instance: &str) -> Self {
        let port = Arc::new(Port::default());
        let fence = Fence::default();
        let writer = Writer {
            instance: instance.to_owned(),
            epoch: 0,
        };
        Self {
            logs: JobLogs::new(port.clone(), fence.clone(), Clock::start(), FOR_EVER),
            port,
            fence,
            writer: Arc::new(Mutex::new(writer)),
            finished: Arc::default(),
            stirred: Cell::new(false),
            runtime: tokio::runtime::Builder::new_current_thread().build().ok(),
        }
    }

    fn writer(&self) -> Writer {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.clone()
    }

    fn spawn(&self, work: impl Future<Output = Option<Finished>> + Send + 'static) {
        self.stirred.set(true);
        let finished = self.finished.clone();
        if let Some(runtime) = &self.runtime {
            runtime.spawn(async move {
                if let Some(news) = work.await {
                    finished.lock().unwrap_or_else(PoisonError::into_inner).push(news);
                }
            });
        }
    }

    /// Lets everything go on that can; what came to its end.
    pub(super) fn go_on(&mut self) -> Vec<Finished> {
        if let Some(runtime) = self.runtime.as_ref().filter(|_| self.stirred.take()) {
            runtime.block_on(async {
                for _ in 0..TURNS {
                    tokio::task::yield_now().await;
                }
            });
        }
        std::mem::take(&mut *self.finished.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn take_asks(&self) -> Vec<(u64, Ask)> {
        std::mem::take(&mut self.port.lock().asks)
    }

    pub(super) fn answer(&self, ticket: u64, answered: Answered) {
        self.stirred.set(true);
        let mut requests = self.port.lock();
        requests.answers.insert(ticket, answered);
        if let Some(waker) = requests.waiting.remove(&ticket) {
            waker.wake();
        }
    }

    /// Why it leads no longer.
    pub(super) fn fenced(&self) -> Option<String> {
        self.fence.is_raised().then(|| "its fence is raised".to_owned())
    }

    // ---- leader/ ----

    pub(super) fn claim(&self) {
        let leaders = RecordLog::of_leaders(self.port.clone());
        let shared = self.writer.clone();
        let mut writer = self.writer();
        self.spawn(async move {
            let epoch = leaders.newest().await.ok()? + 1;
            writer.epoch = epoch;
            let content = Content::Leader(Leader::default());
            let won = leaders.append(&writer, epoch, epoch, content, 0).await.is_ok();
            if won {
                *shared.lock().unwrap_or_else(PoisonError::into_inner) = writer;
            }
            Some(Finished::Claimed(won.then_some(epoch)))
        });
    }

    pub(super) fn look(&self) {
        let leaders = RecordLog::of_leaders(self.port.clone());
        let (fence, epoch) = (self.fence.clone(), self.writer().epoch);
        self.spawn(async move {
            let newest = leaders.newest().await.ok()?;
            if newest > epoch {
                fence.raise(format!("epoch {newest} leads"));
            }
            None
        });
    }

    // ---- jobs/ ----

    pub(super) fn take_over(&self, job: JobId) {
        let (logs, writer) = (self.logs.clone(), self.writer());
        let log = RecordLog::of_job(self.port.clone(), &job.to_string());
        self.spawn(async move {
            if log.newest().await.ok()? == 0 {
                return Some(Finished::TakenOver(job, None));
            }
            let history = match logs.take_over(&writer, job).await {
                Ok(history) => history,
                // Its fence tells.
                Err(LogError::Superseded { .. }) => return None,
                Err(error) => return Some(Finished::Unusable(job, error.to_string())),
            };
            Some(Finished::TakenOver(job, Some(Box::new(history))))
        });
    }

    pub(super) fn begin(&self, submission: Submission, cluster: &Configuration) {
        let submitted = submitted_of(&submission, cluster);
        let (logs, writer, job) = (self.logs.clone(), self.writer(), submission.job_id);
        self.spawn(async move {
            match logs.begin(&writer, job, submitted).await {
                Ok(()) => Some(Finished::Begun(job, Box::new(submission))),
                Err(AppendError::Fenced) => None,
                Err(error) => Some(Finished::Unusable(job, error.to_string())),
            }
        });
    }

    pub(super) fn completed(&self, job: JobId, id: u64, record: Content) {
        let appended = self.logs.append(job, record);
        self.spawn(async move {
            let recorded = appended.await.ok()?.is_ok();
            Some(Finished::Recorded(job, id, recorded))
        });
    }

    pub(super) fn log(&self, job: JobId, content: Content, news: News) {
        let appended = self.logs.append(job, content);
        self.spawn(async move {
            appended.await.ok()?.ok()?;
            Some(Finished::Logged(job, news))
        });
    }

    pub(super) fn cancel(&self, job: JobId, content: Content) {
        let appended = self.logs.append(job, content);
        self.spawn(async move {
            appended.await.ok()?.ok()?;
            Some(Finished::Canceled(job))
        });
    }

    pub(super) fn release(&self, job: JobId, folders: Vec<String>, store: Store) {
        let released = self.logs.release(job, folders);
        self.spawn(async move {
            released.await.ok()?;
            Some(Finished::Released(job, store))
        });
    }

    pub(super) fn confirm(&self, job: JobId) {
        let released = self.logs.release(job, Vec::new());
        self.spawn(async move {
            released.await.ok()?;
            Some(Finished::Confirmed(job))
        });
    }

    pub(super) fn forget(&self, job: JobId) {
        self.stirred.set(true);
        self.logs.forget(job);
    }
}

impl Drop for Durable {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
