//! Nodes with the production counters and rights, and everything around them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use tidegate::cluster::core::rights::{Input, Kept, Me, Now, Output, Promise, Registry, Rights, Standing};
use tidegate::counter::{Counters, Limit, Options, Period, Reach, Window};
use tidegate::entity::strict_weights::StrictWeights;
use tidegate_proto::frame::Frame;

use crate::random::Random;
use crate::strict::faults::{Fault, MEMBERS, NODES};

/// Unix ms at the start of a run.
pub const BEGIN_MS: u64 = 1_795_519_380_000;
const TICK_MS: u64 = 5;
const BEAT_MS: u64 = 1_000;
/// How long it takes to find that a connection is gone, or can be had.
const CONNECT_MS: u64 = 700;

/// What every subject is limited by, before limits change.
pub fn limits(subject: usize) -> Vec<Limit> {
    let limit = |period, limit| Limit { period, limit };
    match subject {
        0 => vec![limit(Period::Second, 100.0)],
        1 => vec![limit(Period::Minute, 3_000.0)],
        2 => vec![limit(Period::Second, 60.0), limit(Period::Minute, 1_500.0), limit(Period::Hour, 40_000.0)],
        _ => vec![limit(Period::Minute, 7.0)],
    }
}

pub type Key = (usize, Window);

pub struct Process {
    counters: Arc<Counters>,
    rights: Rights,
    incarnation: u64,
    /// What beats carry.
    promise: Option<Promise>,
    connected: BTreeMap<usize, u64>,
    pub standing: Option<Standing>,
}

pub struct Node {
    pub name: String,
    disk: Option<String>,
    disk_fails: bool,
    incarnation: u64,
    skew_ms: i64,
    /// The latest time that its clock ever showed.
    latest_ms: u64,
    pub process: Option<Process>,
    /// The newest weights that came by.
    registry: Option<Rc<StrictWeights>>,
    limits: Vec<Vec<Limit>>,
    share: u64,
    /// Parts of hits that were due and are not made yet.
    due: f64,
}

enum Event {
    Frame { from: usize, to: usize, frame: Rc<Frame> },
    Beat { from: usize, to: usize, promise: Promise },
    Written { node: usize, incarnation: u64, kept: Box<Kept>, fails: bool },
    Acknowledged { node: usize, incarnation: u64, fails: bool },
    Start { node: usize },
    Weights { node: usize, weights: Rc<StrictWeights> },
    Limits { node: usize, subject: usize, limits: Vec<Limit> },
}

pub struct World {
    pub now_ms: u64,
    random: Random,
    pub nodes: Vec<Node>,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: HashMap<u64, Event>,
    sequence: u64,
    loss: f64,
    duplication: f64,
    delay_ms: u64,
    /// One way in ms by pair; without it a random part of `delay_ms`.
    pub ways_ms: Option<Vec<Vec<u64>>>,
    cut: [[bool; NODES]; NODES],
    hits_per_ms: f64,
    subjects: usize,
    /// Of windows, the admitted, and the greatest limit that any node had for it.
    pub sums: HashMap<Key, (u64, u64)>,
    pub requests: u64,
    pub admitted: u64,
    pub frames: u64,
    beat_ms: u64,
    connect_ms: u64,
}

impl World {
    /// Three members with a third of everything each; others may join.
    pub fn new(seed: u64, count: usize, hits_per_ms: f64) -> World {
        let mut world = World {
            now_ms: 0,
            random: Random(seed),
            nodes: (0..count).map(node).collect(),
            queue: BinaryHeap::new(),
            events: HashMap::new(),
            sequence: 0,
            loss: 0.0,
            duplication: 0.0,
            delay_ms: 50,
            ways_ms: None,
            cut: [[false; NODES]; NODES],
            hits_per_ms,
            subjects: 4,
            sums: HashMap::new(),
            requests: 0,
            admitted: 0,
            frames: 0,
            beat_ms: 0,
            connect_ms: 0,
        };
        (0..count).for_each(|node| world.start(node));
        let weights = StrictWeights {
            epoch: 1,
            weights: world.nodes.iter().take(MEMBERS).map(|node| (node.name.clone(), 0.3333)).collect(),
            gone: None,
        };
        world.spread(0, Rc::new(weights), 4_000);
        world
    }

