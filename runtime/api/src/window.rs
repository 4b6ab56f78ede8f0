//! Windows of keyed streams.
//!
//! ```text
//!   row --WindowAssigner--> windows --late? yes: side output or nowhere
//!                             | no
//!                             |  sessions only: merged with those that it touches
//!                             v
//!               Contents: one accumulator (reduce, aggregate, sum ..) or all elements (process) by (key, window)
//!                             ^                          |
//!   Trigger <--each element---+--timers by (key, window)-+--emits--> Emit: the value, or what a function makes of it
//! ```
//!
//! The semantics are those of Flink's WindowOperator, its assigners and its triggers. A window by event time is late, and its state
//! gone, once the watermark has reached its last time plus the allowed lateness; within that, each late element makes it emit
//! again.
//!
//! Invariants: whatever holds something has a timer that ends it, unless it never ends (`i64::MAX`); the windows of a key emit in
//! the order of their ends, and before the watermark that made them goes on.

mod assigner;
mod contents;
mod evictor;
mod fold;
mod function;
mod logic;
mod numeric;
mod sessions;
mod stream;
mod trigger;
mod triggers;

pub(crate) use assigner::millis;
pub use assigner::{
    EventTimeSessionWindows, GlobalWindows, ProcessingTimeSessionWindows, SlidingEventTimeWindows,
    SlidingProcessingTimeWindows, TimeWindow, TumblingEventTimeWindows, TumblingProcessingTimeWindows,
    WindowAssigner,
};
pub(crate) use contents::{Contents, Fired, Source, move_all, opened};
pub use evictor::{CountEvictor, DeltaEvictor, Evict, Evictor, TimeEvictor, WindowElements};
pub use function::{ProcessWindowFunction, WindowContext};
pub(crate) use logic::{WindowLogic, Windowing};
pub use stream::{AllWindowedStream, EvictingWindowedStream, NoKey, WindowedStream};
pub use trigger::{OnMergeContext, Trigger, TriggerContext, TriggerOpenContext, TriggerResult, TriggerState};
pub use triggers::{
    ContinuousEventTimeTrigger, ContinuousProcessingTimeTrigger, CountTrigger, DefaultTrigger, DeltaTrigger,
    EventTimeTrigger, ProcessingTimeTrigger, ProcessingTimeoutTrigger, PurgingTrigger,
};

#[cfg(test)]
mod tests;
