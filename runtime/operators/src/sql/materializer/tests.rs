use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::testing::random::{Side, keyed_row, play, steps};
use super::super::testing::{Harness, Input, Row, TestClock, bigint, row, table, text, upserted};
use super::*;
use proptest::prelude::*;
use thalweg_plan::{NodeSpec, Schema};

fn input() -> Schema {
    table(&[("k", text()), ("v", bigint()), ("id", bigint())])
}

fn harness(upsert_key: Option<Vec<usize>>) -> Harness {
    let clock = TestClock::new(1_000);
    let (env, schema) = (clock.env(), input());
    Harness::with_clock(vec![Input::hash(&schema, &[0])], clock, move |context| {
        let operator = SqlOperator {
            spec: &NodeSpec::DropUpdateBefore,
            inputs: std::slice::from_ref(&schema),
            output: &schema,
            env: Arc::clone(&env),
        };
        Box::new(SinkMaterializer::new(&[0], upsert_key.as_deref(), 0, &operator, context).unwrap())
    })
}

/// The rows of each key in Flink's order; the last one is what the sink has.
fn lists(changes: &[(RowKind, Row)], upsert_key: Option<&[usize]>) -> BTreeMap<Row, Row> {
    let same = |a: &Row, b: &Row| match upsert_key {
        None => a == b,
        Some(columns) => columns.iter().all(|column| a[*column] == b[*column]),
    };
    let mut lists: BTreeMap<Row, Vec<Row>> = BTreeMap::new();
    for (kind, row) in changes {
        let list = lists.entry(vec![row[0].clone()]).or_default();
        let place = list.iter().position(|known| same(known, row));
        match (kind, place) {
            (RowKind::Delete | RowKind::UpdateBefore, Some(place)) => drop(list.remove(place)),
            (RowKind::Delete | RowKind::UpdateBefore, None) => {}
            (_, Some(place)) if upsert_key.is_some() => list[place] = row.clone(),
            _ => list.push(row.clone()),
        }
    }
    let last = lists
        .into_iter()
        .filter_map(|(key, list)| Some((key, list.last()?.clone())));
    last.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_sink_has_the_last_row_that_is_left(
        steps in steps(1, keyed_row(), 70),
        sizes in (1..9_usize, 1..6_usize),
    ) {
        let mut harness = harness(None);
        (harness.batch_rows, harness.limit_rows) = sizes;
        let side = Side { retracts: true, ..Side::default() };
        let played = play(&mut harness, &[side], &steps, true);
        prop_assert_eq!(upserted(&played.log, &[0]), lists(&played.all[0], None));
    }

    #[test]
    fn updates_of_an_upsert_key_that_reach_another_row_do_not_hide_it(
        steps in steps(1, keyed_row(), 70),
        sizes in (1..9_usize, 1..6_usize),
    ) {
        let mut harness = harness(Some(vec![2]));
        (harness.batch_rows, harness.limit_rows) = sizes;
        let side = Side { key: Some(vec![2]), retracts: true, ..Side::default() };
        let played = play(&mut harness, &[side], &steps, true);
        // An update of a row that isn't the last one is put out at once, as in Flink: the sink has one row of each key that has some.
        let sink = upserted(&played.log, &[0]);
        let expected = lists(&played.all[0], Some(&[2]));
        prop_assert_eq!(sink.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    }
}

#[test]
fn the_deletion_that_empties_a_key_carries_the_row_that_came() {
    let mut harness = harness(Some(vec![2]));
    harness.insert(0, row!["a", 1, 7]);
    harness.row(0, RowKind::Delete, row!["a", 2, 7]);
    let expected = [
        (RowKind::Insert, row!["a", 1, 7]),
        (RowKind::Delete, row!["a", 2, 7]),
    ];
    assert_eq!(harness.changelog(), expected);
}

#[test]
fn the_row_before_comes_back_when_the_last_one_goes() {
    let mut harness = harness(None);
    for number in [1, 2, 3] {
        harness.insert(0, row!["a", number, 7]);
    }
    harness.row(0, RowKind::Delete, row!["a", 2, 7]);
    harness.row(0, RowKind::Delete, row!["a", 3, 7]);
    let expected = [
        (RowKind::Insert, row!["a", 1, 7]),
        (RowKind::UpdateAfter, row!["a", 2, 7]),
        (RowKind::UpdateAfter, row!["a", 3, 7]),
        (RowKind::UpdateAfter, row!["a", 1, 7]),
    ];
    assert_eq!(harness.changelog(), expected);
}
