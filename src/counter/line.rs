//! One counter: eight words in one cache line, changed without a lock.
//!
//! A hit loads the words, decides, and counts with one compare-and-swap of the own count, which holds its window and a
//! generation too: what was decided from an older count, another window or another key's counter does not come through
//! and is decided anew. The own count grows by admitted hits only, never back and forth, so it can be shown to peers at
//! any moment. (Counting first and taking back what was too much lost: a peer may see the number in between, and keeps
//! the largest.)
//!
//! What peers counted is written by one task; an odd version of the remote word says that it is at it. Lines are given to
//! keys and taken back under the lock of their shard.

use std::hint::spin_loop;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::AcqRel;
use std::sync::atomic::Ordering::Acquire;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::Ordering::Release;
use std::sync::atomic::fence;

use zerocopy::FromBytes;
use zerocopy::IntoBytes;
use zerocopy::KnownLayout;

use crate::counter::ask::Ask;
use crate::counter::ask::Outcome;
use crate::counter::calendar::Window;
use crate::counter::decide::Denial;
use crate::counter::moment::Moment;
use crate::counter::period::Period;
use crate::counter::period::Reach;
use crate::counter::view::Gate;
use crate::counter::view::Reading;
use crate::counter::view::Remote;
use crate::counter::word::DIRTY;
use crate::counter::word::Facts;
use crate::counter::word::History;
use crate::counter::word::Pace;
use crate::counter::word::REFUSAL;
use crate::counter::word::Tag;
use crate::counter::word::Tagged;
use crate::counter::word::gate_in;
use crate::counter::word::gate_word;

/// How often a hit looks again while the task writes; then it takes what it sees.
const LOOKS: usize = 64;
/// A history of this many windows ago, or more, is none. Less than 128, which stands for none, also after the own count
/// turned and before its history did.
const NEAR: i8 = 120;

#[derive(Debug, Default, FromBytes, IntoBytes, KnownLayout)]
#[repr(C, align(64))]
pub(crate) struct Line {
    /// 0: free.
    key: AtomicU64,
    /// The last window that was hit and what was counted in it.
    own: AtomicU64,
    /// What peers counted; the version is 0 before anything was published.
    remote: AtomicU64,
    /// The forecast's slope and zero.
    forecast: AtomicU64,
    gate: AtomicU64,
    /// The slope from the start of the next window, and its burst.
    next: AtomicU64,
    facts: AtomicU64,
    history: AtomicU64,
}

impl Line {
    pub(crate) fn key(&self) -> u64 {
        self.key.load(Acquire)
    }

    /// Gives a free line to a key. Under the shard's lock.
    pub(crate) fn start(&self, key: u64, window: Window, room: u64, reach: Reach) {
        let tag = Tag::of(window.number);
        let generation = Tagged::unpack(self.own.load(Relaxed)).spare + 1;
        self.own.store(Tagged { tag, spare: generation, count: 0 }.pack(), Relaxed);
        for word in [&self.remote, &self.forecast, &self.gate, &self.next] {
            word.store(0, Relaxed);
        }
        let (period, refused) = (window.period, tag.far_16());
        let facts = Facts { room, period, reach, dirty: false, named: false, sticky: false, refused };
        self.facts.store(facts.pack(), Relaxed);
        self.history.store(History { refused: 0, tag: tag.far_8(), count: 0 }.pack(), Relaxed);
        self.key.store(key, Release);
    }

    /// Takes the line from its key unless it was hit since `own` was read. Under the shard's lock.
    pub(crate) fn free(&self, own: u64) -> bool {
        let key = self.key.swap(0, AcqRel);
        let seen = Tagged::unpack(own);
        let freed = Tagged { spare: seen.spare + 1, ..seen }.pack();
        let done = self.own.compare_exchange(own, freed, AcqRel, Relaxed).is_ok();
        if !done {
            self.key.store(key, Release);
        }
        done
    }

    /// The own word, for `free`.
    pub(crate) fn own(&self) -> u64 {
        self.own.load(Acquire)
    }

