//! `= <> < <= > >=`, IS [NOT] DISTINCT FROM, IN, GREATEST and LEAST.
//!
//! Texts and bytes compare byte by byte, CHAR without regard to padding; FLOAT and DOUBLE as Java's `==` and `<` do: NaN is equal to nothing and
//! -0.0 equals 0.0. Nested values have only equality, in which null equals null.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, MapArray, make_comparator};
use arrow::compute::kernels::cmp;
use arrow::compute::{SortOptions, is_not_null, is_null, or_kleene};
use arrow::datatypes::{Float32Type, Float64Type, Int32Type, Int64Type};
use thalweg_plan::{DataType, Expr, TypeRoot};

use super::{any_nullable, exactly, types};
use crate::common_type::{common_type, is_binary, is_character, is_datetime, is_numeric, merged_type};
use crate::kernel;
use crate::registry::{Call, ScalarFunction, Signature, Value};

macro_rules! comparisons {
    ($($name:literal: $usage:literal),* $(,)?) => {
        &[
            $(ScalarFunction {
                name: $name,
                usage: $usage,
                infer: |args| infer($name, args),
                kernel: |call| comparison($name, call),
                is_deterministic: true,
            },)*
            ScalarFunction {
                name: "IN",
                usage: "value IN (value, ..)",
                infer: infer_in,
                kernel: is_in,
                is_deterministic: true,
            },
            ScalarFunction {
                name: "GREATEST",
                usage: "GREATEST(value, ..)",
                infer: infer_extreme,
                kernel: |call| extreme(call, cmp::gt),
                is_deterministic: true,
            },
            ScalarFunction {
                name: "LEAST",
                usage: "LEAST(value, ..)",
                infer: infer_extreme,
                kernel: |call| extreme(call, cmp::lt),
                is_deterministic: true,
            },
        ]
    };
}

pub(super) const FUNCTIONS: &[ScalarFunction] = comparisons! {
    "=": "value = value",
    "<>": "value <> value",
    "<": "value < value",
    "<=": "value <= value",
    ">": "value > value",
    ">=": "value >= value",
    "IS DISTINCT FROM": "value IS DISTINCT FROM value",
    "IS NOT DISTINCT FROM": "value IS NOT DISTINCT FROM value",
};

fn infer(operator: &str, args: &[Expr]) -> Result<Signature, String> {
    let [left, right] = exactly(args)?;
    let is_order = matches!(operator, "<" | "<=" | ">" | ">=");
    if !is_order && let Some(refusal) = refuses_equality(&left.data_type, &right.data_type) {
        return Err(refusal);
    }
    let (args_to, is_ordered) = operands(&left.data_type, &right.data_type)?;
    if is_order && !is_ordered {
        return Err("(comparable, comparable)".into());
    }
    let never_null = operator.contains("DISTINCT");
    Ok(Signature {
        args: args_to,
        result: DataType {
            root: TypeRoot::Boolean,
            nullable: any_nullable(args) && !never_null,
        },
    })
}

/// What two operands are cast to, and whether their values have an order.
fn operands(left: &DataType, right: &DataType) -> Result<(Vec<DataType>, bool), String> {
    let (a, b) = (&left.root, &right.root);
    if (is_character(a) && is_character(b)) || (is_binary(a) && is_binary(b)) {
        return Ok((vec![left.clone(), right.clone()], true));
    }
    let common = match (is_character(a), is_character(b)) {
        (true, false) => read_as(b, right),
        (false, true) => read_as(a, left),
        _ => common_type(&[left.clone(), right.clone()]),
    };
    let common = common.ok_or("(comparable, comparable)")?.materialized();
    let is_ordered = !matches!(
        common.root,
        TypeRoot::Array(_) | TypeRoot::Map(..) | TypeRoot::Multiset(_) | TypeRoot::Row(_)
    );
    let cast = |data_type: &DataType| common.clone().with_nullable(data_type.nullable);
    Ok((vec![cast(left), cast(right)], is_ordered))
}

