//! What is built from a cluster.

use serde_json::{Value, json};

use super::*;
use crate::plan::state::RestoreSource;
use crate::testing::{cluster, session_cluster};

fn job_manager_json(cluster: &Cluster) -> Value {
    serde_json::to_value(job_manager(cluster, "h", "op-1", None)).unwrap()
}

fn task_manager_json(cluster: &Cluster) -> Value {
    serde_json::to_value(task_manager(cluster, "0123456789abcdef", 2)).unwrap()
}

fn main_container(pod_spec: &Value) -> &Value {
    let containers = pod_spec["containers"].as_array().unwrap();
    containers
        .iter()
        .find(|container| container["name"] == "flink-main-container")
        .unwrap()
}

#[test]
fn the_job_manager_is_told_its_job() {
    let sum = "0a".repeat(32);
    let cluster = cluster(json!({"job": {
        "package": {"uri": "s3://b/wc", "sha256": sum}, "args": ["--topic", "in $(HOME)"], "parallelism": 4,
    }}));
    let deployment = job_manager_json(&cluster);
    let container = main_container(&deployment["spec"]["template"]["spec"]);
    assert_eq!(container["command"], json!(["thalweg"]));
    assert_eq!(
        container["args"],
        json!([
            "jobmanager",
            "--application",
            "--package",
            "s3://b/wc",
            "--package-sha256",
            sum,
            "--parallelism",
            "4",
            "--operation-id",
            "op-1",
            "--",
            "--topic",
            "in $$(HOME)"
        ])
    );
    assert_eq!(deployment["spec"]["strategy"]["type"], "Recreate");
    assert_eq!(
        container["readinessProbe"]["httpGet"],
        json!({"path": "/overview", "port": 8081})
    );
}

#[test]
fn the_job_manager_is_told_what_to_restore_and_its_configuration_is_not() {
    let cluster = cluster(json!({
        "job": {"upgradeMode": "savepoint", "allowNonRestoredState": true, "args": ["-x"]},
        "flinkConfiguration": {"execution.checkpointing.savepoint-dir": "s3://b/sp"},
    }));
    let restore = RestoreSource {
        path: "s3://b/sp/$(1)".into(),
        claim_mode: thalweg_crds::ClaimMode::NoClaim,
    };
    let deployment = job_manager(&cluster, "h", "op-1", Some(&restore));
    let deployment = serde_json::to_value(deployment).unwrap();
    let args = main_container(&deployment["spec"]["template"]["spec"])["args"].clone();
    let args: Vec<String> = serde_json::from_value(args).unwrap();
    let restore = [
        "--operation-id",
        "op-1",
        "-D",
        "execution.state-recovery.path=s3://b/sp/$$(1)",
        "-D",
        "execution.state-recovery.claim-mode=NO_CLAIM",
        "-D",
        "execution.state-recovery.ignore-unclaimed-state=true",
        "--",
        "-x",
    ];
    assert_eq!(args[args.len() - restore.len()..], restore);
    let yaml = config_map(&cluster).unwrap().data.unwrap()["config.yaml"].clone();
    assert!(!yaml.contains("state-recovery"), "{yaml}");
    assert!(
        yaml.contains("externalized-checkpoint-retention: RETAIN_ON_CANCELLATION"),
        "{yaml}"
    );
}

#[test]
fn an_inline_script_lies_beside_the_configuration_and_is_known_by_its_hash() {
    let cluster = cluster(json!({"job": {
        "package": null, "sql": "INSERT INTO a SELECT '$(HOME)'", "args": ["-D", "topic=bids"],
    }}));
    let files = config_map(&cluster).unwrap().data.unwrap();
    assert_eq!(files["job.sql"], "INSERT INTO a SELECT '$(HOME)'");
    let deployment = job_manager_json(&cluster);
    let args = &main_container(&deployment["spec"]["template"]["spec"])["args"];
    let sum = "e186730ab10f24c8ec9ec9130428f07e8e5e7fb73ffd13d49eb901618e31d16e";
    let expected = [
        "jobmanager",
        "--application",
        "--package",
        "file:///etc/thalweg/job.sql",
        "--package-sha256",
        sum,
        "--operation-id",
        "op-1",
        "--",
        "-D",
        "topic=bids",
    ];
    assert_eq!(*args, json!(expected));
}

