//! Paths of requests and routes: what is normal, what is refused, what an upstream gets, what a route's regex may be.
//!
//! A normalised path is bytes, not text: decoding `%FF` yields a byte that is no UTF-8, and such a path must still be
//! routed and sent on unharmed. Matching on the path as sent lost: `/a/%2e%2e/b` would then pass a route that guards `/b`.

use std::borrow::Cow;

use regex::bytes::Regex;
use regex::bytes::RegexBuilder;

/// Bound of one compiled regex. It is the engine's own default, which Kong leaves as it is: what Kong accepts, we accept.
const REGEX_BYTES: usize = 10 << 20;
/// Bound of the search cache that each thread may keep per regex; beyond it the engine searches slower, not wrongly.
const REGEX_CACHE_BYTES: usize = 1 << 20;

/// Whether there is nothing in it to decode and no dot that begins a segment. One pass: looking for `/.` with `contains`
/// cost a twentieth of a request.
fn is_plain(path: &[u8]) -> bool {
    let mut before = b'/';
    path.iter().all(|&byte| {
        let is_plain = byte != b'%' && (byte != b'.' || before != b'/');
        before = byte;
        is_plain
    })
}

/// True when a request for this path (as sent, without its query) is answered 400 `Bad request`: it climbs above the
/// root, holds a broken escape, or an encoded NUL.
///
/// Kong: its HTTP server decodes `%2f` for this check although the router later does not.
pub fn refused(path: &[u8]) -> bool {
    if is_plain(path) {
        return false;
    }
    let mut depth = 0_usize;
    let mut segment = Segment::Empty;
    let mut rest = path;
    while let Some((&first, tail)) = rest.split_first() {
        let (byte, tail) = match first {
            b'%' => match decode(tail) {
                Some(0) | None => return true,
                Some(byte) => (byte, &tail[2..]),
            },
            byte => (byte, tail),
        };
        rest = tail;
        if byte != b'/' {
            segment = segment.then(byte);
            continue;
        }
        match segment.deepen(depth) {
            Some(deeper) => depth = deeper,
            None => return true,
        }
        segment = Segment::Empty;
    }
    segment.deepen(depth).is_none()
}

/// Percent-decodes what is not reserved, resolves dot segments, merges slashes. Takes the path without its query;
/// borrowed when nothing changes. What decodes to no UTF-8 stays as bytes.
pub fn normalise(path: &[u8]) -> Cow<'_, [u8]> {
    if is_normal(path) {
        return Cow::Borrowed(path);
    }
    Cow::Owned(resolve(&decode_unreserved(path)))
}

/// Percent-encodes what may not stand in a request line. `%` is kept, since what is still encoded in a normalised path
/// is meant to arrive encoded.
pub fn escape(path: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(path) {
        Ok(text) if path.iter().all(|&byte| is_sendable(byte)) => Cow::Borrowed(text),
        _ => {
            let mut escaped = Vec::with_capacity(path.len() + 16);
            escape_into(path, &mut escaped);
            Cow::Owned(String::from_utf8_lossy(&escaped).into_owned())
        }
    }
}

/// As [`escape`], appended to `out`; what is appended is ASCII.
pub fn escape_into(path: &[u8], out: &mut Vec<u8>) {
    for &byte in path {
        if is_sendable(byte) {
            out.push(byte);
        } else {
            push_encoded(byte, out);
        }
    }
}

/// Compiles a route's regex (without its `~`) as the router runs it: anchored at the start, over bytes, `.` and the
/// classes meaning characters of UTF-8. The error is the engine's reason, in one line.
///
/// Kong: the anchor is put before the pattern without a group, so `/a|/b` means `/a` at the start or `/b` anywhere.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    compile_unanchored(&format!("^{pattern}"))
}

/// As [`compile`], for a regex that may match anywhere (header values).
pub fn compile_unanchored(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern)
        .size_limit(REGEX_BYTES)
        .dfa_size_limit(REGEX_CACHE_BYTES)
        .build()
        .map_err(|error| reason(&error))
}

/// What a segment of a path has been so far.
#[derive(Clone, Copy)]
enum Segment {
    Empty,
    Dot,
    DotDot,
    Name,
}

impl Segment {
    fn then(self, byte: u8) -> Segment {
        match (self, byte) {
            (Segment::Empty, b'.') => Segment::Dot,
            (Segment::Dot, b'.') => Segment::DotDot,
            _ => Segment::Name,
        }
    }

