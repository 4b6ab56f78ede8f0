use std::sync::Arc;

use arrow::array::{DictionaryArray, Int8Array, Int64Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use thalweg_types::{Classify, FailureClass, StreamBatch, StreamElement};

use super::fixtures::*;
use crate::{ChannelId, ExchangeError, InputGate};

#[test]
fn every_type_arrives_as_it_was_sent_whole_and_sliced() {
    over_both(|net| {
        let (mut writer, mut gate) = net.channel();
        let whole = StreamBatch {
            rows: all_types(),
            kinds: Some(Int8Array::from(vec![0, 1, 2, 3, 0])),
            timestamps: Some(Int64Array::from(vec![5, 4, 3, 2, 1])),
            key_hashes: Some(UInt64Array::from(vec![u64::MAX, 0, 1, 2, 3])),
            watermarks: vec![cut(0, 1), cut(2, 2), cut(5, 3)],
        };
        let slice = whole.slice(1, 3);
        let plain = StreamBatch::new(all_types());
        for batch in [&whole, &slice, &plain, &plain.slice(4, 1), &whole] {
            net.send(&mut writer, StreamElement::Batch(batch.clone()));
            assert_same(&net.next_batch(&mut gate), batch);
        }
    });
}

#[test]
fn batches_without_rows_or_without_columns_arrive() {
    over_both(|net| {
        let (mut writer, mut gate) = net.channel();
        let mut watermark = numbers(0..0);
        watermark.watermarks = vec![cut(0, 17)];
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(3));
        let rows = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
        for batch in [watermark, StreamBatch::new(rows)] {
            net.send(&mut writer, StreamElement::Batch(batch.clone()));
            assert_same(&net.next_batch(&mut gate), &batch);
        }
    });
}

#[test]
fn dictionaries_may_change_from_batch_to_batch() {
    over_both(|net| {
        let (mut writer, mut gate) = net.channel();
        for words in [["a", "b"], ["a", "b"], ["c", "a"], ["d", "e"]] {
            let column: DictionaryArray<Int32Type> = words.into_iter().collect();
            let field = Field::new(
                "word",
                DataType::Dictionary(DataType::Int32.into(), DataType::Utf8.into()),
                true,
            );
            let rows =
                RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::new(column)]).unwrap();
            net.send(&mut writer, StreamElement::Batch(StreamBatch::new(rows.clone())));
            assert_eq!(net.next_batch(&mut gate).rows, rows);
        }
    });
}

#[test]
fn the_schema_may_change() {
    over_both(|net| {
        let (mut writer, mut gate) = net.channel();
        let schema = Arc::new(Schema::new(vec![Field::new("t", DataType::Utf8, false)]));
        let text = RecordBatch::try_new(schema, vec![Arc::new(StringArray::from(vec!["x"]))]).unwrap();
        for batch in [numbers(0..3), StreamBatch::new(text), numbers(3..4)] {
            net.send(&mut writer, StreamElement::Batch(batch.clone()));
            assert_same(&net.next_batch(&mut gate), &batch);
        }
    });
}

#[test]
fn elements_of_a_channel_keep_their_order_and_barriers_overtake_nothing() {
    over_both(|net| {
        let (mut writer, mut gate) = net.channel();
        let sending = std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..50 {
                    for batch in 0..5 {
                        let first = round * 500 + batch * 100;
                        net.send(&mut writer, StreamElement::Batch(numbers(first..first + 100)));
                    }
                    writer.send(barrier(round as u64)).unwrap();
                }
                writer.send(StreamElement::EndOfInput).unwrap();
            });
            let mut expected = 0;
            let mut barriers = 0;
            loop {
                match net.next(&mut gate).unwrap() {
                    Some((0, StreamElement::Batch(batch))) => {
                        for number in numbers_of(&batch) {
                            assert_eq!(number, expected);
                            expected += 1;
                        }
                    }
                    Some((0, StreamElement::Barrier(barrier))) => {
                        assert_eq!(barrier.checkpoint_id, barriers);
                        assert_eq!(barrier.timestamp_ms, 1000 + barriers);
                        assert_eq!(*barrier.options, barriers.to_le_bytes());
                        barriers += 1;
                        assert_eq!(expected, barriers as i64 * 500);
                    }
                    Some((0, StreamElement::EndOfInput)) => break expected,
                    other => panic!("unexpected: {other:?}"),
                }
            }
        });
        assert_eq!(sending, 25_000);
        assert!(net.next(&mut gate).unwrap().is_none());
    });
}

