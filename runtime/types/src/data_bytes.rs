//! How many bytes rows are, by themselves: slices count their part of a shared buffer, dictionaries their keys. Unlike the memory
//! that buffers hold, it doesn't change when a batch crosses the wire into one shared buffer.

use arrow::array::{ArrayData, OffsetSizeTrait};
use arrow::datatypes::DataType;

/// Bytes of a column's rows.
pub(crate) fn data_bytes(data: &ArrayData) -> usize {
    let nulls = data.nulls().map_or(0, |_| data.len().div_ceil(8));
    nulls
        + match data.data_type() {
            DataType::Utf8View | DataType::BinaryView => view_bytes(data),
            DataType::List(_) | DataType::Map(_, _) => list_bytes::<i32>(data),
            DataType::LargeList(_) => list_bytes::<i64>(data),
            DataType::Struct(_) => data.child_data().iter().map(data_bytes).sum(),
            DataType::Dictionary(key, _) => data.len() * key.primitive_width().unwrap_or(8),
            _ => data
                .get_slice_memory_size()
                .unwrap_or_else(|_| data.get_array_memory_size()),
        }
}

/// The views and the text behind those that are too long to hold it.
fn view_bytes(data: &ArrayData) -> usize {
    let views = data.buffer::<u128>(0);
    let text: usize = views
        .iter()
        .take(data.len())
        .map(|view| *view as u32 as usize)
        .filter(|length| *length > 12)
        .sum();
    data.len() * size_of::<u128>() + text
}

fn list_bytes<O: OffsetSizeTrait>(data: &ArrayData) -> usize {
    let offsets = data.buffer::<O>(0);
    let offsets_bytes = (data.len() + 1) * size_of::<O>();
    let (Some(first), Some(last)) = (offsets.first(), offsets.get(data.len())) else {
        return offsets_bytes;
    };
    let child = &data.child_data()[0];
    offsets_bytes + data_bytes(&child.slice(first.as_usize(), last.as_usize() - first.as_usize()))
}
