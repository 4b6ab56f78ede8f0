//! Which job holds which slot of which TaskManager, and who waits for how many. Pure.
//!
//! A job declares how many slots it needs; it gets them all at once or waits ("all or none": half a job does nothing but hold
//! what another could use). Waiting jobs are served in the order in which they asked, and one that fits may overtake one
//! that does not, as in Flink. A job may say where it had better be: it gets those slots that are free, then others of the same
//! TaskManagers, and only for the rest [`LoadBalance`] decides.

use std::collections::BTreeMap;

use thalweg_types::{JobId, TaskManagerId};

/// One slot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SlotId {
    pub(crate) task_manager: TaskManagerId,
    /// From 0.
    pub(crate) index: u32,
}

/// Which free slots are taken first: `taskmanager.load-balance.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum LoadBalance {
    /// Those of the TaskManager that came first, until it is full. Flink's NONE.
    #[default]
    None,
    /// Those of the TaskManager that is used least. Flink's SLOTS; TASKS is taken as this.
    Slots,
}

#[derive(Debug)]
struct Offered {
    /// Order of registration.
    order: u64,
    owners: Vec<Option<JobId>>,
}

impl Offered {
    fn used(&self) -> usize {
        self.owners.iter().flatten().count()
    }

    fn free(&self) -> usize {
        self.owners.len() - self.used()
    }

    /// Its first free slot.
    fn take(&mut self, id: &TaskManagerId, job: JobId) -> Option<SlotId> {
        let index = self.owners.iter().position(Option::is_none)?;
        self.owners[index] = Some(job);
        Some(SlotId {
            task_manager: id.clone(),
            index: index as u32,
        })
    }
}

#[derive(Debug)]
struct Waiting {
    job: JobId,
    slots: u32,
    preferred: Vec<SlotId>,
}

/// All slots.
#[derive(Debug, Default)]
pub(crate) struct SlotPool {
    mode: LoadBalance,
    registrations: u64,
    offered: BTreeMap<TaskManagerId, Offered>,
    waiting: Vec<Waiting>,
}

impl SlotPool {
    pub(crate) fn new(mode: LoadBalance) -> Self {
        Self {
            mode,
            ..Self::default()
        }
    }

    /// Slots of a new TaskManager.
    pub(crate) fn add(&mut self, task_manager: TaskManagerId, slots: u32) {
        self.registrations += 1;
        let offered = Offered {
            order: self.registrations,
            owners: vec![None; slots as usize],
        };
        self.offered.insert(task_manager, offered);
    }

    /// A job has these slots already: its worker runs there. Those that another has stay as they are.
    pub(crate) fn hold(&mut self, job: JobId, task_manager: &TaskManagerId, slots: &[u32]) {
        let Some(offered) = self.offered.get_mut(task_manager) else {
            return;
        };
        for slot in slots {
            if let Some(owner @ None) = offered.owners.get_mut(*slot as usize) {
                *owner = Some(job);
            }
        }
    }

    /// Forgets a TaskManager's slots; the jobs that held some find out by their own list.
    pub(crate) fn remove(&mut self, task_manager: &TaskManagerId) {
        self.offered.remove(task_manager);
    }

    /// Asks for more slots, over those that the job holds; replaces an earlier wish. `preferred`: where it had better be.
    pub(crate) fn declare(&mut self, job: JobId, slots: u32, preferred: Vec<SlotId>) {
        self.waiting.retain(|waiting| waiting.job != job);
        if slots > 0 {
            self.waiting.push(Waiting {
                job,
                slots,
                preferred,
            });
        }
    }

    /// Gives slots to every waiting job whose wish can be met whole.
    pub(crate) fn grant(&mut self) -> Vec<(JobId, Vec<SlotId>)> {
        let mut granted = Vec::new();
        for waiting in std::mem::take(&mut self.waiting) {
            if waiting.slots > self.free() {
                self.waiting.push(waiting);
                continue;
            }
            let mut slots = self.take_preferred(&waiting);
            let rest = waiting.slots - slots.len() as u32;
            slots.extend((0..rest).filter_map(|_| self.take_one(waiting.job)));
            granted.push((waiting.job, slots));
        }
        granted
    }

