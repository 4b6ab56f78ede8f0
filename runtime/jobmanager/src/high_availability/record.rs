//! One record as the bytes of a file.
//!
//! ```text
//!   "THALHALG" | version u32 LE | ha.v1.Record (protobuf) | crc32c u32 LE of all before it
//! ```
//!
//! Invariant: what [`decode`] returns was written by [`encode`], byte by byte, for this very place, or it is an error.

use bytes::Bytes;
use prost::Message;
use thalweg_proto::ha::v1::Record;

/// The newest version of the frame and of what is in it.
const FORMAT_VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"THALHALG";
const HEAD: usize = MAGIC.len() + 4;
const CHECKSUM: usize = 4;

/// Why bytes are no record of this log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    /// It begins otherwise, or is too short.
    #[error("it is no record of a high-availability log: it does not begin with \"THALHALG\"")]
    Foreign,
    /// Of a newer engine.
    #[error(
        "it has format version {0}, this engine reads up to {FORMAT_VERSION}: use the engine that wrote it, or a newer one"
    )]
    Version(u32),
    /// Damaged.
    #[error("it is damaged or cut off: its checksum is {found:08x}, its content gives {expected:08x}")]
    Checksum {
        /// What it says.
        found: u32,
        /// What it should say.
        expected: u32,
    },
    /// The checksum is right but the content isn't.
    #[error("its content can't be read: {0}")]
    Content(String),
    /// It was written for another place.
    #[error("it is record {number} of {subject}, which does not belong here")]
    Misplaced {
        /// Of which log.
        subject: String,
        /// Its place there.
        number: u64,
    },
}

/// The bytes of the file.
pub(crate) fn encode(record: &Record) -> Bytes {
    let mut bytes = Vec::with_capacity(HEAD + record.encoded_len() + CHECKSUM);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes.extend_from_slice(&record.encode_to_vec());
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes.into()
}

/// Reads the file that is record `number` of `subject`.
pub(crate) fn decode(bytes: &[u8], subject: &str, number: u64) -> Result<Record, RecordError> {
    let framed = bytes.split_last_chunk::<CHECKSUM>();
    let Some((framed, checksum)) = framed.filter(|_| bytes.starts_with(MAGIC)) else {
        return Err(RecordError::Foreign);
    };
    let (found, expected) = (u32::from_le_bytes(*checksum), crc32c::crc32c(framed));
    if found != expected {
        return Err(RecordError::Checksum { found, expected });
    }
    let Some((head, content)) = framed.split_first_chunk::<HEAD>() else {
        return Err(RecordError::Foreign);
    };
    let version = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
    if version > FORMAT_VERSION {
        return Err(RecordError::Version(version));
    }
    let record = Record::decode(content).map_err(|error| RecordError::Content(error.to_string()))?;
    if record.content.is_none() {
        return Err(RecordError::Content(
            "it says nothing that this engine knows".to_owned(),
        ));
    }
    if record.subject != subject || record.number != number {
        let (subject, number) = (record.subject, record.number);
        return Err(RecordError::Misplaced { subject, number });
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_proto::ha::v1::{CancelRequested, record::Content};

    fn record() -> Record {
        Record {
            epoch: 3,
            instance: "me".to_owned(),
            nonce: 5,
            subject: "job".to_owned(),
            number: 7,
            time_ms: 9,
            content: Some(Content::CancelRequested(CancelRequested {})),
        }
    }

    #[test]
    fn a_record_reads_back_what_was_written() {
        assert_eq!(decode(&encode(&record()), "job", 7), Ok(record()));
    }

    #[test]
    fn each_changed_or_missing_byte_is_found() {
        let bytes = encode(&record()).to_vec();
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            assert!(decode(&changed, "job", 7).is_err(), "byte {index} changed");
            assert!(decode(&bytes[..index], "job", 7).is_err(), "{index} bytes");
        }
    }

    #[test]
    fn a_record_that_was_copied_from_elsewhere_and_one_of_a_newer_engine_are_named() {
        let misplaced = decode(&encode(&record()), "job", 8).unwrap_err();
        assert_eq!(
            misplaced.to_string(),
            "it is record 7 of job, which does not belong here"
        );
        let mut newer = encode(&record()).to_vec();
        newer[8] = 2;
        let end = newer.len() - CHECKSUM;
        let checksum = crc32c::crc32c(&newer[..end]);
        newer[end..].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(decode(&newer, "job", 7), Err(RecordError::Version(2)));
    }
}
