//! REST over real HTTP: Flink's shapes, and each bad input.

use reqwest::multipart::{Form, Part};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use thalweg_proto::control::v1::TaskState;
use thalweg_types::JobId;

use crate::testing::{Running, ScriptedTaskManager, job_archive, job_manager};

mod snapshots;

struct Api<'a> {
    running: &'a Running,
    client: Client,
}

impl Running {
    fn api(&self) -> Api<'_> {
        Api {
            running: self,
            client: Client::new(),
        }
    }
}

impl Api<'_> {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.running.handle.rest_address())
    }

    async fn call(&self, method: Method, path: &str, body: Option<&str>) -> (StatusCode, Value) {
        let mut request = self.client.request(method, self.url(path));
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body.to_owned());
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        (status, response.json().await.unwrap())
    }

    async fn get(&self, path: &str) -> Value {
        let (status, value) = self.call(Method::GET, path, None).await;
        assert_eq!(status, StatusCode::OK, "{path}: {value}");
        value
    }

    async fn error(&self, method: Method, path: &str, body: Option<&str>) -> (StatusCode, String) {
        let (status, value) = self.call(method, path, body).await;
        (status, only_error(&value))
    }

    async fn upload(&self, field: &str, name: &str, content: Vec<u8>) -> (StatusCode, Value) {
        let part = Part::bytes(content).file_name(name.to_owned());
        let form = Form::new().part(field.to_owned(), part);
        let response = self
            .client
            .post(self.url("/jars/upload"))
            .multipart(form)
            .send()
            .await
            .unwrap();
        (response.status(), response.json().await.unwrap())
    }

    /// The id of an uploaded package.
    async fn uploaded(&self) -> String {
        let (status, answer) = self.upload("jarfile", "counts.tar", job_archive("counts")).await;
        assert_eq!(
            (status, &answer["status"]),
            (StatusCode::OK, &json!("success")),
            "{answer}"
        );
        let filename = answer["filename"].as_str().unwrap();
        filename.rsplit('/').next().unwrap().to_owned()
    }
}

fn only_error(value: &Value) -> String {
    let errors = value["errors"]
        .as_array()
        .unwrap_or_else(|| panic!("{value} has Flink's error shape"));
    assert_eq!(errors.len(), 1, "{value}");
    errors[0].as_str().unwrap().to_owned()
}

async fn running_job(running: &Running) -> (JobId, ScriptedTaskManager) {
    let task_manager = ScriptedTaskManager::connect(running, "tm", 2).await;
    let job = running.submit("counts", &[("parallelism.default", "2")]).await;
    running.until(job, "RUNNING").await;
    let mut status = running.handle.watch_job(job).await.unwrap().unwrap();
    status.wait_for(|status| status.tasks_running == 4).await.unwrap();
    (job, task_manager)
}

#[tokio::test]
async fn an_empty_cluster_has_flinks_shape_with_and_without_prefix() {
    let running = job_manager(&[("s3.secret-key", "hush"), ("parallelism.default", "3")], None).await;
    let api = running.api();
    for prefix in ["", "/v1"] {
        let overview = api.get(&format!("{prefix}/overview")).await;
        assert_eq!(overview["slots-total"], 0);
        assert_eq!(overview["jobs-running"], 0);
    }
    assert_eq!(api.get("/config").await["features"]["web-submit"], true);
    assert_eq!(api.get("/jobs").await, json!({ "jobs": [] }));
    assert_eq!(api.get("/jobs/overview").await, json!({ "jobs": [] }));
    assert_eq!(api.get("/taskmanagers").await, json!({ "taskmanagers": [] }));
    assert_eq!(api.get("/jars").await["files"], json!([]));
    let config = api.get("/jobmanager/config").await;
    assert!(
        config
            .as_array()
            .unwrap()
            .contains(&json!({ "key": "parallelism.default", "value": "3" }))
    );
    assert!(
        config
            .as_array()
            .unwrap()
            .contains(&json!({ "key": "s3.secret-key", "value": "******" }))
    );
    let metrics = api
        .get("/jobmanager/metrics?get=taskSlotsTotal,numRunningJobs")
        .await;
    assert_eq!(
        metrics,
        json!([{ "id": "numRunningJobs", "value": "0" }, { "id": "taskSlotsTotal", "value": "0" }])
    );
}

