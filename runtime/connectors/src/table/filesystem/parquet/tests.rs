//! Files that are written and read again, and files that don't fit.

use std::fs;
use std::path::{Path, PathBuf};

use arrow::array::{ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int32Type;
use parquet::arrow::ArrowWriter;
use parquet::basic::Type as Physical;
use parquet::file::reader::{FileReader, SerializedFileReader};
use std::sync::Arc;
use thalweg_plan::connector::{CatalogTable, SourceColumn};
use thalweg_plan::data_type::TimeKind;
use thalweg_plan::{DataType, Field, TypeRoot};
use thalweg_types::StreamBatch;
use thalweg_types::config::Configuration;
use tokio::runtime::Runtime;

use super::super::tests::Driven;
use super::super::{sink_abilities, source_abilities};
use crate::SourceEvent;
use crate::table::create_source;
use crate::table::testing::{insert, read, scan, table, texts, whole};
use crate::testing::{batches, context_of, next, restored_context_of};

fn parquet(path: &Path, options: &[(&str, &str)], columns: &[(&str, DataType)]) -> CatalogTable {
    let path = format!("file://{}", path.display());
    let mut all = vec![
        ("connector", "filesystem"),
        ("path", path.as_str()),
        ("format", "parquet"),
    ];
    all.extend(options);
    table(&all, columns)
}

fn null(root: TypeRoot) -> DataType {
    DataType::nullable(root)
}

/// A column of each type.
fn of_all_types() -> Vec<(&'static str, DataType)> {
    let decimal = |precision, scale| null(TypeRoot::Decimal { precision, scale });
    let row = vec![
        Field::new("a", null(TypeRoot::Int)),
        Field::new("t", null(TypeRoot::Timestamp(6, TimeKind::Regular))),
        Field::new("l", null(TypeRoot::Array(Box::new(DataType::string())))),
    ];
    let map = TypeRoot::Map(
        Box::new(DataType::string()),
        Box::new(null(TypeRoot::Timestamp(3, TimeKind::Regular))),
    );
    vec![
        ("b", null(TypeRoot::Boolean)),
        ("i8", null(TypeRoot::TinyInt)),
        ("i16", null(TypeRoot::SmallInt)),
        ("i32", DataType::not_null(TypeRoot::Int)),
        ("i64", null(TypeRoot::BigInt)),
        ("f", null(TypeRoot::Float)),
        ("d", null(TypeRoot::Double)),
        ("small", decimal(5, 2)),
        ("large", decimal(38, 10)),
        ("s", DataType::string()),
        ("bytes", null(TypeRoot::VarBinary(10))),
        ("day", null(TypeRoot::Date)),
        ("time", null(TypeRoot::Time(3))),
        ("t3", null(TypeRoot::Timestamp(3, TimeKind::Regular))),
        ("t9", null(TypeRoot::Timestamp(9, TimeKind::Regular))),
        ("ltz", null(TypeRoot::TimestampLtz(6, TimeKind::Regular))),
        ("r", null(TypeRoot::Row(row))),
        ("m", null(map)),
        ("counts", null(TypeRoot::Multiset(Box::new(DataType::string())))),
    ]
}

/// Two rows of JSON, the second with nulls in it, and one of nulls.
fn rows_of(table: &CatalogTable) -> StreamBatch {
    let json = [
        r#"{"b":true,"i8":-8,"i16":-16,"i32":1,"i64":-64,"f":1.5,"d":-2.25,"small":"123.45","large":"-1234567890123456789012345678.0123456789",
           "s":"é","bytes":"AQI=","day":"1969-12-31","time":"01:02:03","t3":"0001-01-01 00:00:00.001","t9":"1969-12-31 23:59:59.123456789",
           "ltz":"9999-12-31 23:59:59.999999Z","r":{"a":7,"t":"2020-02-29 12:00:00.000001","l":["x",null,""]},
           "m":{"k":"1970-01-01 00:00:01.5","n":null},"counts":{"z":3}}"#,
        r#"{"i32":2,"small":"-0.01","r":{"a":null,"t":null,"l":[]},"m":{},"s":"","counts":{}}"#,
        r#"{"i32":3}"#,
    ];
    let options = std::collections::BTreeMap::new();
    let format = thalweg_formats::Format::new(
        thalweg_formats::FormatKind::Json,
        &thalweg_formats::OptionReader::new(&options, "json."),
    );
    let schema = insert(table).schema;
    let mut decoder = format
        .unwrap()
        .decoder(&schema.fields, thalweg_formats::Projection::all(&schema.fields));
    for row in json {
        decoder.decode(row.as_bytes()).unwrap();
    }
    let columns = decoder.flush().unwrap().columns;
    StreamBatch::new(RecordBatch::try_new(schema.to_arrow(), columns).unwrap())
}

