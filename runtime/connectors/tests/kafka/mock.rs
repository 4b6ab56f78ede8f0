//! Against librdkafka's mock cluster.

use std::time::{Duration, Instant};

use futures::future::poll_fn;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use thalweg_connectors::kafka::{DeliveryGuarantee, OffsetReset, OffsetsInitializer};
use thalweg_connectors::{
    ConnectorContext, ConnectorError, KafkaSource, SourceEvent, SourceReader, WatermarkStrategy,
};

use crate::support::*;

pub(crate) type Cluster = MockCluster<'static, DefaultProducerContext>;

pub(crate) fn cluster(topic: &str, partitions: i32) -> (Cluster, String) {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(topic, partitions, 1).unwrap();
    let servers = cluster.bootstrap_servers();
    (cluster, servers)
}

#[test]
fn what_the_sink_wrote_the_subtasks_of_a_bounded_source_read_once() {
    let io = runtime();
    let (_cluster, servers) = cluster("numbers", 5);
    write_all(&io, sink(&servers, "numbers"), &numbers(0..20_000)).unwrap();
    for parallelism in [1, 3, 8] {
        let read = read_all(&io, bounded(&servers, "numbers"), parallelism).unwrap();
        assert_eq!(counts(read), once(0..20_000), "parallelism {parallelism}");
    }
}

#[test]
fn a_bounded_source_of_empty_partitions_ends() {
    let io = runtime();
    let (_cluster, servers) = cluster("empty", 3);
    assert_eq!(
        read_all(&io, bounded(&servers, "empty"), 2).unwrap(),
        Vec::<String>::new()
    );
}

#[test]
fn a_topic_that_does_not_exist_is_refused_by_name_with_the_brokers() {
    let io = runtime();
    let (_cluster, servers) = cluster("other", 1);
    let error = read_all(&io, bounded(&servers, "missing"), 1).unwrap_err();
    assert!(matches!(error, ConnectorError::Refused(_)), "{error}");
    let expected =
        format!("Kafka topic \"missing\" doesn't exist on brokers {servers}: create it or correct its name");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn brokers_that_do_not_answer_are_unavailable_by_name() {
    let io = runtime();
    let nobody = "127.0.0.1:9";
    let timeout = Duration::from_millis(500);
    let reading = read_all(&io, bounded(nobody, "in").connect_timeout(timeout), 1).unwrap_err();
    let writing = write_all(&io, sink(nobody, "out").connect_timeout(timeout), &numbers(0..1)).unwrap_err();
    for error in [reading, writing] {
        assert!(matches!(error, ConnectorError::Unavailable(_)), "{error}");
        let message = error.to_string();
        assert!(
            message.starts_with("Kafka brokers 127.0.0.1:9 didn't answer within 500ms: "),
            "{message}"
        );
    }
}

#[test]
fn reading_and_writing_go_on_after_the_broker_was_away() {
    let io = runtime();
    let (cluster, servers) = cluster("numbers", 1);
    let reading = source(&servers, "numbers")
        .property("reconnect.backoff.max.ms", "200")
        .build()
        .unwrap();
    let mut reader = reading.reader(context(&io, 0, 1)).unwrap();
    let mut writer = writer(
        &io,
        sink(&servers, "numbers").property("reconnect.backoff.max.ms", "200"),
    )
    .unwrap();
    write(&io, writer.as_mut(), &numbers(0..100)).unwrap();
    flush(&io, writer.as_mut()).unwrap();
    let mut all = read_some(&io, &mut reader, 100).unwrap();

    cluster.broker_down(1).unwrap();
    write(&io, writer.as_mut(), &numbers(100..200)).unwrap();
    cluster.broker_up(1).unwrap();
    flush(&io, writer.as_mut()).unwrap();
    all.extend(read_some(&io, &mut reader, 100).unwrap());
    assert_eq!(counts(all), once(0..200));
}

#[test]
fn a_record_that_the_broker_finds_too_large_fails_with_topic_partition_size_and_what_to_do() {
    let io = runtime();
    let (cluster, servers) = cluster("small", 1);
    cluster.request_errors(
        RDKafkaApiKey::Produce,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE],
    );
    let error = write_all(&io, sink(&servers, "small"), &numbers(1_000..1_001)).unwrap_err();
    assert!(matches!(error, ConnectorError::Refused(_)), "{error}");
    let message = error.to_string();
    let expected = "Kafka topic \"small\" partition 0: a record of 5 bytes (key 1, value 4) is larger than allowed: \
                    raise the topic's `max.message.bytes`";
    assert!(message.starts_with(expected), "{message}");
}

