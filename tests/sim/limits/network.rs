//! The network under the exchange of counters: connections, what they lose, hold back and repeat, and who is cut off.
//!
//! A datagram arrives once, twice, late or never. Frames on streams arrive in their order; each loss costs one more round
//! trip. A cut holds streams back and swallows datagrams; an end that hears nothing for eight seconds gives the connection
//! up. A slow peer takes its bytes at a rate, and what would wait longer than half a second is refused at the sender.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use crate::limits::world::Sent;
use crate::random::Random;
use crate::regions::rtt_us;

/// Silence after which an end gives up.
pub const IDLE_US: u64 = 8_000_000;
/// UDP payload around a frame: short header, tag, stream frame; and an acknowledgement on the way back.
const PACKET_OVERHEAD: u64 = 33;
const ACK_LEN: u64 = 40;
const PACKET_LEN: u64 = 1_200;
/// What may wait for a slow peer.
const QUEUE_US: u64 = 500_000;
/// Frames that wait in a stream that makes no progress.
const HELD_MAX: usize = 2;
/// Work at both ends, and what queues on the way.
const JITTER_US: u64 = 1_000;

/// How long the way between two nodes takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Delays {
    /// Nodes take the regions in turn; all round trips times this.
    Regions { stretch: u64 },
    /// Every round trip takes this.
    Fixed { rtt_us: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    Stream,
    Datagram,
}

/// What a frame's way comes to.
pub enum Way {
    /// At these times; a datagram that was repeated has two, one that was lost none.
    Arrives([Option<u64>; 2]),
    /// Waits in the stream until the cut is healed.
    Held,
    /// There is no room towards this peer.
    Refused,
}

/// One direction of a connection.
#[derive(Default)]
struct Link {
    open: bool,
    /// Which of the connections that these two have had.
    connection: u32,
    /// When the last frame on a stream arrives.
    ordered_us: u64,
    /// When the slow peer will have taken all that waits.
    busy_us: u64,
}

pub struct Network {
    pub loss: f64,
    pub duplication: f64,
    pub reordering_us: u64,
    /// Bytes a second that a node takes, when it is slow.
    pub speeds: Vec<Option<u64>>,
    /// UDP payload sent by each node.
    pub bytes: Vec<u64>,
    /// Content of frames that was sent to each.
    pub received: Vec<u64>,
    delays: Delays,
    count: usize,
    cuts: BTreeSet<(usize, usize)>,
    links: Vec<Link>,
    held: BTreeMap<(usize, usize), VecDeque<Rc<Sent>>>,
    random: Random,
}

impl Network {
    pub fn new(count: usize, delays: Delays, seed: u64) -> Self {
        Self {
            loss: 0.0,
            duplication: 0.0,
            reordering_us: 0,
            speeds: vec![None; count],
            bytes: vec![0; count],
            received: vec![0; count],
            delays,
            count,
            cuts: BTreeSet::new(),
            links: std::iter::repeat_with(Link::default).take(count * count).collect(),
            held: BTreeMap::new(),
            random: Random(seed ^ 0x6e65_7477),
        }
    }

    pub fn rtt_us(&self, a: usize, b: usize) -> u64 {
        match self.delays {
            Delays::Regions { stretch } => rtt_us(a, b) * stretch,
            Delays::Fixed { rtt_us } => rtt_us,
        }
    }

    /// A handshake, that begins at some moment of the dialler's pause.
    pub fn handshake_us(&mut self, a: usize, b: usize, pause_us: u64) -> u64 {
        let mut delay_us = self.random.between(0, pause_us) + self.rtt_us(a, b) + JITTER_US;
        while self.random.chance(self.loss) {
            delay_us += 300_000;
        }
        delay_us
    }

    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        !self.cuts.is_empty() && self.cuts.contains(&(from, to))
    }

    pub fn cut(&mut self, from: usize, to: usize) {
        self.cuts.insert((from, to));
    }

    /// Ends all cuts; answers which there were.
    pub fn heal(&mut self) -> BTreeSet<(usize, usize)> {
        std::mem::take(&mut self.cuts)
    }

    /// What waited in the streams from `from` to `to`.
    pub fn release(&mut self, from: usize, to: usize) -> VecDeque<Rc<Sent>> {
        self.held.remove(&(from, to)).unwrap_or_default()
    }

    /// The connection that `from` holds to be open towards `to`.
    pub fn open(&self, from: usize, to: usize) -> Option<u32> {
        let link = &self.links[from * self.count + to];
        link.open.then_some(link.connection)
    }

    /// Both ends have a new connection.
    pub fn connect(&mut self, a: usize, b: usize) -> u32 {
        let connection = self.links[a * self.count + b].connection.max(self.links[b * self.count + a].connection) + 1;
        for (from, to) in [(a, b), (b, a)] {
            self.held.remove(&(from, to));
            self.links[from * self.count + to] = Link { open: true, connection, ..Link::default() };
        }
        connection
    }

    /// `from` no longer holds its connection to `to` to be open; false: it did not before.
    pub fn close(&mut self, from: usize, to: usize) -> bool {
        self.held.remove(&(from, to));
        std::mem::replace(&mut self.links[from * self.count + to].open, false)
    }

    /// Sends a frame over the open connection.
    pub fn send(&mut self, from: usize, to: usize, sent: &Rc<Sent>, carrier: Carrier, now_us: u64) -> Way {
        let len = sent.len;
        let cut = self.is_cut(from, to);
        let rtt_us = self.rtt_us(from, to);
        if let Some(speed) = self.speeds[to] {
            let link = &mut self.links[from * self.count + to];
            if link.busy_us > now_us + QUEUE_US {
                return if carrier == Carrier::Datagram { Way::Arrives([None; 2]) } else { Way::Refused };
            }
            link.busy_us = link.busy_us.max(now_us) + len * 1_000_000 / speed;
        }
        let packets = len.div_ceil(PACKET_LEN);
        self.bytes[from] += len + PACKET_OVERHEAD * packets;
        self.received[to] += len;
        self.bytes[to] += ACK_LEN;
        let mut arrival_us = now_us + rtt_us / 2 + self.random.between(0, JITTER_US);
        if self.speeds[to].is_some() {
            arrival_us += self.links[from * self.count + to].busy_us.saturating_sub(now_us);
        }
        match carrier {
            Carrier::Datagram => self.datagram(arrival_us, cut),
            Carrier::Stream if cut => {
                let held = self.held.entry((from, to)).or_default();
                if held.len() >= HELD_MAX {
                    return Way::Refused;
                }
                held.push_back(sent.clone());
                Way::Held
            }
            Carrier::Stream => {
                while self.random.chance(self.loss) {
                    arrival_us += rtt_us;
                }
                let link = &mut self.links[from * self.count + to];
                link.ordered_us = link.ordered_us.max(arrival_us);
                Way::Arrives([Some(link.ordered_us), None])
            }
        }
    }

    fn datagram(&mut self, mut arrival_us: u64, cut: bool) -> Way {
        if self.reordering_us > 0 {
            arrival_us += self.random.between(0, self.reordering_us);
        }
        let arrives = !cut && !self.random.chance(self.loss);
        let again = !cut && self.random.chance(self.duplication);
        let later_us = arrival_us + self.random.between(0, 200_000);
        Way::Arrives([arrives.then_some(arrival_us), again.then_some(later_us)])
    }
}
