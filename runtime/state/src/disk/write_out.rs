//! Keys on their way to the disk, encoded and written by a thread of their own.
//!
//! ```text
//!   task's thread                                      "state-write"
//!   Piece: columns of some keys --a few at a time----> encoded; each key group is sorted when it is complete --> a run
//!          what changed of them                        collected until they are many ------------------------> delta files
//!                                                                                                      \--> PendingDeltas
//! ```
//!
//! Bounded: so many pieces wait as the caller says, one key group is held encoded, and changes are written when they pass a limit; all of it is
//! told by [`WriteOut::memory_size`].
//!
//! Invariants: pieces come by key group, each key once; the run and the delta files are there all together or not at all.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, channel, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use arrow::array::ArrayRef;

use super::codec::{KeyCodec, TableCodec, group_of};
use super::folder::{LocalFile, LocalFolder};
use super::image::TableImage;
use super::page::Entry;
use super::run::{LocalRun, RunWriter};
use crate::key_index::Slot;
use crate::run::Scope;
use crate::{StateError, TableSnapshot};

/// Pieces of cold keys that wait for the thread.
pub(crate) const QUEUED: usize = 4;

/// Columns of one table, with the slots that the rows are of.
pub(crate) type Columns = (Vec<Slot>, Vec<ArrayRef>);

/// Some keys with all their rows.
pub(crate) struct Piece {
    pub(crate) slots: Vec<Slot>,
    pub(crate) keys: Vec<ArrayRef>,
    pub(crate) groups: Vec<u32>,
    /// Whether an older run has rows of the key: then it has to be said if there are none any more.
    pub(crate) on_disk: Vec<bool>,
    /// By table, in the order of `slots`.
    pub(crate) rows: Vec<Vec<Columns>>,
    /// What the next checkpoint must say of them.
    pub(crate) changes: Vec<TableSnapshot>,
}

impl Piece {
    pub(crate) fn bytes(&self) -> usize {
        let of = |columns: &[ArrayRef]| -> usize {
            columns.iter().map(|column| column.get_array_memory_size()).sum()
        };
        let rows = self.rows.iter().flatten();
        of(&self.keys)
            + rows
                .map(|(slots, columns)| 4 * slots.len() + of(columns))
                .sum::<usize>()
    }
}

fn bytes_of(changes: &[TableSnapshot]) -> usize {
    let batches = changes.iter().flat_map(|table| &table.changes);
    batches.map(|batch| batch.get_array_memory_size()).sum()
}

/// What the thread needs.
pub(crate) struct WriteOutInput {
    pub(crate) run: RunWriter,
    pub(crate) keys: Arc<KeyCodec>,
    pub(crate) tables: Arc<Vec<TableCodec>>,
    pub(crate) folder: Arc<LocalFolder>,
    /// So many pieces may wait.
    pub(crate) queued: usize,
    /// Of the delta files.
    pub(crate) scope: Scope,
    /// Changes are written when they are so many bytes.
    pub(crate) delta_bytes: usize,
}

/// The task's side. Dropped, what is written is given up.
pub(crate) struct WriteOut {
    pieces: Option<SyncSender<Piece>>,
    result: Receiver<Result<Option<LocalRun>, StateError>>,
    deltas: Arc<PendingDeltas>,
    memory: Arc<Memory>,
}

/// Bytes that the thread was given and still holds.
#[derive(Default)]
pub(crate) struct Memory {
    /// Of pieces that wait.
    queued: AtomicUsize,
    /// Encoded, or changes.
    held: AtomicUsize,
}

impl Memory {
    pub(crate) fn bytes(&self) -> usize {
        self.queued.load(Ordering::Relaxed) + self.held.load(Ordering::Relaxed)
    }
}

/// Delta files that are being written.
#[derive(Debug)]
pub(crate) struct PendingDeltas {
    folder: String,
    written: Mutex<Option<Result<Vec<Arc<LocalFile>>, String>>>,
    done: Condvar,
}

