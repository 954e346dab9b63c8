//! The text of a line: Kong's default nginx format.
//!
//! Whatever a client sent is escaped as nginx does, so that no request can end its line and forge another.

use std::io::Write;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderValue, Version};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::listen::access_log::line::Line;

/// Formats lines; keeps the text of the last second, which most lines share.
pub(super) struct Formatter {
    zone: TimeZone,
    second: Option<i64>,
    stamp: String,
}

impl Formatter {
    pub(super) fn new(zone: TimeZone) -> Self {
        Self { zone, second: None, stamp: String::new() }
    }

    /// `REMOTE - - [TIME] "REQUEST LINE" STATUS BYTES "REFERER" "USER AGENT" kong_request_id: "ID"`, and a newline.
    pub(super) fn append(&mut self, out: &mut Vec<u8>, line: &Line) {
        self.stamp_of(line.at);
        remote(out, line.remote);
        out.extend_from_slice(b" - - [");
        out.extend_from_slice(self.stamp.as_bytes());
        out.extend_from_slice(b"] \"");
        escape(out, line.method.as_str().as_bytes());
        out.push(b' ');
        escape(out, &line.target);
        out.push(b' ');
        out.extend_from_slice(version(line.version));
        out.extend_from_slice(b"\" ");
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{} {}", line.status, line.body_bytes);
        quoted(out, line.referer.as_ref());
        quoted(out, line.user_agent.as_ref());
        out.extend_from_slice(b" kong_request_id: \"");
        out.extend_from_slice(&line.request_id);
        out.extend_from_slice(b"\"\n");
    }

    fn stamp_of(&mut self, at: SystemTime) {
        let second = match at.duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            Err(_) => 0,
        };
        if self.second == Some(second) {
            return;
        }
        let time = Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(self.zone.clone());
        self.second = Some(second);
        self.stamp = time.strftime("%d/%b/%Y:%H:%M:%S %z").to_string();
    }
}

fn remote(out: &mut Vec<u8>, address: IpAddr) {
    let _ = write!(out, "{address}");
}

fn version(version: Version) -> &'static [u8] {
    match version {
        Version::HTTP_09 => b"HTTP/0.9",
        Version::HTTP_10 => b"HTTP/1.0",
        Version::HTTP_2 => b"HTTP/2.0",
        Version::HTTP_3 => b"HTTP/3.0",
        _ => b"HTTP/1.1",
    }
}

fn quoted(out: &mut Vec<u8>, value: Option<&HeaderValue>) {
    out.extend_from_slice(b" \"");
    match value {
        Some(value) => escape(out, value.as_bytes()),
        None => out.push(b'-'),
    }
    out.push(b'"');
}

/// Quotes, backslashes, control bytes and all beyond ASCII become `\xXX`.
fn escape(out: &mut Vec<u8>, text: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in text {
        match byte {
            b'"' | b'\\' | 0..0x20 | 0x7f.. => {
                let digit = |nibble: u8| DIGITS[usize::from(nibble)];
                out.extend_from_slice(&[b'\\', b'x', digit(byte >> 4), digit(byte & 0x0f)]);
            }
            plain => out.push(plain),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use http::Method;
    use proptest::prelude::*;

    use super::*;

    fn line() -> Line {
        Line {
            remote: "203.0.113.7".parse().unwrap(),
            // 24 November 2026, 11:00:00 UTC.
            at: UNIX_EPOCH + Duration::from_millis(1_795_518_000_250),
            method: Method::GET,
            target: "/a/b?c=d".into(),
            version: Version::HTTP_11,
            status: 200,
            body_bytes: 42,
            referer: None,
            user_agent: Some(HeaderValue::from_static("curl/8.7")),
            request_id: *b"0123456789abcdef0123456789abcdef",
        }
    }

    fn text(line: &Line) -> String {
        let mut out = Vec::new();
        Formatter::new(TimeZone::UTC).append(&mut out, line);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_has_kongs_default_format() {
        assert_eq!(
            text(&line()),
            "203.0.113.7 - - [24/Nov/2026:11:00:00 +0000] \"GET /a/b?c=d HTTP/1.1\" 200 42 \"-\" \"curl/8.7\" \
             kong_request_id: \"0123456789abcdef0123456789abcdef\"\n"
        );
    }

    #[test]
    fn an_http2_line_shows_the_path_alone() {
        let line = Line { version: Version::HTTP_2, target: "/x".into(), ..line() };
        assert!(text(&line).contains("\"GET /x HTTP/2.0\""), "{}", text(&line));
    }

    #[test]
    fn the_time_is_local_and_follows_the_clock() {
        let zone = TimeZone::fixed(jiff::tz::offset(-5));
        let mut formatter = Formatter::new(zone);
        let mut out = Vec::new();
        formatter.append(&mut out, &line());
        formatter.append(&mut out, &Line { at: line().at + Duration::from_secs(1), ..line() });
        let out = String::from_utf8(out).unwrap();
        assert!(out.contains("[24/Nov/2026:06:00:00 -0500]") && out.contains("[24/Nov/2026:06:00:01 -0500]"), "{out}");
    }

    #[test]
    fn quotes_and_bytes_beyond_ascii_are_escaped() {
        let agent = HeaderValue::from_bytes(b"a\"b\\c\td\xff").unwrap();
        let line = Line { user_agent: Some(agent), referer: Some(HeaderValue::from_static("")), ..line() };
        assert!(text(&line).contains(r#" "" "a\x22b\x5Cc\x09d\xFF" kong"#), "{}", text(&line));
    }

    proptest! {
        #[test]
        fn no_client_can_forge_a_line_or_a_field(agent in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut out = Vec::new();
            escape(&mut out, &agent);
            prop_assert!(out.iter().all(|byte| (0x20..0x7f).contains(byte) && *byte != b'"'));
        }
    }
}
