//! Which JobManager leads: several may be there, of which one does.
//!
//! ```text
//!   jobmanager.rpc.address: "jm-a:6123,jm-b:6123" or one name with several addresses --resolve--> ask each: Leader()
//!        answers --choose--> the highest epoch, never one below what was followed before
//! ```
//!
//! A single JobManager without high availability is not asked: it is the leader, whatever its epoch.
//!
//! Invariants: who is gone or hangs holds nobody up: once somebody says that it leads later than whoever was followed, the others have
//! [`GRACE`] to say better; and while one is dialed, a later one is looked out for.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use thalweg_proto::control::v1::job_manager_client::JobManagerClient;
use thalweg_proto::control::v1::{LeaderRequest, LeaderResponse};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};

use crate::TaskManagerError;

/// Between two looks for a newer leader.
pub(crate) const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// The same, while there is none.
pub(crate) const SEARCH_INTERVAL: Duration = Duration::from_millis(200);
/// For the answer of one JobManager: one that hangs is none.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// For others to answer when one says that it leads.
const GRACE: Duration = Duration::from_millis(50);
/// More addresses than this are a mistake, or somebody else's.
const MOST_ADDRESSES: usize = 64;

/// Whom to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leader {
    /// `host:port`.
    pub(crate) address: String,
    /// 0 = not known before it is asked to take this TaskManager in.
    pub(crate) epoch: u64,
}

/// There is nobody to follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("none of {asked} JobManager address(es) knows of a leader, {silent} gave no answer")]
pub(crate) struct NoLeader {
    asked: usize,
    silent: usize,
}

/// All JobManagers that are known.
#[derive(Debug)]
pub(crate) struct JobManagers {
    /// `host:port` each.
    names: Vec<String>,
    elects: bool,
    clients: HashMap<String, JobManagerClient<Channel>>,
}

impl JobManagers {
    /// Of a comma list.
    pub(crate) fn parse(list: &str, high_availability: bool) -> Result<Self, TaskManagerError> {
        let malformed = || TaskManagerError::JobManagerAddress {
            address: list.to_owned(),
        };
        let names: Vec<String> = list
            .split(',')
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .collect();
        for name in &names {
            endpoint(name).map_err(|_| malformed())?;
        }
        if names.is_empty() {
            return Err(malformed());
        }
        Ok(Self {
            elects: high_availability || names.len() > 1,
            names,
            clients: HashMap::new(),
        })
    }

    /// Whether one of several leads, by its epoch.
    pub(crate) fn elect(&self) -> bool {
        self.elects
    }

    /// The leader; `followed`: the highest epoch so far.
    pub(crate) async fn leader(&mut self, followed: u64) -> Result<Leader, NoLeader> {
        if !self.elects {
            let address = self.names.first().cloned().unwrap_or_default();
            return Ok(Leader { address, epoch: 0 });
        }
        self.search(followed, followed).await
    }

    /// The leader of the highest epoch, none below `lowest`.
    async fn search(&mut self, lowest: u64, followed: u64) -> Result<Leader, NoLeader> {
        let (answers, asked) = self.ask(followed).await;
        choose(&answers, lowest).ok_or(NoLeader {
            asked,
            silent: asked - answers.len(),
        })
    }

