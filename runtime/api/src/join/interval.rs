//! Interval joins: `a.key_by(..).interval_join(&b.key_by(..)).between(lower, upper)`.

use std::marker::PhantomData;

use super::interval_logic::{Bounds, IntervalLogic, IntervalSpec, LateTags};
use crate::connect::connected;
use crate::function::Collector;
use crate::graph::ProgramError;
use crate::keyed::KeyedStream;
use crate::process::UserError;
use crate::record::{Record, RecordRef};
use crate::side_output::{OutputTag, SideOutputs};
use crate::stream::{DataStream, DrivenNode};

/// Farther bounds are refused, so that sums of times and bounds are meaningful.
const MAX_BOUND: i64 = i64::MAX / 4;

/// Two keyed streams that will be joined by their times. Flink's `KeyedStream.IntervalJoin`.
#[must_use = "an interval join does nothing until a function processes its pairs"]
pub struct IntervalJoin<K: Record, T1: Record, T2: Record> {
    left: KeyedStream<K, T1>,
    right: KeyedStream<K, T2>,
}

/// Two keyed streams and how far apart the times of a pair may be. Flink's `KeyedStream.IntervalJoined`.
#[must_use = "an interval join does nothing until a function processes its pairs"]
pub struct IntervalJoined<K: Record, T1: Record, T2: Record> {
    left: KeyedStream<K, T1>,
    right: KeyedStream<K, T2>,
    bounds: Bounds,
    late: LateTags<T1, T2>,
}

impl<K: Record, T: Record> KeyedStream<K, T> {
    /// Joins elements of one key whose event times are near each other.
    ///
    /// ```
    /// # use thalweg_api::prelude::*;
    /// # fn job(clicks: KeyedStream<String, (String, i64)>, views: KeyedStream<String, (String, i64)>) -> DataStream<i64> {
    /// clicks
    ///     .interval_join(&views)
    ///     .between(-5_000, 1_000) // views from 5 s before the click to 1 s after it
    ///     .apply(|(_, click), (_, view), out: &mut Collector<i64>| out.collect(click - view))
    /// # }
    /// ```
    pub fn interval_join<U: Record>(&self, other: &KeyedStream<K, U>) -> IntervalJoin<K, T, U> {
        IntervalJoin {
            left: self.clone(),
            right: other.clone(),
        }
    }
}

impl<K: Record, T1: Record, T2: Record> IntervalJoin<K, T1, T2> {
    /// A right element's time is from `lower_ms` to `upper_ms` milliseconds after the left one's (before it where negative), both
    /// included.
    pub fn between(self, lower_ms: i64, upper_ms: i64) -> IntervalJoined<K, T1, T2> {
        IntervalJoined {
            left: self.left,
            right: self.right,
            bounds: Bounds {
                lower: lower_ms,
                upper: upper_ms,
            },
            late: (None, None),
        }
    }
}

impl<K: Record, T1: Record, T2: Record> IntervalJoined<K, T1, T2> {
    /// Leaves out pairs at the lower bound.
    pub fn lower_bound_exclusive(mut self) -> Self {
        self.bounds.lower = self.bounds.lower.saturating_add(1);
        self
    }

    /// Leaves out pairs at the upper bound.
    pub fn upper_bound_exclusive(mut self) -> Self {
        self.bounds.upper = self.bounds.upper.saturating_sub(1);
        self
    }

    /// Where left elements go that come after the watermark; without it they are dropped.
    pub fn side_output_left_late_data(mut self, tag: &OutputTag<T1>) -> Self {
        self.late.0 = Some(tag.clone());
        self
    }

    /// Where right elements go that come after the watermark; without it they are dropped.
    pub fn side_output_right_late_data(mut self, tag: &OutputTag<T2>) -> Self {
        self.late.1 = Some(tag.clone());
        self
    }

