//! The file sink's writer: the task's side.
//!
//! ```text
//!   write(rows) -> bucket of each row -> Parts (decisions, buffers) -> pieces, bounded in bytes -> PartIo, on the I/O runtime
//!   barrier: poll_flush until all is durable -> prepare_commit: closed parts -> snapshot: open parts
//!   complete: poll_commit -> files become visible
//! ```

use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use thalweg_types::StreamBatch;
use thalweg_types::element::RowKind;

use super::assigner::{Assign, BucketRow, format_time, refusal};
use super::files::{Folders, PartFiles};
use super::handover::{Commit, Handover};
use super::io::PartIo;
use super::parts::{Limits, PartId, PartSettings, Parts};
use super::{SinkSettings, state};
use crate::columns::BytesColumn;
use crate::{Committable, ConnectorContext, ConnectorError, Gauge, SinkWriter, StateDistribution};

/// A piece of a local file.
const FILE_PIECE: usize = 1 << 20;
/// A part of an upload: stores take no smaller ones but the last.
const UPLOAD_PIECE: usize = 5 << 20;
/// Stores take 10,000 parts an upload.
const MOST_UPLOAD_BYTES: u64 = 9_000 * UPLOAD_PIECE as u64;
/// Open parts of one writer.
const MOST_OPEN: usize = 512;
/// Bytes of open parts that are not handed over.
const MOST_BUFFERED: usize = 64 << 20;
/// Bytes that are handed over and not written yet; a batch may go above it.
const MOST_UNDER_WAY: usize = 32 << 20;

/// Milliseconds since the epoch.
pub(crate) type Clock = fn() -> i64;

/// The bounds for a folder.
pub(crate) fn limits(files: &dyn PartFiles) -> Limits {
    let objects = files.is_object_store();
    Limits {
        piece_bytes: if objects { UPLOAD_PIECE } else { FILE_PIECE },
        keeps_tail: objects,
        most_part_bytes: if objects { MOST_UPLOAD_BYTES } else { u64::MAX },
        most_open: MOST_OPEN,
        most_buffered: MOST_BUFFERED,
    }
}

/// The machine's.
pub(crate) fn wall_clock() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Writes the rows of one subtask.
pub(crate) struct FileWriter {
    settings: Arc<SinkSettings>,
    parts: Parts,
    io: PartIo,
    handover: Arc<Handover>,
    clock: Clock,
    /// The bucket of the last rows, and room for the next one.
    bucket: String,
    next_bucket: String,
    records: u64,
    bytes: u64,
    prepared: u64,
    committing: u64,
    committed: u64,
}

impl FileWriter {
    pub(crate) fn start(
        settings: Arc<SinkSettings>,
        context: &ConnectorContext,
        folders: Arc<dyn Folders>,
        limits: impl FnOnce(&dyn PartFiles) -> Limits,
        clock: Clock,
    ) -> Result<Self, ConnectorError> {
        let files = folders
            .open(&settings.folder)
            .map_err(|error| super::files::failed(&error))?;
        let part_settings = PartSettings {
            folder: Arc::clone(&settings.folder),
            prefix: settings.names.prefix.clone(),
            suffix: settings.names.suffix.clone(),
            policy: settings.policy,
            bulk: settings.bulk.clone(),
            limits: limits(files.as_ref()),
        };
        let mut parts = Parts::new(part_settings, uid());
        let mut prepared = 0;
        if let Some(restored) = &context.restored {
            parts.restore(state::restored(&restored.states)?, clock());
            prepared = restored.committables.len() as u64;
        }
        let handover = Arc::new(Handover::default());
        let mut writer = Self {
            io: PartIo::start(context.io.clone(), folders, files, Arc::clone(&handover)),
            settings,
            parts,
            handover,
            clock,
            bucket: String::new(),
            next_bucket: String::new(),
            records: 0,
            bytes: 0,
            prepared,
            committing: 0,
            committed: 0,
        };
        writer.act()?;
        Ok(writer)
    }

    fn act(&mut self) -> Result<(), ConnectorError> {
        self.io.perform(self.parts.take_actions()?)
    }

    /// Rows that all go where the first one goes.
    fn write_run(
        &mut self,
        batch: &StreamBatch,
        value: Option<&BytesColumn<'_>>,
        rows: std::ops::Range<usize>,
        now_ms: i64,
    ) -> Result<(), ConnectorError> {
        if let Some(what) = refusal(&self.bucket) {
            return Err(self.malformed(&format!("the bucket {:?} is no folder: {what}", self.bucket)));
        }
        let Some(value) = value else {
            let rows = batch.rows.slice(rows.start, rows.len());
            self.bytes += rows.get_array_memory_size() as u64;
            return self.parts.write_bulk(&self.bucket, &rows, now_ms);
        };
        let mut bytes = 0;
        let lines = rows.filter_map(|row| value.get(row)).inspect(|line| {
            bytes += line.len() as u64 + 1;
        });
        self.parts.write(&self.bucket, lines, now_ms);
        self.bytes += bytes;
        Ok(())
    }

    fn write_by_row(
        &mut self,
        batch: &StreamBatch,
        value: Option<&BytesColumn<'_>>,
        now_ms: i64,
    ) -> Result<(), ConnectorError> {
        let settings = Arc::clone(&self.settings);
        let Assign::ByRow(assign) = &settings.assigner.0 else {
            return Ok(());
        };
        let times = batch.timestamps.as_ref();
        let mut begin = 0;
        for row in 0..batch.num_rows() {
            let described = BucketRow {
                value: value.and_then(|value| value.get(row)).unwrap_or_default(),
                rows: &batch.rows,
                row,
                timestamp_ms: times.map(|times| times.value(row)),
                processing_time_ms: now_ms,
            };
            self.next_bucket.clear();
            assign(&described, &mut self.next_bucket);
            if self.next_bucket != self.bucket {
                if begin < row {
                    self.write_run(batch, value, begin..row, now_ms)?;
                }
                begin = row;
                mem::swap(&mut self.bucket, &mut self.next_bucket);
            }
        }
        self.write_run(batch, value, begin..batch.num_rows(), now_ms)
    }

