//! How a value of each type goes into a hash. See the table of the parent module.

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, FixedSizeBinaryArray, GenericByteArray,
    GenericByteViewArray, OffsetSizeTrait, PrimitiveArray, RunArray,
};
use arrow::datatypes::{
    BinaryViewType, ByteArrayType, ByteViewType, DataType, Date32Type, Date64Type, Decimal32Type,
    Decimal64Type, Decimal128Type, Decimal256Type, DurationMicrosecondType, DurationMillisecondType,
    DurationNanosecondType, DurationSecondType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, IntervalDayTimeType, IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType,
    RunEndIndexType, StringViewType, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
    Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type, i256,
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::KeyHashError;

/// The classes of values; part of the definition, never renumbered.
#[derive(Clone, Copy)]
enum Class {
    Null = 0,
    Boolean = 1,
    Integer = 2,
    LargeInteger = 3,
    Float = 4,
    Text = 5,
    Bytes = 6,
    Decimal = 7,
    Date = 8,
    Time = 9,
    Timestamp = 10,
    Instant = 11,
    Duration = 12,
    Interval = 13,
    List = 14,
    Struct = 15,
    Map = 16,
}

/// Folds the value of a row into a hash.
type Fold<'a> = Box<dyn Fn(usize, u64) -> u64 + 'a>;

#[inline]
fn fold(class: Class, bytes: &[u8], hash: u64) -> u64 {
    xxh3_64_with_seed(bytes, hash ^ (class as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

#[inline]
pub(super) fn integer(value: i64, hash: u64) -> u64 {
    fold(Class::Integer, &value.to_le_bytes(), hash)
}

#[inline]
pub(super) fn text(bytes: &[u8], hash: u64) -> u64 {
    fold(Class::Text, bytes, hash)
}

fn float(value: f64, hash: u64) -> u64 {
    let canonical = if value.is_nan() {
        f64::NAN.to_bits() & !(1 << 63)
    } else if value == 0.0 {
        0
    } else {
        value.to_bits()
    };
    fold(Class::Float, &canonical.to_le_bytes(), hash)
}

/// Folds each row's value into the row's hash.
pub(super) fn fold_column(column: &ArrayRef, hashes: &mut [u64]) -> Result<(), KeyHashError> {
    let fold = fold_of(column)?;
    for (row, hash) in hashes.iter_mut().enumerate() {
        *hash = fold(row, *hash);
    }
    Ok(())
}

/// What folds the values of a column.
fn fold_of(column: &ArrayRef) -> Result<Fold<'_>, KeyHashError> {
    use DataType as T;
    let array = column.as_ref();
    let values: Fold<'_> = match column.data_type() {
        T::Null => return Ok(Box::new(|_, hash| fold(Class::Null, &[], hash))),
        T::Boolean => booleans(array.as_boolean()),
        T::Int8 => integers::<Int8Type>(array),
        T::Int16 => integers::<Int16Type>(array),
        T::Int32 => integers::<Int32Type>(array),
        T::Int64 => integers::<Int64Type>(array),
        T::UInt8 => integers::<UInt8Type>(array),
        T::UInt16 => integers::<UInt16Type>(array),
        T::UInt32 => integers::<UInt32Type>(array),
        T::UInt64 => primitives::<UInt64Type>(array, |value, hash| match i64::try_from(value) {
            Ok(value) => integer(value, hash),
            Err(_) => fold(Class::LargeInteger, &value.to_le_bytes(), hash),
        }),
        T::Float16 => primitives::<Float16Type>(array, |value, hash| float(value.to_f64(), hash)),
        T::Float32 => primitives::<Float32Type>(array, |value, hash| float(f64::from(value), hash)),
        T::Float64 => primitives::<Float64Type>(array, float),
        T::Utf8 => byte_slices(array.as_string::<i32>(), Class::Text),
        T::LargeUtf8 => byte_slices(array.as_string::<i64>(), Class::Text),
        T::Utf8View => byte_views::<StringViewType>(array.as_string_view(), Class::Text),
        T::Binary => byte_slices(array.as_binary::<i32>(), Class::Bytes),
        T::LargeBinary => byte_slices(array.as_binary::<i64>(), Class::Bytes),
        T::BinaryView => byte_views::<BinaryViewType>(array.as_binary_view(), Class::Bytes),
        T::FixedSizeBinary(_) => fixed_bytes(array.as_fixed_size_binary()),
        T::Decimal32(_, scale) => decimals::<Decimal32Type>(array, *scale),
        T::Decimal64(_, scale) => decimals::<Decimal64Type>(array, *scale),
        T::Decimal128(_, scale) => decimals::<Decimal128Type>(array, *scale),
        T::Decimal256(_, scale) => {
            let exponent = -i32::from(*scale);
            primitives::<Decimal256Type>(array, move |value, hash| large_decimal(value, exponent, hash))
        }
        T::Date32 => primitives::<Date32Type>(array, |days, hash| date(i64::from(days), hash)),
        T::Date64 => primitives::<Date64Type>(array, |ms, hash| date(ms.div_euclid(86_400_000), hash)),
        T::Time32(TimeUnit::Second) => {
            primitives::<Time32SecondType>(array, |value, hash| time(i64::from(value), 1_000_000_000, hash))
        }
        T::Time32(_) => {
            primitives::<Time32MillisecondType>(array, |value, hash| time(i64::from(value), 1_000_000, hash))
        }
        T::Time64(TimeUnit::Microsecond) => {
            primitives::<Time64MicrosecondType>(array, |value, hash| time(value, 1_000, hash))
        }
        T::Time64(_) => primitives::<Time64NanosecondType>(array, |value, hash| time(value, 1, hash)),
        T::Timestamp(unit, zone) => {
            let class = if zone.is_some() {
                Class::Instant
            } else {
                Class::Timestamp
            };
            match unit {
                TimeUnit::Second => timestamps::<TimestampSecondType>(array, 1, class),
                TimeUnit::Millisecond => timestamps::<TimestampMillisecondType>(array, 1_000, class),
                TimeUnit::Microsecond => timestamps::<TimestampMicrosecondType>(array, 1_000_000, class),
                TimeUnit::Nanosecond => timestamps::<TimestampNanosecondType>(array, 1_000_000_000, class),
            }
        }
        T::Duration(TimeUnit::Second) => durations::<DurationSecondType>(array, 1_000_000_000),
        T::Duration(TimeUnit::Millisecond) => durations::<DurationMillisecondType>(array, 1_000_000),
        T::Duration(TimeUnit::Microsecond) => durations::<DurationMicrosecondType>(array, 1_000),
        T::Duration(TimeUnit::Nanosecond) => durations::<DurationNanosecondType>(array, 1),
        T::Interval(IntervalUnit::YearMonth) => {
            primitives::<IntervalYearMonthType>(array, |months, hash| interval(months, 0, 0, hash))
        }
        T::Interval(IntervalUnit::DayTime) => primitives::<IntervalDayTimeType>(array, |value, hash| {
            interval(0, value.days, i64::from(value.milliseconds) * 1_000_000, hash)
        }),
        T::Interval(IntervalUnit::MonthDayNano) => {
            primitives::<IntervalMonthDayNanoType>(array, |value, hash| {
                interval(value.months, value.days, value.nanoseconds, hash)
            })
        }
        T::List(_) => lists::<i32>(column)?,
        T::LargeList(_) => lists::<i64>(column)?,
        T::ListView(_) => list_views::<i32>(column)?,
        T::LargeListView(_) => list_views::<i64>(column)?,
        T::FixedSizeList(_, size) => fixed_lists(column, *size)?,
        T::Struct(_) => structs(column)?,
        T::Map(_, _) => maps(column)?,
        T::Dictionary(_, _) => return dictionary(column),
        T::RunEndEncoded(_, _) => return runs(column),
        T::Union(_, _) => return Err(KeyHashError::UnsupportedType(column.data_type().clone())),
    };
    Ok(match column.nulls() {
        Some(nulls) if nulls.null_count() > 0 => Box::new(move |row, hash| {
            if nulls.is_null(row) {
                fold(Class::Null, &[], hash)
            } else {
                values(row, hash)
            }
        }),
        _ => values,
    })
}

fn booleans(array: &BooleanArray) -> Fold<'_> {
    Box::new(|row, hash| fold(Class::Boolean, &[u8::from(array.value(row))], hash))
}

fn primitives<T: ArrowPrimitiveType>(
    array: &dyn Array,
    one: impl Fn(T::Native, u64) -> u64 + 'static,
) -> Fold<'_> {
    let array: &PrimitiveArray<T> = array.as_primitive();
    Box::new(move |row, hash| one(array.value(row), hash))
}