fn write(table: &CatalogTable, batches: &[StreamBatch]) {
    let mut driven = Driven::new(table);
    for batch in batches {
        driven.write(batch);
    }
    let prepared = driven.checkpoint(1, true);
    driven.commit(&prepared);
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let hidden = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
    };
    let mut paths: Vec<_> = paths.filter(|path| !hidden(path)).collect();
    paths.sort();
    paths
}

#[test]
fn values_of_all_types_come_back_however_they_are_written() {
    let options: [&[(&str, &str)]; 4] = [
        &[],
        &[
            ("parquet.compression", "gzip"),
            ("parquet.writer.version", "PARQUET_2_0"),
        ],
        &[
            ("parquet.write.int64.timestamp", "true"),
            ("parquet.compression", "ZSTD"),
        ],
        &[
            ("parquet.block.size", "1"),
            ("parquet.enable.dictionary", "false"),
            ("parquet.compression", "LZ4_RAW"),
        ],
    ];
    for options in options {
        let folder = tempfile::tempdir().unwrap();
        let table = parquet(folder.path(), options, &of_all_types());
        let rows = rows_of(&table);
        write(&table, &[rows.clone(), rows.clone()]);
        let (spec, output) = whole(&table);
        let found = read(&spec, &output, 1).unwrap();
        let mut expected = texts(&[rows.clone(), rows]);
        if options.iter().any(|(key, _)| key.contains("int64")) {
            // Microseconds.
            expected
                .iter_mut()
                .for_each(|row| *row = row.replace(".123456789", ".123456"));
        }
        assert_eq!(texts(&found), expected, "{options:?}");
    }
}

#[test]
fn only_the_leaves_that_are_wanted_are_read_also_of_rows() {
    let folder = tempfile::tempdir().unwrap();
    let table = parquet(folder.path(), &[], &of_all_types());
    write(&table, &[rows_of(&table)]);
    let column = |path: &[&str], data_type: DataType| SourceColumn::Physical {
        path: path.iter().map(|&name| name.to_owned()).collect(),
        data_type,
    };
    let (spec, output) = scan(
        &table,
        vec![
            column(&["r", "a"], null(TypeRoot::Int)),
            column(&["i64"], null(TypeRoot::BigInt)),
        ],
    );
    let rows = texts(&read(&spec, &output, 1).unwrap());
    assert_eq!(rows, ["+I[7, -64]", "+I[null, null]", "+I[null, null]"]);
    let (spec, output) = scan(&table, Vec::new());
    let counted: usize = read(&spec, &output, 1)
        .unwrap()
        .iter()
        .map(StreamBatch::num_rows)
        .sum();
    assert_eq!(counted, 3, "without a column rows are still counted");
    let (spec, output) = scan(
        &table,
        vec![SourceColumn::Metadata {
            key: "file.name".to_owned(),
            data_type: DataType::string().with_nullable(false),
        }],
    );
    assert_eq!(texts(&read(&spec, &output, 1).unwrap()).len(), 3);
}

