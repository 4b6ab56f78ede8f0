//! The interval join as a [`Logic`]: Flink's IntervalJoinOperator.
//!
//! ```text
//!   left row at t  --> left buffer [t],  pairs with the right buffer's [t + lower, t + upper]
//!   right row at t --> right buffer [t], pairs with the left buffer's  [t - upper, t - lower]
//!   watermark      --> elements that no later row can meet leave their buffer, by a timer each time
//! ```
//!
//! State of a side: the elements by (key, time), and the times that a key has. A timer's namespace says the side and the time.
//! Invariant: a key has a time if and only if it has elements of it, and a timer that ends them.

use arrow::array::ArrayRef;
use thalweg_state::timers::WindowNamespace;
use thalweg_state::{KeyedState, MapHandle, Slot, StateError, TimeDomain, Timer, WindowListHandle};
use thalweg_types::StreamBatch;

use super::interval::{JoinContext, ProcessJoinFunction};
use crate::context::OpenContext;
use crate::function::{Logic, Output, RowAt, Services};
use crate::process::UserError;
use crate::record::{Record, RecordError, Value};
use crate::side_output::OutputTag;
use crate::window::{Source, opened};

/// The left stream's logical input, and the second part of its timers' namespaces.
const LEFT: usize = 0;
const RIGHT: usize = 1;

/// How much later than the left element the right one is: milliseconds, both included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) lower: i64,
    pub(crate) upper: i64,
}

impl Bounds {
    /// The same seen from the right.
    fn reversed(self) -> Self {
        Self {
            lower: -self.upper,
            upper: -self.lower,
        }
    }

    /// When nothing meets an element of this time any more.
    fn cleanup_time(self, time: i64) -> i64 {
        time.saturating_add(self.upper.max(0))
    }
}

/// Where each side's late elements go.
pub(crate) type LateTags<T1, T2> = (Option<OutputTag<T1>>, Option<OutputTag<T2>>);

/// What the operator is made of.
#[derive(Clone)]
pub(crate) struct IntervalSpec<F: ProcessJoinFunction> {
    pub(crate) function: F,
    pub(crate) bounds: Bounds,
    pub(crate) late: LateTags<F::In1, F::In2>,
}

/// One side's elements.
struct Buffer<T: Record> {
    elements: WindowListHandle<T>,
    times: MapHandle<i64, bool>,
}

/// The left side's and the right side's.
type Buffers<T1, T2> = (Buffer<T1>, Buffer<T2>);

impl<T: Record> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Record> Copy for Buffer<T> {}

impl<T: Record> Buffer<T> {
    fn open(keyed: &mut KeyedState, elements: &str, times: &str) -> Result<Self, StateError> {
        Ok(Self {
            elements: keyed.register_window_list(elements)?,
            times: keyed.register_map(times, None)?,
        })
    }

    /// Adds an element; whether it is the first of its time.
    fn add(self, keyed: &mut KeyedState, slot: Slot, time: i64, element: T) -> bool {
        let table = keyed.table(self.elements);
        let is_first = table.get(slot, cell(time)).is_empty();
        table.add(slot, cell(time), element);
        if is_first {
            keyed.table(self.times).put(slot, time, true);
        }
        is_first
    }

    /// The times that it has within bounds of one, earliest first.
    fn find(self, keyed: &mut KeyedState, slot: Slot, time: i64, bounds: Bounds, found: &mut Vec<i64>) {
        let (from, to) = (
            time.saturating_add(bounds.lower),
            time.saturating_add(bounds.upper),
        );
        let times = keyed.table(self.times).peek_iter(slot).map(|(time, _)| *time);
        found.clear();
        found.extend(times.filter(|time| (from..=to).contains(time)));
        found.sort_unstable();
    }

    fn remove(self, keyed: &mut KeyedState, slot: Slot, time: i64) {
        keyed.table(self.elements).clear(slot, cell(time));
        keyed.table(self.times).remove(slot, &time);
    }
}

/// Where the elements of a time are.
fn cell(time: i64) -> WindowNamespace {
    (time, time)
}

/// See the module.
pub(crate) struct IntervalLogic<K: Record, F: ProcessJoinFunction> {
    function: F,
    bounds: Bounds,
    left: Source<K, F::In1>,
    right: Source<K, F::In2>,
    buffers: Option<Buffers<F::In1, F::In2>>,
    found: Vec<i64>,
}

