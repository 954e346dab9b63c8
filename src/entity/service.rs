//! The kind `services`: where requests go.
//!
//! Kong's `url` is cut by hand as its own library cuts it. A crate for URLs lost: it refuses and rewrites what Kong
//! keeps, and then the messages differ.

use serde_json::Value;

use crate::entity::Doc;
use crate::entity::declare::{Check, Declaration, Field, Literal, Match, Meaning, OnDelete, Rule, Shorthand, Type};
use crate::entity::fields::{CREATED_AT, ID, NAME, PROTOCOLS, TAGS, UPDATED_AT, timeout};
use crate::entity::format;

pub static DECLARATION: Declaration = Declaration {
    name: "services",
    path: Some("services"),
    nested_path: "services",
    endpoint_key: Some("name"),
    fields: &[
        ID,
        CREATED_AT,
        UPDATED_AT,
        NAME,
        Field::integer("retries").default(Literal::Int(5)).checks(&[Check::Between(0, 32767)]),
        Field::string("protocol").required().default(Literal::Str("http")).checks(&[Check::OneOf(PROTOCOLS)]),
        Field::string("host").required().checks(&[Check::Format(&format::HOST)]),
        Field::integer("port").required().default(Literal::Int(80)).checks(&[Check::Between(0, 65535)]),
        Field::string("path").checks(&[Check::Format(&format::PATH)]),
        timeout("connect_timeout"),
        timeout("write_timeout"),
        timeout("read_timeout"),
        TAGS,
        Field::foreign("client_certificate", "certificates", OnDelete::Restrict),
        Field::boolean("tls_verify"),
        Field::integer("tls_verify_depth").checks(&[Check::Between(0, 64)]),
        // Kong: whether these certificates exist is not asked.
        Field::array("ca_certificates", &CA_CERTIFICATE),
        Field::boolean("enabled").required().default(Literal::Bool(true)),
    ],
    shorthands: &[Shorthand { name: "url", kind: Type::String, meaning: Meaning::Expand(split_url) }],
    rules: &[
        Rule::when("protocol", Match::Is(Check::OneOf(&["tcp", "tls", "udp", "grpc", "grpcs"])), "path", Match::Null),
        only_with_tls("client_certificate"),
        only_with_tls("tls_verify"),
        only_with_tls("tls_verify_depth"),
        only_with_tls("ca_certificates"),
    ],
    ..Declaration::EMPTY
};

static CA_CERTIFICATE: Field = Field::string("").checks(&[Check::Uuid]);

const fn only_with_tls(field: &'static str) -> Rule {
    Rule::when("protocol", Match::Is(Check::NotOneOf(&["https", "tls"])), field, Match::Null)
}

/// Kong: a URL always says all four parts; what it lacks goes back to null or a default. What cannot be split at all
/// is taken for a path, and then refused as one.
fn split_url(url: &Value, service: &mut Doc) {
    let url = Parts::of(url.as_str().unwrap_or_default());
    let by_port = if url.port == Some(443) { "https" } else { "http" };
    let protocol = url.scheme.unwrap_or(by_port);
    let port = url.port.unwrap_or(if protocol == "https" { 443 } else { 80 });
    service.insert("protocol".to_owned(), protocol.into());
    service.insert("host".to_owned(), url.host.into());
    service.insert("port".to_owned(), port.into());
    service.insert("path".to_owned(), url.path.into());
}

/// A URL cut at its delimiters, nothing checked.
struct Parts<'a> {
    scheme: Option<&'a str>,
    host: Option<&'a str>,
    port: Option<u64>,
    path: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Self {
        let rest = url.split_once('#').map_or(url, |(before, _)| before);
        let (scheme, rest) = match rest.split_once(':') {
            Some((scheme, after)) if is_scheme(scheme) => (Some(scheme), after),
            _ => (None, rest),
        };
        let rest = rest.split_once('?').map_or(rest, |(before, _)| before);
        let (authority, path) = match rest.strip_prefix("//") {
            None => (None, rest),
            Some(after) => {
                let (authority, path) = after.split_at(after.find('/').unwrap_or(after.len()));
                (Some(authority), path)
            }
        };
        let path = path.split_once(';').map_or(path, |(before, _)| before);
        let (host, port) = authority.map_or((None, None), split_authority);
        Self { scheme, host, port, path: Some(path).filter(|path| !path.is_empty()) }
    }
}

fn split_authority(authority: &str) -> (Option<&str>, Option<u64>) {
    let authority = authority.split_once('@').map_or(authority, |(_, after)| after);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()),
        _ => (authority, None),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (Some(bare).filter(|host| !host.is_empty()), port)
}

fn is_scheme(text: &str) -> bool {
    text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// A service as the request path reads it.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Service {
    pub id: uuid::Uuid,
    pub name: Option<String>,
    pub protocol: String,
    pub host: String,
    pub port: u16,
    pub path: Option<String>,
    pub retries: Option<u32>,
    pub connect_timeout: Option<u64>,
    pub write_timeout: Option<u64>,
    pub read_timeout: Option<u64>,
    pub tls_verify: Option<bool>,
    pub tls_verify_depth: Option<u32>,
    pub enabled: bool,
}
