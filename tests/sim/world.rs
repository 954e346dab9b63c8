//! The world: virtual time, the network, faults, and the invariants that are looked at after every step.
//!
//! Connections are what QUIC makes of a lossy network: frames of the control stream arrive in order, spans each have a
//! stream of their own; a lost packet costs one more round trip; an end that hears nothing for 8 s gives up, and a process
//! that does not know the connection answers with a reset. A handshake takes one round trip.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::rc::Rc;

use tidegate::cluster::core::members::Heard;
use tidegate::cluster::core::replica::{Input, Output};
use tidegate::cluster::core::view::{State, View};
use tidegate_proto::Vector;
use tidegate_proto::frame::{Frame, Leave, Span, Spans, VERSION, WholeRecord};

use crate::database::Database;
use crate::node::{Disk, Key, Node};
use crate::random::Random;
use crate::regions::rtt_us;

const TICK_US: u64 = 100_000;
const IDLE_US: u64 = 8_000_000;
/// A handshake that takes longer is given up; further ones may begin beside it, after a pause.
const DIAL_US: u64 = 1_500_000;
const DIAL_PAUSE_US: u64 = 450_000;
/// When a first packet is sent again.
const SYN_AGAIN_US: [u64; 3] = [0, 300_000, 900_000];
/// The keeper's disk.
const TAKE_US: u64 = 2_000;
const ADOPT_US: u64 = 20_000;
/// Transfers that a donor serves at once, and bytes per microsecond.
const DONATIONS_MAX: usize = 2;
const DONOR_SPEED: u64 = 8;
/// UDP payload around a frame: short header with connection id 11, tag 16, stream frame 6; and an acknowledgement of 40
/// bytes for it on the way back.
const PACKET_OVERHEAD: u64 = 33;
const ACK_LEN: u64 = 40;
const PACKET_LEN: u64 = 1_200;
/// Inputs of one node within a second of virtual time; more is a loop without end.
const INPUTS_MAX: u64 = 50_000;

#[derive(Debug, Default)]
pub struct Faults {
    pub loss: f64,
    pub duplication: f64,
    /// Spans are held back by up to so long, so that they overtake each other.
    pub reordering_us: u64,
    /// Directions in which nothing passes.
    pub cuts: BTreeSet<(usize, usize)>,
}

/// A write whose way is timed.
pub struct Commit {
    pub at_us: u64,
    pub origin: String,
    pub upto: u64,
    pub missing: BTreeSet<usize>,
    pub done_us: u64,
}

struct Link {
    ends: [usize; 2],
    incarnations: [u64; 2],
    open: [bool; 2],
    heard_us: [u64; 2],
    /// Numbers of ordered frames sent, and expected, by sending end; and frames that came too early.
    sent: [u64; 2],
    expected: [u64; 2],
    held: [BTreeMap<u64, Rc<Frame>>; 2],
}

enum Event {
    Tick(usize, u64),
    Wake(usize, u64),
    Gossip(usize, u64),
    Hints(usize, Rc<View>),
    Poll(usize, u64),
    /// A handshake arrives: (from, its incarnation, to, when the dialler gives up).
    Syn(usize, u64, usize, u64),
    SynAck(u64),
    Established(u64),
    /// (link, sending end, place in the order, frame)
    Arrive(u64, usize, Option<u64>, Rc<Frame>),
    Reset(u64, usize),
    Take(usize, u64, Vec<Span>),
    Adopt(usize, u64, Vector, Rc<Vec<WholeRecord>>),
    /// A donor is asked: (link, asking end).
    Ask(u64, usize),
    /// The last chunk arrives, or word that there will be none: (link, asking end, content).
    Answer(u64, usize, Option<(Vector, Rc<Vec<WholeRecord>>)>),
    Donated(usize, u64),
}

