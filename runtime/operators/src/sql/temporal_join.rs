//! Joins with the version of a table that held at each row's time. Flink's TemporalRowTimeJoinOperator.
//!
//! ```text
//!   left rows, versions of the right --key, time--> kept --watermark passes a left row's time--> joined with the last version up to it
//! ```
//!
//! A version that was deleted, or for which the condition is not true, is none. As in Flink the left rows of a key that the watermark has passed
//! go out together, in the order in which they came, with their own kinds. Versions before the one that holds at the watermark are dropped.
//!
//! State: "left" and "right" by key ([`super::timed`]); `$mark`: of a left row its kind, with [`LONELY`] if its key has a null; of a version 1 if
//! it is a deletion. List "watermark". Invariant: rows that are not late give the same whichever input is ahead.

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

/// Of a left row that finds no version.
const LONELY: i8 = 8;

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
            let mark = match (side, is_lonely) {
                (0, true) => kind | LONELY,
                (0, false) => kind,
                _ => i8::from(is_retraction(kind)),
            };
            let timed = Timed::new(times.value(row), mark, encoded.row(row));
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

    /// Joins the left rows that the watermark has passed, of keys that have some at the next time; whether there was one.
    fn fire(&mut self) -> Result<bool, OperatorError> {
        self.state.advance_clock((self.env.clock)());
        let mut timers = std::mem::take(&mut self.timers);
        let popped = self
            .state
            .pop_timers(TimeDomain::Event, self.watermark, KEYS_AT_A_TIME, &mut timers);
        popped.map_err(|source| state_error(&self.context, source))?;
        let (mut pairs, mut kinds): (Vec<Pair>, Vec<i8>) = (Vec::new(), Vec::new());
        for timer in &timers {
            let mut lefts = self.lefts(timer.slot);
            lefts.sort_by_key(|left| left.order);
            for left in lefts {
                let version = match left.mark & LONELY {
                    0 => self.version(timer.slot, left.time),
                    _ => None,
                };
                pairs.push((Some(left.row), version));
                kinds.push(left.mark & !LONELY);
            }
            self.drop_versions(timer.slot);
        }
        self.emit(pairs, &kinds)?;
        let any = !timers.is_empty();
        self.timers = timers;
        self.state
            .end_batch()
            .map_err(|source| state_error(&self.context, source))?;
        Ok(any)
    }

    fn lefts(&mut self, slot: Slot) -> Vec<Timed> {
        let table = self.state.table(self.sides[0].rows);
        if !table.has(slot) {
            return Vec::new();
        }
        let store = table.write(&[slot], &mut self.new_rows);
        let rows = store.take_until(slot, self.watermark);
        if store.rows(slot).is_empty() {
            table.clear(&[slot]);
        }
        rows
    }

    /// The version at a time.
    fn version(&self, slot: Slot, time: i64) -> Option<Arc<[u8]>> {
        let table = self.state.peek(self.sides[1].rows);
        let version = table
            .has(slot)
            .then(|| table.peek().last_until(slot, time))
            .flatten()?;
        (version.mark == 0).then(|| Arc::clone(&version.row))
    }

    /// Drops the versions before the one that holds at the watermark.
    fn drop_versions(&mut self, slot: Slot) {
        let table = self.state.table(self.sides[1].rows);
        let until = self.watermark;
        if table.has(slot)
            && table
                .peek()
                .rows(slot)
                .get(1)
                .is_some_and(|second| second.time <= until)
        {
            table
                .write(&[slot], &mut self.new_rows)
                .drop_before_last(slot, until);
        }
    }

    fn emit(&mut self, pairs: Vec<Pair>, kinds: &[i8]) -> Result<(), OperatorError> {
        let joined: Vec<Pair> = pairs.iter().filter(|pair| pair.1.is_some()).cloned().collect();
        let codecs = [0, 1].map(|side| &self.state.peek(self.sides[side].rows).peek().codec);
        let mask = self.pairs.matching(&joined, codecs, &self.context)?;
        let (mut out, mut out_kinds) = (Vec::with_capacity(pairs.len()), Vec::with_capacity(pairs.len()));
        let mut places = 0..joined.len();
        for ((left, mut version), kind) in pairs.into_iter().zip(kinds) {
            let place = version.as_ref().and_then(|_| places.next());
            let is_joined = place.is_some_and(|place| {
                mask.as_ref()
                    .is_none_or(|mask| mask.is_valid(place) && mask.value(place))
            });
            if !is_joined {
                version = None;
            }
            if is_joined || self.left_outer {
                out.push((left, version));
                out_kinds.push(*kind);
            }
        }
        let batch = self.pairs.batch(&out, Some(&out_kinds), codecs);
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
