//! TLS of a client's connection, in the words of Kong's log document: OpenSSL's and nginx's.

use rustls::{CipherSuite, ProtocolVersion};

/// `request.tls` and `session.tls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedTls {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// OpenSSL's name of the cipher suite.
    pub cipher: &'static str,
    /// `NONE`: no client certificate; `SUCCESS`; or `FAILED:` and the reason.
    pub client_verify: String,
}

impl LoggedTls {
    /// For a handshake without a client certificate.
    pub fn of(version: ProtocolVersion, suite: CipherSuite) -> Self {
        let version = match version {
            ProtocolVersion::TLSv1_3 => "TLSv1.3",
            ProtocolVersion::TLSv1_2 => "TLSv1.2",
            _ => "",
        };
        Self { version, cipher: openssl_name(suite), client_verify: "NONE".to_owned() }
    }
}

/// Of the suites that rustls has; empty for any other.
fn openssl_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-ECDSA-CHACHA20-POLY1305",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_that_can_be_negotiated_has_a_name() {
        for suite in rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES {
            assert_ne!(openssl_name(suite.suite()), "", "{suite:?}");
        }
    }

    #[test]
    fn versions_are_named_as_openssl_names_them() {
        let tls = LoggedTls::of(ProtocolVersion::TLSv1_3, CipherSuite::TLS13_AES_256_GCM_SHA384);
        let (version, cipher) = ("TLSv1.3", "TLS_AES_256_GCM_SHA384");
        assert_eq!(tls, LoggedTls { version, cipher, client_verify: "NONE".to_owned() });
        assert_eq!(LoggedTls::of(ProtocolVersion::TLSv1_2, CipherSuite::TLS13_AES_256_GCM_SHA384).version, "TLSv1.2");
    }
}
