//! A Parquet file as batches of a scan's columns.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::DataType as Arrow;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::ParquetMetaData;
use thalweg_formats::{Decoded, Projection};
use thalweg_plan::Field;
use thalweg_types::element::{TARGET_BATCH_BYTES, TARGET_BATCH_ROWS};

use super::super::blocks::{ColumnFile, ColumnFormat};
use super::conform::conform;
use super::fit::fit;
use crate::ConnectorError;
use crate::file::discover::read_error;

/// Reads what a projection wants.
pub(in crate::table::filesystem) struct ParquetReading {
    pub(in crate::table::filesystem) projection: Projection,
}

impl ColumnFormat for ParquetReading {
    fn open(&self, path: &Path, skip: u64) -> Result<Box<dyn ColumnFile>, ConnectorError> {
        let file = File::open(path).map_err(|error| read_error(path, &error))?;
        let unreadable = |error: parquet::errors::ParquetError| {
            malformed(path, &format!("is no Parquet file that can be read: {error}"))
        };
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let found = ArrowReaderMetadata::load(&file, options.clone()).map_err(unreadable)?;
        let descriptor = found.parquet_schema();
        let fit = fit(descriptor, found.schema(), &self.projection.fields)
            .map_err(|what| malformed(path, &what))?;
        let rows = batch_rows(found.metadata(), &fit.leaves);
        let mask = ProjectionMask::leaves(descriptor, fit.leaves);
        let hinted =
            ArrowReaderMetadata::try_new(Arc::clone(found.metadata()), options.with_schema(fit.schema));
        let total = found.metadata().file_metadata().num_rows();
        if u64::try_from(total).is_ok_and(|total| total < skip) {
            return Err(ConnectorError::Refused(format!(
                "file source: {} was read up to row {skip} before the checkpoint and has {total} rows now: files must not change",
                path.display()
            )));
        }
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, hinted.map_err(unreadable)?)
            .with_projection(mask)
            .with_batch_size(rows)
            .with_offset(usize::try_from(skip).unwrap_or(usize::MAX))
            .build()
            .map_err(unreadable)?;
        Ok(Box::new(ParquetFile {
            path: path.to_owned(),
            reader,
            projection: self.projection.clone(),
            types: self
                .projection
                .fields
                .iter()
                .map(Field::to_arrow)
                .map(|field| field.data_type().clone())
                .collect(),
        }))
    }
}

fn malformed(path: &Path, what: &str) -> ConnectorError {
    ConnectorError::Malformed(format!("file source: {}: {what}", path.display()))
}

/// So many that a batch is about as large as others are.
fn batch_rows(file: &ParquetMetaData, leaves: &[usize]) -> usize {
    let bytes = |group: &parquet::file::metadata::RowGroupMetaData| -> i64 {
        let columns = leaves.iter().filter_map(|leaf| group.columns().get(*leaf));
        columns.map(|column| column.uncompressed_size().max(0)).sum()
    };
    let bytes: i64 = file.row_groups().iter().map(bytes).sum();
    let rows = file.file_metadata().num_rows().max(1);
    let a_row = usize::try_from(bytes / rows).unwrap_or(0).max(1);
    (TARGET_BATCH_BYTES / a_row).clamp(1, TARGET_BATCH_ROWS)
}

struct ParquetFile {
    path: PathBuf,
    reader: ParquetRecordBatchReader,
    projection: Projection,
    types: Vec<Arrow>,
}

impl ParquetFile {
    fn columns(&self, rows: &RecordBatch) -> Result<Vec<ArrayRef>, String> {
        let fields = self.projection.fields.iter().zip(&self.types);
        let column = |(field, wanted): (&Field, &Arrow)| {
            let column = match rows.column_by_name(&field.name) {
                Some(column) => {
                    conform(column, wanted).map_err(|what| format!("column {:?}: {what}", field.name))?
                }
                None => new_null_array(wanted, rows.num_rows()),
            };
            match column.null_count() > 0 && !field.data_type.nullable {
                true => Err(format!(
                    "column {:?} is NOT NULL and has no value in some row",
                    field.name
                )),
                false => Ok(column),
            }
        };
        fields.map(column).collect()
    }
}

impl ColumnFile for ParquetFile {
    fn next(&mut self) -> Result<Option<Decoded>, ConnectorError> {
        let Some(rows) = self.reader.next() else {
            return Ok(None);
        };
        let rows =
            rows.map_err(|error| malformed(&self.path, &format!("its rows can't be read: {error}")))?;
        let columns = self.columns(&rows).map_err(|what| malformed(&self.path, &what))?;
        let columns = self.projection.outputs(&columns);
        Ok(Some(Decoded {
            columns: columns.map_err(|error| malformed(&self.path, &error.to_string()))?,
            rows: rows.num_rows(),
            kinds: None,
        }))
    }
}
