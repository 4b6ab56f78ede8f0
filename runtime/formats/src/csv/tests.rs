//! What Flink's CSV format does with records, quotes and errors.

use std::collections::BTreeMap;

use proptest::prelude::*;
use thalweg_plan::data_type::TimeKind;
use thalweg_plan::{DataType, Field, TypeRoot};

use crate::testing::{columns_text, decode_all, int_and_text, nullable};
use crate::{Decoder, Format, FormatKind, Messages, OptionReader, Projection};

fn format(options: &[(&str, &str)]) -> Result<Format, String> {
    let options: BTreeMap<String, String> = options
        .iter()
        .map(|(key, value)| (format!("csv.{key}"), (*value).to_owned()))
        .collect();
    Format::new(FormatKind::Csv, &OptionReader::new(&options, "csv."))
}

fn decoder(fields: &[Field], options: &[(&str, &str)]) -> Box<dyn Decoder> {
    format(options).unwrap().decoder(fields, Projection::all(fields))
}

fn read(options: &[(&str, &str)], records: &[&str]) -> Vec<String> {
    let mut decoder = decoder(&int_and_text(), options);
    columns_text(&decode_all(decoder.as_mut(), records))
}

#[test]
fn quoted_values_hold_delimiters_and_doubled_quotes() {
    assert_eq!(
        read(&[], &["1,a", "2,\"x,\"\"y\"\"\" ", "3,"]),
        ["1 a", "2 x,\"y\"", "3 "]
    );
    assert_eq!(
        read(
            &[("field-delimiter", "|"), ("quote-character", "'")],
            &["1|'a|b'"]
        ),
        ["1 a|b"]
    );
    assert_eq!(
        read(&[("disable-quote-character", "true")], &["1,\"a"]),
        ["1 \"a"]
    );
    assert_eq!(
        read(&[("escape-character", "\\")], &["1,a\\,b\\n", "2,\"c\\\"d\""]),
        ["1 a,b\n", "2 c\"d"]
    );
    assert_eq!(read(&[("field-delimiter", "\\t")], &["1\ta b"]), ["1 a b"]);
}

#[test]
fn nulls_and_comments_are_told_by_options() {
    assert_eq!(
        read(&[("null-literal", "n/a")], &["n/a,n/a", "1,\"n/a\""]),
        [" ", "1 "]
    );
    assert_eq!(read(&[("allow-comments", "true")], &["#1,a", "1,#"]), ["1 #"]);
}

#[test]
fn records_of_another_length_fail_or_are_filled_with_nulls() {
    let mut strict = decoder(&int_and_text(), &[]);
    let mut error = |record: &str| strict.decode(record.as_bytes()).unwrap_err().to_string();
    assert_eq!(error("1"), "Row length mismatch. 2 fields expected but was 1.");
    assert_eq!(error("1,a,b"), "Too many entries: expected at most 2 columns");
    assert_eq!(error("x,a"), "field \"n\": \"x\" is no value of INT");
    assert_eq!(error("1,\"a"), "a quoted value has no closing quote");
    let ignoring = [("ignore-parse-errors", "true")];
    assert_eq!(read(&ignoring, &["1", "x,a", "1,\"a"]), ["1 ", " a"]);
}

#[test]
fn nested_values_are_split_by_their_own_delimiter() {
    let fields = [
        nullable("l", TypeRoot::Array(Box::new(DataType::nullable(TypeRoot::Int)))),
        nullable("r", TypeRoot::Row(int_and_text())),
    ];
    let mut decoder = decoder(&fields, &[]);
    let decoded = decode_all(decoder.as_mut(), &["1;2,3;x", ",4;"]);
    assert_eq!(columns_text(&decoded), ["[1, 2] {n: 3, t: x}", "[] {n: 4, t: }"]);
    let map = TypeRoot::Map(Box::new(DataType::string()), Box::new(DataType::string()));
    assert_eq!(
        format(&[]).unwrap().check(&[nullable("m", map)]).unwrap_err(),
        "Unsupported type 'MAP<STRING, STRING>' for a CSV format."
    );
}

