//! The plugins' part of one exchange: what they see, and what they leave for later phases.
//!
//! Between `access` and `header_filter` the request's headers go to the upstream and answers are awaited, so nothing
//! is borrowed across: a consumer is kept by id and looked up again, instances by their place in the chain.

use std::net::IpAddr;

use bytes::Bytes;
use http::StatusCode;
use http::header::{HeaderMap, HeaderValue};
use http::request::Parts;
use uuid::Uuid;

use crate::counter::Counters;
use crate::plugin::chain::Run;
use crate::plugin::directory::CredentialRef;
use crate::plugin::name::Name;
use crate::plugin::{Exchange, Step};
use crate::proxy::gained::{Gained, Value};
use crate::snapshot::Snapshot;
use crate::snapshot::plan::Plan;

/// One exchange's way through its plugins.
pub struct Stage<'s> {
    world: &'s Snapshot,
    counters: &'s Counters,
    client_ip: IpAddr,
    now_ms: u64,
    plan: Option<&'s Plan>,
    /// `None`: the exchange ended before its plugins ran, and only global ones see its answer.
    run: Option<Run>,
    consumer: Option<Uuid>,
    credential: Option<CredentialRef>,
    response_headers: Vec<(&'static Name, HeaderValue)>,
}

/// What `access` made of a request, beside its headers.
pub struct Accessed {
    pub step: Step,
    /// `None`: as it came.
    pub query: Option<String>,
    pub body: Option<Bytes>,
}

impl<'s> Stage<'s> {
    pub fn new(world: &'s Snapshot, counters: &'s Counters, client_ip: IpAddr, now_ms: u64) -> Self {
        Self {
            world,
            counters,
            client_ip,
            now_ms,
            plan: None,
            run: None,
            consumer: None,
            credential: None,
            response_headers: Vec::new(),
        }
    }

    /// The route's own plan from here on.
    pub fn enter(&mut self, plan: &'s Plan) {
        self.plan = Some(plan);
    }

    pub fn plan(&self) -> Option<&'s Plan> {
        self.plan
    }

    /// Runs the plan's plugins. `body`: whole, when one of them wanted it and it fits.
    pub fn access(&mut self, plan: &'s Plan, head: &mut Parts, path: &[u8], body: Option<Bytes>) -> Accessed {
        let mut run = Run::default();
        let mut exchange = self.exchange(head, path);
        exchange.body = body;
        let step = plan.chain.access(&mut exchange, &mut run);
        let Exchange { query, body, consumer, credential, response_headers, .. } = exchange;
        let consumer = consumer.map(|consumer| consumer.id);
        (self.run, self.consumer, self.credential) = (Some(run), consumer, credential);
        self.response_headers = response_headers;
        Accessed { step, query, body }
    }

    /// Lets plugins at an answer's head: first what they left during `access`, then their `header_filter`. Where none of
    /// them looks, what they left need not go through the map.
    pub fn filter(
        &mut self,
        (head, path): (&mut Parts, &[u8]),
        status: StatusCode,
        headers: &mut HeaderMap,
        gained: &mut Gained<'_>,
    ) {
        let (chain, run) = match (self.plan, self.run.take()) {
            (Some(plan), Some(run)) => (&plan.chain, run),
            _ => (&self.world.unmatched, self.world.unmatched.collect()),
        };
        for (name, value) in self.response_headers.drain(..) {
            if chain.filters() {
                headers.insert(&name.header, value);
            } else {
                gained.put(name, Value::Made(value));
            }
        }
        if chain.filters() {
            chain.header_filter(&run, &mut self.exchange(head, path), status, headers);
        }
    }

    fn exchange<'a>(&self, head: &'a mut Parts, path: &'a [u8]) -> Exchange<'a>
    where
        's: 'a,
    {
        let directory = &*self.world.directory;
        Exchange {
            request: head,
            path,
            query: None,
            body: None,
            route_id: self.plan.map(|plan| plan.route_id),
            service_id: self.plan.and_then(|plan| Some(plan.service.as_ref()?.id)),
            client_ip: self.client_ip,
            now_s: self.now_ms / 1000,
            now_ms: self.now_ms,
            consumer: self.consumer.and_then(|id| directory.consumers.get(&id)).map(|consumer| &**consumer),
            credential: self.credential,
            response_headers: Vec::new(),
            directory,
            counters: self.counters,
        }
    }
}