#[test]
fn a_record_over_the_sinks_own_limit_is_refused_before_it_is_sent() {
    let io = runtime();
    let (_cluster, servers) = cluster("small", 1);
    let wide = numbers(10_i64.pow(15)..10_i64.pow(15) + 1);
    let builder = sink(&servers, "small").property("max.request.size", "1000");
    write_all(&io, builder.clone(), &wide).unwrap();
    let mut writer = writer(&io, builder.key_column("value")).unwrap();
    let rows = arrow::array::StringArray::from(vec!["x".repeat(2_000)]);
    let batch =
        arrow::array::RecordBatch::try_from_iter([("value", std::sync::Arc::new(rows) as _)]).unwrap();
    let error = write(&io, writer.as_mut(), &thalweg_types::StreamBatch::new(batch)).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("a record of 4000 bytes (key 2000, value 2000)"),
        "{error}"
    );
    assert!(
        error.to_string().contains("`max.request.size` (1000 here)"),
        "{error}"
    );
}

#[test]
fn a_full_buffer_takes_a_part_and_the_rest_when_there_is_room() {
    let io = runtime();
    let (_cluster, servers) = cluster("numbers", 2);
    let builder = sink(&servers, "numbers").property("buffer.memory", "10000");
    let mut writer = writer(&io, builder).unwrap();
    futures_ready(&io, writer.as_mut());
    let taken = writer.write(&numbers(0..5_000)).unwrap();
    assert!((1..5_000).contains(&taken), "{taken}");
    write(&io, writer.as_mut(), &numbers(taken as i64..5_000)).unwrap();
    flush(&io, writer.as_mut()).unwrap();
    assert_eq!(gauge(&writer.gauges(), "numRecordsSend"), 5_000.0);
    assert_eq!(
        counts(read_all(&io, bounded(&servers, "numbers"), 1).unwrap()),
        once(0..5_000)
    );
}

fn futures_ready(io: &tokio::runtime::Runtime, writer: &mut dyn thalweg_connectors::SinkWriter) {
    within(io, futures::future::poll_fn(|cx| writer.poll_ready(cx))).unwrap();
}

#[test]
fn a_sink_without_a_guarantee_waits_only_at_the_end() {
    let io = runtime();
    let (_cluster, servers) = cluster("numbers", 1);
    let builder = sink(&servers, "numbers").delivery_guarantee(DeliveryGuarantee::None);
    let mut writer = writer(&io, builder).unwrap();
    write(&io, writer.as_mut(), &numbers(0..1_000)).unwrap();
    within(&io, futures::future::poll_fn(|cx| writer.poll_flush(cx, true))).unwrap();
    assert_eq!(
        counts(read_all(&io, bounded(&servers, "numbers"), 1).unwrap()),
        once(0..1_000)
    );
}

#[test]
fn a_group_goes_on_where_it_ended_and_a_group_without_offsets_as_it_was_told() {
    let io = runtime();
    let (_cluster, servers) = cluster("numbers", 2);
    write_all(&io, sink(&servers, "numbers"), &numbers(0..100)).unwrap();
    let group = |reset| {
        bounded(&servers, "numbers")
            .group_id("g")
            .starting_offsets(OffsetsInitializer::Committed(reset))
    };
    let error = read_all(&io, group(OffsetReset::None), 1).unwrap_err();
    assert!(
        error.to_string().contains("the group has no committed offset"),
        "{error}"
    );
    assert_eq!(
        counts(read_all(&io, group(OffsetReset::Earliest), 1).unwrap()),
        once(0..100)
    );
    write_all(&io, sink(&servers, "numbers"), &numbers(100..130)).unwrap();
    assert_eq!(
        counts(read_all(&io, group(OffsetReset::None), 1).unwrap()),
        once(100..130)
    );
}

