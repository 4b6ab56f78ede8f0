//! A leader for `thalweg-sim` alone: events, storage's answers and the time in, what is to be sent and stored out, nothing done.
//!
//! ```text
//!   messages of TaskManagers, now --> Leader: Dispatcher, JobMasters --Output--> network, storage
//!   storage's answers --------------> Durable: leader/ and the jobs' logs --Ask--> storage
//! ```
//!
//! These are the Dispatcher and the high-availability logs as the shell of this crate uses them, without packages and programs: a
//! job comes as its graph. The logs are asynchronous code: it runs on a runtime without clock or I/O until it waits for storage.

mod durable;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use thalweg_proto::cluster::v1::JobStatus;
use thalweg_proto::control::v1::{JobManagerCommand, RegisterTaskManager, TaskManagerMessage};
use thalweg_proto::graph::v1::StreamGraph;
use thalweg_proto::ha::v1::{CancelRequested, record::Content};
use thalweg_proto::state::v1::SnapshotMetadata;
use thalweg_storage::FileSystems;
use thalweg_types::config::{ClaimMode, ConfigError, Configuration};
use thalweg_types::{Failure, FailureClass, JobId};
use tokio::sync::oneshot;

use crate::config::Settings;
use crate::dispatcher::{Begin, Dispatcher, Effect, RestoredState, Submission};
use crate::extraction::ExtractedJob;
use crate::high_availability::{JobHistory, RecoveredJob, completed_record, operations_of};
use crate::job_master::{Operation, OperationKind, Recovered, SnapshotRequest};
use crate::package::{Entry, EntryKind, Manifest, Package};
use crate::resource_manager::ConnectionId;
use crate::snapshot::StoredSnapshot;
use crate::storage_work::{StorageOutcome, StorageRequest};

pub use durable::{Answered, Ask, Logged, decode};
use durable::{Durable, Finished};

/// A job as it would be extracted.
#[derive(Debug, Clone)]
pub struct Job {
    /// The same wherever it runs.
    pub id: JobId,
    /// What its program builds.
    pub graph: StreamGraph,
}

/// What was found of a job in storage.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Its completed checkpoints by their folders, oldest first.
    pub checkpoints: Vec<(String, SnapshotMetadata)>,
    /// Whether the newest is none of its own: the savepoint that it was started from, or that was to stop it.
    pub newest_is_foreign: bool,
    /// The highest number of a checkpoint that anything was seen of.
    pub highest_checkpoint: u64,
}

/// A snapshot that somebody asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// A savepoint.
    Savepoint,
    /// The end of the job behind one.
    Stop {
        /// Event time runs to its end first.
        drain: bool,
    },
}

/// How an operation ended, as it is told: the folder of what it made, or why it made nothing.
pub type OperationEnd = Result<String, String>;

/// Something to do, or to know.
#[derive(Debug)]
pub enum Output {
    /// Over a connection to a TaskManager.
    Send(u64, Box<JobManagerCommand>),
    /// No more to say on this connection.
    Close(u64),
    /// In storage; metadata is answered by [`Leader::metadata_stored`].
    Store(JobId, Store),
    /// Of storage, for a log; answered by [`Leader::answer`].
    Ask(u64, Ask),
    /// It leads with this epoch; else another was quicker.
    Claimed(Option<u64>),
    /// A job's log is this leader's; what it says, or nothing if there is none.
    TakenOver(JobId, Option<Logged>),
    /// A job began: its submission is in its log.
    Begun(JobId),
    /// A checkpoint is in the job's log, or is not going to be.
    Recorded(JobId, u64, bool),
    /// A job's log can't be used.
    Unusable(JobId, String),
    /// It leads no longer: its process ends.
    Superseded(String),
}

/// The operation that a snapshot is made for, if there is one.
#[derive(Debug, Clone)]
pub struct Asked(Option<Box<Operation>>);

/// Something to do in storage.
#[derive(Debug, Clone)]
pub enum Store {
    /// Makes a folder a checkpoint.
    WriteMetadata {
        /// Its number.
        checkpoint_id: u64,
        /// As a URI.
        folder: String,
        /// A file to write the folder's URI into; of a savepoint that is to stop the job.
        pointer: Option<String>,
        /// Its content.
        metadata: Arc<SnapshotMetadata>,
        /// Who asked for it; for [`Leader::metadata_stored`].
        asked: Asked,
    },
    /// By their URIs.
    DeleteFiles(Vec<String>),
    /// By its URI.
    DeleteFolder(String),
    /// All files below a folder but these.
    Sweep {
        /// As a URI.
        folder: String,
        /// As URIs.
        keep: Vec<String>,
    },
}

