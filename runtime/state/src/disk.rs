//! More keyed state than memory: the rows of keys that nobody asks for, in sorted files on the local disk.
//!
//! ```text
//!   KeyedState (memory) --page out: whole keys, in the background--> LocalRun, LocalRun, ..  --compaction, in the background--> LocalRun
//!        ^                                                            | bloom filter, index, one page each
//!        \------- page in: the keys of a batch, newest run first -----/
//!        |
//!        \--what changed since the last checkpoint--> delta files (the checkpoints' format) --merged with memory--> checkpoint
//!                                                     all runs, newest wins --streamed--> full checkpoint, savepoint
//! ```
//!
//! A run's entry is everything that the tables hold of one key, so that a key is read with one read, and the newest entry of a
//! key stands for all of it; an entry without rows says that the key has none. The files are this process's alone: after a failure a
//! job starts from its checkpoint, so nothing here is made to be found again.
//!
//! Invariants: runs never change and are removed when nobody holds them any more; between two keys of one page only this
//! module's order counts, (key group, key in Arrow's row order), which is that of checkpoints' files too.

pub(crate) mod background;
pub(crate) mod bloom;
pub(crate) mod codec;
pub(crate) mod compact;
pub(crate) mod delta;
pub(crate) mod folder;
pub(crate) mod image;
pub(crate) mod merge;
pub(crate) mod page;
pub(crate) mod pool;
pub(crate) mod run;
pub(crate) mod snapshot_run;
pub(crate) mod store;
pub(crate) mod view;
pub(crate) mod write_out;
