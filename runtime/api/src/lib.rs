//! The DataStream API: what packaged Rust jobs compile against.
//!
//! A job is an ordinary program. Its `main` builds a graph of sources, operations and sinks, and [`execute`] hands it to
//! the engine:
//!
//! ```no_run
//! use thalweg_api::prelude::*;
//!
//! #[derive(Clone, Record)]
//! struct WordCount {
//!     word: String,
//!     count: i64,
//! }
//!
//! #[thalweg_api::main]
//! fn main() {
//!     let env = StreamExecutionEnvironment::new();
//!     env.from_elements(["to be or".to_owned(), "not to be".to_owned()])
//!         .flat_map(|line, out: &mut Collector<WordCount>| {
//!             for word in line.split(' ') {
//!                 out.collect(WordCountRef { word, count: 1 });
//!             }
//!         })
//!         .key_by_field::<String>("word")
//!         .sum("count")
//!         .print();
//!     env.execute("word count")
//! }
//! ```
//!
//! ```text
//!   main --StreamExecutionEnvironment, DataStream, KeyedStream--> graph + code
//!                                                                   |
//!      extraction (JobManager): the graph goes to a socket <--------+-------> worker (TaskManager): the code runs
//! ```
//!
//! The same program runs several times: once so that the JobManager learns the graph, then as a worker process on each
//! TaskManager. So `main` must build the same graph each time: from its arguments and declared environment, not from the time or
//! from files that differ. A worker whose graph differs refuses to start.
//!
//! # State and time
//!
//! Functions that remember something are [process functions](KeyedProcessFunction): they get a context with state handles
//! ([`mod@state`]), timers ([`TimerService`]), side outputs ([`OutputTag`]) and the key. Two streams meet in one function by
//! [`DataStream::connect`], [`KeyedStream::connect`] and [`DataStream::connect_broadcast`]; outside systems are asked by
//! [`AsyncDataStream`]. All state is part of checkpoints and savepoints, and goes on with another parallelism.
//!
//! What differs from Flink's DataStream API:
//!
//! | Flink | here |
//! |---|---|
//! | `processElement`, `processElement1`, `processBroadcastElement` | `process`, `process1`, `process_broadcast` |
//! | anonymous classes | structs that are `Clone`; every subtask has its own clone, so fields are not shared |
//! | `open(OpenContext)` and `getRuntimeContext().getState(..)` | `open(&mut self, ctx)` and `ctx.get_state(..)`, which gives a `Copy` handle |
//! | `state.value()`, `state.update(v)` | `state.get(ctx)`, `state.update(ctx, v)`: the context says whose state; also `get_mut`, `take` |
//! | `initializeState`, `snapshotState` of CheckpointedFunction | operator state is registered in `open`, where it can be read already; there is no call at a checkpoint |
//! | `stream.broadcast(descriptors)`, `ctx.getBroadcastState(descriptor)` | `stream.broadcast_state()`, registered by the function: `ctx.get_broadcast_state(name)`; who may write is checked by the compiler |
//! | `applyToKeyedState` in a broadcast function | not there |
//! | `ctx.timerService()` without key, in ProcessFunction | `ctx.current_watermark()`, `ctx.current_processing_time()` |
//! | state of any serializable type | state values are records; their fields can be added, removed and widened between runs |
//! | AsyncFunction with a ResultFuture, `timeout()` | a closure that gives a future; a timeout fails the task, or gives what `on_timeout` says |
//! | `AllWindowedStream`, `ProcessAllWindowFunction` | the same as with a key, which is [`NoKey`] |
//! | `Trigger<T, W>` with `ctx.getPartitionedState(descriptor)` | [`Trigger<T>`]; states are registered in `open`, as a function's |
//! | `Evictor` over TimestampedValues, at any place | [`Evictor`] over [`WindowElements`]; `evictor(..)` comes last, `reduce`, `aggregate`, `process` and `apply` follow |
//!
//! [`execute`]: StreamExecutionEnvironment::execute

pub mod alloc;
mod async_stream;
mod connect;
mod context;
#[doc(hidden)]
pub mod entry;
mod environment;
mod function;
mod graph;
mod join;
mod keyed;
mod process;
pub mod record;
mod side_output;
mod sink;
pub mod state;
mod stream;
mod window;

#[cfg(test)]
extern crate self as thalweg_api; // the derive's output names the crate

