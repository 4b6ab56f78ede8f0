//! Windows as a [`Logic`]: Flink's WindowOperator.

use std::cell::RefCell;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::error::ArrowError;
use thalweg_state::timers::WindowNamespace;
use thalweg_state::{Slot, TimeDomain, Timer, WindowHandle};
use thalweg_types::StreamBatch;

use super::assigner::{AssignerKind, TimeWindow, WindowAssigner};
use super::contents::{Contents, Fired};
use super::sessions::Sessions;
use super::trigger::{EventTimeTrigger, ProcessingTimeTrigger, Trigger, TriggerContext, registered_time};
use crate::context::OpenContext;
use crate::function::{Logic, Output, RowAt, Services};
use crate::graph::GraphBuilder;
use crate::process::UserError;
use crate::record::RecordError;

/// How elements are windowed, whatever is done with them.
#[derive(Clone)]
pub(crate) struct Windowing {
    pub(crate) assigner: WindowAssigner,
    pub(crate) trigger: Trigger,
    /// How long a window is kept once the watermark has passed its end; not negative.
    pub(crate) lateness: i64,
}

impl Windowing {
    /// With the assigner's default trigger; the graph refuses an assigner that makes no sense.
    pub(crate) fn new(assigner: WindowAssigner, graph: &RefCell<GraphBuilder>) -> Self {
        if let Err(error) = assigner.check() {
            graph.borrow_mut().refuse(error);
        }
        let trigger = match assigner.kind {
            AssignerKind::Global => Trigger::never(),
            _ if assigner.is_event_time() => EventTimeTrigger::create().into(),
            _ => ProcessingTimeTrigger::create().into(),
        };
        Self {
            assigner,
            trigger,
            lateness: 0,
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
pub(crate) struct WindowLogic<C: Contents> {
    windowing: Windowing,
    contents: C,
    counts: Option<WindowHandle<i64>>,
    sessions: Option<Sessions>,
    /// Up to this watermark, restored windows may be there whose timers are gone: they had fired before.
    restored_until: Option<i64>,
}

impl<C: Contents> WindowLogic<C> {
    pub(crate) fn new((windowing, contents): (Windowing, C)) -> Self {
        Self {
            windowing,
            contents,
            counts: None,
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
    fn place(&mut self, window: TimeWindow, slot: Slot, services: &mut Services) -> Option<Placed> {
        let Self {
            windowing,
            contents,
            counts,
            sessions,
            ..
        } = self;
        let watermark = services.watermark;
        if let Some(sessions) = sessions {
            let mut cx = TriggerContext {
                keyed: services.keyed(),
                counts: *counts,
                slot,
                window,
                watermark,
            };
            return sessions.place(windowing, contents, &mut cx);
        }
        (!windowing.is_late(window, watermark)).then(|| Placed {
            window,
            cell: window.namespace(),
            is_changed: false,
        })
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
            windowing,
            contents,
            counts,
            ..
        } = self;
        let watermark = services.watermark;
        let keyed = services.keyed();
        let is_new = contents.add(keyed, at, placed.cell);
        let is_known = !is_new && !placed.is_changed && watermark >= restored_until;
        let mut cx = TriggerContext {
            keyed,
            counts: *counts,
            slot: at.slot,
            window: placed.window,
            watermark,
        };
        let fires = windowing.trigger.on_element(&mut cx, is_known);
        if !is_known {
            windowing.register_cleanup(&mut cx);
        }
        if !fires {
            return Ok(());
        }
        let fired = Fired {
            slot: at.slot,
            cell: placed.cell,
            window: placed.window,
            row: Some(at),
        };
        self.fire(&fired, services, out)
    }

    /// Emits a window, and purges it if its trigger does.
    fn fire(
        &mut self,
        fired: &Fired,
        services: &mut Services,
        out: &mut Output<C::Out>,
    ) -> Result<(), UserError> {
        self.contents.emit(services, fired, &mut out.collector)?;
        out.stamp(Some(fired.window.max_timestamp()));
        if self.windowing.trigger.purges {
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

impl<C: Contents> Logic for WindowLogic<C> {
    type Out = C::Out;
    const INPUTS: usize = C::INPUTS;

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<(), UserError> {
        let keyed = context.services.keyed();
        self.contents.open(keyed)?;
        self.counts = self.windowing.trigger.open(keyed)?;
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
            if let Some(placed) = self.place(window, at.slot, services) {
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
        let time = registered_time(domain, &timer);
        let cell = match &self.sessions {
            None => namespace,
            Some(sessions) => match sessions.cell(services.keyed(), timer.slot, window) {
                Some(cell) => cell,
                // It was merged into another one since.
                None => return Ok(()),
            },
        };
        if self.windowing.trigger.on_timer(domain, time, window) {
            let fired = Fired {
                slot: timer.slot,
                cell,
                window,
                row: None,
            };
            self.fire(&fired, services, out)?;
        }
        let is_cleanup =
            domain == self.windowing.assigner.domain && time == self.windowing.cleanup_time(window);
        if is_cleanup {
            let mut cx = TriggerContext {
                watermark: services.watermark,
                keyed: services.keyed(),
                counts: self.counts,
                slot: timer.slot,
                window,
            };
            self.contents.clear(cx.keyed, cx.slot, cell);
            self.windowing.trigger.clear(&mut cx);
            if let Some(sessions) = &self.sessions {
                sessions.retire(cx.keyed, cx.slot, window);
            }
        }
        Ok(())
    }
}
