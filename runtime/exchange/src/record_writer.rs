//! The output of a task on one edge: distributes batches to channels and keeps them large.
//!
//! ```text
//!   HASH            batch -> partition -> lane per channel -> channel
//!   all the others  batch -> one lane -> the channel whose turn it is (BROADCAST: every channel)
//! ```
//!
//! A lane gathers small batches until they make a full one, until the buffer timeout has passed, or until a control
//! element comes. Rows keep their order on each channel, and a watermark reaches every channel behind the rows that it
//! was behind; a channel that gets no row gets it as a batch without rows, once it has credit.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use thalweg_types::element::{TARGET_BATCH_BYTES, TARGET_BATCH_ROWS};
use thalweg_types::{StreamBatch, StreamElement, WatermarkCut};

use crate::channel::ChannelWriter;
use crate::coalesce::merge_batches;
use crate::error::ExchangeError;
use crate::partition::{KeyGroupPartitioner, Partitioner};

/// Batches that wait to become one.
#[derive(Debug, Default)]
struct Lane {
    batches: Vec<StreamBatch>,
    rows: usize,
    bytes: usize,
    /// When the oldest must go; `None` = nothing waits, or it may wait for ever.
    deadline: Option<Instant>,
}

impl Lane {
    fn is_full(&self) -> bool {
        self.rows >= TARGET_BATCH_ROWS || self.bytes >= TARGET_BATCH_BYTES
    }

    fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }
}

/// See the module.
#[derive(Debug)]
pub struct RecordWriter {
    partitioner: Partitioner,
    by_key: Option<KeyGroupPartitioner>,
    channels: Vec<ChannelWriter>,
    /// One a channel if by key, else one.
    lanes: Vec<Lane>,
    /// Watermarks that a channel without rows has still to get.
    watermarks: Vec<Option<i64>>,
    schema: Option<SchemaRef>,
    /// The channel whose turn it is.
    turn: usize,
    random: u64,
    buffer_timeout: Option<Duration>,
}

impl RecordWriter {
    /// An output. `buffer_timeout`: how long rows may wait for others; zero = not at all, `None` = until a batch is full
    /// (Flink's -1). `consumer_parallelism` is the consumers' as a whole, also if this producer has channels to a part.
    ///
    /// # Errors
    /// The partitioner doesn't fit the number of channels.
    pub fn new(
        partitioner: Partitioner,
        channels: Vec<ChannelWriter>,
        max_parallelism: u32,
        consumer_parallelism: u32,
        buffer_timeout: Option<Duration>,
    ) -> Result<Self, ExchangeError> {
        let refuse = |hint| ExchangeError::Channels {
            partitioner,
            channels: channels.len(),
            hint,
        };
        match partitioner {
            _ if channels.is_empty() => return Err(refuse(": it needs one at least")),
            Partitioner::Forward if channels.len() != 1 => return Err(refuse(": it needs exactly one")),
            Partitioner::Hash if channels.len() != consumer_parallelism as usize => {
                return Err(refuse(": it needs one to each consumer subtask"));
            }
            _ => {}
        }
        let by_key = match partitioner {
            Partitioner::Hash => Some(KeyGroupPartitioner::new(consumer_parallelism, max_parallelism)?),
            _ => None,
        };
        let lanes = if by_key.is_some() { channels.len() } else { 1 };
        let producer = channels[0].id().producer;
        Ok(Self {
            partitioner,
            by_key,
            lanes: (0..lanes).map(|_| Lane::default()).collect(),
            watermarks: vec![None; channels.len()],
            schema: None,
            // Producers begin with different consumers, else the first would get the first batch of all of them.
            turn: match partitioner {
                Partitioner::Rebalance | Partitioner::Rescale => producer.subtask as usize % channels.len(),
                _ => 0,
            },
            random: 0x9E37_79B9_7F4A_7C15 ^ u64::from(producer.subtask),
            channels,
            buffer_timeout,
        })
    }

