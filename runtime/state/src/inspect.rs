//! What `thalweg state inspect` shows: facts about a snapshot from its metadata and the indexes of its files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use thalweg_proto::state::v1::{OperatorState, SnapshotMetadata, StateFile, TableSchema};
use thalweg_storage::FileSystems;

use crate::StateError;
use crate::file::damaged;
use crate::file::source::storage_error;
use crate::schema::{distribution_of, table_schema};
use crate::store::SnapshotStore;

/// A checkpoint or savepoint.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotFacts {
    /// The job that it is of.
    pub job_id: String,
    /// Its name.
    pub job_name: String,
    /// Its number in the job.
    pub checkpoint_id: u64,
    /// Whether it is a savepoint.
    pub savepoint: bool,
    /// When it was triggered, in ms since the epoch.
    pub triggered_ms: u64,
    /// When it was complete.
    pub completed_ms: u64,
    /// Which version of the engine wrote it.
    pub engine_version: String,
    /// Its operators, as in the graph.
    pub operators: Vec<OperatorFacts>,
}

/// The state of one operator.
#[derive(Debug, Clone, PartialEq)]
pub struct OperatorFacts {
    /// 32 hex digits.
    pub operator_id: String,
    /// As the user gave it, or empty.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// What kind of operator it is.
    pub operator: String,
    /// How many subtasks wrote it.
    pub parallelism: u32,
    /// Number of key groups.
    pub max_parallelism: u32,
    /// Whether all its subtasks had finished.
    pub finished: bool,
    /// Files in storage, without what is inline. Other operators may have parts of them.
    pub files: usize,
    /// Bytes of all its state.
    pub bytes: u64,
    /// Keyed tables.
    pub tables: Vec<TableFacts>,
    /// State that belongs to no key.
    pub lists: Vec<ListFacts>,
    /// Elements under way.
    pub channel_rows: u64,
}

/// A keyed table of an operator, all subtasks together.
#[derive(Debug, Clone, PartialEq)]
pub struct TableFacts {
    /// Name, kind and columns.
    pub schema: TableSchema,
    /// Rows in its files. Rows that were changed in several checkpoints since the last full one count once each.
    pub rows: u64,
    /// Deletes in its files; with none, and one file a subtask, `rows` is exact.
    pub deletes: u64,
    /// Bytes in its files.
    pub bytes: u64,
    /// How its rows are spread.
    pub spread: KeyGroupSpread,
}

/// Rows a key group, over all key groups of the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyGroupSpread {
    /// How many have any.
    pub used: u32,
    /// The fewest.
    pub min: u64,
    /// The middle.
    pub median: u64,
    /// The most.
    pub max: u64,
}

/// A list of an operator, all subtasks together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListFacts {
    /// Its name.
    pub name: String,
    /// "split", "union" or "broadcast".
    pub distribution: &'static str,
    /// Rows.
    pub items: u64,
    /// Bytes of its files.
    pub bytes: u64,
}

/// Counts of one table while files are looked at.
#[derive(Default)]
struct TableCount {
    schema: TableSchema,
    rows: u64,
    deletes: u64,
    bytes: u64,
    groups: Vec<u64>,
}

impl SnapshotStore {
    /// Looks at a snapshot. `folder` is the URI that the paths in its metadata are relative to: a job's checkpoint folder, or
    /// the savepoint's own.
    pub async fn inspect(
        &self,
        metadata: &SnapshotMetadata,
        folder: &str,
    ) -> Result<SnapshotFacts, StateError> {
        let mut operators = Vec::with_capacity(metadata.operators.len());
        for operator in &metadata.operators {
            operators.push(self.inspect_operator(operator, folder).await?);
        }
        Ok(SnapshotFacts {
            job_id: metadata.job_id.clone(),
            job_name: metadata.job_name.clone(),
            checkpoint_id: metadata.checkpoint_id,
            savepoint: metadata.savepoint,
            triggered_ms: metadata.triggered_ms,
            completed_ms: metadata.completed_ms,
            engine_version: metadata.engine_version.clone(),
            operators,
        })
    }

    async fn inspect_operator(
        &self,
        operator: &OperatorState,
        folder: &str,
    ) -> Result<OperatorFacts, StateError> {
        let mut tables: BTreeMap<String, TableCount> = BTreeMap::new();
        for schema in &operator.tables {
            let count = tables.entry(schema.name.clone()).or_default();
            count.schema = schema.clone();
        }
        for run in operator.subtasks.iter().flat_map(|subtask| &subtask.runs) {
            let missing = || damaged("_metadata", format!("a run of {:?} has no file", operator.name));
            let file = resolve(run.file.as_ref().ok_or_else(missing)?, folder)?;
            self.count_run(&file, operator, &mut tables).await?;
        }
        let mut lists: BTreeMap<&str, ListFacts> = BTreeMap::new();
        for list in operator.subtasks.iter().flat_map(|subtask| &subtask.lists) {
            let facts = lists.entry(&list.name).or_insert_with(|| ListFacts {
                name: list.name.clone(),
                distribution: distribution_name(list.distribution),
                items: 0,
                bytes: 0,
            });
            facts.items += list.items;
            facts.bytes += list.file.as_ref().map_or(0, |file| file.size);
        }
        let files = || {
            operator.subtasks.iter().flat_map(|subtask| {
                let runs = subtask.runs.iter().filter_map(|run| run.file.as_ref());
                let lists = subtask.lists.iter().filter_map(|list| list.file.as_ref());
                let channels = subtask
                    .channels
                    .iter()
                    .filter_map(|channel| channel.file.as_ref());
                runs.chain(lists).chain(channels)
            })
        };
        let channels = operator.subtasks.iter().flat_map(|subtask| &subtask.channels);
        Ok(OperatorFacts {
            operator_id: operator.operator_id.clone(),
            uid: operator.uid.clone(),
            name: operator.name.clone(),
            operator: operator.operator.clone(),
            parallelism: operator.parallelism,
            max_parallelism: operator.max_parallelism,
            finished: operator.finished,
            files: files()
                .filter(|file| !file.path.is_empty())
                .map(|file| file.path.as_str())
                .collect::<BTreeSet<_>>()
                .len(),
            bytes: files().map(|file| file.size).sum(),
            tables: tables
                .into_values()
                .map(|count| count.facts(operator.max_parallelism))
                .collect(),
            lists: lists.into_values().collect(),
            channel_rows: channels.map(|channel| channel.rows).sum(),
        })
    }

