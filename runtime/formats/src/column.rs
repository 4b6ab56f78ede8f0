//! Builders of columns of any type, that forget their last rows when a record turns out to be malformed.

use std::sync::Arc;

use arrow::array::builder::NullBufferBuilder;
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DurationMillisecondArray,
    Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, IntervalYearMonthArray,
    ListArray, MapArray, NullArray, StringArray, StructArray, Time32MillisecondArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType as Arrow, Field as ArrowField, Fields, TimeUnit};
use thalweg_plan::data_type::time_unit;
use thalweg_plan::{DataType, Field, TypeRoot};

use crate::FormatError;

/// Most bytes of text in one batch's column: Arrow's offsets are 32 bits.
const MAX_COLUMN_BYTES: usize = i32::MAX as usize;

/// Text or bytes, one behind another.
pub(crate) struct Bytes {
    pub(crate) data: Vec<u8>,
    offsets: Vec<i32>,
}

impl Bytes {
    fn new() -> Self {
        Self {
            data: Vec::new(),
            offsets: vec![0],
        }
    }

    /// What was appended to `data` is a row.
    fn end_row(&mut self) -> Result<(), FormatError> {
        if self.data.len() > MAX_COLUMN_BYTES {
            return Err(FormatError::value("a batch's text is larger than 2 GiB"));
        }
        self.offsets.push(self.data.len() as i32);
        Ok(())
    }

    fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        self.data
            .truncate(self.offsets.last().copied().unwrap_or(0) as usize);
    }

    fn take(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        let data = Vec::with_capacity(self.data.len());
        let mut offsets = Vec::with_capacity(self.offsets.len());
        offsets.push(0);
        let full = std::mem::replace(self, Self { data, offsets });
        (
            OffsetBuffer::new(ScalarBuffer::from(full.offsets)),
            Buffer::from_vec(full.data),
        )
    }
}

/// The values so far; a null has some value.
pub(crate) enum Values {
    Null,
    Boolean(Vec<bool>),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    /// INT, DATE, TIME, INTERVAL YEAR TO MONTH.
    Int32(Vec<i32>),
    /// BIGINT, TIMESTAMP, INTERVAL DAY TO SECOND.
    Int64(Vec<i64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal(Vec<i128>),
    Utf8(Bytes),
    Binary(Bytes),
    List(Vec<i32>, Box<Column>),
    /// Also MULTISET: the value is an INT.
    Map(Vec<i32>, Box<(Column, Column)>),
    Row(RowColumns),
}

/// The fields of a ROW, or a message's columns.
pub(crate) struct RowColumns {
    pub(crate) names: Vec<String>,
    pub(crate) columns: Vec<Column>,
    /// Which fields the record at hand has given.
    pub(crate) seen: Vec<bool>,
}

/// A column that is being built.
pub(crate) struct Column {
    pub(crate) root: TypeRoot,
    pub(crate) nullable: bool,
    pub(crate) values: Values,
    nulls: NullBufferBuilder,
}

impl RowColumns {
    pub(crate) fn new(fields: &[Field]) -> Self {
        Self {
            names: fields.iter().map(|field| field.name.clone()).collect(),
            columns: fields.iter().map(|field| Column::new(&field.data_type)).collect(),
            seen: vec![false; fields.len()],
        }
    }

    /// The field of this name; `guess` is looked at first.
    #[inline]
    pub(crate) fn find(&self, name: &[u8], guess: usize) -> Option<usize> {
        if self
            .names
            .get(guess)
            .is_some_and(|expected| expected.as_bytes() == name)
        {
            return Some(guess);
        }
        self.names.iter().position(|field| field.as_bytes() == name)
    }

    pub(crate) fn append_null(&mut self) {
        self.columns.iter_mut().for_each(Column::append_null);
    }

    pub(crate) fn truncate(&mut self, rows: usize) {
        self.columns.iter_mut().for_each(|column| column.truncate(rows));
    }

