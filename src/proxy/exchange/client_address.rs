//! Who the client is: the TCP peer, or whoever a trusted peer says (`kong/proxy.md` §4.1).
//!
//! An address that came through an IPv6 socket as `::ffff:a.b.c.d` counts as IPv4 everywhere, so that
//! `trusted_ips = 0.0.0.0/0` means what it says. Nothing a client writes is believed unless its peer is trusted.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

/// How the client's address is found.
pub struct RealIp {
    pub trusted: Vec<IpNet>,
    pub header: HeaderName,
    /// Walk the header's list from its end until an address is not trusted.
    pub recursive: bool,
    /// The address comes from the PROXY protocol, not from a header.
    pub from_proxy_protocol: bool,
}

impl RealIp {
    /// Whether a peer may say who it speaks for.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted.iter().any(|net| net.contains(&peer))
    }

    /// The client's address, given the canonical address of the TCP peer and what the PROXY protocol said.
    pub fn resolve(&self, peer: IpAddr, proxied: Option<IpAddr>, headers: &HeaderMap) -> IpAddr {
        if self.trusted.is_empty() {
            return peer;
        }
        if self.from_proxy_protocol {
            return proxied.filter(|_| self.trusts(peer)).unwrap_or(peer);
        }
        let mut current = peer;
        for value in headers.get_all(&self.header).iter().rev() {
            for entry in value.as_bytes().rsplit(|byte| matches!(byte, b',' | b' ')).filter(|entry| !entry.is_empty()) {
                if !self.trusts(current) {
                    return current;
                }
                let Some(named) = parse(entry) else { return current };
                current = named;
                if !self.recursive {
                    return current;
                }
            }
        }
        current
    }
}

/// An address with IPv4 unwrapped from IPv6.
pub fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// `ADDRESS`, `ADDRESS:PORT` or `[ADDRESS]:PORT`.
fn parse(entry: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(entry).ok()?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip())).ok()?;
    Some(canonical(address))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn check(recursive: bool, peer: &str, lines: &[&str], expected: &str) {
        let real_ip = RealIp {
            trusted: ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()].to_vec(),
            header: HeaderName::from_static("x-forwarded-for"),
            recursive,
            from_proxy_protocol: false,
        };
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        let found = real_ip.resolve(canonical(peer.parse().unwrap()), None, &headers);
        assert_eq!(found, expected.parse::<IpAddr>().unwrap(), "{peer} {lines:?} recursive: {recursive}");
    }

    #[test]
    fn an_untrusted_peer_is_the_client_whatever_it_says() {
        check(false, "192.0.2.1", &["1.1.1.1"], "192.0.2.1");
        check(true, "192.0.2.1", &["1.1.1.1"], "192.0.2.1");
    }

    #[test]
    fn a_trusted_peer_names_the_last_address() {
        check(false, "10.0.0.1", &["1.1.1.1, 2.2.2.2"], "2.2.2.2");
        check(false, "10.0.0.1", &["1.1.1.1", "2.2.2.2"], "2.2.2.2");
        check(false, "10.0.0.1", &["1.1.1.1, 10.0.0.9"], "10.0.0.9");
        check(false, "10.0.0.1", &[], "10.0.0.1");
        check(false, "fd00::1", &["2001:db8::5"], "2001:db8::5");
    }

    #[test]
    fn the_proxy_protocol_is_believed_from_trusted_peers_only() {
        let real_ip = RealIp {
            trusted: vec!["10.0.0.0/8".parse().unwrap()],
            header: HeaderName::from_static("x-real-ip"),
            recursive: false,
            from_proxy_protocol: true,
        };
        let mut headers = HeaderMap::new();
        headers.insert("x-real-ip", "7.7.7.7".parse().unwrap());
        let resolve = |peer: &str, said: Option<&str>| {
            let said = said.map(|said| said.parse().unwrap());
            real_ip.resolve(peer.parse().unwrap(), said, &headers).to_string()
        };
        assert_eq!(resolve("10.0.0.1", Some("1.1.1.1")), "1.1.1.1");
        assert_eq!(resolve("192.0.2.1", Some("1.1.1.1")), "192.0.2.1");
        assert_eq!(resolve("10.0.0.1", None), "10.0.0.1");
    }

    #[test]
    fn recursion_walks_over_trusted_addresses() {
        check(true, "10.0.0.1", &["1.1.1.1, 2.2.2.2, 10.0.0.9"], "2.2.2.2");
        check(true, "10.0.0.1", &["1.1.1.1", "10.0.0.8,10.0.0.9"], "1.1.1.1");
        check(true, "10.0.0.1", &["10.0.0.7"], "10.0.0.7");
    }

    #[test]
    fn what_is_no_address_ends_the_walk() {
        check(false, "10.0.0.1", &["unknown"], "10.0.0.1");
        check(true, "10.0.0.1", &["1.1.1.1, nonsense, 10.0.0.9"], "10.0.0.9");
        check(false, "10.0.0.1", &["\u{fc}"], "10.0.0.1");
    }

    #[test]
    fn ports_and_brackets_are_taken_off() {
        check(false, "10.0.0.1", &["1.2.3.4:5678"], "1.2.3.4");
        check(false, "10.0.0.1", &["[2001:db8::1]:443"], "2001:db8::1");
        check(false, "10.0.0.1", &["[2001:db8::1]"], "2001:db8::1");
    }

    #[test]
    fn ipv4_inside_ipv6_is_ipv4() {
        check(false, "::ffff:10.0.0.1", &["::ffff:9.9.9.9"], "9.9.9.9");
    }
}
