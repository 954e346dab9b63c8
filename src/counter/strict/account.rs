//! What strict counters hold and report, and the terms on which windows are opened.

use crate::counter::calendar::Window;
use crate::counter::strict::share::Share;
use crate::counter::view::Name;

/// Larger limits count as this: a count has to fit where it is told to peers.
pub const ROOM_MAX: u64 = (1 << 40) - 1;

/// On what terms windows may be opened.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Terms {
    /// (from which start of a window on, share), ascending: the last that a window's start has reached applies. Windows
    /// before the first have no base rights. Unix seconds.
    pub shares: Vec<(u64, Share)>,
    /// Windows that start at or after this are not opened: hits there are refused.
    pub until_s: u64,
}

/// One window of a counter on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub window: Window,
    /// The limit, rounded up, as it was when the window was opened.
    pub room: u64,
    /// This node's share of it.
    pub base: u64,
    /// Rights from peers.
    pub received: u64,
    /// Rights that went to peers.
    pub given: u64,
    pub admitted: u64,
    pub refused: u64,
}

/// A counter, newest window first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    pub key: u64,
    pub windows: Vec<Held>,
    pub name: Option<Name>,
}

/// What came of `give`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Given {
    pub given: u64,
    /// Left with this node.
    pub spare: u64,
}

/// Since the start, except for `lines`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub admitted: u64,
    pub refused: u64,
    /// Refused because there was no place for a further counter.
    pub crowded: u64,
    /// Refused because the window may not be opened yet, or not again, or because the node is suspended.
    pub closed: u64,
    pub lines: u64,
}

impl Held {
    /// Rights that are neither spent nor given.
    pub fn spare(&self) -> u64 {
        (self.base + self.received).saturating_sub(self.admitted + self.given)
    }
}

impl Terms {
    /// The share in windows with this start.
    pub fn share(&self, start_s: u64) -> Share {
        let current = self.shares.iter().rev().find(|(from_s, _)| *from_s <= start_s);
        current.map_or(Share::NONE, |(_, share)| *share)
    }
}
