//! Reading files in blocks and cutting them into lines.
//!
//! ```text
//!   block: | rest of a line | line \n line \n beginning of a li |   one copy: block -> the batch's text buffer
//!                                             `-- moved to the front of the next block
//! ```

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use thalweg_formats::Quoting;
use thalweg_types::StreamBatch;
use thalweg_types::element::{TARGET_BATCH_BYTES, TARGET_BATCH_ROWS};

use super::blocks::{BlockBatcher, BlockFormat};
use super::discover::{FoundFile, files_of, read_error};
use super::quotes::Quotes;
use super::state::{Position, Progress};
use super::{FileCounters, FileEvent};
use crate::ConnectorError;
use crate::columns::BytesBuilder;
use crate::queue::{Room, Sender};

const BLOCK_BYTES: usize = 256 << 10;
/// How long a full queue is waited for before the wait is begun again.
const PATIENCE: Duration = Duration::from_secs(60);

/// How lines are read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LineOptions {
    /// The longest line.
    pub(crate) max_line_bytes: usize,
    /// U+FFFD instead of an error.
    pub(crate) lossy: bool,
    /// Within such quotes a newline ends no line.
    pub(crate) quoting: Option<Quoting>,
}

/// What a line has that it may not have.
#[derive(Debug)]
pub(crate) struct BadLine {
    /// Which of the lines since the last batch.
    pub(crate) line: usize,
    /// What is wrong, behind the line's number: " isn't UTF-8".
    pub(crate) what: String,
}

/// Gathers lines into the rows of a batch.
pub(crate) trait Gather: Send {
    /// The lines of this file follow.
    fn begin_file(&mut self, path: &Path) -> Result<(), ConnectorError>;
    /// Takes a line; what is wrong with it.
    fn push(&mut self, line: &[u8]) -> Result<(), String>;
    /// Rows so far.
    fn rows(&self) -> usize;
    /// The rows of all lines; begins anew.
    fn finish(&mut self) -> Result<StreamBatch, BadLine>;
}

/// Lines as they are, in one column.
struct Text {
    schema: SchemaRef,
    column: BytesBuilder,
    lossy: bool,
}

impl Gather for Text {
    fn begin_file(&mut self, _path: &Path) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn push(&mut self, line: &[u8]) -> Result<(), String> {
        self.column.push(line);
        Ok(())
    }

    fn rows(&self) -> usize {
        self.column.len()
    }

    fn finish(&mut self) -> Result<StreamBatch, BadLine> {
        let column = self.column.finish_utf8(self.lossy).map_err(|invalid| BadLine {
            line: invalid.row,
            what: format!(
                " isn't UTF-8 from byte {} on: convert the file, or read it with `lossy`",
                invalid.byte + 1
            ),
        })?;
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), vec![column]).map_err(|error| BadLine {
            line: 0,
            what: format!(" makes no batch: {error}"),
        })?;
        Ok(StreamBatch::new(rows))
    }
}

/// What files hold.
pub(crate) enum Content {
    Lines(Box<dyn Gather>, LineOptions),
    Blocks(Arc<dyn BlockFormat>),
}

/// Reads files of either content.
enum Batcher {
    Lines(LineBatcher),
    Blocks(BlockBatcher),
}

impl Batcher {
    fn new(content: Content) -> Self {
        match content {
            Content::Lines(gather, options) => Self::Lines(LineBatcher::new(gather, options)),
            Content::Blocks(format) => Self::Blocks(BlockBatcher::new(format)),
        }
    }

    fn progress(&mut self) -> &mut Progress {
        match self {
            Self::Lines(lines) => &mut lines.progress,
            Self::Blocks(blocks) => &mut blocks.progress,
        }
    }

    /// From `start` to its end.
    fn read_file(
        &mut self,
        file: &FoundFile,
        start: Option<Position>,
        counters: &FileCounters,
        emit: &mut Emit<'_>,
    ) -> Result<(), Stop> {
        match self {
            Self::Lines(lines) => {
                let start = start.unwrap_or(Position::START);
                let mut reader = open_at(file, start)?;
                counters.read.fetch_add(start.offset, Ordering::Relaxed);
                lines.read_file(&mut reader, &file.path, start, counters, emit)
            }
            Self::Blocks(blocks) => {
                blocks.read_file(file, start.unwrap_or(Position::of_row(0)), counters, emit)
            }
        }
    }

    fn flush(&mut self, emit: &mut Emit<'_>) -> Result<(), Stop> {
        match self {
            Self::Lines(lines) => lines.flush(emit),
            // Each batch was given at once.
            Self::Blocks(_) => Ok(()),
        }
    }
}

