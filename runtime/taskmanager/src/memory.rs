//! One process size, shared out: a reserve for the TaskManager itself, the rest in equal parts to the slots.
//!
//! ```text
//!   process size = reserve (32 MiB + 5 %) + slots * slot share
//!   a worker's budget = its slots' shares; its allocator stops it there, the watchdog (resident set) 10 % above
//! ```

use crate::TaskManagerError;

const RESERVE_BASE: u64 = 32 << 20;
const RESERVE_PERCENT: u64 = 5;
/// A worker process alone takes this much before the first row.
const MINIMUM_SLOT: u64 = 32 << 20;
/// Used where neither configuration nor cgroup gives a limit: Flink's default distribution's.
const DEFAULT_PROCESS_SIZE: u64 = 1728 << 20;

/// How the process's memory is shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryBudget {
    /// All of it, in bytes.
    pub process: u64,
    /// A slot's part.
    pub slot: u64,
}

impl MemoryBudget {
    /// Shares out `process` bytes among `slots` slots.
    pub fn share_out(process: u64, slots: u32) -> Result<Self, TaskManagerError> {
        let reserve = RESERVE_BASE + process * RESERVE_PERCENT / 100;
        let slot = process.saturating_sub(reserve) / u64::from(slots.max(1));
        if slot < MINIMUM_SLOT {
            let needed = (MINIMUM_SLOT * u64::from(slots) + RESERVE_BASE) * 100 / (100 - RESERVE_PERCENT) + 1;
            return Err(TaskManagerError::MemoryTooSmall {
                process,
                slots,
                slot,
                minimum: MINIMUM_SLOT,
                needed,
            });
        }
        Ok(Self { process, slot })
    }

    /// What a worker with this many slots may allocate.
    pub fn worker(&self, slots: usize) -> u64 {
        self.slot * slots as u64
    }

    /// The resident set at which the watchdog ends a worker of this budget.
    pub fn watchdog_limit(worker_budget: u64) -> u64 {
        worker_budget + worker_budget / 10
    }
}

/// The process size: what is configured, else the container's limit, else Flink's default.
pub(crate) fn process_size(configured: Option<u64>) -> u64 {
    configured.or_else(cgroup_limit).unwrap_or(DEFAULT_PROCESS_SIZE)
}

fn cgroup_limit() -> Option<u64> {
    const UNLIMITED_FROM: u64 = 1 << 50;
    [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ]
    .iter()
    .find_map(|path| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok())
    .filter(|limit| *limit < UNLIMITED_FROM)
}

/// The resident set of a process in bytes; `None` when it is gone.
pub(crate) fn resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_share_what_is_left_of_the_reserve() {
        let budget = MemoryBudget::share_out(1 << 30, 4).unwrap();
        assert_eq!(
            budget.slot,
            ((1u64 << 30) - (32 << 20) - (1u64 << 30) * 5 / 100) / 4
        );
        assert_eq!(budget.worker(2), budget.slot * 2);
    }

    #[test]
    fn too_little_memory_names_the_option_and_what_would_do() {
        let error = MemoryBudget::share_out(64 << 20, 2).unwrap_err();
        let TaskManagerError::MemoryTooSmall { needed, .. } = error else {
            panic!("{error}")
        };
        assert!(error.to_string().contains("taskmanager.memory.process.size"));
        assert!(MemoryBudget::share_out(needed, 2).is_ok(), "{needed} must do");
    }

    #[test]
    fn this_process_has_a_resident_set() {
        assert!(resident_bytes(std::process::id()).is_some_and(|bytes| bytes > 0));
    }
}
