//! Single cases.

use std::time::Duration;

use arrow::array::{RecordBatch, UInt64Array};
use arrow::datatypes::DataType;
use proptest::prelude::*;
use thalweg_operators::rolling::Aggregation;
use thalweg_operators::{Operator, OutputLimit};
use thalweg_state::{RestoredState, SnapshotRequest};
use thalweg_types::StreamBatch;
use thalweg_types::key_hash::hash_rows;

use super::super::fold::Fold;
use super::super::numeric::Numeric;
use super::any_trigger::AnyTrigger;
use super::*;
use crate::function::Driver;
use crate::function::testing::{context, word_key};
use crate::prelude::*;
use crate::record::{Rows, RowsBuilder};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn row(key: &str, start: i64, end: i64, values: &str, time: i64) -> (Shown, Option<i64>) {
    ((key.to_owned(), start, end, values.to_owned()), Some(time))
}

#[test]
fn a_late_element_makes_its_window_emit_again_until_the_lateness_is_over() {
    let tumbling = TumblingEventTimeWindows::of(ms(10));
    let mut harness = listing(windowing(tumbling, EventTimeTrigger::create(), 5));
    harness.row(0, &word("a", 1), Some(3));
    harness.watermark(0, 9);
    harness.row(0, &word("a", 2), Some(4));
    harness.watermark(0, 13);
    harness.row(0, &word("a", 3), Some(5));
    harness.watermark(0, 14);
    harness.row(0, &word("a", 4), Some(6));
    harness.flush_all();
    assert_eq!(
        harness.rows(),
        [
            row("a", 0, 10, "[1]", 9),
            row("a", 0, 10, "[1, 2]", 9),
            row("a", 0, 10, "[1, 2, 3]", 9)
        ]
    );
    assert_eq!(harness.side::<Word>(1), [(word("a", 4), Some(6))]);
}

#[test]
fn a_late_element_that_joins_a_session_that_is_still_open_is_not_late() {
    let sessions = EventTimeSessionWindows::with_gap(ms(5));
    let mut harness = listing(windowing(sessions, EventTimeTrigger::create(), 0));
    harness.row(0, &word("a", 1), Some(10));
    harness.watermark(0, 12);
    harness.row(0, &word("a", 2), Some(6));
    harness.row(0, &word("a", 3), Some(0));
    harness.watermark(0, 100);
    harness.flush_all();
    assert_eq!(harness.rows(), [row("a", 6, 15, "[1, 2]", 14)]);
    assert_eq!(harness.side::<Word>(1), [(word("a", 3), Some(0))]);
}

#[test]
fn sessions_that_touch_are_one_and_counts_are_added() {
    let sessions = EventTimeSessionWindows::with_gap(ms(5));
    let mut harness = listing(windowing(sessions, CountTrigger::of(3), 0));
    harness.row(0, &word("a", 1), Some(0));
    harness.row(0, &word("a", 2), Some(10));
    harness.row(0, &word("a", 3), Some(5));
    harness.flush_all();
    assert_eq!(harness.rows(), [row("a", 0, 15, "[1, 2, 3]", 14)]);
}

#[test]
fn windows_by_processing_time_emit_by_the_clock_and_ask_for_it() {
    let tumbling = TumblingProcessingTimeWindows::of(ms(100));
    let mut harness = listing(windowing(tumbling, ProcessingTimeTrigger::create(), 0));
    harness.set_time(1_050);
    harness.row(0, &word("a", 1), None);
    harness.row(0, &word("bb", 7), None);
    harness.set_time(1_098);
    harness.row(0, &word("a", 2), None);
    harness.flush_all();
    assert_eq!(harness.rows(), []);
    harness.restart(3);
    harness.set_time(1_099);
    harness.row(0, &word("a", 3), None);
    harness.set_time(1_250);
    let mut rows = harness.rows();
    rows.sort();
    assert_eq!(
        rows,
        [
            row("a", 1_000, 1_100, "[1, 2, 3]", 1_099),
            row("bb", 1_000, 1_100, "[7]", 1_099),
        ]
    );
}

#[test]
fn sessions_by_processing_time_grow_with_each_element() {
    let sessions = ProcessingTimeSessionWindows::with_gap(ms(100));
    let mut harness = listing(windowing(sessions, ProcessingTimeTrigger::create(), 0));
    for (now, value) in [(1_000, 1), (1_099, 2), (1_150, 3), (1_300, 4)] {
        harness.set_time(now);
        harness.row(0, &word("a", value), None);
    }
    harness.set_time(2_000);
    harness.set_time(1_160); // a clock that was set back; nothing is left of the sessions
    harness.row(0, &word("a", 5), None);
    harness.set_time(3_000);
    assert_eq!(
        harness.rows(),
        [
            row("a", 1_000, 1_250, "[1, 2, 3]", 1_249),
            row("a", 1_300, 1_400, "[4]", 1_399),
            row("a", 1_160, 1_260, "[5]", 1_259)
        ]
    );
}

