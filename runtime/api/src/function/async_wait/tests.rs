use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::thread::Thread;

use proptest::collection::vec;
use proptest::prelude::*;
use thalweg_state::{ListSnapshot, RestoredList};
use tokio::sync::Semaphore;

use super::*;
use crate::function::testing::context;
use crate::record::RowsBuilder;

const LIMIT: OutputLimit = OutputLimit {
    rows: 3,
    bytes: 1_000,
};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Sleeps as a task does until the operator says that there may be something.
fn wait(operator: &mut dyn Operator) -> Result<(), OperatorError> {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        match operator.poll_ready(&mut cx) {
            Poll::Ready(result) => return result,
            Poll::Pending => std::thread::park(),
        }
    }
}

fn limits(mode: OutputMode, capacity: usize) -> AsyncLimits {
    AsyncLimits {
        mode,
        capacity,
        timeout: Duration::from_secs(60),
    }
}

/// Rows with their times, as "row@time", and watermarks as "Wtime".
fn batch(entries: &[Result<i64, i64>]) -> StreamBatch {
    let mut rows = RowsBuilder::<i64>::with_capacity(entries.len());
    let mut watermarks = Vec::new();
    for entry in entries {
        match entry {
            Ok(n) => rows.push(n),
            Err(timestamp_ms) => watermarks.push(WatermarkCut {
                row: rows.len() as u32,
                timestamp_ms: *timestamp_ms,
            }),
        }
    }
    let rows = rows.finish().unwrap();
    let times = arrow::array::Int64Array::from_iter_values((0..rows.num_rows()).map(|row| row as i64));
    StreamBatch {
        timestamps: Some(times),
        watermarks,
        ..StreamBatch::new(rows)
    }
}

fn history(piece: &StreamBatch) -> Vec<Result<i64, i64>> {
    let rows = Rows::<i64>::of(&piece.rows).unwrap();
    let mut history = Vec::new();
    for row in 0..=rows.len() {
        let cuts = piece.watermarks.iter().filter(|cut| cut.row as usize == row);
        history.extend(cuts.map(|cut| Err(cut.timestamp_ms)));
        history.extend((row < rows.len()).then(|| Ok(rows.get(row))));
    }
    history
}

/// Everything until nothing is left, as at the end of the input.
fn finish(operator: &mut dyn Operator) -> Vec<Result<i64, i64>> {
    operator.end_input(0).unwrap();
    let mut out = Vec::new();
    loop {
        wait(operator).unwrap();
        match operator.poll_output(LIMIT).unwrap() {
            Some(piece) => out.extend(history(&piece)),
            None => return out,
        }
    }
}

/// Pushes, and takes what comes at once.
fn push(operator: &mut dyn Operator, input: StreamBatch) -> Vec<Result<i64, i64>> {
    wait(operator).unwrap();
    let mut out = drain(operator);
    operator.push(0, input).unwrap();
    out.extend(drain(operator));
    out
}

fn drain(operator: &mut dyn Operator) -> Vec<Result<i64, i64>> {
    std::iter::from_fn(|| operator.poll_output(LIMIT).unwrap())
        .flat_map(|piece| history(&piece))
        .collect()
}

/// Answers after some turns of the runtime, which differ from record to record.
async fn answer(n: i64) -> Result<Vec<i64>, String> {
    for _ in 0..n % 7 {
        tokio::task::yield_now().await;
    }
    Ok(vec![n * 10; (n % 3) as usize])
}

fn restored(lists: Vec<ListSnapshot>) -> RestoredState {
    RestoredState {
        checkpoint_id: 1,
        lists: lists
            .into_iter()
            .map(|list| RestoredList {
                name: list.name,
                distribution: list.distribution,
                items: vec![list.items],
            })
            .collect(),
        ..RestoredState::default()
    }
}

/// Between two watermarks in order of size: what "as they come" leaves open. One watermark behind another is the last.
fn settled(history: &[Result<i64, i64>], sort: bool) -> Vec<Result<i64, i64>> {
    let mut settled: Vec<Result<i64, i64>> = Vec::new();
    for segment in history.split_inclusive(Result::is_err) {
        let rows = segment.len() - usize::from(segment.last().is_some_and(Result::is_err));
        let mut segment = segment.to_vec();
        if sort {
            segment[..rows].sort_unstable();
        }
        if rows == 0 {
            settled.pop_if(|last| last.is_err());
        }
        settled.extend(segment);
    }
    settled
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_record_is_answered_once_between_its_watermarks_also_through_a_restart(
        batches in vec(vec(prop_oneof![4 => (0..50_i64).prop_map(Ok), 1 => Just(Err(0))], 0..6), 0..8),
        is_ordered in any::<bool>(),
        capacity in 1..5_usize,
        restart in 0..16_usize,
    ) {
        let mode = if is_ordered { OutputMode::Ordered } else { OutputMode::Unordered };
        let new = || AsyncOperator::<i64, i64, _>::new(context(0, 1), limits(mode, capacity), answer);
        let mut operator = new();
        let (mut out, mut expected) = (Vec::new(), Vec::new());
        let mut watermark = 0;
        for (number, entries) in batches.iter().enumerate() {
            if number == restart {
                // Watermarks are no state: the test sends none before the restart.
                let request = SnapshotRequest { checkpoint_id: 1, full: false };
                out.extend(drain(&mut operator));
                let snapshot = operator.snapshot(request).unwrap();
                operator = new();
                operator.restore(&mut restored(snapshot.lists)).unwrap();
            }
            let entries: Vec<Result<i64, i64>> = entries
                .iter()
                .filter(|entry| entry.is_ok() || restart > batches.len() || number >= restart)
                .map(|entry| entry.map_err(|_| { watermark += 1; watermark }))
                .collect();
            out.extend(push(&mut operator, batch(&entries)));
            for entry in &entries {
                match entry {
                    Ok(n) => expected.extend(vec![Ok(n * 10); (n % 3) as usize]),
                    Err(watermark) => expected.push(Err(*watermark)),
                }
            }
        }
        out.extend(finish(&mut operator));
        prop_assert_eq!(settled(&out, !is_ordered), settled(&expected, !is_ordered));
    }
}

