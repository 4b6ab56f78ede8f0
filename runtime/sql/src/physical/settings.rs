//! What the configuration says of plans, read once.

use std::sync::Arc;
use std::time::Duration;

use thalweg_functions::EvaluationEnv;
use thalweg_types::config::{AggregatePhase, NotNullEnforcer, TypeLengthEnforcer, UpsertMaterialize};
use thalweg_types::config::{ConfigError, Configuration, RuntimeMode, options};

use super::draft::Draft;
use crate::error::SqlError;

/// Options that decide what a plan is.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// `execution.runtime-mode` is BATCH: see [`super::batch`].
    pub(crate) is_batch: bool,
    /// Of state, in milliseconds; 0 = for ever.
    pub(crate) state_ttl_ms: u64,
    /// Whether updates within a batch are folded.
    pub(crate) fold_batches: bool,
    /// Whether rows are aggregated before they are sent to their group.
    pub(crate) two_phases: bool,
    /// Watermarks at most so often, in milliseconds; 0 = with each row.
    pub(crate) watermark_interval_ms: u64,
    /// After which time without rows a source is idle, in milliseconds; 0 = never.
    pub(crate) idle_timeout_ms: u64,
    /// Whether a source of changes may repeat them.
    pub(crate) events_duplicate: bool,
    /// Of all operators; `None` = the job's.
    pub(crate) parallelism: Option<u32>,
    /// The job's.
    default_parallelism: u32,
    /// Whether a materializer orders updates before a sink.
    pub(crate) upsert_materialize: UpsertMaterialize,
    /// Whether an INSERT must say what becomes of rows that have the sink's key in common.
    pub(crate) require_on_conflict: bool,
    /// Whether rows with a null in a NOT NULL column of a sink are left out.
    pub(crate) drop_nulls: bool,
    /// The session's time zone.
    pub(crate) time_zone: String,
}

impl Settings {
    /// Reads them; a malformed one is an error.
    pub(crate) fn of(configuration: &Configuration) -> Result<Self, SqlError> {
        let refused = |error: ConfigError| SqlError::option(error.to_string(), None);
        let mode = configuration.get(&options::RUNTIME_MODE).map_err(refused)?;
        let is_batch = mode == RuntimeMode::Batch;
        let enforcer = configuration
            .get(&options::TABLE_SINK_TYPE_LENGTH_ENFORCER)
            .map_err(refused)?;
        if enforcer != TypeLengthEnforcer::Ignore {
            let message = "table.exec.sink.type-length-enforcer is not supported but for IGNORE";
            return Err(SqlError::unsupported(message, None));
        }
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let mini_batch = configuration
            .get(&options::TABLE_MINI_BATCH_ENABLED)
            .map_err(refused)?;
        let phases = configuration
            .get(&options::TABLE_AGG_PHASE_STRATEGY)
            .map_err(refused)?;
        let nulls = configuration
            .get(&options::TABLE_SINK_NOT_NULL_ENFORCER)
            .map_err(refused)?;
        let parallelism = configuration
            .get(&options::TABLE_DEFAULT_PARALLELISM)
            .map_err(refused)?;
        Ok(Self {
            state_ttl_ms: ms(configuration.get(&options::TABLE_STATE_TTL).map_err(refused)?),
            is_batch,
            fold_batches: mini_batch != Some(false),
            two_phases: !is_batch && mini_batch == Some(true) && phases != AggregatePhase::OnePhase,
            watermark_interval_ms: ms(configuration
                .get(&options::AUTO_WATERMARK_INTERVAL)
                .map_err(refused)?),
            idle_timeout_ms: ms(configuration
                .get(&options::TABLE_SOURCE_IDLE_TIMEOUT)
                .map_err(refused)?),
            events_duplicate: configuration
                .get(&options::TABLE_SOURCE_CDC_EVENTS_DUPLICATE)
                .map_err(refused)?,
            parallelism: u32::try_from(parallelism).ok(),
            default_parallelism: configuration
                .get(&options::PARALLELISM_DEFAULT)
                .map_err(refused)?,
            upsert_materialize: configuration
                .get(&options::TABLE_SINK_UPSERT_MATERIALIZE)
                .map_err(refused)?,
            require_on_conflict: configuration
                .get(&options::TABLE_SINK_REQUIRE_ON_CONFLICT)
                .map_err(refused)?,
            drop_nulls: nulls == NotNullEnforcer::Drop,
            time_zone: match configuration
                .get(&options::TABLE_LOCAL_TIME_ZONE)
                .map_err(refused)?
            {
                zone if zone == "default" => "UTC".to_owned(),
                zone => zone,
            },
        })
    }

    /// Of an operator.
    pub(crate) fn parallelism_of(&self, draft: &Draft) -> u32 {
        draft
            .parallelism
            .or(self.parallelism)
            .unwrap_or(self.default_parallelism)
    }

    /// For constants: time doesn't go on.
    pub(crate) fn env(&self) -> EvaluationEnv {
        EvaluationEnv {
            time_zone: self.time_zone.clone(),
            clock: Arc::new(|| 0),
            statement_time_ms: 0,
            is_batch: self.is_batch,
            functions: Arc::default(),
        }
    }
}
