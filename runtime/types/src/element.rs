//! What flows between operators: Arrow batches with their stream columns, and control elements.
//!
//! ```text
//!   rows        | word | n |        the user's columns
//!   timestamps  |  ts      |        event time, optional
//!   key_hashes  |  u64     |        set by a keyed exchange, carried to the keyed operator
//!   kinds       |  +I -U.. |        absent = all +I
//!   watermarks  (row, ms)*          a watermark holds before that row; row = num_rows: after all of them
//! ```
//!
//! Invariants: every stream column is as long as `rows`; `watermarks` is sorted by row, then by time;
//! a batch without rows may carry watermarks.

use std::sync::Arc;

use arrow::array::{Array, Int8Array, Int64Array, RecordBatch, UInt64Array};

use crate::data_bytes::data_bytes;

/// Rows a source aims at for one batch.
pub const TARGET_BATCH_ROWS: usize = 4096;
/// Bytes a source aims at for one batch.
pub const TARGET_BATCH_BYTES: usize = 1 << 20;

/// The kind of a row in a changelog; Flink's RowKind and its byte values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum RowKind {
    /// +I
    Insert = 0,
    /// -U
    UpdateBefore = 1,
    /// +U
    UpdateAfter = 2,
    /// -D
    Delete = 3,
}

/// "No event of a time at or below `timestamp_ms` comes in row `row` or later."
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WatermarkCut {
    /// Index of the first row behind the watermark; `num_rows` = behind all rows.
    pub row: u32,
    /// Milliseconds since the epoch.
    pub timestamp_ms: i64,
}

/// A batch of rows and what the engine knows of them.
#[derive(Debug, Clone)]
pub struct StreamBatch {
    /// The rows.
    pub rows: RecordBatch,
    /// [`RowKind`] a row; `None` = all inserts.
    pub kinds: Option<Int8Array>,
    /// Event time in milliseconds since the epoch; `None` = the rows have none.
    pub timestamps: Option<Int64Array>,
    /// The hash of the row's key ([`crate::key_hash`]).
    pub key_hashes: Option<UInt64Array>,
    /// Watermarks between the rows.
    pub watermarks: Vec<WatermarkCut>,
}

impl StreamBatch {
    /// Inserts without event time, key or watermark.
    pub fn new(rows: RecordBatch) -> Self {
        Self {
            rows,
            kinds: None,
            timestamps: None,
            key_hashes: None,
            watermarks: Vec::new(),
        }
    }

    /// Number of rows.
    pub fn num_rows(&self) -> usize {
        self.rows.num_rows()
    }

    /// Bytes of its rows and stream columns: what queues, credits and budgets count. A slice counts its part.
    pub fn memory_size(&self) -> usize {
        let rows = self.num_rows();
        let columns = self.rows.columns().iter();
        columns.map(|column| data_bytes(&column.to_data())).sum::<usize>()
            + self.kinds.as_ref().map_or(0, |_| rows)
            + self.timestamps.as_ref().map_or(0, |_| rows * size_of::<i64>())
            + self.key_hashes.as_ref().map_or(0, |_| rows * size_of::<u64>())
            + self.watermarks.len() * size_of::<WatermarkCut>()
    }

    /// The same stream columns over other rows; `rows` must have as many.
    pub fn with_rows(self, rows: RecordBatch) -> Self {
        debug_assert_eq!(rows.num_rows(), self.rows.num_rows());
        Self { rows, ..self }
    }

    /// Rows `offset .. offset + length` without copying; watermarks in `[offset, end)` move along, and those
    /// at the very end of the batch stay with its last slice.
    pub fn slice(&self, offset: usize, length: usize) -> Self {
        let end = offset + length;
        let last = end == self.num_rows();
        let watermarks = self
            .watermarks
            .iter()
            .filter(|cut| {
                let row = cut.row as usize;
                row >= offset && (row < end || (last && row == end))
            })
            .map(|cut| WatermarkCut {
                row: cut.row - offset as u32,
                ..*cut
            })
            .collect();
        Self {
            rows: self.rows.slice(offset, length),
            kinds: self.kinds.as_ref().map(|column| column.slice(offset, length)),
            timestamps: self
                .timestamps
                .as_ref()
                .map(|column| column.slice(offset, length)),
            key_hashes: self
                .key_hashes
                .as_ref()
                .map(|column| column.slice(offset, length)),
            watermarks,
        }
    }
}

/// A checkpoint's barrier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointBarrier {
    /// Counts from 1 in each job.
    pub checkpoint_id: u64,
    /// When the coordinator triggered it.
    pub timestamp_ms: u64,
    /// What it is and where its files go: an encoded `state.v1.CheckpointOptions`, read where the barrier is acted on.
    pub options: Arc<[u8]>,
}

/// What travels over one channel.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)] // nearly every element is a batch: a box would be an allocation each
pub enum StreamElement {
    /// Rows.
    Batch(StreamBatch),
    /// Separates what belongs to a checkpoint from what does not.
    Barrier(CheckpointBarrier),
    /// The channel has no rows for now and holds no watermark back.
    Idle,
    /// The channel holds watermarks back again.
    Active,
    /// Nothing follows.
    EndOfInput,
    /// Measures the way from a source: the source's operator id and when it left.
    LatencyMarker {
        /// Which source.
        source: Arc<str>,
        /// Milliseconds since the epoch.
        emitted_ms: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int32Array;
    use arrow::datatypes::{DataType, Field, Schema};

    fn batch(rows: i32) -> StreamBatch {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int32, false)]));
        let column = Arc::new(Int32Array::from_iter_values(0..rows));
        StreamBatch::new(RecordBatch::try_new(schema, vec![column]).unwrap())
    }

    #[test]
    fn slices_share_out_every_watermark_exactly_once() {
        let mut whole = batch(4);
        whole.watermarks = vec![
            WatermarkCut {
                row: 0,
                timestamp_ms: 1,
            },
            WatermarkCut {
                row: 2,
                timestamp_ms: 2,
            },
            WatermarkCut {
                row: 4,
                timestamp_ms: 3,
            },
        ];
        assert_eq!(
            whole.slice(0, 2).watermarks,
            [WatermarkCut {
                row: 0,
                timestamp_ms: 1
            }]
        );
        assert_eq!(
            whole.slice(2, 2).watermarks,
            [
                WatermarkCut {
                    row: 0,
                    timestamp_ms: 2
                },
                WatermarkCut {
                    row: 2,
                    timestamp_ms: 3
                }
            ]
        );
    }
}
