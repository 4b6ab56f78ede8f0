//! Small files of a checkpoint that become one file: `execution.checkpointing.file-merging.*`, Flink's FLIP-306.
//!
//! ```text
//!   task 1: list, run --\                  group (folder, checkpoint)
//!   task 2: run ---------+--> submit --> [segment|segment|segment] --full, or all tasks of the process gave theirs,
//!   task 3: ... --------/                                            or waited long enough--> one physical file
//! ```
//!
//! A segment is a whole state file of its own at an offset of the physical file. Files merge within a checkpoint only: a
//! checkpoint's files are complete before it is, and object stores can't append. What belongs to one checkpoint only and
//! what later ones may share are different folders, hence different files. Merged runs, which no checkpoint waits for,
//! go together too.
//!
//! Invariants: nothing is told to be stored before its physical file is; a file of one segment is an ordinary one; a
//! file is at most as large as configured; held in memory are at most [`BUDGET_FILES`] such files; whoever waits is
//! answered even if the others never come.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use thalweg_proto::state::v1::{KeyedRun, StateFile};
use thalweg_types::config::{ConfigError, Configuration, options};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::upload::{Folder, ONE_REQUEST_BYTES};
use crate::StateError;
use crate::chain::{MergePlan, SubtaskChain, WeakChain};

/// How long files wait for those of other tasks: their barriers may come much later, or never.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// So many full files may be in memory, being gathered or written.
const BUDGET_FILES: u64 = 4;
/// Unit of the budget.
const BUDGET_UNIT: u64 = 1 << 10;
/// Checkpoints of which it is known which tasks gave their files.
const ROUNDS_REMEMBERED: usize = 64;

/// How small files are merged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FileMerging {
    /// Of a physical file.
    pub max_file_bytes: u64,
    /// Runs of a physical file whose size is over this many times what is still in use of it are written anew; None = never.
    pub max_space_amplification: Option<f64>,
    /// How long files wait for those of other tasks.
    pub longest_wait: Duration,
}

impl FileMerging {
    /// None if it is switched off.
    ///
    /// # Errors
    /// The first malformed value, by its key.
    pub fn from_configuration(configuration: &Configuration) -> Result<Option<Self>, ConfigError> {
        configuration.get(&options::FILE_MERGING_ACROSS_CHECKPOINTS)?;
        let max_file_bytes = configuration.get(&options::FILE_MERGING_MAX_FILE_SIZE)?.0;
        let amplification = configuration.get(&options::FILE_MERGING_MAX_SPACE_AMPLIFICATION)?;
        let merging = Self {
            max_file_bytes,
            max_space_amplification: Some(amplification).filter(|value| *value >= 1.0),
            longest_wait: LONGEST_WAIT,
        };
        let enabled = configuration.get(&options::FILE_MERGING_ENABLED)?;
        Ok(enabled.then_some(merging))
    }
}

/// Gathers the small files of one process. One a [`super::SnapshotStore`] and its clones.
pub(super) struct Merger {
    settings: FileMerging,
    budget: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next_number: u64,
    /// Tasks that take part in checkpoints.
    tasks: BTreeSet<u64>,
    /// The newest checkpoints, by their exclusive folder, and which tasks gave all their files.
    rounds: VecDeque<(String, BTreeSet<u64>)>,
    groups: HashMap<GroupKey, Group>,
    /// Whose runs are in use, and the newest checkpoint that each is complete in.
    chains: Vec<(WeakChain, u64)>,
}

/// What goes into one file: the checkpoint's exclusive folder, "" for merged runs; and the folder that it is written to.
type GroupKey = (String, String);

struct Group {
    number: u64,
    folder: Folder,
    runtime: Handle,
    segments: Vec<Segment>,
    bytes: u64,
}

struct Segment {
    content: Bytes,
    answer: oneshot::Sender<Result<StateFile, WriteFailure>>,
    /// Given back when the file is written.
    _budget: OwnedSemaphorePermit,
}

/// Why a physical file was not written, for each of its segments.
#[derive(Clone)]
struct WriteFailure {
    file: String,
    message: String,
    retryable: bool,
}

/// A file that is being gathered or written.
pub(super) struct Waiting(oneshot::Receiver<Result<StateFile, WriteFailure>>);

/// A task whose files others wait for; until it is dropped.
pub(super) struct MergingTask {
    merger: Arc<Merger>,
    number: u64,
}

/// One task's part in one checkpoint, until all its files are handed over.
pub struct Turn {
    task: Option<Arc<MergingTask>>,
    round: String,
}

impl Turn {
    pub(super) fn new(task: Option<Arc<MergingTask>>, round: &str) -> Self {
        Self {
            task,
            round: round.to_owned(),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.merger.task_done(&self.round, task.number);
        }
    }
}

