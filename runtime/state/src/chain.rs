//! Which run files are a subtask's keyed state, and what the next checkpoint has to add to them.
//!
//! ```text
//!   barrier: begin(kind) --> full or only what changed --operator snapshots--> encoded, uploaded --> stored | failed
//!                                                                                                     |
//!   runs, oldest first:  [base][delta][delta]..[delta]      <-- the checkpoint refers to all up to its own
//!                        \__ merged in the background __/
//! ```
//!
//! [`RunChain`] decides and does no I/O. [`SubtaskChain`] is the handle that the task's thread and the uploads share.
//!
//! Invariants: a checkpoint is acknowledged only when all runs up to its own are stored; when a run is lost, the checkpoints
//! that need it fail and the next one is full; a savepoint leaves no run in the chain, and since the operator's changes
//! went into it the next checkpoint is full; runs are merged one merge at a time and only while they are neighbours.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use thalweg_proto::state::v1::{KeyedRun, OperatorRestore, SnapshotKind, StateFile};
use thalweg_types::KeyGroupRange;
use tokio::sync::Notify;

use crate::TableDescriptor;

/// From this many runs on the newest ones of like size are merged.
const MERGE_FROM: usize = 8;
/// From this many runs on all but the base are merged, whatever their sizes.
const MERGE_ALL_DELTAS_FROM: usize = 24;
/// A base below this size is merged with any deltas: rewriting it costs nothing.
const SMALL_BASE_BYTES: u64 = 256 << 10;

/// The runs of one operator subtask; see the module.
#[derive(Debug)]
pub struct RunChain {
    entries: Vec<Entry>,
    next_sequence: u64,
    next_full: bool,
    merging: bool,
}

#[derive(Debug)]
struct Entry {
    sequence: u64,
    /// Nothing older counts.
    full: bool,
    state: EntryState,
    /// Its checkpoint isn't acknowledged yet: it will ask what it may refer to.
    held: bool,
}

#[derive(Debug)]
enum EntryState {
    UnderWay,
    /// None: nothing had changed.
    Stored(Option<KeyedRun>),
    Lost,
}

/// What one checkpoint has to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotPlan {
    /// Its place in the chain; None for a savepoint, which has none.
    pub sequence: Option<u64>,
    /// All rows, not only what changed.
    pub full: bool,
}

/// What a checkpoint can refer to.
#[derive(Debug, Clone, PartialEq)]
pub enum ChainState {
    /// These runs, oldest first.
    Complete(Vec<KeyedRun>),
    /// An earlier run is still being written.
    Waiting,
    /// A run that it needs is lost.
    Broken,
}

/// Neighbouring runs that should become one.
#[derive(Debug, Clone, PartialEq)]
pub struct MergePlan {
    sequences: Vec<u64>,
    /// Oldest first.
    pub runs: Vec<KeyedRun>,
    /// Whether nothing older is behind them: then deletes need not be kept.
    pub with_base: bool,
}

impl MergePlan {
    fn of(runs: &[(u64, &KeyedRun)], with_base: bool) -> Self {
        Self {
            sequences: runs.iter().map(|(sequence, _)| *sequence).collect(),
            runs: runs.iter().map(|(_, run)| (*run).clone()).collect(),
            with_base,
        }
    }
}

impl Default for RunChain {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            next_sequence: 0,
            next_full: true,
            merging: false,
        }
    }
}

impl RunChain {
    /// The chain that restored runs are the begin of, oldest first: the next checkpoint may be incremental.
    pub fn restored(runs: Vec<KeyedRun>) -> Self {
        let mut chain = Self {
            next_full: false,
            ..Self::default()
        };
        for run in runs {
            let sequence = chain.push(false);
            chain.stored(sequence, Some(run));
            chain.release(sequence);
        }
        chain
    }

    /// What the snapshot of this kind has to write; to be called when its barrier is there, in the barriers' order.
    pub fn plan(&mut self, kind: SnapshotKind) -> SnapshotPlan {
        if kind == SnapshotKind::Savepoint {
            self.next_full = true;
            return SnapshotPlan {
                sequence: None,
                full: true,
            };
        }
        let full = self.next_full || kind == SnapshotKind::FullCheckpoint;
        self.next_full = false;
        SnapshotPlan {
            sequence: Some(self.push(full)),
            full,
        }
    }

