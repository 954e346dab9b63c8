//! The deliberate differences between `tidegate::http1` and hyper.

use http::Uri;
use tidegate::http1::FIELDS_MAX;

use crate::generate::Case;
use crate::message::{Aspect, Outcome};

/// A deliberate difference.
pub struct Deliberate {
    pub aspect: Aspect,
    pub reason: &'static str,
    /// Whether a case shows this difference.
    pub explains: fn(&Sighting<'_>) -> bool,
}

/// A case on which `http1` and hyper differ.
pub struct Sighting<'a> {
    case: &'a Case,
    /// Why `http1` rejects the message; empty when it accepts.
    refusal: &'a str,
    /// Why hyper rejects the message; empty when it accepts.
    their_refusal: &'a str,
    /// Lines of the head without their ends, as a simple reader finds them; the first line is first.
    lines: Vec<&'a [u8]>,
    /// What follows the head.
    rest: &'a [u8],
}

impl<'a> Sighting<'a> {
    pub fn new(case: &'a Case, ours: &'a Outcome, theirs: &'a Outcome) -> Self {
        let why = |outcome: &'a Outcome| outcome.as_ref().err().map_or("", String::as_str);
        let (mut lines, mut rest) = (Vec::new(), &case.bytes[..]);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
            rest = &rest[end + 1..];
            match line {
                b"" if lines.is_empty() => {}
                b"" if is_interim(lines[0]) => lines.clear(),
                b"" => break,
                line => lines.push(line),
            }
        }
        Self { case, refusal: why(ours), their_refusal: why(theirs), lines, rest }
    }

    /// The values of a field.
    fn values(&self, name: &str) -> Vec<&'a [u8]> {
        let fields = self.lines.iter().skip(1).filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            line[..colon].eq_ignore_ascii_case(name.as_bytes()).then(|| line[colon + 1..].trim_ascii())
        });
        fields.collect()
    }

    fn target(&self) -> &'a [u8] {
        self.lines.first().and_then(|line| line.split(|byte| *byte == b' ').nth(1)).unwrap_or_default()
    }

    fn has_unusual_coding(&self) -> bool {
        let codings = self.values("transfer-encoding");
        codings.len() > 1 || codings.iter().any(|coding| !coding.eq_ignore_ascii_case(b"chunked"))
    }

    /// Whether the request line, a field line or the head is longer than its limit, or there are too many fields.
    fn exceeds_limits(&self) -> bool {
        let head_bytes = self.case.bytes.len() - self.rest.len();
        self.lines.iter().any(|line| line.len() > self.case.limits.line_bytes)
            || head_bytes > self.case.limits.head_bytes
            || self.lines.len() > FIELDS_MAX
    }

    /// The body, where it is chunked.
    fn chunks(&self) -> Chunks<'a> {
        Chunks::of(self.rest)
    }
}

/// Whether a first line begins an interim response, which both readers skip.
fn is_interim(line: &[u8]) -> bool {
    matches!(line, [b'H', b'T', b'T', b'P', b'/', b'1', b'.', _, b' ', b'1', tens, ones, ..] if [*tens, *ones] != *b"01")
}

/// The framing of a chunked body, as a simple reader finds it.
#[derive(Default)]
struct Chunks<'a> {
    /// Digits of the longest chunk size.
    digits: usize,
    /// Bytes of extensions and trailers.
    spare_bytes: usize,
    /// Lines between the last chunk and the end of the body, without their LF.
    trailers: Vec<&'a [u8]>,
}

impl<'a> Chunks<'a> {
    fn of(mut rest: &'a [u8]) -> Self {
        let mut chunks = Self::default();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line = &rest[..end];
            let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            chunks.digits = chunks.digits.max(digits);
            chunks.spare_bytes += line.len() - digits;
            let size = std::str::from_utf8(&line[..digits]).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
            rest = &rest[end + 1..];
            match size {
                Some(0) => break,
                Some(size) => rest = rest.get(size.saturating_add(2)..).unwrap_or_default(),
                None => return chunks,
            }
        }
        let lines = rest.split(|byte| *byte == b'\n').take_while(|line| *line != b"\r");
        chunks.trailers = lines.collect();
        chunks.spare_bytes += chunks.trailers.iter().map(|line| line.len() + 1).sum::<usize>() + 2;
        chunks
    }

    fn has_bare_line_end(&self) -> bool {
        self.trailers.iter().any(|line| !line.ends_with(b"\r"))
    }
}

/// Whether a target contains `://` after what is no scheme (RFC 3986 section 3.1).
fn has_invalid_scheme(target: &[u8]) -> bool {
    let scheme = target.windows(3).position(|part| part == b"://").map(|end| &target[..end]);
    scheme.is_some_and(|scheme| {
        let is_known = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        !scheme.first().is_some_and(u8::is_ascii_alphabetic) || !scheme.iter().all(is_known)
    })
}

/// Whether httparse or the `http` crate rejects a target.
fn is_no_uri(target: &[u8]) -> bool {
    std::str::from_utf8(target).is_err() || Uri::try_from(target).is_err()
}

