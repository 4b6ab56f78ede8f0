//! What the driver makes of answers about the topic, without a network.

use std::collections::BTreeMap;

use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId as WireBroker, MetadataResponse};

use super::*;
use crate::kafka::DeliveryGuarantee;
use crate::kafka::producer::accumulator::Accumulator;
use crate::kafka::producer::config::ProducerConfig;

const TIMEOUT: Duration = Duration::from_secs(30);

fn driver(now: Instant) -> Driver {
    let settings = SinkSettings {
        producer: ProducerConfig::from_properties(&BTreeMap::new()).unwrap(),
        servers: "a:9092".to_owned(),
        bootstrap: vec![("a".to_owned(), 9092)],
        topic: "out".to_owned(),
        guarantee: DeliveryGuarantee::AtLeastOnce,
        transactions: None,
        key: None,
        value: None,
        headers: None,
        connect_timeout: TIMEOUT,
    };
    let batches = Accumulator::new(settings.producer.limits.clone());
    Driver::new(
        Arc::new(settings),
        Arc::new(Handover::new(batches)),
        Recovery::default(),
        now,
    )
}

fn topic(error: i16, leaders: &[i32]) -> Event {
    let partition = |(index, leader): (usize, &i32)| {
        MetadataResponsePartition::default()
            .with_partition_index(index as i32)
            .with_leader_id(WireBroker(*leader))
    };
    let topic = MetadataResponseTopic::default()
        .with_error_code(error)
        .with_partitions(leaders.iter().enumerate().map(partition).collect());
    let broker = MetadataResponseBroker::default()
        .with_node_id(WireBroker(1))
        .with_host(StrBytes::from_static_str("b"))
        .with_port(9092);
    let answer = MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_topics(vec![topic]);
    Event::Topic(Ok(answer))
}

#[test]
fn a_topic_that_stays_unknown_is_refused_by_name_and_one_that_appears_is_not() {
    let start = Instant::now();
    let mut driver = driver(start);
    driver.handle(topic(3, &[]), start).unwrap();
    driver
        .handle(topic(0, &[1]), start + Duration::from_secs(2))
        .unwrap();
    driver
        .handle(topic(3, &[]), start + Duration::from_secs(4))
        .unwrap();
    let error = driver
        .handle(topic(3, &[]), start + Duration::from_secs(7))
        .unwrap_err();
    assert!(matches!(error, ConnectorError::Refused(_)));
    assert_eq!(
        error.to_string(),
        "Kafka topic \"out\" doesn't exist on brokers a:9092: create it or correct its name"
    );
}

#[test]
fn a_right_that_is_missing_is_refused_at_once() {
    let now = Instant::now();
    let error = driver(now).handle(topic(29, &[]), now).unwrap_err();
    assert!(matches!(error, ConnectorError::Refused(_)));
    assert_eq!(
        error.to_string(),
        "Kafka brokers a:9092 refuse topic \"out\": TopicAuthorizationFailed"
    );
}

#[test]
fn brokers_that_are_away_at_the_start_are_unavailable_with_their_last_word() {
    let start = Instant::now();
    let mut driver = driver(start);
    let closed = CallError::Closed {
        address: "a:9092".to_owned(),
        reason: "gone".to_owned(),
    };
    driver.topic.asking = true;
    driver.handle(Event::Topic(Err(closed)), start).unwrap();
    let error = driver.look_up_topic(start + TIMEOUT).unwrap_err();
    assert!(matches!(error, ConnectorError::Unavailable(_)));
    assert_eq!(
        error.to_string(),
        "Kafka brokers a:9092 didn't answer within 30s: a:9092: gone"
    );
}

#[test]
fn the_topic_is_looked_up_again_soon_while_a_leader_is_missing_or_in_doubt_and_else_by_its_age() {
    let now = Instant::now();
    let mut driver = driver(now);
    let (soon, by_age) = (now + Duration::from_millis(100), now + Duration::from_secs(300));
    driver.handle(topic(0, &[1, -1]), now).unwrap();
    assert_eq!(driver.topic.due, soon);
    driver.handle(topic(0, &[1, 1]), now).unwrap();
    assert_eq!(driver.topic.due, by_age);
    let refused = CallError::Connect {
        address: "b:9092".to_owned(),
        reason: "refused".to_owned(),
    };
    driver.handle(Event::Connected(1, Err(refused)), now).unwrap();
    assert_eq!(driver.topic.due, soon);
    assert_eq!(driver.handover.lock().batches.partitions(), 2);
}
