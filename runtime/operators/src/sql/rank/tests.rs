use std::collections::BTreeMap;

use super::super::testing::random::{Side, keyed_row, play, steps};
use super::super::testing::{
    Harness, Input, Row, TestClock, Value, bigint, materialize, row, table, text, upserted,
};
use super::*;
use proptest::prelude::*;
use std::sync::Arc;
use thalweg_plan::spec::SortKey;
use thalweg_plan::{DataType as SqlType, Field, NodeSpec, Schema, TypeRoot};

fn input() -> Schema {
    table(&[("k", text()), ("v", bigint()), ("id", bigint())])
}

fn by(column: usize, descending: bool) -> SortKey {
    SortKey {
        column,
        descending,
        nulls_first: !descending,
    }
}

fn spec(strategy: RankStrategy, start: u64, end: u64) -> RankSpec {
    RankSpec {
        partition: vec![0],
        order: vec![by(1, false)],
        start,
        end: RankEnd::Constant(end),
        with_rank: false,
        strategy,
        emit_update_before: true,
        state_ttl_ms: 0,
    }
}

fn harness(spec: RankSpec) -> Harness {
    let clock = TestClock::new(1_000);
    let (env, schema) = (clock.env(), input());
    let mut output = schema.clone();
    if spec.with_rank {
        output
            .fields
            .push(Field::new("rank", SqlType::not_null(TypeRoot::BigInt)));
    }
    let route = match spec.partition.is_empty() {
        true => Input::singleton(&schema),
        false => Input::hash(&schema, &spec.partition),
    };
    Harness::with_clock(vec![route], clock, move |context| {
        let operator = SqlOperator {
            spec: &NodeSpec::DropUpdateBefore,
            inputs: std::slice::from_ref(&schema),
            output: &output,
            env: Arc::clone(&env),
        };
        Box::new(Rank::new(&spec, &operator, context).unwrap())
    })
}

