//! Exchanges with raw backends over loopback sockets.
#![allow(clippy::unwrap_used)]

mod backend;
mod bodies;
mod keepalive;
mod retries;
mod secured;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method};
use tokio::task::LocalSet;
use tokio::time::{Instant, Sleep};

use crate::http1::body::Slices;
use crate::http1::framing::Framing;
use crate::http1::write::write_line;
use crate::proxy::io::buffer::Shelf;
use crate::proxy::io::deadline::Deadline;
use crate::proxy::io::outgoing::Outgoing as Text;
use crate::proxy::upstream::body_source::{BodySource, ClientFault};
use crate::proxy::upstream::failure::{Failure, ResponseFault};
use crate::proxy::upstream::options::UpstreamOptions;
use crate::proxy::upstream::origin::Origin;
use crate::proxy::upstream::resolve::{Answer, SharedNames};
use crate::proxy::upstream::tries::{RequestBody, Response, UpstreamRequest, send};
use crate::proxy::upstream::upstreams::Upstreams;
use crate::snapshot::plan::{Backend as Place, Destination};

/// Longer than any test runs.
const LONG: Duration = Duration::from_secs(30);
const LONG_MS: u64 = 30_000;
/// For what must time out: long beside a step on a busy machine, short beside a test.
const SHORT: Duration = Duration::from_millis(SHORT_MS);
const SHORT_MS: u64 = 60;

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async { tokio::time::timeout(LONG, test).await.unwrap() });
}

fn options() -> UpstreamOptions {
    UpstreamOptions {
        keepalive_pool_size: 8,
        keepalive_max_requests: 100,
        keepalive_idle_timeout: LONG,
        trusted_certificates: Vec::new(),
        dns_resolver: Vec::new(),
        dns_valid_ttl: None,
        dns_stale_ttl: LONG,
        head_bytes: 64 * 1024,
    }
}

fn with_options(options: &UpstreamOptions) -> Upstreams {
    Upstreams::new(options, SharedNames::default(), Rc::<Shelf>::default()).unwrap()
}

fn upstreams() -> Upstreams {
    with_options(&options())
}

fn origin(address: SocketAddr) -> Destination {
    named(&address.ip().to_string(), address.port())
}

fn named(host: &str, port: u16) -> Destination {
    Destination {
        id: uuid::Uuid::nil(),
        name: None,
        tls: false,
        grpc: false,
        backend: Place::Host { host: host.into(), port },
        path: None,
        retries: 0,
        connect_timeout_ms: LONG_MS,
        write_timeout_ms: LONG_MS,
        read_timeout_ms: LONG_MS,
        tls_verify: None,
        tls_verify_depth: None,
    }
}

/// Upstreams that know `name` by these addresses.
fn knowing(name: &str, addresses: &[[u8; 4]]) -> Upstreams {
    let names = SharedNames::default();
    let addresses: Vec<IpAddr> = addresses.iter().copied().map(IpAddr::from).collect();
    names.learn(name, &Ok(Answer { addresses: addresses.into(), ttl: LONG }));
    Upstreams::new(&options(), names, Rc::default()).unwrap()
}

/// A request of a test.
struct Sent {
    method: Method,
    host: Option<HeaderValue>,
    body: Body,
    upgrade: bool,
}

enum Body {
    Empty,
    Whole(Vec<u8>),
    /// With the length that is stated.
    Stream(Frames, Option<u64>),
}

fn request(method: &str) -> Sent {
    Sent { method: method.parse().unwrap(), host: None, body: Body::Empty, upgrade: false }
}

fn with_body(method: &str, body: Body) -> Sent {
    Sent { body, ..request(method) }
}

fn whole(text: &'static str) -> Body {
    Body::Whole(text.as_bytes().to_vec())
}

