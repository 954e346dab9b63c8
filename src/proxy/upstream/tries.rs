//! One exchange with an upstream: targets and addresses in turn, a connection for each try, the response of the first that
//! gives one (`kong/proxy.md` §7.1).

use http::{HeaderValue, Method};
use tokio::time::Instant;

use crate::http1::response::ResponseHead;
use crate::proxy::io::deadline::Deadline;
use crate::proxy::io::outgoing::Outgoing;
use crate::proxy::upstream::body_source::{BodySource, ClientFault};
use crate::proxy::upstream::connect::connect;
use crate::proxy::upstream::download::Download;
use crate::proxy::upstream::failure::{Failure, Timing};
use crate::proxy::upstream::http1::{Bounds, Http1Connection, TryError};
use crate::proxy::upstream::key::Key;
use crate::proxy::upstream::origin::{Choice, Choices, Origin};
use crate::proxy::upstream::rules::{Failed, Next, Reached, next};
use crate::proxy::upstream::upload::{Upload, UploadBody};
use crate::proxy::upstream::upstreams::Upstreams;

/// A request ready to go, but for `Host`, which each try decides.
pub struct UpstreamRequest<'a, W> {
    pub method: &'a Method,
    /// Appends everything from the request line to the empty line, with this `Host`.
    pub write_head: W,
    /// `Host` in place of the target's, and the TLS name with it.
    pub host: Option<&'a HeaderValue>,
    pub body: RequestBody<'a>,
    /// The request asks for a switch of protocols.
    pub may_switch: bool,
}

/// The body of a request. The head says the same about it.
#[derive(Clone, Copy)]
pub enum RequestBody<'a> {
    /// Whole: can be sent again. Empty also when there is none.
    Held(&'a [&'a [u8]]),
    /// Streamed from the client, with its length.
    Length,
    /// Streamed from the client in chunks.
    Chunked,
}

/// A response whose head has arrived.
pub struct Response {
    pub head: Box<ResponseHead>,
    /// To be begun with the head's framing.
    pub download: Download,
    pub timing: Timing,
}

/// Sends a request, trying again as the rules say. Call it where tasks of this thread can be spawned: they renew names and
/// close idle connections. Dropping the future closes the connection. `text`: memory for heads.
pub async fn send<W, B>(
    upstreams: &Upstreams,
    origin: &Origin,
    request: &UpstreamRequest<'_, W>,
    source: &mut B,
    (text, deadline): (&mut Outgoing, &mut Deadline),
) -> Result<Response, Failure>
where
    W: Fn(&mut Vec<u8>, &HeaderValue),
    B: BodySource,
{
    let mut choices = Choices::new(origin);
    let mut tries = 0;
    loop {
        let choice = choices.next(&upstreams.names).await?;
        let balanced_at = Instant::now();
        tries += 1;
        let mut attempt = Attempt { upstreams, origin, request, choice, text: &mut *text, deadline: &mut *deadline };
        let outcome = attempt.run(source, balanced_at).await;
        let (address, host) = (attempt.choice.address, &attempt.choice.target.text);
        let timing = |answered_at: Instant| Timing {
            balanced_at: balanced_at.into_std(),
            answered_at: answered_at.into_std(),
            tries,
        };
        let lost = match outcome {
            Ok((head, download, answered_at)) => {
                return Ok(Response { head, download, timing: timing(answered_at) });
            }
            Err(lost) => lost,
        };
        let timing = timing(Instant::now());
        if let Some(fault) = lost.client {
            return Err(Failure::Client(fault));
        }
        tracing::warn!(host = &**host, %address, tries, reason = &*lost.why, "a try failed");
        let left = origin.retries.saturating_sub(tries - 1);
        if next(request.method, lost.resendable, lost.failed, left) == Next::GiveUp {
            return Err(match lost.failed.timeout {
                true => Failure::Timeout { timing },
                false => Failure::BadAnswer { why: lost.why, timing },
            });
        }
    }
}

/// One try.
struct Attempt<'a, 'r, W> {
    upstreams: &'a Upstreams,
    origin: &'a Origin,
    request: &'a UpstreamRequest<'r, W>,
    choice: Choice<'a>,
    text: &'a mut Outgoing,
    deadline: &'a mut Deadline,
}