    /// Ready when a batch may be written: when there is credit on the channels that it may go to.
    ///
    /// # Errors
    /// A consumer is gone.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ExchangeError>> {
        let all = matches!(self.partitioner, Partitioner::Hash | Partitioner::Broadcast);
        let mut ready = true;
        for (index, channel) in self.channels.iter_mut().enumerate() {
            if all || index == self.turn {
                match channel.poll_ready(cx) {
                    Poll::Ready(result) => result?,
                    Poll::Pending => ready = false,
                }
            } else if let Some(result) = channel.ready() {
                result?;
            }
        }
        if ready { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Takes a batch; what is full is sent.
    ///
    /// # Errors
    /// HASH without key hashes; a consumer is gone; rows can't be encoded.
    pub fn write(&mut self, batch: StreamBatch) -> Result<(), ExchangeError> {
        if batch.num_rows() == 0 && batch.watermarks.is_empty() {
            return Ok(());
        }
        self.schema = Some(batch.rows.schema());
        let deadline = self.buffer_timeout.map(|timeout| Instant::now() + timeout);
        let bytes_per_row = batch.memory_size() / batch.num_rows().max(1);
        match &mut self.by_key {
            Some(by_key) => {
                let parts = by_key.partition(batch)?;
                for (lane, part) in parts.into_iter().enumerate() {
                    if let Some(part) = part {
                        self.add(lane, part, bytes_per_row, deadline)?;
                    }
                }
            }
            None => {
                for part in self.portions(batch) {
                    self.add(0, part, bytes_per_row, deadline)?;
                }
            }
        }
        if self.buffer_timeout == Some(Duration::ZERO) {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// Sends everything that waits, also without credit.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn flush(&mut self) -> Result<(), ExchangeError> {
        (0..self.lanes.len()).try_for_each(|lane| self.flush_lane(lane))
    }

    /// When [`Self::poll_flush_due`] has something to do.
    pub fn flush_deadline(&self) -> Option<Instant> {
        self.lanes.iter().filter_map(|lane| lane.deadline).min()
    }

    /// Sends what has waited for the buffer timeout, where there is credit; pending = some of it has none.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn poll_flush_due(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Result<(), ExchangeError>> {
        let mut waits = false;
        for lane in 0..self.lanes.len() {
            if self.lanes[lane].deadline.is_some_and(|deadline| deadline <= now) {
                let ready = if self.by_key.is_some() {
                    self.channels[lane].poll_ready(cx)
                } else {
                    self.poll_ready(cx)
                };
                match ready {
                    Poll::Ready(result) => result.and_then(|()| self.flush_lane(lane))?,
                    Poll::Pending => waits = true,
                }
            }
        }
        for index in 0..self.channels.len() {
            if self.watermarks[index].is_some() {
                match self.channels[index].poll_ready(cx) {
                    Poll::Ready(result) => result.and_then(|()| self.send_watermark(index))?,
                    Poll::Pending => waits = true,
                }
            }
        }
        if waits { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    /// Sends what waits and then this element, on every channel, also without credit.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn broadcast_element(&mut self, element: &StreamElement) -> Result<(), ExchangeError> {
        self.flush()?;
        for index in 0..self.channels.len() {
            self.send_watermark(index)?;
            self.channels[index].send(element.clone())?;
        }
        Ok(())
    }

    /// The channels, for their counters.
    pub fn channels(&self) -> &[ChannelWriter] {
        &self.channels
    }

    /// A batch of several times the target is dealt out in portions where batches go in turn.
    fn portions(&self, batch: StreamBatch) -> Vec<StreamBatch> {
        let rows = batch.num_rows();
        let in_turn = matches!(
            self.partitioner,
            Partitioner::Rebalance | Partitioner::Rescale | Partitioner::Shuffle
        );
        if !in_turn || self.channels.len() == 1 || rows < 2 * TARGET_BATCH_ROWS {
            return vec![batch];
        }
        let starts = (0..rows).step_by(TARGET_BATCH_ROWS);
        starts
            .map(|start| batch.slice(start, TARGET_BATCH_ROWS.min(rows - start)))
            .collect()
    }

    fn add(
        &mut self,
        lane: usize,
        batch: StreamBatch,
        bytes_per_row: usize,
        deadline: Option<Instant>,
    ) -> Result<(), ExchangeError> {
        let (rows, bytes) = (batch.num_rows(), batch.num_rows() * bytes_per_row);
        let large = rows * 2 >= TARGET_BATCH_ROWS || bytes * 2 >= TARGET_BATCH_BYTES;
        if large && !self.lanes[lane].is_empty() {
            self.flush_lane(lane)?; // rather two batches than a copy of the large one
        }
        let waiting = &mut self.lanes[lane];
        waiting.rows += rows;
        // A batch of watermarks alone is not free, or a lane could grow on them without limit.
        waiting.bytes += bytes + batch.watermarks.len() * size_of::<WatermarkCut>();
        waiting.batches.push(batch);
        waiting.deadline = waiting.deadline.or(deadline);
        if large || waiting.is_full() || waiting.batches.len() >= TARGET_BATCH_ROWS {
            self.flush_lane(lane)?;
        }
        Ok(())
    }

    fn flush_lane(&mut self, lane: usize) -> Result<(), ExchangeError> {
        let Lane { batches, .. } = std::mem::take(&mut self.lanes[lane]);
        let merged = merge_batches(batches).map_err(|source| ExchangeError::Rows {
            step: "merged",
            source: Arc::new(source),
        })?;
        for batch in merged {
            match self.partitioner {
                Partitioner::Hash => self.channels[lane].send(StreamElement::Batch(batch))?,
                Partitioner::Broadcast => {
                    for channel in &mut self.channels {
                        channel.send(StreamElement::Batch(batch.clone()))?;
                    }
                }
                _ => self.send_in_turn(batch)?,
            }
        }
        Ok(())
    }

    /// Rows go to the channel whose turn it is, watermarks to all.
    fn send_in_turn(&mut self, mut batch: StreamBatch) -> Result<(), ExchangeError> {
        let target = self.turn;
        let last_watermark = batch.watermarks.last().map(|cut| cut.timestamp_ms);
        if batch.num_rows() > 0 {
            if let Some(timestamp_ms) = self.watermarks[target].take() {
                batch.watermarks.insert(0, WatermarkCut { row: 0, timestamp_ms });
            }
            self.channels[target].send(StreamElement::Batch(batch))?;
            self.take_turns();
        } else {
            // Without rows nobody's turn is used up, and the watermarks go the same way everywhere.
            self.watermarks[target] = self.watermarks[target].max(last_watermark);
            self.send_watermark(target)?;
        }
        if last_watermark.is_some() {
            for index in (0..self.channels.len()).filter(|index| *index != target) {
                self.watermarks[index] = self.watermarks[index].max(last_watermark);
                if let Some(ready) = self.channels[index].ready() {
                    ready?;
                    self.send_watermark(index)?;
                }
            }
        }
        Ok(())
    }

    fn send_watermark(&mut self, index: usize) -> Result<(), ExchangeError> {
        let (Some(schema), Some(timestamp_ms)) = (&self.schema, self.watermarks[index].take()) else {
            return Ok(());
        };
        let mut batch = StreamBatch::new(RecordBatch::new_empty(schema.clone()));
        batch.watermarks.push(WatermarkCut { row: 0, timestamp_ms });
        self.channels[index].send(StreamElement::Batch(batch))
    }

    fn take_turns(&mut self) {
        let channels = self.channels.len();
        match self.partitioner {
            Partitioner::Rebalance | Partitioner::Rescale => self.turn = (self.turn + 1) % channels,
            Partitioner::Shuffle => {
                // xorshift64: a shuffle needs no more, and needs no lock on a shared generator.
                self.random ^= self.random << 13;
                self.random ^= self.random >> 7;
                self.random ^= self.random << 17;
                self.turn = (self.random % channels as u64) as usize;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
