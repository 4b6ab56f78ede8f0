//! Makes watermarks from a column: WATERMARK FOR. Flink's WatermarkAssignerOperator.
//!
//! ```text
//!   rows --expression--> a watermark a row --largest so far-->  a cut behind a row that is more than the interval ahead of the
//!                                                               last watermark
//!   the clock: what has not been said by the end of the interval; nothing came for the idle time-out: the output is idle
//! ```
//!
//! Watermarks that come in are dropped, but the last one of a bounded input. Invariants: watermarks only grow; none leaves while
//! the output is idle. As in Flink none is before the epoch.

use std::sync::Arc;

use arrow::array::{Array, Int64Array};
use thalweg_functions::{EvaluationEnv, Evaluator};
use thalweg_plan::spec::WatermarkSpec;
use thalweg_types::{StreamBatch, WatermarkCut};

use super::SqlOperator;
use super::calc::{renumber, used_columns};
use super::output::{Output, arrow_error, evaluation_error, millis, watermark_only};
use crate::{Operator, OperatorContext, OperatorError, OutputLimit};

/// Behind the last row of a bounded input.
const MAX_WATERMARK: i64 = i64::MAX;

/// [`thalweg_plan::NodeSpec::WatermarkAssigner`].
pub struct WatermarkAssigner {
    context: OperatorContext,
    env: Arc<EvaluationEnv>,
    rowtime: usize,
    expression: Evaluator,
    used: Vec<usize>,
    interval: i64,
    idle_timeout: i64,
    schema: arrow::datatypes::SchemaRef,
    /// The largest that rows have said.
    current: i64,
    /// What has gone out.
    last: i64,
    /// When the last interval began.
    interval_began: i64,
    last_row: i64,
    idle: bool,
    idleness_changed: bool,
    /// Watermark alignment: nothing comes because the source waits; since when.
    paused_since: Option<i64>,
    output: Output,
}

impl WatermarkAssigner {
    /// An operator whose output has the input's columns.
    pub fn new(
        spec: &WatermarkSpec,
        operator: &SqlOperator<'_>,
        context: OperatorContext,
    ) -> Result<Self, OperatorError> {
        let schema = operator.inputs[0].to_arrow();
        let used = used_columns(std::slice::from_ref(&spec.expression));
        let used_schema = schema
            .project(&used)
            .map_err(|error| arrow_error(&context, error))?;
        let expression = renumber(&spec.expression, &used);
        let expression = Evaluator::new(&[expression], &Arc::new(used_schema), Arc::clone(&operator.env))
            .map_err(|error| evaluation_error(&context, &error))?;
        let now = (operator.env.clock)();
        Ok(Self {
            rowtime: spec.rowtime,
            expression,
            used,
            interval: i64::try_from(spec.interval_ms).unwrap_or(i64::MAX),
            idle_timeout: i64::try_from(spec.idle_timeout_ms).unwrap_or(i64::MAX),
            schema: operator.output.to_arrow(),
            current: 0,
            last: 0,
            interval_began: now,
            last_row: now,
            idle: false,
            idleness_changed: false,
            paused_since: None,
            output: Output::default(),
            env: Arc::clone(&operator.env),
            context,
        })
    }

    /// The watermark behind each row.
    fn watermarks(&self, batch: &StreamBatch) -> Result<Int64Array, OperatorError> {
        if batch.rows.column(self.rowtime).null_count() > 0 {
            return Err(OperatorError::Value {
                operator: self.context.operator_name.to_string(),
                message: "RowTime field should not be null, please convert it to a non-null long value."
                    .to_owned(),
            });
        }
        let failed = |error| arrow_error(&self.context, error);
        let rows = batch.rows.project(&self.used).map_err(failed)?;
        let columns = self
            .expression
            .evaluate(&rows)
            .map_err(|error| evaluation_error(&self.context, &error))?;
        millis(&columns[0]).map_err(failed)
    }

    /// The cuts between the rows.
    fn advance(&mut self, watermarks: &Int64Array) -> Vec<WatermarkCut> {
        let mut cuts = Vec::new();
        for (row, watermark) in watermarks.iter().enumerate() {
            self.current = self.current.max(watermark.unwrap_or(i64::MIN));
            if self.current.saturating_sub(self.last) > self.interval {
                self.last = self.current;
                cuts.push(WatermarkCut {
                    row: row as u32 + 1,
                    timestamp_ms: self.last,
                });
            }
        }
        cuts
    }

    fn set_idle(&mut self, idle: bool) {
        self.idleness_changed |= std::mem::replace(&mut self.idle, idle) != idle;
    }

    /// The last watermark, once.
    fn finish(&mut self) -> Option<i64> {
        if self.last == MAX_WATERMARK {
            return None;
        }
        self.current = MAX_WATERMARK;
        self.last = MAX_WATERMARK;
        self.set_idle(false);
        Some(MAX_WATERMARK)
    }

    /// When what rows have said goes out at last.
    fn watermark_due(&self) -> Option<i64> {
        let is_due = self.interval > 0 && self.current > self.last;
        is_due.then(|| self.interval_began.saturating_add(self.interval))
    }

    fn idle_due(&self) -> Option<i64> {
        let is_watched = self.idle_timeout > 0 && !self.idle && self.paused_since.is_none();
        is_watched.then(|| self.last_row.saturating_add(self.idle_timeout))
    }
}

impl Operator for WatermarkAssigner {
    fn push(&mut self, _input: usize, mut batch: StreamBatch) -> Result<(), OperatorError> {
        let at_end = batch
            .watermarks
            .iter()
            .any(|cut| cut.timestamp_ms == MAX_WATERMARK);
        let rows = batch.num_rows();
        batch.key_hashes = None;
        batch.watermarks.clear();
        if rows > 0 {
            let watermarks = self.watermarks(&batch)?;
            let now = (self.env.clock)();
            self.last_row = now;
            self.set_idle(false);
            if self.current == self.last {
                self.interval_began = now;
            }
            batch.watermarks = self.advance(&watermarks);
        }
        if at_end && let Some(timestamp_ms) = self.finish() {
            let row = rows as u32;
            batch.watermarks.push(WatermarkCut { row, timestamp_ms });
        }
        self.output.push(batch);
        Ok(())
    }

    fn poll_output(&mut self, limit: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        Ok(self.output.pop(limit))
    }

    fn end_input(&mut self, _input: usize) -> Result<(), OperatorError> {
        if let Some(watermark) = self.finish() {
            self.output.push(watermark_only(&self.schema, watermark));
        }
        Ok(())
    }

    fn poll_idleness(&mut self) -> Option<bool> {
        std::mem::take(&mut self.idleness_changed).then_some(self.idle)
    }

    fn set_input_paused(&mut self, paused: bool) {
        let now = (self.env.clock)();
        if paused {
            self.paused_since.get_or_insert(now);
        } else if let Some(since) = self.paused_since.take() {
            self.last_row = self.last_row.saturating_add(now.saturating_sub(since).max(0));
        }
    }

    fn next_processing_time(&self) -> Option<i64> {
        let times = [self.watermark_due(), self.idle_due()];
        times.into_iter().flatten().min()
    }

    fn on_processing_time(&mut self, now_ms: i64) -> Result<(), OperatorError> {
        if self.watermark_due().is_some_and(|due| due <= now_ms) {
            self.last = self.current;
            self.interval_began = now_ms;
            self.output.push(watermark_only(&self.schema, self.last));
        }
        if self.idle_due().is_some_and(|due| due <= now_ms) {
            self.set_idle(true);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
