//! Changes as Debezium's JSON has them: Flink's `debezium-json` format.
//!
//! ```text
//!   {"before": {..}, "after": {..}, "op": "u"}  <->  -U before, +U after       c, r: +I    d: -D
//!   {"schema": .., "payload": <that>}           with `schema-include`, reading only
//! ```

mod metadata;

use arrow::array::{ArrayRef, Int8Array};
use thalweg_plan::Field;
use thalweg_types::element::RowKind;

pub(crate) use self::metadata::Metadata;
use self::metadata::MetadataColumns;
use crate::FormatError;
use crate::column::RowColumns;
use crate::format::{Decoded, Decoder, Encoder, Messages, OptionReader};
use crate::json::{JsonOptions, JsonReader, RowWriter, Scalar, Scanner, valid_text};
use crate::projection::Projection;

/// `debezium-json.*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DebeziumOptions {
    schema_include: bool,
    json: JsonOptions,
}

impl DebeziumOptions {
    pub(crate) const KEYS: [&'static str; 7] = [
        "schema-include",
        "ignore-parse-errors",
        "timestamp-format.standard",
        "map-null-key.mode",
        "map-null-key.literal",
        "encode.decimal-as-plain-number",
        "encode.ignore-null-fields",
    ];

    pub(crate) fn read(options: &OptionReader<'_>) -> Result<Self, String> {
        Ok(Self {
            schema_include: options.boolean("schema-include", false)?,
            json: JsonOptions::read(options)?,
        })
    }

    pub(crate) fn check_writing(&self) -> Result<(), String> {
        match self.schema_include {
            false => Ok(()),
            true => Err(
                "Debezium JSON serialization doesn't support 'debezium-json.schema-include' option been set to true."
                    .to_owned(),
            ),
        }
    }
}

/// Where the parts of a change begin in its text.
#[derive(Default)]
struct Envelope {
    before: Option<usize>,
    after: Option<usize>,
    op: Option<Vec<u8>>,
    payload: Option<usize>,
}

/// `debezium-json`.
pub(crate) struct DebeziumDecoder {
    options: DebeziumOptions,
    reader: JsonReader,
    projection: Projection,
    row: RowColumns,
    /// As many rows.
    metadata: MetadataColumns,
    kinds: Vec<i8>,
    scratch: Vec<u8>,
    ignored: u64,
}

impl DebeziumDecoder {
    /// Gives the projection's columns, then those of the metadata.
    pub(crate) fn new(options: DebeziumOptions, projection: Projection, metadata: Vec<Metadata>) -> Self {
        Self {
            reader: JsonReader::new(options.json.clone()),
            options,
            row: RowColumns::new(&projection.fields),
            projection,
            metadata: MetadataColumns::new(metadata),
            kinds: Vec::new(),
            scratch: Vec::new(),
            ignored: 0,
        }
    }

    fn read(&mut self, message: &[u8]) -> Result<(), FormatError> {
        let text = valid_text(message)?;
        let before = self.kinds.len();
        let mut begin = 0;
        let mut envelope = self.envelope(text, begin)?;
        if self.options.schema_include {
            let payload = envelope
                .payload
                .ok_or_else(|| FormatError::value("the record has no \"payload\""))?;
            envelope = self.envelope(text, payload)?;
            begin = payload;
        }
        let operation = match envelope.op.as_deref() {
            Some(b"c" | b"r") => "INSERT",
            Some(b"u") => "UPDATE",
            Some(b"d") => "DELETE",
            Some(other) => {
                let other = String::from_utf8_lossy(other);
                return Err(FormatError::value(format!("Unknown \"op\" value {other:?}.")));
            }
            None => return Err(FormatError::value("the record has no \"op\"")),
        };
        match operation {
            "INSERT" => self.change(text, envelope.after, RowKind::Insert, "after", operation)?,
            "DELETE" => self.change(text, envelope.before, RowKind::Delete, "before", operation)?,
            _ => {
                self.change(text, envelope.before, RowKind::UpdateBefore, "before", operation)?;
                self.change(text, envelope.after, RowKind::UpdateAfter, "after", operation)?;
            }
        }
        for _ in before..self.kinds.len() {
            self.metadata.push(&mut self.reader, text, 0, begin)?;
        }
        Ok(())
    }

