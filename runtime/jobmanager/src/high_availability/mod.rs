//! High availability: jobs outlive the JobManager that leads them.
//!
//! ```text
//!   <high-availability.storageDir>/<cluster-id>/
//!     leader/<n>          who leads with epoch n                     <-- leadership <-- election (Lease, or the leader's silence)
//!     jobs/<job id>/<n>   Submitted, CheckpointCompleted, Result ..  <-- job_log: appended before anybody is told
//!     packages/<sha256>   the packages of these jobs
//!
//!   a new leader: leader/<n+1> --> per job: LeadershipTaken (fences), read, fold (history) --> recovery --> Dispatcher
//! ```
//!
//! When the cluster is deleted for good, its last leader deletes the folder ([`retirement`]).
//!
//! Invariants: every record is made by create-if-absent, which is [`probe`]d at start; who was overtaken fails at its next append, raises
//! the [`fence`] and ends, before it commands or commits anything; without `high-availability.type` nothing of this is there.

mod election;
mod fence;
mod history;
mod job_log;
mod leadership;
mod log;
mod packages;
mod probe;
pub(crate) mod record;
mod recovery;
mod retirement;
mod role;
mod submitted;
#[cfg(test)]
mod testing;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use thalweg_proto::ha::v1::record::Content;
use thalweg_proto::ha::v1::{CheckpointCompleted, OperationDone, operation_done};
use thalweg_proto::state::v1::SnapshotMetadata;
use thalweg_storage::{ClientSettings, FileSystem, FileSystems, StorageError};
use thalweg_types::config::{ConfigError, Configuration, HighAvailabilityKind, options};
use thalweg_types::{Classify, Failure, FailureClass, JobId};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use election::StorageElection;
pub use election::{Candidate, Election, ElectionEvent, ElectionEvents};
pub(crate) use fence::Fence;
pub(crate) use history::{JobHistory, attempts_record};
pub(crate) use job_log::{AppendError, JobLogs};
use leadership::Campaign;
pub(crate) use log::{LogError, RecordLog, RecordStore, Writer};
pub use probe::ProbeError;
pub(crate) use recovery::{RecoveredJob, recover_jobs, result_record};
pub(crate) use retirement::RetirementError;
pub(crate) use role::{KnownLeader, Role, RoleSender};
pub(crate) use submitted::{operations_of, submitted_of};

use crate::control_plane::Clock;
use crate::dispatcher::Submission;
use crate::failure::failure_to_proto;
use crate::job_master::{Made, Operation, OperationKind};

/// Of one request for a record; a whole append is tried for `thalweg.high-availability.log-timeout`.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_RETRIES: usize = 3;
const RETRY_FOR: Duration = Duration::from_secs(20);
/// A store that is away at the start is waited for, but not so long that nobody sees why nothing starts.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// Why high availability can't be had.
#[derive(Debug, thiserror::Error)]
pub enum HighAvailabilityError {
    /// A key's value can't be used.
    #[error(transparent)]
    Configuration(#[from] ConfigError),
    /// There is no folder for the log.
    #[error(
        "high-availability.type is set but high-availability.storageDir is not: name a folder that all JobManagers reach, as in \
         s3://bucket/high-availability"
    )]
    NoStorage,
    /// The cluster's name can't be a folder's.
    #[error(
        "high-availability.cluster-id {id:?} can't be the name of a folder: use letters, digits, '-', '_', '.' and '/'"
    )]
    ClusterId {
        /// As it was given.
        id: String,
    },
    /// Nobody would know where this JobManager is.
    #[error(
        "high availability needs the address at which others reach this JobManager: start it with --host, or set \
         jobmanager.rpc.address to one host ({found})"
    )]
    Address {
        /// What is there.
        found: String,
    },
    /// `high-availability.type: kubernetes` where no Lease can be had.
    #[error("high-availability.type kubernetes needs Kubernetes: outside of it use storage")]
    NoLease,
    /// The store is no use.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The folder can't be opened.
    #[error("high-availability.storageDir: {0}")]
    Storage(#[from] StorageError),
}

impl Classify for HighAvailabilityError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Probe(error) => error.class(),
            Self::Storage(error) => error.class(),
            _ => FailureClass::Fatal,
        }
    }
}

/// What a leader has of high availability. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HighAvailability {
    folder: FileSystem,
    store: Arc<dyn RecordStore>,
    logs: JobLogs,
    fence: Fence,
    role: Role,
    candidate: Candidate,
    cluster: Configuration,
    clock: Clock,
    log_timeout: Duration,
    recovered: Arc<watch::Sender<bool>>,
    retired: Arc<AtomicBool>,
}

