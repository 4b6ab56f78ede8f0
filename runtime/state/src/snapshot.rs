//! What operators give for a checkpoint and get back from it: columns, not files.
//!
//! ```text
//!   a table's changes:   $key_group u32 | $hash u64 | $change i8 | key columns.. | sub-key columns.. | value columns..
//!   a restored batch:                     $hash u64 |              key columns.. | sub-key columns.. | value columns..
//! ```
//!
//! Invariants: a row is identified by (key, sub-key); among the changes of one snapshot each row comes once, except that a
//! [`ChangeKind::DeleteKey`] of its key may stand before it and takes effect first; restored rows come once and are of the
//! subtask's key groups.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, FieldRef, SchemaRef};
use thalweg_types::{Classify, FailureClass};

use crate::disk::delta::Deltas;
use crate::disk::view::StoreView;
use crate::table::ACCESSED_COLUMN;

/// Names of the columns before the key columns.
pub const KEY_GROUP_COLUMN: &str = "$key_group";
/// See [`KEY_GROUP_COLUMN`].
pub const HASH_COLUMN: &str = "$hash";
/// See [`KEY_GROUP_COLUMN`]; values are [`ChangeKind`]'s.
pub const CHANGE_COLUMN: &str = "$change";

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum ChangeKind {
    /// It has these values now.
    Upsert = 0,
    /// It is gone; its value columns mean nothing.
    Delete = 1,
    /// All rows of its key are gone; its sub-key and value columns mean nothing.
    DeleteKey = 2,
}

/// What a table is to its operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    /// One row a key: ValueState, ReducingState, AggregatingState, accumulators.
    Value,
    /// Rows by position: ListState.
    List,
    /// Rows by a map's key: MapState.
    Map,
    /// Timers: sub-key (domain, namespace.., time), no values.
    Timers,
    /// Rows by window.
    Window,
}

/// A table as its operator declares it.
#[derive(Debug, Clone, PartialEq)]
pub struct TableDescriptor {
    /// Unique in its operator; the state's name in Flink's words.
    pub name: String,
    /// What it is.
    pub kind: TableKind,
    /// Columns of the key, the same for all tables of an operator.
    pub key: Vec<FieldRef>,
    /// Columns that tell a key's rows apart; none for [`TableKind::Value`].
    pub sub_key: Vec<FieldRef>,
    /// What is stored.
    pub value: Vec<FieldRef>,
    /// How long a value lives after its last use or write.
    pub ttl: Option<Duration>,
}

/// How items of a list reach the subtasks of a restored operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListDistribution {
    /// In turn.
    Split,
    /// All to everybody.
    Union,
    /// One subtask's to everybody: all hold the same.
    Broadcast,
}

/// What is asked of an operator when a barrier has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotRequest {
    /// Which.
    pub checkpoint_id: u64,
    /// All rows, not only what changed since the last request. Then the rows are as if everything before was deleted.
    pub full: bool,
}

/// A table's rows for a checkpoint.
#[derive(Debug, Clone)]
pub struct TableSnapshot {
    /// Which table.
    pub descriptor: Arc<TableDescriptor>,
    /// See the module; in any order, but for DeleteKey. All of [`TableDescriptor::change_schema`].
    pub changes: Vec<RecordBatch>,
    /// What `changes` build on and is not in memory.
    pub stored: StoredRows,
}

/// Rows of a snapshot that are on the local disk, and stay as they are as long as this is held. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct StoredRows(pub(crate) Option<Stored>);

#[derive(Debug, Clone)]
pub(crate) enum Stored {
    /// All rows of the table of this number, in a full snapshot.
    Table(Arc<StoreView>, usize),
    /// Earlier changes of all tables.
    Deltas(Arc<Deltas>),
}

impl StoredRows {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

/// A list's items for a checkpoint; always all of them.
#[derive(Debug, Clone)]
pub struct ListSnapshot {
    /// Unique in its operator.
    pub name: String,
    /// How they are shared out.
    pub distribution: ListDistribution,
    /// A row an item.
    pub items: RecordBatch,
}

/// What an operator gives for a checkpoint. Cheap to make: it is encoded and written elsewhere.
#[derive(Debug, Clone, Default)]
pub struct OperatorSnapshot {
    /// Keyed tables.
    pub tables: Vec<TableSnapshot>,
    /// State that belongs to no key.
    pub lists: Vec<ListSnapshot>,
}

/// The rows of a restored table, batch after batch.
pub type RestoredRows = Box<dyn Iterator<Item = Result<RecordBatch, StateError>> + Send>;

/// A table that was found in what is restored.
pub struct RestoredTable {
    /// As it was stored: the operator adapts the columns to its own.
    pub descriptor: TableDescriptor,
    /// All of [`TableDescriptor::row_schema`] of the stored descriptor.
    pub rows: RestoredRows,
}

/// A list that was found in what is restored: this subtask's share.
#[derive(Debug, Clone)]
pub struct RestoredList {
    /// Its name.
    pub name: String,
    /// Its distribution.
    pub distribution: ListDistribution,
    /// A row an item.
    pub items: Vec<RecordBatch>,
}

/// What an operator starts with. Operators take what they know by name.
#[derive(Default)]
pub struct RestoredState {
    /// The checkpoint that it comes from; 0 = none, and nothing is in here.
    pub checkpoint_id: u64,
    /// Keyed tables.
    pub tables: Vec<RestoredTable>,
    /// State that belongs to no key.
    pub lists: Vec<RestoredList>,
    /// About how many keys the tables have rows of, if that is known: room for them is made at once.
    pub keys: usize,
    /// Set by an operator that has adapted a table's columns: runs of one chain have the same columns, so its next snapshot
    /// must be a full one and the restored runs can't be the begin of its chain.
    pub columns_changed: bool,
}

impl TableDescriptor {
    /// The columns of changes.
    pub fn change_schema(&self) -> SchemaRef {
        use arrow::datatypes::DataType;
        let head = [
            Field::new(KEY_GROUP_COLUMN, DataType::UInt32, false),
            Field::new(HASH_COLUMN, DataType::UInt64, false),
            Field::new(CHANGE_COLUMN, DataType::Int8, false),
        ];
        self.schema_behind(&head)
    }

