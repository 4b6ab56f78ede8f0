use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use arrow::array::AsArray;
use proptest::collection::vec;
use proptest::prelude::*;
use thalweg_types::KeyGroupRange;

use super::files::{Files, Runs};
use super::harness::*;
use crate::*;

/// What a key should hold; with time-to-live: when it was last used.
#[derive(Default, Clone, Debug)]
struct Twin {
    value: Option<(i64, Option<String>)>,
    value_ttl: Option<(String, i64)>,
    value_read: Option<(i64, i64)>,
    list: Vec<String>,
    list_ttl: Vec<(i64, i64)>,
    map: BTreeMap<String, i64>,
    map_ttl: BTreeMap<i64, (String, i64)>,
    window: BTreeMap<(i64, i64), Nested>,
    window_list: BTreeMap<(i64, i64), Vec<String>>,
    column: Option<i64>,
}

impl Twin {
    fn expire(&mut self, now: i64) {
        let is_over = |accessed: i64| accessed + TTL_MS <= now;
        self.value_ttl.take_if(|(_, accessed)| is_over(*accessed));
        self.value_read.take_if(|(_, accessed)| is_over(*accessed));
        self.list_ttl.retain(|(_, accessed)| !is_over(*accessed));
        self.map_ttl.retain(|_, (_, accessed)| !is_over(*accessed));
    }
}

/// A timer of the twin: time, key, window; the domain is apart.
type TwinTimer = (i64, String, Option<(i64, i64)>);

/// One subtask.
struct Part {
    key_groups: KeyGroupRange,
    state: KeyedState,
    handles: Handles,
    store: Store,
    runs: Runs,
}

struct World {
    /// Restores come from these if there are any, else from the naive store.
    files: Option<Files>,
    /// With it, most subtasks have little memory; each restore changes which.
    disk: Option<(Disk, usize)>,
    restores: u32,
    parts: Vec<Part>,
    twins: BTreeMap<String, Twin>,
    event: BTreeSet<TwinTimer>,
    processing: BTreeSet<TwinTimer>,
    now: i64,
}

#[derive(Debug, Clone)]
enum Step {
    /// (key, operation, argument) a row.
    Batch(Vec<(u8, u8, u8)>),
    Wait(u8),
    FireTimers(u8),
    /// Full or not.
    Snapshot(bool),
    /// With another parallelism.
    Restore(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => vec((0..6_u8, 0..31_u8, 0..4_u8), 1..12).prop_map(Step::Batch),
        2 => (1..12_u8).prop_map(Step::Wait),
        1 => (0..4_u8).prop_map(Step::FireTimers),
        3 => prop::bool::weighted(0.2).prop_map(Step::Snapshot),
        1 => (1..4_u32).prop_map(Step::Restore),
    ];
    vec(step, 1..40)
}

fn key_name(key: u8) -> String {
    format!("key{key}")
}

fn window_of(a: u8) -> (i64, i64) {
    (i64::from(a) * 10, i64::from(a) * 10 + 10)
}

impl World {
    fn new(files: Option<Files>, disk: Option<(Disk, usize)>) -> Self {
        let settings = disk
            .as_ref()
            .map(|(disk, resident)| disk.settings_without_waiting(usize::MAX, *resident));
        let (state, handles) = full_set(ALL, settings.unwrap_or_default());
        let part = Part {
            key_groups: ALL,
            state,
            handles,
            store: Store::default(),
            runs: Runs::new(ALL),
        };
        Self {
            files,
            disk,
            restores: 0,
            parts: vec![part],
            twins: BTreeMap::new(),
            event: BTreeSet::new(),
            processing: BTreeSet::new(),
            now: 1_000,
        }
    }

    fn run(&mut self, step: &Step) {
        if let Some(files) = &self.files {
            files.now.store(self.now, Ordering::Relaxed);
        }
        match step {
            Step::Batch(rows) => self.batch(rows),
            Step::Wait(ms) => {
                self.now += i64::from(*ms);
                self.twins.values_mut().for_each(|twin| twin.expire(self.now));
            }
            Step::FireTimers(until) => self.fire(i64::from(*until)),
            Step::Snapshot(full) => self.snapshot(*full),
            Step::Restore(parallelism) => self.restore(*parallelism),
        }
        for part in &mut self.parts {
            part.state.assert_memory_is_exact();
        }
    }

    fn batch(&mut self, rows: &[(u8, u8, u8)]) {
        for place in 0..self.parts.len() {
            let range = self.parts[place].key_groups;
            let mine: Vec<_> = rows
                .iter()
                .filter(|(key, ..)| range.contains(group_of(&key_name(*key))))
                .copied()
                .collect();
            let names: Vec<String> = mine.iter().map(|(key, ..)| key_name(*key)).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let slots = begin(&mut self.parts[place].state, &names, self.now);
            for (((_, op, a), name), slot) in mine.iter().zip(&names).zip(&slots) {
                self.apply(place, name, *slot, *op, *a);
            }
            self.parts[place].state.end_batch().unwrap();
        }
    }

