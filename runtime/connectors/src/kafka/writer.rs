//! The Kafka sink's writer.
//!
//! ```text
//!   task: write(batch) -> copies into librdkafka's buffer (bounded) -> brokers
//!   poll thread:          acknowledgements -> in flight -= 1 -> wakes the task at 3/4 of the limit, and at 0
//! ```
//!
//! Invariants: `in_flight` counts what was enqueued and not yet acknowledged or failed; the first failure is kept and given by
//! every later poll; a flush is done only at `in_flight` = 0 without a failure.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use futures::task::AtomicWaker;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer, ProducerContext};
use thalweg_types::StreamBatch;
use thalweg_types::element::RowKind;

use super::client::{Abort, Connection, LastError, is_final, log};
use super::native::{TopicWriter, send_time};
use super::rows::NO_TIMESTAMP;
use super::sink::{DeliveryGuarantee, SinkSettings};
use crate::columns::BytesColumn;
use crate::{ConnectorError, Gauge, SinkWriter};

/// How long the poll thread waits for acknowledgements before it looks whether it is still needed.
const POLL: Duration = Duration::from_millis(50);
/// librdkafka's limit of records in its buffer, if the user doesn't set another.
const MAX_RECORDS: i64 = 100_000;

/// What writer and poll thread share.
#[derive(Debug)]
struct Delivery {
    settings: Arc<SinkSettings>,
    max_records: i64,
    max_bytes: i64,
    connected: AtomicBool,
    closed: AtomicBool,
    in_flight: AtomicI64,
    in_flight_bytes: AtomicI64,
    send_errors: AtomicU64,
    send_time_us: AtomicU64,
    failed: AtomicBool,
    failure: Mutex<Option<ConnectorError>>,
    last_error: LastError,
    waiting: AtomicBool,
    waker: AtomicWaker,
}

impl Delivery {
    fn new(settings: Arc<SinkSettings>) -> Self {
        let number = |key| {
            settings
                .client
                .get(key)
                .and_then(|value| value.trim().parse::<i64>().ok())
        };
        Self {
            // 0 means no limit to librdkafka; here there always is one
            max_records: number("queue.buffering.max.messages")
                .filter(|limit| *limit > 0)
                .unwrap_or(MAX_RECORDS),
            max_bytes: number("queue.buffering.max.kbytes").unwrap_or(32 << 10) << 10,
            connected: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            in_flight: AtomicI64::new(0),
            in_flight_bytes: AtomicI64::new(0),
            send_errors: AtomicU64::new(0),
            send_time_us: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            failure: Mutex::new(None),
            last_error: LastError::default(),
            waiting: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            settings,
        }
    }

    fn fail(&self, error: ConnectorError) {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(error);
        self.failed.store(true, Ordering::Release);
        self.wake();
    }

    fn check(&self) -> Result<(), ConnectorError> {
        if !self.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.as_ref().map_or(Ok(()), |error| Err(copy_of(error)))
    }

    /// Whether less than this part (in quarters) of the limits is in flight.
    fn has_room(&self, quarters: i64) -> bool {
        self.in_flight.load(Ordering::Acquire) < self.max_records / 4 * quarters
            && self.in_flight_bytes.load(Ordering::Acquire) < self.max_bytes / 4 * quarters
    }

    fn acknowledged(&self, bytes: i64) {
        let left = self.in_flight.fetch_sub(1, Ordering::AcqRel) - 1;
        self.in_flight_bytes.fetch_sub(bytes, Ordering::AcqRel);
        if self.waiting.load(Ordering::Acquire) && (left <= 0 || self.has_room(3)) {
            self.wake();
        }
    }

    fn wake(&self) {
        self.waiting.store(false, Ordering::Release);
        self.waker.wake();
    }

    /// Ready when `ready` says so or there is a failure; else the task is woken when that may have changed.
    fn poll(&self, cx: &mut Context<'_>, ready: impl Fn() -> bool) -> Poll<Result<(), ConnectorError>> {
        for _ in 0..2 {
            self.check()?;
            if ready() {
                return Poll::Ready(Ok(()));
            }
            // once more after this: an acknowledgement may have come in between
            self.waker.register(cx.waker());
            self.waiting.store(true, Ordering::Release);
        }
        Poll::Pending
    }
}

fn copy_of(error: &ConnectorError) -> ConnectorError {
    match error {
        ConnectorError::Unavailable(message) => ConnectorError::Unavailable(message.clone()),
        ConnectorError::Refused(message) => ConnectorError::Refused(message.clone()),
        ConnectorError::Malformed(message) => ConnectorError::Malformed(message.clone()),
    }
}

