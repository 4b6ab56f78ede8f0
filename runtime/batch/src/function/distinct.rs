//! The values of DISTINCT that each group has seen.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields};
use arrow::error::ArrowError;
use arrow::row::{OwnedRow, RowConverter, SortField};

/// Values by group.
pub(super) struct Distinct {
    converter: RowConverter,
    fields: Fields,
    /// A group's values with the number of the row that brought them first.
    seen: Vec<HashMap<OwnedRow, ()>>,
    bytes: usize,
}

fn fields(types: &[DataType]) -> Fields {
    let field =
        |(place, data_type): (usize, &DataType)| Field::new(format!("v{place}"), data_type.clone(), true);
    types.iter().enumerate().map(field).collect()
}

fn item(fields: &Fields) -> Field {
    Field::new("item", DataType::Struct(fields.clone()), true)
}

impl Distinct {
    pub(super) fn new(types: &[DataType]) -> Result<Self, ArrowError> {
        let sorted = types.iter().cloned().map(SortField::new);
        Ok(Self {
            converter: RowConverter::new(sorted.collect())?,
            fields: fields(types),
            seen: Vec::new(),
            bytes: 0,
        })
    }

    /// The column of [`Self::lists`].
    pub(super) fn field(types: &[DataType]) -> Field {
        Field::new("values", DataType::List(Arc::new(item(&fields(types)))), true)
    }

    /// 1 for each row that counts and is the first with its value in its group, else 0.
    pub(super) fn first_seen(
        &mut self,
        values: &[ArrayRef],
        groups: &[u32],
        signs: Option<&[i8]>,
    ) -> Result<Vec<i8>, ArrowError> {
        let rows = self.converter.convert_columns(values)?;
        let most = groups.iter().max().map_or(0, |group| *group as usize + 1);
        if self.seen.len() < most {
            self.seen.resize_with(most, HashMap::new);
        }
        let mut first = Vec::with_capacity(groups.len());
        for (row, group) in groups.iter().enumerate() {
            let counts = signs.is_none_or(|signs| signs[row] > 0);
            let value = rows.row(row);
            let is_new = counts && {
                let bytes = value.as_ref().len() + size_of::<OwnedRow>();
                let is_new = self.seen[*group as usize].insert(value.owned(), ()).is_none();
                self.bytes += if is_new { bytes } else { 0 };
                is_new
            };
            first.push(i8::from(is_new));
        }
        Ok(first)
    }

    /// The values of the first groups, a list a group.
    pub(super) fn lists(&self, groups: usize) -> Result<ArrayRef, ArrowError> {
        let of = |group: usize| self.seen.get(group);
        let lengths = (0..groups).map(|group| of(group).map_or(0, HashMap::len));
        let offsets = OffsetBuffer::from_lengths(lengths);
        let rows = (0..groups).filter_map(of).flat_map(HashMap::keys);
        let columns = self.converter.convert_rows(rows.map(OwnedRow::row))?;
        let length = columns.first().map_or(0, |column| column.len());
        let values = StructArray::try_new_with_length(self.fields.clone(), columns, None, length)?;
        let list = ListArray::try_new(Arc::new(item(&self.fields)), offsets, Arc::new(values), None)?;
        Ok(Arc::new(list))
    }

    /// The first groups go, the others move up.
    pub(super) fn shift(&mut self, gone: usize) {
        self.seen.drain(..gone.min(self.seen.len()));
        let bytes = self.seen.iter().flat_map(HashMap::keys);
        self.bytes = bytes.map(|row| row.as_ref().len() + size_of::<OwnedRow>()).sum();
    }

    pub(super) fn memory_size(&self) -> usize {
        self.bytes + self.seen.capacity() * size_of::<HashMap<OwnedRow, ()>>()
    }
}

/// The values of [`Distinct::lists`] one by one, each with its group.
pub(super) fn flattened(lists: &[ArrayRef], groups: &[u32]) -> Result<(Vec<u32>, Vec<ArrayRef>), ArrowError> {
    let malformed = || ArrowError::InvalidArgumentError("distinct values are no list of rows".to_owned());
    let lists = lists.first().and_then(|lists| lists.as_list_opt::<i32>());
    let lists = lists.ok_or_else(malformed)?;
    let values = lists.values().as_struct_opt().ok_or_else(malformed)?;
    let offsets = lists.value_offsets();
    let (first, last) = (offsets[0] as usize, offsets[lists.len()] as usize);
    let values = values.slice(first, last - first);
    let mut of = Vec::with_capacity(last - first);
    for (list, group) in groups.iter().enumerate() {
        let length = offsets[list + 1] - offsets[list];
        of.extend((0..length).map(|_| *group));
    }
    Ok((of, values.columns().to_vec()))
}
