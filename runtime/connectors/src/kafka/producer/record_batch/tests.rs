//! Batches as another implementation of the protocol decodes them.

use kafka_protocol::records::{Record, RecordBatchDecoder};
use proptest::prelude::*;

use super::*;

type Row = (Option<Vec<u8>>, Option<Vec<u8>>, i64);

fn batch_of(rows: &[Row]) -> RecordBatch {
    let mut batch = OpenBatch::with_capacity(0);
    for (key, value, timestamp) in rows {
        batch.append(key.as_deref(), value.as_deref(), NO_HEADERS, *timestamp);
    }
    batch.close(Compression::None).unwrap()
}

fn decode(bytes: &Bytes) -> Vec<Record> {
    RecordBatchDecoder::decode(&mut bytes.clone()).unwrap().records
}

fn rows_of(records: &[Record]) -> Vec<Row> {
    let bytes = |field: &Option<Bytes>| field.as_ref().map(|bytes| bytes.to_vec());
    records
        .iter()
        .map(|record| (bytes(&record.key), bytes(&record.value), record.timestamp))
        .collect()
}

#[test]
fn one_record_is_these_bytes() {
    let batch = batch_of(&[(Some(b"k".to_vec()), Some(b"v".to_vec()), 1_000)]);
    let bytes = batch.stamp(ProducerIdentity { id: 7, epoch: 1 }, 5);
    let crc = crc32c::crc32c(&bytes[21..]).to_be_bytes();
    let expected = [
        &[0; 8][..],                         // base offset
        &[0, 0, 0, 58],                      // length of what follows
        &[0xff; 4],                          // leader epoch
        &[2],                                // magic
        &crc,                                // checksum
        &[0, 0],                             // attributes
        &[0, 0, 0, 0],                       // last offset delta
        &[0, 0, 0, 0, 0, 0, 3, 0xe8],        // base timestamp
        &[0, 0, 0, 0, 0, 0, 3, 0xe8],        // max timestamp
        &[0, 0, 0, 0, 0, 0, 0, 7, 0, 1],     // producer
        &[0, 0, 0, 5],                       // base sequence
        &[0, 0, 0, 1],                       // records
        &[16, 0, 0, 0, 2, b'k', 2, b'v', 0], // length, attributes, time, offset, key, value, headers
    ]
    .concat();
    assert_eq!(bytes, expected);
}

#[test]
fn producer_and_sequence_are_those_of_the_stamp() {
    let row = (None, Some(b"v".to_vec()), 1);
    let bytes = batch_of(&[row.clone(), row]).stamp(
        ProducerIdentity {
            id: 1 << 40,
            epoch: 300,
        },
        1_000_000,
    );
    let records = decode(&bytes);
    let of = |record: &Record| {
        (
            record.producer_id,
            record.producer_epoch,
            record.sequence,
            record.offset,
        )
    };
    assert_eq!(
        records.iter().map(of).collect::<Vec<_>>(),
        [(1 << 40, 300, 1_000_000, 0), (1 << 40, 300, 1_000_001, 1)]
    );
}

#[test]
fn null_and_empty_are_told_apart() {
    let rows = [
        (None, None, 5),
        (Some(Vec::new()), Some(Vec::new()), -1),
        (Some(b"a".to_vec()), None, 4_000_000_000_000),
        (None, Some(b"b".to_vec()), -1_000_000),
    ];
    assert_eq!(
        rows_of(&decode(&batch_of(&rows).stamp(ProducerIdentity::NONE, -1))),
        rows
    );
}

#[test]
fn headers_come_back_in_their_order() {
    let name = vec![b'n'; 200];
    let headers: [(&[u8], &[u8]); 3] = [(b"b", b"2"), (b"a", b""), (&name, b"1")];
    let mut encoded = vec![7; 3];
    encode_headers(headers.into_iter(), &mut encoded);
    let mut batch = OpenBatch::with_capacity(0);
    batch.append(None, Some(b"v"), &encoded, 0);
    batch.append(None, Some(b"w"), NO_HEADERS, 0);
    let batch = batch.close(Compression::None).unwrap();
    let records = decode(&batch.stamp(ProducerIdentity::NONE, -1));
    let of = |record: &Record| -> Vec<(Vec<u8>, Vec<u8>)> {
        let headers = record.headers.iter();
        headers
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_deref().unwrap().to_vec()))
            .collect()
    };
    assert_eq!(
        of(&records[0]),
        headers.map(|(name, value)| (name.to_vec(), value.to_vec()))
    );
    assert!(records[1].headers.is_empty());
}

#[test]
fn a_record_needs_no_more_than_its_overhead() {
    let (key, value) = (vec![0; 70_000], vec![0; 3_000_000]);
    let mut batch = OpenBatch::with_capacity(0);
    batch.append(None, None, NO_HEADERS, i64::MIN);
    let before = batch.len();
    batch.append(Some(&key), Some(&value), NO_HEADERS, i64::MAX);
    assert!(batch.len() - before <= key.len() + value.len() + RECORD_OVERHEAD);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_rows_come_back(rows in prop::collection::vec(
        (
            prop::option::of(prop::collection::vec(any::<u8>(), 0..300)),
            prop::option::of(prop::collection::vec(any::<u8>(), 0..3_000)),
            -1_000_000_i64..4_000_000_000_000,
        ),
        1..200,
    )) {
        let bytes = batch_of(&rows).stamp(ProducerIdentity { id: 1, epoch: 0 }, 0);
        prop_assert_eq!(rows_of(&decode(&bytes)), rows);
    }
}
