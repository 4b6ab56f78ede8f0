//! Joins of rows of one window. Flink's WindowJoinOperator.
//!
//! ```text
//!   rows --key, window's end--> kept --the window is over--> all left with all right rows of it --condition--> pairs
//! ```
//!
//! A row of a window that is over is late, and dropped and counted. State: "left" and "right" by key ([`super::timed`]), the time being that at
//! which the window is over; `$mark`: 1 if a null in its key finds no partner. List "watermark".

use std::sync::Arc;

use arrow::array::{Array, Int64Array};
use arrow::datatypes::SchemaRef;
use thalweg_functions::EvaluationEnv;
use thalweg_plan::spec::{JoinKind, WindowColumns, WindowJoinSpec};
use thalweg_state::{
    ColumnHandle, KeyedState, OperatorSnapshot, RestoredState, Slot, SnapshotRequest, TimeDomain, Timer,
};
use thalweg_types::StreamBatch;

use super::SqlOperator;
use super::group_aggregate::{global_hashes, global_key, key_fields};
use super::output::{Output, arrow_error, millis, restored_watermark, unsupported, watermark_list};
use super::pairs::{Pair, Pairs, unmatched};
use super::timed::{Timed, TimedRows};
use super::window::zone::Zone;
use crate::keyed::{keyed_state, keys_of, state_error};
use crate::{InputWatermarks, Operator, OperatorContext, OperatorError, OutputLimit};

/// Keys worked off at a time.
const KEYS_AT_A_TIME: usize = 1024;

struct Side {
    keys: Vec<usize>,
    window: WindowColumns,
    rows: ColumnHandle<TimedRows>,
}

/// [`thalweg_plan::NodeSpec::WindowJoin`].
pub struct WindowJoin {
    context: OperatorContext,
    env: Arc<EvaluationEnv>,
    kind: JoinKind,
    sides: [Side; 2],
    null_safe: Vec<bool>,
    zone: Zone,
    pairs: Pairs,
    state: KeyedState,
    pending: Option<(usize, StreamBatch)>,
    watermarks: InputWatermarks,
    watermark: i64,
    firing: bool,
    late_rows: u64,
    timers: Vec<Timer>,
    new_rows: Vec<u32>,
    output: Output,
    schema: SchemaRef,
}

/// When windows with these ends are over, in the milliseconds of watermarks.
pub(crate) fn over_at(ends: &Int64Array, zone: &Zone) -> Vec<i64> {
    ends.values()
        .iter()
        .map(|end| zone.timer(*end).saturating_sub(1))
        .collect()
}

/// The zone in which a window's bounds are local times.
pub(crate) fn zone_of(
    window: &WindowColumns,
    env: &EvaluationEnv,
    context: &OperatorContext,
) -> Result<Zone, OperatorError> {
    match window.local_time {
        true => Zone::named(&env.time_zone).map_err(|message| unsupported(context, message)),
        false => Ok(Zone::utc()),
    }
}

impl WindowJoin {
    /// A join of two inputs.
    pub fn new(
        spec: &WindowJoinSpec,
        operator: &SqlOperator<'_>,
        context: OperatorContext,
    ) -> Result<Self, OperatorError> {
        if !spec.left_window.event_time {
            return Err(unsupported(
                &context,
                "Processing time Window Join is not supported yet.".to_owned(),
            ));
        }
        let half = matches!(spec.kind, JoinKind::Semi | JoinKind::Anti);
        let pairs = Pairs::new(spec.condition.as_ref(), half, operator, &context)?;
        let mut state = keyed_state(&context, key_fields(&operator.inputs[0], &spec.keys.left))?;
        let mut side = |number: usize, name: &str, keys: &[usize], window: WindowColumns| {
            let rows = TimedRows::new(&operator.inputs[number].to_arrow())
                .map_err(|source| arrow_error(&context, source))?;
            let rows = state
                .register_columns(name, rows, None)
                .map_err(|source| state_error(&context, source))?;
            let keys = keys.to_vec();
            Ok::<_, OperatorError>(Side { keys, window, rows })
        };
        let sides = [
            side(0, "left", &spec.keys.left, spec.left_window)?,
            side(1, "right", &spec.keys.right, spec.right_window)?,
        ];
        Ok(Self {
            env: Arc::clone(&operator.env),
            kind: spec.kind,
            zone: zone_of(&spec.left_window, &operator.env, &context)?,
            sides,
            null_safe: spec.keys.null_safe.clone(),
            pairs,
            state,
            pending: None,
            watermarks: InputWatermarks::new(2),
            watermark: i64::MIN,
            firing: false,
            late_rows: 0,
            timers: Vec::new(),
            new_rows: Vec::new(),
            output: Output::default(),
            schema: operator.output.to_arrow(),
            context,
        })
    }

    /// How many rows were dropped because their window was over.
    pub fn late_rows(&self) -> u64 {
        self.late_rows
    }

    fn pass(&mut self) {
        if let Some(watermark) = self.watermarks.take() {
            self.watermark = self.watermark.max(watermark);
            self.firing = true;
        }
    }

