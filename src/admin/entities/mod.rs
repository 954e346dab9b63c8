//! The one CRUD for every kind: places and methods to reads of the catalog and writes through the ledger.
//!
//! No entity is named here; a kind exists because it is declared. Reads never touch the store. One request is one
//! transaction. The alternative, a handler per kind, is where the answers of two kinds begin to differ.

mod address;
mod decide;
pub(crate) mod list;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::admin::body::Input;
use crate::admin::entities::address::Address;
use crate::admin::entities::decide::{Above, Below, Outcome, Writer};
use crate::admin::entities::list::{Found, Wanted};
use crate::admin::place::Nesting;
use crate::admin::query::Query;
use crate::admin::reply::{self, Reply};
use crate::entity::catalog::{Draft, Filter};
use crate::entity::declare::{Plugins, Variants};
use crate::entity::problem::Rejection;
use crate::entity::write::{expired, notices, present};
use crate::entity::{Entity, Kind};
use crate::snapshot::Live;
use crate::store::ledger::{Ledger, WriteError};

/// Reads and writes of one request.
#[derive(Clone, Copy)]
pub(crate) struct Entities<'a> {
    pub ledger: &'a Ledger,
    pub live: &'a Live,
    pub plugins: &'a Plugins,
    /// Unix seconds at which the request came.
    pub now_s: i64,
}

/// What a request brought beside its path.
pub(crate) struct Asked<'a> {
    /// One of GET, POST, PUT, PATCH, DELETE: the place has it.
    pub method: Method,
    pub path: &'a str,
    pub query: Query,
    pub input: Input,
}

