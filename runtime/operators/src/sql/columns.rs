//! One row of columns by slot: what a key's row is remembered as; and what state has of lists in columns.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListArray};
use arrow::datatypes::{Field, FieldRef, SchemaRef};
use arrow::error::ArrowError;
use thalweg_state::{ColumnStore, Slot, SlotColumn};

/// The items of lists, and where those of each list begin and end. A slice of lists has the items of all those that it was cut from behind it: these
/// are left out.
pub(crate) fn own_items(lists: &ListArray) -> (Vec<usize>, ArrayRef) {
    let offsets = lists.value_offsets();
    let first = offsets.first().copied().unwrap_or(0);
    let own: Vec<usize> = offsets.iter().map(|offset| (offset - first) as usize).collect();
    let count = own.last().copied().unwrap_or(0);
    (own, lists.values().slice(first as usize, count))
}

/// Rows of some columns; of none, it is known only which slots there are.
pub(crate) struct Columns {
    fields: Vec<FieldRef>,
    stores: Vec<ColumnStore>,
}

impl Columns {
    /// Of these columns of a schema.
    pub(crate) fn new(schema: &SchemaRef, columns: &[usize]) -> Self {
        let fields = columns.iter().map(|column| schema.field(*column));
        let fields: Vec<FieldRef> = fields
            .map(|field| Arc::new(Field::clone(field).with_nullable(true)))
            .collect();
        let stores = fields.iter().map(|field| field.data_type().clone());
        Self {
            stores: stores.map(ColumnStore::new).collect(),
            fields,
        }
    }
}

impl SlotColumn for Columns {
    fn fields(&self) -> Vec<FieldRef> {
        self.fields.clone()
    }

    fn resize(&mut self, count: usize) {
        self.stores.iter_mut().for_each(|store| store.resize(count));
    }

    fn gather(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, ArrowError> {
        self.stores.iter().map(|store| store.gather(slots)).collect()
    }

    fn scatter(&mut self, slots: &[Slot], columns: &[ArrayRef]) -> Result<(), ArrowError> {
        if columns.len() != self.stores.len() {
            let message = format!("{} columns instead of {}", columns.len(), self.stores.len());
            return Err(ArrowError::InvalidArgumentError(message));
        }
        let mut stores = self.stores.iter_mut().zip(columns);
        stores.try_for_each(|(store, column)| store.scatter(slots, Arc::clone(column)))
    }

    fn clear(&mut self, slots: &[Slot]) {
        self.stores.iter_mut().for_each(|store| store.clear(slots));
    }

    fn memory_size(&self) -> usize {
        self.stores.iter().map(ColumnStore::memory_size).sum()
    }

    fn cleared_bytes(&self) -> usize {
        self.stores.iter().map(ColumnStore::cleared_bytes).sum()
    }

    fn give_back(&mut self) -> Result<(), ArrowError> {
        self.stores.iter_mut().try_for_each(ColumnStore::give_back)
    }
}
