//! The Kafka sink's writer: the task's side of the producer.
//!
//! ```text
//!   write(rows) -> partitions of all rows -> accumulator (bounded) -> driver, on the I/O runtime -> brokers
//! ```
//!
//! Exactly once: all rows go into a transaction; the barrier's flush ends it, the checkpoint holds it, its completion commits it.
//!
//! Invariants: a flush is done only when all rows are acknowledged; the first failure is given by every later poll; dropping
//! the writer ends its I/O and throws away what was not sent.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrow::array::{Array, AsArray, MapArray};
use thalweg_types::StreamBatch;
use thalweg_types::element::RowKind;
use tokio::task::AbortHandle;

use super::producer::accumulator::{Accumulator, Refusal};
use super::producer::driver::Driver;
use super::producer::failure::row_error;
use super::producer::handover::{Commit, Handover};
use super::producer::partition::Partitioner;
use super::producer::record_batch::{NO_HEADERS, encode_headers};
use super::producer::transaction::{Recovery, Transaction, writer_state};
use super::rows::NO_TIMESTAMP;
use super::sink::{DeliveryGuarantee, SinkSettings};
use crate::columns::BytesColumn;
use crate::{AttemptOrder, Committable, ConnectorContext, ConnectorError, Gauge, SinkWriter};

/// Writes the rows of one subtask.
pub(crate) struct KafkaWriter {
    settings: Arc<SinkSettings>,
    handover: Arc<Handover>,
    partitioner: Partitioner,
    /// How many there are; 0 until the brokers have said it.
    partitions: u32,
    /// The partition of each row of the batch in hand.
    assigned: Vec<u32>,
    /// Those of the row in hand, encoded.
    headers: Vec<u8>,
    records: u64,
    bytes: u64,
    order: AttemptOrder,
    /// Ids of what is prepared and not known to be committed.
    prepared: Vec<String>,
    /// Also those that were left out.
    transactions_committed: u64,
    driver: AbortHandle,
}

impl KafkaWriter {
    pub(crate) fn start(
        settings: Arc<SinkSettings>,
        context: &ConnectorContext,
    ) -> Result<Self, ConnectorError> {
        let prefix = settings
            .transactions
            .as_ref()
            .map_or("", |transactions| &transactions.prefix);
        let recovery = Recovery::new(
            prefix,
            (context.subtask, context.parallelism),
            context.attempt,
            context.restored.as_ref(),
        )?;
        let limits = settings.producer.limits.clone();
        let partitioner = Partitioner::new(limits.batch_bytes, context.subtask);
        let handover = Arc::new(Handover::new(Accumulator::new(limits)));
        let prepared = recovery.own.iter().cloned().collect();
        let order = recovery.order;
        let driver = Driver::new(
            Arc::clone(&settings),
            Arc::clone(&handover),
            recovery,
            Instant::now(),
        );
        Ok(Self {
            order,
            prepared,
            transactions_committed: 0,
            driver: context.io.spawn(driver.run()).abort_handle(),
            settings,
            handover,
            partitioner,
            partitions: 0,
            assigned: Vec::new(),
            headers: Vec::new(),
            records: 0,
            bytes: 0,
        })
    }

    /// Takes rows until the buffer is full; how many.
    fn append(
        &mut self,
        batch: &StreamBatch,
        key: Option<&BytesColumn<'_>>,
        value: &BytesColumn<'_>,
        headers: Option<&MapArray>,
    ) -> Result<usize, ConnectorError> {
        let now = Instant::now();
        let wall = wall_millis();
        let times = batch.timestamps.as_ref().map(|column| column.values().as_ref());
        let mut closed = false;
        let mut taken = batch.num_rows();
        let mut state = self.handover.lock();
        for (row, partition) in self.assigned.iter().enumerate() {
            let (key, value) = (key.and_then(|key| key.get(row)), value.get(row));
            let time = times.map_or(NO_TIMESTAMP, |times| times[row]);
            let time = if time == NO_TIMESTAMP { wall } else { time };
            if let Some(column) = headers {
                encode_row_headers(column, row, &mut self.headers);
            }
            let encoded = headers.map_or(NO_HEADERS, |_| self.headers.as_slice());
            match state.batches.append(*partition, key, value, encoded, (time, now)) {
                Ok(full) => {
                    closed |= full;
                    self.bytes += (key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len)) as u64;
                }
                Err(Refusal::Full) => {
                    taken = row;
                    break;
                }
                Err(refusal) => return Err(row_error(&self.settings, &refusal)),
            }
        }
        let due = now + self.settings.producer.limits.linger;
        let late = state.looks_at.is_none_or(|at| at > due);
        if late {
            state.looks_at = Some(due);
        }
        drop(state);
        if closed || late {
            self.handover.wake_io();
        }
        self.records += taken as u64;
        Ok(taken)
    }
}

