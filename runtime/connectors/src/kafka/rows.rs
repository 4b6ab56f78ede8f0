//! Records gathered into the columns of a batch.
//!
//! ```text
//!   value  | a | b | c | d |     bytes, copied once; validated as text when the batch is finished
//!   offset | 7 | 8 | 0 | 9 |     always kept: names a bad record, and says how far each split is
//!   runs   (row 0, split 0) (row 2, split 1) (row 3, split 0)
//! ```

use std::sync::Arc;

use arrow::array::builder::{BinaryBuilder, MapBuilder, MapFieldNames, StringBuilder};
use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use thalweg_types::StreamBatch;
use thalweg_types::element::{TARGET_BATCH_BYTES, TARGET_BATCH_ROWS};

use super::native::Headers;
use super::split::Split;
use crate::ConnectorError;
use crate::columns::{BytesBuilder, InvalidText};

/// The timestamp of a record that has none; Flink's `NO_TIMESTAMP`.
pub const NO_TIMESTAMP: i64 = i64::MIN;

/// How bytes become a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BytesFormat {
    /// Utf8; a record that isn't is an error that names it.
    Utf8,
    /// Binary.
    Binary,
}

impl BytesFormat {
    fn data_type(self) -> DataType {
        match self {
            Self::Utf8 => DataType::Utf8,
            Self::Binary => DataType::Binary,
        }
    }
}

/// What happens to a record without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tombstones {
    /// The job fails with an error that names the record; as Flink's string schema does.
    Fail,
    /// It is left out.
    Skip,
    /// Its value is null; the value column is nullable.
    Null,
}

/// A column beside the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetadataColumn {
    /// The record's key; nullable.
    Key(BytesFormat),
    /// The topic's name, Utf8.
    Topic,
    /// The partition, Int32.
    Partition,
    /// The offset, Int64.
    Offset,
    /// Milliseconds since the epoch, Int64; [`NO_TIMESTAMP`] if the record has none.
    Timestamp,
    /// Who gave the timestamp, Utf8: `NoTimestampType`, `CreateTime` or `LogAppendTime`, as the Java client names them.
    TimestampType,
    /// The epoch of the partition's leader, Int32; null if the broker doesn't tell it.
    LeaderEpoch,
    /// The headers, a map of Utf8 to Binary; of headers with one name the last.
    Headers,
}

/// Who gave a record its timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum TimestampType {
    #[default]
    None,
    CreateTime,
    LogAppendTime,
}

impl TimestampType {
    fn name(self) -> &'static str {
        match self {
            Self::None => "NoTimestampType",
            Self::CreateTime => "CreateTime",
            Self::LogAppendTime => "LogAppendTime",
        }
    }
}

impl MetadataColumn {
    fn data_type(self) -> DataType {
        match self {
            Self::Key(format) => format.data_type(),
            Self::Topic | Self::TimestampType => DataType::Utf8,
            Self::Partition | Self::LeaderEpoch => DataType::Int32,
            Self::Offset | Self::Timestamp => DataType::Int64,
            Self::Headers => header_type(),
        }
    }

    fn is_nullable(self) -> bool {
        matches!(self, Self::Key(_) | Self::LeaderEpoch)
    }
}

fn header_entries() -> MapFieldNames {
    MapFieldNames {
        entry: "entries".to_owned(),
        key: "key".to_owned(),
        value: "value".to_owned(),
    }
}

/// A map of headers: MAP<STRING, BYTES>.
fn header_type() -> DataType {
    let names = header_entries();
    let entries = vec![
        Field::new(names.key, DataType::Utf8, false),
        Field::new(names.value, DataType::Binary, true),
    ];
    let entries = Field::new(names.entry, DataType::Struct(entries.into()), false);
    DataType::Map(Arc::new(entries), false)
}

fn header_builder() -> HeaderBuilder {
    MapBuilder::new(Some(header_entries()), StringBuilder::new(), BinaryBuilder::new())
}

type HeaderBuilder = MapBuilder<StringBuilder, BinaryBuilder>;

/// What a source's rows look like.
#[derive(Debug, Clone)]
pub(crate) struct RowFormat {
    pub(crate) schema: SchemaRef,
    value: BytesFormat,
    tombstones: Tombstones,
    metadata: Vec<MetadataColumn>,
    /// Whether batches carry the records' timestamps as event time.
    event_time: bool,
}

