//! What comes into the head of a chain: a source's reader, or the channels of an input gate.
//!
//! ```text
//!   channel 0 -+                  +-> logical input 0: valve 0 -+
//!   channel 1 -+-> InputGate -> by edge                         +-> InputEvent -> head of the chain
//!   channel 2 -+                  +-> logical input 1: valve 1 -+
//! ```
//!
//! Several edges on one logical input are a union. A batch's watermarks leave here combined over the channels of its logical
//! input; an operator with two inputs combines the two itself. The combined input is idle when each of its logical inputs is.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use arrow::datatypes::SchemaRef;
use thalweg_connectors::Gauge;
use thalweg_exchange::{ChannelCounters, InputGate};
use thalweg_types::{StreamBatch, StreamElement};

use crate::error::TaskError;
use crate::source::{SourceInput, watermark_only};
use crate::watermark_valve::{ValveOutput, WatermarkValve};

/// What a chain's head gets.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are batches; a box would cost an allocation for each"
)]
pub(crate) enum InputEvent {
    /// Rows of a logical input, with combined watermarks.
    Batch {
        /// Which.
        input: usize,
        /// The rows.
        batch: StreamBatch,
    },
    /// A logical input has ended.
    End {
        /// Which.
        input: usize,
    },
    /// The whole input became idle (`true`) or active.
    Idle(bool),
    /// A latency marker, to be passed on.
    Latency {
        /// Which source.
        source: Arc<str>,
        /// When it left.
        emitted_ms: u64,
    },
}

/// The input of a chain.
pub(crate) enum Input {
    Source(SourceInput),
    Gate(GateInput),
}

impl Input {
    /// The next event. Nothing comes after every logical input has ended.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<InputEvent, TaskError>> {
        match self {
            Self::Source(source) => source.poll_next(cx),
            Self::Gate(gate) => gate.poll_next(cx),
        }
    }

    /// What a source's reader shows.
    pub(crate) fn gauges(&self) -> Option<Vec<Gauge>> {
        match self {
            Self::Source(source) => Some(source.gauges()),
            Self::Gate(_) => None,
        }
    }

    /// Bytes that came in over channels so far.
    pub(crate) fn bytes_in(&self) -> u64 {
        match self {
            Self::Source(_) => 0,
            Self::Gate(gate) => gate.bytes_in(),
        }
    }
}

/// An input gate with its channels sorted into logical inputs.
pub(crate) struct GateInput {
    task: Arc<str>,
    gate: InputGate,
    counters: Vec<Arc<ChannelCounters>>,
    inputs: LogicalInputs,
}

impl GateInput {
    /// `channels[i]` is the logical input of the gate's channel `i`.
    pub(crate) fn new(task: Arc<str>, gate: InputGate, channels: &[usize]) -> Self {
        let counters = (0..gate.num_channels())
            .map(|channel| gate.counters(channel))
            .collect();
        Self {
            task,
            gate,
            counters,
            inputs: LogicalInputs::new(channels),
        }
    }

    fn bytes_in(&self) -> u64 {
        self.counters
            .iter()
            .map(|channel| channel.bytes.load(Ordering::Relaxed))
            .sum()
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<InputEvent, TaskError>> {
        loop {
            if let Some(event) = self.inputs.queued.pop_front() {
                return Poll::Ready(Ok(event));
            }
            match ready!(self.gate.poll_next(cx))? {
                Some((_, StreamElement::Barrier(barrier))) => {
                    return Poll::Ready(Err(TaskError::UnexpectedBarrier {
                        task: self.task.to_string(),
                        checkpoint_id: barrier.checkpoint_id,
                    }));
                }
                Some((channel, element)) => self.inputs.take(channel, element),
                None if self.inputs.end_all() => {}
                None => return Poll::Pending,
            }
        }
    }
}

struct LogicalInput {
    valve: WatermarkValve,
    schema: Option<SchemaRef>,
    ended: bool,
}

/// Turns elements of channels into events of logical inputs. No I/O.
struct LogicalInputs {
    /// Of each channel: its logical input and its place in that input's valve.
    places: Vec<(usize, usize)>,
    inputs: Vec<LogicalInput>,
    idle: bool,
    /// What the last element brings: a few events at most.
    queued: VecDeque<InputEvent>,
}

impl LogicalInputs {
    fn new(channels: &[usize]) -> Self {
        let mut widths = vec![0; channels.iter().max().map_or(0, |last| last + 1)];
        let mut places = Vec::with_capacity(channels.len());
        for &input in channels {
            places.push((input, widths[input]));
            widths[input] += 1;
        }
        let inputs = widths
            .into_iter()
            .map(|width| LogicalInput {
                valve: WatermarkValve::new(width),
                schema: None,
                ended: false,
            })
            .collect();
        Self {
            places,
            inputs,
            idle: false,
            queued: VecDeque::new(),
        }
    }

    /// Takes one element; barriers do not come here.
    fn take(&mut self, channel: usize, element: StreamElement) {
        let (input, place) = self.places[channel];
        let output = match element {
            StreamElement::Batch(batch) => return self.take_batch(input, place, batch),
            StreamElement::LatencyMarker { source, emitted_ms } => {
                return self.queued.push_back(InputEvent::Latency { source, emitted_ms });
            }
            StreamElement::Idle => self.inputs[input].valve.mark_idle(place),
            StreamElement::Active => self.inputs[input].valve.mark_active(place),
            StreamElement::EndOfInput => self.inputs[input].valve.mark_ended(place),
            StreamElement::Barrier(_) => ValveOutput::default(),
        };
        self.announce(input, output);
    }

    /// Every channel has ended; false if that was known.
    fn end_all(&mut self) -> bool {
        let open: Vec<usize> = (0..self.places.len())
            .filter(|&channel| {
                let (input, _) = self.places[channel];
                !self.inputs[input].ended
            })
            .collect();
        for &channel in &open {
            self.take(channel, StreamElement::EndOfInput);
        }
        !open.is_empty()
    }

    fn take_batch(&mut self, input: usize, place: usize, mut batch: StreamBatch) {
        let state = &mut self.inputs[input];
        batch
            .watermarks
            .retain_mut(|cut| match state.valve.advance(place, cut.timestamp_ms) {
                Some(combined) => {
                    cut.timestamp_ms = combined;
                    true
                }
                None => false,
            });
        if state.schema.is_none() {
            state.schema = Some(batch.rows.schema());
        }
        if batch.num_rows() > 0 || !batch.watermarks.is_empty() {
            self.queued.push_back(InputEvent::Batch { input, batch });
        }
    }

    fn announce(&mut self, input: usize, output: ValveOutput) {
        let state = &mut self.inputs[input];
        // A watermark can't advance before a batch brought one, so the schema is known by then.
        if let (Some(timestamp_ms), Some(schema)) = (output.watermark, &state.schema) {
            let batch = watermark_only(schema, timestamp_ms);
            self.queued.push_back(InputEvent::Batch { input, batch });
        }
        let ended = !state.ended && state.valve.has_ended();
        state.ended |= ended;
        // What the end lets out belongs before idleness.
        if ended {
            self.queued.push_back(InputEvent::End { input });
        }
        let mut open = self.inputs.iter().filter(|state| !state.ended).peekable();
        let all_ended = open.peek().is_none();
        let idle = !all_ended && open.all(|state| state.valve.is_idle());
        let changed = std::mem::replace(&mut self.idle, idle) != idle;
        if changed && !all_ended {
            self.queued.push_back(InputEvent::Idle(idle));
        }
    }
}

#[cfg(test)]
mod tests;
