//! Opens the store that the settings name, with what a node starts from.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::entity::Entity;
use crate::entity::declarative;
use crate::entity::declare::Plugins;
use crate::entity::parcel::Parcel;
use crate::node::identity;
use crate::node::settings::Settings;
use crate::node::settings::durable::{Database, Declarative as Words, Postgres as Address};
use crate::store::declarative::Declarative;
use crate::store::embedded::Embedded;
use crate::store::ledger::Ledger;
use crate::store::local::Local;
use crate::store::postgres;
use crate::store::postgres::Postgres;
use crate::store::{Contents, Store};

/// A store and what this node holds of it.
pub struct Opened {
    pub ledger: Arc<Ledger>,
    /// Whether the ledger holds a configuration that can be served.
    pub loaded: bool,
    /// Where to keep the configuration for a start without the store; `None` when the store is on this disk.
    pub local: Option<Local>,
    /// How often to ask for what others wrote; `None`: nobody else writes.
    pub poll: Option<Duration>,
    /// For the summary at start.
    pub place: String,
}

/// Opens, and loads what is on this machine. Does not wait for PostgreSQL.
pub async fn open(settings: &Settings, plugins: &Plugins) -> Result<Opened, String> {
    let prefix = &settings.node.prefix;
    match &settings.database {
        Database::Embedded => open_embedded(prefix, settings.node.id.clone()).await,
        Database::Postgres(address) => open_postgres(prefix, address),
        Database::Off(words) => open_declarative(prefix, words, plugins).await,
    }
}

/// What the store needs of `pg_*`. Reads the PEM bundles that are trusted beside the system's.
pub fn postgres_options(address: &Address) -> Result<postgres::Options, String> {
    let read = |path: &PathBuf| {
        std::fs::read(path)
            .map_err(|error| format!("lua_ssl_trusted_certificate: cannot read {}: {error}", path.display()))
    };
    Ok(postgres::Options {
        host: address.host.clone(),
        port: address.port,
        user: address.user.clone(),
        password: address.password.clone(),
        database: address.database.clone(),
        schema: address.schema.clone(),
        timeout: address.timeout,
        ssl: address.ssl,
        ssl_verify: address.ssl_verify,
        roots: address.trusted_certificates.iter().map(read).collect::<Result<_, _>>()?,
    })
}

async fn open_embedded(prefix: &Path, node_id: Option<String>) -> Result<Opened, String> {
    let node_id = node_id.map_or_else(|| identity::kept(prefix), Ok);
    let node_id = node_id.map_err(|error| format!("cannot keep a node_id under {}: {error}", prefix.display()))?;
    let store = Embedded::open(prefix, &node_id).map_err(|error| error.to_string())?;
    let contents = store.load().await.map_err(|error| error.to_string())?;
    let place = format!("embedded in {}", prefix.display());
    Ok(Opened { ledger: ledger(store, contents), loaded: true, local: None, poll: None, place })
}

fn open_postgres(prefix: &Path, address: &Address) -> Result<Opened, String> {
    let options = postgres_options(address)?;
    let place = options.origin();
    let store = Postgres::new(options).map_err(|error| error.to_string())?;
    let local = Local::new(prefix, "postgres", place.clone());
    let found = local.load();
    found.problems.iter().for_each(|problem| tracing::warn!("local snapshot passed over: {problem}"));
    let loaded = found.contents.is_some();
    let ledger = ledger(store, found.contents.unwrap_or_default());
    Ok(Opened { ledger, loaded, local: Some(local), poll: Some(address.poll), place })
}

async fn open_declarative(prefix: &Path, words: &Words, plugins: &Plugins) -> Result<Opened, String> {
    let given = given(words, plugins)?;
    let (store, problems) = Declarative::open(prefix, given);
    problems.iter().for_each(|problem| tracing::warn!("{problem}"));
    let contents = store.load().await.map_err(|error| error.to_string())?;
    let loaded = contents.revision != tidegate_proto::Revision::default();
    let place = "off".to_owned();
    Ok(Opened { ledger: ledger(store, contents), loaded, local: None, poll: None, place })
}

/// The entities of `declarative_config_string`, else of `declarative_config`. Kong's words when they cannot be read.
fn given(words: &Words, plugins: &Plugins) -> Result<Option<Vec<Arc<Entity>>>, String> {
    let (name, text) = match (&words.text, &words.file) {
        (Some(text), _) => ("declarative_config_string".to_owned(), text.clone().into_bytes()),
        (None, Some(path)) => {
            let name = path.display().to_string();
            let read = std::fs::read(path);
            (name.clone(), read.map_err(|error| format!("error parsing declarative config file {name}:\n{error}"))?)
        }
        (None, None) => return Ok(None),
    };
    let read = || declarative::load(&text, plugins, now_s()).map(|loaded| Parcel::of(&loaded.entities()));
    // On a thread of its own, which takes with it what only reading needs.
    let reading = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("read-config".to_owned()).spawn_scoped(scope, read);
        thread.map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    match reading {
        Ok(Ok(parcel)) => Ok(Some(parcel.open())),
        Ok(Err(invalid)) => Err(format!("error parsing declarative config file {name}:\n{}", invalid.report())),
        Err(error) => Err(format!("cannot start a thread to read {name}: {error}")),
    }
}

fn ledger(store: impl Store, contents: Contents) -> Arc<Ledger> {
    Arc::new(Ledger::new(Arc::new(store), contents))
}

/// Unix seconds.
pub fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
