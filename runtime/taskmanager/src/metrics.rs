//! Metrics in the names and labels of Flink's Prometheus reporter, made from the workers' newest heartbeats at each scrape.
//!
//! Everything is a gauge, as there. Rates ("...PerSecond") come from the difference between two looks a second apart, so they
//! do not depend on how often anybody scrapes.

use std::collections::HashMap;
use std::time::Instant;

use prometheus::{GaugeVec, Opts, Registry, TextEncoder};
use thalweg_proto::control::v1::{OperatorMetrics, TaskMetrics};

use crate::actor::{JobSnapshot, Snapshot};
use crate::memory::{MemoryBudget, resident_bytes};

const TASK_LABELS: [&str; 9] = [
    "host",
    "tm_id",
    "job_id",
    "job_name",
    "task_id",
    "task_name",
    "task_attempt_id",
    "task_attempt_num",
    "subtask_index",
];
const OPERATOR_LABELS: [&str; 11] = [
    "host",
    "tm_id",
    "job_id",
    "job_name",
    "task_id",
    "task_name",
    "task_attempt_id",
    "task_attempt_num",
    "subtask_index",
    "operator_id",
    "operator_name",
];

/// Identifies this TaskManager in its labels.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) host: String,
    pub(crate) id: String,
}

/// One attempt of one subtask, as rates are kept for it.
type TaskKey = (String, String, u32, u32);

/// Counters of two looks a while apart.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    looked_at: Option<Instant>,
    counters: HashMap<TaskKey, [u64; COUNTERS.len()]>,
    per_second: HashMap<TaskKey, [f64; COUNTERS.len()]>,
}

const COUNTERS: [&str; 6] = [
    "numRecordsIn",
    "numRecordsOut",
    "numBytesIn",
    "numBytesOut",
    "numBuffersIn",
    "numBuffersOut",
];

fn counters(task: &TaskMetrics) -> [u64; COUNTERS.len()] {
    [
        task.records_in,
        task.records_out,
        task.bytes_in,
        task.bytes_out,
        task.batches_in,
        task.batches_out,
    ]
}

fn key(task: &TaskMetrics) -> TaskKey {
    let execution = task.execution.clone().unwrap_or_default();
    (
        execution.job_id,
        execution.vertex_id,
        execution.subtask,
        execution.attempt,
    )
}

impl Rates {
    /// Looks at the counters as they are now.
    pub(crate) fn look(&mut self, snapshot: &Snapshot, now: Instant) {
        let elapsed = self
            .looked_at
            .map(|before| now.duration_since(before).as_secs_f64())
            .filter(|s| *s > 0.0);
        let tasks = snapshot.jobs.iter().flat_map(|job| &job.tasks);
        let current: HashMap<_, _> = tasks.map(|task| (key(task), counters(task))).collect();
        self.per_second = current
            .iter()
            .filter_map(|(key, now)| {
                let before = self.counters.get(key)?;
                let elapsed = elapsed?;
                Some((
                    key.clone(),
                    std::array::from_fn(|i| now[i].saturating_sub(before[i]) as f64 / elapsed),
                ))
            })
            .collect();
        self.counters = current;
        self.looked_at = Some(now);
    }
}

/// The text of one scrape.
pub(crate) fn render(
    identity: &Identity,
    memory: MemoryBudget,
    snapshot: &Snapshot,
    rates: &Rates,
) -> Result<String, prometheus::Error> {
    let mut page = Page {
        registry: Registry::new(),
        gauges: HashMap::new(),
    };
    let process = [identity.host.as_str(), &identity.id];
    let mut process_gauge =
        |name: &str, value: f64| page.set("flink_taskmanager_", name, &["host", "tm_id"], &process, value);
    process_gauge("taskSlotsTotal", f64::from(snapshot.slots_total))?;
    process_gauge("taskSlotsAvailable", f64::from(snapshot.slots_free))?;
    process_gauge("Status_Memory_Process_Limit", memory.process as f64)?;
    process_gauge(
        "Status_Memory_Process_Used",
        resident_bytes(std::process::id()).unwrap_or(0) as f64,
    )?;
    process_gauge(
        "Status_JobManager_Connected",
        f64::from(u8::from(snapshot.connected)),
    )?;
    for job in &snapshot.jobs {
        let labels = [identity.host.as_str(), &identity.id, &job.job_id, &job.job_name];
        let names = ["host", "tm_id", "job_id", "job_name"];
        page.set(
            "flink_taskmanager_job_",
            "worker_memory_allocated",
            &names,
            &labels,
            job.allocated_bytes as f64,
        )?;
        page.set(
            "flink_taskmanager_job_",
            "worker_memory_budget",
            &names,
            &labels,
            job.budget_bytes as f64,
        )?;
        for task in &job.tasks {
            page.task(identity, job, task, rates)?;
        }
    }
    TextEncoder::new().encode_to_string(&page.registry.gather())
}

struct Page {
    registry: Registry,
    gauges: HashMap<String, GaugeVec>,
}

impl Page {
    fn set(
        &mut self,
        prefix: &str,
        name: &str,
        label_names: &[&str],
        labels: &[&str],
        value: f64,
    ) -> Result<(), prometheus::Error> {
        let full = format!("{prefix}{}", sanitized(name));
        let gauge = match self.gauges.get(&full) {
            Some(gauge) => gauge,
            None => {
                let gauge = GaugeVec::new(Opts::new(full.as_str(), name), label_names)?;
                self.registry.register(Box::new(gauge.clone()))?;
                self.gauges.entry(full).or_insert(gauge)
            }
        };
        gauge.get_metric_with_label_values(labels)?.set(value);
        Ok(())
    }

