//! Kafka's record batch (magic 2), encoded as rows come: one buffer a batch, nothing allocated a record.
//!
//! ```text
//!   append(key, value, time) -> [ 61 bytes of header | record | record | .. ]
//!   close(compression)       -> the records compressed, the header written but for what the sender decides
//!   stamp(identity, sequence) -> producer, sequence and checksum written: the bytes that go to the broker
//! ```
//!
//! A batch keeps its bytes between attempts: the broker recognizes a repeated batch by producer and sequence.
//! The format: <https://kafka.apache.org/documentation/#recordbatch>.

use bytes::Bytes;

use super::compression::{Compression, CompressionError};

/// Bytes before the first record.
pub(crate) const HEADER_BYTES: usize = 61;
/// The most that a record needs beside its key and value.
pub(crate) const RECORD_OVERHEAD: usize = 1 + 5 + 10 + 5 + 5 + 5 + 1;

const MAGIC: u8 = 2;
/// Where the checksum lies, and where what it covers begins.
const CRC: std::ops::Range<usize> = 17..21;
const ATTRIBUTES: std::ops::Range<usize> = 21..23;
/// In the last byte of the attributes.
const TRANSACTIONAL: u8 = 1 << 4;
const PRODUCER: std::ops::Range<usize> = 43..57;

/// Who writes; given by the broker to an idempotent producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProducerIdentity {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
}

impl ProducerIdentity {
    /// Of a producer whose batches the broker doesn't tell apart.
    pub(crate) const NONE: Self = Self { id: -1, epoch: -1 };
}

/// Lengths of a record's key and value; 0 = null or empty.
pub(crate) type Lengths = (usize, usize);

/// A batch that still takes records.
#[derive(Debug)]
pub(crate) struct OpenBatch {
    buffer: Vec<u8>,
    records: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    last: Lengths,
}

