//! Speed of writing a snapshot, restoring it, restoring a part of it, and merging runs; on the disk of the temporary folder.
//!
//! `cargo bench -p thalweg-state`. Five runs a row; median, smallest and largest. Rows are of one subtask with all key
//! groups; "MB/s" is of the file's bytes. The incremental checkpoint has 1 % of the rows.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int8Array, Int64Array, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field};
use thalweg_proto::state::v1::{
    CheckpointOptions, KeyedRun, OperatorRestore, OperatorSubtaskState, SnapshotKind, SubtaskRuns,
};
use thalweg_state::inspect::resolve;
use thalweg_state::{
    OperatorSnapshot, SnapshotStore, StoredRows, SubtaskChain, TableDescriptor, TableKind, TableSnapshot,
    WrittenSnapshot,
};
use thalweg_storage::FileSystems;
use thalweg_types::KeyGroupRange;
use thalweg_types::config::Configuration;
use thalweg_types::key_group::key_group;
use thalweg_types::key_hash::hash_rows;
use tokio::runtime::Runtime;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const RUNS: usize = 5;
const MAX_PARALLELISM: u32 = 128;
const BATCH_ROWS: usize = 64 << 10;

fn main() -> Result<(), Failure> {
    // `cargo test --benches` runs it too: only that it works is of interest then.
    let rows = if cfg!(debug_assertions) {
        200_000
    } else {
        5_000_000
    };
    let bench = Bench {
        runtime: tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?,
        store: SnapshotStore::new(FileSystems::new(Configuration::default())),
    };
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{:<22} {:<30} {:>22} {:>10} {:>9}",
        "table", "what", "M rows/s (min..max)", "MB/s", "bytes/row"
    )?;
    for text in [false, true] {
        bench.table(&mut out, text, rows)?;
    }
    Ok(())
}

struct Bench {
    runtime: Runtime,
    store: SnapshotStore,
}

/// One run: how long, of how many rows and bytes of files.
struct Run {
    elapsed: Duration,
    rows: usize,
    bytes: u64,
}

impl Bench {
    fn table(&self, out: &mut impl Write, text: bool, rows: usize) -> Result<(), Failure> {
        let name = if text {
            "text -> number"
        } else {
            "number -> number"
        };
        let folder = tempfile::tempdir()?;
        let folder = format!("file://{}", folder.path().display());
        let full = snapshot(text, &(0..rows as i64).collect::<Vec<_>>())?;
        let changed: Vec<i64> = (0..rows as i64).step_by(100).collect();
        let delta = snapshot(text, &changed)?;

        row(out, name, "full checkpoint", || {
            let chain = SubtaskChain::new(all(), MAX_PARALLELISM);
            let (elapsed, written) = self.checkpoint(&chain, 1, &full, &folder)?;
            Ok(Run {
                elapsed,
                rows,
                bytes: written.written_bytes,
            })
        })?;
        let chain = SubtaskChain::new(all(), MAX_PARALLELISM);
        self.checkpoint(&chain, 1, &full, &folder)?;
        row(out, name, "incremental checkpoint, 1 %", || {
            let (elapsed, written) = self.checkpoint(&chain, 2, &delta, &folder)?;
            Ok(Run {
                elapsed,
                rows: changed.len(),
                bytes: written.written_bytes,
            })
        })?;
        let (_, written) = self.checkpoint(&chain, 3, &delta, &folder)?;
        let runs = written.state.runs.len();
        row(out, name, &format!("restore of {runs} runs"), || {
            self.restore(&written.state, &folder, all())
        })?;
        let third = KeyGroupRange {
            start: 0,
            end: MAX_PARALLELISM / 3,
        };
        row(out, name, "restore of a third", || {
            self.restore(&written.state, &folder, third)
        })?;
        let base = OperatorSubtaskState {
            runs: written.state.runs[..1].to_vec(),
            ..written.state.clone()
        };
        row(out, name, "restore of a full checkpoint", || {
            self.restore(&base, &folder, all())
        })?;
        row(out, name, "merge of 8 runs of 1 %", || {
            let chain = SubtaskChain::new(all(), MAX_PARALLELISM);
            for id in 1..9 {
                self.checkpoint(&chain, id, &delta, &folder)?;
            }
            let started = Instant::now();
            let merged = self
                .runtime
                .block_on(self.store.merge_runs(&chain, &format!("{folder}/shared")))?;
            let elapsed = started.elapsed();
            let (_, after) = self.checkpoint(&chain, 9, &delta, &folder)?;
            match merged {
                true => Ok(Run {
                    elapsed,
                    rows: 8 * changed.len(),
                    bytes: after.full_bytes - after.written_bytes,
                }),
                false => Err("nothing was merged".into()),
            }
        })
    }

