//! A file of format version 1 as the first engine wrote it, read for ever.
//!
//! `samples/run-v1.thalstate` is never written again: a new version gets a sample of its own beside it.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Int8Array, Int64Array, ListArray, RecordBatch, StringArray};
use arrow::array::{TimestampMillisecondArray, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Int32Type, TimeUnit};
use thalweg_proto::state::v1::{KeyedRun, OperatorRestore, StateFile, SubtaskRuns};
use thalweg_types::key_group::key_group;
use thalweg_types::key_hash::hash_rows;

use super::fixtures::{Fixture, MAX_PARALLELISM, whole};
use crate::run::Scope;
use crate::run::encode::encode_run;
use crate::{ChangeKind, StoredRows, TableDescriptor, TableKind, TableSnapshot};

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("samples/run-v1.thalstate")
}

fn descriptor() -> TableDescriptor {
    let field = |name: &str, data_type, nullable| Arc::new(Field::new(name, data_type, nullable));
    TableDescriptor {
        name: "purchases".to_owned(),
        kind: TableKind::Map,
        key: vec![
            field("customer", DataType::Utf8, true),
            field("shop", DataType::Int64, false),
        ],
        sub_key: vec![field(
            "at",
            DataType::Timestamp(TimeUnit::Millisecond, None),
            false,
        )],
        value: vec![
            field("amount", DataType::Decimal128(12, 2), false),
            field("items", DataType::new_list(DataType::Int32, true), true),
        ],
        ttl: Some(std::time::Duration::from_secs(3600)),
    }
}

/// Key, sub-key and value columns of 300 rows; all but the last are upserts.
fn columns() -> Vec<ArrayRef> {
    let rows = 300_i64;
    let customer = |row: i64| (row % 7 != 0).then(|| format!("customer {}", row % 40));
    let items =
        |row: i64| (row % 3 != 0).then(|| (0..row % 4).map(|item| Some(item as i32)).collect::<Vec<_>>());
    let amounts = Decimal128Array::from_iter_values((0..rows).map(|row| i128::from(row) * 101));
    vec![
        Arc::new(StringArray::from_iter((0..rows).map(customer))),
        Arc::new(Int64Array::from_iter_values((0..rows).map(|row| row % 5))),
        Arc::new(TimestampMillisecondArray::from_iter_values(
            (0..rows).map(|row| row * 1000),
        )),
        Arc::new(amounts.with_precision_and_scale(12, 2).unwrap()),
        Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(
            (0..rows).map(items),
        )),
    ]
}

fn snapshot() -> TableSnapshot {
    let descriptor = Arc::new(descriptor());
    let mut hashes = Vec::new();
    hash_rows(&columns()[..2], &mut hashes).unwrap();
    let mut all: Vec<ArrayRef> = vec![
        Arc::new(UInt32Array::from_iter_values(
            hashes.iter().map(|hash| key_group(*hash, MAX_PARALLELISM)),
        )),
        Arc::new(UInt64Array::from(hashes.clone())),
        Arc::new(Int8Array::from_iter_values((0..300).map(|row| match row {
            299 => ChangeKind::Delete as i8,
            _ => ChangeKind::Upsert as i8,
        }))),
    ];
    all.extend(columns());
    TableSnapshot {
        changes: vec![RecordBatch::try_new(descriptor.change_schema(), all).unwrap()],
        stored: StoredRows::default(),
        descriptor,
    }
}

#[test]
fn version_1_is_read() {
    let fixture = Fixture::new(0);
    let run = KeyedRun {
        file: Some(StateFile {
            path: format!("file://{}", path().display()),
            size: std::fs::metadata(path()).unwrap().len(),
            ..StateFile::default()
        }),
        first_key_group: 0,
        last_key_group: MAX_PARALLELISM - 1,
        ..KeyedRun::default()
    };
    let restore = OperatorRestore {
        keyed: vec![SubtaskRuns { runs: vec![run] }],
        ..OperatorRestore::default()
    };
    let (mut state, _) = fixture.read(&restore, whole()).unwrap();
    let table = state.take_table("purchases").unwrap();
    assert_eq!(table.descriptor, descriptor());
    let batches: Vec<RecordBatch> = table.rows.collect::<Result<_, _>>().unwrap();
    let found = arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap();
    // The third column tells rows apart.
    let order = arrow::compute::sort_to_indices(found.column(3), None, None).unwrap();
    for (index, expected) in columns().iter().enumerate() {
        let column = arrow::compute::take(found.column(index + 1), &order, None).unwrap();
        assert_eq!(
            column.to_data(),
            expected.slice(0, 299).to_data(),
            "column {index}"
        );
    }
}

#[test]
#[ignore = "writes the sample of the newest version, once, when a version is made"]
fn write_the_sample_of_a_new_version() {
    let mut file = Vec::new();
    encode_run(&[snapshot()], &Scope::new(whole(), MAX_PARALLELISM), &mut file).unwrap();
    assert!(!path().exists(), "samples of released versions stay as they are");
    std::fs::write(path(), file).unwrap();
}
