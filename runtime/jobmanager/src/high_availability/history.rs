//! What a job's log says, folded: from what a new leader goes on, and what a base holds.
//!
//! Pure: records in, state out. Invariants: the newest of `retained` and `foreign` has not been deleted; what is older may have been,
//! but what the coordinator that wrote the log would go on from if newer ones were given up is among it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use thalweg_proto::ha::v1::record::Content;
use thalweg_proto::ha::v1::{
    AttemptsBegun, Base, CheckpointCompleted, OperationDone, Record, RegionAttempt, Result as JobResult,
    Submitted, operation_done::Kind,
};
use thalweg_types::VertexId;
use thalweg_types::config::{Configuration, options};

use crate::job_master::LoggedEnd;

/// Ended operations that are remembered.
const OPERATIONS: usize = 64;
/// Checkpoints beyond those that the job keeps: newer ones may be given up after they were logged.
const SPARE: usize = 64;

/// One job's log.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct JobHistory {
    pub(crate) submitted: Submitted,
    /// The job's own, oldest first.
    pub(crate) retained: VecDeque<CheckpointCompleted>,
    /// What the job started from, or the savepoint that stops it, as long as it is the newest.
    pub(crate) foreign: Option<CheckpointCompleted>,
    /// That was ever used, as far as the log knows.
    pub(crate) highest_checkpoint_id: u64,
    pub(crate) operations: VecDeque<OperationDone>,
    pub(crate) cancel_requested: bool,
    pub(crate) result: Option<JobResult>,
    /// The newest attempts that were begun, of regions by one of their tasks.
    attempts: BTreeMap<(String, u32), u32>,
    keep: usize,
}

impl JobHistory {
    /// Of a job that nothing has happened to.
    pub(crate) fn new(submitted: Submitted) -> Self {
        let configuration = Configuration::from_map(submitted.configuration.clone());
        let keep = configuration.get(&options::CHECKPOINTING_NUM_RETAINED);
        let mut retained: VecDeque<_> = submitted.restored.iter().cloned().collect();
        let foreign = if submitted.newest_is_foreign {
            retained.pop_back()
        } else {
            None
        };
        let ids = submitted.restored.iter().map(|restored| restored.checkpoint_id);
        Self {
            highest_checkpoint_id: ids.max().unwrap_or(0).max(submitted.highest_checkpoint_id),
            retained,
            foreign,
            operations: VecDeque::new(),
            cancel_requested: false,
            result: None,
            attempts: BTreeMap::new(),
            keep: keep.map_or(1, |keep| (keep as usize).max(1)),
            submitted,
        }
    }

    /// Of the records from a log's begin on; nothing if they begin otherwise.
    pub(crate) fn fold(records: Vec<Record>) -> Option<Self> {
        let mut contents = records.into_iter().filter_map(|record| record.content);
        let mut history = match contents.next()? {
            Content::Submitted(submitted) => Self::new(submitted),
            Content::Base(base) => Self::of_base(base)?,
            _ => return None,
        };
        contents.for_each(|content| history.apply(content));
        Some(history)
    }

    fn of_base(base: Base) -> Option<Self> {
        let mut history = Self::new(base.submitted?);
        history.retained = base.retained.into();
        history.foreign = if base.newest_is_foreign {
            history.retained.pop_back()
        } else {
            None
        };
        history.highest_checkpoint_id = history.highest_checkpoint_id.max(base.highest_checkpoint_id);
        history.operations = base.operations.into();
        history.cancel_requested = base.cancel_requested;
        history.result = base.result;
        history.attempts_begun(base.attempts);
        Some(history)
    }

    /// As one record.
    pub(crate) fn to_base(&self) -> Base {
        Base {
            submitted: Some(self.submitted.clone()),
            retained: self.retained.iter().chain(&self.foreign).cloned().collect(),
            highest_checkpoint_id: self.highest_checkpoint_id,
            operations: self.operations.iter().cloned().collect(),
            cancel_requested: self.cancel_requested,
            result: self.result.clone(),
            newest_is_foreign: self.foreign.is_some(),
            attempts: self.attempts.iter().map(region_attempt).collect(),
        }
    }

