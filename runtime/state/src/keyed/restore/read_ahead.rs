//! Reads a table's restored rows on a thread of its own: the next are decoded while those before them go into the table.
//!
//! Bounded: [`WAITING_BATCHES`] wait for the task, of about a block each. A table of a few batches needs no thread.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, JoinHandle};

use arrow::array::RecordBatch;

use crate::snapshot::{RestoredRows, StateError};

/// Batches that are read before the table takes them.
const WAITING_BATCHES: usize = 4;
/// Batches that are read at once, before a thread is worth it.
const FIRST_BATCHES: usize = 2;

type Read = Result<RecordBatch, StateError>;

/// A table's rows. Dropped, it reads no more.
pub(super) struct ReadAhead {
    first: std::vec::IntoIter<Read>,
    rest: Option<Reader>,
}

struct Reader {
    batches: Receiver<Read>,
    thread: JoinHandle<()>,
}

impl ReadAhead {
    /// Begins to read.
    pub(super) fn start(mut rows: RestoredRows) -> Result<Self, StateError> {
        let first: Vec<Read> = rows.by_ref().take(FIRST_BATCHES).collect();
        let may_be_all = first.len() < FIRST_BATCHES || first.iter().any(Result::is_err);
        let rest = match may_be_all {
            true => None,
            false => Some(Reader::start(rows)?),
        };
        Ok(Self {
            first: first.into_iter(),
            rest,
        })
    }
}

impl Reader {
    fn start(rows: RestoredRows) -> Result<Self, StateError> {
        let (sender, batches) = sync_channel(WAITING_BATCHES);
        let read = move || {
            for batch in rows {
                let failed = batch.is_err();
                // Nobody wants more if the restore was given up.
                if sender.send(batch).is_err() || failed {
                    return;
                }
            }
        };
        let thread = Builder::new().name("state-restore".to_owned()).spawn(read);
        let thread = thread.map_err(|error| StateError::Memory {
            message: format!("no thread can be started to read state: {error}"),
        })?;
        Ok(Self { batches, thread })
    }
}

impl Iterator for ReadAhead {
    type Item = Read;

    fn next(&mut self) -> Option<Read> {
        if let Some(batch) = self.first.next() {
            return Some(batch);
        }
        match self.rest.as_ref()?.batches.recv() {
            Ok(batch) => Some(batch),
            Err(_) => {
                // It has ended, or it panicked: then the task does too.
                if let Some(Err(panic)) = self.rest.take().map(|reader| reader.thread.join()) {
                    std::panic::resume_unwind(panic);
                }
                None
            }
        }
    }
}
