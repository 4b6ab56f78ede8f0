//! State of an operator that belongs to no key: lists, and broadcast state.
//!
//! ```text
//!   open():   get_list_state(name) --take_list--> items of this subtask's share, adapted to today's columns
//!   snapshot: all items of every list, as rows
//! ```
//!
//! Broadcast state is a list of (key, value) in snapshots; every subtask holds the same. Its entries are iterated in the order of
//! their first insertion, which is the same in all subtasks if they are written by the same elements.
//! Invariant: `bytes` of a store is what its items hold, kept up to date by each write.

use std::any::Any;
use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use arrow::array::ArrayRef;
use thalweg_state::evolution::Adapter;
use thalweg_state::{ListDistribution, ListSnapshot, RestoredState, StateError, TableDescriptor, TableKind};

use crate::record::{Record, RowsBuilder};

/// All of one operator in one subtask.
#[derive(Default)]
pub(crate) struct OperatorState {
    stores: Vec<Box<dyn Store>>,
}

/// A list or a map, whatever its type.
trait Store: Any + Send {
    fn name(&self) -> &str;
    fn snapshot(&self) -> Result<ListSnapshot, StateError>;
    fn bytes(&self) -> usize;
}

/// Items of a list.
pub(crate) struct ListStore<T: Record> {
    name: String,
    distribution: ListDistribution,
    items: Vec<T>,
    bytes: usize,
}

/// Entries of a broadcast state.
pub(crate) struct MapStore<K: Record, V: Record> {
    name: String,
    places: HashMap<K, u64>,
    entries: BTreeMap<u64, (K, V)>,
    next: u64,
    bytes: usize,
}

impl OperatorState {
    /// The number of a new list with what was restored for it.
    pub(crate) fn register_list<T: Record>(
        &mut self,
        name: &str,
        distribution: ListDistribution,
        restored: &mut RestoredState,
    ) -> Result<usize, StateError> {
        self.check_name(name)?;
        let mut store = ListStore::<T> {
            name: name.to_owned(),
            distribution,
            items: Vec::new(),
            bytes: 0,
        };
        for item in restored_items::<T>(name, distribution, restored)? {
            store.add(item);
        }
        Ok(self.add(store))
    }

    /// The number of a new broadcast state with what was restored for it.
    pub(crate) fn register_broadcast<K: Record + Hash + Eq, V: Record>(
        &mut self,
        name: &str,
        restored: &mut RestoredState,
    ) -> Result<usize, StateError> {
        self.check_name(name)?;
        let mut store = MapStore::<K, V> {
            name: name.to_owned(),
            places: HashMap::new(),
            entries: BTreeMap::new(),
            next: 0,
            bytes: 0,
        };
        for (key, value) in restored_items::<(K, V)>(name, ListDistribution::Broadcast, restored)? {
            store.put(key, value);
        }
        Ok(self.add(store))
    }

    /// A list by its number.
    pub(crate) fn list<T: Record>(&self, number: usize) -> &ListStore<T> {
        self.store(number)
    }

    /// A list by its number.
    pub(crate) fn list_mut<T: Record>(&mut self, number: usize) -> &mut ListStore<T> {
        self.store_mut(number)
    }

    /// A broadcast state by its number.
    pub(crate) fn broadcast<K: Record + Hash + Eq, V: Record>(&self, number: usize) -> &MapStore<K, V> {
        self.store(number)
    }

    /// A broadcast state by its number.
    pub(crate) fn broadcast_mut<K: Record + Hash + Eq, V: Record>(
        &mut self,
        number: usize,
    ) -> &mut MapStore<K, V> {
        self.store_mut(number)
    }

    pub(crate) fn snapshot(&self) -> Result<Vec<ListSnapshot>, StateError> {
        self.stores.iter().map(|store| store.snapshot()).collect()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.stores.iter().map(|store| store.bytes()).sum()
    }

    fn check_name(&self, name: &str) -> Result<(), StateError> {
        if self.stores.iter().any(|store| store.name() == name) {
            return Err(StateError::Incompatible {
                state: name.to_owned(),
                message: "the operator has another list or broadcast state of this name: give each its own"
                    .to_owned(),
            });
        }
        Ok(())
    }

