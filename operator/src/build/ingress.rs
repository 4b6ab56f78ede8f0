//! The Ingress of the REST service.

use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend,
    IngressSpec, IngressTLS, ServiceBackendPort,
};

use super::{REST_PORT, metadata};
use crate::cluster::Cluster;
use crate::names;

/// None if the resource asks for none.
pub(crate) fn ingress(cluster: &Cluster) -> Option<Ingress> {
    let wanted = cluster.ingress.as_ref()?;
    let mut metadata = metadata(cluster, names::rest(&cluster.name));
    // Ours win: by them the object is found again.
    let own = std::mem::take(&mut metadata.labels).unwrap_or_default();
    metadata.labels = Some(wanted.labels.clone().into_iter().chain(own).collect());
    metadata.annotations = Some(wanted.annotations.clone()).filter(|annotations| !annotations.is_empty());
    let path = HTTPIngressPath {
        path: Some(wanted.path.clone()),
        path_type: "ImplementationSpecific".into(),
        backend: IngressBackend {
            service: Some(IngressServiceBackend {
                name: names::rest(&cluster.name),
                port: Some(ServiceBackendPort {
                    number: Some(REST_PORT),
                    name: None,
                }),
            }),
            resource: None,
        },
    };
    let tls = wanted.tls.iter().map(|(hosts, secret_name)| IngressTLS {
        hosts: Some(hosts.clone()),
        secret_name: secret_name.clone(),
    });
    Some(Ingress {
        metadata,
        spec: Some(IngressSpec {
            ingress_class_name: wanted.class_name.clone(),
            rules: Some(vec![IngressRule {
                host: wanted.host.clone(),
                http: Some(HTTPIngressRuleValue { paths: vec![path] }),
            }]),
            tls: Some(tls.collect::<Vec<_>>()).filter(|tls| !tls.is_empty()),
            ..IngressSpec::default()
        }),
        ..Ingress::default()
    })
}
