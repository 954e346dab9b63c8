//! Answers of the Admin API, made of values: a status, headers and bytes.
//!
//! Every error has a `message`, as Kong's tools print nothing else. This is the one place where a rejection or a
//! store's failure becomes a status code; below the surface nobody knows them. A builder type with optional parts was
//! the alternative: `http::Response` is one already.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, WARNING};
use http::{Response, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use tidegate_proto::Revision;

use crate::entity::problem::Rejection;
use crate::store::StoreError;

pub(crate) type Reply = Response<Bytes>;

/// Where a write stands: `EPOCH.NUMBER`.
pub(crate) const REVISION: HeaderName = HeaderName::from_static("x-tidegate-revision");

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// Kong: the stock page of its web server, not JSON.
const UNSUPPORTED_MEDIA_TYPE: &str = "<html>\r\n<head><title>415 Unsupported Media Type</title></head>\r\n\
    <body>\r\n<center><h1>415 Unsupported Media Type</h1></center>\r\n</body>\r\n</html>\r\n";

pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Reply {
    match serde_json::to_vec(body) {
        Ok(bytes) => of_type(status, JSON, bytes),
        Err(error) => unexpected(&error),
    }
}

pub(crate) fn ok(body: &impl Serialize) -> Reply {
    json(StatusCode::OK, body)
}

pub(crate) fn message(status: StatusCode, text: &str) -> Reply {
    json(status, &json!({ "message": text }))
}

pub(crate) fn bad_request(text: &str) -> Reply {
    message(StatusCode::BAD_REQUEST, text)
}

pub(crate) fn not_found() -> Reply {
    message(StatusCode::NOT_FOUND, "Not found")
}

pub(crate) fn method_not_allowed() -> Reply {
    message(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")
}

pub(crate) fn unsupported_media_type() -> Reply {
    let html = HeaderValue::from_static("text/html; charset=UTF-8");
    of_type(StatusCode::UNSUPPORTED_MEDIA_TYPE, html, UNSUPPORTED_MEDIA_TYPE)
}

/// 201 with a body that is JSON already.
pub(crate) fn created(body: String) -> Reply {
    of_type(StatusCode::CREATED, JSON, body)
}

/// No body: 204 and 304.
pub(crate) fn empty(status: StatusCode) -> Reply {
    let mut reply = Reply::default();
    *reply.status_mut() = status;
    reply
}

pub(crate) fn text(body: impl Into<Bytes>) -> Reply {
    of_type(StatusCode::OK, HeaderValue::from_static("text/plain; charset=UTF-8"), body)
}

/// Something that is our fault: logged here, and the client learns only that it happened.
pub(crate) fn unexpected(why: &dyn std::fmt::Display) -> Reply {
    tracing::error!(%why, "an Admin API request failed");
    message(StatusCode::INTERNAL_SERVER_ERROR, "An unexpected error occurred")
}

pub(crate) fn with_revision(mut reply: Reply, revision: Revision) -> Reply {
    if let Ok(value) = HeaderValue::try_from(revision.to_string()) {
        reply.headers_mut().insert(REVISION, value);
    }
    reply
}

/// What whoever wrote should know, though it was accepted: one `Warning` each, as RFC 7234 spells them.
pub(crate) fn with_notices(mut reply: Reply, notices: &[&str]) -> Reply {
    for notice in notices {
        if let Ok(value) = HeaderValue::try_from(format!("299 tidegate \"{notice}\"")) {
            reply.headers_mut().append(WARNING, value);
        }
    }
    reply
}

pub(crate) fn rejected(rejection: &Rejection) -> Reply {
    json(status_of(rejection), &rejection.body())
}

/// What the store's failure means to a client. `Kong:` has one 500 for all of it; we tell "try again" from "call us".
pub(crate) fn store_failed(error: &StoreError) -> Reply {
    match error {
        StoreError::Unavailable(why) => {
            tracing::warn!(%why, "an Admin API write was refused: the store is away");
            let text = format!("nothing was written, and traffic is served as before: {why}");
            message(StatusCode::SERVICE_UNAVAILABLE, &text)
        }
        StoreError::Unknown(why) => {
            tracing::warn!(%why, "an Admin API write has an unknown outcome");
            let text = "the database went away while committing, so the write stands whole or not at all: \
                        read it back before trying again";
            message(StatusCode::SERVICE_UNAVAILABLE, text)
        }
        StoreError::ReadOnly => {
            let message = "cannot write entities when not using a database".to_owned();
            rejected(&Rejection::Unsupported { message })
        }
        StoreError::Schema(_) | StoreError::Broken(_) => unexpected(error),
    }
}

fn status_of(rejection: &Rejection) -> StatusCode {
    match rejection {
        Rejection::UniqueTaken { .. } => StatusCode::CONFLICT,
        Rejection::NotFound { .. } => StatusCode::NOT_FOUND,
        Rejection::Unsupported { .. } => StatusCode::METHOD_NOT_ALLOWED,
        Rejection::InvalidPrimaryKey
        | Rejection::Schema(_)
        | Rejection::PrimaryKeyTaken { .. }
        | Rejection::DanglingReference { .. }
        | Rejection::StillReferenced { .. }
        | Rejection::InvalidOffset { .. }
        | Rejection::InvalidSize { .. }
        | Rejection::InvalidKey { .. }
        | Rejection::InvalidOptions(_)
        | Rejection::Unresolved(_) => StatusCode::BAD_REQUEST,
    }
}

fn of_type(status: StatusCode, media_type: HeaderValue, body: impl Into<Bytes>) -> Reply {
    let mut reply = Reply::new(body.into());
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, media_type);
    reply
}

/// `{"data": […], "next": …}`, with `offset` only when another page follows. Kong: `next` is always there.
pub(crate) fn page(data: Vec<Value>, next: Option<(String, String)>) -> Reply {
    match next {
        Some((offset, next)) => ok(&json!({ "data": data, "next": next, "offset": offset })),
        None => ok(&json!({ "data": data, "next": null })),
    }
}