    fn add(&mut self, store: impl Store) -> usize {
        self.stores.push(Box::new(store));
        self.stores.len() - 1
    }

    fn store<S: Store>(&self, number: usize) -> &S {
        let store: &dyn Any = self.stores[number].as_ref();
        match store.downcast_ref() {
            Some(store) => store,
            None => panic!("operator state {number} is another operator's"),
        }
    }

    fn store_mut<S: Store>(&mut self, number: usize) -> &mut S {
        let store: &mut dyn Any = self.stores[number].as_mut();
        match store.downcast_mut() {
            Some(store) => store,
            None => panic!("operator state {number} is another operator's"),
        }
    }
}

fn item_bytes<T: Record>(item: &T) -> usize {
    size_of::<T>() + T::heap_bytes(T::view(item))
}

impl<T: Record> ListStore<T> {
    pub(crate) fn items(&self) -> &[T] {
        &self.items
    }

    pub(crate) fn add(&mut self, item: T) {
        self.bytes += item_bytes(&item);
        self.items.push(item);
    }

    pub(crate) fn clear(&mut self) {
        self.items.clear();
        self.bytes = 0;
    }
}

impl<K: Record + Hash + Eq, V: Record> MapStore<K, V> {
    pub(crate) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let place = self.places.get(key)?;
        self.entries.get(place).map(|(_, value)| value)
    }

    pub(crate) fn put(&mut self, key: K, value: V) {
        let next = self.next;
        let place = *self.places.entry(key.clone()).or_insert(next);
        self.bytes += 2 * item_bytes(&key) + item_bytes(&value);
        match self.entries.insert(place, (key, value)) {
            Some(old) => self.bytes -= entry_bytes(&old),
            None => self.next += 1,
        }
    }

    pub(crate) fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let entry = self.entries.remove(&self.places.remove(key)?)?;
        self.bytes -= entry_bytes(&entry);
        Some(entry.1)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.values().map(|(key, value)| (key, value))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn clear(&mut self) {
        self.places.clear();
        self.entries.clear();
        self.bytes = 0;
    }
}

/// The key is held twice: where it is found and where it is iterated.
fn entry_bytes<K: Record, V: Record>((key, value): &(K, V)) -> usize {
    2 * item_bytes(key) + item_bytes(value)
}

impl<T: Record> Store for ListStore<T> {
    fn name(&self) -> &str {
        &self.name
    }

