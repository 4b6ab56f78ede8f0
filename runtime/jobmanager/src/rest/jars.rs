//! /jars: packages that were uploaded. Flink's words, so that its tools work: a "jar" is a job package here.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::body::Bytes;
use axum::extract::multipart::Field;
use axum::extract::{FromRequest, Multipart, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use thalweg_types::JobId;
use tokio::io::AsyncWriteExt;

use super::error::RestError;
use super::{Rest, model};
use crate::dispatcher::{JobRequest, RestoreRequest};
use crate::package::Package;

type Answer = Result<Json<Value>, RestError>;

/// Uploaded packages at one time.
const MAX_JARS: usize = 1000;
const MAX_NAME_BYTES: usize = 200;
const SUFFIXES: [&str; 4] = [".tar.gz", ".tgz", ".tar", ".sql"];
/// Of an upload that is too large, so many limits are read and dropped, so that its sender gets to read why.
const DRAINED_LIMITS: u64 = 16;

/// The uploaded packages by id.
pub(crate) struct Jars {
    directory: PathBuf,
    jars: Mutex<BTreeMap<String, Jar>>,
}

#[derive(Clone)]
struct Jar {
    name: String,
    uploaded_ms: u64,
    package: Arc<Package>,
}

impl Jars {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            jars: Mutex::default(),
        }
    }

    fn get(&self, id: &str) -> Result<Jar, RestError> {
        let jars = self.jars.lock().unwrap_or_else(PoisonError::into_inner);
        jars.get(id)
            .cloned()
            .ok_or_else(|| RestError::not_found(format!("Jar file {id} does not exist")))
    }

    fn add(&self, id: &str, jar: Jar) -> Result<(), RestError> {
        let mut jars = self.jars.lock().unwrap_or_else(PoisonError::into_inner);
        if jars.len() >= MAX_JARS {
            let message = format!("{MAX_JARS} packages are uploaded already: delete some (DELETE /jars/:id)");
            return Err(RestError {
                status: StatusCode::INSUFFICIENT_STORAGE,
                message,
            });
        }
        jars.insert(id.to_owned(), jar);
        Ok(())
    }
}

pub(super) async fn list(State(rest): State<Rest>, headers: HeaderMap) -> Json<Value> {
    let address = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let jars = rest.jars.jars.lock().unwrap_or_else(PoisonError::into_inner);
    let files: Vec<Value> = jars
        .iter()
        .map(|(id, jar)| {
            let entry =
                json!({ "name": jar.package.manifest.entry.path, "description": jar.package.manifest.name });
            json!({ "id": id, "name": jar.name, "uploaded": jar.uploaded_ms, "entry": [entry] })
        })
        .collect();
    Json(json!({ "address": format!("http://{address}"), "files": files }))
}

pub(super) async fn remove(State(rest): State<Rest>, Path(id): Path<String>) -> Answer {
    rest.jars.get(&id)?;
    rest.jars
        .jars
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .remove(&id);
    Ok(Json(json!({})))
}

/// Multipart, one field `jarfile`: a package as .tar or .tar.gz, or a script as .sql.
pub(super) async fn upload(State(rest): State<Rest>, request: Request) -> Answer {
    submission_allowed(&rest)?;
    let limit = rest.settings.max_rest_body_bytes;
    let length = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: u64| length > limit) {
        drain(request, limit).await;
        return Err(too_large(limit));
    }
    let mut multipart = Multipart::from_request(request, &()).await.map_err(|error| {
        RestError::bad_request(format!(
            "a multipart form with one field \"jarfile\" is expected: {error}"
        ))
    })?;
    let malformed = |error: axum::extract::multipart::MultipartError| {
        RestError::bad_request(format!("the multipart form can't be read: {}", error.body_text()))
    };
    let Some(field) = multipart.next_field().await.map_err(malformed)? else {
        return Err(RestError::bad_request("Exactly 1 file must be sent, received 0."));
    };
    if field.name() != Some("jarfile") {
        let name = field.name().unwrap_or_default();
        return Err(RestError::bad_request(format!(
            "the form's field is {name:?}, \"jarfile\" is expected"
        )));
    }
    let name = file_name(field.file_name().unwrap_or_default())?;
    let folder = temp_folder(&rest)?;
    // A script's package takes its name from its file.
    let path = folder.path().join(&name);
    receive(field, &path, limit).await?;
    if multipart.next_field().await.map_err(malformed)?.is_some() {
        return Err(RestError::bad_request(
            "Exactly 1 file must be sent, received more.",
        ));
    }
    let imported = rest.submitter.packages.import(&path.to_string_lossy(), "").await;
    let package = imported.map_err(|error| {
        let failure = thalweg_types::Failure::from_error(&error);
        let message = failure.message.replace(path.to_string_lossy().as_ref(), &name);
        RestError::of_failure(&thalweg_types::Failure { message, ..failure })
    })?;
    let id = format!("{}_{name}", JobId::random(&mut rand::rng()));
    let uploaded_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis() as u64;
    rest.jars.add(
        &id,
        Jar {
            name,
            uploaded_ms,
            package,
        },
    )?;
    Ok(Json(
        json!({ "filename": format!("flink-web-upload/{id}"), "status": "success" }),
    ))
}

