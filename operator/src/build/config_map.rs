//! The ConfigMap with `config.yaml`, and the application's script if it is inline.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use thalweg_crds::UpgradeMode;
use thalweg_crds::memory::flink_size;

use super::{METRICS_PORT, REST_PORT, RPC_PORT, metadata};
use crate::cluster::Cluster;
use crate::names;

/// Whether checkpoints outlive their job.
pub(crate) const RETENTION_KEY: &str = "execution.checkpointing.externalized-checkpoint-retention";
/// Name of the file.
pub(super) const FILE: &str = "config.yaml";
/// Name of an inline script's file.
pub(super) const SCRIPT: &str = "job.sql";

/// `config.yaml` in Flink's flat form; what follows from the resource wins over the user's configuration.
pub(crate) fn config_map(cluster: &Cluster) -> Result<ConfigMap, serde_yaml::Error> {
    let yaml = serde_yaml::to_string(&effective(cluster))?;
    let script = cluster.job.as_ref().and_then(|job| job.sql.clone());
    let script = script.map(|sql| (SCRIPT.to_owned(), sql));
    let files = [(FILE.to_owned(), yaml)].into_iter().chain(script);
    Ok(ConfigMap {
        metadata: metadata(cluster, names::config(&cluster.name)),
        data: Some(files.collect()),
        ..ConfigMap::default()
    })
}

fn effective(cluster: &Cluster) -> BTreeMap<String, String> {
    let mut keys = cluster.configuration.clone();
    let mut set = |key: &str, value: String| keys.insert(key.to_owned(), value);
    set("jobmanager.rpc.address", names::job_manager_address(cluster));
    set("jobmanager.rpc.port", RPC_PORT.to_string());
    set("rest.port", REST_PORT.to_string());
    set(
        "jobmanager.memory.process.size",
        flink_size(cluster.job_manager.memory_bytes),
    );
    set(
        "taskmanager.memory.process.size",
        flink_size(cluster.task_manager.memory_bytes),
    );
    set("taskmanager.numberOfTaskSlots", cluster.slots.to_string());
    if cluster.is_highly_available() {
        set(
            "high-availability.cluster-id",
            names::high_availability_cluster_id(cluster),
        );
    }
    // A job that goes on from its checkpoints must find them, also after it has failed.
    if cluster
        .job
        .as_ref()
        .is_some_and(|job| job.upgrade_mode != UpgradeMode::Stateless)
    {
        keys.entry(RETENTION_KEY.into())
            .or_insert_with(|| "RETAIN_ON_CANCELLATION".into());
    }
    keys.entry("metrics.reporters".into())
        .or_insert_with(|| "prom".into());
    keys.entry("metrics.reporter.prom.port".into())
        .or_insert_with(|| METRICS_PORT.to_string());
    keys
}
