use super::*;
use crate::table::testing::{read as rows, table, texts, whole};
use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use thalweg_plan::data_type::TimeKind;
use thalweg_plan::{DataType, Field, TypeRoot};

fn nullable(root: TypeRoot) -> DataType {
    DataType::nullable(root)
}

#[test]
fn a_sequence_comes_once_at_any_parallelism_and_ends_the_source() {
    let options = [
        ("connector", "datagen"),
        ("rows-per-second", "1000000"),
        ("fields.n.kind", "sequence"),
        ("fields.n.start", "5"),
        ("fields.n.end", "14"),
        ("fields.t.kind", "sequence"),
        ("fields.t.start", "1"),
        ("fields.t.end", "100"),
    ];
    let table = table(
        &options,
        &[("n", nullable(TypeRoot::BigInt)), ("t", DataType::string())],
    );
    assert!(source_abilities(&table).unwrap().bounded);
    let (spec, output) = whole(&table);
    let expected: Vec<String> = (0..10)
        .map(|row| format!("+I[{}, {}]", row + 5, row + 1))
        .collect();
    assert_eq!(texts(&rows(&spec, &output, 3).unwrap()), expected);
}

#[test]
fn random_values_of_every_type_are_within_their_options() {
    let int = || Box::new(nullable(TypeRoot::Int));
    let columns = [
        ("n", nullable(TypeRoot::BigInt)),
        ("i", nullable(TypeRoot::TinyInt)),
        (
            "d",
            nullable(TypeRoot::Decimal {
                precision: 5,
                scale: 2,
            }),
        ),
        ("c", nullable(TypeRoot::Char(3))),
        ("s", DataType::string()),
        ("b", nullable(TypeRoot::VarBinary(4))),
        ("ts", nullable(TypeRoot::Timestamp(9, TimeKind::Regular))),
        ("tz", nullable(TypeRoot::TimestampLtz(3, TimeKind::Regular))),
        ("day", nullable(TypeRoot::Date)),
        ("time", nullable(TypeRoot::Time(0))),
        ("ym", nullable(TypeRoot::IntervalYearMonth)),
        ("ds", nullable(TypeRoot::IntervalDaySecond)),
        ("l", nullable(TypeRoot::Array(int()))),
        ("m", nullable(TypeRoot::Map(Box::new(DataType::string()), int()))),
        ("ms", nullable(TypeRoot::Multiset(int()))),
        (
            "r",
            nullable(TypeRoot::Row(vec![Field::new("x", nullable(TypeRoot::Double))])),
        ),
    ];
    let options = [
        ("connector", "datagen"),
        ("number-of-rows", "200"),
        ("rows-per-second", "1000000"),
        ("fields.n.min", "-3"),
        ("fields.n.max", "3"),
        ("fields.n.null-rate", "0.5"),
        ("fields.s.length", "7"),
        ("fields.l.length", "2"),
        ("fields.l.element.min", "1"),
        ("fields.l.element.max", "1"),
        ("fields.r.x.null-rate", "1"),
        ("fields.ts.max-past", "1 h"),
    ];
    let table = table(&options, &columns);
    let (spec, output) = whole(&table);
    let batches = rows(&spec, &output, 2).unwrap();
    let mut nulls = 0;
    for batch in &batches {
        let numbers = batch.rows.column(0).as_primitive::<Int64Type>();
        nulls += numbers.null_count();
        assert!(numbers.iter().flatten().all(|value| (-3..=3).contains(&value)));
        assert!(
            batch
                .rows
                .column(4)
                .as_string::<i32>()
                .iter()
                .flatten()
                .all(|text| text.len() == 7)
        );
        assert_eq!(
            batch.rows.column(15).as_struct().column(0).null_count(),
            batch.num_rows()
        );
    }
    assert!((1..200).contains(&nulls), "{nulls} of 200");
    let texts = texts(&batches);
    assert_eq!(texts.len(), 200);
    assert!(texts[0].contains("[1, 1]"), "{}", texts[0]);
}

#[test]
fn options_are_checked_as_flink_checks_them() {
    let refusal = |options: &[(&str, &str)]| {
        let columns = [
            ("n", nullable(TypeRoot::Int)),
            ("s", nullable(TypeRoot::VarChar(5))),
        ];
        source_abilities(&table(options, &columns)).unwrap_err().message
    };
    assert_eq!(
        refusal(&[("fields.n.kind", "sequence"), ("fields.n.end", "1")]),
        "Could not find required property 'fields.n.start' for sequence generator."
    );
    assert_eq!(
        refusal(&[("fields.n.kind", "x")]),
        "Unsupported generator kind: x"
    );
    assert!(refusal(&[("fields.s.length", "6")]).starts_with("Custom length '6' for variable-length type"));
    let unknown = refusal(&[("fields.x.min", "1")]);
    assert!(
        unknown.starts_with("Unsupported options found for 'datagen'."),
        "{unknown}"
    );
    assert!(unknown.contains("\nfields.n.max\nfields.n.min\n"), "{unknown}");
}
