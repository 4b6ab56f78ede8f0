//! SESSION as a table function: the rows of a session with its bounds, when it is over. Flink's UnalignedWindowTableFunctionOperator.
//!
//! ```text
//!   rows --key, time--> kept --the gap behind a row is over and no later one touches it--> the session's rows, as they came
//! ```
//!
//! Which sessions there are follows from the rows that are kept: those of a key in the order of time, none further than the gap from the one
//! before. A row that touches no session and is behind the watermark by more than the gap is late, and dropped and counted.
//! State: "rows" by key ([`super::super::timed`]), times being local; `$mark`: the row's kind. List "watermark".

use std::sync::Arc;

use arrow::array::{Array, Int64Array};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use thalweg_functions::EvaluationEnv;
use thalweg_plan::TypeRoot;
use thalweg_plan::data_type::TimeKind;
use thalweg_plan::spec::{WindowKind, WindowSpec};
use thalweg_state::{
    ColumnHandle, KeyedState, OperatorSnapshot, RestoredState, Slot, SnapshotRequest, TimeDomain, Timer,
};
use thalweg_types::StreamBatch;
use thalweg_types::element::RowKind;

use super::super::SqlOperator;
use super::super::group_aggregate::{global_hashes, global_key, key_fields};
use super::super::output::{
    Output, arrow_error, kinds_of, millis, record_batch, restored_watermark, unsupported, watermark_list,
};
use super::super::timed::{Timed, TimedRows};
use super::table_function::bounds;
use super::zone::Zone;
use crate::keyed::{keyed_state, keys_of, state_error};
use crate::{Operator, OperatorContext, OperatorError, OutputLimit};

/// Keys worked off at a time.
const KEYS_AT_A_TIME: usize = 1024;

/// [`thalweg_plan::NodeSpec::WindowTableFunction`] of sessions.
pub struct SessionRows {
    context: OperatorContext,
    env: Arc<EvaluationEnv>,
    keys: Vec<usize>,
    time: usize,
    gap: i64,
    zone: Zone,
    domain: TimeDomain,
    state: KeyedState,
    rows: ColumnHandle<TimedRows>,
    pending: Option<StreamBatch>,
    /// The watermark; by the clock, how late it is.
    now: i64,
    firing: bool,
    /// The watermark to be put out behind what it fires.
    due: Option<i64>,
    next_processing_time: Option<i64>,
    late_rows: u64,
    timers: Vec<Timer>,
    new_rows: Vec<u32>,
    schema: SchemaRef,
    output: Output,
}

/// The first session of some rows in the order of time: how many rows it has, and its bounds.
fn first_session(rows: &[Timed], gap: i64) -> Option<(usize, (i64, i64))> {
    let first = rows.first()?;
    let touches = |pair: &&[Timed]| pair[1].time <= pair[0].time.saturating_add(gap);
    let count = 1 + rows.windows(2).take_while(touches).count();
    Some((count, (first.time, rows[count - 1].time.saturating_add(gap))))
}

/// Whether a row of this time is in a session of the rows.
fn touches(rows: &[Timed], time: i64, gap: i64) -> bool {
    let behind = rows.partition_point(|row| row.time < time);
    let near = |row: &Timed| row.time.abs_diff(time) <= gap.unsigned_abs();
    rows.get(behind).is_some_and(near) || behind > 0 && near(&rows[behind - 1])
}