    fn apply(&mut self, place: usize, name: &str, slot: Slot, op: u8, a: u8) {
        let Part { state, handles, .. } = &mut self.parts[place];
        let twin = self.twins.entry(name.to_owned()).or_default();
        let (now, n) = (self.now, i64::from(a));
        let text = "x".repeat(usize::from(a) * 3);
        match op {
            0 => {
                state.table(handles.value).set(slot, (n, Some(text.clone())));
                twin.value = Some((n, Some(text)));
            }
            1 => {
                state.table(handles.value).clear(slot);
                twin.value = None;
            }
            2 => {
                let table = state.table(handles.value);
                let reduced = table.reduce(slot, (n, Some(&text)), |total, (n, text)| {
                    total.0 += n;
                    total.1 = text.map(|text| format!("{text}!"));
                });
                twin.value = Some(match &twin.value {
                    Some((total, _)) => (total + n, Some(format!("{text}!"))),
                    None => (n, Some(text)),
                });
                assert_eq!(Some(reduced), twin.value.as_ref());
            }
            3 => {
                let table = state.table(handles.value);
                table.get_or_insert_with(slot, || (0, None)).1 = Some(text.clone());
                table.get_mut(slot).unwrap().0 += 1;
                twin.value = Some((twin.value.as_ref().map_or(0, |value| value.0) + 1, Some(text)));
            }
            4 => {
                state.table(handles.value_ttl).set(slot, text.clone());
                twin.value_ttl = Some((text, now));
            }
            5 => {
                let taken = state.table(handles.value_ttl).take(slot);
                assert_eq!(taken, twin.value_ttl.take().map(|(text, _)| text));
            }
            6 => {
                state.table(handles.value_read).set(slot, n);
                twin.value_read = Some((n, now));
            }
            7 | 8 => {
                let found = state.table(handles.value_read).get(slot).copied();
                assert_eq!(found, twin.value_read.map(|(n, _)| n));
                twin.value_read = twin.value_read.map(|(n, _)| (n, now));
            }
            9 | 10 => {
                state.table(handles.list).add(slot, text.clone());
                twin.list.push(text);
            }
            11 => {
                let items = vec![text; usize::from(a)];
                state.table(handles.list).update(slot, items.clone());
                twin.list = items;
            }
            12 => {
                state.table(handles.list).clear(slot);
                twin.list.clear();
            }
            13 | 14 => {
                state.table(handles.list_ttl).add(slot, n);
                twin.list_ttl.push((n, now));
            }
            15 | 16 => {
                let key = format!("{a}");
                state.table(handles.map).put(slot, key.clone(), n);
                twin.map.insert(key, n);
            }
            17 => {
                let key = format!("{a}");
                let table = state.table(handles.map);
                *table.get_or_insert_with(slot, key.clone(), || 7) += 1;
                *twin.map.entry(key).or_insert(7) += 1;
            }
            18 => {
                let removed = state.table(handles.map).remove(slot, format!("{a}").as_str());
                assert_eq!(removed, twin.map.remove(&format!("{a}")));
            }
            19 => {
                state.table(handles.map).clear(slot);
                twin.map.clear();
            }
            20 => {
                state.table(handles.map_ttl).put(slot, n, text.clone());
                twin.map_ttl.insert(n, (text, now));
            }
            21 => {
                let table = state.table(handles.map_ttl);
                let found = table.get_or_insert_with(slot, n, || "new".to_owned());
                found.push('.');
                let entry = twin.map_ttl.entry(n).or_insert_with(|| ("new".to_owned(), now));
                entry.0.push('.');
                entry.1 = now;
                assert_eq!(*found, entry.0);
            }
            22 => {
                let removed = state.table(handles.map_ttl).remove(slot, &n);
                assert_eq!(removed, twin.map_ttl.remove(&n).map(|(text, _)| text));
            }
            23 => {
                let nested = (n, (text, Some(n)));
                state
                    .table(handles.window)
                    .put(slot, window_of(a), nested.clone());
                twin.window.insert(window_of(a), nested);
            }
            24 => {
                let removed = state.table(handles.window).remove(slot, &window_of(a));
                assert_eq!(removed, twin.window.remove(&window_of(a)));
            }
            25 => {
                let mut new_rows = Vec::new();
                let column = state.table(handles.column);
                column.write(&[slot, slot], &mut new_rows).set(slot, n);
                assert_eq!(new_rows.len(), usize::from(twin.column.is_none()));
                twin.column = Some(n);
                if a == 3 {
                    column.clear(&[slot]);
                    twin.column = None;
                }
            }
            28 | 29 => {
                state
                    .table(handles.window_list)
                    .add(slot, window_of(a), text.clone());
                twin.window_list.entry(window_of(a)).or_default().push(text);
            }
            30 => {
                let taken = state.table(handles.window_list).take(slot, window_of(a));
                assert_eq!(taken, twin.window_list.remove(&window_of(a)).unwrap_or_default());
            }
            _ => {
                let window = a.is_multiple_of(2).then(|| window_of(a));
                let twin_timer = (n, name.to_owned(), window);
                let timer = Timer {
                    time: n,
                    slot,
                    window,
                };
                let (domain, timers) = if a < 2 {
                    (TimeDomain::Event, &mut self.event)
                } else {
                    (TimeDomain::Processing, &mut self.processing)
                };
                if op == 26 {
                    state.timers().register(domain, timer);
                    timers.insert(twin_timer);
                } else {
                    state.timers().delete(domain, timer);
                    timers.remove(&twin_timer);
                }
            }
        }
    }

