//! The plugins of one route in the order they run, and the run of one exchange through them.
//!
//! A chain has one slot per plugin name, highest priority first, so a name runs at most once. What does not depend on the
//! consumer was decided when the chain was built (`roster`); a slot without consumer-scoped instances is one pointer. A
//! run remembers positions, not instances: it owns nothing, counts no references and can outlive a borrow of the snapshot.
//! Rejected: keeping `Arc`s in it. Each request would write to memory that all workers share.

use std::cmp::Reverse;
use std::sync::Arc;

use smallvec::SmallVec;
use uuid::Uuid;

use crate::http1::response::ResponseHead;
use crate::plugin::entry::Entry;
use crate::plugin::{BodyFilter, Exchange, Plugin, Resume, Session, Step, Wants};

/// The plugin names in use for one route, highest priority first, each with the instances it may run.
#[derive(Default)]
pub struct Chain {
    slots: Box<[Slot]>,
    wants: Wants,
}

/// A plugin instance that is ready to run.
pub struct Instance {
    pub id: Uuid,
    pub name: Box<str>,
    pub priority: i32,
    pub plugin: Box<dyn Plugin>,
}

/// What one plugin name may run, nearest scope first (`kong/proxy.md` §1.2).
#[derive(Clone, Default)]
pub(crate) struct Slot {
    /// Scoped to a consumer and to the route, the service or both.
    pub(crate) nearer: ByConsumer,
    /// Scoped to a consumer alone; shared by all chains.
    pub(crate) consumers: Option<Arc<ByConsumer>>,
    /// For everybody else.
    pub(crate) base: Option<Arc<Instance>>,
}

/// Instances by consumer, in ascending order of consumer: a position identifies one.
#[derive(Clone, Default)]
pub(crate) struct ByConsumer(pub(crate) Box<[(Uuid, Arc<Instance>)]>);

/// The instances that one exchange collected on its way through a chain.
#[derive(Clone, Debug, Default)]
pub struct Run {
    picks: SmallVec<[Pick; 8]>,
    /// The slot that is next in `access`.
    next: usize,
}

/// The filters of one response's body, in the order in which it passes them.
pub type BodyFilters = SmallVec<[Box<dyn BodyFilter>; 2]>;

/// A position in a chain.
#[derive(Clone, Copy, Debug)]
struct Pick {
    slot: usize,
    of: Of,
}

#[derive(Clone, Copy, Debug)]
enum Of {
    Base,
    Nearer(usize),
    Consumer(usize),
}

impl Run {
    /// Empties it, for another exchange.
    pub fn clear(&mut self) {
        self.picks.clear();
        self.next = 0;
    }
}

impl Chain {
    /// The order of names: priority, then name, both descending.
    pub(crate) fn order(instance: &Instance) -> (Reverse<i32>, Reverse<&str>) {
        (Reverse(instance.priority), Reverse(&instance.name))
    }

    /// From slots that are already in order.
    pub(crate) fn new(slots: Vec<Slot>) -> Self {
        let instances = slots.iter().flat_map(Slot::instances).map(|instance| instance.plugin.wants());
        let wants = instances.fold(Wants::default(), Wants::or);
        Self { slots: slots.into_boxed_slice(), wants }
    }

    /// No plugin can run.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// What any instance of this chain wants.
    pub fn wants(&self) -> Wants {
        self.wants
    }

    /// Runs `rewrite` of the unscoped instances from position `next` on. After a `Wait`, call it again when the wait's
    /// result is `Continue`.
    pub fn rewrite(&self, exchange: &mut Exchange<'_>, next: &mut usize) -> Step {
        while let Some(slot) = self.slots.get(*next) {
            *next += 1;
            match slot.base.as_ref().map_or(Step::Continue, |instance| instance.plugin.rewrite(exchange)) {
                Step::Continue => {}
                ended => return ended,
            }
        }
        Step::Continue
    }

    /// Runs `access` in order and collects in `run`. When an instance ends the exchange, the instances after it are
    /// collected without running. After a `Wait`, `resume` continues.
    pub fn access(&self, exchange: &mut Exchange<'_>, run: &mut Run) -> Step {
        while let Some(slot) = self.slots.get(run.next) {
            let position = run.next;
            run.next += 1;
            let Some((of, instance)) = slot.choose(exchange.consumer.map(|consumer| consumer.id)) else {
                continue;
            };
            run.picks.push(Pick { slot: position, of });
            match instance.plugin.access(exchange) {
                Step::Continue => {}
                step => return self.leave(step, exchange, run),
            }
        }
        Step::Continue
    }

    /// Continues `access` with the result of a wait.
    pub fn resume(&self, resume: Resume, exchange: &mut Exchange<'_>, run: &mut Run) -> Step {
        match resume(exchange) {
            Step::Continue => self.access(exchange, run),
            step => self.leave(step, exchange, run),
        }
    }