impl OpenBatch {
    /// With room for so many bytes.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        let mut buffer = Vec::with_capacity(bytes.max(HEADER_BYTES));
        buffer.resize(HEADER_BYTES, 0);
        Self {
            buffer,
            records: 0,
            base_timestamp: 0,
            max_timestamp: i64::MIN,
            last: (0, 0),
        }
    }

    /// Bytes so far, with the header.
    pub(crate) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Appends a record with headers as [`encode_headers`] writes them. Callers keep a batch below 2 GiB.
    #[inline]
    pub(crate) fn append(
        &mut self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[u8],
        timestamp_ms: i64,
    ) {
        if self.records == 0 {
            self.base_timestamp = timestamp_ms;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp_ms);
        let since_base = timestamp_ms.wrapping_sub(self.base_timestamp);
        let offset = i64::from(self.records);
        // there are no attributes: a 0
        let length = 1
            + varint_len(since_base)
            + varint_len(offset)
            + field_len(key)
            + field_len(value)
            + headers.len();
        let start = self.buffer.len();
        self.buffer.resize(start + varint_len(length as i64) + length, 0);
        let mut record = Cursor {
            bytes: &mut self.buffer[start..],
            at: 0,
        };
        record.varint(length as i64);
        record.at += 1;
        record.varint(since_base);
        record.varint(offset);
        record.field(key);
        record.field(value);
        record.bytes[record.at..].copy_from_slice(headers);
        self.records += 1;
        self.last = (key.map_or(0, <[u8]>::len), value.map_or(0, <[u8]>::len));
    }

    /// Takes no more records.
    pub(crate) fn close(mut self, compression: Compression) -> Result<RecordBatch, CompressionError> {
        if compression != Compression::None {
            let mut compressed = Vec::with_capacity(self.buffer.len() / 2 + HEADER_BYTES);
            compressed.resize(HEADER_BYTES, 0);
            compression.compress(&self.buffer[HEADER_BYTES..], &mut compressed)?;
            self.buffer = compressed;
        }
        let length = self.buffer.len() as i32;
        let header = &mut self.buffer[..HEADER_BYTES];
        header[8..12].copy_from_slice(&(length - 12).to_be_bytes());
        // the leader's epoch is the broker's to know
        header[12..16].copy_from_slice(&(-1_i32).to_be_bytes());
        header[16] = MAGIC;
        header[ATTRIBUTES].copy_from_slice(&compression.attribute().to_be_bytes());
        header[23..27].copy_from_slice(&(self.records - 1).to_be_bytes());
        header[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        header[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        header[57..61].copy_from_slice(&self.records.to_be_bytes());
        Ok(RecordBatch {
            buffer: self.buffer,
            records: self.records,
            last: self.last,
        })
    }
}

/// A batch that takes no more records and doesn't know its sequence yet.
#[derive(Debug)]
pub(crate) struct RecordBatch {
    buffer: Vec<u8>,
    records: i32,
    last: Lengths,
}

impl RecordBatch {
    /// Bytes as they go to the broker.
    pub(crate) fn len(&self) -> usize {
        self.buffer.len()
    }

    pub(crate) fn records(&self) -> i32 {
        self.records
    }

    /// The last record's lengths: the only one's, where there is one.
    pub(crate) fn last(&self) -> Lengths {
        self.last
    }

    /// It is written in a transaction.
    pub(crate) fn mark_transactional(&mut self) {
        self.buffer[ATTRIBUTES.end - 1] |= TRANSACTIONAL;
    }

    /// The bytes for the broker. `base_sequence` is the first record's number in its partition, -1 without an identity.
    pub(crate) fn stamp(mut self, producer: ProducerIdentity, base_sequence: i32) -> Bytes {
        let fields = &mut self.buffer[PRODUCER];
        fields[..8].copy_from_slice(&producer.id.to_be_bytes());
        fields[8..10].copy_from_slice(&producer.epoch.to_be_bytes());
        fields[10..].copy_from_slice(&base_sequence.to_be_bytes());
        let crc = crc32c::crc32c(&self.buffer[CRC.end..]);
        self.buffer[CRC].copy_from_slice(&crc.to_be_bytes());
        Bytes::from(self.buffer)
    }
}

/// Headers of a record that has none.
pub(crate) const NO_HEADERS: &[u8] = &[0];

/// Writes a record's headers over `out`: how many, then name and value of each.
pub(crate) fn encode_headers<'a>(
    headers: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
    out: &mut Vec<u8>,
) {
    let count = headers.clone().count() as i64;
    let fields = |(name, value): (&[u8], &[u8])| field_len(Some(name)) + field_len(Some(value));
    let length = varint_len(count) + headers.clone().map(fields).sum::<usize>();
    out.clear();
    out.resize(length, 0);
    let mut cursor = Cursor { bytes: out, at: 0 };
    cursor.varint(count);
    for (name, value) in headers {
        cursor.field(Some(name));
        cursor.field(Some(value));
    }
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

/// Bytes of a number: seven bits a byte.
#[inline]
fn varint_len(number: i64) -> usize {
    let bits = 64 - (zigzag(number) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Bytes of a key or value with its length.
#[inline]
fn field_len(field: Option<&[u8]>) -> usize {
    field.map_or(1, |bytes| varint_len(bytes.len() as i64) + bytes.len())
}

/// Writes a record into bytes that are there already, all 0.
struct Cursor<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Cursor<'_> {
    /// Zigzag, then seven bits a byte, the lowest first.
    #[inline]
    fn varint(&mut self, number: i64) {
        let mut rest = zigzag(number);
        while rest >= 0x80 {
            self.bytes[self.at] = rest as u8 | 0x80;
            self.at += 1;
            rest >>= 7;
        }
        self.bytes[self.at] = rest as u8;
        self.at += 1;
    }

    /// A key or value after its length; -1 = null.
    #[inline]
    fn field(&mut self, field: Option<&[u8]>) {
        self.varint(field.map_or(-1, |bytes| bytes.len() as i64));
        if let Some(bytes) = field {
            self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
            self.at += bytes.len();
        }
    }
}

#[cfg(test)]
mod tests;
