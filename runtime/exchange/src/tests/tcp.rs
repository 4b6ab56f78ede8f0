//! What can happen on the way between two processes.

use std::sync::Arc;

use arrow::array::Array;
use thalweg_types::{Classify, FailureClass, StreamElement};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::fixtures::*;
use crate::{Exchange, ExchangeConfig, ExchangeError, HandshakeRefusal, InputGate};

fn start(net: &Net, port: u16, token: &str) -> Arc<Exchange> {
    let io = net.runtime.handle().clone();
    let config = ExchangeConfig::new(([127, 0, 0, 1], port).into(), 64 << 20, io, token);
    net.runtime.block_on(Exchange::start(config)).unwrap()
}

/// A way to the producer that can be cut.
struct Wire {
    address: String,
    task: JoinHandle<()>,
}

fn wire(net: &Net) -> Wire {
    let to = net.address.clone();
    let listener = net.runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let task = net.runtime.spawn(async move {
        let (mut consumer, _) = listener.accept().await.unwrap();
        let mut producer = TcpStream::connect(to).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut consumer, &mut producer).await;
    });
    Wire { address, task }
}

fn gate_over(net: &Net, wire: &Wire, writer: &crate::ChannelWriter) -> InputGate {
    net.consumer
        .input_gate(vec![(writer.id(), wire.address.clone())])
        .unwrap()
}

#[test]
fn a_cut_connection_fails_both_ends() {
    let net = Net::new(Transport::Tcp, |_| {});
    let wire = wire(&net);
    let mut writer = net.writers(execution(0), 1).remove(0);
    let mut gate = gate_over(&net, &wire, &writer);
    net.send(&mut writer, StreamElement::Batch(numbers(0..10)));
    assert_same(&net.next_batch(&mut gate), &numbers(0..10));
    wire.task.abort();
    let error = net.next(&mut gate).unwrap_err();
    assert!(matches!(error, ExchangeError::ProducerLost { .. }), "{error}");
    assert_eq!(error.class(), FailureClass::Retryable);
    let text = error.to_string();
    assert!(
        text.contains(&writer.id().to_string()) && text.contains(&wire.address),
        "{text}"
    );
    let error = net.writer_error(&mut writer);
    assert!(matches!(error, ExchangeError::ConsumerLost { .. }), "{error}");
    assert_eq!(error.class(), FailureClass::Retryable);
}

#[test]
fn a_connection_cut_behind_the_end_of_input_harms_nobody() {
    let net = Net::new(Transport::Tcp, |_| {});
    let wire = wire(&net);
    let mut writers = net.writers(execution(0), 2);
    let (mut other, mut writer) = (writers.pop().unwrap(), writers.pop().unwrap());
    let mut gate = gate_over(&net, &wire, &writer);
    let mut other_gate = gate_over(&net, &wire, &other);
    net.send(&mut writer, StreamElement::Batch(numbers(0..10)));
    writer.send(StreamElement::EndOfInput).unwrap();
    // One connection keeps the order: when this is here, the end of input is, too.
    net.wait(|cx| {
        if gate.is_available() {
            gate.poll_next(cx)
        } else {
            poll_soon(cx)
        }
    })
    .unwrap();
    other.send(barrier(1)).unwrap();
    net.next(&mut other_gate).unwrap();
    assert!(matches!(
        net.next(&mut gate).unwrap(),
        Some((0, StreamElement::EndOfInput))
    ));
    wire.task.abort();
    assert!(net.next(&mut other_gate).is_err());
    assert!(net.next(&mut gate).unwrap().is_none());
}

fn poll_soon<T>(cx: &mut std::task::Context<'_>) -> std::task::Poll<T> {
    cx.waker().wake_by_ref();
    std::task::Poll::Pending
}