    /// Adds up what the index of one run says.
    async fn count_run(
        &self,
        file: &StateFile,
        operator: &OperatorState,
        tables: &mut BTreeMap<String, TableCount>,
    ) -> Result<(), StateError> {
        let owner = format!("keyed state of {:?}", operator.name);
        let run = self.open_file(file, &owner).await?;
        for (number, table) in run.tables().iter().enumerate() {
            let entry = &run.footer().tables[number];
            let count = tables.entry(table.name.clone()).or_default();
            if count.schema.name.is_empty() {
                count.schema = table_schema(table);
            }
            count.rows += entry.rows;
            count.deletes += entry.deletes;
            let blocks = run
                .footer()
                .blocks
                .iter()
                .filter(|block| block.table as usize == number);
            count.bytes += blocks.map(|block| u64::from(block.length)).sum::<u64>();
            count.groups.resize(operator.max_parallelism as usize, 0);
            for (group, rows) in entry.rows_by_group() {
                match count.groups.get_mut(group as usize) {
                    Some(counted) => *counted += rows,
                    None => return Err(damaged(run.name(), format!("it has rows of key group {group}"))),
                }
            }
        }
        Ok(())
    }
}

impl TableCount {
    fn facts(mut self, max_parallelism: u32) -> TableFacts {
        self.groups.resize(max_parallelism as usize, 0);
        self.groups.sort_unstable();
        let at = |index: usize| self.groups.get(index).copied().unwrap_or(0);
        let spread = KeyGroupSpread {
            used: self.groups.iter().filter(|rows| **rows > 0).count() as u32,
            min: at(0),
            median: at(self.groups.len() / 2),
            max: self.groups.last().copied().unwrap_or(0),
        };
        TableFacts {
            schema: self.schema,
            rows: self.rows,
            deletes: self.deletes,
            bytes: self.bytes,
            spread,
        }
    }
}

/// A file of a snapshot with its absolute path. `folder` as for [`SnapshotStore::inspect`].
pub fn resolve(file: &StateFile, folder: &str) -> Result<StateFile, StateError> {
    let mut file = file.clone();
    if file.path.is_empty() || file.path.contains("://") {
        return Ok(file);
    }
    let folder = FileSystems::canonical(folder).map_err(|error| storage_error(folder, &error))?;
    file.path = format!("{}/{}", folder.trim_end_matches('/'), file.path);
    Ok(file)
}

fn distribution_name(code: i32) -> &'static str {
    use crate::ListDistribution as Distribution;
    match distribution_of(code) {
        Some(Distribution::Split) => "split",
        Some(Distribution::Union) => "union",
        Some(Distribution::Broadcast) => "broadcast",
        None => "unknown",
    }
}

impl fmt::Display for SnapshotFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.savepoint { "Savepoint" } else { "Checkpoint" };
        writeln!(
            f,
            "{kind} {} of job {} ({})",
            self.checkpoint_id, self.job_name, self.job_id
        )?;
        writeln!(
            f,
            "  written by engine {}, in {} ms",
            self.engine_version,
            self.completed_ms.saturating_sub(self.triggered_ms)
        )?;
        for operator in &self.operators {
            write!(f, "{operator}")?;
        }
        Ok(())
    }
}

impl fmt::Display for OperatorFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uid = if self.uid.is_empty() { "no uid" } else { &self.uid };
        writeln!(
            f,
            "Operator {} ({}), uid: {uid}, id: {}",
            self.name, self.operator, self.operator_id
        )?;
        writeln!(
            f,
            "  parallelism {}, max parallelism {}, {} bytes in {} files{}",
            self.parallelism,
            self.max_parallelism,
            self.bytes,
            self.files,
            if self.finished { ", finished" } else { "" }
        )?;
        for table in &self.tables {
            write!(f, "{table}")?;
        }
        for list in &self.lists {
            writeln!(
                f,
                "  list {} ({}): {} items, {} bytes",
                list.name, list.distribution, list.items, list.bytes
            )?;
        }
        if self.channel_rows > 0 {
            writeln!(f, "  elements under way: {} rows", self.channel_rows)?;
        }
        Ok(())
    }
}

impl fmt::Display for TableFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let schema = &self.schema;
        writeln!(
            f,
            "  {} state {}: {} rows, {} deletes, {} bytes",
            schema.kind, schema.name, self.rows, self.deletes, self.bytes
        )?;
        let columns = [
            ("key", &schema.key_columns),
            ("by", &schema.sub_columns),
            ("value", &schema.value_columns),
        ];
        for (what, columns) in columns.into_iter().filter(|(_, columns)| !columns.is_empty()) {
            writeln!(f, "    {what}: {}", columns.join(", "))?;
        }
        if schema.ttl_ms > 0 {
            writeln!(f, "    time to live: {} ms", schema.ttl_ms)?;
        }
        let spread = self.spread;
        writeln!(
            f,
            "    rows a key group: min {}, median {}, max {}; {} key groups have any",
            spread.min, spread.median, spread.max, spread.used
        )
    }
}
