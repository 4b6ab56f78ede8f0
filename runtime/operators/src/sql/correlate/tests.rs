use super::super::testing::{Emitted, Harness, Input, TestClock, bigint, row, table, text};
use super::*;
use thalweg_functions::EvaluationEnv;
use thalweg_functions::user::{TableFunction, TableFunctionTypes, TableRows, UserFunctions};
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

/// Each number from 1 to its argument; of a negative one an error.
struct UpTo;

impl TableFunction for UpTo {
    fn types(&self, _: &[SqlType]) -> Result<TableFunctionTypes, String> {
        Ok(TableFunctionTypes {
            args: vec![bigint()],
            columns: vec![SqlField::new("number", bigint())],
        })
    }

    fn evaluate(&self, args: &[ArrayRef], rows: usize) -> Result<TableRows, String> {
        assert!(
            rows > 0 && rows <= CALL_ROWS,
            "it is asked for some rows at a time"
        );
        let ends = args[0].as_primitive::<arrow::datatypes::Int64Type>();
        if ends.values().iter().any(|end| *end < 0) {
            return Err("a number is negative".to_owned());
        }
        let pairs = ends
            .iter()
            .enumerate()
            .flat_map(|(row, end)| (1..=end.unwrap_or_default()).map(move |number| (row as u32, number)));
        let (rows, numbers): (Vec<u32>, Vec<i64>) = pairs.unzip();
        Ok(TableRows {
            rows: rows.into(),
            columns: vec![Arc::new(Int64Array::from(numbers))],
        })
    }
}

fn calling(left_outer: bool) -> Harness {
    let input = table(&[("id", bigint()), ("end", bigint())]);
    let mut output = input.clone();
    output.fields.push(SqlField::new("number", bigint()));
    let spec = CorrelateSpec {
        function: "up_to@a.UpTo".to_owned(),
        args: vec![Expr::column(1, bigint())],
        columns: vec![bigint()],
        left_outer,
        with_ordinality: false,
        condition: None,
    };
    let schema = input.clone();
    Harness::new(vec![Input::singleton(&input)], move |context| {
        let env = EvaluationEnv {
            functions: Arc::new(UserFunctions::default().table("a.UpTo", UpTo)),
            ..(*TestClock::new(0).env()).clone()
        };
        let operator = SqlOperator {
            spec: &NodeSpec::DropUpdateBefore,
            inputs: std::slice::from_ref(&schema),
            output: &output,
            env: Arc::new(env),
        };
        Box::new(Correlate::new(&spec, &operator, context).unwrap())
    })
}

#[test]
fn a_users_function_gives_rows_beside_those_that_they_are_for() {
    for left_outer in [false, true] {
        let mut harness = calling(left_outer);
        harness.row(0, RowKind::Insert, row![1, 2]);
        harness.watermark(0, 10);
        harness.row(0, RowKind::UpdateBefore, row![2, 0]);
        harness.row(0, RowKind::Delete, row![3, 1]);
        harness.watermark(0, 20);
        harness.flush_all();
        let mut expected = vec![
            Emitted::Row(RowKind::Insert, row![1, 2, 1]),
            Emitted::Row(RowKind::Insert, row![1, 2, 2]),
            Emitted::Watermark(10),
            Emitted::Row(RowKind::Delete, row![3, 1, 1]),
            Emitted::Watermark(20),
        ];
        if left_outer {
            expected.insert(3, Emitted::Row(RowKind::UpdateBefore, row![2, 0, None::<i64>]));
        }
        assert_eq!(harness.emitted[0], expected);
    }
}

#[test]
fn a_users_function_is_called_for_so_many_rows_at_a_time() {
    let mut harness = calling(false);
    let rows = 2 * CALL_ROWS as i64 + 3;
    for id in 0..rows {
        harness.row(0, RowKind::Insert, row![id, 1]);
    }
    harness.flush_all();
    let expected = (0..rows).map(|id| Emitted::Row(RowKind::Insert, row![id, 1, 1]));
    assert_eq!(harness.emitted[0], expected.collect::<Vec<_>>());
}
