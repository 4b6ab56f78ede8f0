//! Rows on their way into the state of their windows.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, UInt32Array, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::Int64Type;
use thalweg_state::{KeyIndex, Slot, TimeDomain, Timer};
use thalweg_types::StreamBatch;
use thalweg_types::key_hash::hash_rows;

use super::super::super::aggregate::Rows;
use super::super::super::group_aggregate::{global_hashes, global_key};
use super::super::super::output::{arrow_error, millis, unsupported};
use super::super::assigner::{Assigner, NoWindow};
use super::super::sessions::{Placement, Sessions};
use super::super::slice_key;
use super::super::zone::Zone;
use super::{WindowAggregate, Windows};
use crate::keyed::{keys_of, state_error};
use crate::{OperatorContext, OperatorError};

/// Where rows go: one entry for each row that isn't dropped.
struct Placed {
    /// Which rows those are; `None`: all.
    kept: Option<UInt32Array>,
    /// What comes behind their keys in the state's key; the last column tells windows apart.
    window_keys: Vec<Int64Array>,
    /// The window that is over first.
    windows: Vec<(i64, i64)>,
    /// How many were late.
    late: usize,
}

impl WindowAggregate {
    /// Folds rows in, between which no watermark lies.
    pub(super) fn add(&mut self, batch: &StreamBatch, signs: Option<&[i8]>) -> Result<(), OperatorError> {
        let times = self.times(batch)?;
        let zone = self.zone.clone();
        let (watermark, domain) = (self.watermark, self.domain);
        let is_over = |end: i64| domain == TimeDomain::Event && zone.timer(end - 1) <= watermark;
        match &self.windows {
            Windows::Sessions { .. } => self.add_to_sessions(batch, signs, &times, is_over),
            Windows::Sliced { assigner, .. } => {
                let placed = placed_in_slices(*assigner, &times, is_over);
                self.add_placed(batch, signs, placed)
            }
            Windows::Attached { start, .. } => {
                let starts = local_millis(&self.context, batch.rows.column(*start))?;
                let placed = placed_as_attached(&starts, &times, is_over);
                self.add_placed(batch, signs, placed)
            }
        }
    }

    /// The local time of each row; of rows that have windows: their ends.
    fn times(&self, batch: &StreamBatch) -> Result<Int64Array, OperatorError> {
        let column = match &self.windows {
            Windows::Attached { end, .. } => return local_millis(&self.context, batch.rows.column(*end)),
            Windows::Sliced { time, .. } | Windows::Sessions { time, .. } => *time,
        };
        if self.domain == TimeDomain::Processing {
            let now = self.zone.to_local((self.env.clock)());
            return Ok(Int64Array::from(vec![now; batch.num_rows()]));
        }
        let times = local_millis(&self.context, batch.rows.column(column))?;
        Ok(times.unary(|time| self.zone.to_local(time)))
    }

    fn add_placed(
        &mut self,
        batch: &StreamBatch,
        signs: Option<&[i8]>,
        placed: Placed,
    ) -> Result<(), OperatorError> {
        self.late_rows += placed.late as u64;
        if placed.windows.is_empty() {
            return Ok(());
        }
        let (columns, signs) = self.kept_rows(batch, signs, placed.kept.as_ref())?;
        let (keys, hashes) = self.keys(batch, placed.kept.as_ref())?;
        self.find_slots(keys, hashes.values(), placed.window_keys)?;
        let slots = std::mem::take(&mut self.slots);
        let done = self.fold(&slots, &columns, signs.as_deref(), |row| placed.windows[row]);
        self.slots = slots;
        done?;
        self.end_batch()
    }

