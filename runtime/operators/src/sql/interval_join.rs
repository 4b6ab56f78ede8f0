//! Joins of rows whose times are near each other. Flink's TimeIntervalJoin.
//!
//! ```text
//!   row --key, time--> rows of the other side within the interval --condition--> pairs
//!   it is kept while partners may come; an outer row that had none is put out, with nulls, when none can come any more
//! ```
//!
//! State: "left" and "right" by key ([`super::timed`]); `$mark`: 1 if the row had a partner.

use std::sync::Arc;

use arrow::array::{Array, Int64Array};
use thalweg_functions::EvaluationEnv;
use thalweg_plan::data_type::TimeKind;
use thalweg_plan::spec::{IntervalJoinSpec, JoinKind};
use thalweg_state::{
    ColumnHandle, KeyedState, OperatorSnapshot, RestoredState, Slot, SnapshotRequest, TimeDomain, Timer,
};
use thalweg_types::StreamBatch;

use super::SqlOperator;
use super::group_aggregate::{global_hashes, global_key, key_fields};
use super::output::{Output, arrow_error, millis, restored_watermark, watermark_list};
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
    outer: bool,
    /// Partners are of times from `time - before` to `time + after`.
    before: i64,
    after: i64,
}

/// [`thalweg_plan::NodeSpec::IntervalJoin`].
pub(crate) struct IntervalJoin {
    context: OperatorContext,
    env: Arc<EvaluationEnv>,
    sides: [Side; 2],
    null_safe: Vec<bool>,
    pairs: Pairs,
    domain: TimeDomain,
    state: KeyedState,
    pending: Option<(usize, StreamBatch)>,
    watermarks: InputWatermarks,
    /// Up to which time rows are dropped.
    now: i64,
    firing: bool,
    /// The watermark to be put out behind what it fires.
    due: Option<i64>,
    next_processing_time: Option<i64>,
    timers: Vec<Timer>,
    new_rows: Vec<u32>,
    output: Output,
    schema: arrow::datatypes::SchemaRef,
}

impl IntervalJoin {
    /// A join of two inputs.
    pub(crate) fn new(
        spec: &IntervalJoinSpec,
        operator: &SqlOperator<'_>,
        context: OperatorContext,
    ) -> Result<Self, OperatorError> {
        let pairs = Pairs::new(spec.condition.as_ref(), false, operator, &context)?;
        let mut state = keyed_state(&context, key_fields(&operator.inputs[0], &spec.keys.left))?;
        let mut side = |number: usize,
                        name: &str,
                        keys: &[usize],
                        time: usize,
                        outer: bool,
                        (before, after): (i64, i64)| {
            let rows = TimedRows::new(&operator.inputs[number].to_arrow())
                .map_err(|source| arrow_error(&context, source))?;
            let rows = state
                .register_columns(name, rows, None)
                .map_err(|source| state_error(&context, source))?;
            let keys = keys.to_vec();
            Ok::<_, OperatorError>(Side {
                keys,
                time,
                rows,
                outer,
                before,
                after,
            })
        };
        let (left_outer, right_outer) = match spec.kind {
            JoinKind::Left => (true, false),
            JoinKind::Right => (false, true),
            JoinKind::Full => (true, true),
            _ => (false, false),
        };
        // lower <= left - right <= upper
        let (of_left, of_right) = ((spec.upper_ms, -spec.lower_ms), (-spec.lower_ms, spec.upper_ms));
        let sides = [
            side(0, "left", &spec.keys.left, spec.left_time, left_outer, of_left)?,
            side(
                1,
                "right",
                &spec.keys.right,
                spec.right_time,
                right_outer,
                of_right,
            )?,
        ];
        let kind = operator.inputs[0].fields[spec.left_time].data_type.time_kind();
        Ok(Self {
            env: Arc::clone(&operator.env),
            sides,
            null_safe: spec.keys.null_safe.clone(),
            pairs,
            domain: match kind {
                TimeKind::Proctime => TimeDomain::Processing,
                _ => TimeDomain::Event,
            },
            state,
            pending: None,
            watermarks: InputWatermarks::new(2),
            now: i64::MIN,
            firing: false,
            due: None,
            next_processing_time: None,
            timers: Vec::new(),
            new_rows: Vec::new(),
            output: Output::default(),
            schema: operator.output.to_arrow(),
            context,
        })
    }

