//! Which slots of a table were written since the last snapshot, and which are in one.
//!
//! Invariants: `listed` holds each marked slot, and each slot at most once; nothing is marked or saved while changes are not tracked.

use super::unused;
use crate::key_index::Slot;

const DIRTY: u8 = 1;
const SAVED: u8 = 2;
/// Stands in `listed`.
const LISTED: u8 = 4;

/// If one slot of so many is listed, looking at all flags costs less than sorting the list.
const SCANNED_SLOTS: usize = 8;

/// By slot.
#[derive(Default)]
pub(super) struct Marks {
    flags: Vec<u8>,
    listed: Vec<Slot>,
    tracking: bool,
}

impl Marks {
    pub(super) fn resize(&mut self, count: usize) {
        self.flags.resize(count, 0);
    }

    pub(super) fn reserve(&mut self, slots: usize) {
        self.flags.reserve_exact(slots);
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
            if *flags & LISTED == 0 {
                self.listed.push(slot);
            }
            *flags |= DIRTY | LISTED;
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

    /// The marked slots, in order: whoever reads their rows goes through memory once, instead of jumping about in it. No slot is marked
    /// from now on.
    pub(super) fn take(&mut self) -> Vec<Slot> {
        let mut slots = std::mem::take(&mut self.listed);
        let take_mark = |flags: &mut u8| {
            let is_dirty = *flags & DIRTY != 0;
            *flags &= !(DIRTY | LISTED);
            is_dirty
        };
        if slots.len() > self.flags.len() / SCANNED_SLOTS {
            let marked = (0..).zip(&mut self.flags);
            slots.clear();
            slots.extend(marked.filter_map(|(slot, flags)| take_mark(flags).then_some(slot)));
        } else {
            slots.retain(|slot| take_mark(&mut self.flags[*slot as usize]));
            slots.sort_unstable();
        }
        slots
    }

    /// Those of these slots that are marked; they are not from now on.
    pub(super) fn take_of(&mut self, slots: &[Slot]) -> Vec<Slot> {
        let mut taken = Vec::new();
        for slot in slots {
            let flags = &mut self.flags[*slot as usize];
            if *flags & DIRTY != 0 {
                *flags &= !DIRTY;
                taken.push(*slot);
            }
        }
        taken
    }

    /// The slot is another's: nothing is known of it.
    #[inline]
    pub(super) fn forget(&mut self, slot: Slot) {
        self.flags[slot as usize] &= LISTED;
    }

    pub(super) fn slack(&self, live: usize) -> usize {
        unused(&self.flags, live)
    }

    pub(super) fn shrink(&mut self, count: usize) {
        self.flags.truncate(count);
        self.flags.shrink_to_fit();
        self.listed.retain(|slot| (*slot as usize) < count);
        self.listed.shrink_to_fit();
    }

    pub(super) fn memory_size(&self) -> usize {
        self.flags.capacity() + self.listed.capacity() * size_of::<Slot>()
    }
}

/// Which places of a table were written since the last snapshot, for tables whose rows aren't slots.
///
/// Invariant: `listed` holds each written place, and each place at most once.
#[derive(Default)]
pub(super) struct Changed {
    flags: Vec<u8>,
    listed: Vec<u32>,
}

impl Changed {
    /// One more place.
    pub(super) fn add_place(&mut self) {
        self.flags.push(0);
    }

    #[inline]
    pub(super) fn touch(&mut self, place: u32) {
        let flags = &mut self.flags[place as usize];
        if *flags & LISTED == 0 {
            self.listed.push(place);
        }
        *flags |= DIRTY | LISTED;
    }

    /// The written places; none is from now on.
    pub(super) fn take(&mut self) -> Vec<u32> {
        let mut places = std::mem::take(&mut self.listed);
        places.retain(|place| std::mem::take(&mut self.flags[*place as usize]) & DIRTY != 0);
        places
    }

    /// Whether the place was written; it is not from now on.
    pub(super) fn take_of(&mut self, place: u32) -> bool {
        let flags = &mut self.flags[place as usize];
        let is_dirty = *flags & DIRTY != 0;
        *flags &= !DIRTY;
        is_dirty
    }

    /// The place is free.
    #[inline]
    pub(super) fn forget(&mut self, place: u32) {
        self.flags[place as usize] &= LISTED;
    }

    pub(super) fn memory_size(&self) -> usize {
        self.flags.capacity() + self.listed.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_slots_come_once_and_in_order_be_they_few_or_most() {
        for touched in [vec![70, 3, 3, 41, 70], (0..90).rev().collect()] {
            let mut marks = Marks::default();
            marks.resize(100);
            marks.touch(5);
            assert_eq!(
                marks.take(),
                [0; 0],
                "nothing is marked before changes are tracked"
            );
            marks.track();
            touched.iter().for_each(|slot| marks.touch(*slot));
            // One that becomes another key's and is marked again, and one that does not.
            [3, 41].into_iter().for_each(|slot| marks.forget(slot));
            marks.touch(41);
            assert_eq!(marks.take_of(&[70, 99]), [70]);
            let mut expected: Vec<Slot> = touched.clone();
            expected.sort_unstable();
            expected.dedup();
            expected.retain(|slot| ![3, 70].contains(slot));
            assert_eq!(marks.take(), expected);
            assert_eq!(marks.take(), [0; 0]);
            marks.touch(70);
            assert_eq!(marks.take(), [70]);
        }
    }
}
