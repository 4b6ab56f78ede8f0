//! Expressions over batches.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::Int32Type;
use proptest::prelude::*;
use thalweg_plan::{DataType, Expr, Field, Schema, TypeRoot};

use super::{Evaluator, fold_constant};
use crate::testing::{boolean, call, env, int, text};
use crate::{cast, is_deterministic};

/// `a INT, s STRING`.
fn batch(a: Vec<Option<i32>>, s: Vec<Option<&str>>) -> RecordBatch {
    let schema = Schema {
        fields: vec![
            Field::new("a", DataType::nullable(TypeRoot::Int)),
            Field::new("s", DataType::string()),
        ],
    };
    RecordBatch::try_new(
        schema.to_arrow(),
        vec![Arc::new(Int32Array::from(a)), Arc::new(StringArray::from(s))],
    )
    .unwrap()
}

fn a() -> Expr {
    Expr::column(0, DataType::nullable(TypeRoot::Int))
}

fn s() -> Expr {
    Expr::column(1, DataType::string())
}

fn to_int(expr: Expr) -> Expr {
    cast(expr, DataType::nullable(TypeRoot::Int), false).unwrap()
}

fn ints(expr: &Expr, batch: &RecordBatch) -> Result<Vec<Option<i32>>, String> {
    let evaluator = Evaluator::new(std::slice::from_ref(expr), &batch.schema(), env())
        .map_err(|error| error.to_string())?;
    let columns = evaluator.evaluate(batch).map_err(|error| error.to_string())?;
    Ok(columns[0].as_primitive::<Int32Type>().iter().collect())
}

#[test]
fn a_cast_in_a_branch_sees_only_the_rows_of_the_branch() {
    let batch = batch(
        vec![Some(1), Some(0), None, Some(1)],
        vec![Some("7"), Some("x"), Some("1"), Some("8")],
    );
    let is_number = call("=", [a(), int(1)]);
    let guarded = call("CASE", [is_number.clone(), to_int(s()), a()]);
    assert_eq!(ints(&guarded, &batch), Ok(vec![Some(7), Some(0), None, Some(8)]));
    assert!(
        ints(&to_int(s()), &batch)
            .unwrap_err()
            .contains("For input string: 'x'")
    );

    let large = call("AND", [is_number, call(">", [to_int(s()), int(7)])]);
    let evaluator = Evaluator::new(&[large], &batch.schema(), env()).unwrap();
    let kept = evaluator.evaluate_filter(&batch).unwrap();
    assert_eq!(kept, BooleanArray::from(vec![false, false, false, true]));
}

#[test]
fn a_nested_branch_sees_the_rows_that_are_left() {
    let batch = batch(
        vec![Some(0), Some(2), Some(3), None],
        vec![Some("a"), Some("b"), Some("5"), None],
    );
    let quotient = call("/", [int(12), a()]);
    let inner = call("CASE", [call("=", [quotient, int(6)]), int(-1), to_int(s())]);
    let outer = call(
        "CASE",
        [
            call("=", [a(), int(0)]),
            int(0),
            call("IS NULL", [a()]),
            int(-2),
            inner,
        ],
    );
    assert_eq!(
        ints(&outer, &batch),
        Ok(vec![Some(0), Some(-1), Some(5), Some(-2)])
    );
}

#[test]
fn coalesce_computes_what_is_missing() {
    let batch = batch(vec![Some(1), None, None], vec![Some("x"), Some("2"), None]);
    assert_eq!(
        ints(&call("COALESCE", [a(), to_int(s()), int(9)]), &batch),
        Ok(vec![Some(1), Some(2), Some(9)])
    );
}

#[test]
fn a_shared_subexpression_is_one_step() {
    let quotient = || call("/", [a(), int(2)]);
    let exprs = [
        call("+", [quotient(), int(1)]),
        call("*", [quotient(), quotient()]),
    ];
    let batch = batch(vec![Some(6)], vec![None]);
    let evaluator = Evaluator::new(&exprs, &batch.schema(), env()).unwrap();
    let divisions = evaluator
        .program
        .steps
        .iter()
        .filter(|step| &*step.name == "/")
        .count();
    assert_eq!(divisions, 1);
}

