//! A key with its type, default and meaning.

use std::fmt;

use super::ConfigError;
use super::value::ConfigValue;

/// A configuration key that has an effect, and how its value is read.
pub struct ConfigOption<T> {
    /// As Flink writes it.
    pub key: &'static str,
    /// Older names of it that Flink still reads.
    pub older_keys: &'static [&'static str],
    /// As it would be written; `None` = unset.
    pub default: Option<&'static str>,
    /// What it is for.
    pub description: &'static str,
    accepts: fn(&T) -> bool,
    expected: Option<&'static str>,
}

impl<T: ConfigValue> ConfigOption<T> {
    pub(super) const fn new(
        key: &'static str,
        default: Option<&'static str>,
        description: &'static str,
    ) -> Self {
        Self {
            key,
            older_keys: &[],
            default,
            description,
            accepts: |_| true,
            expected: None,
        }
    }

    /// Narrows what the type allows; `expected` says to what.
    pub(super) const fn narrowed(mut self, accepts: fn(&T) -> bool, expected: &'static str) -> Self {
        self.accepts = accepts;
        self.expected = Some(expected);
        self
    }

    pub(super) const fn formerly(mut self, older_keys: &'static [&'static str]) -> Self {
        self.older_keys = older_keys;
        self
    }

    /// What a value must be, in words.
    pub fn expected(&self) -> &'static str {
        self.expected.unwrap_or(T::EXPECTED)
    }

    /// Reads a value; the error says what is expected.
    pub(super) fn parse(&self, text: &str) -> Result<T, String> {
        match T::parse(text.trim()) {
            Some(value) if (self.accepts)(&value) => Ok(value),
            _ => Err(self.expected().to_owned()),
        }
    }

    pub(super) fn default_value(&self) -> Result<T, ConfigError> {
        let value = match self.default {
            Some(text) => T::parse(text),
            None => T::unset(),
        };
        value.ok_or_else(|| ConfigError::Missing {
            key: self.key.to_owned(),
            expected: self.expected().to_owned(),
        })
    }
}

impl<T> fmt::Debug for ConfigOption<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigOption")
            .field("key", &self.key)
            .field("default", &self.default)
            .finish()
    }
}

/// An option of whatever type, for checks and documentation.
pub trait AnyOption: Sync {
    /// The key.
    fn key(&self) -> &'static str;
    /// Its older names.
    fn older_keys(&self) -> &'static [&'static str];
    /// As it would be written; `None` = unset.
    fn default(&self) -> Option<&'static str>;
    /// What it is for.
    fn description(&self) -> &'static str;
    /// What a value must be, in words.
    fn expected(&self) -> &'static str;
    /// Whether a text is a value of it.
    fn accepts(&self, text: &str) -> bool;
}

impl<T: ConfigValue> AnyOption for ConfigOption<T> {
    fn key(&self) -> &'static str {
        self.key
    }

    fn older_keys(&self) -> &'static [&'static str] {
        self.older_keys
    }

    fn default(&self) -> Option<&'static str> {
        self.default
    }

    fn description(&self) -> &'static str {
        self.description
    }

    fn expected(&self) -> &'static str {
        ConfigOption::expected(self)
    }

    fn accepts(&self, text: &str) -> bool {
        self.parse(text).is_ok()
    }
}