    /// The rows up to the batch's next watermark, then that watermark.
    fn advance(&mut self, side: usize, mut batch: StreamBatch) -> Result<(), OperatorError> {
        let cut = batch.watermarks.first().copied();
        let end = cut.map_or(batch.num_rows(), |cut| cut.row as usize);
        if end > 0 {
            self.join(side, &batch.slice(0, end))?;
        }
        let rest = batch.slice(end, batch.num_rows() - end);
        if let Some(cut) = cut {
            self.watermarks.advance(side, cut.timestamp_ms);
            self.pass();
            let watermarks = batch.watermarks.drain(1..).map(|mut cut| {
                cut.row -= end as u32;
                cut
            });
            let watermarks = watermarks.collect();
            self.pending = Some((side, StreamBatch { watermarks, ..rest }));
        }
        Ok(())
    }

    /// The operator's own watermark may have moved.
    fn pass(&mut self) {
        if let Some(watermark) = self.watermarks.take() {
            if self.domain == TimeDomain::Event {
                self.now = self.now.max(watermark);
            }
            self.due = Some(watermark);
            self.firing = true;
        }
    }

    fn join(&mut self, side: usize, batch: &StreamBatch) -> Result<(), OperatorError> {
        let clock = (self.env.clock)();
        if self.domain == TimeDomain::Processing {
            self.now = clock;
        }
        let own = &self.sides[side];
        let global;
        let (columns, hashes) = match own.keys.is_empty() {
            true => {
                global = global_hashes(batch.num_rows());
                (vec![global_key(batch.num_rows())], &global)
            }
            false => keys_of(&self.context, batch, &own.keys)?,
        };
        let mut slots = Vec::new();
        let begun = self.state.begin_batch(&columns, hashes, clock, &mut slots);
        begun.map_err(|source| state_error(&self.context, source))?;
        let lonely = unmatched(&columns, &self.null_safe, batch.num_rows());
        let times = match self.domain {
            TimeDomain::Processing => Ok(Int64Array::from(vec![clock; batch.num_rows()])),
            TimeDomain::Event => millis(batch.rows.column(own.time)),
        };
        let times = times.map_err(|source| arrow_error(&self.context, source))?;
        self.join_rows(side, batch, &slots, &times, lonely.as_deref())?;
        self.state
            .end_batch()
            .map_err(|source| state_error(&self.context, source))
    }

    fn join_rows(
        &mut self,
        side: usize,
        batch: &StreamBatch,
        slots: &[Slot],
        times: &Int64Array,
        lonely: Option<&[bool]>,
    ) -> Result<(), OperatorError> {
        let fail = |source| arrow_error(&self.context, source);
        let (before, after, outer) = (
            self.sides[side].before,
            self.sides[side].after,
            self.sides[side].outer,
        );
        let other = &self.sides[1 - side];
        let (other_rows, other_outer) = (other.rows, other.outer);
        let encoded = self
            .state
            .peek(self.sides[side].rows)
            .peek()
            .codec
            .encode(batch.rows.columns())
            .map_err(fail)?;
        let rows: Vec<Arc<[u8]>> = (0..batch.num_rows()).map(|row| encoded.row(row).into()).collect();
        // Candidates: row, its partner's slot and place.
        let mut candidates: Vec<(u32, Slot, u32)> = Vec::new();
        let mut pairs: Vec<Pair> = Vec::new();
        let known = self.state.table(other_rows).read(slots);
        for (row, slot) in slots.iter().enumerate() {
            if times.is_null(row) || lonely.is_some_and(|lonely| lonely[row]) {
                continue;
            }
            let time = times.value(row);
            let partners = known.rows(*slot);
            let first = partners.partition_point(|partner| partner.time < time.saturating_sub(before));
            let partners = partners.iter().enumerate().skip(first);
            for (place, partner) in
                partners.take_while(|(_, partner)| partner.time <= time.saturating_add(after))
            {
                candidates.push((row as u32, *slot, place as u32));
                let (mine, theirs) = (Some(Arc::clone(&rows[row])), Some(Arc::clone(&partner.row)));
                pairs.push(if side == 0 { (mine, theirs) } else { (theirs, mine) });
            }
        }
        let codecs = [0, 1].map(|side| &self.state.peek(self.sides[side].rows).peek().codec);
        let mask = self.pairs.matching(&pairs, codecs, &self.context)?;
        let matches = |place: usize| {
            mask.as_ref()
                .is_none_or(|mask| mask.is_valid(place) && mask.value(place))
        };
        let mut joined = vec![false; batch.num_rows()];
        let mut marked = Vec::new();
        let mut out = Vec::new();
        for (place, (pair, (row, slot, partner))) in pairs.into_iter().zip(candidates).enumerate() {
            if matches(place) {
                joined[row as usize] = true;
                marked.push((slot, partner));
                out.push(pair);
            }
        }
        // Rows that no partner can come for are done.
        let mut kept = Vec::new();
        for (row, slot) in slots.iter().enumerate() {
            let waits = times.is_valid(row)
                && self.now < times.value(row).saturating_add(after)
                && !lonely.is_some_and(|lonely| lonely[row]);
            if waits {
                kept.push((row, *slot));
            } else if outer && !joined[row] {
                let mine = Some(Arc::clone(&rows[row]));
                out.push(if side == 0 { (mine, None) } else { (None, mine) });
            }
        }
        let batch = self.pairs.batch(&out, None, codecs).map_err(fail)?;
        self.output.push(batch);
        if other_outer && !marked.is_empty() {
            let touched: Vec<Slot> = marked.iter().map(|(slot, _)| *slot).collect();
            let store = self.state.table(other_rows).write(&touched, &mut self.new_rows);
            for (slot, place) in marked {
                store.rows_mut(slot)[place as usize].mark = 1;
            }
        }
        let written: Vec<Slot> = kept.iter().map(|(_, slot)| *slot).collect();
        let store = self
            .state
            .table(self.sides[side].rows)
            .write(&written, &mut self.new_rows);
        for (row, slot) in &kept {
            let timed = Timed {
                row: Arc::clone(&rows[*row]),
                ..Timed::new(times.value(*row), i8::from(joined[*row]), &[])
            };
            store.insert(*slot, timed);
        }
        let timers = self.state.timers();
        for (row, slot) in kept {
            let timer = Timer {
                time: times.value(row).saturating_add(after).saturating_add(1),
                slot,
                window: None,
            };
            timers.register(self.domain, timer);
        }
        Ok(())
    }

