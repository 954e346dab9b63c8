//! Looks at HTTP/1 requests as bytes, before hyper does, and refuses what hyper would smooth over.
//!
//! hyper reads a length beside chunks by the chunks, makes one of two equal lengths, and answers what it refuses with a
//! bare status. That is safe, but Kong answers such requests 400 with its error body, and a gateway that guesses what a
//! confused client meant hides attacks. So heads are held until they are whole and looked at line by line; bodies are
//! only followed, to know where the next head begins. Where this loses the thread (chunks that are none, a tunnel), it
//! steps aside and hyper decides alone.
//!
//! A refused head is replaced by a short one that hyper understands, and the request's number says that it is refused.
//! So a refusal is an exchange like any other, with its log line and its negotiated body.

use memchr::memchr;

use crate::proxy::admission::{HEAD_BYTES, LINE_BYTES, Refusal};

/// Lines of a head; what hyper takes.
const LINES: u32 = 100;

/// Follows the requests of one connection.
pub struct Screen {
    state: State,
    /// Heads that have passed whole.
    heads: u32,
}

/// What may go on to hyper.
#[derive(Debug, PartialEq, Eq)]
pub enum Look {
    /// So many bytes; what follows is a head that is not whole yet, to be shown again with more behind it.
    Pass(usize),
    /// So many bytes, then `Refused::instead`, then nothing more.
    Refuse { at: usize, refused: Refused },
}

/// A request that is refused.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// Counts the requests of the connection from 1.
    pub number: u32,
    pub refusal: Refusal,
    /// The head that hyper gets in its place.
    pub instead: Vec<u8>,
}

enum State {
    Head(Head),
    Body(u64),
    Chunks(Chunks),
    /// Refused: nothing more is read.
    Over,
    /// Not ours to judge any more.
    Aside,
}

/// What has been read of a head.
#[derive(Default)]
struct Head {
    /// Bytes of whole lines.
    read: usize,
    /// Lines, the request line included, leading empty ones not.
    lines: u32,
    lengths: u32,
    length: u64,
    codings: u32,
    websocket: bool,
}

enum Scan {
    Whole,
    Partial,
    Bad(Refusal),
}

impl Screen {
    /// Of a connection on which so many requests have been served by others.
    pub fn after(served: u32) -> Self {
        Self { state: State::Head(Head::default()), heads: served }
    }

    /// Nothing more is to be read.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Looks at what has arrived and has not passed yet.
    pub fn look(&mut self, bytes: &[u8]) -> Look {
        let mut passed = 0;
        while passed < bytes.len() {
            let rest = &bytes[passed..];
            match &mut self.state {
                State::Head(head) => match head.scan(rest) {
                    Scan::Whole => {
                        passed += head.read;
                        self.heads = self.heads.wrapping_add(1);
                        self.state = head.followed_by();
                    }
                    Scan::Partial => break,
                    Scan::Bad(refusal) => {
                        self.state = State::Over;
                        let number = self.heads.wrapping_add(1);
                        let refused = Refused { number, refusal, instead: instead(rest, refusal) };
                        return Look::Refuse { at: passed, refused };
                    }
                },
                State::Body(left) => {
                    let taken = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    passed += taken;
                    *left -= taken as u64;
                    if *left == 0 {
                        self.state = State::Head(Head::default());
                    }
                }
                State::Chunks(chunks) => match chunks.follow(rest) {
                    Followed::All => passed = bytes.len(),
                    Followed::End(taken) => {
                        passed += taken;
                        self.state = State::Head(Head::default());
                    }
                    Followed::Lost => self.state = State::Aside,
                },
                State::Over | State::Aside => passed = bytes.len(),
            }
        }
        Look::Pass(passed)
    }
}

