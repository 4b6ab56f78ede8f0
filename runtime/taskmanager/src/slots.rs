//! The slot table: which job holds which slot. Pure.

use std::collections::BTreeMap;

use thalweg_types::JobId;

/// Slots of this TaskManager, numbered from 0.
#[derive(Debug)]
pub(crate) struct SlotTable {
    owners: Vec<Option<JobId>>,
}

/// A slot can't be given to the job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SlotError {
    /// No such number.
    #[error("slot {slot} does not exist: this TaskManager has {slots}")]
    Unknown {
        /// Which.
        slot: u32,
        /// How many there are.
        slots: usize,
    },
    /// Another job has it.
    #[error("slot {slot} belongs to job {owner}")]
    Taken {
        /// Which.
        slot: u32,
        /// Whose it is.
        owner: JobId,
    },
}

impl SlotTable {
    /// A table of free slots.
    pub(crate) fn new(slots: u32) -> Self {
        Self {
            owners: vec![None; slots as usize],
        }
    }

    /// Gives all these slots to the job, or none.
    pub(crate) fn allocate(&mut self, job: JobId, slots: &[u32]) -> Result<(), SlotError> {
        for &slot in slots {
            match self.owners.get(slot as usize) {
                None => {
                    return Err(SlotError::Unknown {
                        slot,
                        slots: self.owners.len(),
                    });
                }
                Some(Some(owner)) if *owner != job => return Err(SlotError::Taken { slot, owner: *owner }),
                Some(_) => {}
            }
        }
        for &slot in slots {
            self.owners[slot as usize] = Some(job);
        }
        Ok(())
    }

    /// Frees these slots, those that are the job's.
    pub(crate) fn release(&mut self, job: JobId, slots: &[u32]) {
        for &slot in slots {
            if let Some(owner) = self
                .owners
                .get_mut(slot as usize)
                .filter(|owner| **owner == Some(job))
            {
                *owner = None;
            }
        }
    }

    /// Frees the job's slots.
    pub(crate) fn free(&mut self, job: JobId) {
        for owner in &mut self.owners {
            if *owner == Some(job) {
                *owner = None;
            }
        }
    }

    /// The slots of each job.
    pub(crate) fn by_job(&self) -> BTreeMap<JobId, Vec<u32>> {
        let mut jobs = BTreeMap::<JobId, Vec<u32>>::new();
        for (slot, owner) in self.owners.iter().enumerate() {
            if let Some(job) = owner {
                jobs.entry(*job).or_default().push(slot as u32);
            }
        }
        jobs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: JobId = JobId([1; 16]);
    const B: JobId = JobId([2; 16]);

    #[test]
    fn a_slot_of_another_job_is_refused_and_nothing_is_taken() {
        let mut table = SlotTable::new(3);
        table.allocate(A, &[1]).unwrap();
        assert_eq!(
            table.allocate(B, &[0, 1]),
            Err(SlotError::Taken { slot: 1, owner: A })
        );
        assert_eq!(table.by_job(), BTreeMap::from([(A, vec![1])]));
    }

    #[test]
    fn freed_slots_can_be_taken_again() {
        let mut table = SlotTable::new(2);
        table.allocate(A, &[0, 1]).unwrap();
        table.free(A);
        table.allocate(B, &[0, 1]).unwrap();
        assert_eq!(table.by_job(), BTreeMap::from([(B, vec![0, 1])]));
    }

    #[test]
    fn a_job_gives_back_its_own_slots_only() {
        let mut table = SlotTable::new(3);
        table.allocate(A, &[0, 1]).unwrap();
        table.allocate(B, &[2]).unwrap();
        table.release(A, &[1, 2, 7]);
        assert_eq!(table.by_job(), BTreeMap::from([(A, vec![0]), (B, vec![2])]));
    }

    #[test]
    fn a_slot_that_does_not_exist_is_refused() {
        assert_eq!(
            SlotTable::new(1).allocate(A, &[1]),
            Err(SlotError::Unknown { slot: 1, slots: 1 })
        );
    }
}
