//! Entries of `proxy_listen`, `admin_listen` and `status_listen`: `HOST:PORT [FLAG …], …` or `off`.
//!
//! Parsing is pure; names are looked up when the listeners start, so that `check` needs no network.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use crate::listen::bind::Address;

/// One entry as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub host: Host,
    /// `socket` has port and flags; its address is unspecified while `host` is a name.
    address: Address,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    Ip(IpAddr),
    Name(String),
}

/// Reads a listener property, split at its commas. The error is Kong's sentence with the value behind it.
pub fn parse(name: &str, items: &[String]) -> Result<Vec<Entry>, String> {
    if items.first().is_none_or(|first| first == "off") {
        return Ok(Vec::new());
    }
    let entries: Option<Vec<_>> = items.iter().map(|item| entry(item)).collect();
    let mut entries = entries.ok_or_else(|| {
        format!(
            "{name} must be of form: [off] | <ip>:<port> [ssl] [http2] [proxy_protocol] [deferred] [bind] [reuseport] \
             [backlog=N] [ipv6only=on|off] [so_keepalive=on|off|IDLE:INTERVAL:COUNT], [... next entry ...], got '{}'",
            items.join(", ")
        )
    })?;
    // Kong: one `http2` switches it on for the whole server. Here for the TLS entries, where a client can choose.
    let http2 = entries.iter().any(|entry| entry.address.http2);
    entries.iter_mut().filter(|entry| entry.address.ssl).for_each(|entry| entry.address.http2 = http2);
    Ok(entries)
}

impl Entry {
    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Ip(ip) => ip.is_loopback(),
            Host::Name(name) => name == "localhost",
        }
    }

    pub fn ssl(&self) -> bool {
        self.address.ssl
    }

    pub fn port(&self) -> u16 {
        self.address.socket.port()
    }

    /// The addresses to bind: one for an IP address; for a name all its IPv4 addresses or, when it has none, all its
    /// IPv6 ones (a machine may name `::1` and have no IPv6).
    pub fn addresses(&self) -> io::Result<Vec<Address>> {
        let name = match &self.host {
            Host::Ip(_) => return Ok(vec![self.address.clone()]),
            Host::Name(name) => name,
        };
        let mut found: Vec<SocketAddr> = (name.as_str(), self.port()).to_socket_addrs()?.collect();
        found.sort_unstable();
        found.dedup();
        let any_v4 = found.iter().any(SocketAddr::is_ipv4);
        found.retain(|socket| !any_v4 || socket.is_ipv4());
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("{name} has no address")));
        }
        Ok(found.into_iter().map(|socket| Address { socket, ..self.address.clone() }).collect())
    }
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.host {
            Host::Ip(_) => write!(f, "{}", self.address.socket)?,
            Host::Name(name) => write!(f, "{name}:{}", self.port())?,
        }
        f.write_str(if self.address.ssl { " ssl" } else { "" })
    }
}

fn entry(text: &str) -> Option<Entry> {
    let mut words = text.split_whitespace();
    let (host, port) = host_and_port(words.next()?)?;
    let ip = match &host {
        Host::Ip(ip) => *ip,
        Host::Name(_) => IpAddr::from([0, 0, 0, 0]),
    };
    let mut address = Address::plain(SocketAddr::new(ip, port));
    // Like nginx, so that `0.0.0.0:8000, [::]:8000` are two listeners.
    address.ipv6only = true;
    for word in words {
        take_flag(&mut address, word)?;
    }
    Some(Entry { host, address })
}