impl RowFormat {
    pub(crate) fn new(
        value: (String, BytesFormat),
        tombstones: Tombstones,
        metadata: Vec<(String, MetadataColumn)>,
        event_time: bool,
    ) -> Self {
        let mut fields = vec![Field::new(
            value.0,
            value.1.data_type(),
            tombstones == Tombstones::Null,
        )];
        fields.extend(
            metadata
                .iter()
                .map(|(name, column)| Field::new(name, column.data_type(), column.is_nullable())),
        );
        let metadata = metadata.into_iter().map(|(_, column)| column).collect();
        Self {
            schema: Arc::new(Schema::new(fields)),
            value: value.1,
            tombstones,
            metadata,
            event_time,
        }
    }

    fn key(&self) -> Option<BytesFormat> {
        self.metadata.iter().find_map(|column| match column {
            MetadataColumn::Key(format) => Some(*format),
            _ => None,
        })
    }

    fn needs_timestamps(&self) -> bool {
        self.event_time || self.wants(MetadataColumn::Timestamp)
    }

    fn wants(&self, column: MetadataColumn) -> bool {
        self.metadata.contains(&column)
    }
}

/// What of a record is read beside key, value and offset.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wants {
    pub(crate) timestamps: bool,
    pub(crate) timestamp_types: bool,
    pub(crate) leader_epochs: bool,
    pub(crate) headers: bool,
}

/// A record as it is pushed.
#[derive(Default)]
pub(crate) struct Record<'a> {
    pub(crate) offset: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) timestamp: Option<i64>,
    pub(crate) timestamp_type: TimestampType,
    pub(crate) leader_epoch: Option<i32>,
    pub(crate) headers: Headers<'a>,
}

/// A finished batch.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) batch: StreamBatch,
    /// Split, and the offset behind its last row in this batch; a split may come several times, the last counts.
    pub(crate) offsets: Vec<(usize, i64)>,
    /// Split and the newest timestamp of its rows, if batches carry event time.
    pub(crate) timestamps: Vec<(usize, i64)>,
    /// First row and split of each run of rows of one split.
    pub(crate) runs: Vec<(usize, usize)>,
}

/// The rows of the batch that is being built.
pub(crate) struct Rows {
    format: Arc<RowFormat>,
    value: BytesBuilder,
    key: Option<BytesBuilder>,
    offsets: Vec<i64>,
    timestamps: Vec<i64>,
    timestamp_types: Vec<TimestampType>,
    leader_epochs: Vec<Option<i32>>,
    headers: Option<HeaderBuilder>,
    runs: Vec<(usize, usize)>,
}

