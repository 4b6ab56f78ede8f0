use super::files::{Files, Runs};
use super::harness::*;

/// A program, then one with a wider value, then the same again, each from the runs of the one before.
#[test]
fn a_chain_whose_columns_change_begins_anew_and_loses_nothing() {
    let mut files = Files::new();
    let mut runs = Runs::new(ALL);
    let mut old = empty(usize::MAX);
    let total = old.register_value::<(i64, i32)>("total", None).unwrap();
    for (key, n) in [("a", 1), ("b", 2), ("c", 3)] {
        let slot = begin(&mut old, &[key], 0)[0];
        old.table(total).set(slot, (i64::from(n), n));
        old.end_batch().unwrap();
        files.checkpoint(&mut runs, false, |request| old.snapshot(request).unwrap());
    }

    for round in 0..2 {
        let mut new = empty(usize::MAX);
        let total = new
            .register_value::<(i64, i64, Option<String>)>("total", None)
            .unwrap();
        let (mut state, restored) = files.restored(&[runs], ALL);
        new.restore(&mut state, 0).unwrap();
        assert_eq!(state.columns_changed, round == 0, "round {round}");
        runs = if state.columns_changed {
            Runs::new(ALL)
        } else {
            restored
        };
        let slots = begin(&mut new, &["a", "b", "c"], 0);
        assert_eq!(new.key_count(), 3);
        for (slot, n) in slots.iter().zip([1, 2, 3]) {
            assert_eq!(new.table(total).get(*slot), Some(&(n, n, None)));
        }
        new.end_batch().unwrap();
        let full = files.checkpoint(&mut runs, false, |request| new.snapshot(request).unwrap());
        assert_eq!(full, round == 0);
    }
}
