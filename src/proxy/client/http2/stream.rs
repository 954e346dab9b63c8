//! One stream: a request, and the response that hyper gets.

use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::header::{CONNECTION, COOKIE, HeaderMap, HeaderValue};
use http::{Request, Response, Version};
use http_body::Body;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::http1::body::Slices;
use crate::http1::fields::RequestFields;
use crate::http1::framing::Framing;
use crate::http1::request::RequestHead;
use crate::http1::response::ResponseHead;
use crate::http1::target::Target;
use crate::proxy::client::http2::activity::{Activity, Busy};
use crate::proxy::client::http2::body::Http2Body;
use crate::proxy::client::http2::source::Http2Source;
use crate::proxy::exchange::admission::{Refusal, bound_fields};
use crate::proxy::exchange::client::{Client, Sent};
use crate::proxy::exchange::connection::Connection;
use crate::proxy::exchange::held::HeldBody;
use crate::proxy::exchange::record::Record;
use crate::proxy::exchange::response_body::ResponseBody;
use crate::proxy::exchange::{self, Arrived};
use crate::proxy::io::deadline::Deadline;
use crate::proxy::io::outgoing::Outgoing;
use crate::proxy::upstream::body_source::{BodySource, ClientFault};

/// The exchange ends without a response: the stream is reset.
#[derive(Debug)]
pub(super) struct Reset;

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no response")
    }
}

impl std::error::Error for Reset {}

/// Serves one stream.
pub(super) async fn serve_stream(
    connection: Rc<Connection>,
    activity: Rc<Activity>,
    request: Request<Incoming>,
) -> Result<Response<Http2Body>, Reset> {
    let _busy = Busy::on(&activity);
    let (parts, incoming) = request.into_parts();
    let options = &connection.worker.options;
    let mut head = RequestHead::default();
    (head.target, head.version) = (Target::of(&parts.uri), Version::HTTP_2);
    (head.method, head.headers) = (parts.method, parts.headers);
    let bounded = bound_fields(head.target.path_and_query().len(), &head.headers, &options.head);
    let fields = bounded.and_then(|()| RequestFields::read(&head.headers, head.version).map_err(Refusal::from));
    join_cookies(&mut head.headers);
    let framing = match (incoming.is_end_stream(), fields.as_ref().ok().and_then(|fields| fields.content_length)) {
        (true, None) => Framing::None,
        (_, Some(length)) => Framing::Length(length),
        (false, None) => Framing::Chunked,
    };
    let source = Http2Source::new(incoming, Rc::clone(&connection));
    let mut client = Http2Client { source: Some(source), framing, activity, response: None };
    exchange::serve(&mut client, &connection, Arrived { head: Rc::new(head), fields }).await;
    client.response.ok_or(Reset)
}

/// Joins the cookie fields, which HTTP/2 allows a client to split (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, cookie);
    }
}

/// One stream.
struct Http2Client {
    /// `None`: the response's body has it.
    source: Option<Http2Source>,
    framing: Framing,
    activity: Rc<Activity>,
    response: Option<Response<Http2Body>>,
}

impl BodySource for Http2Client {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientFault>> {
        self.source.as_mut().map_or(Poll::Ready(Ok(())), |source| source.poll_data(cx))
    }

    fn ready(&self) -> usize {
        self.source.as_ref().map_or(0, Http2Source::ready)
    }

    fn slices<'a>(&'a self, into: &mut Slices<'a>) {
        if let Some(source) = &self.source {
            source.slices(into);
        }
    }

    fn is_last(&self) -> bool {
        self.source.as_ref().is_none_or(Http2Source::is_last)
    }

    fn consume(&mut self, length: usize) {
        if let Some(source) = &mut self.source {
            source.consume(length);
        }
    }

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.source.as_mut()?.take_trailers()
    }

    fn fails_at(&mut self) -> Instant {
        self.source.as_mut().map_or_else(Instant::now, Http2Source::fails_at)
    }

    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl Client for Http2Client {
    fn framing(&self) -> Framing {
        self.framing
    }

    async fn read_ahead(&mut self, at_most: usize) -> Result<bool, ClientFault> {
        if matches!(self.framing, Framing::Length(length) if length > at_most as u64) {
            return Ok(false);
        }
        match &mut self.source {
            Some(source) => source.read_ahead(at_most).await,
            None => Ok(true),
        }
    }

    fn take_body(&mut self) -> HeldBody {
        self.source.as_mut().map_or(HeldBody::Empty, Http2Source::take_body)
    }

    fn recycle(&mut self, _: HeldBody) {}

    fn lend(&mut self) -> (Outgoing, Deadline) {
        Default::default()
    }

    fn give_back(&mut self, _: (Outgoing, Deadline)) {}

    fn send_head(&mut self, _: &Record, head: &mut ResponseHead, sent: Sent<'_, '_>) {
        let mut response = Response::new(Http2Body::default());
        *response.status_mut() = head.status;
        *response.headers_mut() = std::mem::take(&mut head.headers);
        sent.added.settle(response.headers_mut());
        // Fields of one connection of HTTP/1 are malformed in HTTP/2 (RFC 9113 §8.2.2).
        response.headers_mut().remove(CONNECTION);
        self.response = Some(response);
    }

    async fn send_body(&mut self, body: ResponseBody, record: &mut Option<Record>) {
        let ready = self.response.as_mut().zip(self.source.take()).zip(record.take());
        if let Some(((response, source), record)) = ready {
            *response.body_mut() = Http2Body::new(body, record, source, Rc::clone(&self.activity));
        }
    }

    /// HTTP/2 has no switch of protocols; the request did not ask for one.
    async fn tunnel(&mut self, _: ResponseBody, _: &mut Option<Record>) {
        self.response = None;
    }

    fn abandon(&mut self) {
        self.response = None;
    }
}
