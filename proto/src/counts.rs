//! What nodes counted: the one frame that is sent many times a second, packed by hand.
//!
//! A slot takes 8 bytes of key, 2 of demand, and 1 to 6 of count; what slots have in common is said once for a group of
//! them. bincode for this frame lost: its integers above 250 take 3 bytes and those above 65,535 take 5, and a flag a
//! whole one. Everything is read against the bytes that are there before memory is asked for.

use crate::malformed::Malformed;
use crate::sizes::NAME_LEN_MAX;

/// Periods of windows: second, minute, hour, day, month, year; each its own bit in `Counts::complete`.
pub const PERIODS: u8 = 6;
/// Most that one node may count in one window, what 40 bits hold.
pub const COUNT_MAX: u64 = (1 << 40) - 1;

/// The bits of a group's first byte: the period, then whose slots they are.
const PERIOD_BITS: u8 = 0b0000_0111;
const SOURCE_SAID: u8 = 0b0000_1000;
const SOURCE_SAME: u8 = 0b0001_0000;

/// Bytes of the smallest slot, of the smallest group, and of the largest packed integer.
const SLOT_LEN_MIN: usize = 8 + 2 + 1;
const GROUP_LEN_MIN: usize = 4 + SLOT_LEN_MIN;
const INTEGER_LEN_MAX: usize = 10;
/// Version byte, kind, time, periods, the number of groups, and no additional members.
const HEAD_LEN_MAX: usize = 3 + INTEGER_LEN_MAX + 1 + 3 + 1;
/// A group's first byte and its number of slots.
const GROUP_LEN: usize = 1 + 3;

/// Slots of counters, absolute: what is lost, repeated or overtaken does no harm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The sender's cluster time in Unix ms when the values were read.
    pub time_ms: u64,
    /// A bit per period (1 << period): with this frame the receiver has every change up to `time_ms` of the keys that it
    /// gets from this sender. 0: this frame says something about its own keys only.
    pub complete: u8,
    pub groups: Vec<Group>,
}

/// Slots of one source in one window, with one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Whose slots they are: node id and incarnation; `None`: the sender's own.
    pub source: Option<(String, u64)>,
    /// 0 to 5, from second to year.
    pub period: u8,
    /// The number of the window: its start in Unix s by its length; months and years since 1970.
    pub window: u32,
    /// How many hits the limit admits in a window; 0: unknown.
    pub room: u64,
    /// At least one.
    pub slots: Vec<Slot>,
}

/// One counter of one node in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The keyed hash of what is counted.
    pub key: u64,
    /// Hits admitted so far, at most `COUNT_MAX`.
    pub count: u64,
    /// Hits offered a second, as `demand` encodes them; 0: none, or unknown.
    pub demand: u16,
    /// The node admits no more in this window.
    pub stopped: bool,
}

impl Counts {
    /// The same in frames of at most `len_max` bytes each, envelope included, with at least one slot each: below 200 bytes
    /// a frame may be longer than asked for. Only the last one is `complete`, since only with it everything has been said.
    pub fn split(self, len_max: usize) -> Vec<Self> {
        let Self { time_ms, complete, groups } = self;
        let mut parts = Vec::new();
        let mut part: Vec<Group> = Vec::new();
        let mut len = HEAD_LEN_MAX;
        for group in groups {
            let Group { source, period, window, room, slots } = group;
            let head = GROUP_LEN + source_len(source.as_ref()) + integer_len(u64::from(window)) + integer_len(room);
            let mut of_this = false;
            for slot in slots {
                let added = slot.len() + if of_this { 0 } else { head };
                if len + added > len_max && !part.is_empty() {
                    parts.push(Self { time_ms, complete: 0, groups: std::mem::take(&mut part) });
                    (len, of_this) = (HEAD_LEN_MAX, false);
                }
                if !of_this {
                    part.push(Group { source: source.clone(), period, window, room, slots: Vec::new() });
                    (len, of_this) = (len + head, true);
                }
                len += slot.len();
                if let Some(group) = part.last_mut() {
                    group.slots.push(slot);
                }
            }
        }
        parts.push(Self { time_ms, complete, groups: part });
        parts
    }

