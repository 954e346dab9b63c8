//! What is made of one entity on its own, before the builder links the parts.
//!
//! Documents are read from their text into typed structs and dropped: what is kept are compiled rules and facts.

use std::sync::Arc;

use http::StatusCode;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::entity::consumer::Consumer;
use crate::entity::keyauth_credential::KeyauthCredential;
use crate::entity::plugin::PluginInstance;
use crate::entity::route::Route;
use crate::entity::service::Service;
use crate::entity::{Doc, Entity};
use crate::plugin::chain::{Chain, Instance};
use crate::plugin::directory::{KeyHolder, Principal};
use crate::plugin::{Build, Scope, broken, maker};
use crate::router::Rule;
use crate::router::compiled::{Compiled, compile};
use crate::snapshot::kept::Made;
use crate::snapshot::plan::{Backend, Destination, Plan, Protocols};

/// A route that takes part in HTTP routing.
pub(crate) struct RoutePart {
    pub(crate) rule: Arc<Compiled>,
    pub(crate) service: Option<Uuid>,
    /// Without its service and chain until it is linked.
    pub(crate) plan: Arc<Plan>,
    /// Where rule and plan are in the snapshot; `None` when they are not, or not yet.
    pub(crate) slot: Option<usize>,
}

pub(crate) struct ServicePart {
    pub(crate) enabled: bool,
    pub(crate) destination: Arc<Destination>,
}

/// An instance that is switched on.
pub(crate) struct PluginPart {
    pub(crate) scope: Scope,
    pub(crate) instance: Arc<Instance>,
}

pub(crate) struct KeyPart {
    pub(crate) key: Arc<str>,
    pub(crate) id: Uuid,
    pub(crate) consumer: Uuid,
    pub(crate) expires_at_s: Option<i64>,
    /// `None` until it is linked.
    pub(crate) holder: Option<Arc<KeyHolder>>,
}

/// Nothing and no problem for routes of streams.
pub(crate) fn route(entity: &Entity, _: Option<&RoutePart>) -> Made<RoutePart> {
    let route: Route = match read(entity) {
        Ok(route) => route,
        Err(why) => return (None, Some(why)),
    };
    let protocols = Protocols::from_names(&route.protocols);
    if protocols.none() {
        return (None, None);
    }
    let service = route.service.map(|service| service.id);
    let plan = plan(&route, protocols);
    match compile(&rule(route)) {
        Ok(rule) => (Some(RoutePart { rule: Arc::new(rule), service, plan: Arc::new(plan), slot: None }), None),
        Err(uncompiled) => (None, Some(uncompiled.why.into())),
    }
}

pub(crate) fn service(entity: &Entity, _: Option<&ServicePart>) -> Made<ServicePart> {
    let service: Service = match read(entity) {
        Ok(service) => service,
        Err(why) => return (None, Some(why)),
    };
    let destination = Destination {
        id: service.id,
        name: service.name.map(String::into_boxed_str),
        tls: matches!(service.protocol.as_str(), "https" | "grpcs" | "tls"),
        grpc: matches!(service.protocol.as_str(), "grpc" | "grpcs"),
        backend: Backend::Host { host: service.host.into_boxed_str(), port: service.port },
        path: service.path.map(String::into_boxed_str),
        retries: service.retries.unwrap_or(5),
        connect_timeout_ms: service.connect_timeout.unwrap_or(60_000),
        write_timeout_ms: service.write_timeout.unwrap_or(60_000),
        read_timeout_ms: service.read_timeout.unwrap_or(60_000),
        tls_verify: service.tls_verify,
        tls_verify_depth: service.tls_verify_depth,
    };
    (Some(ServicePart { enabled: service.enabled, destination: Arc::new(destination) }), None)
}

pub(crate) fn consumer(entity: &Entity, _: Option<&Arc<Principal>>) -> Made<Arc<Principal>> {
    match read::<Consumer>(entity) {
        Ok(consumer) => (Some(Arc::new(Principal::new(consumer))), None),
        Err(why) => (None, Some(why)),
    }
}

