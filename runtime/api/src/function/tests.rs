use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{Int64Array, RecordBatch, UInt64Array};
use arrow::datatypes::DataType;
use proptest::collection::vec;
use proptest::prelude::*;
use thalweg_operators::{KeySelector, Operator, OperatorContext, OutputLimit};
use thalweg_state::{RestoredState, RestoredTable, SnapshotRequest, StateSettings, TableDescriptor};
use thalweg_types::key_hash::hash_rows;
use thalweg_types::{KeyGroupRange, OperatorId, StreamBatch, WatermarkCut};

use super::*;
use crate::keyed::KeyColumns;
use crate::record::{Record, Rows, RowsBuilder};

type Word = (String, i64);

static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| tokio::runtime::Runtime::new().unwrap());

fn context() -> OperatorContext {
    OperatorContext {
        task_name: "Test (1/1)".into(),
        operator_name: "Test".into(),
        operator_id: OperatorId::from_u128(1),
        subtask: 0,
        parallelism: 1,
        max_parallelism: 128,
        key_groups: KeyGroupRange { start: 0, end: 127 },
        state: Arc::new(StateSettings::default()),
        io: RUNTIME.handle().clone(),
    }
}

fn batch<T: Record>(values: &[T]) -> StreamBatch {
    let mut rows = RowsBuilder::<T>::with_capacity(values.len());
    values.iter().for_each(|value| rows.push(value));
    StreamBatch::new(rows.finish().unwrap())
}

fn values<T: Record>(batch: &StreamBatch) -> Vec<T> {
    Rows::<T>::of(&batch.rows).unwrap().iter().map(T::own).collect()
}

fn pieces(operator: &mut dyn Operator, input: StreamBatch, rows: usize) -> Vec<StreamBatch> {
    operator.push(0, input).unwrap();
    let limit = OutputLimit { rows, bytes: 1 << 20 };
    std::iter::from_fn(|| operator.poll_output(limit).unwrap()).collect()
}

/// Each word as often as its number says.
fn repeat(limit: i64) -> impl RowFunction<Word, Word> {
    FlatMap(move |(word, n): (&str, i64), out: &mut Collector<Word>| {
        for i in 0..n.min(limit) {
            out.collect((word, i));
        }
    })
}

fn error_of<T: Record, O: Record>(function: impl RowFunction<T, O>, input: &[T]) -> String {
    let mut operator = RowOperator::<T, O, _>::new(context(), function);
    operator.push(0, batch(input)).unwrap();
    operator
        .poll_output(OutputLimit {
            rows: 10,
            bytes: 1000,
        })
        .unwrap_err()
        .to_string()
}

/// What a restored operator would get of a whole snapshot.
fn snapshot_of(operator: &mut dyn Operator) -> RestoredState {
    let request = SnapshotRequest {
        checkpoint_id: 1,
        full: false,
    };
    let snapshot = operator.snapshot(request).unwrap();
    let tables = snapshot.tables.into_iter().map(|table| {
        let schema = table.descriptor.row_schema();
        let rows = table.changes.into_iter().map(move |batch| {
            let columns = batch.columns();
            let columns = columns[1..2].iter().chain(&columns[3..]).cloned().collect();
            Ok(RecordBatch::try_new(Arc::clone(&schema), columns).unwrap())
        });
        RestoredTable {
            descriptor: TableDescriptor::clone(&table.descriptor),
            rows: Box::new(rows),
        }
    });
    RestoredState {
        checkpoint_id: 1,
        tables: tables.collect(),
        ..RestoredState::default()
    }
}

/// Every row's time, and the watermarks between them, in one sequence.
fn history(pieces: &[StreamBatch]) -> Vec<String> {
    let mut history = Vec::new();
    for piece in pieces {
        let times = piece.timestamps.as_ref().unwrap();
        for row in 0..=piece.num_rows() {
            let cuts = piece.watermarks.iter().filter(|cut| cut.row as usize == row);
            history.extend(cuts.map(|cut| format!("W{}", cut.timestamp_ms)));
            if row < piece.num_rows() {
                history.push(format!("{}", times.value(row)));
            }
        }
    }
    history
}