fn stream(parts: &[&'static str], end: End) -> Body {
    Body::Stream(Frames::new(parts, end), None)
}

/// A response, and the rest of the request's body.
struct Reply {
    response: Response,
    source: Frames,
}

impl Reply {
    /// The next piece of the body; `None` at its end.
    async fn next(&mut self) -> Result<Option<String>, ResponseFault> {
        let (download, mut deadline) = (&mut self.response.download, Deadline::default());
        std::future::poll_fn(|cx| download.poll_data(cx, &mut self.source, &mut deadline)).await?;
        let mut slices = Slices::new();
        download.slices(&mut slices);
        let piece = text(&slices.concat());
        drop(slices);
        download.consume(piece.len());
        Ok((!piece.is_empty()).then_some(piece))
    }
}

async fn ask(upstreams: &Upstreams, destination: &Destination, sent: Sent) -> Result<Reply, Failure> {
    ask_origin(upstreams, &Origin::new(destination)?, sent).await
}

async fn ask_origin(upstreams: &Upstreams, origin: &Origin, sent: Sent) -> Result<Reply, Failure> {
    let Sent { method, host, body, upgrade } = sent;
    let (mut source, length) = match &body {
        Body::Whole(bytes) => (Frames::new(&[], End::Clean), Some(bytes.len() as u64)),
        Body::Empty => (Frames::new(&[], End::Clean), None),
        Body::Stream(frames, length) => (frames.clone(), *length),
    };
    let pieces: Vec<&[u8]> = match &body {
        Body::Whole(bytes) => bytes.chunks(bytes.len() / 3 + 1).collect(),
        Body::Empty | Body::Stream(..) => Vec::new(),
    };
    let body = match &body {
        Body::Empty | Body::Whole(_) => RequestBody::Held(&pieces),
        Body::Stream(_, Some(_)) => RequestBody::Length,
        Body::Stream(_, None) => RequestBody::Chunked,
    };
    let write_head = |out: &mut Vec<u8>, host: &HeaderValue| {
        out.extend_from_slice(format!("{method} /path?query HTTP/1.1\r\n").as_bytes());
        write_line(out, b"host", host.as_bytes());
        match length {
            Some(length) => write_line(out, b"content-length", length.to_string().as_bytes()),
            None if matches!(body, RequestBody::Chunked) => write_line(out, b"transfer-encoding", b"chunked"),
            None => {}
        }
        out.extend_from_slice(b"\r\n");
    };
    let request = UpstreamRequest { method: &method, write_head, host: host.as_ref(), body, may_switch: upgrade };
    let (mut memory, mut deadline) = (Text::default(), Deadline::default());
    let lent = (&mut memory, &mut deadline);
    let mut response = send(upstreams, origin, &request, &mut source, lent).await?;
    let framing = Framing::of_response(&response.head, method == Method::HEAD);
    let framing = framing.map_err(|why| Failure::BadAnswer { why: why.into(), timing: response.timing })?;
    if response.head.status != 101 {
        response.download.begin(framing, (16 * 1024, 64 * 1024));
    }
    Ok(Reply { response, source })
}

/// Status and body, or how it failed, in one line.
async fn outcome(upstreams: &Upstreams, destination: &Destination, sent: Sent) -> String {
    shown(ask(upstreams, destination, sent).await).await
}

async fn shown(outcome: Result<Reply, Failure>) -> String {
    match outcome {
        Ok(mut reply) => {
            let (status, mut body) = (reply.response.head.status.as_u16(), String::new());
            loop {
                match reply.next().await {
                    Ok(Some(piece)) => body.push_str(&piece),
                    Ok(None) => return format!("{status} {body} tries={}", reply.response.timing.tries),
                    Err(fault) => return format!("{status} {fault:?}"),
                }
            }
        }
        Err(Failure::BadAnswer { timing, .. }) => format!("bad answer tries={}", timing.tries),
        Err(Failure::Timeout { timing }) => format!("timeout tries={}", timing.tries),
        Err(other) => format!("{other:?}"),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A streamed body that yields these pieces, then an end, a fault, or nothing ever more.
#[derive(Clone)]
struct Frames(Rc<RefCell<State>>);

struct State {
    pieces: VecDeque<&'static [u8]>,
    end: End,
    trailers: Option<HeaderMap>,
    /// Before each piece, and before the end.
    delay: Option<Duration>,
    waiting: Option<Pin<Box<Sleep>>>,
    is_there: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Clean,
    Fault,
    Never,
}

impl Frames {
    fn new(parts: &[&'static str], end: End) -> Self {
        let pieces = parts.iter().map(|part| part.as_bytes()).collect();
        let state = State { pieces, end, trailers: None, delay: None, waiting: None, is_there: false };
        Self(Rc::new(RefCell::new(state)))
    }

    fn with_trailer(self, name: &'static str, value: &'static str) -> Self {
        let mut trailers = HeaderMap::new();
        trailers.insert(name, HeaderValue::from_static(value));
        self.0.borrow_mut().trailers = Some(trailers);
        self
    }

    fn delayed(self, delay: Duration) -> Self {
        self.0.borrow_mut().delay = Some(delay);
        self
    }
}

impl BodySource for Frames {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientFault>> {
        let state = &mut *self.0.borrow_mut();
        if let Some(delay) = state.delay.filter(|_| !state.is_there) {
            let waiting = state.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(delay)));
            ready!(waiting.as_mut().poll(cx));
            state.waiting = None;
        }
        state.is_there = true;
        match (state.pieces.is_empty(), state.end) {
            (false, _) | (true, End::Clean) => Poll::Ready(Ok(())),
            (true, End::Fault) => Poll::Ready(Err(ClientFault::TooLarge)),
            (true, End::Never) => Poll::Pending,
        }
    }

    fn ready(&self) -> usize {
        let state = self.0.borrow();
        state.pieces.front().filter(|_| state.is_there).map_or(0, |piece| piece.len())
    }

    fn slices<'a>(&'a self, into: &mut Slices<'a>) {
        let state = self.0.borrow();
        into.extend(state.pieces.front().filter(|_| state.is_there).copied());
    }

    fn is_last(&self) -> bool {
        false
    }

    fn consume(&mut self, length: usize) {
        let state = &mut *self.0.borrow_mut();
        if let Some(front) = state.pieces.front_mut().filter(|_| length > 0) {
            *front = &front[length..];
            if front.is_empty() {
                state.pieces.pop_front();
                state.is_there = false;
            }
        }
    }

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.0.borrow_mut().trailers.take()
    }

    fn fails_at(&mut self) -> Instant {
        Instant::now() + LONG
    }

    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}