    /// Waits until there is a leader of a higher epoch; looks that often.
    pub(crate) async fn newer_than(&mut self, epoch: u64, every: Duration) -> Leader {
        loop {
            if !self.elects {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(every).await;
            if let Ok(leader) = self.search(epoch.saturating_add(1), epoch).await {
                return leader;
            }
        }
    }

    /// What those say that answer, by address, and how many were asked. One that leads with a later epoch than `followed` is waited for,
    /// and nobody for long after it.
    async fn ask(&mut self, followed: u64) -> (Vec<(String, LeaderResponse)>, usize) {
        let addresses = self.resolve().await;
        self.clients.retain(|address, _| addresses.contains(address));
        let mut questions = FuturesUnordered::new();
        for address in addresses {
            let Some(mut client) = self.client(&address) else {
                continue;
            };
            questions.push(async move {
                let answer = timeout(ANSWER_TIMEOUT, client.leader(LeaderRequest {})).await;
                match answer {
                    Ok(Ok(answer)) => Some((address, answer.into_inner())),
                    Ok(Err(status)) => {
                        tracing::debug!(address, %status, "a JobManager does not say who leads");
                        None
                    }
                    Err(_) => None,
                }
            });
        }
        let asked = questions.len();
        let (mut answers, mut patience) = (Vec::with_capacity(asked), ANSWER_TIMEOUT);
        while let Ok(Some(answer)) = timeout(patience, questions.next()).await {
            if let Some((address, answer)) = answer {
                if answer.is_leader && answer.epoch > followed {
                    patience = GRACE;
                }
                answers.push((address, answer));
            }
        }
        (answers, asked)
    }

    /// All addresses of all names, bounded.
    async fn resolve(&self) -> BTreeSet<String> {
        let mut addresses = BTreeSet::new();
        let lookups = self.names.iter().map(|name| async move {
            let found = timeout(ANSWER_TIMEOUT, tokio::net::lookup_host(name)).await;
            (name, found)
        });
        for (name, found) in futures::future::join_all(lookups).await {
            match found {
                Ok(Ok(found)) => addresses.extend(found.map(|address| address.to_string())),
                Ok(Err(error)) => tracing::debug!(name, %error, "a JobManager's name can't be resolved"),
                Err(_) => tracing::debug!(name, "a JobManager's name was not resolved in time"),
            }
        }
        while addresses.len() > MOST_ADDRESSES {
            addresses.pop_last();
        }
        addresses
    }

    fn client(&mut self, address: &str) -> Option<JobManagerClient<Channel>> {
        if !self.clients.contains_key(address) {
            let endpoint = endpoint(address).ok()?.connect_timeout(ANSWER_TIMEOUT);
            let client = JobManagerClient::new(endpoint.connect_lazy());
            self.clients.insert(address.to_owned(), client);
        }
        self.clients.get(address).cloned()
    }
}

/// Of `host:port`.
pub(crate) fn endpoint(address: &str) -> Result<Endpoint, tonic::transport::Error> {
    Endpoint::from_shared(format!("http://{address}"))
}

/// The leader of the highest epoch that anybody knows of, none below `lowest`. What it says of itself counts before what others say:
/// its address is one that was reached.
fn choose(answers: &[(String, LeaderResponse)], lowest: u64) -> Option<Leader> {
    let itself = answers
        .iter()
        .filter(|(_, answer)| answer.is_leader)
        .map(|(asked, answer)| (true, asked, answer.epoch));
    let another = answers
        .iter()
        .map(|(_, answer)| (false, &answer.rpc_address, answer.leader_epoch));
    let usable = |(_, address, epoch): &(bool, &String, u64)| *epoch >= lowest.max(1) && !address.is_empty();
    let best = itself
        .chain(another)
        .filter(usable)
        .max_by_key(|(itself, _, epoch)| (*epoch, *itself));
    best.map(|(_, address, epoch)| Leader {
        address: address.clone(),
        epoch,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asked where, the epoch, and where the leader is; empty = it is there.
    fn answers(answers: &[(&str, u64, &str)]) -> Vec<(String, LeaderResponse)> {
        let answer = |(asked, epoch, leader): &(&str, u64, &str)| {
            let answer = LeaderResponse {
                epoch: if leader.is_empty() { *epoch } else { 0 },
                leader_epoch: *epoch,
                rpc_address: (*leader).to_owned(),
                is_leader: leader.is_empty(),
                ..LeaderResponse::default()
            };
            ((*asked).to_owned(), answer)
        };
        answers.iter().map(answer).collect()
    }

    fn chosen(all: &[(&str, u64, &str)], lowest: u64) -> Option<(String, u64)> {
        choose(&answers(all), lowest).map(|leader| (leader.address, leader.epoch))
    }

    #[test]
    fn the_highest_epoch_is_followed_whoever_knows_of_it() {
        assert_eq!(
            chosen(&[("a", 3, ""), ("b", 4, "")], 0),
            Some(("b".to_owned(), 4))
        );
        assert_eq!(
            chosen(&[("a", 3, ""), ("b", 4, "c")], 0),
            Some(("c".to_owned(), 4))
        );
    }

    #[test]
    fn the_leaders_own_answer_comes_first() {
        let all = [
            ("standby", 4, "name-of-b"),
            ("b", 4, ""),
            ("other", 4, "name-of-b"),
        ];
        assert_eq!(chosen(&all, 0), Some(("b".to_owned(), 4)));
    }

    #[test]
    fn an_earlier_leader_that_wakes_up_is_not_followed() {
        assert_eq!(chosen(&[("a", 3, "")], 4), None);
        assert_eq!(chosen(&[("a", 4, "")], 4), Some(("a".to_owned(), 4)));
    }

    #[test]
    fn one_that_still_leads_and_knows_of_a_successor_is_left_for_it() {
        let answer = LeaderResponse {
            epoch: 3,
            leader_epoch: 4,
            rpc_address: "b".to_owned(),
            is_leader: true,
            ..LeaderResponse::default()
        };
        let (address, epoch) = ("b".to_owned(), 4);
        assert_eq!(
            choose(&[("a".to_owned(), answer)], 0),
            Some(Leader { address, epoch })
        );
    }

    #[test]
    fn while_nobody_was_elected_there_is_nobody_to_follow() {
        let nobody = vec![("a".to_owned(), LeaderResponse::default())];
        assert_eq!(choose(&nobody, 0), None);
    }

    #[test]
    fn addresses_are_a_comma_list() {
        let two = JobManagers::parse("a:6123, b:6124", false).unwrap();
        assert_eq!(
            (two.names.as_slice(), two.elect()),
            (&["a:6123", "b:6124"].map(str::to_owned)[..], true)
        );
        assert!(!JobManagers::parse("a:6123", false).unwrap().elect());
        assert!(JobManagers::parse("a:6123", true).unwrap().elect());
        for malformed in ["", " , ", "a b:1"] {
            assert!(JobManagers::parse(malformed, false).is_err(), "{malformed:?}");
        }
    }
}
