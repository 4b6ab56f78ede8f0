//! Process functions: user functions with state, timers and side outputs.
//!
//! ```text
//!   stream.process(f)                                ProcessFunction                one input, no key
//!   stream.key_by(..).process(f)                     KeyedProcessFunction           one input, state and timers by key
//!   a.connect(&b).process(f)                         CoProcessFunction              two inputs, no key
//!   a.key_by(..).connect(&b.key_by(..)).process(f)   KeyedCoProcessFunction         two inputs, one state
//!   a.connect_broadcast(&rules).process(f)           BroadcastProcessFunction       every subtask sees all rules
//!   a.key_by(..).connect_broadcast(&rules).process(f) KeyedBroadcastProcessFunction
//! ```
//!
//! A function is a value that is cloned for each subtask; its fields are its parameters and the handles of its states. An error that
//! it returns and a panic fail the task, with the message.

use std::fmt::{self, Display};

use thalweg_operators::OperatorError;

use crate::context::{BroadcastContext, Context, OnTimerContext, OpenContext, ProcessContext};
use crate::function::Collector;
use crate::record::{Record, RecordRef};

/// Why a user function failed; made of anything that can be displayed, so that `?` works on every error.
pub struct UserError(String);

impl UserError {
    /// As the operator's error.
    pub(crate) fn of(self, operator: &str) -> OperatorError {
        OperatorError::User {
            operator: operator.to_owned(),
            message: self.0,
        }
    }
}

/// The whole chain of causes in one line, where the error type can say it (anyhow).
impl<E: Display> From<E> for UserError {
    fn from(error: E) -> Self {
        Self(format!("{error:#}"))
    }
}

impl fmt::Debug for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A function over the records of a stream without key. Flink's ProcessFunction.
pub trait ProcessFunction: Clone + Send + 'static {
    /// What comes in.
    type In: Record;
    /// What goes out.
    type Out: Record;

    /// Called once in each subtask, before the first record: registers operator state.
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        let _ = ctx;
        Ok(())
    }

    /// Called for each record. What is emitted has the record's event time.
    fn process(
        &mut self,
        record: RecordRef<'_, Self::In>,
        ctx: &mut ProcessContext<'_>,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError>;
}

/// A function over the records of a keyed stream, with state and timers of each key. Flink's KeyedProcessFunction.
///
/// Counts a key's records and emits the count once an hour of event time is over:
///
/// ```
/// use thalweg_api::prelude::*;
///
/// const HOUR: i64 = 3_600_000;
///
/// #[derive(Clone, Default)]
/// struct CountPerHour {
///     count: ValueState<i64>,
/// }
///
/// impl KeyedProcessFunction for CountPerHour {
///     type Key = String;
///     type In = (String, i64);
///     type Out = (String, i64);
///
///     fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
///         self.count = ctx.get_state("count");
///         Ok(())
///     }
///
///     fn process(
///         &mut self,
///         _record: (&str, i64),
///         ctx: &mut Context<'_, String>,
///         _out: &mut Collector<(String, i64)>,
///     ) -> Result<(), UserError> {
///         let time = ctx.timestamp().ok_or("the record has no event time")?;
///         *self.count.get_or_insert_with(ctx, || 0) += 1;
///         ctx.timer_service().register_event_time_timer(time - time % HOUR + HOUR - 1);
///         Ok(())
///     }
///
///     fn on_timer(
///         &mut self,
///         _timestamp: i64,
///         ctx: &mut OnTimerContext<'_, String>,
///         out: &mut Collector<(String, i64)>,
///     ) -> Result<(), UserError> {
///         if let Some(count) = self.count.take(ctx) {
///             out.collect((ctx.current_key(), count));
///         }
///         Ok(())
///     }
/// }
///
/// # fn job(words: DataStream<(String, i64)>) -> DataStream<(String, i64)> {
/// words.key_by_field::<String>("f0").process(CountPerHour::default())
/// # }
/// ```
pub trait KeyedProcessFunction: Clone + Send + 'static {
    /// The key's type.
    type Key: Record;
    /// What comes in.
    type In: Record;
    /// What goes out.
    type Out: Record;

    /// Called once in each subtask, before the first record: registers states.
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        let _ = ctx;
        Ok(())
    }

    /// Called for each record. What is emitted has the record's event time.
    fn process(
        &mut self,
        record: RecordRef<'_, Self::In>,
        ctx: &mut Context<'_, Self::Key>,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError>;

    /// Called when a timer fires. What is emitted has the time of an event timer, and none for a processing timer.
    fn on_timer(
        &mut self,
        timestamp: i64,
        ctx: &mut OnTimerContext<'_, Self::Key>,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError> {
        let _ = (timestamp, ctx, out);
        Ok(())
    }
}

