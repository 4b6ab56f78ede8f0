//! Writes operators' snapshots to files and reads them back: the shell around the formats and the chain.
//!
//! ```text
//!   OperatorSnapshot --encode, on a thread for that--> blocks --bounded queue--> storage, or inline if it is small
//!   OperatorRestore --open files, in parallel--> lists (read now), keyed rows (read as they are asked for)
//! ```
//!
//! Paths: in what is written they are relative to the job's checkpoint folder or the savepoint's own; in what is read
//! they are absolute.

mod restore;
mod upload;

use std::sync::Arc;

use arrow::array::RecordBatch;
use thalweg_proto::state::v1::{
    CheckpointOptions, KeyedRun, OperatorList, OperatorRestore, OperatorSubtaskState, SnapshotKind,
    StateFile, TableSchema,
};
use thalweg_storage::FileSystems;
use thalweg_types::KeyGroupRange;
use tokio::sync::Semaphore;

use crate::chain::{ChainBroken, MergePlan, SnapshotTicket, SubtaskChain};
use crate::file::builder::{FileSummary, Sink};
use crate::file::reader::StateFileReader;
use crate::file::source::{Source, storage_error};
use crate::run::Scope;
use crate::run::encode::{encode_batches, encode_list, encode_run};
use crate::run::merge::{Deletes, merge_into_run};
use crate::schema::{distribution_code, table_schema};
use crate::{OperatorSnapshot, RestoredState, StateError, TableSnapshot};
use upload::{Folder, upload};

/// Files that are opened at a time.
const OPEN_AT_A_TIME: usize = 8;

/// A merged run up to this size goes into `_metadata`: Flink's default of `state.storage.fs.memory-threshold`.
const MERGED_INLINE_BYTES: u64 = 20 << 10;

/// Writes and reads state files. One a process; cheap to clone.
#[derive(Clone)]
pub struct SnapshotStore {
    files: FileSystems,
    /// Files being written at a time: each holds a snapshot.
    writers: Arc<Semaphore>,
    /// Merges at a time. Apart from the writers: a long merge delays no checkpoint.
    mergers: Arc<Semaphore>,
}

/// A snapshot of one operator subtask that is in storage.
#[derive(Debug, Clone)]
pub struct WrittenSnapshot {
    /// For the acknowledgement.
    pub state: OperatorSubtaskState,
    /// All keyed tables of the operator.
    pub tables: Vec<TableSchema>,
    /// Bytes of the files that were written for it.
    pub written_bytes: u64,
    /// Bytes of all files that it refers to.
    pub full_bytes: u64,
}

/// Where a snapshot's files go.
struct Folders {
    /// What only this snapshot uses.
    exclusive: Folder,
    /// What later ones may use too.
    shared: Folder,
    /// The URI that paths are relative to.
    base: String,
}