#[test]
fn reduce_without_a_function_emits_the_window_s_record() {
    let reduce = Reduce::new(|sum: &mut Word, (_, value): (&str, i64)| sum.1 += value);
    let tumbling = TumblingEventTimeWindows::of(ms(10));
    let contents = Folded::new(Some(late()), reduce, Passthrough::<String, Word>::new());
    let mut harness = harness(windowing(tumbling, EventTimeTrigger::create(), 0), contents);
    for time in [1, 2, 12] {
        harness.row(0, &word("a", time), Some(time));
    }
    harness.watermark(0, i64::MAX);
    harness.flush_all();
    assert_eq!(
        harness.rows(),
        [(word("a", 3), Some(9)), (word("a", 12), Some(19))]
    );
}

/// A batch with hashes.
fn keyed(words: &[Word], times: &[Option<i64>]) -> StreamBatch {
    let mut rows = RowsBuilder::<Word>::with_capacity(words.len());
    words.iter().for_each(|word| rows.push(word));
    let rows: RecordBatch = rows.finish().unwrap();
    let mut hashes = Vec::new();
    hash_rows(&rows.columns()[..1], &mut hashes).unwrap();
    StreamBatch {
        key_hashes: Some(UInt64Array::from(hashes)),
        timestamps: Some(times.iter().copied().collect()),
        ..StreamBatch::new(rows)
    }
}

fn summing<G: Trigger<Word>>(windowing: Windowing<G>) -> Driver<impl crate::function::Logic<Out = Word>> {
    let contents = Folded::new(
        Some(late()),
        Numeric::<Word>::new(Aggregation::Sum, 1, DataType::Int64),
        Passthrough::<String, Word>::new(),
    );
    let logic = WindowLogic::new((windowing, contents));
    let keys = vec![Some(word_key())];
    let mut driver = Driver::new(context(0, 1), keys, &SideOutputTags::default(), logic).unwrap();
    driver.restore(&mut RestoredState::default()).unwrap();
    driver
}

const LIMIT: OutputLimit = OutputLimit {
    rows: 100,
    bytes: 1 << 20,
};

#[test]
fn a_record_without_event_time_is_an_error_that_says_what_to_do() {
    for time in [None, Some(i64::MIN)] {
        let sessions = EventTimeSessionWindows::with_gap(ms(5));
        let mut operator = summing(windowing(sessions, EventTimeTrigger::create(), 0));
        operator.push(0, keyed(&[word("a", 1)], &[time])).unwrap();
        let error = operator.poll_output(LIMIT).unwrap_err().to_string();
        assert!(
            error.contains("call assign_timestamps_and_watermarks() before"),
            "{error}"
        );
    }
}

#[test]
fn nothing_is_left_of_windows_that_are_over() {
    let assigners: [WindowAssigner; 3] = [
        TumblingEventTimeWindows::of(ms(10)).into(),
        SlidingEventTimeWindows::of(ms(10), ms(3)).into(),
        EventTimeSessionWindows::with_gap(ms(4)).into(),
    ];
    for assigner in assigners {
        for trigger in [
            AnyTrigger::End(EventTimeTrigger::create()),
            AnyTrigger::Count(CountTrigger::of(2)),
            AnyTrigger::Continuous(ContinuousEventTimeTrigger::of(ms(2))),
        ] {
            let mut operator = summing(windowing(assigner.clone(), trigger, 3));
            let request = |full| SnapshotRequest {
                checkpoint_id: 1,
                full,
            };
            let rows = |operator: &mut dyn Operator, full| -> usize {
                let tables = operator.snapshot(request(full)).unwrap().tables;
                let rows = tables.iter().flat_map(|table| &table.changes);
                rows.map(RecordBatch::num_rows).sum()
            };
            let words: Vec<Word> = (0..20).map(|n| word(["a", "bb"][n as usize % 2], n)).collect();
            let times: Vec<_> = (0..20).map(|n| Some(n * 7 % 40)).collect();
            operator.push(0, keyed(&words, &times)).unwrap();
            while operator.poll_output(LIMIT).unwrap().is_some() {}
            assert!(rows(&mut operator, true) > 0);
            let mut end = keyed(&[], &[]);
            end.watermarks = vec![thalweg_types::WatermarkCut {
                row: 0,
                timestamp_ms: 1_000,
            }];
            operator.push(0, end).unwrap();
            while operator.poll_output(LIMIT).unwrap().is_some() {}
            assert!(rows(&mut operator, false) > 0, "the removals are changes");
            assert_eq!(rows(&mut operator, true), 0);
        }
    }
}

#[test]
fn sums_are_put_into_whole_pieces_of_output() {
    let tumbling = TumblingEventTimeWindows::of(ms(10));
    let sum = Numeric::<Word>::new(Aggregation::Sum, 1, DataType::Int64);
    let contents = Folded::new(Some(late()), sum, Passthrough::<String, Word>::new());
    let mut harness = harness(windowing(tumbling, EventTimeTrigger::create(), 20), contents);
    for time in 0..30 {
        harness.row(0, &word(["a", "bb", "ccc"][time as usize % 3], time), Some(time));
    }
    harness.watermark(0, 19);
    harness.row(0, &word("a", 1_000), Some(5));
    harness.watermark(0, 29);
    harness.flush_all();
    let mut expected = Vec::new();
    for (key, first) in [("a", 0), ("bb", 1), ("ccc", 2)] {
        for window in 0..3 {
            let times = (window * 10..window * 10 + 10).filter(|time| time % 3 == first);
            expected.push((word(key, times.sum()), Some(window * 10 + 9)));
        }
    }
    expected.push((word("a", 1_018), Some(9)));
    expected.sort();
    let mut rows = harness.rows();
    rows.sort();
    assert_eq!(rows, expected);
}