fn with_times(mut input: StreamBatch, cuts: &[(usize, i64)]) -> StreamBatch {
    let rows = input.num_rows();
    input.timestamps = Some(Int64Array::from_iter_values(0..rows as i64));
    let mut cuts: Vec<WatermarkCut> = cuts
        .iter()
        .map(|(row, time)| WatermarkCut {
            row: (*row % (rows + 1)) as u32,
            timestamp_ms: *time,
        })
        .collect();
    cuts.sort();
    input.watermarks = cuts;
    input
}

proptest! {
    #[test]
    fn flat_map_gives_each_rows_output_in_order_with_its_time_and_watermarks(
        input in vec(("[a-c]", 0..4_i64), 0..30),
        cuts in vec((0..40_usize, 0..100_i64), 0..5),
        limit in 1..10_usize,
    ) {
        let input_batch = with_times(batch::<Word>(&input), &cuts);
        let mut expected_history = Vec::new();
        for row in 0..=input.len() {
            let cuts = input_batch.watermarks.iter().filter(|cut| cut.row as usize == row);
            expected_history.extend(cuts.map(|cut| format!("W{}", cut.timestamp_ms)));
            if let Some((_, n)) = input.get(row) {
                expected_history.extend((0..*n).map(|_| row.to_string()));
            }
        }
        let expected: Vec<Word> =
            input.iter().flat_map(|(word, n)| (0..*n).map(move |i| (word.clone(), i))).collect();
        let mut operator = RowOperator::<Word, Word, _>::new(context(), repeat(i64::MAX));
        let pieces = pieces(&mut operator, input_batch, limit);
        prop_assert_eq!(pieces.iter().flat_map(values::<Word>).collect::<Vec<_>>(), expected);
        prop_assert_eq!(history(&pieces), expected_history);
    }

    #[test]
    fn map_and_filter_keep_times_and_watermarks(
        input in vec(any::<i64>(), 0..30),
        cuts in vec((0..40_usize, 0..100_i64), 0..5),
        limit in 1..10_usize,
    ) {
        let map = Map(|n: i64| n.wrapping_mul(2));
        let mut operator = RowOperator::<i64, i64, _>::new(context(), map);
        let input_batch = with_times(batch::<i64>(&input), &cuts);
        let mapped = pieces(&mut operator, input_batch.clone(), limit);
        let doubled: Vec<i64> = input.iter().map(|n| n.wrapping_mul(2)).collect();
        prop_assert_eq!(mapped.iter().flat_map(values::<i64>).collect::<Vec<_>>(), doubled);
        if !input.is_empty() {
            prop_assert_eq!(history(&mapped), history(std::slice::from_ref(&input_batch)));
        }
        let mut operator = FilterOperator::<i64, _>::new(context(), |n: i64| n % 2 == 0);
        let kept = pieces(&mut operator, input_batch.clone(), limit);
        let even: Vec<i64> = input.iter().copied().filter(|n| n % 2 == 0).collect();
        prop_assert_eq!(kept.iter().flat_map(values::<i64>).collect::<Vec<_>>(), even);
        let expected: Vec<String> = history(std::slice::from_ref(&input_batch))
            .into_iter()
            .filter(|entry| entry.parse::<usize>().is_err() || input[entry.parse::<usize>().unwrap()] % 2 == 0)
            .collect();
        prop_assert_eq!(history(&kept), expected);
    }

    #[test]
    fn reduce_equals_a_fold_by_key_whatever_the_batch_cuts_and_through_a_restart(
        input in vec(("[a-c]?", any::<i64>()), 0..60),
        cut in 1..9_usize,
        limit in 1..7_usize,
        restart in 0..7_usize,
    ) {
        let columns = KeyColumns { indices: vec![0], types: vec![DataType::Utf8], names: vec!["f0".to_owned()] };
        let add = |total: &mut Word, (_, n): (&str, i64)| total.1 = total.1.wrapping_add(n);
        let new = || ReduceOperator::<Word, _>::new(context(), columns.clone(), add).unwrap();
        let mut operator = new();
        let mut output = Vec::new();
        for (number, part) in input.chunks(cut).enumerate() {
            if number == restart {
                let state = snapshot_of(&mut operator);
                operator = new();
                operator.restore(&mut { state }).unwrap();
            }
            let mut part = batch::<Word>(part);
            let mut hashes = Vec::new();
            hash_rows(&part.rows.columns()[..1], &mut hashes).unwrap();
            part.key_hashes = Some(UInt64Array::from(hashes));
            output.extend(pieces(&mut operator, part, limit).iter().flat_map(values::<Word>));
        }
        let mut totals: HashMap<String, i64> = HashMap::new();
        let expected: Vec<Word> = input
            .iter()
            .map(|(word, n)| {
                let total = totals.entry(word.clone()).or_default();
                *total = total.wrapping_add(*n);
                (word.clone(), *total)
            })
            .collect();
        prop_assert_eq!(output, expected);
    }
}

