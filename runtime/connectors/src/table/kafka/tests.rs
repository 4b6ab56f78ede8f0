//! Options, and what messages become, without a broker.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Int8Array, Int32Array, Int64Array, RecordBatch, StringArray,
};
use arrow::datatypes::SchemaRef;
use futures::task::noop_waker;
use thalweg_plan::connector::{CatalogTable, Connectors, SourceColumn};
use thalweg_plan::{ChangelogMode, DataType, TypeRoot};
use thalweg_types::StreamBatch;
use tokio::runtime::Runtime;

use super::sink::encoding_sink;
use super::source::decoding_source;
use super::*;
use crate::table::TableConnectors;
use crate::table::testing::{insert, scan, table, texts, whole, with_metadata};
use crate::testing::{batches, context_of};
use crate::{CollectionSource, ConnectorContext, Sink, SinkWriter, Source};

fn int() -> DataType {
    DataType::nullable(TypeRoot::Int)
}

fn kafka(options: &[(&str, &str)]) -> CatalogTable {
    let mut all = vec![
        ("connector", "kafka"),
        ("topic", "t"),
        ("properties.bootstrap.servers", "localhost:9"),
        ("properties.group.id", "g"),
    ];
    all.retain(|(key, _)| options.iter().all(|(other, _)| other != key));
    all.extend(options.iter().filter(|(_, value)| !value.is_empty()));
    table(&all, &[("k", int()), ("v", DataType::string())])
}

fn upsert(options: &[(&str, &str)]) -> CatalogTable {
    let mut all = vec![
        ("connector", "upsert-kafka"),
        ("key.format", "json"),
        ("value.format", "json"),
    ];
    all.extend(options);
    let mut table = kafka(&all);
    table.options.remove("format");
    table.schema.primary_key = Some(vec!["k".to_owned()]);
    table
}

#[test]
fn options_are_checked_as_flink_checks_them() {
    let refusal = |options: &[(&str, &str)]| {
        source_abilities(&kafka(options), Mode::Append)
            .unwrap_err()
            .message
    };
    assert_eq!(
        refusal(&[]),
        "Could not find required scan format 'value.format'."
    );
    let json = ("format", "json");
    assert!(
        refusal(&[json, ("properties.bootstrap.servers", "")])
            .ends_with("Missing required options are:\n\nproperties.bootstrap.servers")
    );
    assert_eq!(
        refusal(&[json, ("topic", "")]),
        "Either 'topic' or 'topic-pattern' must be set."
    );
    assert_eq!(
        refusal(&[json, ("topic-pattern", "x")]),
        "Option 'topic' and 'topic-pattern' shouldn't be set together."
    );
    assert_eq!(
        refusal(&[json, ("scan.startup.mode", "timestamp")]),
        "'scan.startup.timestamp-millis' is required in 'timestamp' startup mode but missing."
    );
    assert_eq!(
        refusal(&[
            json,
            ("scan.bounded.mode", "specific-offsets"),
            ("scan.bounded.specific-offsets", "0:1")
        ]),
        "Invalid properties 'scan.bounded.specific-offsets' should follow the format 'partition:0,offset:42;partition:1,offset:300', but is '0:1'."
    );
    assert_eq!(
        refusal(&[json, ("key.fields", "k")]),
        "The option 'key.fields' can only be declared if a key format is defined using 'key.format'."
    );
    assert!(
        refusal(&[json, ("key.format", "raw"), ("key.fields", "x")])
            .starts_with("Could not find the field 'x' in the table schema")
    );
    assert_eq!(
        refusal(&[
            json,
            ("key.format", "raw"),
            ("key.fields", "k"),
            ("key.fields-prefix", "k")
        ]),
        "A key prefix is not allowed when option 'value.fields-include' is set to 'ALL'. Set it to 'EXCEPT_KEY' instead to avoid field overlaps."
    );
    assert!(
        refusal(&[json, ("json.x", "1")])
            .starts_with("Unsupported options found for 'kafka'.\n\nUnsupported options:\n\njson.x\n\n")
    );
    assert!(
        refusal(&[("format", "xml")]).starts_with("Could not find any format factory for identifier 'xml'.")
    );
    let mut keyed = kafka(&[json]);
    keyed.schema.primary_key = Some(vec!["k".to_owned()]);
    assert!(
        source_abilities(&keyed, Mode::Append)
            .unwrap_err()
            .message
            .contains("doesn't support defining PRIMARY KEY constraint")
    );
    let exactly_once = kafka(&[json, ("sink.delivery-guarantee", "exactly-once")]);
    assert_eq!(
        sink_abilities(&exactly_once, Mode::Append).unwrap_err().message,
        "sink.transactional-id-prefix must be specified when using DeliveryGuarantee.EXACTLY_ONCE."
    );
    let mut keyless = upsert(&[]);
    keyless.schema.primary_key = None;
    assert!(
        source_abilities(&keyless, Mode::Upsert)
            .unwrap_err()
            .message
            .starts_with("'upsert-kafka' tables require to define")
    );
}

