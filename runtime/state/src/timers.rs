//! Timers of keys, in event and in processing time.
//!
//! ```text
//!   register / delete (slot, window, time) --> event:      ordered by time --pop(watermark)-----> fired timers
//!                                              processing: ordered by time --pop(now)----------->
//! ```
//!
//! As in Flink a timer is unique by domain, key, namespace and time, and timers of a domain fire in the order of time. In a
//! snapshot a timer is a row without value: (domain, window start, window end, time).
//!
//! Invariants: `counts[slot]` is the number of the slot's timers and of those whose removal the next snapshot must say; the
//! lists of changes are never longer than a few times the timers that there are.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int8Array, Int8Builder, Int64Builder};
use arrow::datatypes::{DataType, Field, FieldRef, Int8Type, Int64Type};

use crate::key_index::Slot;
use crate::snapshot::{ChangeKind, StateError, TableDescriptor, TableKind};
use crate::table::{ChangeWriter, Table, TableRows, unused};

/// The timers' table; no state of a user has this name.
pub const TIMERS_TABLE: &str = "$timers";
/// Changes are looked through only if there are more of them.
const MIN_CHANGES: usize = 1024;

/// Which clock a timer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i8)]
pub enum TimeDomain {
    /// Watermarks.
    Event = 0,
    /// The machine's clock.
    Processing = 1,
}

/// A window as a timer's namespace: its start and its end.
pub type WindowNamespace = (i64, i64);

/// A timer. Ordered by time first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timer {
    /// When it fires: milliseconds since the epoch.
    pub time: i64,
    /// Whose it is.
    pub slot: Slot,
    /// Of which of the key's windows; `None` for a timer of the key itself.
    pub window: Option<WindowNamespace>,
}

/// All timers of an operator in one subtask.
pub struct Timers {
    descriptor: Arc<TableDescriptor>,
    event: Domain,
    processing: Domain,
    counts: Vec<u32>,
    tracking: bool,
    vacated: Vec<Slot>,
}

/// Timers of one domain; by timer, whether it is in a snapshot.
#[derive(Default)]
struct Domain {
    timers: BTreeMap<Timer, bool>,
    /// Registered since the last snapshot; some may be gone again or come several times.
    added: Vec<Timer>,
    /// In the last snapshot and removed since; some may be back.
    removed: Vec<Timer>,
}

/// Bytes of a timer in the ordered map, about.
const TIMER_BYTES: usize = 2 * size_of::<(Timer, bool)>();

impl Domain {
    /// Drops what has become meaningless, once it may be the most.
    fn trim(&mut self) {
        if self.added.len() > MIN_CHANGES.max(2 * self.timers.len()) {
            let timers = &self.timers;
            self.added.sort_unstable();
            self.added.dedup();
            self.added.retain(|timer| timers.get(timer) == Some(&false));
        }
    }

    fn memory_size(&self) -> usize {
        self.timers.len() * TIMER_BYTES
            + (self.added.capacity() + self.removed.capacity()) * size_of::<Timer>()
    }
}

impl Timers {
    pub(crate) fn new(key: &[FieldRef]) -> Self {
        let field = |name, data_type, nullable| Arc::new(Field::new(name, data_type, nullable));
        Self {
            descriptor: Arc::new(TableDescriptor {
                name: TIMERS_TABLE.to_owned(),
                kind: TableKind::Timers,
                key: key.to_vec(),
                sub_key: vec![
                    field("domain", DataType::Int8, false),
                    field("window_start", DataType::Int64, true),
                    field("window_end", DataType::Int64, true),
                    field("time", DataType::Int64, false),
                ],
                value: Vec::new(),
                ttl: None,
            }),
            event: Domain::default(),
            processing: Domain::default(),
            counts: Vec::new(),
            tracking: false,
            vacated: Vec::new(),
        }
    }

    /// Registers a timer; nothing happens if there is the same one.
    pub fn register(&mut self, domain: TimeDomain, timer: Timer) {
        let tracking = self.tracking;
        let domain = self.domain(domain);
        let Entry::Vacant(entry) = domain.timers.entry(timer) else {
            return;
        };
        entry.insert(false);
        if tracking {
            domain.added.push(timer);
            domain.trim();
        }
        self.counts[timer.slot as usize] += 1;
    }

