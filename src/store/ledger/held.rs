//! What the ledger holds in memory, and how it moves: the catalog, how far the store has confirmed it, and the
//! announcements of both. Every step is one short write lock; whole configurations are indexed before.
//!
//! Where one database decides, peers hand on its transactions before this node asks it. What came that way is noted until
//! the database's own log has shown it (`Order`): a database that does not know it is another one, a copy restored
//! from a backup or a standby that was promoted too early, however large its numbers have grown since.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tidegate_proto::frame::Span;
use tidegate_proto::{Revision, Vector};
use tokio::sync::{broadcast, watch};
use uuid::Uuid;

use crate::entity::catalog::Catalog;
use crate::entity::{Change, Kind};
use crate::pace;
use crate::store::ledger::merge::{Merge, Step};
use crate::store::ledger::spans::{self, Taken};
use crate::store::{Contents, Missed, StoreError};

/// Spans that may wait for whoever receives them; a receiver that is slower loses the oldest, and learns that.
const SPANS_MAX: usize = 1_024;

/// Entities that peers spoke of before the database did. Beyond that everything is taken from the database.
const UNCONFIRMED_MAX: usize = 10_000;

/// The catalog and the announcements of its revision and of what leads there.
pub struct Held {
    world: RwLock<World>,
    published: watch::Sender<Revision>,
    spans: broadcast::Sender<Arc<Span>>,
    epochs: AtomicU64,
}

pub struct World {
    pub catalog: Catalog,
    pub regime: Regime,
}

/// Who decides which change stands.
pub enum Regime {
    /// One store, by the order of its transactions.
    Order(Order),
    /// Every node, by stamps.
    Merge(Box<Merge>),
}

/// How far the store itself has confirmed what stands.
pub struct Order {
    /// What the store said last; nothing: everything is to be taken from it.
    pub anchor: Revision,
    /// (number, kind, id) of what came from peers after the anchor.
    unconfirmed: Vec<(u64, Kind, Uuid)>,
}

/// Where the catalog stood when the store was asked, and what it was asked about.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub anchor: Revision,
    standing: Revision,
}

/// What became of an answer of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    Nothing,
    Something,
    /// The store does not know what stands here.
    Forked,
}

/// What a reader lacked, ready to be taken in under the lock.
pub enum News {
    Changes(Vec<Change>, Revision),
    Everything(Box<World>),
}

impl Held {
    pub fn new(contents: Contents) -> Self {
        let world = World::of(contents);
        Self {
            published: watch::Sender::new(world.catalog.revision()),
            world: RwLock::new(world),
            spans: broadcast::Sender::new(SPANS_MAX),
            epochs: AtomicU64::new(0),
        }
    }