    fn snapshot(&self) -> Result<ListSnapshot, StateError> {
        let items = self.items.iter().map(T::view);
        list_snapshot::<T>(&self.name, self.distribution, items)
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

impl<K: Record + Hash + Eq, V: Record> Store for MapStore<K, V> {
    fn name(&self) -> &str {
        &self.name
    }

    fn snapshot(&self) -> Result<ListSnapshot, StateError> {
        let entries = self.iter().map(|(key, value)| (K::view(key), V::view(value)));
        list_snapshot::<(K, V)>(&self.name, ListDistribution::Broadcast, entries)
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

/// All items of a list.
pub(super) fn list_snapshot<'i, T: Record>(
    name: &str,
    distribution: ListDistribution,
    items: impl Iterator<Item = T::Ref<'i>>,
) -> Result<ListSnapshot, StateError> {
    let mut rows = RowsBuilder::<T>::with_capacity(0);
    items.for_each(|item| rows.push_ref(item));
    let items = rows.finish().map_err(|source| StateError::Arrow {
        step: "building the rows of a list",
        source,
    })?;
    Ok(ListSnapshot {
        name: name.to_owned(),
        distribution,
        items,
    })
}

/// This subtask's share of a restored list.
pub(super) fn restored_items<T: Record>(
    name: &str,
    distribution: ListDistribution,
    restored: &mut RestoredState,
) -> Result<Vec<T>, StateError> {
    let Some(list) = restored.take_list(name) else {
        return Ok(Vec::new());
    };
    let incompatible = |message| StateError::Incompatible {
        state: name.to_owned(),
        message,
    };
    if list.distribution != distribution {
        return Err(incompatible(format!(
            "it was stored as {:?} and is {distribution:?} now: a list can't change how it is shared out",
            list.distribution
        )));
    }
    let wanted = list_descriptor(name, T::fields().into_iter().map(Arc::new).collect());
    let mut items = Vec::new();
    for batch in &list.items {
        let stored = list_descriptor(name, batch.schema().fields().to_vec());
        let columns: Vec<ArrayRef> = Adapter::new(&stored, &wanted)?
            .columns(batch.columns(), batch.num_rows())
            .map_err(|source| StateError::Arrow {
                step: "adapting stored columns",
                source,
            })?;
        let columns = T::columns(&columns, None).map_err(|error| incompatible(error.to_string()))?;
        items.extend((0..batch.num_rows()).map(|row| T::own(T::row(&columns, row))));
    }
    Ok(items)
}

/// For comparing columns only.
fn list_descriptor(name: &str, value: Vec<arrow::datatypes::FieldRef>) -> TableDescriptor {
    TableDescriptor {
        name: name.to_owned(),
        kind: TableKind::List,
        key: Vec::new(),
        sub_key: Vec::new(),
        value,
        ttl: None,
    }
}

#[cfg(test)]
mod tests {
    use thalweg_state::RestoredList;

    use super::*;

    fn restored<T: Record>(distribution: ListDistribution, items: &[T]) -> RestoredState {
        let items = items.iter().map(T::view);
        let list = list_snapshot::<T>("state", distribution, items).unwrap();
        let (first, second) = (
            list.items.slice(0, 1),
            list.items.slice(1, list.items.num_rows() - 1),
        );
        RestoredState {
            checkpoint_id: 1,
            lists: vec![RestoredList {
                name: list.name,
                distribution,
                items: vec![first, second],
            }],
            ..RestoredState::default()
        }
    }

    #[test]
    fn items_of_an_older_type_are_widened_and_new_fields_are_null() {
        let mut old = restored(ListDistribution::Split, &[(1_i32,), (2,), (3,)]);
        let mut state = OperatorState::default();
        let list = state.register_list::<(i64, Option<String>)>("state", ListDistribution::Split, &mut old);
        let items = state.list::<(i64, Option<String>)>(list.unwrap()).items();
        assert_eq!(items, [(1, None), (2, None), (3, None)]);
    }

    #[test]
    fn another_type_or_another_way_to_share_out_is_refused() {
        let refusal = |distribution| {
            let mut old = restored(ListDistribution::Split, &["a".to_owned(), "b".to_owned()]);
            let registered = OperatorState::default().register_list::<i64>("state", distribution, &mut old);
            registered.unwrap_err().to_string()
        };
        assert!(refusal(ListDistribution::Split).starts_with("state \"state\": "));
        assert!(refusal(ListDistribution::Union).contains("stored as Split and is Union now"));
    }

    #[test]
    fn broadcast_entries_keep_their_order_and_their_bytes_are_counted() {
        let mut state = OperatorState::default();
        let mut nothing = RestoredState::default();
        let number = state
            .register_broadcast::<String, i64>("state", &mut nothing)
            .unwrap();
        let entries = state.broadcast_mut::<String, i64>(number);
        for (key, value) in [("b", 1), ("a", 2), ("c", 3), ("b", 4)] {
            entries.put(key.to_owned(), value);
        }
        assert_eq!(entries.remove("a"), Some(2));
        assert_eq!(entries.remove("a"), None);
        let list = state.snapshot().unwrap().remove(0);
        assert_eq!(list.distribution, ListDistribution::Broadcast);
        let bytes = state.bytes();
        let mut again = OperatorState::default();
        let mut saved = RestoredState {
            checkpoint_id: 1,
            lists: vec![RestoredList {
                name: list.name,
                distribution: list.distribution,
                items: vec![list.items],
            }],
            ..RestoredState::default()
        };
        let number = again
            .register_broadcast::<String, i64>("state", &mut saved)
            .unwrap();
        let entries: Vec<(&str, i64)> = again
            .broadcast::<String, i64>(number)
            .iter()
            .map(|(key, value)| (key.as_str(), *value))
            .collect();
        assert_eq!(entries, [("b", 4), ("c", 3)]);
        assert_eq!(again.bytes(), bytes);
        again.broadcast_mut::<String, i64>(number).clear();
        assert_eq!(again.bytes(), 0);
    }
}
