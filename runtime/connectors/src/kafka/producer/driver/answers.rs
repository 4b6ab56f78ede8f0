//! What the driver does with what it hears.

use std::collections::HashMap;
use std::time::Instant;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{InitProducerIdResponse, MetadataResponse, ProduceResponse};

use super::{Broker, Driver, Event, Link, Reach};
use crate::ConnectorError;
use crate::kafka::client::{TOPIC_GRACE, missing};
use crate::kafka::producer::connection::{CallError, Connection};
use crate::kafka::producer::failure::{identity_error, send_error, topic_error};
use crate::kafka::producer::metadata::{self, Topic, Unseen};
use crate::kafka::producer::record_batch::ProducerIdentity;
use crate::kafka::producer::sender::{BrokerId, Completion};

impl Driver {
    pub(super) fn handle(&mut self, event: Event, now: Instant) -> Result<(), ConnectorError> {
        match event {
            Event::Topic(answer) => self.topic_seen(answer, now),
            Event::Connected(broker, answer) => {
                self.connected(broker, answer, now);
                Ok(())
            }
            Event::Identity(link, answer) => self.identified(link, answer, now),
            Event::Transaction(event) => self.transaction_event(event),
            Event::Produced(link, batches, answer) => self.produced(link, &batches, answer, now),
        }
    }

    fn topic_seen(
        &mut self,
        answer: Result<MetadataResponse, CallError>,
        now: Instant,
    ) -> Result<(), ConnectorError> {
        let what = format!("topic {:?}", self.settings.topic);
        self.topic.asking = false;
        self.topic.due = now + self.settings.producer.send.retry_backoff;
        let answer = match answer {
            Ok(answer) => metadata::topic_of(&answer),
            Err(error) => Err(Unseen::Again(error.to_string())),
        };
        match answer {
            Ok(topic) => self.follow(topic, now),
            Err(Unseen::Missing) => {
                let since = *self.topic.missing_since.get_or_insert(now);
                if now >= since + TOPIC_GRACE.min(self.settings.connect_timeout) {
                    return Err(missing(&what, &self.settings.servers));
                }
                self.complaint = Some(format!("{what} is unknown"));
            }
            Err(Unseen::Again(reason)) => self.complaint = Some(reason),
            Err(Unseen::Refused(code)) => return Err(topic_error(&self.settings, code)),
        }
        Ok(())
    }

    fn follow(&mut self, topic: Topic, now: Instant) {
        self.topic.missing_since = None;
        if topic.leaders.iter().all(Option::is_some) {
            self.topic.due = now + self.settings.producer.network.metadata_max_age;
        } else {
            self.complaint = Some("a partition has no leader".to_owned());
        }
        self.brokers.retain(|id, _| topic.brokers.contains_key(id));
        for (id, address) in topic.brokers {
            let known = self
                .brokers
                .get(&id)
                .is_some_and(|broker| broker.address == address);
            if !known {
                let reach = Reach::Down { from: now };
                self.brokers.insert(
                    id,
                    Broker {
                        address,
                        reach,
                        failures: 0,
                    },
                );
            }
        }
        self.sender.lead(&topic.leaders);
        let count = topic.leaders.len();
        self.topic.leaders = topic.leaders;
        let task = self.handover.lock().partitions(count);
        if let Some(task) = task {
            task.wake();
        }
    }

    fn connected(&mut self, id: BrokerId, answer: Result<Connection, CallError>, now: Instant) {
        let Some(broker) = self.brokers.get_mut(&id) else {
            return;
        };
        match answer {
            Ok(connection) => {
                self.links += 1;
                let link = Link {
                    broker: id,
                    number: self.links,
                };
                broker.failures = 0;
                broker.reach = Reach::Up(link, connection);
            }
            Err(error) => {
                let network = &self.settings.producer.network;
                let pause = network.reconnect_backoff * 2_u32.saturating_pow(broker.failures.min(16));
                broker.failures += 1;
                broker.reach = Reach::Down {
                    from: now + pause.min(network.reconnect_backoff_max),
                };
                self.complaint = Some(error.to_string());
                self.doubt_leaders(now);
            }
        }
    }

