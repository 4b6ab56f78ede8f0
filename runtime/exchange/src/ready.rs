//! Who has something to be read: sources put their index on a list, at most once, and one reader takes them in turn.
//!
//! Both readers use it, the gate of a task and the writer of a connection, so neither looks at every channel when woken.
//! The reader clears a slot *before* it looks at the source: what is added later notifies again, nothing is lost, and a
//! look in vain is harmless.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::task::AtomicWaker;

/// Locks, also behind a thread that panicked: what is guarded in this crate is never left half-changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The indices of sources that have something.
#[derive(Debug, Default)]
pub(crate) struct ReadyList {
    indices: Mutex<VecDeque<u32>>,
    /// Barriers and ends of input that were added to the sources so far.
    barriers: AtomicU64,
    reader: AtomicWaker,
}

impl ReadyList {
    /// The source whose turn it is.
    pub(crate) fn pop(&self) -> Option<u32> {
        lock(&self.indices).pop_front()
    }

    /// Adds an index at the end, without the check that it isn't there.
    pub(crate) fn push(&self, index: u32) {
        lock(&self.indices).push_back(index);
        self.reader.wake();
    }

    /// [`Self::pop`], or registers the reader to be woken.
    pub(crate) fn poll_pop(&self, cx: &Context<'_>) -> Poll<u32> {
        if let Some(index) = self.pop() {
            return Poll::Ready(index);
        }
        self.register(cx.waker());
        self.pop().map_or(Poll::Pending, Poll::Ready)
    }

    /// Whom to wake.
    pub(crate) fn register(&self, waker: &Waker) {
        self.reader.register(waker);
    }

    /// How many barriers and ends of input were added to the sources so far.
    pub(crate) fn barriers(&self) -> u64 {
        self.barriers.load(Ordering::Acquire)
    }

    /// Whether no source is on it.
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.indices).is_empty()
    }

    /// Wakes the reader for another reason than a source.
    pub(crate) fn wake(&self) {
        self.reader.wake();
    }
}

/// One source's place on a [`ReadyList`].
#[derive(Debug)]
pub(crate) struct ReadySlot {
    list: Arc<ReadyList>,
    index: u32,
    listed: AtomicBool,
}

impl ReadySlot {
    /// A place that is not on the list yet.
    pub(crate) fn new(list: Arc<ReadyList>, index: u32) -> Arc<Self> {
        Arc::new(Self {
            list,
            index,
            listed: AtomicBool::new(false),
        })
    }

    /// Puts the source on the list unless it is there.
    pub(crate) fn notify(&self) {
        if !self.listed.swap(true, Ordering::AcqRel) {
            self.list.push(self.index);
        }
    }

    /// A barrier, or the end of input, was added to the source: worth a look ahead.
    pub(crate) fn note_barrier(&self) {
        self.list.barriers.fetch_add(1, Ordering::AcqRel);
        self.list.wake();
    }

    /// The reader took the index off the list and is about to look.
    pub(crate) fn clear(&self) {
        self.listed.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_listed_once_until_the_reader_looks() {
        let list = Arc::new(ReadyList::default());
        let slot = ReadySlot::new(list.clone(), 7);
        slot.notify();
        slot.notify();
        assert_eq!(list.pop(), Some(7));
        assert_eq!(list.pop(), None);
        slot.clear();
        slot.notify();
        assert_eq!(list.pop(), Some(7));
    }
}
