//! Updates of a sink's key in order, where they may have overtaken one another. Flink's SinkUpsertMaterializer.
//!
//! The rows of a key that were added and not taken back are kept in the order of their coming; the last one is what the sink has.

use thalweg_types::element::RowKind;

use super::SqlOperator;
use super::encoded::EncodedRows;
use super::output::is_retraction;
use super::row_by_row::{Changes, Row, RowByRow, RowByRowSpec, RowLogic};
use crate::{OperatorContext, OperatorError};

/// [`thalweg_plan::NodeSpec::SinkMaterializer`].
pub(crate) type SinkMaterializer = RowByRow<MaterializerLogic>;

/// What happens to a row.
pub(crate) struct MaterializerLogic {
    /// Whether the input's rows are identified by less than all columns.
    has_key: bool,
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
        let keyed = RowByRowSpec {
            keys: primary_key,
            order: &[],
            ids: input_upsert_key.unwrap_or_default(),
            state_ttl_ms,
            with_rank: false,
        };
        let logic = MaterializerLogic {
            has_key: input_upsert_key.is_some(),
        };
        Self::with_logic(&keyed, logic, operator, context)
    }
}

impl MaterializerLogic {
    /// The place of the row that this one is a change of.
    fn find(&self, row: &Row<'_>, rows: &EncodedRows) -> Option<usize> {
        let mut known = rows.rows(row.slot).iter();
        match self.has_key {
            true => known.position(|known| known.id() == row.batch.id(row.place)),
            false => known.position(|known| known.row() == row.batch.row(row.place)),
        }
    }
}

impl RowLogic for MaterializerLogic {
    fn apply(&self, row: &Row<'_>, rows: &mut EncodedRows, changes: &mut Changes) {
        let place = match self.has_key || is_retraction(row.kind) {
            true => self.find(row, rows),
            false => None,
        };
        if is_retraction(row.kind) {
            let Some(place) = place else {
                return;
            };
            let was_last = place + 1 == rows.rows(row.slot).len();
            rows.remove(row.slot, place);
            match rows.rows(row.slot).last() {
                None => changes.push_new(row, RowKind::Delete),
                Some(last) if was_last => changes.push(last, 0, RowKind::UpdateAfter),
                Some(_) => {}
            }
            return;
        }
        let count = rows.rows(row.slot).len();
        let kind = match count {
            0 => RowKind::Insert,
            _ => RowKind::UpdateAfter,
        };
        let place = match place {
            Some(place) => {
                rows.replace(row.slot, place, row.batch, row.place);
                place
            }
            None => {
                rows.insert(row.slot, count, row.batch, row.place);
                count
            }
        };
        changes.push(&rows.rows(row.slot)[place], 0, kind);
    }
}

#[cfg(test)]
mod tests;
