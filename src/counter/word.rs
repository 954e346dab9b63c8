//! How a counter's numbers are packed into words of 64 bits, so that each changes in one step together with the window
//! it belongs to.
//!
//! A window stands in a word as a tag, the low bits of its number. Tags wrap (second windows after twelve days), which
//! nothing lives to see: a counter is freed a minute after its window. Full numbers would need a word of their own, and
//! then a count and its window could be read apart.

use crate::counter::period::Period;
use crate::counter::period::Reach;
use crate::counter::view::Gate;

/// Largest count, and largest limit: a billion per second for 18 minutes.
pub(crate) const COUNT_MAX: u64 = (1 << 40) - 1;
const TAG_MASK: u32 = (1 << 20) - 1;

/// The low 20 bits of a window's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag(u32);

impl Tag {
    pub(crate) fn of(number: u32) -> Tag {
        Tag(number & TAG_MASK)
    }

    /// How many windows `self` is after `other`; negative when before.
    pub(crate) fn after(self, other: Tag) -> i32 {
        // Shifted up so that the sign of 20 bits is the sign of 32.
        ((self.0.wrapping_sub(other.0) << 12) as i32) >> 12
    }

    /// The window's number, given one that is not half the range of tags away.
    pub(crate) fn number_near(self, number: u32) -> u32 {
        number.saturating_add_signed(self.after(Tag::of(number)))
    }

    pub(crate) fn low_16(self) -> u16 {
        self.0 as u16
    }

    pub(crate) fn low_8(self) -> u8 {
        self.0 as u8
    }

    /// Marks no window that is near, nor will when a few windows have passed.
    pub(crate) fn far_8(self) -> u8 {
        self.low_8() ^ 0x80
    }

    /// Marks no window that is near.
    pub(crate) fn far_16(self) -> u16 {
        self.low_16() ^ 0x8000
    }
}

/// A count of one window, with four bits to spare: the generation of an own count, the version of a remote one, the mode
/// of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tagged {
    pub tag: Tag,
    pub spare: u8,
    pub count: u64,
}

impl Tagged {
    pub(crate) fn unpack(word: u64) -> Tagged {
        Tagged { tag: Tag((word >> 44) as u32), spare: (word >> 40) as u8 & 15, count: word & COUNT_MAX }
    }

    pub(crate) fn pack(self) -> u64 {
        u64::from(self.tag.0) << 44 | u64::from(self.spare & 15) << 40 | self.count.min(COUNT_MAX)
    }

    /// The count, if it is that window's.
    pub(crate) fn in_window(self, tag: Tag) -> Option<u64> {
        (self.tag == tag).then_some(self.count)
    }
}

/// What a counter is for, and marks on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub room: u64,
    pub period: Period,
    pub reach: Reach,
    /// It is in the list of changed counters.
    pub dirty: bool,
    /// Nobody needs to name it.
    pub named: bool,
    /// The refusals of the marked window were the estimate's, so they go on.
    pub sticky: bool,
    /// Tag of the window in which somebody was refused last.
    pub refused: u16,
}

pub(crate) const DIRTY: u64 = 1 << 18;

impl Facts {
    pub(crate) fn unpack(word: u64) -> Facts {
        Facts {
            room: word >> 24,
            period: Period::ALL[(word >> 21 & 7) as usize % 6],
            reach: if word >> 19 & 3 == 1 { Reach::Cluster } else { Reach::Local },
            dirty: word & DIRTY != 0,
            named: word & 1 << 17 != 0,
            sticky: word & 1 << 16 != 0,
            refused: word as u16,
        }
    }

    pub(crate) fn pack(self) -> u64 {
        self.room.min(COUNT_MAX) << 24
            | (self.period as u64) << 21
            | (self.reach as u64) << 19
            | u64::from(self.dirty) << 18
            | u64::from(self.named) << 17
            | u64::from(self.sticky) << 16
            | u64::from(self.refused)
    }

    /// Whether somebody was refused in that window.
    pub(crate) fn refused_in(self, tag: Tag) -> bool {
        self.refused == tag.low_16()
    }
}

/// How many refusals there were, and what the window before came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct History {
    /// Wraps at 2^24.
    pub refused: u32,
    /// Low bits of the tag of the previous window; those of one that is far away: there is none.
    pub tag: u8,
    pub count: u32,
}

