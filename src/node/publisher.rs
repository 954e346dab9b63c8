//! Turns each new revision of the catalog into the snapshot that requests see.
//!
//! One task publishes. Revisions that arrive while a snapshot is being built are built together next; building happens
//! on a blocking thread, so it never holds up a request or the Admin API. A build that fails leaves the old snapshot.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tidegate_proto::Revision;
use tokio::sync::watch;

use crate::pace;
use crate::plugin::tools::Tools;
use crate::snapshot::{Builder, Live, Problem, Snapshot};
use crate::store::ledger::Ledger;

/// Problems that are logged of one build; the rest is counted.
const LOGGED_MAX: usize = 20;

/// The one that publishes.
pub struct Publisher {
    ledger: Arc<Ledger>,
    live: Arc<Live>,
    builder: Builder,
    /// For the plugins that the builder makes.
    #[expect(dead_code, reason = "the snapshot builder does not pass tools to plugins yet")]
    tools: Tools,
    /// What was logged already, so that a broken entity is named once and not at every change of another.
    known: HashSet<String>,
    published: watch::Sender<Option<Revision>>,
}

/// What a build came to.
struct Built {
    builder: Builder,
    snapshot: Snapshot,
    problems: Vec<Problem>,
    /// Computing, not waiting for a core: how busy the machine is does not make a configuration a large one.
    took: Duration,
}

impl Built {
    fn of(ledger: &Ledger, mut builder: Builder) -> Self {
        let before = pace::computed();
        let (entities, revision) = ledger.in_force();
        let (snapshot, problems) = builder.build(entities, revision);
        Self { builder, snapshot, problems, took: pace::computed().saturating_sub(before) }
    }
}

impl Publisher {
    pub fn new(ledger: Arc<Ledger>, live: Arc<Live>, tools: Tools) -> Self {
        let (builder, known, published) = (Builder::default(), HashSet::new(), watch::Sender::new(None));
        Self { ledger, live, builder, tools, known, published }
    }

    /// Announces the revision that is live; `None` before the first.
    pub fn published(&self) -> watch::Receiver<Option<Revision>> {
        self.published.subscribe()
    }

    /// Publishes what the catalog holds now. Blocking, and meant for the thread that has loaded the configuration: what
    /// reading it has left free there takes the snapshot. On a thread of its own, the node of 10,000 routes is larger by
    /// a fifth, as the allocator keeps the free memory of each thread apart.
    pub fn begin(&mut self) {
        let (ledger, builder) = (self.ledger.clone(), std::mem::take(&mut self.builder));
        match catch_unwind(AssertUnwindSafe(|| Built::of(&ledger, builder))) {
            Ok(built) => self.go_live(built),
            Err(_) => tracing::error!("the configuration could not be built"),
        }
    }

    /// Publishes what the catalog holds now, unless it is live, and then each revision, until the ledger is gone.
    pub async fn run(mut self) {
        let mut revisions = self.ledger.revisions();
        loop {
            let revision = *revisions.borrow_and_update();
            if *self.published.borrow() != Some(revision) {
                self.publish().await;
            }
            if revisions.changed().await.is_err() {
                return;
            }
        }
    }

    async fn publish(&mut self) {
        let (ledger, builder) = (self.ledger.clone(), std::mem::take(&mut self.builder));
        match pace::aside(move || Built::of(&ledger, builder)).await {
            Ok(built) => self.go_live(built),
            Err(error) => tracing::error!(%error, "the configuration could not be built; the one before stays"),
        }
    }

    fn go_live(&mut self, built: Built) {
        let Built { builder, snapshot, problems, took } = built;
        self.builder = builder;
        let revision = snapshot.revision;
        self.live.publish(Arc::new(snapshot), took);
        self.published.send_replace(Some(revision));
        tracing::debug!(%revision, problems = problems.len(), took_ms = took.as_millis(), "published");
        self.log(&problems);
    }

    fn log(&mut self, problems: &[Problem]) {
        let sentence = |problem: &Problem| format!("{} {}: {}", problem.kind, problem.id, problem.why);
        let sentences: HashSet<String> = problems.iter().map(sentence).collect();
        let fresh: Vec<_> = sentences.difference(&self.known).collect();
        for sentence in fresh.iter().take(LOGGED_MAX) {
            tracing::error!("cannot be served: {sentence}");
        }
        if fresh.len() > LOGGED_MAX {
            tracing::error!("and {} more problems of this configuration", fresh.len() - LOGGED_MAX);
        }
        self.known = sentences;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::{Entity, Kind};
    use crate::store::declarative::Declarative;
    use crate::store::{Contents, Missed};

    fn contents(number: u64) -> Contents {
        let text = r#"{"id":"00000000-0000-0000-0000-000000000001","username":"ann"}"#;
        let entities = vec![Arc::new(Entity::from_text(Kind::CONSUMERS, text).unwrap())];
        Contents { revision: Revision::new(1, number), entities, ..Contents::default() }
    }

    #[tokio::test]
    async fn each_revision_goes_live_and_the_newest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Arc::new(Ledger::new(Arc::new(Declarative::open(folder.path(), None).0), contents(1)));
        let live = Arc::new(Live::default());
        let publisher = Publisher::new(ledger.clone(), live.clone(), Tools::none());
        let mut published = publisher.published();
        tokio::spawn(publisher.run());
        published.wait_for(|revision| *revision == Some(Revision::new(1, 1))).await.unwrap();
        for number in 2..20 {
            ledger.take(Missed::Everything(contents(number)));
        }
        published.wait_for(|revision| *revision == Some(Revision::new(1, 19))).await.unwrap();
        assert_eq!(live.load().unwrap().revision, Revision::new(1, 19));
    }
}