impl PendingDeltas {
    /// The files, oldest first, once they are there. Waits for the disk.
    pub(crate) fn wait(&self) -> Result<Vec<Arc<LocalFile>>, StateError> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.done.wait_while(written, |written| written.is_none());
        match &*waited.unwrap_or_else(PoisonError::into_inner) {
            Some(Ok(files)) => Ok(files.clone()),
            Some(Err(message)) => Err(self.failed(message)),
            None => Err(self.failed(ENDED)),
        }
    }

    fn failed(&self, message: &str) -> StateError {
        StateError::LocalDisk {
            folder: self.folder.clone(),
            message: message.to_owned(),
        }
    }

    fn put(&self, files: Result<Vec<Arc<LocalFile>>, String>) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.get_or_insert(files);
        self.done.notify_all();
    }
}

const ENDED: &str = "writing state there ended without a result";

/// Tells those who wait also when the thread panics.
struct Ending(Arc<PendingDeltas>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.put(Err(ENDED.to_owned()));
    }
}

impl WriteOut {
    pub(crate) fn start(input: WriteOutInput) -> Result<Self, StateError> {
        let folder = input.folder.path().display().to_string();
        let (pieces, queue) = sync_channel(input.queued);
        let (sender, result) = channel();
        let memory = Arc::new(Memory::default());
        let deltas = Arc::new(PendingDeltas {
            folder: folder.clone(),
            written: Mutex::new(None),
            done: Condvar::new(),
        });
        let writer = Writer {
            input,
            group: HeldGroup::default(),
            changes: Vec::new(),
            change_bytes: 0,
            deltas: Vec::new(),
            memory: Arc::clone(&memory),
        };
        let ending = Ending(Arc::clone(&deltas));
        let work = move || {
            let written = writer.write_all(&queue);
            let files = written.as_ref().map(|(_, files)| files.clone());
            ending.0.put(files.map_err(ToString::to_string));
            // Nobody wants it if the state is gone.
            let _ = sender.send(written.map(|(run, _)| run));
        };
        let thread = std::thread::Builder::new().name("state-write".to_owned());
        thread.spawn(work).map_err(|error| StateError::LocalDisk {
            folder,
            message: format!("no thread can be started to write state: {error}"),
        })?;
        Ok(Self {
            pieces: Some(pieces),
            result,
            deltas,
            memory,
        })
    }

    /// Bytes of memory that this holds.
    pub(crate) fn memory_size(&self) -> usize {
        self.memory.bytes()
    }

    pub(crate) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        self.memory.queued.load(Ordering::Relaxed)
    }

    /// Waits if as many pieces wait already as may.
    pub(crate) fn send(&self, piece: Piece) {
        let bytes = piece.bytes();
        self.memory.queued.fetch_add(bytes, Ordering::Relaxed);
        self.memory
            .held
            .fetch_add(bytes_of(&piece.changes), Ordering::Relaxed);
        if let Some(pieces) = &self.pieces {
            // If the thread ended, its result says why.
            let _ = pieces.send(piece);
        }
    }

    /// No more pieces come.
    pub(crate) fn close(&mut self) {
        self.pieces = None;
    }

    /// The run, if it is complete: None in it if there is nothing to write.
    pub(crate) fn poll(&self) -> Result<Option<Option<LocalRun>>, StateError> {
        match self.result.try_recv() {
            Ok(written) => written.map(Some),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(self.deltas.failed(ENDED)),
        }
    }

    /// The run, when it is complete.
    pub(crate) fn wait(&self) -> Result<Option<LocalRun>, StateError> {
        self.result.recv().map_err(|_| self.deltas.failed(ENDED))?
    }

    /// The delta files.
    pub(crate) fn deltas(&self) -> &Arc<PendingDeltas> {
        &self.deltas
    }
}

/// The thread's side.
struct Writer {
    input: WriteOutInput,
    group: HeldGroup,
    /// By table.
    changes: Vec<TableSnapshot>,
    change_bytes: usize,
    deltas: Vec<Arc<LocalFile>>,
    memory: Arc<Memory>,
}