pub use arrow;
pub use async_stream::{AsyncAnswer, AsyncDataStream, AsyncRetryStrategy, AsyncWait};
pub use connect::{
    BroadcastConnectedStream, BroadcastStream, ConnectedStreams, KeyedBroadcastConnectedStream,
    KeyedConnectedStreams,
};
pub use context::{
    BroadcastContext, Context, KeyContext, OnTimerContext, OpenContext, ProcessContext, TimerService,
};
pub use environment::{DatagenOptions, StreamExecutionEnvironment};
pub use function::Collector;
pub use graph::ProgramError;
pub use join::{
    CoGroup, IntervalJoin, IntervalJoined, Join, JoinContext, JoinedEqualTo, JoinedStreams, JoinedWhere,
    JoinedWindows, ProcessJoinFunction,
};
pub use keyed::KeyedStream;
pub use process::{
    BroadcastProcessFunction, CoProcessFunction, KeyedBroadcastProcessFunction, KeyedCoProcessFunction,
    KeyedProcessFunction, ProcessFunction, UserError,
};
pub use record::{Record, RecordRef, Timestamp};
pub use side_output::OutputTag;
pub use sink::DataStreamSink;
pub use stream::DataStream;
/// Implements [`Record`](trait@Record) for a struct, and makes its borrowed twin `FooRef<'a>`.
///
/// The struct's fields are the columns. `FooRef<'a>` has the same fields, borrowed (`&'a str` for a `String`); it is what user
/// functions get and what [`Collector::collect`] takes, and `Foo::from(foo_ref)` makes it owned.
///
/// Limits, each refused with a message when the job is compiled:
/// - structs with named fields only: no enums, no tuple structs (a tuple is a record without derive), no unions;
/// - no type parameters and no lifetimes;
/// - fields are `bool`, `i8`..`i64`, `u8`..`u64`, `f32`, `f64`, `String`, `Vec<u8>`, [`Timestamp`], `Option` of these, tuples
///   of up to six of them, and structs that derive `Record` themselves (one `Struct` column);
/// - the struct is `Clone`, and the crate is known as `thalweg_api` (not renamed in `Cargo.toml`).
pub use thalweg_api_derive::Record;
/// Goes on a job's `fn main()`: installs the counting allocator ([`alloc`]) and hands panics and errors of `main` to the
/// engine. `main` may return nothing or `Result<(), E>` with `E: Display`.
pub use thalweg_api_derive::main;
pub use thalweg_state::TimeDomain;
pub use window::{
    AllWindowedStream, ContinuousEventTimeTrigger, ContinuousProcessingTimeTrigger, CountEvictor,
    CountTrigger, DefaultTrigger, DeltaEvictor, DeltaTrigger, EventTimeSessionWindows, EventTimeTrigger,
    Evict, EvictingWindowedStream, Evictor, GlobalWindows, NoKey, OnMergeContext, ProcessWindowFunction,
    ProcessingTimeSessionWindows, ProcessingTimeTrigger, ProcessingTimeoutTrigger, PurgingTrigger,
    SlidingEventTimeWindows, SlidingProcessingTimeWindows, TimeEvictor, TimeWindow, Trigger, TriggerContext,
    TriggerOpenContext, TriggerResult, TriggerState, TumblingEventTimeWindows, TumblingProcessingTimeWindows,
    WindowAssigner, WindowContext, WindowElements, WindowedStream,
};

/// Sources and sinks.
pub mod connectors {
    pub use thalweg_connectors::*;
}

/// What a job's program usually needs.
pub mod prelude {
    pub use crate::state::{
        AggregateFunction, AggregatingState, AggregatingStateDescriptor, BroadcastState, ListState,
        ListStateDescriptor, MapState, MapStateDescriptor, OperatorListState, ReducingState,
        ReducingStateDescriptor, StateTtlConfig, StateVisibility, UpdateType, ValueState,
        ValueStateDescriptor,
    };
    pub use crate::{
        AllWindowedStream, ContinuousEventTimeTrigger, ContinuousProcessingTimeTrigger, CountEvictor,
        CountTrigger, DeltaEvictor, DeltaTrigger, EventTimeSessionWindows, EventTimeTrigger, Evictor,
        GlobalWindows, JoinContext, NoKey, OnMergeContext, ProcessJoinFunction, ProcessWindowFunction,
        ProcessingTimeSessionWindows, ProcessingTimeTrigger, ProcessingTimeoutTrigger, PurgingTrigger,
        SlidingEventTimeWindows, SlidingProcessingTimeWindows, TimeEvictor, TimeWindow, Trigger,
        TriggerContext, TriggerOpenContext, TriggerResult, TriggerState, TumblingEventTimeWindows,
        TumblingProcessingTimeWindows, WindowContext, WindowElements, WindowedStream,
    };
    pub use crate::{
        AsyncDataStream, AsyncRetryStrategy, BroadcastContext, BroadcastProcessFunction, CoProcessFunction,
        Collector, Context, DataStream, DataStreamSink, DatagenOptions, KeyedBroadcastProcessFunction,
        KeyedCoProcessFunction, KeyedProcessFunction, KeyedStream, OnTimerContext, OpenContext, OutputTag,
        ProcessContext, ProcessFunction, Record, RecordRef, StreamExecutionEnvironment, TimeDomain,
        Timestamp, UserError,
    };
    pub use thalweg_connectors::WatermarkStrategy;
}
