//! Time-to-live of state, as Flink's StateTtlConfig: in processing time, per value, list element or map entry.
//!
//! A row's time of last use is kept beside it (in snapshots: column `$accessed`) and the row is expired once that is
//! `time` ago. The clock is the caller's and never goes back.

use std::time::Duration;

/// When a row's life begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TtlUpdate {
    /// When it is written.
    OnCreateAndWrite,
    /// When it is read too.
    OnReadAndWrite,
}

/// Whether a row may be read when its life is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TtlVisibility {
    /// Never.
    NeverReturnExpired,
    /// Once more, if nothing has removed it yet.
    ReturnExpiredIfNotCleanedUp,
}

/// Flink's StateTtlConfig.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateTtl {
    /// How long a row lives.
    pub time: Duration,
    /// From when on.
    pub update: TtlUpdate,
    /// What is seen after that.
    pub visibility: TtlVisibility,
}

impl StateTtl {
    /// Flink's defaults: from the last write on, and never seen after that.
    pub fn new(time: Duration) -> Self {
        Self {
            time,
            update: TtlUpdate::OnCreateAndWrite,
            visibility: TtlVisibility::NeverReturnExpired,
        }
    }
}

/// A table's clock. Without time-to-live nothing expires.
#[derive(Debug, Clone, Copy)]
pub(super) struct TtlClock {
    ttl: Option<StateTtl>,
    now_ms: i64,
    /// Rows that were last used at or before this are expired.
    expired_until: i64,
}

impl TtlClock {
    pub(super) fn new(ttl: Option<StateTtl>) -> Self {
        Self {
            ttl,
            now_ms: i64::MIN,
            expired_until: i64::MIN,
        }
    }

    pub(super) fn set(&mut self, now_ms: i64) {
        self.now_ms = self.now_ms.max(now_ms);
        if let Some(ttl) = &self.ttl {
            let time = i64::try_from(ttl.time.as_millis()).unwrap_or(i64::MAX);
            self.expired_until = self.now_ms.saturating_sub(time);
        }
    }

    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.ttl.is_some()
    }

    #[inline]
    pub(super) fn now(&self) -> i64 {
        self.now_ms
    }

    #[inline]
    pub(super) fn is_expired(&self, accessed: i64) -> bool {
        self.ttl.is_some() && accessed <= self.expired_until
    }

    #[inline]
    pub(super) fn updates_on_read(&self) -> bool {
        self.ttl
            .is_some_and(|ttl| ttl.update == TtlUpdate::OnReadAndWrite)
    }

    #[inline]
    pub(super) fn returns_expired(&self) -> bool {
        self.ttl
            .is_some_and(|ttl| ttl.visibility == TtlVisibility::ReturnExpiredIfNotCleanedUp)
    }
}
