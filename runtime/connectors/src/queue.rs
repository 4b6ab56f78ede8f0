//! The hand-over between a reader's I/O thread and its task's thread.
//!
//! ```text
//!   I/O thread --push(item, bytes)--> [ .. bounded by bytes .. ] --poll_pop--> task thread
//!              <--room (condition variable)--                     <--waker--
//! ```
//!
//! Invariants: an item is admitted while less than the limit is held, so what is held passes the limit by one item at
//! most; the task is woken only if it waits; either side's drop is seen by the other.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Bytes that a reader may hold ready for its task.
pub(crate) const HAND_OVER_BYTES: usize = 4 << 20;

/// What the sending side found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// An item may be pushed.
    Free,
    /// The receiver holds as much as it may.
    Full,
    /// The receiver is gone.
    Closed,
}

struct State<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
    sender_gone: bool,
    receiver_gone: bool,
    waker: Option<Waker>,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    limit: usize,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn room(&self, state: &State<T>) -> Room {
        match state.bytes {
            _ if state.receiver_gone => Room::Closed,
            bytes if bytes < self.limit => Room::Free,
            _ => Room::Full,
        }
    }
}

/// The I/O side.
pub(crate) struct Sender<T>(Arc<Shared<T>>);

/// The task's side.
pub(crate) struct Receiver<T>(Arc<Shared<T>>);

/// A queue that admits items while it holds less than `limit` bytes.
pub(crate) fn bounded<T>(limit: usize) -> (Sender<T>, Receiver<T>) {
    let state = State {
        items: VecDeque::new(),
        bytes: 0,
        sender_gone: false,
        receiver_gone: false,
        waker: None,
    };
    let shared = Arc::new(Shared {
        state: Mutex::new(state),
        changed: Condvar::new(),
        limit,
    });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl<T> Sender<T> {
    /// Hands an item over, whether there is room or not: who produces much asks for [`Self::room`] first.
    pub(crate) fn push(&self, item: T, bytes: usize) {
        let waker = {
            let mut state = self.0.lock();
            if state.receiver_gone {
                return;
            }
            state.items.push_back((item, bytes));
            state.bytes += bytes;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether an item may be pushed.
    pub(crate) fn room(&self) -> Room {
        self.0.room(&self.0.lock())
    }

    /// Whether the task has taken all there was.
    pub(crate) fn is_drained(&self) -> bool {
        self.0.lock().items.is_empty()
    }

    /// Waits for room, for `patience` at most.
    pub(crate) fn wait_room(&self, patience: Duration) -> Room {
        let state = self.0.lock();
        let waited = self
            .0
            .changed
            .wait_timeout_while(state, patience, |state| self.0.room(state) == Room::Full);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        self.0.room(&state)
    }

    /// Waits until the task has taken all there was, for `patience` at most; whether it has.
    pub(crate) fn wait_drained(&self, patience: Duration) -> bool {
        let state = self.0.lock();
        let busy = |state: &mut State<T>| !state.items.is_empty() && !state.receiver_gone;
        let waited = self.0.changed.wait_timeout_while(state, patience, busy);
        waited.unwrap_or_else(PoisonError::into_inner).0.items.is_empty()
    }

    /// Waits until the receiver is gone, for `patience` at most; whether it is.
    pub(crate) fn wait_closed(&self, patience: Duration) -> bool {
        let state = self.0.lock();
        let waited = self
            .0
            .changed
            .wait_timeout_while(state, patience, |state| !state.receiver_gone);
        waited.unwrap_or_else(PoisonError::into_inner).0.receiver_gone
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.0.lock();
            state.sender_gone = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Receiver<T> {
    /// The next item; `None` when the sender is gone and nothing is left.
    pub(crate) fn poll_pop(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.poll_pop_noting(cx, |_| ())
    }

    /// As `poll_pop`; `note` is done before the sender can see that the item was taken.
    pub(crate) fn poll_pop_noting(&mut self, cx: &mut Context<'_>, note: impl FnOnce(&T)) -> Poll<Option<T>> {
        let mut state = self.0.lock();
        match state.items.pop_front() {
            Some((item, bytes)) => {
                state.bytes -= bytes;
                note(&item);
                drop(state);
                self.0.changed.notify_all();
                Poll::Ready(Some(item))
            }
            None if state.sender_gone => Poll::Ready(None),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let left = {
            let mut state = self.0.lock();
            state.receiver_gone = true;
            state.waker = None;
            std::mem::take(&mut state.items)
        };
        drop(left);
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::task::noop_waker;

    fn pop<T>(receiver: &mut Receiver<T>) -> Poll<Option<T>> {
        receiver.poll_pop(&mut Context::from_waker(&noop_waker()))
    }

    #[test]
    fn it_admits_items_until_the_limit_and_again_once_they_are_taken() {
        let (sender, mut receiver) = bounded(10);
        sender.push('a', 6);
        assert_eq!(sender.room(), Room::Free);
        sender.push('b', 6);
        assert_eq!(sender.room(), Room::Full);
        assert_eq!(pop(&mut receiver), Poll::Ready(Some('a')));
        assert_eq!(sender.room(), Room::Free);
    }

    #[test]
    fn what_was_pushed_is_still_given_after_the_sender_is_gone() {
        let (sender, mut receiver) = bounded(10);
        sender.push('a', 1);
        drop(sender);
        assert_eq!(pop(&mut receiver), Poll::Ready(Some('a')));
        assert_eq!(pop(&mut receiver), Poll::Ready(None));
    }

    #[test]
    fn a_sender_that_waits_for_room_hears_that_the_receiver_is_gone() {
        let (sender, receiver) = bounded(1);
        sender.push('a', 1);
        let waiting = std::thread::spawn(move || sender.wait_room(Duration::from_secs(60)));
        drop(receiver);
        assert_eq!(waiting.join().unwrap(), Room::Closed);
    }

    #[test]
    fn what_is_noted_of_an_item_is_known_before_the_queue_shows_empty() {
        use std::sync::atomic::{AtomicBool, Ordering};
        use std::sync::mpsc;
        let (sender, mut receiver) = bounded(10);
        let noted = Arc::new(AtomicBool::new(false));
        sender.push('a', 1);
        let (ended, waiter_ended) = mpsc::channel();
        let (begun, waiter_begun) = mpsc::channel();
        let seen = Arc::clone(&noted);
        let waiter = std::thread::spawn(move || {
            begun.send(()).unwrap();
            assert!(sender.wait_drained(Duration::from_secs(60)));
            let known = seen.load(Ordering::SeqCst);
            // the taker may have stopped listening
            let _ = ended.send(());
            known
        });
        waiter_begun.recv().unwrap();
        let note = |_: &char| {
            // Time for the waiter to see the queue empty, if it could: then it has ended without the note.
            let _ = waiter_ended.recv_timeout(Duration::from_millis(200));
            noted.store(true, Ordering::SeqCst);
        };
        let taken = receiver.poll_pop_noting(&mut Context::from_waker(&noop_waker()), note);
        assert_eq!(taken, Poll::Ready(Some('a')));
        assert!(waiter.join().unwrap(), "the queue showed empty before the note");
    }

    #[test]
    fn the_waiting_task_is_woken_by_a_push() {
        let (sender, mut receiver) = bounded(10);
        let pusher = std::thread::spawn(move || sender.push('a', 1));
        let item = futures::future::poll_fn(|cx| receiver.poll_pop(cx));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(runtime.block_on(item), Some('a'));
        pusher.join().unwrap();
    }
}
