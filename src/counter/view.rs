//! What the task that speaks with peers, and people, see of counters.
//!
//! Numbers are copied out and handed in, so that nobody but this module touches the words of a counter.

use uuid::Uuid;

use crate::counter::calendar::Window;
use crate::counter::period::Reach;

/// Whom a counter is about, for people to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// As `limit_by` of the plugin has it.
    pub limit_by: &'static str,
    pub identifier: String,
    pub route: Option<Uuid>,
    pub service: Option<Uuid>,
}

/// Where a counter is. It stays valid when the counter's place is given to another one: calls then find nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle {
    pub(crate) line: u32,
    pub(crate) key: u64,
}

/// What `drain` left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// More was counted than the list of changed counters holds: look at all of them with `scan`.
    pub lost: bool,
}

/// A counter as this node counted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    pub key: u64,
    /// The last window in which this node was hit; the running one when it counted nothing there.
    pub window: Window,
    /// Admitted in that window. It only grows.
    pub own: u64,
    /// The window counted in before, and its final count.
    pub previous: Option<(Window, u64)>,
    /// Refused since the counter is kept; wraps at 2^24.
    pub refused: u32,
    /// The limit as the last hit had it, rounded up; for counters that only peers have, as they told it.
    pub room: u64,
    pub reach: Reach,
    /// Somebody was refused in `window`.
    pub stopped: bool,
}

/// What the task knows about a counter's window beyond this node's own count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Remote {
    pub window: Window,
    /// Sum of the other nodes' slots. A smaller sum than was published before for the window is not believed.
    pub known: u64,
    /// How fast the others go on since they were heard.
    pub slope_per_ms: f32,
    /// Cluster time, Unix ms, at which the forecast line is 0.
    pub zero_ms: u64,
    /// How fast the others will begin the next window.
    pub resume_per_ms: f32,
    pub gate: Gate,
    /// The most this node may count in the next window, if that is a second's, before anything is published for it; the
    /// larger of this and the default applies. 0: the default.
    pub burst: u64,
}

/// How the own count is held, beyond the estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// As long as own, known and forecast stay below the limit.
    Open,
    /// That, and the own count below this.
    Capped(u64),
    /// As long as the own count is below this, and own and known below the limit; the forecast does not matter.
    Fill(u64),
}

/// Where a `scan` or `expire` goes on. One per use.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    /// `None`: at the end of a round.
    pub(crate) line: Option<u32>,
}

impl Default for Cursor {
    fn default() -> Cursor {
        Cursor { line: Some(0) }
    }
}

/// Since the start, except for `lines`, `capacity` and `names`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub admitted: u64,
    pub refused: u64,
    /// Refused because of the forecast alone: own and known counts still left room, in every limit that refused.
    pub forecast_refused: u64,
    pub strict_refused: u64,
    /// Counters that were dropped before their window ended.
    pub evicted: u64,
    /// Hits decided by the sketch, because there was no place for a counter.
    pub sketched: u64,
    /// Counters now.
    pub lines: u64,
    pub capacity: u64,
    pub names: u64,
}
