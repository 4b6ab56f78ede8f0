//! A task's part of a checkpoint: prepare, write, acknowledge, commit.

use thalweg_proto::control::v1::{AcknowledgeCheckpoint, CheckpointFailureReason, DeclineCheckpoint};
use thalweg_proto::state::v1::{
    CheckpointMetrics, CheckpointOptions, KeyedRun, OperatorSubtaskState, SnapshotKind, StateFile,
    TaskOperatorSnapshot, TaskSnapshot,
};

use super::trade::{Trade, Transaction, commit, commit_file};
use super::{Element, LONGEST_CHAIN, Said, Task, Upload};
use crate::shared::{Shared, Variant, line_of};
use crate::steps::Step;
use crate::store::{Content, Request};

impl Task {
    pub(super) fn snapshot(&mut self, shared: &mut Shared, id: u64, options: &CheckpointOptions) {
        self.last_barrier = id;
        if options.terminate {
            shared.step(Step::TaskPaused, format_args!("{} checkpoint {id}", self.key));
            self.stopping = Some(id);
        }
        self.aborted.retain(|other| *other > id);
        for outlet in &mut self.outputs {
            for queue in &mut outlet.queues {
                queue.push_back(Element::Barrier(id, options.clone()));
            }
        }
        let commits_now = shared.variant == Variant::CommitAtBarrier;
        if let Trade::Operator { .. } = &self.trade {
            return self.upload(shared, id, options);
        }
        self.prepare(shared, id);
        let lists = self.trade.lists();
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

    /// What was written so far belongs to this checkpoint.
    pub(super) fn prepare(&mut self, shared: &mut Shared, prepared_for: u64) {
        match &mut self.trade {
            Trade::Broker { open, prepared, .. } => {
                if let Some((id, epoch)) = open.take() {
                    shared.step(
                        Step::Prepared,
                        format_args!("{} {id}/{epoch} for {prepared_for}", self.key),
                    );
                    prepared.push(Transaction {
                        id,
                        epoch,
                        prepared_for,
                    });
                }
            }
            Trade::Files { rows, prepared, .. } if !rows.is_empty() => {
                let (line, subtask) = (line_of(&self.key.job), self.key.subtask);
                let id = format!("{line}-{subtask}-{:016x}", shared.random.next());
                shared.files.write(&id, std::mem::take(rows));
                prepared.push(Transaction {
                    id,
                    epoch: 0,
                    prepared_for,
                });
            }
            Trade::Source(_) | Trade::Operator { .. } | Trade::Files { .. } => {}
        }
    }

    pub(super) fn of_operator(&self, state: OperatorSubtaskState) -> TaskSnapshot {
        TaskSnapshot {
            operators: vec![TaskOperatorSnapshot {
                operator_id: self.operator_id.clone(),
                state: Some(state),
                tables: Vec::new(),
            }],
        }
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
        }
        // What is in a savepoint's folder is nobody else's.
        *full = savepoint;
        let base = match options.shared_folder.rsplit_once('/') {
            Some((base, _)) if !savepoint => base,
            _ => &options.shared_folder,
        };
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
        });
    }

    pub(super) fn acknowledge_runs(&mut self, shared: &mut Shared, upload: Upload) {
        let Trade::Operator { chain, .. } = &mut self.trade else {
            return;
        };
        // Up to the run that was written: what is behind it belongs to later ones.
        let place = chain.iter().position(|run| *run == upload.run);
        let runs: Vec<KeyedRun> = match place {
            Some(place) => chain[..=place].to_vec(),
            None => vec![upload.run],
        };
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
        self.said.push(Said::Acknowledge(AcknowledgeCheckpoint {
            execution: Some(self.key.execution()),
            checkpoint_id: id,
            snapshot: Some(self.of_operator(state)),
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