/// A JobManager that stands by or leads.
pub struct Leader {
    dispatcher: Dispatcher,
    configuration: Configuration,
    durable: Durable,
    outputs: Vec<Output>,
    /// Of the jobs whose logs it took over.
    histories: HashMap<JobId, JobHistory>,
    tells_at_once: bool,
}

impl Leader {
    /// One that stands by, with the cluster's configuration, which is each job's too.
    ///
    /// # Errors
    /// A malformed value, by its key.
    pub fn standby(
        instance: &str,
        configuration: &BTreeMap<String, String>,
        now_ms: u64,
    ) -> Result<Self, ConfigError> {
        let configuration = Configuration::from_map(configuration.clone());
        let settings = Arc::new(Settings::read(&configuration)?);
        Ok(Self {
            dispatcher: Dispatcher::standby(settings, now_ms),
            configuration,
            durable: Durable::new(instance),
            outputs: Vec::new(),
            histories: HashMap::new(),
            tells_at_once: false,
        })
    }

    /// A mistake: what has ended is told before the log has it.
    pub fn tell_at_once(&mut self) {
        self.tells_at_once = true;
    }

    /// What it leads with; 0 = it does not.
    pub fn epoch(&self) -> u64 {
        self.dispatcher.epoch()
    }

    // ---- leadership and logs ----

    /// Tries to take the next number in `leader/`.
    pub fn claim(&mut self) {
        self.durable.claim();
    }

    /// Looks whether it has a successor.
    pub fn look(&mut self) {
        self.durable.look();
    }

    /// Makes a job's log its own.
    pub fn take_over(&mut self, job: JobId) {
        self.durable.take_over(job);
    }

    /// Storage answered for a log.
    pub fn answer(&mut self, ticket: u64, answered: Answered, now_ms: u64) {
        self.durable.answer(ticket, answered);
        self.go_on(now_ms);
    }

    fn go_on(&mut self, now_ms: u64) {
        for finished in self.durable.go_on() {
            match finished {
                Finished::Claimed(epoch) => {
                    if let Some(epoch) = epoch {
                        self.dispatcher.lead(epoch);
                    }
                    self.outputs.push(Output::Claimed(epoch));
                }
                Finished::TakenOver(job, history) => {
                    let logged = history.as_deref().map(Logged::of);
                    self.histories.extend(history.map(|history| (job, *history)));
                    self.outputs.push(Output::TakenOver(job, logged));
                }
                Finished::Logged(job, news) => self.dispatcher.logged(job, &news),
                Finished::Unusable(job, why) => self.outputs.push(Output::Unusable(job, why)),
                Finished::Begun(job, submission) => {
                    self.start(*submission, now_ms);
                    self.outputs.push(Output::Begun(job));
                }
                Finished::Recorded(job, id, recorded) => {
                    self.outputs.push(Output::Recorded(job, id, recorded));
                }
                Finished::Released(job, store) => self.outputs.push(Output::Store(job, store)),
                Finished::Confirmed(job) => {
                    self.dispatcher
                        .storage_done(job, StorageOutcome::Confirmed, now_ms);
                }
                Finished::Canceled(job) => {
                    self.dispatcher.cancel(job, now_ms);
                }
            }
        }
    }

    // ---- jobs ----

    /// Submits a job: first into its log, then it starts, from what was found if that is anything.
    ///
    /// # Errors
    /// It can't run as it is.
    pub fn submit(&mut self, job: &Job, found: Found, now_ms: u64) -> Result<(), Failure> {
        let submission = self.submission(job, found, now_ms)?;
        self.durable.begin(submission, &self.configuration);
        Ok(())
    }

    fn start(&mut self, submission: Submission, now_ms: u64) {
        let (answer, _) = oneshot::channel();
        if let Begin::Proceed(ticket) = self.dispatcher.begin_submission("", answer) {
            self.dispatcher
                .submitted(ticket, Ok(Box::new(submission)), now_ms);
        }
    }

    /// A job of the log goes on, from the newest checkpoint if there is one. Its package is still on its way.
    ///
    /// # Errors
    /// It can't run as it is.
    pub fn recovered(&mut self, job: &Job, found: Found, cancel: bool, now_ms: u64) -> Result<(), Failure> {
        let submission = self.submission(job, found, now_ms)?;
        let submission = Box::new(Submission {
            package: None,
            package_follows: true,
            ..submission
        });
        let history = self.histories.get(&job.id);
        let recovered = RecoveredJob::Unfinished {
            submission,
            recovered: Recovered {
                started_ms: now_ms,
                stop_given_up: history.and_then(JobHistory::stop_given_up),
                begun: history.map(JobHistory::begun).unwrap_or_default(),
            },
            cancel,
        };
        self.dispatcher.recovered(recovered, now_ms);
        Ok(())
    }

