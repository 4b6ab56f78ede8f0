//! Which snapshot begins next, and when. Flink's CheckpointRequestDecider.

use std::collections::{BTreeMap, BTreeSet};

use thalweg_proto::control::v1::{ExecutionAttempt, TriggerCheckpoint};
use thalweg_proto::state::v1::{CheckpointOptions, SnapshotKind, TaskSnapshot};
use thalweg_types::config::CheckpointingMode;

use super::pending::{Pending, Phase};
use super::{
    Action, Cause, CheckpointCoordinator, OPERATIONS_REMEMBERED, OPERATIONS_WAITING, SnapshotRequest,
    SnapshotTarget, checkpoint_folder, refused,
};
use crate::stats::{CheckpointRecord, CheckpointStatus, VertexRecord};

impl CheckpointCoordinator {
    /// When [`super::Event::Tick`] is needed at the latest; None = not before something else happens.
    pub fn next_deadline(&self) -> Option<u64> {
        let pending = self
            .pending
            .values()
            .filter(|pending| !self.may_be_known(pending));
        let pending = pending.map(|pending| pending.deadline_ms);
        let waiting = self.waiting.iter().map(|(_, until)| *until);
        let due = self
            .due_ms
            .filter(|_| self.may_begin())
            .map(|due| due.max(self.pause_until_ms));
        pending.chain(waiting).chain(due).min()
    }

    pub(super) fn request(&mut self, request: SnapshotRequest, actions: &mut Vec<Action>) {
        if self.operations.contains(&request.operation_id) {
            return;
        }
        self.operations.push_back(request.operation_id.clone());
        if self.operations.len() > OPERATIONS_REMEMBERED {
            self.operations.pop_front();
        }
        match self.refusal(&request) {
            Some(reason) => actions.push(refused(request.operation_id, reason)),
            None => {
                let until = self.now_ms.saturating_add(self.config.timeout_ms);
                self.waiting.push_back((request, until));
            }
        }
    }

    fn refusal(&self, request: &SnapshotRequest) -> Option<String> {
        if self.ended.is_some() {
            return Some("the job has ended".to_owned());
        }
        let under_way = self
            .pending
            .values()
            .filter_map(|pending| pending.request.as_ref());
        let mut requests = under_way.chain(self.waiting.iter().map(|(request, _)| request));
        let stopping = self
            .stopping
            .as_ref()
            .map(|(operation_id, ..)| operation_id.as_str());
        let stop = requests
            .find(|request| request.stops_job())
            .map(|request| request.operation_id.as_str());
        if let Some(operation_id) = stopping.or(stop) {
            return Some(format!(
                "the job is already being stopped with a savepoint (operation {operation_id})"
            ));
        }
        if self.waiting.len() >= OPERATIONS_WAITING {
            return Some(format!(
                "{OPERATIONS_WAITING} requests for snapshots are already waiting: try again later"
            ));
        }
        if self.tasks.any_finished() && !self.config.after_tasks_finish {
            let key = "execution.checkpointing.checkpoints-after-tasks-finish";
            return Some(format!("some tasks have finished, and {key} is false"));
        }
        match &request.target {
            SnapshotTarget::Checkpoint { .. } if self.folder.is_none() => {
                Some("the job has no folder for checkpoints: set execution.checkpointing.dir".to_owned())
            }
            SnapshotTarget::Checkpoint { .. } => None,
            SnapshotTarget::Savepoint { directory, .. } => self.refused_directory(directory.as_deref()),
        }
    }

    fn refused_directory(&self, directory: Option<&str>) -> Option<String> {
        let Some(directory) = directory.or(self.config.savepoint_directory.as_deref()) else {
            let key = "execution.checkpointing.savepoint-dir";
            return Some(format!(
                "the savepoint has no directory: give one with the request, or set {key}"
            ));
        };
        let directory = directory.trim_end_matches('/');
        let folder = self.folder.as_deref()?;
        let below = directory
            .strip_prefix(folder)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        below.then(|| {
            format!("{directory} is in the job's checkpoint folder, which is deleted with the job: choose another directory")
        })
    }

