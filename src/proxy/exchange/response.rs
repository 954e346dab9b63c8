//! The head of a response on its way to the client (`kong/proxy.md` §5).
//!
//! An upstream's response loses the fields of its connection and those that steer proxies in front of the gateway, and gets
//! the headers that Kong adds. A response of the gateway's own gets `Server` and one latency instead.

use std::time::{Duration, Instant};

use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{StatusCode, Version};
use smallvec::SmallVec;

use crate::http1::added::{AddedHeaders, Value, listed};
use crate::http1::fields::tokens;
use crate::proxy::exchange::marks::Marks;
use crate::proxy::names::{PROXY_LATENCY, RESPONSE_LATENCY, SERVER, UPSTREAM_LATENCY, UPSTREAM_STATUS, VIA};
use crate::proxy::options::ResponseHeaders;
use crate::proxy::upstream::failure::Timing;

/// Whether a response's body may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    Whole,
    /// The body is an instruction to the edge in front of the gateway and is dropped.
    HeadOnly,
}

/// Removes the fields that end at this hop. `switched`: the protocol that the upstream has switched to may be named.
pub fn strip(headers: &mut HeaderMap, switched: bool, client_takes_trailers: bool) {
    let mut gone = SmallVec::<[HeaderName; 6]>::new();
    for (name, value) in &*headers {
        match *name {
            CONNECTION => {
                let is_other =
                    |token: &&[u8]| !matches!(&token.to_ascii_lowercase()[..], b"upgrade" | b"content-length");
                let usual: [&[u8]; 3] = [b"keep-alive", b"close", b"upgrade"];
                if !usual.iter().any(|usual| value.as_bytes().eq_ignore_ascii_case(usual)) {
                    gone.extend(tokens(value).filter(is_other).filter_map(|token| HeaderName::from_bytes(token).ok()));
                }
            }
            UPGRADE if !switched => {}
            TRAILER if !client_takes_trailers => {}
            TRANSFER_ENCODING => {}
            _ if matches!(name.as_str(), "keep-alive" | "proxy-connection") => {}
            _ => continue,
        }
        gone.push(name.clone());
    }
    for name in &gone {
        headers.remove(name);
    }
}

/// Removes what an upstream may not say to the edge. The edge of Fly obeys `fly-replay` headers and bodies, so an
/// upstream could send a client's request to another app of the organization.
pub fn disarm(headers: &mut HeaderMap, allow_fly_replay: bool) -> Passage {
    let is_order = |name: &str| {
        name.starts_with("x-accel-")
            || (!allow_fly_replay && (name == "fly-replay" || name.starts_with("fly-replay-cache")))
    };
    let (mut gone, mut passage) = (SmallVec::<[HeaderName; 2]>::new(), Passage::Whole);
    for (name, value) in &*headers {
        if *name == CONTENT_TYPE {
            if !allow_fly_replay && is_replay(value) {
                passage = Passage::HeadOnly;
            }
        } else if is_order(name.as_str()) {
            gone.push(name.clone());
        }
    }
    for name in &gone {
        headers.remove(name);
    }
    if passage == Passage::Whole {
        return passage;
    }
    headers.remove(CONTENT_TYPE);
    headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    Passage::HeadOnly
}

/// Names the character set of texts that name none, as `nginx_http_charset = UTF-8` has it. Not for redirects 301 and
/// 302, nor for encoded bodies, whose type is not what travels.
pub fn name_charset(status: StatusCode, headers: &mut HeaderMap) {
    static TEXTS: [(&[u8], HeaderValue); 5] = [
        (b"text/html", HeaderValue::from_static("text/html; charset=UTF-8")),
        (b"text/xml", HeaderValue::from_static("text/xml; charset=UTF-8")),
        (b"text/plain", HeaderValue::from_static("text/plain; charset=UTF-8")),
        (b"application/javascript", HeaderValue::from_static("application/javascript; charset=UTF-8")),
        (b"application/rss+xml", HeaderValue::from_static("application/rss+xml; charset=UTF-8")),
    ];
    if matches!(status, StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND) || headers.contains_key(CONTENT_ENCODING) {
        return;
    }
    let Some(value) = headers.get_mut(CONTENT_TYPE) else { return };
    if let Some((_, named)) = TEXTS.iter().find(|(text, _)| value.as_bytes().eq_ignore_ascii_case(text)) {
        *value = named.clone();
    }
}