    /// The package of a job that was recovered is here.
    pub fn package_is_here(&mut self, job: &Job, now_ms: u64) {
        let package = Arc::new(Package::without_files(manifest(&job.graph.job_name)));
        self.dispatcher.package_fetched(job.id, Ok(package), now_ms);
    }

    /// A job whose log has its result is shown as it ended.
    ///
    /// # Errors
    /// It can't be shown.
    pub fn ended(&mut self, job: &Job, now_ms: u64) -> Result<(), Failure> {
        let submission = Box::new(self.submission(job, Found::default(), now_ms)?);
        let history = self.histories.get(&job.id);
        let result = history.and_then(|history| history.result.as_ref());
        let state = result.map(|result| result.state.clone()).unwrap_or_default();
        let logged = history.and_then(JobHistory::logged_end);
        let ended = RecoveredJob::Ended {
            submission,
            state,
            failure: None,
            started_ms: now_ms,
            ended_ms: now_ms,
            logged,
        };
        self.dispatcher.recovered(ended, now_ms);
        Ok(())
    }

    /// Asks for a snapshot; the same id again is the same operation. Nothing if there is no such job.
    pub fn ask_for(
        &mut self,
        job: JobId,
        operation_id: &str,
        wish: Wish,
        directory: &str,
        now_ms: u64,
    ) -> Option<Result<(), Failure>> {
        let request = SnapshotRequest {
            operation_id: operation_id.to_owned(),
            kind: match wish {
                Wish::Savepoint => OperationKind::Savepoint,
                Wish::Stop { .. } => OperationKind::Stop,
            },
            target: Some(directory.to_owned()),
            drain: wish == Wish::Stop { drain: true },
            full: true,
        };
        let begun = self.dispatcher.trigger_snapshot(job, request, now_ms)?;
        Some(begun.map(drop))
    }

    /// How an operation is doing; `None`: it is not known here, or there is no such job.
    pub fn operation(&self, job: JobId, operation_id: &str) -> Option<Option<OperationEnd>> {
        let operation = self.dispatcher.job(job)?.operation(operation_id)?;
        Some(operation.end.as_ref().map(|(_, end)| match end {
            Ok(made) => Ok(made.path.clone()),
            Err(failure) => Err(failure.message.clone()),
        }))
    }

    /// All jobs of the logs are here.
    pub fn all_recovered(&mut self, now_ms: u64) {
        self.dispatcher.all_recovered(now_ms);
    }

    fn submission(&self, job: &Job, found: Found, now_ms: u64) -> Result<Submission, Failure> {
        let configuration = self.configuration.clone();
        let job_graph = thalweg_graph::job_graph(&job.graph, job.id, &configuration)
            .map_err(|error| Failure::from_error(&error))?;
        let mut checkpoints: Vec<_> = found.checkpoints.into_iter().map(stored).collect();
        let restored = checkpoints.pop().map(|snapshot| RestoredState {
            snapshot,
            claim_mode: match found.newest_is_foreign {
                true => ClaimMode::NoClaim,
                false => ClaimMode::Claim,
            },
            earlier: checkpoints,
        });
        let history = self.histories.get(&job.id);
        let operations = history.map_or_else(Vec::new, operations_of);
        Ok(Submission {
            job_id: job.id,
            operation_id: String::new(),
            is_application: false,
            package: Some(Arc::new(Package::without_files(manifest(&job.graph.job_name)))),
            package_follows: false,
            submitted_ms: history.map_or(now_ms, |history| history.submitted.submitted_ms),
            extracted: ExtractedJob {
                fingerprint: thalweg_graph::fingerprint(&job.graph),
                stream_graph: job.graph.clone(),
                arguments: Vec::new(),
                environment: BTreeMap::new(),
                api_version: String::new(),
            },
            job_graph,
            file_systems: FileSystems::new(configuration.clone()),
            configuration,
            restored,
            earlier_checkpoint: (found.highest_checkpoint > 0).then_some(found.highest_checkpoint),
            earlier_files: Vec::new(),
            recoverable: true,
            operations,
        })
    }

    /// Ends a job: first in its log.
    pub fn cancel(&mut self, job: JobId, now_ms: u64) {
        self.durable
            .cancel(job, Content::CancelRequested(CancelRequested {}));
        self.go_on(now_ms);
    }

    /// As the operator sees it.
    pub fn status(&self, job: JobId) -> Option<JobStatus> {
        self.dispatcher.job_status(job)
    }

    // ---- TaskManagers and time ----

    /// A TaskManager's first message.
    pub fn connected(&mut self, connection: u64, register: &RegisterTaskManager, epoch: u64, now_ms: u64) {
        self.dispatcher
            .connected(ConnectionId(connection), register, epoch, now_ms);
    }

