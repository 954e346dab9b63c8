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
    /// The sender closes afterwards.
    pub closes: bool,
}

enum Left {
    Bytes(usize),
    /// Chunks: the last bytes seen, to find the end by.
    Chunks([u8; 5]),
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
        self.body_len += body.len();
        match self.left.as_mut()? {
            Left::Bytes(left) => {
                *left = left.checked_sub(body.len())?;
                Some(*left == 0)
            }
            Left::Chunks(last) => {
                for byte in &body[body.len().saturating_sub(5)..] {
                    last.rotate_left(1);
                    last[4] = *byte;
                }
                Some(last == b"0\r\n\r\n")
            }
        }
    }

    fn begin(&mut self, head: &[u8]) -> Option<()> {
        if head.starts_with(b"HTTP/1.1 ") {
            self.head_seen.status = std::str::from_utf8(head.get(9..12)?).ok()?.parse().ok()?;
        }
        let mut left = Left::Bytes(0);
        for line in head.split(|byte| *byte == b'\n') {
            if let Some(value) = value(line, b"content-length:") {
                left = Left::Bytes(value.parse().ok()?);
            } else if let Some(value) = value(line, b"transfer-encoding:") {
                left = value.eq_ignore_ascii_case("chunked").then_some(Left::Chunks([0; 5]))?;
            } else if let Some(value) = value(line, b"connection:") {
                self.head_seen.closes = value.eq_ignore_ascii_case("close");
            }
        }
        self.left = Some(left);
        Some(())
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
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 200, 13),
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
        for text in ["HTTP/1.1 x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab"] {
            assert_eq!(Message::default().take(text.as_bytes()), None, "{text:?}");
        }
    }
}
