//! How many bytes each row takes, so that blocks are cut by size and not by number.

use arrow::array::{Array, ArrayRef, AsArray, OffsetSizeTrait, RecordBatch};
use arrow::datatypes::DataType;

/// Bytes of the rows of a batch.
pub(crate) struct RowSizes {
    fixed: u32,
    /// Empty if all rows are of `fixed` bytes.
    varying: Vec<u32>,
}

impl RowSizes {
    pub(crate) fn new(batch: &RecordBatch) -> Self {
        let mut sizes = Self {
            fixed: 0,
            varying: Vec::new(),
        };
        for column in batch.columns() {
            sizes.add(column);
        }
        sizes
    }

    pub(crate) fn of(&self, row: usize) -> usize {
        let varying = self.varying.get(row).copied().unwrap_or(0);
        self.fixed.saturating_add(varying) as usize
    }

    fn add(&mut self, column: &ArrayRef) {
        match column.data_type() {
            DataType::Utf8 => self.add_offsets(column.len(), 1, column.as_string::<i32>().value_offsets()),
            DataType::LargeUtf8 => {
                self.add_offsets(column.len(), 1, column.as_string::<i64>().value_offsets());
            }
            DataType::Binary => self.add_offsets(column.len(), 1, column.as_binary::<i32>().value_offsets()),
            DataType::LargeBinary => {
                self.add_offsets(column.len(), 1, column.as_binary::<i64>().value_offsets());
            }
            DataType::List(_) => {
                let list = column.as_list::<i32>();
                self.add_offsets(column.len(), mean_bytes(list.values()), list.value_offsets());
            }
            DataType::LargeList(_) => {
                let list = column.as_list::<i64>();
                self.add_offsets(column.len(), mean_bytes(list.values()), list.value_offsets());
            }
            DataType::Map(..) => {
                let map = column.as_map();
                let entry: usize = map.entries().columns().iter().map(mean_bytes).sum();
                self.add_offsets(column.len(), entry, map.value_offsets());
            }
            DataType::Struct(_) => {
                for child in column.as_struct().columns() {
                    self.add(child);
                }
            }
            _ => self.fixed = self.fixed.saturating_add(mean_bytes(column) as u32),
        }
    }

    fn add_offsets<O: OffsetSizeTrait>(&mut self, rows: usize, bytes_each: usize, offsets: &[O]) {
        self.varying.resize(rows, 0);
        for (size, ends) in self.varying.iter_mut().zip(offsets.windows(2)) {
            let items = (ends[1] - ends[0]).as_usize();
            *size = size.saturating_add(u32::try_from(items * bytes_each + 4).unwrap_or(u32::MAX));
        }
    }
}

/// Of a column's values, rounded up.
fn mean_bytes(column: &ArrayRef) -> usize {
    match column.data_type().primitive_width() {
        Some(width) => width,
        None if column.is_empty() => 0,
        None => {
            let data = column.to_data();
            let bytes = data
                .get_slice_memory_size()
                .unwrap_or_else(|_| data.get_array_memory_size());
            bytes.div_ceil(column.len())
        }
    }
}
