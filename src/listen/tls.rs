//! TLS towards clients: which certificate a server name gets, and how certificates change while running.
//!
//! The choice is a lookup in immutable maps that are swapped whole, since a handshake asks from synchronous code and
//! must not wait. Running connections keep what they began with. One `ServerConfig` serves every certificate; one
//! configuration per certificate would lose session tickets at every reload.

mod pem;
mod selfsigned;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SignatureAlgorithm, SignatureScheme};

/// The certificates of a set of listeners; replaced whole by `reload`.
#[derive(Debug)]
pub struct Certificates {
    sources: Sources,
    prefix: PathBuf,
    name: String,
    default: ArcSwap<Chain>,
    named: ArcSwap<Named>,
    /// Shared by all listeners, so that a session of one resumes on another.
    tickets: Arc<dyn ProducesTickets>,
}

/// Where a default certificate comes from: each item a path, PEM text, or base64 of PEM.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    pub certs: Vec<String>,
    pub keys: Vec<String>,
}

/// The certificates that one name may be answered with, one per kind of key, the cheapest signature first.
pub type Chain = Vec<Arc<CertifiedKey>>;

/// Certificates by lower-case server name: `host.test`, `*.test`, `host.*` or `*`.
pub type Named = hashbrown::HashMap<Box<str>, Chain, foldhash::fast::RandomState>;

impl Certificates {
    /// Loads `sources`, or makes a self-signed pair under `prefix/ssl` when there are none, once for all starts.
    ///
    /// `name` says whose listeners they are (`proxy`, `admin`, `status`): it names the files made, and the properties
    /// in errors (`ssl_cert`, `admin_ssl_cert`, …).
    pub fn load(sources: &Sources, prefix: &Path, name: &str) -> Result<Arc<Self>, String> {
        let default = read(sources, prefix, name)?;
        let tickets = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(|error| error.to_string())?;
        Ok(Arc::new(Self {
            sources: sources.clone(),
            prefix: prefix.to_owned(),
            name: name.to_owned(),
            default: ArcSwap::from_pointee(default),
            named: ArcSwap::default(),
            tickets,
        }))
    }

    /// Reads the same sources again; on error the old ones stay.
    pub fn reload(&self) -> Result<(), String> {
        self.default.store(Arc::new(read(&self.sources, &self.prefix, &self.name)?));
        Ok(())
    }

    /// Replaces what server names get; names that are not here get the default.
    pub fn set_named(&self, named: Named) {
        self.named.store(Arc::new(named));
    }

    /// A rustls configuration that asks `self` for each handshake; ALPN `h2` is offered when `http2`.
    pub fn server_config(self: &Arc<Self>, http2: bool) -> Result<Arc<ServerConfig>, io::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.ticketer = self.tickets.clone();
        // One ticket is enough: clients that open several connections get one with each.
        config.send_tls13_tickets = 1;
        config.alpn_protocols =
            if http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some(name) = hello.server_name()
            && let Some(chain) = find(&self.named.load(), &name.to_ascii_lowercase())
        {
            return choose(chain, hello.signature_schemes());
        }
        choose(&self.default.load(), hello.signature_schemes())
    }
}

/// Parses a certificate with its chain and its key, both as PEM.
pub fn certified_key(cert: &[u8], key: &[u8]) -> Result<CertifiedKey, String> {
    pem::parse_pair(cert, key)
}

/// Kong: exact, then the first label as `*`, then the last label as `*`, then `*`.
fn find<'a>(named: &'a Named, name: &str) -> Option<&'a Chain> {
    if named.is_empty() {
        return None;
    }
    let first = || name.split_once('.').and_then(|(_, rest)| named.get(format!("*.{rest}").as_str()));
    let last = || name.rsplit_once('.').and_then(|(rest, _)| named.get(format!("{rest}.*").as_str()));
    named.get(name).or_else(first).or_else(last).or_else(|| named.get("*"))
}

/// The first whose key can sign what the client verifies; else the first, for rustls to refuse properly.
fn choose(chain: &Chain, offered: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
    chain.iter().find(|certified| certified.key.choose_scheme(offered).is_some()).or_else(|| chain.first()).cloned()
}

fn read(sources: &Sources, prefix: &Path, name: &str) -> Result<Chain, String> {
    if sources.certs.is_empty() && sources.keys.is_empty() {
        return Ok(vec![Arc::new(selfsigned::pair(prefix, name)?)]);
    }
    let property = match name {
        "proxy" => String::new(),
        other => format!("{other}_"),
    };
    check_counts(sources, &property)?;
    let pairs = sources.certs.iter().zip(&sources.keys);
    let mut chain =
        pairs.map(|(cert, key)| read_pair(cert, key, &property).map(Arc::new)).collect::<Result<Chain, String>>()?;
    chain.sort_by_key(|certified| certified.key.algorithm() == SignatureAlgorithm::RSA);
    Ok(chain)
}

