//! Functions of numbers that keep the type: signs and rounding.
//!
//! Flink rounds doubles by their shortest decimal text, as `BigDecimal.valueOf` has it; so 2.675 rounds to 2.68.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::datatypes::{Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type};
use thalweg_plan::{DataType, Expr, TypeRoot};

use super::support::{any_nullable, literal_int, numbers, numbers_of};
use super::temporal_rounding;
use crate::common_type::{MAX_PRECISION, is_integer, is_numeric};
use crate::kernel;
use crate::registry::{Call, ScalarFunction, Signature, Value};

/// This module's functions.
pub(crate) const FUNCTIONS: &[ScalarFunction] = &[
    ScalarFunction {
        name: "ABS",
        usage: "ABS(number)",
        infer: infer_same,
        kernel: abs,
        is_deterministic: true,
    },
    ScalarFunction {
        name: "SIGN",
        usage: "SIGN(number)",
        infer: infer_same,
        kernel: sign,
        is_deterministic: true,
    },
    ScalarFunction {
        name: "FLOOR",
        usage: "FLOOR(number), FLOOR(timepoint TO unit)",
        infer: infer_whole,
        kernel: |call| whole(call, Mode::Floor),
        is_deterministic: true,
    },
    ScalarFunction {
        name: "CEIL",
        usage: "CEIL(number), CEIL(timepoint TO unit)",
        infer: infer_whole,
        kernel: |call| whole(call, Mode::Ceiling),
        is_deterministic: true,
    },
    ScalarFunction {
        name: "CEILING",
        usage: "CEILING(number), CEILING(timepoint TO unit)",
        infer: infer_whole,
        kernel: |call| whole(call, Mode::Ceiling),
        is_deterministic: true,
    },
    ScalarFunction {
        name: "ROUND",
        usage: "ROUND(number [, digits])",
        infer: infer_round,
        kernel: |call| round(call, Mode::HalfUp),
        is_deterministic: true,
    },
    ScalarFunction {
        name: "TRUNCATE",
        usage: "TRUNCATE(number [, digits])",
        infer: infer_round,
        kernel: |call| round(call, Mode::Down),
        is_deterministic: true,
    },
];

/// Which way to round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Floor,
    Ceiling,
    /// Halves away from zero.
    HalfUp,
    /// To zero.
    Down,
}

impl Mode {
    /// The quotient, rounded. The divisor is above zero.
    fn divide(self, value: i128, divisor: i128) -> i128 {
        let (quotient, rest) = (value / divisor, value % divisor);
        let step = match self {
            Self::Floor => -i128::from(rest < 0),
            Self::Ceiling => i128::from(rest > 0),
            Self::HalfUp if rest.unsigned_abs() >= divisor.unsigned_abs().div_ceil(2) => rest.signum(),
            Self::HalfUp | Self::Down => 0,
        };
        quotient + step
    }
}

const NUMBER: &str = "(NUMERIC)";

fn infer_same(args: &[Expr]) -> Result<Signature, String> {
    let [arg] = args else {
        return Err(NUMBER.into());
    };
    let data_type = number_type(arg)?;
    Ok(Signature {
        args: vec![data_type.clone()],
        result: data_type,
    })
}

/// A bare NULL is an INT.
fn number_type(arg: &Expr) -> Result<DataType, String> {
    match &arg.data_type.root {
        TypeRoot::Null => Ok(DataType::nullable(TypeRoot::Int)),
        root if is_numeric(root) => Ok(arg.data_type.clone()),
        _ => Err(NUMBER.into()),
    }
}

fn infer_whole(args: &[Expr]) -> Result<Signature, String> {
    let [arg] = args else {
        return temporal_rounding::infer(args);
    };
    let data_type = number_type(arg)?;
    let result = match data_type.root {
        TypeRoot::Decimal { precision, .. } => DataType {
            root: TypeRoot::Decimal { precision, scale: 0 },
            nullable: data_type.nullable,
        },
        _ => data_type.clone(),
    };
    Ok(Signature {
        args: vec![data_type],
        result,
    })
}