    /// Gives up what took too long. What another JobManager may know of as complete is waited for.
    pub(super) fn time_out(&mut self, actions: &mut Vec<Action>) {
        let now = self.now_ms;
        let is_late = |pending: &&Pending| pending.deadline_ms <= now && !self.may_be_known(pending);
        let late = self.pending.values().filter(is_late);
        for id in late.map(|pending| pending.id).collect::<Vec<_>>() {
            self.give_up(id, &Cause::TimedOut, actions);
        }
        while let Some(late) = self.waiting.iter().position(|(_, until)| *until <= now) {
            if let Some((request, _)) = self.waiting.remove(late) {
                let seconds = self.config.timeout_ms as f64 / 1000.0;
                let reason =
                    format!("the snapshot could not begin within {seconds} s: not all tasks were running");
                actions.push(refused(request.operation_id, reason));
            }
        }
    }

    /// The first periodic one is due some time after all tasks run: between the least pause and an interval.
    pub(super) fn schedule(&mut self) {
        if let (None, true, Some(interval)) =
            (self.due_ms, self.tasks.can_checkpoint(), self.periodic_interval())
        {
            let delay = self.initial_delay(interval);
            self.due_ms = Some(self.now_ms.saturating_add(delay));
        }
    }

    fn initial_delay(&mut self, interval: u64) -> u64 {
        let least = self.config.min_pause_ms;
        let Some(seed) = &mut self.delay_seed else {
            return interval.max(least);
        };
        let choices = interval.saturating_sub(least).saturating_add(1);
        least + next_random(seed) % choices
    }

    fn periodic_interval(&self) -> Option<u64> {
        let wanted = self.folder.is_some() && self.ended.is_none();
        self.config.interval_ms.filter(|_| wanted)
    }

    fn may_begin(&self) -> bool {
        self.ended.is_none()
            && self.stopping.is_none()
            && !self.pending.values().any(Pending::stops_job)
            && self.pending.len() < self.config.max_concurrent.max(1) as usize
            && self.tasks.can_checkpoint()
            && (self.config.after_tasks_finish || !self.tasks.any_finished())
    }

    /// Requests first, in their order; they don't wait for the pause.
    pub(super) fn begin_due(&mut self, actions: &mut Vec<Action>) {
        while self.may_begin() {
            if let Some((request, _)) = self.waiting.pop_front() {
                self.begin(Some(request), actions);
                continue;
            }
            match (self.due_ms, self.periodic_interval()) {
                (Some(due), Some(interval)) if due.max(self.pause_until_ms) <= self.now_ms => {
                    self.begin(None, actions);
                    self.due_ms = Some(self.now_ms.saturating_add(interval));
                }
                _ => return,
            }
        }
    }

    fn begin(&mut self, request: Option<SnapshotRequest>, actions: &mut Vec<Action>) {
        let id = self.next_id;
        self.next_id += 1;
        let own_folder = self.folder.clone().unwrap_or_default();
        let (kind, folder, base) = match request.as_ref().map(|request| &request.target) {
            Some(SnapshotTarget::Savepoint {
                directory, random, ..
            }) => {
                let directory = directory.as_ref().or(self.config.savepoint_directory.as_ref());
                let directory = directory.map_or("", |directory| directory.trim_end_matches('/'));
                let job: String = self.tasks.graph().job_id.chars().take(6).collect();
                let folder = format!("{directory}/savepoint-{job}-{:012x}", random & 0xffff_ffff_ffff);
                (SnapshotKind::Savepoint, folder.clone(), folder)
            }
            target => {
                let asked = matches!(target, Some(SnapshotTarget::Checkpoint { full: true }));
                // What the job started from isn't its own: nothing may refer to it once a checkpoint completed.
                let full = asked || !self.config.incremental || self.foreign.is_some();
                let kind = if full {
                    SnapshotKind::FullCheckpoint
                } else {
                    SnapshotKind::Checkpoint
                };
                (kind, checkpoint_folder(&own_folder, id), own_folder.clone())
            }
        };
        let options = self.options(kind, &folder, &own_folder, request.as_ref());
        let participants: BTreeMap<usize, u32> = self.tasks.all_running().collect();
        let finished: BTreeMap<usize, TaskSnapshot> = self
            .tasks
            .all_finished()
            .map(|(task, last)| (task, last.clone()))
            .collect();
        let to_trigger = self.tasks.to_trigger();
        let attempt = |task: &usize| {
            self.tasks
                .execution(*task, participants.get(task).copied().unwrap_or(0))
        };
        let executions: Vec<ExecutionAttempt> = to_trigger.iter().map(attempt).collect();
        self.stats.begun(self.record(id, kind, &options, &participants));
        let pending = Pending {
            id,
            kind,
            folder,
            base,
            triggered_ms: self.now_ms,
            deadline_ms: self.now_ms.saturating_add(self.config.timeout_ms),
            options: options.clone(),
            request,
            phase: Phase::Acknowledgements,
            triggered: to_trigger.into_iter().collect(),
            waiting: participants.keys().copied().collect(),
            participants,
            finished: finished.keys().copied().collect::<BTreeSet<_>>(),
            states: finished,
            metadata: None,
        };
        self.pending.insert(id, pending);
        actions.push(Action::Trigger(TriggerCheckpoint {
            executions,
            checkpoint_id: id,
            timestamp_ms: self.now_ms,
            options: Some(options),
        }));
    }

