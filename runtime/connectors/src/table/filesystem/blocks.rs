//! Files of a bulk format as a scan's rows: the columns in them, those of the folders' names, and those that tell of the file.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::take;
use thalweg_formats::Decoded;
use thalweg_types::StreamBatch;

use super::metadata::FileFacts;
use super::rows::{Origin, ScanColumns};
use crate::ConnectorError;
use crate::file::blocks::{BlockFile, BlockFormat};
use crate::table::columns::batch_of;

/// Opens files as columns. Errors name the file.
pub(super) trait ColumnFormat: Send + Sync {
    /// At the row behind `skip` rows.
    fn open(&self, path: &Path, skip: u64) -> Result<Box<dyn ColumnFile>, ConnectorError>;
}

/// One file's columns: those of the scan that are in files, in its order.
pub(super) trait ColumnFile: Send {
    /// The next rows; `None` behind the last.
    fn next(&mut self) -> Result<Option<Decoded>, ConnectorError>;
}

/// Reads a scan's rows.
pub(super) struct ScanFormat {
    pub(super) columns: Arc<ScanColumns>,
    pub(super) format: Box<dyn ColumnFormat>,
}

struct ScanFile {
    path: String,
    columns: Arc<ScanColumns>,
    file: Box<dyn ColumnFile>,
    /// One value each, of the columns that are the same for all rows: by the scan's columns.
    constants: Vec<Option<ArrayRef>>,
}

impl BlockFormat for ScanFormat {
    fn open(&self, path: &Path, skip: u64) -> Result<Box<dyn BlockFile>, ConnectorError> {
        Ok(Box::new(ScanFile {
            constants: constants(&self.columns, path)?,
            path: path.display().to_string(),
            columns: Arc::clone(&self.columns),
            file: self.format.open(path, skip)?,
        }))
    }
}

/// Values of partition and file columns.
fn constants(columns: &ScanColumns, path: &Path) -> Result<Vec<Option<ArrayRef>>, ConnectorError> {
    let of_partition = match columns.partitions.is_empty() {
        true => Vec::new(),
        false => columns.partitions.values(path)?,
    };
    let mut of_partition = of_partition.into_iter();
    let facts = match columns.wants_files() {
        true => vec![FileFacts::of(path)?],
        false => Vec::new(),
    };
    let constant = |origin: &Origin| match origin {
        Origin::Value => None,
        Origin::Partition => of_partition.next(),
        Origin::File(metadata) => Some(metadata.column(&facts)),
    };
    Ok(columns.origins.iter().map(constant).collect())
}

impl ScanFile {
    fn failed(&self, what: &str) -> ConnectorError {
        ConnectorError::Malformed(format!("file source: {}: {what}", self.path))
    }
}

impl BlockFile for ScanFile {
    fn next(&mut self) -> Result<Option<StreamBatch>, ConnectorError> {
        let Some(decoded) = self.file.next()? else {
            return Ok(None);
        };
        let first = UInt32Array::from(vec![0; decoded.rows]);
        let mut values = decoded.columns.into_iter();
        let column = |constant: &Option<ArrayRef>| match constant {
            Some(value) => Ok(take(value, &first, None)?),
            None => values.next().ok_or_else(|| {
                arrow::error::ArrowError::SchemaError("a column of the scan is missing".to_owned())
            }),
        };
        let columns = self
            .constants
            .iter()
            .map(column)
            .collect::<Result<Vec<_>, arrow::error::ArrowError>>();
        let columns = columns.map_err(|error| self.failed(&error.to_string()))?;
        let rows = batch_of(&self.columns.schema, columns, decoded.rows);
        let rows = rows.map_err(|error| self.failed(&error.to_string()))?;
        let mut batch = StreamBatch::new(rows);
        batch.kinds = decoded.kinds;
        Ok(Some(batch))
    }
}