fn take_flag(address: &mut Address, word: &str) -> Option<()> {
    match word.split_once('=') {
        None => match word {
            "ssl" => address.ssl = true,
            "http2" => address.http2 = true,
            "reuseport" => address.reuseport = true,
            "proxy_protocol" => address.proxy_protocol = true,
            // Hints to nginx about sockets; nothing here depends on them.
            "deferred" | "bind" => {}
            _ => return None,
        },
        Some(("backlog", number)) => address.backlog = number.parse().ok().filter(|backlog| *backlog > 0)?,
        Some(("ipv6only", "on")) => address.ipv6only = true,
        Some(("ipv6only", "off")) => address.ipv6only = false,
        Some(("so_keepalive", value)) if keepalive(value) => {}
        Some(_) => return None,
    }
    Some(())
}

/// `on`, `off` or `IDLE:INTERVAL:COUNT` with any part empty.
fn keepalive(value: &str) -> bool {
    let parts: Vec<_> = value.split(':').collect();
    let digits = |part: &&str| part.chars().all(|c| c.is_ascii_alphanumeric());
    matches!(value, "on" | "off") || (parts.len() == 3 && parts.iter().all(digits))
}

/// `1.2.3.4:80`, `[::]:80`, `name:80`.
pub fn host_and_port(text: &str) -> Option<(Host, u16)> {
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return Some((Host::Ip(socket.ip()), socket.port()));
    }
    let (name, port) = text.rsplit_once(':')?;
    Some((Host::Name(host_name(name)?.to_owned()), port.parse().ok()?))
}

/// A DNS name, as far as it must be one to be worth asking for; not something that looks like a broken IPv4 address.
pub fn host_name(text: &str) -> Option<&str> {
    let label = |label: &str| {
        !label.is_empty() && label.len() <= 63 && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    let numeric = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    (text.len() <= 253 && !numeric && text.split('.').all(label)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::settings::value::items;

    fn parsed(text: &str) -> Result<Vec<Entry>, String> {
        parse("proxy_listen", &items(text))
    }

    fn good(text: &str) -> Vec<Address> {
        parsed(text).unwrap().iter().flat_map(|entry| entry.addresses().unwrap()).collect()
    }

    #[test]
    fn kongs_default_is_understood() {
        let addresses = good("0.0.0.0:8000 reuseport backlog=16384, 0.0.0.0:8443 http2 ssl reuseport backlog=100");
        assert_eq!(addresses.len(), 2);
        assert_eq!((addresses[0].ssl, addresses[0].http2, addresses[0].reuseport), (false, false, true));
        assert_eq!((addresses[1].ssl, addresses[1].http2, addresses[1].backlog), (true, true, 100));
    }

    #[test]
    fn off_is_no_listener() {
        assert_eq!(parsed("off"), Ok(vec![]));
        assert_eq!(parsed("off, 0.0.0.0:1"), Ok(vec![]));
    }

    #[test]
    fn names_and_ipv6_are_addresses_too() {
        assert_eq!(good("[::1]:8001 ipv6only=off")[0].socket, "[::1]:8001".parse().unwrap());
        assert!(good("[::]:8001")[0].ipv6only);
        assert_eq!(parsed("fly-local-6pn:8001").unwrap()[0].host, Host::Name("fly-local-6pn".into()));
        assert!(good("localhost:8001")[0].socket.ip().is_loopback());
    }

    #[test]
    fn what_cannot_be_parsed_is_refused_with_the_form() {
        for text in
            ["8000", "1.2.3:80", "1.2.3.4:99999", "0.0.0.0:80 sssl", "0.0.0.0:80 backlog=x", "[::1", "a b:1", ":80"]
        {
            let error = parsed(text).unwrap_err();
            assert!(error.starts_with("proxy_listen must be of form: [off] | <ip>:<port>"), "{text}: {error}");
            assert!(error.ends_with(&format!("got '{text}'")), "{error}");
        }
    }

    #[test]
    fn http2_on_one_entry_serves_all_tls_entries() {
        let addresses = good("127.0.0.1:1, 127.0.0.1:2 ssl, 127.0.0.1:3 ssl http2");
        assert_eq!(addresses.iter().map(|address| address.http2).collect::<Vec<_>>(), [false, true, true]);
    }
}
