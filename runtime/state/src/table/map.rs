//! Values of a key by a key of their own.
//!
//! ```text
//!   (slot, map key) --hash table--> entry number --> entries: key, value, flags, next and previous of the slot
//!   slot --> its first and last entry: iteration in the order of insertion
//! ```
//!
//! All entries of the table lie in one vector, so that a small map costs no allocation of its own.
//!
//! Invariants: an entry without value is a removal that the next snapshot must say; a free place has no entry; an entry's
//! place stands in [`Changed`] once, whoever has the place.

mod stored;

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};
use thalweg_types::record::Record;

use super::marks::Changed;
use super::ttl::TtlClock;
use super::{StateTtl, make_room};
use crate::key_index::Slot;
use crate::snapshot::TableDescriptor;

/// No entry.
const NONE: u32 = u32::MAX;

/// Values by window, the pair of its start and its end.
pub type WindowTable<V> = MapTable<(i64, i64), V>;

/// Maps from `K` to `V` by slot: Flink's MapState. Entries expire one by one.
///
/// Slots come from [`crate::KeyedState::begin_batch`] or a timer; another one panics.
pub struct MapTable<K: Record, V: Record> {
    descriptor: Arc<TableDescriptor>,
    hasher: DefaultHashBuilder,
    places: HashTable<u32>,
    entries: Vec<Option<Entry<K, V>>>,
    free: Vec<u32>,
    maps: Vec<Map>,
    clock: TtlClock,
    changes: Changes,
    /// What keys and values hold besides their own size, without the value of `lent`.
    heap: usize,
    lent: Option<u32>,
    /// An expired value that may be read once more.
    expired: Option<V>,
    vacated: Vec<Slot>,
    next_sweep: usize,
}

struct Entry<K, V> {
    slot: Slot,
    previous: u32,
    next: u32,
    is_saved: bool,
    key: K,
    value: Option<V>,
    accessed: i64,
}

/// One slot's entries.
#[derive(Clone, Copy)]
struct Map {
    first: u32,
    last: u32,
    /// Entries with a value.
    len: u32,
    /// Whether a snapshot may have entries of it.
    is_saved: bool,
    /// Whether the next snapshot must say that those are gone.
    is_cleared: bool,
}

const EMPTY: Map = Map {
    first: NONE,
    last: NONE,
    len: 0,
    is_saved: false,
    is_cleared: false,
};

/// What the next snapshot must say.
#[derive(Default)]
struct Changes {
    tracking: bool,
    /// Places that were written.
    written: Changed,
    /// Slots whose maps were cleared; some may be others' now, or have been said.
    cleared: Vec<Slot>,
}

/// Cleared maps are looked through only if there are more of them.
const MIN_CLEARED: usize = 1024;

impl Changes {
    #[inline]
    fn touch(&mut self, place: u32) {
        if self.tracking {
            self.written.touch(place);
        }
    }
}

impl<K: Record, V: Record> Entry<K, V> {
    fn heap_bytes(&self) -> usize {
        K::heap_bytes(K::view(&self.key)) + value_bytes(self.value.as_ref())
    }
}

fn value_bytes<V: Record>(value: Option<&V>) -> usize {
    value.map_or(0, |value| V::heap_bytes(V::view(value)))
}

/// The key is part of the hash: a subtask's keys share one table.
#[inline]
fn hash_of<Q: Hash + ?Sized>(hasher: &DefaultHashBuilder, slot: Slot, key: &Q) -> u64 {
    let mut state = hasher.build_hasher();
    slot.hash(&mut state);
    key.hash(&mut state);
    state.finish()
}

impl<K: Record + Hash + Eq, V: Record> MapTable<K, V> {
    pub(crate) fn new(descriptor: Arc<TableDescriptor>, ttl: Option<StateTtl>) -> Self {
        Self {
            descriptor,
            hasher: DefaultHashBuilder::default(),
            places: HashTable::new(),
            entries: Vec::new(),
            free: Vec::new(),
            maps: Vec::new(),
            clock: TtlClock::new(ttl),
            changes: Changes::default(),
            heap: 0,
            lent: None,
            expired: None,
            vacated: Vec::new(),
            next_sweep: 0,
        }
    }

    /// The value of a key of the map. May begin its life anew or find it expired; [`Self::peek`] doesn't.
    #[inline]
    pub fn get<Q>(&mut self, slot: Slot, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let place = self.find(slot, key)?;
        if self.clock.is_on() && !self.read(place) {
            return self.expired.as_ref();
        }
        self.entry(place).value.as_ref()
    }

    /// The value if it is not expired, without being a use of it.
    pub fn peek<Q>(&self, slot: Slot, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let entry = self.entry(self.find(slot, key)?);
        entry
            .value
            .as_ref()
            .filter(|_| !self.clock.is_expired(entry.accessed))
    }

    /// Whether the map has the key.
    pub fn contains<Q>(&mut self, slot: Slot, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.get(slot, key).is_some()
    }

