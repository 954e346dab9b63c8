//! `/config`: the whole configuration of a node without a database, taken and shown as declarative text.
//!
//! One load at a time; a second one is told to come back. What is refused leaves everything as it was.

use std::fmt::Write;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use tidegate_proto::Revision;

use crate::admin::body::{Input, Media};
use crate::admin::handles::Handles;
use crate::admin::query::{Query, is_on};
use crate::admin::reply::{self, Reply};
use crate::entity::declarative::{self, Loaded};
use crate::entity::declare::Plugins;
use crate::entity::write::present;
use crate::entity::{Doc, Entity};
use crate::pace;
use crate::store::StoreError;
use crate::store::ledger::Ledger;

const EMPTY_HASH: &str = "00000000000000000000000000000000";

/// Seconds after which a refused loader may try again.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("2");

/// Loads declarative configurations and knows the hash of the present one.
#[derive(Default)]
pub(crate) struct Loader {
    /// Held while a configuration is loaded.
    turn: tokio::sync::Mutex<()>,
    /// Hash of the configuration at a revision.
    known: Mutex<Option<(Revision, String)>>,
}

/// What a client sent as its configuration.
enum Submission {
    /// An object that was parsed with the body.
    Document(Doc),
    Text(Bytes),
}

struct Arguments {
    check_hash: bool,
    flatten_errors: bool,
}

impl Loader {
    /// 32 hexadecimal characters, zeros for an empty configuration. Kong: MD5 of the text; to clients it is opaque, and
    /// here it is the beginning of a SHA-256.
    pub(crate) fn hash(&self, ledger: &Ledger) -> String {
        let revision = ledger.read(|catalog| catalog.revision());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, hash)) = known.as_ref().filter(|(of, _)| *of == revision) {
            return hash.clone();
        }
        let (entities, revision) = ledger.entities();
        let hash = match entities.is_empty() {
            true => EMPTY_HASH.to_owned(),
            false => hash_of(entities.iter().map(|entity| entity.text())),
        };
        *known = Some((revision, hash.clone()));
        hash
    }

    pub(crate) fn is_empty(&self, ledger: &Ledger) -> bool {
        ledger.read(|catalog| catalog.everything().next().is_none())
    }

    /// `GET /config`
    pub(crate) fn export(&self, handles: &Handles, now_s: i64) -> Reply {
        let (entities, _) = handles.ledger.entities();
        match declarative::export(&entities, &handles.plugins, now_s) {
            Ok(text) => reply::ok(&json!({ "config": text })),
            Err(error) => reply::unexpected(&error),
        }
    }

    /// `POST /config`. Aside, since a large configuration takes its time at every step.
    pub(crate) async fn load(
        &self,
        handles: &Handles,
        media: Media,
        headers: &HeaderMap,
        query: &Query,
        body: Bytes,
        now_s: i64,
    ) -> Reply {
        let Ok(turn) = self.turn.try_lock() else { return busy() };
        let (submission, arguments) = match submission(media, headers, query, body).await {
            Ok(found) => found,
            Err(reply) => return reply,
        };
        let hash = match &submission {
            Submission::Document(doc) => hash_of_document(doc),
            Submission::Text(text) => hash_of([text]),
        };
        if arguments.check_hash && self.hash(&handles.ledger) == hash {
            return reply::empty(StatusCode::NOT_MODIFIED);
        }
        let checked = match submission {
            Submission::Document(doc) => declarative::check(doc, &handles.plugins, now_s),
            Submission::Text(text) => declarative::load(&text, &handles.plugins, now_s),
        };
        match checked {
            Ok(loaded) => {
                let replaced = self.replace(handles, &loaded, hash, now_s).await;
                pace::release(loaded.checked);
                let (reply, revision) = match replaced {
                    Ok(replaced) => replaced,
                    Err(error) => return reply::store_failed(&error),
                };
                // The next may come while this one is awaited.
                drop(turn);
                // Whoever asks this node after the answer finds the change in effect.
                handles.live.reached(revision).await;
                reply::with_revision(reply, revision)
            }
            Err(invalid) => reply::json(StatusCode::BAD_REQUEST, &invalid.body(arguments.flatten_errors)),
        }
    }

    async fn replace(
        &self,
        handles: &Handles,
        loaded: &Loaded,
        hash: String,
        now_s: i64,
    ) -> Result<(Reply, Revision), StoreError> {
        let entities = loaded.entities();
        let hash = if entities.is_empty() { EMPTY_HASH.to_owned() } else { hash };
        let shown = reply::created(by_id(&entities, &handles.plugins, now_s));
        let revision = handles.ledger.replace_all(entities).await?;
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((revision, hash));
        Ok((shown, revision))
    }
}

