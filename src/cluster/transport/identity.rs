//! What a node proves itself with: keys and certificates, derived from the cluster's secret or read from files.
//!
//! From one secret every node derives the same authority, byte for byte, and issues itself a certificate that names the
//! cluster and the node. These certificates do not expire in practice: what keeps strangers out is the secret, and an
//! expiry would only be a way to lose the whole mesh in one night. Files of an authority distributed to all nodes lost
//! as the only way: they need a place to be kept and somebody who renews them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::hkdf;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ED25519, SanType, SerialNumber, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// PKCS#8 version 1 of an Ed25519 key, up to the 32 bytes of its seed (RFC 8410).
const ED25519_PREFIX: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
const SALT: &[u8] = b"tidegate cluster 1";
const SCHEME: &str = "tidegate://";
/// Longest PEM file that is read, in bytes.
const FILE_LEN_MAX: u64 = 1 << 20;

/// How this node proves that it belongs.
#[derive(Clone)]
pub enum Identity {
    /// Everything derives from the secret; the previous one is accepted too.
    Secret { secret: String, previous: Option<String> },
    /// PEM files, read again when they change.
    Files { cert: PathBuf, key: PathBuf, authority: PathBuf },
}

/// Everything that TLS and the endpoint need to know about this node and its cluster.
#[derive(Debug)]
pub struct Credentials {
    /// The first is shown, unless the peer says that it trusts the issuer of another only.
    pub leaves: Vec<Leaf>,
    pub roots: RootCertStore,
    /// Clusters that belong here, the own one first; two during a rotation.
    pub clusters: Vec<String>,
    /// Whether a certificate must name one of `clusters`. Not with files: there the authority is the cluster.
    pub cluster_in_certificate: bool,
    /// Signs the tokens by which peers recognise that this process started again; the same at every start.
    pub reset_key: [u8; 32],
    /// Marks connection ids as this node's; the same at every start, or the resets would never be sent.
    pub connection_id_key: u64,
}

/// A certificate of this node with its key.
#[derive(Debug)]
pub struct Leaf {
    pub certified: Arc<CertifiedKey>,
    /// The issuer's name, DER.
    pub issuer: Vec<u8>,
}

/// Whom a certificate names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// `None`: the certificate was made by hand and says only which node it is for.
    pub cluster: Option<String>,
    pub node: String,
}

impl Credentials {
    /// Derives or reads. Errors say what is wrong with the secret or the files.
    pub fn load(identity: &Identity, node_id: &str) -> io::Result<Self> {
        match identity {
            Identity::Secret { secret, previous } => derive(secret, previous.as_deref(), node_id),
            Identity::Files { cert, key, authority } => read(cert, key, authority, node_id),
        }
    }

    /// The fingerprint of this node's cluster.
    pub fn cluster(&self) -> &str {
        self.clusters.first().map_or("", String::as_str)
    }
}

/// The fingerprint that stands for the cluster in frames and in `GET /cluster`: of the secret, or of the authority.
pub fn cluster_id(identity: &Identity) -> io::Result<String> {
    material(identity).map(|material| fingerprint(&material))
}

/// The key that counters are hashed with: the same on all nodes of a cluster, and in no two clusters. With files it
/// derives from the authority's certificate, which is no secret: whoever has it can look for keys that collide.
pub fn counter_key(identity: &Identity) -> io::Result<[u8; 16]> {
    material(identity).map(|material| expand(&material, &[b"counters"]))
}

/// The name in a certificate: a URI `tidegate://CLUSTER/NODE`, else the first DNS name as the node's.
pub fn name_of(certificate: &[u8]) -> Option<Name> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let names = &parsed.subject_alternative_name().ok()??.value.general_names;
    let uri = names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix(SCHEME),
        _ => None,
    });
    if let Some(path) = uri {
        let (cluster, node) = path.split_once('/')?;
        let node = percent_decode_str(node).decode_utf8().ok()?.into_owned();
        return Some(Name { cluster: Some(cluster.to_owned()), node });
    }
    names.iter().find_map(|name| match name {
        GeneralName::DNSName(node) => Some(Name { cluster: None, node: (*node).to_owned() }),
        _ => None,
    })
}

