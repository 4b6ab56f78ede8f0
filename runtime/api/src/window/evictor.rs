//! Evictors: elements that are taken out of a window when it emits. Flink's EvictingWindowOperator.
//!
//! ```text
//!   window emits: all elements --evict_before--> the function --evict_after--> what stays for the next time
//! ```

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use thalweg_state::timers::WindowNamespace;
use thalweg_state::{KeyedState, Slot, StateError, WindowListHandle};
use thalweg_types::StreamBatch;

use super::assigner::{TimeWindow, millis};
use super::contents::{Contents, Fired, KeyOf, Source, move_all, opened};
use super::fold::Fold;
use super::function::{Emit, WindowContext};
use crate::function::{Collector, RowAt, Services};
use crate::process::UserError;
use crate::record::{Record, RecordError, RecordRef, Value};
use crate::side_output::{OutputTag, SideOutputs};

/// The state's name in snapshots: elements with their event times.
const TIMED_ELEMENTS: &str = "window-timed-elements";

/// What a window holds, in the order of arrival, each element with its event time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WindowElements<T> {
    values: Vec<T>,
    /// Of each value.
    times: Vec<Option<i64>>,
}

impl<T> WindowElements<T> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Each with its event time.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&T, Option<i64>)> {
        self.values.iter().zip(self.times.iter().copied())
    }

    /// Takes the first ones out.
    pub fn remove_first(&mut self, count: usize) {
        let count = count.min(self.len());
        self.values.drain(..count);
        self.times.drain(..count);
    }

    /// Takes those out for which the function is false.
    pub fn retain(&mut self, mut keep: impl FnMut(&T, Option<i64>) -> bool) {
        let all = std::mem::take(&mut self.values)
            .into_iter()
            .zip(std::mem::take(&mut self.times));
        let kept = all.filter(|(value, time)| keep(value, *time));
        (self.values, self.times) = kept.unzip();
    }
}

impl<T> FromIterator<(T, Option<i64>)> for WindowElements<T> {
    fn from_iter<I: IntoIterator<Item = (T, Option<i64>)>>(elements: I) -> Self {
        let (values, times) = elements.into_iter().unzip();
        Self { values, times }
    }
}

/// Takes elements out of windows of `T` when they emit. Flink's Evictor.
///
/// A window with an evictor keeps all its elements, whatever is made of them.
pub trait Evictor<T: Record>: Clone + Send + 'static {
    /// Before the window's function gets the elements.
    fn evict_before(
        &mut self,
        elements: &mut WindowElements<T>,
        window: TimeWindow,
        ctx: &WindowContext<'_>,
    ) -> Result<(), UserError>;

    /// Behind it: what is left is there when the window emits again.
    fn evict_after(
        &mut self,
        elements: &mut WindowElements<T>,
        window: TimeWindow,
        ctx: &WindowContext<'_>,
    ) -> Result<(), UserError>;
}

macro_rules! evictors {
    ($($name:ident[$($parameter:ident)?];)*) => {$(
        impl<T: Record $(, $parameter)?> Evictor<T> for $name$(<$parameter>)?
        where
            Self: Evict<T> + Clone + Send + 'static,
        {
            fn evict_before(
                &mut self,
                elements: &mut WindowElements<T>,
                _window: TimeWindow,
                _ctx: &WindowContext<'_>,
            ) -> Result<(), UserError> {
                if !self.after {
                    self.evict(elements);
                }
                Ok(())
            }

            fn evict_after(
                &mut self,
                elements: &mut WindowElements<T>,
                _window: TimeWindow,
                _ctx: &WindowContext<'_>,
            ) -> Result<(), UserError> {
                if self.after {
                    self.evict(elements);
                }
                Ok(())
            }
        }

        impl$(<$parameter>)? $name$(<$parameter>)? {
            /// Evicts behind the window's function, and not before it.
            #[must_use]
            pub fn evict_after(self) -> Self {
                Self { after: true, ..self }
            }
        }
    )*};
}

/// What an evictor of ours takes out, be it before or behind the function.
pub trait Evict<T> {
    /// Takes elements out.
    fn evict(&mut self, elements: &mut WindowElements<T>);
}

evictors! {
    CountEvictor[];
    TimeEvictor[];
    DeltaEvictor[F];
}

/// Keeps the last elements of a window.
#[derive(Debug, Clone)]
pub struct CountEvictor {
    max_count: usize,
    after: bool,
}

impl CountEvictor {
    /// Keeps so many.
    pub fn of(max_count: usize) -> Self {
        Self {
            max_count,
            after: false,
        }
    }
}

impl<T> Evict<T> for CountEvictor {
    fn evict(&mut self, elements: &mut WindowElements<T>) {
        elements.remove_first(elements.len().saturating_sub(self.max_count));
    }
}

/// Keeps the elements of a window whose event times are near its latest. Of a window of elements without event times it keeps all.
#[derive(Debug, Clone)]
pub struct TimeEvictor {
    size: i64,
    after: bool,
}

impl TimeEvictor {
    /// Takes out what is so much older than the latest, or more.
    pub fn of(size: Duration) -> Self {
        Self {
            size: millis(size),
            after: false,
        }
    }
}

impl<T> Evict<T> for TimeEvictor {
    fn evict(&mut self, elements: &mut WindowElements<T>) {
        let latest = elements.iter().filter_map(|(_, time)| time).max();
        if let Some(latest) = latest {
            let cutoff = latest.saturating_sub(self.size);
            elements.retain(|_, time| time.is_none_or(|time| time > cutoff));
        }
    }
}

/// Keeps the elements of a window that are near its last one.
#[derive(Debug, Clone)]
pub struct DeltaEvictor<F> {
    threshold: f64,
    delta: F,
    after: bool,
}