    /// Deletes a timer; nothing happens if there is none.
    pub fn delete(&mut self, domain: TimeDomain, timer: Timer) {
        if let Some(saved) = self.domain(domain).timers.remove(&timer) {
            self.removed(domain, timer, saved);
        }
    }

    /// When the next timer of the domain is due.
    pub fn next_time(&self, domain: TimeDomain) -> Option<i64> {
        let domain = match domain {
            TimeDomain::Event => &self.event,
            TimeDomain::Processing => &self.processing,
        };
        domain.timers.first_key_value().map(|(timer, _)| timer.time)
    }

    /// When the last timer of the domain is due.
    pub fn last_time(&self, domain: TimeDomain) -> Option<i64> {
        let domain = match domain {
            TimeDomain::Event => &self.event,
            TimeDomain::Processing => &self.processing,
        };
        domain.timers.last_key_value().map(|(timer, _)| timer.time)
    }

    /// The slots of the next timers of a domain that are due, in their order.
    pub(crate) fn due(&self, domain: TimeDomain, until: i64) -> impl Iterator<Item = Slot> {
        let domain = match domain {
            TimeDomain::Event => &self.event,
            TimeDomain::Processing => &self.processing,
        };
        let timers = domain.timers.keys();
        timers
            .take_while(move |timer| timer.time <= until)
            .map(|timer| timer.slot)
    }

    /// The timers of a domain that are due, in their order.
    pub(crate) fn due_timers(&self, domain: TimeDomain, until: i64) -> impl Iterator<Item = Timer> {
        self.of(domain).take_while(move |timer| timer.time <= until)
    }

    /// The timers of a domain, in their order.
    pub fn of(&self, domain: TimeDomain) -> impl Iterator<Item = Timer> {
        let domain = match domain {
            TimeDomain::Event => &self.event,
            TimeDomain::Processing => &self.processing,
        };
        domain.timers.keys().copied()
    }

    /// How many there are in both domains.
    pub fn len(&self) -> usize {
        self.event.timers.len() + self.processing.timers.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the next timer of the domain that is due at `until`.
    pub(crate) fn pop(&mut self, domain: TimeDomain, until: i64) -> Option<Timer> {
        let timers = &mut self.domain(domain).timers;
        let entry = timers.first_entry().filter(|entry| entry.key().time <= until)?;
        let (timer, saved) = entry.remove_entry();
        self.removed(domain, timer, saved);
        Some(timer)
    }

    fn domain(&mut self, domain: TimeDomain) -> &mut Domain {
        match domain {
            TimeDomain::Event => &mut self.event,
            TimeDomain::Processing => &mut self.processing,
        }
    }

    fn removed(&mut self, domain: TimeDomain, timer: Timer, saved: bool) {
        if saved {
            // It keeps the slot until a snapshot has said that the timer is gone.
            self.domain(domain).removed.push(timer);
        } else {
            self.released(timer.slot);
        }
    }

    fn released(&mut self, slot: Slot) {
        let count = &mut self.counts[slot as usize];
        *count -= 1;
        if *count == 0 {
            self.vacated.push(slot);
        }
    }

    fn write(&mut self, which: TimeDomain, full: bool, out: &mut ChangeWriter<'_>) -> Result<(), StateError> {
        let tracking = self.tracking;
        let domain = self.domain(which);
        let mut added = std::mem::take(&mut domain.added);
        let removed = std::mem::take(&mut domain.removed);
        let mut rows = TimerRows::new(which);
        if full {
            added = domain.timers.keys().copied().collect();
        } else {
            added.sort_unstable();
            added.dedup();
        }
        for timer in &removed {
            if !full && !domain.timers.contains_key(timer) {
                rows.change(timer, ChangeKind::Delete, out)?;
            }
        }
        for timer in &added {
            // One that is gone again is nobody's; one that was removed and is back is in the files already.
            if let Some(saved) = domain.timers.get_mut(timer) {
                *saved = tracking;
                rows.change(timer, ChangeKind::Upsert, out)?;
            }
        }
        rows.finish(out)?;
        for timer in removed {
            self.released(timer.slot);
        }
        Ok(())
    }
}

/// Builds the columns of changes.
struct TimerRows {
    domain: TimeDomain,
    len: usize,
    starts: Int64Builder,
    ends: Int64Builder,
    times: Int64Builder,
}

impl TimerRows {
    fn new(domain: TimeDomain) -> Self {
        Self {
            domain,
            len: 0,
            starts: Int64Builder::new(),
            ends: Int64Builder::new(),
            times: Int64Builder::new(),
        }
    }

