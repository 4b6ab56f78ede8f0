//! What others tell a running task. Served between two outputs of the chain and whenever the task waits.
//!
//! Today it holds one mail, cancel; checkpoint triggers and processing-time timers join it here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use crate::parker::Parker;

/// Shared between a task's thread and whoever steers it.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    canceled: AtomicBool,
    parker: Arc<Parker>,
}

impl Mailbox {
    /// Asks the task to end; it does so at its next look into the mailbox.
    pub(crate) fn cancel(&self) {
        self.canceled.store(true, Ordering::Release);
        self.parker.wake_by_ref();
    }

    /// Whether the task has been asked to end.
    pub(crate) fn is_canceled(&self) -> bool {
        self.canceled.load(Ordering::Acquire)
    }

    /// Where the task's thread sleeps.
    pub(crate) fn parker(&self) -> &Parker {
        &self.parker
    }

    /// Wakes the task's thread.
    pub(crate) fn waker(&self) -> Waker {
        Waker::from(self.parker.clone())
    }
}
