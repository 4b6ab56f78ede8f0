//! Making one batch of several.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, GenericListArray, Int8Array, Int64Array, MapArray,
    OffsetSizeTrait, RecordBatch, RecordBatchOptions, StructArray, UInt64Array,
};
use arrow::compute::{concat, concat_batches};
use arrow::datatypes::{DataType, Int8Type, Int64Type, SchemaRef, UInt64Type};
use arrow::error::ArrowError;
use thalweg_types::element::RowKind;
use thalweg_types::{StreamBatch, WatermarkCut};

/// Makes as few batches as possible, in order: neighbours of the same schema and the same stream columns become one.
/// Inserts without a kind column join those with one.
///
/// # Errors
/// What Arrow's concatenation refuses, except an overflow (of offsets, of dictionary keys): then they stay apart.
pub fn merge_batches(batches: Vec<StreamBatch>) -> Result<Vec<StreamBatch>, ArrowError> {
    let mut merged = Vec::with_capacity(1);
    let mut group: Vec<StreamBatch> = Vec::with_capacity(batches.len());
    for batch in batches {
        // Batches of watermarks alone say nothing of the columns around them.
        let before = group
            .iter()
            .rfind(|before| before.num_rows() > 0)
            .or(group.last());
        if before.is_some_and(|before| !can_join(before, &batch)) {
            merge_group(std::mem::take(&mut group), &mut merged)?;
        }
        group.push(batch);
    }
    merge_group(group, &mut merged)?;
    Ok(merged)
}

fn can_join(left: &StreamBatch, right: &StreamBatch) -> bool {
    let same_columns = left.num_rows() == 0
        || right.num_rows() == 0
        || (left.timestamps.is_some() == right.timestamps.is_some()
            && left.key_hashes.is_some() == right.key_hashes.is_some());
    let (left, right) = (left.rows.schema_ref(), right.rows.schema_ref());
    same_columns && (Arc::ptr_eq(left, right) || left == right)
}

fn merge_group(mut group: Vec<StreamBatch>, merged: &mut Vec<StreamBatch>) -> Result<(), ArrowError> {
    if group.len() < 2 {
        merged.append(&mut group);
        return Ok(());
    }
    let mut watermarks = Vec::new();
    let mut offset = 0;
    for batch in &mut group {
        watermarks.extend(batch.watermarks.iter().map(|cut| WatermarkCut {
            row: cut.row + offset,
            ..*cut
        }));
        offset += batch.num_rows() as u32;
    }
    let with_rows: Vec<&StreamBatch> = group.iter().filter(|batch| batch.num_rows() > 0).collect();
    match with_rows.as_slice() {
        [] => merged.push(StreamBatch {
            watermarks,
            ..group.swap_remove(0)
        }),
        [only] => merged.push(StreamBatch {
            watermarks,
            ..StreamBatch::clone(only)
        }),
        several => match concat_rows(several) {
            Ok(batch) => merged.push(StreamBatch { watermarks, ..batch }),
            Err(ArrowError::DictionaryKeyOverflowError | ArrowError::OffsetOverflowError(_)) => {
                merged.append(&mut group);
            }
            Err(error) => return Err(error),
        },
    }
    Ok(())
}

fn concat_rows(batches: &[&StreamBatch]) -> Result<StreamBatch, ArrowError> {
    let schema = batches[0].rows.schema();
    let rows = compact_views(concat_batches(&schema, batches.iter().map(|batch| &batch.rows))?);
    let kinds = if batches.iter().any(|batch| batch.kinds.is_some()) {
        let parts: Vec<Int8Array> = batches.iter().map(|batch| kinds_or_inserts(batch)).collect();
        Some(concat_columns(parts.iter().map(Some), |column| {
            column.as_primitive::<Int8Type>().clone()
        })?)
    } else {
        None
    };
    let timestamps = batches.iter().map(|batch| batch.timestamps.as_ref());
    let key_hashes = batches.iter().map(|batch| batch.key_hashes.as_ref());
    Ok(StreamBatch {
        rows,
        kinds: kinds.flatten(),
        timestamps: concat_columns(timestamps, |column| -> Int64Array {
            column.as_primitive::<Int64Type>().clone()
        })?,
        key_hashes: concat_columns(key_hashes, |column| -> UInt64Array {
            column.as_primitive::<UInt64Type>().clone()
        })?,
        watermarks: Vec::new(),
    })
}

