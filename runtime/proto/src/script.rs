//! How a program that runs SQL scripts is started, by JobManagers to learn the script's graph and by TaskManagers as the job's worker:
//! `PROGRAM sql-job SCRIPT -- ARGUMENTS`, with a session in the environment.
//!
//! Invariant: the session is recorded at extraction and replayed in every worker, so that the plan is the same one there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The verb.
pub const SCRIPT_VERB: &str = "sql-job";
/// `entry_kind` of a script.
pub const SCRIPT_KIND: &str = "sql";
/// Where the program of the calling process is, whatever became of its file: what runs scripts that bring no program along.
pub const OWN_PROGRAM: &str = "/proc/self/exe";

const SESSION: &str = "THALWEG_SQL_SESSION";

/// What the statements of a script find when they are executed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScriptSession {
    /// Below what the script sets; without secrets.
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
    #[error("{SESSION} can't be read")]
    Malformed(#[source] serde_json::Error),
}

impl ScriptSession {
    /// A variable of the environment, and its value.
    pub fn to_variable(&self) -> (String, String) {
        // Maps of strings and a number are always JSON.
        let value = serde_json::to_string(self).unwrap_or_default();
        (SESSION.to_owned(), value)
    }

    /// The one that this process was started with.
    ///
    /// # Errors
    /// It was started by somebody else.
    pub fn from_environment(script: &str) -> Result<Self, SessionError> {
        let value = std::env::var(SESSION).map_err(|_| SessionError::Missing {
            script: script.to_owned(),
        })?;
        serde_json::from_str(&value).map_err(SessionError::Malformed)
    }
}
