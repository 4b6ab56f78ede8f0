//! What goes into the ExecutionGraph and what comes out of it.

use std::collections::BTreeMap;

use thalweg_proto::control::v1 as control;
use thalweg_types::{ExecutionId, Failure, TaskManagerId};

use super::state::{JobStatus, TaskState};

/// Names a timer that the graph asked for; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerId(pub u64);

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// Begin to schedule. Once, after [`ExecutionGraph::new`].
    Start,
    /// The ResourceManager gave the job these slots.
    SlotsGranted {
        /// By TaskManager: their numbers there.
        slots: BTreeMap<TaskManagerId, Vec<u32>>,
    },
    /// These slots are no longer the job's, though their TaskManager is there.
    SlotsLost {
        /// Where.
        task_manager: TaskManagerId,
        /// Their numbers there.
        slots: Vec<u32>,
        /// Why.
        failure: Failure,
    },
    /// A TaskManager is gone, with all that ran there.
    TaskManagerLost {
        /// Which.
        task_manager: TaskManagerId,
        /// Why: "no heartbeat for 50 s".
        failure: Failure,
    },
    /// A worker process serves.
    WorkerReady {
        /// Where.
        task_manager: TaskManagerId,
        /// As in [`Action::StartWorker`].
        generation: u64,
        /// `host:port` of its data port.
        data_address: String,
    },
    /// A worker process could not start or has ended.
    WorkerFailed {
        /// Where.
        task_manager: TaskManagerId,
        /// As in [`Action::StartWorker`].
        generation: u64,
        /// Why.
        failure: Failure,
    },
    /// A TaskManager that registered says what still runs there for this job.
    WorkerReported {
        /// Where.
        task_manager: TaskManagerId,
        /// What.
        worker: ReportedWorker,
    },
    /// What nobody has reported of a job that is reconciled is not waited for any longer: there is room to run it, or it would have to be
    /// started again anyway.
    MissingGivenUp,
    /// A task says in what state it is.
    TaskState(TaskReport),
    /// The user or the operator wants the job to end.
    CancelRequested,
    /// The job as a whole failed, outside of its tasks.
    JobFailed {
        /// Why; its class decides whether the restart strategy is asked.
        failure: Failure,
    },
    /// A timer of [`Action::SetTimer`] ran off.
    TimerElapsed {
        /// Which.
        timer: TimerId,
    },
    /// This JobManager leads no longer; another one takes the job over.
    LeadershipLost,
}

/// A task's own word on its state.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskReport {
    /// Which attempt.
    pub execution: ExecutionId,
    /// Its state.
    pub state: TaskState,
    /// With FAILED.
    pub failure: Option<Failure>,
}

/// A worker process as its TaskManager reports it to a leader.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportedWorker {
    /// As in [`Action::StartWorker`].
    pub generation: u64,
    /// Slots that it has.
    pub slots: Vec<u32>,
    /// `host:port` of its data port; `None` = it is not ready, or has ended: its tasks are over.
    pub data_address: Option<String>,
    /// Of each subtask the newest attempt, the ended ones included.
    pub tasks: Vec<ReportedTask>,
}

/// A task of a [`ReportedWorker`].
#[derive(Debug, Clone, PartialEq)]
pub struct ReportedTask {
    /// Its state.
    pub report: TaskReport,
    /// The slot that it is in.
    pub slot: u32,
    /// The newest checkpoint that it restored from or acknowledged; 0 = none.
    pub checkpoint: u64,
    /// When it was deployed, in milliseconds since the epoch.
    pub deployed_ms: u64,
}

/// Something to do, in the order given.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Tell the ResourceManager that the job wants `required` slots in all and holds `held` of them. `required` 0: no more.
    DeclareSlots {
        /// In all.
        required: u32,
        /// Of these, already granted.
        held: u32,
    },
    /// Start the job's worker on a TaskManager, in place of an older generation there.
    StartWorker {
        /// Where.
        task_manager: TaskManagerId,
        /// Grows with each start.
        generation: u64,
        /// All slots that the job holds there.
        slots: Vec<u32>,
    },
    /// End the job's worker on a TaskManager: this generation or an older one.
    StopWorker {
        /// Where.
        task_manager: TaskManagerId,
        /// As started; `u64::MAX` = whichever.
        generation: u64,
    },
    /// Give slots back to the ResourceManager.
    ReleaseSlots {
        /// Where.
        task_manager: TaskManagerId,
        /// Their numbers there.
        slots: Vec<u32>,
    },
    /// Deploy tasks, in topological order.
    Deploy {
        /// Where.
        task_manager: TaskManagerId,
        /// Complete: vertex, slot, channels with addresses, configuration.
        tasks: Vec<control::TaskDeployment>,
    },
    /// Cancel tasks; each answers by CANCELED, FINISHED or FAILED.
    Cancel {
        /// Where.
        task_manager: TaskManagerId,
        /// Which.
        executions: Vec<ExecutionId>,
    },
    /// Bring [`Fact::TimerElapsed`] with this id after so long. A timer that is no longer wanted may run off all the same.
    SetTimer {
        /// Which.
        timer: TimerId,
        /// Milliseconds from now.
        after_ms: u64,
    },
    /// The job's status changed. The last action of a job is the change to a terminal one.
    StatusChanged {
        /// Before.
        from: JobStatus,
        /// Now.
        to: JobStatus,
    },
}
