//! Who looks after the jobs: asks for savepoints, stops a job with one and starts the next job of its line from there.
//!
//! ```text
//!   nothing --savepoint--> asked --told--> nothing
//!      '------stop-------> asked --told: it failed--> nothing
//!                            '----told: the folder, and FINISHED--> the next job is wanted
//! ```
//!
//! What is asked for is asked again, under the same id, of a leader that knows nothing of it. Invariant checked: what is told is in the log.

use std::collections::BTreeMap;

use thalweg_jobmanager::simulation::Wish;
use thalweg_types::JobId;

use super::{World, job};
use crate::shared::{Event, LINE_DIGITS, Wanted};
use crate::steps::Step;
use crate::store::{Content, shown};

/// Jobs of one line.
const RUNS: u128 = 3;

/// Jobs of which each starts from the savepoint of the one before.
#[derive(Debug)]
pub(super) struct Line {
    number: u128,
    run: u128,
    asked: Option<(String, Wish)>,
    pub(super) operations: u64,
}

impl Line {
    pub(super) fn new(number: u128) -> Self {
        Self {
            number,
            run: 0,
            asked: None,
            operations: 0,
        }
    }

    /// The one that runs, or is to run.
    pub(super) fn job(&self) -> JobId {
        JobId::from_u128(self.number | self.run << (4 * LINE_DIGITS))
    }

    /// Whether nothing is wanted of it any more, and it goes on or has finished.
    pub(super) fn is_settled(&self, world: &World, logged: &BTreeMap<JobId, usize>) -> bool {
        let job = self.job();
        let before = logged.get(&job).copied().unwrap_or_default();
        let goes_on = match world.shared.bounded {
            true => world.state(job) == "FINISHED",
            false => world.logged().get(&job).is_some_and(|now| *now > before),
        };
        self.asked.is_none() && goes_on
    }

    /// For a report.
    pub(super) fn told(&self, world: &World) -> String {
        format!(
            "{} {} asked {:?}",
            self.job(),
            world.state(self.job()),
            self.asked
        )
    }
}

impl World {
    pub(super) fn operate(&mut self) {
        let leader = self.leader();
        for place in 0..self.lines.len() {
            let job = self.lines[place].job();
            // Whoever was to take it was gone, or had no time yet.
            if !self.shared.truth.is_over(&job.to_string()) {
                self.job_managers[leader].submit(&mut self.shared, job);
            }
            match self.lines[place].asked.clone() {
                Some((id, wish)) => self.look_after(place, &id, wish),
                None if self.shared.faulty && self.shared.random.per_mille(400) => self.wish(place),
                None => {}
            }
        }
        let next = self.shared.random.between(300, 4_000);
        self.shared.at(self.shared.now_ms + next, Event::Operate);
    }

    fn wish(&mut self, place: usize) {
        let stops = self.lines[place].run + 1 < RUNS && self.shared.random.per_mille(500);
        let drain = self.shared.random.per_mille(300);
        let line = &mut self.lines[place];
        line.operations += 1;
        let id = format!("{}-{}", line.number, line.operations);
        let (wish, step) = match stops {
            true => (Wish::Stop { drain }, Step::StopAsked),
            false => (Wish::Savepoint, Step::SavepointAsked),
        };
        line.asked = Some((id.clone(), wish));
        self.shared.step(step, format_args!("operation {id} {wish:?}"));
        self.ask(place, &id, wish);
    }

    fn ask(&mut self, place: usize, id: &str, wish: Wish) {
        let (leader, job) = (self.leader(), self.lines[place].job());
        let asked = self.job_managers[leader].ask_for(&mut self.shared, job, id, wish);
        if let Some(Err(failure)) = asked {
            self.shared
                .say_so(format_args!("operation {id} is refused: {failure}"));
            self.lines[place].asked = None;
        }
    }

    fn look_after(&mut self, place: usize, id: &str, wish: Wish) {
        let (leader, job) = (self.leader(), self.lines[place].job());
        let name = job.to_string();
        match self.job_managers[leader].operation(job, id) {
            Some(None) => {}
            Some(Some(end)) => {
                if !self.shared.truth.has_operation(&name, id) {
                    self.shared.violated(format_args!(
                        "operation {id} is told to have ended, which no log has"
                    ));
                }
                match (end, wish) {
                    (Ok(folder), Wish::Stop { .. }) => self.stopped(place, id, &folder),
                    (Ok(folder), Wish::Savepoint) => {
                        self.lines[place].asked = None;
                        self.shared.step(Step::SavepointMade, id);
                        self.metadata_in(&folder);
                    }
                    (Err(why), wish) => {
                        let step = match wish {
                            Wish::Savepoint => Step::SavepointFailed,
                            Wish::Stop { .. } => Step::StopFailed,
                        };
                        self.shared.step(step, id);
                        self.shared
                            .say_so(format_args!("operation {id}: {}", shown(&why)));
                        self.lines[place].asked = None;
                    }
                }
            }
            None if self.state(job) == "FINISHED" => {
                if wish != Wish::Savepoint && self.shared.truth.has_stopped(&name, id) {
                    self.shared.violated(format_args!(
                        "{job} was stopped with a savepoint, and nobody knows that of operation {id}"
                    ));
                }
                self.lines[place].asked = None;
            }
            None => self.ask(place, id, wish),
        }
    }

    /// The next job of the line starts where this one was stopped.
    fn stopped(&mut self, place: usize, id: &str, folder: &str) {
        if self.state(self.lines[place].job()) != "FINISHED" {
            return;
        }
        self.shared.step(Step::Stopped, id);
        let Some(start) = self.metadata_in(folder) else {
            return;
        };
        let line = &mut self.lines[place];
        line.asked = None;
        line.run += 1;
        let next = line.job();
        self.shared.step(Step::StartedFromSavepoint, next);
        self.shared.wanted.push(Wanted {
            job: job(next),
            start: Some((folder.to_owned(), start)),
        });
        let leader = self.leader();
        self.job_managers[leader].submit(&mut self.shared, next);
    }

    fn metadata_in(&mut self, folder: &str) -> Option<thalweg_proto::state::v1::SnapshotMetadata> {
        let path = format!("{folder}/_metadata");
        match self.shared.store.objects.get(&path) {
            Some(Content::Metadata(metadata)) => Some((**metadata).clone()),
            _ => {
                self.shared
                    .violated(format_args!("{} is not there", shown(&path)));
                None
            }
        }
    }
}