    fn envelope(&mut self, text: &[u8], begin: usize) -> Result<Envelope, FormatError> {
        let mut scanner = Scanner::new(text);
        scanner.at = begin;
        scanner.expect(b'{', "an object")?;
        let mut envelope = Envelope::default();
        let mut open = !scanner.is_empty(b'}');
        while open {
            let place = match scanner.name(&mut self.scratch)? {
                b"before" => Some(&mut envelope.before),
                b"after" => Some(&mut envelope.after),
                b"payload" => Some(&mut envelope.payload),
                b"op" => {
                    envelope.op = match scanner.scalar(&mut self.scratch)? {
                        Scalar::Plain(text) => Some(text.to_vec()),
                        Scalar::Unescaped => Some(self.scratch.clone()),
                        _ => None,
                    };
                    open = scanner.more(b'}')?;
                    continue;
                }
                _ => None,
            };
            if let Some(place) = place {
                *place = (scanner.peek() == b'{').then_some(scanner.at);
            }
            scanner.skip(&mut self.scratch)?;
            open = scanner.more(b'}')?;
        }
        Ok(envelope)
    }

    fn change(
        &mut self,
        text: &[u8],
        begin: Option<usize>,
        kind: RowKind,
        field: &str,
        operation: &str,
    ) -> Result<(), FormatError> {
        let Some(begin) = begin else {
            return Err(FormatError::value(format!(
                "The {field:?} field of {operation} message is null, if you are using Debezium Postgres Connector, please check the Postgres \
                 table has been set REPLICA IDENTITY to FULL level."
            )));
        };
        let mut scanner = Scanner::new(text);
        scanner.at = begin;
        self.reader.row(&mut scanner, &mut self.row, self.kinds.len())?;
        self.kinds.push(kind as i8);
        Ok(())
    }
}

impl Decoder for DebeziumDecoder {
    fn decode(&mut self, message: &[u8]) -> Result<usize, FormatError> {
        if message.is_empty() {
            return Ok(0);
        }
        let before = self.kinds.len();
        match self.read(message) {
            Ok(()) => Ok(self.kinds.len() - before),
            Err(error) => {
                self.kinds.truncate(before);
                self.row.truncate(before);
                self.metadata.truncate(before);
                if !self.options.json.ignore_parse_errors {
                    return Err(error);
                }
                self.ignored += 1;
                Ok(0)
            }
        }
    }

    fn append_null(&mut self) {
        self.row.append_null();
        self.metadata.append_null();
        self.kinds.push(RowKind::Insert as i8);
    }

    fn rows(&self) -> usize {
        self.kinds.len()
    }

    fn bytes(&self) -> usize {
        self.row.bytes() + self.metadata.bytes()
    }

    fn ignored(&self) -> u64 {
        self.ignored
    }

    fn flush(&mut self) -> Result<Decoded, FormatError> {
        let kinds = std::mem::take(&mut self.kinds);
        let rows = kinds.len();
        let all_inserts = kinds.iter().all(|kind| *kind == RowKind::Insert as i8);
        let kinds = (!all_inserts).then(|| Int8Array::from(kinds));
        let metadata = self.metadata.finish()?;
        let mut decoded = Decoded::finish(&mut self.row, &self.projection, rows, kinds)?;
        decoded.columns.extend(metadata);
        Ok(decoded)
    }
}

/// `debezium-json`.
pub(crate) struct DebeziumEncoder {
    json: JsonOptions,
    names: Vec<String>,
}

impl DebeziumEncoder {
    pub(crate) fn new(options: &DebeziumOptions, fields: &[Field]) -> Self {
        Self {
            json: options.json.clone(),
            names: fields.iter().map(|field| field.name.clone()).collect(),
        }
    }
}

