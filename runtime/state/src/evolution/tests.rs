use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Int32Array, Int64Array, RecordBatch, UInt64Array};
use thalweg_types::KeyGroupRange;
use thalweg_types::key_hash::hash_rows;
use thalweg_types::record::{Record, RowsBuilder};

use super::*;
use crate::snapshot::RestoredTable;
use crate::*;

fn field(name: &str, data_type: DataType, nullable: bool) -> FieldRef {
    Arc::new(Field::new(name, data_type, nullable))
}

fn descriptor(value: Vec<FieldRef>) -> TableDescriptor {
    TableDescriptor {
        name: "total".to_owned(),
        kind: TableKind::Value,
        key: vec![field("user", DataType::Int64, false)],
        sub_key: Vec::new(),
        value,
        ttl: None,
    }
}

fn adapt(stored: &[(FieldRef, ArrayRef)], wanted: Vec<FieldRef>) -> Result<Vec<ArrayRef>, String> {
    let fields = stored.iter().map(|(field, _)| Arc::clone(field)).collect();
    let columns: Vec<ArrayRef> = stored.iter().map(|(_, column)| Arc::clone(column)).collect();
    let adapter =
        Adapter::new(&descriptor(fields), &descriptor(wanted)).map_err(|error| error.to_string())?;
    Ok(adapter.columns(&columns, columns[0].len()).unwrap())
}

fn numbers() -> (FieldRef, ArrayRef) {
    (
        field("n", DataType::Int32, false),
        Arc::new(Int32Array::from(vec![1, 2])),
    )
}

#[test]
fn fields_are_found_by_name_whatever_their_order() {
    let text = (
        field("s", DataType::Utf8, false),
        Arc::new(StringArray::from(vec!["a", "b"])) as ArrayRef,
    );
    let wanted = vec![Arc::clone(&text.0), numbers().0];
    let columns = adapt(&[numbers(), text.clone()], wanted).unwrap();
    assert_eq!(columns[0].as_ref(), text.1.as_ref());
    assert_eq!(columns[1].as_ref(), numbers().1.as_ref());
}

#[test]
fn a_new_field_is_null_or_zero_and_a_removed_one_is_left_out() {
    let wanted = vec![
        field("maybe", DataType::Utf8, true),
        field("count", DataType::Int64, false),
        field("ratio", DataType::Float64, false),
        field("text", DataType::Utf8, false),
        field("flag", DataType::Boolean, false),
        <thalweg_types::record::Timestamp as Record>::fields()
            .remove(0)
            .with_name("at")
            .into(),
    ];
    let columns = adapt(&[numbers()], wanted).unwrap();
    assert_eq!(columns[0].null_count(), 2);
    assert_eq!(columns[1].as_ref(), &Int64Array::from(vec![0, 0]) as &dyn Array);
    assert_eq!(columns[3].as_string::<i32>().value(1), "");
    assert!(!columns[4].as_boolean().value(0));
    assert!(columns.iter().skip(1).all(|column| column.null_count() == 0));
}

#[test]
fn a_field_may_be_widened_and_become_nullable() {
    let columns = adapt(&[numbers()], vec![field("n", DataType::Int64, true)]).unwrap();
    assert_eq!(columns[0].as_ref(), &Int64Array::from(vec![1, 2]) as &dyn Array);
    for (from, to) in [
        (DataType::Int8, DataType::Float32),
        (DataType::UInt32, DataType::Int64),
        (DataType::Float32, DataType::Float64),
    ] {
        assert!(widens(&from, &to), "{from} to {to}");
        assert!(!widens(&to, &from), "{to} to {from}");
    }
    assert!(!widens(&DataType::Int64, &DataType::Float64), "would round");
}