fn infer_round(args: &[Expr]) -> Result<Signature, String> {
    let wanted = || "(NUMERIC, INT)".to_owned();
    let (value, digits) = match args {
        [value] => (value, None),
        [value, digits] if is_integer(&digits.data_type.root) || digits.data_type.root == TypeRoot::Null => {
            (value, Some(digits))
        }
        _ => return Err(wanted()),
    };
    let value = number_type(value).map_err(|_| wanted())?;
    let places = match digits {
        None => Some(0),
        Some(digits) => literal_int(digits),
    };
    let root = match (&value.root, places) {
        (TypeRoot::Decimal { precision, scale }, Some(places)) => rounded_type(*precision, *scale, places),
        (root, _) => root.clone(),
    };
    let mut arg_types = vec![value];
    arg_types.extend(digits.map(|digits| DataType {
        root: TypeRoot::Int,
        ..digits.data_type.clone()
    }));
    Ok(Signature {
        args: arg_types,
        result: DataType {
            root,
            nullable: any_nullable(args),
        },
    })
}

/// Flink's `findRoundDecimalType`.
fn rounded_type(precision: u8, scale: u8, places: i64) -> TypeRoot {
    let whole = precision - scale;
    match places {
        places if places >= i64::from(scale) => TypeRoot::Decimal { precision, scale },
        places if places < 0 => TypeRoot::Decimal {
            precision: (whole + 1).min(MAX_PRECISION),
            scale: 0,
        },
        places => TypeRoot::Decimal {
            precision: (whole + 1 + places as u8).min(MAX_PRECISION),
            scale: places as u8,
        },
    }
}

fn first<'a>(call: &'a Call<'_>) -> Result<&'a Value, String> {
    call.args.first().ok_or_else(|| "an argument is needed".into())
}

fn root<'a>(call: &'a Call<'_>) -> &'a TypeRoot {
    call.arg_types
        .first()
        .map_or(&TypeRoot::Null, |data_type| &data_type.root)
}

fn map<T: ArrowPrimitiveType>(arg: &Value, op: impl Fn(T::Native) -> T::Native) -> ArrayRef {
    let array = arg.array().as_primitive::<T>();
    Arc::new(kernel::unary::<T, T>(arg, op).with_data_type(array.data_type().clone()))
}

fn abs(call: &Call<'_>) -> Result<ArrayRef, String> {
    let arg = first(call)?;
    Ok(match root(call) {
        TypeRoot::TinyInt => map::<Int8Type>(arg, i8::wrapping_abs),
        TypeRoot::SmallInt => map::<Int16Type>(arg, i16::wrapping_abs),
        TypeRoot::Int => map::<Int32Type>(arg, i32::wrapping_abs),
        TypeRoot::BigInt => map::<Int64Type>(arg, i64::wrapping_abs),
        TypeRoot::Float => map::<Float32Type>(arg, f32::abs),
        TypeRoot::Double => map::<Float64Type>(arg, f64::abs),
        _ => map::<Decimal128Type>(arg, i128::abs),
    })
}

fn sign(call: &Call<'_>) -> Result<ArrayRef, String> {
    let arg = first(call)?;
    Ok(match root(call) {
        TypeRoot::TinyInt => map::<Int8Type>(arg, i8::signum),
        TypeRoot::SmallInt => map::<Int16Type>(arg, i16::signum),
        TypeRoot::Int => map::<Int32Type>(arg, i32::signum),
        TypeRoot::BigInt => map::<Int64Type>(arg, i64::signum),
        // `Math.signum` leaves zeros as they are.
        TypeRoot::Float => map::<Float32Type>(arg, |x| if x == 0.0 { x } else { x.signum() }),
        TypeRoot::Double => map::<Float64Type>(arg, |x| if x == 0.0 { x } else { x.signum() }),
        TypeRoot::Decimal { scale, .. } => {
            let one = power_of_ten(*scale);
            map::<Decimal128Type>(arg, |x| x.signum() * one)
        }
        other => return Err(format!("{other} is no number")),
    })
}

fn power_of_ten(exponent: u8) -> i128 {
    10i128.pow(exponent.min(MAX_PRECISION).into())
}

fn whole(call: &Call<'_>, mode: Mode) -> Result<ArrayRef, String> {
    if call.args.len() > 1 {
        return temporal_rounding::round(call, mode);
    }
    let arg = first(call)?;
    Ok(match root(call) {
        TypeRoot::Float if mode == Mode::Floor => map::<Float32Type>(arg, f32::floor),
        TypeRoot::Float => map::<Float32Type>(arg, f32::ceil),
        TypeRoot::Double if mode == Mode::Floor => map::<Float64Type>(arg, f64::floor),
        TypeRoot::Double => map::<Float64Type>(arg, f64::ceil),
        TypeRoot::Decimal { scale, .. } => {
            let divisor = power_of_ten(*scale);
            let whole = kernel::unary::<Decimal128Type, Decimal128Type>(arg, |x| mode.divide(x, divisor));
            as_decimal(whole, call.data_type)?
        }
        _ => Arc::clone(arg.array()),
    })
}

