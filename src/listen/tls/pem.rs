//! Reads certificates and keys from what a property holds: a path, PEM text, or base64 of PEM.
//!
//! What fails is described without its content: a property that holds a private key must not end in a log.

use std::path::Path;

use base64::Engine;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// The PEM text behind `value`.
pub(super) fn fetch(value: &str) -> Result<Vec<u8>, String> {
    if value.contains("-----BEGIN") {
        return Ok(value.as_bytes().to_vec());
    }
    if Path::new(value).exists() {
        return std::fs::read(value).map_err(|error| error.to_string());
    }
    let packed: Vec<u8> = value.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    match base64::engine::general_purpose::STANDARD.decode(packed) {
        Ok(text) if text.starts_with(b"-----BEGIN") => Ok(text),
        _ => Err("no such file".to_owned()),
    }
}

/// The certificate and its chain, leaf first.
pub(super) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(text).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    if chain.is_empty() { Err("no certificate in it".to_owned()) } else { Ok(chain) }
}

/// The first private key: PKCS#8, PKCS#1 or SEC1.
pub(super) fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(text).map_err(|_| "no private key in it".to_owned())
}

/// Parses a certificate with its chain and its key, both as PEM.
pub(super) fn parse_pair(cert: &[u8], key: &[u8]) -> Result<CertifiedKey, String> {
    certified_key(certificates(cert)?, private_key(key)?)
}

/// Puts both together; refuses a key that is not the certificate's.
pub(super) fn certified_key(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, String> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => "the key does not belong to the certificate".to_owned(),
        other => other.to_string(),
    })
}

/// `value` as an error may show it.
pub(super) fn display(value: &str) -> &str {
    if value.contains("-----BEGIN") || value.len() > 255 { "the given text" } else { value }
}
