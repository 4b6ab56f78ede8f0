//! Handles of state by key.

use std::borrow::Borrow;
use std::hash::Hash;

use thalweg_state::{ListHandle, ListTable, MapHandle, MapTable, Slot, ValueHandle, ValueTable};

use super::{AggregateFunction, ReduceFunction, registered};
use crate::context::KeyContext;
use crate::record::{Record, RecordRef};

macro_rules! copy_handle {
    ($name:ident<$($parameter:ident: $bound:path),*>, $handle:ty) => {
        impl<$($parameter: $bound),*> Clone for $name<$($parameter),*> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<$($parameter: $bound),*> Copy for $name<$($parameter),*> {}

        impl<$($parameter: $bound),*> Default for $name<$($parameter),*> {
            /// Not registered.
            fn default() -> Self {
                Self { handle: None }
            }
        }

        impl<$($parameter: $bound),*> $name<$($parameter),*> {
            pub(crate) fn new(handle: Option<$handle>) -> Self {
                Self { handle }
            }
        }
    };
}

/// One value a key. Flink's ValueState.
pub struct ValueState<T: Record> {
    handle: Option<ValueHandle<T>>,
}

copy_handle!(ValueState<T: Record>, ValueHandle<T>);

impl<T: Record> ValueState<T> {
    /// The key's value. Flink's `value()`.
    #[inline]
    pub fn get<'c>(&self, ctx: &'c mut KeyContext<'_>) -> Option<&'c T> {
        let (table, slot) = value_table(self.handle, ctx);
        table.get(slot)
    }

    /// The key's value to be changed in place.
    #[inline]
    pub fn get_mut<'c>(&self, ctx: &'c mut KeyContext<'_>) -> Option<&'c mut T> {
        let (table, slot) = value_table(self.handle, ctx);
        table.get_mut(slot)
    }

    /// The key's value to be changed in place, made by `create` if there is none.
    #[inline]
    pub fn get_or_insert_with<'c>(
        &self,
        ctx: &'c mut KeyContext<'_>,
        create: impl FnOnce() -> T,
    ) -> &'c mut T {
        let (table, slot) = value_table(self.handle, ctx);
        table.get_or_insert_with(slot, create)
    }

    /// Replaces the key's value.
    #[inline]
    pub fn update(&self, ctx: &mut KeyContext<'_>, value: T) {
        let (table, slot) = value_table(self.handle, ctx);
        table.set(slot, value);
    }

    /// Removes the key's value and gives it.
    #[inline]
    pub fn take(&self, ctx: &mut KeyContext<'_>) -> Option<T> {
        let (table, slot) = value_table(self.handle, ctx);
        table.take(slot)
    }

    /// Removes the key's value.
    #[inline]
    pub fn clear(&self, ctx: &mut KeyContext<'_>) {
        let (table, slot) = value_table(self.handle, ctx);
        table.clear(slot);
    }
}

#[inline]
fn value_table<'c, T: Record>(
    handle: Option<ValueHandle<T>>,
    ctx: &'c mut KeyContext<'_>,
) -> (&'c mut ValueTable<T>, Slot) {
    let slot = ctx.slot;
    (ctx.services.keyed().table(registered(handle)), slot)
}

/// A list a key. Flink's ListState.
pub struct ListState<T: Record> {
    handle: Option<ListHandle<T>>,
}

copy_handle!(ListState<T: Record>, ListHandle<T>);

impl<T: Record> ListState<T> {
    /// The key's elements, oldest first; none and an empty list are the same.
    #[inline]
    pub fn get<'c>(&self, ctx: &'c mut KeyContext<'_>) -> &'c [T] {
        let (table, slot) = self.table(ctx);
        table.get(slot)
    }

    /// Adds an element at the end. It costs the element in the next checkpoint, not the list.
    #[inline]
    pub fn add(&self, ctx: &mut KeyContext<'_>, element: T) {
        let (table, slot) = self.table(ctx);
        table.add(slot, element);
    }

    /// Adds elements at the end.
    pub fn add_all(&self, ctx: &mut KeyContext<'_>, elements: impl IntoIterator<Item = T>) {
        let (table, slot) = self.table(ctx);
        table.add_all(slot, elements);
    }

    /// Replaces the list.
    pub fn update(&self, ctx: &mut KeyContext<'_>, elements: impl IntoIterator<Item = T>) {
        let (table, slot) = self.table(ctx);
        table.update(slot, elements);
    }

    /// Removes all elements.
    #[inline]
    pub fn clear(&self, ctx: &mut KeyContext<'_>) {
        let (table, slot) = self.table(ctx);
        table.clear(slot);
    }

    #[inline]
    fn table<'c>(&self, ctx: &'c mut KeyContext<'_>) -> (&'c mut ListTable<T>, Slot) {
        let slot = ctx.slot;
        (ctx.services.keyed().table(registered(self.handle)), slot)
    }
}

/// A map a key. Flink's MapState. Each entry is a row of its own: reading and writing one costs that one.
pub struct MapState<K: Record, V: Record> {
    handle: Option<MapHandle<K, V>>,
}

copy_handle!(MapState<K: Record, V: Record>, MapHandle<K, V>);