#[test]
fn another_token_is_refused_with_the_address() {
    let net = Net::new(Transport::Tcp, |_| {});
    let stranger = start(&net, 0, "another");
    let writer = net.writers(execution(0), 1).remove(0);
    let mut gate = stranger
        .input_gate(vec![(writer.id(), net.address.clone())])
        .unwrap();
    let error = net.next(&mut gate).unwrap_err();
    assert!(
        matches!(
            error,
            ExchangeError::Handshake {
                refusal: HandshakeRefusal::Token,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains(&net.address), "{error}");
}

#[test]
fn a_process_that_is_not_up_yet_is_waited_for() {
    let net = Net::new(Transport::Tcp, |_| {});
    let late = start(&net, 0, "token");
    let port = late.local_addr().port();
    drop(late);
    // Closed for certain: the port can be bound again.
    while std::net::TcpListener::bind(("127.0.0.1", port)).is_err() {
        std::thread::yield_now();
    }
    let channel = crate::ChannelId {
        producer: execution(0),
        edge: 0,
        subpartition: 0,
    };
    let mut gate = net
        .consumer
        .input_gate(vec![(channel, format!("127.0.0.1:{port}"))])
        .unwrap();
    assert!(is_pending(|cx| gate.poll_next(cx)));
    let late = start(&net, port, "token");
    let mut writer = late.result_partition(execution(0), 0, 1).unwrap().remove(0);
    net.send(&mut writer, StreamElement::Batch(numbers(0..10)));
    assert_same(&net.next_batch(&mut gate), &numbers(0..10));
}

#[test]
fn a_process_that_never_comes_up_is_named() {
    let net = Net::new(Transport::Tcp, |config| {
        config.partition_timeout = std::time::Duration::from_millis(50);
    });
    let closed = start(&net, 0, "token").local_addr().to_string();
    let channel = crate::ChannelId {
        producer: execution(0),
        edge: 0,
        subpartition: 0,
    };
    let mut gate = net.consumer.input_gate(vec![(channel, closed.clone())]).unwrap();
    let error = net.next(&mut gate).unwrap_err();
    assert_eq!(error.class(), FailureClass::Retryable);
    assert!(error.to_string().contains(&closed), "{error}");
}

#[test]
fn a_producer_process_that_dies_fails_the_consumer_and_a_new_one_is_dialled() {
    let net = Net::new(Transport::Tcp, |_| {});
    let first = start(&net, 0, "token");
    let address = first.local_addr();
    let mut writer = first.result_partition(execution(0), 0, 1).unwrap().remove(0);
    let mut gate = net
        .consumer
        .input_gate(vec![(writer.id(), address.to_string())])
        .unwrap();
    net.send(&mut writer, StreamElement::Batch(numbers(0..10)));
    net.next_batch(&mut gate);
    drop(first);
    let error = net.next(&mut gate).unwrap_err();
    assert!(matches!(error, ExchangeError::ProducerLost { .. }), "{error}");
    // The same address again, as after a restart: the lost connection is not used again.
    while std::net::TcpListener::bind(address).is_err() {
        std::thread::yield_now();
    }
    let second = start(&net, address.port(), "token");
    let mut writer = second.result_partition(execution(1), 0, 1).unwrap().remove(0);
    let mut gate = net
        .consumer
        .input_gate(vec![(writer.id(), address.to_string())])
        .unwrap();
    net.send(&mut writer, StreamElement::Batch(numbers(0..10)));
    assert_same(&net.next_batch(&mut gate), &numbers(0..10));
}

#[test]
fn a_dropped_exchange_fails_the_gates_it_made() {
    let net = Net::new(Transport::Tcp, |_| {});
    let consumer = start(&net, 0, "token");
    let mut writer = net.writers(execution(0), 1).remove(0);
    let mut gate = consumer
        .input_gate(vec![(writer.id(), net.address.clone())])
        .unwrap();
    net.wait(|cx| writer.poll_ready(cx)).unwrap();
    drop(consumer);
    assert!(net.next(&mut gate).is_err());
    assert!(matches!(
        net.writer_error(&mut writer),
        ExchangeError::ConsumerLost { .. }
    ));
}

#[test]
fn the_columns_of_a_received_batch_share_the_received_buffer() {
    let net = Net::new(Transport::Tcp, |_| {});
    let (mut writer, mut gate) = net.channel();
    let mut batch = numbers(0..100_000);
    batch.timestamps = Some((0..100_000).collect());
    net.send(&mut writer, StreamElement::Batch(batch));
    let received = net.next_batch(&mut gate);
    let column = received.rows.column(0).to_data().buffers()[0].data_ptr();
    let timestamps = received.timestamps.unwrap().to_data().buffers()[0].data_ptr();
    assert_eq!(
        column, timestamps,
        "both are slices of one allocation: nothing was copied"
    );
}
