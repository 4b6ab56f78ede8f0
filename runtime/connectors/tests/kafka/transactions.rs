//! The exactly-once sink against a real broker: a writer that is dropped is a process that is killed, nothing more is sent for it.

use std::time::Duration;

use futures::future::poll_fn;
use futures::poll;
use rdkafka::ClientConfig;
use rdkafka::admin::AdminOptions;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use thalweg_connectors::kafka::{DeliveryGuarantee, ExpiredTransaction, KafkaSinkBuilder};
use thalweg_connectors::{
    Committable, ConnectorContext, ConnectorError, RestoredConnector, Sink, SinkWriter,
};
use tokio::runtime::Runtime;

use crate::broker::{admin, real_broker, topic};
use crate::mock::cluster;
use crate::support::*;

/// The numbers' event time lies in 1970: a topic would drop them soon.
const FOR_EVER: [(&str, &str); 1] = [("retention.ms", "-1")];

fn exactly_once(servers: &str, topic: &str, prefix: &str) -> KafkaSinkBuilder {
    sink(servers, topic)
        .delivery_guarantee(DeliveryGuarantee::ExactlyOnce)
        .transactional_id_prefix(prefix)
}

fn start(
    io: &Runtime,
    builder: KafkaSinkBuilder,
    (subtask, parallelism): (u32, u32),
    restored: Option<RestoredConnector>,
) -> Result<Box<dyn SinkWriter>, ConnectorError> {
    builder.build()?.create_writer(ConnectorContext {
        checkpointing: true,
        restored,
        ..context(io, subtask, parallelism)
    })
}

fn commit(io: &Runtime, writer: &mut dyn SinkWriter, prepared: &[Committable]) -> Result<(), ConnectorError> {
    within(io, poll_fn(|cx| writer.poll_commit(cx, prepared)))
}

fn committed(io: &Runtime, servers: &str, topic: &str) -> Vec<String> {
    let builder = bounded(servers, topic).property("isolation.level", "read_committed");
    read_all(io, builder, 1).unwrap()
}

/// What a checkpoint holds: how many numbers lie before it, and the sink's part.
#[derive(Debug, Clone, Default)]
struct Checkpoint {
    position: i64,
    states: Vec<Vec<u8>>,
    prepared: Vec<Committable>,
}

/// One attempt of a job that writes consecutive numbers, as its task drives it.
struct Attempt<'a> {
    io: &'a Runtime,
    writer: Box<dyn SinkWriter>,
    position: i64,
    prepared: Vec<Committable>,
}

impl<'a> Attempt<'a> {
    fn start(io: &'a Runtime, builder: KafkaSinkBuilder, from: &Checkpoint) -> Self {
        let restored = RestoredConnector {
            checkpoint_id: 1,
            states: from.states.clone(),
            committables: from.prepared.clone(),
        };
        let mut writer = start(io, builder, (0, 1), Some(restored)).unwrap();
        if !from.prepared.is_empty() {
            commit(io, writer.as_mut(), &from.prepared).unwrap();
        }
        Self {
            io,
            writer,
            position: from.position,
            prepared: Vec::new(),
        }
    }

    fn write(&mut self) {
        let end = self.position + 100;
        write(self.io, self.writer.as_mut(), &numbers(self.position..end)).unwrap();
        self.position = end;
    }

    fn flush(&mut self) {
        flush(self.io, self.writer.as_mut()).unwrap();
    }

    fn prepare(&mut self) -> Checkpoint {
        self.prepared.extend(self.writer.prepare_commit(2).unwrap());
        Checkpoint {
            position: self.position,
            states: self.writer.snapshot(2).unwrap(),
            prepared: self.prepared.clone(),
        }
    }

    fn checkpoint(&mut self) -> Checkpoint {
        self.write();
        self.flush();
        self.prepare()
    }

    fn commit(&mut self) {
        commit(self.io, self.writer.as_mut(), &self.prepared).unwrap();
        self.prepared.clear();
    }
}

