//! The part of a checkpoint that the task does not wait for: encoding and writing on the I/O runtime.
//!
//! ```text
//!   task thread: start(snapshots) --> [one I/O task: write each operator's files -> acknowledge | decline -> merge runs]
//!                     <---------------------------------- under way - 1, wake-up ----------------/
//! ```
//!
//! A store that fails costs the checkpoint, not the job: the task goes on and its next checkpoint is written in full.
//! Bounded: at most [`MOST_UPLOADS`] of a task at a time; how many are encoded at a time the [`SnapshotStore`] bounds. No permit is
//! held while a snapshot waits for the one before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Instant;

use futures::future::{try_join, try_join_all};
use thalweg_proto::control::v1::{
    AcknowledgeCheckpoint, CheckpointFailureReason, DeclineCheckpoint, ExecutionAttempt,
};
use thalweg_proto::state::v1::{
    ChannelState, CheckpointMetrics, CheckpointOptions, OperatorSubtaskState, SnapshotKind,
    TaskOperatorSnapshot, TaskSnapshot,
};
use thalweg_state::{
    OperatorSnapshot, SnapshotStore, SnapshotTicket, StateError, SubmittedBatches, SubmittedSnapshot,
    SubtaskChain, WrittenSnapshot,
};
use thalweg_storage::LocalCopies;
use thalweg_types::{Classify, Failure, FailureClass};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::checkpoint::channels::Recording;
use crate::checkpoint::local;
use crate::executor::{TaskEvent, failure_message};

/// Checkpoints of one task that may be on their way into storage.
pub(crate) const MOST_UPLOADS: usize = 8;

/// One operator's part.
pub(crate) struct NodeSnapshot {
    pub(crate) operator: String,
    pub(crate) operator_id: String,
    pub(crate) snapshot: OperatorSnapshot,
    pub(crate) ticket: SnapshotTicket,
}

/// One operator's part, handed over.
struct SubmittedNode {
    operator: String,
    operator_id: String,
    snapshot: SubmittedSnapshot,
}

/// One task's part of a checkpoint, taken.
pub(crate) struct Taken {
    pub(crate) checkpoint_id: u64,
    pub(crate) options: Arc<CheckpointOptions>,
    pub(crate) nodes: Vec<NodeSnapshot>,
    /// What the barrier overtook; belongs to the head.
    pub(crate) recorded: Option<Recording>,
    pub(crate) metrics: CheckpointMetrics,
}

/// What all tasks of a process share to write snapshots.
#[derive(Clone)]
pub(crate) struct Uploader {
    pub(crate) store: SnapshotStore,
    pub(crate) copies: Option<LocalCopies>,
    pub(crate) io: Handle,
    pub(crate) events: mpsc::Sender<TaskEvent>,
}

/// The uploads of one task. Dropped, it gives up those that are under way.
pub(crate) struct Uploads {
    uploader: Uploader,
    attempt: ExecutionAttempt,
    /// Edge and producer's subtask of each input channel.
    channels: Arc<[(u32, u32)]>,
    under_way: Arc<AtomicUsize>,
    waker: Waker,
    tasks: JoinSet<()>,
}

impl Uploads {
    pub(crate) fn new(
        uploader: Uploader,
        attempt: ExecutionAttempt,
        channels: Arc<[(u32, u32)]>,
        waker: Waker,
    ) -> Self {
        Self {
            uploader,
            attempt,
            channels,
            under_way: Arc::default(),
            waker,
            tasks: JoinSet::new(),
        }
    }

