//! All counters: which line is whose, and what goes when there is no place.
//!
//! Looking a counter up takes no lock. Giving a line to a new key, and taking it back, happens under its shard's. A key
//! has two lines side by side where it is at home, and gets one of them when it is free, as it mostly is; so most hits
//! read main memory once, in the line, and not first in the index. Homes lie in the first part of the shard, which
//! doubles as it fills up: a few counters take little memory, and those that were there before are found by the index.
//! There are twice as many lines as counters may be kept, so that homes are free also when the table is full, and homes
//! double early, so that few keys come before the last time. (As many lines as counters lost: of a million keys 42 of
//! 100 were at home, now 79, and each of the others reads two lines or three of memory before its own.)
//!
//! Memory is bounded: lines are made in chunks and blocks when first needed, and used again from then on. When as many
//! counters are kept as may be, a new key gets the line of a window that ended, else of the least full one of a sample;
//! of one that is half full never, so that a flood of keys pushes out mostly itself and frees nobody who is near the limit. When
//! the sample holds none but such, there is no place, and the sketch decides. (The oldest goes first lost: a flood is
//! younger than those it wants to push out.)
//!
//! What has ended is freed by a task that comes by, and by new keys as they come, a few lines each.

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use crate::counter::block::BLOCK;
use crate::counter::block::block;
use crate::counter::calendar::Window;
use crate::counter::index::Index;
use crate::counter::index::LINES_MAX;
use crate::counter::line::Line;
use crate::counter::names::Names;
use crate::counter::period::Reach;
use crate::counter::vacancy::Vacancy;
use crate::counter::view::Cursor;
use crate::counter::view::Handle;

const SHARDS_MAX: usize = 64;
/// A shard is worth having from this many counters on.
const SHARD_COUNTERS: usize = 1 << 17;
/// The first lines of a shard are made so many at a time, and those after them by the block.
const CHUNK: usize = 1 << 10;
const CHUNKS_MAX: usize = 16;
/// Lines of a counter, of which it needs one.
const SPACIOUS: usize = 2;
/// So many lines are homes from the beginning.
const HOMES_MIN: u32 = CHUNK as u32;
/// Homes a key has, when there are fewer they are doubled: half a kilobyte of memory, or a kilobyte just after.
const HOMES_PER_KEY: usize = 8;
/// Of so many lines the least full one goes, and so often another sample is taken before there is no place.
const SAMPLE: u32 = 16 * SPACIOUS as u32;
const SAMPLES: usize = 6;
/// Lines a new key looks at to see whether they ended.
const SWEEP: u32 = 2 * SPACIOUS as u32;

#[derive(Debug)]
pub(crate) struct Table {
    shards: Box<[Shard]>,
    pub names: Names,
    evicted: AtomicU64,
}

#[derive(Debug)]
#[repr(align(128))]
struct Shard {
    index: Index,
    chunks: Box<[OnceLock<Box<[Line]>>]>,
    blocks: Box<[OnceLock<&'static [Line]>]>,
    /// Most lines that are in use, and all there are.
    capacity: usize,
    lines: u32,
    /// Lines among which keys are at home, a power of two.
    homes: AtomicU32,
    len: AtomicUsize,
    keeper: Mutex<Keeper>,
}

/// Which lines of a shard are free.
#[derive(Debug, Default)]
struct Keeper {
    vacancy: Vacancy,
    /// No line from here on was ever used.
    used: u32,
    sweep: u32,
    sample: u32,
}

impl Table {
    pub(crate) fn new(capacity: usize) -> Table {
        let shards = (capacity / SHARD_COUNTERS).next_power_of_two().clamp(1, SHARDS_MAX);
        let share = capacity.div_ceil(shards).clamp(1, LINES_MAX);
        let shards = (0..shards).map(|_| Shard::new(share)).collect();
        Table { shards, names: Names::default(), evicted: AtomicU64::new(0) }
    }

    /// The line of a key, and its number.
    #[inline]
    pub(crate) fn find(&self, key: u64) -> Option<(u32, &Line)> {
        let at = self.shard(key);
        let shard = &self.shards[at];
        let line = shard.find(key)?;
        Some(((at as u32) << 24 | line, shard.line(line)?))
    }

    /// The line of a key, made if need be; `None`: there is no place.
    pub(crate) fn obtain(
        &self,
        key: u64,
        (window, room, reach): (Window, u64, Reach),
        now_ms: u64,
    ) -> Option<(u32, &Line)> {
        let at = self.shard(key);
        let shard = &self.shards[at];
        let mut keeper = shard.lock();
        let line = match shard.find(key) {
            Some(line) => line,
            None => {
                self.sweep(shard, &mut keeper, SWEEP, now_ms);
                let line = self.place(shard, &mut keeper, key, now_ms)?;
                shard.index.reserve(shard.len.load(Relaxed), shard.keys(keeper.used));
                keeper.used = keeper.used.max(line + 1);
                keeper.vacancy.take(line);
                shard.line(line)?.start(key, window, room, reach);
                shard.index.insert(key, line);
                shard.len.fetch_add(1, Relaxed);
                line
            }
        };
        Some(((at as u32) << 24 | line, shard.line(line)?))
    }

