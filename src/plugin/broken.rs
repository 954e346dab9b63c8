//! What stands in for an instance that could not be built: it fails every exchange that would have run it.
//!
//! Standing in the chain it follows precedence like any other: where a nearer instance is sound, that one runs.
//! Leaving it out would open what it was to guard; failing whole routes would also hit those it does not concern.

use std::borrow::Cow;

use crate::plugin::chain::Instance;
use crate::plugin::{Exchange, Plugin, Step, maker};
use uuid::Uuid;

struct Broken {
    why: Box<str>,
}

impl Plugin for Broken {
    fn access(&self, _: &mut Exchange<'_>) -> Step {
        Step::Fail(Cow::Owned(self.why.clone().into_string()))
    }
}

/// The stand-in for instance `id` of plugin `name`. A name that this program does not have comes first of all, so that
/// nothing is let through before it.
pub fn instance(id: Uuid, name: &str, why: &str) -> Instance {
    let priority = maker(name).map_or(i32::MAX, |maker| maker.declaration.priority);
    let why = format!("plugin instance {id} cannot run: {why}").into();
    Instance { id, name: name.into(), priority, plugin: Box::new(Broken { why }) }
}
