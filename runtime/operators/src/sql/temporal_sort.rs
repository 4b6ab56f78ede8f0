//! ORDER BY a time attribute, then others. Flink's RowTimeSortOperator.
//!
//! ```text
//!   rows --> kept in order --watermark passes their time--> put out
//! ```
//!
//! A row is late, and dropped and counted, if it isn't behind the time of the last rows that were put out; one behind the watermark alone
//! comes with the next. State: "rows" of the one key, in order ([`super::encoded`]). List "watermark": that time.

use std::sync::Arc;

use arrow::array::Array;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use thalweg_functions::EvaluationEnv;
use thalweg_plan::data_type::TimeKind;
use thalweg_plan::spec::SortKey;
use thalweg_state::{ColumnHandle, KeyedState, OperatorSnapshot, RestoredState, Slot, SnapshotRequest};
use thalweg_types::StreamBatch;

use super::SqlOperator;
use super::encoded::{Encoded, EncodedRows};
use super::group_aggregate::{global_hashes, global_key, key_fields};
use super::output::{
    Output, arrow_error, millis, record_batch, restored_watermark, unsupported, watermark_list,
};
use crate::keyed::{keyed_state, state_error};
use crate::{Operator, OperatorContext, OperatorError, OutputLimit};

/// [`thalweg_plan::NodeSpec::TemporalSort`].
pub struct TemporalSort {
    context: OperatorContext,
    env: Arc<EvaluationEnv>,
    time: usize,
    state: KeyedState,
    rows: ColumnHandle<EncodedRows>,
    slots: Vec<Slot>,
    pending: Option<StreamBatch>,
    watermark: i64,
    /// The time of the last rows that were put out.
    last: i64,
    late_rows: u64,
    new_rows: Vec<u32>,
    output: Output,
    schema: SchemaRef,
}

impl TemporalSort {
    /// By a rowtime first.
    pub fn new(
        keys: &[SortKey],
        operator: &SqlOperator<'_>,
        context: OperatorContext,
    ) -> Result<Self, OperatorError> {
        let input = &operator.inputs[0];
        let time = keys.first().filter(|key| !key.descending).map(|key| key.column);
        let time = time.filter(|time| input.fields[*time].data_type.time_kind() == TimeKind::Rowtime);
        let Some(time) = time else {
            let message = "Sort on a non-time-attribute field is not supported.".to_owned();
            return Err(unsupported(&context, message));
        };
        let rows =
            EncodedRows::new(&input.to_arrow(), keys, &[]).map_err(|source| arrow_error(&context, source))?;
        let mut state = keyed_state(&context, key_fields(input, &[]))?;
        let rows = state
            .register_columns("rows", rows, None)
            .map_err(|source| state_error(&context, source))?;
        Ok(Self {
            env: Arc::clone(&operator.env),
            time,
            state,
            rows,
            slots: Vec::new(),
            pending: None,
            watermark: i64::MIN,
            last: i64::MIN,
            late_rows: 0,
            new_rows: Vec::new(),
            output: Output::default(),
            schema: operator.output.to_arrow(),
            context,
        })
    }

    /// How many rows were dropped because later ones had been put out.
    pub fn late_rows(&self) -> u64 {
        self.late_rows
    }

    /// The slot of the one key.
    fn slot(&mut self) -> Result<Slot, OperatorError> {
        let begun = self.state.begin_batch(
            &[global_key(1)],
            &global_hashes(1),
            (self.env.clock)(),
            &mut self.slots,
        );
        begun.map_err(|source| state_error(&self.context, source))?;
        Ok(self.slots[0])
    }

    fn keep(&mut self, batch: &StreamBatch) -> Result<(), OperatorError> {
        let slot = self.slot()?;
        let fail = |source| arrow_error(&self.context, source);
        let times = millis(batch.rows.column(self.time)).map_err(fail)?;
        let store = self.state.table(self.rows).write(&[slot], &mut self.new_rows);
        let encoded = store.codec.encode(batch.rows.columns()).map_err(fail)?;
        for row in 0..batch.num_rows() {
            if times.is_null(row) || times.value(row) <= self.last {
                self.late_rows += 1;
                continue;
            }
            let key = encoded.key(row);
            let place = store.rows(slot).partition_point(|other| other.key() <= key);
            store.insert(slot, place, &encoded, row);
        }
        self.state
            .end_batch()
            .map_err(|source| state_error(&self.context, source))
    }

    /// Puts out what the watermark has passed.
    fn fire(&mut self) -> Result<(), OperatorError> {
        let slot = self.slot()?;
        let fail = |source| arrow_error(&self.context, source);
        let table = self.state.table(self.rows);
        let store = table.write(&[slot], &mut self.new_rows);
        let due = due(store, slot, self.time, self.watermark).map_err(fail)?;
        let columns = store
            .codec
            .decode(store.rows(slot)[..due].iter().map(Encoded::row))
            .map_err(fail)?;
        if let Some(last) = due.checked_sub(1) {
            self.last = millis(&columns[self.time]).map_err(fail)?.value(last);
        }
        let rows = record_batch(&self.schema, columns, due).map_err(fail)?;
        store.remove_first(slot, due);
        if store.rows(slot).is_empty() {
            table.clear(&[slot]);
        }
        self.output.push(StreamBatch::new(rows));
        self.output.push_watermark(&self.schema, self.watermark);
        self.state
            .end_batch()
            .map_err(|source| state_error(&self.context, source))
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
            self.fire()?;
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

/// How many rows the watermark has passed: they are sorted by time.
fn due(store: &EncodedRows, slot: Slot, time: usize, watermark: i64) -> Result<usize, ArrowError> {
    let rows = store.rows(slot);
    let (mut passed, mut open) = (0, rows.len());
    while passed < open {
        let middle = passed.midpoint(open);
        let columns = store.codec.decode(std::iter::once(rows[middle].row()))?;
        match millis(&columns[time])?.value(0) <= watermark {
            true => passed = middle + 1,
            false => open = middle,
        }
    }
    Ok(passed)
}

impl Operator for TemporalSort {
    fn push(&mut self, _input: usize, batch: StreamBatch) -> Result<(), OperatorError> {
        self.pending = Some(batch);
        Ok(())
    }

    fn poll_output(&mut self, limit: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        while self.output.is_empty()
            && let Some(batch) = self.pending.take()
        {
            self.advance(batch)?;
        }
        Ok(self.output.pop(limit))
    }

    fn restore(&mut self, state: &mut RestoredState) -> Result<(), OperatorError> {
        self.last = restored_watermark(state);
        let restored = self.state.restore(state, (self.env.clock)());
        restored.map_err(|source| state_error(&self.context, source))
    }

    fn snapshot(&mut self, request: SnapshotRequest) -> Result<OperatorSnapshot, OperatorError> {
        let tables = self.state.snapshot(request);
        Ok(OperatorSnapshot {
            tables: tables.map_err(|source| state_error(&self.context, source))?,
            lists: vec![watermark_list(self.last)],
        })
    }

    fn state_bytes(&self) -> usize {
        self.state.memory_size()
    }
}
