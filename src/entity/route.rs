//! The kind `routes`: which requests go to which service. What a route may match on hangs on its protocols.

use crate::entity::Doc;
use crate::entity::check;
use crate::entity::declare::{
    Check, Complaint, Declaration, Field, Literal, Match, OnDelete, Override, Record, Refused, Rule, Variant, Variants,
};
use crate::entity::fields::{CREATED_AT, ID, NAME, PROTOCOL, TAGS, UPDATED_AT};
use crate::entity::format;
use crate::entity::rules;

pub static DECLARATION: Declaration = Declaration {
    name: "routes",
    path: Some("routes"),
    nested_path: "routes",
    endpoint_key: Some("name"),
    fields: &[
        ID,
        CREATED_AT,
        UPDATED_AT,
        NAME,
        Field::set("protocols", &PROTOCOL)
            .required()
            .default(Literal::Strs(&["http", "https"]))
            .checks(&[Check::LenMin(1), Check::MutuallyExclusiveSubsets(PROTOCOL_SETS)]),
        Field::integer("https_redirect_status_code")
            .required()
            .default(Literal::Int(426))
            .checks(&[Check::OneOfInt(&[426, 301, 302, 307, 308])]),
        Field::boolean("strip_path").required().default(Literal::Bool(true)),
        Field::boolean("preserve_host").required().default(Literal::Bool(false)),
        Field::boolean("request_buffering").required().default(Literal::Bool(true)),
        Field::boolean("response_buffering").required().default(Literal::Bool(true)),
        TAGS,
        Field::foreign("service", "services", OnDelete::Restrict),
        Field::set("snis", &SNI),
        Field::set("sources", &ADDRESS),
        Field::set("destinations", &ADDRESS),
        Field::set("methods", &METHOD),
        Field::array("hosts", &HOST),
        Field::array("paths", &PATH),
        Field::map("headers", &HEADER_NAME, &HEADER_VALUES),
        Field::integer("regex_priority").default(Literal::Int(0)),
        Field::string("path_handling").default(Literal::Str("v0")).checks(&[Check::OneOf(&["v0", "v1"])]),
    ],
    rules: &[Rule::Conditional {
        if_field: "protocols",
        matches: Match::Each(Check::NotOneOf(&["grpcs", "https", "tls", "tls_passthrough"])),
        then_field: "snis",
        then: Match::Is(Check::LenEq(0)),
        message: Some("'snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls' or 'tls_passthrough'"),
    }],
    variants: Variants::BySet { field: "protocols", variants: &[HTTP, STREAM, GRPC] },
    ..Declaration::EMPTY
};

const PROTOCOL_SETS: &[&[&str]] =
    &[&["http", "https"], &["tcp", "tls", "udp"], &["tls_passthrough"], &["grpc", "grpcs"]];

static SNI: Field = Field::string("").checks(&[Check::Format(&format::WILDCARD_HOST)]);
static METHOD: Field = Field::string("").checks(&[Check::Format(&format::HTTP_METHOD)]);
static HOST: Field = Field::string("").checks(&[Check::Format(&format::ROUTE_HOST)]);
static PATH: Field = Field::string("").checks(&[Check::Format(&format::ROUTER_PATH)]);
static HEADER_NAME: Field = Field::string("").checks(&[Check::Format(&format::ROUTE_HEADER_NAME)]);
static HEADER_VALUES: Field = Field::array("", &HEADER_VALUE);
static HEADER_VALUE: Field = Field::string("");
static ADDRESS: Field = Field::record(
    "",
    &Record {
        fields: &[
            Field::string("ip").checks(&[Check::Format(&format::IP_OR_CIDR)]),
            Field::integer("port").checks(&[Check::Between(0, 65535)]),
        ],
        shorthands: &[],
        rules: &[Rule::AtLeastOneOf(&["ip", "port"])],
    },
);

const HTTP: Variant = Variant {
    names: &["http", "https"],
    overrides: &[
        null("sources", "cannot set 'sources' when 'protocols' is 'http' or 'https'"),
        null("destinations", "cannot set 'destinations' when 'protocols' is 'http' or 'https'"),
    ],
    rules: &[matching(http_matches)],
};