    /// Bytes held, about.
    pub(crate) fn bytes(&self) -> usize {
        self.columns.iter().map(Column::bytes).sum()
    }

    /// All columns; they begin anew.
    pub(crate) fn finish(&mut self) -> Result<Vec<ArrayRef>, FormatError> {
        self.columns.iter_mut().map(Column::finish).collect()
    }
}

impl Column {
    pub(crate) fn new(data_type: &DataType) -> Self {
        let values = match &data_type.root {
            TypeRoot::Null => Values::Null,
            TypeRoot::Boolean => Values::Boolean(Vec::new()),
            TypeRoot::TinyInt => Values::Int8(Vec::new()),
            TypeRoot::SmallInt => Values::Int16(Vec::new()),
            TypeRoot::Int | TypeRoot::Date | TypeRoot::Time(_) | TypeRoot::IntervalYearMonth => {
                Values::Int32(Vec::new())
            }
            TypeRoot::BigInt
            | TypeRoot::Timestamp(..)
            | TypeRoot::TimestampLtz(..)
            | TypeRoot::IntervalDaySecond => Values::Int64(Vec::new()),
            TypeRoot::Float => Values::Float32(Vec::new()),
            TypeRoot::Double => Values::Float64(Vec::new()),
            TypeRoot::Decimal { .. } => Values::Decimal(Vec::new()),
            TypeRoot::Char(_) | TypeRoot::VarChar(_) => Values::Utf8(Bytes::new()),
            TypeRoot::Binary(_) | TypeRoot::VarBinary(_) => Values::Binary(Bytes::new()),
            TypeRoot::Array(element) => Values::List(vec![0], Box::new(Self::new(element))),
            TypeRoot::Map(key, value) => {
                let key = Self::new(&(**key).clone().with_nullable(false));
                Values::Map(vec![0], Box::new((key, Self::new(value))))
            }
            TypeRoot::Multiset(element) => {
                let key = Self::new(&(**element).clone().with_nullable(false));
                let count = Self::new(&DataType::not_null(TypeRoot::Int));
                Values::Map(vec![0], Box::new((key, count)))
            }
            TypeRoot::Row(fields) => Values::Row(RowColumns::new(fields)),
        };
        Self {
            root: data_type.root.clone(),
            nullable: data_type.nullable,
            values,
            nulls: NullBufferBuilder::new(0),
        }
    }

    /// Rows so far.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.nulls.len()
    }

    /// The value of a row that isn't null was appended to `values`.
    #[inline]
    pub(crate) fn end_value(&mut self) {
        self.nulls.append_non_null();
    }

    /// What was appended to the text or bytes is a row's value.
    #[inline]
    pub(crate) fn end_bytes(&mut self) -> Result<(), FormatError> {
        if let Values::Utf8(bytes) | Values::Binary(bytes) = &mut self.values {
            bytes.end_row()?;
        }
        self.nulls.append_non_null();
        Ok(())
    }

    /// What was appended to the list's or map's children is a row's value.
    pub(crate) fn end_list(&mut self) -> Result<(), FormatError> {
        let (offsets, children) = match &mut self.values {
            Values::List(offsets, child) => (offsets, child.len()),
            Values::Map(offsets, children) => (offsets, children.0.len()),
            _ => return Ok(()),
        };
        if children > MAX_COLUMN_BYTES {
            return Err(FormatError::value(
                "a batch's arrays hold more than 2^31 elements",
            ));
        }
        offsets.push(children as i32);
        self.nulls.append_non_null();
        Ok(())
    }

    /// Appends text or bytes.
    #[inline]
    pub(crate) fn push_bytes(&mut self, value: &[u8]) -> Result<(), FormatError> {
        if let Values::Utf8(bytes) | Values::Binary(bytes) = &mut self.values {
            bytes.data.extend_from_slice(value);
        }
        self.end_bytes()
    }