#[test]
fn a_sessions_job_manager_has_no_job() {
    let deployment = job_manager_json(&session_cluster(json!({})));
    assert_eq!(
        main_container(&deployment["spec"]["template"]["spec"])["args"],
        json!(["jobmanager"])
    );
}

#[test]
fn the_selector_holds_nothing_that_changes() {
    let deployment = job_manager_json(&cluster(json!({})));
    let selector = deployment["spec"]["selector"]["matchLabels"].as_object().unwrap();
    let labels = deployment["spec"]["template"]["metadata"]["labels"]
        .as_object()
        .unwrap();
    assert!(!selector.contains_key("thalweg.dev/spec-hash"));
    assert!(selector.iter().all(|(key, value)| labels[key] == *value));
}

#[test]
fn a_task_manager_finds_its_job_manager_and_knows_itself() {
    let pod = task_manager_json(&cluster(json!({})));
    assert_eq!(pod["metadata"]["name"], "wc-taskmanager-01234567-2");
    let container = main_container(&pod["spec"]);
    assert_eq!(
        container["args"],
        json!([
            "taskmanager",
            "-D",
            "process.taskmanager.working-dir=/var/lib/thalweg"
        ])
    );
    let env = container["env"].as_array().unwrap();
    let variable = |name: &str| env.iter().find(|variable| variable["name"] == name).unwrap();
    assert_eq!(
        variable("JOB_MANAGER_RPC_ADDRESS")["value"],
        "wc-jobmanager.default"
    );
    assert_eq!(variable("THALWEG_CONF_DIR")["value"], "/etc/thalweg");
    assert_eq!(
        variable("POD_IP")["valueFrom"]["fieldRef"]["fieldPath"],
        "status.podIP"
    );
    assert_eq!(
        variable("POD_NAME")["valueFrom"]["fieldRef"]["fieldPath"],
        "metadata.name"
    );
    assert_eq!(pod["metadata"]["ownerReferences"][0]["uid"], "uid-1");
}

#[test]
fn every_container_is_confined() {
    let with_sidecar = cluster(json!({"podTemplate": {"spec": {
        "containers": [{"name": "logs", "image": "logs:1"}], "initContainers": [{"name": "init", "image": "init:1"}],
    }}}));
    for spec in [
        &job_manager_json(&with_sidecar)["spec"]["template"]["spec"],
        &task_manager_json(&with_sidecar)["spec"],
    ] {
        let all = spec["containers"]
            .as_array()
            .unwrap()
            .iter()
            .chain(spec["initContainers"].as_array().unwrap());
        assert_eq!(all.clone().count(), 3);
        for container in all {
            let context = &container["securityContext"];
            assert_eq!(context["readOnlyRootFilesystem"], true, "{container}");
            assert_eq!(context["allowPrivilegeEscalation"], false);
            assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));
            assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault");
        }
        assert_eq!(
            (
                &spec["securityContext"]["runAsUser"],
                &spec["securityContext"]["runAsNonRoot"]
            ),
            (&json!(9999), &json!(true))
        );
        assert_eq!(spec["automountServiceAccountToken"], false);
        let tmp = spec["volumes"]
            .as_array()
            .unwrap()
            .iter()
            .find(|volume| volume["name"] == "thalweg-tmp")
            .unwrap();
        assert!(tmp["emptyDir"]["sizeLimit"].is_string());
    }
}