    /// Runs `with` while no other call for the key is in here or in `obtain`.
    pub(crate) fn alone<R>(&self, key: u64, with: impl FnOnce() -> R) -> R {
        let _keeper = self.shards[self.shard(key)].lock();
        with()
    }

    /// Runs `with` on the handle's line while it is kept from being freed.
    pub(crate) fn with<R>(&self, handle: Handle, with: impl FnOnce(&Line) -> R) -> Option<R> {
        let shard = self.shards.get((handle.line >> 24) as usize)?;
        let _keeper = shard.lock();
        shard.line(handle.line & 0xff_ffff).filter(|line| line.key() == handle.key).map(with)
    }

    /// The handle of a line that is in use, which is clean from here on.
    pub(crate) fn take(&self, number: u32) -> Option<Handle> {
        let line = self.shards.get((number >> 24) as usize)?.line(number & 0xff_ffff)?;
        line.clean();
        Some(Handle { line: number, key: line.key() }).filter(|handle| handle.key != 0)
    }

    /// The next handles, at most `lines_max`; none at the end of a round.
    pub(crate) fn scan(&self, cursor: &mut Cursor, lines_max: usize) -> Vec<Handle> {
        let mut found = Vec::new();
        while let Some(number) = cursor.line.filter(|_| found.len() < lines_max) {
            found.extend(self.take(number));
            cursor.line = self.after(number);
        }
        if found.is_empty() {
            cursor.line = Some(0);
        }
        found
    }

    /// Frees what ended among the next `lines_max` lines, used or not; goes around once, back to the shard it began in.
    pub(crate) fn expire(&self, cursor: &mut Cursor, now_ms: u64, lines_max: usize) {
        let (mut left, mut shards) = (lines_max, self.shards.len() + 1);
        let mut number = cursor.line.unwrap_or(0);
        while left > 0 && shards > 0 {
            let shard = &self.shards[(number >> 24) as usize % self.shards.len()];
            let mut keeper = shard.lock();
            let (first, count) = (number & 0xff_ffff, left.min(CHUNK) as u32);
            let end = keeper.used.min(first.saturating_add(count));
            for line in first..end {
                self.expire_line(shard, &mut keeper, line, now_ms);
            }
            left -= end.saturating_sub(first) as usize;
            if end < keeper.used {
                number = (number >> 24 << 24) | end;
            } else {
                number = (((number >> 24) + 1) % (self.shards.len() as u32)) << 24;
                shards -= 1;
            }
        }
        cursor.line = Some(number);
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.len.load(Relaxed)).sum()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.shards.iter().map(|shard| shard.capacity).sum()
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.evicted.load(Relaxed)
    }

    fn shard(&self, key: u64) -> usize {
        (key >> 58) as usize & (self.shards.len() - 1)
    }

    /// The next line that was ever used.
    fn after(&self, number: u32) -> Option<u32> {
        let used = |shard: u32| self.shards.get(shard as usize).map(|shard| shard.lock().used);
        let (shard, line) = (number >> 24, (number & 0xff_ffff) + 1);
        // Asked once per chunk: lines that come into use behind that are found in the next round.
        if !(line as usize).is_multiple_of(CHUNK) && self.shards[shard as usize].line(line).is_some() {
            return Some(number + 1);
        }
        if line < used(shard)? {
            return Some(number + 1);
        }
        (shard as usize + 1 < self.shards.len()).then_some((shard + 1) << 24)
    }

    /// A free line of the shard, of the key's home if there is one.
    fn place(&self, shard: &Shard, keeper: &mut Keeper, key: u64, now_ms: u64) -> Option<u32> {
        let is_full = || shard.len.load(Relaxed) >= shard.capacity;
        if is_full() {
            self.evict(shard, keeper, now_ms);
        }
        if is_full() {
            return None;
        }
        let home = shard.settle(key);
        let near = [home, home ^ 1].into_iter().find(|line| keeper.vacancy.is_free(*line));
        let line = near.or_else(|| keeper.vacancy.any(shard.lines))?;
        shard.make(line)?;
        Some(line)
    }

    fn evict(&self, shard: &Shard, keeper: &mut Keeper, now_ms: u64) {
        for _ in 0..SAMPLES {
            let mut least: Option<(f64, u32, u64)> = None;
            let (first, used) = (keeper.sample, keeper.used);
            // Neighbours are read fast, and were often made at the same time; so the next sample is far from here.
            keeper.sample = (first + SAMPLE + used / 8 * 5) % used;
            for line in (0..SAMPLE.min(used)).map(|step| (first + step) % used) {
                if self.expire_line(shard, keeper, line, now_ms) {
                    return;
                }
                let Some((fullness, own)) = shard.line(line).and_then(|line| spare(line, now_ms)) else { continue };
                if least.is_none_or(|(other, ..)| fullness < other) {
                    least = Some((fullness, line, own));
                }
            }
            if let Some((_, line, own)) = least
                && self.free(shard, keeper, line, own)
            {
                self.evicted.fetch_add(1, Relaxed);
                return;
            }
        }
    }

