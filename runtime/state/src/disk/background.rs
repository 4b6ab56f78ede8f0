//! Work on files that nobody waits for.
//!
//! Bounded: at most half as many jobs run in the process at a time as there are processors, and a state has at most one of each kind.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::folder::LocalFolder;
use crate::StateError;

/// A job that makes a `T` of some neighbouring files. Dropped, it is given up.
pub(crate) struct Background<T> {
    /// Where the files are in their list.
    pub(crate) files: Range<usize>,
    result: Receiver<Result<T, StateError>>,
    canceled: Arc<AtomicBool>,
    folder: String,
}

impl<T: Send + 'static> Background<T> {
    /// `job` should look now and then whether it is given up; what it returns then doesn't matter.
    pub(crate) fn start(
        files: Range<usize>,
        folder: &LocalFolder,
        job: impl FnOnce(&AtomicBool) -> Result<T, StateError> + Send + 'static,
    ) -> Result<Self, StateError> {
        let (sender, result) = channel();
        let canceled = Arc::new(AtomicBool::new(false));
        let is_canceled = Arc::clone(&canceled);
        let folder = folder.path().display().to_string();
        let work = move || {
            let _permit = Permit::take();
            let made = job(&is_canceled);
            // Nobody wants it if it was given up.
            let _ = sender.send(made);
        };
        let thread = std::thread::Builder::new().name("state-merge".to_owned());
        thread.spawn(work).map_err(|error| StateError::LocalDisk {
            folder: folder.clone(),
            message: format!("no thread can be started to merge files: {error}"),
        })?;
        Ok(Self {
            files,
            result,
            canceled,
            folder,
        })
    }

    /// What it made, if it is done.
    pub(crate) fn poll(&self) -> Result<Option<T>, StateError> {
        match self.result.try_recv() {
            Ok(made) => made.map(Some),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(self.ended()),
        }
    }

    pub(crate) fn wait(&self) -> Result<T, StateError> {
        self.result.recv().map_err(|_| self.ended())?
    }

    fn ended(&self) -> StateError {
        StateError::LocalDisk {
            folder: self.folder.clone(),
            message: "merging files ended without a result".to_owned(),
        }
    }
}

impl<T> Drop for Background<T> {
    fn drop(&mut self) {
        self.canceled.store(true, Ordering::Relaxed);
    }
}

/// Jobs that run in the process.
static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

struct Permit;

impl Permit {
    fn take() -> Self {
        let most = std::thread::available_parallelism().map_or(1, |count| count.get().div_ceil(2));
        let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = ENDED.wait_while(running, |running| *running >= most);
        *waited.unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        ENDED.notify_one();
    }
}
