//! A source over rows that are given when the job is built; Flink's `fromData`.
//!
//! Rows are split among the subtasks in contiguous ranges, as Flink's number sequence is.

use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use thalweg_types::StreamBatch;
use thalweg_types::element::TARGET_BATCH_ROWS;

use crate::ranges::Ranges;
use crate::{ConnectorContext, ConnectorError, Gauge, Source, SourceEvent, SourceReader};

/// Subtask `subtask`'s share of `count` elements: contiguous, sizes differ by one at most.
pub(crate) fn share(count: u64, subtask: u32, parallelism: u32) -> Range<u64> {
    let bound = |index: u32| (u128::from(count) * u128::from(index) / u128::from(parallelism)) as u64;
    bound(subtask)..bound(subtask + 1)
}

/// Gives fixed rows, once.
#[derive(Debug, Clone)]
pub struct CollectionSource {
    rows: RecordBatch,
}

impl CollectionSource {
    /// A source of these rows.
    pub fn from_elements(rows: RecordBatch) -> Self {
        Self { rows }
    }

    /// A source of the rows of several batches; [`ConnectorError::Refused`] if their schemas differ.
    pub fn from_batches(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Self, ConnectorError> {
        let rows = concat_batches(schema, batches).map_err(|error| {
            ConnectorError::Refused(format!("the collection's batches don't fit together: {error}"))
        })?;
        Ok(Self { rows })
    }
}

impl Source for CollectionSource {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    fn kind(&self) -> &'static str {
        "CollectionSource"
    }

    fn create_reader(&self, context: ConnectorContext) -> Result<Box<dyn SourceReader>, ConnectorError> {
        let count = self.rows.num_rows() as u64;
        let left = Ranges::open(self.kind(), count, &context)?;
        if left.next(u64::MAX).is_some_and(|range| range.end > count) {
            return Err(ConnectorError::Refused(format!(
                "collection source: the checkpoint is of a collection with more than these {count} elements"
            )));
        }
        Ok(Box::new(CollectionReader {
            rows: self.rows.clone(),
            left,
        }))
    }
}

struct CollectionReader {
    rows: RecordBatch,
    left: Ranges,
}

impl SourceReader for CollectionReader {
    fn poll_next(&mut self, _cx: &mut Context<'_>) -> Poll<Result<SourceEvent, ConnectorError>> {
        let Some(range) = self.left.next(TARGET_BATCH_ROWS as u64) else {
            return Poll::Ready(Ok(SourceEvent::EndOfInput));
        };
        let length = range.end - range.start;
        let rows = self.rows.slice(range.start as usize, length as usize);
        self.left.advance(length);
        Poll::Ready(Ok(SourceEvent::Batch(StreamBatch::new(rows))))
    }

    fn snapshot(&mut self, _checkpoint_id: u64) -> Result<Vec<Vec<u8>>, ConnectorError> {
        Ok(self.left.state())
    }

    fn position(&self) -> Option<String> {
        self.left.position()
    }

    fn gauges(&self) -> Vec<Gauge> {
        vec![("pendingRecords", self.left.len() as f64)]
    }
}

/// The same schema with another allocation is the same schema.
pub(crate) fn same_schema(left: &SchemaRef, right: &SchemaRef) -> bool {
    Arc::ptr_eq(left, right) || left == right
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{batch_of, context_of, drain, next, restored_context_of};

    #[test]
    fn the_shares_of_the_subtasks_are_all_rows_once() {
        for (count, parallelism) in [(0, 3), (2, 3), (10, 4), (u64::MAX, 7)] {
            let shares = (0..parallelism)
                .map(|subtask| share(count, subtask, parallelism))
                .collect::<Vec<_>>();
            assert_eq!(shares[0].start, 0);
            assert!(shares.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert_eq!(shares[shares.len() - 1].end, count);
        }
    }

    #[test]
    fn readers_give_their_share_in_order_and_end() {
        let source = CollectionSource::from_elements(batch_of(0..10_000));
        let io = tokio::runtime::Runtime::new().unwrap();
        let read = |subtask| drain(source.create_reader(context_of(&io, subtask, 2)).unwrap());
        assert_eq!(read(0), (0..5_000).collect::<Vec<_>>());
        assert_eq!(read(1), (5_000..10_000).collect::<Vec<_>>());
    }

    #[test]
    fn restored_readers_give_what_is_left_at_another_parallelism() {
        let source = CollectionSource::from_elements(batch_of(0..10_000));
        let io = tokio::runtime::Runtime::new().unwrap();
        let mut given = Vec::new();
        let mut states = Vec::new();
        for subtask in 0..2 {
            let mut reader = source.create_reader(context_of(&io, subtask, 2)).unwrap();
            let SourceEvent::Batch(batch) = next(reader.as_mut()).unwrap() else {
                panic!("a batch is expected");
            };
            given.push(batch.num_rows());
            states.extend(reader.snapshot(1).unwrap());
        }
        let read = |subtask| {
            let context = restored_context_of(&io, subtask, 3, states.clone());
            drain(source.create_reader(context).unwrap())
        };
        let rest: Vec<i64> = (0..3).flat_map(read).collect();
        let expected = (given[0] as i64..5_000).chain(5_000 + given[1] as i64..10_000);
        assert_eq!(rest, expected.collect::<Vec<_>>());
    }
}
