//! Files that are read in batches of rows of their own, as Parquet's and Avro's: Flink's BulkFormat.
//!
//! ```text
//!   file --open, skip--> batch, batch ..   each at once to the task; a position is how many rows of the file are before it
//! ```

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use thalweg_types::StreamBatch;

use super::FileCounters;
use super::discover::FoundFile;
use super::lines::{Emit, Stop};
use super::state::{Position, Progress};
use crate::ConnectorError;

/// Opens the files of a format. Errors name the file.
pub(crate) trait BlockFormat: Send + Sync {
    /// At the row behind `skip` rows.
    fn open(&self, path: &Path, skip: u64) -> Result<Box<dyn BlockFile>, ConnectorError>;
}

/// One file.
pub(crate) trait BlockFile: Send {
    /// The next rows; `None` behind the last.
    fn next(&mut self) -> Result<Option<StreamBatch>, ConnectorError>;
}

/// Reads files as batches.
pub(crate) struct BlockBatcher {
    format: Arc<dyn BlockFormat>,
    /// Up to the next row to be read, since the last batch.
    pub(crate) progress: Progress,
}

impl BlockBatcher {
    pub(crate) fn new(format: Arc<dyn BlockFormat>) -> Self {
        Self {
            format,
            progress: Progress::default(),
        }
    }

    /// Reads a file from `start` to its end.
    pub(crate) fn read_file(
        &mut self,
        file: &FoundFile,
        start: Position,
        counters: &FileCounters,
        emit: &mut Emit<'_>,
    ) -> Result<(), Stop> {
        let mut rows = start.offset;
        let mut reader = self.format.open(&file.path, rows)?;
        while let Some(batch) = reader.next()? {
            if batch.num_rows() == 0 {
                continue;
            }
            self.progress.first = Some((file.path.clone(), Position::of_row(rows)));
            rows += batch.num_rows() as u64;
            self.progress.current = Some((file.path.clone(), Position::of_row(rows)));
            emit(batch, std::mem::take(&mut self.progress))?;
        }
        counters.read.fetch_add(file.bytes, Ordering::Relaxed);
        counters.files.fetch_add(1, Ordering::Relaxed);
        self.progress.finished.push(file.path.clone());
        Ok(())
    }
}
