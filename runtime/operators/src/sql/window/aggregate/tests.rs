use std::collections::BTreeMap;

use super::super::super::testing::{
    Emitted, Harness, Input, Row, TestClock, bigint, proctime, row, rowtime, table, text, timestamp,
};
use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use thalweg_plan::spec::{AggregateCall, WindowColumns, WindowSpec};
use thalweg_plan::{DataType as SqlType, Field as SqlField, NodeSpec};
use thalweg_types::element::RowKind;

const KEYS: [&str; 4] = ["a", "b", "c", "d"];

fn input() -> Schema {
    table(&[("k", text()), ("ts", rowtime()), ("v", bigint())])
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
        call("MAX", &[2], false),
        call("COUNT", &[2], true),
    ]
}

fn properties() -> Vec<(WindowProperty, SqlType)> {
    vec![
        (WindowProperty::Start, timestamp()),
        (WindowProperty::End, timestamp()),
    ]
}

fn assigned(kind: WindowKind, offset_ms: i64) -> Windowing {
    Windowing::Assign(WindowSpec {
        kind,
        time: 1,
        offset_ms,
        partition: Vec::new(),
        time_zone: "UTC".to_owned(),
    })
}

fn spec(windowing: Windowing, keys: &[usize]) -> WindowAggregateSpec {
    WindowAggregateSpec {
        keys: keys.to_vec(),
        aggregates: calls(),
        windowing,
        properties: properties(),
        legacy: false,
    }
}

fn harness_of(spec: WindowAggregateSpec, input: Schema) -> Harness {
    let clock = TestClock::new(1_000);
    let env = clock.env();
    let keys = spec.keys.iter().map(|key| input.fields[*key].clone());
    let results = spec
        .aggregates
        .iter()
        .map(|call| SqlField::new(&call.name, call.data_type.clone()));
    let properties = spec
        .properties
        .iter()
        .map(|(_, data_type)| SqlField::new("window", data_type.clone()));
    let output = Schema {
        fields: keys.chain(results).chain(properties).collect(),
    };
    let route = match spec.keys.is_empty() {
        true => Input::singleton(&input),
        false => Input::hash(&input, &spec.keys),
    };
    Harness::with_clock(vec![route], clock, move |context| {
        let operator = SqlOperator {
            spec: &NodeSpec::DropUpdateBefore,
            inputs: std::slice::from_ref(&input),
            output: &output,
            env: Arc::clone(&env),
        };
        Box::new(WindowAggregate::new(&spec, &operator, context).unwrap())
    })
}

fn results(values: &[Option<i64>]) -> Row {
    let mut known: Vec<i64> = values.iter().flatten().copied().collect();
    known.sort_unstable();
    let sum = (!known.is_empty()).then(|| known.iter().sum::<i64>());
    let greatest = known.last().copied();
    known.dedup();
    row![values.len() as i64, sum, greatest, known.len() as i64]
}

/// Every window in a list, looked through for each row.
struct Twin {
    kind: WindowKind,
    offset: i64,
    watermark: i64,
    live: Vec<(Row, i64, i64, Vec<Option<i64>>)>,
    fired: Vec<Row>,
    late: u64,
}

impl Twin {
    fn new(kind: WindowKind, offset: i64) -> Self {
        Self {
            kind,
            offset,
            watermark: i64::MIN,
            live: Vec::new(),
            fired: Vec::new(),
            late: 0,
        }
    }

    fn windows(&self, time: i64) -> Vec<(i64, i64)> {
        let (slide, sizes): (i64, Vec<i64>) = match self.kind {
            WindowKind::Tumble { size_ms } => (size_ms, vec![size_ms]),
            WindowKind::Hop { slide_ms, size_ms } => (slide_ms, vec![size_ms]),
            WindowKind::Cumulate { step_ms, size_ms } => (
                size_ms,
                (1..=size_ms / step_ms).map(|step| step * step_ms).collect(),
            ),
            WindowKind::Session { gap_ms } => return vec![(time, time + gap_ms)],
        };
        let starts = (time - 60..=time).filter(|start| (start - self.offset).rem_euclid(slide) == 0);
        let windows = starts.flat_map(|start| sizes.iter().map(move |size| (start, start + size)));
        windows
            .filter(|(start, end)| (*start..*end).contains(&time))
            .collect()
    }

