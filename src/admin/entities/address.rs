//! How a path segment addresses an entity: by id, or by the field its kind is known by.
//!
//! Kong: 36 characters of a UUID are an id even when something is named so, and a key that no entity could have is
//! refused before anything is looked up.

use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;

use crate::entity::catalog::Draft;
use crate::entity::problem::Rejection;
use crate::entity::{Doc, Entity, Kind, check};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Id(Uuid),
    Key { field: &'static str, value: String },
}

impl Address {
    pub(crate) fn parse(kind: Kind, segment: &str) -> Result<Self, Rejection> {
        if let Some(id) = hyphenated(segment) {
            return Ok(Self::Id(id));
        }
        let field = kind.endpoint_key.and_then(|name| kind.field(name)).ok_or(Rejection::InvalidPrimaryKey)?;
        let value = segment.to_owned();
        check::all(field, &Value::String(value.clone()))
            .map_err(|message| Rejection::InvalidKey { field: field.name, message })?;
        Ok(Self::Key { field: field.name, value })
    }

    pub(crate) fn find(&self, kind: Kind, draft: &Draft<'_>) -> Option<Arc<Entity>> {
        match self {
            Self::Id(id) => draft.get(kind, *id),
            Self::Key { field, value } => draft.by_key(kind, field, value),
        }
    }

    /// The members that an answer names when nothing is found.
    pub(crate) fn doc(&self) -> Doc {
        let (field, value) = match self {
            Self::Id(id) => ("id", id.to_string()),
            Self::Key { field, value } => (*field, value.clone()),
        };
        Doc::from_iter([(field.to_owned(), Value::String(value))])
    }
}

fn hyphenated(segment: &str) -> Option<Uuid> {
    if segment.len() == 36 { Uuid::try_parse(segment).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_in_any_letter_case_is_an_id() {
        let id = Uuid::from_u128(0xaaaa_aaaa_bbbb_4ccc_8ddd_0123_4567_89ab);
        let parse = |segment: &str| Address::parse(Kind::SERVICES, segment);
        assert_eq!(parse("AAAAAAAA-BBBB-4CCC-8DDD-0123456789AB"), Ok(Address::Id(id)));
        assert_eq!(parse("aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab"), Ok(Address::Id(id)));
        let bare = "aaaaaaaabbbb4ccc8ddd0123456789ab";
        assert_eq!(parse(bare), Ok(Address::Key { field: "name", value: bare.to_owned() }));
    }

    #[test]
    fn a_key_that_nothing_could_have_is_refused() {
        let Err(Rejection::InvalidKey { field, .. }) = Address::parse(Kind::ROUTES, "foo bar") else {
            panic!("accepted")
        };
        assert_eq!(field, "name");
    }
}
