//! The cluster as a whole: /config, /overview, /jobmanager.

use axum::Json;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::RestError;
use super::{Rest, model};
use crate::metrics;

/// The words of secrets in configuration keys, as Flink hides them.
const SECRET_WORDS: [&str; 9] = [
    "password",
    "secret",
    "fs.azure.account.key",
    "apikey",
    "api-key",
    "auth-params",
    "service-key",
    "token",
    "basic-auth",
];

/// Whether a key's value is shown to nobody.
pub(crate) fn is_secret(key: &str) -> bool {
    let lower = key.to_lowercase();
    SECRET_WORDS.iter().any(|word| lower.contains(word))
}

pub(super) async fn config(State(rest): State<Rest>) -> Json<Value> {
    Json(json!({
        "refresh-interval": rest.settings.refresh_interval.as_millis() as u64,
        "timezone-name": "Coordinated Universal Time",
        "timezone-offset": 0,
        "flink-version": env!("CARGO_PKG_VERSION"),
        "flink-revision": "thalweg",
        "features": {
            "web-submit": rest.settings.web_submit,
            "web-cancel": rest.settings.web_cancel,
            "web-rescale": false,
            "web-history": false,
        },
    }))
}

pub(super) async fn overview(State(rest): State<Rest>) -> Result<Json<Value>, RestError> {
    Ok(Json(
        rest.control
            .read(|dispatcher, _| model::cluster_overview(dispatcher))
            .await?,
    ))
}

pub(super) async fn jobmanager_config(State(rest): State<Rest>) -> Json<Value> {
    let entries = rest
        .configuration
        .iter()
        .map(|(key, value)| json!({ "key": key, "value": if is_secret(key) { "******" } else { value } }));
    Json(entries.collect())
}

/// `?get=a,b`: values of these; without it, the names of all.
#[derive(Debug, Deserialize)]
pub(super) struct MetricsQuery {
    pub(super) get: Option<String>,
}

pub(super) async fn jobmanager_metrics(
    State(rest): State<Rest>,
    Query(query): Query<MetricsQuery>,
) -> Result<Json<Value>, RestError> {
    let values = rest
        .control
        .read(|dispatcher, _| metrics::jobmanager_gauges(dispatcher))
        .await?;
    Ok(Json(model::metrics(
        values.into_iter().map(|(name, value)| (name.to_owned(), value)),
        query.get.as_deref(),
    )))
}
