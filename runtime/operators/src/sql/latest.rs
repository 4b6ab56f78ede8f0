//! One row of each key: deduplication, and completing the changes of an upsert stream.
//!
//! ```text
//!   batch --key--> slots --gather--> the rows before   +--> changes: places in (the rows before, the batch) --interleave--> batch
//!                  row by row, by place only ----------+--> each slot's last place --take, scatter--> the rows after
//! ```
//!
//! Flink's ProcTimeDeduplicate*, RowTimeDeduplicateFunction, and ProcTimeDeduplicateKeepLastRowFunction over changes (ChangelogNormalize).
//! A row that is equal to the one that is kept changes nothing, unless its coming keeps the state from expiring.
//!
//! State: "rows" by key: the columns that aren't the key's; of first rows none, only which keys there are.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int8Array, UInt32Array};
use arrow::compute::{interleave, take};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use thalweg_functions::EvaluationEnv;
use thalweg_plan::spec::DeduplicateSpec;
use thalweg_state::{
    ColumnHandle, KeyedState, OperatorSnapshot, RestoredState, Slot, SlotColumn, SnapshotRequest, StateTtl,
};
use thalweg_types::StreamBatch;
use thalweg_types::element::RowKind;

use super::SqlOperator;
use super::columns::Columns;
use super::encoded::{EncodedBatch, RowCodec};
use super::group_aggregate::{Uniques, global_hashes, global_key, key_fields};
use super::output::{Output, arrow_error, last_watermark, millis, record_batch};
use crate::keyed::{keyed_state, keys_of, state_error};
use crate::{Operator, OperatorContext, OperatorError, OutputLimit};

/// No row.
const NONE: u32 = u32::MAX;

/// Which row stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeps {
    First,
    Last,
    /// The one with the greatest time.
    Latest,
}

/// Changes of a batch. Places are those of rows before it, then of its own rows.
#[derive(Default)]
struct Changes {
    /// The row of the batch that makes the change.
    rows: Vec<u32>,
    /// The row that is put out.
    places: Vec<u32>,
    kinds: Vec<i8>,
}

impl Changes {
    fn clear(&mut self) {
        self.rows.clear();
        self.places.clear();
        self.kinds.clear();
    }

    fn push(&mut self, row: u32, place: u32, kind: RowKind) {
        self.rows.push(row);
        self.places.push(place);
        self.kinds.push(kind as i8);
    }
}

/// What a row is compared by with the one that is kept.
enum Comparison {
    /// Not at all.
    None,
    /// Whether they are equal: rows before and of the batch.
    Equal(Box<[EncodedBatch; 2]>),
    /// By place.
    Times(Vec<i64>),
}

/// [`thalweg_plan::NodeSpec::Deduplicate`], but for first rows by a rowtime ([`super::first_by_time`]), and
/// [`thalweg_plan::NodeSpec::ChangelogNormalize`].
pub(crate) struct Latest {
    context: OperatorContext,
    env: Arc<EvaluationEnv>,
    keys: Vec<usize>,
    /// The other columns, which are kept.
    kept: Vec<usize>,
    /// Of [`Keeps::Latest`].
    time: Option<usize>,
    keeps: Keeps,
    /// Says which rows are equal, where those change nothing.
    codec: Option<RowCodec>,
    emit_update_before: bool,
    emit_insert: bool,
    state: KeyedState,
    rows: ColumnHandle<Columns>,
    slots: Vec<Slot>,
    uniques: Uniques,
    /// By unique slot: the place of its row.
    current: Vec<u32>,
    changes: Changes,
    new_rows: Vec<u32>,
    schema: SchemaRef,
    output: Output,
}

impl Latest {
    /// Deduplication.
    pub(crate) fn deduplicate(
        spec: &DeduplicateSpec,
        operator: &SqlOperator<'_>,
        context: OperatorContext,
    ) -> Result<Self, OperatorError> {
        let keeps = match (spec.keep_last, spec.rowtime) {
            (false, _) => Keeps::First,
            (true, None) => Keeps::Last,
            (true, Some(_)) => Keeps::Latest,
        };
        let latest = Self::new(&spec.keys, keeps, spec.state_ttl_ms, operator, context)?;
        Ok(Self {
            time: spec.rowtime,
            emit_update_before: spec.emit_update_before,
            emit_insert: spec.emit_insert,
            ..latest
        })
    }

    /// An upsert stream with whole changes.
    pub(crate) fn normalize(
        keys: &[usize],
        emit_update_before: bool,
        state_ttl_ms: u64,
        operator: &SqlOperator<'_>,
        context: OperatorContext,
    ) -> Result<Self, OperatorError> {
        let latest = Self::new(keys, Keeps::Last, state_ttl_ms, operator, context)?;
        Ok(Self {
            emit_update_before,
            ..latest
        })
    }

