//! The log document: which members an entry gives, under which names. Absent things have no member.

use std::borrow::Cow;

use http::header::{AUTHORIZATION, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value, json};

use crate::entity::{Doc, Entity};
use crate::plugin::entry::tls::LoggedTls;
use crate::plugin::entry::{
    Entry, LogSource, LoggedCredential, LoggedHttp, LoggedRequest, LoggedResponse, LoggedSession, LoggedTraffic,
    LoggedTry, TryFailureKind, WORKSPACE,
};
use crate::plugin::given::arguments;

/// Header lines, and arguments of the query, of which the document tells: Kong's `lua_max_req_headers`,
/// `lua_max_resp_headers` and `lua_max_uri_args`. Further ones are left out.
const LINES_MAX: usize = 100;

/// In place of credentials in the request's headers.
const REDACTED: &str = "REDACTED";

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut document = Document { map: serializer.serialize_map(None)?, added: &self.added };
        match &self.traffic {
            LoggedTraffic::Http(http) => document.http(http)?,
            LoggedTraffic::Stream(session) => document.session(session)?,
        }
        if let Some(route) = &self.route {
            document.member("route", &Stored(route))?;
            document.member("tries", &self.tries)?;
        }
        for (name, entity) in [("service", &self.service), ("consumer", &self.consumer)] {
            if let Some(entity) = entity {
                document.member(name, &Stored(entity))?;
            }
        }
        if let Some(credential) = &self.authenticated_entity {
            document.member("authenticated_entity", credential)?;
        }
        document.member("client_ip", &self.client_ip)?;
        document.member("started_at", &self.started_at_ms)?;
        document.member("workspace", &WORKSPACE)?;
        document.member("workspace_name", "default")?;
        for (name, value) in &self.added {
            document.map.serialize_entry(name, value)?;
        }
        document.map.end()
    }
}

/// The document being written.
struct Document<'a, M> {
    map: M,
    added: &'a Doc,
}

impl<M: SerializeMap> Document<'_, M> {
    /// Writes a member unless a plugin added one of that name.
    fn member<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), M::Error> {
        if self.added.contains_key(name) { Ok(()) } else { self.map.serialize_entry(name, value) }
    }

    fn http(&mut self, http: &LoggedHttp) -> Result<(), M::Error> {
        self.member("request", &http.request)?;
        self.member("response", &http.response)?;
        self.member("upstream_uri", &text(&http.upstream_uri))?;
        let statuses: Vec<_> = http.upstream_status.iter().map(u16::to_string).collect();
        self.member("upstream_status", &statuses.join(", "))?;
        let source = match http.source {
            LogSource::Upstream => "upstream",
            LogSource::Kong => "kong",
        };
        self.member("source", source)?;
        let latencies = &http.latencies;
        let proxy = latencies.proxy_ms.map_or_else(|| json!(-1), Value::from);
        let (kong, request, receive) = (latencies.kong_ms, latencies.request_ms, latencies.receive_ms);
        self.member("latencies", &json!({"kong": kong, "proxy": proxy, "request": request, "receive": receive}))
    }

    fn session(&mut self, session: &LoggedSession) -> Result<(), M::Error> {
        self.member("session", session)?;
        let (received, sent) = (session.upstream_received, session.upstream_sent);
        self.member("upstream", &json!({"received": received, "sent": sent}))?;
        self.member("latencies", &json!({"kong": session.kong_ms, "session": session.session_ms}))
    }
}

impl Serialize for LoggedRequest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let uri = text(&self.uri);
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("method", self.method.as_str())?;
        map.serialize_entry("uri", &uri)?;
        map.serialize_entry("url", &format!("{}://{}:{}{uri}", self.scheme, self.host, self.port))?;
        map.serialize_entry("querystring", &Arguments(&self.query))?;
        map.serialize_entry("size", &self.size)?;
        map.serialize_entry(
            "headers",
            &Headers { headers: &self.headers, redacted: &[AUTHORIZATION, PROXY_AUTHORIZATION] },
        )?;
        if let Some(tls) = &self.tls {
            map.serialize_entry("tls", tls)?;
        }
        map.end()
    }
}

