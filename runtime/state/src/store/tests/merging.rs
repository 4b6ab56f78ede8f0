//! Small files of several tasks as one: restored at any parallelism, waited for only as long as needed, written anew when
//! too little of them is still used.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use thalweg_proto::state::v1::{OperatorSubtaskState, SnapshotKind, StateFile};
use thalweg_types::{Classify, FailureClass, KeyGroupRange};

use super::fixtures::{Fixture, MAX_PARALLELISM, changes, group_of, list, list_items};
use crate::{
    FileMerging, ListDistribution, OperatorSnapshot, SnapshotStore, StateError, SubtaskChain, WrittenSnapshot,
};

/// Longer than any test runs.
const FOR_EVER: Duration = Duration::from_secs(24 * 3600);

fn settings() -> FileMerging {
    FileMerging {
        max_file_bytes: 1 << 20,
        max_space_amplification: None,
        longest_wait: FOR_EVER,
    }
}

/// The tasks of one process, a subtask of the same operator each.
struct Tasks {
    fixture: Fixture,
    tasks: Vec<(SnapshotStore, SubtaskChain)>,
}

impl Tasks {
    fn new(parallelism: u32, settings: FileMerging) -> Self {
        let mut tasks = Self {
            fixture: Fixture::new(0),
            tasks: Vec::new(),
        };
        tasks.fixture.store = tasks.fixture.store.clone().with_file_merging(Some(settings));
        tasks.start(parallelism, |range| SubtaskChain::new(range, MAX_PARALLELISM));
        tasks
    }

    fn start(&mut self, parallelism: u32, chain: impl Fn(KeyGroupRange) -> SubtaskChain) {
        let range = |index| KeyGroupRange::of_subtask(index, parallelism, MAX_PARALLELISM);
        // Those before have ended.
        self.tasks.clear();
        self.tasks = (0..parallelism)
            .map(|index| (self.fixture.store.for_task(), chain(range(index))))
            .collect();
    }

    /// Each task writes what is its own, all at a time.
    fn checkpoint(
        &self,
        id: u64,
        snapshot: impl Fn(usize, KeyGroupRange) -> OperatorSnapshot,
    ) -> Vec<Result<WrittenSnapshot, StateError>> {
        let options = self.fixture.options(id, SnapshotKind::Checkpoint);
        let writes = self.tasks.iter().enumerate().map(|(index, (store, chain))| {
            let snapshot = snapshot(index, chain.key_groups());
            let (ticket, options) = (chain.begin(id, SnapshotKind::Checkpoint), &options);
            async move {
                let turn = store.turn(options);
                let submitted = store.submit_operator_snapshot(snapshot, options, ticket).await?;
                drop(turn);
                store.written(index as u32, submitted).await
            }
        });
        self.fixture.runtime.block_on(join_all(writes))
    }

    fn states(
        &self,
        id: u64,
        snapshot: impl Fn(usize, KeyGroupRange) -> OperatorSnapshot,
    ) -> Vec<OperatorSubtaskState> {
        let written = self.checkpoint(id, snapshot).into_iter();
        written.map(|written| written.unwrap().state).collect()
    }

    /// What all subtasks of this parallelism restore.
    fn restored(&self, states: &[OperatorSubtaskState], parallelism: u32) -> BTreeMap<i64, i64> {
        let mut found = BTreeMap::new();
        for index in 0..parallelism {
            let range = KeyGroupRange::of_subtask(index, parallelism, MAX_PARALLELISM);
            for (id, value) in self.fixture.restore(states, range) {
                assert!(range.contains(group_of(id)));
                assert_eq!(found.insert(id, value), None, "{id} came twice");
            }
        }
        found
    }

    fn merge_all(&self) -> usize {
        let shared = self.fixture.options(0, SnapshotKind::Checkpoint).shared_folder;
        let merges = self
            .tasks
            .iter()
            .map(|(store, chain)| store.merge_runs(chain, &shared));
        let merged = self.fixture.runtime.block_on(try_join_all(merges)).unwrap();
        merged.into_iter().filter(|merged| *merged).count()
    }
}