    pub(crate) fn facts(&self) -> Facts {
        Facts::unpack(self.facts.load(Acquire))
    }

    /// What a hit would find, without counting; `None`: the line is another key's.
    pub(crate) fn look(&self, ask: &Ask<'_>) -> Option<Outcome> {
        let seen = self.moment(ask)?;
        let denial = seen.denial(ask);
        Some(Outcome { late: seen.window != ask.window, ..Outcome::untold(seen.told(ask, denial), denial) })
    }

    /// Counts, or marks the refusal; `None`: the line is another key's.
    #[inline]
    pub(crate) fn hit(&self, ask: &Ask<'_>) -> Option<Outcome> {
        match self.pass(ask) {
            Some(usage) => Some(Outcome::untold(usage, None)),
            None => self.hit_with_care(ask),
        }
    }

    /// Counts what most hits are, by the counts and the forecast alone: the window was hit before, nobody was refused in
    /// it, the marks are as they would be left, and nothing is held back. Answers the usage before. `None`: nothing was
    /// done, and it may be any other case. Tests have it agree with the long way.
    #[inline]
    fn pass(&self, ask: &Ask<'_>) -> Option<u64> {
        let word = self.own.load(Acquire);
        let facts = Facts::unpack(self.facts.load(Relaxed));
        let [remote, forecast, gate, _] = if ask.reach == Reach::Local { [0; 4] } else { self.published() };
        fence(Acquire);
        let (own, remote) = (Tagged::unpack(word), Tagged::unpack(remote));
        let known = if remote.spare == 0 { 0 } else { remote.in_window(ask.tag)? };
        let usage = own.in_window(ask.tag)? + known;
        // Of a second of which nothing is known a node counts its share at most.
        let is_blind = remote.spare == 0 && ask.reach == Reach::Cluster && ask.window.period == Period::Second;
        let is_held = is_blind || gate_in(gate, ask.tag) != Gate::Open || ask.now_ms < ask.terms.guard_until_ms();
        let is_plain = self.key.load(Acquire) == ask.key
            && ask.counts
            && !is_held
            && facts.are_left_by(ask.room, ask.reach)
            && !facts.refused_in(ask.tag)
            && (facts.named || own.count + 1 < named_from(ask.room))
            && usage < ask.room
            && usage as f64 + Pace::unpack(forecast).since_zero(ask.now_ms) < ask.room as f64;
        let counted = is_plain && self.own.compare_exchange(word, word + 1, AcqRel, Relaxed).is_ok();
        counted.then_some(usage)
    }

    fn hit_with_care(&self, ask: &Ask<'_>) -> Option<Outcome> {
        loop {
            let seen = self.moment(ask)?;
            let denial = seen.denial(ask);
            let fresh = seen.tag != seen.own.tag;
            let before = if fresh { 0 } else { seen.own.count };
            let one = u64::from(denial.is_none() && ask.counts);
            let after = Tagged { tag: seen.tag, spare: seen.own.spare, count: before + one };
            let counted = one == 1 || fresh;
            if counted && self.own.compare_exchange(seen.own.pack(), after.pack(), AcqRel, Relaxed).is_err() {
                continue;
            }
            if fresh {
                self.turn(seen.own, seen.tag);
            }
            let changed = self.mark(ask, seen.tag, denial);
            let unnamed = !seen.facts.named && denial.is_none() && after.count >= named_from(ask.room);
            let late = seen.window != ask.window;
            return Some(Outcome { usage: seen.told(ask, denial), denial, unnamed, changed, late });
        }
    }

    /// After the first hit of a window: keeps what the one before came to, and forgets its marks.
    fn turn(&self, before: Tagged, tag: Tag) {
        // Further back than its bits reach is as good as none.
        let near = tag.after(before.tag).abs() < NEAR.into();
        let (low, count) = if near { (before.tag.low_8(), before.count) } else { (tag.far_8(), 0) };
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        change(&self.history, |word| History { tag: low, count, ..History::unpack(word) }.pack());
        change(&self.facts, |word| {
            let facts = Facts::unpack(word);
            let marks = if facts.refused_in(tag) { facts } else { facts.unmarked(tag) };
            marks.pack()
        });
    }

