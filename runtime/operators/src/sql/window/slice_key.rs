//! The key of a window's state: the rows' key and the window, in the key group of the rows' key.
//!
//! Slices, windows and sessions are rows of their own in the keyed state, so that each is found by hash, stored, paged out and dropped by
//! itself.

use arrow::array::UInt64Array;
use thalweg_types::window_hash::hash;

/// Hashes of rows.
pub(crate) fn hashes(
    key_hashes: &[u64],
    windows: impl Iterator<Item = i64>,
    max_parallelism: u32,
) -> UInt64Array {
    let rows = key_hashes.iter().zip(windows);
    UInt64Array::from_iter_values(rows.map(|(key, window)| hash(*key, window, max_parallelism)))
}
