//! Constants, with the types that Calcite gives them: `1` is an INT, `1.50` a DECIMAL(3, 2), `'abc'` a CHAR(3), none of them null.

use sqlparser::ast::{
    self as tree, DateTimeField, Interval, TypedString, UnaryOperator, Value, ValueWithSpan,
};
use thalweg_functions::{EvaluationEnv, cast, fold_constant};
use thalweg_plan::data_type::TimeKind;
use thalweg_plan::{DataType, Expr, Literal, TypeRoot};

use crate::error::{Position, SqlError, SqlErrorKind};

/// Flink's largest precision of a DECIMAL.
const MAX_PRECISION: usize = 38;

/// A string literal.
pub(crate) fn string(text: &str) -> Expr {
    let length = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
    Expr::literal(
        Literal::String(text.into()),
        DataType::not_null(TypeRoot::Char(length)),
    )
}

/// An INT.
pub(crate) fn int(value: i64) -> Expr {
    Expr::literal(Literal::Int(value), DataType::not_null(TypeRoot::Int))
}

/// TRUE or FALSE.
pub(crate) fn boolean(value: bool) -> Expr {
    Expr::literal(Literal::Boolean(value), DataType::not_null(TypeRoot::Boolean))
}

/// NULL without a type.
pub(crate) fn null() -> Expr {
    Expr::literal(Literal::Null, DataType::nullable(TypeRoot::Null))
}

/// A constant as it is written.
pub(crate) fn value(value: &ValueWithSpan) -> Result<Expr, SqlError> {
    let position = Position::of_span(value.span);
    let expr = match &value.value {
        Value::Null => null(),
        Value::Boolean(value) => boolean(*value),
        Value::SingleQuotedString(text) => string(text),
        Value::Number(text, _) => number(text).ok_or_else(|| {
            SqlError::of_type(
                format!("Numeric literal '{text}' is out of range: at most 38 digits"),
                position,
            )
        })?,
        Value::HexStringLiteral(text) => bytes(text)
            .ok_or_else(|| SqlError::syntax("A binary literal has an even number of hex digits", position))?,
        other => {
            return Err(SqlError::unsupported(
                format!("{other} is not supported"),
                position,
            ));
        }
    };
    Ok(expr.at(position.map(Position::pair)))
}

fn bytes(hex: &str) -> Option<Expr> {
    let pairs = (0..hex.len()).step_by(2).map(|at| {
        let pair = hex.get(at..at + 2)?;
        u8::from_str_radix(pair, 16).ok()
    });
    let bytes: Vec<u8> = pairs.collect::<Option<_>>()?;
    let length = u32::try_from(bytes.len()).ok()?;
    Some(Expr::literal(
        Literal::Bytes(bytes.into()),
        DataType::not_null(TypeRoot::Binary(length)),
    ))
}

/// Precision counts every digit that is written, as Calcite's does: 0.908 is a DECIMAL(4, 3).
fn number(text: &str) -> Option<Expr> {
    if text.contains(['e', 'E']) {
        let value: f64 = text.parse().ok()?;
        return Some(Expr::literal(
            Literal::Double(value),
            DataType::not_null(TypeRoot::Double),
        ));
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = [whole, fraction].concat();
    let unscaled: i128 = digits.parse().ok()?;
    if fraction.is_empty()
        && let Ok(value) = i64::try_from(unscaled)
    {
        let root = if i32::try_from(value).is_ok() {
            TypeRoot::Int
        } else {
            TypeRoot::BigInt
        };
        return Some(Expr::literal(Literal::Int(value), DataType::not_null(root)));
    }
    let precision = digits.len().max(1);
    if precision > MAX_PRECISION {
        return None;
    }
    let root = TypeRoot::Decimal {
        precision: precision as u8,
        scale: fraction.len() as u8,
    };
    Some(Expr::literal(
        Literal::Decimal(unscaled),
        DataType::not_null(root),
    ))
}

/// DATE '..', TIME '..', TIMESTAMP '..'.
pub(crate) fn typed_string(typed: &TypedString, env: &EvaluationEnv) -> Result<Expr, SqlError> {
    let position = Position::of_span(typed.value.span);
    let Value::SingleQuotedString(text) = &typed.value.value else {
        return Err(SqlError::syntax("Expected a string", position));
    };
    let digits = text
        .rsplit_once('.')
        .map_or(0, |(_, fraction)| fraction.len().min(9)) as u8;
    let (name, root) = match typed.data_type {
        tree::DataType::Date => ("DATE", TypeRoot::Date),
        tree::DataType::Time(..) => ("TIME", TypeRoot::Time(digits)),
        _ => ("TIMESTAMP", TypeRoot::Timestamp(digits, TimeKind::Regular)),
    };
    let data_type = DataType::not_null(root);
    let expr = cast(string(text), data_type.clone(), false)
        .ok()
        .and_then(|expr| fold_constant(&expr, env).ok());
    match expr {
        Some(literal) if literal != Literal::Null => {
            Ok(Expr::literal(literal, data_type).at(position.map(Position::pair)))
        }
        _ => Err(SqlError::new(
            SqlErrorKind::Value,
            format!("'{text}' is no {name}: expected {}", form_of(name)),
            position,
        )),
    }
}

fn form_of(name: &str) -> &'static str {
    match name {
        "DATE" => "yyyy-MM-dd",
        "TIME" => "HH:mm:ss[.fraction]",
        _ => "yyyy-MM-dd HH:mm:ss[.fraction]",
    }
}

