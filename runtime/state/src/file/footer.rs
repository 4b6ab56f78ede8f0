//! The index at the end of a state file. Field numbers are never reused.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{FieldRef, Schema};
use prost::Message;

use super::block;
use super::{MAGIC, TRAILER_BYTES, VERSION, damaged};
use crate::{StateError, TableDescriptor, TableKind};

/// What a file holds.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Footer {
    /// Number of key groups that the rows were grouped by; 0 where there are no keys.
    #[prost(uint32, tag = "1")]
    pub(crate) max_parallelism: u32,
    #[prost(message, repeated, tag = "2")]
    pub(crate) tables: Vec<TableEntry>,
    /// By table, then by place.
    #[prost(message, repeated, tag = "3")]
    pub(crate) blocks: Vec<BlockEntry>,
    /// Version of the engine that wrote it, for people.
    #[prost(string, tag = "4")]
    pub(crate) writer: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TableEntry {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    /// See [`kind_code`].
    #[prost(uint32, tag = "2")]
    pub(crate) kind: u32,
    /// An Arrow IPC schema message: key, sub-key and value columns as declared.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) schema: Vec<u8>,
    #[prost(uint32, tag = "4")]
    pub(crate) key_columns: u32,
    #[prost(uint32, tag = "5")]
    pub(crate) sub_key_columns: u32,
    /// 0 = none.
    #[prost(uint64, tag = "6")]
    pub(crate) ttl_ms: u64,
    /// Upserts.
    #[prost(uint64, tag = "7")]
    pub(crate) rows: u64,
    /// Deletes of either kind.
    #[prost(uint64, tag = "8")]
    pub(crate) deletes: u64,
    /// Key groups with upserts, each but the first as its distance from the one before; parallel to `group_rows`.
    #[prost(uint32, repeated, tag = "9")]
    pub(crate) groups: Vec<u32>,
    #[prost(uint64, repeated, tag = "10")]
    pub(crate) group_rows: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct BlockEntry {
    /// Index into `tables`.
    #[prost(uint32, tag = "1")]
    pub(crate) table: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) first_group: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) last_group: u32,
    #[prost(uint64, tag = "4")]
    pub(crate) offset: u64,
    /// As stored.
    #[prost(uint32, tag = "5")]
    pub(crate) length: u32,
    /// Before LZ4; 0 = stored as it is.
    #[prost(uint32, tag = "6")]
    pub(crate) raw_length: u32,
    #[prost(uint32, tag = "7")]
    pub(crate) rows: u32,
    /// Of the stored bytes.
    #[prost(fixed32, tag = "8")]
    pub(crate) crc32c: u32,
    /// Whether it has the column `$change`.
    #[prost(bool, tag = "9")]
    pub(crate) changes: bool,
}

impl Footer {
    /// Footer and trailer.
    pub(crate) fn encode_with_trailer(&self) -> Vec<u8> {
        let mut bytes = self.encode_to_vec();
        let length = bytes.len() as u32;
        bytes.extend(length.to_le_bytes());
        let crc = crc32c::crc32c(&bytes);
        bytes.extend(crc.to_le_bytes());
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(MAGIC);
        bytes
    }

    /// The length of footer and trailer, from a file's last [`TRAILER_BYTES`].
    pub(crate) fn length_in(file: &str, trailer: &[u8]) -> Result<usize, StateError> {
        if trailer.len() < TRAILER_BYTES || &trailer[trailer.len() - 8..] != MAGIC {
            return Err(damaged(
                file,
                "it is cut off, or no state file: its last bytes are missing",
            ));
        }
        let number = |from: usize| {
            let place = trailer.len() - TRAILER_BYTES + from;
            u32::from_le_bytes([
                trailer[place],
                trailer[place + 1],
                trailer[place + 2],
                trailer[place + 3],
            ])
        };
        let version = number(8);
        if version != VERSION {
            return Err(StateError::Version {
                file: file.to_owned(),
                found: version,
                supported: VERSION,
            });
        }
        Ok(number(0) as usize + TRAILER_BYTES)
    }

