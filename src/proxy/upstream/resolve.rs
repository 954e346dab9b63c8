//! From a name to addresses, by the system's configuration.
//!
//! A warm name costs one look into the worker's own cache. A name near the end of its time is renewed in the
//! background, so a busy one is never waited for; one name has at most one query under way per worker. What a worker
//! learns, the others see through `SharedNames`: a name that one of them has resolved survives an outage of the name
//! service for all. Kong's SRV records are not looked up: targets of upstream entities will need them, plain hosts do not.
//! The alternative, hickory's own cache, keeps nothing past its time.

mod cache;
mod system;

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::LocalBoxFuture;
use tokio::sync::watch;

use crate::proxy::upstream::options::UpstreamOptions;
use crate::proxy::upstream::resolve::cache::{Cache, Entry, Look, Rules};

/// How long a request waits for the renewal of an answer that is past its time but may still be used.
const PATIENCE: Duration = Duration::from_secs(1);

/// The longest that one question takes, whatever the number of servers, families and search domains.
const QUERY_LIMIT: Duration = Duration::from_secs(10);

/// Why a name gave no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unresolved {
    /// It does not exist, or has no address.
    NotFound,
    /// The name service failed.
    Failed(Arc<str>),
}

/// The outcome of one question.
pub(super) type Outcome = Result<Answer, Unresolved>;

/// What the name service said.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// Never empty.
    pub(super) addresses: Arc<[IpAddr]>,
    pub(super) ttl: Duration,
}

/// Whoever answers: the name service, or a test.
pub(super) trait Source {
    fn lookup<'a>(&'a self, name: &'a str) -> LocalBoxFuture<'a, Outcome>;
}

/// What the workers of a node have resolved. Locked for single look-ups, never across an await, and only where a
/// worker would otherwise have to ask.
#[derive(Clone, Default)]
pub struct SharedNames(Arc<Mutex<Cache>>);

/// The names of one worker.
pub(super) struct Names {
    source: Rc<dyn Source>,
    rules: Rules,
    own: RefCell<Cache>,
    shared: SharedNames,
    /// Queries under way. Bounded by the names in the configuration.
    flights: RefCell<hashbrown::HashMap<Box<str>, watch::Receiver<Option<Outcome>>, foldhash::fast::RandomState>>,
}

impl Names {
    /// Reads the resolver's configuration.
    pub(super) fn new(options: &UpstreamOptions, shared: SharedNames) -> Rc<Self> {
        Self::asking(system::source(&options.dns_resolver), Rules::of(options), shared)
    }

    fn asking(source: Rc<dyn Source>, rules: Rules, shared: SharedNames) -> Rc<Self> {
        Rc::new(Self { source, rules, own: RefCell::default(), shared, flights: RefCell::default() })
    }

    /// The addresses of `name`, which is no IP literal. Never empty.
    pub(super) async fn addresses(self: &Rc<Self>, name: &str) -> Result<Arc<[IpAddr]>, Unresolved> {
        let look = self.own.borrow().look(name, Instant::now());
        match look {
            Look::Use(addresses) => Ok(addresses),
            Look::Renew(addresses) => {
                let asked = self.flights.borrow().contains_key(name);
                if !asked && self.borrow_from_others(name).is_none() {
                    self.ask(name);
                }
                Ok(addresses)
            }
            Look::Fail(why) => Err(why),
            Look::Ask { fallback } => self.wait(name, fallback).await,
        }
    }

    async fn wait(self: &Rc<Self>, name: &str, fallback: Option<Arc<[IpAddr]>>) -> Result<Arc<[IpAddr]>, Unresolved> {
        if let Some(addresses) = self.borrow_from_others(name) {
            return Ok(addresses);
        }
        let mut flight = self.ask(name);
        let landed = flight.wait_for(Option::is_some);
        let outcome = match &fallback {
            None => landed.await.ok().and_then(|outcome| outcome.clone()),
            Some(_) => match tokio::time::timeout(PATIENCE, landed).await {
                Ok(landed) => landed.ok().and_then(|outcome| outcome.clone()),
                Err(_) => None,
            },
        };
        match (outcome, fallback) {
            (Some(Ok(answer)), _) => Ok(answer.addresses),
            (Some(Err(Unresolved::NotFound)), _) => Err(Unresolved::NotFound),
            (_, Some(old)) => Ok(old),
            (Some(Err(why)), None) => self.last_good(name).ok_or(why),
            (None, None) => Err(Unresolved::Failed("the query was given up".into())),
        }
    }

    /// A newer answer that another worker got.
    fn borrow_from_others(&self, name: &str) -> Option<Arc<[IpAddr]>> {
        let now = Instant::now();
        let entry = self.shared.lock().entry(name)?;
        match entry.look(now) {
            Look::Use(addresses) => {
                self.own.borrow_mut().put(name, entry, now);
                Some(addresses)
            }
            Look::Renew(_) | Look::Fail(_) | Look::Ask { .. } => None,
        }
    }

    /// What any worker knew before the name service failed: `fill` has copied it into the own cache.
    fn last_good(&self, name: &str) -> Option<Arc<[IpAddr]>> {
        match self.own.borrow().look(name, Instant::now()) {
            Look::Use(addresses) | Look::Renew(addresses) => Some(addresses),
            Look::Fail(_) | Look::Ask { .. } => None,
        }
    }

