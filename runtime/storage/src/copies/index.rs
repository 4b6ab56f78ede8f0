//! Which copies there are, which checkpoints need them, and which of them go. Pure.
//!
//! What a checkpoint needs that may still be restored (the newest complete one, and later ones) stays. A copy that an earlier
//! one needed and none of these does goes at once. One that no checkpoint has named yet may belong to one that is being
//! taken: it has [`GRACE`] completed checkpoints' time. When room is needed, the oldest of those that none needs goes first.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::file::Table;

/// Most copies of one job.
pub(super) const MOST_COPIES: usize = 100_000;
/// Completed checkpoints that an unnamed copy outlives.
const GRACE: u64 = 3;

/// What all copies together may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) bytes: u64,
    pub(super) copies: usize,
}

#[derive(Debug)]
struct Copy {
    /// Which of the folders.
    place: usize,
    bytes: u64,
    /// Number of checkpoints that had completed.
    born: u64,
    /// An earlier process made it.
    found: bool,
    order: u64,
    table: Option<Arc<Table>>,
}

/// A copy that is no more: its name and folder.
pub(super) type Removed = (String, usize);

#[derive(Debug, Default)]
pub(super) struct Index {
    copies: HashMap<String, Copy>,
    bytes: u64,
    /// Of copies being written.
    reserved: u64,
    /// By checkpoint.
    used: BTreeMap<u64, HashSet<String>>,
    newest_completed: u64,
    completions: u64,
    added: u64,
}

impl Index {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn is_news(&self, checkpoint_id: u64) -> bool {
        checkpoint_id > self.newest_completed && self.used.contains_key(&checkpoint_id)
    }

    pub(super) fn find(&self, key: &str) -> Option<(usize, Option<Arc<Table>>)> {
        let copy = self.copies.get(key)?;
        Some((copy.place, copy.table.clone()))
    }

    pub(super) fn note_table(&mut self, key: &str, table: Arc<Table>) {
        if let Some(copy) = self.copies.get_mut(key) {
            copy.table = Some(table);
        }
    }

    /// A copy that was just made.
    pub(super) fn add(&mut self, key: String, place: usize, bytes: u64, table: Arc<Table>) {
        self.insert(key, place, bytes, Some(table));
    }

    /// A copy that an earlier process made.
    pub(super) fn add_found(&mut self, key: String, place: usize, bytes: u64) {
        self.insert(key, place, bytes, None);
    }

    fn insert(&mut self, key: String, place: usize, bytes: u64, table: Option<Arc<Table>>) {
        self.added += 1;
        let copy = Copy {
            place,
            bytes,
            born: self.completions,
            found: table.is_none(),
            order: self.added,
            table,
        };
        self.bytes += bytes;
        if let Some(before) = self.copies.insert(key, copy) {
            self.bytes -= before.bytes;
        }
    }

    pub(super) fn reserve(&mut self, bytes: u64) {
        self.reserved += bytes;
    }

    pub(super) fn release(&mut self, bytes: u64) {
        self.reserved -= bytes;
    }

    pub(super) fn remove(&mut self, keys: &[String]) -> Vec<Removed> {
        keys.iter().filter_map(|key| self.take(key)).collect()
    }

    fn take(&mut self, key: &str) -> Option<Removed> {
        let (key, copy) = self.copies.remove_entry(key)?;
        self.bytes -= copy.bytes;
        Some((key, copy.place))
    }

    pub(super) fn use_by(&mut self, checkpoint_id: u64, keys: Vec<String>) {
        if checkpoint_id >= self.newest_completed {
            self.used.entry(checkpoint_id).or_default().extend(keys);
        }
    }

    pub(super) fn completed(&mut self, checkpoint_id: u64) -> Vec<Removed> {
        if !self.is_news(checkpoint_id) {
            return Vec::new();
        }
        self.newest_completed = checkpoint_id;
        self.completions += 1;
        let still_used = self.used.split_off(&checkpoint_id);
        let subsumed = std::mem::replace(&mut self.used, still_used);
        let mut gone: HashSet<String> = subsumed.into_values().flatten().collect();
        let forgotten = self
            .copies
            .iter()
            .filter(|(_, copy)| self.completions - copy.born > GRACE);
        gone.extend(forgotten.map(|(key, _)| key.clone()));
        gone.retain(|key| !self.is_used(key));
        gone.iter().filter_map(|key| self.take(key)).collect()
    }

    fn is_used(&self, key: &str) -> bool {
        self.used.values().any(|keys| keys.contains(key))
    }

    pub(super) fn has_room(&self, bytes: u64, limits: Limits) -> bool {
        let all = self.bytes.saturating_add(self.reserved).saturating_add(bytes);
        all <= limits.bytes && self.copies.len() < limits.copies
    }

    /// Removes what no checkpoint needs, the oldest first, until so many bytes have room; nothing if they can't have it.
    pub(super) fn evict_for(&mut self, bytes: u64, limits: Limits) -> Vec<Removed> {
        if self.has_room(bytes, limits) {
            return Vec::new();
        }
        let unused = self
            .copies
            .iter()
            .filter(|(key, copy)| (copy.found || copy.born < self.completions) && !self.is_used(key));
        let mut unused: Vec<(u64, String)> = unused.map(|(key, copy)| (copy.order, key.clone())).collect();
        unused.sort_unstable();
        let mut removed = Vec::new();
        for (_, key) in unused {
            if self.has_room(bytes, limits) {
                break;
            }
            removed.extend(self.take(&key));
        }
        removed
    }
}

/// Which folder a copy is in; None if there are none.
pub(super) fn place_of(key: &str, folders: usize) -> Option<usize> {
    (crc32c::crc32c(key.as_bytes()) as usize).checked_rem(folders)
}