#[test]
fn abilities_follow_from_format_and_bounds() {
    let debezium = kafka(&[
        ("format", "debezium-json"),
        ("scan.bounded.mode", "latest-offset"),
    ]);
    let abilities = source_abilities(&debezium, Mode::Append).unwrap();
    assert_eq!(
        (abilities.changelog, abilities.bounded),
        (ChangelogMode::ALL, true)
    );
    let abilities = source_abilities(&upsert(&[]), Mode::Upsert).unwrap();
    assert!(!abilities.changelog.update_before && abilities.changelog.key_only_deletes);
    assert_eq!(
        sink_abilities(&upsert(&[]), Mode::Upsert).unwrap().changelog,
        ChangelogMode::UPSERT
    );
    let json = kafka(&[("format", "json"), ("sink.parallelism", "2")]);
    let abilities = sink_abilities(&json, Mode::Append).unwrap();
    assert_eq!(
        (abilities.changelog, abilities.parallelism),
        (ChangelogMode::INSERT_ONLY, Some(2))
    );
    sink(&insert(&json), Mode::Append).unwrap();
    let (spec, output) = whole(&json);
    assert_eq!(
        source(&spec, &output, Mode::Append, None).unwrap().schema(),
        output.to_arrow()
    );
}

/// Values, keys, and beside them partition 0 and offsets from 0, as the inner source has them.
fn messages(values: &[Option<&str>], keys: &[Option<&str>]) -> Arc<dyn Source> {
    let bytes =
        |texts: &[Option<&str>]| BinaryArray::from_iter(texts.iter().map(|text| text.map(str::as_bytes)));
    let count = values.len();
    let rows = RecordBatch::try_from_iter([
        ("value", Arc::new(bytes(values)) as ArrayRef),
        ("m0", Arc::new(Int32Array::from(vec![0; count])) as ArrayRef),
        (
            "m1",
            Arc::new(Int64Array::from_iter_values(0..count as i64)) as ArrayRef,
        ),
        ("key", Arc::new(bytes(keys)) as ArrayRef),
    ]);
    Arc::new(CollectionSource::from_elements(rows.unwrap()))
}

/// What a table makes of messages.
fn decoded(
    table: &CatalogTable,
    mode: Mode,
    columns: Option<Vec<SourceColumn>>,
    inner: Arc<dyn Source>,
) -> Result<Vec<String>, String> {
    let (spec, output) = match columns {
        Some(columns) => scan(table, columns),
        None => whole(table),
    };
    let source =
        decoding_source(&spec, &output, mode, None, |_| Ok(inner)).map_err(|problem| problem.message)?;
    let io = Runtime::new().unwrap();
    let mut reader = source.create_reader(context_of(&io, 0, 1)).unwrap();
    batches(reader.as_mut())
        .map(|batches| texts(&batches))
        .map_err(|error| error.to_string())
}

#[test]
fn a_message_is_a_row_and_a_bad_one_is_named_by_its_offset() {
    let json = kafka(&[("format", "json")]);
    let inner = || {
        messages(
            &[Some("{\"k\":1,\"v\":\"a\"}"), None, Some("{\"v\":5}")],
            &[None; 3],
        )
    };
    assert_eq!(
        decoded(&json, Mode::Append, None, inner()),
        Ok(vec!["+I[1, a]".to_owned(), "+I[null, 5]".to_owned()])
    );
    let bad = messages(&[Some("{}"), Some("{\"k\":\"x\"}")], &[None; 2]);
    assert_eq!(
        decoded(&json, Mode::Append, None, bad),
        Err("Kafka topic \"t\" partition 0 offset 1: field \"k\": \"x\" is no value of INT".to_owned())
    );
    let metadata = vec![
        SourceColumn::Metadata {
            key: "offset".to_owned(),
            data_type: DataType::nullable(TypeRoot::BigInt),
        },
        SourceColumn::Physical {
            path: vec!["v".to_owned()],
            data_type: DataType::string(),
        },
        SourceColumn::Metadata {
            key: "partition".to_owned(),
            data_type: DataType::nullable(TypeRoot::Int),
        },
    ];
    assert_eq!(
        decoded(&json, Mode::Append, Some(metadata), inner()),
        Ok(vec!["+I[0, a, 0]".to_owned(), "+I[2, 5, 0]".to_owned()])
    );
}

