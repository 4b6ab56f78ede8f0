//! The gRPC server: TaskManagers (control.v1) and the operator (cluster.v1) on one port.

mod cluster;
mod control;

use std::sync::Arc;

use thalweg_proto::cluster::v1::cluster_server::ClusterServer;
use thalweg_proto::control::v1::job_manager_server::JobManagerServer;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::control_plane::Control;
use crate::dispatcher::Submitter;
use crate::high_availability::Role;
use crate::package::PackageStore;

pub(crate) use cluster::snapshot;

/// A deployment names every channel of a task, and a graph every operator: far more than tonic's default of 4 MiB.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// Refuses what only a leader does.
fn of_leader(role: &Role) -> Result<(), Status> {
    role.refusal()
        .map_or(Ok(()), |refusal| Err(Status::failed_precondition(refusal)))
}

/// Serves until the token is cancelled.
pub(crate) async fn serve(
    listener: TcpListener,
    control: Control,
    submitter: Arc<Submitter>,
    packages: PackageStore,
    role: Role,
    stop: CancellationToken,
) {
    let service = control::Service::new(control.clone(), packages, role.clone(), stop.clone());
    let job_manager = JobManagerServer::new(service)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let cluster = ClusterServer::new(cluster::Service::new(control, submitter, role, stop.clone()))
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let server = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(std::time::Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(std::time::Duration::from_secs(20)))
        .tcp_nodelay(true)
        .add_service(job_manager)
        .add_service(cluster)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop.cancelled_owned());
    if let Err(error) = server.await {
        tracing::error!(%error, "the gRPC server ended");
    }
}
