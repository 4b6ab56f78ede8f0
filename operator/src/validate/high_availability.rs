//! Standby JobManagers, and what they need.

use std::collections::BTreeMap;

use thalweg_crds::ClusterFields;

use super::{Problems, is_set};
use crate::cluster::HighAvailability;

const TYPE: &str = "high-availability.type";
const TYPE_BEFORE: &str = "high-availability";
const STORAGE_DIR: &str = "high-availability.storageDir";
const STORAGE_DIR_EXAMPLE: &str = "s3://bucket/high-availability";
/// A third one in case two fail at once; more only cost.
const REPLICAS_MAX: u32 = 16;

/// The type of high availability; what it can't work without is a problem.
pub(super) fn read(configuration: &BTreeMap<String, String>, problems: &mut Problems) -> HighAvailability {
    let key = if is_set(configuration, TYPE) {
        TYPE
    } else {
        TYPE_BEFORE
    };
    let text = configuration.get(key).map_or("", String::as_str);
    let path = format!("spec.flinkConfiguration[{key}]");
    let kind = match text.to_ascii_lowercase().as_str() {
        "" | "none" => return HighAvailability::None,
        "kubernetes" => HighAvailability::Kubernetes,
        "storage" => HighAvailability::Storage,
        _ => {
            problems.add(
                path,
                format!("{text:?} is none that there is here; use kubernetes, or NONE for one JobManager"),
            );
            return HighAvailability::None;
        }
    };
    if !is_set(configuration, STORAGE_DIR) {
        problems.add(
            path,
            format!("{text:?} needs {STORAGE_DIR} (as in {STORAGE_DIR_EXAMPLE:?}) in spec.flinkConfiguration; add it"),
        );
    }
    kind
}

/// JobManagers; more than one only if a Lease says who leads, as in Flink's operator.
pub(super) fn replicas(fields: &ClusterFields, kind: HighAvailability, problems: &mut Problems) -> u32 {
    let spec = fields.job_manager.as_ref().and_then(|process| process.replicas);
    let replicas = u32::try_from(spec.unwrap_or(1)).unwrap_or(0);
    let path = "spec.jobManager.replicas";
    if !(1..=REPLICAS_MAX).contains(&replicas) {
        problems.add(
            path,
            format!("{} is not from 1 to {REPLICAS_MAX}", spec.unwrap_or(1)),
        );
    } else if replicas > 1 && kind != HighAvailability::Kubernetes {
        problems.add(
            path,
            format!(
                "standby JobManagers need high availability: add {TYPE}: kubernetes and {STORAGE_DIR} (as in \
                 {STORAGE_DIR_EXAMPLE:?}) to spec.flinkConfiguration, or set it to 1"
            ),
        );
    }
    replicas
}
