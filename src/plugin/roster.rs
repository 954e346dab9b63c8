//! All enabled instances by scope, and the chain that a route gets of them (`kong/proxy.md` §1.2).
//!
//! The eight levels of precedence fall into two: what depends on the route and its service is decided here, what
//! depends on the consumer is left to the chain's slot. Instances scoped to a consumer alone apply to every route, so
//! all chains share one table of them per plugin name; a copy per route would grow as routes times consumers.

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use uuid::Uuid;

use crate::plugin::Scope;
use crate::plugin::chain::{ByConsumer, Chain, Instance, Slot};

/// Every instance that may run.
#[derive(Default)]
pub struct Roster {
    /// By route and service: those for everybody, and those for one consumer.
    scoped: HashMap<Place, Vec<Placed>, RandomState>,
    /// Scoped to a consumer alone, by the name's place in the order.
    consumers: Vec<Arc<ByConsumer>>,
    /// Routes and services that some instance is scoped to.
    named: HashMap<Uuid, (), RandomState>,
}

/// An instance with the consumer it is for; `None`: everybody.
type Placed = (Option<Uuid>, Arc<Instance>);

/// The part of a scope that is known before the consumer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Place {
    pub route: Option<Uuid>,
    pub service: Option<Uuid>,
}

impl Roster {
    pub fn new(instances: impl IntoIterator<Item = (Scope, Arc<Instance>)>) -> Self {
        let mut roster = Self::default();
        let mut consumers: BTreeMap<Box<str>, BTreeMap<Uuid, Arc<Instance>>> = BTreeMap::new();
        for (scope, instance) in instances {
            let place = Place { route: scope.route, service: scope.service };
            roster.named.extend(scope.route.into_iter().chain(scope.service).map(|id| (id, ())));
            match scope.consumer {
                Some(consumer) if place == Place::default() => {
                    consumers.entry(instance.name.clone()).or_default().insert(consumer, instance);
                }
                consumer => roster.scoped.entry(place).or_default().push((consumer, instance)),
            }
        }
        let tables = consumers.into_values().map(|table| Arc::new(ByConsumer(table.into_iter().collect())));
        roster.consumers = tables.collect();
        roster
    }

    /// The place that decides the chain of a route: without the route or service that no instance names. Routes
    /// with the same answer share a chain.
    pub fn place(&self, route: Option<Uuid>, service: Option<Uuid>) -> Place {
        let named = |id: &Uuid| self.named.contains_key(id);
        Place { route: route.filter(named), service: service.filter(named) }
    }

    /// What runs at a place.
    pub fn chain(&self, place: Place) -> Chain {
        let mut slots: BTreeMap<_, Draft> = BTreeMap::new();
        for table in &self.consumers {
            if let Some((_, instance)) = table.0.first() {
                slots.entry(Chain::order(instance)).or_default().consumers = Some(table);
            }
        }
        for level in levels(place) {
            for (consumer, instance) in self.scoped.get(&level).into_iter().flatten() {
                slots.entry(Chain::order(instance)).or_default().add(level, *consumer, instance);
            }
        }
        Chain::new(slots.into_values().map(Draft::finish).collect())
    }

    /// The global instances: what runs when no route matched.
    pub fn unmatched(&self) -> Chain {
        let globals = self.scoped.get(&Place::default()).into_iter().flatten();
        let slots: BTreeMap<_, _> = globals.map(|(_, instance)| (Chain::order(instance), instance)).collect();
        Chain::new(
            slots.into_values().map(|instance| Slot { base: Some(instance.clone()), ..Slot::default() }).collect(),
        )
    }
}

/// The places whose instances apply at `place`, farthest first: each level overrides those before it.
fn levels(place: Place) -> impl Iterator<Item = Place> {
    let global = Place::default();
    let service = place.service.map(|id| Place { service: Some(id), ..global });
    let route = place.route.map(|id| Place { route: Some(id), ..global });
    let both = (service.is_some() && route.is_some()).then_some(place);
    [Some(global), service, route, both].into_iter().flatten()
}

/// A slot in the making.
#[derive(Default)]
struct Draft<'a> {
    nearer: BTreeMap<Uuid, &'a Arc<Instance>>,
    consumers: Option<&'a Arc<ByConsumer>>,
    base: Option<&'a Arc<Instance>>,
}

impl<'a> Draft<'a> {
    fn add(&mut self, level: Place, consumer: Option<Uuid>, instance: &'a Arc<Instance>) {
        match consumer {
            Some(consumer) => {
                self.nearer.insert(consumer, instance);
            }
            None => {
                self.base = Some(instance);
                // Route and service together outrank a consumer alone.
                if level.route.is_some() && level.service.is_some() {
                    self.consumers = None;
                }
            }
        }
    }

    fn finish(self) -> Slot {
        Slot {
            nearer: ByConsumer(self.nearer.into_iter().map(|(id, instance)| (id, instance.clone())).collect()),
            consumers: self.consumers.cloned(),
            base: self.base.cloned(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
