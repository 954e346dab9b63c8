//! Text to a document: JSON when it is JSON, else YAML.
//!
//! The text is hostile: nodes, aliases and what aliases multiply to are bounded by its own length, so a file of a
//! megabyte cannot become gigabytes.

use serde_json::Value;

use crate::entity::Doc;
use crate::entity::declarative::report::Invalid;
use crate::pace;

/// Bytes of a text; more is refused. Far above a configuration of 100,000 routes.
const TEXT_MAX: usize = 256 * 1024 * 1024;

/// Events that all aliases together may repeat.
const ALIASED_EVENTS_MAX: usize = 100_000;

/// The one object that a text is.
pub fn parse(text: &[u8]) -> Result<Doc, Invalid> {
    if text.len() > TEXT_MAX {
        return Err(Invalid::text("the text is too long"));
    }
    let value = match serde_json::from_reader(pace::reader(text)) {
        Ok(value) => value,
        Err(_) => yaml(text)?,
    };
    match value {
        Value::Object(doc) => Ok(doc),
        _ => Err(Invalid::text("expected an object")),
    }
}

fn yaml(text: &[u8]) -> Result<Value, Invalid> {
    let text = std::str::from_utf8(text).map_err(|_| Invalid::text("expected UTF-8 text"))?;
    let nodes = text.len() + ALIASED_EVENTS_MAX;
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: nodes * 2,
            max_nodes: nodes,
            max_depth: 64,
            max_documents: 1,
            max_total_scalar_bytes: text.len() * 2 + 1024 * 1024,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: ALIASED_EVENTS_MAX },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| Invalid::text(&complaint(&error)))
}

/// `LINE:COLUMN: what is wrong`, on one line.
fn complaint(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let text = text.lines().next().unwrap_or_default();
    match error.location() {
        Some(at) => format!("{}:{}: {text}", at.line(), at.column()),
        None => text.to_owned(),
    }
}
