//! What Flink's JSON format does with values, fields and errors.

use std::collections::BTreeMap;

use proptest::prelude::*;
use thalweg_plan::connector::SourceColumn;
use thalweg_plan::data_type::TimeKind;
use thalweg_plan::{DataType, Field, TypeRoot};

use crate::testing::{columns_text, decode_all, int_and_text, many_fields, nullable};
use crate::{Decoder, Format, FormatKind, Messages, OptionReader, Projection};

fn format(options: &[(&str, &str)]) -> Result<Format, String> {
    let options: BTreeMap<String, String> = options
        .iter()
        .map(|(key, value)| (format!("json.{key}"), (*value).to_owned()))
        .collect();
    Format::new(FormatKind::Json, &OptionReader::new(&options, "json."))
}

fn decoder(fields: &[Field], options: &[(&str, &str)]) -> Box<dyn Decoder> {
    format(options).unwrap().decoder(fields, Projection::all(fields))
}

/// What a message's only column becomes, `Err` = the message's error.
fn value(root: TypeRoot, options: &[(&str, &str)], json: &str) -> Result<String, String> {
    let fields = [nullable("v", root)];
    let mut decoder = decoder(&fields, options);
    let message = format!("{{\"v\":{json}}}");
    decoder
        .decode(message.as_bytes())
        .map_err(|error| error.to_string())?;
    Ok(columns_text(&decoder.flush().unwrap()).remove(0))
}

#[test]
fn fields_may_come_in_any_order_and_unknown_ones_are_walked_over() {
    let mut decoder = decoder(&int_and_text(), &[]);
    let decoded = decode_all(
        decoder.as_mut(),
        &[
            r#"{"n":1,"t":"a"}"#,
            r#" { "x" : [1, {"n": 5}, "]}"], "t" : "b\n\u00e9\ud83d\ude00" , "y":{"a":{}} , "n" : 2 } "#,
            r#"{"t":null}"#,
            r#"[{"n":4},{"n":5}]"#,
            "",
        ],
    );
    assert_eq!(columns_text(&decoded), ["1 a", "2 b\né😀", " ", "4 ", "5 "]);
}

#[test]
fn values_are_coerced_as_flink_does() {
    let cases = [
        (TypeRoot::Int, "\" 12 \"", "12"),
        (TypeRoot::Int, "1.9", "1"),
        (TypeRoot::BigInt, "-9223372036854775808", "-9223372036854775808"),
        (TypeRoot::BigInt, "1e3", "1000"),
        (TypeRoot::TinyInt, "-128", "-128"),
        (TypeRoot::Boolean, "\"TRUE\"", "true"),
        (TypeRoot::Boolean, "1", "false"),
        (TypeRoot::Double, "\"1.5\"", "1.5"),
        (TypeRoot::VarChar(9), "1.50", "1.50"),
        (TypeRoot::VarChar(9), "true", "true"),
        (
            TypeRoot::VarChar(9),
            r#"{"a" : [1, 2.50, "x\ty"], "b" : {} }"#,
            r#"{"a":[1,2.5,"x\ty"],"b":{}}"#,
        ),
        (
            TypeRoot::Decimal {
                precision: 5,
                scale: 2,
            },
            "1.005",
            "1.01",
        ),
        (
            TypeRoot::Decimal {
                precision: 5,
                scale: 2,
            },
            "\"12345\"",
            "",
        ),
        (TypeRoot::Date, "\"2020-02-29\"", "2020-02-29"),
        (TypeRoot::Time(0), "\"12:13:14.5\"", "12:13:14.500"),
        (
            TypeRoot::Timestamp(3, TimeKind::Regular),
            "\"2020-01-02 03:04:05.006\"",
            "2020-01-02T03:04:05.006",
        ),
        (
            TypeRoot::TimestampLtz(3, TimeKind::Regular),
            "\"2020-01-02 03:04:05Z\"",
            "2020-01-02T03:04:05",
        ),
        (TypeRoot::VarBinary(9), "\"AP8=\"", "00ff"),
        (
            TypeRoot::Array(Box::new(DataType::nullable(TypeRoot::Int))),
            "[1, null, 3]",
            "[1, , 3]",
        ),
        (
            TypeRoot::Map(
                Box::new(DataType::string()),
                Box::new(DataType::nullable(TypeRoot::Int)),
            ),
            r#"{"a": 1}"#,
            "{a: 1}",
        ),
        (TypeRoot::Row(int_and_text()), r#"{"t": "x"}"#, "{n: , t: x}"),
    ];
    for (root, json, expected) in cases {
        assert_eq!(
            value(root.clone(), &[], json),
            Ok(expected.to_owned()),
            "{root} {json}"
        );
    }
}

#[test]
fn values_of_another_type_are_named_or_null_under_ignore_parse_errors() {
    let cases = [
        (TypeRoot::Int, "2147483648", "\"2147483648\" is no value of INT"),
        (TypeRoot::TinyInt, "1.0", "\"1.0\" is no value of TINYINT"),
        (
            TypeRoot::Int,
            "{\"a\":[]}",
            "an object where a single value is expected",
        ),
        (
            TypeRoot::Date,
            "\"2020-02-30\"",
            "\"2020-02-30\" is no value of DATE",
        ),
        (TypeRoot::Row(int_and_text()), "[1]", "an object is expected"),
        (
            TypeRoot::Timestamp(9, TimeKind::Regular),
            "\"9999-01-01 00:00:00\"",
            "\"9999-01-01 00:00:00\" is no value of TIMESTAMP(9)",
        ),
    ];
    for (root, json, expected) in cases {
        let error = value(root.clone(), &[], json).unwrap_err();
        assert_eq!(error, format!("field \"v\": {expected}"));
        assert_eq!(
            value(root, &[("ignore-parse-errors", "true")], json),
            Ok(String::new())
        );
    }
}

#[test]
fn malformed_messages_fail_with_their_byte_or_are_counted() {
    for json in [
        "{",
        "{\"n\"",
        "{\"n\":",
        "{\"n\":1",
        "{\"n\":1,}",
        "{\"n\":01}",
        "{\"n\":-}",
        "{\"n\":1.}",
        "{\"n\":nul}",
        "{\"x\":[1,]}",
        "{\"x\":{\"a\" 1}}",
        "{\"t\":\"\u{1}\"}",
        "{\"t\":\"\\x\"}",
        "{\"t\":\"\\u12\"}",
        "{n:1}",
        "1",
        "null",
        "{\"n\":1]",
        "{\"x\":tru}",
    ] {
        let error = decoder(&int_and_text(), &[])
            .decode(json.as_bytes())
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("malformed JSON at byte "), "{json}: {error}");
        let mut ignoring = decoder(&int_and_text(), &[("ignore-parse-errors", "true")]);
        assert_eq!(ignoring.decode(b"{\"n\":1}"), Ok(1));
        assert_eq!(ignoring.decode(json.as_bytes()), Ok(0), "{json}");
        assert_eq!((ignoring.ignored(), ignoring.flush().unwrap().rows), (1, 1));
    }
    let error = decoder(&int_and_text(), &[])
        .decode(b"{\"t\":\"\xFF\"}")
        .unwrap_err();
    assert_eq!(error.to_string(), "the record isn't UTF-8 from byte 7 on");
    let deep = format!("{{\"x\":{}", "[".repeat(100_000));
    assert!(decoder(&int_and_text(), &[]).decode(deep.as_bytes()).is_err());
}

