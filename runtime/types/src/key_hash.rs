//! The key hash: which key group a row belongs to.
//!
//! It is defined over logical values, so that a value has one hash in every Arrow encoding, on every machine and in every
//! release: it decides where keyed state lives. `key_hash/golden.txt` holds vectors that never change.
//!
//! ```text
//!   h = SEED;  for each key column:  h = fold(value, h);  the row's hash = h
//!   fold(value, h) = xxh3_64(bytes of the value, seed = h ^ class of the type * 0x9E3779B97F4A7C15)
//! ```
//!
//! | class | types | bytes (little-endian) |
//! |---|---|---|
//! | 0 null | any null | none |
//! | 1 boolean | | 1: 0 or 1 |
//! | 2 integer | all signed and unsigned | 8, as i64 |
//! | 3 large integer | UInt64 above i64::MAX | 8, as u64 |
//! | 4 float | 16, 32, 64 bits | 8, as f64; one NaN, -0.0 is 0.0 |
//! | 5 text | Utf8, LargeUtf8, Utf8View | UTF-8 |
//! | 6 bytes | Binary, LargeBinary, BinaryView, FixedSizeBinary | the bytes |
//! | 7 decimal | 32 to 256 bits | without trailing zeros: 16 unscaled (32 if it needs more), 4 exponent |
//! | 8 date | Date32, Date64 | 8, days |
//! | 9 time | Time32, Time64 | 8, nanoseconds of the day |
//! | 10 timestamp | without time zone, any unit | 8 seconds, 4 nanoseconds |
//! | 11 instant | timestamp with a time zone, whichever | 8 seconds, 4 nanoseconds |
//! | 12 duration | any unit | 16, nanoseconds |
//! | 13 interval | all three | 4 months, 4 days, 8 nanoseconds |
//! | 14 list | List, LargeList, FixedSizeList, views | 8 length; then its elements are folded in order |
//! | 15 struct | | 8 number of fields; then its fields are folded in order, names don't count |
//! | 16 map | | 8 length, 8 sum of its entries' hashes from seed 0: order doesn't count |
//!
//! A dictionary or run-end encoded value is the value it stands for. Columns are hashed one after the other; nothing is
//! allocated for a row.

mod fold;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Int64Type};

use crate::{Classify, FailureClass};

/// Where every row's hash starts: "thalweg" and the version of this definition.
const SEED: u64 = u64::from_be_bytes(*b"thalweg\x01");

/// Why rows have no hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyHashError {
    /// Rows can't be told apart without a key.
    #[error("a key needs at least one column")]
    NoColumns,
    /// The columns are not of the same rows.
    #[error("key columns have {expected} and {found} rows")]
    Length {
        /// Rows of the first column.
        expected: usize,
        /// Rows of another.
        found: usize,
    },
    /// Values of this type can't be a key.
    #[error("type {0} can't be a key")]
    UnsupportedType(DataType),
    /// The column breaks Arrow's own rules.
    #[error("malformed key column: {0}")]
    Malformed(String),
}

impl Classify for KeyHashError {
    fn class(&self) -> FailureClass {
        match self {
            Self::UnsupportedType(_) => FailureClass::Fatal,
            Self::NoColumns | Self::Length { .. } | Self::Malformed(_) => FailureClass::Bug,
        }
    }
}

/// Hashes the rows of some key columns; `out` then holds one hash a row and nothing else.
pub fn hash_rows(columns: &[ArrayRef], out: &mut Vec<u64>) -> Result<(), KeyHashError> {
    let first = columns.first().ok_or(KeyHashError::NoColumns)?;
    let rows = first.len();
    if let Some(other) = columns.iter().find(|column| column.len() != rows) {
        return Err(KeyHashError::Length {
            expected: rows,
            found: other.len(),
        });
    }
    out.clear();
    out.reserve(rows);
    if !hash_common(first, out) {
        out.resize(rows, SEED);
        fold::fold_column(first, out)?;
    }
    for column in &columns[1..] {
        fold::fold_column(column, out)?;
    }
    Ok(())
}

/// The keys that are most common, without a call for each row. Whether the column was one of them.
fn hash_common(column: &ArrayRef, out: &mut Vec<u64>) -> bool {
    if column.null_count() > 0 {
        return false;
    }
    match column.data_type() {
        DataType::Int64 => {
            let values = column.as_primitive::<Int64Type>().values();
            out.extend(values.iter().map(|value| fold::integer(*value, SEED)));
        }
        DataType::Utf8 => {
            let texts = column.as_string::<i32>();
            let bytes = texts.value_data();
            out.extend(
                texts
                    .value_offsets()
                    .windows(2)
                    .map(|range| fold::text(&bytes[range[0] as usize..range[1] as usize], SEED)),
            );
        }
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests;