impl<K: Record, F: ProcessJoinFunction> IntervalLogic<K, F> {
    pub(crate) fn new(spec: IntervalSpec<F>) -> Self {
        Self {
            function: spec.function,
            bounds: spec.bounds,
            left: Source::new(spec.late.0),
            right: Source::new(spec.late.1),
            buffers: None,
            found: Vec::new(),
        }
    }

    fn join_left(
        &mut self,
        at: RowAt,
        left: i64,
        services: &mut Services,
        out: &mut Output<F::Out>,
    ) -> Result<(), UserError> {
        let (own, other) = opened(self.buffers);
        let record = self.left.get(at.row);
        let keyed = services.keyed();
        if own.add(keyed, at.slot, left, F::In1::own(record)) {
            register(keyed, at, left, self.bounds);
        }
        other.find(keyed, at.slot, left, self.bounds, &mut self.found);
        for right in &self.found {
            let (keyed, sides, _) = services.split();
            let mut context = JoinContext {
                left,
                right: *right,
                sides,
            };
            for element in keyed.table(other.elements).get(at.slot, cell(*right)) {
                let element = F::In2::view(element);
                self.function
                    .process(record, element, &mut context, &mut out.collector)?;
            }
            out.stamp(Some(context.timestamp()));
        }
        Ok(())
    }

    fn join_right(
        &mut self,
        at: RowAt,
        right: i64,
        services: &mut Services,
        out: &mut Output<F::Out>,
    ) -> Result<(), UserError> {
        let (other, own) = opened(self.buffers);
        let bounds = self.bounds.reversed();
        let record = self.right.get(at.row);
        let keyed = services.keyed();
        if own.add(keyed, at.slot, right, F::In2::own(record)) {
            register(keyed, at, right, bounds);
        }
        other.find(keyed, at.slot, right, bounds, &mut self.found);
        for left in &self.found {
            let (keyed, sides, _) = services.split();
            let mut context = JoinContext {
                left: *left,
                right,
                sides,
            };
            for element in keyed.table(other.elements).get(at.slot, cell(*left)) {
                let element = F::In1::view(element);
                self.function
                    .process(element, record, &mut context, &mut out.collector)?;
            }
            out.stamp(Some(context.timestamp()));
        }
        Ok(())
    }
}

/// The timer that ends a time's elements.
fn register(keyed: &mut KeyedState, at: RowAt, time: i64, bounds: Bounds) {
    let timer = Timer {
        time: bounds.cleanup_time(time),
        slot: at.slot,
        window: Some((time, at.input as i64)),
    };
    keyed.timers().register(TimeDomain::Event, timer);
}

impl<K: Record, F: ProcessJoinFunction> Logic for IntervalLogic<K, F> {
    type Out = F::Out;
    const INPUTS: usize = 2;

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<(), UserError> {
        let keyed = context.services.keyed();
        self.buffers = Some((
            Buffer::open(keyed, "left-elements", "left-times")?,
            Buffer::open(keyed, "right-elements", "right-times")?,
        ));
        Ok(())
    }

    fn take(&mut self, input: usize, batch: &StreamBatch, keys: &[ArrayRef]) -> Result<(), RecordError> {
        match input {
            LEFT => self.left.take(batch, keys),
            _ => self.right.take(batch, keys),
        }
    }

    fn row(&mut self, at: RowAt, services: &mut Services, out: &mut Output<F::Out>) -> Result<(), UserError> {
        let Some(time) = at.timestamp.filter(|time| *time > i64::MIN) else {
            return Err("a record without event time came to an interval join: call \
                        assign_timestamps_and_watermarks() before key_by()"
                .into());
        };
        if time < services.watermark {
            match at.input {
                LEFT => self.left.drop_late(&mut services.sides, at),
                _ => self.right.drop_late(&mut services.sides, at),
            }
            return Ok(());
        }
        match at.input {
            LEFT => self.join_left(at, time, services, out),
            _ => self.join_right(at, time, services, out),
        }
    }

    fn timer(
        &mut self,
        _domain: TimeDomain,
        timer: Timer,
        services: &mut Services,
        _out: &mut Output<F::Out>,
    ) -> Result<(), UserError> {
        let Some((time, side)) = timer.window else {
            return Ok(());
        };
        let (left, right) = opened(self.buffers);
        let keyed = services.keyed();
        if side == RIGHT as i64 {
            right.remove(keyed, timer.slot, time);
        } else {
            left.remove(keyed, timer.slot, time);
        }
        Ok(())
    }
}
