//! The keys of a [`super::KeyIndex`], one behind another, by slot.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, Int64Array, PrimitiveArray, StringArray};
use arrow::compute::kernels::arity::unary;
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};
use std::sync::Arc;

use super::Slot;

/// Keys in the layout that suits their type.
pub(super) enum KeyStore {
    /// One BIGINT column.
    Int64(Int64Keys),
    /// One STRING column.
    Utf8(BytesKeys),
    /// Everything else: arrow's comparable row encoding.
    Rows(RowKeys),
}

impl KeyStore {
    pub(super) fn new(types: &[DataType]) -> Result<Self, ArrowError> {
        Ok(match types {
            [DataType::Int64] => Self::Int64(Int64Keys::default()),
            [DataType::Utf8] => Self::Utf8(BytesKeys::default()),
            _ => Self::Rows(RowKeys::new(types)?),
        })
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Int64(keys) => keys.values.len(),
            Self::Utf8(keys) => keys.len(),
            Self::Rows(keys) => keys.keys.len(),
        }
    }

    pub(super) fn memory_size(&self) -> usize {
        match self {
            Self::Int64(keys) => keys.values.capacity() * size_of::<i64>(),
            Self::Utf8(keys) => keys.memory_size(),
            Self::Rows(keys) => keys.keys.memory_size() + keys.buffer.as_ref().map_or(0, Rows::size),
        }
    }

    /// Calls `visit` with each row of the columns and its key.
    pub(super) fn for_each_row(
        &mut self,
        columns: &[ArrayRef],
        visit: impl FnMut(usize, RowKey<'_>),
    ) -> Result<(), ArrowError> {
        match self {
            Self::Int64(keys) => {
                let column = typed(columns, |column| column.as_primitive_opt())?;
                keys.for_each_row(column, visit);
                Ok(())
            }
            Self::Utf8(keys) => {
                let column = typed(columns, |column| column.as_string_opt())?;
                keys.for_each_row(column, visit);
                Ok(())
            }
            Self::Rows(keys) => keys.for_each_row(columns, visit),
        }
    }
}

/// The only column, as the array type that the store is made for.
fn typed<'a, A>(
    columns: &'a [ArrayRef],
    cast: impl Fn(&'a ArrayRef) -> Option<&'a A>,
) -> Result<&'a A, ArrowError> {
    match columns {
        [column] => cast(column).ok_or_else(|| {
            ArrowError::InvalidArgumentError(format!("a key column became {}", column.data_type()))
        }),
        _ => Err(ArrowError::InvalidArgumentError(format!(
            "{} key columns came, 1 is expected",
            columns.len()
        ))),
    }
}

/// The key of one row beside the keys that are known.
pub(super) enum RowKey<'a> {
    Int64 {
        keys: &'a mut Int64Keys,
        key: Option<i64>,
    },
    Bytes {
        keys: &'a mut BytesKeys,
        key: Option<&'a [u8]>,
    },
}

impl RowKey<'_> {
    /// Whether the slot's key is this one.
    #[inline]
    pub(super) fn is(&self, slot: Slot) -> bool {
        match self {
            Self::Int64 { keys, key: Some(key) } => {
                keys.values[slot as usize] == *key && keys.null != Some(slot)
            }
            Self::Int64 { keys, key: None } => keys.null == Some(slot),
            Self::Bytes { keys, key: Some(key) } => keys.get(slot) == *key && keys.null != Some(slot),
            Self::Bytes { keys, key: None } => keys.null == Some(slot),
        }
    }

    /// Gives it the next slot.
    pub(super) fn insert(&mut self) -> Slot {
        match self {
            Self::Int64 { keys, key } => {
                let slot = keys.values.len() as Slot;
                keys.values.push(key.unwrap_or_default());
                if key.is_none() {
                    keys.null = Some(slot);
                }
                slot
            }
            Self::Bytes { keys, key } => keys.push(*key),
        }
    }
}

#[derive(Default)]
pub(super) struct Int64Keys {
    values: Vec<i64>,
    null: Option<Slot>,
}

impl Int64Keys {
    fn for_each_row(&mut self, column: &Int64Array, mut visit: impl FnMut(usize, RowKey<'_>)) {
        if column.null_count() == 0 {
            for (row, key) in column.values().iter().enumerate() {
                visit(
                    row,
                    RowKey::Int64 {
                        keys: self,
                        key: Some(*key),
                    },
                );
            }
        } else {
            for (row, key) in column.iter().enumerate() {
                visit(row, RowKey::Int64 { keys: self, key });
            }
        }
    }
}

/// Byte strings in one buffer; `ends[slot]` is where the slot's key ends.
#[derive(Default)]
pub(super) struct BytesKeys {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    null: Option<Slot>,
}

impl BytesKeys {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn memory_size(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<usize>()
    }

    #[inline]
    fn get(&self, slot: Slot) -> &[u8] {
        let slot = slot as usize;
        let start = if slot == 0 { 0 } else { self.ends[slot - 1] };
        &self.bytes[start..self.ends[slot]]
    }

    fn push(&mut self, key: Option<&[u8]>) -> Slot {
        let slot = self.len() as Slot;
        match key {
            Some(key) => self.bytes.extend_from_slice(key),
            None => self.null = Some(slot),
        }
        self.ends.push(self.bytes.len());
        slot
    }

    fn for_each_row(&mut self, column: &StringArray, mut visit: impl FnMut(usize, RowKey<'_>)) {
        for row in 0..column.len() {
            let key = column.is_valid(row).then(|| column.value(row).as_bytes());
            visit(row, RowKey::Bytes { keys: self, key });
        }
    }
}

/// Keys of any types, encoded to comparable bytes by arrow; nulls are part of the encoding.
pub(super) struct RowKeys {
    converter: RowConverter,
    /// Kept between batches for its memory.
    buffer: Option<Rows>,
    keys: BytesKeys,
}

impl RowKeys {
    fn new(types: &[DataType]) -> Result<Self, ArrowError> {
        let fields = types.iter().cloned().map(SortField::new).collect();
        Ok(Self {
            converter: RowConverter::new(fields)?,
            buffer: None,
            keys: BytesKeys::default(),
        })
    }

    fn for_each_row(
        &mut self,
        columns: &[ArrayRef],
        mut visit: impl FnMut(usize, RowKey<'_>),
    ) -> Result<(), ArrowError> {
        let columns: Vec<ArrayRef> = columns.iter().map(canonical_floats).collect();
        let buffer = self.buffer.get_or_insert_with(|| self.converter.empty_rows(0, 0));
        buffer.clear();
        self.converter.append(buffer, &columns)?;
        for (row, encoded) in buffer.iter().enumerate() {
            visit(
                row,
                RowKey::Bytes {
                    keys: &mut self.keys,
                    key: Some(encoded.data()),
                },
            );
        }
        Ok(())
    }
}

/// The key hash takes -0.0 for 0.0 and every NaN for one; arrow's encoding orders them apart. Floats inside of nested keys
/// are compared by their bits.
fn canonical_floats(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Float32 => {
            canonical::<Float32Type>(column, |v| if v.is_nan() { f32::NAN } else { v + 0.0 })
        }
        DataType::Float64 => {
            canonical::<Float64Type>(column, |v| if v.is_nan() { f64::NAN } else { v + 0.0 })
        }
        _ => Arc::clone(column),
    }
}

fn canonical<T: ArrowPrimitiveType>(column: &ArrayRef, map: impl Fn(T::Native) -> T::Native) -> ArrayRef {
    let canonical: PrimitiveArray<T> = unary(column.as_primitive::<T>(), map);
    Arc::new(canonical)
}
