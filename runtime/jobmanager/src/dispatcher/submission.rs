//! From a request to a job that can start: package, extraction, JobGraph.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use thalweg_graph::job_graph;
use thalweg_proto::graph::v1::JobGraph;
use thalweg_types::config::{Configuration, options};
use thalweg_types::{Failure, FailureClass, JobId};
use tokio::sync::{Semaphore, oneshot};

use super::Begin;
use crate::config::Application;
use crate::control_plane::{Control, Event};
use crate::extraction::{ExtractedJob, ExtractionOptions, extract};
use crate::package::{Package, PackageStore};

/// Programs that run for extraction at one time.
const PARALLEL_EXTRACTIONS: usize = 4;
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
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
    /// Empty = as the package says.
    pub arguments: Vec<String>,
    /// 0 = as configured.
    pub parallelism: u32,
    /// Over the cluster's configuration.
    pub configuration: BTreeMap<String, String>,
    /// The job's id; a random one if there is none.
    pub job_id: Option<JobId>,
    /// The package, if it is here already (uploaded).
    pub package: Option<Arc<Package>>,
}

/// A job that can start.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) job_id: JobId,
    pub(crate) operation_id: String,
    pub(crate) is_application: bool,
    pub(crate) package: Arc<Package>,
    pub(crate) extracted: ExtractedJob,
    pub(crate) job_graph: JobGraph,
    pub(crate) configuration: Configuration,
}

/// A graph that was made to be looked at.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) extracted: ExtractedJob,
    pub(crate) job_graph: JobGraph,
    pub(crate) configuration: Configuration,
}

/// Prepares jobs and hands them to the control plane.
pub(crate) struct Submitter {
    pub(crate) control: Control,
    pub(crate) packages: PackageStore,
    pub(crate) configuration: Configuration,
    pub(crate) extraction: ExtractionOptions,
    extractions: Semaphore,
}

impl Submitter {
    pub(crate) fn new(
        control: Control,
        packages: PackageStore,
        configuration: Configuration,
        extraction: ExtractionOptions,
    ) -> Self {
        let extractions = Semaphore::new(PARALLEL_EXTRACTIONS);
        Self {
            control,
            packages,
            configuration,
            extraction,
            extractions,
        }
    }

    /// Submits a job; goes on to its end even if the caller stops waiting.
    pub(crate) async fn submit(self: &Arc<Self>, request: JobRequest) -> Result<JobId, Failure> {
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
                let prepared = tokio::spawn(async move { preparing.prepare(request, is_application).await });
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

    async fn prepare(&self, request: JobRequest, is_application: bool) -> Result<Submission, Failure> {
        let package = self.package(&request).await?;
        let job_id = request.job_id.unwrap_or_else(|| JobId::random(&mut rand::rng()));
        let operation_id = request.operation_id.clone();
        let Plan {
            extracted,
            job_graph,
            configuration,
        } = self.plan(&package, &request, job_id).await?;
        Ok(Submission {
            job_id,
            operation_id,
            is_application,
            package,
            extracted,
            job_graph,
            configuration,
        })
    }

    async fn package(&self, request: &JobRequest) -> Result<Arc<Package>, Failure> {
        match &request.package {
            Some(package) => Ok(package.clone()),
            None => {
                let imported = self
                    .packages
                    .import(&request.package_uri, &request.package_sha256)
                    .await;
                imported.map_err(|error| Failure::from_error(&error))
            }
        }
    }

    /// Extracts a package's graph and plans it without running it.
    pub(crate) async fn plan(
        &self,
        package: &Package,
        request: &JobRequest,
        job_id: JobId,
    ) -> Result<Plan, Failure> {
        let asked = requested_configuration(request);
        note(&asked)?;
        let permit = self.extractions.acquire().await;
        let extracted = extract(package, &request.arguments, &self.extraction).await;
        drop(permit);
        let extracted = extracted.map_err(|error| error.to_failure())?;
        let program = Configuration::from_map(extracted.stream_graph.configuration.clone());
        let configuration = package
            .manifest
            .configuration
            .merged_with(&program)
            .merged_with(&self.configuration)
            .merged_with(&asked);
        note(&configuration)?;
        let mut stream_graph = extracted.stream_graph.clone();
        if stream_graph.job_name.is_empty() {
            stream_graph.job_name = package.manifest.name.clone();
        }
        let job_graph =
            job_graph(&stream_graph, job_id, &configuration).map_err(|error| Failure::from_error(&error))?;
        Ok(Plan {
            extracted,
            job_graph,
            configuration,
        })
    }
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

/// Runs the application of this JobManager. What can pass is tried again; what can't is shown until somebody changes it.
pub(crate) async fn run_application(submitter: Arc<Submitter>, application: Application) {
    let operation_id = match application.operation_id.as_str() {
        "" => APPLICATION_OPERATION.to_owned(),
        operation_id => operation_id.to_owned(),
    };
    let request = JobRequest {
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
