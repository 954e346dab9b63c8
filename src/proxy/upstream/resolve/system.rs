//! The name service of this machine: `/etc/resolv.conf` and `/etc/hosts`, both read once.
//!
//! Kong asks for A records; here AAAA comes second, for names that have nothing else, such as Fly's `.internal`. Asking
//! for both and mixing them would send half of the tries of a host without IPv6 into the void.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RecordType};

use crate::proxy::upstream::resolve::{Answer, Outcome, Source, Unresolved};

/// How long an answer of `getaddrinfo` is believed, which tells no time to live.
const GETADDRINFO_TTL: Duration = Duration::from_secs(10);

/// Asks `servers`, else those of the system, else the C library.
pub(super) fn source(servers: &[SocketAddr]) -> Rc<dyn Source> {
    match resolver(servers) {
        Ok(resolver) => Rc::new(Hickory(resolver)),
        Err(error) => {
            tracing::warn!(%error, "no resolver configuration, names are resolved by the C library");
            Rc::new(CLibrary)
        }
    }
}

fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let mut builder = if servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = servers.iter().copied().map(name_server).collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    // The cache here keeps answers longer than hickory's would, and failures shorter.
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Always;
    builder.build()
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    server
}

struct Hickory(TokioResolver);

impl Source for Hickory {
    fn lookup<'a>(&'a self, name: &'a str) -> LocalBoxFuture<'a, Outcome> {
        async move {
            // Names with underscores are common in containers, and no IDNA.
            let name = Name::from_ascii(name).or_else(|_| Name::from_utf8(name)).map_err(|_| Unresolved::NotFound)?;
            match self.records(name.clone(), RecordType::A).await {
                Ok(answer) => Ok(answer),
                Err(Unresolved::NotFound) => self.records(name, RecordType::AAAA).await,
                Err(failed) => self.records(name, RecordType::AAAA).await.map_err(|_| failed),
            }
        }
        .boxed_local()
    }
}

impl Hickory {
    async fn records(&self, name: Name, kind: RecordType) -> Outcome {
        let lookup = self.0.lookup(name, kind).await.map_err(unresolved)?;
        let records = || lookup.answers().iter().filter(|record| record.data.ip_addr().is_some());
        let addresses: Vec<IpAddr> = records().filter_map(|record| record.data.ip_addr()).collect();
        let ttl_s = lookup.answers().iter().map(|record| record.ttl).min().unwrap_or(0);
        if addresses.is_empty() {
            return Err(Unresolved::NotFound);
        }
        Ok(Answer { addresses: addresses.into(), ttl: Duration::from_secs(u64::from(ttl_s)) })
    }
}

fn unresolved(error: NetError) -> Unresolved {
    if error.is_no_records_found() { Unresolved::NotFound } else { Unresolved::Failed(error.to_string().into()) }
}

struct CLibrary;

impl Source for CLibrary {
    fn lookup<'a>(&'a self, name: &'a str) -> LocalBoxFuture<'a, Outcome> {
        async move {
            let found = tokio::net::lookup_host((name, 0)).await.map_err(|error| {
                let why = error.to_string();
                // The error has no kind of its own for this.
                let gone = why.contains("not known") || why.contains("No address");
                if gone { Unresolved::NotFound } else { Unresolved::Failed(why.into()) }
            })?;
            let addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
            let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.into_iter().partition(IpAddr::is_ipv4);
            let chosen = if v4.is_empty() { v6 } else { v4 };
            if chosen.is_empty() {
                return Err(Unresolved::NotFound);
            }
            Ok(Answer { addresses: chosen.into(), ttl: GETADDRINFO_TTL })
        }
        .boxed_local()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::net::UdpSocket;

    use super::*;

    const A: u16 = 1;
    const AAAA: u16 = 28;

    /// A name server that knows three names: `four.test` by IPv4, `six.test` by IPv6, and `broken.test` not to tell.
    async fn serve(socket: UdpSocket) {
        let mut query = [0; 512];
        loop {
            let (length, client) = socket.recv_from(&mut query).await.unwrap();
            socket.send_to(&answer(&query[..length]), client).await.unwrap();
        }
    }

    fn answer(query: &[u8]) -> Vec<u8> {
        let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
        let (question, kind) = (&query[12..end], u16::from_be_bytes([query[end - 4], query[end - 3]]));
        let name = String::from_utf8_lossy(question).to_ascii_lowercase();
        let (code, data): (u8, Vec<u8>) = match kind {
            A if name.contains("four") => (0, vec![10, 0, 0, 4]),
            AAAA if name.contains("six") => (0, std::net::Ipv6Addr::LOCALHOST.octets().to_vec()),
            _ if name.contains("broken") => (2, Vec::new()),
            _ if name.contains("six") || name.contains("four") => (0, Vec::new()),
            _ => (3, Vec::new()),
        };
        let answers = u8::from(!data.is_empty());
        let mut reply = vec![query[0], query[1], 0x81, 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0];
        reply.extend_from_slice(question);
        if answers > 0 {
            reply.extend_from_slice(&[0xc0, 12]);
            reply.extend_from_slice(&kind.to_be_bytes());
            reply.extend_from_slice(&[0, 1, 0, 0, 0, 42, 0, u8::try_from(data.len()).unwrap()]);
            reply.extend_from_slice(&data);
        }
        reply
    }

    #[tokio::test]
    async fn ipv4_is_taken_first_ipv6_when_alone_and_failures_are_told_apart() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let source = source(&[socket.local_addr().unwrap()]);
        let server = tokio::spawn(serve(socket));
        let found = |outcome: Outcome| outcome.map(|answer| (answer.addresses[0].to_string(), answer.ttl.as_secs()));
        assert_eq!(found(source.lookup("four.test").await), Ok(("10.0.0.4".to_owned(), 42)));
        assert_eq!(found(source.lookup("My_four.test").await), Ok(("10.0.0.4".to_owned(), 42)));
        assert_eq!(found(source.lookup("six.test").await), Ok(("::1".to_owned(), 42)));
        assert_eq!(found(source.lookup("none.test").await), Err(Unresolved::NotFound));
        assert_eq!(found(source.lookup("not a name \u{0}").await), Err(Unresolved::NotFound));
        let broken = found(source.lookup("broken.test").await);
        assert!(matches!(broken, Err(Unresolved::Failed(_))), "{broken:?}");
        server.abort();
    }

    #[tokio::test]
    async fn the_c_library_knows_this_machine() {
        let addresses = CLibrary.lookup("localhost").await.unwrap().addresses;
        assert!(addresses.iter().all(IpAddr::is_loopback) && !addresses.is_empty());
    }
}
