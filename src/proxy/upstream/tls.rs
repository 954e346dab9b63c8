//! TLS towards upstreams: what is verified, and against what.
//!
//! Kong: nothing is verified unless the service says `tls_verify`; then the chain and the name are, against the
//! system's roots and the bundles of `lua_ssl_trusted_certificate`. A certificate without a subject alternative name,
//! which Kong would match by its common name, is refused.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::listen::trust::AcceptAny;

/// Kong: `tls_verify_depth` null.
const DEFAULT_DEPTH: u32 = 1;
/// Depths with a configuration of their own; deeper ones share the last.
const MAX_DEPTH: u32 = 64;

/// How a handshake verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Verify {
    Nothing,
    /// Chain and name, with at most so many certificates between the upstream's and a root.
    Depth(u32),
}

impl Verify {
    pub(super) fn of(verify: bool, depth: Option<u32>) -> Self {
        if verify { Self::Depth(depth.unwrap_or(DEFAULT_DEPTH).min(MAX_DEPTH)) } else { Self::Nothing }
    }
}

/// The client configurations of one worker, made when first needed; sessions are resumed through them.
pub(super) struct Tls {
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    made: RefCell<Vec<(Verify, Arc<ClientConfig>)>>,
}

impl Tls {
    /// Reads the system's roots and `bundles`. A bundle that cannot be read is an error; bad roots of the system are not.
    pub(super) fn new(bundles: &[PathBuf]) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        for bundle in bundles {
            let certs = CertificateDer::pem_file_iter(bundle).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            let certs = certs.map_err(|error| {
                io::Error::other(format!("cannot read certificates from {}: {error}", bundle.display()))
            })?;
            roots.add_parsable_certificates(certs);
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        Ok(Self { provider, roots: Arc::new(roots), made: RefCell::default() })
    }

    /// The configuration for `verify`.
    pub(super) fn config(&self, verify: Verify) -> Result<Arc<ClientConfig>, String> {
        if let Some((_, config)) = self.made.borrow().iter().find(|(made, _)| *made == verify) {
            return Ok(config.clone());
        }
        let config = Arc::new(self.make(verify)?);
        self.made.borrow_mut().push((verify, config.clone()));
        Ok(config)
    }

    fn make(&self, verify: Verify) -> Result<ClientConfig, String> {
        let verifier: Arc<dyn ServerCertVerifier> = match verify {
            Verify::Nothing => Arc::new(AcceptAny::new(self.provider.clone())),
            Verify::Depth(depth) => Arc::new(Limited { inner: self.chain_verifier()?, depth }),
        };
        Ok(ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth())
    }

    fn chain_verifier(&self) -> Result<Arc<WebPkiServerVerifier>, String> {
        WebPkiServerVerifier::builder_with_provider(self.roots.clone(), self.provider.clone())
            .build()
            .map_err(|error| error.to_string())
    }
}

/// Verifies chain and name, looking at no more than `depth` certificates beside the upstream's own.
struct Limited {
    inner: Arc<WebPkiServerVerifier>,
    depth: u32,
}

impl ServerCertVerifier for Limited {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // Upstreams send their chain in order, so what is cut off here could only have made it longer.
        let depth = usize::try_from(self.depth).unwrap_or(usize::MAX).min(intermediates.len());
        self.inner.verify_server_cert(end_entity, &intermediates[..depth], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

impl fmt::Debug for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limited").field("depth", &self.depth).finish_non_exhaustive()
    }
}
