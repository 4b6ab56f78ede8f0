//! What state on disk costs: counts by key, uniformly random keys, in memory and with a tenth of the memory.
//!
//! `cargo bench -p thalweg-state --bench disk [-- keys-in-thousands]`

use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, UInt64Array};
use arrow::datatypes::{DataType, Field};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use thalweg_state::{
    DiskSettings, KeyedState, KeyedStateConfig, LocalFolder, SnapshotRequest, StateSettings, ValueHandle,
};
use thalweg_types::KeyGroupRange;
use thalweg_types::key_hash::hash_rows;

const BATCH: usize = 4096;

type Row = (i64, String);
type Outcome<T> = Result<T, Box<dyn Error>>;

struct World {
    state: KeyedState,
    value: ValueHandle<Row>,
    random: SmallRng,
    keys: i64,
    slots: Vec<u32>,
    hashes: Vec<u64>,
}

impl World {
    fn new(settings: StateSettings, keys: i64) -> Outcome<Self> {
        let mut state = KeyedState::new(KeyedStateConfig {
            operator: "Bench".into(),
            key: vec![Arc::new(Field::new("key", DataType::Int64, false))],
            key_groups: KeyGroupRange { start: 0, end: 127 },
            max_parallelism: 128,
            settings: Arc::new(settings),
        })?;
        Ok(Self {
            value: state.register_value::<Row>("value", None)?,
            state,
            random: SmallRng::seed_from_u64(7),
            keys,
            slots: Vec::new(),
            hashes: Vec::new(),
        })
    }

    fn batch(&mut self, keys: Vec<i64>) -> Outcome<()> {
        let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(keys))];
        hash_rows(&columns, &mut self.hashes)?;
        let hashes = UInt64Array::from(self.hashes.clone());
        let begun = self.state.begin_batch(&columns, &hashes, 0, &mut self.slots);
        begun?;
        let table = self.state.table(self.value);
        for slot in &self.slots {
            let create = || (0, "a text that every key has, of some length".to_owned());
            table.get_or_insert_with(*slot, create).0 += 1;
        }
        Ok(self.state.end_batch()?)
    }

    /// Every key once.
    fn fill(&mut self) -> Outcome<Duration> {
        let start = Instant::now();
        for first in (0..self.keys).step_by(BATCH) {
            let scattered = |key: i64| key.wrapping_mul(0x5851_F42D_4C95_7F2D);
            let last = (first + BATCH as i64).min(self.keys);
            self.batch((first..last).map(scattered).collect())?;
        }
        Ok(start.elapsed())
    }

    fn update(&mut self, batches: usize) -> Outcome<(Duration, Duration)> {
        let (start, mut longest) = (Instant::now(), Duration::ZERO);
        for _ in 0..batches {
            let random = &mut self.random;
            let keys = (0..BATCH).map(|_| {
                random
                    .random_range(0..self.keys)
                    .wrapping_mul(0x5851_F42D_4C95_7F2D)
            });
            let keys = keys.collect();
            let batch = Instant::now();
            self.batch(keys)?;
            longest = longest.max(batch.elapsed());
        }
        Ok((start.elapsed(), longest))
    }

    fn report(&mut self, name: &str) -> Outcome<()> {
        let mut out = std::io::stdout();
        let per_second = |rows: usize, time: Duration| rows as f64 / time.as_secs_f64() / 1e6;
        let filled = self.fill()?;
        let batches = 200;
        let (updated, longest) = self.update(batches)?;
        writeln!(
            out,
            "{name}: fill {:.2} M rows/s, update {:.2} M rows/s (longest batch {:.0} ms), {:.0} MiB in memory, {} keys there",
            per_second(self.keys as usize, filled),
            per_second(batches * BATCH, updated),
            longest.as_secs_f64() * 1e3,
            self.state.memory_size() as f64 / f64::from(1 << 20),
            self.state.key_count(),
        )?;
        for (kind, full) in [("full", true), ("incremental", false)] {
            self.update(20)?;
            let start = Instant::now();
            let request = SnapshotRequest {
                checkpoint_id: 1,
                full,
            };
            let tables = self.state.snapshot(request)?;
            writeln!(
                out,
                "{name}: {kind} snapshot, task's part {:.0} ms",
                start.elapsed().as_secs_f64() * 1e3
            )?;
            drop(tables);
        }
        let (updated, longest) = self.update(batches)?;
        writeln!(
            out,
            "{name}: update with changes kept for checkpoints {:.2} M rows/s (longest batch {:.0} ms)",
            per_second(batches * BATCH, updated),
            longest.as_secs_f64() * 1e3,
        )?;
        Ok(())
    }
}

fn main() -> Outcome<()> {
    let thousands = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse::<i64>().ok());
    let keys = 1000 * thousands.unwrap_or(3_000);
    let mut memory = World::new(StateSettings::default(), keys)?;
    memory.report("hashmap")?;
    let bytes = memory.state.memory_size();
    drop(memory);
    let base = tempfile::tempdir()?;
    let folder = LocalFolder::of_process(base.path())?;
    for (name, memory_bytes) in [("disk, all fits", 2 * bytes), ("disk, a tenth fits", bytes / 10)] {
        let settings = StateSettings {
            exact_columns: false,
            memory_bytes,
            disk: Some(DiskSettings::new(Arc::clone(&folder), memory_bytes)),
            scratch: None,
        };
        World::new(settings, keys)?.report(name)?;
    }
    Ok(())
}