/// One reader's work.
pub(crate) struct Work {
    pub(crate) root: PathBuf,
    pub(crate) interval: Option<Duration>,
    pub(crate) content: Content,
    pub(crate) subtask: u32,
    pub(crate) parallelism: u32,
    pub(crate) counters: Arc<FileCounters>,
    /// Files of an earlier run that are not read again, and those that are read on.
    pub(crate) finished: HashSet<PathBuf>,
    pub(crate) begun: HashMap<PathBuf, Position>,
}

/// Why reading stopped early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The task is gone.
    Closed,
    /// The source failed.
    Failed(ConnectorError),
}

impl From<ConnectorError> for Stop {
    fn from(error: ConnectorError) -> Self {
        Self::Failed(error)
    }
}

/// Reads all files of a subtask, and new ones in continuous mode; blocks.
pub(crate) fn run(work: Work, sender: &Sender<FileEvent>) {
    match read_files(work, sender) {
        Ok(progress) => sender.push(FileEvent::End(progress), 0),
        Err(Stop::Failed(error)) => sender.push(FileEvent::Failed(error), 0),
        Err(Stop::Closed) => {}
    }
}

fn read_files(work: Work, sender: &Sender<FileEvent>) -> Result<Progress, Stop> {
    let Work {
        mut begun,
        finished: mut seen,
        content,
        ..
    } = work;
    let mut batcher = Batcher::new(content);
    let mut emit = |batch, progress| hand_over(sender, batch, progress);
    loop {
        let files = files_of(&work.root, work.subtask, work.parallelism)?;
        let listing = Listing::new(files, &seen);
        batcher.progress().vanished.extend(listing.vanished);
        seen = listing.paths;
        let bytes = listing.new.iter().map(|file| file.bytes).sum();
        work.counters.found.fetch_add(bytes, Ordering::Relaxed);
        let any = !listing.new.is_empty();
        for file in listing.new {
            let start = begun.remove(&file.path);
            batcher.read_file(&file, start, &work.counters, &mut emit)?;
        }
        batcher.flush(&mut emit)?;
        let Some(interval) = work.interval else {
            return Ok(std::mem::take(batcher.progress()));
        };
        if any {
            sender.push(FileEvent::Idle(std::mem::take(batcher.progress())), 0);
        }
        if sender.wait_closed(interval) {
            return Err(Stop::Closed);
        }
    }
}

fn open_at(file: &FoundFile, start: Position) -> Result<File, ConnectorError> {
    let failed = |error| read_error(&file.path, &error);
    if file.bytes < start.offset {
        return Err(ConnectorError::Refused(format!(
            "file source: {} was read up to byte {} before the checkpoint and has {} bytes now: files must not change",
            file.path.display(),
            start.offset,
            file.bytes
        )));
    }
    let mut reader = File::open(&file.path).map_err(failed)?;
    reader.seek(SeekFrom::Start(start.offset)).map_err(failed)?;
    Ok(reader)
}

/// What is listed now beside what was.
struct Listing {
    /// As large as the listing: paths that vanished are forgotten.
    paths: HashSet<PathBuf>,
    new: Vec<FoundFile>,
    vanished: Vec<PathBuf>,
}

impl Listing {
    fn new(files: Vec<FoundFile>, seen: &HashSet<PathBuf>) -> Self {
        let paths: HashSet<PathBuf> = files.iter().map(|file| file.path.clone()).collect();
        let vanished = seen.difference(&paths).cloned().collect();
        let new = files
            .into_iter()
            .filter(|file| !seen.contains(&file.path))
            .collect();
        Self { paths, new, vanished }
    }
}

fn hand_over(sender: &Sender<FileEvent>, batch: StreamBatch, progress: Progress) -> Result<(), Stop> {
    loop {
        match sender.wait_room(PATIENCE) {
            Room::Free => break,
            Room::Full => {}
            Room::Closed => return Err(Stop::Closed),
        }
    }
    let bytes = batch.memory_size();
    sender.push(FileEvent::Batch(batch, progress), bytes);
    Ok(())
}

/// Where batches go.
pub(crate) type Emit<'a> = dyn FnMut(StreamBatch, Progress) -> Result<(), Stop> + 'a;

/// Lines of one file, from `first` of the batch on; that is the file's line `first_line`.
struct Run {
    first: usize,
    file: Arc<Path>,
    first_line: u64,
}

/// Gathers lines as they are.
pub(crate) fn text(schema: SchemaRef, options: LineOptions) -> Box<dyn Gather> {
    Box::new(Text {
        schema,
        column: BytesBuilder::with_capacity(TARGET_BATCH_ROWS, TARGET_BATCH_BYTES / 4),
        lossy: options.lossy,
    })
}

/// Gathers lines over files into batches.
pub(crate) struct LineBatcher {
    options: LineOptions,
    block: Vec<u8>,
    gather: Box<dyn Gather>,
    /// Since the last batch.
    lines: usize,
    /// Of those lines.
    bytes: usize,
    runs: Vec<Run>,
    /// Up to the next row to be read, since the last batch.
    pub(crate) progress: Progress,
}