    fn push(&mut self, full: bool) -> u64 {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.entries.push(Entry {
            sequence,
            full,
            state: EntryState::UnderWay,
            held: true,
        });
        sequence
    }

    /// The run of this place is written, or there was nothing to write.
    pub fn stored(&mut self, sequence: u64, run: Option<KeyedRun>) {
        if let Some(entry) = self.entry(sequence) {
            entry.state = EntryState::Stored(run);
        }
    }

    /// The checkpoint of this place is acknowledged or given up. Until then nothing that it needs is merged or dropped.
    pub fn release(&mut self, sequence: u64) {
        if let Some(entry) = self.entry(sequence) {
            entry.held = false;
        }
        self.forget();
    }

    /// The run of this place will never be there.
    pub fn failed(&mut self, sequence: u64) {
        if let Some(entry) = self.entry(sequence) {
            entry.state = EntryState::Lost;
        }
        if !self
            .entries
            .iter()
            .any(|entry| entry.sequence > sequence && entry.full)
        {
            self.next_full = true;
        }
        self.release(sequence);
    }

    /// What the checkpoint of this place, not yet released, can refer to now.
    pub fn state_at(&self, sequence: u64) -> ChainState {
        let upto = self.entries.partition_point(|entry| entry.sequence <= sequence);
        let from = self.entries[..upto]
            .iter()
            .rposition(|entry| entry.full)
            .unwrap_or(0);
        let mut runs = Vec::new();
        let mut waiting = false;
        for entry in &self.entries[from..upto] {
            match &entry.state {
                EntryState::UnderWay => waiting = true,
                EntryState::Stored(run) => runs.extend(run.clone()),
                EntryState::Lost => return ChainState::Broken,
            }
        }
        match waiting {
            true => ChainState::Waiting,
            false => ChainState::Complete(runs),
        }
    }

    /// Which runs to merge next, if any should be; then [`Self::merged`] or [`Self::merge_failed`] has to follow.
    pub fn plan_merge(&mut self) -> Option<MergePlan> {
        if self.merging {
            return None;
        }
        let stored: Vec<(u64, &KeyedRun)> = self.newest_stored();
        let sizes: Vec<u64> = stored.iter().map(|(_, run)| size_of(run)).collect();
        let from = first_to_merge(&sizes)?;
        let plan = MergePlan::of(&stored[from..], from == 0);
        self.merging = true;
        Some(plan)
    }

    /// The neighbouring runs, maybe only one, that have to be written anew for none of these to be referred to any more. As
    /// [`Self::plan_merge`].
    pub fn plan_rewrite(&mut self, unwanted: impl Fn(&KeyedRun) -> bool) -> Option<MergePlan> {
        if self.merging {
            return None;
        }
        let stored = self.newest_stored();
        let unwanted = |(_, run): &(u64, &KeyedRun)| unwanted(run);
        let (from, to) = (
            stored.iter().position(unwanted)?,
            stored.iter().rposition(unwanted)?,
        );
        let plan = MergePlan::of(&stored[from..=to], from == 0);
        self.merging = true;
        Some(plan)
    }

    /// The files of its runs that are parts of larger ones.
    pub(crate) fn segments(&self) -> Vec<StateFile> {
        let stored = self.entries.iter().filter_map(|entry| match &entry.state {
            EntryState::Stored(Some(run)) => run.file.as_ref(),
            _ => None,
        });
        stored.filter(|file| file.physical_size > 0).cloned().collect()
    }

    /// The runs from the newest full one on, as far as no checkpoint is under way.
    fn newest_stored(&self) -> Vec<(u64, &KeyedRun)> {
        let settled = &self.entries[..self.settled()];
        let from = settled.iter().rposition(|entry| entry.full).unwrap_or(0);
        settled[from..]
            .iter()
            .filter_map(|entry| match &entry.state {
                EntryState::Stored(Some(run)) => Some((entry.sequence, run)),
                _ => None,
            })
            .collect()
    }

    /// How many entries come before the first whose checkpoint is under way, or that was lost.
    fn settled(&self) -> usize {
        let unsettled = |entry: &Entry| entry.held || !matches!(entry.state, EntryState::Stored(_));
        self.entries
            .iter()
            .position(unsettled)
            .unwrap_or(self.entries.len())
    }