#[tokio::test]
async fn a_running_job_is_described_as_flink_does() {
    let running = job_manager(&[], None).await;
    let (job, task_manager) = running_job(&running).await;
    let api = running.api();
    let overview = &api.get("/jobs/overview").await["jobs"][0];
    assert_eq!(
        (&overview["jid"], &overview["state"]),
        (&json!(job.to_string()), &json!("RUNNING"))
    );
    assert_eq!(
        (&overview["tasks"]["total"], &overview["tasks"]["running"]),
        (&json!(4), &json!(4))
    );
    assert_eq!(overview["end-time"], -1);

    let details = api.get(&format!("/jobs/{job}")).await;
    assert_eq!(details["name"], "counts");
    assert_eq!(details["vertices"].as_array().unwrap().len(), 2);
    let vertex = &details["vertices"][1];
    assert_eq!(
        (&vertex["status"], &vertex["parallelism"]),
        (&json!("RUNNING"), &json!(2))
    );
    assert_eq!(vertex["tasks"]["RUNNING"], 2);
    assert!(details["timestamps"]["RUNNING"].as_u64().unwrap() > 0);
    let node = &details["plan"]["nodes"][1];
    assert_eq!(
        (&node["id"], &node["inputs"][0]["ship_strategy"]),
        (&vertex["id"], &json!("HASH"))
    );
    assert_eq!(
        api.get(&format!("/jobs/{job}/plan")).await["plan"],
        details["plan"]
    );
    assert_eq!(
        api.get(&format!("/jobs/{job}/status")).await,
        json!({ "status": "RUNNING" })
    );
    assert_eq!(
        api.get(&format!("/jobs/{job}/config")).await["execution-config"]["job-parallelism"],
        2
    );
    assert_eq!(
        api.get(&format!("/jobs/{job}/execution-result")).await,
        json!({ "status": { "id": "IN_PROGRESS" } })
    );
    let names = api.get(&format!("/jobs/{job}/metrics")).await;
    assert!(
        names
            .as_array()
            .unwrap()
            .contains(&json!({ "id": "numRestarts" }))
    );
    assert_eq!(
        api.get(&format!("/jobs/{job}/metrics?get=numRestarts")).await,
        json!([{ "id": "numRestarts", "value": "0" }])
    );

    let vid = vertex["id"].as_str().unwrap();
    let subtasks = api.get(&format!("/jobs/{job}/vertices/{vid}")).await;
    assert_eq!(subtasks["subtasks"][1]["taskmanager-id"], "tm");
    assert_eq!(subtasks["subtasks"][1]["attempt"], 0);
    task_manager.report_all(TaskState::Finished).await;
    running.until(job, "FINISHED").await;
    let result = api.get(&format!("/jobs/{job}/execution-result")).await;
    assert_eq!(result["job-execution-result"]["application-status"], "SUCCEEDED");
    assert_eq!(api.get("/overview").await["jobs-finished"], 1);
}

#[tokio::test]
async fn counters_of_tasks_come_from_the_newest_heartbeat() {
    let running = job_manager(&[], None).await;
    let (job, task_manager) = running_job(&running).await;
    let api = running.api();
    task_manager.heartbeat(21).await;
    let records = async || {
        let details = api.get(&format!("/jobs/{job}")).await;
        details["vertices"][1]["metrics"]["read-records"]
            .as_u64()
            .unwrap()
    };
    while records().await != 42 {
        tokio::task::yield_now().await;
    }
    let vid = api.get(&format!("/jobs/{job}")).await["vertices"][1]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let values = api
        .get(&format!("/jobs/{job}/vertices/{vid}/metrics?get=0.numRecordsIn"))
        .await;
    assert_eq!(values, json!([{ "id": "0.numRecordsIn", "value": "21" }]));
    let pressure = api.get(&format!("/jobs/{job}/vertices/{vid}/backpressure")).await;
    assert_eq!(
        (
            &pressure["backpressureLevel"],
            &pressure["subtasks"][0]["busyRatio"]
        ),
        (&json!("ok"), &json!(0.25))
    );
    task_manager.finish_all(50).await;
    running.until(job, "FINISHED").await;
    assert_eq!(
        records().await,
        100,
        "a finished job shows what was counted to the end"
    );
}

#[tokio::test]
async fn a_failed_job_tells_why() {
    let running = job_manager(&[], None).await;
    let (job, task_manager) = running_job(&running).await;
    task_manager.kill();
    running.until(job, "FAILED").await;
    let api = running.api();
    let history = &api.get(&format!("/jobs/{job}/exceptions")).await["exceptionHistory"];
    let name = history["entries"][0]["exceptionName"].as_str().unwrap();
    assert!(name.contains("TaskManager tm is lost"), "{name}");
    assert_eq!(history["truncated"], false);
    let none = &api.get(&format!("/jobs/{job}/exceptions?maxExceptions=0")).await["exceptionHistory"];
    assert_eq!((&none["entries"], &none["truncated"]), (&json!([]), &json!(true)));
    let result = api.get(&format!("/jobs/{job}/execution-result")).await;
    let cause = result["job-execution-result"]["failure-cause"]["stack-trace"]
        .as_str()
        .unwrap();
    assert!(cause.contains("TaskManager tm is lost"), "{cause}");
}

