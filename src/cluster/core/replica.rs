//! Keeps this node's configuration equal to its peers': pushes, notices gaps, pulls, serves.
//!
//! Invariant: what this node says it has (`Vector`) was handed to the keeper and confirmed.
//!
//! The writer pushes to everybody. Whoever was told of more than it has (by a beat, or by any frame with a vector) waits a
//! moment for what may be on its way, and then asks one peer at a time for the rest: it gets the range, or is told to take
//! the whole. A donor without progress is left for the next one, and comes last for a while. New transactions are passed
//! on to those peers that asked for it, which they do where they are near: a push that was lost on a long way is made up
//! for by a neighbour before the sender notices. Asking several donors at once lost: the second answer is waste in all
//! but rare cases.

mod peer;
mod ring;
mod waiting;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use tidegate_proto::Vector;
use tidegate_proto::frame::{Beat, Busy, FRAME_LEN_MAX, Frame, More, Pull, Span, Spans, Whole, member};

use crate::cluster::core::clock::TIME_MAX;
use crate::cluster::core::replica::peer::Peer;
use crate::cluster::core::replica::ring::Ring;
use crate::cluster::core::replica::waiting::{Early, Promised};

/// The member of `Pull::more` that tells pulls of a connection apart, 8 bytes; and of `Spans::more` and `Whole::more` by
/// which a frame answers that pull. Spans without it are pushes.
pub const ANSWER: u16 = 0;

/// How long news may be on its way before it is asked for.
const GRACE_MS: u64 = 25;
/// A donor that has not answered by then is left.
const WATCHDOG_MS: u64 = 2_000;
/// The same for the transfer of a whole, whose own progress is watched by who does it.
const FETCH_MS: u64 = 60_000;
/// A longer span is not pushed: peers learn of it from the next beat, and pull.
const PUSH_LEN_MAX: usize = 1 << 20;
/// A longer span is not passed on.
const RELAY_LEN_MAX: usize = 64 << 10;
/// A longer span cannot be sent at all, with room for the frame's vector; who lacks it takes the whole.
const SPAN_LEN_MAX: usize = FRAME_LEN_MAX - (1 << 20);
/// When a peer that pulled too often may ask again.
const PULLS_PAUSE_MS: u32 = 500;
/// Answers in a row that hold nothing of what the peer claims to have.
const STRIKES_MAX: u32 = 3;

/// What goes in. `now_ms` is monotonic.
#[derive(Clone, Debug)]
pub enum Input {
    Connected {
        peer: String,
    },
    Disconnected {
        peer: String,
    },
    Beat {
        peer: String,
        beat: Beat,
    },
    Spans {
        peer: String,
        spans: Spans,
    },
    Pull {
        peer: String,
        pull: Pull,
    },
    Whole {
        peer: String,
        whole: Whole,
    },
    Busy {
        peer: String,
        retry_after_ms: u32,
    },
    /// Committed here, or learnt from the store: to be pushed.
    Local {
        span: Span,
    },
    /// The keeper took in what `Output::Take` or a finished `Output::Fetch` carried, and stands here.
    Taken {
        vector: Vector,
    },
    /// A fetch ended early.
    FetchFailed {
        peer: String,
    },
    Tick,
}

/// What comes out.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    Send {
        peer: String,
        frame: Frame,
    },
    /// Hand to the keeper, then say `Taken`.
    Take {
        spans: Vec<Span>,
    },
    /// Transfer the whole from this peer, hand it to the keeper, then say `Taken` or `FetchFailed`.
    Fetch {
        peer: String,
    },
    /// The peer lies or goes backwards: close, with this reason.
    Expel {
        peer: String,
        why: &'static str,
    },
}

/// The state machine of one node.
#[derive(Debug)]
pub struct Replica {
    /// Confirmed by the keeper.
    vector: Vector,
    /// What the keeper was given and has not confirmed.
    promised: Promised,
    /// `vector` and what is promised; with its digest.
    reach: (Vector, u64),
    early: Early,
    ring: Ring,
    peers: BTreeMap<String, Peer>,
    /// The one pull that is out.
    pull: Option<Asked>,
    pulls: u64,
    fetch: Option<Transfer>,
    /// Since when somebody is known to have more.
    behind_ms: Option<u64>,
}

/// A pull that was not answered yet.
#[derive(Debug)]
struct Asked {
    donor: String,
    number: u64,
    since_ms: u64,
}

/// A whole on its way.
#[derive(Debug)]
struct Transfer {
    peer: String,
    target: Vector,
    since_ms: u64,
}

