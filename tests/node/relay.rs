//! A network between nodes on one machine: every packet passes here and meets the delay, loss and cuts of its link.
//!
//! Node I listens at an address of its own and tells peers another one, where the relay stands for it. A packet from I to
//! the relay's address for J goes on to J from the relay's address for I: each node sees each peer at one address, and
//! what it answers comes back through here. Threads and blocking sockets, so that the delays do not depend on the
//! runtime under test. Chance comes from a seed, per link, so that one link's packets do not change another's luck.
//!
//! Network namespaces lost: they need privileges, and cannot be changed between two packets.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Packets on their way at once; more are dropped, as a router would.
const UNDERWAY_MAX: usize = 100_000;
/// Packets that are remembered for `replay`, per link.
const REMEMBERED_MAX: usize = 2000;
const PACKET_LEN_MAX: usize = 65_536;
/// How often a thread that reads looks whether it should end.
const PATIENCE: Duration = Duration::from_millis(50);

/// What happens to packets from one node to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// One way.
    pub delay: Duration,
    /// Added to the delay, evenly spread from zero; above zero packets overtake each other.
    pub jitter: Duration,
    /// Share of packets that are dropped, 0 to 1.
    pub loss: f64,
    /// Share of packets that arrive twice.
    pub duplicate: f64,
    /// Longer UDP payloads are dropped without a word, in bytes.
    pub len_max: usize,
    pub cut: bool,
}

impl Default for Link {
    fn default() -> Self {
        let (delay, jitter) = (Duration::ZERO, Duration::ZERO);
        Self { delay, jitter, loss: 0.0, duplicate: 0.0, len_max: PACKET_LEN_MAX, cut: false }
    }
}

impl Link {
    /// A link that is only slow: `ms` one way.
    pub fn delayed(ms: u64) -> Self {
        Self { delay: Duration::from_millis(ms), ..Self::default() }
    }
}

/// The network of `nodes`; it ends when this is dropped.
pub struct Relay {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    /// Where nodes really are.
    nodes: Vec<SocketAddr>,
    /// What stands for each of them.
    faces: Vec<UdpSocket>,
    links: Mutex<Vec<Lane>>,
    underway: Mutex<BinaryHeap<Reverse<Parcel>>>,
    wake: Condvar,
    stop: AtomicBool,
    order: AtomicU64,
    /// Packets from addresses that are no node's.
    strange: AtomicU64,
}

