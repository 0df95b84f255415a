//! Why a request is refused: problem+json (RFC 9457), with diagnostics where rules are wrong.

use crate::rule::Diagnostic;
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::time::Duration;

/// The type of the body.
pub const KIND: &str = "application/problem+json";

/// A refusal. `detail` says what, where, and what to do.
#[derive(Debug)]
pub struct Problem {
    pub status: StatusCode,
    pub title: &'static str,
    pub detail: String,
    pub diagnostics: Vec<Diagnostic>,
    /// After which time to come again, where that may help.
    pub wait: Duration,
}

impl Problem {
    pub fn new(status: StatusCode, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, title, detail: detail.into(), diagnostics: Vec::new(), wait: Duration::from_secs(1) }
    }

    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "the request is not understood", detail)
    }

    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not found", format!("there is no {what}"))
    }

    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "the request does not fit what there is", detail)
    }

    pub fn rules(detail: impl Into<String>, diagnostics: Vec<Diagnostic>) -> Self {
        Self { diagnostics, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "the rules are not accepted", detail) }
    }

    pub fn too_many(detail: impl Into<String>, wait: Duration) -> Self {
        Self { wait, ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too many requests", detail) }
    }

    /// Something that is not the caller's fault. What it was is in the log, and not told.
    pub fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the request failed", "the cause is in the log of the process")
    }
}

/// For the log: what is wrong, and the first of what is wrong with rules.
impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.detail)?;
        self.diagnostics.first().map_or(Ok(()), |first| write!(f, ": {first}"))
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        Self::internal(&error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({"title": self.title, "status": self.status.as_u16(), "detail": self.detail});
        if !self.diagnostics.is_empty() {
            body["diagnostics"] = json!(self.diagnostics);
        }
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(KIND));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE || self.status == StatusCode::TOO_MANY_REQUESTS {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(self.wait.as_secs_f64().ceil().max(1.0) as u64));
        }
        response
    }
}
