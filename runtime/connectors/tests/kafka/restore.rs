//! Sources that are restored over a topic that has changed since the checkpoint: another cluster with a topic of the same name.

use std::time::Duration;

use futures::future::poll_fn;
use thalweg_connectors::kafka::{KafkaSourceBuilder, KafkaSourceReader, OffsetReset, OffsetsInitializer};
use thalweg_connectors::{ConnectorError, SourceEvent, SourceReader};
use tokio::runtime::Runtime;

use crate::mock::cluster;
use crate::support::*;

const TOPIC: &str = "numbers";

/// The state of a reader that has read so many records of a topic with so many partitions.
fn checkpoint(io: &Runtime, partitions: i32, records: i64) -> Vec<Vec<u8>> {
    let (_cluster, servers) = cluster(TOPIC, partitions);
    write_all(io, sink(&servers, TOPIC), &numbers(0..records)).unwrap();
    let mut reader = source(&servers, TOPIC)
        .build()
        .unwrap()
        .reader(context(io, 0, 1))
        .unwrap();
    within(io, async {
        while reader.snapshot_offsets().len() < partitions as usize {
            tokio::task::yield_now().await;
        }
    });
    read_some(io, &mut reader, records as usize).unwrap();
    reader.snapshot(1).unwrap()
}

fn restored(io: &Runtime, builder: KafkaSourceBuilder, states: &[Vec<u8>]) -> KafkaSourceReader {
    let context = restored_context(io, 0, 1, states.to_vec());
    builder.build().unwrap().reader(context).unwrap()
}

/// The first value that comes while numbers from `next` on are written.
fn first_of_new(io: &Runtime, servers: &str, reader: &mut KafkaSourceReader, next: i64) -> i64 {
    let mut writer = writer(io, sink(servers, TOPIC)).unwrap();
    for number in next..next + 1_000 {
        write(io, writer.as_mut(), &numbers(number..number + 1)).unwrap();
        flush(io, writer.as_mut()).unwrap();
        let event = io.block_on(async {
            let next = poll_fn(|cx| reader.poll_next(cx));
            tokio::time::timeout(Duration::from_millis(100), next).await
        });
        if let Ok(SourceEvent::Batch(batch)) = event.unwrap_or(Ok(SourceEvent::Idle)).as_ref() {
            return texts(batch)[0].parse().unwrap();
        }
    }
    panic!("nothing was read");
}

#[test]
fn a_position_that_the_topic_does_not_have_any_more_is_reset_as_the_starting_offsets_say() {
    let io = runtime();
    let states = checkpoint(&io, 1, 1_000);
    let (_cluster, servers) = cluster(TOPIC, 1);
    write_all(&io, sink(&servers, TOPIC), &numbers(0..10)).unwrap();
    let starting = |offsets| source(&servers, TOPIC).group_id("g").starting_offsets(offsets);

    let mut reader = restored(&io, starting(OffsetsInitializer::Earliest), &states);
    assert_eq!(counts(read_some(&io, &mut reader, 10).unwrap()), once(0..10));

    let none = OffsetsInitializer::Committed(OffsetReset::None);
    let error = next_batch(&io, &mut restored(&io, starting(none), &states)).unwrap_err();
    assert!(matches!(error, ConnectorError::Refused(_)), "{error}");
    let expected = "Kafka topic \"numbers\" partition 0: the position is not there any more: ";
    assert!(error.to_string().starts_with(expected), "{error}");

    let mut reader = restored(&io, starting(OffsetsInitializer::Latest), &states);
    assert!(first_of_new(&io, &servers, &mut reader, 10) >= 10);
}

#[test]
fn a_partition_of_the_checkpoint_that_is_not_there_any_more_is_refused_by_name() {
    let io = runtime();
    let states = checkpoint(&io, 3, 700);
    let (_cluster, servers) = cluster(TOPIC, 1);
    let error = next_batch(&io, &mut restored(&io, source(&servers, TOPIC), &states)).unwrap_err();
    assert!(matches!(error, ConnectorError::Refused(_)), "{error}");
    let error = error.to_string();
    assert!(
        error.starts_with("Kafka topic \"numbers\" partition 1 is to be read on from offset "),
        "{error}"
    );
    assert!(error.contains("made anew with fewer partitions?"), "{error}");
}

#[test]
fn partitions_that_came_since_the_checkpoint_are_read_from_their_begin_though_the_source_starts_at_the_end() {
    let io = runtime();
    let states = checkpoint(&io, 1, 0);
    let (_cluster, servers) = cluster(TOPIC, 2);
    write_all(&io, sink(&servers, TOPIC), &numbers(0..700)).unwrap();
    let latest = || source(&servers, TOPIC).starting_offsets(OffsetsInitializer::Latest);
    let mut reader = restored(&io, latest(), &states);
    assert_eq!(counts(read_some(&io, &mut reader, 700).unwrap()), once(0..700));

    // a checkpoint before its reader had found the partitions doesn't say that they came since
    let nowhere = source("127.0.0.1:1", TOPIC).build().unwrap();
    let early = nowhere.reader(context(&io, 0, 1)).unwrap().snapshot(1).unwrap();
    let mut reader = restored(&io, latest(), &early);
    assert!(first_of_new(&io, &servers, &mut reader, 700) >= 700);
}
