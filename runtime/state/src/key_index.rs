//! From keys to slots: the hash table under every keyed operator.
//!
//! ```text
//!   key columns + key hashes --slots()--> slot of each row
//!                                           |
//!                   accumulators, values, first rows: plain vectors, indexed by slot
//! ```
//!
//! The table holds slots; the keys themselves lie in a store made for their type, so that a key costs no allocation of
//! its own and a batch whose keys are all known allocates nothing. Key hashes are kept beside those keys alone whose hash costs more than
//! to read it.
//!
//! Invariants: a slot belongs to one key from [`KeyIndex::slots`] to [`KeyIndex::remove`], then to the next new key; slots
//! are below [`KeyIndex::slot_count`]; two rows get the same slot if and only if their keys are equal by the key hash's
//! logical equality (-0.0 is 0.0, every NaN is one NaN, null is a key).

mod store;

use arrow::array::{ArrayRef, BooleanBufferBuilder, UInt64Array};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use hashbrown::HashTable;
use thalweg_types::key_hash::hash_rows;

use crate::state_hash::StateHash;

use crate::table::{make_room, unused};
use store::{KeyStore, RowKey};

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

/// Key -> slot, with the keys by slot.
pub struct KeyIndex {
    table: HashTable<Slot>,
    slots: Slots,
    keys: KeyStore,
    /// How keys are hashed, if not by all their columns.
    state_hash: Option<StateHash>,
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
struct Slots {
    /// Key hashes by slot, also of those that are free; none if the table is ordered by the keys themselves.
    hashes: Option<Vec<u64>>,
    /// By slot.
    live: BooleanBufferBuilder,
    free: Vec<Slot>,
}

impl Slots {
    fn len(&self) -> usize {
        self.live.len()
    }

    #[inline]
    fn is_live(&self, slot: Slot) -> bool {
        (slot as usize) < self.live.len() && self.live.get_bit(slot as usize)
    }

    /// Whether the slot is of this key, which has this hash.
    #[inline]
    fn has(&self, slot: Slot, hash: u64, key: &RowKey<'_>) -> bool {
        let may_be = match &self.hashes {
            Some(hashes) => hashes.get(slot as usize) == Some(&hash),
            None => true,
        };
        may_be && self.is_live(slot) && key.is(slot)
    }

    fn take(&mut self, hash: u64) -> Slot {
        match self.free.pop() {
            Some(slot) => {
                if let Some(hashes) = &mut self.hashes {
                    hashes[slot as usize] = hash;
                }
                self.live.set_bit(slot as usize, true);
                slot
            }
            None => {
                if let Some(hashes) = &mut self.hashes {
                    let len = hashes.len() + 1;
                    make_room(hashes, len);
                    hashes.push(hash);
                }
                self.live.append(true);
                (self.live.len() - 1) as Slot
            }
        }
    }

