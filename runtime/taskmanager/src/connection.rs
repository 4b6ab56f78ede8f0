//! The stream to the leading JobManager: find it, dial, register, pass on, dial again.
//!
//! ```text
//!   leader? --dial, register--> Registered: Event::Connected -> commands... -> broken, silent, or a newer leader is there:
//!      ^                                                                       Event::Disconnected --pause--.
//!      `----------------------------------------------------------------------------------------------------'
//! ```
//!
//! The pause doubles from 100 ms to 5 s, but is short for the first seconds: pods of a cluster start together and in any
//! order, and a JobManager that is replaced is back soon. A TaskManager waits for its JobManager for ever.
//!
//! Invariant: where JobManagers elect a leader, none of a lower epoch than one that was followed is registered at.

use std::sync::Arc;
use std::time::{Duration, Instant};

use thalweg_proto::control::v1::job_manager_client::JobManagerClient;
use thalweg_proto::control::v1::{
    JobManagerCommand, RegisterTaskManager, Registered, TaskManagerMessage, job_manager_command,
    task_manager_message,
};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::actor::Event;
use crate::gateway::MAX_MESSAGE_BYTES;
use crate::leader::{JobManagers, Leader, NoLeader, SEARCH_INTERVAL, WATCH_INTERVAL, endpoint};

/// Messages on their way to the JobManager.
pub(crate) const MESSAGE_QUEUE: usize = 1024;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Where a standby takes over: it is about to, whenever the leader is away.
const LONGEST_PAUSE_IF_ELECTED: Duration = Duration::from_millis(500);
/// A JobManager that has been away for less than this is about to come.
const SOON: Duration = Duration::from_secs(15);
const LONGEST_PAUSE_IF_SOON: Duration = Duration::from_millis(200);
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// From the dial to the greeting.
const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(15);

/// Keeps a TaskManager connected.
pub(crate) struct ConnectionLoop {
    pub(crate) job_managers: JobManagers,
    pub(crate) registration: RegisterTaskManager,
    pub(crate) events: mpsc::Sender<Event>,
    /// The highest epoch that was followed.
    pub(crate) followed: u64,
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
    #[error(transparent)]
    NoLeader(#[from] NoLeader),
    #[error("the JobManager at {address} leads now, with epoch {epoch}")]
    NewLeader { address: String, epoch: u64 },
    #[error("it leads no longer: it has epoch {epoch}, {followed} was followed before")]
    EarlierLeader { epoch: u64, followed: u64 },
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
    pub(crate) async fn run(mut self) {
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
            if matches!(end, ConnectionEnd::NewLeader { .. }) {
                continue;
            }
            tokio::time::sleep(pause).await;
            pause = next_pause(pause, without.elapsed(), self.job_managers.elect());
        }
    }

    async fn connect(&mut self, registered: &mut bool) -> ConnectionEnd {
        match self.register().await {
            Ok(accepted) => {
                *registered = true;
                let epoch = accepted.epoch;
                self.followed = self.followed.max(epoch);
                tracing::info!(epoch, "registered at the JobManager");
                let given_up = Arc::new(Notify::new());
                let connected = Event::Connected {
                    epoch,
                    messages: accepted.messages,
                    client: accepted.client,
                    give_up: Arc::clone(&given_up),
                };
                if self.events.send(connected).await.is_err() {
                    return ConnectionEnd::Closed;
                }
                let silence = Duration::from_millis(accepted.greeting.heartbeat_timeout_ms);
                tokio::select! {
                    end = pass_on(&self.events, accepted.commands, silence) => end,
                    () = given_up.notified() => ConnectionEnd::Stuck,
                    Leader { address, epoch } = self.job_managers.newer_than(epoch, WATCH_INTERVAL) => {
                        ConnectionEnd::NewLeader { address, epoch }
                    }
                }
            }
            Err(end) => end,
        }
    }

