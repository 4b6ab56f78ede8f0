use std::collections::BTreeMap;

use super::super::testing::{
    Harness, Input, Row, TestClock, Value, bigint, materialize, row, table, text, upserted,
};
use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use thalweg_plan::aggregate::all_partial_fields;
use thalweg_plan::spec::AggregateCall;
use thalweg_plan::{DataType as SqlType, Field as SqlField, NodeSpec, TypeRoot};
use thalweg_types::element::RowKind;

const KEY: usize = 0;
const NUMBER: usize = 1;
const TEXT: usize = 2;
const FLAG: usize = 3;

fn input() -> Schema {
    table(&[
        ("k", text()),
        ("n", bigint()),
        ("t", text()),
        ("f", SqlType::nullable(TypeRoot::Boolean)),
    ])
}

fn call(function: &str, arg: Option<usize>, result: SqlType) -> AggregateCall {
    let types = arg.map(|arg| input().fields[arg].data_type.clone());
    AggregateCall {
        function: function.to_owned(),
        args: arg.into_iter().collect(),
        arg_types: types.into_iter().collect(),
        distinct: false,
        filter: None,
        data_type: result,
        name: format!("{function}{arg:?}"),
        retracts: false,
    }
}

fn distinct(call: AggregateCall) -> AggregateCall {
    AggregateCall {
        distinct: true,
        ..call
    }
}

fn filtered(call: AggregateCall) -> AggregateCall {
    AggregateCall {
        filter: Some(FLAG),
        ..call
    }
}

fn simple_calls() -> Vec<AggregateCall> {
    vec![
        call("COUNT", None, bigint()),
        call("COUNT", Some(TEXT), bigint()),
        call("SUM", Some(NUMBER), bigint()),
        filtered(call("SUM", Some(NUMBER), bigint())),
        call("AVG", Some(NUMBER), bigint()),
    ]
}

fn all_calls() -> Vec<AggregateCall> {
    let mut calls = simple_calls();
    calls.extend([
        call("MIN", Some(NUMBER), bigint()),
        call("MAX", Some(TEXT), text()),
        distinct(call("COUNT", Some(TEXT), bigint())),
        filtered(distinct(call("COUNT", Some(TEXT), bigint()))),
        distinct(call("SUM", Some(NUMBER), bigint())),
    ]);
    calls
}

fn spec(calls: Vec<AggregateCall>, retracts: bool) -> GroupAggregateSpec {
    GroupAggregateSpec {
        keys: vec![KEY],
        aggregates: calls
            .into_iter()
            .map(|call| AggregateCall { retracts, ..call })
            .collect(),
        retracts,
        emit_update_before: true,
        fold_batches: true,
        state_ttl_ms: 0,
    }
}

fn output(spec: &GroupAggregateSpec, input: &Schema) -> Schema {
    let keys = spec.keys.iter().map(|key| input.fields[*key].clone());
    let results = spec
        .aggregates
        .iter()
        .map(|call| SqlField::new(&call.name, call.data_type.clone()));
    Schema {
        fields: keys.chain(results).collect(),
    }
}

fn harness(spec: GroupAggregateSpec) -> Harness {
    let clock = TestClock::new(1_000);
    let (schema, env) = (input(), clock.env());
    let route = match spec.keys.is_empty() {
        true => Input::singleton(&schema),
        false => Input::hash(&schema, &spec.keys),
    };
    let output = output(&spec, &schema);
    Harness::with_clock(vec![route], clock, move |context| {
        let operator = SqlOperator {
            spec: &NodeSpec::DropUpdateBefore,
            inputs: std::slice::from_ref(&schema),
            output: &output,
            env: Arc::clone(&env),
        };
        Box::new(GroupAggregate::new(&spec, &operator, context).unwrap())
    })
}

/// What the calls give for rows, by SQL's words.
fn result(call: &AggregateCall, rows: &[Row]) -> Value {
    let passes = |row: &&Row| call.filter.is_none_or(|filter| row[filter] == Value::Bool(true));
    let rows: Vec<&Row> = rows.iter().filter(passes).collect();
    let Some(arg) = call.args.first() else {
        return Value::Int(rows.len() as i64);
    };
    let mut values: Vec<Value> = rows
        .iter()
        .map(|row| row[*arg].clone())
        .filter(|value| *value != Value::Null)
        .collect();
    values.sort();
    if call.distinct {
        values.dedup();
    }
    let sum: i64 = values.iter().filter_map(Value::int).sum();
    let count = values.len() as i64;
    match call.function.as_str() {
        "COUNT" => Value::Int(count),
        _ if values.is_empty() => Value::Null,
        "SUM" => Value::Int(sum),
        "AVG" => Value::Int(sum / count),
        "MIN" => values[0].clone(),
        "MAX" => values[values.len() - 1].clone(),
        other => panic!("{other}"),
    }
}

