//! Rows as lines of part files, or in files of a bulk format, each exactly once; Flink's FileSink.
//!
//! ```text
//!   rows --bucket assigner--> folder --> open part --rolling policy--> closed --checkpoint complete--> visible file
//!                                        hidden file, or upload        in the checkpoint, with what is open
//! ```
//!
//! Invariants: nothing is visible under a part's name before the checkpoint that holds its last row is complete, and then
//! all of it is; a part is published as often as a restore asks for it, with the same bytes; rows behind the restored
//! checkpoint are in no file that will ever be visible.
//!
//! `parts` decides, `io` and `files` carry out, `writer` is the task's side, `state` is what checkpoints hold.

mod assigner;
mod bulk;
mod files;
mod handover;
mod io;
#[cfg(feature = "parquet")]
mod parquet;
mod parts;
mod rolling;
mod state;
mod writer;

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use thalweg_storage::FileSystems;

use self::assigner::Assign;
use self::writer::{FileWriter, limits, wall_clock};
use crate::columns::BytesColumn;
use crate::{ConnectorContext, ConnectorError, Sink, SinkWriter};

pub use self::assigner::{BucketAssigner, BucketRow};
pub use self::bulk::{BulkFormat, BulkWriter};
#[cfg(feature = "parquet")]
pub use self::parquet::ParquetFormat;
pub use self::rolling::RollingPolicy;

/// How part files are named: `<prefix>-<uid>-<n><suffix>`. Flink's OutputFileConfig.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputFileConfig {
    pub(crate) prefix: String,
    pub(crate) suffix: String,
}

impl Default for OutputFileConfig {
    /// `part`, and no suffix.
    fn default() -> Self {
        Self {
            prefix: "part".to_owned(),
            suffix: String::new(),
        }
    }
}

impl OutputFileConfig {
    /// What names begin with.
    #[must_use]
    pub fn with_part_prefix(self, prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
            ..self
        }
    }

    /// What names end with, as ".txt".
    #[must_use]
    pub fn with_part_suffix(self, suffix: impl Into<String>) -> Self {
        Self {
            suffix: suffix.into(),
            ..self
        }
    }

    fn check(&self) -> Result<(), String> {
        let odd = |text: &str| text.chars().any(|next| next == '/' || next.is_control());
        if self.prefix.is_empty() || self.prefix.starts_with(['.', '_']) || odd(&self.prefix) {
            return Err(format!(
                "the prefix {:?} of part files must be a name that begins with neither `.` nor `_`: readers leave those files out",
                self.prefix
            ));
        }
        if odd(&self.suffix) {
            return Err(format!(
                "the suffix {:?} of part files is no end of a name",
                self.suffix
            ));
        }
        Ok(())
    }
}

/// What the writers need.
#[derive(Debug)]
pub(crate) struct SinkSettings {
    /// A URI, written in the one way.
    pub(crate) folder: Arc<str>,
    pub(crate) value: Option<String>,
    pub(crate) assigner: BucketAssigner,
    pub(crate) policy: RollingPolicy,
    /// None: lines.
    pub(crate) bulk: Option<Arc<dyn BulkFormat>>,
    pub(crate) names: OutputFileConfig,
    pub(crate) may_vanish: bool,
}

impl SinkSettings {
    /// The column whose values become lines: the named one, else the only one.
    pub(crate) fn value_index(&self, schema: &Schema) -> Result<usize, ConnectorError> {
        let refused = |what: String| ConnectorError::Refused(format!("file sink {}: {what}", self.folder));
        let names = || {
            let names = schema.fields().iter().map(|field| format!("{:?}", field.name()));
            names.collect::<Vec<_>>().join(", ")
        };
        let index = match &self.value {
            Some(name) => schema
                .index_of(name)
                .map_err(|_| refused(format!("the value column {name:?} is not among {}", names())))?,
            None if schema.fields().len() == 1 => 0,
            None => {
                return Err(refused(format!(
                    "the rows have the columns {}: name the one to write by `value_column`, or map rows to text before the sink",
                    names()
                )));
            }
        };
        let field = schema.field(index);
        if BytesColumn::accepts(field.data_type()) {
            return Ok(index);
        }
        Err(refused(format!(
            "the value column {:?} is {}: text or bytes are needed (Utf8 or Binary); map it to text before the sink",
            field.name(),
            field.data_type()
        )))
    }
}

/// Writes part files in a folder: `file:///folder` or an absolute path, `s3://bucket/folder`, `gs://`, `abfss://`.
///
/// Files become visible when the checkpoint behind their last row is complete, or at the end of a bounded input; a job without
/// an end that takes no checkpoints never shows any.
#[derive(Debug, Clone)]
pub struct FileSink {
    settings: Arc<SinkSettings>,
}

