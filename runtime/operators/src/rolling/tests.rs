use std::collections::HashMap;
use std::sync::LazyLock;

use arrow::array::{AsArray, Int64Array, StringArray, UInt64Array};
use arrow::datatypes::{Field, Int64Type, Schema};
use proptest::collection::vec;
use proptest::prelude::*;
use thalweg_state::{RestoredTable, StateSettings};
use thalweg_types::key_hash::hash_rows;
use thalweg_types::{KeyGroupRange, OperatorId, WatermarkCut};

use super::*;

static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| tokio::runtime::Runtime::new().unwrap());

/// (key, other, value)
type Row = (String, String, Option<i64>);

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("other", DataType::Utf8, false),
        Field::new("value", DataType::Int64, true),
    ]))
}

fn context() -> OperatorContext {
    OperatorContext {
        task_name: "Keyed Aggregation (1/1)".into(),
        operator_name: "Keyed Aggregation".into(),
        operator_id: OperatorId::from_u128(1),
        subtask: 0,
        parallelism: 1,
        max_parallelism: 128,
        key_groups: KeyGroupRange { start: 0, end: 127 },
        state: Arc::new(StateSettings::default()),
        io: RUNTIME.handle().clone(),
    }
}

fn operator(aggregation: Aggregation) -> RollingAggregate {
    let columns = RollingColumns {
        schema: schema(),
        keys: vec![0],
        field: 2,
    };
    RollingAggregate::new(context(), columns, &[DataType::Utf8], aggregation).unwrap()
}

fn batch(rows: &[Row]) -> StreamBatch {
    let keys = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.0))) as ArrayRef;
    let others = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.1)));
    let values = Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.2)));
    let mut hashes = Vec::new();
    hash_rows(&[Arc::clone(&keys)], &mut hashes).unwrap();
    let rows = RecordBatch::try_new(schema(), vec![keys, others, values]).unwrap();
    StreamBatch {
        key_hashes: Some(UInt64Array::from(hashes)),
        ..StreamBatch::new(rows)
    }
}

fn rows_of(batch: &StreamBatch) -> Vec<Row> {
    let text = |column: usize, row| batch.rows.column(column).as_string::<i32>().value(row).to_owned();
    let values = batch.rows.column(2).as_primitive::<Int64Type>();
    (0..batch.num_rows())
        .map(|row| (text(0, row), text(1, row), values.iter().nth(row).flatten()))
        .collect()
}

fn run(
    operator: &mut RollingAggregate,
    batches: impl IntoIterator<Item = StreamBatch>,
    limit: usize,
) -> Vec<Row> {
    let limit = OutputLimit {
        rows: limit,
        bytes: 1 << 20,
    };
    let mut output = Vec::new();
    for batch in batches {
        operator.push(0, batch).unwrap();
        while let Some(piece) = operator.poll_output(limit).unwrap() {
            assert!(piece.num_rows() <= limit.rows);
            output.extend(rows_of(&piece));
        }
    }
    output
}

/// Record by record, as Flink's SumAggregator and ComparableAggregator.
fn naive(aggregation: Aggregation, rows: &[Row]) -> Vec<Row> {
    let mut state: HashMap<&str, (String, Option<i64>)> = HashMap::new();
    let fold = |running: i64, value: i64| match aggregation {
        Aggregation::Sum => running.wrapping_add(value),
        Aggregation::Min => running.min(value),
        Aggregation::Max => running.max(value),
    };
    let mut output = Vec::new();
    for (key, other, value) in rows {
        let (first, running) = state.entry(key).or_insert_with(|| (other.clone(), None));
        *running = match (*running, *value) {
            (Some(running), Some(value)) => Some(fold(running, value)),
            (running, value) => running.or(value),
        };
        output.push((key.clone(), first.clone(), *running));
    }
    output
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    vec(
        (
            "[a-d]{0,1}",
            "[x-z]",
            proptest::option::of(prop_oneof![-9..9_i64, any::<i64>()]),
        ),
        0..60,
    )
}

proptest! {
    #[test]
    fn rolling_aggregations_equal_record_by_record_ones_whatever_the_batch_cuts(
        rows in rows(),
        cuts in vec(1..9_usize, 1..20),
        limit in 1..7_usize,
        aggregation in prop_oneof![Just(Aggregation::Sum), Just(Aggregation::Min), Just(Aggregation::Max)],
    ) {
        let mut rest = rows.as_slice();
        let mut batches = Vec::new();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (head, tail) = rest.split_at((*cut).min(rest.len()));
            batches.push(batch(head));
            rest = tail;
        }
        prop_assert_eq!(run(&mut operator(aggregation), batches, limit), naive(aggregation, &rows));
    }
}