fn submission_allowed(rest: &Rest) -> Result<(), RestError> {
    if rest.settings.web_submit {
        return Ok(());
    }
    let message = "Submitting over REST is switched off (web.submit.enable)".to_owned();
    Err(RestError {
        status: StatusCode::FORBIDDEN,
        message,
    })
}

fn too_large(limit: u64) -> RestError {
    RestError {
        status: StatusCode::PAYLOAD_TOO_LARGE,
        message: format!(
            "the upload is larger than {limit} bytes (rest.server.max-content-length); \
             raise the limit, or submit the package by its s3:// or https:// address"
        ),
    }
}

/// Reads what the sender still sends: it reads the answer only when it is through.
async fn drain(request: Request, limit: u64) {
    let mut body = request.into_body().into_data_stream();
    let mut dropped = 0;
    while let Some(Ok(chunk)) = body.next().await {
        dropped += chunk.len() as u64;
        if dropped > limit.saturating_mul(DRAINED_LIMITS) {
            return;
        }
    }
}

/// The name a person gave the file, without any way out of a folder.
fn file_name(sent: &str) -> Result<String, RestError> {
    let plain = sent
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte));
    if sent.is_empty() || !plain || sent.starts_with('.') || sent.len() > MAX_NAME_BYTES {
        return Err(RestError::bad_request(format!(
            "the file name {sent:?} is refused: letters, digits, \".\", \"_\", \"-\" and \"+\" are allowed, \
             no folders, at most {MAX_NAME_BYTES} bytes"
        )));
    }
    if !SUFFIXES.iter().any(|suffix| sent.ends_with(suffix)) {
        return Err(RestError::bad_request(format!(
            "{sent:?} is no job package: .tar.gz, .tgz, .tar or .sql is expected (a Java .jar can't be run)"
        )));
    }
    Ok(sent.to_owned())
}

fn temp_folder(rest: &Rest) -> Result<tempfile::TempDir, RestError> {
    let directory = &rest.jars.directory;
    let made = std::fs::create_dir_all(directory).and_then(|()| tempfile::TempDir::new_in(directory));
    made.map_err(|error| RestError {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        message: format!("the upload can't be kept in {}: {error}", directory.display()),
    })
}

/// Streams a field to disk. Beyond the limit it is read and dropped.
async fn receive(mut field: Field<'_>, path: &std::path::Path, limit: u64) -> Result<(), RestError> {
    let disk = |error: std::io::Error| RestError {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        message: format!("the upload can't be kept in {}: {error}", path.display()),
    };
    let mut file = tokio::fs::File::create(path).await.map_err(disk)?;
    let mut size = 0;
    loop {
        let chunk = field.chunk().await;
        let chunk = chunk.map_err(|error| {
            RestError::bad_request(format!("the upload broke off: {}", error.body_text()))
        })?;
        let Some(chunk) = chunk else { break };
        size += chunk.len() as u64;
        if size <= limit {
            file.write_all(&chunk).await.map_err(disk)?;
        } else if size > limit.saturating_mul(DRAINED_LIMITS) {
            break;
        }
    }
    if size > limit {
        return Err(too_large(limit));
    }
    file.flush().await.map_err(disk)
}

/// Flink's JarRunRequestBody; fields of a JVM are accepted where they are empty.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RunRequest {
    entry_class: Option<String>,
    program_args: Option<String>,
    program_args_list: Option<Vec<String>>,
    parallelism: Option<u32>,
    job_id: Option<String>,
    savepoint_path: Option<String>,
    allow_non_restored_state: Option<bool>,
    claim_mode: Option<String>,
    /// Flink's older name of the claim mode.
    restore_mode: Option<String>,
    flink_configuration: Option<BTreeMap<String, String>>,
    /// Ours: the same id leads to the same job.
    operation_id: Option<String>,
}