    /// A later one.
    pub fn message(&mut self, connection: u64, message: TaskManagerMessage, now_ms: u64) {
        self.dispatcher.message(ConnectionId(connection), message, now_ms);
    }

    /// Its stream is gone.
    pub fn disconnected(&mut self, connection: u64, now_ms: u64) {
        self.dispatcher.disconnected(ConnectionId(connection), now_ms);
    }

    /// When [`Self::run_timers`] has something to do.
    pub fn next_timer_ms(&self) -> Option<u64> {
        self.dispatcher.next_timer_ms()
    }

    /// Time passed.
    pub fn run_timers(&mut self, now_ms: u64) {
        self.dispatcher.run_timers(now_ms);
    }

    // ---- storage ----

    /// `_metadata` is in storage, and the pointer to it if there is to be one: the log is next.
    pub fn metadata_stored(
        &mut self,
        job: JobId,
        folder: &str,
        stops_job: bool,
        metadata: &SnapshotMetadata,
        asked: &Asked,
        now_ms: u64,
    ) {
        let completed = completed_record(folder, stops_job, metadata, asked.0.as_deref(), now_ms);
        self.durable.completed(job, metadata.checkpoint_id, completed);
        self.go_on(now_ms);
    }

    /// A checkpoint is complete, or can't be.
    pub fn checkpoint_ended(&mut self, job: JobId, checkpoint_id: u64, completed: bool, now_ms: u64) {
        let failure = || Failure::new(FailureClass::Retryable, "it is in no storage or log");
        let written = StorageOutcome::MetadataWritten {
            checkpoint_id,
            result: completed.then_some(1).ok_or_else(failure),
        };
        self.dispatcher.storage_done(job, written, now_ms);
    }

    /// What is to be done since it was asked for last. Nothing but its end of one that leads no longer.
    pub fn take_outputs(&mut self, now_ms: u64) -> Vec<Output> {
        let epoch = self.dispatcher.epoch();
        for effect in self.dispatcher.take_effects() {
            match effect {
                Effect::Send(ConnectionId(connection), command) => {
                    let command = Some(*command);
                    let command = Box::new(JobManagerCommand { epoch, command });
                    self.outputs.push(Output::Send(connection, command));
                }
                Effect::Close(ConnectionId(connection)) => self.outputs.push(Output::Close(connection)),
                Effect::Storage(job, work) => self.store(job, work.request),
                Effect::Log(job, record, news) => {
                    if self.tells_at_once {
                        self.dispatcher.logged(job, &news);
                    }
                    self.durable.log(job, *record, news);
                }
                Effect::Forget(job) => self.durable.forget(job),
            }
        }
        self.go_on(now_ms);
        let asks = self.durable.take_asks();
        self.outputs
            .extend(asks.into_iter().map(|(ticket, ask)| Output::Ask(ticket, ask)));
        if let Some(reason) = self.durable.fenced() {
            self.outputs = vec![Output::Superseded(reason)];
        }
        std::mem::take(&mut self.outputs)
    }

    /// Deletions wait for the log, in the order of the decisions.
    fn store(&mut self, job: JobId, request: StorageRequest) {
        match request {
            StorageRequest::WriteMetadata {
                checkpoint_id,
                folder,
                pointer,
                metadata,
                operation,
            } => {
                let store = Store::WriteMetadata {
                    checkpoint_id,
                    folder,
                    pointer,
                    metadata,
                    asked: Asked(operation),
                };
                self.outputs.push(Output::Store(job, store));
            }
            StorageRequest::DeleteFiles(files) => {
                self.durable.release(job, Vec::new(), Store::DeleteFiles(files));
            }
            StorageRequest::DeleteFolder(folder) => {
                let folders = vec![folder.clone()];
                self.durable.release(job, folders, Store::DeleteFolder(folder));
            }
            StorageRequest::Sweep { folder, keep } => {
                self.durable
                    .release(job, Vec::new(), Store::Sweep { folder, keep });
            }
            StorageRequest::Confirm => self.durable.confirm(job),
        }
    }
}

fn stored((folder, metadata): (String, SnapshotMetadata)) -> StoredSnapshot {
    StoredSnapshot { folder, metadata }
}

fn manifest(name: &str) -> Manifest {
    Manifest {
        name: name.to_owned(),
        entry: Entry {
            kind: EntryKind::Native,
            path: String::new(),
            program: None,
        },
        api_version: String::new(),
        target: String::new(),
        files: BTreeMap::new(),
        arguments: Vec::new(),
        environment: BTreeMap::new(),
        configuration: Configuration::default(),
    }
}
