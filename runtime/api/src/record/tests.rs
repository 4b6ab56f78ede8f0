use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, PartialEq, crate::Record)]
struct Point {
    x: i64,
    label: Option<String>,
}

#[derive(Debug, Clone, PartialEq, crate::Record)]
struct Everything {
    text: String,
    bytes: Vec<u8>,
    flag: bool,
    tiny: i8,
    r#type: Option<i16>,
    float: f64,
    at: Timestamp,
    point: Point,
    maybe: Option<Point>,
    pair: (String, Option<u64>),
}

#[test]
fn the_bytes_behind_a_value_are_those_of_its_texts_wherever_they_are() {
    let point = |label: &str| Point {
        x: 1,
        label: Some(label.to_owned()),
    };
    let value = Everything {
        text: "abc".to_owned(),
        bytes: vec![0; 10],
        flag: true,
        tiny: 1,
        r#type: Some(1),
        float: 1.0,
        at: Timestamp::from_millis(1),
        point: point("1234567"),
        maybe: Some(point("xy")),
        pair: ("p".to_owned(), None),
    };
    assert_eq!(
        Everything::heap_bytes(Everything::view(&value)),
        3 + 10 + 7 + 2 + 1
    );
}

/// Through columns and back, by references, with the batch's own checks on the way.
fn round_trip<T: Record + PartialEq + std::fmt::Debug>(values: &[T]) {
    let mut builder = RowsBuilder::<T>::with_capacity(0);
    for value in values {
        builder.push_ref(T::view(value));
    }
    let batch = builder.finish().unwrap();
    assert_eq!(batch.schema(), T::schema());
    check_schema::<T>(&batch.schema()).unwrap();
    let rows = Rows::<T>::of(&batch).unwrap();
    let read: Vec<T> = rows.iter().map(T::own).collect();
    assert_eq!(read, values);
    let half = values.len() / 2;
    let tail = batch.slice(half, values.len() - half);
    let read: Vec<T> = Rows::<T>::of(&tail).unwrap().iter().map(T::own).collect();
    assert_eq!(read, values[half..], "a slice of the batch");
}

fn point() -> impl Strategy<Value = Point> {
    (any::<i64>(), any::<Option<String>>()).prop_map(|(x, label)| Point { x, label })
}

prop_compose! {
    fn everything()(
        text in ".{0,12}", bytes in vec(any::<u8>(), 0..9), flag: bool, tiny: i8, kind: Option<i16>,
        float in -1e9..1e9_f64, at: i64, point in point(), maybe in proptest::option::of(point()),
        pair in (".{0,4}", any::<Option<u64>>()),
    ) -> Everything {
        Everything {
            text, bytes, flag, tiny, r#type: kind, float, at: Timestamp::from_millis(at), point, maybe, pair,
        }
    }
}

proptest! {
    #[test]
    fn structs_with_every_type_come_back(values in vec(everything(), 0..20)) {
        round_trip(&values);
    }

    #[test]
    fn integers_come_back(a: Vec<i8>, b: Vec<i16>, c: Vec<i32>, d: Vec<i64>) {
        round_trip(&a);
        round_trip(&b);
        round_trip(&c);
        round_trip(&d);
    }

    #[test]
    fn unsigned_integers_come_back(a: Vec<u16>, b: Vec<u32>, c: Vec<u64>, d: Vec<(u8,)>) {
        round_trip(&a);
        round_trip(&b);
        round_trip(&c);
        round_trip(&d);
    }

    #[test]
    fn plain_values_come_back(a: Vec<String>, b: Vec<Vec<u8>>, c: Vec<bool>, d in vec(-1e3..1e3_f32, 0..9)) {
        round_trip(&a);
        round_trip(&b);
        round_trip(&c);
        round_trip(&d);
    }

    #[test]
    fn options_come_back(a: Vec<Option<String>>, b: Vec<Option<i64>>, c: Vec<Option<bool>>, d: Vec<Option<(i64, String)>>) {
        round_trip(&a);
        round_trip(&b);
        round_trip(&c);
        round_trip(&d);
    }

    #[test]
    fn tuples_come_back(a: Vec<(i64, String)>, b: Vec<(i8, i16, i32, i64, bool, String)>, c: Vec<((i64, (String,)), bool)>) {
        round_trip(&a);
        round_trip(&b);
        round_trip(&c);
    }
}

#[test]
fn a_struct_has_its_fields_as_columns_and_a_tuple_numbered_ones() {
    let names = |fields: Vec<Field>| {
        fields
            .iter()
            .map(|field| field.name().clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(Point::fields()), ["x", "label"]);
    assert_eq!(names(Everything::fields())[4], "type");
    assert_eq!(names(<(i64, bool)>::fields()), ["f0", "f1"]);
    assert_eq!(names(String::fields()), ["value"]);
}

#[test]
fn the_graph_names_columns_as_flink_does() {
    assert_eq!(
        output_columns(&Everything::schema()),
        [
            "text: STRING NOT NULL",
            "bytes: BYTES NOT NULL",
            "flag: BOOLEAN NOT NULL",
            "tiny: TINYINT NOT NULL",
            "type: SMALLINT",
            "float: DOUBLE NOT NULL",
            "at: TIMESTAMP_LTZ(3) NOT NULL",
            "point: ROW<x BIGINT NOT NULL, label STRING> NOT NULL",
            "maybe: ROW<x BIGINT NOT NULL, label STRING>",
            "pair: ROW<f0 STRING NOT NULL, f1 UINT64> NOT NULL",
        ]
    );
}

#[test]
fn a_reference_becomes_its_struct() {
    let view = PointRef {
        x: 3,
        label: Some("a"),
    };
    assert_eq!(
        Point::from(view),
        Point {
            x: 3,
            label: Some("a".to_owned())
        }
    );
    assert_eq!(Point::view(&Point::from(view)), view);
}

#[test]
fn columns_of_another_type_number_or_with_nulls_are_refused_by_name() {
    let batch = |n: Int64Array| {
        let word = Arc::new(StringArray::from(vec!["a", "b"])) as ArrayRef;
        RecordBatch::try_from_iter_with_nullable([("f0", word, false), ("f1", Arc::new(n) as ArrayRef, true)])
            .unwrap()
    };
    let read = |batch: &RecordBatch| {
        Rows::<(String, i64)>::of(batch)
            .err()
            .map(|error| error.to_string())
    };
    assert_eq!(read(&batch(vec![1, 2].into())), None);
    assert_eq!(
        read(&batch(vec![Some(1), None].into())).unwrap(),
        "column \"f1\" has nulls: make the field an Option"
    );
    let error = Rows::<(String, i32)>::of(&batch(vec![1, 2].into()))
        .err()
        .unwrap();
    assert_eq!(error.to_string(), "column \"f1\" is Int64, Int32 is expected");
    let error = Rows::<(String, i64, i64)>::of(&batch(vec![1, 2].into()))
        .err()
        .unwrap();
    assert_eq!(error.to_string(), "3 columns are expected, 2 came");
}

#[test]
fn a_struct_wants_its_names_of_a_source_and_a_tuple_only_its_types() {
    let schema = Schema::new(vec![
        Field::new("x", DataType::Int64, false),
        Field::new("text", DataType::Utf8, true),
    ]);
    assert!(check_schema::<(i64, Option<String>)>(&schema).is_ok());
    let error = check_schema::<Point>(&schema).unwrap_err();
    assert_eq!(
        error,
        RecordError::ColumnName {
            wanted: "label".to_owned(),
            found: "text".to_owned()
        }
    );
}