/// The provider that every configuration here is built with.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn derive(secret: &str, previous: Option<&str>, node_id: &str) -> io::Result<Credentials> {
    let main = seed(secret)?;
    let mut credentials = Credentials {
        leaves: Vec::new(),
        roots: RootCertStore::empty(),
        clusters: Vec::new(),
        cluster_in_certificate: true,
        reset_key: expand(&main, &[b"stateless reset", node_id.as_bytes()]),
        connection_id_key: connection_id_key(&main, node_id),
    };
    add_secret(&mut credentials, &main, node_id)?;
    if let Some(previous) = previous.filter(|previous| !previous.is_empty() && *previous != secret) {
        add_secret(&mut credentials, &seed(previous)?, node_id)?;
    }
    Ok(credentials)
}

fn add_secret(credentials: &mut Credentials, secret: &hkdf::Prk, node_id: &str) -> io::Result<()> {
    let cluster = fingerprint(secret);
    let authority = authority(secret, &cluster).map_err(io::Error::other)?;
    let (certificate, key) = issue(&authority, &cluster, node_id).map_err(io::Error::other)?;
    let root = authority.der().clone();
    credentials.roots.add(root).map_err(io::Error::other)?;
    let issuer = credentials.roots.subjects().pop().map(|name| name.as_ref().to_vec()).unwrap_or_default();
    credentials.leaves.push(Leaf { certified: certified(vec![certificate], key)?, issuer });
    credentials.clusters.push(cluster);
    Ok(())
}

/// The authority that a secret stands for: Ed25519 signs deterministically, and nothing else in it varies.
fn authority(secret: &hkdf::Prk, cluster: &str) -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let seed: [u8; 32] = expand(secret, &[b"authority"]);
    let mut params = lasting(&format!("tidegate cluster {cluster}"));
    params.serial_number = Some(SerialNumber::from(1u64));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, ed25519(&seed)?)
}

fn issue(
    authority: &CertifiedIssuer<'static, KeyPair>,
    cluster: &str,
    node_id: &str,
) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ED25519)?;
    let uri = format!("{SCHEME}{cluster}/{}", utf8_percent_encode(node_id, NON_ALPHANUMERIC));
    let mut params = lasting("tidegate node");
    params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, authority)?;
    Ok((certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into()))
}

fn lasting(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(9999, 1, 1);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

fn ed25519(seed: &[u8; 32]) -> Result<KeyPair, rcgen::Error> {
    let der = [&ED25519_PREFIX[..], seed].concat();
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der), &PKCS_ED25519)
}

fn read(cert: &Path, key: &Path, authority: &Path, node_id: &str) -> io::Result<Credentials> {
    let chain = certificates(cert)?;
    let leaf = chain.first().ok_or_else(|| invalid("the certificate's file has no certificate"))?;
    let name =
        name_of(leaf).ok_or_else(|| invalid("the certificate names no node: it needs a DNS name, the node's id"))?;
    if name.node != node_id {
        return Err(invalid(&format!("the certificate is for node \"{}\", this is \"{node_id}\"", name.node)));
    }
    let key = PrivateKeyDer::from_pem_slice(&bounded(key)?).map_err(io::Error::other)?;
    let secret = extract(key.secret_der());
    let mut roots = RootCertStore::empty();
    let mut clusters = Vec::new();
    for root in certificates(authority)? {
        clusters.push(fingerprint(&extract(&root)));
        roots.add(root).map_err(io::Error::other)?;
    }
    if clusters.is_empty() {
        return Err(invalid("the authority's file has no certificate"));
    }
    Ok(Credentials {
        leaves: vec![Leaf { certified: certified(chain, key)?, issuer: Vec::new() }],
        roots,
        clusters,
        cluster_in_certificate: false,
        reset_key: expand(&secret, &[b"stateless reset", node_id.as_bytes()]),
        connection_id_key: connection_id_key(&secret, node_id),
    })
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let text = bounded(path)?;
    CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(|error| naming(path, &error.to_string()))
}

fn bounded(path: &Path) -> io::Result<Vec<u8>> {
    let len = std::fs::metadata(path).map_err(|error| naming(path, &error.to_string()))?.len();
    if len > FILE_LEN_MAX {
        return Err(naming(path, "too long for a PEM file"));
    }
    std::fs::read(path).map_err(|error| naming(path, &error.to_string()))
}

