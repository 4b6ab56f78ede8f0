//! Which row goes to which subtask.
//!
//! HASH: hash -> key group -> subtask, one pass over the rows to count, one to scatter row numbers by subtask, one
//! `take` a column; the parts are slices of what was taken. The order of rows of one subtask is kept, and each watermark
//! comes to every subtask behind the rows that it was behind.
//!
//! ```text
//!   rows      a b | c d e        subtask of each row: 0 1 1 0 1, a watermark before c
//!   scattered a d   b c e
//!   part 0    a | d              part 1    b | c e
//! ```

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{take, take_arrays};
use arrow::datatypes::{Int8Type, Int64Type, UInt64Type};
use arrow::error::ArrowError;
use thalweg_types::element::StreamBatch;
use thalweg_types::key_group::{MAX_MAX_PARALLELISM, subtask_of_key_group};
use thalweg_types::{WatermarkCut, key_group};

use crate::error::ExchangeError;

/// How rows reach the consumers. Flink's StreamPartitioner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partitioner {
    /// One producer subtask to the one consumer subtask of the same number.
    Forward,
    /// Batches in turn to all consumers.
    Rebalance,
    /// Batches in turn to the consumers that this producer is connected with.
    Rescale,
    /// Every row to every consumer.
    Broadcast,
    /// By the hash of the key.
    Hash,
    /// Batches to consumers at random.
    Shuffle,
    /// Every row to the first consumer.
    Global,
}

/// Distributes batches by key group.
#[derive(Debug)]
pub struct KeyGroupPartitioner {
    max_parallelism: u32,
    /// A power of two less one: saves a division a row.
    mask: Option<u64>,
    subtask_of_group: Vec<u16>,
    parallelism: usize,
    // Kept from batch to batch.
    subtasks: Vec<u16>,
    counts: Vec<u32>,
}

impl KeyGroupPartitioner {
    /// For consumers of this parallelism.
    ///
    /// # Errors
    /// No consumer, more consumers than key groups, or more key groups than Flink allows.
    pub fn new(parallelism: u32, max_parallelism: u32) -> Result<Self, ExchangeError> {
        if parallelism == 0 || parallelism > max_parallelism || max_parallelism > MAX_MAX_PARALLELISM {
            return Err(ExchangeError::Channels {
                partitioner: Partitioner::Hash,
                channels: parallelism as usize,
                hint: ": 1 to max parallelism are allowed, and max parallelism is at most 32768",
            });
        }
        let subtask = |group| subtask_of_key_group(group, parallelism, max_parallelism) as u16;
        Ok(Self {
            max_parallelism,
            mask: max_parallelism
                .is_power_of_two()
                .then(|| u64::from(max_parallelism) - 1),
            subtask_of_group: (0..max_parallelism).map(subtask).collect(),
            parallelism: parallelism as usize,
            subtasks: Vec::new(),
            counts: Vec::new(),
        })
    }

    /// The part of each subtask; `None` = neither rows nor watermarks for it. Of several watermarks with no row of a
    /// subtask between them, it gets the last.
    ///
    /// # Errors
    /// The batch has no key hashes, or Arrow's `take` refuses a column.
    pub fn partition(&mut self, batch: StreamBatch) -> Result<Vec<Option<StreamBatch>>, ExchangeError> {
        if self.parallelism == 1 {
            return Ok(vec![Some(batch)]);
        }
        let hashes = batch.key_hashes.as_ref().ok_or(ExchangeError::KeyHashesMissing)?;
        self.assign(hashes.values());
        let cuts = self.count(&batch.watermarks);
        let all = batch.num_rows() as u32;
        if let Some(only) = self.counts.iter().position(|count| *count == all && all > 0) {
            return Ok(Self::pass_through(&batch, only, cuts));
        }
        let scattered = self.scatter(&batch).map_err(|source| ExchangeError::Rows {
            step: "partitioned",
            source: Arc::new(source),
        })?;
        let mut start = 0;
        let parts = self.counts.iter().zip(cuts).map(|(count, watermarks)| {
            let rows = *count as usize;
            let part = (rows > 0 || !watermarks.is_empty()).then(|| StreamBatch {
                watermarks,
                ..scattered.slice(start, rows)
            });
            start += rows;
            part
        });
        Ok(parts.collect())
    }

