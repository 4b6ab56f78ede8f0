//! FIRST_VALUE and LAST_VALUE of rows that are only added: the first or last value that is not null, as Flink's.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::{filter, is_not_null, take};
use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;
use thalweg_state::{ColumnStore, Slot};

use super::accumulator::{Accumulator, Rows, argument, for_each_row};

/// One value a slot.
pub(crate) struct End {
    last: bool,
    values: ColumnStore,
    seen: Vec<bool>,
}

impl End {
    pub(crate) fn new(data_type: DataType, last: bool) -> Self {
        Self {
            last,
            values: ColumnStore::new(data_type),
            seen: Vec::new(),
        }
    }
}

impl Accumulator for End {
    fn fields(&self) -> Vec<Field> {
        vec![Field::new("value", self.values.data_type().clone(), true)]
    }

    fn resize(&mut self, count: usize) {
        self.values.resize(count);
        self.seen.resize(count.max(self.seen.len()), false);
    }

    fn update(&mut self, rows: Rows<'_>, args: &[ArrayRef]) -> Result<(), ArrowError> {
        let values = argument(args, 0)?;
        let nulls = values.logical_nulls();
        let mut chosen: HashMap<Slot, u32> = HashMap::new();
        for_each_row(rows, nulls.as_ref(), |row, slot, _| {
            if !std::mem::replace(&mut self.seen[slot], true) || self.last {
                chosen.insert(slot as Slot, row as u32);
            }
        });
        let slots: Vec<Slot> = chosen.keys().copied().collect();
        let places = UInt32Array::from_iter_values(slots.iter().map(|slot| chosen[slot]));
        self.values.scatter(&slots, take(values, &places, None)?)
    }

    fn merge(&mut self, slots: &[Slot], parts: &[ArrayRef]) -> Result<(), ArrowError> {
        let values = argument(parts, 0)?;
        let is_value = is_not_null(values)?;
        let slots: Vec<Slot> = slots
            .iter()
            .enumerate()
            .filter(|(row, _)| is_value.value(*row))
            .map(|(_, slot)| *slot)
            .collect();
        let rows = Rows {
            slots: &slots,
            signs: None,
        };
        self.update(rows, &[filter(values, &is_value)?])
    }

    fn evaluate(&self, slots: &[Slot]) -> Result<ArrayRef, ArrowError> {
        self.values.gather(slots)
    }

    fn gather(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, ArrowError> {
        Ok(vec![self.values.gather(slots)?])
    }

    fn clear(&mut self, slots: &[Slot]) {
        self.values.clear(slots);
        slots.iter().for_each(|slot| self.seen[*slot as usize] = false);
    }

    fn memory_size(&self) -> usize {
        self.values.memory_size() + self.seen.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use std::sync::Arc;

    #[test]
    fn the_first_and_the_last_value_leave_nulls_out() {
        for (last, expected) in [
            (false, [Some(1), None, Some(7)]),
            (true, [Some(2), None, Some(8)]),
        ] {
            let mut end = End::new(DataType::Int64, last);
            end.resize(3);
            let slots = [0, 0, 0, 1, 2, 0];
            let values: ArrayRef = Arc::new(Int64Array::from(vec![
                None,
                Some(1),
                Some(2),
                None,
                Some(7),
                None,
            ]));
            end.update(
                Rows {
                    slots: &slots,
                    signs: None,
                },
                &[values],
            )
            .unwrap();
            let more: ArrayRef = Arc::new(Int64Array::from(vec![Some(8)]));
            end.update(
                Rows {
                    slots: &[2],
                    signs: None,
                },
                &[more],
            )
            .unwrap();
            let result = end.evaluate(&[0, 1, 2]).unwrap();
            let result: Vec<_> = result.as_primitive::<Int64Type>().iter().collect();
            assert_eq!(result, expected, "last: {last}");
        }
    }
}
