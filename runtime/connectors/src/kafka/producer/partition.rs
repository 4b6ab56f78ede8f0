//! Which partition a row goes to: by its key as the Java client does, without a key to one partition for a while.

use crate::columns::BytesColumn;

/// The Java client's seed.
const SEED: u32 = 0x9747_b28c;
const M: u32 = 0x5bd1_e995;

/// Kafka's murmur2 (`org.apache.kafka.common.utils.Utils.murmur2`).
#[inline]
pub(crate) fn murmur2(data: &[u8]) -> u32 {
    let mut hash = SEED ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// Chooses partitions.
#[derive(Debug)]
pub(crate) struct Partitioner {
    /// Where rows without a key go for now.
    sticky: u32,
    /// Bytes that have gone there.
    sent: usize,
    /// After how many bytes another one's turn comes.
    turn: usize,
}

impl Partitioner {
    /// Rows without a key stay in a partition for `turn` bytes; `start` tells the writers apart.
    pub(crate) fn new(turn: usize, start: u32) -> Self {
        Self {
            sticky: start,
            sent: 0,
            turn,
        }
    }

    /// The partition of each of the first `rows` rows, of `partitions` there are.
    pub(crate) fn assign(
        &mut self,
        key: Option<&BytesColumn<'_>>,
        value: &BytesColumn<'_>,
        rows: usize,
        partitions: u32,
        out: &mut Vec<u32>,
    ) {
        out.clear();
        match key {
            Some(key) => out.extend((0..rows).map(|row| match key.get(row) {
                Some(key) => (murmur2(key) & 0x7fff_ffff) % partitions,
                None => self.stick(value.get(row), partitions),
            })),
            None => out.extend((0..rows).map(|row| self.stick(value.get(row), partitions))),
        }
    }

    fn stick(&mut self, value: Option<&[u8]>, partitions: u32) -> u32 {
        if self.sent >= self.turn {
            self.sticky = self.sticky.wrapping_add(1);
            self.sent = 0;
        }
        self.sent += value.map_or(0, <[u8]>::len) + super::record_batch::RECORD_OVERHEAD;
        self.sticky % partitions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::StringArray;

    #[test]
    fn murmur2_is_the_java_clients() {
        // from org.apache.kafka.common.utils.UtilsTest
        let cases: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ];
        for (key, hash) in cases {
            assert_eq!(murmur2(key) as i32, hash, "{}", String::from_utf8_lossy(key));
        }
    }

    fn assign(partitioner: &mut Partitioner, keys: &[Option<&str>]) -> Vec<u32> {
        let rows = keys.len();
        let keys = StringArray::from(keys.to_vec());
        let column = BytesColumn::of(&keys).unwrap();
        let mut out = Vec::new();
        partitioner.assign(Some(&column), &column, rows, 4, &mut out);
        out
    }

    #[test]
    fn a_key_always_has_its_partition_and_an_empty_key_is_a_key() {
        let mut partitioner = Partitioner::new(1_000_000, 3);
        let assigned = assign(
            &mut partitioner,
            &[Some("foobar"), Some(""), Some("foobar"), None],
        );
        let of = |key: &[u8]| (murmur2(key) & 0x7fff_ffff) % 4;
        assert_eq!(assigned, [of(b"foobar"), of(b""), of(b"foobar"), 3]);
    }

    #[test]
    fn rows_without_a_key_change_the_partition_after_their_turn() {
        let mut partitioner = Partitioner::new(1, 0);
        assert_eq!(
            assign(&mut partitioner, &[None, None, None, None, None]),
            [0, 1, 2, 3, 0]
        );
    }
}