    /// What a record changes.
    pub(crate) fn apply(&mut self, content: Content) {
        match content {
            Content::CheckpointCompleted(completed) => self.completed(completed),
            Content::CheckpointDiscarded(discarded) => {
                let kept =
                    |completed: &CheckpointCompleted| completed.checkpoint_id != discarded.checkpoint_id;
                self.retained.retain(kept);
                self.foreign = self.foreign.take().filter(kept);
            }
            Content::OperationDone(done) => self.operation_done(done),
            Content::AttemptsBegun(begun) => self.attempts_begun(begun.regions),
            Content::CancelRequested(_) => self.cancel_requested = true,
            Content::Result(result) => self.result = Some(result),
            Content::Leader(_)
            | Content::Retired(_)
            | Content::LeadershipTaken(_)
            | Content::Submitted(_)
            | Content::Base(_) => {}
        }
    }

    fn attempts_begun(&mut self, regions: Vec<RegionAttempt>) {
        for region in regions {
            let known = self
                .attempts
                .entry((region.vertex_id, region.subtask))
                .or_default();
            *known = region.attempt.max(*known);
        }
    }

    /// The same, as the graph names vertices.
    pub(crate) fn begun(&self) -> BTreeMap<(VertexId, u32), u32> {
        let regions = self.attempts.iter();
        let named = regions.filter_map(|((vertex, subtask), attempt)| {
            let vertex = vertex.parse().ok()?;
            Some(((vertex, *subtask), *attempt))
        });
        named.collect()
    }

    /// The newest word on it counts. A stop succeeds when the job has finished behind its savepoint: who is told so may go on from there
    /// with another job.
    fn operation_done(&mut self, done: OperationDone) {
        if done.kind() == Kind::Stop && done.failure.is_none() {
            self.result.get_or_insert_with(|| JobResult {
                state: "FINISHED".to_owned(),
                ended_ms: done.ended_ms,
                ..JobResult::default()
            });
        }
        self.operations
            .retain(|known| known.operation_id != done.operation_id);
        if self.operations.len() == OPERATIONS {
            self.operations.pop_front();
        }
        self.operations.push_back(done);
    }

    /// The stop whose savepoint is complete, if the job has not ended with it yet.
    pub(crate) fn stop_under_way(&self) -> Option<&OperationDone> {
        let (newest, _) = self.newest()?;
        let stop = newest.operation.as_ref().filter(|_| newest.stops_job)?;
        let has_ended = |known: &OperationDone| known.operation_id == stop.operation_id;
        (!self.operations.iter().any(has_ended)).then_some(stop)
    }

    fn completed(&mut self, completed: CheckpointCompleted) {
        if let Some(done) = completed.operation.clone().filter(|_| !completed.stops_job) {
            self.operation_done(done);
        }
        self.highest_checkpoint_id = self.highest_checkpoint_id.max(completed.checkpoint_id);
        if completed.stops_job {
            self.foreign = Some(completed);
        } else if !completed.is_savepoint {
            let id = completed.checkpoint_id;
            // Of two that were complete at the same time the older one may be logged last.
            let place = self.retained.partition_point(|own| own.checkpoint_id < id);
            self.retained.insert(place, completed);
            while self.retained.len() > self.keep + SPARE {
                self.retained.pop_front();
            }
        }
    }

    /// What the job goes on from, and whether it is its own.
    pub(crate) fn newest(&self) -> Option<(&CheckpointCompleted, bool)> {
        let own = self.retained.back().map(|own| (own, true));
        let foreign = self.foreign.as_ref().map(|foreign| (foreign, false));
        own.into_iter()
            .chain(foreign)
            .max_by_key(|(completed, _)| completed.checkpoint_id)
    }

    /// The savepoint that was to stop the job, if it was told that this failed: the job goes on from there, whatever its tasks know.
    pub(crate) fn stop_given_up(&self) -> Option<u64> {
        let (newest, _) = self.newest()?;
        let stop = newest.operation.as_ref().filter(|_| newest.stops_job)?;
        let has_failed =
            |known: &OperationDone| known.operation_id == stop.operation_id && known.failure.is_some();
        let is_given_up = self.operations.iter().any(has_failed);
        is_given_up.then_some(newest.checkpoint_id)
    }

    /// How it ended, if it has; what it left is deleted by that.
    pub(crate) fn logged_end(&self) -> Option<LoggedEnd> {
        self.result.as_ref()?;
        let newest = self.newest().map(|(newest, _)| newest);
        let stopped_with = newest.filter(|newest| newest.stops_job);
        Some(LoggedEnd {
            stopped_with: stopped_with.map(|savepoint| savepoint.checkpoint_id),
        })
    }

