//! From a resource to a validated [`Cluster`]: everything that the CRD's schema can't say.
//!
//! ```text
//!   ClusterFields --flatten--> configuration --+
//!   pod templates --parse, merge--> templates --+--> Cluster | every problem found, each with its path
//!   package, sizes, ingress, upgrade mode ------+
//! ```
//! Every message names the field, what is wrong and what to do.

mod high_availability;
mod ingress;
mod pod_template;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use k8s_openapi::DeepMerge;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::Value;
use thalweg_crds::configuration::flatten;
use thalweg_crds::memory::parse_bytes;
use thalweg_crds::{
    ClusterFields, ClusterStatus, JobSpec, NAME_MAX_LENGTH, PARALLELISM_MAX, Package, ProcessSpec,
    REPLICAS_MAX, SQL_MAX_LENGTH, UpgradeMode,
};

use crate::cluster::{Cluster, ClusterKind, Job, Process};
use crate::policy::{self, CHECKPOINT_DIR, Policy, RequiredKey, SAVEPOINT_DIR};

/// A JobManager below this has no room for a package's extraction.
const JOB_MANAGER_MEMORY_MIN: u64 = 64 << 20;
const JOB_MANAGER_MEMORY_DEFAULT: u64 = 512 << 20;
/// A TaskManager below this has no room for one worker process beside its own buffers.
const TASK_MANAGER_MEMORY_MIN: u64 = 128 << 20;
const TASK_MANAGER_MEMORY_DEFAULT: u64 = 1 << 30;
const SLOTS_MAX: u32 = 1024;

/// Keys that follow from the resource; a value of the user's would contradict it.
const OPERATOR_KEYS: [(&str, &str); 13] = [
    (
        "jobmanager.rpc.address",
        "the operator sets it to the JobManager's Service",
    ),
    ("jobmanager.rpc.port", "the port is 6123"),
    ("rest.port", "the port is 8081"),
    ("rest.bind-port", "the port is 8081"),
    ("taskmanager.host", "each TaskManager takes its pod's address"),
    ("taskmanager.resource-id", "each TaskManager takes its pod's name"),
    ("kubernetes.cluster-id", "it is the resource's name"),
    ("kubernetes.namespace", "it is the resource's namespace"),
    (
        "high-availability.cluster-id",
        "it follows from the resource's namespace, name and uid",
    ),
    ("execution.state-recovery.path", RECOVERY_KEYS),
    ("execution.savepoint.path", RECOVERY_KEYS),
    (
        "execution.state-recovery.ignore-unclaimed-state",
        "spec.job.allowNonRestoredState says it",
    ),
    ("execution.state-recovery.claim-mode", RECOVERY_KEYS),
];

const RECOVERY_KEYS: &str = "what a start restores from is spec.job.initialSavepointPath, and later follows from \
     spec.job.upgradeMode";

/// What an upgrade mode can't work without.
const LAST_STATE_KEYS: [RequiredKey; 2] = [
    (
        "execution.checkpointing.interval",
        "execution.checkpointing.interval",
        "30 s",
    ),
    CHECKPOINT_DIR,
];
const SAVEPOINT_KEYS: [RequiredKey; 1] = [SAVEPOINT_DIR];

/// One thing wrong with a resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub(crate) struct Problem {
    pub(crate) path: String,
    pub(crate) message: String,
}

/// A resource that can't become a cluster until its user changes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", list(problems))]
pub(crate) struct Invalid {
    pub(crate) problems: Vec<Problem>,
}

fn list(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// Collects problems, so that a user sees all of them at once.
#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem {
            path: path.into(),
            message: message.into(),
        });
    }
}

/// A resource as the reconciler found it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) kind: ClusterKind,
    pub(crate) metadata: &'a ObjectMeta,
    pub(crate) owner: &'a OwnerReference,
    pub(crate) fields: &'a ClusterFields,
    pub(crate) job: Option<&'a JobSpec>,
    pub(crate) status: Option<&'a ClusterStatus>,
    /// The operator's image for resources that name none.
    pub(crate) default_image: Option<&'a str>,
}