fn group(spec: &GroupAggregateSpec, key: &[Value], rows: &[Row]) -> Row {
    let results = spec.aggregates.iter().map(|call| result(call, rows));
    key.iter().cloned().chain(results).collect()
}

/// The rows of each key, one after the other.
#[derive(Default)]
struct Twin {
    groups: BTreeMap<Row, Vec<Row>>,
    /// By key: what Flink sends without folding.
    changes: BTreeMap<Row, Vec<(RowKind, Row)>>,
}

impl Twin {
    fn row(&mut self, spec: &GroupAggregateSpec, is_added: bool, row: &Row) {
        let key: Row = spec.keys.iter().map(|key| row[*key].clone()).collect();
        let rows = self.groups.entry(key.clone()).or_default();
        let before = (!rows.is_empty()).then(|| group(spec, &key, rows));
        if is_added {
            rows.push(row.clone());
        } else {
            match rows.iter().position(|known| known == row) {
                Some(place) => {
                    rows.remove(place);
                }
                None => return,
            }
        }
        let after = (!rows.is_empty()).then(|| group(spec, &key, rows));
        let changes = self.changes.entry(key).or_default();
        match (before, after) {
            (None, Some(after)) => changes.push((RowKind::Insert, after)),
            (Some(before), None) => changes.push((RowKind::Delete, before)),
            (Some(before), Some(after)) if before != after => {
                changes.push((RowKind::UpdateBefore, before));
                changes.push((RowKind::UpdateAfter, after));
            }
            _ => {}
        }
    }

    fn rows(&self, spec: &GroupAggregateSpec) -> BTreeMap<Row, i64> {
        let live = self.groups.iter().filter(|(_, rows)| !rows.is_empty());
        live.map(|(key, rows)| (group(spec, key, rows), 1)).collect()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Add(Row),
    /// One of the rows that are there.
    TakeBack(prop::sample::Index),
    Checkpoint,
    Restart(u32),
}

fn rows() -> impl Strategy<Value = Row> {
    (
        proptest::option::of("[a-c]"),
        proptest::option::of(-5..6_i64),
        proptest::option::of("[x-z]{0,1}"),
        proptest::option::of(any::<bool>()),
    )
        .prop_map(|(key, number, text, flag)| row![key, number, text, flag])
}

fn steps(retracts: bool) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => rows().prop_map(Step::Add),
        if retracts { 8 } else { 0 } => any::<prop::sample::Index>().prop_map(Step::TakeBack),
        1 => Just(Step::Checkpoint),
        1 => (1..=4_u32).prop_map(Step::Restart),
    ];
    vec(step, 0..80)
}

fn run(harness: &mut Harness, spec: &GroupAggregateSpec, steps: &[Step]) -> (Twin, Vec<(RowKind, Row)>) {
    let mut twin = Twin::default();
    let mut live: Vec<Row> = Vec::new();
    let mut log = Vec::new();
    for step in steps {
        match step {
            Step::Add(row) => {
                harness.insert(0, row.clone());
                twin.row(spec, true, row);
                live.push(row.clone());
            }
            Step::TakeBack(_) if live.is_empty() => {}
            Step::TakeBack(index) => {
                let row = live.swap_remove(index.index(live.len()));
                harness.row(0, RowKind::Delete, row.clone());
                twin.row(spec, false, &row);
            }
            Step::Checkpoint => harness.checkpoint(),
            Step::Restart(parallelism) => {
                log.extend(harness.changelog());
                let parallelism = if spec.keys.is_empty() { 1 } else { *parallelism };
                harness.restart(parallelism);
            }
        }
    }
    log.extend(harness.changelog());
    (twin, log)
}