    /// The depth below the root after this segment; `None` above the root.
    fn deepen(self, depth: usize) -> Option<usize> {
        match self {
            Segment::Empty | Segment::Dot => Some(depth),
            Segment::DotDot => depth.checked_sub(1),
            Segment::Name => Some(depth + 1),
        }
    }
}

fn is_normal(path: &[u8]) -> bool {
    let mut rest = path;
    while let Some((&byte, tail)) = rest.split_first() {
        let changes = match byte {
            b'%' => escape_changes(tail),
            b'/' => tail.first() == Some(&b'/') || begins_with_dots(tail),
            _ => false,
        };
        if changes {
            return false;
        }
        rest = tail;
    }
    !begins_with_dots(path)
}

fn escape_changes(after_percent: &[u8]) -> bool {
    match decode(after_percent) {
        None => false,
        Some(byte) => !is_reserved(byte) || after_percent[..2].iter().any(u8::is_ascii_lowercase),
    }
}

/// Whether the first segment of `path` is `.` or `..`.
fn begins_with_dots(path: &[u8]) -> bool {
    matches!(path, b"." | b".." | [b'.', b'/', ..] | [b'.', b'.', b'/', ..])
}

/// One pass, so `%2541` stays what it is. A `%` without two hex digits stays too.
fn decode_unreserved(path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        let byte = if first == b'%' { decode(tail) } else { None };
        let Some(byte) = byte else {
            decoded.push(first);
            continue;
        };
        rest = &tail[2..];
        if is_reserved(byte) {
            push_encoded(byte, &mut decoded);
        } else {
            decoded.push(byte);
        }
    }
    decoded
}

/// Resolves dot segments and merges slashes. Total: `..` at the root stays at the root.
fn resolve(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut segments = without_leading_dots(path).split(|&byte| byte == b'/');
    out.extend_from_slice(segments.next().unwrap_or_default());
    let mut segments = segments.peekable();
    while let Some(segment) = segments.next() {
        match segment {
            b"" | b"." => {}
            b".." => out.truncate(out.iter().rposition(|&byte| byte == b'/').unwrap_or(0)),
            name => {
                out.push(b'/');
                out.extend_from_slice(name);
                continue;
            }
        }
        if segments.peek().is_none() {
            out.push(b'/');
        }
    }
    out
}

/// A path that does not begin with a slash loses its leading dot segments.
fn without_leading_dots(mut path: &[u8]) -> &[u8] {
    while begins_with_dots(path) {
        path = path.iter().position(|&byte| byte == b'/').map_or(&[], |slash| &path[slash + 1..]);
    }
    path
}

/// The byte that the two hex digits at the start of `digits` stand for.
fn decode(digits: &[u8]) -> Option<u8> {
    let high = char::from(*digits.first()?).to_digit(16)?;
    let low = char::from(*digits.get(1)?).to_digit(16)?;
    u8::try_from(high * 16 + low).ok()
}

fn push_encoded(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

fn is_reserved(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'*'
            | b'\''
            | b'('
            | b')'
            | b';'
            | b':'
            | b'@'
            | b'&'
            | b'='
            | b'+'
            | b'$'
            | b','
            | b'/'
            | b'?'
            | b'%'
            | b'#'
            | b'['
            | b']'
    )
}

fn is_sendable(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || is_reserved(byte) || matches!(byte, b'-' | b'_' | b'.' | b'~')
}

