//! The recent spans, to answer pulls with.

use std::collections::{BTreeMap, VecDeque};

use tidegate_proto::Vector;
use tidegate_proto::frame::Span;

/// At most so many spans and bytes; the oldest make room.
pub const SPANS_MAX: usize = 1_000;
pub const LEN_MAX: usize = 16 << 20;

/// What one answer holds at most: so many frames of about so many bytes and at most so many spans. Who lacks more pulls
/// again.
const FRAMES_MAX: usize = 8;
const FRAME_LEN: usize = 512 << 10;
const FRAME_SPANS: usize = 500;

/// Spans in the order in which they came.
#[derive(Debug, Default)]
pub struct Ring {
    spans: VecDeque<Span>,
    len: usize,
}

impl Ring {
    pub fn push(&mut self, span: Span) {
        self.len += span.size();
        self.spans.push_back(span);
        while self.spans.len() > SPANS_MAX || self.len > LEN_MAX {
            let Some(oldest) = self.spans.pop_front() else { break };
            self.len -= oldest.size();
        }
    }

    pub fn holds(&self, span: &Span) -> bool {
        let same = |other: &Span| other.origin == span.origin && other.after <= span.after && other.upto >= span.upto;
        self.spans.iter().rev().any(same)
    }

    /// The way from one position to another by frames, or as much of it as one answer holds; `None` where the ring does
    /// not reach back that far.
    pub fn range(&self, from: &Vector, to: &Vector) -> Option<Vec<Vec<Span>>> {
        if from.epoch != to.epoch {
            return None;
        }
        let mut by_origin: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
        for span in &self.spans {
            by_origin.entry(&span.origin).or_default().push(span);
        }
        let mut way = Vec::new();
        for (origin, count) in &to.counts {
            let mut reached = from.count(origin);
            if reached >= *count {
                continue;
            }
            let spans = by_origin.get_mut(origin.as_str())?;
            spans.sort_by_key(|span| span.after);
            for span in spans.iter() {
                if span.after <= reached && span.upto > reached && span.upto <= *count {
                    reached = span.upto;
                    way.push(*span);
                }
            }
            if reached < *count {
                return None;
            }
        }
        Some(frames(&way))
    }
}

fn frames(way: &[&Span]) -> Vec<Vec<Span>> {
    let mut frames: Vec<Vec<Span>> = Vec::new();
    let mut len = usize::MAX;
    for span in way {
        let full = frames.last().is_none_or(|frame| frame.len() >= FRAME_SPANS) || len >= FRAME_LEN;
        if full || len + span.size() > 2 * FRAME_LEN {
            if frames.len() == FRAMES_MAX {
                break;
            }
            frames.push(Vec::new());
            len = 0;
        }
        len += span.size();
        if let Some(frame) = frames.last_mut() {
            frame.push((*span).clone());
        }
    }
    frames
}
