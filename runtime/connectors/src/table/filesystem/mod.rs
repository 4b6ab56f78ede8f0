//! `filesystem`: files of a format, in folders by partition. Flink's FileSystemTableFactory.
//!
//! ```text
//!   path/dt=2020-01-01/hm=00%3A05/part-..   columns dt and hm are in the folders' names, the others in the files
//!   source: files --lines--> decoder        sink: encoder --> part files; a partition that is complete gets `_SUCCESS`
//!           files of a bulk format --> columns    columns --> part files of it
//! ```
//!
//! Where it differs from Flink: rows of other tables can be joined with it as they come ([`lookup`]); a file is read by one subtask; with `sink.partition-commit.policy.kind` part files are finished at each
//! checkpoint, and each subtask marks the partitions that it has written: all of a partition's rows, if the planner was asked to shuffle
//! by partition.

mod avro;
mod blocks;
mod columns_sink;
mod commit;
mod formats;
mod lookup;
mod metadata;
#[cfg(feature = "parquet")]
mod parquet;
mod partitions;
mod rows;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use thalweg_formats::Projection;
use thalweg_plan::connector::{
    CatalogTable, ConnectorProblem, SinkAbilities, SinkSpec, SourceAbilities, SourceColumn, SourceSpec,
};
use thalweg_plan::{ChangelogMode, Field, Schema};
use thalweg_storage::FileSystems;

use self::blocks::ScanFormat;
use self::columns_sink::{FileColumns, FileColumnsSink};
use self::commit::{CommitPolicy, PartitionCommitSink};
use self::formats::{FileFormat, Reading, Writing};
pub use self::lookup::LookupCache;
use self::metadata::{FileMetadata, readable};
use self::partitions::Partitions;
use self::rows::{FileRows, Origin, RowPlan, ScanColumns};
use super::encoding::{Encoding, EncodingSink, Part, VALUE};
use super::options::{SOURCE_KEYS, TableOptions, problem, refusal};
use super::{insert_only_source, physical_fields};
use crate::file::{FileRows as Rows, RowContent};
use crate::{BucketAssigner, ConnectorError, FileSink, FileSource, RollingPolicy, Sink, Source};

const KEYS: [&str; 20] = [
    "path",
    "format",
    "partition.default-name",
    "source.monitor-interval",
    "source.report-statistics",
    "sink.rolling-policy.file-size",
    "sink.rolling-policy.rollover-interval",
    "sink.rolling-policy.inactivity-interval",
    "sink.rolling-policy.check-interval",
    "sink.partition-commit.trigger",
    "sink.partition-commit.delay",
    "sink.partition-commit.watermark-time-zone",
    "sink.partition-commit.policy.kind",
    "sink.partition-commit.success-file.name",
    "partition.time-extractor.kind",
    "partition.time-extractor.timestamp-pattern",
    "sink.shuffle-by-partition.enable",
    "sink.parallelism",
    "auto-compaction",
    "compaction.file-size",
];
const ROLLING_FILE_BYTES: u64 = 128 << 20;
const ROLLING_INTERVAL: Duration = Duration::from_secs(30 * 60);

struct Table<'a> {
    options: TableOptions<'a>,
    /// As it is given.
    path: &'a str,
    format: FileFormat,
    partitions: Partitions,
    /// In the files.
    fields: Vec<Field>,
}

impl<'a> Table<'a> {
    fn read(table: &'a CatalogTable) -> Result<Self, ConnectorProblem> {
        let keys = SOURCE_KEYS.into_iter().chain(KEYS).chain(lookup::KEYS);
        let mut options = TableOptions::new("filesystem", table, keys);
        let format = FileFormat::read(&mut options, &["path", "format"])?;
        if options.boolean("auto-compaction", false)? {
            return Err(problem(
                "auto-compaction",
                "'auto-compaction' = 'true' is not supported: choose a longer checkpoint interval for larger files.",
            ));
        }
        let path = options.get("path").unwrap_or_default();
        FileSystems::canonical(path).map_err(|error| problem("path", format!("'path': {error}")))?;
        let default_name = options
            .get("partition.default-name")
            .unwrap_or("__DEFAULT_PARTITION__");
        let partitions = Partitions::new(table, default_name)?;
        let mut fields = physical_fields(table);
        fields.retain(|field| !table.partition_keys.contains(&field.name));
        format.check(&fields)?;
        Ok(Self {
            options,
            path,
            format,
            partitions,
            fields,
        })
    }

