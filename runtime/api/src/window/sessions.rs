//! Sessions of keys: windows that are merged when they touch. Flink's MergingWindowSet.
//!
//! ```text
//!   session's window --> cell: the window under which its contents are kept
//! ```
//!
//! A session that grows keeps its cell, so that its contents needn't move; of several that become one, the others' contents go into
//! the first one's cell. Invariants: a key's sessions don't touch each other; a cell lies in its session's window, so that no
//! two sessions have the same.

use thalweg_state::timers::WindowNamespace;
use thalweg_state::{KeyedState, Slot, StateError, WindowHandle};

use super::assigner::TimeWindow;
use super::contents::Contents;
use super::logic::{Placed, Windowing};
use super::trigger::{OnMergeContext, Trigger, TriggerContext};
use crate::process::UserError;

/// The state's name in snapshots.
const SESSIONS: &str = "window-sessions";

/// Of one operator in one subtask.
pub(crate) struct Sessions {
    cells: WindowHandle<WindowNamespace>,
    /// Those that an element brings together, and their cells; kept for its room.
    touched: Vec<(TimeWindow, WindowNamespace)>,
}

impl Sessions {
    pub(crate) fn open(keyed: &mut KeyedState) -> Result<Self, StateError> {
        Ok(Self {
            cells: keyed.register_window(SESSIONS)?,
            touched: Vec::new(),
        })
    }

    /// A session's cell; `None` if there is no such session any more.
    pub(crate) fn cell(
        &self,
        keyed: &mut KeyedState,
        slot: Slot,
        window: TimeWindow,
    ) -> Option<WindowNamespace> {
        let cells = keyed.table(self.cells);
        cells.peek(slot, &window.namespace()).copied()
    }

    /// The session is over.
    pub(crate) fn retire(&self, keyed: &mut KeyedState, slot: Slot, window: TimeWindow) {
        keyed.table(self.cells).remove(slot, &window.namespace());
    }

    /// The session that an element's window, `cx.window`, belongs to, merged with those that it touches; `None` if the
    /// element is late, which it can't be where it joins a session that is still there.
    pub(super) fn place<C: Contents, G: Trigger<C::Element>>(
        &mut self,
        windowing: &mut Windowing<G>,
        contents: &mut C,
        cx: &mut TriggerContext<'_>,
    ) -> Result<Option<Placed>, UserError> {
        let element = cx.window;
        self.find_touched(cx.keyed, cx.slot, element);
        Ok(match *self.touched.as_slice() {
            [] if windowing.is_late(element, cx.watermark) => None,
            [] => {
                let cell = element.namespace();
                keep(cx, self.cells, element, cell);
                Some(Placed {
                    window: element,
                    cell,
                    is_changed: true,
                })
            }
            [(window, cell)] if window.covers(&element) => Some(Placed {
                window,
                cell,
                is_changed: false,
            }),
            [(first, cell), ..] => {
                let windows = self.touched.iter().map(|(window, _)| window);
                let window = windows.fold(element.cover(&first), |all, window| all.cover(window));
                self.merge(windowing, contents, cx, window, cell)?;
                Some(Placed {
                    window,
                    cell,
                    is_changed: true,
                })
            }
        })
    }

    fn find_touched(&mut self, keyed: &mut KeyedState, slot: Slot, element: TimeWindow) {
        self.touched.clear();
        let sessions = keyed.table(self.cells).peek_iter(slot);
        let sessions = sessions.map(|(window, cell)| (TimeWindow::of_namespace(*window), *cell));
        self.touched
            .extend(sessions.filter(|(window, _)| window.intersects(&element)));
    }

    /// Makes one session of those that were touched.
    fn merge<C: Contents, G: Trigger<C::Element>>(
        &self,
        windowing: &mut Windowing<G>,
        contents: &mut C,
        cx: &mut TriggerContext<'_>,
        window: TimeWindow,
        cell: WindowNamespace,
    ) -> Result<(), UserError> {
        let whole = TriggerContext {
            keyed: &mut *cx.keyed,
            window,
            ..*cx
        };
        let mut merging = OnMergeContext::new(whole, &self.touched);
        windowing.trigger.on_merge(window, &mut merging)?;
        for (merged, _) in &self.touched {
            cx.window = *merged;
            windowing.trigger.clear(*merged, cx)?;
            windowing.delete_cleanup(cx);
            self.retire(cx.keyed, cx.slot, *merged);
        }
        let others = self.touched[1..].iter().map(|(_, cell)| *cell);
        contents.merge(cx.keyed, cx.slot, cell, others);
        keep(cx, self.cells, window, cell);
        Ok(())
    }
}

fn keep(
    cx: &mut TriggerContext<'_>,
    cells: WindowHandle<WindowNamespace>,
    window: TimeWindow,
    cell: WindowNamespace,
) {
    cx.keyed.table(cells).put(cx.slot, window.namespace(), cell);
}
