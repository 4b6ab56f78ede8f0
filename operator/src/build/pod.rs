//! What JobManager and TaskManager pods have in common.
//!
//! ```text
//!   defaults (security, grace, tolerations)  <-  the user's templates  <-  ours (command, ports, volumes, labels)
//! ```
//! Lists merge as Kubernetes merges them: containers, volumes and variables by name, mounts by path.

use std::collections::BTreeMap;

use k8s_openapi::DeepMerge;
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar,
    EnvVarSource, ObjectFieldSelector, PodSecurityContext, PodSpec, PodTemplateSpec, ResourceRequirements,
    SeccompProfile, Toleration, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use thalweg_crds::memory::quantity;

use crate::cluster::{Cluster, Process};
use crate::names;

/// The user of our images, Flink's number.
const USER: i64 = 9999;
/// The processes end on SIGTERM at once; the rest is for the kubelet.
pub(super) const GRACE_SECONDS: i64 = 10;
/// How long a pod stays on a node that is gone; Kubernetes' default is 300.
const NODE_GONE_SECONDS: i64 = 30;
/// Packages, uploads and spilled data; what goes over it evicts the pod with a message.
const TMP_SIZE_LIMIT: &str = "4Gi";
/// Where the ConfigMap is mounted.
pub(super) const CONF_DIR: &str = "/etc/thalweg";

/// Of what outlives a container in its pod: state on the local disk, copies of checkpoints.
const WORK_DIR: &str = "/var/lib/thalweg";
const WORKING_DIR_KEYS: [&str; 2] = ["process.taskmanager.working-dir", "process.working-dir"];

/// What a role adds.
pub(super) struct Parts {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) args: Vec<String>,
    pub(super) env: Vec<EnvVar>,
    pub(super) ports: Vec<(&'static str, i32)>,
    pub(super) readiness_probe: Option<k8s_openapi::api::core::v1::Probe>,
    /// Whether it works in a volume of its own, which its user may bring.
    pub(super) work_volume: bool,
}

/// The template of a role's pods.
pub(super) fn template(cluster: &Cluster, process: &Process, mut parts: Parts) -> PodTemplateSpec {
    let mut template = defaults();
    template.merge_from(process.pod_template.clone());
    let work = work_volume(cluster, process, &mut parts);
    template.merge_from(ours(cluster, process, parts));
    template.merge_from(work);
    if let Some(spec) = template.spec.as_mut() {
        add_tolerations(spec);
        harden_every_container(spec);
    }
    template
}

fn defaults() -> PodTemplateSpec {
    let annotations = [
        ("prometheus.io/scrape", "true"),
        ("prometheus.io/port", "9249"),
        ("prometheus.io/path", "/metrics"),
    ];
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            annotations: Some(annotations.map(|(key, value)| (key.into(), value.into())).into()),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            containers: vec![Container {
                name: names::MAIN_CONTAINER.into(),
                ..Container::default()
            }],
            termination_grace_period_seconds: Some(GRACE_SECONDS),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(USER),
                run_as_group: Some(USER),
                fs_group: Some(USER),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".into(),
                    localhost_profile: None,
                }),
                ..PodSecurityContext::default()
            }),
            ..PodSpec::default()
        }),
    }
}

fn ours(cluster: &Cluster, process: &Process, parts: Parts) -> PodTemplateSpec {
    let variable = |name: &str, value: &str| EnvVar {
        name: name.into(),
        value: Some(value.into()),
        value_from: None,
    };
    let mut env = vec![
        variable("THALWEG_CONF_DIR", CONF_DIR),
        variable("TMPDIR", "/tmp"),
        from_field("POD_IP", "status.podIP"),
        from_field("POD_NAME", "metadata.name"),
        from_field("POD_NAMESPACE", "metadata.namespace"),
    ];
    env.extend(parts.env);
    let ports = parts.ports.into_iter().map(|(name, number)| ContainerPort {
        name: Some(name.into()),
        container_port: number,
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    });
    let main = Container {
        name: names::MAIN_CONTAINER.into(),
        image: Some(cluster.image.clone()),
        image_pull_policy: cluster.image_pull_policy.map(Into::into),
        command: Some(vec!["thalweg".into()]),
        args: Some(parts.args),
        env: Some(env),
        ports: Some(ports.collect()),
        resources: Some(resources(process)),
        readiness_probe: parts.readiness_probe,
        // A crash without a message takes the end of the log, which status shows.
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        volume_mounts: Some(vec![
            VolumeMount {
                name: "thalweg-config".into(),
                mount_path: CONF_DIR.into(),
                read_only: Some(true),
                ..VolumeMount::default()
            },
            VolumeMount {
                name: "thalweg-tmp".into(),
                mount_path: "/tmp".into(),
                ..VolumeMount::default()
            },
        ]),
        ..Container::default()
    };
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(parts.labels),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            containers: vec![main],
            restart_policy: Some("Always".into()),
            service_account_name: Some(cluster.service_account_name()),
            volumes: Some(vec![
                Volume {
                    name: "thalweg-config".into(),
                    config_map: Some(ConfigMapVolumeSource {
                        name: names::config(&cluster.name),
                        ..ConfigMapVolumeSource::default()
                    }),
                    ..Volume::default()
                },
                Volume {
                    name: "thalweg-tmp".into(),
                    empty_dir: Some(EmptyDirVolumeSource {
                        medium: None,
                        size_limit: Some(Quantity(TMP_SIZE_LIMIT.into())),
                    }),
                    ..Volume::default()
                },
            ]),
            ..PodSpec::default()
        }),
    }
}

