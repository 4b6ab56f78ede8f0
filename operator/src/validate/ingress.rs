//! The Ingress template: `{{name}}.{{namespace}}.example.com/path`.

use thalweg_crds::IngressSpec;

use super::Problems;
use crate::cluster::Ingress;

const PATH: &str = "spec.ingress.template";

/// Replaces the variables and splits the result into host and path.
pub(super) fn render(
    spec: &IngressSpec,
    name: &str,
    namespace: &str,
    problems: &mut Problems,
) -> Option<Ingress> {
    let rendered = spec
        .template
        .replace("{{name}}", name)
        .replace("{{namespace}}", namespace);
    if rendered.contains("{{") || rendered.contains("}}") {
        problems.add(
            PATH,
            format!(
                "{:?} has an unknown variable; there are {{{{name}}}} and {{{{namespace}}}}",
                spec.template
            ),
        );
        return None;
    }
    let without_scheme = rendered
        .strip_prefix("https://")
        .or_else(|| rendered.strip_prefix("http://"));
    let rendered = without_scheme.unwrap_or(&rendered);
    let (host, path) = match rendered.find('/') {
        Some(slash) => rendered.split_at(slash),
        None => (rendered, "/"),
    };
    let host_ok = host.len() <= 253
        && host.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        });
    if !host.is_empty() && !host_ok {
        problems.add(PATH, format!("gives the host {host:?}, which is not a DNS name"));
        return None;
    }
    let tls = spec.tls.iter().flatten();
    Some(Ingress {
        host: (!host.is_empty()).then(|| host.to_owned()),
        path: path.to_owned(),
        class_name: spec.class_name.clone(),
        annotations: spec.annotations.clone().unwrap_or_default(),
        labels: spec.labels.clone().unwrap_or_default(),
        tls: tls
            .map(|tls| (tls.hosts.clone().unwrap_or_default(), tls.secret_name.clone()))
            .collect(),
    })
}