    /// Fires timers and checks who they are; each clears its key's value.
    fn fire(&mut self, until: i64) {
        for domain in [TimeDomain::Event, TimeDomain::Processing] {
            let mut fired = BTreeSet::new();
            for Part { state, handles, .. } in &mut self.parts {
                let mut last = i64::MIN;
                state.advance_clock(self.now);
                while let Some(timer) = state.pop_timer(domain, until).unwrap() {
                    assert!(timer.time >= last, "timers fire in the order of time");
                    last = timer.time;
                    let key = state.keys(&[timer.slot]).unwrap();
                    let key = key[0].as_string::<i32>().value(0).to_owned();
                    state.table(handles.value).clear(timer.slot);
                    self.twins.entry(key.clone()).or_default().value = None;
                    assert!(fired.insert((timer.time, key, timer.window)));
                }
                let next = state.timers().next_time(domain);
                assert!(next.is_none_or(|time| time > until));
                state.end_batch().unwrap();
            }
            let timers = match domain {
                TimeDomain::Event => &mut self.event,
                TimeDomain::Processing => &mut self.processing,
            };
            let later = timers.split_off(&(until + 1, String::new(), None));
            assert_eq!(std::mem::replace(timers, later), fired);
        }
    }

    fn snapshot(&mut self, full: bool) {
        for Part {
            state, store, runs, ..
        } in &mut self.parts
        {
            let mut rows = 0;
            let mut take = |request: SnapshotRequest| {
                let tables = state.snapshot(request).unwrap();
                rows = store.apply(request.full, &tables);
                tables
            };
            let mut checkpoint = |full| match &mut self.files {
                Some(files) => {
                    files.checkpoint(runs, full, &mut take);
                }
                None => {
                    take(SnapshotRequest {
                        checkpoint_id: 1,
                        full,
                    });
                }
            };
            checkpoint(full);
            checkpoint(false);
            assert_eq!(rows, 0, "nothing has changed since");
        }
        let stored = |name: &str| -> usize {
            let rows = self.parts.iter().map(|part| part.store.rows(name, self.now));
            rows.sum()
        };
        let count = |rows: fn(&Twin) -> usize| -> usize { self.twins.values().map(rows).sum() };
        assert_eq!(stored("value"), count(|twin| twin.value.iter().count()));
        assert_eq!(stored("value_ttl"), count(|twin| twin.value_ttl.iter().count()));
        assert_eq!(stored("value_read"), count(|twin| twin.value_read.iter().count()));
        assert_eq!(stored("list"), count(|twin| twin.list.len()));
        assert_eq!(stored("list_ttl"), count(|twin| twin.list_ttl.len()));
        assert_eq!(stored("map"), count(|twin| twin.map.len()));
        assert_eq!(stored("map_ttl"), count(|twin| twin.map_ttl.len()));
        assert_eq!(stored("window"), count(|twin| twin.window.len()));
        assert_eq!(
            stored("window_list"),
            count(|twin| twin.window_list.values().map(Vec::len).sum())
        );
        assert_eq!(stored("column"), count(|twin| twin.column.iter().count()));
        assert_eq!(stored("$timers"), self.event.len() + self.processing.len());
    }

    /// A snapshot, then new subtasks with other key groups from it.
    fn restore(&mut self, parallelism: u32) {
        self.snapshot(false);
        let mut store = Store::default();
        let mut old = Vec::new();
        for part in self.parts.drain(..) {
            store.merge(part.store);
            old.push(part.runs);
        }
        for subtask in 0..parallelism {
            let key_groups = KeyGroupRange::of_subtask(subtask, parallelism, MAX_PARALLELISM);
            self.restores += 1;
            let settings = match &self.disk {
                Some((disk, resident)) if !self.restores.is_multiple_of(4) => {
                    disk.settings(usize::MAX, *resident)
                }
                _ => StateSettings::default(),
            };
            let (mut state, handles) = full_set(key_groups, settings);
            let (mut restored, runs) = match &self.files {
                Some(files) => files.restored(&old, key_groups),
                None => (store.restored(key_groups), Runs::new(key_groups)),
            };
            state.restore(&mut restored, self.now).unwrap();
            self.parts.push(Part {
                key_groups,
                state,
                handles,
                store: store.part(key_groups),
                runs,
            });
        }
        self.check();
    }

