//! The worker's side of `control.v1.TaskManager.ConnectWorker`.
//!
//! ```text
//!   hello -> (deploy | cancel | trigger checkpoint | notify checkpoint | align watermarks)* -> shutdown
//!   states in order, none lost; a heartbeat each second, and one before each terminal state, with the last counters
//! ```

use std::sync::Arc;
use std::time::Duration;

use thalweg_exchange::{Exchange, ExchangeConfig, ExchangeError};
use thalweg_proto::WORKER_PROTOCOL_VERSION;
use thalweg_proto::control::v1::task_manager_client::TaskManagerClient;
use thalweg_proto::control::v1::{
    self as control, TaskState, WorkerCommand, WorkerHeartbeat, WorkerHello, WorkerMessage, worker_command,
    worker_message,
};
use thalweg_types::Failure;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use super::{WorkerError, WorkerSettings};
use crate::clock::Clock;
use crate::error::TaskError;
use crate::executor::{ExecutorSettings, TaskEvent, TaskExecutor, failure_message, state_update};
use crate::plan::execution_id;
use crate::program::JobProgram;

const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a shutdown waits for tasks to end, and then for the last messages to be taken.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);
/// Messages on their way to the TaskManager; more wait in the executor's queue.
const MESSAGE_QUEUE: usize = 64;
/// A deployment names every channel of a task.
const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// The exchange's part of the budget: Flink's `taskmanager.memory.network.fraction`, min and max.
const NETWORK_FRACTION: u64 = 10;
/// The state's part of a slot's memory.
const STATE_PERCENT: u64 = 60;
const NETWORK_MIN_BYTES: u64 = 16 << 20;
const NETWORK_MAX_BYTES: u64 = 1 << 30;

/// Connects and serves until shutdown or the end of the connection.
pub(super) async fn serve(program: JobProgram, settings: WorkerSettings) -> Result<(), WorkerError> {
    let client = connect(&settings.gateway).await?;
    let exchange = start_exchange(&settings).await;
    let data_port = exchange
        .as_ref()
        .map_or(0, |exchange| exchange.local_addr().port());
    let (outgoing, messages) = mpsc::channel(MESSAGE_QUEUE);
    let link = Link {
        outgoing,
        gateway: settings.gateway.clone(),
    };
    link.send(worker_message::Message::Hello(hello(
        &program, &settings, data_port,
    )))
    .await?;
    let commands = open_stream(client, messages, &settings.gateway).await?;
    match exchange {
        Ok(exchange) => {
            let executor_settings = executor_settings(&program, &settings);
            let (executor, events) =
                TaskExecutor::new(program, exchange, Handle::current(), executor_settings);
            Gateway {
                link,
                executor,
                events,
                allocated_bytes: settings.allocated_bytes,
            }
            .run(commands)
            .await
        }
        Err(error) => {
            let error = WorkerError::Exchange(error);
            link.send(worker_message::Message::Failed(failure_message(
                Failure::from_error(&error),
            )))
            .await?;
            link.close(commands).await;
            Err(error)
        }
    }
}

async fn connect(gateway: &str) -> Result<TaskManagerClient<Channel>, WorkerError> {
    let failed = |source| WorkerError::Connect {
        gateway: gateway.to_owned(),
        source,
    };
    let endpoint = Endpoint::from_shared(gateway.to_owned()).map_err(failed)?;
    let channel = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .connect()
        .await
        .map_err(failed)?;
    let client = TaskManagerClient::new(channel);
    Ok(client
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES))
}

async fn open_stream(
    mut client: TaskManagerClient<Channel>,
    messages: mpsc::Receiver<WorkerMessage>,
    gateway: &str,
) -> Result<Streaming<WorkerCommand>, WorkerError> {
    let response = client.connect_worker(ReceiverStream::new(messages)).await;
    response
        .map(tonic::Response::into_inner)
        .map_err(|status| WorkerError::Refused {
            gateway: gateway.to_owned(),
            message: status.message().to_owned(),
        })
}

