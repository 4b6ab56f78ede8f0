//! Readers and writers driven as a task drives them, and topics to work on.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use futures::future::poll_fn;
use thalweg_connectors::kafka::{KafkaSinkBuilder, KafkaSourceBuilder, OffsetsInitializer};
use thalweg_connectors::{
    AttemptOrder, ConnectorContext, ConnectorError, KafkaSink, KafkaSource, RestoredConnector, Sink,
    SinkWriter, SourceEvent, SourceReader,
};
use thalweg_storage::FileSystems;
use thalweg_types::config::Configuration;
use thalweg_types::{OperatorId, StreamBatch};
use tokio::runtime::{Builder, Runtime};

/// No test waits longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

pub(crate) fn context(io: &Runtime, subtask: u32, parallelism: u32) -> ConnectorContext {
    ConnectorContext {
        operator_name: "test".into(),
        operator_id: OperatorId::from_u128(1),
        subtask,
        parallelism,
        attempt: AttemptOrder::default(),
        io: io.handle().clone(),
        files: FileSystems::new(Configuration::default()),
        checkpointing: false,
        restored: None,
    }
}

/// As [`context`], restored with what other readers gave.
pub(crate) fn restored_context(
    io: &Runtime,
    subtask: u32,
    parallelism: u32,
    states: Vec<Vec<u8>>,
) -> ConnectorContext {
    ConnectorContext {
        restored: Some(RestoredConnector {
            checkpoint_id: 1,
            states,
            committables: Vec::new(),
        }),
        ..context(io, subtask, parallelism)
    }
}

pub(crate) fn within<T>(io: &Runtime, future: impl Future<Output = T>) -> T {
    io.block_on(async {
        tokio::time::timeout(PATIENCE, future)
            .await
            .expect("nothing happened for two minutes")
    })
}

/// A name that no earlier run has used.
pub(crate) fn fresh(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    format!("{name}-{now:x}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn source(servers: &str, topic: &str) -> KafkaSourceBuilder {
    KafkaSource::builder()
        .bootstrap_servers(servers)
        .topics([topic])
        .value_as_string()
}

pub(crate) fn bounded(servers: &str, topic: &str) -> KafkaSourceBuilder {
    source(servers, topic).bounded(OffsetsInitializer::Latest)
}

pub(crate) fn sink(servers: &str, topic: &str) -> KafkaSinkBuilder {
    KafkaSink::builder()
        .bootstrap_servers(servers)
        .topic(topic)
        .key_column("key")
        .value_column("value")
}

/// Rows with the numbers as text in `value`, their remainder by 7 in `key`, and themselves as event time.
pub(crate) fn numbers(range: std::ops::Range<i64>) -> StreamBatch {
    let keys = StringArray::from_iter_values(range.clone().map(|n| (n % 7).to_string()));
    let values = StringArray::from_iter_values(range.clone().map(|n| n.to_string()));
    let rows =
        RecordBatch::try_from_iter([("key", Arc::new(keys) as _), ("value", Arc::new(values) as _)]).unwrap();
    let mut batch = StreamBatch::new(rows);
    batch.timestamps = Some(Int64Array::from_iter_values(range.map(|n| 1_000_000 + n)));
    batch
}

pub(crate) fn next(io: &Runtime, reader: &mut dyn SourceReader) -> Result<SourceEvent, ConnectorError> {
    within(io, poll_fn(|cx| reader.poll_next(cx)))
}

/// The next batch; idleness is passed over.
pub(crate) fn next_batch(
    io: &Runtime,
    reader: &mut dyn SourceReader,
) -> Result<Option<StreamBatch>, ConnectorError> {
    loop {
        match next(io, reader)? {
            SourceEvent::Batch(batch) => return Ok(Some(batch)),
            SourceEvent::Idle => {}
            SourceEvent::EndOfInput => return Ok(None),
        }
    }
}

pub(crate) fn texts(batch: &StreamBatch) -> Vec<String> {
    batch
        .rows
        .column(0)
        .as_string::<i32>()
        .iter()
        .map(|text| text.unwrap().to_owned())
        .collect()
}

/// All values of all subtasks of a bounded source, in the subtasks' order.
pub(crate) fn read_all(
    io: &Runtime,
    builder: KafkaSourceBuilder,
    parallelism: u32,
) -> Result<Vec<String>, ConnectorError> {
    let source = builder.build()?;
    let mut all = Vec::new();
    for subtask in 0..parallelism {
        let mut reader = source.reader(context(io, subtask, parallelism))?;
        while let Some(batch) = next_batch(io, &mut reader)? {
            all.extend(texts(&batch));
        }
    }
    Ok(all)
}

/// Values until there are so many, of an unbounded source with one subtask.
pub(crate) fn read_some(
    io: &Runtime,
    reader: &mut dyn SourceReader,
    count: usize,
) -> Result<Vec<String>, ConnectorError> {
    let mut some = Vec::new();
    while some.len() < count {
        let batch = next_batch(io, reader)?.expect("an unbounded source doesn't end");
        some.extend(texts(&batch));
    }
    Ok(some)
}

pub(crate) fn writer(io: &Runtime, builder: KafkaSinkBuilder) -> Result<Box<dyn SinkWriter>, ConnectorError> {
    builder.build()?.create_writer(context(io, 0, 1))
}

/// Writes a batch as a task does, the rest again when there is room.
pub(crate) fn write(
    io: &Runtime,
    writer: &mut dyn SinkWriter,
    batch: &StreamBatch,
) -> Result<(), ConnectorError> {
    let mut written = 0;
    while written < batch.num_rows() {
        within(io, poll_fn(|cx| writer.poll_ready(cx)))?;
        written += writer.write(&batch.slice(written, batch.num_rows() - written))?;
    }
    Ok(())
}

pub(crate) fn flush(io: &Runtime, writer: &mut dyn SinkWriter) -> Result<(), ConnectorError> {
    within(io, poll_fn(|cx| writer.poll_flush(cx, false)))
}

pub(crate) fn write_all(
    io: &Runtime,
    builder: KafkaSinkBuilder,
    batch: &StreamBatch,
) -> Result<(), ConnectorError> {
    let mut writer = writer(io, builder)?;
    write(io, writer.as_mut(), batch)?;
    flush(io, writer.as_mut())
}

/// How often each text comes.
pub(crate) fn counts(texts: Vec<String>) -> BTreeMap<String, usize> {
    texts.into_iter().fold(BTreeMap::new(), |mut counts, text| {
        *counts.entry(text).or_default() += 1;
        counts
    })
}

pub(crate) fn once(range: std::ops::Range<i64>) -> BTreeMap<String, usize> {
    range.map(|n| (n.to_string(), 1)).collect()
}

pub(crate) fn gauge(gauges: &[(&'static str, f64)], name: &str) -> f64 {
    gauges
        .iter()
        .find(|(gauge, _)| *gauge == name)
        .unwrap_or_else(|| panic!("no gauge {name}"))
        .1
}