    pub(crate) fn append_null(&mut self) {
        match &mut self.values {
            Values::Null => {}
            Values::Boolean(values) => values.push(false),
            Values::Int8(values) => values.push(0),
            Values::Int16(values) => values.push(0),
            Values::Int32(values) => values.push(0),
            Values::Int64(values) => values.push(0),
            Values::Float32(values) => values.push(0.0),
            Values::Float64(values) => values.push(0.0),
            Values::Decimal(values) => values.push(0),
            Values::Utf8(bytes) | Values::Binary(bytes) => {
                bytes.offsets.push(bytes.offsets.last().copied().unwrap_or(0));
            }
            Values::List(offsets, _) | Values::Map(offsets, _) => {
                offsets.push(offsets.last().copied().unwrap_or(0));
            }
            Values::Row(row) => row.append_null(),
        }
        self.nulls.append_null();
    }

    /// Forgets rows, and what was begun behind them.
    pub(crate) fn truncate(&mut self, rows: usize) {
        match &mut self.values {
            Values::Null => {}
            Values::Boolean(values) => values.truncate(rows),
            Values::Int8(values) => values.truncate(rows),
            Values::Int16(values) => values.truncate(rows),
            Values::Int32(values) => values.truncate(rows),
            Values::Int64(values) => values.truncate(rows),
            Values::Float32(values) => values.truncate(rows),
            Values::Float64(values) => values.truncate(rows),
            Values::Decimal(values) => values.truncate(rows),
            Values::Utf8(bytes) | Values::Binary(bytes) => bytes.truncate(rows),
            Values::List(offsets, child) => {
                offsets.truncate(rows + 1);
                child.truncate(offsets.last().copied().unwrap_or(0) as usize);
            }
            Values::Map(offsets, children) => {
                offsets.truncate(rows + 1);
                let entries = offsets.last().copied().unwrap_or(0) as usize;
                children.0.truncate(entries);
                children.1.truncate(entries);
            }
            Values::Row(row) => row.truncate(rows),
        }
        self.nulls.truncate(rows);
    }

    fn bytes(&self) -> usize {
        let values = match &self.values {
            Values::Null => 0,
            Values::Boolean(values) => values.len(),
            Values::Int8(values) => values.len(),
            Values::Int16(values) => values.len() * 2,
            Values::Int32(values) => values.len() * 4,
            Values::Int64(values) => values.len() * 8,
            Values::Float32(values) => values.len() * 4,
            Values::Float64(values) => values.len() * 8,
            Values::Decimal(values) => values.len() * 16,
            Values::Utf8(bytes) | Values::Binary(bytes) => bytes.data.len() + bytes.offsets.len() * 4,
            Values::List(offsets, child) => offsets.len() * 4 + child.bytes(),
            Values::Map(offsets, children) => offsets.len() * 4 + children.0.bytes() + children.1.bytes(),
            Values::Row(row) => row.bytes(),
        };
        values + self.len() / 8
    }