async fn start_exchange(settings: &WorkerSettings) -> Result<Arc<Exchange>, ExchangeError> {
    let network = (settings.memory_bytes / NETWORK_FRACTION).clamp(NETWORK_MIN_BYTES, NETWORK_MAX_BYTES);
    let memory_bytes = usize::try_from(network).unwrap_or(usize::MAX);
    let bind = (settings.data_bind, 0).into();
    let config = ExchangeConfig::new(
        bind,
        memory_bytes,
        Handle::current(),
        settings.exchange_token.as_str(),
    );
    let exchange = Exchange::start(config).await?;
    let port = exchange.local_addr().port();
    exchange.set_advertised(format!("{}:{port}", settings.data_host));
    Ok(exchange)
}

/// A slot runs one subtask of each operator at most, so its state's part of the budget is shared by the keyed operators.
fn executor_settings(program: &JobProgram, settings: &WorkerSettings) -> ExecutorSettings {
    let nodes = &program.stream_graph.nodes;
    let keyed = nodes
        .iter()
        .filter(|node| !node.key_columns.is_empty())
        .count()
        .max(1) as u64;
    let slot = settings.memory_bytes / settings.slots.max(1);
    let state = slot / 100 * STATE_PERCENT / keyed;
    ExecutorSettings {
        state_memory_bytes: usize::try_from(state).unwrap_or(usize::MAX),
        clock: Clock::system(),
        local_state: settings.local_state.clone(),
    }
}

fn hello(program: &JobProgram, settings: &WorkerSettings, data_port: u16) -> WorkerHello {
    WorkerHello {
        protocol_version: WORKER_PROTOCOL_VERSION,
        api_version: settings.api_version.clone(),
        job_id: settings.job_id.to_string(),
        token: settings.token.clone(),
        data_port: data_port.into(),
        fingerprint: thalweg_graph::fingerprint(&program.stream_graph),
        stream_graph: Some(program.stream_graph.clone()),
    }
}

/// The way to the TaskManager.
struct Link {
    outgoing: mpsc::Sender<WorkerMessage>,
    gateway: String,
}

impl Link {
    async fn send(&self, message: worker_message::Message) -> Result<(), WorkerError> {
        let message = WorkerMessage {
            message: Some(message),
        };
        self.outgoing
            .send(message)
            .await
            .map_err(|_| self.lost("it takes no more messages"))
    }

    /// What a task tells; a terminal state behind a heartbeat with what the task counted to its end, beside `tasks`.
    async fn pass_on(
        &self,
        event: TaskEvent,
        mut tasks: Vec<control::TaskMetrics>,
        allocated_bytes: fn() -> u64,
    ) -> Result<(), WorkerError> {
        let mut report = match event {
            TaskEvent::State(report) => report,
            TaskEvent::Acknowledge(acknowledge) => {
                return self
                    .send(worker_message::Message::AcknowledgeCheckpoint(acknowledge))
                    .await;
            }
            TaskEvent::Decline(decline) => {
                return self
                    .send(worker_message::Message::DeclineCheckpoint(decline))
                    .await;
            }
            TaskEvent::Watermark(report) => {
                return self.send(worker_message::Message::ReportWatermark(report)).await;
            }
        };
        if let Some(metrics) = report.metrics {
            report.update.metrics = Some(metrics.clone());
            tasks.push(metrics);
            self.beat(tasks, allocated_bytes).await?;
        }
        self.send(worker_message::Message::TaskState(report.update)).await
    }

    async fn beat(
        &self,
        tasks: Vec<control::TaskMetrics>,
        allocated_bytes: fn() -> u64,
    ) -> Result<(), WorkerError> {
        let heartbeat = WorkerHeartbeat {
            allocated_bytes: allocated_bytes(),
            tasks,
        };
        self.send(worker_message::Message::Heartbeat(heartbeat)).await
    }

    fn lost(&self, message: impl Into<String>) -> WorkerError {
        WorkerError::GatewayLost {
            gateway: self.gateway.clone(),
            message: message.into(),
        }
    }

    /// Ends this side's messages and waits, not for long, until the other side has taken them.
    async fn close(self, mut commands: Streaming<WorkerCommand>) {
        drop(self.outgoing);
        let taken = async { while let Ok(Some(_)) = commands.message().await {} };
        if timeout(SHUTDOWN_TIMEOUT, taken).await.is_err() {
            tracing::warn!("the TaskManager did not close the connection of a worker that is done");
        }
    }
}

struct Gateway {
    link: Link,
    executor: TaskExecutor,
    events: mpsc::Receiver<TaskEvent>,
    allocated_bytes: fn() -> u64,
}

