//! Questions about transactions to brokers: each is asked again until it is answered or `delivery.timeout.ms` is over.
//!
//! ```text
//!   any server: FindCoordinator, ListTransactions, DescribeConfigs
//!   coordinator of an id: InitProducerId, AddPartitionsToTxn, EndTxn
//!   leader of a partition: Fetch, when the coordinator can't say how a transaction ended
//! ```
//!
//! The versions are those of transaction version 1, which all brokers speak, also those with transaction version 2: there a commit
//! would give the next epoch and partitions would be added by writing to them. What that protects from, a late request that
//! gets into the next transaction, can't happen here, since each transaction has an epoch of its own.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, BrokerId as WireBroker, DescribeConfigsRequest,
    EndTxnRequest, FetchRequest, FetchResponse, FindCoordinatorRequest, InitProducerIdRequest,
    ListTransactionsRequest, ProducerId, TopicName, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::Mutex;

use super::connection::{Api, CallError, Connection};
use super::failure;
use super::metadata::{self, Topic};
use super::record_batch::ProducerIdentity;
use super::transaction::{
    LogView, Outcome, Recovery, Transaction, TransactionSettings, Verdict, batch_head, outcome, verdict,
};
use crate::ConnectorError;
use crate::kafka::sink::SinkSettings;

/// Another transaction of the id is being concluded: that takes a few milliseconds.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// Kinds of coordinators and of configurations, as the protocol numbers them.
const TRANSACTION: i8 = 1;
const BROKER: i8 = 4;
const READ_COMMITTED: i8 = 1;
/// Enough for a batch's header; brokers give a whole batch at least.
const FETCH_BYTES: i32 = 4 << 10;
const MAX_TIMEOUT: &str = "transaction.max.timeout.ms";

type Address = (String, u16);

/// Speaks to the coordinators of one writer's transactions.
pub(crate) struct Coordinator {
    settings: Arc<SinkSettings>,
    transactions: TransactionSettings,
    connections: Mutex<HashMap<Address, Arc<Connection>>>,
    found: Mutex<HashMap<String, Address>>,
    bootstraps: AtomicUsize,
}

/// Time for one question and its repetitions.
struct Patience {
    deadline: Instant,
}

impl Coordinator {
    pub(crate) fn new(settings: Arc<SinkSettings>) -> Self {
        Self {
            transactions: settings
                .transactions
                .clone()
                .unwrap_or(TransactionSettings::WITHOUT),
            settings,
            connections: Mutex::default(),
            found: Mutex::default(),
            bootstraps: AtomicUsize::new(0),
        }
    }

    /// Aborts what is open and nobody's any more. Also what a writer has open that has not noticed its end: it is fenced.
    pub(crate) async fn recover(&self, recovery: &Recovery) -> Result<(), ConnectorError> {
        for id in self.open_transactions().await? {
            if recovery.aborts(&id) {
                tracing::info!(transaction = id, "Kafka transaction left open is aborted");
                self.begin(&id).await?;
            }
        }
        Ok(())
    }

