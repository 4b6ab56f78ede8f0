//! Against a real broker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch, StringArray};
use arrow::datatypes::{Int32Type, Int64Type};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use thalweg_connectors::kafka::{BytesFormat, MetadataColumn, OffsetsInitializer, Tombstones};
use thalweg_connectors::{ConnectorError, WatermarkStrategy};
use thalweg_types::StreamBatch;
use tokio::runtime::Runtime;

use crate::support::*;

/// The broker, or a line that says why nothing was tested.
pub(crate) fn broker(test: &str) -> Option<String> {
    let servers = std::env::var("THALWEG_TEST_KAFKA")
        .ok()
        .filter(|servers| !servers.is_empty());
    if servers.is_none() {
        println!("SKIPPED {test}: THALWEG_TEST_KAFKA (host:port of a real broker) is not set");
    }
    servers
}

macro_rules! real_broker {
    () => {
        match crate::broker::broker(std::thread::current().name().unwrap_or("test")) {
            Some(servers) => servers,
            None => return,
        }
    };
}
pub(crate) use real_broker;

pub(crate) fn admin(servers: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new()
        .set("bootstrap.servers", servers)
        .create()
        .unwrap()
}

pub(crate) fn topic(io: &Runtime, servers: &str, partitions: i32, settings: &[(&str, &str)]) -> String {
    let name = fresh("thalweg-test");
    let mut topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
    for (key, value) in settings {
        topic = topic.set(key, value);
    }
    let created = within(io, admin(servers).create_topics([&topic], &AdminOptions::new())).unwrap();
    created.into_iter().for_each(|result| drop(result.unwrap()));
    name
}

#[test]
fn a_hundred_thousand_records_come_back_once_at_any_parallelism() {
    let servers = real_broker!();
    let io = runtime();
    let topic = topic(&io, &servers, 4, &[]);
    write_all(&io, sink(&servers, &topic), &numbers(0..100_000)).unwrap();
    for parallelism in [1, 3] {
        let read = read_all(&io, bounded(&servers, &topic), parallelism).unwrap();
        assert_eq!(counts(read), once(0..100_000), "parallelism {parallelism}");
    }
}

#[test]
fn metadata_columns_event_time_and_watermarks_are_the_records() {
    let servers = real_broker!();
    let io = runtime();
    let topic = topic(&io, &servers, 1, &[]);
    write_all(&io, sink(&servers, &topic), &numbers(0..100)).unwrap();
    let source = source(&servers, &topic)
        .metadata_column("key", MetadataColumn::Key(BytesFormat::Utf8))
        .metadata_column("topic", MetadataColumn::Topic)
        .metadata_column("partition", MetadataColumn::Partition)
        .metadata_column("offset", MetadataColumn::Offset)
        .metadata_column("time", MetadataColumn::Timestamp)
        .watermarks(WatermarkStrategy::for_bounded_out_of_orderness(
            Duration::from_millis(5),
        ))
        .build()
        .unwrap();
    let mut reader = source.reader(context(&io, 0, 1)).unwrap();
    let mut row = 0;
    let mut last_watermark = i64::MIN;
    while row < 100 {
        let batch = next_batch(&io, &mut reader)
            .unwrap()
            .expect("an unbounded source doesn't end");
        let rows = &batch.rows;
        for index in 0..batch.num_rows() {
            let at = |column: usize| rows.column(column).as_primitive::<Int64Type>().value(index);
            assert_eq!(
                rows.column(1).as_string::<i32>().value(index),
                (row % 7).to_string()
            );
            assert_eq!(rows.column(2).as_string::<i32>().value(index), topic);
            assert_eq!(rows.column(3).as_primitive::<Int32Type>().value(index), 0);
            assert_eq!((at(4), at(5)), (row, 1_000_000 + row));
            assert_eq!(batch.timestamps.as_ref().unwrap().value(index), 1_000_000 + row);
            row += 1;
        }
        last_watermark = batch
            .watermarks
            .last()
            .map_or(last_watermark, |cut| cut.timestamp_ms);
    }
    assert_eq!((row, last_watermark), (100, 1_000_099 - 5 - 1));
}

