//! What people see of a job's checkpoints: Flink's `/jobs/:id/checkpoints`, as numbers.

use std::collections::VecDeque;

use thalweg_proto::state::v1::CheckpointMetrics;

/// How a snapshot stands. Flink's CheckpointStatsStatus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointStatus {
    /// `IN_PROGRESS`
    InProgress,
    /// `COMPLETED`
    Completed,
    /// `FAILED`
    Failed,
}

impl CheckpointStatus {
    /// As Flink writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "IN_PROGRESS",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
        }
    }
}

/// One subtask's acknowledgement.
#[derive(Debug, Clone, PartialEq)]
pub struct SubtaskRecord {
    /// Its number.
    pub subtask: u32,
    /// When it came.
    pub acknowledged_ms: u64,
    /// What the task measured; zeros if it had finished before.
    pub metrics: CheckpointMetrics,
}

/// One vertex in a snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct VertexRecord {
    /// Its id.
    pub vertex_id: String,
    /// How many subtasks have to acknowledge.
    pub subtasks: u32,
    /// Those that did, in the order in which they did.
    pub acknowledged: Vec<SubtaskRecord>,
}

/// One snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckpointRecord {
    /// Its number.
    pub id: u64,
    /// How it stands.
    pub status: CheckpointStatus,
    /// `CHECKPOINT`, `UNALIGNED_CHECKPOINT`, `SAVEPOINT` or `SYNC_SAVEPOINT` (one that stops the job), as Flink writes it.
    pub checkpoint_type: &'static str,
    /// Whether it is a savepoint.
    pub savepoint: bool,
    /// Begin.
    pub triggered_ms: u64,
    /// When it completed or failed; 0 = under way.
    pub ended_ms: u64,
    /// By vertex, in topological order.
    pub vertices: Vec<VertexRecord>,
    /// The folder with its `_metadata`, once it completed.
    pub external_path: String,
    /// Whether its files were deleted.
    pub discarded: bool,
    /// Size of `_metadata`.
    pub metadata_bytes: u64,
    /// Why it failed.
    pub failure: String,
}

impl CheckpointRecord {
    fn sum(&self, of: impl Fn(&CheckpointMetrics) -> u64) -> u64 {
        let subtasks = self.vertices.iter().flat_map(|vertex| &vertex.acknowledged);
        subtasks.map(|subtask| of(&subtask.metrics)).sum()
    }

    /// Flink's `checkpointed_size`: what was written for it.
    pub fn checkpointed_bytes(&self) -> u64 {
        self.sum(|metrics| metrics.checkpointed_bytes) + self.metadata_bytes
    }

    /// Flink's `state_size`: all that it refers to.
    pub fn state_bytes(&self) -> u64 {
        self.sum(|metrics| metrics.full_bytes) + self.metadata_bytes
    }

    /// Flink's `processed_data`: rows' bytes during alignment.
    pub fn processed_bytes(&self) -> u64 {
        self.sum(|metrics| metrics.processed_bytes)
    }

    /// Flink's `persisted_data`: rows' bytes under way.
    pub fn persisted_bytes(&self) -> u64 {
        self.sum(|metrics| metrics.persisted_bytes)
    }

    /// Flink's `latest_ack_timestamp`; 0 = none yet.
    pub fn latest_acknowledged_ms(&self) -> u64 {
        let subtasks = self.vertices.iter().flat_map(|vertex| &vertex.acknowledged);
        subtasks.map(|subtask| subtask.acknowledged_ms).max().unwrap_or(0)
    }

    /// Flink's `end_to_end_duration`: until its end, or until now.
    pub fn duration_ms(&self, now_ms: u64) -> u64 {
        let end = if self.ended_ms == 0 { now_ms } else { self.ended_ms };
        end.saturating_sub(self.triggered_ms)
    }

    /// Flink's `num_subtasks`.
    pub fn subtasks(&self) -> u32 {
        self.vertices.iter().map(|vertex| vertex.subtasks).sum()
    }

    /// Flink's `num_acknowledged_subtasks`.
    pub fn acknowledged_subtasks(&self) -> u32 {
        self.vertices
            .iter()
            .map(|vertex| vertex.acknowledged.len() as u32)
            .sum()
    }
}

