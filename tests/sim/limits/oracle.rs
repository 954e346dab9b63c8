//! What is true: every decision by the book, and what the nodes may say about it.
//!
//! One `crdts::GCounter` per key and window, with an actor per process, is the truth. Decisions are entered as they are
//! made, and whatever a node sends or shows is held against it: a process' own slot only grows (I1), no slot is more than
//! was admitted there (I3) in that very window (I4), and the usage that clients are told never falls within a window.
//! Where `mirrors` are kept, each process has a second counter beside it that merges the same slots as it (I2).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crdts::{CmRDT, Dot, GCounter};

/// Key, demand and count of a slot on the wire.
const SLOT_LEN: u64 = 12;

/// A process: its node, and which of the node's processes it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Actor {
    pub node: u16,
    pub run: u16,
}

/// A key, by its place in the world's list, in a window, by its number.
pub type Place = (u16, u32);

/// One window of one key.
#[derive(Debug, Default)]
pub struct Book {
    pub truth: GCounter<Actor>,
    /// Who has a slot in it.
    pub actors: BTreeSet<Actor>,
    /// Requests that came in this window by the true clock.
    pub offered: u64,
    pub admitted: u64,
    pub refused: u64,
    /// When the admitted reached the limit, and by whom more was admitted since.
    pub full_us: Option<u64>,
    pub beyond: BTreeMap<u16, u64>,
    /// What processes that crashed had admitted and not told all their peers.
    pub unsent: u64,
}

/// A decision.
#[derive(Clone, Copy, Debug)]
pub struct Decision {
    pub actor: Actor,
    pub key: u16,
    /// The window by the node's clock, and by the true one.
    pub window: u32,
    pub true_window: u32,
    pub admitted: bool,
    /// As the client was told, this hit not counted.
    pub usage: u64,
    pub room: u64,
    pub now_us: u64,
}

/// What a process told its clients of a key last.
#[derive(Clone, Copy, Debug)]
struct Told {
    window: u32,
    usage: u64,
    /// In this window; since then the usage is that of a full window.
    refused: bool,
}

#[derive(Default)]
pub struct Oracle {
    pub books: HashMap<Place, Book>,
    pub decisions: u64,
    /// Decisions in another window than the true one.
    pub misplaced: u64,
    /// The own slots that were sent by the process that has them.
    published: HashMap<(Actor, Place), u64>,
    /// Those that were sent to every peer of the process.
    told_all: HashMap<(Actor, Place), u64>,
    told: HashMap<(Actor, u16), Told>,
    mirrors: Option<HashMap<(Actor, Place), GCounter<Actor>>>,
}

impl Oracle {
    pub fn keep_mirrors(&mut self) {
        self.mirrors = Some(HashMap::new());
    }

    pub fn decided(&mut self, decision: &Decision) {
        let Decision { actor, key, window, true_window, admitted, usage, .. } = *decision;
        self.decisions += 1;
        self.misplaced += u64::from(window != true_window);
        self.books.entry((key, true_window)).or_default().offered += 1;
        let told = self.told.entry((actor, key)).or_insert(Told { window, usage: 0, refused: false });
        if told.window != window {
            *told = Told { window, usage: 0, refused: false };
        }
        assert!(
            usage >= told.usage,
            "{actor:?} told a usage of {} and then of {usage} in window {window} of key {key}",
            told.usage
        );
        told.usage = usage;
        told.refused |= !admitted;
        let refused = told.refused;
        let book = self.books.entry((key, window)).or_default();
        if !admitted {
            book.refused += 1;
            return;
        }
        assert!(
            refused || usage <= book.admitted,
            "I4: {actor:?} told a usage of {usage} in window {window} of key {key}, where {} were admitted",
            book.admitted
        );
        let dot = book.truth.inc(actor);
        if dot.counter == 1 {
            book.actors.insert(actor);
        }
        book.truth.apply(dot);
        book.admitted += 1;
        if book.admitted == decision.room {
            book.full_us = Some(decision.now_us);
        }
        if book.admitted > decision.room {
            *book.beyond.entry(actor.node).or_default() += 1;
        }
    }

    /// What `actor` admitted.
    pub fn slot(&self, actor: Actor, place: Place) -> u64 {
        self.books.get(&place).map_or(0, |book| book.truth.inc(actor).counter - 1)
    }

    pub fn admitted(&self, place: Place) -> u64 {
        self.books.get(&place).map_or(0, |book| book.admitted)
    }

    /// What others can know of a window: all slots but those of at most `withheld`, less what a process that was killed had not told to
    /// all its peers.
    pub fn told(&self, place: Place, withheld: u64) -> u64 {
        let Some(book) = self.books.get(&place) else { return 0 };
        let small: u64 =
            book.actors.iter().map(|actor| self.slot(*actor, place)).filter(|slot| *slot <= withheld).sum();
        book.admitted - small.min(book.admitted) - book.unsent.min(book.admitted - small)
    }

    /// Bytes of all slots of all keys in a window, as frames of their sources would have them.
    pub fn state_len(&self, window: u32) -> u64 {
        let books = self.books.iter().filter(|((_, of), _)| *of == window);
        books.map(|(_, book)| book.actors.len() as u64 * SLOT_LEN).sum()
    }

    /// `sender` sends the slot of `actor`, to all its peers or to some.
    pub fn sent(&mut self, sender: Actor, actor: Actor, place: Place, count: u64, to_all: bool) {
        let truth = self.slot(actor, place);
        assert!(count <= truth, "I3: {sender:?} says {count} of {actor:?} at {place:?}, admitted were {truth}");
        if sender == actor {
            let before = self.published.insert((actor, place), count).unwrap_or(0);
            assert!(count >= before, "I1: {actor:?} published {before} and then {count} at {place:?}");
            if to_all {
                self.told_all.insert((actor, place), count);
            }
        }
    }

    /// `receiver` merges the slot of `actor`.
    pub fn received(&mut self, receiver: Actor, actor: Actor, place: Place, count: u64) {
        if let Some(mirrors) = self.mirrors.as_mut() {
            mirrors.entry((receiver, place)).or_default().apply(Dot::new(actor, count));
        }
    }

    /// The sum of the slots that `receiver` was sent, but for its own.
    pub fn mirror(&self, receiver: Actor, place: Place) -> Option<u64> {
        let mirror = self.mirrors.as_ref()?.get(&(receiver, place))?;
        let own = mirror.inc(receiver).counter - 1;
        Some(u64::try_from(mirror.read()).expect("a sum that fits") - own)
    }

    /// A process ended without notice: what it had admitted and not sent to everybody is lost to some.
    pub fn crashed(&mut self, actor: Actor) {
        for (place, book) in &mut self.books {
            let slot = book.truth.inc(actor).counter - 1;
            let sent = self.told_all.get(&(actor, *place)).copied().unwrap_or(0);
            book.unsent += slot - sent.min(slot);
        }
    }

    /// The windows of a key that ended, in order.
    pub fn windows(&self, key: u16) -> Vec<(u32, &Book)> {
        let mut windows: Vec<_> =
            self.books.iter().filter(|((of, _), _)| *of == key).map(|((_, window), book)| (*window, book)).collect();
        windows.sort_by_key(|(window, _)| *window);
        windows
    }
}
