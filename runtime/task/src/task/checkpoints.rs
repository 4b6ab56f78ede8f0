//! The task's part in checkpoints: what the mailbox says, the pause at a barrier, and the way to an end.
//!
//! ```text
//!   barrier -> sent on at once -> sinks flushed -> every node's state (the pause, measured) -> uploads
//!   stop-with-savepoint: behind the barrier nothing more is taken; complete -> the end, given up -> on it goes
//!   end of input: what sinks prepared last belongs to the next checkpoint; its completion -> commit -> the end
//! ```

use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Instant;

use thalweg_proto::control::v1::{CheckpointFailureReason, ExecutionAttempt};
use thalweg_proto::state::v1::{CheckpointMetrics, CheckpointOptions, SnapshotKind, TaskSnapshot};
use tokio::runtime::Handle;

use super::{Ending, Task};
use crate::chain::Extent;
use crate::checkpoint::barrier::{AlignedBarrier, Barrier};
use crate::checkpoint::channels::Recording;
use crate::checkpoint::restore::wait_for;
use crate::checkpoint::upload::{MOST_UPLOADS, Taken, Uploader, Uploads, refusal};
use crate::error::TaskError;
use crate::input::GivenUpCause;
use crate::metrics::Activity;

/// What a task must know for its checkpoints.
pub(crate) struct CheckpointSetup {
    pub(crate) uploader: Uploader,
    pub(crate) attempt: ExecutionAttempt,
    /// Edge and producer's subtask of each input channel.
    pub(crate) channels: Arc<[(u32, u32)]>,
    /// Whether a checkpoint comes behind the end of the input, which what is to be committed then waits for. Without one, as
    /// without checkpoints, it is committed at the end: it comes again if the job has to start again after that.
    pub(crate) last_checkpoint: bool,
    pub(crate) restored_from: u64,
}

/// Where a task is in its checkpoints.
pub(super) struct Checkpoints {
    uploads: Uploads,
    io: Handle,
    last_checkpoint: bool,
    /// The newest whose barrier was here.
    last: u64,
    /// Its barrier has been sent on; its sinks flush.
    begun: Option<AlignedBarrier>,
    /// Taken behind a barrier that overtook elements; they are still to come.
    incomplete: Option<Taken>,
    /// A savepoint that stops the job; nothing is taken behind it.
    stopping: Option<u64>,
    /// It is complete.
    stopped: bool,
    /// Sinks may have something to commit.
    committing: bool,
}

impl Checkpoints {
    pub(super) fn new(setup: CheckpointSetup, waker: Waker) -> Self {
        Self {
            io: setup.uploader.io.clone(),
            uploads: Uploads::new(setup.uploader, setup.attempt, setup.channels, waker),
            last_checkpoint: setup.last_checkpoint,
            last: setup.restored_from,
            begun: None,
            incomplete: None,
            stopping: None,
            stopped: false,
            committing: false,
        }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun.is_some()
    }
}

impl Task {
    pub(super) fn read_mail(&mut self) -> Result<(), TaskError> {
        let Some(mail) = self.mailbox.take() else {
            return Ok(());
        };
        if let Some(max_watermark_ms) = mail.max_watermark_ms {
            self.align(max_watermark_ms);
        }
        if let Some(checkpoint_id) = mail.completed {
            self.checkpoint_ended(checkpoint_id, true)?;
        }
        // A checkpoint may be triggered and given up between two looks: its barrier must not go in behind that.
        let now_ms = self.clock.now_ms();
        for barrier in mail.triggers {
            self.input.trigger(barrier, now_ms);
        }
        for checkpoint_id in mail.aborted {
            self.checkpoint_ended(checkpoint_id, false)?;
        }
        Ok(())
    }

    fn checkpoint_ended(&mut self, checkpoint_id: u64, completed: bool) -> Result<(), TaskError> {
        if completed {
            self.checkpoints.committing = true;
            self.checkpoints.stopped |= self
                .checkpoints
                .stopping
                .is_some_and(|stop| stop <= checkpoint_id);
        } else {
            self.input.abort(checkpoint_id);
            self.forget_incomplete(checkpoint_id);
            self.checkpoints
                .begun
                .take_if(|begun| begun.barrier.id == checkpoint_id);
            if self.checkpoints.stopping == Some(checkpoint_id) {
                self.checkpoints.stopping = None;
            }
        }
        self.input.on_checkpoint_end(checkpoint_id, completed)?;
        self.chain.on_checkpoint_end(checkpoint_id, completed)
    }

    pub(super) fn poll_commit(&mut self, cx: &mut Context<'_>) -> Result<(), TaskError> {
        if self.checkpoints.committing {
            self.checkpoints.committing = self.chain.poll_commit(cx)?.is_pending();
        }
        Ok(())
    }

    /// The barrier is here and the chain is drained.
    pub(super) fn begin_checkpoint(&mut self, aligned: AlignedBarrier) -> Result<(), TaskError> {
        let barrier = &aligned.barrier;
        self.checkpoints.last = self.checkpoints.last.max(barrier.id);
        self.chain.send_barrier(barrier)?;
        if self.checkpoints.uploads.under_way() >= MOST_UPLOADS {
            let failure = refusal(format!(
                "{MOST_UPLOADS} checkpoints of this task are still being written: the storage is too slow for the interval"
            ));
            let reason = CheckpointFailureReason::Declined;
            self.checkpoints.uploads.decline(barrier.id, reason, failure);
            return Ok(());
        }
        self.checkpoints.begun = Some(aligned);
        Ok(())
    }