/// Flink's `counts`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckpointCounts {
    /// Restores.
    pub restored: u64,
    /// Begun since the job was submitted.
    pub total: u64,
    /// Under way.
    pub in_progress: u64,
    /// Completed.
    pub completed: u64,
    /// Failed.
    pub failed: u64,
}

/// Flink's `latest.restored`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreRecord {
    /// Of the snapshot.
    pub id: u64,
    /// When.
    pub restored_ms: u64,
    /// Whether it was a savepoint.
    pub savepoint: bool,
    /// Its folder.
    pub external_path: String,
}

/// Flink's `min`, `max`, `avg` over the completed ones that are remembered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// The least.
    pub min: u64,
    /// The most.
    pub max: u64,
    /// The mean, rounded down.
    pub avg: u64,
}

/// The statistics of one job. At most `history` snapshots are remembered, those under way and the newest of each kind besides.
#[derive(Debug, Clone)]
pub struct CheckpointStats {
    history_size: usize,
    records: VecDeque<CheckpointRecord>,
    counts: CheckpointCounts,
    latest_completed: Option<CheckpointRecord>,
    latest_savepoint: Option<CheckpointRecord>,
    latest_failed: Option<CheckpointRecord>,
    latest_restored: Option<RestoreRecord>,
}

impl CheckpointStats {
    /// None yet; `web.checkpoints.history` are remembered.
    pub fn new(history_size: usize) -> Self {
        Self {
            history_size,
            records: VecDeque::new(),
            counts: CheckpointCounts::default(),
            latest_completed: None,
            latest_savepoint: None,
            latest_failed: None,
            latest_restored: None,
        }
    }

    /// Numbers of all since the job was submitted.
    pub fn counts(&self) -> CheckpointCounts {
        self.counts
    }

    /// Newest first.
    pub fn history(&self) -> impl Iterator<Item = &CheckpointRecord> {
        self.records.iter().rev()
    }

    /// One of those remembered.
    pub fn record(&self, id: u64) -> Option<&CheckpointRecord> {
        let latest = [
            &self.latest_completed,
            &self.latest_savepoint,
            &self.latest_failed,
        ];
        let latest = latest.into_iter().flatten();
        self.records.iter().chain(latest).find(|record| record.id == id)
    }

    /// The newest that is no savepoint.
    pub fn latest_completed(&self) -> Option<&CheckpointRecord> {
        self.latest_completed.as_ref()
    }

    /// The newest savepoint that completed.
    pub fn latest_savepoint(&self) -> Option<&CheckpointRecord> {
        self.latest_savepoint.as_ref()
    }

    /// The newest that failed, of either kind.
    pub fn latest_failed(&self) -> Option<&CheckpointRecord> {
        self.latest_failed.as_ref()
    }

    /// The newest restore.
    pub fn latest_restored(&self) -> Option<&RestoreRecord> {
        self.latest_restored.as_ref()
    }

    /// Least, most and mean of a number over the completed ones that are remembered.
    pub fn summary(&self, of: impl Fn(&CheckpointRecord) -> u64) -> Summary {
        let completed = self
            .records
            .iter()
            .filter(|record| record.status == CheckpointStatus::Completed);
        let values: Vec<u64> = completed.map(of).collect();
        let count = values.len() as u64;
        Summary {
            min: values.iter().copied().min().unwrap_or(0),
            max: values.iter().copied().max().unwrap_or(0),
            avg: values.iter().sum::<u64>().checked_div(count).unwrap_or(0),
        }
    }

    pub(crate) fn begun(&mut self, record: CheckpointRecord) {
        self.counts.total += 1;
        self.counts.in_progress += 1;
        self.records.push_back(record);
        let mut surplus = self.records.len().saturating_sub(self.history_size);
        self.records.retain(|record| {
            let forget = surplus > 0 && record.status != CheckpointStatus::InProgress;
            surplus -= usize::from(forget);
            !forget
        });
    }