fn certified(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> io::Result<Arc<CertifiedKey>> {
    CertifiedKey::from_der(chain, key, &provider()).map(Arc::new).map_err(io::Error::other)
}

/// What everything that nodes have in common derives from.
fn material(identity: &Identity) -> io::Result<hkdf::Prk> {
    match identity {
        Identity::Secret { secret, .. } => seed(secret),
        Identity::Files { authority, .. } => {
            let first = certificates(authority)?.into_iter().next();
            first.map(|root| extract(&root)).ok_or_else(|| invalid("the authority's file has no certificate"))
        }
    }
}

fn seed(secret: &str) -> io::Result<hkdf::Prk> {
    if secret.is_empty() { Err(invalid("the cluster's secret is empty")) } else { Ok(extract(secret.as_bytes())) }
}

fn extract(secret: &[u8]) -> hkdf::Prk {
    hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(secret)
}

/// Key material for one purpose. 32 bytes are far below what HKDF can give, so the fallback of zeros is never seen.
fn expand<const LEN: usize>(secret: &hkdf::Prk, purpose: &[&[u8]]) -> [u8; LEN] {
    let mut out = [0; LEN];
    let _ = secret.expand(purpose, Length(LEN)).and_then(|material| material.fill(&mut out));
    out
}

fn fingerprint(secret: &hkdf::Prk) -> String {
    let bytes: [u8; 8] = expand(secret, &[b"cluster id"]);
    format!("{:016x}", u64::from_be_bytes(bytes))
}

fn connection_id_key(secret: &hkdf::Prk, node_id: &str) -> u64 {
    u64::from_be_bytes(expand(secret, &[b"connection ids", node_id.as_bytes()]))
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

fn naming(path: &Path, why: &str) -> io::Error {
    invalid(&format!("{}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn of(secret: &str, previous: Option<&str>) -> Credentials {
        let identity = Identity::Secret { secret: secret.into(), previous: previous.map(str::to_owned) };
        Credentials::load(&identity, "node one/ü").unwrap()
    }

    #[test]
    fn every_node_derives_the_same_authority() {
        let der = |secret: &str| {
            let secret = seed(secret).unwrap();
            authority(&secret, &fingerprint(&secret)).unwrap().der().to_vec()
        };
        assert_eq!(der("s"), der("s"));
        assert_ne!(der("s"), der("t"));
    }

    #[test]
    fn a_certificate_names_its_cluster_and_node() {
        let credentials = of("s", None);
        let name = name_of(&credentials.leaves[0].certified.cert[0]).unwrap();
        assert_eq!(name, Name { cluster: Some(credentials.cluster().to_owned()), node: "node one/ü".into() });
    }

    #[test]
    fn a_rotation_knows_two_clusters_and_the_own_one_first() {
        let rotating = of("new", Some("old"));
        assert_eq!(rotating.clusters, [of("new", None).cluster(), of("old", None).cluster()]);
        assert_eq!((rotating.leaves.len(), rotating.roots.len()), (2, 2));
        assert_eq!(of("new", Some("new")).clusters.len(), 1);
        assert_eq!(of("new", Some("")).clusters.len(), 1);
    }

    #[test]
    fn resets_are_recognised_across_restarts_and_differ_between_nodes() {
        let (one, again) = (of("s", None), of("s", None));
        assert_eq!((one.reset_key, one.connection_id_key), (again.reset_key, again.connection_id_key));
        let identity = Identity::Secret { secret: "s".into(), previous: None };
        let other = Credentials::load(&identity, "two").unwrap();
        assert_ne!(one.reset_key, other.reset_key);
    }

    #[test]
    fn no_two_clusters_hash_counters_alike() {
        let key = |secret: &str, previous: Option<&str>| {
            let identity = Identity::Secret { secret: secret.into(), previous: previous.map(str::to_owned) };
            counter_key(&identity).unwrap()
        };
        assert_eq!(key("s", None), key("s", Some("t")));
        assert_ne!(key("s", None), key("t", None));
        let stays = 0xc61e_ef79_9f3f_0891_61bc_68b9_2849_7998_u128;
        assert_eq!(u128::from_be_bytes(key("s", None)), stays);
    }

    #[test]
    fn no_secret_is_no_identity() {
        let identity = Identity::Secret { secret: String::new(), previous: None };
        assert!(Credentials::load(&identity, "n").is_err());
        assert!(cluster_id(&identity).is_err());
    }
}