    /// Nodes that all have the same share, one subject, and a way between each two.
    pub fn quiet(limit: Limit, ways_ms: Vec<Vec<u64>>, shares: &[u64], hits_per_ms: f64) -> World {
        let mut world = World::new(1, 0, hits_per_ms);
        world.nodes = (0..shares.len()).map(node).collect();
        world.subjects = 1;
        world.ways_ms = Some(ways_ms);
        for (node, share) in world.nodes.iter_mut().zip(shares) {
            (node.share, node.limits) = (*share, vec![vec![limit]]);
        }
        (0..shares.len()).for_each(|node| world.start(node));
        let weight = 1.0 / shares.len() as f64;
        let weights = world.nodes.iter().map(|node| (node.name.clone(), weight)).collect();
        world.spread(0, Rc::new(StrictWeights { epoch: 1, weights, gone: None }), 4_000);
        world
    }

    pub fn run_until(&mut self, until_ms: u64) {
        while self.now_ms < until_ms {
            self.now_ms += TICK_MS;
            while let Some(Reverse((at_ms, number))) = self.queue.peek().copied()
                && at_ms <= self.now_ms
            {
                self.queue.pop();
                if let Some(event) = self.events.remove(&number) {
                    self.happen(event);
                }
            }
            self.connect();
            self.beat();
            for node in 0..self.nodes.len() {
                self.traffic(node);
                self.poll(node);
            }
        }
    }

    pub fn strike(&mut self, fault: &Fault) {
        match fault {
            Fault::Cut { side, one_way } => {
                for (from, row) in self.cut.iter_mut().enumerate() {
                    for (to, cut) in row.iter_mut().enumerate() {
                        *cut |= side[from] && !side[to] || !one_way && side[to] && !side[from];
                    }
                }
            }
            Fault::Heal => self.cut = [[false; NODES]; NODES],
            Fault::Network { loss, duplication, delay_ms } => {
                (self.loss, self.duplication, self.delay_ms) = (*loss, *duplication, *delay_ms);
            }
            Fault::Crash { node, pause_ms, new_disk } => {
                if self.nodes[*node].process.take().is_some() {
                    if *new_disk {
                        self.nodes[*node].disk = None;
                    }
                    self.after(*pause_ms, Event::Start { node: *node });
                }
            }
            Fault::Stop { node, pause_ms } => {
                self.put(*node, Input::Leaving);
                if self.nodes[*node].process.take().is_some() {
                    self.after(*pause_ms, Event::Start { node: *node });
                }
            }
            Fault::Skewed { node, skewed } => self.put(*node, Input::Skewed(*skewed)),
            Fault::Clock { node, by_ms } => self.nodes[*node].skew_ms += by_ms,
            Fault::Weights { node, parts } => self.reweigh(*node, parts),
            Fault::Limit { subject, factor } => {
                let change = |limit: &Limit| Limit { limit: (limit.limit * factor).clamp(1.0, 1e6), ..*limit };
                let changed: Vec<Limit> = self.nodes[0].limits[*subject].iter().map(change).collect();
                for node in 0..self.nodes.len() {
                    let pause_ms = self.random.between(0, 3_000);
                    self.after(pause_ms, Event::Limits { node, subject: *subject, limits: changed.clone() });
                }
            }
            Fault::Disk { node, fails } => self.nodes[*node].disk_fails = *fails,
            Fault::Traffic { shares } => {
                for (node, share) in self.nodes.iter_mut().zip(shares) {
                    node.share = *share;
                }
            }
        }
    }

    /// An operator at this node: whoever the weights there name stays named, and the epoch goes up by one.
    fn reweigh(&mut self, node: usize, parts: &[u64; NODES]) {
        let Some(last) = self.nodes[node].registry.clone() else { return };
        let mut names: Vec<String> = last.weights.keys().cloned().collect();
        if let Some(Standing::Forgets { node: forgotten, .. }) =
            self.nodes[node].process.as_ref().and_then(|process| process.standing.clone())
        {
            names.push(forgotten);
        }
        let joins = &self.nodes[self.random.below(NODES)].name;
        if !names.contains(joins) {
            names.push(joins.clone());
        }
        let part = |name: &String| parts[self.nodes.iter().position(|node| node.name == *name).unwrap_or(0)];
        let sum = names.iter().map(part).sum::<u64>().max(1) as f64;
        let weights = names.iter().map(|name| (name.clone(), part(name) as f64 / sum)).collect();
        self.spread(node, Rc::new(StrictWeights { epoch: last.epoch + 1, weights, gone: None }), 0);
    }

