//! What is due when.

use std::collections::BTreeMap;

/// Timers by due time, then in the order in which they were set.
#[derive(Debug)]
pub(super) struct Timers<T> {
    set: u64,
    due: BTreeMap<(u64, u64), T>,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self {
            set: 0,
            due: BTreeMap::new(),
        }
    }
}

impl<T> Timers<T> {
    pub(super) fn set(&mut self, due_ms: u64, timer: T) {
        self.set += 1;
        self.due.insert((due_ms, self.set), timer);
    }

    pub(super) fn next_due(&self) -> Option<u64> {
        self.due.keys().next().map(|(due_ms, _)| *due_ms)
    }

    pub(super) fn pop_due(&mut self, now_ms: u64) -> Option<T> {
        self.next_due().filter(|due_ms| *due_ms <= now_ms)?;
        self.due.pop_first().map(|(_, timer)| timer)
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.due.retain(|_, timer| keep(timer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_come_when_they_are_due_in_their_order() {
        let mut timers = Timers::default();
        timers.set(20, "late");
        timers.set(10, "first");
        timers.set(10, "second");
        assert_eq!(timers.pop_due(9), None);
        assert_eq!(
            (timers.pop_due(10), timers.pop_due(10), timers.pop_due(10)),
            (Some("first"), Some("second"), None)
        );
        assert_eq!(timers.next_due(), Some(20));
    }
}
