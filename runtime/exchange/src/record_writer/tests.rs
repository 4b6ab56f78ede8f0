use super::*;
use crate::InputGate;
use crate::tests::fixtures::*;
use arrow::array::UInt64Array;

/// A writer on one edge and a gate for each of its consumers.
fn output(
    net: &Net,
    partitioner: Partitioner,
    consumers: u32,
    timeout: Option<Duration>,
) -> (RecordWriter, Vec<InputGate>) {
    let writers = net.writers(execution(0), consumers);
    let gates = writers.iter().map(|writer| net.gate(&[writer.id()])).collect();
    let mut output = RecordWriter::new(partitioner, writers, 128, consumers, timeout).unwrap();
    net.wait(|cx| output.poll_ready(cx)).unwrap();
    (output, gates)
}

fn local() -> Net {
    Net::new(Transport::Local, |_| {})
}

fn nothing(gate: &mut InputGate) -> bool {
    is_pending(|cx| gate.poll_next(cx))
}

fn keyed(hashes: &[u64]) -> StreamBatch {
    let mut batch = numbers(0..hashes.len() as i64);
    batch.key_hashes = Some(UInt64Array::from(hashes.to_vec()));
    batch
}

#[test]
fn small_batches_wait_for_others_until_they_are_large() {
    let net = local();
    let (mut output, mut gates) = output(&net, Partitioner::Forward, 1, None);
    for first in 0..8 {
        assert!(nothing(&mut gates[0]));
        output.write(numbers(first * 512..first * 512 + 512)).unwrap();
    }
    assert_same(&net.next_batch(&mut gates[0]), &numbers(0..4096));
    assert_eq!(output.flush_deadline(), None);
}

#[test]
fn a_large_batch_is_handed_over_as_it_is() {
    let net = local();
    let (mut output, mut gates) = output(&net, Partitioner::Forward, 1, None);
    output.write(numbers(0..10)).unwrap();
    let large = numbers(10..4000);
    output.write(large.clone()).unwrap();
    assert_same(&net.next_batch(&mut gates[0]), &numbers(0..10));
    let received = net.next_batch(&mut gates[0]);
    assert!(Arc::ptr_eq(received.rows.column(0), large.rows.column(0)));
}

#[test]
fn the_buffer_timeout_bounds_the_wait() {
    let net = local();
    let timeout = Duration::from_millis(100);
    let (mut output, mut gates) = output(&net, Partitioner::Forward, 1, Some(timeout));
    output.write(numbers(0..10)).unwrap();
    let deadline = output.flush_deadline().unwrap();
    net.wait(|cx| output.poll_flush_due(cx, deadline.checked_sub(timeout).unwrap()))
        .unwrap();
    assert!(nothing(&mut gates[0]));
    net.wait(|cx| output.poll_flush_due(cx, deadline)).unwrap();
    assert_same(&net.next_batch(&mut gates[0]), &numbers(0..10));
    assert_eq!(output.flush_deadline(), None);
}

#[test]
fn a_timeout_of_zero_sends_at_once() {
    let net = local();
    let (mut output, mut gates) = output(&net, Partitioner::Forward, 1, Some(Duration::ZERO));
    output.write(numbers(0..1)).unwrap();
    assert_same(&net.next_batch(&mut gates[0]), &numbers(0..1));
}

#[test]
fn a_barrier_flushes_what_came_before_it_on_every_channel() {
    let net = local();
    let (mut output, mut gates) = output(&net, Partitioner::Hash, 2, None);
    output.write(keyed(&[0, 127, 1, 126])).unwrap();
    output.broadcast_element(&barrier(7)).unwrap();
    for (gate, rows) in gates.iter_mut().zip([[0, 2], [1, 3]]) {
        assert_eq!(numbers_of(&net.next_batch(gate)), rows);
        assert!(matches!(
            net.next(gate).unwrap(),
            Some((0, StreamElement::Barrier(_)))
        ));
    }
}

#[test]
fn parts_of_several_batches_become_one() {
    let net = local();
    let (mut output, mut gates) = output(&net, Partitioner::Hash, 2, None);
    let mut batch = keyed(&[0, 127]);
    batch.watermarks = vec![cut(2, 50)];
    for _ in 0..3 {
        output.write(batch.clone()).unwrap();
    }
    output.flush().unwrap();
    for (gate, row) in gates.iter_mut().zip([0, 1]) {
        let received = net.next_batch(gate);
        assert_eq!(numbers_of(&received), [row, row, row]);
        assert_eq!(received.watermarks, [cut(1, 50), cut(2, 50), cut(3, 50)]);
    }
}

#[test]
fn rebalance_deals_batches_in_turn_and_watermarks_to_all() {
    let net = local();
    let (mut output, mut gates) = output(&net, Partitioner::Rebalance, 3, None);
    for first in 0..3 {
        let mut batch = numbers(first * 10..first * 10 + 10);
        batch.watermarks = vec![cut(10, first)];
        output.write(batch).unwrap();
        output.flush().unwrap();
    }
    for (index, gate) in gates.iter_mut().enumerate() {
        let index = index as i64;
        let received = net.next_batch(gate); // merged by the gate: watermarks, rows, watermarks
        assert_eq!(
            numbers_of(&received),
            (index * 10..index * 10 + 10).collect::<Vec<_>>()
        );
        let expected: Vec<_> = (0..3)
            .map(|time| cut(if time < index { 0 } else { 10 }, time))
            .collect();
        assert_eq!(received.watermarks, expected);
    }
}

