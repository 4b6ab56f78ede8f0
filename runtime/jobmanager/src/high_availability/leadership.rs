//! From advice to leadership: a state machine, and the loop around it.
//!
//! ```text
//!   Standby --Granted, seen who is the newest--> Taking --leader/<n+1> is ours--> Leading --a successor--> the process ends
//!      ^ somebody else was quicker -----------------'
//! ```
//!
//! Invariants: leadership is taken once a process and ends with it; what an election says never ends it: only a successor in
//! `leader/` does, or a job's log that somebody else goes on with, or storage that takes no record for too long.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use sha2::{Digest, Sha256};
use thalweg_proto::ha::v1::record::Content;
use thalweg_proto::ha::v1::{Leader, Record};
use thalweg_types::config::Configuration;
use tokio::sync::oneshot;

use super::election::{Candidate, Election, ElectionEvent, leader_of, newest_leader};
use super::fence::Fence;
use super::log::{LogError, RecordLog, Writer};
use super::retirement::is_retired;
use super::role::{KnownLeader, RoleSender};
use crate::control_plane::Clock;

/// How often `leader/` is looked at without a reason.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Records in `leader/` that stay.
const KEPT: u64 = 64;
/// Digits of a value's hash.
const HASH_DIGITS: usize = 16;
/// Keys that belong to one process.
const OF_ONE_PROCESS: [&str; 12] = [
    "jobmanager.rpc.",
    "jobmanager.bind-host",
    "jobmanager.memory.",
    "rest.port",
    "rest.bind-port",
    "rest.address",
    "rest.bind-address",
    "metrics.",
    "io.tmp.dirs",
    "process.",
    "taskmanager.host",
    "taskmanager.bind-host",
];

/// What happened.
#[derive(Debug, Clone, PartialEq)]
enum Fact {
    Election(ElectionEvent),
    /// The newest record of `leader/`.
    Looked(Option<Box<Record>>),
    /// It is time to look again.
    Tick,
    /// The record of this number is ours.
    Took(u64),
    /// It is another's.
    NotTaken,
    /// Storage did not answer.
    TakeFailed,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
enum Action {
    Look,
    Take(u64),
    Lead(u64),
    /// This one leads, or nobody.
    Follow(Option<Box<Record>>),
    /// The process ends.
    Stop(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Standby,
    Taking,
    Leading(u64),
    Stopped,
}

/// The state machine.
struct Leadership {
    state: State,
    configuration: Configuration,
    /// It should lead.
    granted: bool,
    /// Whoever leads is alive.
    leader_lives: bool,
}

impl Leadership {
    fn new(configuration: Configuration) -> Self {
        Self {
            state: State::Standby,
            configuration,
            granted: false,
            leader_lives: false,
        }
    }

    fn handle(&mut self, fact: Fact) -> Vec<Action> {
        match (self.state, fact) {
            (State::Stopped, _) => Vec::new(),
            (_, Fact::Tick) => vec![Action::Look],
            (state, Fact::Election(event)) => self.advised(state, &event),
            (state, Fact::Looked(newest)) => self.looked(state, newest),
            (_, Fact::Took(epoch)) => {
                self.state = State::Leading(epoch);
                vec![Action::Lead(epoch)]
            }
            (_, Fact::NotTaken) => {
                self.state = State::Standby;
                self.granted = false;
                vec![Action::Look]
            }
            // Advice is repeated.
            (_, Fact::TakeFailed) => {
                self.state = State::Standby;
                self.granted = false;
                Vec::new()
            }
        }
    }

    fn advised(&mut self, state: State, event: &ElectionEvent) -> Vec<Action> {
        self.granted = *event == ElectionEvent::Granted;
        self.leader_lives = matches!(event, ElectionEvent::Leader { .. });
        match (state, event) {
            (State::Taking, _) | (State::Leading(_), ElectionEvent::Granted) => Vec::new(),
            _ => vec![Action::Look],
        }
    }

    fn looked(&mut self, state: State, newest: Option<Box<Record>>) -> Vec<Action> {
        let number = newest.as_ref().map_or(0, |newest| newest.number);
        if newest.as_deref().is_some_and(is_retired) {
            return self.retired(state, number);
        }
        match state {
            State::Leading(epoch) if number > epoch => {
                let of = newest.as_deref().and_then(leader_of);
                let address = of.map_or("", |(_, leader)| &leader.rpc_address);
                self.stop(format!(
                    "this JobManager leads no longer: {address} took over with epoch {number}"
                ))
            }
            State::Standby if self.granted => {
                self.state = State::Taking;
                vec![Action::Take(number + 1)]
            }
            State::Standby => {
                let other = newest.as_deref().and_then(leader_of);
                let difference = other.filter(|_| self.leader_lives).and_then(|(record, leader)| {
                    let key = first_difference(&record.instance, &leader.configuration, &self.configuration)?;
                    Some((key, leader.rpc_address.clone()))
                });
                match difference {
                    Some((key, address)) => self.stop(format!(
                        "this JobManager can't stand by for the leader {address} (epoch {number}): the configuration key {key:?} has \
                         another value here; start all JobManagers of a cluster with the same configuration"
                    )),
                    None => vec![Action::Follow(newest)],
                }
            }
            State::Leading(_) | State::Taking | State::Stopped => Vec::new(),
        }
    }

