//! `execution.checkpointing.*`, read once when a job starts.

use std::time::Duration;

use thalweg_types::config::{
    CheckpointRetention, CheckpointingMode, ConfigError, Configuration, StateBackend, options,
};

/// How a job takes checkpoints; times in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointConfig {
    /// Between the begins of two checkpoints; None = only on request.
    pub interval_ms: Option<u64>,
    /// Between the end of one and the begin of the next.
    pub min_pause_ms: u64,
    /// Under way at a time; 1 if there is a pause between them.
    pub max_concurrent: u32,
    /// Until a snapshot that isn't complete is given up.
    pub timeout_ms: u64,
    /// How many in a row may fail without consequence.
    pub tolerable_failures: u32,
    /// Exactly-once or at-least-once.
    pub mode: CheckpointingMode,
    /// Barriers may overtake; never with at-least-once.
    pub unaligned: bool,
    /// How long an unaligned checkpoint stays aligned; 0 = not at all.
    pub aligned_timeout_ms: u64,
    /// Whether they go on when tasks have finished.
    pub after_tasks_finish: bool,
    /// Whether they refer to files of earlier ones.
    pub incremental: bool,
    /// How many completed ones are kept.
    pub num_retained: u32,
    /// What stays when the job ends.
    pub retention: CheckpointRetention,
    /// The folder of all jobs' checkpoints, as it was written; without it none are taken.
    pub directory: Option<String>,
    /// Where savepoints go whose request doesn't say, as it was written.
    pub savepoint_directory: Option<String>,
    /// State files up to this size go into the metadata.
    pub inline_limit_bytes: u64,
    /// For show.
    pub backend: StateBackend,
}

impl CheckpointConfig {
    /// Reads all keys.
    ///
    /// # Errors
    /// The first malformed value, by its key.
    pub fn from_configuration(configuration: &Configuration) -> Result<Self, ConfigError> {
        let min_pause_ms = milliseconds(configuration.get(&options::CHECKPOINTING_MIN_PAUSE)?);
        let max_concurrent = configuration.get(&options::CHECKPOINTING_MAX_CONCURRENT)?;
        let mode = configuration.get(&options::CHECKPOINTING_MODE)?;
        let unaligned = configuration.get(&options::CHECKPOINTING_UNALIGNED)?;
        Ok(Self {
            interval_ms: configuration
                .get(&options::CHECKPOINTING_INTERVAL)?
                .map(milliseconds),
            min_pause_ms,
            max_concurrent: if min_pause_ms > 0 { 1 } else { max_concurrent },
            timeout_ms: milliseconds(configuration.get(&options::CHECKPOINTING_TIMEOUT)?),
            tolerable_failures: configuration.get(&options::CHECKPOINTING_TOLERABLE_FAILURES)?,
            mode,
            unaligned: unaligned && mode == CheckpointingMode::ExactlyOnce,
            aligned_timeout_ms: milliseconds(configuration.get(&options::CHECKPOINTING_ALIGNED_TIMEOUT)?),
            after_tasks_finish: configuration.get(&options::CHECKPOINTING_AFTER_TASKS_FINISH)?,
            incremental: configuration.get(&options::CHECKPOINTING_INCREMENTAL)?,
            num_retained: configuration.get(&options::CHECKPOINTING_NUM_RETAINED)?,
            retention: configuration.get(&options::CHECKPOINTING_RETENTION)?,
            directory: configuration.get(&options::CHECKPOINTING_DIR)?,
            savepoint_directory: configuration.get(&options::CHECKPOINTING_SAVEPOINT_DIR)?,
            inline_limit_bytes: configuration.get(&options::CHECKPOINTING_INLINE_THRESHOLD)?.0,
            backend: configuration.get(&options::STATE_BACKEND)?,
        })
    }

    /// Whether checkpoints are taken by themselves.
    pub fn is_periodic(&self) -> bool {
        self.interval_ms.is_some() && self.directory.is_some()
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(entries: &[(&str, &str)]) -> Result<CheckpointConfig, ConfigError> {
        let entries = entries
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        CheckpointConfig::from_configuration(&Configuration::from_map(entries))
    }

    #[test]
    fn nothing_configured_means_no_checkpoints_and_flinks_defaults() {
        let config = read(&[]).unwrap();
        assert!(!config.is_periodic());
        assert_eq!(
            (config.timeout_ms, config.max_concurrent, config.num_retained),
            (600_000, 1, 1)
        );
        assert_eq!(config.retention, CheckpointRetention::None);
        assert_eq!(config.inline_limit_bytes, 20 << 10);
    }

    #[test]
    fn older_names_of_flink_are_read() {
        let config = read(&[
            ("execution.checkpointing.interval", "10 s"),
            ("state.checkpoints.dir", "s3://bucket/checkpoints"),
            ("state.savepoints.dir", "s3://bucket/savepoints"),
            ("state.checkpoints.num-retained", "3"),
            ("state.storage.fs.memory-threshold", "1kb"),
            ("state.backend.incremental", "false"),
            ("state.backend", "hashmap"),
        ])
        .unwrap();
        assert!(config.is_periodic() && !config.incremental);
        assert_eq!((config.num_retained, config.inline_limit_bytes), (3, 1024));
        assert_eq!(
            config.savepoint_directory.as_deref(),
            Some("s3://bucket/savepoints")
        );
        assert_eq!(config.backend, StateBackend::HashMap);
    }

    #[test]
    fn a_pause_allows_one_checkpoint_at_a_time_and_at_least_once_is_never_unaligned() {
        let config = read(&[
            ("execution.checkpointing.min-pause", "1 s"),
            ("execution.checkpointing.max-concurrent-checkpoints", "4"),
            ("execution.checkpointing.mode", "AT_LEAST_ONCE"),
            ("execution.checkpointing.unaligned.enabled", "true"),
        ])
        .unwrap();
        assert_eq!((config.max_concurrent, config.unaligned), (1, false));
    }

    #[test]
    fn a_malformed_value_is_refused_by_its_key() {
        let error = read(&[(
            "execution.checkpointing.externalized-checkpoint-retention",
            "MAYBE",
        )])
        .unwrap_err();
        assert!(
            error.to_string().contains("externalized-checkpoint-retention"),
            "{error}"
        );
    }
}