/// A try that failed.
struct Lost {
    failed: Failed,
    resendable: bool,
    why: std::borrow::Cow<'static, str>,
    client: Option<ClientFault>,
}

impl<W: Fn(&mut Vec<u8>, &HeaderValue)> Attempt<'_, '_, W> {
    /// Over an idle connection, or over a new one when there is none or it turns out to be closed.
    async fn run<B: BodySource>(
        &mut self,
        source: &mut B,
        now: Instant,
    ) -> Result<(Box<ResponseHead>, Download, Instant), Lost> {
        let upstreams = self.upstreams;
        let key = Key { address: self.choice.address, tls: self.choice.target.secured(self.request.host) };
        let bounds = Bounds {
            limits: self.origin.limits,
            head_bytes: upstreams.head_bytes,
            shelf: &upstreams.shelf,
            may_switch: self.request.may_switch,
        };
        let held = match self.request.body {
            RequestBody::Held(held) => held,
            RequestBody::Length | RequestBody::Chunked => &[],
        };
        let (mut may_reuse, mut now) = (true, now);
        loop {
            let idle = if may_reuse { upstreams.pool.take(&key, now.into_std()) } else { None };
            let reused = idle.is_some();
            let mut connection = match idle {
                Some(connection) => connection,
                None => {
                    // Boxed: mostly there is an idle connection, and every exchange would hold room for this.
                    let connection = Box::pin(self.connect(&key, source)).await?;
                    now = Instant::now();
                    connection
                }
            };
            self.begin(&mut connection.upload);
            let outcome = connection.exchange(held, source, &bounds, self.deadline, now).await;
            if let Some(text) = connection.upload.take_text() {
                *self.text = text;
            }
            let error = match outcome {
                Ok((head, answered_at)) => {
                    let (pool, shelf) = (upstreams.pool.clone(), upstreams.shelf.clone());
                    let download = Download::new(connection, self.origin.limits, pool, shelf);
                    return Ok((head, download, answered_at));
                }
                Err(error) => error,
            };
            let lost = lost(error, reused, connection.upload.is_resendable());
            if lost.client.is_some() || next(self.request.method, lost.resendable, lost.failed, 0) != Next::Reconnect {
                return Err(lost);
            }
            // A request that was not sent can try every idle connection; otherwise one has to do.
            may_reuse = lost.failed.reached == Reached::Nothing;
            now = Instant::now();
        }
    }

    /// The head with this try's `Host`, and the body.
    fn begin(&mut self, upload: &mut Upload) {
        let mut outgoing = std::mem::take(self.text);
        outgoing.clear();
        let host = self.request.host.unwrap_or(&self.choice.target.host);
        (self.request.write_head)(&mut outgoing.text, host);
        let body = match self.request.body {
            RequestBody::Held(held) => UploadBody::Held(held.iter().map(|piece| piece.len()).sum()),
            RequestBody::Length => UploadBody::Length,
            RequestBody::Chunked => UploadBody::Chunked,
        };
        upload.begin(outgoing, body);
    }

    async fn connect<B: BodySource>(&self, key: &Key, source: &mut B) -> Result<Box<Http1Connection>, Lost> {
        let failed = |why, timeout, client| Lost {
            failed: Failed { reached: Reached::Nothing, timeout, reused: false },
            resendable: true,
            why,
            client,
        };
        let mut connecting = std::pin::pin!(connect(&self.upstreams.tls, key, self.origin.connect_timeout));
        let is_held = matches!(self.request.body, RequestBody::Held(_));
        let connected = std::future::poll_fn(|cx| {
            if is_held && source.poll_gone(cx).is_ready() {
                return std::task::Poll::Ready(None);
            }
            std::future::Future::poll(connecting.as_mut(), cx).map(Some)
        });
        match connected.await {
            None => Err(failed("the client left".into(), false, Some(ClientFault::Gone))),
            Some(Ok(stream)) => Ok(Box::new(Http1Connection::new(key.clone(), stream))),
            Some(Err(error)) => Err(failed(error.why.into(), error.timeout, None)),
        }
    }
}

fn lost(error: TryError, reused: bool, resendable: bool) -> Lost {
    let failed = Failed { reached: error.reached, timeout: error.timeout, reused };
    Lost { failed, resendable, why: error.why, client: error.client }
}