    /// Checkpoints that are neither acknowledged nor declined.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Acquire)
    }

    /// Hands a snapshot over.
    pub(crate) fn start(&mut self, taken: Taken) {
        while self.tasks.try_join_next().is_some() {}
        self.under_way.fetch_add(1, Ordering::AcqRel);
        let (uploader, attempt, input) = (self.uploader.clone(), self.attempt.clone(), self.channels.clone());
        let (under_way, waker) = (self.under_way.clone(), self.waker.clone());
        let io = self.uploader.io.clone();
        self.tasks.spawn_on(
            async move {
                let (options, chains) = (taken.options.clone(), chains(&taken));
                let acknowledged = uploader.upload_and_answer(attempt, &input, taken).await;
                under_way.fetch_sub(1, Ordering::AcqRel);
                waker.wake();
                if acknowledged && options.kind() != SnapshotKind::Savepoint {
                    uploader.merge(&chains, &options.shared_folder).await;
                }
            },
            &io,
        );
    }

    /// Answers that there will be no snapshot.
    pub(crate) fn decline(&mut self, checkpoint_id: u64, reason: CheckpointFailureReason, failure: Failure) {
        let (events, attempt, io) = (
            self.uploader.events.clone(),
            self.attempt.clone(),
            self.uploader.io.clone(),
        );
        self.tasks.spawn_on(
            async move {
                let _ = events
                    .send(declined(attempt, checkpoint_id, reason, failure))
                    .await;
            },
            &io,
        );
    }

    /// The lists of snapshots, all of them inline.
    pub(crate) fn lists_inline(
        &self,
        nodes: Vec<NodeSnapshot>,
    ) -> impl Future<Output = Result<TaskSnapshot, (String, StateError)>> + Send + 'static {
        let (uploader, subtask) = (self.uploader.clone(), self.attempt.subtask);
        async move {
            let options = CheckpointOptions {
                kind: SnapshotKind::Savepoint.into(),
                // Nothing is written there: all of it is inline.
                exclusive_folder: "file:///".to_owned(),
                inline_limit_bytes: u64::MAX,
                ..CheckpointOptions::default()
            };
            let nodes = nodes.into_iter().map(|mut node| {
                node.snapshot.tables.clear();
                uploader.write(subtask, node, &options)
            });
            let written = try_join_all(nodes).await?;
            Ok(task_snapshot(written))
        }
    }
}

impl Uploader {
    async fn upload_and_answer(&self, attempt: ExecutionAttempt, input: &[(u32, u32)], taken: Taken) -> bool {
        let Taken {
            checkpoint_id,
            options,
            nodes,
            recorded,
            mut metrics,
        } = taken;
        let began = Instant::now();
        let written = async {
            // All is handed over before any of it is waited for: small files of the process's tasks are written together.
            let turn = self.store.turn(&options);
            let nodes = nodes.into_iter().map(|node| self.submit(node, &options));
            let recorded = self.submit_recorded(attempt.subtask, input, recorded, &options);
            let (nodes, recorded) = try_join(try_join_all(nodes), recorded).await?;
            drop(turn);
            let nodes = nodes.into_iter().map(|node| self.written(attempt.subtask, node));
            try_join(try_join_all(nodes), recorded_written(recorded)).await
        };
        let event = match written.await {
            Ok((mut written, (channels, bytes))) => {
                metrics.persisted_bytes = bytes;
                metrics.checkpointed_bytes += bytes;
                metrics.full_bytes += bytes;
                if let Some((_, head)) = written.first_mut() {
                    head.state.channels = channels;
                }
                metrics.async_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                metrics.checkpointed_bytes += written
                    .iter()
                    .map(|(_, written)| written.written_bytes)
                    .sum::<u64>();
                metrics.full_bytes += written.iter().map(|(_, written)| written.full_bytes).sum::<u64>();
                let snapshot = task_snapshot(written);
                if let Some(copies) = &self.copies {
                    local::note_snapshot(copies, checkpoint_id, &options, &snapshot);
                }
                TaskEvent::Acknowledge(AcknowledgeCheckpoint {
                    execution: Some(attempt),
                    checkpoint_id,
                    snapshot: Some(snapshot),
                    metrics: Some(metrics),
                })
            }
            Err((operator, source)) => declined(
                attempt,
                checkpoint_id,
                CheckpointFailureReason::AsyncException,
                write_failure(&operator, &source),
            ),
        };
        let acknowledged = matches!(event, TaskEvent::Acknowledge(_));
        let _ = self.events.send(event).await;
        acknowledged
    }

    async fn write(
        &self,
        subtask: u32,
        node: NodeSnapshot,
        options: &CheckpointOptions,
    ) -> Result<(String, WrittenSnapshot), (String, StateError)> {
        let submitted = self.submit(node, options).await?;
        self.written(subtask, submitted).await
    }

