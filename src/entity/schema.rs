//! Declarations as the JSON of `/schemas/*`.

use serde_json::Value;

use crate::entity::Kind;
use crate::entity::declare::{PluginDeclaration, Record};

/// `GET /schemas/{kind}`: `{"fields": [...], "entity_checks": [...]}`.
pub fn of_kind(kind: Kind) -> Value {
    let _ = kind;
    unimplemented!()
}

/// `GET /schemas/plugins/{name}`.
pub fn of_plugin(plugin: &PluginDeclaration) -> Value {
    let _ = plugin;
    unimplemented!()
}

/// `GET /plugins/schema/{name}`: the config record alone.
pub fn of_config(config: &Record) -> Value {
    let _ = config;
    unimplemented!()
}
