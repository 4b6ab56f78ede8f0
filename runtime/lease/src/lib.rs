//! One `coordination.k8s.io` Lease that several processes want: the steps, without the loop around them.
//!
//! ```text
//!   look --> absent | free | mine | another's, unchanged for so long
//!     `--> take: create or replace, conditional on what was seen --> held, or another was quicker
//!   release: the holder is removed, if it is us
//! ```
//! When to look, to take and to give up differs between the operator's replicas and JobManagers, so it is theirs to say.
//!
//! Invariants: every write is conditional on the resourceVersion that was read, so two can't both win; a holder's silence is
//! measured by the looker's own clock from when it saw the last change, so clocks need not agree.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use tokio::time::Instant;

/// On a Lease: where its holder answers (`host:port`).
pub const ANNOTATION_ADDRESS: &str = "thalweg.dev/address";

/// Who wants a Lease, and which.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The Lease.
    pub name: String,
    /// By what its holder is known; the same after a restart, so that who comes back goes on holding it.
    pub identity: String,
    /// Where the holder answers, told in [`ANNOTATION_ADDRESS`].
    pub address: Option<String>,
    /// After what silence others may take it.
    pub duration: Duration,
}

/// A Lease as it was seen.
#[derive(Debug, Clone)]
pub struct Seen {
    lease: Option<Lease>,
    identity: String,
    duration: Duration,
    /// For how long it is as it is, as far as this process has seen.
    pub unchanged: Duration,
}

impl Seen {
    /// Whoever holds it; nobody if it is absent or released.
    pub fn holder(&self) -> Option<&str> {
        let spec = self.lease.as_ref()?.spec.as_ref()?;
        spec.holder_identity
            .as_deref()
            .filter(|holder| !holder.is_empty())
    }

    /// Where the holder answers.
    pub fn address(&self) -> Option<&str> {
        let annotations = self.lease.as_ref()?.metadata.annotations.as_ref()?;
        annotations.get(ANNOTATION_ADDRESS).map(String::as_str)
    }

    /// Whether it exists.
    pub fn exists(&self) -> bool {
        self.lease.is_some()
    }

    /// Whether whoever looks holds it.
    pub fn is_mine(&self) -> bool {
        self.holder() == Some(&self.identity)
    }

    /// Whether its holder was silent for the Lease's own duration.
    pub fn expired(&self) -> bool {
        let spec = self.lease.as_ref().and_then(|lease| lease.spec.as_ref());
        let seconds = spec.and_then(|spec| spec.lease_duration_seconds);
        let duration = seconds.and_then(|seconds| u64::try_from(seconds).ok());
        self.unchanged >= duration.map_or(self.duration, Duration::from_secs)
    }
}

/// One process' part in the contest.
pub struct LeaseLock {
    api: Api<Lease>,
    claim: Claim,
    /// The resourceVersion that was seen last, and since when it is that.
    seen: Option<(String, Instant)>,
    /// As our own last write left it; nothing if another's write may have come since.
    held: Option<Lease>,
}

impl LeaseLock {
    /// Touches nothing yet.
    pub fn new(api: Api<Lease>, claim: Claim) -> Self {
        Self {
            api,
            claim,
            seen: None,
            held: None,
        }
    }

    /// Which Lease, and for whom.
    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Reads it.
    ///
    /// # Errors
    /// The API server gave no answer, or refused.
    pub async fn look(&mut self) -> kube::Result<Seen> {
        let lease = self.api.get_opt(&self.claim.name).await?;
        let unchanged = self.note(lease.as_ref());
        Ok(self.seen_as(lease, unchanged))
    }

    /// What this process wrote last, if that is all it knows: to renew it without a look.
    pub fn held(&self) -> Option<Seen> {
        let held = self.held.clone()?;
        Some(self.seen_as(Some(held), Duration::ZERO))
    }

    fn seen_as(&self, lease: Option<Lease>, unchanged: Duration) -> Seen {
        Seen {
            lease,
            unchanged,
            identity: self.claim.identity.clone(),
            duration: self.claim.duration,
        }
    }

    /// Takes or renews what was seen; whether it is ours now. A lost race is no error.
    ///
    /// # Errors
    /// The API server gave no answer, or refused.
    pub async fn take(&mut self, seen: Seen) -> kube::Result<bool> {
        self.held = None;
        let parameters = PostParams::default();
        let answer = match seen.lease {
            Some(mut lease) => {
                self.fill(&mut lease, Timestamp::now());
                self.api.replace(&self.claim.name, &parameters, &lease).await
            }
            None => {
                let mut lease = Lease {
                    metadata: ObjectMeta {
                        name: Some(self.claim.name.clone()),
                        ..ObjectMeta::default()
                    },
                    spec: None,
                };
                self.fill(&mut lease, Timestamp::now());
                self.api.create(&parameters, &lease).await
            }
        };
        match answer {
            Ok(lease) => {
                self.held = Some(lease);
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives it up, if it is still ours.
    ///
    /// # Errors
    /// The API server gave no answer, or refused.
    pub async fn release(&mut self) -> kube::Result<()> {
        self.held = None;
        let seen = self.look().await?;
        if !seen.is_mine() {
            return Ok(());
        }
        let Some(mut lease) = seen.lease else {
            return Ok(());
        };
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = None;
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        let answer = self
            .api
            .replace(&self.claim.name, &PostParams::default(), &lease)
            .await;
        match answer {
            Ok(_) => Ok(()),
            // Somebody else has it by now.
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Remembers a Lease's version; for how long it has been that.
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

    fn fill(&self, lease: &mut Lease, now: Timestamp) {
        if let Some(address) = &self.claim.address {
            let annotations = lease.metadata.annotations.get_or_insert_default();
            annotations.insert(ANNOTATION_ADDRESS.into(), address.clone());
        }
        let spec: &mut LeaseSpec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_ref() != Some(&self.claim.identity) {
            spec.acquire_time = Some(MicroTime(now));
            spec.lease_transitions = Some(spec.lease_transitions.map_or(0, |count| count.saturating_add(1)));
        }
        spec.holder_identity = Some(self.claim.identity.clone());
        spec.lease_duration_seconds = i32::try_from(self.claim.duration.as_secs()).ok();
        spec.renew_time = Some(MicroTime(now));
    }
}

#[cfg(test)]
mod tests;