#[test]
fn timestamps_are_int96_and_all_columns_optional_as_flink_writes_them() {
    let folder = tempfile::tempdir().unwrap();
    let table = parquet(folder.path(), &[], &of_all_types());
    write(&table, &[rows_of(&table)]);
    let file = fs::File::open(&files(folder.path())[0]).unwrap();
    let reader = SerializedFileReader::new(file).unwrap();
    let schema = reader.metadata().file_metadata().schema_descr();
    let of = |name: &str| {
        let columns = schema.columns().iter();
        columns
            .clone()
            .find(|column| column.path().string() == name)
            .unwrap()
            .physical_type()
    };
    for name in ["t3", "t9", "ltz", "r.t", "m.key_value.value"] {
        assert_eq!(of(name), Physical::INT96, "{name}");
    }
    assert_eq!(of("r.l.list.element"), Physical::BYTE_ARRAY);
    assert!(
        schema
            .root_schema()
            .get_fields()
            .iter()
            .all(|field| field.is_optional())
    );
}

#[test]
fn partitions_are_folders_and_not_in_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let mut table = parquet(
        folder.path(),
        &[("sink.partition-commit.policy.kind", "success-file")],
        &[("dt", DataType::string()), ("n", null(TypeRoot::Int))],
    );
    table.partition_keys = vec!["dt".to_owned()];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec![Some("a"), Some("b"), Some("a"), None])),
        Arc::new(Int32Array::from(vec![1, 2, 3, 4])),
    ];
    let rows = RecordBatch::try_new(insert(&table).schema.to_arrow(), columns).unwrap();
    let none = rows.slice(0, 0);
    write(&table, &[StreamBatch::new(none), StreamBatch::new(rows)]);
    let in_a = files(&folder.path().join("dt=a"));
    assert_eq!(in_a.len(), 2, "one file and _SUCCESS: {in_a:?}");
    let (spec, output) = whole(&table);
    let mut rows = texts(&read(&spec, &output, 3).unwrap());
    rows.sort();
    assert_eq!(rows, ["+I[a, 1]", "+I[a, 3]", "+I[b, 2]", "+I[null, 4]"]);
}

