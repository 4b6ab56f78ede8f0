use super::*;
use crate::tests::fixtures::{all_types, numbers};

fn received(encoded: &EncodedElement) -> ReceivedElement {
    let bytes: Vec<u8> = encoded
        .pieces
        .iter()
        .flat_map(|piece| piece.iter().copied())
        .collect();
    assert_eq!(bytes.len(), encoded.total);
    ReceivedElement::new(bytes).unwrap()
}

#[test]
fn both_sides_count_the_same_cost_and_rows() {
    let mut encoder = Encoder::default();
    let batch = StreamBatch::new(all_types());
    let encoded = encoder.encode(&StreamElement::Batch(batch)).unwrap();
    let received = received(&encoded);
    assert_eq!(received.cost(), encoded.cost());
    assert_eq!(received.batch_rows(), Some(5));
}

#[test]
fn the_schema_is_sent_once_for_each_set_of_stream_columns() {
    let mut encoder = Encoder::default();
    let mut size = |batch: &StreamBatch| {
        encoder
            .encode(&StreamElement::Batch(batch.clone()))
            .unwrap()
            .total
    };
    let plain = numbers(0..10);
    let mut timed = numbers(0..10);
    timed.timestamps = Some((0..10).collect());
    let (first_plain, first_timed) = (size(&plain), size(&timed));
    let (later_plain, later_timed) = (size(&plain), size(&timed));
    assert!(later_plain < first_plain && later_timed < first_timed);
    assert_eq!((size(&plain), size(&timed)), (later_plain, later_timed));
}

#[test]
fn large_buffers_are_sent_from_where_they_are() {
    let batch = numbers(0..10_000);
    let buffer = batch.rows.column(0).to_data().buffers()[0].clone();
    let encoded = Encoder::default().encode(&StreamElement::Batch(batch)).unwrap();
    assert!(
        encoded
            .pieces
            .iter()
            .any(|piece| piece.as_ptr() == buffer.as_ptr())
    );
}

#[test]
fn a_truncated_element_is_an_error() {
    let encoded = Encoder::default()
        .encode(&StreamElement::Batch(numbers(0..100)))
        .unwrap();
    let whole: Vec<u8> = encoded
        .pieces
        .iter()
        .flat_map(|piece| piece.iter().copied())
        .collect();
    for length in [HEADER_BYTES, HEADER_BYTES + 4, whole.len() / 2, whole.len() - 64] {
        let cut = ReceivedElement::new(whole[..length].to_vec()).unwrap();
        assert!(
            Decoder::default().decode(&cut).is_err(),
            "{length} bytes of {}",
            whole.len()
        );
    }
    assert!(ReceivedElement::new(whole[..HEADER_BYTES - 1].to_vec()).is_none());
}

#[test]
fn a_batch_without_a_schema_before_it_is_an_error() {
    let mut encoder = Encoder::default();
    encoder.encode(&StreamElement::Batch(numbers(0..1))).unwrap();
    let second = encoder.encode(&StreamElement::Batch(numbers(0..1))).unwrap();
    let error = Decoder::default().decode(&received(&second)).unwrap_err();
    assert!(error.to_string().contains("no schema was sent yet"), "{error}");
}
