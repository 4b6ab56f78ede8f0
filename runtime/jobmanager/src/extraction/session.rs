//! What a script is planned with, beside its text and arguments: recorded at extraction and replayed in every worker, so that the plan
//! is the same one there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thalweg_types::config::Configuration;

use crate::rest::is_secret;

const VARIABLE: &str = "THALWEG_SQL_SESSION";

/// What the statements of a script find when they are executed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScriptSession {
    /// Below what the script sets.
    pub configuration: BTreeMap<String, String>,
    /// When they are executed, in Unix milliseconds.
    pub statement_time_ms: i64,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The process was not started by the engine.
    #[error("a script's job is started by the engine: `thalweg run {script}` runs it here")]
    Missing {
        /// Which script.
        script: String,
    },
    /// It is not what [`ScriptSession::to_variable`] writes.
    #[error("{VARIABLE} can't be read")]
    Malformed(#[source] serde_json::Error),
}

impl ScriptSession {
    /// At that time, with that configuration but for its secrets: a plan needs none, and connectors get them when they are deployed.
    pub fn new(configuration: &Configuration, now_ms: u64) -> Self {
        let open = configuration.iter().filter(|(key, _)| !is_secret(key));
        Self {
            configuration: open
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            statement_time_ms: i64::try_from(now_ms).unwrap_or(i64::MAX),
        }
    }

    /// A variable of the environment, and its value.
    pub(crate) fn to_variable(&self) -> (String, String) {
        // Maps of strings and a number are always JSON.
        let value = serde_json::to_string(self).unwrap_or_default();
        (VARIABLE.to_owned(), value)
    }

    /// The one that this process was started with.
    ///
    /// # Errors
    /// It was started by somebody else.
    pub fn from_environment(script: &str) -> Result<Self, SessionError> {
        let missing = |_| SessionError::Missing {
            script: script.to_owned(),
        };
        let value = std::env::var(VARIABLE).map_err(missing)?;
        serde_json::from_str(&value).map_err(SessionError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_into_the_environment_has_no_secrets_and_comes_out_again() {
        let entries = [("table.exec.state.ttl", "1 h"), ("s3.secret-key", "hidden")];
        let configuration =
            Configuration::from_map(entries.map(|(key, value)| (key.to_owned(), value.to_owned())));
        let session = ScriptSession::new(&configuration, 5);
        let (name, value) = session.to_variable();
        assert_eq!(name, VARIABLE);
        assert!(!value.contains("hidden"), "{value}");
        let read: ScriptSession = serde_json::from_str(&value).unwrap();
        assert_eq!(read, session);
        assert_eq!(read.configuration["table.exec.state.ttl"], "1 h");
    }
}
