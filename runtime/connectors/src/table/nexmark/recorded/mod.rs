//! Events in files, made once: what another engine reads as well, byte for byte (`recorded.path`).
//!
//! ```text
//!   file    "TWNX" 0 0 0 1, then records      event n is in file n mod files: `events-0`, `events-1`, ..
//!   record  u32 bytes that follow | u8 kind | i64 each number or time (ms) | u16 bytes of each text | the texts
//! ```
//!
//! All numbers are big-endian, fields in the order of [`numbers`] and [`texts`]. A record of a kind that isn't read is passed over by its
//! length; a field that isn't read costs nothing. Invariant: [`Records::next`] gives what is whole and of valid UTF-8, so that columns
//! are made without checks.

mod reader;
mod record;

pub(super) use self::reader::RecordedSource;
pub use self::record::record;

use super::events::EventKind;
use super::fields::Leaf;

/// How a file begins.
const MAGIC: [u8; 8] = *b"TWNX\0\0\0\x01";
/// Behind the length of a record: its kind.
const KIND: usize = 4;
/// Then its numbers.
const NUMBERS: usize = KIND + 1;
/// More is no record of ours.
const MAX_RECORD_BYTES: usize = 1 << 20;

/// Numbers and times of a kind, in a record's order.
fn numbers(kind: EventKind) -> &'static [Leaf] {
    match kind {
        EventKind::Person => &[Leaf::PersonId, Leaf::DateTime],
        EventKind::Auction => &[
            Leaf::AuctionId,
            Leaf::InitialBid,
            Leaf::Reserve,
            Leaf::DateTime,
            Leaf::Expires,
            Leaf::Seller,
            Leaf::Category,
        ],
        EventKind::Bid => &[Leaf::BidAuction, Leaf::Bidder, Leaf::Price, Leaf::DateTime],
    }
}

/// Texts of a kind, in a record's order.
fn texts(kind: EventKind) -> &'static [Leaf] {
    match kind {
        EventKind::Person => &[
            Leaf::PersonName,
            Leaf::Email,
            Leaf::CreditCard,
            Leaf::City,
            Leaf::State,
            Leaf::PersonExtra,
        ],
        EventKind::Auction => &[Leaf::ItemName, Leaf::Description, Leaf::AuctionExtra],
        EventKind::Bid => &[Leaf::Channel, Leaf::Url, Leaf::BidExtra],
    }
}

/// Bytes of a kind's record before its texts.
fn fixed_bytes(kind: EventKind) -> usize {
    NUMBERS + 8 * numbers(kind).len() + 2 * texts(kind).len()
}

/// Why bytes are no records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum BadRecord {
    #[error("a record of {0} bytes")]
    Length(usize),
    #[error("an event of kind {0}: there are 0 (person), 1 (auction) and 2 (bid)")]
    Kind(u8),
    #[error("texts that are not as long as they say, or no UTF-8")]
    Texts,
}

/// A record's place in its block.
#[derive(Debug, Clone, Copy)]
struct Record {
    begin: usize,
    kind: EventKind,
}

impl Record {
    fn number(self, block: &[u8], place: usize) -> i64 {
        i64::from_be_bytes(array(block, self.begin + NUMBERS + 8 * place))
    }

    fn text(self, block: &[u8], place: usize) -> &[u8] {
        let lengths = self.begin + NUMBERS + 8 * numbers(self.kind).len();
        let length = |text: usize| usize::from(u16::from_be_bytes(array(block, lengths + 2 * text)));
        let before: usize = (0..place).map(length).sum();
        let begin = self.begin + fixed_bytes(self.kind) + before;
        &block[begin..begin + length(place)]
    }
}

/// Bytes of a block; zeros behind its end.
fn array<const N: usize>(block: &[u8], begin: usize) -> [u8; N] {
    block
        .get(begin..begin + N)
        .and_then(|bytes| bytes.try_into().ok())
        .unwrap_or([0; N])
}

/// The whole records of a block.
struct Records<'a> {
    block: &'a [u8],
    /// Behind the records that were given.
    end: usize,
    /// Kinds whose records are looked at.
    wanted: [bool; 3],
}

impl<'a> Records<'a> {
    fn of(block: &'a [u8], wanted: [bool; 3]) -> Self {
        Self {
            block,
            end: 0,
            wanted,
        }
    }

    /// The next of a wanted kind; `None`: no whole record is left.
    fn next(&mut self) -> Result<Option<Record>, BadRecord> {
        while let Some(header) = self.block.get(self.end..self.end + NUMBERS) {
            let length = KIND + u32::from_be_bytes(array(header, 0)) as usize;
            let kind = EventKind::ALL
                .get(usize::from(header[KIND]))
                .copied()
                .ok_or(BadRecord::Kind(header[KIND]))?;
            if length > MAX_RECORD_BYTES || length < fixed_bytes(kind) {
                return Err(BadRecord::Length(length));
            }
            if self.block.len() - self.end < length {
                break;
            }
            let record = Record {
                begin: self.end,
                kind,
            };
            self.end += length;
            if self.wanted[kind as usize] {
                check_texts(record, &self.block[record.begin..self.end])?;
                return Ok(Some(record));
            }
        }
        Ok(None)
    }
}

/// That each text is where its length says, and whole letters.
fn check_texts(record: Record, bytes: &[u8]) -> Result<(), BadRecord> {
    let (fixed, texts_bytes) = bytes.split_at(fixed_bytes(record.kind));
    let text = std::str::from_utf8(texts_bytes).map_err(|_| BadRecord::Texts)?;
    let lengths = NUMBERS + 8 * numbers(record.kind).len();
    let mut end = 0;
    for place in 0..texts(record.kind).len() {
        end += usize::from(u16::from_be_bytes(array(fixed, lengths + 2 * place)));
        if !text.is_char_boundary(end) {
            return Err(BadRecord::Texts);
        }
    }
    match end == text.len() {
        true => Ok(()),
        false => Err(BadRecord::Texts),
    }
}

#[cfg(test)]
mod tests;
