//! Updates of a sink's key in order, where they may have overtaken one another. Flink's SinkUpsertMaterializer.
//!
//! The rows of a key that were added and not taken back are kept in the order of their coming; the last one is what the sink has.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::error::ArrowError;
use thalweg_types::element::RowKind;

use super::SqlOperator;
use super::encoded::{EncodedBatch, EncodedRows, RowCodec};
use super::output::{arrow_error, is_retraction};
use super::row_by_row::{Changes, Row, RowByRow, RowByRowSpec, RowLogic};
use crate::{OperatorContext, OperatorError};

/// [`thalweg_plan::NodeSpec::SinkMaterializer`].
pub(crate) type SinkMaterializer = RowByRow<MaterializerLogic>;

/// What happens to a row.
pub(crate) struct MaterializerLogic {
    upsert_key: Option<UpsertKey>,
}

/// What identifies the input's rows, if not all columns do.
struct UpsertKey {
    columns: Vec<usize>,
    codec: RowCodec,
    /// Of the batch.
    keys: Option<EncodedBatch>,
}

impl SinkMaterializer {
    /// By the sink's key.
    pub(crate) fn new(
        primary_key: &[usize],
        input_upsert_key: Option<&[usize]>,
        state_ttl_ms: u64,
        operator: &SqlOperator<'_>,
        context: OperatorContext,
    ) -> Result<Self, OperatorError> {
        let upsert_key = input_upsert_key.map(|columns| {
            let schema = operator.inputs[0].to_arrow().project(columns)?;
            Ok(UpsertKey {
                columns: columns.to_vec(),
                codec: RowCodec::new(&Arc::new(schema), &[])?,
                keys: None,
            })
        });
        let upsert_key = upsert_key
            .transpose()
            .map_err(|source| arrow_error(&context, source))?;
        let keyed = RowByRowSpec {
            keys: primary_key,
            order: &[],
            state_ttl_ms,
            with_rank: false,
        };
        Self::with_logic(&keyed, MaterializerLogic { upsert_key }, operator, context)
    }
}

impl MaterializerLogic {
    /// The place of the row that this one is a change of.
    fn find(&self, row: &Row<'_>, rows: &EncodedRows) -> Result<Option<usize>, ArrowError> {
        let known = rows.rows(row.slot);
        let Some(UpsertKey {
            columns,
            codec,
            keys: Some(keys),
        }) = &self.upsert_key
        else {
            return Ok(known
                .iter()
                .position(|known| *known.row == *row.batch.row(row.place)));
        };
        if known.is_empty() {
            return Ok(None);
        }
        let decoded = rows.codec.decode(known.iter().map(|known| &known.row))?;
        let decoded: Vec<ArrayRef> = columns
            .iter()
            .map(|column| Arc::clone(&decoded[*column]))
            .collect();
        let known_keys = codec.encode(&decoded)?;
        Ok((0..known.len()).find(|place| known_keys.row(*place) == keys.row(row.place)))
    }
}

impl RowLogic for MaterializerLogic {
    fn begin(&mut self, columns: &[ArrayRef]) -> Result<(), ArrowError> {
        if let Some(key) = &mut self.upsert_key {
            let columns: Vec<ArrayRef> = key
                .columns
                .iter()
                .map(|column| Arc::clone(&columns[*column]))
                .collect();
            key.keys = Some(key.codec.encode(&columns)?);
        }
        Ok(())
    }

    fn apply(&self, row: &Row<'_>, rows: &mut EncodedRows, changes: &mut Changes) -> Result<(), ArrowError> {
        if is_retraction(row.kind) {
            let Some(place) = self.find(row, rows)? else {
                return Ok(());
            };
            let was_last = place + 1 == rows.rows(row.slot).len();
            let gone = rows.remove(row.slot, place);
            match rows.rows(row.slot).last() {
                None => changes.push(&gone, 0, RowKind::Delete),
                Some(last) if was_last => changes.push(last, 0, RowKind::UpdateAfter),
                Some(_) => {}
            }
            return Ok(());
        }
        let new = row.batch.get(row.place);
        let is_first = rows.rows(row.slot).is_empty();
        changes.push(
            &new,
            0,
            if is_first {
                RowKind::Insert
            } else {
                RowKind::UpdateAfter
            },
        );
        if self.upsert_key.is_some()
            && let Some(place) = self.find(row, rows)?
        {
            rows.remove(row.slot, place);
            rows.insert(row.slot, place, new);
            return Ok(());
        }
        let place = rows.rows(row.slot).len();
        rows.insert(row.slot, place, new);
        Ok(())
    }
}
