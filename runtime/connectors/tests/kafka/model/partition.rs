//! A partition's log: batches of idempotent producers in transactions, markers, and what readers of committed records see.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::records::RecordBatchDecoder;

use super::coordinator::Identity;

/// A broker recognizes so many of a producer's batches when they are repeated.
const REMEMBERED: usize = 5;

#[derive(Debug)]
struct Batch {
    base: i64,
    last: i64,
    producer: i64,
    bytes: Bytes,
    values: Vec<i64>,
}

#[derive(Debug, Default)]
struct Producer {
    epoch: i16,
    next_sequence: i32,
    /// Sequences and offsets of the last batches.
    recent: VecDeque<(i32, i64)>,
}

/// An aborted transaction: who, from where, and where its marker lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Aborted {
    pub(crate) producer: i64,
    pub(crate) first: i64,
    marker: i64,
}

#[derive(Debug, Default)]
pub(crate) struct Partition {
    pub(crate) start: i64,
    pub(crate) end: i64,
    batches: Vec<Batch>,
    open: BTreeMap<i64, i64>,
    aborted: Vec<Aborted>,
    producers: HashMap<i64, Producer>,
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().unwrap()
}

/// Who a batch's header names.
pub(crate) fn identity_of(batch: &[u8]) -> Identity {
    (
        i64::from_be_bytes(number(batch, 43)),
        i16::from_be_bytes(number(batch, 51)),
    )
}

impl Partition {
    /// Appends a batch; its first offset.
    pub(crate) fn append(&mut self, batch: &Bytes) -> Result<i64, ResponseError> {
        let (id, epoch) = identity_of(batch);
        let sequence = i32::from_be_bytes(number(batch, 53));
        let records = RecordBatchDecoder::decode(&mut batch.clone()).unwrap().records;
        assert!(records.iter().all(|record| record.transactional));
        let producer = self.producers.entry(id).or_default();
        if epoch < producer.epoch {
            return Err(ResponseError::InvalidProducerEpoch);
        }
        if epoch > producer.epoch {
            *producer = Producer {
                epoch,
                ..Producer::default()
            };
        }
        if let Some((_, offset)) = producer.recent.iter().find(|(base, _)| *base == sequence) {
            return Ok(*offset);
        }
        if sequence != producer.next_sequence {
            return Err(ResponseError::OutOfOrderSequenceNumber);
        }
        producer.next_sequence += records.len() as i32;
        producer.recent.push_back((sequence, self.end));
        if producer.recent.len() > REMEMBERED {
            producer.recent.pop_front();
        }
        let base = self.end;
        self.end += records.len() as i64;
        self.open.entry(id).or_insert(base);
        let mut bytes = BytesMut::from(&batch[..]);
        bytes[..8].copy_from_slice(&base.to_be_bytes());
        let value = |bytes: &Bytes| std::str::from_utf8(bytes).unwrap().parse().unwrap();
        self.batches.push(Batch {
            base,
            last: self.end - 1,
            producer: id,
            bytes: bytes.freeze(),
            values: records
                .iter()
                .map(|record| value(record.value.as_ref().unwrap()))
                .collect(),
        });
        Ok(base)
    }

    /// Ends a producer's transaction.
    pub(crate) fn mark(&mut self, (id, epoch): Identity, commit: bool) {
        let producer = self.producers.entry(id).or_default();
        if epoch > producer.epoch {
            *producer = Producer {
                epoch,
                ..Producer::default()
            };
        }
        let marker = self.end;
        self.end += 1;
        if let Some(first) = self.open.remove(&id)
            && !commit
        {
            self.aborted.push(Aborted {
                producer: id,
                first,
                marker,
            });
        }
    }

    pub(crate) fn last_stable(&self) -> i64 {
        let open = self.open.values().copied().min();
        open.map_or(self.end, |open| open.max(self.start))
    }

    /// The batch at an offset, if readers of committed records get it.
    pub(crate) fn batch_from(&self, offset: i64) -> Option<Bytes> {
        let batch = self.batches.iter().find(|batch| batch.last >= offset)?;
        (batch.last < self.last_stable()).then(|| batch.bytes.clone())
    }

    pub(crate) fn aborted_from(&self, offset: i64) -> Vec<Aborted> {
        let later = self.aborted.iter().filter(|aborted| aborted.marker >= offset);
        later.copied().collect()
    }

    /// The values that a reader of committed records gets.
    pub(crate) fn committed(&self) -> impl Iterator<Item = i64> {
        let stable = self.last_stable();
        let visible = move |batch: &&Batch| {
            let aborted = |aborted: &Aborted| {
                aborted.producer == batch.producer && (aborted.first..aborted.marker).contains(&batch.base)
            };
            batch.last < stable && !self.aborted.iter().any(aborted)
        };
        let batches = self.batches.iter().filter(visible);
        batches.flat_map(|batch| batch.values.iter().copied())
    }

    /// Retention, or DeleteRecords.
    pub(crate) fn delete_before(&mut self, offset: i64) {
        self.start = offset;
        self.batches.retain(|batch| batch.last >= offset);
        self.aborted.retain(|aborted| aborted.marker >= offset);
    }
}
