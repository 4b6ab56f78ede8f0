//! OVER: each row with aggregates of the rows before it. Flink's OverAggregate functions.
//!
//! ```text
//!   rowtime:  rows --wait, by key--> watermark passes their time --> in the order of time, then of arrival  --+
//!   proctime: rows ---------------------------------------------------------------------------------------+--> accumulators
//!             (RANGE of an interval: when the clock has passed their millisecond)                              |
//!   RANGE: rows that left the frame are taken back, all rows of a time are added, and have one result      <--+
//!   ROWS:  row by row: the one that leaves the frame is taken back, the next is added
//! ```
//!
//! A row is late, and dropped and counted, if the watermark has passed its time; if all frames are bounded, as in Flink only if the last row
//! that was put out of its key isn't before it, or the epoch, if there is none. State: "rows" ([`buffer`]) and for each frame
//! "accumulators", by the key; list "watermark". Invariant: behind the rows of a time, the accumulators of a bounded frame hold the rows of
//! the history that are in the frame of the last of them.

mod buffer;
mod frames;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, Int64Array, UInt32Array};
use arrow::compute::{interleave, take};
use arrow::datatypes::SchemaRef;
use thalweg_functions::EvaluationEnv;
use thalweg_plan::data_type::TimeKind;
use thalweg_plan::spec::{AggregateCall, Frame, OverAggregateSpec};
use thalweg_state::{
    ColumnHandle, KeyedState, OperatorSnapshot, RestoredState, Slot, SnapshotRequest, StateTtl, TimeDomain,
    Timer,
};
use thalweg_types::StreamBatch;

use super::SqlOperator;
use super::aggregate::{Grouped, GroupedError, Rows};
use super::group_aggregate::{Uniques, global_hashes, global_key, key_fields};
use super::output::{Output, millis, record_batch, restored_watermark, unsupported, watermark_list};
use crate::keyed::{keyed_state, keys_of, state_error};
use crate::{Operator, OperatorContext, OperatorError, OutputLimit};
use buffer::{Buffer, Kept};
use frames::{BY_PLACE, effective, in_frame, is_bounded, is_left, nth_last};

/// The table of rows.
const TABLE: &str = "rows";
/// Keys worked off at a time.
const KEYS_AT_A_TIME: usize = 4096;
/// The namespace of timers that end a key's history.
const CLEANUP: (i64, i64) = (0, 0);

/// A frame and the functions over it.
struct Framed {
    frame: Frame,
    groups: Grouped,
    calls: usize,
}

/// Rows that are worked off together, in the order of output.
struct Due {
    time: i64,
    slots: Vec<Slot>,
    rows: Vec<Kept>,
    columns: Vec<ArrayRef>,
}

/// A batch that is worked off.
struct Pending {
    batch: StreamBatch,
    next_row: usize,
    next_cut: usize,
}

/// [`thalweg_plan::NodeSpec::OverAggregate`].
pub struct OverAggregate {
    context: OperatorContext,
    env: Arc<EvaluationEnv>,
    partition: Vec<usize>,
    time: usize,
    /// Rows wait for this clock; `None`: they don't.
    waits: Option<TimeDomain>,
    state: KeyedState,
    rows: ColumnHandle<Buffer>,
    frames: Vec<Framed>,
    schema: SchemaRef,
    watermark: i64,
    late_rows: u64,
    slots: Vec<Slot>,
    uniques: Uniques,
    new_rows: Vec<u32>,
    timers: Vec<Timer>,
    pending: Option<Pending>,
    /// Until when rows are due, and the watermark behind them.
    firing: Option<(i64, Option<i64>)>,
    next_processing_time: Option<i64>,
    output: Output,
}

