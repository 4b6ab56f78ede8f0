//! What each task starts with when a snapshot is restored, whatever the parallelism was.
//!
//! ```text
//!   keyed:   saved subtasks    [0 ....... 63][64 ...... 127]          a new subtask reads the runs of every saved one
//!            new subtasks      [0 .. 42][43 ... 85][86 . 127]         whose key groups overlap its own
//!   lists:   SPLIT in contiguous shares, UNION all to all, BROADCAST one saved subtask's
//! ```
//!
//! Operators are matched by id, which comes from the uid. Invariants: each key group of each saved run reaches exactly one
//! task; each item of a SPLIT list too. What can't be restored is refused before a task starts, naming the operator.

mod adopt;

use std::collections::{BTreeMap, HashMap};

use thalweg_proto::graph::v1::{JobGraph, JobVertex, Partitioner, StreamNode};
use thalweg_proto::state::v1::{
    ChannelState, Distribution, KeyedRun, ListRestore, OperatorList, OperatorRestore, OperatorState,
    OperatorSubtaskState, SnapshotMetadata, StateFile, SubtaskRuns, TaskRestore,
};
use thalweg_types::{Classify, FailureClass, KeyGroupRange};

pub use adopt::{AdoptError, adopt_max_parallelism};

/// A snapshot to restore.
#[derive(Debug, Clone, Copy)]
pub struct RestoreSource<'a> {
    /// What is in it.
    pub metadata: &'a SnapshotMetadata,
    /// The URI that its relative paths start from: the job's checkpoint folder, or the savepoint's own.
    pub base: &'a str,
    /// Whether its run files belong to this job, which may go on with them: it is one of the job's own checkpoints, or a
    /// claimed one. Never with NO_CLAIM.
    pub own: bool,
}

/// Who gets what.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Assignment {
    /// By vertex id and subtask; every task of the job is in it.
    pub tasks: BTreeMap<(String, u32), TaskRestore>,
    /// Operators whose state is left behind, in words; only where that was allowed.
    pub left_behind: Vec<String>,
}

/// Why a snapshot can't be restored into a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// Not one of the operators with state is in the job.
    #[error(
        "this is a snapshot of job {job:?} ({job_id}), and of its {operators} operator(s) with state, {operator} first, this job \
         has none: name a snapshot of this job, or allow state to be left behind (--allowNonRestoredState, \
         execution.state-recovery.ignore-unclaimed-state)"
    )]
    AnotherJob {
        /// The snapshot's job by name.
        job: String,
        /// And by id.
        job_id: String,
        /// How many of its operators have state.
        operators: usize,
        /// One of them, in words.
        operator: String,
    },
    /// There is state that no operator of the job takes.
    #[error(
        "the snapshot has state of {operator}, which the job no longer has: give the operator that takes its place \
         that uid, or allow state to be left behind (--allowNonRestoredState, execution.state-recovery.ignore-unclaimed-state)"
    )]
    Unclaimed {
        /// In words.
        operator: String,
    },
    /// The operator of this uid is another one now.
    #[error(
        "{operator} was a {saved} when the snapshot was taken and is a {found} now: its state means nothing to it; \
         give the new operator a uid of its own"
    )]
    OperatorKind {
        /// In words.
        operator: String,
        /// As it was.
        saved: String,
        /// As it is.
        found: String,
    },
    /// Key groups are counted otherwise.
    #[error(
        "{operator} was saved with max parallelism {saved} and has {found} now, which keyed state does not survive: set \
         its max parallelism, or pipeline.max-parallelism, to {saved}"
    )]
    MaxParallelism {
        /// In words.
        operator: String,
        /// As it was.
        saved: u32,
        /// As it is.
        found: u32,
    },
    /// More subtasks than key groups.
    #[error(
        "{operator} has parallelism {parallelism}, but was saved with max parallelism {max_parallelism}: set its \
         parallelism to {max_parallelism} or less"
    )]
    Parallelism {
        /// In words.
        operator: String,
        /// As it is.
        parallelism: u32,
        /// As it was saved.
        max_parallelism: u32,
    },
    /// Rows under way belong to channels that are no longer there.
    #[error(
        "{operator} has rows in the snapshot that were under way between operators (it is an unaligned checkpoint), and \
         the job's graph is another one now: restore it with the graph that it was taken of, and take a savepoint for the change"
    )]
    ChannelState {
        /// In words.
        operator: String,
    },
}

