//! The operator of `filter`.

use std::sync::Arc;

use arrow::array::{BooleanArray, BooleanBufferBuilder};
use arrow::compute::{FilterBuilder, filter};
use arrow::error::ArrowError;
use thalweg_operators::{Operator, OperatorContext, OperatorError, OutputLimit};
use thalweg_types::{StreamBatch, WatermarkCut};

use super::{arrow_error, guard, wrong_input};
use crate::record::{Record, Rows};

/// Keeps the rows for which the function is true. The output is never larger than the input, so it is one piece.
pub(crate) struct FilterOperator<T: Record, F> {
    context: OperatorContext,
    function: F,
    input: Option<(Rows<T>, StreamBatch)>,
}

impl<T: Record, F: for<'a> FnMut(T::Ref<'a>) -> bool> FilterOperator<T, F> {
    pub(crate) fn new(context: OperatorContext, function: F) -> Self {
        Self {
            context,
            function,
            input: None,
        }
    }

    fn mask(&mut self, rows: &Rows<T>) -> Result<BooleanArray, OperatorError> {
        let operator = Arc::clone(&self.context.operator_name);
        guard(&operator, || {
            let mut mask = BooleanBufferBuilder::new(rows.len());
            for record in rows.iter() {
                mask.append((self.function)(record));
            }
            Ok(BooleanArray::new(mask.finish(), None))
        })
    }
}

impl<T: Record, F: for<'a> FnMut(T::Ref<'a>) -> bool + Send> Operator for FilterOperator<T, F> {
    fn push(&mut self, _input: usize, batch: StreamBatch) -> Result<(), OperatorError> {
        let rows = Rows::of(&batch.rows).map_err(|error| wrong_input(&self.context, &error))?;
        self.input = Some((rows, batch));
        Ok(())
    }

    fn poll_output(&mut self, _limit: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        let Some((rows, batch)) = self.input.take() else {
            return Ok(None);
        };
        let mask = self.mask(&rows)?;
        if mask.true_count() == mask.len() {
            return Ok(Some(StreamBatch {
                key_hashes: None,
                ..batch
            }));
        }
        let kept = filter_batch(&batch, &mask).map_err(|error| arrow_error(&self.context, error))?;
        let worth_sending = kept.num_rows() > 0 || !kept.watermarks.is_empty();
        Ok(worth_sending.then_some(kept))
    }
}

fn filter_batch(batch: &StreamBatch, mask: &BooleanArray) -> Result<StreamBatch, ArrowError> {
    let predicate = FilterBuilder::new(mask).optimize().build();
    Ok(StreamBatch {
        rows: predicate.filter_record_batch(&batch.rows)?,
        kinds: batch
            .kinds
            .as_ref()
            .map(|kinds| filter(kinds, mask))
            .transpose()?
            .map(|kinds| kinds.to_data().into()),
        timestamps: batch
            .timestamps
            .as_ref()
            .map(|timestamps| filter(timestamps, mask))
            .transpose()?
            .map(|timestamps| timestamps.to_data().into()),
        key_hashes: None,
        watermarks: batch.watermarks.iter().map(|cut| moved(*cut, mask)).collect(),
    })
}

/// A watermark stands behind as many rows as were kept before it.
fn moved(cut: WatermarkCut, mask: &BooleanArray) -> WatermarkCut {
    let before = mask.values().slice(0, cut.row as usize).count_set_bits();
    WatermarkCut {
        row: before as u32,
        ..cut
    }
}