    fn identified(
        &mut self,
        link: Link,
        answer: Result<InitProducerIdResponse, CallError>,
        now: Instant,
    ) -> Result<(), ConnectorError> {
        self.asking_identity = false;
        self.identity_due = now + self.settings.producer.send.retry_backoff;
        match answer.map(|answer| (ResponseError::try_from_code(answer.error_code), answer)) {
            Ok((None, answer)) => self.sender.identify(ProducerIdentity {
                id: answer.producer_id.0,
                epoch: answer.producer_epoch,
            }),
            Ok((Some(code), _)) if code.is_retriable() => self.complaint = Some(code.to_string()),
            Ok((Some(code), _)) => return Err(identity_error(&self.settings, &code.to_string())),
            Err(error) => self.broken(link, &error, now),
        }
        Ok(())
    }

    fn produced(
        &mut self,
        link: Link,
        batches: &[(usize, u64)],
        answer: Result<Option<ProduceResponse>, CallError>,
        now: Instant,
    ) -> Result<(), ConnectorError> {
        let answer = match answer {
            Ok(answer) => answer.map(|answer| codes_of(&answer)),
            Err(error) => {
                self.broken(link, &error, now);
                return self.forget(link, batches, &error.to_string(), now);
            }
        };
        self.sender.answered(link.broker);
        for (partition, id) in batches {
            let mut base_offset = -1;
            let completion = match &answer {
                // nobody was to answer
                None => self.sender.complete(*partition, *id, Ok(()), now),
                Some(codes) => match codes.get(partition) {
                    Some((code, offset)) => {
                        base_offset = *offset;
                        let code = ResponseError::try_from_code(*code);
                        if let Some(code) = code {
                            self.complaint = Some(code.to_string());
                        }
                        self.sender
                            .complete(*partition, *id, code.map_or(Ok(()), Err), now)
                    }
                    None => self
                        .sender
                        .lost(*partition, *id, "the answer leaves the partition out", now),
                },
            };
            if let Completion::Acknowledged { records, .. } = completion
                && let Some(transaction) = &mut self.handover.lock().transaction
            {
                transaction.wrote(*partition, base_offset, records);
            }
            self.completed(completion, now)?;
        }
        Ok(())
    }

    /// A request is lost: its batches are sent again.
    pub(super) fn forget(
        &mut self,
        link: Link,
        batches: &[(usize, u64)],
        reason: &str,
        now: Instant,
    ) -> Result<(), ConnectorError> {
        self.sender.answered(link.broker);
        for (partition, id) in batches {
            let completion = self.sender.lost(*partition, *id, reason, now);
            self.completed(completion, now)?;
        }
        Ok(())
    }

    fn completed(&mut self, completion: Completion, now: Instant) -> Result<(), ConnectorError> {
        match completion {
            Completion::Acknowledged { held, created, .. } => {
                let task = self
                    .handover
                    .lock()
                    .acknowledged(held, now.saturating_duration_since(created));
                if let Some(task) = task {
                    task.wake();
                }
            }
            Completion::Again { stale_leader: true } => self.doubt_leaders(now),
            Completion::Again { stale_leader: false } | Completion::Unknown => {}
            Completion::Failed(failure) => {
                self.handover.lock().send_errors += 1;
                return Err(send_error(&self.settings, &failure, self.complaint.as_deref()));
            }
        }
        Ok(())
    }

    /// The topic is looked up again soon.
    fn doubt_leaders(&mut self, now: Instant) {
        self.topic.due = self
            .topic
            .due
            .min(now + self.settings.producer.send.retry_backoff);
    }

    /// A call on this connection failed: all others on it do, and a new one is made.
    pub(super) fn broken(&mut self, link: Link, error: &CallError, now: Instant) {
        tracing::warn!(%error, "Kafka producer");
        self.complaint = Some(error.to_string());
        self.doubt_leaders(now);
        if let Some(broker) = self.brokers.get_mut(&link.broker)
            && matches!(broker.reach, Reach::Up(current, _) if current == link)
        {
            broker.reach = Reach::Down {
                from: now + self.settings.producer.network.reconnect_backoff,
            };
        }
    }
}

/// The error code of each partition, and where its batch begins.
fn codes_of(answer: &ProduceResponse) -> HashMap<usize, (i16, i64)> {
    let partitions = answer
        .responses
        .iter()
        .flat_map(|topic| &topic.partition_responses);
    partitions
        .filter_map(|partition| {
            let index = usize::try_from(partition.index).ok()?;
            Some((index, (partition.error_code, partition.base_offset)))
        })
        .collect()
}
