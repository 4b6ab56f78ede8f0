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
//!
//! A barrier leaves here when it has come on every channel that has not ended ([`BarrierAligner`]); one from the mailbox when
//! every channel has ended. Where barriers may overtake, it leaves as soon as one channel's can be seen or the alignment
//! takes too long; an [`InputEvent::Recorded`] follows when all have been seen. A barrier whose time-out is over when it is seen
//! overtakes at once: with full backpressure it would come to the head of its channel too late, or never. The end of a channel
//! stands for the barrier that its finished producer does not send: it is looked for in the same way, and where all have finished, a
//! barrier from the mailbox overtakes as well.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use thalweg_connectors::Gauge;
use thalweg_exchange::{ChannelCounters, InputGate};
use thalweg_proto::control::v1::CheckpointFailureReason;
use thalweg_proto::state::v1::SnapshotKind;
use thalweg_types::element::CheckpointBarrier;
use thalweg_types::{StreamBatch, StreamElement};

use crate::checkpoint::alignment::{BarrierAligner, Step};
use crate::checkpoint::barrier::{AlignedBarrier, Barrier, age_ms};
use crate::checkpoint::channels::Recording;
use crate::clock::Clock;
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
    /// One of several logical inputs became idle (`true`) or active.
    InputIdle {
        /// Which.
        input: usize,
        /// Whether it is.
        idle: bool,
    },
    /// The whole input became idle (`true`) or active.
    Idle(bool),
    /// A checkpoint's barrier, behind all that belongs to the checkpoint.
    Barrier(AlignedBarrier),
    /// What a barrier had overtaken, complete: it has come on every channel now.
    Recorded(Recording),
    /// A checkpoint whose barrier came on some channels will not complete here.
    GivenUp {
        /// Which.
        checkpoint_id: u64,
        /// Why.
        cause: GivenUpCause,
    },
    /// A latency marker, to be passed on.
    Latency {
        /// Which source.
        source: Arc<str>,
        /// When it left.
        emitted_ms: u64,
    },
}

/// Why a checkpoint whose barrier came will not complete here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GivenUpCause {
    #[error("a newer one's barrier came first")]
    Subsumed,
    #[error("more elements are under way than a checkpoint may hold")]
    TooMuchUnderWay,
}

impl GivenUpCause {
    /// As the coordinator is told.
    pub(crate) fn reason(self) -> CheckpointFailureReason {
        match self {
            Self::Subsumed => CheckpointFailureReason::Subsumed,
            Self::TooMuchUnderWay => CheckpointFailureReason::Declined,
        }
    }
}

impl InputEvent {
    /// Whether it says something of any checkpoint.
    fn is_of_some_checkpoint(&self) -> bool {
        matches!(self, Self::Barrier(_) | Self::Recorded(_) | Self::GivenUp { .. })
    }

    /// Whether it says something of this checkpoint.
    pub(crate) fn is_of_checkpoint(&self, id: u64) -> bool {
        match self {
            Self::Barrier(aligned) => aligned.barrier.id == id,
            Self::Recorded(recording) => recording.checkpoint_id == id,
            Self::GivenUp { checkpoint_id, .. } => *checkpoint_id == id,
            _ => false,
        }
    }
}

/// The input of a chain.
pub(crate) enum Input {
    Source(SourceInput),
    Gate(Box<GateInput>),
}

