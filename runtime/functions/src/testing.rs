//! Expressions for tests, and their values as CAST to STRING writes them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema};
use thalweg_plan::data_type::TimeKind;
use thalweg_plan::{DataType, Expr, ExprKind, Literal, TypeRoot};

use crate::evaluator::literal_array;
use crate::kernel::repeat;
use crate::{EvaluationEnv, Evaluator, cast, resolve_scalar};

/// The time zone in which tests run.
pub(crate) const ZONE: &str = "Europe/Berlin";

pub(crate) fn env() -> Arc<EvaluationEnv> {
    Arc::new(EvaluationEnv {
        time_zone: ZONE.into(),
        clock: Arc::new(|| 1_700_000_000_123),
        statement_time_ms: 1_700_000_000_123,
        is_batch: false,
        functions: Arc::default(),
    })
}

pub(crate) fn null(root: TypeRoot) -> Expr {
    Expr::literal(Literal::Null, DataType::nullable(root))
}

pub(crate) fn int(value: i32) -> Expr {
    Expr::literal(Literal::Int(value.into()), DataType::not_null(TypeRoot::Int))
}

pub(crate) fn bigint(value: i64) -> Expr {
    Expr::literal(Literal::Int(value), DataType::not_null(TypeRoot::BigInt))
}

pub(crate) fn double(value: f64) -> Expr {
    Expr::literal(Literal::Double(value), DataType::not_null(TypeRoot::Double))
}

pub(crate) fn boolean(value: bool) -> Expr {
    Expr::literal(Literal::Boolean(value), DataType::not_null(TypeRoot::Boolean))
}

pub(crate) fn text(value: &str) -> Expr {
    let length = value.chars().count().max(1) as u32;
    Expr::literal(
        Literal::String(value.into()),
        DataType::not_null(TypeRoot::Char(length)),
    )
}

/// A DECIMAL(precision, scale) by its text.
pub(crate) fn decimal(value: &str, precision: u8, scale: u8) -> Expr {
    let root = TypeRoot::Decimal { precision, scale };
    let unscaled = thalweg_formats::text::parse_decimal(value.as_bytes(), precision, scale)
        .unwrap()
        .unwrap();
    Expr::literal(Literal::Decimal(unscaled), DataType::not_null(root))
}

pub(crate) fn timestamp(value: &str, precision: u8) -> Expr {
    let root = TypeRoot::Timestamp(precision, TimeKind::Regular);
    cast(text(value), DataType::not_null(root), false).unwrap()
}

pub(crate) fn date(value: &str) -> Expr {
    cast(text(value), DataType::not_null(TypeRoot::Date), false).unwrap()
}

pub(crate) fn call<const N: usize>(function: &str, args: [Expr; N]) -> Expr {
    resolve_scalar(function, args.into(), None).unwrap_or_else(|error| panic!("{error}"))
}

/// The values of an expression over two equal rows, or the error's message.
fn values_of(expr: Expr, columns: Vec<ArrayRef>) -> Result<ArrayRef, String> {
    let fields: Vec<Field> = columns
        .iter()
        .enumerate()
        .map(|(index, column)| Field::new(format!("c{index}"), column.data_type().clone(), true))
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(2));
    let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options).unwrap();
    let wanted = expr.data_type.to_arrow();
    let evaluator = Evaluator::new(&[expr], &batch.schema(), env()).map_err(|error| error.message)?;
    let value = evaluator
        .evaluate(&batch)
        .map_err(|error| error.message)?
        .remove(0);
    assert_eq!((value.len(), value.data_type()), (2, &wanted));
    Ok(value)
}

/// The value of an expression without columns, as text; "NULL" if it is null.
pub(crate) fn show(expr: Expr) -> Result<String, String> {
    show_over(expr, Vec::new())
}

/// The value that both of two equal rows give.
fn show_over(expr: Expr, columns: Vec<ArrayRef>) -> Result<String, String> {
    if expr.data_type.root == TypeRoot::Null {
        return Ok("NULL".into());
    }
    let expr = cast(expr, DataType::string(), false).map_err(|error| error.message)?;
    let values = values_of(expr, columns)?;
    let shown: Vec<&str> = values
        .as_string::<i32>()
        .iter()
        .map(|value| value.unwrap_or("NULL"))
        .collect();
    assert_eq!(shown[0], shown[1], "two equal rows");
    Ok(shown[0].to_owned())
}

/// The same with columns in place of literals, so that nothing is computed when it's compiled.
fn with_columns(expr: Expr, columns: &mut Vec<ArrayRef>) -> Expr {
    match expr.kind {
        ExprKind::Literal(literal) => {
            let value = literal_array(&literal, &expr.data_type).unwrap();
            columns.push(repeat(&value, 2));
            Expr::column(columns.len() - 1, expr.data_type)
        }
        ExprKind::Call { function, args } => Expr {
            kind: ExprKind::Call {
                function,
                args: args.into_iter().map(|arg| with_columns(arg, columns)).collect(),
            },
            ..expr
        },
        ExprKind::Column(_) => expr,
    }
}

/// Compares many expressions' values, given as text, with what is expected; `Err` of a part of the message for errors. Each is computed of literals and
/// of columns.
pub(crate) fn assert_shown<const N: usize>(cases: [(Expr, Result<&str, &str>); N]) {
    for (expr, expected) in cases {
        let what = expr.to_string();
        let mut columns = Vec::new();
        let of_columns = with_columns(expr.clone(), &mut columns);
        for (found, way) in [
            (show(expr), "of literals"),
            (show_over(of_columns, columns), "of columns"),
        ] {
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{what} {way}"),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{what} {way}: {found}"),
                (found, expected) => panic!("{what} {way}: {found:?}, not {expected:?}"),
            }
        }
    }
}
