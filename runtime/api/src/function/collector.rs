//! Where user functions put their output.

use crate::record::{Record, RowsBuilder};

/// Takes the records that a `flat_map` gives. Flink's Collector.
pub struct Collector<O: Record> {
    pub(crate) rows: RowsBuilder<O>,
}

impl<O: Record> Collector<O> {
    pub(crate) fn new() -> Self {
        Self {
            rows: RowsBuilder::with_capacity(0),
        }
    }

    /// Emits a record from borrowed values, which are copied into the output's columns.
    #[inline]
    pub fn collect(&mut self, record: O::Ref<'_>) {
        self.rows.push_ref(record);
    }

    /// Emits a record that the function has made.
    #[inline]
    pub fn collect_owned(&mut self, record: &O) {
        self.rows.push(record);
    }
}
