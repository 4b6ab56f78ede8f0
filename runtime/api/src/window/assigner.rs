//! Windows, and which of them an element belongs to.

use std::time::Duration;

use thalweg_state::TimeDomain;
use thalweg_state::timers::WindowNamespace;

use crate::graph::ProgramError;

/// Longer windows are refused, so that sums of a few sizes never overflow.
const MAX_SIZE: i64 = i64::MAX / 4;

/// A window: the times from `start` to before `end`, milliseconds since the epoch. Flink's TimeWindow; its GlobalWindow is the one
/// from `i64::MIN` to `i64::MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeWindow {
    /// The first time in it.
    pub start: i64,
    /// The first time behind it.
    pub end: i64,
}

impl TimeWindow {
    pub(crate) const GLOBAL: Self = Self {
        start: i64::MIN,
        end: i64::MAX,
    };

    /// The last time in it, which what it emits has as event time; `i64::MAX` for the global window.
    #[inline]
    pub fn max_timestamp(&self) -> i64 {
        if *self == Self::GLOBAL {
            return i64::MAX;
        }
        self.end.saturating_sub(1)
    }

    /// Its key in state.
    #[inline]
    pub(crate) fn namespace(self) -> WindowNamespace {
        (self.start, self.end)
    }

    #[inline]
    pub(crate) fn of_namespace((start, end): WindowNamespace) -> Self {
        Self { start, end }
    }

    /// Whether both have times in common or touch: sessions that do are one.
    #[inline]
    pub(crate) fn intersects(&self, other: &Self) -> bool {
        self.start <= other.end && self.end >= other.start
    }

    #[inline]
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.start <= other.start && self.end >= other.end
    }

    /// The smallest that covers both.
    pub(crate) fn cover(&self, other: &Self) -> Self {
        Self {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }
}

