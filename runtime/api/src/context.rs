//! What a user function is given beside the record: contexts.
//!
//! ```text
//!   ProcessContext            the record's time, side outputs, the clocks, operator state
//!     ^-- OpenContext         registers states                              (deref)
//!     ^-- BroadcastContext    may write broadcast state
//!     ^-- KeyContext          a key's state and timers: what state handles take
//!           ^-- Context<K>    the key itself
//!                 ^-- OnTimerContext<K>   which clock fired
//! ```
//!
//! Each dereferences to the one above it, so that `state.get(ctx)` takes any context that has what it needs.

use std::cell::OnceCell;
use std::hash::Hash;
use std::ops::{Deref, DerefMut};

use thalweg_state::{ListDistribution, RestoredState, Slot, StateError, TimeDomain, Timer};

use crate::function::Services;
use crate::record::{Record, RecordRef};
use crate::side_output::OutputTag;
use crate::state::{
    AggregateFunction, AggregatingState, AggregatingStateDescriptor, BroadcastState, ListState,
    ListStateDescriptor, MapState, MapStateDescriptor, OperatorListState, ReducingState,
    ReducingStateDescriptor, ValueState, ValueStateDescriptor,
};

/// What every function has.
pub struct ProcessContext<'a> {
    pub(crate) services: &'a mut Services,
    timestamp: Option<i64>,
}

impl<'a> ProcessContext<'a> {
    pub(crate) fn new(services: &'a mut Services, timestamp: Option<i64>) -> Self {
        Self { services, timestamp }
    }

    /// The event time of the record, or the time of the timer that fired: milliseconds since the epoch; `None` if the record has
    /// none.
    #[inline]
    pub fn timestamp(&self) -> Option<i64> {
        self.timestamp
    }

    /// Emits a record to a side output, with the event time of the record that is worked off. Dropped if nobody has asked for the
    /// output by [`crate::DataStream::get_side_output`].
    #[inline]
    pub fn output<T: Record>(&mut self, tag: &OutputTag<T>, record: RecordRef<'_, T>) {
        self.services.sides.collect(tag, record, self.timestamp);
    }

    /// How far event time has come: no record at or before it is expected. `i64::MIN` before the first watermark.
    #[inline]
    pub fn current_watermark(&self) -> i64 {
        self.services.watermark
    }

    /// The machine's clock: milliseconds since the epoch.
    pub fn current_processing_time(&self) -> i64 {
        self.services.clock.now_ms()
    }

    /// The number of this subtask, from 0. Flink's `getIndexOfThisSubtask`.
    pub fn subtask_index(&self) -> u32 {
        self.services.context.subtask
    }

    /// How many subtasks the operator has.
    pub fn parallelism(&self) -> u32 {
        self.services.context.parallelism
    }

    /// The task's name with the subtask's number, as "Map -> Sink (1/4)".
    pub fn task_name(&self) -> &str {
        &self.services.context.task_name
    }
}

/// The context of a record of a broadcast stream: the one that may write broadcast state.
pub struct BroadcastContext<'a> {
    base: ProcessContext<'a>,
}

impl<'a> BroadcastContext<'a> {
    pub(crate) fn new(services: &'a mut Services, timestamp: Option<i64>) -> Self {
        Self {
            base: ProcessContext::new(services, timestamp),
        }
    }
}

/// What concerns the key of the record or timer. State handles take it; so `state.get(ctx)` is the state of that key.
pub struct KeyContext<'a> {
    base: ProcessContext<'a>,
    pub(crate) slot: Slot,
}

impl KeyContext<'_> {
    /// Clocks and timers.
    #[inline]
    pub fn timer_service(&mut self) -> TimerService<'_> {
        TimerService {
            slot: self.slot,
            services: self.base.services,
        }
    }
}

/// Where the key is read.
enum Key<'a, K: Record> {
    Row(&'a K::Columns, usize),
    /// A timer's key is looked up when it is asked for.
    Slot(&'a OnceCell<K::Columns>),
}

/// The context of a record of a keyed stream with keys of type `K`.
pub struct Context<'a, K: Record> {
    base: KeyContext<'a>,
    key: Key<'a, K>,
}

impl<'a, K: Record> Context<'a, K> {
    pub(crate) fn of_row(
        services: &'a mut Services,
        timestamp: Option<i64>,
        slot: Slot,
        keys: &'a K::Columns,
        row: usize,
    ) -> Self {
        Self {
            base: KeyContext {
                base: ProcessContext::new(services, timestamp),
                slot,
            },
            key: Key::Row(keys, row),
        }
    }

