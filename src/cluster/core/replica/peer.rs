//! What a peer said of itself, and how it did as a donor.

use tidegate_proto::frame::{Beat, member};
use tidegate_proto::{Revision, Vector};

use crate::cluster::core::members::NEIGHBOUR;

/// A beat that differs from us for so long is asked about even if its revision is smaller than ours.
const DIFFERS_MS: u64 = 1_500;
/// Pulls of one peer that are answered within a second.
pub const PULLS_MAX: u32 = 50;
/// Pauses after failures: doubled each time, within these.
const PAUSE_MS: (u64, u64) = (250, 8_000);
/// Longest time that a busy peer is believed to be busy.
const BUSY_MAX_MS: u32 = 10_000;
/// Assumed of a donor that has not answered yet.
const ANSWER_MS: u64 = 100;

/// A connected peer.
#[derive(Debug, Default)]
pub struct Peer {
    /// The newest position it showed.
    revision: Revision,
    digest: u64,
    /// Everything it said it has, if the last frame with a vector is as new as its last beat.
    vector: Option<Vector>,
    beat_sequence: u64,
    beat_revision: Revision,
    wants_news: bool,
    /// Since when its beats differ from us without being ahead by their number.
    differs_ms: Option<u64>,
    not_before_ms: u64,
    failures: u32,
    strikes: u32,
    asked_ms: u64,
    /// Where it was known to stand when it was asked.
    asked_for: Revision,
    answer_ms: Option<u64>,
    /// The second that is counted in, and its pulls.
    pulls: (u64, u32),
}

impl Peer {
    /// False: it goes backwards. `reach` is our position.
    pub fn beat(&mut self, beat: &Beat, reach: (Revision, u64), now_ms: u64) -> bool {
        if beat.sequence <= self.beat_sequence {
            return true;
        }
        if beat.revision < self.beat_revision {
            return false;
        }
        self.beat_sequence = beat.sequence;
        self.beat_revision = beat.revision;
        self.wants_news = member(&beat.more, NEIGHBOUR).is_some();
        // A vector that came by another stream may be newer than the beat.
        if beat.revision >= self.revision && beat.digest != self.digest {
            (self.revision, self.digest, self.vector) = (beat.revision, beat.digest, None);
        }
        let odd = self.digest != reach.1 && self.revision < reach.0 && self.vector.is_none();
        self.differs_ms = if odd { self.differs_ms.or(Some(now_ms)) } else { None };
        true
    }

    /// A frame of it said where it stands.
    pub fn stands(&mut self, vector: &Vector) {
        let revision = vector.revision();
        if revision >= self.revision {
            (self.revision, self.digest) = (revision, vector.digest());
            self.vector = Some(vector.clone());
            self.differs_ms = None;
        }
    }

    /// Whether it has something that is not within `reach`, our position with its revision and digest.
    pub fn is_ahead(&self, (reach, revision, digest): (&Vector, Revision, u64), now_ms: u64) -> bool {
        if self.digest == digest {
            return false;
        }
        if let Some(vector) = &self.vector {
            return !reach.covers(vector);
        }
        if self.revision.epoch != revision.epoch {
            return self.revision.epoch > revision.epoch;
        }
        let late = self.differs_ms.is_some_and(|since| now_ms >= since + DIFFERS_MS);
        self.beat_sequence > 0 && (self.revision.number >= revision.number || late)
    }

    pub fn differs_until_ms(&self) -> Option<u64> {
        self.differs_ms.map(|since| since + DIFFERS_MS)
    }

    pub fn wants_news(&self) -> bool {
        self.wants_news
    }

    /// Whether it is known to have so much of a writer's, or all that a position with this digest has.
    pub fn has(&self, origin: &str, count: u64, digest: u64) -> bool {
        self.digest == digest || self.vector.as_ref().is_some_and(|vector| vector.count(origin) >= count)
    }

    pub fn may_pull(&mut self, now_ms: u64) -> bool {
        let second = now_ms / 1_000;
        if self.pulls.0 != second {
            self.pulls = (second, 0);
        }
        self.pulls.1 += 1;
        self.pulls.1 <= PULLS_MAX
    }

    pub fn asked(&mut self, now_ms: u64) {
        (self.asked_ms, self.asked_for) = (now_ms, self.revision);
    }

    pub fn asked_for(&self) -> Revision {
        self.asked_for
    }

    /// Answers how often in a row it was of no use.
    pub fn answered(&mut self, helped: bool, now_ms: u64) -> u32 {
        self.answer_ms = Some(now_ms.saturating_sub(self.asked_ms));
        if helped {
            (self.failures, self.strikes) = (0, 0);
        } else {
            self.failed(now_ms);
            self.strikes += 1;
        }
        self.strikes
    }

    pub fn failed(&mut self, now_ms: u64) {
        let (least, most) = PAUSE_MS;
        let pause = (least << self.failures.min(16)).min(most);
        self.failures = self.failures.saturating_add(1);
        self.not_before_ms = now_ms + pause;
    }

    pub fn is_busy(&mut self, retry_after_ms: u32, now_ms: u64) {
        self.not_before_ms = now_ms + u64::from(retry_after_ms.clamp(10, BUSY_MAX_MS));
    }

    pub fn not_before_ms(&self) -> u64 {
        self.not_before_ms
    }

    /// Smaller is better.
    pub fn rank(&self) -> (u32, u64) {
        (self.failures, self.answer_ms.unwrap_or(ANSWER_MS))
    }
}