impl SnapshotStore {
    /// A store whose URIs these open.
    pub fn new(files: FileSystems) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            files,
            // More than processors: a part of them waits for storage.
            writers: Arc::new(Semaphore::new(2 * processors.max(2))),
            mergers: Arc::new(Semaphore::new(processors.div_ceil(2))),
        }
    }

    /// Encodes the snapshot on a thread for that, writes it where the options say and waits until all runs before it
    /// are there too. `ticket` = `chain.begin(checkpoint_id, options.kind())` of the time of the barrier. Dropping the
    /// future gives the snapshot up: the next one is full.
    pub async fn write_operator_snapshot(
        &self,
        subtask: u32,
        snapshot: OperatorSnapshot,
        options: &CheckpointOptions,
        ticket: SnapshotTicket,
    ) -> Result<WrittenSnapshot, StateError> {
        let folders = self.folders(options)?;
        let checkpoint_id = ticket.checkpoint_id();
        let known = snapshot.tables.iter().map(|table| Arc::clone(&table.descriptor));
        let tables = ticket.chain().note_tables(known);
        let mut written_bytes = 0;
        let mut lists = Vec::with_capacity(snapshot.lists.len());
        for list in snapshot.lists {
            let (name, distribution) = (list.name.clone(), distribution_code(list.distribution));
            let (file, summary) = self
                .write_file(&folders.exclusive, options.inline_limit_bytes, move |sink| {
                    encode_list(&list, sink)
                })
                .await?;
            written_bytes += file.size;
            lists.push(OperatorList {
                name,
                distribution: distribution.into(),
                file: Some(file),
                items: summary.rows,
            });
        }
        let run = self
            .write_run(snapshot.tables, ticket.chain(), checkpoint_id, options, &folders)
            .await?;
        written_bytes += run.as_ref().map_or(0, run_bytes);
        let path = run
            .as_ref()
            .and_then(|run| run.file.as_ref())
            .map(|file| file.path.clone());
        let runs = match ticket.stored(run).await {
            Ok(runs) => runs,
            Err(ChainBroken) => {
                // Nobody will ever refer to it.
                if let Some(path) = path.filter(|path| !path.is_empty())
                    && let Err(error) = self.delete(&path).await
                {
                    tracing::warn!(%error, "a state file that is of no use was not deleted");
                }
                return Err(StateError::Superseded { checkpoint_id });
            }
        };
        let files = lists.iter_mut().filter_map(|list| list.file.as_mut());
        for file in files {
            folders.make_relative(file);
        }
        let list_bytes: u64 = lists
            .iter()
            .filter_map(|list| list.file.as_ref())
            .map(|file| file.size)
            .sum();
        let full_bytes = list_bytes + runs.iter().map(run_bytes).sum::<u64>();
        let state = OperatorSubtaskState {
            subtask,
            runs: runs.into_iter().map(|run| folders.relative_run(run)).collect(),
            lists,
            channels: Vec::new(),
        };
        Ok(WrittenSnapshot {
            state,
            tables: tables.iter().map(|table| table_schema(table)).collect(),
            written_bytes,
            full_bytes,
        })
    }

    /// None if there are no rows in it.
    async fn write_run(
        &self,
        tables: Vec<TableSnapshot>,
        chain: &SubtaskChain,
        checkpoint_id: u64,
        options: &CheckpointOptions,
        folders: &Folders,
    ) -> Result<Option<KeyedRun>, StateError> {
        let rows = |table: &TableSnapshot| table.changes.iter().map(RecordBatch::num_rows).sum::<usize>();
        if tables.iter().map(rows).sum::<usize>() == 0 {
            return Ok(None);
        }
        let scope = Scope::new(chain.key_groups(), chain.max_parallelism());
        let (file, summary) = self
            .write_file(&folders.shared, options.inline_limit_bytes, move |sink| {
                encode_run(&tables, &scope, sink)
            })
            .await?;
        Ok(Some(keyed_run(file, summary, chain.key_groups(), checkpoint_id)))
    }

    /// Merges runs of the chain if that is due; to be called behind each checkpoint (not savepoint), in the background,
    /// with its shared folder. Whether it did. The files of the merged runs stay: earlier checkpoints use them.
    pub async fn merge_runs(&self, chain: &SubtaskChain, shared_folder: &str) -> Result<bool, StateError> {
        let Some(plan) = chain.chain().plan_merge() else {
            return Ok(false);
        };
        let merge = Merge { chain, done: false };
        let run = self.merge(&plan, chain, shared_folder).await?;
        let path = run
            .as_ref()
            .and_then(|run| run.file.as_ref())
            .map(|file| file.path.clone());
        let used = merge.end(&plan, run);
        if let (false, Some(path)) = (used, path)
            && !path.is_empty()
        {
            self.delete(&path).await?;
        }
        Ok(used)
    }

    async fn merge(
        &self,
        plan: &MergePlan,
        chain: &SubtaskChain,
        shared_folder: &str,
    ) -> Result<Option<KeyedRun>, StateError> {
        let runs = self.open_runs(&plan.runs).await?;
        let scope = Scope::new(chain.key_groups(), chain.max_parallelism());
        let deletes = if plan.with_base {
            Deletes::Drop
        } else {
            Deletes::Keep
        };
        let shared = Folder::open(&self.files, shared_folder)?;
        let _permit = self.mergers.acquire().await;
        let merged = upload(&shared, MERGED_INLINE_BYTES, move |sink| {
            merge_into_run(&runs, &scope, deletes, sink)
        });
        let (file, summary) = merged.await?;
        let newest = plan.runs.iter().map(|run| run.checkpoint_id).max().unwrap_or(0);
        if summary.rows == 0 && plan.with_base {
            if !file.path.is_empty() {
                self.delete(&file.path).await?;
            }
            return Ok(None);
        }
        Ok(Some(keyed_run(file, summary, chain.key_groups(), newest)))
    }

    /// Reads what an operator subtask starts with, and the chain that its checkpoints go on with. Lists are read now,
    /// keyed rows as they are asked for: that blocks, and must not be on a thread of the runtime.
    pub async fn read_restore(
        &self,
        checkpoint_id: u64,
        restore: &OperatorRestore,
        key_groups: KeyGroupRange,
        max_parallelism: u32,
    ) -> Result<(RestoredState, SubtaskChain), StateError> {
        let chain = SubtaskChain::restored(restore, key_groups, max_parallelism);
        let tables = self.restore_tables(restore, key_groups, max_parallelism).await?;
        chain.note_tables(tables.iter().map(|table| Arc::new(table.descriptor.clone())));
        let lists = self.restore_lists(restore).await?;
        let state = RestoredState {
            checkpoint_id,
            tables,
            lists,
            columns_changed: false,
        };
        Ok((state, chain))
    }

    /// Writes batches of one schema as one file that only this snapshot uses, e.g. channel state; inline if it is small.
    pub async fn write_batches(
        &self,
        name: &str,
        batches: Vec<RecordBatch>,
        options: &CheckpointOptions,
    ) -> Result<StateFile, StateError> {
        let folders = self.folders(options)?;
        let name = name.to_owned();
        let (mut file, _) = self
            .write_file(&folders.exclusive, options.inline_limit_bytes, move |sink| {
                encode_batches(&name, &batches, sink)
            })
            .await?;
        folders.make_relative(&mut file);
        Ok(file)
    }

    /// Reads what [`Self::write_batches`] wrote, by its absolute path.
    pub async fn read_batches(&self, file: &StateFile) -> Result<Vec<RecordBatch>, StateError> {
        self.read_items(file, "elements under way", 0, u64::MAX).await
    }

    /// Encodes on a thread for that while the begin of the file is uploaded. The path is absolute.
    async fn write_file(
        &self,
        folder: &Folder,
        inline_limit: u64,
        encode: impl FnOnce(&mut dyn Sink) -> Result<FileSummary, StateError> + Send + 'static,
    ) -> Result<(StateFile, FileSummary), StateError> {
        let _permit = self.writers.acquire().await;
        upload(folder, inline_limit, encode).await
    }

    async fn delete(&self, uri: &str) -> Result<(), StateError> {
        let deleted = async {
            let (folder, name) = self.files.open_uri(uri)?;
            folder.delete(&[name]).await
        };
        deleted.await.map_err(|error| storage_error(uri, &error))
    }

    pub(crate) async fn open_file(
        &self,
        file: &StateFile,
        owner: &str,
    ) -> Result<StateFileReader, StateError> {
        StateFileReader::open(Source::of(&self.files, file, owner)?).await
    }

    fn folders(&self, options: &CheckpointOptions) -> Result<Folders, StateError> {
        let exclusive = Folder::open(&self.files, &options.exclusive_folder)?;
        if options.kind() == SnapshotKind::Savepoint {
            return Ok(Folders {
                base: exclusive.uri(),
                shared: exclusive.clone(),
                exclusive,
            });
        }
        let shared = Folder::open(&self.files, &options.shared_folder)?;
        let uri = shared.uri();
        let base = uri
            .rsplit_once('/')
            .map_or(uri.as_str(), |(base, _)| base)
            .to_owned();
        Ok(Folders {
            exclusive,
            shared,
            base,
        })
    }
}