/// The aggregate of these values, one of which begins the window.
fn aggregate<T: Record + PartialEq>(aggregation: Aggregation, values: &[T]) -> T {
    let mut rows = RowsBuilder::<T>::with_capacity(values.len());
    values.iter().for_each(|value| rows.push(value));
    let data_type = T::fields()[0].data_type().clone();
    let mut numeric = Numeric::<T>::new(aggregation, 0, data_type);
    numeric.take(&StreamBatch::new(rows.finish().unwrap())).unwrap();
    let mut accumulator = numeric.first(0, T::view(&values[0]));
    for (row, value) in values.iter().enumerate().skip(1) {
        numeric.add(&mut accumulator, row, T::view(value));
    }
    let mut out = RowsBuilder::<T>::with_capacity(1);
    let emitted = numeric.value(&accumulator, |value| {
        out.push(value);
        Ok(())
    });
    assert!(emitted.is_ok());
    let output = numeric.finish(out.finish().unwrap()).unwrap();
    T::own(Rows::<T>::of(&output).unwrap().get(0))
}

#[test]
fn sums_wrap_at_the_column_s_type_and_other_columns_are_the_first_record_s() {
    assert_eq!(aggregate(Aggregation::Sum, &[100_i8, 100]), -56);
    assert_eq!(aggregate(Aggregation::Sum, &[u64::MAX, 3]), 2);
    assert_eq!(aggregate(Aggregation::Max, &[1, u64::MAX, 3]), u64::MAX);
    assert_eq!(aggregate(Aggregation::Min, &[u64::MAX, 3]), 3);
    assert_eq!(aggregate(Aggregation::Min, &[1_i16, -5, 3]), -5);
    assert_eq!(aggregate(Aggregation::Sum, &[0.1_f32, 0.2]), 0.1_f32 + 0.2);
    assert_eq!(aggregate(Aggregation::Max, &[-1.5, 2.5, 0.0]), 2.5);
    assert_eq!(
        aggregate(Aggregation::Sum, &[None, Some(2), None, Some(5)]),
        Some(7)
    );
    assert_eq!(aggregate::<Option<i32>>(Aggregation::Min, &[None, None]), None);
    let records = [(1_i32, "x".to_owned()), (2, "y".to_owned())];
    assert_eq!(aggregate(Aggregation::Max, &records), (2, "x".to_owned()));
}

proptest! {
    #[test]
    fn aggregates_are_those_of_the_type(values in proptest::collection::vec(any::<i32>(), 1..20)) {
        let sum = values.iter().fold(0_i32, |sum, value| sum.wrapping_add(*value));
        prop_assert_eq!(aggregate(Aggregation::Sum, &values), sum);
        prop_assert_eq!(aggregate(Aggregation::Min, &values), *values.iter().min().unwrap());
        prop_assert_eq!(aggregate(Aggregation::Max, &values), *values.iter().max().unwrap());
    }
}

fn stream(env: &StreamExecutionEnvironment) -> KeyedStream<String, Word> {
    env.from_elements([word("a", 1)]).key_by_field::<String>("f0")
}

#[test]
fn a_windowed_stream_becomes_a_keyed_node_whose_late_records_are_a_side_output() {
    let env = StreamExecutionEnvironment::new();
    let totals = stream(&env)
        .window(TumblingEventTimeWindows::of(seconds(60)))
        .allowed_lateness(seconds(5))
        .side_output_late_data(&late())
        .sum("f1")
        .name("totals");
    totals.get_side_output(&late()).print();
    totals.print();
    let graph = env.into_program("job").unwrap().stream_graph;
    let node = graph.nodes.iter().find(|node| node.name == "totals").unwrap();
    assert_eq!(node.operator, "Window");
    assert_eq!(node.key_columns, ["f0"]);
    assert_eq!(node.side_outputs[0].name, "late");
}

#[test]
fn windows_that_make_no_sense_are_refused_when_the_job_is_built() {
    let env = StreamExecutionEnvironment::new();
    let windows = stream(&env).window(TumblingEventTimeWindows::of(Duration::ZERO));
    windows.sum("f1").print();
    let error = env.into_program("job").unwrap_err().to_string();
    assert!(error.starts_with("window(): the size"), "{error}");
    let env = StreamExecutionEnvironment::new();
    let windows = stream(&env).window(GlobalWindows::create());
    windows.sum("f0").print();
    let error = env.into_program("job").unwrap_err().to_string();
    assert!(error.contains("sum(): column \"f0\""), "{error}");
}
