//! The subtasks' real files: what snapshots are written to and restored from.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use thalweg_proto::state::v1::{
    CheckpointOptions, OperatorRestore, OperatorSubtaskState, SnapshotKind, SubtaskRuns,
};
use thalweg_storage::FileSystems;
use thalweg_types::KeyGroupRange;
use thalweg_types::config::Configuration;

use super::harness::MAX_PARALLELISM;
use crate::inspect::resolve;
use crate::*;

pub(super) struct Files {
    folder: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    store: SnapshotStore,
    checkpoint_id: u64,
    /// The clock of time-to-live.
    pub(super) now: Arc<AtomicI64>,
}

/// One subtask's runs, and its state in the last checkpoint.
pub(super) struct Runs {
    chain: SubtaskChain,
    last: OperatorSubtaskState,
}

impl Runs {
    /// Rows of all files.
    pub(super) fn rows(&self) -> u64 {
        self.last.runs.iter().map(|run| run.rows).sum()
    }

    pub(super) fn new(key_groups: KeyGroupRange) -> Self {
        Self {
            chain: SubtaskChain::new(key_groups, MAX_PARALLELISM),
            last: OperatorSubtaskState::default(),
        }
    }
}

impl Files {
    pub(super) fn new() -> Self {
        let now = Arc::new(AtomicI64::new(0));
        let clock = Arc::clone(&now);
        Self {
            folder: tempfile::tempdir().unwrap(),
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap(),
            store: SnapshotStore::new(FileSystems::new(Configuration::default()))
                .with_clock(move || clock.load(Ordering::Relaxed)),
            checkpoint_id: 0,
            now,
        }
    }

    fn uri(&self) -> String {
        format!("file://{}/job", self.folder.path().display())
    }

    /// A checkpoint of one subtask; whether it was a full one.
    pub(super) fn checkpoint(
        &mut self,
        runs: &mut Runs,
        full: bool,
        take: impl FnOnce(SnapshotRequest) -> Vec<TableSnapshot>,
    ) -> bool {
        self.checkpoint_id += 1;
        let kind = match full {
            true => SnapshotKind::FullCheckpoint,
            false => SnapshotKind::Checkpoint,
        };
        let ticket = runs.chain.begin(self.checkpoint_id, kind);
        let full = ticket.full();
        let tables = take(SnapshotRequest {
            checkpoint_id: self.checkpoint_id,
            full,
        });
        let snapshot = OperatorSnapshot {
            tables,
            lists: Vec::new(),
        };
        let shared_folder = format!("{}/shared", self.uri());
        let options = CheckpointOptions {
            kind: kind.into(),
            exclusive_folder: format!("{}/chk-{}", self.uri(), self.checkpoint_id),
            shared_folder: shared_folder.clone(),
            inline_limit_bytes: 4 << 10,
            ..CheckpointOptions::default()
        };
        let written = self.runtime.block_on(async {
            let written = self
                .store
                .write_operator_snapshot(0, snapshot, &options, ticket)
                .await;
            self.store.merge_runs(&runs.chain, &shared_folder).await.unwrap();
            written.unwrap()
        });
        runs.last = written.state;
        for file in runs.last.runs.iter_mut().filter_map(|run| run.file.as_mut()) {
            *file = resolve(file, &self.uri()).unwrap();
        }
        full
    }

    /// What a subtask of these key groups gets of the old ones.
    pub(super) fn restored(&self, old: &[Runs], key_groups: KeyGroupRange) -> (RestoredState, Runs) {
        let keyed = old.iter().map(|runs| SubtaskRuns {
            runs: runs.last.runs.clone(),
        });
        let own = old.iter().find(|runs| runs.chain.key_groups() == key_groups);
        let restore = match own {
            Some(runs) => OperatorRestore {
                keyed: vec![SubtaskRuns {
                    runs: runs.last.runs.clone(),
                }],
                own_runs: true,
                ..OperatorRestore::default()
            },
            None => OperatorRestore {
                keyed: keyed.collect(),
                ..OperatorRestore::default()
            },
        };
        let reading = self
            .store
            .read_restore(self.checkpoint_id, &restore, key_groups, MAX_PARALLELISM);
        let (state, chain) = self.runtime.block_on(reading).unwrap();
        let runs = Runs {
            chain,
            last: own.map(|runs| runs.last.clone()).unwrap_or_default(),
        };
        (state, runs)
    }
}
