//! Builds snapshots, keeping from one to the next what did not change.
//!
//! First each entity's own part is made or kept (`kept`, `parts`); then the parts are linked: keys to their consumers,
//! routes to their services and chains. A plan whose parts are the same is the same `Arc` as before. Rule and plan of a
//! route stay at one slot for as long as the route takes part, and router and plans of the next snapshot are made of those
//! of this by what changes at which slot. What is left of the cost of a build is walking the lists.

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use tidegate_proto::Revision;

use crate::entity::Kind;
use crate::pace;
use crate::plugin::chain::Chain;
use crate::plugin::directory::{Directory, KeyHolder, Principal};
use crate::plugin::roster::{Place, Roster};
use crate::router::Router;
use crate::router::compiled::Compiled;
use crate::router::slots::Slots;
use crate::snapshot::kept::Kept;
use crate::snapshot::parts::{self, KeyPart, PluginPart, RoutePart, ServicePart};
use crate::snapshot::plan::{Destination, Plan};
use crate::snapshot::{Entities, Problem, Snapshot};

/// The inside of a `Builder`: the parts of the last build.
#[derive(Default)]
pub(crate) struct Workshop {
    routes: Kept<RoutePart>,
    services: Kept<ServicePart>,
    consumers: Kept<Arc<Principal>>,
    keys: Kept<KeyPart>,
    plugins: Kept<PluginPart>,
    directory: Arc<Directory>,
    roster: Roster,
    unmatched: Arc<Chain>,
    chains: Chains,
    /// The chains before the plugins changed, while routes are linked.
    before: Chains,
    router: Arc<Router>,
    /// By slot, as the rules of `router`.
    plans: Slots<Arc<Plan>>,
    /// Slots that were given out so far, and those of them that are free.
    slots: usize,
    free: Vec<usize>,
}

type Chains = HashMap<Place, Arc<Chain>, RandomState>;
/// What is to be at a slot.
type Changes = BTreeMap<usize, Option<(Arc<Compiled>, Arc<Plan>)>>;

impl Workshop {
    /// See `Builder::build`.
    pub(crate) fn build(&mut self, entities: Entities, revision: Revision) -> (Snapshot, Vec<Problem>) {
        let mut kinds = Kinds::of(entities);
        let routes_changed = self.routes.refresh(kinds.take(Kind::ROUTES), parts::route);
        let services_changed = self.services.refresh(kinds.take(Kind::SERVICES), parts::service);
        let consumers_changed = self.consumers.refresh(kinds.take(Kind::CONSUMERS), parts::consumer);
        let keys_changed = self.keys.refresh(kinds.take(Kind::KEYAUTH_CREDENTIALS), parts::key);
        let plugins_changed = self.plugins.refresh(kinds.take(Kind::PLUGINS), parts::plugin);
        if consumers_changed || keys_changed {
            self.link_keys();
        }
        if plugins_changed {
            self.enlist();
        }
        if routes_changed || services_changed || plugins_changed {
            self.link_routes(services_changed, plugins_changed);
        }
        let snapshot = Snapshot {
            revision,
            directory: Arc::clone(&self.directory),
            unmatched: Arc::clone(&self.unmatched),
            router: Arc::clone(&self.router),
            plans: self.plans.clone(),
        };
        (snapshot, self.problems())
    }

    /// Makes the directory. A key whose consumer is not there opens nothing.
    fn link_keys(&mut self) {
        let mut directory = Directory::default();
        for principal in self.consumers.made() {
            pace::step();
            if let Some(username) = &principal.username {
                directory.consumers_by_username.insert(Arc::clone(username), Arc::clone(principal));
            }
            directory.consumers.insert(principal.id, Arc::clone(principal));
        }
        for part in self.keys.made_mut() {
            pace::step();
            part.holder = directory.consumers.get(&part.consumer).map(|consumer| match part.holder.take() {
                Some(holder) if Arc::ptr_eq(&holder.consumer, consumer) => holder,
                _ => Arc::new(KeyHolder::new(part.id, Arc::clone(consumer), part.expires_at_s)),
            });
            let holder = part.holder.iter().map(|holder| (Arc::clone(&part.key), Arc::clone(holder)));
            directory.keys.extend(holder);
        }
        self.directory = Arc::new(directory);
    }

    fn enlist(&mut self) {
        self.roster = Roster::new(self.plugins.made().map(|part| (part.scope, Arc::clone(&part.instance))));
        let unmatched = self.roster.unmatched();
        if !unmatched.same(&self.unmatched) {
            self.unmatched = Arc::new(unmatched);
        }
    }