#[test]
fn control_elements_arrive_as_they_were_sent() {
    over_both(|net| {
        let (mut writer, mut gate) = net.channel();
        writer.send(StreamElement::Idle).unwrap();
        writer.send(StreamElement::Active).unwrap();
        writer
            .send(StreamElement::LatencyMarker {
                source: "source-1".into(),
                emitted_ms: 42,
            })
            .unwrap();
        assert!(matches!(
            net.next(&mut gate).unwrap(),
            Some((0, StreamElement::Idle))
        ));
        assert!(matches!(
            net.next(&mut gate).unwrap(),
            Some((0, StreamElement::Active))
        ));
        let Some((0, StreamElement::LatencyMarker { source, emitted_ms })) = net.next(&mut gate).unwrap()
        else {
            panic!("a latency marker is expected");
        };
        assert_eq!((&*source, emitted_ms), ("source-1", 42));
    });
}

#[test]
fn a_stopped_consumer_stops_its_producer_and_nobody_else() {
    const WINDOW: usize = 64 << 10;
    let configure = |config: &mut crate::ExchangeConfig| config.channel_bytes = WINDOW;
    over_both_with(configure, |net| {
        let mut writers = net.writers(execution(0), 2);
        let (mut flowing, mut stopped) = (writers.pop().unwrap(), writers.pop().unwrap());
        let mut stopped_gate = net.gate(&[stopped.id()]);
        let mut flowing_gate = net.gate(&[flowing.id()]);
        net.wait(|cx| stopped.poll_ready(cx)).unwrap();
        let mut sent = 0;
        while !is_pending(|cx| stopped.poll_ready(cx)) {
            stopped
                .send(StreamElement::Batch(numbers(sent..sent + 512)))
                .unwrap();
            sent += 512;
        }
        let one_element = stopped.bytes_out() as usize / (sent as usize / 512);
        assert!(
            stopped.bytes_out() as usize <= WINDOW + 2 * one_element,
            "{}",
            stopped.bytes_out()
        );
        for round in 0..100 {
            net.send(&mut flowing, StreamElement::Batch(numbers(round..round + 512)));
            assert_eq!(numbers_of(&net.next_batch(&mut flowing_gate)).len(), 512);
        }
        assert!(is_pending(|cx| stopped.poll_ready(cx)));
        let mut received = 0;
        while received < sent {
            let batch = numbers_of(&net.next_batch(&mut stopped_gate));
            assert_eq!(batch[0], received);
            received += batch.len() as i64;
        }
        net.wait(|cx| stopped.poll_ready(cx)).unwrap();
    });
}

#[test]
fn a_batch_larger_than_the_window_passes() {
    let configure = |config: &mut crate::ExchangeConfig| config.channel_bytes = 64 << 10;
    over_both_with(configure, |net| {
        let (mut writer, mut gate) = net.channel();
        let large = numbers(0..1 << 20);
        for _ in 0..2 {
            net.send(&mut writer, StreamElement::Batch(large.clone()));
            assert!(is_pending(|cx| writer.poll_ready(cx)));
            assert_same(&net.next_batch(&mut gate), &large);
        }
    });
}

#[test]
fn what_is_sent_before_the_consumer_comes_waits_for_it() {
    over_both(|net| {
        let mut writer = net.writers(execution(0), 1).remove(0);
        assert!(is_pending(|cx| writer.poll_ready(cx)));
        writer.send(StreamElement::Batch(numbers(0..10))).unwrap();
        writer.send(barrier(1)).unwrap();
        let mut gate = net.gate(&[writer.id()]);
        net.send(&mut writer, StreamElement::Batch(numbers(10..20)));
        assert_same(&net.next_batch(&mut gate), &numbers(0..10));
        assert!(matches!(
            net.next(&mut gate).unwrap(),
            Some((0, StreamElement::Barrier(_)))
        ));
        assert_same(&net.next_batch(&mut gate), &numbers(10..20));
    });
}