impl OverAggregate {
    /// An operator; refuses orders that are not by a time attribute alone, and functions that it can't compute.
    pub fn new(
        spec: &OverAggregateSpec,
        operator: &SqlOperator<'_>,
        context: OperatorContext,
    ) -> Result<Self, OperatorError> {
        let input = &operator.inputs[0];
        let not_by_time = || {
            unsupported(
                &context,
                "OVER windows' ordering in stream mode must be defined on a time attribute.".to_owned(),
            )
        };
        let [order] = spec.order.as_slice() else {
            return Err(not_by_time());
        };
        let kind = input.fields[order.column].data_type.time_kind();
        if kind == TimeKind::Regular || order.descending {
            return Err(not_by_time());
        }
        let is_interval = |frame: &Frame| matches!(frame, Frame::Range(Some(_)));
        let waits = match kind {
            TimeKind::Proctime if spec.groups.iter().any(|(frame, _)| is_interval(frame)) => {
                Some(TimeDomain::Processing)
            }
            TimeKind::Proctime => None,
            _ => Some(TimeDomain::Event),
        };
        let ttl = (spec.state_ttl_ms > 0).then(|| StateTtl::new(Duration::from_millis(spec.state_ttl_ms)));
        let mut state = keyed_state(&context, key_fields(input, &spec.partition))?;
        let buffer =
            Buffer::new(&input.to_arrow()).map_err(|error| unsupported(&context, error.to_string()))?;
        let rows = state
            .register_columns(TABLE, buffer, ttl)
            .map_err(|source| state_error(&context, source))?;
        let mut frames = Vec::new();
        for (number, (frame, calls)) in spec.groups.iter().enumerate() {
            let suffix = if number == 0 {
                String::new()
            } else {
                format!("#{}", number + 1)
            };
            // Functions of a row's place count all rows before it, whatever the frame is called.
            let by_place = |call: &AggregateCall| BY_PLACE.contains(&call.function.as_str());
            let frame = match (calls.iter().all(by_place), calls.iter().any(by_place), *frame) {
                (true, ..) => Frame::Rows(None),
                (_, true, frame) if frame != Frame::Rows(None) => {
                    let message = "ROW_NUMBER, RANK, DENSE_RANK and LAG have no frame".to_owned();
                    return Err(unsupported(&context, message));
                }
                (.., frame) => frame,
            };
            let order = (order.column, &input.fields[order.column].data_type);
            let calls: Vec<AggregateCall> = calls.iter().map(|call| in_frame(call, frame, order)).collect();
            let groups = Grouped::register(
                &mut state,
                &suffix,
                &calls,
                calls.iter().any(|call| call.retracts),
                input,
                ttl,
            );
            frames.push(Framed {
                frame: effective(frame, waits),
                groups: groups.map_err(|error| error.of(&context))?,
                calls: calls.len(),
            });
        }
        Ok(Self {
            env: Arc::clone(&operator.env),
            partition: spec.partition.clone(),
            time: order.column,
            waits,
            state,
            rows,
            frames,
            schema: operator.output.to_arrow(),
            watermark: i64::MIN,
            late_rows: 0,
            slots: Vec::new(),
            uniques: Uniques::default(),
            new_rows: Vec::new(),
            timers: Vec::new(),
            pending: None,
            firing: None,
            next_processing_time: None,
            output: Output::default(),
            context,
        })
    }

    /// How many rows were dropped because the watermark had passed them.
    pub fn late_rows(&self) -> u64 {
        self.late_rows
    }

    fn advance(&mut self) -> Result<(), OperatorError> {
        let Some(mut pending) = self.pending.take() else {
            return Ok(());
        };
        let cut = pending.batch.watermarks.get(pending.next_cut).copied();
        let end = cut.map_or(pending.batch.num_rows(), |cut| cut.row as usize);
        if pending.next_row < end {
            let piece = pending.batch.slice(pending.next_row, end - pending.next_row);
            pending.next_row = end;
            let added = self.add(&piece);
            added.map_err(|error| error.of(&self.context))?;
        } else if let Some(cut) = cut {
            pending.next_cut += 1;
            if cut.timestamp_ms > self.watermark {
                self.watermark = cut.timestamp_ms;
                let is_event = self.waits == Some(TimeDomain::Event);
                let until = if is_event { self.watermark } else { i64::MIN };
                self.firing = Some((until, Some(self.watermark)));
            }
        } else {
            return Ok(());
        }
        self.pending = Some(pending);
        Ok(())
    }

    /// Takes rows in; those that don't wait are put out.
    fn add(&mut self, batch: &StreamBatch) -> Result<(), GroupedError> {
        self.find_slots(batch)?;
        let slots = std::mem::take(&mut self.slots);
        let Some((rows, times)) = self.in_time(batch, &slots)? else {
            self.slots = slots;
            return Ok(self.state.end_batch()?);
        };
        let taken = |column: &ArrayRef| match &rows {
            Some(rows) => take(column, rows, None),
            None => Ok(Arc::clone(column)),
        };
        let columns: Vec<ArrayRef> = batch.rows.columns().iter().map(taken).collect::<Result<_, _>>()?;
        let slots = match &rows {
            Some(rows) => rows.values().iter().map(|row| slots[*row as usize]).collect(),
            None => slots,
        };
        self.uniques.find(&slots);
        let kept = self
            .state
            .peek(self.rows)
            .peek()
            .encode(&columns, times.values().iter().copied())?;
        match self.waits {
            Some(domain) => {
                let table = self
                    .state
                    .table(self.rows)
                    .write(self.uniques.slots(), &mut self.new_rows);
                for (slot, kept) in slots.iter().zip(kept) {
                    let timer = Timer {
                        time: kept.time,
                        slot: *slot,
                        window: None,
                    };
                    table.push(*slot, kept);
                    self.timers.push(timer);
                }
                let timers = self.state.timers();
                self.timers
                    .drain(..)
                    .for_each(|timer| timers.register(domain, timer));
                self.slots = slots;
            }
            None => self.work_off(Due {
                time: times.values().first().copied().unwrap_or_default(),
                slots,
                rows: kept,
                columns,
            })?,
        }
        Ok(self.state.end_batch()?)
    }

