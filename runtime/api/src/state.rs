//! State that user functions keep: handles that [`crate::OpenContext`] gives, used with the context of a record or timer.
//!
//! ```text
//!   open():     self.count = ctx.get_state("count")            -> ValueState<i64>, Copy: a number and a type
//!   process():  self.count.get(ctx), self.count.update(ctx, 7) -> the state of the record's key
//! ```
//!
//! | handle               | of a key                        | Flink                          |
//! |----------------------|---------------------------------|--------------------------------|
//! | [`ValueState`]       | one value                       | ValueState                     |
//! | [`ListState`]        | a list                          | ListState                      |
//! | [`MapState`]         | a map                           | MapState                       |
//! | [`ReducingState`]    | a value that others fold into   | ReducingState                  |
//! | [`AggregatingState`] | an accumulator                  | AggregatingState               |
//! | [`OperatorListState`]| (of the subtask) a list         | operator list and union state  |
//! | [`BroadcastState`]   | (of the operator) a map         | BroadcastState                 |
//!
//! A handle that was not registered panics when it is used, and says so.

mod descriptor;
mod keyed;
mod operator;

pub use descriptor::{
    AggregatingStateDescriptor, ListStateDescriptor, MapStateDescriptor, ReducingStateDescriptor,
    ValueStateDescriptor,
};
pub use keyed::{AggregatingState, ListState, MapState, ReducingState, ValueState};
pub use operator::{BroadcastState, OperatorListState};
pub use thalweg_state::{
    StateTtl as StateTtlConfig, TtlUpdate as UpdateType, TtlVisibility as StateVisibility,
};

use crate::record::{Record, RecordRef};

/// Folds values into an accumulator, from which the result is read. Flink's AggregateFunction. The accumulator is what is kept
/// in state, so it is a [`Record`].
pub trait AggregateFunction: Clone + Send + 'static {
    /// What is added.
    type In: Record;
    /// What is kept.
    type Accumulator: Record;
    /// The result.
    type Out: Record;

    /// An accumulator without any value.
    fn create_accumulator(&self) -> Self::Accumulator;
    /// Adds a value.
    fn add(&self, accumulator: &mut Self::Accumulator, value: RecordRef<'_, Self::In>);
    /// The result so far.
    fn get_result(&self, accumulator: &Self::Accumulator) -> Self::Out;
    /// Adds the values of another accumulator: where windows merge.
    fn merge(&self, accumulator: &mut Self::Accumulator, other: &Self::Accumulator);
}

/// Folds a value into a running one.
pub type ReduceFunction<T> = fn(&mut T, RecordRef<'_, T>);

/// The registered handle.
#[track_caller]
fn registered<H: Copy>(handle: Option<H>) -> H {
    match handle {
        Some(handle) => handle,
        None => panic!(
            "a state is used that open() has not registered: it begins with `self.state = ctx.get_state(\"name\")` or the like"
        ),
    }
}