    /// Reads every key.
    fn check(&mut self) {
        for Part {
            key_groups,
            state,
            handles,
            ..
        } in &mut self.parts
        {
            for (name, twin) in &self.twins {
                if !key_groups.contains(group_of(name)) {
                    continue;
                }
                let slot = begin(state, &[name], self.now)[0];
                assert_eq!(state.table(handles.value).get(slot), twin.value.as_ref());
                let value = state.table(handles.value_ttl).get(slot);
                assert_eq!(value, twin.value_ttl.as_ref().map(|(text, _)| text));
                let value = state.table(handles.value_read).peek(slot).copied();
                assert_eq!(value, twin.value_read.map(|(n, _)| n));
                assert_eq!(state.table(handles.list).get(slot), twin.list.as_slice());
                let expected: Vec<i64> = twin.list_ttl.iter().map(|(n, _)| *n).collect();
                assert_eq!(state.table(handles.list_ttl).get(slot), expected);
                let map = state.table(handles.map).iter(slot);
                let map: BTreeMap<String, i64> = map.map(|(key, n)| (key.clone(), *n)).collect();
                assert_eq!(map, twin.map);
                let map = state.table(handles.map_ttl).iter(slot);
                let map: BTreeMap<i64, String> = map.map(|(key, text)| (*key, text.clone())).collect();
                let expected = twin.map_ttl.iter().map(|(key, (text, _))| (*key, text.clone()));
                assert_eq!(map, expected.collect());
                let windows = state.table(handles.window).iter(slot);
                let windows: BTreeMap<(i64, i64), Nested> =
                    windows.map(|(key, nested)| (*key, nested.clone())).collect();
                assert_eq!(windows, twin.window);
                for a in 0..4 {
                    let expected = twin.window_list.get(&window_of(a)).map_or(&[][..], Vec::as_slice);
                    assert_eq!(state.table(handles.window_list).get(slot, window_of(a)), expected);
                }
                let column = state.table(handles.column);
                let number = column.has(slot).then(|| column.read(&[slot]).get(slot));
                assert_eq!(number, twin.column);
                state.end_batch().unwrap();
            }
        }
    }

    /// Everything goes, and no key, row or timer is left behind.
    fn clear(&mut self) {
        self.fire(i64::MAX - 1);
        for key in 0..6 {
            let once = [(key, 1, 0), (key, 5, 0), (key, 12, 0), (key, 19, 0), (key, 25, 3)];
            let each = (0..4).flat_map(|a| [(key, 22, a), (key, 24, a), (key, 30, a)]);
            self.batch(&each.chain(once).collect::<Vec<_>>());
        }
        self.now += 2 * TTL_MS;
        self.twins.values_mut().for_each(|twin| twin.expire(self.now));
        self.batch(&[]);
        self.snapshot(self.disk.is_some());
        for part in &mut self.parts {
            // With a disk the next run says that the keys have no rows.
            part.state.page_out_now(usize::MAX).unwrap();
            part.state.end_batch().unwrap();
            assert_eq!(part.state.key_count(), 0, "a key without state goes away");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn every_table_and_timer_is_as_its_naive_twin_through_snapshots_and_restores(steps in steps()) {
        let mut world = World::new(None, None);
        steps.iter().for_each(|step| world.run(step));
        world.check();
        world.restore(2);
        world.clear();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn they_are_through_the_files_too(steps in steps()) {
        let mut world = World::new(Some(Files::new()), None);
        steps.iter().for_each(|step| world.run(step));
        world.check();
        world.restore(2);
        world.restore(2);
        world.clear();
    }
}

fn resident_bytes() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0), Just(3_000), Just(6_000)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn they_are_with_rows_that_come_and_go_between_memory_and_disk(
        steps in steps(),
        resident in resident_bytes(),
    ) {
        let mut world = World::new(None, Some((Disk::new(), resident)));
        steps.iter().for_each(|step| world.run(step));
        world.check();
        world.restore(2);
        world.clear();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]
    #[test]
    fn they_are_through_the_files_of_one_backend_into_the_other(
        steps in steps(),
        resident in resident_bytes(),
    ) {
        let mut world = World::new(Some(Files::new()), Some((Disk::new(), resident)));
        steps.iter().for_each(|step| world.run(step));
        world.check();
        (0..3).for_each(|parallelism| world.restore(1 + parallelism));
        world.clear();
    }
}