/// Checks a resource and resolves its defaults.
pub(crate) fn validate(request: &Request<'_>) -> Result<Cluster, Invalid> {
    let mut problems = Problems::default();
    let Request { metadata, fields, .. } = *request;
    let name = metadata.name.clone().unwrap_or_default();
    check_name(&name, &mut problems);
    let configuration = configuration(fields.flink_configuration.as_ref(), &mut problems);
    let (image, image_pinned) = image(request, &mut problems);
    let base = pod_template::parse("spec.podTemplate", fields.pod_template.as_ref(), &mut problems);
    let job_manager = process(
        &JOB_MANAGER,
        fields.job_manager.as_ref(),
        &base,
        &configuration,
        &mut problems,
    );
    let task_manager = process(
        &TASK_MANAGER,
        fields.task_manager.as_ref(),
        &base,
        &configuration,
        &mut problems,
    );
    let high_availability = high_availability::read(&configuration, &mut problems);
    let job_manager_replicas = high_availability::replicas(fields, high_availability, &mut problems);
    let namespace = metadata.namespace.clone().unwrap_or_default();
    let ingress = fields
        .ingress
        .as_ref()
        .and_then(|spec| ingress::render(spec, &name, &namespace, &mut problems));
    let cluster = Cluster {
        kind: request.kind,
        uid: metadata.uid.clone().unwrap_or_default(),
        generation: metadata.generation.unwrap_or_default(),
        owner: request.owner.clone(),
        image,
        image_pinned,
        image_pull_policy: fields
            .image_pull_policy
            .map(thalweg_crds::ImagePullPolicy::as_str),
        service_account: fields.service_account.clone(),
        slots: slots(&configuration, &mut problems),
        job_manager_replicas,
        high_availability,
        task_manager_replicas: replicas(fields.task_manager.as_ref(), &mut problems),
        restart_nonce: fields.restart_nonce,
        job: request
            .job
            .map(|job| self::job(job, &configuration, &mut problems)),
        job_manager,
        task_manager,
        configuration: for_processes(configuration),
        ingress,
        name,
        namespace,
    };
    if problems.0.is_empty() {
        Ok(cluster)
    } else {
        Err(Invalid { problems: problems.0 })
    }
}

/// Checks the parts of a FlinkSessionJob that its schema can't say; its configuration, flat.
pub(crate) fn validate_session_job(
    job: &JobSpec,
    configuration_spec: Option<&BTreeMap<String, Value>>,
) -> Result<(Job, BTreeMap<String, String>), Invalid> {
    let mut problems = Problems::default();
    let configuration = configuration(configuration_spec, &mut problems);
    let job = self::job(job, &configuration, &mut problems);
    if problems.0.is_empty() {
        Ok((job, for_processes(configuration)))
    } else {
        Err(Invalid { problems: problems.0 })
    }
}

/// Without what only the operator reads.
fn for_processes(mut configuration: BTreeMap<String, String>) -> BTreeMap<String, String> {
    policy::strip(&mut configuration);
    configuration
}

/// The schema has the same rule; it is repeated for an API server without CEL.
fn check_name(name: &str, problems: &mut Problems) {
    let label = name
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('-');
    if name.len() > NAME_MAX_LENGTH || !label {
        problems.add(
            "metadata.name",
            format!(
                "{name:?} must begin with a letter, hold only a-z, 0-9 and -, and have at most {NAME_MAX_LENGTH} \
                 characters: names of Services and pods derive from it"
            ),
        );
    }
}

fn configuration(
    spec: Option<&BTreeMap<String, Value>>,
    problems: &mut Problems,
) -> BTreeMap<String, String> {
    let Some(spec) = spec else { return BTreeMap::new() };
    let flat = match flatten(spec) {
        Ok(flat) => flat,
        Err(error) => {
            problems.add("spec.flinkConfiguration", error.to_string());
            return BTreeMap::new();
        }
    };
    for (key, why) in OPERATOR_KEYS {
        if flat.contains_key(key) {
            problems.add(
                format!("spec.flinkConfiguration[{key}]"),
                format!("can't be set: {why}; remove it"),
            );
        }
    }
    if let Some(text) = flat.get("parallelism.default")
        && !text
            .parse::<i32>()
            .is_ok_and(|number| (1..=PARALLELISM_MAX).contains(&number))
    {
        problems.add(
            "spec.flinkConfiguration[parallelism.default]",
            format!("{text:?} is not a parallelism; use a number from 1 to {PARALLELISM_MAX}"),
        );
    }
    flat
}

