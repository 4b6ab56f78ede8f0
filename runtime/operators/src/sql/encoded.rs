//! Rows by slot in arrow's row encoding, each slot's in an order of its own: what Top-N, deduplication and their like remember.
//!
//! State: a table of a list of rows by key. Where rows are sorted, a row's sort key is made of it again when state is restored.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, ListArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};
use thalweg_plan::spec::SortKey;
use thalweg_state::{Slot, SlotColumn};

/// Bytes of a row besides its values.
const ROW_BYTES: usize = 40;

/// A row, what it is sorted by and what tells it apart, in one piece of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Encoded {
    /// Sort key, identity, row; the first two are empty where rows have none.
    bytes: Arc<[u8]>,
    id_at: u32,
    row_at: u32,
}

impl Encoded {
    /// The sort key, in byte order.
    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        &self.bytes[..self.id_at as usize]
    }

    /// What tells the row apart.
    #[inline]
    pub(crate) fn id(&self) -> &[u8] {
        &self.bytes[self.id_at as usize..self.row_at as usize]
    }

    /// The row's values.
    #[inline]
    pub(crate) fn row(&self) -> &[u8] {
        &self.bytes[self.row_at as usize..]
    }
}

/// Some columns as bytes.
struct Part {
    converter: RowConverter,
    columns: Vec<usize>,
}

impl Part {
    fn new(fields: Vec<SortField>, columns: Vec<usize>) -> Result<Option<Self>, ArrowError> {
        if columns.is_empty() {
            return Ok(None);
        }
        let converter = RowConverter::new(fields)?;
        Ok(Some(Self { converter, columns }))
    }

    fn encode(&self, columns: &[ArrayRef]) -> Result<Rows, ArrowError> {
        let columns: Vec<ArrayRef> = self
            .columns
            .iter()
            .map(|column| Arc::clone(&columns[*column]))
            .collect();
        self.converter.convert_columns(&columns)
    }
}

/// Columns as rows, and back.
pub(crate) struct RowCodec {
    converter: RowConverter,
    order: Option<Part>,
    ids: Option<Part>,
}

/// Encoded rows of a batch.
pub(crate) struct EncodedBatch {
    rows: Rows,
    keys: Option<Rows>,
    ids: Option<Rows>,
}

fn part(rows: Option<&Rows>, row: usize) -> &[u8] {
    rows.map_or(&[], |rows| rows.row(row).data())
}

impl EncodedBatch {
    /// A row's sort key.
    #[inline]
    pub(crate) fn key(&self, row: usize) -> &[u8] {
        part(self.keys.as_ref(), row)
    }

    /// What tells a row apart.
    #[inline]
    pub(crate) fn id(&self, row: usize) -> &[u8] {
        part(self.ids.as_ref(), row)
    }

    /// A row's values.
    #[inline]
    pub(crate) fn row(&self, row: usize) -> &[u8] {
        self.rows.row(row).data()
    }

    /// A row of its own; `scratch` is written over.
    pub(crate) fn get(&self, row: usize, scratch: &mut Vec<u8>) -> Encoded {
        scratch.clear();
        scratch.extend_from_slice(self.key(row));
        let id_at = scratch.len() as u32;
        scratch.extend_from_slice(self.id(row));
        let row_at = scratch.len() as u32;
        scratch.extend_from_slice(self.row(row));
        Encoded {
            bytes: scratch.as_slice().into(),
            id_at,
            row_at,
        }
    }
}

impl RowCodec {
    /// For rows of this schema, sorted by `order`; an error for types that have no encoding.
    pub(crate) fn new(schema: &SchemaRef, order: &[SortKey]) -> Result<Self, ArrowError> {
        Self::with_ids(schema, order, &[])
    }

