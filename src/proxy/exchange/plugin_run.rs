//! The plugins' part of one exchange: what they see, and what they leave for later phases.
//!
//! Nothing is borrowed from one phase to the next: the snapshot is held, the plan is a place in it, a consumer is kept by id
//! and looked up again, instances by their place in the chain.

use std::cell::Ref;
use std::rc::Rc;
use std::sync::Arc;

use crate::http1::added::{AddedHeaders, Value};
use crate::http1::request::RequestHead;
use crate::http1::response::ResponseHead;
use crate::plugin::chain::{BodyFilters, Chain, Run};
use crate::plugin::entry::Entry;
use crate::plugin::upward::Upward;
use crate::plugin::{Exchange, Resume, Step};
use crate::proxy::exchange::carried::{Carried, State};
use crate::proxy::exchange::facts::ExchangeFacts;
use crate::snapshot::plan::Plan;
use crate::snapshot::{Found, Loaded};
use bytes::Bytes;

/// One exchange's way through its plugins.
pub struct PluginRun {
    snapshot: Loaded,
    /// The place of the route's plan in the snapshot; `None`: no route matched yet.
    rule: Option<usize>,
    /// `access` has run. When the exchange ends before, only global plugins see its response.
    accessed: bool,
    carried: Rc<Carried>,
}

/// What plugins see of the request itself.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    pub facts: &'a ExchangeFacts,
    pub head: &'a RequestHead,
    /// Normalised.
    pub path: &'a [u8],
}

impl PluginRun {
    pub fn new(snapshot: Loaded, carried: Rc<Carried>) -> Self {
        Self { snapshot, rule: None, accessed: false, carried }
    }

    pub fn snapshot(&self) -> &Loaded {
        &self.snapshot
    }

    /// Uses the plan of this route from here on.
    pub fn enter(&mut self, found: &Found<'_>) {
        self.rule = Some(found.rule);
    }

    pub fn plan(&self) -> Option<&Plan> {
        self.snapshot.plan(self.rule?)
    }

    /// The request's body, for plugins that want it.
    pub fn show_body(&mut self, body: Bytes) {
        self.carried.state_mut().body = Some(body);
    }

    /// What plugins changed of the request.
    pub fn upward(&self) -> Ref<'_, Upward> {
        Ref::map(self.carried.state(), |state| &state.upward)
    }

    /// A plugin's replacement of the body.
    pub fn take_body(&mut self) -> Option<Bytes> {
        self.carried.state_mut().upward.body.take()
    }

    /// Runs `rewrite` of the global plugins from position `next` on; `resume`: with the result of a wait.
    pub fn rewrite(&mut self, seen: Seen<'_>, next: &mut usize, resume: Option<Resume>) -> Step {
        let Self { snapshot, carried, .. } = self;
        phase(&mut carried.state_mut(), snapshot, None, seen, |exchange, _| {
            match resume.map_or(Step::Continue, |resume| resume(exchange)) {
                Step::Continue => snapshot.unmatched.rewrite(exchange, next),
                step => step,
            }
        })
    }

    /// Runs `access` of the route's plugins; `resume`: with the result of a wait.
    pub fn access(&mut self, seen: Seen<'_>, resume: Option<Resume>) -> Step {
        self.accessed = true;
        let Self { snapshot, rule, carried, .. } = self;
        let (plan, chain) = chain(snapshot, *rule);
        if chain.is_empty() {
            return Step::Continue;
        }
        phase(&mut carried.state_mut(), snapshot, plan, seen, |exchange, run| match resume {
            None => chain.access(exchange, run),
            Some(resume) => chain.resume(resume, exchange, run),
        })
    }

    /// Shows the response's head to the plugins: first the headers that they left during `access` are set, then
    /// `header_filter` runs. Where no plugin looks at heads, these headers go to `added`, not into the map.
    pub fn filter_head(
        &mut self,
        seen: Seen<'_>,
        head: &mut ResponseHead,
        added: &mut AddedHeaders<'_>,
    ) -> BodyFilters {
        let Self { snapshot, rule, accessed, carried } = self;
        let (plan, chain) = chain(snapshot, rule.filter(|_| *accessed));
        if chain.is_empty() {
            return BodyFilters::new();
        }
        let carried = &mut *carried.state_mut();
        if !*accessed {
            carried.run = chain.collect();
        }
        let wants = chain.wants();
        let is_seen = wants.header_filter || wants.body_filter || wants.log;
        for (name, value) in carried.response_headers.drain(..) {
            if is_seen {
                head.headers.insert(&name.header, value);
            } else {
                added.put(name, Value::Made(value));
            }
        }
        if !is_seen {
            return BodyFilters::new();
        }
        phase(carried, snapshot, plan, seen, |exchange, run| {
            if wants.header_filter {
                chain.header_filter(run, exchange, head);
            }
            if wants.body_filter { chain.body_filters(run, exchange, head) } else { BodyFilters::new() }
        })
    }

    /// The memory, for another exchange after this one.
    pub fn memory(&self) -> &Rc<Carried> {
        &self.carried
    }

    /// Whether a plugin wants the log document of this exchange.
    pub fn wants_log(&self) -> bool {
        chain(&self.snapshot, self.rule.filter(|_| self.accessed)).1.wants().log
    }

    /// Hands the log document to the plugins. Those of an exchange that its client left are collected here.
    pub fn log(&self, entry: &Arc<Entry>) {
        let (_, chain) = chain(&self.snapshot, self.rule.filter(|_| self.accessed));
        if self.accessed {
            chain.log(&self.carried.state().run, entry);
        } else {
            chain.log(&chain.collect(), entry);
        }
    }
}

/// The plan and the chain of a route; without a route, the global chain.
fn chain(snapshot: &Loaded, rule: Option<usize>) -> (Option<&Plan>, &Chain) {
    let plan = rule.and_then(|rule| snapshot.plan(rule));
    (plan, plan.map_or(&*snapshot.unmatched, |plan| &*plan.chain))
}

/// Runs a phase.
fn phase<T>(
    carried: &mut State,
    snapshot: &Loaded,
    plan: Option<&Plan>,
    seen: Seen<'_>,
    run: impl FnOnce(&mut Exchange<'_>, &mut Run) -> T,
) -> T {
    let Seen { facts, head, path } = seen;
    let directory = &*snapshot.directory;
    let mut exchange = Exchange {
        request: head,
        path,
        body: carried.body.clone(),
        route_id: plan.map(|plan| plan.route_id),
        service_id: plan.and_then(|plan| Some(plan.service.as_ref()?.id)),
        client_ip: facts.client_ip,
        now_s: facts.now_ms / 1_000,
        now_ms: facts.now_ms,
        consumer: carried.consumer.and_then(|id| directory.consumers.get(&id)).map(|consumer| &**consumer),
        credential: carried.credential,
        upward: &mut carried.upward,
        response_headers: &mut carried.response_headers,
        notes: &mut carried.notes,
        directory,
        counters: &facts.connection.worker.counters,
    };
    let outcome = run(&mut exchange, &mut carried.run);
    (carried.consumer, carried.credential) = (exchange.consumer.map(|consumer| consumer.id), exchange.credential);
    outcome
}
