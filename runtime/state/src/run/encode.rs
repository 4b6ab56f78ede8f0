//! Sorts snapshots and writes them as files.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, AsArray, Int8Array, RecordBatch};
use arrow::compute::interleave;
use arrow::datatypes::{Int8Type, UInt32Type, UInt64Type};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};
use thalweg_types::key_group::key_group;

use super::Scope;
use super::sizes::RowSizes;
use crate::file::BLOCK_BYTES;
use crate::file::builder::{BlockRows, FileBuilder, FileSummary, Sink};
use crate::file::footer::keyless;
use crate::snapshot::Stored;
use crate::state_hash::StateHash;
use crate::{ChangeKind, ListSnapshot, StateError, TableDescriptor, TableSnapshot};

/// Columns before the key: key group, hash, change.
const HEAD_COLUMNS: usize = 3;

/// Writes the changes of an operator's tables as one run.
pub(crate) fn encode_run(
    tables: &[TableSnapshot],
    scope: &Scope,
    sink: &mut dyn Sink,
) -> Result<FileSummary, StateError> {
    let mut builder = FileBuilder::new(scope.max_parallelism, scope.block_bytes, sink)?;
    for table in tables {
        builder.begin_table(&table.descriptor)?;
        if let Some(Stored::Table(view, number)) = &table.stored.0 {
            view.write_table(*number, scope, &mut builder)?;
            continue;
        }
        let changes = TableChanges::new(table, scope)?;
        changes.write(&mut builder)?;
    }
    builder.finish()
}

/// Writes a snapshot as one run, wherever its rows are.
pub(crate) fn encode_snapshot(
    tables: &[TableSnapshot],
    scope: &Scope,
    sink: &mut dyn Sink,
) -> Result<FileSummary, StateError> {
    let deltas = tables.iter().find_map(|table| match &table.stored.0 {
        Some(Stored::Deltas(deltas)) => Some(deltas),
        _ => None,
    });
    match deltas {
        Some(deltas) => deltas.merge_with(tables, scope, sink),
        None => encode_run(tables, scope, sink),
    }
}

/// Writes batches of one schema, in their order, as a file of one table without keys.
pub(crate) fn encode_batches(
    name: &str,
    batches: &[RecordBatch],
    sink: &mut dyn Sink,
) -> Result<FileSummary, StateError> {
    let mut builder = FileBuilder::new(0, BLOCK_BYTES, sink)?;
    if let Some(first) = batches.first() {
        let schema = builder
            .begin_table(&keyless(name, &first.schema()))?
            .schema(false)
            .clone();
        for batch in batches {
            let batch = RecordBatch::try_new(schema.clone(), batch.columns().to_vec())
                .map_err(|source| malformed(name, &source.to_string()))?;
            builder.block(&BlockRows {
                changes: false,
                groups: &vec![0; batch.num_rows()],
                is_upsert: &|_| true,
                batch,
            })?;
        }
    }
    builder.finish()
}

/// Writes a list.
pub(crate) fn encode_list(list: &ListSnapshot, sink: &mut dyn Sink) -> Result<FileSummary, StateError> {
    encode_batches(&list.name, std::slice::from_ref(&list.items), sink)
}

/// The changes of one table, checked, with what sorting needs.
struct TableChanges<'a> {
    descriptor: &'a TableDescriptor,
    batches: Vec<Batch<'a>>,
    converters: Converters,
    scope: &'a Scope,
}

struct Batch<'a> {
    /// `$change`, key, sub-key and value columns.
    columns: &'a [ArrayRef],
    groups: &'a [u32],
    changes: &'a [i8],
    sizes: RowSizes,
}

/// Encodings of keys and sub-keys that sort as their values do.
pub(crate) struct Converters {
    keys: RowConverter,
    sub_keys: Option<RowConverter>,
}

/// A row's place: batch, row.
type Place = (u32, u32);

impl Converters {
    pub(crate) fn new(descriptor: &TableDescriptor) -> Result<Self, StateError> {
        let converter = |fields: &[arrow::datatypes::FieldRef]| {
            let fields = fields
                .iter()
                .map(|field| SortField::new(field.data_type().clone()));
            RowConverter::new(fields.collect())
                .map_err(|error| malformed(&descriptor.name, &error.to_string()))
        };
        Ok(Self {
            keys: converter(&descriptor.key)?,
            sub_keys: match descriptor.sub_key.is_empty() {
                true => None,
                false => Some(converter(&descriptor.sub_key)?),
            },
        })
    }

    pub(crate) fn convert(
        &self,
        keys: &[ArrayRef],
        sub_keys: &[ArrayRef],
    ) -> Result<(Rows, Option<Rows>), StateError> {
        let keys = self.keys.convert_columns(keys).map_err(sorting)?;
        let sub_keys = self
            .sub_keys
            .as_ref()
            .map(|converter| converter.convert_columns(sub_keys));
        Ok((keys, sub_keys.transpose().map_err(sorting)?))
    }
}

