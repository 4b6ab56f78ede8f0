//! From a request to a job that can start: package, extraction, JobGraph, the state it starts from, a place for its checkpoints.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use thalweg_checkpoint::adopt_max_parallelism;
use thalweg_graph::{effective_configuration, job_graph};
use thalweg_proto::graph::v1::JobGraph;
use thalweg_storage::FileSystems;
use thalweg_types::config::{ClaimMode, Configuration, options};
use thalweg_types::{Failure, FailureClass, JobId};
use tokio::sync::{Semaphore, oneshot};

use super::Begin;
use super::recovery::own_snapshots;
use super::state::{
    RestoredState, check_checkpoint_directory, configured, earlier_checkpoint, open, restored_state,
};
use crate::config::Application;
use crate::control_plane::{Control, Event};
use crate::extraction::{ExtractedJob, ExtractionOptions, extract, script_session};
use crate::job_master::Operation;
use crate::package::{EntryKind, Package, PackageStore};
use crate::snapshot::StoredSnapshot;

/// Programs that run for extraction at one time.
const PARALLEL_EXTRACTIONS: usize = 4;
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// Of the keys that say which state a job starts from.
const RECOVERY_PREFIX: &str = "execution.state-recovery.";
/// What an inline script is called.
const INLINE: &str = "(inline script)";
/// The operation of an application that was started without one.
const APPLICATION_OPERATION: &str = "application";

/// A job as it is asked for.
#[derive(Debug, Clone, Default)]
pub struct JobRequest {
    /// The same id leads to the same job; empty = a job of its own each time.
    pub operation_id: String,
    /// Empty = as the program says.
    pub job_name: String,
    /// Where the package lies.
    pub package_uri: String,
    /// Of the payload at the uri; may be empty except over HTTP.
    pub package_sha256: String,
    /// A script, in place of a package; empty = none.
    pub sql: String,
    /// Empty = as the package says.
    pub arguments: Vec<String>,
    /// 0 = as configured.
    pub parallelism: u32,
    /// Over the cluster's configuration.
    pub configuration: BTreeMap<String, String>,
    /// What it starts from, over `execution.state-recovery.*` of the configuration.
    pub restore: RestoreRequest,
    /// The job's id; a random one if there is none.
    pub job_id: Option<JobId>,
    /// Go on from the newest checkpoint in the folder of `job_id`, if there is one, whatever else it would start from.
    pub recover: bool,
    /// The package, if it is here already (uploaded).
    pub package: Option<Arc<Package>>,
}

/// How a job is to start from state; empty = as configured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoreRequest {
    /// Of a savepoint or a retained checkpoint.
    pub path: String,
    /// Leave state behind whose operator the job no longer has.
    pub allow_non_restored_state: bool,
    /// `NO_CLAIM` or `CLAIM`; empty = as configured.
    pub claim_mode: String,
}

impl From<thalweg_proto::cluster::v1::RestoreSettings> for RestoreRequest {
    fn from(settings: thalweg_proto::cluster::v1::RestoreSettings) -> Self {
        Self {
            path: settings.path,
            allow_non_restored_state: settings.allow_non_restored_state,
            claim_mode: settings.claim_mode,
        }
    }
}

/// A job that can start.
pub(crate) struct Submission {
    pub(crate) job_id: JobId,
    pub(crate) operation_id: String,
    pub(crate) is_application: bool,
    /// None of a job that is only shown.
    pub(crate) package: Option<Arc<Package>>,
    /// It is fetched meanwhile: no worker is started before it is here.
    pub(crate) package_follows: bool,
    /// In Unix milliseconds, by the clock of whoever took it.
    pub(crate) submitted_ms: u64,
    pub(crate) extracted: ExtractedJob,
    pub(crate) job_graph: JobGraph,
    pub(crate) configuration: Configuration,
    /// For its checkpoints.
    pub(crate) file_systems: FileSystems,
    pub(crate) restored: Option<RestoredState>,
    /// The newest checkpoint that lies in the job's folder already, of an earlier run of the same id.
    pub(crate) earlier_checkpoint: Option<u64>,
    /// What lies there, by the paths in it.
    pub(crate) earlier_files: Vec<String>,
    /// Whether another JobManager may have to go on with it, and so whether all in its folder is its own.
    pub(crate) recoverable: bool,
    /// On its snapshots, under earlier leaders.
    pub(crate) operations: Vec<Operation>,
}

/// What a job is to start from.
pub(crate) struct StartState {
    pub(super) snapshot: StoredSnapshot,
    pub(super) claim_mode: ClaimMode,
    /// The job's own checkpoints before it, oldest first.
    pub(super) earlier: Vec<StoredSnapshot>,
}