/// The rows of the wanted ranks, those with equal keys in the order of arrival.
fn top(spec: &RankSpec, rows: &[Row]) -> BTreeMap<Row, i64> {
    let mut groups: BTreeMap<Row, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        let key = spec.partition.iter().map(|column| row[*column].clone()).collect();
        groups.entry(key).or_default().push(row);
    }
    let RankEnd::Constant(end) = spec.end else {
        panic!("a column")
    };
    let mut found: BTreeMap<Row, i64> = BTreeMap::new();
    for group in groups.values_mut() {
        group.sort_by(|a, b| {
            let keys = spec.order.iter().map(|key| {
                let (a, b) = (&a[key.column], &b[key.column]);
                if key.descending { b.cmp(a) } else { a.cmp(b) }
            });
            keys.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
        });
        let places = group
            .iter()
            .enumerate()
            .take(end as usize)
            .skip(spec.start as usize - 1);
        for (place, row) in places {
            let mut row = (*row).clone();
            if spec.with_rank {
                row.push(Value::Int(place as i64 + 1));
            }
            *found.entry(row).or_default() += 1;
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn what_is_left_is_the_top_of_the_rows_that_are_left(
        retracts: bool,
        (start, end) in (1..4_u64, 0..3_u64).prop_map(|(start, more)| (start, start + more)),
        with_rank: bool,
        update_before: bool,
        descending: bool,
        is_keyed in prop::bool::weighted(0.8),
        steps in steps(1, keyed_row(), 70),
        sizes in (1..9_usize, 1..6_usize),
    ) {
        let strategy = if retracts { RankStrategy::Retract } else { RankStrategy::AppendFast };
        let mut spec = spec(strategy, start, end);
        spec.order = vec![by(1, descending)];
        // Without -U the rank tells which row is replaced.
        (spec.with_rank, spec.emit_update_before) = (with_rank || !update_before, update_before);
        if !is_keyed {
            spec.partition.clear();
        }
        let mut harness = harness(spec.clone());
        (harness.batch_rows, harness.limit_rows) = sizes;
        let side = Side { retracts, ..Side::default() };
        let played = play(&mut harness, &[side], &steps, is_keyed);
        let found = match update_before {
            true => materialize(&played.log),
            false => {
                let key: Vec<usize> = spec.partition.iter().copied().chain([3]).collect();
                upserted(&played.log, &key).into_values().map(|row| (row, 1)).collect()
            }
        };
        prop_assert_eq!(found, top(&spec, &played.left[0]));
    }

    #[test]
    fn rows_that_are_updated_towards_the_top_are_ranked_anew(
        (start, end) in (1..3_u64, 0..3_u64).prop_map(|(start, more)| (start, start + more)),
        with_rank: bool,
        updates in prop::collection::vec((0..2_usize, 0..7_i64, 0..3_i64), 0..60),
        restart in 1..4_u32,
        sizes in (1..9_usize, 1..6_usize),
    ) {
        let mut spec = spec(RankStrategy::UpdateFast(vec![2]), start, end);
        spec.order = vec![by(1, true), by(2, false)];
        spec.with_rank = with_rank;
        let mut harness = harness(spec.clone());
        (harness.batch_rows, harness.limit_rows) = sizes;
        let mut known: BTreeMap<(usize, i64), i64> = BTreeMap::new();
        let mut log = Vec::new();
        for (place, (key, id, more)) in updates.iter().enumerate() {
            if place == updates.len() / 2 {
                log.extend(harness.changelog());
                harness.restart(restart);
            }
            let value = known.entry((*key, *id)).or_default();
            *value += more;
            harness.insert(0, row![["a", "b"][*key], *value, *id]);
        }
        log.extend(harness.changelog());
        let rows: Vec<Row> = known.iter().map(|((key, id), value)| row![["a", "b"][*key], *value, *id]).collect();
        prop_assert_eq!(materialize(&log), top(&spec, &rows));
    }
}

#[test]
fn of_equal_rows_the_first_is_taken_back() {
    let mut harness = harness(RankSpec {
        with_rank: true,
        ..spec(RankStrategy::Retract, 1, 3)
    });
    for id in [1, 2, 1] {
        harness.insert(0, row!["a", 0, id]);
    }
    harness.changelog();
    harness.row(0, RowKind::Delete, row!["a", 0, 1]);
    let expected = [
        (RowKind::UpdateBefore, row!["a", 0, 1, 1]),
        (RowKind::UpdateAfter, row!["a", 0, 2, 1]),
        (RowKind::UpdateBefore, row!["a", 0, 2, 2]),
        (RowKind::UpdateAfter, row!["a", 0, 1, 2]),
        (RowKind::Delete, row!["a", 0, 1, 3]),
    ];
    assert_eq!(harness.changelog(), expected);
}

#[test]
fn an_update_with_the_same_sort_key_stays_at_its_place_among_its_equals() {
    let mut harness = harness(RankSpec {
        with_rank: true,
        order: vec![by(2, false)],
        ..spec(RankStrategy::UpdateFast(vec![1]), 1, 3)
    });
    for number in [1, 2] {
        harness.insert(0, row!["a", number, 7]);
    }
    harness.changelog();
    harness.insert(0, row!["a", 1, 7]);
    let expected = [
        (RowKind::UpdateBefore, row!["a", 1, 7, 1]),
        (RowKind::UpdateAfter, row!["a", 1, 7, 1]),
    ];
    assert_eq!(harness.changelog(), expected);
}

#[test]
fn the_only_row_changes_if_a_better_one_comes_whichever_it_is() {
    let mut harness = harness(RankSpec {
        order: vec![by(1, true)],
        ..spec(RankStrategy::UpdateFast(vec![2]), 1, 1)
    });
    harness.insert(0, row!["a", 5, 1]);
    harness.insert(0, row!["a", 5, 2]);
    harness.insert(0, row!["a", 5, 1]);
    harness.insert(0, row!["a", 6, 2]);
    let expected = [
        (RowKind::Insert, row!["a", 5, 1]),
        (RowKind::UpdateBefore, row!["a", 5, 1]),
        (RowKind::UpdateAfter, row!["a", 6, 2]),
    ];
    assert_eq!(harness.changelog(), expected);
}
