//! What people and the operator asked of a job's snapshots, by operation id: what is under way, and how the rest ended.
//!
//! Invariants: an id names one operation, however often it is asked for; of the ended ones the newest are kept; how one ended is shown when
//! [`Operations::show`] says that it may be: where there is a log, when that has it.

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
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Operation {
    pub(crate) id: String,
    pub(crate) kind: OperationKind,
    pub(crate) triggered_ms: u64,
    /// When and how it ended, as it may be told; `None` = it is under way.
    pub(crate) end: Option<(u64, Result<Made, Failure>)>,
}

impl Operation {
    /// The same, ended.
    pub(crate) fn ended(&self, now_ms: u64, result: Result<Made, Failure>) -> Self {
        Self {
            end: Some((now_ms, result)),
            ..self.clone()
        }
    }
}

/// A job's operations, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Operations {
    known: VecDeque<Operation>,
    /// Ended, and not to be told yet.
    held: Vec<Operation>,
}

impl From<Vec<Operation>> for Operations {
    fn from(operations: Vec<Operation>) -> Self {
        Self {
            known: operations.into(),
            held: Vec::new(),
        }
    }
}

impl Operations {
    pub(crate) fn get(&self, id: &str) -> Option<&Operation> {
        self.known.iter().find(|operation| operation.id == id)
    }

    /// The stop of an earlier leader whose savepoint is complete, and that had not ended yet.
    pub(crate) fn inherited_stop(&self) -> Option<&str> {
        let is_stop = |known: &&Operation| known.kind == OperationKind::Stop && known.end.is_none();
        self.known.iter().find(is_stop).map(|stop| stop.id.as_str())
    }

    pub(crate) fn under_way(&self) -> usize {
        let under_way = self.known.iter().filter(|operation| operation.end.is_none());
        under_way.count()
    }

    pub(crate) fn begin(&mut self, id: String, kind: OperationKind, now_ms: u64) {
        let ended = |operation: &Operation| operation.end.is_some();
        if self.known.iter().filter(|operation| ended(operation)).count() >= KEPT
            && let Some(oldest) = self.known.iter().position(ended)
        {
            self.known.remove(oldest);
        }
        self.known.push_back(Operation {
            id,
            kind,
            triggered_ms: now_ms,
            end: None,
        });
    }

    /// Notes how one ended; the operation with its end, if it was under way. It is told by [`Operations::show`].
    pub(crate) fn end(&mut self, id: &str, result: Result<Made, Failure>, now_ms: u64) -> Option<Operation> {
        let is_held = self.held.iter().any(|held| held.id == id);
        let under_way = self.get(id).filter(|known| known.end.is_none() && !is_held)?;
        let ended = under_way.ended(now_ms, result);
        self.held.push(ended.clone());
        Some(ended)
    }

    /// How it ended may be told.
    pub(crate) fn show(&mut self, id: &str) {
        let Some(place) = self.held.iter().position(|held| held.id == id) else {
            return;
        };
        let ended = self.held.swap_remove(place);
        if let Some(known) = self.known.iter_mut().find(|known| known.id == id) {
            known.end = ended.end;
        }
    }

    /// The savepoints among them as the operator sees them: those under way, and of each kind the newest that ended.
    pub(crate) fn savepoints(&self) -> Vec<SavepointStatus> {
        let savepoint = |operation: &&Operation| operation.kind != OperationKind::Checkpoint;
        let newest = |operation: &&Operation| {
            let same = |other: &&Operation| other.kind == operation.kind && other.end.is_some();
            let newest = self.known.iter().rev().find(same);
            operation.end.is_none() || newest.is_some_and(|newest| newest.id == operation.id)
        };
        self.known
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
        assert!(operations.end("new", made("again"), 3).is_none(), "it ends once");
        let is_told = |operations: &Operations| operations.savepoints().iter().any(|told| told.ended_ms > 0);
        assert!(!is_told(&operations), "nothing is told before it may be");
        for id in ["checkpoint", "old", "new", "stop", "never there"] {
            operations.show(id);
        }
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
            operations.show(&id);
        }
        assert!(operations.get("first").is_some() && operations.get("0").is_none());
        assert_eq!((operations.known.len(), operations.under_way()), (KEPT + 1, 1));
    }
}