impl<K: Record + Hash + Eq, V: Record> MapState<K, V> {
    /// The value of a key of the map.
    #[inline]
    pub fn get<'c, Q>(&self, ctx: &'c mut KeyContext<'_>, key: &Q) -> Option<&'c V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let (table, slot) = self.table(ctx);
        table.get(slot, key)
    }

    /// The value to be changed in place.
    #[inline]
    pub fn get_mut<'c, Q>(&self, ctx: &'c mut KeyContext<'_>, key: &Q) -> Option<&'c mut V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let (table, slot) = self.table(ctx);
        table.get_mut(slot, key)
    }

    /// The value to be changed in place, made by `create` if there is none.
    #[inline]
    pub fn get_or_insert_with<'c>(
        &self,
        ctx: &'c mut KeyContext<'_>,
        key: K,
        create: impl FnOnce() -> V,
    ) -> &'c mut V {
        let (table, slot) = self.table(ctx);
        table.get_or_insert_with(slot, key, create)
    }

    /// Whether the map has the key.
    #[inline]
    pub fn contains<Q>(&self, ctx: &mut KeyContext<'_>, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let (table, slot) = self.table(ctx);
        table.contains(slot, key)
    }

    /// Puts a value.
    #[inline]
    pub fn put(&self, ctx: &mut KeyContext<'_>, key: K, value: V) {
        let (table, slot) = self.table(ctx);
        table.put(slot, key, value);
    }

    /// Puts values.
    pub fn put_all(&self, ctx: &mut KeyContext<'_>, entries: impl IntoIterator<Item = (K, V)>) {
        let (table, slot) = self.table(ctx);
        for (key, value) in entries {
            table.put(slot, key, value);
        }
    }

    /// Removes a key of the map and gives its value.
    #[inline]
    pub fn remove<Q>(&self, ctx: &mut KeyContext<'_>, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let (table, slot) = self.table(ctx);
        table.remove(slot, key)
    }

    /// The entries in the order of their insertion. Flink's `entries()`.
    pub fn iter<'c>(
        &self,
        ctx: &'c mut KeyContext<'_>,
    ) -> impl Iterator<Item = (&'c K, &'c V)> + use<'c, K, V> {
        let (table, slot) = self.table(ctx);
        table.iter(slot)
    }

    /// The keys of the map.
    pub fn keys<'c>(&self, ctx: &'c mut KeyContext<'_>) -> impl Iterator<Item = &'c K> + use<'c, K, V> {
        self.iter(ctx).map(|(key, _)| key)
    }

    /// The values of the map.
    pub fn values<'c>(&self, ctx: &'c mut KeyContext<'_>) -> impl Iterator<Item = &'c V> + use<'c, K, V> {
        self.iter(ctx).map(|(_, value)| value)
    }

    /// Whether the map has no entry.
    pub fn is_empty(&self, ctx: &mut KeyContext<'_>) -> bool {
        let (table, slot) = self.table(ctx);
        table.is_empty(slot)
    }

    /// Removes all entries.
    #[inline]
    pub fn clear(&self, ctx: &mut KeyContext<'_>) {
        let (table, slot) = self.table(ctx);
        table.clear(slot);
    }

    #[inline]
    fn table<'c>(&self, ctx: &'c mut KeyContext<'_>) -> (&'c mut MapTable<K, V>, Slot) {
        let slot = ctx.slot;
        (ctx.services.keyed().table(registered(self.handle)), slot)
    }
}

/// One value a key that what is added is folded into. Flink's ReducingState.
pub struct ReducingState<T: Record> {
    handle: Option<ValueHandle<T>>,
    reduce: ReduceFunction<T>,
}

impl<T: Record> ReducingState<T> {
    pub(crate) fn new(handle: Option<ValueHandle<T>>, reduce: ReduceFunction<T>) -> Self {
        Self { handle, reduce }
    }

    /// The result so far.
    #[inline]
    pub fn get<'c>(&self, ctx: &'c mut KeyContext<'_>) -> Option<&'c T> {
        let (table, slot) = value_table(self.handle, ctx);
        table.get(slot)
    }

    /// Folds a value in; the key's first is taken as it is. The result.
    #[inline]
    pub fn add<'c>(&self, ctx: &'c mut KeyContext<'_>, value: RecordRef<'_, T>) -> &'c T {
        let (table, slot) = value_table(self.handle, ctx);
        table.reduce(slot, value, self.reduce)
    }

    /// Forgets the result.
    #[inline]
    pub fn clear(&self, ctx: &mut KeyContext<'_>) {
        let (table, slot) = value_table(self.handle, ctx);
        table.clear(slot);
    }
}

impl<T: Record> Clone for ReducingState<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Record> Copy for ReducingState<T> {}

impl<T: Record> Default for ReducingState<T> {
    /// Not registered.
    fn default() -> Self {
        Self {
            handle: None,
            reduce: |_, _| {},
        }
    }
}

/// One accumulator a key. Flink's AggregatingState.
#[derive(Clone, Copy, Default)]
pub struct AggregatingState<A: AggregateFunction> {
    handle: Option<AccumulatorHandle<A>>,
    aggregate: A,
}

type AccumulatorHandle<A> = ValueHandle<<A as AggregateFunction>::Accumulator>;

impl<A: AggregateFunction> AggregatingState<A> {
    pub(crate) fn new(handle: Option<AccumulatorHandle<A>>, aggregate: A) -> Self {
        Self { handle, aggregate }
    }

    /// The result so far; `None` if nothing was added.
    #[inline]
    pub fn get(&self, ctx: &mut KeyContext<'_>) -> Option<A::Out> {
        let (table, slot) = value_table(self.handle, ctx);
        let accumulator = table.get(slot)?;
        Some(self.aggregate.get_result(accumulator))
    }

    /// Adds a value.
    #[inline]
    pub fn add(&self, ctx: &mut KeyContext<'_>, value: RecordRef<'_, A::In>) {
        let (table, slot) = value_table(self.handle, ctx);
        let accumulator = table.get_or_insert_with(slot, || self.aggregate.create_accumulator());
        self.aggregate.add(accumulator, value);
    }

    /// Forgets all that was added.
    #[inline]
    pub fn clear(&self, ctx: &mut KeyContext<'_>) {
        let (table, slot) = value_table(self.handle, ctx);
        table.clear(slot);
    }
}
