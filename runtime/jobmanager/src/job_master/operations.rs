//! What people and the operator asked of a job's snapshots, by operation id: what is under way, and how the rest ended.
//!
//! Invariant: an id names one operation, however often it is asked for; of the ended ones the newest are kept.

use std::collections::VecDeque;

use thalweg_proto::cluster::v1::SavepointStatus;
use thalweg_types::Failure;

use crate::failure::failure_to_proto;

/// Ended operations that are remembered.
const KEPT: usize = 64;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OperationKind {
    /// A checkpoint out of turn.
    Checkpoint,
    /// A savepoint.
    Savepoint,
    /// A savepoint, and then the end of the job by cancellation.
    SavepointAndCancel,
    /// The end of the job behind a savepoint.
    Stop,
}

/// What an operation made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Made {
    /// Where the snapshot is.
    pub(crate) path: String,
    pub(crate) checkpoint_id: u64,
}

/// One operation.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) id: String,
    pub(crate) kind: OperationKind,
    pub(crate) triggered_ms: u64,
    /// When and how it ended; `None` = it is under way.
    pub(crate) end: Option<(u64, Result<Made, Failure>)>,
}

/// A job's operations, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Operations(VecDeque<Operation>);

impl From<Vec<Operation>> for Operations {
    fn from(operations: Vec<Operation>) -> Self {
        Self(operations.into())
    }
}

impl Operations {
    pub(crate) fn get(&self, id: &str) -> Option<&Operation> {
        self.0.iter().find(|operation| operation.id == id)
    }

    pub(crate) fn under_way(&self) -> usize {
        self.0.iter().filter(|operation| operation.end.is_none()).count()
    }

    pub(crate) fn begin(&mut self, id: String, kind: OperationKind, now_ms: u64) {
        let ended = |operation: &Operation| operation.end.is_some();
        if self.0.iter().filter(|operation| ended(operation)).count() >= KEPT
            && let Some(oldest) = self.0.iter().position(ended)
        {
            self.0.remove(oldest);
        }
        self.0.push_back(Operation {
            id,
            kind,
            triggered_ms: now_ms,
            end: None,
        });
    }

    /// Notes how one ended; its kind, if it was under way.
    pub(crate) fn end(
        &mut self,
        id: &str,
        result: Result<Made, Failure>,
        now_ms: u64,
    ) -> Option<OperationKind> {
        let mut under_way = self.0.iter_mut();
        let operation = under_way.find(|operation| operation.id == id && operation.end.is_none())?;
        operation.end = Some((now_ms, result));
        Some(operation.kind)
    }

    /// The savepoints among them as the operator sees them: those under way, and of each kind the newest that ended.
    pub(crate) fn savepoints(&self) -> Vec<SavepointStatus> {
        let savepoint = |operation: &&Operation| operation.kind != OperationKind::Checkpoint;
        let newest = |operation: &&Operation| {
            let same = |other: &&Operation| other.kind == operation.kind && other.end.is_some();
            let newest = self.0.iter().rev().find(same);
            operation.end.is_none() || newest.is_some_and(|newest| newest.id == operation.id)
        };
        self.0
            .iter()
            .filter(savepoint)
            .filter(newest)
            .map(status)
            .collect()
    }
}

fn status(operation: &Operation) -> SavepointStatus {
    let mut status = SavepointStatus {
        operation_id: operation.id.clone(),
        stops_job: operation.kind != OperationKind::Savepoint,
        triggered_ms: operation.triggered_ms,
        ..SavepointStatus::default()
    };
    if let Some((ended_ms, result)) = &operation.end {
        status.ended_ms = *ended_ms;
        match result {
            Ok(made) => status.path = made.path.clone(),
            Err(failure) => status.failure = Some(failure_to_proto(failure)),
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_types::FailureClass;

    fn made(path: &str) -> Result<Made, Failure> {
        Ok(Made {
            path: path.to_owned(),
            checkpoint_id: 1,
        })
    }

    #[test]
    fn the_operator_sees_what_is_under_way_and_the_newest_of_each_kind_that_ended() {
        let mut operations = Operations::default();
        for (id, kind) in [
            ("checkpoint", OperationKind::Checkpoint),
            ("old", OperationKind::Savepoint),
            ("new", OperationKind::Savepoint),
            ("stop", OperationKind::Stop),
            ("running", OperationKind::Savepoint),
        ] {
            operations.begin(id.to_owned(), kind, 1);
        }
        for id in ["checkpoint", "old", "new", "stop"] {
            assert!(operations.end(id, made(id), 2).is_some());
        }
        assert_eq!(operations.end("new", made("again"), 3), None, "it ends once");
        let seen: Vec<_> = operations
            .savepoints()
            .into_iter()
            .map(|status| {
                (
                    status.operation_id,
                    status.path,
                    status.ended_ms,
                    status.stops_job,
                )
            })
            .collect();
        let expect = |id: &str, path: &str, ended, stops| (id.to_owned(), path.to_owned(), ended, stops);
        assert_eq!(
            seen,
            [
                expect("new", "new", 2, false),
                expect("stop", "stop", 2, true),
                expect("running", "", 0, false)
            ]
        );
    }

    #[test]
    fn ended_operations_are_forgotten_beyond_a_number_and_those_under_way_are_not() {
        let mut operations = Operations::default();
        operations.begin("first".to_owned(), OperationKind::Savepoint, 0);
        for number in 0..KEPT * 2 {
            let id = number.to_string();
            operations.begin(id.clone(), OperationKind::Savepoint, 0);
            operations.end(&id, Err(Failure::new(FailureClass::Retryable, "no")), 0);
        }
        assert!(operations.get("first").is_some() && operations.get("0").is_none());
        assert_eq!((operations.0.len(), operations.under_way()), (KEPT + 1, 1));
    }
}
