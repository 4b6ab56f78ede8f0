//! The sender against a model of a broker that loses connections and refuses, and its decisions one by one.

use std::time::Duration;

use kafka_protocol::records::RecordBatchDecoder;
use proptest::prelude::*;

use super::*;
use crate::kafka::producer::accumulator::Limits;
use crate::kafka::producer::compression::Compression;
use crate::kafka::producer::record_batch::NO_HEADERS;

const BROKER: BrokerId = 1;
const BACKOFF: Duration = Duration::from_millis(100);

fn rules() -> SendRules {
    SendRules {
        idempotent: true,
        max_in_flight: 5,
        max_request_bytes: 1_000,
        retries: u32::MAX,
        retry_backoff: BACKOFF,
        delivery_timeout: Duration::from_secs(120),
    }
}

/// A sender of two partitions and its batches, and a clock.
struct Producer {
    sender: Sender,
    batches: Accumulator,
    now: Instant,
}

impl Producer {
    fn new(rules: SendRules) -> Self {
        let mut batches = Accumulator::new(Limits {
            batch_bytes: 120,
            record_bytes: 1_000,
            total_bytes: 1 << 20,
            linger: Duration::ZERO,
            compression: Compression::None,
        });
        batches.grow(2);
        let mut sender = Sender::new(rules);
        sender.identify(ProducerIdentity { id: 1, epoch: 0 });
        sender.lead(&[Some(BROKER), Some(BROKER)]);
        Self {
            sender,
            batches,
            now: Instant::now(),
        }
    }

    fn row(&mut self, partition: u32, row: u32) {
        let value = row.to_be_bytes();
        self.batches
            .append(partition, None, Some(&value), NO_HEADERS, (0, self.now))
            .unwrap();
    }

    /// A batch of its own.
    fn batch(&mut self, partition: u32, row: u32) -> Option<Vec<Entry>> {
        self.row(partition, row);
        self.request()
    }

    fn request(&mut self) -> Option<Vec<Entry>> {
        self.sender
            .request(BROKER, &mut self.batches, self.now, true)
            .unwrap()
    }

    fn answer(&mut self, entry: &Entry, answer: Result<(), ResponseError>) -> Completion {
        let completion = self.sender.complete(entry.partition, entry.id, answer, self.now);
        if let Completion::Acknowledged { held, .. } = completion {
            self.batches.release(held);
        }
        completion
    }

    fn lost(&mut self, request: &[Entry]) {
        self.sender.answered(BROKER);
        for entry in request {
            self.sender.lost(entry.partition, entry.id, "closed", self.now);
        }
    }
}

fn sequences(request: &[Entry]) -> Vec<i32> {
    let first = |entry: &Entry| {
        RecordBatchDecoder::decode(&mut entry.bytes.clone())
            .unwrap()
            .records[0]
            .sequence
    };
    request.iter().map(first).collect()
}

/// A partition as Kafka's broker keeps it for one producer.
#[derive(Default)]
struct Log {
    rows: Vec<u32>,
    recent: VecDeque<i32>,
}

impl Log {
    fn append(&mut self, bytes: &Bytes) -> Result<(), ResponseError> {
        let records = RecordBatchDecoder::decode(&mut bytes.clone()).unwrap().records;
        let base = records[0].sequence;
        if self.recent.contains(&base) {
            return Ok(());
        }
        if base != self.rows.len() as i32 {
            return Err(ResponseError::OutOfOrderSequenceNumber);
        }
        self.recent.push_back(base);
        if self.recent.len() > 5 {
            self.recent.pop_front();
        }
        let value = |value: &Option<Bytes>| u32::from_be_bytes(value.as_deref().unwrap().try_into().unwrap());
        self.rows
            .extend(records.iter().map(|record| value(&record.value)));
        Ok(())
    }
}

/// One thing that happens.
#[derive(Debug, Clone)]
enum Step {
    Rows(u32, u32),
    Request,
    Answer,
    Refuse,
    /// The broker takes so many requests, and the connection is gone before it answers.
    Lose(usize),
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2_u32, 1..9_u32).prop_map(|(partition, rows)| Step::Rows(partition, rows)),
        4 => Just(Step::Request),
        3 => Just(Step::Answer),
        1 => Just(Step::Refuse),
        1 => (0..6_usize).prop_map(Step::Lose),
        2 => Just(Step::Wait),
    ]
}

#[derive(Default)]
struct Broker {
    logs: [Log; 2],
    pipe: VecDeque<Vec<Entry>>,
}

impl Broker {
    fn answer(&mut self, producer: &mut Producer, refuse: bool) {
        let Some(request) = self.pipe.pop_front() else {
            return;
        };
        producer.sender.answered(BROKER);
        for entry in &request {
            let answer = match refuse {
                true => Err(ResponseError::NotEnoughReplicas),
                false => self.logs[entry.partition].append(&entry.bytes),
            };
            let completion = producer.answer(entry, answer);
            assert!(!matches!(completion, Completion::Failed(_)), "{completion:?}");
        }
    }

