//! Elements that a barrier overtook: stored with the task's head, replayed before everything else when the task is restored.
//!
//! ```text
//!   channel 0 --rows--|1|rows    the barrier is seen here first: the snapshot is taken at once, and the rows before it that
//!                                were not taken yet are copied
//!   channel 1 --rows--rows       no barrier yet: rows are recorded as they are taken, until it can be seen
//! ```
//!
//! Nothing changes its place in a channel: a barrier overtakes by being seen from afar ([`thalweg_exchange::InputGate`]), and
//! means nothing any more when it is taken. What was overtaken goes through the operators behind the snapshot.
//!
//! As columns: the user's, and behind them those of [`KIND`], [`TIMESTAMP`], [`KEY_HASH`] that the batch has. Watermarks are
//! not stored: the restored sources send new ones. Rows with a key hash are taken by the subtask that owns their key group,
//! so that they may be given to several.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, UInt64Array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, FieldRef, Int8Type, Int64Type, Schema, UInt64Type};
use arrow::error::ArrowError;
use thalweg_types::{KeyGroupRange, StreamBatch};

const KIND: &str = "$kind";
const TIMESTAMP: &str = "$timestamp";
const KEY_HASH: &str = "$key_hash";

/// What one checkpoint may hold of elements under way in one task.
const MOST_BYTES: usize = 256 << 20;

/// The elements that a checkpoint's barrier has overtaken so far.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) checkpoint_id: u64,
    /// With the index of each one's channel, in order.
    pub(crate) batches: Vec<(usize, StreamBatch)>,
    pub(crate) bytes: usize,
}

/// The elements of one channel, of one set of columns.
pub(crate) struct RecordedChannel {
    pub(crate) channel: usize,
    pub(crate) batches: Vec<RecordBatch>,
}

impl Recording {
    pub(crate) fn new(checkpoint_id: u64) -> Self {
        Self {
            checkpoint_id,
            batches: Vec::new(),
            bytes: 0,
        }
    }

    /// False if that is too much.
    pub(crate) fn add(&mut self, channel: usize, batch: &StreamBatch) -> bool {
        if batch.num_rows() > 0 {
            self.bytes += batch.memory_size();
            self.batches.push((channel, batch.clone()));
        }
        self.bytes <= MOST_BYTES
    }

    /// As it is stored: by channel, in order, neighbours of the same columns together.
    pub(crate) fn into_channels(mut self) -> Result<Vec<RecordedChannel>, ArrowError> {
        self.batches.sort_by_key(|(channel, _)| *channel);
        let mut channels: Vec<RecordedChannel> = Vec::new();
        for (channel, batch) in &self.batches {
            let stored = stored(batch)?;
            let fits = |last: &&mut RecordedChannel| {
                last.channel == *channel && last.batches.iter().all(|other| other.schema() == stored.schema())
            };
            match channels.last_mut().filter(fits) {
                Some(last) => last.batches.push(stored),
                None => channels.push(RecordedChannel {
                    channel: *channel,
                    batches: vec![stored],
                }),
            }
        }
        Ok(channels)
    }
}

fn stored(batch: &StreamBatch) -> Result<RecordBatch, ArrowError> {
    let schema = batch.rows.schema();
    let mut fields: Vec<FieldRef> = schema.fields().iter().cloned().collect();
    let mut columns = batch.rows.columns().to_vec();
    let extra: [(&str, DataType, Option<ArrayRef>); 3] = [
        (
            KIND,
            DataType::Int8,
            batch.kinds.clone().map(|column| Arc::new(column) as _),
        ),
        (
            TIMESTAMP,
            DataType::Int64,
            batch.timestamps.clone().map(|column| Arc::new(column) as _),
        ),
        (
            KEY_HASH,
            DataType::UInt64,
            batch.key_hashes.clone().map(|column| Arc::new(column) as _),
        ),
    ];
    for (name, data_type, column) in extra {
        if let Some(column) = column {
            fields.push(Arc::new(Field::new(name, data_type, true)));
            columns.push(column);
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// The rows of a stored batch that belong to a subtask.
pub(crate) fn restored(
    batch: &RecordBatch,
    key_groups: KeyGroupRange,
    max_parallelism: u32,
) -> Result<StreamBatch, ArrowError> {
    let mine = batch.column_by_name(KEY_HASH).map(|hashes| {
        let hashes: &UInt64Array = hashes.as_primitive::<UInt64Type>();
        let is_mine = |hash: &u64| key_groups.contains((hash % u64::from(max_parallelism.max(1))) as u32);
        BooleanArray::from_iter(hashes.values().iter().map(|hash| Some(is_mine(hash))))
    });
    let batch = match mine {
        Some(mine) if mine.true_count() < mine.len() => filter_record_batch(batch, &mine)?,
        _ => batch.clone(),
    };
    let column = |name| batch.column_by_name(name);
    let (kinds, timestamps, key_hashes) = (column(KIND), column(TIMESTAMP), column(KEY_HASH));
    let extra = [&kinds, &timestamps, &key_hashes].into_iter().flatten().count();
    let user: Vec<usize> = (0..batch.num_columns() - extra).collect();
    Ok(StreamBatch {
        rows: batch.project(&user)?,
        kinds: kinds.map(|column| column.as_primitive::<Int8Type>().clone()),
        timestamps: timestamps.map(|column| column.as_primitive::<Int64Type>().clone()),
        key_hashes: key_hashes.map(|column| column.as_primitive::<UInt64Type>().clone()),
        watermarks: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::{rows, values};
    use arrow::array::{Int8Array, Int64Array};

    #[test]
    fn elements_come_back_as_they_were_but_for_watermarks_and_rows_of_others() {
        let mut keyed = rows([1, 2, 3]);
        keyed.key_hashes = Some(UInt64Array::from(vec![0, 64, 1]));
        keyed.timestamps = Some(Int64Array::from(vec![10, 20, 30]));
        keyed.kinds = Some(Int8Array::from(vec![0, 3, 0]));
        let mut recording = Recording::new(1);
        assert!(recording.add(1, &keyed) && recording.add(0, &rows([7])) && recording.add(1, &rows([8])));
        let channels = recording.into_channels().unwrap();
        assert_eq!(
            channels.iter().map(|channel| channel.channel).collect::<Vec<_>>(),
            [0, 1, 1]
        );
        let lower_half = KeyGroupRange::of_subtask(0, 2, 128);
        let back = restored(&channels[1].batches[0], lower_half, 128).unwrap();
        assert_eq!(values(&back), [1, 3]);
        assert_eq!(back.timestamps, Some(Int64Array::from(vec![10, 30])));
        assert_eq!(back.kinds, Some(Int8Array::from(vec![0, 0])));
        assert_eq!(back.key_hashes, Some(UInt64Array::from(vec![0, 1])));
        let plain = restored(&channels[2].batches[0], lower_half, 128).unwrap();
        assert_eq!((values(&plain), plain.key_hashes), (vec![8], None));
    }

    #[test]
    fn a_recording_has_a_limit() {
        let mut recording = Recording::new(1);
        recording.bytes = MOST_BYTES;
        assert!(!recording.add(0, &rows([1])));
    }
}