/// The producer's events go to what is shared.
struct SinkEvents(Arc<Delivery>);

impl ClientContext for SinkEvents {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "Kafka producer");
        self.0.last_error.set(reason);
    }
}

impl ProducerContext for SinkEvents {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let message = match result {
            Ok(message) => {
                if let Some(time) = send_time(message) {
                    let microseconds = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
                    self.0.send_time_us.store(microseconds, Ordering::Relaxed);
                }
                message
            }
            Err((error, message)) => {
                self.0.send_errors.fetch_add(1, Ordering::Relaxed);
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
                if let Some(error) = delivery_error(&self.0, message, code) {
                    self.0.fail(error);
                }
                message
            }
        };
        self.0
            .acknowledged((message.payload_len() + message.key_len()) as i64);
    }
}

fn delivery_error(
    delivery: &Delivery,
    message: &BorrowedMessage<'_>,
    code: RDKafkaErrorCode,
) -> Option<ConnectorError> {
    // the writer is gone and threw away what was in flight
    if matches!(
        code,
        RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight
    ) {
        return None;
    }
    let partition = Some(message.partition()).filter(|partition| *partition >= 0);
    let complaint = delivery.last_error.get();
    Some(send_error(
        &delivery.settings,
        partition,
        (message.key_len(), message.payload_len()),
        code,
        complaint,
    ))
}

/// A record's failure, by topic, partition, reason and size; `lengths` are the key's and the value's.
fn send_error(
    settings: &SinkSettings,
    partition: Option<i32>,
    lengths: (usize, usize),
    code: RDKafkaErrorCode,
    complaint: Option<String>,
) -> ConnectorError {
    let servers = &settings.servers;
    let partition = partition.map_or_else(String::new, |partition| format!(" partition {partition}"));
    let place = format!("Kafka topic {:?}{partition}", settings.topic);
    match code {
        RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize => {
            ConnectorError::Refused(format!(
                "{place}: a record of {} bytes (key {}, value {}) is larger than allowed: raise the topic's `max.message.bytes` \
             (the broker's `message.max.bytes`) and the sink's property `max.request.size` ({} here)",
                lengths.0 + lengths.1,
                lengths.0,
                lengths.1,
                settings.client.get("message.max.bytes").unwrap_or("default")
            ))
        }
        RDKafkaErrorCode::UnknownTopic
        | RDKafkaErrorCode::UnknownTopicOrPartition
        | RDKafkaErrorCode::UnknownPartition => ConnectorError::Refused(format!(
            "{place} doesn't exist on brokers {servers}: create it or correct its name"
        )),
        RDKafkaErrorCode::MessageTimedOut => ConnectorError::Unavailable(format!(
            "{place}: a record was not acknowledged by brokers {servers} within `delivery.timeout.ms` ({}): {}",
            settings.client.get("delivery.timeout.ms").unwrap_or("default"),
            complaint.unwrap_or_else(|| code.to_string())
        )),
        code if is_final(code) => {
            ConnectorError::Refused(format!("{place}: brokers {servers} refuse records: {code}"))
        }
        code => ConnectorError::Unavailable(format!(
            "{place}: a record of {} bytes was not written: {code}",
            lengths.0 + lengths.1
        )),
    }
}

/// Writes the rows of one subtask.
pub(crate) struct KafkaWriter {
    delivery: Arc<Delivery>,
    topic: TopicWriter<SinkEvents>,
    records: u64,
    bytes: u64,
}

impl KafkaWriter {
    pub(crate) fn start(settings: Arc<SinkSettings>, subtask: u32) -> Result<Self, ConnectorError> {
        let delivery = Arc::new(Delivery::new(settings));
        let settings = &delivery.settings;
        let producer = settings
            .client
            .create_with_context::<_, BaseProducer<_>>(SinkEvents(Arc::clone(&delivery)))
            .map_err(|error| ConnectorError::Refused(format!("the Kafka producer can't be made: {error}")))?;
        let producer = Arc::new(producer);
        let topic = TopicWriter::new(Arc::clone(&producer), &settings.topic).ok_or_else(|| {
            ConnectorError::Refused(format!("librdkafka refuses the topic {:?}", settings.topic))
        })?;
        let shared = Arc::clone(&delivery);
        thread::Builder::new()
            .name(format!("kafka-send-{subtask}"))
            .spawn(move || poll_thread(&shared, &producer))
            .map_err(|error| {
                ConnectorError::Unavailable(format!("no thread for the Kafka writer: {error}"))
            })?;
        Ok(Self {
            delivery,
            topic,
            records: 0,
            bytes: 0,
        })
    }

