//! What a task waits for with state of some size: its part of a checkpoint with 1 % changed, and its restore into the tables.
//!
//! `cargo bench -p thalweg-state --bench restore [-- keys-in-thousands]`. Values are a count and 248 bytes, as in the bench
//! of incremental checkpoints; the snapshot's files are in the temporary folder. Each restore is in a process of its own, as that of a
//! worker is: memory that it gets is new. Five runs; median, smallest and largest.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, UInt64Array};
use arrow::datatypes::{DataType, Field};
use prost::Message;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use thalweg_proto::state::v1::{
    CheckpointOptions, KeyedRun, OperatorRestore, OperatorSubtaskState, SnapshotKind, SubtaskRuns,
};
use thalweg_state::inspect::resolve;
use thalweg_state::{
    KeyedState, KeyedStateConfig, OperatorSnapshot, RestoredState, SnapshotRequest, SnapshotStore,
    StateSettings, SubtaskChain, TableSnapshot, ValueHandle,
};
use thalweg_storage::FileSystems;
use thalweg_types::KeyGroupRange;
use thalweg_types::config::Configuration;
use thalweg_types::key_hash::hash_rows;
use tokio::runtime::Runtime;

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Value = (i64, Vec<u8>);

const RUNS: usize = 5;
const BATCH: usize = 4096;
const VALUE_BYTES: usize = 248;
const MAX_PARALLELISM: u32 = 128;
const KEY_GROUPS: KeyGroupRange = KeyGroupRange { start: 0, end: 127 };

struct World {
    state: KeyedState,
    value: ValueHandle<Value>,
    slots: Vec<u32>,
    hashes: Vec<u64>,
}

impl World {
    fn new() -> Result<Self, Failure> {
        let mut state = KeyedState::new(KeyedStateConfig {
            operator: "Bench".into(),
            key: vec![Arc::new(Field::new("key", DataType::Int64, false))],
            key_groups: KEY_GROUPS,
            max_parallelism: MAX_PARALLELISM,
            settings: Arc::new(StateSettings::default()),
        })?;
        Ok(Self {
            value: state.register_value::<Value>("value", None)?,
            state,
            slots: Vec::new(),
            hashes: Vec::new(),
        })
    }

    fn update(&mut self, keys: impl Iterator<Item = i64>, random: &mut SmallRng) -> Result<(), Failure> {
        let keys: Vec<i64> = keys.map(|key| key.wrapping_mul(0x5851_F42D_4C95_7F2D)).collect();
        for keys in keys.chunks(BATCH) {
            let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(keys.to_vec()))];
            hash_rows(&columns, &mut self.hashes)?;
            let hashes = UInt64Array::from(self.hashes.clone());
            self.state.begin_batch(&columns, &hashes, 0, &mut self.slots)?;
            let table = self.state.table(self.value);
            for slot in &self.slots {
                let value = table.get_or_insert_with(*slot, || (0, vec![0; VALUE_BYTES]));
                value.0 += 1;
                random.fill_bytes(&mut value.1);
            }
            self.state.end_batch()?;
        }
        Ok(())
    }

    fn snapshot(&mut self, checkpoint_id: u64) -> Result<(Duration, Vec<TableSnapshot>), Failure> {
        let started = Instant::now();
        let request = SnapshotRequest {
            checkpoint_id,
            full: false,
        };
        let tables = self.state.snapshot(request)?;
        Ok((started.elapsed(), tables))
    }
}

struct Files {
    runtime: Runtime,
    store: SnapshotStore,
    folder: String,
    chain: SubtaskChain,
}

impl Files {
    fn new(folder: &Path) -> Result<Self, Failure> {
        Ok(Self {
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()?,
            store: SnapshotStore::new(FileSystems::new(Configuration::default())),
            folder: format!("file://{}", folder.display()),
            chain: SubtaskChain::new(KEY_GROUPS, MAX_PARALLELISM),
        })
    }

    fn write(&self, checkpoint_id: u64, tables: Vec<TableSnapshot>) -> Result<OperatorSubtaskState, Failure> {
        let options = CheckpointOptions {
            kind: SnapshotKind::Checkpoint.into(),
            exclusive_folder: format!("{}/chk-{checkpoint_id}", self.folder),
            shared_folder: format!("{}/shared", self.folder),
            ..CheckpointOptions::default()
        };
        let snapshot = OperatorSnapshot {
            tables,
            lists: vec![],
        };
        let ticket = self.chain.begin(checkpoint_id, SnapshotKind::Checkpoint);
        let written = self.store.write_operator_snapshot(0, snapshot, &options, ticket);
        Ok(self.runtime.block_on(written)?.state)
    }