    /// Brings the marks up to date, which after the first hits writes nothing; whether the line has to be listed.
    fn mark(&self, ask: &Ask<'_>, tag: Tag, denial: Option<Denial>) -> bool {
        if denial.is_some() {
            self.history.fetch_add(REFUSAL, Relaxed);
        }
        let mut word = self.facts.load(Relaxed);
        loop {
            let old = Facts::unpack(word);
            if denial.is_none() && old.are_left_by(ask.room, ask.reach) {
                return false;
            }
            let mut new =
                Facts { room: ask.room, reach: ask.reach, dirty: old.dirty || ask.reach != Reach::Local, ..old };
            if ask.room > old.room {
                new = new.unmarked(tag);
            }
            if let Some(denial) = denial {
                let sticky = new.sticky && new.refused_in(tag);
                new.sticky = sticky || denial == Denial::Estimate;
                new.refused = tag.low_16();
            }
            if new == old {
                return false;
            }
            match self.facts.compare_exchange_weak(word, new.pack(), AcqRel, Relaxed) {
                Ok(_) => {
                    return new.dirty && !old.dirty;
                }
                Err(other) => word = other,
            }
        }
    }

    fn moment(&self, ask: &Ask<'_>) -> Option<Moment> {
        let own = Tagged::unpack(self.own.load(Acquire));
        let facts = Facts::unpack(self.facts.load(Relaxed));
        let [remote, forecast, gate, next] = if ask.reach == Reach::Local { [0; 4] } else { self.published() };
        fence(Acquire);
        if self.key.load(Acquire) != ask.key {
            return None;
        }
        let remote = Tagged::unpack(remote);
        let published = remote.spare != 0 && remote.tag.after(own.tag) > 0;
        let line = if published { remote.tag } else { own.tag };
        // Somebody who read the clock a little later was here already.
        let late = ask.tag.after(line) == -1;
        let (window, tag) = if late { (ask.window.next(), line) } else { (ask.window, ask.tag) };
        Some(Moment { own, facts, remote, forecast, gate, next, window, tag })
    }

    /// The words the task writes, from between two of its writes.
    fn published(&self) -> [u64; 4] {
        let mut looks = 0;
        loop {
            let remote = self.remote.load(Acquire);
            let (forecast, gate, next) =
                (self.forecast.load(Relaxed), self.gate.load(Relaxed), self.next.load(Relaxed));
            fence(Acquire);
            looks += 1;
            let whole = Tagged::unpack(remote).spare & 1 == 0 && self.remote.load(Relaxed) == remote;
            if whole || looks >= LOOKS {
                return [remote, forecast, gate, next];
            }
            spin_loop();
        }
    }

    /// Takes the mark that the line is listed.
    pub(crate) fn clean(&self) {
        if self.facts.load(Relaxed) & DIRTY != 0 {
            self.facts.fetch_and(!DIRTY, AcqRel);
        }
    }

    pub(crate) fn set_named(&self) {
        change(&self.facts, |word| Facts { named: true, ..Facts::unpack(word) }.pack());
    }

    /// Under the shard's lock.
    pub(crate) fn read(&self, now_ms: u64) -> Reading {
        let (own, facts) = (Tagged::unpack(self.own.load(Acquire)), self.facts());
        let history = History::unpack(self.history.load(Acquire));
        let running = Window::at(facts.period, now_ms / 1000);
        let number = own.tag.number_near(running.number);
        let window = if own.count == 0 { running } else { Window { number, ..running } };
        let back = history.tag.wrapping_sub(own.tag.low_8()) as i8;
        let near = back != 0 && back.saturating_abs() < NEAR;
        let previous = near.then(|| Window { number: number.saturating_add_signed(back.into()), ..running });
        Reading {
            key: self.key(),
            window,
            own: own.count,
            previous: previous.map(|window| (window, u64::from(history.count))),
            refused: history.refused,
            room: facts.room,
            reach: facts.reach,
            stopped: facts.refused_in(Tag::of(window.number)),
        }
    }

