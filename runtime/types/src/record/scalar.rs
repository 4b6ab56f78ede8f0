//! Values of one plain column, and `Option` of them.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanArray, BooleanBuilder, PrimitiveArray,
    PrimitiveBuilder, StringArray, StringBuilder, TimestampMillisecondArray, TimestampMillisecondBuilder,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType, Field, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampMillisecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};

use super::{Record, RecordError, Required, Value, check_column_count, field_of, open_column, wrong_type};

/// The column name of a plain value that is a record.
const VALUE: &str = "value";

/// A point in time, in milliseconds since 1970-01-01T00:00:00Z. Flink's TIMESTAMP_LTZ(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Milliseconds since the epoch.
    pub millis: i64,
}

impl Timestamp {
    /// So many milliseconds since the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self { millis }
    }
}

/// A plain value as a record: one column.
macro_rules! single_column_record {
    ($($generics:ident)? => $type:ty) => {
        impl$(<$generics: Required>)? Record for $type {
            type Columns = <Self as Value>::Column;
            type Builders = <Self as Value>::Builder;

            fn fields() -> Vec<Field> {
                vec![field_of::<Self>(VALUE)]
            }

            fn columns(arrays: &[ArrayRef], within: Option<&NullBuffer>) -> Result<Self::Columns, RecordError> {
                check_column_count(arrays, 1)?;
                open_column::<Self>(arrays, 0, VALUE, within)
            }

            #[inline]
            fn row(columns: &Self::Columns, row: usize) -> Self::Ref<'_> {
                Self::get(columns, row)
            }

            fn builders(capacity: usize) -> Self::Builders {
                Self::builder(capacity)
            }

            #[inline]
            fn push(builders: &mut Self::Builders, value: Self::Ref<'_>) {
                <Self as Value>::append(builders, value);
            }

            fn push_null(builders: &mut Self::Builders) {
                Self::append_null(builders);
            }

            #[inline]
            fn builders_bytes(builders: &Self::Builders) -> usize {
                Self::builder_bytes(builders)
            }

            fn finish_columns(builders: &mut Self::Builders) -> Vec<ArrayRef> {
                vec![Self::finish(builders)]
            }
        }
    };
}

macro_rules! primitive_value {
    ($($type:ty => $arrow:ty, $data_type:ident;)*) => {$(
        impl Value for $type {
            type Ref<'a> = $type;
            type Column = PrimitiveArray<$arrow>;
            type Builder = PrimitiveBuilder<$arrow>;

            fn data_type() -> DataType {
                DataType::$data_type
            }

            fn column(array: &ArrayRef, name: &str) -> Result<Self::Column, RecordError> {
                array.as_primitive_opt::<$arrow>().cloned().ok_or_else(|| wrong_type::<Self>(array, name))
            }

            #[inline]
            fn get(column: &Self::Column, row: usize) -> Self {
                column.values()[row]
            }

            #[inline]
            fn is_null(column: &Self::Column, row: usize) -> bool {
                column.is_null(row)
            }

            fn builder(capacity: usize) -> Self::Builder {
                PrimitiveBuilder::with_capacity(capacity)
            }

            #[inline]
            fn append(builder: &mut Self::Builder, value: Self) {
                builder.append_value(value);
            }

            fn append_null(builder: &mut Self::Builder) {
                builder.append_null();
            }

            #[inline]
            fn builder_bytes(builder: &Self::Builder) -> usize {
                size_of_val(builder.values_slice())
            }

            fn finish(builder: &mut Self::Builder) -> ArrayRef {
                Arc::new(builder.finish())
            }

            #[inline]
            fn view(value: &Self) -> Self {
                *value
            }

            #[inline]
            fn own(value: Self) -> Self {
                value
            }

            #[inline]
            fn heap_bytes(_value: Self) -> usize {
                0
            }
        }

        impl Required for $type {}
        single_column_record!(=> $type);
    )*};
}

primitive_value! {
    i8 => Int8Type, Int8;
    i16 => Int16Type, Int16;
    i32 => Int32Type, Int32;
    i64 => Int64Type, Int64;
    u8 => UInt8Type, UInt8;
    u16 => UInt16Type, UInt16;
    u32 => UInt32Type, UInt32;
    u64 => UInt64Type, UInt64;
    f32 => Float32Type, Float32;
    f64 => Float64Type, Float64;
}

macro_rules! bytes_value {
    ($($type:ty, $view:ty, $array:ty, $builder:ty, $data_type:ident, $downcast:ident, $own:ident;)*) => {$(
        impl Value for $type {
            type Ref<'a> = &'a $view;
            type Column = $array;
            type Builder = $builder;

            fn data_type() -> DataType {
                DataType::$data_type
            }

            fn column(array: &ArrayRef, name: &str) -> Result<Self::Column, RecordError> {
                array.$downcast::<i32>().cloned().ok_or_else(|| wrong_type::<Self>(array, name))
            }

            #[inline]
            fn get(column: &Self::Column, row: usize) -> &$view {
                column.value(row)
            }

            #[inline]
            fn is_null(column: &Self::Column, row: usize) -> bool {
                column.is_null(row)
            }

            fn builder(capacity: usize) -> Self::Builder {
                <$builder>::with_capacity(capacity, capacity * 8)
            }

            #[inline]
            fn append(builder: &mut Self::Builder, value: &$view) {
                builder.append_value(value);
            }

            fn append_null(builder: &mut Self::Builder) {
                builder.append_null();
            }

            #[inline]
            fn builder_bytes(builder: &Self::Builder) -> usize {
                builder.values_slice().len() + size_of_val(builder.offsets_slice())
            }

            fn finish(builder: &mut Self::Builder) -> ArrayRef {
                Arc::new(builder.finish())
            }

            #[inline]
            fn view(value: &Self) -> &$view {
                value
            }

            #[inline]
            fn own(value: &$view) -> Self {
                value.$own()
            }

            #[inline]
            fn heap_bytes(value: &$view) -> usize {
                value.len()
            }
        }

        impl Required for $type {}
        single_column_record!(=> $type);
    )*};
}