/// What a text and a value of another type are compared as: the text is read, but a BOOLEAN is written.
fn read_as(root: &TypeRoot, data_type: &DataType) -> Option<DataType> {
    match root {
        TypeRoot::Boolean => Some(DataType::string()),
        root if is_datetime(root) || is_numeric(root) => Some(data_type.clone()),
        TypeRoot::Null => Some(DataType::string()),
        _ => None,
    }
}

/// Flink compares texts and numbers for order, and looks numbers up in lists of texts, but can't say whether they are equal.
fn refuses_equality(left: &DataType, right: &DataType) -> Option<String> {
    let (a, b) = (&left.root, &right.root);
    let is_mixed = (is_numeric(a) && is_character(b)) || (is_character(a) && is_numeric(b));
    is_mixed.then(|| {
        format!(
            "implicit type conversion between {} and {} is not supported now",
            root_name(a),
            root_name(b)
        )
    })
}

/// Java's `LogicalTypeRoot`.
fn root_name(root: &TypeRoot) -> String {
    match root {
        TypeRoot::Int => "INTEGER".into(),
        TypeRoot::Char(_) => "CHAR".into(),
        TypeRoot::VarChar(_) => "VARCHAR".into(),
        TypeRoot::Decimal { .. } => "DECIMAL".into(),
        other => other.to_string(),
    }
}

fn comparison(operator: &str, call: &Call<'_>) -> Result<ArrayRef, String> {
    let [left, right] = call.args else {
        return Err("two arguments are needed".into());
    };
    Ok(Arc::new(compare(operator, left, right, &call.arg_types[0].root)?))
}

/// Compares values of one type.
pub(crate) fn compare(
    operator: &str,
    left: &Value,
    right: &Value,
    root: &TypeRoot,
) -> Result<BooleanArray, String> {
    match root {
        TypeRoot::Float => Ok(floating::<Float32Type>(operator, left, right)),
        TypeRoot::Double => Ok(floating::<Float64Type>(operator, left, right)),
        TypeRoot::Array(_) | TypeRoot::Map(..) | TypeRoot::Multiset(_) | TypeRoot::Row(_) => {
            nested(operator, left, right)
        }
        TypeRoot::Null => {
            let rows = kernel::length(left, right);
            Ok(match operator {
                "IS DISTINCT FROM" => BooleanArray::from(vec![false; rows]),
                "IS NOT DISTINCT FROM" => BooleanArray::from(vec![true; rows]),
                _ => BooleanArray::new_null(rows),
            })
        }
        _ => match operator {
            "=" => cmp::eq(left, right),
            "<>" => cmp::neq(left, right),
            "<" => cmp::lt(left, right),
            "<=" => cmp::lt_eq(left, right),
            ">" => cmp::gt(left, right),
            ">=" => cmp::gt_eq(left, right),
            "IS DISTINCT FROM" => cmp::distinct(left, right),
            _ => cmp::not_distinct(left, right),
        }
        .map_err(|error| error.to_string()),
    }
}

fn floating<T: ArrowPrimitiveType<Native: PartialOrd>>(
    operator: &str,
    left: &Value,
    right: &Value,
) -> BooleanArray {
    match operator {
        "=" => floats::<T>(left, right, |a, b| a == b),
        "<>" => floats::<T>(left, right, |a, b| a != b),
        "<" => floats::<T>(left, right, |a, b| a < b),
        "<=" => floats::<T>(left, right, |a, b| a <= b),
        ">" => floats::<T>(left, right, |a, b| a > b),
        ">=" => floats::<T>(left, right, |a, b| a >= b),
        _ => {
            let (a, b) = (
                left.array().as_primitive::<T>(),
                right.array().as_primitive::<T>(),
            );
            let is_distinct = operator == "IS DISTINCT FROM";
            let distinct = |row: usize| {
                let (i, j) = (left.index(row), right.index(row));
                match (a.is_null(i), b.is_null(j)) {
                    (false, false) => a.value(i) != b.value(j),
                    (a, b) => a != b,
                }
            };
            (0..kernel::length(left, right))
                .map(|row| Some(distinct(row) == is_distinct))
                .collect()
        }
    }
}

