//! Drift and size.

use std::path::Path;

use thalweg_crds::generate::{CRD_MAX_BYTES, custom_resource_definitions, generated_files};

#[test]
fn the_committed_files_are_the_generated_ones() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for file in generated_files().unwrap() {
        let committed = std::fs::read_to_string(root.join(&file.path)).unwrap_or_default();
        assert!(
            committed == file.text,
            "{} differs: run `cargo run -p thalweg-crds`",
            file.path
        );
    }
}

#[test]
fn each_file_fits_into_the_annotation_of_kubectl_apply() {
    for file in generated_files().unwrap() {
        assert!(
            file.text.len() < CRD_MAX_BYTES,
            "{} has {} bytes",
            file.path,
            file.text.len()
        );
    }
}

#[test]
fn every_kind_has_status_and_columns_and_clusters_scale() {
    for crd in custom_resource_definitions() {
        let version = &crd.spec.versions[0];
        let subresources = version.subresources.as_ref().unwrap();
        assert!(subresources.status.is_some());
        let is_cluster = ["FlinkApplication", "FlinkSession"].contains(&crd.spec.names.kind.as_str());
        assert_eq!(subresources.scale.is_some(), is_cluster);
        let columns: Vec<&str> = version
            .additional_printer_columns
            .iter()
            .flatten()
            .map(|column| column.name.as_str())
            .collect();
        let state = columns.contains(&"Lifecycle") || columns.contains(&"Snapshot State");
        assert!(state && columns.contains(&"Age"), "{columns:?}");
    }
}

#[test]
fn short_names_do_not_collide_with_each_other_or_with_other_operators() {
    let mut names: Vec<String> = custom_resource_definitions()
        .into_iter()
        .flat_map(|crd| crd.spec.names.short_names.unwrap())
        .collect();
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all);
    for taken in [
        "flinkdep",
        "sessionjob",
        "flinksnp",
        "flinkbgdep",
        "flinkapp",
        "fc",
        "fcs",
    ] {
        assert!(
            !names.iter().any(|name| name == taken),
            "{taken} belongs to another operator"
        );
    }
}
