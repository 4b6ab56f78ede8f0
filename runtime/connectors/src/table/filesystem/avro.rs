//! `avro`: object container files. Flink's AvroFileFormatFactory.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use thalweg_formats::{
    AvroCodec, AvroFileReader, AvroFileWriter, Decoded, Format, FormatError, FormatKind, OptionReader,
    Projection, check_avro_names,
};
use thalweg_plan::Field;
use thalweg_plan::connector::ConnectorProblem;
use thalweg_types::element::{TARGET_BATCH_BYTES, TARGET_BATCH_ROWS};

use super::blocks::{ColumnFile, ColumnFormat};
use crate::file::discover::read_error;
use crate::table::options::{TableOptions, refusal};
use crate::{BulkFormat, BulkWriter, ConnectorError};

const PREFIX: &str = "avro.";

/// `avro.*`.
#[derive(Debug, Clone)]
pub(super) struct AvroOptions {
    codec: AvroCodec,
    legacy_timestamps: bool,
    /// Of the records: what types they may have.
    records: Format,
}

/// The options become known.
pub(super) fn support(options: &mut TableOptions<'_>) {
    let keys = FormatKind::Avro.option_keys().iter().chain(["codec"].iter());
    options.support(keys.map(|key| format!("{PREFIX}{key}")));
}

impl AvroOptions {
    pub(super) fn read(options: &TableOptions<'_>) -> Result<Self, ConnectorProblem> {
        let codecs = AvroCodec::ALL.map(|codec| (codec.name(), codec));
        let reader = OptionReader::new(&options.table.options, PREFIX);
        Ok(Self {
            codec: options.choice("avro.codec", &codecs, AvroCodec::default())?,
            legacy_timestamps: options.boolean("avro.timestamp_mapping.legacy", true)?,
            records: Format::new(FormatKind::Avro, &reader).map_err(refusal)?,
        })
    }

    /// Names a column that has no form in Avro.
    pub(super) fn check(&self, fields: &[Field]) -> Result<(), ConnectorProblem> {
        let checked = self.records.check(fields).and_then(|()| check_avro_names(fields));
        checked.map_err(refusal)
    }

    pub(super) fn writing(&self, fields: Vec<Field>) -> AvroWriting {
        AvroWriting {
            fields,
            codec: self.codec,
            legacy_timestamps: self.legacy_timestamps,
        }
    }
}

/// Reads what a projection wants.
pub(super) struct AvroReading {
    pub(super) projection: Projection,
}

struct AvroFile {
    path: PathBuf,
    reader: AvroFileReader<File>,
}

fn malformed(path: &Path, error: &FormatError) -> ConnectorError {
    ConnectorError::Malformed(format!("file source: {}: {error}", path.display()))
}

impl ColumnFormat for AvroReading {
    fn open(&self, path: &Path, skip: u64) -> Result<Box<dyn ColumnFile>, ConnectorError> {
        let file = File::open(path).map_err(|error| read_error(path, &error))?;
        let failed = |error| malformed(path, &error);
        let mut reader = AvroFileReader::open(file, self.projection.clone()).map_err(failed)?;
        let skipped = reader.skip(skip).map_err(failed)?;
        if skipped < skip {
            return Err(ConnectorError::Refused(format!(
                "file source: {} was read up to row {skip} before the checkpoint and has {skipped} rows now: files must not change",
                path.display()
            )));
        }
        let path = path.to_owned();
        Ok(Box::new(AvroFile { path, reader }))
    }
}

impl ColumnFile for AvroFile {
    fn next(&mut self) -> Result<Option<Decoded>, ConnectorError> {
        let decoded = self.reader.next(TARGET_BATCH_ROWS, TARGET_BATCH_BYTES);
        decoded.map_err(|error| malformed(&self.path, &error))
    }
}

/// Writes the first columns of rows, as many as there are fields.
#[derive(Debug)]
pub(super) struct AvroWriting {
    fields: Vec<Field>,
    codec: AvroCodec,
    legacy_timestamps: bool,
}

