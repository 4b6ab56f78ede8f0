//! What the API server refuses by CEL.

use kube::core::cel::Validator;
use serde_json::{Value, json};
use thalweg_crds::generate::custom_resource_definitions;

/// Checks an object of a kind as the API server would, CEL rules only; the messages of what it refuses.
fn refusals(kind: &str, object: &Value, old: Option<&Value>) -> Vec<String> {
    let crd = custom_resource_definitions()
        .into_iter()
        .find(|crd| crd.spec.names.kind == kind)
        .unwrap();
    let schema = crd.spec.versions[0]
        .schema
        .as_ref()
        .unwrap()
        .open_api_v3_schema
        .as_ref()
        .unwrap();
    let schema = serde_json::to_value(schema).unwrap();
    match Validator::new().validate(&schema, object, old) {
        Ok(()) => Vec::new(),
        Err(errors) => vec![errors.to_string()],
    }
}

fn application(name: &str, package: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"job": {"package": package}}})
}

fn session_job(session: &str) -> Value {
    json!({"metadata": {"name": "counts"}, "spec": {
        "sessionName": session, "job": {"package": {"uri": "local:///opt/counts"}}
    }})
}

fn assert_refused(kind: &str, object: &Value, old: Option<&Value>, words: &str) {
    let messages = refusals(kind, object, old);
    assert!(
        messages.iter().any(|message| message.contains(words)),
        "expected {words:?} in {messages:?}"
    );
}

#[test]
fn a_plain_application_is_accepted() {
    let object = application("word-count", json!({"uri": "local:///opt/jobs/word-count"}));
    assert_eq!(refusals("FlinkApplication", &object, None), Vec::<String>::new());
}

#[test]
fn a_name_of_45_characters_is_accepted_and_one_of_46_is_not() {
    let package = json!({"uri": "local:///opt/job"});
    let longest = application(&"a".repeat(45), package.clone());
    assert_eq!(refusals("FlinkApplication", &longest, None), Vec::<String>::new());
    assert_refused(
        "FlinkApplication",
        &application(&"a".repeat(46), package),
        None,
        "45 characters",
    );
    assert_refused(
        "FlinkSession",
        &json!({"metadata": {"name": "a".repeat(46)}, "spec": {}}),
        None,
        "45 characters",
    );
}

#[test]
fn a_name_that_no_service_can_have_is_refused() {
    for name in ["1st-job", "my.job"] {
        assert_refused(
            "FlinkApplication",
            &application(name, json!({"uri": "local:///opt/job"})),
            None,
            "must begin with a letter",
        );
    }
}

#[test]
fn a_package_of_an_unknown_scheme_is_refused() {
    for uri in ["http://example.com/p", "/opt/p", "ftp://x"] {
        assert_refused(
            "FlinkApplication",
            &application("a", json!({"uri": uri})),
            None,
            "uri must begin with",
        );
    }
}

#[test]
fn a_job_is_a_package_or_a_script() {
    let of = |job: Value| json!({"metadata": {"name": "a"}, "spec": {"job": job}});
    let script = of(json!({"sql": "INSERT INTO a SELECT 1"}));
    assert_eq!(refusals("FlinkApplication", &script, None), Vec::<String>::new());
    let package = json!({"uri": "local:///p"});
    for job in [json!({}), json!({"sql": "x", "package": package})] {
        assert_refused(
            "FlinkApplication",
            &of(job),
            None,
            "exactly one of package and sql",
        );
    }
}

#[test]
fn a_package_by_https_needs_its_sha256() {
    let uri = "https://example.com/p.tar.gz";
    assert_refused(
        "FlinkApplication",
        &application("a", json!({"uri": uri})),
        None,
        "needs sha256",
    );
    let with_sum = application("a", json!({"uri": uri, "sha256": "0a".repeat(32)}));
    assert_eq!(
        refusals("FlinkApplication", &with_sum, None),
        Vec::<String>::new()
    );
}

