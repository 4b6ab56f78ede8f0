//! Windowed streams.

use std::time::Duration;

use thalweg_operators::rolling::Aggregation;

use super::TimeWindow;
use super::assigner::{GlobalWindows, WindowAssigner, millis};
use super::contents::{Contents, Folded, Listed};
use super::evictor::{CountEvictor, Evicting, Evictor, Refold};
use super::fold::{Aggregate, Fold, Reduce};
use super::function::{Apply, ByFunction, Emit, Passthrough, ProcessWindowFunction};
use super::logic::{WindowLogic, Windowing};
use super::numeric::Numeric;
use super::trigger::Trigger;
use super::triggers::{CountTrigger, DefaultTrigger, PurgingTrigger};
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
pub struct WindowedStream<K: Record, T: Record, G = DefaultTrigger> {
    stream: KeyedStream<K, T>,
    windowing: Windowing<G>,
    /// Where elements go that come after the lateness.
    late: Option<OutputTag<T>>,
    /// Of all records, whatever their keys: one subtask does it.
    is_all: bool,
}

/// Stands for the key where all records go into the same windows; its only value is 0.
pub type NoKey = i8;

/// A stream without key cut into windows; one subtask has them all. Flink's AllWindowedStream.
pub type AllWindowedStream<T, G = DefaultTrigger> = WindowedStream<NoKey, T, G>;

impl<T: Record> DataStream<T> {
    /// Cuts all records into windows, in one subtask: the parallelism of the operator that follows is 1.
    ///
    /// ```
    /// # use thalweg_api::prelude::*;
    /// # use std::time::Duration;
    /// # fn job(amounts: DataStream<i64>) -> DataStream<i64> {
    /// amounts
    ///     .window_all(TumblingEventTimeWindows::of(Duration::from_secs(60)))
    ///     .reduce(|largest, amount| *largest = amount.max(*largest))
    /// # }
    /// ```
    pub fn window_all(&self, assigner: impl Into<WindowAssigner>) -> AllWindowedStream<T> {
        WindowedStream {
            is_all: true,
            ..self.key_by::<NoKey, _>(|_| 0).window(assigner)
        }
    }

    /// Cuts all records into windows of so many, as they come, in one subtask; see [`KeyedStream::count_window`].
    pub fn count_window_all(&self, size: i64) -> AllWindowedStream<T, PurgingTrigger<CountTrigger>> {
        WindowedStream {
            is_all: true,
            ..self.key_by::<NoKey, _>(|_| 0).count_window(size)
        }
    }
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
            is_all: false,
        }
    }

    /// Cuts the records of each key into windows of so many records, as they come: [`GlobalWindows`] with a [`CountTrigger`] that
    /// purges. A window that is not full emits nothing.
    pub fn count_window(&self, size: i64) -> WindowedStream<K, T, PurgingTrigger<CountTrigger>> {
        self.window(GlobalWindows::create())
            .trigger(PurgingTrigger::of(CountTrigger::of(size)))
    }

    /// The last `size` records of each key, each time so many have come as `slide` says. Flink's `countWindow(size, slide)`.
    pub fn count_window_sliding(
        &self,
        size: usize,
        slide: i64,
    ) -> EvictingWindowedStream<K, T, CountTrigger, CountEvictor> {
        self.window(GlobalWindows::create())
            .trigger(CountTrigger::of(slide))
            .evictor(CountEvictor::of(size))
    }
}

impl<K: Record, T: Record, G> WindowedStream<K, T, G> {
    /// When windows emit, in place of the default: at their ends.
    pub fn trigger<H: Trigger<T>>(self, trigger: H) -> WindowedStream<K, T, H> {
        WindowedStream {
            windowing: self.windowing.with_trigger(trigger, &self.stream.stream.graph),
            stream: self.stream,
            late: self.late,
            is_all: self.is_all,
        }
    }
}

impl<K: Record, T: Record, G: Trigger<T>> WindowedStream<K, T, G> {
    /// Takes elements out of windows when they emit; comes behind all that says how there are windows. Windows keep all their
    /// elements then, also where they are reduced or aggregated.
    pub fn evictor<V: Evictor<T>>(self, evictor: V) -> EvictingWindowedStream<K, T, G, V> {
        EvictingWindowedStream {
            windowed: self,
            evictor,
        }
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
        self.folded(self.numeric_fold(method, aggregation, field))
    }