    fn change(
        &mut self,
        timer: &Timer,
        kind: ChangeKind,
        out: &mut ChangeWriter<'_>,
    ) -> Result<(), StateError> {
        out.note(timer.slot, kind);
        self.len += 1;
        self.starts.append_option(timer.window.map(|(start, _)| start));
        self.ends.append_option(timer.window.map(|(_, end)| end));
        self.times.append_value(timer.time);
        if out.is_full(0) {
            return self.finish(out);
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut ChangeWriter<'_>) -> Result<(), StateError> {
        let mut domains = Int8Builder::with_capacity(self.len);
        domains.append_value_n(self.domain as i8, std::mem::take(&mut self.len));
        out.flush(vec![
            Arc::new(domains.finish()) as ArrayRef,
            Arc::new(self.starts.finish()),
            Arc::new(self.ends.finish()),
            Arc::new(self.times.finish()),
        ])
    }
}

impl Table for Timers {
    fn descriptor(&self) -> &Arc<TableDescriptor> {
        &self.descriptor
    }

    fn resize(&mut self, count: usize) {
        if count > self.counts.len() {
            self.counts.resize(count, 0);
        }
    }

    fn set_now(&mut self, _now_ms: i64) {}

    fn track_changes(&mut self) {
        self.tracking = true;
    }

    fn take_vacated(&mut self, into: &mut Vec<Slot>) {
        into.append(&mut self.vacated);
    }

    fn is_vacant(&self, slot: Slot) -> bool {
        self.counts[slot as usize] == 0
    }

    fn sweep(&mut self, _rows: usize) {}

    fn changes(&mut self, full: bool, out: &mut ChangeWriter<'_>) -> Result<(), StateError> {
        self.write(TimeDomain::Event, full, out)?;
        self.write(TimeDomain::Processing, full, out)
    }

    /// Timers stay in memory, and what is to be said of them.
    fn changes_of(&mut self, _slots: &[Slot], _out: &mut ChangeWriter<'_>) -> Result<(), StateError> {
        Ok(())
    }

    fn restore(&mut self, rows: &TableRows<'_>) -> Result<(), StateError> {
        let domains: &Int8Array = rows.sub_key[0].as_primitive::<Int8Type>();
        let [starts, ends, times] =
            [1, 2, 3].map(|column: usize| rows.sub_key[column].as_primitive::<Int64Type>());
        for (row, slot) in rows.slots.iter().enumerate() {
            let timer = Timer {
                time: times.value(row),
                slot: *slot,
                window: starts.is_valid(row).then(|| (starts.value(row), ends.value(row))),
            };
            let saved = self.tracking;
            let domain = if domains.value(row) == TimeDomain::Event as i8 {
                &mut self.event
            } else {
                &mut self.processing
            };
            if domain.timers.insert(timer, saved).is_none() {
                self.counts[*slot as usize] += 1;
            }
        }
        Ok(())
    }

    fn memory_size(&self) -> usize {
        self.event.memory_size()
            + self.processing.memory_size()
            + (self.counts.capacity() + self.vacated.capacity()) * size_of::<u32>()
    }

    fn slack(&self, live: usize) -> usize {
        unused(&self.counts, live)
    }

    /// Timers stay in memory.
    fn image(&mut self, _slots: &[Slot], _out: &mut ChangeWriter<'_>) -> Result<(), StateError> {
        Ok(())
    }

    fn evict(&mut self, _slots: &[Slot]) {}

    /// They are in a full snapshot as changes.
    fn mark_saved(&mut self) {}

    fn shrink(&mut self, count: usize) {
        self.counts.truncate(count);
        self.counts.shrink_to_fit();
        self.vacated.retain(|slot| (*slot as usize) < count);
    }

    fn add_slot_bytes(&self, bytes: &mut [usize]) {
        for (sum, count) in bytes.iter_mut().zip(&self.counts) {
            *sum += *count as usize * TIMER_BYTES;
        }
    }
}
