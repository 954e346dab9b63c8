//! What all authentication plugins do once they know who sent a request (`kong/plugins.md` C.1).

use http::{HeaderName, HeaderValue};

use crate::http1::edits::HeaderEdits;
use crate::plugin::directory::{CredentialRef, Principal};
use crate::plugin::{Exchange, Step};

static CONSUMER_ID: HeaderName = HeaderName::from_static("x-consumer-id");
static CONSUMER_CUSTOM_ID: HeaderName = HeaderName::from_static("x-consumer-custom-id");
static CONSUMER_USERNAME: HeaderName = HeaderName::from_static("x-consumer-username");
static CREDENTIAL_IDENTIFIER: HeaderName = HeaderName::from_static("x-credential-identifier");
static ANONYMOUS: HeaderName = HeaderName::from_static("x-anonymous-consumer");

/// Sets consumer and credential, and tells the upstream. `identifier` is what the plugin calls the credential.
/// Whatever the client sent under these header names is gone.
pub fn identify<'a>(
    exchange: &mut Exchange<'a>,
    consumer: &'a Principal,
    credential: CredentialRef,
    identifier: HeaderValue,
) {
    exchange.consumer = Some(consumer);
    exchange.credential = Some(credential);
    let headers = &mut exchange.upward.headers;
    tell_consumer(headers, consumer);
    headers.set(&CREDENTIAL_IDENTIFIER, identifier);
    headers.remove(&ANONYMOUS);
}

/// Lets the request go on as the anonymous consumer, given by id or username; fails when there is none.
pub fn stand_in(exchange: &mut Exchange<'_>, id_or_username: &str) -> Step {
    let directory = exchange.directory;
    let Some(consumer) = directory.consumer(id_or_username) else {
        return Step::Fail(format!("the anonymous consumer {id_or_username} does not exist").into());
    };
    exchange.consumer = Some(consumer);
    exchange.credential = None;
    let headers = &mut exchange.upward.headers;
    tell_consumer(headers, consumer);
    headers.remove(&CREDENTIAL_IDENTIFIER);
    headers.set(&ANONYMOUS, HeaderValue::from_static("true"));
    Step::Continue
}

fn tell_consumer(headers: &mut HeaderEdits, consumer: &Principal) {
    headers.set(&CONSUMER_ID, consumer.id_header.clone());
    set(headers, &CONSUMER_CUSTOM_ID, consumer.custom_id_header.as_ref());
    set(headers, &CONSUMER_USERNAME, consumer.username_header.as_ref());
}

fn set(headers: &mut HeaderEdits, name: &'static HeaderName, value: Option<&HeaderValue>) {
    match value {
        Some(value) => headers.set(name, value.clone()),
        None => headers.remove(name),
    }
}