#[test]
fn watermarks_and_event_times_stay_with_their_rows() {
    let row = |key: &str, value| (key.to_owned(), "x".to_owned(), Some(value));
    let mut input = batch(&[row("a", 1), row("b", 2), row("a", 3)]);
    input.timestamps = Some(Int64Array::from(vec![10, 20, 30]));
    input.watermarks = vec![
        WatermarkCut {
            row: 1,
            timestamp_ms: 5,
        },
        WatermarkCut {
            row: 3,
            timestamp_ms: 25,
        },
    ];
    let mut operator = operator(Aggregation::Sum);
    operator.push(0, input).unwrap();
    let mut pieces = Vec::new();
    while let Some(piece) = operator
        .poll_output(OutputLimit {
            rows: 2,
            bytes: 1 << 20,
        })
        .unwrap()
    {
        pieces.push(piece);
    }
    let [first, second] = pieces.as_slice() else {
        panic!("{} pieces", pieces.len())
    };
    assert_eq!(
        first.watermarks,
        [WatermarkCut {
            row: 1,
            timestamp_ms: 5
        }]
    );
    assert_eq!(
        second.watermarks,
        [WatermarkCut {
            row: 1,
            timestamp_ms: 25
        }]
    );
    assert_eq!(second.timestamps, Some(Int64Array::from(vec![30])));
    assert!(second.key_hashes.is_none(), "the output is not keyed");
}

#[test]
fn a_batch_of_watermarks_only_passes() {
    let mut input = batch(&[]);
    input.watermarks = vec![WatermarkCut {
        row: 0,
        timestamp_ms: 5,
    }];
    let mut operator = operator(Aggregation::Sum);
    operator.push(0, input).unwrap();
    let output = operator
        .poll_output(OutputLimit { rows: 10, bytes: 100 })
        .unwrap()
        .unwrap();
    assert_eq!(
        output.watermarks,
        [WatermarkCut {
            row: 0,
            timestamp_ms: 5
        }]
    );
}

#[test]
fn state_grows_with_keys_and_not_with_rows() {
    let row = |i: u32| (format!("key{}", i % 100), "x".to_owned(), Some(1));
    let mut operator = operator(Aggregation::Sum);
    run(
        &mut operator,
        [batch(&(0..1000).map(row).collect::<Vec<_>>())],
        4096,
    );
    let size = operator.state_bytes();
    run(
        &mut operator,
        [batch(&(0..1000).map(row).collect::<Vec<_>>())],
        4096,
    );
    assert_eq!(operator.state_bytes(), size);
}

#[test]
fn rows_without_key_hashes_are_an_error_and_no_crash() {
    let mut operator = operator(Aggregation::Sum);
    let input = StreamBatch {
        key_hashes: None,
        ..batch(&[("a".to_owned(), "x".to_owned(), Some(1))])
    };
    operator.push(0, input).unwrap();
    let error = operator
        .poll_output(OutputLimit { rows: 10, bytes: 100 })
        .unwrap_err();
    assert!(error.to_string().contains("without key hashes"), "{error}");
}

#[test]
fn only_numbers_are_aggregated() {
    assert!(Aggregation::Sum.supports(&DataType::Float32));
    assert!(!Aggregation::Sum.supports(&DataType::Utf8));
    let columns = RollingColumns {
        schema: schema(),
        keys: vec![0],
        field: 1,
    };
    let error = RollingAggregate::new(context(), columns, &[DataType::Utf8], Aggregation::Sum)
        .err()
        .unwrap();
    assert!(
        error
            .to_string()
            .contains("Utf8 of column \"other\" can't be aggregated"),
        "{error}"
    );
}

/// What a snapshot of a whole state gives back, in sorted files or not.
fn restored(snapshot: OperatorSnapshot) -> RestoredState {
    let tables = snapshot.tables.into_iter().map(|table| {
        let schema = table.descriptor.row_schema();
        let rows: Vec<_> = table
            .changes
            .into_iter()
            .map(|batch| {
                let mut columns = batch.columns().to_vec();
                columns.remove(2);
                columns.remove(0);
                Ok(RecordBatch::try_new(Arc::clone(&schema), columns).unwrap())
            })
            .collect();
        RestoredTable {
            descriptor: (*table.descriptor).clone(),
            rows: Box::new(rows.into_iter()),
        }
    });
    RestoredState {
        checkpoint_id: 1,
        tables: tables.collect(),
        ..RestoredState::default()
    }
}

proptest! {
    #[test]
    fn a_restored_aggregation_goes_on_where_it_was(
        rows in rows(),
        cut in any::<prop::sample::Index>(),
        aggregation in prop_oneof![Just(Aggregation::Sum), Just(Aggregation::Min), Just(Aggregation::Max)],
    ) {
        let cut = cut.index(rows.len() + 1);
        let mut first = operator(aggregation);
        let mut output = run(&mut first, [batch(&rows[..cut])], 7);
        let snapshot = first.snapshot(SnapshotRequest { checkpoint_id: 1, full: false }).unwrap();
        let mut second = operator(aggregation);
        second.restore(&mut restored(snapshot)).unwrap();
        output.extend(run(&mut second, [batch(&rows[cut..])], 7));
        prop_assert_eq!(output, naive(aggregation, &rows));
    }
}
