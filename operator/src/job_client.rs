//! What the operator asks of a JobManager: submit, cancel, stop with a savepoint; behind a trait so that the reconcilers can
//! be tested without one.

use std::time::Duration;

use futures::future::BoxFuture;
use thalweg_proto::cluster::v1::{
    CancelJobRequest, CancelJobResponse, RetireRequest, RetireResponse, SubmitJobRequest, SubmitJobResponse,
    TriggerSavepointRequest, TriggerSavepointResponse,
};
use tonic::Request;

use crate::cluster_watch::{connect, describe};

/// Fetching a package and running its `main` takes a while.
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(90);
const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);
/// To delete some hundred files.
const RETIRE_TIMEOUT: Duration = Duration::from_secs(20);
/// To begin a savepoint; its end is pushed.
const TRIGGER_TIMEOUT: Duration = Duration::from_secs(10);

/// A call that gave no answer; it can be repeated, its operation id makes that harmless.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the JobManager gave no answer: {0}")]
pub(crate) struct NoAnswer(pub(crate) String);

/// What a JobManager does for the operator.
pub(crate) trait JobClient: Send + Sync {
    /// Starts a job; the same operation id is the same job.
    fn submit<'a>(
        &'a self,
        address: &'a str,
        request: SubmitJobRequest,
    ) -> BoxFuture<'a, Result<SubmitJobResponse, NoAnswer>>;

    /// Cancels a job; harmless if it has ended or is unknown.
    fn cancel<'a>(
        &'a self,
        address: &'a str,
        request: CancelJobRequest,
    ) -> BoxFuture<'a, Result<CancelJobResponse, NoAnswer>>;

    /// Begins a savepoint; the same operation id is the same savepoint.
    fn trigger_savepoint<'a>(
        &'a self,
        address: &'a str,
        request: TriggerSavepointRequest,
    ) -> BoxFuture<'a, Result<TriggerSavepointResponse, NoAnswer>>;

    /// Deletes what the cluster left in storage for its JobManagers; harmless if that is gone.
    fn retire<'a>(&'a self, address: &'a str) -> BoxFuture<'a, Result<RetireResponse, NoAnswer>>;
}

/// By gRPC.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GrpcJobClient;

impl JobClient for GrpcJobClient {
    fn submit<'a>(
        &'a self,
        address: &'a str,
        request: SubmitJobRequest,
    ) -> BoxFuture<'a, Result<SubmitJobResponse, NoAnswer>> {
        Box::pin(async move {
            let mut client = connect(address).await.map_err(NoAnswer)?;
            let mut request = Request::new(request);
            request.set_timeout(SUBMIT_TIMEOUT);
            let answer = client
                .submit_job(request)
                .await
                .map_err(|status| NoAnswer(describe(&status)))?;
            Ok(answer.into_inner())
        })
    }

    fn cancel<'a>(
        &'a self,
        address: &'a str,
        request: CancelJobRequest,
    ) -> BoxFuture<'a, Result<CancelJobResponse, NoAnswer>> {
        Box::pin(async move {
            let mut client = connect(address).await.map_err(NoAnswer)?;
            let mut request = Request::new(request);
            request.set_timeout(CANCEL_TIMEOUT);
            let answer = client
                .cancel_job(request)
                .await
                .map_err(|status| NoAnswer(describe(&status)))?;
            Ok(answer.into_inner())
        })
    }

    fn trigger_savepoint<'a>(
        &'a self,
        address: &'a str,
        request: TriggerSavepointRequest,
    ) -> BoxFuture<'a, Result<TriggerSavepointResponse, NoAnswer>> {
        Box::pin(async move {
            let mut client = connect(address).await.map_err(NoAnswer)?;
            let mut request = Request::new(request);
            request.set_timeout(TRIGGER_TIMEOUT);
            let answer = client
                .trigger_savepoint(request)
                .await
                .map_err(|status| NoAnswer(describe(&status)))?;
            Ok(answer.into_inner())
        })
    }

    fn retire<'a>(&'a self, address: &'a str) -> BoxFuture<'a, Result<RetireResponse, NoAnswer>> {
        Box::pin(async move {
            let mut client = connect(address).await.map_err(NoAnswer)?;
            let mut request = Request::new(RetireRequest {});
            request.set_timeout(RETIRE_TIMEOUT);
            match client.retire(request).await {
                Ok(answer) => Ok(answer.into_inner()),
                // An engine that doesn't do it.
                Err(status) if status.code() == tonic::Code::Unimplemented => Ok(RetireResponse::default()),
                Err(status) => Err(NoAnswer(describe(&status))),
            }
        })
    }
}