#[test]
fn a_finished_producer_waits_for_its_consumer() {
    over_both(|net| {
        let producer = execution(0);
        let mut writer = net.writers(producer, 1).remove(0);
        let channel = writer.id();
        writer.send(StreamElement::Batch(numbers(0..10))).unwrap();
        writer.send(StreamElement::EndOfInput).unwrap();
        drop(writer);
        net.producer.release(producer);
        let mut gate = net.gate(&[channel]);
        assert_same(&net.next_batch(&mut gate), &numbers(0..10));
        assert!(matches!(
            net.next(&mut gate).unwrap(),
            Some((0, StreamElement::EndOfInput))
        ));
        assert!(net.next(&mut gate).unwrap().is_none());
        assert_eq!(net.producer.registry().len(), 0);
    });
}

#[test]
fn a_consumer_may_come_before_its_producer() {
    over_both(|net| {
        let channel = ChannelId {
            producer: execution(0),
            edge: 0,
            subpartition: 0,
        };
        let mut gate = net.gate(&[channel]);
        assert!(is_pending(|cx| gate.poll_next(cx)));
        let mut writer = net.writers(execution(0), 1).remove(0);
        net.send(&mut writer, StreamElement::Batch(numbers(0..10)));
        assert_same(&net.next_batch(&mut gate), &numbers(0..10));
    });
}

#[test]
fn a_producer_that_never_comes_is_named() {
    let configure = |config: &mut crate::ExchangeConfig| {
        config.partition_timeout = std::time::Duration::from_millis(50);
    };
    over_both_with(configure, |net| {
        let channel = ChannelId {
            producer: execution(3),
            edge: 7,
            subpartition: 1,
        };
        let error = net.next(&mut net.gate(&[channel])).unwrap_err();
        assert!(
            matches!(error, ExchangeError::PartitionNotFound { .. }),
            "{error}"
        );
        assert_eq!(error.class(), FailureClass::Retryable);
        let text = error.to_string();
        assert!(
            text.contains(&channel.to_string()) && text.contains(&net.address),
            "{text}"
        );
        assert_eq!(net.producer.registry().len(), 0);
    });
}

#[test]
fn a_released_producer_fails_its_consumer() {
    over_both(|net| {
        let (mut writer, mut gate) = net.channel();
        net.send(&mut writer, StreamElement::Batch(numbers(0..10)));
        net.next_batch(&mut gate);
        net.producer.release(execution(0));
        let error = net.next(&mut gate).unwrap_err();
        assert!(matches!(error, ExchangeError::ProducerReleased { .. }), "{error}");
        assert_eq!(error.class(), FailureClass::Retryable);
        let error = writer.send(StreamElement::Idle).unwrap_err();
        assert!(matches!(error, ExchangeError::WriterReleased { .. }), "{error}");
    });
}

#[test]
fn a_writer_dropped_before_the_end_of_input_fails_its_consumer() {
    over_both(|net| {
        let (writer, mut gate) = net.channel();
        drop(writer);
        let error = net.next(&mut gate).unwrap_err();
        assert!(matches!(error, ExchangeError::ProducerReleased { .. }), "{error}");
    });
}

#[test]
fn a_consumer_that_is_gone_fails_its_producer() {
    over_both(|net| {
        let (mut writer, gate) = net.channel();
        net.wait(|cx| writer.poll_ready(cx)).unwrap();
        drop(gate);
        let error = net.writer_error(&mut writer);
        assert!(matches!(error, ExchangeError::ConsumerLost { .. }), "{error}");
        assert_eq!(error.class(), FailureClass::Retryable);
    });
}

#[test]
fn a_consumer_that_has_the_end_of_input_may_go() {
    over_both(|net| {
        let (mut writer, mut gate) = net.channel();
        writer.send(StreamElement::EndOfInput).unwrap();
        assert!(matches!(
            net.next(&mut gate).unwrap(),
            Some((0, StreamElement::EndOfInput))
        ));
        drop((writer, gate));
        assert_eq!(net.producer.registry().len(), 0);
    });
}