const STREAM: Variant = Variant {
    names: &["tcp", "tls", "udp", "tls_passthrough"],
    overrides: &[
        null("methods", "cannot set 'methods' when 'protocols' is 'tcp', 'tls', 'tls_passthrough' or 'udp'"),
        null("hosts", "cannot set 'hosts' when 'protocols' is 'tcp', 'tls', 'tls_passthrough' or 'udp'"),
        null("paths", "cannot set 'paths' when 'protocols' is 'tcp', 'tls', 'tls_passthrough' or 'udp'"),
        null("headers", "cannot set 'headers' when 'protocols' is 'tcp', 'tls', 'tls_passthrough' or 'udp'"),
    ],
    rules: &[matching(stream_matches)],
};

const GRPC: Variant = Variant {
    names: &["grpc", "grpcs"],
    overrides: &[
        Override {
            field: "strip_path",
            default: Some(Literal::Bool(false)),
            refused: Refused::True,
            message: "cannot set 'strip_path' when 'protocols' is 'grpc' or 'grpcs'",
        },
        null("methods", "cannot set 'methods' when 'protocols' is 'grpc' or 'grpcs'"),
        null("sources", "cannot set 'sources' when 'protocols' is 'grpc' or 'grpcs'"),
        null("destinations", "cannot set 'destinations' when 'protocols' is 'grpc' or 'grpcs'"),
    ],
    rules: &[matching(grpc_matches)],
};

const fn null(field: &'static str, message: &'static str) -> Override {
    Override { field, default: None, refused: Refused::NotNull, message }
}

const fn matching(check: fn(&Doc) -> Vec<Complaint>) -> Rule {
    Rule::Custom { name: "", fields: &[], check }
}

fn http_matches(route: &Doc) -> Vec<Complaint> {
    if has(route, "https") {
        let text = "must set one of 'methods', 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'https'";
        return one_set(route, &["methods", "hosts", "headers", "paths", "snis"], text);
    }
    let text = "must set one of 'methods', 'hosts', 'headers', 'paths' when 'protocols' is 'http'";
    one_set(route, &["methods", "hosts", "headers", "paths"], text)
}

fn stream_matches(route: &Doc) -> Vec<Complaint> {
    let all = |known: &[&str]| protocols(route).all(|name| known.contains(&name));
    if all(&["tcp", "tls", "udp"]) {
        let text = "must set one of 'sources', 'destinations', 'snis' when 'protocols' is 'tcp', 'tls' or 'udp'";
        return one_set(route, &["sources", "destinations", "snis"], text);
    }
    if all(&["tls_passthrough"]) {
        return one_set(route, &["snis"], "must set snis when 'protocols' is 'tls_passthrough'");
    }
    Vec::new()
}

fn grpc_matches(route: &Doc) -> Vec<Complaint> {
    if has(route, "grpcs") {
        let text = "must set one of 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'grpcs'";
        return one_set(route, &["hosts", "headers", "paths", "snis"], text);
    }
    let text = "must set one of 'hosts', 'headers', 'paths' when 'protocols' is 'grpc'";
    one_set(route, &["hosts", "headers", "paths"], text)
}

fn one_set(route: &Doc, fields: &[&str], text: &str) -> Vec<Complaint> {
    if fields.iter().any(|field| check::is_nonempty(rules::at(route, field))) {
        return Vec::new();
    }
    vec![Complaint::Entity(text.to_owned())]
}

fn has(route: &Doc, protocol: &str) -> bool {
    protocols(route).any(|name| name == protocol)
}

fn protocols(route: &Doc) -> impl Iterator<Item = &str> {
    rules::at(route, "protocols").as_array().into_iter().flatten().filter_map(|name| name.as_str())
}

/// A route as the request path reads it.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Route {
    pub id: uuid::Uuid,
    pub name: Option<String>,
    pub protocols: Vec<String>,
    pub methods: Option<Vec<String>>,
    pub hosts: Option<Vec<String>>,
    pub paths: Option<Vec<String>>,
    pub headers: Option<std::collections::BTreeMap<String, Vec<String>>>,
    pub snis: Option<Vec<String>>,
    pub https_redirect_status_code: u16,
    pub strip_path: bool,
    pub preserve_host: bool,
    pub request_buffering: bool,
    pub response_buffering: bool,
    pub regex_priority: Option<i64>,
    pub path_handling: Option<String>,
    #[serde(default)]
    pub service: Option<crate::entity::Reference>,
}
