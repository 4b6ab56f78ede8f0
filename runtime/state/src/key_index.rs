//! From keys to slots: the hash table under every keyed operator.
//!
//! ```text
//!   key columns + key hashes --slots()--> slot of each row
//!                                           |
//!                   accumulators, values, first rows: plain vectors, indexed by slot
//! ```
//!
//! The table holds slots; the keys themselves lie in a store made for their type, so that a key costs no allocation of
//! its own and a batch whose keys are all known allocates nothing.
//!
//! Invariants: a slot belongs to one key from [`KeyIndex::slots`] to [`KeyIndex::remove`], then to the next new key; slots
//! are below [`KeyIndex::slot_count`]; two rows get the same slot if and only if their keys are equal by the key hash's
//! logical equality (-0.0 is 0.0, every NaN is one NaN, null is a key).

mod store;

use arrow::array::{ArrayRef, UInt64Array};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use hashbrown::HashTable;

use crate::table::{make_room, unused};
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

/// Key -> slot, with the keys and their hashes by slot.
pub struct KeyIndex {
    table: HashTable<Slot>,
    slots: Slots,
    keys: KeyStore,
}

/// Where the rows of a restored table are in the order of slots.
pub(crate) struct RestoredKeys {
    /// Of the row before; [`Slot::MAX`] = none.
    last: Slot,
    /// A key may come in several rows, behind each other.
    repeats: bool,
    /// There was no key before those of this table, and each comes once: they are put into the hash table at its end.
    all_new: bool,
}

/// Bytes of a slot in the hash table, with its control byte.
const BUCKET_BYTES: usize = size_of::<Slot>() + 1;
/// A part of the hash table that stays in a processor's cache, and how many parts are made at most.
const PART_BYTES: usize = 128 << 10;
const MOST_PARTS: usize = 1024;

/// Which slots there are.
#[derive(Default)]
struct Slots {
    /// By slot, also those that are free.
    hashes: Vec<u64>,
    /// By slot.
    live: Vec<bool>,
    free: Vec<Slot>,
}

impl Slots {
    /// Whether the slot is of a key with this hash.
    #[inline]
    fn has(&self, slot: Slot, hash: u64) -> bool {
        let place = slot as usize;
        self.hashes.get(place) == Some(&hash) && self.live[place]
    }

