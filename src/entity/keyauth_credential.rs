//! The kind `keyauth_credentials`.

use crate::entity::declare::Declaration;

pub static DECLARATION: Declaration = Declaration { name: "keyauth_credentials", ..Declaration::EMPTY };

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
