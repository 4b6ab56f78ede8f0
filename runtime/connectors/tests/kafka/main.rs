//! Kafka source and sink against brokers.
//!
//! `mock`: librdkafka's mock cluster in this process; always runs. It is the broker for error paths that a real one can't show.
//! `restore`: a source whose topic is not what it was when the checkpoint was taken, against the same.
//! `producer`: the sink's own ways, against the same.
//! `tables`: what SQL tables add to both, against the same.
//! `exactly_once`: the exactly-once sink against `model`, a broker that fails at any request; always runs.
//! `transactions`: the same against a real broker.
//! `broker`: a real broker at `THALWEG_TEST_KAFKA` (`host:port`); without it these tests print that they were skipped.

#[cfg(test)]
mod broker;
#[cfg(test)]
mod exactly_once;
#[cfg(test)]
mod mock;
#[cfg(test)]
mod model;
#[cfg(test)]
mod producer;
#[cfg(test)]
mod restore;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tables;
#[cfg(test)]
mod transactions;
