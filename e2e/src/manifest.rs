//! The manifests that tests apply.

use serde_json::{Value, json};

use crate::surroundings::Surroundings;

/// An application of a job package in the example image.
pub fn application(around: &Surroundings, name: &str, job: &str, parallelism: u32, args: &[&str]) -> Value {
    json!({
        "apiVersion": "thalweg.dev/v1alpha1",
        "kind": "FlinkApplication",
        "metadata": {"name": name},
        "spec": {
            "image": around.job_image,
            "imagePullPolicy": "IfNotPresent",
            "flinkConfiguration": {"taskmanager.numberOfTaskSlots": "2"},
            "jobManager": {"resource": {"memory": "256m"}},
            "taskManager": {"resource": {"memory": "512m"}},
            "job": {
                "package": {"uri": format!("local:///opt/thalweg/jobs/{job}")},
                "args": args,
                "parallelism": parallelism,
                "upgradeMode": "stateless"
            }
        }
    })
}

/// A session of the example image; each TaskManager has two slots.
pub fn session(around: &Surroundings, name: &str, task_managers: u32) -> Value {
    json!({
        "apiVersion": "thalweg.dev/v1alpha1",
        "kind": "FlinkSession",
        "metadata": {"name": name},
        "spec": {
            "image": around.job_image,
            "imagePullPolicy": "IfNotPresent",
            "flinkConfiguration": {"taskmanager.numberOfTaskSlots": "2"},
            "jobManager": {"resource": {"memory": "256m"}},
            "taskManager": {"replicas": task_managers, "resource": {"memory": "512m"}}
        }
    })
}

/// A job of a package in the session's image.
pub fn session_job(name: &str, session: &str, job: &str, parallelism: u32, args: &[&str]) -> Value {
    json!({
        "apiVersion": "thalweg.dev/v1alpha1",
        "kind": "FlinkSessionJob",
        "metadata": {"name": name},
        "spec": {
            "sessionName": session,
            "job": {
                "package": {"uri": format!("local:///opt/thalweg/jobs/{job}")},
                "args": args,
                "parallelism": parallelism
            }
        }
    })
}

/// Word count from one topic to another.
pub fn word_count_args<'a>(brokers: &'a str, input: &'a str, output: &'a str) -> Vec<&'a str> {
    vec![
        "--bootstrap-servers",
        brokers,
        "--input-topic",
        input,
        "--output-topic",
        output,
    ]
}
