//! Partitions and the folders that are named after them: `dt=2020-01-01/hm=00%3A05`. Flink's PartitionPathUtils.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use arrow::datatypes::DataType as Arrow;
use thalweg_formats::{Decoder, Format, FormatError, FormatKind, OptionReader, Projection};
use thalweg_plan::Field;
use thalweg_plan::connector::{CatalogTable, ConnectorProblem, SourceColumn};

use crate::ConnectorError;
use crate::java_text::write_value;
use crate::table::encoding::Buckets;
use crate::table::options::refusal;
use crate::table::physical_fields;

/// PARTITIONED BY.
#[derive(Debug, Clone)]
pub(super) struct Partitions {
    fields: Vec<Field>,
    /// In place of a null or an empty text.
    default_name: String,
}

/// Reads partition columns from folders' names.
pub(super) struct PartitionReader {
    format: Format,
    partitions: Partitions,
    projection: Projection,
}

impl Partitions {
    pub(super) fn new(table: &CatalogTable, default_name: &str) -> Result<Self, ConnectorProblem> {
        let physical = physical_fields(table);
        let field = |key: &String| {
            let found = physical.iter().find(|field| field.name == *key);
            found.cloned().ok_or_else(|| {
                refusal(format!(
                    "The partition key '{key}' is no physical column of the table."
                ))
            })
        };
        Ok(Self {
            fields: table.partition_keys.iter().map(field).collect::<Result<_, _>>()?,
            default_name: default_name.to_owned(),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| field.name.as_str())
    }

    /// Writes rows' folders.
    pub(super) fn buckets(&self, physical: &[Field]) -> Buckets {
        let columns: Vec<(String, usize)> = self
            .fields
            .iter()
            .filter_map(|field| {
                let place = physical.iter().position(|column| column.name == field.name)?;
                Some((escaped(&field.name), place))
            })
            .collect();
        let default_name = escaped(&self.default_name);
        Arc::new(move |rows| {
            let mut buckets = StringBuilder::with_capacity(rows.num_rows(), rows.num_rows() * 24);
            let mut bucket = String::new();
            let mut value = String::new();
            for row in 0..rows.num_rows() {
                bucket.clear();
                for (place, (name, column)) in columns.iter().enumerate() {
                    if place > 0 {
                        bucket.push('/');
                    }
                    bucket.push_str(name);
                    bucket.push('=');
                    value.clear();
                    text_of(rows.column(*column), row, &mut value)?;
                    match value.as_str() {
                        "" => bucket.push_str(&default_name),
                        value => escape(value, &mut bucket),
                    }
                }
                buckets.append_value(&bucket);
            }
            Ok(buckets.finish())
        })
    }

    /// Reads these columns from folders' names.
    pub(super) fn reading(&self, columns: &[SourceColumn]) -> Result<PartitionReader, ConnectorProblem> {
        let options = std::collections::BTreeMap::new();
        Ok(PartitionReader {
            // It takes text for values of any type.
            format: Format::new(FormatKind::Json, &OptionReader::new(&options, "json.")).map_err(refusal)?,
            projection: Projection::new(&self.fields, columns).map_err(refusal)?,
            partitions: self.clone(),
        })
    }

    /// The partition that a folder or file is in, as names and values; `None` as value: null.
    pub(super) fn values_of(&self, path: &str) -> Option<Vec<(String, Option<String>)>> {
        let value_of = |name: &str| {
            let prefix = format!("{}=", escaped(name));
            let segment = path
                .split('/')
                .rev()
                .find_map(|segment| segment.strip_prefix(&prefix))?;
            let value = unescaped(segment);
            Some((name.to_owned(), (value != self.default_name).then_some(value)))
        };
        self.names().map(value_of).collect()
    }
}

fn text_of(column: &ArrayRef, row: usize, out: &mut String) -> Result<(), ConnectorError> {
    if column.is_null(row) {
        return Ok(());
    }
    if *column.data_type() == Arrow::Utf8 {
        out.push_str(column.as_string::<i32>().value(row));
        return Ok(());
    }
    write_value(out, column.as_ref(), row)
        .map_err(|_| ConnectorError::Malformed("a partition's value has no text".to_owned()))
}

impl PartitionReader {
    pub(super) fn decoder(&self) -> Box<dyn Decoder> {
        self.format
            .decoder(&self.partitions.fields, self.projection.clone())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.projection.is_empty()
    }

    /// One value of each of the columns, for a file.
    pub(super) fn values(&self, path: &Path) -> Result<Vec<ArrayRef>, ConnectorError> {
        let failed = |error: FormatError| {
            ConnectorError::Malformed(format!(
                "file source: the partition of {}: {error}",
                path.display()
            ))
        };
        let mut decoder = self.decoder();
        decoder.decode(self.message(path)?.as_bytes()).map_err(failed)?;
        Ok(decoder.flush().map_err(failed)?.columns)
    }

    /// The partition of a file, as a message for the decoder.
    pub(super) fn message(&self, path: &Path) -> Result<String, ConnectorError> {
        let text = path.to_string_lossy();
        let values = self.partitions.values_of(&text).ok_or_else(|| {
            let names: Vec<&str> = self.partitions.names().collect();
            ConnectorError::Malformed(format!(
                "file source: {text} is in no folder of a partition by {}",
                names.join(", ")
            ))
        })?;
        let mut message = String::from("{");
        for (place, (name, value)) in values.iter().enumerate() {
            if place > 0 {
                message.push(',');
            }
            quote(name, &mut message);
            message.push(':');
            match value {
                Some(value) => quote(value, &mut message),
                None => message.push_str("null"),
            }
        }
        message.push('}');
        Ok(message)
    }
}

/// A text as JSON.
fn quote(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            '\0'..='\u{1F}' => out.push_str(&format!("\\u{:04x}", character as u32)),
            other => out.push(other),
        }
    }
    out.push('"');
}

/// Characters that Flink writes as `%XX` in a folder's name.
fn is_escaped(character: char) -> bool {
    matches!(
        character,
        '\0'..='\u{1F}'
            | '"'
            | '#'
            | '%'
            | '\''
            | '*'
            | '/'
            | ':'
            | '='
            | '?'
            | '\\'
            | '\u{7F}'
            | '{'
            | '['
            | ']'
            | '^'
    )
}

fn escape(text: &str, out: &mut String) {
    // A folder's name may not be a step up.
    if matches!(text, "." | "..") {
        return out.push_str(&text.replace('.', "%2E"));
    }
    for character in text.chars() {
        if is_escaped(character) {
            out.push_str(&format!("%{:02X}", character as u32));
        } else {
            out.push(character);
        }
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    escape(text, &mut out);
    out
}

fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let code = match (first, behind) {
            (b'%', [high, low, ..]) => std::str::from_utf8(&[*high, *low])
                .ok()
                .and_then(|digits| u8::from_str_radix(digits, 16).ok()),
            _ => None,
        };
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped_in_folders_names_as_in_flink() {
        assert_eq!(escaped("00:05"), "00%3A05");
        assert_eq!(escaped("a/b=c ü"), "a%2Fb%3Dc ü");
        for text in ["00:05", "a/b=c %25 ü", "..", "%", "%zz", ""] {
            assert_eq!(unescaped(&escaped(text)), text);
        }
    }
}
