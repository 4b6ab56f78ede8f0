//! Pod templates: the CRD keeps them whole, so they are checked here.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

use super::Problems;

/// Parses a template; a wrong type or an unknown field becomes a problem with its path.
pub(super) fn parse(path: &str, template: Option<&Value>, problems: &mut Problems) -> PodTemplateSpec {
    let Some(given) = template else {
        return PodTemplateSpec::default();
    };
    // A template without containers is fine here, Kubernetes' type wants the list.
    let mut value = given.clone();
    if let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) {
        spec.entry("containers")
            .or_insert_with(|| Value::Array(Vec::new()));
    }
    let template: PodTemplateSpec = match serde_path_to_error::deserialize(&value) {
        Ok(template) => template,
        Err(error) => {
            let inner = error.path().to_string();
            let place = if inner == "." {
                path.to_owned()
            } else {
                format!("{path}.{inner}")
            };
            problems.add(
                place,
                format!("{}; see `kubectl explain pod`", error.into_inner()),
            );
            return PodTemplateSpec::default();
        }
    };
    // The parser skips what it doesn't know; what is missing after writing it again was not known.
    if let Ok(known) = serde_json::to_value(&template) {
        find_unknown(path, &value, &known, problems);
    }
    template
}

fn find_unknown(path: &str, given: &Value, known: &Value, problems: &mut Problems) {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => {
            for (key, value) in given {
                let place = format!("{path}.{key}");
                match known.get(key) {
                    Some(counterpart) => find_unknown(&place, value, counterpart, problems),
                    None if is_empty(value) => {}
                    None => problems.add(place, "is not a field of a pod; see `kubectl explain pod`"),
                }
            }
        }
        (Value::Array(given), Value::Array(known)) => {
            for (index, (value, counterpart)) in given.iter().zip(known).enumerate() {
                find_unknown(&format!("{path}[{index}]"), value, counterpart, problems);
            }
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
