//! Event times and watermarks made in the middle of a job. Flink's TimestampsAndWatermarksOperator.
//!
//! ```text
//!   batch --function, row by row--> event times --largest so far--> watermark behind the batch (largest - bound - 1)
//! ```
//!
//! Watermarks that come in are dropped, but the last one of a bounded input. A batch is what Flink's periodic interval is: between
//! rows of one batch no watermark is needed. Invariants: watermarks only grow; none leaves while the output is idle.

use std::sync::Arc;

use arrow::array::Int64Array;
use thalweg_connectors::WatermarkStrategy;
use thalweg_operators::{Operator, OperatorContext, OperatorError, OutputLimit};
use thalweg_task::Clock;
use thalweg_types::{StreamBatch, WatermarkCut};

use super::{guard, wrong_input};
use crate::record::{Record, Rows};

/// Behind the last row of a bounded input.
const MAX_WATERMARK: i64 = i64::MAX;

pub(crate) struct TimestampsOperator<T: Record, F> {
    context: OperatorContext,
    function: F,
    strategy: WatermarkStrategy,
    largest: Option<i64>,
    watermark: i64,
    output: Option<(StreamBatch, usize)>,
    clock: Clock,
    /// Milliseconds since the epoch.
    last_row: i64,
    idle: bool,
    /// Watermark alignment: nothing comes because the source waits; since when.
    paused_since: Option<i64>,
    idleness_changed: bool,
    record: std::marker::PhantomData<fn() -> T>,
}

impl<T: Record, F> TimestampsOperator<T, F>
where
    F: for<'a> FnMut(&'a T::Ref<'a>) -> i64,
{
    pub(crate) fn new(context: OperatorContext, strategy: WatermarkStrategy, function: F) -> Self {
        let clock = Clock::system();
        Self {
            context,
            function,
            strategy,
            largest: None,
            watermark: i64::MIN,
            output: None,
            last_row: clock.now_ms(),
            clock,
            idle: false,
            paused_since: None,
            idleness_changed: false,
            record: std::marker::PhantomData,
        }
    }

    /// With a clock that the test sets.
    #[cfg(test)]
    pub(crate) fn with_clock(mut self, clock: Clock) -> Self {
        self.last_row = clock.now_ms();
        self.clock = clock;
        self
    }

    fn timestamps(&mut self, batch: &StreamBatch) -> Result<Int64Array, OperatorError> {
        let rows = Rows::<T>::of(&batch.rows).map_err(|error| wrong_input(&self.context, &error))?;
        let operator = Arc::clone(&self.context.operator_name);
        let function = &mut self.function;
        guard(&operator, || {
            Ok(Int64Array::from_iter_values(
                (0..rows.len()).map(|row| function(&rows.get(row))),
            ))
        })
    }

    /// The watermark behind rows of these times, if it is a new one.
    fn advance(&mut self, timestamps: &Int64Array) -> Option<i64> {
        self.largest = self.largest.max(timestamps.values().iter().copied().max());
        let bound = i64::try_from(self.strategy.max_out_of_orderness.as_millis()).unwrap_or(i64::MAX);
        self.advance_to(self.largest?.saturating_sub(bound).saturating_sub(1))
    }

    fn advance_to(&mut self, watermark: i64) -> Option<i64> {
        (watermark > self.watermark).then(|| {
            self.watermark = watermark;
            watermark
        })
    }

    fn set_idle(&mut self, idle: bool) {
        self.idleness_changed |= std::mem::replace(&mut self.idle, idle) != idle;
    }
}

impl<T: Record, F> Operator for TimestampsOperator<T, F>
where
    F: for<'a> FnMut(&'a T::Ref<'a>) -> i64 + Send,
{
    fn push(&mut self, _input: usize, mut batch: StreamBatch) -> Result<(), OperatorError> {
        let at_end = batch
            .watermarks
            .iter()
            .any(|cut| cut.timestamp_ms == MAX_WATERMARK);
        let timestamps = self.timestamps(&batch)?;
        let mut watermark = self.advance(&timestamps);
        if at_end {
            watermark = self.advance_to(MAX_WATERMARK);
        }
        let row = batch.num_rows() as u32;
        let cut = |timestamp_ms| WatermarkCut { row, timestamp_ms };
        batch.watermarks = watermark.map(cut).into_iter().collect();
        batch.key_hashes = None;
        if row > 0 {
            batch.timestamps = Some(timestamps);
            self.last_row = self.clock.now_ms();
        }
        if row > 0 || watermark.is_some() {
            self.set_idle(false);
        }
        self.output = Some((batch, 0));
        Ok(())
    }

    fn poll_output(&mut self, limit: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        let Some((batch, offset)) = self.output.take() else {
            return Ok(None);
        };
        if batch.num_rows() == 0 && batch.watermarks.is_empty() {
            return Ok(None);
        }
        let length = limit.rows.max(1).min(batch.num_rows() - offset);
        let piece = batch.slice(offset, length);
        if offset + length < batch.num_rows() {
            self.output = Some((batch, offset + length));
        }
        Ok(Some(piece))
    }

    fn poll_idleness(&mut self) -> Option<bool> {
        std::mem::take(&mut self.idleness_changed).then_some(self.idle)
    }

    fn set_input_paused(&mut self, paused: bool) {
        let now = self.clock.now_ms();
        if paused {
            self.paused_since.get_or_insert(now);
        } else if let Some(since) = self.paused_since.take() {
            self.last_row = self.last_row.saturating_add(now.saturating_sub(since).max(0));
        }
    }

    fn next_processing_time(&self) -> Option<i64> {
        let is_watched = !self.idle && self.paused_since.is_none();
        let idleness = self.strategy.idleness.filter(|_| is_watched)?;
        let idleness = i64::try_from(idleness.as_millis()).unwrap_or(i64::MAX);
        Some(self.last_row.saturating_add(idleness))
    }

    fn on_processing_time(&mut self, now_ms: i64) -> Result<(), OperatorError> {
        if self.next_processing_time().is_some_and(|due| now_ms >= due) {
            self.set_idle(true);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
