//! Who may ask: tokens in `Kong-Admin-Token` or `Authorization: Bearer`.
//!
//! Only digests are kept and compared, in constant time, so neither the time nor a memory dump tells a token. Without
//! tokens everybody may do everything, as with Kong; with only the read-only one, nobody may write.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use http::header::{
    ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, ORIGIN, WWW_AUTHENTICATE,
};
use http::{Method, StatusCode};

use crate::admin::reply::{self, Reply};

const TOKEN: HeaderName = HeaderName::from_static("kong-admin-token");

/// The tokens that open the Admin API.
#[derive(Default)]
pub(crate) struct Door {
    full: Option<Digest>,
    readonly: Option<Digest>,
}

type Digest = [u8; 32];

impl Door {
    pub(crate) fn new(full: Option<&str>, readonly: Option<&str>) -> Self {
        Self { full: full.map(digest_of), readonly: readonly.map(digest_of) }
    }

    /// Whether anybody may come in.
    pub(crate) fn is_open(&self) -> bool {
        self.full.is_none() && self.readonly.is_none()
    }

    /// The answer to somebody who may not do this; `None` lets the request in.
    pub(crate) fn refuse(&self, method: &Method, headers: &HeaderMap) -> Option<Reply> {
        if self.is_open() || is_preflight(method, headers) {
            return None;
        }
        let Some(shown) = shown(headers).map(digest_of) else {
            return Some(unauthorized("this Admin API wants a token in Kong-Admin-Token or Authorization: Bearer"));
        };
        if matches(&self.full, &shown) {
            return None;
        }
        if !matches(&self.readonly, &shown) {
            return Some(unauthorized("the token is not valid"));
        }
        if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return None;
        }
        Some(reply::message(StatusCode::FORBIDDEN, "the token may only read"))
    }
}

/// A browser asks without credentials whether it may ask with them; the answer names methods, no entity.
fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(ORIGIN) && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

fn shown(headers: &HeaderMap) -> Option<&[u8]> {
    if let Some(token) = headers.get(TOKEN) {
        return Some(token.as_bytes());
    }
    let (scheme, token) = headers.get(AUTHORIZATION)?.as_bytes().split_first_chunk::<7>()?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token.trim_ascii())
}

fn digest_of(token: impl AsRef<[u8]>) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, token.as_ref()).as_ref());
    bytes
}

fn matches(expected: &Option<Digest>, shown: &Digest) -> bool {
    expected.as_ref().is_some_and(|expected| verify_slices_are_equal(expected, shown).is_ok())
}

fn unauthorized(text: &str) -> Reply {
    let mut reply = reply::message(StatusCode::UNAUTHORIZED, text);
    reply.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(door: &Door, method: Method, headers: &[(&'static str, &'static str)], expected: Option<u16>) {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let got = door.refuse(&method, &headers).map(|reply| reply.status().as_u16());
        assert_eq!(got, expected, "{method} {headers:?}");
    }

    #[test]
    fn without_tokens_everybody_may_do_everything() {
        check(&Door::default(), Method::DELETE, &[], None);
    }

    #[test]
    fn a_token_is_taken_from_either_header() {
        let door = Door::new(Some("secret"), None);
        check(&door, Method::POST, &[], Some(401));
        check(&door, Method::POST, &[("kong-admin-token", "secret")], None);
        check(&door, Method::POST, &[("authorization", "Bearer secret")], None);
        check(&door, Method::POST, &[("authorization", "bearer  secret")], None);
        for wrong in ["secre", "secrets", "", "SECRET"] {
            check(&door, Method::GET, &[("kong-admin-token", wrong)], Some(401));
        }
        check(&door, Method::GET, &[("authorization", "Basic secret")], Some(401));
        check(&door, Method::GET, &[("authorization", "Bearer")], Some(401));
    }

    #[test]
    fn a_readonly_token_reads() {
        let door = Door::new(Some("secret"), Some("look"));
        for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
            check(&door, method, &[("kong-admin-token", "look")], None);
        }
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            check(&door, method, &[("kong-admin-token", "look")], Some(403));
        }
    }

    #[test]
    fn with_only_a_readonly_token_nobody_writes() {
        let door = Door::new(None, Some("look"));
        check(&door, Method::POST, &[], Some(401));
        check(&door, Method::POST, &[("kong-admin-token", "look")], Some(403));
        check(&door, Method::GET, &[], Some(401));
    }

    #[test]
    fn a_preflight_needs_no_token() {
        let door = Door::new(Some("secret"), None);
        let preflight = [("origin", "http://a.test"), ("access-control-request-method", "POST")];
        check(&door, Method::OPTIONS, &preflight, None);
        check(&door, Method::OPTIONS, &[("origin", "http://a.test")], Some(401));
        check(&door, Method::GET, &preflight, Some(401));
    }
}