pub struct World {
    pub now_us: u64,
    pub random: Random,
    pub nodes: Vec<Node>,
    pub faults: Faults,
    pub database: Option<Database>,
    /// What was acknowledged, by the book: the newest write of each entity.
    pub oracle: BTreeMap<Key, (u64, String, Option<String>)>,
    pub commits: Vec<Commit>,
    /// UDP payload sent by each node, while `measures`.
    pub bytes: Vec<u64>,
    pub measures: bool,
    pub expelled: Vec<(usize, String, &'static str)>,
    pub pulls: u64,
    pub wholes: u64,
    /// Nodes that answer pulls without what they claim, never, or late.
    pub liars: BTreeSet<usize>,
    pub mutes: BTreeSet<usize>,
    events: BTreeMap<u64, Event>,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    sequence: u64,
    links: BTreeMap<u64, Link>,
    dialling: BTreeMap<(usize, String), u64>,
    busy_us: Vec<u64>,
    second: u64,
}

impl World {
    pub fn new(count: usize, seed: u64, postgres: bool) -> Self {
        let mut world = Self {
            now_us: 0,
            random: Random(seed),
            nodes: (0..count).map(|index| Node::new(index, postgres)).collect(),
            faults: Faults::default(),
            database: postgres.then(Database::default),
            oracle: BTreeMap::new(),
            commits: Vec::new(),
            bytes: vec![0; count],
            measures: false,
            expelled: Vec::new(),
            pulls: 0,
            wholes: 0,
            liars: BTreeSet::new(),
            mutes: BTreeSet::new(),
            events: BTreeMap::new(),
            queue: BinaryHeap::new(),
            sequence: 0,
            links: BTreeMap::new(),
            dialling: BTreeMap::new(),
            busy_us: vec![0; count],
            second: 0,
        };
        (0..count).for_each(|index| world.start(index));
        world
    }

    pub fn start(&mut self, index: usize) {
        self.nodes[index].start(self.now_us);
        let incarnation = self.nodes[index].incarnation;
        let offset = self.random.between(0, TICK_US);
        self.after(offset, Event::Tick(index, incarnation));
        self.after(offset * 9, Event::Gossip(index, incarnation));
        if self.database.is_some() {
            self.after(offset, Event::Poll(index, incarnation));
        }
    }

    /// kill -9: nobody is told.
    pub fn crash(&mut self, index: usize) {
        self.nodes[index].process = None;
    }

    pub fn leave(&mut self, index: usize) {
        let peers = self.peers(index);
        for peer in peers {
            self.send(index, &peer, Frame::Leave(Leave { more: Vec::new() }));
        }
    }

    pub fn run_ms(&mut self, ms: u64) {
        let until_us = self.now_us + ms * 1_000;
        while self.queue.peek().is_some_and(|Reverse((at_us, _))| *at_us <= until_us) {
            self.step();
        }
        self.now_us = until_us;
    }

    /// Runs until all running nodes are equal, and answers after how many ms.
    pub fn settle_ms(&mut self, limit_ms: u64) -> u64 {
        let since_us = self.now_us;
        while !self.is_equal() {
            assert!(self.now_us - since_us <= limit_ms * 1_000, "not equal after {limit_ms} ms: {}", self.state());
            self.run_ms(10);
        }
        (self.now_us - since_us) / 1_000
    }

    pub fn is_equal(&self) -> bool {
        let mut disks = self.nodes.iter().filter(|node| node.process.is_some()).map(|node| &node.disk);
        let Some(first) = disks.next() else { return true };
        disks.all(|disk| disk.vector == first.vector && disk.docs == first.docs)
    }

    /// I9: the state is what the acknowledged writes lead to.
    pub fn assert_oracle(&self) {
        let expected: BTreeMap<Key, String> = match &self.database {
            Some(database) => database.docs.clone(),
            None => {
                let there = |(key, (_, _, text)): (&Key, &(u64, String, Option<String>))| {
                    text.as_ref().map(|text| (key.clone(), text.clone()))
                };
                self.oracle.iter().filter_map(there).collect()
            }
        };
        for node in self.nodes.iter().filter(|node| node.process.is_some()) {
            assert_eq!(node.disk.docs, expected, "{} differs from what was acknowledged", node.name);
        }
    }

    /// Writes on a node; false where that is not possible now.
    pub fn commit(&mut self, index: usize, writes: &[(Key, Option<String>)]) -> bool {
        let now_us = self.now_us;
        if self.nodes[index].process.is_none() || self.nodes[index].disk_fails {
            return false;
        }
        let unix_ms = self.nodes[index].unix_ms(now_us);
        let span = if self.database.is_some() {
            if !self.catch_up(index) {
                return false;
            }
            let Some(database) = self.database.as_mut() else { return false };
            let span = database.commit(writes);
            self.nodes[index].disk.take(std::slice::from_ref(&span), unix_ms);
            span
        } else {
            let span = self.nodes[index].disk.commit(writes, unix_ms);
            for changed in &span.changes {
                let write = (changed.time, span.origin.clone(), changed.text.clone());
                let slot = self.oracle.entry((changed.kind.clone(), changed.id)).or_insert_with(|| write.clone());
                if (write.0, &write.1) > (slot.0, &slot.1) {
                    *slot = write;
                }
            }
            span
        };
        let missing = (0..self.nodes.len()).filter(|other| *other != index).collect();
        let (origin, upto) = (span.origin.clone(), span.upto);
        self.commits.push(Commit { at_us: now_us, origin, upto, missing, done_us: now_us });
        self.feed(index, Input::Local { span });
        self.settled(index);
        true
    }

