use super::*;

use arrow::array::{Int32Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use thalweg_types::WatermarkCut;

fn batch(rows: i32, watermarks: &[(u32, i64)]) -> StreamElement {
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int32, false)]));
    let column = Arc::new(Int32Array::from_iter_values(0..rows));
    let mut batch = StreamBatch::new(RecordBatch::try_new(schema, vec![column]).unwrap());
    batch.watermarks = watermarks
        .iter()
        .map(|&(row, timestamp_ms)| WatermarkCut { row, timestamp_ms })
        .collect();
    StreamElement::Batch(batch)
}

/// Events in words: "batch 0: 3 rows, (1, 10)".
fn words(inputs: &mut LogicalInputs) -> Vec<String> {
    let word = |event| match event {
        InputEvent::Batch { input, batch } => {
            let cuts: Vec<_> = batch
                .watermarks
                .iter()
                .map(|cut| (cut.row, cut.timestamp_ms))
                .collect();
            format!("batch {input}: {} rows {cuts:?}", batch.num_rows())
        }
        InputEvent::End { input } => format!("end {input}"),
        InputEvent::InputIdle { input, idle } => format!("input {input} idle {idle}"),
        InputEvent::Idle(idle) => format!("idle {idle}"),
        InputEvent::Barrier(barrier) => format!("barrier {}", barrier.barrier.id),
        InputEvent::Recorded(recording) => format!("recorded {}", recording.checkpoint_id),
        InputEvent::GivenUp { checkpoint_id, .. } => format!("given up {checkpoint_id}"),
        InputEvent::Latency { source, .. } => format!("latency {source}"),
    };
    inputs.queued.drain(..).map(word).collect()
}

#[test]
fn watermarks_of_a_union_stay_at_their_rows_as_far_as_they_advance_the_minimum() {
    let mut inputs = LogicalInputs::new(&[0, 0]);
    inputs.take(0, batch(4, &[(1, 10), (4, 30)]));
    inputs.take(1, batch(3, &[(0, 5), (2, 20), (3, 40)]));
    assert_eq!(
        words(&mut inputs),
        ["batch 0: 4 rows []", "batch 0: 3 rows [(0, 5), (2, 20), (3, 30)]"]
    );
}

#[test]
fn a_batch_with_nothing_left_in_it_is_dropped() {
    let mut inputs = LogicalInputs::new(&[0, 0]);
    inputs.take(0, batch(0, &[(0, 10)]));
    assert!(words(&mut inputs).is_empty());
}

#[test]
fn a_channel_that_ends_lets_the_others_watermark_through() {
    let mut inputs = LogicalInputs::new(&[0, 0]);
    inputs.take(0, batch(1, &[(1, 10)]));
    inputs.take(1, StreamElement::EndOfInput);
    inputs.take(0, StreamElement::EndOfInput);
    assert_eq!(
        words(&mut inputs),
        ["batch 0: 1 rows []", "batch 0: 0 rows [(0, 10)]", "end 0"]
    );
}

#[test]
fn each_logical_input_has_its_own_watermark_and_end() {
    let mut inputs = LogicalInputs::new(&[0, 1]);
    inputs.take(0, batch(1, &[(1, 10)]));
    inputs.take(1, batch(1, &[(1, 3)]));
    inputs.take(0, StreamElement::EndOfInput);
    inputs.take(1, StreamElement::Idle);
    inputs.take(1, StreamElement::EndOfInput);
    assert_eq!(
        words(&mut inputs),
        [
            "batch 0: 1 rows [(1, 10)]",
            "batch 1: 1 rows [(1, 3)]",
            "end 0",
            "input 1 idle true",
            "idle true",
            "end 1"
        ]
    );
}

#[test]
fn the_input_is_idle_only_when_each_logical_input_is() {
    let mut inputs = LogicalInputs::new(&[0, 1]);
    inputs.take(0, StreamElement::Idle);
    assert_eq!(words(&mut inputs), ["input 0 idle true"]);
    inputs.take(1, StreamElement::Idle);
    inputs.take(0, StreamElement::Active);
    assert_eq!(
        words(&mut inputs),
        [
            "input 1 idle true",
            "idle true",
            "input 0 idle false",
            "idle false"
        ]
    );
}

#[test]
fn the_gates_end_is_the_end_of_every_input_once() {
    let mut inputs = LogicalInputs::new(&[0, 0, 1]);
    inputs.take(0, StreamElement::EndOfInput);
    assert!(inputs.end_all());
    assert_eq!(words(&mut inputs), ["end 0", "end 1"]);
    assert!(!inputs.end_all());
}
