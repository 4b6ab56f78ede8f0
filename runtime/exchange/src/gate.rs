//! The input of a task: many channels, read in turn, as they have something.
//!
//! Channels put themselves on a ready-list; the gate takes one off, takes one run of elements and puts the channel back
//! at the end if more is there. Small batches that lie behind each other in one channel come out as one.
//!
//! A channel whose barrier has come is blocked until the alignment is complete: its elements stay where they are, and
//! its producer runs out of credit.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use thalweg_types::element::CheckpointBarrier;
use thalweg_types::element::{TARGET_BATCH_BYTES, TARGET_BATCH_ROWS};
use thalweg_types::{StreamBatch, StreamElement};

use crate::channel::{ChannelCounters, ChannelId, ChannelReader};
use crate::coalesce::merge_batches;
use crate::error::ExchangeError;
use crate::memory::MemoryLease;
use crate::queue::MergeLimit;
use crate::ready::{ReadyList, ReadySlot};

#[derive(Debug)]
struct Channel {
    reader: ChannelReader,
    slot: Arc<ReadySlot>,
    ended: bool,
    blocked: bool,
    /// Was taken off the ready-list while it was blocked.
    parked: bool,
}

/// See the module.
#[derive(Debug)]
pub struct InputGate {
    channels: Vec<Channel>,
    ready: Arc<ReadyList>,
    /// Elements of one run that could not be merged.
    taken: VecDeque<(usize, StreamElement)>,
    run: Vec<StreamElement>,
    open: usize,
    limit: MergeLimit,
    _memory: MemoryLease,
}

impl InputGate {
    pub(crate) fn new(
        readers: Vec<(ChannelReader, Arc<ReadySlot>)>,
        ready: Arc<ReadyList>,
        memory: MemoryLease,
    ) -> Self {
        let channel = |(reader, slot)| Channel {
            reader,
            slot,
            ended: false,
            blocked: false,
            parked: false,
        };
        let channels: Vec<_> = readers.into_iter().map(channel).collect();
        Self {
            open: channels.len(),
            channels,
            ready,
            taken: VecDeque::new(),
            run: Vec::new(),
            limit: MergeLimit {
                rows: TARGET_BATCH_ROWS,
                bytes: TARGET_BATCH_BYTES,
            },
            _memory: memory,
        }
    }

    /// The next element and the index of its channel; `None` when every channel has ended. Each channel's
    /// [`StreamElement::EndOfInput`] comes out as well.
    ///
    /// # Errors
    /// A producer was lost before its end of input, was never found, or sent what can't be decoded. The gate is of no use
    /// afterwards.
    pub fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<(usize, StreamElement)>, ExchangeError>> {
        loop {
            if let Some(next) = self.taken.pop_front() {
                return Poll::Ready(Ok(Some(next)));
            }
            if self.open == 0 {
                return Poll::Ready(Ok(None));
            }
            let index = ready!(self.ready.poll_pop(cx)) as usize;
            self.visit(index)?;
        }
    }

    /// Leaves a channel's elements where they are until [`Self::resume_consumption`]. Flink's word, and its use: the
    /// channel's barrier has come and others are still to come.
    pub fn block_consumption(&mut self, index: usize) {
        self.channels[index].blocked = true;
    }

    /// Takes elements of all channels again.
    pub fn resume_consumption(&mut self) {
        for channel in &mut self.channels {
            channel.blocked = false;
            if std::mem::take(&mut channel.parked) {
                channel.slot.clear();
                channel.slot.notify();
            }
        }
    }

    /// How many barriers and ends of input have come in so far, taken or not: when it grows, [`Self::peek_barriers`] or
    /// [`Self::peek_to_end`] may find more.
    pub fn barriers(&self) -> u64 {
        self.ready.barriers()
    }

    /// Has the reader woken when a barrier comes in, or anything else, though it can't take anything now.
    pub fn register(&self, cx: &Context<'_>) {
        self.ready.register(cx.waker());
    }

    /// The barriers that lie in a channel, behind whatever else, in order; nothing is taken. For barriers that overtake.
    ///
    /// # Errors
    /// What lies there can't be decoded.
    pub fn peek_barriers(&self, index: usize) -> Result<Vec<CheckpointBarrier>, ExchangeError> {
        let channel = &self.channels[index];
        let mut elements: Vec<StreamElement> = self.taken_of(index).cloned().collect();
        if !channel.ended {
            elements.extend(channel.reader.peek_barriers()?);
        }
        let barrier = |element| match element {
            StreamElement::Barrier(barrier) => Some(barrier),
            _ => None,
        };
        Ok(elements.into_iter().filter_map(barrier).collect())
    }