#[test]
fn the_same_key_goes_to_the_partition_that_the_java_client_chooses() {
    let servers = real_broker!();
    let io = runtime();
    let topic = topic(&io, &servers, 4, &[]);
    write_all(&io, sink(&servers, &topic), &numbers(0..700)).unwrap();
    let source = bounded(&servers, &topic)
        .metadata_column("key", MetadataColumn::Key(BytesFormat::Utf8))
        .metadata_column("partition", MetadataColumn::Partition)
        .build()
        .unwrap();
    let mut reader = source.reader(context(&io, 0, 1)).unwrap();
    let mut partitions = BTreeMap::new();
    while let Some(batch) = next_batch(&io, &mut reader).unwrap() {
        for row in 0..batch.num_rows() {
            let key = batch.rows.column(1).as_string::<i32>().value(row).to_owned();
            let partition = batch.rows.column(2).as_primitive::<Int32Type>().value(row);
            assert_eq!(*partitions.entry(key).or_insert(partition), partition);
        }
    }
    // toPositive(murmur2(key)) % 4, as org.apache.kafka.common.utils.Utils computes it
    let java = (0..7)
        .map(|n| n.to_string())
        .map(|key| (key.clone(), (murmur2(key.as_bytes()) & 0x7fff_ffff) as i32 % 4));
    assert_eq!(partitions, java.collect());
}

/// Kafka's murmur2 with its seed, for keys shorter than four bytes and whole words.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    for (index, byte) in rest.iter().enumerate().rev() {
        hash ^= u32::from(*byte) << (8 * index);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[test]
fn partitions_that_are_added_later_are_found_and_read_from_their_beginning() {
    let servers = real_broker!();
    let io = runtime();
    let topic = topic(&io, &servers, 1, &[]);
    let source = source(&servers, &topic).partition_discovery_interval(Some(Duration::from_millis(200)));
    let mut reader = source.build().unwrap().reader(context(&io, 0, 1)).unwrap();
    write_all(&io, sink(&servers, &topic), &numbers(0..70)).unwrap();
    let mut all = read_some(&io, &mut reader, 70).unwrap();
    within(
        &io,
        admin(&servers).create_partitions([&NewPartitions::new(&topic, 4)], &AdminOptions::new()),
    )
    .unwrap();
    write_all(&io, sink(&servers, &topic), &numbers(70..700)).unwrap();
    all.extend(read_some(&io, &mut reader, 630).unwrap());
    assert_eq!(counts(all), once(0..700));
    assert_eq!(reader.snapshot_offsets().len(), 4);
}

#[test]
fn a_bounded_source_ends_behind_transaction_markers_and_leaves_out_aborted_records_if_told() {
    let servers = real_broker!();
    let io = runtime();
    let topic = topic(&io, &servers, 1, &[]);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &servers)
        .set("transactional.id", fresh("tx"))
        .create()
        .unwrap();
    let timeout = Duration::from_secs(60);
    producer.init_transactions(timeout).unwrap();
    for (value, commit) in [("committed", true), ("aborted", false)] {
        producer.begin_transaction().unwrap();
        producer
            .send(BaseRecord::<str, str>::to(&topic).payload(value))
            .map_err(|(error, _)| error)
            .unwrap();
        producer.flush(timeout).unwrap();
        if commit {
            producer.commit_transaction(timeout)
        } else {
            producer.abort_transaction(timeout)
        }
        .unwrap();
    }
    let isolated = |level| {
        read_all(
            &io,
            bounded(&servers, &topic).property("isolation.level", level),
            1,
        )
        .unwrap()
    };
    assert_eq!(isolated("read_uncommitted"), ["committed", "aborted"]);
    assert_eq!(isolated("read_committed"), ["committed"]);
}