    /// First the very slots, then others of their TaskManagers.
    fn take_preferred(&mut self, waiting: &Waiting) -> Vec<SlotId> {
        let (most, mut taken, mut elsewhere) = (waiting.slots as usize, Vec::new(), Vec::new());
        for slot in waiting.preferred.iter().take(most) {
            if let Some(offered) = self.offered.get_mut(&slot.task_manager)
                && let Some(owner @ None) = offered.owners.get_mut(slot.index as usize)
            {
                *owner = Some(waiting.job);
                taken.push(slot.clone());
            } else {
                elsewhere.push(&slot.task_manager);
            }
        }
        for task_manager in elsewhere {
            let offered = self.offered.get_mut(task_manager);
            taken.extend(offered.and_then(|offered| offered.take(task_manager, waiting.job)));
        }
        taken
    }

    fn take_one(&mut self, job: JobId) -> Option<SlotId> {
        let candidates = self.offered.iter_mut().filter(|(_, offered)| offered.free() > 0);
        let (id, offered) = match self.mode {
            LoadBalance::None => candidates.min_by_key(|(_, offered)| offered.order),
            LoadBalance::Slots => {
                // used / slots, compared without division; ties go to the one that came first
                candidates.min_by(|(_, a), (_, b)| {
                    let share = |this: &Offered, other: &Offered| this.used() * other.owners.len();
                    share(a, b).cmp(&share(b, a)).then(a.order.cmp(&b.order))
                })
            }
        }?;
        offered.take(id, job)
    }

    /// Takes everything back from a job and forgets its wish.
    pub(crate) fn release(&mut self, job: JobId) {
        self.waiting.retain(|waiting| waiting.job != job);
        for owner in self.offered.values_mut().flat_map(|offered| &mut offered.owners) {
            if *owner == Some(job) {
                *owner = None;
            }
        }
    }

    /// Takes some slots back from a job.
    pub(crate) fn release_slots(&mut self, job: JobId, slots: &[SlotId]) {
        for slot in slots {
            let offered = self.offered.get_mut(&slot.task_manager);
            let owner = offered.and_then(|offered| offered.owners.get_mut(slot.index as usize));
            if let Some(owner) = owner.filter(|owner| **owner == Some(job)) {
                *owner = None;
            }
        }
    }

    /// All slots.
    pub(crate) fn total(&self) -> u32 {
        self.offered
            .values()
            .map(|offered| offered.owners.len() as u32)
            .sum()
    }

    /// Those of no job.
    pub(crate) fn free(&self) -> u32 {
        self.offered.values().map(|offered| offered.free() as u32).sum()
    }

    /// Those of no job on one TaskManager.
    pub(crate) fn free_on(&self, task_manager: &TaskManagerId) -> u32 {
        self.offered
            .get(task_manager)
            .map_or(0, |offered| offered.free() as u32)
    }

    /// The jobs on one TaskManager, slot by slot.
    pub(crate) fn owners_on(&self, task_manager: &TaskManagerId) -> &[Option<JobId>] {
        self.offered
            .get(task_manager)
            .map_or(&[], |offered| &offered.owners)
    }