fn own(range: KeyGroupRange, ids: impl Iterator<Item = i64>, value: i64) -> OperatorSnapshot {
    changes(
        ids.filter(|id| range.contains(group_of(*id)))
            .map(|id| (id, Some(id * value))),
    )
}

fn files(states: &[OperatorSubtaskState]) -> Vec<StateFile> {
    let runs = states.iter().flat_map(|state| &state.runs);
    runs.filter_map(|run| run.file.clone()).collect()
}

#[test]
fn files_of_all_tasks_of_a_checkpoint_are_one_file_a_folder_and_restore_at_any_parallelism() {
    let tasks = Tasks::new(3, settings());
    let states = tasks.states(1, |index, range| OperatorSnapshot {
        lists: list(
            "items",
            ListDistribution::Split,
            index as i64 * 10..index as i64 * 10 + 10,
        )
        .lists,
        ..own(range, 0..3000, 2)
    });
    assert_eq!(tasks.fixture.files().len(), 2, "{:?}", tasks.fixture.files());
    let mut segments = files(&states);
    segments.sort_by_key(|file| file.offset);
    let ends = segments.iter().map(|file| file.offset + file.size);
    let starts = segments.iter().map(|file| file.offset).skip(1);
    let physical = segments[0].physical_size;
    assert!(ends.eq(starts.chain([physical])), "{segments:?}");
    let expected: BTreeMap<i64, i64> = (0..3000).map(|id| (id, id * 2)).collect();
    for parallelism in [1, 2, 5] {
        assert_eq!(tasks.restored(&states, parallelism), expected);
    }
    let restore = tasks.fixture.operator_restore(&states);
    let (mut state, _) = tasks.fixture.read(&restore, super::whole()).unwrap();
    let mut items = list_items(&state.take_list("items").unwrap());
    items.sort_unstable();
    assert_eq!(items, (0..30).collect::<Vec<_>>());
}

#[test]
fn rescaling_over_increments_and_merged_runs_keeps_every_key() {
    let mut tasks = Tasks::new(
        2,
        FileMerging {
            // Merged runs have no one to wait for.
            longest_wait: Duration::from_millis(1),
            ..settings()
        },
    );
    let mut expected = BTreeMap::new();
    let mut checkpoint = 0;
    let mut merges = 0;
    for parallelism in [5, 3, 2] {
        let mut states = Vec::new();
        for step in 0..12 {
            checkpoint += 1;
            let ids = || (0..400).map(move |id| (id * 7 + step * 31) % 1500);
            states = tasks.states(checkpoint, |_, range| own(range, ids(), checkpoint as i64));
            expected.extend(ids().map(|id| (id, id * checkpoint as i64)));
            merges += tasks.merge_all();
        }
        assert_eq!(tasks.restored(&states, parallelism), expected);
        tasks.start(parallelism, |range| SubtaskChain::new(range, MAX_PARALLELISM));
        checkpoint += 1;
        // The first checkpoint of a rescaled subtask is full.
        let all = expected.clone();
        tasks.states(checkpoint, |_, range| {
            let own = all.iter().filter(|(id, _)| range.contains(group_of(**id)));
            changes(own.map(|(id, value)| (*id, Some(*value))))
        });
    }
    assert!(merges > 3, "{merges} merges");
}

#[test]
fn a_task_that_gives_nothing_or_is_gone_holds_up_nobody() {
    let tasks = Tasks::new(2, settings());
    let options = tasks.fixture.options(1, SnapshotKind::Checkpoint);
    let (stateless, ended) = (tasks.fixture.store.for_task(), tasks.fixture.store.for_task());
    drop(stateless.turn(&options));
    let (store, chain) = &tasks.tasks[0];
    let write = async {
        let turn = store.turn(&options);
        let ticket = chain.begin(1, SnapshotKind::Checkpoint);
        let snapshot = own(chain.key_groups(), 0..100, 1);
        let submitted = store.submit_operator_snapshot(snapshot, &options, ticket).await?;
        drop(turn);
        let mut written = Box::pin(store.written(0, submitted));
        assert!(futures::poll!(&mut written).is_pending(), "two tasks are missing");
        // One declines, one ends.
        drop(tasks.tasks[1].0.turn(&options));
        assert!(futures::poll!(&mut written).is_pending(), "a task is missing");
        drop(ended);
        written.await
    };
    let written = tasks.fixture.runtime.block_on(write).unwrap();
    let file = written.state.runs[0].file.clone().unwrap();
    assert_eq!(
        (file.offset, file.physical_size),
        (0, 0),
        "alone it is an ordinary file"
    );
}