impl HighAvailability {
    /// Opens and probes the folder; nothing without `high-availability.type`.
    ///
    /// # Errors
    /// Settings or a store that can't be used.
    pub(crate) async fn open(
        configuration: &Configuration,
        candidate: impl FnOnce() -> Result<Candidate, HighAvailabilityError>,
        clock: Clock,
    ) -> Result<Option<(Self, RoleSender)>, HighAvailabilityError> {
        if configuration.get(&options::HA_TYPE)? == HighAvailabilityKind::None {
            return Ok(None);
        }
        let directory = configuration.get(&options::HA_STORAGE_DIR)?;
        let directory = directory.ok_or(HighAvailabilityError::NoStorage)?;
        let cluster_id = cluster_id(configuration)?;
        let settings = ClientSettings {
            request_timeout: REQUEST_TIMEOUT,
            retries: REQUEST_RETRIES,
            retry_timeout: RETRY_FOR,
            ..ClientSettings::default()
        };
        let file_systems = FileSystems::with_settings(configuration.clone(), settings);
        let folder = file_systems.open_folder(&directory)?.folder(&cluster_id);
        let store: Arc<dyn RecordStore> = Arc::new(folder.clone());
        let candidate = candidate()?;
        let log_timeout = configuration.get(&options::HA_LOG_TIMEOUT)?;
        probe::probe_within(&store, log_timeout.min(START_PATIENCE)).await?;
        let fence = Fence::default();
        let (sender, role) = Role::standby();
        tracing::info!(
            folder = folder.uri(),
            instance = candidate.instance,
            "high availability"
        );
        let opened = Self {
            logs: JobLogs::new(store.clone(), fence.clone(), clock, log_timeout),
            folder,
            store,
            fence,
            role,
            candidate,
            cluster: configuration.clone(),
            clock,
            log_timeout,
            recovered: Arc::new(watch::Sender::new(false)),
            retired: Arc::default(),
        };
        Ok(Some((opened, sender)))
    }

    /// Begins to stand for election; the answer comes when this JobManager is to lead.
    ///
    /// # Errors
    /// `kubernetes` without its election.
    pub(crate) fn campaign(
        &self,
        election: Option<Arc<dyn Election>>,
        role: RoleSender,
    ) -> Result<(oneshot::Receiver<KnownLeader>, JoinHandle<()>), HighAvailabilityError> {
        let election = match (election, self.cluster.get(&options::HA_TYPE)?) {
            (Some(election), _) => election,
            (None, HighAvailabilityKind::Kubernetes) => return Err(HighAvailabilityError::NoLease),
            (None, _) => {
                let timeout = self.cluster.get(&options::HA_LEADER_TIMEOUT)?;
                Arc::new(StorageElection::new(self.store.clone(), timeout))
            }
        };
        let campaign = Campaign {
            leaders: RecordLog::of_leaders(self.store.clone()),
            candidate: self.candidate.clone(),
            configuration: self.cluster.clone(),
            election,
            fence: self.fence.clone(),
            clock: self.clock,
        };
        let (elected, leads) = oneshot::channel();
        Ok((leads, tokio::spawn(campaign.run(role, elected))))
    }

    pub(crate) fn fence(&self) -> &Fence {
        &self.fence
    }

    pub(crate) fn role(&self) -> &Role {
        &self.role
    }

    /// Waits until every job of the log is known here.
    pub(crate) async fn until_recovered(&self) {
        // The sender is this one's own.
        self.recovered
            .subscribe()
            .wait_for(|recovered| *recovered)
            .await
            .ok();
    }

    fn writer(&self) -> Writer {
        Writer {
            instance: self.candidate.instance.clone(),
            epoch: self.role.epoch().unwrap_or(0),
        }
    }

    // ---- what a leader puts into the logs ----

    /// Makes a job outlive this JobManager: its package and its submission are in storage after this.
    pub(crate) async fn persist(&self, submission: &Submission) -> Result<(), Failure> {
        if self.is_retired() {
            let message = "no job can be submitted: the cluster was deleted";
            return Err(Failure::new(FailureClass::Fatal, message));
        }
        if let Some(package) = &submission.package {
            packages::keep(&self.folder, package).await?;
        }
        let submitted = submitted::submitted_of(submission, &self.cluster);
        let writer = self.writer();
        Ok(self.logs.begin(&writer, submission.job_id, submitted).await?)
    }

