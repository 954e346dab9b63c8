//! The kind `consumers`.

use crate::entity::declare::Declaration;

pub static DECLARATION: Declaration = Declaration { name: "consumers", ..Declaration::EMPTY };

/// A consumer as the request path reads it.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Consumer {
    pub id: uuid::Uuid,
    pub username: Option<String>,
    pub custom_id: Option<String>,
}