impl Encoder for DebeziumEncoder {
    fn encode(
        &mut self,
        columns: &[ArrayRef],
        rows: usize,
        kinds: Option<&Int8Array>,
        out: &mut Messages,
    ) -> Result<(), FormatError> {
        let writer = RowWriter::new(self.names.iter().map(String::as_str), columns, &self.json)?;
        for row in 0..rows {
            let kind = kinds.map_or(RowKind::Insert as i8, |kinds| kinds.value(row));
            let is_gone = kind == RowKind::UpdateBefore as i8 || kind == RowKind::Delete as i8;
            let (begin, end): (&[u8], &[u8]) = match (is_gone, self.json.ignore_null_fields) {
                (false, false) => (b"{\"before\":null,\"after\":", b",\"op\":\"c\"}"),
                (false, true) => (b"{\"after\":", b",\"op\":\"c\"}"),
                (true, false) => (b"{\"before\":", b",\"after\":null,\"op\":\"d\"}"),
                (true, true) => (b"{\"before\":", b",\"op\":\"d\"}"),
            };
            out.bytes.extend_from_slice(begin);
            writer.write(row, &mut out.bytes)?;
            out.bytes.extend_from_slice(end);
            out.end_message()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::Array;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{columns_text, decode_all, int_and_text};
    use crate::{Format, FormatKind};

    fn format(options: &[(&str, &str)]) -> Format {
        let options: BTreeMap<String, String> = options
            .iter()
            .map(|(key, value)| (format!("debezium-json.{key}"), (*value).to_owned()))
            .collect();
        Format::new(
            FormatKind::DebeziumJson,
            &OptionReader::new(&options, "debezium-json."),
        )
        .unwrap()
    }

    fn decoder(options: &[(&str, &str)]) -> Box<dyn Decoder> {
        let fields = int_and_text();
        format(options).decoder(&fields, Projection::all(&fields))
    }

    #[test]
    fn an_update_is_two_rows_and_the_operation_may_come_last() {
        let mut decoder = decoder(&[]);
        let decoded = decode_all(
            decoder.as_mut(),
            &[
                r#"{"op":"c","before":null,"after":{"n":1,"t":"a"}}"#,
                r#"{"before":{"n":1,"t":"a"},"after":{"n":1,"t":"b"},"ts_ms":5,"op":"u"}"#,
                r#"{"before":{"n":1,"t":"b"},"after":null,"op":"d"}"#,
            ],
        );
        assert_eq!(decoded.kinds.as_ref().unwrap().values().to_vec(), [0, 1, 2, 3]);
        assert_eq!(columns_text(&decoded), ["1 a", "1 a", "1 b", "1 b"]);
    }

    #[test]
    fn with_a_schema_the_change_is_the_payload() {
        let mut decoder = decoder(&[("schema-include", "true")]);
        let message =
            r#"{"schema":{"type":"struct"},"payload":{"before":null,"after":{"n":1,"t":"a"},"op":"r"}}"#;
        let decoded = decode_all(decoder.as_mut(), &[message]);
        assert_eq!(columns_text(&decoded), ["1 a"]);
        assert!(decoded.kinds.is_none());
        assert_eq!(format(&[]).check_writing(), Ok(()));
        let refused = format(&[("schema-include", "true")]).check_writing().unwrap_err();
        assert!(refused.contains("'debezium-json.schema-include'"), "{refused}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_leave_half_a_change(
            messages in proptest::collection::vec(
                prop_oneof![
                    proptest::collection::vec(any::<u8>(), 0..40),
                    "\\{(\"(before|after|op|payload)\":(null|\"[crudx]\"|\\{\"n\":[0-9x]\\}),?){0,4}\\}?"
                        .prop_map(String::into_bytes),
                ],
                0..20,
            ),
            ignoring in any::<bool>(),
            schema in any::<bool>(),
        ) {
            let text = |is: bool| if is { "true" } else { "false" };
            let options = [("ignore-parse-errors", text(ignoring)), ("schema-include", text(schema))];
            let mut decoder = decoder(&options);
            let rows: usize = messages.iter().map(|message| decoder.decode(message).unwrap_or(0)).sum();
            let decoded = decoder.flush().unwrap();
            prop_assert_eq!(decoded.rows, rows);
            prop_assert!(decoded.columns.iter().all(|column| column.len() == rows));
            prop_assert!(decoded.kinds.is_none_or(|kinds| kinds.len() == rows));
        }
    }

    #[test]
    fn a_change_that_is_not_whole_fails_or_is_ignored_as_a_whole() {
        let half = br#"{"before":{"n":1,"t":"a"},"after":null,"op":"u"}"#;
        let error = decoder(&[]).decode(half).unwrap_err().to_string();
        assert!(
            error.starts_with("The \"after\" field of UPDATE message is null"),
            "{error}"
        );
        let mut ignoring = decoder(&[("ignore-parse-errors", "true")]);
        assert_eq!(ignoring.decode(half), Ok(0));
        assert_eq!((ignoring.rows(), ignoring.ignored()), (0, 1));
        let unknown = br#"{"before":null,"after":{},"op":"x"}"#;
        assert_eq!(
            decoder(&[]).decode(unknown).unwrap_err().to_string(),
            "Unknown \"op\" value \"x\"."
        );
    }

    #[test]
    fn each_row_of_a_change_has_its_metadata() {
        let fields = int_and_text();
        let keys: Vec<String> = Metadata::ALL.iter().map(|key| key.key().to_owned()).collect();
        let all = Projection::all(&fields);
        let source =
            r#""source":{"db":"shop","schema":"s","table":"orders","ts_ms":7,"extra":null},"ts_ms":9"#;
        let change = format!(r#"{{"before":{{"n":1,"t":"a"}},"after":{{"n":1,"t":"b"}},"op":"u",{source}}}"#);
        let whole = format!(r#"{{"schema":{{"x":1}},"payload":{change}}}"#);
        for (message, schema_include, schema) in [(&change, "false", ""), (&whole, "true", r#"{"x":1}"#)] {
            let format = format(&[("schema-include", schema_include)]);
            let mut decoder = format.decoder_with_metadata(&fields, all.clone(), &keys);
            let bare = r#"{"after":{"n":2,"t":"c"},"op":"c"}"#;
            let bare = match schema_include {
                "true" => format!(r#"{{"payload":{bare}}}"#),
                _ => bare.to_owned(),
            };
            let decoded = decode_all(decoder.as_mut(), &[message, &bare]);
            let text = columns_text(&decoded);
            let properties = "{db: shop, schema: s, table: orders, ts_ms: 7, extra: }";
            let times = "1970-01-01T00:00:00.009 1970-01-01T00:00:00.007";
            let metadata = format!("{schema} {times} shop s orders {properties}");
            assert_eq!(text[0], format!("1 a {metadata}"));
            assert_eq!(text[1], format!("1 b {metadata}"));
            assert_eq!(text[2], format!("2 c{}", " ".repeat(7)));
        }
    }

    #[test]
    fn metadata_that_cannot_be_read_fails_or_is_ignored_and_leaves_no_half_row() {
        let fields = int_and_text();
        let keys = ["source.table".to_owned()];
        let bad = br#"{"after":{"n":1,"t":"a"},"op":"c","source":5}"#;
        let all = Projection::all(&fields);
        let mut strict = format(&[]).decoder_with_metadata(&fields, all.clone(), &keys);
        assert!(strict.decode(bad).is_err());
        assert_eq!(
            strict.decode(br#"{"after":{"n":2},"op":"c","source":{"table":"t"}}"#),
            Ok(1)
        );
        assert_eq!(columns_text(&strict.flush().unwrap()), ["2  t"]);
        let mut ignoring =
            format(&[("ignore-parse-errors", "true")]).decoder_with_metadata(&fields, all, &keys);
        let rows = ignoring.decode(bad).unwrap();
        let decoded = ignoring.flush().unwrap();
        assert_eq!((decoded.rows, decoded.columns[2].len()), (rows, rows));
    }

    #[test]
    fn rows_are_written_as_creations_and_deletions() {
        let fields = int_and_text();
        let mut decoder = decoder(&[]);
        let decoded = decode_all(
            decoder.as_mut(),
            &[r#"{"before":{"n":1,"t":"a"},"after":{"n":null,"t":"b"},"op":"u"}"#],
        );
        let mut messages = Messages::default();
        format(&[])
            .encoder(&fields)
            .encode(
                &decoded.columns,
                decoded.rows,
                decoded.kinds.as_ref(),
                &mut messages,
            )
            .unwrap();
        assert_eq!(
            messages.get(0),
            br#"{"before":{"n":1,"t":"a"},"after":null,"op":"d"}"#
        );
        assert_eq!(
            messages.get(1),
            br#"{"before":null,"after":{"n":null,"t":"b"},"op":"c"}"#
        );
    }
}
