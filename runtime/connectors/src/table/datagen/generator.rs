//! Makes columns: a generator for each type.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryBuilder, BooleanArray, Date32Array, Decimal128Array, DurationMillisecondArray,
    Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, IntervalYearMonthArray,
    ListArray, MapArray, StringBuilder, StructArray, Time32MillisecondArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray, make_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType as Arrow, TimeUnit};
use thalweg_plan::{DataType, TypeRoot};

use crate::table::random::Random;

const MILLIS_PER_DAY: i64 = 86_400_000;

/// Makes a column.
#[derive(Debug, Clone)]
pub(super) struct Generator {
    pub(super) data_type: DataType,
    pub(super) kind: Kind,
    pub(super) null_rate: f64,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// The value of an index is `start` + the index.
    Sequence {
        start: i64,
    },
    Boolean,
    /// Numbers of all whole types, months and milliseconds.
    Whole {
        min: i64,
        max: i64,
    },
    Real {
        min: f64,
        max: f64,
    },
    /// Hexadecimal text, or bytes.
    Text {
        length: u32,
        var_len: bool,
    },
    Now {
        max_past_ms: i64,
    },
    List {
        length: u32,
        element: Box<Generator>,
    },
    Map {
        length: u32,
        key: Box<Generator>,
        value: Box<Generator>,
    },
    Row(Vec<(String, Generator)>),
}

