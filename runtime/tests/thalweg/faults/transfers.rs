//! The input: transfers that a seed decides, written to a topic as they come.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;

use super::PARTITIONS;
use super::plan::Draw;

pub(super) const ACCOUNTS: i64 = 100;
/// What every account has at first, as the job has it.
pub(super) const FIRST_BALANCE: i64 = 1_000;
/// Written at once, and how long until the next ones: some thousands a second.
const AT_ONCE: i64 = 40;
const PAUSE: Duration = Duration::from_millis(20);
/// For what is written last; brokers may be away meanwhile.
const FLUSH: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Transfer {
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) amount: i64,
}

/// The transfer with this number.
pub(super) fn transfer(seed: u64, id: i64) -> Transfer {
    let mut draw = Draw::new(seed ^ (id as u64).wrapping_mul(0x2545_f491_4f6c_dd1d));
    let from = draw.below(ACCOUNTS as u64) as i64;
    let to = (from + 1 + draw.below(ACCOUNTS as u64 - 1) as i64) % ACCOUNTS;
    let amount = 1 + draw.below(100) as i64;
    Transfer { from, to, amount }
}

/// Writes transfers until it is told to end.
pub(super) struct Input {
    next: Arc<AtomicI64>,
    ended: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Input {
    pub(super) fn start(servers: &str, topic: &str, seed: u64) -> anyhow::Result<Self> {
        let refused = Arc::new(Mutex::new(None));
        let producer: ThreadedProducer<Deliveries> = ClientConfig::new()
            .set("bootstrap.servers", servers)
            .set("enable.idempotence", "true")
            // Brokers that are away are waited for.
            .set("message.timeout.ms", "600000")
            .set("linger.ms", "5")
            .create_with_context(Deliveries(Arc::clone(&refused)))?;
        let (next, ended) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counter, end, topic) = (Arc::clone(&next), Arc::clone(&ended), topic.to_owned());
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                for id in counter.load(Ordering::Relaxed)..counter.load(Ordering::Relaxed) + AT_ONCE {
                    send(&producer, &topic, seed, id)?;
                }
                counter.fetch_add(AT_ONCE, Ordering::Relaxed);
                std::thread::sleep(PAUSE);
            }
            producer.flush(FLUSH).context("the last transfers")?;
            match refused.lock().unwrap().take() {
                None => Ok(()),
                Some(error) => bail!("a transfer was not written: {error}"),
            }
        });
        Ok(Self { next, ended, thread })
    }

    /// How many were begun to be written.
    pub(super) fn written(&self) -> i64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Returns how many there are when all are in the topic.
    pub(super) fn finish(self) -> anyhow::Result<i64> {
        self.ended.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .map_err(|_| anyhow!("the producer of transfers panicked"))??;
        Ok(self.next.load(Ordering::Relaxed))
    }
}

fn send(producer: &ThreadedProducer<Deliveries>, topic: &str, seed: u64, id: i64) -> anyhow::Result<()> {
    let Transfer { from, to, amount } = transfer(seed, id);
    let line = format!("{id} {from} {to} {amount}");
    let partition = (id % i64::from(PARTITIONS)) as i32;
    let mut record = BaseRecord::<(), str>::to(topic)
        .payload(&line)
        .partition(partition);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), unsent)) => {
                record = unsent;
                std::thread::sleep(PAUSE);
            }
            Err((error, _)) => return Err(error).context("writing a transfer"),
        }
    }
}

/// Keeps the first record that could not be written.
struct Deliveries(Arc<Mutex<Option<String>>>);

impl ClientContext for Deliveries {
    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.0.lock().unwrap().get_or_insert_with(|| error.to_string());
        }
    }
}

#[test]
fn a_transfer_is_between_two_accounts_and_its_number_decides_it() {
    for id in 0..1_000 {
        let made = transfer(3, id);
        assert_eq!(made, transfer(3, id));
        assert!(made.from != made.to && made.amount > 0, "{made:?}");
        assert!((0..ACCOUNTS).contains(&made.from) && (0..ACCOUNTS).contains(&made.to));
    }
    assert_ne!(transfer(3, 1), transfer(4, 1));
}
