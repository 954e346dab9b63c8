//! The kind `keyauth_credentials`: keys of consumers, some for a time only.

use crate::entity::declare::{Auto, Declaration, Field, OnDelete};
use crate::entity::fields::{CREATED_AT, ID, TAGS};

pub static DECLARATION: Declaration = Declaration {
    name: "keyauth_credentials",
    path: Some("key-auths"),
    nested_path: "key-auth",
    endpoint_key: Some("key"),
    plugin: Some("key-auth"),
    fields: &[
        ID,
        CREATED_AT,
        Field::foreign("consumer", "consumers", OnDelete::Cascade).required(),
        Field::string("key").unique().auto(Auto::Secret),
        TAGS,
    ],
    cache_key: &["key"],
    ttl: true,
    ..Declaration::EMPTY
};

/// A key of a consumer as the request path reads it.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct KeyauthCredential {
    pub id: uuid::Uuid,
    pub key: String,
    pub consumer: crate::entity::Reference,
    /// Unix seconds after which the key is none; stored under an internal member, see `write::present`.
    #[serde(default)]
    pub expires_at: Option<i64>,
}