#[test]
fn only_wanted_columns_are_read() {
    let fields = int_and_text();
    let projection = Projection::all(&fields[1..]);
    let mut decoder = format(&[]).unwrap().decoder(&fields, projection);
    let decoded = decode_all(decoder.as_mut(), &["no number,a"]);
    assert_eq!(columns_text(&decoded), ["a"]);
}

#[test]
fn rows_are_written_as_jackson_writes_them() {
    let fields = vec![
        nullable("t", TypeRoot::VarChar(99)),
        nullable("s", TypeRoot::Timestamp(3, TimeKind::Regular)),
        nullable(
            "d",
            TypeRoot::Decimal {
                precision: 10,
                scale: 2,
            },
        ),
        nullable("l", TypeRoot::Array(Box::new(DataType::nullable(TypeRoot::Int)))),
    ];
    let records = [
        "plain,\"2020-01-02 03:04:05.1\",1.50,1;2",
        "\"with space\",\"2020-01-02 03:04:05\",0.00,",
        "\"a\"\"b\",\"2020-01-02 03:04:05\",0.00,1",
        "\"more-than-twenty-four-characters\",\"2020-01-02 03:04:05\",0.00,1",
    ];
    let mut reader = decoder(&fields, &[]);
    let decoded = decode_all(reader.as_mut(), &records);
    let mut messages = Messages::default();
    let mut encoder = format(&[]).unwrap().encoder(&fields);
    encoder
        .encode(&decoded.columns, decoded.rows, None, &mut messages)
        .unwrap();
    for (row, record) in records.iter().enumerate() {
        assert_eq!(std::str::from_utf8(messages.get(row)).unwrap(), *record);
    }
}

#[test]
fn options_are_checked_as_flink_checks_them() {
    assert_eq!(
        format(&[("field-delimiter", "||")]).unwrap_err(),
        "Option 'csv.field-delimiter' must be a string with single character, but was: ||"
    );
    assert_eq!(
        format(&[("quote-character", "'"), ("disable-quote-character", "true")]).unwrap_err(),
        "Format cannot define a quote character and disabled quote character at the same time."
    );
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_leave_half_a_row(
        records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..30), 0..20),
        texts in proptest::collection::vec("[0-9,;\"\\\\ #-]{0,20}", 0..20),
    ) {
        let fields = [
            nullable("n", TypeRoot::Int),
            nullable("r", TypeRoot::Row(int_and_text())),
            nullable("b", TypeRoot::VarBinary(9)),
        ];
        for options in [&[][..], &[("ignore-parse-errors", "true"), ("escape-character", "\\")]] {
            let mut decoder = decoder(&fields, options);
            let messages = records.iter().map(Vec::as_slice).chain(texts.iter().map(String::as_bytes));
            let rows: usize = messages.map(|message| decoder.decode(message).unwrap_or(0)).sum();
            let decoded = decoder.flush().unwrap();
            prop_assert!(decoded.columns.iter().all(|column| column.len() == rows));
        }
    }

    #[test]
    fn what_is_written_is_read(rows in proptest::collection::vec((any::<Option<i32>>(), any::<Option<String>>()), 0..20)) {
        let fields = int_and_text();
        let texts = rows.iter().map(|row| row.1.as_deref().filter(|text| *text != "NULL"));
        let columns: Vec<arrow::array::ArrayRef> = vec![
            std::sync::Arc::new(arrow::array::Int32Array::from_iter(rows.iter().map(|row| row.0))),
            std::sync::Arc::new(arrow::array::StringArray::from_iter(texts)),
        ];
        let options = [("null-literal", "NULL")];
        let mut messages = Messages::default();
        format(&options).unwrap().encoder(&fields).encode(&columns, rows.len(), None, &mut messages).unwrap();
        let mut decoder = decoder(&fields, &options);
        for message in 0..messages.len() {
            prop_assert_eq!(decoder.decode(messages.get(message)), Ok(1));
        }
        prop_assert_eq!(decoder.flush().unwrap().columns, columns);
    }
}
