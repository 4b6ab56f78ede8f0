//! Windowed streams.

use std::time::Duration;

use thalweg_operators::rolling::Aggregation;

use super::TimeWindow;
use super::assigner::{GlobalWindows, WindowAssigner, millis};
use super::contents::{Contents, Folded, Listed};
use super::fold::{Aggregate, Fold, Reduce};
use super::function::{Apply, ByFunction, Passthrough, ProcessWindowFunction};
use super::logic::{WindowLogic, Windowing};
use super::numeric::Numeric;
use super::trigger::{CountTrigger, PurgingTrigger, Trigger};
use crate::function::Collector;
use crate::keyed::KeyedStream;
use crate::record::{Record, RecordRef};
use crate::side_output::OutputTag;
use crate::state::AggregateFunction;
use crate::stream::{DataStream, DrivenNode};

/// A keyed stream cut into windows. Flink's WindowedStream.
///
/// What a window emits has its last time as event time.
#[must_use = "a windowed stream does nothing until an operation follows"]
pub struct WindowedStream<K: Record, T: Record> {
    stream: KeyedStream<K, T>,
    windowing: Windowing,
    /// Where elements go that come after the lateness.
    late: Option<OutputTag<T>>,
}

impl<K: Record, T: Record> KeyedStream<K, T> {
    /// Cuts the records of each key into windows.
    ///
    /// ```
    /// # use thalweg_api::prelude::*;
    /// # use std::time::Duration;
    /// # fn job(words: DataStream<(String, i64)>) -> DataStream<(String, i64)> {
    /// words
    ///     .key_by_field::<String>("f0")
    ///     .window(TumblingEventTimeWindows::of(Duration::from_secs(60)))
    ///     .allowed_lateness(Duration::from_secs(10))
    ///     .sum("f1")
    /// # }
    /// ```
    pub fn window(&self, assigner: impl Into<WindowAssigner>) -> WindowedStream<K, T> {
        WindowedStream {
            stream: self.clone(),
            windowing: Windowing::new(assigner.into(), &self.stream.graph),
            late: None,
        }
    }

    /// Cuts the records of each key into windows of so many records, as they come: [`GlobalWindows`] with a [`CountTrigger`] that
    /// purges. A window that is not full emits nothing.
    pub fn count_window(&self, size: i64) -> WindowedStream<K, T> {
        self.window(GlobalWindows::create())
            .trigger(PurgingTrigger::of(CountTrigger::of(size)))
    }
}

impl<K: Record, T: Record> WindowedStream<K, T> {
    /// When windows emit, in place of the default: at their ends.
    pub fn trigger(mut self, trigger: impl Into<Trigger>) -> Self {
        self.windowing.trigger = trigger.into();
        self
    }

    /// How long a window is kept after its end, so that it emits again for each record that comes late. Of no meaning for windows by
    /// processing time.
    pub fn allowed_lateness(mut self, lateness: Duration) -> Self {
        self.windowing.lateness = millis(lateness);
        self
    }

    /// Where records go that come too late for all their windows, with their event times; without it they are dropped. Get them by
    /// [`DataStream::get_side_output`] on the stream that the window's operation gives.
    pub fn side_output_late_data(mut self, tag: &OutputTag<T>) -> Self {
        self.late = Some(tag.clone());
        self
    }

    /// Folds each record into what its window has so far; a window's first record is its first value.
    pub fn reduce<F>(&self, function: F) -> DataStream<T>
    where
        F: for<'a, 'b> FnMut(&'b mut T, RecordRef<'a, T>) + Clone + Send + 'static,
    {
        self.folded(Reduce::new(function))
    }

    /// As [`Self::reduce`], and a function makes the output of the window's value: it gets a slice of one.
    pub fn reduce_with<F, W>(&self, function: F, window_function: W) -> DataStream<W::Out>
    where
        F: for<'a, 'b> FnMut(&'b mut T, RecordRef<'a, T>) + Clone + Send + 'static,
        W: ProcessWindowFunction<Key = K, In = T>,
    {
        self.operator(Folded::new(
            self.late.clone(),
            Reduce::new(function),
            ByFunction(window_function),
        ))
    }

