//! Flink's keys that have no effect here, and the reason why. They are accepted, so that a configuration can move over
//! unchanged, and each gives a note.
//!
//! ```text
//!   Flink's classes --e2e/bench/flink/options/generate--> list.rs (KEYS, MAP_KEYS)   is it a key of Flink's?
//!   FAMILIES (by hand)                                                               why has it no effect?
//! ```
//!
//! Invariants: the slices of `list` are sorted, hold no key of `options` and only keys that a family groups. A key
//! belongs to the family with the longest beginning of it.

mod list;

use list::{KEYS, MAP_KEYS};

/// Keys that share a reason.
pub(super) struct Family {
    pub(super) name: &'static str,
    /// Half a sentence.
    pub(super) reason: &'static str,
    /// How listed keys of it begin.
    groups: &'static [&'static str],
    /// Open-ended families: users make up the rest of such a key.
    pub(super) prefixes: &'static [&'static str],
}

impl Family {
    /// The listed keys of it that none of its open-ended beginnings covers.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'static str> {
        all_keys().filter(|key| {
            !is_open_ended(key) && family_of(key).is_some_and(|found| std::ptr::eq(found, self))
        })
    }
}

/// Why a key has no effect; `None` = not a key of Flink's 2.3.
pub(super) fn reason_without_effect(key: &str) -> Option<&'static str> {
    let known = KEYS.binary_search(&key).is_ok() || is_open_ended(key) || is_entry_of_map(key);
    known
        .then(|| family_of(key))
        .flatten()
        .map(|family| family.reason)
}

/// All keys, without the open-ended ones.
pub(super) fn all_keys() -> impl Iterator<Item = &'static str> {
    KEYS.iter().copied()
}

fn is_open_ended(key: &str) -> bool {
    FAMILIES
        .iter()
        .flat_map(|family| family.prefixes)
        .any(|prefix| key.len() > prefix.len() && key.starts_with(prefix))
}

/// Whether it is `map.anything` for a key that holds a map.
fn is_entry_of_map(key: &str) -> bool {
    key.match_indices('.')
        .any(|(dot, _)| dot + 1 < key.len() && MAP_KEYS.binary_search(&&key[..dot]).is_ok())
}

fn family_of(key: &str) -> Option<&'static Family> {
    FAMILIES
        .iter()
        .flat_map(|family| {
            let beginnings = family.groups.iter().chain(family.prefixes);
            beginnings.map(move |beginning| (beginning, family))
        })
        .filter(|(beginning, _)| key.starts_with(**beginning))
        .max_by_key(|(beginning, _)| beginning.len())
        .map(|(_, family)| family)
}

