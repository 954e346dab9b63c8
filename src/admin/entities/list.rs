//! Lists: pages, tag filters, lookups by a field.
//!
//! A page is collected under the catalog's read lock as shared entities and rendered after it.

use std::sync::Arc;

use uuid::Uuid;

use crate::admin::query::{Query, encode_offset, link};
use crate::entity::catalog::Tags;
use crate::entity::declare::{Field, Type};
use crate::entity::problem::Rejection;
use crate::entity::{Entity, Kind, check};

const TAGS_MAX: usize = 5;

/// What a list request asks for, checked.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub after: Option<Uuid>,
    pub size: usize,
    pub tags: Option<Tags>,
    tags_text: Option<String>,
    size_text: Option<String>,
}

/// `offset` and `next` of an answer.
pub(crate) type Next = (String, String);

impl Wanted {
    pub(crate) fn parse(kind: Kind, query: &Query) -> Result<Self, Rejection> {
        let size = query.size()?;
        let after = query.offset::<[Uuid; 1]>()?.map(|[id]| id);
        let tags = match tag_field(kind) {
            Some(field) => query.first("tags").map(|text| parse_tags(text, field)).transpose()?,
            None => None,
        };
        let own = |name| query.first(name).map(str::to_owned);
        Ok(Self { after, size, tags, tags_text: own("tags"), size_text: own("size") })
    }

    /// The link behind a page of a top-level list.
    pub(crate) fn next(&self, path: &str, last: Option<Uuid>) -> Option<Next> {
        let offset = encode_offset(&[last?]);
        let tags = self.tags.as_ref().and(self.tags_text.as_deref());
        let next = link(path, &[("offset", Some(&offset)), ("tags", tags), ("size", self.size_text.as_deref())]);
        Some((offset, next))
    }
}

/// Kong: below a parent the link has neither size nor tags; clients go by `offset`.
pub(crate) fn next_below(path: &str, last: Option<Uuid>) -> Option<Next> {
    let offset = encode_offset(&[last?]);
    let next = link(path, &[("offset", Some(&offset))]);
    Some((offset, next))
}

/// The lookup that a query asks for instead of a page: field and value.
pub(crate) fn lookup(kind: Kind, query: &Query) -> Option<(&'static str, &str)> {
    let fields: &'static [&'static str] = kind.lookup;
    fields.iter().find_map(|field| Some((*field, query.first(field)?)))
}

/// What one tag of a kind may be; `None`: the kind has no tags.
pub(crate) fn tag_field(kind: Kind) -> Option<&'static Field> {
    match kind.field("tags")?.kind {
        Type::Set(element) | Type::Array(element) => Some(element),
        _ => None,
    }
}

/// `a,b`: all of them. `a/b`: any.
fn parse_tags(text: &str, element: &Field) -> Result<Tags, Rejection> {
    let refuse = |why: &str| Err(Rejection::InvalidOptions(vec![("tags", why.to_owned())]));
    if text.is_empty() {
        return refuse("cannot be null");
    }
    let (all, any) = (text.contains(','), text.contains('/'));
    let tags: Vec<String> = text.split([',', '/']).map(str::to_owned).collect();
    let is_tag = |tag: &String| check::all(element, &tag.as_str().into()).is_ok();
    if (all && any) || !tags.iter().all(is_tag) {
        return refuse("invalid filter syntax");
    }
    if tags.len() > TAGS_MAX {
        return refuse("cannot query more than 5 tags");
    }
    Ok(if any { Tags::Any(tags) } else { Tags::All(tags) })
}

/// Entities of a page and where the next begins.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub entities: Vec<Arc<Entity>>,
    pub last: Option<Uuid>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::declare::Check;

    static TAG: Field = Field::string("tag").checks(&[Check::LenMin(1)]);

    fn check(text: &str, expected: Result<&str, &str>) {
        let got = parse_tags(text, &TAG).map(|tags| format!("{tags:?}"));
        let expected =
            expected.map(str::to_owned).map_err(|why| Rejection::InvalidOptions(vec![("tags", why.to_owned())]));
        assert_eq!(got, expected, "tags={text}");
    }

    #[test]
    fn a_comma_asks_for_all_and_a_slash_for_any() {
        check("a", Ok(r#"All(["a"])"#));
        check("a,b", Ok(r#"All(["a", "b"])"#));
        check("a/b", Ok(r#"Any(["a", "b"])"#));
        check("corp_ a", Ok(r#"All(["corp_ a"])"#));
    }

    #[test]
    fn a_bad_filter_is_refused() {
        check("a,b/c", Err("invalid filter syntax"));
        check("a,,b", Err("invalid filter syntax"));
        check("", Err("cannot be null"));
        check("a,b,c,d,e", Ok(r#"All(["a", "b", "c", "d", "e"])"#));
        check("a,b,c,d,e,f", Err("cannot query more than 5 tags"));
    }
}