impl Gateway {
    async fn run(mut self, mut commands: Streaming<WorkerCommand>) -> Result<(), WorkerError> {
        let mut heartbeat = interval(HEARTBEAT_INTERVAL);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                command = commands.message() => match command {
                    Ok(Some(WorkerCommand { command: Some(worker_command::Command::Shutdown(_)) })) => break,
                    Ok(Some(WorkerCommand { command })) => self.obey(command).await?,
                    Ok(None) => return Err(self.link.lost("the TaskManager closed it")),
                    Err(status) => return Err(self.link.lost(status.message())),
                },
                Some(event) = self.events.recv() => {
                    let ends = matches!(&event, TaskEvent::State(report) if report.metrics.is_some());
                    let tasks = if ends { self.executor.metrics() } else { Vec::new() };
                    self.link.pass_on(event, tasks, self.allocated_bytes).await?;
                }
                _ = heartbeat.tick() => {
                    self.link.beat(self.executor.metrics(), self.allocated_bytes).await?;
                }
            }
        }
        self.finish().await?.close(commands).await;
        Ok(())
    }

    async fn obey(&self, command: Option<worker_command::Command>) -> Result<(), WorkerError> {
        match command {
            Some(worker_command::Command::Deploy(deploy)) => {
                for deployment in &deploy.tasks {
                    if let Err(error) = self.executor.deploy(deployment) {
                        self.refuse(deployment, &error).await?;
                    }
                }
            }
            Some(worker_command::Command::Cancel(cancel)) => {
                for attempt in &cancel.executions {
                    // One that has ended has reported so: there is nothing to answer.
                    let _ = execution_id(attempt).map(|execution| self.executor.cancel(&execution));
                }
            }
            Some(worker_command::Command::TriggerCheckpoint(trigger)) => self.trigger(&trigger).await?,
            Some(worker_command::Command::NotifyCheckpoint(notify)) => {
                for attempt in &notify.executions {
                    if let Ok(execution) = execution_id(attempt) {
                        self.executor
                            .notify(&execution, notify.checkpoint_id, notify.completed);
                    }
                }
            }
            Some(worker_command::Command::AlignWatermarks(align)) => {
                for attempt in &align.executions {
                    if let Ok(execution) = execution_id(attempt) {
                        self.executor.align(&execution, align.max_watermark_ms);
                    }
                }
            }
            Some(worker_command::Command::Shutdown(_)) | None => {}
        }
        Ok(())
    }

    async fn trigger(&self, trigger: &control::TriggerCheckpoint) -> Result<(), WorkerError> {
        for attempt in &trigger.executions {
            let triggered = execution_id(attempt)
                .map_err(|error| (control::CheckpointFailureReason::Declined, error.to_failure()))
                .and_then(|execution| self.executor.trigger(&execution, trigger));
            if let Err((reason, failure)) = triggered {
                let declined = TaskEvent::Decline(control::DeclineCheckpoint {
                    execution: Some(attempt.clone()),
                    checkpoint_id: trigger.checkpoint_id,
                    failure: Some(failure_message(failure)),
                    reason: reason.into(),
                });
                self.link
                    .pass_on(declined, Vec::new(), self.allocated_bytes)
                    .await?;
            }
        }
        Ok(())
    }

    async fn refuse(
        &self,
        deployment: &control::TaskDeployment,
        error: &TaskError,
    ) -> Result<(), WorkerError> {
        let attempt = deployment.execution.clone().unwrap_or_default();
        let update = state_update(&attempt, TaskState::Failed, Some(error.to_failure()));
        self.link.send(worker_message::Message::TaskState(update)).await
    }

    /// Cancels what runs and passes on how it ends, as far as that takes no longer than [`SHUTDOWN_TIMEOUT`].
    async fn finish(self) -> Result<Link, WorkerError> {
        let Self {
            link,
            executor,
            mut events,
            allocated_bytes,
        } = self;
        // The events end when the executor and the last task's thread are gone.
        drop(executor);
        let deadline = Instant::now() + SHUTDOWN_TIMEOUT;
        while let Ok(Some(event)) = timeout_at(deadline, events.recv()).await {
            link.pass_on(event, Vec::new(), allocated_bytes).await?;
        }
        Ok(link)
    }
}

#[cfg(test)]
mod tests;
