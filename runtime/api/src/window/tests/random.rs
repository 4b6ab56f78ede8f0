//! The same random elements through the operator and through its twin.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, StringArray};
use proptest::collection::vec;
use proptest::prelude::*;
use thalweg_types::key_group::key_group;
use thalweg_types::key_hash::hash_rows;

use super::any_trigger::{AnyTrigger, Never};
use super::twin::{Event, Twin, TwinTrigger};
use super::*;
use crate::function::testing::{Emitted, context};
use crate::state::AggregateFunction;

const KEYS: [&str; 5] = ["a", "bb", "ccc", "d", "e"];

#[derive(Debug, Clone)]
enum Step {
    /// Key, how much later than the step's number it happened, value.
    Element(usize, i64, i64),
    /// How much the watermark lags behind the step's number.
    Watermark(i64),
    Restart(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        20 => (0..KEYS.len(), -25..5_i64, 0..100_i64).prop_map(|(key, jitter, value)| Step::Element(key, jitter, value)),
        6 => (0..20_i64).prop_map(Step::Watermark),
        1 => (1..=4_u32).prop_map(Step::Restart),
    ];
    vec(step, 0..90)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn assigners() -> impl Strategy<Value = WindowAssigner> {
    prop_oneof![
        Just(TumblingEventTimeWindows::of(ms(10)).with_offset(3).into()),
        Just(TumblingEventTimeWindows::of(ms(1)).into()),
        Just(SlidingEventTimeWindows::of(ms(12), ms(5)).with_offset(-2).into()),
        Just(SlidingEventTimeWindows::of(ms(4), ms(7)).into()),
        Just(EventTimeSessionWindows::with_gap(ms(1)).into()),
        Just(EventTimeSessionWindows::with_gap(ms(4)).into()),
        Just(EventTimeSessionWindows::with_gap(ms(9)).into()),
        Just(GlobalWindows::create().into()),
    ]
}

fn triggers() -> impl Strategy<Value = (AnyTrigger, TwinTrigger, bool)> {
    let purging_end = PurgingTrigger::of(EventTimeTrigger::create());
    let purging_count = PurgingTrigger::of(CountTrigger::of(2));
    prop_oneof![
        3 => Just((AnyTrigger::End(EventTimeTrigger::create()), TwinTrigger::EventTime, false)),
        1 => Just((AnyTrigger::PurgingEnd(purging_end), TwinTrigger::EventTime, true)),
        1 => Just((AnyTrigger::Count(CountTrigger::of(3)), TwinTrigger::Count(3), false)),
        1 => Just((AnyTrigger::PurgingCount(purging_count), TwinTrigger::Count(2), true)),
        1 => Just((AnyTrigger::Never(Never), TwinTrigger::Never, false)),
    ]
}

fn group(key: &str) -> u32 {
    let keys: Vec<ArrayRef> = vec![Arc::new(StringArray::from(vec![key]))];
    let mut hashes = Vec::new();
    hash_rows(&keys, &mut hashes).unwrap();
    key_group(hashes[0], context(0, 1).max_parallelism)
}

/// What each key has seen since the last call.
fn collect(
    harness: &mut Harness<Shown>,
    parallelism: u32,
    events: &mut BTreeMap<String, Vec<(Option<Shown>, i64)>>,
) {
    harness.flush_all();
    for (subtask, emitted) in (0..).zip(&mut harness.emitted) {
        for emitted in emitted.drain(..) {
            match emitted {
                Emitted::Row(row, time) => {
                    let events = events.entry(row.0.clone()).or_default();
                    events.push((Some(row), time.unwrap()));
                }
                Emitted::Watermark(time) => {
                    let groups = context(subtask, parallelism).key_groups;
                    for key in KEYS.iter().filter(|key| groups.contains(group(key))) {
                        events.entry((*key).to_owned()).or_default().push((None, time));
                    }
                }
            }
        }
    }
}

/// The values' sum, and how they were added.
#[derive(Clone)]
struct Sum;

impl AggregateFunction for Sum {
    type In = Word;
    type Accumulator = (i64, i64);
    type Out = i64;

    fn create_accumulator(&self) -> (i64, i64) {
        (0, 0)
    }

    fn add(&self, accumulator: &mut (i64, i64), (_, value): (&str, i64)) {
        accumulator.0 += value;
        accumulator.1 += 1;
    }

    fn get_result(&self, accumulator: &(i64, i64)) -> i64 {
        accumulator.0 * 1000 + accumulator.1
    }