impl SessionRows {
    /// An operator; refuses a gap that makes no sense.
    pub fn new(
        spec: &WindowSpec,
        operator: &SqlOperator<'_>,
        context: OperatorContext,
    ) -> Result<Self, OperatorError> {
        let refused = |message: String| unsupported(&context, message);
        let gap = match spec.kind {
            WindowKind::Session { gap_ms } if gap_ms > 0 => gap_ms,
            _ => return Err(refused("a session's gap must be above zero".to_owned())),
        };
        let input = &operator.inputs[0];
        let time_type = &input.fields[spec.time].data_type;
        let zone = match time_type.root {
            TypeRoot::TimestampLtz(..) => Zone::named(&spec.time_zone).map_err(refused)?,
            _ => Zone::utc(),
        };
        let mut state = keyed_state(&context, key_fields(input, &spec.partition))?;
        let rows = TimedRows::new(&input.to_arrow()).map_err(|source| arrow_error(&context, source))?;
        let rows = state
            .register_columns("rows", rows, None)
            .map_err(|source| state_error(&context, source))?;
        Ok(Self {
            env: Arc::clone(&operator.env),
            keys: spec.partition.clone(),
            time: spec.time,
            gap,
            zone,
            domain: match time_type.time_kind() {
                TimeKind::Proctime => TimeDomain::Processing,
                _ => TimeDomain::Event,
            },
            state,
            rows,
            pending: None,
            now: i64::MIN,
            firing: false,
            due: None,
            next_processing_time: None,
            late_rows: 0,
            timers: Vec::new(),
            new_rows: Vec::new(),
            schema: operator.output.to_arrow(),
            output: Output::default(),
            context,
        })
    }

    /// How many rows were dropped because their session would be over.
    pub fn late_rows(&self) -> u64 {
        self.late_rows
    }

    /// When a session that ends then is over.
    fn over_at(&self, end: i64) -> i64 {
        self.zone.timer(end).saturating_sub(1)
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
        let clock = (self.env.clock)();
        let mut slots = Vec::new();
        let begun = self.state.begin_batch(&columns, hashes, clock, &mut slots);
        begun.map_err(|source| state_error(&self.context, source))?;
        let kept = self.keep_rows(batch, &slots, clock);
        kept.map_err(|source| arrow_error(&self.context, source))?;
        self.state
            .end_batch()
            .map_err(|source| state_error(&self.context, source))
    }

    fn keep_rows(&mut self, batch: &StreamBatch, slots: &[Slot], clock: i64) -> Result<(), ArrowError> {
        let times = match self.domain {
            TimeDomain::Event => millis(batch.rows.column(self.time))?,
            TimeDomain::Processing => {
                self.now = self.now.max(clock);
                Int64Array::from(vec![clock; batch.num_rows()])
            }
        };
        let mut timers = std::mem::take(&mut self.timers);
        timers.clear();
        let encoded = self
            .state
            .peek(self.rows)
            .peek()
            .codec
            .encode(batch.rows.columns())?;
        let mut late = 0;
        for (row, slot) in slots.iter().enumerate() {
            if times.is_null(row) {
                late += 1;
                continue;
            }
            let time = self.zone.to_local(times.value(row));
            let over = self.over_at(time.saturating_add(self.gap));
            let table = self.state.table(self.rows);
            if over <= self.now && !touches(table.peek().rows(*slot), time, self.gap) {
                late += 1;
                continue;
            }
            let kind = batch
                .kinds
                .as_ref()
                .map_or(RowKind::Insert as i8, |kinds| kinds.value(row));
            let store = table.write(&[*slot], &mut self.new_rows);
            store.insert(*slot, Timed::new(time, kind, encoded.row(row)));
            timers.push(Timer {
                time: over,
                slot: *slot,
                window: None,
            });
        }
        self.late_rows += late;
        let registered = self.state.timers();
        for timer in timers.drain(..) {
            registered.register(self.domain, timer);
        }
        self.timers = timers;
        Ok(())
    }

    /// Puts out the sessions that are over next; whether there may be more.
    fn fire(&mut self) -> Result<bool, OperatorError> {
        self.state.advance_clock((self.env.clock)());
        let mut timers = std::mem::take(&mut self.timers);
        let popped = self
            .state
            .pop_timers(self.domain, self.now, KEYS_AT_A_TIME, &mut timers);
        popped.map_err(|source| state_error(&self.context, source))?;
        let (mut rows, mut windows) = (Vec::new(), Vec::new());
        for timer in &timers {
            self.take(*timer, &mut rows, &mut windows);
        }
        if !rows.is_empty() {
            let batch = self.batch(&rows, &windows);
            self.output
                .push(batch.map_err(|source| arrow_error(&self.context, source))?);
        }
        let any = !timers.is_empty();
        self.timers = timers;
        self.state
            .end_batch()
            .map_err(|source| state_error(&self.context, source))?;
        Ok(any)
    }

