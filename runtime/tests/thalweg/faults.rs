//! Exactly once with real parts, while everything breaks.
//!
//! ```text
//!   transfers --> Kafka --> [ job `transfer`: JobManagers, TaskManagers, workers ] --> Kafka | files | objects --> audit
//!                   ^                    ^         |                                    each half of a transfer once,
//!                   +-------- faults ----+         +--> faulty proxy --> S3             each balance the one before
//!                             from a seed                                               plus the delta
//! ```
//!
//! A seed decides which faults come, at what, together with which others, and how long they last (`faults/plan.rs`), and how the job
//! is configured: one JobManager that is started again or two with high availability, state backend, kind of checkpoint, the brokers'
//! transaction version. After each step, or some of them, everything written so far must come out, committed or in finished
//! files. At the end the job is stopped, and all of the output is read and checked again.
//!
//! It wants a real Kafka and a real S3 server, which it starts itself since they are to be killed:
//!
//! | variable | |
//! |---|---|
//! | `THALWEG_TEST_KAFKA_JARS` | a folder with Kafka's jars; a `java` is on the path |
//! | `THALWEG_TEST_S3_SERVER` | the program versitygw |
//! | `THALWEG_TEST_FAULTS` | how many faults; a few by default |
//! | `THALWEG_TEST_FAULTS_SEED` | of faults and transfers |
//! | `THALWEG_TEST_SLOWNESS` | so many times as much patience |

mod audit;
mod broker;
mod folder;
mod job;
mod journal;
mod plan;
mod processes;
#[allow(dead_code)] // other tests use the rest of it
#[path = "../../storage/tests/storage/proxy.rs"]
mod proxy;
mod scene;
#[allow(dead_code)] // other tests use the rest of it
#[path = "../../storage/tests/storage/server.rs"]
mod server;
mod store;
mod topic;
mod transfers;

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::bail;

use journal::Journal;

/// Of both topics.
const PARTITIONS: i32 = 4;
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(100);
/// Enough for `make test`, and a seed with which they are of all kinds.
const FEW: usize = 6;
const SEED: u64 = 1;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_transfer_is_committed_to_kafka_once_whatever_fails() {
    survives(Output::Topic, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_transfer_is_in_one_object_once_whatever_fails() {
    survives(Output::Objects, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_transfer_is_in_one_file_once_whatever_fails() {
    survives(Output::Disk, 2).await;
}

/// `share`: one of so many faults that are asked for.
async fn survives(output: Output, share: usize) {
    let Some(parts) = Parts::from_environment(output, share) else {
        return;
    };
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("faults-{output:?}"));
    let _ = std::fs::remove_dir_all(&folder);
    let mut journal = Journal::new();
    if let Err(error) = scene::run(&parts, &folder, &mut journal).await {
        panic!(
            "{error:#}\nafter {} faults of seed {seed} (they are listed above); logs: {}\nagain: THALWEG_TEST_FAULTS_SEED={seed} \
             THALWEG_TEST_FAULTS={} e2e/run faults",
            journal.faults(),
            folder.join("logs").display(),
            parts.faults * share,
            seed = parts.seed
        );
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Where entries go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    Topic,
    Disk,
    Objects,
}

/// What the environment gives.
struct Parts {
    output: Output,
    kafka_jars: PathBuf,
    s3_server: PathBuf,
    faults: usize,
    seed: u64,
}

impl Parts {
    /// Nothing, and a line that says why, if there is no Kafka or no S3.
    fn from_environment(output: Output, share: usize) -> Option<Self> {
        let path = |name: &str| {
            std::env::var_os(name)
                .filter(|path| !path.is_empty())
                .map(PathBuf::from)
        };
        let (kafka_jars, s3_server) = (path("THALWEG_TEST_KAFKA_JARS"), path("THALWEG_TEST_S3_SERVER"));
        let (Some(kafka_jars), Some(s3_server)) = (kafka_jars, s3_server) else {
            println!(
                "SKIPPED: THALWEG_TEST_KAFKA_JARS (a folder) and THALWEG_TEST_S3_SERVER (the program versitygw) are not set"
            );
            return None;
        };
        let faults = number("THALWEG_TEST_FAULTS").unwrap_or(FEW);
        if output == Output::Disk && faults <= FEW {
            println!("SKIPPED: so few faults are tried with a topic and with objects only");
            return None;
        }
        Some(Self {
            output,
            kafka_jars,
            s3_server,
            faults: faults.div_ceil(share),
            seed: number("THALWEG_TEST_FAULTS_SEED").unwrap_or(SEED),
        })
    }
}

fn number<T: FromStr<Err: Display>>(name: &str) -> Option<T> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
    let number = value.parse();
    Some(number.unwrap_or_else(|error| panic!("{name} {value:?}: {error}")))
}

fn patience() -> Duration {
    PATIENCE * number("THALWEG_TEST_SLOWNESS").unwrap_or(1)
}

async fn eventually(what: &str, ready: impl AsyncFn() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let begun = Instant::now();
    while !ready().await? {
        if begun.elapsed() > patience() {
            bail!("{what}: not within {:?}", patience());
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}
