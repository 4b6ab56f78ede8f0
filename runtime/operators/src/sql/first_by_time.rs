//! The first row of each key by a rowtime. Flink's RowTimeDeduplicateKeepFirstRowFunction.
//!
//! ```text
//!   rows --key--> the earliest waits; of equal ones the first that came --watermark reaches its time--> +I, and the key is done
//! ```
//!
//! A row behind the watermark is late, and dropped and counted; one of a key that is done is ignored. State: "waiting" by key: the columns
//! that aren't the key's, and `$time`; "done": which keys are, with time-to-live, which rows that wait don't have. List "watermark".

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, SchemaRef};
use arrow::error::ArrowError;
use thalweg_functions::EvaluationEnv;
use thalweg_plan::spec::DeduplicateSpec;
use thalweg_state::{
    ColumnHandle, KeyedState, OperatorSnapshot, RestoredState, Slot, SlotColumn, SnapshotRequest, StateTtl,
    TimeDomain, Timer,
};
use thalweg_types::StreamBatch;

use super::SqlOperator;
use super::columns::Columns;
use super::group_aggregate::{Uniques, global_hashes, global_key, key_fields};
use super::latest::others;
use super::output::{Output, arrow_error, millis, record_batch, restored_watermark, watermark_list};
use crate::keyed::{keyed_state, keys_of, state_error};
use crate::{Operator, OperatorContext, OperatorError, OutputLimit};

/// Keys worked off at a time.
const KEYS_AT_A_TIME: usize = 4096;
/// No row.
const NONE: u32 = u32::MAX;

/// Rows that wait, by slot, and their times.
struct Waiting {
    columns: Columns,
    times: Vec<i64>,
}

impl SlotColumn for Waiting {
    fn fields(&self) -> Vec<FieldRef> {
        let mut fields = self.columns.fields();
        fields.push(Arc::new(Field::new("$time", DataType::Int64, false)));
        fields
    }

    fn resize(&mut self, count: usize) {
        self.columns.resize(count);
        self.times.resize(count.max(self.times.len()), i64::MAX);
    }

    fn gather(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, ArrowError> {
        let mut columns = self.columns.gather(slots)?;
        let times = slots.iter().map(|slot| self.times[*slot as usize]);
        columns.push(Arc::new(Int64Array::from_iter_values(times)));
        Ok(columns)
    }

    fn scatter(&mut self, slots: &[Slot], columns: &[ArrayRef]) -> Result<(), ArrowError> {
        let wrong = || ArrowError::InvalidArgumentError("rows that wait have no times".to_owned());
        let (times, columns) = columns.split_last().ok_or_else(wrong)?;
        let times = times.as_primitive_opt::<Int64Type>().ok_or_else(wrong)?;
        for (slot, time) in slots.iter().zip(times.values()) {
            self.times[*slot as usize] = *time;
        }
        self.columns.scatter(slots, columns)
    }

    fn clear(&mut self, slots: &[Slot]) {
        self.columns.clear(slots);
        for slot in slots {
            self.times[*slot as usize] = i64::MAX;
        }
    }

    fn memory_size(&self) -> usize {
        self.columns.memory_size() + self.times.capacity() * size_of::<i64>()
    }

    fn cleared_bytes(&self) -> usize {
        self.columns.cleared_bytes()
    }

    fn give_back(&mut self) -> Result<(), ArrowError> {
        self.columns.give_back()
    }
}

/// [`thalweg_plan::NodeSpec::Deduplicate`] of first rows by a rowtime.
pub struct FirstByTime {
    context: OperatorContext,
    env: Arc<EvaluationEnv>,
    keys: Vec<usize>,
    kept: Vec<usize>,
    time: usize,
    state: KeyedState,
    waiting: ColumnHandle<Waiting>,
    done: ColumnHandle<Columns>,
    pending: Option<StreamBatch>,
    watermark: i64,
    firing: bool,
    late_rows: u64,
    slots: Vec<Slot>,
    uniques: Uniques,
    /// By unique slot: the row of the batch that waits for it now.
    chosen: Vec<u32>,
    timers: Vec<Timer>,
    new_rows: Vec<u32>,
    schema: SchemaRef,
    output: Output,
}

impl FirstByTime {
    /// Of an input that only adds rows.
    pub fn new(
        spec: &DeduplicateSpec,
        time: usize,
        operator: &SqlOperator<'_>,
        context: OperatorContext,
    ) -> Result<Self, OperatorError> {
        let input = &operator.inputs[0];
        let schema = input.to_arrow();
        let kept = others(&spec.keys, schema.fields().len());
        let ttl = (spec.state_ttl_ms > 0).then(|| StateTtl::new(Duration::from_millis(spec.state_ttl_ms)));
        let mut state = keyed_state(&context, key_fields(input, &spec.keys))?;
        let waiting = Waiting {
            columns: Columns::new(&schema, &kept),
            times: Vec::new(),
        };
        let waiting = state
            .register_columns("waiting", waiting, None)
            .map_err(|source| state_error(&context, source))?;
        let done = state
            .register_columns("done", Columns::new(&schema, &[]), ttl)
            .map_err(|source| state_error(&context, source))?;
        Ok(Self {
            env: Arc::clone(&operator.env),
            keys: spec.keys.clone(),
            kept,
            time,
            state,
            waiting,
            done,
            pending: None,
            watermark: i64::MIN,
            firing: false,
            late_rows: 0,
            slots: Vec::new(),
            uniques: Uniques::default(),
            chosen: Vec::new(),
            timers: Vec::new(),
            new_rows: Vec::new(),
            schema: operator.output.to_arrow(),
            output: Output::default(),
            context,
        })
    }

