//! The producer's I/O: one task a writer, that looks up the topic, connects to its leaders, sends and hears.
//!
//! ```text
//!   look up the topic -> connect to leaders -> ask for an identity -> send what is due --.
//!        ^                                                                                |
//!        '---- an answer, a connection, new batches, or a time that has come <-- wait <---'
//! ```
//!
//! What to send and what an answer means is [`Sender`]'s. Whatever is asked is a future in `calls`; nothing is waited for elsewhere.

mod answers;
mod transactions;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::TryFutureExt;
use futures::future::{BoxFuture, ready};
use futures::stream::{FuturesUnordered, StreamExt};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    InitProducerIdRequest, InitProducerIdResponse, MetadataRequest, MetadataResponse, ProduceRequest,
    ProduceResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use self::transactions::{Commits, TransactionEvent, Transactions};
use super::accumulator::Refusal;
use super::config::Acks;
use super::connection::{CallError, Connection};
use super::failure::{identity_error, row_error, send_error};
use super::handover::Handover;
use super::metadata;
use super::sender::{BrokerId, Entry, Sender};
use super::transaction::Recovery;
use crate::ConnectorError;
use crate::kafka::client::unreachable_brokers;
use crate::kafka::sink::SinkSettings;

/// Something that was asked has come to an end.
enum Event {
    Topic(Result<MetadataResponse, CallError>),
    Connected(BrokerId, Result<Connection, CallError>),
    Identity(Link, Result<InitProducerIdResponse, CallError>),
    Produced(
        Link,
        Vec<(usize, u64)>,
        Result<Option<ProduceResponse>, CallError>,
    ),
    Transaction(TransactionEvent),
}

/// One connection to a broker, told apart from those before and after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Link {
    broker: BrokerId,
    number: u64,
}

enum Reach {
    /// Not before this time.
    Down {
        from: Instant,
    },
    Connecting,
    Up(Link, Connection),
}

struct Broker {
    address: (String, u16),
    reach: Reach,
    /// Attempts to connect without success.
    failures: u32,
}

/// What is known of the topic, and when it is asked again.
struct TopicView {
    leaders: Vec<Option<BrokerId>>,
    asking: bool,
    due: Instant,
    missing_since: Option<Instant>,
}

/// See the module.
pub(crate) struct Driver {
    settings: Arc<SinkSettings>,
    handover: Arc<Handover>,
    sender: Sender,
    transactions: Option<Transactions>,
    commits: Commits,
    brokers: BTreeMap<BrokerId, Broker>,
    topic: TopicView,
    asking_identity: bool,
    identity_due: Instant,
    calls: FuturesUnordered<BoxFuture<'static, Event>>,
    started: Instant,
    links: u64,
    bootstraps: usize,
    complaint: Option<String>,
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Counts only if nothing else was said: then the I/O was ended from outside.
        self.handover.fail(ConnectorError::Unavailable(
            "the Kafka sink's I/O ended without a reason".to_owned(),
        ));
    }
}

impl Driver {
    /// `recovery`: what the job that was before this one may have left.
    pub(crate) fn new(
        settings: Arc<SinkSettings>,
        handover: Arc<Handover>,
        recovery: Recovery,
        now: Instant,
    ) -> Self {
        let rules = settings.producer.send.clone();
        let transactions = settings
            .transactions
            .as_ref()
            .map(|transactions| Transactions::new(&transactions.prefix, &recovery));
        let sender = match transactions {
            Some(_) => Sender::transactional(rules),
            None => Sender::new(rules),
        };
        Self {
            sender,
            commits: Commits::new(Arc::clone(&settings), recovery),
            transactions,
            settings,
            handover,
            brokers: BTreeMap::new(),
            topic: TopicView {
                leaders: Vec::new(),
                asking: false,
                due: now,
                missing_since: None,
            },
            asking_identity: false,
            identity_due: now,
            calls: FuturesUnordered::new(),
            started: now,
            links: 0,
            bootstraps: 0,
            complaint: None,
        }
    }

    /// Until the writer is gone or there is a failure.
    pub(crate) async fn run(mut self) {
        let Err(error) = self.serve().await;
        self.handover.fail(error);
    }

