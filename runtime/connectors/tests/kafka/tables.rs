//! Tables over topics, against librdkafka's mock cluster: metadata columns, and watermarks by partition.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::builder::{BinaryBuilder, MapBuilder, MapFieldNames, StringBuilder};
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMillisecondType};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use thalweg_connectors::SourceReader;
use thalweg_connectors::table::{RowWatermarks, TableConnectors, create_sink, create_source};
use thalweg_plan::connector::{
    CatalogTable, ColumnKind, Connectors, ObjectPath, SinkSpec, SourceColumn, SourceSpec, TableColumn,
    TableSchema,
};
use thalweg_plan::data_type::{MAX_LENGTH, TimeKind};
use thalweg_plan::spec::WatermarkSpec;
use thalweg_plan::{ChangelogMode, DataType, Expr, Field, Schema, TypeRoot};
use thalweg_types::StreamBatch;
use thalweg_types::config::Configuration;
use tokio::runtime::Runtime;

use crate::broker::{real_broker, topic};
use crate::mock::cluster;
use crate::support::*;

/// A name, its type, and its key if it is metadata.
type Column = (&'static str, DataType, Option<&'static str>);

fn table(servers: &str, topic: &str, options: &[(&str, &str)], columns: &[Column]) -> CatalogTable {
    let column = |(name, data_type, key): &Column| TableColumn {
        name: (*name).to_owned(),
        data_type: data_type.clone(),
        kind: match key {
            None => ColumnKind::Physical,
            Some(key) => ColumnKind::Metadata {
                key: (*key).to_owned(),
                is_virtual: false,
            },
        },
        comment: None,
    };
    let own = [
        ("connector", "kafka"),
        ("topic", topic),
        ("properties.bootstrap.servers", servers),
        ("scan.startup.mode", "earliest-offset"),
        ("format", "json"),
    ];
    let options = own.iter().chain(options);
    CatalogTable {
        path: ObjectPath {
            catalog: "c".to_owned(),
            database: "d".to_owned(),
            name: "t".to_owned(),
        },
        schema: TableSchema {
            columns: columns.iter().map(column).collect(),
            ..TableSchema::default()
        },
        options: options
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        partition_keys: Vec::new(),
        comment: None,
    }
}

fn scan(table: &CatalogTable, watermark: Option<WatermarkSpec>) -> (SourceSpec, Schema) {
    let column = |column: &TableColumn| match &column.kind {
        ColumnKind::Metadata { key, .. } => SourceColumn::Metadata {
            key: key.clone(),
            data_type: column.data_type.clone(),
        },
        _ => SourceColumn::Physical {
            path: vec![column.name.clone()],
            data_type: column.data_type.clone(),
        },
    };
    let spec = SourceSpec {
        table: table.clone(),
        columns: table.schema.columns.iter().map(column).collect(),
        filters: Vec::new(),
        limit: None,
        watermark,
    };
    (spec, schema(table))
}

fn schema(table: &CatalogTable) -> Schema {
    let columns = table.schema.columns.iter();
    Schema {
        fields: columns
            .map(|column| Field::new(&column.name, column.data_type.clone()))
            .collect(),
    }
}

fn times() -> DataType {
    DataType::nullable(TypeRoot::TimestampLtz(3, TimeKind::Regular))
}

fn header_type() -> DataType {
    let bytes = DataType::nullable(TypeRoot::VarBinary(MAX_LENGTH));
    DataType::nullable(TypeRoot::Map(Box::new(DataType::string()), Box::new(bytes)))
}

/// One header "h" a row, and one without a value; the last row has none.
fn headers(values: &[&str]) -> ArrayRef {
    let names = MapFieldNames {
        entry: "entries".to_owned(),
        key: "key".to_owned(),
        value: "value".to_owned(),
    };
    let mut column = MapBuilder::new(Some(names), StringBuilder::new(), BinaryBuilder::new());
    for value in values {
        column.keys().append_value("h");
        column.values().append_value(value);
        column.keys().append_value("nothing");
        column.values().append_null();
        column.append(true).unwrap();
    }
    column.append(false).unwrap();
    Arc::new(column.finish())
}