fn slots(configuration: &BTreeMap<String, String>, problems: &mut Problems) -> u32 {
    let Some(text) = configuration.get("taskmanager.numberOfTaskSlots") else {
        return 1;
    };
    match text.parse() {
        Ok(slots) if (1..=SLOTS_MAX).contains(&slots) => slots,
        _ => {
            problems.add(
                "spec.flinkConfiguration[taskmanager.numberOfTaskSlots]",
                format!("{text:?} is not a number of slots; use a number from 1 to {SLOTS_MAX}"),
            );
            1
        }
    }
}

/// `spec.image`, else the one pinned in status, else the operator's default, which is pinned from now on.
fn image(request: &Request<'_>, problems: &mut Problems) -> (String, bool) {
    if let Some(image) = request.fields.image.as_deref() {
        if image.trim() != image || image.is_empty() || image.contains(char::is_whitespace) {
            problems.add(
                "spec.image",
                format!("{image:?} is not an image; write registry/repository:tag"),
            );
        }
        return (image.to_owned(), false);
    }
    let pinned = request.status.filter(|status| status.image_pinned == Some(true));
    match pinned
        .and_then(|status| status.image.as_deref())
        .or(request.default_image)
    {
        Some(image) => (image.to_owned(), true),
        None => {
            problems.add(
                "spec.image",
                "is not set, and the operator has no default (THALWEG_RUNTIME_IMAGE); set one of the two",
            );
            (String::new(), false)
        }
    }
}

fn replicas(spec: Option<&ProcessSpec>, problems: &mut Problems) -> Option<u32> {
    let replicas = spec.and_then(|spec| spec.replicas)?;
    if !(1..=REPLICAS_MAX).contains(&replicas) {
        problems.add(
            "spec.taskManager.replicas",
            format!("{replicas} is not from 1 to {REPLICAS_MAX}"),
        );
    }
    u32::try_from(replicas).ok()
}

/// What differs between the roles.
struct Role {
    path: &'static str,
    memory_key: &'static str,
    cpu_limit_factor_key: &'static str,
    memory_min: u64,
    memory_default: u64,
}

const JOB_MANAGER: Role = Role {
    path: "spec.jobManager",
    memory_key: "jobmanager.memory.process.size",
    cpu_limit_factor_key: "kubernetes.jobmanager.cpu.limit-factor",
    memory_min: JOB_MANAGER_MEMORY_MIN,
    memory_default: JOB_MANAGER_MEMORY_DEFAULT,
};

const TASK_MANAGER: Role = Role {
    path: "spec.taskManager",
    memory_key: "taskmanager.memory.process.size",
    cpu_limit_factor_key: "kubernetes.taskmanager.cpu.limit-factor",
    memory_min: TASK_MANAGER_MEMORY_MIN,
    memory_default: TASK_MANAGER_MEMORY_DEFAULT,
};

fn process(
    role: &Role,
    spec: Option<&ProcessSpec>,
    base: &PodTemplateSpec,
    configuration: &BTreeMap<String, String>,
    problems: &mut Problems,
) -> Process {
    let path = role.path;
    let resource = spec.and_then(|spec| spec.resource.clone()).unwrap_or_default();
    if let Some(cpu) = resource.cpu
        && !(cpu.is_finite() && cpu > 0.0)
    {
        problems.add(
            format!("{path}.resource.cpu"),
            format!("{cpu} is not a number of cores above 0"),
        );
    }
    let memory_bytes = memory(role, resource.memory.as_deref(), configuration, problems);
    let storage = resource.ephemeral_storage.as_deref();
    let ephemeral_storage_bytes =
        storage.and_then(|text| size(&format!("{path}.resource.ephemeralStorage"), text, problems));
    let own_template = spec.and_then(|spec| spec.pod_template.as_ref());
    let mut pod_template = base.clone();
    pod_template.merge_from(pod_template::parse(
        &format!("{path}.podTemplate"),
        own_template,
        problems,
    ));
    Process {
        cpu: resource.cpu,
        cpu_limit_factor: cpu_limit_factor(role, configuration, problems),
        memory_bytes,
        ephemeral_storage_bytes,
        pod_template,
    }
}

