//! Asks the partitions' logs how a transaction ended that its coordinator doesn't know any more.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{
    BrokerId as WireBroker, FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse,
};

use super::{Address, Coordinator, topic_name};
use crate::ConnectorError;
use crate::kafka::producer::failure;
use crate::kafka::producer::outcome::{BatchHead, LogView, Outcome, Seen, outcome};
use crate::kafka::producer::transaction::{ExpiredTransaction, Range, Transaction};

/// Nobody's replica: a client.
const CLIENT: WireBroker = WireBroker(-1);
const READ_COMMITTED: i8 = 1;
/// Enough for a batch's header; brokers give a whole batch at least.
const FETCH_BYTES: i32 = 4 << 10;
/// How long a broker may wait for a transaction's end, or for a segment that it has to get from elsewhere.
const FETCH_WAIT_MS: i32 = 500;
/// What ListOffsets calls the first and the next offset.
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;

impl Coordinator {
    /// Looks into the log for what became of a transaction that isn't open; whether its records are lost and the user wants to go on.
    pub(super) async fn ended(
        &self,
        prepared: &Transaction,
        code: ResponseError,
    ) -> Result<bool, ConnectorError> {
        let settings = &self.settings;
        let mut unclear = None;
        let mut removed = false;
        for range in prepared.ranges.iter().filter(|range| range.first >= 0) {
            match self.ended_in(prepared, range).await? {
                Outcome::Committed => return Ok(false),
                Outcome::Aborted => return self.lost(failure::aborted(settings, prepared, code)),
                Outcome::Removed => removed = true,
                Outcome::Unclear(why) => {
                    unclear.get_or_insert(why);
                }
                Outcome::Pending | Outcome::Behind(_) | Outcome::LookFrom(_) => {}
            }
        }
        if removed && unclear.is_none() {
            tracing::warn!(
                transaction = prepared.id,
                "Kafka {}: retention has removed these records before the transaction was known to be committed; nobody can tell \
                 whether they were seen",
                prepared.data()
            );
            return Ok(false);
        }
        let why = unclear.as_deref().unwrap_or("no offset of it is known");
        self.lost(failure::unclear(settings, prepared, code, why))
    }

    fn lost(&self, error: ConnectorError) -> Result<bool, ConnectorError> {
        match self.transactions.expired {
            ExpiredTransaction::FailJob => Err(error),
            ExpiredTransaction::Skip => {
                tracing::warn!("left out, as `on_expired_transaction` says: {error}");
                Ok(true)
            }
        }
    }

    /// Asks until one partition's log has an answer.
    async fn ended_in(&self, prepared: &Transaction, range: &Range) -> Result<Outcome, ConnectorError> {
        let patience = self.patience();
        let pause = self.settings.producer.send.retry_backoff;
        let mut from = range.first;
        loop {
            let reason = match self.see(&prepared.topic, range.partition, from).await {
                Ok(seen) => match outcome(prepared.identity(), range, from, &seen) {
                    Outcome::LookFrom(start) => {
                        from = start;
                        continue;
                    }
                    Outcome::Pending => format!(
                        "in partition {} it, or one before it, isn't concluded",
                        range.partition
                    ),
                    Outcome::Behind(why) if patience.is_over(pause) => return Ok(Outcome::Unclear(why)),
                    Outcome::Behind(why) => why,
                    ended => return Ok(ended),
                },
                Err(reason) => reason,
            };
            self.pause(&patience, pause, &prepared.id, &reason).await?;
        }
    }

    async fn see(&self, topic: &str, partition: i32, offset: i64) -> Result<Seen, String> {
        let leader = self.leader(topic, partition).await?;
        let fetch = FetchPartition::default()
            .with_partition(partition)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(FETCH_BYTES);
        let request = FetchRequest::default()
            .with_replica_id(CLIENT)
            .with_max_wait_ms(FETCH_WAIT_MS)
            .with_min_bytes(1)
            .with_max_bytes(FETCH_BYTES)
            .with_isolation_level(READ_COMMITTED)
            .with_session_epoch(-1)
            .with_topics(vec![
                FetchTopic::default()
                    .with_topic(topic_name(topic))
                    .with_partitions(vec![fetch]),
            ]);
        let answer = self.ask(&leader, &request).await;
        match view_of(&answer.map_err(|error| error.to_string())?)? {
            Some(log) => Ok(Seen::Log(log)),
            None => Ok(Seen::OutOfRange {
                start: self.offset(&leader, topic, partition, EARLIEST).await?,
                end: self.offset(&leader, topic, partition, LATEST).await?,
            }),
        }
    }

    /// Where a partition's log begins or ends.
    async fn offset(&self, leader: &Address, topic: &str, partition: i32, which: i64) -> Result<i64, String> {
        let partition = ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(which);
        let request = ListOffsetsRequest::default()
            .with_replica_id(CLIENT)
            .with_topics(vec![
                ListOffsetsTopic::default()
                    .with_name(topic_name(topic))
                    .with_partitions(vec![partition]),
            ]);
        let answer = self.ask(leader, &request).await;
        offset_of(&answer.map_err(|error| error.to_string())?)
    }
}

/// What a fetch shows; `None` if its offset isn't in the log.
fn view_of(answer: &FetchResponse) -> Result<Option<LogView>, String> {
    let partition = answer
        .responses
        .first()
        .and_then(|topic| topic.partitions.first())
        .ok_or_else(|| match ResponseError::try_from_code(answer.error_code) {
            Some(code) => code.to_string(),
            None => "a fetch was answered without the partition".to_owned(),
        })?;
    match ResponseError::try_from_code(partition.error_code) {
        None => {}
        Some(ResponseError::OffsetOutOfRange) => return Ok(None),
        Some(code) => return Err(code.to_string()),
    }
    let aborted = partition.aborted_transactions.iter().flatten();
    Ok(Some(LogView {
        high_watermark: partition.high_watermark,
        last_stable_offset: partition.last_stable_offset,
        aborted: aborted
            .map(|aborted| (aborted.producer_id.0, aborted.first_offset))
            .collect(),
        first: partition.records.as_deref().and_then(BatchHead::of),
    }))
}

fn offset_of(answer: &ListOffsetsResponse) -> Result<i64, String> {
    let topic = answer.topics.first();
    let partition = topic
        .and_then(|topic| topic.partitions.first())
        .ok_or("an answer about offsets leaves the partition out")?;
    match ResponseError::try_from_code(partition.error_code) {
        Some(code) => Err(code.to_string()),
        None => Ok(partition.offset),
    }
}