#[tokio::test]
async fn cancel_is_accepted_repeated_and_refused_where_it_is_too_late() {
    let running = job_manager(&[], None).await;
    let (job, _task_manager) = running_job(&running).await;
    let api = running.api();
    let path = format!("/jobs/{job}?mode=cancel");
    assert_eq!(
        api.call(Method::PATCH, &path, None).await,
        (StatusCode::ACCEPTED, json!({}))
    );
    running.until(job, "CANCELED").await;
    assert_eq!(api.call(Method::PATCH, &path, None).await.0, StatusCode::ACCEPTED);
    let (status, error) = api
        .error(Method::PATCH, &format!("/jobs/{job}?mode=stop"), None)
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(error.contains("mode") && error.contains("stop"), "{error}");

    let task_manager = ScriptedTaskManager::connect(&running, "other", 2).await;
    let finished = running.submit("finished", &[]).await;
    running.until(finished, "RUNNING").await;
    while running
        .handle
        .snapshot()
        .await
        .unwrap()
        .jobs
        .iter()
        .any(|job| job.state == "RUNNING")
    {
        task_manager.report_all(TaskState::Finished).await;
        _task_manager.report_all(TaskState::Finished).await;
    }
    let (status, error) = api.error(Method::PATCH, &format!("/jobs/{finished}"), None).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(error.contains("FINISHED"), "{error}");
}