/// A graph that was made to be looked at.
pub(crate) struct Plan {
    pub(crate) extracted: ExtractedJob,
    pub(crate) job_graph: JobGraph,
    pub(crate) configuration: Configuration,
    file_systems: FileSystems,
    pub(super) start: Option<StartState>,
}

/// Prepares jobs and hands them to the control plane.
pub(crate) struct Submitter {
    pub(crate) control: Control,
    pub(crate) packages: PackageStore,
    pub(crate) configuration: Configuration,
    pub(crate) extraction: ExtractionOptions,
    default_checkpoint_directory: Option<PathBuf>,
    extractions: Semaphore,
}

impl Submitter {
    pub(crate) fn new(
        control: Control,
        packages: PackageStore,
        configuration: Configuration,
        extraction: ExtractionOptions,
        default_checkpoint_directory: Option<PathBuf>,
    ) -> Self {
        let extractions = Semaphore::new(PARALLEL_EXTRACTIONS);
        Self {
            control,
            packages,
            configuration,
            extraction,
            default_checkpoint_directory,
            extractions,
        }
    }

    /// Submits a job; goes on to its end even if the caller stops waiting.
    pub(crate) async fn submit(self: &Arc<Self>, request: JobRequest) -> Result<JobId, Failure> {
        self.control.until_recovered().await;
        self.submit_as(request, false).await
    }

    async fn submit_as(
        self: &Arc<Self>,
        request: JobRequest,
        is_application: bool,
    ) -> Result<JobId, Failure> {
        let (answer, answered) = oneshot::channel();
        let (begin, begun) = oneshot::channel();
        let operation_id = request.operation_id.clone();
        self.control
            .send(Event::Begin {
                operation_id,
                answer,
                begin,
            })
            .await
            .map_err(stopped)?;
        if let Begin::Proceed(ticket) = begun.await.map_err(stopped)? {
            let submitter = self.clone();
            tokio::spawn(async move {
                let preparing = submitter.clone();
                let prepared = tokio::spawn(async move { preparing.prepared(request, is_application).await });
                // A panic must not leave the caller waiting.
                let outcome = prepared.await.unwrap_or_else(|panic| {
                    Err(Failure::new(
                        FailureClass::Bug,
                        format!("preparing the job failed: {panic}"),
                    ))
                });
                let outcome = outcome.map(Box::new);
                submitter
                    .control
                    .send(Event::Submitted { ticket, outcome })
                    .await
                    .ok();
            });
        }
        answered.await.map_err(stopped)?
    }

    /// With high availability it is in the log after this.
    async fn prepared(&self, request: JobRequest, is_application: bool) -> Result<Submission, Failure> {
        let submission = self.prepare(request, is_application).await?;
        self.control.persist(&submission).await?;
        Ok(submission)
    }

    async fn prepare(&self, request: JobRequest, is_application: bool) -> Result<Submission, Failure> {
        let package = self.package(&request).await?;
        let job_id = request.job_id.unwrap_or_else(|| JobId::random(&mut rand::rng()));
        let operation_id = request.operation_id.clone();
        let Plan {
            extracted,
            job_graph,
            configuration,
            file_systems,
            start,
        } = self.plan(&package, &request, job_id).await?;
        let restored = start
            .map(|start| restored_state(start, &job_graph, &configuration))
            .transpose()?;
        check_checkpoint_directory(&configuration, &file_systems).await?;
        let (earlier_checkpoint, earlier_files) = match request.job_id {
            Some(job_id) => earlier_checkpoint(&configuration, &file_systems, job_id).await?,
            None => (None, Vec::new()),
        };
        Ok(Submission {
            job_id,
            operation_id,
            is_application,
            package: Some(package),
            package_follows: false,
            submitted_ms: self.control.now_ms(),
            extracted,
            job_graph,
            configuration,
            file_systems,
            restored,
            earlier_checkpoint,
            earlier_files,
            recoverable: request.recover || self.control.is_durable(),
            operations: Vec::new(),
        })
    }

    async fn package(&self, request: &JobRequest) -> Result<Arc<Package>, Failure> {
        let imported = match &request.package {
            Some(package) => Ok(package.clone()),
            None if !request.sql.is_empty() => self.packages.import_script(INLINE, &request.sql).await,
            None => {
                self.packages
                    .import(&request.package_uri, &request.package_sha256)
                    .await
            }
        };
        imported.map_err(|error| Failure::from_error(&error))
    }

    /// Extracts a package's graph and plans it without running it.
    pub(crate) async fn plan(
        &self,
        package: &Package,
        request: &JobRequest,
        job_id: JobId,
    ) -> Result<Plan, Failure> {
        self.planned(package, request, job_id, None).await
    }

