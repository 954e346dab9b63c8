//! One exchange: addresses in turn, a connection for each try, the answer of the first that gives one.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::proxy::lean::frame::states_lengths;
use crate::proxy::upstream::connect::{Unconnected, connect};
use crate::proxy::upstream::link::{Broken, Link};
use crate::proxy::upstream::place::{Place, Target};
use crate::proxy::upstream::pool::Key;
use crate::proxy::upstream::reply_body::ReplyBody;
use crate::proxy::upstream::resolve::Unresolved;
use crate::proxy::upstream::rules::{Failed, Next, Reached, next};
use crate::proxy::upstream::upload::{Framing, Payload, Upload};
use crate::proxy::upstream::{ClientFault, Failure, Origin, Outgoing, Reply, Timing, Upstreams};

/// An exchange on its way: what every try sends.
struct Call<'a> {
    upstreams: &'a Upstreams,
    origin: &'a Origin,
    place: Rc<Place>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    extensions: Extensions,
    host: Option<HeaderValue>,
    payload: Payload,
    upgrade: bool,
}

/// A try that failed for good, or that another follows.
pub(super) struct Lost {
    pub(super) failed: Failed,
    pub(super) why: String,
}

impl From<Unconnected> for Lost {
    fn from(unconnected: Unconnected) -> Self {
        let failed = Failed { reached: Reached::Nothing, timeout: unconnected.timeout, reused: false };
        Self { failed, why: unconnected.why }
    }
}

/// Something that can be attempted at one address after another.
pub(super) trait Errand {
    type Answer;

    fn method(&self) -> &Method;

    /// Whether the next attempt can send the body.
    fn is_resendable(&self) -> bool;

    /// What the client did that ends it.
    fn take_fault(&self) -> Option<ClientFault>;

    /// `now`: when it begins. With the answer goes when the last of its head had come.
    async fn attempt(&mut self, address: SocketAddr, now: Instant) -> Result<(Self::Answer, Instant), Lost>;
}

/// Sends over a connection of hyper's.
pub(super) async fn send(upstreams: &Upstreams, origin: &Origin, outgoing: Outgoing) -> Result<Reply, Failure> {
    let place = upstreams.place(origin)?;
    let mut call = Call::new(upstreams, origin, Rc::clone(&place), outgoing);
    let ((response, link), timing) = run(upstreams, origin, &place, &mut call).await?;
    Ok(call.reply(response, link, timing).await)
}

/// Attempts it at one address after another, as `rules` say.
pub(super) async fn run<E: Errand>(
    upstreams: &Upstreams,
    origin: &Origin,
    place: &Place,
    errand: &mut E,
) -> Result<(E::Answer, Timing), Failure> {
    let addresses = resolve(upstreams, origin, place).await?;
    let mut walk = place.begin();
    let mut tries = 0;
    loop {
        let Some(address) = walk.next(addresses.as_slice()) else { return Err(Failure::NameNotFound) };
        let balanced_at = Instant::now();
        tries += 1;
        let outcome = errand.attempt(SocketAddr::new(address, origin.port), balanced_at).await;
        let timing = |answered_at: Instant| Timing {
            balanced_at: balanced_at.into_std(),
            answered_at: answered_at.into_std(),
            tries,
        };
        let lost = match outcome {
            Ok((answer, answered_at)) => return Ok((answer, timing(answered_at))),
            Err(lost) => lost,
        };
        let timing = timing(Instant::now());
        if let Some(fault) = errand.take_fault() {
            return Err(Failure::Client(fault));
        }
        tracing::warn!(host = %origin.host, %address, port = origin.port, tries, why = %lost.why, "a try failed");
        let left = origin.retries.saturating_sub(tries - 1);
        if next(errand.method(), errand.is_resendable(), lost.failed, left) == Next::GiveUp {
            return Err(if lost.failed.timeout {
                Failure::Timeout { timing }
            } else {
                Failure::BadAnswer { why: lost.why, timing }
            });
        }
    }
}

/// The addresses of one exchange.
enum Addresses {
    One([IpAddr; 1]),
    Some(Arc<[IpAddr]>),
}

impl Addresses {
    fn as_slice(&self) -> &[IpAddr] {
        match self {
            Self::One(address) => address,
            Self::Some(addresses) => addresses,
        }
    }
}

async fn resolve(upstreams: &Upstreams, origin: &Origin, place: &Place) -> Result<Addresses, Failure> {
    match &place.target {
        Target::Address(address) => Ok(Addresses::One([*address])),
        Target::Name(name) => match upstreams.names.addresses(name).await {
            Ok(addresses) => Ok(Addresses::Some(addresses)),
            Err(Unresolved::NotFound) => Err(Failure::NameNotFound),
            Err(Unresolved::Failed(why)) => {
                Err(Failure::Resolve { host: origin.host.to_string(), why: why.to_string() })
            }
        },
    }
}

