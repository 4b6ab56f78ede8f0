//! The operators of one task and the way of a batch through them.
//!
//! ```text
//!            +-> Map ---> Filter ==> edge 7         one node works at a time, the deepest that has work;
//!   head  ---+                                      its output goes to the inbox of each node behind it
//!            +-> Sink                               and into each edge that leaves here
//! ```
//!
//! A chain is a tree in topological order, so every node behind node `i` has a higher index. [`Chain::step`] lets the node of
//! the highest index that has work do one piece of it: depth first, and between two pieces the task looks into its mailbox.
//!
//! Invariants: an inbox holds one delivery at most, because a node works only when nothing behind it has work; a node writes to
//! its edges only after all of them said ready. So a chain holds one batch a node, however slow what follows is.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use thalweg_operators::{Operator, OutputLimit};
use thalweg_types::element::{TARGET_BATCH_BYTES, TARGET_BATCH_ROWS};
use thalweg_types::{StreamBatch, StreamElement};

use crate::error::TaskError;
use crate::input::InputEvent;
use crate::metrics::{OperatorCounters, TaskCounters};
use crate::output::Output;
use crate::sink::{SinkBody, SinkStep};

const OUTPUT_LIMIT: OutputLimit = OutputLimit {
    rows: TARGET_BATCH_ROWS,
    bytes: TARGET_BATCH_BYTES,
};

/// What a node does.
pub(crate) enum Body {
    /// Nothing: the rows came from the reader.
    Source,
    /// Computes.
    Operator(Box<dyn Operator>),
    /// Writes.
    Sink(Box<SinkBody>),
}

/// What waits for a node.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are batches; a box would cost an allocation for each"
)]
enum Delivery {
    Batch { input: usize, batch: StreamBatch },
    End { input: usize },
}

/// One operator in its place.
pub(crate) struct Node {
    pub(crate) body: Body,
    /// Nodes behind it: index and the logical input there.
    pub(crate) children: Vec<(usize, usize)>,
    /// Edges behind it, by their place among the chain's outputs.
    pub(crate) outputs: Vec<usize>,
    pub(crate) counters: Arc<OperatorCounters>,
    inbox: Option<Delivery>,
    /// The operator may have output left.
    draining: bool,
    open_inputs: usize,
    ended: bool,
}

impl Node {
    pub(crate) fn new(body: Body, inputs: usize, counters: Arc<OperatorCounters>) -> Self {
        let (children, outputs) = (Vec::new(), Vec::new());
        Self {
            body,
            children,
            outputs,
            counters,
            inbox: None,
            draining: false,
            open_inputs: inputs,
            ended: false,
        }
    }

    fn has_work(&self) -> bool {
        let in_body = match &self.body {
            Body::Sink(sink) => sink.has_work(),
            Body::Source | Body::Operator(_) => self.draining,
        };
        in_body || self.inbox.is_some() || (self.open_inputs == 0 && !self.ended)
    }
}

/// What one step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A piece of work is done; there may be more.
    Worked,
    /// An edge or a sink has no room; the waker is registered with it.
    Blocked,
    /// A sink has no room and will wake nobody.
    Refused,
    /// Everything is worked off.
    Drained,
    /// Everything is worked off and every input has ended.
    Finished,
}

/// The operators of one task.
pub(crate) struct Chain {
    nodes: Vec<Node>,
    outputs: Vec<Output>,
    task: Arc<TaskCounters>,
}

impl Chain {
    /// Nodes in topological order, head first.
    pub(crate) fn new(nodes: Vec<Node>, outputs: Vec<Output>, task: Arc<TaskCounters>) -> Self {
        Self { nodes, outputs, task }
    }

    /// Does one piece of work, the deepest there is.
    pub(crate) fn step(&mut self, cx: &mut Context<'_>) -> Result<Step, TaskError> {
        match self.nodes.iter().rposition(Node::has_work) {
            Some(index) => self.step_node(index, cx),
            None if self.nodes.iter().all(|node| node.ended) => Ok(Step::Finished),
            None => Ok(Step::Drained),
        }
    }