    /// The snapshot, as soon as the sinks have flushed.
    pub(super) fn poll_snapshot(&mut self, cx: &mut Context<'_>) -> Result<(), TaskError> {
        if self.chain.poll_flush_sinks(cx)?.is_pending() {
            return self.wait(cx, Activity::Backpressured, None);
        }
        let Some(aligned) = self.checkpoints.begun.take() else {
            return Ok(());
        };
        let began = Instant::now();
        let barrier = &aligned.barrier;
        let source = self.input.snapshot(barrier.id)?;
        let nodes = self.chain.snapshot(barrier, source.as_deref(), Extent::All)?;
        if barrier.options.terminate {
            self.checkpoints.stopping = Some(barrier.id);
        }
        let taken = Taken {
            checkpoint_id: barrier.id,
            options: barrier.options.clone(),
            nodes,
            recorded: None,
            metrics: metrics(&aligned, began),
        };
        if aligned.overtook {
            self.checkpoints.incomplete = Some(taken);
        } else {
            self.checkpoints.uploads.start(taken);
        }
        Ok(())
    }

    /// All that a barrier had overtaken is here: the checkpoint is whole.
    pub(super) fn complete_checkpoint(&mut self, recording: Recording) {
        let incomplete = self.checkpoints.incomplete.take();
        if let Some(taken) = incomplete.filter(|taken| taken.checkpoint_id == recording.checkpoint_id) {
            self.checkpoints.uploads.start(Taken {
                recorded: Some(recording),
                ..taken
            });
        }
    }

    fn forget_incomplete(&mut self, checkpoint_id: u64) {
        self.checkpoints
            .incomplete
            .take_if(|taken| taken.checkpoint_id == checkpoint_id);
    }

    pub(super) fn decline_given_up(&mut self, checkpoint_id: u64, cause: GivenUpCause) {
        self.forget_incomplete(checkpoint_id);
        let failure = refusal(format!("checkpoint {checkpoint_id} was given up: {cause}"));
        let reason = cause.reason();
        self.checkpoints.uploads.decline(checkpoint_id, reason, failure);
    }

    /// Behind a savepoint that stops the job.
    pub(super) fn is_stopping(&self) -> bool {
        self.checkpoints.stopping.is_some()
    }

    /// The savepoint is complete and what it holds is committed.
    pub(super) fn has_stopped(&self) -> bool {
        self.checkpoints.stopped && !self.checkpoints.committing
    }

    /// All input has ended and is worked off: whether nothing else has to happen.
    pub(super) fn may_finish(&mut self) -> bool {
        if !self.checkpoints.last_checkpoint && self.chain.has_uncommitted() {
            self.chain.commit_all();
            self.checkpoints.committing = true;
        }
        !self.chain.has_uncommitted()
            && !self.checkpoints.has_begun()
            && self.checkpoints.incomplete.is_none()
            && !self.is_stopping()
            && self.checkpoints.uploads.under_way() == 0
            && !self.input.has_queued()
            && !(self.checkpoints.last_checkpoint && self.input.awaits_checkpoint())
    }

    /// All input has ended, and sinks or the source have something to commit, or uploads are under way.
    pub(super) fn await_last_checkpoint(&mut self, cx: &mut Context<'_>) -> Result<(), TaskError> {
        if self.checkpoints.has_begun() {
            return self.poll_snapshot(cx);
        }
        if self.is_stopping() {
            return self.wait(cx, Activity::Idle, None);
        }
        self.take_input(cx)
    }

    /// What later checkpoints must hold of this task: a source's splits would be read again by a restored job otherwise.
    pub(super) fn finish(&mut self) -> Result<Ending, TaskError> {
        let barrier = last_barrier(self.checkpoints.last + 1);
        let source = self.input.snapshot(barrier.id)?;
        let nodes = self.chain.snapshot(&barrier, source.as_deref(), Extent::Lists)?;
        let encoding = self.checkpoints.uploads.lists_inline(nodes);
        match wait_for(&self.checkpoints.io, &self.mailbox, encoding) {
            None => Ok(Ending::Canceled),
            Some(Ok(snapshot)) => Ok(Ending::Finished(Some(snapshot).filter(has_lists))),
            Some(Err((operator, source))) => Err(TaskError::FinalState { operator, source }),
        }
    }
}

fn has_lists(snapshot: &TaskSnapshot) -> bool {
    !snapshot.operators.is_empty()
}

/// Stands for the checkpoint that a task will not see any more.
fn last_barrier(checkpoint_id: u64) -> Barrier {
    Barrier::of_trigger(&thalweg_proto::control::v1::TriggerCheckpoint {
        checkpoint_id,
        options: Some(CheckpointOptions {
            kind: SnapshotKind::Savepoint.into(),
            ..CheckpointOptions::default()
        }),
        ..Default::default()
    })
}

fn metrics(aligned: &AlignedBarrier, sync_began: Instant) -> CheckpointMetrics {
    let number = |value: u128| u64::try_from(value).unwrap_or(u64::MAX);
    CheckpointMetrics {
        sync_us: number(sync_began.elapsed().as_micros()),
        alignment_ms: number(aligned.alignment.as_millis()),
        start_delay_ms: aligned.start_delay_ms,
        processed_bytes: aligned.processed_bytes,
        unaligned: aligned.overtook,
        ..CheckpointMetrics::default()
    }
}
