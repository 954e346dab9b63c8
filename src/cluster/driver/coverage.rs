//! What each peer is known to have, for the write that waits until all have it.
//!
//! Beats carry a digest, which says whether two nodes are equal and nothing about who is ahead. While several nodes
//! write, two may not be equal for a long time although each has what the other wrote: so a beat also says how much of
//! its receiver's own history is in (`ACKNOWLEDGED`), and that is what a writer waits for.

use std::collections::{BTreeMap, VecDeque};

use tidegate_proto::Vector;
use tidegate_proto::frame::{Beat, NAME_LEN_MAX};

/// The member of `Beat::more` with how many transactions of the receiver are in: 8 bytes, big endian.
pub const ACKNOWLEDGED: u16 = 1;

/// Own positions that a digest can still be recognised as.
const OWN_MAX: usize = 256;

/// Positions of peers, as far as they showed.
#[derive(Debug)]
pub struct Coverage {
    me: String,
    /// Whether there is one history under the empty name, and a revision says everything.
    one_history: bool,
    own: VecDeque<(u64, Vector)>,
    peers: BTreeMap<String, Vector>,
    /// (epoch, transactions of this node) that peers acknowledged.
    acknowledged: BTreeMap<String, (u64, u64)>,
}

impl Coverage {
    pub fn new(me: &str, one_history: bool) -> Self {
        Self {
            me: me.to_owned(),
            one_history,
            own: VecDeque::new(),
            peers: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
        }
    }

    /// This node stands at `vector`, whose digest is `digest`.
    pub fn mine(&mut self, digest: u64, vector: &Vector) {
        if self.own.back().is_some_and(|(newest, _)| *newest == digest) {
            return;
        }
        if self.own.len() == OWN_MAX {
            self.own.pop_front();
        }
        self.own.push_back((digest, vector.clone()));
    }

    pub fn beat(&mut self, peer: &str, beat: &Beat) {
        if self.one_history {
            return self.stands(peer, Vector::of_database(beat.revision));
        }
        if let Some((_, vector)) = self.own.iter().rev().find(|(digest, _)| *digest == beat.digest) {
            return self.stands(peer, vector.clone());
        }
        if let Some(count) = acknowledged(beat) {
            self.acknowledged.insert(peer.to_owned(), (beat.revision.epoch, count));
        }
    }

    /// A frame of `peer` said where it stands.
    pub fn stands(&mut self, peer: &str, vector: Vector) {
        let known = self.peers.entry(peer.to_owned()).or_default();
        if known.epoch != vector.epoch {
            *known = vector;
            return;
        }
        vector.counts.iter().for_each(|(origin, count)| known.advance(origin, *count));
    }

    /// A peer that comes back may have less than before: its disk may be another.
    pub fn forget(&mut self, peer: &str) {
        self.peers.remove(peer);
        self.acknowledged.remove(peer);
    }

    /// Whether `peer` has everything in `vector`, or at least everything that this node wrote of it.
    pub fn covers(&self, peer: &str, vector: &Vector) -> bool {
        let written = written(&self.me, vector);
        let acknowledged = self.acknowledged.get(peer).copied().unwrap_or_default();
        self.peers.get(peer).is_some_and(|known| known.covers(vector))
            || written > 0 && acknowledged >= (vector.epoch, written)
    }

    /// How many transactions of `peer` are in `vector`, as a beat to that peer says it.
    pub fn acknowledge(&self, peer: &str, vector: &Vector, beat: &mut Beat) {
        if !self.one_history {
            beat.more.push((ACKNOWLEDGED, written(peer, vector).to_be_bytes().to_vec()));
            // Members of a frame ascend.
            beat.more.sort_unstable_by_key(|(number, _)| *number);
        }
    }
}

/// How many transactions of a node are in: those of all disks that it has had.
fn written(node: &str, vector: &Vector) -> u64 {
    let of_node = vector.counts.iter().filter(|(origin, _)| is_of(origin, node));
    of_node.fold(0, |sum, (_, count)| sum.saturating_add(*count))
}

/// The embedded store calls its history `NODE.PART`, with a node id that is too long cut short.
fn is_of(origin: &str, node: &str) -> bool {
    let name = origin.rsplit_once('.').map_or(origin, |(name, _)| name);
    name == node || origin == node || (origin.len() == NAME_LEN_MAX && node.starts_with(name))
}

fn acknowledged(beat: &Beat) -> Option<u64> {
    let (_, bytes) = beat.more.iter().find(|(number, _)| *number == ACKNOWLEDGED)?;
    Some(u64::from_be_bytes(bytes.as_slice().try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use tidegate_proto::Revision;

    use super::*;

    fn vector(counts: &[(&str, u64)]) -> Vector {
        let counts = counts.iter().map(|(origin, count)| ((*origin).to_owned(), *count)).collect();
        Vector { epoch: 1, counts }
    }

    fn beat(revision: Revision, digest: u64) -> Beat {
        Beat {
            sequence: 1,
            revision,
            digest,
            time_ms: 0,
            echo_ms: 0,
            echo_age_ms: 0,
            draining: false,
            more: Vec::new(),
        }
    }

    #[test]
    fn a_database_has_one_history_that_revisions_compare() {
        let mut coverage = Coverage::new("a", true);
        let wanted = Vector::of_database(Revision::new(1, 7));
        coverage.beat("b", &beat(Revision::new(1, 6), 0));
        assert!(!coverage.covers("b", &wanted) && !coverage.covers("c", &wanted));
        coverage.beat("b", &beat(Revision::new(1, 9), 0));
        assert!(coverage.covers("b", &wanted));
        coverage.beat("b", &beat(Revision::new(2, 3), 0));
        assert!(coverage.covers("b", &wanted), "a later epoch has replaced it");
    }

    #[test]
    fn a_digest_that_was_ours_says_where_a_peer_stands() {
        let mut coverage = Coverage::new("a", false);
        let (first, second) = (vector(&[("a", 1)]), vector(&[("a", 2), ("b", 1)]));
        coverage.mine(11, &first);
        coverage.mine(22, &second);
        coverage.beat("b", &beat(Revision::new(1, 1), 11));
        assert!(coverage.covers("b", &first) && !coverage.covers("b", &second));
        coverage.beat("b", &beat(Revision::new(1, 3), 22));
        assert!(coverage.covers("b", &second));
        coverage.forget("b");
        assert!(!coverage.covers("b", &first));
    }

    #[test]
    fn an_acknowledgement_is_enough_while_others_write_too() {
        let (mut here, there) = (Coverage::new("a", false), Coverage::new("b", false));
        let wanted = vector(&[("a.1f", 3), ("a.2e", 2), ("c.1", 9)]);
        for (has, covered) in [(4, false), (5, true)] {
            let mut beat = beat(Revision::new(1, 99), 1234);
            there.acknowledge("a", &vector(&[("a.1f", has - 2), ("a.2e", 2), ("a.b.3d", 7), ("b.1", 100)]), &mut beat);
            here.beat("b", &beat);
            assert_eq!(here.covers("b", &wanted), covered);
        }
    }
}