    /// Weights go to everybody who can be reached, also with what was lost: configurations are repaired.
    fn spread(&mut self, from: usize, weights: Rc<StrictWeights>, pause_ms: u64) {
        for to in 0..self.nodes.len() {
            let reached = from == to || !self.cut[from.min(NODES - 1)][to.min(NODES - 1)];
            let late_ms = if reached { self.random.between(0, 300) } else { self.random.between(5_000, 40_000) };
            self.after(pause_ms + late_ms, Event::Weights { node: to, weights: weights.clone() });
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Frame { from, to, frame } => {
                let peer = self.nodes[from].name.clone();
                match &*frame {
                    Frame::Ask(ask) => self.put(to, Input::Ask { peer, ask: ask.clone() }),
                    Frame::Grant(grant) => self.put(to, Input::Grant { peer, grant: grant.clone() }),
                    _ => {}
                }
            }
            Event::Beat { from, to, promise } => {
                let peer = self.nodes[from].name.clone();
                self.put(to, Input::Promise { peer, promise });
            }
            Event::Written { node, incarnation, kept, fails } => {
                // A process that is gone has left its last write with the system.
                if !fails {
                    self.nodes[node].disk = Some(kept.to_text());
                }
                let pause_ms = self.random.between(0, 10);
                self.after(pause_ms, Event::Acknowledged { node, incarnation, fails });
            }
            Event::Acknowledged { node, incarnation, fails } => {
                if self.process(node).is_some_and(|process| process.incarnation == incarnation) {
                    self.put(node, if fails { Input::KeepFailed } else { Input::Kept });
                }
            }
            Event::Start { node } => self.start(node),
            Event::Weights { node, weights } => {
                self.nodes[node].registry = Some(weights);
                self.configure(node);
            }
            Event::Limits { node, subject, limits } => self.nodes[node].limits[subject] = limits,
        }
    }

    fn start(&mut self, index: usize) {
        let now_ms = self.now_ms;
        let node = &mut self.nodes[index];
        node.incarnation += 1;
        let kept = node.disk.as_deref().and_then(Kept::from_text);
        if kept.is_none() {
            // A node that lost its disk trusts its clock: it does not show earlier than its predecessor's.
            let clock_ms = (BEGIN_MS + now_ms).saturating_add_signed(node.skew_ms);
            node.skew_ms += node.latest_ms.saturating_sub(clock_ms) as i64;
        }
        let options = Options { capacity: 4_096, key: [7; 16] };
        let counters = Arc::new(Counters::new(options));
        let me = Me { node_id: node.name.clone(), incarnation: node.incarnation, alone: false };
        let now = node.now(now_ms);
        let mut rights = Rights::new(me, counters.clone(), kept, now);
        rights.on(Input::InUse(true), now);
        node.process = Some(Process {
            counters,
            rights,
            incarnation: node.incarnation,
            promise: None,
            connected: BTreeMap::new(),
            standing: None,
        });
        self.configure(index);
    }

    fn configure(&mut self, node: usize) {
        let registry = self.nodes[node].registry.as_ref().map(|weights| Registry::of(weights));
        self.put(node, Input::Registry(registry));
    }

    fn process(&mut self, node: usize) -> Option<&mut Process> {
        self.nodes[node].process.as_mut()
    }

    fn put(&mut self, node: usize, input: Input) {
        let now = self.nodes[node].now(self.now_ms);
        let Some(process) = self.process(node) else { return };
        let outputs = process.rights.on(input, now);
        self.perform(node, outputs);
    }

    fn poll(&mut self, node: usize) {
        let now = self.nodes[node].now(self.now_ms);
        let Some(process) = self.process(node) else { return };
        let outputs = process.rights.poll(now);
        self.perform(node, outputs);
    }

    fn perform(&mut self, node: usize, outputs: Vec<Output>) {
        let incarnation = self.nodes[node].incarnation;
        for output in outputs {
            match output {
                Output::Send { peer, frame } => {
                    if let Some(to) = self.nodes.iter().position(|other| other.name == peer) {
                        self.frames += 1;
                        let frame = Rc::new(frame);
                        self.send(node, to, || Event::Frame { from: node, to, frame: frame.clone() });
                    }
                }
                Output::Keep(kept) => {
                    let fails = self.nodes[node].disk_fails;
                    let pause_ms = self.random.between(0, 20);
                    self.after(pause_ms, Event::Written { node, incarnation, kept: Box::new(kept), fails });
                }
                Output::Promise(promise) => {
                    if let Some(process) = self.process(node) {
                        process.promise = Some(promise);
                    }
                }
                Output::Standing(standing) => {
                    if let Some(process) = self.process(node) {
                        process.standing = Some(standing);
                    }
                }
            }
        }
    }

