//! Which JobManager should lead on Kubernetes: by a Lease, which the operator made and a JobManager may read and write.
//!
//! ```text
//!   free, or mine ---------------------------------------------> take, renew     --> Granted
//!   another's, it is silent for 1.5 s and doesn't answer -------> take            --> Granted
//!   another's, it is silent for 15 s and doesn't say it leads --> take            --> Granted
//!   another's otherwise ----------------------------------------------------------> Leader
//!   mine, and the API server is away for 10 s ------------------------------------> Revoked
//! ```
//! The Lease is advice; the log in storage decides. So a leader that answers is left alone even when its Lease has run out: it can't
//! reach the API server, and the job doesn't need one. And one that is dead is followed as soon as it misses a renewal.
//!
//! Invariant: the identity is the pod's name, so a JobManager whose container starts again goes on holding the Lease.

use std::sync::Mutex;
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use thalweg_jobmanager::high_availability::{Candidate, Election, ElectionEvent, ElectionEvents};
use thalweg_lease::{Claim, LeaseLock, Seen};
use thalweg_proto::control::v1::LeaderRequest;
use thalweg_proto::control::v1::job_manager_client::JobManagerClient;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

/// What `kubectl get leases` shows; a holder that answers no question is followed after this silence.
const DURATION: Duration = Duration::from_secs(15);
/// Between two renewals of the holder.
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// Between two looks of the others.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The same, once a renewal is overdue.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// A renewal is overdue: its holder is asked whether it is there.
const OVERDUE: Duration = Duration::from_millis(1_200);
/// A holder that was silent for so long, and doesn't answer, is followed.
const MISSED: Duration = Duration::from_millis(1_500);
/// The API server was away for so long that somebody else may hold the Lease.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// For one request to the API server.
const API_TIMEOUT: Duration = Duration::from_secs(5);
/// For a holder's answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Events that wait to be looked at.
const EVENTS: usize = 8;

/// The environment variable with the Lease's name.
const LEASE_VARIABLE: &str = "THALWEG_LEASE_NAME";

/// An election by Lease.
pub(crate) struct LeaseElection {
    client: Client,
    name: String,
    namespace: String,
    identity: String,
    stop: watch::Sender<bool>,
    campaign: Mutex<Option<JoinHandle<()>>>,
}

impl LeaseElection {
    /// As the operator tells its pods.
    pub(crate) async fn of_pod() -> anyhow::Result<Self> {
        let variable = |name: &str| {
            std::env::var(name).with_context(|| {
                format!(
                    "high-availability.type kubernetes needs the environment variable {name}, which the operator sets; outside \
                     Kubernetes set the type to storage"
                )
            })
        };
        let (name, identity, namespace) = (
            variable(LEASE_VARIABLE)?,
            variable("POD_NAME")?,
            variable("POD_NAMESPACE")?,
        );
        let client = Client::try_default()
            .await
            .context("high-availability.type is kubernetes, and no Kubernetes API server is configured")?;
        Ok(Self {
            client,
            name,
            namespace,
            identity,
            stop: watch::channel(false).0,
            campaign: Mutex::default(),
        })
    }

    /// Ends the campaign and gives the Lease up, if this process holds it: the standby need not wait.
    pub(crate) async fn release(&self) {
        self.stop.send_replace(true);
        let campaign = self
            .campaign
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        if let Some(campaign) = campaign
            && timeout(API_TIMEOUT, campaign).await.is_err()
        {
            tracing::warn!(lease = self.name, "the lease could not be released in time");
        }
    }
}

impl Election for LeaseElection {
    fn campaign(&self, candidate: Candidate) -> ElectionEvents {
        let (events, stream) = mpsc::channel(EVENTS);
        let claim = Claim {
            name: self.name.clone(),
            identity: self.identity.clone(),
            address: Some(candidate.rpc_address),
            duration: DURATION,
        };
        let api: Api<Lease> = Api::namespaced(self.client.clone(), &self.namespace);
        let stand = Stand {
            lock: LeaseLock::new(api, claim),
            held: false,
            overdue: false,
            answered: Instant::now(),
        };
        let task = tokio::spawn(stand.run(events, self.stop.subscribe()));
        let mut campaign = self
            .campaign
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        *campaign = Some(task);
        Box::pin(ReceiverStream::new(stream))
    }
}

