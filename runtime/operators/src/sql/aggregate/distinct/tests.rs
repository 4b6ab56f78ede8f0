use super::super::super::testing::{bigint, table, text};
use super::*;
use arrow::array::StringArray;

fn distincts(filters: &[Option<usize>], retracts: bool) -> Distincts {
    let input = table(&[("x", text()), ("f", bigint())]);
    let mut distincts = Distincts::new(&input, &[0], filters, retracts).unwrap();
    distincts.resize(3);
    distincts
}

fn texts(values: &[Option<&str>]) -> Vec<ArrayRef> {
    vec![Arc::new(StringArray::from(values.to_vec()))]
}

fn transitions(changed: &Changed, filter: usize) -> Vec<(Slot, u32, i8)> {
    let found = &changed.filters[filter];
    let rows = found.slots.iter().zip(&found.rows).zip(&found.signs);
    rows.map(|((slot, row), sign)| (*slot, *row, *sign)).collect()
}

#[test]
fn a_value_is_new_once_for_each_group() {
    for retracts in [false, true] {
        let mut distincts = distincts(&[None], retracts);
        let values = texts(&[Some("a"), Some("a"), None, Some("a")]);
        let changed = distincts.add(&[0, 1, 0, 0], &values, &[None]).unwrap();
        assert_eq!(transitions(&changed, 0), [(0, 0, 1), (1, 1, 1)]);
        let changed = distincts
            .add(&[0, 0], &texts(&[Some("b"), Some("a")]), &[None])
            .unwrap();
        assert_eq!(transitions(&changed, 0), [(0, 0, 1)]);
    }
}

#[test]
fn each_filter_counts_by_itself() {
    let mut distincts = distincts(&[None, Some(1)], false);
    let values = texts(&[Some("a"), Some("a")]);
    let changed = distincts
        .add(&[0, 0], &values, &[None, Some(vec![0, 1])])
        .unwrap();
    assert_eq!(transitions(&changed, 0), [(0, 0, 1)]);
    assert_eq!(transitions(&changed, 1), [(0, 1, 1)]);
}

#[test]
fn a_value_is_gone_with_its_last_row_and_what_isnt_there_cant_be_taken_back() {
    let mut distincts = distincts(&[None], true);
    let values = texts(&[Some("a"), Some("a"), Some("b")]);
    distincts.add(&[0, 0, 0], &values, &[None]).unwrap();
    let values = texts(&[Some("a"), Some("c"), Some("a")]);
    let changed = distincts
        .add(&[0, 0, 0], &values, &[Some(vec![-1, -1, -1])])
        .unwrap();
    assert_eq!(transitions(&changed, 0), [(0, 2, -1)]);
    assert_eq!(distincts.index.len(), 1, "only b is left");
    assert_eq!(distincts.values_of(&[0]).unwrap().owners.len(), 1);
}

#[test]
fn what_is_gathered_can_be_scattered_over_other_slots() {
    let mut distincts = distincts(&[None, Some(1)], true);
    let values = texts(&[Some("a"), Some("b"), Some("a"), Some("c")]);
    let numbers = [None, Some(vec![1, 0, 1, 0])];
    distincts.add(&[0, 0, 0, 1], &values, &numbers).unwrap();
    let stored = distincts.gather(&[0, 2, 1]).unwrap();
    distincts.clear(&[0, 1]);
    assert!(distincts.index.is_empty());
    distincts.scatter(&[1, 2, 0], &stored).unwrap();
    let counts = |slot: Slot| {
        let found = distincts.values_of(&[slot]).unwrap();
        let names = found.values[0].as_string::<i32>();
        let numbers = |filter: usize, row: usize| found.signs[filter].as_ref().unwrap()[row];
        let mut counts: Vec<(String, i64, i64)> = (0..names.len())
            .map(|row| (names.value(row).to_owned(), numbers(0, row), numbers(1, row)))
            .collect();
        counts.sort();
        counts
    };
    assert_eq!(counts(1), [("a".to_owned(), 2, 2), ("b".to_owned(), 1, 0)]);
    assert_eq!(counts(0), [("c".to_owned(), 1, 0)]);
    assert_eq!(counts(2), []);
}
