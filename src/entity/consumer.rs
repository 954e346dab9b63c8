//! The kind `consumers`: who uses the services, known by a name of ours or of theirs.

use crate::entity::declare::{Declaration, Field, Rule};
use crate::entity::fields::{CREATED_AT, ID, TAGS, UPDATED_AT};

pub static DECLARATION: Declaration = Declaration {
    name: "consumers",
    path: Some("consumers"),
    nested_path: "consumers",
    endpoint_key: Some("username"),
    lookup: &["custom_id"],
    fields: &[
        ID,
        CREATED_AT,
        UPDATED_AT,
        Field::string("username").unique(),
        Field::string("custom_id").unique(),
        TAGS,
    ],
    rules: &[Rule::AtLeastOneOf(&["custom_id", "username"])],
    ..Declaration::EMPTY
};

/// A consumer as the request path reads it.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Consumer {
    pub id: uuid::Uuid,
    pub username: Option<String>,
    pub custom_id: Option<String>,
}
