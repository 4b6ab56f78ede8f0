//! The current time. In streams it is read when a batch of rows is computed, in batch mode it is the statement's.

use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Time32MillisecondArray, TimestampMillisecondArray};
use thalweg_plan::data_type::TimeKind;
use thalweg_plan::{DataType, Expr, TypeRoot};

use super::units::MILLIS_PER_DAY;
use crate::casts::session_zone;
use crate::registry::{Call, ScalarFunction, Signature};

/// A function without arguments.
macro_rules! now {
    ($name:literal, $usage:literal, $root:expr, $kernel:expr) => {
        ScalarFunction {
            name: $name,
            usage: $usage,
            infer: |args| infer(args, $root),
            kernel: $kernel,
            is_deterministic: false,
        }
    };
}

const INSTANT: TypeRoot = TypeRoot::TimestampLtz(3, TimeKind::Regular);

/// This module's functions.
pub(crate) const FUNCTIONS: &[ScalarFunction] = &[
    now!("CURRENT_DATE", "CURRENT_DATE", TypeRoot::Date, current_date),
    now!("CURRENT_TIME", "CURRENT_TIME", TypeRoot::Time(0), current_time),
    now!("LOCALTIME", "LOCALTIME", TypeRoot::Time(0), current_time),
    now!(
        "LOCALTIMESTAMP",
        "LOCALTIMESTAMP",
        TypeRoot::Timestamp(3, TimeKind::Regular),
        local_timestamp
    ),
    now!("CURRENT_TIMESTAMP", "CURRENT_TIMESTAMP", INSTANT, |call| Ok(
        instant(statement_time(call))
    )),
    now!("NOW", "NOW()", INSTANT, |call| Ok(instant(statement_time(call)))),
    now!(
        "CURRENT_ROW_TIMESTAMP",
        "CURRENT_ROW_TIMESTAMP()",
        INSTANT,
        |call| Ok(instant((call.env.clock)()))
    ),
    now!(
        "PROCTIME",
        "PROCTIME()",
        TypeRoot::TimestampLtz(3, TimeKind::Proctime),
        |call| Ok(instant((call.env.clock)()))
    ),
];

fn infer(args: &[Expr], root: TypeRoot) -> Result<Signature, String> {
    match args {
        [] => Ok(Signature {
            args: Vec::new(),
            result: DataType::not_null(root),
        }),
        _ => Err("()".into()),
    }
}

/// Milliseconds since the epoch.
pub(super) fn statement_time(call: &Call<'_>) -> i64 {
    match call.env.is_batch {
        true => call.env.statement_time_ms,
        false => (call.env.clock)(),
    }
}

/// One value stands for all rows.
fn instant(millis: i64) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from_value(millis, 1).with_timezone("UTC"))
}

fn local_time(call: &Call<'_>) -> Result<i64, String> {
    let millis = statement_time(call);
    Ok(millis + session_zone(call.env)?.offset_at(millis.div_euclid(1000)) * 1000)
}

fn local_timestamp(call: &Call<'_>) -> Result<ArrayRef, String> {
    Ok(Arc::new(TimestampMillisecondArray::from_value(
        local_time(call)?,
        1,
    )))
}

fn current_date(call: &Call<'_>) -> Result<ArrayRef, String> {
    let days = local_time(call)?.div_euclid(MILLIS_PER_DAY);
    Ok(Arc::new(Date32Array::from_value(days as i32, 1)))
}

fn current_time(call: &Call<'_>) -> Result<ArrayRef, String> {
    let millis = local_time(call)?.rem_euclid(MILLIS_PER_DAY) / 1000 * 1000;
    Ok(Arc::new(Time32MillisecondArray::from_value(millis as i32, 1)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;

    #[test]
    fn the_current_time_is_the_environments() {
        check(&[
            ("CURRENT_TIMESTAMP", &[], "2023-11-14 23:13:20.123"),
            ("LOCALTIMESTAMP", &[], "2023-11-14 23:13:20.123"),
            ("CURRENT_DATE", &[], "2023-11-14"),
            ("LOCALTIME", &[], "23:13:20"),
        ]);
    }
}