    /// A folder or file of this machine.
    fn local_path(&self) -> Result<PathBuf, ConnectorProblem> {
        let uri = FileSystems::canonical(self.path).unwrap_or_default();
        uri.strip_prefix("file://").map(PathBuf::from).ok_or_else(|| {
            problem(
                "path",
                format!(
                    "'path' = '{}' can't be read yet: reading is possible from local folders (file://).",
                    self.path
                ),
            )
        })
    }

    fn monitor_interval(&self) -> Result<Option<Duration>, ConnectorProblem> {
        match self.options.duration("source.monitor-interval")? {
            Some(Duration::ZERO) => Err(problem(
                "source.monitor-interval",
                "'source.monitor-interval' must be above 0.",
            )),
            interval => Ok(interval),
        }
    }
}

pub(crate) fn source_abilities(table: &CatalogTable) -> Result<SourceAbilities, ConnectorProblem> {
    let table = Table::read(table)?;
    table.local_path()?;
    let bounded = table.monitor_interval()?.is_none();
    LookupCache::read(&table.options)?;
    Ok(SourceAbilities {
        lookup: bounded && table.format.changelog().is_insert_only(),
        changelog: table.format.changelog(),
        metadata: readable(),
        nested_projection: table.format.supports_nested_projection(),
        ..insert_only_source(bounded)
    })
}

pub(crate) fn source(spec: &SourceSpec, output: &Schema) -> Result<Arc<dyn Source>, ConnectorProblem> {
    let table = Table::read(&spec.table)?;
    let is_partition = |column: &&SourceColumn| match column {
        SourceColumn::Physical { path, .. } => spec
            .table
            .partition_keys
            .iter()
            .any(|key| path[..] == [key.clone()]),
        SourceColumn::Metadata { .. } => false,
    };
    let origin = |column: &SourceColumn| match column {
        SourceColumn::Metadata { key, .. } => {
            let metadata = FileMetadata::of(key).map(Origin::File);
            metadata.ok_or_else(|| refusal(format!("Metadata '{key}' of files is not supported.")))
        }
        physical if is_partition(&physical) => Ok(Origin::Partition),
        SourceColumn::Physical { .. } => Ok(Origin::Value),
    };
    let origins = spec.columns.iter().map(origin).collect::<Result<_, _>>()?;
    let in_files: Vec<SourceColumn> = spec
        .columns
        .iter()
        .filter(|column| !is_partition(column))
        .cloned()
        .collect();
    let in_names: Vec<SourceColumn> = spec.columns.iter().filter(is_partition).cloned().collect();
    let columns = Arc::new(ScanColumns {
        origins,
        partitions: table.partitions.reading(&in_names)?,
        schema: output.to_arrow(),
    });
    let projection = Projection::new(&table.fields, &in_files).map_err(refusal)?;
    let source = FileSource::for_text_lines(table.local_path()?);
    let schema = output.to_arrow();
    let mut source = match table.format.reading(projection) {
        Reading::Rows(format, projection) => {
            let quoting = format.quoting();
            let plan = Arc::new(RowPlan {
                format,
                projection,
                fields: table.fields.clone(),
                columns,
            });
            let gather = move || Box::new(FileRows::new(Arc::clone(&plan))) as _;
            let content = RowContent::Lines(Arc::new(gather));
            source.into_rows(Rows { schema, content }, quoting)
        }
        Reading::Columns(format) => {
            let content = RowContent::Blocks(Arc::new(ScanFormat { columns, format }));
            source.into_rows(Rows { schema, content }, None)
        }
    };
    if let Some(interval) = table.monitor_interval()? {
        source = source.monitor_continuously(interval);
    }
    Ok(Arc::new(source))
}

/// How a lookup holds the table.
pub(crate) fn lookup_cache(table: &CatalogTable) -> Result<LookupCache, ConnectorProblem> {
    LookupCache::read(&Table::read(table)?.options)
}