impl Rows {
    pub(crate) fn new(format: Arc<RowFormat>) -> Self {
        let builder = |bytes| BytesBuilder::with_capacity(TARGET_BATCH_ROWS, bytes);
        Self {
            value: builder(TARGET_BATCH_BYTES / 4),
            key: format.key().map(|_| builder(TARGET_BATCH_BYTES / 16)),
            offsets: Vec::with_capacity(TARGET_BATCH_ROWS),
            timestamps: Vec::new(),
            timestamp_types: Vec::new(),
            leader_epochs: Vec::new(),
            headers: format.wants(MetadataColumn::Headers).then(header_builder),
            runs: Vec::new(),
            format,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.offsets.len()
    }

    pub(crate) fn is_full(&mut self) -> bool {
        let key_bytes = self.key.as_ref().map_or(0, BytesBuilder::bytes);
        let header_bytes = self.header_bytes();
        self.len() >= TARGET_BATCH_ROWS || self.value.bytes() + key_bytes + header_bytes >= TARGET_BATCH_BYTES
    }

    fn header_bytes(&mut self) -> usize {
        let Some(headers) = &mut self.headers else {
            return 0;
        };
        let (names, values) = headers.entries();
        names.values_slice().len() + values.values_slice().len()
    }

    /// What pushing reads of a record.
    pub(crate) fn wants(&self) -> Wants {
        Wants {
            timestamps: self.format.needs_timestamps(),
            timestamp_types: self.format.wants(MetadataColumn::TimestampType),
            leader_epochs: self.format.wants(MetadataColumn::LeaderEpoch),
            headers: self.headers.is_some(),
        }
    }

    /// Adds a record of a split. `false`: it has no value, and that is an error here.
    #[must_use]
    pub(crate) fn push(&mut self, split: usize, record: &Record<'_>) -> bool {
        match (record.value, self.format.tombstones) {
            (Some(value), _) => self.value.push(value),
            (None, Tombstones::Null) => self.value.push_null(),
            (None, Tombstones::Skip) => return true,
            (None, Tombstones::Fail) => return false,
        }
        if self.runs.last().is_none_or(|(_, last)| *last != split) {
            self.runs.push((self.offsets.len(), split));
        }
        self.offsets.push(record.offset);
        if let Some(column) = &mut self.key {
            match record.key {
                Some(key) => column.push(key),
                None => column.push_null(),
            }
        }
        if self.format.needs_timestamps() {
            self.timestamps.push(record.timestamp.unwrap_or(NO_TIMESTAMP));
        }
        if self.format.wants(MetadataColumn::TimestampType) {
            self.timestamp_types.push(record.timestamp_type);
        }
        if self.format.wants(MetadataColumn::LeaderEpoch) {
            self.leader_epochs.push(record.leader_epoch);
        }
        if let Some(column) = &mut self.headers {
            push_headers(column, &record.headers);
        }
        true
    }

    /// The rows as a batch; begins the next one.
    pub(crate) fn finish(&mut self, splits: &[Split]) -> Result<Finished, ConnectorError> {
        let next = Vec::with_capacity(self.offsets.capacity());
        let offsets = std::mem::replace(&mut self.offsets, next);
        let timestamps = std::mem::take(&mut self.timestamps);
        let types = std::mem::take(&mut self.timestamp_types);
        let epochs = std::mem::take(&mut self.leader_epochs);
        let runs = std::mem::take(&mut self.runs);
        let place = Place {
            splits,
            runs: &runs,
            offsets: &offsets,
        };

        let mut columns = vec![column("value", &mut self.value, self.format.value, &place)?];
        for metadata in &self.format.metadata {
            columns.push(match metadata {
                MetadataColumn::Key(format) => match &mut self.key {
                    Some(key) => column("key", key, *format, &place)?,
                    None => continue,
                },
                MetadataColumn::Topic => place.topics(),
                MetadataColumn::Partition => Arc::new(Int32Array::from_iter_values(
                    place.rows().map(|split| split.partition.partition),
                )),
                MetadataColumn::Offset => Arc::new(Int64Array::from(offsets.clone())),
                MetadataColumn::Timestamp => Arc::new(Int64Array::from(timestamps.clone())),
                MetadataColumn::TimestampType => Arc::new(StringArray::from_iter_values(
                    types.iter().map(|kind| kind.name()),
                )),
                MetadataColumn::LeaderEpoch => Arc::new(Int32Array::from(epochs.clone())),
                MetadataColumn::Headers => match &mut self.headers {
                    Some(headers) => Arc::new(headers.finish()),
                    None => continue,
                },
            });
        }
        let rows = RecordBatch::try_new(Arc::clone(&self.format.schema), columns)
            .map_err(|error| ConnectorError::Malformed(format!("Kafka records make no batch: {error}")))?;
        let last_rows = place
            .ends()
            .map(|(_, end, split)| (split, offsets[end - 1] + 1))
            .collect();
        let mut finished = Finished {
            batch: StreamBatch::new(rows),
            offsets: last_rows,
            timestamps: Vec::new(),
            runs: Vec::new(),
        };
        if self.format.event_time {
            let newest = |(start, end, split): (usize, usize, usize)| {
                let newest = timestamps[start..end]
                    .iter()
                    .copied()
                    .max()
                    .filter(|newest| *newest != NO_TIMESTAMP);
                newest.map(|newest| (split, newest))
            };
            finished.timestamps = place.ends().filter_map(newest).collect();
            finished.batch.timestamps = Some(Int64Array::from(timestamps));
        }
        finished.runs = runs;
        Ok(finished)
    }
}

/// Appends a row of headers; of one name the last is taken, as Flink's map takes it.
fn push_headers(column: &mut HeaderBuilder, headers: &Headers<'_>) {
    let mut rest = headers.clone();
    while let Some((name, value)) = rest.next() {
        if rest.clone().any(|(other, _)| other == name) {
            continue;
        }
        column.keys().append_value(String::from_utf8_lossy(name));
        column.values().append_option(value);
    }
    // Keys and values have come in pairs: there is nothing that it could refuse.
    let _ = column.append(true);
}

/// Where each row came from.
struct Place<'a> {
    splits: &'a [Split],
    runs: &'a [(usize, usize)],
    offsets: &'a [i64],
}

impl<'a> Place<'a> {
    /// First row, row behind the last, and split of each run.
    fn ends(&self) -> impl Iterator<Item = (usize, usize, usize)> + use<'a> {
        let ends = self
            .runs
            .iter()
            .skip(1)
            .map(|(row, _)| *row)
            .chain([self.offsets.len()]);
        self.runs
            .iter()
            .zip(ends)
            .map(|((start, split), end)| (*start, end, *split))
    }

    /// The split of each row.
    fn rows(&self) -> impl Iterator<Item = &'a Split> + use<'a> {
        let splits = self.splits;
        self.ends()
            .flat_map(move |(start, end, split)| std::iter::repeat_n(&splits[split], end - start))
    }

    /// The topic's name of each row.
    fn topics(&self) -> ArrayRef {
        let mut topics = StringBuilder::with_capacity(self.offsets.len(), self.offsets.len() * 16);
        self.rows()
            .for_each(|split| topics.append_value(&split.partition.topic));
        Arc::new(topics.finish())
    }

    fn invalid(&self, name: &str, invalid: InvalidText) -> ConnectorError {
        let split = self.rows().nth(invalid.row).map(|split| split.partition.clone());
        let (topic, partition) =
            split.map_or_else(|| ("".into(), -1), |split| (split.topic, split.partition));
        ConnectorError::Malformed(format!(
            "Kafka topic {topic:?} partition {partition} offset {}: the {name} isn't UTF-8 from byte {} on; read it as bytes",
            self.offsets.get(invalid.row).copied().unwrap_or(-1),
            invalid.byte + 1
        ))
    }
}

