//! What a join puts out for rows and their matches: Flink's JoinHelper and StreamingSemiAntiJoinOperator, in their order.
//!
//! ```text
//!   added row:      its row with nulls, if it has no partner | -D of partners' rows with nulls, then the pairs
//!   row taken back: the same with -D                         | the pairs, then +I of partners' rows with nulls
//! ```

use thalweg_plan::spec::JoinKind;
use thalweg_types::element::RowKind;

use crate::sql::output::is_retraction;
use crate::sql::rows::{NONE, RowStore};

/// Matches of some rows: row of the batch, entry of the other side; sorted by row.
pub(super) struct Matches {
    pub(super) rows: Vec<u32>,
    pub(super) entries: Vec<u32>,
}

/// What is put out, in order: a row of the batch and an entry of the other side, or one of them.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) rows: Vec<u32>,
    pub(super) entries: Vec<u32>,
    pub(super) kinds: Vec<i8>,
}

impl Changes {
    fn push(&mut self, row: u32, entry: u32, kind: i8) {
        self.rows.push(row);
        self.entries.push(entry);
        self.kinds.push(kind);
    }

    /// Pairs alone, with the kinds of the batch's rows. `first`: the row that `kinds` begins with.
    pub(super) fn inner(first: usize, kinds: &[i8], matches: Matches) -> Self {
        let kinds = matches.rows.iter().map(|row| kinds[*row as usize - first]);
        Self {
            kinds: kinds.collect(),
            rows: matches.rows,
            entries: matches.entries,
        }
    }

    /// Of rows of a side that is outer or not. `other`: the other side, if that is outer; its partners are counted.
    pub(super) fn outer(
        first: usize,
        kinds: &[i8],
        matches: &Matches,
        is_outer: bool,
        mut other: Option<&mut RowStore>,
    ) -> Self {
        let mut changes = Self::default();
        let mut next = 0;
        for (place, kind) in kinds.iter().enumerate() {
            let row = (first + place) as u32;
            let begin = next;
            while matches.rows.get(next) == Some(&row) {
                next += 1;
            }
            let entries = &matches.entries[begin..next];
            let added = !is_retraction(*kind);
            let shown = match added {
                true if is_outer || other.is_some() => RowKind::Insert as i8,
                false if is_outer => RowKind::Delete as i8,
                _ => *kind,
            };
            if entries.is_empty() && is_outer {
                changes.push(row, NONE, shown);
            }
            if let Some(other) = other.as_mut().filter(|_| added) {
                changes.lonely(other, entries, 1);
            }
            entries.iter().for_each(|entry| changes.push(row, *entry, shown));
            if let Some(other) = other.as_mut().filter(|_| !added) {
                changes.lonely(other, entries, -1);
            }
        }
        changes
    }

    /// Rows of the other side that got their first partner are gone with nulls; those that lost their last one are there. A row that is
    /// there several times is among `entries` as often and has its partners counted once.
    fn lonely(&mut self, other: &mut RowStore, entries: &[u32], sign: i8) {
        for same in entries.chunk_by(|a, b| a == b) {
            let partners = other.partners(same[0]);
            let had = *partners;
            *partners = match sign {
                1.. => had + 1,
                _ => had.saturating_sub(1),
            };
            let kind = match (had, *partners) {
                (0, 1..) => RowKind::Delete,
                (1.., 0) => RowKind::Insert,
                _ => continue,
            };
            same.iter().for_each(|entry| self.push(NONE, *entry, kind as i8));
        }
    }

    /// Left rows of SEMI and ANTI: shown or not.
    pub(super) fn left_of_half(kind: JoinKind, first: usize, kinds: &[i8], partners: &[u32]) -> Self {
        let mut changes = Self::default();
        for (place, (row_kind, partners)) in kinds.iter().zip(partners).enumerate() {
            if (*partners > 0) == (kind == JoinKind::Semi) {
                changes.push((first + place) as u32, NONE, *row_kind);
            }
        }
        changes
    }

    /// Right rows of SEMI and ANTI: left ones get their first partner, or lose their last.
    pub(super) fn right_of_half(
        kind: JoinKind,
        first: usize,
        kinds: &[i8],
        matches: &Matches,
        left: &mut RowStore,
    ) -> Self {
        let mut changes = Self::default();
        let mut before = (NONE, NONE);
        for (row, entry) in matches.rows.iter().zip(&matches.entries) {
            if before == (*row, *entry) {
                continue;
            }
            before = (*row, *entry);
            let row_kind = kinds[*row as usize - first];
            let added = !is_retraction(row_kind);
            let times = left.count(*entry);
            let partners = left.partners(*entry);
            let had = *partners;
            *partners = if added { had + 1 } else { had.saturating_sub(1) };
            if (had == 0) != (*partners == 0) {
                let kind = match (kind, added) {
                    (JoinKind::Semi, _) => row_kind,
                    (_, true) => RowKind::Delete as i8,
                    (_, false) => RowKind::Insert as i8,
                };
                (0..times).for_each(|_| changes.push(NONE, *entry, kind));
            }
        }
        changes
    }
}
