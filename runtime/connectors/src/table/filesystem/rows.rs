//! Lines of files as a scan's rows.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use thalweg_formats::{Decoder, Format, FormatError, Projection};
use thalweg_plan::Field;
use thalweg_types::StreamBatch;

use super::metadata::{FileFacts, FileMetadata};
use super::partitions::PartitionReader;
use crate::ConnectorError;
use crate::file::lines::{BadLine, Gather};
use crate::table::columns::batch_of;

/// Where a column's values are from; those of one place come in the scan's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The files' rows.
    Value,
    /// Folders' names.
    Partition,
    /// The file itself.
    File(FileMetadata),
}

/// What a scan's columns are.
pub(super) struct ScanColumns {
    /// Of each of them.
    pub(super) origins: Vec<Origin>,
    pub(super) partitions: PartitionReader,
    pub(super) schema: SchemaRef,
}

impl ScanColumns {
    /// Whether a column tells of the file.
    pub(super) fn wants_files(&self) -> bool {
        self.origins
            .iter()
            .any(|origin| matches!(origin, Origin::File(_)))
    }
}

/// How a scan's columns are made of lines.
pub(super) struct RowPlan {
    pub(super) format: Format,
    /// In the files.
    pub(super) fields: Vec<Field>,
    pub(super) projection: Projection,
    pub(super) columns: Arc<ScanColumns>,
}

/// Gathers a scan's rows.
pub(super) struct FileRows {
    plan: Arc<RowPlan>,
    decoder: Box<dyn Decoder>,
    partitions: Box<dyn Decoder>,
    /// From these rows on: files' rows, in the order of `partitions` and `files`.
    begins: Vec<u32>,
    /// Of those files, if a column asks for it.
    files: Vec<FileFacts>,
    /// Rows behind each line.
    ends: Vec<u32>,
}

impl FileRows {
    pub(super) fn new(plan: Arc<RowPlan>) -> Self {
        Self {
            decoder: plan.format.decoder(&plan.fields, plan.projection.clone()),
            partitions: plan.columns.partitions.decoder(),
            plan,
            begins: Vec::new(),
            files: Vec::new(),
            ends: Vec::new(),
        }
    }

    fn tells_files_apart(&self) -> bool {
        !self.plan.columns.partitions.is_empty() || self.plan.columns.wants_files()
    }

    /// The columns that are the same for all rows of a file, a value for each row: of partitions, then of files.
    fn columns_of_files(&mut self, rows: usize) -> Result<(Vec<ArrayRef>, Vec<ArrayRef>), FormatError> {
        let begins = std::mem::take(&mut self.begins);
        let files = std::mem::take(&mut self.files);
        if !self.tells_files_apart() {
            return Ok((Vec::new(), Vec::new()));
        }
        let partitions = match self.plan.columns.partitions.is_empty() {
            true => Vec::new(),
            false => self.partitions.flush()?.columns,
        };
        let of_files = self
            .plan
            .columns
            .origins
            .iter()
            .filter_map(|origin| match origin {
                Origin::File(metadata) => Some(metadata.column(&files)),
                _ => None,
            });
        let ends = begins.iter().skip(1).copied().chain([rows as u32]);
        let runs = begins.iter().zip(ends).enumerate();
        let indices: UInt32Array = runs
            .flat_map(|(file, (begin, end))| std::iter::repeat_n(file as u32, (end - begin) as usize))
            .collect::<Vec<_>>()
            .into();
        let by_row = |column: ArrayRef| {
            take(&column, &indices, None).map_err(|error| FormatError::Columns(error.to_string()))
        };
        let of_files = of_files.map(by_row).collect::<Result<_, _>>()?;
        Ok((
            partitions.into_iter().map(by_row).collect::<Result<_, _>>()?,
            of_files,
        ))
    }

    fn batch(&mut self) -> Result<StreamBatch, FormatError> {
        let decoded = self.decoder.flush()?;
        let (names, of_files) = self.columns_of_files(decoded.rows)?;
        let (mut names, mut of_files) = (names.into_iter(), of_files.into_iter());
        let mut values = decoded.columns.into_iter();
        let column = |origin: &Origin| match origin {
            Origin::Value => values.next(),
            Origin::Partition => names.next(),
            Origin::File(_) => of_files.next(),
        };
        let columns = self.plan.columns.origins.iter().filter_map(column).collect();
        let rows = batch_of(&self.plan.columns.schema, columns, decoded.rows);
        let mut batch = StreamBatch::new(rows.map_err(|error| FormatError::Columns(error.to_string()))?);
        batch.kinds = decoded.kinds;
        Ok(batch)
    }
}

impl Gather for FileRows {
    fn begin_file(&mut self, path: &Path) -> Result<(), ConnectorError> {
        if !self.tells_files_apart() {
            return Ok(());
        }
        if !self.plan.columns.partitions.is_empty() {
            let message = self.plan.columns.partitions.message(path)?;
            self.partitions.decode(message.as_bytes()).map_err(|error| {
                ConnectorError::Malformed(format!(
                    "file source: the partition of {}: {error}",
                    path.display()
                ))
            })?;
        }
        if self.plan.columns.wants_files() {
            self.files.push(FileFacts::of(path)?);
        }
        self.begins.push(self.decoder.rows() as u32);
        Ok(())
    }

    fn push(&mut self, line: &[u8]) -> Result<(), String> {
        self.decoder.decode(line).map_err(|error| error.to_string())?;
        self.ends.push(self.decoder.rows() as u32);
        Ok(())
    }

    fn rows(&self) -> usize {
        self.decoder.rows()
    }

    fn finish(&mut self) -> Result<StreamBatch, BadLine> {
        let ends = std::mem::take(&mut self.ends);
        self.batch().map_err(|error| {
            let row = match &error {
                FormatError::Null { row, .. } => *row as u32,
                _ => 0,
            };
            BadLine {
                line: ends.partition_point(|end| *end <= row),
                what: format!(": {error}"),
            }
        })
    }
}