    /// A function over each pair.
    pub fn process<F>(&self, function: F) -> DataStream<F::Out>
    where
        F: ProcessJoinFunction<In1 = T1, In2 = T2>,
    {
        let graph = &self.left.stream.graph;
        let Bounds { lower, upper } = self.bounds;
        if lower > upper || lower < -MAX_BOUND || upper > MAX_BOUND {
            graph.borrow_mut().refuse(ProgramError::Window {
                method: "between()",
                message: format!(
                    "the lower bound ({lower} ms) must not be above the upper one ({upper} ms), and both less than 70 million \
                     years"
                ),
            });
        }
        let node = DrivenNode {
            kind: "IntervalJoin",
            name: "Interval Join",
            keys: vec![Some(self.left.columns.clone()), Some(self.right.columns.clone())],
        };
        let inputs = connected(&self.left.stream, &self.right.stream);
        let spec = IntervalSpec {
            function,
            bounds: self.bounds,
            late: self.late.clone(),
        };
        node.add(graph, &inputs, spec, IntervalLogic::<K, F>::new)
    }

    /// As [`Self::process`] with a closure over the left and the right element.
    pub fn apply<O: Record, F>(&self, function: F) -> DataStream<O>
    where
        F: for<'a, 'b, 'c> FnMut(RecordRef<'a, T1>, RecordRef<'b, T2>, &'c mut Collector<O>)
            + Clone
            + Send
            + 'static,
    {
        self.process(ApplyPair::<F, T1, T2, O> {
            function,
            types: PhantomData,
        })
    }
}

/// A function over pairs of elements. Flink's ProcessJoinFunction.
pub trait ProcessJoinFunction: Clone + Send + 'static {
    /// The left stream's record.
    type In1: Record;
    /// The right stream's record.
    type In2: Record;
    /// What goes out.
    type Out: Record;

    /// Called for each pair. What is emitted has the later of both times.
    fn process(
        &mut self,
        left: RecordRef<'_, Self::In1>,
        right: RecordRef<'_, Self::In2>,
        ctx: &mut JoinContext<'_>,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError>;
}

/// What a [`ProcessJoinFunction`] is given beside the pair.
pub struct JoinContext<'a> {
    pub(super) left: i64,
    pub(super) right: i64,
    pub(super) sides: &'a mut SideOutputs,
}

impl JoinContext<'_> {
    /// The left element's event time.
    pub fn left_timestamp(&self) -> i64 {
        self.left
    }

    /// The right element's event time.
    pub fn right_timestamp(&self) -> i64 {
        self.right
    }

    /// The later of both.
    pub fn timestamp(&self) -> i64 {
        self.left.max(self.right)
    }

    /// Emits a record to a side output, with the later of both times. Dropped if nobody has asked for the output by
    /// [`DataStream::get_side_output`].
    pub fn output<T: Record>(&mut self, tag: &OutputTag<T>, record: RecordRef<'_, T>) {
        let timestamp = self.timestamp();
        self.sides.collect(tag, record, Some(timestamp));
    }
}

/// Named, not held.
type Types<T1, T2, O> = fn() -> (T1, T2, O);

/// A closure as [`ProcessJoinFunction`].
#[derive(Clone)]
struct ApplyPair<F, T1, T2, O> {
    function: F,
    types: PhantomData<Types<T1, T2, O>>,
}

impl<F, T1: Record, T2: Record, O: Record> ProcessJoinFunction for ApplyPair<F, T1, T2, O>
where
    F: for<'a, 'b, 'c> FnMut(RecordRef<'a, T1>, RecordRef<'b, T2>, &'c mut Collector<O>)
        + Clone
        + Send
        + 'static,
{
    type In1 = T1;
    type In2 = T2;
    type Out = O;

    fn process(
        &mut self,
        left: RecordRef<'_, T1>,
        right: RecordRef<'_, T2>,
        _ctx: &mut JoinContext<'_>,
        out: &mut Collector<O>,
    ) -> Result<(), UserError> {
        (self.function)(left, right, out);
        Ok(())
    }
}
