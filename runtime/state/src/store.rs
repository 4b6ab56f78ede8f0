//! Writes operators' snapshots to files and reads them back: the shell around the formats and the chain.
//!
//! ```text
//!   OperatorSnapshot --encode, on a thread for that--> blocks --bounded queue--> storage, or inline if it is tiny
//!                                                          \--small ones of several tasks--> one file (merging)
//!   OperatorRestore --open files, in parallel--> lists (read now), keyed rows (read as they are asked for)
//! ```
//!
//! Paths: in what is written they are relative to the job's checkpoint folder or the savepoint's own; in what is read
//! they are absolute.

mod export;
mod merging;
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
use crate::run::encode::{encode_batches, encode_list, encode_snapshot};
use crate::run::merge::{Deletes, merge_into_run};
use crate::schema::{distribution_code, table_schema};
use crate::{OperatorSnapshot, RestoredState, StateError, TableSnapshot};
pub use export::{ExportedState, StateKind};
pub use merging::{FileMerging, Turn};
use merging::{Merger, MergingTask, Waiting};
use upload::{Folder, Uploaded, upload};

/// Files that are opened at a time.
const OPEN_AT_A_TIME: usize = 8;

/// A merged run up to this size goes into `_metadata`: Flink's default of `state.storage.fs.memory-threshold`.
const MERGED_INLINE_BYTES: u64 = 20 << 10;

/// Merged runs wait for no checkpoint: they are gathered under no folder's name.
const MERGED_RUNS: &str = "";

/// Writes and reads state files. One a process; cheap to clone.
#[derive(Clone)]
pub struct SnapshotStore {
    files: FileSystems,
    /// Files being written at a time: each holds a snapshot.
    writers: Arc<Semaphore>,
    /// Merges at a time. Apart from the writers: a long merge delays no checkpoint.
    mergers: Arc<Semaphore>,
    /// The clock of time-to-live; without it nothing expires in files.
    clock: Option<Arc<dyn Fn() -> i64 + Send + Sync>>,
    /// None: each file is one of its own.
    file_merging: Option<Arc<Merger>>,
    /// The task that this clone is for.
    task: Option<Arc<MergingTask>>,
}

/// A snapshot of one operator subtask all of whose files are written, or handed over to be written with others.
pub struct SubmittedSnapshot {
    tables: Vec<TableSchema>,
    lists: Vec<(OperatorList, SubmittedFile)>,
    run: Option<(SubmittedFile, FileSummary)>,
    ticket: SnapshotTicket,
    folders: Folders,
}

/// A file that is written, or handed over to be written with others.
enum SubmittedFile {
    Written(StateFile),
    Waiting(Waiting),
}