fn arrow_file(folder: &Path, columns: Vec<(&str, ArrayRef)>) {
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    let file = fs::File::create(folder.join("a.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
}

#[test]
fn a_column_of_another_type_is_named_with_both_types_and_a_missing_one_is_null() {
    let folder = tempfile::tempdir().unwrap();
    arrow_file(
        folder.path(),
        vec![
            ("n", Arc::new(Int64Array::from(vec![1])) as ArrayRef),
            ("s", Arc::new(StringArray::from(vec!["x"])) as ArrayRef),
        ],
    );
    let rows = |columns: &[(&str, DataType)]| {
        let (spec, output) = whole(&parquet(folder.path(), &[], columns));
        read(&spec, &output, 1).map(|batches| texts(&batches))
    };
    let big = null(TypeRoot::BigInt);
    let there = rows(&[
        ("s", DataType::string()),
        ("other", null(TypeRoot::Date)),
        ("n", big.clone()),
    ]);
    assert_eq!(there.unwrap(), ["+I[x, null, 1]"]);
    let error = rows(&[("n", null(TypeRoot::Int))]).unwrap_err();
    assert!(
        error.ends_with(
            "a.parquet: column \"n\" is INT64 (BIGINT) in the file and INT in the table: declare the column as the file has it"
        ),
        "{error}"
    );
    let error = rows(&[("other", DataType::not_null(TypeRoot::Date))]).unwrap_err();
    assert!(
        error.contains(
            "a.parquet: column \"other\" is DATE NOT NULL in the table, and the file has no such column"
        ),
        "{error}"
    );
    let row = null(TypeRoot::Row(vec![Field::new("x", big)]));
    let error = rows(&[("s", row)]).unwrap_err();
    assert!(
        error.contains("column \"s\" is BYTE_ARRAY (STRING) in the file and ROW<`x` BIGINT> in the table"),
        "{error}"
    );
}

#[test]
fn a_file_that_is_cut_off_or_no_parquet_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let table = parquet(folder.path(), &[], &of_all_types());
    write(&table, &[rows_of(&table)]);
    let file = files(folder.path()).remove(0);
    let bytes = fs::read(&file).unwrap();
    let (spec, output) = whole(&table);
    let mut damaged = vec![
        Vec::new(),
        b"PAR1".to_vec(),
        bytes[..bytes.len() / 2].to_vec(),
        b"id,name\n1,2\n3,4\n".to_vec(),
    ];
    let mut spoiled = bytes.clone();
    spoiled[4..bytes.len() / 3].fill(0xA5);
    damaged.push(spoiled);
    for bytes in damaged {
        fs::write(&file, &bytes).unwrap();
        let error = read(&spec, &output, 1).unwrap_err();
        assert!(error.contains(&file.display().to_string()), "{error}");
    }
}

#[test]
fn a_restored_reader_goes_on_behind_the_rows_it_gave_last_at_any_parallelism() {
    for format in ["parquet", "avro"] {
        let folder = tempfile::tempdir().unwrap();
        let mut table = parquet(folder.path(), &[], &[("n", null(TypeRoot::Int))]);
        table.options.insert("format".to_owned(), format.to_owned());
        for file in 0..3 {
            let numbers: ArrayRef = Arc::new(Int32Array::from_iter_values(file * 9_000..(file + 1) * 9_000));
            let rows = RecordBatch::try_new(insert(&table).schema.to_arrow(), vec![numbers]).unwrap();
            write(&table, &[StreamBatch::new(rows)]);
        }
        let (spec, output) = whole(&table);
        let source = create_source(&spec, &output, &Configuration::default(), None).unwrap();
        let io = Runtime::new().unwrap();
        let numbers =
            |batch: &StreamBatch| batch.rows.column(0).as_primitive::<Int32Type>().values().to_vec();
        let (mut given, mut states) = (Vec::new(), Vec::new());
        for subtask in 0..2 {
            let mut reader = source.create_reader(context_of(&io, subtask, 2)).unwrap();
            if let SourceEvent::Batch(batch) = next(reader.as_mut()).unwrap() {
                given.extend(numbers(&batch));
                let position = reader.position().unwrap();
                assert!(
                    position.ends_with(&format!(" from row 1 to row {}", batch.num_rows())),
                    "{position}"
                );
            }
            states.extend(reader.snapshot(1).unwrap());
        }
        for subtask in 0..3 {
            let context = restored_context_of(&io, subtask, 3, states.clone());
            let mut reader = source.create_reader(context).unwrap();
            given.extend(batches(reader.as_mut()).unwrap().iter().flat_map(numbers));
        }
        given.sort_unstable();
        assert!(given.into_iter().eq(0..27_000), "{format}");
    }
}

proptest::proptest! {
    #[test]
    fn damaged_files_end_the_reader_with_an_error_at_most(
        changes in proptest::collection::vec((proptest::prelude::any::<proptest::sample::Index>(), 0_u8..), 1..20),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let input = concat!(env!("CARGO_MANIFEST_DIR"), "/../sql/tests/input/flink_types.parquet");
        let mut bytes = fs::read(input).unwrap();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        fs::write(folder.path().join("a.parquet"), &bytes).unwrap();
        let columns = [("s", DataType::string()), ("t9", null(TypeRoot::Timestamp(9, TimeKind::Regular)))];
        let (spec, output) = whole(&parquet(folder.path(), &[], &columns));
        if let Err(error) = read(&spec, &output, 1) {
            proptest::prop_assert!(error.contains("a.parquet"), "{error}");
        }
    }
}

#[test]
fn options_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let columns = [("n", null(TypeRoot::Int))];
    let refusal = |options: &[(&str, &str)]| {
        sink_abilities(&parquet(folder.path(), options, &columns))
            .unwrap_err()
            .message
    };
    assert!(refusal(&[("parquet.compression", "LZO")]).contains("SNAPPY, GZIP"));
    assert!(refusal(&[("parquet.write.int64.timestamp", "x")]).contains("parquet.write.int64.timestamp"));
    assert!(refusal(&[("parquet.x", "1")]).starts_with("Unsupported options found for 'filesystem'."));
    let intervals = [("i", null(TypeRoot::IntervalYearMonth))];
    let refused = source_abilities(&parquet(folder.path(), &[], &intervals)).unwrap_err();
    assert!(
        refused.message.starts_with("Unsupported type: INTERVAL"),
        "{}",
        refused.message
    );
}
