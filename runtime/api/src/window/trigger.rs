//! When a window emits.
//!
//! A trigger's timers and counts belong to a key and a window. Invariant: a window that holds something has the timer that its
//! trigger registers for a first element, unless it has fired; so that later elements need not register it again.

use thalweg_state::{KeyedState, Slot, StateError, TimeDomain, Timer, WindowHandle};

use super::assigner::TimeWindow;

/// The counts' name in snapshots.
const COUNTS: &str = "window-trigger-count";

/// Says when a window emits: made of [`EventTimeTrigger`] and its siblings.
#[derive(Debug, Clone)]
pub struct Trigger {
    kind: Kind,
    /// Whether what was emitted is forgotten.
    pub(crate) purges: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    EventTime,
    ProcessingTime,
    Count(i64),
    Never,
}

/// Emits once the watermark passes the window's end, and for each late element after it. The default of event-time windows.
#[derive(Debug, Clone)]
pub struct EventTimeTrigger(());

/// Emits once the machine's clock passes the window's end. The default of processing-time windows.
#[derive(Debug, Clone)]
pub struct ProcessingTimeTrigger(());

/// Emits each time the window has got so many elements, and counts again from 0; what is left at the window's end is not
/// emitted.
#[derive(Debug, Clone)]
pub struct CountTrigger(i64);

/// Emits when another trigger does, and forgets the window's elements then.
#[derive(Debug, Clone)]
pub struct PurgingTrigger(Trigger);

impl EventTimeTrigger {
    /// The only one there is.
    pub fn create() -> Self {
        Self(())
    }
}

impl ProcessingTimeTrigger {
    /// The only one there is.
    pub fn create() -> Self {
        Self(())
    }
}

impl CountTrigger {
    /// Emits at so many elements.
    pub fn of(max_count: i64) -> Self {
        Self(max_count)
    }
}

impl PurgingTrigger {
    /// Emits when `trigger` does.
    pub fn of(trigger: impl Into<Trigger>) -> Self {
        Self(trigger.into())
    }
}

impl From<EventTimeTrigger> for Trigger {
    fn from(_: EventTimeTrigger) -> Self {
        Self::new(Kind::EventTime)
    }
}

impl From<ProcessingTimeTrigger> for Trigger {
    fn from(_: ProcessingTimeTrigger) -> Self {
        Self::new(Kind::ProcessingTime)
    }
}

impl From<CountTrigger> for Trigger {
    fn from(trigger: CountTrigger) -> Self {
        Self::new(Kind::Count(trigger.0))
    }
}

impl From<PurgingTrigger> for Trigger {
    fn from(trigger: PurgingTrigger) -> Self {
        Self {
            purges: true,
            ..trigger.0
        }
    }
}

/// The time that a timer was registered for: see [`TriggerContext::register`].
pub(crate) fn registered_time(domain: TimeDomain, timer: &Timer) -> i64 {
    match domain {
        TimeDomain::Event => timer.time,
        TimeDomain::Processing => timer.time.saturating_sub(1),
    }
}

/// A window of a key, as a trigger sees it.
pub(crate) struct TriggerContext<'a> {
    pub(crate) keyed: &'a mut KeyedState,
    pub(crate) counts: Option<WindowHandle<i64>>,
    pub(crate) slot: Slot,
    pub(crate) window: TimeWindow,
    pub(crate) watermark: i64,
}

impl TriggerContext<'_> {
    /// A timer that fires once the domain's clock is past `time`.
    pub(crate) fn register(&mut self, domain: TimeDomain, time: i64) {
        let timer = self.timer(domain, time);
        self.keyed.timers().register(domain, timer);
    }

    pub(crate) fn delete(&mut self, domain: TimeDomain, time: i64) {
        let timer = self.timer(domain, time);
        self.keyed.timers().delete(domain, timer);
    }

    /// A watermark says that its time is over. The machine's clock says that it has begun, so that one waits for the next
    /// millisecond, as Flink's processing timers do: a window's last millisecond still belongs to it.
    fn timer(&self, domain: TimeDomain, time: i64) -> Timer {
        Timer {
            time: match domain {
                TimeDomain::Event => time,
                TimeDomain::Processing => time.saturating_add(1),
            },
            slot: self.slot,
            window: Some(self.window.namespace()),
        }
    }
}

impl Trigger {
    fn new(kind: Kind) -> Self {
        Self { kind, purges: false }
    }

    /// For [`super::GlobalWindows`].
    pub(crate) fn never() -> Self {
        Self::new(Kind::Never)
    }

    /// The counts, where it counts.
    pub(crate) fn open(&self, keyed: &mut KeyedState) -> Result<Option<WindowHandle<i64>>, StateError> {
        match self.kind {
            Kind::Count(_) => keyed.register_window(COUNTS).map(Some),
            _ => Ok(None),
        }
    }

    /// Whether the window emits now that it has got an element. `is_known`: the timers of earlier elements are still there.
    #[inline]
    pub(crate) fn on_element(&self, cx: &mut TriggerContext<'_>, is_known: bool) -> bool {
        let end = cx.window.max_timestamp();
        match self.kind {
            Kind::EventTime if end <= cx.watermark => return true,
            Kind::EventTime if !is_known => cx.register(TimeDomain::Event, end),
            // In an event-time window it fires again and again once the clock is past the end.
            Kind::ProcessingTime => cx.register(TimeDomain::Processing, end),
            Kind::Count(max) => return count(cx, max),
            Kind::EventTime | Kind::Never => {}
        }
        false
    }

    /// Whether the window emits now that one of its timers has fired, which may be the one that ends it.
    pub(crate) fn on_timer(&self, domain: TimeDomain, time: i64, window: TimeWindow) -> bool {
        match self.kind {
            Kind::EventTime => domain == TimeDomain::Event && time == window.max_timestamp(),
            Kind::ProcessingTime => domain == TimeDomain::Processing,
            Kind::Count(_) | Kind::Never => false,
        }
    }

    /// Takes over the counts of windows that have become `cx.window`. Timers need nothing: the element that merged them
    /// registers the new one's.
    pub(crate) fn on_merge(&self, cx: &mut TriggerContext<'_>, merged: impl Iterator<Item = TimeWindow>) {
        let Some(counts) = cx.counts else { return };
        let table = cx.keyed.table(counts);
        let sum: i64 = merged
            .filter_map(|window| table.remove(cx.slot, &window.namespace()))
            .sum();
        if sum > 0 {
            *table.get_or_insert_with(cx.slot, cx.window.namespace(), || 0) += sum;
        }
    }

    /// Forgets the window.
    pub(crate) fn clear(&self, cx: &mut TriggerContext<'_>) {
        let end = cx.window.max_timestamp();
        match self.kind {
            Kind::EventTime => cx.delete(TimeDomain::Event, end),
            Kind::ProcessingTime => cx.delete(TimeDomain::Processing, end),
            Kind::Count(_) | Kind::Never => {}
        }
        if let Some(counts) = cx.counts {
            cx.keyed.table(counts).remove(cx.slot, &cx.window.namespace());
        }
    }
}

fn count(cx: &mut TriggerContext<'_>, max: i64) -> bool {
    let Some(counts) = cx.counts else { return false };
    let table = cx.keyed.table(counts);
    let window = cx.window.namespace();
    let count = table.get_or_insert_with(cx.slot, window, || 0);
    *count += 1;
    let fires = *count >= max;
    if fires {
        table.remove(cx.slot, &window);
    }
    fires
}
