//! Heads in both directions: what is read, what is refused, what is written.

use http::header::HeaderValue;
use http::{HeaderMap, StatusCode, Version};

use crate::http1::added::{AddedHeaders, Value};
use crate::http1::edits::HeaderEdits;
use crate::http1::fields::{HopByHop, RequestFields};
use crate::http1::framing::Framing;
use crate::http1::name::{Name, name};
use crate::http1::request::{HeadScan, RequestHead, skip_empty_lines};
use crate::http1::response::ResponseHead;
use crate::http1::spelling::Spelling;
use crate::http1::write::{RequestHeaders, ResponseHeaders, write_request, write_response};
use crate::http1::{FIELDS_MAX, HeadLimits, InvalidHead, Parsed};

static VIA: Name = name!("via");
static X_REAL_IP: Name = name!("x-real-ip");
static X_FORWARDED_PREFIX: Name = name!("x-forwarded-prefix");

fn parse(bytes: &[u8]) -> (RequestHead, Parsed) {
    let mut head = RequestHead::default();
    let parsed = head.parse(bytes, &HeadLimits::default(), &mut HeadScan::default());
    (head, parsed)
}

/// The same verdict in pieces of any size.
fn in_pieces(bytes: &[u8], size: usize, limits: &HeadLimits) -> Parsed {
    let (mut head, mut scan) = (RequestHead::default(), HeadScan::default());
    let ends = (0..bytes.len()).step_by(size).skip(1).chain([bytes.len()]);
    let verdicts = ends.map(|end| head.parse(&bytes[..end], limits, &mut scan));
    verdicts.fold(Parsed::Partial, |before, now| if before == Parsed::Partial { now } else { before })
}

#[test]
fn a_head_goes_up_as_it_was_spelled() {
    let text = b"GET /a%20b?c HTTP/1.1\r\nHOST: a\r\nX-MiXed: 1\r\nx-twice: 2\r\nX-TWICE: 3\r\nConnection: x-gone\r\n\
        X-Gone: 5\r\nX-Real-IP: 9\r\nX-Key: 7\r\nx-forwarded-prefix: /a\r\n\r\nrest";
    let (head, parsed) = parse(text);
    assert_eq!(parsed, Parsed::Head(text.len() - 4));
    assert_eq!(
        (head.method.as_str(), head.target.path(), head.target.query()),
        ("GET", &b"/a%20b"[..], Some(&b"c"[..]))
    );
    let fields = RequestFields::read(&head.headers, head.version).unwrap();
    let hop_by_hop = HopByHop::of(&head.headers, &fields);
    let (mut edits, mut added) = (HeaderEdits::default(), AddedHeaders::default());
    edits.set(&"x-ours".parse().unwrap(), HeaderValue::from_static("4"));
    edits.remove(&"x-key".parse().unwrap());
    added.set(&X_REAL_IP, Value::Static("::1"));
    added.set(&X_FORWARDED_PREFIX, Value::Nothing);
    let headers = RequestHeaders {
        map: &head.headers,
        spelling: &head.spelling,
        hop_by_hop: &hop_by_hop,
        edits: &edits,
        added: &added,
    };
    let mut out = Vec::new();
    let host = HeaderValue::from_static("b");
    write_request(&mut out, &head.method, |out| out.extend_from_slice(b"/up"), &host, headers);
    let out = String::from_utf8(out).unwrap();
    let mut lines: Vec<_> = out.strip_prefix("GET /up HTTP/1.1\r\nhost: b\r\n").unwrap().lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["X-MiXed: 1", "X-TWICE: 3", "x-ours: 4", "x-real-ip: ::1", "x-twice: 2"]);
}