    fn numeric_fold(&self, method: &'static str, aggregation: Aggregation, field: &str) -> Numeric<T> {
        let index = self.stream.aggregated_field(method, aggregation, field);
        let index = index.unwrap_or_else(|error| {
            self.stream.stream.graph.borrow_mut().refuse(error);
            0
        });
        let data_type = self.stream.stream.schema.field(index).data_type().clone();
        Numeric::new(aggregation, index, data_type)
    }

    fn folded<D: Fold<In = T>>(&self, fold: D) -> DataStream<D::Value> {
        self.operator(Folded::new(
            self.late.clone(),
            fold,
            Passthrough::<K, D::Value>::new(),
        ))
    }

    fn operator<C: Contents<Element = T>>(&self, contents: C) -> DataStream<C::Out> {
        let node = DrivenNode {
            kind: "Window",
            name: "Window",
            keys: vec![Some(self.stream.columns.clone())],
        };
        let stream = &self.stream.stream;
        let inputs = std::slice::from_ref(&stream.inputs);
        let function = (self.windowing.clone(), contents);
        let windows = node.add(&stream.graph, inputs, function, WindowLogic::new);
        if self.is_all {
            let mut graph = stream.graph.borrow_mut();
            let node = graph.node_mut(windows.inputs[0].node);
            (node.parallelism, node.max_parallelism) = (1, 1);
        }
        windows
    }
}

/// A keyed stream cut into windows from which elements are taken out. Flink's WindowedStream with an Evictor.
#[must_use = "a windowed stream does nothing until an operation follows"]
pub struct EvictingWindowedStream<K: Record, T: Record, G, V> {
    windowed: WindowedStream<K, T, G>,
    evictor: V,
}

impl<K: Record, T: Record, G: Trigger<T>, V: Evictor<T>> EvictingWindowedStream<K, T, G, V> {
    /// See [`WindowedStream::reduce`]; a window of which nothing is left emits nothing.
    pub fn reduce<F>(&self, function: F) -> DataStream<T>
    where
        F: for<'a, 'b> FnMut(&'b mut T, RecordRef<'a, T>) + Clone + Send + 'static,
    {
        self.operator(Refold {
            fold: Reduce::new(function),
            emit: Passthrough::<K, T>::new(),
        })
    }

    /// See [`WindowedStream::aggregate`]; a window of which nothing is left emits nothing.
    pub fn aggregate<A>(&self, function: A) -> DataStream<A::Out>
    where
        A: AggregateFunction<In = T>,
    {
        self.operator(Refold {
            fold: Aggregate(function),
            emit: Passthrough::<K, A::Out>::new(),
        })
    }

    /// See [`WindowedStream::sum`]; of what is left, as [`Self::reduce`].
    pub fn sum(&self, field: &str) -> DataStream<T> {
        self.numeric("sum()", Aggregation::Sum, field)
    }

    /// See [`WindowedStream::min`]; of what is left, as [`Self::reduce`].
    pub fn min(&self, field: &str) -> DataStream<T> {
        self.numeric("min()", Aggregation::Min, field)
    }

    /// See [`WindowedStream::max`]; of what is left, as [`Self::reduce`].
    pub fn max(&self, field: &str) -> DataStream<T> {
        self.numeric("max()", Aggregation::Max, field)
    }

    fn numeric(&self, method: &'static str, aggregation: Aggregation, field: &str) -> DataStream<T> {
        self.operator(Refold {
            fold: self.windowed.numeric_fold(method, aggregation, field),
            emit: Passthrough::<K, T>::new(),
        })
    }

    /// See [`WindowedStream::process`]; the function is also called if the evictor leaves nothing.
    pub fn process<W>(&self, function: W) -> DataStream<W::Out>
    where
        W: ProcessWindowFunction<Key = K, In = T>,
    {
        self.operator(ByFunction(function))
    }

    /// See [`WindowedStream::apply`]; the function is also called if the evictor leaves nothing.
    pub fn apply<O: Record, F>(&self, function: F) -> DataStream<O>
    where
        F: for<'a, 'b, 'c> FnMut(RecordRef<'a, K>, TimeWindow, &'b [T], &'c mut Collector<O>)
            + Clone
            + Send
            + 'static,
    {
        self.process(Apply::<F, K, T, O>::new(function))
    }

    fn operator<E: Emit<Key = K, In = T>>(&self, emit: E) -> DataStream<E::Out> {
        let contents = Evicting::new(self.windowed.late.clone(), emit, self.evictor.clone());
        self.windowed.operator(contents)
    }
}
