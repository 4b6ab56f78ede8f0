//! `+ - * / %` and the sign: whole numbers wrap as Java's, DECIMALs as module `decimal`, floating point as IEEE.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Decimal128Array};
use arrow::datatypes::{
    Decimal128Type, DurationMillisecondType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, IntervalYearMonthType,
};
use thalweg_plan::{DataType, Expr, TypeRoot};

use super::decimal::{Scales, result_type};
use super::{any_nullable, exactly, temporal};
use crate::common_type::{common_type, decimal_of, is_approximate, is_integer, is_numeric};
use crate::kernel;
use crate::registry::{Call, ScalarFunction, Signature, Value};

const BY_ZERO: &str = "/ by zero";
const DECIMAL_BY_ZERO: &str = "Division by zero";
const FITTING: &str = "(number, number)";

pub(super) const FUNCTIONS: &[ScalarFunction] = &[
    ScalarFunction {
        name: "+",
        usage: "<NUMERIC> + <NUMERIC>', '<DATETIME> + <DATETIME_INTERVAL>', '<DATETIME_INTERVAL> + <DATETIME_INTERVAL>",
        infer: |args| infer("+", args),
        kernel: |call| arithmetic("+", call),
        is_deterministic: true,
    },
    ScalarFunction {
        name: "-",
        usage: "<NUMERIC> - <NUMERIC>', '<DATETIME> - <DATETIME_INTERVAL>', '<DATETIME_INTERVAL> - <DATETIME_INTERVAL>",
        infer: |args| infer("-", args),
        kernel: |call| arithmetic("-", call),
        is_deterministic: true,
    },
    ScalarFunction {
        name: "*",
        usage: "<NUMERIC> * <NUMERIC>', '<DATETIME_INTERVAL> * <NUMERIC>",
        infer: |args| infer("*", args),
        kernel: |call| arithmetic("*", call),
        is_deterministic: true,
    },
    ScalarFunction {
        name: "/",
        usage: "<NUMERIC> / <NUMERIC>",
        infer: |args| infer("/", args),
        kernel: |call| arithmetic("/", call),
        is_deterministic: true,
    },
    ScalarFunction {
        name: "%",
        usage: "<EXACT_NUMERIC> % <EXACT_NUMERIC>",
        infer: |args| infer("%", args),
        kernel: |call| arithmetic("%", call),
        is_deterministic: true,
    },
    ScalarFunction {
        name: "MOD",
        usage: "MOD(number, number)",
        infer: |args| infer("%", args),
        kernel: |call| arithmetic("%", call),
        is_deterministic: true,
    },
    ScalarFunction {
        name: "UNARY -",
        usage: "-number",
        infer: infer_sign,
        kernel: negate,
        is_deterministic: true,
    },
];

fn infer(operator: &str, args: &[Expr]) -> Result<Signature, String> {
    let [left, right] = exactly(args)?;
    let nullable = any_nullable(args);
    let (mut a, mut b) = (left.data_type.root.clone(), right.data_type.root.clone());
    if let Some(signature) = temporal::infer(operator, &left.data_type, &right.data_type) {
        return Ok(signature);
    }
    // A bare NULL takes the other's type.
    if a == TypeRoot::Null {
        a = b.clone();
    } else if b == TypeRoot::Null {
        b = a.clone();
    }
    if !is_numeric(&a) || !is_numeric(&b) {
        return Err(FITTING.into());
    }
    if operator == "%" && (is_approximate(&a) || is_approximate(&b)) {
        return Err(FITTING.into());
    }
    let typed = |root: TypeRoot, arg: &Expr| DataType {
        root,
        nullable: arg.data_type.nullable,
    };
    let both_exact = !is_approximate(&a) && !is_approximate(&b);
    if both_exact && !(is_integer(&a) && is_integer(&b)) {
        let (Some(p), Some(q)) = (decimal_of(&a), decimal_of(&b)) else {
            return Err(FITTING.into());
        };
        let decimal = |(precision, scale)| TypeRoot::Decimal { precision, scale };
        return Ok(Signature {
            args: vec![typed(decimal(p), left), typed(decimal(q), right)],
            result: DataType {
                root: decimal(result_type(operator, p, q)),
                nullable,
            },
        });
    }
    let common = common_type(&[DataType::not_null(a), DataType::not_null(b.clone())]).ok_or(FITTING)?;
    // A remainder is of the divisor's type.
    let result = if operator == "%" && is_integer(&common.root) {
        b
    } else {
        common.root.clone()
    };
    Ok(Signature {
        args: vec![typed(common.root.clone(), left), typed(common.root, right)],
        result: DataType {
            root: result,
            nullable,
        },
    })
}

