//! What keyed operators have in common.

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt64Array};
use arrow::datatypes::FieldRef;
use thalweg_state::{KeyedState, KeyedStateConfig, StateError};
use thalweg_types::StreamBatch;

use crate::{OperatorContext, OperatorError};

/// The key columns and key hashes of a batch that came over a keyed edge; [`OperatorError::Input`] if it has none.
pub fn keys_of<'a>(
    context: &OperatorContext,
    batch: &'a StreamBatch,
    columns: &[usize],
) -> Result<(Vec<ArrayRef>, &'a UInt64Array), OperatorError> {
    let hashes = batch.key_hashes.as_ref().ok_or_else(|| OperatorError::Input {
        operator: context.operator_name.to_string(),
        message: "rows without key hashes came over a keyed edge".to_owned(),
    })?;
    let keys = columns
        .iter()
        .map(|column| Arc::clone(batch.rows.column(*column)))
        .collect();
    Ok((keys, hashes))
}

/// The operator's keyed state, empty, for keys of these columns.
pub fn keyed_state(context: &OperatorContext, key: Vec<FieldRef>) -> Result<KeyedState, OperatorError> {
    KeyedState::new(KeyedStateConfig {
        operator: Arc::clone(&context.operator_name),
        key,
        key_groups: context.key_groups,
        max_parallelism: context.max_parallelism,
        settings: Arc::clone(&context.state),
    })
    .map_err(|source| state_error(context, source))
}

/// An error of the state as the operator's.
pub fn state_error(context: &OperatorContext, source: StateError) -> OperatorError {
    OperatorError::State {
        operator: context.operator_name.to_string(),
        source,
    }
}
