//! `parquet`: files of columns. Flink's ParquetFileFormatFactory; names, defaults and types are its.
//!
//! ```text
//!   file --footer: fit--> leaves, types to read them in --batches, conform--> the scan's columns
//!   rows --plain--> pages by column --> row groups --> file
//! ```
//!
//! Timestamps without zone count as UTC in files whatever `parquet.utc-timezone` says: it tells UTC from the machine's zone, which is UTC
//! here.

mod conform;
mod fit;
mod plain;
mod read;
mod schema;
mod write;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use parquet::basic::{Compression, Encoding, GzipLevel, Type as Physical, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{
    EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion,
};
use parquet::schema::types::SchemaDescriptor;
use thalweg_plan::Field;
use thalweg_plan::connector::ConnectorProblem;

pub(super) use self::read::ParquetReading;
use self::schema::{Timestamps, Unit, View};
pub(super) use self::write::ParquetWriting;
use crate::table::options::{TableOptions, problem, refusal};

const KEYS: [&str; 10] = [
    "parquet.utc-timezone",
    "parquet.write.int64.timestamp",
    "parquet.timestamp.time.unit",
    "parquet.batch-size",
    "parquet.compression",
    "parquet.block.size",
    "parquet.page.size",
    "parquet.dictionary.page.size",
    "parquet.enable.dictionary",
    "parquet.writer.version",
];
/// Without `parquet.block.size`: less than Flink's 128 MiB, as it is in memory for each open part.
const ROW_GROUP_BYTES: u64 = 16 << 20;

/// `parquet.*`.
#[derive(Debug, Clone)]
pub(super) struct ParquetOptions {
    timestamps: Timestamps,
    row_group_bytes: u64,
    properties: WriterPropertiesBuilder,
}

/// The options become known.
pub(super) fn support(options: &mut TableOptions<'_>) {
    options.support(KEYS.map(str::to_owned));
}

impl ParquetOptions {
    pub(super) fn read(options: &TableOptions<'_>) -> Result<Self, ConnectorProblem> {
        options.boolean("parquet.utc-timezone", false)?;
        options.number::<u32>("parquet.batch-size")?;
        let units = [
            ("nanos", Unit::Nanos),
            ("micros", Unit::Micros),
            ("millis", Unit::Millis),
        ];
        let unit = options.choice("parquet.timestamp.time.unit", &units, Unit::Micros)?;
        let timestamps = match options.boolean("parquet.write.int64.timestamp", false)? {
            true => Timestamps::Int64(unit),
            false => Timestamps::Int96,
        };
        let size = |key: &str| options.number::<usize>(key);
        let row_group_bytes = options
            .number("parquet.block.size")?
            .unwrap_or(ROW_GROUP_BYTES)
            .max(1);
        let versions = [
            ("PARQUET_1_0", WriterVersion::PARQUET_1_0),
            ("v1", WriterVersion::PARQUET_1_0),
            ("PARQUET_2_0", WriterVersion::PARQUET_2_0),
            ("v2", WriterVersion::PARQUET_2_0),
        ];
        let version = options.choice("parquet.writer.version", &versions, WriterVersion::PARQUET_1_0)?;
        let mut properties = WriterProperties::builder()
            .set_created_by("thalweg".to_owned())
            .set_compression(compression(options)?)
            .set_writer_version(version)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true)
            .set_dictionary_enabled(options.boolean("parquet.enable.dictionary", true)?);
        if let Some(bytes) = size("parquet.page.size")? {
            properties = properties.set_data_page_size_limit(bytes.max(1));
        }
        if let Some(bytes) = size("parquet.dictionary.page.size")? {
            properties = properties.set_dictionary_page_size_limit(bytes.max(1));
        }
        Ok(Self {
            timestamps,
            row_group_bytes,
            properties,
        })
    }

    /// Names a column that has no form in Parquet.
    pub(super) fn check(&self, fields: &[Field]) -> Result<(), ConnectorProblem> {
        schema::check(fields).map_err(refusal)
    }

    pub(super) fn writing(&self, fields: Vec<Field>) -> Result<ParquetWriting, ConnectorProblem> {
        let refused = |error: ParquetError| refusal(error.to_string());
        let message = schema::message(&fields, self.timestamps, View::File).map_err(refused)?;
        let mut properties = self.properties.clone();
        for column in SchemaDescriptor::new(Arc::new(message)).columns() {
            if column.physical_type() == Physical::INT96 {
                // What is written is 12 bytes of another type: only their plain form is that of INT96, and their order is another.
                let path = column.path();
                properties = properties
                    .set_column_encoding(path.clone(), Encoding::PLAIN)
                    .set_column_dictionary_enabled(path.clone(), false)
                    .set_column_statistics_enabled(path.clone(), EnabledStatistics::None);
            }
        }
        Ok(ParquetWriting {
            fields,
            timestamps: self.timestamps,
            properties: Arc::new(properties.build()),
            row_group_bytes: usize::try_from(self.row_group_bytes).unwrap_or(usize::MAX),
        })
    }
}

fn compression(options: &TableOptions<'_>) -> Result<Compression, ConnectorProblem> {
    const KEY: &str = "parquet.compression";
    let Some(name) = options.get(KEY) else {
        return Ok(Compression::SNAPPY);
    };
    Ok(match name.to_ascii_uppercase().as_str() {
        "UNCOMPRESSED" => Compression::UNCOMPRESSED,
        "SNAPPY" => Compression::SNAPPY,
        "GZIP" => Compression::GZIP(GzipLevel::default()),
        "ZSTD" => Compression::ZSTD(ZstdLevel::default()),
        "LZ4_RAW" => Compression::LZ4_RAW,
        _ => {
            return Err(problem(
                KEY,
                format!(
                    "'{KEY}' = '{name}' is not supported: UNCOMPRESSED, SNAPPY, GZIP, ZSTD and LZ4_RAW are."
                ),
            ));
        }
    })
}
