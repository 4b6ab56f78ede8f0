//! The different slots of a batch.

use thalweg_state::Slot;

const NONE: u32 = u32::MAX;

/// Each slot once, in the order of first rows. Its vectors are used again for the next batch.
#[derive(Debug, Default)]
pub(crate) struct Uniques {
    /// By slot: its group, or none.
    marks: Vec<u32>,
    slots: Vec<Slot>,
    first_rows: Vec<u32>,
    groups: Vec<u32>,
}

impl Uniques {
    /// Finds the different ones of these slots, one a row.
    pub(crate) fn find(&mut self, rows: &[Slot]) {
        self.slots.clear();
        self.first_rows.clear();
        self.groups.clear();
        let count = rows.iter().max().map_or(0, |slot| *slot as usize + 1);
        if count > self.marks.len() {
            self.marks.resize(count, NONE);
        }
        for (row, slot) in rows.iter().enumerate() {
            let mark = &mut self.marks[*slot as usize];
            if *mark == NONE {
                *mark = self.slots.len() as u32;
                self.slots.push(*slot);
                self.first_rows.push(row as u32);
            }
            self.groups.push(*mark);
        }
        for slot in &self.slots {
            self.marks[*slot as usize] = NONE;
        }
    }

    /// Leaves out slots of which no row counts. [`Self::groups`] means nothing then.
    pub(crate) fn retain_counting(&mut self, rows: &[Slot], signs: Option<&[i8]>) {
        let Some(signs) = signs else { return };
        let counting: Vec<Slot> = rows
            .iter()
            .zip(signs)
            .map(|(slot, sign)| if *sign == 0 { NONE } else { *slot })
            .collect();
        let mut first_rows = Vec::new();
        let mut slots = Vec::new();
        for (row, slot) in counting.iter().enumerate() {
            if *slot != NONE && std::mem::replace(&mut self.marks[*slot as usize], 0) == NONE {
                slots.push(*slot);
                first_rows.push(row as u32);
            }
        }
        for slot in &slots {
            self.marks[*slot as usize] = NONE;
        }
        self.slots = slots;
        self.first_rows = first_rows;
    }

    /// The different slots.
    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The first row of each.
    pub(crate) fn first_rows(&self) -> &[u32] {
        &self.first_rows
    }

    /// Which of [`Self::slots`] each row has.
    pub(crate) fn groups(&self) -> &[u32] {
        &self.groups
    }

    /// The rows, so that the n-th row of each slot is in the n-th list.
    pub(crate) fn rounds(&mut self, rows: &[Slot]) -> Vec<Vec<u32>> {
        self.find(rows);
        let mut seen = vec![0_usize; self.slots.len()];
        let mut rounds: Vec<Vec<u32>> = Vec::new();
        for (row, group) in self.groups.iter().enumerate() {
            let seen = &mut seen[*group as usize];
            if *seen == rounds.len() {
                rounds.push(Vec::new());
            }
            rounds[*seen].push(row as u32);
            *seen += 1;
        }
        rounds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slot_comes_once_with_its_first_row() {
        let mut uniques = Uniques::default();
        for _ in 0..2 {
            uniques.find(&[7, 3, 7, 0, 3]);
            assert_eq!(uniques.slots(), [7, 3, 0]);
            assert_eq!(uniques.first_rows(), [0, 1, 3]);
            assert_eq!(uniques.groups(), [0, 1, 0, 2, 1]);
        }
    }

    #[test]
    fn rounds_hold_each_slot_once() {
        let rounds = Uniques::default().rounds(&[7, 3, 7, 7, 3]);
        assert_eq!(rounds, [vec![0, 1], vec![2, 4], vec![3]]);
    }

    #[test]
    fn slots_of_which_no_row_counts_are_left_out() {
        let mut uniques = Uniques::default();
        let rows = [7, 3, 7];
        uniques.find(&rows);
        uniques.retain_counting(&rows, Some(&[0, 0, 1]));
        assert_eq!(uniques.slots(), [7]);
        assert_eq!(uniques.first_rows(), [2]);
    }
}
