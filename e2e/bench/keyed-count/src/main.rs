//! The job of the state benchmarks: counts keys, with as much state for each as is asked for.
//!
//! ```text
//!   Kafka: blocks of keys --cut into (key, 1)--> "keys" --key by--> "counts": (key, count) --> Kafka or nowhere
//! ```
//!
//! A record of the topic is a block: keys of 16 hexadecimal digits, one behind the other, so that the source costs next to
//! nothing a key. `../flink/src/KeyedCount.java` is the same for Flink, operator by operator and with these arguments; what
//! one does to a key, the other does too. Digits are not checked: the bench wrote them.

mod count;
mod key;
mod options;

use std::error::Error;

use thalweg_api::connectors::kafka::{DeliveryGuarantee, OffsetsInitializer};
use thalweg_api::connectors::{ConnectorError, KafkaSink, KafkaSource};
use thalweg_api::prelude::*;

use count::{Count, CountWithPayload};
use key::{DIGITS, Key};
use options::{KeyType, Options, Program};

/// A record for the output topic.
#[derive(Clone, Record)]
struct Message {
    key: String,
    text: String,
}

#[thalweg_api::main]
fn main() -> Result<(), Box<dyn Error>> {
    let env = StreamExecutionEnvironment::new();
    let options = Options::parse(env.args())?;
    match options.key {
        KeyType::Bigint => build::<i64>(&env, &options)?,
        KeyType::String => build::<String>(&env, &options)?,
    }
    env.execute("keyed-count")
}

fn build<K: Key>(env: &StreamExecutionEnvironment, options: &Options) -> Result<(), Box<dyn Error>> {
    let keys = source(env, options)?
        .name("blocks")
        .uid("blocks")
        .flat_map(cut::<K>)
        .name("keys")
        .uid("keys")
        .key_by_field::<K>("f0");
    let counts = match options.program {
        Program::Rolling => keys.sum("f1"),
        Program::Process { value_bytes: 0 } => keys.process(Count::<K>::default()),
        Program::Process { value_bytes } => keys.process(CountWithPayload::<K>::new(value_bytes)),
    };
    let counts = counts.name("counts").uid("counts");
    match &options.output_topic {
        None => counts.blackhole().name("blackhole").uid("sink"),
        Some(topic) => counts
            .flat_map(format_message::<K>)
            .name("messages")
            .uid("messages")
            .sink_to(kafka_sink(options, topic)?)
            .name("kafka")
            .uid("sink"),
    };
    Ok(())
}

fn source(
    env: &StreamExecutionEnvironment,
    options: &Options,
) -> Result<DataStream<Vec<u8>>, Box<dyn Error>> {
    let mut builder = KafkaSource::builder()
        .bootstrap_servers(&options.bootstrap_servers)
        .topics([&options.input_topic])
        .group_id("keyed-count")
        .starting_offsets(OffsetsInitializer::Earliest)
        .value_as_bytes();
    if options.bounded {
        builder = builder.bounded(OffsetsInitializer::Latest);
    }
    Ok(env.from_source(builder.build()?))
}

fn kafka_sink(options: &Options, topic: &str) -> Result<KafkaSink, ConnectorError> {
    let builder = KafkaSink::builder()
        .bootstrap_servers(&options.bootstrap_servers)
        .topic(topic)
        .key_column("key")
        .value_column("text");
    match &options.transactional_id_prefix {
        None => builder.build(),
        Some(prefix) => builder
            .delivery_guarantee(DeliveryGuarantee::ExactlyOnce)
            .transactional_id_prefix(prefix)
            .build(),
    }
}

/// A block's keys, each with 1.
fn cut<K: Key>(block: &[u8], out: &mut Collector<(K, i64)>) {
    for digits in block.chunks_exact(DIGITS) {
        out.collect((K::read(digits), 1));
    }
}

/// "key count", as text. Not made for speed: figures are made without, or at a few thousand records a second.
fn format_message<K: Key>((key, count): RecordRef<'_, (K, i64)>, out: &mut Collector<Message>) {
    let key = K::digits(key);
    out.collect(MessageRef {
        text: &format!("{key} {count}"),
        key: &key,
    });
}
