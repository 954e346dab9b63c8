//! The task that tells peers what this node counted and publishes what they counted.
//!
//! It runs beside the engine, so that a limit never waits for a configuration. While nothing is counted it sleeps, and
//! nothing is sent; a hit on a counter that peers should hear of wakes it. Whoever asks for counters (`Exchange`) locks
//! the core for a moment; requests never do.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidegate_proto::frame::Frame;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster::core::members::ClockSample;
use crate::cluster::core::tally::{Input, Me, Options, Output, Tally};
use crate::cluster::core::time::Offsets;
use crate::cluster::core::view::{Cluster, LimitFigures, LimitRow, State};
use crate::cluster::driver::engine::unix_ms;
use crate::cluster::driver::shared::Shared;
use crate::cluster::transport::{Event, Mesh};
use crate::counter::Counters;

/// Counters that change faster than this share a look.
const LOOK_PAUSE: Duration = Duration::from_millis(5);
/// How often clocks, round trips and the dead are looked at.
const MEASURE: Duration = Duration::from_secs(1);
/// Frames taken in before the core is asked for what to do.
const EVENTS_AT_ONCE: usize = 64;
/// Samples of clocks that wait; more are dropped, there will be others.
pub const SAMPLES_MAX: usize = 64;

/// The exchange of counts, for readers of any thread.
pub struct Exchange {
    tally: Mutex<Tally>,
    counters: Arc<Counters>,
    /// Cluster time less Unix time.
    offset_ms: AtomicI64,
    roused: Arc<Notify>,
}

/// Everything that wakes the task.
pub struct Inputs {
    pub events: mpsc::Receiver<Event>,
    /// From beats: whose clock, and how far it is ahead.
    pub samples: mpsc::Receiver<(String, ClockSample)>,
    /// Everything that was counted is to be sent now.
    pub drain: mpsc::Receiver<oneshot::Sender<()>>,
}

/// The state of the task.
pub struct Task {
    exchange: Arc<Exchange>,
    shared: Arc<Shared>,
    offsets: Offsets,
    /// Peers and their incarnations: true while there is a connection. Those without stay until they are dead or left.
    peers: BTreeMap<String, bool>,
    looked: Instant,
    measure_at: Instant,
}

impl Exchange {
    pub fn new(me: Me, counters: Arc<Counters>, options: Options) -> Self {
        let roused = Arc::new(Notify::new());
        let rouse = roused.clone();
        counters.on_rouse(Arc::new(move || rouse.notify_one()));
        let tally = Mutex::new(Tally::new(me, counters.clone(), options, unix_ms()));
        Self { tally, counters, offset_ms: AtomicI64::new(0), roused }
    }

    pub fn hottest(&self, max: usize) -> Vec<LimitRow> {
        self.tally(|tally| tally.hottest(max, self.now_ms()))
    }

    pub fn figures(&self) -> LimitFigures {
        let offset_ms = self.offset_ms.load(Ordering::Relaxed);
        LimitFigures { offset_ms, ..self.tally(|tally| tally.figures(self.now_ms())) }
    }

    /// Cluster time.
    fn now_ms(&self) -> u64 {
        unix_ms().saturating_add_signed(self.offset_ms.load(Ordering::Relaxed))
    }

