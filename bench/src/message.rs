//! Where an HTTP/1.1 message ends: as much as load and backend have to know of one.
//!
//! Heads are searched in the bytes as they were read; they are gathered only when they come in pieces. Bodies are
//! counted, never kept.

/// A message that is being received.
#[derive(Default)]
pub struct Message {
    /// A head of which not all is there yet.
    head: Vec<u8>,
    left: Option<Left>,
    pub head_seen: Head,
    pub body_len: usize,
}

/// What the load looks at.
#[derive(Clone, Copy, Default)]
pub struct Head {
    /// 0 for a request.
    pub status: u16,
    /// The sender closes afterwards: `Connection: close`, or HTTP/1.0 without `keep-alive`.
    pub closes: bool,
    /// Whether the head contains `Connection: keep-alive`.
    pub keeps_alive: bool,
}

enum Left {
    Bytes(usize),
    Chunks(Chunks),
}

/// Position in a chunked body.
#[derive(Clone, Copy)]
enum Chunks {
    /// In a size line: the value of its digits so far, and whether more digits may follow.
    Size { len: usize, in_digits: bool },
    /// Bytes left of a chunk's data and of the CR LF after the data.
    Data { left: usize },
    /// In the trailer section: bytes of the current line so far, without CR.
    Trailer { line_len: usize },
}

/// Appends a chunked body of `body_len` bytes in chunks of `chunk_len` bytes, the last one shorter; no trailers.
pub fn push_chunked(to: &mut Vec<u8>, body_len: usize, chunk_len: usize) {
    for at in (0..body_len).step_by(chunk_len) {
        let len = chunk_len.min(body_len - at);
        to.extend_from_slice(format!("{len:x}\r\n").as_bytes());
        to.resize(to.len() + len, b'x');
        to.extend_from_slice(b"\r\n");
    }
    to.extend_from_slice(b"0\r\n\r\n");
}

/// Longest head that is accepted, in bytes.
const HEAD_MAX: usize = 64 * 1024;

impl Message {
    /// Takes `bytes`; true when the message is complete. Nothing may follow it: there is no pipelining here. `None`:
    /// these bytes are no message.
    pub fn take(&mut self, bytes: &[u8]) -> Option<bool> {
        let body = match self.left {
            Some(_) => bytes,
            None if self.head.is_empty() => match end_of_head(bytes) {
                Some(end) => {
                    self.begin(&bytes[..end])?;
                    &bytes[end..]
                }
                None => {
                    self.head.extend_from_slice(bytes);
                    return Some(false);
                }
            },
            None => {
                self.head.extend_from_slice(bytes);
                if self.head.len() > HEAD_MAX {
                    return None;
                }
                let Some(end) = end_of_head(&self.head) else { return Some(false) };
                let head = std::mem::take(&mut self.head);
                self.begin(&head[..end])?;
                let body = head.len() - end;
                &bytes[bytes.len() - body..]
            }
        };
        match self.left.as_mut()? {
            Left::Bytes(left) => {
                self.body_len += body.len();
                *left = left.checked_sub(body.len())?;
                Some(*left == 0)
            }
            Left::Chunks(chunks) => chunks.take(body, &mut self.body_len),
        }
    }

    fn begin(&mut self, head: &[u8]) -> Option<()> {
        if head.starts_with(b"HTTP/1.") {
            self.head_seen.status = std::str::from_utf8(head.get(9..12)?).ok()?.parse().ok()?;
            self.head_seen.closes = head.starts_with(b"HTTP/1.0");
        }
        let mut left = Left::Bytes(0);
        for line in head.split(|byte| *byte == b'\n') {
            if let Some(value) = value(line, b"content-length:") {
                left = Left::Bytes(value.parse().ok()?);
            } else if let Some(value) = value(line, b"transfer-encoding:") {
                left = value.eq_ignore_ascii_case("chunked").then_some(Left::Chunks(Chunks::START))?;
            } else if let Some(value) = value(line, b"connection:") {
                self.head_seen.closes = value.eq_ignore_ascii_case("close");
                self.head_seen.keeps_alive = value.eq_ignore_ascii_case("keep-alive");
            }
        }
        self.left = Some(left);
        Some(())
    }
}

impl Chunks {
    const START: Chunks = Chunks::Size { len: 0, in_digits: true };

    /// Takes `bytes` and adds the lengths of the chunks that begin there to `body_len`; true when the body is complete.
    /// `None`: the bytes are no chunked body, or go on after the end of one.
    fn take(&mut self, mut bytes: &[u8], body_len: &mut usize) -> Option<bool> {
        while let Some((&byte, rest)) = bytes.split_first() {
            match self {
                Chunks::Data { left } => {
                    let taken = bytes.len().min(*left);
                    *left -= taken;
                    bytes = &bytes[taken..];
                    if *left == 0 {
                        *self = Chunks::START;
                    }
                    continue;
                }
                Chunks::Size { len: 0, .. } if byte == b'\n' => *self = Chunks::Trailer { line_len: 0 },
                Chunks::Size { len, .. } if byte == b'\n' => {
                    *body_len += *len;
                    *self = Chunks::Data { left: len.checked_add(2)? };
                }
                Chunks::Size { len, in_digits } => match char::from(byte).to_digit(16) {
                    Some(digit) if *in_digits => *len = len.checked_mul(16)?.checked_add(digit as usize)?,
                    _ => *in_digits = false,
                },
                Chunks::Trailer { line_len: 0 } if byte == b'\n' => return rest.is_empty().then_some(true),
                Chunks::Trailer { line_len } => match byte {
                    b'\n' => *line_len = 0,
                    b'\r' => {}
                    _ => *line_len += 1,
                },
            }
            bytes = rest;
        }
        Some(false)
    }
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4)
}

fn value<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l str> {
    let (start, rest) = line.split_at_checked(name.len())?;
    if !start.eq_ignore_ascii_case(name) {
        return None;
    }
    std::str::from_utf8(rest).ok().map(str::trim)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_message_ends_where_its_head_says_however_it_is_cut() {
        for (text, status, body_len) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0, 0),
            ("HTTP/1.1 200 OK\r\ncontent-LENGTH: 3\r\n\r\nabc", 200, 3),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 200, 3),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
                 00C;a=1\r\n0\r\n\r\n6789abc\r\n1\r\nx\r\n0\r\nA: b\r\nC: d\r\n\r\n",
                0,
                13,
            ),
        ] {
            for size in [1, 2, 7, text.len()] {
                let mut message = Message::default();
                let mut ends = text.as_bytes().chunks(size).map(|part| message.take(part).unwrap()).collect::<Vec<_>>();
                assert_eq!((ends.pop(), ends.contains(&true)), (Some(true), false), "{text:?} by {size}");
                assert_eq!((message.head_seen.status, message.body_len), (status, body_len), "{text:?} by {size}");
            }
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for text in [
            "HTTP/1.1 x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        ] {
            assert_eq!(Message::default().take(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn the_version_and_the_connection_field_say_whether_the_sender_closes() {
        for (text, closes, keeps_alive) in [
            ("HTTP/1.1 200 OK\r\n\r\n", false, false),
            ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", true, false),
            ("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n", false, true),
            ("HTTP/1.0 200 OK\r\n\r\n", true, false),
            ("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n\r\n", false, true),
        ] {
            let mut message = Message::default();
            assert_eq!(message.take(text.as_bytes()), Some(true), "{text:?}");
            let seen = message.head_seen;
            assert_eq!((seen.closes, seen.keeps_alive), (closes, keeps_alive), "{text:?}");
        }
    }
}
