//! Facts about a cluster's objects, drawn from what the API server and the JobManager say. Pure.
//!
//! ```text
//!   Deployment --+
//!   Pods        --+--> Facts --> plan, status
//!   View (push) --+
//! ```

mod problem;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

pub(crate) use problem::PodProblem;

use crate::cluster_watch::View;
use crate::names;

/// Everything that decisions are made from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) deployment: Option<DeploymentFacts>,
    pub(crate) job_managers: Vec<PodFacts>,
    pub(crate) task_managers: Vec<PodFacts>,
    /// What the JobManager pushed; none: no stream to it yet.
    pub(crate) view: Option<View>,
}

/// The JobManager's Deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DeploymentFacts {
    pub(crate) hash: String,
    pub(crate) operation_id: Option<String>,
    pub(crate) deleting: bool,
    pub(crate) ready: bool,
    /// Its controller, if that is another resource.
    pub(crate) foreign_owner: Option<String>,
    /// Why it can't make a pod: quota, admission.
    pub(crate) problem: Option<String>,
}

/// A JobManager or TaskManager pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PodFacts {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) hash: String,
    pub(crate) ordinal: Option<u32>,
    pub(crate) ip: Option<String>,
    /// `Failed` or `Succeeded`: it will never run again.
    pub(crate) ended: bool,
    pub(crate) running: bool,
    pub(crate) ready: bool,
    pub(crate) created: Option<Timestamp>,
    /// When its grace is over, if it is being deleted.
    pub(crate) deletion: Option<Timestamp>,
    pub(crate) problem: Option<PodProblem>,
}

impl PodFacts {
    /// Neither ended nor on its way out.
    pub(crate) fn alive(&self) -> bool {
        !self.ended && self.deletion.is_none()
    }
}

impl Facts {
    /// The JobManager that the stream is to follow: the newest that lives and has an address.
    pub(crate) fn current_job_manager(&self) -> Option<&PodFacts> {
        let deployed = self.deployment.as_ref()?;
        let mine = self
            .job_managers
            .iter()
            .filter(|pod| pod.alive() && pod.hash == deployed.hash);
        mine.max_by_key(|pod| pod.created)
    }
}

/// Draws the facts; `owner_uid` is the resource's.
pub(crate) fn observe(
    owner_uid: &str,
    deployment: Option<&Deployment>,
    pods: &[Pod],
    view: Option<View>,
) -> Facts {
    let mut facts = Facts {
        deployment: deployment.map(|found| deployment_facts(owner_uid, found)),
        view,
        ..Facts::default()
    };
    for pod in pods {
        match pod.labels().get(names::LABEL_COMPONENT).map(String::as_str) {
            Some(names::COMPONENT_JOB_MANAGER) => facts.job_managers.push(pod_facts(pod)),
            Some(names::COMPONENT_TASK_MANAGER) => facts.task_managers.push(pod_facts(pod)),
            _ => {}
        }
    }
    facts
        .task_managers
        .sort_by(|a, b| (a.ordinal, &a.name).cmp(&(b.ordinal, &b.name)));
    facts
}

fn deployment_facts(owner_uid: &str, deployment: &Deployment) -> DeploymentFacts {
    let owners = deployment.owner_references();
    let foreign = owners
        .iter()
        .find(|owner| owner.controller == Some(true) && owner.uid != owner_uid);
    let status = deployment.status.as_ref();
    let generation_seen =
        status.and_then(|status| status.observed_generation) >= deployment.metadata.generation;
    let conditions = status
        .and_then(|status| status.conditions.as_ref())
        .into_iter()
        .flatten();
    let failure = conditions
        .into_iter()
        .find(|one| one.type_ == "ReplicaFailure" && one.status == "True");
    DeploymentFacts {
        hash: label(deployment.labels(), names::LABEL_SPEC_HASH),
        operation_id: deployment
            .annotations()
            .get(names::ANNOTATION_OPERATION_ID)
            .cloned(),
        deleting: deployment.metadata.deletion_timestamp.is_some(),
        ready: generation_seen && status.and_then(|status| status.ready_replicas).unwrap_or(0) > 0,
        foreign_owner: foreign.map(|owner| format!("{} {}", owner.kind, owner.name)),
        problem: failure.and_then(|condition| condition.message.clone()),
    }
}

fn pod_facts(pod: &Pod) -> PodFacts {
    let status = pod.status.as_ref();
    let phase = status
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default();
    let conditions = status
        .and_then(|status| status.conditions.as_ref())
        .into_iter()
        .flatten();
    let ready = conditions
        .into_iter()
        .any(|one| one.type_ == "Ready" && one.status == "True");
    PodFacts {
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        hash: label(pod.labels(), names::LABEL_SPEC_HASH),
        ordinal: pod
            .labels()
            .get(names::LABEL_ORDINAL)
            .and_then(|text| text.parse().ok()),
        ip: status
            .and_then(|status| status.pod_ip.clone())
            .filter(|ip| !ip.is_empty()),
        ended: matches!(phase, "Failed" | "Succeeded"),
        running: phase == "Running",
        ready,
        created: pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
        deletion: pod.metadata.deletion_timestamp.as_ref().map(|time| time.0),
        problem: problem::find(pod),
    }
}

fn label(labels: &BTreeMap<String, String>, key: &str) -> String {
    labels.get(key).cloned().unwrap_or_default()
}