    /// The same, starting from this, whatever is configured.
    pub(super) async fn plan_from(
        &self,
        package: &Package,
        request: &JobRequest,
        job_id: JobId,
        start: Option<StartState>,
    ) -> Result<Plan, Failure> {
        self.planned(package, request, job_id, Some(start)).await
    }

    async fn planned(
        &self,
        package: &Package,
        request: &JobRequest,
        job_id: JobId,
        given: Option<Option<StartState>>,
    ) -> Result<Plan, Failure> {
        let asked = requested_configuration(request);
        note(&asked)?;
        let deployment = package
            .manifest
            .configuration
            .merged_with(&self.configuration)
            .merged_with(&asked);
        let session = script_session(&deployment, self.control.now_ms());
        let permit = self.extractions.acquire().await;
        let extracted = extract(package, &request.arguments, &session, &self.extraction).await;
        drop(permit);
        let extracted = extracted.map_err(|error| error.to_failure())?;
        let program = Configuration::from_map(extracted.stream_graph.configuration.clone());
        let configuration = match package.manifest.entry.kind {
            EntryKind::Sql => over_deployment(&deployment, program, request),
            EntryKind::Native | EntryKind::Other(_) => package
                .manifest
                .configuration
                .merged_with(&program)
                .merged_with(&self.configuration)
                .merged_with(&asked),
        };
        note(&configuration)?;
        let mut configuration =
            effective_configuration(configuration).map_err(|error| Failure::from_error(&error))?;
        self.set_default_checkpoint_directory(&mut configuration)?;
        let mut stream_graph = extracted.stream_graph.clone();
        if stream_graph.job_name.is_empty() {
            stream_graph.job_name = package.manifest.name.clone();
        }
        let file_systems = FileSystems::new(configuration.clone());
        let start = match given {
            Some(start) => start,
            None => start_state(request, &configuration, &file_systems, job_id).await?,
        };
        if let Some(start) = &start {
            adopt_max_parallelism(&start.snapshot.metadata, &mut stream_graph, &configuration)
                .map_err(|error| Failure::from_error(&error))?;
        }
        let job_graph =
            job_graph(&stream_graph, job_id, &configuration).map_err(|error| Failure::from_error(&error))?;
        Ok(Plan {
            extracted,
            job_graph,
            configuration,
            file_systems,
            start,
        })
    }

    fn set_default_checkpoint_directory(&self, configuration: &mut Configuration) -> Result<(), Failure> {
        if let Some(directory) = &self.default_checkpoint_directory
            && configured(configuration, &options::CHECKPOINTING_DIR)?.is_none()
        {
            let directory = format!("file://{}", directory.display());
            configuration.set(options::CHECKPOINTING_DIR.key, directory);
        }
        Ok(())
    }
}

/// What a script sets goes over the deployment's configuration, as in Flink. Not so what belongs to this one start of the job: the state that
/// it goes on from, and a name given with it.
fn over_deployment(
    deployment: &Configuration,
    mut script: Configuration,
    request: &JobRequest,
) -> Configuration {
    let of_the_start = |key: &str| {
        key.starts_with(RECOVERY_PREFIX)
            || (key == options::PIPELINE_NAME.key && !request.job_name.is_empty())
    };
    for (key, value) in deployment.iter().filter(|(key, _)| of_the_start(key)) {
        script.set(key, value);
    }
    deployment.merged_with(&script)
}

/// What a job starts from, and whose that is: its own newest snapshot if it is to recover, else what is configured.
async fn start_state(
    request: &JobRequest,
    configuration: &Configuration,
    file_systems: &FileSystems,
    job_id: JobId,
) -> Result<Option<StartState>, Failure> {
    if request.recover
        && let Some(own) = own_snapshots(configuration, file_systems, job_id).await?
    {
        tracing::info!(%job_id, snapshot = own.newest.folder, "the job goes on from its newest snapshot");
        return Ok(Some(StartState {
            snapshot: own.newest,
            claim_mode: own.claim_mode,
            earlier: own.earlier,
        }));
    }
    let Some(path) = configured(configuration, &options::STATE_RECOVERY_PATH)? else {
        return Ok(None);
    };
    let claim_mode = configured(configuration, &options::STATE_RECOVERY_CLAIM_MODE)?;
    Ok(Some(StartState {
        snapshot: open(file_systems, &path).await?,
        claim_mode,
        earlier: Vec::new(),
    }))
}

fn stopped(_: impl std::error::Error) -> Failure {
    Failure::new(FailureClass::Retryable, "the JobManager is shutting down")
}