#[test]
fn files_wait_for_a_task_that_never_takes_part_only_so_long() {
    let tasks = Tasks::new(
        1,
        FileMerging {
            longest_wait: Duration::from_millis(1),
            ..settings()
        },
    );
    let _silent = tasks.fixture.store.for_task();
    let states = tasks.states(1, |_, range| own(range, 0..100, 3));
    assert_eq!(tasks.restored(&states, 1).len(), 100);
}

#[test]
fn a_full_file_is_written_at_once_and_none_is_larger_than_configured() {
    let tasks = Tasks::new(
        8,
        FileMerging {
            max_file_bytes: 64 << 10,
            ..settings()
        },
    );
    // Values without a pattern: LZ4 can't make them small.
    let value = |id: i64| id.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64);
    let states = tasks.states(1, |_, range| {
        let own = (0..20_000).filter(|id| range.contains(group_of(*id)));
        changes(own.map(|id| (id, Some(value(id)))))
    });
    let segments = files(&states);
    assert!(
        segments.iter().all(|file| file.physical_size <= 64 << 10),
        "{segments:?}"
    );
    let physical: BTreeSet<&str> = segments.iter().map(|file| file.path.as_str()).collect();
    assert!((3..8).contains(&physical.len()), "{physical:?}");
    assert_eq!(tasks.restored(&states, 3).len(), 20_000);
}

#[test]
fn savepoints_and_large_files_are_files_of_their_own() {
    let tasks = Tasks::new(
        1,
        FileMerging {
            max_file_bytes: 64 << 10,
            ..settings()
        },
    );
    let _other = tasks.fixture.store.for_task();
    let (store, chain) = &tasks.tasks[0];
    let write = |kind, rows: i64| {
        let options = tasks.fixture.options(1, kind);
        let snapshot = changes((0..rows).map(|id| (id, Some(id))));
        let written = store.write_operator_snapshot(0, snapshot, &options, chain.begin(1, kind));
        files(&[tasks.fixture.runtime.block_on(written).unwrap().state])
    };
    let savepoint = write(SnapshotKind::Savepoint, 100);
    assert_eq!((savepoint.len(), savepoint[0].physical_size), (1, 0));
    let large = write(SnapshotKind::Checkpoint, 30_000);
    assert!(
        large[0].size > 64 << 10 && large[0].physical_size == 0,
        "{large:?}"
    );
}

#[test]
fn when_the_file_can_not_be_written_each_task_fails_by_its_name_and_is_full_next_time() {
    let tasks = Tasks::new(3, settings());
    std::fs::write(tasks.fixture.job_folder_path(), b"not a folder").unwrap();
    let rows = |_, range| own(range, 0..100, 1);
    for written in tasks.checkpoint(1, rows) {
        let error = written.unwrap_err();
        assert!(error.to_string().contains("/shared/"), "{error}");
        assert_eq!(error.class(), FailureClass::Retryable);
    }
    std::fs::remove_file(tasks.fixture.job_folder_path()).unwrap();
    for (_, chain) in &tasks.tasks {
        let ticket = chain.begin(2, SnapshotKind::Checkpoint);
        assert!(ticket.full());
    }
}

#[test]
fn a_cancelled_task_leaves_the_others_their_files() {
    let tasks = Tasks::new(2, settings());
    let options = tasks.fixture.options(1, SnapshotKind::Checkpoint);
    let submit = async |index: usize| {
        let (store, chain) = &tasks.tasks[index];
        let turn = store.turn(&options);
        let ticket = chain.begin(1, SnapshotKind::Checkpoint);
        let snapshot = own(chain.key_groups(), 0..500, 1);
        let submitted = store.submit_operator_snapshot(snapshot, &options, ticket).await;
        drop(turn);
        submitted.unwrap()
    };
    let states = tasks.fixture.runtime.block_on(async {
        drop(submit(0).await);
        let second = submit(1).await;
        [tasks.tasks[1].0.written(1, second).await.unwrap().state]
    });
    let range = tasks.tasks[1].1.key_groups();
    let expected = (0..500).filter(|id| range.contains(group_of(*id))).count();
    assert_eq!(tasks.fixture.restore(&states, range).len(), expected);
    assert!(tasks.tasks[0].1.begin(2, SnapshotKind::Checkpoint).full());
}

