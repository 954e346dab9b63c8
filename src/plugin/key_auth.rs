//! The plugin `key-auth`: a key in a header, the query or the body says which consumer sent the request
//! (`kong/plugins.md` C.2).
//!
//! The key is looked up in the snapshot. A deleted key is gone with the next snapshot; one whose `ttl` is over stays in
//! until somebody removes it, so its time is compared at each use.

use std::borrow::Cow;

use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;

use crate::entity::declare::{Check, Field, Literal, PluginDeclaration, Record};
use crate::entity::format;
use crate::plugin::authentication::{identify, stand_in};
use crate::plugin::body::Fields;
use crate::plugin::directory::KeyHolder;
use crate::plugin::given::{Given, form_without, in_form, in_headers};
use crate::plugin::{Answer, Build, Built, Exchange, Maker, Plugin, Step, Wants};

pub static MAKER: Maker = Maker { declaration: &DECLARATION, build };

static DECLARATION: PluginDeclaration = PluginDeclaration {
    name: "key-auth",
    priority: 1250,
    config: Record { fields: FIELDS, shorthands: &[], rules: &[] },
    rules: &[],
    consumer_scope: false,
    protocols: &["grpc", "grpcs", "http", "https"],
    notices: &[],
};

static FIELDS: &[Field] = &[
    Field::array("key_names", &KEY_NAME).required().default(Literal::Strs(&["apikey"])),
    Field::boolean("hide_credentials").required().default(Literal::Bool(false)),
    Field::string("anonymous"),
    Field::boolean("key_in_header").required().default(Literal::Bool(true)),
    Field::boolean("key_in_query").required().default(Literal::Bool(true)),
    Field::boolean("key_in_body").required().default(Literal::Bool(false)),
    Field::boolean("run_on_preflight").required().default(Literal::Bool(true)),
    Field::string("realm"),
];

static KEY_NAME: Field = Field::string("").checks(&[Check::Format(&format::HEADER_NAME)]);

/// Longest body that is searched for a key. In a longer one no key is found, and none is hidden.
const BODY_MAX: usize = 1 << 20;

#[derive(Deserialize)]
struct Config {
    key_names: Vec<String>,
    hide_credentials: bool,
    anonymous: Option<String>,
    key_in_header: bool,
    key_in_query: bool,
    key_in_body: bool,
    run_on_preflight: bool,
    realm: Option<String>,
}

struct KeyAuth {
    names: Vec<Name>,
    hide_credentials: bool,
    anonymous: Option<Box<str>>,
    in_header: bool,
    in_query: bool,
    in_body: bool,
    run_on_preflight: bool,
    challenge: HeaderValue,
}

/// What a key may be called.
struct Name {
    text: Box<str>,
    header: HeaderName,
    /// Kong: `api_key` also finds the header `Api-Key`, as OpenResty's header table does.
    dashed: Option<HeaderName>,
}

/// Why a request is not let through.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    NoKey,
    Duplicate,
    Unknown,
}

fn build(build: Build<'_>) -> Built {
    let config = Config::deserialize(build.config).map_err(|error| error.to_string())?;
    let challenge = match &config.realm {
        Some(realm) => HeaderValue::try_from(format!("Key realm=\"{realm}\"")),
        None => Ok(HeaderValue::from_static("Key")),
    };
    Ok(Box::new(KeyAuth {
        names: config.key_names.iter().map(|name| Name::new(name)).collect::<Result<_, _>>()?,
        hide_credentials: config.hide_credentials,
        anonymous: config.anonymous.map(String::into_boxed_str),
        in_header: config.key_in_header,
        in_query: config.key_in_query,
        in_body: config.key_in_body,
        run_on_preflight: config.run_on_preflight,
        challenge: challenge.map_err(|_| "realm cannot be part of a header")?,
    }))
}

impl Plugin for KeyAuth {
    fn access(&self, exchange: &mut Exchange<'_>) -> Step {
        if !self.run_on_preflight && exchange.request.method == Method::OPTIONS {
            return Step::Continue;
        }
        // With `anonymous`, plugins are alternatives: the first that found a credential settled it.
        if self.anonymous.is_some() && exchange.credential.is_some() {
            return Step::Continue;
        }
        match (self.authenticate(exchange), &self.anonymous) {
            (Ok(holder), _) => {
                identify(exchange, &holder.consumer, holder.credential, holder.id_header.clone());
                Step::Continue
            }
            (Err(_), Some(anonymous)) => stand_in(exchange, anonymous),
            (Err(refusal), None) => Step::Respond(self.answer(refusal)),
        }
    }

