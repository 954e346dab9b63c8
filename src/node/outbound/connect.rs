//! New connections: name resolution, TCP, TLS.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::listen::trust::AcceptAny;
use crate::plugin::tools::outbound::{OutboundError, Peer, Security};

/// Addresses of one name that are tried, in the resolver's order.
const ADDRESSES_MAX: usize = 8;
/// Sessions that are kept for resumption, over all peers.
const SESSIONS_MAX: usize = 256;

/// What a connection reads and writes: TCP, or TLS over it.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Opens connections.
pub(super) struct Connector {
    bundles: Vec<PathBuf>,
    /// Made with the first TLS connection: most nodes make none, and the system's authorities take memory.
    tls: OnceCell<Tls>,
}

/// How handshakes verify.
struct Tls {
    /// The error says why no certificate can be verified: there is no authority to trust.
    verifying: Result<TlsConnector, String>,
    trusting: TlsConnector,
}

impl Connector {
    /// `bundles`: PEM files of authorities to trust beside the system's.
    pub(super) fn new(bundles: Vec<PathBuf>) -> Self {
        Self { bundles, tls: OnceCell::new() }
    }

    /// A new connection, within `limit`.
    pub(super) async fn open(&self, peer: &Peer, limit: Duration) -> Result<Box<dyn Stream>, OutboundError> {
        let opened = timeout(limit, self.open_unhurried(peer)).await;
        opened.unwrap_or_else(|_| Err(OutboundError::ConnectTimeout { peer: peer.to_string() }))
    }

    async fn open_unhurried(&self, peer: &Peer) -> Result<Box<dyn Stream>, OutboundError> {
        let stream = connect(peer).await?;
        let Security::Tls { verify, server_name } = &peer.security else { return Ok(Box::new(stream)) };
        let name = server_name.as_deref().unwrap_or(&peer.host).to_owned();
        let name = ServerName::try_from(name)
            .map_err(|error| OutboundError::Invalid(format!("the server name of {peer}: {error}")))?;
        let failed = |why: String| OutboundError::Handshake { peer: peer.to_string(), why };
        let tls = self.tls().await.map_err(failed)?;
        let tls = if *verify { tls.verifying.as_ref().map_err(|why| failed(why.clone()))? } else { &tls.trusting };
        Ok(Box::new(tls.connect(name, stream).await.map_err(|error| failed(error.to_string()))?))
    }

    /// Reads files the first time, so a thread for blocking work does it. What failed is tried again with the next call.
    async fn tls(&self) -> Result<&Tls, String> {
        let made = self.tls.get_or_try_init(|| async {
            let bundles = self.bundles.clone();
            let made = tokio::task::spawn_blocking(move || Tls::new(&bundles)).await;
            made.unwrap_or_else(|error| Err(error.to_string()))
        });
        made.await
    }
}

impl Tls {
    /// Reads the system's authorities and `bundles`. A bundle that cannot be read is an error; a system without
    /// authorities is not: only calls that verify fail then.
    fn new(bundles: &[PathBuf]) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let roots = Arc::new(roots(bundles)?);
        let verifying = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
        let verifying = verifying.map_err(|error| error.to_string()).and_then(|verifier| tls(&provider, verifier));
        Ok(Self { verifying, trusting: tls(&provider, Arc::new(AcceptAny::new(provider.clone())))? })
    }
}

/// The addresses of `host`, at most `ADDRESSES_MAX`; at least one. `named` is what errors name.
pub(super) async fn addresses(host: &str, port: u16, named: &str) -> Result<Vec<SocketAddr>, OutboundError> {
    let unresolved = |why: String| OutboundError::Resolve { peer: named.to_owned(), why };
    let found = lookup_host((host, port)).await.map_err(|error| unresolved(error.to_string()))?;
    let found: Vec<_> = found.take(ADDRESSES_MAX).collect();
    if found.is_empty() { Err(unresolved("the name has no address".to_owned())) } else { Ok(found) }
}

/// Tries one address after the other; the error is the last one's.
async fn connect(peer: &Peer) -> Result<TcpStream, OutboundError> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses(&peer.host, peer.port, &peer.to_string()).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Without this a small request waits for an acknowledgement; where it cannot be set it does.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(OutboundError::connect(peer, &last))
}

fn tls(provider: &Arc<CryptoProvider>, verifier: Arc<dyn ServerCertVerifier>) -> Result<TlsConnector, String> {
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The authorities of the system and of `bundles`.
fn roots(bundles: &[PathBuf]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for bundle in bundles {
        let certificates = CertificateDer::pem_file_iter(bundle).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let certificates =
            certificates.map_err(|error| format!("cannot read certificates from {}: {error}", bundle.display()))?;
        roots.add_parsable_certificates(certificates);
    }
    Ok(roots)
}