    fn merge(&self, accumulator: &mut (i64, i64), other: &(i64, i64)) {
        accumulator.0 += other.0;
        accumulator.1 += other.1;
    }
}

fn aggregating<G: Trigger<Word>>(windowing: Windowing<G>) -> Harness<Shown> {
    let sum = |key: &str, window: TimeWindow, sums: &[i64], out: &mut Collector<Shown>| {
        out.collect((key, window.start, window.end, &sums[0].to_string()));
    };
    let function = ByFunction(Apply::<_, String, i64, Shown>::new(sum));
    harness(windowing, Folded::new(Some(late()), Aggregate(Sum), function))
}

/// The twin's events as the operator shows them.
fn shown(twin: &Twin, values: fn(&[i64]) -> String) -> BTreeMap<String, Vec<(Option<Shown>, i64)>> {
    let show = |key: &String, event: &Event| match event {
        Event::Fired(start, end, held, time) => (Some((key.clone(), *start, *end, values(held))), *time),
        Event::Watermark(time) => (None, *time),
    };
    let of_key = |(key, events): (&String, &Vec<Event>)| {
        (key.clone(), events.iter().map(|event| show(key, event)).collect())
    };
    twin.events.iter().map(of_key).collect()
}

fn run(
    mut harness: Harness<Shown>,
    mut twin: Twin,
    steps: &[Step],
    batch_rows: usize,
    limit_rows: usize,
    values: fn(&[i64]) -> String,
) -> Result<(), TestCaseError> {
    harness.batch_rows = batch_rows;
    harness.limit_rows = limit_rows;
    let mut parallelism = 2;
    let mut seen = BTreeMap::new();
    for (now, step) in (-20..).zip(steps) {
        match step {
            Step::Element(key, jitter, value) => {
                harness.row(0, &word(KEYS[*key], *value), Some(now + jitter));
                twin.element(KEYS[*key], now + jitter, *value);
            }
            Step::Watermark(lag) => {
                harness.watermark(0, now - lag);
                twin.advance(&KEYS, now - lag);
            }
            Step::Restart(subtasks) => {
                collect(&mut harness, parallelism, &mut seen);
                parallelism = *subtasks;
                harness.restart(parallelism);
                twin.watermark = i64::MIN; // it is not part of a checkpoint, as in Flink
            }
        }
    }
    harness.watermark(0, i64::MAX);
    twin.advance(&KEYS, i64::MAX);
    collect(&mut harness, parallelism, &mut seen);
    prop_assert_eq!(seen, shown(&twin, values));
    let mut late: BTreeMap<String, Vec<(i64, i64)>> = BTreeMap::new();
    for ((key, value), time) in harness.side::<Word>(1) {
        late.entry(key).or_default().push((value, time.unwrap()));
    }
    // Restarts may move a key to an earlier subtask, whose side output stands before.
    let sorted = |mut late: BTreeMap<String, Vec<(i64, i64)>>| {
        late.values_mut().for_each(|rows| rows.sort_unstable());
        late
    };
    prop_assert_eq!(sorted(late), sorted(twin.late));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn windows_hold_and_emit_what_the_twin_says_whatever_the_batches_and_restarts(
        steps in steps(),
        assigner in assigners(),
        (trigger, twin_trigger, purges) in triggers(),
        lateness in prop_oneof![Just(0_i64), Just(4), Just(13), Just(i64::MAX)],
        batch_rows in 1..12_usize,
        limit_rows in 1..5_usize,
    ) {
        let operator = listing(windowing(assigner.clone(), trigger, lateness));
        let twin = Twin::new(assigner, twin_trigger, purges, lateness);
        run(operator, twin, &steps, batch_rows, limit_rows, |values| format!("{values:?}"))?;
    }

    #[test]
    fn accumulators_come_to_the_same_as_all_elements_together(
        steps in steps(),
        assigner in assigners(),
        (trigger, twin_trigger, purges) in triggers(),
        lateness in prop_oneof![Just(0_i64), Just(4), Just(13), Just(i64::MAX)],
        batch_rows in 1..12_usize,
    ) {
        let operator = aggregating(windowing(assigner.clone(), trigger, lateness));
        let twin = Twin::new(assigner, twin_trigger, purges, lateness);
        let sum = |values: &[i64]| (values.iter().sum::<i64>() * 1000 + values.len() as i64).to_string();
        run(operator, twin, &steps, batch_rows, 3, sum)?;
    }
}
