//! Windows that are over on their way out.

use arrow::array::{ArrayRef, BooleanArray, Int64Array, UInt32Array};
use arrow::compute::{filter, take};
use arrow::datatypes::DataType;
use thalweg_plan::spec::WindowProperty;
use thalweg_state::{Slot, Timer};
use thalweg_types::StreamBatch;

use super::super::super::output::{arrow_error, of_millis, record_batch, unsupported};
use super::placing::{key_hashes, key_numbers, local_ids, timer};
use super::{WindowAggregate, Windows};
use crate::OperatorError;
use crate::keyed::state_error;

/// Windows put out at a time where each is a row of state.
const WINDOWS_AT_A_TIME: usize = 8192;

/// Slices of one window, by key.
struct Slices {
    slots: Vec<Slot>,
    ends: Int64Array,
    /// The group of each slice.
    groups: Vec<Slot>,
    /// The first slice of each group.
    first: UInt32Array,
    /// The keys of the groups.
    keys: Vec<ArrayRef>,
    /// All have it.
    window: (i64, i64),
}

impl WindowAggregate {
    /// Puts out the next windows that are over at `until`. Whether there were any.
    pub(super) fn fire_window(&mut self, until: i64) -> Result<bool, OperatorError> {
        let (shares, cumulates) = match &self.windows {
            Windows::Sliced { assigner, .. } => (assigner.shares_slices(), assigner.cumulates()),
            _ => (false, false),
        };
        let most = if shares || cumulates {
            usize::MAX
        } else {
            WINDOWS_AT_A_TIME
        };
        self.state.advance_clock((self.env.clock)());
        let mut timers = std::mem::take(&mut self.timers);
        self.state
            .pop_timers(self.domain, until, most, &mut timers)
            .map_err(|source| state_error(&self.context, source))?;
        if !timers.is_empty() {
            match (shares, cumulates) {
                (true, _) => self.fire_shared(&timers)?,
                (_, true) => self.fire_cumulated(&timers)?,
                _ => self.fire_each(&timers)?,
            }
            let ended = self.state.end_batch();
            ended.map_err(|source| state_error(&self.context, source))?;
        }
        let any = !timers.is_empty();
        self.timers = timers;
        Ok(any)
    }

    /// Each row of state is a window.
    fn fire_each(&mut self, timers: &[Timer]) -> Result<(), OperatorError> {
        let slots: Vec<Slot> = timers.iter().map(|timer| timer.slot).collect();
        let windows: Vec<(i64, i64)> = timers.iter().filter_map(|timer| timer.window).collect();
        let mut keys = self.keys_of_slots(&slots)?;
        let mut window_keys = keys.split_off(keys.len() - self.windows.key_columns());
        let results = self.groups.results(&mut self.state, &slots);
        let (there, results) = results.map_err(|error| error.of(&self.context))?;
        self.emit(keys.clone(), results, &windows, &there)?;
        let cleared = self.groups.clear(&mut self.state, &slots);
        cleared.map_err(|error| error.of(&self.context))?;
        if let (Windows::Sessions { .. }, Some(ids)) = (&self.windows, window_keys.pop()) {
            self.forget_sessions(&keys, &ids)?;
        }
        Ok(())
    }

    fn forget_sessions(&mut self, keys: &[ArrayRef], ids: &ArrayRef) -> Result<(), OperatorError> {
        let ids = local_ids(&self.context, ids)?;
        let hashes = key_hashes(&self.context, keys, ids.len())?;
        let Windows::Sessions { sessions, index, .. } = &mut self.windows else {
            return Ok(());
        };
        let numbers = key_numbers(&self.context, sessions, index, keys, &hashes)?;
        for (number, id) in numbers.iter().zip(ids.values()) {
            sessions.remove(*number, *id);
        }
        for number in numbers {
            if sessions.is_empty(number) {
                index.remove(number);
            }
        }
        Ok(())
    }

    /// HOP: the slices of a key together are its window. They stay as long as the next one needs them.
    fn fire_shared(&mut self, timers: &[Timer]) -> Result<(), OperatorError> {
        let slices = self.slices(timers)?;
        let combined =
            self.groups
                .combined(&mut self.state, &slices.slots, &slices.groups, slices.first.len());
        let (there, results) = combined.map_err(|error| error.of(&self.context))?;
        let windows = vec![slices.window; slices.first.len()];
        self.emit(slices.keys, results, &windows, &there)?;
        let ends = slices.ends.values().iter().copied();
        self.go_on(slices.slots.iter().copied().zip(ends), slices.window)
    }