    fn send(&mut self, from: usize, to: usize, event: impl Fn() -> Event) {
        if from < NODES && to < NODES && self.cut[from][to] {
            return;
        }
        let copies =
            if self.random.chance(self.loss) { 0 } else { 1 + usize::from(self.random.chance(self.duplication)) };
        for copy in 0..copies {
            let way_ms = match &self.ways_ms {
                Some(ways_ms) => ways_ms[from][to],
                None => self.random.between(1, self.delay_ms.max(1)),
            };
            // A doubled frame may come much later: after a restart, in another window.
            let late_ms = if copy > 0 { self.random.between(0, 30_000) } else { 0 };
            self.after(way_ms + late_ms, event());
        }
    }

    /// Connections come and go with cuts and processes.
    fn connect(&mut self) {
        if self.now_ms < self.connect_ms {
            return;
        }
        self.connect_ms = self.now_ms + CONNECT_MS;
        let alive: Vec<Option<u64>> =
            self.nodes.iter().map(|node| node.process.as_ref().map(|process| process.incarnation)).collect();
        for from in 0..self.nodes.len() {
            for to in (0..self.nodes.len()).filter(|to| *to != from) {
                let is_cut = from < NODES && to < NODES && (self.cut[from][to] || self.cut[to][from]);
                let reached = alive[to].filter(|_| !is_cut);
                let rtt_ms = self.ways_ms.as_ref().map_or(self.delay_ms, |ways| ways[from][to] + ways[to][from]);
                let peer = self.nodes[to].name.clone();
                let Some(process) = self.process(from) else { continue };
                let known = process.connected.get(&to).copied();
                if known == reached {
                    continue;
                }
                match reached {
                    Some(incarnation) => {
                        process.connected.insert(to, incarnation);
                        self.put(from, Input::Connected { peer: peer.clone(), incarnation });
                        self.put(from, Input::Rtt { peer, rtt_ms: rtt_ms as f64 });
                    }
                    None => {
                        process.connected.remove(&to);
                        self.put(from, Input::Disconnected { peer });
                    }
                }
            }
        }
    }

    fn beat(&mut self) {
        if self.now_ms < self.beat_ms {
            return;
        }
        self.beat_ms = self.now_ms + BEAT_MS;
        for from in 0..self.nodes.len() {
            let Some(promise) = self.process(from).and_then(|process| process.promise) else { continue };
            for to in (0..self.nodes.len()).filter(|to| *to != from) {
                self.send(from, to, || Event::Beat { from, to, promise });
            }
        }
    }

    /// The hits of one node in one tick, each a decision of its counters.
    fn traffic(&mut self, index: usize) {
        let shares: u64 = self.nodes.iter().map(|node| node.share).sum();
        let now_ms = self.now_ms;
        let node = &mut self.nodes[index];
        let unix_ms = node.now(now_ms).cluster_ms;
        node.latest_ms = node.latest_ms.max(unix_ms);
        let Some(process) = &node.process else { return };
        node.due += self.hits_per_ms * TICK_MS as f64 * node.share as f64 / shares.max(1) as f64;
        let hits = node.due as u64;
        node.due -= hits as f64;
        for hit in 0..hits {
            let subject = (hit as usize + self.requests as usize) % self.subjects;
            let limits = &node.limits[subject];
            self.requests += 1;
            let admitted = process.counters.hit(1 + subject as u64, Reach::Strict, limits, unix_ms).admitted;
            self.admitted += u64::from(admitted);
            for limit in limits {
                let window = Window::at(limit.period, unix_ms / 1000);
                let (sum, greatest) = self.sums.entry((subject, window)).or_default();
                (*sum, *greatest) = (*sum + u64::from(admitted), (*greatest).max(limit.room()));
                assert!(*sum <= *greatest, "{sum} admitted in {window:?} of subject {subject}, limit {greatest}");
            }
        }
    }

    fn after(&mut self, pause_ms: u64, event: Event) {
        self.sequence += 1;
        self.events.insert(self.sequence, event);
        self.queue.push(Reverse((self.now_ms + pause_ms, self.sequence)));
    }
}

impl Node {
    fn now(&self, now_ms: u64) -> Now {
        Now { mono_ms: now_ms, cluster_ms: (BEGIN_MS + now_ms).saturating_add_signed(self.skew_ms) }
    }
}

fn node(index: usize) -> Node {
    Node {
        name: format!("node-{index:02}"),
        disk: None,
        disk_fails: false,
        incarnation: 0,
        skew_ms: 0,
        latest_ms: 0,
        process: None,
        registry: None,
        limits: (0..4).map(limits).collect(),
        share: 1,
        due: 0.0,
    }
}
