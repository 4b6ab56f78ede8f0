//! The partitioner against a naive twin that goes row by row.

use super::*;
use arrow::array::{Int8Array, Int64Array, StringViewArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use proptest::prelude::*;

/// What one subtask sees, in order.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Row {
        text: String,
        kind: i8,
        time: i64,
        hash: u64,
    },
    Watermark(i64),
}

fn batch(rows: &[(u64, i8, i64)], watermarks: Vec<WatermarkCut>) -> StreamBatch {
    let text =
        StringViewArray::from_iter_values((0..rows.len()).map(|row| format!("a longish text in row {row}")));
    let schema = Arc::new(Schema::new(vec![Field::new("text", DataType::Utf8View, false)]));
    StreamBatch {
        rows: RecordBatch::try_new(schema, vec![Arc::new(text)]).unwrap(),
        kinds: Some(Int8Array::from_iter_values(rows.iter().map(|row| row.1))),
        timestamps: Some(Int64Array::from_iter_values(rows.iter().map(|row| row.2))),
        key_hashes: Some(UInt64Array::from_iter_values(rows.iter().map(|row| row.0))),
        watermarks,
    }
}

fn seen(batch: &StreamBatch) -> Vec<Seen> {
    let text = batch.rows.column(0).as_string_view();
    let mut seen = Vec::new();
    let mut cuts = batch.watermarks.iter().peekable();
    for row in 0..=batch.num_rows() {
        while let Some(cut) = cuts.next_if(|cut| cut.row as usize == row) {
            seen.push(Seen::Watermark(cut.timestamp_ms));
        }
        if row < batch.num_rows() {
            seen.push(Seen::Row {
                text: text.value(row).to_owned(),
                kind: batch.kinds.as_ref().unwrap().value(row),
                time: batch.timestamps.as_ref().unwrap().value(row),
                hash: batch.key_hashes.as_ref().unwrap().value(row),
            });
        }
    }
    assert!(cuts.next().is_none(), "a watermark behind the end of the batch");
    seen
}

/// Row by row: each row to the subtask of its key group, each watermark to all; of neighbouring watermarks the last.
fn naive(batch: &StreamBatch, parallelism: u32, max_parallelism: u32) -> Vec<Vec<Seen>> {
    let mut parts = vec![Vec::new(); parallelism as usize];
    for element in seen(batch) {
        match element {
            Seen::Row { hash, .. } => {
                let group = (hash % u64::from(max_parallelism)) as u32;
                parts[(group * parallelism / max_parallelism) as usize].push(element);
            }
            Seen::Watermark(_) => {
                for part in &mut parts {
                    part.pop_if(|last| matches!(last, Seen::Watermark(_)));
                    part.push(element.clone());
                }
            }
        }
    }
    parts
}

fn cuts(rows: usize, raw: &[(usize, i64)]) -> Vec<WatermarkCut> {
    let mut rows: Vec<u32> = raw.iter().map(|(row, _)| (row % (rows + 1)) as u32).collect();
    rows.sort_unstable();
    let mut time = 0;
    let rise = |(row, (_, step)): (u32, &(usize, i64))| {
        time += step;
        WatermarkCut {
            row,
            timestamp_ms: time,
        }
    };
    rows.into_iter().zip(raw).map(rise).collect()
}

proptest! {
    #[test]
    fn agrees_with_the_naive_twin(
        rows in prop::collection::vec((any::<u64>(), 0_i8..4, any::<i64>()), 0..200),
        few_keys in any::<bool>(),
        raw_cuts in prop::collection::vec((any::<usize>(), 0_i64..100), 0..8),
        parallelism in 1_u32..9,
        max_parallelism in prop::sample::select(vec![8_u32, 10, 100, 128, 32_768]),
    ) {
        let key = |hash: u64| if few_keys { hash % 2 } else { hash };
        let rows: Vec<_> = rows.into_iter().map(|(hash, kind, time)| (key(hash), kind, time)).collect();
        let whole = batch(&rows, cuts(rows.len(), &raw_cuts));
        prop_assume!(parallelism > 1 || whole.watermarks.is_empty());
        let expected = naive(&whole, parallelism, max_parallelism);
        let mut partitioner = KeyGroupPartitioner::new(parallelism, max_parallelism).unwrap();
        // Twice: what is kept from batch to batch must not show.
        for _ in 0..2 {
            let parts = partitioner.partition(whole.clone()).unwrap();
            let parts: Vec<_> = parts.iter().map(|part| part.as_ref().map(seen).unwrap_or_default()).collect();
            prop_assert_eq!(&parts, &expected);
        }
    }
}

#[test]
fn one_consumer_gets_the_batch_itself() {
    let whole = batch(
        &[(1, 0, 0), (2, 0, 0)],
        vec![WatermarkCut {
            row: 1,
            timestamp_ms: 9,
        }],
    );
    let parts = KeyGroupPartitioner::new(1, 128)
        .unwrap()
        .partition(whole.clone())
        .unwrap();
    let part = parts[0].as_ref().unwrap();
    assert!(Arc::ptr_eq(part.rows.column(0), whole.rows.column(0)));
    assert_eq!(part.watermarks, whole.watermarks);
}

#[test]
fn rows_without_columns_are_distributed_too() {
    let mut whole = batch(&[(0, 0, 0), (127, 0, 0), (1, 0, 0)], Vec::new());
    let options = RecordBatchOptions::new().with_row_count(Some(3));
    whole.rows = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
    let parts = KeyGroupPartitioner::new(2, 128)
        .unwrap()
        .partition(whole)
        .unwrap();
    assert_eq!(
        parts
            .iter()
            .flatten()
            .map(StreamBatch::num_rows)
            .collect::<Vec<_>>(),
        [2, 1]
    );
}

#[test]
fn rows_without_a_key_hash_are_refused() {
    let mut whole = batch(&[(1, 0, 0)], Vec::new());
    whole.key_hashes = None;
    let error = KeyGroupPartitioner::new(2, 128)
        .unwrap()
        .partition(whole)
        .unwrap_err();
    assert!(matches!(error, ExchangeError::KeyHashesMissing), "{error}");
}

#[test]
fn more_consumers_than_key_groups_are_refused() {
    assert!(KeyGroupPartitioner::new(11, 10).is_err());
}
