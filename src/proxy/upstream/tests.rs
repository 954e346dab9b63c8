//! Exchanges with raw backends over loopback sockets.
#![allow(clippy::unwrap_used)]

mod backend;
mod bodies;
mod keepalive;
mod retries;
mod secured;

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Extensions, HeaderMap, Method};
use http_body_util::BodyExt;
use tokio::task::LocalSet;

use super::*;
use crate::proxy::upstream::resolve::Answer;

/// Longer than any test runs.
const LONG: Duration = Duration::from_secs(30);
/// For what must time out: long beside a step on a busy machine, short beside a test.
const SHORT: Duration = Duration::from_millis(60);

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async { tokio::time::timeout(LONG, test).await.unwrap() });
}

fn options() -> Options {
    Options {
        keepalive_pool_size: 8,
        keepalive_max_requests: 100,
        keepalive_idle_timeout: LONG,
        trusted_certificates: Vec::new(),
        dns_resolver: Vec::new(),
        dns_valid_ttl: None,
        dns_stale_ttl: LONG,
    }
}

fn upstreams() -> Upstreams {
    Upstreams::new(&options()).unwrap()
}

fn origin(address: SocketAddr) -> Origin {
    named(&address.ip().to_string(), address.port())
}

fn named(host: &str, port: u16) -> Origin {
    Origin {
        tls: false,
        host: host.into(),
        port,
        connect_timeout: LONG,
        write_timeout: LONG,
        read_timeout: LONG,
        retries: 0,
        tls_verify: false,
        tls_verify_depth: None,
    }
}

/// Upstreams that know `name` by these addresses.
fn knowing(name: &str, addresses: &[[u8; 4]]) -> Upstreams {
    let names = SharedNames::default();
    let addresses: Vec<IpAddr> = addresses.iter().copied().map(IpAddr::from).collect();
    names.learn(name, &Ok(Answer { addresses: addresses.into(), ttl: LONG }));
    Upstreams::sharing(&options(), names).unwrap()
}

fn request(method: &str) -> Outgoing {
    Outgoing {
        method: method.parse::<Method>().unwrap(),
        target: "/path?query".parse().unwrap(),
        headers: HeaderMap::new(),
        host: None,
        body: RequestBody::Empty,
        content_length: None,
        extensions: Extensions::new(),
        upgrade: false,
    }
}

fn with_body(method: &str, body: RequestBody) -> Outgoing {
    Outgoing { body, ..request(method) }
}

fn whole(text: &'static str) -> RequestBody {
    RequestBody::Whole(Bytes::from_static(text.as_bytes()), None)
}

/// Status and body, or how it failed, in one line.
async fn outcome(upstreams: &Upstreams, origin: &Origin, outgoing: Outgoing) -> String {
    match upstreams.send(origin, outgoing).await {
        Ok(reply) => {
            let status = reply.response.status().as_u16();
            match reply.response.into_body().collect().await {
                Ok(body) => format!("{status} {} tries={}", text(&body.to_bytes()), reply.timing.tries),
                Err(fault) => format!("{status} {fault:?}"),
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

/// A streamed body that yields these frames, then an end, a fault, or nothing ever more.
struct Frames {
    frames: std::collections::VecDeque<http_body::Frame<Bytes>>,
    end: End,
    polled: Rc<RefCell<usize>>,
}

enum End {
    Clean,
    Fault,
    Never,
}

fn frames(parts: &[&'static str], end: End) -> Frames {
    let frames = parts.iter().map(|part| http_body::Frame::data(Bytes::from_static(part.as_bytes())));
    Frames { frames: frames.collect(), end, polled: Rc::default() }
}

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = ClientFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, ClientFault>>> {
        *self.polled.borrow_mut() += 1;
        match (self.frames.pop_front(), &self.end) {
            (Some(frame), _) => std::task::Poll::Ready(Some(Ok(frame))),
            (None, End::Clean) => std::task::Poll::Ready(None),
            (None, End::Fault) => std::task::Poll::Ready(Some(Err(ClientFault::TooLarge))),
            (None, End::Never) => std::task::Poll::Pending,
        }
    }
}
