//! Which place a path names, and which methods it has.
//!
//! Entity paths come from the declarations: collections, members, and both directions of every foreign field. A router
//! crate would need each of them registered; matching segments against declarations needs nothing when a kind is added.
//! Kong: words of the API are compared as sent (`/%73ervices` is unknown), only keys are percent-decoded, and a path
//! that names nothing is 404 for every method.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::entity::Kind;
use crate::entity::declare::{Plugins, Type};

/// A key in a path, percent-decoded.
pub(crate) type Key<'a> = Cow<'a, str>;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    Root,
    Robots,
    Status,
    StatusDns,
    Endpoints,
    Timers,
    Metrics,
    PluginsEnabled,
    /// The config record of a plugin alone.
    ConfigSchema(Key<'a>),
    PluginSchema(Key<'a>),
    VaultSchema(Key<'a>),
    Schema(Key<'a>),
    Validate(Key<'a>),
    Tags,
    Tag(Key<'a>),
    LogLevel,
    SetLogLevel(Key<'a>),
    Cache,
    Cached,
    Cluster,
    ClusterLimits,
    Conflicts,
    LeaveCluster,
    ClusteringStatus,
    DataPlanes,
    Config,
    /// `/services`
    Collection(Kind),
    /// `/services/{service}`
    Single(Kind, Key<'a>),
    /// `/services/{service}/routes`
    Children(Nesting<'a>),
    /// `/services/{service}/routes/{route}`
    Child(Nesting<'a>, Key<'a>),
    /// `/routes/{route}/service`
    Parent {
        child: Kind,
        key: Key<'a>,
        field: &'static str,
        parent: Kind,
    },
}

/// Entities of `child` below one entity of `parent`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Nesting<'a> {
    pub parent: Kind,
    pub key: Key<'a>,
    pub child: Kind,
    /// The foreign field of `child` that names the parent.
    pub field: &'static str,
}

const READ: &str = "GET, HEAD, OPTIONS";
const COLLECTION: &str = "GET, HEAD, OPTIONS, POST";
const SINGLE: &str = "DELETE, GET, HEAD, OPTIONS, PATCH, PUT";

impl Place<'_> {
    /// The methods of the place in alphabetical order, as `Allow` lists them.
    pub(crate) fn methods(&self) -> &'static str {
        match self {
            Self::Root
            | Self::Robots
            | Self::Status
            | Self::StatusDns
            | Self::Endpoints
            | Self::Timers
            | Self::Metrics
            | Self::PluginsEnabled
            | Self::ConfigSchema(_)
            | Self::PluginSchema(_)
            | Self::VaultSchema(_)
            | Self::Schema(_)
            | Self::Tag(_)
            | Self::LogLevel
            | Self::Cluster
            | Self::ClusterLimits
            | Self::Conflicts
            | Self::ClusteringStatus
            | Self::DataPlanes => READ,
            Self::Collection(_) | Self::Children(_) | Self::Config | Self::Tags => COLLECTION,
            Self::Single(..) | Self::Child(..) | Self::Parent { .. } => SINGLE,
            Self::Validate(_) | Self::LeaveCluster => "OPTIONS, POST",
            Self::SetLogLevel(_) => "OPTIONS, PUT",
            Self::Cache => "DELETE, OPTIONS",
            Self::Cached => "DELETE, GET, HEAD, OPTIONS",
        }
    }

    pub(crate) fn has(&self, method: &http::Method) -> bool {
        self.methods().split(", ").any(|name| name == method.as_str())
    }
}

/// The place of a path; `None`: there is none. Kinds and words of plugins that are not loaded do not exist.
pub(crate) fn locate<'a>(path: &'a str, plugins: &Plugins) -> Option<Place<'a>> {
    let path = path.strip_prefix('/')?;
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut parts = path.split('/');
    let mut segments = [""; 4];
    let count = segments.iter_mut().zip(&mut parts).map(|(slot, part)| *slot = part).count();
    if parts.next().is_some() {
        return None;
    }
    let segments = segments.get(..count)?;
    fixed(segments).or_else(|| entities(segments, plugins))
}

fn fixed<'a>(segments: &[&'a str]) -> Option<Place<'a>> {
    Some(match *segments {
        [""] => Place::Root,
        ["robots.txt"] => Place::Robots,
        ["status"] => Place::Status,
        ["status", "dns"] => Place::StatusDns,
        ["endpoints"] => Place::Endpoints,
        ["timers"] => Place::Timers,
        ["metrics"] => Place::Metrics,
        ["plugins", "enabled"] => Place::PluginsEnabled,
        ["plugins", "schema", name] => Place::ConfigSchema(key(name)?),
        ["schemas", name] => Place::Schema(key(name)?),
        ["schemas", name, "validate"] => Place::Validate(key(name)?),
        ["schemas", "plugins", name] => Place::PluginSchema(key(name)?),
        ["schemas", "vaults", name] => Place::VaultSchema(key(name)?),
        ["tags"] => Place::Tags,
        ["tags", tag] => Place::Tag(key(tag)?),
        ["debug", "node", "log-level"] => Place::LogLevel,
        // One node is the whole cluster until it has peers; the level then goes to them as well.
        ["debug", "node" | "cluster", "log-level", level] => Place::SetLogLevel(key(level)?),
        ["cache"] => Place::Cache,
        ["cache", name] if !name.is_empty() => Place::Cached,
        ["cluster"] => Place::Cluster,
        ["cluster", "limits"] => Place::ClusterLimits,
        ["cluster", "conflicts"] => Place::Conflicts,
        ["cluster", "leave"] => Place::LeaveCluster,
        ["clustering", "status"] => Place::ClusteringStatus,
        ["clustering", "data-planes"] => Place::DataPlanes,
        ["config"] => Place::Config,
        _ => return None,
    })
}