fn by_key(log: &[(RowKind, Row)], keys: usize) -> BTreeMap<Row, Vec<(RowKind, Row)>> {
    let mut by_key: BTreeMap<Row, Vec<(RowKind, Row)>> = BTreeMap::new();
    for change in log {
        by_key
            .entry(change.1[..keys].to_vec())
            .or_default()
            .push(change.clone());
    }
    by_key
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn folded_changes_come_to_the_groups_of_all_rows(
        (retracts, steps) in any::<bool>().prop_flat_map(|retracts| (Just(retracts), steps(retracts))),
        batch_rows in 1..17_usize,
        limit_rows in 1..5_usize,
        update_before in any::<bool>(),
        is_on_disk in proptest::bool::weighted(0.2),
    ) {
        let mut spec = spec(all_calls(), retracts);
        spec.emit_update_before = update_before;
        let mut harness = harness(spec.clone());
        (harness.batch_rows, harness.limit_rows) = (batch_rows, limit_rows);
        let mut steps = steps;
        if is_on_disk {
            harness.on_disk(1);
            steps.retain(|step| !matches!(step, Step::Restart(_)));
        }
        let (twin, log) = run(&mut harness, &spec, &steps);
        let found = match update_before {
            true => materialize(&log),
            false => upserted(&log, &[KEY]).into_values().map(|row| (row, 1)).collect(),
        };
        prop_assert_eq!(found, twin.rows(&spec));
    }

    #[test]
    fn unfolded_changes_are_those_of_each_row(
        steps in steps(true),
        batch_rows in 1..17_usize,
        is_global in any::<bool>(),
    ) {
        let mut spec = spec(all_calls(), true);
        spec.fold_batches = false;
        if is_global {
            spec.keys.clear();
        }
        let mut harness = harness(spec.clone());
        harness.batch_rows = batch_rows;
        let (twin, log) = run(&mut harness, &spec, &steps);
        let mut expected = twin.changes;
        expected.retain(|_, changes| !changes.is_empty());
        prop_assert_eq!(by_key(&log, spec.keys.len()), expected);
    }

    #[test]
    fn two_phases_come_to_the_same_as_one(
        (retracts, steps) in any::<bool>().prop_flat_map(|retracts| (Just(retracts), steps(retracts))),
        batch_rows in 1..17_usize,
    ) {
        let mut calls = simple_calls();
        if !retracts {
            calls.push(call("MIN", Some(NUMBER), bigint()));
            calls.push(call("MAX", Some(TEXT), text()));
        }
        let spec = spec(calls, retracts);
        let partials = partial_schema(&spec);
        let mut local = local(spec.clone());
        local.batch_rows = batch_rows;
        let mut global = global(spec.clone(), &partials);
        let (twin, mut log) = (&mut Twin::default(), Vec::new());
        let mut live: Vec<Row> = Vec::new();
        for step in &steps {
            match step {
                Step::Add(row) => {
                    local.insert(0, row.clone());
                    twin.row(&spec, true, row);
                    live.push(row.clone());
                }
                Step::TakeBack(index) if !live.is_empty() => {
                    let row = live.swap_remove(index.index(live.len()));
                    local.row(0, RowKind::Delete, row.clone());
                    twin.row(&spec, false, &row);
                }
                Step::Restart(parallelism) => {
                    pass(&mut local, &mut global);
                    log.extend(global.changelog());
                    global.restart(*parallelism);
                }
                _ => {}
            }
        }
        pass(&mut local, &mut global);
        log.extend(global.changelog());
        prop_assert_eq!(materialize(&log), twin.rows(&spec));
    }
}

/// Hands partial results over.
fn pass(local: &mut Harness, global: &mut Harness) {
    for (kind, row) in local.changelog() {
        global.row(0, kind, row);
    }
}

fn partial_schema(spec: &GroupAggregateSpec) -> Schema {
    let input = input();
    let keys = spec.keys.iter().map(|key| input.fields[*key].clone());
    Schema {
        fields: keys
            .chain(all_partial_fields(&spec.aggregates).unwrap())
            .collect(),
    }
}

fn local(spec: GroupAggregateSpec) -> Harness {
    let (schema, output) = (input(), partial_schema(&spec));
    Harness::new(vec![Input::singleton(&input())], move |context| {
        let operator = SqlOperator {
            spec: &NodeSpec::DropUpdateBefore,
            inputs: std::slice::from_ref(&schema),
            output: &output,
            env: TestClock::new(0).env(),
        };
        Box::new(LocalGroupAggregate::new(&spec, &operator, context).unwrap())
    })
}

fn global(spec: GroupAggregateSpec, partials: &Schema) -> Harness {
    let (schema, output) = (partials.clone(), output(&spec, &input()));
    Harness::new(vec![Input::hash(partials, &[KEY])], move |context| {
        let operator = SqlOperator {
            spec: &NodeSpec::DropUpdateBefore,
            inputs: std::slice::from_ref(&schema),
            output: &output,
            env: TestClock::new(0).env(),
        };
        Box::new(GroupAggregate::global(&spec, &operator, context).unwrap())
    })
}

fn count_only(keys: &[usize]) -> GroupAggregateSpec {
    GroupAggregateSpec {
        keys: keys.to_vec(),
        ..spec(vec![call("COUNT", None, bigint())], true)
    }
}

