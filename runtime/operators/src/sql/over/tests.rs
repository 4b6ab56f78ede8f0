use std::collections::BTreeMap;

use super::super::testing::{
    Emitted, Harness, Input, Row, TestClock, bigint, proctime, row, rowtime, table, text,
};
use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use thalweg_plan::spec::SortKey;
use thalweg_plan::{DataType as SqlType, Field as SqlField, NodeSpec, Schema};
use thalweg_types::element::RowKind;

const KEYS: [&str; 3] = ["a", "b", "c"];

fn input(time: SqlType) -> Schema {
    table(&[("k", text()), ("ts", time), ("v", bigint())])
}

fn call(function: &str, args: &[usize], distinct: bool) -> AggregateCall {
    AggregateCall {
        function: function.to_owned(),
        args: args.to_vec(),
        arg_types: args.iter().map(|_| bigint()).collect(),
        distinct,
        filter: None,
        data_type: bigint(),
        name: function.to_owned(),
        retracts: false,
    }
}

fn calls() -> Vec<AggregateCall> {
    vec![
        call("COUNT", &[], false),
        call("SUM", &[2], false),
        call("MIN", &[2], false),
        call("COUNT", &[2], true),
    ]
}

fn spec(frames: &[Frame], partition: &[usize]) -> OverAggregateSpec {
    OverAggregateSpec {
        partition: partition.to_vec(),
        order: vec![SortKey {
            column: 1,
            descending: false,
            nulls_first: true,
        }],
        groups: frames.iter().map(|frame| (*frame, calls())).collect(),
        state_ttl_ms: 0,
    }
}

fn harness(spec: OverAggregateSpec, time: SqlType) -> Harness {
    let schema = input(time);
    let mut output = schema.clone();
    let results = spec.groups.iter().flat_map(|(_, calls)| calls);
    output
        .fields
        .extend(results.map(|call| SqlField::new(&call.name, call.data_type.clone())));
    let clock = TestClock::new(1_000);
    let env = clock.env();
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
        Box::new(OverAggregate::new(&spec, &operator, context).unwrap())
    })
}

fn results(values: &[Option<i64>]) -> Row {
    let mut known: Vec<i64> = values.iter().flatten().copied().collect();
    known.sort_unstable();
    let sum = (!known.is_empty()).then(|| known.iter().sum::<i64>());
    let least = known.first().copied();
    known.dedup();
    row![values.len() as i64, sum, least, known.len() as i64]
}

/// Of the row at `place` among the key's rows in order.
fn frame(frame: Frame, rows: &[(i64, Option<i64>)], place: usize) -> Row {
    let time = rows[place].0;
    let in_frame = rows.iter().enumerate().filter(|(other, row)| match frame {
        Frame::Rows(None) => *other <= place,
        Frame::Rows(Some(preceding)) => *other <= place && place - other <= preceding as usize,
        Frame::Range(None) => row.0 <= time,
        Frame::Range(Some(interval)) => row.0 <= time && row.0 >= time - interval as i64,
    });
    results(&in_frame.map(|(_, row)| row.1).collect::<Vec<_>>())
}

#[derive(Debug, Clone)]
enum Step {
    Row(usize, i64, Option<i64>),
    Watermark(i64),
    Checkpoint,
    Restart(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        20 => (0..KEYS.len(), -8..3_i64, proptest::option::of(0..6_i64)).prop_map(|(key, jitter, value)| Step::Row(key, jitter, value)),
        6 => (0..8_i64).prop_map(Step::Watermark),
        1 => Just(Step::Checkpoint),
        1 => (1..=4_u32).prop_map(Step::Restart),
    ];
    vec(step, 0..70)
}