fn as_decimal(values: PrimitiveArray<Decimal128Type>, data_type: &DataType) -> Result<ArrayRef, String> {
    let TypeRoot::Decimal { precision, scale } = data_type.root else {
        return Err(format!("{data_type} is no decimal"));
    };
    values
        .with_precision_and_scale(precision, scale as i8)
        .map(|values| Arc::new(values) as ArrayRef)
        .map_err(|error| error.to_string())
}

fn round(call: &Call<'_>, mode: Mode) -> Result<ArrayRef, String> {
    Ok(match root(call) {
        TypeRoot::TinyInt => integers::<Int8Type>(call, mode, |wide| wide as i8)?,
        TypeRoot::SmallInt => integers::<Int16Type>(call, mode, |wide| wide as i16)?,
        TypeRoot::Int => integers::<Int32Type>(call, mode, |wide| wide as i32)?,
        TypeRoot::BigInt => integers::<Int64Type>(call, mode, |wide| wide as i64)?,
        TypeRoot::Float => floats::<Float32Type>(call, mode, |wide| wide as f32)?,
        TypeRoot::Double => floats::<Float64Type>(call, mode, |wide| wide)?,
        TypeRoot::Decimal { scale, .. } => decimals(call, mode, *scale)?,
        other => return Err(format!("{other} is no number")),
    })
}

/// Digits behind the point by row; 0 if they aren't given.
fn places<'a>(call: &'a Call<'_>) -> Result<Box<dyn Fn(usize) -> Option<i32> + 'a>, String> {
    if call.args.len() < 2 {
        return Ok(Box::new(|_| Some(0)));
    }
    let digits = numbers::<Int32Type>(call, 1)?;
    Ok(Box::new(move |row| digits.get(row)))
}

fn integers<T: ArrowPrimitiveType>(
    call: &Call<'_>,
    mode: Mode,
    narrow: impl Fn(i128) -> T::Native,
) -> Result<ArrayRef, String>
where
    T::Native: Into<i64>,
{
    let (values, places) = (numbers::<T>(call, 0)?, places(call)?);
    numbers_of::<T>(call.rows, |row| {
        let (Some(value), Some(places)) = (values.get(row), places(row)) else {
            return Ok(None);
        };
        Ok(Some(match places {
            0.. => value,
            // Nothing is left of 19 digits.
            ..=-20 => narrow(0),
            places @ -19..0 => {
                let unit = power_of_ten(places.unsigned_abs() as u8);
                narrow(mode.divide(value.into().into(), unit) * unit)
            }
        }))
    })
}

fn floats<T: ArrowPrimitiveType>(
    call: &Call<'_>,
    mode: Mode,
    narrow: impl Fn(f64) -> T::Native,
) -> Result<ArrayRef, String>
where
    T::Native: Into<f64>,
{
    let (values, places) = (numbers::<T>(call, 0)?, places(call)?);
    let mut text = String::new();
    numbers_of::<T>(call.rows, |row| {
        let (Some(value), Some(places)) = (values.get(row), places(row)) else {
            return Ok(None);
        };
        round_double(value.into(), places, mode, &mut text).map(|value| Some(narrow(value)))
    })
}

/// Rounds the shortest decimal text that means a double.
fn round_double(value: f64, places: i32, mode: Mode, text: &mut String) -> Result<f64, String> {
    use std::fmt::Write;
    if !value.is_finite() {
        return Err(format!(
            "{value} can't be rounded: it is infinite or not a number"
        ));
    }
    // A double that has a half or less behind the point is exact, hence its text is.
    match (places, mode) {
        (0, Mode::HalfUp) => return Ok(value.round() + 0.0),
        (0, Mode::Down) => return Ok(value.trunc() + 0.0),
        _ => {}
    }
    text.clear();
    let _infallible = write!(text, "{value:e}");
    let (digits, exponent) = text.split_once('e').ok_or("no number")?;
    let exponent: i32 = exponent.parse().map_err(|_| "no number")?;
    let mut unscaled = 0i128;
    let mut scale = -exponent;
    let mut is_behind = false;
    for byte in digits.bytes() {
        match byte {
            b'-' => {}
            b'.' => is_behind = true,
            digit => {
                unscaled = unscaled * 10 + i128::from(digit - b'0');
                scale += i32::from(is_behind);
            }
        }
    }
    let dropped = scale.saturating_sub(places);
    if dropped <= 0 {
        return Ok(value + 0.0);
    }
    // There are 17 digits at most: what drops more of them is less than a half.
    let kept = match u8::try_from(dropped) {
        Ok(dropped @ ..=MAX_PRECISION) => mode.divide(unscaled, power_of_ten(dropped)),
        _ => 0,
    };
    text.clear();
    let sign = if value < 0.0 { "-" } else { "" };
    let _infallible = write!(text, "{sign}{kept}e{}", -i64::from(places));
    let rounded: f64 = text.parse().map_err(|_| "no number")?;
    Ok(rounded + 0.0)
}

