//! When a checkpoint's barrier has come on every channel. Pure: facts in, steps out.
//!
//! ```text
//!   channel 0 --rows--|1|--- blocked
//!   channel 1 --rows-------|1|--> complete: all channels go on; an ended channel counts as if its barrier had come
//!   channel 2 --end
//! ```
//!
//! Exactly once: a channel whose barrier has come is blocked, one checkpoint is aligned at a time, and a newer one's barrier
//! gives the older up. At least once: nothing is blocked, several may be under way. Flink's SingleCheckpointBarrierHandler and
//! CheckpointBarrierTracker. A checkpoint that was let overtake blocks nothing either: its snapshot is taken, and what comes on
//! the channels whose barrier is missing belongs to it until they have brought it.
//!
//! Invariants: each checkpoint completes or is given up once; its later barriers are ignored; a channel is blocked only
//! while the checkpoint under way has its barrier.

use std::collections::{BTreeMap, BTreeSet};

/// Checkpoints that may be under way at a time; more give the oldest up. Flink's number.
const MOST_PENDING: usize = 50;

/// What follows from one fact, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// Its barrier came for the first time.
    pub(crate) started: Option<u64>,
    /// These will not complete, because of a newer one.
    pub(crate) subsumed: Vec<u64>,
    /// Every channel goes on.
    pub(crate) resume: bool,
    /// This channel waits.
    pub(crate) block: Option<usize>,
    /// Their barriers have come on every channel.
    pub(crate) complete: Vec<u64>,
}

#[derive(Debug)]
struct Pending {
    arrived: Vec<bool>,
    missing: usize,
    exactly_once: bool,
    /// Its snapshot is taken; nothing is blocked for it.
    overtook: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct BarrierAligner {
    ended: Vec<bool>,
    pending: BTreeMap<u64, Pending>,
    /// Nothing at or below this begins any more.
    done: u64,
    /// Given up before or while they were under way; above `done`.
    aborted: BTreeSet<u64>,
}

impl BarrierAligner {
    pub(crate) fn new(channels: usize) -> Self {
        Self {
            ended: vec![false; channels],
            pending: BTreeMap::new(),
            done: 0,
            aborted: BTreeSet::new(),
        }
    }

    /// A barrier came on a channel.
    pub(crate) fn barrier(&mut self, channel: usize, id: u64, exactly_once: bool) -> Step {
        let mut step = Step::default();
        if id <= self.done || self.ended[channel] {
            return step;
        }
        if self.aborted.contains(&id) {
            // This channel will not bring an older one's any more.
            if exactly_once {
                self.give_up_before(id, true, &mut step);
                self.finish(id);
            }
            return step;
        }
        if !self.pending.contains_key(&id) {
            self.start(id, exactly_once, &mut step);
        }
        let Some(pending) = self.pending.get_mut(&id) else {
            return step;
        };
        if !std::mem::replace(&mut pending.arrived[channel], true) {
            pending.missing -= 1;
        }
        if pending.missing > 0 {
            step.block = (pending.exactly_once && !pending.overtook).then_some(channel);
        }
        self.complete(&mut step);
        step
    }

    /// A channel has ended.
    pub(crate) fn ended(&mut self, channel: usize) -> Step {
        let mut step = Step::default();
        if std::mem::replace(&mut self.ended[channel], true) {
            return step;
        }
        for pending in self.pending.values_mut() {
            if !std::mem::replace(&mut pending.arrived[channel], true) {
                pending.missing -= 1;
            }
        }
        self.complete(&mut step);
        step
    }

    /// The coordinator gave a checkpoint up.
    pub(crate) fn abort(&mut self, id: u64) -> Step {
        let mut step = Step::default();
        if id <= self.done {
            return step;
        }
        self.aborted.insert(id);
        if self.aborted.len() > MOST_PENDING {
            self.aborted.pop_first();
        }
        step.resume = self
            .pending
            .remove(&id)
            .is_some_and(|pending| pending.exactly_once);
        step
    }

    /// A checkpoint's barrier was seen from afar: it begins before the barrier is here on any channel.
    pub(crate) fn begin(&mut self, id: u64, exactly_once: bool) -> Step {
        let mut step = Step::default();
        if self.is_fresh(id) && !self.pending.contains_key(&id) {
            self.start(id, exactly_once, &mut step);
        }
        step
    }

    /// Lets a checkpoint overtake what its missing channels still bring; false if it is not being aligned.
    pub(crate) fn overtake(&mut self, id: u64) -> bool {
        let pending = self.pending.get_mut(&id).filter(|pending| pending.exactly_once);
        pending.is_some_and(|pending| !std::mem::replace(&mut pending.overtook, true))
    }

    /// Whether a checkpoint under way misses the barrier of this channel.
    pub(crate) fn misses(&self, id: u64, channel: usize) -> bool {
        let pending = self.pending.get(&id);
        pending.is_some_and(|pending| !pending.arrived[channel])
    }

    /// Whether a checkpoint is neither done with nor given up.
    pub(crate) fn is_fresh(&self, id: u64) -> bool {
        id > self.done && !self.aborted.contains(&id)
    }

    /// Whether a channel's end was not taken yet.
    pub(crate) fn has_open_channels(&self) -> bool {
        self.ended.contains(&false)
    }

    /// Marks a checkpoint that came another way as done; false if it is too late for it.
    pub(crate) fn take(&mut self, id: u64) -> bool {
        let fresh = self.is_fresh(id);
        if fresh {
            self.finish(id);
        }
        fresh
    }

    fn start(&mut self, id: u64, exactly_once: bool, step: &mut Step) {
        self.give_up_before(id, exactly_once, step);
        if exactly_once {
            self.done = self.done.max(id - 1);
            self.aborted = self.aborted.split_off(&id);
        }
        if self.pending.len() >= MOST_PENDING
            && let Some((oldest, _)) = self.pending.pop_first()
        {
            step.subsumed.push(oldest);
        }
        step.started = Some(id);
        let arrived = self.ended.clone();
        let missing = arrived.iter().filter(|arrived| !**arrived).count();
        self.pending.insert(
            id,
            Pending {
                arrived,
                missing,
                exactly_once,
                overtook: false,
            },
        );
    }

    fn give_up_before(&mut self, id: u64, all: bool, step: &mut Step) {
        let older = self.pending.range(..id);
        let older: Vec<u64> = older
            .filter(|(_, pending)| all || pending.exactly_once)
            .map(|(older, _)| *older)
            .collect();
        for older in older {
            step.resume |= self
                .pending
                .remove(&older)
                .is_some_and(|pending| pending.exactly_once);
            step.subsumed.push(older);
        }
    }

    fn complete(&mut self, step: &mut Step) {
        let complete = self.pending.iter().filter(|(_, pending)| pending.missing == 0);
        step.complete = complete.map(|(id, _)| *id).collect();
        let Some(&newest) = step.complete.last() else {
            return;
        };
        for id in &step.complete {
            step.resume |= self
                .pending
                .remove(id)
                .is_some_and(|pending| pending.exactly_once);
        }
        step.subsumed
            .extend(self.pending.range(..newest).map(|(id, _)| *id));
        self.finish(newest);
    }

    fn finish(&mut self, id: u64) {
        self.done = id;
        self.pending = self.pending.split_off(&(id + 1));
        self.aborted = self.aborted.split_off(&(id + 1));
    }
}

#[cfg(test)]
mod tests;
