//! Functions of numbers: powers, logarithms, angles, and digits in other bases.
//!
//! What Flink computes by `java.lang.Math` on doubles is computed on doubles; logarithms of a base are quotients, as in Flink.

use std::f64::consts;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryBuilder, Float64Array};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type};
use thalweg_plan::{Expr, TypeRoot};

use super::support::{
    BYTES, DONE, Kind, STRING, fallible, fixed, literal_int, map_text, numbers, push, texts, write_texts,
};
use crate::common_type::is_character;
use crate::kernel;
use crate::registry::{Call, ScalarFunction, Signature};

/// A function of a double.
macro_rules! of_double {
    ($name:literal, $op:expr) => {
        ScalarFunction {
            name: $name,
            usage: concat!($name, "(number)"),
            infer: |args| fixed(args, &[Kind::Double], 1, TypeRoot::Double),
            kernel: |call| one(call, $op),
            is_deterministic: true,
        }
    };
}

/// A function of two doubles.
macro_rules! of_doubles {
    ($name:literal, $usage:literal, $op:expr) => {
        ScalarFunction {
            name: $name,
            usage: $usage,
            infer: |args| fixed(args, &[Kind::Double, Kind::Double], 2, TypeRoot::Double),
            kernel: |call| two(call, $op),
            is_deterministic: true,
        }
    };
}

/// A constant.
macro_rules! constant {
    ($name:literal, $value:expr) => {
        ScalarFunction {
            name: $name,
            usage: concat!($name, "()"),
            infer: |args| fixed(args, &[], 0, TypeRoot::Double),
            kernel: |call| Ok(Arc::new(Float64Array::from_value($value, call.rows))),
            is_deterministic: true,
        }
    };
}

/// This module's functions.
pub(crate) const FUNCTIONS: &[ScalarFunction] = &[
    of_doubles!("POWER", "POWER(number, exponent)", power),
    of_double!("SQRT", square_root),
    of_double!("EXP", f64::exp),
    of_double!("LN", f64::ln),
    of_double!("LOG10", f64::log10),
    of_double!("LOG2", |x: f64| x.ln() / 2f64.ln()),
    ScalarFunction {
        name: "LOG",
        usage: "LOG([base, ] number)",
        infer: |args| fixed(args, &[Kind::Double, Kind::Double], 1, TypeRoot::Double),
        kernel: |call| match call.args.len() {
            1 => one(call, f64::ln),
            _ => two(call, |base, x| x.ln() / base.ln()),
        },
        is_deterministic: true,
    },
    of_double!("SIN", f64::sin),
    of_double!("COS", f64::cos),
    of_double!("TAN", f64::tan),
    of_double!("COT", |x: f64| 1.0 / x.tan()),
    of_double!("ASIN", f64::asin),
    of_double!("ACOS", f64::acos),
    of_double!("ATAN", f64::atan),
    of_doubles!("ATAN2", "ATAN2(y, x)", f64::atan2),
    of_double!("SINH", f64::sinh),
    of_double!("COSH", f64::cosh),
    of_double!("TANH", f64::tanh),
    of_double!("DEGREES", |x: f64| x * DEGREES_PER_RADIAN),
    of_double!("RADIANS", |x: f64| x * RADIANS_PER_DEGREE),
    constant!("PI", consts::PI),
    constant!("E", consts::E),
    ScalarFunction {
        name: "BIN",
        usage: "BIN(integer)",
        infer: |args| fixed(args, &[Kind::BigInt], 1, STRING),
        kernel: bin,
        is_deterministic: true,
    },
    ScalarFunction {
        name: "HEX",
        usage: "HEX(integer or string)",
        infer: infer_hex,
        kernel: hex,
        is_deterministic: true,
    },
    ScalarFunction {
        name: "UNHEX",
        usage: "UNHEX(string)",
        infer: |args| fallible(args, &[Kind::Text], 1, BYTES),
        kernel: unhex,
        is_deterministic: true,
    },
    ScalarFunction {
        name: "RAND",
        usage: "RAND([seed])",
        infer: |args| {
            refuse_constant_seed(args, 1)?;
            fixed(args, &[Kind::Int], 0, TypeRoot::Double)
        },
        kernel: rand,
        is_deterministic: false,
    },
    ScalarFunction {
        name: "RAND_INTEGER",
        usage: "RAND_INTEGER([seed, ] bound)",
        infer: |args| {
            refuse_constant_seed(args, 2)?;
            fixed(args, &[Kind::Int, Kind::Int], 1, TypeRoot::Int)
        },
        kernel: rand_integer,
        is_deterministic: false,
    },
];