/// An exchange with an upstream.
pub struct Passed<'a> {
    /// What the upstream spoke.
    pub version: Version,
    /// When the request came.
    pub started: Instant,
    pub timing: &'a Timing,
    /// `None`: the response is a 502 or 504 after failed tries.
    pub status: Option<StatusCode>,
}

/// Adds the headers of a proxied response; also of one after failed tries.
pub fn mark_proxied<'a>(
    added: &mut AddedHeaders<'a>,
    headers: &HeaderMap,
    on: &ResponseHeaders,
    marks: &'a Marks,
    passed: &Passed<'_>,
) {
    let Passed { version, started, timing, status } = passed;
    if on.via {
        added.set(&VIA, listed(headers.get_all(&VIA.header).iter(), marks.via(*version)));
    }
    if on.server && !headers.contains_key(&SERVER.header) {
        added.set(&SERVER, Value::Shared(&marks.server));
    }
    if on.upstream_latency {
        added.set(&UPSTREAM_LATENCY, milliseconds(timing.answered_at - timing.balanced_at));
    }
    if on.proxy_latency {
        added.set(&PROXY_LATENCY, milliseconds(timing.balanced_at - *started));
    }
    if let Some(status) = status.filter(|_| on.upstream_status) {
        added.set(&UPSTREAM_STATUS, Value::Made(HeaderValue::from(status.as_u16())));
    }
}

/// Adds the headers of a response of the gateway's own.
pub fn mark_local<'a>(added: &mut AddedHeaders<'a>, on: &ResponseHeaders, marks: &'a Marks, spent: Duration) {
    added.set(&SERVER, if on.server { Value::Shared(&marks.server) } else { Value::Nothing });
    if on.response_latency {
        added.set(&RESPONSE_LATENCY, milliseconds(spent));
    }
}

/// Whether a content type is that of a body which the edge obeys.
fn is_replay(content_type: &HeaderValue) -> bool {
    const REPLAY: &[u8] = b"application/vnd.fly.replay+json";
    let bare = content_type.as_bytes().split(|&byte| byte == b';').next().unwrap_or_default();
    bare.trim_ascii().eq_ignore_ascii_case(REPLAY)
}