    /// How many rows were dropped because the watermark had passed them.
    pub fn late_rows(&self) -> u64 {
        self.late_rows
    }

    fn keep(&mut self, batch: &StreamBatch) -> Result<(), OperatorError> {
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
        let kept = self.keep_earliest(batch);
        kept.map_err(|source| arrow_error(&self.context, source))?;
        self.state
            .end_batch()
            .map_err(|source| state_error(&self.context, source))
    }

    fn keep_earliest(&mut self, batch: &StreamBatch) -> Result<(), ArrowError> {
        let times = millis(batch.rows.column(self.time))?;
        self.choose(&times);
        let (mut slots, mut rows) = (Vec::new(), Vec::new());
        let timers = self.timers_of_waiting();
        for (slot, row) in self.uniques.slots().iter().zip(&self.chosen) {
            if *row != NONE {
                slots.push(*slot);
                rows.push(*row);
            }
        }
        for timer in timers {
            self.state.timers().delete(TimeDomain::Event, timer);
        }
        let rows = UInt32Array::from(rows);
        let taken = self
            .kept
            .iter()
            .map(|column| take(batch.rows.column(*column), &rows, None));
        let mut taken: Vec<ArrayRef> = taken.collect::<Result<_, _>>()?;
        let taken_times = rows.values().iter().map(|row| times.value(*row as usize));
        let taken_times = Int64Array::from_iter_values(taken_times);
        taken.push(Arc::new(taken_times.clone()));
        let table = self.state.table(self.waiting);
        table.write(&slots, &mut self.new_rows).scatter(&slots, &taken)?;
        let timers = self.state.timers();
        for (slot, time) in slots.iter().zip(taken_times.values()) {
            timers.register(TimeDomain::Event, timer_of(*slot, *time));
        }
        Ok(())
    }

    /// Each slot's row that takes the place of the one that waits.
    fn choose(&mut self, times: &Int64Array) {
        let done = self.state.table(self.done);
        done.read(self.uniques.slots());
        let done: Vec<bool> = self.uniques.slots().iter().map(|slot| done.has(*slot)).collect();
        let waiting = &self.state.peek(self.waiting).peek().times;
        let earliest = self.uniques.slots().iter().map(|slot| waiting[*slot as usize]);
        let mut earliest: Vec<Option<i64>> =
            earliest.map(|time| (time != i64::MAX).then_some(time)).collect();
        self.chosen.clear();
        self.chosen.resize(done.len(), NONE);
        for (row, group) in self.uniques.groups().iter().enumerate() {
            let group = *group as usize;
            if times.is_null(row) || times.value(row) < self.watermark {
                self.late_rows += 1;
            } else if !done[group] && earliest[group].is_none_or(|known| times.value(row) < known) {
                earliest[group] = Some(times.value(row));
                self.chosen[group] = row as u32;
            }
        }
    }