    /// The column whose values become lines.
    fn lines<'a>(&self, batch: &'a StreamBatch) -> Result<BytesColumn<'a>, ConnectorError> {
        let index = self.settings.value_index(batch.rows.schema_ref())?;
        let column = batch.rows.column(index);
        if column.null_count() > 0 {
            let row = (0..column.len()).find(|row| column.is_null(*row));
            return Err(self.malformed(&format!(
                "row {} of the batch is null, and a null is no line: filter it out or map it to text",
                row.unwrap_or_default()
            )));
        }
        BytesColumn::of(column.as_ref())
            .ok_or_else(|| self.malformed(&format!("column {index} is neither text nor bytes")))
    }

    /// Checkpoints count on these from now on.
    fn claim(&self, parts: impl IntoIterator<Item = PartId>) {
        let mut state = self.handover.lock();
        for part in parts {
            state.unclaimed.remove(&part);
        }
    }

    fn malformed(&self, what: &str) -> ConnectorError {
        ConnectorError::Malformed(format!("file sink {}: {what}", self.settings.folder))
    }
}

/// 122 random bits, written as a UUID.
fn uid() -> String {
    let bits = (rand::random::<u128>() & !(0xF << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

impl SinkWriter for FileWriter {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectorError>> {
        self.handover
            .poll(cx, |state| state.writable && state.under_way < MOST_UNDER_WAY)
    }

    fn write(&mut self, batch: &StreamBatch) -> Result<usize, ConnectorError> {
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(0);
        }
        let inserts = |kinds: &arrow::array::Int8Array| {
            kinds.values().iter().all(|kind| *kind == RowKind::Insert as i8)
        };
        if !batch.kinds.as_ref().is_none_or(inserts) {
            return Err(ConnectorError::Refused(format!(
                "file sink {}: the rows hold updates or deletes; it takes inserts only",
                self.settings.folder
            )));
        }
        let value = if self.settings.bulk.is_some() {
            None
        } else {
            Some(self.lines(batch)?)
        };
        let value = value.as_ref();
        let now_ms = (self.clock)();
        let settings = Arc::clone(&self.settings);
        match &settings.assigner.0 {
            Assign::ByRow(_) => self.write_by_row(batch, value, now_ms)?,
            Assign::DateTime(pieces) => {
                self.bucket.clear();
                format_time(pieces, now_ms, &mut self.bucket);
                self.write_run(batch, value, 0..rows, now_ms)?;
            }
            Assign::BasePath | Assign::Malformed(_) => self.write_run(batch, value, 0..rows, now_ms)?,
        }
        self.parts.bound();
        self.act()?;
        self.records += rows as u64;
        Ok(rows)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, end_of_input: bool) -> Poll<Result<(), ConnectorError>> {
        self.parts.barrier((self.clock)(), end_of_input);
        self.act()?;
        let parts = &mut self.parts;
        self.handover.poll(cx, |state| {
            state.reports.drain(..).for_each(|report| parts.report(report));
            state.writable && parts.is_flushed()
        })
    }

    fn prepare_commit(&mut self, _checkpoint_id: u64) -> Result<Vec<Committable>, ConnectorError> {
        self.check_flushed()?;
        let (ids, closed): (Vec<PartId>, Vec<Committable>) = self
            .parts
            .prepare()
            .iter()
            .map(|(id, part)| (*id, state::committable(part)))
            .unzip();
        self.claim(ids);
        self.prepared += closed.len() as u64;
        Ok(closed)
    }

    fn snapshot(&mut self, _checkpoint_id: u64) -> Result<Vec<Vec<u8>>, ConnectorError> {
        self.check_flushed()?;
        let (states, counted) = self.parts.snapshot();
        self.claim(counted);
        Ok(states.into_iter().map(state::stored).collect())
    }

    /// Each part that is open belongs to one writer.
    fn snapshot_distribution(&self) -> StateDistribution {
        StateDistribution::Split
    }

    fn poll_commit(
        &mut self,
        cx: &mut Context<'_>,
        committables: &[Committable],
    ) -> Poll<Result<(), ConnectorError>> {
        let mut begins = false;
        let committed = self.handover.poll(cx, |state| match state.commit {
            Commit::None => {
                state.commit = Commit::UnderWay;
                begins = true;
                false
            }
            Commit::UnderWay => false,
            Commit::Done => {
                state.commit = Commit::None;
                true
            }
        });
        if begins {
            self.committing = committables.len() as u64;
            let parts = state::committables(committables)?;
            self.io.commit(parts, self.settings.may_vanish);
        }
        if matches!(committed, Poll::Ready(Ok(()))) {
            self.committed += self.committing;
            self.prepared = self.prepared.saturating_sub(self.committing);
        }
        committed
    }

    fn gauges(&self) -> Vec<Gauge> {
        vec![
            ("numRecordsSend", self.records as f64),
            ("numBytesSend", self.bytes as f64),
            ("pendingCommittables", self.prepared as f64),
            ("successfulCommittables", self.committed as f64),
        ]
    }
}

impl FileWriter {
    fn check_flushed(&self) -> Result<(), ConnectorError> {
        if self.parts.is_flushed() {
            return Ok(());
        }
        Err(ConnectorError::Unavailable(format!(
            "file sink {}: a checkpoint came between rows and their flush",
            self.settings.folder
        )))
    }
}
