//! A folder for checkpoints, an operator with one table, and shorthands.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int8Array, Int64Array, RecordBatch, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use thalweg_proto::state::v1::{
    CheckpointOptions, ListRestore, OperatorRestore, OperatorState, OperatorSubtaskState, SnapshotKind,
    SnapshotMetadata, SubtaskRuns,
};
use thalweg_storage::FileSystems;
use thalweg_types::KeyGroupRange;
use thalweg_types::config::Configuration;
use thalweg_types::key_group::key_group;
use thalweg_types::key_hash::hash_rows;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::inspect::{SnapshotFacts, resolve};
use crate::{
    ChangeKind, ListDistribution, ListSnapshot, OperatorSnapshot, RestoredList, RestoredState, SnapshotStore,
    SnapshotTicket, StateError, StoredRows, SubtaskChain, TableDescriptor, TableKind, TableSnapshot,
    WrittenSnapshot,
};

pub(super) const MAX_PARALLELISM: u32 = 128;

pub(super) struct Fixture {
    folder: tempfile::TempDir,
    /// Of the folder for checkpoints.
    uri: String,
    pub(super) runtime: Runtime,
    pub(super) store: SnapshotStore,
    pub(super) files: FileSystems,
    inline_limit: u64,
}

pub(super) fn whole() -> KeyGroupRange {
    KeyGroupRange {
        start: 0,
        end: MAX_PARALLELISM - 1,
    }
}

pub(super) fn group_of(id: i64) -> u32 {
    let mut hashes = Vec::new();
    hash_rows(&[Arc::new(Int64Array::from(vec![id])) as ArrayRef], &mut hashes).unwrap();
    key_group(hashes[0], MAX_PARALLELISM)
}

/// Upserts and deletes of a table "count": id -> n.
pub(super) fn changes(rows: impl IntoIterator<Item = (i64, Option<i64>)>) -> OperatorSnapshot {
    let rows: Vec<(i64, Option<i64>)> = rows.into_iter().collect();
    let values: ArrayRef = Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.1)));
    let deleted = |row: &(i64, Option<i64>)| row.1.is_none();
    table_changes(
        &rows.iter().map(|row| (row.0, deleted(row))).collect::<Vec<_>>(),
        &[Field::new("n", DataType::Int64, false)],
        vec![values],
    )
}

/// Ids, whether they are deleted, and their values in the columns of a table "count".
pub(super) fn table_changes(
    ids: &[(i64, bool)],
    fields: &[Field],
    values: Vec<ArrayRef>,
) -> OperatorSnapshot {
    let descriptor = Arc::new(TableDescriptor {
        name: "count".to_owned(),
        kind: TableKind::Value,
        key: vec![Arc::new(Field::new("id", DataType::Int64, false))],
        sub_key: vec![],
        value: fields.iter().cloned().map(Arc::new).collect(),
        ttl: None,
    });
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(ids.iter().map(|row| row.0)));
    let mut hashes = Vec::new();
    hash_rows(std::slice::from_ref(&keys), &mut hashes).unwrap();
    let change = |row: &(i64, bool)| match row.1 {
        false => ChangeKind::Upsert as i8,
        true => ChangeKind::Delete as i8,
    };
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(UInt32Array::from_iter_values(
            hashes.iter().map(|hash| key_group(*hash, MAX_PARALLELISM)),
        )),
        Arc::new(UInt64Array::from(hashes)),
        Arc::new(Int8Array::from_iter_values(ids.iter().map(change))),
        keys,
    ];
    columns.extend(values);
    let batch = RecordBatch::try_new(descriptor.change_schema(), columns).unwrap();
    OperatorSnapshot {
        tables: vec![TableSnapshot {
            descriptor,
            changes: vec![batch],
            stored: StoredRows::default(),
        }],
        lists: vec![],
    }
}