    /// From the bytes of footer and trailer; `size` is the file's.
    pub(crate) fn decode(file: &str, bytes: &[u8], size: u64) -> Result<Self, StateError> {
        let length = Self::length_in(file, bytes)?;
        if bytes.len() != length {
            return Err(damaged(file, "the index at its end is cut off"));
        }
        let checked = &bytes[..length - TRAILER_BYTES + 4];
        let crc = &bytes[length - TRAILER_BYTES + 4..length - TRAILER_BYTES + 8];
        if crc != crc32c::crc32c(checked).to_le_bytes() {
            return Err(damaged(file, "the checksum of the index at its end differs"));
        }
        let footer = <Self as Message>::decode(&bytes[..length - TRAILER_BYTES])
            .map_err(|error| damaged(file, format!("the index at its end can't be read: {error}")))?;
        let end = size - length as u64;
        let misplaced = |block: &BlockEntry| {
            block.table as usize >= footer.tables.len() || block.offset + u64::from(block.length) > end
        };
        if footer.blocks.iter().any(misplaced) {
            return Err(damaged(file, "the index at its end points outside of it"));
        }
        Ok(footer)
    }
}

impl TableEntry {
    pub(crate) fn new(descriptor: &TableDescriptor) -> Result<Self, StateError> {
        let columns = descriptor
            .key
            .iter()
            .chain(&descriptor.sub_key)
            .chain(&descriptor.value);
        let schema = Schema::new(columns.cloned().collect::<Vec<FieldRef>>());
        Ok(Self {
            name: descriptor.name.clone(),
            kind: kind_code(descriptor.kind),
            schema: block::encode_schema(&schema)?,
            key_columns: descriptor.key.len() as u32,
            sub_key_columns: descriptor.sub_key.len() as u32,
            ttl_ms: descriptor.ttl.map_or(0, |ttl| ttl.as_millis() as u64),
            ..Self::default()
        })
    }

    pub(crate) fn descriptor(&self, file: &str) -> Result<TableDescriptor, StateError> {
        let malformed = |what: &str| damaged(file, format!("table {:?}: {what}", self.name));
        let schema = block::decode_schema(&self.schema).map_err(|error| malformed(&error.to_string()))?;
        let (keys, sub_keys) = (self.key_columns as usize, self.sub_key_columns as usize);
        let fields: Vec<FieldRef> = schema.fields().iter().cloned().collect();
        let (key, rest) = fields
            .split_at_checked(keys)
            .ok_or_else(|| malformed("it lacks key columns"))?;
        let (sub_key, value) = rest
            .split_at_checked(sub_keys)
            .ok_or_else(|| malformed("it lacks sub-key columns"))?;
        Ok(TableDescriptor {
            name: self.name.clone(),
            kind: kind_of(self.kind).ok_or_else(|| malformed("its kind is unknown"))?,
            key: key.to_vec(),
            sub_key: sub_key.to_vec(),
            value: value.to_vec(),
            ttl: (self.ttl_ms > 0).then(|| Duration::from_millis(self.ttl_ms)),
        })
    }

    /// Counts `rows` upserts in a key group; groups come in order.
    pub(crate) fn count(&mut self, last: &mut Option<u32>, group: u32, rows: u64) {
        self.rows += rows;
        match (*last, self.group_rows.last_mut()) {
            (Some(last), Some(counted)) if last == group => *counted += rows,
            (before, _) => {
                self.groups.push(group - before.unwrap_or(0));
                self.group_rows.push(rows);
                *last = Some(group);
            }
        }
    }

    /// Key groups with upserts, and how many.
    pub(crate) fn rows_by_group(&self) -> impl Iterator<Item = (u32, u64)> {
        let mut group = 0;
        self.groups
            .iter()
            .zip(&self.group_rows)
            .map(move |(distance, rows)| {
                group += distance;
                (group, *rows)
            })
    }
}

fn kind_code(kind: TableKind) -> u32 {
    match kind {
        TableKind::Value => 1,
        TableKind::List => 2,
        TableKind::Map => 3,
        TableKind::Timers => 4,
        TableKind::Window => 5,
    }
}

fn kind_of(code: u32) -> Option<TableKind> {
    [
        TableKind::Value,
        TableKind::List,
        TableKind::Map,
        TableKind::Timers,
        TableKind::Window,
    ]
    .into_iter()
    .find(|kind| kind_code(*kind) == code)
}

/// A table that only holds rows: a list, elements under way.
pub(crate) fn keyless(name: &str, schema: &Schema) -> Arc<TableDescriptor> {
    Arc::new(TableDescriptor {
        name: name.to_owned(),
        kind: TableKind::List,
        key: Vec::new(),
        sub_key: Vec::new(),
        value: schema.fields().iter().cloned().collect(),
        ttl: None,
    })
}
