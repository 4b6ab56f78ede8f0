//! The JobManager's Deployment: one pod, or several, one of which leads.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy};
use k8s_openapi::api::core::v1::{
    EnvVar, HTTPGetAction, PodAffinityTerm, PodAntiAffinity, PodTemplateSpec, Probe, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::config_map::SCRIPT;
use super::pod::{self, CONF_DIR, Parts, literal};
use super::{METRICS_PORT, REST_PORT, RPC_PORT, metadata, pod_labels};
use crate::cluster::{Cluster, HighAvailability, Job, hash_bytes};
use crate::names;
use crate::plan::state::RestoreSource;

const SHA256_BYTES: usize = 32;

/// Recreated rather than rolled, standbys or not: a JobManager of another configuration, or start, refuses to stand by for the
/// one before it. The tasks go on meanwhile if it is highly available. Its job starts from `restore`.
pub(crate) fn job_manager(
    cluster: &Cluster,
    hash: &str,
    operation_id: &str,
    restore: Option<&RestoreSource>,
) -> Deployment {
    let component = names::COMPONENT_JOB_MANAGER;
    let parts = Parts {
        labels: pod_labels(cluster, component, hash),
        args: arguments(cluster.job.as_ref(), operation_id, restore),
        env: match cluster.high_availability {
            HighAvailability::Kubernetes => vec![EnvVar {
                name: "THALWEG_LEASE_NAME".into(),
                value: Some(names::job_manager(&cluster.name)),
                value_from: None,
            }],
            HighAvailability::None | HighAvailability::Storage => Vec::new(),
        },
        work_volume: false,
        ports: vec![("rpc", RPC_PORT), ("rest", REST_PORT), ("metrics", METRICS_PORT)],
        readiness_probe: Some(readiness_probe()),
    };
    let mut metadata = metadata(cluster, names::job_manager(&cluster.name));
    metadata.labels = Some(pod_labels(cluster, component, hash));
    let mut annotations = BTreeMap::from([(names::ANNOTATION_OPERATION_ID.into(), operation_id.into())]);
    let mut template = pod::template(cluster, &cluster.job_manager, parts);
    if cluster.is_highly_available() {
        annotations.insert(names::ANNOTATION_HIGH_AVAILABILITY.into(), "true".into());
        let selector = names::selector_labels(cluster, component);
        prefer_different_nodes(&mut template, selector);
    }
    if let Some(spec) = template
        .spec
        .as_mut()
        .filter(|_| cluster.high_availability == HighAvailability::Kubernetes)
    {
        spec.automount_service_account_token = Some(true);
    }
    metadata.annotations = Some(annotations);
    Deployment {
        metadata,
        spec: Some(DeploymentSpec {
            replicas: i32::try_from(cluster.job_manager_replicas).ok(),
            revision_history_limit: Some(1),
            strategy: Some(DeploymentStrategy {
                type_: Some("Recreate".into()),
                rolling_update: None,
            }),
            selector: LabelSelector {
                match_labels: Some(names::selector_labels(cluster, component)),
                ..LabelSelector::default()
            },
            template,
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

/// Unless the user's template says where JobManagers may be.
fn prefer_different_nodes(template: &mut PodTemplateSpec, selector: BTreeMap<String, String>) {
    let affinity = template
        .spec
        .get_or_insert_default()
        .affinity
        .get_or_insert_default();
    affinity.pod_anti_affinity.get_or_insert_with(|| PodAntiAffinity {
        preferred_during_scheduling_ignored_during_execution: Some(vec![WeightedPodAffinityTerm {
            weight: 100,
            pod_affinity_term: PodAffinityTerm {
                topology_key: "kubernetes.io/hostname".into(),
                label_selector: Some(LabelSelector {
                    match_labels: Some(selector),
                    ..LabelSelector::default()
                }),
                ..PodAffinityTerm::default()
            },
        }]),
        ..PodAntiAffinity::default()
    });
}

fn arguments(job: Option<&Job>, operation_id: &str, restore: Option<&RestoreSource>) -> Vec<String> {
    let mut arguments = vec!["jobmanager".to_owned()];
    let Some(job) = job else { return arguments };
    arguments.push("--application".into());
    let mut option = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
    let (uri, sha256) = package(job);
    option("package", literal(&uri));
    if let Some(sha256) = sha256 {
        option("package-sha256", sha256);
    }
    if let Some(parallelism) = job.parallelism {
        option("parallelism", parallelism.to_string());
    }
    option("operation-id", operation_id.to_owned());
    // As arguments, not in config.yaml: they belong to this start, and to no later one.
    if let Some(restore) = restore {
        for (key, value) in [
            ("path", restore.path.as_str()),
            ("claim-mode", restore.claim_mode.as_str()),
            (
                "ignore-unclaimed-state",
                if job.allow_non_restored_state {
                    "true"
                } else {
                    "false"
                },
            ),
        ] {
            let definition = format!("execution.state-recovery.{key}={value}");
            arguments.extend(["-D".to_owned(), literal(&definition)]);
        }
    }
    arguments.push("--".into());
    arguments.extend(job.args.iter().map(|argument| literal(argument)));
    arguments
}

/// Where the package is. An inline script is in the ConfigMap; its hash tells a file that is older or newer than this start.
fn package(job: &Job) -> (String, Option<String>) {
    match &job.sql {
        Some(sql) => (
            format!("file://{CONF_DIR}/{SCRIPT}"),
            Some(hash_bytes(sql.as_bytes(), SHA256_BYTES)),
        ),
        None => (job.package_uri.clone(), job.package_sha256.clone()),
    }
}

fn readiness_probe() -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some("/overview".into()),
            port: IntOrString::Int(REST_PORT),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(2),
        timeout_seconds: Some(2),
        failure_threshold: Some(5),
        ..Probe::default()
    }
}
