//! The file source; the sink is [`sink`]. Text files as a stream of lines; Flink's `FileSource` with `TextLineInputFormat`.
//!
//! ```text
//!   path --discover--> files --hash of the path--> this subtask's --lines--> batches --bounded queue--> task
//!            ^ every interval, with monitor_continuously
//! ```
//!
//! Invariants: a file belongs to one subtask, whatever was listed when; in continuous mode a path is read once, when
//! it first appears, as it is then (write elsewhere and rename into the directory); lines keep their order within a file.
//! Reading runs as one blocking job on the I/O runtime and ends when the reader is dropped.

pub(crate) mod blocks;
pub(crate) mod discover;
pub(crate) mod lines;
mod quotes;
mod sink;
mod state;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use thalweg_formats::Quoting;
use thalweg_types::StreamBatch;

use crate::queue::{HAND_OVER_BYTES, Receiver, bounded};
use crate::{ConnectorContext, ConnectorError, Gauge, Source, SourceEvent, SourceReader};

#[cfg(feature = "parquet")]
pub use self::sink::ParquetFormat;
pub use self::sink::{
    BucketAssigner, BucketRow, BulkFormat, BulkWriter, FileSink, FileSinkBuilder, OutputFileConfig,
    RollingPolicy,
};

use self::blocks::BlockFormat;
use self::lines::{Content, Gather, LineOptions, run};
use self::state::{FilePositions, Progress};

/// The longest line by default.
pub const DEFAULT_MAX_LINE_BYTES: usize = 16 << 20;

/// Reads lines of text: one column, `line`, Utf8 without nulls. Lines end at `\n` or `\r\n`.
#[derive(Debug, Clone)]
pub struct FileSource {
    path: PathBuf,
    interval: Option<Duration>,
    options: LineOptions,
    rows: Option<FileRows>,
}

/// What files become, if not rows of lines as they are.
#[derive(Clone)]
pub(crate) struct FileRows {
    pub(crate) schema: SchemaRef,
    pub(crate) content: RowContent,
}

/// Where rows are from.
#[derive(Clone)]
pub(crate) enum RowContent {
    Lines(Arc<dyn Fn() -> Box<dyn Gather> + Send + Sync>),
    Blocks(Arc<dyn BlockFormat>),
}

impl std::fmt::Debug for FileRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileRows({})", self.schema)
    }
}

impl FileSource {
    /// The lines of a file, or of all files in a directory and below it; names that begin with `.` or `_` are left out,
    /// as Flink leaves them out. Bounded: the files that exist at the start.
    pub fn for_text_lines(path: impl Into<PathBuf>) -> Self {
        let options = LineOptions {
            max_line_bytes: DEFAULT_MAX_LINE_BYTES,
            lossy: false,
            quoting: None,
        };
        Self {
            path: path.into(),
            interval: None,
            options,
            rows: None,
        }
    }

    /// Files become these rows; of lines, within quotes a newline ends none.
    #[must_use]
    pub(crate) fn into_rows(mut self, rows: FileRows, quoting: Option<Quoting>) -> Self {
        self.options.quoting = quoting;
        Self {
            rows: Some(rows),
            ..self
        }
    }

    /// Looks for new files at this interval and never ends; Flink's `monitorContinuously`.
    #[must_use]
    pub fn monitor_continuously(self, interval: Duration) -> Self {
        Self {
            interval: Some(interval),
            ..self
        }
    }

    /// A longer line is an error that names file and line.
    #[must_use]
    pub fn max_line_bytes(mut self, max_line_bytes: usize) -> Self {
        self.options.max_line_bytes = max_line_bytes;
        self
    }

    /// What isn't UTF-8 becomes U+FFFD instead of an error.
    #[must_use]
    pub fn lossy(mut self) -> Self {
        self.options.lossy = true;
        self
    }
}

impl Source for FileSource {
    fn schema(&self) -> SchemaRef {
        match &self.rows {
            Some(rows) => Arc::clone(&rows.schema),
            None => Arc::new(Schema::new(vec![Field::new("line", DataType::Utf8, false)])),
        }
    }

