//! The one task that owns the control plane: events in, decisions by [`Dispatcher`], commands out.
//!
//! ```text
//!   gRPC streams, REST, submissions --Event (bounded)--> [ Dispatcher::handle(event, now) -> Effects ] --> TaskManagers' streams
//!                                                           |  next timer                                  (bounded; full = lost)
//!                                         ^                 |--> version (watch) --> WatchCluster, job watches
//!                                         |                 |--> the jobs' logs (high availability)
//!                                         `-- StorageDone --`--> storage: a task each, never waited for here
//! ```
//!
//! A raised [`Fence`] ends it at once: nothing that is decided is commanded any more.
//!
//! Readers send a closure through the same mailbox, so what they see is never half a change.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use thalweg_proto::cluster::v1 as cluster;
use thalweg_proto::control::v1::{
    JobManagerCommand, RegisterTaskManager, TaskManagerMessage, job_manager_command,
};
use thalweg_proto::ha::v1::{CancelRequested, record::Content};
use thalweg_types::{Failure, JobId};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::Status;

use crate::dispatcher::{Begin, Dispatcher, Effect, Submission};
use crate::error::ShuttingDown;
use crate::high_availability::{Fence, HighAvailability, RecoveredJob, RetirementError};
use crate::job_master::{News, SnapshotRequest};
use crate::package::Package;
use crate::resource_manager::ConnectionId;
use crate::storage_work::{StorageOutcome, StorageTasks};

/// Events that wait for the control plane.
const MAILBOX: usize = 1024;
/// Commands that wait for one TaskManager; one that takes none for so long is lost.
pub(crate) const COMMAND_QUEUE: usize = 4096;

/// Milliseconds of Unix time that never go back: the clock of the start plus a monotonic one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started_at: Instant,
    started_at_ms: u64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            started_at: Instant::now(),
            started_at_ms: since_epoch.as_millis() as u64,
        }
    }

    /// When it was made.
    pub(crate) fn start_ms(&self) -> u64 {
        self.started_at_ms
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.started_at_ms + self.started_at.elapsed().as_millis() as u64
    }
}

/// Commands on their way to one TaskManager.
pub(crate) type CommandSender = mpsc::Sender<Result<JobManagerCommand, Status>>;

type Reader = Box<dyn FnOnce(&Dispatcher, u64) + Send>;

/// What the control plane is told.
pub(crate) enum Event {
    /// A TaskManager's first message.
    Connected {
        connection: ConnectionId,
        register: Box<RegisterTaskManager>,
        epoch: u64,
        commands: CommandSender,
    },
    /// A later one.
    Message {
        connection: ConnectionId,
        message: Box<TaskManagerMessage>,
    },
    /// Its stream is gone.
    Disconnected { connection: ConnectionId },
    /// Somebody wants to submit a job.
    Begin {
        operation_id: String,
        answer: oneshot::Sender<Result<JobId, Failure>>,
        begin: oneshot::Sender<Begin>,
    },
    /// The job is extracted, or can't be.
    Submitted {
        ticket: u64,
        outcome: Result<Box<Submission>, Failure>,
    },
    /// Of the application itself; `None` takes it back.
    ApplicationFailure(Option<Failure>),
    /// Cancel a job; answered by its state, or nothing if there is no such job.
    Cancel {
        job: JobId,
        answer: oneshot::Sender<Option<String>>,
    },
    /// Take a snapshot of a job; answered by the operation's id, why it can't begin, or nothing if there is no such job.
    TriggerSnapshot {
        job: JobId,
        request: SnapshotRequest,
        answer: oneshot::Sender<Option<Result<String, Failure>>>,
    },
    /// What a job wanted done in storage is done, or can't be.
    StorageDone {
        job: JobId,
        outcome: Box<StorageOutcome>,
    },
    /// This JobManager leads from now on.
    Lead { epoch: u64 },
    /// A job of the high-availability log.
    Recovered(Box<RecoveredJob>),
    /// There is no more job in it.
    RecoveryDone,
    /// The package of such a job is here, or can't be had.
    PackageFetched {
        job: JobId,
        outcome: Result<Arc<Package>, Failure>,
    },
    /// A job's log has what was to be told.
    Logged { job: JobId, news: News },
    /// Look at the state.
    Read(Reader),
    /// A sender of a job's status.
    WatchJob {
        job: JobId,
        answer: oneshot::Sender<Option<watch::Receiver<cluster::JobStatus>>>,
    },
    /// Stop.
    Shutdown,
}

/// The way to the control plane; cheap to clone.
#[derive(Clone)]
pub(crate) struct Control {
    events: mpsc::Sender<Event>,
    versions: watch::Receiver<u64>,
    high_availability: Option<HighAvailability>,
    clock: Clock,
}

impl Control {
    /// Unix milliseconds by this JobManager's clock.
    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    pub(crate) async fn send(&self, event: Event) -> Result<(), ShuttingDown> {
        self.events.send(event).await.map_err(|_| ShuttingDown)
    }

