//! A run that one full snapshot has alone: the rows that were in memory when it was taken.
//!
//! Invariant: written once, whoever asks for it and however often.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::run::LocalRun;
use super::write_out::{Memory, WriteOut};
use crate::StateError;

/// See the module.
#[derive(Default)]
pub(crate) struct SnapshotRun {
    state: Mutex<State>,
    memory: Arc<Memory>,
    is_over: AtomicBool,
}

enum State {
    Writing(WriteOut),
    Written(Option<Arc<LocalRun>>),
    Failed { folder: String, message: String },
}

impl Default for State {
    fn default() -> Self {
        Self::Written(None)
    }
}

impl State {
    fn of(written: Result<Option<LocalRun>, StateError>) -> Self {
        match written {
            Ok(run) => Self::Written(run.map(Arc::new)),
            Err(StateError::LocalDisk { folder, message }) => Self::Failed { folder, message },
            Err(error) => Self::Failed {
                folder: String::new(),
                message: error.to_string(),
            },
        }
    }
}

impl SnapshotRun {
    /// Of a writer that gets no more pieces.
    pub(crate) fn of(writer: WriteOut) -> Self {
        Self {
            memory: Arc::clone(writer.memory()),
            state: Mutex::new(State::Writing(writer)),
            is_over: AtomicBool::new(false),
        }
    }

    /// The run; None if there was nothing to write. Waits for the disk.
    pub(crate) fn wait(&self) -> Result<Option<Arc<LocalRun>>, StateError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Writing(writer) = &*state {
            *state = State::of(writer.wait());
            self.is_over.store(true, Ordering::Release);
        }
        match &*state {
            State::Written(run) => Ok(run.clone()),
            State::Failed { folder, message } => Err(StateError::LocalDisk {
                folder: folder.clone(),
                message: message.clone(),
            }),
            State::Writing(_) => Ok(None),
        }
    }

    /// Whether nothing is being written any more.
    pub(crate) fn is_over(&self) -> bool {
        // Who holds the lock waits for the end.
        if let Ok(mut state) = self.state.try_lock()
            && let State::Writing(writer) = &*state
            && let Some(written) = writer.poll().transpose()
        {
            *state = State::of(written);
            self.is_over.store(true, Ordering::Release);
        }
        self.is_over.load(Ordering::Acquire)
    }

    /// Bytes of memory that writing it takes.
    pub(crate) fn memory_size(&self) -> usize {
        match self.is_over.load(Ordering::Acquire) {
            true => 0,
            false => self.memory.bytes(),
        }
    }
}
