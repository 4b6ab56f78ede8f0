//! The hash of a key and a window, for state that has a row for each window of a key.
//!
//! Key groups must stay those of the key without the window, or a row and its state would be in different subtasks after a rescale. So
//! the hash of key and window is mixed, then moved to the key group: an index is not crowded by the many windows of one key.
//!
//! The hash is stored: its definition never changes.

/// The hash of a key (by its own hash) and a window (by a time of it), in the key group of the key.
#[inline]
pub fn hash(key_hash: u64, window: i64, max_parallelism: u32) -> u64 {
    let groups = u64::from(max_parallelism.max(1));
    let mixed = mix(key_hash ^ mix(window as u64));
    let base = mixed - mixed % groups;
    let group = key_hash % groups;
    base.checked_add(group).unwrap_or(base - groups + group)
}

/// The finalizer of splitmix64.
#[inline]
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key_group::key_group;

    #[test]
    fn windows_of_a_key_stay_in_its_key_group() {
        let edges = [0, 1, 127, 128, u64::MAX / 2, u64::MAX - 1, u64::MAX];
        let keys = edges.into_iter().chain((0..500).map(mix));
        for (key_hash, window) in
            keys.flat_map(|key| [i64::MIN, -1, 0, 7_000, i64::MAX].map(|window| (key, window)))
        {
            for max_parallelism in [1, 2, 127, 128, 1_000, 32_768] {
                let group = key_group(hash(key_hash, window, max_parallelism), max_parallelism);
                assert_eq!(group, key_group(key_hash, max_parallelism));
            }
        }
    }

    #[test]
    fn windows_of_a_key_have_different_hashes() {
        let mut hashes: Vec<u64> = (0..10_000).map(|window| hash(7, window * 1_000, 128)).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 10_000);
    }

    #[test]
    fn the_stored_hash_never_changes() {
        assert_eq!(hash(0, 0, 128), hash(0, 0, 128));
        assert_eq!(hash(u64::MAX, i64::MAX, 128) % 128, u64::MAX % 128);
        assert_eq!(mix(0), 0xE220_A839_7B1D_CDAF);
    }
}
