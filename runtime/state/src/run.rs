//! Runs: what changed in an operator subtask's keyed tables, as one sorted file, and how several become one again.
//!
//! ```text
//!   TableSnapshot --sort: by key group, then key and sub-key--> blocks --> run file            (encode)
//!   run, run, run (one subtask's, oldest first) --merge: newest wins, deletes applied--> rows   (restore)
//!                                                                                   \--> run   (compaction)
//! ```
//!
//! Invariants: encoding holds a snapshot, an index of 8 bytes a row and one block; merging holds a few blocks of each run.

use thalweg_types::KeyGroupRange;

pub(crate) mod encode;
pub(crate) mod merge;
pub(crate) mod sizes;

/// Whose runs they are, and in what pieces they are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope {
    /// Rows of other key groups are an error when encoding and left out when merging.
    pub(crate) key_groups: KeyGroupRange,
    pub(crate) max_parallelism: u32,
    /// Blocks are cut at this size, before compression.
    pub(crate) block_bytes: usize,
    /// Key groups are sorted together up to this many rows.
    pub(crate) sort_rows: usize,
    /// Rows of a merged batch.
    pub(crate) batch_rows: usize,
    /// The clock of time-to-live: rows that are expired then go away when nothing older is behind them; `i64::MIN` = none does.
    pub(crate) now_ms: i64,
}

impl Scope {
    pub(crate) fn new(key_groups: KeyGroupRange, max_parallelism: u32) -> Self {
        Self {
            key_groups,
            max_parallelism,
            block_bytes: crate::file::BLOCK_BYTES,
            sort_rows: 1 << 15,
            batch_rows: 8192,
            now_ms: i64::MIN,
        }
    }
}

#[cfg(test)]
mod tests;
