//! The one task that owns replication and membership: everything that happens is put into the cores here, and what
//! they answer is done without waiting for it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidegate_proto::Vector;
use tidegate_proto::frame::{Beat, Frame, Hello, Leave, Span, member};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::cluster::core::keeper::Keeper;
use crate::cluster::core::members::{ClockSample, Heard};
use crate::cluster::core::replica::{Input, Output, Replica};
use crate::cluster::core::rights::{PROMISE, Promise};
use crate::cluster::core::view::Cluster;
use crate::cluster::driver::shared::Shared;
use crate::cluster::driver::transfer::{Collected, Outcome, Partial, collect};
use crate::cluster::driver::unix_time::unix_ms;
use crate::cluster::driver::work::{Done, Order, Work};
use crate::cluster::membership::Membership;
use crate::cluster::membership::seeds::{Seeds, look_up, peers_alive};
use crate::cluster::transport::{Event, Mesh};

/// How often members are looked at, at least and at most.
const TICK: Duration = Duration::from_millis(100);
const TICK_MIN: Duration = Duration::from_millis(2);
/// How soon after a change the members are looked at again.
const NEWS: Duration = Duration::from_millis(20);
/// Members dialled in one tick.
const DIALS_MAX: usize = 4;
/// How often round trips are read from connections.
const MEASURE: Duration = Duration::from_secs(1);
/// How long a part of a configuration is kept for the next donor.
const PARTIAL_KEPT: Duration = Duration::from_secs(30);

/// Everything that wakes the engine.
pub struct Inputs {
    pub events: mpsc::Receiver<Event>,
    pub hints: mpsc::Receiver<Vec<Heard>>,
    pub done: mpsc::Receiver<Done>,
    pub collected: mpsc::Receiver<Collected>,
    pub found: mpsc::Receiver<Vec<SocketAddr>>,
    pub leave: mpsc::Receiver<oneshot::Sender<()>>,
}

/// The state of the task.
pub struct Engine {
    pub store: String,
    pub replica: Replica,
    pub shared: Arc<Shared>,
    pub keeper: Arc<dyn Keeper>,
    pub spans: broadcast::Receiver<Arc<Span>>,
    pub work: Work,
    pub membership: Membership,
    pub seeds: Seeds,
    pub transfers: Transfers,
    pub found: mpsc::Sender<Vec<SocketAddr>>,
    pub sample: mpsc::Sender<(String, ClockSample)>,
    pub draining: CancellationToken,
    /// Where the keeper stood when peers were last told.
    pub vector: Vector,
    pub connected: BTreeSet<String>,
    /// Times since the start: the last tick, the next one, the next look at round trips.
    pub ticked: Duration,
    pub tick_at: Duration,
    pub measure_at: Duration,
}

/// The transfer that runs, and what a broken one left.
pub struct Transfers {
    report: mpsc::Sender<Collected>,
    number: u64,
    running: Option<(String, AbortHandle)>,
    rest: Option<(Partial, Duration)>,
}

impl Engine {
    /// Until the node leaves.
    pub async fn run(mut self, mut inputs: Inputs) {
        let mut spans_over = false;
        loop {
            let wait = self.pause();
            tokio::select! {
                // Answers before questions: what is done frees what waits for it.
                biased;
                Some(gone) = inputs.leave.recv() => return self.leave(gone).await,
                Some(done) = inputs.done.recv() => self.done(done),
                Some(collected) = inputs.collected.recv() => self.collected(collected),
                span = self.spans.recv(), if !spans_over => match span {
                    Ok(span) => self.local(&span),
                    Err(RecvError::Lagged(_)) => self.stand(),
                    Err(RecvError::Closed) => spans_over = true,
                },
                Some(event) = inputs.events.recv() => self.event(event),
                Some(hints) = inputs.hints.recv() => hints.into_iter().for_each(|hint| self.hear(hint)),
                Some(found) = inputs.found.recv() => self.seeds.found(found),
                () = tokio::time::sleep(wait) => {}
            }
            // Asked here and not by the sleep: a flood of frames must not keep the clock from ticking.
            if self.pause().is_zero() {
                self.tick();
            }
            self.beat();
        }
    }