#[test]
fn a_sha256_must_be_one() {
    for sum in ["0A".repeat(32), "0a".repeat(31), "zz".repeat(32)] {
        let object = application("a", json!({"uri": "local:///p", "sha256": sum}));
        assert_refused("FlinkApplication", &object, None, "64 lower-case hex digits");
    }
}

#[test]
fn the_session_of_a_session_job_is_immutable() {
    let old = session_job("one");
    assert_eq!(
        refusals("FlinkSessionJob", &session_job("one"), Some(&old)),
        Vec::<String>::new()
    );
    assert_refused(
        "FlinkSessionJob",
        &session_job("two"),
        Some(&old),
        "sessionName can't be changed",
    );
}

fn snapshot(spec: Value) -> Value {
    json!({"metadata": {"name": "before-upgrade"}, "spec": spec})
}

fn of_word_count(kind: Value) -> Value {
    let mut spec = json!({"jobReference": {"kind": "FlinkApplication", "name": "word-count"}});
    spec.as_object_mut()
        .unwrap()
        .extend(kind.as_object().unwrap().clone());
    snapshot(spec)
}

#[test]
fn a_snapshot_is_a_savepoint_or_a_checkpoint_of_a_job() {
    for kind in [
        json!({"savepoint": {}}),
        json!({"checkpoint": {}}),
        json!({"savepoint": {"path": "s3://b/sp", "disposeOnDelete": false}, "backoffLimit": 2}),
    ] {
        assert_eq!(
            refusals("FlinkStateSnapshot", &of_word_count(kind), None),
            Vec::<String>::new()
        );
    }
    for kind in [json!({}), json!({"savepoint": {}, "checkpoint": {}})] {
        assert_refused(
            "FlinkStateSnapshot",
            &of_word_count(kind),
            None,
            "exactly one of savepoint and checkpoint",
        );
    }
    assert_refused(
        "FlinkStateSnapshot",
        &snapshot(json!({"savepoint": {}})),
        None,
        "jobReference must name the job",
    );
}

#[test]
fn a_savepoint_that_exists_needs_its_path_and_no_job() {
    let existing = snapshot(json!({"savepoint": {"alreadyExists": true, "path": "s3://b/sp/savepoint-1"}}));
    assert_eq!(
        refusals("FlinkStateSnapshot", &existing, None),
        Vec::<String>::new()
    );
    assert_refused(
        "FlinkStateSnapshot",
        &snapshot(json!({"savepoint": {"alreadyExists": true}})),
        None,
        "alreadyExists needs path",
    );
}

#[test]
fn of_a_snapshot_only_its_disposal_and_its_tries_can_be_changed() {
    let old = of_word_count(json!({"savepoint": {}}));
    let kept = of_word_count(json!({"savepoint": {"disposeOnDelete": false}, "backoffLimit": 1}));
    assert_eq!(
        refusals("FlinkStateSnapshot", &kept, Some(&old)),
        Vec::<String>::new()
    );
    let mut other = old.clone();
    other["spec"]["jobReference"]["name"] = "other".into();
    for (changed, words) in [
        (other, "jobReference can't be changed"),
        (of_word_count(json!({"checkpoint": {}})), "nor the reverse"),
        (
            of_word_count(json!({"savepoint": {"path": "s3://b"}})),
            "path can't be changed",
        ),
    ] {
        assert_refused("FlinkStateSnapshot", &changed, Some(&old), words);
    }
}

#[test]
fn a_redeployment_needs_the_savepoint_that_it_starts_from() {
    let mut object = application("a", json!({"uri": "local:///p"}));
    object["spec"]["job"]["savepointRedeployNonce"] = 1.into();
    assert_refused("FlinkApplication", &object, None, "needs initialSavepointPath");
    object["spec"]["job"]["initialSavepointPath"] = "s3://b/sp/1".into();
    assert_eq!(refusals("FlinkApplication", &object, None), Vec::<String>::new());
}
