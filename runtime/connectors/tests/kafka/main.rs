//! Kafka source and sink against brokers.
//!
//! `mock`: librdkafka's mock cluster in this process; always runs. It is the broker for error paths that a real one can't show.
//! `producer`: the sink's own ways, against the same.
//! `transactions`: the exactly-once sink, against a real broker.
//! `broker`: a real broker at `THALWEG_TEST_KAFKA` (`host:port`); without it these tests print that they were skipped.

#[cfg(test)]
mod broker;
#[cfg(test)]
mod mock;
#[cfg(test)]
mod producer;
#[cfg(test)]
mod support;
#[cfg(test)]
mod transactions;
