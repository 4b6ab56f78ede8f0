//! Merges runs in the background, so that a key is looked for in few of them.
//!
//! ```text
//!   runs by age:  [ 400 MB ] [ 90 ] [ 30 ] [ 25 ] [ 22 ]     runs of like size become one; the oldest drops what isn't there any more
//!                                   \---------- 1 ------/
//! ```
//!
//! Bounded: a few pages of each run are held, and a bloom filter and an index are made.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::DefaultHashBuilder;

use super::codec::accessed_of;
use super::folder::LocalFolder;
use super::merge::MergedRuns;
use super::page::{Entry, put_row, rows_of};
use super::run::{LocalRun, RunWriter};
use crate::StateError;

/// The first file of those that should be merged with all newer ones, by their sizes, oldest first: at least `least`, none of which is larger
/// than all newer ones together. So a byte is written about as often as `least` goes into the number of files, as a power.
pub(crate) fn first_to_merge(sizes: &[u64], least: usize) -> Option<usize> {
    let mut from = sizes.len();
    let mut newer = 0;
    while from > 0 && (sizes.len() - from < 2 || sizes[from - 1] <= newer) {
        from -= 1;
        newer += sizes[from];
    }
    (sizes.len() - from >= least).then_some(from)
}

/// What a merge needs.
pub(crate) struct CompactionInput {
    /// Neighbours, oldest first.
    pub(crate) runs: Vec<Arc<LocalRun>>,
    /// Whether nothing older is behind them.
    pub(crate) with_oldest: bool,
    pub(crate) folder: Arc<LocalFolder>,
    pub(crate) hasher: DefaultHashBuilder,
    /// By table: until when a row must have been used last to go away; `i64::MIN` if it never does.
    pub(crate) expired_until: Vec<i64>,
}

/// The runs as one; None if nothing is left, or if it was canceled.
pub(crate) fn compact(
    input: &CompactionInput,
    canceled: &AtomicBool,
) -> Result<Option<LocalRun>, StateError> {
    let keys = input.runs.iter().map(|run| run.entries()).sum();
    let mut merged = MergedRuns::new(&input.runs)?;
    let mut writer = RunWriter::new(&input.folder, &input.hasher, keys)?;
    let drops_rows = input.expired_until.iter().any(|until| *until > i64::MIN);
    let mut kept = Vec::new();
    while let Some(entry) = merged.next()? {
        if canceled.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let mut rows = entry.rows;
        if drops_rows {
            keep_rows(entry.rows, &input.expired_until, &mut kept);
            rows = &kept;
        }
        if !rows.is_empty() || !input.with_oldest {
            writer.push(Entry { key: entry.key, rows })?;
        }
    }
    writer.finish()
}

/// The rows that are not expired.
fn keep_rows(rows: &[u8], expired_until: &[i64], kept: &mut Vec<u8>) {
    kept.clear();
    for (table, row) in rows_of(rows) {
        let until = expired_until.get(table).copied().unwrap_or(i64::MIN);
        if until == i64::MIN || accessed_of(row) > until {
            put_row(kept, table, [row, &[]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_like_size_are_merged_and_each_byte_few_times() {
        assert_eq!(first_to_merge(&[10, 10, 10], 4), None);
        assert_eq!(first_to_merge(&[10, 10, 10, 10], 4), Some(0));
        assert_eq!(first_to_merge(&[1000, 10, 10, 10], 4), None);
        assert_eq!(first_to_merge(&[1000, 10, 10, 10, 10], 4), Some(1));
        let mut sizes: Vec<u64> = Vec::new();
        let (mut most, mut written) = (0, 0);
        for _ in 0..1_000 {
            sizes.push(1);
            if let Some(first) = first_to_merge(&sizes, 8) {
                let merged: u64 = sizes.drain(first..).sum();
                written += merged;
                sizes.push(merged);
            }
            most = most.max(sizes.len());
        }
        assert!(most <= 16, "{most} runs");
        assert!(written <= 4_000, "{written} written for 1000");
    }
}
