//! Whether a run may have a key: a bloom filter whose bits of a key lie in one cache line.

/// Bits a key: about one key in a hundred is looked for in vain.
const BITS_PER_KEY: usize = 10;
/// Bits that a key sets.
const PROBES: u32 = 6;
/// Words of one cache line.
const LINE_WORDS: usize = 8;

pub(crate) struct BloomFilter {
    words: Vec<u64>,
}

impl BloomFilter {
    /// Room for so many keys.
    pub(crate) fn new(keys: usize) -> Self {
        let lines = (keys * BITS_PER_KEY).div_ceil(64 * LINE_WORDS).max(1);
        Self {
            words: vec![0; lines * LINE_WORDS],
        }
    }

    pub(crate) fn insert(&mut self, hash: u64) {
        let line = self.line(hash);
        for bit in bits(hash) {
            self.words[line + bit / 64] |= 1 << (bit % 64);
        }
    }

    /// False if the key is not there.
    #[inline]
    pub(crate) fn may_hold(&self, hash: u64) -> bool {
        let line = self.line(hash);
        bits(hash).all(|bit| self.words[line + bit / 64] & (1 << (bit % 64)) != 0)
    }

    /// The upper half of the hash picks the line, the lower half the bits.
    #[inline]
    fn line(&self, hash: u64) -> usize {
        let lines = (self.words.len() / LINE_WORDS) as u64;
        (((hash >> 32) * lines) >> 32) as usize * LINE_WORDS
    }

    pub(crate) fn memory_size(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }
}

#[inline]
fn bits(hash: u64) -> impl Iterator<Item = usize> {
    let (start, step) = (hash as u32, (hash as u32).rotate_left(16) | 1);
    (0..PROBES).map(move |probe| {
        let mixed = start
            .wrapping_add(probe.wrapping_mul(step))
            .wrapping_mul(0x9E37_79B1);
        (mixed >> 23) as usize
    })
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use hashbrown::DefaultHashBuilder;

    use super::*;

    #[test]
    fn every_key_that_is_there_is_found_and_few_others_are() {
        let hasher = DefaultHashBuilder::default();
        let mut bloom = BloomFilter::new(100_000);
        (0..100_000_u64).for_each(|key| bloom.insert(hasher.hash_one(key)));
        assert!((0..100_000_u64).all(|key| bloom.may_hold(hasher.hash_one(key))));
        let others = 100_000..200_000_u64;
        let in_vain = others.filter(|key| bloom.may_hold(hasher.hash_one(key))).count();
        assert!(in_vain < 3_000, "{in_vain} of 100000");
        assert!(bloom.memory_size() < 130_000);
    }

    #[test]
    fn a_filter_of_nothing_is_not_empty_memory() {
        let bloom = BloomFilter::new(0);
        assert!(!bloom.may_hold(7));
    }
}
