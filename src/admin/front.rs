//! What holds for every answer, whatever it says: CORS, `Server`, latency, HEAD, lengths.
//!
//! The same for the Admin and the status listeners; what lies behind is a `Service`. Everything from here inwards is a
//! function from a request to an answer without a socket, so tests need none.

use std::time::Instant;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_REQUEST_HEADERS, ALLOW, CONTENT_LENGTH, HeaderMap, HeaderName,
    HeaderValue, ORIGIN, SERVER,
};
use http::request::Parts;
use http::{Method, Request, StatusCode};

use crate::admin::reply::{self, Reply};
use crate::admin::token::Door;

pub(crate) const ADMIN_LATENCY: HeaderName = HeaderName::from_static("x-kong-admin-latency");

/// The headers of every answer.
pub(crate) struct Manners {
    pub server_header: bool,
    pub latency_header: bool,
    /// `Access-Control-Allow-Credentials`: the Admin API has it, the status listener has not.
    pub credentials: bool,
    /// When there are some, only they are allowed.
    pub origins: Vec<HeaderValue>,
}

/// What answers behind a listener.
pub(crate) trait Service: Send + Sync + 'static {
    fn manners(&self) -> &Manners;

    fn door(&self) -> &Door;

    /// A request with its body, let in already.
    fn answer(&self, request: Request<Bytes>) -> impl Future<Output = Reply> + Send;
}

/// The refusal that needs no body read: asked before a client may send one.
pub(crate) fn refuse<S: Service>(service: &S, head: &Parts) -> Option<Reply> {
    service.door().refuse(&head.method, &head.headers)
}

/// Answers a request that was let in.
pub(crate) async fn answer<S: Service>(service: &S, request: Request<Bytes>) -> Reply {
    let started = Instant::now();
    let origin = request.headers().get(ORIGIN).cloned();
    let is_head = request.method() == Method::HEAD;
    let mut reply = service.answer(request).await;
    finish(service.manners(), &mut reply, origin.as_ref(), is_head, started);
    reply
}

/// Puts the headers of every answer on one that came about otherwise.
pub(crate) fn finish(
    manners: &Manners,
    reply: &mut Reply,
    origin: Option<&HeaderValue>,
    is_head: bool,
    started: Instant,
) {
    let length = reply.body().len();
    let has_body = !matches!(reply.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let headers = reply.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, manners.allowed(origin));
    if manners.credentials {
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    if manners.server_header {
        headers.insert(SERVER, HeaderValue::from_static(concat!("tidegate/", env!("CARGO_PKG_VERSION"))));
    }
    if manners.latency_header {
        headers.insert(ADMIN_LATENCY, HeaderValue::from(started.elapsed().as_millis() as u64));
    }
    if has_body {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    if is_head {
        *reply.body_mut() = Bytes::new();
    }
}

/// The answer to OPTIONS of a place that is there.
pub(crate) fn options(methods: &'static str, request: &HeaderMap) -> Reply {
    let mut reply = reply::empty(StatusCode::NO_CONTENT);
    let content_type = HeaderValue::from_static("Content-Type");
    let wanted = request.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned().unwrap_or(content_type);
    let headers = reply.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static(methods));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted);
    reply
}

impl Manners {
    fn allowed(&self, origin: Option<&HeaderValue>) -> HeaderValue {
        let any = HeaderValue::from_static("*");
        match (self.origins.first(), origin) {
            (None, origin) => origin.cloned().unwrap_or(any),
            (Some(_), Some(origin)) if self.origins.contains(origin) => origin.clone(),
            (Some(first), _) => first.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(origins: &[&'static str], origin: Option<&'static str>, expected: &str) {
        let origins = origins.iter().map(|origin| HeaderValue::from_static(origin)).collect();
        let manners = Manners { server_header: true, latency_header: true, credentials: true, origins };
        assert_eq!(manners.allowed(origin.map(HeaderValue::from_static).as_ref()), expected);
    }

    #[test]
    fn the_origin_of_the_request_is_allowed_unless_the_console_has_its_own() {
        check(&[], None, "*");
        check(&[], Some("http://o.test"), "http://o.test");
        check(&["http://gui.test", "http://b.test"], Some("http://b.test"), "http://b.test");
        check(&["http://gui.test", "http://b.test"], Some("http://o.test"), "http://gui.test");
        check(&["http://gui.test"], None, "http://gui.test");
    }
}
