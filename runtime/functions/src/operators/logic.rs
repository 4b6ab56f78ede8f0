//! Three-valued logic: AND, OR (computed by branches, see the evaluator), NOT, IS NULL and IS TRUE.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::buffer::BooleanBuffer;
use arrow::compute;
use thalweg_plan::{DataType, Expr, TypeRoot};

use super::{any_nullable, exactly};
use crate::registry::{Call, ScalarFunction, Signature};

macro_rules! predicates {
    ($($name:literal, $usage:literal, $infer:ident, $kernel:expr;)*) => {
        &[$(ScalarFunction { name: $name, usage: $usage, infer: $infer, kernel: $kernel, is_deterministic: true },)*]
    };
}

pub(super) const FUNCTIONS: &[ScalarFunction] = predicates! {
    "AND", "boolean AND boolean", infer_logic, |call| fold(call, compute::and_kleene);
    "OR", "boolean OR boolean", infer_logic, |call| fold(call, compute::or_kleene);
    "NOT", "NOT boolean", infer_not, not;
    "IS NULL", "value IS NULL", infer_null_test, |call| null_test(call, true);
    "IS NOT NULL", "value IS NOT NULL", infer_null_test, |call| null_test(call, false);
    "IS TRUE", "boolean IS TRUE", infer_test, |call| test(call, true, true);
    "IS NOT TRUE", "boolean IS NOT TRUE", infer_test, |call| test(call, true, false);
    "IS FALSE", "boolean IS FALSE", infer_test, |call| test(call, false, true);
    "IS NOT FALSE", "boolean IS NOT FALSE", infer_test, |call| test(call, false, false);
};

fn boolean(nullable: bool) -> DataType {
    DataType {
        root: TypeRoot::Boolean,
        nullable,
    }
}

fn booleans(args: &[Expr]) -> Result<Vec<DataType>, String> {
    let boolean_of = |arg: &Expr| match arg.data_type.root {
        TypeRoot::Boolean | TypeRoot::Null => Ok(boolean(arg.data_type.nullable)),
        _ => Err("(BOOLEAN, ..)".to_owned()),
    };
    args.iter().map(boolean_of).collect()
}

fn infer_logic(args: &[Expr]) -> Result<Signature, String> {
    if args.is_empty() {
        return Err("(BOOLEAN, ..)".into());
    }
    Ok(Signature {
        args: booleans(args)?,
        result: boolean(any_nullable(args)),
    })
}

fn infer_not(args: &[Expr]) -> Result<Signature, String> {
    exactly::<1>(args)?;
    infer_logic(args)
}

fn infer_test(args: &[Expr]) -> Result<Signature, String> {
    exactly::<1>(args)?;
    Ok(Signature {
        args: booleans(args)?,
        result: boolean(false),
    })
}

fn infer_null_test(args: &[Expr]) -> Result<Signature, String> {
    let [arg] = exactly(args)?;
    Ok(Signature {
        args: vec![arg.data_type.clone()],
        result: boolean(false),
    })
}

type Combine = fn(&BooleanArray, &BooleanArray) -> Result<BooleanArray, arrow::error::ArrowError>;

fn fold(call: &Call<'_>, combine: Combine) -> Result<ArrayRef, String> {
    let mut arrays = call.args.iter().map(|arg| arg.to_array(call.rows));
    let mut result = arrays.next().ok_or("an argument is needed")?.as_boolean().clone();
    for array in arrays {
        result = combine(&result, array.as_boolean()).map_err(|error| error.to_string())?;
    }
    Ok(Arc::new(result))
}

fn not(call: &Call<'_>) -> Result<ArrayRef, String> {
    let [arg] = call.args else {
        return Err("one argument is needed".into());
    };
    let negated = compute::not(arg.array().as_boolean()).map_err(|error| error.to_string())?;
    Ok(Arc::new(negated))
}

fn null_test(call: &Call<'_>, is_null: bool) -> Result<ArrayRef, String> {
    let [arg] = call.args else {
        return Err("one argument is needed".into());
    };
    let array = arg.array();
    let tested = match array.logical_nulls() {
        Some(nulls) if is_null => !nulls.inner(),
        Some(nulls) => nulls.inner().clone(),
        None if is_null => BooleanBuffer::new_unset(array.len()),
        None => BooleanBuffer::new_set(array.len()),
    };
    Ok(Arc::new(BooleanArray::new(tested, None)))
}

/// IS [NOT] `value`: never null.
fn test(call: &Call<'_>, value: bool, wanted: bool) -> Result<ArrayRef, String> {
    let [arg] = call.args else {
        return Err("one argument is needed".into());
    };
    let array = arg.array().as_boolean();
    let holds = if value {
        array.values().clone()
    } else {
        !array.values()
    };
    let holds = match array.nulls() {
        Some(nulls) => &holds & nulls.inner(),
        None => holds,
    };
    Ok(Arc::new(BooleanArray::new(
        if wanted { holds } else { !&holds },
        None,
    )))
}
