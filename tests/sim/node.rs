//! A node: the production cores, and a model of the disk that keeps its entities.

use std::collections::BTreeMap;

use tidegate::cluster::core::clock::Clock;
use tidegate::cluster::core::members::Members;
use tidegate::cluster::core::registers::{Held, Registers};
use tidegate::cluster::core::replica::Replica;
use tidegate_proto::Vector;
use tidegate_proto::frame::{Changed, Hello, Span, WholeRecord};

/// Unix ms at virtual time 0.
pub const EPOCH_MS: u64 = 1_764_000_000_000;

pub type Key = (String, [u8; 16]);

/// What survives a crash.
#[derive(Clone, Debug)]
pub struct Disk {
    /// The writer's name: the node's, and which disk of it this is. A new disk counts anew, so it is another writer.
    pub origin: String,
    pub vector: Vector,
    pub registers: Registers,
    pub docs: BTreeMap<Key, String>,
    pub clock: Clock,
    /// One history of a database: order decides, there are no registers.
    pub postgres: bool,
}

/// What is lost in a crash.
pub struct Process {
    pub members: Members,
    pub replica: Replica,
    /// By peer: (connection, the other end's index).
    pub links: BTreeMap<String, (u64, usize)>,
    pub donating: usize,
    pub inputs: u64,
    /// When its replica is woken next.
    pub wake_us: Option<u64>,
}

pub struct Node {
    pub name: String,
    pub region: usize,
    pub address: String,
    pub disk: Disk,
    pub disks: u32,
    pub incarnation: u64,
    pub process: Option<Process>,
    /// Does nothing and answers nothing until then (SIGSTOP); its inputs wait.
    pub stopped_until_us: u64,
    /// How far its wall clock is off.
    pub skew_ms: i64,
    /// The disk refuses writes.
    pub disk_fails: bool,
    /// When it last made sure that everything it applied only grows.
    pub applied: Vector,
}

impl Disk {
    pub fn new(origin: String, postgres: bool) -> Self {
        let vector = Vector { epoch: 1, ..Vector::default() };
        let (registers, docs, clock) = (Registers::default(), BTreeMap::new(), Clock::default());
        Self { origin, vector, registers, docs, clock, postgres }
    }

    /// Commits a write of this node in the embedded store.
    pub fn commit(&mut self, writes: &[(Key, Option<String>)], unix_ms: u64) -> Span {
        let mut changes = Vec::new();
        for ((kind, id), text) in writes {
            let time = self.clock.stamp(unix_ms, self.registers.time_of(kind, id));
            changes.push(Changed { kind: kind.clone(), id: *id, time, text: text.clone() });
        }
        let after = self.vector.count(&self.origin);
        let span = Span { epoch: self.vector.epoch, origin: self.origin.clone(), after, upto: after + 1, changes };
        self.take(std::slice::from_ref(&span), unix_ms);
        span
    }

    pub fn take(&mut self, spans: &[Span], unix_ms: u64) {
        for span in spans {
            let count = self.vector.count(&span.origin);
            if span.epoch != self.vector.epoch || span.after > count || span.upto <= count {
                continue;
            }
            let winners = if self.postgres { span.changes.iter().collect() } else { self.registers.winners(span) };
            for changed in winners {
                put(&mut self.docs, (changed.kind.clone(), changed.id), changed.text.clone());
                self.clock.hear(changed.time, unix_ms);
            }
            if !self.postgres {
                self.registers.merge(span);
            }
            self.vector.advance(&span.origin, span.upto);
        }
    }

    pub fn records(&self) -> Vec<WholeRecord> {
        if self.postgres {
            let record = |((kind, id), text): (&Key, &String)| WholeRecord {
                kind: kind.clone(),
                id: *id,
                time: 0,
                origin: String::new(),
                text: Some(text.clone()),
            };
            return self.docs.iter().map(record).collect();
        }
        let all = self.registers.after(None);
        let record = |entry: tidegate::cluster::core::registers::Entry<'_>| {
            let key = (entry.kind.to_owned(), *entry.id);
            let text = (entry.held == Held::Here).then(|| self.docs[&key].clone());
            WholeRecord { kind: key.0, id: key.1, time: entry.time, origin: entry.origin.to_owned(), text }
        };
        all.map(record).collect()
    }

    pub fn adopt(&mut self, vector: &Vector, records: &[WholeRecord], unix_ms: u64) {
        if self.postgres || vector.epoch > self.vector.epoch {
            if vector.covers(&self.vector) {
                self.vector = vector.clone();
                self.docs.clear();
                for record in records {
                    put(&mut self.docs, (record.kind.clone(), record.id), record.text.clone());
                }
            }
            return;
        }
        if vector.epoch < self.vector.epoch {
            return;
        }
        let adoption = self.registers.compare((&self.vector, vector), records, unix_ms);
        for key in &adoption.strays {
            self.docs.remove(key);
        }
        for record in &adoption.winners {
            put(&mut self.docs, (record.kind.clone(), record.id), record.text.clone());
        }
        self.registers.adopt(vector.epoch, &adoption);
        vector.counts.iter().for_each(|(origin, count)| self.vector.advance(origin, *count));
    }
}

impl Node {
    pub fn new(index: usize, postgres: bool) -> Self {
        let name = format!("n{index:02}");
        Self {
            region: index,
            address: format!("10.0.0.{}:8005", index + 1),
            disk: Disk::new(format!("{name}-1"), postgres),
            disks: 1,
            incarnation: 0,
            process: None,
            stopped_until_us: 0,
            skew_ms: 0,
            disk_fails: false,
            applied: Vector { epoch: 1, ..Vector::default() },
            name,
        }
    }

    pub fn unix_ms(&self, now_us: u64) -> u64 {
        (EPOCH_MS + now_us / 1_000).saturating_add_signed(self.skew_ms)
    }

    pub fn hello(&self) -> Hello {
        Hello {
            cluster_id: "sim".into(),
            node_id: self.name.clone(),
            region: crate::regions::REGIONS[self.region % crate::regions::REGIONS.len()].0.into(),
            incarnation: self.incarnation,
            address: self.address.clone(),
            version: "0.1.0".into(),
            oldest: 1,
            newest: 1,
            store: if self.disk.postgres { "postgres" } else { "embedded" }.into(),
            more: Vec::new(),
        }
    }

    /// The process starts on what the disk has.
    pub fn start(&mut self, now_us: u64) {
        self.incarnation = self.unix_ms(now_us).max(self.incarnation + 1);
        let members = Members::new(&self.hello(), self.disk.vector.clone());
        let replica = Replica::new(self.disk.vector.clone(), now_us / 1_000);
        self.process =
            Some(Process { members, replica, links: BTreeMap::new(), donating: 0, inputs: 0, wake_us: None });
    }

    pub fn lose_disk(&mut self) {
        self.disks += 1;
        self.disk = Disk::new(format!("{}-{}", self.name, self.disks), self.disk.postgres);
        self.applied = self.disk.vector.clone();
    }
}

pub fn put(docs: &mut BTreeMap<Key, String>, key: Key, text: Option<String>) {
    match text {
        Some(text) => docs.insert(key, text),
        None => docs.remove(&key),
    };
}
