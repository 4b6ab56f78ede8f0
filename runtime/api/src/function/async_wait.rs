//! The operator of [`crate::AsyncDataStream`]: asks something outside for each record, many at a time. Flink's
//! AsyncWaitOperator.
//!
//! ```text
//!   push -> waiting: rows, watermarks --while fewer than `capacity` are asked--> a future a row, on the io runtime, which asks
//!                                                                                     | again by the retry strategy
//!                                                                                     | done
//!   poll_output <- ready <- in order, or as they come between two watermarks <-------+
//!   snapshot: every record that has not gone out; restored, they are asked again
//! ```
//!
//! Invariants: a watermark overtakes no record and is overtaken by none; records that are asked or answered and not gone out are
//! at most `capacity`; each entry of `ready` has something to emit, so that an operator whose input has ended and that is ready
//! and gives nothing is done; while there is something to wait for and nothing else to do, `poll_ready` is pending with the
//! waker registered.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow::array::Array;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use thalweg_operators::{Operator, OperatorContext, OperatorError, OutputLimit};
use thalweg_state::{ListDistribution, OperatorSnapshot, RestoredState, SnapshotRequest};
use thalweg_types::{StreamBatch, WatermarkCut};

use super::driver::Output;
use super::operator_state::{list_snapshot, restored_items};
use super::{arrow_error, guard, panic_message, wrong_input};
use crate::async_stream::{AsyncAnswer, AsyncRetryStrategy};
use crate::process::UserError;
use crate::record::{Record, Rows};

/// The list of records that have not gone out.
const IN_FLIGHT: &str = "async-in-flight";

/// What a row's future gives.
type Answer<O> = Result<Vec<O>, Failed>;

/// Why a row has no answer.
enum Failed {
    Error(UserError),
    /// With its message and place.
    Panic(String),
}

impl Failed {
    fn of(self, operator: &str) -> OperatorError {
        match self {
            Self::Error(error) => error.of(operator),
            Self::Panic(message) => OperatorError::UserPanic {
                operator: operator.to_owned(),
                message,
            },
        }
    }
}

/// How a record is asked for.
struct Request<T, O, F, E> {
    record: T,
    function: F,
    options: AsyncOptions<T, O, E>,
    /// True from the end of the input on: nothing is waited for before another attempt.
    ending: watch::Receiver<bool>,
}

impl<T: Record, O: Record, F, A: AsyncAnswer<O>> Request<T, O, F, A::Error>
where
    F: Fn(T) -> A,
{
    /// Awaits the user's future and those of further attempts. A panic is caught where it happens: the hook has noted its place for
    /// that thread.
    async fn answer(self, first: A) -> Answer<O> {
        let mut answer = pin!(self.in_time(first));
        poll_fn(|cx| {
            let polled = catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(cx)));
            polled.unwrap_or_else(|payload| Poll::Ready(Err(Failed::Panic(panic_message(payload.as_ref())))))
        })
        .await
    }

    async fn in_time(mut self, first: A) -> Answer<O> {
        let Some(timeout) = self.options.timeout else {
            return self.attempts(first).await.map_err(failed);
        };
        match tokio::time::timeout(timeout, self.attempts(first)).await {
            Ok(answer) => answer.map_err(failed),
            Err(_) => match self.options.on_timeout {
                Some(answer) => answer(self.record).map_err(Failed::Error),
                None => Err(Failed::Error(format!("no answer within {timeout:?}").into())),
            },
        }
    }

    async fn attempts(&mut self, first: A) -> Result<Vec<O>, A::Error> {
        let mut attempt = first;
        let mut attempts = 1;
        loop {
            let answer = attempt.await.map(|rows| rows.into_iter().collect());
            let is_last = *self.ending.borrow();
            let retry = self.options.retry.as_ref().filter(|_| !is_last);
            let Some(delay) = retry.and_then(|retry| retry.delay_after(attempts, &answer)) else {
                return answer;
            };
            // Whichever comes first; an operator that is gone drops this future.
            let _ = tokio::time::timeout(delay, self.ending.wait_for(|ending| *ending)).await;
            attempt = (self.function)(self.record.clone());
            attempts += 1;
        }
    }
}

