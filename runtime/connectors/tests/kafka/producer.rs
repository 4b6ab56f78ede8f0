//! The sink's producer against librdkafka's mock cluster, read back by librdkafka with checksums checked.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch, StringArray};
use arrow::datatypes::{Int32Type, Int64Type};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use thalweg_connectors::kafka::{KafkaSourceBuilder, MetadataColumn};
use thalweg_connectors::{ConnectorError, SinkWriter};
use thalweg_types::StreamBatch;

use crate::mock::cluster;
use crate::support::*;

fn checked(servers: &str, topic: &str) -> KafkaSourceBuilder {
    bounded(servers, topic).property("check.crcs", "true")
}

/// Values by partition, in their order.
fn by_partition(io: &tokio::runtime::Runtime, servers: &str, topic: &str) -> BTreeMap<i32, Vec<i64>> {
    let source = checked(servers, topic).metadata_column("partition", MetadataColumn::Partition);
    let mut reader = source.build().unwrap().reader(context(io, 0, 1)).unwrap();
    let mut values = BTreeMap::<i32, Vec<i64>>::new();
    while let Some(batch) = next_batch(io, &mut reader).unwrap() {
        let partitions = batch.rows.column(1).as_primitive::<Int32Type>().values();
        for (partition, value) in partitions.iter().zip(texts(&batch)) {
            values.entry(*partition).or_default().push(value.parse().unwrap());
        }
    }
    values
}

#[test]
fn each_compression_is_read_by_another_client() {
    let io = runtime();
    for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let (_cluster, servers) = cluster("numbers", 2);
        let builder = sink(&servers, "numbers")
            .property("compression.type", compression)
            .property("batch.size", "200000");
        write_all(&io, builder, &numbers(0..30_000)).unwrap();
        let read = read_all(&io, checked(&servers, "numbers"), 1).unwrap();
        assert_eq!(counts(read), once(0..30_000), "{compression}");
    }
}

#[test]
fn each_acks_is_written_and_flushed() {
    let io = runtime();
    for acks in ["all", "1", "0"] {
        let (_cluster, servers) = cluster("numbers", 2);
        write_all(
            &io,
            sink(&servers, "numbers").property("acks", acks),
            &numbers(0..1_000),
        )
        .unwrap();
        // with 0 nobody says when they are there
        let source = source(&servers, "numbers").build().unwrap();
        let mut reader = source.reader(context(&io, 0, 1)).unwrap();
        assert_eq!(
            counts(read_some(&io, &mut reader, 1_000).unwrap()),
            once(0..1_000),
            "{acks}"
        );
    }
}

#[test]
fn records_come_once_and_in_order_though_the_broker_refuses_some_and_goes_away() {
    use RDKafkaRespErr as Code;
    let io = runtime();
    let (mock, servers) = cluster("numbers", 3);
    // The mock doesn't check sequences as a broker does, so it would take a batch whose predecessor it has just refused.
    let builder = sink(&servers, "numbers")
        .property("max.in.flight.requests.per.connection", "1")
        .property("batch.size", "1000")
        .property("retry.backoff.ms", "10")
        .property("reconnect.backoff.max.ms", "100");
    let mut writer = writer(&io, builder).unwrap();
    for round in 0..10 {
        mock.request_errors(
            RDKafkaApiKey::Produce,
            &[
                Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
                Code::RD_KAFKA_RESP_ERR_NO_ERROR,
                Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
                Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
            ],
        );
        write(&io, writer.as_mut(), &numbers(round * 1_000..(round + 1) * 1_000)).unwrap();
        if round % 3 == 2 {
            flush(&io, writer.as_mut()).unwrap();
            mock.broker_down(1).unwrap();
            mock.broker_up(1).unwrap();
        }
    }
    flush(&io, writer.as_mut()).unwrap();
    let values = by_partition(&io, &servers, "numbers");
    assert_eq!(values.values().map(Vec::len).sum::<usize>(), 10_000);
    for (partition, values) in values {
        assert!(
            values.is_sorted_by(|left, right| left < right),
            "partition {partition}"
        );
    }
}

#[test]
fn brokers_that_stay_away_end_the_writer_after_its_delivery_timeout() {
    let io = runtime();
    let (mock, servers) = cluster("numbers", 1);
    let mut writer = writer(
        &io,
        sink(&servers, "numbers").property("delivery.timeout.ms", "500"),
    )
    .unwrap();
    write(&io, writer.as_mut(), &numbers(0..10)).unwrap();
    flush(&io, writer.as_mut()).unwrap();
    mock.broker_down(1).unwrap();
    write(&io, writer.as_mut(), &numbers(10..20)).unwrap();
    let error = flush(&io, writer.as_mut()).unwrap_err();
    assert!(matches!(error, ConnectorError::Unavailable(_)), "{error}");
    let expected = format!(
        "Kafka topic \"numbers\" partition 0: a record was not acknowledged by brokers {servers} within `delivery.timeout.ms` (500): "
    );
    assert!(error.to_string().starts_with(&expected), "{error}");
    assert!(gauge(&writer.gauges(), "numRecordsSendErrors") > 0.0);
}

