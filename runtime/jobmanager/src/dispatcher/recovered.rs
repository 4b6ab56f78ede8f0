//! A job of the high-availability log as a submission.

use std::collections::BTreeMap;
use std::sync::Arc;

use thalweg_proto::graph::v1::JobGraph;
use thalweg_storage::FileSystems;
use thalweg_types::config::{ClaimMode, Configuration, options};
use thalweg_types::{Failure, JobId};

use super::state::{earlier_checkpoint, open, restored_state};
use super::submission::{JobRequest, Plan, StartState, Submission, Submitter};
use crate::extraction::ExtractedJob;
use crate::job_master::Operation;
use crate::package::Package;
use crate::snapshot::{self, SnapshotError};

/// A package in the high-availability folder.
#[derive(Debug, Clone)]
pub(crate) struct KeptPackage {
    pub(crate) uri: String,
    pub(crate) sha256: String,
}

/// What the log knows of a job.
pub(crate) struct RecoveryRequest {
    pub(crate) job_id: JobId,
    pub(crate) operation_id: String,
    pub(crate) is_application: bool,
    pub(crate) submitted_ms: u64,
    /// Whether this engine made the graphs: if not, the package is asked again.
    pub(crate) same_engine: bool,
    pub(crate) extracted: ExtractedJob,
    pub(crate) job_graph: JobGraph,
    pub(crate) configuration: Configuration,
    /// The folder of what it goes on from, and whether that is its own.
    pub(crate) newest: Option<(String, bool)>,
    /// Those of its checkpoints before it, oldest first.
    pub(crate) earlier: Vec<String>,
    pub(crate) highest_checkpoint_id: u64,
    pub(crate) operations: Vec<Operation>,
}

impl Submitter {
    /// Makes it ready to go on. What the log counts on has to be there; its package may follow, if it isn't needed to know what runs.
    pub(crate) async fn recover(
        &self,
        request: RecoveryRequest,
        package: &KeptPackage,
    ) -> Result<Submission, Failure> {
        let mut submission = self.as_it_was(request.without_state());
        let files = submission.file_systems.clone();
        let (start, listed) = futures::try_join!(
            request.start_state(&files),
            earlier_checkpoint(&submission.configuration, &files, request.job_id),
        )?;
        let (listed, earlier_files) = listed;
        submission.earlier_files = earlier_files;
        submission.earlier_checkpoint = listed
            .max(Some(request.highest_checkpoint_id))
            .filter(|id| *id > 0);
        if !request.same_engine {
            let package = self.kept(package).await?;
            submission.package = Some(package.clone());
            let asked = request.asked();
            let plan = self.plan_from(&package, &asked, request.job_id, start);
            let Plan {
                extracted,
                job_graph,
                configuration,
                start,
                ..
            } = plan.await?;
            submission.restored = start
                .map(|start| restored_state(start, &job_graph, &configuration))
                .transpose()?;
            submission.extracted = extracted;
            submission.job_graph = job_graph;
            submission.configuration = configuration;
        } else if let Some(start) = start {
            let restored = restored_state(start, &submission.job_graph, &submission.configuration)?;
            submission.restored = Some(restored);
        }
        submission.package_follows = submission.package.is_none();
        Ok(submission)
    }

    /// The package of a job of the log.
    pub(crate) async fn kept(&self, package: &KeptPackage) -> Result<Arc<Package>, Failure> {
        let imported = self.packages.import(&package.uri, &package.sha256).await;
        imported.map_err(|error| Failure::from_error(&error))
    }

    /// To be shown: without package and state.
    pub(crate) fn as_it_was(&self, request: RecoveryRequest) -> Submission {
        Submission {
            job_id: request.job_id,
            operation_id: request.operation_id,
            is_application: request.is_application,
            package: None,
            package_follows: false,
            submitted_ms: request.submitted_ms,
            extracted: request.extracted,
            job_graph: request.job_graph,
            file_systems: FileSystems::new(request.configuration.clone()),
            configuration: request.configuration,
            restored: None,
            earlier_checkpoint: Some(request.highest_checkpoint_id).filter(|id| *id > 0),
            earlier_files: Vec::new(),
            recoverable: true,
            operations: request.operations,
        }
    }
}

impl RecoveryRequest {
    fn without_state(&self) -> Self {
        Self {
            operation_id: self.operation_id.clone(),
            extracted: self.extracted.clone(),
            job_graph: self.job_graph.clone(),
            configuration: self.configuration.clone(),
            newest: None,
            earlier: Vec::new(),
            operations: self.operations.clone(),
            ..*self
        }
    }

    async fn start_state(&self, files: &FileSystems) -> Result<Option<StartState>, Failure> {
        let Some((newest, own)) = &self.newest else {
            return Ok(None);
        };
        let mut earlier = Vec::with_capacity(self.earlier.len());
        for folder in &self.earlier {
            match snapshot::open(files, folder).await {
                Ok(snapshot) => earlier.push(snapshot),
                Err(error @ (SnapshotError::Metadata { .. } | SnapshotError::Missing { .. })) => {
                    tracing::warn!(job = %self.job_id, %error, "a checkpoint is passed over");
                }
                Err(error) => return Err(Failure::from_error(&error)),
            }
        }
        Ok(Some(StartState {
            snapshot: open(files, newest).await?,
            claim_mode: if *own {
                ClaimMode::Claim
            } else {
                ClaimMode::NoClaim
            },
            earlier,
        }))
    }

    /// The submission as it was asked for, once more.
    fn asked(&self) -> JobRequest {
        let mut configuration: BTreeMap<String, String> = self.configuration.to_map().into_iter().collect();
        // The state comes from the log.
        configuration.remove(options::STATE_RECOVERY_PATH.key);
        JobRequest {
            arguments: self.extracted.arguments.clone(),
            configuration,
            ..JobRequest::default()
        }
    }
}