fn failed(error: impl Display) -> Failed {
    Failed::Error(error.into())
}

/// How results go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputMode {
    /// In the order of their records.
    Ordered,
    /// As they come; not across a watermark.
    Unordered,
}

/// An answer to a record that came too late.
type TimeoutAnswer<T, O> = Arc<dyn Fn(T) -> Result<Vec<O>, UserError> + Send + Sync>;

/// How many, how long, how often.
pub(crate) struct AsyncOptions<T, O, E> {
    pub(crate) mode: OutputMode,
    /// `None`: as long as it takes.
    pub(crate) timeout: Option<Duration>,
    pub(crate) capacity: usize,
    pub(crate) retry: Option<AsyncRetryStrategy<O, E>>,
    pub(crate) on_timeout: Option<TimeoutAnswer<T, O>>,
}

impl<T, O, E> Clone for AsyncOptions<T, O, E> {
    fn clone(&self) -> Self {
        Self {
            retry: self.retry.clone(),
            on_timeout: self.on_timeout.clone(),
            ..*self
        }
    }
}

enum Waiting<T> {
    Row(T, Option<i64>),
    Watermark(i64),
}

/// A record that is asked.
struct Asked<T, O> {
    record: T,
    timestamp: Option<i64>,
    answer: Option<Vec<O>>,
}

enum Ready<O> {
    Rows(std::vec::IntoIter<O>, Option<i64>),
    Watermark(i64),
}

pub(crate) struct AsyncOperator<T: Record, O: Record, F, A: AsyncAnswer<O>> {
    context: OperatorContext,
    function: F,
    options: AsyncOptions<T, O, A::Error>,
    /// Tells those that wait for another attempt that the input has ended.
    ending: watch::Sender<bool>,
    waiting: VecDeque<Waiting<T>>,
    /// By the order in which they came.
    asked: BTreeMap<u64, Asked<T, O>>,
    /// Watermarks and the number of the first record behind each.
    watermarks: VecDeque<(u64, i64)>,
    next: u64,
    tasks: JoinSet<(u64, Answer<O>)>,
    ready: VecDeque<Ready<O>>,
    out: Output<O>,
    open_inputs: usize,
}

