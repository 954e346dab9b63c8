//! The task that tells peers what this node counted and publishes what they counted.
//!
//! It runs beside the engine, so that a limit never waits for a configuration. While nothing is counted it sleeps, and
//! nothing is sent; a hit on a counter that peers should hear of wakes it. Whoever asks for counters (`Exchange`) locks
//! the core for a moment; requests never do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidegate_proto::frame::Frame;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster::core::members::{ClockSample, Heard};
use crate::cluster::core::rights;
use crate::cluster::core::tally::{Input, Output};
use crate::cluster::core::time::Offsets;
use crate::cluster::core::view::{Cluster, State};
use crate::cluster::driver::exchange::Exchange;
use crate::cluster::driver::shared::Shared;
use crate::cluster::driver::strict;
use crate::cluster::driver::unix_time::unix_ms;
use crate::cluster::transport::{Event, Mesh};

/// How often clocks, round trips and the dead are looked at.
const MEASURE: Duration = Duration::from_secs(1);
/// Frames taken in before the core is asked for what to do.
const EVENTS_AT_ONCE: usize = 64;

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
    strict: strict::Options,
    in_use: bool,
    skewed: bool,
    /// How a write of what strict limits promised went.
    kept: (mpsc::Sender<rights::Input>, mpsc::Receiver<rights::Input>),
    looked: Instant,
    /// Somebody roused this task since it looked.
    roused: bool,
    measure_at: Instant,
}

impl Task {
    pub fn new(shared: Arc<Shared>, strict: strict::Options) -> Self {
        let (exchange, now) = (shared.exchange.clone(), Instant::now());
        let offsets = Offsets::default();
        let kept = mpsc::channel(1);
        let peers = BTreeMap::new();
        Self {
            exchange,
            shared,
            offsets,
            peers,
            strict,
            in_use: false,
            skewed: false,
            kept,
            looked: now,
            roused: false,
            measure_at: now,
        }
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
                () = roused.notified() => self.roused = true,
                Ok(()) = self.strict.said.changed() => {
                    let said = self.strict.said.borrow_and_update().clone();
                    self.in_use = said.as_ref().is_some_and(|(_, in_use)| *in_use);
                    strict::heard(&said).into_iter().for_each(|input| self.strict(input));
                    self.look();
                }
                Some(input) = self.kept.1.recv() => {
                    self.strict(input);
                    self.look();
                }
                () = tokio::time::sleep(wait) => {}
            }
            if Instant::now() >= self.measure_at {
                self.measure();
            }
            let strict_ms = self.exchange.rights(|rights| rights.wake_ms(self.exchange.now()));
            let is_roused = self.roused && self.look_at() <= Instant::now();
            if is_roused || self.due() <= self.exchange.now_ms() || strict_ms <= self.exchange.now().mono_ms {
                self.look();
            }
        }
    }

    /// How long there is nothing to do but to listen. Asking the core also arms the call by which a hit wakes this task.
    fn pause(&self) -> Duration {
        let due = Duration::from_millis(self.due().saturating_sub(self.exchange.now_ms()));
        let now = self.exchange.now();
        let strict_ms = self.exchange.rights(|rights| rights.wake_ms(now)).saturating_sub(now.mono_ms);
        let at = if self.roused { self.measure_at.min(self.look_at()) } else { self.measure_at };
        due.min(Duration::from_millis(strict_ms)).min(at.saturating_duration_since(Instant::now()))
    }

    /// When a hit is looked at: those that are counted just after it share the look.
    fn look_at(&self) -> Instant {
        self.looked + Duration::from_millis(self.exchange.tally(|tally| tally.pause_ms()))
    }

    /// When the core wants to be asked, in cluster time.
    fn due(&self) -> u64 {
        self.exchange.tally(|tally| tally.wake_ms())
    }

    fn look(&mut self) {
        (self.looked, self.roused) = (Instant::now(), false);
        let outputs = self.exchange.tally(|tally| tally.poll(self.exchange.now_ms()));
        outputs.into_iter().for_each(|output| self.perform(output));
        let outputs = self.exchange.rights(|rights| rights.poll(self.exchange.now()));
        outputs.into_iter().for_each(|output| self.perform_strict(output));
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

    fn strict(&self, input: rights::Input) {
        let outputs = self.exchange.rights(|rights| rights.on(input, self.exchange.now()));
        outputs.into_iter().for_each(|output| self.perform_strict(output));
    }

    fn perform_strict(&self, output: rights::Output) {
        match output {
            rights::Output::Send { peer, frame } => {
                // What does not fit is lost, and asked for again.
                self.mesh().send(&peer, &frame);
            }
            rights::Output::Keep(kept) => {
                let (sender, file) = (self.kept.0.clone(), self.strict.file.clone());
                tokio::spawn(async move {
                    let _ = sender.send(strict::keep(file, kept).await).await;
                });
            }
            rights::Output::Promise(promise) => {
                let now_ms = self.shared.now_ms();
                self.shared.known(|known| known.members.on(Heard::Promise(promise), now_ms));
            }
            rights::Output::Standing(standing) => strict::log(&standing, self.in_use),
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Connected(hello) => {
                self.peers.insert(hello.node_id.clone(), true);
                let (peer, incarnation) = (hello.node_id.clone(), hello.incarnation);
                self.strict(rights::Input::Connected { peer, incarnation });
                self.feed(Input::Connected { peer: hello.node_id.clone(), incarnation: hello.incarnation });
                self.tell_rtt(&hello.node_id);
            }
            Event::Closed { peer, .. } => {
                self.peers.insert(peer.clone(), false);
                self.strict(rights::Input::Disconnected { peer: peer.clone() });
                self.feed(Input::Disconnected { peer });
            }
            Event::Frame { peer, frame } => match frame {
                Frame::Counts(counts) => self.feed(Input::Counts { peer, counts }),
                Frame::CountsPull(_) => self.feed(Input::CountsPull { peer }),
                Frame::Ask(ask) => self.strict(rights::Input::Ask { peer, ask }),
                Frame::Grant(grant) => self.strict(rights::Input::Grant { peer, grant }),
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
        let skewed = self.offsets.is_skewed(self.skewed);
        if std::mem::replace(&mut self.skewed, skewed) != skewed {
            self.strict(rights::Input::Skewed(skewed));
            self.look();
        }
        let connected = self.peers.iter().filter(|(_, connected)| **connected).map(|(peer, _)| peer.clone());
        connected.collect::<Vec<_>>().iter().for_each(|peer| self.tell_rtt(peer));
        self.bury();
    }

    fn tell_rtt(&self, peer: &str) {
        if let Some(rtt) = self.mesh().rtt(peer) {
            let rtt_ms = u64::try_from(rtt.as_millis()).unwrap_or(u64::MAX);
            let exact_ms = rtt.as_secs_f64() * 1000.0;
            self.strict(rights::Input::Rtt { peer: peer.to_owned(), rtt_ms: exact_ms });
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
        self.strict(rights::Input::Leaving);
        let _ = drained.send(());
    }

    fn feed(&self, input: Input) {
        self.exchange.tally(|tally| tally.on(input, self.exchange.now_ms()));
    }

    fn mesh(&self) -> &Mesh {
        &self.shared.mesh
    }
}
