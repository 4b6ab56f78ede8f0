//! The output as readers of committed records see it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientContext, Message, Offset, TopicPartitionList};

use super::PARTITIONS;
use super::audit::{Ledger, Reader};

const POLL: Duration = Duration::from_millis(50);
const TIMEOUT: Duration = Duration::from_secs(60);
/// Records taken in before anybody is told.
const AT_ONCE: usize = 10_000;

/// Reads along, from the begin.
pub(super) struct TopicReader {
    consumer: BaseConsumer<Quiet>,
    complaint: Option<String>,
}

impl TopicReader {
    pub(super) fn new(servers: &str, topic: &str) -> anyhow::Result<Self> {
        Ok(Self {
            consumer: consumer(servers, topic, &[])?,
            complaint: None,
        })
    }
}

impl Reader for TopicReader {
    fn read(&mut self, ledger: &mut Ledger) -> Result<(), String> {
        for _ in 0..AT_ONCE {
            match self.consumer.poll(POLL) {
                None => break,
                Some(Err(error)) => match error.rdkafka_error_code() {
                    // It would read nothing of that partition any more.
                    Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                        return Err(format!("records that were read are gone: {error}"));
                    }
                    // Brokers that are away come back.
                    _ => self.complaint = Some(error.to_string()),
                },
                Some(Ok(record)) => {
                    let entry = String::from_utf8_lossy(record.payload().unwrap_or_default());
                    ledger.enter(&entry).map_err(|wrong| {
                        format!(
                            "{wrong} (partition {} offset {})",
                            record.partition(),
                            record.offset()
                        )
                    })?;
                }
            }
        }
        Ok(())
    }

    fn ledger(&self, seed: u64) -> Ledger {
        Ledger::in_order(seed)
    }

    fn complaint(&self) -> Option<String> {
        let at = self.consumer.position().ok()?;
        let at: Vec<String> = at
            .elements()
            .iter()
            .map(|at| format!("{} {:?}", at.partition(), at.offset()))
            .collect();
        Some(format!("{:?}, at {}", self.complaint, at.join(", ")))
    }
}

/// Reads all that is committed, from begin to end, and checks that nothing is left open behind it.
pub(super) fn check_all(servers: &str, topic: &str, seed: u64, transfers: i64) -> anyhow::Result<()> {
    let committed = consumer(servers, topic, &[("enable.partition.eof", "true")])?;
    let everything = consumer(servers, topic, &[("isolation.level", "read_uncommitted")])?;
    for partition in 0..PARTITIONS {
        let (_, stable) = committed.fetch_watermarks(topic, partition, TIMEOUT)?;
        let (_, end) = everything.fetch_watermarks(topic, partition, TIMEOUT)?;
        ensure!(
            stable == end,
            "partition {partition} has an open transaction: it is stable to {stable}, and ends at {end}"
        );
    }
    let mut ledger = Ledger::in_order(seed);
    let mut open = PARTITIONS;
    while open > 0 {
        match committed
            .poll(TIMEOUT)
            .context("the output topic gives nothing")?
        {
            Ok(record) => {
                let entry = String::from_utf8_lossy(record.payload().unwrap_or_default());
                ledger.enter(&entry).map_err(anyhow::Error::msg)?;
            }
            Err(KafkaError::PartitionEOF(_)) => open -= 1,
            Err(error) => return Err(error).context("reading the output topic"),
        }
    }
    ledger.complete(transfers)
}

fn consumer(servers: &str, topic: &str, settings: &[(&str, &str)]) -> anyhow::Result<BaseConsumer<Quiet>> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", servers)
        .set("group.id", "audit")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "error");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    let consumer: BaseConsumer<Quiet> = config.create_with_context(Quiet)?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    Ok(consumer)
}

/// Says nothing of brokers that are away: they are, on purpose.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Quiet {}