    /// The input's columns and signs of the rows that are kept; columns that no aggregate reads are left as they are.
    fn kept_rows(
        &self,
        batch: &StreamBatch,
        signs: Option<&[i8]>,
        kept: Option<&UInt32Array>,
    ) -> Result<(Vec<ArrayRef>, Option<Vec<i8>>), OperatorError> {
        let mut columns = batch.rows.columns().to_vec();
        let Some(kept) = kept else {
            return Ok((columns, signs.map(<[i8]>::to_vec)));
        };
        for column in &self.used {
            columns[*column] = take(batch.rows.column(*column), kept, None)
                .map_err(|error| arrow_error(&self.context, error))?;
        }
        let signs = signs.map(|signs| kept.values().iter().map(|row| signs[*row as usize]).collect());
        Ok((columns, signs))
    }

    /// The key's columns and hashes of these rows, without windows.
    fn keys(
        &self,
        batch: &StreamBatch,
        rows: Option<&UInt32Array>,
    ) -> Result<(Vec<ArrayRef>, UInt64Array), OperatorError> {
        if self.keys.is_empty() {
            let count = rows.map_or(batch.num_rows(), Array::len);
            return Ok((Vec::new(), global_hashes(count)));
        }
        let (keys, hashes) = keys_of(&self.context, batch, &self.keys)?;
        let Some(rows) = rows else {
            return Ok((keys, hashes.clone()));
        };
        let taken: Result<Vec<ArrayRef>, _> = keys.iter().map(|key| take(key, rows, None)).collect();
        let taken = taken.map_err(|error| arrow_error(&self.context, error))?;
        let hashes = rows.values().iter().map(|row| hashes.value(*row as usize));
        Ok((taken, UInt64Array::from_iter_values(hashes)))
    }

    fn find_slots(
        &mut self,
        mut keys: Vec<ArrayRef>,
        hashes: &[u64],
        window_keys: Vec<Int64Array>,
    ) -> Result<(), OperatorError> {
        let Some(last) = window_keys.last() else {
            return Ok(());
        };
        let windows = last.values().iter().copied();
        let hashes = slice_key::hashes(hashes, windows, self.context.max_parallelism);
        keys.extend(window_keys.into_iter().map(|column| Arc::new(column) as ArrayRef));
        let now = (self.env.clock)();
        self.state
            .begin_batch(&keys, &hashes, now, &mut self.slots)
            .map_err(|source| state_error(&self.context, source))
    }

    /// Folds rows into their slots; a slot that is new gets a timer at the end of its window.
    fn fold(
        &mut self,
        slots: &[Slot],
        columns: &[ArrayRef],
        signs: Option<&[i8]>,
        window: impl Fn(usize) -> (i64, i64),
    ) -> Result<(), OperatorError> {
        self.uniques.find(slots);
        let unique = self.uniques.slots();
        let known = self.groups.have_rows(&mut self.state, unique);
        let updated = self
            .groups
            .update(&mut self.state, unique, Rows { slots, signs }, columns);
        updated.map_err(|error| error.of(&self.context))?;
        let first_rows = self.uniques.first_rows();
        for ((slot, row), known) in unique.iter().zip(first_rows).zip(known) {
            if !known {
                let window = window(*row as usize);
                let timer = timer(&self.zone, *slot, window);
                self.state.timers().register(self.domain, timer);
            }
        }
        Ok(())
    }

    fn end_batch(&mut self) -> Result<(), OperatorError> {
        self.state
            .end_batch()
            .map_err(|source| state_error(&self.context, source))
    }