#[test]
fn each_record_is_committed_once_wherever_the_writer_is_killed() {
    let servers = real_broker!();
    let io = runtime();
    let topic = topic(&io, &servers, 3, &FOR_EVER);
    let prefix = fresh("job");
    let mut complete = Checkpoint::default();
    for step in 0..9 {
        let mut attempt = Attempt::start(&io, exactly_once(&servers, &topic, &prefix), &complete);
        // one checkpoint that is all well, so that ids are used again
        if step > 0 {
            complete = attempt.checkpoint();
            attempt.commit();
        }
        match step {
            0 => {}
            1 => attempt.write(),
            2 => {
                attempt.write();
                attempt.flush();
            }
            // prepared, and its checkpoint never completes
            3 => drop(attempt.checkpoint()),
            // its checkpoint is complete, and nobody has heard of it
            4 => complete = attempt.checkpoint(),
            // the commit was under way
            5 => {
                complete = attempt.checkpoint();
                let prepared = attempt.prepared.clone();
                within(&io, async {
                    let mut commit = Box::pin(poll_fn(|cx| attempt.writer.poll_commit(cx, &prepared)));
                    assert!(poll!(&mut commit).is_pending());
                    tokio::task::yield_now().await;
                });
            }
            // committed, and no later checkpoint knows of it
            6 => {
                complete = attempt.checkpoint();
                attempt.commit();
            }
            // and there is an open transaction behind it
            7 => {
                complete = attempt.checkpoint();
                attempt.commit();
                attempt.write();
                attempt.flush();
            }
            // and its id writes another transaction already
            _ => {
                complete = attempt.checkpoint();
                attempt.commit();
                for _ in 0..3 {
                    drop(attempt.checkpoint());
                }
                attempt.write();
                attempt.flush();
            }
        }
    }
    let mut attempt = Attempt::start(&io, exactly_once(&servers, &topic, &prefix), &complete);
    complete = attempt.checkpoint();
    attempt.commit();
    assert_eq!(
        counts(committed(&io, &servers, &topic)),
        once(0..complete.position)
    );
}

#[test]
fn what_a_larger_parallelism_left_open_is_aborted_and_what_it_prepared_is_committed() {
    let servers = real_broker!();
    let io = runtime();
    let topic = topic(&io, &servers, 1, &FOR_EVER);
    let prefix = fresh("job");
    let mut restored = RestoredConnector::default();
    for subtask in 0..3_u32 {
        let builder = exactly_once(&servers, &topic, &prefix);
        let mut writer = start(&io, builder, (subtask, 3), None).unwrap();
        let first = i64::from(subtask) * 10;
        write(&io, writer.as_mut(), &numbers(first..first + 10)).unwrap();
        flush(&io, writer.as_mut()).unwrap();
        restored.committables.extend(writer.prepare_commit(1).unwrap());
        restored.states.extend(writer.snapshot(1).unwrap());
        write(&io, writer.as_mut(), &numbers(900..910)).unwrap();
        flush(&io, writer.as_mut()).unwrap();
    }
    let prepared = restored.committables.clone();
    let mut writer = start(
        &io,
        exactly_once(&servers, &topic, &prefix),
        (0, 1),
        Some(restored),
    )
    .unwrap();
    commit(&io, writer.as_mut(), &prepared).unwrap();
    write(&io, writer.as_mut(), &numbers(30..40)).unwrap();
    flush(&io, writer.as_mut()).unwrap();
    let prepared = writer.prepare_commit(2).unwrap();
    commit(&io, writer.as_mut(), &prepared).unwrap();
    // an open transaction would hide what lies behind it
    assert_eq!(counts(committed(&io, &servers, &topic)), once(0..40));
}