    /// The columns of restored rows.
    pub fn row_schema(&self) -> SchemaRef {
        use arrow::datatypes::DataType;
        self.schema_behind(&[Field::new(HASH_COLUMN, DataType::UInt64, false)])
    }

    /// Whether the rows of both have the same columns.
    pub fn has_columns_of(&self, other: &Self) -> bool {
        self.key == other.key && self.sub_key == other.sub_key && self.value == other.value
    }

    /// [`StateError::Incompatible`] that names the first column of values that only one of both has, or that has another type.
    /// Time-to-live may differ.
    pub(crate) fn check_same_columns(&self, wanted: &Self) -> Result<(), StateError> {
        let refused = |message: String| {
            Err(StateError::Incompatible {
                state: wanted.name.clone(),
                message,
            })
        };
        let is_value = |field: &&FieldRef| field.name() != ACCESSED_COLUMN;
        let in_both = |table: &Self, name: &str| table.value.iter().any(|field| field.name() == name);
        if let Some(gone) = self
            .value
            .iter()
            .filter(is_value)
            .find(|field| !in_both(wanted, field.name()))
        {
            return refused(format!(
                "column {:?} was stored and is not there any more",
                gone.name()
            ));
        }
        for field in wanted.value.iter().filter(is_value) {
            match self.value.iter().find(|stored| stored.name() == field.name()) {
                None => return refused(format!("column {:?} was not stored", field.name())),
                Some(stored) if stored.data_type() != field.data_type() => {
                    return refused(format!(
                        "column {:?} was stored as {} and is {} now",
                        field.name(),
                        stored.data_type(),
                        field.data_type()
                    ));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Values are nullable there: a deleted row has none.
    fn schema_behind(&self, head: &[Field]) -> SchemaRef {
        let nullable = |field: &FieldRef| Arc::new(Field::clone(field).with_nullable(true));
        let fields: Vec<FieldRef> = head
            .iter()
            .cloned()
            .map(Arc::new)
            .chain(self.key.iter().cloned())
            .chain(self.sub_key.iter().map(nullable))
            .chain(self.value.iter().map(nullable))
            .collect();
        Arc::new(arrow::datatypes::Schema::new(fields))
    }
}

impl RestoredState {
    /// Takes the table of this name out.
    pub fn take_table(&mut self, name: &str) -> Option<RestoredTable> {
        let place = self
            .tables
            .iter()
            .position(|table| table.descriptor.name == name)?;
        Some(self.tables.swap_remove(place))
    }

    /// Takes the list of this name out.
    pub fn take_list(&mut self, name: &str) -> Option<RestoredList> {
        let place = self.lists.iter().position(|list| list.name == name)?;
        Some(self.lists.swap_remove(place))
    }
}

/// Why state can't be kept, written or read.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file's bytes are not what was written: cut off, or a checksum differs.
    #[error("state file {file} is damaged: {message}")]
    Damaged {
        /// Its path.
        file: String,
        /// What is wrong, where.
        message: String,
    },
    /// A file of a format that this version doesn't read.
    #[error("state file {file} has format version {found}, this engine reads up to {supported}")]
    Version {
        /// Its path.
        file: String,
        /// What it says.
        found: u32,
        /// The newest known.
        supported: u32,
    },
    /// The storage failed.
    #[error("state file {file}: {message}")]
    Storage {
        /// Its path.
        file: String,
        /// What it said.
        message: String,
        /// Whether it may pass.
        retryable: bool,
    },
    /// Stored columns can't become the operator's.
    #[error("state {state:?}: {message}")]
    Incompatible {
        /// The state's name.
        state: String,
        /// Which field, what it was and is, what to do.
        message: String,
    },
    /// An operator's snapshot breaks the rules of this module.
    #[error("snapshot of state {state:?}: {message}")]
    Malformed {
        /// The state's name.
        state: String,
        /// Which rule.
        message: String,
    },
    /// A checkpoint that this one builds on came to nothing, so this one can't be complete; the next is full.
    #[error("checkpoint {checkpoint_id} needs files of an earlier one that failed")]
    Superseded {
        /// Which can't be completed.
        checkpoint_id: u64,
    },
    /// State would pass the memory that it may use.
    #[error("{message}")]
    Memory {
        /// How much of what, and what to do.
        message: String,
    },
    /// An Arrow kernel refused its input.
    #[error("state columns: {step} failed")]
    Arrow {
        /// What was being done.
        step: &'static str,
        /// What it said.
        #[source]
        source: arrow::error::ArrowError,
    },
    /// The local disk failed.
    #[error("local state folder {folder}: {message}")]
    LocalDisk {
        /// Its path.
        folder: String,
        /// What it said.
        message: String,
    },
}

impl Classify for StateError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Damaged { .. } | Self::Version { .. } | Self::Incompatible { .. } => FailureClass::Fatal,
            Self::Storage { retryable: false, .. } => FailureClass::Fatal,
            Self::Storage { .. } | Self::Memory { .. } | Self::LocalDisk { .. } => FailureClass::Retryable,
            Self::Superseded { .. } => FailureClass::Retryable,
            Self::Arrow { .. } | Self::Malformed { .. } => FailureClass::Bug,
        }
    }
}
