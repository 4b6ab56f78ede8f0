//! Flink configuration as users write it in a resource, and as a flat map of strings.

use std::collections::BTreeMap;

use serde_json::Value;

/// Longest value: a ConfigMap holds 1 MiB in all.
const VALUE_MAX_BYTES: usize = 64 * 1024;
/// Most keys.
const KEYS_MAX: usize = 4096;

/// Why a configuration can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlattenError {
    /// A key without a value.
    #[error("{key}: has no value; remove the key or give it one")]
    Null {
        /// The dotted key.
        key: String,
    },
    /// A list with something else than scalars in it.
    #[error("{key}: only text, numbers and booleans can be in a list")]
    NestedList {
        /// The dotted key.
        key: String,
    },
    /// One key written flat and nested, with two values.
    #[error("{key}: is given twice, as {first:?} and as {second:?}")]
    Twice {
        /// The dotted key.
        key: String,
        /// One value.
        first: String,
        /// The other.
        second: String,
    },
    /// A part of a key is empty.
    #[error("{key:?}: is not a configuration key")]
    BadKey {
        /// The dotted key.
        key: String,
    },
    /// A value that no configuration needs.
    #[error("{key}: the value has {bytes} bytes; at most {VALUE_MAX_BYTES} are allowed")]
    TooLong {
        /// The dotted key.
        key: String,
        /// Its length.
        bytes: usize,
    },
    /// More keys than a configuration can have.
    #[error("has more than {KEYS_MAX} keys")]
    TooManyKeys,
}

/// Makes `{a: {b: 1}, "c.d": [x, y]}` into `{"a.b": "1", "c.d": "x;y"}`, Flink's notation for lists included.
///
/// # Errors
/// The first key that can't be read.
pub fn flatten(configuration: &BTreeMap<String, Value>) -> Result<BTreeMap<String, String>, FlattenError> {
    let mut flat = BTreeMap::new();
    for (key, value) in configuration {
        add(&mut flat, key.clone(), value)?;
    }
    Ok(flat)
}

fn add(flat: &mut BTreeMap<String, String>, key: String, value: &Value) -> Result<(), FlattenError> {
    if key.split('.').any(str::is_empty) || key.contains(char::is_whitespace) {
        return Err(FlattenError::BadKey { key });
    }
    let text = match value {
        Value::Null => return Err(FlattenError::Null { key }),
        Value::Object(fields) => {
            for (name, value) in fields {
                add(flat, format!("{key}.{name}"), value)?;
            }
            return Ok(());
        }
        Value::Array(items) => {
            let items: Option<Vec<String>> = items.iter().map(scalar).collect();
            items
                .ok_or_else(|| FlattenError::NestedList { key: key.clone() })?
                .join(";")
        }
        scalar_value => scalar(scalar_value).unwrap_or_default(),
    };
    if text.len() > VALUE_MAX_BYTES {
        return Err(FlattenError::TooLong {
            key,
            bytes: text.len(),
        });
    }
    if flat.len() >= KEYS_MAX {
        return Err(FlattenError::TooManyKeys);
    }
    match flat.get(&key) {
        Some(first) if *first != text => Err(FlattenError::Twice {
            key: key.clone(),
            first: first.clone(),
            second: text,
        }),
        _ => {
            flat.insert(key, text);
            Ok(())
        }
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn flat(value: Value) -> Result<BTreeMap<String, String>, FlattenError> {
        flatten(&serde_json::from_value(value).unwrap())
    }

    #[test]
    fn flat_and_nested_keys_mean_the_same() {
        let expected = BTreeMap::from([
            ("restart-strategy.type".to_owned(), "fixed-delay".to_owned()),
            ("taskmanager.numberOfTaskSlots".to_owned(), "2".to_owned()),
        ]);
        assert_eq!(
            flat(json!({"taskmanager.numberOfTaskSlots": 2, "restart-strategy.type": "fixed-delay"})),
            Ok(expected.clone())
        );
        assert_eq!(
            flat(
                json!({"taskmanager": {"numberOfTaskSlots": "2"}, "restart-strategy": {"type": "fixed-delay"}})
            ),
            Ok(expected)
        );
    }

    #[test]
    fn lists_become_flinks_notation() {
        assert_eq!(flat(json!({"a": ["x", 1, true]})).unwrap()["a"], "x;1;true");
    }

    #[test]
    fn the_error_names_the_dotted_key() {
        assert_eq!(
            flat(json!({"a": {"b": null}})),
            Err(FlattenError::Null { key: "a.b".into() })
        );
        assert_eq!(
            flat(json!({"a": [[1]]})),
            Err(FlattenError::NestedList { key: "a".into() })
        );
        assert_eq!(
            flat(json!({"a": {"": 1}})),
            Err(FlattenError::BadKey { key: "a.".into() })
        );
        assert_eq!(
            flat(json!({"a": {"b": 1}, "a.b": 2})),
            Err(FlattenError::Twice {
                key: "a.b".into(),
                first: "1".into(),
                second: "2".into()
            })
        );
        assert!(matches!(
            flat(json!({"a": "x".repeat(70_000)})),
            Err(FlattenError::TooLong { .. })
        ));
    }
}
