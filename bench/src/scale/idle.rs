//! Memory of clients that are connected and ask nothing, each after one answer.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use tidegate_bench::Outcome;
use tidegate_bench::wire::Wire;

use crate::client::{self, Stream};
use crate::node::{self, Node, Size, Store};
use crate::table::Memory;

/// Open files beside the connections: those of the backend, the program's own.
const SPARE_FILES: usize = 256;

/// What `count` idle connections cost a node.
pub fn measure(program: &Path, count: usize, tls: bool) -> Outcome<Memory> {
    enough_files(count + SPARE_FILES)?;
    let mut wire = Wire::open(node::ANSWER_LEN)?;
    let configuration = node::configuration(Size::default(), wire.backend, "a");
    let (running, pem) = Node::start(program, Store::Off, tls, &configuration)?;
    running.warm_up(&mut wire)?;
    let before_kb = running.gateway.resident_kb();
    let over = AtomicBool::new(false);
    let open = std::thread::scope(|scope| {
        let backend = scope.spawn(|| {
            let served = wire.serve_until(|| Ok(over.load(Ordering::Relaxed)));
            served.map_err(|error| error.to_string())
        });
        let open = connect(&running, pem.as_deref(), count);
        // The node is looked at while they are open.
        let open = open.map(|open| (open, running.gateway.resident_kb()));
        over.store(true, Ordering::Relaxed);
        backend.join().map_err(|_| "the backend ended early")??;
        open
    });
    let (open, after_kb) = open?;
    Ok(Memory { count: open.len(), before_kb, after_kb })
}

fn connect(node: &Node, pem: Option<&[u8]>, count: usize) -> Outcome<Vec<Box<dyn Stream>>> {
    let trusting = pem.map(client::trusting).transpose()?;
    let mut open: Vec<Box<dyn Stream>> = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream: Box<dyn Stream> = match (node.gateway.tls, &trusting) {
            (Some(address), Some(config)) => Box::new(client::secured(address, config)?),
            _ => Box::new(client::plain(node.gateway.address)?),
        };
        match client::ask(&mut stream, "GET", "/plain/x", &[])? {
            200 => open.push(stream),
            status => return Err(format!("a client was answered {status}").into()),
        }
    }
    Ok(open)
}

/// Node and clients have a file for each connection, and both have the limit of this process.
fn enough_files(needed: usize) -> Outcome<()> {
    let limits = std::fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap_or_default();
    match line.split_whitespace().next().and_then(|word| word.parse::<usize>().ok()) {
        Some(files) if files < needed => {
            Err(format!("{needed} open files are needed and {files} are allowed: run `ulimit -n {needed}` before")
                .into())
        }
        _ => Ok(()),
    }
}
