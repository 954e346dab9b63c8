//! The head of an answer on its way to the client (`kong/proxy.md` §5).
//!
//! An upstream's answer loses what belongs to its connection and what steers proxies in front of us, and gains what
//! Kong adds. What the gateway makes itself gets `Server` and one latency instead.

use std::time::{Duration, Instant};

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, Version};
use smallvec::SmallVec;

use crate::proxy::ResponseHeaders;
use crate::proxy::gained::{Gained, Value, listed};
use crate::proxy::names::{PROXY_LATENCY, RESPONSE_LATENCY, SERVER, UPSTREAM_LATENCY, UPSTREAM_STATUS, VIA};
use crate::proxy::upstream::Timing;

/// Values that all answers of a worker share.
pub struct Marks {
    server: HeaderValue,
    /// For HTTP/1.0, 1.1 and 2.
    via: [HeaderValue; 3],
}

impl Marks {
    pub fn new() -> Self {
        let mark = |before: &str| {
            let text = format!("{before}tidegate/{}", crate::VERSION);
            HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("tidegate"))
        };
        Self { server: mark(""), via: [mark("1 "), mark("1.1 "), mark("2 ")] }
    }

    /// What `Via` says of a message that came by this version.
    pub fn via(&self, version: Version) -> &HeaderValue {
        match version {
            Version::HTTP_10 | Version::HTTP_09 => &self.via[0],
            Version::HTTP_2 => &self.via[2],
            _ => &self.via[1],
        }
    }
}

/// Whether an answer's body may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    Whole,
    /// The body is an order to the edge in front of us and is dropped.
    HeadOnly,
}

/// Takes out what an upstream may not say to the edge. The edge of Fly obeys `fly-replay` headers and bodies, so an
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

/// An exchange with an upstream, as its answer tells it.
pub struct Passed<'a> {
    /// What the upstream spoke.
    pub version: Version,
    /// When the request came.
    pub started: Instant,
    pub timing: &'a Timing,
    /// `None`: the answer is a 502 or 504 after failed tries.
    pub status: Option<StatusCode>,
}

/// What a proxied answer gains; also one after failed tries.
pub fn mark_proxied<'a>(
    gained: &mut Gained<'a>,
    headers: &HeaderMap,
    on: &ResponseHeaders,
    marks: &'a Marks,
    passed: &Passed<'_>,
) {
    let Passed { version, started, timing, status } = passed;
    if on.via {
        gained.set(&VIA, listed(headers, &VIA.header, marks.via(*version)));
    }
    if on.server && !headers.contains_key(&SERVER.header) {
        gained.set(&SERVER, Value::Shared(&marks.server));
    }
    if on.upstream_latency {
        gained.set(&UPSTREAM_LATENCY, milliseconds(timing.answered_at - timing.balanced_at));
    }
    if on.proxy_latency {
        gained.set(&PROXY_LATENCY, milliseconds(timing.balanced_at - *started));
    }
    if let Some(status) = status.filter(|_| on.upstream_status) {
        gained.set(&UPSTREAM_STATUS, Value::Made(HeaderValue::from(status.as_u16())));
    }
}

/// What an answer of the gateway's own gains.
pub fn mark_made<'a>(gained: &mut Gained<'a>, on: &ResponseHeaders, marks: &'a Marks, spent: Duration) {
    gained.set(&SERVER, if on.server { Value::Shared(&marks.server) } else { Value::Nothing });
    if on.response_latency {
        gained.set(&RESPONSE_LATENCY, milliseconds(spent));
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
        let (marks, mut gained) = (Marks::new(), Gained::default());
        let timing = timing(started);
        let passed = Passed { version: Version::HTTP_11, started, timing: &timing, status: Some(StatusCode::OK) };
        mark_proxied(&mut gained, headers, on, &marks, &passed);
        gained.settle(headers);
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
        let (marks, mut gained) = (Marks::new(), Gained::default());
        mark_made(&mut gained, &ALL, &marks, Duration::from_millis(15));
        gained.settle(&mut headers);
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
        let (marks, mut gained) = (Marks::new(), Gained::default());
        mark_made(&mut gained, &off, &marks, Duration::ZERO);
        gained.settle(&mut headers);
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