fn decimals(call: &Call<'_>, mode: Mode, scale: u8) -> Result<ArrayRef, String> {
    let TypeRoot::Decimal {
        precision,
        scale: result_scale,
    } = call.data_type.root
    else {
        return Err(format!("{} is no decimal", call.data_type));
    };
    let limit = power_of_ten(precision);
    let (values, places) = (numbers::<Decimal128Type>(call, 0)?, places(call)?);
    let mut out = PrimitiveArray::<Decimal128Type>::builder(call.rows);
    for row in 0..call.rows {
        let value = match (values.get(row), places(row)) {
            (Some(value), Some(places)) => {
                let rounded = round_decimal(value, scale, places, mode);
                // A value that depends on the row's digits keeps its scale.
                rescale(rounded, scale, result_scale).filter(|value| value.abs() < limit)
            }
            _ => None,
        };
        out.append_option(value);
    }
    as_decimal(out.finish(), call.data_type)
}

/// Of the same scale.
fn round_decimal(value: i128, scale: u8, places: i32, mode: Mode) -> Option<i128> {
    let dropped = i64::from(scale) - i64::from(places);
    if dropped <= 0 {
        return Some(value);
    }
    match u8::try_from(dropped) {
        Ok(dropped @ ..=MAX_PRECISION) => {
            let unit = power_of_ten(dropped);
            mode.divide(value, unit).checked_mul(unit)
        }
        _ => Some(0),
    }
}

fn rescale(value: Option<i128>, from: u8, to: u8) -> Option<i128> {
    let value = value?;
    match to.cmp(&from) {
        std::cmp::Ordering::Less => Some(value / power_of_ten(from - to)),
        std::cmp::Ordering::Equal => Some(value),
        std::cmp::Ordering::Greater => value.checked_mul(power_of_ten(to - from)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use crate::testing::{bigint, decimal, double, int};

    #[test]
    fn doubles_are_rounded_by_their_decimal_text() {
        check(&[
            ("ROUND", &[double(2.675), int(2)], "2.68"),
            ("ROUND", &[double(-2.5)], "-3.0"),
            ("ROUND", &[double(0.499_999_999_999_999_94)], "0.0"),
            ("ROUND", &[double(1234.5), int(-2)], "1200.0"),
            ("ROUND", &[double(1e300), int(2)], "1.0E300"),
            ("ROUND", &[double(1e-300), int(2)], "0.0"),
            ("TRUNCATE", &[double(-2.5), int(0)], "-2.0"),
            ("TRUNCATE", &[double(42.324), int(2)], "42.32"),
        ]);
    }

    #[test]
    fn decimals_get_the_type_that_their_digits_need() {
        check(&[
            ("ROUND", &[decimal("-10.25", 5, 2), int(1)], "-10.3"),
            ("ROUND", &[decimal("999.99", 5, 2), int(1)], "1000.0"),
            ("ROUND", &[decimal("999.99", 5, 2), int(-1)], "1000"),
            ("ROUND", &[decimal("999.99", 5, 2)], "1000"),
            ("TRUNCATE", &[decimal("-10.25", 5, 2), int(1)], "-10.2"),
            ("FLOOR", &[decimal("-10.25", 5, 2)], "-11"),
            ("CEIL", &[decimal("999.99", 5, 2)], "1000"),
            ("SIGN", &[decimal("-10.25", 5, 2)], "-1.00"),
        ]);
    }

    #[test]
    fn whole_numbers_round_in_front_of_the_point_and_wrap() {
        check(&[
            ("ROUND", &[int(125), int(-1)], "130"),
            ("ROUND", &[int(i32::MAX), int(-1)], "-2147483646"),
            ("ABS", &[int(i32::MIN)], "-2147483648"),
            ("ABS", &[bigint(-7)], "7"),
            ("SIGN", &[int(i32::MIN)], "-1"),
        ]);
    }
}