impl Serialize for LoggedResponse {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("status", &self.status)?;
        map.serialize_entry("size", &self.size)?;
        map.serialize_entry("headers", &Headers { headers: &self.headers, redacted: &[] })?;
        map.end()
    }
}

impl Serialize for LoggedSession {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(tls) = &self.tls {
            map.serialize_entry("tls", tls)?;
        }
        map.serialize_entry("received", &self.received)?;
        map.serialize_entry("sent", &self.sent)?;
        map.serialize_entry("status", &self.status)?;
        if let Some(port) = self.server_port {
            map.serialize_entry("server_port", &port)?;
        }
        map.end()
    }
}

impl Serialize for LoggedTls {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("version", self.version)?;
        map.serialize_entry("cipher", self.cipher)?;
        map.serialize_entry("client_verify", &self.client_verify)?;
        map.end()
    }
}

impl Serialize for LoggedTry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const NS_PER_MS: u64 = 1_000_000;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("ip", &self.ip)?;
        map.serialize_entry("port", &self.port)?;
        map.serialize_entry("balancer_start", &(self.balancer_start_ns / NS_PER_MS))?;
        map.serialize_entry("balancer_start_ns", &self.balancer_start_ns)?;
        map.serialize_entry("balancer_latency", &(self.balancer_latency_ns / NS_PER_MS))?;
        map.serialize_entry("balancer_latency_ns", &self.balancer_latency_ns)?;
        if let Some(failure) = &self.failure {
            let state = match failure.kind {
                TryFailureKind::Answer => "next",
                TryFailureKind::Connection => "failed",
            };
            map.serialize_entry("state", state)?;
            map.serialize_entry("code", &failure.code)?;
        }
        map.end()
    }
}

impl Serialize for LoggedCredential {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.id)?;
        if let Some(consumer) = &self.consumer_id {
            map.serialize_entry("consumer_id", consumer)?;
        }
        map.end()
    }
}

/// An entity as stored, without null members, and with its workspace.
struct Stored<'a>(&'a Entity);

impl Serialize for Stored<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut doc = self.0.doc();
        drop_nulls(&mut doc);
        let mut map = serializer.serialize_map(Some(doc.len() + 1))?;
        for (name, value) in &doc {
            map.serialize_entry(name, value)?;
        }
        map.serialize_entry("ws_id", &WORKSPACE)?;
        map.end()
    }
}

/// Entities are not deep, so this may recurse.
fn drop_nulls(doc: &mut Doc) {
    doc.retain(|_, value| !value.is_null());
    doc.values_mut().filter_map(Value::as_object_mut).for_each(drop_nulls);
}

/// Names in lower case; a list for a name with several values.
struct Headers<'a> {
    headers: &'a HeaderMap,
    redacted: &'a [HeaderName],
}

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let mut left = LINES_MAX;
        for name in self.headers.keys().filter(|name| self.redacted.contains(name)) {
            map.serialize_entry(name.as_str(), REDACTED)?;
            left -= 1;
        }
        for name in self.headers.keys().filter(|name| !self.redacted.contains(name)) {
            let values: Vec<_> =
                self.headers.get_all(name).iter().map(HeaderValue::as_bytes).take(left).map(text).collect();
            left -= values.len();
            match &values[..] {
                [] => break,
                [value] => map.serialize_entry(name.as_str(), value)?,
                several => map.serialize_entry(name.as_str(), several)?,
            }
        }
        map.end()
    }
}

/// Decoded arguments: `true` for one without a value, a list for a name with several.
struct Arguments<'a>(&'a [u8]);

impl Serialize for Arguments<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = Doc::new();
        for (name, value) in arguments(self.0).take(LINES_MAX) {
            let value = value.map_or(Value::Bool(true), |value| text(&value).into_owned().into());
            match members.entry(text(&name).into_owned()) {
                serde_json::map::Entry::Vacant(vacant) => {
                    vacant.insert(value);
                }
                serde_json::map::Entry::Occupied(mut occupied) => match occupied.get_mut() {
                    Value::Array(values) => values.push(value),
                    first => *first = Value::Array(vec![first.take(), value]),
                },
            }
        }
        members.serialize(serializer)
    }
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