/// What the group has not committed yet.
fn rest_of_group(io: &tokio::runtime::Runtime, servers: &str) -> Vec<String> {
    let committed = OffsetsInitializer::Committed(OffsetReset::Earliest);
    let builder = bounded(servers, "numbers")
        .group_id("g")
        .starting_offsets(committed);
    // It commits nothing itself.
    read_all(io, builder.property("enable.auto.commit", "false"), 1).unwrap()
}

#[test]
fn with_checkpoints_the_end_is_committed_when_one_that_holds_it_is_complete() {
    let io = runtime();
    let (_cluster, servers) = cluster("numbers", 2);
    write_all(&io, sink(&servers, "numbers"), &numbers(0..100)).unwrap();
    let source = bounded(&servers, "numbers").group_id("g").build().unwrap();
    let context = ConnectorContext {
        checkpointing: true,
        ..context(&io, 0, 1)
    };
    let mut reader = source.reader(context).unwrap();
    while next_batch(&io, &mut reader).unwrap().is_some() {}
    assert!(reader.awaits_checkpoint());
    reader.snapshot(1).unwrap();
    assert_eq!(counts(rest_of_group(&io, &servers)), once(0..100));
    reader.on_checkpoint_end(1, true).unwrap();
    assert!(!reader.awaits_checkpoint());
    within(&io, poll_fn(|cx| reader.poll_close(cx)));
    assert_eq!(rest_of_group(&io, &servers), [] as [String; 0]);
}

#[test]
fn a_task_that_a_savepoint_stops_has_its_offsets_committed_when_it_ends() {
    let io = runtime();
    let (_cluster, servers) = cluster("numbers", 1);
    write_all(&io, sink(&servers, "numbers"), &numbers(0..100)).unwrap();
    let source = source(&servers, "numbers").group_id("g").build().unwrap();
    let context = ConnectorContext {
        checkpointing: true,
        ..context(&io, 0, 1)
    };
    let mut reader = source.reader(context).unwrap();
    read_some(&io, &mut reader, 100).unwrap();
    reader.snapshot(1).unwrap();
    reader.on_checkpoint_end(1, true).unwrap();
    within(&io, poll_fn(|cx| reader.poll_close(cx)));
    drop(reader);
    write_all(&io, sink(&servers, "numbers"), &numbers(100..130)).unwrap();
    assert_eq!(counts(rest_of_group(&io, &servers)), once(100..130));
}

#[test]
fn offsets_are_those_of_the_rows_that_were_given() {
    let io = runtime();
    let (_cluster, servers) = cluster("numbers", 1);
    write_all(&io, sink(&servers, "numbers"), &numbers(0..10_000)).unwrap();
    let mut reader = bounded(&servers, "numbers")
        .build()
        .unwrap()
        .reader(context(&io, 0, 1))
        .unwrap();
    let mut given = 0;
    while let Some(batch) = next_batch(&io, &mut reader).unwrap() {
        given += batch.num_rows() as i64;
        let offsets = reader.snapshot_offsets();
        assert_eq!(
            offsets.iter().map(|position| position.offset).collect::<Vec<_>>(),
            [given]
        );
    }
    assert_eq!(given, 10_000);
}

#[test]
fn a_reader_that_is_dropped_while_it_connects_or_reads_lets_go_at_once() {
    let io = runtime();
    let (_cluster, servers) = cluster("numbers", 1);
    let started = Instant::now();
    drop(
        bounded("127.0.0.1:9", "in")
            .build()
            .unwrap()
            .reader(context(&io, 0, 1))
            .unwrap(),
    );
    let mut reader = source(&servers, "numbers")
        .build()
        .unwrap()
        .reader(context(&io, 0, 1))
        .unwrap();
    write_all(&io, sink(&servers, "numbers"), &numbers(0..10)).unwrap();
    read_some(&io, &mut reader, 10).unwrap();
    assert!(reader.gauges().iter().any(|(name, _)| *name == "pendingRecords"));
    drop(reader);
    assert!(
        started.elapsed() < Duration::from_secs(30),
        "drop waited for a broker"
    );
}

