//! The task: one thread that runs one subtask's chain.
//!
//! ```text
//!   loop: mailbox -> chain has work?  yes -> one piece of it            (blocked: wait, backpressured)
//!                                     no  -> checkpoint begun? yes -> sinks flushed? -> snapshot
//!                                            timers due?       yes -> fire them
//!                                            edges have room?  no  -> a barrier that needs none, else wait, backpressured
//!                                            next input        none yet -> wait, idle
//! ```
//!
//! The thread reads time once for each batch of input and at both ends of a wait, never for a row. It takes no lock that
//! another task may hold, runs no async executor, and sleeps only in `Task::wait`, where whoever has something for
//! it (a channel, a reader, a writer, the mailbox) wakes it.

mod checkpoints;

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use thalweg_proto::state::v1::TaskSnapshot;

use crate::alignment::Alignment;
use crate::chain::{Chain, Step};
use crate::clock::Clock;
use crate::error::TaskError;
use crate::input::{Input, InputEvent};
use crate::mailbox::Mailbox;
use crate::metrics::{Activity, TaskCounters};
pub(crate) use checkpoints::CheckpointSetup;
use checkpoints::Checkpoints;

/// How often a task shows what only its own thread can ask: gauges of connectors, bytes of channels.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(1);
/// How long a task leaves a sink alone that said it was ready and took nothing.
const REFUSED_PAUSE: Duration = Duration::from_millis(5);

/// How a task ended without an error.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ending {
    /// Its input ended, or a savepoint stopped it, and all is handed on. With checkpoints: what later ones must hold of it.
    Finished(Option<TaskSnapshot>),
    /// The mailbox said so.
    Canceled,
}

/// What a task's thread holds.
pub(crate) struct Task {
    chain: Chain,
    input: Input,
    mailbox: Arc<Mailbox>,
    counters: Arc<TaskCounters>,
    checkpoints: Checkpoints,
    /// Whether its source keeps step with others.
    alignment: Option<Alignment>,
    clock: Clock,
    /// Rows of the batch that is worked on; `None` while it is something else, as a timer or a snapshot.
    working_on: Option<usize>,
    next_publish: Instant,
    /// When operators want to see the clock.
    next_timer_ms: Option<i64>,
}

impl Task {
    pub(crate) fn new(
        chain: Chain,
        input: Input,
        mailbox: Arc<Mailbox>,
        counters: Arc<TaskCounters>,
        setup: CheckpointSetup,
        alignment: Option<Alignment>,
        clock: Clock,
    ) -> Self {
        Self {
            chain,
            input,
            checkpoints: Checkpoints::new(setup, mailbox.waker()),
            mailbox,
            counters,
            alignment,
            clock,
            working_on: None,
            next_publish: Instant::now() + PUBLISH_INTERVAL,
            next_timer_ms: None,
        }
    }

    /// Commits what the checkpoint that it is restored from holds as prepared; false if it is canceled before.
    pub(crate) fn open(&mut self) -> Result<bool, TaskError> {
        let waker = self.mailbox.waker();
        let mut cx = Context::from_waker(&waker);
        loop {
            self.mailbox.parker().clear();
            if self.mailbox.is_canceled() {
                return Ok(false);
            }
            match self.chain.poll_commit(&mut cx)? {
                Poll::Ready(()) => break,
                Poll::Pending => self.mailbox.parker().wait(None),
            }
        }
        self.chain.open()?;
        Ok(true)
    }

    /// Says of an error of user code which rows were worked on.
    pub(crate) fn located(&self, task: &str, error: TaskError) -> TaskError {
        let rows = self.working_on.filter(|_| error.may_be_of_a_record());
        match rows.and_then(|rows| self.input.position(rows)) {
            Some(input) => TaskError::OnInput {
                source: Box::new(error),
                task: task.to_owned(),
                input,
            },
            None => error,
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
            self.read_mail()?;
            self.poll_commit(&mut cx)?;
            if self.has_stopped() {
                if self.input.poll_close(&mut cx).is_ready() {
                    self.chain.end_outputs_of_stopped();
                    self.publish();
                    return Ok(Ending::Finished(None));
                }
                self.wait(&mut cx, Activity::Idle, None)?;
                continue;
            }
            match self.chain.step(&mut cx)? {
                Step::Worked => {}
                Step::Drained => self.go_on(&mut cx)?,
                Step::NoRoom if self.input.poll_urgent(&cx)? && self.chain.overdraw() => {}
                Step::NoRoom | Step::Blocked => self.wait(&mut cx, Activity::Backpressured, None)?,
                Step::Refused => self.wait(&mut cx, Activity::Backpressured, Some(REFUSED_PAUSE))?,
                Step::Finished if !self.may_finish() => self.await_last_checkpoint(&mut cx)?,
                Step::Finished => match self.input.poll_close(&mut cx) {
                    Poll::Ready(()) => break,
                    Poll::Pending => self.wait(&mut cx, Activity::Idle, None)?,
                },
            }
        }
        self.chain.end_outputs()?;
        self.publish();
        self.finish()
    }

