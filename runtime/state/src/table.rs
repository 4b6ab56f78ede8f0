//! Typed tables by slot: what a keyed operator keeps of each key.
//!
//! ```text
//!   ValueTable<T>       slot -> T                          ValueState, ReducingState, AggregatingState
//!   ListTable<T>        slot -> position -> T              ListState
//!   MapTable<K, V>      slot -> K -> V                     MapState; WindowTable<V> = MapTable<(start, end), V>
//!   WindowListTable<T>  slot -> window -> position -> T    the elements that a window keeps until it fires
//!   ColumnTable<C>      slot -> a row of columns           accumulators of columnar operators
//! ```
//!
//! Each table notes which of its rows were written since the last snapshot, so that a checkpoint costs what changed, and
//! which keys lost their last row, so that a key without state goes away.
//!
//! Invariants: before the first snapshot (or restore) nothing is noted, because that snapshot has all rows; a row that is in
//! an earlier snapshot and is removed keeps its key alive until the next one has said so; `memory_size` is kept up to date by
//! every write, not counted.

mod change;
mod column;
mod column_store;
mod list;
mod map;
mod marks;
mod ttl;
mod value;
mod window_list;

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::{DataType, Field, FieldRef};
use thalweg_types::record::Record;

use crate::key_index::Slot;
use crate::snapshot::{StateError, TableDescriptor};

pub(crate) use change::{ChangeWriter, key_error};
pub use column::{ColumnTable, SlotColumn};
pub use column_store::ColumnStore;
pub use list::ListTable;
pub(crate) use list::position_field;
pub use map::{MapTable, WindowTable};
pub use ttl::{StateTtl, TtlUpdate, TtlVisibility};
pub use value::ValueTable;
pub use window_list::WindowListTable;

/// Name of the value column that says when a row of a table with time-to-live was last used: milliseconds since the epoch.
pub const ACCESSED_COLUMN: &str = "$accessed";

/// Which table of a [`crate::KeyedState`], with its type.
pub struct TableHandle<S> {
    pub(crate) index: usize,
    table: PhantomData<fn() -> S>,
}

/// One value a key.
pub type ValueHandle<T> = TableHandle<ValueTable<T>>;
/// A list a key.
pub type ListHandle<T> = TableHandle<ListTable<T>>;
/// A map a key.
pub type MapHandle<K, V> = TableHandle<MapTable<K, V>>;
/// A value a key and window.
pub type WindowHandle<V> = TableHandle<WindowTable<V>>;
/// A list a key and window.
pub type WindowListHandle<T> = TableHandle<WindowListTable<T>>;
/// A row of columns a key.
pub type ColumnHandle<C> = TableHandle<ColumnTable<C>>;

impl<S> TableHandle<S> {
    pub(crate) fn new(index: usize) -> Self {
        Self {
            index,
            table: PhantomData,
        }
    }
}

impl<S> Clone for TableHandle<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for TableHandle<S> {}

impl<S> std::fmt::Debug for TableHandle<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TableHandle({})", self.index)
    }
}

