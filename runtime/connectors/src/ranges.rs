//! Indices that are still to be given: the state of sources over numbered rows.
//!
//! ```text
//!   subtask 0: 3..10      restored with 3 subtasks: the ranges that are left, one behind another,
//!   subtask 1: 14..20     are shared out anew in contiguous parts
//! ```
//!
//! Invariant: over all subtasks every index is given once, whatever the parallelism was and is.

use std::collections::VecDeque;
use std::ops::Range;

use crate::collection::share;
use crate::split_state::{decode, encode};
use crate::{ConnectorContext, ConnectorError};

#[derive(Clone, PartialEq, prost::Message)]
struct RangesState {
    #[prost(message, repeated, tag = "1")]
    ranges: Vec<RangeState>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct RangeState {
    #[prost(uint64, tag = "1")]
    start: u64,
    #[prost(uint64, tag = "2")]
    end: u64,
}

/// What one subtask has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ranges {
    left: VecDeque<Range<u64>>,
    /// Given last.
    given: Range<u64>,
}

impl Ranges {
    /// A subtask's share of `0..count`, or of what was left of it.
    pub(crate) fn open(source: &str, count: u64, context: &ConnectorContext) -> Result<Self, ConnectorError> {
        let Some(restored) = &context.restored else {
            let own = share(count, context.subtask, context.parallelism);
            return Ok(Self::new([own]));
        };
        let states: Vec<RangesState> = decode(source, &restored.states)?;
        let mut left: Vec<Range<u64>> = states
            .iter()
            .flat_map(|state| state.ranges.iter().map(|range| range.start..range.end))
            .collect();
        left.sort_by_key(|range| range.start);
        Ok(Self::share_out(&left, context.subtask, context.parallelism))
    }

    fn new(ranges: impl IntoIterator<Item = Range<u64>>) -> Self {
        Self {
            left: ranges.into_iter().filter(|range| !range.is_empty()).collect(),
            given: 0..0,
        }
    }

    fn share_out(left: &[Range<u64>], subtask: u32, parallelism: u32) -> Self {
        let total = left.iter().map(|range| range.end - range.start).sum();
        let own = share(total, subtask, parallelism);
        let mut before = 0;
        let pieces = left.iter().map(|range| {
            let length = range.end - range.start;
            let from = own.start.clamp(before, before + length) - before;
            let to = own.end.clamp(before, before + length) - before;
            before += length;
            range.start + from..range.start + to
        });
        Self::new(pieces)
    }

    /// How many indices are left.
    pub(crate) fn len(&self) -> u64 {
        self.left.iter().map(|range| range.end - range.start).sum()
    }

    /// The next indices, at most so many; `None` when nothing is left. They stay until [`Self::advance`].
    pub(crate) fn next(&self, limit: u64) -> Option<Range<u64>> {
        let range = self.left.front()?;
        Some(range.start..range.end.min(range.start.saturating_add(limit)))
    }

    /// The first indices were given.
    pub(crate) fn advance(&mut self, given: u64) {
        if let Some(range) = self.left.front_mut() {
            self.given = range.start..range.start + given;
            range.start += given;
            if range.is_empty() {
                self.left.pop_front();
            }
        }
    }

    /// The indices that were given last, in words.
    pub(crate) fn position(&self) -> Option<String> {
        (!self.given.is_empty()).then(|| format!("indices {}..{}", self.given.start, self.given.end))
    }

    /// For a checkpoint.
    pub(crate) fn state(&self) -> Vec<Vec<u8>> {
        let range = |range: &Range<u64>| RangeState {
            start: range.start,
            end: range.end,
        };
        vec![encode(&RangesState {
            ranges: self.left.iter().map(range).collect(),
        })]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_left_is_shared_out_once_at_any_parallelism(
            cuts in proptest::collection::btree_set(0u64..1_000, 0..12),
            parallelism in 1u32..7,
        ) {
            let cuts: Vec<u64> = cuts.into_iter().collect();
            let left: Vec<Range<u64>> = cuts.chunks_exact(2).map(|pair| pair[0]..pair[1]).collect();
            let shares = (0..parallelism).map(|subtask| Ranges::share_out(&left, subtask, parallelism));
            let given: Vec<u64> = shares.flat_map(|share| share.left.into_iter().flatten()).collect();
            prop_assert_eq!(given, left.into_iter().flatten().collect::<Vec<_>>());
        }
    }
}