    pub fn read<T>(&self, look: impl FnOnce(&World) -> T) -> T {
        look(&self.world.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn revisions(&self) -> watch::Receiver<Revision> {
        self.published.subscribe()
    }

    pub fn spans(&self) -> broadcast::Receiver<Arc<Span>> {
        self.spans.subscribe()
    }

    pub fn epochs_adopted(&self) -> u64 {
        self.epochs.load(Ordering::Relaxed)
    }

    /// What to ask the store about.
    pub fn asked(&self) -> Asked {
        self.read(|world| {
            let standing = world.catalog.revision();
            match &world.regime {
                Regime::Order(order) => Asked { anchor: order.anchor, standing },
                Regime::Merge(_) => Asked { anchor: standing, standing },
            }
        })
    }

    /// Takes in what the store answered, unless the catalog moved past it meanwhile.
    pub fn hear(&self, asked: Asked, news: News) -> Heard {
        let revision = news.revision();
        let span = self.span_of(asked, &news);
        let (heard, old) = self.write(|world| {
            if revision < asked.standing || world.is_denied_by(&news) {
                return (Heard::Forked, None);
            }
            let moved = world.catalog.revision() < revision;
            let old = moved.then(|| world.take_in(news)).flatten();
            world.confirm(asked.anchor, revision);
            (if moved { Heard::Something } else { Heard::Nothing }, old)
        });
        // The old world is taken apart after readers are let in to the new one.
        if let Some(old) = old {
            old.release();
        }
        if heard == Heard::Something {
            self.announce(asked.standing, span);
        }
        heard
    }

    /// Takes in what somebody other than the store has, when it is newer.
    pub fn adopt(&self, news: News) -> bool {
        let (before, revision) = (self.asked().standing, news.revision());
        let (moved, old) = self.write(|world| {
            let moved = world.catalog.revision() < revision;
            let old = moved.then(|| world.take_in(news)).flatten();
            if moved {
                world.doubt();
            }
            (moved, old)
        });
        if let Some(old) = old {
            old.release();
        }
        if moved {
            self.announce(before, None);
        }
        moved
    }

    /// Takes in what this node committed to the one database, at the revision it got there.
    pub fn committed(&self, changes: Vec<Change>, revision: Revision) {
        let span = self.is_followed().then(|| spans::of_database(&changes, revision.number - 1, revision));
        let (before, moved) = self.write(|world| {
            let before = world.catalog.revision();
            // A peer may have been told of it already by somebody faster.
            let moved = before < revision;
            if moved {
                world.catalog.apply(&changes, revision);
            }
            world.confirm(Revision::new(revision.epoch, revision.number - 1), revision);
            (before, moved)
        });
        if moved {
            self.announce(before, span);
        }
    }

    /// Takes in what won and is durable; `indexed` is a catalog that has it already, where there is one.
    pub fn merged(&self, step: Step, indexed: Option<Catalog>) {
        let old = self.write(|world| {
            let Regime::Merge(merge) = &mut world.regime else { return None };
            merge.take(&step);
            match indexed {
                Some(catalog) => Some(std::mem::replace(&mut world.catalog, catalog)),
                None => {
                    step.merging.apply_to(&mut world.catalog);
                    None
                }
            }
        });
        if let Some(old) = old {
            old.release();
        }
        self.announce(Revision::default(), step.span);
    }

    /// Takes in transactions of the one database that peers hand on, those that fit.
    pub fn follow(&self, taken: Vec<Taken>) {
        let (before, moved) = self.write(|world| {
            let before = world.catalog.revision();
            taken.into_iter().for_each(|span| world.follow(span));
            (before, world.catalog.revision() != before)
        });
        if moved {
            self.announce(before, None);
        }
    }

    fn write<T>(&self, step: impl FnOnce(&mut World) -> T) -> T {
        step(&mut self.world.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_followed(&self) -> bool {
        self.spans.receiver_count() > 0
    }

    /// What peers are told of an answer of the store.
    fn span_of(&self, asked: Asked, news: &News) -> Option<Span> {
        match news {
            News::Changes(changes, revision) if self.is_followed() => {
                Some(spans::of_database(changes, asked.anchor.number, *revision))
            }
            News::Changes(..) => None,
            News::Everything(world) => world.is_ordered().then(|| spans::place(world.catalog.revision())),
        }
    }

    /// Announces what stands now, which is what a receiver wants even when two announcements cross.
    fn announce(&self, before: Revision, span: Option<Span>) {
        let standing = self.read(|world| world.catalog.revision());
        if before != Revision::default() && before.epoch != standing.epoch {
            self.epochs.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%before, %standing, "the history of the configuration was replaced by another; adopted it");
        }
        self.published.send_if_modified(|published| {
            let standing = self.read(|world| world.catalog.revision());
            std::mem::replace(published, standing) != standing
        });
        if let Some(span) = span {
            // Nobody may be listening.
            let _ = self.spans.send(Arc::new(span));
        }
    }
}

impl World {
    pub fn of(contents: Contents) -> Self {
        let Contents { revision, entities, merged, anchor } = contents;
        let Some(merged) = merged else {
            let anchor = anchor.map_or(revision, |anchor| anchor.revision);
            let order = Order { anchor, unconfirmed: Vec::new() };
            return Self { catalog: Catalog::of(entities, revision), regime: Regime::Order(order) };
        };
        let (merge, changes) = Merge::of(merged);
        let catalog = Catalog::of_stamped(changes, merge.vector.revision());
        Self { catalog, regime: Regime::Merge(Box::new(merge)) }
    }

    fn release(self) {
        self.catalog.release();
    }

    pub fn vector(&self) -> Vector {
        match &self.regime {
            Regime::Order(_) => Vector::of_database(self.catalog.revision()),
            Regime::Merge(merge) => merge.vector.clone(),
        }
    }

    pub fn is_ordered(&self) -> bool {
        matches!(self.regime, Regime::Order(_))
    }

    /// Whether the store lacks something that peers said it had.
    fn is_denied_by(&self, news: &News) -> bool {
        let (Regime::Order(order), News::Changes(changes, revision)) = (&self.regime, news) else { return false };
        let mut expected = order.unconfirmed.iter().filter(|(number, ..)| *number <= revision.number).peekable();
        if expected.peek().is_none() || order.anchor.epoch != revision.epoch {
            return false;
        }
        let known: HashSet<_> = changes.iter().map(|change| (change.kind, change.id)).collect();
        expected.any(|(_, kind, id)| !known.contains(&(*kind, *id)))
    }

    /// Answers what was in the place of everything. Changes that partly stand already do no harm: each is a whole state.
    fn take_in(&mut self, news: News) -> Option<World> {
        match news {
            News::Changes(changes, revision) => {
                self.catalog.apply(&changes, revision);
                None
            }
            News::Everything(world) => Some(std::mem::replace(self, *world)),
        }
    }

    /// The store has shown everything from `after` up to `revision`. Late answers take nothing back.
    fn confirm(&mut self, after: Revision, revision: Revision) {
        let Regime::Order(order) = &mut self.regime else { return };
        if after <= order.anchor && order.anchor < revision {
            order.anchor = revision;
            order.unconfirmed.retain(|(number, ..)| *number > revision.number);
        }
    }

    /// What stands came whole from a peer: the store's own everything is to be taken when it answers.
    fn doubt(&mut self) {
        let Regime::Order(order) = &mut self.regime else { return };
        order.anchor = Revision::default();
        order.unconfirmed.clear();
    }

    fn follow(&mut self, span: Taken) {
        let standing = self.catalog.revision();
        let fits = span.epoch == standing.epoch && span.after <= standing.number && standing.number < span.upto;
        let Regime::Order(order) = &mut self.regime else { return };
        if !fits || !span.origin.is_empty() {
            return;
        }
        let changes: Vec<_> = span.changes.into_iter().map(|stamped| stamped.change).collect();
        // Of a span that begins before the anchor nobody can tell what the database has confirmed already.
        if order.anchor != Revision::default() && order.anchor.number <= span.after {
            order.unconfirmed.extend(changes.iter().map(|change| (span.upto, change.kind, change.id)));
        }
        self.catalog.apply(&changes, Revision::new(span.epoch, span.upto));
        if order.unconfirmed.len() > UNCONFIRMED_MAX {
            self.doubt();
        }
    }
}

impl News {
    pub fn of(missed: Missed) -> Self {
        match missed {
            Missed::Changes { changes, revision } => Self::Changes(changes, revision),
            Missed::Everything(contents) => Self::Everything(Box::new(World::of(contents))),
        }
    }

    /// As `of`, with a whole configuration indexed off the runtime: that takes a moment.
    pub async fn indexed(missed: Missed) -> Result<Self, StoreError> {
        match missed {
            Missed::Changes { .. } => Ok(Self::of(missed)),
            Missed::Everything(_) => {
                let indexing = pace::aside(|| Self::of(missed)).await;
                indexing.map_err(|error| StoreError::Broken(format!("the configuration cannot be indexed: {error}")))
            }
        }
    }

    fn revision(&self) -> Revision {
        match self {
            Self::Changes(_, revision) => *revision,
            Self::Everything(world) => world.catalog.revision(),
        }
    }
}
