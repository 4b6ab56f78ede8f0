//! One row of each key: deduplication, and completing the changes of an upsert stream.
//!
//! Flink's ProcTimeDeduplicate*, RowTimeDeduplicateFunction, and ProcTimeDeduplicateKeepLastRowFunction over changes (ChangelogNormalize).
//! A row that is equal to the one that is kept changes nothing, unless its coming keeps the state from expiring.

use arrow::error::ArrowError;
use thalweg_plan::spec::{DeduplicateSpec, SortKey};
use thalweg_types::element::RowKind;

use super::SqlOperator;
use super::encoded::EncodedRows;
use super::output::is_retraction;
use super::row_by_row::{Changes, Row, RowByRow, RowByRowSpec, RowLogic};
use crate::{OperatorContext, OperatorError};

/// [`thalweg_plan::NodeSpec::Deduplicate`] and [`thalweg_plan::NodeSpec::ChangelogNormalize`].
pub(crate) type Latest = RowByRow<LatestLogic>;

/// Which row stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeps {
    First,
    Last,
    Earliest,
    Latest,
}

/// What happens to a row.
pub(crate) struct LatestLogic {
    keeps: Keeps,
    emit_update_before: bool,
    emit_insert: bool,
    has_ttl: bool,
}

impl Latest {
    /// Deduplication.
    pub(crate) fn deduplicate(
        spec: &DeduplicateSpec,
        operator: &SqlOperator<'_>,
        context: OperatorContext,
    ) -> Result<Self, OperatorError> {
        let by_time = spec.rowtime.map(|column| SortKey {
            column,
            descending: false,
            nulls_first: true,
        });
        let logic = LatestLogic {
            keeps: match (spec.rowtime, spec.keep_last) {
                (None, false) => Keeps::First,
                (None, true) => Keeps::Last,
                (Some(_), false) => Keeps::Earliest,
                (Some(_), true) => Keeps::Latest,
            },
            emit_update_before: spec.emit_update_before,
            emit_insert: spec.emit_insert,
            has_ttl: spec.state_ttl_ms > 0,
        };
        let keyed = RowByRowSpec {
            keys: &spec.keys,
            order: by_time.as_slice(),
            state_ttl_ms: spec.state_ttl_ms,
            with_rank: false,
        };
        Self::with_logic(&keyed, logic, operator, context)
    }

    /// An upsert stream with whole changes.
    pub(crate) fn normalize(
        keys: &[usize],
        emit_update_before: bool,
        state_ttl_ms: u64,
        operator: &SqlOperator<'_>,
        context: OperatorContext,
    ) -> Result<Self, OperatorError> {
        let logic = LatestLogic {
            keeps: Keeps::Last,
            emit_update_before,
            emit_insert: true,
            has_ttl: state_ttl_ms > 0,
        };
        let keyed = RowByRowSpec {
            keys,
            order: &[],
            state_ttl_ms,
            with_rank: false,
        };
        Self::with_logic(&keyed, logic, operator, context)
    }
}

impl RowLogic for LatestLogic {
    fn apply(&self, row: &Row<'_>, rows: &mut EncodedRows, changes: &mut Changes) -> Result<(), ArrowError> {
        let known = rows.rows(row.slot).first();
        if row.kind == RowKind::UpdateBefore as i8 {
            return Ok(());
        }
        if is_retraction(row.kind) {
            if known.is_some() {
                let gone = rows.remove(row.slot, 0);
                changes.push(&gone, 0, RowKind::Delete);
            }
            return Ok(());
        }
        let Some(known) = known else {
            let new = row.batch.get(row.place);
            let kind = if self.emit_insert {
                RowKind::Insert
            } else {
                RowKind::UpdateAfter
            };
            changes.push(&new, 0, kind);
            rows.insert(row.slot, 0, new);
            return Ok(());
        };
        let key = row.batch.key(row.place);
        let stays = match self.keeps {
            Keeps::First => true,
            Keeps::Last => !self.has_ttl && *known.row == *row.batch.row(row.place),
            Keeps::Earliest => *key >= *known.key,
            Keeps::Latest => *key < *known.key,
        };
        if stays {
            return Ok(());
        }
        let new = row.batch.get(row.place);
        let before = rows.remove(row.slot, 0);
        if self.emit_update_before {
            changes.push(&before, 0, RowKind::UpdateBefore);
        }
        changes.push(&new, 0, RowKind::UpdateAfter);
        rows.insert(row.slot, 0, new);
        Ok(())
    }
}
