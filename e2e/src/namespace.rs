//! A namespace a test.

use std::future::Future;

use anyhow::Context;
use k8s_openapi::api::core::v1::{Event, Namespace, Pod};
use kube::api::{Api, DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams};
use kube::core::{DynamicObject, ObjectMeta};
use kube::{Client, Resource, ResourceExt};
use rand::Rng;
use serde_json::Value;
use thalweg_crds::{FlinkApplication, FlinkSession, FlinkSessionJob, FlinkStateSnapshot};

use crate::surroundings::Surroundings;

/// A test's namespace and what it needs to work in it.
#[derive(Clone)]
pub struct TestNamespace {
    /// Its name.
    pub name: String,
    /// The API server.
    pub client: Client,
    /// Kafka and others.
    pub around: Surroundings,
}

/// Runs a test in a fresh namespace; prints what is in it when the test fails; deletes it in any case.
pub async fn with_namespace<F, Fut>(prefix: &str, test: F) -> anyhow::Result<()>
where
    F: FnOnce(TestNamespace) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let namespace = TestNamespace::create(prefix).await?;
    let outcome = test(namespace.clone()).await;
    if outcome.is_err() {
        namespace.dump().await;
    }
    namespace.delete().await?;
    outcome
}

impl TestNamespace {
    /// Makes one with a name of its own.
    pub async fn create(prefix: &str) -> anyhow::Result<Self> {
        let client = Client::try_default()
            .await
            .context("no Kubernetes: run `make e2e`")?;
        let name = format!("{prefix}-{:06x}", rand::rng().next_u32() & 0x00ff_ffff);
        let namespace = Namespace {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                ..Default::default()
            },
            ..Default::default()
        };
        Api::<Namespace>::all(client.clone())
            .create(&PostParams::default(), &namespace)
            .await?;
        Ok(Self {
            name,
            client,
            around: Surroundings::from_env()?,
        })
    }

    /// The objects of a kind in it.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Applies a manifest of one of our kinds, as `kubectl apply --server-side` does.
    pub async fn apply(&self, manifest: &Value) -> anyhow::Result<()> {
        let kind = manifest["kind"].as_str().unwrap_or_default();
        let name = manifest["metadata"]["name"]
            .as_str()
            .context("a manifest without a name")?;
        let resource = match kind {
            "FlinkApplication" => kube::core::ApiResource::erase::<FlinkApplication>(&()),
            "FlinkSession" => kube::core::ApiResource::erase::<FlinkSession>(&()),
            "FlinkSessionJob" => kube::core::ApiResource::erase::<FlinkSessionJob>(&()),
            "FlinkStateSnapshot" => kube::core::ApiResource::erase::<FlinkStateSnapshot>(&()),
            other => anyhow::bail!("{other} is none of our kinds"),
        };
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), &self.name, &resource);
        api.patch(name, &PatchParams::apply("e2e").force(), &Patch::Apply(manifest))
            .await?;
        Ok(())
    }

    /// The pods with these labels.
    pub async fn pods(&self, labels: &str) -> anyhow::Result<Vec<Pod>> {
        Ok(self
            .api::<Pod>()
            .list(&ListParams::default().labels(labels))
            .await?
            .items)
    }

    async fn dump(&self) {
        eprintln!("---- what was in namespace {} ----", self.name);
        if let Err(error) = self.try_dump().await {
            eprintln!("(no more: {error:#})");
        }
        eprintln!("---- end of namespace {} ----", self.name);
    }

    async fn try_dump(&self) -> anyhow::Result<()> {
        for application in self
            .api::<FlinkApplication>()
            .list(&ListParams::default())
            .await?
        {
            eprintln!(
                "FlinkApplication {}: {:#?}",
                application.name_any(),
                application.status
            );
        }
        for session in self.api::<FlinkSession>().list(&ListParams::default()).await? {
            eprintln!("FlinkSession {}: {:#?}", session.name_any(), session.status);
        }
        for job in self.api::<FlinkSessionJob>().list(&ListParams::default()).await? {
            eprintln!("FlinkSessionJob {}: {:#?}", job.name_any(), job.status);
        }
        for snapshot in self
            .api::<FlinkStateSnapshot>()
            .list(&ListParams::default())
            .await?
        {
            eprintln!(
                "FlinkStateSnapshot {}: {:#?}",
                snapshot.name_any(),
                snapshot.status
            );
        }
        for event in self.api::<Event>().list(&ListParams::default()).await? {
            let reason = event.reason.unwrap_or_default();
            eprintln!(
                "event {:?} {reason}: {}",
                event.involved_object.name,
                event.message.unwrap_or_default()
            );
        }
        for pod in self.api::<Pod>().list(&ListParams::default()).await? {
            let name = pod.name_any();
            let phase = pod.status.and_then(|status| status.phase);
            let parameters = LogParams {
                tail_lines: Some(40),
                ..LogParams::default()
            };
            let log = self
                .api::<Pod>()
                .logs(&name, &parameters)
                .await
                .unwrap_or_else(|error| error.to_string());
            eprintln!("pod {name} {phase:?}:\n{log}");
        }
        Ok(())
    }

    async fn delete(&self) -> anyhow::Result<()> {
        Api::<Namespace>::all(self.client.clone())
            .delete(&self.name, &DeleteParams::default())
            .await?;
        Ok(())
    }
}
