//! The stream to the JobManager: dial, register, pass on, dial again.
//!
//! ```text
//!   dial --register--> Registered: Event::Connected -> commands... -> broken or silent: Event::Disconnected --pause--> dial
//! ```
//!
//! The pause doubles from 100 ms to 5 s. A TaskManager waits for its JobManager for ever: pods start in any order.

use std::time::Duration;

use thalweg_proto::control::v1::job_manager_client::JobManagerClient;
use thalweg_proto::control::v1::{
    JobManagerCommand, RegisterTaskManager, Registered, TaskManagerMessage, job_manager_command,
    task_manager_message,
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use crate::actor::{Event, Snapshot};
use crate::gateway::MAX_MESSAGE_BYTES;

/// Messages on their way to the JobManager.
const MESSAGE_QUEUE: usize = 1024;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Keeps a TaskManager connected.
pub(crate) struct ConnectionLoop {
    pub(crate) endpoint: Endpoint,
    pub(crate) registration: RegisterTaskManager,
    pub(crate) snapshot: watch::Receiver<Snapshot>,
    pub(crate) events: mpsc::Sender<Event>,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum ConnectionEnd {
    #[error("the JobManager can't be reached: {0}")]
    Dial(#[source] tonic::transport::Error),
    #[error("the JobManager refused the stream: {0}")]
    Stream(Box<tonic::Status>),
    #[error("the JobManager refused this TaskManager: {0}")]
    Refused(String),
    #[error("the JobManager answered out of order")]
    Protocol,
    #[error("the JobManager closed the stream")]
    Closed,
    #[error("the JobManager was silent for {0:?}")]
    Silent(Duration),
}

impl ConnectionLoop {
    /// Runs until nobody takes its events.
    pub(crate) async fn run(self) {
        let mut pause = FIRST_PAUSE;
        while !self.events.is_closed() {
            let mut registered = false;
            let end = self.connect(&mut registered).await;
            if registered {
                pause = FIRST_PAUSE;
                tracing::warn!(reason = %end, "lost the JobManager");
                if self.events.send(Event::Disconnected).await.is_err() {
                    return;
                }
            } else {
                tracing::info!(reason = %end, "no JobManager yet, trying again");
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn connect(&self, registered: &mut bool) -> ConnectionEnd {
        match self.register().await {
            Ok((greeting, epoch, messages, client, commands)) => {
                *registered = true;
                tracing::info!(epoch, "registered at the JobManager");
                let connected = Event::Connected {
                    epoch,
                    messages,
                    client,
                };
                if self.events.send(connected).await.is_err() {
                    return ConnectionEnd::Closed;
                }
                self.pass_on(commands, Duration::from_millis(greeting.heartbeat_timeout_ms))
                    .await
            }
            Err(end) => end,
        }
    }

    #[allow(clippy::type_complexity)] // one use, named where it is taken apart
    async fn register(
        &self,
    ) -> Result<
        (
            Registered,
            u64,
            mpsc::Sender<TaskManagerMessage>,
            JobManagerClient<Channel>,
            Streaming<JobManagerCommand>,
        ),
        ConnectionEnd,
    > {
        let channel = self
            .endpoint
            .clone()
            .connect_timeout(DIAL_TIMEOUT)
            .connect()
            .await;
        let mut client = JobManagerClient::new(channel.map_err(ConnectionEnd::Dial)?)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let (messages, outgoing) = mpsc::channel(MESSAGE_QUEUE);
        let mut registration = self.registration.clone();
        registration.workers = self
            .snapshot
            .borrow()
            .jobs
            .iter()
            .map(|job| job.running.clone())
            .collect();
        let register = task_manager_message::Message::Register(registration);
        let first = TaskManagerMessage {
            epoch: 0,
            message: Some(register),
        };
        messages.try_send(first).map_err(|_| ConnectionEnd::Closed)?;
        let stream_error = |status: tonic::Status| ConnectionEnd::Stream(Box::new(status));
        let response = client
            .connect_task_manager(ReceiverStream::new(outgoing))
            .await
            .map_err(stream_error)?;
        let mut commands = response.into_inner();
        let answer = tokio::time::timeout(DIAL_TIMEOUT, commands.message()).await;
        let answer = answer
            .map_err(|_| ConnectionEnd::Silent(DIAL_TIMEOUT))?
            .map_err(stream_error)?;
        let JobManagerCommand { epoch, command } = answer.ok_or(ConnectionEnd::Closed)?;
        match command {
            Some(job_manager_command::Command::Registered(greeting)) => {
                Ok((greeting, epoch, messages, client, commands))
            }
            Some(job_manager_command::Command::Refused(refused)) => {
                Err(ConnectionEnd::Refused(refused.reason))
            }
            _ => Err(ConnectionEnd::Protocol),
        }
    }

    async fn pass_on(&self, mut commands: Streaming<JobManagerCommand>, silence: Duration) -> ConnectionEnd {
        loop {
            match tokio::time::timeout(silence, commands.message()).await {
                Err(_) => return ConnectionEnd::Silent(silence),
                Ok(Err(status)) => return ConnectionEnd::Stream(Box::new(status)),
                Ok(Ok(None)) => return ConnectionEnd::Closed,
                Ok(Ok(Some(command))) => {
                    if self.events.send(Event::Command(Box::new(command))).await.is_err() {
                        return ConnectionEnd::Closed;
                    }
                }
            }
        }
    }
}
