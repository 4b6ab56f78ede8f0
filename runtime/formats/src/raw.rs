//! A message is the only column's value: Flink's `raw` format.

use arrow::array::{Array, ArrayRef, AsArray, Int8Array};
use arrow::datatypes::{
    DataType as Arrow, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
};
use thalweg_plan::Field;

use crate::FormatError;
use crate::column::{Column, RowColumns, Values};
use crate::format::{Decoded, Decoder, Encoder, Messages, OptionReader};
use crate::json::valid_text;
use crate::projection::Projection;

/// `raw.*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawOptions {
    little_endian: bool,
}

impl RawOptions {
    pub(crate) const KEYS: [&'static str; 2] = ["charset", "endianness"];

    pub(crate) fn read(options: &OptionReader<'_>) -> Result<Self, String> {
        let charset = options.get("charset").unwrap_or("UTF-8");
        if !["utf-8", "utf8"].contains(&charset.to_ascii_lowercase().as_str()) {
            return Err(format!(
                "Unsupported '{charset}' value for '{}': only UTF-8 is supported.",
                options.key("charset")
            ));
        }
        let little_endian = match options.get("endianness") {
            None | Some("big-endian") => false,
            Some("little-endian") => true,
            Some(other) => {
                return Err(format!(
                    "Unsupported endianness name: {other}. Valid values for '{}' are [big-endian, little-endian].",
                    options.key("endianness")
                ));
            }
        };
        Ok(Self { little_endian })
    }
}

/// One column of a value with a fixed form.
pub(crate) fn check(fields: &[Field]) -> Result<(), String> {
    let [field] = fields else {
        let types: Vec<String> = fields
            .iter()
            .map(|field| format!("`{}` {}", field.name, field.data_type))
            .collect();
        return Err(format!(
            "The 'raw' format only supports single physical column. However the defined schema contains multiple physical columns: [{}]",
            types.join(", ")
        ));
    };
    let column = Column::new(&field.data_type);
    let has_form = matches!(
        (field.data_type.to_arrow(), &column.values),
        (
            _,
            Values::Boolean(_) | Values::Int8(_) | Values::Int16(_) | Values::Utf8(_) | Values::Binary(_)
        ) | (Arrow::Int32 | Arrow::Int64 | Arrow::Float32 | Arrow::Float64, _)
    );
    if has_form {
        return Ok(());
    }
    Err(format!(
        "The 'raw' format doesn't supports '{}' as column type.",
        field.data_type
    ))
}

/// `raw`.
pub(crate) struct RawDecoder {
    little_endian: bool,
    projection: Projection,
    row: RowColumns,
    rows: usize,
}

impl RawDecoder {
    pub(crate) fn new(options: &RawOptions, projection: Projection) -> Self {
        Self {
            little_endian: options.little_endian,
            row: RowColumns::new(&projection.fields),
            projection,
            rows: 0,
        }
    }
}

/// The bytes of a number, most significant first.
fn bytes_of<const N: usize>(
    column: &thalweg_plan::TypeRoot,
    message: &[u8],
    reverse: bool,
) -> Result<[u8; N], FormatError> {
    let mut bytes: [u8; N] = message.try_into().map_err(|_| {
        FormatError::value(format!(
            "Size of data received for deserializing {column} type is not {N}."
        ))
    })?;
    if reverse {
        bytes.reverse();
    }
    Ok(bytes)
}

fn push(column: &mut Column, message: &[u8], reverse: bool) -> Result<(), FormatError> {
    let root = &column.root;
    match &mut column.values {
        Values::Boolean(values) => values.push(bytes_of::<1>(root, message, reverse)? != [0]),
        Values::Int8(values) => values.push(i8::from_be_bytes(bytes_of(root, message, reverse)?)),
        Values::Int16(values) => values.push(i16::from_be_bytes(bytes_of(root, message, reverse)?)),
        Values::Int32(values) => values.push(i32::from_be_bytes(bytes_of(root, message, reverse)?)),
        Values::Int64(values) => values.push(i64::from_be_bytes(bytes_of(root, message, reverse)?)),
        Values::Float32(values) => values.push(f32::from_be_bytes(bytes_of(root, message, reverse)?)),
        Values::Float64(values) => values.push(f64::from_be_bytes(bytes_of(root, message, reverse)?)),
        Values::Utf8(_) => return column.push_bytes(valid_text(message)?),
        Values::Binary(_) => return column.push_bytes(message),
        _ => return Err(FormatError::value(format!("{root} has no raw form"))),
    }
    column.end_value();
    Ok(())
}

impl Decoder for RawDecoder {
    fn decode(&mut self, message: &[u8]) -> Result<usize, FormatError> {
        if let Some(column) = self.row.columns.first_mut() {
            push(column, message, self.little_endian)?;
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

/// `raw`.
pub(crate) struct RawEncoder {
    little_endian: bool,
}

impl RawEncoder {
    pub(crate) fn new(options: &RawOptions) -> Self {
        Self {
            little_endian: options.little_endian,
        }
    }

    fn number<const N: usize>(&self, mut bytes: [u8; N], out: &mut Messages) -> Result<(), FormatError> {
        if self.little_endian {
            bytes.reverse();
        }
        out.push(&bytes)
    }
}

impl Encoder for RawEncoder {
    fn encode(
        &mut self,
        columns: &[ArrayRef],
        rows: usize,
        _kinds: Option<&Int8Array>,
        out: &mut Messages,
    ) -> Result<(), FormatError> {
        let Some(column) = columns.first() else {
            return Err(FormatError::value("the raw format needs a column"));
        };
        for row in 0..rows {
            if column.is_null(row) {
                out.push_null();
                continue;
            }
            match column.data_type() {
                Arrow::Utf8 => out.push(column.as_string::<i32>().value(row).as_bytes())?,
                Arrow::Binary => out.push(column.as_binary::<i32>().value(row))?,
                Arrow::Boolean => out.push(&[u8::from(column.as_boolean().value(row))])?,
                Arrow::Int8 => {
                    self.number(column.as_primitive::<Int8Type>().value(row).to_be_bytes(), out)?;
                }
                Arrow::Int16 => {
                    self.number(column.as_primitive::<Int16Type>().value(row).to_be_bytes(), out)?;
                }
                Arrow::Int32 => {
                    self.number(column.as_primitive::<Int32Type>().value(row).to_be_bytes(), out)?;
                }
                Arrow::Int64 => {
                    self.number(column.as_primitive::<Int64Type>().value(row).to_be_bytes(), out)?;
                }
                Arrow::Float32 => {
                    self.number(column.as_primitive::<Float32Type>().value(row).to_be_bytes(), out)?;
                }
                Arrow::Float64 => {
                    self.number(column.as_primitive::<Float64Type>().value(row).to_be_bytes(), out)?;
                }
                other => return Err(FormatError::value(format!("values of {other} have no raw form"))),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use thalweg_plan::{DataType, TypeRoot};

    use super::*;
    use crate::testing::{columns_text, decode_all_bytes, nullable};

    fn options(endianness: &str) -> RawOptions {
        let options = BTreeMap::from([("raw.endianness".to_owned(), endianness.to_owned())]);
        RawOptions::read(&OptionReader::new(&options, "raw.")).unwrap()
    }

    fn decoder(root: TypeRoot, endianness: &str) -> RawDecoder {
        let fields = [nullable("v", root)];
        RawDecoder::new(&options(endianness), Projection::all(&fields))
    }

    #[test]
    fn numbers_are_their_bytes_in_either_order() {
        for (endianness, bytes) in [("big-endian", [0, 0, 1, 2]), ("little-endian", [2, 1, 0, 0])] {
            let mut decoder = decoder(TypeRoot::Int, endianness);
            let decoded = decode_all_bytes(&mut decoder, &[&bytes]);
            assert_eq!(columns_text(&decoded), ["258"]);
            let mut written = Messages::default();
            RawEncoder::new(&options(endianness))
                .encode(&decoded.columns, 1, None, &mut written)
                .unwrap();
            assert_eq!(written.get(0), bytes);
        }
    }

    #[test]
    fn what_has_no_raw_form_is_refused_by_name() {
        let decimal = TypeRoot::Decimal {
            precision: 5,
            scale: 2,
        };
        let refused = check(&[nullable("v", decimal)]).unwrap_err();
        assert_eq!(
            refused,
            "The 'raw' format doesn't supports 'DECIMAL(5, 2)' as column type."
        );
        let two = [nullable("a", TypeRoot::Int), Field::new("b", DataType::string())];
        assert!(check(&two).unwrap_err().ends_with("[`a` INT, `b` STRING]"));
        assert_eq!(check(&two[..1]), Ok(()));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_leave_half_a_row(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..12), 0..20),
        ) {
            for root in [
                TypeRoot::Boolean,
                TypeRoot::TinyInt,
                TypeRoot::SmallInt,
                TypeRoot::Int,
                TypeRoot::BigInt,
                TypeRoot::Float,
                TypeRoot::Double,
                TypeRoot::VarChar(9),
                TypeRoot::VarBinary(9),
            ] {
                let mut decoder = decoder(root, "big-endian");
                let rows = messages.iter().filter(|message| decoder.decode(message).is_ok()).count();
                let decoded = decoder.flush().unwrap();
                prop_assert_eq!(decoded.rows, rows);
                prop_assert_eq!(decoded.columns[0].len(), rows);
            }
        }
    }
}