/// What a holder answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// It wasn't asked: it renewed in time.
    NotAsked,
    Leads,
    /// It is there and doesn't lead, or not yet.
    Follows,
    None,
}

/// Whether the Lease may be taken from whoever holds it.
fn is_free(seen: &Seen, answer: Answer) -> bool {
    if seen.holder().is_none() || seen.is_mine() {
        return true;
    }
    match answer {
        Answer::NotAsked | Answer::Leads => false,
        Answer::Follows => seen.expired(),
        Answer::None => seen.unchanged >= MISSED,
    }
}

/// One process' part in the election.
struct Stand {
    lock: LeaseLock,
    held: bool,
    /// The holder's renewal is overdue.
    overdue: bool,
    /// When the API server answered last.
    answered: Instant,
}

impl Stand {
    async fn run(mut self, events: mpsc::Sender<ElectionEvent>, mut stop: watch::Receiver<bool>) {
        loop {
            let step = async {
                if let Some(event) = self.step().await {
                    events.send(event).await.ok();
                }
                sleep(self.pause()).await;
            };
            // A leader that has stopped leading listens no more and still holds the Lease: until `release`, it is renewed no more.
            tokio::select! {
                () = step => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
            if events.is_closed() {
                stop.wait_for(|stop| *stop).await.ok();
                break;
            }
        }
        match timeout(API_TIMEOUT, self.lock.release()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the lease can't be released"),
            Err(_) => tracing::warn!("the lease can't be released: no answer of the API server"),
        }
    }

    fn pause(&self) -> Duration {
        match (self.held, self.overdue) {
            (true, _) => RENEW_EVERY,
            (false, true) => LOOK_AGAIN,
            (false, false) => LOOK_EVERY,
        }
    }

    /// Looks once, and takes or renews what may be taken.
    async fn step(&mut self) -> Option<ElectionEvent> {
        let outcome = timeout(API_TIMEOUT, self.contest()).await;
        let error = match outcome {
            Ok(Ok(event)) => {
                self.answered = Instant::now();
                self.held = event == Some(ElectionEvent::Granted);
                return event;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer of the API server".to_owned(),
        };
        let silence = self.answered.elapsed();
        tracing::warn!(
            error,
            lease = self.lock.claim().name,
            silence_s = silence.as_secs(),
            "the lease can't be read or written, trying again"
        );
        (self.held && silence >= RENEW_DEADLINE).then_some(ElectionEvent::Revoked)
    }

    async fn contest(&mut self) -> kube::Result<Option<ElectionEvent>> {
        let seen = match self.lock.held() {
            Some(held) => held,
            None => self.lock.look().await?,
        };
        self.judge(seen).await
    }

    async fn judge(&mut self, seen: Seen) -> kube::Result<Option<ElectionEvent>> {
        self.overdue = seen.unchanged >= OVERDUE;
        let address = seen.address().unwrap_or_default().to_owned();
        let mut seen = seen;
        let answer = match self.overdue && !seen.is_mine() {
            true => {
                let asked = Instant::now();
                let answer = ask(&address).await;
                // It may have renewed meanwhile: then taking it fails.
                seen.unchanged += asked.elapsed();
                answer
            }
            false => Answer::NotAsked,
        };
        if is_free(&seen, answer) {
            let taken = self.lock.take(seen).await?;
            // Who lost the race looks again, and sees who won.
            return Ok(taken.then_some(ElectionEvent::Granted));
        }
        let alive = answer != Answer::None;
        Ok(alive.then_some(ElectionEvent::Leader { address }))
    }
}

async fn ask(address: &str) -> Answer {
    let Ok(endpoint) = Endpoint::from_shared(format!("http://{address}")) else {
        return Answer::None;
    };
    let asking = async {
        let channel = endpoint.connect_timeout(ANSWER_TIMEOUT).connect().await.ok()?;
        let answer = JobManagerClient::new(channel).leader(LeaderRequest {}).await;
        answer.ok().map(tonic::Response::into_inner)
    };
    match timeout(ANSWER_TIMEOUT, asking).await {
        Ok(Some(answer)) if answer.is_leader => Answer::Leads,
        Ok(Some(_)) => Answer::Follows,
        Ok(None) | Err(_) => Answer::None,
    }
}

#[cfg(test)]
mod tests;
