//! Joins with the version of a table that held at each row's time. Flink's TemporalRowTimeJoinOperator.
//!
//! ```text
//!   left rows, versions of the right --key, time--> kept --watermark passes a left row's time--> joined with the last version up to it
//! ```
//!
//! A version that was deleted, or for which the condition is not true, is none. Versions before the last that a row can still ask for are
//! dropped. State: "left" and "right" by key ([`super::timed`]); `$mark`: a left row's key has a null, a version is a deletion. List "watermark".

use std::sync::Arc;
use std::time::Duration;

use arrow::array::Array;
use arrow::datatypes::SchemaRef;
use thalweg_functions::EvaluationEnv;
use thalweg_plan::spec::{JoinKind, TemporalJoinSpec};
use thalweg_state::{
    ColumnHandle, KeyedState, OperatorSnapshot, RestoredState, Slot, SnapshotRequest, StateTtl, TimeDomain,
    Timer,
};
use thalweg_types::StreamBatch;
use thalweg_types::element::RowKind;

use super::SqlOperator;
use super::group_aggregate::key_fields;
use super::output::{
    Output, arrow_error, is_retraction, millis, restored_watermark, unsupported, watermark_list,
};
use super::pairs::{Pair, Pairs, unmatched};
use super::timed::{Timed, TimedRows};
use crate::keyed::{keyed_state, keys_of, state_error};
use crate::{InputWatermarks, Operator, OperatorContext, OperatorError, OutputLimit};

/// Keys worked off at a time.
const KEYS_AT_A_TIME: usize = 4096;

struct Side {
    keys: Vec<usize>,
    time: usize,
    rows: ColumnHandle<TimedRows>,
}

/// [`thalweg_plan::NodeSpec::TemporalJoin`].
pub struct TemporalJoin {
    context: OperatorContext,
    env: Arc<EvaluationEnv>,
    left_outer: bool,
    sides: [Side; 2],
    null_safe: Vec<bool>,
    pairs: Pairs,
    state: KeyedState,
    pending: Option<(usize, StreamBatch)>,
    watermarks: InputWatermarks,
    watermark: i64,
    firing: bool,
    timers: Vec<Timer>,
    new_rows: Vec<u32>,
    output: Output,
    schema: SchemaRef,
}

impl TemporalJoin {
    /// A join of two inputs by event time.
    pub fn new(
        spec: &TemporalJoinSpec,
        operator: &SqlOperator<'_>,
        context: OperatorContext,
    ) -> Result<Self, OperatorError> {
        let Some(right_time) = spec.right_time else {
            let message = "Processing-time temporal join is not supported yet.".to_owned();
            return Err(unsupported(&context, message));
        };
        let pairs = Pairs::new(spec.condition.as_ref(), false, operator, &context)?;
        let mut state = keyed_state(&context, key_fields(&operator.inputs[0], &spec.keys.left))?;
        let ttl = (spec.state_ttl_ms > 0).then(|| StateTtl::new(Duration::from_millis(spec.state_ttl_ms)));
        let mut side = |number: usize, name: &str, keys: &[usize], time: usize| {
            let rows = TimedRows::new(&operator.inputs[number].to_arrow())
                .map_err(|source| arrow_error(&context, source))?;
            let rows = state
                .register_columns(name, rows, ttl)
                .map_err(|source| state_error(&context, source))?;
            let keys = keys.to_vec();
            Ok::<_, OperatorError>(Side { keys, time, rows })
        };
        let sides = [
            side(0, "left", &spec.keys.left, spec.left_time)?,
            side(1, "right", &spec.keys.right, right_time)?,
        ];
        Ok(Self {
            env: Arc::clone(&operator.env),
            left_outer: spec.kind == JoinKind::Left,
            sides,
            null_safe: spec.keys.null_safe.clone(),
            pairs,
            state,
            pending: None,
            watermarks: InputWatermarks::new(2),
            watermark: i64::MIN,
            firing: false,
            timers: Vec::new(),
            new_rows: Vec::new(),
            output: Output::default(),
            schema: operator.output.to_arrow(),
            context,
        })
    }

    fn keep(&mut self, side: usize, batch: &StreamBatch) -> Result<(), OperatorError> {
        let fail = |source| arrow_error(&self.context, source);
        let own = &self.sides[side];
        let (columns, hashes) = keys_of(&self.context, batch, &own.keys)?;
        let mut slots = Vec::new();
        let begun = self
            .state
            .begin_batch(&columns, hashes, (self.env.clock)(), &mut slots);
        begun.map_err(|source| state_error(&self.context, source))?;
        let lonely = unmatched(&columns, &self.null_safe, batch.num_rows());
        let times = millis(batch.rows.column(own.time)).map_err(fail)?;
        let store = self.state.table(own.rows).write(&slots, &mut self.new_rows);
        let encoded = store.codec.encode(batch.rows.columns()).map_err(fail)?;
        for (row, slot) in slots.iter().enumerate() {
            if times.is_null(row) {
                let message = "RowTime of a temporal join should not be null".to_owned();
                return Err(OperatorError::Value {
                    operator: self.context.operator_name.to_string(),
                    message,
                });
            }
            let kind = batch
                .kinds
                .as_ref()
                .map_or(RowKind::Insert as i8, |kinds| kinds.value(row));
            let is_lonely = lonely.as_ref().is_some_and(|lonely| lonely[row]);
            let timed = Timed {
                time: times.value(row),
                mark: if side == 0 { is_lonely } else { is_retraction(kind) },
                row: encoded.row(row).into(),
            };
            match side {
                0 => store.insert(*slot, timed),
                _ => store.replace(*slot, timed),
            }
        }
        let timers = self.state.timers();
        for (row, slot) in slots.iter().enumerate() {
            let timer = Timer {
                time: times.value(row),
                slot: *slot,
                window: None,
            };
            timers.register(TimeDomain::Event, timer);
        }
        self.state
            .end_batch()
            .map_err(|source| state_error(&self.context, source))
    }