    fn row(&mut self, key: &Row, time: i64, value: Option<i64>) {
        let windows = self.windows(time);
        let mut is_late = !windows.is_empty();
        for (mut start, mut end) in windows {
            let mut values = Vec::new();
            let is_session = matches!(self.kind, WindowKind::Session { .. });
            let (joined, others): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.live).into_iter().partition(|live| {
                    live.0 == *key
                        && if is_session {
                            live.1 <= end && start <= live.2
                        } else {
                            (live.1, live.2) == (start, end)
                        }
                });
            self.live = others;
            for live in joined {
                start = start.min(live.1);
                end = end.max(live.2);
                values.extend(live.3);
            }
            if end - 1 > self.watermark {
                is_late = false;
                values.push(value);
                self.live.push((key.clone(), start, end, values));
            }
        }
        self.late += u64::from(is_late);
    }

    fn advance(&mut self, watermark: i64) {
        self.watermark = self.watermark.max(watermark);
        let over = |live: &(Row, i64, i64, Vec<Option<i64>>)| live.2 - 1 <= self.watermark;
        let (over, live) = std::mem::take(&mut self.live).into_iter().partition(over);
        self.live = live;
        for (key, start, end, values) in over {
            let row = key.into_iter().chain(results(&values)).chain(row![start, end]);
            self.fired.push(row.collect());
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Key, how much later than the step's number it happened, value.
    Row(usize, i64, Option<i64>),
    /// How much the watermark lags behind the step's number.
    Watermark(i64),
    Checkpoint,
    Restart(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        20 => (0..KEYS.len(), -25..5_i64, proptest::option::of(0..6_i64)).prop_map(|(key, jitter, value)| Step::Row(key, jitter, value)),
        6 => (0..20_i64).prop_map(Step::Watermark),
        1 => Just(Step::Checkpoint),
        1 => (1..=4_u32).prop_map(Step::Restart),
    ];
    vec(step, 0..90)
}

fn kinds() -> impl Strategy<Value = WindowKind> {
    prop_oneof![
        Just(WindowKind::Tumble { size_ms: 7 }),
        Just(WindowKind::Tumble { size_ms: 1 }),
        Just(WindowKind::Hop {
            slide_ms: 5,
            size_ms: 15
        }),
        Just(WindowKind::Hop {
            slide_ms: 4,
            size_ms: 10
        }),
        Just(WindowKind::Hop {
            slide_ms: 9,
            size_ms: 4
        }),
        Just(WindowKind::Cumulate {
            step_ms: 4,
            size_ms: 12
        }),
        Just(WindowKind::Session { gap_ms: 1 }),
        Just(WindowKind::Session { gap_ms: 4 }),
        Just(WindowKind::Session { gap_ms: 9 }),
    ]
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort();
    rows
}

fn inserted(changelog: Vec<(RowKind, Row)>) -> Vec<Row> {
    let row = |(kind, row)| {
        assert_eq!(kind, RowKind::Insert);
        row
    };
    changelog.into_iter().map(row).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn windows_come_once_with_all_their_rows_whatever_the_batches_and_restarts(
        steps in steps(),
        kind in kinds(),
        offset in prop_oneof![Just(0_i64), Just(3), Just(-2)],
        batch_rows in 1..12_usize,
        limit_rows in 1..5_usize,
        is_global in any::<bool>(),
        is_on_disk in proptest::bool::weighted(0.2),
    ) {
        let keys: &[usize] = if is_global { &[] } else { &[0] };
        let mut harness = harness_of(spec(assigned(kind, offset), keys), input());
        (harness.batch_rows, harness.limit_rows) = (batch_rows, limit_rows);
        if is_on_disk {
            harness.on_disk(1);
        }
        let offset = if matches!(kind, WindowKind::Session { .. }) { 0 } else { offset };
        let mut twin = Twin::new(kind, offset);
        let mut log = Vec::new();
        for (now, step) in (-20..).zip(&steps) {
            match step {
                Step::Row(key, jitter, value) => {
                    let key = KEYS[*key];
                    harness.insert(0, row![key, now + jitter, *value]);
                    twin.row(&if is_global { row![] } else { row![key] }, now + jitter, *value);
                }
                Step::Watermark(lag) => {
                    harness.watermark(0, now - lag);
                    twin.advance(now - lag);
                }
                Step::Checkpoint => harness.checkpoint(),
                Step::Restart(_) if is_on_disk => {}
                Step::Restart(subtasks) => {
                    log.extend(harness.changelog());
                    harness.restart(if is_global { 1 } else { *subtasks });
                }
            }
        }
        harness.watermark(0, i64::MAX);
        twin.advance(i64::MAX);
        log.extend(harness.changelog());
        prop_assert_eq!(sorted(inserted(log)), sorted(twin.fired));
    }

    #[test]
    fn windows_that_rows_have_already_come_once(
        rows in vec((0..KEYS.len(), 0..4_i64, 1..4_i64, proptest::option::of(0..6_i64)), 0..60),
        batch_rows in 1..12_usize,
        restart in 1..4_u32,
    ) {
        let input = table(&[("k", text()), ("window_start", timestamp()), ("v", bigint()), ("window_end", timestamp())]);
        let columns = WindowColumns { start: 1, end: 3, event_time: true, local_time: false };
        let mut harness = harness_of(spec(Windowing::Attached(columns), &[0]), input);
        harness.batch_rows = batch_rows;
        let mut expected: BTreeMap<Row, Vec<Option<i64>>> = BTreeMap::new();
        let mut log = Vec::new();
        for (number, (key, start, length, value)) in rows.iter().enumerate() {
            if number == rows.len() / 2 {
                log.extend(harness.changelog());
                harness.restart(restart);
            }
            let (key, start, end) = (KEYS[*key], start * 10, (start + length) * 10);
            harness.insert(0, row![key, start, *value, end]);
            expected.entry(row![key, start, end]).or_default().push(*value);
        }
        harness.watermark(0, i64::MAX);
        log.extend(harness.changelog());
        let expected = expected.into_iter().map(|(window, values)| {
            let key = window[..1].iter().cloned();
            key.chain(results(&values)).chain(window[1..].iter().cloned()).collect()
        });
        prop_assert_eq!(sorted(inserted(log)), sorted(expected.collect()));
    }
}

#[test]
fn a_window_is_put_out_before_the_watermark_that_ends_it() {
    let mut harness = harness_of(
        spec(assigned(WindowKind::Tumble { size_ms: 10 }, 0), &[]),
        input(),
    );
    harness.batch_rows = 10;
    harness.insert(0, row!["a", 3, 5]);
    harness.watermark(0, 8);
    harness.insert(0, row!["a", 4, 6]);
    harness.watermark(0, 9);
    harness.insert(0, row!["a", 4, 7]);
    harness.flush_all();
    let expected = [
        Emitted::Watermark(8),
        Emitted::Row(RowKind::Insert, row![2, 11, 6, 2, 0, 10]),
        Emitted::Watermark(9),
    ];
    assert_eq!(harness.emitted[0], expected);
}

#[test]
fn late_rows_are_counted_and_stay_late_behind_a_restart() {
    let schema = input();
    let spec = spec(assigned(WindowKind::Tumble { size_ms: 10 }, 0), &[]);
    let mut harness = harness_of(spec.clone(), schema.clone());
    harness.watermark(0, 9);
    harness.flush_all();
    harness.restart(1);
    harness.insert(0, row!["a", 4, 7]);
    harness.watermark(0, i64::MAX);
    assert_eq!(harness.changelog(), []);

    let clock = TestClock::new(0);
    let output = table(&[
        ("c", bigint()),
        ("s", bigint()),
        ("m", bigint()),
        ("d", bigint()),
        ("ws", timestamp()),
        ("we", timestamp()),
    ]);
    let operator = SqlOperator {
        spec: &NodeSpec::DropUpdateBefore,
        inputs: std::slice::from_ref(&schema),
        output: &output,
        env: clock.env(),
    };
    let context = super::super::super::testing::context(0, 1);
    let mut operator = WindowAggregate::new(&spec, &operator, context).unwrap();
    let rows = [
        (RowKind::Insert, row!["a", 4, 7]),
        (RowKind::Insert, row!["a", 14, 7]),
    ];
    let batch = super::super::super::testing::batch_of(&schema, &rows, &[(0, 9)]);
    operator.push(0, batch).unwrap();
    let limit = OutputLimit {
        rows: 10,
        bytes: 1 << 20,
    };
    while operator.poll_output(limit).unwrap().is_some() {}
    assert_eq!(operator.late_rows(), 1);
}

#[test]
fn windows_by_the_clock_come_when_it_has_passed_them() {
    let input = table(&[("k", text()), ("ts", proctime()), ("v", bigint())]);
    for kind in [
        WindowKind::Tumble { size_ms: 500 },
        WindowKind::Session { gap_ms: 500 },
    ] {
        let mut harness = harness_of(spec(assigned(kind, 0), &[0]), input.clone());
        harness.insert(0, row!["a", 0, 5]);
        harness.flush_all();
        harness.restart(3);
        harness.set_time(1_499);
        assert_eq!(harness.changelog(), []);
        harness.set_time(1_500);
        let expected = [(RowKind::Insert, row!["a", 1, 5, 5, 1, 1_000, 1_500])];
        assert_eq!(harness.changelog(), expected);
        assert_eq!(harness.operator(0).next_processing_time(), None);
    }
}

#[test]
fn retracted_windows_without_rows_are_not_put_out() {
    let mut spec = spec(assigned(WindowKind::Tumble { size_ms: 10 }, 0), &[0]);
    spec.legacy = true;
    spec.aggregates.iter_mut().for_each(|call| call.retracts = true);
    let mut harness = harness_of(spec, input());
    harness.insert(0, row!["a", 3, 5]);
    harness.insert(0, row!["b", 3, 5]);
    harness.insert(0, row!["b", 3, 9]);
    harness.row(0, RowKind::Delete, row!["a", 3, 5]);
    harness.row(0, RowKind::Delete, row!["b", 3, 9]);
    harness.watermark(0, 9);
    let expected = [(RowKind::Insert, row!["b", 1, 5, 5, 1, 0, 10])];
    assert_eq!(harness.changelog(), expected);
}

#[test]
fn windows_of_instants_begin_at_local_midnight() {
    let instant = SqlType::nullable(thalweg_plan::TypeRoot::TimestampLtz(3, TimeKind::Rowtime));
    let input = table(&[("k", text()), ("ts", instant.clone()), ("v", bigint())]);
    let day = 86_400_000;
    let mut spec = spec(assigned(WindowKind::Tumble { size_ms: day }, 0), &[]);
    if let Windowing::Assign(window) = &mut spec.windowing {
        window.time_zone = "GMT+8".to_owned();
    }
    spec.properties.push((WindowProperty::Time, instant));
    let mut harness = harness_of(spec, input);
    let hour = 3_600_000;
    harness.insert(0, row!["a", 15 * hour, 1]);
    harness.insert(0, row!["a", 16 * hour, 1]);
    harness.watermark(0, 16 * hour - 1);
    let first = [(RowKind::Insert, row![1, 1, 1, 1, 0, day, 16 * hour - 1])];
    assert_eq!(harness.changelog(), first);
    harness.watermark(0, 40 * hour - 1);
    let second = [(RowKind::Insert, row![1, 1, 1, 1, day, 2 * day, 40 * hour - 1])];
    assert_eq!(harness.changelog(), second);
}

#[test]
fn windows_that_are_over_leave_no_state() {
    for kind in [
        WindowKind::Hop {
            slide_ms: 5,
            size_ms: 10,
        },
        WindowKind::Session { gap_ms: 3 },
        WindowKind::Cumulate {
            step_ms: 5,
            size_ms: 10,
        },
    ] {
        let mut harness = harness_of(spec(assigned(kind, 0), &[0]), input());
        harness.batch_rows = 100;
        let mut sizes = Vec::new();
        for round in 0..6_i64 {
            (0..1_000_i64).for_each(|i| harness.insert(0, row![format!("k{i}"), round * 100, i]));
            harness.watermark(0, round * 100 + 99);
            harness.changelog();
            sizes.push(harness.state_bytes());
        }
        assert!(sizes[5] <= sizes[1] * 2, "{kind:?}: {sizes:?}");
    }
}