    /// Copies of the elements before this checkpoint's barrier, without barriers before it; none if it isn't there.
    ///
    /// # Errors
    /// What lies there can't be decoded.
    pub fn peek_to_barrier(
        &self,
        index: usize,
        checkpoint_id: u64,
    ) -> Result<Vec<StreamElement>, ExchangeError> {
        let channel = &self.channels[index];
        let mut elements: Vec<StreamElement> = self.taken_of(index).cloned().collect();
        let is_it = |element: &StreamElement| matches!(element, StreamElement::Barrier(barrier) if barrier.checkpoint_id == checkpoint_id);
        match elements.iter().position(is_it) {
            Some(place) => elements.truncate(place),
            None if channel.ended => elements.clear(),
            None => match channel.reader.peek_to_barrier(checkpoint_id)? {
                Some(queued) => elements.extend(queued),
                None => elements.clear(),
            },
        }
        elements.retain(|element| !matches!(element, StreamElement::Barrier(_)));
        Ok(elements)
    }

    /// Copies of the elements before the end of a channel's input, barriers too; `None` if the end isn't there, or was taken.
    ///
    /// # Errors
    /// What lies there can't be decoded.
    pub fn peek_to_end(&self, index: usize) -> Result<Option<Vec<StreamElement>>, ExchangeError> {
        let channel = &self.channels[index];
        let mut elements: Vec<StreamElement> = self.taken_of(index).cloned().collect();
        if !channel.ended {
            let Some(queued) = channel.reader.peek_to_end()? else {
                return Ok(None);
            };
            elements.extend(queued);
        }
        let is_end = |element: &StreamElement| matches!(element, StreamElement::EndOfInput);
        let end = elements.iter().position(is_end);
        Ok(end.map(|end| {
            elements.truncate(end);
            elements
        }))
    }

    fn taken_of(&self, index: usize) -> impl Iterator<Item = &StreamElement> {
        let of_channel = self.taken.iter().filter(move |(channel, _)| *channel == index);
        of_channel.map(|(_, element)| element)
    }

    /// Number of channels.
    pub fn num_channels(&self) -> usize {
        self.channels.len()
    }

    /// Which channel has this index.
    pub fn channel_id(&self, index: usize) -> ChannelId {
        self.channels[index].reader.id()
    }

    /// Whether an element may be there right now. Flink's availability of an input.
    pub fn is_available(&self) -> bool {
        !self.taken.is_empty() || !self.ready.is_empty()
    }

    /// What came in on a channel, to be read from any thread.
    pub fn counters(&self, index: usize) -> Arc<ChannelCounters> {
        self.channels[index].reader.counters().clone()
    }

    fn visit(&mut self, index: usize) -> Result<(), ExchangeError> {
        let channel = &mut self.channels[index];
        if channel.blocked {
            channel.parked = true; // stays marked as listed: nobody else lists it
            return Ok(());
        }
        channel.slot.clear();
        if channel.ended {
            return Ok(());
        }
        let more = channel.reader.take(self.limit, &mut self.run)?;
        if more {
            channel.slot.notify();
        }
        if let [StreamElement::Batch(_), _, ..] = self.run.as_slice() {
            return self.merge(index);
        }
        for element in self.run.drain(..) {
            if matches!(element, StreamElement::EndOfInput) {
                channel.ended = true;
                self.open -= 1;
            }
            self.taken.push_back((index, element));
        }
        Ok(())
    }

    fn merge(&mut self, index: usize) -> Result<(), ExchangeError> {
        let batch = |element| match element {
            StreamElement::Batch(batch) => Some(batch),
            _ => None, // a run of several has batches only
        };
        let batches: Vec<StreamBatch> = self.run.drain(..).filter_map(batch).collect();
        let merged = merge_batches(batches).map_err(|source| ExchangeError::Rows {
            step: "merged",
            source: Arc::new(source),
        })?;
        self.taken.extend(
            merged
                .into_iter()
                .map(|batch| (index, StreamElement::Batch(batch))),
        );
        Ok(())
    }
}

impl Drop for InputGate {
    fn drop(&mut self) {
        for channel in self.channels.iter_mut().filter(|channel| !channel.ended) {
            channel.reader.close();
        }
    }
}
