//! Questions about transactions to brokers: each is asked again until it is answered or `delivery.timeout.ms` is over.
//!
//! ```text
//!   any server: FindCoordinator, DescribeConfigs; all: which transactions are open (`open`)
//!   coordinator of an id: InitProducerId, AddPartitionsToTxn, EndTxn
//!   leader of a partition: Fetch, ListOffsets, when the coordinator can't say how a transaction ended (`log`)
//! ```
//!
//! The versions are those of transaction version 1, which all brokers speak, also those with transaction version 2: there a commit
//! would give the next epoch and partitions would be added by writing to them. What that protects from, a late request that
//! gets into the next transaction, can't happen here, since each transaction has an epoch of its own.

mod log;
mod open;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, DescribeConfigsRequest, EndTxnRequest,
    FindCoordinatorRequest, InitProducerIdRequest, ProducerId, TopicName, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::Mutex;

use super::connection::{Api, CallError, Connection};
use super::failure;
use super::metadata::{self, Topic, Unseen};
use super::record_batch::ProducerIdentity;
use super::transaction::{Recovery, Transaction, TransactionSettings, Verdict, verdict};
use crate::ConnectorError;
use crate::kafka::client::{TOPIC_GRACE, missing};
use crate::kafka::sink::SinkSettings;

/// Another transaction of the id is being concluded: that takes a few milliseconds.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// Below what a connection takes at once.
const ABORTS_AT_ONCE: usize = 4;
/// Kinds of coordinators and of configurations, as the protocol numbers them.
const TRANSACTION: i8 = 1;
const BROKER: i8 = 4;
/// As brokers answer about a topic that is deleted.
const UNKNOWN_TOPIC: i16 = 3;
const NO_COORDINATOR: &str = "there is no transaction coordinator: has the topic `__transaction_state` the brokers that \
                              `transaction.state.log.replication.factor` and `transaction.state.log.min.isr` ask for?";
const MAX_TIMEOUT: &str = "transaction.max.timeout.ms";

type Address = (String, u16);

/// What became of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Concluded {
    pub(crate) id: String,
    /// Who wrote last under the id.
    pub(crate) identity: ProducerIdentity,
    /// Its records will never be seen, and the user wants to go on without them.
    pub(crate) lost: bool,
}

/// Speaks to the coordinators of one writer's transactions.
pub(crate) struct Coordinator {
    settings: Arc<SinkSettings>,
    transactions: TransactionSettings,
    connections: Mutex<HashMap<Address, Arc<Connection>>>,
    found: Mutex<HashMap<String, Address>>,
    bootstraps: AtomicUsize,
    started: Instant,
}

/// Time for one question and its repetitions.
struct Patience {
    deadline: Instant,
    /// Nothing is asked behind it, also not the first time.
    hard: bool,
}

