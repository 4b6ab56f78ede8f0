//! CAST and TRY_CAST: Flink's matrix of types, value for value (without its legacy behaviour).
//!
//! ```text
//!   types --Cast::compile, once--> a function of columns --apply, once a batch--> a column
//! ```
//!
//! A value that can't be cast fails a CAST and is null in a TRY_CAST. A number that has too many digits for a DECIMAL is null in both.

pub(crate) mod calendar;
mod nested;
mod number;
mod parse;
mod print;
mod rules;
mod temporal;
#[cfg(test)]
mod tests;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, new_null_array};
use std::sync::Arc;
use thalweg_plan::{DataType, TypeRoot};

use crate::common_type::{is_binary, is_character, is_numeric};
use crate::registry::EvaluationEnv;
use crate::zone::Zone;

pub(crate) use number::Rescale;
pub(crate) use parse::{parse_date, parse_timestamp};
pub(crate) use rules::{allows_explicit, allows_implicit, gives_null, is_total, refusal};

/// Casts a column.
type Apply = Box<dyn Fn(&ArrayRef, &EvaluationEnv) -> Result<ArrayRef, String> + Send + Sync>;

/// A cast of one type to another.
pub(crate) struct Cast {
    apply: Apply,
}

impl std::fmt::Debug for Cast {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cast")
    }
}

impl Cast {
    /// The cast of these types. The error says which there is not.
    pub(crate) fn compile(
        from: &DataType,
        to: &DataType,
        is_try: bool,
        env: &EvaluationEnv,
    ) -> Result<Self, String> {
        // Of a nested value one part that fails makes all of it null.
        let is_nested = matches!(
            from.root,
            TypeRoot::Array(_) | TypeRoot::Map(..) | TypeRoot::Multiset(_) | TypeRoot::Row(_)
        );
        let apply = compile(&from.root, &to.root, is_try && !is_nested, env)
            .ok_or_else(|| format!("a value of type {} can't be cast to {}", from.root, to.root))??;
        let apply = if is_try && is_nested {
            nested::row_by_row(apply, to.to_arrow())
        } else {
            apply
        };
        Ok(Self { apply })
    }

    /// The values, cast. The error names the first that can't be.
    pub(crate) fn apply(&self, array: &ArrayRef, env: &EvaluationEnv) -> Result<ArrayRef, String> {
        (self.apply)(array, env)
    }
}

/// `None`: there is no such cast.
fn compile(
    from: &TypeRoot,
    to: &TypeRoot,
    is_try: bool,
    env: &EvaluationEnv,
) -> Option<Result<Apply, String>> {
    use TypeRoot::{
        Array, Boolean, Date, IntervalDaySecond, IntervalYearMonth, Map, Multiset, Null, Row, Time,
        Timestamp, TimestampLtz,
    };
    let is_interval = |root: &TypeRoot| matches!(root, IntervalYearMonth | IntervalDaySecond);
    let cast = match (from, to) {
        (from, to) if is_character(from) && is_character(to) => print::fit_text(from, to),
        (from, to) if from == to => Box::new(|array: &ArrayRef, _: &EvaluationEnv| Ok(Arc::clone(array))),
        (Null, to) => {
            let to = to.clone();
            Box::new(move |array: &ArrayRef, _: &EvaluationEnv| {
                Ok(new_null_array(
                    &DataType::nullable(to.clone()).to_arrow(),
                    array.len(),
                ))
            })
        }
        (from, to) if is_character(from) => match parse::compile(to, is_try, env)? {
            Ok(cast) => cast,
            Err(error) => return Some(Err(error)),
        },
        (from, to) if is_character(to) => match print::compile(from, to, env) {
            Ok(cast) => cast,
            Err(error) => return Some(Err(error)),
        },
        (from, to) if is_binary(from) && is_binary(to) => print::fit_bytes(from, to),
        (from, to)
            if (is_numeric(from) || *from == Boolean || is_interval(from))
                && (is_numeric(to) || *to == Boolean || is_interval(to)) =>
        {
            number::compile(from, to, is_try)?
        }
        (
            Date | Time(_) | Timestamp(..) | TimestampLtz(..),
            Date | Time(_) | Timestamp(..) | TimestampLtz(..),
        ) => match temporal::compile(from, to, env)? {
            Ok(cast) => cast,
            Err(error) => return Some(Err(error)),
        },
        (Array(_) | Map(..) | Multiset(_) | Row(_), to) => match nested::compile(from, to, is_try, env)? {
            Ok(cast) => cast,
            Err(error) => return Some(Err(error)),
        },
        _ => return None,
    };
    Some(Ok(cast))
}

/// Casts number by number; a failure is null in a TRY_CAST.
fn each<I, O>(
    array: &ArrayRef,
    is_try: bool,
    cast: impl Fn(I::Native) -> Result<Option<O::Native>, String>,
) -> Result<PrimitiveArray<O>, String>
where
    I: ArrowPrimitiveType,
    O: ArrowPrimitiveType,
{
    let array = array.as_primitive::<I>();
    let values = array.values();
    crate::kernel::collect(array.len(), array.nulls().cloned(), |row| {
        tried(cast(values[row]), is_try)
    })
}

/// A failure that a TRY_CAST makes null.
fn tried<T>(result: Result<Option<T>, String>, is_try: bool) -> Result<Option<T>, String> {
    match result {
        Err(_) if is_try => Ok(None),
        result => result,
    }
}

/// `table.local-time-zone`.
pub(crate) fn session_zone(env: &EvaluationEnv) -> Result<Zone, String> {
    Zone::parse(&env.time_zone).ok_or_else(|| {
        format!(
            "table.local-time-zone is '{}', which is no zone like 'Europe/Berlin' or 'GMT+02:00'",
            env.time_zone
        )
    })
}