bytes_value! {
    String, str, StringArray, StringBuilder, Utf8, as_string_opt, to_owned;
    Vec<u8>, [u8], BinaryArray, BinaryBuilder, Binary, as_binary_opt, to_vec;
}

impl Value for bool {
    type Ref<'a> = bool;
    type Column = BooleanArray;
    type Builder = BooleanBuilder;

    fn data_type() -> DataType {
        DataType::Boolean
    }

    fn column(array: &ArrayRef, name: &str) -> Result<Self::Column, RecordError> {
        array
            .as_boolean_opt()
            .cloned()
            .ok_or_else(|| wrong_type::<Self>(array, name))
    }

    #[inline]
    fn get(column: &Self::Column, row: usize) -> bool {
        column.value(row)
    }

    #[inline]
    fn is_null(column: &Self::Column, row: usize) -> bool {
        column.is_null(row)
    }

    fn builder(capacity: usize) -> Self::Builder {
        BooleanBuilder::with_capacity(capacity)
    }

    #[inline]
    fn append(builder: &mut Self::Builder, value: bool) {
        builder.append_value(value);
    }

    fn append_null(builder: &mut Self::Builder) {
        builder.append_null();
    }

    #[inline]
    fn builder_bytes(builder: &Self::Builder) -> usize {
        builder.values_slice().len()
    }

    fn finish(builder: &mut Self::Builder) -> ArrayRef {
        Arc::new(builder.finish())
    }

    #[inline]
    fn view(value: &Self) -> bool {
        *value
    }

    #[inline]
    fn own(value: bool) -> Self {
        value
    }

    #[inline]
    fn heap_bytes(_value: bool) -> usize {
        0
    }
}

impl Required for bool {}
single_column_record!(=> bool);

/// The time zone that marks a column as points in time.
const UTC: &str = "UTC";

impl Value for Timestamp {
    type Ref<'a> = Timestamp;
    type Column = TimestampMillisecondArray;
    type Builder = TimestampMillisecondBuilder;

    fn data_type() -> DataType {
        DataType::Timestamp(TimeUnit::Millisecond, Some(UTC.into()))
    }

    fn column(array: &ArrayRef, name: &str) -> Result<Self::Column, RecordError> {
        array
            .as_primitive_opt::<TimestampMillisecondType>()
            .filter(|column| *column.data_type() == Self::data_type())
            .cloned()
            .ok_or_else(|| wrong_type::<Self>(array, name))
    }

    #[inline]
    fn get(column: &Self::Column, row: usize) -> Self {
        Self {
            millis: column.values()[row],
        }
    }

    #[inline]
    fn is_null(column: &Self::Column, row: usize) -> bool {
        column.is_null(row)
    }

    fn builder(capacity: usize) -> Self::Builder {
        TimestampMillisecondBuilder::with_capacity(capacity).with_timezone(UTC)
    }

    #[inline]
    fn append(builder: &mut Self::Builder, value: Self) {
        builder.append_value(value.millis);
    }

    fn append_null(builder: &mut Self::Builder) {
        builder.append_null();
    }

    #[inline]
    fn builder_bytes(builder: &Self::Builder) -> usize {
        size_of_val(builder.values_slice())
    }

    fn finish(builder: &mut Self::Builder) -> ArrayRef {
        Arc::new(builder.finish())
    }

    #[inline]
    fn view(value: &Self) -> Self {
        *value
    }

    #[inline]
    fn own(value: Self) -> Self {
        value
    }

    #[inline]
    fn heap_bytes(_value: Self) -> usize {
        0
    }
}

impl Required for Timestamp {}
single_column_record!(=> Timestamp);

impl<V: Required> Value for Option<V> {
    type Ref<'a> = Option<V::Ref<'a>>;
    type Column = V::Column;
    type Builder = V::Builder;
    const NULLABLE: bool = true;

    fn data_type() -> DataType {
        V::data_type()
    }

    fn column(array: &ArrayRef, name: &str) -> Result<Self::Column, RecordError> {
        V::column(array, name)
    }

    #[inline]
    fn get(column: &Self::Column, row: usize) -> Self::Ref<'_> {
        if V::is_null(column, row) {
            None
        } else {
            Some(V::get(column, row))
        }
    }

    #[inline]
    fn is_null(column: &Self::Column, row: usize) -> bool {
        V::is_null(column, row)
    }

    fn builder(capacity: usize) -> Self::Builder {
        V::builder(capacity)
    }

    #[inline]
    fn append(builder: &mut Self::Builder, value: Self::Ref<'_>) {
        match value {
            Some(value) => V::append(builder, value),
            None => V::append_null(builder),
        }
    }

    fn append_null(builder: &mut Self::Builder) {
        V::append_null(builder);
    }

    #[inline]
    fn builder_bytes(builder: &Self::Builder) -> usize {
        V::builder_bytes(builder)
    }

    fn finish(builder: &mut Self::Builder) -> ArrayRef {
        V::finish(builder)
    }

    #[inline]
    fn view(value: &Self) -> Self::Ref<'_> {
        value.as_ref().map(V::view)
    }

    #[inline]
    fn own(value: Self::Ref<'_>) -> Self {
        value.map(V::own)
    }

    #[inline]
    fn heap_bytes(value: Self::Ref<'_>) -> usize {
        value.map_or(0, V::heap_bytes)
    }
}

single_column_record!(V => Option<V>);
