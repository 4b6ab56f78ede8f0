//! Leader election by a `coordination.k8s.io` Lease.
//!
//! ```text
//!   acquire: look every 2 s --> absent: create | released or not renewed for its duration: take over | wait
//!   hold:    renew every 5 s --> not renewed for 10 s, or another holds it: lost
//!   release: at a regular end, so that the standby need not wait
//! ```
//! Invariants: every write is conditional on the resourceVersion that was read, so two can't both win; a standby
//! measures the holder's silence by its own clock from when it saw the last change, so clocks need not agree; a leader
//! stops before its lease can be taken (10 s < 15 s).

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, ResourceExt};

const DURATION: Duration = Duration::from_secs(15);
const RENEW_EVERY: Duration = Duration::from_secs(5);
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Why this replica leads no longer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Lost {
    #[error("the lease is held by {0:?} now")]
    TakenBy(String),
    #[error("the lease could not be renewed for {seconds} s: {0}", seconds = RENEW_DEADLINE.as_secs())]
    NotRenewed(String),
}

/// What to do about a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Decision {
    Create,
    Take,
    Renew,
    Wait,
}

/// One replica's part in the election.
pub(crate) struct LeaseLock {
    api: Api<Lease>,
    name: String,
    identity: String,
    /// The resourceVersion that was seen last, and since when it is that.
    seen: Option<(String, Instant)>,
}

impl LeaseLock {
    pub(crate) fn new(api: Api<Lease>, name: String, identity: String) -> Self {
        Self {
            api,
            name,
            identity,
            seen: None,
        }
    }

    /// Waits until this replica leads. `on_answer` is called whenever the API server has answered.
    pub(crate) async fn acquire(&mut self, mut on_answer: impl FnMut()) {
        loop {
            match self.try_acquire().await {
                Ok(held) => {
                    on_answer();
                    if held {
                        return;
                    }
                }
                Err(error) => tracing::warn!(%error, lease = self.name, "the lease can't be read or written"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Renews until the lease is lost; says why it was.
    pub(crate) async fn hold(&mut self) -> Lost {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(RENEW_EVERY).await;
            loop {
                let error = match self.renew().await {
                    Ok(None) => {
                        renewed = Instant::now();
                        break;
                    }
                    Ok(Some(lost)) => return lost,
                    Err(error) => error.to_string(),
                };
                if renewed.elapsed() >= RENEW_DEADLINE {
                    return Lost::NotRenewed(error);
                }
                tracing::warn!(
                    error,
                    lease = self.name,
                    "the lease could not be renewed; trying again"
                );
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }

    /// Gives the lease up, if it is still ours.
    pub(crate) async fn release(&self) -> kube::Result<()> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            return Ok(());
        };
        if holder(&lease) != self.identity {
            return Ok(());
        }
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = None;
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        self.api
            .replace(&self.name, &PostParams::default(), &lease)
            .await
            .map(|_| ())
    }

    async fn try_acquire(&mut self) -> kube::Result<bool> {
        let lease = self.api.get_opt(&self.name).await?;
        let unchanged = self.note(lease.as_ref());
        match decide(lease.as_ref(), &self.identity, unchanged) {
            Decision::Wait => Ok(false),
            Decision::Create => {
                let mut lease = Lease {
                    metadata: ObjectMeta {
                        name: Some(self.name.clone()),
                        ..ObjectMeta::default()
                    },
                    spec: None,
                };
                self.claim(&mut lease, Timestamp::now());
                won(self.api.create(&PostParams::default(), &lease).await)
            }
            Decision::Take | Decision::Renew => {
                let mut lease = lease.unwrap_or_default();
                self.claim(&mut lease, Timestamp::now());
                won(self.api.replace(&self.name, &PostParams::default(), &lease).await)
            }
        }
    }

    async fn renew(&mut self) -> kube::Result<Option<Lost>> {
        let lease = self.api.get_opt(&self.name).await?;
        match lease {
            Some(mut lease) if holder(&lease) == self.identity => {
                self.claim(&mut lease, Timestamp::now());
                // A conflict is looked at again at once: the next read says who holds it.
                self.api
                    .replace(&self.name, &PostParams::default(), &lease)
                    .await
                    .map(|_| None)
            }
            Some(lease) => Ok(Some(Lost::TakenBy(holder(&lease).to_owned()))),
            None => Ok(Some(Lost::TakenBy("nobody: it was deleted".into()))),
        }
    }

    /// Remembers a lease's version; for how long it has been that.
    fn note(&mut self, lease: Option<&Lease>) -> Duration {
        let Some(version) = lease.and_then(ResourceExt::resource_version) else {
            self.seen = None;
            return Duration::ZERO;
        };
        match &self.seen {
            Some((seen, since)) if *seen == version => since.elapsed(),
            _ => {
                self.seen = Some((version, Instant::now()));
                Duration::ZERO
            }
        }
    }

    fn claim(&self, lease: &mut Lease, now: Timestamp) {
        let new_holder = holder(lease) != self.identity;
        let spec: &mut LeaseSpec = lease.spec.get_or_insert_default();
        if new_holder {
            spec.acquire_time = Some(MicroTime(now));
            spec.lease_transitions = Some(spec.lease_transitions.map_or(0, |count| count.saturating_add(1)));
        }
        spec.holder_identity = Some(self.identity.clone());
        spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
        spec.renew_time = Some(MicroTime(now));
    }
}

fn holder(lease: &Lease) -> &str {
    lease
        .spec
        .as_ref()
        .and_then(|spec| spec.holder_identity.as_deref())
        .unwrap_or_default()
}

/// A lost race is no error.
fn won<T>(answer: kube::Result<T>) -> kube::Result<bool> {
    match answer {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
        Err(error) => Err(error),
    }
}

fn decide(lease: Option<&Lease>, identity: &str, unchanged: Duration) -> Decision {
    let Some(lease) = lease else {
        return Decision::Create;
    };
    match holder(lease) {
        "" => Decision::Take,
        mine if mine == identity => Decision::Renew,
        _ => {
            let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
            let duration = seconds
                .and_then(|seconds| u64::try_from(seconds).ok())
                .map_or(DURATION, Duration::from_secs);
            if unchanged >= duration {
                Decision::Take
            } else {
                Decision::Wait
            }
        }
    }
}
