//! Watermarks made at the source, split by split.
//!
//! ```text
//!   split 0: max timestamp 1000 -> watermark 1000 - bound - 1 \
//!   split 1: max timestamp  700 -> watermark  700 - bound - 1  > minimum over active splits -> the reader's watermark
//!   split 2: idle or finished   -> left out                   /
//! ```
//!
//! Flink's `WatermarkStrategy.forBoundedOutOfOrderness` run per split, as its source operator does; a split without a
//! record yet holds the minimum back until it is idle. Invariant: what [`SplitWatermarks::advance`] gives only grows.

use std::time::{Duration, Instant};

/// How a source makes watermarks from event times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatermarkStrategy {
    /// How much later than a newer one a record may come.
    pub max_out_of_orderness: Duration,
    /// After this long without a record a split holds nothing back; `None` = never.
    pub idleness: Option<Duration>,
}

impl WatermarkStrategy {
    /// Flink's `forBoundedOutOfOrderness`.
    pub fn for_bounded_out_of_orderness(max_out_of_orderness: Duration) -> Self {
        Self {
            max_out_of_orderness,
            idleness: None,
        }
    }

    /// Flink's `forMonotonousTimestamps`.
    pub fn for_monotonous_timestamps() -> Self {
        Self::for_bounded_out_of_orderness(Duration::ZERO)
    }

    /// Flink's `withIdleness`.
    #[must_use]
    pub fn with_idleness(self, idleness: Duration) -> Self {
        Self {
            idleness: Some(idleness),
            ..self
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Split {
    max_timestamp: Option<i64>,
    last_record: Instant,
    finished: bool,
}

/// What changed for the reader's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing.
    Unchanged,
    /// The watermark is now this.
    Watermark(i64),
    /// Every split is idle or finished.
    Idle,
}

/// The watermark over a reader's splits.
#[derive(Debug)]
pub(crate) struct SplitWatermarks {
    strategy: WatermarkStrategy,
    splits: Vec<Split>,
    emitted: Option<i64>,
    idle: bool,
}

impl SplitWatermarks {
    pub(crate) fn new(strategy: WatermarkStrategy) -> Self {
        Self {
            strategy,
            splits: Vec::new(),
            emitted: None,
            idle: false,
        }
    }

    /// Adds the next split; they are numbered from 0.
    pub(crate) fn add_split(&mut self, now: Instant) {
        self.splits.push(Split {
            max_timestamp: None,
            last_record: now,
            finished: false,
        });
    }

    /// A split gave records, the newest of them at `timestamp_ms`.
    pub(crate) fn on_records(&mut self, split: usize, timestamp_ms: i64, now: Instant) {
        let split = &mut self.splits[split];
        split.max_timestamp = Some(
            split
                .max_timestamp
                .map_or(timestamp_ms, |max| max.max(timestamp_ms)),
        );
        split.last_record = now;
    }

    /// A split will give no more.
    pub(crate) fn on_finished(&mut self, split: usize) {
        self.splits[split].finished = true;
    }

    /// What the reader has to say now.
    pub(crate) fn advance(&mut self, now: Instant) -> Progress {
        let idleness = self.strategy.idleness;
        let is_idle =
            |split: &Split| idleness.is_some_and(|limit| now.duration_since(split.last_record) >= limit);
        let mut active = self
            .splits
            .iter()
            .filter(|split| !split.finished && !is_idle(split))
            .peekable();
        if active.peek().is_none() {
            let was_idle = std::mem::replace(&mut self.idle, true);
            return if was_idle {
                Progress::Unchanged
            } else {
                Progress::Idle
            };
        }
        self.idle = false;
        // None orders below any timestamp: a split without a record holds all back
        let Some(minimum) = active.map(|split| split.max_timestamp).min().flatten() else {
            return Progress::Unchanged;
        };
        let bound = i64::try_from(self.strategy.max_out_of_orderness.as_millis()).unwrap_or(i64::MAX);
        let watermark = minimum.saturating_sub(bound).saturating_sub(1);
        if self.emitted.is_some_and(|emitted| watermark <= emitted) {
            return Progress::Unchanged;
        }
        self.emitted = Some(watermark);
        Progress::Watermark(watermark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_splits(strategy: WatermarkStrategy, splits: usize, now: Instant) -> SplitWatermarks {
        let mut watermarks = SplitWatermarks::new(strategy);
        (0..splits).for_each(|_| watermarks.add_split(now));
        watermarks
    }

    #[test]
    fn the_watermark_is_the_minimum_over_the_splits_and_only_grows() {
        let now = Instant::now();
        let strategy = WatermarkStrategy::for_bounded_out_of_orderness(Duration::from_millis(10));
        let mut watermarks = of_splits(strategy, 2, now);
        watermarks.on_records(0, 100, now);
        assert_eq!(
            watermarks.advance(now),
            Progress::Unchanged,
            "split 1 has no record yet"
        );
        watermarks.on_records(1, 50, now);
        assert_eq!(watermarks.advance(now), Progress::Watermark(39));
        watermarks.on_records(1, 40, now);
        assert_eq!(
            watermarks.advance(now),
            Progress::Unchanged,
            "a late record takes nothing back"
        );
        watermarks.on_records(1, 90, now);
        assert_eq!(watermarks.advance(now), Progress::Watermark(79));
    }

    #[test]
    fn idle_and_finished_splits_hold_nothing_back() {
        let start = Instant::now();
        let later = start + Duration::from_secs(5);
        let strategy = WatermarkStrategy::for_monotonous_timestamps().with_idleness(Duration::from_secs(5));
        let mut watermarks = of_splits(strategy, 3, start);
        watermarks.on_finished(2);
        watermarks.on_records(0, 100, later);
        assert_eq!(
            watermarks.advance(later),
            Progress::Watermark(99),
            "split 1 is idle, 2 finished"
        );
        assert_eq!(watermarks.advance(later + Duration::from_secs(5)), Progress::Idle);
        assert_eq!(
            watermarks.advance(later + Duration::from_secs(6)),
            Progress::Unchanged,
            "said once"
        );
    }

    #[test]
    fn a_reader_without_splits_is_idle() {
        let mut watermarks = SplitWatermarks::new(WatermarkStrategy::for_monotonous_timestamps());
        assert_eq!(watermarks.advance(Instant::now()), Progress::Idle);
    }
}