/// A link and its luck.
struct Lane {
    link: Link,
    random: u64,
    remember: bool,
    remembered: VecDeque<Vec<u8>>,
    passed: u64,
    stopped: u64,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Parcel {
    due: Instant,
    /// Parcels of one moment leave as they came.
    order: u64,
    from: usize,
    to: usize,
    bytes: Vec<u8>,
}

impl Relay {
    /// Stands between nodes that listen at `nodes`, with perfect links at first.
    pub fn new(nodes: &[SocketAddr], seed: u64) -> Self {
        let faces: Vec<_> = nodes.iter().map(face).collect();
        let lane = |number: usize| Lane::new(seed ^ (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let shared = Arc::new(Shared {
            nodes: nodes.to_vec(),
            faces,
            links: Mutex::new((0..nodes.len() * nodes.len()).map(lane).collect()),
            underway: Mutex::default(),
            wake: Condvar::new(),
            stop: AtomicBool::new(false),
            order: AtomicU64::new(0),
            strange: AtomicU64::new(0),
        });
        let mut threads = vec![start({
            let shared = shared.clone();
            move || shared.deliver()
        })];
        for to in 0..nodes.len() {
            let shared = shared.clone();
            threads.push(start(move || shared.receive(to)));
        }
        Self { shared, threads }
    }

    /// What peers dial to reach a node: its `cluster_advertise`.
    pub fn address(&self, node: usize) -> SocketAddr {
        self.shared.faces[node].local_addr().unwrap()
    }

    /// Changes the link from one node to another, in this direction only.
    pub fn set(&self, from: usize, to: usize, link: Link) {
        self.lane(from, to, |lane| lane.link = link);
    }

    /// Changes the links between all nodes.
    pub fn set_all(&self, link: Link) {
        self.shared.links().iter_mut().for_each(|lane| lane.link = link);
    }

    /// Nothing passes between two nodes any more.
    pub fn cut(&self, a: usize, b: usize) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Nothing passes from one node to another; the other direction stays.
    pub fn cut_one_way(&self, from: usize, to: usize) {
        self.lane(from, to, |lane| lane.link.cut = true);
    }

    /// Nothing passes between nodes of different groups. Nodes in no group are left alone.
    pub fn partition(&self, groups: &[&[usize]]) {
        for (at, group) in groups.iter().enumerate() {
            for (a, b) in group.iter().flat_map(|a| groups[at + 1..].concat().into_iter().map(move |b| (*a, b))) {
                self.cut(a, b);
            }
        }
    }

    /// Ends all cuts; delays and losses stay.
    pub fn heal(&self) {
        self.shared.links().iter_mut().for_each(|lane| lane.link.cut = false);
    }

    /// From now on packets from one node to another are remembered, the first of them.
    pub fn remember(&self, from: usize, to: usize) {
        self.lane(from, to, |lane| lane.remember = true);
    }

    /// Sends what was remembered once more, as it was; answers how many packets that were.
    pub fn replay(&self, from: usize, to: usize) -> usize {
        let remembered = self.lane(from, to, |lane| lane.remembered.clone());
        for bytes in &remembered {
            let _ = self.shared.faces[from].send_to(bytes, self.shared.nodes[to]);
        }
        remembered.len()
    }

    /// Packets that arrived at one node from another.
    pub fn passed(&self, from: usize, to: usize) -> u64 {
        self.lane(from, to, |lane| lane.passed)
    }

    /// Packets from one node to another that went no further.
    pub fn stopped(&self, from: usize, to: usize) -> u64 {
        self.lane(from, to, |lane| lane.stopped)
    }

    /// Packets from addresses that are no node's.
    pub fn strange(&self) -> u64 {
        self.shared.strange.load(Ordering::Relaxed)
    }

    fn lane<T>(&self, from: usize, to: usize, change: impl FnOnce(&mut Lane) -> T) -> T {
        change(&mut self.shared.links()[from * self.shared.nodes.len() + to])
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.wake.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Addresses for `count` nodes to listen at, 127.0.1.1 and on, each with a port that was free just now.
pub fn free_addresses(count: usize) -> Vec<SocketAddr> {
    let free = |node: usize| {
        let ip = IpAddr::from([127, 0, 1, u8::try_from(node + 1).unwrap()]);
        UdpSocket::bind((ip, 0)).unwrap().local_addr().unwrap()
    };
    (0..count).map(free).collect()
}

impl Shared {
    fn links(&self) -> MutexGuard<'_, Vec<Lane>> {
        self.links.lock().unwrap()
    }

    /// Takes packets for one node and decides what becomes of them.
    fn receive(&self, to: usize) {
        let mut buffer = vec![0; PACKET_LEN_MAX];
        while !self.stop.load(Ordering::Relaxed) {
            // An error is the read's end of patience, or the news that some node is not there.
            let Ok((len, source)) = self.faces[to].recv_from(&mut buffer) else { continue };
            match self.nodes.iter().position(|node| *node == source) {
                Some(from) => self.pass(from, to, &buffer[..len]),
                None => {
                    self.strange.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    fn pass(&self, from: usize, to: usize, bytes: &[u8]) {
        let now = Instant::now();
        let times = self.links()[from * self.nodes.len() + to].meet(bytes);
        for delay in times.into_iter().flatten() {
            let mut underway = self.underway.lock().unwrap();
            if underway.len() < UNDERWAY_MAX {
                let order = self.order.fetch_add(1, Ordering::Relaxed);
                underway.push(Reverse(Parcel { due: now + delay, order, from, to, bytes: bytes.to_vec() }));
                self.wake.notify_one();
            }
        }
    }

    /// Sends parcels on when they are due.
    fn deliver(&self) {
        let mut underway = self.underway.lock().unwrap();
        while !self.stop.load(Ordering::Relaxed) {
            let wait = underway.peek().map(|Reverse(next)| next.due.saturating_duration_since(Instant::now()));
            match wait {
                Some(Duration::ZERO) => {
                    if let Some(Reverse(parcel)) = underway.pop() {
                        drop(underway);
                        let _ = self.faces[parcel.from].send_to(&parcel.bytes, self.nodes[parcel.to]);
                        underway = self.underway.lock().unwrap();
                    }
                }
                wait => underway = self.wake.wait_timeout(underway, wait.unwrap_or(PATIENCE)).unwrap().0,
            }
        }
    }
}

impl Lane {
    fn new(seed: u64) -> Self {
        Self {
            link: Link::default(),
            random: seed,
            remember: false,
            remembered: VecDeque::new(),
            passed: 0,
            stopped: 0,
        }
    }

    /// When a packet arrives: not at all, once or twice.
    fn meet(&mut self, bytes: &[u8]) -> [Option<Duration>; 2] {
        let link = self.link;
        let (lost, twice) = (self.chance() < link.loss, self.chance() < link.duplicate);
        if lost || link.cut || bytes.len() > link.len_max {
            self.stopped += 1;
            return [None, None];
        }
        if self.remember {
            self.remembered.push_back(bytes.to_vec());
            self.remembered.truncate(REMEMBERED_MAX);
        }
        self.passed += 1;
        let first = link.delay + link.jitter.mul_f64(self.chance());
        let second = link.delay + link.jitter.mul_f64(self.chance());
        [Some(first), twice.then_some(second)]
    }

    /// From 0 to 1 (SplitMix64).
    fn chance(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A socket at 127.0.2.I for the node at 127.0.1.I.
fn face(node: &SocketAddr) -> UdpSocket {
    let IpAddr::V4(ip) = node.ip() else { panic!("nodes of the relay listen on IPv4") };
    let [a, b, c, d] = ip.octets();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    let _ = socket.set_recv_buffer_size(4 << 20);
    let _ = socket.set_send_buffer_size(4 << 20);
    socket.bind(&SocketAddr::from(([a, b, c + 1, d], 0)).into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.into()
}

fn start(work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::Builder::new().name("relay".into()).spawn(work).unwrap()
}

/// Two plain sockets behind a relay.
fn pair() -> (UdpSocket, UdpSocket, Relay) {
    let open = |ip: [u8; 4]| UdpSocket::bind(SocketAddr::from((ip, 0))).unwrap();
    let (a, b) = (open([127, 0, 1, 1]), open([127, 0, 1, 2]));
    for socket in [&a, &b] {
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    }
    let relay = Relay::new(&[a.local_addr().unwrap(), b.local_addr().unwrap()], 1);
    (a, b, relay)
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2000];
    let (len, source) = socket.recv_from(&mut buffer).unwrap();
    (buffer[..len].to_vec(), source)
}

#[test]
fn a_packet_comes_from_the_address_that_stands_for_its_sender() {
    let (a, b, relay) = pair();
    a.send_to(b"question", relay.address(1)).unwrap();
    let (bytes, source) = receive(&b);
    assert_eq!((bytes.as_slice(), source), (&b"question"[..], relay.address(0)));
    b.send_to(b"answer", source).unwrap();
    assert_eq!(receive(&a), (b"answer".to_vec(), relay.address(1)));
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.send_to(b"?", relay.address(1)).unwrap();
    a.send_to(b"after", relay.address(1)).unwrap();
    assert_eq!(receive(&b).0, b"after");
    assert_eq!(relay.strange(), 1);
}

#[test]
fn links_delay_drop_double_and_cut_in_their_direction() {
    let (a, b, relay) = pair();
    relay.set(0, 1, Link::delayed(60));
    let sent = Instant::now();
    a.send_to(b"slow", relay.address(1)).unwrap();
    assert_eq!(receive(&b).0, b"slow");
    assert!(sent.elapsed() >= Duration::from_millis(60));

    relay.set(0, 1, Link { len_max: 10, duplicate: 1.0, ..Link::default() });
    a.send_to(&[0; 11], relay.address(1)).unwrap();
    a.send_to(&[1; 10], relay.address(1)).unwrap();
    assert_eq!((receive(&b).0, receive(&b).0), (vec![1; 10], vec![1; 10]));

    relay.set_all(Link::default());
    relay.cut_one_way(0, 1);
    let stopped = relay.stopped(0, 1);
    a.send_to(b"cut", relay.address(1)).unwrap();
    b.send_to(b"not cut", relay.address(0)).unwrap();
    assert_eq!(receive(&a).0, b"not cut");
    // The relay reads each way by itself, so the answer may be here before the packet was stopped.
    let sent = Instant::now();
    while relay.stopped(0, 1) == stopped {
        assert!(sent.elapsed() < Duration::from_secs(5), "the packet is neither stopped nor passed on");
        std::thread::yield_now();
    }
    relay.heal();
    a.send_to(b"healed", relay.address(1)).unwrap();
    assert_eq!(receive(&b).0, b"healed");
}

#[test]
fn a_partition_cuts_between_groups_and_not_within() {
    let listens = free_addresses(4);
    let sockets: Vec<_> = listens.iter().map(|listen| UdpSocket::bind(listen).unwrap()).collect();
    let relay = Relay::new(&listens, 1);
    relay.partition(&[&[0, 1], &[2]]);
    for (from, to) in [(0, 2), (2, 0), (1, 2), (2, 1), (0, 1), (2, 3), (3, 2), (1, 0)] {
        sockets[from].send_to(b"x", relay.address(to)).unwrap();
    }
    for (node, sources) in [(1, vec![0]), (3, vec![2]), (2, vec![3]), (0, vec![1])] {
        sockets[node].set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        for source in sources {
            assert_eq!(receive(&sockets[node]).1, relay.address(source));
        }
    }
    assert_eq!((relay.passed(0, 2), relay.passed(1, 2), relay.passed(2, 3)), (0, 0, 1));
}

#[test]
fn the_same_seed_loses_the_same_packets() {
    let lost = |seed: u64| {
        let mut lane = Lane::new(seed);
        lane.link.loss = 0.3;
        (0..200).map(|_| lane.meet(b"x")[0].is_none()).collect::<Vec<_>>()
    };
    assert_eq!(lost(7), lost(7));
    assert_ne!(lost(7), lost(8));
    let count = lost(7).into_iter().filter(|lost| *lost).count();
    assert!((30..90).contains(&count), "{count} of 200");
}
