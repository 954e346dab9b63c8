//! `/schemas/*`: declarations as JSON, and checking an entity without storing it.

use http::StatusCode;

use crate::admin::reply::{self, Reply};
use crate::entity::declare::Plugins;
use crate::entity::write::{Intent, prepare_alone};
use crate::entity::{Doc, Kind, schema};

pub(crate) fn of_kind(name: &str) -> Reply {
    Kind::named(name).map_or_else(|| no_entity(name), |kind| reply::ok(&schema::of_kind(kind)))
}

pub(crate) fn of_plugin(name: &str, plugins: &Plugins) -> Reply {
    plugins.named(name).map_or_else(|| no_plugin(name), |plugin| reply::ok(&schema::of_plugin(plugin)))
}

/// Kong: an older form of `of_plugin`, still asked for by its console.
pub(crate) fn of_config(name: &str, plugins: &Plugins) -> Reply {
    plugins.named(name).map_or_else(|| no_plugin(name), |plugin| reply::ok(&schema::of_config(&plugin.config)))
}

/// What can be checked without looking at other entities.
pub(crate) fn validate(name: &str, doc: Doc, plugins: &Plugins, now_s: i64) -> Reply {
    let Some(kind) = Kind::named(name) else { return no_entity(name) };
    match prepare_alone(kind, doc, Intent::Insert, plugins, now_s) {
        Ok(_) => reply::message(StatusCode::OK, "schema validation successful"),
        Err(rejection) => reply::rejected(&rejection),
    }
}

fn no_entity(name: &str) -> Reply {
    reply::message(StatusCode::NOT_FOUND, &format!("No entity named '{name}'"))
}

fn no_plugin(name: &str) -> Reply {
    reply::message(StatusCode::NOT_FOUND, &format!("No plugin named '{name}'"))
}
