//! TUMBLE, HOP, CUMULATE as table functions: each row once for each of its windows, with `window_start`, `window_end`, `window_time`.
//!
//! Rows without a time are left out, as Flink does.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use thalweg_functions::EvaluationEnv;
use thalweg_plan::TypeRoot;
use thalweg_plan::data_type::TimeKind;
use thalweg_plan::spec::WindowSpec;
use thalweg_types::{StreamBatch, WatermarkCut};

use super::super::SqlOperator;
use super::super::output::{Output, arrow_error, millis, of_millis, record_batch, unsupported};
use super::assigner::Assigner;
use super::zone::Zone;
use crate::{Operator, OperatorContext, OperatorError, OutputLimit};

/// [`thalweg_plan::NodeSpec::WindowTableFunction`], but for sessions ([`super::session_rows`]).
pub struct WindowTableFunction {
    context: OperatorContext,
    env: Arc<EvaluationEnv>,
    assigner: Assigner,
    time: usize,
    is_event_time: bool,
    zone: Zone,
    schema: SchemaRef,
    pending: Option<StreamBatch>,
    output: Output,
}

/// What is said of a window, in the order of columns.
#[derive(Debug, Clone, Copy)]
enum Bound {
    Start,
    End,
    Time,
}

/// Rows of output: their row in the input and their window.
#[derive(Default)]
struct Assigned {
    rows: Vec<u32>,
    windows: Vec<(i64, i64)>,
    /// How many rows of output are before each row of the input.
    before: Vec<u32>,
}

impl WindowTableFunction {
    /// An operator; refuses windows that make no sense.
    pub fn new(
        spec: &WindowSpec,
        operator: &SqlOperator<'_>,
        context: OperatorContext,
    ) -> Result<Self, OperatorError> {
        let refused = |message: String| unsupported(&context, message);
        let time_type = &operator.inputs[0].fields[spec.time].data_type;
        let zone = match time_type.root {
            TypeRoot::TimestampLtz(..) => Zone::named(&spec.time_zone).map_err(refused)?,
            _ => Zone::utc(),
        };
        Ok(Self {
            env: Arc::clone(&operator.env),
            assigner: Assigner::new(spec.kind, spec.offset_ms).map_err(refused)?,
            time: spec.time,
            is_event_time: time_type.time_kind() != TimeKind::Proctime,
            zone,
            schema: operator.output.to_arrow(),
            pending: None,
            output: Output::default(),
            context,
        })
    }

    fn assign(&self, batch: &StreamBatch) -> Result<Assigned, ArrowError> {
        let times = match self.is_event_time {
            true => millis(batch.rows.column(self.time))?,
            false => Int64Array::from(vec![(self.env.clock)(); batch.num_rows()]),
        };
        let mut assigned = Assigned::default();
        let mut windows = Vec::new();
        // Rows that are next to each other are mostly in the same slice.
        let mut last = None;
        for (row, time) in times.iter().enumerate() {
            assigned.before.push(assigned.rows.len() as u32);
            let Some(time) = time else { continue };
            let time = self.zone.to_local(time);
            let slice = self.assigner.slice_end(time);
            if last != Some(slice) {
                self.assigner.windows(time, &mut windows);
                last = Some(slice);
            }
            assigned.rows.extend(windows.iter().map(|_| row as u32));
            assigned.windows.extend_from_slice(&windows);
        }
        assigned.before.push(assigned.rows.len() as u32);
        Ok(assigned)
    }

    fn expand(&self, batch: &StreamBatch) -> Result<StreamBatch, ArrowError> {
        let assigned = self.assign(batch)?;
        let rows = UInt32Array::from(assigned.rows);
        let input = batch.rows.columns().iter();
        let mut columns = input
            .map(|column| take(column, &rows, None))
            .collect::<Result<Vec<_>, _>>()?;
        columns.extend(bounds(
            &self.schema,
            columns.len(),
            &assigned.windows,
            &self.zone,
        )?);
        let kinds = batch.kinds.as_ref().map(|kinds| take(kinds, &rows, None));
        let cuts = batch.watermarks.iter().map(|cut| WatermarkCut {
            row: assigned.before[cut.row as usize],
            ..*cut
        });
        Ok(StreamBatch {
            kinds: kinds.transpose()?.map(|kinds| kinds.to_data().into()),
            watermarks: cuts.collect(),
            ..StreamBatch::new(record_batch(&self.schema, columns, rows.len())?)
        })
    }
}