    fn new(
        keys: &[usize],
        keeps: Keeps,
        state_ttl_ms: u64,
        operator: &SqlOperator<'_>,
        context: OperatorContext,
    ) -> Result<Self, OperatorError> {
        let input = &operator.inputs[0];
        let schema = input.to_arrow();
        let kept: Vec<usize> = match keeps {
            Keeps::First => Vec::new(),
            _ => others(keys, schema.fields().len()),
        };
        let ttl = (state_ttl_ms > 0).then(|| StateTtl::new(Duration::from_millis(state_ttl_ms)));
        let compares = keeps == Keeps::Last && ttl.is_none();
        let codec = compares.then(|| {
            let schema = schema.project(&kept)?;
            RowCodec::new(&Arc::new(schema), &[])
        });
        let mut state = keyed_state(&context, key_fields(input, keys))?;
        let rows = state
            .register_columns("rows", Columns::new(&schema, &kept), ttl)
            .map_err(|source| state_error(&context, source))?;
        Ok(Self {
            env: Arc::clone(&operator.env),
            keys: keys.to_vec(),
            kept,
            time: None,
            keeps,
            codec: codec
                .transpose()
                .map_err(|source| arrow_error(&context, source))?,
            emit_update_before: false,
            emit_insert: true,
            state,
            rows,
            slots: Vec::new(),
            uniques: Uniques::default(),
            current: Vec::new(),
            changes: Changes::default(),
            new_rows: Vec::new(),
            schema: operator.output.to_arrow(),
            output: Output::default(),
            context,
        })
    }

    fn find_slots(&mut self, batch: &StreamBatch) -> Result<(), OperatorError> {
        let global;
        let (columns, hashes) = match self.keys.is_empty() {
            true => {
                global = global_hashes(batch.num_rows());
                (vec![global_key(batch.num_rows())], &global)
            }
            false => keys_of(&self.context, batch, &self.keys)?,
        };
        let begun = self
            .state
            .begin_batch(&columns, hashes, (self.env.clock)(), &mut self.slots);
        begun.map_err(|source| state_error(&self.context, source))?;
        self.uniques.find(&self.slots);
        Ok(())
    }

    fn apply(&mut self, batch: &StreamBatch) -> Result<StreamBatch, ArrowError> {
        let before = self.before()?;
        let known = self.current.iter().filter(|place| **place != NONE).count();
        let own: Vec<ArrayRef> = self
            .kept
            .iter()
            .map(|column| Arc::clone(batch.rows.column(*column)))
            .collect();
        let comparison = self.comparison(&before, &own, known)?;
        let kinds = batch.kinds.as_ref().map(|kinds| kinds.values().as_ref());
        self.find_changes(batch.num_rows(), kinds, known as u32, &comparison);
        self.keep(&own, known as u32)?;
        self.changed(batch, &before, &own, known)
    }

    /// The kept columns of the rows that there are; their places.
    fn before(&mut self) -> Result<Vec<ArrayRef>, ArrowError> {
        let table = self.state.table(self.rows);
        table.read(self.uniques.slots());
        let mut there = Vec::new();
        self.current.clear();
        for slot in self.uniques.slots() {
            self.current.push(match table.has(*slot) {
                true => {
                    there.push(*slot);
                    there.len() as u32 - 1
                }
                false => NONE,
            });
        }
        table.peek().gather(&there)
    }

    fn comparison(
        &self,
        before: &[ArrayRef],
        own: &[ArrayRef],
        known: usize,
    ) -> Result<Comparison, ArrowError> {
        if let Some(codec) = self.codec.as_ref().filter(|_| !self.kept.is_empty()) {
            return Ok(Comparison::Equal(Box::new([
                codec.encode(before)?,
                codec.encode(own)?,
            ])));
        }
        let (Keeps::Latest, Some(time)) = (self.keeps, self.time) else {
            return Ok(Comparison::None);
        };
        let Some(column) = self.kept.iter().position(|column| *column == time) else {
            // The time is part of the key: all are equal.
            return Ok(Comparison::Times(vec![0; known + self.slots.len()]));
        };
        let (before, own) = (millis(&before[column])?, millis(&own[column])?);
        let times = before.iter().chain(&own);
        Ok(Comparison::Times(
            times.map(|time| time.unwrap_or(i64::MIN)).collect(),
        ))
    }

    /// Goes through the rows. `known`: how many rows before there are; places of the batch begin behind them.
    fn find_changes(&mut self, rows: usize, kinds: Option<&[i8]>, known: u32, comparison: &Comparison) {
        self.changes.clear();
        for (row, group) in (0..rows as u32).zip(self.uniques.groups()) {
            let kind = kinds.map_or(RowKind::Insert as i8, |kinds| kinds[row as usize]);
            let current = &mut self.current[*group as usize];
            if kind == RowKind::UpdateBefore as i8 {
                continue;
            }
            if kind == RowKind::Delete as i8 {
                let gone = std::mem::replace(current, NONE);
                if gone != NONE {
                    self.changes.push(row, gone, RowKind::Delete);
                }
                continue;
            }
            let new = known + row;
            if *current == NONE {
                let kind = match self.emit_insert {
                    true => RowKind::Insert,
                    false => RowKind::UpdateAfter,
                };
                self.changes.push(row, new, kind);
                *current = new;
                continue;
            }
            if self.keeps == Keeps::First || stays(comparison, *current, new, known) {
                continue;
            }
            if self.emit_update_before {
                self.changes.push(row, *current, RowKind::UpdateBefore);
            }
            self.changes.push(row, new, RowKind::UpdateAfter);
            *current = new;
        }
    }