    /// Collects the rest when the exchange is over.
    fn leave(&self, step: Step, exchange: &Exchange<'_>, run: &mut Run) -> Step {
        if let Step::Wait(_) = step {
            return step;
        }
        let consumer = exchange.consumer.map(|consumer| consumer.id);
        for (position, slot) in self.slots.iter().enumerate().skip(run.next) {
            run.picks.extend(slot.choose(consumer).map(|(of, _)| Pick { slot: position, of }));
        }
        run.next = self.slots.len();
        step
    }

    /// Runs `header_filter` of the instances that `run` collected in this chain.
    pub fn header_filter(&self, run: &Run, exchange: &mut Exchange<'_>, head: &mut ResponseHead) {
        self.collected(run).for_each(|instance| instance.plugin.header_filter(exchange, head));
    }

    /// The filters for a response's body.
    pub fn body_filters(&self, run: &Run, exchange: &mut Exchange<'_>, head: &ResponseHead) -> BodyFilters {
        self.collected(run).filter_map(|instance| instance.plugin.body_filter(exchange, head)).collect()
    }

    /// Runs `log` of the collected instances that want it.
    pub fn log(&self, run: &Run, entry: &Arc<Entry>) {
        let instances = self.collected(run).filter(|instance| instance.plugin.wants().log);
        instances.for_each(|instance| instance.plugin.log(entry));
    }

    /// Runs `preread` of the unscoped instances, until one ends the session.
    pub fn preread(&self, session: &mut Session<'_>) -> Step {
        for instance in self.slots.iter().filter_map(|slot| slot.base.as_ref()) {
            match instance.plugin.preread(session) {
                Step::Continue => {}
                ended => return ended,
            }
        }
        Step::Continue
    }

    /// What is collected without `access`: the unscoped instance of each name. For exchanges that end before their
    /// plugins run, on the snapshot's `unmatched` chain.
    pub fn collect(&self) -> Run {
        let slots = self.slots.iter().enumerate().filter(|(_, slot)| slot.base.is_some());
        Run { picks: slots.map(|(slot, _)| Pick { slot, of: Of::Base }).collect(), next: self.slots.len() }
    }

    fn collected<'c>(&'c self, run: &'c Run) -> impl Iterator<Item = &'c Instance> {
        run.picks.iter().filter_map(|pick| self.instance(*pick))
    }

    /// Whether both run the very same instances.
    pub(crate) fn same(&self, other: &Chain) -> bool {
        self.slots.len() == other.slots.len() && self.slots.iter().zip(&other.slots).all(|(a, b)| a.same(b))
    }

    fn instance(&self, pick: Pick) -> Option<&Instance> {
        let slot = self.slots.get(pick.slot)?;
        match pick.of {
            Of::Base => slot.base.as_deref(),
            Of::Nearer(position) => slot.nearer.at(position),
            Of::Consumer(position) => slot.consumers.as_ref()?.at(position),
        }
    }
}

impl Slot {
    fn choose(&self, consumer: Option<Uuid>) -> Option<(Of, &Instance)> {
        if let Some(consumer) = consumer {
            if let Some((position, instance)) = self.nearer.find(consumer) {
                return Some((Of::Nearer(position), instance));
            }
            if let Some((position, instance)) = self.consumers.as_ref().and_then(|all| all.find(consumer)) {
                return Some((Of::Consumer(position), instance));
            }
        }
        Some((Of::Base, self.base.as_deref()?))
    }

    /// All that it may run.
    fn instances(&self) -> impl Iterator<Item = &Arc<Instance>> {
        let consumers = self.consumers.iter().flat_map(|all| &all.0);
        let scoped = self.nearer.0.iter().chain(consumers).map(|(_, instance)| instance);
        scoped.chain(&self.base)
    }

    fn same(&self, other: &Slot) -> bool {
        let consumers = match (&self.consumers, &other.consumers) {
            (Some(mine), Some(others)) => Arc::ptr_eq(mine, others) || mine.same(others),
            (mine, others) => mine.is_none() && others.is_none(),
        };
        let base = match (&self.base, &other.base) {
            (Some(mine), Some(others)) => Arc::ptr_eq(mine, others),
            (mine, others) => mine.is_none() && others.is_none(),
        };
        consumers && base && self.nearer.same(&other.nearer)
    }
}

impl ByConsumer {
    fn find(&self, consumer: Uuid) -> Option<(usize, &Instance)> {
        let position = self.0.binary_search_by_key(&consumer, |(id, _)| *id).ok()?;
        Some((position, self.at(position)?))
    }

    fn at(&self, position: usize) -> Option<&Instance> {
        self.0.get(position).map(|(_, instance)| instance.as_ref())
    }

    fn same(&self, other: &ByConsumer) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(a, b)| a.0 == b.0 && Arc::ptr_eq(&a.1, &b.1))
    }
}