fn check_counts(sources: &Sources, property: &str) -> Result<(), String> {
    match (sources.certs.len(), sources.keys.len()) {
        (_, 0) => Err(format!("{property}ssl_cert_key must be specified")),
        (0, _) => Err(format!("{property}ssl_cert must be specified")),
        (certs, keys) if certs != keys => Err(format!(
            "{property}ssl_cert was specified {certs} times while {property}ssl_cert_key was specified {keys} times"
        )),
        _ => Ok(()),
    }
}

fn read_pair(cert: &str, key: &str, property: &str) -> Result<CertifiedKey, String> {
    let chain = pem::fetch(cert)
        .and_then(|text| pem::certificates(&text))
        .map_err(|why| format!("{property}ssl_cert: failed loading certificate from {}: {why}", pem::display(cert)))?;
    let private = pem::fetch(key)
        .and_then(|text| pem::private_key(&text))
        .map_err(|why| format!("{property}ssl_cert_key: failed loading key from {}: {why}", pem::display(key)))?;
    pem::certified_key(chain, private)
        .map_err(|why| format!("{property}ssl_cert: failed loading certificate from {}: {why}", pem::display(cert)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use base64::Engine;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConnection, ServerConnection};

    use super::*;
    use crate::listen::tls::tests::client::handshake;

    /// A certificate for `name` and its key, as PEM.
    fn made(name: &str, algorithm: &'static rcgen::SignatureAlgorithm) -> (String, String) {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let cert = rcgen::CertificateParams::new([name.to_owned()]).unwrap().self_signed(&key).unwrap();
        (cert.pem(), key.serialize_pem())
    }

    fn ecdsa(name: &str) -> (String, String) {
        made(name, &rcgen::PKCS_ECDSA_P256_SHA256)
    }

    fn sources(pairs: &[(String, String)]) -> Sources {
        Sources {
            certs: pairs.iter().map(|(cert, _)| cert.clone()).collect(),
            keys: pairs.iter().map(|(_, key)| key.clone()).collect(),
        }
    }

    fn load(pairs: &[(String, String)]) -> Arc<Certificates> {
        Certificates::load(&sources(pairs), Path::new("unused"), "proxy").unwrap()
    }

    fn refusal(certs: &[&str], keys: &[&str], name: &str) -> String {
        let owned = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect();
        let sources = Sources { certs: owned(certs), keys: owned(keys) };
        Certificates::load(&sources, Path::new("unused"), name).unwrap_err()
    }

    #[test]
    fn counts_must_match_and_errors_name_the_property() {
        let (cert, key) = ecdsa("a.test");
        assert_eq!(refusal(&[&cert], &[], "proxy"), "ssl_cert_key must be specified");
        assert_eq!(refusal(&[], &[&key], "admin"), "admin_ssl_cert must be specified");
        assert_eq!(
            refusal(&[&cert, &cert], &[&key], "status"),
            "status_ssl_cert was specified 2 times while status_ssl_cert_key was specified 1 times"
        );
        let missing = refusal(&["/nowhere/a.crt"], &[&key], "proxy");
        assert!(missing.starts_with("ssl_cert: failed loading certificate from /nowhere/a.crt"), "{missing}");
    }

    #[test]
    fn a_key_of_another_certificate_is_refused_and_never_shown() {
        let (cert, _) = ecdsa("a.test");
        let (_, key) = ecdsa("b.test");
        let mismatch = refusal(&[&cert], &[&key], "proxy");
        assert!(mismatch.contains("does not belong"), "{mismatch}");
        let broken = refusal(&[&cert], &["-----BEGIN PRIVATE KEY-----\nc2VjcmV0"], "proxy");
        assert!(broken.starts_with("ssl_cert_key: failed loading key from"), "{broken}");
        assert!(!broken.contains("c2VjcmV0"), "{broken}");
    }

    #[test]
    fn paths_pem_text_and_base64_are_all_read() {
        let (cert, key) = ecdsa("a.test");
        let folder = tempfile::tempdir().unwrap();
        let (cert_path, key_path) = (folder.path().join("a.crt"), folder.path().join("a.key"));
        std::fs::write(&cert_path, &cert).unwrap();
        std::fs::write(&key_path, &key).unwrap();
        let coded = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let as_path = (cert_path.display().to_string(), key_path.display().to_string());
        for pair in [(cert.clone(), key.clone()), (coded(&cert), coded(&key)), as_path] {
            assert_eq!(handshake(&load(&[pair]), None, false).name, "a.test");
        }
    }

    #[test]
    fn names_are_found_exact_then_by_first_label_then_by_last_then_star() {
        let certificates = load(&[ecdsa("default")]);
        let mut named = Named::default();
        for name in ["a.one.test", "*.one.test", "a.two.*"] {
            let (cert, key) = ecdsa(&name.replace('*', "star"));
            named.insert(name.into(), vec![Arc::new(certified_key(cert.as_bytes(), key.as_bytes()).unwrap())]);
        }
        certificates.set_named(named.clone());
        let table = [
            ("a.one.test", "a.one.test"),
            ("A.ONE.test", "a.one.test"),
            ("b.one.test", "star.one.test"),
            ("a.two.org", "a.two.star"),
            ("x.y.one.test", "default"),
            ("elsewhere", "default"),
        ];
        for (asked, got) in table {
            assert_eq!(handshake(&certificates, Some(asked), false).name, got, "{asked}");
        }
        let (cert, key) = ecdsa("everybody");
        named.insert("*".into(), vec![Arc::new(certified_key(cert.as_bytes(), key.as_bytes()).unwrap())]);
        certificates.set_named(named);
        assert_eq!(handshake(&certificates, Some("elsewhere"), false).name, "everybody");
        assert_eq!(handshake(&certificates, None, false).name, "default");
    }

    #[test]
    fn the_kind_of_key_follows_what_the_client_verifies() {
        let chain = load(&[made("rsa.test", &rcgen::PKCS_RSA_SHA256), ecdsa("ecdsa.test")]).default.load_full();
        let names = |schemes: &[SignatureScheme]| choose(&chain, schemes).unwrap().key.algorithm();
        assert_eq!(names(&[SignatureScheme::RSA_PSS_SHA256]), SignatureAlgorithm::RSA);
        let both = [SignatureScheme::RSA_PSS_SHA256, SignatureScheme::ECDSA_NISTP256_SHA256];
        assert_eq!(names(&both), SignatureAlgorithm::ECDSA);
    }

    #[test]
    fn alpn_offers_h2_only_where_it_is_switched_on() {
        let certificates = load(&[ecdsa("a.test")]);
        assert_eq!(handshake(&certificates, None, true).alpn.as_deref(), Some(&b"h2"[..]));
        assert_eq!(handshake(&certificates, None, false).alpn.as_deref(), Some(&b"http/1.1"[..]));
    }

    #[test]
    fn a_self_signed_pair_is_made_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let first = Certificates::load(&Sources::default(), folder.path(), "admin").unwrap();
        let second = Certificates::load(&Sources::default(), folder.path(), "admin").unwrap();
        assert_eq!(handshake(&first, None, false), handshake(&second, None, false));
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(folder.path().join("ssl/admin-default.key")).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn reload_takes_the_new_file_and_survives_a_broken_one() {
        let folder = tempfile::tempdir().unwrap();
        let (cert_path, key_path) = (folder.path().join("a.crt"), folder.path().join("a.key"));
        let write = |(cert, key): (String, String)| {
            std::fs::write(&cert_path, cert).unwrap();
            std::fs::write(&key_path, key).unwrap();
        };
        write(ecdsa("old.test"));
        let certificates = load(&[(cert_path.display().to_string(), key_path.display().to_string())]);
        write(ecdsa("new.test"));
        certificates.reload().unwrap();
        assert_eq!(handshake(&certificates, None, false).name, "new.test");
        write(("no certificate".to_owned(), String::new()));
        certificates.reload().unwrap_err();
        assert_eq!(handshake(&certificates, None, false).name, "new.test");
    }

    /// A rustls client that trusts everything and tells what it saw, without a socket.
    mod client {
        use super::*;
        use crate::listen::trust::AcceptAny;

        #[derive(Debug, PartialEq, Eq)]
        pub(super) struct Seen {
            pub(super) name: String,
            pub(super) alpn: Option<Vec<u8>>,
            pub(super) cert: Vec<u8>,
        }

        pub(super) fn handshake(certificates: &Arc<Certificates>, name: Option<&str>, http2: bool) -> Seen {
            let mut server = ServerConnection::new(certificates.server_config(http2).unwrap()).unwrap();
            let asked = name.unwrap_or("192.0.2.1").to_owned();
            let mut client = ClientConnection::new(trusting(), ServerName::try_from(asked).unwrap()).unwrap();
            while client.is_handshaking() || server.is_handshaking() {
                let mut wire = Vec::new();
                client.write_tls(&mut wire).unwrap();
                server.read_tls(&mut wire.as_slice()).unwrap();
                server.process_new_packets().unwrap();
                wire.clear();
                server.write_tls(&mut wire).unwrap();
                client.read_tls(&mut wire.as_slice()).unwrap();
                client.process_new_packets().unwrap();
            }
            let cert = client.peer_certificates().unwrap()[0].to_vec();
            Seen { name: subject_name(&cert), alpn: client.alpn_protocol().map(<[u8]>::to_vec), cert }
        }

        fn trusting() -> Arc<rustls::ClientConfig> {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let mut config = rustls::ClientConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()
                .unwrap()
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AcceptAny::new(provider)))
                .with_no_client_auth();
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            Arc::new(config)
        }

        /// The one DNS name of a certificate made above, found by its tag in the DER.
        fn subject_name(cert: &[u8]) -> String {
            let oid = [0x55, 0x1d, 0x11];
            let at = cert.windows(3).position(|window| window == oid).unwrap();
            let tagged = &cert[at..][cert[at..].iter().position(|byte| *byte == 0x82).unwrap()..];
            String::from_utf8(tagged[2..2 + usize::from(tagged[1])].to_vec()).unwrap()
        }
    }
}
