//! The chain's part in checkpoints: from head to tail, when it is drained.

use std::task::{Context, Poll};

use thalweg_connectors::StateDistribution;
use thalweg_state::{OperatorSnapshot, SnapshotRequest};
use thalweg_types::StreamElement;

use super::{Body, Chain};
use crate::checkpoint::barrier::Barrier;
use crate::checkpoint::lists;
use crate::checkpoint::upload::NodeSnapshot;
use crate::error::TaskError;
use crate::panics::{self, Stage};
use crate::sink::SinkBody;

/// How much of their state nodes are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All that the checkpoint's kind asks for.
    All,
    /// Keyed tables will not be looked at.
    Lists,
}

impl Chain {
    /// What is to be said before the first row: which edges begin idle.
    pub(crate) fn open(&mut self) -> Result<(), TaskError> {
        self.announce_idleness()
    }

    /// Puts the barrier behind everything that was sent.
    pub(crate) fn send_barrier(&mut self, barrier: &Barrier) -> Result<(), TaskError> {
        self.overdrawn_bytes = 0;
        self.broadcast(&barrier.element())
    }

    /// Ready when all sinks have handed over what they got.
    pub(crate) fn poll_flush_sinks(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TaskError>> {
        self.poll_sinks(|sink| sink.poll_flush(cx))
    }

    /// Asks each node for its state, in order. `source`: the reader's splits, if the head is a source.
    pub(crate) fn snapshot(
        &mut self,
        barrier: &Barrier,
        source: Option<&[Vec<u8>]>,
        extent: Extent,
    ) -> Result<Vec<NodeSnapshot>, TaskError> {
        let mut snapshots = Vec::with_capacity(self.nodes.len());
        for node in &mut self.nodes {
            panics::enter(Stage::Snapshot, &node.name);
            let ticket = node.runs.begin(barrier.id, barrier.kind());
            let snapshot = match &mut node.body {
                Body::Source => source_snapshot(&node.name, source.unwrap_or_default())?,
                Body::Operator(operator) => operator.snapshot(SnapshotRequest {
                    checkpoint_id: barrier.id,
                    full: ticket.full() && (extent == Extent::All || node.gives_all),
                })?,
                Body::Sink(sink) => sink.snapshot(barrier.id)?,
            };
            snapshots.push(NodeSnapshot {
                operator: node.name.to_string(),
                operator_id: node.operator_id.clone(),
                snapshot,
                ticket,
            });
        }
        Ok(snapshots)
    }

    /// A checkpoint is complete or was given up.
    pub(crate) fn on_checkpoint_end(&mut self, checkpoint_id: u64, completed: bool) -> Result<(), TaskError> {
        for node in &mut self.nodes {
            panics::enter(Stage::Running, &node.name);
            match &mut node.body {
                Body::Source => {}
                Body::Operator(operator) => operator.on_checkpoint_end(checkpoint_id, completed)?,
                Body::Sink(sink) if completed => sink.checkpoint_completed(checkpoint_id),
                Body::Sink(_) => {}
            }
        }
        Ok(())
    }

    /// Commits what may be; ready when all of it is.
    pub(crate) fn poll_commit(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TaskError>> {
        self.poll_sinks(|sink| sink.poll_commit(cx))
    }

    /// Whether a sink has prepared something that is not committed.
    pub(crate) fn has_uncommitted(&self) -> bool {
        self.nodes
            .iter()
            .any(|node| matches!(&node.body, Body::Sink(sink) if sink.has_uncommitted()))
    }

    /// No checkpoint will complete: sinks may commit all that they prepared.
    pub(crate) fn commit_all(&mut self) {
        for node in &mut self.nodes {
            if let Body::Sink(sink) = &mut node.body {
                sink.commit_all();
            }
        }
    }

    /// The last word on every edge.
    pub(crate) fn end_outputs(&mut self) -> Result<(), TaskError> {
        self.broadcast(&StreamElement::EndOfInput)
    }

    /// [`Self::end_outputs`] where consumers may have gone already, because everybody stops.
    pub(crate) fn end_outputs_of_stopped(&mut self) {
        for output in &mut self.outputs {
            if let Err(error) = output.broadcast(&StreamElement::EndOfInput) {
                tracing::debug!(%error, "a consumer stopped first");
            }
        }
    }

    fn poll_sinks(
        &mut self,
        mut poll: impl FnMut(&mut SinkBody) -> Poll<Result<(), TaskError>>,
    ) -> Poll<Result<(), TaskError>> {
        let mut all = Poll::Ready(Ok(()));
        for node in &mut self.nodes {
            if let Body::Sink(sink) = &mut node.body {
                panics::enter(Stage::Running, &node.name);
                if poll(sink)?.is_pending() {
                    all = Poll::Pending;
                }
            }
        }
        all
    }
}

fn source_snapshot(operator: &str, states: &[Vec<u8>]) -> Result<OperatorSnapshot, TaskError> {
    let list = lists::states(lists::SOURCE_READER_STATE, states, StateDistribution::Union);
    let list = list.map_err(|source| TaskError::EncodeState {
        operator: operator.to_owned(),
        source,
    })?;
    Ok(OperatorSnapshot {
        tables: Vec::new(),
        lists: vec![list],
    })
}