    /// Whether every edge has room: asked before new input is taken.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TaskError>> {
        let mut all = Poll::Ready(Ok(()));
        for output in &mut self.outputs {
            match output.poll_ready(cx)? {
                Poll::Ready(()) => {}
                Poll::Pending => all = Poll::Pending,
            }
        }
        all
    }

    /// Takes an event of the chain's input; called only when it is drained and its edges have room.
    pub(crate) fn accept(&mut self, event: InputEvent) -> Result<(), TaskError> {
        match event {
            InputEvent::Batch { input, batch } => {
                self.nodes[0].inbox = Some(Delivery::Batch { input, batch });
            }
            InputEvent::End { input } => self.nodes[0].inbox = Some(Delivery::End { input }),
            InputEvent::Idle(true) => self.broadcast(&StreamElement::Idle)?,
            InputEvent::Idle(false) => self.broadcast(&StreamElement::Active)?,
            InputEvent::Latency { source, emitted_ms } => {
                self.broadcast(&StreamElement::LatencyMarker { source, emitted_ms })?;
            }
        }
        Ok(())
    }

    /// Sends what has waited for the buffer timeout; says when the next rows will have.
    pub(crate) fn flush_due(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Result<Option<Instant>, TaskError> {
        let mut next: Option<Instant> = None;
        for output in &mut self.outputs {
            if let Some(due) = output.flush_due(cx, now)? {
                next = Some(next.map_or(due, |next| next.min(due)));
            }
        }
        Ok(next)
    }

    /// Shows what the sinks and the edges count.
    pub(crate) fn publish(&self) {
        for node in &self.nodes {
            if let Body::Sink(sink) = &node.body {
                node.counters.publish(sink.gauges());
            }
        }
        self.task
            .bytes_out
            .set(self.outputs.iter().map(Output::bytes_out).sum());
    }

    fn broadcast(&mut self, element: &StreamElement) -> Result<(), TaskError> {
        self.outputs
            .iter_mut()
            .try_for_each(|output| output.broadcast(element))
    }

    fn step_node(&mut self, index: usize, cx: &mut Context<'_>) -> Result<Step, TaskError> {
        for &output in &self.nodes[index].outputs {
            match self.outputs[output].poll_ready(cx)? {
                Poll::Ready(()) => {}
                Poll::Pending => return Ok(Step::Blocked),
            }
        }
        let node = &mut self.nodes[index];
        match &mut node.body {
            Body::Operator(operator) if node.draining => match operator.poll_output(OUTPUT_LIMIT)? {
                Some(batch) => self.emit(index, batch)?,
                None => node.draining = false,
            },
            Body::Sink(sink) if sink.has_work() => match sink.step(cx)? {
                Poll::Pending => return Ok(Step::Blocked),
                Poll::Ready(SinkStep::Refused) => return Ok(Step::Refused),
                Poll::Ready(SinkStep::Took(_)) => {}
                Poll::Ready(SinkStep::Ended) => node.ended = true,
            },
            _ => match node.inbox.take() {
                Some(delivery) => self.deliver(index, delivery)?,
                None => self.end(index)?,
            },
        }
        Ok(Step::Worked)
    }

    fn deliver(&mut self, index: usize, delivery: Delivery) -> Result<(), TaskError> {
        let node = &mut self.nodes[index];
        match (delivery, &mut node.body) {
            (Delivery::Batch { batch, .. }, Body::Source) => self.emit(index, batch)?,
            (Delivery::Batch { input, batch }, Body::Operator(operator)) => {
                node.counters.records_in.add(batch.num_rows());
                operator.push(input, batch)?;
                node.draining = true;
            }
            (Delivery::Batch { batch, .. }, Body::Sink(sink)) => {
                node.counters.records_in.add(batch.num_rows());
                sink.push(batch);
            }
            (Delivery::End { input }, body) => {
                node.open_inputs = node.open_inputs.saturating_sub(1);
                match body {
                    Body::Source => {}
                    Body::Operator(operator) => {
                        operator.end_input(input)?;
                        node.draining = true;
                    }
                    Body::Sink(sink) if node.open_inputs == 0 => sink.end_input(),
                    Body::Sink(_) => {}
                }
            }
        }
        Ok(())
    }

    /// Passes a node's output on: the batch is shared, its columns are not copied.
    fn emit(&mut self, index: usize, batch: StreamBatch) -> Result<(), TaskError> {
        let rows = batch.num_rows();
        if rows == 0 && batch.watermarks.is_empty() {
            return Ok(());
        }
        let Self { nodes, outputs, task } = self;
        let (before, behind) = nodes.split_at_mut(index + 1);
        let node = &before[index];
        node.counters.records_out.add(rows);
        for &output in &node.outputs {
            task.records_out.add(rows);
            task.batches_out.add(1);
            outputs[output].write(batch.clone())?;
        }
        if let Some((&(last, last_input), others)) = node.children.split_last() {
            for &(child, input) in others {
                behind[child - index - 1].inbox = Some(Delivery::Batch {
                    input,
                    batch: batch.clone(),
                });
            }
            behind[last - index - 1].inbox = Some(Delivery::Batch {
                input: last_input,
                batch,
            });
        }
        Ok(())
    }

    /// Every input of the node has ended and it has given everything.
    fn end(&mut self, index: usize) -> Result<(), TaskError> {
        let (before, behind) = self.nodes.split_at_mut(index + 1);
        let node = &mut before[index];
        node.ended = true;
        for &(child, input) in &node.children {
            behind[child - index - 1].inbox = Some(Delivery::End { input });
        }
        for &output in &node.outputs {
            self.outputs[output].broadcast(&StreamElement::EndOfInput)?;
        }
        Ok(())
    }
}