impl Classify for RestoreError {
    fn class(&self) -> FailureClass {
        FailureClass::Fatal
    }
}

/// Shares a snapshot out to the tasks of a job. State of operators that the job no longer has is refused unless
/// `allow_non_restored`. The graph's fingerprint doesn't matter unless there are rows under way.
///
/// # Errors
/// See [`RestoreError`]; the first one found, in the order of the snapshot's operators.
pub fn assign(
    source: RestoreSource<'_>,
    graph: &JobGraph,
    allow_non_restored: bool,
) -> Result<Assignment, RestoreError> {
    let mut assignment = Assignment::default();
    for vertex in &graph.vertices {
        for subtask in 0..vertex.parallelism {
            let empty = TaskRestore {
                checkpoint_id: source.metadata.checkpoint_id,
                operators: Vec::new(),
            };
            assignment.tasks.insert((vertex.id.clone(), subtask), empty);
        }
    }
    let places: HashMap<&str, (&JobVertex, &StreamNode)> = graph
        .vertices
        .iter()
        .flat_map(|vertex| {
            vertex
                .chain
                .iter()
                .map(move |node| (node.operator_id.as_str(), (vertex, node)))
        })
        .collect();
    if !allow_non_restored {
        check_job(source.metadata, |operator| places.contains_key(operator))?;
    }
    for operator in &source.metadata.operators {
        let Some((vertex, node)) = places.get(operator.operator_id.as_str()).copied() else {
            if has_state(operator) {
                let operator = in_words(operator);
                if !allow_non_restored {
                    return Err(RestoreError::Unclaimed { operator });
                }
                assignment.left_behind.push(operator);
            }
            continue;
        };
        check(operator, vertex, node, source.metadata, graph)?;
        let sharing = Sharing {
            source,
            operator,
            vertex,
            graph,
        };
        for subtask in 0..vertex.parallelism {
            if let Some(task) = assignment.tasks.get_mut(&(vertex.id.clone(), subtask)) {
                task.operators.push(sharing.share_of(subtask));
            }
        }
    }
    Ok(assignment)
}

/// One operator with state that is gone may have been removed; when there are several and all are, it is another job.
fn check_job(metadata: &SnapshotMetadata, is_known: impl Fn(&str) -> bool) -> Result<(), RestoreError> {
    let mut stateful = metadata.operators.iter().filter(|operator| has_state(operator));
    let Some(first) = stateful.next() else {
        return Ok(());
    };
    let operators = 1 + stateful.count();
    if operators == 1
        || metadata
            .operators
            .iter()
            .any(|operator| is_known(&operator.operator_id))
    {
        return Ok(());
    }
    Err(RestoreError::AnotherJob {
        job: metadata.job_name.clone(),
        job_id: metadata.job_id.clone(),
        operators,
        operator: in_words(first),
    })
}

fn has_state(operator: &OperatorState) -> bool {
    let any = |state: &OperatorSubtaskState| {
        !state.runs.is_empty() || state.lists.iter().any(|list| list.items > 0) || !state.channels.is_empty()
    };
    operator.subtasks.iter().any(any)
}

fn has_keyed_state(operator: &OperatorState) -> bool {
    operator.subtasks.iter().any(|state| !state.runs.is_empty())
}