fn sorting(source: ArrowError) -> StateError {
    StateError::Arrow {
        step: "sorting",
        source,
    }
}

fn malformed(table: &str, message: &str) -> StateError {
    StateError::Malformed {
        state: table.to_owned(),
        message: message.to_owned(),
    }
}

impl<'a> TableChanges<'a> {
    fn new(table: &'a TableSnapshot, scope: &'a Scope) -> Result<Self, StateError> {
        let descriptor = &*table.descriptor;
        let mut hashes = Vec::new();
        let mut batches = Vec::with_capacity(table.changes.len());
        for batch in &table.changes {
            check_columns(descriptor, batch)?;
            let keys = &batch.columns()[HEAD_COLUMNS..HEAD_COLUMNS + descriptor.key.len()];
            StateHash::of(&descriptor.key, scope.max_parallelism)
                .hashes(keys, &mut hashes)
                .map_err(|error| malformed(&descriptor.name, &error.to_string()))?;
            let groups = batch.column(0).as_primitive::<UInt32Type>().values();
            let stored = batch.column(1).as_primitive::<UInt64Type>().values();
            let agrees = |(group, hash): (&u32, &u64)| {
                *group == key_group(*hash, scope.max_parallelism) && scope.key_groups.contains(*group)
            };
            if hashes[..] != stored[..] || !groups.iter().zip(&hashes).all(agrees) {
                let message = "a row's hash or key group is not that of its key";
                return Err(malformed(&descriptor.name, message));
            }
            batches.push(Batch {
                columns: &batch.columns()[HEAD_COLUMNS - 1..],
                groups,
                changes: batch.column(2).as_primitive::<Int8Type>().values(),
                sizes: RowSizes::new(batch),
            });
        }
        Ok(Self {
            converters: Converters::new(descriptor)?,
            descriptor,
            batches,
            scope,
        })
    }

    fn write(&self, builder: &mut FileBuilder<'_>) -> Result<(), StateError> {
        let (places, ends) = self.by_group();
        let mut block = BlockCut::new(self);
        let mut from = 0;
        for (index, end) in ends.iter().enumerate() {
            let next = ends.get(index + 1).copied().unwrap_or(usize::MAX);
            // The next group would make it too large, or there is none.
            if next.saturating_sub(from) > self.scope.sort_rows && *end > from {
                for place in self.sorted(&places[from..*end])? {
                    block.push(place, builder)?;
                }
                from = *end;
            }
        }
        block.flush(builder)
    }

    /// All rows' places by key group, and where each group ends.
    fn by_group(&self) -> (Vec<Place>, Vec<usize>) {
        let first = self.scope.key_groups.start;
        let mut ends = vec![0; (self.scope.key_groups.end - first + 1) as usize];
        for group in self.batches.iter().flat_map(|batch| batch.groups) {
            ends[(group - first) as usize] += 1;
        }
        let mut next = 0;
        for end in &mut ends {
            let rows = *end;
            *end = next;
            next += rows;
        }
        let mut places = vec![(0, 0); next];
        for (number, batch) in self.batches.iter().enumerate() {
            for (row, group) in batch.groups.iter().enumerate() {
                let at = &mut ends[(group - first) as usize];
                places[*at] = (number as u32, row as u32);
                *at += 1;
            }
        }
        (places, ends)
    }

    /// The places of some whole key groups, sorted by group, key, DeleteKey first, sub-key.
    fn sorted(&self, places: &[Place]) -> Result<Vec<Place>, StateError> {
        let wide: Vec<(usize, usize)> = places.iter().map(widen).collect();
        let keys = self.gather(1, self.descriptor.key.len(), &wide)?;
        let sub_keys = self.gather(1 + keys.len(), self.descriptor.sub_key.len(), &wide)?;
        let (keys, sub_keys) = self.converters.convert(&keys, &sub_keys)?;
        let mut order: Vec<(u128, u32)> = places
            .iter()
            .enumerate()
            .map(|(index, (batch, row))| {
                let group = self.batches[*batch as usize].groups[*row as usize];
                (prefix(group, keys.row(index).data()), index as u32)
            })
            .collect();
        let delete_key = |index: u32| {
            let (batch, row) = places[index as usize];
            self.batches[batch as usize].changes[row as usize] == ChangeKind::DeleteKey as i8
        };
        let compare_rest = |left: u32, right: u32| {
            let by_key = keys.row(left as usize).cmp(&keys.row(right as usize));
            by_key
                .then_with(|| delete_key(right).cmp(&delete_key(left)))
                .then_with(|| match &sub_keys {
                    Some(rows) => rows.row(left as usize).cmp(&rows.row(right as usize)),
                    None => Ordering::Equal,
                })
        };
        order
            .sort_unstable_by(|left, right| left.0.cmp(&right.0).then_with(|| compare_rest(left.1, right.1)));
        Ok(order
            .into_iter()
            .map(|(_, index)| places[index as usize])
            .collect())
    }