    fn tally<T>(&self, act: impl FnOnce(&mut Tally) -> T) -> T {
        act(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Task {
    pub fn new(shared: Arc<Shared>) -> Self {
        let (exchange, now) = (shared.exchange.clone(), Instant::now());
        let offsets = Offsets::default();
        Self { exchange, shared, offsets, peers: BTreeMap::new(), looked: now, measure_at: now }
    }

    /// Until `stop`.
    pub async fn run(mut self, mut inputs: Inputs, stop: CancellationToken) {
        loop {
            let roused = self.exchange.roused.clone();
            let wait = self.pause();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(drained) = inputs.drain.recv() => self.drain(drained),
                Some(event) = inputs.events.recv() => {
                    self.event(event);
                    for _ in 1..EVENTS_AT_ONCE {
                        let Ok(event) = inputs.events.try_recv() else { break };
                        self.event(event);
                    }
                }
                Some((peer, sample)) = inputs.samples.recv() => self.sample(&peer, sample),
                () = roused.notified() => {
                    // Others that are counted just after share the look.
                    tokio::time::sleep_until(self.looked + LOOK_PAUSE).await;
                    self.look();
                }
                () = tokio::time::sleep(wait) => {}
            }
            if Instant::now() >= self.measure_at {
                self.measure();
            }
            if self.due() <= self.exchange.now_ms() {
                self.look();
            }
        }
    }

    /// How long there is nothing to do but to listen. Asking the core also arms the call by which a hit wakes this task.
    fn pause(&self) -> Duration {
        let due = Duration::from_millis(self.due().saturating_sub(self.exchange.now_ms()));
        due.min(self.measure_at.saturating_duration_since(Instant::now()))
    }

    /// When the core wants to be asked, in cluster time.
    fn due(&self) -> u64 {
        self.exchange.tally(|tally| tally.wake_ms())
    }

    fn look(&mut self) {
        self.looked = Instant::now();
        let outputs = self.exchange.tally(|tally| tally.poll(self.exchange.now_ms()));
        outputs.into_iter().for_each(|output| self.perform(output));
    }

    fn perform(&self, output: Output) {
        let Output::Send { peers, frame, urgent } = output;
        if let Frame::Counts(counts) = &frame {
            for peer in self.mesh().spread(&peers, counts, urgent) {
                self.feed(Input::Congested { peer });
            }
            return;
        }
        for peer in peers {
            self.mesh().send(&peer, &frame);
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Connected(hello) => {
                self.peers.insert(hello.node_id.clone(), true);
                self.feed(Input::Connected { peer: hello.node_id.clone(), incarnation: hello.incarnation });
                self.tell_rtt(&hello.node_id);
            }
            Event::Closed { peer, .. } => {
                self.peers.insert(peer.clone(), false);
                self.feed(Input::Disconnected { peer });
            }
            Event::Frame { peer, frame } => match frame {
                Frame::Counts(counts) => self.feed(Input::Counts { peer, counts }),
                Frame::CountsPull(_) => self.feed(Input::CountsPull { peer }),
                // Nobody gives out rights yet.
                Frame::Ask(_) | Frame::Grant(_) => {}
                Frame::Hello(_)
                | Frame::Beat(_)
                | Frame::Spans(_)
                | Frame::Pull(_)
                | Frame::Whole(_)
                | Frame::Fetch(_)
                | Frame::Chunk(_)
                | Frame::Gossip(_)
                | Frame::Leave(_)
                | Frame::Busy(_) => self.mesh().expel(&peer, "a frame out of its place"),
            },
        }
    }

    fn sample(&mut self, peer: &str, sample: ClockSample) {
        self.offsets.on_sample(peer, sample.offset_ms, sample.rtt_ms, unix_ms());
    }

    fn measure(&mut self) {
        self.measure_at = Instant::now() + MEASURE;
        let offset_ms = self.offsets.offset_ms(unix_ms());
        self.exchange.offset_ms.store(offset_ms, Ordering::Relaxed);
        self.exchange.counters.set_offset_ms(offset_ms);
        let connected = self.peers.iter().filter(|(_, connected)| **connected).map(|(peer, _)| peer.clone());
        connected.collect::<Vec<_>>().iter().for_each(|peer| self.tell_rtt(peer));
        self.bury();
    }

    fn tell_rtt(&self, peer: &str) {
        if let Some(rtt) = self.mesh().rtt(peer) {
            let rtt_ms = u64::try_from(rtt.as_millis()).unwrap_or(u64::MAX);
            self.feed(Input::Rtt { peer: peer.to_owned(), rtt_ms });
        }
    }

    /// Tells of those who will not come back as they were: the dead, those who left, and those who were forgotten.
    fn bury(&mut self) {
        let lost: Vec<String> = self.peers.iter().filter(|(_, up)| !**up).map(|(peer, _)| peer.clone()).collect();
        if lost.is_empty() {
            return;
        }
        let view = self.shared.view();
        let may_return = |peer: &String| {
            let known = view.nodes.iter().find(|node| node.node_id == *peer);
            known.is_some_and(|node| matches!(node.state, State::Alive | State::Suspect))
        };
        for peer in lost.into_iter().filter(|peer| !may_return(peer)) {
            self.peers.remove(&peer);
            self.feed(Input::Gone { peer });
        }
    }

    fn drain(&mut self, drained: oneshot::Sender<()>) {
        self.feed(Input::Drain);
        self.look();
        let _ = drained.send(());
    }

    fn feed(&self, input: Input) {
        self.exchange.tally(|tally| tally.on(input, self.exchange.now_ms()));
    }

    fn mesh(&self) -> &Mesh {
        &self.shared.mesh
    }
}
