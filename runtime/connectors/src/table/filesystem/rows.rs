//! Lines of files as a scan's rows.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use thalweg_formats::{Decoded, Decoder, Format, FormatError, Projection};
use thalweg_plan::Field;
use thalweg_types::StreamBatch;

use super::partitions::PartitionReader;
use crate::ConnectorError;
use crate::file::lines::{BadLine, Gather};
use crate::table::columns::batch_of;

/// How a scan's columns are made.
pub(super) struct RowPlan {
    pub(super) format: Format,
    /// In the files.
    pub(super) fields: Vec<Field>,
    pub(super) projection: Projection,
    /// Of each of the scan's columns: whether it is in folders' names.
    pub(super) from_name: Vec<bool>,
    pub(super) partitions: PartitionReader,
    pub(super) schema: SchemaRef,
}

/// Gathers a scan's rows.
pub(super) struct FileRows {
    plan: Arc<RowPlan>,
    decoder: Box<dyn Decoder>,
    partitions: Box<dyn Decoder>,
    /// From these rows on: files' rows, in the order of `partitions`.
    begins: Vec<u32>,
    /// Rows behind each line.
    ends: Vec<u32>,
}

impl FileRows {
    pub(super) fn new(plan: Arc<RowPlan>) -> Self {
        Self {
            decoder: plan.format.decoder(&plan.fields, plan.projection.clone()),
            partitions: plan.partitions.decoder(),
            plan,
            begins: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// The partition columns, a value for each row.
    fn partition_columns(&mut self, rows: usize) -> Result<Vec<ArrayRef>, FormatError> {
        let begins = std::mem::take(&mut self.begins);
        if self.plan.partitions.is_empty() {
            return Ok(Vec::new());
        }
        let Decoded { columns, .. } = self.partitions.flush()?;
        let ends = begins.iter().skip(1).copied().chain([rows as u32]);
        let runs = begins.iter().zip(ends).enumerate();
        let indices: UInt32Array = runs
            .flat_map(|(file, (begin, end))| std::iter::repeat_n(file as u32, (end - begin) as usize))
            .collect::<Vec<_>>()
            .into();
        let failed = |error: arrow::error::ArrowError| FormatError::Columns(error.to_string());
        columns
            .iter()
            .map(|column| take(column, &indices, None).map_err(failed))
            .collect()
    }

    fn batch(&mut self) -> Result<StreamBatch, FormatError> {
        let decoded = self.decoder.flush()?;
        let mut names = self.partition_columns(decoded.rows)?.into_iter();
        let mut values = decoded.columns.into_iter();
        let column = |from_name: &bool| if *from_name { names.next() } else { values.next() };
        let columns = self.plan.from_name.iter().filter_map(column).collect();
        let rows = batch_of(&self.plan.schema, columns, decoded.rows);
        let mut batch = StreamBatch::new(rows.map_err(|error| FormatError::Columns(error.to_string()))?);
        batch.kinds = decoded.kinds;
        Ok(batch)
    }
}

impl Gather for FileRows {
    fn begin_file(&mut self, path: &Path) -> Result<(), ConnectorError> {
        if self.plan.partitions.is_empty() {
            return Ok(());
        }
        let message = self.plan.partitions.message(path)?;
        self.partitions.decode(message.as_bytes()).map_err(|error| {
            ConnectorError::Malformed(format!(
                "file source: the partition of {}: {error}",
                path.display()
            ))
        })?;
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
