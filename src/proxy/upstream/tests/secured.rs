//! TLS to backends: what is accepted, what is refused, which name is sent.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::proxy::upstream::tests::backend::{Backend, OK};
use crate::proxy::upstream::tests::*;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(issuer: Option<&Authority>) -> Authority {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(rcgen::DnType::CommonName, rand_name());
    let key = KeyPair::generate().unwrap();
    match issuer {
        None => CertifiedIssuer::self_signed(params, key).unwrap(),
        Some(issuer) => CertifiedIssuer::signed_by(params, key, issuer).unwrap(),
    }
}

fn rand_name() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Answers with the chain `name` < `issuers[0]` < …, and tells which names it was asked for.
#[derive(Debug)]
struct Presented {
    key: Arc<CertifiedKey>,
    asked: Mutex<Vec<Option<String>>>,
}

impl ResolvesServerCert for Presented {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.asked.lock().unwrap().push(hello.server_name().map(str::to_owned));
        Some(self.key.clone())
    }
}

async fn backend(name: &str, issuers: &[&Authority]) -> (Backend, Arc<Presented>) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    let cert = match issuers.first() {
        None => params.self_signed(&key).unwrap(),
        Some(issuer) => params.signed_by(&key, issuer).unwrap(),
    };
    let chain = std::iter::once(cert.der().clone()).chain(issuers.iter().map(|issuer| issuer.der().clone()));
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let key = Arc::new(CertifiedKey::from_der(chain.collect(), private, &provider).unwrap());
    let presented = Arc::new(Presented { key, asked: Mutex::default() });
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(presented.clone());
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let serve =
        |_, mut peer: crate::proxy::upstream::tests::backend::Peer| async move { while peer.exchange(OK).await {} };
    (Backend::start_at("127.0.0.1:0", Some(acceptor), serve).await, presented)
}

fn trusting(name: &str, root: Option<&Authority>) -> Upstreams {
    let folder = tempfile::tempdir().unwrap();
    let bundle: Vec<PathBuf> = root
        .map(|root| {
            let path = folder.path().join("roots.pem");
            std::fs::write(&path, root.pem()).unwrap();
            path
        })
        .into_iter()
        .collect();
    let names = SharedNames::default();
    let addresses = [IpAddr::from([127, 0, 0, 1])].into();
    names.learn(name, &Ok(Answer { addresses, ttl: LONG }));
    Upstreams::new(&UpstreamOptions { trusted_certificates: bundle, ..options() }, names, Rc::default()).unwrap()
}

fn secured(host: &str, backend: &Backend, verify: bool) -> Destination {
    Destination { tls: true, tls_verify: Some(verify), ..named(host, backend.address.port()) }
}

#[test]
fn without_verification_every_certificate_is_accepted_and_with_it_only_a_trusted_one() {
    run(async {
        let root = authority(None);
        let trusted = backend("a.test", &[&root]).await.0;
        let other_name = backend("b.test", &[&root]).await.0;
        let self_signed = backend("a.test", &[]).await.0;
        let upstreams = trusting("a.test", Some(&root));
        let table = [(&trusted, true), (&other_name, false), (&self_signed, false)];
        for (backend, acceptable) in table {
            let open = outcome(&upstreams, &secured("a.test", backend, false), request("GET")).await;
            assert_eq!(open, "200 ok tries=1");
            let strict = outcome(&upstreams, &secured("a.test", backend, true), request("GET")).await;
            assert_eq!(strict, if acceptable { "200 ok tries=1" } else { "bad answer tries=1" });
        }
        let unknown = trusting("a.test", None);
        let strict = outcome(&unknown, &secured("a.test", &trusted, true), request("GET")).await;
        assert_eq!(strict, "bad answer tries=1");
    });
}

#[test]
fn the_depth_bounds_the_certificates_between_the_upstreams_and_a_root() {
    run(async {
        let root = authority(None);
        let upper = authority(Some(&root));
        let lower = authority(Some(&upper));
        let long = backend("a.test", &[&lower, &upper]).await.0;
        let short = backend("a.test", &[&upper]).await.0;
        let upstreams = trusting("a.test", Some(&root));
        let table = [
            (&long, None, false),
            (&long, Some(1), false),
            (&long, Some(2), true),
            (&long, Some(1000), true),
            (&short, None, true),
            (&short, Some(0), false),
        ];
        for (backend, depth, acceptable) in table {
            let origin = Destination { tls_verify_depth: depth, ..secured("a.test", backend, true) };
            let outcome = outcome(&upstreams, &origin, request("GET")).await;
            assert_eq!(outcome == "200 ok tries=1", acceptable, "depth {depth:?}: {outcome}");
        }
    });
}

#[test]
fn the_name_sent_is_the_host_sent_and_connections_are_kept_apart_by_it() {
    run(async {
        let (backend, presented) = backend("a.test", &[]).await;
        let upstreams = trusting("a.test", None);
        let by_name = secured("a.test", &backend, false);
        let by_address = secured("127.0.0.1", &backend, false);
        let client = |host| Sent { host: Some(HeaderValue::from_static(host)), ..request("GET") };
        for _ in 0..2 {
            for (origin, outgoing) in [
                (&by_name, request("GET")),
                (&by_name, client("client.test:443")),
                (&by_address, request("GET")),
                (&by_address, client("client.test")),
            ] {
                assert_eq!(outcome(&upstreams, origin, outgoing).await, "200 ok tries=1");
            }
        }
        let asked = presented.asked.lock().unwrap().clone();
        assert_eq!(asked, [Some("a.test".to_owned()), Some("client.test".to_owned()), None]);
    });
}

#[test]
fn a_handshake_that_fails_is_tried_again_and_one_that_hangs_meets_the_connect_timeout() {
    run(async {
        let plain = Backend::start(|_, mut peer| async move { peer.write("HTTP/1.1 400 Bad\r\n\r\n").await }).await;
        let upstreams = trusting("a.test", None);
        let origin = Destination { retries: 1, ..secured("a.test", &plain, false) };
        assert_eq!(outcome(&upstreams, &origin, request("POST")).await, "bad answer tries=2");

        let silent = Backend::start(|_, mut peer| async move { peer.closed().await }).await;
        let origin = Destination { retries: 1, connect_timeout_ms: SHORT_MS, ..secured("a.test", &silent, false) };
        assert_eq!(outcome(&upstreams, &origin, request("POST")).await, "timeout tries=2");
    });
}

#[test]
fn a_bundle_that_cannot_be_read_is_named() {
    let bundle = PathBuf::from("/nowhere/roots.pem");
    let refused = Upstreams::new(
        &UpstreamOptions { trusted_certificates: vec![bundle], ..options() },
        SharedNames::default(),
        Rc::default(),
    );
    let error = refused.err().unwrap().to_string();
    assert!(error.starts_with("cannot read certificates from /nowhere/roots.pem"), "{error}");
}