    pub fn write(&mut self, index: usize, id: u8, text: &str) -> bool {
        self.commit(index, &[(("routes".to_owned(), [id; 16]), (!text.is_empty()).then(|| text.to_owned()))])
    }

    /// Nothing passes between nodes of different groups.
    pub fn partition(&mut self, groups: &[&[usize]]) {
        let group = |node: usize| groups.iter().position(|group| group.contains(&node));
        let count = self.nodes.len();
        let pairs = (0..count).flat_map(|a| (0..count).map(move |b| (a, b)));
        self.faults.cuts = pairs.filter(|(a, b)| group(*a) != group(*b)).collect();
    }

    pub fn heal(&mut self) {
        self.faults = Faults::default();
    }

    pub fn view(&self, index: usize) -> View {
        let process = self.nodes[index].process.as_ref().expect("a node that runs");
        process.members.view(self.now_us / 1_000)
    }

    pub fn state_of(&self, viewer: usize, index: usize) -> Option<State> {
        let name = &self.nodes[index].name;
        self.view(viewer).nodes.iter().find(|member| member.node_id == *name).map(|member| member.state)
    }

    /// Whether every running node sees every other running one alive.
    pub fn is_one_cluster(&self) -> bool {
        let up: Vec<usize> = (0..self.nodes.len()).filter(|index| self.nodes[*index].process.is_some()).collect();
        up.iter().all(|viewer| up.iter().all(|index| self.state_of(*viewer, *index) == Some(State::Alive)))
    }

    pub fn wait_ms(&mut self, limit_ms: u64, what: &str, condition: impl Fn(&Self) -> bool) -> u64 {
        let since_us = self.now_us;
        while !condition(self) {
            assert!(self.now_us - since_us <= limit_ms * 1_000, "not within {limit_ms} ms: {what}");
            self.run_ms(10);
        }
        (self.now_us - since_us) / 1_000
    }

    fn state(&self) -> String {
        let line = |node: &Node| {
            let links = node.process.as_ref().map_or(0, |process| process.links.len());
            format!("\n  {} {:?} links {links} docs {}", node.name, node.disk.vector, node.disk.docs.len())
        };
        self.nodes.iter().map(line).collect()
    }

    fn after(&mut self, delay_us: u64, event: Event) {
        self.sequence += 1;
        self.events.insert(self.sequence, event);
        self.queue.push(Reverse((self.now_us + delay_us, self.sequence)));
    }

    fn step(&mut self) {
        let Some(Reverse((at_us, number))) = self.queue.pop() else { return };
        self.now_us = self.now_us.max(at_us);
        let Some(event) = self.events.remove(&number) else { return };
        if let Some(index) = self.acts(&event) {
            let stopped_us = self.nodes[index].stopped_until_us;
            if stopped_us > self.now_us {
                return self.after(stopped_us - self.now_us, event);
            }
        }
        self.happen(event);
        self.check_liveness();
    }