    /// Puts a value.
    #[inline]
    pub fn put(&mut self, slot: Slot, key: K, value: V) {
        self.measure_lent();
        self.heap += V::heap_bytes(V::view(&value));
        let place = self.find_or_insert(slot, key);
        let entry = entry_mut(&mut self.entries, place);
        self.heap -= value_bytes(entry.value.as_ref());
        if entry.value.replace(value).is_none() {
            self.maps[slot as usize].len += 1;
        }
        self.written(place);
    }

    /// The value to be changed in place, which counts as a write; `None` if there is none or it is expired.
    pub fn get_mut<Q>(&mut self, slot: Slot, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.measure_lent();
        let place = self.find(slot, key)?;
        if self.drop_expired(place) || self.entry(place).value.is_none() {
            return None;
        }
        Some(self.lend(place))
    }

    /// The value to be changed in place, made by `create` if there is none.
    #[inline]
    pub fn get_or_insert_with(&mut self, slot: Slot, key: K, create: impl FnOnce() -> V) -> &mut V {
        self.measure_lent();
        let mut place = self.find_or_insert(slot, key);
        if self.clock.is_expired(self.entry(place).accessed) && self.entry(place).value.is_some() {
            let key = self.entry(place).key.clone();
            self.remove_place(place);
            place = self.find_or_insert(slot, key);
        }
        let entry = entry_mut(&mut self.entries, place);
        if entry.value.is_none() {
            let value = create();
            self.heap += V::heap_bytes(V::view(&value));
            entry.value = Some(value);
            self.maps[slot as usize].len += 1;
        }
        self.lend(place)
    }

    /// Removes a key of the map and gives its value, unless it is expired.
    pub fn remove<Q>(&mut self, slot: Slot, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.measure_lent();
        let place = self.find(slot, key)?;
        let is_expired = self.clock.is_expired(self.entry(place).accessed);
        self.remove_place(place).filter(|_| !is_expired)
    }

