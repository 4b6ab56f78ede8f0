//! Aggregation in two phases: which functions can be computed of partial results, and the columns that those have.

use crate::data_type::{DataType, Field, TypeRoot};
use crate::spec::AggregateCall;

/// The name of the column, behind all partial results, that says how many rows they are of, when rows may be taken back.
pub const PARTIAL_ROWS: &str = "$rows";

/// The columns that a [`crate::NodeSpec::LocalGroupAggregate`] gives for a call. `None`: it has no partial results, so that its rows must not be
/// folded before they are sent.
///
/// Behind the columns of all calls comes [`PARTIAL_ROWS`] BIGINT NOT NULL if any call's rows may be taken back.
pub fn partial_fields(call: &AggregateCall) -> Option<Vec<Field>> {
    if call.distinct {
        return None;
    }
    let part = |name: &str, data_type| Field::new(format!("{}.{name}", call.name), data_type);
    let count = || part("count", DataType::not_null(TypeRoot::BigInt));
    let of_arg = || call.arg_types.first().map(|data_type| data_type.root.clone());
    match call.function.as_str() {
        "COUNT" => Some(vec![count()]),
        "SUM" | "SUM0" | "$SUM0" => {
            let sum = part("sum", DataType::nullable(call.data_type.root.clone()));
            Some(match call.retracts {
                true => vec![sum, count()],
                false => vec![sum],
            })
        }
        "AVG" => {
            let sum = match of_arg()? {
                TypeRoot::TinyInt | TypeRoot::SmallInt | TypeRoot::Int | TypeRoot::BigInt => TypeRoot::BigInt,
                TypeRoot::Float | TypeRoot::Double => TypeRoot::Double,
                TypeRoot::Decimal { scale, .. } => TypeRoot::Decimal { precision: 38, scale },
                _ => return None,
            };
            Some(vec![part("sum", DataType::nullable(sum)), count()])
        }
        "MIN" | "MAX" if !call.retracts => Some(vec![part("value", DataType::nullable(of_arg()?))]),
        _ => None,
    }
}

/// All columns behind the keys, or `None` if any call has no partial results.
pub fn all_partial_fields(calls: &[AggregateCall]) -> Option<Vec<Field>> {
    let parts: Option<Vec<Vec<Field>>> = calls.iter().map(partial_fields).collect();
    let mut fields: Vec<Field> = parts?.into_iter().flatten().collect();
    if calls.iter().any(|call| call.retracts) {
        fields.push(Field::new(PARTIAL_ROWS, DataType::not_null(TypeRoot::BigInt)));
    }
    Some(fields)
}
