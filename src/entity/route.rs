//! The kind `routes`.

use crate::entity::declare::Declaration;

pub static DECLARATION: Declaration = Declaration { name: "routes", ..Declaration::EMPTY };

/// A route as the request path reads it.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Route {
    pub id: uuid::Uuid,
    pub name: Option<String>,
    pub protocols: Vec<String>,
    pub methods: Option<Vec<String>>,
    pub hosts: Option<Vec<String>>,
    pub paths: Option<Vec<String>>,
    pub headers: Option<std::collections::BTreeMap<String, Vec<String>>>,
    pub snis: Option<Vec<String>>,
    pub https_redirect_status_code: u16,
    pub strip_path: bool,
    pub preserve_host: bool,
    pub request_buffering: bool,
    pub response_buffering: bool,
    pub regex_priority: Option<i64>,
    pub path_handling: Option<String>,
    #[serde(default)]
    pub service: Option<crate::entity::Reference>,
}
