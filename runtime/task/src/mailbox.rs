//! What others tell a running task. Served between two outputs of the chain and whenever the task waits.
//!
//! Bounded: at most [`MOST_TRIGGERS`] checkpoints wait to begin (more are refused), of completed checkpoints only the newest
//! is kept (it stands for all before it), of those given up the last [`MOST_ABORTED`].

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

use crate::checkpoint::barrier::Barrier;
use crate::parker::Parker;

const MOST_TRIGGERS: usize = 16;
const MOST_ABORTED: usize = 64;

/// What has come since the last look.
#[derive(Debug, Default)]
pub(crate) struct Mail {
    /// Checkpoints to begin, in order.
    pub(crate) triggers: VecDeque<Barrier>,
    /// The newest checkpoint that is complete.
    pub(crate) completed: Option<u64>,
    /// How far watermark alignment lets a source go, newly.
    pub(crate) max_watermark_ms: Option<i64>,
    /// Checkpoints that were given up.
    pub(crate) aborted: VecDeque<u64>,
}

/// Shared between a task's thread and whoever steers it.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    canceled: AtomicBool,
    has_mail: AtomicBool,
    mail: Mutex<Mail>,
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

    /// Asks for a barrier; false if too many wait already.
    pub(crate) fn trigger(&self, barrier: Barrier) -> bool {
        self.deliver(|mail| {
            let room = mail.triggers.len() < MOST_TRIGGERS;
            if room {
                mail.triggers.push_back(barrier);
            }
            room
        })
    }

    /// Tells how a checkpoint ended.
    pub(crate) fn notify(&self, checkpoint_id: u64, completed: bool) {
        self.deliver(|mail| {
            if completed {
                mail.completed = mail.completed.max(Some(checkpoint_id));
                return;
            }
            if mail.aborted.len() == MOST_ABORTED {
                mail.aborted.pop_front();
            }
            mail.aborted.push_back(checkpoint_id);
        });
    }

    /// Tells how far watermark alignment lets it go.
    pub(crate) fn align(&self, max_watermark_ms: i64) {
        self.deliver(|mail| mail.max_watermark_ms = Some(max_watermark_ms));
    }

    /// Takes what has come; `None` nearly always, and then for the price of a load.
    pub(crate) fn take(&self) -> Option<Mail> {
        self.has_mail.swap(false, Ordering::AcqRel).then(|| {
            let mut mail = self.mail.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *mail)
        })
    }

    /// Where the task's thread sleeps.
    pub(crate) fn parker(&self) -> &Parker {
        &self.parker
    }

    /// Wakes the task's thread.
    pub(crate) fn waker(&self) -> Waker {
        Waker::from(self.parker.clone())
    }

    fn deliver<T>(&self, into: impl FnOnce(&mut Mail) -> T) -> T {
        let result = into(&mut self.mail.lock().unwrap_or_else(PoisonError::into_inner));
        self.has_mail.store(true, Ordering::Release);
        self.parker.wake_by_ref();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_proto::control::v1::TriggerCheckpoint;

    fn barrier(checkpoint_id: u64) -> Barrier {
        Barrier::of_trigger(&TriggerCheckpoint {
            checkpoint_id,
            ..TriggerCheckpoint::default()
        })
    }

    #[test]
    fn triggers_beyond_the_limit_are_refused_and_a_look_makes_room() {
        let mailbox = Mailbox::default();
        assert!(mailbox.take().is_none());
        assert!((1..=16).all(|id| mailbox.trigger(barrier(id))));
        assert!(!mailbox.trigger(barrier(17)));
        assert_eq!(mailbox.take().unwrap().triggers.len(), 16);
        assert!(mailbox.take().is_none());
        assert!(mailbox.trigger(barrier(18)));
    }

    #[test]
    fn the_newest_completed_checkpoint_stands_for_those_before_it() {
        let mailbox = Mailbox::default();
        for (id, completed) in [(3, true), (2, true), (4, false)] {
            mailbox.notify(id, completed);
        }
        let mail = mailbox.take().unwrap();
        assert_eq!((mail.completed, mail.aborted.into()), (Some(3), vec![4]));
    }
}