/// Flink's `kubernetes.*.cpu.limit-factor`: how far a process may go over its request.
fn cpu_limit_factor(role: &Role, configuration: &BTreeMap<String, String>, problems: &mut Problems) -> f64 {
    let Some(text) = configuration.get(role.cpu_limit_factor_key) else {
        return 1.0;
    };
    match text.parse::<f64>() {
        Ok(factor) if (1.0..=1000.0).contains(&factor) => factor,
        _ => {
            problems.add(
                format!("spec.flinkConfiguration[{}]", role.cpu_limit_factor_key),
                format!("{text:?} is not a factor; use a number from 1 to 1000"),
            );
            1.0
        }
    }
}

/// The resource's memory wins over the configuration's process size, as in Flink's operator.
fn memory(
    role: &Role,
    memory: Option<&str>,
    configuration: &BTreeMap<String, String>,
    problems: &mut Problems,
) -> u64 {
    let (path, text) = match (memory, configuration.get(role.memory_key)) {
        (Some(text), _) => (format!("{}.resource.memory", role.path), text),
        (None, Some(text)) => (
            format!("spec.flinkConfiguration[{}]", role.memory_key),
            text.as_str(),
        ),
        (None, None) => return role.memory_default,
    };
    let Some(bytes) = size(&path, text, problems) else {
        return role.memory_default;
    };
    if bytes < role.memory_min {
        problems.add(
            path,
            format!("{text:?} is too small; use at least {}m", role.memory_min >> 20),
        );
    }
    bytes
}

fn size(path: &str, text: &str, problems: &mut Problems) -> Option<u64> {
    parse_bytes(text)
        .map_err(|message| problems.add(path, message))
        .ok()
}

fn job(spec: &JobSpec, configuration: &BTreeMap<String, String>, problems: &mut Problems) -> Job {
    check_what(spec, problems);
    let upgrade_mode = spec.upgrade_mode.unwrap_or_default();
    check_upgrade_mode(upgrade_mode, configuration, problems);
    let initial_savepoint_path = spec
        .initial_savepoint_path
        .clone()
        .filter(|path| !path.is_empty());
    if let Some(path) = &initial_savepoint_path
        && (path.trim() != path || path.contains(char::is_control))
    {
        problems.add(
            "spec.job.initialSavepointPath",
            format!("{path:?} is not a path; write that of a savepoint or checkpoint, as in s3://bucket/savepoints/savepoint-1"),
        );
    }
    if let Some(parallelism) = spec.parallelism
        && !(1..=PARALLELISM_MAX).contains(&parallelism)
    {
        problems.add(
            "spec.job.parallelism",
            format!("{parallelism} is not from 1 to {PARALLELISM_MAX}"),
        );
    }
    let policy = snapshot_policy(spec, configuration, problems);
    let package = spec.package.as_ref();
    Job {
        package_uri: package.map(|package| package.uri.clone()).unwrap_or_default(),
        package_sha256: package.and_then(|package| package.sha256.clone()),
        sql: spec.sql.clone(),
        args: spec.args.clone(),
        parallelism: spec.parallelism.and_then(|number| u32::try_from(number).ok()),
        suspended: spec.suspended(),
        upgrade_mode,
        initial_savepoint_path,
        allow_non_restored_state: spec.allow_non_restored_state.unwrap_or(false),
        savepoint_redeploy_nonce: spec.savepoint_redeploy_nonce,
        savepoint_trigger_nonce: spec.savepoint_trigger_nonce,
        checkpoint_trigger_nonce: spec.checkpoint_trigger_nonce,
        policy,
    }
}