/// Kong's order: a body that is a configuration, an argument `config`, the body as text.
async fn submission(
    media: Media,
    headers: &HeaderMap,
    query: &Query,
    body: Bytes,
) -> Result<(Submission, Arguments), Reply> {
    let nothing = || reply::bad_request("expected a declarative configuration");
    let mut arguments =
        Arguments { check_hash: query.is_on("check_hash"), flatten_errors: query.is_on("flatten_errors") };
    if media == Media::Yaml || body.is_empty() {
        return if body.is_empty() { Err(nothing()) } else { Ok((Submission::Text(body), arguments)) };
    }
    let input = Input::read(media, headers, body.clone()).await.map_err(|bad| bad.reply())?;
    let mut doc = input.plain();
    arguments.check_hash |= take_flag(&mut doc, "check_hash");
    arguments.flatten_errors |= take_flag(&mut doc, "flatten_errors");
    let submission = match doc.remove("config") {
        _ if doc.contains_key("_format_version") => Submission::Document(doc),
        Some(Value::String(text)) => Submission::Text(Bytes::from(text)),
        _ if media == Media::Json => Submission::Text(body),
        _ => return Err(nothing()),
    };
    Ok((submission, arguments))
}

fn take_flag(doc: &mut Doc, name: &str) -> bool {
    match doc.remove(name) {
        Some(Value::Bool(flag)) => flag,
        Some(Value::String(text)) => is_on(&text),
        Some(Value::Number(number)) => number.as_i64() == Some(1),
        _ => false,
    }
}

/// `{"KIND":{"ID":{…},…},…}`, written one document after the other: all of them as one tree are a hundred times the
/// configuration. Entities of a kind come together, as the loader orders them.
fn by_id(entities: &[Arc<Entity>], plugins: &Plugins, now_s: i64) -> String {
    let mut shown = String::from("{");
    for of_kind in entities.chunk_by(|a, b| a.kind() == b.kind()) {
        let mut separator = if shown.len() > 1 { ",\"" } else { "\"" };
        for (at, entity) in of_kind.iter().enumerate() {
            pace::step();
            let doc = present(entity.kind(), entity.doc(), plugins, now_s);
            if at == 0 {
                let _ = write!(shown, "{separator}{}\":{{", entity.kind());
                separator = "\"";
            }
            let _ = write!(shown, "{separator}{}\":{}", entity.id(), Value::Object(doc));
            separator = ",\"";
        }
        shown.push('}');
    }
    shown.push('}');
    shown
}

fn busy() -> Reply {
    let mut reply: Response<Bytes> =
        reply::message(StatusCode::TOO_MANY_REQUESTS, "Currently loading previous configuration");
    reply.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_S);
    reply
}

fn hash_of(parts: impl IntoIterator<Item: AsRef<[u8]>>) -> String {
    hashed(|out| parts.into_iter().try_for_each(|part| out.write_all(part.as_ref())))
}

/// Of its JSON text, which is never there as a whole.
fn hash_of_document(doc: &Doc) -> String {
    hashed(|out| serde_json::to_writer(out, doc).map_err(io::Error::from))
}

/// Of what is written, giving way.
fn hashed(write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> String {
    struct Hashing(Context);
    impl io::Write for Hashing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut hashing = Hashing(Context::new(&SHA256));
    let mut out = pace::writer(&mut hashing);
    // Neither a map of values nor a hash refuses anything.
    let _ = write(&mut out);
    let _ = io::Write::flush(&mut out);
    drop(out);
    hash_in(hashing.0)
}

fn hash_in(context: Context) -> String {
    let mut hash = String::with_capacity(32);
    for byte in context.finish().as_ref().iter().take(16) {
        let _ = write!(hash, "{byte:02x}");
    }
    hash
}