/// The entries of one key group, one behind another.
#[derive(Default)]
struct HeldGroup {
    bytes: Vec<u8>,
    /// Where the key begins, the rows begin, and the entry ends.
    entries: Vec<(usize, usize, usize)>,
}

impl HeldGroup {
    fn group(&self) -> Option<u32> {
        let (start, rows, _) = self.entries.last()?;
        Some(group_of(&self.bytes[*start..*rows]))
    }

    fn push(&mut self, key: &[u8], rows: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(rows);
        self.entries.push((start, start + key.len(), self.bytes.len()));
    }

    fn write(&mut self, run: &mut RunWriter) -> Result<(), StateError> {
        let bytes = &self.bytes;
        self.entries
            .sort_unstable_by_key(|(start, rows, _)| &bytes[*start..*rows]);
        for (start, rows, end) in self.entries.drain(..) {
            run.push(Entry {
                key: &bytes[start..rows],
                rows: &bytes[rows..end],
            })?;
        }
        self.bytes.clear();
        Ok(())
    }
}

impl Writer {
    fn write_all(
        mut self,
        pieces: &Receiver<Piece>,
    ) -> Result<(Option<LocalRun>, Vec<Arc<LocalFile>>), StateError> {
        for piece in pieces {
            let bytes = piece.bytes();
            self.write(piece)?;
            self.memory.queued.fetch_sub(bytes, Ordering::Relaxed);
        }
        self.end_group()?;
        self.write_changes()?;
        Ok((self.input.run.finish()?, self.deltas))
    }

    fn write(&mut self, mut piece: Piece) -> Result<(), StateError> {
        self.collect(std::mem::take(&mut piece.changes))?;
        let tables = Arc::clone(&self.input.tables);
        let mut images: Vec<TableImage<'_>> = Vec::with_capacity(tables.len());
        for (codec, parts) in tables.iter().zip(piece.rows) {
            let mut image = TableImage::new(codec);
            for (slots, columns) in parts {
                image.push(&slots, columns)?;
            }
            images.push(image);
        }
        let keys = self
            .input
            .keys
            .encode(&piece.keys, piece.groups.iter().copied())?;
        let mut rows = Vec::new();
        for (place, slot) in piece.slots.iter().enumerate() {
            rows.clear();
            for (number, image) in images.iter_mut().enumerate() {
                image.take(*slot, number, &mut rows);
            }
            if rows.is_empty() && !piece.on_disk[place] {
                continue;
            }
            if self
                .group
                .group()
                .is_some_and(|group| group != piece.groups[place])
            {
                self.end_group()?;
            }
            let key = keys.get(place);
            self.memory
                .held
                .fetch_add(key.len() + rows.len(), Ordering::Relaxed);
            self.group.push(key, &rows);
        }
        Ok(())
    }

    fn end_group(&mut self) -> Result<(), StateError> {
        let bytes = self.group.bytes.len();
        self.group.write(&mut self.input.run)?;
        self.memory.held.fetch_sub(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn collect(&mut self, changes: Vec<TableSnapshot>) -> Result<(), StateError> {
        self.change_bytes += bytes_of(&changes);
        if self.changes.is_empty() {
            self.changes = changes;
        } else {
            for (all, new) in self.changes.iter_mut().zip(changes) {
                all.changes.extend(new.changes);
            }
        }
        match self.change_bytes > self.input.delta_bytes {
            true => self.write_changes(),
            false => Ok(()),
        }
    }

    fn write_changes(&mut self) -> Result<(), StateError> {
        if self.changes.iter().any(|table| !table.changes.is_empty()) {
            let WriteOutInput { scope, folder, .. } = &self.input;
            self.deltas
                .push(super::delta::write(&self.changes, scope, folder)?);
        }
        self.changes.clear();
        let bytes = std::mem::take(&mut self.change_bytes);
        self.memory.held.fetch_sub(bytes, Ordering::Relaxed);
        Ok(())
    }
}
