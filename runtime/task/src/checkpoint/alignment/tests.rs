use proptest::prelude::*;

use super::*;

const EXACTLY_ONCE: bool = true;
const AT_LEAST_ONCE: bool = false;

#[test]
fn a_channel_waits_until_the_barrier_has_come_on_all() {
    let mut aligner = BarrierAligner::new(2);
    let first = aligner.barrier(1, 7, EXACTLY_ONCE);
    assert_eq!((first.started, first.block), (Some(7), Some(1)));
    let last = aligner.barrier(0, 7, EXACTLY_ONCE);
    assert_eq!((last.resume, last.block, last.complete), (true, None, vec![7]));
}

#[test]
fn one_channel_has_nothing_to_wait_for() {
    let step = BarrierAligner::new(1).barrier(0, 1, EXACTLY_ONCE);
    assert_eq!((step.block, step.complete), (None, vec![1]));
}

#[test]
fn an_ended_channel_counts_as_if_its_barrier_had_come() {
    let mut aligner = BarrierAligner::new(3);
    aligner.ended(0);
    assert!(aligner.barrier(1, 1, EXACTLY_ONCE).complete.is_empty());
    assert_eq!(aligner.ended(2).complete, [1]);
    assert_eq!(aligner.ended(2), Step::default());
    assert_eq!(aligner.barrier(1, 2, EXACTLY_ONCE).complete, [2]);
}

#[test]
fn a_newer_barrier_gives_the_older_checkpoint_up_and_lets_its_channels_go() {
    let mut aligner = BarrierAligner::new(3);
    aligner.barrier(0, 1, EXACTLY_ONCE);
    let newer = aligner.barrier(1, 2, EXACTLY_ONCE);
    assert_eq!(
        (newer.subsumed, newer.resume, newer.block),
        (vec![1], true, Some(1))
    );
    assert_eq!(aligner.barrier(2, 1, EXACTLY_ONCE), Step::default());
}

#[test]
fn an_aborted_checkpoint_lets_its_channels_go_and_its_late_barriers_mean_nothing() {
    let mut aligner = BarrierAligner::new(2);
    aligner.barrier(0, 1, EXACTLY_ONCE);
    assert!(aligner.abort(1).resume);
    assert_eq!(aligner.barrier(1, 1, EXACTLY_ONCE), Step::default());
    aligner.abort(2);
    assert_eq!(aligner.barrier(0, 2, EXACTLY_ONCE), Step::default());
    assert_eq!(aligner.barrier(0, 3, EXACTLY_ONCE).block, Some(0));
}

#[test]
fn at_least_once_blocks_nothing_and_has_several_under_way() {
    let mut aligner = BarrierAligner::new(2);
    assert_eq!(aligner.barrier(0, 1, AT_LEAST_ONCE).block, None);
    assert!(aligner.barrier(0, 2, AT_LEAST_ONCE).subsumed.is_empty());
    let first = aligner.barrier(1, 1, AT_LEAST_ONCE);
    assert_eq!((first.complete, first.resume), (vec![1], false));
    assert_eq!(aligner.barrier(1, 2, AT_LEAST_ONCE).complete, [2]);
}

#[test]
fn a_checkpoint_that_completes_gives_up_those_before_it() {
    let mut aligner = BarrierAligner::new(2);
    aligner.barrier(0, 1, AT_LEAST_ONCE);
    aligner.barrier(0, 2, AT_LEAST_ONCE);
    let second = aligner.barrier(1, 2, AT_LEAST_ONCE);
    assert_eq!((second.complete, second.subsumed), (vec![2], vec![1]));
}

#[test]
fn a_checkpoint_that_overtakes_lets_all_channels_go_and_ends_with_the_last_barrier() {
    let mut aligner = BarrierAligner::new(3);
    aligner.barrier(0, 1, EXACTLY_ONCE);
    assert!(aligner.overtake(1));
    assert!(!aligner.overtake(1));
    assert_eq!(
        [0, 1, 2].map(|channel| aligner.misses(1, channel)),
        [false, true, true]
    );
    assert_eq!(aligner.barrier(1, 1, EXACTLY_ONCE), Step::default());
    assert_eq!(aligner.ended(2).complete, [1]);
    assert!(!aligner.overtake(1));
}

#[derive(Debug, Clone, Copy)]
enum Fact {
    /// The next checkpoint's barrier on this channel, or one later if it skips one.
    Barrier {
        channel: usize,
        skip: u64,
    },
    End(usize),
    Abort(u64),
}

fn facts() -> impl Strategy<Value = Vec<Fact>> {
    let fact = prop_oneof![
        12 => (0..4_usize, prop_oneof![6 => Just(0_u64), 1 => Just(1)])
            .prop_map(|(channel, skip)| Fact::Barrier { channel, skip }),
        1 => (0..4_usize).prop_map(Fact::End),
        1 => (1..8_u64).prop_map(Fact::Abort),
    ];
    proptest::collection::vec(fact, 0..60)
}

proptest! {
    /// Against the plainest thing that can be said: a checkpoint completes when the last barrier of each open channel is
    /// its own, unless it was given up; a blocked channel says nothing.
    #[test]
    fn exactly_once_completes_what_every_open_channel_waits_at(facts in facts()) {
        let mut aligner = BarrierAligner::new(4);
        let mut at = [0_u64; 4];
        let (mut ended, mut blocked) = ([false; 4], [false; 4]);
        let (mut done, mut aborted) = (0_u64, BTreeSet::new());
        for fact in facts {
            let step = match fact {
                Fact::Barrier { channel, .. } | Fact::End(channel) if blocked[channel] || ended[channel] => continue,
                Fact::Barrier { channel, skip } => {
                    at[channel] += 1 + skip;
                    aligner.barrier(channel, at[channel], EXACTLY_ONCE)
                }
                Fact::End(channel) => {
                    ended[channel] = true;
                    aligner.ended(channel)
                }
                Fact::Abort(id) => {
                    if id > done { aborted.insert(id); }
                    aligner.abort(id)
                }
            };
            if step.resume { blocked = [false; 4]; }
            if let Some(channel) = step.block {
                prop_assert!(!ended[channel]);
                blocked[channel] = true;
            }
            let newest = at.iter().copied().max().unwrap_or(0);
            let all_there = (0..4).all(|channel| ended[channel] || at[channel] == newest);
            let expected = all_there && newest > done && !aborted.contains(&newest);
            prop_assert_eq!(&step.complete, &if expected { vec![newest] } else { vec![] });
            if expected {
                done = newest;
                prop_assert_eq!(blocked, [false; 4]);
            }
            // Blocked is exactly who waits at the checkpoint under way.
            let under_way = newest > done && !aborted.contains(&newest);
            for channel in 0..4 {
                prop_assert_eq!(blocked[channel], under_way && !ended[channel] && at[channel] == newest);
            }
        }
    }
}
