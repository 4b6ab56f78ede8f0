//! JSON: Flink's `json` format.
//!
//! ```text
//!   bytes --scan: tokens--> decode: the builder that the field's name leads to;  names nobody wants are walked over
//! ```

mod decode;
mod encode;
mod scan;

pub(crate) use decode::{JsonDecoder, JsonReader, valid_text, wrong_value};
pub(crate) use encode::{JsonEncoder, RowWriter};
pub(crate) use scan::{Scalar, Scanner};

use thalweg_plan::{DataType, Field, TypeRoot};

use crate::format::OptionReader;
use crate::text::TimestampFormat;

/// `json.*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JsonOptions {
    pub(crate) fail_on_missing_field: bool,
    pub(crate) ignore_parse_errors: bool,
    pub(crate) timestamps: TimestampFormat,
    pub(crate) map_null_key: MapNullKey,
    pub(crate) map_null_key_literal: String,
    pub(crate) plain_decimals: bool,
    pub(crate) ignore_null_fields: bool,
}

/// `json.map-null-key.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MapNullKey {
    Fail,
    Drop,
    Literal,
}

impl JsonOptions {
    pub(crate) const KEYS: [&'static str; 8] = [
        "fail-on-missing-field",
        "ignore-parse-errors",
        "timestamp-format.standard",
        "map-null-key.mode",
        "map-null-key.literal",
        "encode.decimal-as-plain-number",
        "encode.ignore-null-fields",
        "decode.json-parser.enabled",
    ];

    pub(crate) fn read(options: &OptionReader<'_>) -> Result<Self, String> {
        let read = Self {
            fail_on_missing_field: options.boolean("fail-on-missing-field", false)?,
            ignore_parse_errors: options.boolean("ignore-parse-errors", false)?,
            timestamps: timestamp_format(options)?,
            map_null_key: match options
                .get("map-null-key.mode")
                .map(str::to_ascii_uppercase)
                .as_deref()
            {
                None | Some("FAIL") => MapNullKey::Fail,
                Some("DROP") => MapNullKey::Drop,
                Some("LITERAL") => MapNullKey::Literal,
                Some(other) => {
                    return Err(format!(
                        "Unsupported value '{other}' for option {}. Supported values are [LITERAL, FAIL, DROP].",
                        options.key("map-null-key.mode")
                    ));
                }
            },
            map_null_key_literal: options.get("map-null-key.literal").unwrap_or("null").to_owned(),
            plain_decimals: options.boolean("encode.decimal-as-plain-number", false)?,
            ignore_null_fields: options.boolean("encode.ignore-null-fields", false)?,
        };
        options.boolean("decode.json-parser.enabled", true)?;
        if read.fail_on_missing_field && read.ignore_parse_errors {
            return Err(format!(
                "{} and {} shouldn't both be true.",
                options.key("fail-on-missing-field"),
                options.key("ignore-parse-errors")
            ));
        }
        Ok(read)
    }
}

pub(crate) fn timestamp_format(options: &OptionReader<'_>) -> Result<TimestampFormat, String> {
    match options.get("timestamp-format.standard") {
        None | Some("SQL") => Ok(TimestampFormat::Sql),
        Some("ISO-8601") => Ok(TimestampFormat::Iso8601),
        Some(other) => Err(format!(
            "Unsupported value '{other}' for {}. Supported values are [SQL, ISO-8601].",
            options.key("timestamp-format.standard")
        )),
    }
}

/// Maps need keys of text.
pub(crate) fn check(fields: &[Field]) -> Result<(), String> {
    fields.iter().try_for_each(|field| check_type(&field.data_type))
}

fn check_type(data_type: &DataType) -> Result<(), String> {
    match &data_type.root {
        TypeRoot::Array(element) => check_type(element),
        TypeRoot::Row(fields) => check(fields),
        TypeRoot::Map(key, _) | TypeRoot::Multiset(key)
            if !matches!(key.root, TypeRoot::Char(_) | TypeRoot::VarChar(_)) =>
        {
            Err(format!(
                "JSON format doesn't support non-string as key type of map. The type is: {data_type}"
            ))
        }
        TypeRoot::Map(_, value) => check_type(value),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