impl<T, O, F, A> AsyncOperator<T, O, F, A>
where
    T: Record,
    O: Record,
    F: Fn(T) -> A + Clone + Send + 'static,
    A: AsyncAnswer<O>,
{
    pub(crate) fn new(context: OperatorContext, options: AsyncOptions<T, O, A::Error>, function: F) -> Self {
        Self {
            context,
            function,
            options,
            ending: watch::Sender::new(false),
            waiting: VecDeque::new(),
            asked: BTreeMap::new(),
            watermarks: VecDeque::new(),
            next: 0,
            tasks: JoinSet::new(),
            ready: VecDeque::new(),
            out: Output::new(),
            open_inputs: 1,
        }
    }

    /// Takes answers and asks for more, as long as there is something to do.
    fn advance(
        &mut self,
        mut joined: impl FnMut(&mut JoinSet<(u64, Answer<O>)>) -> Option<Joined<O>>,
    ) -> Result<(), OperatorError> {
        loop {
            self.ask()?;
            let Some(answer) = joined(&mut self.tasks) else {
                return Ok(());
            };
            self.take_answer(answer)?;
        }
    }

    fn ask(&mut self) -> Result<(), OperatorError> {
        while self.asked.len() < self.options.capacity
            && let Some(waiting) = self.waiting.pop_front()
        {
            match waiting {
                Waiting::Row(record, timestamp) => self.ask_for(record, timestamp)?,
                Waiting::Watermark(watermark) => {
                    // One behind the other: the last is enough.
                    self.watermarks.pop_back_if(|(first, _)| *first == self.next);
                    self.watermarks.push_back((self.next, watermark));
                    self.release();
                }
            }
        }
        Ok(())
    }

    fn ask_for(&mut self, record: T, timestamp: Option<i64>) -> Result<(), OperatorError> {
        let number = self.next;
        let request = Request {
            record: record.clone(),
            function: self.function.clone(),
            options: self.options.clone(),
            ending: self.ending.subscribe(),
        };
        let (operator, function) = (&self.context.operator_name, &self.function);
        let first = guard(operator, || Ok(function(record.clone())))?;
        let answer = async move { (number, request.answer(first).await) };
        self.tasks.spawn_on(answer, &self.context.io);
        let asked = Asked {
            record,
            timestamp,
            answer: None,
        };
        self.asked.insert(number, asked);
        self.next += 1;
        Ok(())
    }

    fn take_answer(&mut self, joined: Joined<O>) -> Result<(), OperatorError> {
        let operator = &self.context.operator_name;
        // Panics are caught before; only a runtime that is shut down ends a task.
        let (number, answer) = joined.map_err(|error| OperatorError::User {
            operator: operator.to_string(),
            message: error.to_string(),
        })?;
        let answer = answer.map_err(|failed| failed.of(operator))?;
        if let Some(asked) = self.asked.get_mut(&number) {
            asked.answer = Some(answer);
        }
        if self.options.mode == OutputMode::Unordered && number < self.boundary() {
            self.go_out(number);
        }
        self.release();
        Ok(())
    }

    /// The number of the first record behind the next watermark.
    fn boundary(&self) -> u64 {
        self.watermarks.front().map_or(u64::MAX, |(first, _)| *first)
    }

    fn go_out(&mut self, number: u64) {
        if let Some(asked) = self.asked.remove(&number) {
            let rows = asked.answer.unwrap_or_default();
            if !rows.is_empty() {
                self.ready
                    .push_back(Ready::Rows(rows.into_iter(), asked.timestamp));
            }
        }
    }

    /// Lets everything go that nothing holds back any more.
    fn release(&mut self) {
        loop {
            let boundary = self.boundary();
            if self.options.mode == OutputMode::Ordered {
                while let Some((number, asked)) = self.asked.first_key_value()
                    && *number < boundary
                    && asked.answer.is_some()
                {
                    self.go_out(*number);
                }
            }
            let is_held = self
                .asked
                .first_key_value()
                .is_some_and(|(first, _)| *first < boundary);
            if is_held {
                return;
            }
            let Some((_, watermark)) = self.watermarks.pop_front() else {
                return;
            };
            self.ready.push_back(Ready::Watermark(watermark));
            if self.options.mode == OutputMode::Unordered {
                let answered: Vec<u64> = self
                    .asked
                    .range(..self.boundary())
                    .filter(|(_, asked)| asked.answer.is_some())
                    .map(|(number, _)| *number)
                    .collect();
                answered.into_iter().for_each(|number| self.go_out(number));
            }
        }
    }

    /// What is ready, up to the limit.
    fn emit(&mut self, limit: OutputLimit) -> Vec<WatermarkCut> {
        let mut cuts = Vec::new();
        while !self.out.is_full(limit)
            && let Some(ready) = self.ready.front_mut()
        {
            let is_done = match ready {
                Ready::Watermark(timestamp_ms) => {
                    cuts.push(WatermarkCut {
                        row: self.out.len() as u32,
                        timestamp_ms: *timestamp_ms,
                    });
                    true
                }
                Ready::Rows(rows, timestamp) => {
                    if let Some(row) = rows.next() {
                        self.out.collector.collect_owned(&row);
                        self.out.stamp(*timestamp);
                    }
                    rows.len() == 0
                }
            };
            if is_done {
                self.ready.pop_front();
            }
        }
        cuts
    }

    /// The records that have not gone out, in their order. Answers that wait for the limit have gone out: a snapshot is taken
    /// when none does.
    fn in_flight(&self) -> impl Iterator<Item = (T::Ref<'_>, Option<i64>)> {
        let asked = self.asked.values();
        let waiting = self.waiting.iter().filter_map(|waiting| match waiting {
            Waiting::Row(record, timestamp) => Some((T::view(record), *timestamp)),
            Waiting::Watermark(_) => None,
        });
        asked
            .map(|asked| (T::view(&asked.record), asked.timestamp))
            .chain(waiting)
    }
}