    fn restore(&self, runs: &[KeyedRun]) -> Result<RestoredState, Failure> {
        let restore = OperatorRestore {
            keyed: vec![SubtaskRuns { runs: runs.to_vec() }],
            ..OperatorRestore::default()
        };
        let read = self.store.read_restore(1, &restore, KEY_GROUPS, MAX_PARALLELISM);
        Ok(self.runtime.block_on(read)?.0)
    }

    /// The state's runs in a file that [`restore_once`] reads.
    fn describe(&self, state: &OperatorSubtaskState, to: &Path) -> Result<(), Failure> {
        let absolute = |run: &KeyedRun| -> Result<KeyedRun, Failure> {
            let file = run.file.as_ref().ok_or("a run without a file")?;
            Ok(KeyedRun {
                file: Some(resolve(file, &self.folder)?),
                ..run.clone()
            })
        };
        let runs = state.runs.iter().map(absolute).collect::<Result<_, _>>()?;
        std::fs::write(to, SubtaskRuns { runs }.encode_to_vec())?;
        Ok(())
    }
}

/// In a process of its own: reads the rows, or restores them; prints the seconds, and how many rows or keys there were.
fn restore_once(what: &str, described: &Path) -> Result<(), Failure> {
    let folder = described.parent().ok_or("a file without a folder")?;
    let files = Files::new(folder)?;
    let runs = SubtaskRuns::decode(&*std::fs::read(described)?)?.runs;
    let mut world = World::new()?;
    let started = Instant::now();
    let mut state = files.restore(&runs)?;
    let mut count = 0;
    if what == READ {
        let table = state.take_table("value").ok_or("the table is missing")?;
        for batch in table.rows {
            count += batch?.num_rows();
        }
    } else {
        world.state.restore(&mut state, 0)?;
        count = world.state.key_count();
    }
    writeln!(std::io::stdout(), "{} {count}", started.elapsed().as_secs_f64())?;
    Ok(())
}

const READ: &str = "--read";
const RESTORE: &str = "--restore";

/// [`restore_once`], [`RUNS`] times.
fn measure(what: &str, described: &Path, keys: i64) -> Result<Vec<Duration>, Failure> {
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let output = std::process::Command::new(std::env::current_exe()?)
            .arg(what)
            .arg(described)
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        let (seconds, count) = text.trim().split_once(' ').ok_or("a restore failed")?;
        if count.parse::<i64>()? != keys {
            return Err(format!("{count} rows of {keys}").into());
        }
        times.push(Duration::from_secs_f64(seconds.parse()?));
    }
    Ok(times)
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [what, described] = arguments.as_slice()
        && [READ, RESTORE].contains(&what.as_str())
    {
        return restore_once(what, Path::new(described));
    }
    let asked = arguments.iter().find_map(|argument| argument.parse::<i64>().ok());
    // `cargo test --benches` runs it too: only that it works is of interest then.
    let keys = 1000 * asked.unwrap_or(if cfg!(debug_assertions) { 20 } else { 2_000 });
    let folder = tempfile::tempdir()?;
    let files = Files::new(folder.path())?;
    let mut random = SmallRng::seed_from_u64(7);
    let mut world = World::new()?;
    world.update(0..keys, &mut random)?;
    let (_, tables) = world.snapshot(1)?;
    let first = folder.path().join("first");
    files.describe(&files.write(1, tables)?, &first)?;

    let changed = folder.path().join("changed");
    let mut pauses = Vec::new();
    for run in 0..RUNS {
        let updated: Vec<i64> = (0..keys / 100).map(|_| random.random_range(0..keys)).collect();
        world.update(updated.into_iter(), &mut random)?;
        let (pause, tables) = world.snapshot(2 + run as u64)?;
        pauses.push(pause);
        files.describe(&files.write(2 + run as u64, tables)?, &changed)?;
    }
    drop(world);
    report("snapshot of 1 %, task's part, ms", pauses)?;
    report("one run read, ms", measure(READ, &first, keys)?)?;
    report(
        "one run restored into tables, ms",
        measure(RESTORE, &first, keys)?,
    )?;
    report("six runs read and merged, ms", measure(READ, &changed, keys)?)?;
    report(
        "six runs restored into tables, ms",
        measure(RESTORE, &changed, keys)?,
    )
}

fn report(what: &str, mut times: Vec<Duration>) -> Result<(), Failure> {
    times.sort();
    let ms = |time: &Duration| time.as_secs_f64() * 1e3;
    let (least, most) = (ms(&times[0]), ms(&times[times.len() - 1]));
    let median = ms(&times[times.len() / 2]);
    writeln!(
        std::io::stdout(),
        "{what:<44} {median:>8.1} ({least:.1}..{most:.1})"
    )?;
    Ok(())
}