    fn take(&mut self, hash: u64) -> Slot {
        match self.free.pop() {
            Some(slot) => {
                self.hashes[slot as usize] = hash;
                self.live[slot as usize] = true;
                slot
            }
            None => {
                let len = self.hashes.len() + 1;
                make_room(&mut self.hashes, len);
                self.hashes.push(hash);
                self.live.push(true);
                (self.hashes.len() - 1) as Slot
            }
        }
    }
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
            slots: Slots::default(),
            keys: KeyStore::new(types)?,
        })
    }

    /// How many keys it holds.
    pub fn len(&self) -> usize {
        self.slots.hashes.len() - self.slots.free.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All slots are below this: how long vectors by slot must be.
    pub fn slot_count(&self) -> usize {
        self.slots.hashes.len()
    }

    /// Whether a key has this slot.
    pub fn is_live(&self, slot: Slot) -> bool {
        self.slots.live.get(slot as usize).copied().unwrap_or(false)
    }

    /// The key hash of a live slot.
    #[inline]
    pub fn hash(&self, slot: Slot) -> u64 {
        self.slots.hashes[slot as usize]
    }

    /// Bytes held.
    pub fn memory_size(&self) -> usize {
        self.table.allocation_size()
            + self.slots.hashes.capacity() * size_of::<u64>()
            + self.slots.live.capacity()
            + self.slots.free.capacity() * size_of::<Slot>()
            + self.keys.memory_size()
    }

    /// How many of them are room that nobody uses, about.
    pub fn slack(&self) -> usize {
        let live = self.len();
        unused(&self.slots.hashes, live) + unused(&self.slots.live, live) + self.keys.slack(live)
    }

    /// Gives room back that keys had which are gone.
    pub fn give_back(&mut self) {
        self.keys.give_back();
    }

    /// Gives room back: the slots behind the last that is in use are forgotten. How many slots there are then.
    pub fn shrink(&mut self) -> usize {
        let last = self.slots.live.iter().rposition(|live| *live);
        let count = last.map_or(0, |last| last + 1);
        self.slots.hashes.truncate(count);
        self.slots.hashes.shrink_to_fit();
        self.slots.live.truncate(count);
        self.slots.live.shrink_to_fit();
        self.slots.free.retain(|slot| (*slot as usize) < count);
        self.slots.free.shrink_to_fit();
        let hashes = &self.slots.hashes;
        self.table
            .shrink_to(0, |slot| bucket_hash(hashes[*slot as usize]));
        self.keys.shrink(count);
        count
    }

    /// Bytes that the slot's key takes by itself, about.
    pub fn key_bytes(&self, slot: Slot) -> usize {
        self.keys.key_bytes(slot)
    }

    /// The slot of every row in `slots` (cleared first). New keys get free slots or the next ones; `new_rows` (cleared
    /// first) holds the row in which each of them came first.
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
        let Self {
            table,
            slots: known,
            keys,
        } = self;
        if Slot::try_from(known.hashes.len() + hashes.len()).is_err() {
            return Err(KeyIndexError::Full);
        }
        keys.for_each_row(columns, |row, mut key| {
            let hash = hashes.value(row);
            let found = table.find(bucket_hash(hash), |slot| key.is(*slot));
            let slot = match found {
                Some(slot) => *slot,
                None => {
                    let slot = known.take(hash);
                    key.insert(slot);
                    table.insert_unique(bucket_hash(hash), slot, |slot| {
                        bucket_hash(known.hashes[*slot as usize])
                    });
                    new_rows.push(row as u32);
                    slot
                }
            };
            slots.push(slot);
        })?;
        Ok(())
    }

    /// Room for so many keys more.
    pub(crate) fn reserve(&mut self, keys: usize) {
        let Self {
            table,
            slots,
            keys: store,
        } = self;
        let hashes = &slots.hashes;
        table.reserve(keys, |slot| bucket_hash(hashes[*slot as usize]));
        slots.hashes.reserve_exact(keys);
        slots.live.reserve_exact(keys);
        store.reserve(keys);
    }

    /// For [`Self::restored_slots`] of one table's rows; `repeats`: a key may have several.
    pub(crate) fn restored_keys(&self, repeats: bool) -> RestoredKeys {
        RestoredKeys {
            last: Slot::MAX,
            repeats,
            all_new: !repeats && self.slots.hashes.is_empty(),
        }
    }

    /// As [`Self::slots`], for restored rows. Those of a key come behind each other, and keys mostly in the order in which an earlier
    /// table brought them: then none has to be looked for. Behind the last rows of a table comes [`Self::end_restored`].
    pub(crate) fn restored_slots(
        &mut self,
        columns: &[ArrayRef],
        hashes: &[u64],
        before: &mut RestoredKeys,
        slots: &mut Vec<Slot>,
    ) -> Result<(), KeyIndexError> {
        slots.clear();
        slots.reserve(hashes.len());
        let Self {
            table,
            slots: known,
            keys,
        } = self;
        if Slot::try_from(known.hashes.len() + hashes.len()).is_err() {
            return Err(KeyIndexError::Full);
        }
        if before.all_new {
            let first = known.hashes.len() as Slot;
            keys.append(columns, first)?;
            known.hashes.extend_from_slice(hashes);
            known.live.resize(known.hashes.len(), true);
            slots.extend(first..known.hashes.len() as Slot);
            return Ok(());
        }
        keys.for_each_row(columns, |row, mut key| {
            let hash = hashes[row];
            let (last, next) = (before.last, before.last.wrapping_add(1));
            let slot = if before.repeats && known.has(last, hash) && key.is(last) {
                last
            } else if known.has(next, hash) && key.is(next) {
                next
            } else if let Some(slot) = table.find(bucket_hash(hash), |slot| key.is(*slot)) {
                *slot
            } else {
                let slot = known.take(hash);
                key.insert(slot);
                table.insert_unique(bucket_hash(hash), slot, |slot| {
                    bucket_hash(known.hashes[*slot as usize])
                });
                slot
            };
            before.last = slot;
            slots.push(slot);
        })?;
        Ok(())
    }

    /// The last rows of a table were restored.
    pub(crate) fn end_restored(&mut self, keys: &RestoredKeys) {
        if keys.all_new {
            self.insert_all();
        }
    }

    /// Puts all slots into the table, which is empty. Those that lie near each other there come together: else each of them would wait
    /// for memory.
    fn insert_all(&mut self) {
        let Self { table, slots, .. } = self;
        let hashes = &slots.hashes;
        let hash_of = |slot: &Slot| bucket_hash(hashes[*slot as usize]);
        table.reserve(hashes.len(), hash_of);
        let buckets = table.capacity().next_power_of_two();
        let parts = (buckets * BUCKET_BYTES / PART_BYTES)
            .next_power_of_two()
            .min(MOST_PARTS);
        if parts == 1 {
            for slot in 0..hashes.len() as Slot {
                table.insert_unique(hash_of(&slot), slot, hash_of);
            }
            return;
        }
        let shift = buckets.ilog2() - parts.ilog2();
        let part_of = |hash: u64| bucket_hash(hash) as usize >> shift & (parts - 1);
        let mut starts = vec![0_usize; parts + 1];
        for hash in hashes {
            starts[part_of(*hash) + 1] += 1;
        }
        for part in 1..=parts {
            starts[part] += starts[part - 1];
        }
        let mut by_part = vec![(0_u64, 0); hashes.len()];
        for (slot, hash) in hashes.iter().enumerate() {
            let place = &mut starts[part_of(*hash)];
            by_part[*place] = (bucket_hash(*hash), slot as Slot);
            *place += 1;
        }
        for (hash, slot) in by_part {
            table.insert_unique(hash, slot, hash_of);
        }
    }

    /// Forgets the key of a slot, which is free then. Nothing happens if it is free.
    pub fn remove(&mut self, slot: Slot) {
        if !self.is_live(slot) {
            return;
        }
        let hash = bucket_hash(self.hash(slot));
        if let Ok(entry) = self.table.find_entry(hash, |found| *found == slot) {
            entry.remove();
        }
        self.slots.live[slot as usize] = false;
        self.slots.free.push(slot);
        self.keys.remove(slot);
    }

    /// The keys of live slots, as columns of the types of [`Self::new`] (floats in their canonical form).
    pub fn keys(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, KeyIndexError> {
        Ok(self.keys.columns(slots)?)
    }
}

#[cfg(test)]
mod tests;
