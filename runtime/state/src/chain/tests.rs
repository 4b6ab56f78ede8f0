//! The chain against its rule: a checkpoint refers to exactly the changes since its last full one, or it fails.

use proptest::prelude::*;
use thalweg_proto::state::v1::{KeyedRun, SnapshotKind, StateFile};

use super::{ChainState, MERGE_ALL_DELTAS_FROM, MERGE_FROM, RunChain, first_to_merge};

/// A run whose "path" lists the checkpoints that are in it, so that merges can be followed.
fn run(content: &str, size: u64) -> KeyedRun {
    KeyedRun {
        file: Some(StateFile {
            path: content.to_owned(),
            size,
            ..StateFile::default()
        }),
        ..KeyedRun::default()
    }
}

fn content(runs: &[KeyedRun]) -> String {
    let paths: Vec<&str> = runs
        .iter()
        .map(|run| run.file.as_ref().unwrap().path.as_str())
        .collect();
    paths.join(" ")
}

#[derive(Debug, Clone)]
enum Step {
    Begin(SnapshotKind),
    /// The `n`th of those under way: stored with rows, stored without, or failed.
    End(usize, Option<bool>),
    /// Whether it succeeds.
    Merge(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop_oneof![
        8 => Just(SnapshotKind::Checkpoint),
        1 => Just(SnapshotKind::FullCheckpoint),
        1 => Just(SnapshotKind::Savepoint),
    ];
    let ending = prop_oneof![8 => Just(Some(true)), 2 => Just(Some(false)), 1 => Just(None)];
    let step = prop_oneof![
        4 => kind.prop_map(Step::Begin),
        4 => (0..3_usize, ending).prop_map(|(which, ending)| Step::End(which, ending)),
        1 => prop::bool::weighted(0.8).prop_map(Step::Merge),
    ];
    prop::collection::vec(step, 0..200)
}

/// What a checkpoint must be able to refer to: the changes since its full one, or nothing if one of them is lost.
struct Planned {
    sequence: u64,
    full: bool,
    /// None = under way.
    ended: Option<bool>,
    stored: bool,
    acknowledged: bool,
}

fn expected(planned: &[Planned], upto: usize) -> Option<String> {
    let from = planned[..=upto].iter().rposition(|one| one.full).unwrap_or(0);
    let needed = &planned[from..=upto];
    if needed.iter().any(|one| one.ended == Some(false)) {
        return None;
    }
    let with_rows = needed.iter().filter(|one| one.stored);
    Some(
        with_rows
            .map(|one| one.sequence.to_string())
            .collect::<Vec<_>>()
            .join(" "),
    )
}

proptest! {
    #[test]
    fn checkpoints_refer_to_all_changes_since_their_full_one(steps in steps()) {
        let mut chain = RunChain::default();
        let mut planned: Vec<Planned> = Vec::new();
        let mut must_be_full = true;
        for step in steps {
            match step {
                Step::Begin(kind) => {
                    let plan = chain.plan(kind);
                    if kind == SnapshotKind::Savepoint {
                        prop_assert!(plan.full && plan.sequence.is_none());
                        must_be_full = true;
                        continue;
                    }
                    prop_assert!(plan.full || !must_be_full);
                    prop_assert!(plan.full || kind != SnapshotKind::FullCheckpoint);
                    must_be_full = false;
                    planned.push(Planned {
                        sequence: plan.sequence.unwrap(),
                        full: plan.full,
                        ended: None,
                        stored: false,
                        acknowledged: false,
                    });
                }
                Step::End(which, ending) => {
                    let under_way: Vec<usize> =
                        (0..planned.len()).filter(|index| planned[*index].ended.is_none()).collect();
                    let Some(index) = under_way.get(which).copied() else { continue };
                    let one = &mut planned[index];
                    one.ended = Some(ending.is_some());
                    one.stored = ending == Some(true);
                    let sequence = one.sequence;
                    match ending {
                        Some(rows) => {
                            chain.stored(sequence, rows.then(|| run(&sequence.to_string(), 100)));
                        }
                        None => {
                            chain.failed(sequence);
                            must_be_full |= !planned[index..].iter().skip(1).any(|later| later.full);
                        }
                    }
                }
                Step::Merge(succeeds) => {
                    if let Some(plan) = chain.plan_merge() {
                        prop_assert!(chain.plan_merge().is_none(), "one at a time");
                        let merged = run(&content(&plan.runs), 100 * plan.runs.len() as u64);
                        match succeeds {
                            true => prop_assert!(chain.merged(&plan, Some(merged))),
                            false => chain.merge_failed(),
                        }
                    }
                }
            }
            // Those that wait are answered as soon as they can be.
            for index in 0..planned.len() {
                if planned[index].ended != Some(true) || planned[index].acknowledged {
                    continue;
                }
                let sequence = planned[index].sequence;
                match chain.state_at(sequence) {
                    ChainState::Waiting => {
                        let earlier_under_way = planned[..index].iter().any(|one| one.ended.is_none());
                        prop_assert!(earlier_under_way);
                        continue;
                    }
                    ChainState::Complete(runs) => {
                        prop_assert_eq!(Some(content(&runs)), expected(&planned, index));
                        chain.release(sequence);
                    }
                    ChainState::Broken => {
                        prop_assert_eq!(None, expected(&planned, index));
                        chain.failed(sequence);
                        planned[index].ended = Some(false);
                        must_be_full |= !planned[index..].iter().skip(1).any(|later| later.full);
                    }
                }
                planned[index].acknowledged = true;
            }
        }
    }
}

#[test]
fn a_merge_that_a_full_checkpoint_overtakes_is_not_used() {
    let mut chain = RunChain::default();
    for sequence in 0..MERGE_FROM as u64 {
        chain.plan(SnapshotKind::Checkpoint);
        chain.stored(sequence, Some(run(&sequence.to_string(), 100)));
        chain.release(sequence);
    }
    let merge = chain.plan_merge().unwrap();
    let full = chain.plan(SnapshotKind::FullCheckpoint).sequence.unwrap();
    chain.stored(full, Some(run("full", 100)));
    chain.release(full);
    assert!(!chain.merged(&merge, Some(run("merged", 100))));
    assert!(chain.plan_merge().is_none());
}

#[test]
fn idle_checkpoints_take_no_room() {
    let mut chain = RunChain::default();
    for sequence in 0..1000 {
        chain.plan(SnapshotKind::Checkpoint);
        chain.stored(sequence, None);
        chain.release(sequence);
    }
    assert!(chain.entries.len() <= 1, "{} entries", chain.entries.len());
}

#[test]
fn small_deltas_are_merged_among_themselves_and_a_large_base_only_when_they_outweigh_half_of_it() {
    const MB: u64 = 1 << 20;
    let with_base = |base: u64, deltas: &[u64]| {
        let sizes: Vec<u64> = [base].into_iter().chain(deltas.iter().copied()).collect();
        first_to_merge(&sizes)
    };
    assert_eq!(first_to_merge(&[]), None);
    assert_eq!(first_to_merge(&[MB]), None);
    assert_eq!(with_base(1000 * MB, &[10 * MB; 7]), None);
    assert_eq!(with_base(1000 * MB, &[10 * MB; 8]), Some(1));
    // What is merged already stays until as much has come behind it.
    assert_eq!(with_base(1000 * MB, &[80 * MB, 10 * MB, 10 * MB, 10 * MB]), None);
    assert_eq!(with_base(1000 * MB, &[100 * MB; 7]), Some(0));
    assert_eq!(with_base(100 * MB, &[101 * MB]), Some(0));
    assert_eq!(with_base(1000, &[10; MERGE_FROM - 1]), Some(0));
    let falling: Vec<u64> = (0..MERGE_ALL_DELTAS_FROM as u32)
        .map(|step| MB << (30 - step))
        .collect();
    assert_eq!(with_base(MB << 40, &falling), Some(1));
}

/// Checkpoints of 1 % of the state for long: few runs, and little is written again.
#[test]
fn many_checkpoints_of_little_change_cost_little_more_than_what_changed() {
    let (mut chain, mut written, mut most) = (RunChain::default(), 0, 0);
    for sequence in 0..1000 {
        let size = if sequence == 0 { 1 << 30 } else { (1 << 30) / 100 };
        chain.plan(SnapshotKind::Checkpoint);
        chain.stored(sequence, Some(run("x", size)));
        chain.release(sequence);
        written += size;
        if let Some(plan) = chain.plan_merge() {
            let total: u64 = plan.runs.iter().map(super::size_of).sum();
            // A base takes its deltas' rows in the place of its own.
            let size = if plan.with_base { 1 << 30 } else { total };
            written += size;
            chain.merged(&plan, Some(run("x", size)));
        }
        most = most.max(chain.newest_stored().len());
    }
    let changed = (1_u64 << 30) * 11;
    assert!(most <= MERGE_ALL_DELTAS_FROM, "{most} runs");
    assert!(written < 6 * changed, "{} times what changed", written / changed);
}
