//! Helpers of the unit tests.

use arrow::array::{ArrayRef, make_array};
use arrow::datatypes::DataType as Arrow;
use arrow::util::display::array_value_to_string;
use thalweg_plan::data_type::TimeKind;
use thalweg_plan::{DataType, Field, TypeRoot};

use crate::{Decoded, Decoder};

/// A column that may be null.
pub(crate) fn nullable(name: &str, root: TypeRoot) -> Field {
    Field::new(name, DataType::nullable(root))
}

/// `n INT, t STRING`.
pub(crate) fn int_and_text() -> Vec<Field> {
    vec![
        Field::new("n", DataType::nullable(TypeRoot::Int)),
        Field::new("t", DataType::string()),
    ]
}

/// A column of each kind that decoders push into in a way of its own.
pub(crate) fn many_fields() -> Vec<Field> {
    let int = || Box::new(DataType::nullable(TypeRoot::Int));
    vec![
        nullable("n", TypeRoot::Int),
        nullable("t", TypeRoot::VarChar(9)),
        nullable("a", TypeRoot::Array(int())),
        nullable("m", TypeRoot::Map(Box::new(DataType::string()), int())),
        nullable("r", TypeRoot::Row(int_and_text())),
        nullable("s", TypeRoot::TimestampLtz(9, TimeKind::Regular)),
        nullable(
            "d",
            TypeRoot::Decimal {
                precision: 38,
                scale: 18,
            },
        ),
        nullable("b", TypeRoot::VarBinary(9)),
    ]
}

pub(crate) fn decode_all(decoder: &mut dyn Decoder, messages: &[&str]) -> Decoded {
    let bytes: Vec<&[u8]> = messages.iter().map(|message| message.as_bytes()).collect();
    decode_all_bytes(decoder, &bytes)
}

pub(crate) fn decode_all_bytes(decoder: &mut dyn Decoder, messages: &[&[u8]]) -> Decoded {
    for message in messages {
        decoder.decode(message).unwrap();
    }
    decoder.flush().unwrap()
}

/// A line a row; null is empty.
pub(crate) fn columns_text(decoded: &Decoded) -> Vec<String> {
    let row = |row| {
        let values = decoded
            .columns
            .iter()
            .map(|column| array_value_to_string(&without_zone(column), row).unwrap());
        values.collect::<Vec<_>>().join(" ")
    };
    (0..decoded.rows).map(row).collect()
}

/// Arrow writes no zone by name.
fn without_zone(column: &ArrayRef) -> ArrayRef {
    let Arrow::Timestamp(unit, Some(_)) = column.data_type() else {
        return column.clone();
    };
    let data = column.to_data().into_builder();
    make_array(data.data_type(Arrow::Timestamp(*unit, None)).build().unwrap())
}
