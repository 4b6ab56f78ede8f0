use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, Float64Array, Int64Array, StringArray};
use proptest::collection::vec;
use proptest::prelude::*;
use thalweg_types::key_hash::hash_rows;

use super::*;

/// Keys of any column types; equal keys have equal debug texts, floats in their canonical form.
fn naive(columns: &[ArrayRef], row: usize) -> String {
    let text = |column: &ArrayRef| {
        if column.is_null(row) {
            return "null".to_owned();
        }
        match column.as_any().downcast_ref::<Float64Array>() {
            Some(floats) if floats.value(row).is_nan() => "NaN".to_owned(),
            Some(floats) => format!("{:?}", floats.value(row) + 0.0),
            None => format!("{:?}", column.slice(row, 1)),
        }
    };
    columns.iter().map(text).collect::<Vec<_>>().join("|")
}

/// Runs the batches through an index and checks each slot against a map from texts to slots.
fn check(types: &[DataType], batches: &[Vec<ArrayRef>]) -> KeyIndex {
    let mut index = KeyIndex::new(types).unwrap();
    let mut twin: HashMap<String, Slot> = HashMap::new();
    let (mut slots, mut new_rows, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
    for columns in batches {
        hash_rows(columns, &mut hashes).unwrap();
        let before = twin.len();
        index
            .slots(
                columns,
                &UInt64Array::from(hashes.clone()),
                &mut slots,
                &mut new_rows,
            )
            .unwrap();
        for (row, slot) in slots.iter().enumerate() {
            let next = twin.len() as Slot;
            let expected = *twin.entry(naive(columns, row)).or_insert(next);
            assert_eq!(*slot, expected, "row {row}: {}", naive(columns, row));
        }
        assert_eq!(new_rows.len(), twin.len() - before);
        for (i, row) in new_rows.iter().enumerate() {
            assert_eq!(slots[*row as usize] as usize, before + i, "a new key's first row");
        }
        assert_eq!(index.hashes(&slots).unwrap(), hashes, "the key hash of each slot");
    }
    assert_eq!(index.len(), twin.len());
    for columns in batches {
        hash_rows(columns, &mut hashes).unwrap();
        let hashes = UInt64Array::from(hashes.clone());
        index.slots(columns, &hashes, &mut slots, &mut new_rows).unwrap();
        let keys = index.keys(&slots).unwrap();
        for row in 0..slots.len() {
            assert_eq!(naive(&keys, row), naive(columns, row), "the slot's key");
        }
    }
    index
}

proptest! {
    #[test]
    fn text_keys(batches in vec(vec(proptest::option::of("[a-c]{0,2}"), 1..40), 0..6)) {
        let columns = |texts: Vec<Option<String>>| vec![Arc::new(StringArray::from(texts)) as ArrayRef];
        check(&[DataType::Utf8], &batches.into_iter().map(columns).collect::<Vec<_>>());
    }

    #[test]
    fn integer_keys(batches in vec(vec(proptest::option::of(-3_i64..3), 1..40), 0..6)) {
        let columns = |values: Vec<Option<i64>>| vec![Arc::new(Int64Array::from(values)) as ArrayRef];
        check(&[DataType::Int64], &batches.into_iter().map(columns).collect::<Vec<_>>());
    }

    #[test]
    fn keys_of_several_columns_with_floats(
        batches in vec(vec((proptest::option::of("[ab]?"), prop_oneof![
            Just(0.0), Just(-0.0), Just(f64::NAN), Just(-f64::NAN), Just(1.5)
        ]), 1..40), 0..6)
    ) {
        let columns = |rows: Vec<(Option<String>, f64)>| {
            let (texts, floats): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
            vec![Arc::new(StringArray::from(texts)) as ArrayRef, Arc::new(Float64Array::from(floats)) as ArrayRef]
        };
        check(&[DataType::Utf8, DataType::Float64], &batches.into_iter().map(columns).collect::<Vec<_>>());
    }
}

#[test]
fn equal_hashes_do_not_make_equal_keys() {
    let numbers = Arc::new(Int64Array::from(vec![1, 2, 1, 3])) as ArrayRef;
    let texts = Arc::new(StringArray::from(vec!["1", "2", "1", "3"])) as ArrayRef;
    for column in [numbers, texts] {
        let mut index = KeyIndex::new(std::slice::from_ref(column.data_type())).unwrap();
        let hashes = UInt64Array::from(vec![7; 4]);
        let (mut slots, mut new_rows) = (Vec::new(), Vec::new());
        index
            .slots(&[column], &hashes, &mut slots, &mut new_rows)
            .unwrap();
        assert_eq!(slots, [0, 1, 0, 2]);
    }
}

#[test]
fn an_integer_key_takes_itself_and_its_place_in_the_table() {
    let mut index = KeyIndex::new(&[DataType::Int64]).unwrap();
    index.reserve(100_000);
    restore(&mut index, &(0..100_000).collect::<Vec<_>>(), false);
    let table = index.table.allocation_size();
    let beside = index.memory_size() - table;
    assert!((800_000..820_000).contains(&beside), "{beside} bytes");
}

#[test]
fn memory_is_that_of_the_keys_and_the_table() {
    let texts: Vec<String> = (0..10_000).map(|i| format!("{i:010}")).collect();
    let columns = vec![Arc::new(StringArray::from(texts)) as ArrayRef];
    let index = check(&[DataType::Utf8], &[columns]);
    let size = index.memory_size();
    assert!((10_000 * 10..10_000 * 80).contains(&size), "{size} bytes");
}

#[test]
fn columns_of_another_type_are_refused() {
    let mut index = KeyIndex::new(&[DataType::Int64]).unwrap();
    let columns = [Arc::new(StringArray::from(vec!["a"])) as ArrayRef];
    let error = index.slots(
        &columns,
        &UInt64Array::from(vec![1]),
        &mut Vec::new(),
        &mut Vec::new(),
    );
    assert!(matches!(error, Err(KeyIndexError::Encode(_))));
}

proptest! {
    /// Removed keys are forgotten, their slots go to new ones, and all other keys keep theirs.
    #[test]
    fn slots_of_removed_keys_are_reused(
        batches in vec((vec(proptest::option::of("[a-f]{0,2}"), 1..20), vec(any::<prop::sample::Index>(), 0..8)), 1..8)
    ) {
        let mut index = KeyIndex::new(&[DataType::Utf8]).unwrap();
        let mut twin: HashMap<Option<String>, Slot> = HashMap::new();
        let (mut slots, mut new_rows, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
        let mut most = 0;
        for (texts, removed) in batches {
            let columns = [Arc::new(StringArray::from(texts.clone())) as ArrayRef];
            hash_rows(&columns, &mut hashes).unwrap();
            index.slots(&columns, &UInt64Array::from(hashes.clone()), &mut slots, &mut new_rows).unwrap();
            for (text, slot) in texts.iter().zip(&slots) {
                let taken = twin.values().any(|other| other == slot);
                let known = twin.entry(text.clone()).or_insert(*slot);
                prop_assert_eq!(*known, *slot);
                prop_assert!(index.is_live(*slot));
                let is_new = new_rows.iter().any(|row| slots[*row as usize] == *slot);
                prop_assert!(taken || is_new);
            }
            most = most.max(twin.len());
            prop_assert_eq!(index.len(), twin.len());
            prop_assert!(index.slot_count() <= most);
            for place in removed {
                let keys: Vec<_> = twin.keys().cloned().collect();
                if !keys.is_empty() {
                    index.remove(twin.remove(place.get(&keys)).unwrap());
                }
            }
        }
    }
}

#[test]
fn the_bytes_of_removed_keys_are_given_back() {
    let mut index = KeyIndex::new(&[DataType::Utf8]).unwrap();
    let (mut slots, mut new_rows, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
    let mut round = |index: &mut KeyIndex, round: usize| {
        let texts: Vec<String> = (0..1000).map(|i| format!("{round:05}-{i:0100}")).collect();
        let columns = [Arc::new(StringArray::from(texts)) as ArrayRef];
        hash_rows(&columns, &mut hashes).unwrap();
        index
            .slots(
                &columns,
                &UInt64Array::from(hashes.clone()),
                &mut slots,
                &mut new_rows,
            )
            .unwrap();
        slots.iter().for_each(|slot| index.remove(*slot));
    };
    round(&mut index, 0);
    for i in 1..50 {
        round(&mut index, i);
    }
    assert_eq!((index.len(), index.slot_count()), (0, 1000));
    assert!(index.memory_size() < 1 << 20, "{} bytes", index.memory_size());
}

fn restore(index: &mut KeyIndex, keys: &[i64], repeats: bool) -> Vec<Slot> {
    restore_column(index, &Int64Array::from(keys.to_vec()), repeats)
}

/// Rows of a table as they are restored: by key, several of one behind each other.
fn restore_column(index: &mut KeyIndex, keys: &dyn Array, repeats: bool) -> Vec<Slot> {
    let mut before = index.restored_keys(repeats);
    let mut all = Vec::new();
    let rows = keys.len().div_ceil(3);
    for first in (0..keys.len()).step_by(rows) {
        let columns: Vec<ArrayRef> = vec![keys.slice(first, rows.min(keys.len() - first))];
        let mut hashes = Vec::new();
        hash_rows(&columns, &mut hashes).unwrap();
        let mut slots = Vec::new();
        index
            .restored_slots(&columns, &hashes, &mut before, &mut slots)
            .unwrap();
        all.extend(slots);
    }
    index.end_restored(&before);
    all
}

#[test]
fn many_restored_keys_are_found_again() {
    let keys: Vec<i64> = (0..100_000).map(|key| key * 7).collect();
    let texts = |keys: &[i64]| StringArray::from_iter_values(keys.iter().map(i64::to_string));
    let backwards: Vec<i64> = keys.iter().rev().copied().collect();
    let columns: [(ArrayRef, ArrayRef); 2] = [
        (
            Arc::new(Int64Array::from(keys.clone())),
            Arc::new(Int64Array::from(backwards.clone())),
        ),
        (Arc::new(texts(&keys)), Arc::new(texts(&backwards))),
    ];
    for (restored, looked_for) in columns {
        let mut index = KeyIndex::new(std::slice::from_ref(restored.data_type())).unwrap();
        let slots = restore_column(&mut index, &restored, false);
        assert_eq!(slots, (0..keys.len() as Slot).collect::<Vec<_>>());
        assert_eq!(index.len(), keys.len());
        let (mut hashes, mut found, mut new_rows) = (Vec::new(), Vec::new(), Vec::new());
        hash_rows(std::slice::from_ref(&looked_for), &mut hashes).unwrap();
        let hashes = UInt64Array::from(hashes);
        index
            .slots(&[looked_for], &hashes, &mut found, &mut new_rows)
            .unwrap();
        assert!(new_rows.is_empty());
        assert!(found.iter().rev().eq(slots.iter()));
    }
}

#[test]
fn restored_tables_share_the_slots_of_their_keys_in_whatever_order_they_come() {
    let mut index = KeyIndex::new(&[DataType::Int64]).unwrap();
    index.reserve(10);
    let first: Vec<i64> = (0..20).map(|key| key * 3).collect();
    assert_eq!(restore(&mut index, &first, false), (0..20).collect::<Vec<Slot>>());
    // Some of the same keys, some new ones, and one that comes again out of order.
    let second = [0, 0, 3, 3, 3, 7, 7, 9, 57, 58, 58, 0];
    let slots = restore(&mut index, &second, true);
    assert_eq!(slots, [0, 0, 1, 1, 1, 20, 20, 3, 19, 21, 21, 0]);
    index.remove(1);
    let third = restore(&mut index, &[0, 3, 6, 100], false);
    assert_eq!(third, [0, 1, 2, 22], "a free slot is taken again");
    assert_eq!(index.len(), 23);
}