pub(super) fn list(name: &str, distribution: ListDistribution, items: Range<i64>) -> OperatorSnapshot {
    let schema = Arc::new(Schema::new(vec![Field::new("item", DataType::Int64, false)]));
    let items: ArrayRef = Arc::new(Int64Array::from_iter_values(items));
    OperatorSnapshot {
        tables: vec![],
        lists: vec![ListSnapshot {
            name: name.to_owned(),
            distribution,
            items: RecordBatch::try_new(schema, vec![items]).unwrap(),
        }],
    }
}

pub(super) fn list_items(list: &RestoredList) -> Vec<i64> {
    let values = list
        .items
        .iter()
        .map(|batch| batch.column(0).as_primitive::<Int64Type>());
    values.flat_map(|values| values.values().to_vec()).collect()
}

pub(super) fn rows(pairs: impl IntoIterator<Item = (i64, i64)>) -> RecordBatch {
    let (left, right): (Vec<i64>, Vec<i64>) = pairs.into_iter().unzip();
    let columns: [(&str, ArrayRef, bool); 2] = [
        ("left", Arc::new(Int64Array::from(left)), true),
        ("right", Arc::new(Int64Array::from(right)), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

/// With the paths that the JobManager gives to tasks.
pub(super) fn absolute(mut state: OperatorSubtaskState, folder: &str) -> OperatorSubtaskState {
    let runs = state.runs.iter_mut().filter_map(|run| run.file.as_mut());
    let lists = state.lists.iter_mut().filter_map(|list| list.file.as_mut());
    for file in runs.chain(lists) {
        *file = resolve(file, folder).unwrap();
    }
    state
}

impl Fixture {
    /// On the local disk.
    pub(super) fn new(inline_limit: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let uri = format!("file://{}", folder.path().display());
        Self {
            inline_limit,
            ..Self::on(FileSystems::new(Configuration::default()), uri, folder)
        }
    }

    /// On another file system.
    pub(super) fn on(files: FileSystems, uri: String, folder: tempfile::TempDir) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        Self {
            folder,
            uri,
            runtime,
            store: SnapshotStore::new(files.clone()),
            files,
            inline_limit: 0,
        }
    }

    pub(super) fn job_folder_path(&self) -> PathBuf {
        self.folder.path().join("job")
    }

    pub(super) fn job_folder(&self) -> String {
        format!("{}/job", self.uri)
    }

    pub(super) fn savepoint_folder(&self) -> String {
        format!("{}/savepoint-1", self.uri)
    }

    pub(super) fn options(&self, checkpoint_id: u64, kind: SnapshotKind) -> CheckpointOptions {
        CheckpointOptions {
            kind: kind.into(),
            exclusive_folder: match kind {
                SnapshotKind::Savepoint => self.savepoint_folder(),
                _ => format!("{}/chk-{checkpoint_id}", self.job_folder()),
            },
            shared_folder: format!("{}/shared", self.job_folder()),
            inline_limit_bytes: self.inline_limit,
            ..CheckpointOptions::default()
        }
    }

    /// Paths below the job's folder.
    pub(super) fn files(&self) -> Vec<String> {
        let folder = self.files.open_folder(&self.job_folder()).unwrap();
        let files = self.runtime.block_on(folder.list("")).unwrap();
        files.into_iter().map(|file| file.path).collect()
    }

    pub(super) fn write(
        &self,
        ticket: SnapshotTicket,
        snapshot: OperatorSnapshot,
        kind: SnapshotKind,
    ) -> Result<WrittenSnapshot, StateError> {
        let options = self.options(ticket.checkpoint_id(), kind);
        let written = self.store.write_operator_snapshot(0, snapshot, &options, ticket);
        self.runtime.block_on(written)
    }

    pub(super) fn spawn_write(
        &self,
        ticket: SnapshotTicket,
        snapshot: OperatorSnapshot,
    ) -> JoinHandle<Result<WrittenSnapshot, StateError>> {
        let options = self.options(ticket.checkpoint_id(), SnapshotKind::Checkpoint);
        let store = self.store.clone();
        self.runtime
            .spawn(async move { store.write_operator_snapshot(0, snapshot, &options, ticket).await })
    }

    pub(super) fn wait<T>(&self, handle: JoinHandle<T>) -> T {
        self.runtime.block_on(handle).unwrap()
    }

    pub(super) fn checkpoint(
        &self,
        chain: &SubtaskChain,
        checkpoint_id: u64,
        snapshot: OperatorSnapshot,
    ) -> WrittenSnapshot {
        let ticket = chain.begin(checkpoint_id, SnapshotKind::Checkpoint);
        self.write(ticket, snapshot, SnapshotKind::Checkpoint).unwrap()
    }

    pub(super) fn merge(&self, chain: &SubtaskChain) -> bool {
        let shared = self.options(0, SnapshotKind::Checkpoint).shared_folder;
        self.runtime
            .block_on(self.store.merge_runs(chain, &shared))
            .unwrap()
    }

    /// Of subtasks whose paths are relative to the job's folder.
    pub(super) fn operator_restore(&self, states: &[OperatorSubtaskState]) -> OperatorRestore {
        let states: Vec<_> = states
            .iter()
            .map(|state| absolute(state.clone(), &self.job_folder()))
            .collect();
        restore_of(&states)
    }

    pub(super) fn read(
        &self,
        restore: &OperatorRestore,
        key_groups: KeyGroupRange,
    ) -> Result<(RestoredState, SubtaskChain), StateError> {
        self.runtime
            .block_on(self.store.read_restore(1, restore, key_groups, MAX_PARALLELISM))
    }

    /// The rows of the table "count".
    pub(super) fn read_rows(
        &self,
        restore: &OperatorRestore,
        key_groups: KeyGroupRange,
    ) -> Result<BTreeMap<i64, i64>, StateError> {
        let (mut state, _) = self.read(restore, key_groups)?;
        let mut found = BTreeMap::new();
        let Some(table) = state.take_table("count") else {
            return Ok(found);
        };
        for batch in table.rows {
            let batch = batch?;
            let column = |index: usize| batch.column(index).as_primitive::<Int64Type>().values().to_vec();
            for (id, value) in column(1).into_iter().zip(column(2)) {
                assert_eq!(found.insert(id, value), None, "id {id} came twice");
            }
        }
        Ok(found)
    }

    pub(super) fn restore(
        &self,
        states: &[OperatorSubtaskState],
        range: KeyGroupRange,
    ) -> BTreeMap<i64, i64> {
        self.read_rows(&self.operator_restore(states), range).unwrap()
    }

    pub(super) fn restore_absolute(
        &self,
        states: &[OperatorSubtaskState],
        range: KeyGroupRange,
    ) -> BTreeMap<i64, i64> {
        self.read_rows(&restore_of(states), range).unwrap()
    }

    pub(super) fn batches(&self, batches: Vec<RecordBatch>) -> Vec<RecordBatch> {
        let options = self.options(1, SnapshotKind::Checkpoint);
        let written = self.store.write_batches("channel", batches, &options);
        let file = self.runtime.block_on(written).unwrap();
        let file = resolve(&file, &self.job_folder()).unwrap();
        self.runtime.block_on(self.store.read_batches(&file)).unwrap()
    }

    pub(super) fn inspect(&self, written: WrittenSnapshot) -> SnapshotFacts {
        let metadata = SnapshotMetadata {
            operators: vec![OperatorState {
                uid: "counter".to_owned(),
                max_parallelism: MAX_PARALLELISM,
                subtasks: vec![written.state],
                tables: written.tables,
                ..OperatorState::default()
            }],
            ..SnapshotMetadata::default()
        };
        let folder = self.job_folder();
        let facts = self.store.inspect(&metadata, &folder);
        self.runtime.block_on(facts).unwrap()
    }
}

fn restore_of(states: &[OperatorSubtaskState]) -> OperatorRestore {
    let keyed = states.iter().map(|state| SubtaskRuns {
        runs: state.runs.clone(),
    });
    let lists = states
        .iter()
        .flat_map(|state| &state.lists)
        .map(|list| ListRestore {
            list: Some(list.clone()),
            first: 0,
            count: list.items,
        });
    OperatorRestore {
        keyed: keyed.collect(),
        lists: lists.collect(),
        ..OperatorRestore::default()
    }
}