    async fn serve(&mut self) -> Result<Infallible, ConnectorError> {
        let handover = Arc::clone(&self.handover);
        loop {
            let now = Instant::now();
            self.look_up_topic(now)?;
            self.connect_to_leaders(now);
            self.ask_identity(now)?;
            self.commit();
            self.prepare_transactions();
            let wake_at = self.send(now)?;
            tokio::select! {
                Some(event) = self.calls.next() => self.handle(event, Instant::now())?,
                () = handover.work() => {}
                () = tokio::time::sleep_until(wake_at.into()) => {}
            }
        }
    }

    fn look_up_topic(&mut self, now: Instant) -> Result<(), ConnectorError> {
        let timeout = self.settings.connect_timeout;
        if self.topic.leaders.is_empty() && now >= self.started + timeout {
            let reason = self.complaint.as_deref().unwrap_or("no answer");
            return Err(unreachable_brokers(&self.settings.servers, timeout, reason));
        }
        if self.topic.asking || now < self.topic.due {
            return Ok(());
        }
        let request = metadata::request(&self.settings.topic);
        let up = self.brokers.values().find_map(|broker| match &broker.reach {
            Reach::Up(_, connection) => Some(connection),
            _ => None,
        });
        let call = match up {
            Some(connection) => match connection.call(&request) {
                Ok(answer) => answer.map(Event::Topic).boxed(),
                Err(error) => ready(Event::Topic(Err(error))).boxed(),
            },
            None => self.ask_bootstrap(request),
        };
        self.topic.asking = true;
        self.calls.push(call);
        Ok(())
    }

