use std::collections::BTreeMap;

use super::super::testing::random::{Played, Side, keyed_row, play, steps};
use super::super::testing::{
    Harness, Input, Row, TestClock, Value, bigint, materialize, row, rowtime, table, text, upserted,
};
use super::*;
use proptest::prelude::*;
use thalweg_plan::{NodeSpec, Schema};

fn input() -> Schema {
    table(&[("k", text()), ("v", bigint()), ("ts", rowtime())])
}

/// What is tested: `None` completes an upsert stream.
fn harness(spec: Option<DeduplicateSpec>, keys: &[usize], ttl_ms: u64) -> Harness {
    let clock = TestClock::new(1_000);
    let (env, schema, keys) = (clock.env(), input(), keys.to_vec());
    let route = match keys.is_empty() {
        true => Input::singleton(&schema),
        false => Input::hash(&schema, &keys),
    };
    Harness::with_clock(vec![route], clock, move |context| {
        let operator = SqlOperator {
            spec: &NodeSpec::DropUpdateBefore,
            inputs: std::slice::from_ref(&schema),
            output: &schema,
            env: Arc::clone(&env),
        };
        Box::new(match &spec {
            Some(spec) => Latest::deduplicate(spec, &operator, context).unwrap(),
            None => Latest::normalize(&keys, true, ttl_ms, &operator, context).unwrap(),
        })
    })
}

fn dedup(keep_last: bool, rowtime: Option<usize>) -> DeduplicateSpec {
    DeduplicateSpec {
        keys: vec![0],
        rowtime,
        keep_last,
        emit_update_before: true,
        emit_insert: true,
        state_ttl_ms: 0,
    }
}

fn by_key(rows: &[Row], keys: &[usize]) -> BTreeMap<Row, Vec<Row>> {
    let mut groups: BTreeMap<Row, Vec<Row>> = BTreeMap::new();
    for row in rows {
        let key = keys.iter().map(|column| row[*column].clone()).collect();
        groups.entry(key).or_default().push(row.clone());
    }
    groups
}

/// Of the rows that came.
fn kept(spec: &DeduplicateSpec, played: &Played) -> BTreeMap<Row, i64> {
    let groups = by_key(&played.left[0], &spec.keys).into_values();
    let chosen = groups.map(|rows| match (spec.keep_last, spec.rowtime) {
        (false, _) => rows[0].clone(),
        (true, None) => rows[rows.len() - 1].clone(),
        // The last of those with the greatest time.
        (true, Some(time)) => rows.into_iter().max_by_key(|row| row[time].clone()).unwrap(),
    });
    chosen.map(|row| (row, 1)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn one_row_of_each_key_is_left(
        keep_last: bool,
        by_time: bool,
        update_before: bool,
        emit_insert: bool,
        keys in prop::sample::select(vec![vec![0], vec![0, 1], vec![], vec![0, 1, 2]]),
        steps in steps(1, keyed_row(), 70),
        sizes in (1..9_usize, 1..6_usize),
    ) {
        let rowtime = (by_time && keep_last).then_some(2);
        let spec = DeduplicateSpec { keys, emit_update_before: update_before, emit_insert, ..dedup(keep_last, rowtime) };
        let mut harness = harness(Some(spec.clone()), &spec.keys, 0);
        (harness.batch_rows, harness.limit_rows) = sizes;
        let played = play(&mut harness, &[Side::default()], &steps, !spec.keys.is_empty());
        let found = match update_before {
            true => materialize(&played.log),
            false => upserted(&played.log, &spec.keys).into_values().map(|row| (row, 1)).collect(),
        };
        prop_assert_eq!(found, kept(&spec, &played));
    }

    #[test]
    fn an_upsert_stream_is_completed(
        keys in prop::sample::select(vec![vec![0], vec![0, 1], vec![]]),
        ttl_ms in prop::sample::select(vec![0, 1_000_000]),
        steps in steps(1, keyed_row(), 70),
        sizes in (1..9_usize, 1..6_usize),
    ) {
        let mut harness = harness(None, &keys, ttl_ms);
        (harness.batch_rows, harness.limit_rows) = sizes;
        let side = Side { key: Some(keys.clone()), upserts: true, retracts: true, ..Side::default() };
        let played = play(&mut harness, &[side], &steps, !keys.is_empty());
        let left = played.left[0].iter().map(|row| (row.clone(), 1)).collect::<BTreeMap<_, _>>();
        prop_assert_eq!(materialize(&played.log), left);
        let first = |row: &Row| played.log.iter().find(|(_, known)| keys.iter().all(|key| known[*key] == row[*key]));
        for row in &played.left[0] {
            prop_assert_eq!(first(row).unwrap().0, RowKind::Insert);
        }
    }
}

#[test]
fn an_equal_row_changes_nothing_unless_it_keeps_the_state() {
    for (ttl_ms, changes) in [(0, 1), (5_000, 3)] {
        let mut harness = harness(None, &[0], ttl_ms);
        harness.insert(0, row!["a", 1, 5]);
        harness.row(0, RowKind::UpdateAfter, row!["a", 1, 5]);
        assert_eq!(harness.changelog().len(), changes);
    }
}

#[test]
fn rows_that_are_taken_back_before_they_came_are_nothing() {
    let mut harness = harness(None, &[0], 0);
    harness.row(0, RowKind::Delete, row!["a", 1, 5]);
    harness.row(0, RowKind::UpdateAfter, row!["a", 2, 5]);
    harness.row(0, RowKind::Delete, row!["a", 9, 9]);
    let expected = [
        (RowKind::Insert, row!["a", 2, 5]),
        (RowKind::Delete, row!["a", 2, 5]),
    ];
    assert_eq!(harness.changelog(), expected);
}

#[test]
fn of_equal_times_the_row_that_came_last_stays() {
    let mut harness = harness(Some(dedup(true, Some(2))), &[0], 0);
    harness.insert(0, row!["a", 1, 5]);
    harness.insert(0, row!["a", 2, 5]);
    harness.insert(0, row!["a", 3, 4]);
    let expected = [
        (RowKind::Insert, row!["a", 1, 5]),
        (RowKind::UpdateBefore, row!["a", 1, 5]),
        (RowKind::UpdateAfter, row!["a", 2, 5]),
    ];
    assert_eq!(harness.changelog(), expected);
}

#[test]
fn state_that_expired_is_as_if_no_row_had_come() {
    let mut spec = dedup(false, None);
    spec.state_ttl_ms = 500;
    let mut harness = harness(Some(spec), &[0], 0);
    harness.insert(0, row!["a", 1, 5]);
    harness.set_time(1_400);
    harness.insert(0, row!["a", 2, 5]);
    harness.set_time(1_600);
    harness.insert(0, row!["a", 3, 5]);
    let rows: Vec<Value> = harness
        .changelog()
        .into_iter()
        .map(|(_, row)| row[1].clone())
        .collect();
    assert_eq!(rows, row![1, 3]);
}