fn column(
    name: &str,
    builder: &mut BytesBuilder,
    format: BytesFormat,
    place: &Place<'_>,
) -> Result<ArrayRef, ConnectorError> {
    match format {
        BytesFormat::Utf8 => builder
            .finish_utf8(false)
            .map_err(|invalid| place.invalid(name, invalid)),
        BytesFormat::Binary => Ok(builder.finish_binary()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::split::TopicPartition;
    use arrow::array::AsArray;
    use arrow::datatypes::{Int32Type, Int64Type};

    fn splits() -> Vec<Split> {
        let split = |index| {
            Split::new(
                TopicPartition {
                    topic: "t".into(),
                    partition: index,
                },
                0,
                None,
            )
        };
        vec![split(0), split(1)]
    }

    fn rows(tombstones: Tombstones, metadata: &[MetadataColumn], event_time: bool) -> Rows {
        let metadata = metadata
            .iter()
            .enumerate()
            .map(|(index, column)| (format!("m{index}"), *column))
            .collect();
        let value = ("value".to_owned(), BytesFormat::Utf8);
        Rows::new(Arc::new(RowFormat::new(value, tombstones, metadata, event_time)))
    }

    fn record(offset: i64, value: Option<&'static [u8]>) -> Record<'static> {
        Record {
            offset,
            key: None,
            value,
            timestamp: Some(offset * 10),
            ..Record::default()
        }
    }

    #[test]
    fn a_batch_tells_how_far_each_split_is_and_its_newest_timestamp() {
        let mut rows = rows(
            Tombstones::Fail,
            &[
                MetadataColumn::Partition,
                MetadataColumn::Offset,
                MetadataColumn::Topic,
            ],
            true,
        );
        for (split, offset) in [(0, 7), (0, 8), (1, 0), (0, 9)] {
            assert!(rows.push(split, &record(offset, Some(b"x"))));
        }
        let finished = rows.finish(&splits()).unwrap();
        assert_eq!(finished.offsets, [(0, 9), (1, 1), (0, 10)]);
        assert_eq!(finished.timestamps, [(0, 80), (1, 0), (0, 90)]);
        assert_eq!(
            finished.batch.rows.column(1).as_primitive::<Int32Type>().values(),
            &[0, 0, 1, 0]
        );
        assert_eq!(
            finished.batch.rows.column(2).as_primitive::<Int64Type>().values(),
            &[7, 8, 0, 9]
        );
        assert_eq!(
            finished
                .batch
                .rows
                .column(3)
                .as_string::<i32>()
                .iter()
                .flatten()
                .collect::<Vec<_>>(),
            ["t"; 4]
        );
        assert_eq!(finished.batch.timestamps.unwrap().values(), &[70, 80, 0, 90]);
        assert_eq!(rows.len(), 0);
    }

    #[test]
    fn a_record_without_a_value_fails_is_left_out_or_null() {
        assert!(!rows(Tombstones::Fail, &[], false).push(0, &record(0, None)));
        let mut skipping = rows(Tombstones::Skip, &[], false);
        assert!(skipping.push(0, &record(0, None)));
        assert_eq!(skipping.len(), 0);
        let mut nulls = rows(Tombstones::Null, &[], false);
        assert!(nulls.push(0, &record(0, None)));
        assert_eq!(
            nulls.finish(&splits()).unwrap().batch.rows.column(0).null_count(),
            1
        );
    }

    #[test]
    fn a_value_that_is_not_utf8_is_named_by_partition_and_offset() {
        let mut rows = rows(Tombstones::Fail, &[], false);
        assert!(rows.push(0, &record(5, Some(b"fine"))));
        assert!(rows.push(1, &record(42, Some(b"a\xFF"))));
        let error = rows.finish(&splits()).unwrap_err().to_string();
        let expected =
            "Kafka topic \"t\" partition 1 offset 42: the value isn't UTF-8 from byte 2 on; read it as bytes";
        assert_eq!(error, expected);
    }
}