    /// The latest window that something is known of. Under the shard's lock.
    pub(crate) fn window(&self, now_ms: u64) -> Window {
        let (own, remote) = (Tagged::unpack(self.own.load(Acquire)), Tagged::unpack(self.remote.load(Relaxed)));
        let later = remote.spare != 0 && remote.tag.after(own.tag) > 0;
        let running = Window::at(self.facts().period, now_ms / 1000);
        Window { number: if later { remote.tag } else { own.tag }.number_near(running.number), ..running }
    }

    /// Own and known count of the latest window by the limit; 1 at the limit. Under the shard's lock.
    pub(crate) fn fullness(&self) -> f64 {
        let (own, remote) = (Tagged::unpack(self.own.load(Acquire)), Tagged::unpack(self.remote.load(Relaxed)));
        let ahead = if remote.spare == 0 { -1 } else { remote.tag.after(own.tag) };
        let count = match ahead {
            0 => own.count + remote.count,
            1.. => remote.count,
            _ => own.count,
        };
        let room = self.facts().room;
        // Peers tell counts whose limit they do not know.
        if room == 0 { 0.0 } else { count as f64 / room as f64 }
    }

    /// Under the shard's lock. `false`: that window is over, or has not begun.
    pub(crate) fn publish(&self, update: &Remote, now_ms: u64) -> bool {
        let (facts, old) = (self.facts(), Tagged::unpack(self.remote.load(Relaxed)));
        let (tag, running) = (Tag::of(update.window.number), Window::at(facts.period, now_ms / 1000));
        // What was published for a time that has not come is from before the clock was set.
        let believed = old.spare != 0 && old.tag.after(Tag::of(running.number)) <= 0;
        if update.window.period != facts.period
            || update.window.number > running.number
            || (believed && tag.after(old.tag) < 0)
        {
            return false;
        }
        let told = if believed { old.in_window(tag).unwrap_or(0) } else { 0 };
        self.write(old, Tagged { tag, spare: 0, count: update.known.max(told) }, || {
            self.gate.store(gate_word(tag, update.gate), Relaxed);
            let pace = Pace { per_ms: update.slope_per_ms, number: update.zero_ms as u32 };
            self.forecast.store(pace.pack(), Relaxed);
            let burst = u32::try_from(update.burst).unwrap_or(u32::MAX);
            self.next.store(Pace { per_ms: update.resume_per_ms, number: burst }.pack(), Relaxed);
        });
        true
    }

    /// Writes the published words while hits wait for the end of it.
    fn write(&self, old: Tagged, new: Tagged, words: impl FnOnce()) {
        self.remote.store(Tagged { spare: old.spare | 1, ..old }.pack(), Relaxed);
        fence(Release);
        words();
        // 2, 4, … 14, 2: even, and not 0.
        let version = (old.spare & 14) % 14 + 2;
        self.remote.store(Tagged { spare: version, ..new }.pack(), Release);
    }
}

impl Facts {
    /// A hit that is admitted leaves them as they are.
    fn are_left_by(self, room: u64, reach: Reach) -> bool {
        self.room == room && self.reach == reach && (self.dirty || reach == Reach::Local)
    }

    /// Nobody was refused in that window.
    fn unmarked(self, tag: Tag) -> Facts {
        Facts { sticky: false, refused: tag.far_16(), ..self }
    }
}

/// The own count from which on a name is wanted: eight, or a tenth of the limit.
fn named_from(room: u64) -> u64 {
    room.div_ceil(10).min(8)
}

fn change(word: &AtomicU64, to: impl Fn(u64) -> u64) {
    let _ = word.fetch_update(AcqRel, Relaxed, |old| Some(to(old)));
}