#[test]
fn a_change_of_two_rows_takes_its_metadata_twice() {
    let table = kafka(&[("format", "debezium-json")]);
    let update = "{\"before\":{\"k\":1,\"v\":\"a\"},\"after\":{\"k\":1,\"v\":\"b\"},\"op\":\"u\"}";
    let inner = messages(&[None, Some(update)], &[None; 2]);
    let columns = vec![
        SourceColumn::Physical {
            path: vec!["v".to_owned()],
            data_type: DataType::string(),
        },
        SourceColumn::Metadata {
            key: "offset".to_owned(),
            data_type: DataType::nullable(TypeRoot::BigInt),
        },
    ];
    assert_eq!(
        decoded(&table, Mode::Append, Some(columns), inner),
        Ok(vec!["-U[a, 1]".to_owned(), "+U[b, 1]".to_owned()])
    );
}

#[test]
fn the_values_format_tells_metadata_too_of_each_row() {
    let table = kafka(&[("format", "debezium-json")]);
    let update = "{\"before\":{\"k\":1,\"v\":\"a\"},\"after\":{\"k\":1,\"v\":\"b\"},\"op\":\"u\",\"source\":{\"table\":\"orders\",\"ts_ms\":7}}";
    let inner = messages(&[Some(update)], &[None]);
    let metadata = |key: &str, data_type: DataType| SourceColumn::Metadata {
        key: key.to_owned(),
        data_type,
    };
    let columns = vec![
        metadata("value.source.table", DataType::string()),
        SourceColumn::Physical {
            path: vec!["v".to_owned()],
            data_type: DataType::string(),
        },
        metadata("value.source.database", DataType::string()),
    ];
    assert_eq!(
        decoded(&table, Mode::Append, Some(columns), inner),
        Ok(vec![
            "-U[orders, a, null]".to_owned(),
            "+U[orders, b, null]".to_owned()
        ])
    );
}

#[test]
fn metadata_columns_are_checked_with_the_table() {
    let table = |key: &str, is_virtual| {
        let json = kafka(&[("format", "json")]);
        with_metadata(json, "m", key, is_virtual, DataType::string())
    };
    let message = |problem: ConnectorProblem| problem.message;
    let reading = |key: &str| {
        TableConnectors
            .source(&table(key, true))
            .map(drop)
            .map_err(message)
    };
    let writing = |key: &str, is_virtual| {
        TableConnectors
            .sink(&table(key, is_virtual))
            .map(drop)
            .map_err(message)
    };
    assert_eq!(reading("timestamp-type"), Ok(()));
    let unknown = reading("value.source.table").unwrap_err();
    assert!(
        unknown.ends_with(
            "reading:\nheaders\nleader-epoch\noffset\npartition\ntimestamp\ntimestamp-type\ntopic"
        ),
        "{unknown}"
    );
    assert_eq!(writing("topic", true), Ok(()));
    let unwritable = writing("topic", false).unwrap_err();
    assert!(
        unwritable.contains("writing:\nheaders\ntimestamp If the column"),
        "{unwritable}"
    );
}

#[test]
fn alignment_needs_a_group_and_a_drift() {
    let check = |options: &[(&str, &str)]| {
        let mut all = vec![("format", "json")];
        all.extend(options);
        source_abilities(&kafka(&all), Mode::Append).map(|abilities| abilities.watermark)
    };
    let group = ("scan.watermark.alignment.group", "g");
    let drift = ("scan.watermark.alignment.max-drift", "1 s");
    let interval = ("scan.watermark.alignment.update-interval", "100 ms");
    assert_eq!(check(&[group, drift, interval]), Ok(true));
    assert!(check(&[group]).is_err() && check(&[drift]).is_err());
    let strategy = ("scan.watermark.emit.strategy", "never");
    assert_eq!(
        check(&[strategy]).unwrap_err().option.as_deref(),
        Some("scan.watermark.emit.strategy")
    );
}