/// Bound of hyper and of `http1` for extensions and for trailers.
const SPARE_BYTES: usize = 16 * 1024;

/// Differences in chunked bodies of both kinds of messages.
pub const CHUNKED: &[Deliberate] = &[
    Deliberate {
        aspect: Aspect::OnlyHyperAccepts,
        reason: "hyper accepts any number of zeros before a chunk's size; http1 accepts 16 digits in all",
        explains: |seen| seen.refusal == "invalid chunk framing" && seen.chunks().digits > 16,
    },
    Deliberate {
        aspect: Aspect::OnlyHyperAccepts,
        reason: "http1 bounds extensions and trailers together to 16 KiB, hyper each of them",
        explains: |seen| seen.refusal == "invalid chunk framing" && seen.chunks().spare_bytes > SPARE_BYTES,
    },
    Deliberate {
        aspect: Aspect::OnlyOursAccepts,
        reason: "http1 accepts 16 KiB of extensions or trailers, hyper one byte less",
        explains: |seen| seen.their_refusal.contains("over limit") && seen.chunks().spare_bytes >= SPARE_BYTES,
    },
    Deliberate {
        aspect: Aspect::OnlyHyperAccepts,
        reason: "hyper accepts LF without CR in trailers, and may find the end of the body elsewhere; http1 rejects it",
        explains: |seen| seen.refusal == "invalid chunk framing" && seen.chunks().has_bare_line_end(),
    },
    Deliberate {
        aspect: Aspect::OnlyOursAccepts,
        reason: "http1 drops trailers that are no fields: the body before them is complete, and its end is the same",
        explains: |seen| {
            // hyper found the end of the body, and then httparse rejected the trailers.
            let faults = ["error: HeaderName }", "error: HeaderValue }", "error: NewLine }"];
            let lines = [&seen.chunks().trailers.join(&b'\n')[..], b"\n\r\n"].concat();
            let mut fields = vec![httparse::EMPTY_HEADER; FIELDS_MAX];
            faults.iter().any(|fault| seen.their_refusal.contains(fault))
                && httparse::parse_headers(&lines, &mut fields).is_err()
        },
    },
];

/// Differences in requests.
pub const REQUESTS: &[Deliberate] = &[
    Deliberate {
        aspect: Aspect::OnlyHyperAccepts,
        reason: "a length beside a transfer coding lets two readers disagree about the end; nginx rejects it as well",
        explains: |seen| {
            seen.refusal == "Content-Length beside Transfer-Encoding"
                && !seen.values("content-length").is_empty()
                && !seen.values("transfer-encoding").is_empty()
        },
    },
    Deliberate {
        aspect: Aspect::OnlyHyperAccepts,
        reason: "http1 rejects an invalid length beside a transfer coding; hyper does not read it",
        explains: |seen| seen.refusal == "invalid Content-Length" && !seen.values("transfer-encoding").is_empty(),
    },
    Deliberate {
        aspect: Aspect::OnlyHyperAccepts,
        reason: "http1 rejects repeated lengths, equal ones too, as nginx does",
        explains: |seen| seen.refusal == "more than one Content-Length" && seen.values("content-length").len() > 1,
    },
    Deliberate {
        aspect: Aspect::OnlyHyperAccepts,
        reason: "http1 supports one transfer coding, `chunked`; hyper passes other codings on to the application",
        explains: |seen| seen.refusal == "unsupported Transfer-Encoding" && seen.has_unusual_coding(),
    },
    Deliberate {
        aspect: Aspect::OnlyHyperAccepts,
        reason: "http1 bounds lines and heads",
        explains: |seen| ["request line too long", "head too large"].contains(&seen.refusal) && seen.exceeds_limits(),
    },
    Deliberate {
        aspect: Aspect::OnlyOursAccepts,
        reason: "http1 accepts targets that `http::Uri` rejects, as nginx does: unencoded bytes, and bytes that are not UTF-8",
        explains: |seen| seen.their_refusal.contains("Parse(Uri)") && is_no_uri(seen.target()),
    },
    Deliberate {
        aspect: Aspect::FirstLine,
        reason: "a scheme is a letter, then letters, digits, `+`, `-`, `.` (RFC 3986 section 3.1); hyper accepts `://h/` as absolute",
        explains: |seen| has_invalid_scheme(seen.target()),
    },
];

/// Differences in responses.
pub const RESPONSES: &[Deliberate] = &[
    Deliberate {
        aspect: Aspect::OnlyHyperAccepts,
        reason: "http1 supports one transfer coding, `chunked`; hyper reads others until the connection ends",
        explains: |seen| seen.refusal == "unsupported Transfer-Encoding" && seen.has_unusual_coding(),
    },
    Deliberate {
        aspect: Aspect::OnlyHyperAccepts,
        reason: "hyper accepts a list of equal lengths in one field",
        explains: |seen| {
            seen.refusal == "invalid Content-Length"
                && seen.values("content-length").iter().any(|value| value.contains(&b','))
        },
    },
];
