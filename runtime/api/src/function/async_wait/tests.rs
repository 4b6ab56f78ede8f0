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

fn limits<T, O, E>(mode: OutputMode, capacity: usize) -> AsyncOptions<T, O, E> {
    AsyncOptions {
        mode,
        capacity,
        timeout: Some(Duration::from_secs(60)),
        retry: None,
        on_timeout: None,
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
        let new = || AsyncOperator::<i64, i64, _, _>::new(context(0, 1), limits(mode, capacity), answer);
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
    AsyncOperator::<i64, i64, _, _>::new(context(0, 1), limits(mode, 3), move |n: i64| {
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
    let mut operator = AsyncOperator::<i64, i64, _, _>::new(context(0, 1), limits, function);
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

fn failure<A>(function: impl Fn(i64) -> A + Clone + Send + 'static, timeout: Duration) -> String
where
    A: Future<Output = Result<[i64; 1], String>> + Send + 'static,
{
    let limits = AsyncOptions {
        timeout: Some(timeout),
        ..limits(OutputMode::Ordered, 2)
    };
    let mut operator = AsyncOperator::<i64, i64, _, _>::new(context(0, 1), limits, function);
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

/// Fails or gives nothing as often as it is told for a record; counts.
#[derive(Clone, Default)]
struct Flaky {
    asked: Arc<std::sync::Mutex<BTreeMap<i64, u32>>>,
}

impl Flaky {
    /// A record n is answered at the attempt n % 10 + 1; before that there is an error if n is even, and an empty answer if it is odd.
    fn ask(&self, n: i64) -> impl Future<Output = Result<Vec<i64>, String>> + Send + use<> {
        let attempt = {
            let mut asked = self.asked.lock().unwrap();
            let attempts = asked.entry(n).or_default();
            *attempts += 1;
            i64::from(*attempts)
        };
        let answer = match attempt > n % 10 {
            true => Ok(vec![n]),
            false if n % 2 == 0 => Err(format!("attempt {attempt} of {n}")),
            false => Ok(Vec::new()),
        };
        async move {
            tokio::task::yield_now().await;
            answer
        }
    }

    fn asked(&self) -> Vec<u32> {
        self.asked.lock().unwrap().values().copied().collect()
    }

    fn operator(&self, mode: OutputMode, retry: AsyncRetryStrategy<i64, String>) -> Box<dyn Operator> {
        let flaky = self.clone();
        let options = AsyncOptions {
            retry: Some(retry),
            ..limits(mode, 4)
        };
        Box::new(AsyncOperator::<i64, i64, _, _>::new(
            context(0, 1),
            options,
            move |n| flaky.ask(n),
        ))
    }
}

fn every_millisecond(attempts: u32) -> AsyncRetryStrategy<i64, String> {
    AsyncRetryStrategy::fixed_delay(attempts, Duration::from_millis(1))
        .if_result(Vec::is_empty)
        .if_error(|error: &String| error.starts_with("attempt"))
}

/// Takes until so many rows are there; the input has not ended.
fn take(operator: &mut dyn Operator, rows: usize) -> Vec<Result<i64, i64>> {
    let mut out = drain(operator);
    while out.len() < rows {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut cx = Context::from_waker(&waker);
        match operator.poll_ready(&mut cx) {
            Poll::Ready(ready) => ready.unwrap(),
            Poll::Pending => std::thread::park(),
        }
        out.extend(drain(operator));
    }
    out
}

#[test]
fn a_record_is_asked_for_again_as_often_as_the_strategy_allows_ordered_or_not() {
    for mode in [OutputMode::Ordered, OutputMode::Unordered] {
        let flaky = Flaky::default();
        let mut operator = flaky.operator(mode, every_millisecond(3));
        operator
            .push(0, batch(&[Ok(13), Ok(20), Ok(31), Ok(42)]))
            .unwrap();
        let mut out = take(operator.as_mut(), 4);
        if mode == OutputMode::Unordered {
            out.sort();
        }
        assert_eq!(out, [Ok(13), Ok(20), Ok(31), Ok(42)]);
        assert_eq!(flaky.asked(), [4, 1, 2, 3]);
    }
}

#[test]
fn the_last_answer_counts_when_no_attempt_is_left_and_what_no_predicate_wants_is_not_asked_again() {
    let flaky = Flaky::default();
    let mut operator = flaky.operator(OutputMode::Ordered, every_millisecond(1));
    operator.push(0, batch(&[Ok(13), Ok(20)])).unwrap();
    assert_eq!(take(operator.as_mut(), 1), [Ok(20)], "13 has given nothing twice");
    assert_eq!(flaky.asked(), [2, 1]);

    let results_only = AsyncRetryStrategy::fixed_delay(3, Duration::from_millis(1)).if_result(Vec::is_empty);
    let mut operator = Flaky::default().operator(OutputMode::Ordered, results_only);
    operator.push(0, batch(&[Ok(12)])).unwrap();
    let error = loop {
        if let Err(error) = wait(operator.as_mut()).and_then(|()| operator.poll_output(LIMIT)) {
            break error.to_string();
        }
    };
    assert_eq!(error, "user function of Test failed: attempt 1 of 12");
}

#[test]
fn at_the_end_of_the_input_the_last_attempt_is_made_at_once() {
    let flaky = Flaky::default();
    let judged = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&judged);
    let slow =
        AsyncRetryStrategy::fixed_delay(9, Duration::from_secs(3_600)).if_result(move |rows: &Vec<i64>| {
            count.fetch_add(1, Ordering::SeqCst);
            rows.is_empty()
        });
    let mut operator = flaky.operator(OutputMode::Ordered, slow);
    operator.push(0, batch(&[Ok(11), Ok(15)])).unwrap();
    assert_eq!(drain(operator.as_mut()), []);
    while judged.load(Ordering::SeqCst) < 2 {
        std::thread::yield_now();
    }
    assert_eq!(
        finish(operator.as_mut()),
        [Ok(11)],
        "15 would have needed more attempts"
    );
    assert_eq!(flaky.asked(), [2, 2]);
}

#[test]
fn attempts_are_no_state_a_restored_record_begins_anew() {
    let flaky = Flaky::default();
    let slow = AsyncRetryStrategy::fixed_delay(9, Duration::from_secs(3_600)).if_result(Vec::is_empty);
    let mut operator = flaky.operator(OutputMode::Unordered, slow);
    operator.push(0, batch(&[Ok(12_341), Ok(10)])).unwrap();
    assert_eq!(take(operator.as_mut(), 1), [Ok(10)]);
    let request = SnapshotRequest {
        checkpoint_id: 1,
        full: false,
    };
    let snapshot = operator.snapshot(request).unwrap();
    drop(operator);
    let mut operator = flaky.operator(OutputMode::Unordered, every_millisecond(1));
    operator.restore(&mut restored(snapshot.lists)).unwrap();
    assert_eq!(take(operator.as_mut(), 1), [Ok(12_341)]);
}

#[test]
fn delays_grow_by_the_multiplier_up_to_the_longest() {
    let ms = Duration::from_millis;
    let strategy =
        AsyncRetryStrategy::<i64, String>::exponential_backoff(5, ms(10), ms(35), 2.0).if_error(|_| true);
    let failed = Err("no".to_owned());
    let delays: Vec<_> = (1..=6)
        .map(|attempts| strategy.delay_after(attempts, &failed))
        .collect();
    assert_eq!(
        delays,
        [
            Some(ms(10)),
            Some(ms(20)),
            Some(ms(35)),
            Some(ms(35)),
            Some(ms(35)),
            None
        ]
    );
    assert_eq!(strategy.delay_after(1, &Ok(Vec::new())), None);
    let endless = AsyncRetryStrategy::<i64, String>::exponential_backoff(u32::MAX, ms(1), ms(50), 1e300)
        .if_error(|_| true);
    assert_eq!(endless.delay_after(u32::MAX, &failed), Some(ms(50)));
}

#[test]
fn an_answer_that_is_too_late_is_what_the_user_says_in_place_of_a_failure() {
    for mode in [OutputMode::Ordered, OutputMode::Unordered] {
        let options = AsyncOptions {
            timeout: Some(Duration::from_millis(1)),
            on_timeout: Some(Arc::new(|n| match n {
                1 => Ok(vec![-1, -2]),
                2 => Ok(Vec::new()),
                _ => Err("3 has to be there".into()),
            })),
            ..limits(mode, 10)
        };
        let new = || {
            AsyncOperator::<i64, i64, _, _>::new(context(0, 1), options.clone(), |_| {
                std::future::pending::<Result<[i64; 1], String>>()
            })
        };
        let mut operator = new();
        operator.push(0, batch(&[Ok(1), Ok(2), Err(7)])).unwrap();
        assert_eq!(finish(&mut operator), [Ok(-1), Ok(-2), Err(7)]);
        let mut operator = new();
        operator.push(0, batch(&[Ok(3)])).unwrap();
        let error = loop {
            if let Err(error) = wait(&mut operator).and_then(|()| operator.poll_output(LIMIT)) {
                break error.to_string();
            }
        };
        assert_eq!(error, "user function of Test failed: 3 has to be there");
    }
}
