use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use thalweg_types::{Classify, FailureClass};

use super::files::{Files, Runs};
use super::harness::*;
use crate::*;

const KEYS: usize = 20_000;
const MEMORY: usize = 1 << 20;
const FULL: SnapshotRequest = SnapshotRequest {
    checkpoint_id: 1,
    full: true,
};
const INCREMENTAL: SnapshotRequest = SnapshotRequest {
    checkpoint_id: 2,
    full: false,
};

fn name(number: usize) -> String {
    format!("key{number}")
}

fn text(number: usize, round: usize) -> String {
    format!("{number} in round {round}: {}", "x".repeat(number % 300))
}

/// Calls `visit` with each of these keys' slots, in batches.
fn visit(
    state: &mut KeyedState,
    numbers: impl Iterator<Item = usize>,
    now_ms: i64,
    mut visit: impl FnMut(&mut KeyedState, usize, Slot),
) {
    let numbers: Vec<usize> = numbers.collect();
    for numbers in numbers.chunks(500) {
        let names: Vec<String> = numbers.iter().map(|number| name(*number)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let slots = begin(state, &names, now_ms);
        for (number, slot) in numbers.iter().zip(slots) {
            visit(state, *number, slot);
        }
        state.end_batch().unwrap();
        assert!(state.memory_size() <= MEMORY);
    }
}

fn store(state: &mut KeyedState) -> &mut crate::disk::store::DiskStore {
    &mut state.disk.as_mut().unwrap().store
}

/// Many times what memory may hold.
fn filled(disk: &Disk) -> (KeyedState, ValueHandle<String>) {
    let mut state = disk.empty(MEMORY, MEMORY / 2);
    let value = state.register_value::<String>("value", None).unwrap();
    visit(&mut state, 0..KEYS, 0, |state, number, slot| {
        state.table(value).set(slot, text(number, 0));
    });
    (state, value)
}

#[test]
fn state_of_several_times_its_memory_is_all_there_through_changes_checkpoints_and_restores() {
    let disk = Disk::new();
    let mut files = Files::new();
    let mut runs = Runs::new(ALL);
    let (mut state, value) = filled(&disk);
    assert!(state.key_count() < KEYS / 2 && store(&mut state).run_count() > 0);

    let full = files.checkpoint(&mut runs, false, |request| {
        let tables = state.snapshot(request).unwrap();
        let in_memory = tables.iter().map(|table| table.changes.len()).sum::<usize>();
        assert_eq!(
            in_memory, 0,
            "a full snapshot of state on disk is no copy in memory"
        );
        tables
    });
    assert!(full);
    let changed = |number: &usize| number.is_multiple_of(7);
    visit(&mut state, (0..KEYS).filter(changed), 0, |state, number, slot| {
        assert_eq!(state.table(value).get(slot), Some(&text(number, 0)));
        state.table(value).set(slot, text(number, 1));
    });
    files.checkpoint(&mut runs, false, |request| {
        assert!(!request.full);
        let tables = state.snapshot(request).unwrap();
        let changes = Store::default().apply(false, &all_changes(&tables));
        assert_eq!(changes, (0..KEYS).filter(changed).count());
        tables
    });

    let check = |state: &mut KeyedState, value: ValueHandle<String>| {
        visit(state, (0..KEYS).rev(), 0, |state, number, slot| {
            let round = usize::from(changed(&number));
            assert_eq!(state.table(value).get(slot), Some(&text(number, round)));
        });
    };
    check(&mut state, value);
    let mut on_disk = disk.empty(MEMORY, MEMORY / 2);
    let value = on_disk.register_value::<String>("value", None).unwrap();
    let (mut restored, _) = files.restored(&[runs], ALL);
    on_disk.restore(&mut restored, 0).unwrap();
    assert!(on_disk.memory_size() <= MEMORY);
    check(&mut on_disk, value);
    let nothing = on_disk.snapshot(INCREMENTAL).unwrap();
    assert_eq!(
        Store::default().apply(false, &nothing),
        0,
        "reading changes nothing"
    );
}

#[test]
fn a_full_snapshot_is_of_its_time_whatever_happens_while_it_is_written() {
    let disk = Disk::new();
    let mut files = Files::new();
    let mut runs = Runs::new(ALL);
    let (mut state, value) = filled(&disk);
    let runs_before = store(&mut state).run_count();
    let tables = state.snapshot(FULL).unwrap();
    assert!(
        store(&mut state).run_count() <= runs_before,
        "the store has nothing of it"
    );
    visit(&mut state, 0..KEYS, 0, |state, number, slot| match number % 3 {
        0 => state.table(value).clear(slot),
        _ => state.table(value).set(slot, text(number, 1)),
    });
    files.checkpoint(&mut runs, true, |_| tables);
    let check = |files: &Files, runs: &Runs, expected: fn(usize) -> Option<String>| {
        let mut state = disk.empty(MEMORY, MEMORY / 2);
        let value = state.register_value::<String>("value", None).unwrap();
        let (mut restored, _) = files.restored(std::slice::from_ref(runs), ALL);
        state.restore(&mut restored, 0).unwrap();
        visit(&mut state, 0..KEYS, 0, |state, number, slot| {
            assert_eq!(state.table(value).get(slot), expected(number).as_ref());
        });
    };
    check(&files, &runs, |number| Some(text(number, 0)));
    files.checkpoint(&mut runs, false, |request| {
        assert!(!request.full, "the changes since then are known");
        state.snapshot(request).unwrap()
    });
    check(&files, &runs, |number| (number % 3 > 0).then(|| text(number, 1)));
    // Keys without rows that are on disk are said to be gone.
    let tables = state.snapshot(FULL).unwrap();
    files.checkpoint(&mut runs, true, |_| tables);
    check(&files, &runs, |number| (number % 3 > 0).then(|| text(number, 1)));
}

#[test]
fn a_full_snapshot_that_can_not_be_written_costs_the_checkpoint_and_not_the_task() {
    let disk = Disk::new();
    let (mut state, value) = filled(&disk);
    state.finish_page_out().unwrap();
    store(&mut state).settle();
    store(&mut state).folder().limit_space(0);
    let snapshot = state.snapshot(FULL).unwrap();
    let scope = crate::run::Scope::new(ALL, MAX_PARALLELISM);
    let encode = |snapshot| crate::run::encode::encode_snapshot(snapshot, &scope, &mut Vec::new());
    let error = encode(&snapshot).unwrap_err();
    assert!(matches!(error, StateError::LocalDisk { .. }), "{error}");
    assert!(error.to_string().contains("the disk is full"), "{error}");
    store(&mut state).folder().limit_space(u64::MAX);
    visit(&mut state, 0..KEYS, 0, |state, number, slot| {
        assert_eq!(state.table(value).get(slot), Some(&text(number, 0)));
    });
    encode(&state.snapshot(FULL).unwrap()).unwrap();
}

/// As [`filled`], with keys on their way to the disk all the time, for which batches never wait.
fn in_the_background(disk: &Disk) -> (KeyedState, ValueHandle<String>) {
    let settings = Arc::new(disk.settings_without_waiting(usize::MAX, MEMORY / 4));
    let config = config(ALL, usize::MAX);
    let mut state = KeyedState::new(KeyedStateConfig { settings, ..config }).unwrap();
    let value = state.register_value::<String>("value", None).unwrap();
    (state, value)
}

fn write(state: &mut KeyedState, value: ValueHandle<String>, numbers: &[usize], round: usize) {
    let names: Vec<String> = numbers.iter().map(|number| name(*number)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let slots = begin(state, &names, 0);
    for (number, slot) in numbers.iter().zip(slots) {
        let expected = (round > 0).then(|| text(*number, round - 1));
        assert_eq!(state.table(value).get(slot), expected.as_ref(), "key {number}");
        state.table(value).set(slot, text(*number, round));
    }
    state.end_batch().unwrap();
}

#[test]
fn checkpoints_while_keys_are_being_written_have_each_change_once() {
    let disk = Disk::new();
    let (mut state, value) = in_the_background(&disk);
    let mut files = Files::new();
    let mut runs = Runs::new(ALL);
    let all: Vec<usize> = (0..KEYS / 4).collect();
    let mut in_the_middle = 0;
    let mut rounds = 0;
    while rounds < 4 || in_the_middle < 3 {
        for numbers in all.chunks(500) {
            write(&mut state, value, numbers, rounds);
            // Between two batches of the round, so that changes from before and behind it are under way.
            if numbers[0].is_multiple_of(2_000) {
                in_the_middle += usize::from(state.is_paging_out());
                files.checkpoint(&mut runs, false, |request| state.snapshot(request).unwrap());
            }
        }
        rounds += 1;
        assert!(rounds < 1_000, "no checkpoint while keys are being written");
    }
    files.checkpoint(&mut runs, false, |request| state.snapshot(request).unwrap());
    let (mut in_memory, handle) = in_the_background(&disk);
    let (mut restored, _) = files.restored(&[runs], ALL);
    in_memory.restore(&mut restored, 0).unwrap();
    for state in [&mut state, &mut in_memory] {
        for numbers in all.chunks(500) {
            write(state, handle, numbers, rounds);
        }
    }
}

#[test]
fn a_checkpoint_whose_changes_can_not_be_written_fails_and_then_the_task() {
    let disk = Disk::new();
    let (mut state, value) = in_the_background(&disk);
    let all: Vec<usize> = (0..2_000).collect();
    write(&mut state, value, &all[..10], 0);
    state.snapshot(FULL).unwrap();
    let mut next = 10;
    while !state.is_paging_out() {
        write(&mut state, value, &all[next..next + 10], 0);
        next += 10;
    }
    store(&mut state).folder().limit_space(0);
    write(&mut state, value, &all[next..next + 10], 0);
    let snapshot = state.snapshot(INCREMENTAL).unwrap();
    let scope = crate::run::Scope::new(ALL, MAX_PARALLELISM);
    let error = crate::run::encode::encode_snapshot(&snapshot, &scope, &mut Vec::new()).unwrap_err();
    assert!(matches!(error, StateError::LocalDisk { .. }), "{error}");
    let error = loop {
        if let Err(error) = state.end_batch() {
            break error;
        }
    };
    assert!(error.to_string().contains("the disk is full"), "{error}");
}

#[test]
fn a_full_snapshot_that_memory_has_no_room_to_copy_goes_through_files_and_is_copied_where_there_is_room() {
    let disk = Disk::new();
    let base = tempfile::tempdir().unwrap();
    let mut settings = disk.settings(MEMORY, 0);
    settings.disk = None;
    settings.scratch = Some(Scratch::new(base.path().join("scratch")));
    let config = config(ALL, MEMORY);
    let mut state = KeyedState::new(KeyedStateConfig {
        settings: Arc::new(settings),
        ..config
    })
    .unwrap();
    let value = state.register_value::<String>("value", None).unwrap();
    let keys: Vec<usize> = (0..3_000).collect();
    write(&mut state, value, &keys[..500], 0);
    let small = state.snapshot(FULL).unwrap();
    assert!(small[0].stored.is_empty() && !small[0].changes.is_empty());
    assert!(!base.path().join("scratch").exists());

    write(&mut state, value, &keys[500..2_500], 0);
    state.snapshot(INCREMENTAL).unwrap();
    write(&mut state, value, &keys[2_500..], 0);
    assert!(state.memory_size() > MEMORY / 2);
    let large = state.snapshot(FULL).unwrap();
    assert!(!large[0].stored.is_empty() && large[0].changes.is_empty());
    assert_eq!(Store::default().apply(true, &large), 3_000);
    let nothing = state.snapshot(INCREMENTAL).unwrap();
    assert_eq!(Store::default().apply(false, &nothing), 0, "the full one said it");
    write(&mut state, value, &keys, 1);
    drop((state, large));
    let left = std::fs::read_dir(base.path().join("scratch")).unwrap();
    assert_eq!(left.count(), 0, "files go with the snapshot");
}

#[test]
fn what_fits_never_touches_the_disk() {
    let disk = Disk::new();
    let mut state = disk.empty(usize::MAX, usize::MAX);
    let value = state.register_value::<i64>("value", None).unwrap();
    for round in 0..3 {
        let names: Vec<String> = (0..1_000).map(name).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for slot in begin(&mut state, &names, 0) {
            state.table(value).set(slot, round);
        }
        state.end_batch().unwrap();
        let tables = state.snapshot(FULL).unwrap();
        assert!(tables.iter().all(|table| table.stored.is_empty()));
    }
    let folder = store(&mut state).folder().path().to_owned();
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
}

#[test]
fn removed_keys_do_not_come_back_and_leave_nothing_behind() {
    let disk = Disk::new();
    let (mut state, value) = filled(&disk);
    visit(&mut state, 0..KEYS, 0, |state, _, slot| {
        state.table(value).clear(slot);
    });
    visit(&mut state, 0..KEYS, 0, |state, number, slot| {
        assert_eq!(state.table(value).get(slot), None, "key {number}");
    });
    let snapshot = state.snapshot(FULL).unwrap();
    assert_eq!(Store::default().apply(true, &snapshot), 0);
    state.page_out_now(usize::MAX).unwrap();
    state.end_batch().unwrap();
    assert_eq!(state.key_count(), 0, "the run has said that they have no rows");
}

#[test]
fn a_key_that_is_too_large_alone_is_named() {
    let disk = Disk::new();
    let (mut state, _) = filled(&disk);
    let list = state.register_list::<String>("list", None).unwrap();
    let slot = begin(&mut state, &["huge"], 0)[0];
    let many = (0..2_000).map(|_| "x".repeat(1_000));
    state.table(list).add_all(slot, many);
    let error = state.end_batch().unwrap_err().to_string();
    assert!(error.contains("for the key (key=huge) alone"), "{error}");
}

#[test]
fn timers_that_memory_has_no_room_for_are_counted_in_the_failure() {
    let disk = Disk::new();
    let mut state = disk.empty(MEMORY, MEMORY / 2);
    let mut number = 0;
    let error = loop {
        let slot = begin(&mut state, &[&name(number)], 0)[0];
        let timer = Timer {
            time: 1,
            slot,
            window: None,
        };
        state.timers().register(TimeDomain::Processing, timer);
        number += 1;
        if let Err(error) = state.end_batch() {
            break error.to_string();
        }
    };
    assert!(error.contains(&format!("{number} timers (")), "{error}");
    assert!(error.contains("taskmanager.memory.managed.size"), "{error}");
}

#[test]
fn a_timer_brings_the_rows_of_its_key_back() {
    let disk = Disk::new();
    let mut state = disk.empty(usize::MAX, 1 << 20);
    let value = state.register_value::<String>("value", None).unwrap();
    for numbers in (0..5_000).collect::<Vec<_>>().chunks(500) {
        let names: Vec<String> = numbers.iter().map(|number| name(*number)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for (number, slot) in numbers.iter().zip(begin(&mut state, &names, 0)) {
            state.table(value).set(slot, text(*number, 0).repeat(4));
            let timer = Timer {
                time: *number as i64,
                slot,
                window: None,
            };
            state.timers().register(TimeDomain::Event, timer);
        }
        state.end_batch().unwrap();
    }
    let is_in_memory = |state: &mut KeyedState, slot| state.table(value).peek(slot).is_some();
    let out = (0..5_000).filter(|slot| !is_in_memory(&mut state, *slot)).count();
    assert!(out > 2_000, "the rows of {out} keys with timers are out");
    for number in 0..5_000 {
        let timer = state.pop_timer(TimeDomain::Event, 10_000).unwrap().unwrap();
        assert_eq!(timer.time, number as i64);
        let found = state.table(value).take(timer.slot);
        assert_eq!(found, Some(text(number, 0).repeat(4)));
    }
    state.end_batch().unwrap();
    let snapshot = state.snapshot(FULL).unwrap();
    assert_eq!(Store::default().apply(true, &snapshot), 0);
    state.page_out_now(usize::MAX).unwrap();
    state.end_batch().unwrap();
    assert_eq!(state.key_count(), 0, "the run has said that they have no rows");
}

#[test]
fn expired_rows_vanish_when_they_are_read_when_runs_are_merged_and_from_full_snapshots() {
    let disk = Disk::new();
    let mut state = disk.empty(MEMORY, MEMORY / 2);
    let ttl = ttl(TtlUpdate::OnCreateAndWrite);
    let value = state.register_value::<String>("value", ttl).unwrap();
    let list = state.register_list::<i64>("list", ttl).unwrap();
    let keys = KEYS / 4;
    let mut first = 0;
    for round in 0..8 {
        let now = 2 * TTL_MS * round;
        let numbers = round as usize * keys..(round as usize + 1) * keys;
        visit(&mut state, numbers, now, |state, number, slot| {
            state.table(value).set(slot, text(number, 0));
            state.table(list).add(slot, 7);
        });
        visit(&mut state, 0..100, now + TTL_MS, |state, _, slot| {
            assert_eq!(state.table(value).get(slot), None);
            assert_eq!(state.table(list).get(slot), [0_i64; 0]);
        });
        store(&mut state).settle();
        first = first.max(store(&mut state).bytes() / (round as u64 + 1));
    }
    let bytes = store(&mut state).bytes();
    assert!(bytes < 5 * first, "{bytes} bytes are left of 8 times {first}");
    let snapshot = state.snapshot(FULL).unwrap();
    assert_eq!(Store::default().apply(true, &snapshot), 0);
}

#[test]
fn a_damaged_and_a_cut_local_file_are_an_error_after_which_the_job_may_restart() {
    for cut in [false, true] {
        let disk = Disk::new();
        let (mut state, _) = filled(&disk);
        store(&mut state).settle();
        for path in store(&mut state).run_paths() {
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            match cut {
                true => file.set_len(10).unwrap(),
                false => {
                    for at in (0..file.metadata().unwrap().len()).step_by(512) {
                        file.write_at(&[0xA5; 8], at).unwrap();
                    }
                }
            }
        }
        let names: Vec<String> = (0..500).map(name).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let (columns, hashes) = keys(&names);
        let error = state
            .begin_batch(&columns, &hashes, 0, &mut Vec::new())
            .unwrap_err();
        assert!(matches!(error, StateError::LocalDisk { .. }), "{error}");
        assert_eq!(error.class(), FailureClass::Retryable);
        assert!(error.to_string().contains("damaged"), "{error}");
    }
}

#[test]
fn a_full_disk_is_an_error_after_which_the_job_may_restart() {
    let disk = Disk::new();
    disk.folder.limit_space(100_000);
    let mut state = disk.empty(MEMORY, MEMORY / 2);
    let value = state.register_value::<String>("value", None).unwrap();
    // Files are written in the background: whichever call comes next has the error.
    let error = (0..KEYS).try_for_each(|number| {
        let (columns, hashes) = keys(&[&name(number)]);
        let mut slots = Vec::new();
        state.begin_batch(&columns, &hashes, 0, &mut slots)?;
        let noise: String = (0..100).map(|_| rand::random::<char>()).collect();
        state.table(value).set(slots[0], noise);
        state.end_batch()
    });
    let error = error.unwrap_err();
    assert!(matches!(error, StateError::LocalDisk { .. }), "{error}");
    assert_eq!(error.class(), FailureClass::Retryable);
    assert!(error.to_string().contains("the disk is full"), "{error}");
}

#[test]
fn files_are_gone_with_the_state_and_with_what_still_streams_them() {
    let disk = Disk::new();
    let (mut state, _) = filled(&disk);
    let folder = store(&mut state).folder().path().to_owned();
    let snapshot = state.snapshot(FULL).unwrap();
    drop(state);
    let mut content = Vec::new();
    let scope = crate::run::Scope::new(ALL, MAX_PARALLELISM);
    crate::run::encode::encode_snapshot(&snapshot, &scope, &mut content).unwrap();
    assert!(content.len() > KEYS);
    drop(snapshot);
    // A merge under way holds its files until it notices.
    while folder.exists() {
        std::thread::yield_now();
    }
}

#[test]
fn what_expired_while_it_was_on_disk_leaves_the_checkpoints_when_their_runs_are_merged() {
    let disk = Disk::new();
    let mut files = Files::new();
    let mut runs = Runs::new(ALL);
    let mut state = disk.empty(MEMORY, 0);
    let value = state
        .register_value::<String>("value", ttl(TtlUpdate::OnCreateAndWrite))
        .unwrap();
    let mut now = 1_000;
    for round in 0..12 {
        visit(
            &mut state,
            round * 100..(round + 1) * 100,
            now,
            |state, number, slot| {
                state.table(value).set(slot, text(number, 0));
            },
        );
        files.now.store(now, std::sync::atomic::Ordering::Relaxed);
        files.checkpoint(&mut runs, false, |request| state.snapshot(request).unwrap());
        now += 2 * TTL_MS;
    }
    let rows = runs.rows();
    assert!((100..1_000).contains(&rows), "{rows} rows are in the files");
}