pub(crate) fn key(entity: &Entity, _: Option<&KeyPart>) -> Made<KeyPart> {
    match read::<KeyauthCredential>(entity) {
        Ok(credential) => {
            let part = KeyPart {
                key: credential.key.into(),
                id: credential.id,
                consumer: credential.consumer.id,
                expires_at_s: credential.expires_at,
                holder: None,
            };
            (Some(part), None)
        }
        Err(why) => (None, Some(why)),
    }
}

/// Nothing for an instance that is switched off. One that cannot be built is there, and fails whoever runs it.
pub(crate) fn plugin(entity: &Entity, before: Option<&PluginPart>) -> Made<PluginPart> {
    let built = match read::<PluginInstance>(entity) {
        Ok(plugin) if !plugin.enabled => return (None, None),
        Ok(plugin) => build(&plugin, before),
        Err(why) => Err((guess(&entity.doc()), why)),
    };
    match built {
        Ok(part) => (Some(part), None),
        Err(((scope, name), why)) => {
            let instance = Arc::new(broken::instance(entity.id(), &name, &why));
            (Some(PluginPart { scope, instance }), Some(why))
        }
    }
}

fn build(plugin: &PluginInstance, before: Option<&PluginPart>) -> Result<PluginPart, ((Scope, String), Box<str>)> {
    let id = |reference: Option<crate::entity::Reference>| reference.map(|reference| reference.id);
    let scope = Scope { route: id(plugin.route), service: id(plugin.service), consumer: id(plugin.consumer) };
    let failed = |why: String| ((scope, plugin.name.clone()), why.into_boxed_str());
    let maker = maker(&plugin.name).ok_or_else(|| failed(format!("there is no plugin {}", plugin.name)))?;
    let before = before.map(|part| &part.instance).filter(|instance| *instance.name == *plugin.name);
    let before = before.and_then(|instance| instance.plugin.state());
    let running = (maker.build)(Build { config: &plugin.config, scope, before }).map_err(failed)?;
    let declaration = maker.declaration;
    for notice in declaration.notices(&plugin.config) {
        tracing::warn!(plugin = %plugin.id, "{notice}");
    }
    let instance =
        Instance { id: plugin.id, name: declaration.name.into(), priority: declaration.priority, plugin: running };
    Ok(PluginPart { scope, instance: Arc::new(instance) })
}

/// Scope and name of a plugin document that cannot be read: what is unclear counts as unscoped, so that too much fails
/// rather than too little.
fn guess(doc: &Doc) -> (Scope, String) {
    let id = |field: &str| doc.get(field)?.get("id")?.as_str()?.parse().ok();
    let name = doc.get("name").and_then(|name| name.as_str()).unwrap_or_default();
    (Scope { route: id("route"), service: id("service"), consumer: id("consumer") }, name.to_owned())
}

fn plan(route: &Route, protocols: Protocols) -> Plan {
    Plan {
        route_id: route.id,
        route_name: route.name.as_deref().map(Box::from),
        protocols,
        https_redirect_status_code: StatusCode::from_u16(route.https_redirect_status_code)
            .unwrap_or(StatusCode::UPGRADE_REQUIRED),
        strip_path: route.strip_path,
        preserve_host: route.preserve_host,
        request_buffering: route.request_buffering,
        response_buffering: route.response_buffering,
        service: None,
        chain: Arc::new(Chain::default()),
        problem: None,
    }
}

fn rule(route: Route) -> Rule {
    Rule {
        id: route.id,
        methods: route.methods.unwrap_or_default(),
        hosts: route.hosts.unwrap_or_default(),
        paths: route.paths.unwrap_or_default(),
        headers: route.headers.unwrap_or_default().into_iter().collect(),
        snis: route.snis.unwrap_or_default(),
        regex_priority: route.regex_priority.unwrap_or_default(),
    }
}

fn read<T: DeserializeOwned>(entity: &Entity) -> Result<T, Box<str>> {
    serde_json::from_str(&entity.text()).map_err(|error| error.to_string().into())
}
