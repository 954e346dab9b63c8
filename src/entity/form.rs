//! Forms to documents: keys expanded to a tree, values typed by the declaration.

use serde_json::Value;

use crate::entity::declare::Plugins;
use crate::entity::{Doc, Kind};

/// What a form said: names and values in the order sent, values as text.
pub type Pairs = Vec<(String, String)>;

/// Expands `a.b`, `a[]`, `a[1]`, `a[key]` and repeats; leaves are strings, an empty one null.
/// `Err`: a name that cannot be expanded, as text for the client.
pub fn expand(pairs: Pairs) -> Result<Doc, String> {
    let _ = pairs;
    unimplemented!()
}

/// Types the leaves of an expanded form by the fields of `kind`. `plugin_name` types the `config` of a plugin whose
/// form does not name it (PATCH).
pub fn coerce(kind: Kind, tree: Doc, plugins: &Plugins, plugin_name: Option<&str>) -> Doc {
    let _ = (kind, plugins, plugin_name);
    tree
}

/// The simpler typing of endpoints that are no entities: `true` and `false` to booleans.
pub fn coerce_plain(tree: Doc) -> Doc {
    let _: Option<Value> = None;
    tree
}