    fn sweep(&self, shard: &Shard, keeper: &mut Keeper, lines: u32, now_ms: u64) {
        for _ in 0..lines.min(keeper.used) {
            keeper.sweep = (keeper.sweep + 1) % keeper.used;
            self.expire_line(shard, keeper, keeper.sweep, now_ms);
        }
    }

    /// Frees a line whose window ended a grace ago; whether it did.
    fn expire_line(&self, shard: &Shard, keeper: &mut Keeper, number: u32, now_ms: u64) -> bool {
        let Some(line) = shard.line(number).filter(|line| line.key() != 0) else { return false };
        let (own, window) = (line.own(), line.window(now_ms));
        if now_ms / 1000 < window.end_s().saturating_add(window.period.grace_s()) {
            return false;
        }
        self.free(shard, keeper, number, own)
    }

    fn free(&self, shard: &Shard, keeper: &mut Keeper, number: u32, own: u64) -> bool {
        let Some(line) = shard.line(number) else { return false };
        let (key, named) = (line.key(), line.facts().named);
        if !line.free(own) {
            return false;
        }
        shard.index.remove(key, number, |line| shard.line(line).map_or(0, Line::key));
        keeper.vacancy.give(number);
        shard.len.fetch_sub(1, Relaxed);
        if named {
            self.names.remove(key);
        }
        true
    }
}

/// The largest power of two that is not more than `lines`, which are two at least.
fn pairs(lines: u32) -> u32 {
    1 << lines.max(2).ilog2()
}

/// How full a line is that may be given away, and its own word as it was then.
fn spare(line: &Line, now_ms: u64) -> Option<(f64, u64)> {
    let (key, own) = (line.key(), line.own());
    if key == 0 {
        return None;
    }
    if line.window(now_ms).end_s() <= now_ms / 1000 {
        return Some((-1.0, own));
    }
    Some((line.fullness(), own)).filter(|(fullness, _)| *fullness < 0.5)
}

impl Shard {
    fn new(capacity: usize) -> Shard {
        let lines = (SPACIOUS * capacity).min(LINES_MAX);
        Shard {
            index: Index::new(capacity),
            chunks: (0..lines.div_ceil(CHUNK).min(CHUNKS_MAX)).map(|_| OnceLock::new()).collect(),
            blocks: (0..lines.saturating_sub(CHUNKS_MAX * CHUNK).div_ceil(BLOCK)).map(|_| OnceLock::new()).collect(),
            capacity,
            lines: lines as u32,
            homes: AtomicU32::new(HOMES_MIN.min(pairs(lines as u32))),
            len: AtomicUsize::new(0),
            keeper: Mutex::default(),
        }
    }

    #[inline]
    fn find(&self, key: u64) -> Option<u32> {
        let home = self.home(key);
        // One after the other: the second is seldom needed, and would push something out of the cache.
        let is = |line: u32| self.line(line).is_some_and(|line| line.key() == key);
        if is(home) {
            return Some(home);
        }
        if is(home ^ 1) {
            return Some(home ^ 1);
        }
        self.index.find(key, is)
    }

    /// Where the key is at home, if it came when as many lines as now were homes.
    #[inline]
    fn home(&self, key: u64) -> u32 {
        (key >> 32) as u32 & (self.homes.load(Relaxed) - 1)
    }

    /// The same for a key that comes now. Under the lock.
    fn settle(&self, key: u64) -> u32 {
        let homes = self.homes.load(Relaxed);
        if HOMES_PER_KEY * self.len.load(Relaxed) >= homes as usize && homes < pairs(self.lines) {
            self.homes.store(2 * homes, Relaxed);
        }
        self.home(key)
    }

    #[inline]
    fn line(&self, line: u32) -> Option<&Line> {
        let line = line as usize;
        match line.checked_sub(CHUNKS_MAX * CHUNK) {
            None => self.chunks.get(line / CHUNK)?.get()?.get(line % CHUNK),
            Some(line) => self.blocks.get(line / BLOCK)?.get()?.get(line % BLOCK),
        }
    }

    /// The memory of a line and its neighbours, if there is any. Under the lock, so it is made once.
    fn make(&self, line: u32) -> Option<()> {
        let line = line as usize;
        match line.checked_sub(CHUNKS_MAX * CHUNK) {
            None => {
                self.chunks.get(line / CHUNK)?.get_or_init(|| (0..CHUNK).map(|_| Line::default()).collect());
            }
            Some(line) => {
                let place = self.blocks.get(line / BLOCK)?;
                if place.get().is_none() {
                    place.set(block()?).ok()?;
                }
            }
        }
        Some(())
    }

    fn keys(&self, used: u32) -> impl Iterator<Item = (u32, u64)> {
        let key = |line: u32| self.line(line).map_or(0, Line::key);
        (0..used).map(move |line| (line, key(line))).filter(|(_, key)| *key != 0)
    }

    /// Held for one counter at a time; a panic in there leaves at most a line that nobody finds.
    fn lock(&self) -> MutexGuard<'_, Keeper> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