#[tokio::test]
async fn wrong_ids_and_paths_are_answered_in_flinks_error_shape() {
    let running = job_manager(&[], None).await;
    let (job, _task_manager) = running_job(&running).await;
    let api = running.api();
    let unknown = "0".repeat(32);
    for suffix in [
        "",
        "/status",
        "/plan",
        "/config",
        "/exceptions",
        "/metrics",
        "/execution-result",
    ] {
        let (status, error) = api.error(Method::GET, &format!("/jobs/zz{suffix}"), None).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(error.contains("(jobid) from value \"zz\""), "{error}");
        let (status, error) = api
            .error(Method::GET, &format!("/jobs/{unknown}{suffix}"), None)
            .await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(error, format!("Could not find Flink job ({unknown})"));
    }
    assert_eq!(
        api.error(Method::PATCH, "/jobs/zz?mode=cancel", None).await.0,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        api.error(Method::PATCH, &format!("/jobs/{unknown}"), None)
            .await
            .0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        api.error(Method::GET, &format!("/jobs/{job}/vertices/zz"), None)
            .await
            .0,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        api.error(Method::GET, &format!("/jobs/{job}/vertices/{unknown}"), None)
            .await
            .0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        api.error(
            Method::GET,
            &format!("/jobs/{job}/exceptions?maxExceptions=x"),
            None
        )
        .await
        .0,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        api.error(Method::GET, "/taskmanagers/nobody", None).await.0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        api.error(Method::GET, "/no/such/path", None).await,
        (StatusCode::NOT_FOUND, "Not found: /no/such/path".to_owned())
    );
    assert_eq!(
        api.error(Method::DELETE, "/overview", None).await.0,
        StatusCode::METHOD_NOT_ALLOWED
    );
    assert_eq!(
        api.error(Method::POST, "/jars/none.tar/run", None).await.0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        api.error(Method::DELETE, "/jars/none.tar", None).await.0,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn task_managers_are_listed_with_their_slots() {
    let running = job_manager(&[], None).await;
    let (job, _task_manager) = running_job(&running).await;
    let api = running.api();
    let listed = &api.get("/taskmanagers").await["taskmanagers"][0];
    assert_eq!(
        (&listed["id"], &listed["slotsNumber"], &listed["freeSlots"]),
        (&json!("tm"), &json!(2), &json!(0))
    );
    assert_eq!(listed["hardware"]["cpuCores"], 2);
    let details = api.get("/taskmanagers/tm").await;
    assert_eq!(details["allocatedSlots"][1]["jobId"], job.to_string());
}

#[tokio::test]
async fn a_package_is_uploaded_planned_run_and_deleted() {
    let running = job_manager(&[], None).await;
    let api = running.api();
    let jar = api.uploaded().await;
    let listed = api.get("/jars").await;
    assert_eq!(
        (&listed["files"][0]["id"], &listed["files"][0]["name"]),
        (&json!(jar), &json!("counts.tar"))
    );
    let (status, plan) = api
        .call(Method::GET, &format!("/jars/{jar}/plan?parallelism=3"), None)
        .await;
    assert_eq!(
        (status, &plan["plan"]["nodes"][0]["parallelism"]),
        (StatusCode::OK, &json!(3)),
        "{plan}"
    );
    let job_id = "0123456789abcdef0123456789abcdef";
    let body = json!({ "parallelism": 2, "programArgsList": ["--in", "a b"], "jobId": job_id }).to_string();
    let (status, answer) = api
        .call(Method::POST, &format!("/v1/jars/{jar}/run"), Some(&body))
        .await;
    assert_eq!((status, answer), (StatusCode::OK, json!({ "jobid": job_id })));
    assert_eq!(
        api.get(&format!("/jobs/{job_id}")).await["vertices"][0]["parallelism"],
        2
    );
    assert_eq!(
        api.call(Method::DELETE, &format!("/jars/{jar}"), None).await,
        (StatusCode::OK, json!({}))
    );
    assert_eq!(api.get("/jars").await["files"], json!([]));
    assert_eq!(
        api.get(&format!("/jobs/{job_id}/status")).await["status"],
        "CREATED",
        "the job keeps its package"
    );
}

#[tokio::test]
async fn run_requests_that_make_no_sense_are_refused_with_the_reason() {
    let running = job_manager(&[], None).await;
    let api = running.api();
    let jar = api.uploaded().await;
    let path = format!("/jars/{jar}/run");
    let refused = async |body: &str| {
        let (status, error) = api.error(Method::POST, &path, Some(body)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{error}");
        error
    };
    assert!(
        refused("{not json")
            .await
            .contains("Request did not match expected format")
    );
    assert!(
        refused("{\"parallelism\": \"many\"}")
            .await
            .contains("Request did not match expected format")
    );
    assert!(refused("{\"jobId\": \"zz\"}").await.contains("32 hex digits"));
    let error = refused("{\"savepointPath\": \"/no/such/savepoint\"}").await;
    assert!(
        error.contains("/no/such/savepoint/_metadata does not exist"),
        "{error}"
    );
    let error = refused("{\"claimMode\": \"LEGACY\"}").await;
    assert!(error.contains("NO_CLAIM or CLAIM"), "{error}");
    let error = refused("{\"flinkConfiguration\": {\"parallelism.defualt\": \"2\"}}").await;
    assert!(
        error.contains("parallelism.defualt") && error.contains("parallelism.default"),
        "{error}"
    );
}

#[tokio::test]
async fn uploads_that_are_no_packages_are_refused_with_the_reason() {
    let running = job_manager(&[], None).await;
    let api = running.api();
    let refused = async |field: &str, name: &str, content: &[u8]| {
        let (status, answer) = api.upload(field, name, content.to_vec()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
        only_error(&answer)
    };
    let archive = job_archive("counts");
    for name in ["../../evil.tar", "/etc/evil.tar", "..%2Fevil.tar"] {
        let error = refused("jarfile", name, &archive).await;
        assert!(
            error.contains("file name") && error.contains("is refused"),
            "{error}"
        );
    }
    assert!(
        refused("jarfile", "job.jar", &archive)
            .await
            .contains("a Java .jar can't be run")
    );
    assert!(
        refused("file", "job.tar", &archive)
            .await
            .contains("\"jarfile\" is expected")
    );
    let error = refused("jarfile", "job.tar", b"no archive").await;
    assert!(error.starts_with("job.tar is not a job package"), "{error}");
    let (status, error) = api.error(Method::POST, "/jars/upload", Some("{}")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(error.contains("multipart"), "{error}");
    assert_eq!(api.get("/jars").await["files"], json!([]));
}

#[tokio::test]
async fn an_upload_beyond_the_limit_is_told_so_announced_or_not() {
    let running = job_manager(&[("rest.server.max-content-length", "1000000")], None).await;
    let api = running.api();
    let (status, answer) = api.upload("jarfile", "large.tar", vec![0; 2_000_000]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(
        only_error(&answer).contains("rest.server.max-content-length"),
        "{answer}"
    );

    // in chunks, without saying how many
    let chunks = futures::stream::iter((0..20).map(|_| Ok::<_, std::io::Error>(vec![0_u8; 100_000])));
    let part = Part::stream(reqwest::Body::wrap_stream(chunks)).file_name("large.tar");
    let form = Form::new().part("jarfile", part);
    let response = api
        .client
        .post(api.url("/jars/upload"))
        .multipart(form)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn what_is_switched_off_is_forbidden() {
    let running = job_manager(
        &[("web.submit.enable", "false"), ("web.cancel.enable", "false")],
        None,
    )
    .await;
    let api = running.api();
    assert_eq!(
        api.upload("jarfile", "job.tar", Vec::new()).await.0,
        StatusCode::FORBIDDEN
    );
    let path = format!("/jobs/{}", "0".repeat(32));
    assert_eq!(
        api.call(Method::PATCH, &path, None).await.0,
        StatusCode::FORBIDDEN
    );
}