/// A function over the records of two streams without key. Flink's CoProcessFunction.
pub trait CoProcessFunction: Clone + Send + 'static {
    /// What comes in from the first stream.
    type In1: Record;
    /// What comes in from the second.
    type In2: Record;
    /// What goes out.
    type Out: Record;

    /// Called once in each subtask, before the first record: registers operator state.
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        let _ = ctx;
        Ok(())
    }

    /// Called for each record of the first stream.
    fn process1(
        &mut self,
        record: RecordRef<'_, Self::In1>,
        ctx: &mut ProcessContext<'_>,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError>;

    /// Called for each record of the second stream.
    fn process2(
        &mut self,
        record: RecordRef<'_, Self::In2>,
        ctx: &mut ProcessContext<'_>,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError>;
}

/// A function over the records of two keyed streams, which share state and timers of each key. Flink's
/// KeyedCoProcessFunction.
///
/// Event time is that of the stream that is behind: the watermark is the smaller of both.
pub trait KeyedCoProcessFunction: Clone + Send + 'static {
    /// The key's type, of both.
    type Key: Record;
    /// What comes in from the first stream.
    type In1: Record;
    /// What comes in from the second.
    type In2: Record;
    /// What goes out.
    type Out: Record;

    /// Called once in each subtask, before the first record: registers states.
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        let _ = ctx;
        Ok(())
    }

    /// Called for each record of the first stream.
    fn process1(
        &mut self,
        record: RecordRef<'_, Self::In1>,
        ctx: &mut Context<'_, Self::Key>,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError>;

    /// Called for each record of the second stream.
    fn process2(
        &mut self,
        record: RecordRef<'_, Self::In2>,
        ctx: &mut Context<'_, Self::Key>,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError>;

    /// Called when a timer fires; see [`KeyedProcessFunction::on_timer`].
    fn on_timer(
        &mut self,
        timestamp: i64,
        ctx: &mut OnTimerContext<'_, Self::Key>,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError> {
        let _ = (timestamp, ctx, out);
        Ok(())
    }
}

/// A function over the records of a stream and of a broadcast stream, whose records every subtask sees. Flink's
/// BroadcastProcessFunction.
pub trait BroadcastProcessFunction: Clone + Send + 'static {
    /// What comes in from the stream.
    type In: Record;
    /// What comes in from the broadcast stream.
    type Broadcast: Record;
    /// What goes out.
    type Out: Record;

    /// Called once in each subtask, before the first record: registers broadcast and operator state.
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        let _ = ctx;
        Ok(())
    }

    /// Called for each record of the stream; broadcast state can be read here.
    fn process(
        &mut self,
        record: RecordRef<'_, Self::In>,
        ctx: &mut ProcessContext<'_>,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError>;

    /// Called for each record of the broadcast stream, in every subtask; broadcast state can be written here.
    fn process_broadcast(
        &mut self,
        record: RecordRef<'_, Self::Broadcast>,
        ctx: &mut BroadcastContext<'_>,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError>;
}

/// A function over the records of a keyed stream and of a broadcast stream. Flink's KeyedBroadcastProcessFunction.
///
/// ```
/// use thalweg_api::prelude::*;
///
/// /// Passes on what is above its key's limit; limits come in as (key, limit).
/// #[derive(Clone, Default)]
/// struct AboveLimit {
///     limits: BroadcastState<String, i64>,
/// }
///
/// impl KeyedBroadcastProcessFunction for AboveLimit {
///     type Key = String;
///     type In = (String, i64);
///     type Broadcast = (String, i64);
///     type Out = (String, i64);
///
///     fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
///         self.limits = ctx.get_broadcast_state("limits");
///         Ok(())
///     }
///
///     fn process(
///         &mut self,
///         (name, value): (&str, i64),
///         ctx: &mut Context<'_, String>,
///         out: &mut Collector<(String, i64)>,
///     ) -> Result<(), UserError> {
///         if self.limits.get(ctx, name).is_some_and(|limit| value > *limit) {
///             out.collect((name, value));
///         }
///         Ok(())
///     }
///
///     fn process_broadcast(
///         &mut self,
///         (name, limit): (&str, i64),
///         ctx: &mut BroadcastContext<'_>,
///         _out: &mut Collector<(String, i64)>,
///     ) -> Result<(), UserError> {
///         self.limits.put(ctx, name.to_owned(), limit);
///         Ok(())
///     }
/// }
///
/// # fn job(values: DataStream<(String, i64)>, limits: DataStream<(String, i64)>) -> DataStream<(String, i64)> {
/// values
///     .key_by_field::<String>("f0")
///     .connect_broadcast(&limits.broadcast_state())
///     .process(AboveLimit::default())
/// # }
/// ```
pub trait KeyedBroadcastProcessFunction: Clone + Send + 'static {
    /// The key's type.
    type Key: Record;
    /// What comes in from the keyed stream.
    type In: Record;
    /// What comes in from the broadcast stream.
    type Broadcast: Record;
    /// What goes out.
    type Out: Record;

    /// Called once in each subtask, before the first record: registers states.
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        let _ = ctx;
        Ok(())
    }

    /// Called for each record of the keyed stream; broadcast state can be read here.
    fn process(
        &mut self,
        record: RecordRef<'_, Self::In>,
        ctx: &mut Context<'_, Self::Key>,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError>;

    /// Called for each record of the broadcast stream, in every subtask; broadcast state can be written here, and there is no key.
    fn process_broadcast(
        &mut self,
        record: RecordRef<'_, Self::Broadcast>,
        ctx: &mut BroadcastContext<'_>,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError>;

    /// Called when a timer fires; see [`KeyedProcessFunction::on_timer`]. Broadcast state can be read here.
    fn on_timer(
        &mut self,
        timestamp: i64,
        ctx: &mut OnTimerContext<'_, Self::Key>,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError> {
        let _ = (timestamp, ctx, out);
        Ok(())
    }
}