#[test]
fn a_right_that_is_missing_is_not_waited_for() {
    let io = runtime();
    let (mock, servers) = cluster("numbers", 1);
    mock.request_errors(
        RDKafkaApiKey::Produce,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED],
    );
    let error = write_all(&io, sink(&servers, "numbers"), &numbers(0..1)).unwrap_err();
    assert!(matches!(error, ConnectorError::Refused(_)), "{error}");
    assert_eq!(
        error.to_string(),
        format!(
            "Kafka topic \"numbers\" partition 0: brokers {servers} refuse records: TopicAuthorizationFailed"
        )
    );
}

#[test]
fn a_batch_that_the_broker_finds_too_large_fails_with_its_size_and_what_to_do() {
    let io = runtime();
    let (mock, servers) = cluster("numbers", 1);
    mock.request_errors(
        RDKafkaApiKey::Produce,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE],
    );
    let error = write_all(&io, sink(&servers, "numbers"), &numbers(0..10)).unwrap_err();
    assert!(matches!(error, ConnectorError::Refused(_)), "{error}");
    let message = error.to_string();
    assert!(
        message.starts_with("Kafka topic \"numbers\" partition 0: a batch of 10 records, "),
        "{message}"
    );
    assert!(
        message.contains("or lower the sink's property `batch.size` (131072 here)"),
        "{message}"
    );
}

#[test]
fn rows_without_a_key_take_turns_among_the_partitions() {
    let io = runtime();
    let (_cluster, servers) = cluster("numbers", 3);
    let values = StringArray::from_iter_values((0..9_000).map(|n| n.to_string()));
    let rows = RecordBatch::try_from_iter([("value", Arc::new(values) as _)]).unwrap();
    let builder = thalweg_connectors::KafkaSink::builder()
        .bootstrap_servers(&servers)
        .topic("numbers")
        .property("batch.size", "1000");
    write_all(&io, builder, &StreamBatch::new(rows)).unwrap();
    let partitions = by_partition(&io, &servers, "numbers");
    assert_eq!(partitions.len(), 3);
    assert_eq!(partitions.values().map(Vec::len).sum::<usize>(), 9_000);
    assert!(partitions.values().all(|values| values.len() > 1_000));
}

#[test]
fn rows_without_event_time_have_the_time_at_which_they_were_written() {
    let io = runtime();
    let (_cluster, servers) = cluster("numbers", 1);
    let mut batch = numbers(0..1);
    batch.timestamps = None;
    let wall = || {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        since.as_millis() as i64
    };
    let before = wall();
    write_all(&io, sink(&servers, "numbers"), &batch).unwrap();
    let source = checked(&servers, "numbers").metadata_column("time", MetadataColumn::Timestamp);
    let mut reader = source.build().unwrap().reader(context(&io, 0, 1)).unwrap();
    let read = next_batch(&io, &mut reader).unwrap().unwrap();
    let time = read.rows.column(1).as_primitive::<Int64Type>().value(0);
    assert!((before..=wall()).contains(&time), "{time}");
}

#[test]
fn a_port_where_no_kafka_listens_is_named_with_what_it_says() {
    let io = runtime();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let web = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        // until the other side has had enough
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let builder = sink(&address, "numbers").connect_timeout(Duration::from_millis(500));
    let error = write_all(&io, builder, &numbers(0..1)).unwrap_err();
    assert!(matches!(error, ConnectorError::Unavailable(_)), "{error}");
    let expected = format!("Kafka brokers {address} didn't answer within 500ms: {address}: ");
    assert!(error.to_string().starts_with(&expected), "{error}");
    web.join().unwrap();
}

#[test]
fn a_writer_that_is_dropped_lets_go_at_once() {
    let io = runtime();
    let (mock, servers) = cluster("numbers", 1);
    let started = Instant::now();
    drop(writer(&io, sink("127.0.0.1:9", "numbers")).unwrap());
    let mut writer: Box<dyn SinkWriter> = writer(&io, sink(&servers, "numbers")).unwrap();
    write(&io, writer.as_mut(), &numbers(0..10)).unwrap();
    mock.broker_down(1).unwrap();
    write(&io, writer.as_mut(), &numbers(10..20)).unwrap();
    drop(writer);
    drop(io);
    assert!(
        started.elapsed() < Duration::from_secs(30),
        "drop waited for a broker"
    );
}