    /// Nobody leads any more. Who led last, and wrote that, shows how its jobs ended until it is told to end itself.
    fn retired(&mut self, state: State, number: u64) -> Vec<Action> {
        match state {
            State::Leading(epoch) if number == epoch + 1 => Vec::new(),
            State::Taking | State::Stopped => Vec::new(),
            State::Leading(_) | State::Standby => self.stop(
                "this JobManager has nothing to lead: its cluster was deleted, and what it left in high-availability.storageDir with it"
                    .to_owned(),
            ),
        }
    }

    fn stop(&mut self, reason: String) -> Vec<Action> {
        self.state = State::Stopped;
        vec![Action::Stop(reason)]
    }
}

/// What a standby's configuration is compared with: no value can be read from it.
fn hashed(instance: &str, configuration: &Configuration) -> BTreeMap<String, String> {
    let of_all = |(key, _): &(&str, &str)| !OF_ONE_PROCESS.iter().any(|own| key.starts_with(own));
    let hash = |(key, value): (&str, &str)| {
        let digest = Sha256::digest(format!("{instance}\n{key}\n{value}"));
        let mut digits = hex::encode(digest);
        digits.truncate(HASH_DIGITS);
        (key.to_owned(), digits)
    };
    configuration.iter().filter(of_all).map(hash).collect()
}

/// The first key whose value differs, in the order of the keys.
fn first_difference(
    instance: &str,
    theirs: &std::collections::HashMap<String, String>,
    ours: &Configuration,
) -> Option<String> {
    let ours = hashed(instance, ours);
    let differs = |key: &&String| theirs.get(*key) != ours.get(*key);
    theirs.keys().chain(ours.keys()).filter(differs).min().cloned()
}

/// What the loop needs.
pub(crate) struct Campaign {
    pub(crate) leaders: RecordLog,
    pub(crate) candidate: Candidate,
    pub(crate) configuration: Configuration,
    pub(crate) election: Arc<dyn Election>,
    pub(crate) fence: Fence,
    pub(crate) clock: Clock,
}

impl Campaign {
    /// Stands for election, and goes on watching while it leads. `elected` hears once that it leads, and has to say so by the role.
    pub(crate) async fn run(self, role: RoleSender, elected: oneshot::Sender<KnownLeader>) {
        let mut leadership = Leadership::new(self.configuration.clone());
        let mut events = self.election.campaign(self.candidate.clone());
        let mut elected = Some(elected);
        let mut facts = vec![Fact::Tick];
        let mut fenced = Box::pin(self.fence.raised());
        loop {
            while let Some(fact) = facts.pop() {
                for action in leadership.handle(fact) {
                    match action {
                        Action::Look => facts.extend(self.look().await),
                        Action::Take(number) => facts.push(self.take(number).await),
                        Action::Lead(epoch) => {
                            if let Some(elected) = elected.take() {
                                elected.send(self.known(epoch)).ok();
                            }
                        }
                        Action::Follow(newest) => role.follow(newest.as_deref().and_then(known)),
                        Action::Stop(reason) => self.fence.raise(reason),
                    }
                }
            }
            let fact = tokio::select! {
                event = events.next() => event.map(Fact::Election),
                () = tokio::time::sleep(LOOK_EVERY) => Some(Fact::Tick),
                _ = &mut fenced => return,
            };
            match fact {
                Some(fact) => facts.push(fact),
                None => {
                    let reason = "the election ended by itself".to_owned();
                    return self.fence.raise(reason);
                }
            }
        }
    }

    async fn look(&self) -> Option<Fact> {
        match newest_leader(&self.leaders).await {
            Ok(newest) => Some(Fact::Looked(newest.map(Box::new))),
            Err(error) => {
                tracing::warn!(%error, "who leads can't be looked up, trying again");
                None
            }
        }
    }

    async fn take(&self, number: u64) -> Fact {
        let writer = Writer {
            instance: self.candidate.instance.clone(),
            epoch: number,
        };
        let content = Content::Leader(Leader {
            rpc_address: self.candidate.rpc_address.clone(),
            rest_address: self.candidate.rest_address.clone(),
            configuration: hashed(&self.candidate.instance, &self.configuration)
                .into_iter()
                .collect(),
            engine_version: env!("CARGO_PKG_VERSION").to_owned(),
        });
        // One process takes a number once: its own record of that number is its own, whichever answer was lost.
        let now_ms = self.clock.now_ms();
        match self
            .leaders
            .append(&writer, number, number, content, now_ms)
            .await
        {
            Ok(()) => {
                let leaders = self.leaders.clone();
                // Jobs wait for this leader: it does not wait for that.
                tokio::spawn(async move {
                    if let Err(error) = leaders.delete_before(number.saturating_sub(KEPT)).await {
                        tracing::debug!(%error, "old records of leaders stay");
                    }
                });
                Fact::Took(number)
            }
            Err(LogError::Superseded { instance, .. }) => {
                tracing::info!(epoch = number, instance, "another JobManager was quicker to lead");
                Fact::NotTaken
            }
            Err(error) => {
                tracing::warn!(%error, epoch = number, "leadership can't be taken, trying again");
                Fact::TakeFailed
            }
        }
    }

    fn known(&self, epoch: u64) -> KnownLeader {
        KnownLeader {
            epoch,
            rpc_address: self.candidate.rpc_address.clone(),
            rest_address: self.candidate.rest_address.clone(),
        }
    }
}

fn known(record: &Record) -> Option<KnownLeader> {
    let (record, leader) = leader_of(record)?;
    Some(KnownLeader {
        epoch: record.number,
        rpc_address: leader.rpc_address.clone(),
        rest_address: leader.rest_address.clone(),
    })
}

#[cfg(test)]
mod tests;