    /// A new identity for the id; what is open under it is aborted, and its older identities are fenced.
    pub(crate) async fn begin(&self, id: &str) -> Result<ProducerIdentity, ConnectorError> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(transactional_id(id)))
            .with_transaction_timeout_ms(self.transactions.timeout_ms)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        let (verdict, answer) = self.coordinate(id, &request, |answer| answer.error_code).await?;
        match verdict {
            Verdict::Refused(ResponseError::InvalidTransactionTimeout) => {
                let most = self.max_timeout().await;
                Err(failure::timeout_too_long(
                    &self.settings,
                    self.transactions.timeout_ms,
                    most.as_deref(),
                ))
            }
            Verdict::NotOpen(code) => Err(failure::fenced(&self.settings, Some(id), code)),
            Verdict::Refused(code) => Err(failure::transaction_refused(&self.settings, id, code)),
            Verdict::Done | Verdict::Again | Verdict::Elsewhere => Ok(ProducerIdentity {
                id: answer.producer_id.0,
                epoch: answer.producer_epoch,
            }),
        }
    }

    /// The transaction will write to these partitions.
    pub(crate) async fn add_partitions(
        &self,
        id: &str,
        identity: ProducerIdentity,
        partitions: &[usize],
    ) -> Result<(), ConnectorError> {
        let topic = AddPartitionsToTxnTopic::default()
            .with_name(topic_name(&self.settings.topic))
            .with_partitions(partitions.iter().map(|partition| *partition as i32).collect());
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(transactional_id(id))
            .with_v3_and_below_producer_id(ProducerId(identity.id))
            .with_v3_and_below_producer_epoch(identity.epoch)
            .with_v3_and_below_topics(vec![topic]);
        match self.coordinate(id, &request, added_code).await?.0 {
            Verdict::NotOpen(code) => Err(failure::fenced(&self.settings, Some(id), code)),
            Verdict::Refused(code) => Err(failure::transaction_refused(&self.settings, id, code)),
            Verdict::Done | Verdict::Again | Verdict::Elsewhere => Ok(()),
        }
    }

    /// Commits what was prepared, whoever prepared it; harmless if that was done before. An error if the brokers have aborted it.
    /// With `fence` what was opened after it under the same id is aborted.
    pub(crate) async fn commit(&self, prepared: &Transaction, fence: bool) -> Result<(), ConnectorError> {
        let identity = prepared.identity();
        let request = EndTxnRequest::default()
            .with_transactional_id(transactional_id(&prepared.id))
            .with_producer_id(ProducerId(identity.id))
            .with_producer_epoch(identity.epoch)
            .with_committed(true);
        match self
            .coordinate(&prepared.id, &request, |answer| answer.error_code)
            .await?
            .0
        {
            Verdict::Refused(code) => {
                return Err(failure::transaction_refused(&self.settings, &prepared.id, code));
            }
            Verdict::NotOpen(code) => self.concluded(prepared, code).await?,
            Verdict::Done | Verdict::Again | Verdict::Elsewhere => {}
        }
        if fence {
            self.begin(&prepared.id).await?;
        }
        Ok(())
    }

    /// Looks into the log for what became of a transaction that isn't open.
    async fn concluded(&self, prepared: &Transaction, code: ResponseError) -> Result<(), ConnectorError> {
        let settings = &self.settings;
        let Some(range) = prepared.ranges.iter().find(|range| range.first >= 0) else {
            return Err(failure::unclear(settings, prepared, code));
        };
        let patience = self.patience();
        loop {
            let reason = match self.log_view(&prepared.topic, range.partition, range.first).await {
                Ok(log) => match outcome(prepared.producer_id, range.first, &log) {
                    Outcome::Committed => return Ok(()),
                    Outcome::Aborted => return Err(failure::aborted(settings, prepared, code)),
                    Outcome::Unclear => return Err(failure::unclear(settings, prepared, code)),
                    Outcome::Gone => {
                        tracing::warn!(
                            transaction = prepared.id,
                            "Kafka has removed {} before it was known to be committed",
                            prepared.data()
                        );
                        return Ok(());
                    }
                    Outcome::Pending => "it, or one before it, isn't concluded".to_owned(),
                },
                Err(reason) => reason,
            };
            self.pause(
                &patience,
                self.settings.producer.send.retry_backoff,
                &prepared.id,
                &reason,
            )
            .await?;
        }
    }

    async fn log_view(&self, topic: &str, partition: i32, offset: i64) -> Result<LogView, String> {
        let leader = self.leader(topic, partition).await?;
        let fetch = FetchPartition::default()
            .with_partition(partition)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(FETCH_BYTES);
        let request = FetchRequest::default()
            .with_replica_id(WireBroker(-1))
            .with_max_bytes(FETCH_BYTES)
            .with_isolation_level(READ_COMMITTED)
            .with_session_epoch(-1)
            .with_topics(vec![
                FetchTopic::default()
                    .with_topic(topic_name(topic))
                    .with_partitions(vec![fetch]),
            ]);
        let answer = self
            .ask(&leader, &request)
            .await
            .map_err(|error| error.to_string())?;
        view_of(&answer)
    }

    async fn leader(&self, topic: &str, partition: i32) -> Result<Address, String> {
        let Topic { leaders, brokers } = self.topic(topic).await?;
        usize::try_from(partition)
            .ok()
            .and_then(|index| leaders.get(index).copied().flatten())
            .and_then(|leader| brokers.get(&leader).cloned())
            .ok_or_else(|| format!("topic {topic:?} partition {partition} has no leader"))
    }

    async fn topic(&self, topic: &str) -> Result<Topic, String> {
        let answer = self
            .ask_any(&metadata::request(topic))
            .await
            .map_err(|error| error.to_string())?;
        metadata::topic_of(&answer).map_err(|unseen| match unseen {
            metadata::Unseen::Missing => format!("topic {topic:?} is unknown"),
            metadata::Unseen::Again(reason) => reason,
            metadata::Unseen::Refused(code) => code.to_string(),
        })
    }

    /// Ids of all transactions that are open in the cluster: each broker knows some.
    async fn open_transactions(&self) -> Result<BTreeSet<String>, ConnectorError> {
        let patience = self.patience();
        loop {
            match self.list().await {
                Ok(listed) => return Ok(listed),
                Err(CallError::TooOld { address, .. }) => {
                    return Err(failure::without_transactions(&self.settings, &address));
                }
                Err(error) => {
                    let pause = self.settings.producer.send.retry_backoff;
                    self.pause(&patience, pause, &self.transactions.prefix, &error.to_string())
                        .await?;
                }
            }
        }
    }

    async fn list(&self) -> Result<BTreeSet<String>, CallError> {
        let unfinished = |address: &Address, reason: String| CallError::Closed {
            address: format!("{}:{}", address.0, address.1),
            reason,
        };
        let brokers = self.ask_any(&metadata::request(&self.settings.topic)).await?;
        let brokers = brokers.brokers.iter().filter_map(|broker| {
            let port = u16::try_from(broker.port).ok()?;
            Some((broker.host.to_string(), port))
        });
        let request =
            ListTransactionsRequest::default().with_state_filters(vec![StrBytes::from_static_str("Ongoing")]);
        let mut ids = BTreeSet::new();
        for address in brokers.collect::<Vec<_>>() {
            let answer = self.ask(&address, &request).await?;
            if let Some(code) = ResponseError::try_from_code(answer.error_code) {
                return Err(unfinished(&address, code.to_string()));
            }
            let listed = answer.transaction_states.into_iter();
            ids.extend(listed.map(|transaction| transaction.transactional_id.to_string()));
        }
        Ok(ids)
    }

    /// The longest that a broker allows, if it says it.
    async fn max_timeout(&self) -> Option<String> {
        let metadata = self
            .ask_any(&metadata::request(&self.settings.topic))
            .await
            .ok()?;
        let broker = metadata.brokers.first()?;
        let resource = DescribeConfigsResource::default()
            .with_resource_type(BROKER)
            .with_resource_name(StrBytes::from_string(broker.node_id.0.to_string()))
            .with_configuration_keys(Some(vec![StrBytes::from_static_str(MAX_TIMEOUT)]));
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        let address = (broker.host.to_string(), u16::try_from(broker.port).ok()?);
        let answer = self.ask(&address, &request).await.ok()?;
        let config = answer.results.first()?.configs.first()?;
        config.value.as_ref().map(StrBytes::to_string)
    }

    /// Asks the id's coordinator until the answer is more than "later".
    async fn coordinate<R: Api>(
        &self,
        id: &str,
        request: &R,
        code: impl Fn(&R::Response) -> i16,
    ) -> Result<(Verdict, R::Response), ConnectorError> {
        let patience = self.patience();
        let backoff = self.settings.producer.send.retry_backoff;
        loop {
            let (pause, reason) = match self.ask_coordinator(id, request).await {
                Ok(answer) => {
                    let found = code(&answer);
                    let reason =
                        || ResponseError::try_from_code(found).map_or(String::new(), |code| code.to_string());
                    match verdict(found) {
                        Verdict::Again => (BUSY_PAUSE, reason()),
                        Verdict::Elsewhere => {
                            self.found.lock().await.remove(id);
                            (backoff, reason())
                        }
                        answered => return Ok((answered, answer)),
                    }
                }
                Err(Unanswered::Call(CallError::TooOld { address, .. })) => {
                    return Err(failure::without_transactions(&self.settings, &address));
                }
                Err(Unanswered::Refused(code)) => {
                    return Err(failure::transaction_refused(&self.settings, id, code));
                }
                Err(Unanswered::Call(error)) => {
                    self.found.lock().await.remove(id);
                    (backoff, error.to_string())
                }
                Err(Unanswered::Unfound(reason)) => (backoff, reason),
            };
            self.pause(&patience, pause, id, &reason).await?;
        }
    }

    async fn ask_coordinator<R: Api>(&self, id: &str, request: &R) -> Result<R::Response, Unanswered> {
        let known = self.found.lock().await.get(id).cloned();
        let address = match known {
            Some(address) => address,
            None => self.find(id).await?,
        };
        self.ask(&address, request).await.map_err(Unanswered::Call)
    }

    async fn find(&self, id: &str) -> Result<Address, Unanswered> {
        let request = FindCoordinatorRequest::default()
            .with_key(StrBytes::from_string(id.to_owned()))
            .with_key_type(TRANSACTION);
        let answer = self.ask_any(&request).await.map_err(Unanswered::Call)?;
        match (verdict(answer.error_code), u16::try_from(answer.port)) {
            (Verdict::Done, Ok(port)) => {
                let address = (answer.host.to_string(), port);
                self.found.lock().await.insert(id.to_owned(), address.clone());
                Ok(address)
            }
            (Verdict::Refused(code) | Verdict::NotOpen(code), _) => Err(Unanswered::Refused(code)),
            _ => Err(Unanswered::Unfound("there is no coordinator yet".to_owned())),
        }
    }

    /// Asks the next of the servers that the user gave.
    async fn ask_any<R: Api>(&self, request: &R) -> Result<R::Response, CallError> {
        let servers = &self.settings.bootstrap;
        let next = self.bootstraps.load(Ordering::Relaxed) % servers.len();
        let answer = self.ask(&servers[next], request).await;
        if answer.is_err() {
            self.bootstraps.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    async fn ask<R: Api>(&self, address: &Address, request: &R) -> Result<R::Response, CallError> {
        let known = self.connections.lock().await.get(address).cloned();
        let connection = match known {
            Some(connection) => connection,
            None => {
                let rules = &self.settings.producer.network;
                let connection = Arc::new(Connection::open(&address.0, address.1, rules).await?);
                let mut connections = self.connections.lock().await;
                connections.insert(address.clone(), Arc::clone(&connection));
                connection
            }
        };
        let answer = match connection.call(request) {
            Ok(answer) => answer.await,
            Err(error) => Err(error),
        };
        if matches!(answer, Err(CallError::Closed { .. } | CallError::TimedOut { .. })) {
            self.connections
                .lock()
                .await
                .retain(|_, other| !Arc::ptr_eq(other, &connection));
        }
        answer
    }

    fn patience(&self) -> Patience {
        Patience {
            deadline: Instant::now() + self.settings.producer.send.delivery_timeout,
        }
    }

    async fn pause(
        &self,
        patience: &Patience,
        pause: Duration,
        id: &str,
        reason: &str,
    ) -> Result<(), ConnectorError> {
        if Instant::now() + pause >= patience.deadline {
            return Err(failure::transaction_unanswered(&self.settings, id, reason));
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// Why a coordinator gave no answer.
enum Unanswered {
    Call(CallError),
    Unfound(String),
    Refused(ResponseError),
}

fn transactional_id(id: &str) -> TransactionalId {
    TransactionalId(StrBytes::from_string(id.to_owned()))
}

fn topic_name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

/// The first error of any partition but those that say that another one had an error.
fn added_code(answer: &AddPartitionsToTxnResponse) -> i16 {
    let skipped = ResponseError::OperationNotAttempted.code();
    let topics = answer.results_by_topic_v3_and_below.iter();
    topics
        .flat_map(|topic| &topic.results_by_partition)
        .map(|partition| partition.partition_error_code)
        .filter(|code| *code != 0)
        .min_by_key(|code| *code == skipped)
        .unwrap_or_default()
}

fn view_of(answer: &FetchResponse) -> Result<LogView, String> {
    let partition = answer
        .responses
        .first()
        .and_then(|topic| topic.partitions.first())
        .ok_or_else(|| match ResponseError::try_from_code(answer.error_code) {
            Some(code) => code.to_string(),
            None => "a fetch was answered without the partition".to_owned(),
        })?;
    let out_of_range = match ResponseError::try_from_code(partition.error_code) {
        None => false,
        Some(ResponseError::OffsetOutOfRange) => true,
        Some(code) => return Err(code.to_string()),
    };
    let aborted = partition.aborted_transactions.iter().flatten();
    Ok(LogView {
        out_of_range,
        last_stable_offset: partition.last_stable_offset,
        aborted: aborted
            .map(|aborted| (aborted.producer_id.0, aborted.first_offset))
            .collect(),
        first: partition.records.as_deref().and_then(batch_head),
    })
}