    /// Its own before that, oldest first, as many as the job keeps. Some may have been deleted.
    pub(crate) fn earlier(&self) -> impl Iterator<Item = &CheckpointCompleted> {
        let newest = self.newest().map(|(newest, _)| newest.checkpoint_id);
        let is_earlier = move |own: &&CheckpointCompleted| Some(own.checkpoint_id) != newest;
        let count = self.retained.iter().filter(is_earlier).count();
        let earlier = self.retained.iter().filter(is_earlier);
        earlier.skip(count.saturating_sub(self.keep))
    }

    /// Those whose folders are gone need not be told of any more.
    pub(crate) fn forget(&mut self, gone: &BTreeSet<u64>) {
        self.retained.retain(|own| !gone.contains(&own.checkpoint_id));
    }

    /// The checkpoint whose folder this is, if the log counts on it.
    pub(crate) fn counts_on(&self, folder: &str) -> Option<u64> {
        let mut all = self.retained.iter().chain(&self.foreign);
        let found =
            all.find(|completed| completed.folder.trim_end_matches('/') == folder.trim_end_matches('/'));
        found.map(|completed| completed.checkpoint_id)
    }
}

fn region_attempt(((vertex_id, subtask), attempt): (&(String, u32), &u32)) -> RegionAttempt {
    RegionAttempt {
        vertex_id: vertex_id.clone(),
        subtask: *subtask,
        attempt: *attempt,
    }
}

