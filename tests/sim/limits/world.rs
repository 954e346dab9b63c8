//! The world: virtual time, arrivals, the production cores, and the oracle that looks on.
//!
//! One thread, one queue of events, one seed. Hits go to the counters of the node they arrive at, or of the nearest one
//! that runs; what the exchange wants to send goes through the wire format and the network; connections, silence, restarts
//! and clocks are told to it as the mesh would.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::HashMap;
use std::rc::Rc;

use tidegate::cluster::core::tally::{Input, Output, Partition};
use tidegate::cluster::core::view::LimitRow;
use tidegate::counter::{Limit, Period, Reach, Window};
use tidegate_proto::codec::Decoded;
use tidegate_proto::frame::{Counts, Frame, Leave, VERSION};

use crate::limits::network::{Carrier, Delays, IDLE_US, Network, Way};
use crate::limits::oracle::{Actor, Decision, Oracle, Place};
use crate::limits::process::{Node, Process, START_MS};
use crate::limits::traffic::{Phase, Traffic};
use crate::random::Random;
use crate::regions::REGIONS;

/// The longest datagram, in bytes of a frame.
const DATAGRAM_LEN_MAX: usize = 1_150;
/// A dialler's pause between attempts.
const DIAL_PAUSE_US: u64 = 450_000;
/// Peers whose clocks a node looks at in a second.
const SAMPLES: usize = 8;
/// Polls of one process within a second of virtual time; more is a loop without end.
const POLLS_MAX: u64 = 5_000;
/// Frames that one poll may give out.
const OUTPUTS_MAX: usize = 4_096;
/// Longest frame of the exchange, in bytes.
const FRAME_LEN_MAX: usize = 64 << 10;

/// What a world begins with.
#[derive(Clone, Debug)]
pub struct Setup {
    pub nodes: usize,
    pub delays: Delays,
    pub seed: u64,
    pub capacity: usize,
    pub partition: Partition,
}

impl Setup {
    pub fn new(nodes: usize, seed: u64) -> Self {
        let delays = Delays::Regions { stretch: 1 };
        Self { nodes, delays, seed, capacity: 1_024, partition: Partition::Share }
    }
}

/// A limit on one subject.
#[derive(Debug)]
pub struct Key {
    pub subject: u64,
    pub period: Period,
    pub limit: f64,
    pub reach: Reach,
    /// Nodes whose configuration has another limit.
    pub limit_at: HashMap<usize, f64>,
    traffic: Traffic,
    /// The node of the arrival that waits in the queue.
    arrives_at: usize,
}

/// A frame on its way.
pub struct Sent {
    pub sender: Actor,
    pub frame: Frame,
    /// Encoded, in bytes.
    pub len: u64,
}

enum Event {
    Hit(u16),
    Poll {
        node: u16,
        run: u16,
    },
    Arrive {
        from: u16,
        to: u16,
        connection: u32,
        sent: Rc<Sent>,
    },
    Established {
        a: u16,
        b: u16,
        runs: [u16; 2],
    },
    /// `at` has heard nothing from `peer` for the idle time, if the connection is still that one.
    Silent {
        at: u16,
        peer: u16,
        connection: u32,
    },
    Second {
        node: u16,
        run: u16,
    },
}

struct Due {
    at_us: u64,
    sequence: u64,
    event: Event,
}

pub struct World {
    pub now_us: u64,
    pub random: Random,
    pub nodes: Vec<Node>,
    pub network: Network,
    pub keys: Vec<Key>,
    pub oracle: Oracle,
    pub messages: u64,
    setup: Setup,
    queue: BinaryHeap<Due>,
    sequence: u64,
    wire: HashMap<u64, u16>,
    indices: HashMap<String, usize>,
    second: u64,
}

