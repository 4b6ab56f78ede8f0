//! Schema fragments that can't be derived.

use schemars::{Schema, SchemaGenerator, json_schema};

/// A `PodTemplateSpec`, kept whole. Inlining its schema would add 190 KiB a place; the operator checks it and names
/// the path of what is wrong.
pub(crate) fn pod_template(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "nullable": true, "x-kubernetes-preserve-unknown-fields": true})
}

/// Flink configuration: flat (`a.b: c`) or nested (`a: {b: c}`), values of any scalar type.
pub(crate) fn configuration(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "nullable": true, "x-kubernetes-preserve-unknown-fields": true})
}