#[test]
fn a_task_manager_never_has_a_token() {
    let asked = cluster(json!({"podTemplate": {"spec": {"automountServiceAccountToken": true}}}));
    assert_eq!(
        task_manager_json(&asked)["spec"]["automountServiceAccountToken"],
        false
    );
}

#[test]
fn a_pod_template_adds_and_ours_wins() {
    let cluster = cluster(json!({"podTemplate": {
        "metadata": {"labels": {"team": "a", "app.kubernetes.io/component": "x"}, "annotations": {"prometheus.io/scrape": "false"}},
        "spec": {
            "nodeSelector": {"disk": "ssd"}, "terminationGracePeriodSeconds": 3,
            "containers": [{
                "name": "flink-main-container", "image": "other", "command": ["sh"],
                "env": [{"name": "TZ", "value": "UTC"}], "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }],
            "volumes": [{"name": "data", "emptyDir": {}}],
        },
    }}));
    let pod = task_manager_json(&cluster);
    let container = main_container(&pod["spec"]);
    assert_eq!(
        (&container["image"], &container["command"]),
        (&json!("thalweg:1"), &json!(["thalweg"]))
    );
    assert!(
        container["env"]
            .as_array()
            .unwrap()
            .iter()
            .any(|variable| variable["name"] == "TZ")
    );
    assert_eq!(container["volumeMounts"].as_array().unwrap().len(), 4);
    assert_eq!(pod["spec"]["volumes"].as_array().unwrap().len(), 4);
    assert_eq!(pod["spec"]["nodeSelector"]["disk"], "ssd");
    assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 3);
    assert_eq!(pod["metadata"]["labels"]["team"], "a");
    assert_eq!(
        pod["metadata"]["labels"]["app.kubernetes.io/component"],
        "taskmanager"
    );
    assert_eq!(pod["metadata"]["annotations"]["prometheus.io/scrape"], "false");
}

#[test]
fn a_users_toleration_of_a_lost_node_stays() {
    let cluster = cluster(json!({"podTemplate": {"spec": {"tolerations": [{
        "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5,
    }]}}}));
    let pod = task_manager_json(&cluster);
    let tolerations = pod["spec"]["tolerations"].as_array().unwrap();
    assert_eq!(tolerations.len(), 2);
    assert_eq!(
        (
            &tolerations[0]["tolerationSeconds"],
            &tolerations[1]["tolerationSeconds"]
        ),
        (&json!(5), &json!(30))
    );
}

#[test]
fn resources_are_requests_and_limits() {
    let cluster = cluster(
        json!({"taskManager": {"resource": {"cpu": 0.5, "memory": "2g", "ephemeralStorage": "1Gi"}}}),
    );
    let pod = task_manager_json(&cluster);
    let resources = &main_container(&pod["spec"])["resources"];
    assert_eq!(
        resources["limits"],
        json!({"cpu": "500m", "memory": "2Gi", "ephemeral-storage": "1Gi"})
    );
    assert_eq!(resources["limits"], resources["requests"]);
}

#[test]
fn cpu_may_go_over_its_request_by_flinks_factor() {
    let cluster = cluster(json!({
        "taskManager": {"resource": {"cpu": 0.5}}, "flinkConfiguration": {"kubernetes.taskmanager.cpu.limit-factor": 4},
    }));
    let pod = task_manager_json(&cluster);
    let resources = &main_container(&pod["spec"])["resources"];
    assert_eq!(
        (&resources["requests"]["cpu"], &resources["limits"]["cpu"]),
        (&json!("500m"), &json!("2000m"))
    );
}

#[test]
fn config_yaml_is_flat_and_holds_what_follows_from_the_resource() {
    let cluster = cluster(
        json!({"flinkConfiguration": {"restart-strategy": {"type": "none"}, "taskmanager.numberOfTaskSlots": 2}}),
    );
    let config_map = config_map(&cluster).unwrap();
    let yaml = &config_map.data.unwrap()["config.yaml"];
    let keys: std::collections::BTreeMap<String, String> = serde_yaml::from_str(yaml).unwrap();
    for (key, value) in [
        ("restart-strategy.type", "none"),
        ("taskmanager.numberOfTaskSlots", "2"),
        ("jobmanager.rpc.address", "wc-jobmanager.default"),
        ("taskmanager.memory.process.size", "1g"),
    ] {
        assert_eq!(keys[key], value, "{key}");
    }
}

#[test]
fn a_job_manager_may_touch_its_one_lease_and_nothing_else() {
    let role = role(&cluster(json!({})));
    let rules = role.rules.unwrap();
    assert_eq!(rules.len(), 1);
    assert_eq!(
        rules[0].resources.as_deref(),
        Some(["leases".to_owned()].as_slice())
    );
    assert_eq!(
        rules[0].resource_names.as_deref(),
        Some(["wc-jobmanager".to_owned()].as_slice())
    );
    assert!(
        !rules[0]
            .verbs
            .iter()
            .any(|verb| verb == "create" || verb == "list" || verb == "*")
    );
}

/// An application whose JobManagers stand by for each other.
fn highly_available(spec: Value) -> Cluster {
    let mut all = json!({
        "jobManager": {"replicas": 2},
        "flinkConfiguration": {"high-availability.type": "kubernetes", "high-availability.storageDir": "s3://b/ha"},
    });
    crate::testing::merge(&mut all, spec);
    cluster(all)
}

#[test]
fn job_managers_that_stand_by_have_the_token_for_their_lease_and_prefer_different_nodes() {
    let cluster = highly_available(json!({}));
    let deployment = job_manager_json(&cluster);
    assert_eq!(
        (
            &deployment["spec"]["replicas"],
            &deployment["spec"]["strategy"]["type"]
        ),
        (&json!(2), &json!("Recreate"))
    );
    let spec = &deployment["spec"]["template"]["spec"];
    assert_eq!(spec["automountServiceAccountToken"], true);
    let lease = json!({"name": "THALWEG_LEASE_NAME", "value": "wc-jobmanager"});
    let container = main_container(spec);
    assert!(container["env"].as_array().unwrap().contains(&lease));
    let preferred =
        &spec["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0];
    assert_eq!(
        preferred["podAffinityTerm"]["topologyKey"],
        "kubernetes.io/hostname"
    );
    let selected = &preferred["podAffinityTerm"]["labelSelector"]["matchLabels"];
    assert_eq!(*selected, deployment["spec"]["selector"]["matchLabels"]);
    assert_eq!(
        task_manager_json(&cluster)["spec"]["automountServiceAccountToken"],
        false
    );
    let budget = serde_json::to_value(disruption_budget(&cluster).unwrap()).unwrap();
    assert_eq!(
        (
            &budget["spec"]["maxUnavailable"],
            &budget["spec"]["selector"]["matchLabels"]
        ),
        (&json!(1), selected)
    );
    let yaml = config_map(&cluster).unwrap().data.unwrap()["config.yaml"].clone();
    assert!(
        yaml.contains("high-availability.cluster-id: default/wc/uid-1"),
        "{yaml}"
    );
}

#[test]
fn one_job_manager_has_no_token_no_budget_and_no_place_for_others() {
    let cluster = cluster(json!({}));
    let deployment = job_manager_json(&cluster);
    assert!(deployment["spec"]["template"]["spec"]["affinity"].is_null());
    assert!(disruption_budget(&cluster).is_none());
    let yaml = config_map(&cluster).unwrap().data.unwrap()["config.yaml"].clone();
    assert!(!yaml.contains("high-availability"), "{yaml}");
}

#[test]
fn where_job_managers_may_be_is_the_users_to_say() {
    let anti = json!({"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]});
    let template = json!({"spec": {"affinity": {"podAntiAffinity": anti}}});
    let cluster = highly_available(json!({"jobManager": {"podTemplate": template}}));
    let spec = &job_manager_json(&cluster)["spec"]["template"]["spec"];
    assert_eq!(spec["affinity"]["podAntiAffinity"], anti);
}

#[test]
fn a_task_manager_works_in_a_volume_that_outlives_its_container() {
    let volume = |cluster: &Cluster| {
        let pod = task_manager_json(cluster);
        let volumes = pod["spec"]["volumes"].as_array().unwrap().clone();
        let mounts = main_container(&pod["spec"])["volumeMounts"]
            .as_array()
            .unwrap()
            .clone();
        let found = volumes
            .into_iter()
            .find(|volume| volume["name"] == "thalweg-work");
        let mount = mounts
            .into_iter()
            .find(|mount| mount["mountPath"] == "/var/lib/thalweg");
        (found, mount, main_container(&pod["spec"])["args"].clone())
    };
    let limited = cluster(json!({"taskManager": {"resource": {"ephemeralStorage": "2Gi"}}}));
    let (found, mount, _) = volume(&limited);
    assert_eq!(found.unwrap()["emptyDir"]["sizeLimit"], "2Gi");
    assert_eq!(mount.unwrap()["name"], "thalweg-work");

    let template = json!({"spec": {
        "containers": [{"name": "flink-main-container", "volumeMounts": [{"name": "ssd", "mountPath": "/var/lib/thalweg/"}]}],
        "volumes": [{"name": "ssd", "hostPath": {"path": "/mnt/ssd"}}],
    }});
    let (found, _, args) = volume(&cluster(json!({"taskManager": {"podTemplate": template}})));
    assert!(found.is_none());
    assert_eq!(args.as_array().unwrap().len(), 3);

    let elsewhere = json!({"flinkConfiguration": {"process.taskmanager.working-dir": "/data"}});
    let (found, mount, args) = volume(&cluster(elsewhere));
    assert_eq!((found, mount, args), (None, None, json!(["taskmanager"])));
}

#[test]
fn a_users_own_service_account_is_used_and_none_is_made() {
    let cluster = cluster(json!({"serviceAccount": "mine"}));
    assert!(service_account(&cluster).is_none());
    assert_eq!(role_binding(&cluster).subjects.unwrap()[0].name, "mine");
    assert_eq!(task_manager_json(&cluster)["spec"]["serviceAccountName"], "mine");
}

#[test]
fn the_control_service_is_headless_and_names_pods_that_are_not_ready() {
    let service = serde_json::to_value(job_manager_service(&cluster(json!({})))).unwrap();
    assert_eq!(service["spec"]["clusterIP"], "None");
    assert_eq!(service["spec"]["publishNotReadyAddresses"], true);
    assert_eq!(service["spec"]["ports"][0]["port"], 6123);
}

#[test]
fn an_ingress_leads_to_the_rest_service() {
    let cluster = cluster(
        json!({"ingress": {"template": "{{name}}.example.com", "className": "nginx", "annotations": {"a": "b"}}}),
    );
    let ingress = serde_json::to_value(ingress(&cluster).unwrap()).unwrap();
    assert_eq!(ingress["spec"]["rules"][0]["host"], "wc.example.com");
    assert_eq!(
        ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"],
        "wc-rest"
    );
    assert_eq!(
        (
            &ingress["spec"]["ingressClassName"],
            &ingress["metadata"]["annotations"]["a"]
        ),
        (&json!("nginx"), &json!("b"))
    );
}

#[test]
fn names_of_the_longest_resource_are_legal() {
    let name = "a".repeat(thalweg_crds::NAME_MAX_LENGTH);
    for label in [
        names::job_manager(&name),
        names::rest(&name),
        names::config(&name),
    ] {
        assert!(label.len() <= 63, "{label}");
    }
    assert!(names::task_manager(&name, "0123456789abcdef", 4095).len() <= 253);
}
