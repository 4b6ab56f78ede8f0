//! Aggregate functions of users: accumulators in columns by slot, worked on where rows come.
//!
//! ```text
//!   rows -> the slots they are of, each once --gather--> accumulators --the function--> accumulators --scatter--> slots
//! ```
//!
//! Accumulators that come to a slot without any are put there as they are, so that a function without a merge can be restored.

use std::collections::HashMap;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::Field;
use arrow::error::ArrowError;
use thalweg_functions::user::UserAggregate;
use thalweg_state::{ColumnStore, Slot};

use super::accumulator::{Accumulator, Rows};

/// A function's accumulators.
pub(crate) struct UserAccumulator {
    function: UserAggregate,
    fields: Vec<ColumnStore>,
    /// By slot: whether rows or accumulators came.
    seen: Vec<bool>,
}

/// Rows of some slots.
struct Touched {
    /// Each once.
    slots: Vec<Slot>,
    /// Of each row: the place of its slot.
    groups: Vec<u32>,
    /// The rows' places.
    rows: Vec<u32>,
}

impl Touched {
    fn of(rows: Rows<'_>, sign: i8) -> Self {
        let signs = (0..rows.slots.len()).map(|row| rows.signs.map_or(1, |signs| signs[row]));
        let places = signs.enumerate().filter(|(_, of_row)| *of_row == sign);
        Self::of_places(rows.slots, places.map(|(row, _)| row as u32))
    }

    fn of_places(slots: &[Slot], places: impl Iterator<Item = u32>) -> Self {
        let mut known: HashMap<Slot, u32> = HashMap::new();
        let mut touched = Self {
            slots: Vec::new(),
            groups: Vec::new(),
            rows: Vec::new(),
        };
        for row in places {
            let slot = slots[row as usize];
            let group = *known.entry(slot).or_insert_with(|| {
                touched.slots.push(slot);
                touched.slots.len() as u32 - 1
            });
            touched.groups.push(group);
            touched.rows.push(row);
        }
        touched
    }

    /// These rows of columns.
    fn take(&self, columns: &[ArrayRef]) -> Result<Vec<ArrayRef>, ArrowError> {
        let is_all = |column: &ArrayRef| column.len() == self.rows.len();
        if columns.iter().all(is_all) {
            return Ok(columns.to_vec());
        }
        let rows = UInt32Array::from(self.rows.clone());
        columns.iter().map(|column| take(column, &rows, None)).collect()
    }
}

fn failed(message: String) -> ArrowError {
    ArrowError::ComputeError(message)
}

impl UserAccumulator {
    pub(crate) fn new(function: UserAggregate) -> Self {
        let fields = function.accumulator().iter();
        Self {
            fields: fields
                .map(|field| ColumnStore::new(field.data_type().clone()))
                .collect(),
            function,
            seen: Vec::new(),
        }
    }

    fn kept(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, ArrowError> {
        self.fields.iter().map(|field| field.gather(slots)).collect()
    }

    fn keep(&mut self, slots: &[Slot], columns: Vec<ArrayRef>) -> Result<(), ArrowError> {
        slots.iter().for_each(|slot| self.seen[*slot as usize] = true);
        let fields = self.fields.iter_mut().zip(columns);
        fields
            .into_iter()
            .try_for_each(|(field, column)| field.scatter(slots, column))
    }
}

impl Accumulator for UserAccumulator {
    fn fields(&self) -> Vec<Field> {
        self.function.accumulator().to_vec()
    }

    fn resize(&mut self, count: usize) {
        self.fields.iter_mut().for_each(|field| field.resize(count));
        self.seen.resize(count.max(self.seen.len()), false);
    }

    fn update(&mut self, rows: Rows<'_>, args: &[ArrayRef]) -> Result<(), ArrowError> {
        for sign in [1, -1] {
            let touched = Touched::of(rows, sign);
            if touched.rows.is_empty() {
                continue;
            }
            let (args, before) = (touched.take(args)?, self.kept(&touched.slots)?);
            let (count, groups) = (touched.slots.len(), touched.groups.as_slice());
            let after = match sign {
                1 => self.function.accumulate(&before, count, groups, &args),
                _ => self.function.retract(&before, count, groups, &args),
            };
            self.keep(&touched.slots, after.map_err(failed)?)?;
        }
        Ok(())
    }

    fn merge(&mut self, slots: &[Slot], parts: &[ArrayRef]) -> Result<(), ArrowError> {
        let mut first = Vec::new();
        let mut others = Vec::new();
        for (row, slot) in slots.iter().enumerate() {
            let is_first = !std::mem::replace(&mut self.seen[*slot as usize], true);
            (if is_first { &mut first } else { &mut others }).push(row as u32);
        }
        let first = Touched::of_places(slots, first.into_iter());
        self.keep(&first.slots, first.take(parts)?)?;
        if others.is_empty() {
            return Ok(());
        }
        let others = Touched::of_places(slots, others.into_iter());
        let (parts, before) = (others.take(parts)?, self.kept(&others.slots)?);
        let after = self
            .function
            .merge(&before, others.slots.len(), &others.groups, &parts);
        self.keep(&others.slots, after.map_err(failed)?)
    }

    fn evaluate(&self, slots: &[Slot]) -> Result<ArrayRef, ArrowError> {
        let accumulators = self.kept(slots)?;
        self.function.evaluate(&accumulators, slots.len()).map_err(failed)
    }

    fn gather(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, ArrowError> {
        self.kept(slots)
    }

    fn clear(&mut self, slots: &[Slot]) {
        self.fields.iter_mut().for_each(|field| field.clear(slots));
        slots.iter().for_each(|slot| self.seen[*slot as usize] = false);
    }

    fn memory_size(&self) -> usize {
        let fields = self.fields.iter().map(ColumnStore::memory_size);
        fields.sum::<usize>() + self.seen.capacity()
    }
}

#[cfg(test)]
mod tests;