    /// Columns `from .. from + count` of the batches' at these places.
    fn gather(
        &self,
        from: usize,
        count: usize,
        places: &[(usize, usize)],
    ) -> Result<Vec<ArrayRef>, StateError> {
        (from..from + count)
            .map(|column| {
                let columns: Vec<&dyn Array> =
                    self.batches.iter().map(|batch| &*batch.columns[column]).collect();
                interleave(&columns, places).map_err(sorting)
            })
            .collect()
    }
}

/// The first bytes of (key group, key), which tell most rows apart.
fn prefix(group: u32, key: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&group.to_be_bytes());
    let length = key.len().min(12);
    bytes[4..4 + length].copy_from_slice(&key[..length]);
    u128::from_be_bytes(bytes)
}

fn widen(place: &Place) -> (usize, usize) {
    (place.0 as usize, place.1 as usize)
}

fn check_columns(descriptor: &TableDescriptor, batch: &RecordBatch) -> Result<(), StateError> {
    let expected = descriptor.change_schema();
    let types = |schema: &arrow::datatypes::Schema| -> Vec<arrow::datatypes::DataType> {
        schema
            .fields()
            .iter()
            .map(|field| field.data_type().clone())
            .collect()
    };
    if types(&expected) != types(&batch.schema()) {
        let message = format!(
            "its changes have columns {:?}, not {:?}",
            batch.schema(),
            expected
        );
        return Err(malformed(&descriptor.name, &message));
    }
    Ok(())
}

/// Collects sorted rows until they are a block.
struct BlockCut<'a, 'b> {
    changes: &'b TableChanges<'a>,
    places: Vec<(usize, usize)>,
    groups: Vec<u32>,
    bytes: usize,
}

impl<'a, 'b> BlockCut<'a, 'b> {
    fn new(changes: &'b TableChanges<'a>) -> Self {
        Self {
            changes,
            places: Vec::new(),
            groups: Vec::new(),
            bytes: 0,
        }
    }

    /// A block ends where it is full, or half full at the end of a key group: then ranges of key groups read little else.
    fn push(&mut self, place: Place, builder: &mut FileBuilder<'_>) -> Result<(), StateError> {
        let (batch, row) = widen(&place);
        let group = self.changes.batches[batch].groups[row];
        let size = self.changes.batches[batch].sizes.of(row);
        let block_bytes = self.changes.scope.block_bytes;
        let full = self.bytes + size > block_bytes;
        let half_full = self.bytes > block_bytes / 2 && self.groups.last() != Some(&group);
        if !self.places.is_empty() && (full || half_full) {
            self.flush(builder)?;
        }
        self.places.push((batch, row));
        self.groups.push(group);
        self.bytes += size;
        Ok(())
    }

    fn flush(&mut self, builder: &mut FileBuilder<'_>) -> Result<(), StateError> {
        if self.places.is_empty() {
            return Ok(());
        }
        let kind = |place: &(usize, usize)| self.changes.batches[place.0].changes[place.1];
        let is_upsert = |row: usize| kind(&self.places[row]) == ChangeKind::Upsert as i8;
        let all_upserts = (0..self.places.len()).all(is_upsert);
        let descriptor = self.changes.descriptor;
        let columns = descriptor.key.len() + descriptor.sub_key.len() + descriptor.value.len();
        let mut gathered = match all_upserts {
            true => Vec::new(),
            false => vec![
                std::sync::Arc::new(Int8Array::from_iter_values(self.places.iter().map(kind))) as ArrayRef,
            ],
        };
        gathered.extend(self.changes.gather(1, columns, &self.places)?);
        write_block(
            builder,
            descriptor,
            gathered,
            !all_upserts,
            &self.groups,
            &is_upsert,
        )?;
        self.places.clear();
        self.groups.clear();
        self.bytes = 0;
        Ok(())
    }
}

/// Writes columns as a block of the table begun last.
pub(crate) fn write_block(
    builder: &mut FileBuilder<'_>,
    descriptor: &TableDescriptor,
    columns: Vec<ArrayRef>,
    changes: bool,
    groups: &[u32],
    is_upsert: &dyn Fn(usize) -> bool,
) -> Result<(), StateError> {
    let schema = builder.schema(changes);
    let batch = RecordBatch::try_new(schema, columns)
        .map_err(|error| malformed(&descriptor.name, &error.to_string()))?;
    builder.block(&BlockRows {
        batch,
        changes,
        groups,
        is_upsert,
    })
}
