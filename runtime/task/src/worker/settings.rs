//! What a worker is told by the environment that its TaskManager starts it with.

use std::env;
use std::net::IpAddr;

use thalweg_types::JobId;

use crate::checkpoint::local::LocalStateSettings;

/// The variable that makes a program a worker.
pub const GATEWAY: &str = "THALWEG_WORKER_GATEWAY";
const TOKEN: &str = "THALWEG_WORKER_TOKEN";
const JOB_ID: &str = "THALWEG_JOB_ID";
const MEMORY_BYTES: &str = "THALWEG_WORKER_MEMORY_BYTES";
const SLOTS: &str = "THALWEG_WORKER_SLOTS";
const DATA_BIND: &str = "THALWEG_DATA_BIND";
const DATA_HOST: &str = "THALWEG_DATA_HOST";
const EXCHANGE_TOKEN: &str = "THALWEG_EXCHANGE_TOKEN";
/// Folders, as `PATH` lists them.
const LOCAL_STATE: &str = "THALWEG_LOCAL_STATE";
const LOCAL_STATE_BYTES: &str = "THALWEG_LOCAL_STATE_BYTES";

/// A variable is missing or malformed: the program was not started by a TaskManager of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Not set, or not UTF-8.
    #[error("{variable} is not set; a worker is started by its TaskManager, not by hand")]
    Missing {
        /// Which.
        variable: &'static str,
    },
    /// Set to something else than expected.
    #[error("{variable}={value:?} is malformed: {expected} is expected")]
    Malformed {
        /// Which.
        variable: &'static str,
        /// What it holds.
        value: String,
        /// What it should hold.
        expected: &'static str,
    },
}

/// A worker's settings.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// `http://host:port` of the TaskManager's gateway.
    pub gateway: String,
    /// Proves to the gateway that the TaskManager started this process.
    pub token: String,
    /// The job.
    pub job_id: JobId,
    /// The process's whole byte budget.
    pub memory_bytes: u64,
    /// How many slots share it.
    pub slots: u64,
    /// Where the data port listens.
    pub data_bind: IpAddr,
    /// The host at which peers dial the data port.
    pub data_host: String,
    /// Proves to peers that they belong to the same job.
    pub exchange_token: String,
    /// Where copies of state files may be kept.
    pub local_state: Option<LocalStateSettings>,
    /// "major.minor" of thalweg-api.
    pub api_version: String,
    /// Bytes allocated by this process, for heartbeats; the api's counting allocator knows.
    pub allocated_bytes: fn() -> u64,
}

impl WorkerSettings {
    /// Reads the environment. `api_version` is this crate's and `allocated_bytes` reports 0 until the api sets them.
    pub fn from_env() -> Result<Self, SettingsError> {
        Self::from_lookup(|variable| env::var(variable).ok())
    }

    fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let get = |variable: &'static str| lookup(variable).ok_or(SettingsError::Missing { variable });
        Ok(Self {
            gateway: get(GATEWAY)?,
            token: get(TOKEN)?,
            job_id: parse(JOB_ID, get(JOB_ID)?, "32 hex digits")?,
            memory_bytes: parse(MEMORY_BYTES, get(MEMORY_BYTES)?, "a number of bytes")?,
            slots: lookup(SLOTS).map_or(Ok(1), |slots| parse(SLOTS, slots, "a number of slots"))?,
            data_bind: parse(DATA_BIND, get(DATA_BIND)?, "an IP address")?,
            data_host: get(DATA_HOST)?,
            exchange_token: get(EXCHANGE_TOKEN)?,
            local_state: local_state(&lookup)?,
            api_version: concat!(
                env!("CARGO_PKG_VERSION_MAJOR"),
                ".",
                env!("CARGO_PKG_VERSION_MINOR")
            )
            .to_owned(),
            allocated_bytes: || 0,
        })
    }
}

fn local_state(
    lookup: &impl Fn(&str) -> Option<String>,
) -> Result<Option<LocalStateSettings>, SettingsError> {
    let Some(folders) = lookup(LOCAL_STATE).filter(|folders| !folders.is_empty()) else {
        return Ok(None);
    };
    let limit = lookup(LOCAL_STATE_BYTES).ok_or(SettingsError::Missing {
        variable: LOCAL_STATE_BYTES,
    })?;
    Ok(Some(LocalStateSettings {
        folders: env::split_paths(&folders).collect(),
        limit_bytes: parse(LOCAL_STATE_BYTES, limit, "a number of bytes")?,
    }))
}

fn parse<T: std::str::FromStr>(
    variable: &'static str,
    value: String,
    expected: &'static str,
) -> Result<T, SettingsError> {
    value.parse().map_err(|_| SettingsError::Malformed {
        variable,
        value,
        expected,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(variable: &str) -> Option<String> {
        let value = match variable {
            GATEWAY => "http://127.0.0.1:4000",
            JOB_ID => "0000000000000000000000000000000a",
            MEMORY_BYTES => "1048576",
            SLOTS => "2",
            LOCAL_STATE => "/disk1/job:/disk2/job",
            LOCAL_STATE_BYTES => "4096",
            DATA_BIND => "127.0.0.1",
            _ => "x",
        };
        Some(value.to_owned())
    }

    #[test]
    fn a_complete_environment_is_read() {
        let settings = WorkerSettings::from_lookup(lookup).unwrap();
        assert_eq!(settings.job_id, JobId::from_u128(10));
        assert_eq!((settings.memory_bytes, settings.slots), (1 << 20, 2));
        assert_eq!(settings.api_version, "0.1");
        let local_state = LocalStateSettings {
            folders: vec!["/disk1/job".into(), "/disk2/job".into()],
            limit_bytes: 4096,
        };
        assert_eq!(settings.local_state, Some(local_state));
    }

    #[test]
    fn a_missing_variable_is_named() {
        let without = |variable: &str| lookup(variable).filter(|_| variable != DATA_HOST);
        let error = WorkerSettings::from_lookup(without).unwrap_err();
        assert_eq!(error, SettingsError::Missing { variable: DATA_HOST });
    }

    #[test]
    fn a_malformed_variable_is_named_with_what_is_expected() {
        let wrong = |variable: &str| {
            if variable == DATA_BIND {
                Some("eth0".to_owned())
            } else {
                lookup(variable)
            }
        };
        let error = WorkerSettings::from_lookup(wrong).unwrap_err();
        assert_eq!(
            error.to_string(),
            "THALWEG_DATA_BIND=\"eth0\" is malformed: an IP address is expected"
        );
    }
}
