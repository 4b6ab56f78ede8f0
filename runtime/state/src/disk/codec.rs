//! Keys and rows as bytes, a batch at a time, in Arrow's row encoding.
//!
//! ```text
//!   key    key group u16, big-endian | key columns
//!   row    sub-key and value columns | with time-to-live: time of last use i64, little-endian
//! ```
//!
//! Invariant: keys compare as their bytes do, and so do the rows of one key by their sub-keys.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};

use crate::snapshot::{StateError, TableDescriptor, TableKind};
use crate::table::ACCESSED_COLUMN;

const GROUP_BYTES: usize = size_of::<u16>();
const ACCESSED_BYTES: usize = size_of::<i64>();

/// Encoded keys, one behind another.
#[derive(Default)]
pub(crate) struct Keys {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Keys {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn get(&self, place: usize) -> &[u8] {
        let start = match place {
            0 => 0,
            place => self.ends[place - 1],
        };
        &self.bytes[start..self.ends[place]]
    }

    pub(crate) fn is_sorted(&self) -> bool {
        (1..self.len()).all(|place| self.get(place - 1) <= self.get(place))
    }

    /// The first place from `from` on behind all keys up to `until`; they are sorted.
    pub(crate) fn partition_point(&self, from: usize, until: &[u8]) -> usize {
        let (mut from, mut to) = (from, self.len());
        while from < to {
            let middle = from + (to - from) / 2;
            if self.get(middle) <= until {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        from
    }
}

/// Encodes and decodes keys.
pub(crate) struct KeyCodec {
    converter: RowConverter,
    types: Vec<DataType>,
}

impl KeyCodec {
    pub(crate) fn new(key: &[FieldRef]) -> Result<Self, StateError> {
        let types: Vec<DataType> = key.iter().map(|field| field.data_type().clone()).collect();
        Ok(Self {
            converter: converter(&types)?,
            types,
        })
    }

    /// `columns` have floats in their canonical form.
    pub(crate) fn encode(
        &self,
        columns: &[ArrayRef],
        groups: impl Iterator<Item = u32>,
    ) -> Result<Keys, StateError> {
        let rows = self.converter.convert_columns(columns).map_err(encoding)?;
        let mut keys = Keys::default();
        for (row, group) in rows.iter().zip(groups) {
            keys.bytes.extend((group as u16).to_be_bytes());
            keys.bytes.extend_from_slice(row.data());
            keys.ends.push(keys.bytes.len());
        }
        Ok(keys)
    }

    /// The key columns.
    pub(crate) fn decode<'a>(
        &self,
        keys: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Vec<ArrayRef>, StateError> {
        decode(&self.converter, keys.map(|key| &key[GROUP_BYTES..]), &self.types)
    }
}

/// The key group of an encoded key.
pub(crate) fn group_of(key: &[u8]) -> u32 {
    u32::from(key[0]) << 8 | u32::from(key[1])
}

/// Encodes and decodes the rows of one table.
pub(crate) struct TableCodec {
    pub(crate) descriptor: Arc<TableDescriptor>,
    /// None where there are no columns.
    converter: Option<RowConverter>,
    types: Vec<DataType>,
    pub(crate) has_ttl: bool,
}

/// Decoded rows.
pub(crate) struct DecodedRows {
    pub(crate) sub_key: Vec<ArrayRef>,
    /// Without that of time-to-live.
    pub(crate) value: Vec<ArrayRef>,
    pub(crate) accessed: Option<Int64Array>,
}

impl TableCodec {
    pub(crate) fn new(descriptor: &Arc<TableDescriptor>) -> Result<Self, StateError> {
        let has_ttl = descriptor
            .value
            .last()
            .is_some_and(|field| field.name() == ACCESSED_COLUMN);
        let columns = descriptor.sub_key.iter().chain(&descriptor.value);
        let mut types: Vec<DataType> = columns.map(|field| field.data_type().clone()).collect();
        if has_ttl {
            types.pop();
        }
        Ok(Self {
            descriptor: Arc::clone(descriptor),
            converter: match types.is_empty() {
                true => None,
                false => Some(converter(&types)?),
            },
            types,
            has_ttl,
        })
    }

    /// Whether a key may have several rows.
    pub(crate) fn has_sub_keys(&self) -> bool {
        !self.descriptor.sub_key.is_empty()
    }

    /// None where there are no columns.
    pub(crate) fn empty_rows(&self) -> Option<Rows> {
        self.converter
            .as_ref()
            .map(|converter| converter.empty_rows(0, 0))
    }

    /// `columns` without that of time-to-live.
    pub(crate) fn append(&self, rows: &mut Rows, columns: &[ArrayRef]) -> Result<(), StateError> {
        match &self.converter {
            Some(converter) => converter.append(rows, columns).map_err(encoding),
            None => Ok(()),
        }
    }

    pub(crate) fn decode(&self, rows: &[&[u8]]) -> Result<DecodedRows, StateError> {
        let split = |row: &&'_ [u8]| row.len() - if self.has_ttl { ACCESSED_BYTES } else { 0 };
        let mut sub_key = match &self.converter {
            Some(converter) => decode(converter, rows.iter().map(|row| &row[..split(row)]), &self.types)?,
            None => Vec::new(),
        };
        let value = sub_key.split_off(self.descriptor.sub_key.len());
        let accessed = self
            .has_ttl
            .then(|| rows.iter().map(|row| accessed_of(row)).collect::<Vec<_>>().into());
        Ok(DecodedRows {
            sub_key,
            value,
            accessed,
        })
    }

    /// Until when a row must have been used last to be expired at `now_ms`.
    pub(crate) fn expired_until(&self, now_ms: i64) -> i64 {
        match self.descriptor.ttl {
            Some(ttl) if self.has_ttl => now_ms.saturating_sub(millis(ttl)),
            _ => i64::MIN,
        }
    }

    /// Whether expired rows may go away one by one. A list's positions count on from those that are there.
    pub(crate) fn drops_rows(&self) -> bool {
        self.has_ttl && matches!(self.descriptor.kind, TableKind::Value | TableKind::Map)
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// When a row of a table with time-to-live was last used.
pub(crate) fn accessed_of(row: &[u8]) -> i64 {
    let mut accessed = [0; ACCESSED_BYTES];
    if let Some(bytes) = row.last_chunk::<ACCESSED_BYTES>() {
        accessed = *bytes;
    }
    i64::from_le_bytes(accessed)
}

fn converter(types: &[DataType]) -> Result<RowConverter, StateError> {
    let fields = types.iter().cloned().map(SortField::new).collect();
    RowConverter::new(fields).map_err(encoding)
}

fn decode<'a>(
    converter: &RowConverter,
    rows: impl Iterator<Item = &'a [u8]>,
    types: &[DataType],
) -> Result<Vec<ArrayRef>, StateError> {
    let parser = converter.parser();
    let columns = converter
        .convert_rows(rows.map(|row| parser.parse(row)))
        .map_err(decoding)?;
    let as_declared = |(column, declared): (ArrayRef, &DataType)| match column.data_type() == declared {
        true => Ok(column),
        // The encoding knows values, not dictionaries.
        false => cast(&column, declared).map_err(decoding),
    };
    columns.into_iter().zip(types).map(as_declared).collect()
}

fn encoding(source: ArrowError) -> StateError {
    StateError::Arrow {
        step: "encoding rows for the local disk",
        source,
    }
}

fn decoding(source: ArrowError) -> StateError {
    StateError::Arrow {
        step: "decoding rows from the local disk",
        source,
    }
}