fn integers<T: ArrowPrimitiveType>(array: &dyn Array) -> Fold<'_>
where
    T::Native: Into<i64>,
{
    primitives::<T>(array, |value, hash| integer(value.into(), hash))
}

fn byte_slices<T: ByteArrayType>(array: &GenericByteArray<T>, class: Class) -> Fold<'_> {
    Box::new(move |row, hash| fold(class, array.value(row).as_ref(), hash))
}

fn byte_views<T: ByteViewType + ?Sized>(array: &GenericByteViewArray<T>, class: Class) -> Fold<'_> {
    Box::new(move |row, hash| fold(class, array.value(row).as_ref(), hash))
}

fn fixed_bytes(array: &FixedSizeBinaryArray) -> Fold<'_> {
    Box::new(|row, hash| fold(Class::Bytes, array.value(row), hash))
}

fn decimals<T: ArrowPrimitiveType>(array: &dyn Array, scale: i8) -> Fold<'_>
where
    T::Native: Into<i128>,
{
    primitives::<T>(array, move |value, hash| {
        decimal(value.into(), -i32::from(scale), hash)
    })
}

/// 1.50 and 1.5 are the same number: trailing zeros move into the exponent.
fn decimal(mut unscaled: i128, mut exponent: i32, hash: u64) -> u64 {
    if unscaled == 0 {
        exponent = 0;
    }
    while unscaled != 0 && unscaled % 10 == 0 {
        unscaled /= 10;
        exponent += 1;
    }
    let mut bytes = [0; 20];
    bytes[..16].copy_from_slice(&unscaled.to_le_bytes());
    bytes[16..].copy_from_slice(&exponent.to_le_bytes());
    fold(Class::Decimal, &bytes, hash)
}