    fn keep(&mut self, side: usize, batch: &StreamBatch) -> Result<(), OperatorError> {
        let fail = |source| arrow_error(&self.context, source);
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
        let begun = self
            .state
            .begin_batch(&columns, hashes, (self.env.clock)(), &mut slots);
        begun.map_err(|source| state_error(&self.context, source))?;
        let lonely = unmatched(&columns, &self.null_safe, batch.num_rows());
        let ends = millis(batch.rows.column(own.window.end)).map_err(fail)?;
        let times = over_at(&ends, &self.zone);
        let is_kept = |row: usize| ends.is_valid(row) && times[row] > self.watermark;
        let kept: Vec<usize> = (0..batch.num_rows()).filter(|row| is_kept(*row)).collect();
        self.late_rows += (batch.num_rows() - kept.len()) as u64;
        let written: Vec<Slot> = kept.iter().map(|row| slots[*row]).collect();
        let store = self.state.table(own.rows).write(&written, &mut self.new_rows);
        let encoded = store.codec.encode(batch.rows.columns()).map_err(fail)?;
        for row in &kept {
            let mark = lonely.as_ref().is_some_and(|lonely| lonely[*row]);
            let timed = Timed::new(times[*row], i8::from(mark), encoded.row(*row));
            store.insert(slots[*row], timed);
        }
        let timers = self.state.timers();
        for row in kept {
            let timer = Timer {
                time: times[row],
                slot: slots[row],
                window: None,
            };
            timers.register(TimeDomain::Event, timer);
        }
        self.state
            .end_batch()
            .map_err(|source| state_error(&self.context, source))
    }

    /// Joins the windows that are over, of some keys; whether there may be more.
    fn fire(&mut self) -> Result<bool, OperatorError> {
        self.state.advance_clock((self.env.clock)());
        let mut timers = std::mem::take(&mut self.timers);
        timers.clear();
        let popped = self
            .state
            .pop_timers(TimeDomain::Event, self.watermark, KEYS_AT_A_TIME, &mut timers);
        popped.map_err(|source| state_error(&self.context, source))?;
        let mut due: Vec<(i64, Slot)> = timers.iter().map(|timer| (timer.time, timer.slot)).collect();
        due.sort_unstable();
        due.dedup();
        let mut windows = Vec::with_capacity(due.len());
        for (time, slot) in due {
            let sides = [0, 1].map(|side| self.taken(side, slot, time));
            windows.push(sides);
        }
        self.join(&windows)?;
        let more = !timers.is_empty();
        self.timers = timers;
        self.state
            .end_batch()
            .map_err(|source| state_error(&self.context, source))?;
        Ok(more)
    }

    fn taken(&mut self, side: usize, slot: Slot, time: i64) -> Vec<Timed> {
        let table = self.state.table(self.sides[side].rows);
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

    /// Row by row of one side with all of the other: of the right one for RIGHT, else of the left one.
    fn join(&mut self, windows: &[[Vec<Timed>; 2]]) -> Result<(), OperatorError> {
        let (first, second) = match self.kind {
            JoinKind::Right => (1, 0),
            _ => (0, 1),
        };
        let row = |row: &Timed| Some(Arc::clone(&row.row));
        let pair = |one: &Timed, other: &Timed| match first {
            0 => (row(one), row(other)),
            _ => (row(other), row(one)),
        };
        let mut candidates: Vec<Pair> = Vec::new();
        for window in windows {
            for one in window[first].iter().filter(|row| row.mark == 0) {
                let others = window[second].iter().filter(|row| row.mark == 0);
                candidates.extend(others.map(|other| pair(one, other)));
            }
        }
        let codecs = [0, 1].map(|side| &self.state.peek(self.sides[side].rows).peek().codec);
        let mask = self.pairs.matching(&candidates, codecs, &self.context)?;
        let matches = |place: usize| {
            mask.as_ref()
                .is_none_or(|mask| mask.is_valid(place) && mask.value(place))
        };
        let is_half = matches!(self.kind, JoinKind::Semi | JoinKind::Anti);
        let (mut out, mut place) = (Vec::new(), 0);
        for window in windows {
            let others = &window[second];
            let mut joined = vec![false; others.len()];
            for one in &window[first] {
                let mut any = false;
                let partners = others
                    .iter()
                    .enumerate()
                    .filter(|(_, row)| one.mark == 0 && row.mark == 0);
                for (number, _) in partners {
                    if matches(place) {
                        (any, joined[number]) = (true, true);
                        if !is_half {
                            out.push(candidates[place].clone());
                        }
                    }
                    place += 1;
                }
                let alone = match self.kind {
                    JoinKind::Left | JoinKind::Right | JoinKind::Full | JoinKind::Anti => !any,
                    JoinKind::Semi => any,
                    JoinKind::Inner => false,
                };
                match (alone, first) {
                    (false, _) => {}
                    (true, 0) => out.push((row(one), None)),
                    (true, _) => out.push((None, row(one))),
                }
            }
            if self.kind == JoinKind::Full {
                let lonely = others.iter().zip(joined).filter(|(_, joined)| !joined);
                out.extend(lonely.map(|(other, _)| (None, row(other))));
            }
        }
        let batch = self.pairs.batch(&out, None, codecs);
        self.output
            .push(batch.map_err(|source| arrow_error(&self.context, source))?);
        Ok(())
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

impl Operator for WindowJoin {
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
