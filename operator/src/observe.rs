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

use crate::build::RPC_PORT;
use crate::cluster_watch::{Candidate, JobManagers, View};
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
    /// Pods that it is to have.
    pub(crate) replicas: u32,
    /// Its pods are candidates, one of which leads.
    pub(crate) high_availability: bool,
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
    /// The JobManager that speaks for the cluster: the leader as far as it is known, else one that is ready, else the newest.
    pub(crate) fn current_job_manager(&self) -> Option<&PodFacts> {
        let leader = self.view.as_ref().and_then(|view| view.leader.as_ref());
        self.live_job_managers().max_by_key(|pod| {
            let leads = leader.is_some_and(|leader| leader.pod == pod.name);
            (leads, pod.ready, pod.created)
        })
    }

    /// Those of the present spec that neither ended nor are on their way out.
    fn live_job_managers(&self) -> impl Iterator<Item = &PodFacts> {
        let hash = self.deployment.as_ref().map(|deployed| deployed.hash.as_str());
        let mine = move |pod: &&PodFacts| pod.alive() && Some(pod.hash.as_str()) == hash;
        self.job_managers.iter().filter(mine)
    }

    /// Whom the stream is to follow; none while no pod has an address. Of JobManagers that elect a leader all that live, so that
    /// it goes on with the next leader; else the one that speaks for the cluster, and what it said is forgotten with it.
    pub(crate) fn job_managers_to_follow(&self) -> Option<JobManagers> {
        let deployed = self.deployment.as_ref()?;
        let candidate = |pod: &PodFacts| {
            // By address: the name of a pod that is new is often cached as unknown.
            let ip = pod.ip.as_deref()?;
            let host = if ip.contains(':') {
                format!("[{ip}]")
            } else {
                ip.to_owned()
            };
            Some(Candidate {
                pod: pod.name.clone(),
                address: format!("http://{host}:{RPC_PORT}"),
            })
        };
        if deployed.high_availability {
            let operation_id = deployed.operation_id.as_deref().unwrap_or_default();
            let candidates: Vec<Candidate> = self.live_job_managers().filter_map(candidate).collect();
            return (!candidates.is_empty()).then(|| JobManagers {
                incarnation: format!("{operation_id} {}", deployed.hash),
                elected: true,
                candidates,
            });
        }
        let pod = self.current_job_manager()?;
        Some(JobManagers {
            incarnation: pod.uid.clone(),
            elected: false,
            candidates: vec![candidate(pod)?],
        })
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
        replicas: deployment
            .spec
            .as_ref()
            .and_then(|spec| spec.replicas)
            .map_or(1, |replicas| u32::try_from(replicas).unwrap_or(0)),
        high_availability: deployment
            .annotations()
            .contains_key(names::ANNOTATION_HIGH_AVAILABILITY),
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
