//! The smallest reverse proxy that Pingora's interface allows, for `tidegate-bench-compare`: one worker thread, one
//! backend, connections kept on both sides, and the forwarding headers that the other peers are configured to add.
//!
//!     tidegate-bench-pingora ADDRESS BACKEND [TLS_ADDRESS CERTIFICATE KEY]
//!
//! A crate of its own, outside the workspace: Pingora's dependencies, of which one wants cmake, are nobody else's.

use std::net::SocketAddr;
use std::process::ExitCode;

use async_trait::async_trait;
use pingora_core::Result;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::protocols::l4::socket::SocketAddr as PeerAddr;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_http::RequestHeader;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

/// More than the load's connections, so none is closed for want of room.
const KEPT_CONNECTIONS: usize = 1_024;

/// Everything goes to one backend.
struct Proxy {
    backend: SocketAddr,
}

/// What the command line asks for.
struct Wanted {
    address: String,
    backend: SocketAddr,
    /// Address, certificate, key.
    tls: Option<[String; 3]>,
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.backend, false, String::new())))
    }

    async fn upstream_request_filter(&self, session: &mut Session, up: &mut RequestHeader, (): &mut ()) -> Result<()> {
        if let Some(PeerAddr::Inet(client)) = session.client_addr() {
            up.insert_header("X-Forwarded-For", client.ip().to_string())?;
        }
        let tls = session.digest().is_some_and(|digest| digest.ssl_digest.is_some());
        up.insert_header("X-Forwarded-Proto", if tls { "https" } else { "http" })
    }
}

fn main() -> ExitCode {
    let Some(wanted) = wanted() else {
        eprintln!("usage: tidegate-bench-pingora ADDRESS BACKEND [TLS_ADDRESS CERTIFICATE KEY]");
        return ExitCode::from(2);
    };
    let conf = ServerConf {
        threads: 1,
        work_stealing: false,
        upstream_keepalive_pool_size: KEPT_CONNECTIONS,
        // A benchmark's end waits for nobody.
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Proxy { backend: wanted.backend });
    service.add_tcp(&wanted.address);
    if let Some([address, certificate, key]) = wanted.tls {
        let settings = TlsSettings::intermediate(&certificate, &key);
        let Ok(mut settings) = settings.inspect_err(|error| eprintln!("the certificate cannot be used: {error}")) else {
            return ExitCode::FAILURE;
        };
        settings.enable_h2();
        service.add_tls_with_settings(&address, None, settings);
    }
    server.add_service(service);
    server.run_forever()
}

fn wanted() -> Option<Wanted> {
    let mut words = std::env::args().skip(1);
    let (address, backend) = (words.next()?, words.next()?.parse().ok()?);
    let rest: Vec<String> = words.collect();
    let tls = if rest.is_empty() { None } else { Some(rest.try_into().ok()?) };
    Some(Wanted { address, backend, tls })
}