    /// Until the next tick is due.
    fn pause(&self) -> Duration {
        let wake = Duration::from_millis(self.replica.wake_ms());
        let at = self.tick_at.min(wake.max(self.ticked + TICK_MIN));
        at.saturating_sub(self.shared.now())
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Connected(hello) => self.connect(hello),
            Event::Closed { peer, why } => self.disconnect(&peer, &why),
            Event::Frame { peer, frame } if self.connected.contains(&peer) => self.frame(peer, frame),
            // Sent before its connection was refused.
            Event::Frame { .. } => {}
        }
    }

    fn connect(&mut self, hello: Hello) {
        let peer = hello.node_id.clone();
        let address = hello.address.parse::<SocketAddr>();
        let (Ok(address), true) = (address, hello.store == self.store) else {
            tracing::warn!(peer, store = hello.store, "a peer keeps its entities in another kind of store");
            return self.mesh().expel(&peer, "another kind of store");
        };
        tracing::info!(peer, region = hello.region, %address, "connected");
        self.connected.insert(peer.clone());
        self.count_connections();
        self.membership.connected(&peer, address);
        self.shared.known(|known| known.coverage.forget(&peer));
        self.hear(Heard::Connected(hello));
        self.feed(Input::Connected { peer });
        self.hurry();
    }

    fn disconnect(&mut self, peer: &str, why: &str) {
        if !self.connected.remove(peer) {
            return;
        }
        tracing::info!(peer, why, "disconnected");
        self.count_connections();
        self.membership.disconnected(peer);
        self.hear(Heard::Disconnected { node_id: peer.to_owned() });
        self.feed(Input::Disconnected { peer: peer.to_owned() });
    }

    fn count_connections(&self) {
        self.shared.counts.connections.store(self.connected.len() as u64, Ordering::Relaxed);
    }

    fn frame(&mut self, peer: String, frame: Frame) {
        self.hear(Heard::Frame { node_id: peer.clone() });
        match frame {
            Frame::Beat(beat) => {
                self.sample(&peer, &beat);
                if let Some(promise) = member(&beat.more, PROMISE).and_then(Promise::from_bytes) {
                    self.shared.exchange.promised(&peer, promise);
                }
                self.shared.known(|known| known.coverage.beat(&peer, &beat));
                self.hear(Heard::Beat { node_id: peer.clone(), beat: beat.clone() });
                self.feed(Input::Beat { peer, beat });
                self.shared.changed();
            }
            Frame::Spans(spans) => {
                self.stands(&peer, &spans.vector);
                self.feed(Input::Spans { peer, spans });
            }
            Frame::Pull(pull) => {
                self.stands(&peer, &pull.vector);
                self.feed(Input::Pull { peer, pull });
            }
            Frame::Whole(whole) => {
                self.stands(&peer, &whole.vector);
                self.feed(Input::Whole { peer, whole });
            }
            Frame::Busy(busy) => self.feed(Input::Busy { peer, retry_after_ms: busy.retry_after_ms }),
            Frame::Gossip(gossip) => self.membership.deliver(&peer, gossip.envelope),
            Frame::Leave(_) => {
                tracing::info!(peer, "a peer left the cluster");
                self.hear(Heard::Left { node_id: peer });
                self.shared.changed();
            }
            Frame::Hello(_)
            | Frame::Fetch(_)
            | Frame::Chunk(_)
            | Frame::Counts(_)
            | Frame::CountsPull(_)
            | Frame::Ask(_)
            | Frame::Grant(_) => self.mesh().expel(&peer, "a frame out of its place"),
        }
    }

    /// Tells the exchange of counts what a beat says about its sender's clock.
    fn sample(&self, peer: &str, beat: &Beat) {
        let (now_ms, unix_ms) = (self.shared.now_ms(), unix_ms());
        let sample = self.shared.known(|known| known.members.clock_sample(peer, beat, now_ms, unix_ms));
        if let Some(sample) = sample {
            let _ = self.sample.try_send((peer.to_owned(), sample));
        }
    }

    /// A frame said where its sender stands.
    fn stands(&mut self, peer: &str, vector: &Vector) {
        self.shared.known(|known| known.coverage.stands(peer, vector.clone()));
        self.shared.changed();
    }

    fn hear(&mut self, heard: Heard) {
        let now_ms = self.shared.now_ms();
        self.shared.known(|known| known.members.on(heard, now_ms));
    }

    fn feed(&mut self, input: Input) {
        for output in self.replica.on(input, self.shared.now_ms()) {
            self.perform(output);
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Send { peer, frame } => {
                if matches!(frame, Frame::Pull(_)) {
                    self.shared.counts.repairs.fetch_add(1, Ordering::Relaxed);
                }
                self.mesh().send(&peer, &frame);
            }
            Output::Take { spans } => {
                // What is dropped at the bound shows as a gap, and is asked for again.
                self.work.order(Order::Take(spans));
            }
            Output::Fetch { peer } => {
                tracing::info!(peer, "taking the whole configuration");
                self.transfers.start(self.shared.mesh.clone(), peer, self.shared.now());
            }
            Output::Expel { peer, why } => {
                tracing::warn!(peer, why, "a peer misbehaved");
                self.mesh().expel(&peer, why);
            }
        }
    }

    fn done(&mut self, done: Done) {
        self.work.done();
        match done.result {
            Ok(_) if done.whole => {
                self.shared.counts.wholes_taken.fetch_add(1, Ordering::Relaxed);
            }
            Ok(_) => {}
            Err(error) => tracing::error!(error, "what a peer sent could not be kept"),
        }
        self.stand();
    }

    fn collected(&mut self, collected: Collected) {
        let Some((peer, partial, outcome)) = self.transfers.finish(collected) else { return };
        match outcome {
            Outcome::Complete => {
                tracing::info!(peer, records = partial.records.len(), "took the whole configuration");
                self.work.order(Order::Adopt(partial.vector(), partial.records));
            }
            Outcome::Broken => {
                self.transfers.keep(partial, self.shared.now());
                self.feed(Input::FetchFailed { peer });
            }
            Outcome::Liar(why) => {
                self.mesh().expel(&peer, why);
                self.feed(Input::FetchFailed { peer });
            }
        }
    }

    fn tick(&mut self) {
        let now = self.shared.now();
        (self.ticked, self.tick_at) = (now, now + TICK);
        if self.keeper.vector() != *self.replica.vector() {
            self.stand();
        }
        self.feed(Input::Tick);
        self.transfers.expire(now);
        self.dial(now);
        self.seek(now);
        if now >= self.measure_at {
            self.measure_at = now + MEASURE;
            self.measure();
        }
        // Somebody may have died, which is nothing that arrives.
        self.shared.changed();
    }

    /// Others are dialled in a later tick: when many are missing at once, handshakes that are all begun together starve
    /// each other, and none ends in time.
    fn dial(&mut self, now: Duration) {
        let mut due = self.shared.known(|known| known.members.due_to_dial(now_ms(now)));
        // Begins somewhere else each time, so that nobody is always among the first.
        let shift = usize::try_from(now_ms(now)).unwrap_or(0) % due.len().max(1);
        due.rotate_left(shift);
        for address in due.iter().filter_map(|address| address.parse().ok()).take(DIALS_MAX) {
            self.mesh().dial(address);
        }
    }

    fn seek(&mut self, now: Duration) {
        let alive = peers_alive(&self.shared.view());
        if let Some(names) = self.seeds.to_look_up(alive, now) {
            let found = self.found.clone();
            tokio::spawn(async move { found.send(look_up(names).await).await });
        }
        for address in self.seeds.due_to_dial(alive, &self.membership.addresses(), now) {
            self.mesh().dial(address);
        }
    }

    fn measure(&mut self) {
        let rtts = self.connected.iter().filter_map(|peer| Some((peer.clone(), self.shared.mesh.rtt(peer)?)));
        for (node_id, rtt) in rtts.collect::<Vec<_>>() {
            self.hear(Heard::Rtt { node_id, rtt_ms: rtt.as_secs_f64() * 1e3 });
        }
    }

    /// Committed here, or learnt from the store. A span that leads nowhere only says that the node stands elsewhere now.
    fn local(&mut self, span: &Span) {
        if span.after < span.upto {
            self.feed(Input::Local { span: span.clone() });
        } else {
            self.stand();
        }
    }

    /// Says where the keeper stands: it moves by orders, and by what the store itself learns. Spans that explain the step
    /// go first, since a step that nothing explains is taken for a whole.
    fn stand(&mut self) {
        let vector = self.keeper.vector();
        while let Ok(span) = self.spans.try_recv() {
            if span.after < span.upto {
                self.feed(Input::Local { span: (*span).clone() });
            }
        }
        self.feed(Input::Taken { vector });
    }

    /// Beats with news have a short pause between them; the next turn must not come much later.
    fn hurry(&mut self) {
        self.tick_at = self.tick_at.min(self.shared.now() + NEWS);
    }

    /// Says to peers what they should hear now.
    fn beat(&mut self) {
        let (vector, draining) = (self.keeper.vector(), self.draining.is_cancelled());
        let now_ms = self.shared.now_ms();
        if vector != self.vector {
            self.hurry();
            if vector.epoch > self.vector.epoch && self.vector != Vector::default() {
                self.shared.counts.epochs_adopted.fetch_add(1, Ordering::Relaxed);
            }
            self.vector = vector.clone();
        }
        let beats = self.shared.known(|known| {
            known.coverage.mine(vector.digest(), &vector);
            known.members.on(Heard::Mine { vector: vector.clone(), draining }, now_ms);
            let mut beats = known.members.beats(now_ms, unix_ms());
            beats.iter_mut().for_each(|(peer, beat)| known.coverage.acknowledge(peer, &vector, beat));
            beats
        });
        for (peer, beat) in beats {
            self.mesh().send(&peer, &Frame::Beat(beat));
        }
    }

    async fn leave(self, gone: oneshot::Sender<()>) {
        for peer in &self.connected {
            self.mesh().send(peer, &Frame::Leave(Leave { more: Vec::new() }));
        }
        self.mesh().close().await;
        let _ = gone.send(());
    }

    fn mesh(&self) -> &Mesh {
        &self.shared.mesh
    }
}

impl Transfers {
    pub fn new(report: mpsc::Sender<Collected>) -> Self {
        Self { report, number: 0, running: None, rest: None }
    }

    /// Begins with another donor; the one before is given up.
    fn start(&mut self, mesh: Mesh, peer: String, now: Duration) {
        if let Some((_, task)) = self.running.take() {
            task.abort();
        }
        self.expire(now);
        self.number += 1;
        let rest = self.rest.take().map(|(partial, _)| partial).unwrap_or_default();
        let task = tokio::spawn(collect(mesh, self.number, peer.clone(), rest, self.report.clone()));
        self.running = Some((peer, task.abort_handle()));
    }

    /// What was collected, unless another transfer has begun since.
    fn finish(&mut self, collected: Collected) -> Option<(String, Partial, Outcome)> {
        if collected.number != self.number {
            return None;
        }
        self.running = None;
        Some((collected.peer, collected.partial, collected.outcome))
    }

    fn keep(&mut self, partial: Partial, now: Duration) {
        self.rest = Some((partial, now + PARTIAL_KEPT));
    }

    fn expire(&mut self, now: Duration) {
        self.rest.take_if(|(_, until)| *until <= now);
    }
}

fn now_ms(now: Duration) -> u64 {
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