impl Input {
    /// The next event. Nothing comes after every logical input has ended.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<InputEvent, TaskError>> {
        match self {
            Self::Source(source) => source.poll_next(cx),
            Self::Gate(gate) => gate.poll_next(cx),
        }
    }

    /// Puts a barrier in: at a source behind what its reader gave, else behind the end of all channels.
    pub(crate) fn trigger(&mut self, barrier: Barrier, now_ms: i64) {
        match self {
            Self::Source(source) => source.trigger(AlignedBarrier::at_once(barrier, now_ms)),
            Self::Gate(gate) => {
                gate.triggers.push_back(barrier);
                gate.barriers_seen = u64::MAX;
            }
        }
    }

    /// A barrier that may be taken without room for rows: a source's.
    pub(crate) fn take_barrier(&mut self) -> Option<AlignedBarrier> {
        match self {
            Self::Source(source) => source.take_barrier(),
            Self::Gate(_) => None,
        }
    }

    /// Whether events are there that a checkpoint waits for, and that must not wait for room; else the waker is registered for them.
    pub(crate) fn poll_urgent(&mut self, cx: &Context<'_>) -> Result<bool, TaskError> {
        match self {
            Self::Source(source) => Ok(source.has_urgent()),
            Self::Gate(gate) => gate.poll_urgent(cx),
        }
    }

    /// Whether an event is there although all input has ended: a barrier.
    pub(crate) fn has_queued(&mut self) -> bool {
        match self {
            Self::Source(source) => source.has_queued(),
            Self::Gate(gate) => gate.has_queued(),
        }
    }

    /// When [`Self::poll_next`] has something to do by the clock.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        match self {
            Self::Source(_) => None,
            Self::Gate(gate) => gate.next_deadline(),
        }
    }

    /// The coordinator gave a checkpoint up.
    pub(crate) fn abort(&mut self, checkpoint_id: u64) {
        match self {
            Self::Source(source) => source.abort(checkpoint_id),
            Self::Gate(gate) => gate.abort(checkpoint_id),
        }
    }

    /// A source's splits; `None` for channels.
    pub(crate) fn snapshot(&mut self, checkpoint_id: u64) -> Result<Option<Vec<Vec<u8>>>, TaskError> {
        match self {
            Self::Source(source) => source.snapshot(checkpoint_id).map(Some),
            Self::Gate(_) => Ok(None),
        }
    }

    /// Tells a source's reader how a checkpoint ended.
    pub(crate) fn on_checkpoint_end(&mut self, checkpoint_id: u64, completed: bool) -> Result<(), TaskError> {
        match self {
            Self::Source(source) => source.on_checkpoint_end(checkpoint_id, completed),
            Self::Gate(_) => Ok(()),
        }
    }

    /// Behind the end of a source: whether it waits for a checkpoint that holds the end.
    pub(crate) fn awaits_checkpoint(&self) -> bool {
        match self {
            Self::Source(source) => source.awaits_checkpoint(),
            Self::Gate(_) => false,
        }
    }

    /// Before the task ends: ready when a source's reader has done outside what complete checkpoints allowed.
    pub(crate) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Source(source) => source.poll_close(cx),
            Self::Gate(_) => Poll::Ready(()),
        }
    }

    /// What a source's reader shows.
    pub(crate) fn gauges(&self) -> Option<Vec<Gauge>> {
        match self {
            Self::Source(source) => Some(source.gauges()),
            Self::Gate(_) => None,
        }
    }

    /// Watermark alignment: a source's reader is asked no more, or again.
    pub(crate) fn set_paused(&mut self, paused: bool) {
        if let Self::Source(source) = self {
            source.set_paused(paused);
        }
    }

    /// Watermark alignment split by split; false if a source's reader can't.
    pub(crate) fn align_splits(&mut self, max_watermark_ms: i64) -> bool {
        match self {
            Self::Source(source) => source.align_splits(max_watermark_ms),
            Self::Gate(_) => true,
        }
    }

    /// Where the last batch, of so many rows, came from, in words.
    pub(crate) fn position(&self, rows: usize) -> Option<String> {
        match self {
            Self::Source(source) => source.position(),
            Self::Gate(gate) => Some(format!(
                "{rows} rows from {}",
                gate.senders.get(gate.last_channel)?
            )),
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
    /// Of each channel, in words.
    senders: Vec<String>,
    /// That the last element came over.
    last_channel: usize,
    counters: Vec<Arc<ChannelCounters>>,
    inputs: LogicalInputs,
    aligner: BarrierAligner,
    /// The checkpoints under way, by id; the aligner bounds them.
    alignments: BTreeMap<u64, Alignment>,
    /// From the mailbox, for when every channel has ended; the mailbox bounds them.
    triggers: VecDeque<Barrier>,
    /// What the checkpoint that overtook still has to get.
    recording: Option<Recording>,
    /// Whether barriers may overtake on these channels.
    may_overtake: bool,
    /// Of [`InputGate::barriers`] when channels were last looked through.
    barriers_seen: u64,
    /// When a barrier that was seen then will have waited too long.
    announced: Option<Instant>,
    /// What barriers had overtaken when the checkpoint was taken that the task starts with: comes before everything else.
    restored: VecDeque<(usize, StreamBatch)>,
    clock: Clock,
}

/// A checkpoint whose barrier has come on some channels.
struct Alignment {
    barrier: Barrier,
    began: Instant,
    start_delay_ms: u64,
    bytes_before: u64,
}

impl GateInput {
    /// `channels[i]` is the logical input of the gate's channel `i`.
    pub(crate) fn new(
        task: Arc<str>,
        gate: InputGate,
        channels: &[usize],
        senders: Vec<String>,
        may_overtake: bool,
        clock: Clock,
    ) -> Self {
        let counters = (0..gate.num_channels())
            .map(|channel| gate.counters(channel))
            .collect();
        Self {
            task,
            gate,
            senders,
            last_channel: 0,
            counters,
            inputs: LogicalInputs::new(channels),
            aligner: BarrierAligner::new(channels.len()),
            alignments: BTreeMap::new(),
            triggers: VecDeque::new(),
            recording: None,
            may_overtake,
            barriers_seen: 0,
            announced: None,
            restored: VecDeque::new(),
            clock,
        }
    }

    /// Puts elements before everything else that comes on a channel.
    pub(crate) fn restore(&mut self, elements: Vec<(usize, StreamBatch)>) {
        self.restored = elements.into();
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
            if let Some((channel, batch)) = self.restored.pop_front() {
                self.last_channel = channel;
                self.inputs.take(channel, StreamElement::Batch(batch));
                continue;
            }
            self.overtake_late()?;
            if !self.inputs.queued.is_empty() {
                continue;
            }
            match ready!(self.gate.poll_next(cx))? {
                Some((channel, StreamElement::Barrier(barrier))) => self.take_barrier(channel, &barrier)?,
                Some((channel, StreamElement::EndOfInput)) => {
                    self.inputs.take(channel, StreamElement::EndOfInput);
                    let step = self.aligner.ended(channel);
                    self.follow(step);
                }
                Some((channel, element)) => {
                    self.last_channel = channel;
                    self.record(channel, &element);
                    self.inputs.take(channel, element);
                }
                None if self.inputs.end_all() => {}
                None => match self.triggers.pop_front() {
                    None => return Poll::Pending,
                    Some(barrier) if self.aligner.take(barrier.id) => {
                        let barrier = AlignedBarrier::at_once(barrier, self.clock.now_ms());
                        return Poll::Ready(Ok(InputEvent::Barrier(barrier)));
                    }
                    Some(_) => {}
                },
            }
        }
    }

    fn read_barrier(&self, element: &CheckpointBarrier) -> Result<Barrier, TaskError> {
        let id = element.checkpoint_id;
        if let Some(alignment) = self.alignments.get(&id) {
            return Ok(alignment.barrier.clone());
        }
        Barrier::read(element).map_err(|source| TaskError::MalformedBarrier {
            task: self.task.to_string(),
            checkpoint_id: id,
            source,
        })
    }

    fn take_barrier(&mut self, channel: usize, element: &CheckpointBarrier) -> Result<(), TaskError> {
        let id = element.checkpoint_id;
        let barrier = self.read_barrier(element)?;
        let step = self.aligner.barrier(channel, id, !barrier.options.at_least_once);
        let overtake = step.started.is_some() && barrier.options.unaligned && self.may_overtake(&barrier);
        self.start_alignment(&step, barrier);
        self.follow(step);
        if overtake {
            self.overtake(id);
        }
        Ok(())
    }

    fn start_alignment(&mut self, step: &Step, barrier: Barrier) {
        if let Some(id) = step.started {
            let alignment = Alignment {
                start_delay_ms: age_ms(&barrier, self.clock.now_ms()),
                began: Instant::now(),
                bytes_before: self.bytes_in(),
                barrier,
            };
            self.alignments.insert(id, alignment);
        }
    }

    /// See [`Input::poll_urgent`].
    fn poll_urgent(&mut self, cx: &Context<'_>) -> Result<bool, TaskError> {
        if !self.may_overtake {
            return Ok(false);
        }
        self.gate.register(cx);
        self.overtake_late()?;
        Ok(self.inputs.queued.iter().any(InputEvent::is_of_some_checkpoint))
    }

    fn next_deadline(&self) -> Option<Instant> {
        let alignment = self.alignment_timeout().map(|(due, _)| due);
        alignment.into_iter().chain(self.announced).min()
    }

    /// Lets the checkpoint overtake whose time has come, and those whose barriers can be seen.
    fn overtake_late(&mut self) -> Result<(), TaskError> {
        if let Some((due, id)) = self.alignment_timeout()
            && due <= Instant::now()
        {
            self.overtake(id);
        }
        self.look_ahead()
    }

    /// Barriers that overtake are acted on while they still lie behind other elements, which are copied: so a checkpoint
    /// waits for nothing that is to be worked off. Barriers that have overtaken stay where they are until they are taken; a later
    /// checkpoint's, behind one of those, overtakes too; behind one that must not it waits.
    fn look_ahead(&mut self) -> Result<(), TaskError> {
        let seen = self.gate.barriers();
        let is_due = self.announced.take_if(|due| *due <= Instant::now()).is_some();
        if !self.may_overtake || (std::mem::replace(&mut self.barriers_seen, seen) == seen && !is_due) {
            return Ok(());
        }
        self.announced = None;
        self.begin_triggered();
        for channel in 0..self.gate.num_channels() {
            for element in self.gate.peek_barriers(channel)? {
                if !self.announce_barrier(channel, &element)? {
                    break;
                }
            }
        }
        self.announce_ends()
    }

    /// Nobody is left who would send these barriers; what was given lies in the channels, or is on its way.
    fn begin_triggered(&mut self) {
        while let Some(barrier) = self.triggers.front().cloned() {
            let id = barrier.id;
            if self.aligner.is_fresh(id) {
                if !self.aligner.has_open_channels() || !self.may_overtake(&barrier) {
                    return;
                }
                match self.aligned_for_ms(&barrier) {
                    Some(0) => {}
                    left_ms => return self.look_again_in(left_ms),
                }
                let step = self.aligner.begin(id, true);
                self.start_alignment(&step, barrier);
                self.follow(step);
                self.overtake(id);
            }
            self.triggers.pop_front();
        }
    }

    fn look_again_in(&mut self, left_ms: Option<u64>) {
        let due = left_ms.map(|left| Instant::now() + Duration::from_millis(left));
        self.announced = self.announced.into_iter().chain(due).min();
    }

    /// The end of a channel is as good as the barrier of the checkpoint that overtakes: what lies before it is overtaken.
    fn announce_ends(&mut self) -> Result<(), TaskError> {
        let Some(id) = self.recording.as_ref().map(|recording| recording.checkpoint_id) else {
            return Ok(());
        };
        let is_its = |element: &StreamElement| matches!(element, StreamElement::Barrier(barrier) if barrier.checkpoint_id == id);
        for channel in 0..self.gate.num_channels() {
            if !self.aligner.misses(id, channel) {
                continue;
            }
            let queued = self.gate.peek_to_end(channel)?;
            // Its barrier may have come in since barriers were looked for: the next look finds that.
            for elements in queued.into_iter().filter(|elements| !elements.iter().any(is_its)) {
                for element in &elements {
                    self.record(channel, element);
                }
                let step = self.aligner.barrier(channel, id, true);
                self.follow(step);
            }
        }
        Ok(())
    }

    /// A barrier lies in a channel, with elements before it; whether those behind it may overtake.
    fn announce_barrier(&mut self, channel: usize, element: &CheckpointBarrier) -> Result<bool, TaskError> {
        let id = element.checkpoint_id;
        if !self.aligner.is_fresh(id) {
            return Ok(true);
        }
        let barrier = self.read_barrier(element)?;
        if !self.may_overtake(&barrier) {
            return Ok(false);
        }
        let left_ms = self.aligned_for_ms(&barrier);
        if left_ms > Some(0) && !self.is_recording(id) {
            self.look_again_in(left_ms);
        }
        if left_ms != Some(0) && !self.is_recording(id) {
            return Ok(true);
        }
        let step = self.aligner.begin(id, true);
        self.start_alignment(&step, barrier);
        self.follow(step);
        self.overtake(id);
        if self.is_recording(id) && self.aligner.misses(id, channel) {
            for element in self.gate.peek_to_barrier(channel, id)? {
                self.record(channel, &element);
            }
            let step = self.aligner.barrier(channel, id, true);
            self.follow(step);
        }
        Ok(true)
    }

    /// How long a barrier that may overtake is still to be aligned: its time-out counts from its trigger, as Flink's. None = always.
    fn aligned_for_ms(&self, barrier: &Barrier) -> Option<u64> {
        match barrier.options.alignment_timeout_ms {
            _ if barrier.options.unaligned => Some(0),
            0 => None,
            timeout => Some(timeout.saturating_sub(age_ms(barrier, self.clock.now_ms()))),
        }
    }

    /// When the checkpoint that is being aligned shall overtake, if it may.
    fn alignment_timeout(&self) -> Option<(Instant, u64)> {
        let (&id, alignment) = self.alignments.last_key_value()?;
        let timeout = Duration::from_millis(alignment.barrier.options.alignment_timeout_ms);
        let waits = self.may_overtake(&alignment.barrier) && !timeout.is_zero() && !self.is_recording(id);
        waits.then(|| (alignment.began + timeout, id))
    }

    /// Savepoints never do: they are to be restored with any parallelism, by any version.
    fn may_overtake(&self, barrier: &Barrier) -> bool {
        self.may_overtake && !barrier.options.at_least_once && barrier.kind() != SnapshotKind::Savepoint
    }

    fn is_recording(&self, id: u64) -> bool {
        self.recording
            .as_ref()
            .is_some_and(|recording| recording.checkpoint_id == id)
    }

    /// The snapshot is to be taken now; what the other channels bring before their barriers belongs to it.
    fn overtake(&mut self, id: u64) {
        if self.is_recording(id) {
            return;
        }
        if !self.aligner.overtake(id) {
            return self.forget(id);
        }
        // Others may lie in their channels already.
        self.barriers_seen = u64::MAX;
        self.gate.resume_consumption();
        self.recording = Some(Recording::new(id));
        let event = self.aligned(id).map(|barrier| AlignedBarrier {
            overtook: true,
            ..barrier
        });
        self.inputs.queued.extend(event.map(InputEvent::Barrier));
        // What an earlier checkpoint's barrier had overtaken and was not taken yet comes before all that lies in the channels.
        for (channel, batch) in self.restored.clone() {
            self.record(channel, &StreamElement::Batch(batch));
        }
    }

    fn record(&mut self, channel: usize, element: &StreamElement) {
        let Some(recording) = &mut self.recording else {
            return;
        };
        let id = recording.checkpoint_id;
        if let StreamElement::Batch(batch) = element
            && self.aligner.misses(id, channel)
            && !recording.add(channel, batch)
        {
            self.abort(id);
            self.inputs.queued.push_back(InputEvent::GivenUp {
                checkpoint_id: id,
                cause: GivenUpCause::TooMuchUnderWay,
            });
        }
    }

    fn aligned(&self, id: u64) -> Option<AlignedBarrier> {
        let alignment = self.alignments.get(&id)?;
        Some(AlignedBarrier {
            barrier: alignment.barrier.clone(),
            alignment: alignment.began.elapsed(),
            start_delay_ms: alignment.start_delay_ms,
            processed_bytes: self.bytes_in().saturating_sub(alignment.bytes_before),
            overtook: false,
        })
    }

    fn has_queued(&mut self) -> bool {
        self.triggers.retain(|barrier| self.aligner.is_fresh(barrier.id));
        !self.inputs.queued.is_empty() || !self.triggers.is_empty()
    }

    fn abort(&mut self, checkpoint_id: u64) {
        self.triggers.retain(|barrier| barrier.id != checkpoint_id);
        self.inputs
            .queued
            .retain(|event| !event.is_of_checkpoint(checkpoint_id));
        self.forget(checkpoint_id);
        let step = self.aligner.abort(checkpoint_id);
        self.follow(step);
    }

    fn forget(&mut self, checkpoint_id: u64) {
        self.alignments.remove(&checkpoint_id);
        self.recording
            .take_if(|recording| recording.checkpoint_id == checkpoint_id);
    }

    fn follow(&mut self, step: Step) {
        for checkpoint_id in step.subsumed {
            self.forget(checkpoint_id);
            self.inputs.queued.push_back(InputEvent::GivenUp {
                checkpoint_id,
                cause: GivenUpCause::Subsumed,
            });
        }
        if step.resume {
            self.gate.resume_consumption();
        }
        if let Some(channel) = step.block {
            self.gate.block_consumption(channel);
        }
        for id in step.complete {
            let event = match self.recording.take_if(|recording| recording.checkpoint_id == id) {
                Some(recording) => Some(InputEvent::Recorded(recording)),
                None => self.aligned(id).map(InputEvent::Barrier),
            };
            self.alignments.remove(&id);
            self.inputs.queued.extend(event);
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
        if let Some(idle) = output.idle
            && self.inputs.len() > 1
            && !ended
        {
            self.queued.push_back(InputEvent::InputIdle { input, idle });
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
