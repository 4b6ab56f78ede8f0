//! Reads files of recorded events: a blocking thread reads blocks of whole records, the task makes columns of them.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use thalweg_plan::DataType;
use thalweg_types::StreamBatch;
use tokio::sync::mpsc;

use super::super::events::EventKind;
use super::super::fields::{Leaf, Output, Shape};
use super::super::rows::EventRows;
use super::{MAGIC, Record, Records, numbers, texts};
use crate::split_state::{decode, encode};
use crate::table::columns::batch_of;
use crate::{ConnectorContext, ConnectorError, Gauge, Source, SourceEvent, SourceReader};

/// Bytes that are read at once, and about those of a batch's records.
const BLOCK_BYTES: usize = 1 << 20;
/// Blocks that wait for the task.
const BLOCKS_AHEAD: usize = 2;

/// A file and where in it a reader goes on.
#[derive(Clone, PartialEq, prost::Message)]
struct FileState {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint64, tag = "2")]
    offset: u64,
}

/// The source of a scan with `recorded.path`.
pub(in super::super) struct RecordedSource {
    folder: PathBuf,
    outputs: Arc<[Output]>,
    kinds: [bool; 3],
    schema: SchemaRef,
}

impl RecordedSource {
    pub(in super::super) fn new(
        folder: PathBuf,
        outputs: Vec<Output>,
        kinds: [bool; 3],
        schema: SchemaRef,
    ) -> Self {
        Self {
            folder,
            outputs: outputs.into(),
            kinds,
            schema,
        }
    }

    /// Names of the folder's files, sorted.
    fn names(&self) -> Result<Vec<String>, ConnectorError> {
        let failed = |error: std::io::Error| failure("listing", &self.folder, &error);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(failed)? {
            names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }
}

fn failure(what: &'static str, path: &Path, error: &std::io::Error) -> ConnectorError {
    ConnectorError::Malformed(format!("nexmark source: {what} {}: {error}", path.display()))
}

impl Source for RecordedSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn kind(&self) -> &'static str {
        "NexmarkSource"
    }

    fn create_reader(&self, context: ConnectorContext) -> Result<Box<dyn SourceReader>, ConnectorError> {
        let mut files: Vec<FileState> = self
            .names()?
            .into_iter()
            .map(|name| FileState { name, offset: 0 })
            .collect();
        if let Some(restored) = &context.restored {
            for state in decode::<FileState>("nexmark source", &restored.states)? {
                if let Some(file) = files.iter_mut().find(|file| file.name == state.name) {
                    file.offset = state.offset;
                }
            }
        }
        let of_subtask = |(place, _): &(usize, FileState)| {
            *place as u64 % u64::from(context.parallelism) == u64::from(context.subtask)
        };
        let mine = files.into_iter().enumerate().filter(of_subtask);
        let files: Vec<FileState> = mine.map(|(_, file)| file).collect();
        let (sender, blocks) = mpsc::channel(BLOCKS_AHEAD);
        let (folder, work) = (self.folder.clone(), files.clone());
        context.io.spawn_blocking(move || {
            if let Err(error) = read_files(&folder, &work, &sender) {
                // A reader that is gone has no use for it.
                drop(sender.blocking_send(Err(error)));
            }
        });
        Ok(Box::new(RecordedReader {
            folder: self.folder.clone(),
            outputs: Arc::clone(&self.outputs),
            kinds: self.kinds,
            schema: Arc::clone(&self.schema),
            files,
            current: None,
            blocks,
        }))
    }
}

/// Bytes of a file that begin with a record.
struct Block {
    /// Of the reader's files.
    file: usize,
    /// Of the first byte.
    offset: u64,
    bytes: Vec<u8>,
}