    fn add_to_sessions(
        &mut self,
        batch: &StreamBatch,
        signs: Option<&[i8]>,
        times: &Int64Array,
        is_over: impl Fn(i64) -> bool,
    ) -> Result<(), OperatorError> {
        let (keys, hashes) = self.keys(batch, None)?;
        let Windows::Sessions { sessions, index, .. } = &mut self.windows else {
            return Ok(());
        };
        let numbers = key_numbers(&self.context, sessions, index, &keys, &hashes)?;
        let placement = sessions.place(&numbers, times.values().iter().copied(), is_over);
        for number in &numbers {
            if sessions.is_empty(*number) {
                index.remove(*number);
            }
        }
        let late = placement.rows.iter().filter(|place| place.is_none()).count();
        self.late_rows += late as u64;
        if placement.touched.is_empty() {
            return Ok(());
        }
        let session_slots = self.session_slots(batch, &placement)?;
        self.change_sessions(&placement, &session_slots)?;
        let kept = (0..).zip(&placement.rows).filter(|(_, place)| place.is_some());
        let kept: UInt32Array = kept.map(|(row, _)| row).collect::<Vec<u32>>().into();
        let kept = (late > 0).then_some(kept);
        let (columns, signs) = self.kept_rows(batch, signs, kept.as_ref())?;
        let places = placement.rows.iter().flatten();
        let slots: Vec<Slot> = places
            .map(|place| session_slots[placement.resolve(*place) as usize])
            .collect();
        // Timers are registered already.
        self.uniques.find(&slots);
        let rows = Rows {
            slots: &slots,
            signs: signs.as_deref(),
        };
        let updated = self
            .groups
            .update(&mut self.state, self.uniques.slots(), rows, &columns);
        updated.map_err(|error| error.of(&self.context))?;
        self.end_batch()
    }

    /// The slot of each touched session.
    fn session_slots(
        &mut self,
        batch: &StreamBatch,
        placement: &Placement,
    ) -> Result<Vec<Slot>, OperatorError> {
        let touched = placement.touched.iter();
        let rows = UInt32Array::from_iter_values(touched.clone().map(|touched| touched.row));
        let (keys, hashes) = self.keys(batch, Some(&rows))?;
        let ids = Int64Array::from_iter_values(touched.map(|touched| touched.id));
        self.find_slots(keys, hashes.values(), vec![ids])?;
        Ok(self.slots.clone())
    }

    /// Merges sessions, and moves timers to where sessions end now.
    fn change_sessions(&mut self, placement: &Placement, slots: &[Slot]) -> Result<(), OperatorError> {
        for (absorbed, target) in &placement.merges {
            let (from, into) = (slots[*absorbed as usize], slots[*target as usize]);
            let absorbed = self.groups.absorb(&mut self.state, &[from], &[into]);
            absorbed.map_err(|error| error.of(&self.context))?;
        }
        for (touched, slot) in placement.touched.iter().zip(slots) {
            let now = touched.absorbed_by.is_none().then_some(touched.now);
            if touched.before == now {
                continue;
            }
            if let Some(before) = touched.before {
                let timer = timer(&self.zone, *slot, before);
                self.state.timers().delete(self.domain, timer);
            }
            if let Some(now) = now {
                let timer = timer(&self.zone, *slot, now);
                self.state.timers().register(self.domain, timer);
            }
        }
        Ok(())
    }

    /// Finds the sessions that a checkpoint had.
    pub(super) fn restore_sessions(&mut self) -> Result<(), OperatorError> {
        let Windows::Sessions { sessions, index, .. } = &mut self.windows else {
            return Ok(());
        };
        let timers: Vec<Timer> = self.state.timers().of(self.domain).collect();
        for timers in timers.chunks(8192) {
            let slots: Vec<Slot> = timers.iter().map(|timer| timer.slot).collect();
            let mut keys = self
                .state
                .keys(&slots)
                .map_err(|source| state_error(&self.context, source))?;
            let Some(ids) = keys.pop() else { continue };
            let hashes = key_hashes(&self.context, &keys, slots.len())?;
            let numbers = key_numbers(&self.context, sessions, index, &keys, &hashes)?;
            let ids = local_ids(&self.context, &ids)?;
            for ((timer, number), id) in timers.iter().zip(numbers).zip(ids.values()) {
                if let Some(window) = timer.window {
                    sessions.restore(number, *id, window);
                }
            }
        }
        Ok(())
    }
}

/// The timer of a slot whose next window this is.
pub(super) fn timer(zone: &Zone, slot: Slot, window: (i64, i64)) -> Timer {
    Timer {
        time: zone.timer(window.1 - 1),
        slot,
        window: Some(window),
    }
}

