//! Which transactions are open in the cluster.
//!
//! ```text
//!   Metadata of __transaction_state --> the leader of each partition
//!   DescribeTransactions of a name in each partition --every leader has read its partitions--> ListTransactions, of all brokers
//! ```
//!
//! A broker lists what it has read. One that has just started leads its partitions a moment before it begins to read them, and lists nothing
//! until then, as if there was nothing: so a list counts only behind an answer about each partition.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{DescribeTransactionsRequest, ListTransactionsRequest, TransactionalId};
use kafka_protocol::protocol::StrBytes;

use super::{Address, Coordinator};
use crate::ConnectorError;
use crate::kafka::producer::connection::CallError;
use crate::kafka::producer::failure;
use crate::kafka::producer::metadata::{self, Topic, Unseen};

/// Where coordinators keep transactions.
const TRANSACTIONS: &str = "__transaction_state";

impl Coordinator {
    /// Ids of all transactions that are open in the cluster: each broker knows some.
    pub(super) async fn open_transactions(&self) -> Result<BTreeSet<String>, ConnectorError> {
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
        let found = self.ask_any(&metadata::request(TRANSACTIONS)).await?;
        match metadata::topic_of(&found) {
            Ok(topic) => self.await_coordinators(&topic).await?,
            // Nobody has ever begun one.
            Err(Unseen::Missing) => {}
            Err(Unseen::Again(reason)) => return Err(unfinished(TRANSACTIONS, reason)),
            Err(Unseen::Refused(code)) => return Err(unfinished(TRANSACTIONS, code.to_string())),
        }
        let brokers = found.brokers.iter().filter_map(|broker| {
            let port = u16::try_from(broker.port).ok()?;
            Some((broker.host.to_string(), port))
        });
        let request =
            ListTransactionsRequest::default().with_state_filters(vec![StrBytes::from_static_str("Ongoing")]);
        let mut ids = BTreeSet::new();
        for address in brokers.collect::<Vec<_>>() {
            let answer = self.ask(&address, &request).await?;
            if let Some(code) = ResponseError::try_from_code(answer.error_code) {
                return Err(unfinished(&address.0, code.to_string()));
            }
            let listed = answer.transaction_states.into_iter();
            ids.extend(listed.map(|transaction| transaction.transactional_id.to_string()));
        }
        Ok(ids)
    }

    /// An error while a leader hasn't read all of its partitions.
    async fn await_coordinators(&self, topic: &Topic) -> Result<(), CallError> {
        let mut asked: BTreeMap<&Address, Vec<TransactionalId>> = BTreeMap::new();
        let names = name_in_each(&self.transactions.prefix, topic.leaders.len());
        for (partition, (leader, name)) in topic.leaders.iter().zip(names).enumerate() {
            let address = leader.and_then(|leader| topic.brokers.get(&leader));
            let address = address
                .ok_or_else(|| unfinished(TRANSACTIONS, format!("partition {partition} has no leader")))?;
            asked
                .entry(address)
                .or_default()
                .push(TransactionalId(StrBytes::from_string(name)));
        }
        for (address, names) in asked {
            let request = DescribeTransactionsRequest::default().with_transactional_ids(names);
            let answer = self.ask(address, &request).await?;
            let codes = answer.transaction_states.iter();
            let mut codes = codes.filter_map(|state| ResponseError::try_from_code(state.error_code));
            if let Some(code) = codes.find(|code| code.is_retriable()) {
                return Err(unfinished(&address.0, code.to_string()));
            }
        }
        Ok(())
    }
}

fn unfinished(address: &str, reason: String) -> CallError {
    CallError::Closed {
        address: address.to_owned(),
        reason,
    }
}

/// For each of so many partitions a name that is kept there; nobody uses them.
fn name_in_each(prefix: &str, partitions: usize) -> Vec<String> {
    let mut names = vec![None; partitions];
    let mut missing = partitions;
    for number in 0_u64.. {
        if missing == 0 {
            break;
        }
        let name = format!("{prefix}-probe-{number}");
        let place = &mut names[partition_of(&name, partitions)];
        if place.is_none() {
            *place = Some(name);
            missing -= 1;
        }
    }
    names.into_iter().flatten().collect()
}

/// As coordinators divide names: Java's hash of the text, without its sign.
fn partition_of(name: &str, partitions: usize) -> usize {
    let hash = name.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    // Kafka's Utils.abs.
    let positive = if hash == i32::MIN { 0 } else { hash.abs() };
    positive as usize % partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_divided_as_brokers_do() {
        // "hello".hashCode() is 99162322, "polygenelubricants".hashCode() is Integer.MIN_VALUE.
        assert_eq!(partition_of("hello", 50), 22);
        assert_eq!(partition_of("polygenelubricants", 50), 0);
    }

    #[test]
    fn there_is_a_name_for_each_partition() {
        let names = name_in_each("job", 50);
        let places: Vec<usize> = names.iter().map(|name| partition_of(name, 50)).collect();
        assert_eq!(places, (0..50).collect::<Vec<_>>());
    }
}
