//! `/tags`: every tag of every entity, read only.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::admin::entities::{Asked, list};
use crate::admin::query::{encode_offset, link};
use crate::admin::reply::{self, Reply};
use crate::entity::problem::{Rejection, Violations};
use crate::entity::{Kind, check};
use crate::store::ledger::Ledger;

type Row = (String, Kind, Uuid);

/// All tags, or the entities of one.
pub(crate) fn list(ledger: &Ledger, tag: Option<&str>, asked: &Asked<'_>) -> Reply {
    let (size, after) = match wanted(tag, asked) {
        Ok(wanted) => wanted,
        Err(rejection) => return reply::rejected(&rejection),
    };
    let position = after.as_ref().map(|(tag, kind, id)| (tag.as_str(), *kind, *id));
    let mut rows = ledger.read(|catalog| catalog.tagged(tag, position, size + 1));
    let more = rows.len() > size;
    rows.truncate(size);
    let next = rows.last().filter(|_| more).map(|last| {
        let offset = encode_offset(&(&last.0, last.1.name, last.2));
        let size = asked.query.first("size").filter(|_| tag.is_none());
        let next = link(asked.path, &[("offset", Some(&offset)), ("size", size)]);
        (offset, next)
    });
    reply::page(rows.iter().map(show).collect(), next)
}

/// Kong: a POST is refused by the schema; other writes, a 500 there, are 405 here.
pub(crate) fn refuse_write() -> Reply {
    let text = "does not support insert/upsert/update/delete operations";
    reply::rejected(&Rejection::Schema(Violations::field("tags", text)))
}

fn wanted(tag: Option<&str>, asked: &Asked<'_>) -> Result<(usize, Option<Row>), Rejection> {
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    let size = asked.query.size()?;
    let Some((tag, kind, id)) = asked.query.offset::<(String, String, Uuid)>()? else { return Ok((size, None)) };
    let kind = Kind::named(&kind).ok_or_else(|| Rejection::InvalidOffset {
        offset: asked.query.first("offset").unwrap_or_default().to_owned(),
        why: "bad json encoding".to_owned(),
    })?;
    Ok((size, Some((tag, kind, id))))
}

fn check_tag(tag: &str) -> Result<(), Rejection> {
    let Some(field) = Kind::all().iter().find_map(|kind| list::tag_field(*kind)) else { return Ok(()) };
    check::all(field, &Value::from(tag)).map_err(|message| Rejection::InvalidKey { field: "tag", message })
}

fn show((tag, kind, id): &Row) -> Value {
    json!({ "entity_name": kind.name, "entity_id": id, "tag": tag })
}
