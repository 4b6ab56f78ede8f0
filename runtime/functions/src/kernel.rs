//! Loops over one and two arguments, each of which is a column or one value for all rows.

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanBufferBuilder, Datum, PrimitiveArray, UInt32Array,
    new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::kernels::arity;
use arrow::compute::take;
use arrow::datatypes::DataType as ArrowType;
use std::sync::Arc;

use crate::registry::Value;

impl Value {
    /// The values; of a scalar an array of length 1.
    pub(crate) fn array(&self) -> &ArrayRef {
        match self {
            Self::Array(array) | Self::Scalar(array) => array,
        }
    }

    /// Whether one value stands for all rows.
    pub(crate) fn is_scalar(&self) -> bool {
        matches!(self, Self::Scalar(_))
    }

    /// A scalar that is null.
    pub(crate) fn is_null_scalar(&self) -> bool {
        matches!(self, Self::Scalar(value) if value.is_null(0) || *value.data_type() == ArrowType::Null)
    }

    /// One value a row.
    pub(crate) fn to_array(&self, rows: usize) -> ArrayRef {
        match self {
            Self::Array(array) => Arc::clone(array),
            Self::Scalar(value) => repeat(value, rows),
        }
    }

    /// Where a row's value is.
    pub(crate) fn index(&self, row: usize) -> usize {
        if self.is_scalar() { 0 } else { row }
    }
}

impl Datum for Value {
    fn get(&self) -> (&dyn Array, bool) {
        (self.array().as_ref(), self.is_scalar())
    }
}

/// A value as often as wanted.
pub(crate) fn repeat(value: &ArrayRef, rows: usize) -> ArrayRef {
    if value.is_null(0) || *value.data_type() == ArrowType::Null {
        return new_null_array(value.data_type(), rows);
    }
    let zeros = UInt32Array::from_value(0, rows);
    take(value.as_ref(), &zeros, None).unwrap_or_else(|_| new_null_array(value.data_type(), rows))
}

/// The number of results: 1 if both are scalars.
pub(crate) fn length(left: &Value, right: &Value) -> usize {
    match (left, right) {
        (Value::Array(array), _) | (_, Value::Array(array)) => array.len(),
        _ => 1,
    }
}

/// An argument's only value, if it has one and isn't null.
pub(crate) fn scalar<T: ArrowPrimitiveType>(value: &Value) -> Option<T::Native> {
    match value {
        Value::Scalar(array) => {
            let array = array.as_primitive::<T>();
            (!array.is_null(0)).then(|| array.value(0))
        }
        Value::Array(_) => None,
    }
}

/// A function of one number.
pub(crate) fn unary<I, O>(arg: &Value, op: impl Fn(I::Native) -> O::Native) -> PrimitiveArray<O>
where
    I: ArrowPrimitiveType,
    O: ArrowPrimitiveType,
{
    arity::unary(arg.array().as_primitive::<I>(), op)
}

/// A function of two numbers that always has a value.
pub(crate) fn binary<A, B, O>(
    left: &Value,
    right: &Value,
    op: impl Fn(A::Native, B::Native) -> O::Native,
) -> PrimitiveArray<O>
where
    A: ArrowPrimitiveType,
    B: ArrowPrimitiveType,
    O: ArrowPrimitiveType,
{
    if left.is_null_scalar() || right.is_null_scalar() {
        return PrimitiveArray::new_null(length(left, right));
    }
    let (a, b) = (
        left.array().as_primitive::<A>(),
        right.array().as_primitive::<B>(),
    );
    match (scalar::<A>(left), scalar::<B>(right)) {
        (_, Some(b)) => arity::unary(a, |a| op(a, b)),
        (Some(a), None) => arity::unary(b, |b| op(a, b)),
        (None, None) => arity::binary(a, b, op).unwrap_or_else(|_| PrimitiveArray::new_null(a.len())),
    }
}

/// A function of two numbers that may fail or give null. Rows with a null are not looked at.
pub(crate) fn try_binary<A, B, O>(
    left: &Value,
    right: &Value,
    op: impl Fn(A::Native, B::Native) -> Result<Option<O::Native>, String>,
) -> Result<PrimitiveArray<O>, String>
where
    A: ArrowPrimitiveType,
    B: ArrowPrimitiveType,
    O: ArrowPrimitiveType,
{
    let rows = length(left, right);
    if left.is_null_scalar() || right.is_null_scalar() {
        return Ok(PrimitiveArray::new_null(rows));
    }
    let (a, b) = (
        left.array().as_primitive::<A>(),
        right.array().as_primitive::<B>(),
    );
    // A scalar's nulls are none, here.
    let nulls = |value: &Value| value.array().nulls().filter(|_| !value.is_scalar()).cloned();
    let nulls = NullBuffer::union(nulls(left).as_ref(), nulls(right).as_ref());
    let (a, b) = (a.values(), b.values());
    match (left.is_scalar(), right.is_scalar()) {
        (false, true) => collect(rows, nulls, |row| op(a[row], b[0])),
        (true, false) => collect(rows, nulls, |row| op(a[0], b[row])),
        _ => collect(rows, nulls, |row| op(a[row], b[row])),
    }
}

/// The values of rows that are not null; each may fail or be null.
pub(crate) fn collect<O: ArrowPrimitiveType>(
    rows: usize,
    nulls: Option<NullBuffer>,
    value: impl Fn(usize) -> Result<Option<O::Native>, String>,
) -> Result<PrimitiveArray<O>, String> {
    let mut values = vec![O::Native::default(); rows];
    let mut missing: Option<BooleanBufferBuilder> = None;
    let nulls = nulls.filter(|nulls| nulls.null_count() > 0);
    for (row, slot) in values.iter_mut().enumerate() {
        if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            continue;
        }
        match value(row)? {
            Some(value) => *slot = value,
            None => missing.get_or_insert_with(|| all_valid(rows)).set_bit(row, false),
        }
    }
    let missing = missing.map(|mut missing| NullBuffer::new(missing.finish()));
    Ok(PrimitiveArray::new(
        values.into(),
        NullBuffer::union(nulls.as_ref(), missing.as_ref()),
    ))
}

fn all_valid(rows: usize) -> BooleanBufferBuilder {
    let mut valid = BooleanBufferBuilder::new(rows);
    valid.append_n(rows, true);
    valid
}