    /// Enqueues rows until the buffer is full; how many, and their bytes.
    fn enqueue(
        &self,
        batch: &StreamBatch,
        key: Option<&BytesColumn<'_>>,
        value: &BytesColumn<'_>,
    ) -> Result<(usize, i64), ConnectorError> {
        let mut bytes = 0;
        for row in 0..batch.num_rows() {
            let (key, value) = (key.and_then(|key| key.get(row)), value.get(row));
            let timestamp = batch.timestamps.as_ref().map(|column| column.value(row));
            let timestamp = timestamp.filter(|timestamp| *timestamp != NO_TIMESTAMP);
            let lengths = (key.map_or(0, <[u8]>::len), value.map_or(0, <[u8]>::len));
            match self.topic.send(key, value, timestamp) {
                Ok(()) => bytes += (lengths.0 + lengths.1) as i64,
                Err(RDKafkaErrorCode::QueueFull) => return Ok((row, bytes)),
                Err(code) => {
                    let complaint = self.delivery.last_error.get();
                    return Err(send_error(
                        &self.delivery.settings,
                        None,
                        lengths,
                        code,
                        complaint,
                    ));
                }
            }
        }
        Ok((batch.num_rows(), bytes))
    }
}

/// Checks that the topic can be reached, then serves acknowledgements until the writer is gone.
fn poll_thread(delivery: &Delivery, producer: &BaseProducer<SinkEvents>) {
    let closed = || delivery.closed.load(Ordering::Acquire);
    let connection = Connection {
        servers: &delivery.settings.servers,
        timeout: delivery.settings.connect_timeout,
        cancelled: &|patience| {
            producer.poll(patience);
            closed()
        },
        complaint: &|| {
            producer.poll(Duration::ZERO);
            delivery.last_error.get()
        },
    };
    match connection.partitions(producer.client(), &delivery.settings.topic) {
        Ok(_) => {
            delivery.connected.store(true, Ordering::Release);
            delivery.wake();
        }
        Err(Abort::Failed(error)) => return delivery.fail(error),
        Err(Abort::Cancelled) => return,
    }
    while !closed() {
        producer.poll(POLL);
    }
}

impl SinkWriter for KafkaWriter {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectorError>> {
        let delivery = &self.delivery;
        delivery.poll(cx, || {
            delivery.connected.load(Ordering::Acquire) && delivery.has_room(3)
        })
    }

    fn write(&mut self, batch: &StreamBatch) -> Result<usize, ConnectorError> {
        let settings = &self.delivery.settings;
        if batch
            .kinds
            .as_ref()
            .is_some_and(|kinds| kinds.values().iter().any(|kind| *kind != RowKind::Insert as i8))
        {
            return Err(ConnectorError::Refused(format!(
                "Kafka sink of topic {:?}: the rows hold updates or deletes; it takes inserts only",
                settings.topic
            )));
        }
        let schema = batch.rows.schema_ref();
        let column = |index: usize| {
            BytesColumn::of(batch.rows.column(index).as_ref())
                .ok_or_else(|| ConnectorError::Malformed(format!("column {index} is neither text nor bytes")))
        };
        let value = column(settings.value_index(schema)?)?;
        let key = settings.key_index(schema)?.map(column).transpose()?;
        let (rows, bytes) = self.enqueue(batch, key.as_ref(), &value)?;
        // may be acknowledged already: then the counts were below zero for a moment, and nobody waited
        self.delivery.in_flight.fetch_add(rows as i64, Ordering::AcqRel);
        self.delivery.in_flight_bytes.fetch_add(bytes, Ordering::AcqRel);
        self.records += rows as u64;
        self.bytes += bytes as u64;
        Ok(rows)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, end_of_input: bool) -> Poll<Result<(), ConnectorError>> {
        if self.delivery.settings.guarantee == DeliveryGuarantee::None && !end_of_input {
            return Poll::Ready(self.delivery.check());
        }
        let delivery = &self.delivery;
        delivery.poll(cx, || delivery.in_flight.load(Ordering::Acquire) <= 0)
    }

    fn gauges(&self) -> Vec<Gauge> {
        vec![
            ("numRecordsSend", self.records as f64),
            ("numBytesSend", self.bytes as f64),
            (
                "numRecordsSendErrors",
                self.delivery.send_errors.load(Ordering::Relaxed) as f64,
            ),
            (
                "currentSendTime",
                self.delivery.send_time_us.load(Ordering::Relaxed) as f64 / 1_000.0,
            ),
        ]
    }
}

impl Drop for KafkaWriter {
    fn drop(&mut self) {
        self.delivery.closed.store(true, Ordering::Release);
    }
}