pub(super) static FAMILIES: &[Family] = &[
    Family {
        name: "JVM",
        reason: "there is no JVM here, and its parts of the memory need no sizes of their own",
        groups: &[
            "cluster.intercept-user-system-exit",
            "cluster.processes.",
            "cluster.thread-dump.",
            "cluster.uncaught-exception-handling",
            "env.",
            "internal.io.tmpdirs.",
            "jmx.",
            "jobmanager.memory.",
            "pipeline.",
            "rest.flamegraph.",
            "rest.profiling.",
            "taskmanager.debug.",
            "taskmanager.jvm-exit-on-oom",
            "taskmanager.log.path",
            "taskmanager.memory.",
            "taskmanager.system-out.",
        ],
        prefixes: &["env.java.", "jvm.", "python."],
    },
    Family {
        name: "Class loading",
        reason: "a package is one program; there are no classes to load",
        groups: &[
            "library-cache-manager.",
            "pipeline.classpaths",
            "pipeline.jars",
            "plugin.classloader.",
            "table.resources.",
            "user.artifacts.",
        ],
        prefixes: &["classloader.", "user.artifacts.http-headers."],
    },
    Family {
        name: "Netty and Pekko",
        reason: "channels are credited in bytes over one connection a pair of processes, calls are gRPC",
        groups: &[
            "collect-sink.",
            "jobmanager.rpc.",
            "jobmanager.task-deployment.",
            "query.",
            "queryable-state.",
            "rest.",
            "shuffle-service-factory.",
            "taskmanager.collect-sink.",
            "taskmanager.data.",
            "taskmanager.net.",
            "taskmanager.network.",
            "taskmanager.rpc.",
            "web.timeout",
        ],
        prefixes: &[
            "taskmanager.network.netty.",
            "taskmanager.network.memory.",
            "pekko.",
            "akka.",
            "blob.",
        ],
    },
    Family {
        name: "Checkpoints and state",
        reason: "checkpoints and state here have no such part",
        groups: &[
            "dstl.",
            "execution.async-state.",
            "execution.checkpointing.",
            "execution.sort",
            "execution.state-recovery.",
            "pipeline.cep.",
            "pipeline.sources.",
            "process.",
            "savepoints.",
            "sink.committer.",
            "state.",
            "taskmanager.state.",
        ],
        prefixes: &[
            "state.backend.rocksdb.",
            "state.backend.forst.",
            "state.changelog.dstl.",
            "compiler.",
        ],
    },
    Family {
        name: "High availability",
        reason: "what JobManagers leave for each other is a log in high-availability.storageDir, which needs no such setting",
        groups: &[
            "application-result-store.",
            "cleanup-strategy",
            "completed-application-store.",
            "high-availability",
            "job-event.",
            "job-result-store.",
            "recovery.",
        ],
        prefixes: &[
            "high-availability.zookeeper.",
            "high-availability.kubernetes.",
            "zookeeper.",
            "cleanup-strategy.",
            "job-event.store.",
        ],
    },
    Family {
        name: "Schedulers",
        reason: "there is one scheduler: it waits for the slots that a job needs and starts it whole",
        groups: &[
            "$internal.",
            "akka.",
            "client.",
            "cluster.",
            "execution.",
            "heartbeat.",
            "internal.",
            "job-manager.",
            "jobmanager.",
            "jobstore.",
            "local.number-taskmanager",
            "minicluster.",
            "pipeline.global-job-parameters",
            "pipeline.jobvertex-",
            "pipeline.watermark-alignment.",
            "resourcemanager.",
            "scheduler-mode",
            "slot.",
            "slotmanager.",
            "slow-task-detector.",
            "task.",
            "taskmanager.",
            "timerservice.",
        ],
        prefixes: &[
            "jobmanager.adaptive-batch-scheduler.",
            "execution.batch.",
            "external-resource",
            "pipeline.global-job-parameters.",
            "containerized.master.env.",
            "containerized.taskmanager.env.",
        ],
    },
    Family {
        name: "Kubernetes, YARN and standalone scripts",
        reason: "the operator makes pods from the resource's own fields",
        groups: &["$internal.deployment.", "$internal.yarn.", "kubernetes."],
        prefixes: &[
            "yarn.",
            "kubernetes.operator.",
            "job.autoscaler.",
            "mesos.",
            "flink.yarn.",
        ],
    },
    Family {
        name: "Metric reporters",
        reason: "metrics are served to Prometheus on metrics.reporter.prom.port with Flink's default names",
        groups: &["events.", "metrics.", "traces."],
        prefixes: &["metrics.reporter.", "traces.reporter", "events.reporter"],
    },
    Family {
        name: "Web and history server",
        reason: "there is no history server, and the web server needs no such setting",
        groups: &["jobmanager.archive.", "jobmanager.web.", "web."],
        prefixes: &["historyserver.", "sql-gateway.", "sql-client."],
    },
    Family {
        name: "Security",
        reason: "TLS and Kerberos between processes do not exist yet",
        groups: &["security."],
        prefixes: &[
            "security.ssl.",
            "security.kerberos.",
            "security.delegation.",
            "security.additional.",
        ],
    },
    Family {
        name: "File systems",
        reason: "object stores are reached with the process's own credentials",
        groups: &[],
        prefixes: &["fs.", "s3.", "s3a.", "gs.", "abfs.", "flink.hadoop.", "hadoop."],
    },
    Family {
        name: "SQL",
        reason: "SQL scripts are not run yet",
        groups: &["__table.", "materialized-table.", "table."],
        prefixes: &[
            "table.catalog-store.",
            "table.exec.ml-predict.",
            "table.exec.async-table.",
            "table.exec.async-vector-search.",
        ],
    },
    Family {
        name: "Older names",
        reason: "an older name: only the present name of this key has an effect",
        groups: &[
            "job-manager.max-attempts-history-size",
            "jobmanager.web.address",
            "jobmanager.web.checkpoints.history",
            "jobmanager.web.port",
            "jobmanager.web.refresh-interval",
            "jobmanager.web.submit.enable",
            "jobmanager.web.upload.dir",
            "savepoints.state.backend.fs.dir",
            "slotmanager.taskmanager-timeout",
            "state.backend.fs.checkpointdir",
            "task.cancellation-interval",
            "taskmanager.maxRegistrationDuration",
            "taskmanager.memory.size",
            "taskmanager.network.memory.fraction",
            "taskmanager.network.memory.max",
            "taskmanager.network.memory.min",
            "taskmanager.tmp.dirs",
            "web.address",
            "web.port",
        ],
        prefixes: &[],
    },
];

#[cfg(test)]
mod tests;
