//! A JobManager that does what the test says.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures::Stream;
use sha2::{Digest, Sha256};
use thalweg_proto::control::v1::job_manager_command::Command;
use thalweg_proto::control::v1::job_manager_server::{JobManager, JobManagerServer};
use thalweg_proto::control::v1::task_manager_message::Message;
use thalweg_proto::control::v1::{
    FetchPackageRequest, HeartbeatRequest, JobManagerCommand, LeaderRequest, LeaderResponse, PackageChunk,
    RegisterTaskManager, Registered, TaskManagerMessage,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

type Commands = mpsc::Sender<Result<JobManagerCommand, Status>>;

#[derive(Default)]
struct Shared {
    packages: HashMap<String, Vec<u8>>,
    /// To the newest stream.
    commands: Option<Commands>,
    /// Streams that TaskManagers opened.
    streams: usize,
    /// What it says of who leads; nothing = it does not answer.
    leader: Option<LeaderResponse>,
    /// How often it was asked.
    asked: usize,
}

pub(crate) struct ScriptedJobManager {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    messages: mpsc::Receiver<TaskManagerMessage>,
}

struct Service {
    epoch: u64,
    shared: Arc<Mutex<Shared>>,
    messages: mpsc::Sender<TaskManagerMessage>,
}

impl ScriptedJobManager {
    pub(crate) async fn start(epoch: u64) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::<Mutex<Shared>>::default();
        let (sender, messages) = mpsc::channel(64);
        let service = Service {
            epoch,
            shared: shared.clone(),
            messages: sender,
        };
        let server = tonic::transport::Server::builder()
            .add_service(JobManagerServer::new(service))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        Self {
            address,
            shared,
            messages,
        }
    }

    /// From now on it says that it leads.
    pub(crate) fn lead(&self, epoch: u64) {
        let leader = LeaderResponse {
            epoch,
            leader_epoch: epoch,
            is_leader: true,
            ..LeaderResponse::default()
        };
        self.shared.lock().unwrap().leader = Some(leader);
    }

    /// From now on it says that it does not know who leads.
    pub(crate) fn know_of_no_leader(&self) {
        self.shared.lock().unwrap().leader = Some(LeaderResponse::default());
    }

    /// From now on it says that another one leads, there.
    pub(crate) fn know_of(&self, address: SocketAddr, epoch: u64) {
        let leader = LeaderResponse {
            leader_epoch: epoch,
            rpc_address: address.to_string(),
            ..LeaderResponse::default()
        };
        self.shared.lock().unwrap().leader = Some(leader);
    }

    /// Waits until it was asked some times more who leads; how many streams were opened by then.
    pub(crate) async fn streams_when_asked_again(&self) -> usize {
        let asked = || {
            let shared = self.shared.lock().unwrap();
            (shared.asked, shared.streams)
        };
        let (before, _) = asked();
        loop {
            match asked() {
                (now, streams) if now > before + 2 => return streams,
                _ => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            }
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Offers a package whose program is a shell script; its hash and size.
    pub(crate) fn serve_script(&self, script: &str) -> (String, u64) {
        let program = format!("#!/bin/sh\n{script}\n");
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(program.len() as u64);
        header.set_mode(0o755);
        header.set_cksum();
        archive
            .append_data(&mut header, "bin/job", program.as_bytes())
            .unwrap();
        let bytes = archive.into_inner().unwrap();
        let (sha256, size) = (hex::encode(Sha256::digest(&bytes)), bytes.len() as u64);
        self.shared.lock().unwrap().packages.insert(sha256.clone(), bytes);
        (sha256, size)
    }

    /// The next message, which must be a registration; it is answered.
    pub(crate) async fn registration(&mut self) -> RegisterTaskManager {
        match self.message().await.message {
            Some(Message::Register(registration)) => registration,
            other => panic!("a registration was expected: {other:?}"),
        }
    }

    pub(crate) async fn message(&mut self) -> TaskManagerMessage {
        self.messages.recv().await.unwrap()
    }

    pub(crate) async fn send(&self, epoch: u64, command: Command) {
        let commands = self.shared.lock().unwrap().commands.clone().unwrap();
        commands
            .send(Ok(JobManagerCommand {
                epoch,
                command: Some(command),
            }))
            .await
            .unwrap();
    }

    /// Asks for heartbeats and takes no answer until the TaskManager opens another stream.
    pub(crate) async fn hang(&self) {
        let streams = || self.shared.lock().unwrap().streams;
        let before = streams();
        for sent_at_ms in 0.. {
            if streams() > before {
                return;
            }
            let commands = self.shared.lock().unwrap().commands.clone().unwrap();
            let heartbeat = Command::Heartbeat(HeartbeatRequest { sent_at_ms });
            let command = JobManagerCommand {
                epoch: 1,
                command: Some(heartbeat),
            };
            // The stream may end at any time now: that is what is waited for.
            if commands.send(Ok(command)).await.is_err() {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Ends the stream to the TaskManager; the next one is taken.
    pub(crate) fn break_stream(&self) {
        self.shared.lock().unwrap().commands = None;
    }
}

#[tonic::async_trait]
impl JobManager for Service {
    type ConnectTaskManagerStream = Pin<Box<dyn Stream<Item = Result<JobManagerCommand, Status>> + Send>>;
    type FetchPackageStream = Pin<Box<dyn Stream<Item = Result<PackageChunk, Status>> + Send>>;

    async fn connect_task_manager(
        &self,
        request: Request<Streaming<TaskManagerMessage>>,
    ) -> Result<Response<Self::ConnectTaskManagerStream>, Status> {
        let (commands, outgoing) = mpsc::channel(64);
        let registered = Registered {
            heartbeat_interval_ms: 10_000,
            heartbeat_timeout_ms: 50_000,
        };
        let greeting = JobManagerCommand {
            epoch: self.epoch,
            command: Some(Command::Registered(registered)),
        };
        commands.send(Ok(greeting)).await.unwrap();
        {
            let mut shared = self.shared.lock().unwrap();
            shared.commands = Some(commands);
            shared.streams += 1;
        }
        let messages = self.messages.clone();
        let mut incoming = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(message)) = incoming.message().await {
                if messages.send(message).await.is_err() {
                    break;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }

    async fn leader(&self, _: Request<LeaderRequest>) -> Result<Response<LeaderResponse>, Status> {
        let mut shared = self.shared.lock().unwrap();
        shared.asked += 1;
        let leader = shared.leader.clone();
        leader
            .map(Response::new)
            .ok_or_else(|| Status::unavailable("it starts"))
    }

    async fn fetch_package(
        &self,
        request: Request<FetchPackageRequest>,
    ) -> Result<Response<Self::FetchPackageStream>, Status> {
        let package = self
            .shared
            .lock()
            .unwrap()
            .packages
            .get(&request.into_inner().sha256)
            .cloned();
        let bytes = package.ok_or_else(|| Status::not_found("no such package"))?;
        let chunks: Vec<_> = bytes
            .chunks(1000)
            .map(|data| Ok(PackageChunk { data: data.to_vec() }))
            .collect();
        Ok(Response::new(Box::pin(
            tokio_stream::iter(chunks).map(|chunk| chunk),
        )))
    }
}