#[test]
fn a_channel_has_one_consumer() {
    over_both(|net| {
        let (mut writer, mut gate) = net.channel();
        net.wait(|cx| writer.poll_ready(cx)).unwrap();
        let second = net.consumer.input_gate(vec![(writer.id(), net.address.clone())]);
        let error = match second {
            Ok(mut second) => net.next(&mut second).unwrap_err(),
            Err(error) => error,
        };
        assert!(matches!(error, ExchangeError::PartitionTaken { .. }), "{error}");
        net.send(&mut writer, StreamElement::Batch(numbers(0..1)));
        assert_same(&net.next_batch(&mut gate), &numbers(0..1));
    });
}

#[test]
fn a_gate_reads_its_channels_in_turn() {
    over_both(|net| {
        let mut writers = net.writers(execution(0), 3);
        let channels: Vec<_> = writers.iter().map(crate::ChannelWriter::id).collect();
        let mut gate = net.gate(&channels);
        for writer in &mut writers {
            for round in 0..4 {
                writer.send(barrier(round)).unwrap();
            }
            writer.send(StreamElement::EndOfInput).unwrap();
        }
        // All of it is here before the first is taken.
        let mut seen = vec![0; 3];
        let mut elements = Vec::new();
        while let Some((index, element)) = net.next(&mut gate).unwrap() {
            match element {
                StreamElement::Barrier(barrier) => {
                    assert_eq!(barrier.checkpoint_id, seen[index]);
                    seen[index] += 1;
                }
                StreamElement::EndOfInput => {}
                other => panic!("unexpected: {other:?}"),
            }
            elements.push(index);
        }
        assert_eq!(seen, [4, 4, 4]);
        if Arc::ptr_eq(&net.producer, &net.consumer) {
            assert_eq!(elements[..6], [0, 1, 2, 0, 1, 2]);
        }
    });
}

#[test]
fn a_blocked_channel_keeps_its_elements_until_it_is_resumed() {
    over_both(|net| {
        let mut writers = net.writers(execution(0), 2);
        let channels: Vec<_> = writers.iter().map(crate::ChannelWriter::id).collect();
        let mut gate = net.gate(&channels);
        writers[0].send(barrier(1)).unwrap();
        assert!(matches!(
            net.next(&mut gate).unwrap(),
            Some((0, StreamElement::Barrier(_)))
        ));
        gate.block_consumption(0);
        net.send(&mut writers[0], StreamElement::Batch(numbers(0..1)));
        net.send(&mut writers[1], StreamElement::Batch(numbers(1..2)));
        writers[1].send(barrier(1)).unwrap();
        assert!(matches!(
            net.next(&mut gate).unwrap(),
            Some((1, StreamElement::Batch(_)))
        ));
        assert!(matches!(
            net.next(&mut gate).unwrap(),
            Some((1, StreamElement::Barrier(_)))
        ));
        assert!(is_pending(|cx| gate.poll_next(cx)));
        gate.resume_consumption();
        assert!(matches!(
            net.next(&mut gate).unwrap(),
            Some((0, StreamElement::Batch(_)))
        ));
    });
}

#[test]
fn the_end_of_input_can_be_seen_behind_what_lies_before_it_and_nothing_is_taken() {
    over_both(|net| {
        let (mut writer, mut gate) = net.channel();
        net.send(&mut writer, StreamElement::Batch(numbers(0..3000)));
        net.send(&mut writer, StreamElement::Batch(numbers(3000..6000)));
        assert_same(&net.next_batch(&mut gate), &numbers(0..3000));
        assert!(gate.peek_to_end(0).unwrap().is_none());
        writer.send(barrier(1)).unwrap();
        writer.send(StreamElement::EndOfInput).unwrap();
        while gate.barriers() < 2 {
            std::thread::yield_now();
        }
        let before = gate.peek_to_end(0).unwrap().unwrap();
        let [StreamElement::Batch(batch), StreamElement::Barrier(_)] = before.as_slice() else {
            panic!("{before:?}")
        };
        assert_same(batch, &numbers(3000..6000));
        assert_same(&net.next_batch(&mut gate), &numbers(3000..6000));
        for _ in 0..2 {
            assert!(net.next(&mut gate).unwrap().is_some());
        }
        assert!(gate.peek_to_end(0).unwrap().is_none(), "it was taken");
    });
}