/// Says which windows an element belongs to: made of [`TumblingEventTimeWindows`] and its siblings.
#[derive(Debug, Clone)]
pub struct WindowAssigner {
    pub(crate) kind: AssignerKind,
    pub(crate) domain: TimeDomain,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum AssignerKind {
    /// Windows of `size` that begin at each `offset + n * slide`; tumbling ones have `slide == size`.
    Sliding { size: i64, slide: i64, offset: i64 },
    /// A window of `gap` for each element; those that touch are merged.
    Session { gap: i64 },
    /// One for all.
    Global,
}

impl WindowAssigner {
    /// Refuses sizes that make no sense.
    pub(crate) fn check(&self) -> Result<(), ProgramError> {
        let refuse = |message: &str| {
            Err(ProgramError::Window {
                method: "window()",
                message: message.to_owned(),
            })
        };
        let is_length = |length: i64| (1..=MAX_SIZE).contains(&length);
        match self.kind {
            AssignerKind::Sliding { size, slide, .. } if !is_length(size) || !is_length(slide) => refuse(
                "the size and the slide must be at least a millisecond, and less than 70 million years",
            ),
            AssignerKind::Sliding { slide, offset, .. } if offset.unsigned_abs() >= slide.unsigned_abs() => {
                refuse("the offset must be less than the size, or the slide of sliding windows")
            }
            AssignerKind::Session { gap } if !is_length(gap) => {
                refuse("the gap must be at least a millisecond, and less than 70 million years")
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn is_event_time(&self) -> bool {
        self.domain == TimeDomain::Event
    }

    /// Whether windows are merged.
    pub(crate) fn is_session(&self) -> bool {
        matches!(self.kind, AssignerKind::Session { .. })
    }

    /// The windows of an element of this time, the latest first. Bounds stop at those of `i64`.
    #[inline]
    pub(crate) fn assign(&self, time: i64) -> impl Iterator<Item = TimeWindow> + use<> {
        let (first, size, slide) = match self.kind {
            AssignerKind::Sliding { size, slide, offset } => (window_start(time, offset, slide), size, slide),
            AssignerKind::Session { gap } => (time, gap, gap),
            AssignerKind::Global => (i64::MIN, 0, 0),
        };
        let is_global = matches!(self.kind, AssignerKind::Global);
        let mut next = Some(first);
        std::iter::from_fn(move || {
            if is_global {
                return next.take().map(|_| TimeWindow::GLOBAL);
            }
            let start = next.filter(|start| *start > time.saturating_sub(size))?;
            next = start.checked_sub(slide);
            Some(TimeWindow {
                start,
                end: start.saturating_add(size),
            })
        })
    }
}

/// The last `offset + n * slide` that is not behind `time`; right for times before the epoch too.
#[inline]
fn window_start(time: i64, offset: i64, slide: i64) -> i64 {
    time.saturating_sub((time % slide - offset).rem_euclid(slide))
}

/// Whole milliseconds; too long ones are refused by [`WindowAssigner::check`].
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

macro_rules! assigners {
    ($($(#[$doc:meta])* $name:ident: $domain:ident, $kind:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $name(AssignerKind);

        assigners!(@$kind $name);

        impl From<$name> for WindowAssigner {
            fn from(assigner: $name) -> Self {
                Self { kind: assigner.0, domain: TimeDomain::$domain }
            }
        }
    )*};
    (@tumbling $name:ident) => {
        impl $name {
            /// Windows of this size, aligned to the epoch.
            pub fn of(size: Duration) -> Self {
                let size = millis(size);
                Self(AssignerKind::Sliding { size, slide: size, offset: 0 })
            }

            assigners!(@offset);
        }
    };
    (@sliding $name:ident) => {
        impl $name {
            /// Windows of this size, one each `slide`, aligned to the epoch.
            pub fn of(size: Duration, slide: Duration) -> Self {
                Self(AssignerKind::Sliding { size: millis(size), slide: millis(slide), offset: 0 })
            }

            assigners!(@offset);
        }
    };
    (@session $name:ident) => {
        impl $name {
            /// Sessions that end when a key had no element for this long.
            pub fn with_gap(gap: Duration) -> Self {
                Self(AssignerKind::Session { gap: millis(gap) })
            }
        }
    };
    (@offset) => {
        /// Moves the windows' starts by so many milliseconds: days of UTC+8 begin at `-8 * 3_600_000`.
        pub fn with_offset(mut self, offset_ms: i64) -> Self {
            if let AssignerKind::Sliding { offset, .. } = &mut self.0 {
                *offset = offset_ms;
            }
            self
        }
    };
}

assigners! {
    /// Windows side by side, by event time.
    TumblingEventTimeWindows: Event, tumbling;
    /// Windows side by side, by the machine's clock.
    TumblingProcessingTimeWindows: Processing, tumbling;
    /// Windows that overlap (or leave gaps, if the slide is longer than the size), by event time.
    SlidingEventTimeWindows: Event, sliding;
    /// Windows that overlap, by the machine's clock.
    SlidingProcessingTimeWindows: Processing, sliding;
    /// Sessions of a key: elements with less than the gap between them, by event time.
    EventTimeSessionWindows: Event, session;
    /// Sessions of a key, by the machine's clock.
    ProcessingTimeSessionWindows: Processing, session;
}

/// One window of all elements of a key. It never ends: what it emits is said by a trigger, as [`crate::CountTrigger`].
#[derive(Debug, Clone)]
pub struct GlobalWindows(());

impl GlobalWindows {
    /// The only one there is.
    pub fn create() -> Self {
        Self(())
    }
}

impl From<GlobalWindows> for WindowAssigner {
    fn from(_: GlobalWindows) -> Self {
        Self {
            kind: AssignerKind::Global,
            domain: TimeDomain::Processing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(assigner: impl Into<WindowAssigner>, time: i64) -> Vec<(i64, i64)> {
        assigner.into().assign(time).map(TimeWindow::namespace).collect()
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn tumbling_windows_are_aligned_to_the_offset_also_before_the_epoch() {
        let of = |offset, time| windows(TumblingEventTimeWindows::of(ms(10)).with_offset(offset), time);
        assert_eq!(of(0, 0), [(0, 10)]);
        assert_eq!(of(0, 9), [(0, 10)]);
        assert_eq!(of(0, -1), [(-10, 0)]);
        assert_eq!(of(0, -10), [(-10, 0)]);
        assert_eq!(of(3, 2), [(-7, 3)]);
        assert_eq!(of(-3, 7), [(7, 17)]);
        assert_eq!(of(-3, -4), [(-13, -3)]);
    }

    #[test]
    fn sliding_windows_overlap_or_leave_gaps_the_latest_first() {
        let of = |size, slide, time| windows(SlidingEventTimeWindows::of(ms(size), ms(slide)), time);
        assert_eq!(of(10, 5, 7), [(5, 15), (0, 10)]);
        assert_eq!(of(10, 4, 8), [(8, 18), (4, 14), (0, 10)]);
        assert_eq!(of(10, 5, -1), [(-5, 5), (-10, 0)]);
        assert_eq!(of(5, 10, 4), [(0, 5)]);
        assert_eq!(of(5, 10, 7), []);
    }

    #[test]
    fn windows_at_the_bounds_of_time_do_not_overflow() {
        let of = |time| windows(SlidingEventTimeWindows::of(ms(10), ms(5)), time);
        assert!(
            of(i64::MAX)
                .iter()
                .all(|(start, end)| start < end && *end == i64::MAX)
        );
        assert!(of(i64::MIN + 1).iter().all(|(start, end)| start < end));
        let session = windows(EventTimeSessionWindows::with_gap(ms(10)), i64::MAX - 1);
        assert_eq!(session, [(i64::MAX - 1, i64::MAX)]);
        assert_eq!(TimeWindow::GLOBAL.max_timestamp(), i64::MAX);
    }

    #[test]
    fn sizes_that_make_no_sense_are_refused() {
        let refused = |assigner: WindowAssigner| assigner.check().unwrap_err().to_string();
        let text = refused(TumblingEventTimeWindows::of(Duration::ZERO).into());
        assert!(text.contains("at least a millisecond"), "{text}");
        let text = refused(TumblingEventTimeWindows::of(Duration::MAX).into());
        assert!(text.contains("at least a millisecond"), "{text}");
        let text = refused(SlidingEventTimeWindows::of(ms(10), ms(5)).with_offset(-5).into());
        assert!(text.contains("offset"), "{text}");
        let text = refused(ProcessingTimeSessionWindows::with_gap(Duration::ZERO).into());
        assert!(text.contains("gap"), "{text}");
    }
}