/// The engine draws the pattern with a caret below it, over several lines; only the last says why.
fn reason(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(bytes) => format!("compiled regex exceeds {bytes} bytes"),
        error => {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            last.strip_prefix("error: ").unwrap_or(last).to_owned()
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn normal(path: &str) -> String {
        String::from_utf8_lossy(&normalise(path.as_bytes())).into_owned()
    }

    #[test]
    fn paths_are_normalised_as_kong_does() {
        for (path, expected) in [
            ("", ""),
            ("/", "/"),
            ("/a", "/a"),
            ("/a/", "/a/"),
            ("/.", "/"),
            ("/..", "/"),
            ("/./a", "/a"),
            ("/x/../a", "/a"),
            ("//a", "/a"),
            ("/a//b///c", "/a/b/c"),
            ("/a//", "/a/"),
            ("/a/./b/../c", "/a/c"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/a//../b", "/b"),
            ("/../../a", "/a"),
            ("/in/%2e%2E/out", "/out"),
            ("/.well-known", "/.well-known"),
            ("/a/...", "/a/..."),
            ("/a../x", "/a../x"),
            ("/a%20b", "/a b"),
            ("/%41%62c", "/Abc"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%2Fb", "/a%2Fb"),
            ("/x%7Cy", "/x|y"),
            ("/p%2541", "/p%2541"),
            ("/s%3fq", "/s%3Fq"),
            ("/caf%C3%A9", "/café"),
            ("/bad%zz%4", "/bad%zz%4"),
            ("./a", "a"),
            ("..", ""),
            ("../../a/../b", "/b"),
            ("*", "*"),
        ] {
            assert_eq!(normal(path), expected, "{path}");
        }
    }

    #[test]
    fn a_byte_that_is_no_text_survives_the_way_to_the_upstream() {
        let path = normalise(b"/a%FFb%20c");
        assert_eq!(&*path, b"/a\xFFb c");
        assert_eq!(escape(&path), "/a%FFb%20c");
    }

    #[test]
    fn a_normal_path_is_borrowed() {
        for path in ["/a/b.c/.well-known/..x", "/a%2Fb%25", "/api../x", "/%zz", "*"] {
            assert!(matches!(normalise(path.as_bytes()), Cow::Borrowed(_)), "{path}");
            assert!(matches!(escape(path.as_bytes()), Cow::Borrowed(_)), "{path}");
        }
    }

    #[test]
    fn paths_that_leave_the_root_or_break_an_escape_are_refused() {
        for (path, expected) in [
            ("/", false),
            ("/a/..", false),
            ("/a/../b/../c", false),
            ("/a/..b/...", false),
            ("/..", true),
            ("/../a", true),
            ("/a/../../b", true),
            ("/./..", true),
            ("//..", true),
            ("/%2e%2e/a", true),
            ("/a%2f..%2f..", true),
            ("/a%2fb%2f..%2f..", false),
            ("/a/.%2e/%2E./", true),
            ("/a%00", true),
            ("/a%4", true),
            ("/a%", true),
            ("/a%zz", true),
            ("/a%2541", false),
        ] {
            assert_eq!(refused(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn a_regex_is_anchored_at_the_start_without_a_group() {
        for (pattern, path, expected) in [
            ("/a", "/ab", Some("/a")),
            ("/a", "/b/a", None),
            ("/a|/b", "/x/b", Some("/b")),
            ("/(?<id>\\d+)$", "/12", Some("/12")),
            ("/(?<id>\\d+)$", "/12/", None),
            ("/caf.", "/café", Some("/café")),
            ("/a b", "/a b", Some("/a b")),
        ] {
            let regex = compile(pattern).unwrap();
            let found = regex.find(path.as_bytes()).map(|found| std::str::from_utf8(found.as_bytes()).unwrap());
            assert_eq!(found, expected, "{pattern} on {path}");
        }
    }

    #[test]
    fn a_broken_regex_says_why_in_one_line() {
        for (pattern, why) in [
            ("/a(", "unclosed group"),
            ("/a(?=b)", "look-around, including look-ahead and look-behind, is not supported"),
            ("/(a)\\1", "backreferences are not supported"),
            ("/\\w{1000}{1000}", "compiled regex exceeds 10485760 bytes"),
        ] {
            assert_eq!(compile(pattern).unwrap_err(), why, "{pattern}");
        }
    }

    proptest! {
        /// Whatever the server lets through is stable under a second pass and holds nothing that could be resolved again.
        #[test]
        fn an_accepted_path_is_normal_after_one_pass(tail in "([./a]|%2[eEfF5]|%[4-6][0-9a-f]|%[fF][fF]|é){0,12}") {
            let path = format!("/{tail}");
            prop_assume!(!refused(path.as_bytes()));
            let once = normalise(path.as_bytes()).into_owned();
            prop_assert!(once.starts_with(b"/"));
            prop_assert!(is_normal(&once), "{:?}", String::from_utf8_lossy(&once));
            let sent = escape(&once).into_owned();
            prop_assert_eq!(&*normalise(sent.as_bytes()), &once[..]);
            prop_assert!(!refused(sent.as_bytes()));
        }

        #[test]
        fn any_text_is_survived(path in "\\PC*") {
            let _ = refused(path.as_bytes());
            let once = normalise(path.as_bytes());
            let _ = escape(&once);
            if is_normal(path.as_bytes()) {
                prop_assert_eq!(&*once, path.as_bytes());
            }
        }
    }
}