    /// Why a waiting job has no slots yet, in words; nothing if it does not wait. `held` are those that it has.
    pub(crate) fn waiting_for(&self, job: JobId, held: u32) -> Option<String> {
        let waiting = self.waiting.iter().find(|waiting| waiting.job == job)?;
        let required = waiting.slots + held;
        let missing = waiting.slots.saturating_sub(self.free());
        Some(format!(
            "{missing} of {required} slots: {} TaskManagers offer {} slots, {} of them are free",
            self.offered.len(),
            self.total(),
            self.free()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: JobId = JobId([1; 16]);
    const B: JobId = JobId([2; 16]);

    fn tm(name: &str) -> TaskManagerId {
        TaskManagerId(name.to_owned())
    }

    fn pool(mode: LoadBalance, offers: &[(&str, u32)]) -> SlotPool {
        let mut pool = SlotPool::new(mode);
        for (name, slots) in offers {
            pool.add(tm(name), *slots);
        }
        pool
    }

    fn names(granted: &[(JobId, Vec<SlotId>)]) -> Vec<String> {
        let slots = granted.iter().flat_map(|(_, slots)| slots);
        slots
            .map(|slot| format!("{}/{}", slot.task_manager, slot.index))
            .collect()
    }

    #[test]
    fn by_default_the_first_task_manager_is_filled_first() {
        let mut pool = pool(LoadBalance::None, &[("z", 2), ("a", 2)]);
        pool.declare(A, 3, Vec::new());
        assert_eq!(names(&pool.grant()), ["z/0", "z/1", "a/0"]);
    }

    #[test]
    fn balanced_the_least_used_goes_first_whatever_its_size() {
        let mut pool = pool(LoadBalance::Slots, &[("big", 4), ("small", 2)]);
        pool.declare(A, 3, Vec::new());
        assert_eq!(names(&pool.grant()), ["big/0", "small/0", "big/1"]);
    }

    #[test]
    fn a_job_gets_all_or_nothing_and_says_what_it_waits_for() {
        let mut pool = pool(LoadBalance::None, &[("a", 2)]);
        pool.declare(A, 4, Vec::new());
        assert!(pool.grant().is_empty());
        let expected = "2 of 4 slots: 1 TaskManagers offer 2 slots, 2 of them are free";
        assert_eq!(pool.waiting_for(A, 0).as_deref(), Some(expected));
        assert_eq!(pool.free(), 2, "nothing is held while it waits");
        pool.add(tm("b"), 2);
        assert_eq!(names(&pool.grant()), ["a/0", "a/1", "b/0", "b/1"]);
        assert_eq!(pool.waiting_for(A, 4), None);
    }

    #[test]
    fn a_smaller_job_overtakes_one_that_does_not_fit() {
        let mut pool = pool(LoadBalance::None, &[("a", 2)]);
        pool.declare(A, 3, Vec::new());
        pool.declare(B, 1, Vec::new());
        assert_eq!(pool.grant().iter().map(|(job, _)| *job).collect::<Vec<_>>(), [B]);
    }

    #[test]
    fn slots_return_when_the_job_ends() {
        let mut pool = pool(LoadBalance::None, &[("a", 2)]);
        pool.declare(A, 2, Vec::new());
        pool.grant();
        pool.declare(B, 1, Vec::new());
        assert!(pool.grant().is_empty());
        pool.release(A);
        assert_eq!(names(&pool.grant()), ["a/0"]);
        assert_eq!((pool.total(), pool.free(), pool.free_on(&tm("a"))), (2, 1, 1));
    }

    fn preferring(names: &[&str]) -> Vec<SlotId> {
        let slot = |name: &&str| {
            let (task_manager, index) = name.split_once('/').unwrap();
            SlotId {
                task_manager: tm(task_manager),
                index: index.parse().unwrap(),
            }
        };
        names.iter().map(slot).collect()
    }

    #[test]
    fn a_job_gets_the_slots_that_it_prefers_before_others_whatever_the_mode() {
        for mode in [LoadBalance::None, LoadBalance::Slots] {
            let mut pool = pool(mode, &[("a", 2), ("b", 2)]);
            pool.declare(A, 2, preferring(&["b/1"]));
            assert_eq!(names(&pool.grant()), ["b/1", "a/0"]);
        }
    }

    #[test]
    fn else_others_of_the_same_task_managers_and_those_that_are_gone_do_not_count() {
        let mut pool = pool(LoadBalance::None, &[("a", 3), ("b", 2)]);
        pool.declare(B, 1, preferring(&["b/0"]));
        pool.grant();
        pool.declare(A, 3, preferring(&["gone/0", "b/0", "b/7"]));
        assert_eq!(names(&pool.grant()), ["b/1", "a/0", "a/1"]);
    }

    #[test]
    fn a_preference_gives_no_more_slots_than_were_asked_for() {
        let mut pool = pool(LoadBalance::None, &[("a", 3)]);
        pool.declare(A, 1, preferring(&["a/2", "a/1"]));
        assert_eq!(names(&pool.grant()), ["a/2"]);
        assert_eq!(pool.free(), 2);
    }

    #[test]
    fn slots_that_a_job_has_already_are_not_given_to_another_until_it_releases_them() {
        let mut pool = pool(LoadBalance::None, &[("a", 2)]);
        pool.hold(A, &tm("a"), &[1, 7]);
        pool.hold(B, &tm("a"), &[1]);
        pool.declare(B, 2, Vec::new());
        assert!(pool.grant().is_empty());
        pool.release(A);
        assert_eq!(names(&pool.grant()), ["a/0", "a/1"]);
    }

    #[test]
    fn slots_of_a_lost_task_manager_are_gone() {
        let mut pool = pool(LoadBalance::None, &[("a", 2), ("b", 1)]);
        pool.remove(&tm("a"));
        assert_eq!((pool.total(), pool.free()), (1, 1));
    }
}