#[test]
fn metadata_that_was_written_is_read() {
    let (_cluster, servers) = cluster("t", 1);
    write_and_read_metadata(&runtime(), &servers, "t", None);
}

#[test]
fn metadata_that_was_written_is_read_from_a_real_broker() {
    let servers = real_broker!();
    let io = runtime();
    let topic = topic(&io, &servers, 1, &[]);
    write_and_read_metadata(&io, &servers, &topic, Some(0));
}

/// `epoch`: that of the topic's leader, if it is known.
fn write_and_read_metadata(io: &Runtime, servers: &str, topic: &str, epoch: Option<i32>) {
    let written = [
        ("v", DataType::string(), None),
        ("at", times(), Some("timestamp")),
        ("h", header_type(), Some("headers")),
    ];
    let target = table(servers, topic, &[], &written);
    TableConnectors.sink(&target).unwrap();
    let spec = SinkSpec {
        schema: schema(&target),
        table: target,
        changelog: ChangelogMode::INSERT_ONLY,
        metadata: vec!["timestamp".to_owned(), "headers".to_owned()],
        overwrite: false,
        static_partition: BTreeMap::new(),
    };
    let sink = create_sink(&spec, &Configuration::default()).unwrap();
    let at = TimestampMillisecondArray::from(vec![1_000, 2_000, 3_000]);
    let arrow = times().to_arrow();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["a", "b", "c"])),
        Arc::new(at.with_data_type(arrow)),
        headers(&["x", "y"]),
    ];
    let rows = RecordBatch::try_new(spec.schema.to_arrow(), columns).unwrap();
    let mut writer = sink.create_writer(context(io, 0, 1)).unwrap();
    write(io, writer.as_mut(), &StreamBatch::new(rows)).unwrap();
    flush(io, writer.as_mut()).unwrap();

    let not_null = DataType::not_null;
    let read = [
        ("v", DataType::string(), None),
        ("at", times().with_nullable(false), Some("timestamp")),
        ("h", header_type().with_nullable(false), Some("headers")),
        (
            "kind",
            DataType::string().with_nullable(false),
            Some("timestamp-type"),
        ),
        ("epoch", DataType::nullable(TypeRoot::Int), Some("leader-epoch")),
        ("topic", DataType::string().with_nullable(false), Some("topic")),
        ("partition", not_null(TypeRoot::Int), Some("partition")),
        ("offset", not_null(TypeRoot::BigInt), Some("offset")),
    ];
    let origin = table(servers, topic, &[("scan.bounded.mode", "latest-offset")], &read);
    TableConnectors.source(&origin).unwrap();
    let (spec, output) = scan(&origin, None);
    let source = create_source(&spec, &output, &Configuration::default(), None).unwrap();
    let mut reader = source.create_reader(context(io, 0, 1)).unwrap();
    let mut rows = Vec::new();
    while let Some(batch) = next_batch(io, reader.as_mut()).unwrap() {
        let columns = batch.rows.columns();
        for row in 0..batch.num_rows() {
            if epoch.is_some() {
                let epochs = columns[4].as_primitive::<Int32Type>();
                assert_eq!(epochs.iter().nth(row), Some(epoch));
            }
            let entries = columns[2].as_map().value(row);
            let header = entries.column(1).as_binary::<i32>().iter().flatten();
            let header: Vec<_> = header
                .map(|value| String::from_utf8_lossy(value).into_owned())
                .collect();
            rows.push((
                columns[0].as_string::<i32>().value(row).to_owned(),
                columns[1].as_primitive::<TimestampMillisecondType>().value(row),
                header.join(","),
                columns[3].as_string::<i32>().value(row).to_owned(),
                columns[5].as_string::<i32>().value(row).to_owned(),
                columns[6].as_primitive::<Int32Type>().value(row),
                columns[7].as_primitive::<Int64Type>().value(row),
            ));
        }
    }
    let row = |v: &str, at, header: &str, offset| {
        let kind = "CreateTime".to_owned();
        (
            v.to_owned(),
            at,
            header.to_owned(),
            kind,
            topic.to_owned(),
            0,
            offset,
        )
    };
    assert_eq!(
        rows,
        [
            row("a", 1_000, "x", 0),
            row("b", 2_000, "y", 1),
            row("c", 3_000, "", 2)
        ]
    );
}

