//! How a transaction ended, read from the log of the partitions that it wrote to. Decisions only.
//!
//! ```text
//!   range that was written -> read_committed fetch at its begin -> [`Seen`] -> [`outcome`] of that partition
//!                                ^                                                |
//!                                '---- retention has removed the begin: from there'
//! ```
//!
//! Brokers forget how a transactional id's last but one transaction ended; the log keeps it as long as the records. Invariant: nothing
//! is taken as committed but what shows the transaction's own batches behind a decision, or what retention has removed.

use super::record_batch::ProducerIdentity;
use super::transaction::Range;

/// Where a batch begins, and who wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchHead {
    pub(crate) base_offset: i64,
    pub(crate) producer: ProducerIdentity,
}

impl BatchHead {
    /// From a record batch's header, if it is all there.
    pub(crate) fn of(records: &[u8]) -> Option<Self> {
        let long = |at: usize| Some(i64::from_be_bytes(records.get(at..at + 8)?.try_into().ok()?));
        let epoch = records.get(51..53)?.try_into().ok()?;
        Some(Self {
            base_offset: long(0)?,
            producer: ProducerIdentity {
                id: long(43)?,
                epoch: i16::from_be_bytes(epoch),
            },
        })
    }
}

/// What a read_committed fetch shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LogView {
    /// Before this all is acknowledged by all replicas, as what a checkpoint holds was.
    pub(crate) high_watermark: i64,
    /// Before this every transaction is concluded.
    pub(crate) last_stable_offset: i64,
    /// Producer and first offset of the aborted transactions from there on.
    pub(crate) aborted: Vec<(i64, i64)>,
    /// The first batch, also one of an aborted transaction.
    pub(crate) first: Option<BatchHead>,
}

/// What the brokers show of a partition from an offset on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    Log(LogView),
    /// The offset isn't in the log, which holds these, the last one exclusive.
    OutOfRange {
        start: i64,
        end: i64,
    },
}

/// What became of a transaction in one partition. All its partitions end alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Committed,
    Aborted,
    /// It isn't concluded, or one before it is not: ask again.
    Pending,
    /// The log ends before it; in words. A leader that is new may not know yet what all replicas have: ask again, and if that stays so its
    /// records aren't there.
    Behind(String),
    /// Retention has removed the begin of what it wrote: ask from here on.
    LookFrom(i64),
    /// Retention has removed all that it wrote here: nobody can tell, and nobody can read it.
    Removed,
    /// Something else is where it wrote; in words.
    Unclear(String),
}

