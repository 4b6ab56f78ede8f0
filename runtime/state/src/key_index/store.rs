//! The keys of a [`super::KeyIndex`], one behind another, by slot.

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, Int64Array, PrimitiveArray, StringArray, StringBuilder,
};
use arrow::compute::kernels::arity::unary;
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int64Type};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};
use std::sync::Arc;

use super::Slot;
use crate::table::{make_room, unused};

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

    pub(super) fn memory_size(&self) -> usize {
        match self {
            Self::Int64(keys) => keys.values.capacity() * size_of::<i64>(),
            Self::Utf8(keys) => keys.memory_size(),
            Self::Rows(keys) => keys.keys.memory_size() + keys.buffer.as_ref().map_or(0, Rows::size),
        }
    }

    /// Whether keys say themselves where they are in the hash table: [`Self::bucket`].
    pub(super) fn has_buckets(&self) -> bool {
        matches!(self, Self::Int64(_))
    }

    /// Where the slot's key is in the hash table, if its key hash is not needed for that.
    #[inline]
    pub(super) fn bucket(&self, slot: Slot) -> Option<u64> {
        match self {
            Self::Int64(keys) => Some(keys.bucket(slot)),
            Self::Utf8(_) | Self::Rows(_) => None,
        }
    }

    /// Room for so many keys more, without that for their bytes if they are of any length.
    pub(super) fn reserve(&mut self, count: usize) {
        match self {
            Self::Int64(keys) => keys.values.reserve_exact(count),
            Self::Utf8(keys) => keys.places.reserve_exact(count),
            Self::Rows(keys) => keys.keys.places.reserve_exact(count),
        }
    }

    /// Bytes of room that nobody uses if so many keys are there.
    pub(super) fn slack(&self, live: usize) -> usize {
        match self {
            Self::Int64(keys) => unused(&keys.values, live),
            Self::Utf8(keys) => keys.slack(live),
            Self::Rows(keys) => keys.keys.slack(live),
        }
    }

    /// Gives room back that keys had which are gone.
    pub(super) fn give_back(&mut self) {
        match self {
            Self::Int64(_) => {}
            Self::Utf8(keys) => keys.give_back(),
            Self::Rows(keys) => keys.keys.give_back(),
        }
    }

    /// Slots are below `count` now.
    pub(super) fn shrink(&mut self, count: usize) {
        match self {
            Self::Int64(keys) => {
                keys.values.truncate(count);
                keys.values.shrink_to_fit();
            }
            Self::Utf8(keys) => keys.shrink(count),
            Self::Rows(keys) => {
                keys.keys.shrink(count);
                keys.buffer = None;
            }
        }
    }

    /// Bytes of one key.
    pub(super) fn key_bytes(&self, slot: Slot) -> usize {
        match self {
            Self::Int64(_) => size_of::<i64>(),
            Self::Utf8(keys) => keys.get(slot).len(),
            Self::Rows(keys) => keys.keys.get(slot).len(),
        }
    }

    /// Drops the key of a slot.
    pub(super) fn remove(&mut self, slot: Slot) {
        match self {
            Self::Int64(keys) => {
                keys.null.take_if(|null| *null == slot);
            }
            Self::Utf8(keys) => keys.remove(slot),
            Self::Rows(keys) => keys.keys.remove(slot),
        }
    }

    /// The keys of these slots.
    pub(super) fn columns(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, ArrowError> {
        Ok(match self {
            Self::Int64(keys) => vec![Arc::new(keys.column(slots))],
            Self::Utf8(keys) => vec![Arc::new(keys.texts(slots)?)],
            Self::Rows(keys) => {
                let parser = keys.converter.parser();
                let rows = slots.iter().map(|slot| parser.parse(keys.keys.get(*slot)));
                keys.converter.convert_rows(rows)?
            }
        })
    }

    /// Appends the keys of all rows, whose slots are `first` and those behind it: no slot from `first` on had a key before.
    pub(super) fn append(&mut self, columns: &[ArrayRef], first: Slot) -> Result<(), ArrowError> {
        if let (Self::Int64(keys), [column]) = (&mut *self, columns)
            && let Some(column) = column.as_primitive_opt::<Int64Type>()
            && column.null_count() == 0
            && keys.values.len() == first as usize
        {
            keys.values.extend_from_slice(column.values());
            return Ok(());
        }
        let mut slot = first;
        self.for_each_row(columns, |_, mut key| {
            key.insert(slot);
            slot += 1;
        })
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

    /// See [`KeyStore::bucket`]; of this key.
    #[inline]
    pub(super) fn bucket(&self) -> Option<u64> {
        match self {
            Self::Int64 { key, .. } => Some(mixed(*key)),
            Self::Bytes { .. } => None,
        }
    }

    /// See [`KeyStore::bucket`]; of a slot's.
    #[inline]
    pub(super) fn bucket_of(&self, slot: Slot) -> Option<u64> {
        match self {
            Self::Int64 { keys, .. } => Some(keys.bucket(slot)),
            Self::Bytes { .. } => None,
        }
    }

    /// Makes it the slot's key.
    pub(super) fn insert(&mut self, slot: Slot) {
        match self {
            Self::Int64 { keys, key } => keys.set(slot, *key),
            Self::Bytes { keys, key } => keys.set(slot, *key),
        }
    }
}

#[derive(Default)]
pub(super) struct Int64Keys {
    values: Vec<i64>,
    null: Option<Slot>,
}

/// Where a key is in the hash table: a product of 128 bits, folded, so that any bits of the key reach all of these.
#[inline]
fn mixed(key: Option<i64>) -> u64 {
    const FIRST: u64 = 0x9E37_79B9_7F4A_7C15;
    const SECOND: u64 = 0xD6E8_FEB8_6659_FD93;
    let product = u128::from(key.unwrap_or_default() as u64 ^ FIRST) * u128::from(SECOND);
    (product as u64) ^ (product >> 64) as u64
}

impl Int64Keys {
    #[inline]
    fn bucket(&self, slot: Slot) -> u64 {
        mixed(Some(self.values[slot as usize]))
    }

    fn set(&mut self, slot: Slot, key: Option<i64>) {
        let place = slot as usize;
        if place >= self.values.len() {
            make_room(&mut self.values, place + 1);
            self.values.resize(place + 1, 0);
        }
        self.values[place] = key.unwrap_or_default();
        if key.is_none() {
            self.null = Some(slot);
        }
    }

    fn column(&self, slots: &[Slot]) -> Int64Array {
        let key = |slot: &Slot| (self.null != Some(*slot)).then(|| self.values[*slot as usize]);
        slots.iter().map(key).collect()
    }

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

/// Less dead bytes than this are not worth moving the others.
const MIN_DEAD_BYTES: usize = 64 << 10;

/// Byte strings in one buffer. Those of removed keys stay until they are half of it.
#[derive(Default)]
pub(super) struct BytesKeys {
    bytes: Vec<u8>,
    /// Where the slot's key begins, and how long it is.
    places: Vec<(usize, u32)>,
    dead: usize,
    null: Option<Slot>,
}

impl BytesKeys {
    fn memory_size(&self) -> usize {
        self.bytes.capacity() + self.places.capacity() * size_of::<(usize, u32)>()
    }

    fn slack(&self, live: usize) -> usize {
        unused(&self.bytes, self.bytes.len() - self.dead) + unused(&self.places, live)
    }

    fn give_back(&mut self) {
        if self.dead > 0 {
            self.drop_dead();
        }
    }

    fn shrink(&mut self, count: usize) {
        self.places.truncate(count);
        self.places.shrink_to_fit();
        self.drop_dead();
    }

    #[inline]
    fn get(&self, slot: Slot) -> &[u8] {
        let (start, len) = self.places[slot as usize];
        &self.bytes[start..start + len as usize]
    }

    fn set(&mut self, slot: Slot, key: Option<&[u8]>) {
        let place = slot as usize;
        if place >= self.places.len() {
            make_room(&mut self.places, place + 1);
            self.places.resize(place + 1, (0, 0));
        }
        let bytes = key.unwrap_or_default();
        let len = self.bytes.len() + bytes.len();
        make_room(&mut self.bytes, len);
        self.places[place] = (self.bytes.len(), bytes.len() as u32);
        self.bytes.extend_from_slice(bytes);
        if key.is_none() {
            self.null = Some(slot);
        }
    }

    fn remove(&mut self, slot: Slot) {
        self.null.take_if(|null| *null == slot);
        let (_, len) = std::mem::take(&mut self.places[slot as usize]);
        self.dead += len as usize;
        if self.dead > MIN_DEAD_BYTES.max(self.bytes.len() / 2) {
            self.drop_dead();
        }
    }

    /// Moves the keys together. Free slots have length 0.
    fn drop_dead(&mut self) {
        let mut bytes = Vec::with_capacity(self.bytes.len() - self.dead);
        for (start, len) in &mut self.places {
            let key = &self.bytes[*start..*start + *len as usize];
            *start = bytes.len();
            bytes.extend_from_slice(key);
        }
        self.bytes = bytes;
        self.dead = 0;
    }

    fn texts(&self, slots: &[Slot]) -> Result<StringArray, ArrowError> {
        let bytes = slots.iter().map(|slot| self.get(*slot).len()).sum();
        let mut texts = StringBuilder::with_capacity(slots.len(), bytes);
        for slot in slots {
            if self.null == Some(*slot) {
                texts.append_null();
                continue;
            }
            let text = std::str::from_utf8(self.get(*slot));
            texts.append_value(text.map_err(|error| ArrowError::ExternalError(Box::new(error)))?);
        }
        Ok(texts.finish())
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
