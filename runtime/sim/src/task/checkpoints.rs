//! A task's part of a checkpoint: prepare, write, acknowledge, commit.

use thalweg_proto::control::v1::{AcknowledgeCheckpoint, CheckpointFailureReason, DeclineCheckpoint};
use thalweg_proto::state::v1::{
    CheckpointMetrics, CheckpointOptions, KeyedRun, OperatorSubtaskState, SnapshotKind, StateFile,
    TaskOperatorSnapshot, TaskSnapshot,
};

use super::trade::{Trade, Transaction, commit, commit_file, lines_of, list};
use super::{Element, LONGEST_CHAIN, Said, Task, Upload};
use crate::shared::{Shared, Variant};
use crate::steps::Step;
use crate::store::{Content, Request};

impl Task {
    pub(super) fn snapshot(&mut self, shared: &mut Shared, id: u64, options: &CheckpointOptions) {
        self.last_barrier = id;
        self.aborted.retain(|other| *other > id);
        for outlet in &mut self.outputs {
            for queue in &mut outlet.queues {
                queue.push_back(Element::Barrier(id, options.clone()));
            }
        }
        let commits_now = shared.variant == Variant::CommitAtBarrier;
        let lists = match &mut self.trade {
            Trade::Source(splits) => {
                let lines: Vec<String> = splits
                    .iter()
                    .map(|(source, next)| format!("{source}:{next}"))
                    .collect();
                vec![list("Splits", &lines)]
            }
            Trade::Operator { .. } => return self.upload(shared, id, options),
            Trade::Broker { open, prepared, .. } => {
                if let Some((transaction, epoch)) = open.take() {
                    shared.step(
                        Step::Prepared,
                        format_args!("{} {transaction}/{epoch} for {id}", self.key),
                    );
                    prepared.push(Transaction {
                        id: transaction,
                        epoch,
                        prepared_for: id,
                    });
                }
                vec![list("Committables", &lines_of(prepared))]
            }
            Trade::Files { rows, prepared, .. } => {
                if !rows.is_empty() {
                    let key = &self.key;
                    let name = format!("{}-{}-{:016x}", key.job, key.subtask, shared.random.next());
                    shared.files.write(&name, std::mem::take(rows));
                    prepared.push(Transaction {
                        id: name,
                        epoch: 0,
                        prepared_for: id,
                    });
                }
                vec![list("Committables", &lines_of(prepared))]
            }
        };
        if commits_now {
            self.commit(shared, id);
        }
        let state = OperatorSubtaskState {
            subtask: self.key.subtask,
            lists,
            ..OperatorSubtaskState::default()
        };
        self.acknowledge(shared, id, state);
    }

    pub(super) fn upload(&mut self, shared: &mut Shared, id: u64, options: &CheckpointOptions) {
        let path = format!("{}/{:016x}", options.shared_folder, shared.random.next());
        let savepoint = options.kind() == SnapshotKind::Savepoint;
        let Trade::Operator { next, chain, full } = &mut self.trade else {
            return;
        };
        if *full
            || savepoint
            || options.kind() == SnapshotKind::FullCheckpoint
            || chain.len() >= LONGEST_CHAIN
        {
            chain.clear();
            *full = false;
        }
        let base = options
            .shared_folder
            .rsplit_once('/')
            .map_or("", |(base, _)| base);
        let relative = path
            .strip_prefix(base)
            .map_or(path.as_str(), |path| path.trim_start_matches('/'));
        let run = KeyedRun {
            file: Some(StateFile {
                path: relative.to_owned(),
                size: 1,
                ..StateFile::default()
            }),
            first_key_group: self.range.start,
            last_key_group: self.range.end,
            checkpoint_id: id,
            rows: 1,
        };
        chain.push(run.clone());
        let request = Request::Put(path, Content::Run(next.clone()));
        if self.uploads.is_empty() {
            self.said.push(Said::Ask(request.clone()));
        }
        self.uploads.push_back(Upload {
            id,
            run,
            request,
            tries: 1,
            savepoint,
        });
    }

    pub(super) fn acknowledge_runs(&mut self, shared: &mut Shared, upload: Upload) {
        let Trade::Operator { chain, full, .. } = &mut self.trade else {
            return;
        };
        // Up to the run that was written: what is behind it belongs to later ones.
        let place = chain.iter().position(|run| *run == upload.run);
        let runs: Vec<KeyedRun> = match place {
            Some(place) => chain[..=place].to_vec(),
            None => vec![upload.run],
        };
        if upload.savepoint {
            *full = true;
        }
        let state = OperatorSubtaskState {
            subtask: self.key.subtask,
            runs,
            ..OperatorSubtaskState::default()
        };
        self.acknowledge(shared, upload.id, state);
    }

    pub(super) fn acknowledge(&mut self, shared: &mut Shared, id: u64, state: OperatorSubtaskState) {
        if shared.faulty && shared.random.per_mille(5) {
            if let Trade::Operator { full, .. } = &mut self.trade {
                *full = true;
            }
            return self.decline(shared, id, CheckpointFailureReason::AsyncException);
        }
        shared.step(Step::Acknowledged, format_args!("{} checkpoint {id}", self.key));
        self.checkpoint = self.checkpoint.max(id);
        let operator = TaskOperatorSnapshot {
            operator_id: self.operator_id.clone(),
            state: Some(state),
            tables: Vec::new(),
        };
        self.said.push(Said::Acknowledge(AcknowledgeCheckpoint {
            execution: Some(self.key.execution()),
            checkpoint_id: id,
            snapshot: Some(TaskSnapshot {
                operators: vec![operator],
            }),
            metrics: Some(CheckpointMetrics::default()),
        }));
    }

    pub(super) fn decline(&mut self, shared: &mut Shared, id: u64, reason: CheckpointFailureReason) {
        shared.step(Step::Declined, format_args!("{} checkpoint {id}", self.key));
        self.said.push(Said::Decline(DeclineCheckpoint {
            execution: Some(self.key.execution()),
            checkpoint_id: id,
            failure: None,
            reason: reason.into(),
        }));
    }

    /// A checkpoint is complete: what was prepared for it and before is committed.
    pub(super) fn commit(&mut self, shared: &mut Shared, id: u64) {
        let key = self.key.clone();
        let mut failed = None;
        match &mut self.trade {
            Trade::Broker { prepared, ids, .. } => {
                let due = prepared.extract_if(.., |prepared| prepared.prepared_for <= id);
                for transaction in due {
                    match commit(shared, &key, &transaction, Step::Committed) {
                        Ok(_) => ids.put_back(&transaction.id, transaction.epoch),
                        Err(why) => failed = Some(why),
                    }
                }
            }
            Trade::Files { prepared, .. } => {
                for file in prepared.extract_if(.., |prepared| prepared.prepared_for <= id) {
                    commit_file(shared, &key, &file);
                }
            }
            Trade::Source(_) | Trade::Operator { .. } => {}
        }
        if let Some(why) = failed {
            self.fail(shared, why);
        }
    }
}