    /// The key of the record or timer. It doesn't keep the context borrowed.
    pub fn current_key(&self) -> RecordRef<'a, K> {
        match &self.key {
            Key::Row(columns, row) => K::row(columns, *row),
            Key::Slot(cell) => K::row(cell.get_or_init(|| self.key_of_slot()), 0),
        }
    }

    fn key_of_slot(&self) -> K::Columns {
        let columns = self.base.services.keyed_ref().keys(&[self.base.slot]);
        match columns.map(|columns| K::columns(&columns, None)) {
            Ok(Ok(columns)) => columns,
            Ok(Err(error)) => panic!("the key is no {}: {error}", std::any::type_name::<K>()),
            Err(error) => panic!("the key can't be read: {error}"),
        }
    }
}

/// The context of a timer.
pub struct OnTimerContext<'a, K: Record> {
    base: Context<'a, K>,
    domain: TimeDomain,
}

impl<'a, K: Record> OnTimerContext<'a, K> {
    /// `cell` is empty.
    pub(crate) fn new(
        services: &'a mut Services,
        domain: TimeDomain,
        timer: Timer,
        cell: &'a OnceCell<K::Columns>,
    ) -> Self {
        let timestamp = (domain == TimeDomain::Event).then_some(timer.time);
        Self {
            base: Context {
                base: KeyContext {
                    base: ProcessContext::new(services, timestamp),
                    slot: timer.slot,
                },
                key: Key::Slot(cell),
            },
            domain,
        }
    }

    /// Which clock the timer waited for.
    pub fn time_domain(&self) -> TimeDomain {
        self.domain
    }
}

/// Clocks and timers of a key. Flink's TimerService.
///
/// A timer is unique by clock, key and time: registered twice, it fires once. Timers fire in the order of their times, and with
/// one thread a subtask, so that `on_timer` and `process` never run at the same time. They are part of checkpoints.
pub struct TimerService<'a> {
    services: &'a mut Services,
    slot: Slot,
}

impl TimerService<'_> {
    /// See [`ProcessContext::current_watermark`].
    pub fn current_watermark(&self) -> i64 {
        self.services.watermark
    }

    /// See [`ProcessContext::current_processing_time`].
    pub fn current_processing_time(&self) -> i64 {
        self.services.clock.now_ms()
    }

    /// Calls `on_timer` once the watermark reaches this time. One at or before the current watermark fires when the watermark
    /// next advances, as in Flink.
    #[inline]
    pub fn register_event_time_timer(&mut self, timestamp: i64) {
        self.register(TimeDomain::Event, timestamp);
    }

    /// Calls `on_timer` once the machine's clock is past this time: a millisecond later at the earliest, as in Flink, so that no
    /// record of that time comes behind it.
    #[inline]
    pub fn register_processing_time_timer(&mut self, timestamp: i64) {
        self.register(TimeDomain::Processing, timestamp);
    }

    /// Takes an event timer back; nothing happens if there is none.
    #[inline]
    pub fn delete_event_time_timer(&mut self, timestamp: i64) {
        self.delete(TimeDomain::Event, timestamp);
    }

    /// Takes a processing timer back; nothing happens if there is none.
    #[inline]
    pub fn delete_processing_time_timer(&mut self, timestamp: i64) {
        self.delete(TimeDomain::Processing, timestamp);
    }

    fn register(&mut self, domain: TimeDomain, time: i64) {
        let timer = self.timer(time);
        self.services.keyed().timers().register(domain, timer);
    }

    fn delete(&mut self, domain: TimeDomain, time: i64) {
        let timer = self.timer(time);
        self.services.keyed().timers().delete(domain, timer);
    }

    fn timer(&self, time: i64) -> Timer {
        Timer {
            time,
            slot: self.slot,
            window: None,
        }
    }
}

/// Registers a function's states, before its first record. Operator state (lists, broadcast) can be read already: it holds
/// what was restored.
pub struct OpenContext<'a> {
    base: ProcessContext<'a>,
    restored: &'a mut RestoredState,
    error: Option<StateError>,
}

impl<'a> OpenContext<'a> {
    pub(crate) fn new(services: &'a mut Services, restored: &'a mut RestoredState) -> Self {
        Self {
            base: ProcessContext::new(services, None),
            restored,
            error: None,
        }
    }

    /// The first registration that failed.
    pub(crate) fn take_error(&mut self) -> Option<StateError> {
        self.error.take()
    }

    /// Whether the job goes on from a checkpoint or savepoint.
    pub fn is_restored(&self) -> bool {
        self.restored.checkpoint_id != 0
    }

    /// One value a key. A name alone will do: `ctx.get_state("count")`. A mistake, as two states of one name, fails the task when
    /// `open` is done.
    pub fn get_state<T: Record>(&mut self, descriptor: impl Into<ValueStateDescriptor<T>>) -> ValueState<T> {
        let descriptor = descriptor.into();
        ValueState::new(self.keyed(&descriptor.name, |keyed| {
            keyed.register_value(&descriptor.name, descriptor.ttl)
        }))
    }

