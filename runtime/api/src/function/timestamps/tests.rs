use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::function::testing::context;
use crate::record::RowsBuilder;

const LIMIT: OutputLimit = OutputLimit {
    rows: 2,
    bytes: 1_000,
};

fn strategy(bound: u64) -> WatermarkStrategy {
    WatermarkStrategy::for_bounded_out_of_orderness(Duration::from_millis(bound))
}

fn operator(strategy: WatermarkStrategy) -> impl Operator {
    TimestampsOperator::<i64, _>::new(context(0, 1), strategy, |n: &i64| *n)
}

fn batch(times: &[i64], cuts: &[i64]) -> StreamBatch {
    let mut rows = RowsBuilder::<i64>::with_capacity(times.len());
    times.iter().for_each(|time| rows.push(time));
    let cut = |timestamp_ms: &i64| WatermarkCut {
        row: 0,
        timestamp_ms: *timestamp_ms,
    };
    StreamBatch {
        watermarks: cuts.iter().map(cut).collect(),
        ..StreamBatch::new(rows.finish().unwrap())
    }
}

/// Event times of the rows, and the watermarks behind the last one of them.
fn run(operator: &mut dyn Operator, input: StreamBatch) -> (Vec<i64>, Vec<i64>) {
    operator.push(0, input).unwrap();
    let (mut times, mut watermarks) = (Vec::new(), Vec::new());
    while let Some(piece) = operator.poll_output(LIMIT).unwrap() {
        assert!(piece.num_rows() <= LIMIT.rows);
        assert!(
            watermarks.is_empty(),
            "a watermark is behind all rows of its batch"
        );
        times.extend(
            piece
                .timestamps
                .iter()
                .flat_map(|times| times.values().iter().copied()),
        );
        assert!(
            piece
                .watermarks
                .iter()
                .all(|cut| cut.row as usize == piece.num_rows())
        );
        watermarks.extend(piece.watermarks.iter().map(|cut| cut.timestamp_ms));
    }
    (times, watermarks)
}

proptest! {
    #[test]
    fn rows_get_their_times_and_each_batch_the_watermark_of_the_largest_so_far(
        batches in vec(vec(-100..100_i64, 0..5), 0..10),
        bound in 0..20_u64,
    ) {
        let mut operator = operator(strategy(bound));
        let mut largest: Option<i64> = None;
        let mut watermark = i64::MIN;
        for times in &batches {
            largest = largest.max(times.iter().copied().max());
            let next = largest.map_or(i64::MIN, |largest| largest - bound as i64 - 1);
            let expected: Vec<i64> = (next > watermark).then_some(next).into_iter().collect();
            watermark = watermark.max(next);
            // What the source said of event time is replaced.
            prop_assert_eq!(run(&mut operator, batch(times, &[500])), (times.clone(), expected));
        }
    }
}

#[test]
fn the_last_watermark_of_a_bounded_input_goes_on() {
    let mut operator = operator(strategy(10));
    assert_eq!(run(&mut operator, batch(&[5], &[])), (vec![5], vec![-6]));
    assert_eq!(
        run(&mut operator, batch(&[], &[i64::MAX])),
        (vec![], vec![i64::MAX])
    );
}

#[test]
fn without_rows_the_output_becomes_idle_and_is_active_before_the_next_watermark() {
    let time = Arc::new(AtomicI64::new(1_000));
    let strategy = strategy(0).with_idleness(Duration::from_millis(500));
    let mut operator = TimestampsOperator::<i64, _>::new(context(0, 1), strategy, |n: &i64| *n)
        .with_clock(Clock::manual(Arc::clone(&time)));
    assert_eq!(operator.next_processing_time(), Some(1_500));
    time.store(1_200, Ordering::SeqCst);
    run(&mut operator, batch(&[1], &[]));
    assert_eq!(operator.poll_idleness(), None);
    operator.on_processing_time(1_600).unwrap();
    assert_eq!(operator.poll_idleness(), None, "a row came in the meantime");
    operator.on_processing_time(1_700).unwrap();
    assert_eq!(operator.poll_idleness(), Some(true));
    assert_eq!(operator.poll_idleness(), None);
    assert_eq!(operator.next_processing_time(), None);
    operator.push(0, batch(&[], &[i64::MAX])).unwrap();
    assert!(operator.poll_output(LIMIT).unwrap().is_some());
    assert_eq!(
        operator.poll_idleness(),
        Some(false),
        "asked before the piece goes on"
    );
}

#[test]
fn a_panic_of_the_function_is_the_users() {
    let function = |n: &i64| -> i64 { panic!("no time in {n}") };
    let mut operator = TimestampsOperator::<i64, _>::new(context(0, 1), strategy(0), function);
    let error = operator.push(0, batch(&[3], &[])).unwrap_err().to_string();
    assert!(
        error.contains("user function of Test panicked: no time in 3"),
        "{error}"
    );
}
