//! Handles of state that belongs to no key.

use std::borrow::Borrow;
use std::hash::Hash;
use std::marker::PhantomData;

use super::registered;
use crate::context::{BroadcastContext, ProcessContext};
use crate::record::Record;

/// A list of the subtask. Flink's operator list state.
pub struct OperatorListState<T: Record> {
    number: Option<usize>,
    item: PhantomData<fn() -> T>,
}

impl<T: Record> OperatorListState<T> {
    pub(crate) fn new(number: Option<usize>) -> Self {
        Self {
            number,
            item: PhantomData,
        }
    }

    /// The items.
    pub fn get<'c>(&self, ctx: &'c ProcessContext<'_>) -> &'c [T] {
        let number = registered(self.number);
        ctx.services.operator_state.list::<T>(number).items()
    }

    /// Adds an item at the end.
    pub fn add(&self, ctx: &mut ProcessContext<'_>, item: T) {
        let number = registered(self.number);
        ctx.services.operator_state.list_mut(number).add(item);
    }

    /// Adds items at the end.
    pub fn add_all(&self, ctx: &mut ProcessContext<'_>, items: impl IntoIterator<Item = T>) {
        items.into_iter().for_each(|item| self.add(ctx, item));
    }

    /// Replaces the items.
    pub fn update(&self, ctx: &mut ProcessContext<'_>, items: impl IntoIterator<Item = T>) {
        self.clear(ctx);
        self.add_all(ctx, items);
    }

    /// Removes all items.
    pub fn clear(&self, ctx: &mut ProcessContext<'_>) {
        let number = registered(self.number);
        ctx.services.operator_state.list_mut::<T>(number).clear();
    }
}

impl<T: Record> Clone for OperatorListState<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Record> Copy for OperatorListState<T> {}

impl<T: Record> Default for OperatorListState<T> {
    /// Not registered.
    fn default() -> Self {
        Self::new(None)
    }
}

/// A map that every subtask has the same of: read everywhere, written by records of the broadcast stream only. Flink's
/// BroadcastState.
///
/// Every subtask sees every record of the broadcast stream, and must make the same of it: what is written may depend on the
/// record and the state, not on the subtask. In a checkpoint each subtask's copy is written; a restored subtask reads one.
pub struct BroadcastState<K: Record, V: Record> {
    number: Option<usize>,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: Record + Hash + Eq, V: Record> BroadcastState<K, V> {
    pub(crate) fn new(number: Option<usize>) -> Self {
        Self {
            number,
            types: PhantomData,
        }
    }

    /// The value of a key.
    pub fn get<'c, Q>(&self, ctx: &'c ProcessContext<'_>, key: &Q) -> Option<&'c V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let number = registered(self.number);
        ctx.services.operator_state.broadcast::<K, V>(number).get(key)
    }

    /// Whether there is a value of the key.
    pub fn contains<Q>(&self, ctx: &ProcessContext<'_>, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.get(ctx, key).is_some()
    }

    /// The entries in the order of their first insertion. Flink's `immutableEntries()`.
    pub fn iter<'c>(
        &self,
        ctx: &'c ProcessContext<'_>,
    ) -> impl Iterator<Item = (&'c K, &'c V)> + use<'c, K, V> {
        let number = registered(self.number);
        ctx.services.operator_state.broadcast::<K, V>(number).iter()
    }

    /// How many entries there are.
    pub fn len(&self, ctx: &ProcessContext<'_>) -> usize {
        let number = registered(self.number);
        ctx.services.operator_state.broadcast::<K, V>(number).len()
    }

    /// Whether there is none.
    pub fn is_empty(&self, ctx: &ProcessContext<'_>) -> bool {
        self.len(ctx) == 0
    }

    /// Puts a value.
    pub fn put(&self, ctx: &mut BroadcastContext<'_>, key: K, value: V) {
        let number = registered(self.number);
        let state = &mut ctx.services.operator_state;
        state.broadcast_mut(number).put(key, value);
    }

    /// Removes a key and gives its value.
    pub fn remove<Q>(&self, ctx: &mut BroadcastContext<'_>, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let number = registered(self.number);
        let state = &mut ctx.services.operator_state;
        state.broadcast_mut::<K, V>(number).remove(key)
    }

    /// Removes all entries.
    pub fn clear(&self, ctx: &mut BroadcastContext<'_>) {
        let number = registered(self.number);
        ctx.services.operator_state.broadcast_mut::<K, V>(number).clear();
    }
}

impl<K: Record, V: Record> Clone for BroadcastState<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K: Record, V: Record> Copy for BroadcastState<K, V> {}

impl<K: Record, V: Record> Default for BroadcastState<K, V> {
    /// Not registered.
    fn default() -> Self {
        Self {
            number: None,
            types: PhantomData,
        }
    }
}