impl Patience {
    /// Whether there is no time left for another try after a pause.
    fn is_over(&self, pause: Duration) -> bool {
        Instant::now() + pause >= self.deadline
    }
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
            started: Instant::now(),
        }
    }

    /// Aborts what is open and nobody's any more, also what a writer has open that has not noticed its end: it is fenced. Then claims
    /// these ids.
    pub(crate) async fn recover(
        &self,
        recovery: &Recovery,
        claimed: Vec<String>,
    ) -> Result<Vec<(String, ProducerIdentity)>, ConnectorError> {
        let claim = |id: String| async { self.claim(&id).await.map(|identity| (id, identity)) };
        let left = self.open_transactions().await?.into_iter();
        let left = left.filter(|id| recovery.aborts(id)).inspect(|id| {
            tracing::info!(transaction = id, "Kafka transaction left open is aborted");
        });
        // a few at a time
        for some in left.collect::<Vec<_>>().chunks(ABORTS_AT_ONCE) {
            try_join_all(some.iter().cloned().map(claim)).await?;
        }
        try_join_all(claimed.into_iter().map(claim)).await
    }

    /// [`Self::begin`], whoever has had the id, but not later than the start allows.
    async fn claim(&self, id: &str) -> Result<ProducerIdentity, ConnectorError> {
        let patience = Patience {
            deadline: self.started + self.settings.connect_timeout,
            hard: true,
        };
        self.identify(id, ProducerIdentity::NONE, patience).await
    }

    /// A new identity for the id; what is open under it is aborted, and its older identities are fenced. With `last` only if nobody
    /// else has had one since: a writer that was replaced and doesn't know it takes nothing from the one that replaced it.
    pub(crate) async fn begin(
        &self,
        id: &str,
        last: Option<ProducerIdentity>,
    ) -> Result<ProducerIdentity, ConnectorError> {
        let last = last.unwrap_or(ProducerIdentity::NONE);
        self.identify(id, last, self.patience()).await
    }

    async fn identify(
        &self,
        id: &str,
        last: ProducerIdentity,
        patience: Patience,
    ) -> Result<ProducerIdentity, ConnectorError> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(transactional_id(id)))
            .with_transaction_timeout_ms(self.transactions.timeout_ms)
            .with_producer_id(ProducerId(last.id))
            .with_producer_epoch(last.epoch);
        let (verdict, answer) = self
            .coordinate(id, &request, |answer| answer.error_code, patience)
            .await?;
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
        let (verdict, _) = self.coordinate(id, &request, added_code, self.patience()).await?;
        match verdict {
            Verdict::NotOpen(code) => Err(failure::fenced(&self.settings, Some(id), code)),
            Verdict::Refused(code) => Err(failure::transaction_refused(&self.settings, id, code)),
            Verdict::Done | Verdict::Again | Verdict::Elsewhere => Ok(()),
        }
    }

    /// Commits what was prepared, whoever prepared it; harmless if that was done before. An error if the brokers have aborted it, or
    /// [`Concluded::lost`]. `inherited`: of an earlier attempt, which may have opened another one under the id since; that is aborted.
    pub(crate) async fn commit(
        &self,
        prepared: &Transaction,
        inherited: bool,
    ) -> Result<Concluded, ConnectorError> {
        let identity = prepared.identity();
        let request = EndTxnRequest::default()
            .with_transactional_id(transactional_id(&prepared.id))
            .with_producer_id(ProducerId(identity.id))
            .with_producer_epoch(identity.epoch)
            .with_committed(true);
        let (verdict, _) = self
            .coordinate(
                &prepared.id,
                &request,
                |answer| answer.error_code,
                self.patience(),
            )
            .await?;
        let concluded = |identity, lost| Concluded {
            id: prepared.id.clone(),
            identity,
            lost,
        };
        match verdict {
            Verdict::Done | Verdict::Again | Verdict::Elsewhere => Ok(concluded(identity, false)),
            Verdict::Refused(code) => Err(failure::transaction_refused(&self.settings, &prepared.id, code)),
            Verdict::NotOpen(code) => {
                let identity = match inherited {
                    true => self.claim(&prepared.id).await?,
                    false => identity,
                };
                Ok(concluded(identity, self.ended(prepared, code).await?))
            }
        }
    }

    async fn leader(&self, topic: &str, partition: i32) -> Result<Address, String> {
        let Topic { leaders, brokers } = self.topic(topic).await.map_err(|unseen| match unseen {
            Unseen::Missing => format!("topic {topic:?} is unknown"),
            Unseen::Again(reason) => reason,
            Unseen::Refused(code) => code.to_string(),
        })?;
        usize::try_from(partition)
            .ok()
            .and_then(|index| leaders.get(index).copied().flatten())
            .and_then(|leader| brokers.get(&leader).cloned())
            .ok_or_else(|| format!("topic {topic:?} partition {partition} has no leader"))
    }

    async fn topic(&self, topic: &str) -> Result<Topic, Unseen> {
        let answer = self
            .ask_any(&metadata::request(topic))
            .await
            .map_err(|error| Unseen::Again(error.to_string()))?;
        metadata::topic_of(&answer)
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
        patience: Patience,
    ) -> Result<(Verdict, R::Response), ConnectorError> {
        let backoff = self.settings.producer.send.retry_backoff;
        let mut missing_since = None;
        let mut last = "no time was left".to_owned();
        loop {
            if patience.hard && patience.is_over(Duration::ZERO) {
                return Err(failure::too_late(&self.settings, id, &last));
            }
            let (pause, reason) = match self.ask_coordinator(id, request).await {
                Ok(answer) => {
                    let found = code(&answer);
                    let reason =
                        || ResponseError::try_from_code(found).map_or(String::new(), |code| code.to_string());
                    match verdict(found) {
                        Verdict::Again if found == UNKNOWN_TOPIC => {
                            self.check_topic(&mut missing_since).await?;
                            (backoff, reason())
                        }
                        Verdict::Again => (BUSY_PAUSE.min(backoff), reason()),
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
            last = reason;
        }
    }

    /// A coordinator doesn't know the topic: an error if it stays unknown.
    async fn check_topic(&self, missing_since: &mut Option<Instant>) -> Result<(), ConnectorError> {
        let settings = &self.settings;
        if self.topic(&settings.topic).await == Err(Unseen::Missing) {
            let since = *missing_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= TOPIC_GRACE.min(settings.connect_timeout) {
                return Err(missing(&format!("topic {:?}", settings.topic), &settings.servers));
            }
        } else {
            *missing_since = None;
        }
        Ok(())
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
            _ => Err(Unanswered::Unfound(NO_COORDINATOR.to_owned())),
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
            hard: false,
        }
    }

    async fn pause(
        &self,
        patience: &Patience,
        pause: Duration,
        id: &str,
        reason: &str,
    ) -> Result<(), ConnectorError> {
        if patience.is_over(pause) {
            return Err(match patience.hard {
                true => failure::too_late(&self.settings, id, reason),
                false => failure::transaction_unanswered(&self.settings, id, reason),
            });
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