/// `operator "Count words" (uid "count")`
fn in_words(operator: &OperatorState) -> String {
    match operator.uid.as_str() {
        "" => format!(
            "operator {:?} (no uid, id {})",
            operator.name, operator.operator_id
        ),
        uid => format!("operator {:?} (uid {uid:?})", operator.name),
    }
}

fn check(
    saved: &OperatorState,
    vertex: &JobVertex,
    node: &StreamNode,
    metadata: &SnapshotMetadata,
    graph: &JobGraph,
) -> Result<(), RestoreError> {
    if !has_state(saved) {
        return Ok(());
    }
    if saved.operator != node.operator {
        return Err(RestoreError::OperatorKind {
            operator: in_words(saved),
            saved: saved.operator.clone(),
            found: node.operator.clone(),
        });
    }
    if has_keyed_state(saved) {
        if vertex.parallelism > saved.max_parallelism {
            return Err(RestoreError::Parallelism {
                operator: in_words(saved),
                parallelism: vertex.parallelism,
                max_parallelism: saved.max_parallelism,
            });
        }
        if vertex.max_parallelism != saved.max_parallelism {
            return Err(RestoreError::MaxParallelism {
                operator: in_words(saved),
                saved: saved.max_parallelism,
                found: vertex.max_parallelism,
            });
        }
    }
    let under_way = saved.subtasks.iter().any(|state| !state.channels.is_empty());
    if under_way && metadata.fingerprint != graph.fingerprint {
        return Err(RestoreError::ChannelState {
            operator: in_words(saved),
        });
    }
    Ok(())
}

/// One operator's state and who gets it.
struct Sharing<'a> {
    source: RestoreSource<'a>,
    operator: &'a OperatorState,
    vertex: &'a JobVertex,
    graph: &'a JobGraph,
}