#[test]
fn a_forbidden_change_is_refused_naming_state_and_field() {
    let inner = |data_type| DataType::Struct(vec![field("x", data_type, false)].into());
    let point = (
        field("p", inner(DataType::Int64), false),
        Arc::new(StructArray::from(vec![(
            field("x", DataType::Int64, false),
            Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef,
        )])) as ArrayRef,
    );
    for (stored, wanted, expected) in [
        (
            numbers(),
            field("n", DataType::Int16, false),
            "state \"total\": field \"n\" was stored as Int32 and is Int16 now",
        ),
        (
            numbers(),
            field("n", DataType::Utf8, false),
            "field \"n\" was stored as Int32 and is Utf8 now",
        ),
        (
            point,
            field("p", inner(DataType::Int32), false),
            "field \"p.x\" was stored as Int64 and is Int32 now",
        ),
        (
            (field("n", DataType::Int32, true), numbers().1),
            field("n", DataType::Int32, false),
            "field \"n\" could be null when it was stored and can't now: keep it an Option",
        ),
        (
            numbers(),
            field("amount", DataType::Decimal128(10, 2), false),
            "field \"amount\" is new and Decimal128(10, 2) has no zero: make it an Option",
        ),
    ] {
        let error = adapt(&[stored], vec![wanted]).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_struct_inside_evolves_as_its_table_does() {
    let old: FieldRef = field(
        "p",
        DataType::Struct(vec![field("x", DataType::Int32, false)].into()),
        true,
    );
    let new: FieldRef = field(
        "p",
        DataType::Struct(
            vec![
                field("y", DataType::Utf8, true),
                field("x", DataType::Int64, false),
            ]
            .into(),
        ),
        true,
    );
    let points = StructArray::try_new(
        vec![field("x", DataType::Int32, false)].into(),
        vec![Arc::new(Int32Array::from(vec![1, 0]))],
        Some(vec![true, false].into()),
    );
    let columns = adapt(&[(old, Arc::new(points.unwrap()))], vec![new]).unwrap();
    let points = columns[0].as_struct();
    assert!(points.is_valid(0) && points.is_null(1));
    assert_eq!(points.column(0).null_count(), 2);
    assert_eq!(points.column(1).data_type(), &DataType::Int64);
}

#[test]
fn the_kind_and_the_key_of_a_state_stay() {
    let stored = descriptor(vec![numbers().0]);
    let mut other = stored.clone();
    other.kind = TableKind::List;
    let error = Adapter::new(&stored, &other).unwrap_err().to_string();
    assert!(
        error.contains("stored as Value state and is List state now"),
        "{error}"
    );
    let mut other = stored.clone();
    other.key = vec![field("user", DataType::Utf8, false)];
    let error = Adapter::new(&stored, &other).unwrap_err().to_string();
    assert!(
        error.contains("key field \"user\" was stored as Int64 and is Utf8 now"),
        "{error}"
    );
    other.key = vec![field("customer", DataType::Int64, false)];
    Adapter::new(&stored, &other).expect("a key's name may change");
}

/// A stored table with one row for the key 7.
fn stored<T: Record>(name: &str, value: &T) -> RestoredState {
    let mut rows = RowsBuilder::<T>::with_capacity(1);
    rows.push(value);
    let key: ArrayRef = Arc::new(Int64Array::from(vec![7]));
    let mut hashes = Vec::new();
    hash_rows(&[Arc::clone(&key)], &mut hashes).unwrap();
    let mut columns: Vec<ArrayRef> = vec![Arc::new(UInt64Array::from(hashes)), key];
    columns.extend(rows.finish_columns());
    let descriptor = TableDescriptor {
        name: name.to_owned(),
        ..descriptor(T::fields().into_iter().map(Arc::new).collect())
    };
    let batch = RecordBatch::try_new(descriptor.row_schema(), columns).unwrap();
    RestoredState {
        checkpoint_id: 1,
        tables: vec![RestoredTable {
            descriptor,
            rows: Box::new(std::iter::once(Ok(batch))),
        }],
        ..RestoredState::default()
    }
}

fn state() -> KeyedState {
    state_with(StateSettings::default())
}

fn state_with(settings: StateSettings) -> KeyedState {
    KeyedState::new(KeyedStateConfig {
        operator: "Test".into(),
        key: vec![field("user", DataType::Int64, false)],
        key_groups: KeyGroupRange { start: 0, end: 127 },
        max_parallelism: 128,
        settings: Arc::new(settings),
    })
    .unwrap()
}

const INCREMENTAL: SnapshotRequest = SnapshotRequest {
    checkpoint_id: 2,
    full: false,
};

#[test]
fn a_restore_with_the_same_columns_is_built_upon() {
    let mut same = state();
    same.register_value::<(i64, i32)>("total", None).unwrap();
    let mut restored = stored("total", &(5_i64, 6_i32));
    same.restore(&mut restored, 0).unwrap();
    assert!(!restored.columns_changed);
    assert!(same.snapshot(INCREMENTAL).unwrap()[0].changes.is_empty());
}

#[test]
fn changed_columns_are_restored_and_ask_for_a_full_snapshot() {
    let mut wider = state();
    let total = wider
        .register_value::<(i64, i64, Option<String>)>("total", None)
        .unwrap();
    let mut restored = stored("total", &(5_i64, 6_i32));
    wider.restore(&mut restored, 0).unwrap();
    assert!(restored.columns_changed);
    assert_eq!(wider.table(total).get(0), Some(&(5, 6, None)));
    let full = SnapshotRequest {
        checkpoint_id: 2,
        full: true,
    };
    let tables = wider.snapshot(full).unwrap();
    assert_eq!(tables[0].changes[0].num_rows(), 1);
    assert_eq!(
        tables[0].changes[0].schema(),
        tables[0].descriptor.change_schema()
    );

    let mut unasked = state();
    unasked.register_value::<(i64, i64)>("total", None).unwrap();
    unasked.restore(&mut stored("total", &(5_i64, 6_i32)), 0).unwrap();
    let error = unasked.snapshot(INCREMENTAL).unwrap_err().to_string();
    assert!(
        error.contains("state \"total\"") && error.contains("must be full"),
        "{error}"
    );
}

#[test]
fn a_forbidden_change_fails_the_restore_and_a_state_that_is_gone_is_left_alone() {
    let mut narrower = state();
    narrower.register_value::<(i32, i32)>("total", None).unwrap();
    let error = narrower
        .restore(&mut stored("total", &(5_i64, 6_i32)), 0)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("field \"f0\" was stored as Int64 and is Int32 now"),
        "{error}"
    );
    let mut renamed = state();
    renamed.register_value::<(i32, i32)>("sum", None).unwrap();
    let mut restored = stored("total", &(5_i64, 6_i32));
    renamed.restore(&mut restored, 0).unwrap();
    assert_eq!((renamed.key_count(), restored.tables.len()), (0, 1));
}

#[test]
fn where_columns_must_be_the_stored_ones_every_other_is_refused_by_name_but_time_to_live_may_come() {
    let exact = || {
        state_with(StateSettings {
            exact_columns: true,
            ..StateSettings::default()
        })
    };
    let restore = |state: &mut KeyedState| state.restore(&mut stored("total", &(5_i64, 6_i32)), 0);
    let refusal = |mut state: KeyedState| restore(&mut state).unwrap_err().to_string();

    let mut same = exact();
    let ttl = StateTtl::new(Duration::from_millis(10));
    same.register_value::<(i64, i32)>("total", Some(ttl)).unwrap();
    restore(&mut same).unwrap();

    let mut more = exact();
    more.register_value::<(i64, i32, Option<i64>)>("total", None)
        .unwrap();
    assert!(refusal(more).contains("state \"total\": column \"f2\" was not stored"));
    let mut fewer = exact();
    fewer.register_value::<(i64,)>("total", None).unwrap();
    assert!(refusal(fewer).contains("column \"f1\" was stored and is not there any more"));
    let mut wider = exact();
    wider.register_value::<(i64, i64)>("total", None).unwrap();
    assert!(refusal(wider).contains("column \"f1\" was stored as Int32 and is Int64 now"));
    assert!(
        refusal(exact()).contains("state \"total\": it was stored and the operator has no such state now")
    );
}

#[test]
fn a_state_that_gets_a_time_to_live_begins_it_at_the_restore() {
    let mut with_ttl = state();
    let ttl = StateTtl::new(Duration::from_millis(10));
    let total = with_ttl.register_value::<i64>("total", Some(ttl)).unwrap();
    with_ttl.restore(&mut stored("total", &5_i64), 1_000).unwrap();
    with_ttl.advance_clock(1_009);
    assert_eq!(with_ttl.table(total).peek(0), Some(&5));
    with_ttl.advance_clock(1_010);
    assert_eq!(with_ttl.table(total).peek(0), None);
}
