//! The end of a leadership: raised once, seen everywhere, never lowered. The process ends after it.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

/// Cheap to clone; clones are one fence.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fence {
    raised: CancellationToken,
    reason: Arc<OnceLock<String>>,
}

impl Fence {
    /// Nothing may be commanded, appended or deleted any more; the first reason stays.
    pub(crate) fn raise(&self, reason: String) {
        if self.reason.set(reason).is_ok() {
            self.raised.cancel();
        }
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.raised.is_cancelled()
    }

    /// Waits until it is raised; why.
    pub(crate) async fn raised(&self) -> String {
        self.raised.cancelled().await;
        self.reason.get().cloned().unwrap_or_default()
    }
}
