//! Rows by slot in arrow's row encoding, each slot's in an order of its own: what Top-N, deduplication and their like remember.
//!
//! State: a table of a list of rows by key. Where rows are sorted, a row's sort key is made of it again when state is restored.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, ListArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use thalweg_plan::spec::SortKey;
use thalweg_state::{Slot, SlotColumn};

/// Bytes of a row besides its values.
const ROW_BYTES: usize = 64;

/// A row, and what it is sorted by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Encoded {
    /// Empty where rows aren't sorted. In byte order.
    pub(crate) key: Arc<[u8]>,
    pub(crate) row: Arc<[u8]>,
}

/// Columns as rows, and back.
pub(crate) struct RowCodec {
    converter: RowConverter,
    order: Option<(RowConverter, Vec<usize>)>,
}

/// Encoded rows of a batch.
pub(crate) struct EncodedBatch {
    rows: arrow::row::Rows,
    keys: Option<arrow::row::Rows>,
}

impl EncodedBatch {
    /// A row's sort key.
    pub(crate) fn key(&self, row: usize) -> &[u8] {
        self.keys.as_ref().map_or(&[], |keys| keys.row(row).data())
    }

    /// A row's values.
    pub(crate) fn row(&self, row: usize) -> &[u8] {
        self.rows.row(row).data()
    }

    /// A row of its own.
    pub(crate) fn get(&self, row: usize) -> Encoded {
        Encoded {
            key: self.key(row).into(),
            row: self.row(row).into(),
        }
    }
}

impl RowCodec {
    /// For rows of this schema, sorted by `order`; an error for types that have no encoding.
    pub(crate) fn new(schema: &SchemaRef, order: &[SortKey]) -> Result<Self, ArrowError> {
        let type_of = |column: usize| schema.field(column).data_type().clone();
        let fields = (0..schema.fields().len()).map(|column| SortField::new(type_of(column)));
        let keys = order.iter().map(|key| {
            let options = SortOptions {
                descending: key.descending,
                nulls_first: key.nulls_first,
            };
            SortField::new_with_options(type_of(key.column), options)
        });
        let order = match order.is_empty() {
            true => None,
            false => Some((
                RowConverter::new(keys.collect())?,
                order.iter().map(|key| key.column).collect(),
            )),
        };
        Ok(Self {
            converter: RowConverter::new(fields.collect())?,
            order,
        })
    }

    /// Columns as rows.
    pub(crate) fn encode(&self, columns: &[ArrayRef]) -> Result<EncodedBatch, ArrowError> {
        let keys = self.order.as_ref().map(|(converter, order)| {
            let columns: Vec<ArrayRef> = order.iter().map(|column| Arc::clone(&columns[*column])).collect();
            converter.convert_columns(&columns)
        });
        Ok(EncodedBatch {
            rows: self.converter.convert_columns(columns)?,
            keys: keys.transpose()?,
        })
    }

    /// Rows as columns.
    pub(crate) fn decode<'a>(
        &self,
        rows: impl Iterator<Item = &'a Arc<[u8]>>,
    ) -> Result<Vec<ArrayRef>, ArrowError> {
        let parser = self.converter.parser();
        self.converter.convert_rows(rows.map(|row| parser.parse(row)))
    }
}

/// Rows by slot.
pub(crate) struct EncodedRows {
    fields: Fields,
    pub(crate) codec: RowCodec,
    slots: Vec<Vec<Encoded>>,
    heap: usize,
}

impl EncodedRows {
    /// For rows of this schema, sorted by `order`.
    pub(crate) fn new(schema: &SchemaRef, order: &[SortKey]) -> Result<Self, ArrowError> {
        let fields = schema.fields().iter();
        Ok(Self {
            fields: fields
                .map(|field| Arc::new(Field::clone(field).with_nullable(true)))
                .collect(),
            codec: RowCodec::new(schema, order)?,
            slots: Vec::new(),
            heap: 0,
        })
    }

    /// A slot's rows.
    pub(crate) fn rows(&self, slot: Slot) -> &[Encoded] {
        &self.slots[slot as usize]
    }

    /// Puts a row at a place.
    pub(crate) fn insert(&mut self, slot: Slot, place: usize, row: Encoded) {
        self.heap += bytes_of(&row);
        self.slots[slot as usize].insert(place, row);
    }

    /// Takes the row at a place.
    pub(crate) fn remove(&mut self, slot: Slot, place: usize) -> Encoded {
        let row = self.slots[slot as usize].remove(place);
        self.heap -= bytes_of(&row);
        row
    }

    /// Leaves the first rows.
    pub(crate) fn truncate(&mut self, slot: Slot, count: usize) {
        let rows = &mut self.slots[slot as usize];
        let gone = rows.len().min(count);
        self.heap -= rows[gone..].iter().map(bytes_of).sum::<usize>();
        rows.truncate(count);
    }

    fn item(&self) -> FieldRef {
        Arc::new(Field::new("item", DataType::Struct(self.fields.clone()), false))
    }
}

fn bytes_of(row: &Encoded) -> usize {
    row.key.len() + row.row.len() + ROW_BYTES
}

impl SlotColumn for EncodedRows {
    fn fields(&self) -> Vec<FieldRef> {
        vec![Arc::new(Field::new("rows", DataType::List(self.item()), false))]
    }

    fn resize(&mut self, count: usize) {
        self.slots.resize_with(count.max(self.slots.len()), Vec::new);
    }

    fn gather(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, ArrowError> {
        let rows = slots.iter().flat_map(|slot| self.rows(*slot));
        let columns = self.codec.decode(rows.map(|row| &row.row))?;
        let lengths: Vec<usize> = slots.iter().map(|slot| self.rows(*slot).len()).collect();
        let values =
            StructArray::try_new_with_length(self.fields.clone(), columns, None, lengths.iter().sum())?;
        let list = ListArray::try_new(
            self.item(),
            OffsetBuffer::from_lengths(lengths),
            Arc::new(values),
            None,
        )?;
        Ok(vec![Arc::new(list)])
    }

    fn scatter(&mut self, slots: &[Slot], columns: &[ArrayRef]) -> Result<(), ArrowError> {
        self.clear(slots);
        let wrong = || ArrowError::InvalidArgumentError("stored rows are no list of rows".to_owned());
        let lists = columns
            .first()
            .and_then(|column| column.as_list_opt::<i32>())
            .ok_or_else(wrong)?;
        let rows = lists.values().as_struct_opt().ok_or_else(wrong)?;
        let encoded = self.codec.encode(rows.columns())?;
        for (slot, range) in slots.iter().zip(lists.value_offsets().windows(2)) {
            for row in range[0] as usize..range[1] as usize {
                let place = self.rows(*slot).len();
                self.insert(*slot, place, encoded.get(row));
            }
        }
        Ok(())
    }

    fn clear(&mut self, slots: &[Slot]) {
        for slot in slots {
            self.truncate(*slot, 0);
            self.slots[*slot as usize] = Vec::new();
        }
    }

    fn memory_size(&self) -> usize {
        self.heap + self.slots.capacity() * size_of::<Vec<Encoded>>()
    }
}