    async fn submit(
        &self,
        node: NodeSnapshot,
        options: &CheckpointOptions,
    ) -> Result<SubmittedNode, (String, StateError)> {
        let submitted = self
            .store
            .submit_operator_snapshot(node.snapshot, options, node.ticket)
            .await;
        match submitted {
            Ok(snapshot) => Ok(SubmittedNode {
                operator: node.operator,
                operator_id: node.operator_id,
                snapshot,
            }),
            Err(source) => Err((node.operator, source)),
        }
    }

    async fn written(
        &self,
        subtask: u32,
        node: SubmittedNode,
    ) -> Result<(String, WrittenSnapshot), (String, StateError)> {
        match self.store.written(subtask, node.snapshot).await {
            Ok(written) => Ok((node.operator_id, written)),
            Err(source) => Err((node.operator, source)),
        }
    }

    async fn submit_recorded(
        &self,
        subtask: u32,
        input: &[(u32, u32)],
        recorded: Option<Recording>,
        options: &CheckpointOptions,
    ) -> Result<Vec<(ChannelState, SubmittedBatches)>, (String, StateError)> {
        let recorded = recorded
            .map(Recording::into_channels)
            .transpose()
            .map_err(|source| {
                recording_failed(StateError::Arrow {
                    step: "storing elements under way",
                    source,
                })
            })?;
        let mut states = Vec::new();
        for channel in recorded.unwrap_or_default() {
            let (edge, producer_subtask) = input[channel.channel];
            let rows = channel.batches.iter().map(|batch| batch.num_rows() as u64).sum();
            let file = self
                .store
                .submit_batches(&format!("edge {edge}"), channel.batches, options)
                .await
                .map_err(recording_failed)?;
            let state = ChannelState {
                edge,
                input: true,
                producer_subtask,
                consumer_subtask: subtask,
                file: None,
                rows,
            };
            states.push((state, file));
        }
        Ok(states)
    }

    async fn merge(&self, chains: &[SubtaskChain], shared_folder: &str) {
        for chain in chains {
            if let Err(error) = self.store.merge_runs(chain, shared_folder).await {
                tracing::warn!(%error, "state files were not merged; the next checkpoint tries again");
            }
        }
    }
}

/// The channel states and the sum of their sizes.
async fn recorded_written(
    submitted: Vec<(ChannelState, SubmittedBatches)>,
) -> Result<(Vec<ChannelState>, u64), (String, StateError)> {
    let (mut states, mut bytes) = (Vec::with_capacity(submitted.len()), 0);
    for (mut state, file) in submitted {
        let file = file.written().await.map_err(recording_failed)?;
        bytes += file.size;
        state.file = Some(file);
        states.push(state);
    }
    Ok((states, bytes))
}

fn recording_failed(source: StateError) -> (String, StateError) {
    ("elements under way".to_owned(), source)
}

fn chains(taken: &Taken) -> Vec<SubtaskChain> {
    taken
        .nodes
        .iter()
        .map(|node| node.ticket.chain().clone())
        .collect()
}

fn task_snapshot(written: Vec<(String, WrittenSnapshot)>) -> TaskSnapshot {
    let operators = written
        .into_iter()
        .filter(|(_, written)| !is_empty(&written.state) || !written.tables.is_empty())
        .map(|(operator_id, written)| TaskOperatorSnapshot {
            operator_id,
            state: Some(written.state),
            tables: written.tables,
        });
    TaskSnapshot {
        operators: operators.collect(),
    }
}

fn is_empty(state: &OperatorSubtaskState) -> bool {
    state.runs.is_empty() && state.lists.is_empty() && state.channels.is_empty()
}

fn write_failure(operator: &str, source: &StateError) -> Failure {
    let failure = Failure::from_error(source);
    Failure {
        class: source.class(),
        message: format!("the state of {operator} can't be written: {}", failure.message),
        detail: failure.detail,
    }
}

/// The answer that there will be no snapshot.
pub(crate) fn declined(
    attempt: ExecutionAttempt,
    checkpoint_id: u64,
    reason: CheckpointFailureReason,
    failure: Failure,
) -> TaskEvent {
    TaskEvent::Decline(DeclineCheckpoint {
        execution: Some(attempt),
        checkpoint_id,
        failure: Some(failure_message(failure)),
        reason: reason.into(),
    })
}

/// A refusal that another try may not meet.
pub(crate) fn refusal(message: impl Into<String>) -> Failure {
    Failure::new(FailureClass::Retryable, message)
}