    /// A list a key.
    pub fn get_list_state<T: Record>(
        &mut self,
        descriptor: impl Into<ListStateDescriptor<T>>,
    ) -> ListState<T> {
        let descriptor = descriptor.into();
        ListState::new(self.keyed(&descriptor.name, |keyed| {
            keyed.register_list(&descriptor.name, descriptor.ttl)
        }))
    }

    /// A map a key.
    pub fn get_map_state<K: Record + Hash + Eq, V: Record>(
        &mut self,
        descriptor: impl Into<MapStateDescriptor<K, V>>,
    ) -> MapState<K, V> {
        let descriptor = descriptor.into();
        MapState::new(self.keyed(&descriptor.name, |keyed| {
            keyed.register_map(&descriptor.name, descriptor.ttl)
        }))
    }

    /// One value a key, that what is added is folded into.
    pub fn get_reducing_state<T: Record>(
        &mut self,
        descriptor: ReducingStateDescriptor<T>,
    ) -> ReducingState<T> {
        let ReducingStateDescriptor { name, ttl, reduce } = descriptor;
        let handle = self.keyed(&name, |keyed| keyed.register_value(&name, ttl));
        ReducingState::new(handle, reduce)
    }

    /// One accumulator a key.
    pub fn get_aggregating_state<A: AggregateFunction>(
        &mut self,
        descriptor: AggregatingStateDescriptor<A>,
    ) -> AggregatingState<A> {
        let AggregatingStateDescriptor { name, ttl, aggregate } = descriptor;
        let handle = self.keyed(&name, |keyed| keyed.register_value(&name, ttl));
        AggregatingState::new(handle, aggregate)
    }

    /// A list of the subtask, which belongs to no key. When the parallelism changes its items are dealt out in turn. Flink's
    /// `OperatorStateStore.getListState`.
    pub fn get_operator_list_state<T: Record>(&mut self, name: &str) -> OperatorListState<T> {
        self.operator_list(name, ListDistribution::Split)
    }

    /// As [`Self::get_operator_list_state`], but after a restore every subtask has the items of all. Flink's
    /// `OperatorStateStore.getUnionListState`.
    pub fn get_union_list_state<T: Record>(&mut self, name: &str) -> OperatorListState<T> {
        self.operator_list(name, ListDistribution::Union)
    }

    /// A map that every subtask has the same of: written by records of the broadcast stream, read by all.
    pub fn get_broadcast_state<K: Record + Hash + Eq, V: Record>(
        &mut self,
        name: &str,
    ) -> BroadcastState<K, V> {
        let Self { base, restored, .. } = self;
        let number = base
            .services
            .operator_state
            .register_broadcast::<K, V>(name, restored);
        BroadcastState::new(self.keep(number))
    }

    fn operator_list<T: Record>(
        &mut self,
        name: &str,
        distribution: ListDistribution,
    ) -> OperatorListState<T> {
        let Self { base, restored, .. } = self;
        let state = &mut base.services.operator_state;
        let number = state.register_list::<T>(name, distribution, restored);
        OperatorListState::new(self.keep(number))
    }

    fn keyed<H>(
        &mut self,
        name: &str,
        register: impl FnOnce(&mut thalweg_state::KeyedState) -> Result<H, StateError>,
    ) -> Option<H> {
        let registered = match self.base.services.keyed_mut() {
            Some(keyed) => register(keyed),
            None => Err(StateError::Incompatible {
                state: name.to_owned(),
                message:
                    "state by key is asked for where the stream has no key: call key_by() before, or use \
                          get_operator_list_state()"
                        .to_owned(),
            }),
        };
        self.keep(registered)
    }

    fn keep<R>(&mut self, registered: Result<R, StateError>) -> Option<R> {
        match registered {
            Ok(registered) => Some(registered),
            Err(error) => {
                self.error.get_or_insert(error);
                None
            }
        }
    }
}

macro_rules! derefs {
    ($($context:ident<$($parameter:ident),*> => $base:ty;)*) => {$(
        impl<'a, $($parameter: Record),*> Deref for $context<'a, $($parameter),*> {
            type Target = $base;

            #[inline]
            fn deref(&self) -> &Self::Target {
                &self.base
            }
        }

        impl<$($parameter: Record),*> DerefMut for $context<'_, $($parameter),*> {
            #[inline]
            fn deref_mut(&mut self) -> &mut Self::Target {
                &mut self.base
            }
        }
    )*};
}

derefs! {
    OpenContext<> => ProcessContext<'a>;
    BroadcastContext<> => ProcessContext<'a>;
    KeyContext<> => ProcessContext<'a>;
    Context<K> => KeyContext<'a>;
    OnTimerContext<K> => Context<'a, K>;
}
