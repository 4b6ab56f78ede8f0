//! Files that are written and read again, of other schemas, and damaged.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{Int64Type, TimestampMillisecondType};
use proptest::prelude::*;
use thalweg_plan::data_type::TimeKind;
use thalweg_plan::{DataType, Field, TypeRoot};

use super::*;
use crate::avro::{write_long, write_text};
use crate::format::{Decoder, FormatKind, OptionReader};
use crate::testing::many_fields;
use crate::{Decoded, Format, FormatError, Projection};

const SYNC_MARKER: [u8; SYNC_BYTES] = [7; SYNC_BYTES];

/// A row with a number and some text in it, of JSON.
fn rows(fields: &[Field], json: &[&str]) -> Vec<ArrayRef> {
    let options = std::collections::BTreeMap::new();
    let format = Format::new(FormatKind::Json, &OptionReader::new(&options, "json.")).unwrap();
    let mut decoder: Box<dyn Decoder> = format.decoder(fields, Projection::all(fields));
    for row in json {
        decoder.decode(row.as_bytes()).unwrap();
    }
    decoder.flush().unwrap().columns
}

fn fields() -> Vec<Field> {
    let row = vec![
        Field::new("x", DataType::nullable(TypeRoot::BigInt)),
        Field::new("t", DataType::nullable(TypeRoot::Timestamp(3, TimeKind::Regular))),
    ];
    vec![
        Field::new("n", DataType::not_null(TypeRoot::Int)),
        Field::new("s", DataType::string()),
        Field::new("r", DataType::nullable(TypeRoot::Row(row))),
        Field::new(
            "l",
            DataType::nullable(TypeRoot::Array(Box::new(DataType::string()))),
        ),
        Field::new(
            "d",
            DataType::nullable(TypeRoot::Decimal {
                precision: 10,
                scale: 2,
            }),
        ),
    ]
}

fn file(codec: AvroCodec, copies: usize) -> Vec<u8> {
    let fields = fields();
    let columns = rows(
        &fields,
        &[
            r#"{"n":1,"s":"a","r":{"x":5,"t":"1969-12-31 23:59:59.5"},"l":["p",null],"d":"-1.50"}"#,
            r#"{"n":2}"#,
        ],
    );
    let mut writer = AvroFileWriter::new(&fields, codec, true, SYNC_MARKER);
    let mut out = Vec::new();
    for _ in 0..copies {
        writer.write(&columns, 2, &mut out).unwrap();
    }
    writer.finish(&mut out).unwrap();
    out
}

fn read(file: &[u8], wanted: &[Field]) -> Result<Decoded, FormatError> {
    let mut reader = AvroFileReader::open(file, Projection::all(wanted))?;
    let decoded = reader.next(usize::MAX, usize::MAX)?;
    decoded.ok_or_else(|| FormatError::syntax("no rows"))
}

#[test]
fn what_is_written_comes_back_with_each_codec() {
    let fields = fields();
    for codec in AvroCodec::ALL {
        let decoded = read(&file(codec, 1), &fields).unwrap();
        assert_eq!(decoded.rows, 2);
        let times = decoded.columns[2]
            .as_struct()
            .column(1)
            .as_primitive::<TimestampMillisecondType>();
        assert_eq!((times.value(0), times.is_null(1)), (-500, true), "{codec:?}");
        assert_eq!(decoded.columns[3].as_list::<i32>().value(0).len(), 2);
    }
}

#[test]
fn batches_end_as_asked_and_a_reader_goes_on_behind_skipped_records() {
    let file = file(AvroCodec::Null, 20_000);
    let fields = fields();
    let mut reader = AvroFileReader::open(file.as_slice(), Projection::all(&fields[..1])).unwrap();
    assert_eq!(reader.skip(30_001).unwrap(), 30_001);
    let mut rest = 0;
    let mut first = None;
    while let Some(decoded) = reader.next(1_000, usize::MAX).unwrap() {
        assert!(decoded.rows <= 1_000);
        let number = decoded.columns[0]
            .as_primitive::<arrow::datatypes::Int32Type>()
            .value(0);
        first.get_or_insert(number);
        rest += decoded.rows;
    }
    assert_eq!((first, rest), (Some(2), 9_999));
    assert_eq!(reader.skip(5).unwrap(), 0, "behind the end there is nothing");
}

#[test]
fn fields_go_by_name_and_what_the_file_does_not_have_is_null() {
    let wanted = vec![
        Field::new("new", DataType::string()),
        Field::new(
            "r",
            DataType::nullable(TypeRoot::Row(vec![Field::new(
                "x",
                DataType::nullable(TypeRoot::Double),
            )])),
        ),
        Field::new("n", DataType::nullable(TypeRoot::BigInt)),
    ];
    let decoded = read(&file(AvroCodec::Snappy, 1), &wanted).unwrap();
    assert_eq!(decoded.columns[0].null_count(), 2);
    assert_eq!(decoded.columns[2].as_primitive::<Int64Type>().values(), &[1, 2]);
    let missing = vec![Field::new("new", DataType::not_null(TypeRoot::Int))];
    let error = read(&file(AvroCodec::Null, 1), &missing).unwrap_err().to_string();
    assert!(
        error.starts_with("column \"new\" is INT NOT NULL in the table, and the file has no such column"),
        "{error}"
    );
}

