//! The driver's transactions: one is open, the next one's identity is there before it is needed, and others are committed.
//!
//! ```text
//!   recover (abort what was left open) -> warm an id -> [open at the first look] -> add partitions -> produce
//!                                          ^                 | the barrier takes it away, under the lock
//!                                          '-- id given back <- committed <- asked by the task
//! ```
//!
//! Invariant: nothing is taken from the accumulator while no transaction is open, and both are looked at under one lock.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use futures::future::try_join_all;
use kafka_protocol::messages::TransactionalId;
use kafka_protocol::protocol::StrBytes;

use super::{Driver, Event};
use crate::ConnectorError;
use crate::kafka::producer::coordinator::Coordinator;
use crate::kafka::producer::handover::{Commit, State};
use crate::kafka::producer::record_batch::ProducerIdentity;
use crate::kafka::producer::sender::Sender;
use crate::kafka::producer::transaction::{Pool, Recovery, Transaction};
use crate::kafka::sink::SinkSettings;

/// Something about transactions has come to an end.
pub(super) enum TransactionEvent {
    Recovered(Result<(), ConnectorError>),
    Warmed(String, Result<ProducerIdentity, ConnectorError>),
    Added(Vec<usize>, Result<(), ConnectorError>),
    Committed(Vec<String>, Result<(), ConnectorError>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Start,
    Recovering,
    Recovered,
}

/// What is written to, and what next.
pub(super) struct Transactions {
    pool: Pool,
    stage: Stage,
    warming: bool,
    next: Option<(String, ProducerIdentity)>,
    /// The open one.
    current: Option<(String, ProducerIdentity)>,
}

impl Transactions {
    pub(super) fn new(prefix: &str, recovery: &Recovery) -> Self {
        Self {
            pool: Pool::new(prefix, recovery),
            stage: Stage::Start,
            warming: false,
            next: None,
            current: None,
        }
    }

    /// The open one's id for a request.
    pub(super) fn wire_id(&self) -> Option<TransactionalId> {
        let (id, _) = self.current.as_ref()?;
        Some(TransactionalId(StrBytes::from_string(id.clone())))
    }
}

/// What is committed; also by a sink that has no transactions any more.
pub(super) struct Commits {
    coordinator: Arc<Coordinator>,
    recovery: Arc<Recovery>,
    /// Of an earlier attempt: something may be open under these ids behind what is to be committed.
    inherited: BTreeSet<String>,
}

impl Commits {
    pub(super) fn new(settings: Arc<SinkSettings>, recovery: Recovery) -> Self {
        Self {
            coordinator: Arc::new(Coordinator::new(settings)),
            inherited: recovery.own.clone(),
            recovery: Arc::new(recovery),
        }
    }
}

/// Whether the sender may write: opens the next transaction if none is open and its identity is there.
pub(super) fn open(
    transactions: &mut Option<Transactions>,
    sender: &mut Sender,
    state: &mut State,
    topic: &str,
) -> bool {
    let Some(transactions) = transactions else {
        return true;
    };
    if state.transaction.is_some() {
        return true;
    }
    transactions.current = transactions.next.take();
    let Some((id, identity)) = &transactions.current else {
        return false;
    };
    sender.begin(*identity);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
    state.transaction = Some(Transaction::open(id.clone(), *identity, topic, now_ms));
    true
}

impl Driver {
    /// Starts what the task has asked for.
    pub(super) fn commit(&mut self) {
        let prepared = {
            let mut state = self.handover.lock();
            match std::mem::replace(&mut state.commit, Commit::UnderWay) {
                Commit::Asked(prepared) => prepared,
                other => {
                    state.commit = other;
                    return;
                }
            }
        };
        let coordinator = Arc::clone(&self.commits.coordinator);
        let ids = prepared.iter().map(|prepared| prepared.id.clone()).collect();
        let fences = prepared
            .iter()
            .map(|prepared| self.commits.inherited.remove(&prepared.id))
            .collect::<Vec<_>>();
        self.calls.push(
            async move {
                let all = prepared
                    .iter()
                    .zip(fences)
                    .map(|(prepared, fence)| coordinator.commit(prepared, fence));
                let committed = try_join_all(all).await.map(drop);
                Event::Transaction(TransactionEvent::Committed(ids, committed))
            }
            .boxed(),
        );
    }

    /// Puts in order what was left, and gets the next identity.
    pub(super) fn prepare_transactions(&mut self) {
        let Some(transactions) = &mut self.transactions else {
            return;
        };
        // the topic is looked up first: brokers that are away are told of there
        if self.topic.leaders.is_empty() {
            return;
        }
        let coordinator = Arc::clone(&self.commits.coordinator);
        match transactions.stage {
            Stage::Start => {
                transactions.stage = Stage::Recovering;
                let recovery = Arc::clone(&self.commits.recovery);
                let recover = async move {
                    let recovered = coordinator.recover(&recovery).await;
                    Event::Transaction(TransactionEvent::Recovered(recovered))
                };
                self.calls.push(recover.boxed());
            }
            Stage::Recovered if !transactions.warming && transactions.next.is_none() => {
                transactions.warming = true;
                let id = transactions.pool.take();
                let warm = async move {
                    let identity = coordinator.begin(&id).await;
                    Event::Transaction(TransactionEvent::Warmed(id, identity))
                };
                self.calls.push(warm.boxed());
            }
            Stage::Recovering | Stage::Recovered => {}
        }
    }

    pub(super) fn add_partitions(&mut self, partitions: Vec<usize>) {
        let open = self
            .transactions
            .as_ref()
            .and_then(|transactions| transactions.current.clone());
        let Some((id, identity)) = open.filter(|_| !partitions.is_empty()) else {
            return;
        };
        let coordinator = Arc::clone(&self.commits.coordinator);
        let add = async move {
            let added = coordinator.add_partitions(&id, identity, &partitions).await;
            Event::Transaction(TransactionEvent::Added(partitions, added))
        };
        self.calls.push(add.boxed());
    }

    pub(super) fn transaction_event(&mut self, event: TransactionEvent) -> Result<(), ConnectorError> {
        match (event, &mut self.transactions) {
            (TransactionEvent::Added(partitions, added), _) => {
                added?;
                self.sender.admit(&partitions);
            }
            (TransactionEvent::Committed(ids, committed), transactions) => {
                committed?;
                if let Some(transactions) = transactions {
                    ids.iter().for_each(|id| transactions.pool.put_back(id));
                }
                let task = self.handover.lock().committed();
                if let Some(task) = task {
                    task.wake();
                }
            }
            (TransactionEvent::Recovered(recovered), Some(transactions)) => {
                recovered?;
                transactions.stage = Stage::Recovered;
            }
            (TransactionEvent::Warmed(id, identity), Some(transactions)) => {
                transactions.warming = false;
                transactions.next = Some((id, identity?));
            }
            (TransactionEvent::Recovered(_) | TransactionEvent::Warmed(..), None) => {}
        }
        Ok(())
    }
}