    /// The node that an event happens to.
    fn acts(&self, event: &Event) -> Option<usize> {
        let end = |link: &u64, end: usize| self.links.get(link).map(|link| link.ends[end]);
        match event {
            Event::Tick(index, _) | Event::Wake(index, _) | Event::Gossip(index, _) | Event::Poll(index, _) => {
                Some(*index)
            }
            Event::Take(index, ..) | Event::Adopt(index, ..) | Event::Hints(index, _) => Some(*index),
            Event::Syn(_, _, to, _) => Some(*to),
            Event::SynAck(link) => end(link, 0),
            Event::Established(link) => end(link, 1),
            Event::Arrive(link, from, ..) | Event::Ask(link, from) => end(link, 1 - from),
            Event::Answer(link, asking, _) => end(link, *asking),
            Event::Reset(..) | Event::Donated(..) => None,
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick(index, incarnation) if self.runs(index, incarnation) => self.tick(index, incarnation),
            Event::Wake(index, incarnation) if self.runs(index, incarnation) => {
                if let Some(process) = self.nodes[index].process.as_mut() {
                    process.wake_us.take_if(|set_us| *set_us <= self.now_us);
                }
                self.feed(index, Input::Tick);
                self.settled(index);
            }
            Event::Gossip(index, incarnation) if self.runs(index, incarnation) => self.gossip(index, incarnation),
            Event::Poll(index, incarnation) if self.runs(index, incarnation) => self.poll(index, incarnation),
            Event::Hints(index, view) => self.hints(index, &view),
            Event::Syn(from, incarnation, to, until_us) => self.syn(from, incarnation, to, until_us),
            Event::SynAck(link) => self.establish(link, 0),
            Event::Established(link) => self.establish(link, 1),
            Event::Arrive(link, from, place, frame) => self.arrive(link, from, place, frame),
            Event::Reset(link, end) => self.close(link, end),
            Event::Take(index, incarnation, spans) if self.runs(index, incarnation) => {
                let unix_ms = self.nodes[index].unix_ms(self.now_us);
                if !self.nodes[index].disk_fails {
                    self.nodes[index].disk.take(&spans, unix_ms);
                }
                self.taken(index);
            }
            Event::Adopt(index, incarnation, vector, records) if self.runs(index, incarnation) => {
                let unix_ms = self.nodes[index].unix_ms(self.now_us);
                self.nodes[index].disk.adopt(&vector, &records, unix_ms);
                self.taken(index);
            }
            Event::Ask(link, asking) => self.donate(link, asking),
            Event::Answer(link, asking, content) => self.answered(link, asking, content),
            Event::Donated(index, incarnation) if self.runs(index, incarnation) => {
                if let Some(process) = self.nodes[index].process.as_mut() {
                    process.donating -= 1;
                }
            }
            // Of a process that is no more.
            _ => {}
        }
    }

    fn runs(&self, index: usize, incarnation: u64) -> bool {
        self.nodes[index].process.is_some() && self.nodes[index].incarnation == incarnation
    }

    fn hear(&mut self, index: usize, heard: Heard) {
        let now_ms = self.now_us / 1_000;
        if let Some(process) = self.nodes[index].process.as_mut() {
            process.members.on(heard, now_ms);
        }
    }

    fn feed(&mut self, index: usize, input: Input) {
        let now_ms = self.now_us / 1_000;
        let Some(process) = self.nodes[index].process.as_mut() else { return };
        process.inputs += 1;
        let outputs = process.replica.on(input, now_ms);
        for output in outputs {
            self.perform(index, output);
        }
    }

    fn perform(&mut self, index: usize, output: Output) {
        let incarnation = self.nodes[index].incarnation;
        match output {
            Output::Send { peer, frame } => {
                self.pulls += u64::from(matches!(frame, Frame::Pull(_)));
                self.send(index, &peer, frame);
            }
            Output::Take { spans } => self.work(index, TAKE_US, Event::Take(index, incarnation, spans)),
            Output::Fetch { peer } => {
                self.wholes += 1;
                let link = self.nodes[index].process.as_ref().and_then(|process| process.links.get(&peer).copied());
                match link {
                    Some((link, _)) => {
                        let delay_us = self.delay_us(index, self.links[&link].ends[1 - self.end(link, index)]);
                        let asking = self.end(link, index);
                        self.after(delay_us, Event::Ask(link, asking));
                    }
                    None => self.feed(index, Input::FetchFailed { peer }),
                }
            }
            Output::Expel { peer, why } => {
                self.expelled.push((index, peer.clone(), why));
                let link = self.nodes[index].process.as_ref().and_then(|process| process.links.get(&peer).copied());
                if let Some((link, _)) = link {
                    self.close(link, self.end(link, index));
                }
            }
        }
    }

    /// One thing after the other for the keeper.
    fn work(&mut self, index: usize, time_us: u64, event: Event) {
        let at_us = self.busy_us[index].max(self.now_us) + time_us;
        self.busy_us[index] = at_us;
        self.after(at_us - self.now_us, event);
    }

    /// After the keeper did something.
    fn taken(&mut self, index: usize) {
        let vector = self.nodes[index].disk.vector.clone();
        self.feed(index, Input::Taken { vector });
        self.settled(index);
    }

