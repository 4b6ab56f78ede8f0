//! Whether this JobManager leads, and who does if it does not: what every service looks at before it answers.

use std::sync::Arc;

use tokio::sync::watch;

/// Whoever leads, or led last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownLeader {
    pub(crate) epoch: u64,
    pub(crate) rpc_address: String,
    pub(crate) rest_address: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    /// This one's, while it leads.
    epoch: Option<u64>,
    leader: Option<KnownLeader>,
}

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Role(watch::Receiver<State>);

/// Who says it.
#[derive(Debug, Clone)]
pub(crate) struct RoleSender(Arc<watch::Sender<State>>);

impl Role {
    /// Without high availability: it leads from its start to its end.
    pub(crate) fn alone(epoch: u64) -> Self {
        let state = State {
            epoch: Some(epoch),
            leader: None,
        };
        Self(watch::channel(state).1)
    }

    /// With it: a standby that knows of no leader.
    pub(crate) fn standby() -> (RoleSender, Self) {
        let (sender, role) = watch::channel(State::default());
        (RoleSender(Arc::new(sender)), Self(role))
    }

    pub(crate) fn epoch(&self) -> Option<u64> {
        self.0.borrow().epoch
    }

    pub(crate) fn leads(&self) -> bool {
        self.epoch().is_some()
    }

    pub(crate) fn leader(&self) -> Option<KnownLeader> {
        self.0.borrow().leader.clone()
    }

    /// Waits until this is not the leader any more, as far as is known here.
    pub(crate) async fn until_another_leads(&self, leader: &KnownLeader) {
        let is_another = |state: &State| state.leader.as_ref() != Some(leader);
        // The sender goes away with the process.
        if self.0.clone().wait_for(is_another).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Why it does not do what only a leader does; nothing if it leads.
    pub(crate) fn refusal(&self) -> Option<String> {
        let state = self.0.borrow();
        match (&state.epoch, &state.leader) {
            (Some(_), _) => None,
            (None, Some(leader)) => Some(format!(
                "standby; the leader is {} (epoch {})",
                leader.rpc_address, leader.epoch
            )),
            (None, None) => Some("standby; no leader is elected yet".to_owned()),
        }
    }
}

impl RoleSender {
    pub(crate) fn lead(&self, epoch: u64, leader: KnownLeader) {
        self.0.send_replace(State {
            epoch: Some(epoch),
            leader: Some(leader),
        });
    }

    pub(crate) fn follow(&self, leader: Option<KnownLeader>) {
        self.0.send_if_modified(|state| {
            let changed = state.leader != leader;
            state.leader = leader;
            changed
        });
    }
}
