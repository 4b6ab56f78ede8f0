//! Moves money between accounts, exactly once: transfers in, what they did to each account out.
//!
//! ```text
//!   Kafka: "id from to amount" --> halves: (from, -amount), (to, +amount) --key by account--> accounts: balance by account
//!                                                                                                |
//!                          Kafka or files, one record a half: "id account delta balance" <-------+
//! ```
//!
//! Whatever fails on the way, in what a reader of committed records or of finished files sees each transfer has its two halves once, and
//! every balance is the account's balance before plus the delta. The records of an account are in one partition, in order.
//!
//! The tests that break things (`runtime/tests/thalweg/faults`) check that; the benchmark of exactly once measures the job with each
//! delivery guarantee. `../../bench/flink/src/Transfer.java` is the same for Flink.

mod options;

use std::error::Error;
use std::fmt::Write;
use std::time::Duration;

use options::{Options, Output};
use thalweg_api::connectors::kafka::{DeliveryGuarantee, OffsetsInitializer};
use thalweg_api::connectors::{
    BucketAssigner, ConnectorError, FileSink, KafkaSink, KafkaSource, RollingPolicy,
};
use thalweg_api::prelude::*;

/// What every account has at first.
const FIRST_BALANCE: i64 = 1_000;
const MAX_PART_BYTES: u64 = 256 << 10;
const ROLLOVER: Duration = Duration::from_secs(1);

/// What a transfer does to one account.
#[derive(Clone, Record)]
struct Half {
    transfer: i64,
    account: i64,
    delta: i64,
}

/// A record for the output topic.
#[derive(Clone, Record)]
struct Entry {
    account: String,
    text: String,
}

#[thalweg_api::main]
fn main() -> Result<(), Box<dyn Error>> {
    let env = StreamExecutionEnvironment::new();
    let options = Options::parse(env.args())?;
    let entries = env
        .from_source(source(&options)?)
        .name("transfers")
        .uid("transfers")
        .process(Split)
        .name("halves")
        .uid("halves")
        .key_by_field::<i64>("account")
        .process(Accounts::default())
        .name("accounts")
        .uid("accounts");
    let entries = match &options.output {
        Output::Topic { name, prefix } => {
            entries.sink_to(kafka_sink(&options.bootstrap_servers, name, prefix.as_deref())?)
        }
        Output::Folder { uri } => entries.sink_to(file_sink(uri)?),
    };
    entries.name("entries").uid("entries");
    env.execute("transfer")
}

fn source(options: &Options) -> Result<KafkaSource, Box<dyn Error>> {
    let mut builder = KafkaSource::builder()
        .bootstrap_servers(&options.bootstrap_servers)
        .topics([&options.input_topic])
        .group_id("transfer")
        .starting_offsets(OffsetsInitializer::Earliest);
    if options.bounded {
        builder = builder.bounded(OffsetsInitializer::Latest);
    }
    Ok(builder.build()?)
}

fn kafka_sink(servers: &str, topic: &str, prefix: Option<&str>) -> Result<KafkaSink, ConnectorError> {
    let builder = KafkaSink::builder()
        .bootstrap_servers(servers)
        .topic(topic)
        .key_column("account") // one account's entries stay in one partition, in order
        .value_column("text");
    match prefix {
        None => builder.build(),
        Some(prefix) => builder
            .delivery_guarantee(DeliveryGuarantee::ExactlyOnce)
            .transactional_id_prefix(prefix)
            .build(),
    }
}

/// Files are so small and so short-lived that there are always some of each kind: open, pending, finished.
fn file_sink(folder: &str) -> Result<FileSink, ConnectorError> {
    FileSink::for_row_format(folder)
        .value_column("text")
        .with_bucket_assigner(BucketAssigner::base_path())
        .with_rolling_policy(
            RollingPolicy::default()
                .with_max_part_size(MAX_PART_BYTES)
                .with_rollover_interval(ROLLOVER),
        )
        .build()
}

/// A line's two halves.
#[derive(Clone)]
struct Split;

impl ProcessFunction for Split {
    type In = String;
    type Out = Half;

    fn process(
        &mut self,
        line: &str,
        _ctx: &mut ProcessContext<'_>,
        out: &mut Collector<Half>,
    ) -> Result<(), UserError> {
        let [transfer, from, to, amount] = numbers(line)?;
        for (account, delta) in [(from, -amount), (to, amount)] {
            out.collect(HalfRef {
                transfer,
                account,
                delta,
            });
        }
        Ok(())
    }
}

fn numbers(line: &str) -> Result<[i64; 4], UserError> {
    let mut numbers = [0; 4];
    let mut words = line.split(' ');
    for number in &mut numbers {
        let word = words.next().and_then(|word| word.parse().ok());
        *number = word.ok_or_else(|| format!("{line:?} is not `id from to amount`"))?;
    }
    match words.next() {
        None => Ok(numbers),
        Some(_) => Err(format!("{line:?} is more than `id from to amount`").into()),
    }
}

/// The accounts' balances.
#[derive(Clone, Default)]
struct Accounts {
    balance: ValueState<i64>,
    account: String,
    text: String,
}

impl KeyedProcessFunction for Accounts {
    type Key = i64;
    type In = Half;
    type Out = Entry;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        self.balance = ctx.get_state("balance");
        Ok(())
    }

    fn process(
        &mut self,
        half: HalfRef<'_>,
        ctx: &mut Context<'_, i64>,
        out: &mut Collector<Entry>,
    ) -> Result<(), UserError> {
        let HalfRef {
            transfer,
            account,
            delta,
            ..
        } = half;
        let balance = self.balance.get_or_insert_with(ctx, || FIRST_BALANCE);
        *balance += delta;
        self.account.clear();
        self.text.clear();
        write!(self.account, "{account}")?;
        write!(self.text, "{transfer} {account} {delta} {balance}")?;
        out.collect(EntryRef {
            account: &self.account,
            text: &self.text,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_four_numbers_and_nothing_else() {
        assert_eq!(numbers("7 1 2 30").unwrap(), [7, 1, 2, 30]);
        for wrong in ["", "7 1 2", "7 1 2 x", "7 1 2 30 4", "7  1 2 30"] {
            let error = format!("{:?}", numbers(wrong).unwrap_err());
            assert!(error.contains("`id from to amount`"), "{wrong:?}: {error}");
        }
    }
}
