//! Generates messages: valid ones of all forms, invalid ones, and mutations of both.

use tidegate::http1::{FIELDS_MAX, HeadLimits};

use crate::random::Random;

/// Bytes to read: a message, mostly valid, and what follows it on the connection.
#[derive(Debug)]
pub struct Case {
    pub bytes: Vec<u8>,
    /// Of a request.
    pub limits: HeadLimits,
    /// A response to a HEAD request.
    pub to_head: bool,
}

const METHODS: &[&str] =
    &["GET", "GET", "POST", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "PURGE", "get"];
const TARGETS: &[&str] = &[
    "/",
    "/a/b?c=d&e",
    "/a%20b?",
    "/a#b?c",
    "/a?b#c",
    "//a/../b",
    "*",
    "h:443",
    "h",
    "[::1]:80",
    "http://h/a?b",
    "http://h:80",
    "http://h?q",
    "http://h#f",
    "http://u:p@h/a",
    "HTTPS://[::1]:1/a",
    "http:///a",
    "http://",
    "ftp://h/",
    "h://",
    "://h/",
    "a/b",
    "?a",
    "#",
    "/a?u=http://h/",
    "",
];
const VERSIONS: &[&str] = &["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "http/1.1", "HTTP/1.10", "HTTP/1", "HTTP/11", ""];
const REASONS: &[&str] = &["OK", "Not Found", "", " ", "So\tso", "a  b ", "caf\u{e9}"];
const STATUSES: &[&str] =
    &["100", "101", "103", "199", "204", "204", "205", "304", "304", "201", "302", "404", "404", "500", "600", "999"];
const WRONG_STATUSES: &[&str] = &["099", "20", "2000", "1000", "2x0", "+20", "", "000"];
const NAMES: &[&str] = &["host", "Accept", "X-A", "x-a", "COOKIE", "Via", "trailer", "te", "Date", "a!#$%&'*+-.^_`|~9"];
const VALUES: &[&str] = &["a", "", "a, b", "\"a;b\"", "a: b", "trailers", "caf\u{e9}", "a\tb  c", "0", "*/*"];
const CONNECTIONS: &[&str] = &["close", "keep-alive", "Close, x-a", "upgrade", "keep-alive, close", ", ,", ""];
const CODINGS: &[&str] = &[
    "gzip, chunked",
    "gzip",
    "chunked, gzip",
    "identity",
    "xchunked",
    "chunked;a=b",
    ",chunked",
    "chunked,",
    "\"chunked\"",
    "",
];
const LENGTHS: &[&str] = &[
    "+1",
    "-1",
    "",
    "1, 1",
    "3,3",
    "0x1",
    "1 1",
    "1.0",
    "18446744073709551615",
    "18446744073709551614",
    "18446744073709551613",
    "18446744073709551616",
    "99999999999999999999",
    "007",
    "0",
];
/// Bytes that parsers treat in a special way.
const SPECIAL: &[u8] = b"\r\n\r\n \t:;,/?#0159afAF-\"\0\x01\x0b\x1f\x7f\x80\xc3\xa9\xff\xe9";

/// A request.
pub fn request(random: &mut Random) -> Case {
    let limits = crate::limits(random);
    let mut out = empty_lines(random);
    if random.below(30) == 0 {
        out.extend((0..1 + random.below(6)).map(|_| any_byte(random)));
    } else {
        out.extend_from_slice(pick(random, METHODS).as_bytes());
    }
    out.extend_from_slice(if random.below(60) == 0 { b"  " } else { b" " });
    target(random, &mut out);
    out.extend_from_slice(if random.below(60) == 0 { b"\t" } else { b" " });
    version(random, &mut out);
    let bare = random.below(8) == 0;
    line_end(random, &mut out, bare);
    message(random, &mut out, bare);
    mutated(random, Case { bytes: out, limits, to_head: false })
}

/// A response, sometimes after interim responses.
pub fn response(random: &mut Random) -> Case {
    let mut out = if random.below(4) == 0 { empty_lines(random) } else { Vec::new() };
    for _ in 0..random.below(12).saturating_sub(9) {
        out.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 3\r\n\r\n");
    }
    version(random, &mut out);
    out.push(b' ');
    let status = match random.below(20) {
        0..10 => "200",
        10..19 => pick(random, STATUSES),
        _ => pick(random, WRONG_STATUSES),
    };
    out.extend_from_slice(status.as_bytes());
    if random.below(10) > 0 {
        out.push(b' ');
        out.extend_from_slice(pick(random, REASONS).as_bytes());
    }
    let bare = random.below(8) == 0;
    line_end(random, &mut out, bare);
    message(random, &mut out, bare);
    let to_head = random.below(6) == 0;
    mutated(random, Case { bytes: out, limits: HeadLimits::default(), to_head })
}

/// Appends fields, the end of the head, a body, and what follows. `bare`: lines end with LF.
fn message(random: &mut Random, out: &mut Vec<u8>, bare: bool) {
    let body: Vec<u8> = match random.below(200) {
        0 => (0..random.below(40_000)).map(|at| at as u8).collect(),
        1..60 => Vec::new(),
        _ => (0..random.below(40)).map(|_| any_byte(random)).collect(),
    };
    let mut lines: Vec<Vec<u8>> = (0..random.below(6)).map(|_| field(random)).collect();
    if random.below(400) == 0 {
        let count = [60, 64, 65, 100, 101, FIELDS_MAX - 3, FIELDS_MAX, FIELDS_MAX + 1][random.below(8)];
        lines.extend((lines.len()..count).map(|_| b"a: b".to_vec()));
    }
    if random.below(300) == 0 {
        let length = [1_000, 8_180 + random.below(20), 20_000][random.below(3)];
        lines.push([b"x-long: ".to_vec(), vec![if random.below(4) == 0 { b' ' } else { b'v' }; length]].concat());
    }
    let is_chunked = framing_fields(random, body.len(), &mut lines);
    for line in &lines {
        out.extend_from_slice(line);
        line_end(random, out, bare);
    }
    line_end(random, out, bare);
    if is_chunked {
        chunked(random, out, &body);
    } else {
        out.extend_from_slice(&body);
    }
    match random.below(6) {
        0 => out.extend_from_slice(b"GET /next HTTP/1.1\r\nhost: b\r\n\r\n"),
        1 => out.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        2 => out.extend((0..random.below(9)).map(|_| any_byte(random))),
        _ => {}
    }
}

/// Inserts the fields that describe a body of this length; true when the body is to be sent in chunks.
fn framing_fields(random: &mut Random, length: usize, lines: &mut Vec<Vec<u8>>) -> bool {
    let length_line = |length: usize| format!("Content-Length: {length}");
    let other = |random: &mut Random| format!("content-length:{}", pick(random, LENGTHS));
    let coding = || "Transfer-Encoding: chunked".to_owned();
    let unusual = |random: &mut Random| format!("transfer-encoding: {}", pick(random, CODINGS));
    let (is_chunked, fresh) = match random.below(32) {
        0..10 => (false, vec![length_line(length)]),
        10..20 => (true, vec![coding()]),
        20..22 => (false, vec![]),
        22 => (false, vec![length_line(length + random.below(3))]),
        23 => (false, vec![length_line(length.saturating_sub(random.below(3)))]),
        24 => (false, vec![length_line(length), length_line(length + random.below(2))]),
        25 => (false, vec![other(random)]),
        26 => (true, vec![coding(), other(random)]),
        27 => (true, vec![length_line(length), coding()]),
        28 => (random.below(2) == 0, vec![unusual(random)]),
        29 => (true, vec![unusual(random), coding()]),
        30 => (true, vec![coding(), unusual(random)]),
        _ => (true, vec!["tRANSFER-eNCODING:\t cHUNKED ".to_owned()]),
    };
    for line in fresh {
        let at = random.below(lines.len() + 1);
        lines.insert(at, line.into_bytes());
    }
    is_chunked
}

/// A field line without its end.
fn field(random: &mut Random) -> Vec<u8> {
    let mut line = match random.below(24) {
        0 => format!("Connection: {}", pick(random, CONNECTIONS)).into_bytes(),
        1 => b"Expect: 100-continue".to_vec(),
        2 => b"Upgrade: websocket".to_vec(),
        _ => {
            let mut line = pick(random, NAMES).as_bytes().to_vec();
            let colon: &[u8] = match random.below(160) {
                0 => b" :",
                1 => b"",
                2 => b"\t: ",
                3 => b":  \t",
                4..50 => b":",
                _ => b": ",
            };
            line.extend_from_slice(colon);
            line.extend_from_slice(pick(random, VALUES).as_bytes());
            line
        }
    };
    match random.below(120) {
        0 => line.push(any_byte(random)),
        1 => line.extend_from_slice(b"\r\n folded"),
        2 => line.extend_from_slice(b"\n\tfolded"),
        3 => line.extend_from_slice(b" \t "),
        4 => line.insert(0, b' '),
        5 => {
            let at = random.below(line.len());
            line[at] = any_byte(random);
        }
        _ => {}
    }
    line
}

/// Appends a chunked body with extensions and trailers.
fn chunked(random: &mut Random, out: &mut Vec<u8>, mut body: &[u8]) {
    while !body.is_empty() {
        let longest = 1 + random.below(body.len());
        let length = 1 + random.below(longest);
        let (data, rest) = body.split_at(length);
        chunk_size(random, out, length);
        out.extend_from_slice(data);
        out.extend_from_slice(if random.below(150) == 0 { b"\n" } else { b"\r\n" });
        body = rest;
    }
    chunk_size(random, out, 0);
    if random.below(4) == 0 {
        for _ in 0..random.below(4) {
            out.extend_from_slice(&field(random));
            out.extend_from_slice(if random.below(20) == 0 { b"\n" } else { b"\r\n" });
        }
    }
    if random.below(100) == 0 {
        let length = 16 * 1024 - 12 + random.below(12);
        out.extend_from_slice(&[b"x: ".to_vec(), vec![b'v'; length], b"\r\n".to_vec()].concat());
    }
    out.extend_from_slice(if random.below(60) == 0 { b"\n" } else { b"\r\n" });
}

/// Appends the line before a chunk's data.
fn chunk_size(random: &mut Random, out: &mut Vec<u8>, length: usize) {
    let size = match random.below(30) {
        0 => format!("{length:X}"),
        1 => format!("{length:03x}"),
        2 => format!("{length:0width$x}", width = 13 + random.below(8)),
        _ => format!("{length:x}"),
    };
    out.extend_from_slice(size.as_bytes());
    match random.below(100) {
        0..5 => out.extend_from_slice(b";name=\"a;b\""),
        5..10 => out.extend_from_slice(b" \t;x"),
        10..15 => out.extend_from_slice(b"  "),
        15 => out.extend_from_slice(&[b';', any_byte(random)]),
        16 => out.extend_from_slice(&[b' ', any_byte(random)]),
        17 => out.push(any_byte(random)),
        18 if random.below(10) == 0 => out.extend(std::iter::repeat_n(b';', 16 * 1024 - 10 + random.below(20))),
        _ => {}
    }
    out.extend_from_slice(if random.below(200) == 0 { b"\n" } else { b"\r\n" });
}

fn target(random: &mut Random, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(pick(random, TARGETS).as_bytes());
    for _ in 0..random.below(12).saturating_sub(9) {
        let at = start + random.below(out.len() + 1 - start);
        out.insert(at, any_byte(random));
    }
    match random.below(1_000) {
        0 => out.extend(std::iter::repeat_n(b'x', 8_150 + random.below(80))),
        1 => out.extend("\u{e9}\u{20ac}\u{10ffff}".bytes()),
        _ => {}
    }
}

fn version(random: &mut Random, out: &mut Vec<u8>) {
    let version = match random.below(80) {
        0..70 => "HTTP/1.1",
        70..79 => "HTTP/1.0",
        _ => pick(random, VERSIONS),
    };
    out.extend_from_slice(version.as_bytes());
}

fn line_end(random: &mut Random, out: &mut Vec<u8>, bare: bool) {
    let end: &[u8] = match random.below(400) {
        0 => b"\r\r\n",
        1 => b"\r",
        2 => b"\n",
        _ if bare => b"\n",
        _ => b"\r\n",
    };
    out.extend_from_slice(end);
}

fn empty_lines(random: &mut Random) -> Vec<u8> {
    let count = random.below(12).saturating_sub(9);
    (0..count).flat_map(|_| if random.below(3) == 0 { &b"\n"[..] } else { b"\r\n" }).copied().collect()
}

/// Changes one in three cases at one to three places.
fn mutated(random: &mut Random, mut case: Case) -> Case {
    let count = if random.below(3) == 0 { 1 + random.below(3) } else { 0 };
    for _ in 0..count {
        mutate(random, &mut case.bytes);
    }
    case
}

fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    let at = random.below(bytes.len());
    if bytes.is_empty() {
        return bytes.push(any_byte(random));
    }
    let end = (at + 1 + random.below(12)).min(bytes.len());
    match random.below(8) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = any_byte(random),
        2 | 3 => bytes.insert(at, any_byte(random)),
        4 => drop(bytes.drain(at..end)),
        5 => {
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
        }
        6 => bytes.truncate(at),
        _ => swap_lines(random, bytes),
    }
}

fn swap_lines(random: &mut Random, bytes: &mut Vec<u8>) {
    let mut lines: Vec<_> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let (one, other) = (random.below(lines.len()), random.below(lines.len()));
    lines.swap(one, other);
    *bytes = lines.concat();
}

fn any_byte(random: &mut Random) -> u8 {
    match random.below(3) {
        0 => SPECIAL[random.below(SPECIAL.len())],
        1 => b'!' + random.below(94) as u8,
        _ => random.next() as u8,
    }
}

fn pick(random: &mut Random, texts: &'static [&'static str]) -> &'static str {
    texts[random.below(texts.len())]
}
