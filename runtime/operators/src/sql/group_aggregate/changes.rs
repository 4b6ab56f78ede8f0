//! From results before and after to the rows of a changelog.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int8Array, UInt32Array, make_comparator};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{SortOptions, interleave, take};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use thalweg_types::StreamBatch;
use thalweg_types::element::RowKind;

use super::super::output::record_batch;

/// What one round has done to its groups.
pub(crate) struct Round {
    /// A row of the batch that has the group's key.
    pub(crate) rows: Vec<u32>,
    pub(crate) was_there: Vec<bool>,
    pub(crate) is_there: Vec<bool>,
    pub(crate) before: Vec<ArrayRef>,
    pub(crate) after: Vec<ArrayRef>,
    /// Whether results are sent that have not changed.
    pub(crate) keeps_equal: bool,
}

/// One row of the changelog.
struct Change {
    /// That has the key; orders the changes.
    row: u32,
    kind: RowKind,
    /// Which arrays and which place in them.
    array: usize,
    place: usize,
}

/// The changes of all rounds of a batch.
#[derive(Default)]
pub(crate) struct Changes {
    changes: Vec<Change>,
    /// Results of the rounds: before and after in turn.
    results: Vec<Vec<ArrayRef>>,
}

impl Changes {
    /// Notes a round.
    pub(crate) fn add(&mut self, round: Round) -> Result<(), ArrowError> {
        let differs = round.differs()?;
        let (before, after) = (self.results.len(), self.results.len() + 1);
        for (place, row) in round.rows.iter().enumerate() {
            let mut change = |kind, array| {
                self.changes.push(Change {
                    row: *row,
                    kind,
                    array,
                    place,
                });
            };
            match (round.was_there[place], round.is_there[place]) {
                (false, true) => change(RowKind::Insert, after),
                (true, false) => change(RowKind::Delete, before),
                (true, true) if round.keeps_equal || differs[place] => {
                    change(RowKind::UpdateBefore, before);
                    change(RowKind::UpdateAfter, after);
                }
                _ => {}
            }
        }
        self.results.push(round.before);
        self.results.push(round.after);
        Ok(())
    }

    /// The changelog: keys, which are taken from the batch's columns, then results. Without `update_before` -U is left out.
    pub(crate) fn into_batch(
        mut self,
        keys: &[&ArrayRef],
        update_before: bool,
        schema: &SchemaRef,
    ) -> Result<StreamBatch, ArrowError> {
        if !update_before {
            self.changes.retain(|change| change.kind != RowKind::UpdateBefore);
        }
        if self.results.len() > 2 {
            self.changes.sort_by_key(|change| change.row);
        }
        let changes = &self.changes;
        let rows = UInt32Array::from_iter_values(changes.iter().map(|change| change.row));
        let mut columns = Vec::with_capacity(schema.fields().len());
        for key in keys {
            columns.push(take(key, &rows, None)?);
        }
        let places: Vec<(usize, usize)> = changes
            .iter()
            .map(|change| (change.array, change.place))
            .collect();
        let results = self.results.first().map_or(0, Vec::len);
        for column in 0..results {
            let arrays: Vec<&dyn Array> = self
                .results
                .iter()
                .map(|arrays| arrays[column].as_ref())
                .collect();
            columns.push(interleave(&arrays, &places)?);
        }
        if self.results.is_empty() {
            let fields = schema.fields().iter().skip(keys.len());
            columns.extend(fields.map(|field| arrow::array::new_empty_array(field.data_type())));
        }
        let is_insert_only = changes.iter().all(|change| change.kind == RowKind::Insert);
        let kinds = || Int8Array::from_iter_values(changes.iter().map(|change| change.kind as i8));
        Ok(StreamBatch {
            kinds: (!is_insert_only).then(kinds),
            ..StreamBatch::new(record_batch(schema, columns, changes.len())?)
        })
    }
}

impl Round {
    /// Whether each group's results before and after differ; only meant where it was and is there.
    fn differs(&self) -> Result<Vec<bool>, ArrowError> {
        let mut differs = vec![false; self.rows.len()];
        if self.keeps_equal || !self.was_there.contains(&true) {
            return Ok(differs);
        }
        for (before, after) in self.before.iter().zip(&self.after) {
            if Arc::ptr_eq(before, after) {
                continue;
            }
            mark_different(before, after, &mut differs)?;
        }
        Ok(differs)
    }
}

/// Marks the rows in which two columns differ; a null is equal to a null.
fn mark_different(before: &ArrayRef, after: &ArrayRef, differs: &mut [bool]) -> Result<(), ArrowError> {
    if before.data_type().is_nested() {
        let compare = make_comparator(before, after, SortOptions::default())?;
        for (row, differs) in differs.iter_mut().enumerate() {
            *differs |= compare(row, row).is_ne();
        }
        return Ok(());
    }
    let different: BooleanArray = distinct(before, after)?;
    for (differs, different) in differs.iter_mut().zip(different.values()) {
        *differs |= different;
    }
    Ok(())
}
