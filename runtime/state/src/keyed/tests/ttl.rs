use super::harness::*;
use crate::*;

fn with(update: TtlUpdate, visibility: TtlVisibility) -> Option<StateTtl> {
    ttl(update).map(|ttl| StateTtl { visibility, ..ttl })
}

const INCREMENTAL: SnapshotRequest = SnapshotRequest {
    checkpoint_id: 1,
    full: false,
};

#[test]
fn an_expired_value_is_not_read_or_is_read_once_more() {
    for (visibility, seen) in [
        (TtlVisibility::NeverReturnExpired, None),
        (TtlVisibility::ReturnExpiredIfNotCleanedUp, Some(7)),
    ] {
        let mut state = empty(usize::MAX);
        let ttl = with(TtlUpdate::OnCreateAndWrite, visibility);
        let value = state.register_value::<i64>("value", ttl).unwrap();
        let map = state.register_map::<i64, i64>("map", ttl).unwrap();
        let slot = begin(&mut state, &["a"], 0)[0];
        state.table(value).set(slot, 7);
        state.table(map).put(slot, 1, 7);
        state.advance_clock(TTL_MS - 1);
        assert_eq!(state.table(value).get(slot), Some(&7));
        assert_eq!(state.table(map).get(slot, &1), Some(&7));
        state.advance_clock(TTL_MS);
        assert_eq!(state.table(value).get(slot).copied(), seen);
        assert_eq!(state.table(map).get(slot, &1).copied(), seen);
        assert_eq!(state.table(value).get(slot), None, "the read has cleaned it up");
        assert_eq!(state.table(map).get(slot, &1), None);
    }
}

#[test]
fn a_read_begins_a_life_anew_only_if_it_should() {
    for (update, seen) in [
        (TtlUpdate::OnCreateAndWrite, false),
        (TtlUpdate::OnReadAndWrite, true),
    ] {
        let mut state = empty(usize::MAX);
        let ttl = with(update, TtlVisibility::NeverReturnExpired);
        let value = state.register_value::<i64>("value", ttl).unwrap();
        let list = state.register_list::<i64>("list", ttl).unwrap();
        let map = state.register_map::<i64, i64>("map", ttl).unwrap();
        let slot = begin(&mut state, &["a"], 0)[0];
        state.table(value).set(slot, 7);
        state.table(list).add(slot, 7);
        state.table(map).put(slot, 1, 7);
        for now in [TTL_MS - 1, 2 * TTL_MS - 2] {
            state.advance_clock(now);
            let read = state.table(value).get(slot).is_some();
            assert_eq!(read, seen || now < TTL_MS);
            assert_eq!(state.table(list).get(slot).len(), usize::from(read));
            assert_eq!(state.table(map).iter(slot).count(), usize::from(read));
        }
    }
}

#[test]
fn expired_rows_are_in_no_snapshot_and_are_swept_without_being_read() {
    let mut state = empty(usize::MAX);
    let ttl = ttl(TtlUpdate::OnCreateAndWrite);
    let value = state.register_value::<String>("value", ttl).unwrap();
    let names: Vec<String> = (0..500).map(|i| format!("key{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for slot in begin(&mut state, &names, 0) {
        state.table(value).set(slot, "text".to_owned());
    }
    state.end_batch().unwrap();
    let mut store = Store::default();
    assert_eq!(store.apply(false, &state.snapshot(INCREMENTAL).unwrap()), 500);
    state.advance_clock(TTL_MS);
    let full = SnapshotRequest {
        checkpoint_id: 2,
        full: true,
    };
    assert_eq!(store.apply(true, &state.snapshot(full).unwrap()), 0);
    for _ in 0..500 / 64 + 1 {
        state.end_batch().unwrap();
    }
    assert_eq!(state.key_count(), 0);
}

#[test]
fn what_expired_while_the_job_was_down_is_not_restored_and_is_removed_from_the_files() {
    let mut store = Store::default();
    let ttl = ttl(TtlUpdate::OnCreateAndWrite);
    let mut first = empty(usize::MAX);
    let value = first.register_value::<i64>("value", ttl).unwrap();
    let slot = begin(&mut first, &["a"], 0)[0];
    first.table(value).set(slot, 7);
    first.end_batch().unwrap();
    store.apply(false, &first.snapshot(INCREMENTAL).unwrap());

    let mut second = empty(usize::MAX);
    second.register_value::<i64>("value", ttl).unwrap();
    second.restore(&mut store.restored(ALL), 1_000).unwrap();
    let tombstones = store.apply(false, &second.snapshot(INCREMENTAL).unwrap());
    assert_eq!((tombstones, store.rows("value", 0)), (1, 0));
    assert_eq!(second.key_count(), 0);
}