#[test]
fn reading_begins_at_a_time_and_at_given_offsets() {
    let servers = real_broker!();
    let io = runtime();
    let topic = topic(&io, &servers, 1, &[]);
    write_all(&io, sink(&servers, &topic), &numbers(0..100)).unwrap();
    let from = |start| read_all(&io, bounded(&servers, &topic).starting_offsets(start), 1).unwrap();
    assert_eq!(
        counts(from(OffsetsInitializer::Timestamp(1_000_090))),
        once(90..100)
    );
    assert_eq!(
        counts(from(OffsetsInitializer::Offsets(
            [((topic.clone(), 0), 42)].into()
        ))),
        once(42..100)
    );
    assert_eq!(
        from(OffsetsInitializer::Timestamp(2_000_000)),
        Vec::<String>::new()
    );
    assert_eq!(from(OffsetsInitializer::Latest), Vec::<String>::new());
}

#[test]
fn tombstones_pass_as_nulls_or_fail_by_name() {
    let servers = real_broker!();
    let io = runtime();
    let topic = topic(&io, &servers, 1, &[]);
    let values = StringArray::from(vec![Some("a"), None]);
    let keys = StringArray::from(vec!["k", "k"]);
    let rows = RecordBatch::try_from_iter_with_nullable([
        ("key", Arc::new(keys) as _, false),
        ("value", Arc::new(values) as _, true),
    ]);
    write_all(&io, sink(&servers, &topic), &StreamBatch::new(rows.unwrap())).unwrap();

    let error = read_all(&io, bounded(&servers, &topic), 1)
        .unwrap_err()
        .to_string();
    let expected =
        format!("Kafka topic {topic:?} partition 0 offset 1: the record has no value (a tombstone)");
    assert!(error.starts_with(&expected), "{error}");
    let nulls = bounded(&servers, &topic)
        .tombstones(Tombstones::Null)
        .build()
        .unwrap();
    let mut reader = nulls.reader(context(&io, 0, 1)).unwrap();
    let mut read = Vec::new();
    while let Some(batch) = next_batch(&io, &mut reader).unwrap() {
        read.extend(
            batch
                .rows
                .column(0)
                .as_string::<i32>()
                .iter()
                .map(|value| value.map(str::to_owned)),
        );
    }
    assert_eq!(read, [Some("a".to_owned()), None]);
}

#[test]
fn a_record_larger_than_the_topic_allows_fails_with_its_size_and_what_to_do() {
    let servers = real_broker!();
    let io = runtime();
    let topic = topic(&io, &servers, 1, &[("max.message.bytes", "1000")]);
    let rows = StringArray::from(vec!["x".repeat(5_000)]);
    let rows = RecordBatch::try_from_iter([("value", Arc::new(rows) as _)]).unwrap();
    let error = write_all(
        &io,
        sink(&servers, &topic).key_column("value"),
        &StreamBatch::new(rows),
    )
    .unwrap_err();
    assert!(matches!(error, ConnectorError::Refused(_)), "{error}");
    let expected = format!(
        "Kafka topic {topic:?} partition 0: a record of 10000 bytes (key 5000, value 5000) is larger than allowed"
    );
    assert!(error.to_string().starts_with(&expected), "{error}");
}

#[test]
fn a_topic_that_is_deleted_while_it_is_read_ends_the_job_by_name() {
    let servers = real_broker!();
    let io = runtime();
    let topic = topic(&io, &servers, 1, &[]);
    write_all(&io, sink(&servers, &topic), &numbers(0..10)).unwrap();
    let source = source(&servers, &topic).partition_discovery_interval(Some(Duration::from_millis(200)));
    let mut reader = source.build().unwrap().reader(context(&io, 0, 1)).unwrap();
    read_some(&io, &mut reader, 10).unwrap();
    within(
        &io,
        admin(&servers).delete_topics(&[&topic], &AdminOptions::new()),
    )
    .unwrap();
    let error = next_batch(&io, &mut reader).unwrap_err().to_string();
    assert!(error.contains(&format!("Kafka topic {topic:?}")), "{error}");
    assert!(
        error.contains("doesn't exist on brokers") || error.contains("is gone from brokers"),
        "{error}"
    );
}