    pub(crate) fn acknowledged(&mut self, id: u64, vertex: usize, subtask: SubtaskRecord) {
        if let Some(vertex) = self.find(id).and_then(|record| record.vertices.get_mut(vertex)) {
            vertex.acknowledged.push(subtask);
        }
    }

    pub(crate) fn completed(&mut self, id: u64, path: &str, metadata_bytes: u64, now_ms: u64) {
        let Some(record) = self.find(id) else { return };
        record.status = CheckpointStatus::Completed;
        record.ended_ms = now_ms;
        record.metadata_bytes = metadata_bytes;
        path.clone_into(&mut record.external_path);
        let record = record.clone();
        self.counts.in_progress -= 1;
        self.counts.completed += 1;
        match record.savepoint {
            true => self.latest_savepoint = Some(record),
            false => self.latest_completed = Some(record),
        }
    }

    pub(crate) fn failed(&mut self, id: u64, failure: &str, now_ms: u64) {
        let Some(record) = self.find(id) else { return };
        record.status = CheckpointStatus::Failed;
        record.ended_ms = now_ms;
        record.discarded = true;
        failure.clone_into(&mut record.failure);
        let record = record.clone();
        self.counts.in_progress -= 1;
        self.counts.failed += 1;
        self.latest_failed = Some(record);
    }

    pub(crate) fn discarded(&mut self, id: u64) {
        let latest = self.latest_completed.iter_mut();
        for record in self
            .records
            .iter_mut()
            .chain(latest)
            .filter(|record| record.id == id)
        {
            record.discarded = true;
        }
    }

    pub(crate) fn restored(&mut self, record: RestoreRecord) {
        self.counts.restored += 1;
        self.latest_restored = Some(record);
    }

    fn find(&mut self, id: u64) -> Option<&mut CheckpointRecord> {
        self.records
            .iter_mut()
            .find(|record| record.id == id && record.status == CheckpointStatus::InProgress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: u64) -> CheckpointRecord {
        CheckpointRecord {
            id,
            status: CheckpointStatus::InProgress,
            checkpoint_type: "CHECKPOINT",
            savepoint: false,
            triggered_ms: 100 * id,
            ended_ms: 0,
            vertices: vec![VertexRecord {
                vertex_id: "v".to_owned(),
                subtasks: 1,
                acknowledged: Vec::new(),
            }],
            external_path: String::new(),
            discarded: false,
            metadata_bytes: 0,
            failure: String::new(),
        }
    }

    #[test]
    fn the_history_is_bounded_but_keeps_what_is_under_way_and_the_newest_of_each_kind() {
        let mut stats = CheckpointStats::new(2);
        stats.begun(record(1)); // stays under way
        stats.begun(record(2));
        stats.failed(2, "declined", 250);
        for id in 3..8 {
            stats.begun(record(id));
            stats.completed(id, "chk", 10, 100 * id + id);
        }
        assert_eq!(
            stats.history().map(|record| record.id).collect::<Vec<_>>(),
            [7, 1]
        );
        assert_eq!(stats.latest_failed().map(|record| record.id), Some(2));
        assert_eq!(stats.record(2).unwrap().failure, "declined");
        let counts = stats.counts();
        assert_eq!(
            (counts.total, counts.in_progress, counts.completed, counts.failed),
            (7, 1, 5, 1)
        );
    }

    #[test]
    fn sizes_are_sums_over_the_subtasks_and_summaries_over_the_completed() {
        let mut stats = CheckpointStats::new(10);
        for (id, bytes) in [(1, 100), (2, 300)] {
            stats.begun(record(id));
            let metrics = CheckpointMetrics {
                checkpointed_bytes: bytes,
                full_bytes: 2 * bytes,
                ..CheckpointMetrics::default()
            };
            let subtask = SubtaskRecord {
                subtask: 0,
                acknowledged_ms: 150,
                metrics,
            };
            stats.acknowledged(id, 0, subtask);
            stats.completed(id, "chk", 0, 1000);
        }
        let summary = stats.summary(CheckpointRecord::state_bytes);
        assert_eq!(
            summary,
            Summary {
                min: 200,
                max: 600,
                avg: 400
            }
        );
        assert_eq!(stats.record(1).unwrap().duration_ms(9999), 900);
    }
}