impl Generator {
    pub(super) fn column(&self, indices: Range<u64>, random: &mut Random, now_ms: i64) -> ArrayRef {
        let rows = (indices.end - indices.start) as usize;
        let values = match &self.kind {
            Kind::Sequence { start } => {
                let first = start.wrapping_add(indices.start.cast_signed());
                self.numbers((0..rows as i64).map(|row| first.wrapping_add(row)).collect())
            }
            Kind::Boolean => Arc::new(BooleanArray::from_iter(
                (0..rows).map(|_| Some(random.next() & 1 == 1)),
            )) as ArrayRef,
            Kind::Whole { min, max } => self.numbers((0..rows).map(|_| random.between(*min, *max)).collect()),
            Kind::Real { min, max } => {
                let between = |share: f64| min * (1.0 - share) + max * share;
                self.reals((0..rows).map(|_| between(random.unit())).collect())
            }
            Kind::Text { length, var_len } => self.texts(rows, *length, *var_len, random),
            Kind::Now { max_past_ms } => {
                let past = |random: &mut Random| match max_past_ms {
                    0 => now_ms,
                    past => now_ms.saturating_sub(random.between(0, *past)),
                };
                self.times((0..rows).map(|_| past(random)).collect())
            }
            Kind::List { length, element } => {
                let length = u64::from(*length);
                let elements = element.column(0..length * rows as u64, random, now_ms);
                let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(length as usize, rows));
                let field = Arc::new(element.data_type.to_field("item"));
                Arc::new(ListArray::new(field, offsets, elements, None))
            }
            Kind::Map { length, key, value } => self.map(rows, *length, [key, value], random, now_ms),
            Kind::Row(fields) => {
                let columns: Vec<ArrayRef> = fields
                    .iter()
                    .map(|(_, field)| field.column(indices.clone(), random, now_ms))
                    .collect();
                let Arrow::Struct(types) = self.data_type.to_arrow() else {
                    return arrow::array::new_null_array(&self.data_type.to_arrow(), rows);
                };
                Arc::new(StructArray::new(types, columns, None))
            }
        };
        self.with_nulls(values, random)
    }

    fn with_nulls(&self, values: ArrayRef, random: &mut Random) -> ArrayRef {
        if self.null_rate == 0.0 {
            return values;
        }
        let valid = (0..values.len()).map(|_| random.unit() >= self.null_rate);
        let nulls: NullBuffer = valid.collect();
        match values.to_data().into_builder().nulls(Some(nulls)).build() {
            Ok(data) => make_array(data),
            Err(_) => values,
        }
    }

    fn numbers(&self, values: Vec<i64>) -> ArrayRef {
        match &self.data_type.root {
            TypeRoot::TinyInt => Arc::new(Int8Array::from_iter_values(
                values.iter().map(|value| *value as i8),
            )),
            TypeRoot::SmallInt => Arc::new(Int16Array::from_iter_values(
                values.iter().map(|value| *value as i16),
            )),
            TypeRoot::Int => Arc::new(Int32Array::from_iter_values(
                values.iter().map(|value| *value as i32),
            )),
            TypeRoot::IntervalYearMonth => Arc::new(IntervalYearMonthArray::from_iter_values(
                values.iter().map(|value| *value as i32),
            )),
            TypeRoot::IntervalDaySecond => Arc::new(DurationMillisecondArray::from(values)),
            TypeRoot::Float => Arc::new(Float32Array::from_iter_values(
                values.iter().map(|value| *value as f32),
            )),
            TypeRoot::Double => Arc::new(Float64Array::from_iter_values(
                values.iter().map(|value| *value as f64),
            )),
            TypeRoot::Decimal { precision, scale } => {
                let unit = 10_i128.pow((*scale).into());
                self.decimals(
                    values.iter().map(|value| i128::from(*value) * unit),
                    *precision,
                    *scale,
                )
            }
            TypeRoot::Char(_) | TypeRoot::VarChar(_) => {
                let mut texts = StringBuilder::with_capacity(values.len(), values.len() * 8);
                values
                    .iter()
                    .for_each(|value| texts.append_value(value.to_string()));
                Arc::new(texts.finish())
            }
            _ => Arc::new(Int64Array::from(values)),
        }
    }

    fn decimals(&self, values: impl Iterator<Item = i128>, precision: u8, scale: u8) -> ArrayRef {
        let array = Decimal128Array::from_iter_values(values);
        match array.with_precision_and_scale(precision, scale as i8) {
            Ok(array) => Arc::new(array),
            Err(_) => arrow::array::new_null_array(&self.data_type.to_arrow(), 0),
        }
    }

    fn reals(&self, values: Vec<f64>) -> ArrayRef {
        match &self.data_type.root {
            TypeRoot::Float => Arc::new(Float32Array::from_iter_values(
                values.iter().map(|value| *value as f32),
            )),
            TypeRoot::Decimal { precision, scale } => {
                let unit = 10_f64.powi((*scale).into());
                let limit = 10_i128.pow((*precision).min(38).into()) - 1;
                let unscaled = values
                    .iter()
                    .map(|value| ((value * unit) as i128).clamp(-limit, limit));
                self.decimals(unscaled, *precision, *scale)
            }
            _ => Arc::new(Float64Array::from(values)),
        }
    }

    fn texts(&self, rows: usize, length: u32, var_len: bool, random: &mut Random) -> ArrayRef {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let length_of = |random: &mut Random| match (var_len, length) {
            (true, 1..) => 1 + random.below(length.into()) as usize,
            _ => length as usize,
        };
        let mut value = Vec::new();
        if let TypeRoot::Char(_) | TypeRoot::VarChar(_) = self.data_type.root {
            let mut texts = StringBuilder::with_capacity(rows, rows * length as usize);
            for _ in 0..rows {
                value.clear();
                let length = length_of(random);
                value.extend((0..length).map(|_| HEX[(random.next() & 15) as usize]));
                texts.append_value(std::str::from_utf8(&value).unwrap_or_default());
            }
            return Arc::new(texts.finish());
        }
        let mut bytes = BinaryBuilder::with_capacity(rows, rows * length as usize);
        for _ in 0..rows {
            value.clear();
            let length = length_of(random);
            value.extend((0..length).map(|_| random.next() as u8));
            bytes.append_value(&value);
        }
        Arc::new(bytes.finish())
    }

    fn times(&self, millis: Vec<i64>) -> ArrayRef {
        match self.data_type.to_arrow() {
            Arrow::Date32 => Arc::new(Date32Array::from_iter_values(
                millis.iter().map(|value| value.div_euclid(MILLIS_PER_DAY) as i32),
            )),
            Arrow::Time32(_) => Arc::new(Time32MillisecondArray::from_iter_values(
                millis.iter().map(|value| value.rem_euclid(MILLIS_PER_DAY) as i32),
            )),
            Arrow::Timestamp(TimeUnit::Microsecond, zone) => {
                let values = millis.iter().map(|value| value.saturating_mul(1_000));
                Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_timezone_opt(zone))
            }
            Arrow::Timestamp(TimeUnit::Nanosecond, zone) => {
                let values = millis.iter().map(|value| value.saturating_mul(1_000_000));
                Arc::new(TimestampNanosecondArray::from_iter_values(values).with_timezone_opt(zone))
            }
            Arrow::Timestamp(_, zone) => {
                Arc::new(TimestampMillisecondArray::from(millis).with_timezone_opt(zone))
            }
            other => arrow::array::new_null_array(&other, millis.len()),
        }
    }

    fn map(
        &self,
        rows: usize,
        length: u32,
        [key, value]: [&Generator; 2],
        random: &mut Random,
        now_ms: i64,
    ) -> ArrayRef {
        let arrow = self.data_type.to_arrow();
        let Arrow::Map(entries, _) = &arrow else {
            return arrow::array::new_null_array(&arrow, rows);
        };
        let Arrow::Struct(fields) = entries.data_type() else {
            return arrow::array::new_null_array(&arrow, rows);
        };
        let length = u64::from(length);
        let keys = Generator {
            null_rate: 0.0,
            ..key.clone()
        };
        let columns = vec![
            keys.column(0..length * rows as u64, random, now_ms),
            value.column(0..length * rows as u64, random, now_ms),
        ];
        let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(length as usize, rows));
        let all = StructArray::new(fields.clone(), columns, None);
        Arc::new(MapArray::new(Arc::clone(entries), offsets, all, None, false))
    }
}
