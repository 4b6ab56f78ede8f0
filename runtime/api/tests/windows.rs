//! Whole jobs with windows and joins, run by the engine's tasks.

#![allow(missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use support::{Collected, run};
use thalweg_api::prelude::*;

/// User, value, event time.
type Reading = (String, i64, i64);

fn data() -> impl Iterator<Item = Reading> {
    (0..400_i64).map(|n| {
        let time = if n % 7 == 6 { n * 10 - 400 } else { n * 10 };
        (format!("user {}", n % 4), n, time)
    })
}

fn readings(env: &StreamExecutionEnvironment, out_of_orderness: u64) -> DataStream<Reading> {
    let strategy = WatermarkStrategy::for_bounded_out_of_orderness(Duration::from_millis(out_of_orderness));
    env.from_elements(data().collect::<Vec<_>>())
        .rebalance()
        .assign_timestamps_and_watermarks(strategy, |(_, _, time)| *time)
}

fn second() -> TumblingEventTimeWindows {
    TumblingEventTimeWindows::of(Duration::from_secs(1))
}

/// The values' sum by user and second.
fn sums() -> BTreeMap<(String, i64), i64> {
    let mut sums = BTreeMap::new();
    for (user, value, time) in data() {
        *sums.entry((user, time.div_euclid(1_000))).or_default() += value;
    }
    sums
}

#[test]
fn windows_emit_each_key_and_second_once_nothing_being_late() {
    let env = StreamExecutionEnvironment::new();
    let collected = Collected::<(String, i64, i64)>::new();
    readings(&env, 500)
        .key_by::<String, _>(|(user, _, _)| *user)
        .window(second())
        .apply(|user, window, elements, out: &mut Collector<Reading>| {
            let sum = elements.iter().map(|(_, value, _)| value).sum();
            out.collect((user, window.start / 1_000, sum));
        })
        .sink_to(collected.clone());
    run(env);
    let expected: Vec<_> = sums()
        .into_iter()
        .map(|((user, second), sum)| (user, second, sum))
        .collect();
    assert_eq!(collected.sorted(), expected);
}

#[test]
fn count_windows_emit_when_they_are_full() {
    let env = StreamExecutionEnvironment::new();
    let collected = Collected::<(String, i64)>::new();
    readings(&env, 500)
        .key_by::<String, _>(|(user, _, _)| *user)
        .count_window(30)
        .apply(|user, _, elements, out: &mut Collector<(String, i64)>| {
            out.collect((user, elements.len() as i64));
        })
        .sink_to(collected.clone());
    run(env);
    let user = |number: i64| std::iter::repeat_n((format!("user {number}"), 30), 3);
    assert_eq!(collected.sorted(), (0..4).flat_map(user).collect::<Vec<_>>());
}

#[test]
fn every_record_is_in_a_window_or_late() {
    let env = StreamExecutionEnvironment::new();
    let (collected, lates) = (Collected::<Reading>::new(), Collected::<Reading>::new());
    let late = OutputTag::<Reading>::new("late");
    let totals = readings(&env, 20)
        .key_by_field::<String>("f0")
        .window(second())
        .side_output_late_data(&late)
        .sum("f1");
    totals.get_side_output(&late).sink_to(lates.clone());
    totals.sink_to(collected.clone());
    run(env);
    let sum = |rows: Vec<Reading>| rows.iter().map(|(_, value, _)| value).sum::<i64>();
    assert_eq!(
        sum(collected.sorted()) + sum(lates.sorted()),
        (0..400).sum::<i64>()
    );
}

#[test]
fn joins_make_each_pair_once() {
    let env = StreamExecutionEnvironment::new();
    let (windowed, near) = (Collected::<(i64, i64)>::new(), Collected::<(i64, i64)>::new());
    let (left, right) = (readings(&env, 500), readings(&env, 500));
    left.join(&right)
        .where_::<String, _>(|(user, _, _)| *user)
        .equal_to(|(user, _, _)| *user)
        .window(second())
        .apply(|(_, left, _), (_, right, _)| (left, right))
        .sink_to(windowed.clone());
    left.key_by_field::<String>("f0")
        .interval_join(&right.key_by_field::<String>("f0"))
        .between(-50, 100)
        .apply(|(_, left, _), (_, right, _), out: &mut Collector<(i64, i64)>| out.collect((left, right)))
        .sink_to(near.clone());
    run(env);
    let pairs = |joins: fn(i64, i64) -> bool| {
        let mut pairs = Vec::new();
        for (user, left, left_time) in data() {
            let others = data().filter(|(other, _, time)| *other == user && joins(left_time, *time));
            pairs.extend(others.map(|(_, right, _)| (left, right)));
        }
        pairs.sort_unstable();
        pairs
    };
    let same_second = |left: i64, right: i64| left.div_euclid(1_000) == right.div_euclid(1_000);
    assert_eq!(windowed.sorted(), pairs(same_second));
    assert_eq!(
        near.sorted(),
        pairs(|left, right| (-50..=100).contains(&(right - left)))
    );
}
