//! The formats of files: rows one behind another, or a bulk format.

use thalweg_formats::{Format, Projection};
use thalweg_plan::connector::ConnectorProblem;
use thalweg_plan::{ChangelogMode, Field};

use super::avro::{self, AvroOptions, AvroReading};
use super::blocks::ColumnFormat;
#[cfg(feature = "parquet")]
use super::parquet::{self, ParquetOptions, ParquetReading};
use crate::table::formats::{discover, unknown};
use crate::table::options::{TableOptions, problem, refusal};
use crate::{FileSink, FileSinkBuilder};

const KEY: &str = "format";

/// What a table's files hold.
#[derive(Clone)]
pub(super) enum FileFormat {
    /// Records as lines.
    Rows(Format),
    Avro(AvroOptions),
    #[cfg(feature = "parquet")]
    Parquet(Box<ParquetOptions>),
}

impl FileFormat {
    /// The format that the options name; its own options become known, and those of `required` must be there.
    pub(super) fn read(options: &mut TableOptions<'_>, required: &[&str]) -> Result<Self, ConnectorProblem> {
        match options.get(KEY) {
            #[cfg(feature = "parquet")]
            Some("parquet") => {
                parquet::support(options);
                options.validate(required)?;
                Ok(Self::Parquet(Box::new(ParquetOptions::read(options)?)))
            }
            #[cfg(not(feature = "parquet"))]
            Some("parquet") => Err(problem(
                KEY,
                "The format 'parquet' is not in this program: build it with the feature 'parquet'.",
            )),
            Some("avro") => {
                avro::support(options);
                options.validate(required)?;
                Ok(Self::Avro(AvroOptions::read(options)?))
            }
            Some("orc") => Err(problem(
                KEY,
                "The format 'orc' is not supported by the filesystem connector yet: csv, json, raw, debezium-json, avro and parquet are.",
            )),
            Some(name) if thalweg_formats::FormatKind::of(name).is_none() => {
                Err(unknown(KEY, name, &["parquet"]))
            }
            _ => {
                let format = discover(options, KEY)?;
                options.validate(required)?;
                format
                    .map(Self::Rows)
                    .ok_or_else(|| problem(KEY, "Could not find required format 'format'."))
            }
        }
    }

    /// Whether it can hold these columns.
    pub(super) fn check(&self, fields: &[Field]) -> Result<(), ConnectorProblem> {
        match self {
            Self::Rows(format) => format.check(fields).map_err(refusal),
            Self::Avro(options) => options.check(fields),
            #[cfg(feature = "parquet")]
            Self::Parquet(options) => options.check(fields),
        }
    }

    /// Whether it can write with its options.
    pub(super) fn check_writing(&self) -> Result<(), ConnectorProblem> {
        match self {
            Self::Rows(format) => format.check_writing().map_err(refusal),
            Self::Avro(_) => Ok(()),
            #[cfg(feature = "parquet")]
            Self::Parquet(_) => Ok(()),
        }
    }

    pub(super) fn changelog(&self) -> ChangelogMode {
        match self {
            Self::Rows(format) => format.kind().changelog(),
            Self::Avro(_) => ChangelogMode::INSERT_ONLY,
            #[cfg(feature = "parquet")]
            Self::Parquet(_) => ChangelogMode::INSERT_ONLY,
        }
    }

    /// Whether single fields of rows can be read.
    pub(super) fn supports_nested_projection(&self) -> bool {
        match self {
            Self::Rows(format) => format.supports_nested_projection(),
            Self::Avro(_) => true,
            #[cfg(feature = "parquet")]
            Self::Parquet(_) => true,
        }
    }

    /// Reads what the projection wants.
    pub(super) fn reading(&self, projection: Projection) -> Reading {
        match self {
            Self::Rows(format) => Reading::Rows(format.clone(), projection),
            Self::Avro(_) => Reading::Columns(Box::new(AvroReading { projection })),
            #[cfg(feature = "parquet")]
            Self::Parquet(_) => Reading::Columns(Box::new(ParquetReading { projection })),
        }
    }

    /// Writes files of `fields` to a folder.
    pub(super) fn writing(&self, path: &str, fields: &[Field]) -> Result<Writing, ConnectorProblem> {
        Ok(match self {
            Self::Rows(format) => Writing::Rows(format.clone()),
            Self::Avro(options) => {
                Writing::Columns(FileSink::for_bulk_format(path, options.writing(fields.to_vec())))
            }
            #[cfg(feature = "parquet")]
            Self::Parquet(options) => {
                Writing::Columns(FileSink::for_bulk_format(path, options.writing(fields.to_vec())?))
            }
        })
    }
}

/// How files are read.
pub(super) enum Reading {
    Rows(Format, Projection),
    Columns(Box<dyn ColumnFormat>),
}

/// How files are written.
pub(super) enum Writing {
    Rows(Format),
    Columns(FileSinkBuilder),
}
