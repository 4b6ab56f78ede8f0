//! Key groups: the unit in which keyed state is assigned to subtasks. Flink's KeyGroupRangeAssignment.

/// A contiguous range of key groups, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyGroupRange {
    /// The first.
    pub start: u32,
    /// The last.
    pub end: u32,
}

/// The largest max parallelism, 2^15.
pub const MAX_MAX_PARALLELISM: u32 = 1 << 15;

impl KeyGroupRange {
    /// The range of one subtask.
    pub fn of_subtask(subtask: u32, parallelism: u32, max_parallelism: u32) -> Self {
        let bound = |index: u32| (index * max_parallelism).div_ceil(parallelism);
        Self {
            start: bound(subtask),
            end: bound(subtask + 1) - 1,
        }
    }

    /// Whether it holds this key group.
    pub fn contains(&self, key_group: u32) -> bool {
        (self.start..=self.end).contains(&key_group)
    }
}

/// The key group of a key hash.
pub fn key_group(key_hash: u64, max_parallelism: u32) -> u32 {
    (key_hash % u64::from(max_parallelism)) as u32
}

/// The subtask that owns a key group.
pub fn subtask_of_key_group(key_group: u32, parallelism: u32, max_parallelism: u32) -> u32 {
    key_group * parallelism / max_parallelism
}

/// Flink's default for a parallelism: the next power of two of 1.5 times it, at least 128 and at most 2^15.
pub fn default_max_parallelism(parallelism: u32) -> u32 {
    (parallelism + parallelism / 2)
        .next_power_of_two()
        .clamp(128, MAX_MAX_PARALLELISM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_contiguous_and_agree_with_the_owner_of_each_group() {
        for (parallelism, max_parallelism) in [(1, 128), (3, 128), (7, 10), (128, 128), (5, 32_768)] {
            let mut next = 0;
            for subtask in 0..parallelism {
                let range = KeyGroupRange::of_subtask(subtask, parallelism, max_parallelism);
                assert_eq!(range.start, next);
                for group in range.start..=range.end {
                    assert_eq!(subtask_of_key_group(group, parallelism, max_parallelism), subtask);
                }
                next = range.end + 1;
            }
            assert_eq!(next, max_parallelism);
        }
    }

    #[test]
    fn the_default_is_flinks() {
        assert_eq!(
            [1, 85, 86, 171, 30_000].map(default_max_parallelism),
            [128, 128, 256, 256, 32_768]
        );
    }
}
