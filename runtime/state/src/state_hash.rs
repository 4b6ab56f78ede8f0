//! The hash of a state's key, which says in which key group it is.
//!
//! It is the hash of the rows' key; where the state has a row for each window of a key, with the window mixed in
//! ([`thalweg_types::window_hash`]). Those columns of a key are told by their names.

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{FieldRef, Int64Type};
use arrow::error::ArrowError;
use thalweg_types::key_hash::hash_rows;
use thalweg_types::window_hash;

/// Names of a key's columns that say which window, behind those of the rows' key. The last one is mixed into the hash.
const WINDOW_COLUMNS: [&str; 4] = ["$slice_end", "$window_start", "$window_end", "$session"];

/// How the keys of an operator are hashed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StateHash {
    /// How many columns are the rows' key, if there are others.
    rows_key: Option<usize>,
    max_parallelism: u32,
}

impl StateHash {
    /// Of keys with these columns.
    pub(crate) fn of(key: &[FieldRef], max_parallelism: u32) -> Self {
        let is_window = |field: &FieldRef| WINDOW_COLUMNS.contains(&field.name().as_str());
        Self {
            rows_key: key.iter().position(is_window),
            max_parallelism,
        }
    }

    /// The hashes of these keys; `into` is cleared first.
    pub(crate) fn hashes(&self, keys: &[ArrayRef], into: &mut Vec<u64>) -> Result<(), ArrowError> {
        let columns = self.rows_key.unwrap_or(keys.len());
        match keys.first() {
            // Rows without a key have the hash 0.
            Some(first) if columns == 0 => {
                into.clear();
                into.resize(first.len(), 0);
            }
            _ => hash_rows(&keys[..columns], into)
                .map_err(|error| ArrowError::ExternalError(Box::new(error)))?,
        }
        let window = keys.last().filter(|_| self.rows_key.is_some());
        if let Some(window) = window.and_then(|window| window.as_primitive_opt::<Int64Type>()) {
            for (hash, window) in into.iter_mut().zip(window.values()) {
                *hash = window_hash::hash(*hash, *window, self.max_parallelism);
            }
        }
        Ok(())
    }
}
