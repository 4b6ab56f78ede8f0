//! What the SQL operators have in common: finished rows that wait to be taken in pieces, columns, errors.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int8Array, Int64Array, RecordBatch, RecordBatchOptions,
};
use arrow::compute::{FilterBuilder, cast, prep_null_mask_filter};
use arrow::datatypes::{DataType, Field, Int64Type, Schema as Columns, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use thalweg_functions::EvaluationError;
use thalweg_state::{ListDistribution, ListSnapshot, RestoredState};
use thalweg_types::element::RowKind;
use thalweg_types::{StreamBatch, WatermarkCut};

use crate::{OperatorContext, OperatorError, OutputLimit};

/// Batches that are finished, first in, first out. They are taken in pieces that share their buffers.
#[derive(Debug, Default)]
pub(crate) struct Output {
    batches: VecDeque<Finished>,
}

#[derive(Debug)]
struct Finished {
    batch: StreamBatch,
    /// The next row.
    next: usize,
    row_bytes: usize,
}

impl Output {
    /// Appends a batch, unless there is nothing in it.
    pub(crate) fn push(&mut self, batch: StreamBatch) {
        if batch.num_rows() == 0 && batch.watermarks.is_empty() {
            return;
        }
        let row_bytes = batch.memory_size() / batch.num_rows().max(1);
        self.batches.push_back(Finished {
            batch,
            next: 0,
            row_bytes: row_bytes.max(1),
        });
    }

    /// Appends a watermark, behind all rows.
    pub(crate) fn push_watermark(&mut self, schema: &SchemaRef, timestamp_ms: i64) {
        match self.batches.back_mut() {
            Some(last) => last.batch.watermarks.push(WatermarkCut {
                row: last.batch.num_rows() as u32,
                timestamp_ms,
            }),
            None => self.push(watermark_only(schema, timestamp_ms)),
        }
    }

    /// The next piece.
    pub(crate) fn pop(&mut self, limit: OutputLimit) -> Option<StreamBatch> {
        let first = self.batches.front_mut()?;
        let left = first.batch.num_rows() - first.next;
        let length = left
            .min(limit.rows)
            .min(limit.bytes / first.row_bytes)
            .max(left.min(1));
        if length == left && first.next == 0 {
            return self.batches.pop_front().map(|finished| finished.batch);
        }
        let piece = first.batch.slice(first.next, length);
        first.next += length;
        if length == left {
            self.batches.pop_front();
        }
        Some(piece)
    }

    /// Whether all is taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }
}

/// The list that keeps an operator's watermark: what was late before a restart is so behind it.
const WATERMARK: &str = "watermark";

/// The watermark for a checkpoint.
pub(crate) fn watermark_list(watermark: i64) -> ListSnapshot {
    let schema = Arc::new(Columns::new(vec![Field::new(WATERMARK, DataType::Int64, false)]));
    let column: ArrayRef = Arc::new(Int64Array::from(vec![watermark]));
    ListSnapshot {
        name: WATERMARK.to_owned(),
        distribution: ListDistribution::Union,
        items: RecordBatch::try_new(Arc::clone(&schema), vec![column])
            .unwrap_or_else(|_| RecordBatch::new_empty(schema)),
    }
}

/// The least that any subtask had seen.
pub(crate) fn restored_watermark(state: &mut RestoredState) -> i64 {
    let items = state.take_list(WATERMARK).map(|list| list.items);
    let watermarks = items.iter().flatten().flat_map(|items| {
        let column = items
            .columns()
            .first()
            .and_then(|column| column.as_primitive_opt::<Int64Type>());
        column.map(|column| column.values().to_vec()).unwrap_or_default()
    });
    watermarks.min().unwrap_or(i64::MIN)
}

/// Columns as the rows of an operator, also if there is none.
pub(crate) fn record_batch(
    schema: &SchemaRef,
    columns: Vec<ArrayRef>,
    rows: usize,
) -> Result<RecordBatch, ArrowError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

/// No rows, only a watermark.
pub(crate) fn watermark_only(schema: &SchemaRef, timestamp_ms: i64) -> StreamBatch {
    StreamBatch {
        watermarks: vec![WatermarkCut { row: 0, timestamp_ms }],
        ..StreamBatch::new(RecordBatch::new_empty(Arc::clone(schema)))
    }
}

/// The rows for which the mask is true, with their stream columns and the watermarks between them; without key hashes.
pub(crate) fn filtered(batch: StreamBatch, mask: &BooleanArray) -> Result<StreamBatch, ArrowError> {
    let cleaned;
    let mask = match mask.null_count() {
        0 => mask,
        _ => {
            cleaned = prep_null_mask_filter(mask);
            &cleaned
        }
    };
    let kept = mask.true_count();
    if kept == mask.len() {
        return Ok(StreamBatch {
            key_hashes: None,
            ..batch
        });
    }
    let predicate = FilterBuilder::new(mask).optimize().build();
    let columns = batch.rows.columns().iter().map(|column| predicate.filter(column));
    let rows = record_batch(&batch.rows.schema(), columns.collect::<Result<_, _>>()?, kept)?;
    let before = |row: u32| mask.values().slice(0, row as usize).count_set_bits() as u32;
    let kinds = batch.kinds.as_ref().map(|kinds| predicate.filter(kinds));
    let timestamps = batch.timestamps.as_ref().map(|times| predicate.filter(times));
    let cuts = batch.watermarks.iter().map(|cut| WatermarkCut {
        row: before(cut.row),
        ..*cut
    });
    Ok(StreamBatch {
        rows,
        kinds: kinds.transpose()?.map(|kinds| kinds.to_data().into()),
        timestamps: timestamps.transpose()?.map(|times| times.to_data().into()),
        key_hashes: None,
        watermarks: cuts.collect(),
    })
}

/// The largest watermark of a batch: the last.
pub(crate) fn last_watermark(batch: &StreamBatch) -> Option<i64> {
    batch.watermarks.last().map(|cut| cut.timestamp_ms)
}

/// Whether a row of this kind takes one back.
#[inline]
pub(crate) fn is_retraction(kind: i8) -> bool {
    kind == RowKind::UpdateBefore as i8 || kind == RowKind::Delete as i8
}

/// The column of kinds, if they aren't all +I.
pub(crate) fn kinds_of(kinds: impl Iterator<Item = i8> + Clone) -> Option<Int8Array> {
    let mut others = kinds.clone().filter(|kind| *kind != RowKind::Insert as i8);
    others.next().map(|_| Int8Array::from_iter_values(kinds))
}

/// +1 for rows that are added and -1 for those that are taken back; `None`: all are added.
pub(crate) fn signs(kinds: Option<&Int8Array>) -> Option<Vec<i8>> {
    let kinds = kinds?;
    let retracts = kinds.values().iter().any(|kind| is_retraction(*kind));
    let sign = |kind: &i8| if is_retraction(*kind) { -1 } else { 1 };
    retracts.then(|| kinds.values().iter().map(sign).collect())
}

/// Times of a TIMESTAMP or TIMESTAMP_LTZ column in milliseconds since the epoch, rounded down.
pub(crate) fn millis(column: &ArrayRef) -> Result<Int64Array, ArrowError> {
    let divisor = match column.data_type() {
        DataType::Timestamp(TimeUnit::Millisecond, _) => 1,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => 1_000_000,
        other => {
            return Err(ArrowError::InvalidArgumentError(format!(
                "a column of times is {other}"
            )));
        }
    };
    let values = cast(column, &DataType::Int64)?;
    let values = values.as_primitive::<Int64Type>();
    Ok(match divisor {
        1 => values.clone(),
        divisor => values.unary(|value| value.div_euclid(divisor)),
    })
}

/// Milliseconds since the epoch as a TIMESTAMP or TIMESTAMP_LTZ column; an error for times that its unit can't hold.
pub(crate) fn of_millis(millis: &Int64Array, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    let factor = match data_type {
        DataType::Timestamp(TimeUnit::Millisecond, _) => 1,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => 1_000_000,
        other => {
            return Err(ArrowError::InvalidArgumentError(format!(
                "a column of times is {other}"
            )));
        }
    };
    let scaled = millis.try_unary::<_, Int64Type, ArrowError>(|value: i64| {
        value.checked_mul(factor).ok_or_else(|| {
            ArrowError::ArithmeticOverflow(format!(
                "{value} ms since the epoch is beyond what {data_type} can hold"
            ))
        })
    })?;
    cast(&scaled, data_type)
}

/// An Arrow error as the operator's.
pub(crate) fn arrow_error(context: &OperatorContext, source: ArrowError) -> OperatorError {
    OperatorError::Arrow {
        operator: context.operator_name.to_string(),
        source,
    }
}

/// An error of an expression as the operator's.
pub(crate) fn evaluation_error(context: &OperatorContext, source: &EvaluationError) -> OperatorError {
    OperatorError::Value {
        operator: context.operator_name.to_string(),
        message: source.to_string(),
    }
}

/// A plan that this operator can't do.
pub(crate) fn unsupported(context: &OperatorContext, message: String) -> OperatorError {
    OperatorError::Input {
        operator: context.operator_name.to_string(),
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::TimestampMicrosecondArray;
    use arrow::datatypes::Schema;

    fn batch(rows: i64) -> StreamBatch {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let column = Arc::new(Int64Array::from_iter_values(0..rows));
        StreamBatch::new(RecordBatch::try_new(schema, vec![column]).unwrap())
    }

    #[test]
    fn pieces_are_within_both_limits_and_lose_nothing() {
        let mut output = Output::default();
        output.push(batch(10));
        output.push(batch(0));
        let mut last = batch(3);
        last.watermarks.push(WatermarkCut {
            row: 3,
            timestamp_ms: 7,
        });
        output.push(last);
        let limit = OutputLimit { rows: 4, bytes: 24 };
        let mut lengths = Vec::new();
        let mut watermarks = Vec::new();
        while let Some(piece) = output.pop(limit) {
            lengths.push(piece.num_rows());
            watermarks.extend(piece.watermarks);
        }
        assert!(output.is_empty());
        assert_eq!(lengths.iter().sum::<usize>(), 13);
        assert!(
            lengths.iter().all(|length| (1..=3).contains(length)),
            "{lengths:?}"
        );
        assert_eq!(watermarks.len(), 1);
    }

    #[test]
    fn one_row_goes_even_if_it_is_over_the_limit() {
        let mut output = Output::default();
        output.push(batch(2));
        let piece = output.pop(OutputLimit { rows: 9, bytes: 1 }).unwrap();
        assert_eq!(piece.num_rows(), 1);
    }

    #[test]
    fn times_before_the_epoch_round_down() {
        let column: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![-1, 1_999]));
        assert_eq!(millis(&column).unwrap().values().to_vec(), [-1, 1]);
    }
}
