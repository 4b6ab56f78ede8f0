//! The order in which `java.util.HashMap` of strings gives its entries: results that Flink makes with one have it.

/// `String.hashCode`.
fn hash_code(text: &str) -> i32 {
    text.encode_utf16()
        .fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(unit.into()))
}

/// Entries in their buckets' order, those of a bucket as they came. The map was made for `capacity` entries.
pub(super) fn hash_order<'a, T>(mut entries: Vec<T>, capacity: usize, key: impl Fn(&T) -> &'a str) -> Vec<T> {
    let mut buckets = capacity.max(1).next_power_of_two();
    while entries.len() * 4 > buckets * 3 {
        buckets *= 2;
    }
    entries.sort_by_cached_key(|entry| {
        let hash = hash_code(key(entry)) as u32;
        (hash ^ (hash >> 16)) as usize & (buckets - 1)
    });
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_stand_in_their_buckets_order() {
        let order = |keys: &[&'static str]| hash_order(keys.to_vec(), keys.len(), |key| key);
        // Two entries fill 2 buckets too much: of 4 they have the first and the second.
        assert_eq!(order(&["b", "a"]), ["a", "b"]);
        assert_eq!(hash_code("hello"), 99_162_322);
    }
}
