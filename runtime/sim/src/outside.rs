//! What the job writes to: a broker with transactions and a place for files. Both know what readers see.
//!
//! ```text
//!   init(id) -> producer, epoch      a newer epoch fences, and aborts what is open
//!   write(id, epoch, rows)           into the open transaction
//!   end(id, epoch)                   commits; the same again is no error
//!   a transaction that is open for too long is aborted
//! ```
//!
//! Invariant checked: a row is seen once.

use std::collections::{BTreeMap, BTreeSet};

/// Source and number.
pub(crate) type Row = (u32, u32);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Transaction {
    Empty,
    Open { rows: Vec<Row>, since_ms: u64 },
    Committed,
    Aborted,
}

#[derive(Debug)]
struct Producer {
    epoch: u32,
    transaction: Transaction,
}

/// Why the broker refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BrokerError {
    /// A newer producer has the id.
    Fenced,
    /// There is nothing open to commit: it was aborted.
    NotOpen,
}

/// Rows by job that a committed reader sees.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    rows: BTreeMap<String, BTreeSet<Row>>,
    pub(crate) doubled: Vec<(String, Row)>,
}

impl Seen {
    fn add(&mut self, job: &str, rows: Vec<Row>) {
        let seen = self.rows.entry(job.to_owned()).or_default();
        for row in rows {
            if !seen.insert(row) {
                self.doubled.push((job.to_owned(), row));
            }
        }
    }

    pub(crate) fn of(&self, job: &str) -> Option<&BTreeSet<Row>> {
        self.rows.get(job)
    }
}

/// A Kafka as far as transactions go.
#[derive(Debug, Default)]
pub(crate) struct Broker {
    producers: BTreeMap<String, Producer>,
    /// As the partitions' logs show it.
    committed: BTreeSet<(String, u32)>,
    pub(crate) seen: Seen,
    /// Rows of transactions that were open for too long.
    expired: BTreeMap<(String, u32), Vec<Row>>,
    /// Rows that are told to be left out.
    pub(crate) left_out: BTreeMap<String, BTreeSet<Row>>,
    /// After which an open transaction is aborted.
    pub(crate) timeout_ms: u64,
}

impl Broker {
    /// InitProducerId: with an epoch only if that is the newest; aborts what is open.
    pub(crate) fn init(&mut self, id: &str, known: Option<u32>) -> Result<u32, BrokerError> {
        let producer = self.producers.entry(id.to_owned()).or_insert(Producer {
            epoch: 0,
            transaction: Transaction::Empty,
        });
        if known.is_some_and(|epoch| epoch != producer.epoch) {
            return Err(BrokerError::Fenced);
        }
        producer.epoch += 1;
        if matches!(producer.transaction, Transaction::Open { .. }) {
            producer.transaction = Transaction::Aborted;
        }
        if known.is_none() || matches!(producer.transaction, Transaction::Committed) {
            producer.transaction = Transaction::Empty;
        }
        Ok(producer.epoch)
    }

    pub(crate) fn write(&mut self, id: &str, epoch: u32, row: Row, now_ms: u64) -> Result<(), BrokerError> {
        let producer = self.producers.get_mut(id).ok_or(BrokerError::Fenced)?;
        if producer.epoch != epoch {
            return Err(BrokerError::Fenced);
        }
        match &mut producer.transaction {
            Transaction::Open { rows, .. } => rows.push(row),
            Transaction::Empty => {
                let rows = vec![row];
                let since_ms = now_ms;
                producer.transaction = Transaction::Open { rows, since_ms };
            }
            Transaction::Committed | Transaction::Aborted => return Err(BrokerError::NotOpen),
        }
        Ok(())
    }

    /// Commits; whether it was committed before.
    pub(crate) fn commit(&mut self, job: &str, id: &str, epoch: u32) -> Result<bool, BrokerError> {
        let producer = self.producers.get_mut(id).ok_or(BrokerError::NotOpen)?;
        if producer.epoch != epoch {
            return Err(BrokerError::Fenced);
        }
        match std::mem::replace(&mut producer.transaction, Transaction::Committed) {
            Transaction::Open { rows, .. } => {
                self.seen.add(job, rows);
                self.committed.insert((id.to_owned(), epoch));
                Ok(false)
            }
            Transaction::Committed => Ok(true),
            other => {
                producer.transaction = other;
                Err(BrokerError::NotOpen)
            }
        }
    }

    /// Whether the logs show that this one ended so, also if the id was used again since.
    pub(crate) fn was_committed(&self, id: &str, epoch: u32) -> bool {
        self.committed.contains(&(id.to_owned(), epoch))
    }

    /// Ids that begin so and have an open transaction.
    pub(crate) fn open(&self, prefix: &str) -> Vec<String> {
        let ids = self.producers.iter();
        ids.filter(|(id, producer)| {
            id.starts_with(prefix) && matches!(producer.transaction, Transaction::Open { .. })
        })
        .map(|(id, _)| id.clone())
        .collect()
    }

    /// Whether this one was open for too long: then its rows are told, at each restore anew, and never seen.
    pub(crate) fn leave_out(&mut self, job: &str, id: &str, epoch: u32) -> bool {
        let Some(rows) = self.expired.get(&(id.to_owned(), epoch)) else {
            return false;
        };
        self.left_out.entry(job.to_owned()).or_default().extend(rows);
        true
    }

    pub(crate) fn expire(&mut self, now_ms: u64) {
        for (id, producer) in &mut self.producers {
            if let Transaction::Open { since_ms, rows } = &producer.transaction
                && now_ms > since_ms + self.timeout_ms
            {
                self.expired.insert((id.clone(), producer.epoch), rows.clone());
                producer.transaction = Transaction::Aborted;
                producer.epoch += 1;
            }
        }
    }
}

/// A folder that readers list: files are pending until they are committed.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pending: BTreeMap<String, Vec<Row>>,
    committed: BTreeSet<String>,
    pub(crate) seen: Seen,
}

impl Files {
    pub(crate) fn write(&mut self, name: &str, rows: Vec<Row>) {
        self.pending.insert(name.to_owned(), rows);
    }

    /// Whether it was committed before; nothing if there is no such file.
    pub(crate) fn commit(&mut self, job: &str, name: &str) -> Option<bool> {
        if self.committed.contains(name) {
            return Some(true);
        }
        let rows = self.pending.remove(name)?;
        self.committed.insert(name.to_owned());
        self.seen.add(job, rows);
        Some(false)
    }
}