fn infer_sign(args: &[Expr]) -> Result<Signature, String> {
    let [arg] = exactly(args)?;
    let root = &arg.data_type.root;
    if !is_numeric(root) && !matches!(root, TypeRoot::IntervalYearMonth | TypeRoot::IntervalDaySecond) {
        return Err("(number or interval)".into());
    }
    Ok(Signature {
        args: vec![arg.data_type.clone()],
        result: arg.data_type.clone(),
    })
}

/// Wrapping arithmetic of a whole number's type.
macro_rules! whole {
    ($operator:expr, $left:expr, $right:expr, $type:ty) => {{
        let (left, right) = ($left, $right);
        let array: ArrayRef = match $operator {
            "+" => Arc::new(kernel::binary::<$type, $type, $type>(left, right, |a, b| {
                a.wrapping_add(b)
            })),
            "-" => Arc::new(kernel::binary::<$type, $type, $type>(left, right, |a, b| {
                a.wrapping_sub(b)
            })),
            "*" => Arc::new(kernel::binary::<$type, $type, $type>(left, right, |a, b| {
                a.wrapping_mul(b)
            })),
            "/" => match kernel::scalar::<$type>(right) {
                Some(divisor) if divisor != 0 => {
                    Arc::new(kernel::unary::<$type, $type>(left, |a| a.wrapping_div(divisor)))
                }
                _ => Arc::new(kernel::try_binary::<$type, $type, $type>(
                    left,
                    right,
                    |a, b| match b {
                        0 => Err(BY_ZERO.into()),
                        b => Ok(Some(a.wrapping_div(b))),
                    },
                )?),
            },
            _ => match kernel::scalar::<$type>(right) {
                Some(divisor) if divisor != 0 => {
                    Arc::new(kernel::unary::<$type, $type>(left, |a| a.wrapping_rem(divisor)))
                }
                _ => Arc::new(kernel::try_binary::<$type, $type, $type>(
                    left,
                    right,
                    |a, b| match b {
                        0 => Err(BY_ZERO.into()),
                        b => Ok(Some(a.wrapping_rem(b))),
                    },
                )?),
            },
        };
        Ok::<ArrayRef, String>(array)
    }};
}

macro_rules! floating {
    ($operator:expr, $left:expr, $right:expr, $type:ty) => {{
        let (left, right) = ($left, $right);
        let array: ArrayRef = match $operator {
            "+" => Arc::new(kernel::binary::<$type, $type, $type>(left, right, |a, b| a + b)),
            "-" => Arc::new(kernel::binary::<$type, $type, $type>(left, right, |a, b| a - b)),
            "*" => Arc::new(kernel::binary::<$type, $type, $type>(left, right, |a, b| a * b)),
            _ => Arc::new(kernel::binary::<$type, $type, $type>(left, right, |a, b| a / b)),
        };
        Ok::<ArrayRef, String>(array)
    }};
}

