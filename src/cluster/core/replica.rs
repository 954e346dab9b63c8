//! Keeps this node's configuration equal to its peers': pushes, notices gaps, pulls, serves.
//!
//! Invariant: what this node says it has (`Vector`) was handed to the keeper and confirmed.

use tidegate_proto::Vector;
use tidegate_proto::frame::{Beat, Frame, Pull, Span, Spans, Whole};

/// What goes in. `now_ms` is monotonic.
#[derive(Clone, Debug)]
pub enum Input {
    Connected {
        peer: String,
    },
    Disconnected {
        peer: String,
    },
    Beat {
        peer: String,
        beat: Beat,
    },
    Spans {
        peer: String,
        spans: Spans,
    },
    Pull {
        peer: String,
        pull: Pull,
    },
    Whole {
        peer: String,
        whole: Whole,
    },
    Busy {
        peer: String,
        retry_after_ms: u32,
    },
    /// Committed here, or learnt from the store: to be pushed.
    Local {
        span: Span,
    },
    /// The keeper took in what `Output::Take` or a finished `Output::Fetch` carried, and stands here.
    Taken {
        vector: Vector,
    },
    /// A fetch ended early.
    FetchFailed {
        peer: String,
    },
    Tick,
}

/// What comes out.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    Send {
        peer: String,
        frame: Frame,
    },
    /// Hand to the keeper, then say `Taken`.
    Take {
        spans: Vec<Span>,
    },
    /// Transfer the whole from this peer, hand it to the keeper, then say `Taken` or `FetchFailed`.
    Fetch {
        peer: String,
    },
    /// The peer lies or goes backwards: close, with this reason.
    Expel {
        peer: String,
        why: &'static str,
    },
}

/// The state machine of one node.
#[derive(Debug)]
pub struct Replica {}

impl Replica {
    /// `vector`: where the keeper stands at the start.
    pub fn new(vector: Vector, now_ms: u64) -> Self {
        let _ = (vector, now_ms);
        Self {}
    }

    pub fn on(&mut self, input: Input, now_ms: u64) -> Vec<Output> {
        let _ = (input, now_ms);
        Vec::new()
    }

    /// When `Tick` is wanted next; monotonic ms.
    pub fn wake_ms(&self) -> u64 {
        u64::MAX
    }
}