fn read_files(
    folder: &Path,
    files: &[FileState],
    sender: &mpsc::Sender<Result<Block, ConnectorError>>,
) -> Result<(), ConnectorError> {
    for (place, state) in files.iter().enumerate() {
        let path = folder.join(&state.name);
        let failed = |error: std::io::Error| failure("reading", &path, &error);
        let mut file = File::open(&path).map_err(failed)?;
        let mut magic = [0; MAGIC.len()];
        file.read_exact(&mut magic).map_err(failed)?;
        if magic != MAGIC {
            return Err(malformed(
                &path,
                0,
                "the file doesn't begin as recorded events do",
            ));
        }
        let mut offset = state.offset.max(MAGIC.len() as u64);
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        let mut rest = Vec::new();
        loop {
            let mut bytes = Vec::with_capacity(rest.len() + BLOCK_BYTES);
            bytes.append(&mut rest);
            let read = (&mut file)
                .take(BLOCK_BYTES as u64)
                .read_to_end(&mut bytes)
                .map_err(failed)?;
            let mut records = Records::of(&bytes, [false; 3]);
            let passed = records.next();
            let whole = records.end;
            passed.map_err(|bad| malformed(&path, offset + whole as u64, &bad.to_string()))?;
            rest = bytes.split_off(whole);
            if read == 0 {
                if !rest.is_empty() {
                    return Err(malformed(&path, offset, "the file ends within a record"));
                }
                break;
            }
            let next = offset + whole as u64;
            let block = Block {
                file: place,
                offset,
                bytes,
            };
            if sender.blocking_send(Ok(block)).is_err() {
                return Ok(());
            }
            offset = next;
        }
    }
    Ok(())
}

fn malformed(path: &Path, offset: u64, what: &str) -> ConnectorError {
    ConnectorError::Malformed(format!(
        "nexmark source: {} at byte {offset}: {what}",
        path.display()
    ))
}

struct RecordedReader {
    folder: PathBuf,
    outputs: Arc<[Output]>,
    kinds: [bool; 3],
    schema: SchemaRef,
    /// With the offsets behind what was given.
    files: Vec<FileState>,
    /// That of the last batch, and where its block began.
    current: Option<(usize, u64)>,
    blocks: mpsc::Receiver<Result<Block, ConnectorError>>,
}

impl RecordedReader {
    fn batch(&self, block: &Block) -> Result<StreamBatch, ConnectorError> {
        let mut records = Records::of(&block.bytes, self.kinds);
        let mut found = Vec::with_capacity(block.bytes.len() / 100);
        loop {
            match records.next() {
                Ok(Some(record)) => found.push((record.kind, record)),
                Ok(None) => break,
                Err(bad) => {
                    let path = self.folder.join(&self.files[block.file].name);
                    let offset = block.offset + records.end as u64;
                    return Err(malformed(&path, offset, &bad.to_string()));
                }
            }
        }
        let rows = EventRows::new(found.into_iter(), [true; 3]);
        let leaf = |kind: EventKind, leaf: Leaf, data_type: &DataType| {
            column(&rows, &block.bytes, kind, leaf, data_type)
        };
        let columns = self.outputs.iter().map(|output| rows.column(output, leaf));
        batch_of(&self.schema, columns.collect(), rows.len()).map(StreamBatch::new)
    }
}

fn column(
    rows: &EventRows<Record>,
    block: &[u8],
    kind: EventKind,
    leaf: Leaf,
    data_type: &DataType,
) -> ArrayRef {
    let place = |leaves: &[Leaf]| leaves.iter().position(|other| *other == leaf).unwrap_or_default();
    match leaf.shape() {
        Shape::Number => {
            let place = place(numbers(kind));
            rows.numbers(kind, |record| record.number(block, place))
        }
        Shape::Time => {
            let place = place(numbers(kind));
            rows.times(kind, data_type, |record| record.number(block, place))
        }
        Shape::Text => {
            let place = place(texts(kind));
            rows.texts(kind, 32, |record, out| {
                out.extend_from_slice(record.text(block, place));
            })
        }
    }
}

impl SourceReader for RecordedReader {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<SourceEvent, ConnectorError>> {
        let Some(block) = ready!(self.blocks.poll_recv(cx)) else {
            return Poll::Ready(Ok(SourceEvent::EndOfInput));
        };
        let given = block.and_then(|block| {
            let batch = self.batch(&block)?;
            self.current = Some((block.file, block.offset));
            self.files[block.file].offset = block.offset + block.bytes.len() as u64;
            Ok(SourceEvent::Batch(batch))
        });
        Poll::Ready(given)
    }

    fn snapshot(&mut self, _checkpoint_id: u64) -> Result<Vec<Vec<u8>>, ConnectorError> {
        Ok(self.files.iter().map(encode).collect())
    }

    fn position(&self) -> Option<String> {
        let (file, offset) = self.current?;
        Some(format!("{} from byte {offset}", self.files[file].name))
    }

    fn gauges(&self) -> Vec<Gauge> {
        Vec::new()
    }
}
