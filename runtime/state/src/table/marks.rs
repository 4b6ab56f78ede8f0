//! Which slots of a table were written since the last snapshot, and which are in one.
//!
//! Invariants: `dirty` holds each marked slot once; nothing is marked or saved while changes are not tracked.

use super::unused;
use crate::key_index::Slot;

const DIRTY: u8 = 1;
const SAVED: u8 = 2;

/// By slot.
#[derive(Default)]
pub(super) struct Marks {
    flags: Vec<u8>,
    dirty: Vec<Slot>,
    tracking: bool,
}

impl Marks {
    pub(super) fn resize(&mut self, count: usize) {
        self.flags.resize(count, 0);
    }

    pub(super) fn track(&mut self) {
        self.tracking = true;
    }

    #[inline]
    pub(super) fn is_tracking(&self) -> bool {
        self.tracking
    }

    /// The slot is written.
    #[inline]
    pub(super) fn touch(&mut self, slot: Slot) {
        let flags = &mut self.flags[slot as usize];
        if self.tracking && *flags & DIRTY == 0 {
            *flags |= DIRTY;
            self.dirty.push(slot);
        }
    }

    /// Whether the last snapshot, with what it builds on, has rows of the slot.
    #[inline]
    pub(super) fn is_saved(&self, slot: Slot) -> bool {
        self.flags[slot as usize] & SAVED != 0
    }

    /// Notes what the snapshot that is being made has of the slot.
    #[inline]
    pub(super) fn set_saved(&mut self, slot: Slot, saved: bool) {
        let flags = &mut self.flags[slot as usize];
        if saved && self.tracking {
            *flags |= SAVED;
        } else {
            *flags &= !SAVED;
        }
    }

    /// The marked slots; no slot is marked from now on.
    pub(super) fn take(&mut self) -> Vec<Slot> {
        for slot in &self.dirty {
            self.flags[*slot as usize] &= !DIRTY;
        }
        std::mem::take(&mut self.dirty)
    }

    /// The slot is another's: nothing is known of it. It must not be marked.
    #[inline]
    pub(super) fn forget(&mut self, slot: Slot) {
        self.flags[slot as usize] = 0;
    }

    pub(super) fn slack(&self, live: usize) -> usize {
        unused(&self.flags, live)
    }

    pub(super) fn shrink(&mut self, count: usize) {
        self.flags.truncate(count);
        self.flags.shrink_to_fit();
        self.dirty.shrink_to_fit();
    }

    pub(super) fn memory_size(&self) -> usize {
        self.flags.capacity() + self.dirty.capacity() * size_of::<Slot>()
    }
}