    /// By what the table finds the slot: what its key says of that itself, or the key hash.
    #[inline]
    fn bucket(&self, slot: Slot, by_key: Option<u64>) -> u64 {
        match (by_key, &self.hashes) {
            (Some(bucket), _) => bucket,
            (None, Some(hashes)) => bucket_hash(hashes[slot as usize]),
            (None, None) => 0,
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
        let keys = KeyStore::new(types)?;
        Ok(Self {
            table: HashTable::new(),
            slots: Slots {
                hashes: (!keys.has_buckets()).then(Vec::new),
                live: BooleanBufferBuilder::new(0),
                free: Vec::new(),
            },
            keys,
            state_hash: None,
        })
    }

    /// For keys that are hashed so.
    pub(crate) fn with_state_hash(self, state_hash: StateHash) -> Self {
        Self {
            state_hash: Some(state_hash),
            ..self
        }
    }

    /// How many keys it holds.
    pub fn len(&self) -> usize {
        self.slots.len() - self.slots.free.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All slots are below this: how long vectors by slot must be.
    pub fn slot_count(&self) -> usize {
        self.slots.len()
    }

    /// Whether a key has this slot.
    pub fn is_live(&self, slot: Slot) -> bool {
        self.slots.is_live(slot)
    }

    /// The key hashes of live slots.
    pub fn hashes(&self, slots: &[Slot]) -> Result<Vec<u64>, KeyIndexError> {
        match &self.slots.hashes {
            Some(hashes) => Ok(slots.iter().map(|slot| hashes[*slot as usize]).collect()),
            None => {
                let mut hashes = Vec::new();
                let keys = self.keys(slots)?;
                match &self.state_hash {
                    Some(hash) => hash.hashes(&keys, &mut hashes)?,
                    None => hash_rows(&keys, &mut hashes)
                        .map_err(|error| ArrowError::ExternalError(Box::new(error)))?,
                }
                Ok(hashes)
            }
        }
    }

    /// Bytes held.
    pub fn memory_size(&self) -> usize {
        self.table.allocation_size()
            + self.slots.hashes.as_ref().map_or(0, Vec::capacity) * size_of::<u64>()
            + self.slots.live.capacity() / 8
            + self.slots.free.capacity() * size_of::<Slot>()
            + self.keys.memory_size()
    }

    /// How many of them are room that nobody uses, about.
    pub fn slack(&self) -> usize {
        let live = self.len();
        let hashes = self.slots.hashes.as_ref();
        hashes.map_or(0, |hashes| unused(hashes, live)) + self.keys.slack(live)
    }

    /// Gives room back that keys had which are gone.
    pub fn give_back(&mut self) {
        self.keys.give_back();
    }

    /// Gives room back: the slots behind the last that is in use are forgotten. How many slots there are then.
    pub fn shrink(&mut self) -> usize {
        let Self {
            table, slots, keys, ..
        } = self;
        let last = (0..slots.len()).rev().find(|slot| slots.live.get_bit(*slot));
        let count = last.map_or(0, |last| last + 1);
        slots.live.truncate(count);
        slots.free.retain(|slot| (*slot as usize) < count);
        slots.free.shrink_to_fit();
        if let Some(hashes) = &mut slots.hashes {
            hashes.truncate(count);
            hashes.shrink_to_fit();
        }
        table.shrink_to(0, |slot| slots.bucket(*slot, keys.bucket(*slot)));
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
            ..
        } = self;
        if Slot::try_from(known.len() + hashes.len()).is_err() {
            return Err(KeyIndexError::Full);
        }
        keys.for_each_row(columns, |row, mut key| {
            let hash = hashes.value(row);
            let bucket = key.bucket().unwrap_or_else(|| bucket_hash(hash));
            let found = table.find(bucket, |slot| key.is(*slot));
            let slot = match found {
                Some(slot) => *slot,
                None => {
                    let slot = known.take(hash);
                    key.insert(slot);
                    table.insert_unique(bucket, slot, |slot| known.bucket(*slot, key.bucket_of(*slot)));
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
            ..
        } = self;
        table.reserve(keys, |slot| slots.bucket(*slot, store.bucket(*slot)));
        if let Some(hashes) = &mut slots.hashes {
            hashes.reserve_exact(keys);
        }
        slots.live.reserve(keys);
        store.reserve(keys);
    }

    /// For [`Self::restored_slots`] of one table's rows; `repeats`: a key may have several.
    pub(crate) fn restored_keys(&self, repeats: bool) -> RestoredKeys {
        RestoredKeys {
            last: Slot::MAX,
            repeats,
            all_new: !repeats && self.slots.len() == 0,
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
            ..
        } = self;
        if Slot::try_from(known.len() + hashes.len()).is_err() {
            return Err(KeyIndexError::Full);
        }
        if before.all_new {
            let first = known.len() as Slot;
            keys.append(columns, first)?;
            if let Some(known) = &mut known.hashes {
                known.extend_from_slice(hashes);
            }
            known.live.append_n(hashes.len(), true);
            slots.extend(first..known.len() as Slot);
            return Ok(());
        }
        keys.for_each_row(columns, |row, mut key| {
            let hash = hashes[row];
            let (last, next) = (before.last, before.last.wrapping_add(1));
            let slot = if before.repeats && known.has(last, hash, &key) {
                last
            } else if known.has(next, hash, &key) {
                next
            } else {
                let bucket = key.bucket().unwrap_or_else(|| bucket_hash(hash));
                match table.find(bucket, |slot| key.is(*slot)) {
                    Some(slot) => *slot,
                    None => {
                        let slot = known.take(hash);
                        key.insert(slot);
                        table.insert_unique(bucket, slot, |slot| known.bucket(*slot, key.bucket_of(*slot)));
                        slot
                    }
                }
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
        let Self {
            table, slots, keys, ..
        } = self;
        let count = slots.len() as Slot;
        let bucket_of = |slot: &Slot| slots.bucket(*slot, keys.bucket(*slot));
        table.reserve(count as usize, bucket_of);
        let buckets = table.capacity().next_power_of_two();
        let parts = (buckets * BUCKET_BYTES / PART_BYTES)
            .next_power_of_two()
            .min(MOST_PARTS);
        if parts == 1 {
            for slot in 0..count {
                table.insert_unique(bucket_of(&slot), slot, bucket_of);
            }
            return;
        }
        let shift = buckets.ilog2() - parts.ilog2();
        let part_of = |bucket: u64| bucket as usize >> shift & (parts - 1);
        let mut starts = vec![0_usize; parts + 1];
        for slot in 0..count {
            starts[part_of(bucket_of(&slot)) + 1] += 1;
        }
        for part in 1..=parts {
            starts[part] += starts[part - 1];
        }
        let mut by_part = vec![(0_u64, 0); count as usize];
        for slot in 0..count {
            let bucket = bucket_of(&slot);
            let place = &mut starts[part_of(bucket)];
            by_part[*place] = (bucket, slot);
            *place += 1;
        }
        for (bucket, slot) in by_part {
            table.insert_unique(bucket, slot, bucket_of);
        }
    }

    /// Forgets the key of a slot, which is free then. Nothing happens if it is free.
    pub fn remove(&mut self, slot: Slot) {
        if !self.is_live(slot) {
            return;
        }
        let bucket = self.slots.bucket(slot, self.keys.bucket(slot));
        if let Ok(entry) = self.table.find_entry(bucket, |found| *found == slot) {
            entry.remove();
        }
        self.slots.live.set_bit(slot as usize, false);
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
