//! Avro's binary form of one row: Flink's `avro` format, whose schema follows from the table's.
//!
//! A column that may be null is a union of null and its type. Values have no names in the message, so that all of them are
//! walked over in order, and those that nobody wants only that.

use arrow::array::{Array, ArrayRef, AsArray, Int8Array};
use arrow::datatypes::{
    DataType as Arrow, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time32MillisecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
};
use thalweg_plan::{DataType, Field, TypeRoot};

use crate::FormatError;
use crate::column::{Column, RowColumns, Values};
use crate::format::{Decoded, Decoder, Encoder, Messages, OptionReader};
use crate::projection::Projection;

/// `avro.*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AvroOptions {
    /// Only TIMESTAMP, in milliseconds; Flink's default.
    legacy_timestamps: bool,
}

impl AvroOptions {
    pub(crate) const KEYS: [&'static str; 2] = ["encoding", "timestamp_mapping.legacy"];

    pub(crate) fn read(options: &OptionReader<'_>) -> Result<Self, String> {
        let legacy_timestamps = options.boolean("timestamp_mapping.legacy", true)?;
        match options.get("encoding") {
            None | Some("binary") => Ok(Self { legacy_timestamps }),
            Some("json") => Err(format!("'{}'='json' is not supported.", options.key("encoding"))),
            Some(other) => Err(format!(
                "Invalid value '{other}' for option '{}': binary is expected.",
                options.key("encoding")
            )),
        }
    }
}

impl AvroOptions {
    /// What has a form in Avro: Flink's `AvroSchemaConverter.convertToSchema`.
    pub(crate) fn check(&self, fields: &[Field]) -> Result<(), String> {
        check(fields, self.legacy_timestamps)
    }
}

fn check(fields: &[Field], legacy_timestamps: bool) -> Result<(), String> {
    fields
        .iter()
        .try_for_each(|field| check_type(&field.data_type, legacy_timestamps))
}

fn check_type(data_type: &DataType, legacy_timestamps: bool) -> Result<(), String> {
    let finest = if legacy_timestamps { 3 } else { 6 };
    match &data_type.root {
        TypeRoot::TimestampLtz(..) if legacy_timestamps => Err(format!(
            "Unsupported to derive Schema for type: {data_type}: set 'avro.timestamp_mapping.legacy' to 'false'"
        )),
        TypeRoot::Timestamp(precision, _) | TypeRoot::TimestampLtz(precision, _) if *precision > finest => {
            Err(format!(
                "Avro does not support TIMESTAMP type with precision: {precision}, it only supports precision less than {finest}."
            ))
        }
        TypeRoot::Time(precision) if *precision > 3 => Err(format!(
            "Avro does not support TIME type with precision: {precision}, it only supports precision less than 3."
        )),
        TypeRoot::IntervalYearMonth | TypeRoot::IntervalDaySecond => {
            Err(format!("Unsupported to derive Schema for type: {data_type}"))
        }
        // Of elements and values Flink's schema has the legacy form whatever is set.
        TypeRoot::Array(element) => check_type(element, true),
        TypeRoot::Row(fields) => check(fields, legacy_timestamps),
        TypeRoot::Map(key, _) | TypeRoot::Multiset(key)
            if !matches!(key.root, TypeRoot::Char(_) | TypeRoot::VarChar(_)) =>
        {
            Err(format!(
                "Avro format doesn't support non-string as key type of map. The key type is: {key}"
            ))
        }
        TypeRoot::Map(_, value) => check_type(value, true),
        _ => Ok(()),
    }
}

/// Reads a message from its begin.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8], FormatError> {
        let Some((bytes, rest)) = self.0.split_at_checked(length) else {
            return Err(FormatError::syntax("the Avro record ends within a value"));
        };
        self.0 = rest;
        Ok(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let bytes = self.bytes(N)?;
        bytes
            .try_into()
            .map_err(|_| FormatError::syntax("the Avro record ends within a value"))
    }

    /// A number of variable length, zigzag.
    #[inline]
    pub(crate) fn long(&mut self) -> Result<i64, FormatError> {
        let mut value: u64 = 0;
        for (place, byte) in self.0.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7F) << (7 * place);
            if byte & 0x80 == 0 {
                self.0 = &self.0[place + 1..];
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err(FormatError::syntax("an Avro number has no end"))
    }

