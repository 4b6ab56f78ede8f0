//! What the brokers say about a topic: who leads which partition, and where the brokers are.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::sender::BrokerId;

/// A topic as one answer shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Topic {
    /// By partition; `None` = there is none at the moment.
    pub(crate) leaders: Vec<Option<BrokerId>>,
    /// Host and port of each broker.
    pub(crate) brokers: BTreeMap<BrokerId, (String, u16)>,
}

/// Why an answer doesn't show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unseen {
    /// The brokers don't know it (yet).
    Missing,
    /// Asking again may help.
    Again(String),
    /// It won't.
    Refused(ResponseError),
}

/// Asks for one topic. Brokers that make topics when they are asked for one do so, as with every Kafka client.
pub(crate) fn request(topic: &str) -> MetadataRequest {
    let name = TopicName(StrBytes::from_string(topic.to_owned()));
    MetadataRequest::default().with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(name))]))
}

/// The topic that was asked for.
pub(crate) fn topic_of(answer: &MetadataResponse) -> Result<Topic, Unseen> {
    let topic = answer.topics.first().ok_or(Unseen::Missing)?;
    match ResponseError::try_from_code(topic.error_code) {
        None => {}
        Some(ResponseError::UnknownTopicOrPartition) => return Err(Unseen::Missing),
        Some(code) if code.is_retriable() => return Err(Unseen::Again(code.to_string())),
        Some(code) => return Err(Unseen::Refused(code)),
    }
    if topic.partitions.is_empty() {
        return Err(Unseen::Missing);
    }
    let mut leaders = vec![None; topic.partitions.len()];
    for partition in &topic.partitions {
        let place = usize::try_from(partition.partition_index)
            .ok()
            .and_then(|index| leaders.get_mut(index));
        let Some(place) = place else {
            return Err(Unseen::Again("partitions are not numbered from 0".to_owned()));
        };
        *place = Some(partition.leader_id.0).filter(|id| *id >= 0);
    }
    let brokers = answer.brokers.iter().filter_map(|broker| {
        let port = u16::try_from(broker.port).ok()?;
        Some((broker.node_id.0, (broker.host.to_string(), port)))
    });
    Ok(Topic {
        leaders,
        brokers: brokers.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::BrokerId as WireBroker;
    use kafka_protocol::messages::metadata_response::{
        MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
    };

    fn answer(error: i16, leaders: &[(i32, i32)]) -> MetadataResponse {
        let partition = |(index, leader): &(i32, i32)| {
            MetadataResponsePartition::default()
                .with_partition_index(*index)
                .with_leader_id(WireBroker(*leader))
        };
        let broker = MetadataResponseBroker::default()
            .with_node_id(WireBroker(7))
            .with_host(StrBytes::from_static_str("b"))
            .with_port(9092);
        MetadataResponse::default()
            .with_brokers(vec![broker])
            .with_topics(vec![
                MetadataResponseTopic::default()
                    .with_error_code(error)
                    .with_partitions(leaders.iter().map(partition).collect()),
            ])
    }

    #[test]
    fn leaders_are_by_partition_and_may_be_missing() {
        let topic = topic_of(&answer(0, &[(1, -1), (0, 7)])).unwrap();
        assert_eq!(topic.leaders, [Some(7), None]);
        assert_eq!(topic.brokers, [(7, ("b".to_owned(), 9092))].into());
    }

    #[test]
    fn a_topic_is_missing_for_now_not_there_yet_or_refused() {
        assert_eq!(topic_of(&answer(3, &[])), Err(Unseen::Missing));
        assert_eq!(topic_of(&answer(0, &[])), Err(Unseen::Missing));
        assert!(matches!(topic_of(&answer(5, &[])), Err(Unseen::Again(_))));
        assert_eq!(
            topic_of(&answer(29, &[])),
            Err(Unseen::Refused(ResponseError::TopicAuthorizationFailed))
        );
    }
}