#[test]
fn rebalance_divides_a_batch_of_several_times_the_target() {
    let net = local();
    let (mut output, mut gates) = output(&net, Partitioner::Rebalance, 2, None);
    output.write(numbers(0..4 * 4096)).unwrap();
    for gate in &mut gates {
        assert_eq!(net.next_batch(gate).num_rows(), 4096);
        assert_eq!(net.next_batch(gate).num_rows(), 4096);
        assert!(nothing(gate));
    }
}

#[test]
fn a_watermark_waits_for_the_credit_of_a_channel_that_gets_no_rows() {
    const WINDOW: usize = 32 << 10;
    let net = Net::new(Transport::Local, |config| config.channel_bytes = WINDOW);
    let (mut output, mut gates) = output(&net, Partitioner::Rebalance, 2, None);
    output.write(numbers(0..4096)).unwrap(); // overdraws channel 0
    let mut batch = numbers(4096..8192);
    batch.watermarks = vec![cut(4096, 99)];
    output.write(batch).unwrap();
    let now = Instant::now();
    assert!(is_pending(|cx| output.poll_flush_due(cx, now)));
    assert!(net.next_batch(&mut gates[0]).watermarks.is_empty());
    net.wait(|cx| output.poll_flush_due(cx, now)).unwrap();
    assert_eq!(net.next_batch(&mut gates[0]).watermarks, [cut(0, 99)]);
}

#[test]
fn broadcast_sends_every_row_everywhere() {
    let net = local();
    let (mut output, mut gates) = output(&net, Partitioner::Broadcast, 3, None);
    let mut batch = numbers(0..10);
    batch.watermarks = vec![cut(3, 1)];
    output.write(batch.clone()).unwrap();
    output.flush().unwrap();
    gates
        .iter_mut()
        .for_each(|gate| assert_same(&net.next_batch(gate), &batch));
}

#[test]
fn global_sends_rows_to_the_first_and_watermarks_to_all() {
    let net = local();
    let (mut output, mut gates) = output(&net, Partitioner::Global, 2, None);
    let mut batch = numbers(0..10);
    batch.watermarks = vec![cut(5, 1), cut(10, 2)];
    output.write(batch.clone()).unwrap();
    output.flush().unwrap();
    assert_same(&net.next_batch(&mut gates[0]), &batch);
    let received = net.next_batch(&mut gates[1]);
    assert_eq!((received.num_rows(), received.watermarks), (0, vec![cut(0, 2)]));
}

#[test]
fn shuffle_reaches_every_consumer() {
    let net = local();
    let (mut output, mut gates) = output(&net, Partitioner::Shuffle, 4, Some(Duration::ZERO));
    for row in 0..100 {
        output.write(numbers(row..row + 1)).unwrap();
    }
    output.broadcast_element(&StreamElement::EndOfInput).unwrap();
    let mut all = Vec::new();
    for gate in &mut gates {
        let before = all.len();
        while let Some((_, element)) = net.next(gate).unwrap() {
            if let StreamElement::Batch(batch) = element {
                all.extend(numbers_of(&batch));
            }
        }
        assert!(all.len() > before);
    }
    all.sort_unstable();
    assert_eq!(all, (0..100).collect::<Vec<_>>());
}

#[test]
fn a_keyed_writer_waits_for_all_its_channels() {
    let net = Net::new(Transport::Local, |config| config.channel_bytes = 32 << 10);
    let (mut output, mut gates) = output(&net, Partitioner::Hash, 2, Some(Duration::ZERO));
    let to_first = keyed(&vec![0; 4096]);
    output.write(to_first).unwrap();
    assert!(is_pending(|cx| output.poll_ready(cx)));
    net.next_batch(&mut gates[0]);
    net.wait(|cx| output.poll_ready(cx)).unwrap();
}

#[test]
fn a_lost_consumer_is_seen_by_who_waits_for_another() {
    let net = local();
    let (mut output, mut gates) = output(&net, Partitioner::Rebalance, 2, None);
    gates.pop();
    let error = net.wait(|cx| output.poll_ready(cx)).unwrap_err();
    assert!(matches!(error, ExchangeError::ConsumerLost { .. }), "{error}");
}

#[test]
fn partitioners_are_refused_channels_that_they_cannot_serve() {
    let net = local();
    let refused = |partitioner, consumers: u32, writers| {
        RecordWriter::new(partitioner, writers, 128, consumers, None)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refused(Partitioner::Forward, 2, net.writers(execution(0), 2)),
        "Forward can't write to 2 channels: it needs exactly one"
    );
    assert_eq!(
        refused(Partitioner::Hash, 3, net.writers(execution(1), 2)),
        "Hash can't write to 2 channels: it needs one to each consumer subtask"
    );
    assert_eq!(
        refused(Partitioner::Global, 1, vec![]),
        "Global can't write to 0 channels: it needs one at least"
    );
}