/// Whole milliseconds; small ones, the usual case, without an allocation.
fn milliseconds(duration: Duration) -> Value<'static> {
    const SMALL: [&str; 16] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15"];
    let whole = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    match usize::try_from(whole).ok().and_then(|whole| SMALL.get(whole)) {
        Some(text) => Value::Static(text),
        None => Value::Made(HeaderValue::from(whole)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        headers
    }

    const ALL: ResponseHeaders = ResponseHeaders {
        server: true,
        via: true,
        proxy_latency: true,
        response_latency: true,
        upstream_latency: true,
        admin_latency: true,
        upstream_status: true,
        request_id: true,
    };

    fn timing(started: Instant) -> Timing {
        let balanced_at = started + Duration::from_millis(3);
        Timing { balanced_at, answered_at: balanced_at + Duration::from_millis(1234), tries: 1 }
    }

    fn mark(headers: &mut HeaderMap, on: &ResponseHeaders, started: Instant) {
        let (marks, mut added) = (Marks::new(), AddedHeaders::default());
        let timing = timing(started);
        let passed = Passed { version: Version::HTTP_11, started, timing: &timing, status: Some(StatusCode::OK) };
        mark_proxied(&mut added, headers, on, &marks, &passed);
        added.settle(headers);
    }

    #[test]
    fn a_proxied_answer_carries_via_and_two_latencies() {
        let started = Instant::now();
        let mut headers = map(&[("via", "1.1 origin"), ("server", "theirs")]);
        mark(&mut headers, &ALL, started);
        assert_eq!(headers["via"], format!("1.1 origin, 1.1 tidegate/{}", crate::VERSION));
        assert_eq!(headers["server"], "theirs");
        assert_eq!(headers["x-kong-proxy-latency"], "3");
        assert_eq!(headers["x-kong-upstream-latency"], "1234");
        assert_eq!(headers["x-kong-upstream-status"], "200");
        assert!(!headers.contains_key("x-kong-response-latency"));
    }

    #[test]
    fn an_answer_of_our_own_carries_server_and_one_latency() {
        let mut headers = HeaderMap::new();
        let (marks, mut added) = (Marks::new(), AddedHeaders::default());
        mark_local(&mut added, &ALL, &marks, Duration::from_millis(15));
        added.settle(&mut headers);
        assert_eq!(headers["server"], format!("tidegate/{}", crate::VERSION));
        assert_eq!(headers["x-kong-response-latency"], "15");
        assert!(!headers.contains_key("via"));
    }

    #[test]
    fn what_is_switched_off_is_not_sent() {
        let off = ResponseHeaders {
            server: false,
            via: false,
            proxy_latency: false,
            response_latency: false,
            upstream_latency: false,
            admin_latency: false,
            upstream_status: false,
            request_id: false,
        };
        let started = Instant::now();
        let mut headers = HeaderMap::new();
        mark(&mut headers, &off, started);
        let (marks, mut added) = (Marks::new(), AddedHeaders::default());
        mark_local(&mut added, &off, &marks, Duration::ZERO);
        added.settle(&mut headers);
        assert!(headers.is_empty());
    }

    #[test]
    fn texts_without_a_charset_get_one() {
        let check = |status, lines: &[(&str, &str)], expected: &str| {
            let mut headers = map(lines);
            name_charset(status, &mut headers);
            assert_eq!(headers["content-type"], expected);
        };
        let ok = StatusCode::OK;
        check(ok, &[("content-type", "text/html")], "text/html; charset=UTF-8");
        check(ok, &[("content-type", "Text/Plain")], "text/plain; charset=UTF-8");
        check(ok, &[("content-type", "application/rss+xml")], "application/rss+xml; charset=UTF-8");
        check(ok, &[("content-type", "text/html; charset=latin1")], "text/html; charset=latin1");
        check(ok, &[("content-type", "application/json")], "application/json");
        check(ok, &[("content-type", "text/css")], "text/css");
        check(StatusCode::FOUND, &[("content-type", "text/html")], "text/html");
        check(ok, &[("content-type", "text/html"), ("content-encoding", "gzip")], "text/html");
    }

    #[test]
    fn orders_to_the_edge_do_not_pass_unless_allowed() {
        let lines = [
            ("fly-replay", "app=other"),
            ("Fly-Replay-Cache", "x"),
            ("fly-replay-cache-control", "y"),
            ("X-Accel-Redirect", "/z"),
            ("x-b", "1"),
        ];
        let mut headers = map(&lines);
        assert_eq!(disarm(&mut headers, false), Passage::Whole);
        assert_eq!(headers.len(), 1);
        let mut headers = map(&lines);
        assert_eq!(disarm(&mut headers, true), Passage::Whole);
        assert_eq!(headers.len(), 4);
        let replay = [("content-type", "Application/vnd.fly.replay+json; v=1"), ("content-length", "12")];
        let mut headers = map(&replay);
        assert_eq!(disarm(&mut headers, false), Passage::HeadOnly);
        assert_eq!(headers["content-length"], "0");
        assert!(!headers.contains_key("content-type"));
        assert_eq!(disarm(&mut map(&replay), true), Passage::Whole);
    }
}