    /// Puts a record in its turn, at once; the answer comes when it is in the log, or won't be.
    pub(crate) fn append(&self, job: JobId, content: Content) -> oneshot::Receiver<Result<(), AppendError>> {
        self.logs.append(job, content)
    }

    /// The same, and waits for it.
    pub(crate) async fn logged(&self, job: JobId, content: Content) -> Result<(), AppendError> {
        let answer = self.append(job, content).await;
        answer.unwrap_or(Err(AppendError::Fenced))
    }

    /// After this the checkpoint is complete, for every leader to come. `None`: this one leads no longer.
    pub(crate) async fn checkpoint_completed(
        &self,
        job: JobId,
        folder: &str,
        stops_job: bool,
        metadata: &SnapshotMetadata,
        operation: Option<&Operation>,
    ) -> Option<Result<(), Failure>> {
        let now_ms = self.clock.now_ms();
        let completed = completed_record(folder, stops_job, metadata, operation, now_ms);
        match self.logged(job, completed).await {
            Err(AppendError::Fenced) => None,
            result => Some(result.map_err(Failure::from)),
        }
    }

    /// Asks whether these folders, and whatever else is not needed, may be deleted. The answer comes in its turn, and never to a
    /// leader that has a successor.
    pub(crate) fn release(&self, job: JobId, folders: Vec<String>) -> oneshot::Receiver<()> {
        self.logs.release(job, folders)
    }

    /// A job that is not shown any more.
    pub(crate) fn forget(&self, job: JobId) {
        self.logs.forget(job);
    }
}

/// `/default` is `default`.
fn cluster_id(configuration: &Configuration) -> Result<String, HighAvailabilityError> {
    let given = configuration.get(&options::HA_CLUSTER_ID)?;
    let id = given.trim_matches('/');
    let is_name = |part: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !part.is_empty() && part != "." && part != ".." && part.chars().all(allowed)
    };
    if id.split('/').all(is_name) {
        Ok(id.to_owned())
    } else {
        Err(HighAvailabilityError::ClusterId { id: given })
    }
}

/// A complete snapshot, as a record.
pub(crate) fn completed_record(
    folder: &str,
    stops_job: bool,
    metadata: &SnapshotMetadata,
    operation: Option<&Operation>,
    now_ms: u64,
) -> Content {
    let made = Made {
        path: folder.to_owned(),
        checkpoint_id: metadata.checkpoint_id,
    };
    let done = operation.and_then(|operation| done_of(&operation.ended(now_ms, Ok(made))));
    Content::CheckpointCompleted(CheckpointCompleted {
        checkpoint_id: metadata.checkpoint_id,
        folder: folder.to_owned(),
        is_savepoint: metadata.savepoint,
        stops_job,
        operation: done,
    })
}

/// An operation's end, as a record; nothing while it is under way.
pub(crate) fn operation_done(operation: &Operation) -> Option<Content> {
    done_of(operation).map(Content::OperationDone)
}

fn done_of(operation: &Operation) -> Option<OperationDone> {
    let (ended_ms, result) = operation.end.as_ref()?;
    let kind = match operation.kind {
        OperationKind::Checkpoint => operation_done::Kind::Checkpoint,
        OperationKind::Savepoint => operation_done::Kind::Savepoint,
        OperationKind::SavepointAndCancel => operation_done::Kind::SavepointAndCancel,
        OperationKind::Stop => operation_done::Kind::Stop,
    };
    let mut done = OperationDone {
        operation_id: operation.id.clone(),
        kind: kind.into(),
        triggered_ms: operation.triggered_ms,
        ended_ms: *ended_ms,
        ..OperationDone::default()
    };
    match result {
        Ok(made) => {
            done.path.clone_from(&made.path);
            done.checkpoint_id = made.checkpoint_id;
        }
        Err(failure) => done.failure = Some(failure_to_proto(failure)),
    }
    Some(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_a_folder_and_no_way_out_of_one() {
        let id = |given: &str| {
            let entry = (options::HA_CLUSTER_ID.key.to_owned(), given.to_owned());
            cluster_id(&Configuration::from_map([entry])).ok()
        };
        assert_eq!(id("/default").as_deref(), Some("default"));
        assert_eq!(id("team-a/word_count.2").as_deref(), Some("team-a/word_count.2"));
        for wrong in ["", "/", "a//b", "../b", "a b", "a/./b"] {
            assert_eq!(id(wrong), None, "{wrong:?}");
        }
    }
}