#[test]
fn a_second_job_with_the_prefix_takes_the_transactions_and_the_first_says_so_with_the_records() {
    let servers = real_broker!();
    let io = runtime();
    let topic = topic(&io, &servers, 1, &FOR_EVER);
    let prefix = fresh("job");
    let builder = || exactly_once(&servers, &topic, &prefix);
    let mut first = start(&io, builder(), (0, 1), None).unwrap();
    write(&io, first.as_mut(), &numbers(0..10)).unwrap();
    flush(&io, first.as_mut()).unwrap();
    let prepared = first.prepare_commit(1).unwrap();
    write(&io, first.as_mut(), &numbers(10..20)).unwrap();
    flush(&io, first.as_mut()).unwrap();

    let mut second = start(&io, builder(), (0, 1), None).unwrap();
    write(&io, second.as_mut(), &numbers(500..510)).unwrap();
    flush(&io, second.as_mut()).unwrap();

    write(&io, first.as_mut(), &numbers(20..30)).unwrap();
    let error = flush(&io, first.as_mut()).unwrap_err();
    assert!(matches!(error, ConnectorError::Unavailable(_)), "{error}");
    assert!(
        error.to_string().contains(&format!(
            "another job or sink uses the same `transactional_id_prefix` ({prefix:?})"
        )),
        "{error}"
    );
    // restored from the checkpoint, it learns that what was prepared is lost
    let restored = RestoredConnector {
        checkpoint_id: 1,
        states: Vec::new(),
        committables: prepared.clone(),
    };
    let mut first = start(&io, builder(), (0, 1), Some(restored)).unwrap();
    let error = commit(&io, first.as_mut(), &prepared).unwrap_err();
    assert!(matches!(error, ConnectorError::Refused(_)), "{error}");
    let expected = format!(
        "Kafka topic {topic:?} partition 0 offsets 0..=9: the brokers have aborted transaction \"{prefix}-0-0.0.0-0\""
    );
    assert!(error.to_string().starts_with(&expected), "{error}");
}