#[test]
fn an_upsert_tables_tombstone_deletes_its_key() {
    let inner = messages(
        &[Some("{\"k\":1,\"v\":\"a\"}"), None],
        &[Some("{\"k\":1}"), Some("{\"k\":1}")],
    );
    assert_eq!(
        decoded(&upsert(&[]), Mode::Upsert, None, inner),
        Ok(vec!["+I[1, a]".to_owned(), "-D[1, null]".to_owned()])
    );
}

/// A sink that takes so many rows at once, and keeps them.
struct Kept {
    at_once: usize,
    rows: Arc<Mutex<Vec<StreamBatch>>>,
}

impl Sink for Kept {
    fn kind(&self) -> &'static str {
        "Kept"
    }

    fn validate(&self, _input: &SchemaRef) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn create_writer(&self, _context: ConnectorContext) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        Ok(Box::new(KeptWriter(self.at_once, Arc::clone(&self.rows))))
    }
}

struct KeptWriter(usize, Arc<Mutex<Vec<StreamBatch>>>);

impl SinkWriter for KeptWriter {
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), ConnectorError>> {
        Poll::Ready(Ok(()))
    }

    fn write(&mut self, batch: &StreamBatch) -> Result<usize, ConnectorError> {
        let taken = batch.num_rows().min(self.0);
        self.1.lock().unwrap().push(batch.slice(0, taken));
        Ok(taken)
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>, _end: bool) -> Poll<Result<(), ConnectorError>> {
        Poll::Ready(Ok(()))
    }
}

/// Values and keys that a table's rows become.
fn encoded(table: &CatalogTable, mode: Mode, at_once: usize) -> Vec<String> {
    let rows = Arc::new(Mutex::new(Vec::new()));
    let inner = Kept {
        at_once,
        rows: Arc::clone(&rows),
    };
    let spec = insert(table);
    let sink = encoding_sink(&spec, mode, |_| Ok(Arc::new(inner))).unwrap();
    let io = Runtime::new().unwrap();
    let mut writer = sink.create_writer(context_of(&io, 0, 1)).unwrap();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![1, 2, 3])),
        Arc::new(StringArray::from(vec![Some("a"), None, Some("c")])),
    ];
    let mut batch = StreamBatch::new(RecordBatch::try_new(spec.schema.to_arrow(), columns).unwrap());
    batch.kinds = Some(Int8Array::from(match mode {
        Mode::Append => vec![0, 0, 0],
        Mode::Upsert => vec![0, 2, 3],
    }));
    let mut left = batch;
    while left.num_rows() > 0 {
        assert!(
            writer
                .poll_ready(&mut Context::from_waker(&noop_waker()))
                .is_ready()
        );
        let taken = writer.write(&left).unwrap();
        left = left.slice(taken, left.num_rows() - taken);
    }
    let text = |column: &ArrayRef, row: usize| {
        let column = column.as_binary::<i32>();
        match column.is_null(row) {
            true => "-".to_owned(),
            false => String::from_utf8(column.value(row).to_vec()).unwrap(),
        }
    };
    let mut written = Vec::new();
    for batch in rows.lock().unwrap().iter() {
        for row in 0..batch.num_rows() {
            let parts: Vec<String> = batch
                .rows
                .columns()
                .iter()
                .map(|column| text(column, row))
                .collect();
            written.push(parts.join(" "));
        }
    }
    written
}

#[test]
fn rows_become_values_and_keys_however_few_are_taken_at_once() {
    let table = kafka(&[
        ("format", "json"),
        ("key.format", "csv"),
        ("key.fields", "k"),
        ("value.fields-include", "EXCEPT_KEY"),
    ]);
    let expected = ["{\"v\":\"a\"} 1", "{\"v\":null} 2", "{\"v\":\"c\"} 3"];
    for at_once in [1, 2, 3] {
        assert_eq!(encoded(&table, Mode::Append, at_once), expected);
    }
}

#[test]
fn an_upsert_tables_delete_is_a_tombstone() {
    let expected = [
        "{\"k\":1,\"v\":\"a\"} {\"k\":1}",
        "{\"k\":2,\"v\":null} {\"k\":2}",
        "- {\"k\":3}",
    ];
    assert_eq!(encoded(&upsert(&[]), Mode::Upsert, 3), expected);
}