impl Head {
    /// Reads on to the end of the head.
    fn scan(&mut self, bytes: &[u8]) -> Scan {
        while let Some(end) = memchr(b'\n', &bytes[self.read..]) {
            let line = &bytes[self.read..self.read + end];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            self.read += end + 1;
            if line.is_empty() && self.lines > 0 {
                return self.verdict();
            }
            if let Err(refusal) = self.take(line) {
                return Scan::Bad(refusal);
            }
        }
        match self.check_size(bytes.len() - self.read, bytes.len()) {
            Ok(()) => Scan::Partial,
            Err(refusal) => Scan::Bad(refusal),
        }
    }

    fn take(&mut self, line: &[u8]) -> Result<(), Refusal> {
        self.check_size(line.len() + 2, self.read)?;
        if self.lines == 0 && line.is_empty() {
            return Ok(());
        }
        self.lines += 1;
        if self.lines > LINES + 1 {
            return Err(Refusal::HeadTooLarge);
        }
        // The first letter tells nearly all lines apart from those of interest.
        match line.first().map(u8::to_ascii_lowercase) {
            Some(b'c') => self.take_length(line),
            Some(b't') if named(line, b"transfer-encoding").is_some() => {
                self.codings += 1;
                Ok(())
            }
            Some(b'u') => {
                self.websocket |= named(line, b"upgrade").is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn take_length(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let Some(value) = named(line, b"content-length") else { return Ok(()) };
        let digits = value.iter().all(u8::is_ascii_digit);
        let length = str::from_utf8(value).ok().filter(|_| digits).and_then(|text| text.parse().ok());
        self.lengths += 1;
        self.length = length.ok_or(Refusal::BadRequest)?;
        Ok(())
    }

    fn check_size(&self, line: usize, head: usize) -> Result<(), Refusal> {
        match self.lines {
            0 if line > LINE_BYTES => Err(Refusal::UriTooLong),
            _ if line > LINE_BYTES || head > HEAD_BYTES => Err(Refusal::HeadTooLarge),
            _ => Ok(()),
        }
    }

    fn verdict(&self) -> Scan {
        if self.lengths + self.codings > 1 { Scan::Bad(Refusal::BadRequest) } else { Scan::Whole }
    }

    fn followed_by(&self) -> State {
        match (self.websocket, self.codings, self.length) {
            (true, ..) => State::Aside,
            (false, 1.., _) => State::Chunks(Chunks::default()),
            (false, 0, 0) => State::Head(Head::default()),
            (false, 0, length) => State::Body(length),
        }
    }
}

/// The value of a header line with this lower-case name.
fn named<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (found, rest) = line.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b":").filter(|_| found.eq_ignore_ascii_case(name))?;
    Some(value.trim_ascii())
}

/// The head that stands for a refused one: its own first line, when that is not the reason, and what it accepts.
fn instead(head: &[u8], refusal: Refusal) -> Vec<u8> {
    let mut lines = head.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let line = lines.by_ref().find(|line| !line.is_empty()).unwrap_or_default();
    let mut text = match refusal {
        Refusal::UriTooLong => b"GET / HTTP/1.1".to_vec(),
        _ => line.to_vec(),
    };
    text.extend_from_slice(b"\r\nHost: refused\r\nConnection: close\r\n");
    for line in lines.take_while(|line| !line.is_empty()).filter(|line| line.len() < 1024) {
        if named(line, b"accept").is_some() || named(line, b"content-type").is_some() {
            text.extend_from_slice(line);
            text.extend_from_slice(b"\r\n");
        }
    }
    text.extend_from_slice(b"\r\n");
    text
}

/// Where a chunked body ends.
#[derive(Default)]
struct Chunks {
    at: At,
    /// The size being read, then the bytes left.
    size: u64,
    digits: u32,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum At {
    #[default]
    Size,
    /// The rest of the line with the size.
    Extension,
    Data,
    /// What ends a chunk's data.
    DataEnd,
    /// At the beginning of a trailer line.
    Trailer,
    /// Within one.
    TrailerLine,
}

enum Followed {
    All,
    /// The body ended after so many bytes.
    End(usize),
    Lost,
}

impl Chunks {
    fn follow(&mut self, bytes: &[u8]) -> Followed {
        let mut read = 0;
        while let Some(&byte) = bytes.get(read) {
            if self.at == At::Data {
                let taken = (bytes.len() - read).min(usize::try_from(self.size).unwrap_or(usize::MAX));
                self.size -= taken as u64;
                read += taken;
                if self.size == 0 {
                    self.at = At::DataEnd;
                }
                continue;
            }
            read += 1;
            match self.step(byte) {
                Some(true) => return Followed::End(read),
                Some(false) => {}
                None => return Followed::Lost,
            }
        }
        Followed::All
    }

