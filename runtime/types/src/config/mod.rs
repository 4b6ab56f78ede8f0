//! Configuration: Flink's flat keys, typed, checked, with Flink's defaults.
//!
//! ```text
//!   config.yaml  --from_yaml--+
//!   -D, REST, SET, resource --+--merged_with--> Configuration --get(&ConfigOption<T>)--> T
//!                                                     |
//!                                                   check --> notes (a key of Flink's without effect here)
//!                                                         --> error (unknown key, malformed value)
//! ```
//!
//! Invariants: values are kept as they were written; a key that is no key of ours or Flink's is an error that names the
//! nearest one, so a typing error never passes for a default. [`options`] is the one list of what has an effect;
//! `docs/configuration.md` is generated from it.

mod check;
mod documentation;
mod flink_keys;
mod option;
pub mod options;
mod table_value;
mod value;
mod yaml;

use std::collections::{BTreeMap, HashMap};

pub use check::Note;
pub use documentation::markdown;
pub use option::{AnyOption, ConfigOption};
pub use table_value::{
    AggregatePhase, NotNullEnforcer, SqlResultMode, TypeLengthEnforcer, UpsertMaterialize,
};
pub use value::{
    CheckpointRetention, CheckpointingMode, ClaimMode, ConfigValue, FailoverStrategy, HighAvailabilityKind,
    MemorySize, RestartStrategyKind, RuntimeMode, StateBackend, format_duration, parse_duration,
    parse_memory_size,
};

/// Why a configuration can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The text is not YAML.
    #[error("{source_name}, line {line}, column {column}: not valid YAML: {message}")]
    Yaml {
        /// What was read, as a file's name.
        source_name: String,
        /// 1-based; 0 = unknown.
        line: usize,
        /// 1-based; 0 = unknown.
        column: usize,
        /// What the parser says.
        message: String,
    },
    /// The YAML is not a map from keys to values.
    #[error("{source_name}: {message}")]
    Shape {
        /// What was read.
        source_name: String,
        /// What is expected, and what is there.
        message: String,
    },
    /// Neither Flink nor Thalweg knows this key.
    #[error("unknown configuration key {key:?}{}", nearest.as_ref().map(|near| format!(": did you mean {near:?}?")).unwrap_or_default())]
    UnknownKey {
        /// As it was given.
        key: String,
        /// The known key nearest to it, if one is near.
        nearest: Option<String>,
    },
    /// The value can't be read as what the key needs.
    #[error("configuration key {key:?} has the value {value:?}: {expected} is expected")]
    Malformed {
        /// The key.
        key: String,
        /// As it was given.
        value: String,
        /// What is allowed.
        expected: String,
    },
    /// The key has no default and was not given.
    #[error("configuration key {key:?} is not set: {expected} is expected")]
    Missing {
        /// The key.
        key: String,
        /// What is allowed.
        expected: String,
    },
}

impl crate::Classify for ConfigError {
    fn class(&self) -> crate::FailureClass {
        crate::FailureClass::Fatal
    }
}

/// Flat keys and their values as text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Configuration(BTreeMap<String, String>);

impl Configuration {
    /// Reads standard YAML, with nested or flat keys, as Flink's `config.yaml`. `source_name` is for messages.
    pub fn from_yaml(source_name: &str, text: &str) -> Result<Self, ConfigError> {
        yaml::read(source_name, text).map(Self)
    }

    /// Takes keys and values as they are.
    pub fn from_map(entries: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(entries.into_iter().collect())
    }

    /// Sets a key, over what it had.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.0.insert(key.into(), value.into());
    }

    /// A copy in which the values of `over` go over these.
    pub fn merged_with(&self, over: &Self) -> Self {
        let mut merged = self.clone();
        merged
            .0
            .extend(over.iter().map(|(key, value)| (key.to_owned(), value.to_owned())));
        merged
    }

    /// All keys and values, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// For the wire.
    pub fn to_map(&self) -> HashMap<String, String> {
        self.0.clone().into_iter().collect()
    }

    /// The value of a key as it was written.
    pub fn get_raw(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// The value of an option: the key's, else that of its older names, else its default.
    pub fn get<T: ConfigValue>(&self, option: &ConfigOption<T>) -> Result<T, ConfigError> {
        for key in std::iter::once(option.key).chain(option.older_keys.iter().copied()) {
            if let Some(text) = self.get_raw(key) {
                return option.parse(text).map_err(|expected| ConfigError::Malformed {
                    key: key.to_owned(),
                    value: text.to_owned(),
                    expected,
                });
            }
        }
        option.default_value()
    }

    /// Looks at every key and value. A note for each key of Flink's that has no effect here; an error for the first
    /// key that nobody knows or value that can't be read.
    pub fn check(&self) -> Result<Vec<Note>, ConfigError> {
        check::check(self)
    }
}

#[cfg(test)]
mod tests;
