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
//! The pieces of one node:
//!
//! ```text
//!   push -> poll_output -> Some: held -> poll_side_output.. -> None: the held batch goes on, its watermarks to the side outputs
//!                       -> None: poll_side_output.. -> None: drained
//! ```
//!
//! Invariants: an inbox holds one delivery at most, because a node works only when nothing behind it has work; a node writes to
//! its edges only after all of them said ready. So a chain holds two batches a node at most, however slow what follows is.
//! When it is drained, everything that came in has passed: that is where a barrier belongs. For one that overtakes, the chain
//! may be drained without room ([`Chain::overdraw`]), up to [`MOST_OVERDRAWN_BYTES`].

mod checkpoints;

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use arrow::datatypes::SchemaRef;
use thalweg_operators::{Operator, OutputLimit};
use thalweg_state::SubtaskChain;
use thalweg_types::element::{TARGET_BATCH_BYTES, TARGET_BATCH_ROWS};
use thalweg_types::{StreamBatch, StreamElement};

use crate::alignment::Progress;
use crate::error::TaskError;
use crate::input::InputEvent;
use crate::metrics::{OperatorCounters, TaskCounters};
use crate::output::Output;
use crate::panics::{self, Stage};
use crate::plan::Child;
use crate::sink::{SinkBody, SinkStep};
use crate::source::watermark_only;
pub(crate) use checkpoints::Extent;

const OUTPUT_LIMIT: OutputLimit = OutputLimit {
    rows: TARGET_BATCH_ROWS,
    bytes: TARGET_BATCH_BYTES,
};

/// Bytes of batches that are given out without room for one checkpoint, but for the last piece: what the other side may have to hold
/// above its credit.
const MOST_OVERDRAWN_BYTES: usize = 16 << 20;

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

/// What an operator is to be asked for next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drain {
    /// Nothing.
    Done,
    /// Its main output.
    Output,
    /// Its side outputs, then what is held goes on.
    Sides,
}

/// One operator in its place.
pub(crate) struct Node {
    pub(crate) name: Arc<str>,
    /// As it goes into snapshots.
    pub(crate) operator_id: String,
    pub(crate) body: Body,
    pub(crate) children: Vec<Child>,
    /// Edges behind it, by their place among the chain's outputs, and which output of the node travels there.
    pub(crate) outputs: Vec<(usize, u32)>,
    pub(crate) counters: Arc<OperatorCounters>,
    /// The state files that its checkpoints go on with.
    pub(crate) runs: SubtaskChain,
    /// Its state was restored with other columns, so that it gives it whole or not at all.
    pub(crate) gives_all: bool,
    inbox: Option<Delivery>,
    drain: Drain,
    /// A batch of the main output that waits for the side outputs of the same call.
    held: Option<StreamBatch>,
    /// The columns of side outputs that have had rows, by their number.
    side_schemas: Vec<Option<SchemaRef>>,
    open_inputs: usize,
    ended: bool,
    /// It said so itself.
    idle: bool,
    /// The last that it gave.
    watermark_ms: Option<i64>,
}

impl Node {
    pub(crate) fn new(
        name: Arc<str>,
        body: Body,
        inputs: usize,
        counters: Arc<OperatorCounters>,
        runs: SubtaskChain,
    ) -> Self {
        Self {
            name,
            operator_id: String::new(),
            body,
            children: Vec::new(),
            outputs: Vec::new(),
            counters,
            runs,
            gives_all: false,
            inbox: None,
            drain: Drain::Done,
            held: None,
            side_schemas: Vec::new(),
            open_inputs: inputs,
            ended: false,
            idle: false,
            watermark_ms: None,
        }
    }

    fn has_work(&self) -> bool {
        let in_body = match &self.body {
            Body::Sink(sink) => sink.has_work(),
            Body::Source | Body::Operator(_) => self.drain != Drain::Done,
        };
        in_body || self.inbox.is_some() || (self.open_inputs == 0 && !self.ended)
    }

    fn operator(&mut self) -> Option<&mut Box<dyn Operator>> {
        match &mut self.body {
            Body::Operator(operator) => Some(operator),
            Body::Source | Body::Sink(_) => None,
        }
    }

    fn side_schema(&self, side: u32) -> Option<&SchemaRef> {
        self.side_schemas.get(side as usize)?.as_ref()
    }

