use super::super::testing::{Emitted, Harness, Input, TestClock, bigint, row, table, text};
use super::*;
use thalweg_plan::expr::Literal;
use thalweg_plan::{Expr, Field as SqlField, NodeSpec, Schema};
use thalweg_types::element::RowKind;

fn array(element: SqlType) -> SqlType {
    SqlType::nullable(TypeRoot::Array(Box::new(element)))
}

fn int() -> SqlType {
    SqlType::nullable(TypeRoot::Int)
}

fn harness(input: &Schema, columns: Vec<SqlType>, change: impl Fn(&mut CorrelateSpec)) -> Harness {
    let mut output = input.clone();
    output.fields.extend(
        columns
            .iter()
            .map(|data_type| SqlField::new("x", data_type.clone())),
    );
    let mut spec = CorrelateSpec {
        function: "UNNEST".to_owned(),
        args: vec![Expr::column(1, input.fields[1].data_type.clone())],
        columns,
        left_outer: false,
        with_ordinality: false,
        condition: None,
    };
    change(&mut spec);
    let schema = input.clone();
    Harness::new(vec![Input::singleton(input)], move |context| {
        let operator = SqlOperator {
            spec: &NodeSpec::DropUpdateBefore,
            inputs: std::slice::from_ref(&schema),
            output: &output,
            env: TestClock::new(0).env(),
        };
        Box::new(Correlate::new(&spec, &operator, context).unwrap())
    })
}

#[test]
fn each_element_is_a_row_beside_its_own_with_kinds_and_watermarks_between() {
    let input = table(&[("id", text()), ("items", array(bigint()))]);
    let mut harness = harness(&input, vec![bigint()], |_| {});
    harness.row(0, RowKind::Insert, row!["a", vec![1, 2, 3]]);
    harness.watermark(0, 10);
    harness.row(0, RowKind::Delete, row!["b", Vec::<i64>::new()]);
    harness.row(0, RowKind::Delete, row!["c", vec![4]]);
    harness.watermark(0, 20);
    harness.flush_all();
    let expected = [
        Emitted::Row(RowKind::Insert, row!["a", vec![1, 2, 3], 1]),
        Emitted::Row(RowKind::Insert, row!["a", vec![1, 2, 3], 2]),
        Emitted::Row(RowKind::Insert, row!["a", vec![1, 2, 3], 3]),
        Emitted::Watermark(10),
        Emitted::Row(RowKind::Delete, row!["c", vec![4], 4]),
        Emitted::Watermark(20),
    ];
    assert_eq!(harness.emitted[0], expected);
}

#[test]
fn a_left_join_keeps_rows_without_elements_and_ordinals_count_from_one() {
    let input = table(&[("id", text()), ("items", array(bigint()))]);
    let mut harness = harness(&input, vec![bigint(), int()], |spec| {
        spec.left_outer = true;
        spec.with_ordinality = true;
    });
    harness.insert(0, row!["a", vec![7, 8]]);
    harness.insert(0, row!["b", Vec::<i64>::new()]);
    harness.insert(0, row!["c", None::<Vec<i64>>]);
    let none = None::<i64>;
    let expected = [
        (RowKind::Insert, row!["a", vec![7, 8], 7, 1]),
        (RowKind::Insert, row!["a", vec![7, 8], 8, 2]),
        (RowKind::Insert, row!["b", Vec::<i64>::new(), none, none]),
        (RowKind::Insert, row!["c", None::<Vec<i64>>, none, none]),
    ];
    assert_eq!(harness.changelog(), expected);
}

#[test]
fn a_condition_leaves_pairs_out() {
    let input = table(&[("id", text()), ("items", array(bigint()))]);
    let mut harness = harness(&input, vec![bigint()], |spec| {
        let bound = Expr::literal(Literal::Int(1), bigint());
        let boolean = SqlType::nullable(TypeRoot::Boolean);
        spec.condition = Some(Expr::call(">", vec![Expr::column(2, bigint()), bound], boolean));
    });
    harness.insert(0, row!["a", vec![1, 2, 3]]);
    let expected = [
        (RowKind::Insert, row!["a", vec![1, 2, 3], 2]),
        (RowKind::Insert, row!["a", vec![1, 2, 3], 3]),
    ];
    assert_eq!(harness.changelog(), expected);
}

#[test]
fn elements_of_a_multiset_come_as_often_as_they_are_in_it() {
    let entries = arrow::array::StructArray::from(vec![
        (
            Arc::new(arrow::datatypes::Field::new("key", DataType::Utf8, false)),
            Arc::new(arrow::array::StringArray::from(vec!["x", "y"])) as ArrayRef,
        ),
        (
            Arc::new(arrow::datatypes::Field::new("value", DataType::Int32, false)),
            Arc::new(Int32Array::from(vec![2, 1])) as ArrayRef,
        ),
    ]);
    let field = Arc::new(arrow::datatypes::Field::new(
        "entries",
        entries.data_type().clone(),
        false,
    ));
    let offsets = arrow::buffer::OffsetBuffer::from_lengths([2]);
    let map: ArrayRef = Arc::new(arrow::array::MapArray::new(field, offsets, entries, None, false));
    let elements = Elements::of(&map, true).unwrap();
    assert_eq!(elements.columns.len(), 1);
    assert_eq!((elements.count(0), elements.count(1)), (2, 1));
    let as_map = Elements::of(&map, false).unwrap();
    assert_eq!(as_map.columns.len(), 2);
}

#[test]
fn another_function_is_refused_by_its_name() {
    let input = table(&[("id", text()), ("items", array(bigint()))]);
    let spec = CorrelateSpec {
        function: "SPLIT".to_owned(),
        args: Vec::new(),
        columns: Vec::new(),
        left_outer: false,
        with_ordinality: false,
        condition: None,
    };
    let operator = SqlOperator {
        spec: &NodeSpec::DropUpdateBefore,
        inputs: std::slice::from_ref(&input),
        output: &input,
        env: TestClock::new(0).env(),
    };
    let context = super::super::testing::context(0, 1);
    let error = Correlate::new(&spec, &operator, context).err().unwrap();
    assert!(error.to_string().contains("SPLIT"), "{error}");
}