/// INTERVAL '1 2:03:04.5' DAY TO SECOND: months or milliseconds.
pub(crate) fn interval(interval: &Interval) -> Result<Expr, SqlError> {
    let position = Position::of(&*interval.value);
    let (negative, text) = match &*interval.value {
        tree::Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr,
        } => (true, text_of(expr)),
        expr => (false, text_of(expr)),
    };
    let (Some(text), Some(first)) = (text, &interval.leading_field) else {
        return Err(SqlError::syntax("Expected INTERVAL '..' unit", position));
    };
    let last = interval.last_field.as_ref().unwrap_or(first);
    let parsed = amount(text.trim(), first, last).ok_or_else(|| {
        let units = match interval.last_field {
            Some(_) => format!("{first} TO {last}"),
            None => first.to_string(),
        };
        SqlError::new(
            SqlErrorKind::Value,
            format!("'{text}' is no INTERVAL {units}"),
            position,
        )
    })?;
    let root = match first {
        DateTimeField::Year | DateTimeField::Quarter | DateTimeField::Month => TypeRoot::IntervalYearMonth,
        _ => TypeRoot::IntervalDaySecond,
    };
    let value = if negative { -parsed } else { parsed };
    Ok(Expr::literal(Literal::Int(value), DataType::not_null(root)).at(position.map(Position::pair)))
}

fn text_of(expr: &tree::Expr) -> Option<&str> {
    match expr {
        tree::Expr::Value(ValueWithSpan {
            value: Value::SingleQuotedString(text),
            ..
        }) => Some(text),
        _ => None,
    }
}

/// The units below days, in order, with their milliseconds.
const TIMES: [(DateTimeField, i64); 4] = [
    (DateTimeField::Day, 86_400_000),
    (DateTimeField::Hour, 3_600_000),
    (DateTimeField::Minute, 60_000),
    (DateTimeField::Second, 1_000),
];

fn amount(text: &str, first: &DateTimeField, last: &DateTimeField) -> Option<i64> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let parsed = match (first, last) {
        (DateTimeField::Year, DateTimeField::Month) => {
            let (years, months) = text.split_once('-')?;
            whole(years)?.checked_mul(12)?.checked_add(whole(months)?)?
        }
        (DateTimeField::Year, _) => whole(text)?.checked_mul(12)?,
        (DateTimeField::Quarter, _) => whole(text)?.checked_mul(3)?,
        (DateTimeField::Month, _) => whole(text)?,
        (DateTimeField::Week(_), _) => whole(text)?.checked_mul(7 * 86_400_000)?,
        _ => milliseconds(text, first, last)?,
    };
    Some(if negative { -parsed } else { parsed })
}

fn milliseconds(text: &str, first: &DateTimeField, last: &DateTimeField) -> Option<i64> {
    let place = |field: &DateTimeField| TIMES.iter().position(|(unit, _)| unit == field);
    let units = TIMES.get(place(first)?..=place(last)?)?;
    let (text, fraction) = match text.split_once('.') {
        Some((text, fraction)) if *last == DateTimeField::Second => (text, millis_of(fraction)?),
        Some(_) => return None,
        None => (text, 0),
    };
    let parts: Vec<&str> = text.split([' ', ':']).filter(|part| !part.is_empty()).collect();
    if parts.len() != units.len() {
        return None;
    }
    let sum = parts
        .iter()
        .zip(units)
        .try_fold(0_i64, |sum, (part, (_, millis))| {
            sum.checked_add(whole(part)?.checked_mul(*millis)?)
        })?;
    sum.checked_add(fraction)
}

fn millis_of(fraction: &str) -> Option<i64> {
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain("000".chars()).take(3).collect();
    digits.parse().ok()
}

fn whole(text: &str) -> Option<i64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_types_that_they_need() {
        let shown = |text: &str| {
            let expr = number(text).unwrap();
            (expr.to_string(), expr.data_type.root.to_string())
        };
        assert_eq!(shown("1"), ("1".to_owned(), "INT".to_owned()));
        assert_eq!(shown("3000000000").1, "BIGINT");
        assert_eq!(shown("9999999999999999999").1, "DECIMAL(19, 0)");
        assert_eq!(
            shown("0.908"),
            ("908:DECIMAL(4, 3)".to_owned(), "DECIMAL(4, 3)".to_owned())
        );
        assert_eq!(shown(".5").1, "DECIMAL(1, 1)");
        assert_eq!(shown("1.").1, "INT");
        assert_eq!(shown("1e3"), ("1000.0".to_owned(), "DOUBLE".to_owned()));
        assert!(number(&"9".repeat(39)).is_none());
    }

    #[test]
    fn intervals_are_months_or_milliseconds() {
        use DateTimeField::{Day, Hour, Minute, Month, Second, Year};
        assert_eq!(amount("10", &Second, &Second), Some(10_000));
        assert_eq!(amount("1.5", &Second, &Second), Some(1_500));
        assert_eq!(amount("1 2:03:04.005", &Day, &Second), Some(93_784_005));
        assert_eq!(amount("2:30", &Hour, &Minute), Some(9_000_000));
        assert_eq!(amount("-1-2", &Year, &Month), Some(-14));
        assert_eq!(
            amount("1", &DateTimeField::Week(None), &DateTimeField::Week(None)),
            Some(604_800_000)
        );
        assert_eq!(amount("1:2", &Day, &Day), None);
        assert_eq!(amount("x", &Day, &Day), None);
    }
}