/// The operator's own keys, and what is needed for the snapshots that they and the nonces ask for.
fn snapshot_policy(
    spec: &JobSpec,
    configuration: &BTreeMap<String, String>,
    problems: &mut Problems,
) -> Policy {
    let policy = Policy::parse(configuration, |key, message| {
        problems.add(format!("spec.flinkConfiguration[{key}]"), message);
    });
    if spec.savepoint_redeploy_nonce.is_some()
        && spec
            .initial_savepoint_path
            .as_deref()
            .unwrap_or_default()
            .is_empty()
    {
        problems.add(
            "spec.job.savepointRedeployNonce",
            "needs spec.job.initialSavepointPath: the job starts anew from it",
        );
    }
    let mut needs: Vec<(String, RequiredKey)> = policy
        .needs()
        .into_iter()
        .map(|(key, needed)| (format!("spec.flinkConfiguration[{key}]"), needed))
        .collect();
    if spec.savepoint_trigger_nonce.is_some() {
        needs.push(("spec.job.savepointTriggerNonce".into(), SAVEPOINT_DIR));
    }
    if spec.checkpoint_trigger_nonce.is_some() {
        needs.push(("spec.job.checkpointTriggerNonce".into(), CHECKPOINT_DIR));
    }
    for (path, (key, former, example)) in needs {
        if !is_set(configuration, key) && !is_set(configuration, former) {
            problems.add(
                path,
                format!("needs {key} (as in {example:?}) in spec.flinkConfiguration; add it"),
            );
        }
    }
    policy
}

fn is_set(configuration: &BTreeMap<String, String>, key: &str) -> bool {
    configuration.get(key).is_some_and(|value| !value.is_empty())
}

fn check_upgrade_mode(mode: UpgradeMode, configuration: &BTreeMap<String, String>, problems: &mut Problems) {
    let required = match mode {
        UpgradeMode::Stateless => &[] as &[RequiredKey],
        UpgradeMode::LastState => &LAST_STATE_KEYS,
        UpgradeMode::Savepoint => &SAVEPOINT_KEYS,
    };
    let set = |key: &str| is_set(configuration, key);
    let missing: Vec<String> = required
        .iter()
        .filter(|(key, former, _)| !set(key) && !set(former))
        .map(|(key, _, example)| format!("{key} (as in {example:?})"))
        .collect();
    if !missing.is_empty() {
        problems.add(
            "spec.job.upgradeMode",
            format!(
                "{:?} needs {} in spec.flinkConfiguration; add it, or set the mode to stateless",
                mode.as_str(),
                missing.join(" and ")
            ),
        );
    }
}

/// What the job is.
fn check_what(spec: &JobSpec, problems: &mut Problems) {
    match (&spec.package, &spec.sql) {
        (Some(package), None) => check_package(package, problems),
        (None, Some(sql)) if sql.trim().is_empty() => problems.add("spec.job.sql", "is empty; write a script"),
        (None, Some(sql)) if sql.len() > SQL_MAX_LENGTH => problems.add(
            "spec.job.sql",
            format!(
                "has {} bytes, more than {SQL_MAX_LENGTH}; put the script where spec.job.package.uri reaches it, as a file that \
                 ends in .sql",
                sql.len()
            ),
        ),
        (None, Some(_)) => {}
        (Some(_), Some(_)) => problems.add(
            "spec.job",
            "has package and sql, each of which says what the job is; remove one",
        ),
        (None, None) => problems.add("spec.job", "has neither package nor sql; one of them says what the job is"),
    }
}

fn check_package(package: &Package, problems: &mut Problems) {
    let uri = &package.uri;
    let known = ["local://", "file://", "s3://", "https://"];
    if !known
        .iter()
        .any(|scheme| uri.len() > scheme.len() && uri.starts_with(scheme))
    {
        problems.add(
            "spec.job.package.uri",
            format!("{uri:?} must begin with local:// (in the image), file://, s3:// or https://"),
        );
    }
    match package.sha256.as_deref() {
        None if uri.starts_with("https://") => {
            problems.add(
                "spec.job.package.sha256",
                "is needed for a package reached by https://",
            );
        }
        Some(sum)
            if sum.len() != 64 || !sum.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) =>
        {
            problems.add(
                "spec.job.package.sha256",
                format!("{sum:?} is not 64 lower-case hex digits"),
            );
        }
        _ => {}
    }
}
