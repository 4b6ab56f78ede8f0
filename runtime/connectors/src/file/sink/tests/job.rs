//! A job of a counting source and the sink, with checkpoints as tasks take them, in processes that die and come back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::future::poll_fn;
use thalweg_storage::{FileSystem, FileSystems};
use thalweg_types::StreamBatch;
use tokio::runtime::{Builder, Runtime};

use super::mortal::{Life, MortalFolders};
use crate::file::sink::files::failed;
use crate::file::sink::parts::Limits;
use crate::file::sink::writer::FileWriter;
use crate::file::sink::{BucketAssigner, BulkFormat, BulkWriter, FileSink, RollingPolicy};
use crate::testing::context_of;
use crate::{Committable, ConnectorContext, ConnectorError, RestoredConnector, SinkWriter};

/// By the ticking clock.
const PART_TIME: Duration = Duration::from_millis(200);

/// Numbers that a seed decides.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}

/// A clock on which each look takes a millisecond.
fn ticking() -> i64 {
    static NOW: AtomicI64 = AtomicI64::new(0);
    NOW.fetch_add(1, Ordering::Relaxed)
}

/// The newest complete one.
#[derive(Debug, Default, Clone)]
struct Checkpoint {
    id: u64,
    next_line: usize,
    states: Vec<Vec<u8>>,
    committables: Vec<Committable>,
}

pub(super) struct Job {
    io: Runtime,
    files: FileSystems,
    sink: FileSink,
    limits: Limits,
    lines: usize,
    /// Appended to each line.
    padding: String,
    checkpoint: Checkpoint,
    folder: FileSystem,
}

/// A bulk format: lines, held back two batches at a time.
#[derive(Debug, Default)]
struct Numbered;

#[derive(Default)]
struct NumberedWriter {
    held: Vec<u8>,
    batches: usize,
}

impl BulkFormat for Numbered {
    fn validate(&self, _: &SchemaRef) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn create(&self, _: &SchemaRef) -> Result<Box<dyn BulkWriter>, ConnectorError> {
        Ok(Box::new(NumberedWriter::default()))
    }
}

impl BulkWriter for NumberedWriter {
    fn write(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ConnectorError> {
        for line in rows.column(0).as_string::<i32>().iter().flatten() {
            self.held.extend(line.bytes());
            self.held.push(b'\n');
        }
        self.batches += 1;
        if self.batches.is_multiple_of(2) {
            out.append(&mut self.held);
        }
        Ok(())
    }

    fn buffered(&self) -> usize {
        self.held.len()
    }

    fn finish(mut self: Box<Self>, out: &mut Vec<u8>) -> Result<(), ConnectorError> {
        out.append(&mut self.held);
        Ok(())
    }
}

/// The lines so far in `folder`; that each is whole and there once.
fn visible(io: &Runtime, folder: &FileSystem, padding: &str) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    for file in io.block_on(folder.list("")).unwrap() {
        if is_hidden(&file.path) {
            continue;
        }
        let content = io.block_on(folder.read(&file.path)).unwrap();
        let text = std::str::from_utf8(&content).unwrap();
        assert!(text.ends_with('\n'), "{} ends in a line", file.path);
        for line in text.lines() {
            let number = line.strip_suffix(padding).and_then(|number| number.parse().ok());
            let number = number.unwrap_or_else(|| panic!("{} has half a line: {:.40?}", file.path, line));
            assert!(found.insert(number), "line {number} is there twice");
        }
    }
    found
}

pub(super) fn is_hidden(path: &str) -> bool {
    path.rsplit('/').next().unwrap().starts_with(['.', '_'])
}

impl Job {
    /// A bucket for lines whose number is divisible by three, and one for the others. `piece_bytes`, `part_bytes`: small, so that
    /// parts have pieces and roll; `None` = a bulk format.
    pub(super) fn new(
        files: FileSystems,
        uri: &str,
        (piece_bytes, part_bytes): (usize, Option<u64>),
        (lines, padding): (usize, usize),
    ) -> Self {
        let policy = match part_bytes {
            Some(bytes) => RollingPolicy::default()
                .with_max_part_size(bytes)
                .with_rollover_interval(PART_TIME),
            None => RollingPolicy::on_checkpoint(),
        };
        let padding = "x".repeat(padding);
        let digits = padding.len();
        let sink = if part_bytes.is_some() {
            FileSink::for_row_format(uri)
        } else {
            FileSink::for_bulk_format(uri, Numbered)
        };
        let sink = sink
            .with_rolling_policy(policy)
            .with_bucket_assigner(BucketAssigner::by_row(move |row, bucket| {
                let line = row.rows.column(0).as_string::<i32>().value(row.row);
                let number: usize = line[..line.len() - digits].parse().unwrap();
                if number.is_multiple_of(3) {
                    bucket.push_str("three/s");
                }
            }))
            .build()
            .unwrap();
        let folder = files.open_folder(uri).unwrap();
        Self {
            io: Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap(),
            limits: Limits {
                piece_bytes,
                keeps_tail: folder.is_object_store(),
                most_part_bytes: u64::MAX,
                most_open: 8,
                most_buffered: 64 << 20,
            },
            files,
            sink,
            lines,
            padding,
            checkpoint: Checkpoint::default(),
            folder,
        }
    }

