//! What an aggregate function keeps by slot.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::Field;
use arrow::error::ArrowError;
use thalweg_state::Slot;

/// Rows that are folded into accumulators.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a> {
    /// Whose each row is.
    pub(crate) slots: &'a [Slot],
    /// +1: it is added, -1: it is taken back, 0: it doesn't count. `None`: all are added.
    pub(crate) signs: Option<&'a [i8]>,
}

/// Accumulators by slot: columns of running values.
///
/// The columns of [`Self::gather`] are what is stored in snapshots, what local aggregates send and what [`Self::merge`] takes.
/// Merging into a cleared slot gives what was gathered.
pub(crate) trait Accumulator: Send {
    /// The columns of [`Self::gather`]; names are unique in the accumulator and stored.
    fn fields(&self) -> Vec<Field>;
    /// Makes room for slots below `count`.
    fn resize(&mut self, count: usize);
    /// Folds rows in; `args` are the function's arguments.
    fn update(&mut self, rows: Rows<'_>, args: &[ArrayRef]) -> Result<(), ArrowError>;
    /// Folds accumulators in, one a slot; a slot may come several times.
    fn merge(&mut self, slots: &[Slot], parts: &[ArrayRef]) -> Result<(), ArrowError>;
    /// The results of these slots.
    fn evaluate(&self, slots: &[Slot]) -> Result<ArrayRef, ArrowError>;
    /// The accumulators of these slots.
    fn gather(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, ArrowError>;
    /// These slots are as new ones.
    fn clear(&mut self, slots: &[Slot]);
    /// Bytes held.
    fn memory_size(&self) -> usize;
}

/// A column as the array type that the accumulator was made for.
pub(crate) fn primitive<T: ArrowPrimitiveType>(column: &ArrayRef) -> Result<&PrimitiveArray<T>, ArrowError> {
    column.as_primitive_opt::<T>().ok_or_else(|| {
        ArrowError::InvalidArgumentError(format!("an aggregated column became {}", column.data_type()))
    })
}

/// Calls `fold` with slot, value and sign of each row that counts and has a value.
#[inline]
pub(crate) fn for_each_value<T: ArrowPrimitiveType>(
    rows: Rows<'_>,
    values: &PrimitiveArray<T>,
    mut fold: impl FnMut(usize, T::Native, i8),
) {
    match (rows.signs, values.null_count()) {
        (None, 0) => {
            for (slot, value) in rows.slots.iter().zip(values.values()) {
                fold(*slot as usize, *value, 1);
            }
        }
        _ => for_each_row(rows, values.nulls(), |row, slot, sign| {
            fold(slot, values.values()[row], sign);
        }),
    }
}

/// Calls `visit` with row, slot and sign of each row that counts and is not null.
#[inline]
pub(crate) fn for_each_row(
    rows: Rows<'_>,
    nulls: Option<&NullBuffer>,
    mut visit: impl FnMut(usize, usize, i8),
) {
    for (row, slot) in rows.slots.iter().enumerate() {
        let sign = rows.signs.map_or(1, |signs| signs[row]);
        if sign != 0 && nulls.is_none_or(|nulls| nulls.is_valid(row)) {
            visit(row, *slot as usize, sign);
        }
    }
}

/// The argument at this place.
pub(crate) fn argument(args: &[ArrayRef], place: usize) -> Result<&ArrayRef, ArrowError> {
    args.get(place).ok_or_else(|| {
        ArrowError::InvalidArgumentError(format!("an aggregate function has no argument {place}"))
    })
}