/// Those of `java.lang.Math`.
const DEGREES_PER_RADIAN: f64 = 57.295_779_513_082_32;
const RADIANS_PER_DEGREE: f64 = 0.017_453_292_519_943_295;

fn one(call: &Call<'_>, op: impl Fn(f64) -> f64) -> Result<ArrayRef, String> {
    let [arg] = call.args else {
        return Err("one argument is needed".into());
    };
    Ok(Arc::new(kernel::unary::<Float64Type, Float64Type>(arg, op)))
}

fn two(call: &Call<'_>, op: impl Fn(f64, f64) -> f64) -> Result<ArrayRef, String> {
    let [left, right] = call.args else {
        return Err("two arguments are needed".into());
    };
    Ok(Arc::new(kernel::binary::<Float64Type, Float64Type, Float64Type>(
        left, right, op,
    )))
}

/// `Math.pow`: other than C's, 1 to the power of NaN or infinity is NaN.
fn power(base: f64, exponent: f64) -> f64 {
    if exponent.is_nan() || (base.abs() == 1.0 && exponent.is_infinite()) {
        return f64::NAN;
    }
    base.powf(exponent)
}

/// Flink computes `Math.pow(x, 0.5)`, whose values differ from a root's for the negative ends.
fn square_root(x: f64) -> f64 {
    match x {
        f64::NEG_INFINITY => f64::INFINITY,
        x => x.sqrt() + 0.0,
    }
}

fn bin(call: &Call<'_>) -> Result<ArrayRef, String> {
    use std::fmt::Write;
    let values = numbers::<Int64Type>(call, 0)?;
    write_texts(call.rows, call.rows * 16, |row, out| {
        let Some(value) = values.get(row) else {
            return Ok(None);
        };
        let _infallible = write!(out, "{value:b}");
        DONE
    })
}

fn infer_hex(args: &[Expr]) -> Result<Signature, String> {
    match args {
        [arg] if is_character(&arg.data_type.root) => fixed(args, &[Kind::Text], 1, STRING),
        _ => fixed(args, &[Kind::BigInt], 1, STRING).map_err(|_| "(BIGINT) or (STRING)".into()),
    }
}

fn hex(call: &Call<'_>) -> Result<ArrayRef, String> {
    use std::fmt::Write;
    if call
        .args
        .first()
        .is_some_and(|arg| arg.array().as_string_opt::<i32>().is_some())
    {
        return map_text(call, |text, out| {
            push_hex(out, text.as_bytes(), b"0123456789ABCDEF");
            DONE
        });
    }
    let values = numbers::<Int64Type>(call, 0)?;
    write_texts(call.rows, call.rows * 8, |row, out| {
        let Some(value) = values.get(row) else {
            return Ok(None);
        };
        let _infallible = write!(out, "{value:X}");
        DONE
    })
}

/// Two digits a byte.
pub(super) fn push_hex(out: &mut arrow::array::StringBuilder, bytes: &[u8], digits: &[u8; 16]) {
    for byte in bytes {
        let pair = [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]];
        push(out, std::str::from_utf8(&pair).unwrap_or_default());
    }
}