/// What the log says of the transaction of this producer that wrote `range`, looked at from `from`: the range's begin, or where the log
/// begins now.
pub(crate) fn outcome(producer: ProducerIdentity, range: &Range, from: i64, seen: &Seen) -> Outcome {
    let log = match seen {
        Seen::OutOfRange { start, .. } if *start > range.last => return Outcome::Removed,
        Seen::OutOfRange { start, .. } if *start > from => return Outcome::LookFrom(*start),
        Seen::OutOfRange { start, end } => {
            return Outcome::Unclear(format!(
                "partition {} holds offsets {start} to {end} only, so it was made anew or has lost records",
                range.partition
            ));
        }
        Seen::Log(log) => log,
    };
    if log.high_watermark <= from {
        return Outcome::Behind(format!(
            "partition {} ends at offset {}, so it was made anew or has lost records",
            range.partition, log.high_watermark
        ));
    }
    if log.last_stable_offset <= from {
        return Outcome::Pending;
    }
    // A producer's transactions don't overlap: one before this ended before it, and isn't listed.
    if log
        .aborted
        .iter()
        .any(|(id, first)| *id == producer.id && *first <= from)
    {
        return Outcome::Aborted;
    }
    match log.first {
        // compaction may have removed the first batches
        Some(head) if head.producer == producer && (range.first..=range.last).contains(&head.base_offset) => {
            Outcome::Committed
        }
        Some(head) => Outcome::Unclear(format!(
            "in partition {} lies another producer's batch at offset {} where it wrote",
            range.partition, head.base_offset
        )),
        None => Outcome::Unclear(format!(
            "partition {} has no record where it wrote",
            range.partition
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRODUCER: ProducerIdentity = ProducerIdentity { id: 7, epoch: 3 };
    const RANGE: Range = Range {
        partition: 2,
        first: 40,
        last: 49,
    };

    fn log() -> LogView {
        LogView {
            high_watermark: 120,
            last_stable_offset: 100,
            first: Some(BatchHead {
                base_offset: 40,
                producer: PRODUCER,
            }),
            aborted: Vec::new(),
        }
    }

    fn ended(log: LogView) -> Outcome {
        outcome(PRODUCER, &RANGE, RANGE.first, &Seen::Log(log))
    }

    fn out_of_range(start: i64, end: i64) -> Outcome {
        outcome(PRODUCER, &RANGE, RANGE.first, &Seen::OutOfRange { start, end })
    }

    fn with_first(base_offset: i64, producer: ProducerIdentity) -> LogView {
        let first = Some(BatchHead {
            base_offset,
            producer,
        });
        LogView { first, ..log() }
    }

    #[test]
    fn behind_a_decision_its_own_batches_are_committed_unless_they_are_listed_as_aborted() {
        assert_eq!(ended(log()), Outcome::Committed);
        let aborted = |aborted| LogView { aborted, ..log() };
        assert_eq!(ended(aborted(vec![(6, 40), (7, 40)])), Outcome::Aborted);
        assert_eq!(
            ended(aborted(vec![(7, 38)])),
            Outcome::Aborted,
            "its first batch's offset was not told"
        );
        assert_eq!(
            ended(aborted(vec![(7, 60), (6, 40)])),
            Outcome::Committed,
            "a later one of the producer, and another producer's"
        );
        let last_stable_offset = 40;
        assert_eq!(
            ended(LogView {
                last_stable_offset,
                ..log()
            }),
            Outcome::Pending
        );
    }

    #[test]
    fn a_log_that_ends_before_it_is_no_log_in_which_it_is_open() {
        let (high_watermark, last_stable_offset) = (40, 40);
        let view = LogView {
            high_watermark,
            last_stable_offset,
            first: None,
            aborted: Vec::new(),
        };
        assert!(matches!(ended(view), Outcome::Behind(_)));
    }

    #[test]
    fn what_compaction_has_left_of_its_batches_is_enough() {
        assert_eq!(ended(with_first(47, PRODUCER)), Outcome::Committed);
    }

    #[test]
    fn another_transactions_batch_in_its_place_is_never_taken_for_it() {
        let next = ProducerIdentity { epoch: 4, ..PRODUCER };
        let other = ProducerIdentity { id: 8, ..PRODUCER };
        let views = [
            with_first(40, next),
            with_first(40, other),
            with_first(50, PRODUCER),
            LogView { first: None, ..log() },
        ];
        for view in views {
            assert!(matches!(ended(view.clone()), Outcome::Unclear(_)), "{view:?}");
        }
    }

    #[test]
    fn records_are_removed_only_if_the_log_begins_behind_them() {
        assert_eq!(out_of_range(50, 60), Outcome::Removed);
        assert_eq!(out_of_range(49, 60), Outcome::LookFrom(49));
        let from_there = outcome(PRODUCER, &RANGE, 49, &Seen::Log(with_first(49, PRODUCER)));
        assert_eq!(from_there, Outcome::Committed);
        for (start, end) in [(0, 0), (0, 39), (40, 40)] {
            assert!(
                matches!(out_of_range(start, end), Outcome::Unclear(_)),
                "{start}..{end}"
            );
        }
    }

    #[test]
    fn a_batchs_header_tells_where_it_begins_and_who_wrote_it() {
        let mut header = vec![0; 61];
        header[..8].copy_from_slice(&40_i64.to_be_bytes());
        header[43..51].copy_from_slice(&7_i64.to_be_bytes());
        header[51..53].copy_from_slice(&3_i16.to_be_bytes());
        assert_eq!(BatchHead::of(&header), log().first);
        assert_eq!(BatchHead::of(&header[..52]), None);
    }
}
