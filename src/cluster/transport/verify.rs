//! Who is let in: certificates of the cluster's authorities that name a node of this cluster.
//!
//! Both sides of a connection apply the same check, since every node is client and server. Addresses and host names play
//! no part: on a private network an address is re-used for somebody else. rustls's own verifiers lost because they want
//! a host name on one side and none on the other.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use crate::cluster::transport::identity::Credentials;
use crate::cluster::transport::identity::name_of;
use crate::cluster::transport::identity::provider;

/// Checks peers, and chooses what to show them.
#[derive(Debug)]
pub struct Verifier {
    credentials: Arc<Credentials>,
    /// The names of the authorities, told to peers so that they show a certificate of one of them.
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub fn new(credentials: Arc<Credentials>) -> Self {
        let hints = credentials.roots.subjects();
        Self { credentials, hints, algorithms: provider().signature_verification_algorithms }
    }

    /// Whether a certificate chains up to an authority and names a node of this cluster.
    fn check(&self, leaf: &CertificateDer<'_>, between: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        let roots = &self.credentials.roots;
        verify_server_cert_signed_by_trust_anchor(&parsed, roots, between, now, self.algorithms.all)?;
        let name = name_of(leaf).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let known = match &name.cluster {
            Some(cluster) if self.credentials.cluster_in_certificate => self.credentials.clusters.contains(cluster),
            _ => !self.credentials.cluster_in_certificate,
        };
        if known { Ok(()) } else { Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)) }
    }

    /// The first certificate whose issuer the peer trusts, else the first of all.
    fn choose(&self, mut trusted: impl FnMut(&[u8]) -> bool) -> Option<Arc<CertifiedKey>> {
        let leaves = &self.credentials.leaves;
        let leaf = leaves.iter().find(|leaf| trusted(&leaf.issuer)).or(leaves.first())?;
        Some(leaf.certified.clone())
    }

    fn signed(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(leaf, between, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        Some(&self.hints)
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(leaf, between, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ResolvesServerCert for Verifier {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let hints = hello.certificate_authorities().unwrap_or_default();
        self.choose(|issuer| hints.iter().any(|hint| hint.as_ref() == issuer))
    }
}

impl ResolvesClientCert for Verifier {
    fn resolve(&self, hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.choose(|issuer| hints.contains(&issuer))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn only_tls13() -> Error {
    Error::General("TLS 1.3 only".into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;
    use crate::cluster::transport::Identity;

    fn of(secret: &str, previous: Option<&str>) -> Arc<Credentials> {
        let identity = Identity::Secret { secret: secret.into(), previous: previous.map(str::to_owned) };
        Arc::new(Credentials::load(&identity, "node").unwrap())
    }

    fn accepts(me: &Arc<Credentials>, peer: &Arc<Credentials>, leaf: usize, years: u64) -> bool {
        let now = UnixTime::now().as_secs() + years * 365 * 24 * 3600;
        let certificate = &peer.leaves[leaf].certified.cert[0];
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
        Verifier::new(me.clone()).check(certificate, &[], now).is_ok()
    }

    #[test]
    fn certificates_do_not_expire_in_twenty_years() {
        assert!(accepts(&of("s", None), &of("s", None), 0, 20));
    }

    #[test]
    fn another_secret_is_another_cluster() {
        assert!(!accepts(&of("s", None), &of("t", None), 0, 0));
    }

    #[test]
    fn both_secrets_are_accepted_while_they_rotate() {
        let (old, new) = (of("old", Some("new")), of("new", Some("old")));
        assert!(accepts(&old, &new, 0, 0) && accepts(&new, &old, 0, 0));
    }

    #[test]
    fn a_peer_is_shown_the_certificate_that_it_trusts() {
        let (rotating, behind) = (Verifier::new(of("new", Some("old"))), Verifier::new(of("old", None)));
        let hints: Vec<&[u8]> = behind.hints.iter().map(AsRef::as_ref).collect();
        let shown = ResolvesClientCert::resolve(&rotating, &hints, &[]).unwrap();
        assert!(behind.check(&shown.cert[0], &[], UnixTime::now()).is_ok());
        let first = ResolvesClientCert::resolve(&rotating, &[], &[]).unwrap();
        assert_eq!(name_of(&first.cert[0]).unwrap().cluster.as_deref(), Some(rotating.credentials.cluster()));
    }
}
