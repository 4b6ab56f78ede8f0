//! The JobManager's Deployment.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy};
use k8s_openapi::api::core::v1::{HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::pod::{self, Parts, literal};
use super::{METRICS_PORT, REST_PORT, RPC_PORT, metadata, pod_labels};
use crate::cluster::{Cluster, Job};
use crate::names;
use crate::plan::state::RestoreSource;

/// One JobManager, recreated rather than rolled: two would both run the job. Its job starts from `restore`.
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
        env: Vec::new(),
        ports: vec![("rpc", RPC_PORT), ("rest", REST_PORT), ("metrics", METRICS_PORT)],
        readiness_probe: Some(readiness_probe()),
    };
    let mut metadata = metadata(cluster, names::job_manager(&cluster.name));
    metadata.labels = Some(pod_labels(cluster, component, hash));
    metadata.annotations = Some(BTreeMap::from([(
        names::ANNOTATION_OPERATION_ID.into(),
        operation_id.into(),
    )]));
    Deployment {
        metadata,
        spec: Some(DeploymentSpec {
            replicas: Some(1),
            revision_history_limit: Some(1),
            strategy: Some(DeploymentStrategy {
                type_: Some("Recreate".into()),
                rolling_update: None,
            }),
            selector: LabelSelector {
                match_labels: Some(names::selector_labels(cluster, component)),
                ..LabelSelector::default()
            },
            template: pod::template(cluster, &cluster.job_manager, parts),
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn arguments(job: Option<&Job>, operation_id: &str, restore: Option<&RestoreSource>) -> Vec<String> {
    let mut arguments = vec!["jobmanager".to_owned()];
    let Some(job) = job else { return arguments };
    arguments.push("--application".into());
    let mut option = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
    option("package", literal(&job.package_uri));
    if let Some(sha256) = &job.package_sha256 {
        option("package-sha256", sha256.clone());
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
