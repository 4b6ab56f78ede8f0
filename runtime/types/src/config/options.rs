//! Every key that has an effect, with Flink's default (2.3) unless it is ours (`thalweg.`).

use std::time::Duration;

use super::option::{AnyOption, ConfigOption};
use super::table_value::{
    AggregatePhase, NotNullEnforcer, SqlResultMode, TypeLengthEnforcer, UpsertMaterialize,
};
use super::value::{
    CheckpointRetention, CheckpointingMode, ClaimMode, FailoverStrategy, HighAvailabilityKind, MemorySize,
    RestartStrategyKind, RuntimeMode, StateBackend,
};
use crate::key_group::MAX_MAX_PARALLELISM;

macro_rules! options {
    ($(
        section $section:literal {
            $(
                $(#[doc = $doc:literal])+
                $name:ident: $type:ty = $key:literal, $default:expr
                $(, only $accepts:expr, $expected:literal)?
                $(, formerly $older:expr)?;
            )+
        }
    )+) => {
        $($(
            $(#[doc = $doc])+
            pub const $name: ConfigOption<$type> =
                ConfigOption::new($key, $default, concat!($($doc),+))
                $(.narrowed($accepts, $expected))?
                $(.formerly($older))?;
        )+)+

        /// All of them by section, for checks and documentation.
        pub static SECTIONS: &[(&str, &[&dyn AnyOption])] = &[
            $(($section, &[$(&$name),+])),+
        ];
    };
}

fn fraction(value: &f64) -> bool {
    (0.0..1.0).contains(value)
}

fn positive(duration: &Duration) -> bool {
    !duration.is_zero()
}

options! {
    section "Addresses and ports" {
        /// Host at which TaskManagers and clients reach the JobManager. TaskManagers take several, HOST or HOST:PORT, with commas between, or one
        /// name with several addresses, and follow the one that leads.
        RPC_ADDRESS: Option<String> = "jobmanager.rpc.address", None;
        /// Port of the JobManager's gRPC services.
        RPC_PORT: u16 = "jobmanager.rpc.port", Some("6123");
        /// Address that the JobManager's ports are bound to.
        JOBMANAGER_BIND_HOST: Option<String> = "jobmanager.bind-host", None;
        /// Port of the REST API.
        REST_PORT: u16 = "rest.port", Some("8081");
        /// Port that the REST API is bound to; unset = rest.port.
        REST_BIND_PORT: Option<u16> = "rest.bind-port", None;
        /// Host at which clients reach the REST API; unset = jobmanager.rpc.address.
        REST_ADDRESS: Option<String> = "rest.address", None;
        /// Address that the REST API is bound to.
        REST_BIND_ADDRESS: Option<String> = "rest.bind-address", None;
        /// Largest body of a REST request, package uploads included, in bytes.
        REST_MAX_CONTENT_LENGTH: u64 = "rest.server.max-content-length", Some("104857600");
        /// Host at which other TaskManagers reach this one.
        TASKMANAGER_HOST: Option<String> = "taskmanager.host", None;
        /// Address that a TaskManager's ports are bound to.
        TASKMANAGER_BIND_HOST: Option<String> = "taskmanager.bind-host", None;
        /// Port at which Prometheus scrapes a process; 0 = any free one.
        METRICS_PORT: u16 = "metrics.reporter.prom.port", Some("9249");
    }
    section "Resources" {
        /// Slots of a TaskManager.
        TASK_SLOTS: u32 = "taskmanager.numberOfTaskSlots", Some("1"), only |slots| (1..=1024).contains(slots), "a whole number from 1 to 1024";
        /// All the memory that a TaskManager and its workers may use; unset = what the container or the machine has.
        TM_PROCESS_MEMORY: Option<MemorySize> = "taskmanager.memory.process.size", None;
        /// As taskmanager.memory.process.size, where only this one is set.
        TM_FLINK_MEMORY: Option<MemorySize> = "taskmanager.memory.flink.size", None;
        /// All the memory that the JobManager may use; unset = what the container or the machine has.
        JM_PROCESS_MEMORY: Option<MemorySize> = "jobmanager.memory.process.size", None;
        /// Share of a TaskManager's memory for operators' state and buffers, divided equally between its slots.
        MANAGED_MEMORY_FRACTION: f64 = "taskmanager.memory.managed.fraction", Some("0.4"), only fraction, "a number from 0 up to, but not, 1";
        /// Managed memory of a TaskManager, over the fraction.
        MANAGED_MEMORY_SIZE: Option<MemorySize> = "taskmanager.memory.managed.size", None;
        /// Share of a TaskManager's memory for the exchange between tasks.
        NETWORK_MEMORY_FRACTION: f64 = "taskmanager.memory.network.fraction", Some("0.1"), only fraction, "a number from 0 up to, but not, 1";
        /// The least memory for the exchange.
        NETWORK_MEMORY_MIN: MemorySize = "taskmanager.memory.network.min", Some("64mb");
        /// The most memory for the exchange; unset = no limit but the fraction.
        NETWORK_MEMORY_MAX: Option<MemorySize> = "taskmanager.memory.network.max", None;
        /// Folders for temporary files, separated by commas; the first one is used.
        TMP_DIRS: Option<String> = "io.tmp.dirs", None;
        /// Folder for what a TaskManager that starts again under the same id finds again; unset = a temporary one.
        TM_WORKING_DIR: Option<String> = "process.taskmanager.working-dir", None, formerly &["process.working-dir"];
    }
    section "Jobs and scheduling" {
        /// Parallelism of operators that set none.
        PARALLELISM_DEFAULT: u32 = "parallelism.default", Some("1"), only |value| (1..=MAX_MAX_PARALLELISM).contains(value), "a whole number from 1 to 32768";
        /// Number of key groups of operators that set none; -1 = from the parallelism.
        MAX_PARALLELISM: i32 = "pipeline.max-parallelism", Some("-1"), only |value| *value == -1 || (1..=MAX_MAX_PARALLELISM as i32).contains(value), "-1 or a whole number from 1 to 32768";
        /// Name of the job, over what its program says.
        PIPELINE_NAME: Option<String> = "pipeline.name", None;
        /// Whether operators are chained into one task where that is possible.
        OPERATOR_CHAINING_ENABLED: bool = "pipeline.operator-chaining.enabled", Some("true"), formerly &["pipeline.operator-chaining"];
        /// Whether operators of different max parallelism may be chained.
        CHAIN_DIFFERENT_MAX_PARALLELISM: bool = "pipeline.operator-chaining.chain-operators-with-different-max-parallelism", Some("true");
        /// How often sources emit a watermark; 0 = never.
        AUTO_WATERMARK_INTERVAL: Duration = "pipeline.auto-watermark-interval", Some("200 ms");
        /// With watermark alignment: whether a source that reads several splits at once and can't pause them one by one may wait as a whole.
        ALLOW_UNALIGNED_SOURCE_SPLITS: bool = "pipeline.watermark-alignment.allow-unaligned-source-splits", Some("false");
        /// STREAMING, or BATCH for bounded inputs.
        RUNTIME_MODE: RuntimeMode = "execution.runtime-mode", Some("STREAMING");
        /// Whether a row waits at all to be sent together with others.
        BUFFER_TIMEOUT_ENABLED: bool = "execution.buffer-timeout.enabled", Some("true");
        /// How long a row waits at most to be sent together with others; 0 = not at all.
        BUFFER_TIMEOUT: Duration = "execution.buffer-timeout.interval", Some("100 ms"), formerly &["execution.buffer-timeout"];
        /// How long a job waits for the slots it needs before that counts as a failure.
        SLOT_REQUEST_TIMEOUT: Duration = "slot.request.timeout", Some("5 min"), only positive, "a duration above 0";
        /// How long an idle TaskManager is kept.
        RM_TASKMANAGER_TIMEOUT: Duration = "resourcemanager.taskmanager-timeout", Some("30 s");
        /// How long a TaskManager tries to register before it ends.
        TM_REGISTRATION_TIMEOUT: Duration = "taskmanager.registration.timeout", Some("5 min"), only positive, "a duration above 0";
    }
    section "Fault tolerance" {
        /// How often JobManager and TaskManager send a sign of life.
        HEARTBEAT_INTERVAL: Duration = "heartbeat.interval", Some("10 s"), only positive, "a duration above 0";
        /// After how long without a sign of life the other one counts as lost.
        HEARTBEAT_TIMEOUT: Duration = "heartbeat.timeout", Some("50 s"), only positive, "a duration above 0";
        /// How long workers go on without a JobManager; unset = heartbeat.timeout, and with high availability 5 min.
        JOB_MANAGER_TIMEOUT: Option<Duration> = "thalweg.taskmanager.jobmanager-timeout", None;
        /// How long a new leader waits for TaskManagers to report a job's tasks before it restarts what is missing.
        RECONCILIATION_TIMEOUT: Duration = "thalweg.jobmanager.reconciliation-timeout", Some("10 s"), only positive, "a duration above 0";
        /// What restarts with a failed task: its region or the whole job.
        FAILOVER_STRATEGY: FailoverStrategy = "jobmanager.execution.failover-strategy", Some("region");
        /// none, fixed-delay, failure-rate or exponential-delay; unset = exponential-delay with checkpoints, none without.
        RESTART_STRATEGY: Option<RestartStrategyKind> = "restart-strategy.type", None, formerly &["restart-strategy"];
        /// fixed-delay: how many restarts before the job fails.
        RESTART_STRATEGY_FIXED_DELAY_ATTEMPTS: u32 = "restart-strategy.fixed-delay.attempts", Some("1");
        /// fixed-delay: how long before a restart.
        RESTART_STRATEGY_FIXED_DELAY_DELAY: Duration = "restart-strategy.fixed-delay.delay", Some("1 s");
        /// failure-rate: how many failures within the interval before the job fails.
        RESTART_STRATEGY_FAILURE_RATE_MAX_FAILURES: u32 = "restart-strategy.failure-rate.max-failures-per-interval", Some("1");
        /// failure-rate: the interval.
        RESTART_STRATEGY_FAILURE_RATE_INTERVAL: Duration = "restart-strategy.failure-rate.failure-rate-interval", Some("1 min");
        /// failure-rate: how long before a restart.
        RESTART_STRATEGY_FAILURE_RATE_DELAY: Duration = "restart-strategy.failure-rate.delay", Some("1 s");
        /// exponential-delay: how long before the first restart.
        RESTART_STRATEGY_EXPONENTIAL_INITIAL_BACKOFF: Duration = "restart-strategy.exponential-delay.initial-backoff", Some("1 s"), only positive, "a duration above 0";
        /// exponential-delay: the longest wait before a restart.
        RESTART_STRATEGY_EXPONENTIAL_MAX_BACKOFF: Duration = "restart-strategy.exponential-delay.max-backoff", Some("1 min"), only positive, "a duration above 0";
        /// exponential-delay: by how much the wait grows with each restart.
        RESTART_STRATEGY_EXPONENTIAL_MULTIPLIER: f64 = "restart-strategy.exponential-delay.backoff-multiplier", Some("1.5"), only |value| *value >= 1.0, "a number from 1.0";
        /// exponential-delay: after how long without a failure the wait is the first one again.
        RESTART_STRATEGY_EXPONENTIAL_RESET_THRESHOLD: Duration = "restart-strategy.exponential-delay.reset-backoff-threshold", Some("1 h");
        /// exponential-delay: by what share of it the wait varies at random, up and down.
        RESTART_STRATEGY_EXPONENTIAL_JITTER: f64 = "restart-strategy.exponential-delay.jitter-factor", Some("0.1"), only |value| (0.0..=1.0).contains(value), "a number from 0 to 1";
        /// exponential-delay: how many restarts in a row before the job fails; unset = no limit.
        RESTART_STRATEGY_EXPONENTIAL_ATTEMPTS: Option<u32> = "restart-strategy.exponential-delay.attempts-before-reset-backoff", None;
        /// How long between two attempts to interrupt a task that is being canceled.
        TASK_CANCELLATION_INTERVAL: Duration = "task.cancellation.interval", Some("30 s"), only positive, "a duration above 0";
        /// After how long a task that does not end though it was canceled costs its worker process; 0 = never.
        TASK_CANCELLATION_TIMEOUT: Duration = "task.cancellation.timeout", Some("3 min");
    }
    section "High availability" {
        /// NONE: one JobManager, whose jobs end with it. kubernetes, storage: jobs outlive it, a standby takes over (docs/high-availability.md).
        HA_TYPE: HighAvailabilityKind = "high-availability.type", Some("NONE"), formerly &["high-availability"];
        /// Folder for what JobManagers leave for each other, as in s3://bucket/high-availability.
        HA_STORAGE_DIR: Option<String> = "high-availability.storageDir", None;
        /// The cluster's name in that folder: one a cluster. /default, as Flink has it, is the same as default.
        HA_CLUSTER_ID: String = "high-availability.cluster-id", Some("/default");
        /// high-availability.type storage: after how long without an answer of the leader a standby takes over.
        HA_LEADER_TIMEOUT: Duration = "thalweg.high-availability.leader-timeout", Some("3 s"), only positive, "a duration above 0";
        /// For how long a leader tries to write to its log before it gives up leadership.
        HA_LOG_TIMEOUT: Duration = "thalweg.high-availability.log-timeout", Some("2 min"), only positive, "a duration above 0";
    }
    section "Checkpoints and savepoints" {
        /// Where keyed state lives: hashmap = in memory; over its part of the memory the job fails with a message. rocksdb, forst = what memory
        /// has no room for is on the local disk, in a store of Thalweg's own: keys that tune RocksDB have no effect.
        STATE_BACKEND: StateBackend = "state.backend.type", Some("hashmap"), formerly &["state.backend"];
        /// With rocksdb or forst: folder of a TaskManager for state that memory has no room for; unset = in io.tmp.dirs. Of several, separated by
        /// commas, the first one is used.
        STATE_LOCAL_DIR: Option<String> = "state.backend.rocksdb.localdir", None, formerly &["state.backend.forst.local-dir"];
        /// How often checkpoints are taken; unset = never. Needs execution.checkpointing.dir.
        CHECKPOINTING_INTERVAL: Option<Duration> = "execution.checkpointing.interval", None, only |value| value.is_none_or(|value| value >= Duration::from_millis(10)), "a duration from \"10 ms\"";
        /// Folder of the jobs' checkpoints, as a URI: each job has a folder with its id in it.
        CHECKPOINTING_DIR: Option<String> = "execution.checkpointing.dir", None, formerly &["state.checkpoints.dir"];
        /// Folder of savepoints whose request names none.
        CHECKPOINTING_SAVEPOINT_DIR: Option<String> = "execution.checkpointing.savepoint-dir", None, formerly &["state.savepoints.dir"];
        /// EXACTLY_ONCE, or AT_LEAST_ONCE for tasks that never wait for a barrier.
        CHECKPOINTING_MODE: CheckpointingMode = "execution.checkpointing.mode", Some("EXACTLY_ONCE");
        /// After how long a checkpoint that is not complete is given up. Savepoints too.
        CHECKPOINTING_TIMEOUT: Duration = "execution.checkpointing.timeout", Some("10 min"), only |value| *value >= Duration::from_millis(10), "a duration from \"10 ms\"";
        /// The least time between the end of a checkpoint and the begin of the next one.
        CHECKPOINTING_MIN_PAUSE: Duration = "execution.checkpointing.min-pause", Some("0 ms");
        /// How many checkpoints may be under way at a time; with a pause between them it is 1.
        CHECKPOINTING_MAX_CONCURRENT: u32 = "execution.checkpointing.max-concurrent-checkpoints", Some("1"), only |value| (1..=64).contains(value), "a whole number from 1 to 64";
        /// How many checkpoints in a row may fail before that is a failure of the job.
        CHECKPOINTING_TOLERABLE_FAILURES: u32 = "execution.checkpointing.tolerable-failed-checkpoints", Some("0");
        /// How many completed checkpoints are kept.
        CHECKPOINTING_NUM_RETAINED: u32 = "execution.checkpointing.num-retained", Some("1"), only |value| (1..=1024).contains(value), "a whole number from 1 to 1024", formerly &["state.checkpoints.num-retained"];
        /// Whether a job's newest checkpoints stay when it is canceled (RETAIN_ON_CANCELLATION) or fails (DELETE_ON_CANCELLATION too).
        CHECKPOINTING_RETENTION: CheckpointRetention = "execution.checkpointing.externalized-checkpoint-retention", Some("NO_EXTERNALIZED_CHECKPOINTS");
        /// Whether checkpoints go on when some tasks have finished.
        CHECKPOINTING_AFTER_TASKS_FINISH: bool = "execution.checkpointing.checkpoints-after-tasks-finish", Some("true"), formerly &["execution.checkpointing.checkpoints-after-tasks-finish.enabled"];
        /// Whether barriers overtake rows under way, which are then part of the checkpoint. With EXACTLY_ONCE only.
        CHECKPOINTING_UNALIGNED: bool = "execution.checkpointing.unaligned.enabled", Some("false"), formerly &["execution.checkpointing.unaligned"];
        /// With unaligned checkpoints: how long a barrier waits for the others before it overtakes; 0 = not at all.
        CHECKPOINTING_ALIGNED_TIMEOUT: Duration = "execution.checkpointing.aligned-checkpoint-timeout", Some("0 ms"), formerly &["execution.checkpointing.alignment-timeout"];
        /// Whether a checkpoint writes only what changed and refers to files of earlier ones for the rest. Flink's default is false.
        CHECKPOINTING_INCREMENTAL: bool = "execution.checkpointing.incremental", Some("true"), formerly &["state.backend.incremental"];
        /// State files up to this size are stored inside _metadata.
        CHECKPOINTING_INLINE_THRESHOLD: MemorySize = "execution.checkpointing.data-inline-threshold", Some("20kb"), only |size: &MemorySize| size.0 <= 1 << 20, "a memory size up to \"1mb\"", formerly &["state.storage.fs.memory-threshold", "state.backend.fs.memory-threshold"];
        /// Whether small files of a checkpoint (up to 8 MB, of all tasks of a worker process) are written together as larger ones.
        FILE_MERGING_ENABLED: bool = "execution.checkpointing.file-merging.enabled", Some("false");
        /// With file merging: the largest file that small ones are merged into.
        FILE_MERGING_MAX_FILE_SIZE: MemorySize = "execution.checkpointing.file-merging.max-file-size", Some("32mb"), only |size: &MemorySize| (64 << 10..=1 << 30).contains(&size.0), "a memory size from \"64kb\" to \"1gb\"";
        /// With file merging: whether files of several checkpoints are merged. They are not: a checkpoint's files are complete before it is.
        FILE_MERGING_ACROSS_CHECKPOINTS: bool = "execution.checkpointing.file-merging.across-checkpoint-boundary", Some("false"), only |value| !value, "\"false\": files of object stores can't be appended to, so files merge within a checkpoint only";
        /// With file merging: state is written anew when a file is this many times as large as what is still used of it; below 1 = never.
        FILE_MERGING_MAX_SPACE_AMPLIFICATION: f64 = "execution.checkpointing.file-merging.max-space-amplification", Some("2.0");
        /// Whether copies of checkpoints' files are kept on the TaskManagers' disks; unset = as execution.state-recovery.from-local.
        LOCAL_BACKUP_ENABLED: Option<bool> = "execution.checkpointing.local-backup.enabled", None;
        /// Folders for those copies, separated by commas; unset = one in the TaskManager's working folder.
        LOCAL_BACKUP_DIRS: Option<String> = "execution.checkpointing.local-backup.dirs", None, formerly &["taskmanager.state.local.root-dirs"];
    }
    section "REST and web" {
        /// Whether packages may be uploaded and run over REST.
        WEB_SUBMIT_ENABLE: bool = "web.submit.enable", Some("true");
        /// Whether jobs may be canceled over REST.
        WEB_CANCEL_ENABLE: bool = "web.cancel.enable", Some("true");
        /// Folder for uploaded packages; unset = one in io.tmp.dirs.
        WEB_UPLOAD_DIR: Option<String> = "web.upload.dir", None;
        /// How often the web UI asks again.
        WEB_REFRESH_INTERVAL: Duration = "web.refresh-interval", Some("3 s");
        /// How many failures of a job are kept and shown.
        WEB_EXCEPTION_HISTORY_SIZE: u32 = "web.exception-history-size", Some("16"), only |value| (1..=1024).contains(value), "a whole number from 1 to 1024";
        /// How many checkpoints of a job are kept and shown.
        WEB_CHECKPOINTS_HISTORY: u32 = "web.checkpoints.history", Some("10"), only |value| (1..=1024).contains(value), "a whole number from 1 to 1024";
        /// How many earlier attempts of a subtask are kept and shown.
        ATTEMPTS_HISTORY_SIZE: u32 = "jobmanager.execution.attempts-history-size", Some("16"), only |value| (1..=1024).contains(value), "a whole number from 1 to 1024";
    }
    section "Object stores" {
        /// Address of an S3 server; unset = Amazon's.
        S3_ENDPOINT: Option<String> = "s3.endpoint", None;
        /// Its region.
        S3_REGION: Option<String> = "s3.region", None, formerly &["s3.endpoint.region"];
        /// Access key; unset = AWS_ACCESS_KEY_ID of the environment, else what the machine offers.
        S3_ACCESS_KEY: Option<String> = "s3.access-key", None, formerly &["s3.access.key"];
        /// Its secret.
        S3_SECRET_KEY: Option<String> = "s3.secret-key", None, formerly &["s3.secret.key"];
        /// Token of a session.
        S3_SESSION_TOKEN: Option<String> = "s3.session-token", None, formerly &["s3.session.token"];
        /// Whether the bucket is in the path and not in the host's name; always so with s3.endpoint.
        S3_PATH_STYLE_ACCESS: bool = "s3.path.style.access", Some("false"), formerly &["s3.path-style-access"];
    }
    section "Starting from state" {
        /// Savepoint or retained checkpoint that a job starts from: its folder or its _metadata.
        STATE_RECOVERY_PATH: Option<String> = "execution.state-recovery.path", None, formerly &["execution.savepoint.path"];
        /// Whether state of operators that the job no longer has is left behind instead of being an error.
        STATE_RECOVERY_IGNORE_UNCLAIMED: bool = "execution.state-recovery.ignore-unclaimed-state", Some("false"), formerly &["execution.savepoint.ignore-unclaimed-state"];
        /// Whether a restarted task reads the copies of state files on its TaskManager's disk, where they are good, and not the checkpoint folder.
        RECOVER_FROM_LOCAL: bool = "execution.state-recovery.from-local", Some("false"), formerly &["state.backend.local-recovery"];
        /// NO_CLAIM: the snapshot stays its owner's, and the first checkpoint is a full one. CLAIM: the job deletes it when it needs it no more.
        STATE_RECOVERY_CLAIM_MODE: ClaimMode = "execution.state-recovery.claim-mode", Some("NO_CLAIM"), formerly &["execution.savepoint-restore-mode"];
    }
    section "SQL" {
        /// The session's time zone, for TIMESTAMP_LTZ: an IANA name as Europe/Berlin, an offset as GMT+02:00, or default = that of the machine.
        TABLE_LOCAL_TIME_ZONE: String = "table.local-time-zone", Some("default");
        /// Whether an edited script may go on from state that has other columns: rows from before have NULL, 0 or an empty value in new ones. Else the restore is refused
        /// and says which operator's column it is.
        TABLE_STATE_CHANGED_COLUMNS: bool = "thalweg.table.state.changed-columns", Some("false");
        /// How long state is kept that is not used; 0 = for ever.
        TABLE_STATE_TTL: Duration = "table.exec.state.ttl", Some("0 ms");
        /// Whether updates are folded before they are emitted. Unset: those of one batch are, at no cost in delay; true: those of mini-batch.allow-latency, too; false: each row
        /// gives its own changes.
        TABLE_MINI_BATCH_ENABLED: Option<bool> = "table.exec.mini-batch.enabled", None;
        /// How long a mini-batch may wait for rows.
        TABLE_MINI_BATCH_ALLOW_LATENCY: Duration = "table.exec.mini-batch.allow-latency", Some("0 ms");
        /// How many rows a mini-batch may have; -1 with mini-batch.enabled=false only.
        TABLE_MINI_BATCH_SIZE: i64 = "table.exec.mini-batch.size", Some("-1");
        /// After which time without rows a source is left out of the watermark; 0 = never.
        TABLE_SOURCE_IDLE_TIMEOUT: Duration = "table.exec.source.idle-timeout", Some("0 ms");
        /// Whether a source of changes may give the same change twice; then rows are told apart by the primary key.
        TABLE_SOURCE_CDC_EVENTS_DUPLICATE: bool = "table.exec.source.cdc-events-duplicate", Some("false");
        /// Parallelism of all SQL operators; -1 = parallelism.default.
        TABLE_DEFAULT_PARALLELISM: i32 = "table.exec.resource.default-parallelism", Some("-1"), only |value| *value == -1 || *value > 0, "-1 or a whole number above 0";
        /// What puts updates of a sink's key in order where they may have overtaken one another.
        TABLE_SINK_UPSERT_MATERIALIZE: UpsertMaterialize = "table.exec.sink.upsert-materialize", Some("AUTO");
        /// Whether an INSERT must say ON CONFLICT if its query's rows are told apart by another key than the sink's.
        TABLE_SINK_REQUIRE_ON_CONFLICT: bool = "table.exec.sink.require-on-conflict", Some("true");
        /// What becomes of a row with a null in a column of a sink that is NOT NULL.
        TABLE_SINK_NOT_NULL_ENFORCER: NotNullEnforcer = "table.exec.sink.not-null-enforcer", Some("ERROR");
        /// What becomes of a value that is longer or shorter than a sink's CHAR(n), VARCHAR(n), BINARY(n) or VARBINARY(n).
        TABLE_SINK_TYPE_LENGTH_ENFORCER: TypeLengthEnforcer = "table.exec.sink.type-length-enforcer", Some("IGNORE");
        /// Whether rows are aggregated before they are sent to where their group is; only with mini-batches.
        TABLE_AGG_PHASE_STRATEGY: AggregatePhase = "table.optimizer.agg-phase-strategy", Some("AUTO");
        /// Whether DISTINCT aggregates are computed in two steps, the first by buckets of values: for few groups with many values.
        TABLE_DISTINCT_AGG_SPLIT_ENABLED: bool = "table.optimizer.distinct-agg.split.enabled", Some("false");
        /// How many buckets.
        TABLE_DISTINCT_AGG_SPLIT_BUCKETS: u32 = "table.optimizer.distinct-agg.split.bucket-num", Some("1024"), only |value| *value > 0, "a whole number above 0";
        /// Whether OPTIONS hints are allowed.
        TABLE_DYNAMIC_OPTIONS_ENABLED: bool = "table.dynamic-table-options.enabled", Some("true");
        /// Whether a script goes on only when an INSERT's job has ended.
        TABLE_DML_SYNC: bool = "table.dml-sync", Some("false");
        /// How SELECT's rows are shown.
        SQL_RESULT_MODE: SqlResultMode = "sql-client.execution.result-mode", Some("TABLEAU");
        /// How many different rows the result mode TABLE keeps.
        SQL_MAX_TABLE_RESULT_ROWS: u64 = "sql-client.execution.max-table-result.rows", Some("1000000");
        /// How wide a column of a shown result is whose type has no length.
        TABLE_DISPLAY_MAX_COLUMN_WIDTH: u32 = "table.display.max-column-width", Some("30");
    }
    section "Thalweg's own" {
        /// How long a package's program may take to build its graph.
        EXTRACTION_TIMEOUT: Duration = "thalweg.extraction.timeout", Some("60 s"), only positive, "a duration above 0";
        /// How much memory a package's program may take while it builds its graph, in the JobManager's container.
        EXTRACTION_MEMORY: MemorySize = "thalweg.extraction.memory", Some("128mb");
        /// How long a worker process may take to be ready.
        WORKER_START_TIMEOUT: Duration = "thalweg.worker.start-timeout", Some("60 s"), only positive, "a duration above 0";
        /// Largest job package that is accepted.
        PACKAGE_MAX_SIZE: MemorySize = "thalweg.package.max-size", Some("1gb");
        /// How much a TaskManager's cache of packages may hold.
        PACKAGE_CACHE_SIZE: MemorySize = "thalweg.package.cache-size", Some("4gb");
        /// How much of a TaskManager's disk copies of checkpoints' files may take, divided between its slots; on Kubernetes below the pod's limit of ephemeral storage.
        LOCAL_BACKUP_MAX_SIZE: MemorySize = "thalweg.local-backup.max-size", Some("10gb");
        /// How long a job's result is kept in the JobManager after its end.
        JOB_STORE_EXPIRATION: Duration = "jobstore.expiration-time", Some("1 h");
        /// How many ended jobs a JobManager keeps.
        JOB_STORE_MAX_CAPACITY: u32 = "jobstore.max-capacity", Some("1024");
    }
}