impl<F> DeltaEvictor<F> {
    /// Takes out what `delta(element, last)` puts at the threshold or above it.
    pub fn of<T>(threshold: f64, delta: F) -> Self
    where
        F: FnMut(&T, &T) -> f64,
    {
        Self {
            threshold,
            delta,
            after: false,
        }
    }
}

impl<T: Clone, F: FnMut(&T, &T) -> f64> Evict<T> for DeltaEvictor<F> {
    fn evict(&mut self, elements: &mut WindowElements<T>) {
        let last = elements.iter().next_back().map(|(last, _)| last.clone());
        if let Some(last) = last {
            let Self { threshold, delta, .. } = self;
            elements.retain(|element, _| delta(element, &last) < *threshold);
        }
    }
}

/// All elements with their times, some of which an evictor takes out.
#[derive(Clone)]
pub(crate) struct Evicting<E: Emit, V> {
    source: Source<E::Key, E::In>,
    emit: E,
    evictor: V,
    handle: Option<WindowListHandle<(E::In, Option<i64>)>>,
}

impl<E: Emit, V> Evicting<E, V> {
    pub(crate) fn new(late: Option<OutputTag<E::In>>, emit: E, evictor: V) -> Self {
        Self {
            source: Source::new(late),
            emit,
            evictor,
            handle: None,
        }
    }
}

impl<E: Emit, V: Evictor<E::In>> Contents for Evicting<E, V> {
    type Element = E::In;
    type Out = E::Out;
    const INPUTS: usize = 1;

    fn open(&mut self, keyed: &mut KeyedState) -> Result<(), StateError> {
        self.handle = Some(keyed.register_window_list(TIMED_ELEMENTS)?);
        Ok(())
    }

    fn take(&mut self, _input: usize, batch: &StreamBatch, keys: &[ArrayRef]) -> Result<(), RecordError> {
        self.source.take(batch, keys)
    }

    fn element(&self, at: RowAt) -> RecordRef<'_, E::In> {
        self.source.get(at.row)
    }

    fn add(&mut self, keyed: &mut KeyedState, at: RowAt, cell: WindowNamespace) -> bool {
        let table = keyed.table(opened(self.handle));
        let is_new = table.get(at.slot, cell).is_empty();
        let element = (E::In::own(self.source.get(at.row)), at.timestamp);
        table.add(at.slot, cell, element);
        is_new
    }

    fn drop_late(&mut self, sides: &mut SideOutputs, at: RowAt) {
        self.source.drop_late(sides, at);
    }

    fn merge(
        &mut self,
        keyed: &mut KeyedState,
        slot: Slot,
        into: WindowNamespace,
        from: impl Iterator<Item = WindowNamespace> + Clone,
    ) {
        move_all(keyed, opened(self.handle), slot, into, from);
    }

    fn clear(&mut self, keyed: &mut KeyedState, slot: Slot, cell: WindowNamespace) {
        keyed.table(opened(self.handle)).clear(slot, cell);
    }

    fn finish(&mut self, rows: RecordBatch) -> Result<RecordBatch, ArrowError> {
        self.emit.finish(rows)
    }

    fn emit(
        &mut self,
        services: &mut Services,
        fired: &Fired,
        out: &mut Collector<E::Out>,
    ) -> Result<(), UserError> {
        let key = KeyOf::find::<E, _>(services, &self.source, fired)?;
        let (keyed, mut context) = WindowContext::split(services, fired.window);
        let table = keyed.table(opened(self.handle));
        let mut elements: WindowElements<E::In> = table.take(fired.slot, fired.cell).into_iter().collect();
        if elements.is_empty() {
            return Ok(());
        }
        self.evictor.evict_before(&mut elements, fired.window, &context)?;
        self.emit.emit(key.get(), &mut context, &elements.values, out)?;
        self.evictor.evict_after(&mut elements, fired.window, &context)?;
        let left = elements.values.into_iter().zip(elements.times);
        table.add_all(fired.slot, fired.cell, left);
        Ok(())
    }
}

/// Folds what is left of the elements when a window emits; nothing if none is.
#[derive(Clone)]
pub(crate) struct Refold<D, E> {
    pub(crate) fold: D,
    pub(crate) emit: E,
}

impl<D: Fold, E: Emit<In = D::Value>> Emit for Refold<D, E> {
    type Key = E::Key;
    type In = D::In;
    type Out = E::Out;
    const NEEDS_KEY: bool = E::NEEDS_KEY;

    fn emit(
        &mut self,
        key: Option<RecordRef<'_, E::Key>>,
        ctx: &mut WindowContext<'_>,
        elements: &[D::In],
        out: &mut Collector<E::Out>,
    ) -> Result<(), UserError> {
        let Self { fold, emit } = self;
        let Some((first, others)) = elements.split_first() else {
            return Ok(());
        };
        if D::NEEDS_BATCH {
            fold.take(&batch_of(elements)?)?;
        }
        let mut accumulator = fold.first(0, D::In::view(first));
        for (row, element) in (1..).zip(others) {
            fold.add(&mut accumulator, row, D::In::view(element));
        }
        fold.value(&accumulator, |value| {
            emit.emit(key, ctx, std::slice::from_ref(value), out)
        })
    }

    fn finish(&mut self, rows: RecordBatch) -> Result<RecordBatch, ArrowError> {
        self.fold.finish(rows)
    }
}

/// Elements as the rows that they came as.
fn batch_of<T: Record>(elements: &[T]) -> Result<StreamBatch, ArrowError> {
    let mut builders = T::builders(elements.len());
    for element in elements {
        T::push(&mut builders, T::view(element));
    }
    let schema = Arc::new(Schema::new(T::fields()));
    RecordBatch::try_new(schema, T::finish_columns(&mut builders)).map(StreamBatch::new)
}