impl Sharing<'_> {
    fn share_of(&self, subtask: u32) -> OperatorRestore {
        let keyed = self.keyed(subtask);
        OperatorRestore {
            operator_id: self.operator.operator_id.clone(),
            own_runs: self.may_go_on_with(subtask, &keyed),
            keyed,
            lists: self.lists(subtask),
            channels: self.channels(subtask),
        }
    }

    fn same_parallelism(&self) -> bool {
        self.operator.parallelism == self.vertex.parallelism
    }

    fn range(&self, subtask: u32) -> KeyGroupRange {
        KeyGroupRange::of_subtask(subtask, self.vertex.parallelism, self.vertex.max_parallelism)
    }

    /// A run of a subtask that has none in the range is left out: no row of it is of the range.
    fn keyed(&self, subtask: u32) -> Vec<SubtaskRuns> {
        let range = self.range(subtask);
        let overlaps =
            |run: &&KeyedRun| run.first_key_group <= range.end && run.last_key_group >= range.start;
        self.operator
            .subtasks
            .iter()
            .map(|state| SubtaskRuns {
                runs: state
                    .runs
                    .iter()
                    .filter(overlaps)
                    .map(|run| self.absolute_run(run))
                    .collect(),
            })
            .filter(|subtask| !subtask.runs.is_empty())
            .collect()
    }

    fn may_go_on_with(&self, subtask: u32, keyed: &[SubtaskRuns]) -> bool {
        let range = self.range(subtask);
        let exact = |run: &KeyedRun| run.first_key_group == range.start && run.last_key_group == range.end;
        self.source.own
            && !self.source.metadata.savepoint
            && keyed.len() == 1
            && keyed.iter().flat_map(|subtask| &subtask.runs).all(exact)
    }

    fn lists(&self, subtask: u32) -> Vec<ListRestore> {
        let mut by_name: BTreeMap<&str, Vec<(u32, &OperatorList)>> = BTreeMap::new();
        for state in &self.operator.subtasks {
            for list in &state.lists {
                by_name.entry(&list.name).or_default().push((state.subtask, list));
            }
        }
        let mut shares = Vec::new();
        for lists in by_name.values() {
            match lists.first().map(|(_, list)| list.distribution()) {
                Some(Distribution::Union) => {
                    shares.extend(lists.iter().map(|(_, list)| self.whole(list)));
                }
                Some(Distribution::Broadcast) => {
                    let one = lists.get(subtask as usize % lists.len());
                    shares.extend(one.map(|(_, list)| self.whole(list)));
                }
                _ => self.split(subtask, lists, &mut shares),
            }
        }
        shares
    }

    /// With the same parallelism everybody gets back what was its own; else contiguous shares of all items.
    fn split(&self, subtask: u32, lists: &[(u32, &OperatorList)], shares: &mut Vec<ListRestore>) {
        if self.same_parallelism() {
            let own = lists.iter().filter(|(owner, _)| *owner == subtask);
            shares.extend(own.map(|(_, list)| self.whole(list)));
            return;
        }
        let total: u128 = lists.iter().map(|(_, list)| u128::from(list.items)).sum();
        let bound = |index: u32| total * u128::from(index) / u128::from(self.vertex.parallelism);
        let (from, to) = (bound(subtask), bound(subtask + 1));
        let mut before = 0;
        for (_, list) in lists {
            let items = u128::from(list.items);
            let first = from.clamp(before, before + items) - before;
            let last = to.clamp(before, before + items) - before;
            if last > first {
                shares.push(ListRestore {
                    list: Some(self.absolute_list(list)),
                    first: first as u64,
                    count: (last - first) as u64,
                });
            }
            before += items;
        }
    }

    fn whole(&self, list: &OperatorList) -> ListRestore {
        ListRestore {
            list: Some(self.absolute_list(list)),
            first: 0,
            count: list.items,
        }
    }

    /// Rows under way go to the subtask that had them. After a change of parallelism, those before a hash exchange's
    /// consumer go to every subtask that shares key groups with it, which keeps its own; others to one, in turn.
    fn channels(&self, subtask: u32) -> Vec<ChannelState> {
        let mut channels = Vec::new();
        for state in &self.operator.subtasks {
            for channel in &state.channels {
                let mine = if self.same_parallelism() {
                    state.subtask == subtask
                } else if channel.input && self.is_hashed(channel.edge) {
                    let saved = KeyGroupRange::of_subtask(
                        state.subtask,
                        self.operator.parallelism,
                        self.operator.max_parallelism,
                    );
                    let range = self.range(subtask);
                    saved.start <= range.end && saved.end >= range.start
                } else {
                    state.subtask % self.vertex.parallelism == subtask
                };
                if mine {
                    let mut channel = channel.clone();
                    channel.file = channel.file.map(|file| self.absolute(file));
                    channels.push(channel);
                }
            }
        }
        channels
    }

    fn is_hashed(&self, edge: u32) -> bool {
        let mut edges = self.graph.edges.iter().filter_map(|edge| edge.edge.as_ref());
        edges.any(|candidate| candidate.id == edge && candidate.partitioner() == Partitioner::Hash)
    }

    fn absolute_run(&self, run: &KeyedRun) -> KeyedRun {
        KeyedRun {
            file: run.file.clone().map(|file| self.absolute(file)),
            ..run.clone()
        }
    }

    fn absolute_list(&self, list: &OperatorList) -> OperatorList {
        OperatorList {
            file: list.file.clone().map(|file| self.absolute(file)),
            ..list.clone()
        }
    }

    fn absolute(&self, mut file: StateFile) -> StateFile {
        file.path = absolute_path(self.source.base, &file.path);
        file
    }
}

/// The URI of a path as it is in a snapshot; empty stays empty (inline).
pub(crate) fn absolute_path(base: &str, path: &str) -> String {
    match path {
        "" => String::new(),
        path if path.contains("://") => path.to_owned(),
        path => format!("{}/{path}", base.trim_end_matches('/')),
    }
}

#[cfg(test)]
mod tests;
