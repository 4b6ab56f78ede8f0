//! What a state is called and how long it lives. Flink's state descriptors.

use std::marker::PhantomData;

use thalweg_state::StateTtl;

use super::{AggregateFunction, ReduceFunction};
use crate::record::Record;

macro_rules! time_to_live {
    () => {
        /// Lets each value, list element or map entry expire some time after its last use. Measured by the machine's clock.
        pub fn enable_time_to_live(mut self, ttl: StateTtl) -> Self {
            self.ttl = Some(ttl);
            self
        }
    };
}

macro_rules! descriptor {
    ($(#[$doc:meta])* $name:ident<$($parameter:ident),*>) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $name<$($parameter: Record),*> {
            pub(crate) name: String,
            pub(crate) ttl: Option<StateTtl>,
            types: PhantomData<fn() -> ($($parameter,)*)>,
        }

        impl<$($parameter: Record),*> $name<$($parameter),*> {
            /// A state of this name, unique in its operator; by it the state is found again after a restart.
            pub fn new(name: &str) -> Self {
                Self {
                    name: name.to_owned(),
                    ttl: None,
                    types: PhantomData,
                }
            }

            time_to_live!();
        }

        impl<$($parameter: Record),*> From<&str> for $name<$($parameter),*> {
            fn from(name: &str) -> Self {
                Self::new(name)
            }
        }
    };
}

descriptor! {
    /// One value of type `T` a key.
    ValueStateDescriptor<T>
}
descriptor! {
    /// A list of `T` a key.
    ListStateDescriptor<T>
}
descriptor! {
    /// A map from `K` to `V` a key.
    MapStateDescriptor<K, V>
}

/// One value a key that others are folded into.
#[derive(Debug, Clone)]
pub struct ReducingStateDescriptor<T: Record> {
    pub(crate) name: String,
    pub(crate) ttl: Option<StateTtl>,
    pub(crate) reduce: ReduceFunction<T>,
}

impl<T: Record> ReducingStateDescriptor<T> {
    /// `reduce` is a closure that captures nothing: `|sum: &mut i64, value| *sum += value`.
    pub fn new(name: &str, reduce: ReduceFunction<T>) -> Self {
        Self {
            name: name.to_owned(),
            ttl: None,
            reduce,
        }
    }

    time_to_live!();
}

/// One accumulator a key.
#[derive(Debug, Clone)]
pub struct AggregatingStateDescriptor<A: AggregateFunction> {
    pub(crate) name: String,
    pub(crate) ttl: Option<StateTtl>,
    pub(crate) aggregate: A,
}

impl<A: AggregateFunction> AggregatingStateDescriptor<A> {
    /// A state of this name with accumulators of this function.
    pub fn new(name: &str, aggregate: A) -> Self {
        Self {
            name: name.to_owned(),
            ttl: None,
            aggregate,
        }
    }

    time_to_live!();
}
