//! A table's options: typed, and checked as Flink's FactoryUtil does.

use std::str::FromStr;
use std::time::Duration;

use thalweg_plan::connector::{CatalogTable, ConnectorProblem};
use thalweg_types::config::{parse_duration, parse_memory_size};

/// What every source of a table knows, too: the planner reads them.
pub(crate) const SOURCE_KEYS: [&str; 2] = ["scan.parallelism", IDLE_TIMEOUT];
const IDLE_TIMEOUT: &str = "scan.watermark.idle-timeout";

/// A problem with an option.
pub(crate) fn problem(option: &str, message: impl Into<String>) -> ConnectorProblem {
    ConnectorProblem {
        option: Some(option.to_owned()),
        message: message.into(),
    }
}

/// A problem with something else.
pub(crate) fn refusal(message: impl Into<String>) -> ConnectorProblem {
    ConnectorProblem {
        option: None,
        message: message.into(),
    }
}

/// The options of a table, as one factory reads them.
pub(crate) struct TableOptions<'a> {
    pub(crate) table: &'a CatalogTable,
    connector: &'static str,
    supported: Vec<String>,
    prefixes: Vec<&'static str>,
}

impl<'a> TableOptions<'a> {
    /// Of a connector that knows these keys.
    pub(crate) fn new<'k>(
        connector: &'static str,
        table: &'a CatalogTable,
        keys: impl IntoIterator<Item = &'k str>,
    ) -> Self {
        let mut supported = vec!["connector".to_owned(), "property-version".to_owned()];
        supported.extend(keys.into_iter().map(str::to_owned));
        Self {
            table,
            connector,
            supported,
            prefixes: Vec::new(),
        }
    }

    /// Knows these, too.
    pub(crate) fn support(&mut self, keys: impl IntoIterator<Item = String>) {
        self.supported.extend(keys);
    }

    /// Knows every key that begins so.
    pub(crate) fn support_prefix(&mut self, prefix: &'static str) {
        self.prefixes.push(prefix);
    }

    /// The first key that is missing, then those that nobody knows.
    pub(crate) fn validate(&mut self, required: &[&str]) -> Result<(), ConnectorProblem> {
        let mut missing: Vec<&str> = required
            .iter()
            .copied()
            .filter(|key| self.get(key).is_none())
            .collect();
        missing.sort_unstable();
        if let Some(first) = missing.first() {
            return Err(problem(
                first,
                format!(
                    "One or more required options are missing.\n\nMissing required options are:\n\n{}",
                    missing.join("\n")
                ),
            ));
        }
        let is_known = |key: &str| {
            self.supported.iter().any(|known| known == key)
                || self.prefixes.iter().any(|prefix| key.starts_with(prefix))
        };
        let unsupported: Vec<&str> = self
            .table
            .options
            .keys()
            .map(String::as_str)
            .filter(|key| !is_known(key))
            .collect();
        let Some(first) = unsupported.first() else {
            return self.duration(IDLE_TIMEOUT).map(drop);
        };
        self.supported.sort_unstable();
        self.supported.dedup();
        Err(problem(
            first,
            format!(
                "Unsupported options found for '{}'.\n\nUnsupported options:\n\n{}\n\nSupported options:\n\n{}",
                self.connector,
                unsupported.join("\n"),
                self.supported.join("\n")
            ),
        ))
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'a str> {
        self.table.options.get(key).map(String::as_str)
    }

    fn read<T>(
        &self,
        key: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, ConnectorProblem> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match parse(value.trim()) {
            Some(value) => Ok(Some(value)),
            None => Err(problem(
                key,
                format!(
                    "Invalid value for option '{key}'.\n\nCould not parse value '{value}' for key '{key}': {expected} is expected."
                ),
            )),
        }
    }

    /// A number.
    pub(crate) fn number<T: FromStr>(&self, key: &str) -> Result<Option<T>, ConnectorProblem> {
        self.read(key, "a number", |value| value.parse().ok())
    }

    pub(crate) fn boolean(&self, key: &str, default: bool) -> Result<bool, ConnectorProblem> {
        let parse = |value: &str| match value.to_ascii_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        };
        Ok(self.read(key, "true or false", parse)?.unwrap_or(default))
    }

    pub(crate) fn duration(&self, key: &str) -> Result<Option<Duration>, ConnectorProblem> {
        self.read(key, "a duration such as \"10 s\" or \"1 min\"", parse_duration)
    }

    /// A number of bytes.
    pub(crate) fn memory(&self, key: &str) -> Result<Option<u64>, ConnectorProblem> {
        self.read(key, "a size such as \"128 mb\"", parse_memory_size)
    }

    /// One of these, in any case.
    pub(crate) fn choice<T: Copy>(
        &self,
        key: &str,
        choices: &[(&str, T)],
        default: T,
    ) -> Result<T, ConnectorProblem> {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let parse = |value: &str| {
            choices
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(value))
                .map(|(_, choice)| *choice)
        };
        let expected = format!("one of [{}]", names.join(", "));
        Ok(self.read(key, &expected, parse)?.unwrap_or(default))
    }

    /// `sink.parallelism`.
    pub(crate) fn parallelism(&self) -> Result<Option<u32>, ConnectorProblem> {
        match self.number::<u32>("sink.parallelism")? {
            Some(0) => Err(problem(
                "sink.parallelism",
                "Invalid value for option 'sink.parallelism': it must be above 0.",
            )),
            parallelism => Ok(parallelism),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::testing::table;

    #[test]
    fn what_is_missing_and_what_is_unknown_is_named_as_flink_does() {
        let table = table(&[("connector", "print"), ("y", "1"), ("x", "2")], &[]);
        let mut options = TableOptions::new("print", &table, ["print-identifier"]);
        let missing = options.validate(&["path", "format"]).unwrap_err();
        assert_eq!(
            missing.message,
            "One or more required options are missing.\n\nMissing required options are:\n\nformat\npath"
        );
        let unknown = options.validate(&[]).unwrap_err();
        assert_eq!(unknown.option.as_deref(), Some("x"));
        assert_eq!(
            unknown.message,
            "Unsupported options found for 'print'.\n\nUnsupported options:\n\nx\ny\n\nSupported options:\n\nconnector\nprint-identifier\n\
             property-version"
        );
    }

    #[test]
    fn every_source_knows_how_long_it_may_be_idle() {
        let validate = |timeout: &str| {
            let table = table(
                &[("connector", "t"), ("scan.watermark.idle-timeout", timeout)],
                &[],
            );
            TableOptions::new("t", &table, SOURCE_KEYS).validate(&[])
        };
        assert_eq!(validate("10 s"), Ok(()));
        let refused = validate("soon").unwrap_err();
        assert_eq!(refused.option.as_deref(), Some("scan.watermark.idle-timeout"));
    }

    #[test]
    fn a_value_of_another_type_names_its_option() {
        let table = table(&[("a", "x"), ("b", "10 s"), ("c", "ONE")], &[]);
        let options = TableOptions::new("t", &table, []);
        assert_eq!(
            options.number::<u64>("a").unwrap_err().message,
            "Invalid value for option 'a'.\n\nCould not parse value 'x' for key 'a': a number is expected."
        );
        assert_eq!(options.duration("b"), Ok(Some(Duration::from_secs(10))));
        assert_eq!(options.choice("c", &[("one", 1), ("two", 2)], 2), Ok(1));
    }
}