#[test]
fn restored_readers_read_each_record_once_at_another_parallelism_and_new_partitions_from_their_begin() {
    let io = runtime();
    let (_cluster, servers) = cluster("numbers", 4);
    write_all(&io, sink(&servers, "numbers"), &numbers(0..20_000)).unwrap();
    let source = bounded(&servers, "numbers").build().unwrap();
    let mut given = Vec::new();
    let mut states = Vec::new();
    for subtask in 0..2 {
        let mut reader = source.reader(context(&io, subtask, 2)).unwrap();
        if let Some(batch) = next_batch(&io, &mut reader).unwrap() {
            given.extend(texts(&batch));
        }
        states.extend(reader.snapshot(1).unwrap());
    }
    // Behind the checkpoint: the ends that were noted at the start stay the ends.
    write_all(&io, sink(&servers, "numbers"), &numbers(20_000..21_000)).unwrap();
    for subtask in 0..3 {
        let mut reader = source
            .reader(restored_context(&io, subtask, 3, states.clone()))
            .unwrap();
        while let Some(batch) = next_batch(&io, &mut reader).unwrap() {
            given.extend(texts(&batch));
        }
    }
    assert_eq!(counts(given), once(0..20_000));
}

#[test]
fn a_reader_that_is_restored_before_it_found_its_partitions_begins_where_it_was_told_to() {
    let io = runtime();
    let (_cluster, servers) = cluster("numbers", 1);
    write_all(&io, sink(&servers, "numbers"), &numbers(0..10)).unwrap();
    let source = bounded(&servers, "numbers").build().unwrap();
    let mut early = KafkaSource::builder()
        .bootstrap_servers("127.0.0.1:1")
        .topics(["numbers"])
        .build()
        .unwrap()
        .reader(context(&io, 0, 1))
        .unwrap();
    let states = early.snapshot(1).unwrap();
    let mut reader = source.reader(restored_context(&io, 0, 1, states)).unwrap();
    let mut given = Vec::new();
    while let Some(batch) = next_batch(&io, &mut reader).unwrap() {
        given.extend(texts(&batch));
    }
    assert_eq!(counts(given), once(0..10));
}

#[test]
fn a_split_that_watermark_alignment_holds_back_waits_and_then_loses_and_repeats_nothing() {
    let io = runtime();
    let (_cluster, servers) = cluster("aligned", 2);
    // The key decides the partition; 20,000 records, at one a millisecond.
    write_all(&io, sink(&servers, "aligned"), &numbers(0..20_000)).unwrap();
    let strategy = WatermarkStrategy::for_monotonous_timestamps();
    let source = bounded(&servers, "aligned").watermarks(strategy).build().unwrap();
    let mut reader = source.reader(context(&io, 0, 1)).unwrap();
    let mut limit = 1_003_000;
    reader.align_splits(limit);
    let mut read = read_some(&io, &mut reader, 2_000).unwrap();
    // Time enough for all, were they not held back.
    let later = tokio::time::Instant::now() + Duration::from_millis(500);
    let next = |reader: &mut dyn SourceReader| {
        io.block_on(async { tokio::time::timeout_at(later, poll_fn(|cx| reader.poll_next(cx))).await })
    };
    while let Ok(event) = next(&mut reader) {
        if let SourceEvent::Batch(batch) = event.unwrap() {
            read.extend(texts(&batch));
        }
    }
    assert!(
        read.len() < 16_000,
        "each split goes a batch too far at most: {}",
        read.len()
    );
    // Beyond what both have read, and from here on always ahead of the one that is behind.
    limit = 1_015_000;
    reader.align_splits(limit);
    // All that was allowed may have come: nothing more does until the limit is raised.
    limit += 10_000;
    assert!(reader.align_splits(limit));
    let mut positions = 0;
    while let Some(batch) = next_batch(&io, &mut reader).unwrap() {
        if batch.num_rows() > 0 {
            let position = reader.position().unwrap();
            assert!(position.starts_with("topic aligned partition "), "{position}");
            positions += 1;
        }
        let watermark = batch.watermarks.last().map(|cut| cut.timestamp_ms);
        read.extend(texts(&batch));
        limit = watermark.map_or(limit, |watermark| limit.max(watermark + 2_000)) + 1_000;
        assert!(reader.align_splits(limit));
    }
    assert!(positions > 1);
    assert_eq!(counts(read), once(0..20_000));
}
