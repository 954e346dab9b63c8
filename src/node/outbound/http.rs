//! HTTP/1.1 calls.

use std::error::Error;
use std::future::Future;

use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::node::outbound::connect::Connector;
use crate::node::outbound::idle::Idle;
use crate::plugin::tools::outbound::{HttpCall, HttpReply, OutboundError, Peer, Security};

/// The sending half of a connection; dropping it ends the task that drives the connection.
pub(super) type KeptHttp = SendRequest<Full<Bytes>>;

type Sent = Request<Full<Bytes>>;

/// What became of a request.
enum Tried {
    Answered(HttpReply),
    /// The connection was closed before anything was sent.
    Unsent(Box<Sent>),
}

/// Makes a call over a kept connection or a new one.
pub(super) async fn call(
    connector: &Connector,
    idle: &Idle<KeptHttp>,
    call: HttpCall,
) -> Result<HttpReply, OutboundError> {
    let mut request = request(&call)?;
    if let Some(kept) = idle.take(&call.peer).filter(SendRequest::is_ready) {
        match in_time(&call, exchange(&call, idle, kept, request)).await? {
            Tried::Answered(reply) => return Ok(reply),
            Tried::Unsent(unsent) => request = *unsent,
        }
    }
    let stream = connector.open(&call.peer, call.connect_timeout).await?;
    let fresh = async {
        let shaken = handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|error| broken(&call.peer, &error))?;
        // Errors of the connection reach the request as well.
        tokio::spawn(connection);
        exchange(&call, idle, sender, request).await
    };
    match in_time(&call, fresh).await? {
        Tried::Answered(reply) => Ok(reply),
        Tried::Unsent(_) => Err(OutboundError::broken(&call.peer, &"the connection was closed at once")),
    }
}

async fn in_time(
    call: &HttpCall,
    tried: impl Future<Output = Result<Tried, OutboundError>>,
) -> Result<Tried, OutboundError> {
    let tried = timeout(call.timeout, tried).await;
    tried.unwrap_or_else(|_| Err(OutboundError::Timeout { peer: call.peer.to_string() }))
}

/// Sends `request`, reads the whole reply, and keeps the connection.
async fn exchange(
    call: &HttpCall,
    idle: &Idle<KeptHttp>,
    mut sender: KeptHttp,
    request: Sent,
) -> Result<Tried, OutboundError> {
    let response = match sender.try_send_request(request).await {
        Ok(response) => response,
        Err(mut error) => match error.take_message() {
            Some(unsent) => return Ok(Tried::Unsent(Box::new(unsent))),
            None => return Err(broken(&call.peer, error.error())),
        },
    };
    let reply = read(call, response).await?;
    if !sender.is_closed() {
        idle.keep(call.peer.clone(), sender, call.keepalive);
    }
    Ok(Tried::Answered(reply))
}

async fn read(call: &HttpCall, response: Response<Incoming>) -> Result<HttpReply, OutboundError> {
    let (head, body) = response.into_parts();
    match Limited::new(body, call.body_max).collect().await {
        Ok(body) => Ok(HttpReply { status: head.status, headers: head.headers, body: body.to_bytes() }),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(OutboundError::ReplyTooLarge { peer: call.peer.to_string(), body_max: call.body_max })
        }
        Err(error) => Err(broken(&call.peer, &*error)),
    }
}

fn request(call: &HttpCall) -> Result<Sent, OutboundError> {
    let invalid = |why: String| OutboundError::Invalid(why);
    if !call.target.starts_with('/') {
        return Err(invalid(format!("the target '{}' does not begin with '/'", call.target)));
    }
    let uri = call.target.parse::<http::Uri>();
    let uri = uri.map_err(|error| invalid(format!("the target '{}': {error}", call.target)))?;
    let mut request = Request::new(Full::new(call.body.clone()));
    *request.method_mut() = call.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = call.headers.clone();
    if !call.headers.contains_key(HOST) {
        let host = HeaderValue::try_from(host(&call.peer));
        let host = host.map_err(|_| invalid(format!("'{}' is no host", call.peer.host)))?;
        request.headers_mut().insert(HOST, host);
    }
    let agent = request.headers_mut().entry(USER_AGENT);
    agent.or_insert(HeaderValue::from_static(concat!("tidegate/", env!("CARGO_PKG_VERSION"))));
    Ok(request)
}

/// The value of `Host`: without the port where it is the scheme's own.
fn host(peer: &Peer) -> String {
    let own = match peer.security {
        Security::Plain => 80,
        Security::Tls { .. } => 443,
    };
    let host = if peer.host.contains(':') { format!("[{}]", peer.host) } else { peer.host.to_string() };
    if peer.port == own { host } else { format!("{host}:{}", peer.port) }
}

/// The error with its causes: hyper's own text leaves them out.
fn broken(peer: &Peer, error: &(dyn Error + 'static)) -> OutboundError {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    let why: Vec<_> = causes.map(ToString::to_string).collect();
    OutboundError::broken(peer, &why.join(": "))
}