/// What [`crate::KeyedState`] needs of a table, whatever its type.
pub(crate) trait Table: Any + Send {
    fn descriptor(&self) -> &Arc<TableDescriptor>;
    /// Slots are below `count` from now on.
    fn resize(&mut self, count: usize);
    /// The clock of time-to-live.
    fn set_now(&mut self, now_ms: i64);
    /// From now on, writes are noted for incremental snapshots.
    fn track_changes(&mut self);
    /// Moves the slots that may have become vacant to `into`; one may come several times.
    fn take_vacated(&mut self, into: &mut Vec<Slot>);
    /// Whether the slot holds nothing, not even a removal that the next snapshot must say.
    fn is_vacant(&self, slot: Slot) -> bool;
    /// The slot, which is vacant, goes to another key.
    fn release(&mut self, slot: Slot) {
        let _ = slot;
    }
    /// Removes expired rows, looking at so many.
    fn sweep(&mut self, rows: usize);
    /// Writes all rows, or what changed since the last call; that is unchanged from now on.
    fn changes(&mut self, full: bool, out: &mut ChangeWriter<'_>) -> Result<(), StateError>;
    /// Writes what changed of these slots since the last call; that is unchanged from now on.
    fn changes_of(&mut self, slots: &[Slot], out: &mut ChangeWriter<'_>) -> Result<(), StateError>;
    /// Takes restored rows, adapted to the descriptor. They are unchanged.
    fn restore(&mut self, rows: &TableRows<'_>) -> Result<(), StateError>;
    /// Room for so many slots more, which are about to be restored.
    fn reserve(&mut self, slots: usize) {
        let _ = slots;
    }
    /// Restored rows that are still in the columns that they came in get places of their own: memory is short.
    fn settle(&mut self) {}
    /// Bytes held.
    fn memory_size(&self) -> usize;
    /// How many of them are room that nobody uses, if so many slots are in use; about.
    fn slack(&self, live: usize) -> usize;
    /// Writes all rows of these slots, also expired ones, in the order of the slots; notes nothing.
    fn image(&mut self, slots: &[Slot], out: &mut ChangeWriter<'_>) -> Result<(), StateError>;
    /// Forgets the rows of these slots: they are elsewhere, and nothing of them is to be said.
    fn evict(&mut self, slots: &[Slot]);
    /// A full snapshot has the rows from elsewhere: all are unchanged from now on.
    fn mark_saved(&mut self);
    /// Gives room back that rows had which are gone.
    fn give_back(&mut self) -> Result<(), StateError> {
        Ok(())
    }
    /// Gives room back: slots are below `count` now.
    fn shrink(&mut self, count: usize);
    /// Panics unless the bytes that are kept up to date are those that are held.
    #[cfg(test)]
    fn assert_memory_is_exact(&self) {}
    /// Adds to each slot's number about how many bytes are its alone. Asked only to name the largest key.
    fn add_slot_bytes(&self, bytes: &mut [usize]);
}

/// Room for `len` items in large steps, though smaller ones than those of the vector itself once it is large: memory that is accounted
/// for should be in use.
#[inline]
pub(crate) fn make_room<T>(items: &mut Vec<T>, len: usize) {
    const LARGE_BYTES: usize = 1 << 20;
    if len > items.capacity() && items.capacity() * size_of::<T>() >= LARGE_BYTES {
        let step = (items.capacity() / 8).max(len - items.capacity());
        items.reserve_exact(items.capacity() + step - items.len());
    }
}

/// Bytes of room for items that aren't there.
pub(crate) fn unused<T>(items: &Vec<T>, used: usize) -> usize {
    items.capacity().saturating_sub(used) * size_of::<T>()
}

/// Rows to restore, column by column, each once.
pub(crate) struct TableRows<'a> {
    /// One a row.
    pub(crate) slots: &'a [Slot],
    /// The descriptor's.
    pub(crate) sub_key: Vec<ArrayRef>,
    /// The descriptor's, without [`ACCESSED_COLUMN`].
    pub(crate) value: Vec<ArrayRef>,
    /// When each row was last used, if the table has a time-to-live.
    pub(crate) accessed: Option<Int64Array>,
    /// The table may keep the columns instead of copying what is in them; it holds so many bytes then.
    pub(crate) kept_bytes: Option<usize>,
}

impl TableRows<'_> {
    fn accessed(&self, row: usize) -> i64 {
        self.accessed.as_ref().map_or(0, |column| column.value(row))
    }
}

/// A record's columns as a table's.
pub(crate) fn fields_of<T: Record>() -> Vec<FieldRef> {
    T::fields().into_iter().map(Arc::new).collect()
}

/// The columns of a table's values, with the one for time-to-live behind them.
pub(crate) fn value_fields(mut fields: Vec<FieldRef>, ttl: Option<&StateTtl>) -> Vec<FieldRef> {
    if ttl.is_some() {
        fields.push(Arc::new(Field::new(ACCESSED_COLUMN, DataType::Int64, false)));
    }
    fields
}

/// Columns that don't hold what the descriptor promises.
pub(crate) fn wrong_columns(
    descriptor: &TableDescriptor,
    error: &thalweg_types::record::RecordError,
) -> StateError {
    StateError::Incompatible {
        state: descriptor.name.clone(),
        message: error.to_string(),
    }
}
