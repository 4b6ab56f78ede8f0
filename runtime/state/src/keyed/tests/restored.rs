//! Restored values that stay in the columns that they came in until they are used, in tables of enough rows to be read ahead.

use std::collections::BTreeMap;

use super::files::{Files, Runs};
use super::harness::*;
use crate::*;

const KEYS: usize = 5_000;
/// All keys' values are a few blocks of a file.
const VALUE_BYTES: usize = 1_000;
/// Keys of one batch.
const BATCH: usize = 500;

#[derive(Clone, Copy)]
struct Tables {
    first: ValueHandle<String>,
    second: ValueHandle<(i64, Option<String>)>,
    entries: MapHandle<i64, i64>,
}

#[derive(Debug, Default, Clone, PartialEq)]
struct Row {
    first: Option<String>,
    second: Option<(i64, Option<String>)>,
    entries: BTreeMap<i64, i64>,
}

type Twin = BTreeMap<String, Row>;

fn state(memory_bytes: usize) -> (KeyedState, Tables) {
    let mut state = empty(memory_bytes);
    let tables = Tables {
        first: state.register_value("first", None).unwrap(),
        second: state.register_value("second", None).unwrap(),
        entries: state.register_map("entries", None).unwrap(),
    };
    (state, tables)
}

fn name(number: usize) -> String {
    format!("key{number:05}")
}

fn text(number: usize, round: usize) -> String {
    format!("{number} {round} {}", "x".repeat(VALUE_BYTES))
}

/// Changes some keys, in an order that has nothing to do with that of files; another round changes others.
fn change(state: &mut KeyedState, tables: Tables, twin: &mut Twin, round: usize) {
    let step = [1, 7, 10, 3][round];
    let numbers: Vec<usize> = (0..KEYS).step_by(step).collect();
    for numbers in numbers.chunks(BATCH) {
        let names: Vec<String> = numbers.iter().map(|number| name(*number)).collect();
        let refs: Vec<&str> = names.iter().map(String::as_str).collect();
        let slots = begin(state, &refs, 0);
        for (number, slot) in numbers.iter().zip(slots) {
            let row = twin.entry(name(*number)).or_default();
            match (number + round) % 4 {
                0 => {
                    state.table(tables.first).clear(slot);
                    row.first = None;
                }
                1 => {
                    let value = state.table(tables.first).get_or_insert_with(slot, String::new);
                    value.push('!');
                    row.first.get_or_insert_default().push('!');
                }
                _ => {
                    state.table(tables.first).set(slot, text(*number, round));
                    row.first = Some(text(*number, round));
                }
            }
            if number % 3 == 0 {
                let value = (round as i64, Some(text(*number, 9)));
                state.table(tables.second).set(slot, value.clone());
                row.second = Some(value);
            }
            for key in 0..(number + round) as i64 % 4 {
                state.table(tables.entries).put(slot, key, round as i64);
                row.entries.insert(key, round as i64);
            }
        }
        state.end_batch().unwrap();
    }
}

fn check(state: &mut KeyedState, tables: Tables, twin: &Twin) {
    assert_eq!(
        state.key_count(),
        twin.values().filter(|row| **row != Row::default()).count()
    );
    let names: Vec<&String> = twin.keys().collect();
    for names in names.chunks(BATCH) {
        let refs: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
        for (name, slot) in names.iter().zip(begin(state, &refs, 0)) {
            let row = Row {
                first: state.table(tables.first).get(slot).cloned(),
                second: state.table(tables.second).get(slot).cloned(),
                entries: state
                    .table(tables.entries)
                    .iter(slot)
                    .map(|(k, v)| (*k, *v))
                    .collect(),
            };
            assert!(row == twin[*name], "{name}");
        }
        state.end_batch().unwrap();
        state.assert_memory_is_exact();
    }
}

#[test]
fn values_that_were_restored_are_changed_saved_and_read_as_if_they_had_been_written_here() {
    let mut files = Files::new();
    let mut runs = Runs::new(ALL);
    let mut twin = Twin::new();
    let (mut old, tables) = state(usize::MAX);
    for round in 0..3 {
        change(&mut old, tables, &mut twin, round);
        files.checkpoint(&mut runs, false, |request| old.snapshot(request).unwrap());
    }
    // From three runs, then from four, then from one of all that nobody has used.
    for full in [false, true, false] {
        let (mut new, tables) = state(usize::MAX);
        let (mut restored, restored_runs) = files.restored(&[runs], ALL);
        runs = restored_runs;
        new.restore(&mut restored, 0).unwrap();
        if !full {
            change(&mut new, tables, &mut twin, 3);
        }
        let is_full = files.checkpoint(&mut runs, full, |request| new.snapshot(request).unwrap());
        assert_eq!(is_full, full);
        check(&mut new, tables, &twin);
    }
    let (mut last, tables) = state(usize::MAX);
    last.restore(&mut files.restored(&[runs], ALL).0, 0).unwrap();
    check(&mut last, tables, &twin);
}

#[test]
fn values_of_which_some_are_used_are_not_there_twice_when_memory_is_short() {
    let mut files = Files::new();
    let mut runs = Runs::new(ALL);
    let mut twin = Twin::new();
    let (mut old, tables) = state(usize::MAX);
    change(&mut old, tables, &mut twin, 0);
    files.checkpoint(&mut runs, false, |request| old.snapshot(request).unwrap());
    let bytes = old.memory_size();

    let (mut new, tables) = state(bytes / 10 * 12);
    new.restore(&mut files.restored(&[runs], ALL).0, 0).unwrap();
    // One of each few, so that no column can go.
    let some: Vec<String> = (0..KEYS).step_by(3).map(name).collect();
    let refs: Vec<&str> = some.iter().map(String::as_str).collect();
    for slot in begin(&mut new, &refs, 0) {
        new.table(tables.first).get(slot);
        new.table(tables.second).get(slot);
    }
    new.end_batch().unwrap();
    check(&mut new, tables, &twin);
    let now = new.memory_size();
    assert!(now < bytes / 10 * 11, "{now} bytes, {bytes} before");
}