/// Records below 10 are answered when the gate is opened.
fn gated(mode: OutputMode, gate: &Arc<Semaphore>) -> impl Operator + use<> {
    let gate = Arc::clone(gate);
    AsyncOperator::<i64, i64, _>::new(context(0, 1), limits(mode, 3), move |n: i64| {
        let gate = Arc::clone(&gate);
        async move {
            if n < 10 {
                gate.acquire().await.map_err(|error| error.to_string())?.forget();
            }
            Ok::<_, String>([n])
        }
    })
}

/// What comes first, now or later.
fn first_of(operator: &mut dyn Operator) -> Vec<Result<i64, i64>> {
    let at_once = drain(operator);
    if !at_once.is_empty() {
        return at_once;
    }
    wait(operator).unwrap();
    drain(operator)
}

#[test]
fn unordered_results_pass_a_slow_one_but_not_across_a_watermark() {
    let gate = Arc::new(Semaphore::new(0));
    let mut operator = gated(OutputMode::Unordered, &gate);
    operator.push(0, batch(&[Ok(1), Ok(11), Err(5), Ok(12)])).unwrap();
    assert_eq!(first_of(&mut operator), [Ok(11)]);
    gate.add_permits(1);
    assert_eq!(finish(&mut operator), [Ok(1), Err(5), Ok(12)]);
}

#[test]
fn ordered_results_wait_for_the_slow_one() {
    let gate = Arc::new(Semaphore::new(0));
    let mut operator = gated(OutputMode::Ordered, &gate);
    operator.push(0, batch(&[Ok(11), Ok(1), Ok(12), Err(5)])).unwrap();
    assert_eq!(first_of(&mut operator), [Ok(11)]);
    gate.add_permits(1);
    assert_eq!(finish(&mut operator), [Ok(1), Ok(12), Err(5)]);
}

#[test]
fn no_more_records_are_asked_than_the_capacity() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let function = move |n: i64| {
        ASKED.fetch_add(1, Ordering::SeqCst);
        let gate = Arc::clone(&held);
        async move {
            gate.acquire().await.map_err(|error| error.to_string())?.forget();
            Ok::<_, String>([n])
        }
    };
    let limits = limits(OutputMode::Ordered, 2);
    let mut operator = AsyncOperator::<i64, i64, _>::new(context(0, 1), limits, function);
    operator.push(0, batch(&[Ok(1), Ok(2), Ok(3), Ok(4)])).unwrap();
    assert!(operator.poll_output(LIMIT).unwrap().is_none());
    assert_eq!(ASKED.load(Ordering::SeqCst), 2);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(
        operator.poll_ready(&mut cx).is_pending(),
        "no room for another batch"
    );
    let request = SnapshotRequest {
        checkpoint_id: 1,
        full: false,
    };
    let lists = operator.snapshot(request).unwrap().lists;
    assert_eq!(
        lists[0].items.num_rows(),
        4,
        "asked and waiting records are in the snapshot"
    );
    gate.add_permits(4);
    assert_eq!(finish(&mut operator), [Ok(1), Ok(2), Ok(3), Ok(4)]);
}

fn failure<A>(function: impl Fn(i64) -> A + Send, timeout: Duration) -> String
where
    A: Future<Output = Result<[i64; 1], String>> + Send + 'static,
{
    let limits = AsyncLimits {
        timeout,
        ..limits(OutputMode::Ordered, 2)
    };
    let mut operator = AsyncOperator::<i64, i64, _>::new(context(0, 1), limits, function);
    operator.push(0, batch(&[Ok(1)])).unwrap();
    operator.end_input(0).unwrap();
    loop {
        let polled = wait(&mut operator).and_then(|()| operator.poll_output(LIMIT));
        match polled {
            Err(error) => return error.to_string(),
            Ok(output) => assert!(output.is_some(), "it ended without the error"),
        }
    }
}

#[test]
fn errors_panics_and_timeouts_fail_the_task() {
    let long = Duration::from_secs(60);
    assert_eq!(
        failure(|n| async move { Err(format!("no {n}")) }, long),
        "user function of Test failed: no 1"
    );
    let panicked = failure(|n| async move { panic!("in the future of {n}") }, long);
    assert!(
        panicked.starts_with("user function of Test panicked: in the future of 1"),
        "{panicked}"
    );
    let late = failure(|_| std::future::pending(), Duration::from_millis(1));
    assert_eq!(late, "user function of Test failed: no answer within 1ms");
}
