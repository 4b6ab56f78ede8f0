//! What is broken, and when: drawn from a seed, so that a run that failed can be had again.

use std::time::Duration;

/// Numbers that a seed decides, for ever the same ones (splitmix64).
#[derive(Debug, Clone)]
pub(super) struct Draw(u64);

impl Draw {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `end` - 1.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(super) fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// `kill -9` of a worker; its TaskManager lives.
    KillWorker,
    /// `kill -9` of a TaskManager and so of its workers; another one comes.
    KillTaskManager,
    /// A TaskManager and its workers stand still for longer than heartbeats may be missing, and then go on as if nothing had been.
    PauseTaskManager,
    /// `kill -9` of the JobManager that leads; it is started again.
    KillJobManager,
    /// The JobManager that leads stands still for longer than heartbeats may be missing.
    PauseJobManager,
    /// `kill -9` of the broker, which is started again.
    KillBroker,
    /// The broker is told to end, and is started again.
    StopBroker,
    /// Each request to S3 is answered by 503.
    StoreRefuses,
    /// No request to S3 is answered.
    StoreHangs,
    /// Requests to S3 are carried out, the answers are lost.
    StoreLosesAnswers,
}

/// Each comes as often as it stands here before all come again in another order.
const DECK: [Fault; 15] = [
    Fault::KillWorker,
    Fault::KillWorker,
    Fault::KillWorker,
    Fault::KillTaskManager,
    Fault::KillTaskManager,
    Fault::PauseTaskManager,
    Fault::KillJobManager,
    Fault::KillJobManager,
    Fault::PauseJobManager,
    Fault::KillBroker,
    Fault::StopBroker,
    Fault::StoreRefuses,
    Fault::StoreRefuses,
    Fault::StoreHangs,
    Fault::StoreLosesAnswers,
];

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blow {
    pub(super) fault: Fault,
    /// Which of those that it may hit, as a number to take the remainder of.
    pub(super) victim: usize,
    /// Of what lasts: pauses, outages, and how long what was killed is away.
    pub(super) lasts: Duration,
}

/// Faults at the same time, and what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) blows: Vec<Blow>,
    /// Whether the next step waits until the job has recovered.
    pub(super) until_recovered: bool,
    /// Before the next step, so that it meets any point of a checkpoint or of a recovery.
    pub(super) then: Duration,
}

/// Steps with so many faults in all.
pub(super) fn plan(seed: u64, faults: usize) -> Vec<Step> {
    let mut draw = Draw::new(seed);
    let mut deck = Vec::new();
    let mut steps = Vec::new();
    let mut left = faults;
    while left > 0 {
        let together = match draw.below(100) {
            0..70 => 1,
            70..90 => 2,
            _ => 3,
        };
        let together = together.min(left);
        left -= together;
        let blows = (0..together).map(|_| blow(&mut draw, &mut deck)).collect();
        steps.push(Step {
            blows,
            until_recovered: draw.chance(75),
            then: draw.millis(0, 1_000),
        });
    }
    steps
}

fn blow(draw: &mut Draw, deck: &mut Vec<Fault>) -> Blow {
    if deck.is_empty() {
        deck.extend(DECK);
        for last in (1..deck.len()).rev() {
            deck.swap(last, draw.below(last as u64 + 1) as usize);
        }
    }
    let fault = deck.pop().unwrap();
    let lasts = match fault {
        Fault::PauseTaskManager | Fault::PauseJobManager => draw.millis(2_500, 5_000),
        Fault::StoreRefuses | Fault::StoreHangs => draw.millis(500, 5_000),
        Fault::StoreLosesAnswers => draw.millis(200, 1_500),
        _ => draw.millis(0, 300),
    };
    Blow {
        fault,
        victim: draw.next() as usize,
        lasts,
    }
}

#[test]
fn a_seed_always_draws_the_same_and_all_kinds_come_in_turn() {
    let steps = plan(7, 200);
    assert_eq!(steps, plan(7, 200));
    assert_ne!(steps, plan(8, 200));
    let faults: Vec<Fault> = steps
        .iter()
        .flat_map(|step| &step.blows)
        .map(|blow| blow.fault)
        .collect();
    assert_eq!(faults.len(), 200);
    for fault in DECK {
        assert!(faults[..DECK.len()].contains(&fault), "{fault:?}");
    }
}