/// Attempts that are about to be deployed, as a record.
pub(crate) fn attempts_record(regions: &BTreeMap<(VertexId, u32), u32>) -> Content {
    let region = |((vertex, subtask), attempt): (&(VertexId, u32), &u32)| {
        region_attempt((&(vertex.to_string(), *subtask), attempt))
    };
    Content::AttemptsBegun(AttemptsBegun {
        regions: regions.iter().map(region).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_proto::ha::v1::{CancelRequested, CheckpointDiscarded};

    fn completed(id: u64) -> CheckpointCompleted {
        CheckpointCompleted {
            checkpoint_id: id,
            folder: format!("file:///c/chk-{id}"),
            ..CheckpointCompleted::default()
        }
    }

    fn savepoint(id: u64, stops_job: bool) -> CheckpointCompleted {
        CheckpointCompleted {
            folder: format!("file:///s/{id}"),
            is_savepoint: true,
            stops_job,
            ..completed(id)
        }
    }

    fn history(contents: impl IntoIterator<Item = CheckpointCompleted>) -> JobHistory {
        let mut history = JobHistory::new(Submitted {
            restored: vec![completed(3), savepoint(5, false)],
            newest_is_foreign: true,
            ..Submitted::default()
        });
        for completed in contents {
            history.apply(Content::CheckpointCompleted(completed));
        }
        history
    }

    fn newest(history: &JobHistory) -> Option<(u64, bool)> {
        history.newest().map(|(newest, own)| (newest.checkpoint_id, own))
    }

    #[test]
    fn a_job_goes_on_from_what_it_started_from_until_a_checkpoint_of_its_own_completes() {
        assert_eq!(newest(&history([])), Some((5, false)));
        let later = history([savepoint(6, false), completed(7), completed(8)]);
        assert_eq!(
            (newest(&later), later.highest_checkpoint_id),
            (Some((8, true)), 8)
        );
        let earlier: Vec<u64> = later.earlier().map(|own| own.checkpoint_id).collect();
        assert_eq!(earlier, [7], "one is kept beside it");
        assert_eq!(later.counts_on("file:///c/chk-8/"), Some(8));
    }

    #[test]
    fn a_savepoint_that_stops_the_job_is_gone_on_from_and_a_plain_one_is_not() {
        assert_eq!(
            newest(&history([completed(7), savepoint(8, false)])),
            Some((7, true))
        );
        let stopped = history([completed(7), savepoint(8, true)]);
        assert_eq!(newest(&stopped), Some((8, false)));
        let gone_on = history([completed(7), savepoint(8, true), completed(9)]);
        assert_eq!(newest(&gone_on), Some((9, true)));
    }

    #[test]
    fn an_operation_is_done_with_its_snapshot_and_a_stop_with_the_jobs_end() {
        let done = |id: &str| OperationDone {
            operation_id: id.to_owned(),
            ..OperationDone::default()
        };
        let with = |operation: &str, completed: CheckpointCompleted| CheckpointCompleted {
            operation: Some(done(operation)),
            ..completed
        };
        let mut history = history([
            completed(7),
            with("save", savepoint(8, false)),
            with("stop", savepoint(9, true)),
        ]);
        let known = |history: &JobHistory| -> Vec<String> {
            let operations = history.operations.iter();
            operations.map(|done| done.operation_id.clone()).collect()
        };
        assert_eq!(known(&history), ["save"]);
        assert_eq!(history.stop_under_way(), Some(&done("stop")));
        for id in ["save", "stop"] {
            history.apply(Content::OperationDone(done(id)));
        }
        assert_eq!(
            (known(&history), history.stop_under_way()),
            (vec!["save".to_owned(), "stop".to_owned()], None)
        );
    }

    #[test]
    fn a_stop_that_succeeded_is_the_jobs_end_though_no_result_follows() {
        let stop = |failure: Option<&str>| OperationDone {
            operation_id: "stop".to_owned(),
            kind: Kind::Stop.into(),
            ended_ms: 7,
            failure: failure.map(|message| thalweg_proto::control::v1::Failure {
                message: message.to_owned(),
                ..Default::default()
            }),
            ..OperationDone::default()
        };
        let complete = CheckpointCompleted {
            operation: Some(stop(None)),
            ..savepoint(8, true)
        };
        let mut failed = history([completed(7), complete]);
        assert_eq!(failed.stop_given_up(), None);
        failed.apply(Content::OperationDone(stop(Some("a task failed"))));
        assert_eq!((failed.result.clone(), failed.logged_end()), (None, None));
        assert_eq!(failed.stop_given_up(), Some(8));
        let mut stopped = history([completed(7), savepoint(8, true)]);
        stopped.apply(Content::OperationDone(stop(None)));
        let result = stopped.result.clone().unwrap();
        assert_eq!((result.state.as_str(), result.ended_ms), ("FINISHED", 7));
        let end = LoggedEnd {
            stopped_with: Some(8),
        };
        assert_eq!(stopped.logged_end(), Some(end));
    }

    #[test]
    fn a_checkpoint_that_was_given_up_after_all_is_not_gone_on_from() {
        let mut history = history([completed(7)]);
        history.keep = 2;
        history.apply(Content::CheckpointCompleted(completed(8)));
        history.apply(Content::CheckpointDiscarded(CheckpointDiscarded {
            checkpoint_id: 8,
        }));
        assert_eq!(
            (newest(&history), history.highest_checkpoint_id),
            (Some((7, true)), 8)
        );
    }

    #[test]
    fn of_checkpoints_that_are_given_up_after_all_the_one_before_them_is_left() {
        let mut history = history([completed(7), completed(9), completed(8)]);
        assert_eq!(newest(&history), Some((9, true)), "whichever was logged last");
        for checkpoint_id in [8, 9] {
            history.apply(Content::CheckpointDiscarded(CheckpointDiscarded {
                checkpoint_id,
            }));
        }
        assert_eq!(newest(&history), Some((7, true)));
    }

    #[test]
    fn a_base_says_what_the_records_before_it_said() {
        for checkpoints in [vec![], vec![completed(7)], vec![completed(7), savepoint(8, true)]] {
            let mut history = history(checkpoints);
            history.apply(Content::CancelRequested(CancelRequested {}));
            history.apply(Content::OperationDone(OperationDone {
                operation_id: "op".to_owned(),
                ..OperationDone::default()
            }));
            for attempt in [2, 1] {
                history.apply(Content::AttemptsBegun(AttemptsBegun {
                    regions: vec![RegionAttempt {
                        vertex_id: VertexId::from_u128(7).to_string(),
                        subtask: 3,
                        attempt,
                    }],
                }));
            }
            assert_eq!(
                history.begun(),
                BTreeMap::from([((VertexId::from_u128(7), 3), 2)])
            );
            history.apply(Content::Result(JobResult {
                state: "CANCELED".to_owned(),
                ..JobResult::default()
            }));
            let record = Record {
                content: Some(Content::Base(history.to_base())),
                ..Record::default()
            };
            assert_eq!(JobHistory::fold(vec![record]), Some(history));
        }
    }
}