    /// Looks at the state between two events; the second argument is the time in Unix milliseconds.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Dispatcher, u64) -> T + Send + 'static,
    ) -> Result<T, ShuttingDown> {
        let (answer, answered) = oneshot::channel();
        let reader: Reader = Box::new(move |dispatcher, now_ms| {
            answer.send(look(dispatcher, now_ms)).ok();
        });
        self.send(Event::Read(reader)).await?;
        answered.await.map_err(|_| ShuttingDown)
    }

    /// Whether jobs outlive this JobManager.
    pub(crate) fn is_durable(&self) -> bool {
        self.high_availability.is_some()
    }

    /// With high availability: waits until it is known which jobs there are.
    pub(crate) async fn until_recovered(&self) {
        if let Some(high_availability) = &self.high_availability {
            high_availability.until_recovered().await;
        }
    }

    /// With high availability: the job is in the log after this.
    pub(crate) async fn persist(&self, submission: &Submission) -> Result<(), Failure> {
        match &self.high_availability {
            Some(high_availability) => high_availability.persist(submission).await,
            None => Ok(()),
        }
    }

    /// Cancels a job; its state afterwards, or nothing if there is no such job. With high availability what was answered holds for
    /// every leader to come.
    pub(crate) async fn cancel(&self, job: JobId) -> Result<Option<String>, ShuttingDown> {
        if let Some(high_availability) = &self.high_availability {
            let runs =
                move |dispatcher: &Dispatcher, _| dispatcher.job(job).is_some_and(|job| !job.is_ended());
            if self.read(runs).await? {
                let requested = Content::CancelRequested(CancelRequested {});
                let logged = high_availability.logged(job, requested).await;
                logged.map_err(|_| ShuttingDown)?;
            }
        }
        let (answer, answered) = oneshot::channel();
        self.send(Event::Cancel { job, answer }).await?;
        answered.await.map_err(|_| ShuttingDown)
    }

    /// The cluster does not come back: with high availability, its folder goes.
    pub(crate) async fn retire(&self) -> Result<Result<(), RetirementError>, ShuttingDown> {
        let Some(high_availability) = &self.high_availability else {
            return Ok(Ok(()));
        };
        high_availability.until_recovered().await;
        let running = |dispatcher: &Dispatcher, _| dispatcher.jobs().filter(|job| !job.shows_end()).count();
        Ok(match self.read(running).await? {
            0 => high_availability.retire().await,
            running => Err(RetirementError::JobsRun(running)),
        })
    }

    /// Begins a snapshot of a job: the operation's id or why it can't begin; nothing if there is no such job.
    pub(crate) async fn trigger_snapshot(
        &self,
        job: JobId,
        request: SnapshotRequest,
    ) -> Result<Option<Result<String, Failure>>, ShuttingDown> {
        let (answer, answered) = oneshot::channel();
        self.send(Event::TriggerSnapshot { job, request, answer }).await?;
        answered.await.map_err(|_| ShuttingDown)
    }

    /// Changes with every change of the state.
    pub(crate) fn versions(&self) -> watch::Receiver<u64> {
        self.versions.clone()
    }
}

/// Starts the control plane; it runs until [`Event::Shutdown`].
pub(crate) fn start(
    dispatcher: Dispatcher,
    clock: Clock,
    high_availability: Option<HighAvailability>,
) -> (Control, tokio::task::JoinHandle<()>) {
    let (events, mailbox) = mpsc::channel(MAILBOX);
    let (version, versions) = watch::channel(0);
    let fence = high_availability.as_ref().map(|ha| ha.fence().clone());
    let actor = Actor {
        dispatcher,
        clock,
        version,
        storage: StorageTasks::new(events.downgrade(), high_availability.clone()),
        fence: fence.unwrap_or_default(),
        high_availability: high_availability.clone(),
        connections: HashMap::new(),
        watched: HashMap::new(),
    };
    let task = tokio::spawn(actor.run(mailbox));
    let control = Control {
        events,
        versions,
        high_availability,
        clock,
    };
    (control, task)
}

struct Actor {
    dispatcher: Dispatcher,
    clock: Clock,
    version: watch::Sender<u64>,
    storage: StorageTasks,
    fence: Fence,
    high_availability: Option<HighAvailability>,
    connections: HashMap<ConnectionId, CommandSender>,
    watched: HashMap<JobId, watch::Sender<cluster::JobStatus>>,
}

impl Actor {
    async fn run(self, mailbox: mpsc::Receiver<Event>) {
        let fence = self.fence.clone();
        tokio::select! {
            // First: one that was overtaken decides nothing more.
            biased;
            _ = fence.raised() => {}
            () = self.serve(mailbox) => {}
        }
    }