    /// The chain is drained: a checkpoint, a timer or new input.
    fn go_on(&mut self, cx: &mut Context<'_>) -> Result<(), TaskError> {
        self.working_on = None;
        if self.checkpoints.has_begun() {
            return self.poll_snapshot(cx);
        }
        if self.is_stopping() {
            return self.wait(cx, Activity::Idle, None);
        }
        if self.chain.poll_operators(cx)? {
            return Ok(());
        }
        self.next_timer_ms = self.chain.next_processing_time();
        if let Some(due) = self.next_timer_ms {
            let now = self.clock.now_ms();
            if due <= now {
                return self.chain.on_processing_time(now);
            }
        }
        self.take_input(cx)
    }

    fn take_input(&mut self, cx: &mut Context<'_>) -> Result<(), TaskError> {
        self.tend(cx, Instant::now())?;
        if self.chain.poll_ready(cx)?.is_pending() {
            // Barriers need no room: a source that is held up does not hold its checkpoints up.
            if let Some(barrier) = self.input.take_barrier() {
                return self.begin_checkpoint(barrier);
            }
            // Nor do those that overtake: at most what one element brings is before them.
            if !self.input.poll_urgent(cx)? {
                return self.wait(cx, Activity::Backpressured, None);
            }
        }
        self.keep_step()?;
        match self.input.poll_next(cx)? {
            Poll::Pending => self.wait(cx, Activity::Idle, None),
            Poll::Ready(InputEvent::Barrier(barrier)) => self.begin_checkpoint(barrier),
            Poll::Ready(InputEvent::Recorded(recording)) => {
                self.complete_checkpoint(recording);
                Ok(())
            }
            Poll::Ready(InputEvent::GivenUp { checkpoint_id, cause }) => {
                self.decline_given_up(checkpoint_id, cause);
                Ok(())
            }
            Poll::Ready(event) => {
                if let InputEvent::Batch { batch, .. } = &event {
                    self.working_on = Some(batch.num_rows());
                }
                self.count(&event);
                self.chain.accept(event)
            }
        }
    }

    /// Watermark alignment: the reader waits while the task is ahead.
    fn keep_step(&mut self) -> Result<(), TaskError> {
        let Some(alignment) = &mut self.alignment else {
            return Ok(());
        };
        let paused = alignment.is_ahead(self.chain.progress(alignment.node()));
        if std::mem::replace(&mut alignment.paused, paused) != paused {
            self.input.set_paused(paused);
            self.chain.set_input_paused(paused);
            return alignment.check_splits();
        }
        Ok(())
    }

    /// How far watermark alignment lets it go from now on.
    fn align(&mut self, max_watermark_ms: i64) {
        if let Some(alignment) = &mut self.alignment {
            let aligned = self.input.align_splits(max_watermark_ms);
            alignment.set_max_watermark(max_watermark_ms, aligned);
        }
    }

    /// What is due by the clock; returns when something is due next.
    fn tend(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<Instant, TaskError> {
        if now >= self.next_publish {
            self.publish();
            self.next_publish = now + PUBLISH_INTERVAL;
        }
        let flush = self.chain.flush_due(cx, now)?;
        let timer = self
            .next_timer_ms
            .map(|due| now + until(due, self.clock.now_ms()));
        let chain = &self.chain;
        let report = self.alignment.as_mut();
        let report = report.map(|alignment| alignment.tend(chain.progress(alignment.node()), now));
        let due = [flush, timer, report, self.input.next_deadline()]
            .into_iter()
            .flatten()
            .min();
        Ok(due.map_or(self.next_publish, |due| due.min(self.next_publish)))
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
        if let (Some(mut gauges), Some(head)) = (self.input.gauges(), self.counters.operators().first()) {
            let alignment = self.alignment.as_ref();
            gauges.extend(
                alignment.and_then(|alignment| alignment.gauge(self.chain.progress(alignment.node()))),
            );
            head.publish(gauges);
        }
    }
}

/// How long until a time of day; a day at most, so that it can be added to an instant.
fn until(due_ms: i64, now_ms: i64) -> Duration {
    const DAY_MS: i64 = 24 * 60 * 60 * 1000;
    let left = due_ms.saturating_sub(now_ms).clamp(0, DAY_MS);
    Duration::from_millis(left.unsigned_abs())
}
