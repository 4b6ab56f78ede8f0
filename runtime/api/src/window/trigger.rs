//! When a window emits: what a trigger is asked, what it may do, and what it remembers.
//!
//! ```text
//!   element ---------------------------------> on_element ---------+
//!   its timers: event time, machine's clock -> on_event_time, .. --+--> TriggerResult: emit? forget the elements?
//!   sessions become one ---------------------> on_merge (can_merge)
//!   the window's end ------------------------> clear
//! ```
//!
//! A trigger's timers and states belong to a key and a window, and are part of checkpoints. Built-in ones are in
//! [`super::triggers`].

use std::fmt;
use std::ops::{Deref, DerefMut};

use thalweg_state::timers::WindowNamespace;
use thalweg_state::{KeyedState, Slot, StateError, TimeDomain, Timer, WindowHandle};
use thalweg_task::Clock;

use super::assigner::TimeWindow;
use super::contents::opened;
use crate::process::UserError;
use crate::record::{Record, RecordRef};

/// Begins the names of triggers' states in snapshots.
const STATE_PREFIX: &str = "window-trigger-";

/// What is done with a window. Flink's TriggerResult.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TriggerResult {
    /// Nothing.
    Continue,
    /// It emits and keeps its elements.
    Fire,
    /// Its elements are forgotten; it doesn't emit.
    Purge,
    /// It emits, and its elements are forgotten.
    FireAndPurge,
}

impl TriggerResult {
    /// Whether the window emits.
    pub fn is_fire(self) -> bool {
        matches!(self, Self::Fire | Self::FireAndPurge)
    }

    /// Whether its elements are forgotten.
    pub fn is_purge(self) -> bool {
        matches!(self, Self::Purge | Self::FireAndPurge)
    }
}

/// Says when windows of elements of type `T` emit. Flink's Trigger.
///
/// A value that is cloned for each subtask; its fields are its parameters and the handles of its states. One trigger serves all
/// keys and windows: what it remembers of a window goes into states.
///
/// Emits once a window has got a record above a limit, and at the window's end:
///
/// ```
/// use thalweg_api::prelude::*;
///
/// #[derive(Clone)]
/// struct AboveLimit(i64);
///
/// impl Trigger<(String, i64)> for AboveLimit {
///     fn on_element(
///         &mut self,
///         (_, value): (&str, i64),
///         _timestamp: Option<i64>,
///         window: TimeWindow,
///         ctx: &mut TriggerContext<'_>,
///     ) -> Result<TriggerResult, UserError> {
///         ctx.register_event_time_timer(window.max_timestamp());
///         Ok(if value > self.0 { TriggerResult::Fire } else { TriggerResult::Continue })
///     }
///
///     fn on_event_time(
///         &mut self,
///         time: i64,
///         window: TimeWindow,
///         _ctx: &mut TriggerContext<'_>,
///     ) -> Result<TriggerResult, UserError> {
///         Ok(if time == window.max_timestamp() { TriggerResult::Fire } else { TriggerResult::Continue })
///     }
/// }
/// ```
pub trait Trigger<T: Record>: Clone + Send + 'static {
    /// Called once in each subtask, before the first element: registers states.
    fn open(&mut self, ctx: &mut TriggerOpenContext<'_>) {
        let _ = ctx;
    }

    /// Called for each element that a window has got; `timestamp` is its event time.
    fn on_element(
        &mut self,
        element: RecordRef<'_, T>,
        timestamp: Option<i64>,
        window: TimeWindow,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult, UserError>;

    /// Called when a timer of event time fires. It may be the window's own, which ends it: compare `time` with what was registered.
    fn on_event_time(
        &mut self,
        time: i64,
        window: TimeWindow,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult, UserError> {
        let _ = (time, window, ctx);
        Ok(TriggerResult::Continue)
    }

    /// Called when a timer of the machine's clock fires; see [`Self::on_event_time`].
    fn on_processing_time(
        &mut self,
        time: i64,
        window: TimeWindow,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult, UserError> {
        let _ = (time, window, ctx);
        Ok(TriggerResult::Continue)
    }

    /// Whether it can go with sessions, whose windows are merged.
    fn can_merge(&self) -> bool {
        false
    }

    /// Called when windows have become `window`: takes their states over and registers timers anew. Each of them is cleared
    /// afterwards.
    fn on_merge(&mut self, window: TimeWindow, ctx: &mut OnMergeContext<'_>) -> Result<(), UserError> {
        let _ = (window, ctx);
        Ok(())
    }

    /// Called when a window is over: deletes its timers and states.
    fn clear(&mut self, window: TimeWindow, ctx: &mut TriggerContext<'_>) -> Result<(), UserError> {
        let _ = (window, ctx);
        Ok(())
    }
}

/// Registers a trigger's states.
pub struct TriggerOpenContext<'a> {
    keyed: &'a mut KeyedState,
    error: Option<StateError>,
}

impl<'a> TriggerOpenContext<'a> {
    pub(crate) fn new(keyed: &'a mut KeyedState) -> Self {
        Self { keyed, error: None }
    }

    /// The first registration that failed.
    pub(crate) fn finish(self) -> Result<(), StateError> {
        self.error.map_or(Ok(()), Err)
    }

    /// One value a key and window. Two states of one name fail the task when `open` is done.
    pub fn get_state<V: Record>(&mut self, name: &str) -> TriggerState<V> {
        let registered = self.keyed.register_window(&format!("{STATE_PREFIX}{name}"));
        TriggerState(match registered {
            Ok(handle) => Some(handle),
            Err(error) => {
                self.error.get_or_insert(error);
                None
            }
        })
    }
}

/// A trigger's value of each key and window.
pub struct TriggerState<V: Record>(Option<WindowHandle<V>>);

impl<V: Record> Clone for TriggerState<V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V: Record> Copy for TriggerState<V> {}

/// Of no trigger yet.
impl<V: Record> Default for TriggerState<V> {
    fn default() -> Self {
        Self(None)
    }
}

impl<V: Record> fmt::Debug for TriggerState<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TriggerState").field(&self.0.is_some()).finish()
    }
}