    pub(super) fn io(&self) -> &Runtime {
        &self.io
    }

    pub(super) fn folder(&self) -> &FileSystem {
        &self.folder
    }

    /// Goes on from the newest complete checkpoint until the end, or until the process dies.
    pub(super) fn run(
        &mut self,
        dice: &mut Dice,
        life: &Arc<Life>,
        parallelism: usize,
    ) -> Result<(), ConnectorError> {
        let restored = self.restore(dice, life, parallelism)?;
        let (mut writers, mut prepared): (Vec<_>, Vec<_>) = restored.into_iter().unzip();
        let mut next_line = self.checkpoint.next_line;
        let mut id = self.checkpoint.id;
        self.commit(&mut writers, &mut prepared)?;
        loop {
            for _ in 0..=dice.below(4) {
                let end = self.lines.min(next_line + 1 + dice.below(9));
                let writer = &mut writers[dice.below(parallelism)];
                self.write(writer, next_line..end)?;
                next_line = end;
            }
            let ended = next_line == self.lines;
            id += 1;
            let taken = self.snapshot(&mut writers, &mut prepared, id, ended)?;
            life.step().map_err(|error| failed(&error))?;
            // It may be given up: then the next one has what was prepared for it, too.
            if !ended && dice.below(5) == 0 {
                continue;
            }
            self.checkpoint = Checkpoint { next_line, ..taken };
            life.step().map_err(|error| failed(&error))?;
            // The word of its completion may be lost.
            if ended || dice.below(4) > 0 {
                self.commit(&mut writers, &mut prepared)?;
            }
            if ended {
                return Ok(());
            }
        }
    }

    fn restore(
        &self,
        dice: &mut Dice,
        life: &Arc<Life>,
        parallelism: usize,
    ) -> Result<Vec<(FileWriter, Vec<Committable>)>, ConnectorError> {
        let mut shares = vec![RestoredConnector::default(); parallelism];
        for state in &self.checkpoint.states {
            shares[dice.below(parallelism)].states.push(state.clone());
        }
        for committable in &self.checkpoint.committables {
            shares[dice.below(parallelism)]
                .committables
                .push(committable.clone());
        }
        let start = |(subtask, restored): (usize, RestoredConnector)| {
            let committables = restored.committables.clone();
            let context = ConnectorContext {
                checkpointing: true,
                restored: (self.checkpoint.id > 0).then_some(restored),
                ..context_of(&self.io, subtask as u32, parallelism as u32)
            };
            let folders = MortalFolders {
                files: self.files.clone(),
                life: Arc::clone(life),
            };
            let settings = Arc::clone(&self.sink.settings);
            let limits = self.limits.clone();
            let writer = FileWriter::start(settings, &context, Arc::new(folders), move |_| limits, ticking)?;
            Ok((writer, committables))
        };
        shares.into_iter().enumerate().map(start).collect()
    }

    fn write(&self, writer: &mut FileWriter, lines: std::ops::Range<usize>) -> Result<(), ConnectorError> {
        let lines: StringArray = lines
            .map(|line| Some(format!("{line}{}", self.padding)))
            .collect();
        let schema = Arc::new(Schema::new(vec![Field::new("line", DataType::Utf8, false)]));
        let batch = StreamBatch::new(RecordBatch::try_new(schema, vec![Arc::new(lines)]).unwrap());
        self.io.block_on(poll_fn(|cx| writer.poll_ready(cx)))?;
        assert_eq!(writer.write(&batch)?, batch.num_rows());
        Ok(())
    }

    fn snapshot(
        &self,
        writers: &mut [FileWriter],
        prepared: &mut [Vec<Committable>],
        id: u64,
        ended: bool,
    ) -> Result<Checkpoint, ConnectorError> {
        let mut taken = Checkpoint {
            id,
            ..Checkpoint::default()
        };
        for (writer, prepared) in writers.iter_mut().zip(prepared) {
            self.io.block_on(poll_fn(|cx| writer.poll_flush(cx, ended)))?;
            prepared.extend(writer.prepare_commit(id)?);
            taken.states.extend(writer.snapshot(id)?);
            taken.committables.extend(prepared.iter().cloned());
        }
        Ok(taken)
    }

    fn commit(
        &self,
        writers: &mut [FileWriter],
        prepared: &mut [Vec<Committable>],
    ) -> Result<(), ConnectorError> {
        for (writer, prepared) in writers.iter_mut().zip(prepared) {
            self.io.block_on(poll_fn(|cx| writer.poll_commit(cx, prepared)))?;
            prepared.clear();
        }
        Ok(())
    }

    /// That nothing is visible that shouldn't be: lines behind the newest complete checkpoint, halves, doubles.
    pub(super) fn check(&self) {
        let found = visible(&self.io, &self.folder, &self.padding);
        let end = self.checkpoint.next_line;
        assert!(
            found.range(end..).next().is_none(),
            "a line is visible that no complete checkpoint holds"
        );
    }

    /// That each line is there once.
    pub(super) fn check_all(&self) {
        let found = visible(&self.io, &self.folder, &self.padding);
        assert!(found.into_iter().eq(0..self.lines), "lines are missing");
    }
}