/// An odd first digit is a byte of its own; what has other characters is null.
fn unhex(call: &Call<'_>) -> Result<ArrayRef, String> {
    let input = texts(call, 0)?;
    let mut out = BinaryBuilder::with_capacity(call.rows, input.bytes(call.rows) / 2 + 1);
    let mut bytes = Vec::new();
    for row in 0..call.rows {
        bytes.clear();
        match input
            .get(row)
            .and_then(|text| push_unhex(text.as_bytes(), &mut bytes))
        {
            Some(()) => out.append_value(&bytes),
            None => out.append_null(),
        }
    }
    Ok(Arc::new(out.finish()))
}

fn push_unhex(mut digits: &[u8], bytes: &mut Vec<u8>) -> Option<()> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    if let ([first, rest @ ..], 1) = (digits, digits.len() % 2) {
        bytes.push(digit(*first)?);
        digits = rest;
    }
    for pair in digits.chunks_exact(2) {
        bytes.push(digit(pair[0])? << 4 | digit(pair[1])?);
    }
    Some(())
}

/// With a constant seed Flink draws one number after the other from a generator that begins anew when the task does: no function of rows.
fn refuse_constant_seed(args: &[Expr], with_seed: usize) -> Result<(), String> {
    match args.first().and_then(literal_int) {
        Some(_) if args.len() == with_seed => {
            Err("a random number with a constant seed is not supported: leave the seed out".into())
        }
        _ => Ok(()),
    }
}

/// The generator of `java.util.Random`.
struct JavaRandom(u64);

impl JavaRandom {
    fn new(seed: i64) -> Self {
        Self((seed as u64 ^ 0x5_DEEC_E66D) & ((1 << 48) - 1))
    }

    fn next(&mut self, bits: u32) -> i32 {
        self.0 = (self.0.wrapping_mul(0x5_DEEC_E66D).wrapping_add(0xB)) & ((1 << 48) - 1);
        (self.0 >> (48 - bits)) as i32
    }

    fn next_double(&mut self) -> f64 {
        let high = i64::from(self.next(26)) << 27;
        (high + i64::from(self.next(27))) as f64 / (1u64 << 53) as f64
    }

    fn next_int(&mut self, bound: i32) -> Result<i32, String> {
        if bound <= 0 {
            return Err(format!("bound must be positive, it is {bound}"));
        }
        let mut bits = self.next(31);
        if bound & (bound - 1) == 0 {
            return Ok(((i64::from(bound) * i64::from(bits)) >> 31) as i32);
        }
        loop {
            let value = bits % bound;
            if bits.wrapping_sub(value).wrapping_add(bound - 1) >= 0 {
                return Ok(value);
            }
            bits = self.next(31);
        }
    }
}

/// A seed that nothing else has.
fn fresh_seed() -> i64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0u8) as i64
}

fn rand(call: &Call<'_>) -> Result<ArrayRef, String> {
    if call.args.is_empty() {
        let mut random = JavaRandom::new(fresh_seed());
        let values: Float64Array = (0..call.rows).map(|_| Some(random.next_double())).collect();
        return Ok(Arc::new(values));
    }
    let seeds = numbers::<Int32Type>(call, 0)?;
    super::support::numbers_of::<Float64Type>(call.rows, |row| {
        Ok(seeds
            .get(row)
            .map(|seed| JavaRandom::new(seed.into()).next_double()))
    })
}

fn rand_integer(call: &Call<'_>) -> Result<ArrayRef, String> {
    let bounds = numbers::<Int32Type>(call, call.args.len() - 1)?;
    let mut random = JavaRandom::new(fresh_seed());
    let seeds = match call.args.len() {
        2 => Some(numbers::<Int32Type>(call, 0)?),
        _ => None,
    };
    super::support::numbers_of::<Int32Type>(call.rows, |row| {
        let Some(bound) = bounds.get(row) else {
            return Ok(None);
        };
        match &seeds {
            None => random.next_int(bound).map(Some),
            Some(seeds) => match seeds.get(row) {
                Some(seed) => JavaRandom::new(seed.into()).next_int(bound).map(Some),
                None => Ok(None),
            },
        }
    })
}