impl LineBatcher {
    /// Hands lines to `gather`.
    pub(crate) fn new(gather: Box<dyn Gather>, options: LineOptions) -> Self {
        Self {
            options,
            block: vec![0; BLOCK_BYTES],
            gather,
            lines: 0,
            bytes: 0,
            runs: Vec::new(),
            progress: Progress::default(),
        }
    }

    /// Reads a file, which stands at `start`, to its end; full batches go to `emit`, the rest stays for the next file or [`Self::flush`].
    pub(crate) fn read_file(
        &mut self,
        reader: &mut dyn Read,
        path: &Path,
        start: Position,
        counters: &FileCounters,
        emit: &mut Emit<'_>,
    ) -> Result<(), Stop> {
        let file = Arc::<Path>::from(path);
        let mut block = std::mem::take(&mut self.block);
        let mut line = start.line;
        let mut block_offset = start.offset;
        let mut held = 0;
        self.gather.begin_file(path)?;
        self.runs.push(Run {
            first: self.lines,
            file: Arc::clone(&file),
            first_line: line,
        });
        let mut quotes = Quotes::default();
        loop {
            if held == block.len() {
                self.check_length(held, &file, line)?;
                block.resize(block.len() * 2, 0);
            }
            let read = reader
                .read(&mut block[held..])
                .map_err(|error| read_error(path, &error))?;
            if read == 0 {
                break;
            }
            counters.read.fetch_add(read as u64, Ordering::Relaxed);
            let filled = held + read;
            let mut start = 0;
            for end in memchr::memchr_iter(b'\n', &block[held..filled]).map(|end| held + end) {
                if quotes.hold(self.options.quoting, &block, end) {
                    continue;
                }
                self.note_first(path, block_offset + start as u64, line);
                self.push_line(&block[start..end], &file, line)?;
                start = end + 1;
                line += 1;
                if self.is_full() {
                    let offset = block_offset + start as u64;
                    self.progress.current = Some((path.to_owned(), Position { offset, line }));
                    self.flush(emit)?;
                    self.gather.begin_file(path)?;
                    self.runs.push(Run {
                        first: 0,
                        file: Arc::clone(&file),
                        first_line: line,
                    });
                }
            }
            quotes.shift(start);
            block.copy_within(start..filled, 0);
            held = filled - start;
            block_offset += start as u64;
        }
        if held > 0 {
            self.note_first(path, block_offset, line);
            self.push_line(&block[..held], &file, line)?;
        }
        block.truncate(BLOCK_BYTES);
        self.block = block;
        counters.files.fetch_add(1, Ordering::Relaxed);
        self.progress.finished.push(path.to_owned());
        Ok(())
    }

    /// Gives what was gathered as a batch, if there is any.
    pub(crate) fn flush(&mut self, emit: &mut Emit<'_>) -> Result<(), Stop> {
        let runs = std::mem::take(&mut self.runs);
        self.bytes = 0;
        if std::mem::take(&mut self.lines) == 0 {
            return Ok(());
        }
        let batch = self.gather.finish().map_err(|bad| {
            let run = runs.iter().rev().find(|run| run.first <= bad.line);
            let (file, line) = run.map_or((Path::new(""), 0), |run| {
                (run.file.as_ref(), run.first_line + (bad.line - run.first) as u64)
            });
            ConnectorError::Malformed(format!("file source: {} line {line}{}", file.display(), bad.what))
        })?;
        emit(batch, std::mem::take(&mut self.progress))
    }

    #[inline]
    fn note_first(&mut self, path: &Path, offset: u64, line: u64) {
        if self.lines == 0 {
            self.progress.first = Some((path.to_owned(), Position { offset, line }));
        }
    }

    fn push_line(&mut self, line: &[u8], file: &Path, number: u64) -> Result<(), Stop> {
        self.check_length(line.len(), file, number)?;
        let text = line.strip_suffix(b"\r").unwrap_or(line);
        self.lines += 1;
        self.bytes += text.len();
        self.gather.push(text).map_err(|what| {
            let file = file.display();
            Stop::Failed(ConnectorError::Malformed(format!(
                "file source: {file} line {number}: {what}"
            )))
        })
    }

    fn check_length(&self, length: usize, file: &Path, line: u64) -> Result<(), Stop> {
        let limit = self.options.max_line_bytes;
        if length <= limit {
            return Ok(());
        }
        Err(Stop::Failed(ConnectorError::Malformed(format!(
            "file source: {} line {line} is longer than {limit} bytes: raise `max_line_bytes`",
            file.display()
        ))))
    }

    fn is_full(&self) -> bool {
        self.gather.rows() >= TARGET_BATCH_ROWS || self.bytes >= TARGET_BATCH_BYTES
    }
}