impl Replica {
    /// `vector`: where the keeper stands at the start.
    pub fn new(vector: Vector, now_ms: u64) -> Self {
        let _ = now_ms;
        let reach = (vector.clone(), vector.digest());
        Self {
            vector,
            promised: Promised::default(),
            reach,
            early: Early::default(),
            ring: Ring::default(),
            peers: BTreeMap::new(),
            pull: None,
            pulls: 0,
            fetch: None,
            behind_ms: None,
        }
    }

    pub fn on(&mut self, input: Input, now_ms: u64) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::Connected { peer } => self.connected(peer),
            Input::Disconnected { peer } => self.disconnected(&peer),
            Input::Beat { peer, beat } => self.beat(peer, &beat, now_ms, &mut out),
            Input::Spans { peer, spans } => self.spans(peer, spans, now_ms, &mut out),
            Input::Pull { peer, pull } => self.serve(peer, pull, now_ms, &mut out),
            Input::Whole { peer, whole } => self.whole(peer, whole, now_ms, &mut out),
            Input::Busy { peer, retry_after_ms } => self.busy(&peer, retry_after_ms, now_ms),
            Input::Local { span } => self.local(span, &mut out),
            Input::Taken { vector } => self.taken(vector, now_ms, &mut out),
            Input::FetchFailed { peer } => self.fetch_failed(&peer, now_ms),
            Input::Tick => {}
        }
        self.step(now_ms, &mut out);
        out
    }

    /// When `Tick` is wanted next; monotonic ms.
    pub fn wake_ms(&self) -> u64 {
        let promised = self.promised.until_ms();
        let early = self.early.until_ms();
        let fetch = self.fetch.as_ref().map(|transfer| transfer.since_ms + FETCH_MS);
        let pull = self.pull.as_ref().map(|asked| asked.since_ms + WATCHDOG_MS);
        let next = match (fetch.or(pull), self.behind_ms) {
            (None, Some(behind_ms)) => {
                let free = self.ahead(u64::MAX).map(|(_, peer)| peer.not_before_ms()).min();
                free.map(|free| free.max(behind_ms + GRACE_MS))
            }
            (waits, _) => waits,
        };
        let differing = self.peers.values().filter_map(Peer::differs_until_ms).min();
        [promised, early, next, differing].into_iter().flatten().min().unwrap_or(u64::MAX)
    }

    /// Where the keeper has confirmed this node to stand.
    pub fn vector(&self) -> &Vector {
        &self.vector
    }

    fn connected(&mut self, peer: String) {
        self.leave_donor(&peer);
        self.peers.insert(peer, Peer::default());
    }

    fn disconnected(&mut self, peer: &str) {
        self.leave_donor(peer);
        self.peers.remove(peer);
    }

    /// A pull to this peer will not be answered. A transfer says so itself.
    fn leave_donor(&mut self, peer: &str) {
        self.pull.take_if(|asked| asked.donor == peer);
    }

    fn beat(&mut self, name: String, beat: &Beat, now_ms: u64, out: &mut Vec<Output>) {
        let reach = (self.reach.0.revision(), self.reach.1);
        let Some(peer) = self.peers.get_mut(&name) else { return };
        if !peer.beat(beat, reach, now_ms) {
            self.expel(name, "its revision goes backwards", out);
        }
    }

    fn spans(&mut self, name: String, spans: Spans, now_ms: u64, out: &mut Vec<Output>) {
        if let Some(why) = lie(&spans) {
            return self.expel(name, why, out);
        }
        let Some(peer) = self.peers.get_mut(&name) else { return };
        peer.stands(&spans.vector);
        let answers = self.is_answer(&name, &spans.more);
        let before = self.reach.1;
        let mut takes = Vec::new();
        for span in spans.spans {
            self.receive(&name, span, now_ms, &mut takes);
        }
        if !takes.is_empty() {
            out.push(Output::Take { spans: takes });
        }
        if answers {
            let moved = self.reach.1 != before || self.reach.0.covers(&spans.vector);
            self.judge(name, &spans.vector, moved, now_ms, out);
        }
    }

    /// An answer of the donor `name` is in. `moved`: it held something, or there is nothing more to have of it. Where it
    /// says it stands must not be behind what it said when it was asked.
    fn judge(&mut self, name: String, stands: &Vector, moved: bool, now_ms: u64, out: &mut Vec<Output>) {
        let Some(peer) = self.peers.get_mut(&name) else { return };
        if peer.answered(moved && stands.revision() >= peer.asked_for(), now_ms) >= STRIKES_MAX {
            self.expel(name, "it does not have what it claims", out);
        }
    }

    /// One span: known, next, or too early.
    fn receive(&mut self, from: &str, span: Span, now_ms: u64, takes: &mut Vec<Span>) {
        let count = self.reach.0.count(&span.origin);
        if span.epoch != self.reach.0.epoch || span.upto <= count {
            return;
        }
        if span.after > count {
            return self.early.hold(from, span, now_ms);
        }
        self.promise(from.to_owned(), span, now_ms, takes);
        while let Some((from, span)) = self.early.next(&self.reach.0) {
            self.promise(from, span, now_ms, takes);
        }
    }

    /// At the bound of what may be promised the span is dropped: it shows as a gap later.
    fn promise(&mut self, from: String, span: Span, now_ms: u64, takes: &mut Vec<Span>) {
        if let Some(span) = self.promised.give(from, span, now_ms) {
            self.reach.0.advance(&span.origin, span.upto);
            self.reach.1 = self.reach.0.digest();
            takes.push(span);
        }
    }

    fn serve(&mut self, name: String, pull: Pull, now_ms: u64, out: &mut Vec<Output>) {
        let Some(peer) = self.peers.get_mut(&name) else { return };
        peer.stands(&pull.vector);
        if !peer.may_pull(now_ms) {
            let busy = Busy { retry_after_ms: PULLS_PAUSE_MS, more: More::new() };
            return out.push(Output::Send { peer: name, frame: Frame::Busy(busy) });
        }
        let number = member(&pull.more, ANSWER).filter(|number| number.len() <= 8);
        let echo: More = number.map(|number| (ANSWER, number.to_vec())).into_iter().collect();
        let nothing = pull.vector.covers(&self.vector);
        let range = if nothing { Some(Vec::new()) } else { self.ring.range(&pull.vector, &self.vector) };
        let Some(mut frames) = range else {
            let whole = Whole { vector: self.vector.clone(), more: echo };
            return out.push(Output::Send { peer: name, frame: Frame::Whole(whole) });
        };
        let last = frames.pop().unwrap_or_default();
        for spans in frames {
            out.push(self.send(&name, spans, More::new()));
        }
        out.push(self.send(&name, last, echo));
    }

    fn whole(&mut self, name: String, whole: Whole, now_ms: u64, out: &mut Vec<Output>) {
        let Some(peer) = self.peers.get_mut(&name) else { return };
        peer.stands(&whole.vector);
        if !self.is_answer(&name, &whole.more) || self.fetch.is_some() {
            return;
        }
        if self.reach.0.covers(&whole.vector) {
            return self.judge(name, &whole.vector, true, now_ms, out);
        }
        self.fetch = Some(Transfer { peer: name.clone(), target: whole.vector, since_ms: now_ms });
        out.push(Output::Fetch { peer: name });
    }

    fn busy(&mut self, name: &str, retry_after_ms: u32, now_ms: u64) {
        self.leave_donor(name);
        if let Some(peer) = self.peers.get_mut(name) {
            peer.is_busy(retry_after_ms, now_ms);
        }
    }

    fn fetch_failed(&mut self, name: &str, now_ms: u64) {
        self.fetch.take_if(|transfer| transfer.peer == name);
        if let Some(peer) = self.peers.get_mut(name) {
            peer.failed(now_ms);
        }
    }

    /// A span that was passed on before is not pushed again: several nodes may learn the same from a database.
    fn local(&mut self, span: Span, out: &mut Vec<Output>) {
        if span.epoch != self.vector.epoch || span.after >= span.upto || self.ring.holds(&span) {
            return;
        }
        if span.after <= self.vector.count(&span.origin) {
            self.vector.advance(&span.origin, span.upto);
            self.reach_anew();
        }
        if span.size() <= PUSH_LEN_MAX {
            let peers: Vec<String> = self.peers.keys().cloned().collect();
            out.extend(peers.iter().map(|peer| self.send(peer, vec![span.clone()], More::new())));
        }
        self.keep(span);
    }

    /// The keeper's word is the last one, also when it takes something back.
    fn taken(&mut self, vector: Vector, now_ms: u64, out: &mut Vec<Output>) {
        if vector.epoch != self.vector.epoch {
            self.ring = Ring::default();
            self.early = Early::default();
            self.promised = Promised::default();
        }
        let explained = self.reach.0.covers(&vector);
        self.vector = vector;
        for (from, span) in self.promised.settle(&self.vector) {
            self.pass_on(&from, &span, out);
            self.keep(span);
        }
        self.reach_anew();
        self.early.drop_known(&self.reach.0);
        // A step that no span explains is a whole that came in.
        let over = self.fetch.take_if(|transfer| !explained || self.vector.covers(&transfer.target));
        if let Some(Transfer { peer, target, .. }) = over {
            let moved = self.vector.covers(&target);
            self.judge(peer, &target, moved, now_ms, out);
        }
    }

    fn pass_on(&self, from: &str, span: &Span, out: &mut Vec<Output>) {
        if span.size() > RELAY_LEN_MAX {
            return;
        }
        let lacks = |peer: &Peer| peer.wants_news() && !peer.has(&span.origin, span.upto, self.vector.digest());
        let others = self.peers.iter().filter(|(name, peer)| *name != from && lacks(peer));
        out.extend(others.map(|(name, _)| self.send(name, vec![span.clone()], More::new())));
    }

    fn keep(&mut self, span: Span) {
        if span.size() <= SPAN_LEN_MAX {
            self.ring.push(span);
        }
    }

    /// What follows from the state and the time: transfers that ended, and whom to ask.
    fn step(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        self.early.expire(now_ms);
        if self.promised.expire(now_ms) {
            self.reach_anew();
        }
        if let Some(asked) = self.pull.take_if(|asked| now_ms >= asked.since_ms + WATCHDOG_MS)
            && let Some(peer) = self.peers.get_mut(&asked.donor)
        {
            peer.failed(now_ms);
        }
        if let Some(transfer) = self.fetch.take_if(|transfer| now_ms >= transfer.since_ms + FETCH_MS)
            && let Some(peer) = self.peers.get_mut(&transfer.peer)
        {
            peer.failed(now_ms);
        }
        if self.ahead(now_ms).next().is_none() {
            self.behind_ms = None;
            return;
        }
        let behind_ms = *self.behind_ms.get_or_insert(now_ms);
        if self.pull.is_none() && self.fetch.is_none() && now_ms >= behind_ms + GRACE_MS {
            self.ask(now_ms, out);
        }
    }

    /// Asks the donor that promises most: whoever did not fail, then whoever answers fastest.
    fn ask(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        let free = self.ahead(now_ms).filter(|(_, peer)| peer.not_before_ms() <= now_ms);
        let Some(donor) = free.min_by_key(|(_, peer)| peer.rank()).map(|(name, _)| name.clone()) else { return };
        if let Some(peer) = self.peers.get_mut(&donor) {
            peer.asked(now_ms);
        }
        self.pulls += 1;
        // What is promised is asked for again, as a keeper that fails must not make this node claim what it lacks.
        let pull = Pull { vector: self.vector.clone(), more: vec![(ANSWER, self.pulls.to_le_bytes().to_vec())] };
        self.pull = Some(Asked { donor: donor.clone(), number: self.pulls, since_ms: now_ms });
        out.push(Output::Send { peer: donor, frame: Frame::Pull(pull) });
    }

    /// Whether a frame answers the pull that is out, which is over then. One that comes too late answers none.
    fn is_answer(&mut self, from: &str, more: &More) -> bool {
        let number = member(more, ANSWER);
        self.pull.take_if(|asked| asked.donor == from && number == Some(&asked.number.to_le_bytes()[..])).is_some()
    }

    /// Peers that have something we lack, as far as they said.
    fn ahead(&self, now_ms: u64) -> impl Iterator<Item = (&String, &Peer)> {
        let (reach, digest) = &self.reach;
        let position = (reach, reach.revision(), *digest);
        self.peers.iter().filter(move |(_, peer)| peer.is_ahead(position, now_ms))
    }

    fn reach_anew(&mut self) {
        let mut reach = self.vector.clone();
        self.promised.spans().for_each(|span| reach.advance(&span.origin, span.upto));
        let digest = reach.digest();
        self.reach = (reach, digest);
    }

    fn send(&self, peer: &str, spans: Vec<Span>, more: More) -> Output {
        let spans = Spans { spans, vector: self.vector.clone(), more };
        Output::Send { peer: peer.to_owned(), frame: Frame::Spans(spans) }
    }

    fn expel(&mut self, peer: String, why: &'static str, out: &mut Vec<Output>) {
        self.disconnected(&peer);
        out.push(Output::Expel { peer, why });
    }
}

/// What gives the sender of spans away. Whether a time is in the future is not asked: that would depend on our clock.
fn lie(spans: &Spans) -> Option<&'static str> {
    let offers = |span: &Span| span.epoch == spans.vector.epoch && span.upto <= spans.vector.count(&span.origin);
    if spans.spans.iter().any(|span| span.after >= span.upto) {
        return Some("a span runs backwards");
    }
    if !spans.spans.iter().all(offers) {
        return Some("it offers what it does not have");
    }
    let times = spans.spans.iter().flat_map(|span| &span.changes).map(|changed| changed.time);
    times.max().is_some_and(|time| time > TIME_MAX).then_some("a time beyond all clocks")
}