fn entities<'a>(segments: &[&'a str], plugins: &Plugins) -> Option<Place<'a>> {
    let (path, rest) = segments.split_first()?;
    let kind = loaded(plugins).find(|kind| kind.path == Some(*path))?;
    Some(match *rest {
        [] => Place::Collection(kind),
        [name] => Place::Single(kind, key(name)?),
        [name, below] => match nesting(kind, name, below, plugins) {
            Some(nesting) => Place::Children(nesting),
            None => {
                let (field, parent) = foreign_fields(kind).find(|(field, _)| *field == below)?;
                Place::Parent { child: kind, key: key(name)?, field, parent }
            }
        },
        [name, below, child] => Place::Child(nesting(kind, name, below, plugins)?, key(child)?),
        _ => return None,
    })
}

fn nesting<'a>(parent: Kind, name: &'a str, below: &str, plugins: &Plugins) -> Option<Nesting<'a>> {
    let (child, field) = children(parent, plugins).find(|(child, _)| child.nested_path == below)?;
    Some(Nesting { parent, key: key(name)?, child, field })
}

/// Kinds that have no plugin, or one that this node has.
pub(crate) fn loaded(plugins: &Plugins) -> impl Iterator<Item = Kind> + '_ {
    Kind::all().iter().copied().filter(|kind| kind.plugin.is_none_or(|name| plugins.named(name).is_some()))
}

/// Kinds that live below `parent` too, with the field that refers to it.
pub(crate) fn children(parent: Kind, plugins: &Plugins) -> impl Iterator<Item = (Kind, &'static str)> + '_ {
    loaded(plugins).filter(|child| !child.nested_path.is_empty()).filter_map(move |child| {
        let (field, _) = foreign_fields(child).find(|(_, of)| *of == parent)?;
        Some((child, field))
    })
}

/// Foreign fields whose kind is declared, with that kind.
pub(crate) fn foreign_fields(kind: Kind) -> impl Iterator<Item = (&'static str, Kind)> {
    let fields: &'static [_] = kind.fields;
    fields.iter().filter_map(|field| match field.kind {
        Type::Foreign { kind, .. } => Some((field.name, Kind::named(kind)?)),
        _ => None,
    })
}

fn key(segment: &str) -> Option<Key<'_>> {
    (!segment.is_empty()).then(|| percent_decode_str(segment).decode_utf8_lossy())
}
