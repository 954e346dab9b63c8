//! Responses that the gateway makes itself, and which response each failure gets: the one place where the data plane's
//! failures meet status codes (`kong/proxy.md` §2 and §3).

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, UPGRADE};
use http::{StatusCode, header};

use crate::plugin::{Answer, AnswerStream};
use crate::proxy::exchange::admission::Refusal;
use crate::proxy::exchange::error_body::{Format, Producer, default_message};
use crate::proxy::exchange::request_id::RequestId;
use crate::proxy::names::{GRPC_MESSAGE, GRPC_STATUS};
use crate::proxy::upstream::body_source::ClientFault;
use crate::proxy::upstream::failure::{Failure, Timing};

/// A response that is not an upstream's.
pub struct LocalResponse {
    pub status: StatusCode,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub content: Content,
    /// Set when upstreams were tried: such a response is marked as a proxied one.
    pub timing: Option<Timing>,
}

/// The body of a local response.
pub enum Content {
    /// A text in the format that the client wants.
    Message(Producer, Cow<'static, str>),
    /// A text, plain whatever the client accepts.
    Plain(Cow<'static, str>),
    Bytes(Bytes),
    Stream(AnswerStream),
}

/// The body of a local response, rendered.
pub enum LocalBody {
    Bytes(Bytes),
    Stream(AnswerStream),
}

impl LocalResponse {
    /// An error of the gateway's code (`kong/proxy.md` §2.1).
    pub fn error(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(status, Content::Message(Producer::Gateway, message.into()))
    }

    /// An error that Kong's HTTP server makes, with the text of its status (`kong/proxy.md` §2.2).
    pub fn server_error(status: StatusCode) -> Self {
        Self::new(status, Content::Message(Producer::Server, default_message(status.as_u16())))
    }

    /// Something of the gateway failed; the log says what.
    pub fn unexpected() -> Self {
        Self::error(StatusCode::INTERNAL_SERVER_ERROR, default_message(500))
    }

    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Whether the connection is given up with it: the client has broken the rules, or is still sending what nobody
    /// wants.
    pub fn closes(&self) -> bool {
        let server_made = matches!(self.content, Content::Message(Producer::Server, _) | Content::Plain(_));
        server_made && matches!(self.status.as_u16(), 400 | 408 | 413 | 414)
    }

    fn new(status: StatusCode, content: Content) -> Self {
        Self { status, headers: Vec::new(), content, timing: None }
    }

    fn timed(self, timing: Timing) -> Self {
        Self { timing: Some(timing), ..self }
    }

    /// Headers and body. `grpc`: the request was gRPC, whose client reads headers only. `headers`: to be filled.
    pub fn render(
        self,
        request: &HeaderMap,
        default_type: &str,
        grpc: bool,
        id: &RequestId,
        headers: &mut HeaderMap,
    ) -> LocalBody {
        let body = match self.content {
            _ if grpc => {
                speak_grpc(headers, self.status);
                LocalBody::Bytes(Bytes::new())
            }
            Content::Bytes(body) => LocalBody::Bytes(body),
            Content::Stream(body) => LocalBody::Stream(body),
            Content::Message(producer, text) => {
                LocalBody::Bytes(write(headers, Format::choose(producer, request, default_type), &text, id))
            }
            Content::Plain(text) => LocalBody::Bytes(write(headers, Format::Plain, &text, id)),
        };
        for (name, value) in self.headers {
            headers.insert(name, value);
        }
        match &body {
            LocalBody::Bytes(body) => drop(headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()))),
            LocalBody::Stream(_) => drop(headers.remove(header::CONTENT_LENGTH)),
        }
        body
    }
}

/// `Please use HTTPS protocol`, or a redirect to where `location` says.
pub fn https_wanted(status: StatusCode, location: &[u8]) -> LocalResponse {
    if status == StatusCode::UPGRADE_REQUIRED {
        return LocalResponse::error(status, "Please use HTTPS protocol")
            .with(header::CONNECTION, HeaderValue::from_static("Upgrade"))
            .with(UPGRADE, HeaderValue::from_static("TLS/1.2, HTTP/1.1"));
    }
    let made = LocalResponse::new(status, Content::Bytes(Bytes::new()));
    match HeaderValue::from_bytes(location) {
        Ok(location) => made.with(LOCATION, location),
        Err(_) => LocalResponse::server_error(StatusCode::BAD_REQUEST),
    }
}

