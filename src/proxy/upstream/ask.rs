//! One exchange over connections without hyper: the same tries and the same rules as `tries::send`.

use std::net::SocketAddr;

use http::{HeaderValue, Method};
use tokio::time::Instant;

use crate::proxy::lean::deadline::Deadline;
use crate::proxy::lean::head::AnswerHead;
use crate::proxy::upstream::connect::connect;
use crate::proxy::upstream::line::{Line, Message, Silent};
use crate::proxy::upstream::place::Place;
use crate::proxy::upstream::pool::Key;
use crate::proxy::upstream::rules::{Failed, Next, Reached, next};
use crate::proxy::upstream::tries::{Errand, Lost};
use crate::proxy::upstream::{ClientFault, Origin, Upstreams};

/// A request whose bytes are all there.
pub struct Question<'a> {
    pub method: &'a Method,
    /// With everything, `Host` and the blank line included.
    pub head: &'a [u8],
    pub body: &'a [u8],
    /// `preserve_host`: what `Host` says; else it is the origin's name.
    pub host: Option<&'a HeaderValue>,
}

/// A question on its way.
pub(super) struct Asking<'a> {
    pub(super) upstreams: &'a Upstreams,
    pub(super) origin: &'a Origin,
    pub(super) place: &'a Place,
    pub(super) question: &'a Question<'a>,
    pub(super) deadline: &'a mut Deadline,
}

impl Errand for Asking<'_> {
    type Answer = (Box<AnswerHead>, Line);

    fn method(&self) -> &Method {
        self.question.method
    }

    fn is_resendable(&self) -> bool {
        true
    }

    fn take_fault(&self) -> Option<ClientFault> {
        None
    }

    /// One try: over a connection at rest, or over a new one when there is none or it turns out to be closed.
    async fn attempt(&mut self, address: SocketAddr, now: Instant) -> Result<(Self::Answer, Instant), Lost> {
        let key = Key { address, tls: self.place.secured(self.origin, self.question.host) };
        let message = Message { head: self.question.head, body: self.question.body };
        let mut may_reuse = true;
        let mut now = now;
        loop {
            let rested = if may_reuse { self.upstreams.lines.take(&key, now.into_std()) } else { None };
            let reused = rested.is_some();
            let mut line = match rested {
                Some(line) => line,
                None => {
                    // Boxed: mostly there is one at rest, and every client would hold room for it.
                    let line = Box::pin(self.connect(&key)).await?;
                    now = Instant::now();
                    line
                }
            };
            let silent = match line.exchange(message, &self.place.limits, self.deadline, now).await {
                Ok((head, answered_at)) => return Ok(((head, line), answered_at)),
                Err(silent) => silent,
            };
            let failed = failed(&silent, reused);
            if next(self.question.method, true, failed, 0) != Next::Reconnect {
                return Err(Lost { failed, why: silent.why });
            }
            // Unsent, it can try every connection at rest; otherwise one has to do.
            may_reuse = failed.reached == Reached::Nothing;
            now = Instant::now();
        }
    }
}

impl Asking<'_> {
    async fn connect(&self, key: &Key) -> Result<Line, Lost> {
        let stream = connect(&self.upstreams.tls, key, self.origin.connect_timeout).await?;
        Ok(Line::new(key.clone(), stream))
    }
}

fn failed(silent: &Silent, reused: bool) -> Failed {
    let reached = match silent {
        Silent { answered: true, .. } => Reached::Answer,
        Silent { sent: false, .. } => Reached::Nothing,
        Silent { .. } => Reached::Sent,
    };
    Failed { reached, timeout: silent.timeout, reused }
}