    /// Joins the left rows of the next time that the watermark has passed; whether there was one.
    fn fire(&mut self) -> Result<bool, OperatorError> {
        self.state.advance_clock((self.env.clock)());
        let mut timers = std::mem::take(&mut self.timers);
        let popped = self
            .state
            .pop_timers(TimeDomain::Event, self.watermark, KEYS_AT_A_TIME, &mut timers);
        popped.map_err(|source| state_error(&self.context, source))?;
        let mut pairs: Vec<Pair> = Vec::new();
        for timer in &timers {
            let lefts = self.lefts(timer.slot, timer.time);
            let version = self.version(timer.slot, timer.time);
            pairs.extend(lefts.into_iter().map(|left| {
                let version = version.as_ref().filter(|_| !left.mark);
                (Some(left.row), version.cloned())
            }));
        }
        self.emit(pairs)?;
        let any = !timers.is_empty();
        self.timers = timers;
        self.state
            .end_batch()
            .map_err(|source| state_error(&self.context, source))?;
        Ok(any)
    }

    fn lefts(&mut self, slot: Slot, time: i64) -> Vec<Timed> {
        let table = self.state.table(self.sides[0].rows);
        if !table.has(slot) {
            return Vec::new();
        }
        let store = table.write(&[slot], &mut self.new_rows);
        let rows = store.take_until(slot, time);
        if store.rows(slot).is_empty() {
            table.clear(&[slot]);
        }
        rows
    }

    /// The version at a time; those before it are dropped.
    fn version(&mut self, slot: Slot, time: i64) -> Option<Arc<[u8]>> {
        let table = self.state.table(self.sides[1].rows);
        if !table.has(slot) {
            return None;
        }
        let store = table.write(&[slot], &mut self.new_rows);
        store.drop_before_last(slot, time);
        let version = store.last_until(slot, time)?;
        (!version.mark).then(|| Arc::clone(&version.row))
    }

    fn emit(&mut self, pairs: Vec<Pair>) -> Result<(), OperatorError> {
        let (joined, mut alone): (Vec<Pair>, Vec<Pair>) =
            pairs.into_iter().partition(|pair| pair.1.is_some());
        let codecs = [0, 1].map(|side| &self.state.peek(self.sides[side].rows).peek().codec);
        let mask = self.pairs.matching(&joined, codecs, &self.context)?;
        let mut out = Vec::with_capacity(joined.len());
        for (place, pair) in joined.into_iter().enumerate() {
            match mask
                .as_ref()
                .is_none_or(|mask| mask.is_valid(place) && mask.value(place))
            {
                true => out.push(pair),
                false => alone.push((pair.0, None)),
            }
        }
        if self.left_outer {
            out.extend(alone);
        }
        let batch = self.pairs.batch(&out, None, codecs);
        self.output
            .push(batch.map_err(|source| arrow_error(&self.context, source))?);
        Ok(())
    }

    fn pass(&mut self) {
        if let Some(watermark) = self.watermarks.take() {
            self.watermark = self.watermark.max(watermark);
            self.firing = true;
        }
    }

    /// The rows up to the batch's next watermark, then that watermark.
    fn advance(&mut self, side: usize, mut batch: StreamBatch) -> Result<(), OperatorError> {
        let cut = batch.watermarks.first().copied();
        let end = cut.map_or(batch.num_rows(), |cut| cut.row as usize);
        if end > 0 {
            self.keep(side, &batch.slice(0, end))?;
        }
        if let Some(cut) = cut {
            self.watermarks.advance(side, cut.timestamp_ms);
            self.pass();
            let rest = batch.slice(end, batch.num_rows() - end);
            let watermarks = batch.watermarks.drain(1..).map(|mut cut| {
                cut.row -= end as u32;
                cut
            });
            let watermarks = watermarks.collect();
            self.pending = Some((side, StreamBatch { watermarks, ..rest }));
        }
        Ok(())
    }
}

impl Operator for TemporalJoin {
    fn push(&mut self, input: usize, batch: StreamBatch) -> Result<(), OperatorError> {
        self.pending = Some((input, batch));
        Ok(())
    }

    fn poll_output(&mut self, limit: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        while self.output.is_empty() {
            if self.firing {
                if !self.fire()? {
                    self.firing = false;
                    self.output.push_watermark(&self.schema, self.watermark);
                }
            } else if let Some((side, batch)) = self.pending.take() {
                self.advance(side, batch)?;
            } else {
                break;
            }
        }
        Ok(self.output.pop(limit))
    }

    fn end_input(&mut self, input: usize) -> Result<(), OperatorError> {
        self.watermarks.set_counts(input, false);
        self.pass();
        Ok(())
    }

    fn set_input_idle(&mut self, input: usize, idle: bool) -> Result<(), OperatorError> {
        self.watermarks.set_counts(input, !idle);
        self.pass();
        Ok(())
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