impl Drop for MergingTask {
    fn drop(&mut self) {
        self.merger.task_gone(self.number);
    }
}

impl Waiting {
    /// When the physical file is there: where in it.
    pub(super) async fn written(self) -> Result<StateFile, StateError> {
        let answer = self.0.await.unwrap_or_else(|_| {
            Err(WriteFailure {
                file: String::new(),
                message: "writing it was ended".to_owned(),
                retryable: true,
            })
        });
        answer.map_err(|failure| StateError::Storage {
            file: failure.file,
            message: failure.message,
            retryable: failure.retryable,
        })
    }
}

impl Merger {
    pub(super) fn new(settings: FileMerging) -> Self {
        let units = (BUDGET_FILES * settings.max_file_bytes).div_ceil(BUDGET_UNIT);
        let units = usize::try_from(units).unwrap_or(usize::MAX);
        Self {
            settings,
            budget: Arc::new(Semaphore::new(units.clamp(1, u32::MAX as usize >> 3))),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A task that takes part in checkpoints from now on.
    pub(super) fn task(self: &Arc<Self>) -> MergingTask {
        let mut state = self.state();
        let number = state.number();
        state.tasks.insert(number);
        MergingTask {
            merger: Arc::clone(self),
            number,
        }
    }

    /// Whether a file of this size is to be merged with others.
    pub(super) fn takes(&self, bytes: usize) -> bool {
        bytes <= ONE_REQUEST_BYTES && bytes as u64 <= self.settings.max_file_bytes
    }

    /// Takes a file over; to be called on the runtime. Waits while too much is being written.
    pub(super) async fn submit(
        self: &Arc<Self>,
        folder: &Folder,
        round: &str,
        content: Bytes,
    ) -> Result<Waiting, StateError> {
        let units = (content.len() as u64).div_ceil(BUDGET_UNIT).max(1) as u32;
        let budget = match Arc::clone(&self.budget).try_acquire_many_owned(units) {
            Ok(budget) => budget,
            Err(_) => {
                self.write_all();
                let acquired = Arc::clone(&self.budget).acquire_many_owned(units).await;
                acquired.map_err(|_| StateError::Storage {
                    file: folder.uri(),
                    message: "writing files was ended".to_owned(),
                    retryable: true,
                })?
            }
        };
        let (answer, answered) = oneshot::channel();
        self.add(
            folder,
            round,
            Segment {
                content,
                answer,
                _budget: budget,
            },
        );
        Ok(Waiting(answered))
    }

    fn add(self: &Arc<Self>, folder: &Folder, round: &str, segment: Segment) {
        let key = (round.to_owned(), folder.uri());
        let most = self.settings.max_file_bytes;
        let size = segment.content.len() as u64;
        let mut state = self.state();
        let full = |group: &Group| group.bytes + size > most;
        let before = match state.groups.get(&key) {
            Some(group) if full(group) => state.groups.remove(&key),
            _ => None,
        };
        if !state.groups.contains_key(&key) {
            let group = Group {
                number: state.number(),
                folder: folder.clone(),
                runtime: Handle::current(),
                segments: Vec::new(),
                bytes: 0,
            };
            self.write_later(key.clone(), &group);
            state.groups.insert(key.clone(), group);
        }
        let now_full = match state.groups.get_mut(&key) {
            Some(group) => {
                group.segments.push(segment);
                group.bytes += size;
                group.bytes >= most
            }
            None => false,
        };
        let now_full = match now_full {
            true => state.groups.remove(&key),
            false => None,
        };
        drop(state);
        before.into_iter().chain(now_full).for_each(Group::write);
    }

    /// Writes the group when it has waited long enough, if it is still there then.
    fn write_later(self: &Arc<Self>, key: GroupKey, group: &Group) {
        let (merger, number) = (Arc::downgrade(self), group.number);
        let wait = self.settings.longest_wait;
        group.runtime.spawn(async move {
            tokio::time::sleep(wait).await;
            let Some(merger) = Weak::upgrade(&merger) else {
                return;
            };
            let mut state = merger.state();
            let same = state.groups.get(&key).is_some_and(|group| group.number == number);
            let group = same.then(|| state.groups.remove(&key)).flatten();
            drop(state);
            group.into_iter().for_each(Group::write);
        });
    }

    fn write_all(&self) {
        let groups = std::mem::take(&mut self.state().groups);
        groups.into_values().for_each(Group::write);
    }

    /// A task has handed over all its files of a checkpoint, or given it up.
    fn task_done(&self, round: &str, task: u64) {
        let mut state = self.state();
        match state.rounds.iter_mut().find(|(known, _)| known == round) {
            Some((_, done)) => {
                done.insert(task);
            }
            None => {
                state.rounds.push_back((round.to_owned(), BTreeSet::from([task])));
                if state.rounds.len() > ROUNDS_REMEMBERED {
                    state.rounds.pop_front();
                }
            }
        }
        let complete = state.take_complete();
        drop(state);
        complete.into_iter().for_each(Group::write);
    }

    fn task_gone(&self, task: u64) {
        let mut state = self.state();
        state.tasks.remove(&task);
        let complete = state.take_complete();
        drop(state);
        complete.into_iter().for_each(Group::write);
    }

    /// Notes whose runs are in use, as of this checkpoint; see [`Self::plan_rewrite`].
    pub(super) fn note_chain(&self, chain: &SubtaskChain, checkpoint_id: u64) {
        let mut state = self.state();
        state.chains.retain(|(known, _)| known.upgrade().is_some());
        match state.chains.iter_mut().find(|(known, _)| known.is(chain)) {
            Some((_, newest)) => *newest = checkpoint_id.max(*newest),
            None => state.chains.push((chain.downgrade(), checkpoint_id)),
        }
    }

    /// The neighbouring runs of the chain to be written anew because too little is still used of the files that they are in.
    /// Not those of its newest checkpoint: other tasks may not have noted their parts of them yet.
    pub(super) fn plan_rewrite(&self, chain: &SubtaskChain) -> Option<MergePlan> {
        let (_, newest) = *self.state().chains.iter().find(|(known, _)| known.is(chain))?;
        let wasteful = self.wasteful_files();
        if wasteful.is_empty() {
            return None;
        }
        let is_in = |run: &KeyedRun| {
            run.file
                .as_ref()
                .is_some_and(|file| wasteful.contains(&file.path))
        };
        chain
            .chain()
            .plan_rewrite(|run| run.checkpoint_id < newest && is_in(run))
    }

    /// Physical files that are larger than they may be for what this process's tasks still use of them.
    fn wasteful_files(&self) -> BTreeSet<String> {
        let Some(most) = self.settings.max_space_amplification else {
            return BTreeSet::new();
        };
        let chains: Vec<SubtaskChain> = self
            .state()
            .chains
            .iter()
            .filter_map(|(chain, _)| chain.upgrade())
            .collect();
        let mut files: HashMap<String, (u64, u64)> = HashMap::new();
        for chain in chains {
            for file in chain.chain().segments() {
                let (physical, used) = files.entry(file.path).or_default();
                *physical = file.physical_size;
                *used += file.size;
            }
        }
        let wasteful = |(physical, used): &(u64, u64)| *physical as f64 > most * *used as f64;
        files
            .into_iter()
            .filter_map(|(path, sizes)| wasteful(&sizes).then_some(path))
            .collect()
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// The groups of checkpoints that no task has anything to add to.
    fn take_complete(&mut self) -> Vec<Group> {
        let complete: Vec<String> = self
            .rounds
            .iter()
            .filter(|(_, done)| self.tasks.is_subset(done))
            .map(|(round, _)| round.clone())
            .collect();
        let of_them = |(round, _): &GroupKey, _: &mut Group| complete.contains(round);
        let groups = self.groups.extract_if(of_them).map(|(_, group)| group);
        groups.collect()
    }
}

impl Group {
    /// In the background: no task's end ends it, as others' files are in it.
    fn write(self) {
        let runtime = self.runtime.clone();
        runtime.spawn(self.written());
    }

    async fn written(mut self) {
        // Those that nobody waits for any more.
        self.segments.retain(|segment| !segment.answer.is_closed());
        let contents = self.segments.iter().map(|segment| segment.content.len());
        let physical: usize = contents.sum();
        let content = match &self.segments[..] {
            [] => return,
            [only] => only.content.clone(),
            several => {
                let mut content = BytesMut::with_capacity(physical);
                several
                    .iter()
                    .for_each(|segment| content.extend_from_slice(&segment.content));
                content.freeze()
            }
        };
        let written = self.folder.write_file(content).await;
        let alone = self.segments.len() == 1;
        let mut offset = 0;
        for segment in self.segments {
            let size = segment.content.len() as u64;
            let answer = match &written {
                Ok(file) if alone => Ok(file.clone()),
                Ok(file) => Ok(StateFile {
                    size,
                    offset,
                    physical_size: physical as u64,
                    ..file.clone()
                }),
                Err(error) => Err(WriteFailure::of(error)),
            };
            offset += size;
            // The task was stopped meanwhile.
            let _ = segment.answer.send(answer);
        }
    }
}

impl WriteFailure {
    fn of(error: &StateError) -> Self {
        match error {
            StateError::Storage {
                file,
                message,
                retryable,
            } => Self {
                file: file.clone(),
                message: message.clone(),
                retryable: *retryable,
            },
            other => Self {
                file: String::new(),
                message: other.to_string(),
                retryable: true,
            },
        }
    }
}