#[test]
fn what_is_left_of_a_file_is_written_anew_when_too_little_of_it_is_used_and_the_file_can_go() {
    let tasks = Tasks::new(
        4,
        FileMerging {
            max_space_amplification: Some(2.0),
            // Long enough for all four to meet; those who write alone wait it out.
            longest_wait: Duration::from_millis(500),
            ..settings()
        },
    );
    let first = tasks.states(1, |_, range| own(range, 0..4000, 1));
    let merged = files(&first)[0].path.clone();
    assert_eq!(tasks.merge_all(), 0, "all of it is used");
    assert!(first.iter().all(|state| state.runs.len() == 1));
    // Three of four subtasks write all their state anew.
    let last = 3;
    for (index, (store, chain)) in tasks.tasks.iter().enumerate() {
        let kind = match index == last {
            true => SnapshotKind::Checkpoint,
            false => SnapshotKind::FullCheckpoint,
        };
        let options = tasks.fixture.options(2, kind);
        let snapshot = match index == last {
            true => changes([]),
            false => own(chain.key_groups(), 0..4000, 2),
        };
        let written = store.write_operator_snapshot(index as u32, snapshot, &options, chain.begin(2, kind));
        tasks.fixture.runtime.block_on(written).unwrap();
    }
    assert_eq!(tasks.merge_all(), 1, "the fourth has a quarter of the file");
    let third = tasks.states(3, |_, _| changes([]));
    assert!(files(&third).iter().all(|file| file.path != merged));
    let path = tasks.fixture.job_folder_path().join(&merged);
    std::fs::remove_file(path).unwrap();
    let range = tasks.tasks[last].1.key_groups();
    let expected: BTreeMap<i64, i64> = (0..4000)
        .map(|id| (id, if range.contains(group_of(id)) { id } else { id * 2 }))
        .collect();
    assert_eq!(tasks.restored(&third, 2), expected);
    assert_eq!(tasks.merge_all(), 0, "nothing is left to do");
}

#[test]
fn a_restored_task_goes_on_with_its_segments_and_damage_in_one_names_the_file_and_the_place() {
    let mut tasks = Tasks::new(2, settings());
    let states = tasks.states(1, |_, range| own(range, 0..1000, 1));
    let fixture = &tasks.fixture;
    let chains: Vec<SubtaskChain> = states
        .iter()
        .map(|state| {
            let mut restore = fixture.operator_restore(std::slice::from_ref(state));
            restore.own_runs = true;
            let range = KeyGroupRange::of_subtask(state.subtask, 2, MAX_PARALLELISM);
            fixture.read(&restore, range).unwrap().1
        })
        .collect();
    tasks.start(2, |range| {
        let own = chains.iter().find(|chain| chain.key_groups() == range);
        own.unwrap().clone()
    });
    let next = tasks.states(2, |_, range| own(range, 0..10, 5));
    assert!(next.iter().all(|state| state.runs.len() == 2));
    let mut expected: BTreeMap<i64, i64> = (0..1000).map(|id| (id, id)).collect();
    expected.extend((0..10).map(|id| (id, id * 5)));
    assert_eq!(tasks.restored(&next, 3), expected);

    let damaged = files(&states).into_iter().find(|file| file.offset > 0).unwrap();
    let path = tasks.fixture.job_folder_path().join(&damaged.path);
    let mut content = std::fs::read(&path).unwrap();
    content[damaged.offset as usize + 20] ^= 1;
    std::fs::write(&path, content).unwrap();
    let restore = tasks.fixture.operator_restore(&states);
    let error = tasks.fixture.read_rows(&restore, super::whole()).unwrap_err();
    let place = format!("{} (from byte {})", damaged.path, damaged.offset);
    assert!(error.to_string().contains(&place), "{error}");
    assert_eq!(error.class(), FailureClass::Fatal);
}