    /// Gives the barrier to those that lack it and whose inputs have all finished since: it comes from nobody else.
    pub(super) fn trigger_behind_finished(&mut self, id: u64, actions: &mut Vec<Action>) {
        let open = self.tasks.to_trigger();
        let Some(pending) = self.pending.get_mut(&id) else {
            return;
        };
        let mut executions = Vec::new();
        for task in open {
            if pending.waiting.contains(&task) && pending.triggered.insert(task) {
                executions.push(self.tasks.execution(task, pending.participants[&task]));
            }
        }
        if !executions.is_empty() {
            actions.push(Action::Trigger(TriggerCheckpoint {
                executions,
                checkpoint_id: id,
                timestamp_ms: pending.triggered_ms,
                options: Some(pending.options.clone()),
            }));
        }
    }

    fn options(
        &self,
        kind: SnapshotKind,
        folder: &str,
        own_folder: &str,
        request: Option<&SnapshotRequest>,
    ) -> CheckpointOptions {
        let savepoint = kind == SnapshotKind::Savepoint;
        let unaligned = self.config.unaligned && !savepoint;
        let (terminate, drain) = match request.map(|request| &request.target) {
            Some(SnapshotTarget::Savepoint { stop, drain, .. }) => (*stop, *stop && *drain),
            _ => (false, false),
        };
        CheckpointOptions {
            kind: kind.into(),
            exclusive_folder: folder.to_owned(),
            shared_folder: if savepoint {
                folder.to_owned()
            } else {
                format!("{own_folder}/shared")
            },
            unaligned: unaligned && self.config.aligned_timeout_ms == 0,
            alignment_timeout_ms: if unaligned {
                self.config.aligned_timeout_ms
            } else {
                0
            },
            at_least_once: self.config.mode == CheckpointingMode::AtLeastOnce,
            terminate,
            drain,
            inline_limit_bytes: self.config.inline_limit_bytes,
        }
    }

    fn record(
        &self,
        id: u64,
        kind: SnapshotKind,
        options: &CheckpointOptions,
        participants: &BTreeMap<usize, u32>,
    ) -> CheckpointRecord {
        let savepoint = kind == SnapshotKind::Savepoint;
        let mut running = vec![0; self.tasks.graph().vertices.len()];
        for task in participants.keys() {
            running[self.tasks.position(*task).0] += 1;
        }
        let vertices = self.tasks.graph().vertices.iter().zip(running);
        CheckpointRecord {
            id,
            status: CheckpointStatus::InProgress,
            checkpoint_type: match (savepoint, options.terminate, options.unaligned) {
                (true, true, _) => "SYNC_SAVEPOINT",
                (true, false, _) => "SAVEPOINT",
                (false, _, true) => "UNALIGNED_CHECKPOINT",
                (false, _, false) => "CHECKPOINT",
            },
            savepoint,
            triggered_ms: self.now_ms,
            ended_ms: 0,
            vertices: vertices
                .map(|(vertex, subtasks)| VertexRecord {
                    vertex_id: vertex.id.clone(),
                    subtasks,
                    acknowledged: Vec::new(),
                })
                .collect(),
            external_path: String::new(),
            discarded: false,
            metadata_bytes: 0,
            failure: String::new(),
        }
    }
}

/// SplitMix64.
fn next_random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut random = *seed;
    random = (random ^ (random >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    random = (random ^ (random >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    random ^ (random >> 31)
}