/// `window_start`, `window_end` and `window_time` of windows, as far as the schema has them behind its first columns.
pub(super) fn bounds(
    schema: &SchemaRef,
    first: usize,
    windows: &[(i64, i64)],
    zone: &Zone,
) -> Result<Vec<ArrayRef>, ArrowError> {
    let columns = [Bound::Start, Bound::End, Bound::Time].into_iter();
    let columns = columns
        .zip(schema.fields().iter().skip(first))
        .map(|(bound, field)| {
            let values = windows
                .iter()
                .map(|(start, end)| match (bound, field.data_type()) {
                    (Bound::Start, _) => *start,
                    (Bound::End, _) => *end,
                    (Bound::Time, DataType::Timestamp(_, Some(_))) => zone.to_instant(end - 1),
                    (Bound::Time, _) => end - 1,
                });
            of_millis(&Int64Array::from_iter_values(values), field.data_type())
        });
    columns.collect()
}

impl Operator for WindowTableFunction {
    fn push(&mut self, _input: usize, batch: StreamBatch) -> Result<(), OperatorError> {
        self.pending = Some(batch);
        Ok(())
    }

    fn poll_output(&mut self, limit: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        while self.output.is_empty()
            && let Some(batch) = self.pending.take()
        {
            // As many rows at a time as may give one piece, if each is in one window.
            let rows = limit.rows.max(1);
            let piece = batch.slice(0, rows.min(batch.num_rows()));
            if rows < batch.num_rows() {
                self.pending = Some(batch.slice(rows, batch.num_rows() - rows));
            }
            let expanded = self.expand(&piece);
            self.output
                .push(expanded.map_err(|error| arrow_error(&self.context, error))?);
        }
        Ok(self.output.pop(limit))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{
        Emitted, Harness, Input, TestClock, row, rowtime, table, text, timestamp,
    };
    use super::*;
    use thalweg_plan::NodeSpec;
    use thalweg_plan::spec::WindowKind;
    use thalweg_types::element::RowKind;

    fn harness(kind: WindowKind) -> Harness {
        let input = table(&[("id", text()), ("ts", rowtime())]);
        let output = table(&[
            ("id", text()),
            ("ts", rowtime()),
            ("window_start", timestamp()),
            ("window_end", timestamp()),
            ("window_time", rowtime()),
        ]);
        let spec = WindowSpec {
            kind,
            time: 1,
            offset_ms: 0,
            partition: Vec::new(),
            time_zone: "UTC".to_owned(),
        };
        let schema = input.clone();
        Harness::new(vec![Input::singleton(&input)], move |context| {
            let operator = SqlOperator {
                spec: &NodeSpec::DropUpdateBefore,
                inputs: std::slice::from_ref(&schema),
                output: &output,
                env: TestClock::new(0).env(),
            };
            Box::new(WindowTableFunction::new(&spec, &operator, context).unwrap())
        })
    }

    #[test]
    fn each_window_of_a_row_is_a_row_and_watermarks_stay_between() {
        let mut harness = harness(WindowKind::Hop {
            slide_ms: 5,
            size_ms: 10,
        });
        harness.insert(0, row!["a", 12]);
        harness.watermark(0, 3);
        harness.insert(0, row!["b", None::<i64>]);
        harness.watermark(0, 4);
        harness.insert(0, row!["c", 3]);
        harness.flush_all();
        let expected = [
            Emitted::Row(RowKind::Insert, row!["a", 12, 10, 20, 19]),
            Emitted::Row(RowKind::Insert, row!["a", 12, 5, 15, 14]),
            Emitted::Watermark(3),
            Emitted::Watermark(4),
            Emitted::Row(RowKind::Insert, row!["c", 3, 0, 10, 9]),
            Emitted::Row(RowKind::Insert, row!["c", 3, -5, 5, 4]),
        ];
        assert_eq!(harness.emitted[0], expected);
    }

    #[test]
    fn cumulating_windows_begin_together() {
        let mut harness = harness(WindowKind::Cumulate {
            step_ms: 5,
            size_ms: 15,
        });
        harness.insert(0, row!["a", 6]);
        let expected = [
            (RowKind::Insert, row!["a", 6, 0, 10, 9]),
            (RowKind::Insert, row!["a", 6, 0, 15, 14]),
        ];
        assert_eq!(harness.changelog(), expected);
    }
}