    /// Finds the leader and registers there. Others know its address also when it is gone, or hangs: the next one may be there before it has
    /// been given up.
    async fn register(&mut self) -> Result<Accepted, ConnectionEnd> {
        let leader = self.job_managers.leader(self.followed).await?;
        let epoch = self.followed.max(leader.epoch);
        let (elects, followed) = (self.job_managers.elect(), self.followed);
        let registered = tokio::time::timeout(
            REGISTRATION_TIMEOUT,
            register_at(&leader, elects, followed, &self.registration, &self.events),
        );
        tokio::select! {
            registered = registered => registered.unwrap_or(Err(ConnectionEnd::Silent(REGISTRATION_TIMEOUT))),
            Leader { address, epoch } = self.job_managers.newer_than(epoch, SEARCH_INTERVAL) => {
                Err(ConnectionEnd::NewLeader { address, epoch })
            }
        }
    }
}

/// Dials a JobManager and registers there; `followed`: the highest epoch so far.
async fn register_at(
    leader: &Leader,
    elects: bool,
    followed: u64,
    registration: &RegisterTaskManager,
    events: &mpsc::Sender<Event>,
) -> Result<Accepted, ConnectionEnd> {
    let endpoint = endpoint(&leader.address).map_err(ConnectionEnd::Dial)?;
    let channel = endpoint.connect_timeout(DIAL_TIMEOUT).connect().await;
    let mut client = JobManagerClient::new(channel.map_err(ConnectionEnd::Dial)?)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let (messages, outgoing) = mpsc::channel(MESSAGE_QUEUE);
    let mut registration = registration.clone();
    let (answer, workers) = oneshot::channel();
    let asked = events.send(Event::Registering { answer }).await;
    asked.map_err(|_| ConnectionEnd::Closed)?;
    registration.workers = workers.await.map_err(|_| ConnectionEnd::Closed)?;
    let register = task_manager_message::Message::Register(registration);
    let first = TaskManagerMessage {
        // One that leads no longer refuses this TaskManager.
        epoch: if elects { followed } else { 0 },
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
    if elects && epoch < followed {
        return Err(ConnectionEnd::EarlierLeader { epoch, followed });
    }
    match command {
        Some(job_manager_command::Command::Registered(greeting)) => Ok(Accepted {
            greeting,
            epoch,
            messages,
            client,
            commands,
        }),
        Some(job_manager_command::Command::Refused(refused)) => Err(ConnectionEnd::Refused(refused.reason)),
        _ => Err(ConnectionEnd::Protocol),
    }
}

async fn pass_on(
    events: &mpsc::Sender<Event>,
    mut commands: Streaming<JobManagerCommand>,
    silence: Duration,
) -> ConnectionEnd {
    loop {
        match tokio::time::timeout(silence, commands.message()).await {
            Err(_) => return ConnectionEnd::Silent(silence),
            Ok(Err(status)) => return ConnectionEnd::Stream(Box::new(status)),
            Ok(Ok(None)) => return ConnectionEnd::Closed,
            Ok(Ok(Some(command))) => {
                if events.send(Event::Command(Box::new(command))).await.is_err() {
                    return ConnectionEnd::Closed;
                }
            }
        }
    }
}

/// The pause after `pause`, when there has been no JobManager for `without`.
fn next_pause(pause: Duration, without: Duration, elected: bool) -> Duration {
    let longest = match (without < SOON, elected) {
        (true, _) => LONGEST_PAUSE_IF_SOON,
        (false, true) => LONGEST_PAUSE_IF_ELECTED,
        (false, false) => LONGEST_PAUSE,
    };
    (pause * 2).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_short_while_the_job_manager_is_expected_and_grow_afterwards() {
        assert_eq!(
            next_pause(FIRST_PAUSE, Duration::ZERO, false),
            LONGEST_PAUSE_IF_SOON
        );
        assert_eq!(
            next_pause(LONGEST_PAUSE_IF_SOON, SOON / 2, false),
            LONGEST_PAUSE_IF_SOON
        );
        assert_eq!(
            next_pause(LONGEST_PAUSE_IF_SOON, SOON, false),
            LONGEST_PAUSE_IF_SOON * 2
        );
        assert_eq!(next_pause(LONGEST_PAUSE, SOON, false), LONGEST_PAUSE);
        assert_eq!(next_pause(LONGEST_PAUSE, SOON, true), LONGEST_PAUSE_IF_ELECTED);
    }
}
