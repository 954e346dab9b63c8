//! The kind `plugins`.

use crate::entity::declare::Declaration;

pub static DECLARATION: Declaration = Declaration { name: "plugins", ..Declaration::EMPTY };

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
