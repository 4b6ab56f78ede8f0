use super::super::testing::{Harness, Input, TestClock, bigint, row, table, text};
use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use thalweg_plan::expr::Literal;
use thalweg_plan::{DataType, NodeSpec, TypeRoot};
use thalweg_types::element::RowKind;

use super::super::testing::Emitted;

fn harness(projection: Vec<Expr>, filter: Option<Expr>) -> Harness {
    let input = table(&[("unused", text()), ("a", bigint()), ("b", text())]);
    let fields: Vec<(&str, DataType)> = projection
        .iter()
        .map(|expr| ("x", expr.data_type.clone()))
        .collect();
    let output = table(&fields);
    let schema = input.clone();
    Harness::new(vec![Input::singleton(&input)], move |context| {
        let operator = SqlOperator {
            spec: &NodeSpec::DropUpdateBefore,
            inputs: std::slice::from_ref(&schema),
            output: &output,
            env: TestClock::new(0).env(),
        };
        Box::new(Calc::new(&projection, filter.as_ref(), &operator, context).unwrap())
    })
}

fn is_positive() -> Expr {
    let zero = Expr::literal(Literal::Int(0), bigint());
    Expr::call(
        ">",
        vec![Expr::column(1, bigint()), zero],
        DataType::nullable(TypeRoot::Boolean),
    )
}

fn columns() -> Vec<Expr> {
    vec![Expr::column(2, text()), Expr::column(1, bigint())]
}

#[test]
fn rows_for_which_the_filter_is_null_go_as_those_for_which_it_is_false() {
    let mut harness = harness(columns(), Some(is_positive()));
    for (a, b) in [(Some(1), "x"), (None, "y"), (Some(-1), "z"), (Some(2), "w")] {
        harness.insert(0, row!["unused", a, b]);
    }
    let expected = [(RowKind::Insert, row!["x", 1]), (RowKind::Insert, row!["w", 2])];
    assert_eq!(harness.changelog(), expected);
}

#[test]
fn a_projection_without_columns_keeps_the_number_of_rows() {
    let mut harness = harness(Vec::new(), Some(is_positive()));
    harness.insert(0, row!["unused", 1, "x"]);
    harness.insert(0, row!["unused", 0, "x"]);
    assert_eq!(harness.changelog(), [(RowKind::Insert, row![])]);
}

#[derive(Debug, Clone)]
enum Step {
    Row(bool, Option<i64>),
    Watermark,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (any::<bool>(), proptest::option::of(-2..3_i64)).prop_map(|(delete, a)| Step::Row(delete, a)),
        1 => Just(Step::Watermark),
    ];
    vec(step, 0..40)
}

proptest! {
    #[test]
    fn kinds_and_watermarks_stay_with_the_rows_that_are_kept(
        steps in steps(),
        batch_rows in 1..9_usize,
        limit_rows in 1..5_usize,
    ) {
        let mut harness = harness(columns(), Some(is_positive()));
        (harness.batch_rows, harness.limit_rows) = (batch_rows, limit_rows);
        let mut expected = Vec::new();
        for (time, step) in (0..).zip(&steps) {
            match step {
                Step::Row(delete, a) => {
                    let kind = if *delete { RowKind::Delete } else { RowKind::Insert };
                    harness.row(0, kind, row!["unused", *a, time.to_string()]);
                    if a.is_some_and(|a| a > 0) {
                        expected.push(Emitted::Row(kind, row![time.to_string(), *a]));
                    }
                }
                Step::Watermark => {
                    harness.watermark(0, time);
                    expected.push(Emitted::Watermark(time));
                }
            }
        }
        harness.flush_all();
        prop_assert_eq!(&harness.emitted[0], &expected);
    }
}