    /// Puts the merged run in the place of those it was made of; None if all their rows were deleted. False if they are
    /// no longer in use: then the merged run isn't either.
    pub fn merged(&mut self, plan: &MergePlan, run: Option<KeyedRun>) -> bool {
        self.merging = false;
        let (Some(first), Some(last)) = (plan.sequences.first(), plan.sequences.last()) else {
            return false;
        };
        let place = |wanted: &u64| self.entries.iter().position(|entry| entry.sequence == *wanted);
        let (Some(from), Some(to)) = (place(first), place(last)) else {
            return false;
        };
        // No checkpoint under way ends in between: such runs are not merged.
        let full = self.entries[from..=to].iter().any(|entry| entry.full);
        let merged = Entry {
            sequence: *last,
            full,
            state: EntryState::Stored(run),
            held: false,
        };
        self.entries.splice(from..=to, [merged]);
        true
    }

    /// The merge came to nothing; the runs stay as they are.
    pub fn merge_failed(&mut self) {
        self.merging = false;
    }

    fn entry(&mut self, sequence: u64) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.sequence == sequence)
    }

    /// Drops what no checkpoint under way or to come can need: all before a full one, and those in which nothing had changed.
    fn forget(&mut self) {
        let held = |entry: &Entry| entry.held;
        let free = self.entries.iter().position(held).unwrap_or(self.entries.len());
        if let Some(full) = self.entries[..free].iter().rposition(|entry| entry.full) {
            self.entries.drain(..full);
        }
        let settled = self.settled();
        let mut index = 0;
        self.entries.retain(|entry| {
            index += 1;
            let empty = matches!(entry.state, EntryState::Stored(None));
            // A full one that is empty says that what is before it doesn't count; at the begin there is nothing.
            let needed = entry.full && index > 1;
            index > settled || !empty || needed
        });
    }
}

/// The first run of those that should be merged with all newer ones, by their sizes.
fn first_to_merge(sizes: &[u64]) -> Option<usize> {
    let (base, deltas) = sizes.split_first()?;
    if deltas.is_empty() {
        return None;
    }
    let behind: u64 = deltas.iter().sum();
    let small = *base < SMALL_BASE_BYTES && sizes.len() >= MERGE_FROM;
    if small || behind > base / 2 && (sizes.len() >= MERGE_FROM || behind > *base) {
        return Some(0);
    }
    if sizes.len() >= MERGE_ALL_DELTAS_FROM {
        return Some(1);
    }
    // Runs of like size: as many of the newest as are not much larger than all newer ones together.
    let mut newer = 0;
    let mut from = sizes.len();
    while from > 1 && (sizes.len() - from < 2 || sizes[from - 1] <= 2 * newer) {
        from -= 1;
        newer += sizes[from];
    }
    (sizes.len() - from >= MERGE_FROM).then_some(from)
}

fn size_of(run: &KeyedRun) -> u64 {
    run.file.as_ref().map_or(0, |file| file.size)
}

/// A subtask's chain as the task's thread and the uploads share it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SubtaskChain(Arc<Shared>);

/// A chain that may be gone.
#[derive(Debug)]
pub(crate) struct WeakChain(Weak<Shared>);

impl WeakChain {
    pub(crate) fn upgrade(&self) -> Option<SubtaskChain> {
        self.0.upgrade().map(SubtaskChain)
    }

    pub(crate) fn is(&self, chain: &SubtaskChain) -> bool {
        std::ptr::eq(self.0.as_ptr(), Arc::as_ptr(&chain.0))
    }
}

#[derive(Debug)]
struct Shared {
    chain: Mutex<RunChain>,
    /// The tables that were ever in it, for metadata: an incremental snapshot may leave out those that didn't change.
    tables: Mutex<BTreeMap<String, Arc<TableDescriptor>>>,
    key_groups: KeyGroupRange,
    max_parallelism: u32,
    changed: Notify,
}

/// A snapshot's place in a chain. Dropped without having been written, it counts as failed.
#[derive(Debug)]
pub struct SnapshotTicket {
    chain: SubtaskChain,
    checkpoint_id: u64,
    plan: SnapshotPlan,
    done: bool,
}

/// A run that the snapshot needs is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainBroken;