#[test]
fn a_response_keeps_its_reason_and_our_names_are_capitalised() {
    let text = b"HTTP/1.0 299 So so\r\netag: x\r\n\r\n";
    let mut head = ResponseHead::default();
    assert_eq!(head.parse(text), Parsed::Head(text.len()));
    assert_eq!((head.status.as_u16(), head.version), (299, Version::HTTP_10));
    head.headers.insert("x-of-a-plugin", HeaderValue::from_static("1"));
    let mut added = AddedHeaders::default();
    added.set(&VIA, Value::Static("1.1 ours"));
    let mut out = Vec::new();
    let headers = ResponseHeaders { map: &head.headers, spelling: &head.spelling, added: &added };
    write_response(&mut out, head.status, &head.reason, headers);
    assert_eq!(out, b"HTTP/1.1 299 So so\r\netag: x\r\nX-Of-A-Plugin: 1\r\nVia: 1.1 ours\r\n");
    let (map, spelling, added, mut out) = (HeaderMap::new(), Spelling::default(), AddedHeaders::default(), Vec::new());
    let headers = ResponseHeaders { map: &map, spelling: &spelling, added: &added };
    write_response(&mut out, StatusCode::NOT_FOUND, b"", headers);
    assert_eq!(out, b"HTTP/1.1 404 Not Found\r\n");
}

#[test]
fn what_is_no_request_is_refused_however_it_arrives() {
    let long = "x".repeat(9_000);
    let rows: &[(&str, InvalidHead)] = &[
        ("GET / HTTP/1.1 x\r\n\r\n", InvalidHead::Malformed("unsupported HTTP version")),
        ("GET  / HTTP/1.1\r\n\r\n", InvalidHead::Malformed("invalid request target")),
        ("G\x01T / HTTP/1.1\r\n\r\n", InvalidHead::Malformed("invalid method")),
        ("G@T / HTTP/1.1\r\n\r\n", InvalidHead::Malformed("invalid method")),
        ("GET /a\x7f HTTP/1.1\r\n\r\n", InvalidHead::Malformed("invalid request target")),
        ("GET HTTP/1.1\r\n\r\n", InvalidHead::Malformed("no HTTP version")),
        ("GET\r\n\r\n", InvalidHead::Malformed("no request target")),
        ("GET / HTTP/3.1\r\n\r\n", InvalidHead::Malformed("unsupported HTTP version")),
        ("GET / HTTP/1.1\r\nX y: 1\r\n\r\n", InvalidHead::Malformed("invalid field name")),
        ("GET / HTTP/1.1\r\nX\u{e9}: 1\r\n\r\n", InvalidHead::Malformed("invalid field name")),
        ("GET / HTTP/1.1\r\n\"X\": 1\r\n\r\n", InvalidHead::Malformed("invalid field name")),
        ("GET / HTTP/1.1\r\nX : 1\r\n\r\n", InvalidHead::Malformed("invalid field name")),
        ("GET / HTTP/1.1\r\nX: a\x01\r\n\r\n", InvalidHead::Malformed("invalid field value")),
        ("PRI * HTTP/2.0\r\n\r\n", InvalidHead::Http2Preface),
        (&format!("GET /{long} HTTP/1.1\r\n\r\n"), InvalidHead::LineTooLong),
        (&format!("GET / HTTP/1.1\r\nX: {long}\r\n\r\n"), InvalidHead::TooLarge),
        (&format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(FIELDS_MAX + 1)), InvalidHead::TooLarge),
        (&format!("GET / HTTP/1.1\r\n{}\r\n", format!("X: {}\r\n", &long[..8_000]).repeat(9)), InvalidHead::TooLarge),
    ];
    for (text, expected) in rows {
        for size in [1, 7, 4_096, text.len()] {
            let verdict = in_pieces(text.as_bytes(), size, &HeadLimits::default());
            assert_eq!(verdict, Parsed::Invalid(*expected), "{:.60} by {size}", text);
        }
    }
}

#[test]
fn what_is_a_request_is_read_however_it_arrives() {
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(FIELDS_MAX));
    let rows: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.0\nHost: a\n\n",
        b"PURGE /{\"<>|^`\xe9} HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nX:\r\nY: \t b \r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\n\r\n",
        many.as_bytes(),
    ];
    for text in rows {
        for size in [1, 7, 4_096, text.len()] {
            assert_eq!(in_pieces(text, size, &HeadLimits::default()), Parsed::Head(text.len()));
        }
    }
    assert_eq!((skip_empty_lines(b"\r\n\n\r\nGET"), skip_empty_lines(b"\rGET"), skip_empty_lines(b"")), (5, 0, 0));
}