impl World {
    pub fn new(setup: Setup) -> Self {
        let count = setup.nodes;
        let mut world = Self {
            now_us: 0,
            random: Random(setup.seed),
            nodes: (0..count).map(Node::new).collect(),
            network: Network::new(count, setup.delays, setup.seed),
            keys: Vec::new(),
            oracle: Oracle::default(),
            messages: 0,
            queue: BinaryHeap::new(),
            sequence: 0,
            wire: HashMap::new(),
            indices: (0..count).map(|index| (Node::new(index).name, index)).collect(),
            second: 0,
            setup,
        };
        (0..count).for_each(|index| world.start(index));
        world
    }

    /// A limit with its traffic; answers its place.
    pub fn add(&mut self, period: Period, limit: f64, phases: &[Phase]) -> usize {
        let place = self.keys.len();
        let counters = &self.nodes[0].process.as_ref().expect("a first node").counters;
        let subject = counters.subject(uuid::Uuid::nil(), uuid::Uuid::nil(), format!("key {place}").as_bytes());
        self.wire.insert(tidegate::counter::Counters::key(subject, period), place as u16);
        let traffic = Traffic::new(phases, self.nodes.len(), &mut self.random);
        let limit_at = HashMap::new();
        self.keys.push(Key { subject, period, limit, reach: Reach::Cluster, limit_at, traffic, arrives_at: 0 });
        self.arrival(place);
        place
    }

    pub fn run_ms(&mut self, ms: u64) {
        let until_us = self.now_us + ms * 1_000;
        while self.queue.peek().is_some_and(|due| due.at_us <= until_us) {
            let Some(Due { at_us, event, .. }) = self.queue.pop() else { break };
            self.now_us = at_us;
            self.count_anew();
            self.step(event);
        }
        self.now_us = until_us;
    }

    pub fn unix_us(&self) -> u64 {
        START_MS * 1_000 + self.now_us
    }

    /// The window of a key by the true clock.
    pub fn window(&self, key: usize) -> Window {
        Window::at(self.keys[key].period, self.unix_us() / 1_000_000)
    }

    /// The number of the window in which the world began.
    pub fn first_window(&self, period: Period) -> u32 {
        Window::at(period, START_MS / 1_000).number
    }

    /// A node's index and region, to be read.
    pub fn place(&self, node: u16) -> String {
        let (code, ..) = REGIONS[usize::from(node) % REGIONS.len()];
        format!("{node}/{code}")
    }

    pub fn start(&mut self, index: usize) {
        let Setup { capacity, partition, .. } = self.setup;
        self.nodes[index].start(index, capacity, partition, self.now_us);
        let run = self.nodes[index].runs();
        let offset_us = self.random.between(0, 1_000_000);
        self.after(offset_us, Event::Second { node: index as u16, run });
        for peer in 0..self.nodes.len() {
            if peer != index && self.nodes[peer].process.is_some() {
                self.dial(index, peer, 100_000);
            }
        }
        self.settle(index);
    }

    /// kill -9: nobody is told.
    pub fn crash(&mut self, index: usize) {
        let Some(process) = self.nodes[index].process.take() else { return };
        self.oracle.crashed(process.actor);
        self.fall_silent(index);
    }

    /// What it has is sent, goodbye is said, and the process ends.
    pub fn leave(&mut self, index: usize) {
        self.feed(index, Input::Drain);
        self.poll(index);
        let Some(sender) = self.nodes[index].process.as_ref().map(|process| process.actor) else { return };
        let goodbye = Rc::new(Sent { sender, frame: Frame::Leave(Leave { more: Vec::new() }), len: 8 });
        for peer in 0..self.nodes.len() {
            if self.network.open(index, peer).is_some() {
                self.transmit(index, peer, &goodbye, Carrier::Stream);
            }
        }
        self.nodes[index].process = None;
        self.fall_silent(index);
    }

    pub fn partition(&mut self, sides: &[&[usize]]) {
        for (number, side) in sides.iter().enumerate() {
            for other in &sides[number + 1..] {
                for (a, b) in side.iter().flat_map(|a| other.iter().map(move |b| (*a, *b))) {
                    self.cut(a, b);
                    self.cut(b, a);
                }
            }
        }
    }

