//! Columns of text or bytes: built by appending slices to one buffer, and read as slices whatever their Arrow layout.

use std::sync::Arc;

use arrow::array::builder::NullBufferBuilder;
use arrow::array::{
    Array, ArrayRef, BinaryArray, BinaryViewArray, LargeBinaryArray, LargeStringArray, StringArray,
    StringViewArray,
};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::DataType;

/// A row that isn't UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InvalidText {
    /// Which row of the column.
    pub(crate) row: usize,
    /// The first byte in the row that doesn't belong to a character.
    pub(crate) byte: usize,
}

/// Builds a Utf8 or Binary column. Rows are validated together, when the column is finished.
pub(crate) struct BytesBuilder {
    values: Vec<u8>,
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl BytesBuilder {
    /// With room for so many rows and bytes.
    pub(crate) fn with_capacity(rows: usize, bytes: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self {
            values: Vec::with_capacity(bytes),
            offsets,
            nulls: NullBufferBuilder::new(rows),
        }
    }

    /// Rows so far.
    pub(crate) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Bytes of all rows so far.
    pub(crate) fn bytes(&self) -> usize {
        self.values.len()
    }

    /// Appends a row. Callers keep a column below 2 GiB: they finish it at about a MiB, and a row has a limit.
    pub(crate) fn push(&mut self, value: &[u8]) {
        self.values.extend_from_slice(value);
        self.offsets.push(self.values.len() as i32);
        self.nulls.append_non_null();
    }

    /// Appends a null.
    pub(crate) fn push_null(&mut self) {
        self.offsets.push(self.values.len() as i32);
        self.nulls.append_null();
    }

    /// The rows as text; leaves the builder empty with the same capacity. With `lossy`, what isn't UTF-8 becomes U+FFFD.
    pub(crate) fn finish_utf8(&mut self, lossy: bool) -> Result<ArrayRef, InvalidText> {
        let (offsets, values, nulls) = self.take();
        match StringArray::try_new(offsets.clone(), values.clone(), nulls.clone()) {
            Ok(column) => Ok(Arc::new(column)),
            Err(_) if lossy => {
                let texts = rows(&offsets, &values)
                    .map(String::from_utf8_lossy)
                    .collect::<Vec<_>>();
                let valid = |row| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
                Ok(Arc::new(StringArray::from_iter(
                    texts
                        .iter()
                        .enumerate()
                        .map(|(row, text)| valid(row).then_some(text)),
                )))
            }
            Err(_) => Err(first_invalid(&offsets, &values)),
        }
    }

    /// The rows as bytes; leaves the builder empty with the same capacity.
    pub(crate) fn finish_binary(&mut self) -> ArrayRef {
        let (offsets, values, nulls) = self.take();
        Arc::new(BinaryArray::new(offsets, values, nulls))
    }

    fn take(&mut self) -> (OffsetBuffer<i32>, Buffer, Option<arrow::buffer::NullBuffer>) {
        let next = Self::with_capacity(self.offsets.capacity() - 1, self.values.capacity());
        let mut full = std::mem::replace(self, next);
        let nulls = full.nulls.finish();
        (
            OffsetBuffer::new(ScalarBuffer::from(full.offsets)),
            Buffer::from_vec(full.values),
            nulls,
        )
    }
}

fn rows<'a>(offsets: &'a OffsetBuffer<i32>, values: &'a Buffer) -> impl Iterator<Item = &'a [u8]> {
    offsets
        .windows(2)
        .map(|ends| &values[ends[0] as usize..ends[1] as usize])
}

fn first_invalid(offsets: &OffsetBuffer<i32>, values: &Buffer) -> InvalidText {
    let invalid = rows(offsets, values).enumerate().find_map(|(row, value)| {
        Some(InvalidText {
            row,
            byte: std::str::from_utf8(value).err()?.valid_up_to(),
        })
    });
    invalid.unwrap_or(InvalidText { row: 0, byte: 0 })
}

/// Text or bytes of any Arrow layout, read as slices.
pub(crate) enum BytesColumn<'a> {
    Utf8(&'a StringArray),
    LargeUtf8(&'a LargeStringArray),
    Utf8View(&'a StringViewArray),
    Binary(&'a BinaryArray),
    LargeBinary(&'a LargeBinaryArray),
    BinaryView(&'a BinaryViewArray),
}

impl<'a> BytesColumn<'a> {
    /// Whether a column of this type can be read so.
    pub(crate) fn accepts(data_type: &DataType) -> bool {
        use DataType::{Binary, BinaryView, LargeBinary, LargeUtf8, Utf8, Utf8View};
        matches!(
            data_type,
            Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView
        )
    }

    /// The column; `None` if it is neither text nor bytes.
    pub(crate) fn of(column: &'a dyn Array) -> Option<Self> {
        let any = column.as_any();
        Some(match column.data_type() {
            DataType::Utf8 => Self::Utf8(any.downcast_ref()?),
            DataType::LargeUtf8 => Self::LargeUtf8(any.downcast_ref()?),
            DataType::Utf8View => Self::Utf8View(any.downcast_ref()?),
            DataType::Binary => Self::Binary(any.downcast_ref()?),
            DataType::LargeBinary => Self::LargeBinary(any.downcast_ref()?),
            DataType::BinaryView => Self::BinaryView(any.downcast_ref()?),
            _ => return None,
        })
    }

    /// A row's bytes; `None` = null.
    #[inline]
    pub(crate) fn get(&self, row: usize) -> Option<&'a [u8]> {
        match self {
            Self::Utf8(column) => column.is_valid(row).then(|| column.value(row).as_bytes()),
            Self::LargeUtf8(column) => column.is_valid(row).then(|| column.value(row).as_bytes()),
            Self::Utf8View(column) => column.is_valid(row).then(|| column.value(row).as_bytes()),
            Self::Binary(column) => column.is_valid(row).then(|| column.value(row)),
            Self::LargeBinary(column) => column.is_valid(row).then(|| column.value(row)),
            Self::BinaryView(column) => column.is_valid(row).then(|| column.value(row)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;

    fn builder(rows: &[&[u8]]) -> BytesBuilder {
        let mut builder = BytesBuilder::with_capacity(4, 16);
        rows.iter().for_each(|row| builder.push(row));
        builder
    }

    #[test]
    fn a_character_that_is_cut_over_two_rows_is_refused_in_the_first() {
        let error = builder(&[b"ok", b"a\xC3", b"\xA9"])
            .finish_utf8(false)
            .unwrap_err();
        assert_eq!(error, InvalidText { row: 1, byte: 1 });
    }

    #[test]
    fn lossy_text_replaces_what_is_not_utf8_and_keeps_nulls() {
        let mut builder = builder(&[b"a\xFF"]);
        builder.push_null();
        let column = builder.finish_utf8(true).unwrap();
        assert_eq!(
            column.as_string::<i32>().iter().collect::<Vec<_>>(),
            [Some("a\u{FFFD}"), None]
        );
    }

    #[test]
    fn a_finished_builder_starts_again_at_row_0() {
        let mut builder = builder(&[b"one"]);
        builder.finish_binary();
        builder.push(b"two");
        let column = builder.finish_utf8(false).unwrap();
        assert_eq!(BytesColumn::of(&column).unwrap().get(0), Some(b"two".as_slice()));
        assert_eq!((builder.len(), builder.bytes()), (0, 0));
    }
}
