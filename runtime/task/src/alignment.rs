//! A source task's part in watermark alignment. Flink's SourceOperator does this in its own code.
//!
//! ```text
//!   chain: watermark of the aligned node --at the interval--> ReportWatermark --> JobMaster: least of the group
//!   mailbox <-- AlignWatermarks: how far it may go <----------------------------------------'
//!      `-> watermark beyond it? the reader is not asked; splits beyond it are paused by the reader
//! ```
//!
//! Invariant: only the reader waits. Barriers go in, timers fire and what was read goes on all the same.

use std::time::{Duration, Instant};

use thalweg_connectors::Gauge;
use thalweg_proto::control::v1 as control;
use thalweg_proto::graph::v1 as graph;
use thalweg_types::config::{ConfigError, Configuration, options};
use tokio::sync::mpsc;

use crate::error::TaskError;
use crate::executor::TaskEvent;

/// Which node of a chain is aligned, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AlignmentPlan {
    /// Its place in the chain.
    pub(crate) node: usize,
    group: String,
    max_drift_ms: i64,
    interval: Duration,
    allow_unaligned_splits: bool,
}

impl AlignmentPlan {
    /// Of a vertex, if a node of it is aligned. `has_source`: a reader is there that can wait.
    pub(crate) fn of(
        vertex: &graph::JobVertex,
        has_source: bool,
        configuration: &Configuration,
    ) -> Result<Option<Self>, String> {
        let nodes = vertex.chain.iter().enumerate();
        let mut aligned =
            nodes.filter_map(|(place, node)| Some((place, node, node.watermark_alignment.as_ref()?)));
        let Some((place, node, alignment)) = aligned.next() else {
            return Ok(None);
        };
        let name = &node.name;
        if let Some((_, other, _)) = aligned.next() {
            return Err(format!(
                "watermark alignment is asked for at {name:?} and again at {:?} behind the same source: ask for it once",
                other.name
            ));
        }
        if !has_source {
            return Err(format!(
                "watermark alignment is asked for at {name:?}, which runs in another task than its source: assign timestamps and \
                 watermarks right behind the source, with the same parallelism and without breaking the chain"
            ));
        }
        let allow = configuration.get(&options::ALLOW_UNALIGNED_SOURCE_SPLITS);
        Ok(Some(Self {
            node: place,
            group: alignment.group.clone(),
            max_drift_ms: i64::try_from(alignment.max_drift_ms).unwrap_or(i64::MAX),
            interval: Duration::from_millis(alignment.update_interval_ms.max(1)),
            allow_unaligned_splits: allow.map_err(|error: ConfigError| error.to_string())?,
        }))
    }
}

/// Where the aligned node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Its last watermark.
    pub(crate) watermark_ms: Option<i64>,
    /// It holds nothing back.
    pub(crate) idle: bool,
}

/// A task's alignment while it runs.
pub(crate) struct Alignment {
    plan: AlignmentPlan,
    attempt: control::ExecutionAttempt,
    events: mpsc::Sender<TaskEvent>,
    max_watermark_ms: i64,
    next_report: Instant,
    splits_aligned: bool,
    /// The reader is not asked.
    pub(crate) paused: bool,
}

impl Alignment {
    pub(crate) fn new(
        plan: AlignmentPlan,
        attempt: control::ExecutionAttempt,
        events: mpsc::Sender<TaskEvent>,
        now: Instant,
    ) -> Self {
        Self {
            next_report: now + plan.interval,
            plan,
            attempt,
            events,
            max_watermark_ms: i64::MAX,
            splits_aligned: true,
            paused: false,
        }
    }

    pub(crate) fn node(&self) -> usize {
        self.plan.node
    }

    /// How far it may go from now on; whether the reader holds each of its splits to that.
    pub(crate) fn set_max_watermark(&mut self, max_watermark_ms: i64, splits_aligned: bool) {
        self.max_watermark_ms = max_watermark_ms;
        self.splits_aligned = splits_aligned;
    }

    /// Refuses that splits which are not ahead wait for others of the same reader, unless that is allowed.
    pub(crate) fn check_splits(&self) -> Result<(), TaskError> {
        if self.splits_aligned || self.plan.allow_unaligned_splits {
            return Ok(());
        }
        Err(TaskError::Configuration {
            message: format!(
                "the source is ahead of watermark alignment group {:?} and reads several splits at once that it can't pause one by \
                 one: give the strategy to the source itself, or set {}: true, so that only the source as a whole waits",
                self.plan.group,
                options::ALLOW_UNALIGNED_SOURCE_SPLITS.key
            ),
        })
    }

    /// Whether it has gone too far.
    pub(crate) fn is_ahead(&self, progress: Progress) -> bool {
        progress
            .watermark_ms
            .is_some_and(|watermark| watermark > self.max_watermark_ms && watermark < i64::MAX)
    }

    /// Reports if it is time to; returns when it is next.
    pub(crate) fn tend(&mut self, progress: Progress, now: Instant) -> Instant {
        if now >= self.next_report {
            self.next_report = now + self.plan.interval;
            if let Some(watermark) = progress.watermark_ms {
                let report = control::ReportWatermark {
                    execution: Some(self.attempt.clone()),
                    watermark_ms: (!progress.idle && watermark < i64::MAX).then_some(watermark),
                };
                // While nobody takes events the next report will do.
                let _ = self.events.try_send(TaskEvent::Watermark(report));
            }
        }
        self.next_report
    }

    /// How far it is ahead of the group's least watermark, once that is known.
    pub(crate) fn gauge(&self, progress: Progress) -> Option<Gauge> {
        let watermark = progress.watermark_ms.filter(|watermark| *watermark < i64::MAX)?;
        if self.max_watermark_ms == i64::MAX {
            return None;
        }
        let least = self.max_watermark_ms.saturating_sub(self.plan.max_drift_ms);
        Some(("watermarkAlignmentDrift", watermark.saturating_sub(least) as f64))
    }
}
