//! Who is in the cluster, and how each of them is: from what was heard, and when.
//!
//! Liveness is what the connection and the beats say; the membership protocol only hints at who exists. A process is
//! named by its node id and incarnation, and an older incarnation never replaces a newer one, however late word of it
//! comes. Memory is bounded: the dead and the departed are forgotten, and what was forgotten is not learnt again from
//! hearsay. A failure detector that counts suspicions (phi) lost: with a beat each second over a connection that repairs
//! loss by itself, a limit that one can explain is as good.

mod roster;

#[cfg(test)]
mod tests;

use tidegate_proto::Vector;
use tidegate_proto::frame::{Beat, Hello};

pub use crate::cluster::core::members::roster::{DEAD_MS, MEMBERS_MAX, SUSPECT_MS};

use crate::cluster::core::members::roster::{Known, Link, Roster};
use crate::cluster::core::rights::{PROMISE, Promise};
use crate::cluster::core::view::{Member, State, View};

/// The member of `Beat::more` by which a node asks a near neighbour to pass on to it what it learns; no content. It
/// makes up for a push that was lost on a long way.
pub const NEIGHBOUR: u16 = 0;

/// Neighbours that are asked to pass on.
const NEIGHBOURS: usize = 2;
const BEAT_MS: u64 = 1_000;
/// Positions that change faster than this share a beat.
const BEAT_PAUSE_MS: u64 = 20;

/// What was heard. `now_ms` is monotonic.
#[derive(Clone, Debug)]
pub enum Heard {
    /// A connection and its Hello.
    Connected(Hello),
    Disconnected {
        node_id: String,
    },
    Beat {
        node_id: String,
        beat: Beat,
    },
    /// Any other frame: a sign of life.
    Frame {
        node_id: String,
    },
    /// Said goodbye.
    Left {
        node_id: String,
    },
    /// The membership protocol knows of it.
    Hint {
        node_id: String,
        address: String,
        region: String,
        incarnation: u64,
        version: String,
    },
    Rtt {
        node_id: String,
        rtt_ms: f64,
    },
    /// Every beat carries this promise about strict limits.
    Promise(Promise),
    /// This node's own position.
    Mine {
        vector: Vector,
        draining: bool,
    },
}

/// How far a peer's clock is ahead of this node's, and how long the question took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockSample {
    pub offset_ms: i64,
    pub rtt_ms: u64,
}

/// This node's view of all others.
#[derive(Debug)]
pub struct Members {
    me: Hello,
    vector: Vector,
    digest: u64,
    draining: bool,
    promise: Option<Promise>,
    /// When the position or `draining` changed and not everyone has been told.
    changed: bool,
    roster: Roster,
}

impl Members {
    pub fn new(me: &Hello, vector: Vector) -> Self {
        let seed = me.node_id.bytes().fold(me.incarnation, |seed, byte| seed.rotate_left(7) ^ u64::from(byte));
        let digest = vector.digest();
        Self {
            me: me.clone(),
            vector,
            digest,
            draining: false,
            promise: None,
            changed: false,
            roster: Roster::new(seed),
        }
    }

    pub fn on(&mut self, heard: Heard, now_ms: u64) {
        match heard {
            Heard::Connected(hello) => self.connected(hello, now_ms),
            Heard::Disconnected { node_id } => self.disconnected(&node_id, now_ms),
            Heard::Beat { node_id, beat } => self.beat(&node_id, &beat, now_ms),
            Heard::Frame { node_id } => self.sign_of_life(&node_id, now_ms),
            Heard::Left { node_id } => {
                if let Some(known) = self.roster.known_mut(&node_id) {
                    known.left_ms = Some(now_ms);
                }
            }
            Heard::Hint { node_id, address, region, incarnation, version } => {
                if node_id != self.me.node_id {
                    let facts =
                        Hello { node_id, address, region, incarnation, version, more: Vec::new(), ..self.me.clone() };
                    self.roster.hint(facts, now_ms);
                }
            }
            Heard::Rtt { node_id, rtt_ms } => {
                if let Some(known) = self.roster.known_mut(&node_id) {
                    known.rtt_ms = (rtt_ms.is_finite() && rtt_ms >= 0.0).then_some(rtt_ms);
                }
            }
            Heard::Promise(promise) => (self.promise, self.changed) = (Some(promise), true),
            Heard::Mine { vector, draining } => self.mine(vector, draining),
        }
    }

    pub fn view(&self, now_ms: u64) -> View {
        let mut nodes = vec![self.myself()];
        nodes.extend(self.roster.iter().map(|known| known.member(now_ms)));
        let converged = nodes.iter().filter(|node| node.state == State::Alive).all(|node| self.has_mine(node));
        let me = &self.me;
        View {
            cluster_id: me.cluster_id.clone(),
            me: me.node_id.clone(),
            vector: self.vector.clone(),
            converged,
            nodes,
        }
    }

    /// Addresses that should be dialled now: known members without a connection, with pauses between tries.
    pub fn due_to_dial(&mut self, now_ms: u64) -> Vec<String> {
        self.roster.forget(now_ms);
        self.roster.due_to_dial(now_ms)
    }

