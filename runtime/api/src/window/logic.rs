//! Windows as a [`Logic`]: Flink's WindowOperator.

use std::cell::RefCell;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::error::ArrowError;
use thalweg_state::timers::WindowNamespace;
use thalweg_state::{Slot, TimeDomain, Timer};
use thalweg_types::StreamBatch;

use super::assigner::{TimeWindow, WindowAssigner};
use super::contents::{Contents, Fired};
use super::sessions::Sessions;
use super::trigger::{Trigger, TriggerContext, TriggerOpenContext, TriggerResult};
use super::triggers::DefaultTrigger;
use crate::context::OpenContext;
use crate::function::{Logic, Output, RowAt, Services};
use crate::graph::{GraphBuilder, ProgramError};
use crate::process::UserError;
use crate::record::{Record, RecordError};

/// How elements are windowed, whatever is done with them.
#[derive(Clone)]
pub(crate) struct Windowing<G> {
    pub(crate) assigner: WindowAssigner,
    pub(crate) trigger: G,
    /// How long a window is kept once the watermark has passed its end; not negative.
    pub(crate) lateness: i64,
}

impl Windowing<DefaultTrigger> {
    /// With the assigner's default trigger; the graph refuses an assigner that makes no sense.
    pub(crate) fn new(assigner: WindowAssigner, graph: &RefCell<GraphBuilder>) -> Self {
        if let Err(error) = assigner.check() {
            graph.borrow_mut().refuse(error);
        }
        Self {
            trigger: DefaultTrigger::of(&assigner),
            assigner,
            lateness: 0,
        }
    }
}

impl<G> Windowing<G> {
    /// With another trigger for elements of type `T`; the graph refuses one that can't go with the windows.
    pub(crate) fn with_trigger<T: Record, H: Trigger<T>>(
        self,
        trigger: H,
        graph: &RefCell<GraphBuilder>,
    ) -> Windowing<H> {
        if self.assigner.is_session() && !trigger.can_merge() {
            graph.borrow_mut().refuse(ProgramError::Window {
                method: "trigger()",
                message: "sessions are windows that merge, and this trigger can't: implement can_merge() and on_merge(), or use \
                          another one"
                    .to_owned(),
            });
        }
        Windowing {
            assigner: self.assigner,
            trigger,
            lateness: self.lateness,
        }
    }

    /// When the window's state goes away; `i64::MAX`: never.
    pub(super) fn cleanup_time(&self, window: TimeWindow) -> i64 {
        let end = window.max_timestamp();
        if self.assigner.is_event_time() {
            end.saturating_add(self.lateness)
        } else {
            end
        }
    }

    /// Whether its state is gone already.
    pub(super) fn is_late(&self, window: TimeWindow, watermark: i64) -> bool {
        self.assigner.is_event_time() && self.cleanup_time(window) <= watermark
    }

    pub(super) fn register_cleanup(&self, cx: &mut TriggerContext<'_>) {
        let time = self.cleanup_time(cx.window);
        if time < i64::MAX {
            cx.register(self.assigner.domain, time);
        }
    }

    pub(super) fn delete_cleanup(&self, cx: &mut TriggerContext<'_>) {
        cx.delete(self.assigner.domain, self.cleanup_time(cx.window));
    }
}

/// Where an element was put.
#[derive(Clone, Copy)]
pub(super) struct Placed {
    pub(super) window: TimeWindow,
    /// Where its contents are.
    pub(super) cell: WindowNamespace,
    /// Whether the window is new or has new bounds, so that its timers are to be registered.
    pub(super) is_changed: bool,
}

/// Windows of the elements that `C` keeps.
pub(crate) struct WindowLogic<C: Contents, G> {
    windowing: Windowing<G>,
    contents: C,
    sessions: Option<Sessions>,
    /// Up to this watermark, restored windows may be there whose timers are gone: they had fired before.
    restored_until: Option<i64>,
}

impl<C: Contents, G: Trigger<C::Element>> WindowLogic<C, G> {
    pub(crate) fn new((windowing, contents): (Windowing<G>, C)) -> Self {
        Self {
            windowing,
            contents,
            sessions: None,
            restored_until: None,
        }
    }

    /// The time by which the row's windows are found.
    fn time_of(&self, at: RowAt, services: &Services) -> Result<i64, UserError> {
        if !self.windowing.assigner.is_event_time() {
            return Ok(services.clock.now_ms());
        }
        at.timestamp.filter(|time| *time > i64::MIN).ok_or_else(|| {
            "a record without event time came to an event-time window: call \
             assign_timestamps_and_watermarks() before window(), or use windows by processing time"
                .into()
        })
    }

    /// The window that the element joins, `None` if it is late.
    #[inline]
    fn place(
        &mut self,
        window: TimeWindow,
        slot: Slot,
        services: &mut Services,
    ) -> Result<Option<Placed>, UserError> {
        let Self {
            windowing,
            contents,
            sessions,
            ..
        } = self;
        if let Some(sessions) = sessions {
            let mut cx = trigger_context(services, slot, window);
            return sessions.place(windowing, contents, &mut cx);
        }
        let placed = Placed {
            window,
            cell: window.namespace(),
            is_changed: false,
        };
        Ok((!windowing.is_late(window, services.watermark)).then_some(placed))
    }

