//! What a writer on the task's thread and its I/O share: bytes under way, reports and errors back, wake-ups.
//!
//! The lock is taken once a batch, piece or report, never a row. The first failure is kept, and every later poll gives it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use thalweg_storage::Staged;

use super::files::PartFiles;
use super::parts::{PartId, Report};
use crate::ConnectorError;

/// A commit on its way from the task to the I/O and back.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Commit {
    #[default]
    None,
    UnderWay,
    Done,
}

/// A part that no checkpoint counts on.
pub(crate) struct Unclaimed {
    pub(crate) files: Arc<dyn PartFiles>,
    pub(crate) path: String,
    pub(crate) staged: Staged,
}

/// What is behind the lock.
#[derive(Default)]
pub(crate) struct State {
    /// Bytes that were handed over and still are in memory.
    pub(crate) under_way: usize,
    /// The folder takes files.
    pub(crate) writable: bool,
    pub(crate) reports: Vec<Report>,
    /// Thrown away when the writer is.
    pub(crate) unclaimed: HashMap<PartId, Unclaimed>,
    pub(crate) commit: Commit,
    failure: Option<ConnectorError>,
    task: Option<Waker>,
}

/// Shared by one writer and its I/O.
#[derive(Default)]
pub(crate) struct Handover {
    state: Mutex<State>,
}

impl Handover {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is shared, and wakes the task if it waits.
    pub(crate) fn tell(&self, change: impl FnOnce(&mut State)) {
        let task = {
            let mut state = self.lock();
            change(&mut state);
            state.task.take()
        };
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Ends the writer with this error, unless it has one.
    pub(crate) fn fail(&self, error: ConnectorError) {
        self.tell(|state| {
            state.failure.get_or_insert(error);
        });
    }

    /// Ready when `ready` says so or there is a failure; else the task is woken when that may have changed.
    pub(crate) fn poll(
        &self,
        cx: &Context<'_>,
        ready: impl FnOnce(&mut State) -> bool,
    ) -> Poll<Result<(), ConnectorError>> {
        let mut state = self.lock();
        if let Some(failure) = &state.failure {
            return Poll::Ready(Err(copy_of(failure)));
        }
        if ready(&mut state) {
            return Poll::Ready(Ok(()));
        }
        state.task = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// A piece that counts as under way until its last copy, in a client's retries too, is dropped.
pub(crate) fn counted(handover: &Arc<Handover>, bytes: Vec<u8>) -> Bytes {
    handover.lock().under_way += bytes.len();
    Bytes::from_owner(Piece {
        bytes,
        handover: Arc::clone(handover),
    })
}

struct Piece {
    bytes: Vec<u8>,
    handover: Arc<Handover>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let bytes = self.bytes.len();
        self.handover.tell(|state| state.under_way -= bytes);
    }
}

fn copy_of(error: &ConnectorError) -> ConnectorError {
    match error {
        ConnectorError::Unavailable(message) => ConnectorError::Unavailable(message.clone()),
        ConnectorError::Refused(message) => ConnectorError::Refused(message.clone()),
        ConnectorError::Malformed(message) => ConnectorError::Malformed(message.clone()),
    }
}
