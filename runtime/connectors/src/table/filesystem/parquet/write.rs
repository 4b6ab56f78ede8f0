//! Rows of a table as Parquet files, as Flink writes them.
//!
//! ```text
//!   rows --plain--> Arrow columns whose timestamps are 12 bytes --pages, by column--> row group --> file that calls them INT96
//! ```
//!
//! Arrow's writer knows no INT96. Its plain pages are those of 12 bytes of fixed length, so that such a column is written, and its
//! metadata replaced when the row group ends.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::{Field as ArrowField, Schema as ArrowSchema, SchemaRef};
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves,
};
use parquet::basic::Type as Physical;
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::properties::WriterPropertiesPtr;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnDescPtr;
use thalweg_plan::Field;

use super::plain::{plain, plain_type};
use super::schema::{Timestamps, View, message};
use crate::ConnectorError;
use crate::{BulkFormat, BulkWriter};

/// Writes the first columns of rows, as many as there are fields.
#[derive(Debug)]
pub(in crate::table::filesystem) struct ParquetWriting {
    pub(super) fields: Vec<Field>,
    pub(super) timestamps: Timestamps,
    pub(super) properties: WriterPropertiesPtr,
    /// A row group is ended when it is about this large: it is in memory until then.
    pub(super) row_group_bytes: usize,
}

impl BulkFormat for ParquetWriting {
    fn validate(&self, rows: &SchemaRef) -> Result<(), ConnectorError> {
        self.create(rows).map(drop)
    }

    fn create(&self, _rows: &SchemaRef) -> Result<Box<dyn BulkWriter>, ConnectorError> {
        let plain = |field: &Field| {
            ArrowField::new(
                &field.name,
                plain_type(&field.data_type.to_arrow(), self.timestamps),
                true,
            )
        };
        let schema = Arc::new(ArrowSchema::new(
            self.fields.iter().map(plain).collect::<Vec<_>>(),
        ));
        let of_file = message(&self.fields, self.timestamps, View::File).map_err(|error| failed(&error))?;
        let of_pages = message(&self.fields, self.timestamps, View::Pages).map_err(|error| failed(&error))?;
        let bytes = Output::default();
        let file = SerializedFileWriter::new(bytes.clone(), Arc::new(of_file), Arc::clone(&self.properties));
        // Only for its schema: nothing is written to it.
        let pages =
            SerializedFileWriter::new(std::io::sink(), Arc::new(of_pages), Arc::clone(&self.properties));
        let pages = pages.map_err(|error| failed(&error))?;
        Ok(Box::new(ParquetTableWriter {
            factory: ArrowRowGroupWriterFactory::new(&pages, Arc::clone(&schema)),
            file: file.map_err(|error| failed(&error))?,
            bytes,
            schema,
            columns: Vec::new(),
            groups: 0,
            row_group_bytes: self.row_group_bytes,
        }))
    }
}

/// What the file's writer has given out, until it is taken.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Output {
    fn take(&self, out: &mut Vec<u8>) {
        out.append(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct ParquetTableWriter {
    file: SerializedFileWriter<Output>,
    bytes: Output,
    factory: ArrowRowGroupWriterFactory,
    schema: SchemaRef,
    /// Of the row group under way, a leaf each.
    columns: Vec<ArrowColumnWriter>,
    groups: usize,
    row_group_bytes: usize,
}

impl ParquetTableWriter {
    fn append(&mut self, rows: &RecordBatch) -> Result<(), ParquetError> {
        if self.columns.is_empty() {
            self.columns = self.factory.create_column_writers(self.groups)?;
            self.groups += 1;
        }
        let mut writers = self.columns.iter_mut();
        for (field, column) in self.schema.fields().iter().zip(rows.columns()) {
            let column = plain(column, field.data_type())
                .map_err(|what| ParquetError::General(format!("column {:?}: {what}", field.name())))?;
            for (leaf, writer) in compute_leaves(field, &column)?.into_iter().zip(&mut writers) {
                writer.write(&leaf)?;
            }
        }
        Ok(())
    }

    fn end_group(&mut self) -> Result<(), ParquetError> {
        if self.columns.is_empty() {
            return Ok(());
        }
        let descriptors = self.file.schema_descr().columns().to_vec();
        let mut group = self.file.next_row_group()?;
        for (writer, descriptor) in self.columns.drain(..).zip(descriptors) {
            let mut chunk = writer.close()?;
            if descriptor.physical_type() == Physical::INT96 {
                name_int96(&mut chunk, descriptor)?;
            }
            chunk.append_to_row_group(&mut group)?;
        }
        group.close()?;
        Ok(())
    }
}

/// The same pages under the file's descriptor; statistics by bytes would be wrong.
fn name_int96(chunk: &mut ArrowColumnChunk, descriptor: ColumnDescPtr) -> Result<(), ParquetError> {
    let close = chunk.close_mut();
    let pages = &close.metadata;
    let metadata = ColumnChunkMetaData::builder(descriptor)
        .set_encodings(pages.encodings().collect())
        .set_num_values(pages.num_values())
        .set_compression(pages.compression())
        .set_total_compressed_size(pages.compressed_size())
        .set_total_uncompressed_size(pages.uncompressed_size())
        .set_data_page_offset(pages.data_page_offset())
        .set_dictionary_page_offset(pages.dictionary_page_offset());
    close.metadata = metadata.build()?;
    close.column_index = None;
    Ok(())
}

impl BulkWriter for ParquetTableWriter {
    fn write(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ConnectorError> {
        self.append(rows).map_err(|error| failed(&error))?;
        let size: usize = self
            .columns
            .iter()
            .map(ArrowColumnWriter::get_estimated_total_bytes)
            .sum();
        if size >= self.row_group_bytes {
            self.end_group().map_err(|error| failed(&error))?;
        }
        self.bytes.take(out);
        Ok(())
    }

    fn buffered(&self) -> usize {
        self.columns.iter().map(ArrowColumnWriter::memory_size).sum()
    }

    fn finish(mut self: Box<Self>, out: &mut Vec<u8>) -> Result<(), ConnectorError> {
        self.end_group().map_err(|error| failed(&error))?;
        self.file.finish().map_err(|error| failed(&error))?;
        self.bytes.take(out);
        Ok(())
    }
}

fn failed(error: &ParquetError) -> ConnectorError {
    ConnectorError::Refused(format!("file sink: rows can't be written as parquet: {error}"))
}