    /// The map's entries in the order of their insertion.
    pub fn iter(&mut self, slot: Slot) -> MapIter<'_, K, V> {
        if self.clock.updates_on_read() {
            self.use_all(slot);
        }
        self.peek_all(slot, self.clock.returns_expired())
    }

    /// The map's entries that are not expired, without being a use of them.
    pub fn peek_iter(&self, slot: Slot) -> MapIter<'_, K, V> {
        self.peek_all(slot, false)
    }

    /// Whether the map has no entry that may be read.
    pub fn is_empty(&self, slot: Slot) -> bool {
        let map = &self.maps[slot as usize];
        map.len == 0
            || (self.clock.is_on() && self.peek_all(slot, self.clock.returns_expired()).next().is_none())
    }

    /// Removes all entries.
    pub fn clear(&mut self, slot: Slot) {
        self.measure_lent();
        let map = std::mem::replace(&mut self.maps[slot as usize], EMPTY);
        let mut place = map.first;
        while place != NONE {
            place = self.forget(place);
        }
        if map.is_saved && self.changes.tracking {
            self.maps[slot as usize].is_cleared = true;
            if !map.is_cleared {
                self.note_cleared(slot);
            }
        }
        // An earlier clear is still to be said, also if nothing was saved since.
        if map.is_cleared {
            self.maps[slot as usize].is_cleared = true;
        }
        self.vacated.push(slot);
    }

    fn note_cleared(&mut self, slot: Slot) {
        let cleared = &mut self.changes.cleared;
        if cleared.len() >= MIN_CLEARED.max(2 * self.maps.len()) {
            cleared.sort_unstable();
            cleared.dedup();
            cleared.retain(|slot| self.maps[*slot as usize].is_cleared);
        }
        cleared.push(slot);
    }

    fn peek_all(&self, slot: Slot, expired: bool) -> MapIter<'_, K, V> {
        MapIter {
            table: self,
            next: self.maps[slot as usize].first,
            expired,
        }
    }

    fn find<Q>(&self, slot: Slot, key: &Q) -> Option<u32>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = hash_of(&self.hasher, slot, key);
        let is_it = |place: &u32| {
            let entry = self.entry(*place);
            entry.slot == slot && entry.key.borrow() == key
        };
        self.places.find(hash, is_it).copied()
    }

    /// The entry's place; a new one has no value yet.
    fn find_or_insert(&mut self, slot: Slot, key: K) -> u32 {
        if let Some(place) = self.find(slot, &key) {
            return place;
        }
        let hash = hash_of(&self.hasher, slot, &key);
        self.heap += K::heap_bytes(K::view(&key));
        let map = &mut self.maps[slot as usize];
        let entry = Entry {
            slot,
            previous: map.last,
            next: NONE,
            is_saved: false,
            key,
            value: None,
            accessed: self.clock.now(),
        };
        let place = match self.free.pop() {
            Some(place) => {
                self.entries[place as usize] = Some(entry);
                place
            }
            None => {
                let len = self.entries.len() + 1;
                make_room(&mut self.entries, len);
                self.entries.push(Some(entry));
                self.changes.written.add_place();
                (self.entries.len() - 1) as u32
            }
        };
        let last = std::mem::replace(&mut map.last, place);
        if last == NONE {
            map.first = place;
        } else {
            entry_mut(&mut self.entries, last).next = place;
        }
        let Self { entries, hasher, .. } = self;
        self.places.insert_unique(hash, place, |place| {
            let entry = entry_of(entries, *place);
            hash_of(hasher, entry.slot, &entry.key)
        });
        place
    }

    /// Whether the value may be read; it is used then.
    fn read(&mut self, place: u32) -> bool {
        self.expired = None;
        let entry = self.entry(place);
        if entry.value.is_none() {
            return false;
        }
        if self.clock.is_expired(entry.accessed) {
            self.measure_lent();
            let value = self.remove_place(place);
            self.expired = value.filter(|_| self.clock.returns_expired());
            return false;
        }
        if self.clock.updates_on_read() && entry.accessed != self.clock.now() {
            self.written(place);
        }
        true
    }

    /// All entries are used now.
    fn use_all(&mut self, slot: Slot) {
        let mut place = self.maps[slot as usize].first;
        while place != NONE {
            let next = self.entry(place).next;
            self.read(place);
            place = next;
        }
        self.expired = None;
    }

    fn drop_expired(&mut self, place: u32) -> bool {
        let is_expired = self.clock.is_expired(self.entry(place).accessed);
        if is_expired {
            self.remove_place(place);
        }
        is_expired
    }

    #[inline]
    fn written(&mut self, place: u32) {
        self.changes.touch(place);
        if self.clock.is_on() {
            entry_mut(&mut self.entries, place).accessed = self.clock.now();
        }
    }

    #[inline]
    fn lend(&mut self, place: u32) -> &mut V {
        self.written(place);
        self.lent = Some(place);
        let entry = entry_mut(&mut self.entries, place);
        self.heap -= value_bytes(entry.value.as_ref());
        match &mut entry.value {
            Some(value) => value,
            None => unreachable!("only entries with a value are lent"),
        }
    }

    #[inline]
    fn measure_lent(&mut self) {
        if let Some(place) = self.lent.take() {
            self.heap += value_bytes(self.entry(place).value.as_ref());
        }
    }

    /// Takes the value out; the entry stays if the next snapshot must say so.
    fn remove_place(&mut self, place: u32) -> Option<V> {
        let entry = entry_mut(&mut self.entries, place);
        let value = entry.value.take()?;
        self.heap -= V::heap_bytes(V::view(&value));
        let slot = entry.slot;
        self.maps[slot as usize].len -= 1;
        if entry.is_saved {
            self.changes.touch(place);
        } else {
            self.unlink(place);
        }
        if self.maps[slot as usize].len == 0 {
            self.vacated.push(slot);
        }
        Some(value)
    }

    /// Takes the entry out of its map and frees its place.
    fn unlink(&mut self, place: u32) {
        let Entry {
            slot, previous, next, ..
        } = *self.entry(place);
        let map = &mut self.maps[slot as usize];
        match previous {
            NONE => map.first = next,
            previous => entry_mut(&mut self.entries, previous).next = next,
        }
        match next {
            NONE => map.last = previous,
            next => entry_mut(&mut self.entries, next).previous = previous,
        }
        self.forget(place);
    }

    /// Frees a place. The next one of its slot.
    fn forget(&mut self, place: u32) -> u32 {
        let entry = self.entry(place);
        let hash = hash_of(&self.hasher, entry.slot, &entry.key);
        if let Ok(found) = self.places.find_entry(hash, |found| *found == place) {
            found.remove();
        }
        self.free.push(place);
        self.changes.written.forget(place);
        match self.entries[place as usize].take() {
            Some(entry) => {
                self.heap -= entry.heap_bytes();
                entry.next
            }
            None => NONE,
        }
    }

    #[inline]
    fn entry(&self, place: u32) -> &Entry<K, V> {
        entry_of(&self.entries, place)
    }
}

#[inline]
fn entry_of<K, V>(entries: &[Option<Entry<K, V>>], place: u32) -> &Entry<K, V> {
    match &entries[place as usize] {
        Some(entry) => entry,
        None => unreachable!("a place in the hash table or in a map has an entry"),
    }
}

#[inline]
fn entry_mut<K, V>(entries: &mut [Option<Entry<K, V>>], place: u32) -> &mut Entry<K, V> {
    match &mut entries[place as usize] {
        Some(entry) => entry,
        None => unreachable!("a place in the hash table or in a map has an entry"),
    }
}

/// Entries of one map.
pub struct MapIter<'a, K: Record, V: Record> {
    table: &'a MapTable<K, V>,
    next: u32,
    expired: bool,
}

impl<'a, K: Record, V: Record> Iterator for MapIter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        while self.next != NONE {
            let entry = entry_of(&self.table.entries, self.next);
            self.next = entry.next;
            let is_seen = self.expired || !self.table.clock.is_expired(entry.accessed);
            if let Some(value) = entry.value.as_ref().filter(|_| is_seen) {
                return Some((&entry.key, value));
            }
        }
        None
    }
}