struct AvroWriter(AvroFileWriter);

impl BulkFormat for AvroWriting {
    fn validate(&self, _rows: &SchemaRef) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn create(&self, _rows: &SchemaRef) -> Result<Box<dyn BulkWriter>, ConnectorError> {
        let (codec, legacy) = (self.codec, self.legacy_timestamps);
        let writer = AvroFileWriter::new(&self.fields, codec, legacy, rand::random());
        Ok(Box::new(AvroWriter(writer)))
    }
}

impl BulkWriter for AvroWriter {
    fn write(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ConnectorError> {
        let written = self.0.write(rows.columns(), rows.num_rows(), out);
        written.map_err(|error| failed(&error))
    }

    fn buffered(&self) -> usize {
        self.0.buffered()
    }

    fn finish(self: Box<Self>, out: &mut Vec<u8>) -> Result<(), ConnectorError> {
        self.0.finish(out).map_err(|error| failed(&error))
    }
}

fn failed(error: &FormatError) -> ConnectorError {
    ConnectorError::Malformed(format!("file sink: rows can't be written as avro: {error}"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::table::filesystem::sink_abilities;
    use crate::table::filesystem::tests::Driven;
    use crate::table::testing::{insert, read, table, texts, whole};
    use thalweg_plan::connector::CatalogTable;
    use thalweg_plan::{DataType, TypeRoot};
    use thalweg_types::StreamBatch;

    fn avro(folder: &Path, options: &[(&str, &str)], partitioned: bool) -> CatalogTable {
        let path = format!("file://{}", folder.display());
        let mut all = vec![
            ("connector", "filesystem"),
            ("path", path.as_str()),
            ("format", "avro"),
        ];
        all.extend(options);
        let mut table = table(
            &all,
            &[
                ("n", DataType::nullable(TypeRoot::Int)),
                ("p", DataType::string()),
            ],
        );
        if partitioned {
            table.partition_keys = vec!["p".to_owned()];
        }
        table
    }

    fn rows(table: &CatalogTable) -> StreamBatch {
        use arrow::array::{Int32Array, StringArray};
        let columns: Vec<arrow::array::ArrayRef> = vec![
            std::sync::Arc::new(Int32Array::from(vec![Some(1), None, Some(3)])),
            std::sync::Arc::new(StringArray::from(vec!["x", "y", "x"])),
        ];
        StreamBatch::new(RecordBatch::try_new(insert(table).schema.to_arrow(), columns).unwrap())
    }

    #[test]
    fn rows_come_back_with_their_partitions_and_each_codec() {
        for (codec, partitioned) in [
            ("null", true),
            ("deflate", false),
            ("snappy", true),
            ("zstandard", false),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let table = avro(folder.path(), &[("avro.codec", codec)], partitioned);
            let mut driven = Driven::new(&table);
            driven.write(&rows(&table));
            let prepared = driven.checkpoint(1, true);
            driven.commit(&prepared);
            let (spec, output) = whole(&table);
            let mut found = texts(&read(&spec, &output, 2).unwrap());
            found.sort();
            assert_eq!(found, ["+I[1, x]", "+I[3, x]", "+I[null, y]"], "{codec}");
        }
    }

    #[test]
    fn a_file_that_is_no_container_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.avro"), "n,p\n1,x\n").unwrap();
        let (spec, output) = whole(&avro(folder.path(), &[], false));
        let error = read(&spec, &output, 1).unwrap_err();
        assert!(
            error.ends_with("a.avro: it is no Avro object container file"),
            "{error}"
        );
    }

    #[test]
    fn options_and_names_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let refusal = |table: &CatalogTable| sink_abilities(table).unwrap_err().message;
        assert!(refusal(&avro(folder.path(), &[("avro.codec", "xz")], false)).contains("snappy"));
        let mut odd = avro(folder.path(), &[], false);
        odd.schema.columns[0].name = "a b".to_owned();
        assert!(refusal(&odd).contains("'a b' is none of Avro's"));
    }
}