/// A topic of two partitions whose messages are `{"ts": milliseconds}`, read by one subtask with the watermark ts.
struct Events {
    io: Runtime,
    producer: BaseProducer,
    reader: Box<dyn SourceReader>,
    watermark: i64,
    _cluster: crate::mock::Cluster,
}

impl Events {
    fn new(idle_timeout_ms: u64) -> Self {
        let io = runtime();
        let (cluster, servers) = cluster("events", 2);
        let column = DataType::nullable(TypeRoot::BigInt);
        let table = table(&servers, "events", &[], &[("ts", column.clone(), None)]);
        assert!(TableConnectors.source(&table).unwrap().watermark);
        let watermark = WatermarkSpec {
            rowtime: 0,
            expression: Expr::column(0, column),
            interval_ms: 0,
            idle_timeout_ms,
        };
        let times: RowWatermarks = Arc::new(|rows| Ok(rows.column(0).as_primitive::<Int64Type>().clone()));
        let (spec, output) = scan(&table, Some(watermark));
        let source = create_source(&spec, &output, &Configuration::default(), Some(times)).unwrap();
        Self {
            reader: source.create_reader(context(&io, 0, 1)).unwrap(),
            producer: ClientConfig::new()
                .set("bootstrap.servers", &servers)
                .create()
                .unwrap(),
            watermark: i64::MIN,
            io,
            _cluster: cluster,
        }
    }

    fn send(&self, partition: i32, times: &[i64]) {
        for time in times {
            let message = format!("{{\"ts\":{time}}}");
            let record: BaseRecord<'_, str, str> =
                BaseRecord::to("events").partition(partition).payload(&message);
            self.producer.send(record).unwrap();
        }
        self.producer.flush(Duration::from_secs(60)).unwrap();
    }

    /// Reads on; no row may be behind the watermark.
    fn read(&mut self) -> Int64Array {
        let batch = next_batch(&self.io, self.reader.as_mut()).unwrap().unwrap();
        let times = batch.rows.column(0).as_primitive::<Int64Type>().clone();
        for (row, time) in times.values().iter().enumerate() {
            let cuts = batch.watermarks.iter().filter(|cut| cut.row as usize <= row);
            let watermark = cuts.map(|cut| cut.timestamp_ms).fold(self.watermark, i64::max);
            assert!(*time > watermark, "{time} is late behind {watermark}");
        }
        for cut in &batch.watermarks {
            assert!(cut.timestamp_ms > self.watermark, "watermarks grow");
            self.watermark = cut.timestamp_ms;
        }
        times
    }

    fn read_rows(&mut self, count: usize) {
        let mut read = 0;
        while read < count {
            read += self.read().len();
        }
    }

    fn read_until_watermark(&mut self, watermark: i64) {
        while self.watermark < watermark {
            self.read();
        }
        assert_eq!(self.watermark, watermark);
    }
}

#[test]
fn a_slow_partitions_rows_are_not_late() {
    let mut events = Events::new(0);
    events.send(0, &[1_000, 2_000]);
    events.read_rows(2);
    assert_eq!(events.watermark, i64::MIN, "the other partition has no row yet");
    events.send(1, &[500]);
    events.read_rows(1);
    events.read_until_watermark(500);
    events.send(1, &[1_400, 1_500]);
    events.read_until_watermark(1_500);
    events.send(1, &[9_000]);
    events.read_until_watermark(2_000);
}

#[test]
fn an_idle_partition_holds_nothing_back() {
    let mut events = Events::new(200);
    let mut time = 0;
    // The one that goes on may seem idle, too, on a slow machine, but not for ever.
    while events.watermark == i64::MIN {
        time += 1_000;
        events.send(0, &[time]);
        events.read_rows(1);
    }
    assert_eq!(events.watermark % 1_000, 0);
}
