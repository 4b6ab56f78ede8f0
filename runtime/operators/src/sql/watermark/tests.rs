use super::super::testing::{Emitted, Harness, Input, TestClock, bigint, row, rowtime, table};
use super::*;
use thalweg_plan::{Expr, NodeSpec};

/// The watermark is a column of its own, so that rows may say anything.
fn harness(interval_ms: u64, idle_timeout_ms: u64) -> Harness {
    let schema = table(&[("ts", rowtime()), ("watermark", rowtime()), ("v", bigint())]);
    let spec = WatermarkSpec {
        rowtime: 0,
        expression: Expr::column(1, rowtime()),
        interval_ms,
        idle_timeout_ms,
    };
    let clock = TestClock::new(1_000);
    let env = clock.env();
    let input = Input::singleton(&schema);
    let mut harness = Harness::with_clock(vec![input], clock, move |context| {
        let operator = SqlOperator {
            spec: &NodeSpec::DropUpdateBefore,
            inputs: std::slice::from_ref(&schema),
            output: &schema,
            env: Arc::clone(&env),
        };
        Box::new(WatermarkAssigner::new(&spec, &operator, context).unwrap())
    });
    harness.batch_rows = 4;
    harness.limit_rows = 2;
    harness
}

fn feed(harness: &mut Harness, watermarks: &[Option<i64>]) {
    for watermark in watermarks {
        harness.insert(0, row![1, *watermark, 0]);
    }
    harness.flush_all();
}

#[test]
fn without_an_interval_each_row_that_moves_the_watermark_is_followed_by_it() {
    let mut harness = harness(0, 0);
    feed(&mut harness, &[Some(5), Some(3), None, Some(9)]);
    let row =
        |watermark: Option<i64>| Emitted::Row(thalweg_types::element::RowKind::Insert, row![1, watermark, 0]);
    let expected = [
        row(Some(5)),
        Emitted::Watermark(5),
        row(Some(3)),
        row(None),
        row(Some(9)),
        Emitted::Watermark(9),
    ];
    assert_eq!(harness.emitted[0], expected);
}

#[test]
fn with_an_interval_watermarks_go_when_they_are_that_far_ahead_or_when_it_is_over() {
    let mut harness = harness(200, 0);
    feed(&mut harness, &[Some(100), Some(200), Some(201), Some(300)]);
    assert_eq!(harness.watermarks(), [201]);
    harness.set_time(1_199);
    assert_eq!(harness.watermarks(), [] as [i64; 0]);
    harness.set_time(1_200);
    assert_eq!(harness.watermarks(), [300]);
    harness.set_time(9_000);
    assert_eq!(harness.watermarks(), [] as [i64; 0], "nothing new was said");
}

#[test]
fn watermarks_that_come_in_are_dropped_but_the_last_and_the_end_says_it_once() {
    let mut harness = harness(0, 0);
    harness.watermark(0, 77);
    feed(&mut harness, &[Some(5)]);
    harness.watermark(0, i64::MAX);
    harness.flush_all();
    harness.end_input(0);
    assert_eq!(harness.watermarks(), [5, i64::MAX]);
}

#[test]
fn the_end_of_input_is_the_last_watermark() {
    let mut harness = harness(200, 0);
    feed(&mut harness, &[Some(5)]);
    harness.end_input(0);
    assert_eq!(harness.watermarks(), [i64::MAX]);
}

#[test]
fn an_output_without_rows_is_idle_after_the_timeout_until_there_is_one() {
    let mut harness = harness(0, 500);
    feed(&mut harness, &[Some(5)]);
    harness.set_time(1_499);
    assert_eq!(harness.operator(0).poll_idleness(), None);
    harness.set_time(1_500);
    assert_eq!(harness.operator(0).poll_idleness(), Some(true));
    assert_eq!(harness.operator(0).next_processing_time(), None);
    feed(&mut harness, &[Some(6)]);
    assert_eq!(harness.operator(0).poll_idleness(), Some(false));
}

#[test]
fn a_source_that_waits_for_others_is_not_idle() {
    let mut harness = harness(0, 500);
    feed(&mut harness, &[Some(5)]);
    harness.operator(0).set_input_paused(true);
    harness.set_time(4_000);
    assert_eq!(harness.operator(0).poll_idleness(), None);
    harness.operator(0).set_input_paused(false);
    assert_eq!(harness.operator(0).next_processing_time(), Some(4_500));
}

#[test]
fn a_null_time_is_flinks_error() {
    let mut harness = harness(0, 0);
    let schema = table(&[("ts", rowtime()), ("watermark", rowtime()), ("v", bigint())]);
    let batch = super::super::testing::batch_of(
        &schema,
        &[(thalweg_types::element::RowKind::Insert, row![None::<i64>, 1, 0])],
        &[],
    );
    let error = harness.operator(0).push(0, batch).unwrap_err();
    assert!(
        error.to_string().contains("RowTime field should not be null"),
        "{error}"
    );
}