    fn checkpoint(
        &self,
        chain: &SubtaskChain,
        checkpoint_id: u64,
        snapshot: &OperatorSnapshot,
        folder: &str,
    ) -> Result<(Duration, WrittenSnapshot), Failure> {
        let options = CheckpointOptions {
            kind: SnapshotKind::Checkpoint.into(),
            exclusive_folder: format!("{folder}/chk-{checkpoint_id}"),
            shared_folder: format!("{folder}/shared"),
            ..CheckpointOptions::default()
        };
        let snapshot = snapshot.clone();
        let started = Instant::now();
        let ticket = chain.begin(checkpoint_id, SnapshotKind::Checkpoint);
        let written = self.store.write_operator_snapshot(0, snapshot, &options, ticket);
        let written = self.runtime.block_on(written)?;
        Ok((started.elapsed(), written))
    }

    fn restore(
        &self,
        state: &OperatorSubtaskState,
        folder: &str,
        range: KeyGroupRange,
    ) -> Result<Run, Failure> {
        let absolute = |run: &KeyedRun| -> Result<KeyedRun, Failure> {
            let file = run.file.as_ref().ok_or("a run without a file")?;
            Ok(KeyedRun {
                file: Some(resolve(file, folder)?),
                ..run.clone()
            })
        };
        let runs = state.runs.iter().map(absolute).collect::<Result<Vec<_>, _>>()?;
        let bytes = runs
            .iter()
            .filter_map(|run| run.file.as_ref())
            .map(|file| file.size)
            .sum();
        let restore = OperatorRestore {
            keyed: vec![SubtaskRuns { runs }],
            ..OperatorRestore::default()
        };
        let started = Instant::now();
        let read = self.store.read_restore(1, &restore, range, MAX_PARALLELISM);
        let (mut state, _) = self.runtime.block_on(read)?;
        let table = state.take_table("count").ok_or("the table is missing")?;
        let mut rows = 0;
        for batch in table.rows {
            rows += batch?.num_rows();
        }
        Ok(Run {
            elapsed: started.elapsed(),
            rows,
            bytes,
        })
    }
}

fn all() -> KeyGroupRange {
    KeyGroupRange {
        start: 0,
        end: MAX_PARALLELISM - 1,
    }
}

/// Upserts of these keys, in an order that is not the files'.
fn snapshot(text: bool, ids: &[i64]) -> Result<OperatorSnapshot, Failure> {
    let key_type = if text { DataType::Utf8 } else { DataType::Int64 };
    let descriptor = Arc::new(TableDescriptor {
        name: "count".to_owned(),
        kind: TableKind::Value,
        key: vec![Arc::new(Field::new("key", key_type, false))],
        sub_key: vec![],
        value: vec![Arc::new(Field::new("n", DataType::Int64, false))],
        ttl: None,
    });
    let mut changes = Vec::new();
    for ids in ids.chunks(BATCH_ROWS) {
        let key: ArrayRef = match text {
            true => Arc::new(StringArray::from_iter_values(
                ids.iter().map(|id| format!("user-{id:010}")),
            )),
            false => Arc::new(Int64Array::from(ids.to_vec())),
        };
        let mut hashes = Vec::new();
        hash_rows(std::slice::from_ref(&key), &mut hashes)?;
        let groups = hashes.iter().map(|hash| key_group(*hash, MAX_PARALLELISM));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from_iter_values(groups)),
            Arc::new(UInt64Array::from(hashes.clone())),
            Arc::new(Int8Array::from(vec![0; ids.len()])),
            key,
            Arc::new(Int64Array::from_iter_values(ids.iter().map(|id| id % 1000))),
        ];
        changes.push(RecordBatch::try_new(descriptor.change_schema(), columns)?);
    }
    Ok(OperatorSnapshot {
        tables: vec![TableSnapshot {
            descriptor,
            changes,
            stored: StoredRows::default(),
        }],
        lists: vec![],
    })
}

fn row(
    out: &mut impl Write,
    table: &str,
    what: &str,
    run: impl Fn() -> Result<Run, Failure>,
) -> Result<(), Failure> {
    let mut runs = (0..RUNS).map(|_| run()).collect::<Result<Vec<Run>, _>>()?;
    runs.sort_by_key(|run| run.elapsed);
    let speed = |run: &Run| run.rows as f64 / run.elapsed.as_secs_f64() / 1e6;
    let median = &runs[RUNS / 2];
    writeln!(
        out,
        "{table:<22} {what:<30} {:>7.2} ({:.2}..{:.2}) {:>10.0} {:>9.1}",
        speed(median),
        speed(&runs[RUNS - 1]),
        speed(&runs[0]),
        median.bytes as f64 / median.elapsed.as_secs_f64() / 1e6,
        median.bytes as f64 / median.rows as f64
    )?;
    Ok(())
}
