//! The driver's transactions: one is open, the next one's identity is there before it is needed, and others are committed.
//!
//! ```text
//!   recover (abort what was left open) -> claim ids -> [open at the first look] -> add partitions -> produce
//!                                    warm an id --^         | the barrier takes it away, under the lock
//!                                         '-- id given back <- committed <- asked by the task
//! ```
//!
//! Invariants: nothing is taken from the accumulator while no transaction is open, and both are looked at under one lock. What was left open
//! is aborted, and the first ids are claimed, soon after the start or not at all: a writer that stood still at its start and wakes after it
//! was replaced ends. Whenever that is, it takes nothing from a later attempt ([`Recovery::aborts`]).

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use futures::future::try_join_all;
use kafka_protocol::messages::TransactionalId;
use kafka_protocol::protocol::StrBytes;

use super::{Driver, Event};
use crate::ConnectorError;
use crate::kafka::producer::coordinator::{Concluded, Coordinator};
use crate::kafka::producer::handover::{Commit, State};
use crate::kafka::producer::record_batch::ProducerIdentity;
use crate::kafka::producer::sender::Sender;
use crate::kafka::producer::transaction::{Pool, Recovery, Transaction};
use crate::kafka::sink::SinkSettings;

/// One open, one prepared, one that is next.
const CLAIMED_AT_START: usize = 3;

/// An id with the identity for its next transaction.
type Warm = (String, ProducerIdentity);

/// Something about transactions has come to an end.
pub(super) enum TransactionEvent {
    /// With the first ids.
    Recovered(Result<Vec<Warm>, ConnectorError>),
    Warmed(Result<Warm, ConnectorError>),
    Added(Vec<usize>, Result<(), ConnectorError>),
    Committed(Result<Vec<Concluded>, ConnectorError>),
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
    next: VecDeque<Warm>,
    /// The open one.
    current: Option<Warm>,
}

impl Transactions {
    pub(super) fn new(prefix: &str, recovery: &Recovery) -> Self {
        Self {
            pool: Pool::new(prefix, recovery),
            stage: Stage::Start,
            warming: false,
            next: VecDeque::new(),
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
    transactions.current = transactions.next.pop_front();
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
        let inherited = prepared
            .iter()
            .map(|prepared| self.commits.inherited.remove(&prepared.id))
            .collect::<Vec<_>>();
        self.calls.push(
            async move {
                let all = prepared
                    .iter()
                    .zip(inherited)
                    .map(|(prepared, inherited)| coordinator.commit(prepared, inherited));
                Event::Transaction(TransactionEvent::Committed(try_join_all(all).await))
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
                let ids = (0..CLAIMED_AT_START).map(|_| transactions.pool.take().0);
                let ids = ids.collect::<Vec<_>>();
                let recover = async move {
                    let recovered = coordinator.recover(&recovery, ids).await;
                    Event::Transaction(TransactionEvent::Recovered(recovered))
                };
                self.calls.push(recover.boxed());
            }
            Stage::Recovered if !transactions.warming && transactions.next.is_empty() => {
                transactions.warming = true;
                let (id, last) = transactions.pool.take();
                let warm = async move {
                    let identity = coordinator.begin(&id, last).await;
                    Event::Transaction(TransactionEvent::Warmed(identity.map(|identity| (id, identity))))
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
            (TransactionEvent::Committed(concluded), transactions) => {
                let concluded = concluded?;
                if let Some(transactions) = transactions {
                    for Concluded { id, identity, .. } in &concluded {
                        transactions.pool.put_back(id, *identity);
                    }
                }
                let lost = concluded.iter().filter(|concluded| concluded.lost).count();
                let task = self.handover.lock().committed(lost);
                if let Some(task) = task {
                    task.wake();
                }
            }
            (TransactionEvent::Recovered(recovered), Some(transactions)) => {
                transactions.next.extend(recovered?);
                transactions.stage = Stage::Recovered;
            }
            (TransactionEvent::Warmed(warm), Some(transactions)) => {
                transactions.warming = false;
                transactions.next.push_back(warm?);
            }
            (TransactionEvent::Recovered(_) | TransactionEvent::Warmed(..), None) => {}
        }
        Ok(())
    }
}