    /// The rows that are not late (`None`: all), and their times. `None` if all are late.
    fn in_time(
        &mut self,
        batch: &StreamBatch,
        slots: &[Slot],
    ) -> Result<Option<(Option<UInt32Array>, Int64Array)>, GroupedError> {
        if self.waits != Some(TimeDomain::Event) {
            let now = (self.env.clock)();
            return Ok(Some((None, Int64Array::from(vec![now; batch.num_rows()]))));
        }
        let times = millis(batch.rows.column(self.time))?;
        let all_bounded = self.frames.iter().all(|framed| is_bounded(framed.frame));
        let rows = self.state.peek(self.rows);
        let passed = |slot: Slot| match all_bounded {
            true if rows.has(slot) => rows.peek().history(slot).back().map_or(0, |last| last.time),
            true => 0,
            false => self.watermark,
        };
        let is_kept = |row: usize| times.is_valid(row) && times.value(row) > passed(slots[row]);
        let kept: Vec<u32> = (0..times.len())
            .filter(|row| is_kept(*row))
            .map(|row| row as u32)
            .collect();
        self.late_rows += (times.len() - kept.len()) as u64;
        if kept.is_empty() {
            return Ok(None);
        }
        if kept.len() == times.len() {
            return Ok(Some((None, times)));
        }
        let in_time = kept.iter().map(|row| times.value(*row as usize));
        let in_time = Int64Array::from_iter_values(in_time);
        Ok(Some((Some(kept.into()), in_time)))
    }

    fn find_slots(&mut self, batch: &StreamBatch) -> Result<(), GroupedError> {
        let global;
        let (keys, hashes) = match self.partition.is_empty() {
            true => {
                global = global_hashes(batch.num_rows());
                (vec![global_key(batch.num_rows())], &global)
            }
            false => keys_of(&self.context, batch, &self.partition)?,
        };
        let now = (self.env.clock)();
        Ok(self.state.begin_batch(&keys, hashes, now, &mut self.slots)?)
    }

    /// The rows of the next time that is due; whether there are any.
    fn fire(&mut self, until: i64) -> Result<bool, GroupedError> {
        let Some(domain) = self.waits else {
            return Ok(false);
        };
        self.state.advance_clock((self.env.clock)());
        let mut timers = std::mem::take(&mut self.timers);
        self.state
            .pop_timers(domain, until, KEYS_AT_A_TIME, &mut timers)?;
        let any = !timers.is_empty();
        if let Some(time) = timers.first().map(|timer| timer.time) {
            let due = timers
                .iter()
                .filter(|timer| timer.window.is_none())
                .map(|timer| timer.slot);
            let due: Vec<Slot> = due.collect();
            let table = self.state.table(self.rows).write(&due, &mut self.new_rows);
            let (mut slots, mut rows) = (Vec::new(), Vec::new());
            for slot in &due {
                for kept in table.take(*slot, time) {
                    slots.push(*slot);
                    rows.push(kept);
                }
            }
            let columns = table.decode(rows.iter())?;
            if !rows.is_empty() {
                self.work_off(Due {
                    time,
                    slots,
                    rows,
                    columns,
                })?;
            }
            let table = self.state.peek(self.rows).peek();
            let empty: Vec<Slot> = due
                .iter()
                .filter(|slot| table.is_empty(**slot))
                .copied()
                .collect();
            self.state.table(self.rows).clear(&empty);
            let over = timers
                .iter()
                .filter(|timer| timer.window == Some(CLEANUP))
                .map(|timer| timer.slot);
            let over: Vec<Slot> = over.collect();
            self.clean_up(&over, time)?;
            self.state.end_batch()?;
        }
        timers.clear();
        self.timers = timers;
        Ok(any)
    }