#[test]
fn a_key_selector_appends_the_keys_columns_and_names_them() {
    fn key<'a>((word, _): &'a (&'a str, i64)) -> &'a str {
        &word[..1]
    }
    let rows = batch::<Word>(&[("abc".to_owned(), 1), ("bcd".to_owned(), 2)]).rows;
    let selector = ComputedKey::<Word, String, _>::new(&rows.schema(), key);
    let (keyed, indices) = selector.select(rows.clone()).unwrap();
    assert_eq!(indices, [2]);
    assert_eq!(keyed.schema().field(2).name(), "$key0");
    assert_eq!(keyed.columns()[..2], rows.columns()[..2]);
    assert_eq!(
        values::<(String, i64, String)>(&StreamBatch::new(keyed))[1].2,
        "b"
    );
}

#[test]
fn a_panic_is_the_operators_error_with_message_and_place() {
    let function = Map(|n: i64| if n == 2 { panic!("no {n}") } else { n });
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(note_panic_place));
    let error = error_of::<i64, i64>(function, &[1, 2]);
    std::panic::set_hook(hook);
    assert!(
        error.starts_with("user function of Test panicked: no 2"),
        "{error}"
    );
    assert!(error.contains("function/tests.rs:"), "{error}");
}

#[test]
fn an_error_of_the_user_is_the_operators() {
    let parse = TryMap::new(|text: &str| text.parse::<i64>());
    let error = error_of::<String, i64>(parse, &["x".to_owned()]);
    assert_eq!(
        error,
        "user function of Test failed: invalid digit found in string (row 1 of a batch of 1)"
    );
}

#[test]
fn a_piece_ends_at_the_limit_of_bytes_too() {
    let mut operator = RowOperator::<Word, Word, _>::new(context(), repeat(1));
    let input: Vec<Word> = (0..10).map(|_| ("x".repeat(100), 1)).collect();
    operator.push(0, batch(&input)).unwrap();
    let limit = OutputLimit {
        rows: 1000,
        bytes: 250,
    };
    let sizes: Vec<usize> = std::iter::from_fn(|| operator.poll_output(limit).unwrap())
        .map(|piece| piece.num_rows())
        .collect();
    assert!(sizes.iter().all(|rows| *rows <= 3), "{sizes:?}");
    assert_eq!(sizes.iter().sum::<usize>(), 10);
}

#[test]
fn a_function_over_batches_must_give_the_declared_columns() {
    let widen = |_: &RecordBatch| Ok::<_, String>(batch::<Word>(&[("a".to_owned(), 1)]).rows);
    let mut operator = BatchOperator::new(context(), i64::schema(), widen);
    let error = operator.push(0, batch::<i64>(&[1])).unwrap_err().to_string();
    assert!(
        error.contains("the batch has columns [Utf8, Int64], the stream's record has [Int64]"),
        "{error}"
    );
}

#[test]
fn a_function_over_batches_keeps_times_only_row_by_row() {
    let input = || with_times(batch::<i64>(&[1, 2]), &[(1, 7)]);
    let mut same = BatchOperator::new(context(), i64::schema(), |rows: &RecordBatch| {
        Ok::<_, String>(rows.clone())
    });
    assert_eq!(history(&pieces(&mut same, input(), 10)), ["0", "1", "W7"]);
    let mut fewer = BatchOperator::new(context(), i64::schema(), |rows: &RecordBatch| {
        Ok::<_, String>(rows.slice(0, 1))
    });
    let output = pieces(&mut fewer, input(), 10);
    assert!(output[0].timestamps.is_none());
    assert_eq!(
        output[0].watermarks,
        [WatermarkCut {
            row: 1,
            timestamp_ms: 7
        }]
    );
}