/// A file of batches; see [`SnapshotStore::submit_batches`].
pub struct SubmittedBatches {
    file: SubmittedFile,
    folders: Folders,
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
            clock: None,
            file_merging: None,
            task: None,
        }
    }

    /// The store with a clock (milliseconds since the epoch): what is expired goes away when runs are merged.
    #[must_use]
    pub fn with_clock(mut self, now_ms: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        self.clock = Some(Arc::new(now_ms));
        self
    }

    /// The store with small files of checkpoints merged into larger ones.
    #[must_use]
    pub fn with_file_merging(mut self, settings: Option<FileMerging>) -> Self {
        self.file_merging = settings.map(|settings| Arc::new(Merger::new(settings)));
        self
    }

    /// The store for one task of the process, whose small files are merged with those of the others.
    #[must_use]
    pub fn for_task(&self) -> Self {
        let task = self.file_merging.as_ref().map(|merger| Arc::new(merger.task()));
        Self { task, ..self.clone() }
    }

    /// The task's part in a checkpoint. Dropped when all its files are submitted, or never will be: then others' files wait
    /// for them no longer.
    pub fn turn(&self, options: &CheckpointOptions) -> Turn {
        Turn::new(self.task.clone(), &options.exclusive_folder)
    }

    /// [`Self::submit_operator_snapshot`], and waits for it.
    pub async fn write_operator_snapshot(
        &self,
        subtask: u32,
        snapshot: OperatorSnapshot,
        options: &CheckpointOptions,
        ticket: SnapshotTicket,
    ) -> Result<WrittenSnapshot, StateError> {
        let submitted = self.submit_operator_snapshot(snapshot, options, ticket).await?;
        self.written(subtask, submitted).await
    }

    /// Encodes the snapshot on a thread for that and writes it where the options say; small files may wait for others.
    /// `ticket` = `chain.begin(checkpoint_id, options.kind())` of the time of the barrier. Dropping the future or what it gives
    /// gives the snapshot up: the next one is full.
    pub async fn submit_operator_snapshot(
        &self,
        snapshot: OperatorSnapshot,
        options: &CheckpointOptions,
        ticket: SnapshotTicket,
    ) -> Result<SubmittedSnapshot, StateError> {
        let folders = self.folders(options)?;
        let known = snapshot.tables.iter().map(|table| Arc::clone(&table.descriptor));
        let tables = ticket.chain().note_tables(known);
        let tables = tables.iter().map(|table| table_schema(table)).collect();
        let mut lists = Vec::with_capacity(snapshot.lists.len());
        for list in snapshot.lists {
            let (name, distribution) = (list.name.clone(), distribution_code(list.distribution));
            let (file, summary) = self
                .submit_file(&folders.exclusive, options, move |sink| encode_list(&list, sink))
                .await?;
            let list = OperatorList {
                name,
                distribution: distribution.into(),
                file: None,
                items: summary.rows,
            };
            lists.push((list, file));
        }
        let run = self
            .submit_run(snapshot.tables, ticket.chain(), options, &folders)
            .await?;
        Ok(SubmittedSnapshot {
            tables,
            lists,
            run,
            ticket,
            folders,
        })
    }

    /// Waits until all its files and all runs before it are there.
    pub async fn written(
        &self,
        subtask: u32,
        submitted: SubmittedSnapshot,
    ) -> Result<WrittenSnapshot, StateError> {
        let SubmittedSnapshot {
            tables,
            lists: submitted_lists,
            run,
            ticket,
            folders,
        } = submitted;
        let (chain, checkpoint_id) = (ticket.chain().clone(), ticket.checkpoint_id());
        let mut lists = Vec::with_capacity(submitted_lists.len());
        for (mut list, file) in submitted_lists {
            list.file = Some(folders.relative(file.written().await?));
            lists.push(list);
        }
        let list_bytes: u64 = lists
            .iter()
            .filter_map(|list| list.file.as_ref())
            .map(|file| file.size)
            .sum();
        let run = match run {
            Some((file, summary)) => Some(keyed_run(
                file.written().await?,
                summary,
                chain.key_groups(),
                checkpoint_id,
            )),
            None => None,
        };
        let written_bytes = list_bytes + run.as_ref().map_or(0, run_bytes);
        let path = own_path(run.as_ref());
        let runs = match ticket.stored(run).await {
            Ok(runs) => runs,
            Err(ChainBroken) => {
                // Nobody will ever refer to it.
                if let Some(path) = path
                    && let Err(error) = self.delete(&path).await
                {
                    tracing::warn!(%error, "a state file that is of no use was not deleted");
                }
                return Err(StateError::Superseded { checkpoint_id });
            }
        };
        if let Some(merger) = &self.file_merging {
            merger.note_chain(&chain, checkpoint_id);
        }
        let full_bytes = list_bytes + runs.iter().map(run_bytes).sum::<u64>();
        let state = OperatorSubtaskState {
            subtask,
            runs: runs.into_iter().map(|run| folders.relative_run(run)).collect(),
            lists,
            channels: Vec::new(),
        };
        Ok(WrittenSnapshot {
            state,
            tables,
            written_bytes,
            full_bytes,
        })
    }

    /// None if there are no rows in it.
    async fn submit_run(
        &self,
        tables: Vec<TableSnapshot>,
        chain: &SubtaskChain,
        options: &CheckpointOptions,
        folders: &Folders,
    ) -> Result<Option<(SubmittedFile, FileSummary)>, StateError> {
        let rows = |table: &TableSnapshot| table.changes.iter().map(RecordBatch::num_rows).sum::<usize>();
        let is_stored = |table: &TableSnapshot| !table.stored.is_empty();
        if !tables.iter().any(is_stored) && tables.iter().map(rows).sum::<usize>() == 0 {
            return Ok(None);
        }
        let scope = Scope::new(chain.key_groups(), chain.max_parallelism());
        let submitted = self.submit_file(&folders.shared, options, move |sink| {
            encode_snapshot(&tables, &scope, sink)
        });
        submitted.await.map(Some)
    }

    /// Merges runs of the chain if that is due; to be called behind each checkpoint (not savepoint), in the background,
    /// with its shared folder. Whether it did. The files of the merged runs stay: earlier checkpoints use them.
    pub async fn merge_runs(&self, chain: &SubtaskChain, shared_folder: &str) -> Result<bool, StateError> {
        let due = chain.chain().plan_merge();
        let rewrite = || self.file_merging.as_ref()?.plan_rewrite(chain);
        let Some(plan) = due.or_else(rewrite) else {
            return Ok(false);
        };
        let merge = Merge { chain, done: false };
        let run = self.merge(&plan, chain, shared_folder).await?;
        let path = own_path(run.as_ref());
        let used = merge.end(&plan, run);
        if let (false, Some(path)) = (used, path) {
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
        let scope = Scope {
            now_ms: self.clock.as_ref().map_or(i64::MIN, |now_ms| now_ms()),
            ..Scope::new(chain.key_groups(), chain.max_parallelism())
        };
        let deletes = if plan.with_base {
            Deletes::Drop
        } else {
            Deletes::Keep
        };
        let shared = Folder::open(&self.files, shared_folder)?;
        let permit = self.mergers.acquire().await;
        let merged = upload(&shared, MERGED_INLINE_BYTES, move |sink| {
            merge_into_run(&runs, &scope, deletes, sink)
        });
        let (uploaded, summary) = merged.await?;
        drop(permit);
        let newest = plan.runs.iter().map(|run| run.checkpoint_id).max().unwrap_or(0);
        if summary.rows == 0 && plan.with_base {
            // Without rows it is tiny: never a file of its own.
            return Ok(None);
        }
        let file = self.submit(uploaded, &shared, MERGED_RUNS).await?;
        let file = file.written().await?;
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
        let (tables, keys) = self.restore_tables(restore, key_groups, max_parallelism).await?;
        chain.note_tables(tables.iter().map(|table| Arc::new(table.descriptor.clone())));
        if let Some(merger) = &self.file_merging {
            merger.note_chain(&chain, checkpoint_id);
        }
        let lists = self.restore_lists(restore).await?;
        let state = RestoredState {
            checkpoint_id,
            tables,
            lists,
            keys,
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
        self.submit_batches(name, batches, options).await?.written().await
    }

    /// As [`Self::write_batches`], but a small file may wait for others.
    pub async fn submit_batches(
        &self,
        name: &str,
        batches: Vec<RecordBatch>,
        options: &CheckpointOptions,
    ) -> Result<SubmittedBatches, StateError> {
        let folders = self.folders(options)?;
        let name = name.to_owned();
        let (file, _) = self
            .submit_file(&folders.exclusive, options, move |sink| {
                encode_batches(&name, &batches, sink)
            })
            .await?;
        Ok(SubmittedBatches { file, folders })
    }

    /// Reads what [`Self::write_batches`] wrote, by its absolute path.
    pub async fn read_batches(&self, file: &StateFile) -> Result<Vec<RecordBatch>, StateError> {
        self.read_items(file, "elements under way", 0, u64::MAX).await
    }

    /// Encodes on a thread for that while the begin of the file is uploaded. The path will be absolute.
    async fn submit_file(
        &self,
        folder: &Folder,
        options: &CheckpointOptions,
        encode: impl FnOnce(&mut dyn Sink) -> Result<FileSummary, StateError> + Send + 'static,
    ) -> Result<(SubmittedFile, FileSummary), StateError> {
        let _permit = self.writers.acquire().await;
        let (uploaded, summary) = upload(folder, options.inline_limit_bytes, encode).await?;
        let file = match (uploaded, options.kind()) {
            // A savepoint is moved and deleted as a folder of plain files.
            (Uploaded::Small(content), SnapshotKind::Savepoint) => {
                SubmittedFile::Written(folder.write_file(content).await?)
            }
            (uploaded, _) => self.submit(uploaded, folder, &options.exclusive_folder).await?,
        };
        Ok((file, summary))
    }

    /// Hands a small file over to be written with others of its `round`, or writes it.
    async fn submit(
        &self,
        uploaded: Uploaded,
        folder: &Folder,
        round: &str,
    ) -> Result<SubmittedFile, StateError> {
        let content = match uploaded {
            Uploaded::Stored(file) => return Ok(SubmittedFile::Written(file)),
            Uploaded::Small(content) => content,
        };
        match self
            .file_merging
            .as_ref()
            .filter(|merger| merger.takes(content.len()))
        {
            Some(merger) => merger
                .submit(folder, round, content)
                .await
                .map(SubmittedFile::Waiting),
            None => folder.write_file(content).await.map(SubmittedFile::Written),
        }
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

impl SubmittedFile {
    async fn written(self) -> Result<StateFile, StateError> {
        match self {
            Self::Written(file) => Ok(file),
            Self::Waiting(waiting) => waiting.written().await,
        }
    }
}

impl SubmittedBatches {
    /// Waits until it is written.
    pub async fn written(self) -> Result<StateFile, StateError> {
        Ok(self.folders.relative(self.file.written().await?))
    }
}

impl Folders {
    /// A path below the base loses it; others stay absolute.
    fn relative(&self, mut file: StateFile) -> StateFile {
        let canonical = FileSystems::canonical(&file.path);
        let below = canonical
            .as_deref()
            .ok()
            .and_then(|path| path.strip_prefix(&self.base));
        if let Some(path) = below.and_then(|path| path.strip_prefix('/')) {
            file.path = path.to_owned();
        }
        file
    }

    fn relative_run(&self, mut run: KeyedRun) -> KeyedRun {
        run.file = run.file.map(|file| self.relative(file));
        run
    }
}

/// Of a run whose file is in storage and no other's.
fn own_path(run: Option<&KeyedRun>) -> Option<String> {
    let file = run?.file.as_ref()?;
    let own = !file.path.is_empty() && file.physical_size == 0;
    own.then(|| file.path.clone())
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
