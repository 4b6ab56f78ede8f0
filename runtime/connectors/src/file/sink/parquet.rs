//! Parquet files.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::bulk::{BulkFormat, BulkWriter};
use crate::ConnectorError;

/// A row group is ended when it is about this large: it is in memory until then.
const ROW_GROUP_BYTES: usize = 16 << 20;

/// All columns of the rows as Parquet, compressed by Snappy; row groups of about 16 MiB. For [`super::FileSink::for_bulk_format`].
#[derive(Debug, Clone, Copy, Default)]
pub struct ParquetFormat {
    uncompressed: bool,
}

impl ParquetFormat {
    /// Without compression.
    #[must_use]
    pub fn uncompressed(self) -> Self {
        Self { uncompressed: true }
    }

    fn writer(self, rows: &SchemaRef) -> Result<ArrowWriter<Vec<u8>>, ConnectorError> {
        let compression = if self.uncompressed {
            Compression::UNCOMPRESSED
        } else {
            Compression::SNAPPY
        };
        let properties = WriterProperties::builder().set_compression(compression).build();
        ArrowWriter::try_new(Vec::new(), SchemaRef::clone(rows), Some(properties))
            .map_err(|error| failed(&error))
    }
}

impl BulkFormat for ParquetFormat {
    fn validate(&self, rows: &SchemaRef) -> Result<(), ConnectorError> {
        self.writer(rows).map(drop)
    }

    fn create(&self, rows: &SchemaRef) -> Result<Box<dyn BulkWriter>, ConnectorError> {
        Ok(Box::new(ParquetWriter(self.writer(rows)?)))
    }
}

struct ParquetWriter(ArrowWriter<Vec<u8>>);

impl BulkWriter for ParquetWriter {
    fn write(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ConnectorError> {
        self.0.write(rows).map_err(|error| failed(&error))?;
        if self.0.in_progress_size() >= ROW_GROUP_BYTES {
            self.0.flush().map_err(|error| failed(&error))?;
        }
        // It counts what it has written by itself.
        out.append(self.0.inner_mut());
        Ok(())
    }

    fn buffered(&self) -> usize {
        self.0.memory_size()
    }

    fn finish(self: Box<Self>, out: &mut Vec<u8>) -> Result<(), ConnectorError> {
        let mut rest = self.0.into_inner().map_err(|error| failed(&error))?;
        out.append(&mut rest);
        Ok(())
    }
}

fn failed(error: &ParquetError) -> ConnectorError {
    ConnectorError::Refused(format!("file sink: Parquet can't hold these rows: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, Int64Array, StringArray};
    use arrow::compute::concat_batches;
    use arrow::datatypes::Int64Type;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use std::sync::Arc;

    #[test]
    fn pieces_together_are_a_file_with_all_rows_whatever_was_taken_out_between() {
        let rows = |begin: i64| {
            let text = (begin..begin + 100).map(|n| Some(format!("{n:x>60000}")));
            let columns = [
                (
                    "n",
                    Arc::new(Int64Array::from_iter_values(begin..begin + 100)) as _,
                ),
                ("text", Arc::new(text.collect::<StringArray>()) as _),
            ];
            RecordBatch::try_from_iter(columns).unwrap()
        };
        for format in [ParquetFormat::default(), ParquetFormat::default().uncompressed()] {
            let mut writer = format.create(&rows(0).schema()).unwrap();
            let mut file = Vec::new();
            let mut pieces = 0;
            for begin in [0, 100, 200, 300] {
                let mut piece = Vec::new();
                writer.write(&rows(begin), &mut piece).unwrap();
                pieces += usize::from(!piece.is_empty());
                file.append(&mut piece);
            }
            assert!(
                pieces > 0 || !format.uncompressed,
                "row groups leave before the end"
            );
            writer.finish(&mut file).unwrap();
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(file)).unwrap();
            let batches: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
            let all = concat_batches(&rows(0).schema(), &batches).unwrap();
            let numbers = all.column(0).as_primitive::<Int64Type>().values().to_vec();
            assert!(numbers.into_iter().eq(0..400));
        }
    }
}