fn floats<T: ArrowPrimitiveType>(
    left: &Value,
    right: &Value,
    op: impl Fn(T::Native, T::Native) -> bool,
) -> BooleanArray {
    if left.is_null_scalar() || right.is_null_scalar() {
        return BooleanArray::new_null(kernel::length(left, right));
    }
    let (a, b) = (
        left.array().as_primitive::<T>(),
        right.array().as_primitive::<T>(),
    );
    match (kernel::scalar::<T>(left), kernel::scalar::<T>(right)) {
        (_, Some(b)) => BooleanArray::from_unary(a, |a| op(a, b)),
        (Some(a), None) => BooleanArray::from_unary(b, |b| op(a, b)),
        (None, None) => BooleanArray::from_binary(a, b, op),
    }
}

/// Tells whether two nested values, neither of which is null, are equal.
type Equality<'a> = Box<dyn Fn(usize, usize) -> bool + 'a>;

/// Equality of one column's values and another's, made once a batch.
pub(crate) fn equality<'a>(left: &'a dyn Array, right: &'a dyn Array) -> Result<Equality<'a>, String> {
    if let (Some(left), Some(right)) = (
        left.as_any().downcast_ref::<MapArray>(),
        right.as_any().downcast_ref::<MapArray>(),
    ) {
        return map_equality(left, right);
    }
    let compare = make_comparator(left, right, SortOptions::default()).map_err(|error| error.to_string())?;
    Ok(Box::new(move |i, j| compare(i, j) == Ordering::Equal))
}

/// Maps are equal when their entries are, in any order.
fn map_equality<'a>(left: &'a MapArray, right: &'a MapArray) -> Result<Equality<'a>, String> {
    let keys = equality(left.keys(), right.keys())?;
    let values = equality(left.values(), right.values())?;
    Ok(Box::new(move |i, j| {
        let range = |map: &MapArray, row: usize| {
            map.value_offsets()[row] as usize..map.value_offsets()[row + 1] as usize
        };
        let (a, b) = (range(left, i), range(right, j));
        a.len() == b.len()
            && a.into_iter()
                .all(|i| b.clone().any(|j| keys(i, j) && values(i, j)))
    }))
}

fn nested(operator: &str, left: &Value, right: &Value) -> Result<BooleanArray, String> {
    let (a, b) = (left.array(), right.array());
    let equal = equality(a.as_ref(), b.as_ref())?;
    let result = |row: usize| {
        let (i, j) = (left.index(row), right.index(row));
        match (operator, a.is_null(i), b.is_null(j)) {
            ("=", false, false) | ("IS NOT DISTINCT FROM", false, false) => Some(equal(i, j)),
            (_, false, false) => Some(!equal(i, j)),
            ("IS DISTINCT FROM", a, b) => Some(a != b),
            ("IS NOT DISTINCT FROM", a, b) => Some(a == b),
            _ => None,
        }
    };
    Ok((0..kernel::length(left, right)).map(result).collect())
}

fn infer_in(args: &[Expr]) -> Result<Signature, String> {
    let [first, rest @ ..] = args else {
        return Err("(value, value, ..)".into());
    };
    let mut common = first.data_type.clone();
    for arg in rest {
        let (to, _) = operands(&common, &arg.data_type)?;
        // Texts keep their own lengths; otherwise both operands have the same type.
        common = to.into_iter().next().unwrap_or(common);
    }
    let keeps = is_character(&common.root) || is_binary(&common.root);
    let to = |arg: &Expr| match keeps && (is_character(&arg.data_type.root) || is_binary(&arg.data_type.root))
    {
        true => arg.data_type.clone(),
        false => common.clone().with_nullable(arg.data_type.nullable),
    };
    Ok(Signature {
        args: args.iter().map(to).collect(),
        result: DataType {
            root: TypeRoot::Boolean,
            nullable: any_nullable(args),
        },
    })
}

