//! The task: one thread that runs one subtask's chain.
//!
//! ```text
//!   loop: mailbox -> chain has work?  yes -> one piece of it            (blocked: wait, backpressured)
//!                                     no  -> edges have room?  no       -> wait, backpressured
//!                                            next input        none yet -> wait, idle
//! ```
//!
//! The thread reads time once for each batch of input and at both ends of a wait, never for a row. It takes no lock that
//! another task may hold, runs no async executor, and sleeps only in `Task::wait`, where whoever has something for
//! it (a channel, a reader, a writer, the mailbox) wakes it.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::chain::{Chain, Step};
use crate::error::TaskError;
use crate::input::{Input, InputEvent};
use crate::mailbox::Mailbox;
use crate::metrics::{Activity, TaskCounters};

/// How often a task shows what only its own thread can ask: gauges of connectors, bytes of channels.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(1);
/// How long a task leaves a sink alone that said it was ready and took nothing.
const REFUSED_PAUSE: Duration = Duration::from_millis(5);

/// How a task ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Its input ended and all is handed on.
    Finished,
    /// The mailbox said so.
    Canceled,
}

/// What a task's thread holds.
pub(crate) struct Task {
    chain: Chain,
    input: Input,
    mailbox: Arc<Mailbox>,
    counters: Arc<TaskCounters>,
    next_publish: Instant,
}

impl Task {
    pub(crate) fn new(
        chain: Chain,
        input: Input,
        mailbox: Arc<Mailbox>,
        counters: Arc<TaskCounters>,
    ) -> Self {
        Self {
            chain,
            input,
            mailbox,
            counters,
            next_publish: Instant::now() + PUBLISH_INTERVAL,
        }
    }

    /// Runs to the end, on the thread that the mailbox's parker is attached to.
    pub(crate) fn run(&mut self) -> Result<Ending, TaskError> {
        let waker = self.mailbox.waker();
        let mut cx = Context::from_waker(&waker);
        loop {
            self.mailbox.parker().clear();
            if self.mailbox.is_canceled() {
                return Ok(Ending::Canceled);
            }
            match self.chain.step(&mut cx)? {
                Step::Worked => {}
                Step::Drained => self.take_input(&mut cx)?,
                Step::Blocked => self.wait(&mut cx, Activity::Backpressured, None)?,
                Step::Refused => self.wait(&mut cx, Activity::Backpressured, Some(REFUSED_PAUSE))?,
                Step::Finished => {
                    self.publish();
                    return Ok(Ending::Finished);
                }
            }
        }
    }

    fn take_input(&mut self, cx: &mut Context<'_>) -> Result<(), TaskError> {
        self.tend(cx, Instant::now())?;
        if self.chain.poll_ready(cx)?.is_pending() {
            return self.wait(cx, Activity::Backpressured, None);
        }
        match self.input.poll_next(cx)? {
            Poll::Pending => self.wait(cx, Activity::Idle, None),
            Poll::Ready(event) => {
                self.count(&event);
                self.chain.accept(event)
            }
        }
    }

    /// What is due by the clock; returns when something is due next.
    fn tend(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<Instant, TaskError> {
        if now >= self.next_publish {
            self.publish();
            self.next_publish = now + PUBLISH_INTERVAL;
        }
        let flush = self.chain.flush_due(cx, now)?;
        Ok(flush.map_or(self.next_publish, |flush| flush.min(self.next_publish)))
    }

    fn wait(
        &mut self,
        cx: &mut Context<'_>,
        activity: Activity,
        at_most: Option<Duration>,
    ) -> Result<(), TaskError> {
        let now = Instant::now();
        let due = self.tend(cx, now)?;
        let until = at_most.map_or(due, |pause| due.min(now + pause));
        self.counters.times.switch(activity, now);
        self.mailbox.parker().wait(Some(until));
        self.counters.times.switch(Activity::Busy, Instant::now());
        Ok(())
    }

    fn count(&self, event: &InputEvent) {
        if let (InputEvent::Batch { batch, .. }, Input::Gate(_)) = (event, &self.input) {
            self.counters.records_in.add(batch.num_rows());
            self.counters.batches_in.add(1);
        }
    }

    fn publish(&self) {
        self.chain.publish();
        self.counters.bytes_in.set(self.input.bytes_in());
        if let (Some(gauges), Some(head)) = (self.input.gauges(), self.counters.operators().first()) {
            head.publish(gauges);
        }
    }
}
