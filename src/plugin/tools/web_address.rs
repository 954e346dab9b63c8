//! URLs in plugin configs, taken apart once when the plugin is built.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::uri::Authority;
use http::{HeaderValue, Uri};
use percent_encoding::percent_decode_str;

use crate::plugin::tools::outbound::Peer;

/// An `http` or `https` URL as a plugin calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebAddress {
    pub peer: Peer,
    /// Path without the query, `/` when the URL has none.
    pub path: String,
    /// Without `?`.
    pub query: Option<String>,
    /// `Basic …` of the user information in the URL, if it has some.
    pub authorization: Option<HeaderValue>,
}

impl WebAddress {
    /// Takes a URL apart; `verify` is for `https`. The error is the sentence why it cannot be called.
    pub fn parse(url: &str, verify: bool) -> Result<Self, String> {
        let refused = |why: &str| format!("'{url}' cannot be called: {why}");
        let uri: Uri = url.parse().map_err(|error| refused(&format!("{error}")))?;
        let authority = uri.authority().ok_or_else(|| refused("it has no host"))?;
        if authority.port_u16().is_none() && port_text(authority).is_some_and(|port| !port.is_empty()) {
            return Err(refused("its port is not a number below 65,536"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let peer = match uri.scheme_str() {
            Some("http") => Peer::plain(host, authority.port_u16().unwrap_or(80)),
            Some("https") => Peer::tls(host, authority.port_u16().unwrap_or(443), verify),
            _ => return Err(refused("its scheme is neither http nor https")),
        };
        let user = authority.as_str().rsplit_once('@').map(|(user, _)| user);
        let path = if uri.path().is_empty() { "/" } else { uri.path() };
        Ok(Self {
            peer,
            path: path.to_owned(),
            query: uri.query().map(str::to_owned),
            authorization: user.and_then(basic),
        })
    }

    /// Path and query.
    pub fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }
}

/// What stands behind the host's colon; the parser of URIs takes digits in any number.
fn port_text(authority: &Authority) -> Option<&str> {
    let (_, behind_host) = authority.as_str().rsplit_once(authority.host())?;
    behind_host.strip_prefix(':')
}

/// `USER:PASSWORD`, percent-decoded, as the value of `Authorization`.
fn basic(user: &str) -> Option<HeaderValue> {
    let decoded: Vec<u8> = percent_decode_str(user).collect();
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(decoded))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let check = |url: &str, peer: Peer, target: &str| {
            let address = WebAddress::parse(url, true).unwrap();
            assert_eq!((address.peer.clone(), address.target().as_str()), (peer, target), "{url}");
        };
        check("http://h.test", Peer::plain("h.test", 80), "/");
        check("http://h.test:8080/a/b?c=d", Peer::plain("h.test", 8080), "/a/b?c=d");
        check("https://h.test?x", Peer::tls("h.test", 443, true), "/?x");
        check("https://[::1]:9/p", Peer::tls("::1", 9, true), "/p");
        check("http://h.test:/", Peer::plain("h.test", 80), "/");
        check("http://u:p@127.0.0.1/", Peer::plain("127.0.0.1", 80), "/");
    }

    #[test]
    fn user_information_becomes_basic_credentials() {
        let check = |url: &str, expected: Option<&str>| {
            let address = WebAddress::parse(url, false).unwrap();
            assert_eq!(address.authorization.as_ref().map(|value| value.to_str().unwrap()), expected, "{url}");
        };
        check("http://h.test/@", None);
        check("http://alice:secret@h.test/", Some("Basic YWxpY2U6c2VjcmV0"));
        check("http://a%3Ab@h.test/", Some("Basic YTpi"));
    }

    #[test]
    fn what_is_no_web_address_is_refused() {
        for url in ["", "h.test", "/path", "ftp://h.test/", "http://", "http://h.test:99999/"] {
            let error = WebAddress::parse(url, false).unwrap_err();
            assert!(error.starts_with(&format!("'{url}' cannot be called: ")), "{error}");
        }
    }
}