/// What the submission itself configures.
fn requested_configuration(request: &JobRequest) -> Configuration {
    let mut configuration = Configuration::from_map(request.configuration.clone());
    if request.parallelism > 0 {
        configuration.set(options::PARALLELISM_DEFAULT.key, request.parallelism.to_string());
    }
    if !request.job_name.is_empty() {
        configuration.set(options::PIPELINE_NAME.key, request.job_name.clone());
    }
    let restore = &request.restore;
    if !restore.path.is_empty() {
        configuration.set(options::STATE_RECOVERY_PATH.key, restore.path.clone());
    }
    if restore.allow_non_restored_state {
        configuration.set(options::STATE_RECOVERY_IGNORE_UNCLAIMED.key, "true");
    }
    if !restore.claim_mode.is_empty() {
        configuration.set(options::STATE_RECOVERY_CLAIM_MODE.key, restore.claim_mode.clone());
    }
    configuration
}

/// Refuses a configuration that can't be used; says which keys have no effect.
fn note(configuration: &Configuration) -> Result<(), Failure> {
    let notes = configuration
        .check()
        .map_err(|error| Failure::from_error(&error))?;
    for note in notes {
        tracing::info!("{note}");
    }
    Ok(())
}

/// The same start of a job is the same job, whichever JobManager process runs it: one that is started again finds its checkpoints.
/// Without an operation id each start is a job of its own.
pub(crate) fn job_id_of_operation(operation_id: &str) -> Option<JobId> {
    let digest = Sha256::digest(operation_id.as_bytes());
    let id = digest.first_chunk::<16>().copied().map(JobId);
    id.filter(|_| !operation_id.is_empty())
}

/// What its start is known by.
pub(crate) fn application_operation(application: &Application) -> String {
    match application.operation_id.as_str() {
        "" => APPLICATION_OPERATION.to_owned(),
        operation_id => operation_id.to_owned(),
    }
}

/// Runs the application of this JobManager. What can pass is tried again; what can't is shown until somebody changes it.
pub(crate) async fn run_application(submitter: Arc<Submitter>, application: Application) {
    let job_id = job_id_of_operation(&application.operation_id);
    let operation_id = application_operation(&application);
    let request = JobRequest {
        job_id,
        recover: job_id.is_some(),
        operation_id,
        job_name: application.job_name,
        package_uri: application.package_uri,
        package_sha256: application.package_sha256,
        arguments: application.arguments,
        parallelism: application.parallelism,
        ..JobRequest::default()
    };
    let mut pause = FIRST_RETRY;
    loop {
        match submitter.submit_as(request.clone(), true).await {
            Ok(_) => {
                submitter.control.send(Event::ApplicationFailure(None)).await.ok();
                return;
            }
            Err(failure) => {
                tracing::error!(
                    reason = failure.message,
                    detail = failure.detail,
                    "the application could not be started"
                );
                let retry = failure.class == FailureClass::Retryable;
                if submitter
                    .control
                    .send(Event::ApplicationFailure(Some(failure)))
                    .await
                    .is_err()
                    || !retry
                {
                    return;
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_RETRY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(entries: &[(&str, &str)]) -> Configuration {
        let entries = entries.iter();
        Configuration::from_map(entries.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn what_a_script_sets_wins_but_for_the_state_and_the_name_of_this_start() {
        let deployment = configuration(&[
            ("parallelism.default", "2"),
            ("pipeline.name", "deployed"),
            ("execution.state-recovery.path", "file:///savepoint"),
            ("rest.port", "1"),
        ]);
        let script = configuration(&[
            ("parallelism.default", "3"),
            ("pipeline.name", "own"),
            ("execution.state-recovery.path", "file:///old"),
        ]);
        let merged = over_deployment(&deployment, script.clone(), &JobRequest::default());
        let raw = |key: &str| merged.get_raw(key);
        assert_eq!(
            [
                raw("parallelism.default"),
                raw("pipeline.name"),
                raw("execution.state-recovery.path"),
                raw("rest.port")
            ],
            [Some("3"), Some("own"), Some("file:///savepoint"), Some("1")]
        );
        let named = JobRequest {
            job_name: "deployed".to_owned(),
            ..JobRequest::default()
        };
        let merged = over_deployment(&deployment, script.clone(), &named);
        assert_eq!(merged.get_raw("pipeline.name"), Some("deployed"));
        // The script's own is a first start's.
        let merged = over_deployment(&Configuration::default(), script, &named);
        assert_eq!(
            merged.get_raw("execution.state-recovery.path"),
            Some("file:///old")
        );
    }
}
