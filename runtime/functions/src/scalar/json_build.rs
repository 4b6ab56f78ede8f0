//! JSON of values: JSON_OBJECT, JSON_ARRAY, JSON_STRING, JSON.
//!
//! A value that is itself JSON (a call of JSON_OBJECT, JSON_ARRAY or JSON) stands in another as it is, not as a text. The planner
//! marks such arguments by a row around them, see [`prepare`].

use std::fmt::Write;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, StringBuilder};
use arrow::datatypes::{
    Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thalweg_formats::text::{date_of_days, instant_of, write_double, write_float};
use thalweg_plan::data_type::time_unit;
use thalweg_plan::{DataType, Expr, ExprKind, Field, TypeRoot};

use super::json_tree::{Json, write_number, write_string};
use super::support::{DONE, Kind, STRING, any_nullable, fallible, map_text, push, texts, write_texts};
use crate::common_type::is_character;
use crate::registry::{Call, ScalarFunction, Signature, Value};

/// This module's functions.
pub(crate) const FUNCTIONS: &[ScalarFunction] = &[
    ScalarFunction {
        name: "JSON_OBJECT",
        usage: "JSON_OBJECT([KEY] key VALUE value, .. [{NULL | ABSENT} ON NULL])",
        infer: infer_object,
        kernel: object,
        is_deterministic: true,
    },
    ScalarFunction {
        name: "JSON_ARRAY",
        usage: "JSON_ARRAY(value, .. [{NULL | ABSENT} ON NULL])",
        infer: infer_array,
        kernel: array,
        is_deterministic: true,
    },
    ScalarFunction {
        name: "JSON_STRING",
        usage: "JSON_STRING(value)",
        infer: infer_string,
        kernel: string,
        is_deterministic: true,
    },
    ScalarFunction {
        name: "JSON",
        usage: "JSON(string)",
        infer: |args| fallible(args, &[Kind::Text], 1, STRING),
        kernel: json,
        is_deterministic: true,
    },
];

/// The field of the row around JSON.
const RAW: &str = "$json";

/// Marks arguments that are JSON already.
pub(super) fn prepare(function: &str, args: Vec<Expr>) -> Vec<Expr> {
    if !matches!(function, "JSON_OBJECT" | "JSON_ARRAY") {
        return args;
    }
    let is_json = |arg: &Expr| matches!(&arg.kind, ExprKind::Call { function, .. } if matches!(&**function, "JSON_OBJECT" | "JSON_ARRAY" | "JSON"));
    args.into_iter()
        .map(|arg| {
            if !is_json(&arg) {
                return arg;
            }
            let row = TypeRoot::Row(vec![Field::new(RAW, arg.data_type.clone())]);
            Expr::call("ROW", vec![arg], DataType::not_null(row))
        })
        .collect()
}

/// Whether there is JSON of a type.
fn check(root: &TypeRoot) -> Result<(), String> {
    match root {
        TypeRoot::Array(element) => check(&element.root),
        TypeRoot::Map(key, value) if is_character(&key.root) => check(&value.root),
        TypeRoot::Multiset(key) if is_character(&key.root) => Ok(()),
        TypeRoot::Row(fields) => fields.iter().try_for_each(|field| check(&field.data_type.root)),
        TypeRoot::Map(..)
        | TypeRoot::Multiset(_)
        | TypeRoot::Date
        | TypeRoot::Time(_)
        | TypeRoot::IntervalDaySecond
        | TypeRoot::IntervalYearMonth => Err(format!("Type '{root}' cannot be converted into JSON")),
        _ => Ok(()),
    }
}

fn signature(args: &[Expr], is_value: impl Fn(usize) -> bool, result: DataType) -> Result<Signature, String> {
    let mut types = Vec::with_capacity(args.len());
    for (place, arg) in args.iter().enumerate() {
        if is_value(place) {
            check(&arg.data_type.root)?;
        } else if !is_character(&arg.data_type.root) {
            return Err("keys of JSON_OBJECT are texts".into());
        }
        types.push(arg.data_type.clone().materialized());
    }
    Ok(Signature { args: types, result })
}

fn infer_object(args: &[Expr]) -> Result<Signature, String> {
    if args.len().is_multiple_of(2) {
        return Err("(key VALUE value, ..)".into());
    }
    signature(
        args,
        |place| place > 0 && place % 2 == 0,
        DataType::not_null(STRING),
    )
}

fn infer_array(args: &[Expr]) -> Result<Signature, String> {
    signature(args, |place| place > 0, DataType::not_null(STRING))
}

fn infer_string(args: &[Expr]) -> Result<Signature, String> {
    let [_] = args else {
        return Err("(ANY)".into());
    };
    let result = DataType {
        root: STRING,
        nullable: any_nullable(args),
    };
    signature(args, |_| true, result)
}

/// ABSENT ON NULL.
fn leaves_out(call: &Call<'_>) -> Result<bool, String> {
    Ok(texts(call, 0)?.constant() == Some("ABSENT"))
}

fn is_null(value: &Value, row: usize) -> bool {
    value.array().is_null(value.index(row)) || value.is_null_scalar()
}

/// Keys in order; of one that is there twice the last value counts.
fn object(call: &Call<'_>) -> Result<ArrayRef, String> {
    let absent = leaves_out(call)?;
    let keys = (1..call.args.len())
        .step_by(2)
        .map(|place| texts(call, place))
        .collect::<Result<Vec<_>, _>>()?;
    let mut entries: Vec<(&str, usize)> = Vec::with_capacity(keys.len());
    write_texts(call.rows, call.rows * 16, |row, out| {
        entries.clear();
        for (place, key) in keys.iter().enumerate() {
            let key = key
                .get(row)
                .ok_or("a key is null, which JSON_OBJECT doesn't allow")?;
            let value = 2 * place + 2;
            if absent && is_null(&call.args[value], row) {
                continue;
            }
            match entries.iter_mut().find(|(known, _)| *known == key) {
                Some(entry) => entry.1 = value,
                None => entries.push((key, value)),
            }
        }
        entries.sort_by(|(left, _), (right, _)| left.encode_utf16().cmp(right.encode_utf16()));
        push(out, "{");
        for (place, (key, value)) in entries.iter().enumerate() {
            if place > 0 {
                push(out, ",");
            }
            write_string(out, key).map_err(failed)?;
            push(out, ":");
            write_argument(out, call, *value, row)?;
        }
        push(out, "}");
        DONE
    })
}

fn array(call: &Call<'_>) -> Result<ArrayRef, String> {
    let absent = leaves_out(call)?;
    write_texts(call.rows, call.rows * 16, |row, out| {
        push(out, "[");
        let mut is_first = true;
        for value in 1..call.args.len() {
            if absent && is_null(&call.args[value], row) {
                continue;
            }
            if !is_first {
                push(out, ",");
            }
            is_first = false;
            write_argument(out, call, value, row)?;
        }
        push(out, "]");
        DONE
    })
}

fn string(call: &Call<'_>) -> Result<ArrayRef, String> {
    write_texts(call.rows, call.rows * 16, |row, out| {
        if call.args.first().is_none_or(|value| is_null(value, row)) {
            return Ok(None);
        }
        write_argument(out, call, 0, row)?;
        DONE
    })
}

/// The same JSON, with keys in order; nothing is null.
fn json(call: &Call<'_>) -> Result<ArrayRef, String> {
    map_text(call, |text, out| {
        let trimmed = text.trim_matches(|character: char| character <= ' ');
        if trimmed.is_empty() {
            return Ok(None);
        }
        let value = Json::parse(trimmed)
            .ok_or_else(|| format!("Invalid JSON string in JSON(value) function: \"{text}\"."))?;
        value.write(out).map_err(failed)?;
        DONE
    })
}

fn failed(error: std::fmt::Error) -> String {
    error.to_string()
}

fn write_argument(out: &mut StringBuilder, call: &Call<'_>, place: usize, row: usize) -> Result<(), String> {
    let (Some(value), Some(data_type)) = (call.args.get(place), call.arg_types.get(place)) else {
        return Err(format!("argument {place} is missing"));
    };
    write_value(out, value.array(), &data_type.root, value.index(row))
}

fn write_value(out: &mut StringBuilder, array: &ArrayRef, root: &TypeRoot, row: usize) -> Result<(), String> {
    if *root == TypeRoot::Null || array.is_null(row) {
        push(out, "null");
        return Ok(());
    }
    match root {
        TypeRoot::Boolean => push(
            out,
            if array.as_boolean().value(row) {
                "true"
            } else {
                "false"
            },
        ),
        TypeRoot::TinyInt => number::<Int8Type>(out, array, row)?,
        TypeRoot::SmallInt => number::<Int16Type>(out, array, row)?,
        TypeRoot::Int => number::<Int32Type>(out, array, row)?,
        TypeRoot::BigInt => number::<Int64Type>(out, array, row)?,
        TypeRoot::Float => {
            let value = array.as_primitive::<Float32Type>().value(row);
            let mut text = Vec::new();
            match value.is_finite() {
                true => write_double(&mut text, value.into()),
                false => write_float(&mut text, value),
            }
            write_java_number(out, &text, value.is_finite())?;
        }
        TypeRoot::Double => {
            let value = array.as_primitive::<Float64Type>().value(row);
            let mut text = Vec::new();
            write_double(&mut text, value);
            write_java_number(out, &text, value.is_finite())?;
        }
        TypeRoot::Decimal { scale, .. } => {
            write_decimal(out, array.as_primitive::<Decimal128Type>().value(row), *scale)?;
        }
        TypeRoot::Char(_) | TypeRoot::VarChar(_) => {
            write_string(out, array.as_string::<i32>().value(row)).map_err(failed)?;
        }
        TypeRoot::Binary(_) | TypeRoot::VarBinary(_) => {
            let encoded = STANDARD.encode(array.as_binary::<i32>().value(row));
            write_string(out, &encoded).map_err(failed)?;
        }
        TypeRoot::Timestamp(precision, _) => write_time(out, array, *precision, row, "")?,
        TypeRoot::TimestampLtz(precision, _) => write_time(out, array, *precision, row, "Z")?,
        TypeRoot::Array(element) => {
            let items = array.as_list::<i32>().value(row);
            push(out, "[");
            for item in 0..items.len() {
                if item > 0 {
                    push(out, ",");
                }
                write_value(out, &items, &element.root, item)?;
            }
            push(out, "]");
        }
        TypeRoot::Row(fields) => match fields.as_slice() {
            [raw] if raw.name == RAW => {
                let texts = array.as_struct().column(0).as_string::<i32>();
                push(
                    out,
                    if texts.is_null(row) {
                        "null"
                    } else {
                        texts.value(row)
                    },
                );
            }
            fields => write_row(out, array, fields, row)?,
        },
        TypeRoot::Map(_, value) => write_map(out, array, &value.root, row)?,
        TypeRoot::Multiset(_) => write_map(out, array, &TypeRoot::Int, row)?,
        other => return Err(format!("type '{other}' cannot be converted into JSON")),
    }
    Ok(())
}

fn number<T: ArrowPrimitiveType>(out: &mut StringBuilder, array: &ArrayRef, row: usize) -> Result<(), String>
where
    T::Native: std::fmt::Display,
{
    write!(out, "{}", array.as_primitive::<T>().value(row)).map_err(failed)
}

/// Jackson keeps doubles as decimals of their shortest text; what is no number is a text.
fn write_java_number(out: &mut StringBuilder, text: &[u8], is_finite: bool) -> Result<(), String> {
    let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
    match is_finite {
        true => write_number(out, text),
        false => write_string(out, text),
    }
    .map_err(failed)
}

/// Jackson drops zeros at the end of a decimal.
fn write_decimal(out: &mut StringBuilder, mut unscaled: i128, scale: u8) -> Result<(), String> {
    let mut scale = i32::from(scale);
    if unscaled == 0 {
        push(out, "0");
        return Ok(());
    }
    while unscaled % 10 == 0 {
        unscaled /= 10;
        scale -= 1;
    }
    write_number(out, &format!("{unscaled}e{}", -scale)).map_err(failed)
}

/// As `ISO_LOCAL_DATE_TIME`.
fn write_time(
    out: &mut StringBuilder,
    array: &ArrayRef,
    precision: u8,
    row: usize,
    zone: &str,
) -> Result<(), String> {
    let unit = time_unit(precision);
    let value = match unit {
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().value(row),
        TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().value(row),
        _ => array.as_primitive::<TimestampMillisecondType>().value(row),
    };
    let instant = instant_of(value, unit);
    let (year, month, day) = date_of_days(instant.seconds.div_euclid(86_400));
    let second = instant.seconds.rem_euclid(86_400);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    write!(
        out,
        "\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
    )
    .map_err(failed)?;
    if instant.nanos > 0 {
        let fraction = format!("{:09}", instant.nanos);
        write!(out, ".{}", fraction.trim_end_matches('0')).map_err(failed)?;
    }
    write!(out, "{zone}\"").map_err(failed)
}

fn write_row(out: &mut StringBuilder, array: &ArrayRef, fields: &[Field], row: usize) -> Result<(), String> {
    let columns = array.as_struct().columns();
    let mut order: Vec<(&Field, &ArrayRef)> = fields.iter().zip(columns).collect();
    order.sort_by(|(left, _), (right, _)| left.name.encode_utf16().cmp(right.name.encode_utf16()));
    push(out, "{");
    for (place, (field, column)) in order.into_iter().enumerate() {
        if place > 0 {
            push(out, ",");
        }
        write_string(out, &field.name).map_err(failed)?;
        push(out, ":");
        write_value(out, column, &field.data_type.root, row)?;
    }
    push(out, "}");
    Ok(())
}

fn write_map(out: &mut StringBuilder, array: &ArrayRef, value: &TypeRoot, row: usize) -> Result<(), String> {
    let entries = array.as_map().value(row);
    let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1));
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by(|&left, &right| {
        keys.value(left)
            .encode_utf16()
            .cmp(keys.value(right).encode_utf16())
    });
    push(out, "{");
    for (place, entry) in order.into_iter().enumerate() {
        if place > 0 {
            push(out, ",");
        }
        write_string(out, keys.value(entry)).map_err(failed)?;
        push(out, ":");
        write_value(out, values, value, entry)?;
    }
    push(out, "}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use crate::resolve_scalar;
    use crate::testing::{decimal, double, int, null, text, timestamp};
    use thalweg_plan::{Expr, TypeRoot};

    fn call(function: &str, args: Vec<Expr>) -> Expr {
        resolve_scalar(function, args, None).unwrap()
    }

    #[test]
    fn objects_have_their_keys_in_order_and_json_in_them_as_it_is() {
        let none = || null(TypeRoot::VarChar(9));
        let inner = call("JSON_ARRAY", vec![text("NULL"), int(1), text("x"), none()]);
        check(&[
            (
                "JSON_OBJECT",
                &[text("NULL"), text("b"), int(1), text("a"), inner],
                r#"{"a":[1,"x",null],"b":1}"#,
            ),
            ("JSON_OBJECT", &[text("ABSENT"), text("b"), none()], "{}"),
            ("JSON_OBJECT", &[text("NULL"), text("b"), none()], r#"{"b":null}"#),
            ("JSON_OBJECT", &[text("NULL")], "{}"),
            ("JSON_ARRAY", &[text("ABSENT"), int(1), none()], "[1]"),
        ]);
    }

    #[test]
    fn values_are_written_as_jackson_does() {
        let array = call("ARRAY", vec![text("b"), text("a")]);
        let map = call("MAP", vec![text("b"), int(1), text("a"), int(2)]);
        check(&[
            ("JSON_STRING", &[text("a\"b")], r#""a\"b""#),
            ("JSON_STRING", &[null(TypeRoot::VarChar(9))], "NULL"),
            ("JSON_STRING", &[decimal("1.50", 5, 2)], "1.5"),
            ("JSON_STRING", &[double(0.5)], "0.5"),
            (
                "JSON_STRING",
                &[timestamp("2024-02-29 23:59:59.120", 3)],
                r#""2024-02-29T23:59:59.12""#,
            ),
            ("JSON_STRING", &[array], r#"["b","a"]"#),
            ("JSON_STRING", &[map], r#"{"a":2,"b":1}"#),
            ("JSON", &[text(r#"{"b": 1, "a": 2}"#)], r#"{"a":2,"b":1}"#),
            ("JSON", &[text("{")], "error: Invalid JSON string"),
        ]);
    }
}