    /// After each event of a node: its position is told, its next wake is set, and I9 holds.
    fn settled(&mut self, index: usize) {
        let (now_us, now_ms) = (self.now_us, self.now_us / 1_000);
        let node = &mut self.nodes[index];
        let (unix_ms, incarnation, vector) = (node.unix_ms(now_us), node.incarnation, node.disk.vector.clone());
        if vector != node.applied {
            assert!(vector.covers(&node.applied), "I9: {} went back to {vector:?}", node.name);
            node.applied = vector.clone();
            for commit in self.commits.iter_mut().rev().take(200) {
                if vector.count(&commit.origin) >= commit.upto && commit.missing.remove(&index) {
                    commit.done_us = now_us;
                }
            }
        }
        let Some(process) = node.process.as_mut() else { return };
        process.members.on(Heard::Mine { vector, draining: false }, now_ms);
        let beats = process.members.beats(now_ms, unix_ms);
        let wake_ms = process.replica.wake_ms();
        if wake_ms < now_ms + TICK_US / 1_000 {
            let at_us = (wake_ms * 1_000).max(now_us + 2_000);
            if process.wake_us.is_none_or(|set_us| at_us < set_us) {
                process.wake_us = Some(at_us);
                self.after(at_us - now_us, Event::Wake(index, incarnation));
            }
        }
        for (peer, beat) in beats {
            self.send(index, &peer, Frame::Beat(beat));
        }
    }

    fn tick(&mut self, index: usize, incarnation: u64) {
        self.after(TICK_US, Event::Tick(index, incarnation));
        self.feed(index, Input::Tick);
        let now_ms = self.now_us / 1_000;
        let Some(process) = self.nodes[index].process.as_mut() else { return };
        let mut addresses = process.members.due_to_dial(now_ms);
        if process.links.is_empty() {
            // The seeds: the first nodes, whoever they are.
            addresses.extend(self.nodes.iter().take(3).map(|node| node.address.clone()));
        }
        for address in addresses {
            self.dial(index, address);
        }
        self.idle(index);
        self.settled(index);
    }

    /// Connections on which nothing was heard for too long.
    fn idle(&mut self, index: usize) {
        let Some(process) = self.nodes[index].process.as_ref() else { return };
        let links: Vec<u64> = process.links.values().map(|(link, _)| *link).collect();
        for link in links {
            let end = self.end(link, index);
            if self.now_us - self.links[&link].heard_us[end] > IDLE_US {
                self.close(link, end);
            }
        }
    }

    fn dial(&mut self, from: usize, address: String) {
        let Some(to) = self.nodes.iter().position(|node| node.address == address) else { return };
        let key = (from, address);
        if to == from || self.dialling.get(&key).is_some_and(|until_us| *until_us > self.now_us) {
            return;
        }
        self.dialling.insert(key, self.now_us + DIAL_PAUSE_US);
        let (until_us, incarnation) = (self.now_us + DIAL_US, self.nodes[from].incarnation);
        self.count(from, PACKET_LEN);
        for again_us in SYN_AGAIN_US {
            let delay_us = again_us + self.delay_us(from, to);
            self.after(delay_us, Event::Syn(from, incarnation, to, until_us));
        }
    }

    fn syn(&mut self, from: usize, incarnation: u64, to: usize, until_us: u64) {
        let cut = |cuts: &BTreeSet<(usize, usize)>| cuts.contains(&(to, from)) || cuts.contains(&(from, to));
        let linked = self.nodes[to].process.as_ref().is_some_and(|process| {
            let known = process.links.get(&self.nodes[from].name);
            known.is_some_and(|(link, _)| self.links[link].incarnations[1 - self.end(*link, to)] == incarnation)
        });
        if self.nodes[to].process.is_none() || !self.runs(from, incarnation) || cut(&self.faults.cuts) || linked {
            return;
        }
        let delay_us = self.delay_us(to, from);
        self.count(to, PACKET_LEN);
        if self.now_us + delay_us > until_us {
            return;
        }
        self.sequence += 1;
        let link = Link {
            ends: [from, to],
            incarnations: [incarnation, self.nodes[to].incarnation],
            open: [false, false],
            heard_us: [self.now_us; 2],
            sent: [0; 2],
            expected: [1; 2],
            held: [BTreeMap::new(), BTreeMap::new()],
        };
        self.links.insert(self.sequence, link);
        let number = self.sequence;
        self.after(delay_us, Event::SynAck(number));
    }