    pub(crate) fn length(&mut self) -> Result<usize, FormatError> {
        usize::try_from(self.long()?).map_err(|_| FormatError::syntax("an Avro length is negative"))
    }

    pub(crate) fn text(&mut self) -> Result<&'a [u8], FormatError> {
        let length = self.length()?;
        self.bytes(length)
    }

    /// Of a union with null, whether it is null.
    #[inline]
    fn is_null(&mut self, nullable: bool) -> Result<bool, FormatError> {
        match nullable.then(|| self.long()).transpose()? {
            None | Some(1) => Ok(false),
            Some(0) => Ok(true),
            Some(other) => Err(FormatError::syntax(format!(
                "branch {other} of an Avro union of null and a type"
            ))),
        }
    }

    /// The next block's number of items; 0 behind the last.
    pub(crate) fn block(&mut self) -> Result<u64, FormatError> {
        let count = self.long()?;
        if count < 0 {
            // The block's bytes, for who skips it.
            self.long()?;
        }
        let count = count.unsigned_abs();
        // An item is a byte at least, but for null and an empty record.
        if count > self.0.len() as u64 {
            return Err(FormatError::syntax(
                "an Avro block has more items than bytes follow",
            ));
        }
        Ok(count)
    }
}

/// `avro`.
pub(crate) struct AvroDecoder {
    fields: Vec<Field>,
    projection: Projection,
    row: RowColumns,
    rows: usize,
}

impl AvroDecoder {
    pub(crate) fn new(fields: &[Field], projection: Projection) -> Self {
        Self {
            fields: fields.to_vec(),
            row: RowColumns::new(&projection.fields),
            projection,
            rows: 0,
        }
    }
}

impl Decoder for AvroDecoder {
    fn decode(&mut self, message: &[u8]) -> Result<usize, FormatError> {
        let mut reader = Reader(message);
        if let Err(error) = read_row(&mut reader, &self.fields, Some(&mut self.row)) {
            self.row.truncate(self.rows);
            return Err(error);
        }
        self.rows += 1;
        Ok(1)
    }

