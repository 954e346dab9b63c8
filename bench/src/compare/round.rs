//! One round of one gateway: as much as it can answer, then a fixed rate.

use std::path::Path;
use std::time::Duration;

use tidegate_bench::peer::Gateway;
use tidegate_bench::wire::{Done, Load, Wire};
use tidegate_bench::work::Work;
use tidegate_bench::{Outcome, cpu};

use crate::h2load;

/// Streams at once on each connection of HTTP/2.
const STREAMS: usize = 4;

/// What a round came to.
#[derive(Clone, Copy)]
pub struct Measured {
    /// User and system time of the gateway per answered request, as fast as it goes.
    pub cpu_us: f64,
    pub rps: f64,
    /// CPU of load and backend per request, so that it shows when they are what gives out.
    pub load_us: f64,
    /// At the fixed rate.
    pub p50_us: f64,
    pub p99_us: f64,
    /// CPU per request at the fixed rate.
    pub paced_cpu_us: f64,
    pub resident_kb: u64,
    pub answered: usize,
    pub failed: usize,
}

/// Sends the requests of one work.
pub struct Sender<'s> {
    pub work: &'s Work,
    pub requests: Vec<Vec<u8>>,
    pub h2load: Option<&'s Path>,
}

impl Sender<'_> {
    /// As much as is answered when `rate` is `None`.
    pub fn send(&self, gateway: &Gateway, rate: Option<f64>, lasts: Duration, wire: &mut Wire) -> Outcome<Done> {
        if let (Some(address), Some(program)) = (gateway.tls, self.h2load) {
            let load = h2load::Load { address, connections: self.work.connections, streams: STREAMS, rate, lasts };
            return h2load::send(program, &load, wire);
        }
        let load = Load {
            address: gateway.address,
            requests: &self.requests,
            answer_len: self.work.answer_len,
            connections: self.work.connections,
            connection_per_request: self.work.connection_per_request(),
            keep_alive_by_field: self.work.keep_alive_by_field(),
            rate,
            lasts,
            until: None,
        };
        wire.send(&load)
    }

    /// One round: as fast as it goes, and then at `rate` a second.
    pub fn measure(&self, gateway: &Gateway, rate: f64, lasts: Duration, wire: &mut Wire) -> Outcome<Measured> {
        let (before, own_before) = (gateway.cpu_us(), cpu::spent_us(std::process::id()));
        let done = self.send(gateway, None, lasts, wire)?;
        let (spent, own) = (gateway.cpu_us() - before, cpu::spent_us(std::process::id()) - own_before);
        let (before, own) = (gateway.cpu_us(), own / done.answered as f64);
        let paced = self.send(gateway, Some(rate), lasts, wire)?;
        Ok(Measured {
            cpu_us: spent / done.answered as f64,
            rps: done.answered as f64 / done.seconds,
            load_us: own,
            p50_us: paced.percentile_us(0.50),
            p99_us: paced.percentile_us(0.99),
            paced_cpu_us: (gateway.cpu_us() - before) / paced.answered as f64,
            resident_kb: gateway.resident_kb(),
            answered: done.answered + paced.answered,
            failed: done.failed + paced.failed,
        })
    }
}