    /// The link is up at one end. An end that has one to the same process already keeps that.
    fn establish(&mut self, number: u64, end: usize) {
        let Some(link) = self.links.get(&number) else { return };
        let (me, peer) = (link.ends[end], link.ends[1 - end]);
        if !self.runs(me, link.incarnations[end]) {
            return;
        }
        let mut hello = self.nodes[peer].hello();
        hello.incarnation = link.incarnations[1 - end];
        let name = hello.node_id.clone();
        let old = self.nodes[me].process.as_ref().and_then(|process| process.links.get(&name).copied());
        if let Some((old, _)) = old {
            let old_end = self.end(old, me);
            if self.links[&old].incarnations[1 - old_end] >= hello.incarnation && self.links[&old].open[1 - old_end] {
                return;
            }
            self.close(old, old_end);
        }
        let Some(link) = self.links.get_mut(&number) else { return };
        link.open[end] = true;
        link.heard_us[end] = self.now_us;
        if let Some(process) = self.nodes[me].process.as_mut() {
            process.links.insert(name.clone(), (number, peer));
        }
        if end == 0 {
            let address = self.nodes[peer].address.clone();
            self.dialling.remove(&(me, address));
            let delay_us = self.delay_us(me, peer);
            self.after(delay_us, Event::Established(number));
        }
        let rtt_ms = rtt_us(self.nodes[me].region, self.nodes[peer].region) as f64 / 1e3;
        self.hear(me, Heard::Connected(hello));
        self.hear(me, Heard::Rtt { node_id: name.clone(), rtt_ms });
        self.feed(me, Input::Connected { peer: name });
        self.settled(me);
    }

    fn end(&self, link: u64, index: usize) -> usize {
        usize::from(self.links[&link].ends[1] == index)
    }

    fn close(&mut self, number: u64, end: usize) {
        let Some(link) = self.links.get_mut(&number) else { return };
        let (me, peer) = (link.ends[end], link.ends[1 - end]);
        let was = std::mem::replace(&mut link.open[end], false);
        if was && !self.faults.cuts.contains(&(me, peer)) {
            let delay_us = self.delay_us(me, peer);
            self.after(delay_us, Event::Reset(number, 1 - end));
        }
        let name = self.nodes[peer].name.clone();
        let Some(process) = self.nodes[me].process.as_mut() else { return };
        if process.links.get(&name).is_some_and(|(link, _)| *link == number) {
            process.links.remove(&name);
            self.hear(me, Heard::Disconnected { node_id: name.clone() });
            self.feed(me, Input::Disconnected { peer: name });
            self.settled(me);
        }
    }

    fn peers(&self, index: usize) -> Vec<String> {
        let process = self.nodes[index].process.as_ref();
        process.map(|process| process.links.keys().cloned().collect()).unwrap_or_default()
    }

    pub fn send(&mut self, index: usize, peer: &str, frame: Frame) {
        let link = self.nodes[index].process.as_ref().and_then(|process| process.links.get(peer).copied());
        let Some((number, to)) = link else { return };
        if self.measures {
            let len = frame.encode(VERSION).expect("a frame that can be sent").len() as u64;
            self.count(index, len + PACKET_OVERHEAD * len.div_ceil(PACKET_LEN));
            self.count(to, ACK_LEN);
        }
        let end = self.end(number, index);
        let ordered = !matches!(frame, Frame::Spans(_));
        let Some(link) = self.links.get_mut(&number) else { return };
        let place = ordered.then(|| {
            link.sent[end] += 1;
            link.sent[end]
        });
        let frame = Rc::new(frame);
        let mut delay_us = self.delay_us(index, to);
        if !ordered && self.faults.reordering_us > 0 {
            delay_us += self.random.between(0, self.faults.reordering_us);
        }
        if !ordered && self.random.chance(self.faults.duplication) {
            let again_us = delay_us + self.random.between(0, 500_000);
            self.after(again_us, Event::Arrive(number, end, None, frame.clone()));
        }
        self.after(delay_us, Event::Arrive(number, end, place, frame));
    }