fn is_in(call: &Call<'_>) -> Result<ArrayRef, String> {
    let [first, rest @ ..] = call.args else {
        return Err("a list is needed".into());
    };
    let rows = call.rows;
    if rest.len() > COMPARED && rest.iter().all(Value::is_scalar) {
        let array = first.array();
        let found = match call.arg_types[0].root {
            TypeRoot::Char(_) | TypeRoot::VarChar(_) => {
                let texts = array.as_string::<i32>();
                listed(
                    first,
                    rows,
                    rest,
                    |item| item.as_string::<i32>().value(0),
                    |row| texts.value(row),
                )
            }
            TypeRoot::Int => listed_numbers::<Int32Type>(first, rows, rest),
            TypeRoot::BigInt => listed_numbers::<Int64Type>(first, rows, rest),
            _ => None,
        };
        if let Some(found) = found {
            return Ok(Arc::new(found));
        }
    }
    let mut found: Option<BooleanArray> = None;
    for item in rest {
        let equal = Value::Array(Arc::new(compare("=", first, item, &call.arg_types[0].root)?));
        let equal = if equal.array().len() == rows {
            equal.array().clone()
        } else {
            kernel::repeat(equal.array(), rows)
        };
        let equal = equal.as_boolean();
        found = Some(match found {
            None => equal.clone(),
            Some(found) => or_kleene(&found, equal).map_err(|error| error.to_string())?,
        });
    }
    Ok(Arc::new(
        found.unwrap_or_else(|| BooleanArray::from(vec![false; rows])),
    ))
}

/// Lists not longer than this are compared item by item.
const COMPARED: usize = 8;

/// Looks values up in a set of the list's items.
fn listed<'a, T: Eq + Hash>(
    first: &Value,
    rows: usize,
    rest: &'a [Value],
    item: impl Fn(&'a dyn Array) -> T,
    value: impl Fn(usize) -> T,
) -> Option<BooleanArray> {
    let has_null = rest.iter().any(Value::is_null_scalar);
    let items: HashSet<T> = rest
        .iter()
        .filter(|value| !value.is_null_scalar())
        .map(|value| item(value.array().as_ref()))
        .collect();
    let found = |row: usize| {
        let row = first.index(row);
        if first.array().is_null(row) {
            return None;
        }
        let found = items.contains(&value(row));
        (found || !has_null).then_some(found)
    };
    Some((0..rows).map(found).collect())
}

fn listed_numbers<T: ArrowPrimitiveType<Native: Eq + Hash>>(
    first: &Value,
    rows: usize,
    rest: &[Value],
) -> Option<BooleanArray> {
    let values = first.array().as_primitive::<T>();
    listed(
        first,
        rows,
        rest,
        |item| item.as_primitive::<T>().value(0),
        |row| values.value(row),
    )
}

fn infer_extreme(args: &[Expr]) -> Result<Signature, String> {
    let common = merged_type(&types(args)).ok_or("(comparable, ..)")?;
    if matches!(
        common.root,
        TypeRoot::Array(_) | TypeRoot::Map(..) | TypeRoot::Multiset(_) | TypeRoot::Row(_)
    ) {
        return Err(format!("Comparable type expected, but was '{common}'."));
    }
    Ok(Signature {
        args: args
            .iter()
            .map(|arg| common.clone().with_nullable(arg.data_type.nullable))
            .collect(),
        result: common,
    })
}

type Comparison =
    fn(&dyn arrow::array::Datum, &dyn arrow::array::Datum) -> Result<BooleanArray, arrow::error::ArrowError>;

/// The greatest or least; null if one is null.
fn extreme(call: &Call<'_>, better: Comparison) -> Result<ArrayRef, String> {
    let mut arrays = call.args.iter().map(|arg| arg.to_array(call.rows));
    let mut best = arrays.next().ok_or("an argument is needed")?;
    for array in arrays {
        let failed = |error: arrow::error::ArrowError| error.to_string();
        let wins = better(&array, &best).map_err(failed)?;
        let null = is_null(array.as_ref()).map_err(failed)?;
        // Null wins and stays.
        let wins = arrow::compute::or_kleene(&null, &wins).map_err(failed)?;
        let stays = is_not_null(best.as_ref()).map_err(failed)?;
        let wins = arrow::compute::and_kleene(&stays, &wins).map_err(failed)?;
        best = arrow::compute::kernels::zip::zip(&wins, &array, &best).map_err(failed)?;
    }
    Ok(best)
}
