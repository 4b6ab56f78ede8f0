//! Reading a container file.

use std::io::{BufReader, Read};

use super::codec::{AvroCodec, MOST_BLOCK_BYTES};
use super::plan::{Resolver, RowPlan};
use super::schema::WriterSchema;
use super::{CODEC, MAGIC, SCHEMA, SYNC_BYTES};
use crate::FormatError;
use crate::avro::Reader as Values;
use crate::column::RowColumns;
use crate::format::Decoded;
use crate::projection::Projection;

/// The longest schema.
const MOST_HEADER_BYTES: u64 = 64 << 20;

/// Reads the records of a file into the columns of a projection.
pub struct AvroFileReader<R> {
    input: BufReader<R>,
    codec: AvroCodec,
    sync: [u8; SYNC_BYTES],
    resolver: Resolver,
    plan: RowPlan,
    projection: Projection,
    row: RowColumns,
    rows: usize,
    /// Decompressed; what of it is read, and how many records are left.
    block: Vec<u8>,
    position: usize,
    left: u64,
    /// Behind those that were skipped and read.
    records: u64,
}

fn unreadable(error: &std::io::Error) -> FormatError {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => FormatError::syntax("it ends too early"),
        _ => FormatError::syntax(format!("it can't be read: {error}")),
    }
}

/// A number of variable length; `None` at the end of the file.
fn long(input: &mut impl Read) -> Result<Option<i64>, FormatError> {
    let mut value: u64 = 0;
    for place in 0..10 {
        let mut byte = [0];
        match input.read(&mut byte).map_err(|error| unreadable(&error))? {
            0 if place == 0 => return Ok(None),
            0 => return Err(FormatError::syntax("it ends too early")),
            _ => value |= u64::from(byte[0] & 0x7F) << (7 * place),
        }
        if byte[0] & 0x80 == 0 {
            return Ok(Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed()));
        }
    }
    Err(FormatError::syntax("a number has no end"))
}

fn some_long(input: &mut impl Read) -> Result<i64, FormatError> {
    long(input)?.ok_or_else(|| FormatError::syntax("it ends too early"))
}

/// So many bytes, as far as they are there: a length that is wrong takes no memory.
fn bytes(input: &mut impl Read, length: i64, most: u64) -> Result<Vec<u8>, FormatError> {
    let length = u64::try_from(length).ok().filter(|length| *length <= most);
    let length = length.ok_or_else(|| FormatError::syntax("a length in it is wrong"))?;
    let mut read = Vec::new();
    input
        .take(length)
        .read_to_end(&mut read)
        .map_err(|error| unreadable(&error))?;
    match read.len() as u64 == length {
        true => Ok(read),
        false => Err(FormatError::syntax("it ends too early")),
    }
}

struct Header {
    schema: Vec<u8>,
    codec: AvroCodec,
    sync: [u8; SYNC_BYTES],
}

fn header(input: &mut impl Read) -> Result<Header, FormatError> {
    let mut magic = [0; MAGIC.len()];
    let there = input.read_exact(&mut magic);
    if there.is_err() || magic != *MAGIC {
        return Err(FormatError::syntax("it is no Avro object container file"));
    }
    let (mut schema, mut codec) = (None, AvroCodec::Null);
    loop {
        let mut entries = some_long(input)?;
        if entries == 0 {
            break;
        }
        if entries < 0 {
            // Behind it the block's bytes.
            some_long(input)?;
            entries = entries.saturating_neg();
        }
        for _ in 0..entries {
            let length = some_long(input)?;
            let key = bytes(input, length, MOST_HEADER_BYTES)?;
            let length = some_long(input)?;
            let value = bytes(input, length, MOST_HEADER_BYTES)?;
            if key == SCHEMA.as_bytes() {
                schema = Some(value);
            } else if key == CODEC.as_bytes() {
                codec = AvroCodec::of(&value)?;
            }
        }
    }
    let mut sync = [0; SYNC_BYTES];
    input.read_exact(&mut sync).map_err(|error| unreadable(&error))?;
    Ok(Header {
        schema: schema.ok_or_else(|| FormatError::syntax("it has no schema"))?,
        codec,
        sync,
    })
}