    /// True if nothing was known of this side output's columns.
    fn learn_side_schema(&mut self, side: u32, schema: SchemaRef) -> bool {
        let place = side as usize;
        if self.side_schemas.len() <= place {
            self.side_schemas.resize(place + 1, None);
        }
        self.side_schemas[place].replace(schema).is_none()
    }
}

/// What one step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A piece of work is done; there may be more.
    Worked,
    /// An edge has no room; the waker is registered with it.
    NoRoom,
    /// A sink or an operator has no room; the waker is registered with it.
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
    /// The node before each node, and before each output.
    parents: Vec<Option<usize>>,
    sources: Vec<(usize, u32)>,
    /// What was last said of each output.
    idle_outputs: Vec<bool>,
    idle_input: bool,
    /// Bytes that were given out without room since the last barrier, and whether the next piece may be.
    overdrawn_bytes: usize,
    may_overdraw: bool,
    task: Arc<TaskCounters>,
}

impl Chain {
    /// Nodes in topological order, head first.
    pub(crate) fn new(nodes: Vec<Node>, outputs: Vec<Output>, task: Arc<TaskCounters>) -> Self {
        let mut parents = vec![None; nodes.len()];
        let mut sources = vec![(0, 0); outputs.len()];
        for (place, node) in nodes.iter().enumerate() {
            node.children
                .iter()
                .for_each(|child| parents[child.node] = Some(place));
            node.outputs
                .iter()
                .for_each(|&(output, side)| sources[output] = (place, side));
        }
        Self {
            idle_outputs: vec![false; outputs.len()],
            idle_input: false,
            overdrawn_bytes: 0,
            may_overdraw: false,
            nodes,
            outputs,
            parents,
            sources,
            task,
        }
    }

    /// Does one piece of work, the deepest there is.
    pub(crate) fn step(&mut self, cx: &mut Context<'_>) -> Result<Step, TaskError> {
        match self.nodes.iter().rposition(Node::has_work) {
            Some(index) => {
                let step = self.step_node(index, cx);
                self.may_overdraw = false;
                step
            }
            None if self.nodes.iter().all(|node| node.ended) => Ok(Step::Finished),
            None => Ok(Step::Drained),
        }
    }