    /// CUMULATE: the slices of a key become one, which is its window and part of the next.
    fn fire_cumulated(&mut self, timers: &[Timer]) -> Result<(), OperatorError> {
        let slices = self.slices(timers)?;
        let first: Vec<Slot> = slices
            .first
            .values()
            .iter()
            .map(|place| slices.slots[*place as usize])
            .collect();
        let target = |place: usize| first[slices.groups[place] as usize];
        let absorbed = (0..slices.slots.len()).filter(|place| target(*place) != slices.slots[*place]);
        let (from, into): (Vec<Slot>, Vec<Slot>) =
            absorbed.map(|place| (slices.slots[place], target(place))).unzip();
        let done = self.groups.absorb(&mut self.state, &from, &into);
        done.map_err(|error| error.of(&self.context))?;
        let results = self.groups.results(&mut self.state, &first);
        let (there, results) = results.map_err(|error| error.of(&self.context))?;
        let windows = vec![slices.window; first.len()];
        self.emit(slices.keys, results, &windows, &there)?;
        let end = slices.window.1;
        self.go_on(first.iter().map(|slot| (*slot, end)), slices.window)
    }

    /// Slices with their ends wait for the next window, or are dropped if this was their last.
    fn go_on(
        &mut self,
        slices: impl Iterator<Item = (Slot, i64)>,
        window: (i64, i64),
    ) -> Result<(), OperatorError> {
        let Windows::Sliced { assigner, .. } = self.windows else {
            return Ok(());
        };
        let mut gone = Vec::new();
        for (slot, end) in slices {
            match assigner.next_window(end, window) {
                Some(next) => self
                    .state
                    .timers()
                    .register(self.domain, timer(&self.zone, slot, next)),
                None => gone.push(slot),
            }
        }
        let cleared = self.groups.clear(&mut self.state, &gone);
        cleared.map_err(|error| error.of(&self.context))
    }

    fn slices(&mut self, timers: &[Timer]) -> Result<Slices, OperatorError> {
        let slots: Vec<Slot> = timers.iter().map(|timer| timer.slot).collect();
        let mut keys = self.keys_of_slots(&slots)?;
        let ends = keys
            .pop()
            .ok_or_else(|| unsupported(&self.context, "slices without ends".to_owned()))?;
        let (groups, first) = self.groups_of(&keys, slots.len())?;
        let taken: Result<Vec<ArrayRef>, _> = keys.iter().map(|key| take(key, &first, None)).collect();
        Ok(Slices {
            ends: local_ids(&self.context, &ends)?,
            keys: taken.map_err(|error| arrow_error(&self.context, error))?,
            window: timers.first().and_then(|timer| timer.window).unwrap_or_default(),
            slots,
            groups,
            first,
        })
    }

    /// The group of each row by its key, and the first row of each group.
    fn groups_of(
        &mut self,
        keys: &[ArrayRef],
        rows: usize,
    ) -> Result<(Vec<Slot>, UInt32Array), OperatorError> {
        let Some(index) = &mut self.combining else {
            return Ok((vec![0; rows], UInt32Array::from(vec![0])));
        };
        let hashes = key_hashes(&self.context, keys, rows)?;
        let (mut numbers, mut new_rows) = (Vec::new(), Vec::new());
        index
            .slots(keys, &hashes, &mut numbers, &mut new_rows)
            .map_err(|error| unsupported(&self.context, error.to_string()))?;
        for row in &new_rows {
            index.remove(numbers[*row as usize]);
        }
        self.uniques.find(&numbers);
        let first = UInt32Array::from(self.uniques.first_rows().to_vec());
        Ok((self.uniques.groups().to_vec(), first))
    }

    fn keys_of_slots(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, OperatorError> {
        self.state
            .keys(slots)
            .map_err(|source| state_error(&self.context, source))
    }

    /// A row of output for each of these that has rows.
    fn emit(
        &mut self,
        mut columns: Vec<ArrayRef>,
        results: Vec<ArrayRef>,
        windows: &[(i64, i64)],
        there: &[bool],
    ) -> Result<(), OperatorError> {
        columns.extend(results);
        for (property, data_type) in &self.properties {
            let values = windows
                .iter()
                .map(|window| self.property(*property, data_type, *window));
            let values = Int64Array::from_iter_values(values);
            let values = of_millis(&values, data_type).map_err(|error| OperatorError::Value {
                operator: self.context.operator_name.to_string(),
                message: error.to_string(),
            })?;
            columns.push(values);
        }
        let mut rows = windows.len();
        if there.contains(&false) {
            let mask = BooleanArray::from(there.to_vec());
            let kept: Result<Vec<ArrayRef>, _> = columns.iter().map(|column| filter(column, &mask)).collect();
            columns = kept.map_err(|error| arrow_error(&self.context, error))?;
            rows = mask.true_count();
        }
        let rows =
            record_batch(&self.schema, columns, rows).map_err(|error| arrow_error(&self.context, error))?;
        self.output.push(StreamBatch::new(rows));
        Ok(())
    }

    /// Start and end are local times, whatever the time attribute; the last millisecond is a time attribute again.
    fn property(&self, property: WindowProperty, data_type: &DataType, (start, end): (i64, i64)) -> i64 {
        match property {
            WindowProperty::Start => start,
            WindowProperty::End => end,
            WindowProperty::Time => match data_type {
                DataType::Timestamp(_, Some(_)) => self.zone.to_instant(end - 1),
                _ => end - 1,
            },
        }
    }
}
