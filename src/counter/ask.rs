//! The question of a hit to a counter, and the counter's answer.

use crate::counter::calendar::Window;
use crate::counter::decide::Denial;
use crate::counter::period::Reach;
use crate::counter::terms::Terms;
use crate::counter::word::Tag;

/// A hit's question to a line.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub key: u64,
    /// That holds `now_ms`.
    pub window: Window,
    /// Of the window.
    pub tag: Tag,
    pub room: u64,
    pub reach: Reach,
    pub now_ms: u64,
    /// Only what would refuse is marked.
    pub counts: bool,
    pub terms: &'a Terms,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    /// Before the hit, as it is told.
    pub usage: u64,
    pub denial: Option<Denial>,
    pub unnamed: bool,
    /// It has to be put on the list of changed counters.
    pub changed: bool,
    /// It was counted in the window after the one that was asked about.
    pub late: bool,
}

impl Outcome {
    /// Of a hit without a line.
    pub(crate) fn untold(usage: u64, denial: Option<Denial>) -> Outcome {
        Outcome { usage, denial, unnamed: false, changed: false, late: false }
    }
}