    /// Whether the byte ends the body; `None` when it has no place here.
    fn step(&mut self, byte: u8) -> Option<bool> {
        self.at = match (self.at, byte) {
            (At::Size, _) if byte.is_ascii_hexdigit() => {
                self.digits += 1;
                self.size = self.size.checked_mul(16)? + u64::from(char::from(byte).to_digit(16)?);
                At::Size
            }
            (At::Size, b'\r' | b';' | b' ' | b'\t') if self.digits > 0 => At::Extension,
            (At::Extension, b'\n') => {
                self.digits = 0;
                if self.size == 0 { At::Trailer } else { At::Data }
            }
            (At::Extension, _) => At::Extension,
            (At::DataEnd, b'\r') => At::DataEnd,
            (At::DataEnd, b'\n') => At::Size,
            (At::Trailer, b'\r') => At::Trailer,
            (At::Trailer, b'\n') => return Some(true),
            (At::TrailerLine, b'\n') => At::Trailer,
            (At::Trailer | At::TrailerLine, _) => At::TrailerLine,
            (At::Size | At::DataEnd | At::Data, _) => return None,
        };
        Some(false)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NEXT: &str = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";

    /// Feeds pieces as a connection does; what passed, and the refusal.
    fn feed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Option<(u32, Refusal)>) {
        let (mut screen, mut passed, mut held) = (Screen::after(0), Vec::new(), Vec::new());
        for piece in pieces {
            held.extend_from_slice(piece);
            match screen.look(&held) {
                Look::Pass(length) => passed.extend(held.drain(..length)),
                Look::Refuse { at, refused } => {
                    passed.extend(held.drain(..at));
                    passed.extend(refused.instead);
                    return (passed, Some((refused.number, refused.refusal)));
                }
            }
        }
        (passed, None)
    }

    fn check(text: &str, expected: Option<(u32, Refusal)>) {
        let whole = feed([text.as_bytes()]);
        assert_eq!(whole.1, expected, "{text:?}");
        if expected.is_none() {
            assert_eq!(whole.0, text.as_bytes(), "{text:?}");
        }
        assert_eq!(feed(text.as_bytes().chunks(1)).1, expected, "byte by byte: {text:?}");
    }

    fn post(headers: &str, rest: &str) -> String {
        format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n{rest}")
    }

    #[test]
    fn requests_in_order_pass_untouched_whatever_their_bodies() {
        check(NEXT, None);
        check(&NEXT.repeat(3), None);
        check(&format!("\r\n\r\n{NEXT}"), None);
        check("GET / HTTP/1.1\nHost: a\n\n", None);
        check(&post("Content-Length: 5\r\n", &format!("Conte{NEXT}")), None);
        check(
            &post(
                "Transfer-Encoding: chunked\r\n",
                &format!("3\r\nabc\r\na;x=y\r\n0123456789\r\n0\r\nT: 1\r\n\r\n{NEXT}"),
            ),
            None,
        );
        check(&post("Content-Lengthy: x\r\nX-Content-Length: y\r\nTe: trailers\r\n", NEXT), None);
    }