    /// Drops rows that are over; whether there may be more.
    fn expire(&mut self) -> Result<bool, OperatorError> {
        self.state.advance_clock((self.env.clock)());
        let mut timers = std::mem::take(&mut self.timers);
        timers.clear();
        let popped = self
            .state
            .pop_timers(self.domain, self.now, KEYS_AT_A_TIME, &mut timers);
        popped.map_err(|source| state_error(&self.context, source))?;
        let mut slots: Vec<Slot> = timers.iter().map(|timer| timer.slot).collect();
        slots.sort_unstable();
        slots.dedup();
        let mut out: Vec<Pair> = Vec::new();
        for side in 0..2 {
            let Side {
                rows, outer, after, ..
            } = self.sides[side];
            let until = self.now.saturating_sub(after).saturating_sub(1);
            let table = self.state.table(rows);
            let there: Vec<Slot> = slots.iter().copied().filter(|slot| table.has(*slot)).collect();
            let store = table.write(&there, &mut self.new_rows);
            let mut empty = Vec::new();
            for slot in there {
                let gone = store.take_until(slot, until);
                let lonely = gone.into_iter().filter(|row| outer && row.mark == 0);
                out.extend(lonely.map(|row| {
                    if side == 0 {
                        (Some(row.row), None)
                    } else {
                        (None, Some(row.row))
                    }
                }));
                if store.rows(slot).is_empty() {
                    empty.push(slot);
                }
            }
            table.clear(&empty);
        }
        if !out.is_empty() {
            let codecs = [0, 1].map(|side| &self.state.peek(self.sides[side].rows).peek().codec);
            let batch = self.pairs.batch(&out, None, codecs);
            self.output
                .push(batch.map_err(|source| arrow_error(&self.context, source))?);
        }
        let more = !timers.is_empty();
        self.timers = timers;
        self.state
            .end_batch()
            .map_err(|source| state_error(&self.context, source))?;
        Ok(more)
    }
}

impl Operator for IntervalJoin {
    fn push(&mut self, input: usize, batch: StreamBatch) -> Result<(), OperatorError> {
        self.pending = Some((input, batch));
        Ok(())
    }

    fn poll_output(&mut self, limit: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        while self.output.is_empty() {
            if self.firing {
                if !self.expire()? {
                    self.firing = false;
                    if let Some(watermark) = self.due.take() {
                        self.output.push_watermark(&self.schema, watermark);
                    }
                }
            } else if let Some((side, batch)) = self.pending.take() {
                self.advance(side, batch)?;
            } else {
                break;
            }
            if self.domain == TimeDomain::Processing {
                self.next_processing_time = self.state.timers().next_time(self.domain);
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

    fn next_processing_time(&self) -> Option<i64> {
        self.next_processing_time
    }

    fn on_processing_time(&mut self, now_ms: i64) -> Result<(), OperatorError> {
        if self.domain == TimeDomain::Processing {
            self.now = now_ms;
            self.firing = true;
        }
        Ok(())
    }

    fn restore(&mut self, state: &mut RestoredState) -> Result<(), OperatorError> {
        self.now = restored_watermark(state);
        let restored = self.state.restore(state, (self.env.clock)());
        restored.map_err(|source| state_error(&self.context, source))?;
        if self.domain == TimeDomain::Processing {
            self.next_processing_time = self.state.timers().next_time(self.domain);
        }
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
