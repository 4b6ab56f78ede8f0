//! Counting with state of our own choice.

use std::marker::PhantomData;

use thalweg_api::prelude::*;

use crate::key::Key;

/// A count a key.
#[derive(Clone)]
pub(crate) struct Count<K> {
    count: ValueState<i64>,
    key: PhantomData<fn() -> K>,
}

impl<K> Default for Count<K> {
    fn default() -> Self {
        Self {
            count: ValueState::default(),
            key: PhantomData,
        }
    }
}

impl<K: Key> KeyedProcessFunction for Count<K> {
    type Key = K;
    type In = (K, i64);
    type Out = (K, i64);

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        self.count = ctx.get_state("count");
        Ok(())
    }

    fn process(
        &mut self,
        (key, one): RecordRef<'_, (K, i64)>,
        ctx: &mut Context<'_, K>,
        out: &mut Collector<(K, i64)>,
    ) -> Result<(), UserError> {
        let count = self.count.get_or_insert_with(ctx, || 0);
        *count += one;
        out.collect((key, *count));
        Ok(())
    }
}

/// A count and bytes a key; each record writes all of them anew, with what nothing can compress.
#[derive(Clone)]
pub(crate) struct CountWithPayload<K> {
    state: ValueState<(i64, Vec<u8>)>,
    value_bytes: usize,
    random: Random,
    key: PhantomData<fn() -> K>,
}

impl<K> CountWithPayload<K> {
    pub(crate) fn new(value_bytes: usize) -> Self {
        Self {
            state: ValueState::default(),
            value_bytes,
            random: Random::default(),
            key: PhantomData,
        }
    }
}

impl<K: Key> KeyedProcessFunction for CountWithPayload<K> {
    type Key = K;
    type In = (K, i64);
    type Out = (K, i64);

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        self.state = ctx.get_state("count");
        Ok(())
    }

    fn process(
        &mut self,
        (key, one): RecordRef<'_, (K, i64)>,
        ctx: &mut Context<'_, K>,
        out: &mut Collector<(K, i64)>,
    ) -> Result<(), UserError> {
        let value_bytes = self.value_bytes;
        let (count, payload) = self.state.get_or_insert_with(ctx, || (0, vec![0; value_bytes]));
        *count += one;
        self.random.fill(payload);
        out.collect((key, *count));
        Ok(())
    }
}

/// Marsaglia's xorshift: cheap, and the same in Java.
#[derive(Clone, Copy)]
struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl Random {
    /// Fills whole words; what is left of the bytes stays as it is.
    fn fill(&mut self, bytes: &mut [u8]) {
        for word in bytes.chunks_exact_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            word.copy_from_slice(&self.0.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_differ_from_each_other_and_within() {
        let (mut random, mut first, mut second) = (Random::default(), [0; 24], [0; 24]);
        random.fill(&mut first);
        random.fill(&mut second);
        let words: std::collections::HashSet<&[u8]> =
            first.chunks_exact(8).chain(second.chunks_exact(8)).collect();
        assert_eq!(words.len(), 6);
    }
}