type Joined<O> = Result<(u64, Answer<O>), JoinError>;

impl<T, O, F, A> Operator for AsyncOperator<T, O, F, A>
where
    T: Record,
    O: Record,
    F: Fn(T) -> A + Clone + Send + 'static,
    A: AsyncAnswer<O>,
{
    fn push(&mut self, _input: usize, batch: StreamBatch) -> Result<(), OperatorError> {
        let rows = Rows::<T>::of(&batch.rows).map_err(|error| wrong_input(&self.context, &error))?;
        let mut cuts = batch.watermarks.iter().peekable();
        for row in 0..=rows.len() {
            while let Some(cut) = cuts.next_if(|cut| cut.row as usize <= row) {
                self.waiting.push_back(Waiting::Watermark(cut.timestamp_ms));
            }
            if row < rows.len() {
                let times = batch.timestamps.as_ref().filter(|times| times.is_valid(row));
                let timestamp = times.map(|times| times.value(row));
                self.waiting
                    .push_back(Waiting::Row(T::own(rows.get(row)), timestamp));
            }
        }
        Ok(())
    }

    fn poll_output(&mut self, limit: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        if self.ready.is_empty() {
            self.advance(JoinSet::try_join_next)?;
        }
        let cuts = self.emit(OutputLimit {
            rows: limit.rows.max(1),
            bytes: limit.bytes.max(1),
        });
        if self.out.len() == 0 && cuts.is_empty() {
            return Ok(None);
        }
        let output = self.out.finish(cuts);
        output
            .map(Some)
            .map_err(|error| arrow_error(&self.context, error))
    }

    fn end_input(&mut self, _input: usize) -> Result<(), OperatorError> {
        self.open_inputs = 0;
        self.ending.send_replace(true);
        Ok(())
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), OperatorError>> {
        self.advance(|tasks| match tasks.poll_join_next(cx) {
            Poll::Ready(joined) => joined,
            Poll::Pending => None,
        })?;
        let has_room = self.waiting.is_empty() && self.asked.len() < self.options.capacity;
        let is_ending = self.open_inputs == 0 && !self.asked.is_empty();
        if !self.ready.is_empty() || (has_room && !is_ending) {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }

    fn restore(&mut self, state: &mut RestoredState) -> Result<(), OperatorError> {
        let restored = restored_items::<(T, Option<i64>)>(IN_FLIGHT, ListDistribution::Split, state);
        let restored = restored.map_err(|source| state_error(&self.context, source))?;
        let rows = restored.into_iter();
        self.waiting
            .extend(rows.map(|(record, timestamp)| Waiting::Row(record, timestamp)));
        Ok(())
    }

    fn snapshot(&mut self, _request: SnapshotRequest) -> Result<OperatorSnapshot, OperatorError> {
        let list = list_snapshot::<(T, Option<i64>)>(IN_FLIGHT, ListDistribution::Split, self.in_flight());
        Ok(OperatorSnapshot {
            tables: Vec::new(),
            lists: vec![list.map_err(|source| state_error(&self.context, source))?],
        })
    }
}

fn state_error(context: &OperatorContext, source: thalweg_state::StateError) -> OperatorError {
    thalweg_operators::keyed::state_error(context, source)
}

#[cfg(test)]
mod tests;
