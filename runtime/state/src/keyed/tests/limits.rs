use thalweg_types::{Classify, FailureClass};

use super::harness::*;
use crate::*;

fn texts(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("key{i}")).collect()
}

fn refs(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

const INCREMENTAL: SnapshotRequest = SnapshotRequest {
    checkpoint_id: 1,
    full: false,
};

#[test]
fn state_over_its_limit_is_an_error_that_says_what_to_do() {
    let mut state = empty(1 << 20);
    let value = state.register_value::<String>("value", None).unwrap();
    let names = texts(2_000);
    for slot in begin(&mut state, &refs(&names), 0) {
        state.table(value).set(slot, "x".repeat(1_000));
    }
    let error = state.end_batch().unwrap_err();
    assert!(matches!(error, StateError::Memory { .. }));
    assert_ne!(error.class(), FailureClass::Bug);
    let text = error.to_string();
    for part in [
        "operator \"Test\"",
        "2000 keys",
        "1.0 MiB",
        "taskmanager.memory.managed.size",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_key_that_is_too_large_alone_is_named() {
    let mut state = empty(1 << 20);
    let list = state.register_list::<String>("list", None).unwrap();
    let slots = begin(&mut state, &["small", "huge"], 0);
    state.table(list).add(slots[0], "x".to_owned());
    let many = (0..2_000).map(|_| "x".repeat(1_000));
    state.table(list).add_all(slots[1], many);
    let text = state.check_memory().unwrap_err().to_string();
    assert!(text.contains("for the key (key=huge) alone"), "{text}");
}

#[test]
fn an_incremental_snapshot_costs_what_changed() {
    let mut state = empty(usize::MAX);
    let value = state.register_value::<i64>("value", None).unwrap();
    let list = state.register_list::<i64>("list", None).unwrap();
    let map = state.register_map::<i64, i64>("map", None).unwrap();
    let names = texts(10_000);
    for slot in begin(&mut state, &refs(&names), 0) {
        state.table(value).set(slot, 1);
        state.table(list).add_all(slot, [1, 2, 3]);
        (0..3).for_each(|i| state.table(map).put(slot, i, i));
        let timer = Timer {
            time: i64::from(slot),
            slot,
            window: None,
        };
        state.timers().register(TimeDomain::Event, timer);
    }
    state.end_batch().unwrap();
    let mut store = Store::default();
    let first = store.apply(false, &state.snapshot(INCREMENTAL).unwrap());
    assert_eq!(first, 10_000 * 8);
    let slots = begin(&mut state, &["key3", "key5", "key7"], 0);
    state.table(value).set(slots[0], 2);
    state.table(list).add(slots[0], 4);
    state.table(map).put(slots[1], 2, 9);
    state.table(map).remove(slots[1], &1);
    state.table(map).clear(slots[2]);
    state.pop_timer(TimeDomain::Event, 0).unwrap().unwrap();
    state.end_batch().unwrap();
    let changed = store.apply(false, &state.snapshot(INCREMENTAL).unwrap());
    assert_eq!(
        changed, 6,
        "a value, an element, an entry, a removed entry, a cleared map, a fired timer"
    );
    assert_eq!(store.rows("list", 0), 30_001);
    assert_eq!(store.rows("map", 0), 30_000 - 4);
    assert_eq!(store.rows("$timers", 0), 9_999);
}

#[test]
fn keys_that_come_and_go_take_no_more_memory_than_those_that_are_there() {
    let mut state = empty(usize::MAX);
    let map = state.register_map::<String, String>("map", None).unwrap();
    let round = |number: usize, state: &mut KeyedState| {
        let names: Vec<String> = (0..100).map(|i| format!("{number}-{i}")).collect();
        let slots = begin(state, &refs(&names), 0);
        for slot in &slots {
            state.table(map).put(*slot, "key".to_owned(), "x".repeat(100));
        }
        if number.is_multiple_of(7) {
            state.end_batch().unwrap();
            state.snapshot(INCREMENTAL).unwrap();
        }
        slots.iter().for_each(|slot| state.table(map).clear(*slot));
        state.end_batch().unwrap();
    };
    (0..20).for_each(|number| round(number, &mut state));
    let size = state.memory_size();
    (20..300).for_each(|number| round(number, &mut state));
    state.snapshot(INCREMENTAL).unwrap();
    assert_eq!(state.key_count(), 0);
    let now = state.memory_size();
    assert!(now <= 2 * size, "{now} bytes, {size} before");
}

#[test]
fn timers_that_are_set_and_deleted_for_ever_take_no_memory() {
    let mut state = empty(usize::MAX);
    state.snapshot(INCREMENTAL).unwrap();
    let slot = begin(&mut state, &["a"], 0)[0];
    let mut timer = Timer {
        time: 0,
        slot,
        window: Some((0, 10)),
    };
    for time in 0..100_000 {
        state.timers().delete(TimeDomain::Event, timer);
        timer.time = time;
        state.timers().register(TimeDomain::Event, timer);
        state.timers().register(TimeDomain::Event, timer);
    }
    assert_eq!(state.timers().len(), 1);
    let size = state.memory_size();
    assert!(size < 1 << 20, "{size} bytes");
    let changes = Store::default().apply(false, &state.snapshot(INCREMENTAL).unwrap());
    assert_eq!(changes, 1);
}

#[test]
fn two_states_of_one_name_are_refused() {
    let mut state = empty(usize::MAX);
    state.register_value::<i64>("count", None).unwrap();
    let error = state.register_list::<i64>("count", None).unwrap_err().to_string();
    assert!(error.contains("another state of this name"), "{error}");
}

#[test]
#[should_panic(expected = "another operator's state")]
fn a_handle_of_another_state_is_noticed() {
    let mut first = empty(usize::MAX);
    let mut second = empty(usize::MAX);
    let handle = first.register_value::<i64>("count", None).unwrap();
    second.register_value::<String>("count", None).unwrap();
    second.table(handle);
}

#[test]
fn nothing_restored_is_an_empty_state() {
    let mut state = empty(usize::MAX);
    state.register_value::<i64>("count", None).unwrap();
    state.restore(&mut RestoredState::default(), 0).unwrap();
    assert_eq!(state.key_count(), 0);
    let snapshots = state.snapshot(INCREMENTAL).unwrap();
    let names: Vec<&str> = snapshots
        .iter()
        .map(|table| table.descriptor.name.as_str())
        .collect();
    assert_eq!(names, ["count", "$timers"]);
}