    /// Starts a query, or joins the one under way. It runs to its end even when nobody waits any longer.
    fn ask(self: &Rc<Self>, name: &str) -> watch::Receiver<Option<Outcome>> {
        if let Some(flight) = self.flights.borrow().get(name) {
            return flight.clone();
        }
        let (landing, flight) = watch::channel(None);
        self.flights.borrow_mut().insert(name.into(), flight.clone());
        let (names, name) = (self.clone(), Box::<str>::from(name));
        tokio::task::spawn_local(async move {
            let outcome = match tokio::time::timeout(QUERY_LIMIT, names.source.lookup(&name)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Unresolved::Failed("timeout".into())),
            };
            names.fill(&name, &outcome);
            names.flights.borrow_mut().remove(&name);
            let _ = landing.send(Some(outcome));
        });
        flight
    }

    #[cfg(test)]
    pub(super) fn learn(&self, name: &str, outcome: &Outcome) {
        self.fill(name, outcome);
    }

    fn fill(&self, name: &str, outcome: &Outcome) {
        let now = Instant::now();
        let entry: Entry = self.shared.lock().fill(name, outcome, &self.rules, now);
        self.own.borrow_mut().put(name, entry, now);
    }
}

impl SharedNames {
    #[cfg(test)]
    pub(super) fn learn(&self, name: &str, outcome: &Outcome) {
        let rules = Rules { valid: None, stale: Duration::ZERO };
        self.lock().fill(name, outcome, &rules, Instant::now());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Cache> {
        // Every change is one assignment, so a panic elsewhere cannot have left it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::Cell;

    use futures_util::FutureExt;
    use tokio::task::LocalSet;

    use super::*;

    /// Answers from a script, and counts.
    struct Script {
        asked: Cell<usize>,
        answers: RefCell<Vec<Outcome>>,
    }

    impl Source for Script {
        fn lookup<'a>(&'a self, _: &'a str) -> LocalBoxFuture<'a, Outcome> {
            async {
                tokio::task::yield_now().await;
                self.asked.set(self.asked.get() + 1);
                self.answers.borrow_mut().remove(0)
            }
            .boxed_local()
        }
    }

    fn good(last: u8, ttl_s: u64) -> Outcome {
        Ok(Answer { addresses: [IpAddr::from([10, 0, 0, last])].into(), ttl: Duration::from_secs(ttl_s) })
    }

    fn broken() -> Outcome {
        Err(Unresolved::Failed("refused".into()))
    }

    fn worker(shared: &SharedNames, answers: impl IntoIterator<Item = Outcome>) -> (Rc<Names>, Rc<Script>) {
        let script = Rc::new(Script { asked: Cell::new(0), answers: RefCell::new(answers.into_iter().collect()) });
        let rules = Rules { valid: None, stale: Duration::from_secs(3600) };
        (Names::asking(script.clone(), rules, shared.clone()), script)
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, test);
    }

    #[test]
    fn a_name_asked_by_many_at_once_is_queried_once() {
        run(async {
            let (names, script) = worker(&SharedNames::default(), [good(1, 60)]);
            let all = futures_util::future::join_all((0..10).map(|_| names.addresses("a.test"))).await;
            assert!(all.iter().all(|addresses| addresses.as_ref().unwrap()[0] == IpAddr::from([10, 0, 0, 1])));
            assert_eq!(script.asked.get(), 1);
            assert!(names.flights.borrow().is_empty());
        });
    }

    #[test]
    fn a_query_survives_the_request_that_began_it() {
        run(async {
            let (names, script) = worker(&SharedNames::default(), [good(1, 60)]);
            assert!(names.addresses("a.test").now_or_never().is_none());
            names.addresses("a.test").await.unwrap();
            assert_eq!(script.asked.get(), 1);
        });
    }

    #[test]
    fn what_one_worker_resolved_another_uses_also_when_the_name_service_fails() {
        run(async {
            let shared = SharedNames::default();
            let (first, _) = worker(&shared, [good(1, 60)]);
            first.addresses("a.test").await.unwrap();
            let (second, script) = worker(&shared, []);
            assert_eq!(second.addresses("a.test").await.unwrap()[0], IpAddr::from([10, 0, 0, 1]));
            assert_eq!(script.asked.get(), 0);

            // No time to live: every look asks, and the failing worker never had an answer of its own.
            let (third, _) = worker(&shared, [good(2, 0)]);
            third.addresses("b.test").await.unwrap();
            let (fourth, _) = worker(&shared, [broken()]);
            assert_eq!(fourth.addresses("b.test").await.unwrap()[0], IpAddr::from([10, 0, 0, 2]));
        });
    }

    #[test]
    fn failures_are_remembered_and_told_apart() {
        run(async {
            let (names, script) = worker(&SharedNames::default(), [broken(), Err(Unresolved::NotFound)]);
            for _ in 0..3 {
                assert_eq!(names.addresses("a.test").await, Err(Unresolved::Failed("refused".into())));
                assert_eq!(names.addresses("b.test").await, Err(Unresolved::NotFound));
            }
            assert_eq!(script.asked.get(), 2);
        });
    }
}
