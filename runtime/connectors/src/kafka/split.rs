//! Splits: which subtask reads a partition, and where it begins and ends.

use std::sync::Arc;

use crate::java_text::string_hash;

/// Stands for the first record that is still there, until it is read; Flink's and Kafka's mark.
pub const EARLIEST_OFFSET: i64 = -2;

/// One partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// Counts from 0.
    pub partition: i32,
}

/// A position in a partition: the offset of the next record, or [`EARLIEST_OFFSET`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionOffset {
    /// Which partition.
    pub partition: TopicPartition,
    /// The next record's offset.
    pub offset: i64,
}

/// The subtask that reads a partition; Flink's `KafkaSourceEnumerator.getSplitOwner`: a topic's partitions go round the
/// subtasks, each topic from another start.
pub fn split_owner(partition: &TopicPartition, parallelism: u32) -> u32 {
    let start = (string_hash(&partition.topic).wrapping_mul(31) & i32::MAX) as u32 % parallelism;
    (start + partition.partition as u32 % parallelism) % parallelism
}

/// What to do with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// It belongs to the stream.
    Take,
    /// It is the last that belongs to it.
    TakeLast,
    /// It lies behind the end: the split had ended, and this is seen only now.
    Ended,
    /// It comes after the end was seen.
    Ignore,
}

/// A split as its reader knows it.
#[derive(Debug, Clone)]
pub(crate) struct Split {
    pub(crate) partition: TopicPartition,
    /// Where reading began.
    pub(crate) start: i64,
    /// The first offset that is not read; `None` = unbounded.
    pub(crate) stop: Option<i64>,
    pub(crate) finished: bool,
}

impl Split {
    /// A split that is finished at once if nothing lies between its ends.
    pub(crate) fn new(partition: TopicPartition, start: i64, stop: Option<i64>) -> Self {
        Self {
            partition,
            start,
            stop,
            finished: stop.is_some_and(|stop| start >= stop),
        }
    }

    /// Offsets may have gaps (compaction, transaction markers): the end may be passed without being met.
    pub(crate) fn on_record(&mut self, offset: i64) -> Step {
        match self.stop {
            _ if self.finished => Step::Ignore,
            None => Step::Take,
            Some(stop) if offset < stop - 1 => Step::Take,
            Some(stop) => {
                self.finished = true;
                if offset == stop - 1 {
                    Step::TakeLast
                } else {
                    Step::Ended
                }
            }
        }
    }

    /// The broker has nothing behind the reader's position. A bounded split's end lay at or before it when it was noted,
    /// so what is missing up to the end are gaps. Returns whether the split has ended by this.
    pub(crate) fn on_partition_eof(&mut self) -> bool {
        let ends = self.stop.is_some() && !self.finished;
        self.finished |= ends;
        ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(topic: &str, partition: i32) -> TopicPartition {
        TopicPartition {
            topic: topic.into(),
            partition,
        }
    }

    #[test]
    fn partitions_go_round_the_subtasks_from_the_topics_start_as_in_flink() {
        // "topic".hashCode() * 31 & MAX = 1279466465 -> % 4 = 1
        let owners = (0..5)
            .map(|index| split_owner(&partition("topic", index), 4))
            .collect::<Vec<_>>();
        assert_eq!(owners, [1, 2, 3, 0, 1]);
        assert_eq!(split_owner(&partition("topic", 7), 1), 0);
    }

    #[test]
    fn a_bounded_split_ends_with_the_record_before_its_end() {
        let mut split = Split::new(partition("t", 0), 5, Some(8));
        assert_eq!(
            [5, 6, 7, 8].map(|offset| split.on_record(offset)),
            [Step::Take, Step::Take, Step::TakeLast, Step::Ignore]
        );
    }

    #[test]
    fn an_end_that_fell_into_a_gap_is_seen_by_the_record_behind_it() {
        let mut split = Split::new(partition("t", 0), 0, Some(8));
        assert_eq!(
            [5, 11, 12].map(|offset| split.on_record(offset)),
            [Step::Take, Step::Ended, Step::Ignore]
        );
        assert!(split.finished);
    }

    #[test]
    fn a_transaction_marker_at_the_end_is_seen_by_the_end_of_the_partition() {
        let mut split = Split::new(partition("t", 0), 0, Some(8));
        assert_eq!(split.on_record(6), Step::Take);
        assert!(split.on_partition_eof());
        assert!(!split.on_partition_eof(), "ends once");
    }

    #[test]
    fn an_empty_partition_is_finished_at_once_and_an_unbounded_one_never() {
        assert!(Split::new(partition("t", 0), 8, Some(8)).finished);
        let mut unbounded = Split::new(partition("t", 0), 8, None);
        assert!(!unbounded.on_partition_eof());
        assert_eq!(unbounded.on_record(i64::MAX), Step::Take);
    }
}