#[test]
fn a_barrier_can_be_seen_behind_what_lies_before_it_and_nothing_is_taken() {
    over_both(|net| {
        let (mut writer, mut gate) = net.channel();
        net.send(&mut writer, StreamElement::Batch(numbers(0..3000)));
        net.send(&mut writer, StreamElement::Batch(numbers(3000..6000)));
        assert_same(&net.next_batch(&mut gate), &numbers(0..3000));
        let barriers = |gate: &InputGate| -> Vec<u64> {
            let barriers = gate.peek_barriers(0).unwrap();
            barriers.iter().map(|barrier| barrier.checkpoint_id).collect()
        };
        assert_eq!((gate.barriers(), barriers(&gate)), (0, vec![]));
        assert!(gate.peek_to_barrier(0, 1).unwrap().is_empty());
        writer.send(barrier(1)).unwrap();
        net.send(&mut writer, StreamElement::Batch(numbers(6000..6001)));
        writer.send(barrier(2)).unwrap();
        while gate.barriers() < 2 {
            std::thread::yield_now();
        }
        assert_eq!(barriers(&gate), [1, 2]);
        let before = gate.peek_to_barrier(0, 1).unwrap();
        let [StreamElement::Batch(batch)] = before.as_slice() else {
            panic!("{before:?}")
        };
        assert_same(batch, &numbers(3000..6000));
        // What lies before the later one is what lies before the earlier one and between them.
        let before = gate.peek_to_barrier(0, 2).unwrap();
        let [StreamElement::Batch(first), StreamElement::Batch(second)] = before.as_slice() else {
            panic!("{before:?}")
        };
        assert_same(first, &numbers(3000..6000));
        assert_same(second, &numbers(6000..6001));
        assert!(gate.peek_to_barrier(0, 3).unwrap().is_empty());
        assert_same(&net.next_batch(&mut gate), &numbers(3000..6000));
        assert!(gate.peek_to_barrier(0, 1).unwrap().is_empty());
        assert!(matches!(
            net.next(&mut gate).unwrap(),
            Some((0, StreamElement::Barrier(_)))
        ));
        assert_eq!(barriers(&gate), [2]);
        assert_same(&net.next_batch(&mut gate), &numbers(6000..6001));
    });
}

#[test]
fn small_batches_that_lie_behind_each_other_come_out_as_one() {
    let net = Net::new(Transport::Local, |_| {});
    let (mut writer, mut gate) = net.channel();
    for first in 0..10 {
        net.send(
            &mut writer,
            StreamElement::Batch(numbers(first * 10..first * 10 + 10)),
        );
    }
    writer.send(barrier(1)).unwrap();
    net.send(&mut writer, StreamElement::Batch(numbers(100..110)));
    assert_same(&net.next_batch(&mut gate), &numbers(0..100));
    assert!(matches!(
        net.next(&mut gate).unwrap(),
        Some((0, StreamElement::Barrier(_)))
    ));
    assert_same(&net.next_batch(&mut gate), &numbers(100..110));
    use std::sync::atomic::Ordering;
    let counters = gate.counters(0);
    assert_eq!(counters.records.load(Ordering::Relaxed), 110);
    assert_eq!(counters.batches.load(Ordering::Relaxed), 11);
    assert_eq!(counters.bytes.load(Ordering::Relaxed), writer.bytes_out());
}

#[test]
fn a_gate_that_the_memory_cannot_bear_is_refused() {
    let net = Net::new(Transport::Local, |config| config.memory_bytes = 128 << 10);
    let channels = (0..5).map(|subpartition| ChannelId {
        producer: execution(0),
        edge: 0,
        subpartition,
    });
    let channels = channels.map(|channel| (channel, net.address.clone())).collect();
    let error = net.consumer.input_gate(channels).unwrap_err();
    assert!(matches!(error, ExchangeError::Memory { .. }), "{error}");
    assert_eq!(error.class(), FailureClass::Fatal);
}