    /// Asks the next of the servers that the user gave.
    fn ask_bootstrap(&mut self, request: MetadataRequest) -> BoxFuture<'static, Event> {
        let servers = &self.settings.bootstrap;
        let (host, port) = servers[self.bootstraps % servers.len()].clone();
        self.bootstraps += 1;
        let settings = Arc::clone(&self.settings);
        async move {
            let answer = async {
                let connection = Connection::open(&host, port, &settings.producer.network).await?;
                connection.call(&request)?.await
            };
            Event::Topic(answer.await)
        }
        .boxed()
    }

    fn connect_to_leaders(&mut self, now: Instant) {
        for (id, broker) in &mut self.brokers {
            let down = matches!(broker.reach, Reach::Down { from } if from <= now);
            if !down || !self.topic.leaders.contains(&Some(*id)) {
                continue;
            }
            let (id, settings) = (*id, Arc::clone(&self.settings));
            let (host, port) = broker.address.clone();
            broker.reach = Reach::Connecting;
            self.calls.push(
                async move {
                    Event::Connected(
                        id,
                        Connection::open(&host, port, &settings.producer.network).await,
                    )
                }
                .boxed(),
            );
        }
    }

    fn ask_identity(&mut self, now: Instant) -> Result<(), ConnectorError> {
        if !self.sender.needs_identity() || self.asking_identity || now < self.identity_due {
            return Ok(());
        }
        let up = self.brokers.values().find_map(|broker| match &broker.reach {
            Reach::Up(link, connection) => Some((*link, connection)),
            _ => None,
        });
        let Some((link, connection)) = up else {
            return Ok(());
        };
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(i32::MAX);
        match connection.call(&request) {
            Ok(answer) => {
                self.asking_identity = true;
                self.calls
                    .push(answer.map(move |answer| Event::Identity(link, answer)).boxed());
                Ok(())
            }
            Err(error @ CallError::TooOld { .. }) => Err(identity_error(&self.settings, &error.to_string())),
            Err(error) => {
                self.broken(link, &error, now);
                Ok(())
            }
        }
    }

    /// Sends all that is due; when to look again.
    fn send(&mut self, now: Instant) -> Result<Instant, ConnectorError> {
        let handover = Arc::clone(&self.handover);
        let (mut requests, mut wanted) = (Vec::new(), Vec::new());
        let wake_at = {
            let mut state = handover.lock();
            let flushing = state.flushing;
            if let Some(failure) = self.sender.expired(&state.batches, now) {
                state.send_errors += 1;
                return Err(send_error(&self.settings, &failure, self.complaint.as_deref()));
            }
            let open = transactions::open(
                &mut self.transactions,
                &mut self.sender,
                &mut state,
                &self.settings.topic,
            );
            if open && self.transactions.is_some() {
                wanted = self.sender.wanted(&state.batches, now, flushing);
            }
            for (id, broker) in self.brokers.iter().filter(|_| open) {
                if let Reach::Up(link, _) = broker.reach {
                    while let Some(entries) = self
                        .sender
                        .request(*id, &mut state.batches, now, flushing)
                        .map_err(|error| row_error(&self.settings, &Refusal::Compression(error)))?
                    {
                        requests.push((link, entries));
                    }
                }
            }
            let reachable = |id| {
                matches!(
                    self.brokers.get(&id),
                    Some(Broker {
                        reach: Reach::Up(..),
                        ..
                    })
                )
            };
            let due = if open {
                self.sender.wake_at(&state.batches, now, flushing, reachable)
            } else {
                self.sender.deadline(&state.batches)
            };
            let wake_at = due.into_iter().chain(self.timers()).min();
            let wake_at = wake_at.unwrap_or_else(|| now + Duration::from_secs(60));
            state.looks_at = Some(wake_at);
            wake_at
        };
        self.add_partitions(wanted);
        for (link, entries) in requests {
            self.produce(link, entries, now)?;
        }
        Ok(wake_at)
    }

    /// When something besides batches is due.
    fn timers(&self) -> impl Iterator<Item = Instant> {
        let topic = (!self.topic.asking).then_some(self.topic.due);
        let start = self
            .topic
            .leaders
            .is_empty()
            .then(|| self.started + self.settings.connect_timeout);
        let identity = (self.sender.needs_identity() && !self.asking_identity).then_some(self.identity_due);
        let connects = self.brokers.iter().filter_map(|(id, broker)| match broker.reach {
            Reach::Down { from } if self.topic.leaders.contains(&Some(*id)) => Some(from),
            _ => None,
        });
        // without a connection there is nobody to ask for an identity
        let up = self
            .brokers
            .values()
            .any(|broker| matches!(broker.reach, Reach::Up(..)));
        let identity = identity.filter(|_| up);
        [topic, start, identity].into_iter().flatten().chain(connects)
    }

    fn produce(&mut self, link: Link, entries: Vec<Entry>, now: Instant) -> Result<(), ConnectorError> {
        let ids = entries
            .iter()
            .map(|entry| (entry.partition, entry.id))
            .collect::<Vec<_>>();
        let partitions = entries.into_iter().map(|entry| {
            PartitionProduceData::default()
                .with_index(entry.partition as i32)
                .with_records(Some(entry.bytes))
        });
        let topic = TopicProduceData::default()
            .with_name(TopicName(StrBytes::from_string(self.settings.topic.clone())))
            .with_partition_data(partitions.collect());
        let acks = self.settings.producer.acks;
        let timeout = self.settings.producer.network.request_timeout;
        let transactions = self.transactions.as_ref();
        let request = ProduceRequest::default()
            .with_transactional_id(transactions.and_then(Transactions::wire_id))
            .with_acks(acks.code())
            .with_timeout_ms(timeout.as_millis() as i32)
            .with_topic_data(vec![topic]);
        let connection = match self.brokers.get(&link.broker).map(|broker| &broker.reach) {
            Some(Reach::Up(current, connection)) if *current == link => connection,
            // it broke with a request before this one
            _ => return self.forget(link, &ids, "the connection was closed", now),
        };
        let answer = match acks {
            Acks::None => connection
                .tell(&request)
                .map(|written| written.map_ok(|()| None).boxed()),
            _ => connection
                .call(&request)
                .map(|answer| answer.map_ok(Some).boxed()),
        };
        match answer {
            Ok(answer) => {
                self.calls.push(
                    answer
                        .map(move |answer| Event::Produced(link, ids, answer))
                        .boxed(),
                );
                Ok(())
            }
            Err(error) => {
                self.broken(link, &error, now);
                self.forget(link, &ids, &error.to_string(), now)
            }
        }
    }
}

#[cfg(test)]
mod tests;