/// Adds one to `History::refused`, in a word.
pub(crate) const REFUSAL: u64 = 1 << 40;

impl History {
    pub(crate) fn unpack(word: u64) -> History {
        History { refused: (word >> 40) as u32, tag: (word >> 32) as u8, count: word as u32 }
    }

    pub(crate) fn pack(self) -> u64 {
        u64::from(self.refused) << 40 | u64::from(self.tag) << 32 | u64::from(self.count)
    }
}

/// A speed per ms and a number: the line of a forecast and where it is zero, or how the next window begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pace {
    pub per_ms: f32,
    pub number: u32,
}

impl Pace {
    pub(crate) fn unpack(word: u64) -> Pace {
        Pace { per_ms: f32::from_bits((word >> 32) as u32), number: word as u32 }
    }

    /// What a forecast has come to. Wraps after 49 days; what is older is taken for new, and by then the slope is long 0.
    pub(crate) fn since_zero(self, now_ms: u64) -> f64 {
        let elapsed_ms = (now_ms as u32).wrapping_sub(self.number).cast_signed().max(0);
        f64::from(self.per_ms) * f64::from(elapsed_ms)
    }

    /// What is no speed is none: not a number, infinite or negative.
    pub(crate) fn pack(self) -> u64 {
        let sane = self.per_ms.is_finite() && self.per_ms > 0.0;
        u64::from(if sane { self.per_ms.to_bits() } else { 0 }) << 32 | u64::from(self.number)
    }
}

/// A gate's mode as the four spare bits.
pub(crate) fn gate_word(tag: Tag, gate: Gate) -> u64 {
    let (spare, count) = match gate {
        Gate::Open => (0, 0),
        Gate::Capped(cap) => (1, cap),
        Gate::Fill(cap) => (2, cap),
    };
    Tagged { tag, spare, count }.pack()
}

/// The gate of that window.
pub(crate) fn gate_in(word: u64, tag: Tag) -> Gate {
    let Tagged { spare, count, .. } = Tagged::unpack(word);
    match spare {
        _ if Tagged::unpack(word).tag != tag => Gate::Open,
        1 => Gate::Capped(count),
        2 => Gate::Fill(count),
        _ => Gate::Open,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn words_come_back(tag: u32, spare in 0_u8..16, count in 0..=COUNT_MAX, bits: u64, marks in 0_u8..8) {
            let tagged = Tagged { tag: Tag::of(tag), spare, count };
            prop_assert_eq!(Tagged::unpack(tagged.pack()), tagged);
            for period in Period::ALL {
                for reach in [Reach::Local, Reach::Cluster] {
                    let [dirty, named, sticky] = [1, 2, 4].map(|bit| marks & bit != 0);
                    let facts = Facts { room: count, period, reach, dirty, named, sticky, refused: tag as u16 };
                    prop_assert_eq!(Facts::unpack(facts.pack()), facts);
                    prop_assert_eq!(facts.pack() & DIRTY != 0, dirty);
                }
            }
            prop_assert_eq!(History::unpack(bits).pack(), bits);
            let next = History::unpack(bits.wrapping_add(REFUSAL));
            let now = History::unpack(bits);
            prop_assert_eq!(next, History { refused: (now.refused + 1) & 0xff_ffff, ..now });
            for gate in [Gate::Open, Gate::Capped(count), Gate::Fill(count)] {
                let word = gate_word(Tag::of(tag), gate);
                prop_assert_eq!(gate_in(word, Tag::of(tag)), gate);
                prop_assert_eq!(gate_in(word, Tag::of(tag.wrapping_sub(1))), Gate::Open);
            }
        }

        #[test]
        fn tags_tell_windows_apart(number: u32, step in -500_000_i32..500_000) {
            let Some(other) = number.checked_add_signed(step) else { return Ok(()) };
            prop_assert_eq!(Tag::of(other).after(Tag::of(number)), step);
            prop_assert_eq!(Tag::of(other).number_near(number), other);
        }
    }

    #[test]
    fn what_is_no_speed_is_none() {
        for per_ms in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0, -0.0] {
            assert_eq!(Pace::unpack(Pace { per_ms, number: 7 }.pack()), Pace { per_ms: 0.0, number: 7 });
        }
        assert_eq!(Pace::unpack(Pace { per_ms: 2.5, number: 7 }.pack()), Pace { per_ms: 2.5, number: 7 });
    }
}