    /// Takes the sessions of a key that are over at a timer's time.
    fn take(&mut self, timer: Timer, rows: &mut Vec<Timed>, windows: &mut Vec<(i64, i64)>) {
        let (gap, slot) = (self.gap, timer.slot);
        while let Some((count, window)) = first_session(self.state.peek(self.rows).peek().rows(slot), gap)
            && self.over_at(window.1) <= timer.time
        {
            let table = self.state.table(self.rows);
            let store = table.write(&[slot], &mut self.new_rows);
            let mut session = store.take_first(slot, count);
            if store.rows(slot).is_empty() {
                table.clear(&[slot]);
            }
            session.sort_by_key(|row| row.order);
            rows.append(&mut session);
            windows.resize(rows.len(), window);
        }
    }

    fn batch(&self, rows: &[Timed], windows: &[(i64, i64)]) -> Result<StreamBatch, ArrowError> {
        let codec = &self.state.peek(self.rows).peek().codec;
        let mut columns = codec.decode(rows.iter().map(|row| &row.row))?;
        columns.extend(bounds(&self.schema, columns.len(), windows, &self.zone)?);
        Ok(StreamBatch {
            kinds: kinds_of(rows.iter().map(|row| row.mark)),
            ..StreamBatch::new(record_batch(&self.schema, columns, rows.len())?)
        })
    }

    /// The rows up to the batch's next watermark, then that watermark.
    fn advance(&mut self, mut batch: StreamBatch) -> Result<(), OperatorError> {
        let cut = batch.watermarks.first().copied();
        let end = cut.map_or(batch.num_rows(), |cut| cut.row as usize);
        if end > 0 {
            self.keep(&batch.slice(0, end))?;
        }
        if let Some(cut) = cut {
            if self.domain == TimeDomain::Event {
                self.now = self.now.max(cut.timestamp_ms);
            }
            self.due = Some(cut.timestamp_ms);
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

    fn find_next_processing_time(&mut self) {
        if self.domain == TimeDomain::Processing {
            self.next_processing_time = self.state.timers().next_time(self.domain);
        }
    }
}

impl Operator for SessionRows {
    fn push(&mut self, _input: usize, batch: StreamBatch) -> Result<(), OperatorError> {
        self.pending = Some(batch);
        Ok(())
    }

    fn poll_output(&mut self, limit: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        while self.output.is_empty() {
            if self.firing {
                if !self.fire()? {
                    self.firing = false;
                    if let Some(watermark) = self.due.take() {
                        self.output.push_watermark(&self.schema, watermark);
                    }
                }
            } else if let Some(batch) = self.pending.take() {
                self.advance(batch)?;
            } else {
                break;
            }
            self.find_next_processing_time();
        }
        Ok(self.output.pop(limit))
    }

    fn next_processing_time(&self) -> Option<i64> {
        self.next_processing_time
    }

    fn on_processing_time(&mut self, now_ms: i64) -> Result<(), OperatorError> {
        if self.domain == TimeDomain::Processing {
            self.now = self.now.max(now_ms);
            self.firing = true;
        }
        Ok(())
    }

    fn restore(&mut self, state: &mut RestoredState) -> Result<(), OperatorError> {
        self.now = restored_watermark(state);
        let restored = self.state.restore(state, (self.env.clock)());
        restored.map_err(|source| state_error(&self.context, source))?;
        self.find_next_processing_time();
        Ok(())
    }

    fn snapshot(&mut self, request: SnapshotRequest) -> Result<OperatorSnapshot, OperatorError> {
        let tables = self.state.snapshot(request);
        Ok(OperatorSnapshot {
            tables: tables.map_err(|source| state_error(&self.context, source))?,
            lists: vec![watermark_list(self.now)],
        })
    }

    fn state_bytes(&self) -> usize {
        self.state.memory_size()
    }
}

#[cfg(test)]
mod tests;
