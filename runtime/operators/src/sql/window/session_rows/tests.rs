use std::collections::BTreeMap;

use super::super::super::testing::random::{Side, keyed_row, play, steps};
use super::super::super::testing::{
    Harness, Input, Row, TestClock, Value, bigint, proctime, row, rowtime, table, text, timestamp,
};
use super::*;
use proptest::prelude::*;
use thalweg_plan::{DataType, Field, NodeSpec, Schema};

fn input(time: DataType) -> Schema {
    table(&[("k", text()), ("v", bigint()), ("ts", time)])
}

fn harness(gap_ms: i64, partition: &[usize], time: DataType) -> Harness {
    let clock = TestClock::new(1_000);
    let (env, schema) = (clock.env(), input(time));
    let mut output = schema.clone();
    for name in ["window_start", "window_end", "window_time"] {
        output.fields.push(Field::new(name, timestamp()));
    }
    let spec = WindowSpec {
        kind: WindowKind::Session { gap_ms },
        time: 2,
        offset_ms: 0,
        partition: partition.to_vec(),
        time_zone: "UTC".to_owned(),
    };
    let route = match partition.is_empty() {
        true => Input::singleton(&schema),
        false => Input::hash(&schema, partition),
    };
    Harness::with_clock(vec![route], clock, move |context| {
        let operator = SqlOperator {
            spec: &NodeSpec::DropUpdateBefore,
            inputs: std::slice::from_ref(&schema),
            output: &output,
            env: Arc::clone(&env),
        };
        Box::new(SessionRows::new(&spec, &operator, context).unwrap())
    })
}

/// The rows of each session with its bounds. A row that is the gap behind a session belongs to it unless that was over when it came.
fn sessions(rows: &[Row], watermarks: &[i64], partition: &[usize], gap: i64) -> Vec<Row> {
    let mut groups: BTreeMap<Row, Vec<(Row, i64)>> = BTreeMap::new();
    for (row, watermark) in rows.iter().zip(watermarks) {
        let key = partition.iter().map(|column| row[*column].clone()).collect();
        groups.entry(key).or_default().push((row.clone(), *watermark));
    }
    let mut found = Vec::new();
    for rows in groups.values() {
        let mut times: Vec<i64> = rows.iter().filter_map(|(row, _)| row[2].int()).collect();
        times.sort_unstable();
        let came_in_time = |time: i64| {
            rows.iter()
                .any(|(row, watermark)| row[2].int() == Some(time) && *watermark < time - 1)
        };
        let is_same = |a: &i64, b: &i64| b - a < gap || b - a == gap && came_in_time(*b);
        for session in times.chunk_by(is_same) {
            let (start, end) = (session[0], session[session.len() - 1] + gap);
            let own = rows
                .iter()
                .filter(|(row, _)| session.contains(&row[2].int().unwrap()));
            found.extend(own.map(|(row, _)| [row.clone(), row![start, end, end - 1]].concat()));
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn each_row_comes_once_with_its_session(
        gap in 1..6_i64,
        is_keyed: bool,
        steps in steps(1, keyed_row(), 70),
        sizes in (1..9_usize, 1..6_usize),
    ) {
        let partition: &[usize] = if is_keyed { &[0] } else { &[] };
        let mut harness = harness(gap, partition, rowtime());
        (harness.batch_rows, harness.limit_rows) = sizes;
        let side = Side { time: Some(2), ..Side::default() };
        let played = play(&mut harness, &[side], &steps, is_keyed);
        let mut found: Vec<Row> = played.log.into_iter().map(|(_, row)| row).collect();
        let mut expected = sessions(&played.left[0], &played.watermarks[0], partition, gap);
        found.sort();
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
fn the_rows_of_a_session_come_as_they_came_when_it_is_over() {
    let mut harness = harness(10, &[0], rowtime());
    for (number, time) in [(1, 15), (2, 5), (3, 40), (4, 10)] {
        harness.insert(0, row!["a", number, time]);
    }
    harness.watermark(0, 23);
    assert_eq!(numbers(&mut harness), []);
    harness.watermark(0, 24);
    assert_eq!(numbers(&mut harness), row![1, 2, 4]);
}

#[test]
fn a_late_row_is_dropped_unless_it_touches_a_session_that_is_open() {
    let mut harness = harness(10, &[0], rowtime());
    harness.insert(0, row!["a", 1, 30]);
    harness.watermark(0, 34);
    harness.insert(0, row!["a", 2, 25]);
    harness.insert(0, row!["a", 3, 5]);
    harness.watermark(0, i64::MAX);
    assert_eq!(numbers(&mut harness), row![1, 2]);
}

#[test]
fn by_the_clock_a_session_is_over_when_nothing_came_for_the_gap() {
    let mut harness = harness(100, &[0], proctime());
    harness.insert(0, row!["a", 1, 0]);
    harness.set_time(1_090);
    harness.insert(0, row!["a", 2, 0]);
    harness.set_time(1_150);
    assert_eq!(numbers(&mut harness), []);
    harness.set_time(1_189);
    assert_eq!(numbers(&mut harness), row![1, 2]);
}
