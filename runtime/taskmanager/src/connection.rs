//! The stream to the JobManager: dial, register, pass on, dial again.
//!
//! ```text
//!   dial --register--> Registered: Event::Connected -> commands... -> broken or silent: Event::Disconnected --pause--> dial
//! ```
//!
//! The pause doubles from 100 ms to 5 s, but is short for the first seconds: pods of a cluster start together and in any
//! order, and a JobManager that is replaced is back soon. A TaskManager waits for its JobManager for ever.

use std::sync::Arc;
use std::time::{Duration, Instant};

use thalweg_proto::control::v1::job_manager_client::JobManagerClient;
use thalweg_proto::control::v1::{
    JobManagerCommand, RegisterTaskManager, Registered, TaskManagerMessage, job_manager_command,
    task_manager_message,
};
use tokio::sync::{Notify, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use crate::actor::{Event, Snapshot};
use crate::gateway::MAX_MESSAGE_BYTES;

/// Messages on their way to the JobManager.
const MESSAGE_QUEUE: usize = 1024;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A JobManager that has been away for less than this is about to come.
const SOON: Duration = Duration::from_secs(15);
const LONGEST_PAUSE_IF_SOON: Duration = Duration::from_millis(200);
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
    #[error("the JobManager takes no messages: {MESSAGE_QUEUE} wait for it")]
    Stuck,
}

/// A JobManager took this TaskManager in.
struct Accepted {
    greeting: Registered,
    epoch: u64,
    messages: mpsc::Sender<TaskManagerMessage>,
    client: JobManagerClient<Channel>,
    commands: Streaming<JobManagerCommand>,
}

impl ConnectionLoop {
    /// Runs until nobody takes its events.
    pub(crate) async fn run(self) {
        let mut pause = FIRST_PAUSE;
        let mut without = Instant::now();
        while !self.events.is_closed() {
            let mut registered = false;
            let end = self.connect(&mut registered).await;
            if registered {
                (pause, without) = (FIRST_PAUSE, Instant::now());
                tracing::warn!(reason = %end, "lost the JobManager");
                if self.events.send(Event::Disconnected).await.is_err() {
                    return;
                }
            } else {
                tracing::info!(reason = %end, "no JobManager yet, trying again");
            }
            tokio::time::sleep(pause).await;
            pause = next_pause(pause, without.elapsed());
        }
    }

    async fn connect(&self, registered: &mut bool) -> ConnectionEnd {
        match self.register().await {
            Ok(accepted) => {
                *registered = true;
                tracing::info!(epoch = accepted.epoch, "registered at the JobManager");
                let given_up = Arc::new(Notify::new());
                let connected = Event::Connected {
                    epoch: accepted.epoch,
                    messages: accepted.messages,
                    client: accepted.client,
                    give_up: Arc::clone(&given_up),
                };
                if self.events.send(connected).await.is_err() {
                    return ConnectionEnd::Closed;
                }
                let silence = Duration::from_millis(accepted.greeting.heartbeat_timeout_ms);
                tokio::select! {
                    end = self.pass_on(accepted.commands, silence) => end,
                    () = given_up.notified() => ConnectionEnd::Stuck,
                }
            }
            Err(end) => end,
        }
    }

    async fn register(&self) -> Result<Accepted, ConnectionEnd> {
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
            Some(job_manager_command::Command::Registered(greeting)) => Ok(Accepted {
                greeting,
                epoch,
                messages,
                client,
                commands,
            }),
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

/// The pause after `pause`, when there has been no JobManager for `without`.
fn next_pause(pause: Duration, without: Duration) -> Duration {
    let longest = if without < SOON {
        LONGEST_PAUSE_IF_SOON
    } else {
        LONGEST_PAUSE
    };
    (pause * 2).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_short_while_the_job_manager_is_expected_and_grow_afterwards() {
        assert_eq!(next_pause(FIRST_PAUSE, Duration::ZERO), LONGEST_PAUSE_IF_SOON);
        assert_eq!(next_pause(LONGEST_PAUSE_IF_SOON, SOON / 2), LONGEST_PAUSE_IF_SOON);
        assert_eq!(next_pause(LONGEST_PAUSE_IF_SOON, SOON), LONGEST_PAUSE_IF_SOON * 2);
        assert_eq!(next_pause(LONGEST_PAUSE, SOON), LONGEST_PAUSE);
    }
}
