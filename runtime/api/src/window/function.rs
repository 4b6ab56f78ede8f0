//! Functions over what a window holds.

use std::marker::PhantomData;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use thalweg_state::KeyedState;
use thalweg_task::Clock;

use super::assigner::TimeWindow;
use crate::function::{Collector, Services};
use crate::process::UserError;
use crate::record::{Record, RecordRef};
use crate::side_output::{OutputTag, SideOutputs};

/// What a window function is given beside the elements. Flink's ProcessWindowFunction.Context.
pub struct WindowContext<'a> {
    window: TimeWindow,
    watermark: i64,
    clock: &'a Clock,
    sides: &'a mut SideOutputs,
}

impl<'a> WindowContext<'a> {
    /// The context of a window, and the state beside it.
    pub(crate) fn split(services: &'a mut Services, window: TimeWindow) -> (&'a mut KeyedState, Self) {
        let watermark = services.watermark;
        let (keyed, sides, clock) = services.split();
        let context = Self {
            window,
            watermark,
            clock,
            sides,
        };
        (keyed, context)
    }

    /// The window that emits.
    pub fn window(&self) -> TimeWindow {
        self.window
    }

    /// How far event time has come; `i64::MIN` before the first watermark.
    pub fn current_watermark(&self) -> i64 {
        self.watermark
    }

    /// The machine's clock: milliseconds since the epoch.
    pub fn current_processing_time(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Emits a record to a side output, with the window's last time as its event time. Dropped if nobody has asked for the output
    /// by [`crate::DataStream::get_side_output`].
    pub fn output<T: Record>(&mut self, tag: &OutputTag<T>, record: RecordRef<'_, T>) {
        self.sides.collect(tag, record, Some(self.window.max_timestamp()));
    }
}

/// A function over all elements of a window. Flink's ProcessWindowFunction.
///
/// After `reduce` or `aggregate` it gets the one value that the window has come to.
///
/// ```
/// use thalweg_api::prelude::*;
/// use std::time::Duration;
///
/// /// The median a key and window: (key, end of the window, median).
/// #[derive(Clone)]
/// struct Median;
///
/// impl ProcessWindowFunction for Median {
///     type Key = String;
///     type In = (String, i64);
///     type Out = (String, i64, i64);
///
///     fn process(
///         &mut self,
///         key: &str,
///         ctx: &mut WindowContext<'_>,
///         elements: &[(String, i64)],
///         out: &mut Collector<(String, i64, i64)>,
///     ) -> Result<(), UserError> {
///         let mut values: Vec<i64> = elements.iter().map(|(_, value)| *value).collect();
///         values.sort_unstable();
///         out.collect((key, ctx.window().end, values[values.len() / 2]));
///         Ok(())
///     }
/// }
///
/// # fn job(readings: DataStream<(String, i64)>) -> DataStream<(String, i64, i64)> {
/// readings
///     .key_by_field::<String>("f0")
///     .window(TumblingEventTimeWindows::of(Duration::from_secs(60)))
///     .process(Median)
/// # }
/// ```
pub trait ProcessWindowFunction: Clone + Send + 'static {
    /// The key's type.
    type Key: Record;
    /// What the window holds.
    type In: Record;
    /// What goes out.
    type Out: Record;

    /// Called each time the window emits; `elements` are in the order of their arrival, and never empty but where an evictor took
    /// them all. What is emitted has the
    /// window's last time as its event time.
    fn process(
        &mut self,
        key: RecordRef<'_, Self::Key>,
        ctx: &mut WindowContext<'_>,
        elements: &[Self::In],
        out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError>;
}

/// Named, not held.
type Types<K, T, O> = fn() -> (K, T, O);

/// A closure as [`ProcessWindowFunction`].
#[derive(Clone)]
pub(crate) struct Apply<F, K, T, O> {
    function: F,
    types: PhantomData<Types<K, T, O>>,
}

impl<F, K, T, O> Apply<F, K, T, O> {
    pub(crate) fn new(function: F) -> Self {
        Self {
            function,
            types: PhantomData,
        }
    }
}

impl<F, K: Record, T: Record, O: Record> ProcessWindowFunction for Apply<F, K, T, O>
where
    F: for<'a, 'b, 'c> FnMut(RecordRef<'a, K>, TimeWindow, &'b [T], &'c mut Collector<O>)
        + Clone
        + Send
        + 'static,
{
    type Key = K;
    type In = T;
    type Out = O;

    fn process(
        &mut self,
        key: RecordRef<'_, K>,
        ctx: &mut WindowContext<'_>,
        elements: &[T],
        out: &mut Collector<O>,
    ) -> Result<(), UserError> {
        (self.function)(key, ctx.window(), elements, out);
        Ok(())
    }
}

/// What a window does when it emits.
pub(crate) trait Emit: Clone + Send + 'static {
    type Key: Record;
    type In: Record;
    type Out: Record;
    /// Whether `emit` is to be given a key: finding a timer's key costs.
    const NEEDS_KEY: bool;

    fn emit(
        &mut self,
        key: Option<RecordRef<'_, Self::Key>>,
        ctx: &mut WindowContext<'_>,
        elements: &[Self::In],
        out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError>;
    /// See [`crate::function::Logic::finish`].
    fn finish(&mut self, rows: RecordBatch) -> Result<RecordBatch, ArrowError> {
        Ok(rows)
    }
}

/// Emits what the window holds.
pub(crate) struct Passthrough<K, V>(PhantomData<fn() -> (K, V)>);

impl<K, V> Passthrough<K, V> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<K, V> Clone for Passthrough<K, V> {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl<K: Record, V: Record> Emit for Passthrough<K, V> {
    type Key = K;
    type In = V;
    type Out = V;
    const NEEDS_KEY: bool = false;

    fn emit(
        &mut self,
        _key: Option<RecordRef<'_, K>>,
        _ctx: &mut WindowContext<'_>,
        elements: &[V],
        out: &mut Collector<V>,
    ) -> Result<(), UserError> {
        elements.iter().for_each(|element| out.collect_owned(element));
        Ok(())
    }
}

/// Emits what a function makes of it.
#[derive(Clone)]
pub(crate) struct ByFunction<F>(pub(crate) F);

impl<F: ProcessWindowFunction> Emit for ByFunction<F> {
    type Key = F::Key;
    type In = F::In;
    type Out = F::Out;
    const NEEDS_KEY: bool = true;

    fn emit(
        &mut self,
        key: Option<RecordRef<'_, F::Key>>,
        ctx: &mut WindowContext<'_>,
        elements: &[F::In],
        out: &mut Collector<F::Out>,
    ) -> Result<(), UserError> {
        match key {
            Some(key) => self.0.process(key, ctx, elements, out),
            None => Err("the window's key was not looked up".into()),
        }
    }
}