    /// The timers of rows that no longer wait.
    fn timers_of_waiting(&self) -> Vec<Timer> {
        let table = self.state.peek(self.waiting);
        let times = &table.peek().times;
        let replaced = self.uniques.slots().iter().zip(&self.chosen);
        let replaced = replaced.filter(|(slot, row)| **row != NONE && table.has(**slot));
        replaced
            .map(|(slot, _)| timer_of(*slot, times[*slot as usize]))
            .collect()
    }

    /// Puts out the rows of the next time that the watermark has reached; whether there were some.
    fn fire(&mut self) -> Result<bool, OperatorError> {
        self.state.advance_clock((self.env.clock)());
        let mut timers = std::mem::take(&mut self.timers);
        let popped = self
            .state
            .pop_timers(TimeDomain::Event, self.watermark, KEYS_AT_A_TIME, &mut timers);
        popped.map_err(|source| state_error(&self.context, source))?;
        let slots: Vec<Slot> = timers.iter().map(|timer| timer.slot).collect();
        if !slots.is_empty() {
            let columns = self.columns(&slots)?;
            let rows = record_batch(&self.schema, columns, slots.len())
                .map_err(|source| arrow_error(&self.context, source))?;
            self.output.push(StreamBatch::new(rows));
            self.state.table(self.done).write(&slots, &mut self.new_rows);
            self.state.table(self.waiting).clear(&slots);
        }
        self.timers = timers;
        self.state
            .end_batch()
            .map_err(|source| state_error(&self.context, source))?;
        Ok(!slots.is_empty())
    }

    /// The rows that wait, whole.
    fn columns(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, OperatorError> {
        let keys = self.state.keys(slots);
        let keys = keys.map_err(|source| state_error(&self.context, source))?;
        let kept = self.state.peek(self.waiting).peek().columns.gather(slots);
        let kept = kept.map_err(|source| arrow_error(&self.context, source))?;
        let mut columns: Vec<Option<ArrayRef>> = vec![None; self.keys.len() + kept.len()];
        for (place, column) in self.keys.iter().zip(keys).chain(self.kept.iter().zip(kept)) {
            columns[*place] = Some(column);
        }
        Ok(columns.into_iter().flatten().collect())
    }

    /// The rows up to the batch's next watermark, then that watermark.
    fn advance(&mut self, mut batch: StreamBatch) -> Result<(), OperatorError> {
        let cut = batch.watermarks.first().copied();
        let end = cut.map_or(batch.num_rows(), |cut| cut.row as usize);
        if end > 0 {
            self.keep(&batch.slice(0, end))?;
        }
        if let Some(cut) = cut {
            self.watermark = self.watermark.max(cut.timestamp_ms);
            self.firing = true;
            let rest = batch.slice(end, batch.num_rows() - end);
            let watermarks = batch.watermarks.drain(1..).map(|mut cut| {
                cut.row -= end as u32;
                cut
            });
            let watermarks = watermarks.collect();
            self.pending = Some(StreamBatch { watermarks, ..rest });
        }
        Ok(())
    }
}

fn timer_of(slot: Slot, time: i64) -> Timer {
    Timer {
        time,
        slot,
        window: None,
    }
}

impl Operator for FirstByTime {
    fn push(&mut self, _input: usize, batch: StreamBatch) -> Result<(), OperatorError> {
        self.pending = Some(batch);
        Ok(())
    }

    fn poll_output(&mut self, limit: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        while self.output.is_empty() {
            if self.firing {
                if !self.fire()? {
                    self.firing = false;
                    self.output.push_watermark(&self.schema, self.watermark);
                }
            } else if let Some(batch) = self.pending.take() {
                self.advance(batch)?;
            } else {
                break;
            }
        }
        Ok(self.output.pop(limit))
    }

    fn restore(&mut self, state: &mut RestoredState) -> Result<(), OperatorError> {
        self.watermark = restored_watermark(state);
        let restored = self.state.restore(state, (self.env.clock)());
        restored.map_err(|source| state_error(&self.context, source))
    }

    fn snapshot(&mut self, request: SnapshotRequest) -> Result<OperatorSnapshot, OperatorError> {
        let tables = self.state.snapshot(request);
        Ok(OperatorSnapshot {
            tables: tables.map_err(|source| state_error(&self.context, source))?,
            lists: vec![watermark_list(self.watermark)],
        })
    }

    fn state_bytes(&self) -> usize {
        self.state.memory_size()
    }
}

#[cfg(test)]
mod tests;