    /// Gives each route its service and chain, the snapshot its plan and the router its rule. A route that is in them
    /// already is looked at only when something that it may depend on has changed.
    fn link_routes(&mut self, services_changed: bool, plugins_changed: bool) {
        let mut taken = vec![false; self.slots];
        let mut fresh = Vec::new();
        if plugins_changed {
            self.before = std::mem::take(&mut self.chains);
        }
        for part in self.routes.made_mut() {
            pace::step();
            if let Some(slot) = part.slot.filter(|_| !services_changed && !plugins_changed) {
                taken[slot] = true;
                continue;
            }
            let Some((service, problem)) = destination(part.service, &self.services) else {
                part.slot = None;
                continue;
            };
            let place = self.roster.place(Some(part.plan.route_id), part.service);
            let chain = self.chains.entry(place).or_insert_with(|| {
                let chain = self.roster.chain(place);
                let kept = self.before.get(&place).filter(|kept| kept.same(&chain)).cloned();
                kept.unwrap_or_else(|| Arc::new(chain))
            });
            link(&mut part.plan, service, chain, problem);
            match part.slot {
                Some(slot) => {
                    taken[slot] = true;
                    if !self.plans.at(slot).is_some_and(|plan| Arc::ptr_eq(plan, &part.plan)) {
                        self.plans.set(slot, Some(Arc::clone(&part.plan)));
                    }
                }
                None => fresh.push(part),
            }
        }
        self.before = Chains::default();
        let mut changes = Changes::new();
        for slot in (0..self.slots).filter(|slot| !taken[*slot] && self.plans.at(*slot).is_some()) {
            pace::step();
            changes.insert(slot, None);
            self.free.push(slot);
        }
        for part in fresh {
            pace::step();
            let slot = self.free.pop().unwrap_or(self.slots);
            self.slots = self.slots.max(slot + 1);
            part.slot = Some(slot);
            changes.insert(slot, Some((Arc::clone(&part.rule), Arc::clone(&part.plan))));
        }
        self.change(changes);
    }

    fn change(&mut self, changes: Changes) {
        let mut rules = Vec::with_capacity(changes.len());
        for (slot, part) in changes {
            pace::step();
            let (rule, plan) = part.unzip();
            rules.push((slot, rule));
            self.plans.set(slot, plan);
        }
        if !rules.is_empty() {
            self.router = Arc::new(self.router.changed(&rules));
        }
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        collect(Kind::SERVICES, &self.services, &mut problems);
        collect(Kind::ROUTES, &self.routes, &mut problems);
        collect(Kind::CONSUMERS, &self.consumers, &mut problems);
        collect(Kind::PLUGINS, &self.plugins, &mut problems);
        collect(Kind::KEYAUTH_CREDENTIALS, &self.keys, &mut problems);
        for plan in self.routes.made().map(|part| &part.plan) {
            pace::step();
            problems.extend(plan.problem.iter().map(|why| Problem {
                kind: Kind::ROUTES,
                id: plan.route_id,
                why: why.to_string(),
            }));
        }
        problems
    }
}

/// Entities apart by kind. There are few kinds and they come in runs, so a list that is searched from its end will do.
struct Kinds(Vec<(Kind, Entities)>);

impl Kinds {
    fn of(entities: Entities) -> Self {
        let mut kinds: Vec<(Kind, Entities)> = Vec::new();
        for entity in entities {
            pace::step();
            match kinds.iter_mut().rev().find(|(kind, _)| *kind == entity.kind()) {
                Some((_, list)) => list.push(entity),
                None => kinds.push((entity.kind(), vec![entity])),
            }
        }
        Self(kinds)
    }

    fn take(&mut self, kind: Kind) -> Entities {
        self.0.iter_mut().find(|(other, _)| *other == kind).map(|(_, list)| std::mem::take(list)).unwrap_or_default()
    }
}

/// Where a route's requests go, or why that cannot be said. `None`: its service is switched off, and with it the route.
fn destination(
    id: Option<uuid::Uuid>,
    services: &Kept<ServicePart>,
) -> Option<(Option<&Arc<Destination>>, Option<&'static str>)> {
    let Some(id) = id else { return Some((None, None)) };
    match services.get(id).map(|item| &item.made) {
        Some(Some(service)) if !service.enabled => None,
        Some(Some(service)) => Some((Some(&service.destination), None)),
        Some(None) => Some((None, Some("its service cannot be used"))),
        None => Some((None, Some("its service does not exist"))),
    }
}

/// Changes `plan` only where it differs: an unchanged plan stays the same `Arc`.
fn link(plan: &mut Arc<Plan>, service: Option<&Arc<Destination>>, chain: &Arc<Chain>, problem: Option<&str>) {
    let same_service = match (&plan.service, service) {
        (Some(mine), Some(other)) => Arc::ptr_eq(mine, other),
        (mine, other) => mine.is_none() && other.is_none(),
    };
    if same_service && Arc::ptr_eq(&plan.chain, chain) && plan.problem.as_deref() == problem {
        return;
    }
    let plan = Arc::make_mut(plan);
    plan.service = service.cloned();
    plan.chain = Arc::clone(chain);
    plan.problem = problem.map(Box::from);
}

fn collect<T>(kind: Kind, kept: &Kept<T>, problems: &mut Vec<Problem>) {
    for item in kept.iter() {
        pace::step();
        let why = item.problem.iter().map(|why| Problem { kind, id: item.entity.id(), why: why.to_string() });
        problems.extend(why);
    }
}
