//! Which ports a demo's regions listen on: easy ones where they are free.
//!
//! The system's own choice lost: a port that it gives away may be somebody's outgoing connection before the region
//! binds it, and nobody remembers it while typing.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

/// Proxy, Admin API and cluster of the first region are 8000, 8001 and 8002, of the next 8010 and so on; where one is
/// taken the next ten are tried.
const FIRST: u16 = 8000;
const STEP: u16 = 10;
/// Tens that are tried.
const TRIES: u16 = 1_000;

const NAMES: [&str; 3] = ["fra", "iad", "syd"];

/// Where a region listens, on loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    pub name: &'static str,
    pub proxy: SocketAddr,
    pub admin: SocketAddr,
    pub cluster: SocketAddr,
}

/// Ports that are free now.
pub fn pick() -> Result<[Ports; 3], String> {
    pick_among(|ports| {
        TcpListener::bind(ports.proxy).is_ok()
            && TcpListener::bind(ports.admin).is_ok()
            && UdpSocket::bind(ports.cluster).is_ok()
    })
}

fn pick_among(is_free: impl Fn(&Ports) -> bool) -> Result<[Ports; 3], String> {
    let mut tens = (0..TRIES).map(|ten| FIRST + ten * STEP);
    let mut next = |name: &'static str| {
        let mut candidates = tens.by_ref().map(|ten| at(name, ten));
        candidates.find(&is_free).ok_or_else(|| format!("no free ports between {FIRST} and {}", FIRST + TRIES * STEP))
    };
    let [fra, iad, syd] = NAMES;
    Ok([next(fra)?, next(iad)?, next(syd)?])
}

fn at(name: &'static str, ten: u16) -> Ports {
    let port = |number: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, ten + number));
    Ports { name, proxy: port(0), admin: port(1), cluster: port(2) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn taken_ports_are_stepped_over() {
        let check = |taken: &[u16], expected: [u16; 3]| {
            let is_free = |ports: &Ports| {
                [ports.proxy, ports.admin, ports.cluster].iter().all(|address| !taken.contains(&address.port()))
            };
            let picked = pick_among(is_free).unwrap();
            assert_eq!(picked.map(|ports| ports.proxy.port()), expected, "{taken:?}");
            assert_eq!(picked.map(|ports| ports.name), NAMES);
        };
        check(&[], [8000, 8010, 8020]);
        check(&[8001, 8003], [8010, 8020, 8030]);
        check(&[8010, 8022], [8000, 8030, 8040]);
        assert!(pick_among(|_| false).unwrap_err().starts_with("no free ports between 8000 and 18000"));
    }
}
