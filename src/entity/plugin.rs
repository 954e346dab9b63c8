//! The kind `plugins`: one configured instance each. A plugin's own declaration gives `config` its shape.

use serde_json::Value;

use crate::entity::catalog::Draft;
use crate::entity::declare::{Check, Declaration, Field, Literal, OnDelete, Record, Variants, Written};
use crate::entity::fields::{CREATED_AT, ID, PROTOCOL, TAGS, UPDATED_AT};
use crate::entity::format;
use crate::entity::problem::Violations;
use crate::entity::{Doc, Kind, Reference};

pub static DECLARATION: Declaration = Declaration {
    name: "plugins",
    path: Some("plugins"),
    nested_path: "plugins",
    endpoint_key: Some("instance_name"),
    fields: &[
        ID,
        Field::string("name").required(),
        Field::string("instance_name").unique().checks(&[Check::Format(&format::UTF8_NAME)]),
        CREATED_AT,
        UPDATED_AT,
        Field::foreign("route", "routes", OnDelete::Cascade),
        Field::foreign("service", "services", OnDelete::Cascade),
        Field::foreign("consumer", "consumers", OnDelete::Cascade),
        // The plugin that `name` names says what is in it.
        Field::record("config", &Record { fields: &[], shorthands: &[], rules: &[] }).required(),
        Field::set("protocols", &PROTOCOL).required().default(Literal::Strs(&["grpc", "grpcs", "http", "https"])),
        Field::boolean("enabled").required().default(Literal::Bool(true)),
        TAGS,
    ],
    unique_together: &["name", "route", "service", "consumer"],
    cache_key: &["name", "route", "service", "consumer"],
    variants: Variants::ByPlugin,
    row_check: Some(protocols_meet),
    ..Declaration::EMPTY
};

/// The protocols of a plugin have to meet those of its route, or of some route of its service.
///
/// Kong: only protocols that the body carries are compared, never those filled in by default. It does not compare at
/// all, or refuses always, when the scope was given by name; we compare.
fn protocols_meet(written: &Written<'_>, draft: &Draft<'_>) -> Result<(), Violations> {
    let sent = |name: &str| written.sent.get(name).is_some_and(|value| !value.is_null());
    if !sent("protocols") && !(written.updating && (sent("route") || sent("service"))) {
        return Ok(());
    }
    let meets = |route: &Doc| {
        words(route, "protocols").any(|protocol| words(written.doc, "protocols").any(|other| other == protocol))
    };
    if let Some(route) = reference(written.doc, "route") {
        return match draft.get(Kind::ROUTES, route.id) {
            Some(route) if !meets(&route.doc()) => {
                Err(Violations::field("protocols", "must match the associated route's protocols"))
            }
            // A route that is not there is the catalog's to complain about.
            _ => Ok(()),
        };
    }
    if let Some(service) = reference(written.doc, "service") {
        let routes = draft.children(Kind::ROUTES, "service", service.id);
        if !routes.is_empty() && !routes.iter().any(|route| meets(&route.doc())) {
            let text = "must match the protocols of at least one route pointing to this Plugin's service";
            return Err(Violations::field("protocols", text));
        }
    }
    Ok(())
}

fn reference(doc: &Doc, field: &str) -> Option<Reference> {
    let id = doc.get(field)?.get("id")?.as_str()?.parse().ok()?;
    Some(Reference { id })
}

fn words<'a>(doc: &'a Doc, field: &str) -> impl Iterator<Item = &'a str> {
    doc.get(field).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// One configured instance of a plugin as `Snapshot::build` reads it.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct PluginInstance {
    pub id: uuid::Uuid,
    pub name: String,
    pub route: Option<crate::entity::Reference>,
    pub service: Option<crate::entity::Reference>,
    pub consumer: Option<crate::entity::Reference>,
    pub config: crate::entity::Doc,
    pub enabled: bool,
}