    fn kind(&self) -> &'static str {
        "FileSource"
    }

    /// The path itself is looked at where it is read: the machine that builds the graph may not have it.
    fn validate(&self) -> Result<(), ConnectorError> {
        let refuse = |what: &str| {
            Err(ConnectorError::Refused(format!(
                "file source {}: {what}",
                self.path.display()
            )))
        };
        match (self.options.max_line_bytes, self.interval) {
            (0, _) => refuse("the longest line must be 1 byte or more"),
            (length, _) if length > i32::MAX as usize => refuse("the longest line must be below 2 GiB"),
            (_, Some(Duration::ZERO)) => refuse("the interval to look for files must be above 0"),
            _ if self.path == Path::new("") => refuse("the path is empty"),
            _ => Ok(()),
        }
    }

    fn create_reader(&self, context: ConnectorContext) -> Result<Box<dyn SourceReader>, ConnectorError> {
        self.validate()?;
        let (sender, receiver) = bounded(HAND_OVER_BYTES);
        let counters = Arc::new(FileCounters::default());
        let mine = |path: &Path| discover::owner(path, context.parallelism) == context.subtask;
        let positions = match &context.restored {
            Some(restored) => FilePositions::restore(restored, mine)?,
            None => FilePositions::default(),
        };
        let (finished, begun) = positions.start();
        let work = lines::Work {
            root: self.path.clone(),
            interval: self.interval,
            content: match self.rows.as_ref().map(|rows| &rows.content) {
                Some(RowContent::Lines(gather)) => Content::Lines(gather(), self.options),
                Some(RowContent::Blocks(format)) => Content::Blocks(Arc::clone(format)),
                None => Content::Lines(lines::text(self.schema(), self.options), self.options),
            },
            subtask: context.subtask,
            parallelism: context.parallelism,
            counters: Arc::clone(&counters),
            finished,
            begun,
        };
        context.io.spawn_blocking(move || run(work, &sender));
        Ok(Box::new(FileReader {
            receiver,
            counters,
            positions,
            ended: false,
        }))
    }
}

/// What the reading job counts.
#[derive(Debug, Default)]
pub(crate) struct FileCounters {
    /// Bytes of the files that were found.
    pub(crate) found: AtomicU64,
    /// Bytes of them that were read.
    pub(crate) read: AtomicU64,
    /// Files that were read to their end.
    pub(crate) files: AtomicU64,
}

/// What the reading job hands over; the end too: a job that only vanishes has not ended.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "moved once a batch; a box would be an allocation a batch"
)]
pub(crate) enum FileEvent {
    Batch(StreamBatch, Progress),
    Idle(Progress),
    End(Progress),
    Failed(ConnectorError),
}

struct FileReader {
    receiver: Receiver<FileEvent>,
    counters: Arc<FileCounters>,
    /// Behind the last event that was given.
    positions: FilePositions,
    ended: bool,
}

impl SourceReader for FileReader {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<SourceEvent, ConnectorError>> {
        if self.ended {
            return Poll::Ready(Ok(SourceEvent::EndOfInput));
        }
        self.receiver.poll_pop(cx).map(|event| match event {
            Some(FileEvent::Batch(batch, progress)) => {
                self.positions.advance(progress);
                Ok(SourceEvent::Batch(batch))
            }
            Some(FileEvent::Idle(progress)) => {
                self.positions.advance(progress);
                Ok(SourceEvent::Idle)
            }
            Some(FileEvent::End(progress)) => {
                self.positions.advance(progress);
                self.ended = true;
                Ok(SourceEvent::EndOfInput)
            }
            Some(FileEvent::Failed(error)) => Err(error),
            None => Err(ConnectorError::Unavailable(
                "file source: reading ended without a reason".to_owned(),
            )),
        })
    }

    fn snapshot(&mut self, _checkpoint_id: u64) -> Result<Vec<Vec<u8>>, ConnectorError> {
        Ok(self.positions.state())
    }

    fn position(&self) -> Option<String> {
        self.positions.position()
    }

    fn gauges(&self) -> Vec<Gauge> {
        let read = self.counters.read.load(Ordering::Relaxed);
        let pending = self.counters.found.load(Ordering::Relaxed).saturating_sub(read);
        let files = self.counters.files.load(Ordering::Relaxed);
        vec![
            ("pendingBytes", pending as f64),
            ("numSplitsProcessed", files as f64),
        ]
    }
}

#[cfg(test)]
mod tests;
