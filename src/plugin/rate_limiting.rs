//! The plugin `rate-limiting`.

use crate::entity::declare::{PluginDeclaration, Record};
use crate::plugin::{Maker, Plugin};

pub static MAKER: Maker = Maker { declaration: &DECLARATION, build: |_, _| Ok(Box::new(Instance)) };

static DECLARATION: PluginDeclaration = PluginDeclaration {
    name: "rate-limiting",
    priority: 910,
    config: Record { fields: &[], shorthands: &[], rules: &[] },
    rules: &[],
    consumer_scope: true,
    protocols: &["grpc", "grpcs", "http", "https"],
};

struct Instance;

impl Plugin for Instance {}
