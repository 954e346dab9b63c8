//! The plugins of one route in the order they run, and the run of one exchange through them.
//!
//! A chain has one slot per plugin name, highest priority first, so a name runs at most once. All that does not depend
//! on who the consumer is was decided when the chain was made (`roster`); a slot without consumer-scoped instances is
//! one pointer. A run remembers positions, not instances: it owns nothing, counts no references and can outlive a
//! borrow of the snapshot. Keeping `Arc`s in it would write to memory that all workers share, for each request.

use std::cmp::Reverse;
use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use smallvec::SmallVec;
use uuid::Uuid;

use crate::plugin::{Exchange, Plugin, Step};

/// The plugin names in use for one route, highest priority first, each with the instances it may run.
#[derive(Default)]
pub struct Chain {
    slots: Box<[Slot]>,
    body_wanted: usize,
    filters: bool,
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

/// What one exchange collected on its way through a chain.
#[derive(Clone, Debug, Default)]
pub struct Run {
    picks: SmallVec<[Pick; 8]>,
}

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

impl Chain {
    /// The order of names: priority, then name, both descending.
    pub(crate) fn order(instance: &Instance) -> (Reverse<i32>, Reverse<&str>) {
        (Reverse(instance.priority), Reverse(&instance.name))
    }

    /// From slots that are already in order.
    pub(crate) fn new(slots: Vec<Slot>) -> Self {
        let instances = || slots.iter().flat_map(Slot::instances).map(|instance| &instance.plugin);
        let body_wanted = instances().map(|plugin| plugin.body_wanted()).max().unwrap_or_default();
        let filters = instances().any(|plugin| plugin.header_filter().is_some());
        Self { slots: slots.into_boxed_slice(), body_wanted, filters }
    }

    /// No plugin can run.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether any instance of this chain looks at heads of responses.
    pub fn filters(&self) -> bool {
        self.filters
    }

    /// The most bytes of request body that any instance of this chain wants to see; 0: none.
    pub fn body_wanted(&self) -> usize {
        self.body_wanted
    }

    /// Runs `access` in order and collects in `run`, also beyond the end of the exchange: what answered or failed is
    /// returned once everything is collected.
    pub fn access(&self, exchange: &mut Exchange<'_>, run: &mut Run) -> Step {
        let mut verdict = Step::Continue;
        for (position, slot) in self.slots.iter().enumerate() {
            let Some((of, instance)) = slot.choose(exchange.consumer.map(|consumer| consumer.id)) else {
                continue;
            };
            run.picks.push(Pick { slot: position, of });
            if let Step::Continue = verdict {
                verdict = instance.plugin.access(exchange);
            }
        }
        verdict
    }

    /// Runs `header_filter` of what `run` collected in this chain.
    pub fn header_filter(&self, run: &Run, exchange: &mut Exchange<'_>, status: StatusCode, headers: &mut HeaderMap) {
        let instances = run.picks.iter().filter_map(|pick| self.instance(*pick));
        for filter in instances.filter_map(|instance| instance.plugin.header_filter()) {
            filter.filter(exchange, status, headers);
        }
    }

    /// What is collected without `access`: the unscoped choice of each name. For exchanges that end before their
    /// plugins run, on the snapshot's `unmatched` chain.
    pub fn collect(&self) -> Run {
        let slots = self.slots.iter().enumerate().filter(|(_, slot)| slot.base.is_some());
        Run { picks: slots.map(|(slot, _)| Pick { slot, of: Of::Base }).collect() }
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