/// Times in milliseconds; a null is an error.
fn local_millis(context: &OperatorContext, column: &ArrayRef) -> Result<Int64Array, OperatorError> {
    if column.null_count() > 0 {
        return Err(OperatorError::Value {
            operator: context.operator_name.to_string(),
            message: "RowTime field should not be null, please convert it to a non-null long value."
                .to_owned(),
        });
    }
    millis(column).map_err(|error| arrow_error(context, error))
}

/// A BIGINT column of the state's key.
pub(super) fn local_ids(context: &OperatorContext, column: &ArrayRef) -> Result<Int64Array, OperatorError> {
    let ids = column.as_primitive_opt::<Int64Type>();
    ids.cloned()
        .ok_or_else(|| unsupported(context, format!("windows are kept as {}", column.data_type())))
}

/// The hashes of keys without windows.
pub(super) fn key_hashes(
    context: &OperatorContext,
    keys: &[ArrayRef],
    rows: usize,
) -> Result<UInt64Array, OperatorError> {
    if keys.is_empty() {
        return Ok(global_hashes(rows));
    }
    let mut hashes = Vec::with_capacity(rows);
    hash_rows(keys, &mut hashes).map_err(|error| unsupported(context, error.to_string()))?;
    Ok(hashes.into())
}

/// The number of each row's key among those that have sessions.
pub(super) fn key_numbers(
    context: &OperatorContext,
    sessions: &mut Sessions,
    index: &mut KeyIndex,
    keys: &[ArrayRef],
    hashes: &UInt64Array,
) -> Result<Vec<Slot>, OperatorError> {
    let (mut numbers, mut new_rows) = (Vec::new(), Vec::new());
    let global;
    let keys = match keys.is_empty() {
        true => {
            global = [global_key(hashes.len())];
            &global
        }
        false => keys,
    };
    index
        .slots(keys, hashes, &mut numbers, &mut new_rows)
        .map_err(|error| unsupported(context, error.to_string()))?;
    sessions.resize(index.slot_count());
    Ok(numbers)
}

/// The window of a slice that is over first.
type Found = Result<(i64, i64), NoWindow>;

fn placed_in_slices(assigner: Assigner, times: &Int64Array, is_over: impl Fn(i64) -> bool) -> Placed {
    let mut kept = Vec::with_capacity(times.len());
    let mut ends = Vec::with_capacity(times.len());
    let mut windows = Vec::with_capacity(times.len());
    let mut late = 0;
    // Rows that are next to each other are mostly in the same slice.
    let mut last: Option<(i64, Found)> = None;
    for (row, time) in times.values().iter().enumerate() {
        let end = assigner.slice_end(*time);
        let window = match last {
            Some((known, window)) if known == end => window,
            _ => assigner.open_window(end, &is_over),
        };
        last = Some((end, window));
        match window {
            Ok(window) => {
                kept.push(row as u32);
                ends.push(end);
                windows.push(window);
            }
            Err(NoWindow::Late) => late += 1,
            Err(NoWindow::Between) => {}
        }
    }
    Placed {
        kept: (kept.len() < times.len()).then(|| kept.into()),
        window_keys: vec![ends.into()],
        windows,
        late,
    }
}

fn placed_as_attached(starts: &Int64Array, ends: &Int64Array, is_over: impl Fn(i64) -> bool) -> Placed {
    let mut kept = Vec::with_capacity(ends.len());
    let mut windows = Vec::with_capacity(ends.len());
    let mut last: Option<(i64, bool)> = None;
    for (row, (start, end)) in starts.values().iter().zip(ends.values()).enumerate() {
        let over = match last {
            Some((known, over)) if known == *end => over,
            _ => is_over(*end),
        };
        last = Some((*end, over));
        if !over {
            kept.push(row as u32);
            windows.push((*start, *end));
        }
    }
    let late = ends.len() - kept.len();
    let column = |bound: fn(&(i64, i64)) -> i64| Int64Array::from_iter_values(windows.iter().map(bound));
    Placed {
        window_keys: vec![column(|window| window.0), column(|window| window.1)],
        kept: (late > 0).then(|| kept.into()),
        windows,
        late,
    }
}