    #[test]
    fn framing_that_says_two_things_is_refused() {
        let bad = Some((1, Refusal::BadRequest));
        check(&post("Content-Length: 1\r\nContent-Length: 1\r\n", "x"), bad);
        check(&post("Content-Length: 1\r\ncontent-LENGTH: 2\r\n", "x"), bad);
        check(&post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), bad);
        check(&post("transfer-encoding: chunked\r\nContent-Length: 3\r\n", "0\r\n\r\n"), bad);
        check(&post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), bad);
        for length in ["", "+1", "-1", "1,1", "1 1", "0x1", "99999999999999999999"] {
            check(&post(&format!("Content-Length: {length}\r\n"), "x"), bad);
        }
    }

    #[test]
    fn later_requests_are_judged_too() {
        let bad = post("Content-Length: 1\r\nContent-Length: 1\r\n", "x");
        check(&format!("{NEXT}{bad}"), Some((2, Refusal::BadRequest)));
        check(&format!("{}{bad}", post("Content-Length: 40\r\n", &"x".repeat(40))), Some((2, Refusal::BadRequest)));
        let chunked = post("Transfer-Encoding: chunked\r\n", "1\r\nx\r\n0\r\n\r\n");
        check(&format!("{chunked}{chunked}{bad}"), Some((3, Refusal::BadRequest)));
    }

    #[test]
    fn heads_have_bounds_also_while_they_are_incomplete() {
        check(&format!("GET /{}", "q".repeat(9_000)), Some((1, Refusal::UriTooLong)));
        check(&format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(9_000)), Some((1, Refusal::HeadTooLarge)));
        let line = format!("X: {}\r\n", "x".repeat(8_000));
        check(&format!("GET / HTTP/1.1\r\n{}", line.repeat(5)), Some((1, Refusal::HeadTooLarge)));
        check(&format!("GET / HTTP/1.1\r\n{}\r\n", "X: 1\r\n".repeat(101)), Some((1, Refusal::HeadTooLarge)));
        check(&format!("GET / HTTP/1.1\r\n{}\r\n", "X: 1\r\n".repeat(100)), None);
        check(&"\r\n".repeat(20_000), Some((1, Refusal::HeadTooLarge)));
    }

    #[test]
    fn what_stands_for_a_refused_head_keeps_its_line_and_what_it_accepts() {
        let text = post("Accept: text/html\r\nX: 1\r\nContent-Length: 1\r\nContent-Length: 1\r\n", "x");
        let expected = "POST / HTTP/1.1\r\nHost: refused\r\nConnection: close\r\nAccept: text/html\r\n\r\n";
        assert_eq!(String::from_utf8(feed([text.as_bytes()]).0).unwrap(), expected);
    }

    #[test]
    fn a_tunnel_and_chunks_that_are_none_are_left_alone() {
        let bad = post("Content-Length: 1\r\nContent-Length: 1\r\n", "x");
        check(&format!("{}{bad}", post("Upgrade: websocket\r\n", "")), None);
        check(&format!("{}{bad}", post("Transfer-Encoding: chunked\r\n", "zz\r\n")), None);
        check(&format!("{}{bad}", post("Transfer-Encoding: chunked\r\n", "3\r\nabcd\r\n")), None);
        check(&format!("{}{bad}", post("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\n")), None);
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference_and_nothing_breaks_it(
            text in prop::collection::vec(
                prop_oneof![
                    Just(b"GET / HTTP/1.1\r\n".to_vec()), Just(b"\r\n".to_vec()), Just(b"Content-Length: 3\r\n".to_vec()),
                    Just(b"Transfer-Encoding: chunked\r\n".to_vec()), Just(b"2\r\nab\r\n".to_vec()), Just(b"0\r\n\r\n".to_vec()),
                    prop::collection::vec(any::<u8>(), 0..8)
                ],
                0..24
            ),
            size in 1_usize..40
        ) {
            let text = text.concat();
            let (whole, split) = (feed([&text[..]]), feed(text.chunks(size)));
            prop_assert_eq!(whole.1, split.1);
            if whole.1.is_none() {
                prop_assert_eq!(whole.0, split.0);
            }
        }
    }
}