    fn task(
        &mut self,
        identity: &Identity,
        job: &JobSnapshot,
        task: &TaskMetrics,
        rates: &Rates,
    ) -> Result<(), prometheus::Error> {
        const PREFIX: &str = "flink_taskmanager_job_task_";
        let execution = task.execution.clone().unwrap_or_default();
        let (attempt, subtask) = (execution.attempt.to_string(), execution.subtask.to_string());
        let attempt_id = format!(
            "{}_{}_{}_{}",
            execution.job_id, execution.vertex_id, execution.subtask, execution.attempt
        );
        let labels = [
            identity.host.as_str(),
            &identity.id,
            &job.job_id,
            &job.job_name,
            &execution.vertex_id,
            &task.task_name,
            &attempt_id,
            &attempt,
            &subtask,
        ];
        for (name, value) in COUNTERS.iter().zip(counters(task)) {
            self.set(PREFIX, name, &TASK_LABELS, &labels, value as f64)?;
        }
        if let Some(per_second) = rates.per_second.get(&key(task)) {
            for (name, value) in COUNTERS.iter().zip(per_second) {
                self.set(PREFIX, &format!("{name}PerSecond"), &TASK_LABELS, &labels, *value)?;
            }
        }
        let shares = [
            ("busyTimeMsPerSecond", task.busy_ms_per_second),
            ("idleTimeMsPerSecond", task.idle_ms_per_second),
            ("backPressuredTimeMsPerSecond", task.backpressured_ms_per_second),
            (
                "isBackPressured",
                f64::from(u8::from(task.backpressured_ms_per_second > 500.0)),
            ),
        ];
        for (name, value) in shares {
            self.set(PREFIX, name, &TASK_LABELS, &labels, value)?;
        }
        task.operators
            .iter()
            .try_for_each(|operator| self.operator(&labels, operator))
    }

    fn operator(&mut self, task: &[&str; 9], operator: &OperatorMetrics) -> Result<(), prometheus::Error> {
        const PREFIX: &str = "flink_taskmanager_job_task_operator_";
        let mut labels = task.to_vec();
        labels.extend([operator.operator_id.as_str(), &operator.operator_name]);
        self.set(
            PREFIX,
            "numRecordsIn",
            &OPERATOR_LABELS,
            &labels,
            operator.records_in as f64,
        )?;
        self.set(
            PREFIX,
            "numRecordsOut",
            &OPERATOR_LABELS,
            &labels,
            operator.records_out as f64,
        )?;
        for (name, value) in &operator.gauges {
            self.set(PREFIX, name, &OPERATOR_LABELS, &labels, *value)?;
        }
        Ok(())
    }
}

/// Flink's reporter writes `_` for what Prometheus does not allow.
fn sanitized(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == ':' {
                c
            } else {
                '_'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use thalweg_proto::control::v1::ExecutionAttempt;

    fn snapshot(records_in: u64) -> Snapshot {
        let execution = ExecutionAttempt {
            job_id: "aa".to_owned(),
            vertex_id: "bb".to_owned(),
            subtask: 1,
            attempt: 2,
        };
        let operator = OperatorMetrics {
            operator_id: "cc".to_owned(),
            operator_name: "Source: lines".to_owned(),
            gauges: [("pendingRecords".to_owned(), 5.0)].into(),
            ..OperatorMetrics::default()
        };
        let task = TaskMetrics {
            execution: Some(execution),
            task_name: "Source: lines".to_owned(),
            records_in,
            operators: vec![operator],
            ..TaskMetrics::default()
        };
        let job = JobSnapshot {
            job_id: "aa".to_owned(),
            job_name: "count".to_owned(),
            tasks: vec![task],
            ..JobSnapshot::default()
        };
        Snapshot {
            jobs: vec![job],
            slots_total: 2,
            slots_free: 1,
            connected: true,
        }
    }

    #[test]
    fn a_scrape_has_flinks_names_and_labels_and_rates_between_two_looks() {
        let start = Instant::now();
        let mut rates = Rates::default();
        rates.look(&snapshot(100), start);
        rates.look(&snapshot(300), start + Duration::from_secs(2));
        let identity = Identity {
            host: "h".to_owned(),
            id: "tm-1".to_owned(),
        };
        let memory = MemoryBudget { process: 1, slot: 1 };
        let text = render(&identity, memory, &snapshot(300), &rates).unwrap();
        let labels = "host=\"h\",job_id=\"aa\",job_name=\"count\",subtask_index=\"1\",task_attempt_id=\"aa_bb_1_2\",\
                      task_attempt_num=\"2\",task_id=\"bb\",task_name=\"Source: lines\",tm_id=\"tm-1\"";
        assert!(
            text.contains(&format!(
                "flink_taskmanager_job_task_numRecordsIn{{{labels}}} 300"
            )),
            "{text}"
        );
        assert!(
            text.contains(&format!(
                "flink_taskmanager_job_task_numRecordsInPerSecond{{{labels}}} 100"
            )),
            "{text}"
        );
        assert!(
            text.contains("flink_taskmanager_job_task_operator_pendingRecords{"),
            "{text}"
        );
        assert!(
            text.contains("flink_taskmanager_taskSlotsAvailable{host=\"h\",tm_id=\"tm-1\"} 1"),
            "{text}"
        );
    }
}