    fn append_null(&mut self) {
        self.row.append_null();
        self.rows += 1;
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn bytes(&self) -> usize {
        self.row.bytes()
    }

    fn ignored(&self) -> u64 {
        0
    }

    fn flush(&mut self) -> Result<Decoded, FormatError> {
        let rows = std::mem::take(&mut self.rows);
        Decoded::finish(&mut self.row, &self.projection, rows, None)
    }
}

fn read_row(
    reader: &mut Reader<'_>,
    fields: &[Field],
    mut row: Option<&mut RowColumns>,
) -> Result<(), FormatError> {
    let mut next = 0;
    for field in fields {
        let wanted = row.as_ref().and_then(|row| row.find(field.name.as_bytes(), next));
        let column = match (&mut row, wanted) {
            (Some(row), Some(wanted)) => {
                next = wanted + 1;
                Some(&mut row.columns[wanted])
            }
            _ => None,
        };
        read_value(reader, &field.data_type, column).map_err(|error| error.in_field(&field.name))?;
    }
    Ok(())
}

/// A value into a column, or past it.
fn read_value(
    reader: &mut Reader<'_>,
    data_type: &DataType,
    column: Option<&mut Column>,
) -> Result<(), FormatError> {
    let is_null = data_type.root == TypeRoot::Null || reader.is_null(data_type.nullable)?;
    match column {
        Some(column) if is_null => {
            column.append_null();
            Ok(())
        }
        None if is_null => Ok(()),
        None => skip(reader, &data_type.root),
        Some(column) => push(reader, &data_type.root, column),
    }
}

fn skip(reader: &mut Reader<'_>, root: &TypeRoot) -> Result<(), FormatError> {
    match root {
        TypeRoot::Null => Ok(()),
        TypeRoot::Boolean => reader.bytes(1).map(drop),
        TypeRoot::Float => reader.bytes(4).map(drop),
        TypeRoot::Double => reader.bytes(8).map(drop),
        TypeRoot::Char(_)
        | TypeRoot::VarChar(_)
        | TypeRoot::Binary(_)
        | TypeRoot::VarBinary(_)
        | TypeRoot::Decimal { .. } => reader.text().map(drop),
        TypeRoot::Array(element) => blocks(reader, |reader| read_value(reader, element, None)),
        TypeRoot::Map(_, value) => blocks(reader, |reader| {
            reader.text()?;
            read_value(reader, value, None)
        }),
        TypeRoot::Multiset(_) => blocks(reader, |reader| {
            reader.text()?;
            reader.long().map(drop)
        }),
        TypeRoot::Row(fields) => read_row(reader, fields, None),
        _ => reader.long().map(drop),
    }
}

fn blocks<'a>(
    reader: &mut Reader<'a>,
    mut item: impl FnMut(&mut Reader<'a>) -> Result<(), FormatError>,
) -> Result<(), FormatError> {
    loop {
        match reader.block()? {
            0 => return Ok(()),
            count => (0..count).try_for_each(|_| item(reader))?,
        }
    }
}

fn push(reader: &mut Reader<'_>, root: &TypeRoot, column: &mut Column) -> Result<(), FormatError> {
    let too_large = || FormatError::value(format!("a number is too large for {root}"));
    match (&mut column.values, root) {
        (Values::Boolean(values), _) => values.push(reader.array::<1>()? != [0]),
        (Values::Int8(values), _) => values.push(reader.long()?.try_into().map_err(|_| too_large())?),
        (Values::Int16(values), _) => values.push(reader.long()?.try_into().map_err(|_| too_large())?),
        (Values::Int32(values), _) => values.push(reader.long()?.try_into().map_err(|_| too_large())?),
        (Values::Int64(values), _) => values.push(reader.long()?),
        (Values::Float32(values), _) => values.push(f32::from_le_bytes(reader.array()?)),
        (Values::Float64(values), _) => values.push(f64::from_le_bytes(reader.array()?)),
        (Values::Decimal(values), _) => values.push(unscaled(reader.text()?).ok_or_else(too_large)?),
        (Values::Utf8(_), _) => {
            let text = reader.text()?;
            std::str::from_utf8(text).map_err(|_| FormatError::value("a text isn't UTF-8"))?;
            return column.push_bytes(text);
        }
        (Values::Binary(_), _) => {
            let bytes = reader.text()?;
            return column.push_bytes(bytes);
        }
        (Values::List(_, child), TypeRoot::Array(element)) => {
            blocks(reader, |reader| read_value(reader, element, Some(child)))?;
            return column.end_list();
        }
        (Values::Map(_, children), TypeRoot::Map(_, value)) => {
            read_map(reader, value, children)?;
            return column.end_list();
        }
        (Values::Map(_, children), TypeRoot::Multiset(_)) => {
            read_map(reader, &DataType::not_null(TypeRoot::Int), children)?;
            return column.end_list();
        }
        (Values::Row(row), TypeRoot::Row(fields)) => read_row(reader, fields, Some(row))?,
        _ => return Err(FormatError::value(format!("{root} has no Avro form"))),
    }
    column.end_value();
    Ok(())
}

fn read_map(
    reader: &mut Reader<'_>,
    value: &DataType,
    children: &mut (Column, Column),
) -> Result<(), FormatError> {
    let (keys, values) = children;
    blocks(reader, |reader| {
        let key = reader.text()?;
        std::str::from_utf8(key).map_err(|_| FormatError::value("a map's key isn't UTF-8"))?;
        keys.push_bytes(key)?;
        read_value(reader, value, Some(values))
    })
}

/// A number in two's complement, most significant byte first.
pub(crate) fn unscaled(bytes: &[u8]) -> Option<i128> {
    let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = [if negative { 0xFF } else { 0 }; 16];
    let begin = wide.len().checked_sub(bytes.len())?;
    wide[begin..].copy_from_slice(bytes);
    Some(i128::from_be_bytes(wide))
}

/// `avro`.
pub(crate) struct AvroEncoder {
    fields: Vec<Field>,
}

impl AvroEncoder {
    pub(crate) fn new(fields: &[Field]) -> Self {
        Self {
            fields: fields.to_vec(),
        }
    }
}

impl Encoder for AvroEncoder {
    fn encode(
        &mut self,
        columns: &[ArrayRef],
        rows: usize,
        _kinds: Option<&Int8Array>,
        out: &mut Messages,
    ) -> Result<(), FormatError> {
        for row in 0..rows {
            for (field, column) in self.fields.iter().zip(columns) {
                write_value(column.as_ref(), row, &field.data_type, &mut out.bytes)
                    .map_err(|error| error.in_field(&field.name))?;
            }
            out.end_message()?;
        }
        Ok(())
    }
}

pub(crate) fn write_long(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

pub(crate) fn write_text(out: &mut Vec<u8>, bytes: &[u8]) {
    write_long(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}

pub(crate) fn write_value(
    column: &dyn Array,
    row: usize,
    data_type: &DataType,
    out: &mut Vec<u8>,
) -> Result<(), FormatError> {
    if data_type.root == TypeRoot::Null {
        return Ok(());
    }
    let is_null = column.is_null(row);
    match (data_type.nullable, is_null) {
        (true, true) => {
            out.push(0);
            return Ok(());
        }
        (true, false) => out.push(2),
        (false, false) => {}
        (false, true) => return Err(FormatError::value(format!("{data_type} has no value"))),
    }
    match (column.data_type(), &data_type.root) {
        (Arrow::Boolean, _) => out.push(u8::from(column.as_boolean().value(row))),
        (Arrow::Int8, _) => write_long(out, i64::from(column.as_primitive::<Int8Type>().value(row))),
        (Arrow::Int16, _) => write_long(out, i64::from(column.as_primitive::<Int16Type>().value(row))),
        (Arrow::Int32, _) => write_long(out, i64::from(column.as_primitive::<Int32Type>().value(row))),
        (Arrow::Int64, _) => write_long(out, column.as_primitive::<Int64Type>().value(row)),
        (Arrow::Date32, _) => write_long(out, i64::from(column.as_primitive::<Date32Type>().value(row))),
        (Arrow::Time32(TimeUnit::Millisecond), _) => {
            write_long(
                out,
                i64::from(column.as_primitive::<Time32MillisecondType>().value(row)),
            );
        }
        (Arrow::Timestamp(TimeUnit::Millisecond, _), _) => {
            write_long(out, column.as_primitive::<TimestampMillisecondType>().value(row));
        }
        (Arrow::Timestamp(TimeUnit::Microsecond, _), _) => {
            write_long(out, column.as_primitive::<TimestampMicrosecondType>().value(row));
        }
        (Arrow::Float32, _) => {
            out.extend_from_slice(&column.as_primitive::<Float32Type>().value(row).to_le_bytes());
        }
        (Arrow::Float64, _) => {
            out.extend_from_slice(&column.as_primitive::<Float64Type>().value(row).to_le_bytes());
        }
        (Arrow::Decimal128(..), _) => {
            let bytes = column.as_primitive::<Decimal128Type>().value(row).to_be_bytes();
            let first = minimal(&bytes);
            write_text(out, &bytes[first..]);
        }
        (Arrow::Utf8, _) => write_text(out, column.as_string::<i32>().value(row).as_bytes()),
        (Arrow::Binary, _) => write_text(out, column.as_binary::<i32>().value(row)),
        (Arrow::List(_), TypeRoot::Array(element)) => {
            let list = column.as_list::<i32>();
            let offsets = list.value_offsets();
            write_block(out, offsets[row]..offsets[row + 1], |out, item| {
                write_value(list.values().as_ref(), item, element, out)
            })?;
        }
        (Arrow::Map(..), TypeRoot::Map(_, value)) => write_map(column, row, value, out)?,
        (Arrow::Map(..), TypeRoot::Multiset(_)) => {
            write_map(column, row, &DataType::not_null(TypeRoot::Int), out)?;
        }
        (Arrow::Struct(_), TypeRoot::Row(fields)) => {
            for (field, child) in fields.iter().zip(column.as_struct().columns()) {
                write_value(child.as_ref(), row, &field.data_type, out)
                    .map_err(|error| error.in_field(&field.name))?;
            }
        }
        (other, _) => return Err(FormatError::value(format!("values of {other} have no Avro form"))),
    }
    Ok(())
}

fn write_map(column: &dyn Array, row: usize, value: &DataType, out: &mut Vec<u8>) -> Result<(), FormatError> {
    let map = column.as_map();
    let keys = map
        .keys()
        .as_string_opt::<i32>()
        .ok_or_else(|| FormatError::value("a map's keys are no text"))?;
    let offsets = map.value_offsets();
    write_block(out, offsets[row]..offsets[row + 1], |out, entry| {
        write_text(out, keys.value(entry).as_bytes());
        write_value(map.values().as_ref(), entry, value, out)
    })
}

/// All items as one block, and the empty block behind it.
fn write_block(
    out: &mut Vec<u8>,
    items: std::ops::Range<i32>,
    mut write: impl FnMut(&mut Vec<u8>, usize) -> Result<(), FormatError>,
) -> Result<(), FormatError> {
    if !items.is_empty() {
        write_long(out, i64::from(items.end - items.start));
        for item in items {
            write(out, item as usize)?;
        }
    }
    out.push(0);
    Ok(())
}

/// Where a number's shortest two's complement begins.
fn minimal(bytes: &[u8; 16]) -> usize {
    let sign = if bytes[0] & 0x80 == 0 { 0 } else { 0xFF };
    let mut first = 0;
    while first < 15 && bytes[first] == sign && (bytes[first + 1] ^ sign) & 0x80 == 0 {
        first += 1;
    }
    first
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use thalweg_plan::data_type::TimeKind;

    use super::*;
    use crate::testing::{decode_all_bytes, int_and_text, many_fields};

    #[test]
    fn a_row_is_its_values_one_behind_another() {
        let fields = int_and_text();
        let mut decoder = AvroDecoder::new(&fields, Projection::all(&fields));
        // n = 3, t = "ab"; n = null, t = null
        let messages: [&[u8]; 2] = [&[2, 6, 2, 4, b'a', b'b'], &[0, 0]];
        let decoded = decode_all_bytes(&mut decoder, &messages);
        let mut written = Messages::default();
        AvroEncoder::new(&fields)
            .encode(&decoded.columns, decoded.rows, None, &mut written)
            .unwrap();
        assert_eq!((written.get(0), written.get(1)), (messages[0], messages[1]));
    }

    #[test]
    fn timestamps_are_in_milliseconds_only_unless_the_mapping_is_the_new_one() {
        let check = |legacy_timestamps, root| {
            let options = AvroOptions { legacy_timestamps };
            options.check(&[Field::new("ts", DataType::nullable(root))])
        };
        let timestamp = |precision| TypeRoot::Timestamp(precision, TimeKind::Regular);
        let ltz = |precision| TypeRoot::TimestampLtz(precision, TimeKind::Regular);
        assert_eq!(check(true, timestamp(3)), Ok(()));
        assert!(check(true, timestamp(6)).unwrap_err().ends_with("less than 3."));
        assert!(check(true, ltz(3)).unwrap_err().contains("TIMESTAMP_LTZ(3)"));
        assert_eq!(check(false, timestamp(6)), Ok(()));
        assert_eq!(check(false, ltz(6)), Ok(()));
        assert!(check(false, ltz(9)).unwrap_err().ends_with("less than 6."));
        let of_micros = TypeRoot::Array(Box::new(DataType::nullable(timestamp(6))));
        assert!(check(false, of_micros).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_leave_half_a_row(
            messages in proptest::collection::vec(
                // Small bytes are lengths, branches and numbers of items that can be.
                proptest::collection::vec(prop_oneof![any::<u8>(), 0_u8..6], 0..60),
                0..20,
            ),
        ) {
            let fields = many_fields();
            let mut decoder = AvroDecoder::new(&fields, Projection::all(&fields));
            let rows = messages.iter().filter(|message| decoder.decode(message).is_ok()).count();
            let decoded = decoder.flush().unwrap();
            prop_assert_eq!(decoded.rows, rows);
            prop_assert!(decoded.columns.iter().all(|column| column.len() == rows));
        }
    }

    #[test]
    fn decimals_are_as_short_as_they_can_be() {
        for (value, bytes) in [
            (0, vec![0]),
            (-1, vec![0xFF]),
            (127, vec![0x7F]),
            (128, vec![0, 0x80]),
        ] {
            let wide = i128::to_be_bytes(value);
            assert_eq!(&wide[minimal(&wide)..], bytes);
            assert_eq!(unscaled(&bytes), Some(value));
        }
    }

    #[test]
    fn a_record_that_ends_early_leaves_no_row() {
        let fields = int_and_text();
        let mut decoder = AvroDecoder::new(&fields, Projection::all(&fields));
        let error = decoder.decode(&[2, 6, 2, 40, b'a']).unwrap_err();
        assert_eq!(error.to_string(), "the Avro record ends within a value");
        assert_eq!(decoder.flush().unwrap().columns[0].len(), 0);
    }
}
