//! Which granted slot takes which part of the job. Pure.
//!
//! A part goes back to where it ran last, because its TaskManager may still have copies of its state files there
//! (`execution.state-recovery.from-local`); Flink's local-recovery slot selection. In this order:
//!
//! 1. the very slot that it had;
//! 2. another slot of the same TaskManager;
//! 3. what is left goes to what is left, in order.

use super::Slot;

/// Matches parts that need a slot, each with the one it had last, with the slots that were granted; and which slots are left
/// over.
pub(super) fn assign(
    needing: Vec<(usize, Option<&Slot>)>,
    granted: Vec<Slot>,
) -> (Vec<(usize, Slot)>, Vec<Slot>) {
    let rules: [fn(&Slot, Option<&Slot>) -> bool; 3] = [
        |slot, last| last == Some(slot),
        |slot, last| last.is_some_and(|last| last.task_manager == slot.task_manager),
        |_, _| true,
    ];
    let (mut needing, mut granted, mut assigned) = (needing, granted, Vec::new());
    for fits in rules {
        let mut left = Vec::new();
        for slot in granted {
            match needing.iter().position(|(_, last)| fits(&slot, *last)) {
                Some(index) => {
                    let (part, _) = needing.remove(index);
                    assigned.push((part, slot));
                }
                None => left.push(slot),
            }
        }
        granted = left;
    }
    (assigned, granted)
}

#[cfg(test)]
mod tests {
    use thalweg_types::TaskManagerId;

    use super::*;

    fn slot(name: &str) -> Slot {
        let (task_manager, slot) = name.split_once('/').unwrap();
        Slot {
            task_manager: TaskManagerId(task_manager.to_owned()),
            slot: slot.parse().unwrap(),
        }
    }

    /// `last`: by part, "" = it never had one. What each part got, in their order, and what is left over.
    fn assigned(last: &[&str], granted: &[&str]) -> (Vec<String>, usize) {
        let last: Vec<Option<Slot>> = last
            .iter()
            .map(|name| (!name.is_empty()).then(|| slot(name)))
            .collect();
        let needing = last.iter().map(Option::as_ref).enumerate().collect();
        let (assigned, left) = assign(needing, granted.iter().map(|name| slot(name)).collect());
        let mut got = vec![String::new(); last.len()];
        for (part, slot) in assigned {
            got[part] = format!("{}/{}", slot.task_manager, slot.slot);
        }
        (got, left.len())
    }

    fn places(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn at_first_slots_go_in_their_order() {
        let (got, left) = assigned(&["", ""], &["b/1", "a/0", "a/1"]);
        assert_eq!((got, left), (places(&["b/1", "a/0"]), 1));
    }

    #[test]
    fn a_part_gets_the_slot_that_it_had() {
        let (got, _) = assigned(&["a/0", "a/1"], &["a/1", "a/0"]);
        assert_eq!(got, places(&["a/0", "a/1"]));
    }

    #[test]
    fn else_one_of_the_same_task_manager() {
        let (got, _) = assigned(&["a/0", "b/0"], &["b/3", "a/7"]);
        assert_eq!(got, places(&["a/7", "b/3"]));
    }

    #[test]
    fn the_very_slot_goes_before_the_same_task_manager() {
        let (got, _) = assigned(&["a/0", "a/1"], &["a/1", "a/2"]);
        assert_eq!(got, places(&["a/2", "a/1"]));
    }

    #[test]
    fn what_lost_its_task_manager_takes_what_nobody_else_has_a_claim_on() {
        let (got, _) = assigned(&["gone/0", "b/0"], &["b/0", "c/0"]);
        assert_eq!(got, places(&["c/0", "b/0"]));
    }

    #[test]
    fn with_too_few_slots_some_parts_get_none() {
        let (got, left) = assigned(&["a/0", "b/0"], &["b/1"]);
        assert_eq!((got, left), (places(&["", "b/1"]), 0));
    }
}