pub(crate) fn sink_abilities(table: &CatalogTable) -> Result<SinkAbilities, ConnectorProblem> {
    let table = Table::read(table)?;
    table.format.check_writing()?;
    table.rolling_policy(false)?;
    CommitPolicy::read(&table.options, &table.partitions)?;
    Ok(SinkAbilities {
        changelog: match table.format.changelog().is_insert_only() {
            true => ChangelogMode::INSERT_ONLY,
            false => ChangelogMode::ALL,
        },
        metadata: Vec::new(),
        overwrite: false,
        parallelism: table.options.parallelism()?,
    })
}

impl Table<'_> {
    fn rolling_policy(&self, at_checkpoints: bool) -> Result<RollingPolicy, ConnectorProblem> {
        let size = self.options.memory("sink.rolling-policy.file-size")?;
        let interval = |key: &str| Ok(self.options.duration(key)?.unwrap_or(ROLLING_INTERVAL));
        // Times are looked at with each batch.
        self.options.duration("sink.rolling-policy.check-interval")?;
        let policy = match at_checkpoints {
            true => RollingPolicy::on_checkpoint(),
            false => RollingPolicy::default(),
        };
        Ok(policy
            .with_max_part_size(size.unwrap_or(ROLLING_FILE_BYTES))
            .with_rollover_interval(interval("sink.rolling-policy.rollover-interval")?)
            .with_inactivity_interval(interval("sink.rolling-policy.inactivity-interval")?))
    }
}

pub(crate) fn sink(spec: &SinkSpec) -> Result<Arc<dyn Sink>, ConnectorProblem> {
    let table = Table::read(&spec.table)?;
    table.format.check_writing()?;
    if spec.overwrite {
        return Err(refusal(
            "INSERT OVERWRITE is not supported by the filesystem connector yet.",
        ));
    }
    let refused = |error: ConnectorError| refusal(error.to_string());
    let policy = CommitPolicy::read(&table.options, &table.partitions)?;
    let assigner = match table.partitions.is_empty() {
        true => BucketAssigner::base_path(),
        // The last column of what the encoding gives.
        false => BucketAssigner::by_row(|row, bucket| {
            let buckets = row
                .rows
                .columns()
                .last()
                .and_then(|column| column.as_string_opt::<i32>());
            bucket.push_str(buckets.map_or("", |buckets| buckets.value(row.row)));
        }),
    };
    let physical = physical_fields(&spec.table);
    let position = |field: &Field| physical.iter().position(|column| column.name == field.name);
    let columns: Vec<usize> = table.fields.iter().filter_map(position).collect();
    let buckets = (!table.partitions.is_empty()).then(|| table.partitions.buckets(&physical));
    let writing = table.format.writing(table.path, &table.fields)?;
    let (builder, at_checkpoints) = match &writing {
        Writing::Rows(_) => (
            FileSink::for_row_format(table.path).value_column(VALUE),
            policy.is_some(),
        ),
        // Such a file can't go on behind a checkpoint.
        Writing::Columns(builder) => (builder.clone(), true),
    };
    let files = builder
        .with_bucket_assigner(assigner)
        .with_rolling_policy(table.rolling_policy(at_checkpoints)?)
        .build()
        .map_err(refused)?;
    let inner: Arc<dyn Sink> = match policy {
        Some(policy) => Arc::new(PartitionCommitSink {
            inner: Arc::new(files),
            policy: Arc::new(policy),
            folder: table.path.to_owned(),
        }),
        None => Arc::new(files),
    };
    Ok(match writing {
        Writing::Rows(format) => Arc::new(EncodingSink {
            inner,
            encoding: Arc::new(Encoding {
                value: Part {
                    format,
                    columns,
                    fields: table.fields.clone(),
                },
                key: None,
                buckets,
                timestamp: None,
                headers: None,
                tombstones: false,
            }),
        }),
        Writing::Columns(_) => Arc::new(FileColumnsSink {
            inner,
            columns: Arc::new(FileColumns::new(&table.fields, columns, buckets)),
        }),
    })
}

#[cfg(test)]
mod tests;