    /// Nothing passes from `from` to `to`; as nothing is acknowledged, both ends hear silence.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.network.cut(from, to);
        for (at, peer) in [(from, to), (to, from)] {
            if let Some(connection) = self.network.open(at, peer) {
                self.after(IDLE_US, Event::Silent { at: at as u16, peer: peer as u16, connection });
            }
        }
    }

    pub fn heal(&mut self) {
        for (from, to) in self.network.heal() {
            let rtt_us = self.network.rtt_us(from, to);
            match (self.network.open(from, to), self.network.open(to, from)) {
                (Some(connection), Some(other)) if connection == other => {
                    for sent in self.network.release(from, to) {
                        let (from, to) = (from as u16, to as u16);
                        self.after(rtt_us, Event::Arrive { from, to, connection, sent });
                    }
                }
                _ => self.dial(from.min(to), from.max(to), DIAL_PAUSE_US),
            }
        }
    }

    /// From now on the node's clock shows so much more than the true one.
    pub fn set_clock(&mut self, index: usize, skew_ms: i64) {
        self.nodes[index].skew_us = skew_ms * 1_000;
        self.settle(index);
    }

    /// The rows that a node shows, by place of the key.
    pub fn rows(&mut self, index: usize) -> HashMap<u16, LimitRow> {
        let now_ms = self.nodes[index].cluster_ms(self.now_us);
        let Some(process) = self.nodes[index].process.as_mut() else { return HashMap::new() };
        let rows = process.tally.hottest(self.keys.len() + 1, now_ms);
        rows.into_iter().filter_map(|row| Some((*self.wire.get(&row.key)?, row))).collect()
    }

    pub fn process(&self, index: usize) -> &Process {
        self.nodes[index].process.as_ref().expect("a node that runs")
    }

    pub fn running(&self) -> impl Iterator<Item = usize> + use<> {
        let running: Vec<usize> = (0..self.nodes.len()).filter(|index| self.nodes[*index].process.is_some()).collect();
        running.into_iter()
    }

    fn after(&mut self, delay_us: u64, event: Event) {
        self.at(self.now_us + delay_us, event);
    }

    fn at(&mut self, at_us: u64, event: Event) {
        self.sequence += 1;
        self.queue.push(Due { at_us, sequence: self.sequence, event });
    }

    fn runs(&self, node: u16, run: u16) -> bool {
        let node = &self.nodes[usize::from(node)];
        node.runs() == run && node.process.is_some()
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Hit(key) => self.hit(usize::from(key)),
            Event::Poll { node, run } => {
                let now_us = self.now_us;
                let process = self.nodes[usize::from(node)].process.as_mut();
                if let Some(process) = process.filter(|process| process.actor.run == run && process.due_us == now_us) {
                    process.due_us = u64::MAX;
                    self.poll(usize::from(node));
                }
            }
            Event::Arrive { from, to, connection, sent } => {
                self.arrive(usize::from(from), usize::from(to), connection, &sent);
            }
            Event::Established { a, b, runs } => {
                if self.runs(a, runs[0]) && self.runs(b, runs[1]) {
                    self.established(usize::from(a), usize::from(b));
                }
            }
            Event::Silent { at, peer, connection } => self.silent(usize::from(at), usize::from(peer), connection),
            Event::Second { node, run } => {
                if self.runs(node, run) {
                    self.sample(usize::from(node));
                    self.after(1_000_000, Event::Second { node, run });
                }
            }
        }
    }

    fn arrival(&mut self, place: usize) {
        let key = &mut self.keys[place];
        if let Some((at_us, node)) = key.traffic.next(&mut self.random) {
            key.arrives_at = node;
            self.at(at_us.max(self.now_us), Event::Hit(place as u16));
        }
    }

    fn hit(&mut self, place: usize) {
        let node = self.nearest(self.keys[place].arrives_at);
        self.arrival(place);
        let Some(node) = node else { return };
        self.ask(node, place);
    }

    /// One request for a key at a node that runs.
    pub fn ask(&mut self, node: usize, place: usize) -> bool {
        let key = &self.keys[place];
        let limit = Limit { period: key.period, limit: *key.limit_at.get(&node).unwrap_or(&key.limit) };
        let unix_ms = self.nodes[node].unix_ms(self.now_us);
        let process = self.process(node);
        let verdict = process.counters.hit(key.subject, key.reach, &[limit], unix_ms);
        let (actor, roused) = (process.actor, process.was_roused());
        let decision = Decision {
            actor,
            key: place as u16,
            window: Window::at(key.period, verdict.at_ms / 1_000).number,
            true_window: Window::at(key.period, self.unix_us() / 1_000_000).number,
            admitted: verdict.admitted,
            usage: verdict.usage.first().copied().unwrap_or(0),
            room: limit.limit.max(0.0).ceil() as u64,
            now_us: self.now_us,
        };
        self.oracle.decided(&decision);
        if roused {
            self.settle(node);
        }
        verdict.admitted
    }

    /// The node itself, or the nearest that runs: where the network leads clients then.
    fn nearest(&self, node: usize) -> Option<usize> {
        if self.nodes[node].process.is_some() {
            return Some(node);
        }
        self.running().min_by_key(|other| self.network.rtt_us(node, *other))
    }

    fn dial(&mut self, a: usize, b: usize, pause_us: u64) {
        let delay_us = self.network.handshake_us(a, b, pause_us);
        let runs = [self.nodes[a].runs(), self.nodes[b].runs()];
        self.after(delay_us, Event::Established { a: a as u16, b: b as u16, runs });
    }

    fn established(&mut self, a: usize, b: usize) {
        if self.network.is_cut(a, b) || self.network.is_cut(b, a) {
            return self.dial(a, b, DIAL_PAUSE_US);
        }
        let both = (self.network.open(a, b), self.network.open(b, a));
        if matches!(both, (Some(one), Some(other)) if one == other) {
            return;
        }
        for (at, peer) in [(a, b), (b, a)] {
            self.close(at, peer);
        }
        self.network.connect(a, b);
        for (at, peer) in [(a, b), (b, a)] {
            let incarnation = self.process(peer).incarnation;
            let peer_name = self.nodes[peer].name.clone();
            self.feed(at, Input::Connected { peer: peer_name, incarnation });
            self.tell_rtt(at, peer);
        }
    }

    fn close(&mut self, at: usize, peer: usize) {
        if self.network.close(at, peer) && self.nodes[at].process.is_some() {
            let peer = self.nodes[peer].name.clone();
            self.feed(at, Input::Disconnected { peer });
        }
    }

    /// All who are connected to `index` will hear nothing any more.
    fn fall_silent(&mut self, index: usize) {
        for peer in 0..self.nodes.len() {
            self.network.close(index, peer);
            if let Some(connection) = self.network.open(peer, index) {
                self.after(IDLE_US, Event::Silent { at: peer as u16, peer: index as u16, connection });
            }
        }
    }

    fn silent(&mut self, at: usize, peer: usize, connection: u32) {
        let healed = !self.network.is_cut(at, peer) && !self.network.is_cut(peer, at);
        let heard = healed && self.network.open(peer, at) == Some(connection);
        if heard || self.network.open(at, peer) != Some(connection) {
            return;
        }
        self.close(at, peer);
        if self.nodes[at].process.is_some() {
            let peer = self.nodes[peer].name.clone();
            self.feed(at, Input::Gone { peer });
        }
        // Both run and the way is free again, but this end gave up: it is found by dialling.
        if self.nodes[at].process.is_some() && self.nodes[peer].process.is_some() {
            self.dial(at.min(peer), at.max(peer), DIAL_PAUSE_US);
        }
    }

    /// Clocks and round trips, as beats show them each second.
    fn sample(&mut self, index: usize) {
        let count = self.nodes.len();
        let first = self.random.below(count);
        let peers = (0..count).map(|step| (first + step) % count);
        let peers: Vec<usize> = peers.filter(|peer| self.network.open(index, *peer).is_some()).take(SAMPLES).collect();
        for peer in peers {
            if self.nodes[peer].process.is_none()
                || self.network.is_cut(index, peer)
                || self.network.is_cut(peer, index)
            {
                continue;
            }
            self.tell_rtt(index, peer);
            let queued_us = [self.random.between(0, 2_000), self.random.between(0, 2_000)];
            let rtt_us = self.network.rtt_us(index, peer) + queued_us[0] + queued_us[1];
            // What the peer's clock showed when it answered, against the middle of the round trip here.
            let error_us = (queued_us[0] as i64 - queued_us[1] as i64) / 2;
            let offset_us = self.nodes[peer].skew_us - self.nodes[index].skew_us + error_us;
            let name = self.nodes[peer].name.clone();
            let unix_ms = self.nodes[index].unix_ms(self.now_us);
            let Some(process) = self.nodes[index].process.as_mut() else { return };
            process.offsets.on_sample(&name, offset_us / 1_000, rtt_us / 1_000, unix_ms);
        }
        let unix_ms = self.nodes[index].unix_ms(self.now_us);
        let Some(process) = self.nodes[index].process.as_mut() else { return };
        process.counters.set_offset_ms(process.offsets.offset_ms(unix_ms));
        self.settle(index);
    }

    fn tell_rtt(&mut self, at: usize, peer: usize) {
        let rtt_ms = (self.network.rtt_us(at, peer) + self.random.between(0, 2_000)) / 1_000;
        let peer = self.nodes[peer].name.clone();
        self.feed(at, Input::Rtt { peer, rtt_ms });
    }

    fn feed(&mut self, index: usize, input: Input) {
        let now_ms = self.nodes[index].cluster_ms(self.now_us);
        if let Some(process) = self.nodes[index].process.as_mut() {
            process.tally.on(input, now_ms);
            self.settle(index);
        }
    }

    /// Sees to it that the exchange is polled when it wants to be.
    fn settle(&mut self, index: usize) {
        let Some(process) = self.nodes[index].process.as_ref() else { return };
        let wake_ms = process.tally.wake_ms();
        if wake_ms == u64::MAX {
            return;
        }
        let due_us = self.nodes[index].until_us(wake_ms, self.now_us);
        let Some(process) = self.nodes[index].process.as_mut() else { return };
        if due_us < process.due_us || process.due_us < self.now_us {
            process.due_us = due_us;
            let (node, run) = (process.actor.node, process.actor.run);
            self.at(due_us, Event::Poll { node, run });
        }
    }

    fn poll(&mut self, index: usize) {
        let now_ms = self.nodes[index].cluster_ms(self.now_us);
        let Some(process) = self.nodes[index].process.as_mut() else { return };
        process.polls += 1;
        assert!(process.polls <= POLLS_MAX, "I12: node {index} runs in circles");
        let outputs = process.tally.poll(now_ms);
        assert!(outputs.len() <= OUTPUTS_MAX, "I8: {} frames from one poll", outputs.len());
        for output in outputs {
            let Output::Send { peers, frame, urgent } = output;
            self.send(index, &peers, frame, urgent);
        }
        self.settle(index);
    }

    fn send(&mut self, index: usize, peers: &[String], frame: Frame, urgent: bool) {
        let frames = match frame {
            Frame::Counts(counts) if urgent => counts.split(DATAGRAM_LEN_MAX).into_iter().map(Frame::Counts).collect(),
            other => vec![other],
        };
        let sender = self.process(index).actor;
        let open = (0..self.nodes.len()).filter(|peer| self.network.open(index, *peer).is_some()).count();
        let to_all = peers.len() >= open;
        let carrier = if urgent { Carrier::Datagram } else { Carrier::Stream };
        for frame in frames {
            let bytes = frame.encode(VERSION).expect("a frame that can be sent");
            assert!(bytes.len() <= FRAME_LEN_MAX, "I8: a frame of {} bytes", bytes.len());
            let Ok(Decoded::Frame(frame)) = Frame::decode(&bytes) else { panic!("a frame that can be read") };
            if let Frame::Counts(counts) = &frame {
                self.look_at(sender, counts, |oracle, actor, place, count| {
                    oracle.sent(sender, actor, place, count, to_all);
                });
            }
            let sent = Rc::new(Sent { sender, frame, len: bytes.len() as u64 });
            for peer in peers {
                let Some(peer) = self.indices.get(peer).copied() else { continue };
                self.transmit(index, peer, &sent, carrier);
            }
        }
    }

    fn transmit(&mut self, from: usize, to: usize, sent: &Rc<Sent>, carrier: Carrier) {
        let Some(connection) = self.network.open(from, to) else { return };
        self.messages += 1;
        match self.network.send(from, to, sent, carrier, self.now_us) {
            Way::Arrives(times) => {
                for at_us in times.into_iter().flatten() {
                    let (from, to) = (from as u16, to as u16);
                    self.at(at_us, Event::Arrive { from, to, connection, sent: sent.clone() });
                }
            }
            Way::Held => {}
            Way::Refused => {
                let peer = self.nodes[to].name.clone();
                self.feed(from, Input::Congested { peer });
            }
        }
    }

    fn arrive(&mut self, from: usize, to: usize, connection: u32, sent: &Sent) {
        if self.nodes[to].process.is_none() || self.network.open(to, from) != Some(connection) {
            return;
        }
        let peer = self.nodes[from].name.clone();
        match &sent.frame {
            Frame::Counts(counts) => {
                let receiver = self.process(to).actor;
                self.look_at(sent.sender, counts, |oracle, actor, place, count| {
                    oracle.received(receiver, actor, place, count);
                });
                self.feed(to, Input::Counts { peer, counts: counts.clone() });
            }
            Frame::CountsPull(_) => self.feed(to, Input::CountsPull { peer }),
            Frame::Leave(_) => {
                self.close(to, from);
                self.feed(to, Input::Gone { peer });
            }
            other => panic!("the exchange of counters sent {other:?}"),
        }
    }

    /// Calls `seen` with actor, place and count of each slot.
    fn look_at(&mut self, sender: Actor, counts: &Counts, seen: impl Fn(&mut Oracle, Actor, Place, u64)) {
        for group in &counts.groups {
            let actor = match &group.source {
                None => Some(sender),
                Some((name, incarnation)) => self.actor(name, *incarnation),
            };
            let Some(actor) = actor else { panic!("a slot of {:?}, whom nobody knows", group.source) };
            for slot in &group.slots {
                let Some(key) = self.wire.get(&slot.key) else {
                    panic!("a slot of key {:x}, that nobody has", slot.key)
                };
                seen(&mut self.oracle, actor, (*key, group.window), slot.count);
            }
        }
    }

    fn actor(&self, name: &str, incarnation: u64) -> Option<Actor> {
        let node = *self.indices.get(name)?;
        let run = self.nodes[node].incarnations.iter().position(|known| *known == incarnation)?;
        Some(Actor { node: node as u16, run: run as u16 + 1 })
    }

    /// I12: polls are counted anew each second.
    fn count_anew(&mut self) {
        let second = self.now_us / 1_000_000;
        if second != self.second {
            self.second = second;
            self.nodes.iter_mut().filter_map(|node| node.process.as_mut()).for_each(|process| process.polls = 0);
        }
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The earliest is the greatest, as the heap gives out the greatest.
impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at_us, other.sequence).cmp(&(self.at_us, self.sequence))
    }
}