    fn wants(&self) -> Wants {
        Wants { request_body: if self.in_body { BODY_MAX } else { 0 }, ..Wants::default() }
    }
}

impl KeyAuth {
    /// Finds the holder of the request's key, and hides the key when it was found under a name at all.
    fn authenticate<'a>(&self, exchange: &mut Exchange<'a>) -> Result<&'a KeyHolder, Refusal> {
        let mut fields = self.fields(exchange);
        for name in &self.names {
            let holder = match self.given(name, exchange, fields.as_ref()) {
                Given::Nothing | Given::NoText => continue,
                Given::Several => return Err(Refusal::Duplicate),
                Given::Text(key) => holder(exchange, &key),
            };
            if self.hide_credentials {
                hide(name, exchange, fields.take());
            }
            return holder;
        }
        Err(Refusal::NoKey)
    }

    fn fields(&self, exchange: &Exchange<'_>) -> Option<Fields> {
        let body = exchange.body.as_ref().filter(|_| self.in_body)?;
        Fields::parse(exchange.request.headers.get(header::CONTENT_TYPE)?.as_bytes(), body)
    }

    fn given<'e>(&self, name: &'e Name, exchange: &'e Exchange<'_>, fields: Option<&'e Fields>) -> Given<'e> {
        let header = if self.in_header { name.in_headers(exchange) } else { Given::Nothing };
        let query = || if self.in_query { in_form(exchange.query(), &name.text) } else { Given::Nothing };
        let body = || fields.map_or(Given::Nothing, |fields| fields.given(&name.text));
        header.or_else(query).or_else(body)
    }

    fn answer(&self, refusal: Refusal) -> Answer {
        let message = match refusal {
            Refusal::NoKey => "No API key found in request",
            Refusal::Duplicate => "Duplicate API key found",
            Refusal::Unknown => "Unauthorized",
        };
        Answer::Error {
            status: StatusCode::UNAUTHORIZED,
            message: Cow::Borrowed(message),
            headers: vec![(header::WWW_AUTHENTICATE, self.challenge.clone())],
        }
    }
}

impl Name {
    fn new(text: &str) -> Result<Self, String> {
        let header = |text: &str| HeaderName::try_from(text).map_err(|_| format!("{text:?} cannot name a header"));
        let dashed = text.contains('_').then(|| header(&text.replace('_', "-"))).transpose()?;
        Ok(Self { text: text.into(), header: header(text)?, dashed })
    }

    fn in_headers<'e>(&'e self, exchange: &'e Exchange<'_>) -> Given<'e> {
        let given = |name| in_headers(exchange.header_values(name));
        given(&self.header).or_else(|| self.dashed.as_ref().map_or(Given::Nothing, given))
    }
}

/// Who holds `key` now.
fn holder<'a>(exchange: &Exchange<'a>, key: &[u8]) -> Result<&'a KeyHolder, Refusal> {
    if key.is_empty() {
        return Err(Refusal::NoKey);
    }
    let directory = exchange.directory;
    let holder = str::from_utf8(key).ok().and_then(|key| directory.keys.get(key));
    let now_s = i64::try_from(exchange.now_s).unwrap_or(i64::MAX);
    let valid = holder.filter(|holder| holder.expires_at_s.is_none_or(|end_s| end_s > now_s));
    valid.map(AsRef::as_ref).ok_or(Refusal::Unknown)
}

/// Removes what is called `name` from headers, query and body, wherever the key was.
///
/// Kong: the whole query is written anew, also when the key came in a header.
fn hide(name: &Name, exchange: &mut Exchange<'_>, fields: Option<Fields>) {
    let headers = &mut exchange.upward.headers;
    headers.remove(&name.header);
    if let Some(dashed) = &name.dashed {
        headers.remove(dashed);
    }
    if !exchange.query().is_empty() {
        exchange.upward.query = Some(form_without(exchange.query(), &name.text));
    }
    if let Some(fields) = fields {
        exchange.upward.body = Some(fields.without(&name.text));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