/// A gRPC request by HTTP/1.1.
pub fn http2_wanted() -> LocalResponse {
    LocalResponse::error(StatusCode::UPGRADE_REQUIRED, "Please use HTTP2 protocol")
        .with(header::CONNECTION, HeaderValue::from_static("Upgrade"))
        .with(UPGRADE, HeaderValue::from_static("HTTP/2"))
}

/// A gRPC request without TLS on a route that wants it: gRPC's own way to refuse.
pub fn grpc_over_tls_wanted() -> LocalResponse {
    LocalResponse::new(StatusCode::OK, Content::Bytes(Bytes::new()))
        .with(CONTENT_TYPE, HeaderValue::from_static("application/grpc"))
        .with(GRPC_STATUS.header.clone(), HeaderValue::from_static("1"))
        .with(GRPC_MESSAGE.header.clone(), HeaderValue::from_static("gRPC request matched gRPCs route"))
}

impl From<Answer> for LocalResponse {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Error { status, message, headers } => {
                let text = if message.is_empty() { default_message(status.as_u16()) } else { message };
                Self { headers, ..Self::error(status, text) }
            }
            Answer::Exit { status, headers, body } => Self { headers, ..Self::new(status, Content::Bytes(body)) },
            Answer::Stream { status, headers, body } => Self { headers, ..Self::new(status, Content::Stream(body)) },
        }
    }
}

impl From<Refusal> for LocalResponse {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::BadRequest(_) => Self::server_error(StatusCode::BAD_REQUEST),
            Refusal::BadPath => Self::new(StatusCode::BAD_REQUEST, Content::Plain(default_message(400))),
            Refusal::PlainOnTls => {
                let text = "The plain HTTP request was sent to HTTPS port";
                Self::new(StatusCode::BAD_REQUEST, Content::Message(Producer::Server, text.into()))
            }
            Refusal::MethodNotAllowed => Self::server_error(StatusCode::METHOD_NOT_ALLOWED),
            Refusal::UriTooLong => Self::server_error(StatusCode::URI_TOO_LONG),
            // 494 is nginx's own number for it; clients see 400.
            Refusal::HeadTooLarge => {
                Self::new(StatusCode::BAD_REQUEST, Content::Message(Producer::Server, default_message(494)))
            }
        }
    }
}

impl From<ClientFault> for LocalResponse {
    fn from(fault: ClientFault) -> Self {
        Self::server_error(match fault {
            ClientFault::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ClientFault::Timeout => StatusCode::REQUEST_TIMEOUT,
            ClientFault::Broken(_) | ClientFault::Gone => StatusCode::BAD_REQUEST,
        })
    }
}

impl From<Failure> for LocalResponse {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NameNotFound => Self::error(StatusCode::SERVICE_UNAVAILABLE, "name resolution failed"),
            Failure::Resolve { host, why } => Self::error(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("failed the initial dns/balancer resolve for '{host}' with: {why}"),
            ),
            Failure::BadAnswer { timing, .. } => Self::server_error(StatusCode::BAD_GATEWAY).timed(timing),
            Failure::Timeout { timing } => Self::server_error(StatusCode::GATEWAY_TIMEOUT).timed(timing),
            Failure::Client(fault) => Self::from(fault),
        }
    }
}

fn write(headers: &mut HeaderMap, format: Format, text: &str, id: &RequestId) -> Bytes {
    headers.insert(CONTENT_TYPE, format.content_type());
    Bytes::from(format.render(text, id))
}

/// Kong: errors raised by code lose their text for gRPC clients, who read the name of the status.
fn speak_grpc(headers: &mut HeaderMap, status: StatusCode) {
    let (number, name) = grpc_status(status.as_u16());
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(&GRPC_STATUS.header, HeaderValue::from(number));
    headers.insert(&GRPC_MESSAGE.header, HeaderValue::from_static(name));
}

