//! The gRPC service that worker processes dial, on loopback.
//!
//! A worker proves by the token in its environment that this TaskManager started it; its stream then goes to the
//! actor as [`Event`]s, and the actor's commands to it through a bounded queue.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures::Stream;
use thalweg_proto::control::v1::task_manager_server::{TaskManager as TaskManagerService, TaskManagerServer};
use thalweg_proto::control::v1::{WorkerCommand, WorkerHello, WorkerMessage, worker_message};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

use crate::actor::{Event, WorkerKey};

/// Commands on their way to one worker.
const COMMAND_QUEUE: usize = 64;
/// A deployment names every channel of a task: thousands of them are more than tonic's default of 4 MiB.
pub(crate) const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// The tokens of the workers that were started and have not come yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct ExpectedWorkers(Arc<Mutex<HashMap<String, WorkerKey>>>);

impl ExpectedWorkers {
    pub(crate) fn expect(&self, token: String, worker: WorkerKey) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(token, worker);
    }

    pub(crate) fn forget(&self, worker: WorkerKey) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, expected| *expected != worker);
    }

    fn take(&self, token: &str) -> Option<WorkerKey> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(token)
    }
}

struct Gateway {
    expected: ExpectedWorkers,
    events: mpsc::Sender<Event>,
}

#[tonic::async_trait]
impl TaskManagerService for Gateway {
    type ConnectWorkerStream = Pin<Box<dyn Stream<Item = Result<WorkerCommand, Status>> + Send>>;

    async fn connect_worker(
        &self,
        request: Request<Streaming<WorkerMessage>>,
    ) -> Result<Response<Self::ConnectWorkerStream>, Status> {
        let mut messages = request.into_inner();
        let hello = first_hello(&mut messages).await?;
        let worker = self.expected.take(&hello.token).ok_or_else(|| {
            Status::permission_denied("this TaskManager did not start a worker with that token")
        })?;
        let (commands, outgoing) = mpsc::channel(COMMAND_QUEUE);
        let events = self.events.clone();
        let closed = || Status::unavailable("the TaskManager stops");
        events
            .send(Event::WorkerConnected {
                worker,
                hello: Box::new(hello),
                commands,
            })
            .await
            .map_err(|_| closed())?;
        tokio::spawn(forward(messages, worker, events));
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing).map(Ok))))
    }
}

async fn first_hello(messages: &mut Streaming<WorkerMessage>) -> Result<WorkerHello, Status> {
    match messages.message().await?.and_then(|message| message.message) {
        Some(worker_message::Message::Hello(hello)) => Ok(hello),
        _ => Err(Status::invalid_argument("a worker's first message is its hello")),
    }
}

async fn forward(mut messages: Streaming<WorkerMessage>, worker: WorkerKey, events: mpsc::Sender<Event>) {
    while let Ok(Some(message)) = messages.message().await {
        let Some(message) = message.message else { continue };
        if events
            .send(Event::WorkerMessage {
                worker,
                message: Box::new(message),
            })
            .await
            .is_err()
        {
            return;
        }
    }
}

/// Serves on a free loopback port until the returned task is dropped.
pub(crate) async fn serve(
    expected: ExpectedWorkers,
    events: mpsc::Sender<Event>,
) -> std::io::Result<(SocketAddr, tokio::task::JoinHandle<()>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let service = TaskManagerServer::new(Gateway { expected, events })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let server = tonic::transport::Server::builder()
        .add_service(service)
        .serve_with_incoming(TcpListenerStream::new(listener));
    let task = tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the worker gateway ended");
        }
    });
    Ok((address, task))
}