#[test]
fn a_limit_holds_for_the_bytes_that_arrive_in_any_pieces() {
    let limits = HeadLimits { line_bytes: 20, head_bytes: 60 };
    let rows: &[(&str, Result<(), InvalidHead>)] = &[
        ("GET /23456 HTTP/1.1\r\n\r\n", Ok(())),
        ("GET /234567 HTTP/1.1\r\n\r\n", Ok(())),
        ("GET /2345678 HTTP/1.1\r\n\r\n", Err(InvalidHead::LineTooLong)),
        ("GET / HTTP/1.1\r\nx:                 a\r\n\r\n", Ok(())),
        ("GET / HTTP/1.1\r\nx:                  a\r\n\r\n", Err(InvalidHead::TooLarge)),
        ("GET / HTTP/1.1\r\nx:a                  \r\n\r\n", Err(InvalidHead::TooLarge)),
        ("GET / HTTP/1.1\r\nx: 4567890123456\r\nx: 4567890123456\r\nx: 3\r\n\r\n", Ok(())),
        ("GET / HTTP/1.1\r\nx: 4567890123456\r\nx: 4567890123456\r\nx: 34\r\n\r\n", Err(InvalidHead::TooLarge)),
    ];
    for (text, expected) in rows {
        let expected = expected.map_or_else(Parsed::Invalid, |()| Parsed::Head(text.len()));
        for size in [1, 2, 3, 7, text.len()] {
            assert_eq!(in_pieces(text.as_bytes(), size, &limits), expected, "{text:?} by {size}");
        }
    }
}

#[test]
fn a_refused_request_keeps_its_line_and_its_format() {
    let mut head = RequestHead::default();
    let text = b"POST /x?y HTTP/1.0\r\nHost: a\r\nAccept: text/html\r\nX y: 1\r\nContent-Type: a/b\r\n\r\n";
    head.salvage(text, &HeadLimits::default());
    assert_eq!((head.method.as_str(), &head.target.path_and_query()[..]), ("POST", &b"/x?y"[..]));
    assert_eq!((head.version, &head.headers["accept"]), (Version::HTTP_10, &"text/html".parse().unwrap()));
    assert_eq!((head.headers.len(), &head.headers["content-type"]), (2, &"a/b".parse().unwrap()));
    head.salvage(b"\x16\x03\x01\xff\r\n\r\n", &HeadLimits::default());
    assert_eq!((head.method.as_str(), head.target.path(), head.headers.len()), ("GET", &b""[..], 0));
}

fn fields(version: Version, lines: &[(&str, &str)]) -> Result<RequestFields, InvalidHead> {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    RequestFields::read(&headers, version)
}

#[test]
fn a_request_has_one_length_or_chunks_or_no_body() {
    let of = |lines: &[(&str, &str)]| fields(Version::HTTP_11, lines);
    assert_eq!(of(&[]).unwrap().framing(), Framing::None);
    assert_eq!(of(&[("content-length", "7")]).unwrap().framing(), Framing::Length(7));
    assert_eq!(of(&[("transfer-encoding", "Chunked")]).unwrap().framing(), Framing::Chunked);
    for wrong in [
        &[("content-length", "1"), ("content-length", "1")][..],
        &[("content-length", "1"), ("transfer-encoding", "chunked")],
        &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
        &[("content-length", "+1")],
        &[("content-length", "1, 1")],
        &[("content-length", "")],
        &[("content-length", "99999999999999999999")],
        &[("transfer-encoding", "gzip, chunked")],
        &[("transfer-encoding", "")],
    ] {
        assert!(of(wrong).is_err(), "{wrong:?}");
    }
    assert!(fields(Version::HTTP_10, &[("transfer-encoding", "chunked")]).is_err());
}

#[test]
fn a_request_says_what_becomes_of_its_connection() {
    let of = |lines: &[(&str, &str)]| fields(Version::HTTP_11, lines).unwrap();
    let said = of(&[("connection", "Close, X-a"), ("te", "trailers;q=0.5"), ("upgrade", "WebSocket")]);
    assert!(said.close && said.names_fields && said.trailers && said.websocket);
    assert!(!of(&[("upgrade", "h2c"), ("upgrade", "websocket")]).websocket);
    assert!(!of(&[("connection", "keep-alive, Upgrade")]).names_fields);
    assert!(of(&[("expect", "100-Continue")]).expects_continue);
    assert!(!of(&[]).closes(Version::HTTP_11) && of(&[]).closes(Version::HTTP_10));
    assert!(!of(&[("connection", "keep-alive")]).closes(Version::HTTP_10));
}
