//! What keyed operators have in common.

use arrow::array::UInt64Array;
use thalweg_types::key_group::key_group;

use crate::key_index::KeyIndexError;
use crate::{OperatorContext, OperatorError};

/// Whether every row belongs to the subtask's key groups; for debug assertions.
pub fn owns_all(context: &OperatorContext, hashes: &UInt64Array) -> bool {
    hashes.values().iter().all(|hash| {
        context
            .key_groups
            .contains(key_group(*hash, context.max_parallelism))
    })
}

/// An index's error as the operator's.
pub fn index_error(context: &OperatorContext, error: KeyIndexError) -> OperatorError {
    let operator = context.operator_name.to_string();
    match error {
        KeyIndexError::Encode(source) => OperatorError::Arrow { operator, source },
        KeyIndexError::Full => OperatorError::Value {
            operator,
            message: error.to_string(),
        },
    }
}