impl Entities<'_> {
    pub(crate) async fn collection(&self, kind: Kind, asked: Asked<'_>) -> Reply {
        if asked.method == Method::POST {
            let writer = self.writer(kind);
            let input = asked.input.of_kind(kind, self.plugins, None);
            return self.write(kind, move |draft| writer.insert(draft, input)).await;
        }
        match list::lookup(kind, &asked.query) {
            Some((field, "")) => reply::bad_request(&format!("{field} must be an unempty string")),
            Some((field, value)) => self.looked_up(kind, field, value),
            None => self.list(kind, &asked),
        }
    }

    pub(crate) async fn single(&self, kind: Kind, key: &str, asked: Asked<'_>) -> Reply {
        let address = match Address::parse(kind, key) {
            Ok(address) => address,
            Err(rejection) => return reply::rejected(&rejection),
        };
        if asked.method == Method::GET {
            let found = self.ledger.read(|catalog| address.find(kind, &Draft::new(catalog, self.now_s)));
            return self.found(found.as_deref());
        }
        let writer = self.writer(kind);
        match asked.method {
            Method::PUT => {
                let input = asked.input.of_kind(kind, self.plugins, None);
                self.write(kind, move |draft| writer.replace(draft, &address, input)).await
            }
            Method::PATCH => {
                if self.is_patch_of_unknown_type(kind, &address, &asked.input) {
                    return reply::not_found();
                }
                let plugin = self.plugin_name(kind, &address);
                let input = asked.input.of_kind(kind, self.plugins, plugin.as_deref());
                self.write(kind, move |draft| writer.update(draft, &address, input)).await
            }
            _ => self.write(kind, move |draft| writer.remove(draft, &address)).await,
        }
    }

    pub(crate) async fn children(&self, nesting: &Nesting<'_>, asked: Asked<'_>) -> Reply {
        let below = match Below::parse(nesting) {
            Ok(below) => below,
            Err(rejection) => return reply::rejected(&rejection),
        };
        let kind = nesting.child;
        if asked.method == Method::GET {
            return self.list_below(kind, &below, &asked);
        }
        let writer = self.writer(kind);
        let input = asked.input.of_kind(kind, self.plugins, None);
        self.write(kind, move |draft| writer.insert_below(draft, &below, input)).await
    }

    pub(crate) async fn child(&self, nesting: &Nesting<'_>, key: &str, asked: Asked<'_>) -> Reply {
        let kind = nesting.child;
        let (below, address) = match Below::parse(nesting).and_then(|below| Ok((below, Address::parse(kind, key)?))) {
            Ok(both) => both,
            Err(rejection) => return reply::rejected(&rejection),
        };
        let writer = self.writer(kind);
        match asked.method {
            Method::GET => {
                let find = |draft: &Draft<'_>| below.child(kind, &address, draft);
                let found = self.ledger.read(|catalog| find(&Draft::new(catalog, self.now_s)));
                self.found(found.as_deref())
            }
            Method::PUT => {
                let input = asked.input.of_kind(kind, self.plugins, None);
                self.write(kind, move |draft| writer.replace_below(draft, &below, &address, input)).await
            }
            Method::PATCH => {
                let plugin = self.plugin_name(kind, &address);
                let input = asked.input.of_kind(kind, self.plugins, plugin.as_deref());
                self.write(kind, move |draft| writer.update_below(draft, &below, &address, input)).await
            }
            _ => self.write(kind, move |draft| writer.remove_below(draft, &below, &address)).await,
        }
    }

    /// The parent of a child, by the child's foreign field.
    pub(crate) async fn parent(
        &self,
        child: Kind,
        key: &str,
        field: &'static str,
        kind: Kind,
        asked: Asked<'_>,
    ) -> Reply {
        let above = match Address::parse(child, key) {
            Ok(address) => Above { child, address, field },
            Err(rejection) => return reply::rejected(&rejection),
        };
        let writer = self.writer(kind);
        match asked.method {
            Method::PUT => {
                let input = asked.input.of_kind(kind, self.plugins, None);
                self.write(kind, move |draft| writer.replace_above(draft, &above, input)).await
            }
            Method::PATCH => {
                let input = asked.input.of_kind(kind, self.plugins, None);
                self.write(kind, move |draft| writer.update_above(draft, &above, input)).await
            }
            method => {
                let found = self.ledger.read(|catalog| {
                    let draft = Draft::new(catalog, self.now_s);
                    draft.get(kind, above.parent(&draft)?)
                });
                match found {
                    Some(_) if method == Method::DELETE => reply::method_not_allowed(),
                    found => self.found(found.as_deref()),
                }
            }
        }
    }

    fn writer(&self, kind: Kind) -> Writer<'_> {
        Writer { kind, plugins: self.plugins, now_s: self.now_s, writable: self.ledger.store().writable() }
    }

    /// Decides inside the store's transaction; without a writable store on the catalog, to tell what is wrong anyway.
    async fn write(
        &self,
        kind: Kind,
        decide: impl FnOnce(&mut Draft<'_>) -> Result<Outcome, Rejection> + Send,
    ) -> Reply {
        if !self.ledger.store().writable() {
            let outcome = self.ledger.read(|catalog| decide(&mut Draft::new(catalog, self.now_s)));
            return outcome.map_or_else(|rejection| reply::rejected(&rejection), |outcome| self.written(kind, outcome));
        }
        match self.ledger.write(self.now_s, decide).await {
            Ok((outcome, revision)) => {
                // Whoever asks this node after the answer finds the change in effect.
                self.live.reached(revision).await;
                reply::with_revision(self.written(kind, outcome), revision)
            }
            Err(WriteError::Rejected(rejection)) => reply::rejected(&rejection),
            Err(WriteError::Store(error)) => reply::store_failed(&error),
        }
    }

    fn written(&self, kind: Kind, outcome: Outcome) -> Reply {
        let shown = |status, entity: &Entity| {
            debug_assert_eq!(entity.kind(), kind);
            let told = if typed_by_plugin(kind) { notices(kind, &entity.doc(), self.plugins) } else { Vec::new() };
            reply::with_notices(reply::json(status, &self.show(entity)), &told)
        };
        match outcome {
            Outcome::Created(entity) => shown(StatusCode::CREATED, &entity),
            Outcome::Stored(entity) => shown(StatusCode::OK, &entity),
            Outcome::Deleted => reply::empty(StatusCode::NO_CONTENT),
            Outcome::Missing => reply::not_found(),
        }
    }

    fn found(&self, entity: Option<&Entity>) -> Reply {
        entity.map_or_else(reply::not_found, |entity| reply::ok(&self.show(entity)))
    }

    fn list(&self, kind: Kind, asked: &Asked<'_>) -> Reply {
        let wanted = match Wanted::parse(kind, &asked.query) {
            Ok(wanted) => wanted,
            Err(rejection) => return reply::rejected(&rejection),
        };
        let filter = Filter { parent: None, tags: wanted.tags.clone() };
        let found = self.ledger.read(|catalog| {
            let page = catalog.page(kind, &filter, wanted.after, wanted.size);
            Found { entities: page.entities, last: page.next }
        });
        reply::page(self.show_all(&found), wanted.next(asked.path, found.last))
    }

    /// Kong: a tag filter has to be well-formed here, and then does nothing.
    fn list_below(&self, kind: Kind, below: &Below, asked: &Asked<'_>) -> Reply {
        let wanted = match Wanted::parse(kind, &asked.query) {
            Ok(wanted) => wanted,
            Err(rejection) => return reply::rejected(&rejection),
        };
        let found = self.ledger.read(|catalog| {
            let parent = below.find(&Draft::new(catalog, self.now_s))?;
            let filter = Filter { parent: Some((below.field, parent)), tags: None };
            let page = catalog.page(kind, &filter, wanted.after, wanted.size);
            Some(Found { entities: page.entities, last: page.next })
        });
        match found {
            Some(found) => reply::page(self.show_all(&found), list::next_below(asked.path, found.last)),
            None => reply::not_found(),
        }
    }

    fn looked_up(&self, kind: Kind, field: &str, value: &str) -> Reply {
        let found = self.ledger.read(|catalog| Draft::new(catalog, self.now_s).by_key(kind, field, value));
        reply::page(found.iter().map(|entity| self.show(entity)).collect(), None)
    }

    /// What has expired since is left out, so a page of a kind with `ttl` may be short.
    fn show_all(&self, found: &Found) -> Vec<Value> {
        let lives =
            |entity: &&std::sync::Arc<Entity>| !entity.kind().ttl || !expired(entity.kind(), &entity.doc(), self.now_s);
        found.entities.iter().filter(lives).map(|entity| self.show(entity)).collect()
    }

    fn show(&self, entity: &Entity) -> Value {
        json!(present(entity.kind(), entity.doc(), self.plugins, self.now_s))
    }

    /// The name in the stored entity that types `config` of a form without one.
    fn plugin_name(&self, kind: Kind, address: &Address) -> Option<String> {
        if !typed_by_plugin(kind) {
            return None;
        }
        let stored = self.ledger.read(|catalog| address.find(kind, &Draft::new(catalog, self.now_s)))?;
        Some(stored.doc().get("name")?.as_str()?.to_owned())
    }

    /// Kong: looks up the stored plugin to learn its type first, and its miss is a bare 404.
    fn is_patch_of_unknown_type(&self, kind: Kind, address: &Address, input: &Input) -> bool {
        typed_by_plugin(kind) && !input.has("name") && self.plugin_name(kind, address).is_none()
    }
}

impl Below {
    fn parse(nesting: &Nesting<'_>) -> Result<Self, Rejection> {
        let address = Address::parse(nesting.parent, &nesting.key)?;
        Ok(Self { parent: nesting.parent, address, field: nesting.field })
    }
}

fn typed_by_plugin(kind: Kind) -> bool {
    matches!(kind.variants, Variants::ByPlugin)
}