    /// Beats that are due now: (peer, beat). One a second to everybody, and one at once when the position changed.
    pub fn beats(&mut self, now_ms: u64, unix_ms: u64) -> Vec<(String, Beat)> {
        let (changed, revision, digest, draining) =
            (std::mem::take(&mut self.changed), self.vector.revision(), self.digest, self.draining);
        let due = |known: &Known| known.link.as_ref().is_some_and(|link| link.is_due(changed, now_ms));
        if !self.roster.iter().any(due) {
            self.changed = changed && self.roster.iter().any(|known| known.link.is_some());
            return Vec::new();
        }
        let near = self.neighbours(now_ms);
        let promise = self.promise;
        let mut beats = Vec::new();
        for known in self.roster.iter_mut() {
            let node_id = known.facts.node_id.clone();
            let Some(link) = known.link.as_mut() else { continue };
            link.owes_news |= changed;
            if !link.is_due(false, now_ms) {
                continue;
            }
            let mut beat = link.beat(now_ms, unix_ms);
            (beat.revision, beat.digest, beat.draining) = (revision, digest, draining);
            if near.contains(&node_id) {
                beat.more.push((NEIGHBOUR, Vec::new()));
            }
            beat.more.extend(promise.map(|promise| (PROMISE, promise.to_bytes())));
            beats.push((node_id, beat));
        }
        beats
    }

    /// What a beat says about the clocks, before it was heard; `None` where its way cannot be measured. `unix_ms` is the
    /// wall clock at `now_ms`.
    pub fn clock_sample(&self, node_id: &str, beat: &Beat, now_ms: u64, unix_ms: u64) -> Option<ClockSample> {
        let link = self.roster.known(node_id).filter(|known| known.is_current())?.link.as_ref()?;
        if beat.sequence <= link.heard_sequence {
            return None;
        }
        let rtt_ms = link.round_trip(beat, now_ms)?;
        // It took half of the round trip to get here, as far as anybody can know.
        let theirs_ms = i64::try_from(beat.time_ms).ok()?.checked_add((rtt_ms / 2.0).round() as i64)?;
        let offset_ms = theirs_ms.checked_sub(i64::try_from(unix_ms).ok()?)?;
        Some(ClockSample { offset_ms, rtt_ms: rtt_ms as u64 })
    }

    /// Members that are remembered, in any state; for tests and metrics.
    pub fn len(&self) -> usize {
        self.roster.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn connected(&mut self, hello: Hello, now_ms: u64) {
        if hello.node_id != self.me.node_id {
            self.roster.connected(hello, now_ms);
        }
    }

    fn disconnected(&mut self, node_id: &str, now_ms: u64) {
        self.roster.disconnected(node_id, now_ms);
    }

    /// Frames of a connection that belongs to an incarnation which was replaced say nothing about the new one.
    fn beat(&mut self, node_id: &str, beat: &Beat, now_ms: u64) {
        let Some(known) = self.roster.known_mut(node_id).filter(|known| known.is_current()) else { return };
        let Some(link) = known.link.as_mut() else { return };
        if beat.sequence <= link.heard_sequence {
            return;
        }
        link.hear(beat, now_ms);
        let measured = link.round_trip(beat, now_ms);
        known.rtt_ms = known.rtt_ms.or(measured);
        (known.revision, known.digest, known.draining) = (beat.revision, beat.digest, beat.draining);
        known.heard_ms = Some(now_ms);
    }

    fn sign_of_life(&mut self, node_id: &str, now_ms: u64) {
        if let Some(known) = self.roster.known_mut(node_id).filter(|known| known.is_current()) {
            known.heard_ms = Some(now_ms);
        }
    }

    fn mine(&mut self, vector: Vector, draining: bool) {
        if vector != self.vector || draining != self.draining {
            self.digest = vector.digest();
            (self.vector, self.draining, self.changed) = (vector, draining, true);
        }
    }

    fn myself(&self) -> Member {
        let mut me = Known::new(self.me.clone(), 0);
        (me.heard_ms, me.revision, me.digest) = (Some(0), self.vector.revision(), self.digest);
        me.draining = self.draining;
        me.member(0)
    }

    /// Equal digests are equal positions. With one history, the database's, a later revision will do too.
    fn has_mine(&self, node: &Member) -> bool {
        let one_history = self.vector.counts.keys().all(String::is_empty);
        node.digest == self.digest || one_history && node.revision >= self.vector.revision()
    }

    /// The nearest of those that are well and speak to us.
    fn neighbours(&self, now_ms: u64) -> Vec<String> {
        let mut near: Vec<&Known> = self.roster.iter().filter(|known| known.link.is_some()).collect();
        near.retain(|known| known.state(now_ms) == State::Alive && known.rtt_ms.is_some());
        let far = |known: &Known| known.rtt_ms.unwrap_or(f64::MAX);
        near.sort_by(|a, b| far(a).total_cmp(&far(b)));
        near.into_iter().take(NEIGHBOURS).map(|known| known.facts.node_id.clone()).collect()
    }
}

impl Link {
    fn is_due(&self, changed: bool, now_ms: u64) -> bool {
        let pause = if changed || self.owes_news { BEAT_PAUSE_MS } else { BEAT_MS };
        self.beat_ms.is_none_or(|last| now_ms >= last + pause)
    }
}