    fn arrive(&mut self, number: u64, from: usize, place: Option<u64>, frame: Rc<Frame>) {
        let Some(link) = self.links.get(&number) else { return };
        let (sender, receiver) = (link.ends[from], link.ends[1 - from]);
        if self.faults.cuts.contains(&(sender, receiver)) {
            if link.open[from] && self.runs(sender, link.incarnations[from]) {
                let rtt = rtt_us(self.nodes[sender].region, self.nodes[receiver].region);
                self.after((2 * rtt).max(200_000), Event::Arrive(number, from, place, frame));
            }
            return;
        }
        let process = self.nodes[receiver].process.as_ref();
        let known = process.is_some_and(|process| process.links.values().any(|(link, _)| *link == number));
        if !known {
            // Nobody there, or a process that does not know the connection, which answers with a reset.
            let early = self.runs(receiver, link.incarnations[1 - from]) && link.open[from] && !link.open[1 - from];
            if early && self.now_us - link.heard_us[1 - from] < DIAL_US {
                return self.after(5_000, Event::Arrive(number, from, place, frame));
            }
            if process.is_some() && !self.faults.cuts.contains(&(receiver, sender)) {
                let delay_us = self.delay_us(receiver, sender);
                self.after(delay_us, Event::Reset(number, from));
            }
            return;
        }
        let now_us = self.now_us;
        let Some(link) = self.links.get_mut(&number) else { return };
        link.heard_us[1 - from] = now_us;
        let Some(place) = place else { return self.deliver(number, from, &frame) };
        link.held[from].insert(place, frame);
        while let Some(link) = self.links.get_mut(&number)
            && link.open[1 - from]
            && let Some(frame) = link.held[from].remove(&link.expected[from])
        {
            link.expected[from] += 1;
            self.deliver(number, from, &frame);
        }
    }

    /// I11: what a frame is taken for is what its connection proved.
    fn deliver(&mut self, number: u64, from: usize, frame: &Frame) {
        let Some(link) = self.links.get(&number) else { return };
        let (sender, me) = (link.ends[from], link.ends[1 - from]);
        let peer = self.nodes[sender].name.clone();
        let proved = self.nodes[me].process.as_ref().and_then(|process| process.links.get(&peer));
        assert_eq!(proved, Some(&(number, sender)), "I11: a frame that {peer} did not send");
        let frame = frame.clone();
        match frame {
            Frame::Beat(beat) => {
                self.hear(me, Heard::Beat { node_id: peer.clone(), beat: beat.clone() });
                self.feed(me, Input::Beat { peer, beat });
            }
            Frame::Spans(spans) => {
                self.hear(me, Heard::Frame { node_id: peer.clone() });
                self.feed(me, Input::Spans { peer, spans });
            }
            Frame::Pull(_) if self.mutes.contains(&me) => {}
            Frame::Pull(pull) if self.liars.contains(&me) => {
                let spans = Spans { spans: Vec::new(), vector: pull.vector, more: pull.more };
                self.send(me, &peer, Frame::Spans(spans));
            }
            Frame::Pull(pull) => self.feed(me, Input::Pull { peer, pull }),
            Frame::Whole(whole) => self.feed(me, Input::Whole { peer, whole }),
            Frame::Busy(busy) => self.feed(me, Input::Busy { peer, retry_after_ms: busy.retry_after_ms }),
            Frame::Leave(_) => self.hear(me, Heard::Left { node_id: peer }),
            // Limits have scenarios of their own.
            Frame::Counts(_) | Frame::CountsPull(_) | Frame::Ask(_) | Frame::Grant(_) => {}
            Frame::Hello(_) | Frame::Fetch(_) | Frame::Chunk(_) | Frame::Gossip(_) => {}
        }
        self.settled(me);
    }

    fn donate(&mut self, number: u64, asking: usize) {
        let Some(link) = self.links.get(&number) else { return };
        let (asker, donor) = (link.ends[asking], link.ends[1 - asking]);
        let runs = self.runs(donor, link.incarnations[1 - asking]);
        let delay_us = self.delay_us(donor, asker);
        let busy = !runs
            || self.mutes.contains(&donor)
            || self.nodes[donor].process.as_ref().is_some_and(|process| process.donating >= DONATIONS_MAX);
        if busy {
            let wait_us = if runs && !self.mutes.contains(&donor) { 0 } else { 2_000_000 };
            return self.after(delay_us + wait_us, Event::Answer(number, asking, None));
        }
        let disk: &Disk = &self.nodes[donor].disk;
        let (vector, records) = (disk.vector.clone(), Rc::new(disk.records()));
        let len: u64 = records.iter().map(|record| record.size() as u64).sum();
        let incarnation = self.nodes[donor].incarnation;
        if let Some(process) = self.nodes[donor].process.as_mut() {
            process.donating += 1;
        }
        self.after(len / DONOR_SPEED, Event::Donated(donor, incarnation));
        self.after(2 * delay_us + len / DONOR_SPEED, Event::Answer(number, asking, Some((vector, records))));
    }

