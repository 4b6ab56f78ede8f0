//! control.v1.JobManager: TaskManagers' streams and package downloads.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::{Stream, StreamExt};
use thalweg_proto::control::v1::job_manager_server::JobManager;
use thalweg_proto::control::v1::{
    FetchPackageRequest, JobManagerCommand, LeaderRequest, LeaderResponse, PackageChunk, TaskManagerMessage,
    task_manager_message,
};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::of_leader;
use crate::control_plane::{COMMAND_QUEUE, Control, Event};
use crate::high_availability::Role;
use crate::package::{Package, PackageStore};
use crate::resource_manager::ConnectionId;

const CHUNK_BYTES: usize = 256 << 10;
/// Chunks read ahead of one slow TaskManager.
const CHUNK_QUEUE: usize = 4;

pub(super) struct Service {
    control: Control,
    packages: PackageStore,
    connections: AtomicU64,
    role: Role,
    stop: CancellationToken,
}

impl Service {
    pub(super) fn new(control: Control, packages: PackageStore, role: Role, stop: CancellationToken) -> Self {
        Self {
            control,
            packages,
            connections: AtomicU64::new(0),
            role,
            stop,
        }
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl JobManager for Service {
    type ConnectTaskManagerStream = Answers<JobManagerCommand>;
    type FetchPackageStream = Answers<PackageChunk>;

    async fn connect_task_manager(
        &self,
        request: Request<Streaming<TaskManagerMessage>>,
    ) -> Result<Response<Self::ConnectTaskManagerStream>, Status> {
        of_leader(&self.role)?;
        let mut messages = request.into_inner();
        let first = messages.message().await?;
        let Some(TaskManagerMessage {
            epoch,
            message: Some(task_manager_message::Message::Register(register)),
        }) = first
        else {
            return Err(Status::invalid_argument(
                "a TaskManager's first message is its registration",
            ));
        };
        let connection = ConnectionId(self.connections.fetch_add(1, Ordering::Relaxed));
        let (commands, outgoing) = mpsc::channel(COMMAND_QUEUE);
        // The forwarder ends with the stream of commands too: a connection closed by us is not read any further.
        let closed = CancellationToken::new();
        let guard = closed.clone().drop_guard();
        let outgoing = ReceiverStream::new(outgoing).map(move |command| {
            let _open = &guard;
            command
        });
        let connected = Event::Connected {
            connection,
            register: Box::new(register),
            epoch,
            commands,
        };
        self.control
            .send(connected)
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let control = self.control.clone();
        let stop = self.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = forward(messages, connection, &control) => {}
                () = closed.cancelled() => {}
                () = stop.cancelled() => {}
            }
            control.send(Event::Disconnected { connection }).await.ok();
        });
        Ok(Response::new(Box::pin(outgoing)))
    }

    async fn leader(&self, _: Request<LeaderRequest>) -> Result<Response<LeaderResponse>, Status> {
        // One whose control plane is gone leads no more, whatever it was.
        let asked = self.control.read(|_, _| ()).await;
        asked.map_err(|error| Status::unavailable(error.to_string()))?;
        let epoch = self.role.epoch();
        let leader = self.role.leader();
        let (rpc_address, rest_address) = leader
            .as_ref()
            .map(|leader| (leader.rpc_address.clone(), leader.rest_address.clone()))
            .unwrap_or_default();
        Ok(Response::new(LeaderResponse {
            epoch: epoch.unwrap_or(0),
            leader_epoch: leader.map(|leader| leader.epoch).or(epoch).unwrap_or(0),
            rpc_address,
            rest_address,
            is_leader: epoch.is_some(),
        }))
    }

    async fn fetch_package(
        &self,
        request: Request<FetchPackageRequest>,
    ) -> Result<Response<Self::FetchPackageStream>, Status> {
        of_leader(&self.role)?;
        let sha256 = request.into_inner().sha256;
        let package = self.packages.get(&sha256);
        let package = package.ok_or_else(|| Status::not_found(format!("no job uses a package {sha256}")))?;
        let (chunks, outgoing) = mpsc::channel(CHUNK_QUEUE);
        tokio::spawn(async move {
            if let Err(error) = send_payload(&package, &chunks).await {
                chunks
                    .send(Err(Status::internal(format!(
                        "package {}: {error}",
                        package.sha256
                    ))))
                    .await
                    .ok();
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}

async fn forward(mut messages: Streaming<TaskManagerMessage>, connection: ConnectionId, control: &Control) {
    loop {
        match messages.message().await {
            Ok(Some(message)) => {
                if control
                    .send(Event::Message {
                        connection,
                        message: Box::new(message),
                    })
                    .await
                    .is_err()
                {
                    return;
                }
            }
            Ok(None) => return,
            Err(status) => {
                tracing::debug!(%status, "a TaskManager's stream broke");
                return;
            }
        }
    }
}

/// Until the end of the file or until nobody listens.
async fn send_payload(
    package: &Package,
    chunks: &mpsc::Sender<Result<PackageChunk, Status>>,
) -> std::io::Result<()> {
    let mut file = tokio::fs::File::open(package.payload()).await?;
    loop {
        let mut data = vec![0; CHUNK_BYTES];
        let read = file.read(&mut data).await?;
        data.truncate(read);
        if read == 0 || chunks.send(Ok(PackageChunk { data })).await.is_err() {
            return Ok(());
        }
    }
}