fn kinds_or_inserts(batch: &StreamBatch) -> Int8Array {
    let inserts = || Int8Array::from_value(RowKind::Insert as i8, batch.num_rows());
    batch.kinds.clone().unwrap_or_else(inserts)
}

fn concat_columns<'a, A: Array + 'a>(
    parts: impl Iterator<Item = Option<&'a A>>,
    downcast: impl Fn(&ArrayRef) -> A,
) -> Result<Option<A>, ArrowError> {
    let parts: Vec<&dyn Array> = parts.flatten().map(|part| part as &dyn Array).collect();
    if parts.is_empty() {
        Ok(None)
    } else {
        concat(&parts).map(|column| Some(downcast(&column)))
    }
}

/// Copies the text out of shared buffers of which most is not referenced (after a filter, a slice, a partitioning):
/// who sends or keeps them would else send or keep it all.
pub(crate) fn compact_views(rows: RecordBatch) -> RecordBatch {
    let compacted: Vec<Option<ArrayRef>> = rows.columns().iter().map(compact).collect();
    if compacted.iter().all(Option::is_none) {
        return rows;
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    let columns = compacted
        .into_iter()
        .zip(rows.columns())
        .map(|(new, old)| new.unwrap_or_else(|| old.clone()))
        .collect();
    let schema: SchemaRef = rows.schema();
    // The types are unchanged, so this succeeds; if not, the uncompacted rows are right as well.
    RecordBatch::try_new_with_options(schema, columns, &options).unwrap_or(rows)
}

/// Garbage that isn't worth a copy.
const TOLERATED_GARBAGE: usize = 4 << 10;

fn compact(array: &ArrayRef) -> Option<ArrayRef> {
    match array.data_type() {
        DataType::Utf8View => {
            let views = array.as_string_view();
            is_mostly_dead(views.data_buffers(), views.total_buffer_bytes_used())
                .then(|| Arc::new(views.gc()) as ArrayRef)
        }
        DataType::BinaryView => {
            let views = array.as_binary_view();
            is_mostly_dead(views.data_buffers(), views.total_buffer_bytes_used())
                .then(|| Arc::new(views.gc()) as ArrayRef)
        }
        DataType::Struct(_) => compact_struct(array.as_struct()).map(|new| Arc::new(new) as ArrayRef),
        DataType::List(_) => compact_list::<i32>(array),
        DataType::LargeList(_) => compact_list::<i64>(array),
        DataType::FixedSizeList(field, size) => {
            let list = array.as_fixed_size_list();
            let values = compact(list.values())?;
            FixedSizeListArray::try_new(field.clone(), *size, values, list.nulls().cloned())
                .ok()
                .map(|new| Arc::new(new) as ArrayRef)
        }
        DataType::Map(field, ordered) => {
            let map = array.as_map();
            let entries = compact_struct(map.entries())?;
            MapArray::try_new(
                field.clone(),
                map.offsets().clone(),
                entries,
                map.nulls().cloned(),
                *ordered,
            )
            .ok()
            .map(|new| Arc::new(new) as ArrayRef)
        }
        _ => None,
    }
}

fn is_mostly_dead(buffers: &[arrow::buffer::Buffer], used: usize) -> bool {
    let held: usize = buffers.iter().map(|buffer| buffer.len()).sum();
    held > 2 * used + TOLERATED_GARBAGE
}

fn compact_struct(array: &StructArray) -> Option<StructArray> {
    let compacted: Vec<Option<ArrayRef>> = array.columns().iter().map(compact).collect();
    if compacted.iter().all(Option::is_none) {
        return None;
    }
    let columns = compacted.into_iter().zip(array.columns());
    let columns = columns
        .map(|(new, old)| new.unwrap_or_else(|| old.clone()))
        .collect();
    StructArray::try_new(array.fields().clone(), columns, array.nulls().cloned()).ok()
}

fn compact_list<O: OffsetSizeTrait>(array: &ArrayRef) -> Option<ArrayRef> {
    let list = array.as_list::<O>();
    let (DataType::List(field) | DataType::LargeList(field)) = list.data_type() else {
        return None;
    };
    let values = compact(list.values())?;
    GenericListArray::<O>::try_new(
        field.clone(),
        list.offsets().clone(),
        values,
        list.nulls().cloned(),
    )
    .ok()
    .map(|new| Arc::new(new) as ArrayRef)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int32Array, StringViewArray};
    use arrow::datatypes::{Field, Schema};

    fn numbers(range: std::ops::Range<i32>) -> StreamBatch {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int32, false)]));
        let column = Arc::new(Int32Array::from_iter_values(range));
        StreamBatch::new(RecordBatch::try_new(schema, vec![column]).unwrap())
    }

    fn cut(row: u32, timestamp_ms: i64) -> WatermarkCut {
        WatermarkCut { row, timestamp_ms }
    }

    #[test]
    fn merging_shifts_watermarks_and_fills_in_inserts() {
        let mut first = numbers(0..2);
        first.watermarks = vec![cut(2, 10)];
        let mut second = numbers(2..3);
        second.kinds = Some(Int8Array::from(vec![RowKind::Delete as i8]));
        second.watermarks = vec![cut(0, 11), cut(1, 12)];
        let merged = merge_batches(vec![first, second]).unwrap();
        assert_eq!(merged.len(), 1);
        assert_eq!(merged[0].rows, numbers(0..3).rows);
        assert_eq!(merged[0].kinds, Some(Int8Array::from(vec![0, 0, 3])));
        assert_eq!(merged[0].watermarks, [cut(2, 10), cut(2, 11), cut(3, 12)]);
    }

    #[test]
    fn batches_with_and_without_event_time_stay_apart_but_watermarks_join() {
        let mut timed = numbers(0..1);
        timed.timestamps = Some(Int64Array::from(vec![5]));
        let mut watermark = numbers(0..0);
        watermark.watermarks = vec![cut(0, 4)];
        let merged = merge_batches(vec![timed, watermark, numbers(1..2)]).unwrap();
        assert_eq!(merged.len(), 2);
        assert_eq!(merged[0].watermarks, [cut(1, 4)]);
    }

    #[test]
    fn a_slice_counts_its_own_bytes() {
        let whole = numbers(0..1000);
        assert_eq!(whole.memory_size(), 4000);
        assert_eq!(whole.slice(10, 5).memory_size(), 20);
    }

    #[test]
    fn a_few_rows_of_a_large_text_column_leave_the_rest_behind() {
        let text: Vec<String> = (0..1000)
            .map(|n| format!("a text that is long enough, {n}"))
            .collect();
        let column: ArrayRef = Arc::new(StringViewArray::from_iter_values(&text));
        let schema = Arc::new(Schema::new(vec![Field::new("t", DataType::Utf8View, false)]));
        let slice = RecordBatch::try_new(schema, vec![column]).unwrap().slice(500, 2);
        let compacted = compact_views(slice.clone());
        assert_eq!(compacted, slice);
        let held: usize = compacted
            .column(0)
            .as_string_view()
            .data_buffers()
            .iter()
            .map(|b| b.len())
            .sum();
        assert!(held < 100, "{held}");
    }
}
