//! Every bad input of a spec has its message.

use serde_json::{Value, json};

use crate::testing::{application, cluster, session_cluster, validated};

fn refused(spec: Value) -> String {
    validated(&application(spec))
        .expect_err("it is refused")
        .to_string()
}

fn assert_refused(spec: Value, words: &[&str]) {
    let message = refused(spec);
    for word in words {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
}

#[test]
fn defaults_are_resolved() {
    let cluster = cluster(json!({}));
    assert_eq!((cluster.slots, cluster.parallelism()), (1, 1));
    assert_eq!(
        (
            cluster.job_manager.memory_bytes,
            cluster.task_manager.memory_bytes
        ),
        (512 << 20, 1 << 30)
    );
    assert_eq!(cluster.service_account_name(), "wc-jobmanager");
}

#[test]
fn a_session_has_no_job() {
    assert!(session_cluster(json!({})).job.is_none());
}

#[test]
fn a_name_at_the_limit_is_fine_and_a_longer_one_is_not() {
    let mut application = application(json!({}));
    application.metadata.name = Some("a".repeat(45));
    assert!(validated(&application).is_ok());
    application.metadata.name = Some("a".repeat(46));
    assert!(
        validated(&application)
            .unwrap_err()
            .to_string()
            .contains("metadata.name")
    );
}

#[test]
fn a_wrong_type_in_a_pod_template_is_named_with_its_path() {
    assert_refused(
        json!({"podTemplate": {"spec": {"containers": [{"name": "flink-main-container", "env": "X=1"}]}}}),
        &["spec.podTemplate.spec.containers[0].env", "kubectl explain pod"],
    );
    assert_refused(
        json!({"taskManager": {"podTemplate": {"spec": {"terminationGracePeriodSeconds": "ten"}}}}),
        &["spec.taskManager.podTemplate.spec.terminationGracePeriodSeconds"],
    );
}

#[test]
fn an_unknown_field_of_a_pod_template_is_named_with_its_path() {
    assert_refused(
        json!({"jobManager": {"podTemplate": {"spec": {"contaners": [{"name": "x"}]}}}}),
        &[
            "spec.jobManager.podTemplate.spec.contaners",
            "is not a field of a pod",
        ],
    );
    assert_refused(
        json!({"podTemplate": {"spec": {"containers": [{"name": "a"}, {"name": "b", "imagePullpolicy": "Always"}]}}}),
        &["spec.podTemplate.spec.containers[1].imagePullpolicy"],
    );
}

#[test]
fn a_roles_own_template_lies_over_the_common_one() {
    let cluster = cluster(json!({
        "podTemplate": {"metadata": {"labels": {"team": "a", "tier": "x"}}},
        "taskManager": {"podTemplate": {"metadata": {"labels": {"team": "b"}}}},
    }));
    let labels = cluster
        .task_manager
        .pod_template
        .metadata
        .unwrap()
        .labels
        .unwrap();
    assert_eq!((labels["team"].as_str(), labels["tier"].as_str()), ("b", "x"));
    assert_eq!(
        cluster.job_manager.pod_template.metadata.unwrap().labels.unwrap()["team"],
        "a"
    );
}

#[test]
fn configuration_that_cannot_be_flattened_is_refused() {
    assert_refused(
        json!({"flinkConfiguration": {"a": {"b": null}}}),
        &["spec.flinkConfiguration: a.b: has no value"],
    );
}

#[test]
fn keys_that_follow_from_the_resource_are_refused() {
    assert_refused(
        json!({"flinkConfiguration": {"jobmanager": {"rpc": {"address": "x"}}}}),
        &["spec.flinkConfiguration[jobmanager.rpc.address]", "remove it"],
    );
}

#[test]
fn numbers_of_slots_and_parallelism_must_be_such() {
    assert_refused(
        json!({"flinkConfiguration": {"taskmanager.numberOfTaskSlots": "two"}}),
        &["\"two\" is not a number of slots"],
    );
    assert_refused(
        json!({"flinkConfiguration": {"taskmanager.numberOfTaskSlots": 0}}),
        &["from 1 to 1024"],
    );
    assert_refused(
        json!({"flinkConfiguration": {"parallelism.default": -1}}),
        &["\"-1\" is not a parallelism"],
    );
    assert_refused(
        json!({"job": {"parallelism": 0}}),
        &["spec.job.parallelism: 0 is not"],
    );
    assert_refused(
        json!({"taskManager": {"replicas": 0}}),
        &["spec.taskManager.replicas"],
    );
}

#[test]
fn memory_must_be_a_size_and_large_enough() {
    assert_refused(
        json!({"taskManager": {"resource": {"memory": "64m"}}}),
        &["spec.taskManager.resource.memory", "use at least 128m"],
    );
    assert_refused(
        json!({"jobManager": {"resource": {"memory": "lots"}}}),
        &["spec.jobManager.resource.memory", "\"lots\""],
    );
    assert_refused(
        json!({"flinkConfiguration": {"taskmanager.memory.process.size": "1m"}}),
        &["spec.flinkConfiguration[taskmanager.memory.process.size]"],
    );
    assert_refused(
        json!({"taskManager": {"resource": {"ephemeralStorage": "1q"}}}),
        &["ephemeralStorage", "unknown unit"],
    );
    assert_refused(
        json!({"taskManager": {"resource": {"cpu": -1.0}}}),
        &["spec.taskManager.resource.cpu"],
    );
}

#[test]
fn a_limit_factor_must_be_one() {
    assert_refused(
        json!({"flinkConfiguration": {"kubernetes.jobmanager.cpu.limit-factor": 0.5}}),
        &[
            "spec.flinkConfiguration[kubernetes.jobmanager.cpu.limit-factor]",
            "from 1 to 1000",
        ],
    );
}

#[test]
fn the_resources_memory_wins_over_the_configurations() {
    let both = json!({
        "flinkConfiguration": {"taskmanager.memory.process.size": "2g"}, "taskManager": {"resource": {"memory": "3g"}},
    });
    assert_eq!(cluster(both).task_manager.memory_bytes, 3 << 30);
    let configured = json!({"flinkConfiguration": {"taskmanager.memory.process.size": "2g"}});
    assert_eq!(cluster(configured).task_manager.memory_bytes, 2 << 30);
}

#[test]
fn what_needs_checkpoints_is_refused_rather_than_ignored() {
    assert_refused(
        json!({"job": {"upgradeMode": "last-state"}}),
        &[
            "spec.job.upgradeMode: \"last-state\"",
            "execution.checkpointing.interval",
            "execution.checkpointing.dir",
            "spec.flinkConfiguration",
        ],
    );
    assert_refused(
        json!({"job": {"upgradeMode": "savepoint"}}),
        &["spec.job.upgradeMode", "execution.checkpointing.savepoint-dir"],
    );
    assert_refused(
        json!({"job": {"initialSavepointPath": "s3://b/sp "}}),
        &["spec.job.initialSavepointPath", "\"s3://b/sp \" is not a path"],
    );
    assert_refused(
        json!({"jobManager": {"replicas": 2}}),
        &[
            "spec.jobManager.replicas",
            "high-availability.type: kubernetes",
            "high-availability.storageDir",
        ],
    );
}

#[test]
fn upgrade_modes_take_the_names_that_their_keys_had_in_flink_1() {
    for (mode, configuration) in [
        (
            "last-state",
            json!({"execution.checkpointing": {"interval": "1 s"}, "state.checkpoints.dir": "s3://b/c"}),
        ),
        ("savepoint", json!({"state.savepoints.dir": "s3://b/sp"})),
        ("stateless", json!({})),
    ] {
        let job =
            json!({"upgradeMode": mode, "initialSavepointPath": "s3://b/sp", "allowNonRestoredState": true});
        let job = cluster(json!({"job": job, "flinkConfiguration": configuration}))
            .job
            .unwrap();
        assert_eq!(job.upgrade_mode.as_str(), mode);
        assert_eq!(job.initial_savepoint_path.as_deref(), Some("s3://b/sp"));
        assert!(job.allow_non_restored_state);
    }
}

#[test]
fn what_a_start_restores_from_is_no_configuration() {
    assert_refused(
        json!({"flinkConfiguration": {"execution.state-recovery.path": "s3://b/sp"}}),
        &[
            "spec.flinkConfiguration[execution.state-recovery.path]",
            "spec.job.initialSavepointPath",
        ],
    );
}

#[test]
fn a_package_needs_a_known_scheme_and_a_true_sha256() {
    assert_refused(
        json!({"job": {"package": {"uri": "http://x/p"}}}),
        &["spec.job.package.uri", "\"http://x/p\""],
    );
    assert_refused(
        json!({"job": {"package": {"uri": "local://"}}}),
        &["spec.job.package.uri"],
    );
    assert_refused(
        json!({"job": {"package": {"uri": "https://x/p"}}}),
        &["spec.job.package.sha256: is needed"],
    );
    assert_refused(
        json!({"job": {"package": {"sha256": "abc"}}}),
        &["\"abc\" is not 64 lower-case hex digits"],
    );
}

#[test]
fn a_job_is_a_package_or_a_script() {
    let script = json!({"job": {"package": null, "sql": "INSERT INTO a SELECT 1"}});
    let job = validated(&application(script)).unwrap().job.unwrap();
    assert_eq!(job.sql.as_deref(), Some("INSERT INTO a SELECT 1"));
    assert_refused(
        json!({"job": {"sql": "INSERT INTO a SELECT 1"}}),
        &["spec.job: has package and sql", "remove one"],
    );
    assert_refused(
        json!({"job": {"package": null}}),
        &["spec.job: has neither package nor sql"],
    );
    assert_refused(
        json!({"job": {"package": null, "sql": " \n"}}),
        &["spec.job.sql: is empty"],
    );
    let long = "-".repeat(thalweg_crds::SQL_MAX_LENGTH + 1);
    assert_refused(
        json!({"job": {"package": null, "sql": long}}),
        &["spec.job.sql: has 262145 bytes", "ends in .sql"],
    );
}

#[test]
fn the_default_image_is_pinned_and_a_pinned_one_stays() {
    let mut application = application(json!({"image": null}));
    let first = validated(&application).unwrap();
    assert_eq!((first.image.as_str(), first.image_pinned), ("default:1", true));
    application.status = Some(thalweg_crds::ClusterStatus {
        image: Some("default:0".into()),
        image_pinned: Some(true),
        ..Default::default()
    });
    assert_eq!(validated(&application).unwrap().image, "default:0");
    application.spec.cluster.image = Some("mine:2".into());
    let own = validated(&application).unwrap();
    assert_eq!((own.image.as_str(), own.image_pinned), ("mine:2", false));
}

#[test]
fn an_image_must_be_one_word() {
    assert_refused(json!({"image": "a b"}), &["spec.image", "\"a b\""]);
}

#[test]
fn an_ingress_template_is_rendered_or_refused() {
    let ingress = cluster(json!({"ingress": {"template": "https://{{name}}.{{namespace}}.example.com/ui"}}))
        .ingress
        .unwrap();
    assert_eq!(
        (ingress.host.as_deref(), ingress.path.as_str()),
        (Some("wc.default.example.com"), "/ui")
    );
    let path_only = cluster(json!({"ingress": {"template": "/{{namespace}}/{{name}}(/|$)(.*)"}}))
        .ingress
        .unwrap();
    assert_eq!(
        (path_only.host, path_only.path.as_str()),
        (None, "/default/wc(/|$)(.*)")
    );
    assert_refused(
        json!({"ingress": {"template": "{{cluster}}.example.com"}}),
        &["spec.ingress.template", "unknown variable"],
    );
    assert_refused(
        json!({"ingress": {"template": "Not A Host"}}),
        &["is not a DNS name"],
    );
}

#[test]
fn every_problem_is_told_at_once() {
    let message = refused(
        json!({"job": {"upgradeMode": "savepoint", "package": {"uri": "x"}}, "jobManager": {"replicas": 3}}),
    );
    for path in [
        "spec.job.package.uri",
        "spec.job.upgradeMode",
        "spec.jobManager.replicas",
    ] {
        assert!(message.contains(path), "{message}");
    }
}

#[test]
fn a_change_of_one_role_changes_only_its_hash() {
    let before = cluster(json!({}));
    let task_managers = cluster(json!({"taskManager": {"resource": {"memory": "2g"}}}));
    assert_eq!(before.job_manager_hash(), task_managers.job_manager_hash());
    assert_ne!(before.task_manager_hash(), task_managers.task_manager_hash());
    let job =
        cluster(json!({"job": {"args": ["--x"]}, "flinkConfiguration": {"restart-strategy.type": "none"}}));
    assert_ne!(before.job_manager_hash(), job.job_manager_hash());
    assert_eq!(before.task_manager_hash(), job.task_manager_hash());
    let both = cluster(json!({"restartNonce": 1}));
    assert!(
        before.job_manager_hash() != both.job_manager_hash()
            && before.task_manager_hash() != both.task_manager_hash()
    );
}

#[test]
fn number_and_state_are_no_reason_to_replace_a_pod() {
    let before = cluster(json!({}));
    let after = cluster(json!({"taskManager": {"replicas": 5}, "job": {"state": "suspended"}}));
    assert_eq!(before.job_manager_hash(), after.job_manager_hash());
    assert_eq!(before.task_manager_hash(), after.task_manager_hash());
}

#[test]
fn what_asks_for_snapshots_needs_their_folder() {
    let nonces = json!({"job": {"savepointTriggerNonce": 1, "checkpointTriggerNonce": 1}});
    assert_refused(
        nonces,
        &[
            "spec.job.savepointTriggerNonce: needs execution.checkpointing.savepoint-dir",
            "spec.job.checkpointTriggerNonce: needs execution.checkpointing.dir",
        ],
    );
    let keys = json!({"flinkConfiguration": {
        "kubernetes.operator.periodic.savepoint.interval": "6 h",
        "kubernetes.operator.job.savepoint-on-deletion": "true",
    }});
    assert_refused(
        keys,
        &[
            "spec.flinkConfiguration[kubernetes.operator.periodic.savepoint.interval]: needs",
            "spec.flinkConfiguration[kubernetes.operator.job.savepoint-on-deletion]: needs",
        ],
    );
    let former = cluster(json!({
        "job": {"savepointTriggerNonce": 1},
        "flinkConfiguration": {"state.savepoints.dir": "s3://b/sp"},
    }));
    assert_eq!(former.job.unwrap().savepoint_trigger_nonce, Some(1));
}

#[test]
fn the_operators_keys_are_refused_by_name() {
    assert_refused(
        json!({"flinkConfiguration": {"kubernetes.operator.savepoint.history.max.count": "many"}}),
        &[
            "spec.flinkConfiguration[kubernetes.operator.savepoint.history.max.count]",
            "many",
        ],
    );
    assert_refused(
        json!({"job": {"savepointRedeployNonce": 1}}),
        &["spec.job.savepointRedeployNonce: needs spec.job.initialSavepointPath"],
    );
}
