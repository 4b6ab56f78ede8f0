//! Errors in Flink's shape: `{"errors": ["..."]}`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use thalweg_types::{Failure, FailureClass, JobId};

use crate::error::ShuttingDown;

/// A request that was not served.
#[derive(Debug)]
pub(super) struct RestError {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

impl RestError {
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            message: message.into(),
        }
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            message: message.into(),
        }
    }

    pub(super) fn no_job(job: JobId) -> Self {
        Self::not_found(format!("Could not find Flink job ({job})"))
    }

    pub(super) fn path_parameter(name: &str, value: &str, expected: &str) -> Self {
        Self::bad_request(format!(
            "Cannot resolve path parameter ({name}) from value {value:?}: {expected}"
        ))
    }

    pub(super) fn of_failure(failure: &Failure) -> Self {
        let status = match failure.class {
            FailureClass::Fatal => StatusCode::BAD_REQUEST,
            FailureClass::Retryable => StatusCode::SERVICE_UNAVAILABLE,
            FailureClass::Bug => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self {
            status,
            message: failure.message.clone(),
        }
    }
}

impl From<ShuttingDown> for RestError {
    fn from(error: ShuttingDown) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            message: error.to_string(),
        }
    }
}

impl IntoResponse for RestError {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "errors": [self.message] }))).into_response()
    }
}