fn arithmetic(operator: &str, call: &Call<'_>) -> Result<ArrayRef, String> {
    let [left, right] = call.args else {
        return Err("two arguments are needed".into());
    };
    if temporal::is_temporal(call.arg_types) {
        return temporal::arithmetic(operator, call);
    }
    match call.arg_types[0].root {
        TypeRoot::TinyInt => narrowed(whole!(operator, left, right, Int8Type)?, call),
        TypeRoot::SmallInt => narrowed(whole!(operator, left, right, Int16Type)?, call),
        TypeRoot::Int => narrowed(whole!(operator, left, right, Int32Type)?, call),
        TypeRoot::BigInt => narrowed(whole!(operator, left, right, Int64Type)?, call),
        TypeRoot::Float => floating!(operator, left, right, Float32Type),
        TypeRoot::Double => floating!(operator, left, right, Float64Type),
        TypeRoot::Decimal { .. } => decimal(operator, call, left, right),
        _ => Err(format!("no arithmetic for {}", call.arg_types[0])),
    }
}

/// A remainder in the divisor's type, which it fits.
fn narrowed(array: ArrayRef, call: &Call<'_>) -> Result<ArrayRef, String> {
    let wanted = call.data_type.to_arrow();
    if *array.data_type() == wanted {
        return Ok(array);
    }
    arrow::compute::cast(&array, &wanted).map_err(|error| error.to_string())
}

fn decimal(operator: &str, call: &Call<'_>, left: &Value, right: &Value) -> Result<ArrayRef, String> {
    let scale_of = |data_type: &DataType| decimal_of(&data_type.root).ok_or("no DECIMAL");
    let (precision, result) = scale_of(call.data_type)?;
    let scales = Scales::new(
        scale_of(&call.arg_types[0])?.1,
        scale_of(&call.arg_types[1])?.1,
        (precision, result),
    );
    type D = Decimal128Type;
    let values = match operator {
        "+" => kernel::try_binary::<D, D, D>(left, right, |a, b| Ok(scales.add(a, b))),
        "-" => kernel::try_binary::<D, D, D>(left, right, |a, b| Ok(scales.add(a, -b))),
        "*" => kernel::try_binary::<D, D, D>(left, right, |a, b| Ok(scales.multiply(a, b))),
        _ => kernel::try_binary::<D, D, D>(left, right, |a, b| match (b, operator) {
            (0, _) => Err(DECIMAL_BY_ZERO.into()),
            (b, "/") => Ok(scales.divide(a, b)),
            (b, _) => Ok(scales.remainder(a, b)),
        }),
    }?;
    typed(values, precision, result)
}

fn typed(values: Decimal128Array, precision: u8, scale: u8) -> Result<ArrayRef, String> {
    let values = values
        .with_precision_and_scale(precision, scale as i8)
        .map_err(|error| error.to_string())?;
    Ok(Arc::new(values))
}

fn negate(call: &Call<'_>) -> Result<ArrayRef, String> {
    let [arg] = call.args else {
        return Err("one argument is needed".into());
    };
    Ok(match call.data_type.root {
        TypeRoot::TinyInt => Arc::new(kernel::unary::<Int8Type, Int8Type>(arg, i8::wrapping_neg)),
        TypeRoot::SmallInt => Arc::new(kernel::unary::<Int16Type, Int16Type>(arg, i16::wrapping_neg)),
        TypeRoot::Int => Arc::new(kernel::unary::<Int32Type, Int32Type>(arg, i32::wrapping_neg)),
        TypeRoot::BigInt => Arc::new(kernel::unary::<Int64Type, Int64Type>(arg, i64::wrapping_neg)),
        TypeRoot::Float => Arc::new(kernel::unary::<Float32Type, Float32Type>(arg, |value| -value)),
        TypeRoot::Double => Arc::new(kernel::unary::<Float64Type, Float64Type>(arg, |value| -value)),
        TypeRoot::IntervalYearMonth => Arc::new(
            kernel::unary::<IntervalYearMonthType, IntervalYearMonthType>(arg, i32::wrapping_neg),
        ),
        TypeRoot::IntervalDaySecond => Arc::new(kernel::unary::<
            DurationMillisecondType,
            DurationMillisecondType,
        >(arg, i64::wrapping_neg)),
        TypeRoot::Decimal { precision, scale } => {
            let array = arg.array().as_primitive::<Decimal128Type>();
            return typed(array.unary(|value| -value), precision, scale);
        }
        _ => return Err(format!("no sign for {}", call.data_type)),
    })
}
