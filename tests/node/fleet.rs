//! Several nodes of the tests' own in one cluster, with a network between them that can be slow, lossy or cut.

use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::Node;
use crate::relay::{Relay, free_addresses};
use crate::scenario::client::{Answer, Client};

pub const SECRET: &str = "the one secret of these tests";

/// Bound of every wait that has no other.
const PATIENCE: Duration = Duration::from_secs(20);

/// One fleet at a time: its figures are worth something only where nobody else measures.
static TURN: Mutex<()> = Mutex::new(());

/// Nodes 0, 1, … that listen on 127.0.1.I and are dialled through the relay. Node 0 is everybody's seed.
pub struct Fleet {
    pub relay: Relay,
    pub nodes: Vec<Node>,
    _turn: MutexGuard<'static, ()>,
}

impl Fleet {
    /// Plans nodes; none runs yet. `adjust` adds to the settings of one, by its number.
    pub fn plan(count: usize, adjust: impl Fn(usize) -> Vec<(String, String)>) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let addresses = free_addresses(count);
        let relay = Relay::new(&addresses, 7);
        let node = |number: usize| {
            let mut settings = vec![
                ("node_id".to_owned(), name(number)),
                ("region".to_owned(), format!("region-{number}")),
                ("nginx_worker_processes".to_owned(), "1".to_owned()),
                ("cluster_listen".to_owned(), addresses[number].to_string()),
                ("cluster_advertise".to_owned(), relay.address(number).to_string()),
                ("cluster_seeds".to_owned(), relay.address(0).to_string()),
                ("cluster_secret".to_owned(), SECRET.to_owned()),
            ];
            settings.extend(adjust(number));
            Node::new(settings)
        };
        let nodes = (0..count).map(node).collect();
        Self { relay, nodes, _turn: turn }
    }

    /// Starts nodes, all at once, and waits until they are one cluster that agrees.
    pub fn start(count: usize, adjust: impl Fn(usize) -> Vec<(String, String)>) -> Self {
        let mut fleet = Self::plan(count, adjust);
        fleet.nodes.iter_mut().for_each(Node::start);
        fleet.until("the nodes do not become one cluster", |fleet| fleet.is_whole(count));
        fleet
    }

    /// `GET /cluster` of the status listener; null where nobody answers.
    pub fn view(&self, node: usize) -> Value {
        let node = &self.nodes[node];
        node.get(node.status, "/cluster").ok().and_then(|answer| answer.json()).unwrap_or_default()
    }

    /// How `node` sees `other`; empty when it does not.
    pub fn state(&self, node: usize, other: usize) -> String {
        let view = self.view(node);
        let nodes = view["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let seen = nodes.iter().find(|member| member["node_id"] == name(other).as_str());
        seen.and_then(|member| member["state"].as_str()).unwrap_or_default().to_owned()
    }

    /// Whether the first `count` nodes each see `count` nodes, all alive, and agree.
    pub fn is_whole(&self, count: usize) -> bool {
        let views: Vec<Value> = (0..count).map(|node| self.view(node)).collect();
        let sees_all = |view: &Value| {
            let nodes = view["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
            let alive = nodes.iter().filter(|member| member["state"] == "alive").count();
            view["converged"] == true && nodes.len() == count && alive == count
        };
        views.iter().all(|view| sees_all(view) && view["revision"] == views[0]["revision"])
    }

    /// One request to the Admin API, `null` for no body.
    pub fn admin(&self, node: usize, method: &str, target: &str, body: Value) -> Answer {
        let admin = Client::new(self.nodes[node].admin, false);
        send(admin, method, target, &body).unwrap_or_else(|why| panic!("{}: {why}", name(node)))
    }

    /// The value of a sample in `/metrics` without labels; zero where there is none.
    pub fn metric(&self, node: usize, sample: &str) -> f64 {
        let node = &self.nodes[node];
        let page = node.get(node.status, "/metrics").unwrap().text();
        let value = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value.and_then(|value| value.parse().ok()).unwrap_or_default()
    }

    /// Waits for a condition; answers how long that took.
    pub fn until(&self, complaint: &str, condition: impl FnMut(&Self) -> bool) -> Duration {
        self.within(PATIENCE, complaint, condition)
    }

    /// As `until`, for what may take longer or must not take so long.
    pub fn within(&self, limit: Duration, complaint: &str, mut condition: impl FnMut(&Self) -> bool) -> Duration {
        let began = Instant::now();
        while !condition(self) {
            assert!(began.elapsed() < limit, "{complaint}\n{}", self.told());
            sleep(Duration::from_millis(5));
        }
        began.elapsed()
    }

    /// What everybody says, for whoever reads a failure.
    fn told(&self) -> String {
        let one = |(number, node): (usize, &Node)| {
            let log = node.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(12)..].join("\n");
            format!("{}: {}\n{tail}\n", name(number), self.view(number))
        };
        self.nodes.iter().enumerate().map(one).collect()
    }
}

/// A way to a port on this machine that can be shut.
pub struct Gate {
    pub port: u16,
    open: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Gate {
    /// Open, until the end of the test process.
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let own = listener.local_addr().unwrap().port();
        let gate = Self { port: own, open: Arc::new(AtomicBool::new(true)), streams: Arc::default() };
        let (open, streams) = (gate.open.clone(), gate.streams.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { continue };
                if open.load(Ordering::SeqCst) {
                    let both = [&client, &server].map(|stream| stream.try_clone().unwrap());
                    streams.lock().unwrap().extend(both);
                    pump(&client, &server);
                    pump(&server, &client);
                }
            }
        });
        gate
    }

    /// Ends what goes through, and lets nobody in.
    pub fn shut(&self) {
        self.open.store(false, Ordering::SeqCst);
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
    }
}

fn pump(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
}

fn send(mut client: Client, method: &str, target: &str, body: &Value) -> Result<Answer, String> {
    let json = [("Content-Type".to_owned(), "application/json".to_owned())];
    let (headers, body) = match body {
        Value::Null => (&[][..], Vec::new()),
        body => (&json[..], body.to_string().into_bytes()),
    };
    client.request(method, target, headers, &body, PATIENCE).map_err(|none| none.text)
}

pub fn name(node: usize) -> String {
    format!("node-{node}")
}

/// The bound of a figure: as promised of a release build; a debug build on a busy machine gets more.
pub fn bound(release_ms: u64) -> Duration {
    let factor = if cfg!(debug_assertions) { 6 } else { 1 };
    Duration::from_millis(release_ms * factor)
}