    /// The rows as an array of the type's Arrow type; begins anew.
    pub(crate) fn finish(&mut self) -> Result<ArrayRef, FormatError> {
        let rows = self.len();
        let nulls = self.nulls.finish();
        let invalid = |error: arrow::error::ArrowError| FormatError::Columns(error.to_string());
        Ok(match &mut self.values {
            Values::Null => Arc::new(NullArray::new(rows)),
            Values::Boolean(values) => Arc::new(BooleanArray::new(take(values).into(), nulls)),
            Values::Int8(values) => Arc::new(Int8Array::new(take(values).into(), nulls)),
            Values::Int16(values) => Arc::new(Int16Array::new(take(values).into(), nulls)),
            Values::Int32(values) => int32_array(&self.root, take(values), nulls),
            Values::Int64(values) => int64_array(&self.root, take(values), nulls),
            Values::Float32(values) => Arc::new(Float32Array::new(take(values).into(), nulls)),
            Values::Float64(values) => Arc::new(Float64Array::new(take(values).into(), nulls)),
            Values::Decimal(values) => {
                let array = Decimal128Array::new(take(values).into(), nulls);
                let TypeRoot::Decimal { precision, scale } = self.root else {
                    return Err(FormatError::Columns(format!("{} holds decimals", self.root)));
                };
                Arc::new(
                    array
                        .with_precision_and_scale(precision, scale as i8)
                        .map_err(invalid)?,
                )
            }
            Values::Utf8(bytes) => {
                let (offsets, data) = bytes.take();
                Arc::new(StringArray::try_new(offsets, data, nulls).map_err(invalid)?)
            }
            Values::Binary(bytes) => {
                let (offsets, data) = bytes.take();
                Arc::new(BinaryArray::try_new(offsets, data, nulls).map_err(invalid)?)
            }
            Values::List(offsets, child) => {
                let offsets = take_offsets(offsets);
                let field = Arc::new(arrow_field("item", child));
                let child = child.finish()?;
                Arc::new(ListArray::try_new(field, offsets, child, nulls).map_err(invalid)?)
            }
            Values::Map(offsets, children) => {
                let offsets = take_offsets(offsets);
                let fields = Fields::from(vec![
                    arrow_field("key", &children.0),
                    arrow_field("value", &children.1),
                ]);
                let entries = vec![children.0.finish()?, children.1.finish()?];
                let entries = StructArray::try_new(fields.clone(), entries, None).map_err(invalid)?;
                let field = Arc::new(ArrowField::new("entries", Arrow::Struct(fields), false));
                Arc::new(MapArray::try_new(field, offsets, entries, nulls, false).map_err(invalid)?)
            }
            Values::Row(row) => {
                let fields = row
                    .names
                    .iter()
                    .zip(&row.columns)
                    .map(|(name, column)| arrow_field(name, column))
                    .collect::<Vec<_>>();
                let columns = row.finish()?;
                Arc::new(
                    StructArray::try_new_with_length(fields.into(), columns, nulls, rows).map_err(invalid)?,
                )
            }
        })
    }
}

fn take<T>(values: &mut Vec<T>) -> Vec<T> {
    let next = Vec::with_capacity(values.len());
    std::mem::replace(values, next)
}

fn take_offsets(offsets: &mut Vec<i32>) -> OffsetBuffer<i32> {
    OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(offsets, vec![0])))
}

fn arrow_field(name: &str, column: &Column) -> ArrowField {
    let data_type = DataType {
        root: column.root.clone(),
        nullable: column.nullable,
    };
    data_type.to_field(name)
}

fn int32_array(root: &TypeRoot, values: Vec<i32>, nulls: Option<NullBuffer>) -> ArrayRef {
    match root {
        TypeRoot::Date => Arc::new(Date32Array::new(values.into(), nulls)),
        TypeRoot::Time(_) => Arc::new(Time32MillisecondArray::new(values.into(), nulls)),
        TypeRoot::IntervalYearMonth => Arc::new(IntervalYearMonthArray::new(values.into(), nulls)),
        _ => Arc::new(Int32Array::new(values.into(), nulls)),
    }
}

fn int64_array(root: &TypeRoot, values: Vec<i64>, nulls: Option<NullBuffer>) -> ArrayRef {
    let zone = matches!(root, TypeRoot::TimestampLtz(..)).then(|| Arc::from("UTC"));
    let values = ScalarBuffer::from(values);
    match root {
        TypeRoot::IntervalDaySecond => Arc::new(DurationMillisecondArray::new(values, nulls)),
        TypeRoot::Timestamp(precision, _) | TypeRoot::TimestampLtz(precision, _) => {
            match time_unit(*precision) {
                TimeUnit::Second | TimeUnit::Millisecond => {
                    Arc::new(TimestampMillisecondArray::new(values, nulls).with_timezone_opt(zone))
                }
                TimeUnit::Microsecond => {
                    Arc::new(TimestampMicrosecondArray::new(values, nulls).with_timezone_opt(zone))
                }
                TimeUnit::Nanosecond => {
                    Arc::new(TimestampNanosecondArray::new(values, nulls).with_timezone_opt(zone))
                }
            }
        }
        _ => Arc::new(Int64Array::new(values, nulls)),
    }
}