impl Folders {
    /// A path below the base loses it; others stay absolute.
    fn make_relative(&self, file: &mut StateFile) {
        let canonical = FileSystems::canonical(&file.path);
        let below = canonical
            .as_deref()
            .ok()
            .and_then(|path| path.strip_prefix(&self.base));
        if let Some(path) = below.and_then(|path| path.strip_prefix('/')) {
            file.path = path.to_owned();
        }
    }

    fn relative_run(&self, mut run: KeyedRun) -> KeyedRun {
        if let Some(file) = &mut run.file {
            self.make_relative(file);
        }
        run
    }
}

fn keyed_run(
    file: StateFile,
    summary: FileSummary,
    key_groups: KeyGroupRange,
    checkpoint_id: u64,
) -> KeyedRun {
    KeyedRun {
        file: Some(file),
        first_key_group: key_groups.start,
        last_key_group: key_groups.end,
        checkpoint_id,
        rows: summary.rows,
    }
}

fn run_bytes(run: &KeyedRun) -> u64 {
    run.file.as_ref().map_or(0, |file| file.size)
}

/// A merge under way; given up, the chain may plan the next.
struct Merge<'a> {
    chain: &'a SubtaskChain,
    done: bool,
}

impl Merge<'_> {
    fn end(mut self, plan: &MergePlan, run: Option<KeyedRun>) -> bool {
        self.done = true;
        self.chain.chain().merged(plan, run)
    }
}

impl Drop for Merge<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.chain.chain().merge_failed();
        }
    }
}

#[cfg(test)]
mod tests;
