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

use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often aligned sources speak to each other by default; Flink's.
const ALIGNMENT_INTERVAL: Duration = Duration::from_secs(1);

/// Keeps sources of one group from running ahead of each other. Flink's WatermarkAlignmentParams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatermarkAlignment {
    /// Sources of one name, anywhere in the job, are aligned with each other.
    pub group: Arc<str>,
    /// How far one may run ahead of the group's least watermark.
    pub max_drift: Duration,
    /// How often sources tell how far they are.
    pub update_interval: Duration,
}

/// How a source makes watermarks from event times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatermarkStrategy {
    /// How much later than a newer one a record may come.
    pub max_out_of_orderness: Duration,
    /// After this long without a record a split holds nothing back; `None` = never.
    pub idleness: Option<Duration>,
    /// With which other sources it keeps step; `None` = it reads as fast as it can.
    pub alignment: Option<WatermarkAlignment>,
}

impl WatermarkStrategy {
    /// Flink's `forBoundedOutOfOrderness`.
    pub fn for_bounded_out_of_orderness(max_out_of_orderness: Duration) -> Self {
        Self {
            max_out_of_orderness,
            idleness: None,
            alignment: None,
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

    /// Flink's `withWatermarkAlignment`: a source whose watermark is more than `max_drift` ahead of the least of its group pauses,
    /// and so does a split of it, until the others have caught up. Sources speak to each other each second.
    #[must_use]
    pub fn with_watermark_alignment(self, group: &str, max_drift: Duration) -> Self {
        self.with_watermark_alignment_every(group, max_drift, ALIGNMENT_INTERVAL)
    }

    /// As [`Self::with_watermark_alignment`], with another interval; a shorter one keeps closer step and costs more messages.
    #[must_use]
    pub fn with_watermark_alignment_every(
        self,
        group: &str,
        max_drift: Duration,
        update_interval: Duration,
    ) -> Self {
        let alignment = WatermarkAlignment {
            group: group.into(),
            max_drift,
            update_interval,
        };
        Self {
            alignment: Some(alignment),
            ..self
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Split {
    max_timestamp: Option<i64>,
    /// When it last gave a record or went on after a pause.
    last_record: Instant,
    finished: bool,
    /// It may not be read now, so that it is not idle.
    paused: bool,
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
            paused: false,
        });
    }

    /// The splits that are to be paused (`true`) and to go on (`false`) so that none is read whose watermark lies above the limit.
    pub(crate) fn align(&mut self, max_watermark_ms: i64, now: Instant) -> Vec<(usize, bool)> {
        let bound = self.bound_ms();
        let mut changes = Vec::new();
        for (place, split) in self.splits.iter_mut().enumerate() {
            let is_ahead = split
                .max_timestamp
                .is_some_and(|max| watermark_of(max, bound) > max_watermark_ms);
            let pause = is_ahead && !split.finished;
            if std::mem::replace(&mut split.paused, pause) != pause {
                split.last_record = now;
                changes.push((place, pause));
            }
        }
        changes
    }

    /// For so long nothing was read because nobody took it: that is not idleness.
    pub(crate) fn not_read_for(&mut self, time: Duration, now: Instant) {
        for split in &mut self.splits {
            split.last_record = (split.last_record + time).min(now);
        }
    }

    fn bound_ms(&self) -> i64 {
        i64::try_from(self.strategy.max_out_of_orderness.as_millis()).unwrap_or(i64::MAX)
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
        let is_idle = |split: &Split| {
            !split.paused && idleness.is_some_and(|limit| now.duration_since(split.last_record) >= limit)
        };
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
        let watermark = watermark_of(minimum, self.bound_ms());
        if self.emitted.is_some_and(|emitted| watermark <= emitted) {
            return Progress::Unchanged;
        }
        self.emitted = Some(watermark);
        Progress::Watermark(watermark)
    }
}

/// The watermark behind records of which the newest is at `max_timestamp`.
fn watermark_of(max_timestamp: i64, bound_ms: i64) -> i64 {
    max_timestamp.saturating_sub(bound_ms).saturating_sub(1)
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
    fn a_split_that_is_ahead_pauses_until_it_is_allowed_and_is_not_idle_meanwhile() {
        let start = Instant::now();
        let later = start + Duration::from_secs(5);
        let strategy = WatermarkStrategy::for_monotonous_timestamps().with_idleness(Duration::from_secs(5));
        let mut watermarks = of_splits(strategy, 3, start);
        watermarks.on_records(0, 101, start);
        watermarks.on_records(1, 50, start);
        assert_eq!(watermarks.align(i64::MAX, start), []);
        assert_eq!(
            watermarks.align(99, start),
            [(0, true)],
            "split 2 has no record yet"
        );
        assert_eq!(watermarks.align(99, start), [], "said once");
        watermarks.on_records(1, 200, later);
        assert_eq!(
            watermarks.advance(later),
            Progress::Watermark(100),
            "split 2 is idle, 0 only paused"
        );
        assert_eq!(watermarks.align(100, later), [(0, false), (1, true)]);
        let soon = later + Duration::from_secs(4);
        watermarks.on_finished(1);
        assert_eq!(
            watermarks.align(100, soon),
            [(1, false)],
            "a finished one is not paused"
        );
        assert_eq!(
            watermarks.advance(soon),
            Progress::Unchanged,
            "its time begins again"
        );
        assert_eq!(watermarks.advance(soon + Duration::from_secs(1)), Progress::Idle);
    }

    #[test]
    fn time_in_which_nobody_takes_records_is_not_idleness() {
        let start = Instant::now();
        let strategy = WatermarkStrategy::for_monotonous_timestamps().with_idleness(Duration::from_secs(5));
        let mut watermarks = of_splits(strategy, 1, start);
        watermarks.not_read_for(Duration::from_secs(4), start + Duration::from_secs(4));
        watermarks.not_read_for(Duration::from_secs(9), start + Duration::from_secs(8));
        assert_eq!(
            watermarks.advance(start + Duration::from_secs(12)),
            Progress::Unchanged
        );
        assert_eq!(
            watermarks.advance(start + Duration::from_secs(13)),
            Progress::Idle
        );
    }

    #[test]
    fn a_reader_without_splits_is_idle() {
        let mut watermarks = SplitWatermarks::new(WatermarkStrategy::for_monotonous_timestamps());
        assert_eq!(watermarks.advance(Instant::now()), Progress::Idle);
    }
}