impl<'a> Call<'a> {
    fn new(upstreams: &'a Upstreams, origin: &'a Origin, place: Rc<Place>, outgoing: Outgoing) -> Self {
        let payload = Payload::new(outgoing.body, outgoing.content_length);
        let mut headers = outgoing.headers;
        frame(&mut headers, &payload);
        connection(&mut headers, outgoing.upgrade);
        Self {
            upstreams,
            origin,
            place,
            method: outgoing.method,
            uri: Uri::from(outgoing.target),
            headers,
            extensions: outgoing.extensions,
            host: outgoing.host,
            payload,
            upgrade: outgoing.upgrade,
        }
    }
}

impl Errand for Call<'_> {
    type Answer = (Response<Incoming>, Link);

    fn method(&self) -> &Method {
        &self.method
    }

    fn is_resendable(&self) -> bool {
        self.payload.resendable()
    }

    fn take_fault(&self) -> Option<ClientFault> {
        self.payload.take_fault()
    }

    /// One try: over a connection at rest, or over a new one when there is none or it turns out to be closed.
    async fn attempt(&mut self, address: SocketAddr, now: Instant) -> Result<(Self::Answer, Instant), Lost> {
        let key = Key { address, tls: self.place.secured(self.origin, self.host.as_ref()) };
        let (mut request, mut may_reuse, mut now) = (None, true, now);
        loop {
            let rested = if may_reuse { self.upstreams.pool.take(&key, now.into_std()) } else { None };
            let reused = rested.is_some();
            let mut link = match rested {
                Some(link) => link,
                None => Box::pin(self.connect(key.clone())).await?,
            };
            let sent = request.take().unwrap_or_else(|| self.request());
            let broken = match link.exchange(sent, self.payload.watch(), &self.place.limits).await {
                Ok(response) => return Ok((self.accept(response, link, reused)?, Instant::now())),
                Err(broken) => broken,
            };
            let lost = Lost { failed: failed(&broken, reused), why: broken.why };
            let resendable = broken.unsent.is_some() || self.payload.resendable();
            if next(&self.method, resendable, lost.failed, 0) != Next::Reconnect {
                return Err(lost);
            }
            // Handed back unsent, the request can try every connection at rest; otherwise one has to do.
            may_reuse = broken.unsent.is_some();
            request = broken.unsent;
            now = Instant::now();
        }
    }
}

impl Call<'_> {
    async fn connect(&self, key: Key) -> Result<Link, Lost> {
        let stream = connect(&self.upstreams.tls, &key, self.origin.connect_timeout).await?;
        let broken = |error: hyper::Error| Unconnected { why: error.to_string(), timeout: false };
        Ok(Link::new(key, stream).await.map_err(broken)?)
    }

    fn request(&self) -> Request<Upload> {
        let mut request = Request::new(self.payload.upload());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        let host = self.host.as_ref().unwrap_or(&self.place.host);
        request.headers_mut().insert(HOST, host.clone());
        if !self.extensions.is_empty() {
            *request.extensions_mut() = self.extensions.clone();
        }
        request
    }

    /// A switch of protocols that nobody asked for is no answer.
    fn accept(
        &self,
        response: Response<Incoming>,
        link: Link,
        reused: bool,
    ) -> Result<(Response<Incoming>, Link), Lost> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS && !self.upgrade {
            let failed = Failed { reached: Reached::Answer, timeout: false, reused };
            return Err(Lost { failed, why: "it switched protocols unasked".to_owned() });
        }
        Ok((response, link))
    }

    async fn reply(&self, mut response: Response<Incoming>, mut link: Link, timing: Timing) -> Reply {
        // hyper takes a length that is said twice for one; whoever comes next may not.
        if states_lengths(response.headers())
            && let Some(length) = response.headers().get(CONTENT_LENGTH).cloned()
        {
            response.headers_mut().insert(CONTENT_LENGTH, length);
        }
        let limits = self.place.limits;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            link.finish(&limits).await;
            return Reply { response: response.map(ReplyBody::detached), timing };
        }
        let pool = self.upstreams.pool.clone();
        Reply { response: response.map(|body| ReplyBody::attached(body, link, pool, limits)), timing }
    }
}

fn failed(broken: &Broken, reused: bool) -> Failed {
    let reached = match broken {
        Broken { answered: true, .. } => Reached::Answer,
        Broken { unsent: Some(_), .. } | Broken { sent: false, .. } => Reached::Nothing,
        Broken { .. } => Reached::Sent,
    };
    Failed { reached, timeout: broken.timeout, reused }
}

/// hyper would guess from the method whether there is a body; this says it.
fn frame(headers: &mut HeaderMap, payload: &Payload) {
    match payload.framing() {
        Framing::None => {}
        Framing::Length(length) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        Framing::Chunked => {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
}

fn connection(headers: &mut HeaderMap, upgrade: bool) {
    if upgrade {
        headers.entry(CONNECTION).or_insert(HeaderValue::from_static("keep-alive, Upgrade"));
        headers.entry(UPGRADE).or_insert(HeaderValue::from_static("websocket"));
    } else {
        headers.entry(CONNECTION).or_insert(HeaderValue::from_static("keep-alive"));
    }
}
