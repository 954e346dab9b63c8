//! Whom requests can come from: consumers and their credentials, by what a request names them with.
//!
//! Part of the snapshot, so a request sees one state of it and never waits. Header values are made here, once per
//! consumer and credential, because each authenticated request sends them upstream.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use http::HeaderValue;
use uuid::Uuid;

use crate::entity::consumer::Consumer;

/// What plugins look up: part of the snapshot.
#[derive(Debug, Default)]
pub struct Directory {
    pub consumers: HashMap<Uuid, Arc<Principal>, RandomState>,
    pub consumers_by_username: HashMap<Arc<str>, Arc<Principal>, RandomState>,
    pub keys: HashMap<Arc<str>, Arc<KeyHolder>, RandomState>,
}

impl Directory {
    /// A consumer by id or username, as `anonymous` of a plugin config names one.
    pub fn consumer(&self, id_or_username: &str) -> Option<&Principal> {
        let by_id = id_or_username.parse().ok().and_then(|id: Uuid| self.consumers.get(&id));
        by_id.or_else(|| self.consumers_by_username.get(id_or_username)).map(Arc::as_ref)
    }
}

/// A consumer as requests need one.
#[derive(Debug)]
pub struct Principal {
    pub id: Uuid,
    pub username: Option<Arc<str>>,
    pub id_header: HeaderValue,
    /// `None` also when the text cannot be a header.
    pub username_header: Option<HeaderValue>,
    pub custom_id_header: Option<HeaderValue>,
}

impl Principal {
    pub fn new(consumer: Consumer) -> Self {
        let header = |text: &Option<String>| HeaderValue::from_bytes(text.as_ref()?.as_bytes()).ok();
        Self {
            id: consumer.id,
            id_header: uuid_header(consumer.id),
            username_header: header(&consumer.username),
            custom_id_header: header(&consumer.custom_id),
            username: consumer.username.map(Arc::from),
        }
    }
}

/// Who authenticated: the credential's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CredentialRef {
    pub id: Uuid,
}

/// The owner of an API key.
#[derive(Debug)]
pub struct KeyHolder {
    pub credential: CredentialRef,
    pub consumer: Arc<Principal>,
    /// Unix seconds; `None`: never.
    pub expires_at_s: Option<i64>,
    pub id_header: HeaderValue,
}

impl KeyHolder {
    pub fn new(credential: Uuid, consumer: Arc<Principal>, expires_at_s: Option<i64>) -> Self {
        Self {
            credential: CredentialRef { id: credential },
            consumer,
            expires_at_s,
            id_header: uuid_header(credential),
        }
    }
}

fn uuid_header(id: Uuid) -> HeaderValue {
    let mut text = Uuid::encode_buffer();
    HeaderValue::from_str(id.hyphenated().encode_lower(&mut text)).unwrap_or(HeaderValue::from_static(""))
}
