//! The subpartitions of this process, made by whoever comes first: tasks are deployed in any order.
//!
//! A subpartition stays here until both sides have found each other and the producer ended, or until somebody has
//! waited long enough for the other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use thalweg_types::ExecutionId;
use tokio::runtime::Handle;

use crate::channel::{ChannelId, ChannelWriter};
use crate::error::ExchangeError;
use crate::local::{Consumer, Subpartition};
use crate::ready::lock;

type OfProducer = HashMap<(u32, u32), Arc<Subpartition>>;

/// See the module.
#[derive(Debug)]
pub(crate) struct Registry {
    producers: Mutex<HashMap<ExecutionId, OfProducer>>,
    io: Handle,
    /// How long an ended or released subpartition waits for its consumer.
    retention: Duration,
}

impl Registry {
    pub(crate) fn new(io: Handle, retention: Duration) -> Arc<Self> {
        Arc::new(Self {
            producers: Mutex::default(),
            io,
            retention,
        })
    }

    /// Declares what an execution writes to one edge.
    pub(crate) fn declare(
        self: &Arc<Self>,
        producer: ExecutionId,
        edge: u32,
        subpartitions: u32,
    ) -> Result<Vec<ChannelWriter>, ExchangeError> {
        (0..subpartitions)
            .map(|subpartition| {
                let channel = ChannelId {
                    producer,
                    edge,
                    subpartition,
                };
                let subpartition = self.get_or_create(channel);
                subpartition.declare()?;
                Ok(ChannelWriter::new(subpartition, self.clone()))
            })
            .collect()
    }

    /// Attaches a consumer; if the producer isn't there within `wait` the consumer is told.
    pub(crate) fn attach(
        self: &Arc<Self>,
        channel: ChannelId,
        consumer: Consumer,
        window: usize,
        wait: Duration,
    ) -> Result<Arc<Subpartition>, ExchangeError> {
        let subpartition = self.get_or_create(channel);
        if !subpartition.attach(consumer, window) {
            return Err(ExchangeError::PartitionTaken { channel });
        }
        if subpartition.is_absent() {
            self.later(&subpartition, wait, |registry, subpartition| {
                if subpartition.give_up_waiting() {
                    registry.remove(subpartition);
                    subpartition.notify_consumer();
                }
            });
        } else if subpartition.has_ended() || subpartition.gone().is_some() {
            self.remove(&subpartition); // kept for this consumer only
        }
        Ok(subpartition)
    }

    /// All that an execution writes has ended, or was canceled.
    pub(crate) fn release(self: &Arc<Self>, producer: ExecutionId) {
        let subpartitions: Vec<_> = lock(&self.producers)
            .get(&producer)
            .map(|all| all.values().cloned().collect())
            .unwrap_or_default();
        for subpartition in subpartitions {
            self.retire(&subpartition);
        }
    }

    /// The producer of one subpartition is done with it.
    pub(crate) fn retire(self: &Arc<Self>, subpartition: &Arc<Subpartition>) {
        subpartition.release();
        if !subpartition.is_attached() {
            // Its consumer may still be on its way: to what was sent, or to the news that nothing will be.
            self.later(subpartition, self.retention, |registry, subpartition| {
                registry.remove(subpartition);
            });
            if subpartition.is_attached() {
                self.remove(subpartition);
            }
        } else {
            self.remove(subpartition);
        }
    }

    fn get_or_create(&self, channel: ChannelId) -> Arc<Subpartition> {
        let mut producers = lock(&self.producers);
        let of_producer = producers.entry(channel.producer).or_default();
        let key = (channel.edge, channel.subpartition);
        of_producer
            .entry(key)
            .or_insert_with(|| Subpartition::new(channel))
            .clone()
    }

    fn remove(&self, subpartition: &Arc<Subpartition>) {
        let ChannelId {
            producer,
            edge,
            subpartition: index,
        } = subpartition.id;
        let mut producers = lock(&self.producers);
        let Some(of_producer) = producers.get_mut(&producer) else {
            return;
        };
        if of_producer
            .get(&(edge, index))
            .is_some_and(|held| Arc::ptr_eq(held, subpartition))
        {
            of_producer.remove(&(edge, index));
        }
        if of_producer.is_empty() {
            producers.remove(&producer);
        }
    }

    /// Does something after a while, if the subpartition still exists by then.
    fn later(
        self: &Arc<Self>,
        subpartition: &Arc<Subpartition>,
        after: Duration,
        then: impl Fn(&Self, &Arc<Subpartition>) + Send + 'static,
    ) {
        let registry = Arc::downgrade(self);
        let subpartition = Arc::downgrade(subpartition);
        self.io.spawn(async move {
            tokio::time::sleep(after).await;
            if let (Some(registry), Some(subpartition)) = (registry.upgrade(), subpartition.upgrade()) {
                then(&registry, &subpartition);
            }
        });
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        lock(&self.producers).values().map(HashMap::len).sum()
    }
}
