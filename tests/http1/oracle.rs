//! Reads cases with hyper, over an in-memory stream on a current-thread runtime.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use http::{HeaderMap, Method, Request, Response, Uri, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::service::service_fn;
use hyper::{client, server};
use hyper_util::rt::TokioIo;
use tidegate::http1::FIELDS_MAX;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::runtime::{Builder, Runtime};

use crate::generate::Case;
use crate::message::{Bytes, FirstLine, Message, Outcome, fields};

/// Bytes that a stream holds in each direction beyond those of the case: what hyper writes fits.
const ROOM_BYTES: usize = 8 * 1024;
/// A case takes microseconds; one that takes this long means that the oracle waits for something that never comes.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Number of line ends up to which hyper's default maximum of 100 fields is enough.
const FEW_LINES: usize = 90;
/// Fields that `http1` leaves out of trailers.
const NO_TRAILERS: [&str; 10] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// hyper as a reader of messages.
pub struct Oracle(Runtime);

impl Oracle {
    pub fn new() -> Self {
        Self(Builder::new_current_thread().enable_time().build().unwrap())
    }

    /// Reads a request with hyper's server.
    pub fn read_request(&self, case: &Case) -> Outcome {
        self.0.block_on(async { tokio::time::timeout(TIMEOUT, serve(case)).await.unwrap() })
    }

    /// Reads a response with hyper's client.
    pub fn read_response(&self, case: &Case) -> Outcome {
        self.0.block_on(async { tokio::time::timeout(TIMEOUT, ask(case)).await.unwrap() })
    }
}

async fn serve(case: &Case) -> Outcome {
    let (mut client, stream) = tokio::io::duplex(case.bytes.len() + ROOM_BYTES);
    client.write_all(&case.bytes).await.unwrap();
    client.shutdown().await.unwrap();
    let seen: Rc<RefCell<Outcome>> = Rc::new(RefCell::new(Err("no request".to_owned())));
    let service = service_fn(|request: Request<Incoming>| {
        let seen = Rc::clone(&seen);
        Box::pin(async move {
            let outcome = take_request(request).await;
            *seen.borrow_mut() = outcome;
            // Not a success: hyper does not switch protocols.
            let mut response = Response::new(Empty::<bytes::Bytes>::new());
            *response.status_mut() = http::StatusCode::BAD_REQUEST;
            Ok::<_, Infallible>(response)
        })
    });
    let mut builder = server::conn::http1::Builder::new();
    builder.keep_alive(false).half_close(true).header_read_timeout(None);
    if has_many_lines(case) {
        builder.max_headers(FIELDS_MAX);
    }
    let mut connection = builder.serve_connection(TokioIo::new(stream), service);
    let ended = poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
    let parts = connection.into_parts();
    let left = parts.read_buf.len() + left_in(parts.io).await;
    let seen = seen.replace(Err(String::new()));
    finish(case, seen, left).map_err(|why| format!("{why}, {ended:?}"))
}

async fn take_request(request: Request<Incoming>) -> Outcome {
    let (head, body) = request.into_parts();
    let (path, query, authority) = target(&head.uri);
    let method = head.method.as_str().to_owned();
    let first = FirstLine::Request { method, path, query, authority };
    collect(first, head.version, &head.headers, body).await
}

/// Path, query and authority as `http1::target::Target` has them.
fn target(uri: &Uri) -> (Bytes, Option<Bytes>, Option<Bytes>) {
    let authority = uri.authority().map(|authority| Bytes::from(authority.as_str().as_bytes()));
    match authority {
        Some(authority) if uri.scheme().is_none() => (authority, None, None),
        authority => (uri.path().as_bytes().into(), uri.query().map(|query| query.as_bytes().into()), authority),
    }
}

async fn ask(case: &Case) -> Outcome {
    let (mut upstream, stream) = tokio::io::duplex(case.bytes.len() + ROOM_BYTES);
    let mut builder = client::conn::http1::Builder::new();
    if has_many_lines(case) {
        builder.max_headers(FIELDS_MAX);
    }
    let (mut sender, mut connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    let answer = async {
        // hyper rejects a response that arrives before its request was sent.
        let mut request = [0; 1024];
        let _ = upstream.read(&mut request).await.unwrap();
        upstream.write_all(&case.bytes).await.unwrap();
        upstream.shutdown().await.unwrap();
    };
    let exchange = async {
        let mut request = Request::new(Empty::<bytes::Bytes>::new());
        *request.method_mut() = if case.to_head { Method::HEAD } else { Method::GET };
        let response = sender.send_request(request).await;
        let outcome = match response {
            Ok(response) => take_response(response).await,
            Err(error) => Err(format!("{error:?}")),
        };
        // The connection ends when nothing can send another request.
        drop(sender);
        outcome
    };
    let ended = poll_fn(|cx| connection.poll_without_shutdown(cx));
    let ((), seen, ended) = tokio::join!(answer, exchange, ended);
    let parts = connection.into_parts();
    let left = parts.read_buf.len() + left_in(parts.io).await;
    finish(case, seen, left).map_err(|why| format!("{why}, {ended:?}"))
}

async fn take_response(response: Response<Incoming>) -> Outcome {
    let (head, body) = response.into_parts();
    let usual = head.status.canonical_reason().unwrap_or_default().as_bytes();
    let reason = head.extensions.get::<ReasonPhrase>().map_or(usual, ReasonPhrase::as_bytes).into();
    let first = FirstLine::Response { status: head.status.as_u16(), reason };
    collect(first, head.version, &head.headers, body).await
}

async fn collect(first: FirstLine, version: Version, headers: &HeaderMap, body: Incoming) -> Outcome {
    let body = body.collect().await.map_err(|error| format!("{error:?}"))?;
    let mut trailers = body.trailers().map(fields).unwrap_or_default();
    trailers.retain(|(name, _)| !NO_TRAILERS.contains(&name.as_str()));
    let body = Bytes(body.to_bytes().to_vec());
    Ok(Box::new(Message { first, version, headers: fields(headers), body, trailers, consumed: 0 }))
}

/// Adds the number of consumed bytes.
fn finish(case: &Case, seen: Outcome, left: usize) -> Outcome {
    seen.map(|mut message| {
        message.consumed = case.bytes.len() - left;
        message
    })
}

/// Number of bytes that hyper has not read.
async fn left_in(io: TokioIo<DuplexStream>) -> usize {
    let mut left = Vec::new();
    io.into_inner().read_to_end(&mut left).await.unwrap()
}

fn has_many_lines(case: &Case) -> bool {
    case.bytes.len() > FEW_LINES && case.bytes.iter().filter(|&&byte| byte == b'\n').count() > FEW_LINES
}
