//! Flink's triggers.
//!
//! Invariant of those that wait for a window's end: a window that holds something has the timer that was registered for a first
//! element, unless it has fired; so that later elements need not register it again.

use std::time::Duration;

use super::assigner::{AssignerKind, TimeWindow, WindowAssigner, millis};
use super::trigger::{
    OnMergeContext, Trigger, TriggerContext, TriggerOpenContext, TriggerResult, TriggerState,
};
use crate::process::UserError;
use crate::record::{Record, RecordRef};

/// Emits once the watermark passes the window's end, and for each late element after it. The default of event-time windows.
#[derive(Debug, Clone)]
pub struct EventTimeTrigger(());

impl EventTimeTrigger {
    /// The only one there is.
    pub fn create() -> Self {
        Self(())
    }
}

impl<T: Record> Trigger<T> for EventTimeTrigger {
    #[inline]
    fn on_element(
        &mut self,
        _element: RecordRef<'_, T>,
        _timestamp: Option<i64>,
        window: TimeWindow,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult, UserError> {
        Ok(at_end_of(window, ctx))
    }

    fn on_event_time(
        &mut self,
        time: i64,
        window: TimeWindow,
        _ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult, UserError> {
        Ok(fire_if(time == window.max_timestamp()))
    }

    fn can_merge(&self) -> bool {
        true
    }

    // The element that merged the windows registers the new one's timer.

    fn clear(&mut self, window: TimeWindow, ctx: &mut TriggerContext<'_>) -> Result<(), UserError> {
        ctx.delete_event_time_timer(window.max_timestamp());
        Ok(())
    }
}

/// Fires for a late element, else waits for the window's end.
#[inline]
fn at_end_of(window: TimeWindow, ctx: &mut TriggerContext<'_>) -> TriggerResult {
    let end = window.max_timestamp();
    if end <= ctx.watermark {
        return TriggerResult::Fire;
    }
    if !ctx.is_known {
        ctx.register_event_time_timer(end);
    }
    TriggerResult::Continue
}

fn fire_if(fires: bool) -> TriggerResult {
    if fires {
        TriggerResult::Fire
    } else {
        TriggerResult::Continue
    }
}

/// Emits once the machine's clock passes the window's end. The default of processing-time windows.
#[derive(Debug, Clone)]
pub struct ProcessingTimeTrigger(());

impl ProcessingTimeTrigger {
    /// The only one there is.
    pub fn create() -> Self {
        Self(())
    }
}

impl<T: Record> Trigger<T> for ProcessingTimeTrigger {
    fn on_element(
        &mut self,
        _element: RecordRef<'_, T>,
        _timestamp: Option<i64>,
        window: TimeWindow,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult, UserError> {
        // In an event-time window it fires again and again once the clock is past the end.
        ctx.register_processing_time_timer(window.max_timestamp());
        Ok(TriggerResult::Continue)
    }

    fn on_processing_time(
        &mut self,
        _time: i64,
        _window: TimeWindow,
        _ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult, UserError> {
        Ok(TriggerResult::Fire)
    }

    fn can_merge(&self) -> bool {
        true
    }

    fn clear(&mut self, window: TimeWindow, ctx: &mut TriggerContext<'_>) -> Result<(), UserError> {
        ctx.delete_processing_time_timer(window.max_timestamp());
        Ok(())
    }
}

/// Emits each time the window has got so many elements, and counts again from 0; what is left at the window's end is not
/// emitted.
#[derive(Debug, Clone)]
pub struct CountTrigger {
    max_count: i64,
    count: TriggerState<i64>,
}

impl CountTrigger {
    /// Emits at so many elements.
    pub fn of(max_count: i64) -> Self {
        Self {
            max_count,
            count: TriggerState::default(),
        }
    }
}

impl<T: Record> Trigger<T> for CountTrigger {
    fn open(&mut self, ctx: &mut TriggerOpenContext<'_>) {
        self.count = ctx.get_state("count");
    }

    fn on_element(
        &mut self,
        _element: RecordRef<'_, T>,
        _timestamp: Option<i64>,
        _window: TimeWindow,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult, UserError> {
        let count = self.count.get_or_insert_with(ctx, || 0);
        *count += 1;
        let fires = *count >= self.max_count;
        if fires {
            self.count.clear(ctx);
        }
        Ok(fire_if(fires))
    }

    fn can_merge(&self) -> bool {
        true
    }

    fn on_merge(&mut self, _window: TimeWindow, ctx: &mut OnMergeContext<'_>) -> Result<(), UserError> {
        ctx.merge(&self.count, |sum, count| *sum += count);
        Ok(())
    }

    fn clear(&mut self, _window: TimeWindow, ctx: &mut TriggerContext<'_>) -> Result<(), UserError> {
        self.count.clear(ctx);
        Ok(())
    }
}

/// Emits when another trigger does, and forgets the window's elements then.
#[derive(Debug, Clone)]
pub struct PurgingTrigger<G>(G);

impl<G> PurgingTrigger<G> {
    /// Emits when `trigger` does.
    pub fn of(trigger: G) -> Self {
        Self(trigger)
    }
}

fn purging(result: TriggerResult) -> TriggerResult {
    if result.is_fire() {
        TriggerResult::FireAndPurge
    } else {
        result
    }
}

impl<T: Record, G: Trigger<T>> Trigger<T> for PurgingTrigger<G> {
    fn open(&mut self, ctx: &mut TriggerOpenContext<'_>) {
        self.0.open(ctx);
    }

    #[inline]
    fn on_element(
        &mut self,
        element: RecordRef<'_, T>,
        timestamp: Option<i64>,
        window: TimeWindow,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult, UserError> {
        self.0.on_element(element, timestamp, window, ctx).map(purging)
    }

    fn on_event_time(
        &mut self,
        time: i64,
        window: TimeWindow,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult, UserError> {
        self.0.on_event_time(time, window, ctx).map(purging)
    }

    fn on_processing_time(
        &mut self,
        time: i64,
        window: TimeWindow,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult, UserError> {
        self.0.on_processing_time(time, window, ctx).map(purging)
    }

    fn can_merge(&self) -> bool {
        self.0.can_merge()
    }

    fn on_merge(&mut self, window: TimeWindow, ctx: &mut OnMergeContext<'_>) -> Result<(), UserError> {
        self.0.on_merge(window, ctx)
    }

    fn clear(&mut self, window: TimeWindow, ctx: &mut TriggerContext<'_>) -> Result<(), UserError> {
        self.0.clear(window, ctx)
    }
}

/// Emits when another trigger does, and at the latest some time of the machine's clock after the first element, or the last one, since then.
/// As Flink's, it emits at each of the other trigger's timers, whatever that says.
#[derive(Debug, Clone)]
pub struct ProcessingTimeoutTrigger<G> {
    nested: G,
    timeout: i64,
    resets: bool,
    clears: bool,
    due: TriggerState<i64>,
}

impl<G> ProcessingTimeoutTrigger<G> {
    /// Emits `timeout` after the first element at the latest; the other trigger begins anew then.
    pub fn of(trigger: G, timeout: Duration) -> Self {
        Self::with(trigger, timeout, false, true)
    }

    /// The same; `reset_timer_on_new_record`: the time-out begins anew with each element; `should_clear_on_timeout`: so does the other
    /// trigger when it is over.
    pub fn with(
        trigger: G,
        timeout: Duration,
        reset_timer_on_new_record: bool,
        should_clear_on_timeout: bool,
    ) -> Self {
        Self {
            nested: trigger,
            timeout: millis(timeout),
            resets: reset_timer_on_new_record,
            clears: should_clear_on_timeout,
            due: TriggerState::default(),
        }
    }

    fn forget_timeout(&self, ctx: &mut TriggerContext<'_>) {
        if let Some(due) = self.due.take(ctx) {
            ctx.delete_processing_time_timer(due);
        }
    }

    fn timed_out<T: Record>(
        &mut self,
        nested: TriggerResult,
        window: TimeWindow,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult, UserError>
    where
        G: Trigger<T>,
    {
        if self.clears {
            Trigger::<T>::clear(self, window, ctx)?;
        }
        Ok(if nested.is_purge() {
            TriggerResult::FireAndPurge
        } else {
            TriggerResult::Fire
        })
    }
}

impl<T: Record, G: Trigger<T>> Trigger<T> for ProcessingTimeoutTrigger<G> {
    fn open(&mut self, ctx: &mut TriggerOpenContext<'_>) {
        self.nested.open(ctx);
        self.due = ctx.get_state("timeout");
    }

    fn on_element(
        &mut self,
        element: RecordRef<'_, T>,
        timestamp: Option<i64>,
        window: TimeWindow,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult, UserError> {
        let nested = self.nested.on_element(element, timestamp, window, ctx)?;
        if nested.is_fire() {
            self.clear(window, ctx)?;
            return Ok(nested);
        }
        if self.resets {
            self.forget_timeout(ctx);
        }
        if self.due.get(ctx).is_none() {
            let due = ctx.current_processing_time().saturating_add(self.timeout);
            self.due.update(ctx, due);
            ctx.register_processing_time_timer(due);
        }
        Ok(nested)
    }

    fn on_event_time(
        &mut self,
        time: i64,
        window: TimeWindow,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult, UserError> {
        let nested = self.nested.on_event_time(time, window, ctx)?;
        self.timed_out::<T>(nested, window, ctx)
    }

    fn on_processing_time(
        &mut self,
        time: i64,
        window: TimeWindow,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult, UserError> {
        let nested = self.nested.on_processing_time(time, window, ctx)?;
        self.timed_out::<T>(nested, window, ctx)
    }

    fn clear(&mut self, window: TimeWindow, ctx: &mut TriggerContext<'_>) -> Result<(), UserError> {
        self.forget_timeout(ctx);
        self.nested.clear(window, ctx)
    }
}

/// When a continuous trigger fires next in each window.
#[derive(Debug, Clone)]
struct NextFire {
    interval: i64,
    at: TriggerState<i64>,
}

impl NextFire {
    fn new(interval: Duration) -> Self {
        Self {
            interval: millis(interval).max(1),
            at: TriggerState::default(),
        }
    }

    /// The next multiple of the interval behind `time`, at the window's end at the latest; `None` if one is set already.
    fn start(&self, time: i64, window: TimeWindow, ctx: &mut TriggerContext<'_>) -> Option<i64> {
        if self.at.get(ctx).is_some() {
            return None;
        }
        Some(self.set_behind(time - time.rem_euclid(self.interval), window, ctx))
    }

    /// If `time` is the time that was set: the next one.
    fn go_on(&self, time: i64, window: TimeWindow, ctx: &mut TriggerContext<'_>) -> Option<i64> {
        let is_due = self.at.get(ctx) == Some(&time);
        is_due.then(|| self.set_behind(time, window, ctx))
    }

    fn set_behind(&self, time: i64, window: TimeWindow, ctx: &mut TriggerContext<'_>) -> i64 {
        let next = time.saturating_add(self.interval).min(window.max_timestamp());
        self.at.update(ctx, next);
        next
    }

    /// The earliest of windows that have become one.
    fn merge(&self, ctx: &mut OnMergeContext<'_>) -> Option<i64> {
        ctx.merge(&self.at, |earliest, time| *earliest = time.min(*earliest));
        self.at.get(ctx).copied()
    }
}

/// Emits each time the watermark has gone on by an interval, and at the window's end.
#[derive(Debug, Clone)]
pub struct ContinuousEventTimeTrigger(NextFire);

impl ContinuousEventTimeTrigger {
    /// Emits at the multiples of this interval, which is a millisecond at least.
    pub fn of(interval: Duration) -> Self {
        Self(NextFire::new(interval))
    }
}

impl<T: Record> Trigger<T> for ContinuousEventTimeTrigger {
    fn open(&mut self, ctx: &mut TriggerOpenContext<'_>) {
        self.0.at = ctx.get_state("fire-time");
    }

    fn on_element(
        &mut self,
        _element: RecordRef<'_, T>,
        timestamp: Option<i64>,
        window: TimeWindow,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult, UserError> {
        let result = at_end_of(window, ctx);
        if result == TriggerResult::Continue {
            let timestamp = timestamp.ok_or(
                "a record without event time came to ContinuousEventTimeTrigger: call assign_timestamps_and_watermarks() before",
            )?;
            if let Some(next) = self.0.start(timestamp, window, ctx) {
                ctx.register_event_time_timer(next);
            }
        }
        Ok(result)
    }

    fn on_event_time(
        &mut self,
        time: i64,
        window: TimeWindow,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult, UserError> {
        if time == window.max_timestamp() {
            return Ok(TriggerResult::Fire);
        }
        let next = self.0.go_on(time, window, ctx);
        if let Some(next) = next {
            ctx.register_event_time_timer(next);
        }
        Ok(fire_if(next.is_some()))
    }

    fn can_merge(&self) -> bool {
        true
    }

    fn on_merge(&mut self, _window: TimeWindow, ctx: &mut OnMergeContext<'_>) -> Result<(), UserError> {
        if let Some(next) = self.0.merge(ctx) {
            ctx.register_event_time_timer(next);
        }
        Ok(())
    }

    fn clear(&mut self, window: TimeWindow, ctx: &mut TriggerContext<'_>) -> Result<(), UserError> {
        ctx.delete_event_time_timer(window.max_timestamp());
        if let Some(next) = self.0.at.take(ctx) {
            ctx.delete_event_time_timer(next);
        }
        Ok(())
    }
}

/// Emits at an interval of the machine's clock, as long as the window has elements.
#[derive(Debug, Clone)]
pub struct ContinuousProcessingTimeTrigger(NextFire);

impl ContinuousProcessingTimeTrigger {
    /// Emits at the multiples of this interval, which is a millisecond at least.
    pub fn of(interval: Duration) -> Self {
        Self(NextFire::new(interval))
    }
}

impl<T: Record> Trigger<T> for ContinuousProcessingTimeTrigger {
    fn open(&mut self, ctx: &mut TriggerOpenContext<'_>) {
        self.0.at = ctx.get_state("fire-time");
    }

    fn on_element(
        &mut self,
        _element: RecordRef<'_, T>,
        _timestamp: Option<i64>,
        window: TimeWindow,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult, UserError> {
        let now = ctx.current_processing_time();
        if let Some(next) = self.0.start(now, window, ctx) {
            ctx.register_processing_time_timer(next);
        }
        Ok(TriggerResult::Continue)
    }

    fn on_processing_time(
        &mut self,
        time: i64,
        window: TimeWindow,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult, UserError> {
        let next = self.0.go_on(time, window, ctx);
        if let Some(next) = next {
            ctx.register_processing_time_timer(next);
        }
        Ok(fire_if(next.is_some()))
    }

    fn can_merge(&self) -> bool {
        true
    }

    fn on_merge(&mut self, _window: TimeWindow, ctx: &mut OnMergeContext<'_>) -> Result<(), UserError> {
        if let Some(next) = self.0.merge(ctx) {
            ctx.register_processing_time_timer(next);
        }
        Ok(())
    }

    fn clear(&mut self, _window: TimeWindow, ctx: &mut TriggerContext<'_>) -> Result<(), UserError> {
        if let Some(next) = self.0.at.take(ctx) {
            ctx.delete_processing_time_timer(next);
        }
        Ok(())
    }
}

/// Emits when an element is too far from the one that it emitted at last; the first element only begins.
#[derive(Debug, Clone)]
pub struct DeltaTrigger<T: Record, F> {
    threshold: f64,
    delta: F,
    last: TriggerState<T>,
}

impl<T: Record, F> DeltaTrigger<T, F> {
    /// Emits when `delta(last, element)` is above the threshold.
    pub fn of(threshold: f64, delta: F) -> Self
    where
        F: for<'a> FnMut(&T, &RecordRef<'a, T>) -> f64 + Clone + Send + 'static,
    {
        Self {
            threshold,
            delta,
            last: TriggerState::default(),
        }
    }
}

impl<T: Record, F> Trigger<T> for DeltaTrigger<T, F>
where
    F: for<'a> FnMut(&T, &RecordRef<'a, T>) -> f64 + Clone + Send + 'static,
{
    fn open(&mut self, ctx: &mut TriggerOpenContext<'_>) {
        self.last = ctx.get_state("last-element");
    }

    fn on_element(
        &mut self,
        element: RecordRef<'_, T>,
        _timestamp: Option<i64>,
        _window: TimeWindow,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult, UserError> {
        let delta = self.last.get(ctx).map(|last| (self.delta)(last, &element));
        let is_far = delta.is_some_and(|delta| delta > self.threshold);
        if is_far || delta.is_none() {
            self.last.update(ctx, T::own(element));
        }
        Ok(fire_if(is_far))
    }

    fn clear(&mut self, _window: TimeWindow, ctx: &mut TriggerContext<'_>) -> Result<(), UserError> {
        self.last.clear(ctx);
        Ok(())
    }
}

/// What windows do that were given no trigger: they emit at their ends, and the global one never.
#[derive(Debug, Clone)]
pub struct DefaultTrigger(Kind);

#[derive(Debug, Clone)]
enum Kind {
    EventTime(EventTimeTrigger),
    ProcessingTime(ProcessingTimeTrigger),
    Never,
}

impl DefaultTrigger {
    pub(crate) fn of(assigner: &WindowAssigner) -> Self {
        Self(match assigner.kind {
            AssignerKind::Global => Kind::Never,
            _ if assigner.is_event_time() => Kind::EventTime(EventTimeTrigger::create()),
            _ => Kind::ProcessingTime(ProcessingTimeTrigger::create()),
        })
    }
}

impl<T: Record> Trigger<T> for DefaultTrigger {
    #[inline]
    fn on_element(
        &mut self,
        element: RecordRef<'_, T>,
        timestamp: Option<i64>,
        window: TimeWindow,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult, UserError> {
        match &mut self.0 {
            Kind::EventTime(trigger) => Trigger::<T>::on_element(trigger, element, timestamp, window, ctx),
            Kind::ProcessingTime(trigger) => {
                Trigger::<T>::on_element(trigger, element, timestamp, window, ctx)
            }
            Kind::Never => Ok(TriggerResult::Continue),
        }
    }

    fn on_event_time(
        &mut self,
        time: i64,
        window: TimeWindow,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult, UserError> {
        match &mut self.0 {
            Kind::EventTime(trigger) => Trigger::<T>::on_event_time(trigger, time, window, ctx),
            Kind::ProcessingTime(_) | Kind::Never => Ok(TriggerResult::Continue),
        }
    }

    fn on_processing_time(
        &mut self,
        time: i64,
        window: TimeWindow,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult, UserError> {
        match &mut self.0 {
            Kind::ProcessingTime(trigger) => Trigger::<T>::on_processing_time(trigger, time, window, ctx),
            Kind::EventTime(_) | Kind::Never => Ok(TriggerResult::Continue),
        }
    }

    fn can_merge(&self) -> bool {
        true
    }

    fn clear(&mut self, window: TimeWindow, ctx: &mut TriggerContext<'_>) -> Result<(), UserError> {
        match &mut self.0 {
            Kind::EventTime(trigger) => Trigger::<T>::clear(trigger, window, ctx),
            Kind::ProcessingTime(trigger) => Trigger::<T>::clear(trigger, window, ctx),
            Kind::Never => Ok(()),
        }
    }
}
