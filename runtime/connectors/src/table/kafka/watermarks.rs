//! Watermarks of a scan's partitions: `scan.watermark.*`, as Flink's FactoryUtil has them.

use thalweg_plan::connector::ConnectorProblem;

use super::options::Table;
use crate::table::options::problem;
use crate::watermark::{WatermarkAlignment, WatermarkStrategy};

pub(super) const EMIT_STRATEGY: &str = "scan.watermark.emit.strategy";
pub(super) const GROUP: &str = "scan.watermark.alignment.group";
pub(super) const MAX_DRIFT: &str = "scan.watermark.alignment.max-drift";
pub(super) const UPDATE_INTERVAL: &str = "scan.watermark.alignment.update-interval";

impl Table<'_> {
    /// With which other sources the scan keeps step; a group and how far it may run ahead belong together.
    pub(super) fn alignment(&self) -> Result<Option<WatermarkAlignment>, ConnectorProblem> {
        // Both ways watermarks go behind batches.
        self.options
            .choice(EMIT_STRATEGY, &[("on-periodic", ()), ("on-event", ())], ())?;
        let max_drift = self.options.duration(MAX_DRIFT)?;
        let interval = self.options.duration(UPDATE_INTERVAL)?;
        let (group, max_drift) = match (self.options.get(GROUP), max_drift) {
            (Some(group), Some(max_drift)) => (group, max_drift),
            (None, None) => return Ok(None),
            _ => {
                return Err(problem(
                    GROUP,
                    format!(
                        "'{GROUP}' and '{MAX_DRIFT}' must be set together if watermark alignment is to be enabled."
                    ),
                ));
            }
        };
        let strategy = WatermarkStrategy::for_monotonous_timestamps();
        let strategy = match interval {
            Some(interval) if interval.is_zero() => {
                return Err(problem(
                    UPDATE_INTERVAL,
                    format!("'{UPDATE_INTERVAL}' must be above 0."),
                ));
            }
            Some(interval) => strategy.with_watermark_alignment_every(group, max_drift, interval),
            None => strategy.with_watermark_alignment(group, max_drift),
        };
        Ok(strategy.alignment)
    }
}