#[test]
fn a_batch_gives_one_change_for_each_key() {
    let mut harness = harness(count_only(&[KEY]));
    harness.batch_rows = 10;
    for key in ["a", "b", "a", "a"] {
        harness.insert(0, row![key, 1, "x", true]);
    }
    let mut first = harness.changelog();
    first.sort_by(|a, b| a.1.cmp(&b.1));
    assert_eq!(
        first,
        [(RowKind::Insert, row!["a", 3]), (RowKind::Insert, row!["b", 1])]
    );
    harness.insert(0, row!["a", 1, "x", true]);
    harness.row(0, RowKind::Delete, row!["b", 1, "x", true]);
    let mut second = harness.changelog();
    second.sort_by(|a, b| a.1[0].cmp(&b.1[0]));
    let expected = [
        (RowKind::UpdateBefore, row!["a", 3]),
        (RowKind::UpdateAfter, row!["a", 4]),
        (RowKind::Delete, row!["b", 1]),
    ];
    assert_eq!(second, expected);
}

#[test]
fn what_stays_the_same_is_not_sent_unless_state_may_expire() {
    for (ttl, expected) in [(0, 0), (60_000, 2)] {
        let mut harness = harness(GroupAggregateSpec {
            state_ttl_ms: ttl,
            ..count_only(&[KEY])
        });
        harness.batch_rows = 2;
        harness.insert(0, row!["a", 1, "x", true]);
        harness.changelog();
        harness.insert(0, row!["a", 2, "x", true]);
        harness.row(0, RowKind::Delete, row!["a", 1, "x", true]);
        assert_eq!(harness.changelog().len(), expected);
    }
}

#[test]
fn an_expired_group_begins_anew() {
    let mut harness = harness(GroupAggregateSpec {
        state_ttl_ms: 5_000,
        ..count_only(&[KEY])
    });
    harness.insert(0, row!["a", 1, "x", true]);
    harness.changelog();
    harness.set_time(7_000);
    harness.insert(0, row!["a", 1, "x", true]);
    assert_eq!(harness.changelog(), [(RowKind::Insert, row!["a", 1])]);
}

#[test]
fn rows_taken_back_from_no_group_are_left_out() {
    let mut harness = harness(count_only(&[KEY]));
    harness.batch_rows = 3;
    harness.row(0, RowKind::Delete, row!["a", 1, "x", true]);
    harness.row(0, RowKind::UpdateBefore, row!["a", 1, "x", true]);
    harness.insert(0, row!["a", 1, "x", true]);
    assert_eq!(harness.changelog(), [(RowKind::Insert, row!["a", 1])]);
}

#[test]
fn a_global_group_begins_with_its_first_row_and_ends_with_its_last() {
    let mut harness = harness(count_only(&[]));
    harness.watermark(0, 5);
    assert_eq!(harness.changelog(), []);
    harness.insert(0, row!["a", 1, "x", true]);
    assert_eq!(harness.changelog(), [(RowKind::Insert, row![1])]);
    harness.row(0, RowKind::Delete, row!["a", 1, "x", true]);
    assert_eq!(harness.changelog(), [(RowKind::Delete, row![1])]);
}

#[test]
fn a_group_without_rows_leaves_no_state() {
    let mut harness = harness(spec(all_calls(), true));
    harness.batch_rows = 100;
    let row = |i: i64| row![format!("k{i}"), i, format!("t{i}"), true];
    (0..1_000).for_each(|i| harness.insert(0, row(i)));
    (0..1_000).for_each(|i| harness.row(0, RowKind::Delete, row(i)));
    harness.flush_all();
    let once = harness.state_bytes();
    for round in 1..6_i64 {
        (0..1_000).for_each(|i| harness.insert(0, row(round * 1_000 + i)));
        (0..1_000).for_each(|i| harness.row(0, RowKind::Delete, row(round * 1_000 + i)));
    }
    harness.flush_all();
    assert!(
        harness.state_bytes() < 2 * once,
        "{} after {once}",
        harness.state_bytes()
    );
}

#[test]
fn the_watermark_goes_on_behind_the_changes_of_its_batch() {
    let mut harness = harness(count_only(&[]));
    harness.batch_rows = 10;
    harness.watermark(0, 1);
    harness.insert(0, row!["a", 1, "x", true]);
    harness.watermark(0, 2);
    harness.flush_all();
    use super::super::testing::Emitted;
    let expected = [Emitted::Row(RowKind::Insert, row![1]), Emitted::Watermark(2)];
    assert_eq!(harness.emitted[0], expected);
}