    /// Computes the results of rows, puts them out and remembers what later frames need.
    fn work_off(&mut self, due: Due) -> Result<(), GroupedError> {
        let mut frames = std::mem::take(&mut self.frames);
        let mut columns = due.columns.clone();
        for framed in &mut frames {
            let results = match framed.frame {
                Frame::Range(interval) => self.range(framed, interval, &due),
                Frame::Rows(preceding) => self.by_row(framed, preceding, &due),
            };
            columns.extend(results?);
        }
        self.frames = frames;
        let rows = record_batch(&self.schema, columns, due.rows.len())?;
        self.output.push(StreamBatch::new(rows));
        self.remember(due);
        Ok(())
    }

    /// All rows of the time are added; each has their result.
    fn range(
        &mut self,
        framed: &mut Framed,
        interval: Option<u64>,
        due: &Due,
    ) -> Result<Vec<ArrayRef>, GroupedError> {
        self.uniques.find(&due.slots);
        if let Some(interval) = interval {
            let (slots, gone) = self.left(self.uniques.slots(), interval, due.time);
            self.take_back(framed, &slots, &gone)?;
        }
        let unique = self.uniques.slots();
        let rows = Rows {
            slots: &due.slots,
            signs: None,
        };
        framed
            .groups
            .update(&mut self.state, unique, rows, &due.columns)?;
        let (_, results) = framed.groups.results(&mut self.state, unique)?;
        let places = UInt32Array::from(self.uniques.groups().to_vec());
        let spread = results.iter().map(|result| take(result, &places, None));
        Ok(spread.collect::<Result<_, _>>()?)
    }

    /// The rows that were in the frame of the history's last row and are in none of `time`.
    fn left(&self, slots: &[Slot], interval: u64, time: i64) -> (Vec<Slot>, Vec<Kept>) {
        let (mut owners, mut gone) = (Vec::new(), Vec::new());
        let table = self.state.peek(self.rows).peek();
        for slot in slots {
            let history = table.history(*slot);
            let Some(last) = history.back() else { continue };
            let bound = |time: i64| time.saturating_sub_unsigned(interval);
            let was_in = |kept: &&Kept| kept.time >= bound(last.time);
            for kept in history
                .iter()
                .filter(was_in)
                .take_while(|kept| kept.time < bound(time))
            {
                owners.push(*slot);
                gone.push(kept.clone());
            }
        }
        (owners, gone)
    }

    fn take_back(&mut self, framed: &mut Framed, slots: &[Slot], gone: &[Kept]) -> Result<(), GroupedError> {
        if gone.is_empty() {
            return Ok(());
        }
        let columns = self.state.peek(self.rows).peek().decode(gone.iter())?;
        let mut unique = slots.to_vec();
        unique.sort_unstable();
        unique.dedup();
        let signs = vec![-1; gone.len()];
        let rows = Rows {
            slots,
            signs: Some(&signs),
        };
        framed.groups.update(&mut self.state, &unique, rows, &columns)
    }

    /// Row by row of each key.
    fn by_row(
        &mut self,
        framed: &mut Framed,
        preceding: Option<u64>,
        due: &Due,
    ) -> Result<Vec<ArrayRef>, GroupedError> {
        let mut results: Vec<Vec<ArrayRef>> = Vec::new();
        let mut places = vec![(0, 0); due.slots.len()];
        let rounds = self.uniques.rounds(&due.slots);
        // The rows of each key that earlier rounds have added.
        let mut added: std::collections::HashMap<Slot, Vec<u32>> = std::collections::HashMap::new();
        for (round, rows) in rounds.into_iter().enumerate() {
            let slots: Vec<Slot> = rows.iter().map(|row| due.slots[*row as usize]).collect();
            if let Some(preceding) = preceding {
                let table = self.state.peek(self.rows).peek();
                let leaves = |slot: &Slot| {
                    let new = added.get(slot).map_or(&[][..], Vec::as_slice);
                    nth_last(table.history(*slot), new, due, preceding)
                };
                let leaving: Vec<(Slot, Kept)> = slots
                    .iter()
                    .filter_map(|slot| Some((*slot, leaves(slot)?)))
                    .collect();
                let (owners, gone): (Vec<Slot>, Vec<Kept>) = leaving.into_iter().unzip();
                self.take_back(framed, &owners, &gone)?;
                for (slot, row) in slots.iter().zip(&rows) {
                    added.entry(*slot).or_default().push(*row);
                }
            }
            for (place, row) in rows.iter().enumerate() {
                places[*row as usize] = (round, place);
            }
            let rows = UInt32Array::from(rows);
            let columns = due.columns.iter().map(|column| take(column, &rows, None));
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            let rows = Rows {
                slots: &slots,
                signs: None,
            };
            framed.groups.update(&mut self.state, &slots, rows, &columns)?;
            results.push(framed.groups.results(&mut self.state, &slots)?.1);
        }
        let column = |call: usize| {
            let rounds: Vec<&dyn Array> = results.iter().map(|results| results[call].as_ref()).collect();
            interleave(&rounds, &places)
        };
        Ok((0..framed.calls).map(column).collect::<Result<_, _>>()?)
    }

