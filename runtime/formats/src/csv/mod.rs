//! CSV: Flink's `csv` format, as Jackson reads and writes it.

mod decode;
mod encode;

pub(crate) use decode::CsvDecoder;
pub(crate) use encode::CsvEncoder;

use thalweg_plan::{DataType, Field, TypeRoot};

use crate::format::OptionReader;

/// `csv.*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CsvOptions {
    pub(crate) delimiter: u8,
    pub(crate) quote: Option<u8>,
    pub(crate) escape: Option<u8>,
    pub(crate) allow_comments: bool,
    pub(crate) ignore_parse_errors: bool,
    pub(crate) array_delimiter: Vec<u8>,
    pub(crate) null_literal: Option<String>,
    pub(crate) scientific_decimals: bool,
}

impl CsvOptions {
    pub(crate) const KEYS: [&'static str; 9] = [
        "field-delimiter",
        "disable-quote-character",
        "quote-character",
        "allow-comments",
        "ignore-parse-errors",
        "array-element-delimiter",
        "escape-character",
        "null-literal",
        "write-bigdecimal-in-scientific-notation",
    ];

    pub(crate) fn read(options: &OptionReader<'_>) -> Result<Self, String> {
        let no_quote = options.boolean("disable-quote-character", false)?;
        if no_quote && options.get("quote-character").is_some() {
            return Err(
                "Format cannot define a quote character and disabled quote character at the same time."
                    .to_owned(),
            );
        }
        let quote = character(options, "quote-character")?.unwrap_or(b'"');
        Ok(Self {
            delimiter: character(options, "field-delimiter")?.unwrap_or(b','),
            quote: (!no_quote).then_some(quote),
            escape: character(options, "escape-character")?,
            allow_comments: options.boolean("allow-comments", false)?,
            ignore_parse_errors: options.boolean("ignore-parse-errors", false)?,
            array_delimiter: match options.get("array-element-delimiter") {
                Some("") => {
                    return Err(format!(
                        "Invalid value for option '{}': it is empty.",
                        options.key("array-element-delimiter")
                    ));
                }
                delimiter => delimiter.unwrap_or(";").as_bytes().to_vec(),
            },
            null_literal: options.get("null-literal").map(str::to_owned),
            scientific_decimals: options.boolean("write-bigdecimal-in-scientific-notation", true)?,
        })
    }
}

/// A single character, which may be written as an escape of Java's.
fn character(options: &OptionReader<'_>, key: &str) -> Result<Option<u8>, String> {
    let Some(value) = options.get(key) else {
        return Ok(None);
    };
    let unescaped = match value {
        "\\t" => "\t",
        "\\\\" => "\\",
        "\\n" => "\n",
        "\\r" => "\r",
        "\\u0001" | "\\001" => "\u{1}",
        other => other,
    };
    match unescaped.as_bytes() {
        [byte] if byte.is_ascii() => Ok(Some(*byte)),
        _ if unescaped.chars().count() == 1 => Err(format!(
            "Option '{}' must be an ASCII character here, but was: {value}",
            options.key(key)
        )),
        _ => Err(format!(
            "Option '{}' must be a string with single character, but was: {value}",
            options.key(key)
        )),
    }
}

/// Values, and arrays and rows of values.
pub(crate) fn check(fields: &[Field]) -> Result<(), String> {
    fields
        .iter()
        .try_for_each(|field| check_type(&field.data_type, true))
}

fn check_type(data_type: &DataType, may_nest: bool) -> Result<(), String> {
    match &data_type.root {
        TypeRoot::Time(precision) if *precision > 3 => Err(format!(
            "Csv does not support TIME type with precision: {precision}, it only supports precision 0 ~ 3."
        )),
        TypeRoot::Array(element) if may_nest => check_type(element, false),
        TypeRoot::Row(fields) if may_nest => fields
            .iter()
            .try_for_each(|field| check_type(&field.data_type, false)),
        TypeRoot::Array(_) | TypeRoot::Row(_) => Err(
            "Only simple types are supported in the second level nesting of fields in a CSV format."
                .to_owned(),
        ),
        TypeRoot::Map(..) | TypeRoot::Multiset(_) => {
            Err(format!("Unsupported type '{data_type}' for a CSV format."))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