impl<V: Record> TriggerState<V> {
    /// The window's value.
    pub fn get<'c>(&self, ctx: &'c mut TriggerContext<'_>) -> Option<&'c V> {
        let window = ctx.window.namespace();
        ctx.keyed.table(opened(self.0)).get(ctx.slot, &window)
    }

    /// Replaces the window's value.
    pub fn update(&self, ctx: &mut TriggerContext<'_>, value: V) {
        let window = ctx.window.namespace();
        ctx.keyed.table(opened(self.0)).put(ctx.slot, window, value);
    }

    /// The window's value to be changed, made first if there is none.
    pub fn get_or_insert_with<'c>(
        &self,
        ctx: &'c mut TriggerContext<'_>,
        create: impl FnOnce() -> V,
    ) -> &'c mut V {
        let window = ctx.window.namespace();
        let table = ctx.keyed.table(opened(self.0));
        table.get_or_insert_with(ctx.slot, window, create)
    }

    /// Takes the window's value away.
    pub fn take(&self, ctx: &mut TriggerContext<'_>) -> Option<V> {
        let window = ctx.window.namespace();
        ctx.keyed.table(opened(self.0)).remove(ctx.slot, &window)
    }

    /// Forgets the window's value.
    pub fn clear(&self, ctx: &mut TriggerContext<'_>) {
        self.take(ctx);
    }
}

/// A window of a key, as a trigger sees it: its timers, its states, the clocks. Flink's `Trigger.TriggerContext`.
pub struct TriggerContext<'a> {
    pub(crate) keyed: &'a mut KeyedState,
    pub(crate) clock: &'a Clock,
    pub(crate) slot: Slot,
    pub(crate) window: TimeWindow,
    pub(crate) watermark: i64,
    /// The timers that were registered for the window's earlier elements are still there.
    pub(crate) is_known: bool,
}

impl TriggerContext<'_> {
    /// How far event time has come; `i64::MIN` before the first watermark.
    pub fn current_watermark(&self) -> i64 {
        self.watermark
    }

    /// The machine's clock: milliseconds since the epoch.
    pub fn current_processing_time(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Asks for [`Trigger::on_event_time`] once the watermark reaches this time.
    pub fn register_event_time_timer(&mut self, time: i64) {
        self.register(TimeDomain::Event, time);
    }

    /// Asks for [`Trigger::on_processing_time`] once the machine's clock is past this time.
    pub fn register_processing_time_timer(&mut self, time: i64) {
        self.register(TimeDomain::Processing, time);
    }

    /// Takes an event timer back; nothing happens if there is none.
    pub fn delete_event_time_timer(&mut self, time: i64) {
        self.delete(TimeDomain::Event, time);
    }

    /// Takes a processing timer back; nothing happens if there is none.
    pub fn delete_processing_time_timer(&mut self, time: i64) {
        self.delete(TimeDomain::Processing, time);
    }

    pub(crate) fn register(&mut self, domain: TimeDomain, time: i64) {
        let timer = self.timer(time);
        self.keyed.timers().register(domain, timer);
    }

    pub(crate) fn delete(&mut self, domain: TimeDomain, time: i64) {
        let timer = self.timer(time);
        self.keyed.timers().delete(domain, timer);
    }

    fn timer(&self, time: i64) -> Timer {
        Timer {
            time,
            slot: self.slot,
            window: Some(self.window.namespace()),
        }
    }
}

/// The context of windows that have become one. Flink's `Trigger.OnMergeContext`.
pub struct OnMergeContext<'a> {
    base: TriggerContext<'a>,
    merged: &'a [(TimeWindow, WindowNamespace)],
}

impl<'a> OnMergeContext<'a> {
    pub(crate) fn new(base: TriggerContext<'a>, merged: &'a [(TimeWindow, WindowNamespace)]) -> Self {
        Self { base, merged }
    }

    /// Folds the values of the windows that were merged into the one of the window that they have become.
    pub fn merge<V: Record>(&mut self, state: &TriggerState<V>, mut fold: impl FnMut(&mut V, V)) {
        let slot = self.base.slot;
        let into = self.base.window.namespace();
        let table = self.base.keyed.table(opened(state.0));
        for (window, _) in self.merged {
            let Some(value) = table.remove(slot, &window.namespace()) else {
                continue;
            };
            match table.get_mut(slot, &into) {
                Some(merged) => fold(merged, value),
                None => table.put(slot, into, value),
            }
        }
    }
}

impl<'a> Deref for OnMergeContext<'a> {
    type Target = TriggerContext<'a>;

    fn deref(&self) -> &TriggerContext<'a> {
        &self.base
    }
}

impl<'a> DerefMut for OnMergeContext<'a> {
    fn deref_mut(&mut self) -> &mut TriggerContext<'a> {
        &mut self.base
    }
}
