//! Topics, lines in, counts out.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, bail};
use rand::Rng;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;

const TIMEOUT: Duration = Duration::from_secs(30);

/// Makes a topic with a name of its own.
pub async fn create_topic(brokers: &str, prefix: &str, partitions: i32) -> anyhow::Result<String> {
    let name = format!("{prefix}-{:08x}", rand::rng().next_u32());
    let admin: AdminClient<DefaultClientContext> = config(brokers).create()?;
    let topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
    for result in admin
        .create_topics([&topic], &AdminOptions::new().operation_timeout(Some(TIMEOUT)))
        .await?
    {
        result.map_err(|(topic, code)| anyhow::anyhow!("topic {topic} can't be made: {code}"))?;
    }
    Ok(name)
}

/// Writes lines, in turn to the topic's partitions.
pub fn produce_lines<'a>(
    brokers: &str,
    topic: &str,
    partitions: i32,
    lines: impl IntoIterator<Item = &'a str>,
) -> anyhow::Result<()> {
    let producer: ThreadedProducer<DefaultProducerContext> = config(brokers)
        .set("linger.ms", "20")
        .set("queue.buffering.max.messages", "1000000")
        .create()?;
    for (index, line) in lines.into_iter().enumerate() {
        let partition = (index % partitions as usize) as i32;
        let mut record = BaseRecord::<(), str>::to(topic)
            .payload(line)
            .partition(partition);
        loop {
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), unsent)) => {
                    record = unsent;
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err((error, _)) => return Err(error).context("producing"),
            }
        }
    }
    producer.flush(TIMEOUT).context("flushing")
}

/// The largest count seen for each word in `word count` records.
#[derive(Debug, Default)]
pub struct Counts {
    /// By word.
    pub words: HashMap<String, u64>,
    /// Records read.
    pub records: usize,
}

/// Reads everything that is in a topic now.
pub fn read_counts(brokers: &str, topic: &str) -> anyhow::Result<Counts> {
    let mut counts = Counts::default();
    for_each_record(brokers, topic, |payload| {
        let (word, count) = payload
            .rsplit_once(' ')
            .with_context(|| format!("{payload:?} is not `word count`"))?;
        let count: u64 = count
            .parse()
            .with_context(|| format!("{payload:?} is not `word count`"))?;
        let known = counts.words.entry(word.to_owned()).or_default();
        *known = count.max(*known);
        counts.records += 1;
        Ok(())
    })?;
    Ok(counts)
}

fn for_each_record(
    brokers: &str,
    topic: &str,
    mut take: impl FnMut(&str) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let consumer: BaseConsumer = config(brokers)
        .set("group.id", "e2e")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT)?;
    let partitions = metadata
        .topics()
        .first()
        .context("no such topic")?
        .partitions()
        .len() as i32;
    let mut left = 0;
    let mut assignment = rdkafka::TopicPartitionList::new();
    for partition in 0..partitions {
        let (low, high) = consumer.fetch_watermarks(topic, partition, TIMEOUT)?;
        left += high - low;
        assignment.add_partition_offset(topic, partition, rdkafka::Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    while left > 0 {
        let Some(message) = consumer.poll(TIMEOUT) else {
            bail!("topic {topic} gave nothing for {TIMEOUT:?}")
        };
        let message = message?;
        let payload = message
            .payload_view::<str>()
            .context("a record without a value")??;
        take(payload)?;
        left -= 1;
    }
    Ok(())
}

fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    config
}
