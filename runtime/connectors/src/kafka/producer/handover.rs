//! What the task's thread and the producer's I/O share: batches one way, room, errors and wake-ups the other way.
//!
//! ```text
//!   task: write -> lock, append rows ----------------> I/O: lock, take batches -> brokers
//!         wake the I/O if a batch is full or first     I/O: acknowledged -> lock, release -> wake the task if it waits
//! ```
//!
//! The lock is taken once a batch of rows and once a request or answer, never a record. The first failure is kept, and every
//! later poll gives it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::accumulator::Accumulator;
use super::transaction::Transaction;
use crate::ConnectorError;

/// A commit of transactions on its way from the task to the I/O and back.
#[derive(Debug, Default)]
pub(crate) enum Commit {
    #[default]
    None,
    Asked(Vec<Transaction>),
    UnderWay,
    Done,
}

/// What is behind the lock.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) batches: Accumulator,
    /// A flush waits: no batch lingers.
    pub(crate) flushing: bool,
    /// When the I/O looks again by itself.
    pub(crate) looks_at: Option<Instant>,
    /// Records that could not be written.
    pub(crate) send_errors: u64,
    /// How long the last acknowledged batch took from its first row.
    pub(crate) send_time: Duration,
    /// The transaction that is written to; none without transactions, or until the next one begins.
    pub(crate) transaction: Option<Transaction>,
    pub(crate) commit: Commit,
    /// Transactions that could not be committed any more and were left out.
    pub(crate) lost: u64,
    failure: Option<ConnectorError>,
    task: Option<Waker>,
}

impl State {
    /// A batch is acknowledged; gives who is to be woken after the lock is released.
    #[must_use = "the task waits"]
    pub(crate) fn acknowledged(&mut self, held: usize, took: Duration) -> Option<Waker> {
        self.batches.release(held);
        self.send_time = took;
        if self.batches.used() == 0 || self.batches.has_room(3) {
            self.task.take()
        } else {
            None
        }
    }

    /// What was to be committed is, but for so many that were left out; gives who is to be woken.
    #[must_use = "the task waits"]
    pub(crate) fn committed(&mut self, lost: usize) -> Option<Waker> {
        self.commit = Commit::Done;
        self.lost += lost as u64;
        self.task.take()
    }

    /// There are so many partitions; gives who is to be woken.
    #[must_use = "the task waits"]
    pub(crate) fn partitions(&mut self, count: usize) -> Option<Waker> {
        self.batches.grow(count);
        self.task.take()
    }
}

/// Shared by one writer and its I/O.
#[derive(Debug)]
pub(crate) struct Handover {
    state: Mutex<State>,
    io: Notify,
}

impl Handover {
    pub(crate) fn new(batches: Accumulator) -> Self {
        Self {
            state: Mutex::new(State {
                batches,
                flushing: false,
                looks_at: None,
                send_errors: 0,
                send_time: Duration::ZERO,
                transaction: None,
                commit: Commit::None,
                lost: 0,
                failure: None,
                task: None,
            }),
            io: Notify::new(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the writer with this error, unless it has one.
    pub(crate) fn fail(&self, error: ConnectorError) {
        let task = {
            let mut state = self.lock();
            state.failure.get_or_insert(error);
            state.task.take()
        };
        if let Some(task) = task {
            task.wake();
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConnectorError> {
        self.lock().check()
    }

    /// Ready when `ready` says so or there is a failure; else the task is woken when that may have changed.
    pub(crate) fn poll(
        &self,
        cx: &Context<'_>,
        ready: impl FnOnce(&mut State) -> bool,
    ) -> Poll<Result<(), ConnectorError>> {
        let mut state = self.lock();
        state.check()?;
        if ready(&mut state) {
            return Poll::Ready(Ok(()));
        }
        state.task = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The I/O has something to do.
    pub(crate) fn wake_io(&self) {
        self.io.notify_one();
    }

    /// Waits for [`Self::wake_io`]; a call that came before counts.
    pub(crate) async fn work(&self) {
        self.io.notified().await;
    }
}

impl State {
    fn check(&self) -> Result<(), ConnectorError> {
        self.failure.as_ref().map_or(Ok(()), |error| Err(copy_of(error)))
    }
}

fn copy_of(error: &ConnectorError) -> ConnectorError {
    match error {
        ConnectorError::Unavailable(message) => ConnectorError::Unavailable(message.clone()),
        ConnectorError::Refused(message) => ConnectorError::Refused(message.clone()),
        ConnectorError::Malformed(message) => ConnectorError::Malformed(message.clone()),
    }
}
