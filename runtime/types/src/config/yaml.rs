//! `config.yaml`: standard YAML with nested or flat keys, flattened by dots.

use std::collections::BTreeMap;

use serde_yaml::Value;

use super::ConfigError;

/// Nesting deeper than any key of Flink's.
const MAX_DEPTH: usize = 32;

pub(super) fn read(source_name: &str, text: &str) -> Result<BTreeMap<String, String>, ConfigError> {
    let document: Value = serde_yaml::from_str(text).map_err(|error| {
        let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
        ConfigError::Yaml {
            source_name: source_name.to_owned(),
            line,
            column,
            message: error.to_string(),
        }
    })?;
    let mut flat = BTreeMap::new();
    if !document.is_null() {
        flatten(source_name, "", &document, 0, &mut flat)?;
    }
    Ok(flat)
}

fn flatten(
    source_name: &str,
    prefix: &str,
    value: &Value,
    depth: usize,
    flat: &mut BTreeMap<String, String>,
) -> Result<(), ConfigError> {
    let refuse = |message: String| {
        Err(ConfigError::Shape {
            source_name: source_name.to_owned(),
            message,
        })
    };
    let Value::Mapping(entries) = value else {
        // "key:" alone leaves the key unset, as in Flink
        if value.is_null() && !prefix.is_empty() {
            return Ok(());
        }
        if prefix.is_empty() {
            return refuse("a map from configuration keys to values is expected".to_owned());
        }
        let Some(text) = scalar(value) else {
            return refuse(format!(
                "{prefix:?} has a value that is neither text, number, boolean, list nor map"
            ));
        };
        return match flat.insert(prefix.to_owned(), text) {
            Some(_) => refuse(format!("the key {prefix:?} is given twice")),
            None => Ok(()),
        };
    };
    if depth == MAX_DEPTH {
        return refuse(format!("{prefix:?} is nested more than {MAX_DEPTH} deep"));
    }
    for (key, inner) in entries {
        let Some(key) = scalar(key) else {
            return refuse(format!("a key under {prefix:?} is no text"));
        };
        let path = if prefix.is_empty() {
            key
        } else {
            format!("{prefix}.{key}")
        };
        flatten(source_name, &path, inner, depth + 1, flat)?;
    }
    Ok(())
}

/// The text of a value; a list is joined by `;`, as Flink writes lists.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Sequence(items) => {
            let texts: Option<Vec<String>> = items.iter().map(scalar).collect();
            texts.map(|texts| texts.join(";"))
        }
        Value::Mapping(_) | Value::Tagged(_) => None,
    }
}