    /// The subtask of each row.
    fn assign(&mut self, hashes: &[u64]) {
        self.subtasks.clear();
        let table = &self.subtask_of_group;
        match self.mask {
            Some(mask) => self
                .subtasks
                .extend(hashes.iter().map(|hash| table[(hash & mask) as usize])),
            None => {
                let max_parallelism = self.max_parallelism;
                let group = |hash: &u64| key_group::key_group(*hash, max_parallelism) as usize;
                self.subtasks.extend(hashes.iter().map(|hash| table[group(hash)]));
            }
        }
    }

    /// Counts the rows of each subtask and, in passing, places the watermarks among them.
    fn count(&mut self, watermarks: &[WatermarkCut]) -> Vec<Vec<WatermarkCut>> {
        self.counts.clear();
        self.counts.resize(self.parallelism, 0);
        let mut cuts: Vec<Vec<WatermarkCut>> = vec![Vec::new(); self.parallelism];
        let mut row = 0;
        for (index, watermark) in watermarks.iter().enumerate() {
            if watermarks
                .get(index + 1)
                .is_some_and(|next| next.row == watermark.row)
            {
                continue; // sorted: a later watermark of the same row replaces it
            }
            let end = (watermark.row as usize).min(self.subtasks.len());
            self.subtasks[row..end]
                .iter()
                .for_each(|subtask| self.counts[usize::from(*subtask)] += 1);
            row = end;
            for (cuts, count) in cuts.iter_mut().zip(&self.counts) {
                cuts.pop_if(|last| last.row == *count);
                cuts.push(WatermarkCut {
                    row: *count,
                    ..*watermark
                });
            }
        }
        self.subtasks[row..]
            .iter()
            .for_each(|subtask| self.counts[usize::from(*subtask)] += 1);
        cuts
    }

    fn pass_through(
        batch: &StreamBatch,
        only: usize,
        cuts: Vec<Vec<WatermarkCut>>,
    ) -> Vec<Option<StreamBatch>> {
        let nothing = batch.slice(0, 0);
        let part = |(subtask, watermarks): (usize, Vec<WatermarkCut>)| {
            if subtask == only {
                return Some(StreamBatch {
                    watermarks,
                    ..batch.clone()
                });
            }
            (!watermarks.is_empty()).then(|| StreamBatch {
                watermarks,
                ..nothing.clone()
            })
        };
        cuts.into_iter().enumerate().map(part).collect()
    }

    /// All rows, those of subtask 0 first; no watermarks.
    fn scatter(&self, batch: &StreamBatch) -> Result<StreamBatch, ArrowError> {
        let mut next: Vec<u32> = Vec::with_capacity(self.parallelism);
        let mut sum = 0;
        for count in &self.counts {
            next.push(sum);
            sum += count;
        }
        let mut indices = vec![0_u32; self.subtasks.len()];
        for (row, subtask) in (0_u32..).zip(&self.subtasks) {
            let position = &mut next[usize::from(*subtask)];
            indices[*position as usize] = row;
            *position += 1;
        }
        let indices = UInt32Array::from(indices);
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let columns = take_arrays(batch.rows.columns(), &indices, None)?;
        Ok(StreamBatch {
            rows: RecordBatch::try_new_with_options(batch.rows.schema(), columns, &options)?,
            kinds: take_column(batch.kinds.as_ref(), &indices, |c| {
                c.as_primitive::<Int8Type>().clone()
            })?,
            timestamps: take_column(batch.timestamps.as_ref(), &indices, |c| {
                c.as_primitive::<Int64Type>().clone()
            })?,
            key_hashes: take_column(batch.key_hashes.as_ref(), &indices, |c| {
                c.as_primitive::<UInt64Type>().clone()
            })?,
            watermarks: Vec::new(),
        })
    }
}

fn take_column<A: Array>(
    column: Option<&A>,
    indices: &UInt32Array,
    downcast: impl Fn(&dyn Array) -> A,
) -> Result<Option<A>, ArrowError> {
    column
        .map(|column| take(column, indices, None).map(|taken| downcast(&taken)))
        .transpose()
}

#[cfg(test)]
mod tests;