    /// Keeps the rows that frames of later ones may take back, and no others.
    fn remember(&mut self, due: Due) {
        let bounded = |framed: &Framed| !matches!(framed.frame, Frame::Rows(None) | Frame::Range(None));
        if !self.frames.iter().any(bounded) {
            return;
        }
        self.uniques.find(&due.slots);
        let table = self
            .state
            .table(self.rows)
            .write(self.uniques.slots(), &mut self.new_rows);
        for (slot, kept) in due.slots.iter().zip(due.rows) {
            table.remember(*slot, kept);
        }
        let frames: Vec<Frame> = self.frames.iter().map(|framed| framed.frame).collect();
        for slot in self.uniques.slots() {
            table.forget(*slot, |kept, behind| {
                frames.iter().all(|frame| is_left(*frame, kept, behind, due.time))
            });
        }
        let only_intervals = frames.iter().all(|frame| matches!(frame, Frame::Range(Some(_))));
        let longest = frames.iter().filter_map(|frame| match frame {
            Frame::Range(interval) => *interval,
            Frame::Rows(_) => None,
        });
        if let (true, Some(longest), Some(domain)) = (only_intervals, longest.max(), self.waits) {
            // As in Flink the history goes some time after it is needed last, so that not each row moves the timer.
            let time = due
                .time
                .saturating_add_unsigned(longest.saturating_add(longest / 2))
                .saturating_add(1);
            for slot in self.uniques.slots() {
                let timer = Timer {
                    time,
                    slot: *slot,
                    window: Some(CLEANUP),
                };
                self.state.timers().register(domain, timer);
            }
        }
    }

    /// Forgets keys of which no row is in the frame of a later one.
    fn clean_up(&mut self, slots: &[Slot], time: i64) -> Result<(), GroupedError> {
        let longest = self.frames.iter().filter_map(|framed| match framed.frame {
            Frame::Range(interval) => interval,
            Frame::Rows(_) => None,
        });
        let Some(longest) = longest.max() else {
            return Ok(());
        };
        let bound = time.saturating_sub_unsigned(longest);
        let table = self.state.peek(self.rows).peek();
        let is_over = |slot: &&Slot| {
            let last = table.history(**slot).back();
            last.is_some_and(|last| last.time < bound) && !table.is_waiting(**slot)
        };
        let over: Vec<Slot> = slots.iter().filter(is_over).copied().collect();
        if over.is_empty() {
            return Ok(());
        }
        self.state.table(self.rows).clear(&over);
        for framed in &mut self.frames {
            framed.groups.clear(&mut self.state, &over)?;
        }
        Ok(())
    }

    fn find_next_processing_time(&mut self) {
        let next = self.state.timers().next_time(TimeDomain::Processing);
        self.next_processing_time = next.map(|time| time.saturating_add(1));
    }
}

impl Operator for OverAggregate {
    fn push(&mut self, _input: usize, batch: StreamBatch) -> Result<(), OperatorError> {
        self.pending = Some(Pending {
            batch,
            next_row: 0,
            next_cut: 0,
        });
        Ok(())
    }

    fn poll_output(&mut self, limit: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        loop {
            if let Some(piece) = self.output.pop(limit) {
                return Ok(Some(piece));
            }
            if let Some((until, watermark)) = self.firing {
                let fired = self.fire(until).map_err(|error| error.of(&self.context))?;
                if !fired {
                    self.firing = None;
                    if let Some(watermark) = watermark {
                        self.output.push_watermark(&self.schema, watermark);
                    }
                }
            } else if self.pending.is_some() {
                self.advance()?;
            } else {
                self.find_next_processing_time();
                return Ok(None);
            }
        }
    }

    fn next_processing_time(&self) -> Option<i64> {
        self.next_processing_time
    }

    fn on_processing_time(&mut self, now_ms: i64) -> Result<(), OperatorError> {
        if self.waits == Some(TimeDomain::Processing) {
            self.firing = Some((now_ms.saturating_sub(1), None));
        }
        Ok(())
    }

    fn restore(&mut self, state: &mut RestoredState) -> Result<(), OperatorError> {
        self.watermark = restored_watermark(state);
        let restored = self.state.restore(state, (self.env.clock)());
        restored.map_err(|source| state_error(&self.context, source))?;
        self.find_next_processing_time();
        Ok(())
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
