//! A job that ended under an earlier JobManager: shown until it expires.

use std::sync::Arc;

use thalweg_graph::execution::{ExecutionGraph, JobStatus};
use thalweg_types::{Failure, FailureClass};

use super::{Checkpoints, JobAction, JobMaster};
use crate::config::Settings;
use crate::dispatcher::Submission;

/// How a job ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct JobOver {
    /// FINISHED, CANCELED or FAILED.
    pub(crate) state: String,
    pub(crate) failure: Option<Failure>,
    /// In Unix milliseconds.
    pub(crate) started_ms: u64,
    pub(crate) ended_ms: u64,
    /// What the log has of it; nothing of a job that only can't be gone on with.
    pub(crate) logged: Option<LoggedEnd>,
}

/// An end that the job's log has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LoggedEnd {
    /// The number of the savepoint that was to stop it, if that was its newest.
    pub(crate) stopped_with: Option<u64>,
}

impl JobMaster {
    /// Wants nothing any more, and does nothing but to delete what the earlier JobManager was to delete.
    pub(crate) fn ended(
        mut submission: Submission,
        over: JobOver,
        settings: &Arc<Settings>,
    ) -> Result<(Self, Vec<JobAction>), Failure> {
        let status = JobStatus::ALL.iter().find(|status| status.as_str() == over.state);
        let status = status
            .copied()
            .filter(|status| status.is_terminal())
            .ok_or_else(|| {
                let message = format!(
                    "the job ended in the state {:?}, which is none that jobs end in",
                    over.state
                );
                Failure::new(FailureClass::Bug, message)
            })?;
        let graph = ExecutionGraph::ended(
            submission.job_graph.clone(),
            status,
            over.failure,
            over.started_ms,
            over.ended_ms,
        );
        let graph = graph.map_err(|error| Failure::from_error(&error))?;
        let mut checkpoints = Checkpoints::of_ended(&mut submission)?;
        let deletions = over.logged.map_or_else(Vec::new, |logged| {
            checkpoints.ended_before(status, logged.stopped_with)
        });
        let mut master = Self::new(graph, checkpoints, submission, settings, 0, over.started_ms);
        master.workers.let_go();
        Ok((master, deletions))
    }
}