fn large_decimal(mut unscaled: i256, mut exponent: i32, hash: u64) -> u64 {
    let ten = i256::from_i128(10);
    loop {
        if let Some(small) = unscaled.to_i128() {
            return decimal(small, exponent, hash);
        }
        if unscaled.wrapping_rem(ten) != i256::ZERO {
            break;
        }
        unscaled = unscaled.wrapping_div(ten);
        exponent += 1;
    }
    let mut bytes = [0; 36];
    bytes[..32].copy_from_slice(&unscaled.to_le_bytes());
    bytes[32..].copy_from_slice(&exponent.to_le_bytes());
    fold(Class::Decimal, &bytes, hash)
}

fn date(days: i64, hash: u64) -> u64 {
    fold(Class::Date, &days.to_le_bytes(), hash)
}

fn time(value: i64, nanoseconds: i64, hash: u64) -> u64 {
    fold(Class::Time, &value.wrapping_mul(nanoseconds).to_le_bytes(), hash)
}

fn timestamps<T: ArrowPrimitiveType<Native = i64>>(
    array: &dyn Array,
    units_per_second: i64,
    class: Class,
) -> Fold<'_> {
    primitives::<T>(array, move |value, hash| {
        let seconds = value.div_euclid(units_per_second);
        let nanoseconds = value.rem_euclid(units_per_second) * (1_000_000_000 / units_per_second);
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&seconds.to_le_bytes());
        bytes[8..].copy_from_slice(&(nanoseconds as u32).to_le_bytes());
        fold(class, &bytes, hash)
    })
}

fn durations<T: ArrowPrimitiveType<Native = i64>>(array: &dyn Array, nanoseconds: i128) -> Fold<'_> {
    primitives::<T>(array, move |value, hash| {
        fold(
            Class::Duration,
            &(i128::from(value) * nanoseconds).to_le_bytes(),
            hash,
        )
    })
}