    fn lose(&mut self, producer: &mut Producer, taken: usize) {
        for (place, request) in std::mem::take(&mut self.pipe).into_iter().enumerate() {
            for entry in request.iter().filter(|_| place < taken) {
                // the answer is lost too
                let _ = self.logs[entry.partition].append(&entry.bytes);
            }
            producer.lost(&request);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn each_row_is_in_the_log_once_and_in_order_whatever_is_lost_or_refused(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut producer = Producer::new(rules());
        let mut broker = Broker::default();
        let mut written = [0, 0];
        for step in steps {
            match step {
                Step::Rows(partition, rows) => for _ in 0..rows {
                    producer.row(partition, written[partition as usize]);
                    written[partition as usize] += 1;
                },
                Step::Request => broker.pipe.extend(producer.request()),
                Step::Answer => broker.answer(&mut producer, false),
                Step::Refuse => broker.answer(&mut producer, true),
                Step::Lose(taken) => broker.lose(&mut producer, taken),
                Step::Wait => producer.now += BACKOFF,
            }
            prop_assert!(broker.pipe.len() <= 5);
        }
        let mut rounds = 0;
        while producer.batches.used() > 0 {
            producer.now += BACKOFF;
            broker.pipe.extend(producer.request());
            broker.answer(&mut producer, false);
            rounds += 1;
            prop_assert!(rounds < 10_000, "nothing moves any more");
        }
        for (log, written) in broker.logs.iter().zip(written) {
            prop_assert_eq!(&log.rows, &(0..written).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_request_holds_a_batch_of_each_partition_and_five_are_in_flight_at_most() {
    let mut producer = Producer::new(rules());
    producer.row(1, 0);
    assert_eq!(producer.batch(0, 0).unwrap().len(), 2);
    for row in 1..5 {
        assert_eq!(sequences(&producer.batch(0, row).unwrap()), [row as i32]);
    }
    assert_eq!(producer.batch(0, 5), None);
}

#[test]
fn a_repeated_batch_is_the_same_bytes_and_goes_alone_until_it_is_acknowledged() {
    let mut producer = Producer::new(rules());
    let first = producer.batch(0, 0).unwrap();
    let second = producer.batch(0, 1).unwrap();
    producer.lost(&first);
    producer.lost(&second);
    assert_eq!(producer.request(), None, "not before the backoff");
    producer.now += BACKOFF;
    assert_eq!(producer.request().as_ref(), Some(&first));
    assert_eq!(producer.request(), None);
    producer.sender.answered(BROKER);
    producer.answer(&first[0], Err(ResponseError::DuplicateSequenceNumber));
    assert_eq!(producer.request(), Some(second));
}

#[test]
fn what_the_brokers_codes_mean() {
    let failure = |code| {
        let mut producer = Producer::new(rules());
        let request = producer.batch(0, 0).unwrap();
        match producer.answer(&request[0], Err(code)) {
            Completion::Failed(failure) => Some(failure),
            Completion::Again { .. } => None,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(failure(ResponseError::NotLeaderOrFollower), None);
    assert!(matches!(
        failure(ResponseError::MessageTooLarge),
        Some(SendFailure::TooLarge {
            records: 1,
            last: (0, 4),
            ..
        })
    ));
    assert!(matches!(
        failure(ResponseError::OutOfOrderSequenceNumber),
        Some(SendFailure::IdentityLost { .. })
    ));
    assert!(matches!(
        failure(ResponseError::TopicAuthorizationFailed),
        Some(SendFailure::Refused { .. })
    ));
}

#[test]
fn a_batch_fails_after_its_retries_and_after_its_time() {
    let mut producer = Producer::new(SendRules {
        retries: 1,
        ..rules()
    });
    let request = producer.batch(0, 0).unwrap();
    producer.lost(&request);
    producer.now += BACKOFF;
    let again = producer.request().unwrap();
    assert!(matches!(
        producer.answer(&again[0], Err(ResponseError::RequestTimedOut)),
        Completion::Failed(SendFailure::RetriesExhausted { partition: 0, .. })
    ));

    let mut producer = Producer::new(rules());
    producer.sender.lead(&[None, None]);
    producer.row(1, 0);
    assert_eq!(producer.request(), None);
    let deadline = producer.now + rules().delivery_timeout;
    let wake = producer
        .sender
        .wake_at(&producer.batches, producer.now, true, |_| true);
    assert_eq!(wake, Some(deadline));
    assert_eq!(producer.sender.expired(&producer.batches, producer.now), None);
    assert_eq!(
        producer.sender.expired(&producer.batches, deadline),
        Some(SendFailure::TimedOut { partition: 1 })
    );
}

#[test]
fn without_idempotence_batches_have_no_numbers_and_nothing_is_sent_without_an_identity_otherwise() {
    let mut producer = Producer::new(rules());
    producer.sender = Sender::new(SendRules {
        idempotent: false,
        ..rules()
    });
    producer.sender.lead(&[Some(BROKER), Some(BROKER)]);
    let request = producer.batch(0, 0).unwrap();
    let record = RecordBatchDecoder::decode(&mut request[0].bytes.clone())
        .unwrap()
        .records
        .remove(0);
    assert_eq!((record.producer_id, record.producer_epoch), (-1, -1));
    assert_eq!(&request[0].bytes[53..57], (-1_i32).to_be_bytes());

    producer.sender = Sender::new(rules());
    producer.sender.lead(&[Some(BROKER), Some(BROKER)]);
    assert!(producer.sender.needs_identity());
    assert_eq!(producer.batch(0, 0), None);
}
