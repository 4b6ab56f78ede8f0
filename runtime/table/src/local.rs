//! A job in this process: its tasks are threads here, there is no JobManager and no worker.
//!
//! ```text
//!   JobProgram --ExecutionGraph: facts, actions--> TaskExecutor --events--> .. --> FINISHED | FAILED | CANCELED
//! ```
//!
//! The ExecutionGraph is the cluster's own; here one TaskManager has all slots. Checkpoints and with them restarts belong to
//! clusters: a job that asks for checkpoints is run by `thalweg run`'s processes. Invariant: when [`LocalRun::run`] returns, no task runs.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use thalweg_exchange::{Exchange, ExchangeConfig, ExchangeError};
use thalweg_graph::execution::{
    Action, ExecutionGraph, Fact, JobStatus, TaskReport, TaskState, TimerId, execution_id, failure_from_proto,
};
use thalweg_graph::{GraphError, job_graph, required_slots};
use thalweg_task::{ExecutorSettings, JobProgram, TaskEvent, TaskExecutor};
use thalweg_types::config::Configuration;
use thalweg_types::{Classify, Failure, FailureClass, JobId, TaskManagerId};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// Memory for rows between tasks.
const NETWORK_BYTES: usize = 64 << 20;

/// Why a job did not finish.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Its graph can't be run.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The port for tasks of other processes, which all exchanges have, did not open.
    #[error("tasks can't exchange rows: {0}")]
    Exchange(#[source] ExchangeError),
    /// It failed.
    #[error("{}", .0.message)]
    Failed(Failure),
    /// It was canceled.
    #[error("the job was canceled")]
    Canceled,
}

impl Classify for LocalError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Graph(source) => source.class(),
            Self::Exchange(source) => source.class(),
            Self::Failed(failure) => failure.class,
            Self::Canceled => FailureClass::Fatal,
        }
    }
}

/// One run of a job.
pub struct LocalRun {
    graph: ExecutionGraph,
    executor: TaskExecutor,
    events: mpsc::Receiver<TaskEvent>,
    timers: mpsc::UnboundedReceiver<TimerId>,
    timer: mpsc::UnboundedSender<TimerId>,
    task_manager: TaskManagerId,
    data_address: String,
    slots: u32,
    failure: Option<Failure>,
}

impl LocalRun {
    /// Makes everything ready. `configuration` goes over the program's own.
    pub async fn new(program: JobProgram, configuration: &Configuration) -> Result<Self, LocalError> {
        let job = job_graph(
            &program.stream_graph,
            JobId::random(&mut rand::rng()),
            configuration,
        )?;
        let slots = required_slots(&job);
        let exchange = exchange().await.map_err(LocalError::Exchange)?;
        let data_address = exchange.local_addr().to_string();
        let (executor, events) =
            TaskExecutor::new(program, exchange, Handle::current(), ExecutorSettings::default());
        let (timer, timers) = mpsc::unbounded_channel();
        Ok(Self {
            graph: ExecutionGraph::new(job, now_ms())?,
            executor,
            events,
            timers,
            timer,
            task_manager: TaskManagerId("local".to_owned()),
            data_address,
            slots,
            failure: None,
        })
    }

    /// Runs the job to its end, or until `canceled` is ready.
    pub async fn run(mut self, canceled: impl Future<Output = ()>) -> Result<(), LocalError> {
        tokio::pin!(canceled);
        let mut cancelable = true;
        self.apply(Fact::Start);
        loop {
            match self.graph.status() {
                JobStatus::Finished => return Ok(()),
                JobStatus::Canceled => return Err(LocalError::Canceled),
                status if status.is_terminal() => return Err(LocalError::Failed(self.why())),
                _ => {}
            }
            tokio::select! {
                Some(event) = self.events.recv() => self.take(event),
                Some(timer) = self.timers.recv() => self.apply(Fact::TimerElapsed { timer }),
                () = &mut canceled, if cancelable => {
                    cancelable = false;
                    self.apply(Fact::CancelRequested);
                }
            }
        }
    }

    fn why(&mut self) -> Failure {
        let unknown = || Failure::new(FailureClass::Bug, "the job failed and no task says why");
        self.failure.take().unwrap_or_else(unknown)
    }

    fn take(&mut self, event: TaskEvent) {
        // Nobody triggers checkpoints, and watermarks are aligned by a JobMaster.
        let TaskEvent::State(report) = event else {
            return;
        };
        let update = report.update;
        let Some(execution) = update.execution.as_ref().and_then(|it| execution_id(it).ok()) else {
            return;
        };
        let Some(state) = TaskState::from_proto(update.state()) else {
            return;
        };
        let failure = update.failure.as_ref().map(failure_from_proto);
        if let (TaskState::Failed, Some(failure)) = (state, &failure) {
            self.failure.get_or_insert_with(|| failure.clone());
        }
        self.apply(Fact::TaskState(TaskReport {
            execution,
            state,
            failure,
        }));
    }

    fn apply(&mut self, fact: Fact) {
        let mut facts = vec![fact];
        while let Some(fact) = facts.pop() {
            for action in self.graph.apply(fact, now_ms(), rand::random()) {
                self.follow(action, &mut facts);
            }
        }
    }

    fn follow(&mut self, action: Action, facts: &mut Vec<Fact>) {
        match action {
            Action::DeclareSlots { required, held } if required > held => {
                let slots = BTreeMap::from([(
                    self.task_manager.clone(),
                    (held..required.min(self.slots)).collect(),
                )]);
                facts.push(Fact::SlotsGranted { slots });
            }
            Action::StartWorker {
                task_manager,
                generation,
                ..
            } => facts.push(Fact::WorkerReady {
                task_manager,
                generation,
                data_address: self.data_address.clone(),
            }),
            Action::Deploy { tasks, .. } => {
                for task in tasks {
                    if let Err(error) = self.executor.deploy(&task) {
                        let failure = Failure::from_error(&error);
                        self.failure.get_or_insert_with(|| failure.clone());
                        facts.push(Fact::JobFailed { failure });
                    }
                }
            }
            Action::Cancel { executions, .. } => {
                for execution in &executions {
                    self.executor.cancel(execution);
                }
            }
            Action::SetTimer { timer, after_ms } => {
                let elapsed = self.timer.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(after_ms)).await;
                    // The run may be over.
                    let _ = elapsed.send(timer);
                });
            }
            Action::DeclareSlots { .. }
            | Action::ReleaseSlots { .. }
            | Action::StopWorker { .. }
            | Action::StatusChanged { .. } => {}
        }
    }
}

async fn exchange() -> Result<Arc<Exchange>, ExchangeError> {
    let loopback = (Ipv4Addr::LOCALHOST, 0).into();
    let token = hex::encode(rand::random::<[u8; 16]>());
    let config = ExchangeConfig::new(loopback, NETWORK_BYTES, Handle::current(), token);
    let exchange = Exchange::start(config).await?;
    let address = exchange.local_addr().to_string();
    exchange.set_advertised(address);
    Ok(exchange)
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