#[test]
fn constants_are_computed_once_and_their_failures_come_with_rows() {
    let failing = call("/", [int(1), int(0)]);
    let empty = batch(Vec::new(), Vec::new());
    assert_eq!(ints(&failing, &empty), Ok(Vec::new()));
    let one = batch(vec![Some(1)], vec![None]);
    assert_eq!(
        ints(&failing.at(Some((3, 14))), &one),
        Err("/: / by zero (line 3, column 14)".into())
    );
    assert_eq!(
        fold_constant(&call("+", [int(1), int(2)]), &env()),
        Ok(thalweg_plan::Literal::Int(3))
    );
    assert!(is_deterministic(&call("+", [a(), int(2)])));
}

#[test]
fn a_constant_that_fails_is_tried_once_however_deep_it_stands() {
    let failing = call("/", [int(1), int(0)]);
    let deep = (0..64).fold(failing, |expr, _| call("+", [expr, int(1)]));
    assert!(fold_constant(&deep, &env()).is_err_and(|error| error.message == "/ by zero"));
}

#[test]
fn a_column_of_another_type_is_refused() {
    let batch = batch(Vec::new(), Vec::new());
    let wrong = Expr::column(1, DataType::nullable(TypeRoot::Int));
    let refused = Evaluator::new(&[wrong], &batch.schema(), env()).unwrap_err();
    assert!(
        refused.message.contains("Utf8 in the input and Int32"),
        "{refused}"
    );
    let missing = Expr::column(7, DataType::nullable(TypeRoot::Int));
    assert!(Evaluator::new(&[missing], &batch.schema(), env()).is_err());
}

#[test]
fn a_filter_keeps_no_row_for_which_the_condition_is_unknown() {
    let batch = batch(vec![Some(1), None, Some(3)], vec![None, None, None]);
    for (condition, expected) in [
        (call(">", [a(), int(1)]), vec![false, false, true]),
        (boolean(true), vec![true, true, true]),
        (call("LIKE", [s(), text("%")]), vec![false, false, false]),
    ] {
        let evaluator = Evaluator::new(&[condition], &batch.schema(), env()).unwrap();
        assert_eq!(
            evaluator.evaluate_filter(&batch).unwrap(),
            BooleanArray::from(expected)
        );
    }
}

/// Conditions and values over `a`, some of which can fail and are guarded.
fn any_int() -> impl Strategy<Value = Expr> {
    let leaf = prop_oneof![Just(a()), (-3..4).prop_map(int)];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let pair = (inner.clone(), inner);
        let guarded = |(x, y): (Expr, Expr)| {
            let quotient = call("/", [x.clone(), y.clone()]);
            call("CASE", [call("=", [y, int(0)]), x, quotient])
        };
        prop_oneof![
            pair.clone().prop_map(|(x, y)| call("+", [x, y])),
            pair.clone().prop_map(guarded),
            pair.clone().prop_map(|(x, y)| call("COALESCE", [x, y])),
            pair.prop_map(|(x, y)| {
                let is_less = call(
                    "AND",
                    [
                        call("<>", [y.clone(), int(0)]),
                        call("<", [call("/", [x.clone(), y.clone()]), y]),
                    ],
                );
                call("IF", [is_less, x, int(1)])
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_batch_has_the_values_of_its_rows_one_by_one(
        expr in any_int(),
        values in prop::collection::vec(prop::option::weighted(0.8, -3..4_i32), 1..12),
    ) {
        let whole = ints(&expr, &batch(values.clone(), vec![None; values.len()]));
        let rows: Result<Vec<_>, _> = values
            .iter()
            .map(|value| ints(&expr, &batch(vec![*value], vec![None])).map(|row| row[0]))
            .collect();
        prop_assert_eq!(whole, rows);
    }
}