    fn answered(&mut self, number: u64, asking: usize, content: Option<(Vector, Rc<Vec<WholeRecord>>)>) {
        let Some(link) = self.links.get(&number) else { return };
        let (asker, donor) = (link.ends[asking], link.ends[1 - asking]);
        if !self.runs(asker, link.incarnations[asking]) {
            return;
        }
        let whole = link.open[0] && link.open[1] && !self.faults.cuts.contains(&(donor, asker));
        match content.filter(|_| whole) {
            Some((vector, records)) => {
                let incarnation = self.nodes[asker].incarnation;
                self.work(asker, ADOPT_US, Event::Adopt(asker, incarnation, vector, records));
            }
            None => {
                let peer = self.nodes[donor].name.clone();
                self.feed(asker, Input::FetchFailed { peer });
                self.settled(asker);
            }
        }
    }

    /// Once a second a node tells a peer whom it knows; loss is not made up for.
    fn gossip(&mut self, index: usize, incarnation: u64) {
        self.after(1_000_000, Event::Gossip(index, incarnation));
        let peers = self.peers(index);
        if peers.is_empty() {
            return;
        }
        let peer = &peers[self.random.below(peers.len())];
        let to = self.nodes[index].process.as_ref().and_then(|process| process.links.get(peer)).map(|(_, to)| *to);
        let (Some(to), view) = (to, self.view(index)) else { return };
        // A digest and what differs: about 48 bytes for each member after compression, there and back.
        self.count(index, 48 * view.nodes.len() as u64 + PACKET_OVERHEAD);
        self.count(to, 48 * view.nodes.len() as u64 + PACKET_OVERHEAD);
        if !self.faults.cuts.contains(&(index, to)) && !self.random.chance(self.faults.loss) {
            let delay_us = self.delay_us(index, to);
            self.after(delay_us, Event::Hints(to, Rc::new(view)));
        }
    }

    fn hints(&mut self, index: usize, view: &View) {
        for member in view.nodes.iter().filter(|member| member.state != State::Left) {
            let hint = Heard::Hint {
                node_id: member.node_id.clone(),
                address: member.address.clone(),
                region: member.region.clone(),
                incarnation: member.incarnation,
                version: member.version.clone(),
            };
            self.hear(index, hint);
        }
    }

    /// The three lowest look after the database each second.
    fn poll(&mut self, index: usize, incarnation: u64) {
        let up = self.nodes[..index].iter().filter(|node| node.process.is_some()).count();
        self.after(if up < 3 { 1_000_000 } else { 60_000_000 }, Event::Poll(index, incarnation));
        self.catch_up(index);
    }

    /// Brings a node where the database is; false when that is away.
    fn catch_up(&mut self, index: usize) -> bool {
        let Some(database) = self.database.as_mut().filter(|database| database.up) else { return false };
        let disk = &mut self.nodes[index].disk;
        let missed = database.since(&disk.vector);
        match missed {
            Some(spans) => {
                for span in spans {
                    self.nodes[index].disk.take(std::slice::from_ref(&span), 0);
                    self.feed(index, Input::Local { span });
                }
                self.settled(index);
            }
            None => {
                (disk.vector, disk.docs) = (database.vector(), database.docs.clone());
                self.taken(index);
            }
        }
        true
    }

    fn delay_us(&mut self, from: usize, to: usize) -> u64 {
        let rtt = rtt_us(self.nodes[from].region, self.nodes[to].region);
        let mut delay_us = rtt / 2 + self.random.between(0, 1_000);
        while self.random.chance(self.faults.loss) {
            delay_us += rtt;
        }
        delay_us
    }

    fn count(&mut self, index: usize, bytes: u64) {
        if self.measures {
            self.bytes[index] += bytes;
        }
    }

    /// I12: nobody runs in circles.
    fn check_liveness(&mut self) {
        let second = self.now_us / 1_000_000;
        if second != self.second {
            self.second = second;
            for node in &mut self.nodes {
                if let Some(process) = node.process.as_mut() {
                    assert!(process.inputs <= INPUTS_MAX, "I12: {} runs in circles", node.name);
                    process.inputs = 0;
                }
            }
            let now_us = self.now_us;
            self.links.retain(|_, link| {
                link.open[0] || link.open[1] || now_us - link.heard_us[0].max(link.heard_us[1]) < 2 * IDLE_US
            });
        }
    }
}