fn interval(months: i32, days: i32, nanoseconds: i64, hash: u64) -> u64 {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&months.to_le_bytes());
    bytes[4..8].copy_from_slice(&days.to_le_bytes());
    bytes[8..].copy_from_slice(&nanoseconds.to_le_bytes());
    fold(Class::Interval, &bytes, hash)
}

fn list_of(elements: &Fold<'_>, range: std::ops::Range<usize>, hash: u64) -> u64 {
    let start = fold(Class::List, &(range.len() as u64).to_le_bytes(), hash);
    range.fold(start, |hash, index| elements(index, hash))
}

fn lists<O: OffsetSizeTrait>(column: &ArrayRef) -> Result<Fold<'_>, KeyHashError> {
    let array = column.as_list::<O>();
    let elements = fold_of(array.values())?;
    let offsets = array.value_offsets();
    Ok(Box::new(move |row, hash| {
        list_of(
            &elements,
            offsets[row].as_usize()..offsets[row + 1].as_usize(),
            hash,
        )
    }))
}

fn list_views<O: OffsetSizeTrait>(column: &ArrayRef) -> Result<Fold<'_>, KeyHashError> {
    let array = column.as_list_view::<O>();
    let elements = fold_of(array.values())?;
    Ok(Box::new(move |row, hash| {
        let start = array.value_offset(row).as_usize();
        list_of(&elements, start..start + array.value_size(row).as_usize(), hash)
    }))
}

fn fixed_lists(column: &ArrayRef, size: i32) -> Result<Fold<'_>, KeyHashError> {
    let array = column.as_fixed_size_list();
    let elements = fold_of(array.values())?;
    let size = size as usize;
    Ok(Box::new(move |row, hash| {
        let start = array.value_offset(row) as usize;
        list_of(&elements, start..start + size, hash)
    }))
}

fn structs(column: &ArrayRef) -> Result<Fold<'_>, KeyHashError> {
    let fields = column
        .as_struct()
        .columns()
        .iter()
        .map(fold_of)
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Box::new(move |row, hash| {
        let start = fold(Class::Struct, &(fields.len() as u64).to_le_bytes(), hash);
        fields.iter().fold(start, |hash, field| field(row, hash))
    }))
}

fn maps(column: &ArrayRef) -> Result<Fold<'_>, KeyHashError> {
    let array = column.as_map();
    let keys = fold_of(array.keys())?;
    let values = fold_of(array.values())?;
    let offsets = array.value_offsets();
    Ok(Box::new(move |row, hash| {
        let range = offsets[row] as usize..offsets[row + 1] as usize;
        let length = range.len() as u64;
        let sum = range.fold(0u64, |sum, entry| sum.wrapping_add(values(entry, keys(entry, 0))));
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        bytes[8..].copy_from_slice(&sum.to_le_bytes());
        fold(Class::Map, &bytes, hash)
    }))
}

/// What its keys point at.
fn dictionary(column: &ArrayRef) -> Result<Fold<'_>, KeyHashError> {
    let dictionary = column.as_any_dictionary();
    let values = fold_of(dictionary.values())?;
    let nulls = column.nulls();
    if dictionary.values().is_empty() {
        return Ok(Box::new(|_, hash| fold(Class::Null, &[], hash)));
    }
    let keys = dictionary.normalized_keys();
    Ok(Box::new(move |row, hash| {
        if nulls.is_some_and(|nulls| nulls.is_null(row)) {
            fold(Class::Null, &[], hash)
        } else {
            values(keys[row], hash)
        }
    }))
}

/// The value of the run that a row is in.
fn runs(column: &ArrayRef) -> Result<Fold<'_>, KeyHashError> {
    if let Some(runs) = column.as_run_opt::<Int16Type>() {
        runs_of(runs)
    } else if let Some(runs) = column.as_run_opt::<Int32Type>() {
        runs_of(runs)
    } else if let Some(runs) = column.as_run_opt::<Int64Type>() {
        runs_of(runs)
    } else {
        Err(KeyHashError::UnsupportedType(column.data_type().clone()))
    }
}

fn runs_of<R: RunEndIndexType>(runs: &RunArray<R>) -> Result<Fold<'_>, KeyHashError> {
    let values = fold_of(runs.values())?;
    Ok(Box::new(move |row, hash| {
        values(runs.get_physical_index(row), hash)
    }))
}
