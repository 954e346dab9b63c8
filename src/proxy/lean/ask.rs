//! Requests of HTTP/2 on their way up the lean way: hyper speaks with the client, nobody but us with the upstream.
//!
//! Names of HTTP/2 have no spelling to keep, so bytes are all there is to it. What streams, switches protocols or wants
//! trailers goes up by hyper, as everything does from clients of HTTP/1 that the lean path did not take.

use std::io::Write;

use http::request::Parts;
use http::{HeaderValue, Response, Version};

use crate::proxy::gained::Gained;
use crate::proxy::lean::deadline::Deadline;
use crate::proxy::lean::frame::Framing;
use crate::proxy::lean::head::{AnswerHead, Headers, Spelling, write_request};
use crate::proxy::turn::Turn;
use crate::proxy::upstream::{Failure, LineBody, Origin, Question, Reply, ReplyBody, RequestBody};
use crate::proxy::upstream_path::Target;

/// Room for a head, which grows when it is longer.
const HEAD_BYTES: usize = 1024;

/// Whether a request goes up this way.
pub fn fits(turn: &Turn, body: &RequestBody) -> bool {
    let wishes = turn.wishes;
    turn.connection.worker.options.lean
        && turn.version == Version::HTTP_2
        && !wishes.websocket
        && !wishes.trailers
        && matches!(body, RequestBody::Empty | RequestBody::Whole(_, None))
}

/// Sends it. `host`: what `Host` says, if not the origin's name.
pub async fn ask(
    turn: &Turn,
    origin: &Origin,
    head: &Parts,
    target: &Target<'_>,
    host: Option<HeaderValue>,
    gained: Gained<'_>,
    body: RequestBody,
) -> Result<Reply, Failure> {
    let upstreams = &turn.connection.worker.upstreams;
    let place = upstreams.place(origin)?;
    let mut text = Vec::with_capacity(HEAD_BYTES);
    let spelling = Spelling::default();
    let headers = Headers { map: &head.headers, spelling: &spelling, gained: &gained };
    write_request(&mut text, &head.method, target, host.as_ref().unwrap_or(&place.host), headers);
    drop(gained);
    let body = match &body {
        RequestBody::Whole(bytes, _) => {
            let _ = write!(text, "content-length: {}\r\n", bytes.len());
            &bytes[..]
        }
        RequestBody::Empty | RequestBody::Stream(_) => &[],
    };
    text.extend_from_slice(b"\r\n");
    let question = Question { method: &head.method, head: &text, body, host: host.as_ref() };
    let mut deadline = Deadline::default();
    let (answer, line, timing) = upstreams.ask(origin, &place, &question, &mut deadline).await?;
    let AnswerHead { mut parts, .. } = *answer;
    let framing = Framing::of(&parts, turn.head_only);
    let framing = framing.map_err(|why| Failure::BadAnswer { why: why.to_owned(), timing })?;
    framing.settle(&mut parts);
    let body = ReplyBody::Lined(LineBody::new(line, framing, place.limits, upstreams));
    Ok(Reply { response: Response::from_parts(parts, body), timing })
}