/// A row's headers; those without a name or value are left out, as Flink leaves them out.
fn encode_row_headers(column: &MapArray, row: usize, out: &mut Vec<u8>) {
    let (names, values) = (
        column.keys().as_string_opt::<i32>(),
        column.values().as_binary_opt::<i32>(),
    );
    let (Some(names), Some(values), true) = (names, values, column.is_valid(row)) else {
        encode_headers(std::iter::empty(), out);
        return;
    };
    let offsets = column.value_offsets();
    let entries = offsets[row] as usize..offsets[row + 1] as usize;
    let headers = entries
        .filter(|entry| names.is_valid(*entry) && values.is_valid(*entry))
        .map(|entry| (names.value(entry).as_bytes(), values.value(entry)));
    encode_headers(headers, out);
}

/// The wall clock in milliseconds since the epoch: the time of rows that have none.
fn wall_millis() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl SinkWriter for KafkaWriter {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectorError>> {
        let partitions = &mut self.partitions;
        self.handover.poll(cx, |state| {
            *partitions = state.batches.partitions() as u32;
            *partitions > 0 && state.batches.has_room(3)
        })
    }

    fn write(&mut self, batch: &StreamBatch) -> Result<usize, ConnectorError> {
        let settings = Arc::clone(&self.settings);
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
        if self.partitions == 0 {
            return Ok(0);
        }
        let schema = batch.rows.schema_ref();
        let column = |index: usize| {
            BytesColumn::of(batch.rows.column(index).as_ref())
                .ok_or_else(|| ConnectorError::Malformed(format!("column {index} is neither text nor bytes")))
        };
        let value = column(settings.value_index(schema)?)?;
        let key = settings.key_index(schema)?.map(column).transpose()?;
        self.partitioner.assign(
            key.as_ref(),
            &value,
            batch.num_rows(),
            self.partitions,
            &mut self.assigned,
        );
        let headers = settings.headers_index(schema)?;
        let headers = headers.and_then(|index| batch.rows.column(index).as_map_opt());
        self.append(batch, key.as_ref(), &value, headers)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, end_of_input: bool) -> Poll<Result<(), ConnectorError>> {
        if self.settings.guarantee == DeliveryGuarantee::None && !end_of_input {
            return Poll::Ready(self.handover.check());
        }
        let mut begun = false;
        let flushed = self.handover.poll(cx, |state| {
            let done = state.batches.used() == 0;
            begun = !done && !state.flushing;
            state.flushing = !done;
            done
        });
        if begun {
            self.handover.wake_io();
        }
        flushed
    }

    fn prepare_commit(&mut self, _checkpoint_id: u64) -> Result<Vec<Committable>, ConnectorError> {
        let mut state = self.handover.lock();
        let Some(transaction) = state.transaction.take_if(|open| !open.ranges.is_empty()) else {
            return Ok(Vec::new());
        };
        if state.batches.used() > 0 {
            return Err(ConnectorError::Unavailable(format!(
                "Kafka sink of topic {:?}: a checkpoint came between rows and their flush",
                self.settings.topic
            )));
        }
        drop(state);
        self.handover.wake_io();
        self.prepared.push(transaction.id.clone());
        Ok(vec![transaction.committable()])
    }

    fn snapshot(&mut self, _checkpoint_id: u64) -> Result<Vec<Vec<u8>>, ConnectorError> {
        let transactions = self.settings.transactions.as_ref();
        Ok(transactions.map_or_else(Vec::new, |transactions| {
            writer_state(&transactions.prefix, self.order, &self.prepared)
        }))
    }

    fn poll_commit(
        &mut self,
        cx: &mut Context<'_>,
        committables: &[Committable],
    ) -> Poll<Result<(), ConnectorError>> {
        let prepared = Transaction::of(committables)?;
        let mut begun = false;
        let committed = self.handover.poll(cx, |state| match state.commit {
            Commit::None => {
                state.commit = Commit::Asked(prepared.clone());
                begun = true;
                false
            }
            Commit::Asked(_) | Commit::UnderWay => false,
            Commit::Done => {
                state.commit = Commit::None;
                true
            }
        });
        if begun {
            self.handover.wake_io();
        }
        if matches!(committed, Poll::Ready(Ok(()))) {
            self.transactions_committed += prepared.len() as u64;
            self.prepared
                .retain(|id| prepared.iter().all(|committed| committed.id != *id));
        }
        committed
    }

    fn gauges(&self) -> Vec<Gauge> {
        let (errors, time, lost) = {
            let state = self.handover.lock();
            (state.send_errors, state.send_time, state.lost)
        };
        let mut gauges = vec![
            ("numRecordsSend", self.records as f64),
            ("numBytesSend", self.bytes as f64),
            ("numRecordsSendErrors", errors as f64),
            ("currentSendTime", time.as_secs_f64() * 1_000.0),
        ];
        if self.settings.transactions.is_some() {
            gauges.push(("pendingCommittables", self.prepared.len() as f64));
            let committed = self.transactions_committed.saturating_sub(lost);
            gauges.push(("successfulCommittables", committed as f64));
            gauges.push(("failedCommittables", lost as f64));
        }
        gauges
    }
}

impl Drop for KafkaWriter {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
