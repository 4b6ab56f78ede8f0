//! Top-N: the first rows of each key, by an order. Flink's AppendOnlyTopNFunction, UpdatableTopNFunction and RetractableTopNFunction.
//!
//! ```text
//!   row --its place among the key's rows--> inserted, removed or moved --> changes of the ranks start..=end
//! ```
//!
//! Row by row, as Flink: with a rank in the output or an offset each row behind the place moves; else one comes and one goes. Rows that are equal by
//! the order keep the order in which they came. If rows are only added, those behind the end are forgotten.
//!
//! State: the key's rows in order ([`super::row_by_row`]).

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use arrow::error::ArrowError;
use thalweg_plan::spec::{RankEnd, RankSpec, RankStrategy};
use thalweg_types::element::RowKind;

use super::SqlOperator;
use super::encoded::{Encoded, EncodedRows};
use super::output::is_retraction;
use super::row_by_row::{Changes, Row, RowByRow, RowByRowSpec, RowLogic};
use crate::{OperatorContext, OperatorError};

/// Which ranks are put out, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ranks {
    /// From 1.
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Whether a row that comes or goes moves those behind it; else one comes and one goes. Flink: if the rank is in the output, there is an
    /// offset, or one row is kept.
    pub(crate) shifts: bool,
    pub(crate) emit_update_before: bool,
}

impl Ranks {
    fn update(&self, before: &Encoded, after: &Encoded, rank: usize, changes: &mut Changes) {
        if rank < self.start || rank > self.end {
            return;
        }
        if self.emit_update_before {
            changes.push(before, rank, RowKind::UpdateBefore);
        }
        changes.push(after, rank, RowKind::UpdateAfter);
    }

    fn shown(&self, row: Option<&Encoded>, rank: usize, kind: RowKind, changes: &mut Changes) {
        if let Some(row) = row
            && (self.start..=self.end).contains(&rank)
        {
            changes.push(row, rank, kind);
        }
    }

    /// A row was put at `place` (from 0) of `rows`.
    pub(crate) fn inserted(&self, rows: &[Encoded], place: usize, changes: &mut Changes) {
        if place >= self.end {
            return;
        }
        if self.shifts {
            for rank in place + 1..=(rows.len() - 1).min(self.end) {
                self.update(&rows[rank], &rows[rank - 1], rank, changes);
            }
            if rows.len() <= self.end {
                self.shown(rows.last(), rows.len(), RowKind::Insert, changes);
            }
            return;
        }
        // The one that is pushed out is behind the end now.
        if let Some(out) = rows.get(self.end) {
            self.shown(Some(out), self.end, RowKind::Delete, changes);
        }
        self.shown(rows.get(place), place + 1, RowKind::Insert, changes);
    }

    /// `row` was taken from `place` of what is `rows` now.
    pub(crate) fn removed(&self, rows: &[Encoded], row: &Encoded, place: usize, changes: &mut Changes) {
        if place >= self.end {
            return;
        }
        if self.shifts {
            for rank in place + 1..=rows.len().min(self.end) {
                let before = if rank == place + 1 { row } else { &rows[rank - 2] };
                self.update(before, &rows[rank - 1], rank, changes);
            }
            let count = rows.len() + 1;
            if count <= self.end {
                let last = if count == place + 1 {
                    Some(row)
                } else {
                    rows.last()
                };
                self.shown(last, count, RowKind::Delete, changes);
            }
            return;
        }
        self.shown(Some(row), place + 1, RowKind::Delete, changes);
        self.shown(rows.get(self.end - 1), self.end, RowKind::Insert, changes);
    }

    /// `before` at `from` became the row that is at `to` of `rows` now.
    fn moved(&self, rows: &[Encoded], before: &Encoded, from: usize, to: usize, changes: &mut Changes) {
        if self.shifts {
            // What stood at a place before: the rows between have moved by one.
            let old = |place: usize| match place {
                place if place == from => before,
                place if to < from && place > to && place < from + 1 => &rows[place + 1],
                place if to < from && place == to => &rows[place + 1],
                place if to > from && place > from && place <= to => &rows[place - 1],
                place => &rows[place],
            };
            let moved = rows.iter().enumerate().take(from.max(to) + 1).skip(from.min(to));
            for (place, row) in moved {
                self.update(old(place), row, place + 1, changes);
            }
            return;
        }
        let inside = |place: usize| (self.start..=self.end).contains(&(place + 1));
        match (inside(from), inside(to)) {
            (true, true) => self.update(before, &rows[to], to + 1, changes),
            (true, false) => {
                changes.push(before, from + 1, RowKind::Delete);
                self.shown(rows.get(self.end - 1), self.end, RowKind::Insert, changes);
            }
            (false, true) => {
                self.shown(rows.get(self.end), self.end, RowKind::Delete, changes);
                changes.push(&rows[to], to + 1, RowKind::Insert);
            }
            (false, false) => {}
        }
    }
}

/// [`thalweg_plan::NodeSpec::Rank`] and [`thalweg_plan::NodeSpec::SortLimit`].
pub(crate) type Rank = RowByRow<RankLogic>;

