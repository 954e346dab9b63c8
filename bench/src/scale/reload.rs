//! What requests notice of a configuration of many routes that is replaced, or in which a route changes.
//!
//! The load is at a fixed rate well under what the node can answer, and each request is timed from when it was due. A
//! phase under change lasts until requests see what was changed, so that no quiet second dilutes its percentiles.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tidegate_bench::Outcome;
use tidegate_bench::wire::{Done, Wire};

use crate::client;
use crate::node::{self, Node, Size, Store};
use crate::table::Reload;

/// Requests per second.
pub const RATE: f64 = 2_000.0;
/// Single changes, one after the other: one alone is over after a hundred requests.
const CHANGES: usize = 20;
const QUIET: Duration = Duration::from_secs(5);
const CHANGED_MAX: Duration = Duration::from_secs(120);

/// `POST /config` with one route changed.
pub fn whole(program: &Path, routes: usize) -> Outcome<Reload> {
    let size = Size { routes, ..Size::default() };
    let mut wire = Wire::open(node::ANSWER_LEN)?;
    let (node, _) = Node::start(program, Store::Off, false, &node::configuration(size, wire.backend, "a"))?;
    let next = node::configuration(size, wire.backend, "b").to_string();
    phases(&node, &mut wire, 1, || {
        match client::ask(&mut client::plain(node.admin)?, "POST", "/config", next.as_bytes())? {
            201 => seen(node.gateway.address, "b"),
            status => Err(format!("POST /config was answered {status}").into()),
        }
    })
}

/// A route changed through the Admin API, some times.
pub fn single(program: &Path, routes: usize) -> Outcome<Reload> {
    let size = Size { routes, ..Size::default() };
    let mut wire = Wire::open(node::ANSWER_LEN)?;
    let (node, _) = Node::start(program, Store::Embedded, false, &node::configuration(size, wire.backend, "a"))?;
    phases(&node, &mut wire, CHANGES, || {
        let mut admin = client::plain(node.admin)?;
        for change in 0..CHANGES {
            let body = json!({"paths": [format!("/changed-{change}")]}).to_string();
            match client::ask(&mut admin, "PATCH", "/routes/changed", body.as_bytes())? {
                200 => seen(node.gateway.address, &change.to_string())?,
                status => return Err(format!("PATCH /routes/changed was answered {status}").into()),
            }
        }
        Ok(())
    })
}

fn phases(
    node: &Node,
    wire: &mut Wire,
    changes: usize,
    change: impl Fn() -> Outcome<()> + Send + Sync,
) -> Outcome<Reload> {
    node.warm_up(wire)?;
    let requests = [node::request("/plain/x")];
    let quiet = node.load(&requests, Some(RATE), QUIET);
    let before = wire.send(&quiet)?;
    let over = AtomicBool::new(false);
    let (during, took) = std::thread::scope(|scope| {
        let changing = scope.spawn(|| {
            let begun = Instant::now();
            let changed = change().map_err(|error| error.to_string());
            over.store(true, Ordering::Relaxed);
            changed.map(|()| begun.elapsed())
        });
        let mut load = node.load(&requests, Some(RATE), CHANGED_MAX);
        load.until = Some(&over);
        let during = wire.send(&load);
        let took = changing.join().map_err(|_| "the change did not end")??;
        Ok::<(Done, Duration), Box<dyn std::error::Error>>((during?, took))
    })?;
    let after = wire.send(&quiet)?;
    Ok(Reload { before, during, after, took_each: took / u32::try_from(changes)? })
}

/// Returns when requests see the route where it is now.
fn seen(address: SocketAddr, changed: &str) -> Outcome<()> {
    let begun = Instant::now();
    let mut stream = client::plain(address)?;
    loop {
        match client::ask(&mut stream, "GET", &format!("/changed-{changed}/x"), &[])? {
            200 => return Ok(()),
            404 if begun.elapsed() < CHANGED_MAX => std::thread::sleep(Duration::from_millis(2)),
            status => return Err(format!("the changed route was answered {status}").into()),
        }
    }
}
