use std::collections::BTreeMap;

use super::super::testing::random::{Side, keyed_row, play, steps};
use super::super::testing::{Harness, Input, Row, TestClock, Value, bigint, row, rowtime, table, text};
use super::*;
use proptest::prelude::*;
use thalweg_plan::{NodeSpec, Schema};
use thalweg_types::element::RowKind;

fn input() -> Schema {
    table(&[("k", text()), ("v", bigint()), ("ts", rowtime())])
}

fn harness(keys: &[usize]) -> Harness {
    let clock = TestClock::new(1_000);
    let (env, schema) = (clock.env(), input());
    let spec = DeduplicateSpec {
        keys: keys.to_vec(),
        rowtime: Some(2),
        keep_last: false,
        emit_update_before: false,
        emit_insert: true,
        state_ttl_ms: 0,
    };
    let route = match keys.is_empty() {
        true => Input::singleton(&schema),
        false => Input::hash(&schema, keys),
    };
    Harness::with_clock(vec![route], clock, move |context| {
        let operator = SqlOperator {
            spec: &NodeSpec::DropUpdateBefore,
            inputs: std::slice::from_ref(&schema),
            output: &schema,
            env: Arc::clone(&env),
        };
        Box::new(FirstByTime::new(&spec, 2, &operator, context).unwrap())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn each_key_has_its_earliest_row_once(
        keys in prop::sample::select(vec![vec![0], vec![1, 0], vec![], vec![0, 1, 2]]),
        steps in steps(1, keyed_row(), 70),
        sizes in (1..9_usize, 1..6_usize),
    ) {
        let mut harness = harness(&keys);
        (harness.batch_rows, harness.limit_rows) = sizes;
        let side = Side { time: Some(2), ..Side::default() };
        let played = play(&mut harness, &[side], &steps, !keys.is_empty());
        let mut earliest: BTreeMap<Row, Row> = BTreeMap::new();
        for row in &played.left[0] {
            let key = keys.iter().map(|column| row[*column].clone()).collect();
            let known = earliest.entry(key).or_insert_with(|| row.clone());
            if row[2] < known[2] {
                known.clone_from(row);
            }
        }
        prop_assert!(played.log.iter().all(|(kind, _)| *kind == RowKind::Insert));
        let mut found: Vec<Row> = played.log.into_iter().map(|(_, row)| row).collect();
        found.sort();
        let mut expected: Vec<Row> = earliest.into_values().collect();
        expected.sort();
        prop_assert_eq!(found, expected);
    }
}

fn numbers(harness: &mut Harness) -> Vec<Value> {
    harness
        .changelog()
        .into_iter()
        .map(|(_, row)| row[1].clone())
        .collect()
}

#[test]
fn a_row_waits_until_the_watermark_has_reached_its_time() {
    let mut harness = harness(&[0]);
    harness.insert(0, row!["a", 1, 50]);
    harness.insert(0, row!["a", 2, 40]);
    harness.insert(0, row!["a", 3, 40]);
    harness.watermark(0, 39);
    assert_eq!(numbers(&mut harness), []);
    harness.watermark(0, 40);
    assert_eq!(numbers(&mut harness), row![2]);
}

#[test]
fn a_row_at_the_watermark_is_not_late_and_one_behind_it_is() {
    let mut harness = harness(&[]);
    harness.watermark(0, 40);
    harness.insert(0, row!["a", 1, 39]);
    harness.insert(0, row!["a", 2, 40]);
    harness.watermark(0, 41);
    assert_eq!(numbers(&mut harness), row![2]);
}

#[test]
fn a_key_that_is_done_ignores_all_also_after_a_restart() {
    let mut harness = harness(&[0]);
    harness.insert(0, row!["a", 1, 40]);
    harness.watermark(0, 45);
    harness.changelog();
    harness.restart(1);
    harness.insert(0, row!["a", 2, 46]);
    harness.watermark(0, i64::MAX);
    assert_eq!(numbers(&mut harness), []);
}