/// What a Top-N does with a row.
pub(crate) struct RankLogic {
    ranks: Ranks,
    /// The column with the last rank, and its values in the batch.
    end: Option<(usize, Int64Array)>,
    strategy: RankStrategy,
    /// Whether a row takes the place of the one with the same identity.
    updates: bool,
}

impl Rank {
    /// The first rows as they come, of an input that only adds rows.
    pub(crate) fn first_rows(
        offset: u64,
        fetch: Option<u64>,
        operator: &SqlOperator<'_>,
        context: OperatorContext,
    ) -> Result<Self, OperatorError> {
        let spec = RankSpec {
            partition: Vec::new(),
            order: Vec::new(),
            start: offset.saturating_add(1),
            end: RankEnd::Constant(fetch.map_or(u64::MAX, |fetch| offset.saturating_add(fetch))),
            with_rank: false,
            strategy: RankStrategy::AppendFast,
            emit_update_before: false,
            state_ttl_ms: 0,
        };
        Self::new(&spec, operator, context)
    }

    /// A Top-N of one input.
    pub(crate) fn new(
        spec: &RankSpec,
        operator: &SqlOperator<'_>,
        context: OperatorContext,
    ) -> Result<Self, OperatorError> {
        let (end, column) = match spec.end {
            RankEnd::Constant(end) => (usize::try_from(end).unwrap_or(usize::MAX), None),
            RankEnd::Column(column) => (usize::MAX, Some(column)),
        };
        let start = spec.start.max(1) as usize;
        // The only row changes if a better one comes, whichever it is: Flink's FastTop1Function.
        let ids: &[usize] = match &spec.strategy {
            RankStrategy::UpdateFast(columns) if (start, end) != (1, 1) => columns,
            _ => &[],
        };
        let logic = RankLogic {
            ranks: Ranks {
                start,
                end,
                shifts: spec.with_rank
                    || spec.start > 1
                    || (end == 1 && spec.strategy != RankStrategy::Retract),
                emit_update_before: spec.emit_update_before,
            },
            end: column.map(|column| (column, Int64Array::from(Vec::<i64>::new()))),
            strategy: spec.strategy.clone(),
            updates: !ids.is_empty(),
        };
        let keyed = RowByRowSpec {
            keys: &spec.partition,
            order: &spec.order,
            ids,
            state_ttl_ms: spec.state_ttl_ms,
            with_rank: spec.with_rank,
        };
        Self::with_logic(&keyed, logic, operator, context)
    }
}

impl RowLogic for RankLogic {
    fn begin(&mut self, columns: &[ArrayRef]) -> Result<(), ArrowError> {
        if let Some((column, ends)) = &mut self.end {
            *ends = cast(&columns[*column], &DataType::Int64)?
                .as_primitive::<Int64Type>()
                .clone();
        }
        Ok(())
    }

    fn apply(&self, row: &Row<'_>, rows: &mut EncodedRows, changes: &mut Changes) {
        let mut ranks = self.ranks;
        if let Some((_, ends)) = &self.end {
            let end = ends.is_valid(row.place).then(|| ends.value(row.place));
            ranks.end = usize::try_from(end.unwrap_or(0)).unwrap_or(0);
        }
        let key = row.batch.key(row.place);
        if is_retraction(row.kind) {
            if let Some(place) = found(rows.rows(row.slot), key, row.batch.row(row.place)) {
                let gone = rows.remove(row.slot, place);
                ranks.removed(rows.rows(row.slot), &gone, place, changes);
            }
            return;
        }
        if self.updates {
            let id = row.batch.id(row.place);
            if let Some(from) = rows.rows(row.slot).iter().position(|known| known.id() == id) {
                let (before, to) = replaced(row, rows, from);
                ranks.moved(rows.rows(row.slot), &before, from, to, changes);
                return;
            }
        }
        let place = place_of(rows.rows(row.slot), key);
        let forgets = self.strategy != RankStrategy::Retract && self.end.is_none();
        if forgets && place >= ranks.end {
            return;
        }
        rows.insert(row.slot, place, row.batch, row.place);
        ranks.inserted(rows.rows(row.slot), place, changes);
        if forgets {
            rows.truncate(row.slot, ranks.end);
        }
    }
}

/// Puts a row in place of the one at `from`: what that was, and where the new one is. With the same sort key it stays at its place among
/// its equals.
fn replaced(row: &Row<'_>, rows: &mut EncodedRows, from: usize) -> (Encoded, usize) {
    let key = row.batch.key(row.place);
    if rows.rows(row.slot)[from].key() == key {
        return (rows.replace(row.slot, from, row.batch, row.place), from);
    }
    let before = rows.remove(row.slot, from);
    let to = place_of(rows.rows(row.slot), key);
    rows.insert(row.slot, to, row.batch, row.place);
    (before, to)
}

/// Where a new row with this sort key goes: behind its equals.
fn place_of(rows: &[Encoded], key: &[u8]) -> usize {
    rows.partition_point(|other| other.key() <= key)
}

/// Where a row is: the first of those that are equal to it.
fn found(rows: &[Encoded], key: &[u8], row: &[u8]) -> Option<usize> {
    let first = rows.partition_point(|other| other.key() < key);
    let mut equal = rows[first..].iter().take_while(|other| other.key() == key);
    equal
        .position(|other| other.row() == row)
        .map(|place| first + place)
}

#[cfg(test)]
mod tests;