fn grpc_status(status: u16) -> (u16, &'static str) {
    match status {
        200..300 => (0, "OK"),
        401 => (16, "Unauthenticated"),
        403 => (7, "PermissionDenied"),
        404 => (5, "NotFound"),
        409 => (6, "AlreadyExists"),
        429 => (8, "ResourceExhausted"),
        499 => (1, "Canceled"),
        400..500 => (3, "InvalidArgument"),
        501 => (12, "Unimplemented"),
        503 => (14, "Unavailable"),
        504 => (4, "DeadlineExceeded"),
        500..600 => (13, "Internal"),
        _ => (2, "Unknown"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn render(local: LocalResponse, request: &HeaderMap, grpc: bool) -> (HeaderMap, Bytes) {
        let mut headers = HeaderMap::new();
        match local.render(request, "text/plain", grpc, &ID, &mut headers) {
            LocalBody::Bytes(body) => (headers, body),
            LocalBody::Stream(_) => panic!("a stream"),
        }
    }

    const ID: RequestId = RequestId(*b"0123456789abcdef0123456789abcdef");

    fn check(made: LocalResponse, status: u16, first_line: &str, proxied: bool) {
        assert_eq!(made.status.as_u16(), status);
        assert_eq!(made.timing.is_some(), proxied);
        let mut request = HeaderMap::new();
        request.insert(header::ACCEPT, HeaderValue::from_static("text/plain"));
        let (headers, body) = render(made, &request, false);
        assert_eq!(headers[header::CONTENT_LENGTH], body.len().to_string());
        assert_eq!(str::from_utf8(&body).unwrap().lines().next().unwrap_or_default(), first_line);
    }

    #[test]
    fn each_failure_has_its_answer() {
        let now = Instant::now();
        let timing = Timing { balanced_at: now, answered_at: now, tries: 6 };
        check(Failure::NameNotFound.into(), 503, "name resolution failed", false);
        let why = Failure::Resolve { host: "h".into(), why: "timeout".into() };
        check(why.into(), 500, "failed the initial dns/balancer resolve for 'h' with: timeout", false);
        let bad = Failure::BadAnswer { why: "reset".into(), timing };
        check(bad.into(), 502, "An invalid response was received from the upstream server", true);
        check(Failure::Timeout { timing }.into(), 504, "The upstream server is timing out", true);
        check(Failure::Client(ClientFault::TooLarge).into(), 413, "Payload too large", false);
        check(Failure::Client(ClientFault::Timeout).into(), 408, "Request timeout", false);
        check(Failure::Client(ClientFault::Broken(String::new())).into(), 400, "Bad request", false);
    }

    #[test]
    fn each_refusal_has_its_answer() {
        check(Refusal::BadRequest("").into(), 400, "Bad request", false);
        check(Refusal::MethodNotAllowed.into(), 405, "Method not allowed", false);
        check(Refusal::UriTooLong.into(), 414, "URI too long", false);
        check(Refusal::HeadTooLarge.into(), 400, "Request header or cookie too large", false);
    }

    #[test]
    fn a_climbing_path_is_told_in_plain_text() {
        let mut request = HeaderMap::new();
        request.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let (headers, body) = render(LocalResponse::from(Refusal::BadPath), &request, false);
        assert_eq!(headers[CONTENT_TYPE], "text/plain; charset=utf-8");
        assert!(body.starts_with(b"Bad request\nrequest_id: "));
    }

    #[test]
    fn https_is_asked_for_or_pointed_to() {
        let (headers, _) = render(https_wanted(StatusCode::UPGRADE_REQUIRED, b""), &HeaderMap::new(), false);
        assert_eq!(
            (&headers["connection"], &headers["upgrade"]),
            (&"Upgrade".parse().unwrap(), &"TLS/1.2, HTTP/1.1".parse().unwrap())
        );
        let made = https_wanted(StatusCode::MOVED_PERMANENTLY, b"https://h/a?b");
        let (headers, body) = render(made, &HeaderMap::new(), false);
        assert_eq!(headers["location"], "https://h/a?b");
        assert!(body.is_empty() && !headers.contains_key(CONTENT_TYPE));
    }

    #[test]
    fn a_plugins_words_stand_and_its_silence_is_filled() {
        let status = StatusCode::UNAUTHORIZED;
        check(Answer::Error { status, message: "No API key".into(), headers: vec![] }.into(), 401, "No API key", false);
        check(Answer::Error { status, message: "".into(), headers: vec![] }.into(), 401, "Unauthorized", false);
        let headers = vec![(CONTENT_TYPE, HeaderValue::from_static("a/b"))];
        let made = LocalResponse::from(Answer::Exit { status, headers, body: Bytes::from_static(b"{}") });
        let (headers, body) = render(made, &HeaderMap::new(), false);
        assert_eq!((&headers[CONTENT_TYPE], &body[..]), (&"a/b".parse().unwrap(), &b"{}"[..]));
    }

    #[test]
    fn grpc_clients_read_headers() {
        let (headers, body) = render(LocalResponse::server_error(StatusCode::NOT_FOUND), &HeaderMap::new(), true);
        assert_eq!(
            (&headers["grpc-status"], &headers["grpc-message"]),
            (&"5".parse().unwrap(), &"NotFound".parse().unwrap())
        );
        assert_eq!((&headers["content-length"], body.len()), (&"0".parse().unwrap(), 0));
    }
}