/// The body if there is one, else the query, as Flink.
fn run_request(query: &HashMap<String, String>, body: &Bytes) -> Result<RunRequest, RestError> {
    let mut request: RunRequest = if body.is_empty() {
        RunRequest::default()
    } else {
        serde_json::from_slice(body).map_err(|error| {
            RestError::bad_request(format!(
                "Request did not match expected format JarRunRequestBody: {error}"
            ))
        })?
    };
    let from_query = |name: &str| query.get(name).cloned();
    if request.parallelism.is_none()
        && let Some(text) = from_query("parallelism")
    {
        let parallelism = text.parse().map_err(|_| {
            RestError::bad_request(format!(
                "Cannot resolve query parameter (parallelism) from value {text:?}"
            ))
        })?;
        request.parallelism = Some(parallelism);
    }
    request.program_args = request.program_args.or_else(|| from_query("program-args"));
    request.job_id = request.job_id.or_else(|| from_query("jobId"));
    request.savepoint_path = request.savepoint_path.or_else(|| from_query("savepointPath"));
    let allow = from_query("allowNonRestoredState").map(|text| text == "true");
    request.allow_non_restored_state = request.allow_non_restored_state.or(allow);
    Ok(request)
}

impl RunRequest {
    fn into_job(self, package: Arc<Package>) -> Result<JobRequest, RestError> {
        if self.entry_class.as_deref().is_some_and(|class| !class.is_empty()) {
            tracing::warn!("entryClass of a run request means nothing here: the package names its entry");
        }
        let arguments = match (self.program_args_list, self.program_args) {
            (Some(list), _) => list,
            (None, Some(text)) => text.split_whitespace().map(str::to_owned).collect(),
            (None, None) => Vec::new(),
        };
        let job_id = match self.job_id.as_deref() {
            None | Some("") => None,
            Some(text) => Some(text.parse().map_err(|error: thalweg_types::id::ParseIdError| {
                RestError::bad_request(format!("jobId: {error}"))
            })?),
        };
        Ok(JobRequest {
            operation_id: self.operation_id.unwrap_or_default(),
            arguments,
            parallelism: self.parallelism.unwrap_or(0),
            configuration: self.flink_configuration.unwrap_or_default(),
            restore: RestoreRequest {
                path: self.savepoint_path.unwrap_or_default(),
                allow_non_restored_state: self.allow_non_restored_state.unwrap_or(false),
                claim_mode: self.claim_mode.or(self.restore_mode).unwrap_or_default(),
            },
            job_id,
            package: Some(package),
            ..JobRequest::default()
        })
    }
}

pub(super) async fn run(
    State(rest): State<Rest>,
    Path(id): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    body: Bytes,
) -> Answer {
    submission_allowed(&rest)?;
    let jar = rest.jars.get(&id)?;
    let request = run_request(&query, &body)?.into_job(jar.package)?;
    let job = rest
        .submitter
        .submit(request)
        .await
        .map_err(|failure| RestError::of_failure(&failure))?;
    Ok(Json(json!({ "jobid": job.to_string() })))
}

/// The JobGraph of a package, without running it.
pub(super) async fn plan(
    State(rest): State<Rest>,
    Path(id): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    body: Bytes,
) -> Answer {
    submission_allowed(&rest)?;
    let jar = rest.jars.get(&id)?;
    let request = run_request(&query, &body)?.into_job(jar.package.clone())?;
    let job_id = request.job_id.unwrap_or_else(|| JobId::random(&mut rand::rng()));
    let planned = rest.submitter.plan(&jar.package, &request, job_id).await;
    let plan = planned.map_err(|failure| RestError::of_failure(&failure))?;
    Ok(Json(json!({ "plan": model::plan(&plan.job_graph) })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_somewhere_are_refused() {
        for name in [
            "../../etc/x.tar",
            "/etc/x.tar",
            "a\\b.tar",
            ".tar",
            "",
            "x\0.tar",
            "a/b.tar.gz",
        ] {
            let error = file_name(name).unwrap_err();
            assert_eq!(error.status, StatusCode::BAD_REQUEST, "{name:?}");
        }
        assert_eq!(
            file_name("word-count_1.0.tar.gz").unwrap(),
            "word-count_1.0.tar.gz"
        );
    }

    #[test]
    fn a_java_jar_is_refused_with_the_reason() {
        assert!(file_name("job.jar").unwrap_err().message.contains("Java"));
    }

    #[test]
    fn the_body_goes_over_the_query() {
        let query = HashMap::from([("parallelism".to_owned(), "2".to_owned())]);
        let from_query = run_request(&query, &Bytes::new()).unwrap();
        assert_eq!(from_query.parallelism, Some(2));
        let from_body = run_request(&query, &Bytes::from_static(b"{\"parallelism\": 3}")).unwrap();
        assert_eq!(from_body.parallelism, Some(3));
    }
}
