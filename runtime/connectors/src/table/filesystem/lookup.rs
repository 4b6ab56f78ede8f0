//! `lookup.*`: a table of files that rows are joined with as they come. It is read as a whole, and again if that is asked for.

use std::time::Duration;

use thalweg_plan::connector::ConnectorProblem;

use super::super::options::{TableOptions, problem};

pub(super) const KEYS: [&str; 5] = [
    "lookup.cache",
    "lookup.full-cache.reload-strategy",
    INTERVAL,
    "lookup.full-cache.periodic-reload.schedule-mode",
    MAX_SIZE,
];
const INTERVAL: &str = "lookup.full-cache.periodic-reload.interval";
const MAX_SIZE: &str = "lookup.full-cache.max-size";
/// Unless [`MAX_SIZE`] says otherwise.
const DEFAULT_MAX_BYTES: u64 = 256 << 20;

/// How a table that is looked up is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LookupCache {
    /// How often it is read again; `None`: never.
    pub reload_interval: Option<Duration>,
    /// Whether the interval counts from the beginning of a reading, not from its end.
    pub fixed_rate: bool,
    /// More than that is refused, in each subtask.
    pub max_bytes: u64,
}

impl LookupCache {
    pub(super) fn read(options: &TableOptions<'_>) -> Result<Self, ConnectorProblem> {
        let is_full = [("FULL", true), ("NONE", false), ("PARTIAL", false)];
        if !options.choice("lookup.cache", &is_full, true)? {
            return Err(problem(
                "lookup.cache",
                "'lookup.cache' of files is 'FULL': they can't be asked for single keys.",
            ));
        }
        let is_periodic = [("PERIODIC", true), ("TIMED", false)];
        if !options.choice("lookup.full-cache.reload-strategy", &is_periodic, true)? {
            return Err(problem(
                "lookup.full-cache.reload-strategy",
                format!(
                    "'lookup.full-cache.reload-strategy' = 'TIMED' is not supported: use 'PERIODIC' with '{INTERVAL}'."
                ),
            ));
        }
        let reload_interval = options.duration(INTERVAL)?;
        if reload_interval == Some(Duration::ZERO) {
            return Err(problem(INTERVAL, format!("'{INTERVAL}' must be above 0.")));
        }
        let modes = [("FIXED_DELAY", false), ("FIXED_RATE", true)];
        Ok(Self {
            reload_interval,
            fixed_rate: options.choice("lookup.full-cache.periodic-reload.schedule-mode", &modes, false)?,
            max_bytes: options.memory(MAX_SIZE)?.unwrap_or(DEFAULT_MAX_BYTES),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::testing::table;

    fn cache(options: &[(&str, &str)]) -> Result<LookupCache, String> {
        let table = table(options, &[]);
        let options = TableOptions::new("filesystem", &table, KEYS);
        LookupCache::read(&options).map_err(|problem| problem.message)
    }

    #[test]
    fn files_are_held_as_a_whole_and_read_again_when_asked() {
        let default = cache(&[]).unwrap();
        assert_eq!(default.reload_interval, None);
        assert_eq!(default.max_bytes, 256 << 20);
        let given = cache(&[
            ("lookup.cache", "full"),
            ("lookup.full-cache.reload-strategy", "PERIODIC"),
            (INTERVAL, "10 s"),
            ("lookup.full-cache.periodic-reload.schedule-mode", "FIXED_RATE"),
            (MAX_SIZE, "1 mb"),
        ]);
        let expected = LookupCache {
            reload_interval: Some(Duration::from_secs(10)),
            fixed_rate: true,
            max_bytes: 1 << 20,
        };
        assert_eq!(given, Ok(expected));
    }

    #[test]
    fn what_files_cannot_do_is_refused_by_name() {
        let refused = |key, value| cache(&[(key, value)]).unwrap_err();
        assert!(refused("lookup.cache", "NONE").contains("'FULL'"));
        assert!(refused("lookup.cache", "PARTIAL").contains("'FULL'"));
        assert!(refused("lookup.full-cache.reload-strategy", "TIMED").contains(INTERVAL));
        assert!(refused(INTERVAL, "0 s").contains("above 0"));
        assert!(refused("lookup.cache", "some").contains("one of [FULL, NONE, PARTIAL]"));
    }
}
