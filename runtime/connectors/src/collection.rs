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
        let share = share(self.rows.num_rows() as u64, context.subtask, context.parallelism);
        Ok(Box::new(CollectionReader {
            rows: self.rows.clone(),
            left: share.start as usize..share.end as usize,
        }))
    }
}

struct CollectionReader {
    rows: RecordBatch,
    left: Range<usize>,
}

impl SourceReader for CollectionReader {
    fn poll_next(&mut self, _cx: &mut Context<'_>) -> Poll<Result<SourceEvent, ConnectorError>> {
        if self.left.is_empty() {
            return Poll::Ready(Ok(SourceEvent::EndOfInput));
        }
        let length = self.left.len().min(TARGET_BATCH_ROWS);
        let batch = StreamBatch::new(self.rows.slice(self.left.start, length));
        self.left.start += length;
        Poll::Ready(Ok(SourceEvent::Batch(batch)))
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
    use crate::testing::{batch_of, context_of, drain};

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
}