fn frames() -> impl Strategy<Value = Vec<Frame>> {
    let frame = prop_oneof![
        Just(Frame::Rows(None)),
        Just(Frame::Range(None)),
        Just(Frame::Rows(Some(0))),
        Just(Frame::Rows(Some(2))),
        Just(Frame::Range(Some(0))),
        Just(Frame::Range(Some(3))),
        Just(Frame::Range(Some(12))),
    ];
    vec(frame, 1..3)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn each_row_has_the_results_of_its_frame_in_the_order_of_time(
        steps in steps(),
        frames in frames(),
        batch_rows in 1..12_usize,
        limit_rows in 1..5_usize,
        is_on_disk in proptest::bool::weighted(0.2),
    ) {
        let mut harness = harness(spec(&frames, &[0]), rowtime());
        (harness.batch_rows, harness.limit_rows) = (batch_rows, limit_rows);
        if is_on_disk {
            harness.on_disk(1);
        }
        let mut watermark = i64::MIN;
        let mut rows: BTreeMap<&str, Vec<(i64, Option<i64>)>> = BTreeMap::new();
        let mut log = Vec::new();
        let any_unbounded = frames.iter().any(|frame| matches!(frame, Frame::Rows(None) | Frame::Range(None)));
        for (now, step) in (100..).zip(&steps) {
            match step {
                // What is late of bounded frames alone goes by the key's last row: see the test of it.
                Step::Row(_, jitter, _) if !any_unbounded && now + jitter <= watermark => {}
                Step::Row(key, jitter, value) => {
                    harness.insert(0, row![KEYS[*key], now + jitter, *value]);
                    if now + jitter > watermark {
                        rows.entry(KEYS[*key]).or_default().push((now + jitter, *value));
                    }
                }
                Step::Watermark(lag) => {
                    harness.watermark(0, now - lag);
                    watermark = watermark.max(now - lag);
                }
                Step::Checkpoint => harness.checkpoint(),
                Step::Restart(_) if is_on_disk => {}
                Step::Restart(subtasks) => {
                    log.extend(harness.changelog());
                    harness.restart(*subtasks);
                }
            }
        }
        harness.watermark(0, i64::MAX);
        log.extend(harness.changelog());
        for (key, rows) in &mut rows {
            rows.sort_by_key(|row| row.0);
            let expected = (0..rows.len()).map(|place| {
                let row = row![*key, rows[place].0, rows[place].1];
                row.into_iter().chain(frames.iter().flat_map(|of| frame(*of, rows, place))).collect::<Row>()
            });
            let found = log.iter().filter(|(_, row)| row[0] == (*key).into()).map(|(_, row)| row.clone());
            prop_assert_eq!(found.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        }
    }

    #[test]
    fn by_the_clock_rows_come_in_the_order_in_which_they_came(
        rows in vec((0..KEYS.len(), proptest::option::of(0..6_i64)), 0..40),
        preceding in proptest::option::of(0..4_u64),
        batch_rows in 1..12_usize,
        restart in 1..4_u32,
    ) {
        let mut harness = harness(spec(&[Frame::Rows(preceding)], &[0]), proctime());
        harness.batch_rows = batch_rows;
        let mut known: BTreeMap<&str, Vec<(i64, Option<i64>)>> = BTreeMap::new();
        let mut expected: BTreeMap<&str, Vec<Row>> = BTreeMap::new();
        let mut log = Vec::new();
        for (number, (key, value)) in rows.iter().enumerate() {
            if number == rows.len() / 2 {
                log.extend(harness.changelog());
                harness.restart(restart);
            }
            let key = KEYS[*key];
            harness.insert(0, row![key, 0, *value]);
            let known = known.entry(key).or_default();
            known.push((0, *value));
            let results = frame(Frame::Rows(preceding), known, known.len() - 1);
            expected.entry(key).or_default().push(row![key, 0, *value].into_iter().chain(results).collect());
        }
        log.extend(harness.changelog());
        for (key, expected) in expected {
            let found = log.iter().filter(|(_, row)| row[0] == key.into()).map(|(_, row)| row.clone());
            prop_assert_eq!(found.collect::<Vec<_>>(), expected);
        }
    }
}

#[test]
fn by_the_clock_rows_of_an_interval_wait_for_their_millisecond_to_be_over() {
    let mut harness = harness(spec(&[Frame::Range(Some(100))], &[0]), proctime());
    harness.insert(0, row!["a", 0, 1]);
    harness.insert(0, row!["a", 0, 2]);
    assert_eq!(harness.changelog(), []);
    harness.set_time(1_001);
    let both = row![2, 3, 1, 2];
    let expected: Vec<Row> = [1, 2]
        .map(|v| row!["a", 0, v].into_iter().chain(both.clone()).collect())
        .to_vec();
    let found: Vec<Row> = harness.changelog().into_iter().map(|(_, row)| row).collect();
    assert_eq!(found, expected);
}

#[test]
fn rows_come_before_the_watermark_that_has_passed_them_and_late_ones_dont() {
    let mut harness = harness(spec(&[Frame::Rows(None)], &[]), rowtime());
    harness.batch_rows = 10;
    harness.insert(0, row!["a", 5, 1]);
    harness.insert(0, row!["a", 3, 2]);
    harness.watermark(0, 4);
    harness.insert(0, row!["a", 4, 3]);
    harness.flush_all();
    let expected = [
        Emitted::Row(RowKind::Insert, row!["a", 3, 2, 1, 2, 2, 1]),
        Emitted::Watermark(4),
    ];
    assert_eq!(harness.emitted[0], expected);
}

#[test]
fn a_history_that_no_frame_reaches_is_forgotten() {
    let mut harness = harness(spec(&[Frame::Range(Some(10))], &[0]), rowtime());
    harness.batch_rows = 100;
    let mut sizes = Vec::new();
    for round in 0..6_i64 {
        (0..1_000_i64).for_each(|i| harness.insert(0, row![format!("k{round}-{i}"), round * 100, i]));
        harness.watermark(0, round * 100 + 99);
        harness.changelog();
        sizes.push(harness.state_bytes());
    }
    assert!(sizes[5] <= sizes[1] * 2, "{sizes:?}");
}

#[test]
fn places_of_rows_count_all_rows_before() {
    let mut spec = spec(&[Frame::Range(None)], &[0]);
    let int = |function, args: &[usize]| call(function, args, false);
    spec.groups[0].1 = vec![
        int("ROW_NUMBER", &[]),
        int("RANK", &[]),
        int("DENSE_RANK", &[]),
        int("LAG", &[2]),
    ];
    let mut harness = harness(spec, rowtime());
    for (time, value) in [(1, 10), (2, 20), (2, 30), (3, 40)] {
        harness.insert(0, row!["a", time, value]);
    }
    harness.watermark(0, 2);
    let mut log = harness.changelog();
    harness.restart(3);
    harness.watermark(0, 3);
    log.extend(harness.changelog());
    let found: Vec<Row> = log.into_iter().map(|(_, row)| row[3..].to_vec()).collect();
    let expected = [
        row![1, 1, 1, None::<i64>],
        row![2, 2, 2, 10],
        row![3, 2, 2, 20],
        row![4, 4, 3, 30],
    ];
    assert_eq!(found, expected);
}

#[test]
fn an_order_that_is_no_time_is_flinks_error() {
    let schema = input(bigint());
    let operator = SqlOperator {
        spec: &NodeSpec::DropUpdateBefore,
        inputs: std::slice::from_ref(&schema),
        output: &schema,
        env: TestClock::new(0).env(),
    };
    let context = super::super::testing::context(0, 1);
    let error = OverAggregate::new(&spec(&[Frame::Rows(None)], &[0]), &operator, context)
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("must be defined on a time attribute"),
        "{error}"
    );
}
