//! From keys to slots: the hash table under every keyed operator.
//!
//! ```text
//!   key columns + key hashes --slots()--> slot of each row (0, 1, 2, .. in the order of first appearance)
//!                                           |
//!                   accumulators, values, first rows: plain vectors, indexed by slot
//! ```
//!
//! The table holds (hash, slot); the keys themselves lie one behind another in a store made for their type, so that a
//! key costs no allocation of its own and a batch whose keys are all known allocates nothing.
//!
//! Invariants: slots are dense, never reused and never move; two rows get the same slot if and only if their keys are
//! equal by the key hash's logical equality (-0.0 is 0.0, every NaN is one NaN, null is a key).

mod store;

use arrow::array::{ArrayRef, UInt64Array};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use hashbrown::HashTable;

use store::KeyStore;

/// Number of a key in one subtask.
pub type Slot = u32;

/// Why keys have no slots.
#[derive(Debug, thiserror::Error)]
pub enum KeyIndexError {
    /// The keys' type can't be encoded, or the columns are of another type than the index.
    #[error("key columns can't be encoded")]
    Encode(#[from] ArrowError),
    /// More keys than a slot number can count.
    #[error("one subtask can't hold more than {} keys: raise the parallelism", Slot::MAX)]
    Full,
}

/// Key hash -> slot, with the keys.
pub struct KeyIndex {
    table: HashTable<Entry>,
    keys: KeyStore,
}

#[derive(Clone, Copy)]
struct Entry {
    hash: u64,
    slot: Slot,
}

/// A subtask owns whole key groups (hash mod max parallelism), so its hashes agree in their low bits, by which the
/// table picks a bucket: it is given the other half first.
#[inline]
fn bucket_hash(key_hash: u64) -> u64 {
    key_hash.rotate_left(32)
}

impl KeyIndex {
    /// An empty index for keys of these columns.
    pub fn new(types: &[DataType]) -> Result<Self, KeyIndexError> {
        Ok(Self {
            table: HashTable::new(),
            keys: KeyStore::new(types)?,
        })
    }

    /// How many keys it holds.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held.
    pub fn memory_size(&self) -> usize {
        self.table.allocation_size() + self.keys.memory_size()
    }

    /// The slot of every row in `slots` (cleared first). New keys get the next slots: key `len_before + i` came first in
    /// row `new_rows[i]` (cleared first).
    ///
    /// `columns` have the types of [`Self::new`], and `hashes` one key hash a row.
    pub fn slots(
        &mut self,
        columns: &[ArrayRef],
        hashes: &UInt64Array,
        slots: &mut Vec<Slot>,
        new_rows: &mut Vec<u32>,
    ) -> Result<(), KeyIndexError> {
        slots.clear();
        new_rows.clear();
        slots.reserve(hashes.len());
        let Self { table, keys } = self;
        if Slot::try_from(keys.len() + hashes.len()).is_err() {
            return Err(KeyIndexError::Full);
        }
        keys.for_each_row(columns, |row, mut key| {
            let hash = hashes.value(row);
            let found = table.find(bucket_hash(hash), |entry| {
                entry.hash == hash && key.is(entry.slot)
            });
            let slot = match found {
                Some(entry) => entry.slot,
                None => {
                    let slot = key.insert();
                    table.insert_unique(bucket_hash(hash), Entry { hash, slot }, |entry| {
                        bucket_hash(entry.hash)
                    });
                    new_rows.push(row as u32);
                    slot
                }
            };
            slots.push(slot);
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