    #[inline]
    fn add(
        &mut self,
        placed: Placed,
        at: RowAt,
        services: &mut Services,
        out: &mut Output<C::Out>,
    ) -> Result<(), UserError> {
        let restored_until = self.restored_until(services);
        let Self {
            windowing, contents, ..
        } = self;
        let mut cx = trigger_context(services, at.slot, placed.window);
        let is_new = contents.add(cx.keyed, at, placed.cell);
        cx.is_known = !is_new && !placed.is_changed && cx.watermark >= restored_until;
        let trigger = &mut windowing.trigger;
        let result = trigger.on_element(contents.element(at), at.timestamp, placed.window, &mut cx)?;
        if !cx.is_known {
            windowing.register_cleanup(&mut cx);
        }
        let fired = Fired {
            slot: at.slot,
            cell: placed.cell,
            window: placed.window,
            row: Some(at),
        };
        self.carry_out(result, &fired, services, out)
    }

    /// Emits a window or purges it, as its trigger wants.
    fn carry_out(
        &mut self,
        result: TriggerResult,
        fired: &Fired,
        services: &mut Services,
        out: &mut Output<C::Out>,
    ) -> Result<(), UserError> {
        if result.is_fire() {
            self.contents.emit(services, fired, &mut out.collector)?;
            out.stamp(Some(fired.window.max_timestamp()));
        }
        if result.is_purge() {
            self.contents.clear(services.keyed(), fired.slot, fired.cell);
        }
        Ok(())
    }

    /// Flink drops a row that no window has taken only if it is late; one between the windows of a long slide just has none.
    fn drop_late(&mut self, at: RowAt, time: i64, services: &mut Services) {
        let is_late = self.windowing.assigner.is_event_time()
            && time.saturating_add(self.windowing.lateness) <= services.watermark;
        if is_late {
            self.contents.drop_late(&mut services.sides, at);
        }
    }

    /// See the field. Known once the state is restored, which is after `open`.
    #[inline]
    fn restored_until(&mut self, services: &mut Services) -> i64 {
        *self.restored_until.get_or_insert_with(|| {
            let last = services.keyed().timers().last_time(TimeDomain::Event);
            last.unwrap_or(i64::MIN)
        })
    }
}

/// The context of a window of a key.
fn trigger_context(services: &mut Services, slot: Slot, window: TimeWindow) -> TriggerContext<'_> {
    let watermark = services.watermark;
    let (keyed, _, clock) = services.split();
    TriggerContext {
        keyed,
        clock,
        slot,
        window,
        watermark,
        is_known: false,
    }
}

impl<C: Contents, G: Trigger<C::Element>> Logic for WindowLogic<C, G> {
    type Out = C::Out;
    const INPUTS: usize = C::INPUTS;

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<(), UserError> {
        let keyed = context.services.keyed();
        self.contents.open(keyed)?;
        let mut trigger_context = TriggerOpenContext::new(keyed);
        self.windowing.trigger.open(&mut trigger_context);
        trigger_context.finish()?;
        if self.windowing.assigner.is_session() {
            self.sessions = Some(Sessions::open(keyed)?);
        }
        Ok(())
    }

    fn take(&mut self, input: usize, batch: &StreamBatch, keys: &[ArrayRef]) -> Result<(), RecordError> {
        self.contents.take(input, batch, keys)
    }

    fn row(&mut self, at: RowAt, services: &mut Services, out: &mut Output<C::Out>) -> Result<(), UserError> {
        let time = self.time_of(at, services)?;
        let mut is_skipped = true;
        for window in self.windowing.assigner.assign(time) {
            if let Some(placed) = self.place(window, at.slot, services)? {
                is_skipped = false;
                self.add(placed, at, services, out)?;
            }
        }
        if is_skipped {
            self.drop_late(at, time, services);
        }
        Ok(())
    }

    fn finish(&mut self, rows: RecordBatch) -> Result<RecordBatch, ArrowError> {
        self.contents.finish(rows)
    }

    fn timer(
        &mut self,
        domain: TimeDomain,
        timer: Timer,
        services: &mut Services,
        out: &mut Output<C::Out>,
    ) -> Result<(), UserError> {
        self.restored_until(services);
        let Some(namespace) = timer.window else {
            return Ok(());
        };
        let window = TimeWindow::of_namespace(namespace);
        let cell = match &self.sessions {
            None => namespace,
            Some(sessions) => match sessions.cell(services.keyed(), timer.slot, window) {
                Some(cell) => cell,
                // It was merged into another one since.
                None => return Ok(()),
            },
        };
        let trigger = &mut self.windowing.trigger;
        let mut cx = trigger_context(services, timer.slot, window);
        let result = match domain {
            TimeDomain::Event => trigger.on_event_time(timer.time, window, &mut cx)?,
            TimeDomain::Processing => trigger.on_processing_time(timer.time, window, &mut cx)?,
        };
        let fired = Fired {
            slot: timer.slot,
            cell,
            window,
            row: None,
        };
        self.carry_out(result, &fired, services, out)?;
        let is_cleanup =
            domain == self.windowing.assigner.domain && timer.time == self.windowing.cleanup_time(window);
        if is_cleanup {
            let mut cx = trigger_context(services, timer.slot, window);
            self.contents.clear(cx.keyed, cx.slot, cell);
            self.windowing.trigger.clear(window, &mut cx)?;
            if let Some(sessions) = &self.sessions {
                sessions.retire(cx.keyed, cx.slot, window);
            }
        }
        Ok(())
    }
}
