//! Which replica of the operator leads.
//!
//! ```text
//!   acquire: look every 2 s --> absent: create | released or not renewed for its duration: take over | wait
//!   hold:    renew every 5 s --> not renewed for 10 s, or another holds it: lost
//!   release: at a regular end, so that the standby need not wait
//! ```
//! Invariant: a leader stops before its lease can be taken (10 s < 15 s).

#[cfg(test)]
mod tests;

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use thalweg_lease::{Claim, LeaseLock, Seen};
use tokio::time::Instant;

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

/// One replica's part in the election.
pub(crate) struct Election {
    lock: LeaseLock,
}

impl Election {
    pub(crate) fn new(api: Api<Lease>, name: String, identity: String) -> Self {
        let claim = Claim {
            name,
            identity,
            address: None,
            duration: DURATION,
        };
        Self {
            lock: LeaseLock::new(api, claim),
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
                Err(error) => {
                    tracing::warn!(%error, lease = self.lock.claim().name, "the lease can't be read or written");
                }
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
                    lease = self.lock.claim().name,
                    "the lease could not be renewed; trying again"
                );
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }

    /// Gives the lease up, if it is still ours.
    pub(crate) async fn release(&mut self) -> kube::Result<()> {
        self.lock.release().await
    }

    async fn try_acquire(&mut self) -> kube::Result<bool> {
        let seen = self.lock.look().await?;
        if !is_free(&seen) {
            return Ok(false);
        }
        self.lock.take(seen).await
    }

    async fn renew(&mut self) -> kube::Result<Option<Lost>> {
        loop {
            let seen = self.lock.look().await?;
            if !seen.is_mine() {
                return Ok(Some(Lost::TakenBy(match seen.holder() {
                    Some(holder) => holder.to_owned(),
                    None if seen.exists() => "nobody: it was released".into(),
                    None => "nobody: it was deleted".into(),
                })));
            }
            // After a conflict the next look says who holds it.
            if self.lock.take(seen).await? {
                return Ok(None);
            }
        }
    }
}

/// Whether this replica may take it.
fn is_free(seen: &Seen) -> bool {
    seen.holder().is_none() || seen.is_mine() || seen.expired()
}