/// Waits until partition 0 has so many offsets.
fn wait_for_end(io: &Runtime, servers: &str, topic: &str, end: i64) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .create()
        .unwrap();
    let here = || {
        let (_, here) = consumer
            .fetch_watermarks(topic, 0, Duration::from_secs(10))
            .unwrap();
        here
    };
    within(io, async {
        while here() < end {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
}

#[test]
fn a_transaction_that_expired_fails_each_restore_with_its_records_and_is_left_out_if_the_user_says_so() {
    let servers = real_broker!();
    let io = runtime();
    let topic = topic(&io, &servers, 1, &FOR_EVER);
    let prefix = fresh("job");
    let builder = || exactly_once(&servers, &topic, &prefix).property("transaction.timeout.ms", "1000");
    let mut attempt = Attempt::start(&io, builder(), &Checkpoint::default());
    let complete = attempt.checkpoint();
    drop(attempt);
    // 100 records, and the marker of the abort
    wait_for_end(&io, &servers, &topic, 101);
    let restored = || RestoredConnector {
        checkpoint_id: 1,
        states: complete.states.clone(),
        committables: complete.prepared.clone(),
    };
    for _ in 0..2 {
        let mut writer = start(&io, builder(), (0, 1), Some(restored())).unwrap();
        let error = commit(&io, writer.as_mut(), &complete.prepared).unwrap_err();
        assert!(matches!(error, ConnectorError::Refused(_)), "{error}");
        let expected = format!(
            "Kafka topic {topic:?} partition 0 offsets 0..=99: the brokers have aborted transaction \"{prefix}-0-0.0.0-0\""
        );
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
    let skip = builder().on_expired_transaction(ExpiredTransaction::Skip);
    let mut attempt = Attempt::start(&io, skip, &complete);
    assert_eq!(gauge(&attempt.writer.gauges(), "failedCommittables"), 1.0);
    let complete = attempt.checkpoint();
    attempt.commit();
    assert_eq!(
        counts(committed(&io, &servers, &topic)),
        once(100..complete.position)
    );
}

#[test]
fn records_that_were_committed_and_removed_since_do_not_fail_an_old_checkpoint() {
    let servers = real_broker!();
    let io = runtime();
    let topic = topic(&io, &servers, 1, &FOR_EVER);
    let prefix = fresh("job");
    let builder = || exactly_once(&servers, &topic, &prefix);
    let mut attempt = Attempt::start(&io, builder(), &Checkpoint::default());
    let old = attempt.checkpoint();
    attempt.commit();
    // until the id has another transaction, so that its coordinator can't tell any more
    for _ in 0..4 {
        drop(attempt.checkpoint());
        attempt.commit();
    }
    drop(attempt);
    let mut offsets = TopicPartitionList::new();
    offsets
        .add_partition_offset(&topic, 0, Offset::Offset(303))
        .unwrap();
    within(
        &io,
        admin(&servers).delete_records(&offsets, &AdminOptions::new()),
    )
    .unwrap();
    drop(Attempt::start(&io, builder(), &old));
}

#[test]
fn a_topic_that_is_deleted_while_it_is_written_is_refused_by_name() {
    let servers = real_broker!();
    let io = runtime();
    let topic = topic(&io, &servers, 1, &FOR_EVER);
    let mut attempt = Attempt::start(
        &io,
        exactly_once(&servers, &topic, &fresh("job")),
        &Checkpoint::default(),
    );
    drop(attempt.checkpoint());
    within(
        &io,
        admin(&servers).delete_topics(&[&topic], &AdminOptions::new()),
    )
    .unwrap();
    // the broker may take some records before it has heard
    let round = |writer: &mut dyn SinkWriter| {
        write(&io, writer, &numbers(0..1))?;
        flush(&io, writer)
    };
    let error = std::iter::from_fn(|| Some(round(attempt.writer.as_mut())))
        .find_map(Result::err)
        .unwrap();
    assert_eq!(
        error.to_string(),
        format!("Kafka topic {topic:?} doesn't exist on brokers {servers}: create it or correct its name")
    );
}

#[test]
fn a_timeout_longer_than_the_broker_allows_is_refused_with_both_numbers() {
    let servers = real_broker!();
    let io = runtime();
    let topic = topic(&io, &servers, 1, &FOR_EVER);
    let builder =
        exactly_once(&servers, &topic, &fresh("job")).property("transaction.timeout.ms", "2000000000");
    let mut writer = start(&io, builder, (0, 1), None).unwrap();
    let error = write(&io, writer.as_mut(), &numbers(0..1))
        .and_then(|()| flush(&io, writer.as_mut()))
        .unwrap_err();
    assert!(matches!(error, ConnectorError::Refused(_)), "{error}");
    let expected = format!(
        "Kafka brokers {servers} refuse the sink's property `transaction.timeout.ms` (2000000000): their `transaction.max.timeout.ms` is "
    );
    let rest = error.to_string();
    let rest = rest.strip_prefix(&expected).unwrap_or_else(|| panic!("{rest}"));
    assert!(rest.starts_with(|first: char| first.is_ascii_digit()), "{rest}");
}

#[test]
fn a_sink_that_is_at_least_once_now_commits_what_it_prepared_before() {
    let servers = real_broker!();
    let io = runtime();
    let topic = topic(&io, &servers, 1, &FOR_EVER);
    let mut attempt = Attempt::start(
        &io,
        exactly_once(&servers, &topic, &fresh("job")),
        &Checkpoint::default(),
    );
    let complete = attempt.checkpoint();
    drop(attempt);
    assert_eq!(committed(&io, &servers, &topic), Vec::<String>::new());
    drop(Attempt::start(&io, sink(&servers, &topic), &complete));
    assert_eq!(counts(committed(&io, &servers, &topic)), once(0..100));
}

#[test]
fn brokers_without_what_transactions_need_are_refused_by_name() {
    let io = runtime();
    // librdkafka's cluster lists no transactions, as brokers before Kafka 3.0
    let (_mock, servers) = cluster("numbers", 1);
    let mut writer = start(&io, exactly_once(&servers, "numbers", "job"), (0, 1), None).unwrap();
    let error = write(&io, writer.as_mut(), &numbers(0..1))
        .and_then(|()| flush(&io, writer.as_mut()))
        .unwrap_err();
    assert!(matches!(error, ConnectorError::Refused(_)), "{error}");
    assert!(
        error
            .to_string()
            .contains("is too old for DeliveryGuarantee::ExactlyOnce"),
        "{error}"
    );
}

#[test]
fn a_job_without_checkpoints_would_never_commit_and_is_refused() {
    let io = runtime();
    let sink = exactly_once("127.0.0.1:9", "numbers", "job").build().unwrap();
    let error = sink.create_writer(context(&io, 0, 1)).err().unwrap().to_string();
    assert!(
        error.contains("set `execution.checkpointing.interval`"),
        "{error}"
    );
}