    /// The same, of rows that these columns tell apart.
    pub(crate) fn with_ids(schema: &SchemaRef, order: &[SortKey], ids: &[usize]) -> Result<Self, ArrowError> {
        let type_of = |column: usize| schema.field(column).data_type().clone();
        let field = |column: usize| SortField::new(type_of(column));
        let keys = order.iter().map(|key| {
            let options = SortOptions {
                descending: key.descending,
                nulls_first: key.nulls_first,
            };
            SortField::new_with_options(type_of(key.column), options)
        });
        Ok(Self {
            converter: RowConverter::new((0..schema.fields().len()).map(field).collect())?,
            order: Part::new(keys.collect(), order.iter().map(|key| key.column).collect())?,
            ids: Part::new(ids.iter().map(|id| field(*id)).collect(), ids.to_vec())?,
        })
    }

    /// Columns as rows.
    pub(crate) fn encode(&self, columns: &[ArrayRef]) -> Result<EncodedBatch, ArrowError> {
        let of = |part: &Option<Part>| part.as_ref().map(|part| part.encode(columns)).transpose();
        Ok(EncodedBatch {
            rows: self.converter.convert_columns(columns)?,
            keys: of(&self.order)?,
            ids: of(&self.ids)?,
        })
    }

    /// Rows as columns.
    pub(crate) fn decode<'a, R: AsRef<[u8]> + ?Sized + 'a>(
        &self,
        rows: impl Iterator<Item = &'a R>,
    ) -> Result<Vec<ArrayRef>, ArrowError> {
        let parser = self.converter.parser();
        self.converter
            .convert_rows(rows.map(|row| parser.parse(row.as_ref())))
    }
}

/// Rows by slot.
pub(crate) struct EncodedRows {
    fields: Fields,
    pub(crate) codec: RowCodec,
    slots: Vec<Vec<Encoded>>,
    heap: usize,
    scratch: Vec<u8>,
}

impl EncodedRows {
    /// For rows of this schema, sorted by `order`, which the columns `ids` tell apart.
    pub(crate) fn new(schema: &SchemaRef, order: &[SortKey], ids: &[usize]) -> Result<Self, ArrowError> {
        let fields = schema.fields().iter();
        Ok(Self {
            fields: fields
                .map(|field| Arc::new(Field::clone(field).with_nullable(true)))
                .collect(),
            codec: RowCodec::with_ids(schema, order, ids)?,
            slots: Vec::new(),
            heap: 0,
            scratch: Vec::new(),
        })
    }

    /// A slot's rows.
    pub(crate) fn rows(&self, slot: Slot) -> &[Encoded] {
        &self.slots[slot as usize]
    }

    /// Puts a row of a batch at a place.
    pub(crate) fn insert(&mut self, slot: Slot, place: usize, batch: &EncodedBatch, row: usize) {
        let row = batch.get(row, &mut self.scratch);
        self.heap += bytes_of(&row);
        self.slots[slot as usize].insert(place, row);
    }

    /// Puts a row of a batch in place of one; that one.
    pub(crate) fn replace(&mut self, slot: Slot, place: usize, batch: &EncodedBatch, row: usize) -> Encoded {
        let row = batch.get(row, &mut self.scratch);
        self.heap += bytes_of(&row);
        let before = std::mem::replace(&mut self.slots[slot as usize][place], row);
        self.heap -= bytes_of(&before);
        before
    }

    /// Takes the row at a place.
    pub(crate) fn remove(&mut self, slot: Slot, place: usize) -> Encoded {
        let row = self.slots[slot as usize].remove(place);
        self.heap -= bytes_of(&row);
        row
    }

    /// Drops the first rows.
    pub(crate) fn remove_first(&mut self, slot: Slot, count: usize) {
        let gone = self.slots[slot as usize].drain(..count);
        self.heap -= gone.as_slice().iter().map(bytes_of).sum::<usize>();
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
    row.bytes.len() + ROW_BYTES
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
        let columns = self.codec.decode(rows.map(Encoded::row))?;
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
                self.insert(*slot, place, &encoded, row);
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
