//! cluster.v1.Cluster: the operator's view of the cluster, and its verbs.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use thalweg_proto::CLUSTER_PROTOCOL_VERSION;
use thalweg_proto::cluster::v1::cluster_server::Cluster;
use thalweg_proto::cluster::v1::{
    CancelJobRequest, CancelJobResponse, ClusterSnapshot, RetireRequest, RetireResponse, SubmitJobRequest,
    SubmitJobResponse, TaskManagerStatus, TriggerSavepointRequest, TriggerSavepointResponse,
    WatchClusterRequest, submit_job_response,
};
use thalweg_types::{Failure, FailureClass, JobId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::of_leader;
use crate::control_plane::Control;
use crate::dispatcher::{Dispatcher, JobRequest, RestoreRequest, Submitter, job_id_of_operation};
use crate::failure::failure_to_proto;
use crate::high_availability::Role;
use crate::job_master::{OperationKind, SnapshotRequest};

/// At most one snapshot in this time.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// A snapshot at least so often, as a sign of life.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

pub(super) struct Service {
    control: Control,
    submitter: Arc<Submitter>,
    role: Role,
    stop: CancellationToken,
}

impl Service {
    pub(super) fn new(
        control: Control,
        submitter: Arc<Submitter>,
        role: Role,
        stop: CancellationToken,
    ) -> Self {
        Self {
            control,
            submitter,
            role,
            stop,
        }
    }
}

#[tonic::async_trait]
impl Cluster for Service {
    type WatchClusterStream = Pin<Box<dyn Stream<Item = Result<ClusterSnapshot, Status>> + Send>>;

    async fn watch_cluster(
        &self,
        request: Request<WatchClusterRequest>,
    ) -> Result<Response<Self::WatchClusterStream>, Status> {
        of_leader(&self.role)?;
        let theirs = request.into_inner().protocol_version;
        if theirs != CLUSTER_PROTOCOL_VERSION {
            return Err(Status::failed_precondition(format!(
                "protocol version {theirs} is not spoken here, only {CLUSTER_PROTOCOL_VERSION}"
            )));
        }
        // One: a slow reader gets the newest state, not a queue of old ones.
        let (snapshots, outgoing) = mpsc::channel(1);
        tokio::spawn(watch(self.control.clone(), snapshots, self.stop.clone()));
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }

    async fn submit_job(
        &self,
        request: Request<SubmitJobRequest>,
    ) -> Result<Response<SubmitJobResponse>, Status> {
        of_leader(&self.role)?;
        let request = request.into_inner();
        let package = request
            .package
            .ok_or_else(|| Status::invalid_argument("a submission names its package"))?;
        let job_id = job_id_of_operation(&request.operation_id);
        let request = JobRequest {
            recover: job_id.is_some(),
            operation_id: request.operation_id,
            job_name: request.job_name,
            package_uri: package.uri,
            package_sha256: package.sha256,
            sql: package.sql,
            arguments: request.arguments,
            parallelism: request.parallelism,
            configuration: request.configuration.into_iter().collect(),
            restore: request.restore.map(RestoreRequest::from).unwrap_or_default(),
            job_id,
            package: None,
        };
        let result = match self.submitter.submit(request).await {
            Ok(job) => submit_job_response::Result::JobId(job.to_string()),
            Err(failure) => submit_job_response::Result::Failure(failure_to_proto(&failure)),
        };
        Ok(Response::new(SubmitJobResponse { result: Some(result) }))
    }

    async fn cancel_job(
        &self,
        request: Request<CancelJobRequest>,
    ) -> Result<Response<CancelJobResponse>, Status> {
        of_leader(&self.role)?;
        let job = request.into_inner().job_id.parse::<JobId>();
        let job = job.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let state = self
            .control
            .cancel(job)
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(CancelJobResponse {
            state: state.unwrap_or_default(),
        }))
    }

    async fn trigger_savepoint(
        &self,
        request: Request<TriggerSavepointRequest>,
    ) -> Result<Response<TriggerSavepointResponse>, Status> {
        of_leader(&self.role)?;
        let request = request.into_inner();
        let job = request.job_id.parse::<JobId>();
        let job = job.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let snapshot = SnapshotRequest {
            operation_id: request.operation_id,
            kind: if request.stop {
                OperationKind::Stop
            } else {
                OperationKind::Savepoint
            },
            target: Some(request.target_directory).filter(|directory| !directory.is_empty()),
            drain: request.drain,
            full: true,
        };
        let begun = self
            .control
            .trigger_snapshot(job, snapshot)
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let failure = match begun {
            None => Some(Failure::new(
                FailureClass::Fatal,
                format!("there is no job {job} here"),
            )),
            Some(begun) => begun.err(),
        };
        let failure = failure.as_ref().map(failure_to_proto);
        Ok(Response::new(TriggerSavepointResponse { failure }))
    }

    async fn retire(&self, _: Request<RetireRequest>) -> Result<Response<RetireResponse>, Status> {
        of_leader(&self.role)?;
        let retired = self.control.retire().await;
        let retired = retired.map_err(|error| Status::unavailable(error.to_string()))?;
        let failure = retired.err().map(|error| Failure::from_error(&error));
        let failure = failure.as_ref().map(failure_to_proto);
        Ok(Response::new(RetireResponse { failure }))
    }
}

async fn watch(
    control: Control,
    snapshots: mpsc::Sender<Result<ClusterSnapshot, Status>>,
    stop: CancellationToken,
) {
    let mut versions = control.versions();
    loop {
        versions.mark_unchanged();
        let Ok(snapshot) = control.read(|dispatcher, _| snapshot(dispatcher)).await else {
            return;
        };
        if snapshots.send(Ok(snapshot)).await.is_err() {
            return;
        }
        let next = async {
            tokio::time::sleep(DEBOUNCE).await;
            tokio::time::timeout(SIGN_OF_LIFE, versions.changed()).await
        };
        tokio::select! {
            changed = next => if let Ok(Err(_)) = changed { return },
            () = snapshots.closed() => return,
            () = stop.cancelled() => return,
        }
    }
}

/// The whole state, as the operator sees it.
pub(crate) fn snapshot(dispatcher: &Dispatcher) -> ClusterSnapshot {
    let resources = dispatcher.resources();
    let task_managers = resources
        .registry
        .iter()
        .map(|(id, task_manager)| TaskManagerStatus {
            id: id.to_string(),
            host: task_manager.host.clone(),
            slots: task_manager.slots,
            free_slots: resources.pool.free_on(id),
        });
    ClusterSnapshot {
        protocol_version: CLUSTER_PROTOCOL_VERSION,
        epoch: dispatcher.epoch(),
        engine_version: env!("CARGO_PKG_VERSION").to_owned(),
        slots_total: resources.pool.total(),
        slots_free: resources.pool.free(),
        task_managers: task_managers.collect(),
        jobs: dispatcher.job_statuses(),
        application_failure: dispatcher.application_failure().map(failure_to_proto),
    }
}