impl<R: Read> AvroFileReader<R> {
    /// Reads the header; an error names the column that doesn't fit the file's schema.
    pub fn open(input: R, projection: Projection) -> Result<Self, FormatError> {
        let mut input = BufReader::new(input);
        let header = header(&mut input)?;
        let resolver = Resolver::new(WriterSchema::parse(&header.schema)?)?;
        Ok(Self {
            input,
            codec: header.codec,
            sync: header.sync,
            plan: resolver.plan(&projection.fields)?,
            resolver,
            row: RowColumns::new(&projection.fields),
            projection,
            rows: 0,
            block: Vec::new(),
            position: 0,
            left: 0,
            records: 0,
        })
    }

    /// The next block's number of records and bytes.
    fn begin_block(&mut self) -> Result<Option<(u64, i64)>, FormatError> {
        let Some(records) = long(&mut self.input)? else {
            return Ok(None);
        };
        let records =
            u64::try_from(records).map_err(|_| FormatError::syntax("a block has less than no records"))?;
        Ok(Some((records, some_long(&mut self.input)?)))
    }

    fn end_block(&mut self) -> Result<(), FormatError> {
        let mut sync = [0; SYNC_BYTES];
        self.input
            .read_exact(&mut sync)
            .map_err(|error| unreadable(&error))?;
        match sync == self.sync {
            true => Ok(()),
            false => Err(FormatError::syntax(
                "a block doesn't end where it should: the file is damaged",
            )),
        }
    }

    fn load(&mut self, records: u64, length: i64) -> Result<(), FormatError> {
        let compressed = bytes(&mut self.input, length, MOST_BLOCK_BYTES)?;
        self.end_block()?;
        self.block = self.codec.decompress(compressed)?;
        if records > self.block.len() as u64 {
            return Err(FormatError::syntax("a block has more records than bytes"));
        }
        self.position = 0;
        self.left = records;
        Ok(())
    }

    /// Passes over records; how many there were, up to `records`.
    pub fn skip(&mut self, records: u64) -> Result<u64, FormatError> {
        let mut skipped = 0;
        while skipped < records {
            if self.left == 0 {
                let Some((there, length)) = self.begin_block()? else {
                    break;
                };
                if there <= records - skipped {
                    bytes(&mut self.input, length, MOST_BLOCK_BYTES)?;
                    self.end_block()?;
                    skipped += there;
                    self.records += there;
                } else {
                    self.load(there, length)?;
                }
                continue;
            }
            self.record(false)?;
            skipped += 1;
        }
        Ok(skipped)
    }

    /// The next record of the block.
    fn record(&mut self, is_wanted: bool) -> Result<(), FormatError> {
        let mut values = Values(self.block.get(self.position..).unwrap_or_default());
        match is_wanted {
            true => self.resolver.read_record(&mut values, &self.plan, &mut self.row),
            false => self.resolver.skip_record(&mut values),
        }
        .map_err(|error| self.in_record(error))?;
        self.position = self.block.len() - values.0.len();
        self.left -= 1;
        self.records += 1;
        Ok(())
    }

    fn in_record(&self, error: FormatError) -> FormatError {
        let record = self.records + 1;
        match error {
            FormatError::Syntax(what) => FormatError::Syntax(format!("record {record}: {what}")),
            FormatError::Value(what) => FormatError::Value(format!("record {record}: {what}")),
            other => other,
        }
    }

    /// The next records: about so many, or so many bytes of columns; `None` behind the last.
    pub fn next(&mut self, most_rows: usize, most_bytes: usize) -> Result<Option<Decoded>, FormatError> {
        while self.rows < most_rows && self.row.bytes() < most_bytes {
            if self.left == 0 {
                match self.begin_block()? {
                    Some((records, length)) => self.load(records, length)?,
                    None => break,
                }
                continue;
            }
            // What is held is looked at now and then only.
            let some = self.left.min(64).min((most_rows - self.rows) as u64);
            for _ in 0..some {
                self.record(true)?;
                self.rows += 1;
            }
        }
        match std::mem::take(&mut self.rows) {
            0 => Ok(None),
            rows => Decoded::finish(&mut self.row, &self.projection, rows, None).map(Some),
        }
    }
}
