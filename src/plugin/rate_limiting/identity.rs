//! Who is counted with whom: the bytes that tell subjects apart, and the name of one for people.

use std::net::IpAddr;

use http::HeaderName;
use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION};
use smallvec::SmallVec;
use uuid::Uuid;

use crate::plugin::Exchange;

/// Longest identifier that is kept on the stack; a longer one (a long header value) is allocated.
type Identifier = SmallVec<[u8; 64]>;

/// Characters of a name that are shown.
const SHOWN_MAX: usize = 128;
/// Characters of a header's value that is shown whole, and of the beginning of a longer one.
const HEADER_SHOWN_MAX: usize = 24;
const HEADER_BEGINNING: usize = 8;

/// Whose requests are counted together.
pub(crate) enum By {
    Consumer,
    Credential,
    Address,
    Service,
    Header(HeaderName),
    Path(Box<str>),
}

impl By {
    /// Who is counted; the client's address where there is nothing else. The first byte tells the kinds apart, so that no
    /// header value can be taken for somebody's address or id.
    pub(crate) fn identifier(&self, exchange: &Exchange<'_>) -> Identifier {
        let id = |id: Option<Uuid>| id.map(|id| tagged(b'i', id.as_bytes()));
        let credential = || exchange.credential.map(|credential| credential.id);
        let found = match self {
            By::Consumer => id(exchange.consumer.map(|consumer| consumer.id).or_else(credential)),
            By::Credential => id(credential()),
            By::Address => None,
            By::Service => id(exchange.service_id),
            By::Header(name) => exchange.header_values(name).next().map(|value| tagged(b't', value.as_bytes())),
            By::Path(path) => (path.as_bytes() == exchange.path).then(|| tagged(b't', path.as_bytes())),
        };
        found.unwrap_or_else(|| match exchange.client_ip.to_canonical() {
            IpAddr::V4(address) => tagged(b'a', &address.octets()),
            IpAddr::V6(address) => tagged(b'a', &address.octets()),
        })
    }

    /// The same for people to read, with what it is, and bounded.
    ///
    /// A header may carry somebody's secret, and names are shown to whoever may ask for the hottest limits: those that
    /// always do are not shown at all, and of a long value the beginning is.
    pub(crate) fn shown(&self, exchange: &Exchange<'_>) -> (&'static str, String) {
        let credential = || exchange.credential.map(|credential| credential.id.to_string());
        let found = match self {
            By::Consumer => {
                let consumer = exchange.consumer.map(|consumer| match &consumer.username {
                    Some(name) => bounded(name),
                    None => consumer.id.to_string(),
                });
                consumer.map(|name| ("consumer", name)).or_else(|| Some(("credential", credential()?)))
            }
            By::Credential => credential().map(|id| ("credential", id)),
            By::Address => None,
            By::Service => exchange.service_id.map(|id| ("service", id.to_string())),
            By::Header(name) => {
                exchange.header_values(name).next().map(|value| ("header", header_shown(name, value.as_bytes())))
            }
            By::Path(path) => (path.as_bytes() == exchange.path).then(|| ("path", bounded(path))),
        };
        found.unwrap_or_else(|| ("ip", exchange.client_ip.to_canonical().to_string()))
    }
}

fn tagged(tag: u8, bytes: &[u8]) -> Identifier {
    let mut identifier = Identifier::with_capacity(1 + bytes.len());
    identifier.push(tag);
    identifier.extend_from_slice(bytes);
    identifier
}

fn header_shown(name: &HeaderName, value: &[u8]) -> String {
    let text = bounded(&String::from_utf8_lossy(value));
    match text.chars().count() {
        _ if [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION].contains(name) => "\u{2026}".to_owned(),
        0..=HEADER_SHOWN_MAX => text,
        _ => text.chars().take(HEADER_BEGINNING).chain(['\u{2026}']).collect(),
    }
}

/// Without what could move a terminal's cursor.
fn bounded(text: &str) -> String {
    let mut shown = text.chars().filter(|c| !c.is_control());
    let mut kept: String = shown.by_ref().take(SHOWN_MAX).collect();
    if shown.next().is_some() {
        kept.push('\u{2026}');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_secrets_are_not_shown() {
        let check = |name: HeaderName, value: &str, expected: &str| {
            assert_eq!(header_shown(&name, value.as_bytes()), expected, "{name}: {value}");
        };
        let tenant = HeaderName::from_static("x-tenant");
        check(tenant.clone(), "acme", "acme");
        check(tenant.clone(), "", "");
        check(tenant.clone(), "a\u{1b}[2Jb", "a[2Jb");
        check(tenant.clone(), "0123456789abcdefghijklmn", "0123456789abcdefghijklmn");
        check(tenant, "0123456789abcdefghijklmno", "01234567\u{2026}");
        check(AUTHORIZATION, "Basic YQ==", "\u{2026}");
        assert_eq!(bounded(&"x".repeat(200)).chars().count(), SHOWN_MAX + 1);
    }
}
