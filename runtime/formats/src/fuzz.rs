//! Valid messages of every format, broken at random: no decoder panics, leaves half a row, or reads the next valid message otherwise than a
//! new one would. `THALWEG_FUZZ_CASES` says how many times (`make test-full` tries more).

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;
use thalweg_plan::{Field, TypeRoot};

use crate::testing::{columns_text, decode_all, many_fields, nullable};
use crate::{Decoder, Format, FormatKind, Messages, OptionReader, Projection};

/// Rows of `many_fields`.
const ROWS: [&str; 3] = [
    r#"{"n":-7,"t":"a\"b;é\n","a":[1,2,3],"m":{"k":1,"":null},"r":{"n":2,"t":"x"},"s":"2020-02-29 12:34:56.123456789Z","d":123456789.000000001,"b":"AAH/"}"#,
    r#"{"n":null,"t":null,"a":null,"m":null,"r":null,"s":null,"d":null,"b":null}"#,
    r#"{"n":2147483647,"t":"","a":[null],"m":{},"r":{"n":null,"t":null},"s":"1969-12-31 23:59:59.999Z","d":-0.5,"b":""}"#,
];

/// A change of bytes at a place.
#[derive(Debug, Clone)]
enum Change {
    Cut(Index, Index),
    Insert(Index, Vec<u8>),
    Flip(Index, u8),
    Repeat(Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    let inserted = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..6),
        prop::sample::select(vec![
            "{", "}", "[", "]", "\"", "\\", ",", ":", "null", "1e999", "-", "\\u", "\\ud800", ";", "\n",
            "\u{feff}",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        // Lengths of Avro: far too large, and negative.
        Just(vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
    ];
    prop_oneof![
        (any::<Index>(), any::<Index>()).prop_map(|(at, length)| Change::Cut(at, length)),
        (any::<Index>(), inserted).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, bits)| Change::Flip(at, bits)),
        (any::<Index>(), any::<Index>()).prop_map(|(at, length)| Change::Repeat(at, length)),
    ]
}

fn changed(message: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = message.to_vec();
    for change in changes {
        let place = |at: &Index| at.index(bytes.len() + 1);
        let piece = |at: &Index, length: &Index| {
            let from = at.index(bytes.len() + 1);
            from..(from + length.index(12)).min(bytes.len())
        };
        match change {
            Change::Cut(at, length) => {
                let piece = piece(at, length);
                bytes.drain(piece);
            }
            Change::Insert(at, inserted) => {
                let at = place(at);
                bytes.splice(at..at, inserted.iter().copied());
            }
            Change::Flip(at, bits) => {
                let at = at.index(bytes.len().max(1));
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= bits;
                }
            }
            Change::Repeat(at, length) => {
                let piece = bytes[piece(at, length)].to_vec();
                let at = place(at);
                bytes.splice(at..at, piece);
            }
        }
    }
    bytes
}

fn format(kind: FormatKind, options: &[(&str, &str)]) -> Format {
    let prefix = format!("{}.", kind.name());
    let options: BTreeMap<String, String> = options
        .iter()
        .map(|(key, value)| (format!("{prefix}{key}"), (*value).to_owned()))
        .collect();
    Format::new(kind, &OptionReader::new(&options, &prefix)).unwrap()
}

/// Formats with options that read in different ways.
fn formats() -> Vec<Format> {
    let ignoring = ("ignore-parse-errors", "true");
    vec![
        format(FormatKind::Json, &[]),
        format(FormatKind::Json, &[ignoring]),
        format(FormatKind::Csv, &[]),
        format(FormatKind::Csv, &[ignoring, ("escape-character", "\\")]),
        format(FormatKind::Avro, &[("timestamp_mapping.legacy", "false")]),
        format(FormatKind::DebeziumJson, &[]),
        format(FormatKind::DebeziumJson, &[ignoring]),
        format(FormatKind::Raw, &[]),
    ]
}

/// Those of `many_fields` that a format has a form for; `raw` has one.
fn fields_of(format: &Format) -> Vec<Field> {
    if format.kind() == FormatKind::Raw {
        return vec![nullable("n", TypeRoot::Int)];
    }
    let mut fields = many_fields();
    fields.retain(|field| format.check(std::slice::from_ref(field)).is_ok());
    fields
}

/// The rows as a format writes them, but for those that it can't read again (`csv` has no form for a null in an array, `raw` none for null).
fn valid(format: &Format, fields: &[Field]) -> Vec<Vec<u8>> {
    let options = [("timestamp-format.standard", "SQL")];
    let mut json = self::format(FormatKind::Json, &options).decoder(fields, Projection::all(fields));
    let decoded = decode_all(json.as_mut(), &ROWS);
    let mut messages = Messages::default();
    format
        .encoder(fields)
        .encode(&decoded.columns, decoded.rows, None, &mut messages)
        .unwrap();
    let is_read = |message: &Vec<u8>| decoder(format, fields).decode(message) == Ok(1);
    (0..messages.len())
        .map(|message| messages.get(message).to_vec())
        .filter(is_read)
        .collect()
}

fn decoder(format: &Format, fields: &[Field]) -> Box<dyn Decoder> {
    let keys: Vec<String> = format
        .metadata()
        .iter()
        .map(|(key, _)| (*key).to_owned())
        .collect();
    format.decoder_with_metadata(fields, Projection::all(fields), &keys)
}

fn cases() -> u32 {
    let more = std::env::var("THALWEG_FUZZ_CASES").ok();
    more.and_then(|cases| cases.parse().ok()).unwrap_or(100)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_broken_message_neither_panics_nor_touches_the_next(
        which in 0..ROWS.len(),
        broken in prop::collection::vec(prop::collection::vec(change(), 1..5), 1..6),
    ) {
        for format in formats() {
            let fields = fields_of(&format);
            let messages = valid(&format, &fields);
            let mut decoder = decoder(&format, &fields);
            let mut rows = 0;
            for changes in &broken {
                rows += decoder.decode(&changed(&messages[which % messages.len()], changes)).unwrap_or(0);
                prop_assert_eq!(decoder.rows(), rows);
            }
            match decoder.flush() {
                Ok(decoded) => {
                    prop_assert_eq!(decoded.rows, rows);
                    prop_assert!(decoded.columns.iter().all(|column| column.len() == rows));
                }
                // What is only seen in whole columns is told of the batch.
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
            prop_assert_eq!(decoder.rows(), 0);
            let mut fresh = self::decoder(&format, &fields);
            for decoder in [&mut decoder, &mut fresh] {
                for message in &messages {
                    decoder.decode(message).unwrap();
                }
            }
            let (after, expected) = (decoder.flush().unwrap(), fresh.flush().unwrap());
            prop_assert_eq!(columns_text(&after), columns_text(&expected));
        }
    }
}

#[test]
fn the_messages_that_are_broken_are_valid() {
    for format in formats() {
        let fields = fields_of(&format);
        let messages = valid(&format, &fields);
        assert!(!messages.is_empty(), "{}", format.kind().name());
        if !matches!(format.kind(), FormatKind::Csv | FormatKind::Raw) {
            assert_eq!(messages.len(), ROWS.len(), "{}", format.kind().name());
        }
    }
    assert_eq!(fields_of(&format(FormatKind::Json, &[])), many_fields());
    assert!(fields_of(&format(FormatKind::Csv, &[])).len() > 3);
}
