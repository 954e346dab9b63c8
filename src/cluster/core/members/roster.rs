//! The members one by one: what is remembered of each, when it is dialled, and when it is forgotten.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tidegate_proto::Revision;
use tidegate_proto::frame::{Beat, Hello, member};

use crate::cluster::core::view::{HOSTNAME, Member, State};

/// Silence after which a member is suspect, and dead.
pub const SUSPECT_MS: u64 = 3_000;
pub const DEAD_MS: u64 = 8_000;
/// Members at most, this node not counted. A further one is let in only in the place of a dead one.
pub const MEMBERS_MAX: usize = 1_000;

/// How long the dead are remembered, and those that said goodbye.
pub const DEAD_KEPT_MS: u64 = 3_600_000;
pub const LEFT_KEPT_MS: u64 = 300_000;
/// How long hearsay about somebody forgotten is not believed, and about how many.
const FORGOTTEN_KEPT_MS: u64 = 24 * 3_600_000;
const FORGOTTEN_MAX: usize = 1_000;

/// Pauses between dials: short, so that a healed partition is noticed at once; longer to who has been away for a while.
const DIAL_MS: (u64, u64) = (300, 500);
const DIAL_RARELY_MS: (u64, u64) = (2_000, 5_000);
const DIAL_RARELY_AFTER_MS: u64 = 600_000;

/// Beats whose way back is waited for.
const SENT_MAX: usize = 4;

/// What is known of a member.
#[derive(Debug)]
pub struct Known {
    /// Of the newest incarnation that was heard of.
    pub facts: Hello,
    pub since_ms: u64,
    pub heard_ms: Option<u64>,
    pub left_ms: Option<u64>,
    pub link: Option<Link>,
    pub revision: Revision,
    pub digest: u64,
    pub draining: bool,
    pub rtt_ms: Option<f64>,
    dial_ms: u64,
}

/// A connection.
#[derive(Debug, Default)]
pub struct Link {
    /// Of the process at its other end.
    incarnation: u64,
    sequence: u64,
    /// The last beat sent, and whether something changed since.
    pub beat_ms: Option<u64>,
    pub owes_news: bool,
    /// (our Unix time, monotonic time) of beats sent.
    sent: VecDeque<(u64, u64)>,
    pub heard_sequence: u64,
    /// (their Unix time, monotonic time) of the last beat heard.
    heard: (u64, u64),
}

/// All members but this node.
#[derive(Debug)]
pub struct Roster {
    members: BTreeMap<String, Known>,
    /// Who was forgotten: (incarnation, until when hearsay about it is not believed).
    forgotten: BTreeMap<String, (u64, u64)>,
    jitter: Jitter,
}

/// A small generator (splitmix64): pauses have to differ between nodes, and repeat under a seed.
#[derive(Debug)]
struct Jitter(u64);

impl Roster {
    pub fn new(seed: u64) -> Self {
        Self { members: BTreeMap::new(), forgotten: BTreeMap::new(), jitter: Jitter(seed) }
    }

    pub fn known(&self, node_id: &str) -> Option<&Known> {
        self.members.get(node_id)
    }