    /// Stores each slot's row behind the batch, if it is another.
    fn keep(&mut self, own: &[ArrayRef], known: u32) -> Result<(), ArrowError> {
        let table = self.state.table(self.rows);
        let (mut written, mut rows, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for (slot, place) in self.uniques.slots().iter().zip(&self.current) {
            match *place {
                NONE if table.has(*slot) => gone.push(*slot),
                NONE => {}
                place if place >= known => {
                    written.push(*slot);
                    rows.push(place - known);
                }
                _ => {}
            }
        }
        let rows = UInt32Array::from(rows);
        let taken = own.iter().map(|column| take(column, &rows, None));
        let taken: Vec<ArrayRef> = taken.collect::<Result<_, _>>()?;
        table
            .write(&written, &mut self.new_rows)
            .scatter(&written, &taken)?;
        table.clear(&gone);
        Ok(())
    }

    /// The changes as rows. Those of a key have its columns in common, which are taken of the row that made the change.
    fn changed(
        &self,
        batch: &StreamBatch,
        before: &[ArrayRef],
        own: &[ArrayRef],
        known: usize,
    ) -> Result<StreamBatch, ArrowError> {
        let Changes { rows, places, kinds } = &self.changes;
        let count = rows.len();
        let rows = UInt32Array::from(rows.clone());
        let all_new = self.kept.is_empty() || places.iter().all(|place| *place as usize >= known);
        let from: Vec<(usize, usize)> = match all_new {
            true => Vec::new(),
            false => places
                .iter()
                .map(|place| match (*place as usize).checked_sub(known) {
                    None => (0, *place as usize),
                    Some(row) => (1, row),
                })
                .collect(),
        };
        let mut columns = Vec::with_capacity(batch.rows.num_columns());
        for (number, column) in batch.rows.columns().iter().enumerate() {
            columns.push(match self.kept.iter().position(|kept| *kept == number) {
                Some(kept) if !all_new => interleave(&[before[kept].as_ref(), own[kept].as_ref()], &from)?,
                Some(_) => {
                    let places = places.iter().map(|place| *place - known as u32);
                    take(column, &UInt32Array::from_iter_values(places), None)?
                }
                None => take(column, &rows, None)?,
            });
        }
        let inserts = kinds.iter().all(|kind| *kind == RowKind::Insert as i8);
        Ok(StreamBatch {
            kinds: (!inserts).then(|| Int8Array::from(kinds.clone())),
            ..StreamBatch::new(record_batch(&self.schema, columns, count)?)
        })
    }
}

/// The columns that are not among the first ones.
pub(crate) fn others(keys: &[usize], columns: usize) -> Vec<usize> {
    (0..columns).filter(|column| !keys.contains(column)).collect()
}

/// Whether the row that is kept stays.
#[inline]
fn stays(comparison: &Comparison, current: u32, new: u32, known: u32) -> bool {
    match comparison {
        Comparison::None => false,
        Comparison::Times(times) => times[new as usize] < times[current as usize],
        Comparison::Equal(both) => {
            let [before, own] = &**both;
            let new = own.row((new - known) as usize);
            new == match current.checked_sub(known) {
                None => before.row(current as usize),
                Some(row) => own.row(row as usize),
            }
        }
    }
}

impl Operator for Latest {
    fn push(&mut self, _input: usize, batch: StreamBatch) -> Result<(), OperatorError> {
        if batch.num_rows() > 0 {
            self.find_slots(&batch)?;
            let changed = self
                .apply(&batch)
                .map_err(|source| arrow_error(&self.context, source))?;
            self.output.push(changed);
            self.state
                .end_batch()
                .map_err(|source| state_error(&self.context, source))?;
        }
        if let Some(watermark) = last_watermark(&batch) {
            self.output.push_watermark(&self.schema, watermark);
        }
        Ok(())
    }

    fn poll_output(&mut self, limit: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        Ok(self.output.pop(limit))
    }

    fn restore(&mut self, state: &mut RestoredState) -> Result<(), OperatorError> {
        let restored = self.state.restore(state, (self.env.clock)());
        restored.map_err(|source| state_error(&self.context, source))
    }

    fn snapshot(&mut self, request: SnapshotRequest) -> Result<OperatorSnapshot, OperatorError> {
        let tables = self.state.snapshot(request);
        Ok(OperatorSnapshot {
            tables: tables.map_err(|source| state_error(&self.context, source))?,
            lists: Vec::new(),
        })
    }

    fn state_bytes(&self) -> usize {
        self.state.memory_size()
    }
}

#[cfg(test)]
mod tests;