/// The working folder, told as an argument: `config.yaml` may be older or newer than a pod. Nothing if the configuration names
/// another, and no volume if the template mounts one there.
fn work_volume(cluster: &Cluster, process: &Process, parts: &mut Parts) -> PodTemplateSpec {
    let configured = WORKING_DIR_KEYS
        .iter()
        .any(|key| cluster.configuration.contains_key(*key));
    if !parts.work_volume || configured {
        return PodTemplateSpec::default();
    }
    let definition = format!("{}={WORK_DIR}", WORKING_DIR_KEYS[0]);
    parts.args.extend(["-D".to_owned(), definition]);
    let containers = process.pod_template.spec.iter().flat_map(|spec| &spec.containers);
    let mut mounts = containers
        .filter(|container| container.name == names::MAIN_CONTAINER)
        .flat_map(|container| container.volume_mounts.iter().flatten());
    if mounts.any(|mount| mount.mount_path.trim_end_matches('/') == WORK_DIR) {
        return PodTemplateSpec::default();
    }
    let main = Container {
        name: names::MAIN_CONTAINER.into(),
        volume_mounts: Some(vec![VolumeMount {
            name: "thalweg-work".into(),
            mount_path: WORK_DIR.into(),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    };
    let volume = Volume {
        name: "thalweg-work".into(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: None,
            size_limit: process
                .ephemeral_storage_bytes
                .map(|bytes| Quantity(quantity(bytes))),
        }),
        ..Volume::default()
    };
    PodTemplateSpec {
        metadata: None,
        spec: Some(PodSpec {
            containers: vec![main],
            volumes: Some(vec![volume]),
            ..PodSpec::default()
        }),
    }
}

fn from_field(name: &str, path: &str) -> EnvVar {
    EnvVar {
        name: name.into(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: Some("v1".into()),
                field_path: path.into(),
            }),
            ..EnvVarSource::default()
        }),
    }
}

/// Requests are limits, as Flink's own Kubernetes integration sets them; CPU may have a factor between them.
fn resources(process: &Process) -> ResourceRequirements {
    let mut requests = BTreeMap::from([("memory".to_owned(), Quantity(quantity(process.memory_bytes)))]);
    if let Some(bytes) = process.ephemeral_storage_bytes {
        requests.insert("ephemeral-storage".into(), Quantity(quantity(bytes)));
    }
    let mut limits = requests.clone();
    if let Some(cores) = process.cpu {
        requests.insert("cpu".into(), cpu(cores));
        limits.insert("cpu".into(), cpu(cores * process.cpu_limit_factor));
    }
    ResourceRequirements {
        requests: Some(requests),
        limits: Some(limits),
        claims: None,
    }
}

fn cpu(cores: f64) -> Quantity {
    Quantity(format!("{}m", (cores * 1000.0).ceil() as u64))
}

/// A vanished node gives its pods up after 30 s, unless the user's template says something about that.
fn add_tolerations(spec: &mut PodSpec) {
    let tolerations = spec.tolerations.get_or_insert_default();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        if !tolerations
            .iter()
            .any(|toleration| toleration.key.as_deref() == Some(key))
        {
            tolerations.push(Toleration {
                key: Some(key.into()),
                operator: Some("Exists".into()),
                effect: Some("NoExecute".into()),
                toleration_seconds: Some(NODE_GONE_SECONDS),
                value: None,
            });
        }
    }
}

/// Sidecars of the user's included; what a template sets itself stays.
fn harden_every_container(spec: &mut PodSpec) {
    let all = spec
        .containers
        .iter_mut()
        .chain(spec.init_containers.iter_mut().flatten());
    for container in all {
        let context = container.security_context.get_or_insert_default();
        context.allow_privilege_escalation.get_or_insert(false);
        context.read_only_root_filesystem.get_or_insert(true);
        context.run_as_non_root.get_or_insert(true);
        context.capabilities.get_or_insert_with(|| Capabilities {
            drop: Some(vec!["ALL".into()]),
            add: None,
        });
        let profile = || SeccompProfile {
            type_: "RuntimeDefault".into(),
            localhost_profile: None,
        };
        context.seccomp_profile.get_or_insert_with(profile);
    }
}

/// Kubernetes replaces `$(NAME)` in arguments; a user's argument means what it says.
pub(super) fn literal(argument: &str) -> String {
    argument.replace("$(", "$$(")
}
