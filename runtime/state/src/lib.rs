//! Keyed state and its snapshots.
//!
//! ```text
//!   operator --> KeyedState: key -> slot; tables by slot; timers          (in memory, larger state on the local disk)
//!                   | snapshot: the rows that changed                 ^ restore: the rows of my key groups
//!                   v                                                 |
//!              TableSnapshot (Arrow columns) --sort, encode--> run file ... run file --merge-- RestoredTable
//! ```
//!
//! A subtask's keyed state in a checkpoint is a sequence of sorted runs, oldest first: what a checkpoint costs is what changed,
//! and runs are merged away from the task's thread. Every table kind has one logical schema (key group, key columns, sub-key
//! columns, value columns), so that backends are exchangeable, savepoints canonical, and tools can read them.

pub mod chain;
mod disk;
pub mod evolution;
mod file;
pub mod inspect;
pub mod key_index;
pub mod keyed;
mod run;
mod schema;
pub mod settings;
pub mod snapshot;
mod state_hash;
pub mod store;
pub mod table;
pub mod timers;

pub use chain::{SnapshotTicket, SubtaskChain};
pub use disk::folder::LocalFolder;
pub use key_index::{KeyIndex, KeyIndexError, Slot};
pub use keyed::{KeyedState, KeyedStateConfig};
pub use settings::{DiskSettings, Scratch, StateSettings};
pub use snapshot::{
    ChangeKind, ListDistribution, ListSnapshot, OperatorSnapshot, RestoredList, RestoredState, RestoredTable,
    SnapshotRequest, StateError, StoredRows, TableDescriptor, TableKind, TableSnapshot,
};
pub use store::{
    ExportedState, FileMerging, SnapshotStore, StateKind, SubmittedBatches, SubmittedSnapshot, Turn,
    WrittenSnapshot,
};
pub use table::{
    ColumnHandle, ColumnStore, ColumnTable, ListHandle, ListTable, MapHandle, MapTable, SlotColumn, StateTtl,
    TableHandle, TtlUpdate, TtlVisibility, ValueHandle, ValueTable, WindowHandle, WindowListHandle,
    WindowListTable, WindowTable,
};
pub use timers::{TimeDomain, Timer, Timers};