#[test]
fn a_missing_field_is_null_or_an_error_and_the_last_of_two_counts() {
    let error = decoder(&int_and_text(), &[("fail-on-missing-field", "true")])
        .decode(b"{\"n\":1}")
        .unwrap_err();
    assert_eq!(error.to_string(), "the field \"t\" is missing");
    let mut decoder = decoder(&int_and_text(), &[]);
    let decoded = decode_all(decoder.as_mut(), &[r#"{"n":1,"n":2}"#]);
    assert_eq!(columns_text(&decoded), ["2 "]);
}

#[test]
fn a_not_null_column_without_a_value_is_named_with_its_row() {
    let fields = [Field::new("n", DataType::not_null(TypeRoot::Int))];
    let mut decoder = decoder(&fields, &[]);
    decoder.decode(b"{\"n\":1}").unwrap();
    decoder.decode(b"{}").unwrap();
    assert_eq!(
        decoder.flush().unwrap_err(),
        crate::FormatError::Null {
            column: "n".to_owned(),
            row: 1
        }
    );
}

#[test]
fn only_wanted_fields_are_read_however_deep() {
    let inner = vec![nullable("x", TypeRoot::Int), nullable("y", TypeRoot::Int)];
    let fields = [
        nullable("a", TypeRoot::Row(inner.clone())),
        nullable("b", TypeRoot::Row(inner.clone())),
    ];
    let column = |path: &[&str], root: TypeRoot| SourceColumn::Physical {
        path: path.iter().map(|name| (*name).to_owned()).collect(),
        data_type: DataType::nullable(root),
    };
    let wanted = [
        column(&["b", "y"], TypeRoot::Int),
        column(&["a"], TypeRoot::Row(inner)),
        column(&["a", "x"], TypeRoot::Int),
    ];
    let projection = Projection::new(&fields, &wanted).unwrap();
    let mut decoder = format(&[]).unwrap().decoder(&fields, projection);
    // b.x isn't an INT, and nobody looks.
    let decoded = decode_all(
        decoder.as_mut(),
        &[
            r#"{"a":{"x":1,"y":2},"b":{"x":"no","y":3}}"#,
            r#"{"a":null,"b":null}"#,
        ],
    );
    assert_eq!(columns_text(&decoded), ["3 {x: 1, y: 2} 1", "  "]);
    let nowhere = [column(&["a", "z"], TypeRoot::Int)];
    assert_eq!(
        Projection::new(&fields, &nowhere).unwrap_err(),
        "there is no column or field \"z\""
    );
}

#[test]
fn rows_are_written_as_jackson_writes_them() {
    let fields = vec![
        nullable("q\"", TypeRoot::VarChar(9)),
        nullable("d", TypeRoot::Double),
        nullable(
            "p",
            TypeRoot::Decimal {
                precision: 10,
                scale: 8,
            },
        ),
        nullable("t", TypeRoot::Timestamp(3, TimeKind::Regular)),
        nullable("z", TypeRoot::TimestampLtz(6, TimeKind::Regular)),
        nullable("h", TypeRoot::Time(3)),
        nullable("b", TypeRoot::VarBinary(9)),
        nullable("l", TypeRoot::Array(Box::new(DataType::nullable(TypeRoot::Int)))),
        nullable("r", TypeRoot::Row(int_and_text())),
    ];
    let text = concat!(
        r#"{"q\"":"a\"\\\né\u0001","d":1.0E7,"p":1.2E-7,"t":"2020-01-02 03:04:05.1","z":"2020-01-02 03:04:05.000001Z","#,
        r#""h":"12:13:14","b":"AP8=","l":[1,null],"r":{"n":1,"t":null}}"#
    );
    let mut reader = decoder(&fields, &[]);
    let decoded = decode_all(reader.as_mut(), &[text, "{}"]);
    let write = |options: &[(&str, &str)]| {
        let mut messages = Messages::default();
        format(options)
            .unwrap()
            .encoder(&fields)
            .encode(&decoded.columns, decoded.rows, None, &mut messages)
            .unwrap();
        (0..2)
            .map(|message| String::from_utf8(messages.get(message).to_vec()).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(write(&[])[0], text);
    let other = write(&[
        ("encode.decimal-as-plain-number", "true"),
        ("timestamp-format.standard", "ISO-8601"),
        ("encode.ignore-null-fields", "true"),
    ]);
    assert!(
        other[0].contains(r#""p":0.00000012,"t":"2020-01-02T03:04:05.1""#),
        "{}",
        other[0]
    );
    assert!(other[0].ends_with(r#""r":{"n":1}}"#), "{}", other[0]);
    assert_eq!(other[1], "{}");
}

#[test]
fn options_are_checked_as_flink_checks_them() {
    let refusal = |options: &[(&str, &str)]| format(options).unwrap_err();
    assert_eq!(
        refusal(&[("fail-on-missing-field", "true"), ("ignore-parse-errors", "true")]),
        "json.fail-on-missing-field and json.ignore-parse-errors shouldn't both be true."
    );
    assert_eq!(
        refusal(&[("timestamp-format.standard", "iso")]),
        "Unsupported value 'iso' for json.timestamp-format.standard. Supported values are [SQL, ISO-8601]."
    );
    assert_eq!(
        refusal(&[("map-null-key.mode", "x")]),
        "Unsupported value 'X' for option json.map-null-key.mode. Supported values are [LITERAL, FAIL, DROP]."
    );
    let map = TypeRoot::Map(
        Box::new(DataType::nullable(TypeRoot::Int)),
        Box::new(DataType::string()),
    );
    assert_eq!(
        format(&[]).unwrap().check(&[nullable("m", map)]).unwrap_err(),
        "JSON format doesn't support non-string as key type of map. The type is: MAP<INT, STRING>"
    );
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_leave_half_a_row(
        messages in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..40),
                "[\\[\\]{}:,\"ntamrsdb0-9.e \\\\u-]{0,40}".prop_map(String::into_bytes),
                "\\{\"[ntamrsdb]\":[\\[\\]{}:,\"ntamrsdb0-9.e\\\\u -]{0,20}\\}".prop_map(String::into_bytes),
            ],
            0..20,
        ),
        ignoring in any::<bool>(),
    ) {
        let options: &[(&str, &str)] = if ignoring { &[("ignore-parse-errors", "true")] } else { &[] };
        let mut decoder = decoder(&many_fields(), options);
        let mut rows = 0;
        for message in &messages {
            rows += decoder.decode(message).unwrap_or(0);
        }
        let decoded = decoder.flush().unwrap();
        prop_assert_eq!(decoded.rows, rows);
        prop_assert!(decoded.columns.iter().all(|column| column.len() == rows));
    }

    #[test]
    fn what_is_written_is_read(rows in proptest::collection::vec((any::<Option<i32>>(), any::<Option<String>>()), 0..20)) {
        let fields = int_and_text();
        let columns: Vec<arrow::array::ArrayRef> = vec![
            std::sync::Arc::new(arrow::array::Int32Array::from_iter(rows.iter().map(|row| row.0))),
            std::sync::Arc::new(arrow::array::StringArray::from_iter(rows.iter().map(|row| row.1.as_deref()))),
        ];
        let mut messages = Messages::default();
        format(&[]).unwrap().encoder(&fields).encode(&columns, rows.len(), None, &mut messages).unwrap();
        let mut decoder = decoder(&fields, &[]);
        for message in 0..messages.len() {
            prop_assert_eq!(decoder.decode(messages.get(message)), Ok(1));
        }
        prop_assert_eq!(decoder.flush().unwrap().columns, columns);
    }
}
