//! Which casts Flink makes by itself, and which when they're written.

use thalweg_plan::TypeRoot;

use crate::common_type::{decimal_of, is_binary, is_character, is_integer, is_numeric};
use crate::registry::ResolveError;
use crate::resolve::type_name;

/// Casts that are made without being written.
pub(crate) fn allows_implicit(from: &TypeRoot, to: &TypeRoot) -> bool {
    use TypeRoot::{
        Array, BigInt, Boolean, Char, Date, Decimal, Double, Float, Int, Map, Multiset, Null, Row, SmallInt,
        Time, Timestamp, TimestampLtz, TinyInt, VarBinary, VarChar,
    };
    if from == to || *from == Null {
        return true;
    }
    match to {
        Null | Boolean | TinyInt => false,
        Char(_) => matches!(from, Char(_)),
        VarChar(_) => is_character(from),
        TypeRoot::Binary(_) => matches!(from, TypeRoot::Binary(_)),
        VarBinary(_) => is_binary(from),
        SmallInt => *from == TinyInt,
        Int => matches!(from, TinyInt | SmallInt),
        BigInt => is_integer(from),
        Float => decimal_of(from).is_some(),
        Double | Decimal { .. } => is_numeric(from),
        Date => matches!(from, Timestamp(..)),
        Time(_) => matches!(from, Time(_) | Timestamp(..)),
        Timestamp(..) | TimestampLtz(..) => matches!(from, Timestamp(..) | TimestampLtz(..)),
        TypeRoot::IntervalYearMonth | TypeRoot::IntervalDaySecond => false,
        Array(_) | Map(..) | Multiset(_) | Row(_) => nested(from, to, allows_implicit),
    }
}

/// Casts that may be written.
pub(crate) fn allows_explicit(from: &TypeRoot, to: &TypeRoot) -> bool {
    use TypeRoot::{
        Array, Boolean, Date, IntervalDaySecond, IntervalYearMonth, Map, Multiset, Row, Time, Timestamp,
        TimestampLtz,
    };
    if allows_implicit(from, to) {
        return true;
    }
    match to {
        to if is_character(to) => *from != TypeRoot::Null,
        Boolean => is_character(from) || is_numeric(from),
        to if is_binary(to) => is_character(from) || is_binary(from),
        to if is_integer(to) => is_numeric(from) || is_character(from) || *from == Boolean,
        TypeRoot::Decimal { .. } => is_character(from) || *from == Boolean,
        TypeRoot::Float | TypeRoot::Double => is_numeric(from) || is_character(from) || *from == Boolean,
        Date => is_character(from) || matches!(from, TimestampLtz(..)),
        Time(_) => is_character(from) || matches!(from, TimestampLtz(..)),
        Timestamp(..) | TimestampLtz(..) => is_character(from) || matches!(from, Date | Time(_)),
        IntervalYearMonth | IntervalDaySecond => is_integer(from),
        Array(_) | Map(..) | Multiset(_) | Row(_) => nested(from, to, allows_explicit),
        _ => false,
    }
}

/// Whether all parts may be cast.
fn nested(from: &TypeRoot, to: &TypeRoot, allows: fn(&TypeRoot, &TypeRoot) -> bool) -> bool {
    use TypeRoot::{Array, Map, Multiset, Row};
    match (from, to) {
        (Array(a), Array(b)) | (Multiset(a), Multiset(b)) => allows(&a.root, &b.root),
        (Map(k, v), Map(l, w)) => allows(&k.root, &l.root) && allows(&v.root, &w.root),
        (Row(a), Row(b)) => {
            a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .all(|(a, b)| allows(&a.data_type.root, &b.data_type.root))
        }
        _ => false,
    }
}

/// Why a cast can't be written.
pub(crate) fn refusal(from: &TypeRoot, to: &TypeRoot) -> ResolveError {
    let is_timestamp = |root: &TypeRoot| matches!(root, TypeRoot::Timestamp(..) | TypeRoot::TimestampLtz(..));
    let advice = match (from, to) {
        (from, TypeRoot::Timestamp(..)) if is_numeric(from) => {
            "The cast from NUMERIC type to TIMESTAMP type is not allowed. It's recommended to use \
             TO_TIMESTAMP(FROM_UNIXTIME(numeric_col)) instead, note the numeric is in seconds."
        }
        (from, TypeRoot::TimestampLtz(..)) if is_numeric(from) => {
            "The cast from NUMERIC type to TIMESTAMP_LTZ type is not allowed. It's recommended to use TO_TIMESTAMP_LTZ(numeric_col, \
             precision) instead."
        }
        (from, to) if is_timestamp(from) && is_numeric(to) => {
            "The cast from TIMESTAMP type to NUMERIC type is not allowed. It's recommended to use UNIX_TIMESTAMP(CAST(timestamp_col AS \
             STRING)) instead."
        }
        _ => "",
    };
    match advice {
        "" => ResolveError::arguments(format!(
            "Cast function cannot convert value of type {} to type {}",
            type_name(from),
            type_name(to)
        )),
        advice => ResolveError::arguments(advice),
    }
}

/// Casts that give null for some values that are not null.
pub(crate) fn gives_null(from: &TypeRoot, to: &TypeRoot) -> bool {
    let TypeRoot::Decimal { precision, scale } = to else {
        return false;
    };
    match decimal_of(from) {
        Some((p, s)) => p.saturating_sub(s) > precision - scale || (s > *scale && p - s == precision - scale),
        None => true,
    }
}

/// Casts that have a value for every value and are quick.
pub(crate) fn is_total(from: &TypeRoot, to: &TypeRoot) -> bool {
    let is_timestamp = |root: &TypeRoot| matches!(root, TypeRoot::Timestamp(..));
    from == to
        || (is_numeric(from) && is_numeric(to))
        || (is_character(from) && is_character(to))
        || (is_timestamp(from) && *to == TypeRoot::Date)
}
