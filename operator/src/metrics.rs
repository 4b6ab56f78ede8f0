//! The operator's own Prometheus metrics: what varies is a label, never a part of a name.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// One resource, for the gauge of resources by state.
#[derive(Debug, Clone)]
pub(crate) struct ResourceState {
    pub(crate) kind: &'static str,
    pub(crate) namespace: String,
    pub(crate) lifecycle_state: &'static str,
}

type Source = Box<dyn Fn() -> Vec<ResourceState> + Send + Sync>;

/// All of them.
pub(crate) struct Metrics {
    registry: Registry,
    reconciliations: IntCounterVec,
    errors: IntCounterVec,
    duration: HistogramVec,
    resources: IntGaugeVec,
    leader: IntGauge,
    streams: IntGauge,
    leader_changes: IntCounterVec,
    sources: Mutex<Vec<Source>>,
}

impl Metrics {
    pub(crate) fn new() -> prometheus::Result<Self> {
        let registry = Registry::new_custom(Some("thalweg_operator".into()), None)?;
        let reconciliations = IntCounterVec::new(
            Opts::new("reconciliations_total", "Reconciliations that ended."),
            &["kind"],
        )?;
        let errors = IntCounterVec::new(
            Opts::new(
                "reconcile_errors_total",
                "Reconciliations that failed, by the step that failed.",
            ),
            &["kind", "step"],
        )?;
        let buckets = vec![0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];
        let duration = HistogramVec::new(
            HistogramOpts::new("reconcile_duration_seconds", "Duration of reconciliations.").buckets(buckets),
            &["kind"],
        )?;
        let resources = IntGaugeVec::new(
            Opts::new("resources", "Resources by lifecycle state."),
            &["kind", "resource_namespace", "lifecycle_state"],
        )?;
        let leader = IntGauge::new("leader", "1 while this replica leads.")?;
        let streams = IntGauge::new("status_streams", "Open status streams to JobManagers.")?;
        let leader_changes = IntCounterVec::new(
            Opts::new(
                "job_manager_leader_changes_total",
                "How often another JobManager came to lead a cluster.",
            ),
            &["kind"],
        )?;
        registry.register(Box::new(leader_changes.clone()))?;
        registry.register(Box::new(reconciliations.clone()))?;
        registry.register(Box::new(errors.clone()))?;
        registry.register(Box::new(duration.clone()))?;
        registry.register(Box::new(resources.clone()))?;
        registry.register(Box::new(leader.clone()))?;
        registry.register(Box::new(streams.clone()))?;
        let sources = Mutex::default();
        Ok(Self {
            registry,
            reconciliations,
            errors,
            duration,
            resources,
            leader,
            streams,
            leader_changes,
            sources,
        })
    }

    pub(crate) fn reconciled(&self, kind: &str, duration: Duration, failed_step: Option<&str>) {
        self.reconciliations.with_label_values(&[kind]).inc();
        self.duration
            .with_label_values(&[kind])
            .observe(duration.as_secs_f64());
        if let Some(step) = failed_step {
            self.errors.with_label_values(&[kind, step]).inc();
        }
    }

    pub(crate) fn leading(&self, leading: bool) {
        self.leader.set(i64::from(leading));
    }

    pub(crate) fn streams(&self, open: usize) {
        self.streams.set(i64::try_from(open).unwrap_or(i64::MAX));
    }

    pub(crate) fn leader_changed(&self, kind: &str) {
        self.leader_changes.with_label_values(&[kind]).inc();
    }

    /// Adds a list of resources, read at each scrape.
    pub(crate) fn add_source(&self, source: impl Fn() -> Vec<ResourceState> + Send + Sync + 'static) {
        self.sources
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Box::new(source));
    }

    /// Prometheus' text format.
    pub(crate) fn text(&self) -> prometheus::Result<String> {
        self.resources.reset();
        for source in self.sources.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            for one in source() {
                let labels = [one.kind, one.namespace.as_str(), one.lifecycle_state];
                self.resources.with_label_values(&labels).inc();
            }
        }
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_varies_is_a_label() {
        let metrics = Metrics::new().unwrap();
        metrics.reconciled("FlinkApplication", Duration::from_millis(3), Some("apply"));
        metrics.add_source(|| {
            let state = |lifecycle_state| ResourceState {
                kind: "FlinkApplication",
                namespace: "default".into(),
                lifecycle_state,
            };
            vec![state("STABLE"), state("STABLE"), state("FAILED")]
        });
        for _ in 0..2 {
            let text = metrics.text().unwrap();
            for line in [
                "thalweg_operator_reconciliations_total{kind=\"FlinkApplication\"} 1",
                "thalweg_operator_reconcile_errors_total{kind=\"FlinkApplication\",step=\"apply\"} 1",
                "thalweg_operator_reconcile_duration_seconds_count{kind=\"FlinkApplication\"} 1",
                "thalweg_operator_resources{kind=\"FlinkApplication\",lifecycle_state=\"STABLE\",resource_namespace=\"default\"} 2",
                "thalweg_operator_leader 0",
            ] {
                assert!(text.contains(line), "{line} is not in\n{text}");
            }
        }
    }
}
