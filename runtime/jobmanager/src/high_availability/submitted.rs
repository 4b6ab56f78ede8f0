//! A submission as a record, and back.
//!
//! Secrets of the cluster's own configuration are not written down: a new leader has them itself. Those that a submission brings along
//! are, since nobody else has them.

use std::collections::HashMap;

use thalweg_proto::ha::v1::{CheckpointCompleted, OperationDone, Submitted, operation_done};
use thalweg_types::config::{ClaimMode, Configuration};

use crate::dispatcher::Submission;
use crate::extraction::ExtractedJob;
use crate::failure::failure_of;
use crate::job_master::{Made, Operation, OperationKind};
use crate::rest::is_secret;
use crate::snapshot::StoredSnapshot;

use super::history::JobHistory;

pub(crate) fn submitted_of(submission: &Submission, cluster: &Configuration) -> Submitted {
    let mut configuration = submission.configuration.to_map();
    let mut job_graph = submission.job_graph.clone();
    let is_clusters = |(key, value): &(&str, &str)| {
        is_secret(key) && configuration.get(*key).is_some_and(|ours| ours == value)
    };
    let secrets = cluster.iter().filter(is_clusters).map(|(key, _)| key.to_owned());
    let secrets: Vec<String> = secrets.collect();
    for key in &secrets {
        configuration.remove(key);
        job_graph.configuration.remove(key);
    }
    let restored = submission.restored.as_ref();
    let completed = |snapshot: &StoredSnapshot| CheckpointCompleted {
        checkpoint_id: snapshot.metadata.checkpoint_id,
        folder: snapshot.folder.clone(),
        is_savepoint: snapshot.metadata.savepoint,
        stops_job: false,
        operation: None,
    };
    let extracted = submission.extracted.clone();
    Submitted {
        operation_id: submission.operation_id.clone(),
        is_application: submission.is_application,
        package_sha256: submission
            .package
            .as_ref()
            .map(|package| package.sha256.clone())
            .unwrap_or_default(),
        package_size: submission.package.as_ref().map_or(0, |package| package.size),
        engine_version: env!("CARGO_PKG_VERSION").to_owned(),
        stream_graph: Some(extracted.stream_graph),
        fingerprint: extracted.fingerprint,
        arguments: extracted.arguments,
        environment: extracted.environment.into_iter().collect(),
        api_version: extracted.api_version,
        job_graph: Some(job_graph),
        configuration,
        cluster_secrets: secrets,
        restored: restored
            .map(|restored| {
                restored
                    .earlier
                    .iter()
                    .chain([&restored.snapshot])
                    .map(completed)
                    .collect()
            })
            .unwrap_or_default(),
        newest_is_foreign: restored.is_some_and(|restored| restored.claim_mode == ClaimMode::NoClaim),
        highest_checkpoint_id: submission.earlier_checkpoint.unwrap_or(0),
        submitted_ms: submission.submitted_ms,
    }
}

/// Its configuration, with the cluster's secrets as they are now.
pub(super) fn configuration_of(submitted: &Submitted, cluster: &Configuration) -> Configuration {
    Configuration::from_map(with_secrets(submitted.configuration.clone(), submitted, cluster))
}

pub(super) fn with_secrets(
    mut configuration: HashMap<String, String>,
    submitted: &Submitted,
    cluster: &Configuration,
) -> HashMap<String, String> {
    for key in &submitted.cluster_secrets {
        if let Some(value) = cluster.get_raw(key) {
            configuration.insert(key.clone(), value.to_owned());
        }
    }
    configuration
}

pub(super) fn extracted_of(submitted: &Submitted) -> ExtractedJob {
    ExtractedJob {
        stream_graph: submitted.stream_graph.clone().unwrap_or_default(),
        fingerprint: submitted.fingerprint.clone(),
        arguments: submitted.arguments.clone(),
        environment: submitted.environment.clone().into_iter().collect(),
        api_version: submitted.api_version.clone(),
    }
}

/// What was asked of its snapshots: the ended ones, and the stop whose savepoint is complete while the job has not ended.
pub(crate) fn operations_of(history: &JobHistory) -> Vec<Operation> {
    let ended = history.operations.iter().filter_map(operation_of);
    let stop = history.stop_under_way().and_then(operation_of);
    let stop = stop.map(|stop| Operation { end: None, ..stop });
    ended.chain(stop).collect()
}

fn operation_of(done: &OperationDone) -> Option<Operation> {
    let kind = match done.kind() {
        operation_done::Kind::Unspecified => return None,
        operation_done::Kind::Checkpoint => OperationKind::Checkpoint,
        operation_done::Kind::Savepoint => OperationKind::Savepoint,
        operation_done::Kind::SavepointAndCancel => OperationKind::SavepointAndCancel,
        operation_done::Kind::Stop => OperationKind::Stop,
    };
    let result = match &done.failure {
        Some(failure) => Err(failure_of(Some(failure))),
        None => Ok(Made {
            path: done.path.clone(),
            checkpoint_id: done.checkpoint_id,
        }),
    };
    Some(Operation {
        id: done.operation_id.clone(),
        kind,
        triggered_ms: done.triggered_ms,
        end: Some((done.ended_ms, result)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Packages, submission};
    use thalweg_types::JobId;

    #[tokio::test]
    async fn the_clusters_secrets_are_not_written_down_and_are_there_again_for_a_new_leader() {
        let packages = Packages::new();
        let settings = [
            ("s3.secret-key", "clusters"),
            ("s3.access-key", "user"),
            ("my.password", "jobs"),
        ];
        let job = submission(&packages, JobId::from_u128(1), &settings).await;
        let cluster = |secret: &str| {
            let entries = [("s3.secret-key", secret), ("my.password", "another")];
            Configuration::from_map(entries.map(|(key, value)| (key.to_owned(), value.to_owned())))
        };
        let submitted = submitted_of(&job, &cluster("clusters"));
        assert!(!format!("{submitted:?}").contains("clusters\""), "{submitted:?}");
        let configuration = configuration_of(&submitted, &cluster("rotated"));
        assert_eq!(configuration.get_raw("s3.secret-key"), Some("rotated"));
        assert_eq!(configuration.get_raw("my.password"), Some("jobs"));
    }

    #[test]
    fn an_operation_reads_back_what_was_written() {
        let operation = Operation {
            id: "op".to_owned(),
            kind: OperationKind::Stop,
            triggered_ms: 1,
            end: Some((
                2,
                Ok(Made {
                    path: "file:///s".to_owned(),
                    checkpoint_id: 3,
                }),
            )),
        };
        let Some(thalweg_proto::ha::v1::record::Content::OperationDone(done)) =
            super::super::operation_done(&operation)
        else {
            panic!("it has ended");
        };
        let read = operation_of(&done).unwrap();
        assert_eq!(
            (read.id, read.kind, read.end),
            (operation.id, operation.kind, operation.end)
        );
    }
}