#[test]
fn a_column_of_another_type_is_named_with_both_types() {
    let misfit = |field: Field| read(&file(AvroCodec::Null, 1), &[field]).unwrap_err().to_string();
    let error = misfit(Field::new("s", DataType::nullable(TypeRoot::Int)));
    assert_eq!(
        error,
        "column \"s\" is string in the file and INT in the table: declare the column as the file has it"
    );
    let error = misfit(Field::new(
        "d",
        DataType::nullable(TypeRoot::Decimal {
            precision: 10,
            scale: 3,
        }),
    ));
    assert!(
        error.contains("is bytes (decimal(10, 2)) in the file and DECIMAL(10, 3) in the table"),
        "{error}"
    );
    let date = DataType::nullable(TypeRoot::Date);
    let error = misfit(Field::new(
        "r",
        DataType::nullable(TypeRoot::Row(vec![Field::new("t", date)])),
    ));
    assert!(
        error.contains("column \"r.t\" is long (timestamp-millis)"),
        "{error}"
    );
}

/// A file with one block.
fn of_schema(schema: &str, records: i64, block: &[u8]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    write_long(&mut out, 1);
    write_text(&mut out, SCHEMA.as_bytes());
    write_text(&mut out, schema.as_bytes());
    out.push(0);
    out.extend(SYNC_MARKER);
    write_long(&mut out, records);
    write_text(&mut out, block);
    out.extend(SYNC_MARKER);
    out
}

#[test]
fn schemas_of_other_writers_are_resolved() {
    let schema = r#"{"type":"record","name":"a.R","fields":[
        {"name":"u","type":["int","null","string"]},
        {"name":"e","type":{"type":"enum","name":"E","symbols":["RED","BLUE"]}},
        {"name":"t","type":{"type":"long","logicalType":"timestamp-micros"}},
        {"name":"next","type":["null","R"]},
        {"name":"again","type":"a.E"}]}"#;
    // u = null, e = BLUE, t = -1 us, next = a record whose u = 3, again = RED
    let block = [2, 2, 1, 2, 0, 6, 0, 0, 0, 0, 0];
    let file = of_schema(schema, 1, &block);
    let wanted = vec![
        Field::new("again", DataType::string()),
        Field::new("t", DataType::nullable(TypeRoot::Timestamp(3, TimeKind::Regular))),
        Field::new("e", DataType::string()),
    ];
    let decoded = read(&file, &wanted).unwrap();
    assert_eq!(decoded.columns[0].as_string::<i32>().value(0), "RED");
    assert_eq!(
        decoded.columns[1]
            .as_primitive::<TimestampMillisecondType>()
            .value(0),
        -1
    );
    assert_eq!(decoded.columns[2].as_string::<i32>().value(0), "BLUE");
    let error = read(&file, &[Field::new("u", DataType::string())])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("column \"u\" is int in the file and STRING in the table"),
        "{error}"
    );
}

#[test]
fn a_record_may_be_in_a_union_with_null_as_flink_writes_it() {
    let schema = r#"["null",{"type":"record","name":"r","fields":[{"name":"n","type":"int"}]}]"#;
    let wanted = [Field::new("n", DataType::nullable(TypeRoot::BigInt))];
    let decoded = read(&of_schema(schema, 2, &[2, 14, 2, 16]), &wanted).unwrap();
    assert_eq!(decoded.columns[0].as_primitive::<Int64Type>().values(), &[7, 8]);
    let error = read(&of_schema(schema, 1, &[0]), &wanted)
        .unwrap_err()
        .to_string();
    assert_eq!(error, "record 1: it is no record");
}

#[test]
fn values_within_values_have_a_bottom() {
    let schema = r#"{"type":"record","name":"R","fields":[{"name":"next","type":["null","R"]}]}"#;
    let file = of_schema(schema, 1, &[2; 100_000]);
    let error = read(&file, &[]).unwrap_err().to_string();
    assert_eq!(error, "record 1: values within values go too deep");
}

#[test]
fn damaged_files_say_what_is_wrong() {
    let file = file(AvroCodec::Snappy, 1);
    let error = |bytes: &[u8]| read(bytes, &fields()).unwrap_err().to_string();
    assert_eq!(error(b"PAR1"), "it is no Avro object container file");
    assert_eq!(error(&file[..file.len() - 3]), "it ends too early");
    let mut marker = file.clone();
    *marker.last_mut().unwrap() ^= 1;
    assert_eq!(
        error(&marker),
        "a block doesn't end where it should: the file is damaged"
    );
    let mut sum = file;
    let place = sum.len() - SYNC_BYTES - 1;
    sum[place] ^= 1;
    assert_eq!(
        error(&sum),
        "a block can't be decompressed: its checksum is wrong"
    );
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(
        codec in 0_usize..4,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = file(AvroCodec::ALL[codec], 1);
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let _ = read(&bytes, &fields());
        let _ = read(&bytes[..cut.index(bytes.len())], &many_fields());
    }
}
