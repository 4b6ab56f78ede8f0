//! The steps of the protocol, by name, and how often each was taken.

macro_rules! steps {
    ($($(#[$doc:meta])* $step:ident = $name:literal),+ $(,)?) => {
        /// A step of the protocol.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Step {
            $($(#[$doc])* $step,)+
        }

        impl Step {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$step),+];

            /// As it is listed.
            pub fn name(self) -> &'static str {
                match self { $(Self::$step => $name),+ }
            }
        }
    };
}

steps! {
    /// A JobManager made the next record in the leaders' folder.
    LeadershipTaken = "leadership taken",
    /// Another one was quicker.
    ElectionLost = "election lost",
    /// The new leader's record is in a job's log.
    JobTaken = "job's log taken over",
    /// A job's first record.
    Submitted = "job submitted",
    /// A job goes on under a new leader.
    Recovered = "job recovered by a new leader",
    /// A TaskManager was taken in.
    Registered = "TaskManager registered",
    /// It brought running workers with it.
    RegisteredRunning = "TaskManager registered with running tasks",
    /// The package of a recovered job is here: workers can be started.
    PackageFetched = "package fetched beside the recovery",
    /// A running worker was told to stop by a leader that has no place for it.
    RunningStopped = "reported worker stopped",
    /// A job went from RECONCILING to RUNNING.
    Reconciled = "job reconciled, tasks kept",
    /// What was lost with the leader was started again beside what runs on.
    ReconciledInPart = "job reconciled in part, the rest started again",
    /// A worker process came up.
    WorkerReady = "worker ready",
    /// It didn't, or ended.
    WorkerFailed = "worker failed",
    /// A task was deployed without state.
    DeployedEmpty = "task deployed empty",
    /// A task has read what it restores.
    Restored = "task restored",
    /// A task failed.
    TaskFailed = "task failed",
    /// A task was canceled.
    TaskCanceled = "task canceled",
    /// A source has a barrier to send.
    Triggered = "checkpoint triggered at a source",
    /// A barrier overtook nothing and came to a task.
    BarrierArrived = "barrier arrived",
    /// All of a task's inputs had it.
    Aligned = "barriers aligned",
    /// A run file is in the store.
    SnapshotWritten = "snapshot written",
    /// A snapshot could not be written.
    Declined = "checkpoint declined",
    /// A task's acknowledgement is on its way.
    Acknowledged = "checkpoint acknowledged",
    /// `_metadata` is in the store.
    MetadataWritten = "metadata written",
    /// It can't be written.
    MetadataFailed = "metadata not written",
    /// The record that makes the checkpoint complete is in the log.
    LogAppended = "checkpoint logged",
    /// The answer of a create was lost: it was asked again, and is there.
    LogReadBack = "lost answer of a record's creation asked again",
    /// The log has another leader's record.
    Superseded = "leader superseded",
    /// A task heard that a checkpoint is complete.
    Notified = "completion notified",
    /// A task heard that a checkpoint was given up.
    Aborted = "abort notified",
    /// A transaction is prepared, in no committed reader's sight.
    Prepared = "transaction prepared",
    /// It is committed.
    Committed = "transaction committed",
    /// It was committed before.
    CommittedAgain = "transaction committed again",
    /// A transaction that a checkpoint held was committed at a restore.
    CommittedAtRestore = "transaction committed at a restore",
    /// An open transaction of an earlier attempt was aborted.
    TransactionAborted = "open transaction aborted",
    /// An attempt that was late left what a later one has open.
    LeftToLater = "transaction of a later attempt left alone",
    /// A prepared transaction was open for too long: it is left out, and its rows are known.
    Expired = "expired transaction left out with its rows told",
    /// The broker refused a zombie.
    Fenced = "zombie fenced by the broker",
    /// A file became visible.
    FileCommitted = "file committed",
    /// Files of a checkpoint were deleted.
    Deleted = "files deleted",
    /// A TaskManager follows a later leader.
    FollowedLeader = "TaskManager followed a new leader",
    /// A message of another epoch, or to a process that leads no more.
    StaleMessage = "message to a former leader refused",
    /// A write landed after its time-out.
    LandedLate = "slow write landed late",
    /// A process was killed.
    Killed = "process killed",
    /// A process was stopped for a while and went on.
    Woken = "paused process woken",
    /// A connection broke.
    Cut = "connection cut",
    /// Two processes could not reach each other.
    Partitioned = "network partitioned",
    /// The store refused a request.
    StoreFailed = "store failed a request",
    /// Somebody wants a savepoint.
    SavepointAsked = "savepoint asked for",
    /// And has it.
    SavepointMade = "savepoint made and told",
    /// Or hears why not.
    SavepointFailed = "savepoint failed and told",
    /// Somebody wants a job to stop behind one.
    StopAsked = "stop with savepoint asked for",
    /// It did not, and goes on.
    StopFailed = "stop with savepoint failed and told",
    /// Its task has written its part, and pauses.
    TaskPaused = "task paused behind its last barrier",
    /// It did.
    Stopped = "job stopped with savepoint",
    /// Another job goes on from there.
    StartedFromSavepoint = "job started from a savepoint",
    /// A source had no more rows.
    SourceEnded = "source ended",
    /// A task has no more to do.
    TaskFinished = "task finished",
    /// A checkpoint of tasks of which some have finished.
    TriggeredBehindEnd = "checkpoint triggered behind a finished source",
    /// A job had no more to do.
    Finished = "job finished",
    /// How a job ended is in its log.
    ResultLogged = "result logged",
    /// And was told.
    ResultTold = "result told",
    /// How an operation ended is in the log.
    OperationLogged = "operation logged",
    /// A process's clock jumped.
    ClockJumped = "clock jumped",
    /// The job was ended.
    Canceled = "job canceled",
}

/// How often each step was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage(Vec<u64>);

impl Default for Coverage {
    fn default() -> Self {
        Self(vec![0; Step::ALL.len()])
    }
}

impl Coverage {
    pub(crate) fn note(&mut self, step: Step) {
        self.0[step as usize] += 1;
    }

    /// Of one step.
    pub fn of(&self, step: Step) -> u64 {
        self.0[step as usize]
    }

    /// Both together.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.0.iter_mut().zip(&other.0) {
            *count += more;
        }
    }

    /// All steps with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (Step, u64)> {
        Step::ALL.iter().map(|step| (*step, self.of(*step)))
    }
}
