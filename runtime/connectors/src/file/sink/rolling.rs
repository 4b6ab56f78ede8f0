//! When a part file is finished and another one begun. Flink's RollingPolicy.

use std::time::Duration;

const DEFAULT_PART_BYTES: u64 = 128 << 20;
const DEFAULT_INTERVAL: Duration = Duration::from_secs(60);

/// When a part file is finished. Flink's DefaultRollingPolicy and OnCheckpointRollingPolicy.
///
/// Times are looked at with each batch and at each checkpoint; nothing becomes visible between checkpoints, so a timer would
/// change nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollingPolicy {
    max_part_size: u64,
    rollover_interval: Duration,
    inactivity_interval: Duration,
    on_checkpoint: bool,
}

impl Default for RollingPolicy {
    /// 128 MiB, or a minute since its begin, or a minute without a row.
    fn default() -> Self {
        Self {
            max_part_size: DEFAULT_PART_BYTES,
            rollover_interval: DEFAULT_INTERVAL,
            inactivity_interval: DEFAULT_INTERVAL,
            on_checkpoint: false,
        }
    }
}

impl RollingPolicy {
    /// At each checkpoint, and at no other time unless a size or an interval is set too.
    pub fn on_checkpoint() -> Self {
        Self {
            max_part_size: u64::MAX,
            rollover_interval: Duration::MAX,
            inactivity_interval: Duration::MAX,
            on_checkpoint: true,
        }
    }

    /// A part that is larger takes no more rows.
    #[must_use]
    pub fn with_max_part_size(self, bytes: u64) -> Self {
        Self {
            max_part_size: bytes,
            ..self
        }
    }

    /// The longest time for which a part takes rows.
    #[must_use]
    pub fn with_rollover_interval(self, interval: Duration) -> Self {
        Self {
            rollover_interval: interval,
            ..self
        }
    }

    /// The longest time without a row.
    #[must_use]
    pub fn with_inactivity_interval(self, interval: Duration) -> Self {
        Self {
            inactivity_interval: interval,
            ..self
        }
    }

    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if self.max_part_size == 0 {
            return Err("the size of a part must be above 0");
        }
        if self.rollover_interval.is_zero() || self.inactivity_interval.is_zero() {
            return Err("the intervals of the rolling policy must be above 0");
        }
        Ok(())
    }

    pub(crate) fn is_on_checkpoint(&self) -> bool {
        self.on_checkpoint
    }

    /// Bytes with which a part takes another row.
    pub(crate) fn max_part_size(&self) -> u64 {
        self.max_part_size
    }

    pub(crate) fn rolls_at_checkpoint(&self, bytes: u64) -> bool {
        self.on_checkpoint || bytes > self.max_part_size
    }

    /// Whether its time is over; all in ms since the epoch. A clock that goes back makes a part older, never younger than new.
    pub(crate) fn rolls_by_time(&self, created_ms: i64, updated_ms: i64, now_ms: i64) -> bool {
        let passed = |since: i64, interval: Duration| {
            u128::from(now_ms.saturating_sub(since).max(0).cast_unsigned()) >= interval.as_millis()
        };
        passed(created_ms, self.rollover_interval) || passed(updated_ms, self.inactivity_interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_rolls_when_it_is_too_old_or_was_left_alone_too_long() {
        let policy = RollingPolicy::default()
            .with_rollover_interval(Duration::from_millis(100))
            .with_inactivity_interval(Duration::from_millis(10));
        assert!(!policy.rolls_by_time(0, 50, 59));
        assert!(policy.rolls_by_time(0, 50, 60));
        assert!(policy.rolls_by_time(0, 99, 100));
        assert!(!policy.rolls_by_time(50, 50, 0), "the clock went back");
    }

    #[test]
    fn bulk_rolls_at_each_checkpoint_and_rows_by_size() {
        assert!(RollingPolicy::on_checkpoint().rolls_at_checkpoint(0));
        assert!(!RollingPolicy::on_checkpoint().rolls_by_time(0, 0, i64::MAX));
        let rows = RollingPolicy::default().with_max_part_size(5);
        assert!(!rows.rolls_at_checkpoint(5) && rows.rolls_at_checkpoint(6));
    }
}
