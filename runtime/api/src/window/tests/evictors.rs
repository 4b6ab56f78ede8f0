//! Evictors against plain lists, with restarts in the middle.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::datatypes::DataType;
use proptest::collection::vec;
use proptest::prelude::*;
use thalweg_operators::rolling::Aggregation;

use super::super::evictor::{Evicting, Refold};
use super::super::numeric::Numeric;
use super::*;

const KEYS: [&str; 3] = ["a", "bb", "ccc"];
type Elements = Vec<(i64, i64)>;

fn showing<V: Evictor<Word>>(every: i64, evictor: V) -> Harness<Shown> {
    let all = |key: &str, window: TimeWindow, elements: &[Word], out: &mut Collector<Shown>| {
        let values: Vec<i64> = elements.iter().map(|(_, value)| *value).collect();
        out.collect((key, window.start, window.end, &format!("{values:?}")));
    };
    let emit = ByFunction(Apply::<_, String, Word, Shown>::new(all));
    let contents = Evicting::new(Some(late()), emit, evictor);
    harness(
        windowing(GlobalWindows::create(), CountTrigger::of(every), 0),
        contents,
    )
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Count(usize),
    Time(i64),
    Delta(i64),
}

impl Kind {
    fn harness(self, every: i64, after: bool) -> Harness<Shown> {
        let delta = |element: &Word, last: &Word| (element.1 - last.1).abs() as f64;
        match (self, after) {
            (Self::Count(count), false) => showing(every, CountEvictor::of(count)),
            (Self::Count(count), true) => showing(every, CountEvictor::of(count).evict_after()),
            (Self::Time(size), false) => showing(every, TimeEvictor::of(millis_of(size))),
            (Self::Time(size), true) => showing(every, TimeEvictor::of(millis_of(size)).evict_after()),
            (Self::Delta(limit), false) => showing(every, DeltaEvictor::of(limit as f64, delta)),
            (Self::Delta(limit), true) => showing(every, DeltaEvictor::of(limit as f64, delta).evict_after()),
        }
    }

    /// The twin: (value, time) in the order of arrival.
    fn evict(self, elements: &mut Elements) {
        match self {
            Self::Count(count) => {
                let skip = elements.len().saturating_sub(count);
                elements.drain(..skip);
            }
            Self::Time(size) => {
                let latest = elements.iter().map(|(_, time)| *time).max().unwrap_or(0);
                elements.retain(|(_, time)| *time > latest - size);
            }
            Self::Delta(limit) => {
                let last = elements.last().map_or(0, |(value, _)| *value);
                elements.retain(|(value, _)| (value - last).abs() < limit);
            }
        }
    }
}

fn millis_of(millis: i64) -> Duration {
    Duration::from_millis(millis.unsigned_abs())
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        (0..5_usize).prop_map(Kind::Count),
        (1..20_i64).prop_map(Kind::Time),
        (1..8_i64).prop_map(Kind::Delta),
    ]
}

proptest! {
    #[test]
    fn a_window_shows_what_the_evictor_leaves_and_keeps_it_for_the_next_time(
        kind in kinds(),
        after in any::<bool>(),
        every in 1..4_i64,
        elements in vec((0..KEYS.len(), 0..12_i64, 0..40_i64, proptest::option::weighted(0.1, 1..4_u32)), 0..60),
        batch_rows in 1..6_usize,
    ) {
        let mut harness = kind.harness(every, after);
        harness.batch_rows = batch_rows;
        let mut windows: BTreeMap<&str, (Elements, i64)> = BTreeMap::new();
        let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (key, value, time, restart) in elements {
            harness.row(0, &word(KEYS[key], value), Some(time));
            let (window, count) = windows.entry(KEYS[key]).or_default();
            window.push((value, time));
            *count += 1;
            if *count == every {
                *count = 0;
                if !after {
                    kind.evict(window);
                }
                let values: Vec<i64> = window.iter().map(|(value, _)| *value).collect();
                expected.entry(KEYS[key].to_owned()).or_default().push(format!("{values:?}"));
                if after {
                    kind.evict(window);
                }
            }
            if let Some(parallelism) = restart {
                collect(&mut harness, &mut seen);
                harness.restart(parallelism);
            }
        }
        collect(&mut harness, &mut seen);
        prop_assert_eq!(seen, expected);
    }
}

fn collect(harness: &mut Harness<Shown>, seen: &mut BTreeMap<String, Vec<String>>) {
    harness.flush_all();
    for ((key, _, _, values), _) in harness.rows() {
        seen.entry(key).or_default().push(values);
    }
    harness.emitted.iter_mut().for_each(Vec::clear);
}

#[test]
fn elements_without_times_are_kept_by_a_time_evictor() {
    let mut harness = showing(2, TimeEvictor::of(millis_of(5)));
    harness.restart(1);
    for (value, time) in [(1, None), (2, None), (3, Some(0)), (4, Some(50))] {
        harness.row(0, &word("a", value), time);
    }
    harness.flush_all();
    let values: Vec<String> = harness.rows().into_iter().map(|(row, _)| row.3).collect();
    assert_eq!(values, ["[1, 2]", "[1, 2, 4]"]);
}

#[test]
fn what_is_left_is_reduced_and_a_window_of_which_nothing_is_left_emits_nothing() {
    let emit = |count| {
        let emit = Refold {
            fold: Reduce::new(|sum: &mut Word, (_, value): (&str, i64)| sum.1 += value),
            emit: Passthrough::<String, Word>::new(),
        };
        let contents = Evicting::new(Some(late()), emit, CountEvictor::of(count));
        let windowing = windowing(GlobalWindows::create(), CountTrigger::of(2), 0);
        let mut harness: Harness<Word> = harness(windowing, contents);
        harness.restart(1);
        for value in 1..=6 {
            harness.row(0, &word("a", value), None);
        }
        harness.flush_all();
        harness
            .rows()
            .into_iter()
            .map(|((_, sum), _)| sum)
            .collect::<Vec<_>>()
    };
    assert_eq!(emit(3), [3, 9, 15], "1+2, 2+3+4, 4+5+6");
    assert_eq!(emit(0), [0; 0]);
}

#[test]
fn a_column_of_what_is_left_is_summed_and_the_others_are_its_first_record_s() {
    for (aggregation, expected) in [
        (Aggregation::Sum, [9, 15]),
        (Aggregation::Min, [2, 4]),
        (Aggregation::Max, [4, 6]),
    ] {
        let emit = Refold {
            fold: Numeric::<Word>::new(aggregation, 1, DataType::Int64),
            emit: Passthrough::<String, Word>::new(),
        };
        let contents = Evicting::new(Some(late()), emit, CountEvictor::of(3));
        let windowing = windowing(GlobalWindows::create(), CountTrigger::of(2), 0);
        let mut harness: Harness<Word> = harness(windowing, contents);
        harness.restart(1);
        harness.row(0, &word("a", 1), None);
        harness.row(0, &word("a", 2), None);
        harness.restart(2);
        for value in 3..=6 {
            harness.row(0, &word("a", value), None);
        }
        harness.flush_all();
        let emitted: Vec<Word> = harness.rows().into_iter().map(|(row, _)| row).collect();
        assert_eq!(
            emitted[emitted.len() - 2..],
            expected.map(|value| word("a", value))
        );
    }
}
