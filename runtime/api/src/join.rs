//! Joins of two streams by key.
//!
//! ```text
//!   a.join(&b).where_(key).equal_to(key).window(w).apply(f)       each pair of a window
//!   a.co_group(&b).where_(key).equal_to(key).window(w).apply(f)   all elements of both in a window
//!   a.key_by(..).interval_join(&b.key_by(..)).between(lo, hi)     each pair whose times are near
//! ```
//!
//! Windowed joins are windows ([`crate::window`]) whose contents are two lists; one operator with two inputs, so that no element is
//! copied into a common type.

mod contents;
mod interval;
mod interval_logic;

use std::marker::PhantomData;
use std::time::Duration;

use contents::{CoGroupBy, CoListed, FlatJoinBy, JoinBy, Pairs};
pub use interval::{IntervalJoin, IntervalJoined, JoinContext, ProcessJoinFunction};

use crate::connect::connected;
use crate::function::Collector;
use crate::keyed::KeyedStream;
use crate::record::{Record, RecordRef};
use crate::stream::{DataStream, DrivenNode};
use crate::window::{DefaultTrigger, Trigger, WindowAssigner, WindowLogic, Windowing, millis};

/// Says that pairs are made: what [`DataStream::join`] begins.
pub enum Join {}
/// Says that elements are taken together: what [`DataStream::co_group`] begins.
pub enum CoGroup {}

/// Two streams that will be joined. Flink's JoinedStreams and CoGroupedStreams.
#[must_use = "joined streams do nothing until a function is applied to their windows"]
pub struct JoinedStreams<P, T1: Record, T2: Record> {
    first: DataStream<T1>,
    second: DataStream<T2>,
    kind: PhantomData<P>,
}

/// Two streams, the first one's key known. Flink's `JoinedStreams.Where`.
#[must_use = "joined streams do nothing until a function is applied to their windows"]
pub struct JoinedWhere<P, K: Record, T1: Record, T2: Record> {
    first: KeyedStream<K, T1>,
    second: DataStream<T2>,
    kind: PhantomData<P>,
}

/// Two streams with their keys. Flink's `JoinedStreams.Where.EqualTo`.
#[must_use = "joined streams do nothing until a function is applied to their windows"]
pub struct JoinedEqualTo<P, K: Record, T1: Record, T2: Record> {
    first: KeyedStream<K, T1>,
    second: KeyedStream<K, T2>,
    kind: PhantomData<P>,
}

/// Two streams cut into windows. Flink's `JoinedStreams.WithWindow`.
#[must_use = "joined streams do nothing until a function is applied to their windows"]
pub struct JoinedWindows<P, K: Record, T1: Record, T2: Record, G = DefaultTrigger> {
    streams: JoinedEqualTo<P, K, T1, T2>,
    windowing: Windowing<G>,
}

impl<T: Record> DataStream<T> {
    /// Joins this stream with another in windows: each pair of elements of one key and window.
    ///
    /// ```
    /// # use thalweg_api::prelude::*;
    /// # use std::time::Duration;
    /// # fn job(orders: DataStream<(String, i64)>, rates: DataStream<(String, f64)>) -> DataStream<f64> {
    /// orders
    ///     .join(&rates)
    ///     .where_::<String, _>(|(currency, _)| currency)
    ///     .equal_to(|(currency, _)| currency)
    ///     .window(TumblingEventTimeWindows::of(Duration::from_secs(60)))
    ///     .apply(|(_, amount), (_, rate)| amount as f64 * rate)
    /// # }
    /// ```
    pub fn join<U: Record>(&self, other: &DataStream<U>) -> JoinedStreams<Join, T, U> {
        JoinedStreams::new(self, other)
    }

    /// Takes the elements of both streams of one key and window together, also where one has none.
    ///
    /// ```
    /// # use thalweg_api::prelude::*;
    /// # use std::time::Duration;
    /// # fn job(orders: DataStream<(String, i64)>, shipments: DataStream<(String, i64)>) -> DataStream<i64> {
    /// orders
    ///     .co_group(&shipments)
    ///     .where_::<String, _>(|(customer, _)| customer)
    ///     .equal_to(|(customer, _)| customer)
    ///     .window(EventTimeSessionWindows::with_gap(Duration::from_secs(60)))
    ///     .apply(|orders, shipments, out: &mut Collector<i64>| {
    ///         out.collect(orders.len() as i64 - shipments.len() as i64);
    ///     })
    /// # }
    /// ```
    pub fn co_group<U: Record>(&self, other: &DataStream<U>) -> JoinedStreams<CoGroup, T, U> {
        JoinedStreams::new(self, other)
    }
}

