//! Where the body of a message ends.
//!
//! What contradicts itself is refused: an upstream whose bytes can be read in two ways could make the next response on
//! its connection mean anything.

use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::{StatusCode, Version};

use crate::http1::digits;
use crate::http1::response::ResponseHead;

/// How a body ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    #[default]
    None,
    /// After this many bytes.
    Length(u64),
    /// With the last chunk.
    Chunked,
    /// With the connection.
    UntilClose,
}

impl Framing {
    /// Of a response. `to_head`: the request was HEAD. The error is the reason, for logs.
    pub fn of_response(head: &ResponseHead, to_head: bool) -> Result<Self, &'static str> {
        if to_head || is_bodiless(head.status) {
            return Ok(Self::None);
        }
        // One pass over all fields costs less than looking for the two that count.
        let (mut coding, mut length) = (None, Ok(None));
        for (name, value) in &head.headers {
            if *name == TRANSFER_ENCODING {
                let is_known = value.as_bytes().eq_ignore_ascii_case(b"chunked") && head.version > Version::HTTP_10;
                if !is_known || coding.replace(value).is_some() {
                    return Err("unsupported Transfer-Encoding");
                }
            } else if *name == CONTENT_LENGTH {
                length = match (length, digits(value.as_bytes())) {
                    (Ok(before), Some(stated)) if before.is_none_or(|before| before == stated) => Ok(Some(stated)),
                    (Ok(_), Some(_)) => Err("conflicting Content-Length"),
                    (before, _) => before.and(Err("invalid Content-Length")),
                };
            }
        }
        if coding.is_some() {
            return Ok(Self::Chunked);
        }
        Ok(length?.map_or(Self::UntilClose, Self::Length))
    }

    /// Makes the headers of a response say about its length what this framing says, and nothing else.
    pub fn settle(self, status: StatusCode, headers: &mut HeaderMap) {
        match self {
            Self::Chunked | Self::UntilClose => drop(headers.remove(CONTENT_LENGTH)),
            Self::None if status == StatusCode::NO_CONTENT => drop(headers.remove(CONTENT_LENGTH)),
            Self::Length(length) if repeats_length(headers) => {
                headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            }
            Self::Length(_) | Self::None => {}
        }
    }
}

/// Whether a response of this status never has a body (RFC 9110 §6.4.1).
pub fn is_bodiless(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

fn repeats_length(headers: &HeaderMap) -> bool {
    let repeats_any = headers.len() > headers.keys_len();
    repeats_any && headers.get_all(CONTENT_LENGTH).iter().nth(1).is_some()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn framing(status: u16, version: Version, lines: &[(&str, &str)]) -> Result<Framing, &'static str> {
        let mut head = ResponseHead::default();
        (head.status, head.version) = (StatusCode::from_u16(status).unwrap(), version);
        for (name, value) in lines {
            head.headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        Framing::of_response(&head, false)
    }

    #[test]
    fn a_response_ends_where_its_head_says() {
        let of = |lines: &[(&str, &str)]| framing(200, Version::HTTP_11, lines);
        assert_eq!(of(&[]), Ok(Framing::UntilClose));
        assert_eq!(of(&[("content-length", "12")]), Ok(Framing::Length(12)));
        assert_eq!(of(&[("content-length", "12"), ("content-length", "12")]), Ok(Framing::Length(12)));
        let chunked = ("transfer-encoding", "Chunked");
        assert_eq!(of(&[chunked, ("content-length", "1")]), Ok(Framing::Chunked));
        assert_eq!(framing(304, Version::HTTP_11, &[("content-length", "12")]), Ok(Framing::None));
        for wrong in [
            &[("content-length", "1"), ("content-length", "2")][..],
            &[("content-length", "+1")],
            &[("content-length", "1, 1")],
            &[("content-length", "")],
            &[("content-length", "99999999999999999999")],
            &[("transfer-encoding", "gzip, chunked")],
            &[chunked, chunked],
        ] {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
        assert!(framing(200, Version::HTTP_10, &[chunked]).is_err());
    }
}