impl SubtaskChain {
    /// For a subtask that starts empty, or with state that isn't its own runs: its first checkpoint is full.
    pub fn new(key_groups: KeyGroupRange, max_parallelism: u32) -> Self {
        Self::with_chain(key_groups, max_parallelism, RunChain::default())
    }

    /// For what a task is restored with.
    pub fn restored(restore: &OperatorRestore, key_groups: KeyGroupRange, max_parallelism: u32) -> Self {
        let chain = match restore.own_runs {
            true => {
                let runs = restore
                    .keyed
                    .iter()
                    .flat_map(|subtask| subtask.runs.iter().cloned());
                RunChain::restored(runs.collect())
            }
            false => RunChain::default(),
        };
        Self::with_chain(key_groups, max_parallelism, chain)
    }

    fn with_chain(key_groups: KeyGroupRange, max_parallelism: u32, chain: RunChain) -> Self {
        Self(Arc::new(Shared {
            chain: Mutex::new(chain),
            tables: Mutex::default(),
            key_groups,
            max_parallelism,
            changed: Notify::new(),
        }))
    }

    pub(crate) fn downgrade(&self) -> WeakChain {
        WeakChain(Arc::downgrade(&self.0))
    }

    /// The key groups of the subtask.
    pub fn key_groups(&self) -> KeyGroupRange {
        self.0.key_groups
    }

    /// The operator's number of key groups.
    pub fn max_parallelism(&self) -> u32 {
        self.0.max_parallelism
    }

    /// Takes the snapshot's place; to be called on the task's thread when the barrier is there.
    pub fn begin(&self, checkpoint_id: u64, kind: SnapshotKind) -> SnapshotTicket {
        SnapshotTicket {
            plan: self.chain().plan(kind),
            chain: self.clone(),
            checkpoint_id,
            done: false,
        }
    }

    pub(crate) fn chain(&self) -> MutexGuard<'_, RunChain> {
        self.0.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All tables known so far, these ones' descriptors being the newest.
    pub(crate) fn note_tables(
        &self,
        tables: impl IntoIterator<Item = Arc<TableDescriptor>>,
    ) -> Vec<Arc<TableDescriptor>> {
        let mut known = self.0.tables.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(tables.into_iter().map(|table| (table.name.clone(), table)));
        known.values().cloned().collect()
    }
}

impl SnapshotTicket {
    /// For the operator's [`crate::SnapshotRequest`].
    pub fn full(&self) -> bool {
        self.plan.full
    }

    /// Which snapshot it is for.
    pub fn checkpoint_id(&self) -> u64 {
        self.checkpoint_id
    }

    /// The chain.
    pub fn chain(&self) -> &SubtaskChain {
        &self.chain
    }

    /// Notes that the snapshot's run is written and waits for the earlier ones: the runs that the snapshot consists of.
    pub(crate) async fn stored(mut self, run: Option<KeyedRun>) -> Result<Vec<KeyedRun>, ChainBroken> {
        let Some(sequence) = self.plan.sequence else {
            self.done = true;
            return Ok(run.into_iter().collect());
        };
        // Noting and looking are one step: a later snapshot, which needs this run, can't be told the chain before this one is, so
        // a merged run is never known to an earlier snapshot only.
        let mut settled = {
            let mut chain = self.chain.chain();
            chain.stored(sequence, run);
            settle(&mut chain, sequence)
        };
        self.chain.0.changed.notify_waiters();
        while settled.is_none() {
            let changed = self.chain.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            settled = settle(&mut self.chain.chain(), sequence);
            if settled.is_none() {
                changed.await;
            }
        }
        // Dropping a ticket whose run builds on what isn't there says so.
        let runs = settled.flatten().ok_or(ChainBroken)?;
        self.done = true;
        Ok(runs)
    }
}

/// The runs of a snapshot once all of them are there; `Some(None)` if one never will be.
fn settle(chain: &mut RunChain, sequence: u64) -> Option<Option<Vec<KeyedRun>>> {
    match chain.state_at(sequence) {
        ChainState::Complete(runs) => {
            chain.release(sequence);
            Some(Some(runs))
        }
        ChainState::Broken => Some(None),
        ChainState::Waiting => None,
    }
}

impl Drop for SnapshotTicket {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        // A savepoint has no place: what had changed went into it, and the next one is full anyway.
        if let Some(sequence) = self.plan.sequence {
            self.chain.chain().failed(sequence);
        }
        self.chain.0.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