impl FileSink {
    /// A line a row, of one column of text or bytes; Flink's row format with SimpleStringEncoder. A value with line ends in it
    /// becomes several lines.
    pub fn for_row_format(folder: impl Into<String>) -> FileSinkBuilder {
        FileSinkBuilder {
            folder: folder.into(),
            value: None,
            assigner: BucketAssigner::default(),
            policy: RollingPolicy::default(),
            bulk: None,
            names: OutputFileConfig::default(),
            may_vanish: false,
        }
    }

    /// Files of a format that holds all columns and can't go on behind a checkpoint, as Parquet (`ParquetFormat`, with the feature
    /// `parquet`): a part is finished at each checkpoint at the latest. Flink's bulk formats.
    pub fn for_bulk_format(folder: impl Into<String>, format: impl BulkFormat) -> FileSinkBuilder {
        FileSinkBuilder {
            bulk: Some(Arc::new(format)),
            policy: RollingPolicy::on_checkpoint(),
            ..Self::for_row_format(folder)
        }
    }
}

impl Sink for FileSink {
    fn kind(&self) -> &'static str {
        "FileSink"
    }

    fn validate(&self, input: &SchemaRef) -> Result<(), ConnectorError> {
        match &self.settings.bulk {
            Some(bulk) => bulk.validate(input),
            None => self.settings.value_index(input).map(drop),
        }
    }

    fn create_writer(&self, context: ConnectorContext) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        if !context.checkpointing {
            tracing::warn!(
                folder = %self.settings.folder,
                "this job takes no checkpoints: files become visible at the end of the input only (execution.checkpointing.interval)"
            );
        }
        let folders = Arc::new(context.files.clone());
        let settings = Arc::clone(&self.settings);
        let writer = FileWriter::start(settings, &context, folders, limits, wall_clock)?;
        Ok(Box::new(writer))
    }
}

/// Builds a [`FileSink`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `build`"]
pub struct FileSinkBuilder {
    folder: String,
    value: Option<String>,
    assigner: BucketAssigner,
    policy: RollingPolicy,
    bulk: Option<Arc<dyn BulkFormat>>,
    names: OutputFileConfig,
    may_vanish: bool,
}

impl FileSinkBuilder {
    /// The column whose values become lines; may be left out if rows have one only.
    pub fn value_column(self, name: impl Into<String>) -> Self {
        Self {
            value: Some(name.into()),
            ..self
        }
    }

    /// The folder of each row; a folder an hour by default.
    pub fn with_bucket_assigner(self, assigner: BucketAssigner) -> Self {
        Self { assigner, ..self }
    }

    /// When a part file is finished; [`RollingPolicy::default`] by default.
    pub fn with_rolling_policy(self, policy: RollingPolicy) -> Self {
        Self { policy, ..self }
    }

    /// How part files are named.
    pub fn with_output_file_config(self, names: OutputFileConfig) -> Self {
        Self { names, ..self }
    }

    /// Readers move or delete files that are finished. A file that a restored checkpoint wants finished, and that is there
    /// neither hidden nor finished, is then taken as finished before, with a line in the log; otherwise the job fails, since its rows
    /// may be lost.
    pub fn finished_files_may_vanish(self) -> Self {
        Self {
            may_vanish: true,
            ..self
        }
    }

    /// The sink; [`ConnectorError::Refused`] names what is malformed.
    pub fn build(self) -> Result<FileSink, ConnectorError> {
        let refused = |what: &str| ConnectorError::Refused(format!("file sink {:?}: {what}", self.folder));
        let folder = FileSystems::canonical(&self.folder).map_err(|error| refused(&error.to_string()))?;
        if let Assign::Malformed(what) = &self.assigner.0 {
            return Err(refused(what));
        }
        self.policy.check().map_err(refused)?;
        self.names.check().map_err(|what| refused(&what))?;
        if self.bulk.is_some() && !self.policy.is_on_checkpoint() {
            return Err(refused(
                "files of a bulk format can't go on behind a checkpoint: use RollingPolicy::on_checkpoint(), with a size or intervals if \
                 needed",
            ));
        }
        if self.bulk.is_some() && self.value.is_some() {
            return Err(refused(
                "`value_column` is for lines; a bulk format holds all columns",
            ));
        }
        Ok(FileSink {
            settings: Arc::new(SinkSettings {
                folder: folder.into(),
                value: self.value,
                assigner: self.assigner,
                policy: self.policy,
                bulk: self.bulk,
                names: self.names,
                may_vanish: self.may_vanish,
            }),
        })
    }
}

#[cfg(test)]
mod tests;
