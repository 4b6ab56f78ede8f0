//! Tells newlines in quoted values from those that end a record.
//!
//! A quote begins a quoted value only where a value begins, as in Jackson: `5" pipe` is a value with a quote in it. So records are walked over
//! by values; one without any quote is not walked over at all.

use thalweg_formats::Quoting;

/// Where in a record the next byte is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    RecordBegin,
    ValueBegin,
    Value,
    Quoted,
    /// Behind a quote in a quoted value: its end, or half of two that are one.
    QuotedEnd,
    /// The next byte has no meaning of its own.
    EscapedInValue,
    EscapedInQuoted,
    Comment,
}

/// What is known of a block's record.
#[derive(Debug, Default)]
pub(super) struct Quotes {
    /// Up to there the block is walked over.
    walked: usize,
    place: Place,
}

impl Quotes {
    /// Whether the newline at `end` of a block is in a quoted value; asked of each newline, in order.
    pub(super) fn hold(&mut self, quoting: Option<Quoting>, block: &[u8], end: usize) -> bool {
        let Some(quoting) = quoting else {
            return false;
        };
        let part = &block[self.walked.min(end)..end];
        self.walked = end + 1;
        if self.place == Place::RecordBegin && memchr::memchr(quoting.quote, part).is_none() {
            return false;
        }
        let place = part
            .iter()
            .fold(self.place, |place, byte| next(place, *byte, quoting));
        let is_held = matches!(place, Place::Quoted | Place::EscapedInQuoted);
        self.place = if is_held {
            Place::Quoted
        } else {
            Place::RecordBegin
        };
        is_held
    }

    /// The block's first bytes are gone.
    pub(super) fn shift(&mut self, bytes: usize) {
        self.walked = self.walked.saturating_sub(bytes);
    }
}

#[inline]
fn next(place: Place, byte: u8, quoting: Quoting) -> Place {
    let is_escape = Some(byte) == quoting.escape;
    match place {
        Place::RecordBegin if Some(byte) == quoting.comment => Place::Comment,
        Place::RecordBegin | Place::ValueBegin if byte == quoting.quote => Place::Quoted,
        Place::RecordBegin | Place::ValueBegin | Place::Value if byte == quoting.delimiter => {
            Place::ValueBegin
        }
        Place::RecordBegin | Place::ValueBegin | Place::Value if is_escape => Place::EscapedInValue,
        Place::RecordBegin | Place::ValueBegin | Place::Value | Place::EscapedInValue => Place::Value,
        Place::Quoted if byte == quoting.quote => Place::QuotedEnd,
        Place::Quoted if is_escape => Place::EscapedInQuoted,
        Place::Quoted | Place::EscapedInQuoted => Place::Quoted,
        Place::QuotedEnd if byte == quoting.quote => Place::Quoted,
        Place::QuotedEnd if byte == quoting.delimiter => Place::ValueBegin,
        // Spaces, or an error of the record's.
        Place::QuotedEnd => Place::Value,
        Place::Comment => Place::Comment,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The records of a text.
    fn records(text: &str, escape: Option<u8>, comment: Option<u8>) -> Vec<&str> {
        let quoting = Quoting {
            quote: b'"',
            delimiter: b',',
            escape,
            comment,
        };
        let mut quotes = Quotes::default();
        let mut begin = 0;
        let mut records = Vec::new();
        for end in memchr::memchr_iter(b'\n', text.as_bytes()) {
            if !quotes.hold(Some(quoting), text.as_bytes(), end) {
                records.push(&text[begin..end]);
                begin = end + 1;
            }
        }
        records
    }

    #[test]
    fn a_newline_in_a_quoted_value_ends_no_record() {
        let text = "1,\"a\nb\"\n\"\n\n\",2\n3,\"\"\"\n\"\"\"\n4,\"\"\n";
        let expected = ["1,\"a\nb\"", "\"\n\n\",2", "3,\"\"\"\n\"\"\"", "4,\"\""];
        assert_eq!(records(text, None, None), expected);
    }

    #[test]
    fn a_quote_within_a_value_begins_nothing() {
        let text = "1,5\" pipe\n2,a\"b\n 3,\"c\n\"\n";
        assert_eq!(records(text, None, None), ["1,5\" pipe", "2,a\"b", " 3,\"c\n\""]);
    }

    #[test]
    fn escaped_quotes_and_those_of_comments_count_for_nothing() {
        let text = "\"a\\\"\nb\"\n\\\"c\n";
        assert_eq!(records(text, Some(b'\\'), None), ["\"a\\\"\nb\"", "\\\"c"]);
        let text = "# x,\"\n1,2\n";
        assert_eq!(records(text, None, Some(b'#')), ["# x,\"", "1,2"]);
        assert_eq!(
            records(text, None, None).len(),
            0,
            "without comments it is an open value"
        );
    }
}