    pub fn known_mut(&mut self, node_id: &str) -> Option<&mut Known> {
        self.members.get_mut(node_id)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Known> {
        self.members.values()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Known> {
        self.members.values_mut()
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Somebody proved to be there. An incarnation older than one that is known changes nothing.
    pub fn connected(&mut self, hello: Hello, now_ms: u64) {
        let incarnation = hello.incarnation;
        self.forgotten.remove(&hello.node_id);
        let Some(known) = self.learn(hello.clone(), now_ms) else { return };
        if known.facts.incarnation == incarnation && known.left_ms.is_none() {
            // It says more about itself than others do.
            known.facts = hello;
            known.link = Some(Link { incarnation, ..Link::default() });
            known.heard_ms = Some(now_ms);
        }
    }

    pub fn disconnected(&mut self, node_id: &str, now_ms: u64) {
        let pause = self.jitter.within(DIAL_MS);
        if let Some(known) = self.members.get_mut(node_id) {
            known.link = None;
            known.dial_ms = now_ms + pause;
        }
    }

    /// Hearsay: somebody exists. It is dialled to see.
    pub fn hint(&mut self, facts: Hello, now_ms: u64) {
        let stale = self.forgotten.get(&facts.node_id).is_some_and(|(known, _)| facts.incarnation <= *known);
        if !stale {
            self.learn(facts, now_ms);
        }
    }

    /// Members without a connection whose pause is over. Where a member with a connection lives nobody else does:
    /// addresses get used again.
    pub fn due_to_dial(&mut self, now_ms: u64) -> Vec<String> {
        let connected = self.members.values().filter(|known| known.has_link());
        let taken: BTreeSet<String> = connected.map(|known| known.facts.address.clone()).collect();
        let mut due = Vec::new();
        for known in self.members.values_mut() {
            if known.has_link() || known.left_ms.is_some() || now_ms < known.dial_ms {
                continue;
            }
            let rarely = known.silent_ms(now_ms) > DIAL_RARELY_AFTER_MS;
            known.dial_ms = now_ms + self.jitter.within(if rarely { DIAL_RARELY_MS } else { DIAL_MS });
            if !taken.contains(&known.facts.address) {
                due.push(known.facts.address.clone());
            }
        }
        due.sort_unstable();
        due.dedup();
        due
    }

    pub fn forget(&mut self, now_ms: u64) {
        let over = |known: &Known| match known.left_ms {
            Some(left) => now_ms - left.min(now_ms) > LEFT_KEPT_MS,
            None => known.silent_ms(now_ms) > DEAD_KEPT_MS,
        };
        let old: Vec<String> =
            self.members.values().filter(|known| over(known)).map(|known| known.facts.node_id.clone()).collect();
        for node_id in old {
            self.drop_member(&node_id, now_ms);
        }
        self.forgotten.retain(|_, (_, until)| *until > now_ms);
    }

    /// The entry for a process; `None` when the cluster is full of members that are not dead.
    fn learn(&mut self, facts: Hello, now_ms: u64) -> Option<&mut Known> {
        if !self.members.contains_key(&facts.node_id) && self.members.len() >= MEMBERS_MAX {
            self.make_room(now_ms)?;
        }
        let known = self.members.entry(facts.node_id.clone()).or_insert_with(|| Known::new(facts.clone(), now_ms));
        if facts.incarnation > known.facts.incarnation {
            // Another process: nothing that was said of the one before holds.
            let link = known.link.take();
            *known = Known { link, heard_ms: known.heard_ms, ..Known::new(facts, now_ms) };
        }
        Some(known)
    }

    fn make_room(&mut self, now_ms: u64) -> Option<()> {
        let gone = self.members.values().filter(|known| matches!(known.state(now_ms), State::Dead | State::Left));
        let oldest = gone.max_by_key(|known| known.silent_ms(now_ms))?.facts.node_id.clone();
        self.drop_member(&oldest, now_ms);
        Some(())
    }

    /// At `FORGOTTEN_MAX` the one that would be believed again soonest makes room.
    fn drop_member(&mut self, node_id: &str, now_ms: u64) {
        let Some(known) = self.members.remove(node_id) else { return };
        if self.forgotten.len() >= FORGOTTEN_MAX {
            let soonest = self.forgotten.iter().min_by_key(|(_, (_, until))| *until).map(|(name, _)| name.clone());
            soonest.and_then(|name| self.forgotten.remove(&name));
        }
        self.forgotten.insert(node_id.to_owned(), (known.facts.incarnation, now_ms + FORGOTTEN_KEPT_MS));
    }
}

impl Known {
    pub fn new(facts: Hello, now_ms: u64) -> Self {
        Self {
            facts,
            since_ms: now_ms,
            heard_ms: None,
            left_ms: None,
            link: None,
            revision: Revision::default(),
            digest: 0,
            draining: false,
            rtt_ms: None,
            dial_ms: 0,
        }
    }

    /// Whether the connection is to the newest process of that name.
    pub fn is_current(&self) -> bool {
        self.has_link() && self.left_ms.is_none()
    }

    pub fn state(&self, now_ms: u64) -> State {
        match (self.left_ms, self.silent_ms(now_ms)) {
            (Some(_), _) => State::Left,
            (None, silent) if silent > DEAD_MS => State::Dead,
            (None, silent) if silent > SUSPECT_MS || self.heard_ms.is_none() => State::Suspect,
            (None, _) => State::Alive,
        }
    }

    pub fn member(&self, now_ms: u64) -> Member {
        let facts = &self.facts;
        Member {
            node_id: facts.node_id.clone(),
            region: facts.region.clone(),
            address: facts.address.clone(),
            state: self.state(now_ms),
            incarnation: facts.incarnation,
            version: facts.version.clone(),
            revision: self.revision,
            digest: self.digest,
            rtt_ms: self.rtt_ms,
            last_heard_ms: self.silent_ms(now_ms),
            hostname: hostname(facts),
            draining: self.draining,
        }
    }

    fn has_link(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.incarnation == self.facts.incarnation)
    }

    /// Since anything was heard of it, or it became known.
    fn silent_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.heard_ms.unwrap_or(self.since_ms))
    }
}

fn hostname(facts: &Hello) -> String {
    member(&facts.more, HOSTNAME).map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default()
}

impl Link {
    /// The next beat, its position still to be filled in.
    pub fn beat(&mut self, now_ms: u64, unix_ms: u64) -> Beat {
        self.sequence += 1;
        (self.beat_ms, self.owes_news) = (Some(now_ms), false);
        if self.sent.len() == SENT_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back((unix_ms, now_ms));
        let (echo_ms, heard_ms) = self.heard;
        let age = if echo_ms == 0 { 0 } else { now_ms.saturating_sub(heard_ms) };
        Beat {
            sequence: self.sequence,
            revision: Revision::default(),
            digest: 0,
            time_ms: unix_ms,
            echo_ms,
            echo_age_ms: u32::try_from(age).unwrap_or(u32::MAX),
            draining: false,
            more: Vec::new(),
        }
    }

    pub fn hear(&mut self, beat: &Beat, now_ms: u64) {
        (self.heard_sequence, self.heard) = (beat.sequence, (beat.time_ms, now_ms));
    }

    /// From the echo of a beat of ours; in monotonic time, so a step of the wall clock does no harm.
    pub fn round_trip(&self, beat: &Beat, now_ms: u64) -> Option<f64> {
        let (_, sent) = self.sent.iter().rev().find(|(unix_ms, _)| *unix_ms == beat.echo_ms)?;
        Some(now_ms.saturating_sub(sent + u64::from(beat.echo_age_ms)) as f64)
    }
}

impl Jitter {
    fn within(&mut self, (least, most): (u64, u64)) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        least + (mixed ^ (mixed >> 31)) % (most - least + 1)
    }
}