impl<P, T1: Record, T2: Record> JoinedStreams<P, T1, T2> {
    fn new(first: &DataStream<T1>, second: &DataStream<T2>) -> Self {
        Self {
            first: first.clone(),
            second: second.clone(),
            kind: PhantomData,
        }
    }

    /// The key of the first stream's elements.
    pub fn where_<K: Record, F>(self, key: F) -> JoinedWhere<P, K, T1, T2>
    where
        F: for<'a> Fn(&'a RecordRef<'a, T1>) -> RecordRef<'a, K> + Send + Sync + 'static,
    {
        JoinedWhere {
            first: self.first.key_by::<K, F>(key),
            second: self.second,
            kind: PhantomData,
        }
    }
}

impl<P, K: Record, T1: Record, T2: Record> JoinedWhere<P, K, T1, T2> {
    /// The key of the second stream's elements.
    pub fn equal_to<F>(self, key: F) -> JoinedEqualTo<P, K, T1, T2>
    where
        F: for<'a> Fn(&'a RecordRef<'a, T2>) -> RecordRef<'a, K> + Send + Sync + 'static,
    {
        JoinedEqualTo {
            first: self.first,
            second: self.second.key_by::<K, F>(key),
            kind: PhantomData,
        }
    }
}

impl<P, K: Record, T1: Record, T2: Record> JoinedEqualTo<P, K, T1, T2> {
    /// Cuts both into the same windows.
    pub fn window(self, assigner: impl Into<WindowAssigner>) -> JoinedWindows<P, K, T1, T2> {
        let windowing = Windowing::new(assigner.into(), &self.first.stream.graph);
        JoinedWindows {
            streams: self,
            windowing,
        }
    }
}

impl<P, K: Record, T1: Record, T2: Record, G: Trigger<bool>> JoinedWindows<P, K, T1, T2, G> {
    /// When windows emit, in place of the default: at their ends. What the trigger sees of an element is whether it came from the
    /// second stream.
    pub fn trigger<H: Trigger<bool>>(self, trigger: H) -> JoinedWindows<P, K, T1, T2, H> {
        let graph = &self.streams.first.stream.graph;
        JoinedWindows {
            windowing: self.windowing.with_trigger(trigger, graph),
            streams: self.streams,
        }
    }

    /// How long a window is kept after its end, so that it emits again for each element that comes late. What is later is dropped.
    pub fn allowed_lateness(mut self, lateness: Duration) -> Self {
        self.windowing.lateness = millis(lateness);
        self
    }

    fn operator<E>(&self, kind: &'static str, name: &'static str, pairs: E) -> DataStream<E::Out>
    where
        E: Pairs<In1 = T1, In2 = T2>,
    {
        let JoinedEqualTo { first, second, .. } = &self.streams;
        let node = DrivenNode {
            kind,
            name,
            keys: vec![Some(first.columns.clone()), Some(second.columns.clone())],
        };
        let inputs = connected(&first.stream, &second.stream);
        let function = (self.windowing.clone(), CoListed::<K, E>::new(pairs));
        node.add(&first.stream.graph, &inputs, function, WindowLogic::new)
    }
}

impl<K: Record, T1: Record, T2: Record, G: Trigger<bool>> JoinedWindows<Join, K, T1, T2, G> {
    /// One record for each pair. Flink's JoinFunction.
    pub fn apply<O: Record, F>(&self, function: F) -> DataStream<O>
    where
        F: for<'a, 'b> FnMut(RecordRef<'a, T1>, RecordRef<'b, T2>) -> O + Clone + Send + 'static,
    {
        self.operator("WindowJoin", "Join", JoinBy::<F, T1, T2, O>::new(function))
    }

    /// Any number of records for each pair. Flink's FlatJoinFunction.
    pub fn flat_apply<O: Record, F>(&self, function: F) -> DataStream<O>
    where
        F: for<'a, 'b, 'c> FnMut(RecordRef<'a, T1>, RecordRef<'b, T2>, &'c mut Collector<O>)
            + Clone
            + Send
            + 'static,
    {
        self.operator("WindowJoin", "Join", FlatJoinBy::<F, T1, T2, O>::new(function))
    }
}

impl<K: Record, T1: Record, T2: Record, G: Trigger<bool>> JoinedWindows<CoGroup, K, T1, T2, G> {
    /// Any number of records for the elements of both; one of the slices may be empty. Flink's CoGroupFunction.
    pub fn apply<O: Record, F>(&self, function: F) -> DataStream<O>
    where
        F: for<'a, 'b, 'c> FnMut(&'a [T1], &'b [T2], &'c mut Collector<O>) + Clone + Send + 'static,
    {
        self.operator("CoGroup", "CoGroup", CoGroupBy::<F, T1, T2, O>::new(function))
    }
}

#[cfg(test)]
mod tests;