    async fn serve(mut self, mut mailbox: mpsc::Receiver<Event>) {
        loop {
            let event = match self.dispatcher.next_timer_ms() {
                Some(due_ms) => {
                    let wait = Duration::from_millis(due_ms.saturating_sub(self.clock.now_ms()));
                    tokio::time::timeout(wait, mailbox.recv()).await.ok()
                }
                None => Some(mailbox.recv().await),
            };
            match event {
                Some(None | Some(Event::Shutdown)) => return self.shut_down().await,
                Some(Some(event)) => self.handle(event),
                None => {}
            }
            self.dispatcher.run_timers(self.clock.now_ms());
            self.carry_out();
            self.publish();
        }
    }

    fn handle(&mut self, event: Event) {
        let now_ms = self.clock.now_ms();
        match event {
            Event::Connected {
                connection,
                register,
                epoch,
                commands,
            } => {
                self.connections.insert(connection, commands);
                self.dispatcher.connected(connection, &register, epoch, now_ms);
            }
            Event::Message { connection, message } => self.dispatcher.message(connection, *message, now_ms),
            Event::Disconnected { connection } => {
                self.connections.remove(&connection);
                self.dispatcher.disconnected(connection, now_ms);
            }
            Event::Begin {
                operation_id,
                answer,
                begin,
            } => {
                begin
                    .send(self.dispatcher.begin_submission(&operation_id, answer))
                    .ok();
            }
            Event::Submitted { ticket, outcome } => self.dispatcher.submitted(ticket, outcome, now_ms),
            Event::ApplicationFailure(failure) => self.dispatcher.set_application_failure(failure),
            Event::Cancel { job, answer } => {
                answer.send(self.dispatcher.cancel(job, now_ms)).ok();
            }
            Event::TriggerSnapshot { job, request, answer } => {
                answer
                    .send(self.dispatcher.trigger_snapshot(job, request, now_ms))
                    .ok();
            }
            Event::StorageDone { job, outcome } => self.dispatcher.storage_done(job, *outcome, now_ms),
            Event::Lead { epoch } => self.dispatcher.lead(epoch),
            Event::Recovered(job) => self.dispatcher.recovered(*job, now_ms),
            Event::RecoveryDone => self.dispatcher.all_recovered(now_ms),
            Event::PackageFetched { job, outcome } => self.dispatcher.package_fetched(job, outcome, now_ms),
            Event::Logged { job, news } => self.dispatcher.logged(job, &news),
            Event::Read(look) => look(&self.dispatcher, now_ms),
            Event::WatchJob { job, answer } => {
                answer.send(self.watch_job(job)).ok();
            }
            Event::Shutdown => {}
        }
    }

    /// Sends what was decided. A TaskManager that can't take it is lost, which leads to further decisions.
    fn carry_out(&mut self) {
        loop {
            let effects = self.dispatcher.take_effects();
            if effects.is_empty() || self.fence.is_raised() {
                return;
            }
            for effect in effects {
                match effect {
                    Effect::Send(connection, command) => self.command(connection, *command),
                    Effect::Close(connection) => {
                        self.connections.remove(&connection);
                    }
                    Effect::Storage(job, work) => self.storage.start(job, *work),
                    Effect::Log(job, record, news) => self.storage.log(job, *record, news),
                    Effect::Forget(job) => {
                        if let Some(high_availability) = &self.high_availability {
                            high_availability.forget(job);
                        }
                    }
                }
            }
        }
    }

    fn command(&mut self, connection: ConnectionId, command: job_manager_command::Command) {
        let Some(sender) = self.connections.get(&connection) else {
            return;
        };
        let command = JobManagerCommand {
            epoch: self.dispatcher.epoch(),
            command: Some(command),
        };
        if let Err(error) = sender.try_send(Ok(command)) {
            tracing::warn!(%error, "a TaskManager takes no more commands");
            self.connections.remove(&connection);
            self.dispatcher.disconnected(connection, self.clock.now_ms());
        }
    }

    fn publish(&mut self) {
        if !self.dispatcher.take_changed() {
            return;
        }
        self.version.send_modify(|version| *version += 1);
        let dispatcher = &self.dispatcher;
        self.watched.retain(|job, sender| {
            if let Some(status) = dispatcher.job_status(*job) {
                sender.send_if_modified(|current| {
                    let modified = *current != status;
                    *current = status;
                    modified
                });
                true
            } else {
                false
            }
        });
        self.watched.retain(|_, sender| !sender.is_closed());
    }

    fn watch_job(&mut self, job: JobId) -> Option<watch::Receiver<cluster::JobStatus>> {
        let status = self.dispatcher.job_status(job)?;
        let sender = self
            .watched
            .entry(job)
            .or_insert_with(|| watch::channel(status).0);
        Some(sender.subscribe())
    }

    /// Ends all streams: TaskManagers stop their workers when nobody takes this JobManager's place.
    async fn shut_down(self) {
        for sender in self.connections.values() {
            sender
                .try_send(Err(Status::unavailable("the JobManager is shutting down")))
                .ok();
        }
        self.storage.drain().await;
    }
}