    /// Folds each record into its window's accumulator, from which the result is made.
    pub fn aggregate<A>(&self, function: A) -> DataStream<A::Out>
    where
        A: AggregateFunction<In = T>,
    {
        self.folded(Aggregate(function))
    }

    /// As [`Self::aggregate`], and a function makes the output of the window's result: it gets a slice of one.
    pub fn aggregate_with<A, W>(&self, function: A, window_function: W) -> DataStream<W::Out>
    where
        A: AggregateFunction<In = T>,
        W: ProcessWindowFunction<Key = K, In = A::Out>,
    {
        self.operator(Folded::new(
            self.late.clone(),
            Aggregate(function),
            ByFunction(window_function),
        ))
    }

    /// Keeps all records of a window and gives them to a function when it emits.
    pub fn process<W>(&self, function: W) -> DataStream<W::Out>
    where
        W: ProcessWindowFunction<Key = K, In = T>,
    {
        self.operator(Listed::new(self.late.clone(), ByFunction(function)))
    }

    /// As [`Self::process`] with a closure over the key, the window and its records. Flink's WindowFunction.
    ///
    /// ```
    /// # use thalweg_api::prelude::*;
    /// # use std::time::Duration;
    /// # fn job(words: DataStream<(String, i64)>) -> DataStream<(String, i64)> {
    /// words
    ///     .key_by_field::<String>("f0")
    ///     .window(EventTimeSessionWindows::with_gap(Duration::from_secs(60)))
    ///     .apply(|word, _window, records, out: &mut Collector<(String, i64)>| {
    ///         out.collect((word, records.len() as i64));
    ///     })
    /// # }
    /// ```
    pub fn apply<O: Record, F>(&self, function: F) -> DataStream<O>
    where
        F: for<'a, 'b, 'c> FnMut(RecordRef<'a, K>, TimeWindow, &'b [T], &'c mut Collector<O>)
            + Clone
            + Send
            + 'static,
    {
        self.process(Apply::<F, K, T, O>::new(function))
    }

    /// The sum of a numeric column; all others are those of the window's first record, as in Flink. Integers wrap at the bounds of
    /// their type.
    pub fn sum(&self, field: &str) -> DataStream<T> {
        self.numeric("sum()", Aggregation::Sum, field)
    }

    /// The smallest value of a numeric column; all others are those of the window's first record.
    pub fn min(&self, field: &str) -> DataStream<T> {
        self.numeric("min()", Aggregation::Min, field)
    }

    /// The largest value of a numeric column; all others are those of the window's first record.
    pub fn max(&self, field: &str) -> DataStream<T> {
        self.numeric("max()", Aggregation::Max, field)
    }

    fn numeric(&self, method: &'static str, aggregation: Aggregation, field: &str) -> DataStream<T> {
        let index = self.stream.aggregated_field(method, aggregation, field);
        let index = index.unwrap_or_else(|error| {
            self.stream.stream.graph.borrow_mut().refuse(error);
            0
        });
        let data_type = self.stream.stream.schema.field(index).data_type().clone();
        self.folded(Numeric::new(aggregation, index, data_type))
    }

    fn folded<D: Fold<In = T>>(&self, fold: D) -> DataStream<D::Value> {
        self.operator(Folded::new(
            self.late.clone(),
            fold,
            Passthrough::<K, D::Value>::new(),
        ))
    }

    fn operator<C: Contents>(&self, contents: C) -> DataStream<C::Out> {
        let node = DrivenNode {
            kind: "Window",
            name: "Window",
            keys: vec![Some(self.stream.columns.clone())],
        };
        let stream = &self.stream.stream;
        let inputs = std::slice::from_ref(&stream.inputs);
        let function = (self.windowing.clone(), contents);
        node.add(&stream.graph, inputs, function, WindowLogic::new)
    }
}