    /// Lets the next step give a piece out though an edge has no room; false if there was too much of that since the last barrier.
    pub(crate) fn overdraw(&mut self) -> bool {
        self.may_overdraw = self.overdrawn_bytes < MOST_OVERDRAWN_BYTES;
        self.may_overdraw
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

    /// Takes an event of the chain's input; called only when it is drained and its edges have room, or
    /// for a barrier that overtakes. Barriers are the task's.
    pub(crate) fn accept(&mut self, event: InputEvent) -> Result<(), TaskError> {
        match event {
            InputEvent::Batch { input, batch } => {
                self.nodes[0].inbox = Some(Delivery::Batch { input, batch });
            }
            InputEvent::End { input } => self.nodes[0].inbox = Some(Delivery::End { input }),
            InputEvent::InputIdle { input, idle } => {
                let head = &mut self.nodes[0];
                if let Some(operator) = head.operator() {
                    operator.set_input_idle(input, idle)?;
                    head.drain = Drain::Output;
                }
            }
            InputEvent::Idle(idle) => {
                self.idle_input = idle;
                self.announce_idleness()?;
            }
            InputEvent::Latency { source, emitted_ms } => {
                self.broadcast(&StreamElement::LatencyMarker { source, emitted_ms })?;
            }
            InputEvent::Barrier(_) | InputEvent::Recorded(_) | InputEvent::GivenUp { .. } => {}
        }
        Ok(())
    }

    /// Asks operators that wait for something outside for what came meanwhile; called only when the chain is drained. Says
    /// whether there was something.
    pub(crate) fn poll_operators(&mut self, cx: &mut Context<'_>) -> Result<bool, TaskError> {
        let mut any = false;
        for node in &mut self.nodes {
            panics::enter(Stage::Running, &node.name);
            let Some(operator) = node.operator() else { continue };
            if operator.poll_ready(cx)?.is_ready()
                && let Some(batch) = operator.poll_output(OUTPUT_LIMIT)?
            {
                node.held = Some(batch);
                node.drain = Drain::Sides;
                any = true;
            }
        }
        Ok(any)
    }

    /// How far a node's watermarks are.
    pub(crate) fn progress(&self, node: usize) -> Progress {
        Progress {
            watermark_ms: self.nodes[node].watermark_ms,
            idle: self.idle_input || self.is_idle_from(node),
        }
    }

    /// Watermark alignment: for now nothing comes because the source waits, or it goes on.
    pub(crate) fn set_input_paused(&mut self, paused: bool) {
        let operators = self.nodes.iter_mut().filter_map(Node::operator);
        operators.for_each(|operator| operator.set_input_paused(paused));
    }

    /// When an operator next wants to see the clock, in ms since the epoch.
    pub(crate) fn next_processing_time(&self) -> Option<i64> {
        let times = self.nodes.iter().filter(|node| !node.ended);
        times
            .filter_map(|node| match &node.body {
                Body::Operator(operator) => operator.next_processing_time(),
                Body::Source | Body::Sink(_) => None,
            })
            .min()
    }

    /// Tells the operators that want to know that it is `now_ms`; called only when the chain is drained.
    pub(crate) fn on_processing_time(&mut self, now_ms: i64) -> Result<(), TaskError> {
        for node in self.nodes.iter_mut().filter(|node| !node.ended) {
            panics::enter(Stage::Running, &node.name);
            let Some(operator) = node.operator() else { continue };
            if operator.next_processing_time().is_some_and(|due| due <= now_ms) {
                operator.on_processing_time(now_ms)?;
                node.drain = Drain::Output;
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
        for &(output, _) in &self.nodes[index].outputs {
            match self.outputs[output].poll_ready(cx)? {
                Poll::Pending if !self.may_overdraw => return Ok(Step::NoRoom),
                Poll::Ready(()) | Poll::Pending => {}
            }
        }
        let node = &mut self.nodes[index];
        panics::enter(Stage::Running, &node.name);
        match &mut node.body {
            Body::Operator(_) => return self.step_operator(index, cx),
            Body::Sink(sink) if sink.has_work() => match sink.step(cx)? {
                Poll::Pending => return Ok(Step::Blocked),
                Poll::Ready(SinkStep::Refused) => return Ok(Step::Refused),
                Poll::Ready(SinkStep::Took(_)) => {}
                Poll::Ready(SinkStep::Ended) => node.ended = true,
            },
            Body::Source | Body::Sink(_) => match node.inbox.take() {
                Some(delivery) => self.deliver(index, delivery)?,
                None => self.end(index),
            },
        }
        Ok(Step::Worked)
    }

    fn step_operator(&mut self, index: usize, cx: &mut Context<'_>) -> Result<Step, TaskError> {
        let node = &mut self.nodes[index];
        let Body::Operator(operator) = &mut node.body else {
            return Ok(Step::Worked);
        };
        match node.drain {
            Drain::Output => {
                node.held = operator.poll_output(OUTPUT_LIMIT)?;
                node.drain = Drain::Sides;
                self.drain_side(index)?;
            }
            Drain::Sides => self.drain_side(index)?,
            Drain::Done if matches!(node.inbox, Some(Delivery::End { .. })) => {
                if let Some(delivery) = node.inbox.take() {
                    self.deliver(index, delivery)?;
                }
            }
            // A batch, or the end of all inputs: neither before the operator is ready and has nothing left.
            Drain::Done => {
                if operator.poll_ready(cx)?.is_pending() {
                    return Ok(Step::Blocked);
                }
                if let Some(batch) = operator.poll_output(OUTPUT_LIMIT)? {
                    node.held = Some(batch);
                    node.drain = Drain::Sides;
                    return Ok(Step::Worked);
                }
                match node.inbox.take() {
                    Some(delivery) => self.deliver(index, delivery)?,
                    None => self.end(index),
                }
            }
        }
        Ok(Step::Worked)
    }

    /// A piece of a side output; behind the last one what is held goes on.
    fn drain_side(&mut self, index: usize) -> Result<(), TaskError> {
        let node = &mut self.nodes[index];
        let Body::Operator(operator) = &mut node.body else {
            return Ok(());
        };
        if let Some((side, batch)) = operator.poll_side_output() {
            return self.emit_side(index, side, &batch);
        }
        let held = node.held.take();
        node.drain = if held.is_some() {
            Drain::Output
        } else {
            Drain::Done
        };
        // Before what is held: watermarks of an idle output don't count.
        if let Some(idle) = operator.poll_idleness() {
            node.idle = idle;
            self.announce_idleness()?;
        }
        match held {
            Some(batch) => self.emit(index, &batch),
            None => Ok(()),
        }
    }

    fn deliver(&mut self, index: usize, delivery: Delivery) -> Result<(), TaskError> {
        let node = &mut self.nodes[index];
        match (delivery, &mut node.body) {
            (Delivery::Batch { batch, .. }, Body::Source) => self.emit(index, &batch)?,
            (Delivery::Batch { input, batch }, Body::Operator(operator)) => {
                node.counters.records_in.add(batch.num_rows());
                operator.push(input, batch)?;
                node.drain = Drain::Output;
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
                        node.drain = Drain::Output;
                    }
                    Body::Sink(sink) if node.open_inputs == 0 => sink.end_input(),
                    Body::Sink(_) => {}
                }
            }
        }
        Ok(())
    }

    /// Passes a node's main output on, and its watermarks to the side outputs.
    fn emit(&mut self, index: usize, batch: &StreamBatch) -> Result<(), TaskError> {
        let rows = batch.num_rows();
        if rows == 0 && batch.watermarks.is_empty() {
            return Ok(());
        }
        self.nodes[index].counters.records_out.add(rows);
        let watermark = batch.watermarks.last().map(|cut| cut.timestamp_ms);
        self.nodes[index].watermark_ms = watermark.or(self.nodes[index].watermark_ms);
        self.pass_on(index, 0, batch)?;
        let Some(watermark) = watermark else { return Ok(()) };
        for side in 1..self.nodes[index].side_schemas.len() as u32 {
            if let Some(schema) = self.nodes[index].side_schema(side) {
                let batch = watermark_only(schema, watermark);
                self.pass_on(index, side, &batch)?;
            }
        }
        Ok(())
    }

    /// Passes a piece of a side output on. Its first rows tell its columns; before them its edges count as idle, because a
    /// watermark can't travel without columns.
    fn emit_side(&mut self, index: usize, side: u32, batch: &StreamBatch) -> Result<(), TaskError> {
        let node = &mut self.nodes[index];
        node.counters.records_out.add(batch.num_rows());
        if node.learn_side_schema(side, batch.rows.schema()) {
            self.announce_idleness()?;
        }
        self.pass_on(index, side, batch)
    }

    /// Gives a batch of one output to everything behind it: the batch is shared, its columns are not copied.
    fn pass_on(&mut self, index: usize, side: u32, batch: &StreamBatch) -> Result<(), TaskError> {
        let Self {
            nodes, outputs, task, ..
        } = self;
        let (before, behind) = nodes.split_at_mut(index + 1);
        let node = &before[index];
        if self.may_overdraw {
            self.overdrawn_bytes += batch.memory_size() * node.outputs.len();
        }
        for &(output, _) in node.outputs.iter().filter(|(_, of)| *of == side) {
            task.records_out.add(batch.num_rows());
            task.batches_out.add(1);
            outputs[output].write(batch.clone())?;
        }
        for child in node.children.iter().filter(|child| child.side == side) {
            behind[child.node - index - 1].inbox = Some(Delivery::Batch {
                input: child.input,
                batch: batch.clone(),
            });
        }
        Ok(())
    }

    /// Every input of the node has ended and it has given everything. What is behind the chain hears of it when all of it
    /// has ended, see [`Self::end_outputs`].
    fn end(&mut self, index: usize) {
        let (before, behind) = self.nodes.split_at_mut(index + 1);
        let node = &mut before[index];
        node.ended = true;
        for child in &node.children {
            behind[child.node - index - 1].inbox = Some(Delivery::End { input: child.input });
        }
    }

    /// Tells each edge whether what is before it is idle, if that has changed.
    fn announce_idleness(&mut self) -> Result<(), TaskError> {
        for output in 0..self.outputs.len() {
            let idle = self.is_idle(output);
            if std::mem::replace(&mut self.idle_outputs[output], idle) != idle {
                let element = if idle {
                    StreamElement::Idle
                } else {
                    StreamElement::Active
                };
                self.outputs[output].broadcast(&element)?;
            }
        }
        Ok(())
    }

    fn is_idle(&self, output: usize) -> bool {
        let (source, side) = self.sources[output];
        if self.idle_input || (side > 0 && self.nodes[source].side_schema(side).is_none()) {
            return true;
        }
        self.is_idle_from(source)
    }

    /// Whether a node, or one before it, says that it is idle.
    fn is_idle_from(&self, node: usize) -> bool {
        let mut place = Some(node);
        while let Some(index) = place {
            if self.nodes[index].idle {
                return true;
            }
            place = self.parents[index];
        }
        false
    }
}