    /// How many slots it has.
    pub fn len(&self) -> usize {
        self.groups.iter().map(|group| group.slots.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the body, without `more`.
    pub(crate) fn write(&self, bytes: &mut Vec<u8>) {
        write_integer(self.time_ms, bytes);
        bytes.push(self.complete);
        write_integer(self.groups.len() as u64, bytes);
        let mut before = None;
        for group in &self.groups {
            group.write(before, bytes);
            before = Some(&group.source);
        }
    }

    /// Reads the body up to `more`.
    pub(crate) fn read(from: &mut &[u8]) -> Result<Self, Malformed> {
        let time_ms = integer(from)?;
        let [complete] = bytes(from)?;
        let count = number(from, GROUP_LEN_MIN)?;
        let mut groups: Vec<Group> = Vec::with_capacity(count);
        for _ in 0..count {
            let group = Group::read(groups.last(), from)?;
            groups.push(group);
        }
        Ok(Self { time_ms, complete, groups })
    }
}

impl Group {
    fn write(&self, before: Option<&Option<(String, u64)>>, bytes: &mut Vec<u8>) {
        match &self.source {
            None => bytes.push(self.period),
            Some(_) if before == Some(&self.source) => bytes.push(self.period | SOURCE_SAME),
            Some((node_id, incarnation)) => {
                bytes.push(self.period | SOURCE_SAID);
                // The check of the content holds names to what one byte can say.
                bytes.push(node_id.len() as u8);
                bytes.extend_from_slice(node_id.as_bytes());
                write_integer(*incarnation, bytes);
            }
        }
        write_integer(u64::from(self.window), bytes);
        write_integer(self.room, bytes);
        write_integer(self.slots.len() as u64, bytes);
        self.slots.iter().for_each(|slot| slot.write(bytes));
    }

    fn read(before: Option<&Self>, from: &mut &[u8]) -> Result<Self, Malformed> {
        let [head] = bytes(from)?;
        let source = match head & !PERIOD_BITS {
            0 => None,
            SOURCE_SAID => Some((name(from)?, integer(from)?)),
            SOURCE_SAME => Some(before.and_then(|group| group.source.clone()).ok_or_else(|| bad("no source before"))?),
            _ => return Err(bad("a group begins with unknown bits")),
        };
        let window = u32::try_from(integer(from)?).map_err(|_| bad("a window's number is too large"))?;
        let room = integer(from)?;
        let count = number(from, SLOT_LEN_MIN)?;
        let mut slots = Vec::with_capacity(count);
        for _ in 0..count {
            slots.push(Slot::read(from)?);
        }
        Ok(Self { source, period: head & PERIOD_BITS, window, room, slots })
    }
}

impl Slot {
    fn len(&self) -> usize {
        8 + 2 + integer_len(self.packed())
    }

    /// Count and flag in one number.
    fn packed(&self) -> u64 {
        self.count << 1 | u64::from(self.stopped)
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.key.to_le_bytes());
        bytes.extend_from_slice(&self.demand.to_le_bytes());
        write_integer(self.packed(), bytes);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Malformed> {
        let key = u64::from_le_bytes(bytes(from)?);
        let demand = u16::from_le_bytes(bytes(from)?);
        let packed = integer(from)?;
        Ok(Self { key, count: packed >> 1, demand, stopped: packed & 1 == 1 })
    }
}

/// Seven bits a byte, the lowest first, the highest bit of a byte says that more follow. Only the shortest form is one.
fn integer(from: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let [byte] = bytes(from)?;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return Err(bad("an integer of more than 64 bits"));
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            let shortest = byte != 0 || shift == 0;
            return if shortest { Ok(value) } else { Err(bad("an integer is longer than it needs to be")) };
        }
    }
    Err(bad("an integer of more than 64 bits"))
}

fn write_integer(mut value: u64, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn integer_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// How many elements of at least `len_min` bytes follow; no more than fit into the rest.
fn number(from: &mut &[u8], len_min: usize) -> Result<usize, Malformed> {
    let count = integer(from)?;
    let fit = from.len() / len_min;
    usize::try_from(count).ok().filter(|count| *count <= fit).ok_or_else(|| bad("more elements than bytes for them"))
}

fn name(from: &mut &[u8]) -> Result<String, Malformed> {
    let [len] = bytes(from)?;
    let len = usize::from(len);
    let Some((name, rest)) = from.split_at_checked(len).filter(|_| len <= NAME_LEN_MAX) else {
        return Err(bad("a source's name is too long"));
    };
    *from = rest;
    // What may be in a name is checked with the rest of the content.
    std::str::from_utf8(name).map(str::to_owned).map_err(|_| bad("a source's name is no text"))
}

fn bytes<const N: usize>(from: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (taken, rest) = from.split_first_chunk().ok_or_else(|| bad("cut short"))?;
    *from = rest;
    Ok(*taken)
}

fn source_len(source: Option<&(String, u64)>) -> usize {
    source.map_or(0, |(node_id, incarnation)| 1 + node_id.len() + integer_len(*incarnation))
}

fn bad(why: &str) -> Malformed {
    Malformed::Codec(why.to_owned())
}
